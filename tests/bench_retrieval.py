"""Measure the null, the no-answer rule and quantised storage on the public sets.

    python tests/bench_retrieval.py null|no_answer|storage|hybrid [--data ../shared/data] [--output data/results/NAME.json]

Models are closed forms fitted on each set's training split over the default base; cranfield has none and takes the model of squad-small. Of medquad 5,000 documents are used."""
import argparse
import json
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from ragcun.abstain import auroc, nauc
from ragcun.cache import cached_features
from ragcun.closed_form import fit_closed_form
from ragcun.core import iter_jsonl, write_json
from ragcun.data import PairSet, load_pairs, load_retrieval
from ragcun.metrics import evaluate_vectors, paired_test
from ragcun.model import GaussianEncoder
from ragcun.null import _evidence_matrix, answer_limit, document_vector, e_value, fit_null, query_vector, theoretical_null
from ragcun.quantize import Quantizer, allot_bits, fit_quantizer

SETS = ("squad-small", "nfcorpus-pre", "medquad", "cranfield")
LIMIT = {"medquad": 5000}


def commit():
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()


def shrink(data, corpus):
    "A collection restricted to some documents and to queries they answer."
    qrels = {q: {d: g for d, g in r.items() if d in corpus and g > 0} for q, r in data.qrels.items()}
    qrels = {q: r for q, r in qrels.items() if r}
    return replace(data, corpus=corpus, queries={q: data.queries[q] for q in qrels}, qrels=qrels)


class Bench:
    "One set: collections, the fitted model and its embeddings."
    def __init__(self, root, name, base, model=None):
        folder = Path(root)/name
        self.name, has_train = name, (folder/"qrels/train.tsv").exists()
        self.test = load_retrieval(folder, "test")
        self.dev = load_retrieval(folder, "dev") if has_train else None
        corpus = self.test.corpus
        if name in LIMIT:
            order = [d for s in (self.dev, self.test) for r in s.qrels.values() for d in r]
            rest = sorted(corpus)
            np.random.default_rng(0).shuffle(rest)
            keep = set(list(dict.fromkeys(order + rest))[:LIMIT[name]])
            corpus = {d: t for d, t in corpus.items() if d in keep}
        self.test = shrink(self.test, corpus)
        if has_train:
            self.dev = shrink(self.dev, corpus)
            pairs = load_pairs(folder, "train")
            texts = set(corpus.values())
            pairs = PairSet([p for p in pairs if p.positive in texts], name)
            self.pairs, self.model = len(pairs), fit_closed_form(base, pairs, self.dev)
        else: self.pairs, self.model = 0, model
        self.rho, self.c = self.model.rho_numpy, self.model.calibration
        self.ids, texts = list(corpus), list(corpus.values())
        self.h = cached_features(base, texts)
        self.z = self.model.project(self.h).astype(float)
        self.base = base

    def questions(self, data, limit=None):
        "Features, embeddings and a mask [n, documents] of what answers them."
        names = [q for q in data.qrels][:limit]
        h = cached_features(self.base, [data.queries[q] for q in names], "query")
        place = {d: i for i, d in enumerate(self.ids)}
        mask = np.zeros((len(names), len(self.ids)), bool)
        for i, q in enumerate(names): mask[i, [place[d] for d in data.qrels[q]]] = True
        return h, self.model.project(h).astype(float), mask

    def describe(self):
        form = self.model.extra.get("closed_form", {})
        return {"documents": len(self.ids), "pairs": self.pairs, "s": form.get("s"), "a": round(self.c.a, 3), "tau": round(self.c.tau, 4), "information": round(float(self.model.information.sum()), 1)}


def benches(root):
    base = GaussianEncoder.from_base(device="cpu")
    first = None
    for name in SETS:
        b = Bench(root, name, base, first.model if first else None)
        first = first or b
        yield b


def chunks(z, mask, step=100):
    for i in range(0, len(z), step): yield z[i:i + step], mask[i:i + step]


def calibration(null, b, z, mask):
    "KS distance and tail ratios of p-values of unrelated pairs."
    log_p = np.concatenate([null.log_p(_evidence_matrix(q, b.z, b.rho), q)[~m] for q, m in chunks(z, mask)])
    p = np.sort(np.exp(log_p))
    n = len(p)
    ks = max(np.max(np.arange(1, n + 1) / n - p), np.max(p - np.arange(n) / n))
    return {"pairs": n, "ks": round(float(ks), 4), "tail": {f"{a:g}": round(float(np.searchsorted(p, a, "right") / n / a), 3) for a in (.1, .01, 1e-3, 1e-4, 1e-5)}}


def rows_of(mask): return [np.flatnonzero(m).tolist() for m in mask]


def nulls(b):
    "The null without questions, and with dev questions where there are any."
    out = {"theoretical": theoretical_null(b.rho), "stand-ins": fit_null(b.z, b.rho)}
    if b.dev is not None:
        _, z, mask = b.questions(b.dev, 250)
        out["questions"] = fit_null(b.z, b.rho, z, rows_of(mask))
    return out


def run_null(root):
    out = {}
    for b in benches(root):
        _, z, mask = b.questions(b.test, 300)
        out[b.name] = b.describe() | {k: calibration(n, b, z, mask) for k, n in nulls(b).items()}
        print(b.name, json.dumps(out[b.name]), flush=True)
    return out


def gap(x):
    top = np.partition(x, x.shape[1] - 2, axis=1)
    return top[:, -1] - top[:, -2]


def signals(b, null, h, z, hide=None):
    "Answerability scores of each question, larger is more answerable; `hide` removes documents."
    cos = h @ b.h.T
    raw = np.concatenate([_evidence_matrix(q, b.z, b.rho) for q, _ in chunks(z, z)])
    if hide is not None: cos, raw = np.where(hide, -1., cos), np.where(hide, -np.inf, raw)
    best = np.array([null.log_p(r.max()[None, None], q[None])[0, 0] for r, q in zip(raw, z, strict=True)])
    ev = b.c.a + b.c.tau * raw
    top = np.sort(np.where(np.isfinite(ev), ev, -1e9), axis=1)[:, ::-1]
    lse = np.log(np.exp(top - top[:, :1]).sum(1)) + top[:, 0]
    return {"max_cosine": cos.max(1), "cosine_gap": gap(cos), "max_evidence": raw.max(1), "p_value": -best, "log_sum": lse, "evidence_minus_log_p": top[:, 0] - best, "half_evidence_minus_log_p": .5 * top[:, 0] - best, "log_p": best}


def train_mixture(yes, no):
    "Logistic mixture of the signals, fitted on dev questions, against the same without their positives and questions of a third domain."
    from scipy.optimize import minimize
    keys = ("p_value", "max_evidence", "log_sum", "cosine_gap", "max_cosine")
    x = np.stack([np.r_[yes[k], no[k]] for k in keys], 1)
    mean, sd = x.mean(0), x.std(0) + 1e-9
    x, y = (x - mean) / sd, np.r_[np.ones(len(yes["p_value"])), np.zeros(len(no["p_value"]))]
    w = minimize(lambda w: np.logaddexp(0, np.where(y > 0, -1, 1) * (x @ w[:-1] + w[-1])).mean() + 1e-3 * (w @ w), np.zeros(len(keys) + 1)).x
    return lambda s: (np.stack([s[k] for k in keys], 1) - mean) / sd @ w[:-1]


def compare(yes, no, mixture, quality):
    "AUROC and nAUC of every signal; quality is NDCG@10 of the questions with an answer, 0 for the others."
    pairs = {k: (yes[k], no[k]) for k in yes if k != "log_p"}
    if mixture: pairs["mixture"] = (mixture(yes), mixture(no))
    has = np.r_[np.ones(len(quality)), np.zeros(len(no["p_value"]))]
    good = np.r_[quality, np.zeros(len(no["p_value"]))]
    return {k: {"auroc": round(auroc(np.r_[a, b], has), 4), "nauc": round(nauc(np.r_[a, b], good), 4)} for k, (a, b) in pairs.items()}


def binomial(k, n):
    from scipy.stats import beta
    return [round(float(beta.ppf(.025, k, n - k + 1)) if k else 0., 4), round(float(beta.ppf(.975, k + 1, n - k)) if k < n else 1., 4)]


def rates(best_dev, best_test):
    "Realised false-answer rates at limits set on dev questions."
    out = {}
    for alpha in (.01, .05, .1):
        limit = answer_limit(best_dev, alpha)
        k, n = int((best_test <= limit).sum()), len(best_test)
        low, high = binomial(k, n)
        out[f"{alpha:g}"] = {"limit": limit, "false": k, "n": n, "rate": round(k / n, 4), "interval": [low, high], "meets": bool(low <= 1.5 * alpha and high >= alpha / 1.5)}
    return out


def run_no_answer(root):
    out, limits, loaded = {}, {}, list(benches(root))
    everyone = {b.name: b.questions(b.test, 500) for b in loaded}
    for b in loaded:
        null = nulls(b).get("questions") or nulls(b)["stand-ins"]
        h, z, mask = everyone[b.name]
        yes = signals(b, null, h, z)
        no = {"positives_removed": signals(b, null, h, z, mask)}
        others = [o for o in loaded if o.name != b.name]
        other, third = others[0], others[-1]
        hh = everyone[other.name][0]
        no["other_domain"] = signals(b, null, hh, b.model.project(hh).astype(float))
        path = Path(root)/b.name/"queries_unanswerable.jsonl.gz"
        if path.exists():
            hu = cached_features(b.base, [r["text"] for _, r in iter_jsonl(path)], "query")
            no["unanswerable"] = signals(b, null, hu, b.model.project(hu).astype(float))
        mixture, row = None, b.describe()
        if b.dev is not None:
            hd, zd, md = b.questions(b.dev)
            dev = signals(b, null, hd[250:], zd[250:], md[250:])
            ht = everyone[third.name][0][:250]
            far = signals(b, null, ht, b.model.project(ht).astype(float))
            mixture = train_mixture(signals(b, null, hd[250:], zd[250:]), {k: np.r_[dev[k], far[k]] for k in dev})
            n = len(b.ids)
            row["false_answer_rates"] = rates(e_value(dev["log_p"], n), e_value(no["positives_removed"]["log_p"], n))
            limits[b.name] = answer_limit(e_value(dev["log_p"], n), .1)
        u, v = query_vector(z, b.rho).astype(np.float32), document_vector(b.z, b.rho).astype(np.float32)
        names = list(b.test.qrels)[:500]
        part = replace(b.test, queries={q: b.test.queries[q] for q in names}, qrels={q: b.test.qrels[q] for q in names})
        quality = evaluate_vectors(u, v, part, "l2", 10)["ndcg@10"]
        row["signals"] = {k: compare(yes, w, mixture, quality) for k, w in no.items()}
        out[b.name] = row
        b.unanswered = e_value(no["positives_removed"]["log_p"], len(b.ids))
        print(b.name, json.dumps(row), flush=True)
    out["carried_limit"] = {source: {b.name: round(float((b.unanswered <= limit).mean()), 4) for b in loaded} for source, limit in limits.items()}
    out["mean"] = {}
    for kind in ("positives_removed", "other_domain", "unanswerable", "all"):
        cells = [c for row in out.values() if "signals" in row for k, c in row["signals"].items() if kind in (k, "all")]
        out["mean"][kind] = {s: {m: round(float(np.mean([c[s][m] for c in cells if s in c])), 4) for m in ("auroc", "nauc")} for s in cells[0]}
    return out


def int_codes(x, bits):
    "Min-max integer codes per coordinate, as usual for base embeddings."
    low, high = x.min(0), x.max(0)
    step = (high - low) / (2 ** bits - 1)
    return np.round((x - low) / step) * step + low if bits > 1 else np.where(x > (low + high) / 2, high, low)


def product_codes(x, bits, dim):
    "faiss product quantisation trained on the corpus, at the same bytes."
    import faiss
    m = dim * bits // 8
    pq = faiss.ProductQuantizer(dim, m, 8)
    pq.cp.niter = 8
    pq.train(np.ascontiguousarray(x, np.float32))
    return pq.decode(pq.compute_codes(np.ascontiguousarray(x, np.float32)))


def run_storage(root):
    out = {}
    for b in benches(root):
        h, z, _ = b.questions(b.test)
        u = query_vector(z, b.rho).astype(np.float32)
        score = lambda x, u=u, b=b: evaluate_vectors(u, document_vector(x, b.rho).astype(np.float32), b.test, "l2", 10)["ndcg@10"]
        cosine = lambda x, h=h, b=b: evaluate_vectors(h, x.astype(np.float32), b.test, "ip", 10)["ndcg@10"]
        full, base = score(b.z), cosine(b.h)
        row = b.describe() | {"ndcg@10": round(float(full.mean()), 4), "base ndcg@10": round(float(base.mean()), 4), "kept": {}}
        d = b.z.shape[1]
        for bits in (8, 4, 2, 1):
            q = Quantizer(bits, d)
            x = q.decode(q.encode(b.z))
            kept = {"error per coordinate": round(float(np.mean((x - b.z) ** 2)), 5), "fixed table": score(x).mean() / full.mean()}
            sample = b.z[np.random.default_rng(0).permutation(len(b.z))[:1000]]
            coders = {"fixed table, bits by rho": Quantizer(allot_bits(b.rho, bits), d), "table moved to the corpus": Quantizer(bits, d, sample.mean(0), sample.std(0)),
                      "moved, bits by rho": fit_quantizer(sample, b.rho, bits)}
            for name, q in coders.items(): kept[name] = score(q.decode(q.encode(b.z))).mean() / full.mean()
            kept["base, min-max codes"] = cosine(int_codes(b.h, bits)).mean() / base.mean()
            if b.name == SETS[0] and bits < 4: kept["base, faiss PQ"] = cosine(product_codes(b.h, bits, d)).mean() / base.mean()
            row["kept"][str(bits)] = {k: round(float(v), 5) for k, v in kept.items()}
        out[b.name] = row
        print(b.name, json.dumps(row), flush=True)
    names = list(row["kept"]["2"])
    out["mean kept"] = {bits: {k: round(float(np.mean([r["kept"][bits][k] for r in out.values() if k in r["kept"][bits]])), 5) for k in names if k in row["kept"][bits]}
                        for bits in row["kept"]}
    return out


def gain_at_10(ids, grades):
    g = np.array([grades.get(i, 0) for i in ids[:10]], float)
    best = np.array(sorted(grades.values(), reverse=True)[:10], float)
    return float((g / np.log2(np.arange(2, len(g) + 2))).sum() / (best / np.log2(np.arange(2, len(best) + 2))).sum())


def run_hybrid(root):
    from ragcun.hybrid import HybridRetriever, fit_sum, reciprocal_rank_fusion
    from ragcun.retrieve import GaussianRetriever
    out = {}
    for b in benches(root):
        if b.dev is None: continue
        index = GaussianRetriever(b.model)
        index.add_vectors([{"id": i, "text": t} for i, t in b.test.corpus.items()], b.z)
        both, x, y = HybridRetriever(index), [], []
        _, z, _ = b.questions(b.dev, 250)
        for q, one in zip(b.dev.qrels, z, strict=False):
            found, features, _ = both._candidates(b.dev.queries[q], one)
            x.append(features)
            y += [f.id in b.dev.qrels[q] for f in found]
        both.weights = fit_sum(np.concatenate(x), np.array(y))
        scores = {k: [] for k in ("evidence", "BM25", "reciprocal ranks", "sum of evidence")}
        _, z, _ = b.questions(b.test, 500)
        for q, one in zip(b.test.qrels, z, strict=False):
            found, features, rankings = both._candidates(b.test.queries[q], one)
            fused, total = reciprocal_rank_fusion(rankings), features @ both.weights[:-1]
            ranked = {"evidence": rankings[0], "BM25": rankings[1], "reciprocal ranks": sorted(fused, key=fused.get, reverse=True),
                      "sum of evidence": [found[i].id for i in np.argsort(-total, kind="stable")]}
            for k, ids in ranked.items(): scores[k].append(gain_at_10(ids, b.test.qrels[q]))
        d = paired_test(np.array(scores["sum of evidence"]), np.array(scores["reciprocal ranks"]))
        out[b.name] = {"weights": [round(float(w), 4) for w in both.weights], "ndcg@10": {k: round(float(np.mean(v)), 4) for k, v in scores.items()},
                       "sum minus reciprocal ranks": {"mean": round(d.mean, 4), "low": round(d.low, 4), "high": round(d.high, 4), "p": round(d.p, 4), "n": d.n}}
        print(b.name, json.dumps(out[b.name]), flush=True)
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["null", "no_answer", "storage", "hybrid"])
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--output")
    args = parser.parse_args()
    start = time.time()
    names = {"null": "null_calibration", "no_answer": "no_answer", "storage": "storage", "hybrid": "hybrid"}
    result = {"null": run_null, "no_answer": run_no_answer, "storage": run_storage, "hybrid": run_hybrid}[args.what](args.data)
    write_json(args.output or f"data/results/{names[args.what]}.json",
               {"command": f"python tests/bench_retrieval.py {args.what}", "commit": commit(), "seconds": round(time.time() - start), "base": "all-MiniLM-L6-v2, closed form, seed 0", "sets": result})

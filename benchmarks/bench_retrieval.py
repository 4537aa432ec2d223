"""Measure the null, the no-answer rule and quantised storage on the public sets.

    python benchmarks/bench_retrieval.py null|no_answer|storage [--data ../shared/data] [--output
        data/results/NAME.json]

Models are fitted on each set's training split over the default base: closed forms, and for no_answer what `fit`
keeps with a frozen base; cranfield has no such split and takes the model of squad-small. Of medquad, null
use 5,000 documents. "demo" is the documentation strings of the installed Python packages."""
import argparse
import json
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from ragcun.cli.demonstration import DemoConfig, demo_data
from ragcun.core import iter_jsonl, write_json
from ragcun.data.pairs import PairSet, load_pairs, load_retrieval
from ragcun.evaluation.abstention import auroc, nauc
from ragcun.measures.ranking import evaluate_vectors
from ragcun.models.cache import cached_features
from ragcun.models.encoder import GaussianEncoder
from ragcun.models.evidence import document_vector, query_vector
from ragcun.retrieval.null import _evidence_matrix, answer_limit, fit_null, theoretical_null
from ragcun.retrieval.quantization import Quantizer, RotatedQuantizer, allot_bits, fit_quantizer
from ragcun.retrieval.retriever import MADE, GaussianRetriever
from ragcun.training.closed_form import fit_closed_form
from ragcun.training.config import TrainConfig
from ragcun.training.run import fit

SETS = ("squad-small", "nfcorpus-pre", "medquad", "demo", "cranfield")
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
    def __init__(self, root, name, base, model=None, limits=LIMIT, steps=False):
        self.name = name
        train, self.dev, self.test = collection(Path(root), name)
        corpus = self.test.corpus
        if name in limits:
            order = [d for s in (self.dev, self.test) for r in s.qrels.values() for d in r]
            rest = sorted(corpus)
            np.random.default_rng(0).shuffle(rest)
            keep = set(list(dict.fromkeys(order + rest))[:limits[name]])
            corpus = {d: t for d, t in corpus.items() if d in keep}
        self.test = shrink(self.test, corpus)
        if train is not None:
            self.dev = shrink(self.dev, corpus)
            texts = set(corpus.values())
            pairs = train if name == "demo" else PairSet([p for p in train if p.positive in texts], name)
            self.pairs = len(pairs)
            self.model = (fit(base, pairs, self.dev, TrainConfig(freeze_base=True, seed=0)).model if steps
                          else fit_closed_form(base, pairs, self.dev))
        else:
            self.pairs = 0
            self.model = model
        self.model.cached = True
        self.rho = self.model.rho_numpy
        self.c = self.model.calibration
        self.ids = list(corpus)
        texts = list(corpus.values())
        self.h = cached_features(base, texts)
        self.z = self.model.project(self.h, "document").astype(float)
        self.base = base

    def questions(self, data, limit=None):
        "Features, embeddings and a mask [n, documents] of what answers them."
        names = [q for q in data.qrels][:limit]
        h = cached_features(self.base, [data.queries[q] for q in names], "query")
        place = {d: i for i, d in enumerate(self.ids)}
        mask = np.zeros((len(names), len(self.ids)), bool)
        for i, q in enumerate(names):
            mask[i, [place[d] for d in data.qrels[q]]] = True
        return h, self.model.project(h, "query").astype(float), mask

    def describe(self):
        form = self.model.extra.get("closed_form", {})
        return {"documents": len(self.ids), "pairs": self.pairs, "s": form.get("s"),
                "kept": self.model.extra.get("kept", "closed form"), "a": round(self.c.a, 3),
                "tau": round(self.c.tau, 4), "information": round(float(self.model.information.sum()), 1)}


def collection(root, name):
    "Training pairs, dev and test data; None where there are none."
    if name == "demo":
        data = demo_data(DemoConfig())
        return data.train, data.val, data.test
    test = load_retrieval(root/name, "test")
    if not (root/name/"qrels/train.tsv").exists(): return None, None, test
    return load_pairs(root/name, "train"), load_retrieval(root/name, "dev"), test


def benches(root, limits=LIMIT, sets=SETS, steps=False):
    base = GaussianEncoder.from_base(device="cpu")
    base.cached, first = True, None
    for name in sets:
        b = Bench(root, name, base, first.model if first else None, limits, steps)
        first = first or b
        yield b


def chunks(z, mask, step=100):
    for i in range(0, len(z), step):
        yield z[i:i + step], mask[i:i + step]


def calibration(null, b, z, mask):
    "KS distance and tail ratios of p-values of unrelated pairs."
    log_p = np.concatenate([null.log_p(_evidence_matrix(q, b.z, b.rho), q)[~m] for q, m in chunks(z, mask)])
    p = np.sort(np.exp(log_p))
    n = len(p)
    ks = max(np.max(np.arange(1, n + 1) / n - p), np.max(p - np.arange(n) / n))
    return {"pairs": n, "ks": round(float(ks), 4),
            "tail": {f"{a:g}": round(float(np.searchsorted(p, a, "right") / n / a), 3)
                     for a in (.1, .01, 1e-3, 1e-4, 1e-5)}}


def rows_of(mask):
    return [np.flatnonzero(m).tolist() for m in mask]


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


def cosines(b, h, hide=None):
    "Largest cosine of the base, and its distance to the second; `hide` removes documents."
    c = h @ b.h.T
    if hide is not None:
        c[hide] = -1.
    top = np.partition(c, c.shape[1] - 2, axis=1)
    return {"max_cosine": top[:, -1], "cosine_gap": top[:, -1] - top[:, -2]}


def evidences(b, null, z, hide=None):
    "Largest evidence and smallest log p-value of each question."
    raw = np.concatenate([_evidence_matrix(q, b.z, b.rho) for q, _ in chunks(z, z)])
    if hide is not None:
        raw[hide] = -np.inf
    best = np.array([null.log_p(r.max()[None, None], q[None])[0, 0] for r, q in zip(raw, z, strict=True)])
    return {"max_evidence": raw.max(1), "p_value": -best}


def binomial(k, n):
    from scipy.stats import beta
    return [round(float(beta.ppf(.025, k, n - k + 1)) if k else 0., 4),
            round(float(beta.ppf(.975, k + 1, n - k)) if k < n else 1., 4)]


def rates(chosen, without, with_answer):
    """Realised false-answer rates at limits set on dev questions, and the share of answerable questions that is
    answered. Smaller values answer."""
    out = {}
    for alpha in (.01, .05, .1):
        limit = answer_limit(chosen, alpha)
        k = int((without <= limit).sum())
        n = len(without)
        low, high = binomial(k, n)
        out[f"{alpha:g}"] = {"limit": limit, "false": k, "n": n, "rate": round(k / n, 4),
                             "interval": [low, high], "meets": bool(low <= 1.5 * alpha and high >= alpha / 1.5),
                             "answered": round(float((with_answer <= limit).mean()), 4)}
    return out


class Asked:
    "An index of one set, its questions, and everything that may tell whether they have an answer."
    def __init__(self, b):
        self.b = b
        self.index = GaussianRetriever(b.model)
        self.null = fit_null(b.z, b.rho)
        self.index.add_vectors([{"id": i, "text": t} for i, t in b.test.corpus.items()], b.z)
        if b.dev is not None:
            self.questions, self.relevant = self.texts(b.dev)
            self.index.calibrate(self.questions, self.relevant, alpha=.1)
            self.null = self.index.null
        else:
            self.index.rule = self.plain_rule()

    def texts(self, data, limit=None):
        names = list(data.qrels)[:limit]
        return [data.queries[q] for q in names], [list(data.qrels[q]) for q in names]

    def plain_rule(self):
        "For a corpus without questions: words count 1, and the question's norm does not."
        from ragcun.retrieval.no_answer import usual_rule
        return usual_rule(*self.index._word_sample())

    def signals(self, texts, relevant=None):
        "Scores, larger where an answer is likelier; `relevant` documents are left out."
        b = self.b
        place = {d: i for i, d in enumerate(self.b.ids)}
        h = cached_features(b.base, texts, "query")
        hide = np.zeros((len(texts), len(b.ids)), bool) if relevant is not None else None
        for i, r in enumerate(relevant or []):
            hide[i, [place[d] for d in r]] = True
        out = cosines(b, h, hide) | evidences(b, self.null, b.model.project(h, "query").astype(float), hide)
        return out | self.joint(texts, relevant) | {
            "rule": -np.log(np.maximum(self.index.answer_values(texts, relevant), 1e-300))}

    def joint(self, texts, relevant):
        "Joint evidence of the best hit, its lead over the nine that follow, and how unlikely it is by chance."
        gone = relevant if relevant is not None else [()] * len(texts)
        rows = self.index._without(texts, gone, self.index.encode_queries(texts))
        top = [np.array([h.evidence for h in row]) for row in rows]
        return {"joint": np.array([e[0] for e in top]),
                "joint_gap": np.array([e[0] + .5 * (e[0] - e[1:].mean()) for e in top]),
                "joint_p": np.array([-np.log(max(row[0].p_value, 1e-300)) for row in rows])}


def compare(yes, no, quality):
    "AUROC and nAUC of every signal; quality is NDCG@10 of the questions with an answer, 0 for the others."
    has = np.r_[np.ones(len(quality)), np.zeros(len(no["rule"]))]
    good = np.r_[quality, np.zeros(len(no["rule"]))]
    return {k: {"auroc": round(auroc(np.r_[yes[k], no[k]], has), 4), "nauc": round(nauc(np.r_[yes[k], no[k]], good), 4)}
            for k in yes}


def quality_of(b, limit):
    names = list(b.test.qrels)[:limit]
    part = replace(b.test, queries={q: b.test.queries[q] for q in names}, qrels={q: b.test.qrels[q] for q in names})
    z = b.model.project(cached_features(b.base, list(part.queries.values()), "query"), "query").astype(float)
    return evaluate_vectors(query_vector(z, b.rho).astype(np.float32), document_vector(b.z, b.rho).astype(np.float32),
                            part, "l2", 10)["ndcg@10"]


def judge(a, foreign, root):
    "One set's row."
    b = a.b
    texts, relevant = a.texts(b.test, 500)
    yes = a.signals(texts)
    no = {"positives_removed": a.signals(texts, relevant), "other_domain": a.signals(foreign)}
    path = Path(root)/b.name/"queries_unanswerable.jsonl.gz"
    if path.exists():
        no["unanswerable"] = a.signals([r["text"] for _, r in iter_jsonl(path)])
    row = b.describe() | {"words count": a.index.rule.share}
    if b.dev is not None:
        half = len(a.questions) // 2
        chosen = a.signals(a.questions[half:], a.relevant[half:])
        for name, k in (("false_answer_rates", "rule"), ("rates by E-value", "p_value"),
                        ("rates by cosine", "max_cosine")):
            row[name] = rates(np.exp(-chosen[k]), np.exp(-no["positives_removed"][k]), np.exp(-yes[k]))
            if "unanswerable" in no:
                row[f"adversarial, {name}"] = rates(np.exp(-chosen[k]), np.exp(-no["unanswerable"][k]), np.exp(-yes[k]))
    quality = quality_of(b, 500)
    return row | {"signals": {k: compare(yes, w, quality) for k, w in no.items()}}


def best_log_p(null, z, b, keep, hide):
    "Smallest log p-value of each question among some documents, without those that are hidden."
    out = []
    place = {d: i for i, d in enumerate(keep)}
    for i in range(0, len(z), 100):
        raw = _evidence_matrix(z[i:i + 100], b.z[keep], b.rho)
        for row, gone in zip(raw, hide[i:i + 100], strict=True):
            row[[place[d] for d in gone if d in place]] = -np.inf
        out.append(null.log_p(raw.max(1)[:, None], z[i:i + 100])[:, 0])
    return np.concatenate(out)


def made_questions(b, keep):
    "Embeddings of questions made from some of the documents, and the row of each one's own."
    from ragcun.data.documents import Document
    from ragcun.data.generation import generate_pairs
    texts = list(b.test.corpus.values())
    place = {d: i for i, d in enumerate(b.ids)}
    some = np.random.default_rng(0).choice(keep, min(len(keep), MADE), replace=False)
    pairs = generate_pairs([Document(texts[i], document_id=b.ids[i]) for i in np.sort(some)], "mix", seed=0)
    return (b.model.project(cached_features(b.base, pairs.queries, "query"), "query").astype(float),
            [[place[p.document_id]] for p in pairs])


def unanswered(b, keep):
    """Scores of questions whose answers are left out, in a corpus of the documents `keep`, with what an index knows
    without questions."""
    rng = np.random.default_rng(0)
    n = len(keep)
    null = fit_null(b.z[rng.permutation(keep)[:3000]], b.rho)
    own = rng.choice(keep, min(n, 500), replace=False)
    drawn = b.rho * b.z[own] + np.sqrt(1 - b.rho ** 2) * rng.standard_normal((len(own), len(b.rho)))
    typical = np.median(best_log_p(null, drawn, b, keep, [[d] for d in own]))
    z, own = made_questions(b, keep)
    null = replace(null, made=np.sort(best_log_p(null, z, b, keep, own)))
    out = {}
    for split, data in (("dev", b.dev), ("test", b.test)):
        if data is None: continue
        h, z, mask = b.questions(data)
        hide = [np.flatnonzero(m) for m in mask]
        cosine = h @ b.h[keep].T
        cosine[mask[:, keep]] = -1.
        log_p = best_log_p(null, z, b, keep, hide)
        out[split] = {"E-value": log_p + np.log(n), "synthetic questions": null.chance(log_p),
                      "E-value against stand-ins": log_p - typical, "cosine": -cosine.max(1)}
        out[split]["with an answer"] = null.chance(best_log_p(null, z, b, keep, [[]] * len(z)))
    return out


def carry(loaded, alpha=.1):
    """False-answer rates with a limit that was set on dev questions of another corpus, or of a tenth of the corpus.
    All limits ask for alpha."""
    whole = {b.name: unanswered(b, np.arange(len(b.ids))) for b in loaded}
    tenth = {b.name: unanswered(b,
                                np.sort(np.random.default_rng(3).choice(len(b.ids), len(b.ids) // 10, replace=False)))
             for b in loaded if b.dev is not None}
    def rate(source, target, k):
        return round(float((target["test"][k] <= np.quantile(source["dev"][k], alpha)).mean()), 4)
    ways = [k for k in whole[SETS[0]]["test"] if k != "with an answer"]
    alone = {name: {f"{a:g}": {k: round(float((w["test"][k] <= a).mean()), 4)
                               for k in ("synthetic questions", "with an answer")} for a in (.01, .05, .1, .2)}
             for name, w in whole.items()}
    return {"alpha": alpha, "limits from synthetic questions": alone,
            "corpora": {k: {a: {b: rate(whole[a], whole[b], k) for b in whole} for a in tenth} for k in ways},
            "ten times the size": {k: {a: rate(tenth[a], whole[a], k) for a in tenth} for k in ways}}


def run_no_answer(root):
    loaded = list(benches(root, {}, steps=True))
    asked = {b.name: list(b.test.queries[q] for q in list(b.test.qrels)[:125]) for b in loaded}
    out = {}
    for b in loaded:
        foreign = [q for name, qs in asked.items() if name != b.name for q in qs]
        out[b.name] = judge(Asked(b), foreign, root)
        print(b.name, json.dumps(out[b.name]), flush=True)
    out["carried"] = carry(loaded)
    print(json.dumps(out["carried"]), flush=True)
    out["mean"] = {}
    for kind in ("positives_removed", "other_domain", "unanswerable", "all"):
        cells = [c for row in out.values() if "signals" in row for k, c in row["signals"].items() if kind in (k, "all")]
        out["mean"][kind] = {s: {m: round(float(np.mean([c[s][m] for c in cells])), 4) for m in ("auroc", "nauc")}
                             for s in cells[0]}
    print(json.dumps(out["mean"]), flush=True)
    return out


def int_codes(x, bits):
    "Min-max integer codes per coordinate, as usual for base embeddings."
    low = x.min(0)
    high = x.max(0)
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


def rabitq_ndcg(b, u, v):
    """NDCG@10 of faiss RaBitQ with one bit: centred on the corpus, rotated, signs, and 8 bytes of factors a vector;
    the query in full precision."""
    import faiss
    d = v.shape[1]
    turn = faiss.RandomRotationMatrix(d, d)
    index = faiss.IndexRaBitQ(d, faiss.METRIC_L2)
    turn.init(0)
    index.qb = 0
    y = turn.apply(np.ascontiguousarray(v, np.float32))
    index.train(y)
    index.add(y)
    _, ids = index.search(turn.apply(np.ascontiguousarray(u, np.float32)), 10)
    return np.mean([gain_at_10([b.ids[i] for i in row], b.test.qrels[q])
                    for row, q in zip(ids, b.test.qrels, strict=True)])


def storage_row(b):
    "Share of NDCG@10 kept by every way at every width."
    h, z, _ = b.questions(b.test)
    u = query_vector(z, b.rho).astype(np.float32)
    def score(v):
        return evaluate_vectors(u, np.asarray(v, np.float32), b.test, "l2", 10)["ndcg@10"].mean()
    def cosine(x):
        return evaluate_vectors(h, np.asarray(x, np.float32), b.test, "ip", 10)["ndcg@10"].mean()
    v = document_vector(b.z, b.rho)
    d = b.z.shape[1]
    sample = b.z[np.random.default_rng(0).permutation(len(b.z))[:1000]]
    full = score(v)
    base = cosine(b.h)
    row = b.describe() | {"ndcg@10": round(float(full), 4), "base ndcg@10": round(float(base), 4), "kept": {}}
    for bits in (8, 4, 2, 1):
        x = (q := Quantizer(bits, d)).decode(q.encode(b.z))
        kept = {"error per coordinate": np.mean((x - b.z) ** 2)}
        coders = {"fixed table, rotated": RotatedQuantizer(b.rho, bits), "fixed table": q,
                  "fixed table, bits by rho": Quantizer(allot_bits(b.rho, bits), d),
                  "table moved to the corpus": Quantizer(bits, d, sample.mean(0), sample.std(0)),
                  "moved, bits by rho": fit_quantizer(sample, b.rho, bits)}
        for name, c in coders.items():
            kept[name] = score(document_vector(c.decode(c.encode(b.z)), b.rho)) / full
        kept["base, min-max codes"] = cosine(int_codes(b.h, bits)) / base
        if bits < 4:
            kept["base, faiss PQ"] = cosine(product_codes(b.h, bits, d)) / base
            kept["v, faiss PQ"] = score(product_codes(v, bits, d)) / full
        if bits == 1:
            kept["v, faiss RaBitQ"] = rabitq_ndcg(b, u, v) / full
        row["kept"][str(bits)] = {k: round(float(v), 5) for k, v in kept.items()}
    return row


def run_storage(root):
    out = {}
    for b in benches(root, {}):
        out[b.name] = storage_row(b)
        print(b.name, json.dumps(out[b.name]), flush=True)
    def mean(rows):
        return {bits: {k: round(float(np.mean([r["kept"][bits][k] for r in rows])), 5) for k in rows[0]["kept"][bits]}
                for bits in rows[0]["kept"]}
    own = [r for r in out.values() if r["pairs"]]
    return out | {"mean kept": mean(list(out.values())), "mean kept, own model": mean(own)}


def gain_at_10(ids, grades):
    g = np.array([grades.get(i, 0) for i in ids[:10]], float)
    best = np.array(sorted(grades.values(), reverse=True)[:10], float)
    return float((g / np.log2(np.arange(2, len(g) + 2))).sum() / (best / np.log2(np.arange(2, len(best) + 2))).sum())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["null", "no_answer", "storage"])
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--output")
    args = parser.parse_args()
    start = time.time()
    names = {"null": "null_calibration", "no_answer": "no_answer", "storage": "storage"}
    result = {"null": run_null, "no_answer": run_no_answer, "storage": run_storage}[args.what](args.data)
    write_json(args.output or f"data/results/{names[args.what]}.json",
               {"command": f"python benchmarks/bench_retrieval.py {args.what}", "commit": commit(),
                "seconds": round(time.time() - start), "base": "all-MiniLM-L6-v2, closed form, seed 0", "sets": result})

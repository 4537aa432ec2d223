"""What a fit on documents alone is worth for the questions that people ask.

    python benchmarks/bench_documents_only.py [COLLECTION …] [--again]
    python benchmarks/bench_documents_only.py --product [COLLECTION …]   # what `ragcun index --fit` does
    python benchmarks/bench_documents_only.py --limits [COLLECTION …]    # what a limit from synthetic questions does

Synthetic questions are made from the documents of a collection, heads are fitted on them in closed form, and each
head is judged with the collection's real questions, alone and inside the joint search. No judged question takes part
in a fit. The recipe that a collection is judged with is the one that is best on the others.
"""
from __future__ import annotations

import argparse
import json
import os
import random
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ragcun import GaussianEncoder, load_retrieval
from ragcun.core import setup_logging
from ragcun.data.documents import Document, sentences
from ragcun.data.generation import make_pair
from ragcun.measures.paired import paired_test
from ragcun.measures.ranking import ranking_metrics
from ragcun.models.cache import cached_features
from ragcun.models.evidence import evidence
from ragcun.retrieval.adaptation import opening
from ragcun.retrieval.hits import iter_entries
from ragcun.retrieval.joint import PRIOR, Background
from ragcun.retrieval.words import Question, Tokenizer, WordCounts
from ragcun.training.closed_form import Head, Moments, solve

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("RAGCUN_SHARED_DATA", ROOT.parent/"shared"/"data"))
COLLECTIONS = ["cacm", "cranfield", "med", "nfcorpus-pre", "squad-small", "medquad"]
QUESTIONS = 600   # judged questions of a collection, at most
DOCUMENTS = 400   # documents that questions are made from, at most
ASKED = 400       # judged questions that the command's own search is asked
LONG = 250        # of these, documents that are encoded again without their question
SHRINKAGES = (.6, .8, .9, .95, .98)
FORMS = {"one": None, "two": .25, "alike": .75}    # one map, or a map for each side and what they have in common
BASE = Head(np.eye(1), np.zeros(1), np.zeros(1), 1.)


@dataclass
class World:
    "A collection: documents with features and words, judged questions."
    name: str
    model: Any   # for documents and judged questions
    fast: Any    # for synthetic texts, in bfloat16
    part: str = ""   # a source of medquad
    entries: list = field(default_factory=list)

    def __post_init__(self) -> None:
        from ragcun.cli.flags import read_corpus
        self.entries = [e for e in iter_entries(read_corpus(str(SHARED/self.name))) if e.id.startswith(self.part)]
        self.data = load_retrieval(SHARED/self.name, "test")
        qrels = self.data.qrels
        if self.part:
            qrels = {**qrels, **load_retrieval(SHARED/self.name, "dev").qrels,
                     **load_retrieval(SHARED/self.name, "train").qrels}
        place = {e.id: i for i, e in enumerate(self.entries)}
        known = {q: {place[d]: g for d, g in r.items() if g > 0 and d in place} for q, r in qrels.items()}
        asked = [q for q, r in known.items() if r]
        asked = random.Random(0).sample(asked, min(len(asked), QUESTIONS if not self.part else 300))
        self.grades = [known[q] for q in asked]
        self.questions = [self.data.queries[q] for q in asked]

    @cached_property
    def x(self) -> np.ndarray:
        "Features of the documents as the index embeds them."
        return cached_features(self.model, [e.searched for e in self.entries])

    @cached_property
    def words(self) -> Background:
        "All documents, for their words."
        token = Tokenizer()
        words = [" ".join(token.document(e.searched, e.title or e.context)) for e in self.entries]
        return Background(self.x[:1], np.zeros(1), words)

    @cached_property
    def counts(self) -> WordCounts:
        return WordCounts().add(self.words.tokens)

    def lexical(self, question: str) -> np.ndarray:
        "Nats of the words of every document for a question."
        return self.words.lexical(Question.of(Tokenizer()(question), self.counts)) @ [PRIOR.words, PRIOR.phrases]

    @cached_property
    def real(self) -> tuple[np.ndarray, np.ndarray]:
        "Features of the judged questions, and nats of the words of every document for each."
        return (cached_features(self.model, self.questions, "query"),
                np.stack([self.lexical(q) for q in self.questions]).astype(np.float32))

    def dense(self, head: Head | None, q: np.ndarray, rows: slice = slice(None)) -> np.ndarray:
        "Standardised raw evidence of every document."
        raw = q @ self.x.T if head is None else evidence(head.project(q, "query"), head.project(self.x, "document"),
                                                         head.rho)
        return (raw - raw.mean(1, keepdims=True))/raw.std(1, keepdims=True)

    def judge(self, head: Head | None) -> dict[str, np.ndarray]:
        "NDCG@10 of the judged questions: of the vectors alone, and of the joint search."
        q, lexical = self.real
        z = self.dense(head, q)
        return {"dense": ndcg(z, self.grades), "joint": ndcg(z + lexical, self.grades)}


def ndcg(scores: np.ndarray, grades: list[dict[int, int]], k: int = 10) -> np.ndarray:
    "Graded NDCG@10, gain and discount as in trec_eval."
    discount = 1/np.log2(np.arange(2, k + 2))
    top = np.argpartition(-scores, min(k, scores.shape[1] - 1), 1)[:, :k]
    out = np.zeros(len(grades))
    for i, wanted in enumerate(grades):
        order = top[i][np.argsort(-scores[i, top[i]], kind="stable")]
        got = np.array([wanted.get(int(d), 0) for d in order])
        ideal = np.sort(list(wanted.values()))[::-1][:k]
        out[i] = got @ discount[:len(got)]/(ideal @ discount[:len(ideal)])
    return out


def without(gone: set[str], text: str, token: Tokenizer, most: int = 120) -> str:
    "The first words of a text, those in `gone` left out."
    return " ".join([w for w in text.split() if not gone & set(token(w))][:most])


def synthetic(w: World) -> dict[str, list[tuple[str, str | int, int]]]:
    "Pairs by kind: question, positive (a text, or the row of a whole document), row of the document."
    rows = random.Random(1).sample(range(len(w.entries)), min(len(w.entries), DOCUMENTS))
    token = Tokenizer()
    out: dict[str, list] = {k: [] for k in ("title", "first", "crops", "sentence", "sentences", "removed", "masked")}
    for number, row in enumerate(rows):
        e = w.entries[row]
        rng = random.Random(f"{e.id}")
        body = e.text[len(e.title):].strip() if e.title and e.text.startswith(e.title) else e.text
        if e.title: out["title"].append((e.title, row, row))
        found = [s for s in sentences(body) if 4 <= len(s.split()) <= 40]
        pair = make_pair(Document(body), "crops", rng)
        if pair: out["crops"].append((pair.query, row, row))
        if first := opening(body): out["first"].append((first, row, row))
        if len(found) < 2: continue
        picked = rng.sample(found, min(3, len(found)))
        out["sentence"].append((picked[0], row, row))
        if number > LONG: continue
        out["sentences"] += [(s, row, row) for s in picked]
        rest = " ".join(s for s in sentences(body) if s != picked[0])
        out["removed"].append((picked[0], without(set(), rest, token), row))
        out["masked"].append((picked[0], without(set(token(picked[0])), body, token), row))
    return {k: [p for p in v if not isinstance(p[1], str) or len(p[1]) > 40] for k, v in out.items() if len(v) >= 100}


@dataclass
class Pairs:
    "Features of pairs, and the row of the document of each."
    q: np.ndarray
    x: np.ndarray
    rows: np.ndarray

    def some(self, keep: np.ndarray) -> Pairs:
        return Pairs(self.q[keep], self.x[keep], self.rows[keep])

    def moments(self) -> Moments:
        return Moments.of(self.q, self.x, (len(self.q), len(set(self.rows.tolist()))))


def encoded(w: World, pairs: list) -> Pairs:
    q = cached_features(w.fast, [p[0] for p in pairs], "query")
    texts = [p[1] for p in pairs if isinstance(p[1], str)]
    x = cached_features(w.fast, texts) if texts else w.x[[p[1] for p in pairs]]
    return Pairs(q, x, np.array([p[2] for p in pairs]))


def ranked(w: World, pairs: list, p: Pairs, store: Path) -> tuple[np.ndarray, np.ndarray]:
    "What the joint search finds for synthetic questions: rank of the own document, the first six others."
    if store.exists():
        with np.load(store) as a: return a["rank"], a["top"]
    rank, top = [], []
    for i, (question, _, row) in enumerate(pairs):
        score = w.dense(None, p.q[i:i + 1])[0] + w.lexical(question)
        rank.append(int((score > score[row]).sum()))
        score[row] = -np.inf
        best = np.argpartition(-score, 6)[:6]
        top.append(best[np.argsort(-score[best])])
    np.savez(store, rank=rank, top=top)
    return np.array(rank), np.array(top)


def candidates(w: World, work: Path, cached: bool) -> dict[str, Pairs]:
    "Every set of pairs to fit on."
    out = {"neighbours": neighbours(w, work)}
    if cached: return out
    made = synthetic(w)
    p = {kind: encoded(w, pairs) for kind, pairs in made.items()}
    out |= p
    out["mix"] = joined([p[k] for k in ("title", "first", "crops", "sentence") if k in p])
    kinds = [k for k in ("title", "first", "crops", "sentence") if k in p]
    seen = {k: ranked(w, made[k], p[k], work/f"{w.name}{w.part}-{k}.npz") for k in kinds}
    out["mix in top 10"] = joined([p[k].some(seen[k][0] < 10) for k in kinds])
    for kind in kinds:
        top = seen[kind][1][:, :5]
        out[f"{kind} to joint hits"] = Pairs(np.repeat(p[kind].q, 5, 0), w.x[top.ravel()], top.ravel())
    out["all to joint hits"] = joined([out[f"{k} to joint hits"] for k in kinds])
    return {k: v for k, v in out.items() if len(v.q) >= 100}


def neighbours(w: World, work: Path, most: int = 1000) -> Pairs:
    "Documents and those that the joint search finds for their title or first words: no text is encoded."
    rows = np.array(random.Random(2).sample(range(len(w.entries)), min(len(w.entries), most)))
    store = work/f"{w.name}{w.part}-neighbours.npz"
    asked = [(" ".join((w.entries[r].title or w.entries[r].text).split()[:16]), r, r) for r in rows]
    top = ranked(w, asked, Pairs(w.x[rows], w.x[rows], rows), store)[1][:, :3]
    return Pairs(np.repeat(w.x[rows], 3, 0), w.x[top.ravel()], top.ravel())


def joined(parts: list[Pairs]) -> Pairs:
    return Pairs(*(np.concatenate([getattr(p, f) for p in parts]) for f in ("q", "x", "rows")))


def whitened(w: World, power: float) -> Head:
    "No pairs: directions in which all documents vary are weighed less."
    mean = w.x.mean(0).astype(float)
    values, U = np.linalg.eigh(np.cov(w.x.T.astype(float)))
    weight = (U*(values.clip(0) + values.mean())**(-power/2)) @ U.T
    weight /= np.sqrt(np.trace(weight @ np.cov(w.x.T) @ weight.T)/len(weight))
    return Head(weight, -weight @ mean, np.full(len(weight), .5), 0.)


def heads(w: World, work: Path, cached: bool):
    "Every candidate: name, head."
    for power in (.25, .5, 1.):
        yield f"whiten {power}", whitened(w, power)
    for name, pairs in candidates(w, work, cached).items():
        moments = {"": pairs.moments()}
        if name in ("mix", "all to joint hits", "neighbours"):
            moments["+docs"] = moments[""].mixed(w.x[::max(1, len(w.x)//4000)])
        for extra, m in moments.items():
            for s in SHRINKAGES:
                for form, pool in FORMS.items():
                    if extra and form != "one": continue
                    yield f"{name}{extra} {form} {s}", solve(m, s, pool)


def measure(w: World, work: Path, cached: bool) -> dict[str, Any]:
    base = w.judge(None)
    out = {"questions": len(w.questions), "documents": len(w.entries),
           "base": {k: round(float(v.mean()), 4) for k, v in base.items()}, "heads": {}}
    print(w.name, w.part, out["base"], flush=True)
    for name, head in heads(w, work, cached):
        got = w.judge(head)
        row = {}
        for k in ("dense", "joint"):
            d = 100*(got[k] - base[k])
            row[k] = [round(float(v), 2) for v in (d.mean(), d.std(ddof=1)/len(d)**.5)]  # points, standard error
        row = [*row["joint"], *row["dense"]]
        out["heads"][name] = row
    return out


def product(name: str, model: Any) -> dict[str, Any]:
    "What `ragcun index --fit` does to a collection: real questions, and the synthetic ones that its gate asks."
    from ragcun import GaussianRetriever
    from ragcun.cli.flags import read_corpus
    from ragcun.retrieval.adaptation import compare_indexes, fit_documents, hard_questions, refit_index
    data = load_retrieval(SHARED/name, "test")
    before = GaussianRetriever(model)
    before.add(read_corpus(str(SHARED/name)))
    after = refit_index(before, fit_documents(before))
    gate = compare_indexes(before, after, *hard_questions(before))
    ids = before.store.ids()
    asked = [q for q, r in data.qrels.items() if any(g > 0 and d in ids for d, g in r.items())]
    asked = random.Random(0).sample(asked, min(len(asked), ASKED))
    texts = [data.queries[q] for q in asked]
    scores: dict[str, list] = {"joint": [], "dense": []}
    for index in (before, after):
        for kind, words in (("joint", 1.), ("dense", 0.)):
            rows = [[h.id for h in r] for i in range(0, len(texts), 50)
                    for r in index.ranked(texts[i:i + 50], 10, words=words)]
            run = dict(zip(asked, rows, strict=True))
            scores[kind].append(ranking_metrics(run, {q: data.qrels[q] for q in asked})["ndcg@10"])
    out: dict[str, Any] = {"questions": len(asked), "documents": len(before), "gate": points(gate)}
    for kind, (b, a) in scores.items():
        out[kind] = {"base": round(float(b.mean()), 4), "fit": round(float(a.mean()), 4),
                     "gain": points(paired_test(a, b))}
    print(name, out, flush=True)
    return out


def limits(name: str, model: Any) -> dict[str, Any]:
    """The limit of `ragcun index --alpha` without questions, tried with the real ones: of those whose answers were
    taken out, how many get an answer all the same, and how many of those with an answer; with words and without."""
    from ragcun import GaussianRetriever
    from ragcun.cli.flags import read_corpus
    from ragcun.retrieval.null import answer_limit, e_value
    data = load_retrieval(SHARED/name, "test")
    index = GaussianRetriever(model)
    index.add(read_corpus(str(SHARED/name)))
    ids = index.store.ids()
    own = {q: [d for d, g in r.items() if g > 0 and d in ids] for q, r in data.qrels.items()}
    asked = [q for q, r in own.items() if r]
    asked = random.Random(0).sample(asked, min(len(asked), ASKED))
    index.calibrate(alpha=.05)
    assert index.joint is not None
    made = e_value(index.joint.made, len(index))
    out: dict[str, Any] = {"questions": len(asked), "documents": len(index), "synthetic": len(made), "alpha": {}}
    found: dict[str, list[float]] = {}
    for start in range(0, len(asked), 50):
        block = asked[start:start + 50]
        texts = [data.queries[q] for q in block]
        found.setdefault("without", []).extend(index.answer_values(texts, [own[q] for q in block]).tolist())
        found.setdefault("with", []).extend(index.answer_values(texts).tolist())
    for alpha in (.01, .05, .1, .2):
        limit = answer_limit(made, alpha)
        out["alpha"][str(alpha)] = {k: round(float(np.mean(np.array(v) <= limit)), 4) for k, v in found.items()}
    print(name, out, flush=True)
    return out


def points(d: Any) -> dict[str, float]:
    return {k: round(100*getattr(d, k), 2) for k in ("mean", "low", "high")} | {"p": round(d.p, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=COLLECTIONS)
    parser.add_argument("--work", default="results/bench/documents_only")
    parser.add_argument("--output", default=str(ROOT/"data"/"results"/"documents_only.json"))
    parser.add_argument("--product", action="store_true", help="what the command does, gate included")
    parser.add_argument("--limits", action="store_true", help="false answers at a limit from synthetic questions")
    parser.add_argument("--cached", action="store_true", help="only what needs no text encoded but the collection's")
    parser.add_argument("--again", action="store_true", help="also what is recorded")
    args = parser.parse_args()
    setup_logging()
    work = Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    model, fast = (GaussianEncoder.from_base(device="cpu", precision=p) for p in ("no", "bf16"))
    model.cached = fast.cached = True
    path = Path(args.output)
    found = json.loads(path.read_text()) if path.exists() else {}
    part_of = "product" if args.product else "limits" if args.limits else "collections"
    had = found.setdefault(part_of, {})
    if args.again:
        found[part_of] = {name: row for name, row in had.items() if name not in args.names}
    for name in args.names:
        if name in found[part_of]: continue
        if args.product or args.limits:
            found[part_of][name] = (product if args.product else limits)(name, model)
            path.write_text(json.dumps(found, indent=1) + "\n")
            continue
        base, _, part = name.partition("/")
        found[part_of][name] = measure(World(base, model, fast, part), work, args.cached)
        path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

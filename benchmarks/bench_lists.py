"""The answer lists between which a user would really choose, on the same questions: words, the base, their fused
ranks, an ordinarily trained base and its fusion, and ragcun from documents alone and from pairs.

    python benchmarks/bench_lists.py [COLLECTION …] [--seeds 1] [--methods words trained …]

Collections with pairs are those of bench_peers.py: at most 1,600 pairs and 4,000 documents, the same dev questions for
everybody's choices, test questions asked once. Both ways of training all weights make up to two epochs and keep the
best on dev (up to 1,000 documents). cranfield, med and cacm have no pairs and show what documents alone give; so does
any other folder with test questions in BEIR form below RAGCUN_SHARED_DATA (--output names another record then). Ranks
are fused as 1/(60 + rank); words are BM25 over ragcun's tokens. "no answer" is the AUROC of telling questions with
their answers left out from those with them: largest cosine or BM25 score for the peers, the calibrated rule for
ragcun. Seconds are those of the processor, so that a machine that does other work says the same. Rows go to
data/results/answer_lists.json; what is there is not measured again.
"""
from __future__ import annotations

import argparse
import copy
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from bench_full import BATCH
from bench_peers import ELSEWHERE, RATE, RUNS, Task, dense
from bench_quality import SHARED
from ragcun.core import UserError, read_json, set_seed, write_json
from ragcun.data.collections import RetrievalData
from ragcun.data.pairs import load_retrieval
from ragcun.evaluation.abstention import auroc
from ragcun.measures.paired import paired_test
from ragcun.measures.ranking import evaluate_vectors, ranking_metrics, top_k
from ragcun.models.encoder import GaussianEncoder
from ragcun.retrieval.adaptation import fit_documents, refit_index
from ragcun.retrieval.measure import DEPTH, answer_lists, compare_served
from ragcun.retrieval.retriever import GaussianRetriever
from ragcun.retrieval.words import reciprocal_rank_fusion
from ragcun.training.config import TrainConfig
from ragcun.training.learner import limit_corpus
from ragcun.training.run import fit
from ragcun.training.step import epoch_batches, warmup_cosine

PAIRED = ("demo", "squad-small", "medquad", "nfcorpus-pre")
EPOCHS = 2
ROW = {"words": "words", "trained": "trained base", "large batches": "trained base, batches of 256",
       "mined": "trained base, mined negatives", "dense": "Dense layer", "closed form": "ragcun, closed form",
       "head": "ragcun, head", "full": "ragcun, full",
       "full, large batches": "ragcun, full, batches of 256"}   # the row by which a method is known to be measured
GROUPS = tuple(ROW)
SINGLE = 40   # questions asked one by one for their milliseconds


class Clock:
    "Processor seconds of a block."
    def __enter__(self) -> Clock:
        self.started = time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = round(time.process_time() - self.started, 2)


class Collection:
    "Questions, documents, the lists of the untouched base, and the rows so far."
    def __init__(self, name: str, data: RetrievalData, model: GaussianEncoder):
        self.name, self.data, self.model = name, data, model
        self.names = list(data.qrels)
        self.asked = [data.queries[q] for q in self.names]
        self.relevant = [list(r) for r in data.qrels.values()]
        self.rows: list[dict[str, Any]] = []
        self.each: dict[str, np.ndarray] = {}

    def row(self, method: str, lists: list[list[str]], seed: int | None = None, **more: Any) -> None:
        "Judge a list."
        found = ranking_metrics(dict(zip(self.names, lists, strict=True)), self.data.qrels)
        self.each[method] = found["ndcg@10"]
        self.rows.append({"collection": self.name, "method": method, "seed": seed, "queries": len(self.names),
                          "documents": len(self.data.corpus),
                          **{m: round(float(found[m].mean()), 4) for m in ("ndcg@10", "recall@100")}, **more})
        print(f"{self.name:13}{method:34}{self.rows[-1]}", flush=True)

    def knows(self, scores: np.ndarray) -> float:
        "AUROC of the largest score, [questions, documents]."
        place = {d: i for i, d in enumerate(self.data.corpus)}
        best = scores.max(1)
        left = scores.copy()
        for row, r in zip(left, self.relevant, strict=True):
            row[[place[d] for d in r if d in place]] = -np.inf
        return round(auroc(np.r_[best, left.max(1)], np.repeat([1, 0], len(best))), 4)

    def index(self, model: GaussianEncoder) -> GaussianRetriever:
        "All documents, encoded once."
        index = GaussianRetriever(model)
        index.add_vectors([{"id": d, "text": t} for d, t in self.data.corpus.items()],
                          model.embed(list(self.data.corpus.values())))
        return index

    def milliseconds(self, ask: Callable[[str], Any]) -> float:
        "Of the processor for a single question, on one thread: a second one would only wait."
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        ask(self.asked[0])
        with Clock() as clock, threadpool_limits(1):
            for q in self.asked[:SINGLE]:
                ask(q)
        torch.set_num_threads(threads)
        return round(1000*clock.seconds/len(self.asked[:SINGLE]), 1)

    def vectors(self, method: str, q: np.ndarray, x: np.ndarray, seed: int | None = None, **more: Any) -> None:
        "A peer that compares vectors by cosine, alone and fused with words."
        q, x = (z/np.linalg.norm(z, axis=1, keepdims=True).clip(1e-12) for z in (q, x))
        ids = list(self.data.corpus)
        _, places = top_k(q, x, min(DEPTH, len(ids)), "ip")
        found = [[ids[i] for i in row] for row in places]
        self.row(method, found, seed, no_answer=self.knows(q @ x.T), **more)
        fused = [reciprocal_rank_fusion(pair) for pair in zip(found, self.bm25, strict=True)]
        self.row(f"{method} + words", [sorted(s, key=s.__getitem__, reverse=True)[:DEPTH] for s in fused], seed, **more)

    def words(self) -> None:
        "Everything that needs no pairs."
        index = self.index(self.model)
        lists = answer_lists(index, self.asked)
        self.bm25 = lists["bm25"]
        scores = np.zeros((len(self.names), len(self.data.corpus)))
        place = {d: i for i, d in enumerate(self.data.corpus)}
        def by_words(questions: list[str]) -> list[tuple[list[str], np.ndarray]]:
            out = []
            for a in index.asked(questions):
                found = index.store.search_words(a, len(place))
                out.append(([f.id for f in found], a.scores((f.words or "").split() for f in found)[:, 0]))
            return out
        for row, (ids, s) in zip(scores, by_words(self.asked), strict=True):
            row[[place[i] for i in ids]] = s
        self.row("words", self.bm25, no_answer=self.knows(scores),
                 milliseconds=self.milliseconds(lambda q: by_words([q])))
        q, x = (self.model.features(t, s) for t, s in ((self.asked, "query"), (list(self.data.corpus.values()),
                                                                                "document")))
        self.model.cached = False
        plain = self.milliseconds(lambda q: index.ranked([q], 10, words=0))
        joined = self.milliseconds(lambda q: index.search([q]))
        self.model.cached = True
        self.vectors("base", q, x, milliseconds=plain)
        with Clock() as clock:
            index.calibrate(alpha=.1)
        self.row("ragcun, documents only", lists["search"], no_answer=self.rule(index), seconds=clock.seconds,
                 milliseconds=joined, bytes=self.bytes())
        with Clock() as clock:
            try:
                fitted = refit_index(index, fit_documents(index))
            except UserError:  # too few documents
                return
        fitted.calibrate(alpha=.1)
        self.row("ragcun, documents only, --fit", answer_lists(fitted, self.asked)["search"],
                 no_answer=self.rule(fitted), seconds=clock.seconds)

    def bytes(self) -> dict[str, int]:
        "Bytes of a document: in an index on disk, with and without words, its text and its vector."
        n = len(self.data.corpus)
        with tempfile.TemporaryDirectory() as d:
            index = GaussianRetriever(self.model, Path(d)/"i")
            index.add([{"id": i, "text": t} for i, t in self.data.corpus.items()])
            held = sum(f.stat().st_size for f in (Path(d)/"i").rglob("*") if f.is_file()
                       and "model" not in f.relative_to(Path(d)/"i").parts[:1])
        return {"index": held//n, "text": sum(len(t.encode()) for t in self.data.corpus.values())//n,
                "vector": 4*self.model.output_dim}

    def rule(self, index: GaussianRetriever) -> float:
        "AUROC of what the index says of its answers."
        values = np.r_[index.answer_values(self.asked), index.answer_values(self.asked, self.relevant)]
        return round(auroc(-np.log(np.maximum(values, 1e-300)), np.repeat([1, 0], len(self.asked))), 4)

    def ours(self, method: str, model: GaussianEncoder, task: Task, seed: int | None, **more: Any) -> None:
        "An index with a fitted model; weights and limit from the dev questions."
        index = self.index(model)
        dev = task.dev.qrels
        index.calibrate([task.dev.queries[q] for q in dev], [[d for d, g in r.items() if g > 0] for r in dev.values()],
                        alpha=.1)
        lists = answer_lists(index, self.asked)
        self.row(f"ragcun, {method}", lists["search"], seed, no_answer=self.rule(index), **more)
        self.row(f"ragcun, {method}, vectors alone", lists["dense"], seed)


def mined(task: Task, model: GaussianEncoder, seed: int) -> list[str]:
    """For each pair a negative: one of the training documents that the base ranks 10th to 50th for its question, no
    known answer of it, drawn at random (the range that sentence-transformers' own mining suggests)."""
    texts = list(dict.fromkeys(task.train.documents))
    known: dict[str, set[str]] = {}
    for pair in task.train:
        known.setdefault(pair.query, set()).add(pair.positive)
    _, near = top_k(model.features(task.train.queries, "query"), model.features(texts), min(60, len(texts)), "ip")
    rng = np.random.default_rng(seed)
    return [texts[rng.choice([i for i in row if texts[i] not in known[pair.query]][10:50])]
            for pair, row in zip(task.train, near, strict=True)]


def trained_base(task: Task, seed: int, way: str = "trained") -> GaussianEncoder:
    """sentence-transformers' multiple negatives ranking on all weights; the epoch that is best on dev. With "large
    batches" 256 pairs by cached gradients, at twice the rate and epochs, since there are so few steps; with "mined" a
    hard negative beside those of the batch."""
    from sentence_transformers.sentence_transformer import losses
    set_seed(seed)
    model = GaussianEncoder.from_base(device="cpu")
    large = way == "large batches"
    batch, rate, epochs = (256, 2*RATE, 2*EPOCHS) if large else (BATCH, RATE, EPOCHS)
    loss_function = (losses.CachedMultipleNegativesRankingLoss(model.base, mini_batch_size=BATCH) if large
                     else losses.MultipleNegativesRankingLoss(model.base))
    columns = [task.train.queries, task.train.documents]
    if way == "mined":
        columns.append(mined(task, model, seed))
    optimizer = torch.optim.AdamW(model.base.parameters(), lr=rate, weight_decay=0.01)
    steps = [(e, rows) for e in range(epochs) for rows in epoch_batches(len(task.train), batch, seed, e)]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: warmup_cosine(i, len(steps)))
    dev = limit_corpus(task.dev, 1000, seed)
    best = -1.
    state: dict[str, torch.Tensor] = {}
    model.base_changed = True
    for i, (epoch, rows) in enumerate(steps):
        model.base.train()
        texts = [[c[int(r)] for r in rows] for c in columns]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=model.precision == "bf16"):
            loss = loss_function([model.base.preprocess(t) for t in texts], None)
            loss.backward()   # inside, since cached gradients encode again here
        torch.nn.utils.clip_grad_norm_(model.base.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if i + 1 < len(steps) and steps[i + 1][0] == epoch: continue
        model.base.eval()
        q, x = (model.features(list(t.values()), s) for t, s in ((dev.queries, "query"), (dev.corpus, "document")))
        score = float(evaluate_vectors(q, x, dev, "ip")["ndcg@10"].mean())
        print(f"{task.name}: epoch {epoch + 1} of the peer ({way}), dev {score:.4f}", flush=True)
        if score > best:
            best, state = score, copy.deepcopy(model.base.state_dict())
            model.extra = {"epoch": epoch + 1}
    model.base.load_state_dict(state)
    return model


def remember(model: GaussianEncoder) -> None:
    "Features of a trained base, which are not kept on disk: each text once."
    known: dict[tuple[str, str], np.ndarray] = {}
    compute = model.compute_features
    def features(texts: Sequence[str], side: str = "document", *rest: object) -> np.ndarray:
        new = list(dict.fromkeys(t for t in texts if (t, side) not in known))
        known.update(zip(((t, side) for t in new), compute(new, side) if new else (), strict=True))
        return np.stack([known[t, side] for t in texts])
    model.compute_features = features


def with_pairs(c: Collection, task: Task, seed: int, methods: list[str]) -> None:
    "Everything that learns from pairs."
    texts = list(c.data.corpus.values())
    for way in [m for m in ("trained", "large batches", "mined") if m in methods]:
        with Clock() as clock:
            peer = trained_base(task, seed, way)
        remember(peer)
        q, x = peer.features(c.asked, "query"), peer.features(texts)
        c.vectors(ROW[way], q, x, seed, seconds=clock.seconds, epoch=peer.extra["epoch"])
        more = dense(task, peer, seed)
        c.vectors(f"{ROW[way]}, Dense", more.map(q), more.map(x), seed)
        if way != "trained": continue
        solved = fit(peer, task.train, task.dev, TrainConfig(freeze_base=True, closed_form=True, seed=seed))
        c.ours("closed form of the trained base", solved.model, task, seed, kept=solved.report["kept"])
    if "dense" in methods:
        with Clock() as clock:
            layer = dense(task, c.model, seed)
        q, x = c.model.features(c.asked, "query"), c.model.features(texts)
        c.vectors("Dense layer", layer.map(q), layer.map(x), seed, seconds=clock.seconds)
    full = TrainConfig(epochs=EPOCHS, batch_size=BATCH, base_learning_rate=RATE, seed=seed, val_documents=1000)
    ways = {"closed form": TrainConfig(freeze_base=True, closed_form=True, seed=seed),
            "head": TrainConfig(freeze_base=True, seed=seed), "full": full,
            "full, large batches": replace(full, epochs=2*EPOCHS, batch_size=256, base_learning_rate=2*RATE)}
    for method in [m for m in ways if m in methods]:
        with tempfile.TemporaryDirectory(dir=RUNS) as folder, Clock() as clock:
            result = fit(c.model, task.train, task.dev, ways[method], folder if method.startswith("full") else None,
                         served=compare_served)
        c.ours(ROW[method].removeprefix("ragcun, "), result.model, task, seed, seconds=clock.seconds,
               kept=result.report["kept"])


class Judged:
    """NDCG@10 of each test question by method, kept beside the runs, so that lists of a run that was stopped are
    compared with those of the run that goes on; only of methods whose rows are `known`."""
    def __init__(self, name: str, seed: int, known: set[str]):
        self.path = RUNS/f"lists-{name}-{seed}.json"
        kept = read_json(self.path) if self.path.exists() else {}
        self.each = {m: np.asarray(v) for m, v in kept.items() if m in known}

    def add(self, each: dict[str, np.ndarray]) -> None:
        "Keep these, too; a method that was measured again replaces what is here."
        self.each |= each
        write_json(self.path, {m: np.asarray(v).tolist() for m, v in self.each.items()})


def add_rows(found: dict[str, Any], c: Collection, beside: Judged, seed: int, commit: str, known: set[str]) -> set[str]:
    "Add what is new to the rows and to the paired differences; the methods that are new."
    beside.add(c.each)
    new = {m for m in c.each if m not in known}
    found["rows"] += [r | {"commit": commit} for r in c.rows
                      if r["method"] in new and (seed == 0 or r["seed"] is not None)]
    found["paired"] += [{"collection": c.name, "seed": seed, "ours": a, "theirs": b,
                         **asdict(paired_test(beside.each[a], beside.each[b]))}
                        for a in beside.each if a.startswith("ragcun") and not a.endswith("alone")
                        for b in beside.each if not b.startswith("ragcun") and {a, b} & new]
    return new


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[*ELSEWHERE, *PAIRED])
    parser.add_argument("--methods", nargs="+", default=GROUPS, choices=GROUPS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--output", type=Path, default="data/results/answer_lists.json")
    parser.add_argument("--again", action="store_true", help="also what is recorded")
    args = parser.parse_args()
    RUNS.mkdir(parents=True, exist_ok=True)
    found = read_json(args.output) if args.output.exists() else {"rows": [], "paired": []}
    if args.again:
        found |= {k: [r for r in found[k] if r["collection"] not in args.names] for k in ("rows", "paired")}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    for name in args.names:
        for seed in range(args.seeds):
            known = {r["method"] for r in found["rows"] if r["collection"] == name and r["seed"] in (None, seed)}
            todo = [m for m in args.methods if ROW[m] not in known and (m == "words" or name in PAIRED)]
            if not todo: continue
            task = Task.load(name) if name in PAIRED else None
            model = GaussianEncoder.from_base(device="cpu")
            model.cached = True
            c = Collection(name, load_retrieval(SHARED/name, "test") if task is None else task.test, model)
            c.words()
            beside = Judged(name, seed, known)
            for method in todo:  # what a method found is kept before the next begins
                if task is not None:
                    with_pairs(c, task, seed, [method])
                known |= add_rows(found, c, beside, seed, commit, known)
                write_json(args.output, {"command": " ".join(["python benchmarks/bench_lists.py", *sys.argv[1:]]),
                                         "threads": torch.get_num_threads(), "machine":
                                         f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}", **found})


if __name__ == "__main__":
    main()

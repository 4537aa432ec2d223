"""Quality at equal data: ragcun against what people would use instead, trained on the same pairs of the same
collections, on the same base.

    python benchmarks/bench_peers.py                                   # every collection and method; hours, goes on
        where it was stopped
    python benchmarks/bench_peers.py --collections demo --methods base whitening dense head --seeds 3

Methods: the base; whitening of its vectors; sentence-transformers' multiple negatives ranking, on a Dense layer over
the frozen base and on all weights; ragcun's closed form, head training, full training, and full training with a head
trained after it. Each trains on the same pairs (at most 1,600), chooses on the same dev questions, and is looked at
once on the collection's test questions, on those whose documents were no training positive, and on three collections
of other fields. No answer: questions with their answers left out, told from those with them, by the best score
(peers) or by the calibrated rule (ragcun). Rows go to data/results/peers.json.
"""
from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench_full import BATCH
from bench_quality import SHARED, collection
from bench_retrieval import shrink
from ragcun.core import read_json, set_seed, write_json
from ragcun.data.collections import RetrievalData
from ragcun.data.pairs import PairSet, load_retrieval
from ragcun.evaluation.abstention import auroc
from ragcun.measures.isotropy import participation_ratio
from ragcun.measures.paired import paired_test
from ragcun.measures.ranking import evaluate_vectors
from ragcun.models.encoder import GaussianEncoder
from ragcun.retrieval.retriever import GaussianRetriever
from ragcun.training.config import TrainConfig
from ragcun.training.run import fit
from ragcun.training.step import epoch_batches, warmup_cosine

COLLECTIONS = ("demo", "squad-small", "nfcorpus-pre", "medquad")
ELSEWHERE = ("cranfield", "med", "cacm")
METHODS = ("base", "whitening", "dense", "mnr", "closed form", "head", "full", "full, head")
OURS = ("closed form", "head", "full", "full, head")
FROZEN = ("dense", "head")
TRAINED = ("mnr", "full", "full, head")
RUNS = Path("results/bench/peers")  # not tracked
PAIRS, DOCUMENTS, RATE, EPOCHS = 1600, 4000, 5e-5, 1


@dataclass(frozen=True)
class Task:
    "Pairs, dev and test questions of one collection, and collections of other fields."
    name: str
    train: PairSet
    dev: RetrievalData
    test: RetrievalData
    elsewhere: dict[str, RetrievalData]

    @classmethod
    def load(cls, name: str) -> Task:
        train, dev, test = collection(name)
        rng = np.random.default_rng(0)
        if len(train) > PAIRS:
            train = PairSet([train[int(i)] for i in np.sort(rng.permutation(len(train))[:PAIRS])], train.name)
        wanted = dict.fromkeys([*(d for s in (test, dev) for r in s.qrels.values() for d in r),
                                *rng.permutation(sorted(test.corpus)).tolist()])
        corpus = {d: test.corpus[d] for d in list(wanted)[:DOCUMENTS] if d in test.corpus}
        dev, test = (shrink(replace(s, qrels=dict(list(s.qrels.items())[:500])), corpus) for s in (dev, test))
        return cls(name, train, dev, test, {n: load_retrieval(SHARED/n, "test") for n in ELSEWHERE})

    def unseen(self) -> np.ndarray:
        "Test questions none of whose documents is a training positive."
        seen = set(self.train.documents)
        return np.array([not any(self.test.corpus[d] in seen for d, g in r.items() if g > 0)
                         for r in self.test.qrels.values()])


class Cosine:
    "A peer: vectors are compared by cosine."
    def __init__(self, model: GaussianEncoder, project: Any = None):
        self.model = model
        self.map = project or (lambda h: h)
        self.known = {}

    def features(self, texts, side: str) -> np.ndarray:
        "Of the base, each collection once."
        texts = tuple(texts)
        if (texts, side) not in self.known:
            self.known[texts, side] = self.model.features(texts, side)
        return self.known[texts, side]

    def vectors(self, texts, side: str) -> np.ndarray:
        z = self.map(self.features(texts, side))
        return z/np.linalg.norm(z, axis=1, keepdims=True).clip(1e-12)

    def judge(self, data: RetrievalData):
        "Metrics of each question, and the document vectors."
        q = self.vectors(data.queries.values(), "query")
        x = self.vectors(data.corpus.values(), "document")
        return evaluate_vectors(q, x, data, "ip"), x

    def knows(self, task: Task) -> float:
        "AUROC of the largest cosine."
        q = self.vectors(task.test.queries.values(), "query")
        x = self.vectors(task.test.corpus.values(), "document")
        scores = q @ x.T
        place = {d: i for i, d in enumerate(task.test.corpus)}
        best = scores.max(1)
        for row, r in zip(scores, task.test.qrels.values(), strict=True):
            row[[place[d] for d in r]] = -1
        return auroc(np.r_[best, scores.max(1)], np.repeat([1, 0], len(best)))


class Evidence(Cosine):
    "Ours: vectors are compared by evidence."
    def judge(self, data: RetrievalData):
        q, x = (self.model.project(self.features(t, s), s) for t, s in ((data.queries.values(), "query"),
                                                                     (data.corpus.values(), "document")))
        return evaluate_vectors(self.model.to_query(q), self.model.to_document(x), data), x

    def knows(self, task: Task) -> float:
        "AUROC of the rule that an index calibrates on the dev questions."
        index = GaussianRetriever(self.model)
        corpus = task.test.corpus
        index.add_vectors([{"id": d, "text": t} for d, t in corpus.items()],
                          self.model.project(self.features(corpus.values(), "document"), "document"))
        index.calibrate(list(task.dev.queries.values()), [list(r) for r in task.dev.qrels.values()], alpha=.1)
        asked = list(task.test.queries.values())
        relevant = [list(r) for r in task.test.qrels.values()]
        values = np.r_[index.answer_values(asked), index.answer_values(asked, relevant)]
        return auroc(-np.log(np.maximum(values, 1e-300)), np.repeat([1, 0], len(asked)))


def whitening(task: Task, model: GaussianEncoder) -> Cosine:
    "Su et al. 2021: mean and covariance of the training texts; cosine of what is left."
    from scipy.linalg import inv, sqrtm
    h = np.concatenate([model.features(task.train.queries, "query"),
                        model.features(task.train.documents)]).astype(float)
    mean, W = h.mean(0), inv(sqrtm(np.cov(h.T) + 1e-6*np.eye(h.shape[1])).real)
    return Cosine(model, lambda f: (f - mean) @ W)


def ranking_loss(q: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    "Multiple negatives ranking: cross-entropy of 20 · cosine, as sentence-transformers has it by default."
    q, x = (torch.nn.functional.normalize(t, dim=1) for t in (q, x))
    return torch.nn.functional.cross_entropy(20*q @ x.T, torch.arange(len(q)))


def dense(task: Task, model: GaussianEncoder, seed: int) -> Cosine:
    """A Dense layer on the frozen base, from the identity: epochs, batches and rate of our head training; the epoch
    that is best on dev."""
    set_seed(seed)
    q, x = (torch.tensor(model.features(t, s)) for t, s in ((task.train.queries, "query"),
                                                            (task.train.documents, "document")))
    layer = torch.nn.Linear(q.shape[1], q.shape[1])
    with torch.no_grad():
        layer.weight.copy_(torch.eye(q.shape[1])), layer.bias.zero_()
    batch = min(1024, max(32, len(q)//4))
    epochs = 40
    steps = [(e, rows) for e in range(epochs) for rows in epoch_batches(len(q), batch, seed, e)]
    optimizer = torch.optim.AdamW(layer.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: warmup_cosine(i, len(steps)))
    def at() -> Cosine:
        weight, bias = (t.detach().numpy().copy() for t in (layer.weight, layer.bias))
        return Cosine(model, lambda h: h @ weight.T + bias)
    best = -1.0
    mine = at()
    for i, (epoch, rows) in enumerate(steps):
        ranking_loss(layer(q[rows]), layer(x[rows])).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if i + 1 < len(steps) and steps[i + 1][0] == epoch: continue
        score = float(at().judge(task.dev)[0]["ndcg@10"].mean())
        if score > best:
            best = score
            mine = at()
    return mine


def mnr(task: Task, model: GaussianEncoder, seed: int) -> Cosine:
    "sentence-transformers' own loss on all weights."
    from bench_full import peer_model
    trained, _ = peer_model(task.train, RATE, EPOCHS, seed)
    return Cosine(trained)


def ours(task: Task, model: GaussianEncoder, method: str, seed: int) -> tuple[Evidence, dict]:
    "A run of `fit`; what it kept. The head after full training goes on from the checkpoint of the run without it."
    config = TrainConfig(freeze_base=True, closed_form=method == "closed form", seed=seed)
    folder = None
    if method.startswith("full"):
        folder = RUNS/f"run-{task.name}-{seed}"
        if method == "full":
            shutil.rmtree(folder, ignore_errors=True)
        config = TrainConfig(epochs=EPOCHS, batch_size=BATCH, base_learning_rate=RATE, seed=seed,
                             finish_head=method != "full", resume_from="auto")
    result = fit(model, task.train, task.dev, config, folder)
    return Evidence(result.model), {"kept": result.report["kept"]}


def contestant(task: Task, model: GaussianEncoder, method: str, seed: int) -> tuple[Cosine, dict]:
    "A trained method."
    if method in OURS: return ours(task, model, method, seed)
    if method == "base": return Cosine(model), {}
    return (whitening(task, model) if method == "whitening"
            else {"dense": dense, "mnr": mnr}[method](task, model, seed)), {}


def row_of(task: Task, model: GaussianEncoder, method: str, seed: int) -> tuple[dict, dict]:
    "Everything about one method on one collection, and its NDCG@10 of every question."
    for t in (task.train.queries, task.dev.queries.values()):
        model.features(list(t), "query")
    for t in (task.train.documents, task.dev.corpus.values()):
        model.features(list(t))  # cached: seconds are those of fitting
    started = time.perf_counter()
    best, more = contestant(task, model, method, seed)
    row: dict[str, Any] = {"collection": task.name, "method": method, "seed": seed,
                           "seconds": round(time.perf_counter() - started, 1), "pairs": len(task.train),
                           "queries": len(task.test.qrels), "documents": len(task.test.corpus), **more}
    scores, x = best.judge(task.test)
    each = {"test": scores["ndcg@10"]}
    if 10 <= (fresh := task.unseen()).sum():
        each["unseen"] = scores["ndcg@10"][fresh]
    row |= {"recall@100": float(scores["recall@100"].mean()), "participation_ratio": participation_ratio(x),
            "no_answer_auroc": best.knows(task)}
    for name, data in task.elsewhere.items():
        each[name] = best.judge(data)[0]["ndcg@10"]
    row["ndcg@10"] = {k: float(v.mean()) for k, v in each.items()}
    return row, each


def against(mine: dict, other: dict) -> dict:
    "Paired differences wherever both were measured."
    return {k: asdict(paired_test(mine[k], other[k])) for k in mine}


class Kept:
    """NDCG@10 of every question, by row, beside the results of `make bench` (not tracked): a run that was stopped
    still pairs methods by question."""
    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, name: str, method: str, seed: int) -> Path:
        return self.folder/f"{name}-{method.replace(', ', '_').replace(' ', '_')}-{seed}.npz"

    def keep(self, row: dict, each: dict) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        np.savez(self.path(row["collection"], row["method"], row["seed"]), **each)

    def of(self, rows: list[dict], name: str, method: str, seed: int) -> dict | None:
        "Those of a recorded row, if they are its own: their means are the row's."
        row = next((r for r in rows if (r["collection"], r["method"], r["seed"]) == (name, method, seed)), None)
        if row is None or not self.path(name, method, seed).exists(): return None
        each = dict(np.load(self.path(name, method, seed)))
        return each if {k: float(v.mean()) for k, v in each.items()} == row["ndcg@10"] else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collections", nargs="+", default=COLLECTIONS)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--seeds", type=int, default=3, help="of frozen methods; methods that train the base take one")
    parser.add_argument("--full_seeds", type=int, default=1)
    parser.add_argument("--first_seed", type=int, default=0, help="leave out the seeds before")
    parser.add_argument("--output", type=Path, default="data/results/peers.json")
    parser.add_argument("--again", action="store_true", help="also what is recorded")
    args = parser.parse_args()
    rows = read_json(args.output)["rows"] if args.output.exists() else []
    seeds = {m: args.seeds if m in FROZEN else args.full_seeds if m in TRAINED else 1 for m in args.methods}
    if args.again:
        rows = [r for r in rows if r["collection"] not in args.collections
                or not args.first_seed <= r["seed"] < seeds.get(r["method"], 0)]
    kept = Kept(RUNS)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    for name in args.collections:
        task = Task.load(name)
        model = GaussianEncoder.from_base(device="cpu")
        model.cached = True
        base = row_of(task, model, "base", 0)
        for method in args.methods:
            for seed in range(args.first_seed if method in FROZEN + TRAINED else 0, seeds[method]):
                if any((r["collection"], r["method"], r["seed"]) == (name, method, seed) for r in rows):
                    continue
                row, each = base if method == "base" else row_of(task, model, method, seed)
                row["against base"] = against(each, base[1])
                for mine, peer in (("head", "dense"), ("full", "mnr"), ("full, head", "mnr"), ("full, head", "full")):
                    if method == mine and (other := kept.of(rows, name, peer, seed)):
                        row[f"against {peer}"] = against(each, other)
                kept.keep(row, each)
                rows.append(row | {"commit": commit})
                write_json(args.output,
                           {"command": "python benchmarks/bench_peers.py", "commit": commit,
                            "machine": f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
                            "torch": torch.__version__, "rows": rows})
                print(f"{name:13} {method:12} seed {seed}  {row['seconds']:7.1f} s  isotropy "
                      f"{row['participation_ratio']:.2f}  no answer {row['no_answer_auroc']:.3f}  "
                      + "  ".join(f"{k} {v:.3f}" for k, v in row["ndcg@10"].items()), flush=True)
        for folder in RUNS.glob(f"run-{name}-*"):
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()

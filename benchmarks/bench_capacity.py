"""Recall@1 against corpus size on real collections: what data/results/capacity.json records.

    python benchmarks/bench_capacity.py squad-small medquad

reads BEIR folders below $RAGCUN_SHARED_DATA (default ../shared/data). For each: a closed-form head (s = .3) on
training pairs, the evidence slope τ calibrated on the validation queries, Recall@1 of the test queries against
growing random subsets, and three predictions.
"""
from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from ragcun.core import read_json, write_json
from ragcun.data.collections import RetrievalData
from ragcun.data.pairs import load_pairs, load_retrieval
from ragcun.diagnostics.capacity import fit_tau, measure_recall, predict_recall
from ragcun.diagnostics.space import DiagnoseConfig, draw_sample, unrelated_pairs
from ragcun.models.cache import cached_features
from ragcun.models.encoder import GaussianEncoder
from ragcun.models.evidence import evidence_pairs
from ragcun.training.closed_form import Head, Moments, fit_calibration, limit_positives, solve_head

ROOT = Path(__file__).resolve().parent.parent
SIZES = [10, 30, 100, 300, 1000, 3000, 10000]


def fit_head(model: GaussianEncoder, folder: Path, pairs: int) -> Head:
    "Closed form at s = .3 on a seeded choice of training pairs."
    train = limit_positives(load_pairs(folder, "train"))
    chosen = [train[int(i)] for i in np.sort(np.random.default_rng(0).permutation(len(train))[:pairs])]
    h = [cached_features(model, [getattr(p, side) for p in chosen], name)
         for side, name in (("query", "query"), ("positive", "document"))]
    return solve_head(Moments.of(*h), 0.3)


def sample_vectors(model: GaussianEncoder, head: Head, data: RetrievalData, queries: int,
                   documents: int) -> tuple[Any, np.ndarray, np.ndarray]:
    "A sample of the collection with its embeddings z."
    sample = draw_sample(data, DiagnoseConfig(max_queries=queries, max_documents=documents))
    z = (head.project(cached_features(model, sample.queries, "query"), "query"),
         head.project(cached_features(model, sample.documents, "document"), "document"))
    return sample, z[0].astype(np.float64), z[1].astype(np.float64)


def calibrated_tau(head: Head, sample: Any, q: np.ndarray, x: np.ndarray) -> float:
    "τ of the logistic calibration on held-out pairs."
    query, document = unrelated_pairs(sample, rounds=20)
    return fit_calibration(evidence_pairs(q, x[sample.answer], head.rho),
                           evidence_pairs(q[query], x[document], head.rho)).tau


def one_collection(model: GaussianEncoder, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    "Measured and predicted Recall@1 of one collection."
    head = fit_head(model, folder, args.pairs)
    tau = calibrated_tau(head, *sample_vectors(model, head, load_retrieval(folder, "dev"), 500, 1500))
    sample, q, x = sample_vectors(model, head, load_retrieval(folder, "test"), args.queries, args.documents)
    sizes = sorted({n for n in SIZES if n < len(x)} | {len(x)})
    scale = 1 / np.sqrt(1 - head.rho**2)
    measured = measure_recall(q * scale, x * head.rho * scale, sample.related, sizes)
    at = sizes.index(100)
    through = fit_tau(head.rho, 100, measured[at])
    curves = {name: [round(float(r), 4) for r in predict_recall(head.rho, sizes, t)]
              for name, t in (("predicted", 1.0), ("predicted_tau", min(1.0, tau)), ("predicted_through_100", through))}
    nats = float(-0.5 * np.log1p(-head.rho**2).sum())
    return {"sizes": sizes, "measured": [round(r, 4) for r in measured], **curves, "tau": round(tau, 4),
            "tau_through_100": round(through, 4), "nats": round(nats, 2), "queries": len(q), "documents": len(x),
            "training_pairs": args.pairs, "s": 0.3, "command": f"python benchmarks/bench_capacity.py {folder.name} "
            f"--pairs {args.pairs} --queries {args.queries} --documents {args.documents}"}


def main() -> None:
    "Measure the collections named, and add them to the file."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help="folders below $RAGCUN_SHARED_DATA")
    parser.add_argument("--pairs", type=int, default=3000, help="training pairs")
    parser.add_argument("--queries", type=int, default=500, help="test queries")
    parser.add_argument("--documents", type=int, default=6000, help="documents of the largest corpus")
    args = parser.parse_args()
    shared = Path(os.environ.get("RAGCUN_SHARED_DATA", ROOT.parent / "shared" / "data"))
    target = ROOT / "data" / "results" / "capacity.json"
    results = read_json(target) if target.exists() else {"collections": {}}
    model = GaussianEncoder.from_base(device="cpu")
    for name in args.names:
        results["collections"][name] = one_collection(model, shared / name, args)
        print(name, results["collections"][name])
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                            cwd=ROOT).stdout.strip()
    results |= {"seed": 0, "commit": commit, "base": "sentence-transformers/all-MiniLM-L6-v2",
                "precision": model.precision}
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, results)


if __name__ == "__main__":
    main()

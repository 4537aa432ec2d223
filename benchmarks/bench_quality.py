"""Quality at equal data: the untouched base, the closed form, the trained head and what `fit` keeps, on collections
with a test split.

    python benchmarks/bench_quality.py squad-small nfcorpus-pre medquad demo --seeds 3 --output
        data/results/quality.json

Collections are read from RAGCUN_SHARED_DATA (default ../shared/data). Every choice is made on the dev split; the
test split is looked at once, for the table.
"""
from __future__ import annotations

import argparse
import os
import platform
import subprocess
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from ragcun.cli.demonstration import DemoConfig, demo_data
from ragcun.core import read_json, write_json
from ragcun.data.pairs import load_pairs, load_retrieval
from ragcun.measures.isotropy import participation_ratio
from ragcun.measures.paired import paired_test
from ragcun.measures.ranking import evaluate_vectors
from ragcun.models.encoder import GaussianEncoder
from ragcun.training.closed_form import encode_held_out
from ragcun.training.config import TrainConfig
from ragcun.training.run import fit

SHARED = Path(os.environ.get("RAGCUN_SHARED_DATA", Path(__file__).resolve().parents[2]/"shared"/"data"))


def collection(name: str):
    "Training pairs, dev and test data."
    if name == "demo":
        data = demo_data(DemoConfig())
        return data.train, data.val, data.test
    return load_pairs(SHARED/name), load_retrieval(SHARED/name, "dev"), load_retrieval(SHARED/name, "test")


def scores(model, held):
    "Per-query NDCG@10 and Recall@100 of a model on features."
    q = model.project(held.q, "query")
    x = model.project(held.x, "document")
    return evaluate_vectors(model.to_query(q), model.to_document(x), held.data), x


def unseen(train, data):
    "Test queries none of whose documents is a training positive."
    seen = set(train.documents)
    return np.array([not any(data.corpus[d] in seen for d, g in data.qrels[q].items() if g > 0)
                     for q in data.queries if q in data.qrels])


def one(name: str, mode: str, seed: int, output: Path) -> dict:
    "One run of one mode on one collection, its test scores against the base."
    train, dev, test = collection(name)
    model = GaussianEncoder.from_base()
    model.cached = True
    held = encode_held_out(model, test)
    config = TrainConfig(freeze_base=True, closed_form=mode == "closed form", seed=seed)
    started = time.perf_counter()
    result = fit(model, train, dev, config)
    seconds = time.perf_counter() - started
    base = evaluate_vectors(held.q, held.x, held.data, "ip")
    mine, z = scores(result.model, held)
    fresh = unseen(train, replace(test, queries={q: t for q, t in test.queries.items() if q in test.qrels}))
    gain = paired_test(mine["ndcg@10"], base["ndcg@10"])
    row = {"collection": name, "mode": mode, "seed": seed, "kept": result.report["kept"],
           "pairs": len(train), "queries": len(mine), "documents": len(test.corpus),
           "base": {k: float(base[k].mean()) for k in ("ndcg@10", "recall@100")},
           "model": {k: float(mine[k].mean()) for k in ("ndcg@10", "recall@100")}, "gain": asdict(gain),
           "queries_unseen": int(fresh.sum()), "base_participation_ratio": participation_ratio(held.x),
           "participation_ratio": participation_ratio(z), "embedding_std": float(z.std(0).mean()),
           "validation": result.report["candidates"], "seconds": round(seconds, 1)}
    if 10 <= fresh.sum() < len(fresh):
        row["gain_unseen"] = asdict(paired_test(mine["ndcg@10"][fresh], base["ndcg@10"][fresh]))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", default="data/results/quality.json")
    parser.add_argument("--again", action="store_true", help="also what is recorded")
    args = parser.parse_args()
    output = Path(args.output)
    rows = read_json(output)["rows"] if output.exists() else []
    if args.again:
        rows = [r for r in rows if r["collection"] not in args.collections]
    done = {(r["collection"], r["mode"], r["seed"]) for r in rows}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    for name in args.collections:
        for mode, seeds in (("closed form", 1), ("head", args.seeds)):
            for seed in range(seeds):
                if (name, mode, seed) in done: continue
                rows.append(one(name, mode, seed, output))
                r = rows[-1]
                print(f"{name:14s} {mode:12s} seed {seed}  {r['base']['ndcg@10']:.4f} → {r['model']['ndcg@10']:.4f}  "
                      f"{r['gain']['mean']:+.4f} [{r['gain']['low']:+.4f}, {r['gain']['high']:+.4f}]"
                      f"  participation ratio {r['base_participation_ratio']:.2f} → {r['participation_ratio']:.2f}  "
                      f"kept {r['kept']}  {r['seconds']} s", flush=True)
                write_json(output, {"command": "python benchmarks/bench_quality.py "
                                    "squad-small nfcorpus-pre medquad demo", "commit": commit,
                                    "machine": f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
                                    "python": platform.python_version(), "torch": torch.__version__, "rows": rows})


if __name__ == "__main__":
    main()

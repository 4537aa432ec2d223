"""Time and memory of every stage as the data grow, each in a process of its own, and the exponent of its growth.

    python benchmarks/bench_growth.py [prepare encode closed_form head evaluate index search] [--sizes 1000 10000
        100000] [--output data/results/growth.json]

Features and vectors are random where only their number matters; `encode` takes real answers (medquad) and smaller
sizes. Seconds are CPU seconds of the process, which other load on the machine touches less than wall time; both are
kept. Memory is the peak above what the process held before the stage began. Sizes that the file holds for this
commit are skipped unless --again.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench_encode import high_water, machine, versions
from bench_training import synthetic
from data_memory import write_rows
from ragcun.core import read_json, write_json

SIZES = {"encode": (300, 1000, 3000)}
DIM = 384


# ── stages: each prepares its input and returns the work to be timed
def prepare(n, folder, data):
    from ragcun.data.preparation import PrepareConfig, prepare as run
    write_rows(folder/"rows.jsonl", n)
    return lambda: run(PrepareConfig(input=str(folder/"rows.jsonl"), output=str(folder/"out"/"train.jsonl"),
                                     split=(.8, .1, .1)))


def encode(n, folder, data):
    from bench_encode import sample
    from ragcun.data.pairs import load_retrieval
    from ragcun.models.encoder import GaussianEncoder
    model, texts = (GaussianEncoder.from_base(device="cpu", precision="bf16"),
                    sample(load_retrieval(Path(data)/"medquad", "test"), n, 0))
    model.compute_features(texts[:8])
    return lambda: model.compute_features(texts)


def closed_form(n, folder, data):
    from ragcun.training.closed_form import (PairFeatures, choose_point, choose_shrinkage, solve_head,
                                             validation_splits)
    features = PairFeatures(*synthetic(n, DIM), [f"q{i}" for i in range(n)], [f"d{i}" for i in range(n)])
    def job():
        mine = replace(features)  # remembers nothing of the last round
        return solve_head(mine.moments, choose_point(choose_shrinkage(validation_splits(mine))).s)
    return job


def head(n, folder, data):
    from bench_training import no_validation
    from ragcun.data.pairs import Pair, PairSet
    from ragcun.models.cache import cache_for
    from ragcun.models.encoder import GaussianEncoder
    from ragcun.training.config import TrainConfig, resolve_defaults
    from ragcun.training.learner import Learner
    from ragcun.training.step import epoch_batches
    os.environ["RAGCUN_CACHE"] = str(folder/"cache")
    pairs, model = PairSet([Pair(f"question {i}", f"answer {i}") for i in range(n)],
                           "random"), GaussianEncoder.from_base(device="cpu")
    for side, texts, h in zip(("query", "document"), (pairs.queries, pairs.documents), synthetic(n, DIM), strict=True):
        cache_for(model, side).add(texts, h)
    config = resolve_defaults(TrainConfig(freeze_base=True, epochs=1, seed=0), n)
    def run():
        learner = Learner(model, pairs, no_validation(), config)
        for rows in epoch_batches(n, config.batch_size, 0, 0):
            learner.step(rows)
    return run


def vectors(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, DIM), np.float32)


def evaluate(n, folder, data):
    from ragcun.data.collections import RetrievalData
    from ragcun.measures.ranking import evaluate_vectors
    ids = [f"d{i}" for i in range(n)]
    collection = RetrievalData(dict.fromkeys(ids, ""), {f"q{i}": "" for i in range(1000)},
                               {f"q{i}": {ids[i % n]: 1} for i in range(1000)})
    u, v = vectors(1000, 1), vectors(n)
    return lambda: evaluate_vectors(u, v, collection)


def index(n, folder, data):
    from ragcun.retrieval.hits import Batch
    from ragcun.retrieval.stores import LanceStore
    v = vectors(n)
    ids = [f"d{i}" for i in range(n)]
    store = LanceStore(folder/"index", DIM)
    texts = [f"the text of document {i} " * 20 for i in range(n)]
    def run():
        for i in range(0, n, 20_000):
            store.add(Batch(ids[i:i + 20_000], texts[i:i + 20_000], [{} for _ in ids[i:i + 20_000]], v[i:i + 20_000]))
    return run


def search(n, folder, data):
    from ragcun.retrieval.stores import LanceStore
    index(n, folder, data)()
    store, u = LanceStore(folder/"index", DIM), vectors(22, 1)
    for row in u[:2]:
        store.search(row[None], 10, True)
    return lambda: [store.search(row[None], 10, True) for row in u[2:]]


STAGES = {f.__name__: f for f in (prepare, encode, closed_form, head, evaluate, index, search)}


def worker(args):
    "One stage at one size, as JSON on the last line."
    with tempfile.TemporaryDirectory() as folder:
        work = STAGES[args.stages[0]](args.sizes[0], Path(folder), args.data)
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before = high_water()
        started = time.perf_counter()
        cpu = time.process_time()
        work()
        print(json.dumps({"size": args.sizes[0], "seconds": round(time.perf_counter() - started, 3),
                          "cpu_seconds": round(time.process_time() - cpu, 3), "mib": round(high_water() - before, 1),
                          "peak_mib": round(high_water())}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", default=list(STAGES))
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--threads", type=int, default=1,
                        help="one: on a busy machine, threads that wait for each other count as CPU time")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--data", default=os.environ.get("RAGCUN_SHARED_DATA", "../shared/data"))
    parser.add_argument("--output", default="data/results/growth.json")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker: return worker(args)
    env = os.environ | {"OMP_NUM_THREADS": str(args.threads), "OPENBLAS_NUM_THREADS": str(args.threads),
                        "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
    result = read_json(args.output) if Path(args.output).exists() else {"stages": {}}
    result |= {"command": "python benchmarks/bench_growth.py", "machine": machine(),
               "versions": versions(sys.executable, ("torch", "numpy", "scipy", "lancedb")), "threads": args.threads,
               "dim": DIM, "commit": subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True,
                                                    text=True).stdout.strip()}
    for stage in args.stages:
        have = {r["size"]: r for r in result["stages"].get(stage, [])}
        for n in SIZES.get(stage, args.sizes):
            if have.get(n, {}).get("commit") == result["commit"] and not args.again: continue
            done = subprocess.run([sys.executable, __file__, stage, "--sizes", str(n), "--data", args.data, "--worker"],
                                  capture_output=True, text=True, env=env)
            if done.returncode:
                raise SystemExit(done.stderr)
            have[n] = json.loads(done.stdout.splitlines()[-1]) | {"commit": result["commit"]}
            print(stage, have[n], flush=True)
            result["stages"][stage] = [have[k] for k in sorted(have)]
            write_json(args.output, result)


if __name__ == "__main__":
    main()

"""Time and memory of a large index on disk: add, reopen, search exactly and with an approximate index.

    python tests/bench_index.py [--documents 1000000] [--dim 384] [--ann IVF_FLAT] [--output data/results/index_scale.json]

Vectors follow the model's own law (seeded); questions are drawn given a document, so the right answer is known."""
import argparse
import multiprocessing
import resource
import subprocess
import tempfile
import time

import numpy as np

from ragcun.core import write_json
from ragcun.store import Batch, LanceStore


def rho_of(dim): return np.linspace(.85, .05, dim)


def peak(): return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20, 2)


def fill(folder, n, dim, queue):
    rng, rho, store = np.random.default_rng(0), rho_of(dim), LanceStore(folder, dim)
    gain, start, z = (rho / np.sqrt(1 - rho ** 2)).astype(np.float32), time.time(), None
    for i in range(0, n, 20_000):
        m = min(20_000, n - i)
        z = rng.standard_normal((m, dim), np.float32)
        ids = [f"d{j}" for j in range(i, i + m)]
        store.add(Batch(ids, [f"document {name}" for name in ids], [{}] * m, z * gain))
    queue.put({"add_seconds": round(time.time() - start, 1), "add_peak_gib": peak()})


def ask(folder, n, dim, questions, ann, queue):
    start = time.time()
    store, rho = LanceStore(folder, dim), rho_of(dim)
    out = {"documents": len(store), "reopen_seconds": round(time.time() - start, 2)}
    rng = np.random.default_rng(1)
    sample = store.sample(questions, seed=2)
    z = sample.v / (rho / np.sqrt(1 - rho ** 2))
    u = ((rho * z + np.sqrt(1 - rho ** 2) * rng.standard_normal(z.shape)) / np.sqrt(1 - rho ** 2)).astype(np.float32)
    exact = timed(store, u, True)
    out["exact"] = summary(exact, sample.ids)
    if ann:
        start = time.time()
        store.build_ann(ann)
        out["ann"] = {"kind": ann, "build_seconds": round(time.time() - start, 1)}
        near = timed(store, u, False)
        out["ann"] |= summary(near, sample.ids)
        out["ann"]["recall@10"] = round(float(np.mean([len({f.id for f in a} & {f.id for f in b}) / 10 for (a, _), (b, _) in zip(near, exact, strict=True)])), 4)
    out["search_peak_gib"] = peak()
    queue.put(out)


def timed(store, u, exact):
    out = []
    for i in range(len(u)):
        start = time.perf_counter()
        hits = store.search(u[i:i + 1], 10, exact)[0]
        out.append((hits, time.perf_counter() - start))
    return out


def summary(results, ids):
    ms = np.array([t for _, t in results[2:]]) * 1000
    return {"p50_ms": round(float(np.percentile(ms, 50)), 1), "p95_ms": round(float(np.percentile(ms, 95)), 1),
            "right_first": round(float(np.mean([h[0].id == i for (h, _), i in zip(results, ids, strict=True)])), 3)}


def child(target, *args):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    p = context.Process(target=target, args=(*args, queue))
    p.start()
    out = queue.get()
    p.join()
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--questions", type=int, default=30)
    parser.add_argument("--ann", default="")
    parser.add_argument("--output", default="data/results/index_scale.json")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as d:
        result = child(fill, d, a.documents, a.dim) | child(ask, d, a.documents, a.dim, a.questions, a.ann)
        result["disk_gib"] = round(int(subprocess.run(["du", "-sk", d], capture_output=True, text=True).stdout.split()[0]) / 2 ** 20, 2)
    result["command"] = f"python tests/bench_index.py --documents {a.documents} --dim {a.dim}" + (f" --ann {a.ann}" if a.ann else "")
    write_json(a.output, result)
    print(result)

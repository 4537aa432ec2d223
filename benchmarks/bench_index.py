"""Time and memory of a large index on disk: add, reopen, search exactly and with an approximate index.

    python benchmarks/bench_index.py [--documents 1000000] [--dim 384] [--ann IVF_RQ] [--real ../shared/data]
        [--output data/results/index_scale.json]

Vectors follow the model's own law (seeded); questions are drawn given a document, so the right answer is known.
Where --real holds medquad, approximate indexes over its documents too: v of a closed form beside the vectors of the
base."""
import argparse
import multiprocessing
import resource
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from ragcun.core import write_json
from ragcun.retrieval.hits import Batch
from ragcun.retrieval.stores import LanceStore


def rho_of(dim):
    return np.linspace(.85, .05, dim)


def peak():
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20, 2)


def fill(folder, n, dim, queue):
    rng = np.random.default_rng(0)
    rho = rho_of(dim)
    store = LanceStore(folder, dim)
    gain = (rho / np.sqrt(1 - rho ** 2)).astype(np.float32)
    start = time.time()
    z = None
    for i in range(0, n, 20_000):
        m = min(20_000, n - i)
        z = rng.standard_normal((m, dim), np.float32)
        ids = [f"d{j}" for j in range(i, i + m)]
        store.add(Batch(ids, [f"document {name}" for name in ids], [{}] * m, z * gain))
    queue.put({"add_seconds": round(time.time() - start, 1), "add_peak_gib": peak()})


def ask(folder, n, dim, questions, ann, queue):
    start = time.time()
    store = LanceStore(folder, dim)
    rho = rho_of(dim)
    out = {"documents": len(store), "reopen_seconds": round(time.time() - start, 2)}
    rng = np.random.default_rng(1)
    sample = store.sample(questions, seed=2)
    z = sample.v / (rho / np.sqrt(1 - rho ** 2))
    u = ((rho * z + np.sqrt(1 - rho ** 2) * rng.standard_normal(z.shape)) / np.sqrt(1 - rho ** 2)).astype(np.float32)
    exact = timed(store, u, True)
    out["exact"] = summary(exact, sample.ids)
    for kind in ann:
        start = time.time()
        store.build_ann(kind)
        out.setdefault("ann", {})[kind] = {"build_seconds": round(time.time() - start, 1),
                                           "build_peak_gib": peak()} | sweep(store, u, exact, sample.ids)
    out["search_peak_gib"] = peak()
    queue.put(out)


def sweep(store, u, exact, ids=None):
    "Recall of the ten nearest, and latency, at several settings."
    out = {}
    for probes, refine in ((8, 4), (32, 4), (128, 4), (32, 10)):
        store.PROBES = probes
        store.REFINE = refine
        near = timed(store, u, False)
        recall = np.mean([len({f.id for f in a} & {f.id for f in b}) / 10
                          for (a, _), (b, _) in zip(near, exact, strict=True)])
        out[f"{probes} probes, refine {refine}"] = {"recall@10": round(float(recall), 4)} | summary(near, ids)
    return out


def real(root, kinds):
    "The same over real documents, where v and the base's own vectors can be compared."
    from bench_retrieval import Bench
    from ragcun.models.encoder import GaussianEncoder
    from ragcun.models.evidence import document_vector, query_vector
    b = Bench(root, "medquad", GaussianEncoder.from_base(device="cpu"), limits={})
    h, z, _ = b.questions(b.test, 200)
    out = {"documents": len(b.ids), "questions": len(h)}
    for name, v, u in (("v", document_vector(b.z, b.rho), query_vector(z, b.rho)), ("base", b.h, h)):
        with tempfile.TemporaryDirectory() as d:
            store = LanceStore(d, v.shape[1])
            store.add(Batch(b.ids, [""] * len(b.ids), [{}] * len(b.ids), np.asarray(v, np.float32)))
            u = np.asarray(u, np.float32)
            exact = timed(store, u, True)
            out[name] = {"exact": summary(exact)}
            for kind in kinds:
                start = time.time()
                store.build_ann(kind)
                out[name][kind] = {"build_seconds": round(time.time() - start, 1)} | sweep(store, u, exact)
    return out


def timed(store, u, exact):
    out = []
    for i in range(len(u)):
        start = time.perf_counter()
        hits = store.search(u[i:i + 1], 10, exact)[0]
        out.append((hits, time.perf_counter() - start))
    return out


def summary(results, ids=None):
    ms = np.array([t for _, t in results[2:]]) * 1000
    out = {"p50_ms": round(float(np.percentile(ms, 50)), 1), "p95_ms": round(float(np.percentile(ms, 95)), 1)}
    if ids is None: return out
    return (out
            | {"right_first": round(float(np.mean([h[0].id == i for (h, _), i in zip(results, ids, strict=True)])), 3)})


def child(target, *args):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    p = context.Process(target=target, args=(*args, queue))
    p.start()
    out = queue.get()
    p.join()
    return out


def synthetic(n, dim, questions, kinds):
    "Everything about one index of seeded vectors."
    with tempfile.TemporaryDirectory() as d:
        result = child(fill, d, n, dim) | child(ask, d, n, dim, questions, kinds)
        result["disk_gib"] = round(int(subprocess.run(["du", "-sk", d], capture_output=True,
                                                      text=True).stdout.split()[0]) / 2 ** 20, 2)
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--questions", type=int, default=30)
    parser.add_argument("--ann", default="IVF_RQ", help="comma-separated LanceDB names of approximate indexes")
    parser.add_argument("--real", default="../shared/data", help="folder with medquad; left out where it is not there")
    parser.add_argument("--output", default="data/results/index_scale.json")
    a = parser.parse_args()
    kinds = [k for k in a.ann.split(",") if k]
    result = synthetic(a.documents, a.dim, a.questions, kinds)
    result["20,000 documents"] = synthetic(20_000, a.dim, a.questions, ["IVF_RQ", "IVF_HNSW_SQ"])
    if Path(a.real, "medquad").is_dir():
        result["real"] = real(a.real, kinds)
    result["command"] = f"python benchmarks/bench_index.py --documents {a.documents} --dim {a.dim} --ann {a.ann}"
    write_json(a.output, result)
    print(result)

"""Time and memory of `top_k` against faiss's flat index, on the same threads.

    python tests/bench_search.py --documents 1000000 --output data/results/search_exact.json
"""
import argparse
import os
import platform
import resource
import subprocess
import sys
import time

import numpy as np

from ragcun.core import read_json, write_json
from ragcun.metrics import top_k


def vectors(documents: int, queries: int, dim: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((queries, dim), dtype=np.float32), rng.standard_normal((documents, dim), dtype=np.float32)


def timed(search, repeats: int) -> tuple[float, list[float], tuple]:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        found = search()
        times.append(time.perf_counter() - start)
    return min(times), times, found


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20


def memory(args) -> dict:
    """Peak memory of one process that only holds the vectors and searches once with top_k."""
    queries, documents = vectors(args.documents, args.queries, args.dim, args.seed)
    before = peak_gib()
    top_k(queries, documents, args.k)
    return {"vectors_gib": documents.nbytes / 2 ** 30, "before_gib": before, "peak_gib": peak_gib()}


def measured(args) -> dict:
    import faiss
    queries, documents = vectors(args.documents, args.queries, args.dim, args.seed)
    index = faiss.IndexFlatL2(args.dim)
    index.add(documents)
    pairs = []
    for _ in range(args.repeats):     # in turn, so that other load on the machine hits both
        ours, _, (distances, found) = timed(lambda: top_k(queries, documents, args.k), 1)
        theirs, _, (squared, wanted) = timed(lambda: index.search(queries, args.k), 1)
        pairs.append((ours, theirs))
    ours, theirs = (min(column) for column in zip(*pairs, strict=True))
    return {"seconds": {"top_k": ours, "faiss": theirs}, "ratio": ours / theirs, "all_seconds": pairs,
            "same_ids": float((found == wanted).mean()),
            "largest_distance_error": float(np.abs(distances - np.sqrt(squared)).max()),
            "faiss_version": faiss.__version__, "threads": faiss.omp_get_max_threads()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("documents", 1_000_000), ("queries", 1000), ("dim", 384), ("k", 100), ("repeats", 3), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--output", default="")
    parser.add_argument("--memory_only", action="store_true")
    args = parser.parse_args()
    if args.memory_only:
        write_json(args.output, memory(args))
        return
    part = f"{args.output or 'search'}.memory"
    subprocess.run([sys.executable, *sys.argv, "--memory_only", "--output", part], check=True)
    shape = {k: getattr(args, k) for k in ("documents", "queries", "dim", "k", "repeats", "seed")}
    result = {"config": shape, **measured(args), "memory": read_json(part), "numpy": np.__version__,
              "machine": f"{platform.machine()}, {os.cpu_count()} cores", "command": "python tests/" + " ".join(
                  [os.path.basename(sys.argv[0]), *sys.argv[1:]])}
    os.remove(part)
    if args.output:
        write_json(args.output, result)
    sys.stdout.write(f"{result}\n")


if __name__ == "__main__":
    main()

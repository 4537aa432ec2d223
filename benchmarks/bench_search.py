"""Time and memory of `top_k` against faiss's flat index, each on one thread and on two.

    python benchmarks/bench_search.py --output data/results/search_exact.json

On a machine that does other work too, wall time says little, and with several threads CPU time counts waiting: the
load of the machine is recorded beside the figures, and for one thread the ratio of CPU seconds is the one to read.
The two searches take turns, so that other load hits both.
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
from ragcun.measures.ranking import top_k


def vectors(documents: int, queries: int, dim: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((queries, dim),
                               dtype=np.float32), rng.standard_normal((documents, dim), dtype=np.float32)


def timed(search) -> tuple[tuple[float, float], tuple]:
    "Wall and CPU seconds, and what was found."
    wall = time.perf_counter()
    cpu = time.process_time()
    found = search()
    return (time.perf_counter() - wall, time.process_time() - cpu), found


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
    rows = []
    for _ in range(args.repeats):     # in turn, so that other load on the machine hits both
        ours, (distances, found) = timed(lambda: top_k(queries, documents, args.k))
        theirs, (squared, wanted) = timed(lambda: index.search(queries, args.k))
        rows.append({"top_k": {"wall": ours[0], "cpu": ours[1]}, "faiss": {"wall": theirs[0], "cpu": theirs[1]}})
    best = {kind: {who: min(r[who][kind] for r in rows) for who in ("top_k", "faiss")} for kind in ("wall", "cpu")}
    return {**{f"{kind}_seconds": v for kind, v in best.items()},
            **{f"{kind}_ratio": v["top_k"] / v["faiss"] for kind, v in best.items()}, "runs": rows,
            "same_ids": float((found == wanted).mean()),
            "largest_distance_error": float(np.abs(distances - np.sqrt(squared)).max()),
            "faiss_version": faiss.__version__, "threads": faiss.omp_get_max_threads()}


def alone(part: str, what: list[str], threads: str) -> dict:
    "What this script measures in a process of its own, with so many threads from its start."
    env = {**os.environ, **{f"{name}_NUM_THREADS": threads for name in ("OMP", "OPENBLAS", "MKL")}}
    subprocess.run([sys.executable, *sys.argv, *what, "--output", part], check=True, env=env)
    try:
        return read_json(part)
    finally:
        os.remove(part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("documents", 1_000_000), ("queries", 1000), ("dim", 384), ("k", 100),
                        ("repeats", 3), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--output", default="")
    parser.add_argument("--part", choices=["memory", "time"], help="measure only this, in this process")
    args = parser.parse_args()
    if args.part:
        write_json(args.output,
                   memory(args) if args.part == "memory" else {**measured(args), "load": os.getloadavg()[0]})
        return
    part = f"{args.output or 'search'}.part"
    result = {"config": {k: getattr(args, k) for k in ("documents", "queries", "dim", "k", "repeats", "seed")},
              "load_before": os.getloadavg()[0],
              "threads": {t: alone(part, ["--part", "time"], t) for t in args.threads.split(",")},
              "memory": alone(part, ["--part", "memory"], "2"), "numpy": np.__version__,
              "machine": f"{platform.machine()}, {os.cpu_count()} cores",
              "command": "python benchmarks/" + " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]])}
    if args.output:
        write_json(args.output, result)
    sys.stdout.write(f"{result}\n")


if __name__ == "__main__":
    main()

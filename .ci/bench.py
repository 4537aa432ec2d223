"""Repeat the recorded benchmarks on this machine: all of them, or those named.

    make bench                      # everything, hours
    make bench BENCH="quality null" # some

Each writes its file in data/results/, which the results notebooks read; run those again afterwards (`make sync` after executing them).
Collections are read from RAGCUN_SHARED_DATA (default ../shared/data).
"""
from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BENCHES = {
    "closed_form": ["tests/bench_closed_form.py"],
    "quality": ["tests/bench_quality.py", "demo", "squad-small", "nfcorpus-pre", "medquad", "--seeds", "2"],
    "full": ["tests/bench_full.py", "--epochs", "1"],
    "null": ["tests/bench_retrieval.py", "null"],
    "no_answer": ["tests/bench_retrieval.py", "no_answer"],
    "storage": ["tests/bench_retrieval.py", "storage"],
    "hybrid": ["tests/bench_retrieval.py", "hybrid"],
    "search": ["tests/bench_search.py", "--output", "data/results/search_exact.json"],
    "index": ["tests/bench_index.py", "--documents", "1000000", "--dim", "384"],
    "capacity": ["tests/bench_capacity.py", "squad-small"],
    "share": ["tests/bench_evaluate.py", "share", "--output", "data/results/evaluate_share.json"],
    "leaks": ["tests/data_naive.py", "data/results/naive_split.json"],
    "memory": ["tests/data_memory.py", "1000000", "data/results/prepare_memory.json"],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHES)}")
    names = parser.parse_args().names or list(BENCHES)
    unknown = [n for n in names if n not in BENCHES]
    if unknown:
        print(f"unknown benchmark: {', '.join(unknown)}. Use: {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    failed = []
    for name in names:
        started = time.perf_counter()
        print(f"── {name}: python {' '.join(BENCHES[name])}", flush=True)
        if subprocess.run([sys.executable, *BENCHES[name]], cwd=ROOT).returncode:
            failed.append(name)
        print(f"   {time.perf_counter() - started:.0f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())

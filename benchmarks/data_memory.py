"""Measure `prepare` on a million rows of JSONL. Usage: python benchmarks/data_memory.py [rows] [result.json]

Writes the rows, runs prepare in a process of its own and reports its peak resident memory and time.
"""
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUN = """
import resource, sys
from ragcun.data.preparation import PrepareConfig, prepare
report = prepare(PrepareConfig(input=sys.argv[1], output=sys.argv[2], split=(.8, .1, .1), near_duplicates=False))
print(report.kept, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(report, file=sys.stderr)
"""


def write_rows(path: Path, rows: int) -> int:
    """Rows with about two questions a document and one duplicate in twenty; returns the number of different rows."""
    rng = random.Random(0)
    words = [f"word{i}" for i in range(5000)]
    kept, last = 0, ""
    with open(path, "w") as f:
        for i in range(rows):
            if i % 20 == 19:
                f.write(last)
            else:
                document = " ".join(random.Random(i // 2).choices(words, k=80))
                last = json.dumps({"query": " ".join(rng.choices(words, k=9)), "positive": document}) + "\n"
                f.write(last)
                kept += 1
    return kept


def measure(rows: int) -> dict:
    """Peak memory and time of preparing so many rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)/"rows.jsonl"
        expected = write_rows(path, rows)
        size = path.stat().st_size
        start = time.time()
        done = subprocess.run([sys.executable, "-c", RUN, str(path), f"{folder}/out/train.jsonl"], capture_output=True,
                              text=True, check=False)
        assert done.returncode == 0, done.stderr
        kept, peak = map(int, done.stdout.split())
        assert kept == expected, (kept, expected)
    return {"rows": rows, "megabytes_of_input": round(size / 1e6), "rows_kept": kept,
            "peak_megabytes": round(peak * 1024 / 1e6), "seconds": round(time.time() - start)}


if __name__ == "__main__":
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    result = {"command": f"python benchmarks/data_memory.py {rows} data/results/prepare_memory.json",
              "what": "validate, exactly deduplicate and split JSONL", **measure(rows)}
    print(json.dumps(result))
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(json.dumps(result, indent=1) + "\n")

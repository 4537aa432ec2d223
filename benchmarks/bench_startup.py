"""Seconds until `ragcun --help` and `import ragcun` are done, beside `import torch`, in turns.

    python benchmarks/bench_startup.py [--rounds 9] [--output data/results/startup.json]
"""
from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from bench_encode import machine, versions
from ragcun.core import write_json

COMMANDS = {"python": ["-c", "pass"], "import numpy": ["-c", "import numpy"],
            "import torch": ["-c", "import torch"], "import ragcun": ["-c", "import ragcun"],
            "ragcun --help": [str(Path(sys.executable).parent/"ragcun"), "--help"],
            "from ragcun import GaussianEncoder": ["-c", "from ragcun import GaussianEncoder"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", default="data/results/startup.json")
    args = parser.parse_args()
    rows: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for r in range(args.rounds + 1):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            if r:
                rows[name].append(time.perf_counter() - started)  # the first round warms the disk
    torch = np.array(rows["import torch"])
    result = {name: {"seconds": [round(float(v), 3) for v in (np.median(s), min(s), max(s))],
                     "ratio_to_torch": round(float(np.median(np.array(s)/torch)), 3)} for name, s in rows.items()}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    write_json(args.output, {"command": "python benchmarks/bench_startup.py", "commit": commit, "machine": machine(),
                             "versions": versions(sys.executable, ("torch", "numpy")), "rounds": args.rounds,
                             "median min max": result})
    print(result)


if __name__ == "__main__":
    main()

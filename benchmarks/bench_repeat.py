"""How far the tables of this machine are from the recorded ones: largest and median difference of every measure of
quality, file by file.

    make bench && python benchmarks/bench_repeat.py                      # what the files hold now against the last
        commit
    python benchmarks/bench_repeat.py --before FOLDER --after FOLDER --output data/results/repeat.json [--as NAME]

Numbers are paired by their place in the file, rows by what they are rows of (collection, method, seed, …). Seconds
are left out: they belong to the machine.
"""
from __future__ import annotations

import argparse
import json
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ragcun.core import read_json, write_json

MEASURES = {"ndcg@10": "NDCG@10", "recall@100": "Recall@100", "auroc": "no-answer AUROC",
            "no_answer_auroc": "no-answer AUROC", "participation_ratio": "participation ratio",
            "auroc_removed": "no-answer AUROC", "auroc_foreign": "no-answer AUROC", "no_answer": "no-answer AUROC",
            "worse kept": "worse kept, share of runs", "0.01": "observed over stated, p of .01"}
FILES = ("quality", "closed_form", "peers", "full", "ablation", "no_answer", "encoding", "evaluate_collections")
MORE = ("search_quality", "answer_lists", "verdict", "two_sided", "whitening", "selection", "null_calibration",
        "documents_only", "bases", "doubt")  # what version 0.1.0 did not have
NAMES = ("collection", "method", "mode", "part", "critic", "isotropy", "objective", "share", "seed", "s",
         "rate", "pairs", "base", "decided_by", "world", "kind", "name")


def leaves(value: Any, path: tuple = ()) -> Iterator[tuple[tuple, float]]:
    "Every number with its place; a row's place is what it is named by, not where it stands."
    if isinstance(value, dict):
        for k, v in value.items():
            yield from leaves(v, (*path, k))
    elif isinstance(value, list):
        seen: Counter[tuple] = Counter()
        for i, v in enumerate(value):
            name = (tuple((k, v[k]) for k in NAMES if isinstance(v.get(k), (str, int, float)))
                    if isinstance(v, dict) else ())
            seen[name] += 1    # rows that are named alike, by their order
            yield from leaves(v, (*path, (*name, seen[name]) if name else i))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path, float(value)


def measure_of(path: tuple) -> str | None:
    "Which measure a number is one of; differences and intervals are none."
    if any("against" in str(k) or "minus" in str(k) or "gain" in str(k) or "difference" in str(k) for k in path):
        return None
    return next((MEASURES[k] for k in reversed(path[-2:]) if k in MEASURES), None)


def compare(before: dict, after: dict) -> dict[str, dict]:
    "Differences by measure, over all numbers that both have."
    old = dict(leaves(before))
    found = defaultdict(list)
    for path, value in leaves(after):
        if path in old and (measure := measure_of(path)):
            found[measure].append(abs(value - old[path]))
    return {m: {"numbers": len(v), "median": round(float(np.median(v)), 5), "largest": round(max(v), 5)}
            for m, v in sorted(found.items())}


def committed(name: str) -> dict:
    "A file as the last commit has it."
    return json.loads(subprocess.run(["git", "show", f"HEAD:data/results/{name}.json"], capture_output=True, text=True,
                                     check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="folder of JSON files; the last commit when not given")
    parser.add_argument("--after", type=Path, default=Path("data/results"))
    parser.add_argument("--files", nargs="+", default=FILES, choices=FILES + MORE)
    parser.add_argument("--output", default="")
    parser.add_argument("--as", dest="key", default="files", help="under which name, beside others that are there")
    args = parser.parse_args()
    def read(folder, name):
        return json.loads((folder/f"{name}.json").read_text())
    result = {name: compare(read(args.before, name) if args.before else committed(name), read(args.after, name))
              for name in args.files}
    for name, rows in result.items():
        for measure, d in rows.items():
            print(f"{name:21} {measure:20} {d['numbers']:5} numbers, median difference {d['median']:.4f}, "
                  f"largest {d['largest']:.4f}")
    if args.output:
        known = read_json(args.output) if Path(args.output).exists() else {}
        write_json(args.output, known | {"command": "python benchmarks/bench_repeat.py", args.key: result})


if __name__ == "__main__":
    main()

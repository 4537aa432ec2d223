"""What a row-wise split does to real data. Usage: RAGCUN_SHARED_DATA=... python benchmarks/data_naive.py
data/results/naive_split.json

For each data set: the training pairs are cut 80/20 by rows, as most scripts do it, and by `split_pairs`; counted is
how much of the test side was seen in training.
"""
import json
import os
import sys
from pathlib import Path

import numpy as np

from ragcun.data.pairs import PairSet, load_pairs
from ragcun.data.quality import data_report
from ragcun.data.splitting import drop_duplicates, find_leaks, near_duplicates, split_pairs

SHARED = Path(os.environ.get("RAGCUN_SHARED_DATA", "../shared/data"))


def measure(name: str, most: int = 20_000) -> dict:
    """Shares of test rows whose question, document or near copy of the document was trained on."""
    pairs = PairSet(load_pairs(SHARED/name).pairs[:most], name)
    order = np.random.default_rng(0).permutation(len(pairs))
    cut = int(.8 * len(pairs))
    naive = PairSet(pairs[int(i)] for i in order[:cut]), PairSet(pairs[int(i)] for i in order[cut:])
    train, _, test = split_pairs(pairs, (.8, 0, .2))
    report = data_report(pairs)
    def shares(left, right):
        return {k: round(n / len(right), 3) for k, n in find_leaks(left, right, near=True).items()}
    return {"rows": len(pairs), "documents": len(set(pairs.documents)),
            "duplicate_rows": len(pairs) - len(drop_duplicates(pairs)),
            "near_duplicate_links": len(near_duplicates(list(dict.fromkeys(pairs.documents)))),
            "cut_at_256_tokens": report.cut["positive"], "row_split": shares(*naive),
            "grouped_split": shares(train, test), "grouped_sizes": [len(train), len(test)]}


if __name__ == "__main__":
    result = {"command": "python benchmarks/data_naive.py data/results/naive_split.json",
              "sets": {n: measure(n) for n in ("squad-small", "medquad", "nfcorpus-pre")}}
    print(json.dumps(result, indent=1))
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(result, indent=1) + "\n")

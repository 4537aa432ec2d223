"""The closed form with one map for both sides and with a map for each side: test NDCG@10, everything chosen on dev.

    python benchmarks/bench_two_sided.py [demo squad-small nfcorpus-pre medquad] [--data ../shared/data] [--output
        data/results/two_sided.json]

The dev questions choose s and pool and decide whether the choice is kept; heads are solved on the training pairs, and
the test questions are looked at once. "one" and "two" are the best of each family, "kept" is what `fit` keeps of
them. Features come from the cache (RAGCUN_CACHE) where they are there."""
import argparse
import subprocess
from pathlib import Path

import numpy as np

from bench_closed_form import rounded, unseen_queries
from bench_retrieval import collection
from ragcun.core import write_json
from ragcun.measures.isotropy import participation_ratio
from ragcun.measures.paired import paired_test
from ragcun.models.encoder import GaussianEncoder
from ragcun.training.closed_form import (POOLS, ahead_of_base, choose_point, choose_shrinkage, choose_two_sided,
                                         encode_held_out, limit_positives, pair_features, shrinkages_for, solve)
from ragcun.training.selection import decide

SETS = ("demo", "squad-small", "nfcorpus-pre", "medquad")


def dev_row(p):
    return {"s": p.s, "pool": p.pool, "ndcg@10": round(p.ndcg, 4)}


def test_row(point, head, held, base, fresh):
    "One head on the test questions."
    ndcg = held.ndcg(head)
    return {**dev_row(point), "dev": round(point.ndcg, 4), "ndcg@10": round(float(ndcg.mean()), 4),
            "against_base": rounded(paired_test(ndcg, base)),
            "against_base_unseen": rounded(paired_test(ndcg[fresh], base[fresh])) if fresh.sum() > 10 else None,
            "participation_ratio": round(participation_ratio(head.project(held.x, "document")[:2000]), 4)}, ndcg


def measure(model, folder):
    "All numbers of one collection."
    every, val, test = collection(folder.parent, folder.name)
    features = pair_features(model, limit_positives(every))
    dev, held = (encode_held_out(model, d) for d in (val, test))
    splits = [(features.moments, dev)]
    one = choose_shrinkage(splits, None, shrinkages_for(features.moments.effective))
    two = choose_two_sided(splits, None, shrinkages_for(features.moments.effective))
    chosen = {"base": one[-1], "one": choose_point(one, False), "two": choose_point(two, False),
              "closed form": choose_point(one + two, False)}
    heads = {k: solve(features.moments, p.s, p.pool) for k, p in chosen.items()}
    ahead = ahead_of_base(one + two)[[p is chosen["closed form"] for p in one + two]][0]
    deciding = dev.parts[1]
    kept = decide([deciding.ndcg(heads[k]) for k in ("base", "closed form")], [1] if ahead else [])
    chosen["kept"], heads["kept"] = (chosen["closed form"], heads["closed form"]) if kept else (one[-1], heads["base"])
    base, fresh = held.ndcg(heads["base"]), unseen_queries(test, every)
    rows, scores = {}, {}
    for k in ("one", "two", "kept"):
        rows[k], scores[k] = test_row(chosen[k], heads[k], held, base, fresh)
    print(folder.name, round(float(base.mean()), 4), rows, flush=True)
    return {"pairs_used": len(features), "distinct": features.moments.distinct.astype(int).tolist(),
            "documents": len(test.corpus),
            "queries": {"dev": len(dev.q), "test": len(base), "test unseen": int(fresh.sum())},
            "base": round(float(base.mean()), 4), **rows,
            "two_against_one": rounded(paired_test(scores["two"], scores["one"])),
            "kept_against_one": rounded(paired_test(scores["kept"], scores["one"])),
            "dev": [dev_row(p) for p in one + two]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=SETS)
    parser.add_argument("--data", type=Path, default="../shared/data")
    parser.add_argument("--output", type=Path, default="data/results/two_sided.json")
    args = parser.parse_args()
    model = GaussianEncoder.from_base(device="cpu", precision="bf16")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    config = {"base": model.base_id, "precision": model.precision, "shrinkages": shrinkages_for(10**6), "pools": POOLS,
              "positives_per_query": 5, "seed": 0}
    sets = {name: measure(model, args.data/name) for name in args.sets}
    mean = {k: round(float(np.mean([s[k]["ndcg@10"] for s in sets.values()])), 4) for k in ("one", "two", "kept")}
    write_json(args.output, {"command": "python benchmarks/bench_two_sided.py", "commit": commit, "config": config,
                             "mean": mean, "sets": sets})


if __name__ == "__main__":
    main()

"""Head training from the best closed form with one map and from the best with two: dev questions that choose, those
that decide, and test.

    python benchmarks/bench_head_start.py demo nfcorpus-pre medquad [--pairs 1600 100000] [--seed 42]

`fit` starts from the closed form that it would keep, which has two maps where they are clearly better. Rows are
written after each collection and number of pairs. Collections are read from RAGCUN_SHARED_DATA (default
../shared/data). What is concluded is concluded on dev."""
import argparse
from pathlib import Path

import numpy as np
from bench_quality import collection, scores
from ragcun.core import set_seed, write_json
from ragcun.data.pairs import PairSet
from ragcun.models.encoder import GaussianEncoder
from ragcun.training.closed_form import (apply_head, choose_point, choose_shrinkage, choose_two_sided, encode_held_out,
                                         limit_positives, pair_features, shrinkages_for, solve)
from ragcun.training.config import TrainConfig, resolve_defaults
from ragcun.training.learner import Learner
from ragcun.training.run import Candidate, _after_steps, _to_train, start_candidates


def measure(name, most, seed):
    "Both starts on one collection, with at most so many pairs."
    train, dev, test = collection(name)
    if len(train) > most:
        chosen = np.sort(np.random.default_rng(0).permutation(len(train))[:most])
        train = PairSet([train[int(i)] for i in chosen], train.name)
    model = GaussianEncoder.from_base(precision="bf16")
    model.cached = True
    held, final = encode_held_out(model, dev), encode_held_out(model, test)
    config = resolve_defaults(TrainConfig(freeze_base=True, seed=seed), len(train))
    features = pair_features(model, limit_positives(train))
    splits = [(features.moments, held)]
    given = splits, model.output_dim, shrinkages_for(features.moments.effective)
    taken = start_candidates(model, train, held, config)[1].model.extra["closed_form"]["pool"]
    rows = []
    for start, points in (("one", choose_shrinkage(*given)), ("two", choose_two_sided(*given))):
        best = choose_point(points, False)
        set_seed(seed)
        closed = apply_head(model, solve(features.moments, best.s, best.pool, model.output_dim), splits)
        trained = Learner(_to_train(closed, config), train, dev, config).train()
        for c in [Candidate("closed form", closed, held), *_after_steps(trained, train, held, config)]:
            rows.append({"collection": name, "pairs": len(train), "seed": seed, "start": start, "model": c.name,
                         "taken": start == ("one" if taken is None else "two"), "s": best.s,
                         "pool": best.pool, "choose": round(float(c.scores(True)["ndcg@10"].mean()), 4),
                         "decide": round(float(c.scores()["ndcg@10"].mean()), 4),
                         "test": round(float(scores(c.model, final)[0]["ndcg@10"].mean()), 4)})
            print(rows[-1], flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="+")
    parser.add_argument("--pairs", type=int, nargs="+", default=[1600, 1_000_000], help="at most so many")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", type=Path, default="data/results/head_start.json")
    args = parser.parse_args()
    rows = []
    for name in args.collections:
        for most in args.pairs:
            rows += measure(name, most, args.seed)
            write_json(args.output, {"command": f"python benchmarks/bench_head_start.py {' '.join(args.collections)}",
                                     "rows": rows})


if __name__ == "__main__":
    main()

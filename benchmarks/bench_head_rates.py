"""Head training on the features of a frozen base: rate, centring and start, judged on training questions that were
kept out of it. Nothing of a test split is read.

    python benchmarks/bench_head_rates.py [demo nfcorpus-pre squad-small] [--e5 FOLDER] [--seed 42]
        [--output data/results/head_rates.json]

A part of the training pairs (2,000 of demo, 3,000 of squad-small, all but 700 questions of nfcorpus-pre) trains; the
others, whose documents are in no training pair but for nfcorpus-pre, are the questions of the table. Dev questions
stop the training, as in a run. --e5 names a folder of multilingual-e5-small, measured on squad-small."""
import argparse
import subprocess
from pathlib import Path

import numpy as np

from bench_quality import collection
from ragcun.core import set_seed, write_json
from ragcun.data.collections import RetrievalData
from ragcun.data.pairs import PairSet
from ragcun.measures.ranking import counted_ndcg, evaluate_vectors
from ragcun.models.encoder import GaussianEncoder
from ragcun.training.closed_form import (apply_head, choose_point, choose_shrinkage, choose_two_sided, encode_held_out,
                                         limit_positives, pair_features, shrinkages_for, solve)
from ragcun.training.config import TrainConfig, resolve_defaults
from ragcun.training.learner import Learner
from ragcun.training.run import _after_steps, _to_train

TRAIN = {"demo": 2000, "squad-small": 3000}
VARIANTS = (("one", 2e-3, False), ("one", 5e-4, True), ("two", 5e-4, True))  # maps at the start, rate, centred


def split(train, dev, name):
    "Pairs to train on, and the others as a collection."
    key = "query" if name not in TRAIN else "positive"
    values = list(dict.fromkeys(getattr(p, key) for p in train))
    order = np.random.default_rng(0).permutation(len(values))
    out = 700 if name not in TRAIN else len(values) - int(TRAIN[name]/len(train)*len(values))
    kept_out = {values[i] for i in (order[:out] if name not in TRAIN else order[len(values) - out:])}
    corpus, ids = dict(dev.corpus), {t: d for d, t in dev.corpus.items()}
    queries, qrels, number = {}, {}, {}
    for p in train:
        if getattr(p, key) in kept_out:
            name_ = f"q{number.setdefault(p.query, len(number))}"
            ids.setdefault(p.positive, f"new{len(ids)}")
            corpus.setdefault(ids[p.positive], p.positive)
            queries[name_] = p.query
            qrels.setdefault(name_, {})[ids[p.positive]] = 1
    rest = PairSet([p for p in train if getattr(p, key) not in kept_out], train.name)
    return rest, RetrievalData(corpus, queries, qrels)


def score(model, held):
    u, v = model.to_query(model.project(held.q, "query")), model.to_document(model.project(held.x, "document"))
    return round(float(counted_ndcg(u, v, held.data).mean()), 4)


def measure(name, folder, seed, variants=VARIANTS):
    "All variants on one collection."
    every, dev, _ = collection(name)
    train, fresh = split(every, dev, name)
    model = GaussianEncoder.from_base(folder, precision="bf16")
    model.cached = True
    held, asked = encode_held_out(model, dev), encode_held_out(model, fresh)
    features = pair_features(model, limit_positives(train))
    given = [(features.moments, held)], model.output_dim, shrinkages_for(features.moments.effective)
    base = float(evaluate_vectors(asked.q, asked.x, asked.data, "ip", 10)["ndcg@10"].mean())
    for start, rate, centred in variants:
        best = choose_point((choose_shrinkage if start == "one" else choose_two_sided)(*given), False)
        closed = apply_head(model, solve(features.moments, best.s, best.pool, model.output_dim), given[0])
        config = resolve_defaults(TrainConfig(freeze_base=True, seed=seed, projection_learning_rate=rate), len(train))
        set_seed(seed)
        learner = Learner(_to_train(closed, config), train, dev, config)
        if not centred:
            learner.centre = learner.validation.centre = 0.0
        trained = learner.train()
        raw = score(trained, asked)
        after = [score(c.model, asked) for c in _after_steps(trained, train, held, config)]
        row = {"collection": name, "base_model": "multilingual-e5-small" if folder else "all-MiniLM-L6-v2",
               "pairs": len(train), "questions": len(asked.q), "start": start, "rate": rate, "centred": centred,
               "seed": seed, "base": round(base, 4), "closed_form": score(closed, asked), "steps": raw,
               "trained": after[0], "refitted": after[1], "best_epoch": learner.at.best_epoch + 1}
        print(row, flush=True)
        yield row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=["demo", "nfcorpus-pre", "squad-small"])
    parser.add_argument("--e5", type=Path)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", type=Path, default="data/results/head_rates.json")
    args = parser.parse_args()
    jobs = [(name, None) for name in args.sets] + ([("squad-small", str(args.e5))] if args.e5 else [])
    rows = [row for name, folder in jobs for row in measure(name, folder, args.seed)]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    write_json(args.output, {"command": "python benchmarks/bench_head_rates.py --e5 FOLDER", "commit": commit,
                             "rows": rows})


if __name__ == "__main__":
    main()

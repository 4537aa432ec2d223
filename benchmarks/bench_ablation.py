"""What each part of the loss is worth: critic and weight of isotropy for a head, the objective of the base for full
training.

    python benchmarks/bench_ablation.py head     # minutes: 3 critics, 4 weights, 3 seeds
    python benchmarks/bench_ablation.py full     # about ten minutes a row on two cores
    python benchmarks/bench_ablation.py mix      # minutes: what head and residual layer on a frozen base learn from,
        1,600 pairs of demo and medquad
    python benchmarks/bench_ablation.py moments  # minutes: the same with the spectrum of the head held even, which
        SIGReg does not do in many dimensions

On the documentation strings of the demo and, for mix and moments, health questions (RAGCUN_SHARED_DATA), questions
of the validation split, so that looking at many rows spoils no test. Rows that are in data/results/ablation.json are
not run again.
"""
from __future__ import annotations

import argparse
import copy
import functools
import subprocess
from unittest import mock

from ragcun.cli.demonstration import DemoConfig, demo_data
from ragcun.core import read_json, write_json
from ragcun.losses import total as losses
from ragcun.losses.sigreg import second_moment_loss, sigreg_loss
from ragcun.measures.isotropy import participation_ratio
from ragcun.measures.ranking import evaluate_vectors
from ragcun.models.encoder import GaussianEncoder
from ragcun.training.closed_form import Moments, encode_held_out, limit_positives, pair_features, solve_head
from ragcun.training.config import TrainConfig, resolve_defaults
from ragcun.training.learner import Learner
from ragcun.training.run import (Candidate, refit, start_candidates, trained_features, unit_spread,
                                 whiten)

CRITICS = ("evidence", "euclidean", "cosine")
WEIGHTS = (0.0, 1.0, 10.0, 100.0)
SEEDS = (0, 1, 2)
OBJECTIVES = {  # weights of (cosine of the base, evidence, isotropy, mean and spread)
    "cosine": (1.0, 0.0, 0.0, 0.0), "cosine, evidence and isotropy at a tenth": (1.0, 0.1, 1.0, 0.1),
    "cosine, evidence and isotropy": (1.0, 1.0, 10.0, 1.0), "evidence and isotropy": (0.0, 1.0, 10.0, 1.0)}

MIXES = {"evidence and isotropy": (0.0, 1.0, 10.0, 1.0), "all at full weight": (1.0, 1.0, 10.0, 1.0),
         "mostly cosine": (10.0, 1.0, 1.0, 1.0)}
# of `second_moment_loss` beside SIGReg; at .12 an uneven spectrum weighs what SIGReg gives it in one dimension
SHARES = (0.0, 0.12, 1.2)


def measures(c: Candidate) -> dict:
    "Quality and health of a candidate on the validation set."
    return {"ndcg@10": float(c.scores()["ndcg@10"].mean()), **c.health()}


def start(model, pairs, s=0.3):
    "A copy of the base with a closed-form head of fixed shrinkage."
    f = pair_features(model, limit_positives(pairs))
    head = solve_head(Moments.of(f.q, f.x), s)
    mine = model.clone_head().set_head(head.weight, head.bias, head.rho)
    mine.base = copy.deepcopy(model.base)
    return mine


def head_row(model, data, critic: str, weight: float, seed: int) -> dict:
    "Head training: the trained head as its critic ranks, and refitted."
    config = resolve_defaults(TrainConfig(freeze_base=True, critic=critic, lambda_isotropy=weight, lambda_cosine=0.0,
                                          seed=seed), len(data.train))
    learner = Learner(start(model, data.train), data.train, data.val, config)
    trained = learner.train()
    held = encode_held_out(model, data.val)
    best = max(r["val_ndcg@10"] for r in learner.rows if r["kind"] == "epoch")
    return {"best_epoch_ndcg@10": best, "trained": measures(unit_spread(Candidate("trained", trained, held))),
            "refitted": measures(unit_spread(refit(trained, trained_features(trained, data.train), held, config)))}


def full_row(model, data, name: str, seed: int) -> dict:
    "Full training for 50 steps: the cosine of the trained base, and the refit on it."
    cosine, evidence, isotropy, reg = OBJECTIVES[name]
    pairs = data.train[:1600]
    config = resolve_defaults(TrainConfig(epochs=1, seed=seed, lambda_cosine=cosine, lambda_contrastive=evidence,
                                          lambda_isotropy=isotropy, lambda_reg=reg, val_documents=1000), len(pairs))
    learner = Learner(start(model, pairs), pairs, data.val, config)
    trained = learner.train()
    held = encode_held_out(trained, data.val)
    raw = evaluate_vectors(held.q, held.x, data.val, "ip")["ndcg@10"].mean()
    return {"cosine_ndcg@10": float(raw), "cosine_participation_ratio": participation_ratio(held.x),
            "refitted": measures(refit(trained, trained_features(trained, pairs), held, config))}


@functools.cache
def task_of(collection: str):
    "The peers' task of a collection, loaded once."
    from bench_peers import Task
    return Task.load(collection)


def mix_row(model, collection: str, objective: str, seed: int, share: float = 0.0) -> dict:
    """Head and residual layer on 1,600 pairs: start, and what training leaves: as it is, in whitened coordinates
    where `fit` would take them, and refitted."""
    task = task_of(collection)
    cosine, evidence, isotropy, reg = MIXES[objective]
    config = resolve_defaults(TrainConfig(freeze_base=True, seed=seed, lambda_cosine=cosine,
                                          lambda_contrastive=evidence, lambda_isotropy=isotropy, lambda_reg=reg),
                              len(task.train))
    held = encode_held_out(model, task.dev)
    first = start_candidates(model, task.train, held, config)
    with mock.patch.object(losses, "sigreg_loss",
                           lambda z, **more: sigreg_loss(z, **more) + share*second_moment_loss(z)):
        trained = Learner(first[1].model.clone_head(), task.train, task.dev, config).train()
    plain = Candidate("trained", trained, held)
    features = trained_features(trained, task.train)
    return {"base": measures(first[0]), "closed form": measures(first[1]),
            "as it is": measures(unit_spread(plain)), "trained": measures(unit_spread(whiten(plain, features))),
            "refitted": measures(unit_spread(refit(trained, features, held, config)))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("head", "full", "mix", "moments"))
    parser.add_argument("--output", default="data/results/ablation.json")
    parser.add_argument("--again", action="store_true", help="also what is recorded")
    args = parser.parse_args()
    try:
        recorded = read_json(args.output)
    except ValueError:
        recorded = {}
    rows = recorded.get("rows", [])
    if args.again:
        rows = [r for r in rows if r["part"] != args.part]
    data, model = demo_data(DemoConfig()), GaussianEncoder.from_base(device="cpu")
    model.cached = True
    wanted = {"head": [{"critic": c, "isotropy": w, "seed": s} for c in CRITICS for w in WEIGHTS for s in SEEDS],
              "full": [{"objective": o, "seed": 0} for o in OBJECTIVES],
              "mix": [{"collection": c, "objective": o, "seed": s}
                      for c in ("demo", "medquad") for o in MIXES for s in SEEDS[:2]],
              "moments": [{"collection": c, "objective": o, "share": k, "seed": s} for c in ("demo", "medquad")
                          for o in MIXES if o != "all at full weight" for k in SHARES for s in SEEDS[:2]]}
    row_of = {"head": lambda critic, isotropy, seed: head_row(model, data, critic, isotropy, seed),
              "full": lambda objective, seed: full_row(model, data, objective, seed),
              "mix": lambda **key: mix_row(model, **key), "moments": lambda **key: mix_row(model, **key)}[args.part]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    for key in wanted[args.part]:
        if any(({"part": args.part} | key).items() <= r.items() for r in rows): continue
        rows.append({"part": args.part, **key, **row_of(**key), "commit": commit})
        write_json(args.output, {"command": "python benchmarks/bench_ablation.py head, then full, mix and moments",
                                 "commit": recorded.get("commit", commit), "pairs": len(data.train),
                                 "queries": len(data.val.qrels), "rows": rows})
        print(key, {k: round(v["ndcg@10"], 4) for k, v in rows[-1].items() if isinstance(v, dict)}, flush=True)


if __name__ == "__main__":
    main()

"""The curves of a full training run (base and head) on documentation strings: data/results/full_curves.json, which the
page on the learner draws.

    python benchmarks/bench_curves.py [--pairs 900] [--epochs 3] [--output data/results/full_curves.json]

The pairs are summary sentences and the rest of documentation strings of numpy, scipy and matplotlib; a tenth is set
aside for validation. Training starts from the closed form, texts are cut at 64 tokens. The last row, of kind `kept`,
is the closed form solved once more on the features of the trained base."""
import argparse
import platform
import subprocess
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from ragcun.core import write_json
from ragcun.data.generation import python_package_pairs
from ragcun.models.encoder import GaussianEncoder
from ragcun.training.closed_form import Moments, fit_closed_form, solve_head
from ragcun.training.config import TrainConfig, resolve_defaults
from ragcun.training.learner import Learner, set_aside
from ragcun.training.step import Critic

PACKAGES = ("numpy", "scipy", "matplotlib")
SHRINKAGES = (.2, .3, .45, .6)


def refitted(learner, best, moments):
    "Rows of the closed form on the trained base, one for each s; the head is scaled to unit spread."
    hq, hx = learner.validation.features(best)
    for s in SHRINKAGES:
        head = solve_head(moments, s)
        model = best.clone_head().set_head(head.weight, head.bias, head.rho)
        spread = (model.project(hq, "query").std(0).mean() + model.project(hx, "document").std(0).mean())/2
        model.set_head(head.weight/spread, head.bias/spread, head.rho)
        yield {"kind": "kept", "step": learner.at.step, "s": s, **learner.validation.measure(Critic(model.rho), model)}


def measure(count, epochs, seed=0):
    "Rows of the run."
    base = GaussianEncoder.from_base(device="cpu", precision="no")
    base.base.max_seq_length = 64
    pairs, val, source = set_aside(python_package_pairs(list(PACKAGES), max_pairs=count), None, seed)
    config = resolve_defaults(TrainConfig(epochs=epochs, patience=0, seed=seed), len(pairs))
    learner = Learner(fit_closed_form(base, pairs), pairs, val, config)
    best = learner.train()
    best.cached = False
    moments = Moments.of(best.features(pairs.queries, "query"), best.features(pairs.documents))
    rows = [*learner.rows, max(refitted(learner, best, moments), key=lambda r: r["val_ndcg@10"])]
    return [{k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in rows], config, source


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=900)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--output", default="data/results/full_curves.json")
    args = parser.parse_args()
    rows, config, source = measure(args.pairs, args.epochs)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    drop = {"predictive", "train_predictive", "val_predictive"}
    write_json(args.output, {
        "command": f"python benchmarks/bench_curves.py --pairs {args.pairs} --epochs {args.epochs}", "commit": commit,
        "texts": "documentation strings of " + ", ".join(f"{p} {version(p)}" for p in PACKAGES),
        "validation": source, "python": platform.python_version(),
        "versions": {p: version(p) for p in ("torch", "transformers", "sentence-transformers")},
        "config": {k: v for k, v in asdict(config).items() if v is not None},
        "rows": [{k: v for k, v in row.items() if k not in drop} for row in rows]})
    print(Path(args.output).stat().st_size, "bytes")


if __name__ == "__main__":
    main()

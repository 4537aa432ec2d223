"""How often a run keeps a worse model when nothing is gained, and whether the interval it states covers: the whole
decision on simulated questions.

    python benchmarks/bench_selection.py [--runs 400] [--output data/results/selection.json]

A question has an NDCG of its own under the base; a candidate adds noise that neighbouring candidates share, as models
of one family do. In "no gain" every candidate's true gain is 0 or below, so that giving up the base is a mistake. The
choice among the closed forms, the look at all of them, the cross-fitted gain and the decision among base, closed form
and trained models are the functions of `ragcun.training`, called as `fit` calls them. Only the bootstrap intervals are
replaced by mean ± 1.96 standard errors: little else at these numbers of questions, and much faster.

"naive" is what is warned of: the best of all on the questions that also decide, kept when it is ahead by one standard
error, with the plain interval of the chosen."""
import argparse
import subprocess
from pathlib import Path

import numpy as np

from ragcun.core import write_json
from ragcun.measures.paired import Difference
from ragcun.training import closed_form, selection
from ragcun.training.closed_form import POOLS, ShrinkagePoint, ahead_of_base, choose_point, shrinkages_for
from ragcun.training.selection import clearly_better, cross_fitted, decide



def interval(a, b, seed=0):
    "Paired difference with a normal interval."
    d = np.asarray(a) - np.asarray(b)
    error = d.std(ddof=1)/np.sqrt(len(d))
    return Difference(float(d.mean()), float(d.mean() - 1.96*error), float(d.mean() + 1.96*error), float("nan"), len(d))


selection.paired_test = closed_form.paired_test = interval
SIZES = (60, 150, 400)
WORLDS = {  # true gain of the best candidate, how alike neighbours are, spread of one question's gain
    "no gain, alike": (0.0, .9, .15), "no gain, unlike": (0.0, .3, .15), "all slightly worse": (-.01, .6, .15),
    "a small gain": (.02, .9, .15), "a gain": (.05, .9, .15)}


def world(rng, n, gain, alike, spread):
    "Gains [candidates, n] of closed forms with one map and with two, and of three trained models; true gains."
    forms = [(s, None) for s in shrinkages_for(10**6)[:-1]] + [(s, POOLS[0]) for s in shrinkages_for(10**6)[:-1]]
    forms += [(.3, p) for p in POOLS[1:]] + [(s, POOLS[2]) for s in shrinkages_for(10**6)[:-1] if s != .3]
    k = len(forms) + 3
    common = rng.standard_normal(n)
    noise = np.empty((k, n))
    noise[0] = rng.standard_normal(n)
    for i in range(1, k):
        noise[i] = alike*noise[i - 1] + np.sqrt(1 - alike**2)*rng.standard_normal(n)
    noise = spread*(np.sqrt(alike)*common + np.sqrt(1 - alike)*noise)
    noise *= rng.random((1, n)) < .6  # most questions have the same first hits under both
    true = gain*(1 - np.abs(np.linspace(-1, 1, k))) if gain > 0 else np.full(k, gain)
    return forms, noise + true[:, None], true


def points(forms, gains):
    "The closed forms as `best_head` sees them, the base among them."
    n = gains.shape[1]
    rows = []
    for (s, pool), g in zip(forms, gains, strict=False):
        rows.append(ShrinkagePoint(s, .5 + float(g.mean()), interval(g, np.zeros(n)), 0., pool, g))
    return [*rows, ShrinkagePoint(1.0, .5, interval(np.zeros(n), np.zeros(n)), 0., None, np.zeros(n))]


def one(rng, n, gain, alike, spread):
    "One run: what is kept, its true gain, and whether stated intervals hold it."
    forms, gains, true = world(rng, n, gain, alike, spread)
    many = n >= selection.ENOUGH
    # few validation questions do not choose the closed form: cross-validation on training pairs does
    seen = gains if many else world(rng, 600, gain, alike, spread)[1]
    half = rng.permutation(n) < n//2
    deciding = ~half if many else np.ones(n, bool)
    found = points(forms, seen)
    best = choose_point(found, gated=False)
    place = next(i for i, p in enumerate(found) if p is best)
    closed, closed_true = (gains[place], true[place]) if place < len(forms) else (np.zeros(n), 0.)
    trained = gains[len(forms):]
    ahead = bool(ahead_of_base(found)[place])
    zero = np.zeros(deciding.sum())
    kept = decide([zero, closed[deciding], *trained[:, deciding]], [1] if ahead else [])
    kept_true = (0., closed_true, *true[len(forms):])[kept]
    every = np.stack([p.gains for p in found])
    fair = cross_fitted(every, rng.permutation(every.shape[1]) < every.shape[1]//2)
    stated = interval(fair, np.zeros(len(fair)))
    said = interval((closed, *trained)[kept - 1][deciding], zero) if kept else None
    best_all = int(gains.mean(1).argmax())
    naive = interval(gains[best_all], np.zeros(n))
    return {"gave up the base": kept > 0, "worse kept": kept > 0 and kept_true <= 0, "true": kept_true,
            "naive worse kept": bool(clearly_better(naive)) and true[best_all] <= 0,
            "cross-fitted covers": not (ahead and kept == 1) or stated.low <= closed_true <= stated.high,
            "kept covers": said is None or said.low <= kept_true <= said.high,
            "naive covers": naive.low <= true[best_all] <= naive.high}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--output", type=Path, default="data/results/selection.json")
    args = parser.parse_args()
    rows = []
    for name, (gain, alike, spread) in WORLDS.items():
        for n in SIZES:
            rng = np.random.default_rng([n, int(1000*alike), int(1000*(gain + 1))])
            runs = [one(rng, n, gain, alike, spread) for _ in range(args.runs)]
            rows.append({"world": name, "questions": n, **{k: round(float(np.mean([r[k] for r in runs])), 4)
                                                           for k in runs[0]}})
            print(rows[-1], flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    write_json(args.output, {"command": "python benchmarks/bench_selection.py", "commit": commit,
                             "config": {"runs": args.runs, "worlds": WORLDS, "candidates": 32}, "rows": rows})


if __name__ == "__main__":
    main()

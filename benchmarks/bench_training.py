"""Pairs a second and peak memory of training, against sentence-transformers on the same pairs, batch, lengths and
precision; and the closed form.

    python benchmarks/bench_training.py [full head closed_form] [--precision bf16 no] [--output
        data/results/training_speed.json]

full: base and head are trained. The peer is sentence-transformers' MultipleNegativesRankingLoss in a plain loop
(tokenise, autocast, backward, clip, AdamW), which is what its trainer does without the trainer's own overhead. head:
the base is frozen; the peer runs it forward in every step, under a trained Dense. closed_form: seconds on random
features. Contestants are processes that take turns; pairs are health questions and answers (medquad). Parts that the
file holds for this commit are skipped unless --again.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench_encode import Contestant, high_water, machine, versions

BATCH, RATE = 32, 2e-5


# ── contestants: each gives a function that takes rows and trains one step on them
def training_pairs(data):
    from ragcun.data.pairs import load_pairs
    return load_pairs(Path(data)/"medquad", "train")[:4000]


def no_validation():
    from ragcun.data.collections import RetrievalData
    return RetrievalData({"d": "a document"}, {"q": "a question"}, {"q": {"d": 1}})


def ours(pairs, precision, frozen, batch):
    from ragcun.models.encoder import GaussianEncoder
    from ragcun.training.config import TrainConfig, resolve_defaults
    from ragcun.training.learner import Learner
    model = GaussianEncoder.from_base(device="cpu", precision=precision)
    learner = Learner(model, pairs, no_validation(), resolve_defaults(
        TrainConfig(freeze_base=frozen, batch_size=batch, epochs=20 if frozen else 1, seed=0), len(pairs)))
    model.base.train(not frozen)
    return lambda rows: learner.step(rows)["contrastive"]


def peer(pairs, precision, frozen, batch):
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.modules import Dense

    from bench_encode import minilm
    torch.manual_seed(0)
    base = SentenceTransformer(minilm(), device="cpu", local_files_only=True)
    if frozen:
        base.requires_grad_(False)
        base.append(Dense(384, 384, activation_function=torch.nn.Identity()))
    trained = [p for p in base.parameters() if p.requires_grad]
    loss_function = MultipleNegativesRankingLoss(base)
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.01)
    base.train()
    def step(rows):
        texts = [[pairs[int(i)].query for i in rows], [pairs[int(i)].positive for i in rows]]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = loss_function([base.preprocess(t) for t in texts], None)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())
    return step


def worker(args, answers):
    "Answer requests {first, steps} with seconds, mean loss and memory."
    from ragcun.training.step import epoch_batches
    who, precision, frozen, batch = json.loads(args.worker)
    pairs = training_pairs(args.data)
    step = (ours if who == "ragcun" else peer)(pairs, precision, frozen, batch)
    batches = epoch_batches(len(pairs), batch, 0, 0)
    for line in sys.stdin:
        job = json.loads(line)
        rows = [batches[i % len(batches)] for i in range(job["first"], job["first"] + job["steps"])]
        started = time.perf_counter()
        cpu = time.process_time()
        loss = float(np.mean([step(r) for r in rows]))
        seconds = time.perf_counter() - started
        cpu = time.process_time() - cpu
        answers.write(json.dumps({"pairs": sum(map(len, rows)), "seconds": seconds, "cpu": cpu, "loss": loss,
                                  "mib": high_water()}) + "\n")
        answers.flush()


class Trainer(Contestant):
    "A process that trains when asked."
    def __init__(self, name, spec, args, env):
        self.name = name
        self.process = subprocess.Popen([sys.executable, __file__, "--worker", json.dumps(spec), "--data", args.data],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)


def duel(first, second, args, steps):
    "Both in turn, until the rounds or the seconds are used up; speed, memory and the ratio round by round."
    rows = []
    begun = time.perf_counter()
    for c in (first, second):
        c.ask(first=0, steps=1)
    for r in range(args.rounds):
        if r > 2 and time.perf_counter() - begun > args.seconds: break
        row = {c.name: c.ask(first=1 + r*steps[c.name], steps=steps[c.name])
               for c in ((first, second) if r % 2 else (second, first))}
        row["load"] = round(os.getloadavg()[0], 1)
        rows.append(row)
        print({n: round(row[n]["pairs"]/row[n]["seconds"], 1) for n in (first.name, second.name)},
              "pairs a second", flush=True)
    for c in (first, second):
        c.stop()
    out = {}
    for c in (first, second):
        mine = [r[c.name] for r in rows]
        out[c.name] = {"pairs_per_second": round(float(np.median([m["pairs"]/m["seconds"] for m in mine])), 1),
                       "steps": len(rows)*steps[c.name], "peak_mib": round(max(m["mib"] for m in mine)),
                       "loss": [round(m["loss"], 3) for m in mine]}
    for kind in ("seconds", "cpu"):
        ratio = [r[first.name]["pairs"]/r[first.name][kind]/(r[second.name]["pairs"]/r[second.name][kind])
                 for r in rows]
        out["ratio" if kind == "seconds" else "cpu_ratio"] = [round(float(v), 2)
                                                              for v in (np.median(ratio), min(ratio), max(ratio))]
    return out | {"rounds": [{k: round(r[k]["seconds"], 3) if isinstance(r[k], dict) else r[k] for k in r}
                             for r in rows]}


def full(args, precision, env):
    team = [Trainer(n, (n, precision, False, BATCH), args, env) for n in ("ragcun", "sentence-transformers")]
    return duel(*team, args, dict.fromkeys(("ragcun", "sentence-transformers"), args.steps))


def head(args, precision, env):
    "Equal batch: one epoch of ours against a few steps of the peer."
    fast = Trainer("ragcun", ("ragcun", precision, True, BATCH), args, env)
    slow = Trainer("sentence-transformers", ("sentence-transformers", precision, True, BATCH), args, env)
    return duel(fast, slow, args, {"ragcun": 125, "sentence-transformers": args.steps})


def head_default(args, precision, env):
    "The same with the batch that ragcun chooses for itself."
    fast = Trainer("ragcun", ("ragcun", precision, True, 1000), args, env)
    slow = Trainer("sentence-transformers", ("sentence-transformers", precision, True, BATCH), args, env)
    return duel(fast, slow, args, {"ragcun": 40, "sentence-transformers": args.steps})


def synthetic(n, d, seed=0):
    "Features of n related pairs with a spectrum that falls as that of real ones does."
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((n, d), np.float32)
    spread = np.arange(1, d + 1, dtype=np.float32)**-.5
    sides = ((common + .7*rng.standard_normal((n, d), np.float32))*spread for _ in range(2))
    return tuple(h/np.linalg.norm(h, axis=1, keepdims=True) for h in sides)


def closed_form(args, precision, env):
    "In a process of its own, with one thread and with all."
    def run(threads):
        limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        done = subprocess.run([sys.executable, __file__, "--worker", json.dumps("closed_form")], env=env | limits,
                              stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(done.stdout)
    return run(1) | {"threads": 1, "more threads": run(args.threads) | {"threads": args.threads}}


def solve(answers):
    "Seconds to solve for one s, and to choose s among eight by three-fold cross-validation, solve and calibrate."
    from ragcun.training.closed_form import (Moments, PairFeatures, choose_point, choose_shrinkage, evidence_samples,
                                             fit_calibration, solve_head, validation_splits)
    out = {}
    for d in (384, 768):
        given = PairFeatures(*synthetic(10_000, d), [f"q{i}" for i in range(10_000)], [f"d{i}" for i in range(10_000)])
        rows = {k: [] for k in ("solve_seconds", "solve_cpu_seconds", "with_choice_seconds", "with_choice_cpu_seconds")}
        for repeat in range(4):
            features = replace(given)  # remembers nothing of the last round
            times = [(time.perf_counter(), time.process_time())]
            solve_head(Moments.of(features.q, features.x), .3)
            times.append((time.perf_counter(), time.process_time()))
            splits = validation_splits(features)
            final = solve_head(features.moments, choose_point(choose_shrinkage(splits)).s)
            fit_calibration(*evidence_samples(final, splits[0][1]))
            times.append((time.perf_counter(), time.process_time()))
            if repeat:  # the first one imports
                for i, name in enumerate(("solve", "with_choice")):
                    for j, kind in enumerate(("seconds", "cpu_seconds")):
                        rows[f"{name}_{kind}"].append(round(times[i + 1][j] - times[i][j], 2))
        out[f"10,000 x {d}"] = rows
        print(d, rows, flush=True)
    answers.write(json.dumps(out))


PARTS = {"full": full, "head": head, "head_default": head_default, "closed_form": closed_form}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--precision", nargs="*", default=["bf16", "no"])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=4, help="of each in a round")
    parser.add_argument("--seconds", type=float, default=900, help="of a part, after which no new round begins")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--data", default=os.environ.get("RAGCUN_SHARED_DATA", "../shared/data"))
    parser.add_argument("--output", default="data/results/training_speed.json")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        return solve(answers) if args.worker == '"closed_form"' else worker(args, answers)
    from ragcun.core import read_json, write_json
    env = os.environ | {"OMP_NUM_THREADS": str(args.threads), "OPENBLAS_NUM_THREADS": str(args.threads),
                        "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    result = read_json(args.output) if Path(args.output).exists() else {}
    result |= {"command": "python benchmarks/bench_training.py",
               "versions": versions(sys.executable, ("torch", "transformers", "sentence-transformers")),
               "threads": args.threads,
               "config": {"pairs": "medquad, first 4,000 of train", "batch": BATCH, "max_seq_length": 256, "seed": 0}}
    for part in args.parts:
        for precision in args.precision if part != "closed_form" else ["float64"]:
            key = f"{part} {'fp32' if precision == 'no' else precision}"
            if not args.again and result.get(key, {}).get("commit") == commit: continue
            print("──", key, flush=True)
            result[key] = PARTS[part](args, precision, env) | {"commit": commit, "machine": machine()}
            write_json(args.output, result)
    print(json.dumps({k: {n: w for n, w in v.items() if n != "rounds"}
                      for k, v in result.items() if isinstance(v, dict) and "commit" in v}, indent=1))


if __name__ == "__main__":
    main()

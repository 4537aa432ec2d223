"""Full fine-tuning: ragcun against sentence-transformers' MultipleNegativesRankingLoss on the same pairs, base, batch, steps and precision.

    python tests/bench_full.py --epochs 1 --output data/results/full.json

The data are the documentation strings of the demo; test questions, whose documents took no part in training, are ranked among all documents.
"""
from __future__ import annotations

import argparse
import time
from dataclasses import asdict

import numpy as np
import torch

from ragcun.closed_form import HeldOut, participation_ratio
from ragcun.core import read_json, set_seed, write_json
from ragcun.demo import DemoConfig, demo_data
from ragcun.learner import TrainConfig
from ragcun.loop import epoch_batches, warmup_cosine
from ragcun.metrics import evaluate_vectors, paired_test
from ragcun.model import GaussianEncoder, encode_features
from ragcun.train import fit

BATCH, RATE = 32, 2e-5


def peer(data, epochs: int, seed: int) -> tuple[HeldOut, float]:
    "sentence-transformers' loss in a plain loop with the same schedule; features of the test collection and training seconds."
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    set_seed(seed)
    model = GaussianEncoder.from_base(device="cpu")
    base, pairs = model.base, data.train
    loss_function = MultipleNegativesRankingLoss(base)
    optimizer = torch.optim.AdamW(base.parameters(), lr=RATE, weight_decay=0.01)
    steps = [rows for e in range(epochs) for rows in epoch_batches(len(pairs), BATCH, seed, e)]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: warmup_cosine(i, len(steps)))
    base.train()
    started = time.perf_counter()
    for rows in steps:
        texts = [[pairs[int(i)].query for i in rows], [pairs[int(i)].positive for i in rows]]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=model.precision == "bf16"):
            loss = loss_function([base.preprocess(t) for t in texts], None)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(base.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    seconds = time.perf_counter() - started
    return features(model, data.test), seconds


def features(model, test) -> HeldOut:
    "Normalised features of the test collection."
    encode = lambda texts: encode_features(model.base, list(texts), None, model.precision)
    return HeldOut(encode(test.queries.values()), encode(test.corpus.values()), test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max_pairs", type=int, default=2000)
    parser.add_argument("--output", default="data/results/full.json")
    args = parser.parse_args()
    data = demo_data(DemoConfig(max_pairs=args.max_pairs))
    untouched = GaussianEncoder.from_base(device="cpu")
    untouched.cached = True
    base = evaluate_vectors(untouched.features(list(data.test.queries.values()), "query"), untouched.features(list(data.test.corpus.values())), data.test, "ip")["ndcg@10"]
    started = time.perf_counter()
    result = fit(untouched, data.train, data.val, TrainConfig(epochs=args.epochs, batch_size=BATCH, base_learning_rate=RATE, seed=args.seed))
    ours_seconds = time.perf_counter() - started
    held = features(result.model, data.test)
    q, x = result.model.project(held.q), result.model.project(held.x)
    ours = evaluate_vectors(result.model.to_query(q), result.model.to_document(x), data.test)["ndcg@10"]
    theirs_held, theirs_seconds = peer(data, args.epochs, args.seed)
    theirs = evaluate_vectors(theirs_held.q, theirs_held.x, data.test, "ip")["ndcg@10"]
    row = {"epochs": args.epochs, "seed": args.seed, "pairs": len(data.train), "queries": len(ours), "documents": len(data.test.corpus),
           "base": float(base.mean()), "ragcun": {"ndcg@10": float(ours.mean()), "kept": result.report["kept"], "participation_ratio": participation_ratio(x),
           "seconds_with_validation": round(ours_seconds, 1), "validation": result.report["candidates"]},
           "sentence-transformers": {"ndcg@10": float(theirs.mean()), "participation_ratio": participation_ratio(theirs_held.x), "seconds": round(theirs_seconds, 1),
                                     "pairs_per_second": round(args.epochs*len(data.train)/theirs_seconds, 1)},
           "ragcun minus sentence-transformers": asdict(paired_test(ours, theirs)), "ragcun minus base": asdict(paired_test(ours, base)), "torch_threads": torch.get_num_threads()}
    try: rows = read_json(args.output)["rows"]
    except ValueError: rows = []
    write_json(args.output, {"command": "python tests/bench_full.py --epochs 1", "rows": [*rows, row]})
    print(np.round([base.mean(), ours.mean(), theirs.mean()], 4), row["ragcun minus sentence-transformers"], row["ragcun"]["kept"], ours_seconds, theirs_seconds)


if __name__ == "__main__":
    main()

"""Full fine-tuning: ragcun against sentence-transformers' MultipleNegativesRankingLoss on the same pairs, base,
batch, steps, rate and precision.

    python benchmarks/bench_full.py                          # both, at the trainers' usual rate of 5e-5
    python benchmarks/bench_full.py --rate 2e-5 --seed 1

The data are the documentation strings of the demo; test questions, whose documents took no part in training, are
ranked among all documents. Every choice (length of the update, shrinkage, what is kept) is made on the validation
questions. Each run appends a row to data/results/full.json; a row that is there is not run again.
"""
from __future__ import annotations

import argparse
import time
from dataclasses import asdict

import numpy as np
import torch

from ragcun.cli.demonstration import DemoConfig, demo_data
from ragcun.core import read_json, set_seed, write_json
from ragcun.measures.isotropy import participation_ratio
from ragcun.measures.paired import paired_test
from ragcun.measures.ranking import evaluate_vectors
from ragcun.models.base import encode_features
from ragcun.models.encoder import GaussianEncoder
from ragcun.training.closed_form import HeldOut, Moments, solve_head
from ragcun.training.config import TrainConfig
from ragcun.training.run import fit
from ragcun.training.step import epoch_batches, warmup_cosine

BATCH = 32


def peer_model(pairs, rate: float, epochs: int, seed: int) -> tuple[GaussianEncoder, float]:
    "The base after sentence-transformers' loss in a plain loop with the same schedule, and training seconds."
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    set_seed(seed)
    model = GaussianEncoder.from_base(device="cpu")
    base = model.base
    loss_function = MultipleNegativesRankingLoss(base)
    optimizer = torch.optim.AdamW(base.parameters(), lr=rate, weight_decay=0.01)
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
    model.base_changed = True
    return model, time.perf_counter() - started


def peer(data, rate: float, epochs: int, seed: int) -> tuple[HeldOut, float]:
    "Features of the test collection by the peer, and training seconds."
    model, seconds = peer_model(data.train, rate, epochs, seed)
    return features(model, data.test), seconds


def features(model, test) -> HeldOut:
    "Normalised features of the test collection."
    def encode(texts):
        return encode_features(model.base, list(texts), None, model.precision)
    return HeldOut(encode(test.queries.values()), encode(test.corpus.values()), test)


def isotropy_curve(model, pairs, held: HeldOut) -> list[dict]:
    """Test quality and isotropy of the closed form on the trained base, for each s: in whitened coordinates, and as
    solved."""
    moments = Moments.of(model.features(pairs.queries, "query"), model.features(pairs.documents))
    points = []
    for s in (0.03, 0.1, 0.3, 0.6, 0.8):
        ball, egg = (solve_head(moments, s, isotropic=turned) for turned in (True, False))
        def row(h):
            return {"ndcg@10": float(held.ndcg(h).mean()),
                    "participation_ratio": participation_ratio(h.project(held.x, "document"))}
        points.append({"s": s, **row(ball), "as solved": row(egg)})
    return points


def run(data, rate: float, epochs: int, seed: int) -> dict:
    "One comparison."
    untouched = GaussianEncoder.from_base(device="cpu")
    untouched.cached = True
    before = HeldOut(untouched.features(list(data.test.queries.values()), "query"),
                     untouched.features(list(data.test.corpus.values())), data.test)
    base = evaluate_vectors(before.q, before.x, data.test, "ip")["ndcg@10"]
    started = time.perf_counter()
    result = fit(untouched, data.train, data.val,
                 TrainConfig(epochs=epochs, batch_size=BATCH, base_learning_rate=rate, seed=seed, finish_head=False))
    ours_seconds = time.perf_counter() - started
    held = features(result.model, data.test)
    q = result.model.project(held.q, "query")
    x = result.model.project(held.x, "document")
    ours = evaluate_vectors(result.model.to_query(q), result.model.to_document(x), data.test)["ndcg@10"]
    cosine = evaluate_vectors(held.q, held.x, data.test, "ip")["ndcg@10"]
    theirs_held, theirs_seconds = peer(data, rate, epochs, seed)
    theirs = evaluate_vectors(theirs_held.q, theirs_held.x, data.test, "ip")["ndcg@10"]
    return {"rate": rate, "epochs": epochs, "seed": seed, "pairs": len(data.train),
            "queries": len(ours), "documents": len(data.test.corpus), "base": float(base.mean()),
            "ragcun": {"ndcg@10": float(ours.mean()), "kept": result.report["kept"],
                       "update_scale": result.report["update_scale"], "participation_ratio": participation_ratio(x),
                       "embedding_std": float(x.std(0).mean()), "cosine_of_the_trained_base": float(cosine.mean()),
                       "seconds_with_validation": round(ours_seconds, 1), "validation": result.report["candidates"],
                       "dial": isotropy_curve(result.model, data.train, held)},
            "sentence-transformers": {"ndcg@10": float(theirs.mean()),
                                      "participation_ratio": participation_ratio(theirs_held.x),
                                      "seconds": round(theirs_seconds, 1)},
            "ragcun minus sentence-transformers": asdict(paired_test(ours, theirs)),
            "ragcun minus base": asdict(paired_test(ours, base)),
            "sentence-transformers minus base": asdict(paired_test(theirs, base)),
            "torch_threads": torch.get_num_threads()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=5e-5)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max_pairs", type=int, default=4000)
    parser.add_argument("--output", default="data/results/full.json")
    parser.add_argument("--again", action="store_true", help="also what is recorded")
    args = parser.parse_args()
    try:
        rows = read_json(args.output)["rows"]
    except ValueError:
        rows = []
    data = demo_data(DemoConfig(max_pairs=args.max_pairs))
    key = {"rate": args.rate, "epochs": args.epochs, "seed": args.seed, "pairs": len(data.train)}
    if args.again:
        rows = [r for r in rows if not key.items() <= r.items()]
    if any(key.items() <= r.items() for r in rows): return
    row = run(data, args.rate, args.epochs, args.seed)
    write_json(args.output,
               {"command": "python benchmarks/bench_full.py [--rate 2e-5] [--seed 1]", "rows": [*rows, row]})
    print(np.round([row["base"], row["ragcun"]["ndcg@10"], row["sentence-transformers"]["ndcg@10"]], 4),
          row["ragcun minus sentence-transformers"])


if __name__ == "__main__":
    main()

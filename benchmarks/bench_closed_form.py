"""The closed form on public sets: test NDCG@10 against the base and isotropy, for each shrinkage s, in three ways of
choosing coordinates.

    python benchmarks/bench_closed_form.py [squad-small nfcorpus-pre medquad] [--data ../shared/data] [--output
        data/results/closed_form.json]

Heads are solved on the training pairs, s is chosen by cross-validation on them alone, and every s is measured on the
test questions. "shrunk" leaves the coordinates that the eigenproblem gives, "round" is the default, "round, corpus
counts" gives all documents of the collection half of the covariance. Features come from the cache (RAGCUN_CACHE)
where they are there."""
import argparse
import platform
import subprocess
import time
from pathlib import Path

import numpy as np

from bench_retrieval import collection
from ragcun.core import write_json
from ragcun.measures.isotropy import participation_ratio
from ragcun.measures.paired import paired_test
from ragcun.models.cache import cache_for
from ragcun.models.encoder import GaussianEncoder
from ragcun.training.closed_form import (SHRINKAGES, Moments, choose_point, choose_shrinkage, encode_held_out,
                                         limit_positives, pair_features, solve_head, validation_splits)

SETS = ("demo", "squad-small", "nfcorpus-pre", "medquad")


def unseen_queries(test, pairs):
    "Which test questions have no relevant document that was a training positive."
    seen = set(pairs.documents)
    return np.array([not any(g > 0 and test.corpus[d] in seen for d, g in test.qrels[q].items())
                     for q in test.queries if q in test.qrels])


def rounded(difference):
    return {k: round(getattr(difference, k), 4) for k in ("mean", "low", "high", "p")} | {"n": difference.n}


def missing(model, pairs, test):
    "Texts that are not in the cache."
    return len(cache_for(model, "query").missing(list(dict.fromkeys([*pairs.queries, *test.queries.values()])))) + \
        len(cache_for(model, "document").missing(list(dict.fromkeys([*pairs.documents, *test.corpus.values()]))))


def row(held, head, s, base, fresh):
    "One head on the test questions."
    ndcg = held.ndcg(head)
    return {"s": s, "ndcg@10": round(float(ndcg.mean()), 4), "gain": rounded(paired_test(ndcg, base)),
            "gain_unseen": rounded(paired_test(ndcg[fresh], base[fresh])) if fresh.sum() > 10 else None,
            "participation_ratio": round(participation_ratio(head.project(held.x, "document")), 4)}


def measure(model, folder):
    "All numbers of one collection."
    every, _, test = collection(folder.parent, folder.name)
    pairs = limit_positives(every)
    print(folder.name, len(every), "pairs,", len(pairs), "used,", len(test.corpus), "documents,",
          missing(model, pairs, test), "texts to encode", flush=True)
    features = pair_features(model, pairs)
    held = encode_held_out(model, test)
    started = time.perf_counter()
    moments = Moments.of(features.q, features.x)
    solve_head(moments, .3)
    seconds = time.perf_counter() - started
    points = choose_shrinkage(validation_splits(features))
    chosen = choose_point(points)
    fresh = unseen_queries(test, every)
    base = held.ndcg(solve_head(moments, 1.))
    curves = {}
    for name, m, turned in (("shrunk", moments, False), ("round", moments, True),
                            ("round, corpus counts", moments.mixed(held.x), True)):
        curves[name] = [row(held, solve_head(m, p.s, isotropic=turned), p.s, base, fresh) for p in points]
        print(name, [(r["s"], r["ndcg@10"], r["participation_ratio"]) for r in curves[name]], flush=True)
    cross = [{"s": p.s, "ndcg@10": round(p.ndcg, 4), "gain": round(p.gain.mean, 4)} for p in points]
    return {"pairs": len(every), "pairs_used": len(pairs), "documents": len(test.corpus), "queries": len(base),
            "queries_unseen": int(fresh.sum()), "base": round(float(base.mean()), 4), "chosen": chosen.s,
            "solve_seconds": round(seconds, 2), "ridge": round(moments.ridge(), 4), "cross_validation": cross,
            "curves": curves}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=SETS)
    parser.add_argument("--data", type=Path, default="../shared/data")
    parser.add_argument("--output", type=Path, default="data/results/closed_form.json")
    args = parser.parse_args()
    model = GaussianEncoder.from_base(device="cpu", precision="bf16")
    import scipy
    import sentence_transformers
    import torch
    versions = {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__,
                "torch": torch.__version__, "sentence-transformers": sentence_transformers.__version__}
    config = {"base": model.base_id, "precision": model.precision, "shrinkages": SHRINKAGES, "folds": 3,
              "positives_per_query": 5, "seed": 0}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    sets = {name: measure(model, args.data/name) for name in args.sets}
    write_json(args.output, {"command": "python benchmarks/bench_closed_form.py", "commit": commit, "config": config,
                             "versions": versions, "sets": sets})


if __name__ == "__main__":
    main()

"""Whitened coordinates of indexed documents: the same first ten hits, isotropy and SIGReg of the documents whitened on
(uncorrected) and of fresh ones (corrected, beside 1 − d/n).

    python benchmarks/bench_whitening.py [squad-small nfcorpus-pre medquad cranfield med cacm] [--data ../shared/data]
        [--output data/results/whitening.json]
    python benchmarks/bench_whitening.py nfcorpus-pre medquad --causes

--causes asks why SIGReg stays above 1 after whitening (data/results/whitening_causes.json): how it grows with the
number of documents, without near copies, and with all lengths made equal.

Collections with training pairs have the closed form that dev questions choose; the others the untouched base. Nothing
is chosen here. Features come from the cache (RAGCUN_CACHE) where they are there."""
import argparse
import subprocess
from pathlib import Path

import numpy as np

from ragcun.core import write_json
from ragcun.data.pairs import load_pairs, load_retrieval
from ragcun.diagnostics.space import sigreg, whitened_numbers
from ragcun.measures.isotropy import participation_ratio
from ragcun.measures.ranking import top_k
from ragcun.models.encoder import GaussianEncoder
from ragcun.models.whitening import whiten_on
from ragcun.training.closed_form import encode_held_out, fit_closed_form

SETS = ("squad-small", "nfcorpus-pre", "medquad", "cranfield", "med", "cacm")


def rounded(a):
    if isinstance(a, dict): return {k: rounded(v) for k, v in a.items()}
    return round(a, 4) if isinstance(a, float) else a


def measure(model, folder):
    "All numbers of one collection."
    data = load_retrieval(folder, "test")
    if (folder/"qrels"/"train.tsv").exists():
        model = fit_closed_form(model, load_pairs(folder), load_retrieval(folder, "dev"))
    held = encode_held_out(model, data)
    q, z = model.project(held.q, "query"), model.project(held.x, "document")
    made = whiten_on([z], model.rho_numpy)
    near = top_k(model.to_query(q), model.to_document(z), 10, "l2")
    far = top_k(made.query(q), made.document(z), 10, "l2")
    same = [set(a) == set(b) for a, b in zip(near[1], far[1], strict=True)]
    order = (near[1] == far[1]).all(1)
    raw = np.abs(made.distance(np.sqrt(np.square(made.query(q)[:, None].astype(float) - made.document(z)[far[1]])
                                       .sum(-1)), q)
                 - np.sqrt(np.square(model.to_query(q)[:, None].astype(float) - model.to_document(z)[far[1]]).sum(-1)))
    row = {"model": "closed form" if "closed_form" in model.extra else "base", "documents": len(z),
           "coordinates": z.shape[1], "questions": len(q), "same_ten_hits": float(np.mean(same)),
           "same_order": float(order.mean()), "distance_error": float(raw.max()), "kappa": made.kappa,
           "rank": int(np.linalg.matrix_rank(np.cov(z.T.astype(float)), tol=1e-6)),
           "as_it_is": {"participation_ratio": participation_ratio(z), "sigreg_relative": sigreg(z)},
           "whitened": whitened_numbers(z, model.rho_numpy)}
    print(folder.name, rounded(row), flush=True)
    return rounded(row)


def whitened(z):
    "Documents in coordinates in which they have covariance I, uncorrected."
    z = z - z.mean(0)
    values, U = np.linalg.eigh(np.cov(z.T.astype(float)))
    kept = values > 1e-6*values.max()
    return (z @ U[:, kept]/np.sqrt(values[kept])).astype("f4")


def without_copies(h, limit=.95):
    "Which documents have no earlier one with a cosine above the limit."
    h = h/np.linalg.norm(h, axis=1, keepdims=True)
    kept = np.ones(len(h), bool)
    for i in range(len(h)):
        if kept[i]:
            kept[i + 1:] &= h[i + 1:] @ h[i] <= limit
    return kept


def causes(model, folder):
    "Why SIGReg is above 1 where every direction has variance 1."
    fitted = fit_closed_form(model, load_pairs(folder), load_retrieval(folder, "dev"))
    held = encode_held_out(model, load_retrieval(folder, "test"))
    z = fitted.project(held.x, "document")
    order = np.random.default_rng(0).permutation(len(z))
    kept = without_copies(held.x)
    full = whitened(z)
    lengths = np.linalg.norm(full, axis=1, keepdims=True)
    square = lengths**2
    row = {"documents": len(z), "sigreg": sigreg(full),
           "by_size": {n: sigreg(whitened(z[order[:n]])) for n in (1500, 3000, 6000, 12000) if n < len(z)},
           "without_copies": {"documents": int(kept.sum()), "sigreg": sigreg(whitened(z[kept])),
                              "as_many_at_random": sigreg(whitened(z[order[:kept.sum()]]))},
           "lengths_equal": sigreg(full/lengths*np.sqrt(full.shape[1])),
           "spread_of_squared_length": float(square.std()/square.mean()), "gaussian": (2/full.shape[1])**.5}
    print(folder.name, rounded(row), flush=True)
    return rounded(row)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=SETS)
    parser.add_argument("--data", type=Path, default="../shared/data")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--causes", action="store_true")
    args = parser.parse_args()
    output = args.output or Path("data/results")/("whitening_causes.json" if args.causes else "whitening.json")
    model = GaussianEncoder.from_base(device="cpu", precision="bf16")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    command = "python benchmarks/bench_whitening.py" + (f" {' '.join(args.sets)} --causes" if args.causes else "")
    write_json(output, {"command": command, "commit": commit,
                             "config": {"base": model.base_id, "precision": model.precision, "seed": 0},
                             "sets": {name: (causes if args.causes else measure)(model, args.data/name)
                                      for name in args.sets}})


if __name__ == "__main__":
    main()

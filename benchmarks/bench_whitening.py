"""Whitened coordinates of indexed documents: the same first ten hits, isotropy and SIGReg of the documents whitened on
(uncorrected) and of fresh ones (corrected, beside 1 − d/n).

    python benchmarks/bench_whitening.py [squad-small nfcorpus-pre medquad cranfield med cacm] [--data ../shared/data]
        [--output data/results/whitening.json]

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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=SETS)
    parser.add_argument("--data", type=Path, default="../shared/data")
    parser.add_argument("--output", type=Path, default="data/results/whitening.json")
    args = parser.parse_args()
    model = GaussianEncoder.from_base(device="cpu", precision="bf16")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    write_json(args.output, {"command": "python benchmarks/bench_whitening.py", "commit": commit,
                             "config": {"base": model.base_id, "precision": model.precision, "seed": 0},
                             "sets": {name: measure(model, args.data/name) for name in args.sets}})


if __name__ == "__main__":
    main()

"""What an index that nobody has calibrated says of questions with and without an answer.

    python benchmarks/bench_verdict.py [COLLECTION …] [--e5 FOLDER]

The untouched default base and, where its folder is given, multilingual-e5-small (its rows stay where not); up to 150
questions and 4,000 documents of each collection (dev questions where there are
any, else test questions). Each question is asked three ways: as it is (`there`), with its answers left out of the index
(`removed`), and in place of it a question of the other collections (`foreign`). Three numbers: the smallest
E-value of a hit (`e_value`), the answer value of the usual rule (`rule`), and E-values multiplied by what is missing of
the question's words (`words`). `answered` goes by one of the last two; `decides` says by which. Kept are the shares of
questions at most 1 and at most 5, and the AUROC of telling the first kind from each of the others. Nothing is fitted to
questions. Shares do not depend on the machine; the file is data/results/verdict.json.
"""
from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench_quality import SHARED
from ragcun.core import read_json, write_json
from ragcun.data.collections import RetrievalData, split_files
from ragcun.data.pairs import load_retrieval
from ragcun.evaluation.abstention import auroc
from ragcun.models.encoder import GaussianEncoder
from ragcun.retrieval.null import e_value
from ragcun.retrieval.retriever import GaussianRetriever
from sources import git

E5 = "multilingual-e5-small"
COLLECTIONS = ("med", "cacm", "cranfield", "nfcorpus-pre", "medquad", "squad-small")
QUESTIONS, DOCUMENTS, LIMITS = 150, 4000, (1, 5)


def drawn(name: str) -> tuple[RetrievalData, list[str], list[str]]:
    "A collection, its questions and its documents: all answers of the questions, and others at random."
    folder = Path(SHARED)/name
    data = load_retrieval(folder, "dev" if "dev" in split_files(folder) else "test")
    rng = np.random.default_rng(0)
    asked = [list(data.qrels)[i] for i in rng.permutation(len(data.qrels))[:QUESTIONS]]
    answers = list(dict.fromkeys(d for q in asked for d in data.qrels[q] if d in data.corpus))
    others = sorted(data.corpus.keys() - set(answers))
    return data, asked, answers + [others[i] for i in rng.permutation(len(others))[:max(DOCUMENTS - len(answers), 0)]]


def values(index: GaussianRetriever, questions: Sequence[str],
           without: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    "What each of the numbers says of each question."
    z = index.encode_queries(questions)
    hits = index._without(questions, without, z)
    log_p = [index._log_p(*row) for row in zip(questions, z, hits, strict=True)]
    return {"e_value": np.array([min((h.e_value for h in row), default=np.inf) for row in hits]),
            "rule": np.array([float(e_value(np.array(one), len(index))) for one in log_p]),
            "words": np.array([index._by_words(q, row) if row else np.inf
                               for q, row in zip(questions, hits, strict=True)])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("collections", nargs="*", default=list(COLLECTIONS))
    parser.add_argument("--e5", type=Path, default=os.environ.get("RAGCUN_E5"), help="folder of multilingual-e5-small")
    parser.add_argument("--output", type=Path, default=Path("data/results/verdict.json"))
    args = parser.parse_args()
    rows = measured("all-MiniLM-L6-v2", GaussianEncoder.from_base(device="cpu"), args.collections)
    if args.e5:
        rows += measured(E5, GaussianEncoder.from_base(str(args.e5), device="cpu"), args.collections)
    elif args.output.exists():
        rows += [r for r in read_json(args.output)["rows"] if r["base"] == E5]
    write_json(args.output, {"command": "python benchmarks/bench_verdict.py",
                             "commit": git("rev-parse", "--short", "HEAD"), "rows": rows})


def measured(base: str, model: GaussianEncoder, collections: Sequence[str]) -> list[dict[str, Any]]:
    "The rows of one base."
    model.cached = True
    sets = {name: drawn(name) for name in collections}
    rows: list[dict[str, Any]] = []
    for name, (data, asked, documents) in sets.items():
        texts = [data.corpus[d] for d in documents]
        index = GaussianRetriever(model)
        index.add_vectors([{"id": d, "text": t} for d, t in zip(documents, texts, strict=True)], model.embed(texts))
        questions = [data.queries[q] for q in asked]
        answers = [[d for d, grade in data.qrels[q].items() if grade > 0] for q in asked]
        foreign = [d.queries[q] for other, (d, names, _) in sets.items() if other != name
                   for q in names[:QUESTIONS//(len(sets) - 1)]]
        found = {"there": values(index, questions, [()]*len(questions)), "removed": values(index, questions, answers),
                 "foreign": values(index, foreign, [()]*len(foreign))}
        decides = "words" if index._is_elsewhere() else "rule"
        for by in ("e_value", "rule", "words"):
            score = {kind: -np.log(np.maximum(v[by], 1e-300)) for kind, v in found.items()}
            row = {"base": base, "collection": name, "decided_by": by, "decides": by == decides,
                   "documents": len(index), "questions": len(questions)}
            for kind, v in found.items():
                row |= {f"{kind}_{limit}": round(float(np.mean(v[by] <= limit)), 3) for limit in LIMITS}
            for kind in ("removed", "foreign"):
                which = np.repeat([1, 0], [len(score["there"]), len(score[kind])])
                row[f"auroc_{kind}"] = round(auroc(np.r_[score["there"], score[kind]], which), 4)
            rows.append(row)
            print(row, flush=True)
    return rows


if __name__ == "__main__":
    main()

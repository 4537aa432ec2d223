"""Typing errors in questions: what one in each question costs, and what correcting them brings.

    python benchmarks/bench_typing.py [COLLECTION …]

The untouched default base and nothing fitted; questions and documents as in bench_verdict.py (up to 150 questions and
4,000 documents of each collection). In each question one word of five letters or more, no stop word, gets one error: a
letter left out, added or exchanged, or two that are swapped, never the first; three draws. Questions are asked as they
are and with the error, as they are written and corrected. Kept are NDCG@10 of the answer list, the shares of questions
whose words are changed, and the shares that are answered where the answer is there, was removed from the index, and of
questions of the other collections. What may be corrected was chosen by looking at such questions (two other draws).
Nothing depends on the machine; the file is data/results/typing.json.
"""
from __future__ import annotations

import argparse
import re
import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench_verdict import COLLECTIONS, QUESTIONS, drawn
from ragcun.core import write_json
from ragcun.data.collections import RetrievalData
from ragcun.measures.ranking import ranking_metrics
from ragcun.models.encoder import GaussianEncoder
from ragcun.retrieval.retriever import GaussianRetriever
from ragcun.retrieval.words import STOP_WORDS
from sources import git

LEAST = 5
DRAWS = 3


def mistyped(question: str, rng: np.random.Generator) -> str:
    "A question with one typing error; the same where no word is long enough."
    words = [m for m in re.finditer(rf"[A-Za-z]{{{LEAST},}}", question) if m[0].lower() not in STOP_WORDS]
    if not words: return question
    m = words[int(rng.integers(len(words)))]
    i, kind = int(rng.integers(1, len(m[0]) - 1)), int(rng.integers(4))
    before, after = m[0][:i], m[0][i:]
    letter = string.ascii_lowercase[int(rng.integers(26))]
    word = [before + after[1:], before + letter + after, before + letter + after[1:],
            before + after[1] + after[0] + after[2:]][kind]
    return question[:m.start()] + word + question[m.end():]


def ndcg(index: GaussianRetriever, questions: Sequence[str], names: Sequence[str], data: RetrievalData) -> float:
    "NDCG@10 of what search returns for questions as they are written."
    found = index.search(questions, top_k=10, as_written=True)
    lists = {q: [h.id for h in r] for q, r in zip(names, found, strict=True)}
    return float(ranking_metrics(lists, {q: data.qrels[q] for q in names}).mean()["ndcg@10"])


def answered(index: GaussianRetriever, questions: Sequence[str], without: Sequence[Sequence[str]]) -> float:
    "Share of questions with an answer value within the limit of an index that nobody has calibrated."
    z = index.encode_queries(questions)
    hits = index._without(questions, without, z)
    return float(np.mean([index._value(*row) <= 1 for row in zip(questions, z, hits, strict=True)]))


def measure(name: str, sets: dict[str, tuple[RetrievalData, list[str], list[str]]],
            model: GaussianEncoder) -> dict[str, float | str]:
    "One collection."
    data, asked, documents = sets[name]
    texts = [data.corpus[d] for d in documents]
    index = GaussianRetriever(model)
    index.add_vectors([{"id": d, "text": t} for d, t in zip(documents, texts, strict=True)], model.embed(texts))
    answers = [[d for d, grade in data.qrels[q].items() if grade > 0] for q in asked]
    written = [data.queries[q] for q in asked]
    foreign = [d.queries[q] for other, (d, names, _) in sets.items() if other != name
               for q in names[:QUESTIONS//(len(sets) - 1)]]
    row: dict[str, float | str] = {"collection": name, "questions": len(asked), "documents": len(documents)}
    for draw in range(-1, DRAWS):
        rng = np.random.default_rng(100 + draw)
        kind = "error" if draw >= 0 else "written"
        own, others = ([mistyped(q, rng) if draw >= 0 else q for q in some] for some in (written, foreign))
        for way, mine, theirs in (("", own, others), (", corrected", index.corrected(own), index.corrected(others))):
            found = {"ndcg@10": ndcg(index, mine, asked, data), "there": answered(index, mine, [()]*len(mine)),
                     "removed": answered(index, mine, answers), "foreign": answered(index, theirs, [()]*len(theirs)),
                     "changed": float(np.mean([a != b for a, b in zip(mine, own, strict=True)])),
                     "foreign changed": float(np.mean([a != b for a, b in zip(theirs, others, strict=True)]))}
            for what, value in found.items():
                key = f"{kind}{way}: {what}"
                row[key] = round(float(row.get(key, 0.)) + value/(DRAWS if draw >= 0 else 1), 4)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("collections", nargs="*", default=list(COLLECTIONS))
    parser.add_argument("--output", type=Path, default=Path("data/results/typing.json"))
    args = parser.parse_args()
    model = GaussianEncoder.from_base(device="cpu")
    model.cached = True
    sets = {name: drawn(name) for name in args.collections}
    rows = []
    for name in args.collections:
        rows.append(measure(name, sets, model))
        print(rows[-1], flush=True)
    write_json(args.output, {"command": "python benchmarks/bench_typing.py",
                             "commit": git("rev-parse", "--short", "HEAD"), "rows": rows})


if __name__ == "__main__":
    main()

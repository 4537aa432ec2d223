"""Typing errors in questions: what one in each question costs, and what correcting them brings.

    python benchmarks/bench_typing.py [COLLECTION …]

The untouched default base and nothing fitted; questions and documents as in bench_verdict.py (up to 150 questions and
4,000 documents of each collection). In each question one word of five letters or more, no stop word, gets one error
that is not in its first letter; three draws. Errors are drawn as often as people make them, by the letters that are
left out, added, exchanged and swapped in codespell's list, which collects misspellings found in the wild. Questions
are asked as they are and with the error, as they are written and corrected. Kept are NDCG@10 of the answer list, the
shares of questions whose words are changed, and the shares that are answered where the answer is there, was removed
from the index, and of questions of the other collections; and what becomes of 5,000 misspellings of that list whose
word the documents have (some with several errors, or in the first letter): whether what takes their place is right, by
its stem. What may be corrected was chosen by looking at that list, at words of questions that the documents do not
have, and at NDCG@10 of such questions with other draws. Nothing depends on the machine; the file is
data/results/typing.json.
"""
from __future__ import annotations

import argparse
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from os.path import commonprefix
from pathlib import Path

import codespell_lib
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
MISSPELLINGS = 5000


def misspellings() -> Iterator[tuple[str, list[str]]]:
    "Words of four letters or more as people misspelled them, and what they may have meant."
    for line in (Path(codespell_lib.__file__).parent/"data"/"dictionary.txt").read_text().splitlines():
        typed, meant = line.split("->")
        words = [w.strip() for w in meant.split(",") if re.fullmatch("[a-z]+", w.strip())]
        if re.fullmatch("[a-z]{4,}", typed) and words:
            yield typed, words


def change(typed: str, meant: str) -> tuple[str, str, str] | None:
    "What was done to one letter, or to two neighbours: the letter before, what was meant and what was typed."
    i = len(commonprefix([typed, meant]))
    end = len(commonprefix([typed[i:][::-1], meant[i:][::-1]]))
    a, b = meant[i:len(meant) - end], typed[i:len(typed) - end]
    alone = len(a) <= 1 and len(b) <= 1
    return (meant[i - 1], a, b) if i and (alone or len(a) == 2 and a[::-1] == b) else None


@cache
def changes() -> dict[str, Counter[tuple[str, str, str]]]:
    "How often each is in the list, by whether a letter is left out, added or exchanged, or two are swapped."
    found: dict[str, Counter[tuple[str, str, str]]] = {}
    for typed, meant in misspellings():
        if len(meant) == 1 and (c := change(typed, meant[0])):
            found.setdefault(f"{len(c[1])} → {len(c[2])}", Counter())[c] += 1
    return found


def mistyped(question: str, rng: np.random.Generator) -> str:
    "A question with one typing error; the same where no word is long enough."
    words = [m for m in re.finditer(rf"[A-Za-z]{{{LEAST},}}", question) if m[0].lower() not in STOP_WORDS]
    if not words: return question
    m = words[int(rng.integers(len(words)))]
    word = m[0].lower()
    ways = {kind: [(n, i, meant, typed) for (before, meant, typed), n in found.items() for i in range(1, len(word))
                   if word[i - 1] == before and word.startswith(meant, i)] for kind, found in changes().items()}
    kinds = [kind for kind in ways if ways[kind]]
    shares = np.array([changes()[kind].total() for kind in kinds], float)
    drawn = ways[kinds[int(rng.choice(len(kinds), p=shares/shares.sum()))]]
    often = np.array([n for n, *_ in drawn], float)
    _, i, meant, typed = drawn[int(rng.choice(len(often), p=often/often.sum()))]
    return question[:m.start() + i] + typed + question[m.start() + i + len(meant):]


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


def misspelled(index: GaussianRetriever) -> dict[str, float]:
    "What becomes of them: shares of those whose word is in the documents and that are in none."
    tokenizer, counts = index.tokenizer, index.store.word_counts()
    assert tokenizer is not None and counts is not None
    def held(word: str) -> bool:
        return all(counts.found.get(w, 0) > 0 for w in tokenizer(word))
    found = [(t, ws) for t, ws in misspellings() if not held(t) and any(held(w) for w in ws)]
    found = random.Random(0).sample(found, min(MISSPELLINGS, len(found)))
    became = index.corrected([t for t, _ in found])
    right = [any(tokenizer(b) == tokenizer(w) for w in ws) for b, (_, ws) in zip(became, found, strict=True)]
    same = [b == t for b, (t, _) in zip(became, found, strict=True)]
    return {"misspellings": len(found), "misspellings: right": round(float(np.mean(right)), 4),
            "misspellings: unchanged": round(float(np.mean(same)), 4)}


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
    return row | misspelled(index)


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

"""Words in other languages than English: the stemmer of an index's language, and questions typed without accents.

    python benchmarks/bench_languages.py FOLDER

FOLDER holds the files xquad.*.json of XQuAD (240 paragraphs and 1,190 questions in each language; every third question
is asked). The default base, nothing fitted. Each language is indexed twice, with the stemmer that the index chooses and
with the English one. Questions are asked as they were written and with their accents taken away, the latter also of an
index that looks for words only as they were asked. That there is a choice was decided by looking at these rows; no
number in it was.
"""
from __future__ import annotations

import argparse
import unicodedata
from pathlib import Path

import numpy as np
from bench_doubt import paragraphs

from ragcun import GaussianEncoder, GaussianRetriever
from ragcun.core import write_json
from ragcun.data.pairs import RetrievalData
from ragcun.measures.ranking import ranking_metrics
from ragcun.retrieval.words import Accents, Tokenizer

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = ["en", "ar", "de", "el", "es", "hi", "ro", "ru", "tr", "vi"]
EVERY = 3


def bare(text: str) -> str:
    "A text without marks above and below its letters, as it is typed where the keyboard has none."
    plain = "".join(c for c in unicodedata.normalize("NFD", text) if not "\u0300" <= c <= "\u036f")
    return unicodedata.normalize("NFC", plain).translate(str.maketrans("ıđ", "id"))


class AsAsked(Accents):
    "Words are looked for only as they were asked."
    def spelled(self, words: list[str], counts: object) -> list[str]:
        return words


def ndcg(index: GaussianRetriever, queries: dict[str, str], data: RetrievalData) -> float:
    "NDCG@10 of the answer list."
    found = index.search(list(queries.values()), top_k=10)
    lists = {q: [h.id for h in r] for q, r in zip(queries, found, strict=True)}
    return round(ranking_metrics(lists, {q: data.qrels[q] for q in queries}).mean()["ndcg@10"], 4)


def measure(data: RetrievalData, model: GaussianEncoder) -> dict[str, float | str | int]:
    "One language."
    asked = dict(list(data.queries.items())[::EVERY])
    typed = {q: bare(t) for q, t in asked.items()}
    english = GaussianRetriever(model)
    english.tokenizer = Tokenizer(stem="english")
    english.add(data.corpus)
    index = GaussianRetriever(model)
    index.add(data.corpus)
    row = {"stemmer": str(index.tokenizer.stem), "questions": len(asked),
           "with accents": round(float(np.mean([typed[q] != asked[q] for q in asked])), 3),
           "english stemmer": ndcg(english, asked, data), "as written": ndcg(index, asked, data),
           "without accents": ndcg(index, typed, data)}
    index._known_words().accents = AsAsked(index.tokenizer)
    return row | {"without accents, words as asked": ndcg(index, typed, data)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="xquad.*.json")
    parser.add_argument("--languages", nargs="+", default=LANGUAGES)
    parser.add_argument("--output", default=str(ROOT/"data/results/languages.json"))
    args = parser.parse_args()
    model = GaussianEncoder.from_base(device="cpu", precision="no")
    model.cached = True
    rows = {}
    for language in args.languages:
        rows[language] = measure(paragraphs(args.folder/f"xquad.{language}.json"), model)
        print(language, rows[language], flush=True)
    write_json(args.output, {"command": "python benchmarks/bench_languages.py FOLDER", "rows": rows})


if __name__ == "__main__":
    main()

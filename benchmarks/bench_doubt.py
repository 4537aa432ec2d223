"""The joint search with a base that does not know the documents: what it loses by the weights that others deserve, and
how much of that is left where a sentence of a document tells.

    python benchmarks/bench_doubt.py [--languages FOLDER [--e5 FOLDER]]

The default base on public collections, which go together. The same with one or none of its six layers, so that it knows
little. The default base, which is English, on the same paragraphs in twelve languages: FOLDER holds the files
xquad.*.json of XQuAD (240 paragraphs, 1,190 questions each). And multilingual-e5-small on four of them. Without the
folders, what is recorded of them stays. `found` is the mean reciprocal rank of a document by the vectors over that by
the words, for questions made from documents. NDCG@10 of real questions (300 at most) is measured with meaning at
several shares of its usual weight; nothing but `found` chooses the one that the index takes. The three numbers of the
rule were set by looking at such rows, all but those of e5 in Arabic, Greek and Chinese. Rows of kind "60 documents" are
means of six draws of so many answers, with the questions that they answer (100 at most), and `least` is the smallest
`found`: the rule was there before they were looked at.
"""
from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ragcun import GaussianEncoder, GaussianRetriever, load_retrieval
from ragcun.core import read_json, write_json
from ragcun.data.pairs import RetrievalData
from ragcun.measures.ranking import ranking_metrics
from ragcun.models.base import load_base
from ragcun.retrieval.index import MADE
from ragcun.retrieval.joint import PRIOR, first_found

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("RAGCUN_SHARED_DATA", ROOT.parent/"shared"/"data"))
WHOLE = ["med", "cranfield", "cacm", "squad-small", "nfcorpus-pre", "medquad"]
PARTS = ["med", "cranfield", "cacm", "squad-small"]
SEVERAL = ["ar", "el", "en", "zh"]
SHARES = (0., .0625, .125, .25, .5, 1., 2.)
ASKED = 300
MOST = 3000  # documents, those that answer first
HANDFUL = 60
DRAWS = 6


def shortened(layers: int, folder: str) -> str:
    "The default base with its first layers only."
    base, _, _ = load_base()
    transformer = base[0].auto_model
    transformer.encoder.layer = transformer.encoder.layer[:layers]
    transformer.config.num_hidden_layers = layers
    base.save(folder, create_model_card=False)
    return folder


def paragraphs(file: Path) -> RetrievalData:
    "One language of XQuAD."
    corpus: dict[str, str] = {}
    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    for article in json.loads(file.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            name = f"p{len(corpus)}"
            corpus[name] = paragraph["context"]
            for question in paragraph["qas"]:
                queries[question["id"]] = question["question"]
                qrels[question["id"]] = {name: 1}
    return RetrievalData(corpus, queries, qrels, file.stem)


def few(data: RetrievalData) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
    "Some questions, and documents among which their answers are."
    names = sorted(q for q, r in data.qrels.items() if any(g > 0 and d in data.corpus for d, g in r.items()))
    names = random.Random(0).sample(names, min(ASKED, len(names)))
    answers = [d for q in names for d, g in data.qrels[q].items() if g > 0 and d in data.corpus]
    rest = sorted(data.corpus)
    random.Random(0).shuffle(rest)
    kept = list(dict.fromkeys([*answers, *rest]))[:MOST]
    return {d: data.corpus[d] for d in sorted(kept)}, {q: data.qrels[q] for q in names}


def found(index: GaussianRetriever) -> float:
    "Mean reciprocal rank of documents by vectors over that by words, as the index itself measures it."
    assert index.joint is not None
    sample = index._unrelated()
    pairs = index._made_questions(sample.take(range(min(len(sample), MADE // 2))))
    place = {name: i for i, name in enumerate(sample.ids)}
    own = np.array([place[p.document_id] for p in pairs])
    z, _, _ = index.joint.background.dense(np.asarray(index.model.embed(pairs.queries, "query"), float))
    words = np.array([index.joint.background.lexical(one)[:, 0] for one in index.asked(pairs.queries)])
    return float(first_found(z, own).mean() / first_found(words, own).mean())


def handful(data: RetrievalData, seed: int) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
    "A few documents, each with a question that it answers."
    names = sorted(data.qrels)
    random.Random(seed).shuffle(names)
    answers = {q: [d for d, g in data.qrels[q].items() if g > 0 and d in data.corpus] for q in names}
    found = [*(a[0] for a in answers.values() if a), *(d for a in answers.values() for d in a)]
    kept = list(dict.fromkeys(found))[:HANDFUL]
    asked = [q for q, a in answers.items() if any(d in kept for d in a)][:100]
    return ({d: data.corpus[d] for d in kept},
            {q: {d: g for d, g in data.qrels[q].items() if d in kept} for q in asked})


def row(kind: str, data: RetrievalData, model: GaussianEncoder, part: Any = None) -> dict[str, Any]:
    corpus, qrels = part or few(data)
    index = GaussianRetriever(model)
    index.add(corpus)
    texts = [data.queries[q] for q in qrels]
    proposed = [p for i in range(0, len(texts), 50)
                for p in index.proposed(texts[i:i + 50], index.encode_queries(texts[i:i + 50]), 10)]
    assert index.joint is not None
    weight = index.joint.weights.dense / PRIOR.dense

    def judged(share: float) -> float:
        weights = PRIOR.doubted(share)
        lists = {q: [p.found[i].id for i in np.argsort(-weights.evidence(p.z, p.lexical), kind="stable")[:10]]
                 for q, p in zip(qrels, proposed, strict=True)}
        return round(float(ranking_metrics(lists, qrels)["ndcg@10"].mean()), 4)
    return {"kind": kind, "name": data.name, "documents": len(corpus), "questions": len(qrels),
            "found": round(found(index), 3), "weight": round(weight, 3), "search": judged(weight),
            "ndcg@10": {str(s): judged(s) for s in SHARES}}


def handful_row(data: RetrievalData, model: GaussianEncoder) -> dict[str, Any]:
    "The mean of some draws."
    draws = [row("60 documents", data, model, handful(data, seed)) for seed in range(DRAWS)]

    def mean(values: Any) -> float:
        return round(float(np.mean(list(values))), 4)
    means = {k: mean(d[k] for d in draws) for k in ("documents", "questions", "found", "weight", "search")}
    return {**draws[0], **means,
            "least": min(d["found"] for d in draws),
            "ndcg@10": {s: mean(d["ndcg@10"][s] for d in draws) for s in draws[0]["ndcg@10"]}}


def whole(args: argparse.Namespace, model: GaussianEncoder) -> Iterator[dict[str, Any]]:
    for name in WHOLE:
        yield row("whole", load_retrieval(SHARED/name, "test"), model)


def language(args: argparse.Namespace, model: GaussianEncoder) -> Iterator[dict[str, Any]]:
    for file in sorted(args.languages.glob("xquad.*.json")) if args.languages else ():
        yield row("language", paragraphs(file), model)


def handfuls(args: argparse.Namespace, model: GaussianEncoder) -> Iterator[dict[str, Any]]:
    for name in WHOLE:
        yield handful_row(load_retrieval(SHARED/name, "test"), model)
    for file in sorted(args.languages.glob("xquad.*.json")) if args.languages else ():
        yield handful_row(paragraphs(file), model)


def e5(args: argparse.Namespace, model: GaussianEncoder) -> Iterator[dict[str, Any]]:
    if not (args.languages and args.e5):
        return
    several = GaussianEncoder.from_base(str(args.e5), device="cpu")
    for name in SEVERAL:
        yield row("e5", paragraphs(args.languages/f"xquad.{name}.json"), several)


def layers(args: argparse.Namespace, model: GaussianEncoder) -> Iterator[dict[str, Any]]:
    for number in (1, 0):
        with tempfile.TemporaryDirectory() as folder:
            part = GaussianEncoder.from_base(shortened(number, folder), device="cpu")
            for name in PARTS:
                yield row(f"{number} of 6 layers", load_retrieval(SHARED/name, "test"), part)


KINDS = {"whole": whole, "language": language, "handful": handfuls, "e5": e5, "layers": layers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--languages", type=Path, default=os.environ.get("RAGCUN_XQUAD"), help="folder of XQuAD")
    parser.add_argument("--e5", type=Path, default=os.environ.get("RAGCUN_E5"), help="folder of multilingual-e5-small")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS), help="of rows; the others stay")
    parser.add_argument("--output", type=Path, default=ROOT/"data/results/doubt.json")
    args = parser.parse_args()
    model = GaussianEncoder.from_base(device="cpu")
    model.cached = True
    found = {(r["kind"], r["name"]): r for r in read_json(args.output)["rows"]} if args.output.exists() else {}
    for r in (r for kind in args.kinds for r in KINDS[kind](args, model)):
        print(r, flush=True)
        found[r["kind"], r["name"]] = r
        write_json(args.output, {"command": "python benchmarks/bench_doubt.py --languages FOLDER --e5 FOLDER",
                                 "rows": list(found.values())})


if __name__ == "__main__":
    main()

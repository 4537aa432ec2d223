"""The same defaults on three kinds of base: a small transformer, a multilingual one whose cosines lie close together,
and a static model without any layers.

    python benchmarks/bench_bases.py [COLLECTION …] [--bases minilm static e5] [--e5 FOLDER] [--curve]

minilm is the default base. static is made from it here, in half a minute: every piece of its vocabulary is encoded
alone, the vectors are cut to 256 principal axes and weighted by the rank of the piece (as model2vec does). e5 is a
folder of multilingual-e5-small; without one, its rows are left as they are. Choices are made on dev questions or by
cross-validation; test questions are asked once, for the table. A row is written as soon as it is there, and what is
recorded by this version is not measured again. Seconds are those of one thread of the processor, so that other work on
the machine counts little. --curve measures the closed form along s instead, by cross-validation on the training
questions of 700 paragraphs of squad-small.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from bench_verdict import values
from ragcun import GaussianEncoder, GaussianRetriever, TrainConfig, fit, load_pairs, load_retrieval
from ragcun.cli.flags import read_corpus
from ragcun.core import cache_dir, read_json, setup_logging, write_json
from ragcun.data.pairs import PairSet
from ragcun.evaluation.abstention import auroc
from ragcun.measures.isotropy import mean_cosine, participation_ratio
from ragcun.measures.paired import paired_test
from ragcun.measures.ranking import evaluate_vectors
from ragcun.models.base import load_base, token_limit
from ragcun.retrieval.measure import evaluate_index
from ragcun.training.closed_form import (POOLS, choose_shrinkage, choose_two_sided, encode_held_out, pair_features,
                                         validation_splits)

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("RAGCUN_SHARED_DATA", ROOT.parent/"shared"/"data"))
COLLECTIONS = ["med", "cranfield", "cacm", "squad-small", "nfcorpus-pre", "medquad"]   # smallest first
BASES = {"minilm": "all-MiniLM-L6-v2", "static": "static, from all-MiniLM-L6-v2", "e5": "multilingual-e5-small"}
ASKED = 300  # questions that are asked with and without their answers


def distilled(folder: Path, width: int = 256) -> Path:
    "A static model from the default base: pieces encoded alone, principal axes, weights by rank."
    if (folder/"modules.json").exists(): return folder
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
    from tokenizers import Tokenizer
    base, _, _ = load_base()
    tokenizer = Tokenizer.from_str(base.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    n = tokenizer.get_vocab_size()
    opening, closing = tokenizer.encode("").ids
    vectors = []
    with torch.inference_mode():
        for pieces in torch.arange(n).split(2048):
            ends = torch.full_like(pieces, opening), torch.full_like(pieces, closing)
            ids = torch.stack([ends[0], pieces, ends[1]], 1)
            found = base({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
            vectors.append(found["sentence_embedding"].float().numpy())
    h = np.concatenate(vectors)
    h = h - h.mean(0)
    axes = np.linalg.svd(h.T @ h)[0][:, :width]
    first = min(i for piece, i in tokenizer.get_vocab().items() if len(piece) > 1 and piece.isalpha())
    rank = np.maximum(np.arange(n) - first + 1, 1)  # words stand in the order of their frequency, behind the symbols
    weights = (h @ axes)*np.log1p(rank)[:, None]
    tokenizer.post_processor = None  # a static model reads no opening and closing tokens
    static = StaticEmbedding(tokenizer, embedding_weights=weights.astype(np.float32))
    SentenceTransformer(modules=[static, Normalize()], device="cpu").save(str(folder), create_model_card=False)
    return folder


def open_base(name: str, e5: str | None) -> GaussianEncoder:
    "A base with its cache; e5 in half precision where this machine computes in it, since it has the most to do."
    if name == "e5":
        model = GaussianEncoder.from_base(e5, device="cpu", precision="auto")
    else:
        path = None if name == "minilm" else distilled(cache_dir()/"bases"/"static-minilm")
        model = GaussianEncoder.from_base(path, device="cpu", precision="no")
    model.cached = True
    return model


def spent(started: float) -> float:
    return round(time.process_time() - started, 1)


def speed(model: GaussianEncoder) -> float:
    "Texts a second, on one thread: 128 paragraphs, computed twice."
    texts = list(load_retrieval(SHARED/"squad-small", "test").corpus.values())[:128]
    best = np.inf
    for _ in range(2):
        started = time.process_time()
        model.compute_features(texts)
        best = min(best, time.process_time() - started)
    return round(len(texts)/best, 1)


def search(name: str, model: GaussianEncoder) -> dict:
    "An index from documents alone, asked the test questions; and asked as if their answers were not there."
    data = load_retrieval(SHARED/name, "test")
    index = GaussianRetriever(model)
    index.add(read_corpus(str(SHARED/name)))
    report = evaluate_index(index, data)
    few = list(data.qrels)[:ASKED]
    asked = [data.queries[q] for q in few]
    gone = [[d for d, grade in data.qrels[q].items() if grade > 0] for q in few]
    with_, without = (values(index, asked, left_out)["e_value"] for left_out in ([()]*len(asked), gone))
    sure = -np.log(np.clip(np.r_[with_, without], 1e-300, 1e300))
    return {"lists": {k: round(v["ndcg@10"], 4) for k, v in report.lists.items()},
            "gains": {k: {n: round(x, 4) for n, x in asdict(d).items()} for k, d in report.difference.items()},
            "auroc": round(auroc(sure, np.repeat([1, 0], len(few))), 4), "queries": len(data.qrels),
            "documents": report.documents}


def fitted(name: str, model: GaussianEncoder, closed_form: bool) -> dict:
    "What `fit` keeps with its defaults, on the test questions."
    test = load_retrieval(SHARED/name, "test")
    pairs, dev = load_pairs(SHARED/name), load_retrieval(SHARED/name, "dev")
    held = encode_held_out(model, test)
    encode_held_out(model, dev)
    for side, texts in (("query", pairs.queries), ("document", pairs.documents)):
        model.features(texts, side)  # encoding is measured by itself
    started = time.process_time()
    result = fit(model, pairs, dev, TrainConfig(freeze_base=True, closed_form=closed_form, seed=0))
    seconds = spent(started)
    q, x = result.model.project(held.q, "query"), result.model.project(held.x, "document")
    mine = evaluate_vectors(result.model.to_query(q), result.model.to_document(x), held.data)["ndcg@10"]
    base = evaluate_vectors(held.q, held.x, held.data, "ip")["ndcg@10"]
    form = result.report["closed_form"]
    rows = [r for r in result.rows if r["kind"] == "epoch" and "val_ndcg@10" in r]
    return {"ndcg@10": round(float(mine.mean()), 4), "base": round(float(base.mean()), 4),
            "gain": {n: round(x, 4) for n, x in asdict(paired_test(mine, base)).items()},
            "kept": result.report["kept"], "s": form["s"], "pool": form["pool"], "pairs": len(pairs),
            "participation_ratio": round(participation_ratio(x), 3), "seconds": seconds,
            "dev": {n: round(c["ndcg@10"], 4) for n, c in result.report["candidates"].items()},
            "epochs": [round(r["val_ndcg@10"], 4) for r in rows]}


def curve(model: GaussianEncoder) -> dict:
    "NDCG@10 of the closed form with one map and with two, for each s."
    pairs = load_pairs(SHARED/"squad-small")
    documents = list(dict.fromkeys(pairs.documents))
    chosen = {documents[i] for i in np.random.default_rng(0).permutation(len(documents))[:700]}
    features = pair_features(model, PairSet([p for p in pairs if p.positive in chosen], "part"))
    splits = validation_splits(features)
    shrinkages = (.03, .1, .3, .6, .8, .9, .95, .98, 1.)
    rows = [("one map", p) for p in choose_shrinkage(splits, None, shrinkages)]
    rows += [("two maps", p) for p in choose_two_sided(splits, None, shrinkages) if p.pool == POOLS[0]]
    return {"pairs": len(features), "mean_cosine": round(mean_cosine(features.x), 3),
            "points": [{"form": form, "s": p.s, "ndcg@10": round(p.ndcg, 4), "low": round(p.gain.low, 4),
                        "high": round(p.gain.high, 4), "participation_ratio": round(p.participation_ratio, 3)}
                       for form, p in rows]}


def measure(name: str, model: GaussianEncoder, row: dict, write) -> None:
    "What is missing of a row, part by part."
    if "search" not in row:
        data = load_retrieval(SHARED/name, "test")
        x = model.features(list(data.corpus.values()))
        row["features"] = {"participation_ratio": round(participation_ratio(x), 3),
                           "mean_cosine": round(mean_cosine(x[:5000]), 3)}
        row["search"] = search(name, model)
        write()
    trains = (SHARED/name/"qrels"/"train.tsv").exists()
    for part, closed_form in (("closed form", True), ("head", False)):
        if trains and part not in row:
            row[part] = fitted(name, model, closed_form)
            write()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=COLLECTIONS)
    parser.add_argument("--bases", nargs="+", default=list(BASES), choices=list(BASES))
    parser.add_argument("--e5", default=os.environ.get("RAGCUN_E5"), help="folder of multilingual-e5-small")
    parser.add_argument("--output", default=str(ROOT/"data"/"results"/"bases.json"))
    parser.add_argument("--curve", action="store_true", help="the closed form along s, and nothing else")
    parser.add_argument("--again", action="store_true", help="also what is recorded")
    args = parser.parse_args()
    setup_logging()
    torch.set_num_threads(1)
    path = Path(args.output)
    found = read_json(path) if path.exists() else {"bases": {}}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    bases = [key for key in args.bases if key != "e5" or args.e5]
    if args.again and not args.curve:
        for old in (found["bases"][key] for key in bases if key in found["bases"]):
            old["rows"] = {name: row for name, row in old["rows"].items() if name not in args.names}
    found |= {"command": "python benchmarks/bench_bases.py --e5 FOLDER", "commit": commit.strip(),
              "machine": f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}; shared with other work"}
    for key in bases:
        model = open_base(key, args.e5)
        mine = found["bases"].setdefault(key, {"name": BASES[key], "precision": model.precision,
                                               "dimension": model.output_dim, "tokens": token_limit(model.base),
                                               "texts_a_second": speed(model), "rows": {}})
        if args.curve:
            mine["curve"] = curve(model)
            write_json(path, found)
        for name in [] if args.curve else args.names:
            row = mine["rows"].setdefault(name, {})
            measure(name, model, row, lambda: write_json(path, found))
            print(key, name, json.dumps({k: v.get("ndcg@10", v.get("lists")) for k, v in row.items()}), flush=True)


if __name__ == "__main__":
    main()

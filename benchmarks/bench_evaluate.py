"""Where `evaluate` spends its time, and whether its base figures are sentence-transformers' own.

    python benchmarks/bench_evaluate.py share --output data/results/evaluate_share.json
    python benchmarks/bench_evaluate.py memory --output data/results/evaluate_memory.json
    python benchmarks/bench_evaluate.py published --output data/results/evaluate_published.json
    python benchmarks/bench_evaluate.py collections --sets med,cranfield,cacm --output
        data/results/evaluate_collections.json
"""
import argparse
import os
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
PUBLISHED = {"stsb": 0.8203246731, "nfcorpus": 0.31594}
SHARED = Path(os.environ.get("RAGCUN_SHARED_DATA", "../shared/data"))


def part_of(data, documents: int, queries: int, characters: int):
    "The first queries with an answer, their documents, and others up to the number asked for; texts cut."
    from ragcun.data.collections import RetrievalData
    qrels = dict(list(data.qrels.items())[:queries])
    wanted = {d for grades in qrels.values() for d in grades}
    rest = [d for d in data.corpus if d not in wanted]
    kept = {*wanted, *rest[:documents - len(wanted)]}
    corpus = {d: text[:characters] for d, text in data.corpus.items() if d in kept}
    return RetrievalData(corpus, {q: data.queries[q] for q in qrels}, qrels, data.name)


def share(args, model) -> dict:
    from ragcun.data.pairs import load_retrieval
    from ragcun.evaluation.evaluation_report import evaluate
    data = part_of(load_retrieval(SHARED / "medquad"), 5000, 300, args.characters)
    report = evaluate(model, data)
    return {"config": {"data": "medquad/test, first 300 queries, 5,000 documents", "characters": args.characters,
                       "precision": model.precision}, "queries": report.queries, "documents": report.documents,
            "seconds": report.seconds, **report.timing, "encoding_share": report.timing["encoding"] / report.seconds}


class Ready:
    "A model whose features are there already: what `evaluate` itself needs is all that is measured."
    base_changed = False

    def __init__(self, queries, documents):
        self.sides = {"query": queries, "document": documents}

    def features(self, texts, side):
        return self.sides[side]

    def project(self, features, side=None):
        return features

    to_query = to_document = project


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20


def memory(args, _) -> dict:
    """Growth of this process's peak while it searches, then while it evaluates model and base; the vectors are there
    before."""
    from ragcun.data.collections import RetrievalData
    from ragcun.evaluation.evaluation_report import evaluate
    from ragcun.measures.ranking import top_k
    rng = np.random.default_rng(0)
    documents, queries = (rng.standard_normal((n, args.dim), dtype=np.float32) for n in (args.documents, args.queries))
    corpus, asked = ({f"{c}{i}": "" for i in range(n)} for c, n in (("d", args.documents), ("q", args.queries)))
    data = RetrievalData(corpus, asked, {q: {f"d{7 * i}": 1} for i, q in enumerate(asked)}, "random")
    top_k(queries[:2], documents[:50], 2)      # threads and libraries are up
    peaks = [peak_gib()]
    top_k(queries, documents, 100)
    peaks.append(peak_gib())
    evaluate(Ready(queries, documents), data)
    peaks.append(peak_gib())
    return {"config": {"documents": args.documents, "queries": args.queries, "dim": args.dim, "k": 100},
            "vectors_gib": documents.nbytes / 2 ** 30, "before_gib": peaks[0], "search_gib": peaks[1] - peaks[0],
            "evaluate_gib": peaks[2] - peaks[0]}


def published(args, model) -> dict:
    """Spearman correlation on the STS benchmark's test split, beside the figure that the authors of mteb published
    for the base."""
    from scipy.stats import spearmanr

    from ragcun.core import iter_jsonl
    rows = [row for _, row in iter_jsonl(SHARED / "stsb" / "test.jsonl.gz")]
    first, second = (model.features([row[f"sentence{i}"] for row in rows]) for i in (1, 2))
    found = spearmanr((first * second).sum(1), [row["score"] for row in rows]).statistic
    return {"config": {"base_model": "all-MiniLM-L6-v2", "precision": model.precision},
            "stsb": {"pairs": len(rows), "spearman": float(found), "published": PUBLISHED["stsb"]},
            "nfcorpus": {"published_ndcg@10": PUBLISHED["nfcorpus"]},
            "source": "embeddings-benchmark/mtebpaper, results/all-MiniLM-L6-v2"}


def collections(args, model) -> dict:
    import pytrec_eval
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    from ragcun.data.pairs import load_retrieval
    from ragcun.evaluation.evaluation_report import evaluate
    from ragcun.models.base import find_base
    plain = SentenceTransformer(str(find_base(None)[0]), device="cpu")
    out = {}
    for name in args.sets.split(","):
        data = load_retrieval(SHARED / name)
        with tempfile.TemporaryDirectory() as folder:
            report = evaluate(model, data, run_file=Path(folder) / "run.trec")
            with open(Path(folder) / "run.trec", encoding="utf-8") as f:
                run = pytrec_eval.parse_run(f)
        trec = pytrec_eval.RelevanceEvaluator(data.qrels, {"ndcg_cut.10", "recall.100", "map_cut.100"}).evaluate(run)
        relevant = {q: {d for d, g in grades.items() if g > 0} for q, grades in data.qrels.items()}
        theirs = InformationRetrievalEvaluator(data.queries, data.corpus, relevant, mrr_at_k=[10], ndcg_at_k=[10],
                                               accuracy_at_k=[10], precision_recall_at_k=[100], map_at_k=[100],
                                               write_csv=False)(plain)
        pick = {k.removeprefix("cosine_"): float(v) for k, v in theirs.items()}
        out[name] = {"queries": report.queries, "documents": report.documents,
                     "graded": any(g > 1 for v in data.qrels.values() for g in v.values()),
                     "base": {k: report.base[k] for k in ("ndcg@10", "mrr@10", "recall@100", "map@100")},
                     "trec_eval_of_run_file": {k: sum(trec[q][t] for q in trec) / len(data.qrels) for k, t in (
                         ("ndcg@10", "ndcg_cut_10"), ("recall@100", "recall_100"), ("map@100", "map_cut_100"))},
                     "model": {k: report.metrics[k] for k in ("ndcg@10", "mrr@10", "recall@100", "map@100")},
                     "sentence_transformers": {k: pick[k] for k in ("ndcg@10", "mrr@10", "recall@100", "map@100")}}
    note = ("sentence-transformers' NDCG has binary gains and its queries are those with an answer. "
            "None of these collections is part of BEIR, and "
            "nfcorpus-pre holds preprocessed text, so no published BEIR figure can be reproduced from them.")
    return {"config": {"base_model": "all-MiniLM-L6-v2", "precision": model.precision},
            "collections": out, "note": note}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["share", "memory", "published", "collections"])
    parser.add_argument("--output", default="")
    parser.add_argument("--characters", type=int, default=400)
    parser.add_argument("--sets", default="med,cranfield,cacm")
    parser.add_argument("--precision", default="no")
    for name, value in (("documents", 100_000), ("queries", 1000), ("dim", 384)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    from ragcun.core import write_json
    model = None
    if args.what != "memory":
        from ragcun.models.encoder import GaussianEncoder
        model = GaussianEncoder.from_base(device="cpu", precision=args.precision)
    result = {**{"share": share, "memory": memory, "published": published,
                 "collections": collections}[args.what](args, model),
              "command": "python benchmarks/" + " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]])}
    if args.output:
        write_json(args.output, result)
    sys.stdout.write(f"{result}\n")


if __name__ == "__main__":
    main()

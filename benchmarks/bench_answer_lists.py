"""What people get: the answer list of an index made from documents alone, beside the base, BM25 and their fused ranks.

    python benchmarks/bench_answer_lists.py [COLLECTION …] [--base_model M --key NAME]

Nothing is trained and no judged question is looked at before the end. The prior weights were chosen on train and dev
questions where there are any and by leaving the judged collection out elsewhere; collections without such questions
were seen while tokens and form were chosen, which the results page says.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
from dataclasses import asdict
from pathlib import Path

from ragcun import GaussianEncoder, GaussianRetriever, load_retrieval
from ragcun.core import setup_logging
from ragcun.retrieval.measure import evaluate_index

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("RAGCUN_SHARED_DATA", ROOT.parent/"shared"/"data"))
COLLECTIONS = ["squad-small", "nfcorpus-pre", "cranfield", "cacm", "med", "medquad"]
METRICS = ("ndcg@10", "recall@100", "mrr@10")


def measure(name: str, model: GaussianEncoder) -> dict:
    "Index a collection and ask its test questions."
    from ragcun.cli.flags import read_corpus
    data = load_retrieval(SHARED/name, "test")
    index = GaussianRetriever(model)
    index.add(read_corpus(str(SHARED/name)))
    report = evaluate_index(index, data)
    lists = {k: {m: round(v[m], 4) for m in METRICS} for k, v in report.lists.items()}
    gains = {k: {n: round(x, 4) for n, x in asdict(d).items()} for k, d in report.difference.items()}
    print(name, {k: v["ndcg@10"] for k, v in lists.items()}, flush=True)
    return {"lists": lists, "difference": gains, "queries": len(data.qrels), "documents": report.documents}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=COLLECTIONS)
    parser.add_argument("--base_model")
    parser.add_argument("--key", default="all-MiniLM-L6-v2", help="under which name the base is recorded")
    parser.add_argument("--output", default=str(ROOT/"data"/"results"/"search_quality.json"))
    args = parser.parse_args()
    setup_logging()
    model = GaussianEncoder.from_base(args.base_model, device="cpu", precision="no")
    model.cached = True
    path = Path(args.output)
    found = json.loads(path.read_text()) if path.exists() else {}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    for name in args.names or COLLECTIONS:
        found.setdefault("bases", {}).setdefault(args.key, {})[name] = measure(name, model)
        found |= {"command": "python benchmarks/bench_answer_lists.py", "commit": commit.strip()}
        path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

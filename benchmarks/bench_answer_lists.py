"""What people get: the answer list of an index made from documents alone, beside the base, BM25 and their fused ranks.

    python benchmarks/bench_answer_lists.py [COLLECTION …] [--base_model M --key NAME] [--precision P]
    python benchmarks/bench_answer_lists.py --pairs [--closed_form] [COLLECTION …]

Nothing is trained and no judged question is looked at before the end. The prior weights were chosen on train and dev
questions where there are any and by leaving the judged collection out elsewhere; collections without such questions
were seen while tokens and form were chosen, which the results page says. "code" and "code-stdlib" are made here, from
the functions of installed packages and of Python itself: the first line of a docstring asks for the function, from
which the docstring was taken out.

With --pairs a head is fitted on the training pairs and the weights of both sides on the development questions, and
the answer list is compared with the dense model that version 0.1.0 kept (data/results/quality.json); with
--closed_form no head is trained, only solved for.
"""
from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ragcun import GaussianEncoder, GaussianRetriever, load_pairs, load_retrieval
from ragcun.core import setup_logging
from ragcun.data.collections import RetrievalData
from ragcun.retrieval.measure import evaluate_index

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("RAGCUN_SHARED_DATA", ROOT.parent/"shared"/"data"))
COLLECTIONS = ["squad-small", "nfcorpus-pre", "cranfield", "cacm", "med", "medquad", "code", "code-stdlib"]
WITH_PAIRS = ["medquad", "nfcorpus-pre", "squad-small", "demo"]
METRICS = ("ndcg@10", "recall@100", "mrr@10")
CODE = {"code": ("purelib", ("scipy", "sklearn", "sympy", "networkx")),
        "code-stdlib": ("stdlib", ("",))}
FUNCTIONS = 1200  # documents of a code collection; a third of them is asked for


def functions(folder: Path) -> Iterator[tuple[str, str]]:
    "First docstring line and source without the docstring of every function below a folder."
    for path in sorted(folder.rglob("*.py")):
        if {"test", "tests", "site-packages", "idlelib", "lib2to3"} & set(path.parts[len(folder.parts):]): continue
        try:
            source = path.read_text()
            tree = ast.parse(source)
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        lines = source.splitlines()
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and len(node.body) > 1:
                doc = node.body[0]
                asked = (ast.get_docstring(node) or "").split("\n\n")[0]
                if 4 <= len(asked.split()) <= 40 and asked.isascii():
                    body = lines[node.lineno - 1:doc.lineno - 1] + lines[doc.end_lineno:node.end_lineno]
                    yield " ".join(asked.split()), "\n".join(body)[:4000]


def code_search(name: str) -> RetrievalData:
    "Functions as documents, what their docstrings say first as questions."
    place, packages = CODE[name]
    root = Path(sysconfig.get_path(place))
    found = {}
    for asked, text in (pair for p in packages for pair in functions(root/p)):
        found.setdefault(asked.lower(), (asked, text))
    texts = {text: asked for asked, text in found.values() if len(text) >= 80}
    order = np.random.default_rng(0).permutation(len(texts))[:FUNCTIONS]
    chosen = [list(texts.items())[i] for i in order]
    corpus = {f"d{i}": text for i, (text, _) in enumerate(chosen)}
    queries = {f"q{i}": asked for i, (_, asked) in enumerate(chosen[:len(chosen)//3])}
    return RetrievalData(corpus, queries, {q: {f"d{q[1:]}": 1} for q in queries}, name)


def measure(name: str, model: GaussianEncoder) -> dict:
    "Index a collection and ask its test questions."
    from ragcun.cli.flags import read_corpus
    index = GaussianRetriever(model)
    if name in CODE:
        data = code_search(name)
        index.add(data.corpus)
    else:
        data = load_retrieval(SHARED/name, "test")
        index.add(read_corpus(str(SHARED/name)))
    row = summary(evaluate_index(index, data), len(data.qrels)) | {"precision": model.precision}
    print(name, {k: v["ndcg@10"] for k, v in row["lists"].items()}, flush=True)
    return row


def summary(report, queries: int) -> dict:
    "What is kept of a report."
    lists = {k: {m: round(v[m], 4) for m in METRICS} for k, v in report.lists.items()}
    gains = {k: {n: round(x, 4) for n, x in asdict(d).items()} for k, d in report.difference.items()}
    return {"lists": lists, "difference": gains, "queries": queries, "documents": report.documents}


def with_pairs(name: str, closed_form: bool) -> dict:
    "Fit on the pairs, weigh both sides on the development questions, ask the test questions."
    from ragcun.cli.demonstration import DemoConfig, demo_data
    from ragcun.cli.flags import read_corpus
    from ragcun.training.config import TrainConfig
    from ragcun.training.run import fit
    if name == "demo":
        made = demo_data(DemoConfig())
        train, dev, test = made.train, made.val, made.test
        documents = test.corpus
    else:
        train = load_pairs(SHARED/name)
        dev, test = (load_retrieval(SHARED/name, split) for split in ("dev", "test"))
        documents = read_corpus(str(SHARED/name))
    base = GaussianEncoder.from_base(device="cpu", precision="bf16")
    base.cached = True
    result = fit(base, train, dev, TrainConfig(freeze_base=True, closed_form=closed_form, seed=0))
    result.model.cached = True
    index = GaussianRetriever(result.model)
    index.add(documents)
    before = summary(evaluate_index(index, test, base=False), len(test.qrels))
    asked = list(dev.qrels)
    known = index.store.ids()
    answers = [[d for d, g in dev.qrels[q].items() if g > 0 and d in known] for q in asked]
    index.calibrate([dev.queries[q] for q in asked], answers, alpha=None)
    row = summary(evaluate_index(index, test), len(test.qrels))
    row["lists"]["prior"] = before["lists"]["search"]
    row |= {"kept": result.report["kept"], "pairs": len(train), "weights": [round(w, 3) for w in asdict(index.weights)
                                                                           .values()]}
    print(name, row["kept"], {k: v["ndcg@10"] for k, v in row["lists"].items()}, row["weights"], flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--pairs", action="store_true", help="fit on training pairs first")
    parser.add_argument("--closed_form", action="store_true", help="with --pairs: train no head")
    parser.add_argument("--base_model")
    parser.add_argument("--key", default="all-MiniLM-L6-v2", help="under which name the base is recorded")
    parser.add_argument("--precision", default="no")
    parser.add_argument("--output", default=str(ROOT/"data"/"results"/"search_quality.json"))
    args = parser.parse_args()
    setup_logging()
    path = Path(args.output)
    found = json.loads(path.read_text()) if path.exists() else {}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    found |= {"command": "python benchmarks/bench_answer_lists.py", "commit": commit.strip()}
    if args.pairs:
        place = found.setdefault("pairs, closed form" if args.closed_form else "pairs", {})
        names = args.names or WITH_PAIRS
        def one(name: str) -> dict:
            return with_pairs(name, args.closed_form)
    else:
        model = GaussianEncoder.from_base(args.base_model, device="cpu", precision=args.precision)
        model.cached = True
        place, names = found.setdefault("bases", {}).setdefault(args.key, {}), args.names or COLLECTIONS
        def one(name: str) -> dict:
            return measure(name, model)
    for name in names:
        place[name] = one(name)
        path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""A search without torch: the same answers from an export, the loss of eight bits, and what the start costs.

    python benchmarks/bench_runtime.py answers [COLLECTION …]       # torch beside the export, question by question
    python benchmarks/bench_runtime.py start [--index_dir D]        # seconds, CPU and memory of one search, in turns
    python benchmarks/bench_runtime.py encode                       # CPU seconds of encoding with each

`start` takes the index of `ragcun demo`. Nothing is chosen here.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench_encode import machine, versions
from ragcun.core import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("RAGCUN_SHARED_DATA", ROOT.parent/"shared"/"data"))
OUTPUT = ROOT/"data"/"results"/"runtime.json"
IMPORTS = "import onnxruntime, tokenizers, lancedb"


def ndcg(results: list[Any], names: list[str], qrels: dict[str, dict[str, int]]) -> float:
    "Mean NDCG@10 of what `search` returned."
    gain = 1/np.log2(np.arange(2, 12))
    values = []
    for name, r in zip(names, results, strict=True):
        grades = np.array([qrels[name].get(h.id, 0) for h in r.hits[:10]], float)
        best = np.sort([g for g in qrels[name].values() if g > 0])[::-1][:10]
        values.append(float((grades*gain[:len(grades)]).sum()/(best*gain[:len(best)]).sum()))
    return float(np.mean(values))


def gaps(one: list[Any], two: list[Any]) -> dict[str, Any]:
    "How far two lists of answers are apart."
    same = [[h.id for h in a.hits] == [h.id for h in b.hits] for a, b in zip(one, two, strict=True)]
    sets = [{h.id for h in a.hits} == {h.id for h in b.hits} for a, b in zip(one, two, strict=True)]
    pairs = [(x, y) for a, b in zip(one, two, strict=True) for x in a.hits for y in b.hits if x.id == y.id]
    return {"same ten in order": float(np.mean(same)), "same ten": float(np.mean(sets)),
            "same answered": float(np.mean([a.answered == b.answered for a, b in zip(one, two, strict=True)])),
            "evidence": max(abs(x.evidence - y.evidence) for x, y in pairs),
            "log p": max(abs(float(np.log(max(x.p_value, 1e-300)/max(y.p_value, 1e-300)))) for x, y in pairs)}


def answers(name: str, most: int = 200) -> dict[str, Any]:
    "One collection: torch in float32, torch as it usually runs here, the export, and the export of eight bits."
    from ragcun import GaussianEncoder, GaussianRetriever, load_retrieval
    from ragcun.core import pick_precision
    from ragcun.models.exporting import export_model
    from ragcun.models.runtime import ExportedEncoder
    data = load_retrieval(SHARED/name, "test")
    names = list(data.qrels)[:most]
    questions = [data.queries[n] for n in names]
    model = GaussianEncoder.from_base(None, device="cpu", precision="no")
    model.cached = True
    index = GaussianRetriever(model)
    index.add([{"id": i, "text": t} for i, t in data.corpus.items()])
    model.cached = False
    usual = pick_precision("auto", "cpu")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as d:
        lights = {p: (export_model(model, Path(d)/p, p), ExportedEncoder.load(Path(d)/p)) for p in ("float32", "int8")}
        z = {"torch float32": model.embed(questions, "query")}
        model.precision = usual
        z[f"torch {usual}"] = model.embed(questions, "query")
        z |= {f"export {p}": light.embed(questions, "query") for p, (_, light) in lights.items()}
    lists = {}
    for way, vectors in z.items():
        index.encode_queries = lambda queries, vectors=vectors: vectors.astype(float)  # the rest of a search is shared
        lists[way] = index.search(questions, top_k=10)
    for way in z:
        gap = z[way] - z["torch float32"]
        found[way] = {"coordinate": float(np.abs(gap).max()), "ndcg@10": ndcg(lists[way], names, data.qrels),
                      **gaps(lists["torch float32"], lists[way])}
    rows = {w: {k: round(v, 4) if v > 1e-3 else float(f"{v:.1e}") for k, v in r.items()} for w, r in found.items()}
    print(name, json.dumps(rows, indent=1), flush=True)
    return {"questions": len(questions), "documents": len(data.corpus), "ways": rows,
            "megabytes": {p: round(e.megabytes, 1) for p, (e, _) in lights.items()}}


def spent(command: list[str], **env: str) -> tuple[float, float, float]:
    "Wall seconds, CPU seconds and peak MB of a process."
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, env={**os.environ, **env})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss/1024


def start(index_dir: str, rounds: int) -> dict[str, Any]:
    "One question to an index, in turns with the imports that nothing can do without."
    search = ["-m", "ragcun", "search", "--index_dir", index_dir, "How do I compress data with gzip?"]
    ways = {"imports": ["-c", IMPORTS],
            "export": [*search, "--runtime", "onnx"], "torch": [*search, "--runtime", "torch"]}
    rows: dict[str, list[tuple[float, float, float]]] = {w: [] for w in ways}
    for r in range(rounds + 1):
        for way, command in ways.items():
            found = spent(command)
            if r:
                rows[way].append(found)      # the first round warms the disk
            print(way, [round(x, 2) for x in found], flush=True)
    middle = {w: dict(zip(("seconds", "cpu", "megabytes"), np.median(np.array(v), 0).round(2).tolist(), strict=True))
              for w, v in rows.items()}
    limit = 1.5*middle["imports"]["seconds"] + .5
    documents = read_json(Path(index_dir)/"manifest.json")["null_documents"]
    return {"rounds": rounds, "index": f"{Path(index_dir).name}, {documents:,} documents",
            "load": round(os.getloadavg()[0], 1),
            "median": middle, "limit": round(limit, 2),
            "cpu share of torch": round(middle["export"]["cpu"]/middle["torch"]["cpu"], 3)}


def encode(texts: int = 192) -> dict[str, Any]:
    "CPU seconds for the documents of a collection."
    from ragcun import GaussianEncoder, load_retrieval
    from ragcun.models.exporting import export_model
    from ragcun.models.runtime import ExportedEncoder
    documents = list(load_retrieval(SHARED/"cranfield", "test").corpus.values())[:texts]
    model = GaussianEncoder.from_base(None, device="cpu", precision="no")
    found = {}
    with tempfile.TemporaryDirectory() as d:
        ways: dict[str, Any] = {}
        for p in ("float32", "int8"):
            export_model(model, Path(d)/p, p)
            ways[f"export {p}"] = ExportedEncoder.load(Path(d)/p)
        for p in ("no", "bf16"):
            ways[f"torch {p.replace('no', 'float32')}"] = p
        for r in range(4):
            for way, how in ways.items():
                if isinstance(how, str):
                    model.precision = how
                started = time.process_time()
                (model if isinstance(how, str) else how).embed(documents)
                if r:
                    found.setdefault(way, []).append(time.process_time() - started)
    return {"texts": texts, "cpu seconds": {w: round(float(np.median(v)), 2) for w, v in found.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["answers", "start", "encode"])
    parser.add_argument("names", nargs="*", default=["cranfield", "squad-small", "med"])
    parser.add_argument("--index_dir", default="results/demo/index")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", default=str(OUTPUT))
    args = parser.parse_args()
    path = Path(args.output)
    found = json.loads(path.read_text()) if path.exists() else {}
    if args.part == "answers":
        for name in args.names:
            found.setdefault("answers", {})[name] = answers(name)
    else:
        found[args.part] = start(args.index_dir, args.rounds) if args.part == "start" else encode()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    write_json(path, found | {
        "command": "python benchmarks/bench_runtime.py answers && python benchmarks/bench_runtime.py start && "
        "python benchmarks/bench_runtime.py encode", "commit": commit.strip(), "machine": machine(),
        "versions": versions(sys.executable, ("torch", "onnxruntime", "lancedb"))})
    print(found.get(args.part))


if __name__ == "__main__":
    main()

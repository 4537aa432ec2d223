"""Repeat the recorded benchmarks on this machine: all of them, those named, or a quick subset.

    make bench                      # everything, hours on two cores
    make bench BENCH=quick          # under 15 minutes, into results/bench/
    make bench BENCH="quality null" # some

Each writes its file in data/results/, which the results notebooks read; run those again afterwards (`make sync`
after executing them). What has been measured here is not measured again until its script or a module behind it
changes, so that a run that was stopped goes on where it was, and the long ones inside, too; what the files held
before is replaced. BENCH="--again …" repeats everything. When all are done, their seconds are written to
data/results/bench.json. `python benchmarks/sources.py` lists which records are older than the code that they
measure. Collections are read from RAGCUN_SHARED_DATA (default ../shared/data). Peers that need other versions of
libraries get an environment of their own below the cache folder.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import sources

ROOT = Path(__file__).resolve().parent.parent
BENCHES = {
    "startup": ["benchmarks/bench_startup.py"],
    "runtime_answers": ["benchmarks/bench_runtime.py", "answers"],
    "runtime_encode": ["benchmarks/bench_runtime.py", "encode"],
    "encoding": ["benchmarks/bench_encode.py"],
    "training": ["benchmarks/bench_training.py", "--seconds", "200"],
    "growth": ["benchmarks/bench_growth.py"],
    "closed_form": ["benchmarks/bench_closed_form.py"],
    "quality": ["benchmarks/bench_quality.py", "demo", "squad-small", "nfcorpus-pre", "medquad", "--seeds", "2"],
    "full": ["benchmarks/bench_full.py"],
    "peers": ["benchmarks/bench_peers.py"],
    "ablation_head": ["benchmarks/bench_ablation.py", "head"],
    "ablation_full": ["benchmarks/bench_ablation.py", "full"],
    "ablation_mix": ["benchmarks/bench_ablation.py", "mix"],
    "ablation_moments": ["benchmarks/bench_ablation.py", "moments"],
    "null": ["benchmarks/bench_retrieval.py", "null"],
    "no_answer": ["benchmarks/bench_retrieval.py", "no_answer"],
    "storage": ["benchmarks/bench_retrieval.py", "storage"],
    "lists": ["benchmarks/bench_lists.py"],
    "answer_lists": ["benchmarks/bench_answer_lists.py"],
    "answer_lists_pairs": ["benchmarks/bench_answer_lists.py", "--pairs"],
    "answer_lists_closed_form": ["benchmarks/bench_answer_lists.py", "--pairs", "--closed_form"],
    "two_sided": ["benchmarks/bench_two_sided.py"],
    "whitening": ["benchmarks/bench_whitening.py"],
    "selection": ["benchmarks/bench_selection.py", "--runs", "150"],
    "curves": ["benchmarks/bench_curves.py"],
    "threads": ["benchmarks/bench_threads.py"],
    "documents_only_limits": ["benchmarks/bench_documents_only.py", "--limits"],
    "documents_only": ["benchmarks/bench_documents_only.py"],
    "documents_only_product": ["benchmarks/bench_documents_only.py", "--product"],
    "bases": ["benchmarks/bench_bases.py"],
    "bases_curve": ["benchmarks/bench_bases.py", "--curve"],
    "search": ["benchmarks/bench_search.py", "--output", "data/results/search_exact.json"],
    "index": ["benchmarks/bench_index.py", "--documents", "1000000", "--dim", "384"],
    "graph": ["benchmarks/bench_index.py", "--documents", "1000000", "--dim", "384", "--ann", "IVF_HNSW_SQ", "--real",
              "none", "--output", "data/results/index_graph.json"],
    "million": ["benchmarks/bench_million.py"],
    "serve": ["benchmarks/bench_serve.py", "--collection", "medquad"],
    "capacity": ["benchmarks/bench_capacity.py", "squad-small", "--pairs", "3000", "--queries", "500", "--documents",
                 "6000"],
    "capacity_medquad": ["benchmarks/bench_capacity.py", "medquad", "--pairs", "1500", "--queries", "400",
                         "--documents", "4000"],
    "share": ["benchmarks/bench_evaluate.py", "share", "--output", "data/results/evaluate_share.json"],
    "collections": ["benchmarks/bench_evaluate.py", "collections", "--sets", "med,cranfield,cacm,nfcorpus-pre",
                    "--output", "data/results/evaluate_collections.json"],
    "evaluate_memory": ["benchmarks/bench_evaluate.py", "memory", "--output", "data/results/evaluate_memory.json"],
    "published": ["benchmarks/bench_evaluate.py", "published", "--output", "data/results/evaluate_published.json"],
    "leaks": ["benchmarks/data_naive.py", "data/results/naive_split.json"],
    "memory": ["benchmarks/data_memory.py", "1000000", "data/results/prepare_memory.json"],
}
RESUMING = {"encoding": "encoding", "training": "training_speed", "growth": "growth", "quality": "quality",
            "full": "full", "peers": "peers", "bases": "bases",
            "lists": "answer_lists",
            # they go on inside, too, from what is in this file
            "ablation_head": "ablation", "ablation_full": "ablation", "ablation_mix": "ablation",
            "ablation_moments": "ablation"}
OUT = "results/bench"  # not tracked
QUICK = {
    "startup": ["benchmarks/bench_startup.py", "--rounds", "5", "--output", f"{OUT}/startup.json"],
    "encoding": ["benchmarks/bench_encode.py", "speed", "--documents", "100", "--rounds", "3", "--output",
                 f"{OUT}/encoding.json"],
    "training": ["benchmarks/bench_training.py", "full", "closed_form", "--precision", "bf16", "--rounds", "3",
                 "--steps", "3", "--output", f"{OUT}/training_speed.json"],
    "growth": ["benchmarks/bench_growth.py", "prepare", "closed_form", "evaluate", "index", "search", "--sizes", "1000",
               "10000", "--output", f"{OUT}/growth.json"],
    "serve": ["benchmarks/bench_serve.py", "--seconds", "20", "--output", f"{OUT}/serve.json"],
    "search": ["benchmarks/bench_search.py", "--documents", "100000", "--queries", "200", "--output",
               f"{OUT}/search_exact.json"],
    "index": ["benchmarks/bench_index.py", "--documents", "50000", "--real", "none", "--output",
              f"{OUT}/index_scale.json"],
    "memory": ["benchmarks/data_memory.py", "50000", f"{OUT}/prepare_memory.json"],
}


def journal(path: Path) -> dict[str, dict]:
    "What was run to the end here, by name."
    return json.loads(path.read_text()) if path.exists() else {}


def note(path: Path, name: str, entry: dict) -> None:
    "Add a finished benchmark, atomically."
    entries = journal(path) | {name: entry}
    path.with_suffix(".tmp").write_text(json.dumps(entries, indent=1) + "\n")
    os.replace(path.with_suffix(".tmp"), path)


def version_of(command: list[str]) -> str:
    "What decides the numbers: the code of the script, of its helpers and of the modules of ragcun behind them."
    script, package = sources.halves(command[:1])
    return f"{sources.together(script)}-{sources.together(package)}"


def perform(name: str, command: list[str], done: Path, again: bool) -> bool:
    """Run one benchmark unless it is done; whether all is well. Begun by this code, it goes on; else it begins
    anew, whatever its file holds."""
    entry = {"command": command, "sources": version_of(command)}
    begun, started = time.time(), time.perf_counter()
    before = journal(done).get(name, {})
    if again or any(before.get(k) != v for k, v in entry.items()):
        before = {}
    if "seconds" in before:
        print(f"── {name}: done by this code (--again repeats it)", flush=True)
        return True
    print(f"── {name}: python {' '.join(command)}", flush=True)
    entry["begun"] = before.get("begun", time.time())
    good = False
    anew = name in RESUMING and not written(name, entry["begun"])
    note(done, name, entry | {"spent": before.get("spent", 0)})
    try:
        good = subprocess.run([sys.executable, *command, *(["--again"] if anew else [])], cwd=ROOT).returncode == 0
    finally:
        spent = round(before.get("spent", 0) + time.perf_counter() - started)
        note(done, name, entry | {"seconds" if good else "spent": spent})
        print(f"   {spent} s", flush=True)
    if good:
        sources.stamp([p.name for p in sources.records() if p.stat().st_mtime > begun])
    return good


def written(name: str, begun: float) -> bool:
    "Whether a benchmark that was stopped had got as far as replacing what its file held before."
    file = ROOT/"data"/"results"/f"{RESUMING[name]}.json"
    return file.exists() and file.stat().st_mtime > begun


def record(done: Path) -> None:
    "Once all are done by the code as it is: the seconds of each, for the page that tells how long this takes."
    entries = [journal(done).get(name, {}) for name in BENCHES]
    if any("seconds" not in e or e["sources"] != version_of(BENCHES[n]) for n, e in zip(BENCHES, entries, strict=True)):
        return
    seconds = {name: e["seconds"] for name, e in zip(BENCHES, entries, strict=True)}
    result = {"command": "make bench", "machine": f"{os.cpu_count()} cores",
              "commit": sources.git("rev-parse", "--short", "HEAD"), "minutes": round(sum(seconds.values())/60, 1),
              "seconds": seconds}
    (ROOT/"data/results/bench.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"all {len(seconds)} benchmarks: {result['minutes']:.0f} minutes")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"quick, or of {', '.join(BENCHES)}")
    parser.add_argument("--again", action="store_true", help="also what is done")
    args = parser.parse_args()
    quick = args.names[:1] == ["quick"]
    table = QUICK if quick else BENCHES
    done = ROOT/OUT/f"{'quick' if quick else 'all'}.done.json"
    names = args.names[quick:] or list(table)
    unknown = [n for n in names if n not in table]
    if unknown:
        print(f"unknown benchmark: {', '.join(unknown)}. Use: {', '.join(table)}", file=sys.stderr)
        return 2
    done.parent.mkdir(parents=True, exist_ok=True)
    failed = [name for name in names if not perform(name, table[name], done, args.again)]
    if not quick:
        record(done)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())

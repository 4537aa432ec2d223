"""Repeat the recorded benchmarks on this machine: all of them, those named, or a quick subset.

    make bench                      # everything, hours on two cores
    make bench BENCH=quick          # under 15 minutes, into results/bench/
    make bench BENCH="quality null" # some
    make bench BENCH=--rest         # what the records of this checkout lack, wherever they were made

Each writes its file in data/results/, which the results notebooks read; run those again afterwards (`make sync`
after executing them). What has been measured here is not measured again until the code behind it changes, so that a
run that was stopped goes on where it was, and the long ones inside, too; what the files held before is replaced.
BENCH="--again …" repeats everything. The seconds, the commit and the machine of each are kept in
data/results/bench.json. `python benchmarks/sources.py` lists which records are not of the present code.
Collections are read from RAGCUN_SHARED_DATA (default ../shared/data). Peers that need other versions of libraries get
an environment of their own below the cache folder.
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
    "verdict": ["benchmarks/bench_verdict.py"],
    "typing": ["benchmarks/bench_typing.py"],
    "storage": ["benchmarks/bench_retrieval.py", "storage"],
    "lists": ["benchmarks/bench_lists.py"],
    "answer_lists": ["benchmarks/bench_answer_lists.py"],
    "answer_lists_pairs": ["benchmarks/bench_answer_lists.py", "--pairs"],
    "answer_lists_closed_form": ["benchmarks/bench_answer_lists.py", "--pairs", "--closed_form"],
    "two_sided": ["benchmarks/bench_two_sided.py"],
    "whitening": ["benchmarks/bench_whitening.py"],
    "selection": ["benchmarks/bench_selection.py", "--runs", "600"],
    "curves": ["benchmarks/bench_curves.py"],
    "threads": ["benchmarks/bench_threads.py"],
    "documents_only_limits": ["benchmarks/bench_documents_only.py", "--limits"],
    "documents_only": ["benchmarks/bench_documents_only.py"],
    "documents_only_product": ["benchmarks/bench_documents_only.py", "--product"],
    "bases": ["benchmarks/bench_bases.py"],
    "bases_curve": ["benchmarks/bench_bases.py", "--curve"],
    "doubt": ["benchmarks/bench_doubt.py"],
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
            "lists": "answer_lists", "bases_curve": "bases", "documents_only": "documents_only",
            "documents_only_limits": "documents_only", "documents_only_product": "documents_only",
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
    if good and BENCHES.get(name) == command:
        record(name, journal(done)[name])
        sources.stamp([p.name for p in sources.records() if p.stat().st_mtime > begun])
    return good


def written(name: str, begun: float) -> bool:
    "Whether a benchmark that was stopped had got as far as replacing what its file held before."
    file = ROOT/"data"/"results"/f"{RESUMING[name]}.json"
    return file.exists() and file.stat().st_mtime > begun


def record(name: str, entry: dict) -> None:
    "Keep what a finished benchmark took, with the results."
    path = ROOT/"data/results/bench.json"
    parts = json.loads(path.read_text())["parts"] if path.exists() else {}
    parts[name] = {"seconds": entry["seconds"], "sources": entry["sources"], "machine": machine(),
                   "commit": sources.git("rev-parse", "--short", "HEAD")}
    known = {n: parts[n] for n in BENCHES if n in parts}
    path.with_suffix(".tmp").write_text(json.dumps({"command": "make bench", "parts": known}, indent=1) + "\n")
    os.replace(path.with_suffix(".tmp"), path)


def machine() -> str:
    "Cores and processor, as far as the system tells."
    info = Path("/proc/cpuinfo")
    lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line) if info.exists() else {}
    named = {k.strip(): v.strip() for k, v in lines.items()}
    return ", ".join([f"{os.cpu_count()} cores", *(f"{w} {named[k]}" if w else named[k] for w, k in (
        ("", "vendor_id"), ("family", "cpu family"), ("model", "model")) if k in named)])


def recorded(name: str, command: list[str]) -> bool:
    "Whether the results beside this script hold a benchmark as the present code makes it."
    path = ROOT/"data/results/bench.json"
    parts = json.loads(path.read_text())["parts"] if path.exists() else {}
    return parts.get(name, {}).get("sources") == version_of(command)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"quick, or of {', '.join(BENCHES)}")
    parser.add_argument("--again", action="store_true", help="also what is done")
    parser.add_argument("--rest", action="store_true", help="not what this checkout holds of the present code")
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
    if args.rest:
        names = [n for n in names if not recorded(n, table[n])]
    failed = [name for name in names if not perform(name, table[name], done, args.again)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())

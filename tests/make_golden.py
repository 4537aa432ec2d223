"""Write tests/golden/*_<version>: what a release leaves on a disk and every later version must open with the same
hits and numbers.

Once per release that writes something new: python tests/make_golden.py. It refuses a version whose files are there:
they are frozen, and only the version that they are named after may write them. All stands on a random base of one
layer (32 features) and on the made-up texts below, so that the files are small; no path of a machine gets into them.

- base: the tiny base, with prompts. data: documents, pairs to train on (three questions a document) and to validate
 (one).
- model: a closed form in 12 coordinates; model.json has its vectors u and v, its evidence, and what `ragcun
 evaluate` says.
- run, run_full: what `ragcun train` had left after the first of two epochs, on the frozen base (with its residual
 layer) and
  with the base trained; the .json beside each has the rows and the report of the end.
- index, index_alone: the documents under the model that `run` ended with, calibrated by questions (null and
 no-answer rule)
  and without any (questions made from the documents); the .json beside each has what `ragcun search --json` says.
- haystack.yaml: `Pipeline.dumps()`, with INDEX_FOLDER and MODEL_FOLDER in place of folders.
- config.yaml: a file for `ragcun train --config`; train_config.json: what such a run wrote down.

The files without a version in their name are older: best_model.pt and vectors.json, a closed form in 8 coordinates on
`small_base(folder, width=16, layers=1)`, and checkpoint_epoch_1, metrics.jsonl and end.json of `golden_learner`,
written before positives_per_query, lambda_cosine and the residual layer existed.
"""
import contextlib
import io
import json
import logging
import os
import shutil
import sys
import tempfile
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
import ragcun  # noqa: E402
from ragcun import (GaussianEncoder, GaussianRetriever, PairSet, TrainConfig, fit_closed_form, load_pairs,
                    pairs_to_retrieval)  # noqa: E402
from ragcun.training.config import resolve_defaults  # noqa: E402
from ragcun.training.learner import Learner
from small import processed, small_base  # noqa: E402

GOLDEN = Path(__file__).parent/"golden"
VERSION = ragcun.__version__.replace(".", "_")

DOCUMENTS = [
    ("star", "sky", "a star is a ball of hot gas that makes its own light for billions of years"),
    ("moon", "sky", "the moon goes around the earth in four weeks and shows it one face only"),
    ("comet", "sky", "a comet is dirty ice that grows a tail when it comes near the warm sun"),
    ("eclipse", "sky", "in an eclipse the shadow of one world falls on another and the day turns dark"),
    ("cell", "life", "every plant and every animal is built from cells, each with a wall that lets food in"),
    ("root", "life", "roots drink water from the soil and hold the tree when the wind blows"),
    ("bee", "life", "bees dance in the hive to tell the others where the best flowers are"),
    ("mushroom", "life", "a mushroom is the fruit of threads that live below the forest floor"),
    ("router", "machine", "a router reads the address on each packet and sends it towards the right network"),
    ("compiler", "machine", "a compiler turns the program that people write into code that the machine runs"),
    ("cache", "machine", "a cache keeps what was asked for lately, so that the computer need not fetch it again"),
    ("backup", "machine", "a backup is a second copy of your files, kept in another place than the first"),
    ("bread", "kitchen", "bread rises since yeast eats sugar and leaves bubbles of gas in the dough"),
    ("tea", "kitchen", "green tea wants water below the boil, black tea wants it as hot as it gets"),
    ("salt", "kitchen", "salt draws water out of vegetables and keeps them from spoiling all winter"),
    ("butter", "kitchen", "cream that is shaken for long enough parts into butter and thin milk"),
]
TRAIN = (slice(7), slice(2, 9), slice(5, 12))
VALIDATE = slice(-7, None)
UNANSWERED = ["who won the chess game on friday", "zebra crossing rules in small towns"]
TEXTS = ["what is a star", "a star is a ball of hot gas", "How do bees tell the others?", "x", "butter " * 60]
KNOWN = ("id", "text", "evidence", "p_value", "e_value", "distance", "metadata")


def part(text, words):
    "A question that is made of some words of a document."
    return " ".join(text.split()[words])


QUESTIONS = [part(text, VALIDATE) for _, _, text in DOCUMENTS]
# not those that set a limit: no value equals it
ASKED = [*(part(text, slice(-8, -1)) for _, _, text in DOCUMENTS[::2]), *UNANSWERED]
CONFIG = """# a file for: ragcun train --config FILE
train_data: train.jsonl
val_data: val.jsonl
base_model: base
output-dir: from_config
device: cpu
freeze_base: true
epochs: 2
batch-size: 16
output_dim: 8
projection_learning_rate: 5e-4
mixed_precision: no
lambda_isotropy: 2
residual: false
warmup_ratio: .2
report_to: jsonl
seed: 3
"""


def golden_learner(base, folder, **more):
    "The run whose checkpoint is kept without a version in its name: two epochs of two steps."
    pairs = load_pairs(processed("train.json"))
    config = resolve_defaults(TrainConfig(freeze_base=True, epochs=2, batch_size=22, mixed_precision="no", n_slices=4,
                                          keep_last=1, residual=False, **more), len(pairs))
    model = GaussianEncoder.from_base(base, 8, "cpu", "no")
    model.base_id = "golden"
    return Learner(model, PairSet(list(pairs), "golden"), pairs_to_retrieval(load_pairs(processed("val.json"))),
                   config, folder)


def command(*argv):
    "The `ragcun` command in this process: what it printed."
    main = next(iter(entry_points(group="console_scripts", name="ragcun"))).load()
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            code = main([str(a) for a in argv])
    finally:
        logger = logging.getLogger("ragcun")
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
        logger.propagate = True
    assert code == 0, f"ragcun {argv[0]} ended with {code}"
    return out.getvalue()


def write(path, value):
    "JSON, numbers with six digits after the point."
    path.write_text(json.dumps(rounded(value), indent=1, ensure_ascii=False) + "\n")


def rounded(value):
    if isinstance(value, dict): return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)): return [rounded(v) for v in value]
    return round(float(value), 6) if isinstance(value, (float, np.floating)) else value


def evidence_of(model_folder, u, v):
    "Calibrated evidence [n, m] of query vectors u and document vectors v, from the numbers that lie in a model folder."
    from safetensors.numpy import load_file
    info = json.loads((model_folder/"ragcun.json").read_text())
    rho = load_file(model_folder/"ragcun.safetensors")["rho"].astype(float)
    z = np.square(u*np.sqrt(1 - rho**2)).sum(1)
    raw = -.5*np.log1p(-rho**2).sum() + .5*z[:, None] - .5*np.square(u[:, None] - v[None]).sum(-1)
    return info["a"] + info["tau"]*raw


def end_of_run(folder):
    "The rows of the last epoch and the report, without times and settings."
    report = json.loads((folder/"report.json").read_text())
    rows = [json.loads(line) for line in (folder/"metrics.jsonl").read_text().splitlines()]
    names = ("ndcg@10", "recall@10", "mrr@10", "participation_ratio", "embedding_std")
    last = [r for r in rows if r["epoch"] == rows[-1]["epoch"] and r["kind"] != "kept"]
    return {"rows": last, "kept": report["kept"],
            "candidates": {n: {k: c[k] for k in names} for n, c in report["candidates"].items()}}


def searched(index, **options):
    "What a search says, as `ragcun search --json` prints it."
    return [r.to_json() for r in index.search(ASKED, top_k=4, **options)]


def make_data(here):
    folder = here/"data"
    folder.mkdir()
    rows = [{"id": name, "text": text, "metadata": {"kind": kind, "words": len(text.split())}}
            for name, kind, text in DOCUMENTS]
    def pairs(words):
        return [{"query": part(text, words), "positive": text} for _, _, text in DOCUMENTS]
    files = {"documents": rows, "train": [p for words in TRAIN for p in pairs(words)], "val": pairs(VALIDATE)}
    for name, lines in files.items():
        (folder/f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name in ("train", "val"):
        shutil.copy(folder/f"{name}.jsonl", here)


def make_base(here):
    small_base(here/"raw", dropout=0., width=32, layers=1)
    shutil.move(here/"raw"/"base", here/"base")
    shutil.rmtree(here/"raw")
    settings = here/"base"/"config_sentence_transformers.json"
    write(settings, json.loads(settings.read_text()) | {"prompts": {"query": "query: ", "document": "passage: "}})


def make_model(here):
    model = fit_closed_form(GaussianEncoder.from_base("base", None, "cpu", "no"), load_pairs("train.jsonl"),
                            output_dim=12)
    model.save(here/"model")
    u = model.encode_query(TEXTS)
    v = model.encode_document(TEXTS)
    command("evaluate", "--model_path", "model", "--test_data", "val.jsonl", "--output_file", "said.json", "--device",
            "cpu", "--mixed_precision", "no")
    said = json.loads((here/"said.json").read_text())
    write(here/"model.json",
          {"texts": TEXTS, "query": u.tolist(), "document": v.tolist(),
           "evidence": evidence_of(here/"model", u, v).tolist(), "metrics": said["metrics"], "base": said["base"]})


def make_run(here, name, *flags):
    "A run of two epochs; what lies there after the first is kept, and the end written down."
    command("train", "--train_data", "train.jsonl", "--val_data", "val.jsonl", "--base_model", "base", "--output_dir",
            "out", "--device", "cpu", "--mixed_precision", "no", "--epochs", 2, "--batch_size", 16, "--output_dim", 12,
            "--keep_last", 0, "--n_slices", 8, *flags)
    run = here/name
    size = torch.load("out/checkpoint_epoch_1.pt", weights_only=True)["log_bytes"]
    run.mkdir()
    for file in ("checkpoint_epoch_1.pt", "checkpoint_epoch_1.json", "train_config.json"):
        shutil.copy(here/"out"/file, run)
    (run/"metrics.jsonl").write_bytes((here/"out"/"metrics.jsonl").read_bytes()[:size])
    write(here/f"{name}.json", end_of_run(here/"out"))
    shutil.move(here/"out", here/f"ended_{name}")


def make_index(here, name, calibrate):
    model = GaussianEncoder.load(here/"ended_run"/"model", "cpu", "no")
    index = GaussianRetriever(model, here/name)
    index.add([json.loads(line) for line in (here/"data"/"documents.jsonl").read_text().splitlines()])
    calibrate(index)
    (here/name/".writer.lock").unlink()
    again = GaussianRetriever.open(here/name, model)
    write(here/f"{name}.json", {"questions": ASKED, "results": searched(again),
                                "in the kitchen": searched(again, filter={"kind": "kitchen"}),
                                "within E-value 1": searched(again, max_e_value=1.), "documents": len(again)})


def make_haystack(here):
    from haystack import Pipeline

    from ragcun.integrations.frameworks import haystack_document_embedder, haystack_retriever, haystack_text_embedder
    p = Pipeline()
    p.add_component("retriever", haystack_retriever("INDEX_FOLDER", top_k=3, max_e_value=None, device="cpu"))
    p.add_component("documents", haystack_document_embedder("MODEL_FOLDER", "cpu"))
    p.add_component("question", haystack_text_embedder("MODEL_FOLDER", "cpu"))
    p.connect("retriever.documents", "documents.documents")
    (here/"haystack.yaml").write_text(p.dumps())


def make_config(here):
    (here/"config.yaml").write_text(CONFIG)
    command("train", "--config", "config.yaml", "--epochs", 1)
    shutil.copy(here/"from_config"/"train_config.json", here)


def make_all(here):
    "Everything, in a folder that is the current one, so that only relative paths are written."
    make_data(here)
    make_base(here)
    make_model(here)
    make_run(here, "run", "--freeze_base", "--projection_learning_rate", 5e-3)
    make_run(here, "run_full", "--base_learning_rate", 1e-3, "--no-finish_head")
    make_index(here, "index", lambda index: index.calibrate(QUESTIONS, [[name] for name, _, _ in DOCUMENTS], alpha=.2))
    make_index(here, "index_alone", lambda index: index.calibrate(alpha=.2))
    make_haystack(here)
    make_config(here)


def named(name):
    "The name that a file or folder of this version has under tests/golden."
    return f"{Path(name).stem}_{VERSION}{Path(name).suffix}"


KEPT = ("data", "base", "model", "model.json", "run", "run.json", "run_full", "run_full.json", "index", "index.json",
        "index_alone", "index_alone.json", "haystack.yaml", "config.yaml", "train_config.json")


def main():
    there = [named(n) for n in KEPT if (GOLDEN/named(n)).exists()]
    if there:
        raise SystemExit(f"{', '.join(there)}: the files of version {ragcun.__version__} are there, and are frozen. "
                         "A new version writes its own.")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as d:
        os.environ["RAGCUN_CACHE"] = f"{d}/cache"
        here = Path(d)/"golden"
        here.mkdir()
        os.chdir(here)
        make_all(here)
        for name in KEPT:
            shutil.move(here/name, GOLDEN/named(name))
        os.chdir(GOLDEN)
    print(json.dumps({n: sum(p.stat().st_size for p in (GOLDEN/n).glob("**/*") if p.is_file())
                      or (GOLDEN/n).stat().st_size for n in map(named, KEPT)}, indent=1))


if __name__ == "__main__":
    main()

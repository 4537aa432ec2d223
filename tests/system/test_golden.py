"""What version 0.1.0 left on a disk opens in this one, with the same hits and numbers: see make_golden.py for what
lies there.

Only public names, the command, and the files themselves are used, so that nothing here follows where modules move.
"""
import json
import logging
import shutil
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from ragcun import GaussianEncoder, GaussianRetriever, TrainConfig, evaluate, fit, load_pairs, load_retrieval
from ragcun.core import sha256_file
from ragcun.training import closed_form
from small import small_base

GOLDEN = Path(__file__).parent/"golden"
if not GOLDEN.exists():
    GOLDEN = GOLDEN.parent.parent/"golden"  # from a folder below tests/
CLOSE = {"rtol": 1e-5, "atol": 1e-5}          # a vector, a hit: forward passes in float32
NEAR = {"rtol": 2e-3, "atol": 2e-3}           # after steps of an optimiser
RUN_FILES = ("checkpoint_epoch_1.pt", "checkpoint_epoch_1.json", "metrics.jsonl")


def of_0_1_0(name):
    "The golden file or folder of this name."
    return GOLDEN/f"{Path(name).stem}_0_1_0{Path(name).suffix}"


def said(name):
    return json.loads(of_0_1_0(name).read_text())


@pytest.fixture()
def here(tmp_path, monkeypatch):
    "A current folder with copies of the fixtures: nothing may change those. bf16 is off, whatever this machine has."
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    monkeypatch.setenv("RAGCUN_CACHE", str(tmp_path/"cache"))
    for name in ("base", "model", "index", "index_alone"):
        shutil.copytree(of_0_1_0(name), tmp_path/name)
    for file in of_0_1_0("data").iterdir():
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    logger = logging.getLogger("ragcun")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = True


def command(*argv):
    "The `ragcun` command, in this process."
    main = next(iter(entry_points(group="console_scripts", name="ragcun"))).load()
    assert main([str(a) for a in argv]) == 0


def same_numbers(got, want, tolerance, where=""):
    "Everything that is wanted is there and alike; what is new may stand beside it."
    if isinstance(want, dict):
        assert not set(want) - set(got), where
        for k in want:
            same_numbers(got[k], want[k], tolerance, f"{where}/{k}")
    elif isinstance(want, list):
        assert len(got) == len(want), where
        for i, (g, w) in enumerate(zip(got, want, strict=True)):
            same_numbers(g, w, tolerance, f"{where}/{i}")
    elif isinstance(want, float):
        np.testing.assert_allclose(got, want, **tolerance, err_msg=where)
    else:
        assert got == want, where


def test_same_numbers_can_fail():
    same_numbers({"a": [1., {"b": "x"}], "new": 1}, {"a": [1. + 1e-7, {"b": "x"}]}, CLOSE)
    for got in ({"a": [1.1]}, {"a": [1., 1.]}, {}, {"a": ["1"]}):
        with pytest.raises((AssertionError, TypeError)):
            same_numbers(got, {"a": [1.]}, CLOSE)


# ---- model

def evidence(folder, u, v):
    "Calibrated evidence from the numbers of a model folder: what they mean does not change."
    info = json.loads((folder/"ragcun.json").read_text())
    rho = load_file(folder/"ragcun.safetensors")["rho"].astype(float)
    z = np.square(u*np.sqrt(1 - rho**2)).sum(1)
    raw = -.5*np.log1p(-rho**2).sum() + .5*z[:, None] - .5*np.square(u[:, None] - v[None]).sum(-1)
    return info["a"] + info["tau"]*raw


def test_model_gives_the_same_vectors_and_evidence(here):
    want = said("model.json")
    model = GaussianEncoder.load(here/"model", "cpu", "no")
    u = model.encode_query(want["texts"])
    v = model.encode_document(want["texts"])
    np.testing.assert_allclose(u, want["query"], **CLOSE)
    np.testing.assert_allclose(v, want["document"], **CLOSE)
    np.testing.assert_allclose(evidence(here/"model", u, v), want["evidence"], **CLOSE)


def test_model_opens_without_ragcun(here):
    from sentence_transformers import SentenceTransformer
    want = said("model.json")
    model = SentenceTransformer(str(here/"model"), device="cpu")
    np.testing.assert_allclose(model.encode_query(want["texts"]), want["query"], **CLOSE)
    np.testing.assert_allclose(model.encode_document(want["texts"]), want["document"], **CLOSE)


def test_model_saved_again_is_the_same_model(here):
    model = GaussianEncoder.load(here/"model", "cpu", "no")
    model.save(here/"again")
    old, new = (json.loads((here/name/"ragcun.json").read_text()) for name in ("model", "again"))
    same_numbers(new, {k: v for k, v in old.items() if k != "versions"}, {"rtol": 0, "atol": 0})
    want = said("model.json")
    np.testing.assert_array_equal(GaussianEncoder.load(here/"again", "cpu", "no").encode_query(want["texts"]),
                                  model.encode_query(want["texts"]))


def test_model_evaluates_the_same(here):
    command("evaluate", "--model_path", "model", "--test_data", "val.jsonl", "--output_file", "e.json", "--device",
            "cpu", "--mixed_precision", "no")
    found = json.loads((here/"e.json").read_text())
    want = said("model.json")
    same_numbers(found, {"metrics": want["metrics"], "base": want["base"]}, CLOSE)
    report = evaluate(GaussianEncoder.load(here/"model", "cpu", "no"), load_retrieval(here/"val.jsonl"))
    report.save(here/"f.json")
    same_numbers(json.loads((here/"f.json").read_text()), {"metrics": want["metrics"]}, CLOSE)


def test_older_model_in_one_file():
    want = json.loads((GOLDEN/"vectors.json").read_text())
    model = GaussianEncoder.load(GOLDEN/"best_model.pt", "cpu", "no")
    np.testing.assert_allclose(model.encode_query(want["texts"]), want["query"], **CLOSE)
    np.testing.assert_allclose(model.encode_document(want["texts"]), want["document"], **CLOSE)


# ---- index

def searched(index, questions, **options):
    return [json.loads(json.dumps(r.to_json())) for r in index.search(questions, top_k=4, **options)]


@pytest.mark.parametrize("name", ["index", "index_alone"])
def test_index_gives_the_same_hits(here, name):
    want = said(f"{name}.json")
    index = GaussianRetriever.open(here/name, device="cpu")
    assert len(index) == want["documents"]
    same_numbers(searched(index, want["questions"]), want["results"], CLOSE)
    same_numbers(searched(index, want["questions"], filter={"kind": "kitchen"}), want["in the kitchen"], CLOSE)
    same_numbers(searched(index, want["questions"], max_e_value=1.), want["within E-value 1"], CLOSE)
    assert 0 < sum(r["answered"] for r in want["results"]) < len(want["results"])  # a limit that decides something


@pytest.mark.parametrize("name", ["index", "index_alone"])
def test_index_answers_the_command(here, name, capsys):
    want = said(f"{name}.json")
    for question, result in zip(want["questions"][:3], want["results"], strict=False):
        command("search", "--index_dir", name, question, "--top_k", 4, "--json", "--device", "cpu")
        same_numbers(json.loads(capsys.readouterr().out), result, CLOSE)


def test_index_goes_on_growing(here):
    want = said("index.json")
    index = GaussianRetriever.open(here/"index", device="cpu")
    assert index.add([{"id": "chess", "text": "who won the chess game on friday", "metadata": {"kind": "game"}}]) == 1
    again = GaussianRetriever.open(here/"index", device="cpu")
    assert "chess" in [h.id for h in again.search("who won the chess game on friday", top_k=3)]
    assert again.delete("chess") == 1
    same_numbers(searched(GaussianRetriever.open(here/"index", device="cpu"), want["questions"]),
                 want["results"], CLOSE)


def test_index_extended_by_the_command(here, capsys):
    rows = ((here/"documents.jsonl").read_text()
            + json.dumps({"id": "chess", "text": "the king is taken and the game ends"}) + "\n")
    (here/"more.jsonl").write_text(rows)
    command("index", "--model_path", "index/model", "--documents", "more.jsonl", "--index_dir", "index", "--device",
            "cpu", "--mixed_precision", "no")
    assert len(GaussianRetriever.open(here/"index", device="cpu")) == said("index.json")["documents"] + 1


def test_index_says_what_it_lacks(here, caplog):
    command("search", "--index_dir", "index", "what is a star", "--json", "--device", "cpu")
    assert caplog.text.count("version 0.1.0 and searches by meaning alone") == 1


def test_texts_without_ids_are_not_indexed_twice(here):
    (here/"lines.txt").write_text("the king is taken and the game ends\nno rain falls where camels rest\n")
    index = GaussianRetriever.open(here/"index", device="cpu")
    index.add((here/"lines.txt").read_text().splitlines())      # with ids as 0.1.0 made them
    command("index", "--documents", "lines.txt", "--index_dir", "index", "--device", "cpu")
    store = pytest.importorskip("ragcun.integrations.langchain").GaussianVectorStore(index)
    store.add_texts(["the king is taken and the game ends"], [{"by": "a chain"}])
    assert len(GaussianRetriever.open(here/"index", device="cpu")) == said("index.json")["documents"] + 2


@pytest.mark.parametrize("name", ["index", "index_alone"])
def test_a_copy_of_an_old_index_answers_as_it_does(here, name):
    "Its limit was set for meaning alone; and a text goes in under the id that it has there."
    want = said(f"{name}.json")
    for copy in (GaussianRetriever.open(here/name, device="cpu").save(here/"copy"),
                 GaussianRetriever.open(here/"copy", device="cpu")):
        same_numbers(searched(copy, want["questions"]), want["results"], CLOSE)
        same_numbers(searched(copy, want["questions"], filter={"kind": "kitchen"}), want["in the kitchen"], CLOSE)
    old = GaussianRetriever.open(here/name, device="cpu")
    for index in (old, copy):
        index.add(["the king is taken and the game ends"])
    assert old.store.ids() == copy.store.ids()


def test_files_of_an_old_index_are_followed(here, capsys):
    "0.1.0 wrote a passage's file into its id alone: what such a file has lost goes, and a file that is gone is named."
    index = GaussianRetriever.open(here/"index", device="cpu")
    index.add([{"id": f"{name}.md#{i}", "text": f"{name} says {i}"} for name in ("one", "gone") for i in (1, 2)])
    (here/"docs").mkdir()
    (here/"docs"/"one.md").write_text("# One\n\nNo rain falls where camels rest, and nobody minds.")
    flags = "index", "--documents", "docs", "--index_dir", "index", "--device", "cpu"
    command(*flags, "--update")
    assert "not among the documents: 1 file of the index (gone.md); --prune" in capsys.readouterr().out
    ids = GaussianRetriever.open(here/"index", device="cpu").store.ids()
    assert {i for i in ids if "#" in i} == {"one.md#1", "gone.md#1", "gone.md#2"}
    command(*flags, "--prune")
    assert "removed: 2 passages of 1 file no longer there (gone.md)" in capsys.readouterr().out
    assert {i for i in GaussianRetriever.open(here/"index", device="cpu").store.ids() if "#" in i} == {"one.md#1"}


def test_fit_of_an_old_index_is_refused(here, capsys):
    main = next(iter(entry_points(group="console_scripts", name="ragcun"))).load()
    assert main(["index", "--documents", "documents.jsonl", "--index_dir", "index", "--fit", "--device", "cpu"]) == 2
    assert "version 0.1.0 made this index" in capsys.readouterr().err.splitlines()[-1]


# ---- runs

def end_of_run(folder, want):
    "Rows of the last epoch and the report, as they were written down."
    report = json.loads((folder/"report.json").read_text())
    rows = [json.loads(line) for line in (folder/"metrics.jsonl").read_text().splitlines()]
    last = [r for r in rows if r["epoch"] == want["rows"][-1]["epoch"] and r["kind"] != "kept"]  # 0.1.0 has no such row
    for row in [*want["rows"], *last]:
        for key in ("val_loss", "val_cosine"):
            row.pop(key, None)  # 0.1.0 left the cosine out of the losses of validation
    return {**report, "rows": last}


@pytest.mark.parametrize("name", ["run", "run_full"])
def test_run_goes_on_from_its_checkpoint_to_the_same_end(here, name, caplog, monkeypatch):
    """No change is allowed: settings, data and base must be told to the checkpoint as they were then. The ridge is the
    one thing that has changed: it followed the pairs, and follows different texts since 0.2.0."""
    monkeypatch.setattr(closed_form.Moments, "ridge", lambda m: closed_form._ridge(m.spectrum[1], m.n))
    caplog.set_level(logging.INFO, "ragcun")
    shutil.copytree(of_0_1_0(name), here/"out")
    shutil.move(here/"out"/"train_config.json", here/"settings.json")
    first = (here/"out"/"metrics.jsonl").read_bytes()
    command("train", "--config", "settings.json", "--resume_from", "auto")
    assert (here/"out"/"metrics.jsonl").read_bytes().startswith(first)
    want = said(f"{name}.json")
    same_numbers(end_of_run(here/"out", want), want, NEAR)
    same_numbers(json.loads((here/"out"/"train_config.json").read_text()),
                 {k: v for k, v in json.loads((here/"settings.json").read_text()).items()
                  if k not in ("config", "resume_from")}, CLOSE)


def test_checkpoint_of_another_setting_is_still_refused(here, capsys):
    shutil.copytree(of_0_1_0("run"), here/"out")
    shutil.move(here/"out"/"train_config.json", here/"settings.json")
    main = next(iter(entry_points(group="console_scripts", name="ragcun"))).load()
    assert main(["train", "--config", "settings.json", "--resume_from", "auto", "--lambda_isotropy", "3"]) == 2
    assert "lambda_isotropy" in capsys.readouterr().err.splitlines()[-1]


def test_run_that_was_asked_for_auto_goes_on_in_the_precision_that_this_gave(here, capsys):
    "0.1.0 took bf16 where this version takes float32: the refusal names the flag, and the flag is enough."
    shutil.copytree(of_0_1_0("run"), here/"out")
    shutil.move(here/"out"/"train_config.json", here/"settings.json")
    path = here/"out"/"checkpoint_epoch_1.pt"
    state = torch.load(path, weights_only=True)
    state["facts"] |= {"mixed_precision": "auto", "precision": "bf16"}
    torch.save(state, path)
    (here/"out"/"checkpoint_epoch_1.json").write_text(json.dumps(
        json.loads((here/"out"/"checkpoint_epoch_1.json").read_text())
        | {"bytes": path.stat().st_size, "sha256": sha256_file(path)}))
    main = next(iter(entry_points(group="console_scripts", name="ragcun"))).load()
    flags = ["train", "--config", "settings.json", "--resume_from", "auto"]
    assert main([*flags, "--mixed_precision", "no"]) == 2
    assert "Use the old values (--mixed_precision bf16)" in capsys.readouterr().err.splitlines()[-1]
    command(*flags, "--mixed_precision", "bf16")


def test_older_checkpoint_goes_on(here):
    "One that names fewer settings than 0.1.0 had: `fit` takes it where changes are allowed."
    (here/"old").mkdir()
    for name in RUN_FILES:
        shutil.copy(GOLDEN/name, here/"old")
    state = torch.load(here/"old"/"checkpoint_epoch_1.pt", weights_only=True)
    assert (state["epoch"], "positives_per_query" in state["facts"]) == (1, False)
    processed = GOLDEN.parent.parent/"data"/"processed"
    pairs = load_pairs(processed/"train.json")
    model = GaussianEncoder.from_base(str(small_base(here/"tiny", width=16, layers=1)), 8, "cpu", "no")
    config = TrainConfig(freeze_base=True, epochs=2, batch_size=22, mixed_precision="no", n_slices=4, keep_last=1,
                         residual=False, resume_from="auto", allow_changes=True)
    result = fit(model, pairs, load_retrieval(processed/"val.json"), config, here/"old")
    want = [json.loads(line) for line in (GOLDEN/"metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in result.rows if r["kind"] == "step"] == [1, 2, 3, 4]
    same_numbers(result.rows[:len(want)], want, CLOSE)
    end = json.loads((GOLDEN/"end.json").read_text())
    np.testing.assert_allclose(max(r["val_ndcg@10"] for r in result.rows if r["kind"] == "epoch"),
                               end["ndcg@10"], atol=1e-4)


# ---- settings

def test_config_file_means_the_same(here):
    "A --config file of 0.1.0, the command line before it; the train_config.json that comes of it stays flat."
    shutil.copy(of_0_1_0("config.yaml"), here/"config.yaml")
    command("train", "--config", "config.yaml", "--epochs", 1)
    written = json.loads((here/"from_config"/"train_config.json").read_text())
    want = said("train_config.json")
    same_numbers(written, want, CLOSE)


def test_train_config_takes_its_fields_flat():
    flags = ("train_data", "split_name", "val_data", "base_model", "output_dir", "device",
             "trust_remote_code", "config")
    given = {k: v for k, v in said("train_config.json").items() if k not in flags}
    config = TrainConfig(**given)
    assert len(given) == 39 and {k: getattr(config, k) for k in given} == given
    assert TrainConfig(epochs=3).epochs == 3


# ---- haystack

def test_haystack_pipeline_from_a_file(here):
    haystack = pytest.importorskip("haystack", reason="extra haystack-ai is not installed")
    text = of_0_1_0("haystack.yaml").read_text()
    assert text.count("ragcun.haystack_adapter.") == 3
    text = text.replace("INDEX_FOLDER", "index").replace("MODEL_FOLDER", "model")
    pipeline = haystack.Pipeline.loads(text, allowed_modules=["ragcun.haystack_adapter"])
    for _ in range(2):
        run_pipeline(pipeline)
        # and what this version writes of it
        pipeline = haystack.Pipeline.loads(pipeline.dumps(), allowed_modules=["ragcun"])


def run_pipeline(pipeline):
    "The hits of the index, their vectors, and the vector of a question."
    want = said("index.json")
    vectors = said("model.json")
    model = GaussianEncoder.load("model", "cpu", "no")
    for question, result in zip(want["questions"], want["results"], strict=True):
        out = pipeline.run({"retriever": {"query": question}, "question": {"text": vectors["texts"][0]}})
        found = out["documents"]["documents"]
        hits = result["hits"][:3]
        meta = [{**h["metadata"], **{k: h[k] for k in ("evidence", "e_value", "p_value")}} for h in hits]
        same_numbers([d.meta for d in found], meta, CLOSE)
        assert [(d.id, d.content) for d in found] == [(h["id"], h["text"]) for h in hits]
        np.testing.assert_allclose([d.score for d in found],
                                   [1/(1 + want["documents"]*np.exp(-h["evidence"])) for h in hits], **CLOSE)
        np.testing.assert_allclose([d.embedding for d in found],
                                   model.encode_document([d.content for d in found]), **CLOSE)
        np.testing.assert_allclose(out["question"]["embedding"], vectors["query"][0], **CLOSE)


# ---- the files themselves

def test_fixtures_hold_no_path_of_a_machine():
    marks = [b"/" + word + b"/" for word in (b"root", b"home", b"tmp", b"work", b"Users", b"site-packages")]
    files = {p: p.read_bytes() for p in GOLDEN.rglob("*") if p.is_file()}
    assert len(files) > 60 and not [p.name for p, data in files.items() if any(m in data for m in marks)]
    assert sum(map(len, files.values())) < 1_500_000

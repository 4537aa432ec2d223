"""Exported models: every family of base gives torch's vectors without torch, a search gives torch's answer, and what
cannot be exported is said in one line."""
import copy
import io
import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from ragcun.cli.commands import main  # noqa: E402
from ragcun.core import UserError, read_json, write_json  # noqa: E402
from ragcun.models import exporting  # noqa: E402
from ragcun.models.encoder import GaussianEncoder  # noqa: E402
from ragcun.models.exporting import export_model  # noqa: E402
from ragcun.models.runtime import EXPORTED, ExportedEncoder, open_graph, pick_runtime  # noqa: E402
from ragcun.retrieval.index import has_export, keep_export  # noqa: E402
from ragcun.retrieval.retriever import GaussianRetriever  # noqa: E402
from small import ROOT, processed, small_base  # noqa: E402

HEAVY = ("torch", "transformers", "sentence_transformers", "matplotlib", "scipy.stats")
ALONE = """
import sys
for name in sys.argv[1].split():
    sys.modules[name] = None    # as if it were not installed
from ragcun.cli.commands import main
code = main(sys.argv[2:])
print(*(n for n in {heavy} if sys.modules.get(n)), file=sys.stderr, end="")
sys.exit(code)
"""
QUESTIONS = ["what is machine learning", "how does photosynthesis work", "zqxj"]


@pytest.fixture(scope="module")
def texts():
    return list(dict.fromkeys(r["positive"] for r in json.loads(Path(processed("train.json")).read_text())))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    "Two heads, a residual layer that bends, prompts: all that a model can have."
    place = tmp_path_factory.mktemp("exporting")
    model = GaussianEncoder.from_base(small_base(place/"b"), 24, "cpu", "no", query_prompt="query: ",
                                      document_prompt="passage: ")
    draw = np.random.default_rng(0)
    weight, bias, rho = model.head_arrays()
    model.set_head(weight, bias + .3, np.linspace(.9, .3, 24), (weight + draw.normal(0, .5, weight.shape), bias - .2))
    model.add_residual()
    model.residual.linear.weight.data.normal_(0, .3)
    return model


@pytest.fixture(scope="module")
def index(fitted, texts, tmp_path_factory):
    "An index with an export in it."
    folder = tmp_path_factory.mktemp("index")/"index"
    found = GaussianRetriever(fitted, folder)
    found.add([{"id": f"d{i}", "text": t, "metadata": {"part": i % 2}} for i, t in enumerate(texts)])
    assert main(["export", "--index_dir", str(folder)]) == 0
    return folder


def near(a, b, tolerance=1e-4):
    "Equal in every name and word, and in numbers to a tolerance."
    if isinstance(a, dict): return a.keys() == b.keys() and all(near(a[k], b[k], tolerance) for k in a)
    if isinstance(a, list): return len(a) == len(b) and all(near(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, float): return abs(a - b) <= tolerance*max(1, abs(a))
    return a == b


def alone(*argv, absent=""):
    "The command in a process of its own, some packages absent: (code, output, what it says or has imported)."
    run = subprocess.run([sys.executable, "-c", ALONE.format(heavy=HEAVY), absent, *map(str, argv)], text=True,
                         capture_output=True, env={**os.environ, "RAGCUN_RUNTIME": ""})
    return run.returncode, run.stdout, run.stderr


def test_vectors_of_both_sides_are_torch_s(fitted, texts, tmp_path):
    export = export_model(fitted, tmp_path/"x")
    light = ExportedEncoder.load(tmp_path/"x")
    some = [*texts[:20], "", "word " * 300]
    assert export.difference < 1e-5 and light.fingerprint == fitted.fingerprint and light.prompts == fitted.prompts
    for side in ("query", "document"):
        np.testing.assert_allclose(light.embed(some, side), fitted.embed(some, side), atol=2e-5)
    np.testing.assert_allclose(light.encode_query(some), fitted.encode_query(some), atol=2e-5)
    np.testing.assert_allclose(light.encode_document(some), fitted.encode_document(some), atol=2e-5)
    np.testing.assert_allclose(light.evidence(some[:3], some), fitted.evidence(some[:3], some), atol=1e-3)
    assert not np.allclose(light.embed(some, "query"), light.embed(some, "document"), atol=.1)   # sides count


@pytest.mark.parametrize("options", [{}, {"words": 0.}, {"top_k": 10, "filter": {"part": 1}}, {"max_e_value": 1.}])
def test_a_search_is_the_same_without_torch(index, options):
    heavy = GaussianRetriever.open(index, device="cpu", runtime="torch")
    heavy.model.precision = "no"        # the machine may compute in bf16, which changes more than the runtime does
    light = GaussianRetriever.open(index, runtime="onnx")
    assert type(light.model) is ExportedEncoder and type(heavy.model) is GaussianEncoder
    torch, onnx = ([r.to_json() for r in i.search(QUESTIONS, **options)] for i in (heavy, light))
    assert len(torch) == 3 and near(torch, onnx)
    assert not near(torch, [{**r, "chance": .123} for r in onnx])      # the comparison can fail


@pytest.mark.parametrize("absent", ["", " ".join(HEAVY)])
def test_search_imports_nothing_of_torch(index, absent):
    code, said, imported = alone("search", "--index_dir", index, "--json", QUESTIONS[0], absent=absent)
    assert (code, imported) == (0, "")
    there = GaussianRetriever.open(index, runtime="onnx").search(QUESTIONS[0]).to_json()
    assert near(json.loads(said), json.loads(json.dumps(there)))


def test_a_program_that_stays_has_its_weights_packed(index, monkeypatch):
    seen = []
    monkeypatch.setattr("ragcun.models.runtime.open_graph",
                        lambda path, packed=True, real=open_graph: (seen.append(packed), real(path, packed))[1])
    stays = GaussianRetriever.open(index, runtime="onnx")
    asked = GaussianRetriever.open(index, runtime="onnx", once=True)
    assert seen == [True, False]
    assert near(*([r.to_json() for r in i.search(QUESTIONS)] for i in (stays, asked)))
    questions = "".join(f"what is {i}?\n" for i in range(20))
    for typed, packed in (("one question", False), (questions, True)):
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        assert main(["search", "--index_dir", str(index), "--runtime", "onnx", "--json"]) == 0 and seen[-1] is packed


@pytest.mark.parametrize("version, spins", [("1.20.1", "0"), ("1.26.0", "1"), ("1.32.0", "1")])
def test_no_thread_spins_without_end(index, monkeypatch, version, spins):
    import onnxruntime as ort
    held = []
    monkeypatch.setattr(ort, "__version__", version)
    monkeypatch.setattr(ort, "InferenceSession", lambda path, options, **kwargs: held.append(options))
    open_graph(index/"model"/EXPORTED/"encoder.onnx")
    said = held[0].get_session_config_entry
    assert said("session.intra_op.allow_spinning") == spins
    assert 0 < int(said("session.intra_op.spin_duration_us")) < 1000


@pytest.mark.parametrize("said, threads", [("3", 3), ("4,2", 4), (" 2 ", 2), ("", 0), ("many", 0), ("-1", 0)])
def test_the_number_of_threads_may_be_a_list_or_nonsense(index, monkeypatch, said, threads):
    import onnxruntime as ort
    held = []
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    monkeypatch.setattr(ort, "InferenceSession", lambda path, options, **kwargs: held.append(options))
    open_graph(index/"model"/EXPORTED/"encoder.onnx")
    assert held[0].intra_op_num_threads == threads


def test_an_index_opened_without_torch_takes_documents_and_is_saved(index, texts, tmp_path):
    GaussianRetriever.open(index, runtime="torch").save(tmp_path/"one")
    assert not has_export(tmp_path/"one")
    GaussianRetriever.open(index, runtime="onnx").save(tmp_path/"two")
    light = GaussianRetriever.open(tmp_path/"two", runtime="onnx")
    light.add([{"id": "new", "text": "A quokka is a small animal of an island."}])
    assert light.search("quokka").hits[0].id == "new"
    light.delete("new")
    assert len(GaussianRetriever.open(tmp_path/"two", runtime="torch")) == len(texts)      # the whole model is there
    (tmp_path/"notes.txt").write_text("years")
    with pytest.raises(UserError, match="this is a file, not a folder"):
        light.model.save(tmp_path/"notes.txt")
    assert (tmp_path/"notes.txt").read_text() == "years"
    assert np.array_equal(light.model.embed(t for t in texts[:3]), light.model.embed(texts[:3]))


@pytest.mark.parametrize("copied", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy])
def test_an_index_opened_without_torch_is_copied_by_its_folder(index, copied):
    "As a pool of processes or a framework does."
    opened = GaussianRetriever.open(index, runtime="onnx")
    other = copied(opened)
    assert isinstance(other.model, ExportedEncoder) and other.model is not opened.model
    assert other.search(QUESTIONS[0], top_k=2).to_json() == opened.search(QUESTIONS[0], top_k=2).to_json()
    with pytest.raises(UserError, match="Use encode_query, encode_document"):
        other.model.encode(QUESTIONS)


def test_a_question_is_answered_before_the_next_is_sent(index):
    asked = subprocess.Popen([sys.executable, "-m", "ragcun.cli.commands", "search", "--json", "--index_dir", index],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
                             env={**os.environ, "RAGCUN_RUNTIME": "onnx"})
    clock = threading.Timer(60, asked.kill)
    clock.start()
    try:
        for question in QUESTIONS:
            asked.stdin.write(question + "\n")
            assert json.loads(asked.stdout.readline())["query"] == question
        asked.stdin.close()
        assert asked.wait(30) == 0
    finally:
        clock.cancel()
        asked.kill()


def test_one_line_where_it_cannot_be(index, fitted, tmp_path, capsys):
    GaussianRetriever(fitted, tmp_path/"plain")
    code, _, said = alone("search", "--index_dir", tmp_path/"plain", "x", absent="torch")
    assert code == 2 and "no export of the model is here" in said and said.count("\n") == 1
    code, _, said = alone("search", "--index_dir", index, "x", absent="torch onnxruntime")
    assert code == 2 and "onnxruntime is not installed" in said and said.count("\n") == 1
    assert main(["search", "--index_dir", str(tmp_path/"plain"), "--runtime", "onnx", "x"]) == 2
    assert main(["search", "--index_dir", str(index), "--runtime", "tensorflow", "x"]) == 2
    assert main(["search", "--index_dir", str(index), "--runtime", "onnx", "--device", "cuda", "x"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and "no export" in said[0] and "tensorflow" in said[1] and "not on cuda" in said[2]


def test_other_commands_of_a_small_install_say_what_they_need(tmp_path):
    for argv in (["train", "--train_data", "x"], ["info"]):
        code, _, said = alone(*argv, absent="torch")
        assert code == 2 and "torch is not installed, and this command needs it" in said and said.count("\n") == 1


def test_a_damaged_export_is_refused(index, fitted, tmp_path):
    export_model(fitted, tmp_path/"x")
    for name in ("encoder.bin", "encoder.onnx", "tokenizer.json"):
        place = tmp_path/"x"/name
        good = place.read_bytes()
        place.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(UserError, match=f"{name} of this export is missing or damaged"):
            ExportedEncoder.load(tmp_path/"x")
        place.write_bytes(good)
    info = read_json(tmp_path/"x"/"export.json")
    write_json(tmp_path/"x"/"export.json", info | {"format": "ragcun-onnx-9"})
    with pytest.raises(UserError, match="ragcun-onnx-9"):
        ExportedEncoder.load(tmp_path/"x")


def test_a_wrong_graph_is_not_kept(fitted, tmp_path, monkeypatch):
    right = exporting.Graph.forward
    monkeypatch.setattr(exporting.Graph, "forward", lambda self, *t: tuple(x*1.01 for x in right(self, *t)))
    monkeypatch.setattr(exporting, "EXPORTERS", {"traced": True})
    with pytest.raises(UserError, match="a coordinate differs from torch by"):
        export_model(fitted, tmp_path/"x")
    assert not list(tmp_path.iterdir())


def test_an_index_gets_an_export_unless_torch_was_asked_for(fitted, tmp_path, monkeypatch):
    GaussianRetriever(fitted, tmp_path/"i")
    monkeypatch.setenv("RAGCUN_RUNTIME", "torch")
    keep_export(tmp_path/"i", fitted)
    assert not has_export(tmp_path/"i")
    monkeypatch.setenv("RAGCUN_RUNTIME", "auto")
    keep_export(tmp_path/"i", fitted)
    assert has_export(tmp_path/"i")
    before = (tmp_path/"i"/"model"/"onnx"/"export.json").stat().st_mtime_ns
    keep_export(tmp_path/"i", fitted)
    assert (tmp_path/"i"/"model"/"onnx"/"export.json").stat().st_mtime_ns == before
    assert pick_runtime("auto", "cpu", has_export(tmp_path/"i")) == "onnx"


def test_a_base_that_cannot_be_exported_leaves_the_index_as_it_is(fitted, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("RAGCUN_RUNTIME", "auto")
    monkeypatch.setattr(exporting, "_write", lambda *a: 1/0)
    GaussianRetriever(fitted, tmp_path/"i").add(["a text"])
    with caplog.at_level("INFO", "ragcun"):
        keep_export(tmp_path/"i", fitted)
    assert "will load torch: this base cannot be exported: ZeroDivisionError" in caplog.text
    assert not has_export(tmp_path/"i")
    assert GaussianRetriever.open(tmp_path/"i", device="cpu").search("a text").hits


def test_a_full_disk_is_not_the_fault_of_the_base(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(exporting, "_write", full)
    monkeypatch.setattr(exporting, "_expected", lambda model: {})
    with pytest.raises(UserError, match="could not be written: No space left on device (.*) Free some space"):
        exporting._try_both(None, tmp_path/"x", "float32")


def test_eight_bits(fitted, texts, tmp_path):
    export_model(fitted, tmp_path/"x", "float32")
    small = export_model(fitted, tmp_path/"x", "int8")                # replaces the other one
    light = ExportedEncoder.load(tmp_path/"x")
    assert light.precision == "int8" and .001 < small.relative < exporting.INT8_LIMIT
    gap = light.embed(texts) - fitted.embed(texts)
    assert .001 < np.linalg.norm(gap)/np.linalg.norm(fitted.embed(texts)) < exporting.INT8_LIMIT


KINDS = ["router", "static"]


@pytest.mark.parametrize("kind", KINDS)
def test_bases_of_other_kinds(kind, tmp_path):
    _zoo(kind, tmp_path)


def _zoo(kind, place):
    from models import test_zoo
    model = GaussianEncoder.from_base(str(test_zoo.made(place, kind)), device="cpu", precision="no")
    assert export_model(model, place/"onnx").difference < 1e-4
    light = ExportedEncoder.load(place/"onnx")
    for side in ("query", "document"):
        np.testing.assert_allclose(light.embed(test_zoo.TEXTS, side), model.embed(test_zoo.TEXTS, side), atol=1e-4)


@pytest.mark.slow
def test_every_base_of_the_zoo(tmp_path):
    from models import test_zoo
    for kind in set(test_zoo.ZOO) - set(KINDS):
        (tmp_path/kind).mkdir()
        _zoo(kind, tmp_path/kind)


@pytest.mark.slow
def test_the_other_exporter(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "EXPORTERS", {"exported": False})
    assert export_model(fitted, tmp_path/"x").difference < 1e-5


@pytest.mark.slow
def test_the_small_install_in_an_environment_of_its_own(index, tmp_path):
    python = tmp_path/"venv"/"bin"/"python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path/"venv"], check=True)
    pip = [python, "-m", "pip", "install", "-qq", "--no-compile", "--disable-pip-version-check", "-c",
           ROOT/"constraints.txt"]
    for what in (["-r", ROOT/"requirements-search.txt"], ["--no-deps", ROOT]):
        subprocess.run([*pip, *what], check=True)
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RAGCUN_RUNTIME")}
    run = subprocess.run([tmp_path/"venv"/"bin"/"ragcun", "search", "--index_dir", index, "--json", QUESTIONS[0]],
                         capture_output=True, text=True, env=env, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    there = GaussianRetriever.open(index, runtime="onnx").search(QUESTIONS[0]).to_json()
    assert near(json.loads(run.stdout), json.loads(json.dumps(there)))
    none = subprocess.run([python, "-c", "import torch"], capture_output=True, cwd=tmp_path, env=env)
    assert none.returncode        # torch is really not there


def test_what_exporters_write_past_python_is_kept_away(capfd):
    print("before")
    with exporting._silence():
        os.write(1, b"a graph of hundreds of lines")
        os.write(2, b"and a warning")
    print("after")
    assert capfd.readouterr() == ("before\nafter\n", "")


def test_an_export_counts_tokens_as_its_model_does(fitted, index):
    words = ["", "water", "photosyntesis"]
    counts = ExportedEncoder.load(index/"model"/"onnx").token_counts(words)
    assert counts == list(fitted.token_counts(words)) and counts[0] < counts[1] < counts[2]

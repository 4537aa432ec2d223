"""Anything may be typed and anything may be in a file: one line and exit code 2, or success; never a traceback,
never a half-written file, before a model loads."""
import contextlib
import gzip
import io
import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import ragcun.cli.commands as cli
from small import record

SLOW = int(os.environ.get("RAGCUN_FUZZ", 1))  # times as many examples
COUNT = {"inputs": 0, "refused": 0}


class Loaded(Exception):
    "The command came as far as loading a model."


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    "A folder of good and bad files, in which the commands run; models do not load."
    place = tmp_path_factory.mktemp("fuzz")
    data = Path(__file__).parents[2]/"data"
    shutil.copytree(data/"processed", place/"good")
    shutil.copytree(data/"raw", place/"raw")
    (place/"empty.json").touch()
    (place/"broken.json").write_text('[{"query": "a", "positive": ')
    (place/"list.json").write_text("[1, 2, null]")
    (place/"number.json").write_text("7")
    (place/"latin.json").write_bytes('[{"query": "é", "positive": "b"}]'.encode("latin-1"))
    (place/"deep.json").write_text("["*100000)
    (place/"missing.json").write_text('[{"query": "a"}]')
    (place/"one.jsonl").write_text('{"query": "a", "positive": "b"}\n')
    (place/"bad.jsonl.gz").write_bytes(gzip.compress(b'{"query": "a", "positive": "b"}\n' * 9)[:-9])
    (place/"zero.csv").write_bytes(b"query,positive\n\0,\xff\n")
    (place/"x.parquet").write_bytes(b"PAR1 no")
    (place/"config.yaml").write_text("epochs: [1, 2]\n")
    (place/"config2.yaml").write_text("seed: {a: 1}\nfreeze_base: maybe\n")
    (place/"config3.yaml").write_text("- a\n- b\n")
    (place/"folder").mkdir()
    (place/"fake_model").mkdir()
    (place/"fake_model"/"ragcun.json").write_text("{}")
    (place/"fake.pt").write_bytes(b"PK\3\4 nothing")
    os.symlink("loop", place/"loop")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("RAGCUN_CACHE", str(tmp_path_factory.mktemp("cache")))
        import ragcun.cli.demonstration
        import ragcun.models.encoder
        import ragcun.models.saving
        import ragcun.retrieval.retriever
        def loaded(*args, **kwargs):
            raise Loaded
        patch.setattr(ragcun.models.encoder.GaussianEncoder, "from_base", loaded)
        patch.setattr(ragcun.cli.demonstration, "run_demo", loaded)
        real_load = ragcun.models.base.load_folder
        real_open = ragcun.retrieval.retriever.GaussianRetriever.open
        patch.setattr(ragcun.models.saving, "load_folder", loaded)
        assert real_load and real_open
        yield place


def tree(place):
    "Every file with its size."
    return {str(p.relative_to(place)): p.lstat().st_size for p in place.rglob("*") if not p.is_dir()}


def run(argv, place, text=""):
    "Run the command here: (exit code or 'loaded', lines on stderr). Everything is checked on the way."
    before = tree(place)
    started = time.perf_counter()
    err = io.StringIO()
    real = sys.stdin
    sys.stdin = io.StringIO(text)
    try:
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            code = cli.main(argv)
    except SystemExit as e:
        code = e.code
    except Loaded:
        code = "loaded"
    finally:
        sys.stdin = real
        for handler in list(cli.logger.handlers):
            cli.logger.removeHandler(handler)
    COUNT["inputs"] += 1
    COUNT["refused"] += code == 2
    lines = [line for line in err.getvalue().splitlines() if line.strip()]
    after = tree(place)
    assert code in (0, 2, "loaded"), (argv, code, lines)
    assert time.perf_counter() - started < 20
    said = [line for line in lines if line.startswith("ragcun")]
    if code == 2:
        assert len(said) == 1 and lines[-1] == said[0] and len(said[0]) > 15, (argv, lines)
    assert not any("Traceback" in line or "  File " in line for line in lines)
    if code == 2:
        assert after == before, (argv, set(after) ^ set(before))
    assert not any(".tmp" in p or Path(p).name.startswith(".") for p in after), (argv, set(after) - set(before))
    for p in set(after) - set(before):
        remove(place, p)
    return code, lines


def remove(place, name):
    "What a successful run wrote goes, so that the next one starts from the same files."
    with contextlib.suppress(OSError):
        (place/name).unlink()
    for folder in [*(place/name).parents]:
        if folder == place: return
        with contextlib.suppress(OSError):
            folder.rmdir()


PATHS = ["good/train.json", "good/val.json", "good/test_eval.json", "good", "raw", "raw/all_docs.txt", "empty.json",
         "broken.json", "list.json", "number.json", "latin.json", "deep.json", "missing.json", "one.jsonl",
         "bad.jsonl.gz", "zero.csv", "x.parquet", "folder", "fake_model", "fake.pt", "loop", "nothing", "", ".",
         "/dev/null", "good/train.json/x", "a\0b", "x"*300, "é\udc80", "out/file.json", "out", "config.yaml",
         "config2.yaml", "config3.yaml"]
NUMBERS = ["0", "-1", "1", "3", "1e400", "nan", "inf", "-inf", "99999999999999999999", "0.5", "1,5", "",
           "x", "0x10", "２"]
WORDS = ["cpu", "cuda", "cuda:99", "bf16", "fp16", "no", "auto", "msmarco", "beir:scifact", "beir:../x", "stdlib",
         "os,json", "nothing_at_all", "--", "-", "$HOME", "a b", "ndcg", "small"]


def flags_of(name):
    "The flags that a command knows."
    parser = cli.make_parser([name])
    sub = parser._subparsers._group_actions[0].choices[name]
    return sorted({o for a in sub._actions for o in a.option_strings
                   if a.dest not in ("help", "python_packages", "questions_url")})


@st.composite
def command_lines(draw):
    "A command with flags of its own and values of any kind."
    name = draw(st.sampled_from([c for c in cli.COMMANDS if c not in ("info", "download")]))
    value = st.one_of(st.sampled_from(PATHS), st.sampled_from(NUMBERS), st.sampled_from(WORDS), st.text(max_size=8))
    chosen = draw(st.lists(st.sampled_from(flags_of(name)), max_size=5, unique=True))
    line = [name]
    for flag in chosen:
        line += [flag, *draw(st.lists(value, max_size=3 if "split" in flag else 1))]
    return line


ALL = dict(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)


@settings(max_examples=100*SLOW, **ALL)
@given(line=command_lines())
def test_any_command_line(world, line):
    run(line, world)


@settings(max_examples=40*SLOW, **ALL)
@given(line=st.lists(st.one_of(st.sampled_from([*cli.COMMANDS, "--help", "--version", "-x"]), st.text(max_size=6)),
                     max_size=4))
def test_any_words(world, line):
    if line and line[0] in ("info", "download"):
        line = line[1:]
    if not any(w in ("info", "download") for w in line):
        run(line, world) if line else None


VALID = {"train": ["train", "--train_data", "FILE", "--output_dir", "out"],
         "validation": ["train", "--train_data", "good/train.json", "--val_data", "FILE", "--output_dir", "out"],
         "evaluate": ["evaluate", "--model_path", "fake.pt", "--test_data", "FILE", "--output_file", "out/e.json"],
         "config": ["train", "--train_data", "good/train.json", "--config", "FILE", "--output_dir", "out"],
         "prepare": ["prepare", "--input", "FILE", "--output", "out/train.json", "--split", ".8", ".1", ".1"],
         "documents": ["prepare", "--documents", "FILE", "--generate_pairs", "--num_pairs", "9", "--output",
                       "out/train.json"], "csv": ["prepare", "--csv_file", "FILE", "--output", "out/train.json"],
         "encode": ["encode", "--model_path", "fake.pt", "--input", "FILE", "--output", "out/z.npy"],
         "index": ["index", "--model_path", "fake.pt", "--documents", "FILE", "--index_dir", "out"],
         "diagnose": ["diagnose", "--model_path", "fake.pt", "--data", "FILE", "--output_dir", "out"],
         "model": ["encode", "--model_path", "FILE", "--input", "raw/all_docs.txt", "--output", "out/z.npy"]}
ENDINGS = [".json", ".jsonl", ".jsonl.gz", ".csv", ".tsv", ".txt", ".parquet", ".yaml", ".pt", ".md", ""]
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
                    lambda s: st.lists(s, max_size=4) | st.dictionaries(st.sampled_from(
                        ["query", "positive", "negative", "corpus", "queries", "relevance", "text", "_id", "query_id",
                         "title"]) | st.text(max_size=4), s, max_size=4), max_leaves=12)


@settings(max_examples=100*SLOW, **ALL)
@given(use=st.sampled_from(sorted(VALID)), ending=st.sampled_from(ENDINGS),
       data=st.one_of(st.binary(max_size=60), JSON, st.lists(JSON, max_size=5), st.text(max_size=80)),
       lines=st.booleans())
def test_any_file(world, use, ending, data, lines):
    path = world/f"input{ending}"
    if isinstance(data, bytes):
        raw = data
    elif isinstance(data, str):
        raw = data.encode("utf-8", "surrogatepass")
    elif lines and isinstance(data, list):
        raw = "\n".join(json.dumps(d) for d in data).encode()
    else:
        raw = json.dumps(data).encode()
    path.write_bytes(gzip.compress(raw) if ending.endswith("gz") and lines else raw)
    try:
        run([w.replace("FILE", path.name) for w in VALID[use]], world)
    finally:
        path.unlink()


@settings(max_examples=50*SLOW, **ALL)
@given(use=st.sampled_from(["train", "evaluate", "prepare", "csv", "documents"]),
       source=st.sampled_from(["good/train.json", "good/test_eval.json", "raw/all_docs.txt"]), cut=st.integers(0, 3000),
       flip=st.integers(0, 255), ending=st.sampled_from([".json", ".csv", ".txt"]))
def test_damaged_real_files(world, use, source, cut, flip, ending):
    "Real files with one byte changed, or cut."
    raw = bytearray((world/source).read_bytes())
    if flip < 128:
        raw[cut % len(raw)] = flip*2
    else:
        del raw[cut % len(raw):]
    path = world/f"input{ending}"
    path.write_bytes(raw)
    try:
        run([w.replace("FILE", path.name) for w in VALID[use]], world)
    finally:
        path.unlink()


@settings(max_examples=40*SLOW, **ALL)
@given(values=st.dictionaries(st.sampled_from(
    ["epochs", "batch_size", "seed", "freeze_base", "learning_rate", "mixed_precision", "preset", "report_to", "critic",
     "device", "output_dir", "train_data", "resume_from", "tau", "base_model"]), JSON, max_size=3))
def test_any_config_file(world, values):
    (world/"input.yaml").write_text(json.dumps(values))
    try:
        run(["train", "--train_data", "good/train.json", "--config", "input.yaml"], world)
    finally:
        (world/"input.yaml").unlink()


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in PATHS if "\udc80" not in p])
@pytest.mark.parametrize("use", sorted(VALID))
def test_each_bad_path(world, use, path):
    run([w.replace("FILE", path) for w in VALID[use]], world)


def test_a_good_call_gets_to_the_model(world):
    "The fuzz would see nothing if every call were refused."
    assert run([w.replace("FILE", "good/train.json") for w in VALID["train"]], world)[0] == "loaded"
    assert run([w.replace("FILE", "raw/all_docs.txt") for w in VALID["documents"]], world)[0] == 0


def test_search_questions_from_anywhere(world):
    for text in ("", "\n\n", "what\n", "\0"):
        assert run(["search", "--index_dir", "folder"], world, text)[0] == 2


def test_figures():
    "Inputs tried in this run; kept with RAGCUN_RECORD."
    assert COUNT["inputs"] > 50 or "fuzz" not in " ".join(sys.argv)
    record("fuzz", "inputs", dict(COUNT))

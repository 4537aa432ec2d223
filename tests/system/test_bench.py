"The runner of the benchmarks: what is done is left alone, what was stopped goes on, what changed begins anew."
import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORK = """
import json, sys
from pathlib import Path
log = Path(sys.argv[1])
calls = json.loads(log.read_text()) if log.exists() else []
log.write_text(json.dumps([*calls, sys.argv[2:]]))
if not Path(sys.argv[1] + ".early").exists(): Path("data/results/table.json").write_text("a row")
sys.exit(Path(sys.argv[1] + ".fails").exists())
"""


@pytest.fixture
def bench(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("bench_runner", ROOT/"benchmarks"/"run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path/"work.py").write_text(WORK)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "sources", lambda: "one version")
    monkeypatch.setattr(module, "RESUMING", {"long": "table"})
    monkeypatch.setattr(module, "BENCHES", {n: ["work.py", f"{n}.json"] for n in ("short", "long")})
    (tmp_path/"data"/"results").mkdir(parents=True)
    monkeypatch.setattr("sys.argv", ["run.py"])
    return module


def calls(folder, name):
    return json.loads((folder/f"{name}.json").read_text())


def test_done_is_left_alone_and_recorded(bench, tmp_path):
    assert bench.main() == 0 and bench.main() == 0
    # what its file held before is measured anew
    assert calls(tmp_path, "short") == [[]] and calls(tmp_path, "long") == [["--again"]]
    recorded = json.loads((tmp_path/"data"/"results"/"bench.json").read_text())
    assert list(recorded["seconds"]) == ["short", "long"] and recorded["command"] == "make bench"


def test_what_was_stopped_goes_on(bench, tmp_path, capsys):
    (tmp_path/"long.json.fails").touch()
    assert bench.main() == 1 and "failed: long" in capsys.readouterr().err
    assert not (tmp_path/"data"/"results"/"bench.json").exists()
    (tmp_path/"long.json.fails").unlink()
    assert bench.main() == 0
    assert calls(tmp_path, "long") == [["--again"], []] and calls(tmp_path, "short") == [[]]
    assert (tmp_path/"data"/"results"/"bench.json").exists()


def test_what_failed_before_its_first_row_does_not_go_on_from_old_ones(bench, tmp_path):
    (tmp_path/"data"/"results"/"table.json").write_text("rows of another machine")
    for name in ("long.json.fails", "long.json.early"):
        (tmp_path/name).touch()
    assert bench.main() == 1
    for name in ("long.json.fails", "long.json.early"):
        (tmp_path/name).unlink()
    assert bench.main() == 0
    assert calls(tmp_path, "long") == [["--again"], ["--again"]]


def test_another_version_begins_anew(bench, tmp_path, monkeypatch):
    assert bench.main() == 0
    (tmp_path/"data"/"results"/"bench.json").unlink()
    monkeypatch.setattr(bench, "sources", lambda: "another version")
    monkeypatch.setattr("sys.argv", ["run.py", "long"])
    assert bench.main() == 0
    assert calls(tmp_path, "long") == [["--again"], ["--again"]]
    assert not (tmp_path/"data"/"results"/"bench.json").exists()  # two versions are not one run


def test_unknown_name(bench, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run.py", "shorter"])
    assert bench.main() == 2 and "unknown benchmark: shorter. Use: short, long" in capsys.readouterr().err

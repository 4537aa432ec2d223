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
row = '{"command": "python benchmarks/work.py"}'
if not Path(sys.argv[1] + ".early").exists(): Path("data/results/table.json").write_text(row)
sys.exit(Path(sys.argv[1] + ".fails").exists())
"""


def forget(module):
    "What was read of the files is read again."
    module.sources.code_of.cache_clear(), module.sources.imported.cache_clear()


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT/"benchmarks")
    spec = importlib.util.spec_from_file_location("bench_runner", ROOT/"benchmarks"/"run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path/"work.py").write_text(WORK)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    forget(module)
    monkeypatch.setattr(module.sources, "ROOT", tmp_path)
    monkeypatch.setattr(module.sources, "RESULTS", tmp_path/"data"/"results")
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


def test_other_code_begins_anew(bench, tmp_path, monkeypatch):
    assert bench.main() == 0
    (tmp_path/"data"/"results"/"bench.json").unlink()
    with open(tmp_path/"work.py", "a") as f:
        f.write("# a remark changes nothing\n")
    forget(bench)
    monkeypatch.setattr("sys.argv", ["run.py", "long"])
    assert bench.main() == 0 and calls(tmp_path, "long") == [["--again"]]
    (tmp_path/"data"/"results"/"bench.json").unlink()
    with open(tmp_path/"work.py", "a") as f:
        f.write("done = True\n")
    forget(bench)
    assert bench.main() == 0 and calls(tmp_path, "long") == [["--again"], ["--again"]]
    assert not (tmp_path/"data"/"results"/"bench.json").exists()  # the short one is of the code before


def test_unknown_name(bench, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run.py", "shorter"])
    assert bench.main() == 2 and "unknown benchmark: shorter. Use: short, long" in capsys.readouterr().err


def test_records_are_what_their_scripts_gave(bench, monkeypatch):
    "A number that was changed by hand, or whose script now measures something else, has to be recorded again."
    monkeypatch.undo()
    monkeypatch.syspath_prepend(ROOT/"benchmarks")
    import sources
    sources.imported.cache_clear()
    assert sources.wrong() == []
    read = {r.name for page in (ROOT/"nbs").rglob("*.ipynb") for r in sources.records() if r.name in page.read_text()}
    assert len(read) > 25


def small_house(folder):
    files = {"benchmarks/bench_a.py": "from help_b import c\nfrom ragcun import Fit\nRUN = 'from ragcun.d import e'\n",
             "benchmarks/help_b.py": "c = 1\n", "ragcun/__init__.py": "", "ragcun/d.py": "e = 1\n",
             "ragcun/__init__.pyi": "from .deep.f import Fit\n",
             "ragcun/deep/__init__.py": "", "ragcun/deep/f.py": "def Fit():\n    from ..g import h\n",
             "ragcun/g.py": '"""Words."""\nh = 1  # a remark\n', "ragcun/other.py": "import numpy\n",
             "data/results/a.json": '{"command": "python benchmarks/bench_a.py"}'}
    for name, text in files.items():
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/name).write_text(text)


def test_what_a_record_depends_on(bench, tmp_path):
    s = bench.sources
    small_house(tmp_path)
    assert s.closure("benchmarks/bench_a.py") == [
        "benchmarks/bench_a.py", "benchmarks/help_b.py", "ragcun/__init__.py", "ragcun/d.py", "ragcun/deep/f.py",
        "ragcun/g.py"]
    s.stamp(["a.json"])
    assert s.wrong() == [] and s.changed(tmp_path/"data/results/a.json") == []
    (tmp_path/"ragcun/g.py").write_text('"""Other words."""\nh = 1\n')
    assert s.changed(tmp_path/"data/results/a.json") == []
    (tmp_path/"ragcun/g.py").write_text("h = 2\n")
    s.at_commit = lambda commit: lambda path: "h = 1\n" if path == "ragcun/g.py" else s.at_present(path)
    assert s.changed(tmp_path/"data/results/a.json") == ["g.py"] and s.wrong() == []
    (tmp_path/"benchmarks/help_b.py").write_text("c = 2\n")
    assert s.wrong() == ["a.json: benchmarks/bench_a.py, benchmarks/help_b.py changed since it was recorded"]
    s.stamp(["a.json"], "the same, written otherwise")
    assert s.wrong() == []
    (tmp_path/"data/results/a.json").write_text('{"command": "python benchmarks/bench_a.py", "made": "up"}')
    (tmp_path/"data/results/b.json").write_text("{}")
    assert s.wrong() == ["a.json: changed since it was stamped", "b.json: not stamped"]

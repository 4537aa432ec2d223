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
    module.sources.house.cache_clear()


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
    assert list(recorded["parts"]) == ["short", "long"] and recorded["command"] == "make bench"
    assert recorded["parts"]["long"].keys() == {"seconds", "sources", "machine", "commit"}


def test_what_goes_on_inside_begins_anew_for_other_code(monkeypatch):
    "A script that leaves out what its file holds would else be recorded as done in the seconds of looking."
    monkeypatch.syspath_prepend(ROOT/"benchmarks")
    spec = importlib.util.spec_from_file_location("bench_runner", ROOT/"benchmarks"/"run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    scripts = {name: (ROOT/command[0]).read_text() for name, command in module.BENCHES.items()}
    assert {n for n, text in scripts.items() if '"--again"' in text} == module.RESUMING.keys()
    assert all((ROOT/"data"/"results"/f"{file}.json").exists() for file in module.RESUMING.values())


def test_what_was_stopped_goes_on(bench, tmp_path, capsys):
    (tmp_path/"long.json.fails").touch()
    assert bench.main() == 1 and "failed: long" in capsys.readouterr().err
    assert list(json.loads((tmp_path/"data"/"results"/"bench.json").read_text())["parts"]) == ["short"]
    (tmp_path/"long.json.fails").unlink()
    assert bench.main() == 0
    assert calls(tmp_path, "long") == [["--again"], []] and calls(tmp_path, "short") == [[]]
    assert list(json.loads((tmp_path/"data"/"results"/"bench.json").read_text())["parts"]) == ["short", "long"]


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
    for line, times in (("# a remark changes nothing\n", 1), ("done = True\n", 2)):
        with open(tmp_path/"work.py", "a") as f:
            f.write(line)
        forget(bench)
        assert bench.main() == 0
        assert calls(tmp_path, "long") == [["--again"]]*times and calls(tmp_path, "short") == [[]]*times


def test_the_rest_of_another_checkout(bench, tmp_path, monkeypatch):
    "What the records hold of the present code need not be made again in a copy, if one asks for the rest."
    (tmp_path/"long.json.fails").touch()
    assert bench.main() == 1
    (tmp_path/"long.json.fails").unlink()
    (tmp_path/bench.OUT/"all.done.json").unlink()
    monkeypatch.setattr("sys.argv", ["run.py", "--rest"])
    assert bench.main() == 0
    assert calls(tmp_path, "short") == [[]] and calls(tmp_path, "long") == [["--again"]]*2
    assert bench.main() == 0 and len(calls(tmp_path, "long")) == 2


def test_unknown_name(bench, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run.py", "shorter"])
    assert bench.main() == 2 and "unknown benchmark: shorter. Use: short, long" in capsys.readouterr().err


def test_records_are_what_their_scripts_gave(bench, monkeypatch):
    """A number that was changed by hand, or whose script or package does something else now, has to be recorded again
    (or accepted, with a reason that the list of sources.py shows)."""
    monkeypatch.undo()
    monkeypatch.syspath_prepend(ROOT/"benchmarks")
    import sources
    sources.house.cache_clear()
    assert sources.wrong() == []
    read = {r.name for page in (ROOT/"nbs").rglob("*.ipynb") for r in sources.records() if r.name in page.read_text()}
    assert len(read) > 25


def small_house(folder):
    files = {"benchmarks/bench_a.py": "from help_b import c\nfrom ragcun import Fit\nRUN = 'from ragcun.d import e'\n"
                                      "def main():\n    Fit().run()\n    print(c)\n",
             "benchmarks/help_b.py": "c = 1\nunused = 1\nif __name__ == '__main__': print(unused)\n",
             "ragcun/__init__.py": "", "ragcun/d.py": "e = 1\nunused = 1\n",
             "ragcun/__init__.pyi": "from .deep.f import Fit\n", "ragcun/deep/__init__.py": "",
             "ragcun/deep/f.py": "from ..g import h\nclass Fit:\n    def __init__(self): self.of = 1\n"
                                 "    def run(self): return h\n    def rest(self) -> unused: return 1\nunused = 1\n",
             "ragcun/g.py": '"""Words."""\nh = 1  # a remark\n', "ragcun/other.py": "import numpy\nx = 1\n",
             "data/results/a.json": '{"command": "python benchmarks/bench_a.py"}'}
    for name, text in files.items():
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/name).write_text(text)


def test_what_a_record_depends_on(bench, tmp_path):
    small_house(tmp_path)
    script, package = bench.sources.halves(["benchmarks/bench_a.py"])
    assert set(script) == {"benchmarks/bench_a.py:RUN", "benchmarks/bench_a.py:main", "benchmarks/help_b.py:c"}
    assert set(package) == {"ragcun/d.py:e", "ragcun/deep/f.py:Fit", "ragcun/deep/f.py:Fit.run", "ragcun/g.py:h"}


@pytest.mark.parametrize("old, new", [("h = 1  # a remark", "h = 1"), ('"""Words."""', '"""Other words."""'),
                                      ("h = 1", "h = 1\nfurther = 2")])
def test_words_and_what_is_not_used_may_change(bench, tmp_path, old, new):
    small_house(tmp_path)
    bench.sources.stamp(["a.json"])
    file = tmp_path/"ragcun/g.py"
    file.write_text(file.read_text().replace(old, new))
    forget(bench)
    assert bench.sources.wrong() == []


@pytest.mark.parametrize("file, old, new, names", [
    ("ragcun/g.py", "h = 1", "h = 2", "1 definitions: h"),
    ("benchmarks/help_b.py", "c = 1", "c = 2", "1 definitions: c"),
    ("ragcun/deep/f.py", "return h", "return -h", "1 definitions: Fit.run"),
    ("ragcun/deep/f.py", "self.of = 1", "self.of = 2", "1 definitions: Fit"),
    ("benchmarks/bench_a.py", "Fit().run()", "Fit().rest()", "4 definitions: Fit.rest, Fit.run, h, main")])
def test_what_is_used_may_not(bench, tmp_path, file, old, new, names):
    s = bench.sources
    small_house(tmp_path)
    before = {str(p.relative_to(tmp_path)): p.read_text() for p in tmp_path.rglob("*.py*")}
    s.stamp(["a.json"])
    s.at_commit = lambda commit: before.get
    (tmp_path/file).write_text(before[file].replace(old, new))
    forget(bench)
    assert s.wrong() == [f"a.json: recorded by other code ({names})"]
    s.stamp(["a.json"], "the same, written otherwise")
    assert s.wrong() == []


def test_a_record_that_was_changed_by_hand(bench, tmp_path):
    small_house(tmp_path)
    bench.sources.stamp(["a.json"])
    (tmp_path/"data/results/a.json").write_text('{"command": "python benchmarks/bench_a.py", "made": "up"}')
    (tmp_path/"data/results/b.json").write_text("{}")
    assert bench.sources.wrong() == ["a.json: changed since it was stamped", "b.json: not stamped"]

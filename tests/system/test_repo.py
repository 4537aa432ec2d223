"""The repository's own machinery: each check must pass what is right and reject what is broken."""
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]


def tool(name):
    "Load a module of .ci/, which is no package."
    spec = importlib.util.spec_from_file_location(f"ci_{name}", ROOT / ".ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


check, style, readme = tool("check"), tool("style"), tool("readme")


def notebook(*cells):
    "A notebook from (source, outputs) of code cells and plain strings of markdown."
    made = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "python3",
                                                             "language": "python"}})
    for cell in cells:
        source, outputs = cell if isinstance(cell, tuple) else (cell, None)
        made.cells.append(nbformat.v4.new_markdown_cell(source) if outputs is None else
                          nbformat.v4.new_code_cell(source, outputs=outputs))
    return made


def printed(text):
    return nbformat.v4.new_output("stream", name="stdout", text=text)


# --- make targets and settings

def test_ci_runs_make_test_and_keeps_its_exit_code(tmp_path):
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    for code, target in ((0, "true"), (2, "false")):
        (tmp_path / "Makefile").write_text(f"test:\n\t@{target}\ncheck:\n\t@false\n")
        assert subprocess.run(["bash", ".ci/run"], cwd=tmp_path).returncode == code


def test_help_names_every_target():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [t for t in targets if f"make {t} " not in shown] == []


def test_check_asks_for_the_tools_that_make_demo_does_not_install(tmp_path):
    "After `make demo` there is a .venv without nbdev, pytest and ruff: six tracebacks said what one line says."
    shutil.copy(ROOT / "Makefile", tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    done = subprocess.run(["make", "check"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "run 'make env' once" in done.stdout and "Traceback" not in done.stderr


def test_every_extra_is_installable_and_pins_agree():
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini")
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    from packaging.requirements import Requirement
    for key, value in config["DEFAULT"].items():
        if key.endswith("requirements"):
            for wanted in map(Requirement, value.split()):
                assert wanted.name not in pins or wanted.specifier.contains(pins[wanted.name]), f"{key}: {wanted}"


def test_version_is_the_same_everywhere():
    import ragcun
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini")
    assert ragcun.__version__ == config["DEFAULT"]["version"]


def test_public_names_are_there_and_stay_what_they_are():
    "A function named like its module must not turn into the module once that has been imported."
    import ragcun
    code = """
import ragcun, types
for name in ragcun.__all__:
    first, again = getattr(ragcun, name), getattr(ragcun, name)
    assert first is again and not isinstance(again, types.ModuleType), name
"""
    assert "GaussianEncoder" in ragcun.__all__
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-600:]


# --- check.py

def test_tally_reads_closing_lines():
    tally = check.Tally()
    assert tally.add("x\n== 3 failed, 12 passed, 2 skipped, "
                     "1 error in 4.2s ==\n") == "3 failed, 12 passed, 2 skipped, 1 error in 4.2s"
    tally.add("5 passed in 1s\n")
    assert (tally.passed, tally.failed, tally.skipped) == (17, 4, 2)


@pytest.mark.parametrize("text", ["/hom" + "e/ann/x", "at /roo" + "t/.cache", "/tm" + "p/tmpab1",
                                  "lib/site-package" + "s/torch"])
def test_leaks_are_seen(text):
    assert check.LEAK.search(text)


def test_ordinary_paths_are_no_leak():
    assert not any(map(check.LEAK.search,
                       ["../data/x.json", "https://a.org/home/", "tmp/x", "a /tmp folder", "site packages"]))


def test_a_failing_stage_fails_the_run_and_the_others_still_run(capsys, monkeypatch):
    def good(run):
        "good stage"
        run.tally.passed += 4
        return "fine"

    def bad(run):
        "bad stage"
        raise check.Failed("this is broken")

    def crash(run):
        "crashing stage"
        raise KeyError("surprise")

    monkeypatch.setattr(check, "LEVELS", {"test": [bad, crash, good]})
    monkeypatch.setattr(sys, "argv", ["check.py", "test"])
    assert check.main() == 1
    said = capsys.readouterr().out
    assert "this is broken" in said and "surprise" in said and said.rstrip().endswith("4 passed, 2 failed, 0 skipped")
    monkeypatch.setattr(check, "LEVELS", {"test": [good]})
    assert check.main() == 0
    assert capsys.readouterr().out.rstrip().endswith("4 passed, 0 failed, 0 skipped")


def test_a_failing_command_is_a_failed_stage():
    with pytest.raises(check.Failed, match="code 3"):
        check.call([sys.executable, "-c", "import sys; print('why'); sys.exit(3)"])
    assert check.call([sys.executable, "-c", "print('out')"]) == "out\n"


def test_fewer_pages_or_tests_than_before_fail():
    least = check.FLOORS["tests"]
    assert check.floor(tests=least, pages=10**4) == f"{least} tests, 10000 pages"
    with pytest.raises(check.Failed, match=f"{least - 1} tests, at least {least} expected"):
        check.floor(tests=least - 1)


def test_a_page_without_a_module_fails(monkeypatch):
    assert re.fullmatch(r"(\d+) pages, \1 modules", check.counted())
    pages = check.sources()
    monkeypatch.setattr(check, "sources", lambda: pages[1:])
    with pytest.raises(check.Failed, match="numbered notebooks, but"):
        check.counted()
    monkeypatch.setattr(check, "sources", list)
    monkeypatch.setattr(check, "generated", lambda root: set())
    with pytest.raises(check.Failed, match="fewer than before"):
        check.counted()


# --- style.py

def symbols_of(tmp_path, source):
    path = tmp_path / "module.py"
    path.write_text(source)
    return style.symbols(path)


def test_docments_are_asked_of_parameters_returns_and_fields(tmp_path):
    good = '''
def f(
    a: int,  # one
    b: dict[str, int] = {"#": 1},  # two
    *,
    c: str = "x",  # three
) -> int:  # four
    "Doc."
    return a

@dataclass
class C:
    x: int  # [n], said
    def method(
        self,
        y: int,  # said
    ) -> None:
        "Doc."
def _private(z): return z
'''
    found, _ = symbols_of(tmp_path, good)
    assert [m for s in found for m in s.missing] == [] and sum(s.documented for s in found) == 6
    for line in ("# one", "# two", "# three", "# four", "# [n], said", "# said"):
        found, _ = symbols_of(tmp_path, good.replace(line, "", 1))
        assert len([m for s in found for m in s.missing]) == 1, line


def test_two_parameters_on_one_line_need_two_comments(tmp_path):
    found, _ = symbols_of(tmp_path, "def f(\n    a: int, b: int,  # which of the two?\n):\n    pass\n")
    assert [m for s in found for m in s.missing] == ["module.f(b)"]


def test_length_counts_code_only(tmp_path):
    _, lengths = symbols_of(tmp_path, 'def f(\n    a,  # x\n    b,  # y\n):\n    "Doc."\n    a\n    return b\n')
    assert lengths == [("module.f", 2)]


def test_only_long_exported_cells_are_refused(tmp_path, monkeypatch):
    (tmp_path / "nbs" / "1_data").mkdir(parents=True)
    monkeypatch.setattr(style, "ROOT", tmp_path)
    path, body = tmp_path / "nbs" / "1_data" / "01_a.ipynb", "\n".join(["x = 1"]*style.CELL)

    def broken(source):
        nbformat.write(notebook((source, [])), path)
        return style.long_cells([style.measure(path)])
    for good in (f"#| export\n{body}", f"{body}\nx = 2"):
        assert broken(good) == []
    assert broken(f"#| export\n{body}\nx = 2") == [
        f"1_data/01_a.ipynb: exported cell 0 has {style.CELL + 1} lines ({style.CELL} at most)"]


def test_large_notebooks_and_long_functions_are_broken():
    assert style.hard_ones([], [("m.f", 40)], []) == []
    assert style.hard_ones([], [("m.f", 41)], []) == ["m.f has 41 lines (40 at most)"]
    assert style.Notebook(Path("x")).long == []


def test_style_walks_every_chapter():
    assert len(style.package_modules()) == len(check.sources()) == len(check.generated(ROOT)) >= check.FLOORS["pages"]
    assert {p.parent.name for p in style.package_modules()} >= {"ragcun", "data", "models", "cli", "measures"}


def test_mixed_cells_are_found():
    cells = json.loads(nbformat.writes(notebook(("#| export\nimport os", []), ("#| hide\nimport re", []), (
        "from math import pi\nround(pi, 2)", []), ("import json; x = 1", []))))["cells"]
    assert [style.mixed("".join(c["source"])) for c in cells] == [False, False, True, True]


# --- readme.py

def test_readme_shows_text_code_outputs_and_pictures(tmp_path, monkeypatch):
    picture = nbformat.v4.new_output("display_data", {"image/png": "iVBORw0KGgo="})
    made = notebook("# Name\n\nSee [the tour](tutorials/quickstart.ipynb#start) and [other](https://a.org/b.html).",
                    ("#| hide\nimport os", []), ("#| eval: false\nprint(1)", [printed("1\n")]),
                    ("#| echo: false\n#| fig-alt: \"What it shows\"\nax = plot()", [picture]))
    nbformat.write(made, tmp_path / "index.ipynb")
    text, images = readme.render(tmp_path / "index.ipynb")
    assert "(nbs/tutorials/quickstart.ipynb#start)" in text and "(https://a.org/b.html)" in text
    assert "```python\nprint(1)\n```\n\n```text\n1\n```" in text and "import os" not in text and "plot()" not in text
    assert "![What it shows](nbs/images/index-1.png)" in text and images == {"images/index-1.png": b"\x89PNG\r\n\x1a\n"}


# --- conftest.py

@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    "Two cleaned notebooks compared in one run: its exit code and what it said."
    folder = tmp_path_factory.mktemp("nbval")
    for name in ("conftest.py", "pytest.ini"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "tests").mkdir()
    result = nbformat.v4.new_output
    good = notebook(("1 + 1", [result("execute_result", {"text/plain": "2"})]),
                    ("object()", [result("execute_result", {"text/plain": "<object>"})]),
                    ("#| eval: false\n1 / 0", []), ("#| cuda\n1 / 0", []))
    nbformat.write(good, folder / "good.ipynb")
    nbformat.write(notebook(("print(3)", [printed("4\n")])), folder / "wrong.ipynb")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "--nbval",
                           f"--nbval-sanitize-with={ROOT / '.ci' / 'sanitize.cfg'}", "good.ipynb", "wrong.ipynb"],
                          cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout


def test_cleaned_notebooks_are_compared_and_flagged_cells_left_alone(compared):
    _, said = compared
    assert [f"PASSED good.ipynb::Cell {i}" in said for i in range(4)] == [True, True, False, False], said
    assert "1 failed, 2 passed, 2 skipped" in said, said


def test_a_stored_output_that_is_not_reproduced_fails(compared):
    code, said = compared
    assert code == 1 and "FAILED wrong.ipynb::Cell 0" in said, said

"""The plan of the house: arrows lead downstairs, each name has one room, and light rooms stay light."""
import ast
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ragcun"
ORDER = ["core", "figures", "measures", "data", "models", "losses", "training", "evaluation", "diagnostics",
         "retrieval", "integrations", "cli"]
CHAPTERS = ORDER[2:]
LIGHT = ["core", "models.evidence", "retrieval.hits", "retrieval.null", "retrieval.words", "retrieval.index",
         "cli.flags", "cli.demonstration", "cli.commands"]  # modules that must be importable without torch
OUTSIDE = {"__init__", "__main__", "_moved", "_modidx", "haystack_adapter"}  # the door, and what only old files ask for


# --- what the package consists of

def modules(package):
    "Dotted name → source of each module; a chapter's `__init__` is no room."
    found = {p.relative_to(package).with_suffix("").as_posix().replace("/", "."): p.read_text("utf-8")
             for p in sorted(package.rglob("*.py"))}
    return {name: text for name, text in found.items() if name.split(".")[-1] not in OUTSIDE}


def chapter(name):
    return name.split(".")[0]


def targets(module, node, names):
    "Modules of the package that an import statement reads; a chapter that is imported whole is named by itself."
    if isinstance(node, ast.Import):
        bases = [(a.name.removeprefix("ragcun."), []) for a in node.names if a.name.startswith("ragcun.")]
    else:
        above = module.split(".")[:-node.level] if node.level else []
        full = [*above, *(node.module or "").split(".")] if node.level else (node.module or "").split(".")
        if not node.level and full[0] != "ragcun":
            return []
        full = full if node.level else full[1:]
        bases = [(".".join(filter(None, full)), [a.name for a in node.names])]
    found = []
    for base, imported in bases:
        if not base and imported == ["__version__"]:
            continue  # the version belongs to no chapter
        inner = [f"{base}.{i}".strip(".") for i in imported]
        found += [i for i in inner if i in names] or [base or "ragcun"]
    return found


def arrows(package):
    """(Importer, imported, line) of every import within the package, at module level, in functions and for type
    checkers."""
    rooms = modules(package)
    names = set(rooms) | {chapter(n) for n in rooms}
    return [(name, target, node.lineno) for name, text in rooms.items() for node in ast.walk(ast.parse(text))
            if isinstance(node, (ast.Import, ast.ImportFrom)) for target in targets(name, node, names)]


def exported(text):
    "The names in a module's `__all__`."
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return ast.literal_eval(node.value)
    return []


# --- the rules; each returns what breaks it

def upward(package):
    "Arrows to a later chapter, or to the whole package, which knows all chapters."
    place = {name: number for number, name in enumerate(ORDER)}
    return [f"{a} → {b} (line {line})" for a, b, line in arrows(package)
            if place.get(chapter(b), len(ORDER)) > place.get(chapter(a), -1)]


def circles(package):
    "Modules that reach themselves."
    follows = {}
    for a, b, _ in arrows(package):
        follows.setdefault(a, set()).add(b)
    found = []
    for start in follows:
        seen = set()
        todo = list(follows[start])
        while todo:
            here = todo.pop()
            if here not in seen:
                seen.add(here)
                todo += follows.get(here, ())
        if start in seen:
            found.append(start)
    return found


def exported_twice(package):
    "Public names that two modules call their own."
    owners = {}
    for name, text in modules(package).items():
        for public in exported(text):
            owners.setdefault(public, []).append(name)
    return [f"{public}: {', '.join(places)}" for public, places in sorted(owners.items()) if len(places) > 1]


def defined_twice(package):
    "Public functions, classes and constants that two modules define."
    owners = {}
    for name, text in modules(package).items():
        for node in ast.parse(text).body:
            named = [node.name] if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else \
                [t.id for t in node.targets if isinstance(t, ast.Name)] if isinstance(node, ast.Assign) else []
            for public in {n for n in named if not n.startswith("_")}:
                owners.setdefault(public, []).append(name)
    return [f"{public}: {', '.join(places)}" for public, places in sorted(owners.items()) if len(places) > 1]


def same_as_same(package):
    "`from … import X as X`, and nbdev's `_all_` lists."
    found = []
    for path in sorted([*package.rglob("*.py"), *package.rglob("*.pyi")]):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            here = path.relative_to(package).as_posix()
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                found += [f"{here}:{node.lineno} {a.name} as {a.asname}" for a in node.names if a.asname == a.name]
            elif isinstance(node, ast.Name) and node.id == "_all_":
                found.append(f"{here}:{node.lineno} _all_")
    return found


def loggers(package):
    "Places that make the library's logger."
    return [f"{name}:{number}" for name, text in modules(package).items() for number, line in enumerate(
        text.splitlines(), 1) if re.search(r"getLogger\((['\"])ragcun\1\)|getLogger\(__name__\)", line)]


def stub(path):
    "Names that a stub imports, and those in its `__all__`."
    text = path.read_text("utf-8")
    imported = [(node.module, alias.asname or alias.name) for node in ast.parse(text).body
                if isinstance(node, ast.ImportFrom) for alias in node.names]
    return imported, exported(text)


def wrong_stubs(package):
    "Stubs whose imports are not their `__all__`, or name what a module does not export."
    found = []
    rooms = modules(package)
    for path in [package / "__init__.pyi", *[package / c / "__init__.pyi" for c in CHAPTERS if (package / c).is_dir()]]:
        here = path.relative_to(package).parent.as_posix().strip(".")
        if not path.is_file():
            found.append(f"{here} has no __init__.pyi")
            continue
        imported, public = stub(path)
        if Counter(name for _, name in imported) != Counter(public):
            found.append(f"{here or 'ragcun'}: imports and __all__ differ in "
                         f"{sorted(set(public) ^ {n for _, n in imported}) or 'how often a name stands there'}")
        for module, name in imported:
            full = f"{here}.{module}".strip(".")
            if name not in exported(rooms.get(full, "")):
                found.append(f"{here or 'ragcun'}: {full} exports no {name}")
    return found


def shadowed(package):
    "Modules and chapters called like something that their chapter or `ragcun` exports."
    top = set(stub(package / "__init__.pyi")[1])
    found = [f"ragcun.{c}" for c in ORDER if c in top]
    for name in modules(package):
        own = package / chapter(name) / "__init__.pyi"
        if name.split(".")[-1] in top | (set(stub(own)[1]) if own.is_file() else set()):
            found.append(name)
    return found


RULES = [upward, circles, exported_twice, defined_twice, same_as_same, wrong_stubs, shadowed]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_the_rule(rule):
    broken = rule(PACKAGE)
    assert not broken, f"{rule.__doc__}\n  " + "\n  ".join(broken)


def test_the_library_has_one_logger():
    assert len(loggers(PACKAGE)) == 1 and loggers(PACKAGE)[0].startswith("core:")


def test_every_chapter_is_in_the_order_and_nothing_else_stands_beside_them():
    assert {chapter(name) for name in modules(PACKAGE)} == set(ORDER)
    assert len(modules(PACKAGE)) >= 50 and len(arrows(PACKAGE)) >= 200  # the rules above have something to look at


# --- each rule rejects a house that breaks it

GOOD = {
    "__init__.pyi": "from .data.pairs import Pair\n\n__all__ = ['Pair']\n",
    "core.py": "import logging\nlogger = logging.getLogger('ragcun')\n__all__ = ['logger']\n",
    "data/__init__.pyi": "from .pairs import Pair\n\n__all__ = ['Pair']\n",
    "data/pairs.py": "from ..core import logger\n__all__ = ['Pair']\nclass Pair: pass\n",
    "data/files.py": "import json\n__all__ = ['read']\ndef read(): from .pairs import Pair\n",
    "models/__init__.pyi": "from .encoder import Encoder\n\n__all__ = ['Encoder']\n",
    "models/encoder.py": "from ragcun.data.pairs import Pair\n__all__ = ['Encoder']\nclass Encoder: pass\n",
}
LATER = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..models.encoder import Encoder\n"
BROKEN = [
    (upward, "data/files.py", "from ..models.encoder import Encoder"),
    (upward, "data/files.py", "from ..models import Encoder"),
    (upward, "data/files.py", "from .. import models"),
    (upward, "data/files.py", "import ragcun.models.encoder"),
    (upward, "data/files.py", "from ragcun import GaussianEncoder"),
    (upward, "data/files.py", "def f():\n    from ragcun.models.encoder import Encoder"),
    (upward, "data/files.py", LATER),
    (upward, "core.py", "from .data.pairs import Pair"),
    (circles, "data/pairs.py", "def f():\n    from .files import read"),
    (exported_twice, "models/encoder.py", "__all__ = ['Encoder', 'Pair']"),
    (defined_twice, "models/encoder.py", "class Pair: pass"),
    (defined_twice, "models/encoder.py", "read = 3"),
    (same_as_same, "models/encoder.py", "from ..data.pairs import Pair as Pair"),
    (same_as_same, "models/encoder.py", "_all_ = ['Encoder']"),
    (wrong_stubs, "data/__init__.pyi", "from .files import read\n__all__ = ['Pair']"),
    (wrong_stubs, "data/__init__.pyi", "from .files import read, gone\n__all__ = ['read', 'gone']"),
    (wrong_stubs, "__init__.pyi", "from .models.gone import Pair\n__all__ = ['Pair']"),
    (shadowed, "data/__init__.pyi", "from .files import read as pairs\n__all__ = ['pairs']"),
    (shadowed, "__init__.pyi", "from .data.pairs import Pair as models\n__all__ = ['models']"),
]


def build(folder, changes=()):
    for name, text in [*GOOD.items(), *changes]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return folder


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_good_house_passes(rule, tmp_path):
    assert rule(build(tmp_path)) == []


@pytest.mark.parametrize("rule, name, text", BROKEN, ids=lambda value: getattr(value, "__name__", str(value)[:40]))
def test_a_broken_house_is_seen(rule, name, text, tmp_path):
    assert rule(build(tmp_path, [(name, text)])), f"{rule.__name__} overlooks {text!r} in {name}"


def test_a_second_logger_is_seen(tmp_path):
    made = build(tmp_path, [("models/encoder.py", "import logging\nlogger = logging.getLogger(__name__)")])
    assert loggers(made) == ["core:2", "models.encoder:2"]


# --- what only an import shows

def python(code, folder=ROOT):
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


LOADED = "import sys, importlib; [importlib.import_module(m) for m in {names}]; print('torch' in sys.modules)"


def test_light_modules_load_no_torch():
    done = python(LOADED.format(names=[f"ragcun.{m}" for m in LIGHT]))
    if done.stdout.split() != ["False"]:
        heavy = [m for m in LIGHT if python(LOADED.format(names=[f"ragcun.{m}"])).stdout.split() != ["False"]]
        pytest.fail(f"import torch: {', '.join(heavy)}\n{done.stderr[-500:]}")


def test_a_heavy_import_is_seen():
    assert python(LOADED.format(names=["torch"])).stdout.split() == ["True"]


def old_modules():
    from ragcun._moved import MOVED
    return MOVED


def test_a_removed_module_says_where_its_contents_are():
    code = "import sys\nfor name in sys.argv[1:]:\n    try: __import__('ragcun.' + name)\n" \
           "    except ModuleNotFoundError as error: print(error)\n    else: print('imported')"
    names = list(old_modules())
    done = subprocess.run([sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True)
    said = done.stdout.splitlines()
    assert len(said) == len(names), done.stderr
    for name, line in zip(names, said, strict=True):
        assert f"ragcun.{name} " in line and all(f"ragcun.{new}" in line for new in old_modules()[name].split()), line


def test_the_new_places_exist_and_the_old_are_gone():
    rooms = modules(PACKAGE)
    assert [new for places in old_modules().values() for new in places.split() if new not in rooms] == []
    assert [old for old in old_modules() if old in rooms or (PACKAGE / old).is_dir()] == []


def test_a_module_that_never_was_fails_as_elsewhere():
    done = python("import ragcun.nowhere")
    assert (done.returncode == 1
            and done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'ragcun.nowhere'")


def test_what_version_0_1_0_wrote_is_kept_as_a_test():
    golden = ROOT / "tests" / "golden"
    kept = ["index", "model", "run", "haystack.yaml"]
    stem = {name: "{}_0_1_0{}".format(*re.fullmatch(r"(\w+)(.*)", name).groups()) for name in kept}
    assert [name for name in kept if not (golden / stem[name]).exists()] == []
    (opened,) = (ROOT / "tests").rglob("test_golden.py")
    assert [name for name in kept if f'"{name}"' not in opened.read_text("utf-8")] == []
    assert (golden / "checkpoint_epoch_1.pt").exists()


def test_chapters_stand_in_the_order_of_their_numbers():
    folders = sorted(p.name for p in (ROOT / "nbs").glob("[0-9]_*"))
    assert all(int(a[0]) + 1 == int(b[0]) for a, b in pairwise(folders))
    assert [f.partition("_")[2] for f in folders] == ["foundations", *[c for c in CHAPTERS if c != "measures"]]

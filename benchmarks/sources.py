"""What a recorded result depends on, and whether that has changed since.

    python benchmarks/sources.py                 # which results are older than the code that they measure
    python benchmarks/sources.py --stamp NAME …  # these files of data/results/ were just recorded
    python benchmarks/sources.py --accept WHY NAME …  # recorded by an earlier script; why that is kept

A benchmark depends on its script, on the helpers beside it and on the modules of ragcun that these import, directly
or by another. What counts is the code: its syntax tree without documentation strings and imports, so that words may
change and modules may move. For each file of data/results/, data/results/sources.json holds three hashes: of the file
as it was recorded, of the script with its helpers, of the package's part; and the commit. `make bench` stamps what it
runs. A test says when a file or its script has changed without being recorded again; the package may go on, and then
the list printed here says by which modules.
"""
from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT/"data"/"results"
STAMPS = "sources.json"
Reader = Callable[[str], str | None]  # path below the root -> text; None where there is no such file


def at_present(path: str) -> str | None:
    "A file of the working tree."
    file = ROOT/path
    return file.read_text("utf-8") if file.is_file() else None


def at_commit(commit: str) -> Reader:
    "A reader of the files of a commit, each read once."
    @cache
    def read(path: str) -> str | None:
        found = subprocess.run(["git", "show", f"{commit}:{path}"], cwd=ROOT, capture_output=True)
        return found.stdout.decode("utf-8") if found.returncode == 0 else None
    return read


def names_of(tree: ast.AST, package: str) -> set[str]:
    "Dotted names that a module imports anywhere; relative ones are resolved in `package`."
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[:len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base} | {f"{base}.{a.name}" for a in node.names}
    return found


def run_by(text: str) -> set[str]:
    "Modules that a string names which is run as another program: a module, or lines of Python."
    if re.fullmatch(r"ragcun(\.\w+)+", text): return {text}
    return set(re.findall(r"^\s*(?:from|import) (ragcun[\w.]*)", text, re.MULTILINE))


def behind(name: str, read: Reader) -> str:
    "The module that a package's stub takes a name from, since packages here import lazily; else the name."
    package, _, last = name.rpartition(".")
    stub = read(f"{package.replace('.', '/')}/__init__.pyi")
    if stub is None: return name
    for node in ast.parse(stub).body:
        if isinstance(node, ast.ImportFrom) and node.module and last in {a.name for a in node.names}:
            return f"{package}.{node.module}"
    return name


@cache
def imported(path: str, read: Reader) -> set[str]:
    "Files of this repository that a file imports or, where it is a script, runs as another program."
    text = read(path)
    if text is None: return set()
    tree = ast.parse(text)
    names = names_of(tree, ".".join(Path(path).parent.parts))
    if not path.startswith("ragcun"):
        names |= {n for c in ast.walk(tree) if isinstance(c, ast.Constant) and isinstance(c.value, str)
                  for n in run_by(c.value)}
    found = set()
    for name in names:
        name = behind(name, read) if name.startswith("ragcun.") else name
        place = name.replace(".", "/") if name.startswith("ragcun") else f"benchmarks/{name}"
        found |= {f for f in (f"{place}.py", f"{place}/__init__.py") if read(f) is not None}
    return found


def closure(script: str, read: Reader = at_present) -> list[str]:
    "A script and all files of the repository that it needs, sorted."
    seen: set[str] = set()
    todo = {script}
    while todo:
        path = todo.pop()
        seen.add(path)
        todo |= imported(path, read) - seen
    return sorted(seen)


def plain(node: object) -> object:
    """A syntax tree as lists, without documentation strings, imports and what is empty: other versions of Python name
    other empty fields."""
    if isinstance(node, list):
        return [plain(n) for n in node if not isinstance(n, (ast.Import, ast.ImportFrom)) and not (
            isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant) and isinstance(n.value.value, str))]
    if not isinstance(node, ast.AST): return ascii(node)
    if isinstance(node, ast.JoinedStr):  # Python 3.12 adds empty pieces to some
        node.values = [v for v in node.values if not (isinstance(v, ast.Constant) and v.value == "")]
    fields = [(name, plain(value)) for name, value in ast.iter_fields(node) if value not in (None, [])]
    return [type(node).__name__, *sorted((f for f in fields if f[0] not in ("kind", "ctx")), key=lambda f: f[0])]


@cache
def code_of(text: str) -> str:
    "Hash of the code of a text: neither its words count nor where its names come from."
    return hashlib.sha256(json.dumps(plain(ast.parse(text))).encode()).hexdigest()[:12]


def digests(paths: list[str], read: Reader = at_present) -> dict[str, str]:
    "Hash of the code of each file."
    return {p: code_of(read(p) or "") for p in paths}


def together(parts: dict[str, str]) -> str:
    "One hash of several."
    return hashlib.sha256(json.dumps(sorted(parts.items())).encode()).hexdigest()[:12]


def halves(scripts: list[str], read: Reader = at_present) -> tuple[dict[str, str], dict[str, str]]:
    "Hashes of the scripts with their helpers, and of the package's files behind them."
    files = digests(sorted({f for s in scripts for f in closure(s, read)}), read)
    return ({p: h for p, h in files.items() if p.startswith("benchmarks/")},
            {p: h for p, h in files.items() if not p.startswith("benchmarks/")})


def scripts_of(record: Path) -> list[str]:
    "The scripts that the commands in a record name."
    commands = re.findall(r'"command": "(.*)"', record.read_text())
    return sorted({s for c in commands for s in re.findall(r"(?:benchmarks|tests/\w+)/\w+\.py", c)})


def hash_of(record: Path) -> str:
    "Of a file's contents."
    return hashlib.sha256(record.read_bytes()).hexdigest()[:12]


def git(*args: str) -> str:
    "What git prints."
    return subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def stamp(names: list[str], why: str | None = None) -> None:
    """Note that these files were recorded just now; or, with a reason why that is as good, by the commit that last
    changed them, with another script."""
    path = RESULTS/STAMPS
    stamps = json.loads(path.read_text()) if path.exists() else {}
    for name in names:
        script, package = halves(scripts_of(RESULTS/name))
        commit = git("rev-parse", "--short", "HEAD")
        if why is not None:
            commit = git("log", "-1", "--format=%h", "--", f"data/results/{name}")
            _, package = halves(scripts_of(RESULTS/name), at_commit(commit))
        stamps[name] = {"file": hash_of(RESULTS/name), "script": together(script), "package": together(package),
                        "commit": commit, **({"accepted": why} if why else {})}
    path.with_suffix(".tmp").write_text(json.dumps(dict(sorted(stamps.items())), indent=1) + "\n")
    os.replace(path.with_suffix(".tmp"), path)


def records() -> list[Path]:
    "Files of results, without those of this module and of `make bench` as a whole."
    return sorted(p for p in RESULTS.glob("*.json") if p.name not in (STAMPS, "bench.json"))


def wrong() -> list[str]:
    "Records whose file or script is not what was stamped, each with why."
    stamps = json.loads((RESULTS/STAMPS).read_text())
    out = [f"{name}: stamped, but there is no such file" for name in stamps if not (RESULTS/name).exists()]
    for record in records():
        held = stamps.get(record.name)
        script, _ = halves(scripts_of(record))
        if held is None:
            out.append(f"{record.name}: not stamped")
        elif held["file"] != hash_of(record):
            out.append(f"{record.name}: changed since it was stamped")
        elif held["script"] != together(script):
            out.append(f"{record.name}: {', '.join(script) or 'its script'} changed since it was recorded")
    return out


def changed(record: Path) -> list[str]:
    "Modules of the package that a record depends on and that changed since its commit."
    held = json.loads((RESULTS/STAMPS).read_text())[record.name]
    _, now = halves(scripts_of(record))
    if together(now) == held["package"]: return []
    _, then = halves(scripts_of(record), at_commit(held["commit"]))
    return sorted(p.removeprefix("ragcun/") for p in now.keys() | then.keys() if now.get(p) != then.get(p))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stamp", nargs="+", default=[], metavar="NAME", help="files of data/results/")
    parser.add_argument("--accept", nargs="+", default=[], metavar=("WHY", "NAME"), help="a reason and files")
    args = parser.parse_args()
    if args.stamp or args.accept:
        stamp(args.stamp or args.accept[1:], None if args.stamp else args.accept[0])
        return 0
    bad = wrong()
    for record in records():
        newer = changed(record) if record.name in json.loads((RESULTS/STAMPS).read_text()) else []
        print(f"{record.name:28}" + (f"{len(newer)} modules changed since: {', '.join(newer[:6])}"
                                     f"{' …' if len(newer) > 6 else ''}" if newer else "of this code"))
    print("\n".join(bad) or "every record and its script are as stamped")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())

"""What a recorded result depends on, and whether that has changed since.

    python benchmarks/sources.py                 # each record with its commit, and what is not of the present code
    python benchmarks/sources.py --stamp NAME …  # these files of data/results/ were just recorded
    python benchmarks/sources.py --accept WHY [NAME …]  # recorded by earlier code; why that is as good

A benchmark depends on its script and on the definitions of the package and of the helpers that it leads to, by the
names that its code mentions, each with all that it uses in turn: functions, classes, values, and of a class the
methods whose names are mentioned anywhere. Code that is called in ways that no name shows is not seen. What counts is
the syntax tree, without documentation strings, imports and what errors say, so that words may change and definitions
may move to another file. For each file of data/results/, data/results/sources.json holds three hashes: of the file as
it was recorded, of the script with its helpers, of the package's part; and the commit. `make bench` stamps what it
runs. A test says when any of the three is another now.
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
COMMAND = "ragcun.__main__"
WHOLE, RUNS = "*", "import"   # beside the names of a module: all of them, and what runs when it is imported
Reader = Callable[[str], str | None]  # path below the root -> text; None where there is no such file


def at_present(path: str) -> str | None:
    "A file of the working tree."
    file = ROOT/path
    return file.read_text("utf-8") if file.is_file() else None


@cache
def at_commit(commit: str) -> Reader:
    "A reader of the files of a commit, each read once."
    @cache
    def read(path: str) -> str | None:
        found = subprocess.run(["git", "show", f"{commit}:{path}"], cwd=ROOT, capture_output=True)
        return found.stdout.decode("utf-8") if found.returncode == 0 else None
    return read


def dotted(node: ast.expr) -> list[str]:
    "The parts of `a.b.c`; nothing for other expressions."
    if isinstance(node, ast.Name): return [node.id]
    above = dotted(node.value) if isinstance(node, ast.Attribute) else []
    return [*above, node.attr] if above else []


def bound(statement: ast.stmt) -> set[str]:
    "Names that a statement of a module gives: of a definition its own, else all it assigns."
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)): return {statement.name}
    inner = {n.name for n in ast.walk(statement) if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    return inner | {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def used(statement: ast.AST) -> set[str]:
    "Dotted names that a statement reads when it runs: annotations of functions do not count."
    found, todo = set(), [statement]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.arguments):
            todo += [*node.defaults, *(d for d in node.kw_defaults if d)]
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            todo += [node.args, *node.body, *node.decorator_list]
        elif isinstance(node, ast.Attribute) and dotted(node):
            found.add(".".join(dotted(node)))
        elif isinstance(node, ast.Name):
            found.add(node.id)
        else:
            todo += ast.iter_child_nodes(node)
    return found


class Module:
    "A file: what it defines, what it runs when it is imported, and what its imported names stand for."
    def __init__(self, path: str, text: str):
        self.path, tree = path, ast.parse(text)
        package = ".".join(Path(path).parent.parts) if path.startswith("ragcun") else ""
        self.imports = dict(item for n in ast.walk(tree) for item in imported(n, package))
        self.defines: dict[str, list[ast.stmt]] = {}
        self.methods: dict[str, dict[str, ast.stmt]] = {}
        self.runs: list[ast.stmt] = []
        for statement in tree.body:
            if isinstance(statement, (ast.Import, ast.ImportFrom)): continue
            if isinstance(statement, ast.If) and "__name__" in used(statement.test): continue  # run as a program
            if isinstance(statement, ast.ClassDef): self.methods[statement.name] = methods_of(statement)
            for name in bound(statement):
                self.defines.setdefault(name, []).append(statement)
            if not bound(statement): self.runs.append(statement)

    def statements(self, name: str) -> list[ast.stmt]:
        "Those that give a name, or that run when the file is imported; a class without its methods."
        first, _, method = name.partition(".")
        if method: return [self.methods[first][method]]
        left = self.methods.get(name, {}).values()
        return self.runs if name == RUNS else [
            s if not left else ast.ClassDef(s.name, s.bases, s.keywords, [b for b in s.body if b not in left],
                                            s.decorator_list) for s in self.defines.get(name, [])]


def methods_of(node: ast.ClassDef) -> dict[str, ast.stmt]:
    "Methods that code has to name to call; another library may call those of its own classes."
    if {b for b in map(ast.unparse, node.bases) if "." in b}: return {}
    return {n.name: n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("__")}


def named(statement: ast.stmt) -> set[str]:
    "Attributes that a statement mentions, as `getattr` may."
    return {n.attr for n in ast.walk(statement) if isinstance(n, ast.Attribute)} | {
        c.value for n in ast.walk(statement) if isinstance(n, ast.Call) and dotted(n.func)[-1:] == ["getattr"]
        for c in n.args if isinstance(c, ast.Constant) and isinstance(c.value, str)}


def imported(node: ast.AST, package: str) -> list[tuple[str, str]]:
    "Names that an import gives, each with the dotted name that it stands for; relative ones start at `package`."
    if isinstance(node, ast.Import):
        return [(a.asname or a.name.split(".")[0], a.name if a.asname else a.name.split(".")[0]) for a in node.names]
    if not isinstance(node, ast.ImportFrom): return []
    above = package.split(".")[:len(package.split(".")) - node.level + 1] if node.level else []
    base = ".".join([*above, *([node.module] if node.module else [])])
    return [(a.asname or a.name, f"{base}.{a.name}") for a in node.names]


class House:
    "The files of the repository as a reader gives them, and what code in them leads to."
    def __init__(self, read: Reader = at_present):
        self.read, self.modules = read, dict[str, Module | None]()
        self.stubs: dict[str, dict[str, str]] = {}
        self.hashed: dict[str, dict[str, str]] = {}
        self.codes: dict[tuple[str, str], str] = {}
        self.known: dict[tuple[str, str], tuple[set[tuple[str, str]], set[str]]] = {}

    def module(self, path: str) -> Module | None:
        "A file, parsed once."
        if path not in self.modules:
            text = self.read(path)
            self.modules[path] = None if text is None else Module(path, text)
        return self.modules[path]

    def file(self, name: str) -> str | None:
        "The file of a module by its dotted name; helpers of benchmarks are beside their scripts."
        place = name.replace(".", "/") if name.split(".")[0] == "ragcun" else f"benchmarks/{name}"
        return next((f for f in (f"{place}.py", f"{place}/__init__.py") if self.module(f)), None)

    def behind(self, name: str) -> str:
        "The dotted name that a package's stub takes a name from, since packages here import lazily; else the name."
        package, _, last = name.rpartition(".")
        if package not in self.stubs:
            stub = self.read(f"{package.replace('.', '/')}/__init__.pyi") if package else None
            self.stubs[package] = dict(item for node in ast.parse(stub or "").body for item in imported(node, package))
        return self.stubs[package].get(last, name)

    def found(self, name: str) -> tuple[str, str] | None:
        "The file of this repository, and the name in it, that a dotted name leads to, or WHOLE."
        parts = name.split(".")
        for n in range(len(parts), 0, -1):
            whole = self.behind(".".join(parts[:n]))
            file = self.file(whole)
            if file and n == len(parts): return file, WHOLE
            holder, _, last = whole.rpartition(".")
            file = self.file(holder) if holder else None
            if file and last in self.module(file).defines: return file, last
            if file and last in self.module(file).imports and (further := self.module(file).imports[last]) != name:
                return self.found(further)
        return None

    def leads(self, module: Module, name: str) -> tuple[set[tuple[str, str]], set[str]]:
        "Files and names that a definition uses, and attributes that it mentions."
        place = (module.path, name)
        if place not in self.known:
            statements = module.statements(name)
            self.known[place] = ({p for s in statements for p in self.used_by(module, s)},
                                 {a for s in statements for a in named(s)})
        return self.known[place]

    def used_by(self, module: Module, statement: ast.stmt) -> set[tuple[str, str]]:
        "Files and names that a statement uses."
        mentions = used(statement)
        names = {n for u in mentions for n in self.meant(module, u)}
        for c in ast.walk(statement):
            if isinstance(c, ast.Constant) and isinstance(c.value, str): names |= run_by(c.value)
            if isinstance(c, ast.List) and {"-m", "ragcun"} <= {e.value for e in c.elts if isinstance(e, ast.Constant)}:
                names.add(COMMAND)
        out = {f for n in names if (f := self.found(n))}
        return out | {(module.path, u.split(".")[0]) for u in mentions if u.split(".")[0] in module.defines}

    def meant(self, module: Module, name: str) -> list[str]:
        "What a name of a module stands for, if it was imported from this repository."
        first, _, rest = name.partition(".")
        whole = module.imports.get(first)
        if whole is None: return []
        return [f"{whole}.{rest}"] if rest and self.file(whole) else [whole]

    def needed(self, script: str) -> dict[tuple[str, str], list[ast.stmt]]:
        """All statements behind a script: its own, and of other files the definitions that these use, directly or by
        another, with what runs when such a file is imported. Of a class, the methods whose names are mentioned."""
        seen: dict[tuple[str, str], list[ast.stmt]] = {}
        todo, mentioned, waiting = {(script, WHOLE)}, set[str](), set[tuple[str, str]]()
        while todo:
            path, name = place = todo.pop()
            module = self.module(path)
            if module is None or place in seen: continue
            seen[place] = module.statements(name)
            todo |= {(path, n) for n in (module.defines if name == WHOLE else [])} | {(path, RUNS)}
            waiting |= {(path, f"{name}.{m}") for m in module.methods.get(name, {})}
            leads, attributes = self.leads(module, name)
            todo |= leads
            mentioned |= attributes
            called = {w for w in waiting if w[1].split(".")[1] in mentioned}
            todo, waiting = todo | called, waiting - called
        return seen

    def hashes(self, script: str) -> dict[str, str]:
        "Of the code behind a script, by file and name; definitions without code are left out."
        if script not in self.hashed:
            found = {f"{p}:{n}": self.hash(p, n, code) for (p, n), code in self.needed(script).items()}
            self.hashed[script] = {place: code for place, code in found.items() if code}
        return self.hashed[script]

    def hash(self, path: str, name: str, statements: list[ast.stmt]) -> str:
        "Of a definition, which many scripts lead to; empty where it has no code."
        if (path, name) not in self.codes:
            code = json.dumps(plain(statements))
            self.codes[path, name] = hashlib.sha256(code.encode()).hexdigest()[:12] if code != "[]" else ""
        return self.codes[path, name]


def run_by(text: str) -> set[str]:
    "Dotted names of modules that a string runs as another program: a module, or lines of Python."
    if re.fullmatch(r"ragcun(\.\w+)+", text): return {text}
    if re.fullmatch(r"ragcun --\w+", text): return {COMMAND}
    lines = re.findall(r"^\s*((?:from|import) ragcun[^\n]*)$", text, re.MULTILINE)
    found = set()
    for line in lines:
        try:
            found |= {name for node in ast.walk(ast.parse(line.strip())) for _, name in imported(node, "")}
        except SyntaxError:
            found |= set(re.findall(r"ragcun(?:\.\w+)+", line))
    return found


def plain(node: object) -> object:
    """A syntax tree as lists, without documentation strings, imports, what an error says and what is empty: other
    versions of Python name other empty fields."""
    if isinstance(node, list):
        return [plain(n) for n in node if not isinstance(n, (ast.Import, ast.ImportFrom)) and not (
            isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant) and isinstance(n.value.value, str))]
    if isinstance(node, ast.Raise): return "raise"
    if not isinstance(node, ast.AST): return ascii(node)
    if isinstance(node, ast.JoinedStr):  # Python 3.12 adds empty pieces to some
        node.values = [v for v in node.values if not (isinstance(v, ast.Constant) and v.value == "")]
    fields = [(name, plain(value)) for name, value in ast.iter_fields(node) if value not in (None, [])]
    return [type(node).__name__, *sorted((f for f in fields if f[0] not in ("kind", "ctx")), key=lambda f: f[0])]


@cache
def house(read: Reader) -> House:
    "The files as they are when they are first asked for."
    return House(read)


def digests(scripts: list[str], read: Reader = at_present) -> dict[str, str]:
    "Hash of the code of each definition behind some scripts, by file and name."
    return {place: code for script in scripts for place, code in house(read).hashes(script).items()}


def together(parts: dict[str, str]) -> str:
    "One hash of several; files may move, definitions may not be renamed."
    return hashlib.sha256(json.dumps(sorted((p.split(":")[1], h) for p, h in parts.items())).encode()).hexdigest()[:12]


def halves(scripts: list[str], read: Reader = at_present) -> tuple[dict[str, str], dict[str, str]]:
    "Hashes of what the scripts and their helpers define, and of the package's definitions behind them."
    found = digests(scripts, read)
    return ({p: h for p, h in found.items() if not p.startswith("ragcun")},
            {p: h for p, h in found.items() if p.startswith("ragcun")})


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
    changed them, with other code."""
    path = RESULTS/STAMPS
    stamps = json.loads(path.read_text()) if path.exists() else {}
    for name in names:
        script, package = halves(scripts_of(RESULTS/name))
        commit = git("rev-parse", "--short", "HEAD") if why is None else (
            git("log", "-1", "--format=%h", "--", f"data/results/{name}"))
        stamps[name] = {"file": hash_of(RESULTS/name), "script": together(script), "package": together(package),
                        "commit": commit, **({"accepted": why} if why else {})}
    path.with_suffix(".tmp").write_text(json.dumps(dict(sorted(stamps.items())), indent=1) + "\n")
    os.replace(path.with_suffix(".tmp"), path)


def records() -> list[Path]:
    "Files of results, without those of this module and of `make bench` as a whole."
    return sorted(p for p in RESULTS.glob("*.json") if p.name not in (STAMPS, "bench.json"))


def wrong() -> list[str]:
    "Records whose file or code is not what was stamped, each with why."
    stamps = json.loads((RESULTS/STAMPS).read_text())
    out = [f"{name}: stamped, but there is no such file" for name in stamps if not (RESULTS/name).exists()]
    for record in records():
        held = stamps.get(record.name)
        script, package = halves(scripts_of(record))
        if held is None:
            out.append(f"{record.name}: not stamped")
        elif held["file"] != hash_of(record):
            out.append(f"{record.name}: changed since it was stamped")
        elif (held["script"], held["package"]) != (together(script), together(package)):
            out.append(f"{record.name}: recorded by other code ({some(changed(record, held['commit']))})")
    return out


def changed(record: Path, commit: str) -> list[str]:
    "Names of the definitions behind a record that are not those of a commit, without their files."
    now, then = ({k: v for half in halves(scripts_of(record), read) for k, v in half.items()}
                 for read in (at_present, at_commit(commit)))
    return sorted({p.split(":")[1] for p in now.keys() | then.keys() if now.get(p) != then.get(p)} - {RUNS, WHOLE})


def some(names: list[str]) -> str:
    "How many names, and the first of them."
    return f"{len(names)} definitions: {', '.join(names[:6])}{' …' if len(names) > 6 else ''}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stamp", nargs="+", default=[], metavar="NAME", help="files of data/results/")
    parser.add_argument("--accept", nargs="+", default=[], metavar=("WHY", "NAME"),
                        help="a reason, and files: those given, or all that other code recorded")
    args = parser.parse_args()
    if args.stamp or args.accept:
        of_other_code = [line.split(":")[0] for line in wrong() if ": recorded by other code" in line]
        stamp(args.stamp or args.accept[1:] or of_other_code, None if args.stamp else args.accept[0])
        return 0
    bad = wrong()
    stamps = json.loads((RESULTS/STAMPS).read_text())
    for record in records():
        held = stamps.get(record.name, {})
        print(f"{record.name:28}{held.get('commit', ''):9}" + (
            f"{held['accepted']} ({some(changed(record, held['commit']))})" if "accepted" in held else ""))
    print("\n".join(bad) or "every record is of this code, or says why it may stay")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())

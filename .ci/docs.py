"""Build the documentation site without Quarto: nbdev's processed notebooks, through pandoc, into plain pages.

No page needs the network. A dead link or anchor, a page missing from the navigation, or a cell that nbdev cannot process fails
the build. `--sidebar` writes nbs/sidebar.yml, the same navigation for Quarto.
"""
from __future__ import annotations

import argparse
import ast
import base64
import html
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import textwrap
import warnings
from configparser import ConfigParser
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"
HERE = Path(__file__).resolve().parent
CARD = NBS / "images" / "card.png"  # what a shared link shows, here and in Quarto's site
READER = ("markdown+emoji+autolink_bare_uris+lists_without_preceding_blankline-yaml_metadata_block-citations-raw_tex-smart"
          "-implicit_figures")
# The reading order within a folder; pages not named here follow in the order of their file names.
ORDER = {
    "Get started": ["index", "tutorials/quickstart"],
    "Tutorials": ["tutorials/train_on_your_documents", "tutorials/read_the_diagnostics", "tutorials/no_answer",
                  "tutorials/fine_tune_fully", "tutorials/use_it_elsewhere"],
    "Explanations": ["explain/why_isotropic", "explain/evidence", "explain/sigreg", "explain/capacity", "explain/trust"],
    "Results": [],
    "Reference": [],
}
LAST = ["explain/glossary"]
PARTS = {"00": "Foundations", "01": "Data", "02": "Model", "03": "Losses and metrics", "04": "Training", "05": "Evaluation",
         "06": "Diagnosis", "07": "Retrieval", "08": "Command"}
FOLDERS = {"tutorials": "Tutorials", "explain": "Explanations", "results": "Results"}


def settings() -> dict[str, str]:
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return dict(config["DEFAULT"])


def page_names() -> list[str]:
    "Every notebook that becomes a page, as a path below nbs/ without its ending."
    found = [p.relative_to(NBS).with_suffix("") for p in NBS.rglob("*.ipynb")]
    return sorted(p.as_posix() for p in found if not any(part[0] in "._" for part in p.parts))


def navigation() -> dict[str, list[str]]:
    "Section title → page names, in reading order; every page is in exactly one section."
    names, nav = page_names(), {}
    placed = {name for group in ORDER.values() for name in group} | set(LAST)
    for title, first in ORDER.items():
        rest = [n for n in names if n not in placed and FOLDERS.get(n.split("/")[0], "Reference") == title]
        last = [n for n in LAST if FOLDERS.get(n.split("/")[0]) == title]
        nav[title] = [n for n in [*first, *rest, *last] if n in names]
    assert sorted(n for group in nav.values() for n in group) == names, "a page is missing from the navigation"
    return {title: group for title, group in nav.items() if group}


def parts(names: list[str]) -> dict[str, list[str]]:
    "A section's pages by part: the numbered notebooks have one for each leading number, others have none."
    result: dict[str, list[str]] = {}
    for name in names:
        result.setdefault(PARTS.get(name[:2], ""), []).append(name)
    return result


def sidebar() -> str:
    "The navigation as Quarto reads it."
    contents = []
    for title, names in navigation().items():
        inside: list = []
        for part, members in parts(names).items():
            files = [f"{n}.ipynb" for n in members]
            inside += [{"section": part, "contents": files}] if part else files
        contents.append({"section": title, "contents": inside})
    head = "# Written by `make sync` from the order in .ci/docs.py; every notebook is here.\n"
    return head + yaml.safe_dump({"website": {"sidebar": {"contents": contents}}}, sort_keys=False)


def process(problems: list[str]) -> Path:
    "Run nbdev's processing (show_doc, doclinks, flags) and return the folder of processed notebooks."
    os.environ.pop("IN_TEST", None)
    os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")  # import cells are run, and one imports Haystack
    from nbdev.config import get_config
    from nbdev.processors import exec_show_docs
    from nbdev.serve import proc_nbs

    original = exec_show_docs.__call__

    def noted(self, cell):  # nbdev stops at the first cell it cannot run; one build should name them all
        try:
            if not getattr(self.nb, "has_docs_", False) or not hasattr(self, "k"):
                return None
            if cell.cell_type == "code" and cell.source and (imports := lone_imports(cell.source, cell.directives_)):
                self.k.run_cell(imports)
                return None
            return original(self, cell)
        except Exception as error:
            self.k.exc = None
            problems.append(f"{str(error).splitlines()[0]} {error.__cause__!r}")

    exec_show_docs.__call__ = noted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = Path(proc_nbs(get_config().nbs_path, n_workers=0, force=True))
    exec_show_docs.__call__ = original
    missing = [n for n in page_names() if not (done / f"{n}.ipynb").exists()]
    if missing:
        problems.append(f"nbdev processed no {', '.join(missing)} (is the checkout below a folder that begins with a dot?)")
    return done


def lone_imports(source: str, flags: dict) -> str:
    """The imports that processing needs of a cell which it should not run whole: one that imports and then computes, or one that
    imports names for annotations only. nbdev runs the first without the cells before it, and cannot see the second."""
    try:
        tree = ast.parse(re.sub(r"^\s*[%!].*$", "", source, flags=re.MULTILINE))
    except SyntaxError:
        return ""
    if "eval:" in flags:
        return ""
    guarded = [n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    plain_imports = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
    inner = [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))]
    exported = {"export", "exports", "exporti", "exec_doc"} & set(flags)
    if guarded and len(plain_imports) + len(guarded) == len(tree.body):
        return "\n".join(map(ast.unparse, [*plain_imports, *[m for n in guarded for m in n.body]]))
    if not exported and "show_doc(" not in source and inner and len(plain_imports) < len(tree.body):
        return "\n".join(map(ast.unparse, plain_imports)) or "pass"
    return ""


DIRECTIVE = re.compile(r"^#\|\s*([\w-]+)\s*:?\s*(.*)$")


def directives(source: str) -> tuple[dict[str, str], str]:
    "Split a code cell into its `#|` lines and the code a reader sees."
    lines, found = source.splitlines(), {}
    while lines and (match := DIRECTIVE.match(lines[0]) or not lines[0].strip()):
        if match is not True:
            found[match[1]] = match[2].strip()
        lines.pop(0)
    return found, "\n".join(lines)


def joined(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)


def fenced(text: str, kind: str) -> str:
    ticks = "`" * max(3, 1 + max((len(m) for m in re.findall(r"`+", text)), default=0))
    return f"{ticks} {{{kind}}}\n{text.rstrip()}\n{ticks}"


KEPT: list[str] = []  # what pandoc need not read: pictures and stored HTML are long, and pass through as they are


def raw(markup: str) -> str:
    KEPT.append(markup)
    return fenced(f"<!--kept {len(KEPT) - 1}-->", "=html")


SYMBOL = re.compile(r"^---\s*\n+\[source\]\((?P<url>[^)]*)\)\{[^}]*\}\s*\n+(?P<level>#+) (?P<name>[^\n]+)\n+```python\n(?P<signature>.*?)```"
                    r"(?P<rest>.*)$", re.DOTALL)
IN_CODE_LINK = re.compile(r"\[(`[^`\]]+`)\]\([^)\s]+\)")


def symbol(text: str, shown: set[str]) -> str:
    "One documented symbol: heading, link to its source, signature, text, and the public methods of a class."
    match = SYMBOL.match(text.strip() + "\n")
    if not match:
        return text
    name = match["name"].strip()
    where = (Path(urlsplit(match["url"]).path).name, name)  # two modules may have classes of one name
    members = "\n\n".join(show_method(match, *method) for method in methods().get(where, []) if f"{name}.{method[0]}" not in shown)
    signature = "\n".join(line for line in match["signature"].splitlines() if line.strip())
    signature = re.sub(r"# noqa: *[A-Z]+[0-9]+ *", "# ", re.sub(r" *# noqa: *[A-Z]+[0-9]+ *$", "", IN_CODE_LINK.sub(r"\1", signature), flags=re.MULTILINE))
    if where in methods():  # nbdev writes a class as a function, and fields without what they mean
        signature = fields().get(where) or re.sub(r"^def ", "class ", signature)
    # the link comes first: pandoc would make a section of a div that opens with its heading, and take the anchor from the heading
    heading = f"`{name}`{{=html}} {{#{name}}}" if name.startswith("__") else name  # underscores are not emphasis
    return (f"\n::::: {{.symbol}}\n[source]({match['url']}){{.source}}\n\n{match['level']} {heading}\n\n"
            f"```python\n{signature}\n```\n\n{match['rest'].strip()}\n:::::\n\n{members}")


@cache
def methods() -> dict[tuple[str, str], list[tuple[str, str, str, int]]]:
    "(File, class) → (name, signature with its comments, docstring, line) of each public method or property that has a docstring."
    result: dict[tuple[str, str], list[tuple[str, str, str, int]]] = {}
    for path in (ROOT / "ragcun").glob("*.py"):
        source = path.read_text("utf-8")
        for node in [n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name[0] != "_"]:
            members = [m for m in node.body if isinstance(m, ast.FunctionDef) and m.name[0] != "_" and ast.get_docstring(m)]
            result[path.name, node.name] = [(m.name, signature(m, source), ast.get_docstring(m) or "", m.lineno) for m in members]
    return result


@cache
def fields() -> dict[tuple[str, str], str]:
    "(File, class) → the head and the fields with their comments, as they stand in the source, of a class that has no `__init__`."
    result: dict[tuple[str, str], str] = {}
    for path in (ROOT / "ragcun").glob("*.py"):
        source = path.read_text("utf-8")
        for node in [n for n in ast.parse(source).body if isinstance(n, ast.ClassDef)]:
            if not any(isinstance(m, ast.FunctionDef) and m.name == "__init__" for m in node.body):
                lines = re.sub(r" *# type: ignore.*", "", source).splitlines()
                shown = [lines[node.lineno - 1]]
                for member in [n for n in node.body if isinstance(n, ast.AnnAssign)]:
                    shown += lines[member.lineno - 1:member.end_lineno]
                result[path.name, node.name] = "\n".join(line.rstrip() for line in shown)
    return result


def signature(node: ast.FunctionDef, source: str) -> str:
    "The lines from `def` to the docstring, with decorators that matter to a reader."
    first = node.lineno - 1
    lines = source.splitlines()[first:node.body[0].lineno - 1]
    marks = [f"@{ast.unparse(d)}" for d in node.decorator_list if "property" in ast.unparse(d) or "method" in ast.unparse(d)]
    return "\n".join([*marks, *textwrap.dedent("\n".join(lines)).splitlines()])


@cache
def defined() -> dict[tuple[str, str], int]:
    "(File, name) → line of each class and function of the package."
    found = {path.name: ast.parse(path.read_text("utf-8")).body for path in (ROOT / "ragcun").glob("*.py")}
    return {(file, n.name): n.lineno for file, body in found.items() for n in body if isinstance(n, (ast.ClassDef, ast.FunctionDef))}


def own_source(text: str, module: str) -> str:
    "nbdev finds a symbol's source by its name; where two modules have one of that name, the page's own is meant."
    match = SYMBOL.match(text.strip() + "\n")
    line = defined().get((f"{module}.py", match["name"].strip())) if match else None
    wrong = line and Path(urlsplit(match["url"]).path).name != f"{module}.py"
    return text.replace(match["url"], re.sub(r"\w+\.py#L\d+$", f"{module}.py#L{line}", match["url"])) if wrong else text


def show_method(owner: re.Match, name: str, code: str, words: str, line: int) -> str:
    "A method below its class, with the anchor that doclinks use."
    full, url = f"{owner['name'].strip()}.{name}", re.sub(r"#L\d+$", f"#L{line}", owner["url"])
    level = owner["level"] + "#"
    return f"\n::::: {{.symbol .method}}\n[source]({url}){{.source}}\n\n{level} {full}\n\n```python\n{code}\n```\n\n*{words}*\n:::::\n"


def picture(kind: str, data: str, alt: str) -> str:
    "A figure; the size of a PNG is told beforehand, so that the page does not jump, and a wide one is not shrunk to a phone."
    if kind == "image/svg+xml":
        return raw(f'<figure class="plot">{data}</figure>')
    head = base64.b64decode(data.strip()[:32])
    width, height = struct.unpack(">II", head[16:24]) if head.startswith(b"\x89PNG") else (0, 0)
    size, wide = (f' width="{width}" height="{height}"' if width else ""), (" wide" if width > 560 else "")
    return raw(f'<figure class="plot{wide}"><img loading="lazy"{size} alt="{html.escape(alt)}" src="data:{kind};base64,{data.strip()}"></figure>')


DRESSED = re.compile(r'\bdress\([^"\n]*f?"([^"{]+)", f?"([^"{]*)", f?"([^"{]*)"')


def alt_text(code: str, default: str) -> str:
    "What a figure shows: its message and axes, where the code names them."
    found = DRESSED.search(code)
    return f"Figure: {found[1]}" + (f" ({found[3]} against {found[2]})" if found[2] and found[3] else "") if found else default


ANSI = re.compile(r"\x1B\[[0-9;]*[A-Za-z]")


def show_output(output: dict, asis: bool, alt: str, shown: set[str]) -> str:
    "One stored output as markdown: the richest form that a static page can show."
    if output["output_type"] == "stream":
        return fenced(ANSI.sub("", joined(output["text"])), ".output")
    if output["output_type"] == "error":
        return fenced(ANSI.sub("", "\n".join(output["traceback"][-3:])), ".output .error")
    data = {kind: joined(value) if kind != "application/json" else "" for kind, value in output.get("data", {}).items()}
    for kind in ("image/svg+xml", "image/png", "image/jpeg", "image/gif"):
        if kind in data:
            return picture(kind, data[kind].replace("\n", "") if kind != "image/svg+xml" else data[kind], alt)
    if "text/html" in data:
        return f"::: {{.rich}}\n{raw(data['text/html'])}\n:::"
    if "text/markdown" in data:
        return symbol(data["text/markdown"], shown) if asis else f"::: {{.rich}}\n{data['text/markdown']}\n:::"
    return fenced(ANSI.sub("", data["text/plain"]), ".output") if data.get("text/plain") else ""


def show_cell(cell: dict, alt: str, shown: set[str], fold: bool = False) -> str:
    "One processed cell as pandoc markdown; `fold` puts its code behind a button."
    source = joined(cell.get("source", ""))
    if cell["cell_type"] == "markdown":
        return source
    if cell["cell_type"] != "code":
        return ""
    flags, code = directives(source)
    if flags.get("include") == "false":
        return ""
    parts = []
    if code.strip() and flags.get("echo") != "false":
        block = fenced(code, ".python")
        folded = flags.get("code-fold", str(fold).lower()) in ("true", "show")
        summary = flags.get("code-summary", "Code").strip('"')
        opened = " open" if flags.get("code-fold") == "show" else ""
        parts.append(f"{raw(f'<details{opened}><summary>{summary}</summary>')}\n\n{block}\n\n{raw('</details>')}" if folded else block)
    if flags.get("output") != "false":
        asis, alt = flags.get("output") == "asis", flags.get("fig-alt", flags.get("fig-cap", alt_text(code, alt))).strip('"')
        parts += [show_output(output, asis, alt, shown) for output in cell.get("outputs", [])]
    return "\n\n".join(parts)


def streams_joined(outputs: list[dict]) -> list[dict]:
    "Neighbouring pieces of one stream are one output."
    result: list[dict] = []
    for output in outputs:
        if result and output["output_type"] == "stream" == result[-1]["output_type"] and output["name"] == result[-1]["name"]:
            result[-1] = {**result[-1], "text": joined(result[-1]["text"]) + joined(output["text"])}
        else:
            result.append(output)
    return result


@dataclass
class Page:
    "One notebook on its way to a page."
    name: str
    section: str
    notebook: dict
    body: BeautifulSoup = field(default_factory=lambda: BeautifulSoup("", "html.parser"))

    @cached_property
    def front(self) -> dict:
        raws = [joined(c["source"]) for c in self.notebook["cells"][:2] if c["cell_type"] == "raw"]
        return (yaml.safe_load(raws[0].strip().strip("-")) or {}) if raws else {}

    @property
    def title(self) -> str:
        return str(self.front.get("title") or self.name.split("/")[-1])

    @property
    def description(self) -> str:
        return plain(str(self.front.get("description") or ""))

    @property
    def url(self) -> str:
        folder, _, stem = self.name.rpartition("/")
        return f"{folder + '/' if folder else ''}{self.front.get('output-file', stem + '.html')}"

    @property
    def root(self) -> str:
        return "../" * self.url.count("/")

    def markdown(self) -> str:
        cells, heading = [], self.title
        shown = set(re.findall(r"^show_doc\(([\w.]+)", "\n".join(joined(c.get("source", "")) for c in self.notebook["cells"]), re.MULTILINE))
        for cell in self.notebook["cells"]:
            if cell["cell_type"] == "markdown" and (found := re.findall(r"^#+ (.+)$", joined(cell.get("source", "")), re.MULTILINE)):
                heading = plain(found[-1])
            if "outputs" in cell:
                cell["outputs"] = streams_joined(cell["outputs"])
            for data in [o["data"] for o in cell.get("outputs", []) if "text/markdown" in o.get("data", {})]:
                data["text/markdown"] = own_source(joined(data["text/markdown"]), Path(self.url).stem)
            cells.append(show_cell(cell, f"Figure: {heading}", shown, self.front.get("code-fold", self.section == "Results")))
        return "\n\n".join(cells)


def plain(text: str) -> str:
    "Markdown of a title or sentence without its marks."
    return re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text).replace("`", "").replace("**", "")


def convert(texts: list[str]) -> list[str]:
    "Markdown of all pages → HTML of each, in one call: loading the highlighter costs pandoc more than a page does."
    import pypandoc
    with tempfile.TemporaryDirectory() as folder:
        names = [f"p{number:04}.md" for number in range(len(texts))]
        for name, text in zip(names, texts, strict=True):
            Path(folder, name).write_text(f"{text}\n\n```{{=html}}\n<!--end of page-->\n```\n", "utf-8")
        command = [pypandoc.get_pandoc_path(), "--file-scope", "-f", READER, "-t", "html5", "--mathml", "--wrap=none",
                   "--columns=9999", *names]  # so wide that no table gets columns of equal share: the browser sizes them by what they hold
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=True)
    # each file's identifiers are given its name in front
    return re.sub(r'((?:id="|href="#))p\d{4}\.md__', r"\1", done.stdout).split("<!--end of page-->")[:len(texts)]


def render(pages: list[Page]) -> None:
    "Markdown → HTML bodies."
    for page, markup in zip(pages, convert([page.markdown() for page in pages]), strict=True):
        finish(page, markup)


FORMULA = re.compile(r'(\(?<math display="inline"(?:(?!</math>).)*</math>[.,;:!?)\]]+)', re.DOTALL)  # with the punctuation that belongs to it


def finish(page: Page, markup: str) -> None:
    "Mend what pandoc's HTML lacks for this site: wide tables, callouts, links to sections."
    markup = re.sub(r"<!--kept (\d+)-->", lambda match: KEPT[int(match[1])], markup)
    markup = FORMULA.sub(r'<span class="short">\1</span>', markup)
    page.body = BeautifulSoup(markup, "html.parser")
    for table in page.body.find_all("table"):
        size_columns(table)
        table.wrap(page.body.new_tag("div", attrs={"class": "table"}))
    tidy_code(page.body)
    for link in page.body.select("a.email"):  # pandoc takes NDCG@10 for an address
        if "." not in link.get_text().partition("@")[2]:
            link.unwrap()
    for kind in ("note", "tip", "important", "caution", "warning"):
        for box in page.body.select(f".callout-{kind}"):
            box["class"] = ["callout", kind]
            box.insert(0, BeautifulSoup(f'<p class="callout-title">{kind.title()}</p>', "html.parser"))
    for heading in page.body.find_all(re.compile("^h[1-6]$")):
        if heading.get("id"):
            heading.append(BeautifulSoup(f'<a class="anchor" href="#{heading["id"]}" aria-label="Link to this section">#</a>', "html.parser"))


def tidy_code(body: BeautifulSoup) -> None:
    "A short name, or a short word of a long command, is not broken at its hyphens; lines of code need no anchors."
    for name in body.find_all("code"):
        if name.find_parent("pre") is None and len(text := name.get_text()) <= 30:
            name["class"] = [*name.get("class", []), "short"]
        elif name.find_parent("pre") is None and " " in text and not name.find(True):
            words = [f'<span class="short">{html.escape(w)}</span>' if "-" in w and len(w) <= 30 else html.escape(w) for w in text.split(" ")]
            name.clear()
            name.append(BeautifulSoup(" ".join(words), "html.parser"))
    for comment in body.select(".symbol > .sourceCode span.co"):  # a sign stays with its first word where a signature wraps
        if found := re.fullmatch(r"(# \S+)(.*)", comment.get_text()):
            comment.clear()
            comment.append(BeautifulSoup(f'<span class="short">{html.escape(found[1])}</span>{html.escape(found[2])}', "html.parser"))
    for line in body.select("pre.sourceCode > code > span[id^=cb], pre.sourceCode a[aria-hidden]"):
        line.attrs.pop("id", None)
        if line.name == "a":
            line.decompose()
    for block in body.select("div.sourceCode[id]"):
        del block["id"]


def size_columns(table) -> None:
    """Cells of a column of short texts do not wrap; on a phone, where tables scroll, the others keep a readable width, and a column
    of long words, such as ids, breaks them so that the next column is seen."""
    rows = [row.find_all(["td", "th"], recursive=False) for row in table.find_all("tr")]
    for column in range(max(map(len, rows), default=0)):
        cells = [row[column] for row in rows if column < len(row)]
        texts = [math_free(cell) for cell in cells]
        longest, word = max(map(len, texts)), max(len(w) for text in texts for w in text.split() or [""])
        if kind := "word" if word == longest > 14 else "short" if longest <= 24 else "long" if longest > 60 else "":
            for cell in cells:
                cell["class"] = [*cell.get("class", []), kind]


def math_free(cell) -> str:
    "The text of a cell, with a formula as its visible signs only."
    return " ".join("".join(t for t in cell.find_all(string=True) if t.parent.name != "annotation").split())


def fix_links(page: Page, pages: list[Page], cfg: dict[str, str]) -> None:
    "Doclinks and links between notebooks become relative; what leads elsewhere opens as it is."
    home = cfg["doc_host"] + cfg["doc_baseurl"]
    by_source = {p.name + ending: p.url for p in pages for ending in (".ipynb", ".html")}
    here = page.name.rpartition("/")[0]
    for link in page.body.find_all("a", href=True):
        href = link["href"]
        if href.startswith(home):
            link["href"] = page.root + (href[len(home):].lstrip("/") or "index.html")
        elif not urlsplit(href).scheme and re.search(r"\.(ipynb|html)(#|$)", href):
            path, _, anchor = href.partition("#")
            target = by_source.get(os.path.normpath(os.path.join(here, unquote(path))))
            if target:
                link["href"] = page.root + target + (f"#{anchor}" if anchor else "")
        elif not urlsplit(href).scheme and (target := repository_file(here, href)):
            link["href"] = f"{cfg['git_url']}/blob/{cfg['branch']}/{target}"


def settle_methods(pages: list[Page]) -> None:
    "nbdev links methods by name; where a page shows only their class, the link leads to the class."
    known = {p.url: ids(p) for p in pages}
    for page in pages:
        for link in page.body.find_all("a", href=re.compile(r"#\w+\.\w+$")):
            path, _, anchor = link["href"].partition("#")
            target = os.path.normpath(os.path.join(os.path.dirname(page.url), path)) if path else page.url
            if anchor not in known.get(target, {anchor}) and anchor.split(".")[0] in known[target]:
                link["href"] = f"{path}#{anchor.split('.')[0]}"


def repository_file(here: str, href: str) -> str:
    "The repository path of a relative link that leads to a file which is not a page, else nothing."
    path = (NBS / here / unquote(href.partition("#")[0])).resolve()
    inside = path.is_relative_to(ROOT) and path.exists() and not href.startswith("#") and path.suffix != ".html"
    return path.relative_to(ROOT).as_posix() if inside else ""


def ids(page: Page) -> set[str]:
    return {tag["id"] for tag in page.body.find_all(id=True)}


def dead_links(pages: list[Page]) -> list[str]:
    "Relative links whose page or anchor does not exist, and images that are not inline."
    known, dead = {p.url: ids(p) for p in pages}, []
    for page in pages:
        for link in page.body.find_all("a", href=True):
            parts = urlsplit(link["href"])
            if parts.scheme or parts.netloc:
                continue
            target = os.path.normpath(os.path.join(os.path.dirname(page.url), unquote(parts.path))) if parts.path else page.url
            if target not in known:
                dead.append(f"{page.name}: no page {link['href']} (link text: {link.get_text()[:40]!r})")
            elif parts.fragment and unquote(parts.fragment) not in known[target]:
                dead.append(f"{page.name}: no anchor {link['href']}")
        dead += [f"{page.name}: picture {img['src'][:80]} is not in the notebook" for img in page.body.find_all("img", src=True)
                 if not img["src"].startswith("data:")]
        dead += [f"{page.name}: {tag.name} loads {tag.get('src') or tag.get('href')}" for tag in page.body.select("script[src], link[href], iframe[src]")]
        seen: set[str] = set()
        for tag in page.body.find_all(id=True):
            if tag["id"] in seen:
                dead.append(f"{page.name}: two places are called #{tag['id']}")
            seen.add(tag["id"])
    return dead


def embed_pictures(page: Page) -> None:
    "Pictures that a markdown cell shows from a file are put into the page."
    import mimetypes
    for img in page.body.find_all("img", src=True):
        path = (NBS / page.name).parent / unquote(img["src"])
        if not img["src"].startswith("data:") and not urlsplit(img["src"]).scheme and path.is_file():
            kind = mimetypes.guess_type(path.name)[0] or "image/png"
            img["src"] = f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def heading_text(tag) -> str:
    return "".join(t for t in tag.find_all(string=True) if t.parent.get("class") != ["anchor"]).strip()


def contents(page: Page) -> str:
    "The list of sections and symbols beside a page."
    items = []
    for tag in page.body.find_all(["h2", "h3", "h4"]):
        if tag.get("id") and (tag.name != "h4" or "method" in tag.parent.get("class", [])):
            kind = ' class="code"' if "symbol" in tag.parent.get("class", []) else ""
            items.append(f'<li class="{tag.name}"><a{kind} href="#{tag["id"]}">{html.escape(heading_text(tag))}</a></li>')
    return f'<nav class="toc" aria-label="On this page"><p>On this page</p><ul>{"".join(items)}</ul></nav>' if len(items) > 1 else ""


def search_entries(page: Page) -> list[dict[str, str]]:
    "One entry per section: where, its heading, its text without code output."
    entries = [{"u": page.url, "p": page.title, "h": page.title, "s": page.section, "t": page.description}]
    for tag in page.body.find_all(["h1", "h2", "h3", "h4", "p", "li", "td"]):
        if tag.name[0] == "h" and tag.name != "html":
            if not tag.get("id"):
                continue
            entries.append({"u": f"{page.url}#{tag['id']}", "p": page.title, "h": heading_text(tag), "s": page.section, "t": "",
                            **({"k": "symbol"} if "symbol" in tag.parent.get("class", []) else {})})
        elif not tag.find(["p", "li"]) and not tag.select_one("a.source") and len(entries[-1]["t"]) < 600:
            entries[-1]["t"] = f"{entries[-1]['t']} {math_free(tag)}".strip()
    return entries


def side_navigation(page: Page, groups: dict[str, list[Page]]) -> str:
    boxes = []
    for title, group in groups.items():
        by_name, items = {p.name: p for p in group}, []
        for part, names in parts([p.name for p in group]).items():
            items += [f'<li class="part">{part}</li>'] if part else []
            items += [side_link(page, by_name[name]) for name in names]
        opened = " open" if page in group or title != "Reference" else ""
        boxes.append(f"<details{opened}><summary>{title}</summary><ul>{''.join(items)}</ul></details>")
    return "".join(boxes)


def side_link(page: Page, target: Page) -> str:
    title = html.escape(target.title.split(":")[0] if target.name != "index" else "Overview")
    return f'<li><a href="{page.root}{target.url}"{" aria-current=page" if target is page else ""}>{title}</a></li>'


def top_navigation(page: Page, groups: dict[str, list[Page]]) -> str:
    return "".join(f'<a href="{page.root}{group[0].url}"{" aria-current=true" if page in group else ""}>{title}</a>' for title, group in groups.items())


def neighbours(page: Page, pages: list[Page]) -> str:
    at = pages.index(page)
    before = f'<a class="prev" href="{page.root}{pages[at - 1].url}"><span>Previous</span>{html.escape(pages[at - 1].title)}</a>' if at else "<span></span>"
    after = (f'<a class="next" href="{page.root}{pages[at + 1].url}"><span>Next</span>{html.escape(pages[at + 1].title)}</a>'
             if at + 1 < len(pages) else "<span></span>")
    return f'<nav class="neighbours" aria-label="Neighbouring pages">{before}{after}</nav>'


def cards(page: Page, groups: dict[str, list[Page]]) -> str:
    "On the first page: what there is to read, with its one sentence each."
    if page.name != "index":
        return ""
    parts = []
    for title in ("Get started", "Tutorials", "Explanations", "Results"):
        shown = [p for p in groups.get(title, []) if p is not page]
        items = "".join(f'<a href="{p.url}"><b>{html.escape(p.title)}</b><span>{html.escape(p.description)}</span></a>' for p in shown)
        parts.append(f'<h2 class="cards-title">{title}</h2><div class="cards">{items}</div>' if items else "")
    return "".join(parts)


def compose(page: Page, pages: list[Page], groups: dict[str, list[Page]], cfg: dict[str, str]) -> str:
    "Fill the page template."
    title = cfg["title"] if page.name == "index" else f"{page.title} – {cfg['title']}"
    values = {
        "title": html.escape(title), "heading": html.escape(page.title), "section": page.section if page.name != "index" else "",
        "description": html.escape(page.description or cfg["description"]), "root": page.root, "name": cfg["title"],
        "subtitle": html.escape(page.description), "address": f"{cfg['doc_host']}{cfg['doc_baseurl']}/{page.url}",
        "card": f"{cfg['doc_host']}{cfg['doc_baseurl']}/card.png", "repository": cfg["git_url"], "version": cfg["version"],
        "notebook": f"{cfg['git_url']}/blob/{cfg['branch']}/nbs/{page.name}.ipynb", "issue": f"{cfg['git_url']}/issues/new",
        "copyright": html.escape(cfg["copyright"]), "top": top_navigation(page, groups), "side": side_navigation(page, groups),
        "contents": contents(page), "body": str(page.body) + cards(page, groups), "neighbours": neighbours(page, pages),
        "kind": "home read" if page.name == "index" else "page" if page.section == "Reference" else "page read",
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda m: values[m[1]], (HERE / "site" / "page.html").read_text("utf-8"))


def llms(pages: list[Page], groups: dict[str, list[Page]], cfg: dict[str, str]) -> str:
    "A plain list of the pages for programs that read."
    home, parts = cfg["doc_host"] + cfg["doc_baseurl"], [f"# {cfg['title']}\n\n> {cfg['description']}\n"]
    for title, group in groups.items():
        parts.append(f"## {title}\n\n" + "\n".join(f"- [{p.title}]({home}/{p.url}): {p.description}" for p in group) + "\n")
    return "\n".join(parts)


def card(path: Path, cfg: dict[str, str]) -> None:
    "The picture that a shared link shows: related pairs in the unit Gaussian, and the name."
    import matplotlib
    matplotlib.use("agg")
    import numpy as np
    from matplotlib.figure import Figure
    from PIL import Image
    rng = np.random.default_rng(3)
    figure = Figure(figsize=(12, 6.3), dpi=100, facecolor="#0f172a")
    axes = figure.add_axes((0.55, 0, 0.45, 1))
    points = rng.normal(size=(260, 2))
    partner = 0.93 * points + np.sqrt(1 - 0.93**2) * rng.normal(size=points.shape)
    for a, b in zip(points, partner, strict=True):
        axes.plot(*zip(a, b, strict=True), color="#38bdf8", alpha=0.35, lw=1)
    axes.scatter(*points.T, s=14, color="#f59e0b", zorder=2)
    axes.scatter(*partner.T, s=14, color="#38bdf8", zorder=2)
    axes.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
    axes.axis("off")
    figure.text(0.06, 0.62, cfg["title"], color="white", fontsize=76, weight="bold")
    words, lines = cfg["description"].split(), [""]
    for word in words:
        lines = [*lines[:-1], f"{lines[-1]} {word}".strip()] if len(lines[-1]) + len(word) < 36 else [*lines, word]
    figure.text(0.06, 0.55, "\n".join(lines), color="#cbd5e1", fontsize=25, va="top", linespacing=1.5)
    buffer = io.BytesIO()
    figure.savefig(buffer)
    Image.open(buffer).convert("RGB").quantize(96, dither=Image.Dither.NONE).save(path, optimize=True)


def build(output: Path) -> list[str]:
    "Write the site; return what is wrong with it."
    problems: list[str] = []
    cfg, done = settings(), process(problems)
    if (NBS / "sidebar.yml").exists() and (NBS / "sidebar.yml").read_text("utf-8") != sidebar():
        problems.append("nbs/sidebar.yml is not the navigation; run `make sync`")
    groups = {title: [Page(n, title, json.loads((done / f"{n}.ipynb").read_text("utf-8"))) for n in names if (done / f"{n}.ipynb").exists()]
              for title, names in navigation().items()}
    pages = [page for group in groups.values() for page in group]
    render(pages)
    for page in pages:
        fix_links(page, pages, cfg)
        embed_pictures(page)
    settle_methods(pages)
    problems += dead_links(pages)
    shutil.rmtree(output, ignore_errors=True)
    for page in pages:
        (output / page.url).parent.mkdir(parents=True, exist_ok=True)
        (output / page.url).write_text(compose(page, pages, groups, cfg), "utf-8")
    entries = [entry for page in pages for entry in search_entries(page)]
    (output / "search.js").write_text(f"window.SEARCH={json.dumps(entries, ensure_ascii=False)}", "utf-8")
    for name in ("site.css", "site.js"):
        shutil.copy(HERE / "site" / name, output / name)
    (output / "llms.txt").write_text(llms(pages, groups, cfg), "utf-8")
    (output / ".nojekyll").touch()
    shutil.copy(CARD, output / "card.png")
    size = sum(p.stat().st_size for p in output.rglob("*") if p.is_file())
    print(f"{len(pages)} pages of {len(page_names())} notebooks, {len(entries)} places to find, {size / 1e6:.1f} MB")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "_docs")
    parser.add_argument("--sidebar", action="store_true", help="write nbs/sidebar.yml and stop")
    parser.add_argument("--card", action="store_true", help="draw nbs/images/card.png and stop")
    args = parser.parse_args()
    os.chdir(ROOT)
    if args.sidebar:
        (NBS / "sidebar.yml").write_text(sidebar(), "utf-8")
        return 0
    if args.card:
        card(CARD, settings())
        return 0
    problems = build(args.output)
    for problem in problems:
        print(f"wrong: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

"""Build the documentation site without Quarto: nbdev reads the notebooks, pandoc writes them, Jinja fills the pages.

The order of the pages is nbs/sidebar.yml. No page needs the network. A dead link or anchor, or a page that the sidebar
lacks or names twice, fails the build. Pages of version 0.1.0 lead to the pages that took their place.
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
import subprocess
import sys
import tempfile
import textwrap
from configparser import ConfigParser
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jinja2
import nbformat
import yaml
from bs4 import BeautifulSoup
from nbconvert.filters import strip_ansi
from nbconvert.preprocessors import CoalesceStreamsPreprocessor

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"
SITE = Path(__file__).resolve().parent / "site"
CARD = NBS / "images" / "card.png"  # what a shared link shows, here and in Quarto's site
READER = ("markdown+emoji+autolink_bare_uris+lists_without_preceding_blankline-yaml_metadata_block-citations-raw_tex"
          "-smart-implicit_figures")
# Pages of version 0.1.0 that ragcun/_moved.py does not name, and the module meant now.
OLD_PAGES = {"core": "core", "figures": "figures", "data": "data.pairs", "losses": "losses.total",
             "cli": "cli.commands", "haystack": "integrations.haystack", "mteb": "integrations.frameworks"}


def settings() -> dict[str, str]:
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return dict(config["DEFAULT"])


# --- the order of the pages

def page_names() -> list[str]:
    "Every notebook that becomes a page, as a path below nbs/ without its ending."
    found = [p.relative_to(NBS).with_suffix("") for p in NBS.rglob("*.ipynb")]
    return sorted(p.as_posix() for p in found if not any(part[0] in "._" for part in p.parts))


def navigation() -> list[tuple[str, str, str]]:
    "(Section, part of it or nothing, page name) in reading order, from the sidebar."
    contents = yaml.safe_load((NBS / "sidebar.yml").read_text("utf-8"))["website"]["sidebar"]["contents"]
    places = []
    for group in contents:
        for item in group["contents"]:
            inside = [item] if isinstance(item, str) else item["contents"]
            part = "" if isinstance(item, str) else item["section"]
            places += [(group["section"], part, name.removesuffix(".ipynb")) for name in inside]
    return places


def misplaced(listed: list[str], notebooks: list[str]) -> list[str]:
    "What is wrong with the sidebar: pages it lacks, names twice, or that do not exist."
    return ([f"nbs/sidebar.yml lacks {n}.ipynb" for n in notebooks if n not in listed]
            + [f"nbs/sidebar.yml names {n}.ipynb, which does not exist" for n in listed if n not in notebooks]
            + [f"nbs/sidebar.yml names {n}.ipynb twice" for n in sorted(set(listed)) if listed.count(n) > 1])


# --- pages

@dataclass(eq=False)
class Page:
    "One notebook on its way to a page."
    name: str
    section: str
    part: str
    cells: list[dict]
    front: dict = field(default_factory=dict)
    module: str = ""
    body: BeautifulSoup = field(default_factory=lambda: BeautifulSoup("", "html.parser"))

    @property
    def title(self) -> str:
        return str(self.front.get("title") or self.name.split("/")[-1])

    @property
    def description(self) -> str:
        return plain(str(self.front.get("description") or ""))

    @property
    def url(self) -> str:
        folder, _, stem = self.name.rpartition("/")
        return f"{folder}/{self.front.get('output-file', stem + '.html')}".lstrip("/")

    @property
    def root(self) -> str:
        return "../" * self.url.count("/")

    def markdown(self) -> str:
        parts, heading = [], self.title
        folded = str(self.front.get("code-fold", self.section == "Results")).lower()
        for cell in self.cells:
            if cell["cell_type"] == "markdown":
                heading = plain((re.findall(r"^#+ (.+)$", cell["source"], re.MULTILINE) or [heading])[-1])
                parts.append(cell["source"])
            elif cell["cell_type"] == "code":
                parts.append(show_code(cell, f"Figure: {heading}", folded, self.module))
        return "\n\n".join(parts)


def plain(text: str) -> str:
    "Markdown of a title or sentence without its marks."
    return re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text).replace("`", "").replace("**", "")


def read(name: str, section: str, part: str) -> Page:
    "A notebook as nbdev reads it: front matter, flags, doclinks, a `show_doc` cell for each export; nothing is run."
    from execnb.nbio import read_nb
    from nbdev.processors import FilterDefaults

    class Reading(FilterDefaults):
        def base_procs(self):
            return [p for p in super().base_procs() if p.__name__ != "exec_show_docs"]

    notebook = read_nb(NBS / f"{name}.ipynb")
    exports = re.findall(r"^#\| default_exp (\S+)", "\n".join(c.source for c in notebook.cells), re.MULTILINE)
    Reading()(notebook)
    return Page(name, section, part, [text_joined(c) for c in notebook.cells], dict(notebook.frontmatter_),
                next(iter(exports), ""))


def text_joined(value):
    "A cell as plain dicts, with lists of lines as one text (a processor leaves some)."
    if isinstance(value, dict):
        return {key: text_joined(inner) for key, inner in value.items() if key != "metadata"}
    if isinstance(value, list):
        return "".join(value) if value and all(isinstance(v, str) for v in value) else [text_joined(v) for v in value]
    return value


# --- cells as markdown

DIRECTIVE = re.compile(r"^#\|\s*([\w-]+)\s*:?\s*(.*)\n?", re.MULTILINE)


def fenced(text: str, kind: str) -> str:
    ticks = "`" * max(3, 1 + max((len(m) for m in re.findall(r"`+", text)), default=0))
    return f"{ticks} {{{kind}}}\n{text.rstrip()}\n{ticks}"


KEPT: list[str] = []  # what pandoc need not read: pictures and stored HTML are long, and pass through as they are


def raw(markup: str) -> str:
    KEPT.append(markup)
    return fenced(f"<!--kept {len(KEPT) - 1}-->", "=html")


def show_code(cell: dict, alt: str, fold: str = "false", module: str = "") -> str:
    "One code cell as pandoc markdown; `fold` puts its code behind a button."
    flags, code = dict(DIRECTIVE.findall(cell["source"])), DIRECTIVE.sub("", cell["source"]).strip("\n")
    if flags.get("include") == "false":
        return ""
    if found := re.match(r"show_doc\((\w+)\)", code):
        return symbol(module, found[1])
    parts = []
    if code.strip() and flags.get("echo") != "false":
        hidden = flags.get("code-fold", fold) in ("true", "show")
        parts.append(folded(code, flags) if hidden else fenced(code, ".python"))
    if flags.get("output") != "false":
        alt = flags.get("fig-alt", flags.get("fig-cap", alt_text(code, alt))).strip('"')
        whole, _ = CoalesceStreamsPreprocessor().preprocess_cell(nbformat.from_dict(text_joined(cell)), {}, 0)
        parts += [show_output(output, alt) for output in whole.get("outputs", [])]
    return "\n\n".join(parts)


def folded(code: str, flags: dict[str, str]) -> str:
    opened, summary = " open" * (flags.get("code-fold") == "show"), flags.get("code-summary", "Code").strip('"')
    begin, end = raw(f"<details{opened}><summary>{summary}</summary>"), raw("</details>")
    return f"{begin}\n\n{fenced(code, '.python')}\n\n{end}"


def show_output(output: dict, alt: str) -> str:
    "One stored output as markdown: the richest form that a static page can show."
    if output["output_type"] == "stream":
        return fenced(strip_ansi(output["text"]), ".output")
    if output["output_type"] == "error":
        return fenced(strip_ansi("\n".join(output["traceback"][-3:])), ".output .error")
    data = output.get("data", {})
    if kind := next((k for k in ("image/svg+xml", "image/png", "image/jpeg", "image/gif") if k in data), ""):
        return picture(kind, data[kind], alt)
    if "text/html" in data or "text/markdown" in data:
        return f"::: {{.rich}}\n{raw(data['text/html']) if 'text/html' in data else data['text/markdown']}\n:::"
    return fenced(strip_ansi(data["text/plain"]), ".output") if data.get("text/plain") else ""


def picture(kind: str, data: str, alt: str) -> str:
    "A figure; its size is told beforehand, so that the page does not jump, and a wide one is not shrunk to a phone."
    if kind == "image/svg+xml":
        return raw(f'<figure class="plot">{data}</figure>')
    from PIL import Image, UnidentifiedImageError
    data = "".join(data.split())
    try:
        width, height = Image.open(io.BytesIO(base64.b64decode(data))).size
    except UnidentifiedImageError:
        width = height = 0
    size, wide = (f' width="{width}" height="{height}"' if width else ""), " wide" * (width > 560)
    return raw(f'<figure class="plot{wide}"><img loading="lazy"{size} alt="{html.escape(alt)}" '
               f'src="data:{kind};base64,{data}"></figure>')


DRESSED = re.compile(r'\bdress\([^"\n]*f?"([^"{]+)", f?"([^"{]*)", f?"([^"{]*)"')


def alt_text(code: str, default: str) -> str:
    "What a figure shows: its message and axes, where the code names them."
    found = DRESSED.search(code)
    if not found:
        return default
    return f"Figure: {found[1]}" + (f" ({found[3]} against {found[2]})" if found[2] and found[3] else "")


# --- documented symbols, from the module's source: signatures with the comments that explain them

@cache
def source_of(module: str) -> tuple[list[str], dict[str, ast.stmt]]:
    "Lines of a module, and its classes and functions by name."
    text = (ROOT / "ragcun" / f"{module.replace('.', '/')}.py").read_text("utf-8")
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return text.splitlines(), {n.name: n for n in ast.parse(text).body if isinstance(n, kinds)}


def symbol(module: str, name: str) -> str:
    "One documented symbol, and the public methods of a class that say what they do."
    lines, names = source_of(module)
    node = names[name]
    if not isinstance(node, ast.ClassDef):
        return entry(module, name, node, signature(node, lines))
    methods = [m for m in node.body if isinstance(m, ast.FunctionDef) and m.name[0] != "_" and ast.get_docstring(m)]
    return "\n\n".join([entry(module, name, node, class_signature(node, lines)),
                        *[entry(module, f"{name}.{m.name}", m, signature(m, lines)) for m in methods]])


def entry(module: str, name: str, node: ast.stmt, code: str) -> str:
    "Heading, link to the source, signature and docstring, with the anchor that doclinks use."
    from nbdev.doclinks import NbdevLookup
    cfg, method = settings(), "." in name
    url = f"{cfg['git_url']}/blob/{cfg['branch']}/ragcun/{module.replace('.', '/')}.py#L{node.lineno}"
    # the link comes first: pandoc would make a section of a div that opens with its heading, and take its anchor away
    heading = f"`{name}`{{=html}} {{#{name}}}" if name.startswith("__") else name  # underscores are not emphasis
    first, gap, rest = (NbdevLookup().linkify(ast.get_docstring(node) or " ") or "").strip().partition("\n\n")
    words = f"*{first}*{gap}{rest}" if first else ""
    return (f"\n::::: {{.symbol{' .method' * method}}}\n[source]({url}){{.source}}\n\n###{'#' * method} {heading}\n\n"
            f"```python\n{code}\n```\n\n{words}\n:::::\n")


def signature(node: ast.FunctionDef, lines: list[str]) -> str:
    "From `def` to the body as it stands in the source, with decorators that matter to a reader."
    marks = [f"@{ast.unparse(d)}" for d in node.decorator_list if re.search("property|method", ast.unparse(d))]
    head = lines[node.lineno - 1:node.body[0].lineno]
    head[-1] = head[-1].encode()[:node.body[0].col_offset].decode()
    return told("\n".join([*marks, textwrap.dedent("\n".join(head)).rstrip()]))


def class_signature(node: ast.ClassDef, lines: list[str]) -> str:
    "How a class is made, or its fields with what they mean where it has no `__init__`."
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            made = re.sub(r"^def __init__\(\s*self,?\s*", f"class {node.name}(\n    ", signature(member, lines))
            return re.sub(r"\)\s*->\s*None:$", "):", made).replace("(\n    )", "()")
    fields = [lines[m.lineno - 1:m.end_lineno] for m in node.body if isinstance(m, ast.AnnAssign)]
    return told("\n".join([lines[node.lineno - 1], *sum(fields, [])]))


def told(code: str) -> str:
    "A signature without what is said to tools only."
    code = re.sub(r"(\S) {2,}# ", r"\1 # ", re.sub(r" *# type: ignore.*", "", code))
    return re.sub(r"# noqa: *[A-Z]+[0-9]+ *", "# ", re.sub(r" *# noqa: *[A-Z]+[0-9]+ *$", "", code, flags=re.MULTILINE))


# --- markdown to HTML

def convert(texts: list[str]) -> list[str]:
    "Markdown of all pages → HTML of each, in one call: loading the highlighter costs pandoc more than a page does."
    import pypandoc
    with tempfile.TemporaryDirectory() as folder:
        names = [f"p{number:04}.md" for number in range(len(texts))]
        for name, text in zip(names, texts, strict=True):
            Path(folder, name).write_text(f"{text}\n\n```{{=html}}\n<!--end of page-->\n```\n", "utf-8")
        # so many columns that no table gets columns of equal share: the browser sizes them by what they hold
        command = [pypandoc.get_pandoc_path(), "--file-scope", "-f", READER, "-t", "html5", "--mathml", "--wrap=none",
                   "--columns=9999", *names]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=True)
    # each file's identifiers are given its name in front
    return re.sub(r'((?:id="|href="#))p\d{4}\.md__', r"\1", done.stdout).split("<!--end of page-->")[:len(texts)]


def render(pages: list[Page]) -> None:
    "Markdown → HTML bodies."
    for page, markup in zip(pages, convert([page.markdown() for page in pages]), strict=True):
        finish(page, markup)


# a formula with the punctuation that belongs to it
FORMULA = re.compile(r'(\(?<math display="inline"(?:(?!</math>).)*</math>[.,;:!?)\]]+)', re.DOTALL)


def soup(markup: str) -> BeautifulSoup:
    return BeautifulSoup(markup, "html.parser")


def finish(page: Page, markup: str) -> None:
    "Mend what pandoc's HTML lacks for this site: wide tables, callouts, links to sections."
    markup = re.sub(r"<!--kept (\d+)-->", lambda match: KEPT[int(match[1])], markup)
    page.body = body = soup(FORMULA.sub(r'<span class="short">\1</span>', markup))
    for table in body.find_all("table"):
        size_columns(table)
        table.wrap(body.new_tag("div", attrs={"class": "table"}))
    tidy_code(body)
    for link in body.select("a.email"):  # pandoc takes NDCG@10 for an address
        if "." not in link.get_text().partition("@")[2]:
            link.unwrap()
    for box in body.select("[class^=callout-]"):
        kind = box["class"][0].removeprefix("callout-")
        box["class"] = ["callout", kind]
        box.insert(0, soup(f'<p class="callout-title">{kind.title()}</p>'))
    for heading in body.select("h1[id], h2[id], h3[id], h4[id], h5[id], h6[id]"):
        heading.append(soup(f'<a class="anchor" href="#{heading["id"]}" aria-label="Link to this section">#</a>'))


def tidy_code(body: BeautifulSoup) -> None:
    "A short name, or a short word of a long command, is not broken at its hyphens; lines of code need no anchors."
    for name in body.select("code:not(pre code)"):
        text = name.get_text()
        if len(text) <= 30:
            name["class"] = [*name.get("class", []), "short"]
        elif " " in text and not name.find(True):
            words = [f'<span class="short">{html.escape(w)}</span>' if "-" in w and len(w) <= 30 else html.escape(w)
                     for w in text.split(" ")]
            name.clear()
            name.append(soup(" ".join(words)))
    for comment in body.select(".symbol > .sourceCode span.co"):  # where one wraps, the sign stays with its first word
        if found := re.fullmatch(r"(# \S+)(.*)", comment.get_text()):
            comment.clear()
            comment.append(soup(f'<span class="short">{html.escape(found[1])}</span>{html.escape(found[2])}'))
    for anchor in body.select("pre.sourceCode a[aria-hidden]"):
        anchor.decompose()
    for line in body.select("pre.sourceCode > code > span[id^=cb], div.sourceCode[id]"):
        del line["id"]


def size_columns(table) -> None:
    """Cells of a column of short texts do not wrap; on a phone, where tables scroll, the others keep a readable width,
    and a column of long words, such as ids, breaks them so that the next column is seen."""
    rows = [row.find_all(["td", "th"], recursive=False) for row in table.find_all("tr")]
    for column in range(max(map(len, rows), default=0)):
        cells = [row[column] for row in rows if column < len(row)]
        texts = [math_free(cell) for cell in cells]
        longest, word = max(map(len, texts)), max(len(w) for text in texts for w in text.split() or [""])
        kind = "word" if word == longest > 14 else "short" if longest <= 24 else "long" if longest > 60 else ""
        for cell in cells if kind else []:
            cell["class"] = [*cell.get("class", []), kind]


def math_free(cell) -> str:
    "The text of a cell, with a formula as its visible signs only."
    return " ".join("".join(t for t in cell.find_all(string=True) if t.parent.name != "annotation").split())


# --- links

def target_of(page: Page, path: str) -> str:
    "The address within the site of a path that stands on a page."
    return os.path.normpath(os.path.join(os.path.dirname(page.url), unquote(path))) if path else page.url


def fix_links(pages: list[Page], cfg: dict[str, str]) -> None:
    """Doclinks and links between notebooks become relative, and what leads to a file that is no page opens in the
    repository. nbdev links methods by name; where a page shows only their class, the link leads to the class."""
    home, known = cfg["doc_host"] + cfg["doc_baseurl"], {p.url: ids(p) for p in pages}
    by_source = {p.name + ending: p.url for p in pages for ending in (".ipynb", ".html")}
    for page in pages:
        here = page.name.rpartition("/")[0]
        for link in page.body.find_all("a", href=True):
            path, sign, anchor = link["href"].partition("#")
            if path.startswith(home):
                path = page.root + (path[len(home):].lstrip("/") or "index.html")
            elif path and not urlsplit(path).scheme:
                target = by_source.get(os.path.normpath(os.path.join(here, unquote(path))))
                path = page.root + target if target else repository_file(here, path, cfg) or path
            places = known.get(target_of(page, path), {anchor})
            if anchor not in places and (owner := anchor.split(".")[0]) in places:
                anchor = owner
            link["href"] = path + sign + anchor


def repository_file(here: str, path: str, cfg: dict[str, str]) -> str:
    "The address in the repository of a relative link that leads to a file which is not a page, else nothing."
    file = (NBS / here / unquote(path)).resolve()
    if not file.is_relative_to(ROOT) or not file.exists() or file.suffix == ".html":
        return ""
    return f"{cfg['git_url']}/blob/{cfg['branch']}/{file.relative_to(ROOT).as_posix()}"


def ids(page: Page) -> set[str]:
    return {tag["id"] for tag in page.body.find_all(id=True)}


def dead_links(pages: list[Page]) -> list[str]:
    "Links to no page or anchor, links inside links, what a page would load, and anchors that stand twice."
    known, dead = {p.url: ids(p) for p in pages}, []
    for page in pages:
        for link in page.body.find_all("a", href=True):
            parts = urlsplit(link["href"])
            target = target_of(page, parts.path)
            if parts.scheme or parts.netloc:
                continue
            if target not in known:
                dead.append(f"{page.name}: no page {link['href']} (link text: {link.get_text()[:40]!r})")
            elif parts.fragment and unquote(parts.fragment) not in known[target]:
                dead.append(f"{page.name}: no anchor {link['href']}")
        dead += [f"{page.name}: picture {img['src'][:80]} is not in the notebook"
                 for img in page.body.find_all("img", src=True) if not img["src"].startswith("data:")]
        dead += [f"{page.name}: {tag.name} loads {tag.get('src') or tag.get('href')}"
                 for tag in page.body.select("script[src], link[href], iframe[src]")]
        dead += [f"{page.name}: a link inside a link: {text.parent.get_text()[:60]!r}"
                 for text in page.body.find_all(string=re.compile(r"\]\(\S+\)"))
                 if not text.find_parent(["pre", "code"])]
        names = [tag["id"] for tag in page.body.find_all(id=True)]
        twice = sorted({name for name in names if names.count(name) > 1})
        dead += [f"{page.name}: two places are called #{name}" for name in twice]
    return dead


def redirects(pages: list[Page]) -> dict[str, str]:
    "Page of version 0.1.0 → the page that took its place."
    from ragcun._moved import MOVED
    rooms = {page.module: page.url for page in pages if page.module}
    return {f"{old}.html": rooms[new.split()[-1]] for old, new in {**MOVED, **OLD_PAGES}.items()}


# --- what stands around a page

def heading_text(tag) -> str:
    return "".join(t for t in tag.find_all(string=True) if t.parent.get("class") != ["anchor"]).strip()


def contents(page: Page) -> list[dict[str, str]]:
    "The sections and symbols of a page, for the list beside it."
    return [{"id": tag["id"], "level": tag.name, "text": heading_text(tag),
             "code": "symbol" in tag.parent.get("class", [])}
            for tag in page.body.select("h2[id], h3[id], h4[id]")
            if tag.name != "h4" or "method" in tag.parent.get("class", [])]


def search_entries(page: Page) -> list[dict[str, str]]:
    "One entry per section: where, its heading, its text without code output."
    entries = [{"u": page.url, "p": page.title, "h": page.title, "s": page.section, "t": page.description}]
    for tag in page.body.select("h1[id], h2[id], h3[id], h4[id], p, li, td"):
        if tag.name[0] == "h":
            kind = {"k": "symbol"} if "symbol" in tag.parent.get("class", []) else {}
            entries.append({"u": f"{page.url}#{tag['id']}", "p": page.title, "h": heading_text(tag), "s": page.section,
                            "t": "", **kind})
        elif not tag.find(["p", "li"]) and not tag.select_one("a.source") and len(entries[-1]["t"]) < 600:
            entries[-1]["t"] = f"{entries[-1]['t']} {math_free(tag)}".strip()
    return entries


def sections(pages: list[Page]) -> dict[str, dict[str, list[Page]]]:
    "Section → part → pages."
    result: dict[str, dict[str, list[Page]]] = {}
    for page in pages:
        result.setdefault(page.section, {}).setdefault(page.part, []).append(page)
    return result


def template(name: str) -> jinja2.Template:
    where = jinja2.Environment(loader=jinja2.FileSystemLoader(SITE), trim_blocks=True, lstrip_blocks=True,
                               undefined=jinja2.StrictUndefined, autoescape=jinja2.select_autoescape())
    return where.get_template(name)


def compose(page: Page, pages: list[Page], cfg: dict[str, str]) -> str:
    "Fill the page template."
    at = pages.index(page)
    before, after = pages[at - 1] if at else None, pages[at + 1] if at + 1 < len(pages) else None
    return template("page.html").render(
        page=page, cfg=cfg, home=cfg["doc_host"] + cfg["doc_baseurl"], blob=f"{cfg['git_url']}/blob/{cfg['branch']}",
        sections=sections(pages), contents=contents(page), body=str(page.body), before=before, after=after)


# --- the site

def for_models(pages: list[Page], cfg: dict[str, str]) -> str:
    "llms.txt: the site in one file for a language model, in the shape of llmstxt.org; what each page is, in order."
    nameless = [page.name for page in pages if not page.description]
    if nameless:
        raise SystemExit(f"no sentence after the title: {', '.join(nameless)}")
    return template("llms.txt").render(cfg=cfg, home=cfg["doc_host"] + cfg["doc_baseurl"], sections=sections(pages))


def write(output: Path, pages: list[Page], cfg: dict[str, str]) -> int:
    "Write every file; the number of places that can be searched."
    home, entries = cfg["doc_host"] + cfg["doc_baseurl"], [entry for page in pages for entry in search_entries(page)]
    files = {page.url: compose(page, pages, cfg) for page in pages}
    files |= {old: template("redirect.html").render(url=url, home=home) for old, url in redirects(pages).items()}
    files["search.js"] = f"window.SEARCH={json.dumps(entries, ensure_ascii=False)}"
    files["llms.txt"] = for_models(pages, cfg)
    files[".nojekyll"] = ""
    shutil.rmtree(output, ignore_errors=True)
    for name, text in files.items():
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_text(text, "utf-8")
    for path in (SITE / "site.css", SITE / "site.js", CARD):
        shutil.copy(path, output)
    return len(entries)


def build(output: Path) -> list[str]:
    "Write the site; return what is wrong with it."
    cfg, places, names = settings(), navigation(), page_names()
    problems = misplaced([name for _, _, name in places], names)
    if problems:
        return problems
    pages = [read(name, section, part) for section, part, name in places]
    render(pages)
    fix_links(pages, cfg)
    found = write(output, pages, cfg)
    size = sum(p.stat().st_size for p in output.rglob("*") if p.is_file())
    print(f"{len(pages)} pages of {len(names)} notebooks, {len(redirects(pages))} old pages lead to them, "
          f"{found} places to find, {size / 1e6:.1f} MB")
    return dead_links(pages)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "_docs")
    args = parser.parse_args()
    output = args.output.resolve()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    problems = build(output)
    for problem in problems:
        print(f"wrong: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

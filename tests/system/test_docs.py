"""The site builder: every notebook is a page, every link lives, no page needs the network."""
import base64
import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("ci_docs", ROOT / ".ci" / "docs.py")
docs = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = docs
spec.loader.exec_module(docs)

CFG = {**docs.settings(), "doc_host": "https://host.example", "doc_baseurl": "/base"}
def markdown(text):
    return {"cell_type": "markdown", "source": text}


def code(source, *outputs):
    return {"cell_type": "code", "source": source, "outputs": list(outputs)}


def page(name, *cells, title="A page", url=None, section="Tutorials", module=""):
    front = {"title": title, "description": "What it is for", "output-file": url or name.split("/")[-1] + ".html"}
    return docs.Page(name, section, "", list(cells), front, module)


def built(*pages):
    docs.render(list(pages))
    docs.fix_links(list(pages), CFG)
    return docs.dead_links(list(pages))


def test_every_notebook_is_in_the_sidebar_once():
    listed = [name for _, _, name in docs.navigation()]
    assert docs.misplaced(listed, docs.page_names()) == [] and len(listed) >= 80


def test_a_sidebar_that_forgets_repeats_or_invents_a_page_is_refused():
    assert docs.misplaced(["a", "b"], ["a", "b"]) == []
    assert docs.misplaced(["a"], ["a", "b"]) == ["nbs/sidebar.yml lacks b.ipynb"]
    assert docs.misplaced(["a", "b", "a"], ["a", "b"]) == ["nbs/sidebar.yml names a.ipynb twice"]
    assert docs.misplaced(["a", "c"], ["a"]) == ["nbs/sidebar.yml names c.ipynb, which does not exist"]


def test_the_reference_has_a_section_a_chapter_and_its_pages_in_order():
    reference = [(part, name) for section, part, name in docs.navigation() if section == "Reference"]
    folders = dict.fromkeys((name.split("/")[0], part) for part, name in reference)
    assert [folder[0] for folder, _ in folders] == list("0123456789") and len({part for _, part in folders}) == 10
    assert [name for _, name in reference] == sorted(name for _, name in reference)
    first = [section for section, _, _ in docs.navigation()]
    assert list(dict.fromkeys(first)) == ["Get started", "Tutorials", "Explanations", "Results", "Reference"]


@pytest.fixture(scope="module")
def all_pages():
    return [docs.read(name, section, part) for section, part, name in docs.navigation()]


@pytest.fixture(scope="module")
def pairs_page(all_pages):
    return next(page for page in all_pages if page.name == "1_data/03_pairs")


def test_a_page_keeps_its_folder_and_loses_its_number(pairs_page):
    assert (pairs_page.url, pairs_page.root, pairs_page.module) == ("1_data/pairs.html", "../", "data.pairs")
    assert docs.read("index", "Get started", "").url == "index.html"
    assert pairs_page.title == "Pairs" and pairs_page.description


def test_every_page_of_the_first_version_leads_to_one_of_this_one(pairs_page, all_pages):
    pages = [page for page in all_pages if page.section == "Reference"]
    moved = docs.redirects(pages)
    assert moved["data.html"] == "1_data/pairs.html" and moved["train.html"] == "4_training/run.html"
    assert len(moved) >= 68 and set(moved.values()) <= {one.url for one in pages}
    assert not set(moved) & {one.url for one in pages}
    text = docs.template("redirect.html").render(url=moved["data.html"], home="https://host.example/base")
    made = BeautifulSoup(text, "html.parser")
    assert made.select_one("meta[http-equiv=refresh]")["content"].endswith("url=1_data/pairs.html")
    assert made.select_one("link[rel=canonical]")["href"] == "https://host.example/base/1_data/pairs.html"
    assert made.a["href"] == "1_data/pairs.html" and "location.hash" in made.script.string
    with pytest.raises(KeyError):
        docs.redirects([])


def test_llms_txt_names_every_page_once_in_the_order_of_the_book(all_pages):
    text = docs.for_models(all_pages, CFG)
    lines = [line for line in text.splitlines() if line]
    assert lines[:2] == [f"# {CFG['title']}", f"> {CFG['description']}"]
    links = re.findall(r"^- \[([^\[\]]+)\]\((\S+)\): (\S.*)$", text, re.MULTILINE)
    assert links == [(p.title, f"https://host.example/base/{p.url}", p.description) for p in all_pages]
    heads = re.findall("^## (.+)$", text, re.MULTILINE)
    assert heads[:5] == ["Get started", "Tutorials", "Explanations", "Results", "Reference: Foundations"]
    assert len(heads) == len(set(heads)) == 14 and len(lines) == 3 + len(heads) + len(links)
    assert len(docs.for_models(all_pages[:-1], CFG).splitlines()) == len(text.splitlines()) - 1
    with pytest.raises(SystemExit, match="no sentence after the title: a"):
        docs.for_models([docs.Page("a", "Tutorials", "", [])], CFG)


def test_quarto_settings_agree_with_settings_ini():
    config = yaml.safe_load((ROOT / "_quarto.yml").read_text())
    assert (ROOT / "nbs" / "_quarto.yml").resolve() == ROOT / "_quarto.yml"
    assert config["format"]["html"]["html-math-method"] == "mathml"
    site = yaml.safe_load((ROOT / "nbs" / "nbdev.yml").read_text())
    mine = docs.settings()
    assert site["website"]["title"] == mine["title"] and site["website"]["repo-url"] == mine["git_url"]
    assert (site["website"]["site-url"] == mine["doc_host"] + mine["doc_baseurl"]
            and site["project"]["output-dir"] == mine["doc_path"])
    assert site["website"]["description"] == mine["description"]


def test_links_between_pages_and_doclinks_become_relative():
    a = page("tutorials/a", markdown("## Start here\n\n[b](../explain/b.ipynb#part), "
                                     "[doc](https://host.example/base/explain/b.html#part), "
                                     "[out](https://other.example/x.html), [numbered](../3_losses/04_total.html)"))
    b = page("explain/b", markdown("## Part\n\n[back](../tutorials/a.ipynb) and [up](#part)"))
    c = page("3_losses/04_total", markdown("text"), url="total.html")
    assert built(a, b, c) == []
    assert [x["href"] for x in a.body.find_all("a") if "anchor" not in x.get("class", [])] == \
        ["../explain/b.html#part", "../explain/b.html#part", "https://other.example/x.html", "../3_losses/total.html"]


@pytest.mark.parametrize("text, said", [
    ("[x](nowhere.ipynb)", "no page"), ("[x](#nothing)", "no anchor"),
    ("[x](b.ipynb#nothing)", "no anchor"), ("[x](https://host.example/base/gone.html)", "no page"),
    ("![x](gone.png)", "is not in the notebook"), ("![x](https://other.example/x.png)", "is not in the notebook"),
    ("```{=html}\n<script src='https://cdn.example/x.js'></script>\n```", "loads"),
    ("[x](b.ipynb#part.method)", "no anchor"), ("## Same {#one}\n\n## Other {#one}", "two places"),
    ("[[x](b.ipynb)](b.ipynb#parts)", "a link inside a link"),
])
def test_what_is_dead_is_found(text, said):
    problems = built(page("a", markdown(text)), page("b", markdown("## Parts")))
    assert len(problems) == 1 and said in problems[0], problems


MODULE = """
class Plain(Exception):
    "Made of `b`."
    def __init__(self,
                 what: str,   # what is wrong
    ):  # noqa: B008
        self.what = what

    def told(self) -> str:
        "Say it.\\n\\nMore."
        return self.what

    def quiet(self): return 1


@dataclass
class Row(Sequence):
    "A row."
    n: int              # how many
    name: str = "x"     # what it is called  # type: ignore[misc]
    def copy(self): return self

    @property
    def size(self) -> int: "How large."; return 3


def short(a): return a


def __getattr__(name: str):
    "Find it."
"""


@pytest.fixture
def module(monkeypatch, tmp_path):
    "A module of its own, as pages find it."
    (tmp_path / "ragcun" / "data").mkdir(parents=True)
    (tmp_path / "ragcun" / "data" / "made.py").write_text(MODULE)
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    monkeypatch.setattr(docs, "settings", lambda: CFG)
    docs.source_of.cache_clear()
    yield "data.made"
    docs.source_of.cache_clear()


def documented(module, name):
    one = page("1_data/01_made", code(f"#| output: asis\n#| echo: false\nshow_doc({name})"), module=module)
    docs.render([one])
    return one


def test_a_class_shows_how_it_is_made_or_its_fields_and_its_methods(module):
    one = documented(module, "Plain")
    shown = [box.select_one("pre").get_text() for box in one.body.select(".symbol")]
    assert shown == ["class Plain(\n    what: str, # what is wrong\n):", "def told(self) -> str:"]
    assert [tag["id"] for tag in one.body.select(".symbol > :is(h3, h4)")] == ["plain", "plain.told"]
    assert [tag.get_text() for tag in one.body.select(".symbol em")] == ["Made of b.", "Say it."]
    assert "More." in one.body.get_text() and "quiet" not in one.body.get_text() and "noqa" not in one.body.get_text()
    row = documented(module, "Row").body.select(".symbol pre")
    assert row[0].get_text().splitlines() == ["class Row(Sequence):", "    n: int # how many",
                                              '    name: str = "x" # what it is called']
    assert row[1].get_text() == "@property\ndef size(self) -> int:" and len(row) == 2


def test_a_symbol_has_a_source_link_of_its_own_module_and_an_anchor(module):
    one = documented(module, "short")
    line = 1 + MODULE.splitlines().index("def short(a): return a")
    assert one.body.select_one("a.source")["href"] == f"{CFG['git_url']}/blob/main/ragcun/data/made.py#L{line}"
    assert one.body.select_one("pre").get_text() == "def short(a):" and "show_doc" not in one.body.get_text()
    assert [item for item in docs.contents(one)] == [{"id": "short", "level": "h3", "text": "short", "code": True}]
    special = documented(module, "__getattr__").body.select_one(".symbol h3")
    assert docs.heading_text(special) == special["id"] == "__getattr__"


def test_names_that_two_modules_share_are_told_apart():
    assert docs.source_of("data.pairs")[1].keys() != docs.source_of("models.encoder")[1].keys()
    assert "/ragcun/models/encoder.py#L" in docs.symbol("models.encoder", "GaussianEncoder")
    with pytest.raises(KeyError):
        docs.symbol("data.pairs", "GaussianEncoder")


def test_exports_get_an_entry_each_and_texts_link_to_them(pairs_page):
    text = pairs_page.markdown()
    assert "### load_pairs {" not in text and "### load_pairs\n" in text and "#### PairSet.queries" in text
    assert "# %%" not in text and "default_exp" not in text and "#| export" not in text
    assert f"{docs.settings()['doc_host']}{docs.settings()['doc_baseurl']}/1_data/pairs.html#pair" in text


def test_columns_of_a_table_are_sized_by_what_they_hold():
    text = "long " * 20
    one = page("a", markdown(f"| name | formula | text |\n|:--|:--|:--|\n| `embedding_std` | $\\frac{{1}}{{2}}$ | "
                             f"{text}|\n| b | a term of middle length, wrapped | c |"))
    built(one)
    kinds = [[("short" in c.get("class", []), "long" in c.get("class", [])) for c in row.find_all(["td", "th"])]
             for row in one.body.find_all("tr")]
    assert kinds == [[(True, False), (False, False), (False, True)]]*3
    assert not one.body.find("col")
    ids = page("a", markdown("| E-value | id |\n|:--|:--|\n| 0.1 | cda007691eb31051 |"))
    built(ids)
    assert [c["class"] for c in ids.body.find_all("td")] == [["short"], ["word"]]


def test_results_show_their_code_behind_a_button_and_tutorials_in_the_open():
    cell = code("print(1)", {"output_type": "stream", "name": "stdout", "text": "1\n"})
    folded = page("results/a", cell, section="Results")
    opened = page("b", cell)
    built(folded, opened)
    assert (folded.body.select_one("details summary").get_text() == "Code" and folded.body.select_one("details pre")
            and not opened.body.select("details"))
    assert folded.body.select_one("pre.output").find_parent("details") is None


def test_the_card_of_a_shared_link_is_a_file_that_both_sites_have():
    from PIL import Image
    assert Image.open(docs.CARD).size == (1200, 630)
    assert (ROOT / "nbs" / yaml.safe_load((ROOT / "_quarto.yml").read_text())["website"]["image"]).samefile(docs.CARD)


def test_a_method_without_an_entry_leads_to_its_class():
    one = page("a", markdown("[m](b.ipynb#encoder.save), [there](b.ipynb#encoder.load)"))
    assert built(one, page("b", markdown("## Encoder\n\n### Encoder.load"))) == []
    assert [x["href"] for x in one.body.find_all("a")] == ["b.html#encoder", "b.html#encoder.load"]


def test_search_finds_texts_without_formulas_and_code(module):
    one = page("b", markdown("Text and $\\rho_i$ here"), code("show_doc(short)"), module=module)
    docs.render([one])
    found = docs.search_entries(one)
    said = " ".join(entry["t"] for entry in found)
    assert "Text and" in said and "\\rho" not in said and "source" not in said
    assert [entry["h"] for entry in found if entry.get("k") == "symbol"] == ["short"]


def test_texts_are_not_taken_for_addresses_or_broken_in_the_middle():
    one = page("a", markdown("NDCG@10 and <who@host.example>; ($x = 1$), "
                             "$y$ and `python some/longer/script.py --flag value`"))
    docs.render([one])
    assert [a["href"] for a in one.body.find_all("a")] == ["mailto:who@host.example"]
    assert ([s.get_text()[-2:] for s in one.body.select("span.short:has(math)")] == ["),"]
            and len(one.body.find_all("math")) == 2)
    assert [s.get_text() for s in one.body.select("code span.short")] == ["--flag"]
    assert one.body.code.get_text() == "python some/longer/script.py --flag value"


def test_a_figure_has_its_size_and_says_what_it_shows():
    from ragcun.figures import figure_png, headless, new_axes
    with headless():
        pictures = [figure_png(new_axes(width, 2), dpi=100) for width in (4, 8)]
    outputs = [{"output_type": "display_data", "data": {"image/png": base64.b64encode(p).decode()}} for p in pictures]
    one = page("a", markdown("## Part"), *(code('ax = dress(ax, "Up", "time", "cost")', o) for o in outputs),
               code("plot()", outputs[0]))
    docs.render([one])
    assert [i["alt"] for i in one.body.find_all("img")] == ["Figure: Up (cost against time)"]*2 + ["Figure: Part"]
    assert ["wide" in f["class"] for f in one.body.find_all("figure")] == [False, True, False]
    assert [(int(i["width"]) > 560, int(i["height"]) < 300)
            for i in one.body.find_all("img")] == [(False, True), (True, True), (False, True)]


def test_cells_are_shown_as_their_flags_say():
    stream = {"output_type": "stream", "name": "stdout", "text": ["a\n", "```b\n"]}
    shown = docs.show_code(code("#| eval: false\nprint(1)", stream), "")
    assert "#|" not in shown and "{.python}\nprint(1)" in shown and "````" in shown
    assert docs.show_code(code("#| echo: false\nprint(1)", stream), "").count("print(1)") == 0
    assert docs.show_code(code("#| include: false\nprint(1)", stream), "") == ""
    picture = {"output_type": "display_data", "data": {"image/png": "QUJD\n", "text/plain": "<Figure>"}}
    rich = {"output_type": "execute_result", "data": {"text/html": "<b>x</b>", "text/plain": "x"}}
    one = page("a", code("#| fig-alt: A curve\nplot()", picture), code("#| code-fold: true\nx", rich))
    assert built(one) == []
    image = one.body.select_one("figure.plot img")
    assert image["src"] == "data:image/png;base64,QUJD" and image["alt"] == "A curve"
    assert one.body.select_one(".rich > b").get_text() == "x" and one.body.select_one("details pre").get_text() == "x"


def test_maths_tables_and_boxes():
    one = page("a", markdown("$\\rho^2$ and $$\\sum_i x_i$$\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n"
                             ":::{.callout-warning}\nMind.\n:::"))
    assert built(one) == []
    assert len(one.body.find_all("math")) == 2 and one.body.select_one("div.table > table")
    assert one.body.select_one(".callout.warning .callout-title").get_text() == "Warning"


def test_a_page_is_whole_and_needs_no_network():
    a = page("index", markdown("## One\n\ntext\n\n## Two"), title="ragcun", section="Get started")
    b = page("tutorials/b", markdown("## Part\n\nwords to find"))
    built(a, b)
    text = docs.compose(b, [a, b], CFG)
    assert "{{" not in text
    soup = BeautifulSoup(text, "html.parser")
    loaded = [t.get("src") or t.get("href") for t in soup.select("script[src], link[href], img[src]")]
    assert all(u.startswith("../") or u.startswith("data:") for u in loaded)
    assert (soup.select_one(".side [aria-current]").get_text() == "A page"
            and soup.select_one("meta[property='og:image']"))
    entries = docs.search_entries(b)
    assert {"u": "tutorials/b.html#part", "p": "A page", "h": "Part", "s": "Tutorials", "t": "words to find"} in entries
    assert json.dumps(entries) and "tutorials/b.html" in docs.compose(a, [a, b], CFG)


def test_style_sheet_uses_only_colours_that_are_defined():
    sheet = (ROOT / ".ci" / "site" / "site.css").read_text()
    light = sheet.split("@media (prefers-color-scheme: dark)")[0]
    dark = sheet.split(":root[data-theme=dark]")[1].split("}")[0]
    used = set(re.findall(r"var\((--[\w-]+)\)", sheet))
    defined = set(re.findall(r"(--[\w-]+):", light))
    assert used <= defined
    assert defined - set(re.findall(r"(--[\w-]+):", dark)) == {"--sans", "--mono", "--bar"}

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
SHOWN = """---

[source](https://git.example/blob/main/ragcun/core.py#L19){target="_blank" style="float:right; font-size:smaller"}

### set_seed

```python

def set_seed(
    seed:int, # As [`pick_device`](https://host.example/base/core.html#pick_device) says
)->None:


```

*Seed everything; see [`pick_device`](https://host.example/base/core.html#pick_device).*"""


def markdown(text):
    return {"cell_type": "markdown", "source": text}


def code(source, *outputs):
    return {"cell_type": "code", "source": source, "outputs": list(outputs)}


def page(name, *cells, title="A page", url=None):
    front = (f"---\ntitle: {title}\ndescription: What it is for\n"
             f"output-file: {(url or name.split('/')[-1] + '.html')}\n---\n")
    return docs.Page(name, "Tutorials", {"cells": [{"cell_type": "raw", "source": front}, *cells]})


def built(*pages):
    docs.render(list(pages))
    for one in pages:
        docs.fix_links(one, list(pages), CFG)
    docs.settle_methods(list(pages))
    return docs.dead_links(list(pages))


def test_every_notebook_is_in_the_navigation_once():
    names = [n for group in docs.navigation().values() for n in group]
    assert sorted(names) == docs.page_names() and len(set(names)) == len(names)


def test_order_names_no_page_twice_and_known_folders_only():
    named = [n for group in docs.ORDER.values() for n in group] + docs.LAST
    assert len(set(named)) == len(named)
    assert {n.split("/")[0] for n in named if "/" in n} <= set(docs.FOLDERS)


def test_sidebar_is_what_quarto_reads():
    def files(items):
        return [f for item in items for f in ([item] if isinstance(item, str) else files(item["contents"]))]
    side = yaml.safe_load(docs.sidebar())["website"]["sidebar"]["contents"]
    assert sorted(files(side)) == [f"{n}.ipynb" for n in docs.page_names()]


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
                                     "[out](https://other.example/x.html), [numbered](../03_losses.html)"))
    b = page("explain/b", markdown("## Part\n\n[back](../tutorials/a.ipynb) and [up](#part)"))
    c = page("03_losses", markdown("text"), url="losses.html")
    assert built(a, b, c) == []
    assert [x["href"] for x in a.body.find_all("a") if "anchor" not in x.get("class", [])] == \
        ["../explain/b.html#part", "../explain/b.html#part", "https://other.example/x.html", "../losses.html"]


@pytest.mark.parametrize("text, said", [
    ("[x](nowhere.ipynb)", "no page"), ("[x](#nothing)", "no anchor"),
    ("[x](b.ipynb#nothing)", "no anchor"), ("[x](https://host.example/base/gone.html)", "no page"),
    ("![x](gone.png)", "is not in the notebook"), ("![x](https://other.example/x.png)", "is not in the notebook"),
    ("```{=html}\n<script src='https://cdn.example/x.js'></script>\n```", "loads"),
    ("[x](b.ipynb#part.method)", "no anchor"), ("## Same {#one}\n\n## Other {#one}", "two places"),
])
def test_what_is_dead_is_found(text, said):
    problems = built(page("a", markdown(text)), page("b", markdown("## Parts")))
    assert len(problems) == 1 and said in problems[0], problems


def test_a_dataclass_shows_its_fields_with_what_they_mean_and_a_class_is_called_one():
    shown = SHOWN.replace("set_seed", "Difference").replace("core", "paired").replace("seed:int, #", "mean:float, #")
    one = page("03c_paired", code("#| echo: false\n#| output: asis\nshow_doc(Difference)",
                                  {"output_type": "display_data", "data": {"text/markdown": shown}}))
    other = page("02_model", code("#| echo: false\n#| output: asis\nshow_doc(UserError)", {
        "output_type": "display_data", "data": {"text/markdown": SHOWN.replace("set_seed", "UserError")}}))
    built(one, other)
    lines = one.body.select_one(".symbol pre").get_text().splitlines()
    assert (lines[0] == "class Difference:" and re.fullmatch(r"    mean: float +# mean of a − b", lines[1])
            and "def" not in "".join(lines))
    assert other.body.select_one(".symbol pre").get_text().startswith("class UserError(")
    twins = [docs.fields()[file, "Moments"] for file in ("head.py", "null.py")]  # of one name, in two modules
    assert "skewness" in twins[1] and "skewness" not in twins[0]
    assert docs.fields()["hits.py", "SearchResult"].splitlines()[0] == "class SearchResult(Sequence):"
    assert (docs.fields()["files.py", "RowError"].startswith("class RowError(")
            and ("core.py", "UserError") not in docs.fields())


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
    folded = docs.Page("results/a", "Results", page("results/a", cell).notebook)
    opened = page("b", cell)
    built(folded, opened)
    assert (folded.body.select_one("details summary").get_text() == "Code" and folded.body.select_one("details pre")
            and not opened.body.select("details"))
    assert folded.body.select_one("pre.output").find_parent("details") is None


def test_the_card_of_a_shared_link_is_a_file_that_both_sites_have(tmp_path):
    from PIL import Image
    assert Image.open(docs.CARD).size == (1200, 630)
    assert (ROOT / "nbs" / yaml.safe_load((ROOT / "_quarto.yml").read_text())["website"]["image"]).samefile(docs.CARD)
    docs.card(tmp_path / "card.png", docs.settings())
    assert Image.open(tmp_path / "card.png").size == (1200, 630)


def test_a_method_without_an_entry_leads_to_its_class():
    one = page("a", markdown("[m](b.ipynb#encoder.save), [there](b.ipynb#encoder.load)"))
    assert built(one, page("b", markdown("## Encoder\n\n### Encoder.load"))) == []
    assert [x["href"] for x in one.body.find_all("a")] == ["b.html#encoder", "b.html#encoder.load"]


def test_a_symbol_has_anchor_source_and_plain_signature():
    one = page("00_core", code("#| echo: false\n#| output: asis\nshow_doc(set_seed)",
                               {"output_type": "display_data", "data": {"text/markdown": SHOWN}}),
               markdown("### pick_device"), url="core.html")
    assert built(one) == []
    box = one.body.select_one(".symbol")
    assert box.select_one("h3")["id"] == "set_seed" and box.select_one("a.source")["href"].endswith("core.py#L19")
    assert "# As `pick_device` says" in box.select_one("pre").get_text() and "show_doc" not in one.body.get_text()
    assert box.select_one("em a")["href"] == "core.html#pick_device"
    for told in ("# noqa: B008  Words", "# noqa: B008\n    x:int, # Words"):  # what a linter is told is not for readers
        assert ("# Words" in (seen := docs.symbol(SHOWN.replace("# As", told), set())) and "noqa" not in seen
                and "# \n" not in seen)
    formula = page("b", markdown("Text and $\\rho_i$ here"),
                   code("#| output: asis\nshow_doc(x)",
                        {"output_type": "display_data", "data": {"text/markdown": SHOWN}}))
    docs.render([formula])
    found = " ".join(e["t"] for e in docs.search_entries(formula))
    assert "Text and" in found and "\\rho" not in found and "source" not in found
    assert 'href="#set_seed"' in docs.contents(one)


def test_methods_of_a_class_have_anchors():
    (file, name), members = next((where, m) for where, m in docs.methods().items() if where[1] == "PairSet")
    shown = SHOWN.replace("set_seed", name).replace("core.py", file)
    # a class of this name in another file is another class
    assert "####" not in docs.symbol(SHOWN.replace("set_seed", name), set())
    assert f"#### {name}.{members[0][0]}" in docs.symbol(shown, set())
    assert f"#### {name}.{members[0][0]}\n" not in docs.symbol(shown, {f"{name}.{members[0][0]}"})


def test_a_symbol_is_that_of_the_page_where_two_modules_have_its_name():
    shown = SHOWN.replace("set_seed", "Moments").replace("core.py#L19", "head.py#L20")  # nbdev found the other one
    one = page("07a_null", code("#| echo: false\n#| output: asis\nshow_doc(Moments)",
                                {"output_type": "display_data", "data": {"text/markdown": shown}}), url="null.html")
    docs.render([one])
    assert (re.search(r"/null\.py#L\d+$", one.body.select_one("a.source")["href"])
            and "skewness" in one.body.select_one(".symbol pre").get_text())
    assert docs.own_source(shown, "head") == docs.own_source(shown, "core") == shown
    special = page("01_data", code("#| output: asis\nshow_doc(__getattr__)", {
        "output_type": "display_data", "data": {"text/markdown": SHOWN.replace("set_seed", "__getattr__")}}))
    docs.render([special])
    assert (docs.heading_text(special.body.select_one(".symbol h3")) == special.body.select_one(".symbol h3")["id"]
            == "__getattr__")


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


def test_only_imports_are_run_of_a_cell_that_also_computes():
    assert docs.lone_imports("from math import pi\nx = y + pi", {}) == "from math import pi"
    assert docs.lone_imports("def f():\n    import os\nf(x)", {"hide": []}) == "pass"
    assert docs.lone_imports("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import B",
                             {"export": []}) ==           "from typing import TYPE_CHECKING\nfrom a import B"
    for whole in ("import os", "x = 1", "not python"):
        assert docs.lone_imports(whole, {}) == ""
    for exported in ("def f():\n    import os", "import os\nx = 1"):
        assert docs.lone_imports(exported, {"export": []}) == ""
    assert docs.lone_imports("import os\nx = 1", {"eval:": ["false"]}) == ""


def test_cells_are_shown_as_their_flags_say():
    stream = {"output_type": "stream", "name": "stdout", "text": ["a\n", "```b\n"]}
    shown = docs.show_cell(code("#| eval: false\nprint(1)", stream), "", set())
    assert "#|" not in shown and "{.python}\nprint(1)" in shown and "````" in shown
    assert docs.show_cell(code("#| echo: false\nprint(1)", stream), "", set()).count("print(1)") == 0
    assert docs.show_cell(code("#| include: false\nprint(1)", stream), "", set()) == ""
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
    a = page("index", markdown("## One\n\ntext\n\n## Two"), title="ragcun")
    b = page("tutorials/b", markdown("## Part\n\nwords to find"))
    built(a, b)
    groups = {"Get started": [a], "Tutorials": [b]}
    text = docs.compose(b, [a, b], groups, CFG)
    assert "{{" not in text
    soup = BeautifulSoup(text, "html.parser")
    loaded = [t.get("src") or t.get("href") for t in soup.select("script[src], link[href], img[src]")]
    assert all(u.startswith("../") or u.startswith("data:") for u in loaded)
    assert (soup.select_one(".side [aria-current]").get_text() == "A page"
            and soup.select_one("meta[property='og:image']"))
    entries = docs.search_entries(b)
    assert {"u": "tutorials/b.html#part", "p": "A page", "h": "Part", "s": "Tutorials", "t": "words to find"} in entries
    assert json.dumps(entries) and "tutorials/b.html" in docs.compose(a, [a, b], groups, CFG)


def test_style_sheet_uses_only_colours_that_are_defined():
    sheet = (ROOT / ".ci" / "site" / "site.css").read_text()
    light = sheet.split("@media (prefers-color-scheme: dark)")[0]
    dark = sheet.split(":root[data-theme=dark]")[1].split("}")[0]
    used = set(re.findall(r"var\((--[\w-]+)\)", sheet))
    defined = set(re.findall(r"(--[\w-]+):", light))
    assert used <= defined
    assert defined - set(re.findall(r"(--[\w-]+):", dark)) == {"--sans", "--mono", "--bar"}

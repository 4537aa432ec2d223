"Sites as their builders leave them: every answer once, and nothing of what the builder puts around the pages."
from pathlib import Path

import pytest

from ragcun.data.documents import list_folder
from ragcun.data.markup import parse_text
from ragcun.data.web_pages import parse_html


def site(folder: Path, *names: str, text: str = "<h1>Guide</h1><p>Fill it.</p>") -> Path:
    "Files with the same text below a folder."
    for name in names:
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/name).write_text(text, encoding="utf-8")
    return folder


def test_sources_and_lists_of_sphinx(tmp_path):
    "Sphinx keeps the source of each page beside it; a source without a page, and sources alone, are read."
    for guide in ("guide.html", "guide/index.html"):
        at = site(tmp_path/guide.replace("/", "-"), guide, "index.html", "searchindex.js", "search.html", "genindex-B.html",
                  "py-modindex/index.html", "_modules/index.html", "_modules/kettle.html", "_sources/guide.rst.txt",
                  "_sources/index.md.txt", "_sources/draft.rst.txt", "_static/a.js.LICENSE.txt",
                  "_static/webpack-macros.html")
        found = list_folder(at)
        assert set(found.files) == {guide, "index.html", "_modules/kettle.html", "_sources/draft.rst.txt"}
        assert sum(found.unread.values()) == 9      # with searchindex.js
        assert len(list_folder(at/"_sources").files) == 3
    assert len(list_folder(site(tmp_path/"no", "search.html", "genindex.html")).files) == 2


@pytest.mark.parametrize("name", ["search/search_index.json", "search.json", "assets/js/search-data.json", "searchindex.json",
                                  "tipuesearch_content.json"])
def test_data_of_the_search(tmp_path, name):
    "The text of all pages in one file, for the search of the site; without pages it is read."
    site(tmp_path, name, text='[{"title": "Guide", "text": "Fill it with water."}]')
    assert set(list_folder(tmp_path).files) == {name}
    assert set(list_folder(site(tmp_path, "index.html")).files) == {"index.html"}


def said(page: str) -> str:
    "The text of a page."
    return "\n".join(s.text for s in parse_html(page))


@pytest.mark.parametrize("mark", ["<script src=\"_static/documentation_options.js\"></script>",
                                  "<script>var base_url = \"..\"</script>"])
@pytest.mark.parametrize("part", ["<div role=\"main\">{}</div>", "<main role=\"main\">Bar<article class=\"bd-article\">{}</article></main>"])
def test_only_the_text_of_a_page_that_a_builder_made(mark, part):
    "Bars, menus, dialogs and footers are around what the themes of Sphinx and MkDocs mark as the text of a page."
    text = "<h1>Guide</h1><p>Fill it. <a href=\"m.html#f\"><span class=\"viewcode-link\">[source]</span></a></p>"
    page = "<html><body><div>Light Dark</div>{}<div>Built with <p>a theme</p></div><h4>Keys</h4></body>{}</html>"
    assert said(page.format(part.format(text), mark)) == "Fill it."
    assert "Light Dark" in said(page.format(part.format(text), ""))             # any other page is read as a whole
    assert "Light Dark" in said(page.format(part.format(""), mark))             # and so is one without such a part


def test_source_that_pdoc_folds_away():
    "The pages of pdoc hold the source of each thing, its description in it, below its head; code in a description stays."
    def code(text: str) -> str:
        return f'<div class="pdoc-code codehilite"><pre>{text}</pre></div>'
    page = ('<h1>kettle</h1><section id="boil"><div class="attr">def boil(): <label class="view-source-button">View Source'
            f'</label></div>{code("def boil(): # Boil it.")}<div class="docstring"><p>Boil it.</p>{code("boil()")}</div>'
            f'<div class="classattr"><div class="attr">def pour():</div>{code("pass")}</div></section>')
    assert said(page).split() == "def boil(): Boil it. boil() def pour():".split()


def feed(*links: str) -> str:
    "An RSS feed whose entries lead there."
    said = "".join(f"<item><title>One</title><link>{link}</link><description>Fill it.</description></item>"
                   for link in links)
    return f"<?xml version='1.0'?><rss version='2.0'><channel><title>B</title><link>https://b.org</link>{said}</channel></rss>"


def test_feed_of_pages_that_are_there(tmp_path):
    "A feed repeats the pages of its site; one that leads elsewhere, or to the front page only, is read."
    site(tmp_path, "index.html", "boil.html", "2020/pour/index.html")
    for name, links, kept in (
            ("feeds/all.rss.xml", ("https://b.org/boil.html", "https://b.org/blog/2020/pour/?x=1"), False),
            ("index.xml", ("/boil",), False), ("some.rss", ("/boil.html", "https://else.org/fry.html"), True),
            ("home.rss", ("https://b.org/", "https://b.org/#news"), True), ("none.rss", (), True)):
        site(tmp_path, name, text=feed(*links))
        assert (name in list_folder(tmp_path).files) == kept, name
    atom = "<feed xmlns='http://www.w3.org/2005/Atom'><entry><title>A</title><link rel='alternate' href='/boil.html'/></entry></feed>"
    assert "all.atom" not in list_folder(site(tmp_path, "all.atom", text=atom)).files


def test_drawn_tables_in_plain_text():
    "Sphinx, tabulate and data bases draw tables; of their rulers a passage would hold nothing but dashes."
    def read(text: str) -> str:
        return parse_text(f"Sizes\n\nBefore.\n\n{text}\n\nAfter.")[0].text
    want = "Before.\n\nname | price\nSmall one | 1.50\na|b | 2\n\nAfter."
    grid = ("+-------+-------+\n| name  | price |\n+=======+=======+\n| Small |  1.50 |\n| one   |       |\n+-------+-------+\n"
            "| a|b   |     2 |\n+-------+-------+")
    assert read(grid) == want                                                          # docutils, tabulate
    assert read(grid.replace("+=======+=======+", "|=======|=======|")) == want        # Sphinx
    database = "+-----------+-------+\n| name      | price |\n+-----------+-------+\n| Small one |  1.50 |\n| a|b       |     2 |\n"
    assert read(database + "+-----------+-------+") == want
    for drawing in ("+-- a\n|   +-- b", "+---+   +---+\n| A |-->| B |\n+---+   +---+"):
        assert drawing in read(drawing)

"Files as programs generate them: every answer once, as a reader sees it, and nothing of what stands around it."
import re
import zipfile
from pathlib import Path

import pytest

from ragcun.data.documents import list_folder, read_file
from ragcun.data.markup import parse_markdown, parse_text
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
                                  "<script src=\"../search/main.js\"></script>"])
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


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "cp1252"])
def test_text_of_excel_is_a_table(tmp_path, encoding):
    "Excel saves `Unicode text` and `Text (tab delimited)` as .txt: a table, its names above each passage."
    rows = 'Name\tPreis\nÄpfel\t1,50\n"sagt ""ja"""\t"zwei\nZeilen"\n'
    (tmp_path/"a.txt").write_bytes(rows.encode(encoding))
    assert read_file(tmp_path/"a.txt")[0].text == 'Name | Preis\nÄpfel | 1,50\nsagt "ja" | zwei Zeilen'
    for text in ("10:00\tAnn\tHi\n10:01\tBob\tHo\n10:02\tAnn\tBye", "Name\tPreis\nÄpfel\n\nIt is.\tNo", "One\tline\n" * 2):
        (tmp_path/"b.txt").write_text(text, encoding="utf-8")
        assert "|" not in read_file(tmp_path/"b.txt")[0].text


def test_units_in_formats_and_formulas_of_workbooks(tmp_path):
    "What a number format writes beside a number is read; the 0 that XlsxWriter puts where it computes nothing is not."
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    shapes = {'#,##0.00 "€"': "2.5 €", '"$"#,##0.00;[Red]-"$"0': "$2.5", '_("$"* #,##0.00_);_(@_)': "$2.5", "[$-409]0.0": "2.5",
              "[$CHF] #,##0": "CHF 2.5", '0.0,,"M"': "2.5", '00"-"000': "2.5", '"High";"Low"': "2.5", "0.0%_)": "250%",
              '0.0" %"': "2.5 %", "# ?/?": "2.5", '0.0\\ "kg; dry"': "2.5 kg; dry"}
    for number, shape in enumerate(shapes, 1):
        book.active.cell(number, 1, 2.5).number_format = shape
    book.save(tmp_path/"a.xlsx")
    assert read_file(tmp_path/"a.xlsx")[0].text.split("\n") == list(shapes.values())
    for values, kept in ((("0", "0"), 0), (("0", "2"), 2)):
        book = openpyxl.Workbook()
        for row in (["item", "sum"], ["Pen", "=1"], ["Ink", "=2"], ["Tea", 0]):
            book.active.append(row)
        book.save(tmp_path/"b.xlsx")
        with zipfile.ZipFile(tmp_path/"b.xlsx") as old, zipfile.ZipFile(tmp_path/"c.xlsx", "w") as new:
            for name in old.namelist():
                said = iter(values)
                new.writestr(name, re.sub(r"<v\s*/>|<v></v>", lambda m: f"<v>{next(said)}</v>", old.read(name).decode()))  # noqa: B023
        lines = read_file(tmp_path/"c.xlsx")[0].text.split("\n")
        assert lines[1:] == (["Pen | 0", "Ink | 2", "Tea | 0"] if kept else ["Pen", "Ink", "Tea | 0"])


def test_pages_of_dokuwiki_and_zim(tmp_path):
    "Both keep pages as .txt: with headings, links, notes, lists, tables and code; other texts with signs of equality are not."
    page = ("====== Pump ======\n\nThe **red** //old// [[hall:b|hall]] [[hall:c]] {{p.png?200|a picture}}((Since May.)) "
            "http://a.org//b \\\\ ''x=1'' %%//y//%%\n\n===== Prices =====\n  * oil\n    * thin\n  - first\n\n^ part ^ price ^\n"
            "| seal | [[p|4.50]] |\n| ::: | 5 |\n\n<code bash>\nrun [[-f]]\n</code>\nend\n----\nAfter <wrap info>box</wrap> ~~NOTOC~~\n")
    (tmp_path/"a.txt").write_text(page, encoding="utf-8")
    first, second = (" ".join(d.text.split()) for d in read_file(tmp_path/"a.txt"))
    assert first == "The red old hall c a picture (Since May.) http://a.org//b x=1 //y//"
    assert second == "oil thin 1. first part | price seal | 4.50 | 5 run [[-f]] end After box"
    assert [d.context for d in read_file(tmp_path/"a.txt")] == ["Pump", "Pump › Prices"]
    zim = ("Content-Type: text/x-zim-wiki\nWiki-Format: zim 0.6\nCreation-Date: 2020\n\n====== Pump ======\n[*] done\n[ ] open\n* one\n"
           "\t* two\n\n| A | B |\n|:--|--:|\n| x | y |\n\n'''\n[[as it is]]\n'''\n")
    (tmp_path/"z.txt").write_text(zim, encoding="utf-8")
    assert [(d.title, d.text) for d in read_file(tmp_path/"z.txt")] == [
        ("Pump", "[x] done\n[ ] open\none\ntwo\n\nA | B\nx | y\n\n[[as it is]]")]
    for other in ("Pump\n======\n\nThe [[red]] one.", "=== Log ===\nThe [[red]] one.", "==========\nPump [[red]]\n=========="):
        (tmp_path/"o.txt").write_text(other, encoding="utf-8")
        assert "[[red]]" in read_file(tmp_path/"o.txt")[0].text


def test_sources_of_nikola_and_dates_beside_titles(tmp_path):
    "Nikola copies the source of a page to the page; its lists have a date right before each title."
    page = '<html><head><meta name="generator" content="Nikola (getnikola.com)"></head><body><p>Fill it.</p></body></html>'
    site(site(tmp_path, "a/index.html", text=page), "a/index.rst", "a/other.rst", "b/index.html", "b/index.rst", text="Fill it.")
    assert set(list_folder(tmp_path).files) == {"a/index.html", "a/other.rst", "b/index.html", "b/index.rst"}
    assert said('<ul><li><time>10:00</time><a href="a.html">Boiling</a> water</li></ul><p>By it.</p>').startswith("10:00 Boiling water")


def test_posts_by_tag_category_and_author(tmp_path):
    "A blog repeats its posts on the pages of their tags: five of five hits were one post. Other pages of that name are read."
    site(tmp_path, "boil.html", "2020/pour/index.html")
    posts = '<h1><a href="./">My blog</a></h1><article><h2> <a href="{}">Boil</a></h2><p>Fill it.</p></article><h1>Other</h1>'
    for name, link, kept in (("tag/tea.html", "../boil.html", False), ("author/ann.html", "https://b.org/2020/pour/", False),
                             ("categories/tea/index.html", "/boil.html", False), ("tag/own.html", "#part", True),
                             ("tag/else.html", "https://else.org/x.html", True), ("guide/tea.html", "../boil.html", True)):
        site(tmp_path, name, text=posts.format(link))
        assert (name in list_folder(tmp_path).files) == kept, name
    site(tmp_path, "tag/text.html", text="<h1>Tea</h1><p>Of leaves.</p>")
    assert "tag/text.html" in list_folder(tmp_path).files


def test_empty_cells_of_sheets_in_markdown():
    "MarkItDown writes a sheet by pandas: empty cells as NaN, columns without a name as `Unnamed: 1`."
    table = "| Report | Unnamed: 1 | Unnamed: 2 |\n| --- | --- | --- |\n| NaN | NaN | NaN |\n| Pen | 1.5 | NaN |\n"
    assert parse_markdown(table)[0].text == "Report |  | \nPen | 1.5 | "
    assert parse_markdown("| Name | Value |\n| --- | --- |\n| NaN | Unnamed: 1 |\n")[0].text == "Name | Value\nNaN | Unnamed: 1"

"Readers: values that were wrong before, each at its root."

import codecs
import gzip
import io
import json
import logging
import os
import random
import re
import time
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragcun.core import UserError
from ragcun.data.collections import load_beir, load_single, save_retrieval
from ragcun.data.files import cell_fault, exact_id, iter_rows, read_bytes, shown_name, text_fault, text_id
from ragcun.data.decoding import declared_encoding, decode_bytes
from ragcun.data.documents import (Document, ReadOptions, estimate_tokens, passages, read_documents, read_file, read_folder,
                                   read_sections, section_documents, token_counter)
from ragcun.data.generation import make_pair
from ragcun.data.markup import parse_markdown, parse_notebook, parse_rst, parse_text
from ragcun.data.office import parse_docx, parse_odf
from ragcun.data.pdf import mend_lines
from ragcun.data.web_pages import Section, parse_html


def texts(sections):
    return [s.text for s in sections]


def heads(sections):
    return [s.heading for s in sections]


# HTML


@pytest.mark.parametrize(
    "page, text",
    [
        (
            "<ul><li>Install the pump<ul><li>check valve A</li></ul></li><li>Done</li></ul>",
            "Install the pump\ncheck valve A\nDone",
        ),
        ("<div>30 days</div><p>x</p>", "30 days\n\nx"),
        ("<p>H<sub>2</sub>O un<b>believ</b>able pass<wbr>word co&shy;op</p>", "H2O unbelievable password coop"),
        ("<form><p>Press the key.</p></form><aside>Hot!</aside>", "Press the key.\n\nHot!"),
        ("<p>Call <code>run</code>, then stop.</p>", "Call run, then stop."),
        ("<pre>if x:\n    <b>y</b>\n</pre>", "if x:\n    y"),
        ("<div>9 to 5<br>Closed</div>", "9 to 5\nClosed"),
        (
            "<table><tr><th>Model<th>In<th>Out<tr><td>P7<td>40<td>40<tr><td>P8<td><td>25</table>",
            "Model | In | Out\nP7 | 40 | 40\nP8 |  | 25",
        ),
        ("<table><tr><td rowspan=2>P7<td>40<tr><td>25</table>", "P7 | 40\n | 25"),
        ("<table><tr><td colspan=2>both<td>c</table>", "both | c"),    # nothing stands below
        ("<table><tr><td colspan=2>both<td>c<tr><td>1<td>2<td>3</table>", "both |  | c\n1 | 2 | 3"),
        ("<button>Yes</button><button>No</button>", "Yes No"),
        ("<p>a<script>x()</script>b<style>p{}</style></p>", "ab"),
        ("<p hidden>no</p><p style='display: none'>no</p><p>yes</p>", "yes"),
        ("<template><p>no</p></template><p>yes", "yes"),
        ("<select><option>one<option>two</select>", "one two"),
        ("<p>a&nbsp;b</p>", "a\xa0b"),
        ("<ruby>漢<rp>(</rp><rt>kan</rt></ruby>", "漢kan"),
        ("<math><semantics><mi>x</mi><annotation encoding='tex'>\\x</annotation></semantics></math>", "x"),
        ("<svg><title>no</title><text>yes</text></svg>", "yes"),
        ("<nav>menu</nav><p>x</p><footer>imprint</footer>", "x"),
        ("<p>in <st1:city w:st='on'>Lon</st1:city>don<o:p></o:p> un<foo>do</foo>ne</p>", "in London undone"),
        ("<my-card>one</my-card><my-card>two</my-card>", "one\n\ntwo"),
        ("<svg><text><tspan x=0 dy=1em>Pump one</tspan><tspan x=0 dy=1em>runs</tspan></text></svg>", "Pump one runs"),
        ("<p>a <math><mfrac><mn>1</mn> <mn>2</mn></mfrac></math> bar</p>", "a 1 /2 bar"),
        ("<div hidden=until-found>yes</div><div hidden>no</div>", "yes"),
        ("<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><head><script src='x'/><title/></head><body>"
         "<a id='p'/><p>Words <i/>of<![CDATA[ a < b]]></p><br/></body></html>", "Words of a < b"),
        ("<article><p>x</p><footer>by Ann</footer></article>", "x\n\nby Ann"),
        ("<nav><a>only</a></nav>", "only"),
        ("<p>one<p>two<p>three", "one\n\ntwo\n\nthree"),
        ("<dl><dt>RTT<dd>round trip</dl>", "RTT\nround trip"),
        ("<b>un</b><i>done</i>", "undone"),
        ("a\x00b", "ab"),
        ("", ""),
    ],
)
def test_html_text(page, text):
    assert "\n\n".join(texts(parse_html(page))) == text


def test_the_sign_beside_a_heading_is_no_part_of_it():
    page = ("<h1>Install<a class=headerlink href='#a' title='Link'>¶</a></h1><p>x</p><h2>On Linux<a class=hash-link "
            "href='#b'>\u200b</a></h2><p>y</p><h2><a href='#c'>#</a> Set up <a href='#d'>more</a></h2><p>z</p>")
    assert heads(parse_html(page)) == ["Install", "On Linux", "Set up more"]


MENU = "<p><a href='a.html'>Home</a> | <a href='b.html'>Pay</a></p>"
LIST = "<ul><li><a href='a.html'>Home</a><li><a href='b.html'>Pay</a></ul>"


@pytest.mark.parametrize(("page", "text"), [
    (f"{MENU}<h1>T</h1><p>x</p>{MENU}", "x"),
    (f"{LIST}<p>x</p>", "x"),
    (f"<h1>T</h1>{LIST}<h2>A</h2><p>x</p>", "\n\nx"),                            # before any text
    (f"<p>x</p>{LIST}".replace("Home", "Leave"), "x\n\nLeave\nPay"),   # after it: what the page is about
    ("<p>Previous: <a href='a.html'>Welcome</a> Next: <a href='b.html'>Pay</a></p><p>x</p>", "x"),
    ("<p>x</p><h2>Contents</h2><ul><li><a href='#a'>A</a><li><a href='#b'>B</a></ul><h2>A</h2><p>y</p>", "x\n\ny"),
    ("<p>x</p><p><a href='a.html'>Pay</a> and <a href='b.html'>leave</a></p>", "x\n\nPay and leave"),
    ("<p>x</p><p><a href='a.pdf'>Form A</a> <a href='b.pdf'>Form B</a></p>", "x\n\nForm A Form B"),
    ("<p>x</p><p><a href='https://a.org/b'>A</a> <a href='https://c.org/d'>B</a></p>", "x\n\nA B"),
    ("<p>x</p><table><tr><td><a href='a.html'>open()</a><td><a href='b.html'>close()</a></table>",
     "x\n\nopen() | close()"),
    ("<div role=navigation>menu</div><div class='sidebar'><a href='a.html'>Pay</a></div><p>x</p>", "x"),
    ("<div class=sidebar>A note of its own.</div><p>x</p>", "A note of its own.\n\nx"),
    (MENU, "Home | Pay"),                                                         # nothing else: kept
])
def test_menus_in_lists_and_lines_are_left_out(page, text):
    assert "\n\n".join(texts(parse_html(page))) == text


def test_a_menu_in_markdown_is_left_out():
    page = ("# Pay\n\n- [Home](index.md)\n- [Leave](leave.md)\n\n## Salary\n\nOn the 25th.\n\n"
            "[Previous: Home](i.md) · [Next: Pay](p.md)")
    assert "\n\n".join(texts(parse_markdown(page))).strip() == "On the 25th."


def test_html_headings():
    page = (
        "<title>T</title><h1>Pump</h1>intro<h2>Valve <em>A</em></h2><p>blue</p><h3>Seal</h3>red<h2>Empty</h2>"
        "<h2>Last</h2>end"
    )
    found = parse_html(page)
    assert [(s.heading, s.text, s.level, s.path) for s in found] == [
        ("Pump", "intro", 1, ()),
        ("Valve A", "blue", 2, ("Pump",)),
        ("Seal", "red", 3, ("Pump", "Valve A")),
        ("Empty", "", 2, ("Pump",)),
        ("Last", "end", 2, ("Pump",)),
    ]
    assert parse_html("<title>Byte &amp; bit</title><p>x</p>") == [Section("Byte & bit", "x", 1)]
    assert heads(parse_html("<table><tr><td><h2>In a frame</h2>words</td><td>side</td></tr></table>")) == [
        "In a frame"
    ]
    assert parse_html(f"<h1>{'never closed ' * 60}</h1>")[0].level == 0
    assert texts(parse_html("<div>" * 5000 + "deep" + "</div>" * 5000)) == ["deep"]


@pytest.mark.parametrize(
    "encoding, text",
    [
        ("windows-1254", "Pompanın garantisi yirmi dört aydır, şu anda"),
        ("windows-1257", "garantija yra dvidešimt keturi mėnesiai, sąlygos žemiau"),
        ("iso-8859-15", "40 €"),
        ("cp850", "hält für große"),
        ("mac-roman", "hält für große"),
        ("iso-8859-1", "Größe"),
        ("shift_jis", "ポンプの保証"),
        ("gb2312", "水泵的保修期"),
        ("koi8-r", "гарантии"),
        ("tis-620", "ปั๊มรับประกัน"),
        ("utf-8", "Größe"),
        ("iso-2022-jp", "保証期間"),
        ("x-sjis", "ポンプの保証"),
        ("windows-31j", "ポンプの保証"),
        ("x-mac-cyrillic", "гарантии"),
        ("iso-8859-8-i", "משאבה"),
        ("dos-874", "ปั๊มรับประกัน"),
    ],
)
@pytest.mark.parametrize(
    "kind",
    [
        "<meta charset='{}'>",
        '<META http-equiv=Content-Type content="text/html; charset={}">',
        "<?xml version='1.0' encoding='{}'?>",
    ],
)
def test_declared_encoding_wins(tmp_path, encoding, text, kind):
    codec = {"x-sjis": "cp932", "windows-31j": "cp932", "x-mac-cyrillic": "mac_cyrillic", "iso-8859-8-i": "iso8859_8",
             "dos-874": "cp874"}.get(encoding, encoding)     # labels that pages use and Python does not know
    (tmp_path / "p.html").write_bytes(f"{kind.format(encoding)}<p>{text}</p>".encode(codec))
    sections, used = read_sections(tmp_path / "p.html")
    assert texts(sections) == [text] and codecs.lookup(used)


def test_wrong_declarations():
    assert decode_bytes("<meta charset=latin1>Größe".encode(), "f", declared="cp1252")[0].endswith(
        "Größe"
    )  # UTF-8 whatever it says
    assert declared_encoding(b"<meta charset=nonsense>") == "" and declared_encoding(b"<p>charset=cp1251") == ""
    assert "ok" in decode_bytes(b"<meta charset=shift_jis>ok \x81\xff\xfd", "f", declared="cp932")[0]


# Markdown


def test_markdown_front_matter():
    assert parse_markdown("---\ntitle: The pump\ntags: [a]\n---\nText.") == [Section("The pump", "Text.", 1)]
    assert parse_markdown('+++\ntitle = "The pump"\n+++\nText.') == [Section("The pump", "Text.", 1)]
    assert parse_markdown("---\ntitle: a: b\n---\nText.") == [Section("a: b", "Text.", 1)]
    assert texts(parse_markdown("---\n\nFirst words.\n\n---\n\nSecond.")) == [
        "First words.\n\nSecond."
    ]  # rules, not front matter
    assert texts(parse_markdown("---\nNot closed: text.")) == ["Not closed: text."]
    assert heads(parse_markdown("---\ntitle: A\n---\n# A\n\nx")) == ["A"]
    assert parse_markdown("\ufeff---\r\ntitle: The pump\r\n---\r\nText.\r\n") == [Section("The pump", "Text.", 1)]
    for title in ("2020", "1.10", "2024-01-05", "No"):
        assert heads(parse_markdown(f"---\nTitle: {title}\n---\nx")) == [title]
    assert parse_markdown('{\n "title": "The pump"\n}\n\nText.') == [Section("The pump", "Text.", 1)]
    assert texts(parse_markdown("{curly} words")) == ["{curly} words"]


def test_markdown_structure():
    assert heads(parse_markdown("``` inline ``` span\n\n# One\n\ntext\n\n```\n# no\n```\n\n## Two\n\nx")) == [
        "",
        "One",
        "Two",
    ]
    assert heads(parse_markdown("<!--\n# no\n-->\n\n# Yes {#id}\n\nx")) == ["Yes"]
    assert texts(parse_markdown('![alt](data:image/png;base64,QUJD) <img src="data:image/png;base64,QUJD">')) == [
        "alt"
    ]
    assert texts(parse_markdown("| a | b |\n|---|---|\n| 1 |  |\n|  | 2 |")) == ["a | b\n1 | \n | 2"]
    assert texts(parse_markdown("```py\nif x:\n    y\n```")) == ["if x:\n    y"]
    assert texts(parse_markdown("A[^1] List<int> $a_b$.\n\n[^1]: Note.")) == ["A[1] List<int> a_b.\n\n1. Note."]
    assert parse_markdown("# A\n\n## B\n\n### C\n\nx")[-1].path == ("A", "B")


@pytest.mark.parametrize("name", "title script style template noscript textarea iframe dialog head h1 table nav select "
                         "plaintext your-name".split())
@pytest.mark.parametrize("how", ["Use the <{}> tag once.", "<{}>"])
def test_a_tag_that_is_only_spoken_of_swallows_nothing(name, how):
    found = parse_markdown(f"{how.format(name)}\n\n# After\n\nThese words stay.")
    assert (found[-1].text == "These words stay." and found[-1].heading == "After") or name in ("h1", "table", "nav", "select")
    assert "stay" in str(found) and (how == "<{}>" or f"<{name}>" in str(found))


def test_markdown_keeps_what_stands_below_an_open_comment():
    found = parse_markdown("One.\n\n<!-- never closed\n\n# Two\n\nThree.")
    assert "never closed" in str(found) and found[-1] == Section("Two", "Three.", 1)
    assert texts(parse_markdown("a <video src=x>no</video> b <kbd>C</kbd>")) == ["a b C"]


# reStructuredText


@pytest.mark.parametrize(
    "text, shown",
    [
        (".. note:: Close the valve.", "Close the valve."),
        (".. deprecated:: 2.0 Use run().", "2.0 Use run()."),
        (".. toctree::\n   :maxdepth: 2\n\n   intro", ""),
        (".. a comment\n\ntext", "text"),
        ("See :ref:`the pump <x>` and :class:`~a.B`.", "See the pump and B."),
        (".. image:: a.png\n   :alt: A", ""),
        ("A |sub|.\n\n.. |sub| replace:: value", "A value."),
        (".. include:: /etc/passwd\n\ntext", "text"),
        (".. code-block:: py\n\n   if x:\n       y", "if x:\n    y"),
        (".. code-block:: py\n   :caption: setup.py\n   :maxdepth: 1\n\n   if x:\n       y", "setup.py\n\nif x:\n    y"),
        (".. math::\n   :label: eq\n   :maxdepth: 1\n\n   a = b", "a = b"),
        (".. class:: Pump(x)\n\n   A pump.", "Pump(x)\n\nA pump."),
        (".. class:: special\n\ntext", "text"),
        (".. tab-set::\n\n   .. tab-item:: Linux\n\n      apt", "Linux\n\napt"),
        ("One.\n\n.. only:: html\n\n .. contents::\n    :maxdepth: 1\n\n .. rst-class:: big\n\n Two.", "One.\n\nTwo."),
    ],
)
def test_rst_text(text, shown):
    got = "\n\n".join(texts(parse_rst(text)))
    assert shown in got and ":maxdepth:" not in got and "comment" not in got and "root:" not in got


def test_rst_headings():
    assert [(s.heading, s.level, s.path) for s in parse_rst("A\n=\n\nx\n\nB\n-\n\ny\n\nC\n=\n\nz")] == [
        ("A", 1, ()),
        ("B", 2, ("A",)),
        ("C", 1, ()),
    ]
    assert "kept" in str(parse_rst("A\n===\n\nB\n---\n\nC\n~~~\n\nx\n\nD\n^^^\n\ny\n\nkept\n^^^^\n\n----\n\n"))


# notebooks, text


def test_notebooks():
    old = {
        "worksheets": [
            {
                "cells": [
                    {"cell_type": "heading", "level": 2, "source": "Old"},
                    {"cell_type": "markdown", "source": ["a ", "b"]},
                ]
            }
        ],
        "nbformat": 3,
    }
    assert parse_notebook(json.dumps(old)) == [Section("Old", "a b", 2, cell=1)]
    cells = [{"cell_type": "markdown", "source": source} for source in (None, "![x](attachment:a.png) y")]
    assert parse_notebook(json.dumps({"cells": cells})) == [Section("", "x y", 0, cell=2)]
    raw = [{"cell_type": "raw", "source": "---\ntitle: The pump\n---\n"},
           {"cell_type": "raw", "metadata": {"format": "text/restructuredtext"}, "source": ".. note:: Mind *it*."},
           {"cell_type": "raw", "metadata": None, "source": "as it is"}, {"cell_type": "html", "source": "<b>b</b>old"}]
    assert parse_notebook(json.dumps({"cells": raw})) == [
        Section("The pump", "Note\n\nMind it.\n\nas it is\n\nbold", 1, cell=1)]
    for bad in ("[]", "{}", '{"worksheets": 3}', '{"cells": null}', "{"):
        try:
            assert parse_notebook(bad) == []
        except UserError as e:
            assert "notebook" in str(e)
    assert texts(parse_text("Title\n\nPage one.\x0cPage two.")) == ["Page one.\n\nPage two."]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16"])
def test_utf16_is_known_with_and_without_a_mark(encoding):
    assert decode_bytes("The pump runs.".encode(encoding), "f")[0] == "The pump runs."
    with pytest.raises(UserError, match="NUL"):
        decode_bytes(b"a picture\x00 or so", "f")


# PDF


@pytest.mark.parametrize(
    "broken, mended",
    [
        ("centri-\nfugal", "centrifugal"),
        ("state-of-the-\nart", "state-of-the-art"),
        ("well-\nknown", "well-known"),
        ("2019-\n2020", "2019-2020"),
        ("to -\n3 degrees", "to -3 degrees"),
        ("co\xad\nop \xadx", "coop x"),
        ("Anglo-\nSaxon", "Anglo-Saxon"),
        ("COVID-\n19", "COVID-19"),
        ("Vor-\nund", "Vor- und"),
        ("a -\nb", "a -\nb"),
        ("-\nb", "-\nb"),
        ("--\nb", "--\nb"),
        ("x\ny", "x\ny"),
        ("", ""),
    ],
)
def test_mend_lines(broken, mended):
    assert mend_lines(broken) == mended


def test_mend_lines_by_the_words_of_the_document():
    assert (
        mend_lines("data-\nbase", frozenset(["database"])) == "database"
        and mend_lines("pump-\nhouse", frozenset(["pump-house"])) == "pump-house"
    )


# Word


def test_docx_values():
    docx = pytest.importorskip("docx")
    d = docx.Document()
    d.add_heading("Manual", 0)
    d.add_heading("Setup", 1)
    d.add_heading("Valve", 2)
    t = d.add_table(2, 3)
    for i, v in enumerate(["", "Basic", "Pro", "P7", "40", "40"]):
        t.cell(i // 3, i % 3).text = v
    u = d.add_table(2, 2)
    u.cell(0, 0).merge(u.cell(1, 0)).text = "both"
    u.cell(0, 1).text = "1"
    u.cell(1, 1).text = "2"
    d.sections[0].header.paragraphs[0].text = "ACME"
    held = io.BytesIO()
    d.save(held)
    assert parse_docx(held.getvalue()) == [
        Section("Manual", "", 1),
        Section("Valve", " | Basic | Pro\nP7 | 40 | 40\n\nboth | 1\n | 2", 3, ("Manual", "Setup")),
        Section("", "ACME"),
    ]
    with pytest.raises(UserError, match="not a readable Word file"):
        parse_docx(held.getvalue()[:500])


CHAPTERS = [("", "Before."), ("Pumps", "On pumps."), ("Pumps › Seals", "On seals."), ("Valves", "On valves."),
            ("Valves › Leaks", "On leaks.")]
MARKDOWN = "Before.\n\n# Pumps\nOn pumps.\n## Seals\nOn seals.\n# Valves\nOn valves.\n## Leaks\nOn leaks."


@pytest.mark.parametrize("name, text, top", [
    ("a.md", MARKDOWN, ""), ("a.md", f"---\ntitle: Manual\n---\n{MARKDOWN}", "Manual"), ("a.md", f"# Manual\n{MARKDOWN[9:]}", "Manual"),
    ("a.html", "Before.<h1>Pumps</h1>On pumps.<h2>Seals</h2>On seals.<h1>Valves</h1>On valves.<h2>Leaks</h2>On leaks.", ""),
    ("a.html", "<title>Our manual</title>Before.<h1>Pumps</h1>On pumps.<h2>Seals</h2>On seals.<h1>Valves</h1>On valves.<h2>Leaks</h2>"
     "On leaks.", "Our manual"),
    ("a.html", "<title>Manual - ACME</title><h1>Manual</h1>Before.<h1>Pumps</h1>On pumps.<h2>Seals</h2>On seals.<h1>Valves</h1>"
     "On valves.<h2>Leaks</h2>On leaks.", "Manual"),
    ("a.rst", "Before.\n\nPumps\n=====\n\nOn pumps.\n\nSeals\n-----\n\nOn seals.\n\nValves\n======\n\nOn valves.\n\nLeaks\n-----\n\nOn leaks.",
     ""),
    ("a.org", "Before.\n* Pumps\nOn pumps.\n** Seals\nOn seals.\n* Valves\nOn valves.\n** Leaks\nOn leaks.", "")])
def test_each_chapter_is_the_title_of_its_passages_unless_the_file_has_one(tmp_path, name, text, top):
    (tmp_path/name).write_text(text)
    made = [(d.context, d.text) for d in read_file(tmp_path/name)]
    wanted = [(" › ".join(filter(None, (top, place))), said) for place, said in CHAPTERS]
    assert made == (wanted if "Before." in text else wanted[1:])


@pytest.mark.parametrize("title", ["", "Manual"])
def test_chapters_of_a_word_file_stand_below_its_title_alone(title):
    docx = pytest.importorskip("docx")
    d = docx.Document()
    if title:
        d.add_heading(title, 0)
        d.add_paragraph("By Ann")
    for heading, level, said in (("Pumps", 1, "On pumps."), ("Seals", 2, "On seals."), ("Valves", 1, "On valves.")):
        d.add_heading(heading, level)
        d.add_paragraph(said)
    held = io.BytesIO()
    d.save(held)
    made = section_documents(parse_docx(held.getvalue()), "a.docx")
    wanted = [("", "By Ann"), ("Pumps", "On pumps."), ("Pumps › Seals", "On seals."), ("Valves", "On valves.")]
    assert [(d.context, d.text) for d in made] == [
        (" › ".join(filter(None, (title, place))), said) for place, said in wanted[not title:]]
    assert make_pair(Document("It shuts off the water.", "Valves", "Valves"), "heading", random.Random(1)).query == "Valves"


def test_chapters_of_an_opendocument_text_stand_below_its_title():
    body = ('<h outline-level="1">Pumps</h><p>On pumps.</p><h outline-level="1">Valves</h><p>On valves.</p>')
    styles = '<automatic-styles><style name="P1" parent-style-name="Title"/></automatic-styles>'
    for top, wanted in (("", ""), ('<p style-name="Title">Manual</p>', "Manual › "), ('<p style-name="P1">Manual</p>', "Manual › ")):
        held = io.BytesIO()
        with zipfile.ZipFile(held, "w") as packed:
            packed.writestr("content.xml", f"<d>{styles}<body><text>{top}{body}</text></body></d>")
        made = section_documents(parse_odf(held.getvalue()), "a.odt")
        assert [(d.context, d.text) for d in made] == [(f"{wanted}Pumps", "On pumps."), (f"{wanted}Valves", "On valves.")]


def test_a_page_of_thousands_of_tags_takes_time_with_their_number():
    def seconds(n):
        start = time.process_time()
        parse_markdown("<b>x\n"*n)
        return time.process_time() - start
    assert min(seconds(4000) for _ in range(3)) < 10*min(seconds(1000) for _ in range(3))   # what else runs is left out


# passages


@pytest.mark.parametrize("wrong, said", [
    ({"max_tokens": -1}, "-1 tokens \\(max_tokens\\)"), ({"max_tokens": "200"}, "'200' tokens"), ({"overlap": 1.5}, "1.5 tokens"),
    ({"tokenizer": "bert"}, "'bert' is a name, no tokenizer"), ({"encoding": "bogus"}, "no encoding 'bogus'")])
def test_options_that_cannot_be_are_refused_and_blamed_on_no_file(wrong, said):
    with pytest.raises(UserError, match=said):
        ReadOptions(**wrong)
    for read in (read_file, read_folder):
        with pytest.raises(UserError, match="^None is no path"):
            read(None)


def test_code_keeps_its_indentation_after_a_blank_line():
    code = "def a():\n    x = 1\n\n    y = 2\n\n    return y\n\nb()"
    assert passages(code, 100, 0) == [code]
    assert passages(code, 9, 0)[0] == "def a():\n    x = 1"


def test_passages_keep_lines():
    code = "if x:\n    return 1\nelse:\n    return 2"
    assert passages(code) == [code] and passages("a | b\nc | d") == ["a | b\nc | d"]
    assert passages(code, 6, 0) == ["if x:\n    return 1", "else:\n    return 2"]
    assert passages("One. Two.\n\nThree.", 4, 0) == ["One. Two.", "Three."]
    assert "".join(passages("y" * 300, 5, 0)) == "y" * 300
    assert passages("See Fig. 3 of it. Then go.", 8, 0) == ["See Fig. 3 of it.", "Then go."]


@given(text=st.text(alphabet=st.sampled_from("ab .!?\n\t日。-"), max_size=200), budget=st.integers(1, 25))
@settings(deadline=None, max_examples=200)
def test_passages_lose_nothing(text, budget):
    made = passages(text, budget, 0)
    assert "".join(text.split()) == "".join("".join(made).split()) and all(
        estimate_tokens(p) <= budget or len(p) < 2 for p in made
    )


def test_every_passage_knows_where_it_is(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "m.md").write_text(
        "# Manual\n\nIntro.\n\n## Safety\n\n### Lid\n\n" + "The lid stays closed while parts move. " * 30
    )
    found = read_folder(tmp_path, ReadOptions(60, 0)).documents
    last = found[-1]
    assert last.metadata == {
        "source": "sub/m.md",
        "title": "Manual",
        "heading": "Lid",
        "headings": ["Manual", "Safety", "Lid"],
        "position": len(found),
    }
    assert last.context == "Manual › Safety › Lid" and last.part == len(found) - 1 and found[0].heading == ""
    assert all(estimate_tokens(f"{d.context}\n{d.text}") <= 60 for d in found)
    assert section_documents([Section("", "x", page=3)], "a.pdf")[0].metadata["page"] == 3
    assert [d.text for d in section_documents(parse_markdown("# A\n\n## B\n\n## C\n\nc"), "f")] == [
        "B",
        "c",
    ] and section_documents(parse_markdown("# A"), "f")[0].text == "A"


def test_token_counter_of_a_tokenizer():
    class Tokenizer:
        def encode(self, text, **options):
            return text.split()

    class Model:
        tokenizer = Tokenizer()

    assert token_counter(Model())("a b c") == token_counter(Tokenizer())("a b c") == 3
    assert len(section_documents([Section("", "go on. " * 50)], "f", ReadOptions(10, 0, Model()))) == 10


# folders


def test_names_that_are_not_utf8_and_links(tmp_path):
    real = tmp_path / "docs"
    (real / "inner").mkdir(parents=True)
    for name in (b"gr\xf6\xdfe.txt", b"gr\xe4\xdfe.txt", "größe.txt".encode()):
        open(os.path.join(os.fsencode(real), name), "w").write("A text of words.")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "o.txt").write_text("Another one.")
    os.symlink(tmp_path / "other", real / "a_link")
    os.symlink(real, real / "inner" / "loop")
    os.symlink(tmp_path / "other", real / "z_again")
    os.symlink(tmp_path / "gone", real / "broken.txt")
    os.symlink("a_loop.md", real / "a_loop.md")
    found = read_folder(real)
    assert sorted(d.source for d in found.documents) == [
        "a_link/o.txt",
        "größe.txt",
        "gr\ufffd\ufffde.txt",
        "gr\ufffd\ufffde.txt~2",
    ]
    assert found.skipped == [(name, "is a link that leads nowhere") for name in ("a_loop.md", "broken.txt")]
    assert shown_name("ok é") == "ok é" and all(d.document_id.encode() for d in found.documents)


def test_one_odd_file_never_ends_a_folder(tmp_path, caplog):
    (tmp_path / "good.md").write_text("# A\n\nGood words.")
    for name, raw in {
        "a.pdf": b"%PDF-1.4 broken",
        "b.docx": b"PK\x03\x04",
        "c.ipynb": b"{",
        "d.html": b"\x00\x01",
        "e.md.gz": b"\x1f\x8b\x08broken",
        "f.txt": b"",
        "g.rst": b".. include:: x\n\n=\n",
    }.items():
        (tmp_path / name).write_bytes(raw)
    found = read_folder(tmp_path)
    assert "Good words." in [d.text for d in found.documents] and {n for n, _ in found.skipped} >= {
        "a.pdf",
        "b.docx",
        "c.ipynb",
        "e.md.gz",
        "f.txt",
    }
    assert all("\n" not in reason and str(tmp_path) not in reason for _, reason in found.skipped)


@given(
    raw=st.binary(max_size=400), kind=st.sampled_from(["txt", "md", "rst", "html", "ipynb", "pdf", "docx", "txt.gz"])
)
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes(tmp_path, raw, kind):
    (tmp_path / f"a.{kind}").write_bytes(raw)
    try:
        read_file(tmp_path / f"a.{kind}")
    except UserError as e:
        assert "\n" not in str(e)


# lists of documents


def test_one_odd_document_is_counted(tmp_path, caplog):
    path = tmp_path / "d.jsonl"
    rows = [
        {"text": "None"},
        {"text": "nan"},
        {"text": ""},
        {"text": None},
        {"text": 3},
        {"title": "x"},
        {"text": "a\udc80"},
        "a plain one",
        {"text": "good", "id": "\ud800"},
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    with caplog.at_level(logging.WARNING):
        assert [d.text for d in read_documents(path)] == ["None", "nan", "a plain one"]
    assert "6 of 9 documents" in caplog.text and "row 3: text is empty" in caplog.text
    (tmp_path / "d.csv").write_text("text\nnan\ngood\n")
    assert [d.text for d in read_documents(tmp_path / "d.csv")] == ["good"]
    (tmp_path / "wrong.jsonl").write_text('{"contents": "a"}\n{"contents": "b"}\n')
    with pytest.raises(UserError, match="its columns are contents.*row 1"):
        read_documents(tmp_path / "wrong.jsonl")
    assert text_fault("None") == "" and "empty cell" in cell_fault("None")
    assert exact_id("US") != exact_id("us") and text_id("US") == text_id("us")


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0c", "\x0b", "\x1c", "\x1e"])
def test_only_line_ends_end_a_line(tmp_path, mark):
    (tmp_path / "d.txt").write_bytes(f"one{mark}more\r\ntwo\rthree\n".encode())
    assert [d.text for d in read_documents(tmp_path / "d.txt")] == [f"one{mark}more", "two", "three"]


# tables and packed files


@pytest.mark.parametrize(
    "text, words",
    [
        ('text,b\n"never closed,1\nx,2\n', "line 2"),
        ('text\nok\n"open', "line 3"),
        ("text,text\na,b\n", "two columns are named text"),
        ('text,b\n"a\nb",1\nc\n', "line 4"),
        ("text, text\n1,2\n", "two columns"),
    ],
)
def test_csv_faults(tmp_path, text, words):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UserError, match=words) as e:
        list(iter_rows(tmp_path / "a.csv"))
    assert "\n" not in str(e.value)


def test_csv_that_is_right(tmp_path):
    (tmp_path / "a.csv").write_text('a,b\n"x\ny","say ""so"""\n5" pipe,z\n')
    assert [r for _, r in iter_rows(tmp_path / "a.csv")] == [
        {"a": "x\ny", "b": 'say "so"'},
        {"a": '5" pipe', "b": "z"},
    ]


@pytest.mark.parametrize("raw, wanted", [
    (b"sep=;\ntext;n\na, b;1\n", ["a, b"]),
    (b"sep=,\ntext,n\na,1\n", ["a"]),
    (b'"n, or so";text\n1;x\n', ["x"]),
    (b"text,n\ra,1\rb,2\r", ["a", "b"]),
    (b'text,n\n"a\rb",1\n', ["a\rb"]),
    ("text;n\r\ngröße;1\r\n".encode("utf-16"), ["größe"]),
    (b"text,n\na,1\nb\nc,2,3\nd,4\n", ["a", "d"]),
])
def test_tables_as_spreadsheets_write_them(tmp_path, raw, wanted):
    (tmp_path / "a.csv").write_bytes(raw)
    assert [d.text for d in read_documents(tmp_path / "a.csv")] == wanted


@pytest.mark.parametrize("odd, why", [
    ('{"text": "b"', "broken JSON"), ('{"text": "' + "x" * 9_000_000 + '"}', "longer than"),
    ('{"id": true, "text": "x"}', "the id is True"), ('{"id": [1], "text": "x"}', "the id is .1."), ("[1]", "it is list"),
])
def test_one_odd_row_is_not_the_end_of_a_list(tmp_path, caplog, odd, why):
    (tmp_path / "a.jsonl").write_text(f'{{"text": "a"}}\n{odd}\n{{"text": "c"}}\n')
    assert [d.text for d in read_documents(tmp_path / "a.jsonl")] == ["a", "c"]
    assert "1 of 3 documents" in caplog.text and re.search(f"left out: row 2: .*{why}", caplog.text)
    (tmp_path / "b.jsonl").write_text(odd)
    with pytest.raises(UserError, match=why):
        read_documents(tmp_path / "b.jsonl")


def test_a_file_packed_twice_is_read(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(gzip.compress(b'{"text": "words"}\n')))
    assert [d.text for d in read_documents(tmp_path / "a.jsonl.gz")] == ["words"]


def test_damaged_gzip(tmp_path):
    whole = gzip.compress(b'{"text": "words of a document"}\n' * 200)
    for i, raw in enumerate(
        [
            whole[:-20],
            whole[:40],
            whole[:30] + b"\x00\xff" * 9 + whole[48:],
            b"no gzip",
            whole[:-8] + b"12345678",
            whole[:5],
            b"\x1f\x8b",
            whole[:12] + bytes(30),
            b"\x1f\x8b\x09" + whole[3:],
        ]
    ):
        (tmp_path / "a.jsonl.gz").write_bytes(raw)
        (tmp_path / "a.txt.gz").write_bytes(raw)
        (tmp_path / "a.json.gz").write_bytes(raw)
        for name in ("a.jsonl.gz", "a.txt.gz", "a.json.gz"):
            with pytest.raises(UserError, match="gzip") as e:
                read_documents(tmp_path / name)
            assert "\n" not in str(e.value), i
    (tmp_path / "packed.jsonl").write_bytes(whole)
    assert (
        len(read_documents(tmp_path / "packed.jsonl")) == 200 and read_bytes(tmp_path / "packed.jsonl", 4) == b'{"te'
    )


# BEIR folders


def beir(folder, corpus, queries, qrels):
    (folder / "qrels").mkdir(parents=True)
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels)
    return folder


DOCS, ASKED = [{"_id": "d1", "text": "pump"}, {"_id": "d2", "text": "valve"}], [{"_id": "q1", "text": "pump?"}]


def test_beir_wrong_keys(tmp_path):
    for i, (docs, asked) in enumerate(
        [
            ([{"_id": "d1", "contents": "x"}], ASKED),
            ([{"_id": "d1", "title": "t", "contents": "x"}], ASKED),
            (DOCS, [{"_id": "q1", "query": "x"}]),
            ([{"id": "d1", "text": "x"}], ASKED),
        ]
    ):
        with pytest.raises(UserError, match="its keys are") as e:
            load_beir(beir(tmp_path / str(i), docs, asked, "q1\td1\t1\n"))
        assert "\n" not in str(e.value)


def test_beir_judgements_without_a_text(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        data = load_beir(beir(tmp_path / "a", DOCS, ASKED, "q1\td1\t1\nq1\tgone\t1\nq9\td1\t1\n"))
    assert data.qrels == {"q1": {"d1": 1, "gone": 1}} and list(data.queries) == ["q1"]
    assert "1 judged query" in caplog.text and "1 judged document" in caplog.text and "gone" in caplog.text
    save_retrieval(data, tmp_path / "one.json")
    again = load_single(tmp_path / "one.json")
    assert again.qrels["q1"]["gone"] == 1 and len(again.qrels["q1"]) == 2
    with pytest.raises(UserError, match="no judged document"):
        load_beir(beir(tmp_path / "b", DOCS, ASKED, "q1\tx\t1\n"))
    with pytest.raises(UserError, match="judged twice"):
        load_beir(beir(tmp_path / "c", DOCS, ASKED, "q1\td1\t1\nq1\td1\t2\n"))  # trec_eval refuses too
    assert load_beir(beir(tmp_path / "d", DOCS + DOCS[:1], ASKED, "q1\td1\t1\nq1\td1\t1\n")).qrels == {
        "q1": {"d1": 1}
    }


def test_absent_documents_count_as_in_the_reference(tmp_path):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    import numpy as np
    from ragcun.measures.ranking import counted_ndcg, evaluate_vectors

    data = load_beir(beir(tmp_path / "a", DOCS, ASKED, "q1\td1\t1\nq1\tgone\t2\n"))
    u, v = np.array([[1.0, 0.0]], np.float32), np.array([[1.0, 0.1], [0.0, 1.0]], np.float32)
    wanted = pytrec_eval.RelevanceEvaluator(data.qrels, {"ndcg_cut.10", "recall.10"}).evaluate(
        {"q1": {"d1": 2.0, "d2": 1.0}}
    )["q1"]
    found = evaluate_vectors(u, v, data, k=10)
    assert counted_ndcg(u, v, data)[0] == pytest.approx(wanted["ndcg_cut_10"], abs=1e-6)
    assert found.mean()["recall@10"] == pytest.approx(wanted["recall_10"], abs=1e-6)


def test_beir_odd_text_is_counted(tmp_path, caplog):
    docs = [
        *DOCS,
        {"_id": "n", "text": None},
        {"_id": "l", "text": ["a"]},
        {"_id": "s", "text": "a\udc80"},
        {"_id": "w", "text": "None"},
        {"_id": "t", "title": "only a title"},
        {"_id": "k", "body": "x"},
    ]
    with caplog.at_level(logging.WARNING):
        data = load_beir(beir(tmp_path / "a", docs, ASKED, "q1\td1\t1\n"))
    assert [data.corpus[d] for d in ("n", "l", "s", "w", "t", "k")] == [
        "",
        "",
        "",
        "None",
        "only a title",
        "",
    ] and "3 texts" in caplog.text


def test_the_page_for_printing_of_a_book_is_left_out(tmp_path):
    "mdBook's print.html holds all its other pages again: every answer came twice. Alone, it is the book."
    page = "<!DOCTYPE HTML><html><head><!-- Book generated using mdBook --></head><body><h1>{}</h1><p>Text.</p></body>"
    for folder, mark in (("book", ""), ("site", "mdBook"), ("alone", "")):
        (tmp_path/folder).mkdir()
        for name in ("index", "print")[folder == "alone":]:
            (tmp_path/folder/f"{name}.html").write_text(page.replace(mark or "\0", "hand").format(name))
    found = read_folder(tmp_path)
    assert {d.metadata["source"] for d in found.documents} == {"book/index.html", "site/index.html", "site/print.html",
                                                               "alone/print.html"}
    assert found.skipped == [] and found.unread == {"(pages of a book once more, in its print.html)": 1}

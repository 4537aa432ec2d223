"""Kinds of files that people have in their folders, and what must not be lost of them."""
import base64
import datetime
import hashlib
import io
import json
import os
import re
import zipfile

import openpyxl
import pytest
from small import archive, docx_bytes, pdf_bytes

from ragcun import UserError
from ragcun.core import sha256_text
from ragcun.data.decoding import decode_bytes
from ragcun.data.documents import (BINARY_PARSERS, READER_VERSION, Document, estimate_tokens, kinds_in_words, list_folder,
                                   passages, read_file, read_folder, sentences)
from ragcun.data.generation import make_pair
from ragcun.data.markup import parse_markdown, parse_rst, parse_text
from ragcun.data.other_markup import parse_asciidoc, parse_latex, parse_org
from ragcun.data.structured import parse_json_lines, parse_json_rows, parse_table
from ragcun.data.office import (parse_docx, parse_epub, parse_mailbox, parse_message, parse_odf, parse_rtf, parse_slides,
                                parse_web_archive, parse_workbook)
from ragcun.data.pdf import parse_pdf
from ragcun.data.web_pages import Section, parse_html


def words(sections):
    return " ".join(f"{s.heading} {s.text}" for s in sections)


# encodings

TEXT = "Grüße aus Köln, die Pumpe hält. "


@pytest.mark.parametrize("raw, wanted", [
    ((TEXT*9).encode() + b"caf\xe9 " + (TEXT*9).encode(), TEXT*9 + "café " + TEXT*9),   # one byte is wrong
    ((TEXT*9).encode()[:-1] + "ü".encode()[:1], TEXT*9),                                # cut inside a letter
    (TEXT.encode()*9 + TEXT.encode("cp1252")*9, TEXT*18),                               # two files put together
    ("Öl für Höfe".encode("latin-1"), "Öl für Höfe"),                                   # too short for a guess
    (TEXT.encode("utf-16") + b"\n", TEXT),                                              # a byte that came later
    ("ポンプの保証期間は二十四か月です。".encode("iso2022_jp"), "ポンプの保証期間は二十四か月です。"),
])
def test_bytes_that_are_nearly_right(raw, wanted):
    assert decode_bytes(raw, "f")[0].strip("\n\ufffd ") == wanted.strip()


def test_other_encodings_are_not_taken_for_faulty_utf8():
    for text, encoding in (("Срок гарантии на насос составляет двадцать четыре месяца", "koi8_r"),
                           ("水泵的保修期为二十四个月。请每周加油。", "gb18030"),
                           ("Ağır pompa şimdi çalışıyor, ığdır", "cp1254")):
        assert decode_bytes(text.encode(encoding), "f", declared=encoding)[0] == text


def test_marks_inside_and_declarations_in_comments(tmp_path):
    (tmp_path/"a.md").write_bytes("\ufeff\ufeff# One\n\ntext\n\n\ufeff# Two\n\nmore".encode())
    assert [d.heading or d.title for d in read_file(tmp_path/"a.md")] == ["One", "Two"]
    (tmp_path/"b.html").write_bytes("<!-- <meta charset=koi8-r> --><meta charset=cp1252><p>Größe".encode("cp1252"))
    assert read_file(tmp_path/"b.html")[0].text == "Größe"


# words and numbers that stay


@pytest.mark.parametrize("page, wanted", [
    ("<p>See <img src=a alt='the wiring plan'> here</p>", "See the wiring plan here"),
    ("<figure><img alt='The plan'><figcaption>The plan of 1956</figcaption></figure>", "The plan of 1956"),
    ("<p>x <img src=a.png alt=a.png></p>", "x"),
    ("<p>10<sup>6</sup> Pa on 5 m<sup>2</sup>, the 2<sup>nd</sup></p>", "10^6 Pa on 5 m2, the 2nd"),
    ("<div role=tabpanel hidden>brew install</div><p hidden>no</p>", "brew install"),
    ("<p>About <math><msup><mn>10</mn><mn>6</mn></msup><msup><mi>x</mi><mn>2</mn></msup></math></p>", "About 10^6x2"),
    ("<p>Name<span style='display: block'>Ann</span></p>", "Name\n\nAnn"),
])
def test_html(page, wanted):
    assert words(parse_html(page)).strip() == wanted


@pytest.mark.parametrize("page, wanted", [
    ("<h3>How?</h3><div class=panel style='display: none;'><p>By card.</p></div>", "How? By card."),
    ("<h3><button aria-controls=a>How?</button></h3><div id=a role=region aria-labelledby=b hidden>By card.</div>",
     "How? By card."),
    ("<dl><dt>How?</dt>\n<dd style='display:none'>By card.</dd></dl>", "How? By card."),
    ("<h3>How?</h3><div role=dialog aria-labelledby=x hidden>no</div>", "How?"),
    ("<h3>How?</h3><p>So.</p><div style='display:none'>no</div><div role=region aria-label=Cookies hidden>no</div>",
     "How? So.")])
def test_what_a_click_on_a_heading_shows_is_read(page, wanted):
    assert " ".join(words(parse_html(page)).split()) == wanted


MATH = "<math><semantics><mi>n</mi><mo>+</mo><mn>1</mn><annotation>n+1</annotation></semantics></math>"


@pytest.mark.parametrize("formula", [
    f"<span class=katex><span class=katex-mathml>{MATH}</span><span class=katex-html aria-hidden=true>n+1</span></span>",
    f"<span class=MathJax><nobr aria-hidden=true>n+1</nobr><span role=presentation>{MATH}</span></span><script>n+1</script>",
    f"<mjx-container><mjx-math aria-hidden=true>n+1</mjx-math><mjx-assistive-mml>{MATH}</mjx-assistive-mml></mjx-container>",
    "<span><span style='display:none'>" + MATH + "</span><img alt='{\\textstyle n+1}' aria-hidden=true></span>",
    "<span><span aria-hidden=true>n+1</span></span>"])
def test_a_formula_is_read_once(formula):
    assert " ".join(words(parse_html(f"<p>It takes {formula} steps.</p>")).split()) == "It takes n+1 steps."


@pytest.mark.parametrize("page", [
    "<table><tr><td class=linenos><div class=linenodiv><pre>1\n2</pre></div></td><td><pre>a = 1\nb = 2</pre></td></tr></table>",
    "<pre><span class=linenos>1</span>a = 1\n<span class='linenos special'> 2</span>b = 2</pre>",
    "<pre><span class=line><span class=ln>1</span>a = 1\n</span><span class=line><span class=ln>2</span>b = 2</span></pre>"])
def test_numbers_of_lines_of_code_are_no_code(page):
    assert words(parse_html(page)).strip() == "a = 1\nb = 2"
    assert words(parse_html(page.replace("1<", "1st<").replace("1\n", "1st\n"))).count("st") >= 1      # words stay


@pytest.mark.parametrize("page, wanted", [
    ("<ol><li>one<li>two <ol type=a><li>x<li>y</ol><li><p>three<p>more</ol>",
     "1. one\n2. two\na. x\nb. y\n3. three\nmore"),
    ("<ol start=5 reversed><li>a<li value=3>b<li>c</ol>", "5. a\n3. b\n2. c"),
    ("<ol><li></li><li><ul><li>b</ul></ol><ul><li>c</ul>", "2. b\nc"),
    ("<ol style='list-style-type: lower-roman'><li>a<li>b</ol>", "i. a\nii. b"),
    ("<ol style='list-style: none'><li>a</ol>", "a"),
    ("<table><tr><th>k<th>v<tr><td>a<td><ol><li>x<li>y</ol></table>", "k | v\na | 1. x 2. y")])
def test_items_of_a_list_have_their_numbers(page, wanted):
    assert words(parse_html(page)).strip() == wanted


def test_numbers_of_items_in_markup():
    assert parse_html("<ol><li><h3>Open</h3><p>It.</ol>")[0].heading == "1. Open"
    assert words(parse_markdown("3. x\n4. y\n   - z\n\n5) a\n5) b")).strip() == "3. x\n4. y\nz\n5. a\n6. b"
    assert words(parse_rst("c. x\n#. y\n\nText\n\n(iv) z")).strip() == "c. x\nd. y\n\nText\n\niv. z"


def test_the_title_of_a_page_stays_where_its_heading_says_less():
    page = "<head><title>{}</title></head><h1>Installation</h1><p>words</p>"
    assert [s.heading for s in parse_html(page.format("Pump P7 manual"))] == ["Pump P7 manual", "Installation"]
    assert [s.heading for s in parse_html(page.format("Installation – ACME"))] == ["Installation"]


def test_markdown():
    assert words(parse_markdown("---\ntitle: T\ndescription: About oil\n---\nBody")) == "T About oil\n\nBody"
    assert parse_markdown("\n---\ntitle: T\n---\n\nBody")[0].heading == "T"
    noted = "A[^1].\n\n[^1]: First.\n[^x]: Unused note.\n"
    assert words(parse_markdown(noted)).strip() == "A[1].\n\nUnused note.\n\n1. First."
    assert "a<b and c>d" in words(parse_markdown("if a<b and c>d, <details open>x</details>"))
    assert "picture of it" in words(parse_markdown("<img src='a' alt='picture of it'>"))


def test_rst():
    assert "The plan" in words(parse_rst(".. image:: a.png\n   :alt: The plan\n"))
    assert "a.png" not in words(parse_rst(".. image:: a.png\n\nText\n"))
    assert "default: 5" in words(parse_rst(".. confval:: speed\n   :default: 5\n\n   Text.\n"))


def test_word():
    docx = pytest.importorskip("docx")
    made = docx.Document()
    made.core_properties.title = "Pump manual"
    paragraph = made.add_paragraph("At 10")
    for text, raised in (("6", True), (" Pa, 5 m", False), ("2", True)):
        paragraph.add_run(text).font.superscript = raised
    made.add_comment(paragraph.runs, text="9 bar since May", author="A")
    out = io.BytesIO()
    made.save(out)
    sections = parse_docx(out.getvalue())
    assert sections[0].heading == "Pump manual" and "At 10^6 Pa, 5 m2" in words(sections)
    assert "9 bar since May" in words(sections)


W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def word_text(*blocks, styles=()):
    "What is read of a Word file with these elements."
    docx = pytest.importorskip("docx")
    from docx.oxml import parse_xml
    made = docx.Document()
    for style in styles:
        made.styles.element.append(parse_xml(f'<w:style {W} w:styleId="{style[0]}"><w:name w:val="{style[1]}"/></w:style>'))
    for i, block in enumerate(blocks):
        made.element.body.insert(i, parse_xml(block.replace(">", f" {W}>", 1)))
    out = io.BytesIO()
    made.save(out)
    return words(parse_docx(out.getvalue())).strip()


def run(text, before=""):
    return f"<w:p>{before}<w:r><w:t xml:space='preserve'>{text}</w:t></w:r></w:p>"


def counted(kinds, lists, paragraphs, styles=()):
    "Sections of a Word file with these kinds of lists, lists of them, and paragraphs: style, list, level, text."
    docx = pytest.importorskip("docx")
    from docx.oxml import parse_xml
    made = docx.Document()
    numbering = made.part.numbering_part.element
    for old in list(numbering):
        numbering.remove(old)
    for i, kind in enumerate(kinds):
        numbering.append(parse_xml(f'<w:abstractNum {W} w:abstractNumId="{i}">{kind}</w:abstractNum>'))
    for i, (kind, own) in enumerate(lists, 1):
        numbering.append(parse_xml(f'<w:num {W} w:numId="{i}"><w:abstractNumId w:val="{kind}"/>{own}</w:num>'))
    for style in styles:
        made.styles[style].element.get_or_add_pPr().append(parse_xml(f'<w:numPr {W}><w:numId w:val="1"/></w:numPr>'))
    for style, key, level, text in paragraphs:
        own = f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{key}"/></w:numPr>' if key else ""
        made.element.body.insert(len(made.element.body) - 1, parse_xml(
            f'<w:p {W}><w:pPr><w:pStyle w:val="{style}"/>{own}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>'))
    out = io.BytesIO()
    made.save(out)
    return [(s.heading, s.text) for s in parse_docx(out.getvalue())]


def way(level, form, shown, start=1, more=""):
    return (f'<w:lvl w:ilvl="{level}"><w:start w:val="{start}"/><w:numFmt w:val="{form}"/>{more}'
            f'<w:lvlText w:val="{shown}"/></w:lvl>')


def test_numbers_that_word_counts_are_read():
    law = (way(0, "decimal", "%1", more='<w:pStyle w:val="Heading1"/>')
           + way(1, "decimal", "%1.%2", more='<w:pStyle w:val="Heading2"/>')
           + way(2, "lowerLetter", "(%3)") + way(3, "lowerRoman", "(%4)"))
    assert counted([law], [(0, "")], [
        ("Heading1", 0, 0, "Scope"), ("Heading2", 0, 0, "Terms"), ("", 1, 2, "oil"), ("", 1, 2, "air"), ("", 1, 3, "dry"),
        ("Heading2", 0, 0, "Fees"), ("", 1, 2, "due"), ("Heading1", 0, 0, "Liability"), ("Heading2", 0, 0, "Limits"),
    ], ["Heading 1", "Heading 2"]) == [("1 Scope", ""), ("1.1 Terms", "(a) oil\n(b) air\n(i) dry"),
                                       ("1.2 Fees", "(a) due"), ("2 Liability", ""), ("2.1 Limits", "")]
    anew = '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="1"/></w:lvlOverride>'
    assert counted([way(0, "decimal", "%1.") + way(1, "bullet", "o")], [(0, ""), (0, anew), (0, "")], [
        ("", 1, 0, "a"), ("", 1, 1, "sign"), ("", 1, 0, "b"), ("", 2, 0, "c"), ("", 2, 0, "d"), ("", 3, 0, "e"), ("", 9, 0, "f"),
    ]) == [("", "1. a\nsign\n2. b\n1. c\n2. d\n3. e\nf")]
    legal = way(1, "decimal", "%1.%2", more="<w:isLgl/>")
    assert counted([way(0, "none", ""), way(0, "upperRoman", "Article %1.", 4) + legal, way(0, "upperLetter", "%1)", 27)],
                   [(0, ""), (1, ""), (2, "")],
                   [("Heading1", 0, 0, "References"), ("", 2, 0, "x"), ("", 2, 1, "y"), ("", 3, 0, "z")],
                   ["Heading 1"]) == [("References", "Article IV. x\n4.1 y\nAA) z")]     # as LibreOffice writes headings


def test_what_a_word_file_only_prompts_or_lists_is_left_out():
    def control(said, inside): return f"<w:sdt><w:sdtPr>{said}</w:sdtPr><w:sdtContent>{inside}</w:sdtContent></w:sdt>"
    gallery = '<w:docPartObj><w:docPartGallery w:val="Table of Contents"/></w:docPartObj>'
    assert word_text(control("<w:showingPlcHdr/>", run("Click here")), control("", run("Name: Pump")),
                     control('<w:showingPlcHdr w:val="0"/>', run("Kept"))) == "Name: Pump\n\nKept"
    assert word_text(control(gallery, run("Oil....4")), run("Oil")) == "Oil"
    assert word_text(run("Oil....4", '<w:pPr><w:pStyle w:val="V1"/></w:pPr>'), run("Oil"), styles=[("V1", "toc 1")]) == "Oil"


def test_pdf(monkeypatch):
    import ragcun.data.pdf as module
    pages = ["The centri-", "fugal pump must cool for", "twelve hours. Then open it.",
             "See ann-\nmarie@x.org, http://x/a-\nb"]
    monkeypatch.setattr(module, "_pdf_pages", lambda raw, where: ("", pages))
    texts = [s.text for s in parse_pdf(b"")]
    assert texts[0].startswith("The centrifugal") and texts[1].endswith("cool for\ntwelve hours.")
    assert texts[2] == pages[2] and texts[3] == "See ann-marie@x.org, http://x/a-b"


def test_a_table_of_contents_of_a_pdf_is_no_text(monkeypatch):
    contents = "Contents\n1 Oil . . . . . . 1\n1.1 Change........2\n2 Air . . . . . 2\n3 Water . . . . 3\nThe end"
    monkeypatch.setattr("ragcun.data.pdf._pdf_pages", lambda raw, where: ("", [contents, "Name: ..........", "Text."]))
    assert [s.text for s in parse_pdf(b"")] == ["Contents\nThe end", "Name: …", "Text."]
    prices = "Bolt ........ 3\nNut ....... 2\nSeal ........ 9\nValve ..... 12"       # no pages
    monkeypatch.setattr("ragcun.data.pdf._pdf_pages", lambda raw, where: ("", [prices]))
    assert parse_pdf(b"")[0].text == "Bolt … 3\nNut … 2\nSeal … 9\nValve … 12"


def test_what_stands_on_every_page_parts_no_sentence(monkeypatch):
    import ragcun.data.pdf as module
    said = ["The pump must cool for at least", "twelve hours. Then the centri-", "fugal part is opened.", "", "Well."]
    for top, end in (("ACME manual P7\nRev. 3\n", "\nDoc. 4711\nPage {} of 5"), ("", "\n{}"), ("{}\n", "")):
        pages = [top.format(i) + text + end.format(i) for i, text in enumerate(said, 1)]
        monkeypatch.setattr(module, "_pdf_pages", lambda raw, where, pages=pages: ("", pages))
        texts = [s.text for s in parse_pdf(b"")]
        assert texts[0] == f"{top.format(1)}{said[0]}\ntwelve hours.{end.format(1)}"
        assert texts[1] == f"{top.format(2)}twelve hours. Then the centrifugal\npart is opened.{end.format(2)}"
        assert texts[4] == pages[4] and len(texts) == 5
    pages = [f"{w} one two\nsame last line" for w in ("a", "b")]     # two pages say nothing of what is on every one
    monkeypatch.setattr(module, "_pdf_pages", lambda raw, where: ("", pages))
    assert [s.text for s in parse_pdf(b"")] == pages


def columns(rows, *places):
    "Cells with their places, column by column; numbers end on one line."
    return [(x + (6*(6 - len(row[c])) if row[c][:1].isdigit() else 0), 600 - 16*r, row[c])
            for c, x in enumerate(places) for r, row in enumerate(rows) if row[c]]


@pytest.mark.parametrize("rows, places, is_table", [
    ([("Name", "Price", "Stock"), ("Pump", "40.00", "3"), ("Valve", "7.50", "120"), ("Hose", "12.00", "")], (72, 200, 300), True),
    ([("Number", "2024-001"), ("Date", "2024-01-05"), ("Total", "40.00 EUR"), ("Due", "30 days")], (72, 200), True),
    ([("2019-21", "Fitter in Kiel"), ("2021-23", "Teacher"), ("2023-24", "Writer")], (72, 200), True),
    ([("The pump of the hall is", "of a day it is put off,"), ("opened each day by the", "and oil is filled in by"),
      ("people of the hall; in 2", "one of them until it is"), ("or 3 hours at the end of", "full again. That is all.")], (72, 320), False),
    ([("apple, 3", "pear, 7", "rose, 9"), ("bread, 4", "pike, 8", "rice, 12"), ("cake, 5", "plum, 2", "rye, 13")], (72, 200, 300), False)])
def test_a_table_of_a_pdf_written_by_columns_is_read_by_rows(rows, places, is_table):
    cells = columns(rows, *places)
    page = [(72, 700, "Above it."), *cells, (72, 480, "Below it.")]
    lines = [" ".join(filter(None, row)) for row in rows] if is_table else [text for *_, text in cells]
    assert parse_pdf(pdf_bytes(page))[0].text.split("\n") == ["Above it.", *lines, "Below it."]
    assert parse_pdf(pdf_bytes([cell for cell in page if cell[0] < 200]))[0].text.count("it.") == 2
    by_rows = sorted(page, key=lambda cell: -cell[1])
    assert len(parse_pdf(pdf_bytes(by_rows))[0].text.split("\n")) == len(rows) + 2     # as before


# tables and passages


def test_every_passage_of_a_table_has_the_names_of_its_columns():
    rows = [f"P{i} | {i} bar | Needs oil. Every week." for i in range(30)]
    text = "Before it. A sentence.\n\n" + "\n".join(["Model | Pressure | Care", *rows]) + "\n\nAfter it."
    cut = passages(text, 60, 10)
    assert all(any(row in p and "Model | Pressure | Care" in p for p in cut) for row in rows)
    assert max(map(estimate_tokens, cut)) <= 60 and len(cut) < 12
    assert set(re.findall(r"\w+", text)) == set(re.findall(r"\w+", " ".join(cut)))
    numbers = "\n".join(f"{i} | {i*i}" for i in range(60))     # no names: nothing is repeated
    assert sum(p.count("7 | 49") for p in passages(numbers, 40, 0)) == 1


def names_of(sections, row, budget=60):
    "What the passage of a row begins with."
    return {p.split("\n")[0] for s in sections for p in passages(s.text, budget, 10) if row in p}


def test_names_of_columns_whatever_stands_beside_them():
    def grid(first, second, n=30):
        return [[first, second], *([f"{first} {i}", f"{second} {i}"] for i in range(n))]
    def cells(rows):
        return "<table>" + "".join(f"<tr><td>{a}<td>{b}" for a, b in rows) + "</table>"
    page = (f"<ul><li>one<li>two</ul>{cells(grid('Name', 'Port'))}{cells(grid('Person', 'Phone'))}"
            f"<table><tr><td><h2>Old</h2><p>Frame</p>{cells(grid('Old', 'New'))}</table>")
    for name, row in (("Name | Port", "Port 25"), ("Person | Phone", "Phone 25"), ("Old | New", "New 25")):
        assert names_of(parse_html(page), row) == {name}
    docx = pytest.importorskip("docx")
    made, out = docx.Document(), io.BytesIO()
    made.add_paragraph("one", style="List Bullet")
    for first, second in (("Name", "Port"), ("Person", "Phone")):
        table = made.add_table(31, 2)
        for cell, text in zip(table._cells, sum(grid(first, second), []), strict=True):
            cell.text = text
    made.save(out)
    assert names_of(parse_docx(out.getvalue()), "Phone 25") == {"Person | Phone"}
    odt = "".join("<table>" + "".join("<table-row>" + "".join(f"<table-cell><p>{c}</p></table-cell>" for c in row)
                                      + "</table-row>" for row in grid(*names)) + "</table>"
                  for names in (("Name", "Port"), ("Person", "Phone")))
    assert names_of(parse_odf(archive({"content.xml": f"<d><body>{odt}</body></d>"})), "Phone 25") == {"Person | Phone"}


def test_names_of_columns_below_a_title_and_among_rows_of_one_cell():
    rows = [["Prices of 2024"], ["All in EUR."], ["Region", 2023, 2024]]
    for i in range(30):
        rows += [[f"Group {i}"]] * (i % 10 == 0) + [[f"Region {i}", i, i + 1]]
    assert names_of(parse_workbook(workbook(Prices=rows)), "Region 25") == {"Region | 2023 | 2024"}
    answers = "".join(f"Question {i}?;{'' if i == 3 else f'Answer {i}.'}\n" for i in range(30))
    assert names_of(parse_table(f"question;answer\n{answers}"), "Answer 25.") == {"question | answer"}
    prose = "Either a | b holds here.\n" + "\n".join(f"Line {i} of a text without a table." for i in range(30))
    assert sum(p.count("Either a | b") for p in passages(prose, 60, 10)) == 1


def test_values_stay_under_their_names_beside_cells_over_several_columns():
    page = ("<table><tr><td colspan=4>Prices of all<tr><th rowspan=2>Region<th colspan=2>2023<th>2024<tr><th>Q1<th>Q2<th>Q1"
            "<tr><td>South<td colspan=2>closed<td>8<tr><td colspan=2 rowspan=2>North<td>7<td>9<tr><td>5<td>6</table>")
    assert parse_html(page)[0].text == ("Prices of all\nRegion | 2023 |  | 2024\n | Q1 | Q2 | Q1\nSouth | closed |  | 8\n"
                                        "North |  | 7 | 9\n |  | 5 | 6")
    docx = pytest.importorskip("docx")
    made, out = docx.Document(), io.BytesIO()
    table = made.add_table(2, 4)
    for cell, text in zip(table._cells, ("Name", "Size", "", "Price", "P7", "3", "4", "9"), strict=True):
        cell.text = text
    table.cell(0, 1).merge(table.cell(0, 2)).text = "Size"
    made.save(out)
    assert parse_docx(out.getvalue())[0].text == "Name | Size |  | Price\nP7 | 3 | 4 | 9"


TWO_TABLES = [["Part", "Price"], ["Bolt", 1.5], ["", ""], ["Nut", "free"], [], [],
              ["Staff"], ["Person", "Phone", 2024], ["Ann", 12, 3], [], ["Bob", 34, 5]]


def ods(*sheets):
    "An OpenDocument file of sheets, each a name and rows."
    def shown(row):
        return "".join(f"<table-cell><p>{c}</p></table-cell>" for c in row)
    body = "".join(f'<table name="{name}">' + "".join(f"<table-row>{shown(row)}</table-row>" for row in rows) + "</table>"
                   for name, rows in sheets)
    return archive({"content.xml": f"<d><body><spreadsheet>{body}</spreadsheet></body></d>"})


def test_two_tables_on_one_sheet_have_names_of_their_own():
    want = "Part | Price\nBolt | 1.5\nNut | free\n\nStaff\nPerson | Phone | 2024\nAnn | 12 | 3\nBob | 34 | 5"
    lines = "".join(";".join(map(str, row)) + "\n" for row in TWO_TABLES)
    for sections in (parse_workbook(workbook(Sheet1=TWO_TABLES)), parse_odf(ods(("Sheet1", TWO_TABLES))), parse_table(lines)):
        assert [(s.heading, s.text) for s in sections] == [("", want)]


def test_sheets_of_opendocument_have_their_names():
    sheets = parse_odf(ods(("Prices", [["a", "b"], ["c", 1]]), ("None", []), ("Tabelle2", [["d", "e"]]), ("Staff", [["f"]])))
    assert [(s.heading, s.text) for s in sheets] == [("Prices", "a | b\nc | 1"), ("", "d | e"), ("Staff", "f")]


def test_all_that_a_slide_shows_once():
    def shape(text):
        return f"<sp><p><r><t>{text}</t></r></p></sp>"
    def links(*targets):
        return "<l>" + "".join(f'<l Id="r{i}" Target="{t}"/>' for i, t in enumerate(targets)) + "</l>"
    table = "".join("<tr>" + "".join(f"<tc><p><t>{c}</t></p></tc>" for c in row) + "<extLst/></tr>"
                    for row in (("Part", "Price"), ("Bolt", "3")))
    slide = (f"<s>{shape('one')}<grpSp>{shape('two')}<grpSp>{shape('three')}</grpSp></grpSp><AlternateContent><Choice>"
             f"{shape('x^2')}</Choice><Fallback>{shape('x2')}</Fallback></AlternateContent><graphicFrame><tbl>{table}</tbl>"
             '</graphicFrame><pic><cNvPr descr="A red valve"/></pic></s>')
    text = parse_slides(archive({
        "ppt/presentation.xml": '<p xmlns:r="r"><sldId r:id="r0"/></p>', "ppt/_rels/presentation.xml.rels": links("s/1.xml"),
        "ppt/s/1.xml": slide, "ppt/s/_rels/1.xml.rels": links("../charts/chart1.xml", "../diagrams/data1.xml", "../notesSlides/1"),
        "ppt/charts/chart1.xml": "<c><p><t>Sales</t></p><strCache><v>May</v></strCache></c>",
        "ppt/diagrams/data1.xml": "<d><p><t>Order it</t></p></d>", "ppt/notesSlides/1": f"<n>{shape('said')}</n>"}))[0].text
    assert text == "one\ntwo\nthree\nx^2\n\nPart | Price\nBolt | 3\n\nA red valve\nSales\nMay\nOrder it\nsaid"
    modern = "<m><cm><replyLst><reply><p><t>Done.</t></p></reply></replyLst><txBody><p><t>Check it.</t></p></txBody></cm></m>"
    text = parse_slides(archive({
        "ppt/presentation.xml": '<p xmlns:r="r"><sldId r:id="r0"/></p>', "ppt/_rels/presentation.xml.rels": links("s/1.xml"),
        "ppt/s/1.xml": f"<s>{shape('one')}</s>", "ppt/s/_rels/1.xml.rels": links("../comments/c1.xml", "../comments/c2.xml"),
        "ppt/comments/c1.xml": "<m><cm><text>Really?</text></cm></m>", "ppt/comments/c2.xml": modern}))[0].text
    assert text == "one\nReally?\nCheck it. Done."


@pytest.mark.parametrize("source, wanted", [
    ("See [[Pump manual|the manual]], [[Valve]], [[Valve#Parts]], ![[a.png]].", "See the manual, Valve, Valve Parts, a.png."),
    ("| a |\n|--|\n| [[x\\|y]] |", "a\ny"),
    ("`[[x]]` and [[ -f x ]]", "[[x]] and [[ -f x ]]"),
    ("import A from '@b/c';\nimport {\n  D\n} from \"e\"\n\nexport const f = {g: 1}\n\nText.", "Text."),
    ("import your data from 'File'. Then go on.", "import your data from 'File'. Then go on."),
    ("```js\nimport a from 'b'\n```", "import a from 'b'"),
])
def test_links_of_wikis_and_imports_of_mdx(source, wanted):
    assert words(parse_markdown(source)).strip() == wanted


@pytest.mark.parametrize("source, wanted", [
    ("> [!NOTE]\n> Close it.\n\n> [!warning]- Hot *lid*\n> Wait.", "Note\nClose it.\n\nHot lid\nWait."),
    ('!!! note "The lid"\n    Close it.\n\n    Wait.\n\n??? tip\n    Oil it.', "The lid\n\nClose it.\n\nWait.\n\nTip\n\nOil it."),
    ('=== "Linux"\n\n    Type `make`.\n\n=== "Windows"\n\n    Click.', "Linux\n\nType make.\n\nWindows\n\nClick."),
    ('```\n=== "x"\n!!! Do not\n```', '=== "x"\n!!! Do not'),
    (":::note Mind it\nClose it.\n:::\n\n:::{tip}\nWait.\n:::\n\n::: {.callout-note}\nOil.\n:::", "Mind it\n\nClose it.\n\nTip\n\nWait.\n\nOil."),
    ("See {ref}`the lid <lid>`, {x}`y` and ${HOME}`z`.", "See the lid, {x}y and ${HOME}z."),
    ("![[a.png|300]] ==hot== %% not said %% end ^ab12cd", "a.png hot end"), ("2 ^100, %%time and %%bash, a == b == c", None),
    ("[TOC]\n\n(lid)=\n\n{{< figure src='a' caption='The lid' >}} [a](b){target=x} `c`{.py}", "The lid a c"),
    ("!!! Do not open it\n\n??? really why not\n\n`a`{b}", "!!! Do not open it\n\n??? really why not\n\na{b}")])
def test_marks_of_other_programs_in_markdown(source, wanted):
    assert words(parse_markdown(source)).strip() == (wanted or source)


def test_what_a_wiki_shows_besides_its_text_is_left_out():
    edit = '<span class="mw-editsection"><span>[</span><a href="/w?action=edit">edit</a><span>]</span></span>'
    formula = ('<span><span style="display: none;"><math><mi>H</mi><annotation>{\\displaystyle H=z}</annotation></math></span>'
               '<img src="z.svg" alt="{\\displaystyle H=z}"></span>')
    page = (f'<title>Pump - Wiki</title><header><a href="/">Wiki</a><form role="search"><button>Search</button></form></header>'
            f'<main><h1>Pump</h1><h2 id="U">Use{edit}</h2><p>It moves water, {formula}.</p><h2>Age</h2>{edit}<p>Old.'
            f'<span class="sr-only">opens in a new window</span></p><div class="catlinks"><a href="/c">Pumps</a></div></main>'
            f'<div class="printfooter">Retrieved from x</div>')
    assert [(s.heading, s.text) for s in parse_html(page)] == [
        ("Pump", ""), ("Use", "It moves water, H=z ."), ("Age", "Old.")]
    assert parse_html("<header><h1>Pump</h1><p>By Ann.</p></header><p>Text.</p>")[0].text == "By Ann.\n\nText."
    assert parse_html("<header><form>Fill in.</form></header><p>Text.</p>")[0].text == "Fill in.\n\nText."


@pytest.mark.parametrize("page, wanted", [
    ("<div><pre>npm i</pre><button>Copy</button></div><p>Press <button>Copy</button> twice.</p>", "npm i\n\nPress Copy twice."),
    ("<main><p>Text.</p></main><div class='footer'>© 2024 | Powered by <a href='https://s.org'>Sphinx</a></div>", "Text."),
    ("<div id='main'><p>Text.</p></div><div id='footer'><p>Made by Confluence</p></div>", "Text."),
    ("<article><p>Text.</p><div class='footer'>Its own.</div></article>", "Text.\n\nIts own."),
    ("<div class='footer'><p>All there is.</p></div>", "All there is."),
    ("<p>Text.</p><p><a href='https://github.com/x'>Edit this page on GitHub</a></p>", "Text."),
    ("<p>Text.</p><p>See <a href='https://x.org'>the source</a>.</p>", "Text.\n\nSee the source.")])
def test_what_pages_of_a_site_repeat_is_left_out(page, wanted):
    assert words(parse_html(page)).strip() == wanted


def test_a_protected_book_is_not_told_to_be_in_another_encoding():
    def book(locked):
        return archive({
            "META-INF/container.xml": '<c><rootfile full-path="o/b.opf"/></c>',
            "META-INF/encryption.xml": f'<e><EncryptedData><CipherReference URI="{locked}"/></EncryptedData></e>',
            "o/b.opf": '<p><item id="a" href="one%20page.xhtml"/><itemref idref="a"/></p>', "o/one page.xhtml": "<p>Oil.</p>"})
    assert parse_epub(book("o/font.otf"))[0].text == "Oil."
    with pytest.raises(UserError, match="protected against copies"):
        parse_epub(book("o/one%20page.xhtml"))
    with pytest.raises(UserError, match="not a readable EPUB file"):
        parse_epub(archive({"META-INF/container.xml": "<c><rootfiles/></c>"}))      # names no package


def test_paragraphs_stay_apart_after_a_choice():
    text = parse_html("<p>a<select><option>1<option>2</select></p><p>One.</p><p>Two.</p>")[0].text
    assert text == "a 1 2\n\nOne.\n\nTwo."


# kinds


def workbook(change=lambda book: None, **sheets):
    "An Excel file of sheets, each a list of rows."
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        book.create_sheet(name)
        for row in rows:
            book[name].append(row)
    change(book)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


FILES = {
    "a.csv": ("name;bar\nP7;\"8,5\"\n".encode("utf-16"), "name | bar\nP7 | 8,5"),
    "b.tsv": (b"A\tB\n1, 2\t3\n", "A | B\n1, 2 | 3"),
    "c.jsonl": (b'{"text": "Words here", "t": 1}\nodd\n{"a": {"b": "x"}}\n', "t: 1\nWords here\n\na: b: x"),
    "d.json": (b'{"rows": [{"user": "ann", "text": "hello"}]}', "user: ann\nhello"),
    "e.srt": (b"1\r\n00:00:01,000 --> 00:00:02,000\r\n<i>Oil</i> it\r\n\r\n2\r\n00:00:02,0 --> 00:00:03,0\r\n42\r\n",
              "Oil it\n42"),
    "f.vtt": (b"WEBVTT\n\nNOTE no\n\n00:01.000 --> 00:02.000\n<v Ann>Oil &amp; water\n", "Ann: Oil & water"),
    "g.eml": (b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nContent-Type: text/html; charset=latin-1\n\n<p>Gr\xf6\xdfe</p>",
              "Größe"),
    "h.log": (b"ERROR pump failed\n", "ERROR pump failed"),
    "LICENSE": (b"You may use it.\n", "You may use it."),
    "i.md ": (b"text", "text"),
    "j.odt": (archive({"content.xml": "<d><body><p>One<note>two</note></p><table><table-row><table-cell><p>a</p>"
                       "</table-cell><table-cell><p>b</p></table-cell></table-row></table></body></d>"}),
              "One two\n\na | b"),
    "k.xlsx": (workbook(Sheet1=[["name", "bar"], ["P7", 8.5]]), "name | bar\nP7 | 8.5"),
    "l.rtf": (b"\n{\\rtf1\\ansi\\ansicpg1252 Gr\\'fc\\'dfe.\\par {\\b Oil} it.}", "Grüße.\n\nOil it."),
}
NOT_READ = {"bad.json": b"{", "cfg.json": b'{"a": 1}', "bad.odt": b"PK\x03\x04",
            "broken.odt": archive({"content.xml": "<a><b>"}), "none.pptx": archive({"a": "b"}),
            "bad.xlsx": b"PK\x03\x04", "none.xlsx": archive({"a": "b"}), "old.xlsx": b"\xd0\xcf\x11\xe0 of Excel 97",
            "text.rtf": b"no RTF", "empty.rtf": b"{\\rtf1}", "empty.xlsx": workbook(Sheet1=[]),
            "none.epub": archive({"META-INF/container.xml": "<a/>"}), "x.eml": b"\x00\x01", "e.csv": b"\n"}


@pytest.mark.parametrize("data, wanted", [
    ({"How do I reset it?": "Press the red button.", "Where is it?": "It is below the lid."},
     "How do I reset it?: Press the red button.\n\nWhere is it?: It is below the lid."),
    ({"version": 2, "faq": {"p1": "Pumps move the water.", "p2": "Valves stop the water."}},
     "p1: Pumps move the water.\n\np2: Valves stop the water."),
    ({"a1": {"title": "Pump", "text": "It moves the water."}, "a2": {"title": "Valve", "text": "It stops the water."}},
     "name: a1; title: Pump\nIt moves the water.\n\nname: a2; title: Valve\nIt stops the water."),
    ({"home": {"title": "Welcome to us"}, "about": {"text": "We sell pumps and valves."}},
     "home: title: Welcome to us; about: text: We sell pumps and valves.")])
def test_an_object_that_names_its_rows_is_a_list_of_them(data, wanted):
    assert words(parse_json_rows(json.dumps(data))).strip() == wanted


def test_notes_of_rtf_are_read_and_what_it_hides_is_not():
    raw = rb"{\rtf1 Hot{\footnote {\super 1} Above 60.} water{\v hidden} flows.{\*\atnauthor Ann}{\*\annotation Really?}\par}"
    assert parse_rtf(raw)[0].text == "Hot 1 Above 60. water flows. Really?"
    assert parse_rtf(rb"{\rtf1{\pntext 1.\tab}One\par{\pntext 2.\tab}Two\par}")[0].heading == ""


def test_an_item_is_no_title():
    assert parse_text("- one\n\n- two")[0].heading == "" and parse_text("## One\n\nText.")[0].heading == "One"


def test_rows_and_numbers_of_rtf_and_words_around_a_frame():
    rtf = rb"{\rtf1\ansi {\pntext\f0 1.\tab}Open it\par {\listtext 2.\tab}Close it\par \trowd a\cell b\cell\row c\cell 4\cell\row}"
    assert words(parse_rtf(rtf)).split()[:6] == "1. Open it 2. Close it".split()
    assert "a | b\nc | 4" in words(parse_rtf(rtf))
    frame = "<p>See<frame><title>The pump</title></frame>.</p>"
    assert words(parse_odf(archive({"content.xml": f"<document><body><text>{frame}</text></body></document>"}))) == (
        " See The pump .")


@pytest.mark.parametrize("source, wanted", [
    ("```{dropdown} How do I reset?\n:open:\n\nPress **it**.\n```", "How do I reset?\n\nPress it."),
    ("```{admonition} Mind *this*\n---\nclass: hot\n---\nText\n```", "Mind this\n\nText"),
    ("````{tab-set}\n```{tab-item} Linux\n`apt`\n```\n````", "Linux\n\napt"),
    ("```{versionadded} 1.0\nNew x.\n```", "New in version 1.0\n\nNew x."), (":::{deprecated} 2.0\nUse y.\n:::",
                                                                          "Deprecated since version 2.0\n\nUse y."),
    ("```{image} a.png\n:alt: A pump\n```\n\n```{toctree}\na\n```", "A pump"), ("```{python}\nx = 1\n```", "x = 1"),
    ('<Tabs>\n<TabItem value="a" label="Linux">\n\nRun **it**.\n\n</TabItem>\n</Tabs>', "Linux\n\nRun it."),
    ('<Card title="Hot pump" />\n\nUse `<Card>`.\n\n```jsx\n<Card>\n```', "Hot pump\n\nUse <Card>.\n\n<Card>"),
    ("```{eval-rst}\n.. autofunction:: echo\n\n.. versionadded:: 1.0\n```\n\n```{contents}\n:depth: 1\n```", "New in version 1.0"),
    ("```{eval-rst}\n.. click:example::\n\n    if x:\n        echo('a\\nb')\n```", "if x:\n    echo('a\\nb')"),
    ("```{code-block} python\n:linenos:\n\nx = 1\n```\n\n```{currentmodule} click\n```", "x = 1"),
    ("Tags:\n\n<Item>", "Tags:\n\n<Item>")])
def test_directives_in_backquotes_and_components_of_mdx(source, wanted):
    assert words(parse_markdown(source)).strip() == wanted


LIST = "* - Name\n  - Price\n* - Pump\n  - 12\n"
CSV = ':header: "Name", "Price"\n\n"Pump", 12\n'


@pytest.mark.parametrize("source, wanted", [
    (f"```{{list-table}} Prices\n:header-rows: 1\n\n{LIST}```", "Prices\n\nName | Price\nPump | 12"),
    (f":::{{list-table}} Prices\n:header-rows: 1\n\n{LIST}:::", "Prices\n\nName | Price\nPump | 12"),
    (f"```{{csv-table}} Prices\n{CSV}```", "Prices\n\nName | Price\nPump | 12"),
    (":::{note}\n:class: dropdown\nMind the *lid*.\n:::\nMore.", "Note\n\nMind the lid.\n\nMore."),
    (":::{figure} pump.png\n:alt: A red pump\n\nIn the hall.\n:::", "A red pump\n\nIn the hall."),
    ("::::{tab-set}\n:::{tab-item} Linux\n:sync: l\n```sh\napt :::\n```\n:::\n::::\nEnd.", "Linux\n\napt :::\n\nEnd."),
    ("```{code-block} python\n:linenos:\n:caption: a.py\nx = 1\n```", "a.py\n\nx = 1"),
    ("~~~\n:::{note}\nAs code.\n:::\n~~~", ":::{note}\nAs code.\n:::"), ("```{include} b.md\n```\nText.", "Text."),
    (":::{note}\nNever closed.", "Note\n\nNever closed."), (":::tip Docs\nText.\n:::", "Docs\n\nText.")])
def test_directives_between_colons_and_their_tables(source, wanted):
    assert "\n\n".join(s.text for s in parse_markdown(source)) == wanted


@pytest.mark.parametrize("source, wanted", [
    ('<div class="grid" markdown>\n## Pumps\nThey are *red*.\n</div>', "Pumps They are red."), ("--8<-- \"a.md\"\n\nText.", "Text."),
    ("--8<--\na.md\n--8<--\n\nText.", "Text."),
    ("```{python}\n#| label: a\n#| fig-cap: \"A pump\"\nplot(x)\n#| y\n```", "A pump\n\nplot(x)\n#| y")])
def test_marks_of_site_builders_are_no_text(source, wanted):
    found = parse_markdown(source)
    assert words(found).strip() == wanted


def test_a_title_with_a_short_line_under_it_is_read_once():
    assert parse_rst("A long title here\n=====\n\nText.\n") == [Section("A long title here", "Text.", 1)]
    assert "keep me" in words(parse_rst("T\n=\n\n.. table::\n\n   keep me\n\nText.\n"))     # what cannot be read stays


def test_the_mark_of_a_note_is_no_part_of_the_word_before_it():
    page = ("<p>Hot<sup><a href='#n'>1</a></sup> is<sup><a href='#m'>[2]</a></sup> 10<sup>6</sup> m<sup>2</sup>.</p>"
            "<ol><li id=n>Above 60. <a href='#r'>↩</a></ol>")
    assert parse_html(page)[0].text == "Hot 1 is[2] 10^6 m2.\n\n1. Above 60."
    chapter = ("<html xmlns='http://www.w3.org/1999/xhtml'><body><h1>One</h1><p>Hot<a epub:type='noteref' href='#n'>1</a> wa<span "
               "epub:type='pagebreak'>7</span>ter.</p></body></html>")
    parts = {"META-INF/container.xml": "<c><rootfile full-path='c.opf'/></c>", "n.html": "<h1>Contents</h1><p>One</p>", "p.html": chapter,
             "c.opf": "<p><title>Book</title><item id='n' href='n.html' properties='nav'/><item id='a' href='p.html'/>"
                      "<itemref idref='n'/><itemref idref='a'/></p>"}
    assert [(s.heading, s.text) for s in parse_epub(archive(parts))] == [("Book", ""), ("One", "Hot 1 water.")]


def test_the_title_of_a_page_for_pandoc():
    assert parse_markdown("% The pump\n% Ann\n% May 2024\n\nIt is red.") == [Section("The pump", "It is red.", 1)]


@pytest.mark.parametrize("source, wanted", [
    ("/// note | Mind the lid\n\nIt is *hot*.\n\n///\n\nEnd.", "Mind the lid\n\nIt is hot.\n\nEnd."),
    ("//// tab | Python 3.9+\n\n/// tip\n\nUse it.\n\n///\n\n////\n\nEnd.", "Python 3.9+\n\nTip\n\nUse it.\n\nEnd."),
    ("/// details | More\n    type: warning\n    open: True\n\nText.\n///\n\nEnd.", "More\n\nText.\n\nEnd."),
    ("```cpp\n/// tip\n```\n\n/// two words", "/// tip\n\n/// two words"),
    ("a\n\n```py\n{!../src/x.py!}\n```\n\n{* ../src/x.py hl[1:3] *}\n\n--8<-- \"x.md\"\n\nb", "a\n\nb"),
    ("a\n\n<<< @/x.js{2}\n\n[!INCLUDE [x](./x.md)]\n\n:::code language=\"cs\" source=\"x.cs\":::\n\nb", "a\n\nb"),
    ("::: moniker range=\">= 8.0\"\n\na\n\n::: moniker-end\n\n:::image source=\"x.png\" alt-text=\"A pump\":::", "a\n\nA pump"),
    ("```pascal\n{* a remark *}\n```\n\n```\n{!! $name !!}\n```", "{* a remark *}\n\n{!! $name !!}"),
    ("## Oil { #oil }\n\nPress ++ctrl+c++ :material-check:{ .big } now.\n{ .annotate }", " Oil Press ctrl+c now."),
    ("i++ and j++, {x}\n\n{ x }", "i++ and j++, {x}\n\n{ x }"),
    ("::: {.callout-note}\n## Mind\nx\n:::\n\n::: callout-tip\ny\n:::\n\n::: column-margin\nz\n:::", " Mind x\n\nTip\n\ny\n\nz"),
    ('''![Cap](x.png){#fig-a fig-alt="A big pump" width=3}\n\n|a|\n|-|\n|1|\n\n: Rates {#tbl-a}''',
     "Cap A big pump\n\na\n1\n\nRates"),
    ("```{python}\n#| echo: false\n#| fig-cap: \"Ten pumps\"\nx = 1  # | y\n```", "Ten pumps\n\nx = 1  # | y"),
    ("  Left   Right\n-------  -------\n  12     13\n\nb", "Left | Right\n12 | 13\n\nb"),
    ("{% include note.html content=\"Mind **this**.\" %}\n\nUse `{% include %}`.", "Mind this.\n\nUse {% include %}."),
    ("{{#include x.rs:3}}\n\n```rust\n{{#rustdoc_include y.rs}}\n```\n\n{{#tab name=\"Linux\" }}\n\nb", "Linux\n\nb"),
    ("::: tip Mind *this*\nx\n:::\n\nA <Badge type=\"tip\" text=\"new\" /> b, List<Item>", "Mind this\n\nx\n\nA new b, List<Item>")])
def test_what_other_programs_add_to_markdown(source, wanted):
    assert words(parse_markdown(source)).strip().replace("\n", " ") == wanted.strip().replace("\n", " ")


def test_code_of_jekyll_keeps_its_lines():
    text = "{% highlight ruby linenos %}\ndef x\n  `1`\nend\n{% endhighlight %}\n\nb"
    assert parse_markdown(text)[0].text == "def x\n  `1`\nend\n\nb"
    assert parse_markdown(f"```\n{text}\n```")[0].text == text
    assert "Linux" in parse_markdown('{{% tab name="Linux" %}}\nRun it.\n{{% /tab %}}')[0].text


@pytest.mark.parametrize("head", ["=", "-"])
def test_tables_of_pandoc_are_tables(head):
    drawn = "+-----+------+\n| Age | Name |\n+-----+------+\n| 1   | Ann  |\n|     | *x*  |\n+-----+------+\n| all young  |\n+-----+------+"
    text = parse_markdown(f"a\n\n{drawn}\n\nb".replace(
        "Name |\n+-----+------+", f"Name |\n+{head * 5}+{head * 6}+"))[0].text
    assert text.split("\n") == ["a", "", "Age | Name", "1 | Ann x", "all young | ", "", "b"]
    assert parse_markdown(f"```\n{drawn}\n```")[0].text == drawn


@pytest.mark.parametrize("front", ["---\nquestion: How do I pay?\nid: 3\n---\n", "+++\nquestion = \"How do I pay?\"\n+++\n",
                                   '{"question": "How do I pay?"}\n', "---\nquestion: How do I pay?\nx: a: b\n---\n"])
def test_the_question_in_front_matter_is_the_title(front):
    assert [(s.heading, s.text) for s in parse_markdown(front + "By card.")] == [("How do I pay?", "By card.")]
    assert parse_markdown("---\nquestion: x\ntitle: 1.10\n---\nBy card.")[0].heading == "1.10"


def test_what_changed_in_a_version_is_said_to_have_changed():
    said = words(parse_rst(".. versionadded:: 1.0\n\n.. deprecated:: 2.0 Use y.\n\n.. seealso:: z\n")).strip()
    assert said == "New in version 1.0\n\nDeprecated since version 2.0 Use y.\n\nSee also z"


def test_items_of_asciidoc_have_their_numbers():
    text = "= T\n\n. one\n+\nmore\n+\n----\ncode\n----\n.. sub\n. two\n\nText.\n\n. again\n\n[start=4]\n. four"
    assert parse_asciidoc(text)[0].text == "1. one\nmore\n code\na. sub\n2. two\n\nText.\n\n1. again\n\n4. four"


def test_the_number_of_an_item_stays_with_it():
    text = "Do it:\n\n1. Open the lid\n2. Close it\n\n1. Open it.\n2. Close it.\n\ni. First part\nii. Second part"
    items = ["1. Open the lid", "2. Close it", "1. Open it.", "2. Close it.", "i. First part", "ii. Second part"]
    assert sentences(text) == ["Do it:", *items]
    assert not any(re.search(r"(?m)^\s*\w+\.$", p) for n in range(5, 40) for p in passages(text, n, 0))
    asked = make_pair(Document("1. Open the lid.\n2. Close it after a while."), "first_sentence", None)
    assert (asked.query, asked.positive) == ("Open the lid.", "2. Close it after a while.")


def test_items_of_opendocument_have_their_numbers():
    def level(n, kind="number", **how):
        said = " ".join(f'{name.replace("_", "-")}="{value}"' for name, value in how.items())
        return f'<list-level-style-{kind} level="{n}" {said}/>'
    styles = (f'<list-style name="L1">{level(1, num_format="1", num_suffix=".")}{level(2, num_format="a", num_suffix=")")}'
              f'</list-style><list-style name="L2">{level(1, "bullet")}</list-style><list-style name="L3">'
              f'{level(1, num_format="I", start_value=3)}{level(2, num_format="1", display_levels=2)}</list-style>')
    def lists(style, *items, **how):
        said = " ".join(f'{name.replace("_", "-")}="{value}"' for name, value in how.items())
        return (f'<list {f"style-name={chr(34)}{style}{chr(34)}" if style else ""} {said}>'
                + "".join(f"<list-item>{item}</list-item>" for item in items) + "</list>")
    body = (lists("L1", "<p>one</p>", "<p/>", "<p>three</p>" + lists("", "<p>x</p>", "<p>y</p>")) + "<p>Text</p>"
            + lists("L1", "<p>four</p>", continue_numbering="true") + lists("L1", "<p>new</p>") + lists("L2", "<p>b</p>")
            + lists("L3", "<p>c</p>" + lists("", "<p>d</p>")))
    found = parse_odf(archive({"content.xml": f"<d><styles>{styles}</styles><body><text>{body}</text></body></d>"}))
    assert found[0].text == "1. one\n3. three\na) x\nb) y\n\nText\n\n4. four\n1. new\nb\nIII c\nIII.1 d"


def test_what_readers_read_belongs_to_their_version(tmp_path):
    page = "<title>T</title><nav>Menu</nav><h1>One</h1><p>A &amp; b.<ol><li>x<li>y</ol><table><tr><td>1<td>2</table>"
    files = {"a.html": page, "a.md": "---\ntitle: T\n---\n# One\n\n1. x\n2. y\n\n| a | b |\n|-|-|\n| 1 | |\n\n> [!NOTE] z",
             "a.rst": "One\n===\n\n.. note:: x\n\n* y", "a.txt": "One\n\nSee Fig. 5, z. B. here. Then go on.",
             "a.org": "* One\nx", "a.adoc": "== One\n\n* x", "a.csv": "a,b\n1,2", "a.json": '[{"a": 1, "b": "x y z"}]',
             "a.srt": "1\n00:00:01,000 --> 00:00:02,000\nSaid.\n", "a.eml": "Subject: One\nFrom: a@b.c\n\nx\n"}
    for name, text in files.items():
        (tmp_path/name).write_text(text)
    (tmp_path/"a.pdf").write_bytes(pdf_bytes("One.", "Two."))
    (tmp_path/"a.docx").write_bytes(docx_bytes("One", "x"))
    read = sha256_text(repr([(d, d.metadata) for d in read_folder(tmp_path).documents]))[:12]
    assert (READER_VERSION, read) == (7, "0b4373188821"), \
        "a reader reads something else: raise READER_VERSION, so that indexes read their files again, and note both here"


def test_kinds_of_files(tmp_path):
    programs = {"run": b"#!/bin/sh\n", "prog": b"\x7fELF\x00"}
    for name, raw in {**{n: r for n, (r, _) in FILES.items()}, **NOT_READ, **programs}.items():
        (tmp_path/name).write_bytes(raw)
    found = read_folder(tmp_path)
    assert {d.source: d.text for d in found.documents} == {n: text for n, (_, text) in FILES.items()}
    assert {n for n, _ in found.skipped} == set(NOT_READ) and found.unread == {"(no ending)": 2}


def test_a_workbook_says_what_its_sheets_show():
    def change(book):
        sheet = book["Prices"]
        sheet["C3"].number_format = sheet["C4"].number_format = "0.0%"
        book["Notes"].sheet_state = "hidden"
    day, moment = datetime.datetime(2024, 5, 1), datetime.datetime(2024, 5, 1, 9, 30)
    raw = workbook(change, Prices=[
        [None, None, None, None], [None, "part", "rebate", "since"], [None, "pump\nP7", .05, day], [None, "valve", 1, moment],
        [None, True, 3.0, datetime.time(7)], [None, .1 + .2, "=B2&B3", "#N/A"]], Notes=[["not shown"]], Empty=[], Two=[["x"]])
    first, second = parse_workbook(raw)
    assert (first.heading, second.heading, second.text) == ("Prices", "Two", "x")
    assert first.text.split("\n") == [
        "part | rebate | since", "pump P7 | 5% | 2024-05-01", "valve | 100% | 2024-05-01 09:30:00", "TRUE | 3 | 07:00:00", "0.3"]
    assert parse_workbook(workbook(Sheet1=[["order", 1234567890123456]]))[0].text == "order | 1234567890123456"
    def shapes(book):
        for cell, shape in zip(book["One"][1], ("00000", '"ART-"0000', "0.00", "[h]:mm:ss"), strict=True):
            cell.number_format = shape
    shown = workbook(shapes, One=[[1067, 42, 1.5, datetime.timedelta(hours=26, minutes=3)]])
    assert parse_workbook(shown)[0].text == "01067 | ART-0042 | 1.5 | 26:03"
    rows = [["part", "bar"], *([f"P{i}", i] for i in range(200))]
    narrow = io.BytesIO()     # a program that writes the size of its sheet wrong
    with zipfile.ZipFile(io.BytesIO(workbook(Tabelle1=rows))) as old, zipfile.ZipFile(narrow, "w") as new:
        for name in old.namelist():
            new.writestr(name, re.sub(rb'<dimension ref="[^"]*"', b'<dimension ref="A1"', old.read(name)))
    (found,) = parse_workbook(narrow.getvalue())
    assert found.heading == "" and found.text.endswith("P199 | 199") and found.text.count("\n") == 200
    with pytest.raises(UserError, match="a table of more than 2 MB"):
        parse_workbook(workbook(Sheet1=[["x" * 30_000]] * 80))
    with pytest.raises(UserError, match="protected by a password"):
        parse_workbook(b"\xd0\xcf\x11\xe0")


def test_what_is_remarked_on_cells_and_drawn_beside_them_is_read():
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (("Name", "Price", "Stock"), ("Pump", 40, 3), ("Valve", 7, None)):
        sheet.append(row)
    for cell, said in (("B1", "Ann:\nwithout tax"), ("B2", "estimated"), ("C3", "ask the dealer")):
        sheet[cell].comment = openpyxl.comments.Comment(said, "Ann")
    chart = openpyxl.chart.BarChart()
    chart.title = "Prices of 2024"
    chart.add_data(openpyxl.chart.Reference(sheet, min_col=2, min_row=1, max_row=3))
    sheet.add_chart(chart, "E5")
    raw = io.BytesIO()
    book.save(raw)
    assert words(parse_workbook(raw.getvalue())).strip() == (
        "Name | Price | Stock\nPump | 40 (estimated) | 3\nValve | 7 | ask the dealer\n\n"
        "Prices of 2024\nPrice: Ann: without tax")
    parts = {name: zipfile.ZipFile(raw).read(name) for name in zipfile.ZipFile(raw).namelist()}
    old = next(name for name in parts if "comments/" in name)
    links = "xl/worksheets/_rels/sheet1.xml.rels"     # a newer comment, and what stands in for it
    parts[old] = re.sub(rb"estimated", b"[Threaded comment] Your version of Excel \xe2\x80\xa6", parts[old])
    parts["xl/threadedComments/threadedComment1.xml"] = (
        b'<c><threadedComment ref="B2"><text>Really?</text></threadedComment>'
        b'<threadedComment ref="B2"><text>Yes.</text></threadedComment></c>')
    parts[links] = parts[links].replace(
        b"</Relationships>", b'<Relationship Id="t" Type="x" Target="/xl/threadedComments/threadedComment1.xml"/></Relationships>')
    assert "Pump | 40 (Really?; Yes.) | 3" in words(parse_workbook(archive(parts)))
    sheet = ('<d><body><spreadsheet><table name="P"><table-row><table-cell><annotation><creator>Ann</creator><p>in euro</p>'
             '</annotation><p>Price</p></table-cell></table-row><table-row><table-cell><p>40</p></table-cell></table-row></table>'
             '</spreadsheet></body></d>')
    assert parse_odf(archive({"content.xml": sheet}))[0].text == "Price (in euro)\n40"


def test_formulas_without_a_value_are_counted(caplog):
    rows = [["part", "sum"], ["pump", "=1+1"], ["valve", "=A2&A3"]]
    assert parse_workbook(workbook(Sheet1=rows), "a.xlsx")[0].text == "part | sum\npump\nvalve"
    assert "2 formulas of a.xlsx without a value" in caplog.text
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(workbook(Sheet1=rows))) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():     # as a spreadsheet program saves them; the second says the empty text
            raw = re.sub(rb"(<f>1\+1</f>)<v\s*/?>(</v>)?", rb"\1<v>2</v>", old.read(name))
            new.writestr(name, raw.replace(b'<c r="B3"><f>', b'<c r="B3" t="str"><f>'))
    caplog.clear()
    assert parse_workbook(made.getvalue())[0].text == "part | sum\npump | 2\nvalve" and not caplog.text


@pytest.mark.parametrize("kind", ["vnd.ms-word.document.macroEnabled", "vnd.ms-word.template.macroEnabledTemplate",
                                  "vnd.openxmlformats-officedocument.wordprocessingml.template"])
def test_word_files_with_macros_and_templates(kind):
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(docx_bytes("Head", "Text"))) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            usual = b"vnd.openxmlformats-officedocument.wordprocessingml.document.main"
            new.writestr(name, old.read(name).replace(usual, kind.encode() + b".main"))
    assert words(parse_docx(made.getvalue())) == "Head Text"


def test_kinds_that_are_as_others():
    alike = {".docx": "docm dotx dotm", ".pptx": "pptm ppsx ppsm potx potm", ".xlsx": "xlsm xltx xltm", ".odt": "ott"}
    for kind, others in alike.items():
        assert {BINARY_PARSERS[f".{other}"] for other in others.split()} == {BINARY_PARSERS[kind]}


def test_slides_in_their_order():
    names = ('xmlns:p="p" xmlns:a="a" xmlns:r="r"')
    shape = "<p:sp><p:ph type='{}'/><a:p><a:r><a:t>{}</a:t></a:r></a:p></p:sp>"
    made = archive({
        "ppt/presentation.xml": f"<p:x {names}><p:sldId id='1' r:id='b'/><p:sldId id='2' r:id='a'/></p:x>",
        "ppt/_rels/presentation.xml.rels": "<R><R Id='a' Target='slides/1.xml'/><R Id='b' Target='slides/2.xml'/></R>",
        "ppt/slides/1.xml": f"<p:x {names}>{shape.format('title', 'Second')}{shape.format('body', 'Close it.')}</p:x>",
        "ppt/slides/2.xml": f"<p:x {names}>{shape.format('title', 'First')}{shape.format('sldNum', '1')}</p:x>",
        "ppt/slides/_rels/2.xml.rels": "<R><R Id='a' Target='../notesSlides/n.xml'/></R>",
        "ppt/notesSlides/n.xml": f"<p:x {names}>{shape.format('body', 'Oil it.')}</p:x>"})
    assert [(s.heading, s.text, s.page) for s in parse_slides(made)] == [
        ("First", "Oil it.", 1), ("Second", "Close it.", 2)]


def test_asciidoc_and_org_keep_code_apart():
    found = parse_asciidoc("= Pump\n:toc:\n\n== Oil\nText.\n\n[source]\n----\n== no heading\n----\n// no\n")
    assert [s.heading for s in found] == ["Pump", "Oil"]
    assert "== no heading" in found[1].text and "// no" not in found[1].text
    found = parse_org("#+TITLE: Pump\n* Oil :tag:\nText.\n#+BEGIN_SRC sh\n# kept\n#+END_SRC\n# gone\n")
    assert [s.heading for s in found] == ["Pump", "Oil"] and "# kept" in found[1].text and "gone" not in found[1].text
    assert parse_odf(archive({"content.xml": "<d><body><h outline-level='2'>H</h></body></d>"}))[0].heading == "H"


def test_blocks_of_comments_of_asciidoc():
    source = "One.\n////\nnot said\n----\nnor this\n----\n////\nTwo.\n\n----\n////\nbanner\n////\n----\n"
    assert words(parse_asciidoc(source)).split() == ["One.", "Two.", "////", "banner", "////"]


@pytest.mark.parametrize("source, wanted", [
    ("See https://x.y/z[our site^], link:a.html[the\nguide], xref:b.adoc#c[part b], <<oil>>, <<oil,the oil>>.",
     "See our site, the guide, part b, oil, the oil."),
    ("Write to mailto:a@b.c[us], or see https://x.y[].", "Write to us, or see https://x.y."),
    (":site: https://x.y\n:guide: {site}/g\n:name: P7\n\nThe {name}, {guide}[its guide], {other}, \\{name}.",
     "The P7, its guide, {other}, {name}."),
    ("image::a.png[A valve,300]\n\nPress image:b.png[] kbd:[Ctrl+C], menu:File[Save].",
     "A valve\n\nPress  Ctrl+C, File > Save."),
    ("[WARNING]\n.Hot\n====\nThe *motor* burns.\n====\n\nNOTE: Use `x_a`, not _y_.",
     "Warning:\nHot\nThe motor burns.\n\nNOTE: Use x_a, not y."),
    ("|===\n|Mode |Speed\n\n|slow\n|10 l\n2+|none\n|===", "Mode | Speed\nslow | 10 l\nnone |"),
    ('[cols="1,2"]\n|===\n|slow\n|a\\|b\n|===', "slow | a|b"),
    ("* one\n** two\n+\nmore\n\n. three\n\nCPU:: The brain.", "one\ntwo\nmore\n\n1. three\n\nCPU: The brain."),
    ("include::a.adoc[]\nifdef::x[]\n[[here]]\nA wordfootnote:[a note], 10^6^ and H~2~O, "
     "anchor:b[]C++, std::map.\nendif::[]",
     "A word (a note), 10^6 and H2O, C++, std::map."),
    ("[source,sh]\n----\nrun <<EOF *a* {b}\n * x::\n----", "run <<EOF *a* {b}\n  * x::"),
    ("a_b_c, 2 * 3 * 4, f(*args), x[0]", "a_b_c, 2 * 3 * 4, f(*args), x[0]")])
def test_asciidoc_is_read_as_it_is_shown(source, wanted):
    assert words(parse_asciidoc(source)).strip() == wanted


def test_org_is_read_as_it_is_shown():
    source = ("#+TITLE: Notes\n#+DESCRIPTION: On pumps.\n* TODO [#A] Pumps [1/2] :work:\n:PROPERTIES:\n:ID: 1\n:END:\n"
              "*Bold*, =code= and ~verb~, a*b and 2 * 3 * 4.\nA note[fn:1] here[fn:: in line].\n#+CAPTION: Prices\n"
              "| Name | Price |\n|------+-------|\n| Pump |    12 |\n#+RESULTS:\n: 4 = x = y\n\n[fn:1] It is *red*.")
    assert [(s.heading, s.text) for s in parse_org(source)] == [
        ("Notes", ""), ("", "On pumps."), ("TODO Pumps",
         "Bold, code and verb, a*b and 2 * 3 * 4.\nA note here (in line).\nPrices\nName | Price\nPump | 12\n4 = x = y\n\n"
         "It is red.")]


def test_latex_is_read_as_it_is_shown(tmp_path):
    source = r"""\documentclass{article}\title{Pumps of \emph{Hall} B\thanks{X}}\author{Ann}
\begin{document}\maketitle
At 5\% load. % not \section{this}
\section[Short]{Red \textbf{pumps}}\label{a}
It is \emph{\textbf{red}}~\cite[p.~3]{x}, caf\'e na\"{\i}ve Stra\ss e --- \href{http://x}{a site}.\footnote{Since 2024.}
So $E = \alpha c^2$.
\subsection{Seals}
\begin{itemize}
  \item one
  \item[Two] more
\end{itemize}
\begin{table}[ht]\centering\caption{Prices}
\begin{tabular}{lr}\hline
Name & Price \\ \hline
Pump & 40 \\
\end{tabular}\end{table}
\begin{verbatim}
x = 1 % \section{no}
\end{verbatim}
\input{valves}
\end{document}"""
    (tmp_path/"a.tex").write_text(source)
    assert [(d.context, d.text) for d in read_file(tmp_path/"a.tex")] == [
        ("Pumps of Hall B", "At 5% load."),
        ("Pumps of Hall B › Red pumps", 'It is red, café naïve Straße — a site. (Since 2024.)\nSo $E = \\alpha c^2$.'),
        ("Pumps of Hall B › Red pumps › Seals", "- one\n\nTwo: more\n\nPrices\n\nName | Price\nPump | 40\n\nx = 1 % \\section{no}")]
    for wall in ("\\section{", "$", "\\begin{equation}", "\\a{b{c", "\\begin{x}[", "{", "\\verb|"):
        parse_latex(wall*2000)


def test_notes_of_a_notebook(tmp_path):
    page = ('<?xml version="1.0"?><!DOCTYPE en-note SYSTEM "x.dtd"><en-note><h1>Care</h1><div>It needs <b>oil</b>.</div>'
            '<en-media hash="a"/></en-note>')
    note = "<note><title>Pump &amp; valve</title><content><![CDATA[{}]]></content><resource><data>{}</data></resource></note>"
    (tmp_path/"a.enex").write_text('<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE en-export SYSTEM "y.dtd"><en-export>'
                                   + note.format(page, "aGVs"*900) + note.format("<en-note/>", "") + "</en-export>")
    assert [(d.context, d.text) for d in read_file(tmp_path/"a.enex")] == [
        ("Pump & valve › Care", "It needs oil."), ("Pump & valve", "Pump & valve")]


def test_entries_of_a_calendar(tmp_path):
    event = ("BEGIN:VEVENT\nSUMMARY:Service of\n  pump 3\nDTSTART;TZID=Europe/Berlin:20240301T100000\nDTEND:20240301T113000\n"
             "LOCATION:Hall B\\, left\nDESCRIPTION:Bring keys\\nand oil.\nATTENDEE;CN=\"Ann: A\":mailto:a@b.c\nRRULE:FREQ=WEEKLY\n"
             "BEGIN:VALARM\nDESCRIPTION:Reminder\nEND:VALARM\nEND:VEVENT\n")
    days = "BEGIN:VEVENT\nSUMMARY:Fair\nDTSTART;VALUE=DATE:20240228\nDTEND;VALUE=DATE:20240301\nEND:VEVENT\n"
    task = "BEGIN:VTODO\nSUMMARY:Order oil\nDUE:20241399\nEND:VTODO\n"
    (tmp_path/"a.ics").write_bytes(f"BEGIN:VCALENDAR\nX-WR-CALNAME:Work\n{event}{days}{task}END:VCALENDAR\n".replace("\n", "\r\n").encode())
    assert [(d.title, d.heading, d.text) for d in read_file(tmp_path/"a.ics")] == [
        ("Work", "Service of pump 3", "Date: 2024-03-01 10:00 to 11:30\nRepeated: weekly\nPlace: Hall B, left\nWith: Ann: A\n\n"
                                      "Bring keys\nand oil."),
        ("Work", "Fair", "Date: 2024-02-28 to 2024-02-29"), ("Work", "Order oil", "Due: 2024-13-99")]


def test_links_and_comments_of_org():
    text = "See [[https://x.y][the site]], [[file:a.org]], a[0].\n#+BEGIN_COMMENT\nnot said\n#+END_COMMENT\nEnd.\n"
    assert words(parse_org(text)).strip() == "See the site, a.org, a[0].\nEnd."
    code = "#+begin_src\nx[[1]]; [[ -f x ]]\n#+end_src\n"     # no links
    assert words(parse_org(code)).strip() == "x[[1]]; [[ -f x ]]"


@pytest.mark.parametrize("said", [
    ["It was sold in Jan. 2020 to J. R. Smith.", "See Fig. 3 and No. 5, p. 12.", "Then go."],
    ["Das sind z. B. Pumpen, d. h. Geräte vom 3. Oktober 1990.", "Vgl. Abb. 4 und Nr. 5 vom 3. 10. 1990.", "Ende."],
    ["Utiliser p. ex. le filtre.", "Voir art. 5 et M. Dupont.", "Fin."],
    ["1. Install it.", "2. Run it.", "3. Stop it."],
    ["It happened in 1990.", "It is in HTML.", "The other is over.", "Now he has 12.", "The end."],
    ["It was 10 mm.", "Then 3 hrs.", "Then 5 kg."],
    ["i like it.", "then we go.", "now it ends."]])
def test_a_full_stop_after_an_abbreviation_ends_no_sentence(said):
    assert sentences(" ".join(said)) == said
    assert passages(" ".join(said), 1 + max(map(estimate_tokens, said)), 0)[0].startswith(said[0])


def test_lines_of_languages_without_spaces_are_closed_up():
    for kind, source in ((parse_markdown, "水を\n動かす。弁\n  を ABC\nと呼ぶ。"), (parse_html, "<p>水を\n動かす。弁\n  を ABC\nと呼ぶ。</p>"),
                         (parse_rst, "水を\n動かす。弁\nを ABC\nと呼ぶ。")):
        assert kind(source)[0].text == "水を動かす。弁を ABC と呼ぶ。"
    assert parse_html("<p>물을\n옮긴다.</p><pre>水\n弁</pre>")[0].text == "물을 옮긴다.\n\n水\n弁"


def test_files_that_a_text_includes_are_no_text():
    source = ".. include:: NOTE.txt\n   :start-line: 3\n\nText.\n\n.. csv-table:: T\n   :file: a.csv\n\n.. include:: B.txt\n"
    assert words(parse_rst(source)).strip() == "Text."


def test_what_a_terminal_shows_as_colours_or_bold_is_no_text():
    assert parse_text("\x1b[31mERROR\x1b[0m at \x1b]8;;http://x\x07valve\x1b]8;;\x07 \x1b[1;33mopen\x1b[m")[0].text == "ERROR at valve open"
    assert parse_text("N\x08NA\x08AM\x08ME\x08E\n  pump - _\x08m_\x08oves")[0].text == "NAME\n  pump - moves"


@pytest.mark.parametrize("source, heading, text", [
    ("Pump 2.16\n=========\n\nOil\n---\nText.", "Pump 2.16", "Oil\n---\nText."), ("Pump\n----\nText.", "Pump", "Text."),
    ("Pump\n-----------\nText.", "", "Pump\n-----------\nText."), ("Pump\n====", "", "Pump\n====")])
def test_a_first_line_that_is_underlined_is_the_title(source, heading, text):
    assert [(s.heading, s.text) for s in parse_text(source)] == [(heading, text)]


def test_lists_of_contents_are_no_text():
    found = parse_rst(".. contents:: Inside\n\nOil\n===\n\nText.\n\nAir\n===\n\nMore.\n")
    assert words(found) == "Oil Text. Air More."
    body = "<table-of-content><index-body><p>Oil....4</p></index-body></table-of-content><h outline-level='1'>Oil</h>"
    assert words(parse_odf(archive({"content.xml": f"<d><body>{body}</body></d>"}))).strip() == "Oil"


def test_what_is_no_document_of_a_folder_is_left_out_and_counted(tmp_path):
    for name in ("a.md", "node_modules/x/README.md", "env/r.md", "idx/model/README.md", "docs/b.md"):
        (tmp_path/name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path/name).write_text("# T\n\nwords")
    (tmp_path/"env/pyvenv.cfg").write_text("home = x\n")
    (tmp_path/"idx/manifest.json").write_text("{}")
    (tmp_path/"idx/documents.lance").mkdir()
    for name in ("run/train_config.json", "run/training.log", "run/report.json", "base/config.json", "base/README.md",
                 "base/model.safetensors"):
        (tmp_path/name).parent.mkdir(exist_ok=True)
        (tmp_path/name).write_text('[{"text": "words"}]')
    os.symlink("a.md", tmp_path/"again.md")
    os.symlink(tmp_path/"docs/b.md", tmp_path/"b_again.md")
    os.mkfifo(tmp_path/"pipe.md")
    listing = list_folder(tmp_path)
    assert list(listing.files) == ["a.md", "docs/b.md"]
    assert listing.unread == {"index of ragcun": 1, "model": 1, "node_modules/": 1, "training run of ragcun": 1,
                              "virtual environment": 1}
    assert listing.faults == [("pipe.md", "is neither a file nor a folder")]
    assert list(list_folder(tmp_path/"node_modules").files) == ["x/README.md"]     # asked for by its name


def test_scanned_pages_are_named(monkeypatch, caplog):
    from ragcun.data import pdf as module

    class Page(dict):
        annotations = ()
        def __init__(self, text, picture):
            super().__init__({"/Resources": {"/XObject": Drawn(a=Drawn({"/Subtype": "/Image"}))}} if picture else {})
            self.text = text
        def extract_text(self, **how):
            return self.text

    class Drawn(dict):
        def get_object(self):
            return self

    assert module._page_texts([Page("", True), Page("words", False)], "a.pdf")[1] == "words\n"[:-1]
    assert "1 of 2 pages of a.pdf are only pictures" in caplog.text
    with pytest.raises(UserError, match="only pictures of pages"):
        module._page_texts([Page("", True)], "a.pdf")
    for glyphs in ("/G21/G22 /G3/G24/G25/G26 /G27/G8", "\ue001\ue002\ue003\ue004 \ufffd\ufffd\ufffd\ufffd 7"):
        caplog.clear()
        assert module._page_texts([Page(glyphs, False), Page("The sizes /A4/A5/B5.", False)], "a.pdf") == [
            "", "The sizes /A4/A5/B5."]
        assert "1 of 2 pages of a.pdf are left out: their fonts do not say which letters" in caplog.text
        with pytest.raises(UserError, match="fonts do not say which letters"):
            module._page_texts([Page(glyphs, False), Page("", True)], "a.pdf")


# messages


def mail(body, head="Content-Type: text/plain", encoding="utf-8", parse=True):
    raw = f"From: a@b.c\nSubject: x\nMIME-Version: 1.0\n{head}\n\n{body}".encode(encoding)
    return parse_message(raw)[0].text.removeprefix("From: a@b.c").strip() if parse else raw


GREETING = "Schöne Grüße aus Köln, der Preis ist 40 €."


@pytest.mark.parametrize("head, encoding", [
    ("X-No: type", "utf-8"), ("Content-Type: text/plain", "utf-8"), ("Content-Type: text/plain; charset=us-ascii", "utf-8"),
    ("Content-Type: text/plain; charset=utf-8", "cp1252"), ("Content-Type: text/plain; charset=us-ascii", "cp1252"),
    ("Content-Type: text/plain; charset=iso-8859-1", "cp1252"), ("Content-Type: text/plain; charset=x-unknown", "utf-8")])
def test_a_message_is_read_as_it_is_written_whatever_it_declares(head, encoding):
    assert mail(GREETING, head, encoding) == GREETING


def test_the_character_set_of_a_message_is_read_as_wide_as_it_is_used():
    assert mail("朱镕基 联通", "Content-Type: text/plain; charset=gb2312", "gbk") == "朱镕基 联通"
    assert mail("<p>Größe</p>", "Content-Type: text/html", "utf-8") == "Größe"
    assert parse_message("Subject: Schöne Größe für alle\nFrom: Jürgen <a@b.c>\n\nx".encode("cp1252"))[0].heading \
        == "Schöne Größe für alle"


def multi(kind, *parts):
    return "".join(f"--B\n{p}\n" for p in parts) + "--B--\n", f'Content-Type: multipart/{kind}; boundary="B"'


PLAIN, PAGE = "Content-Type: text/plain\n\n{}", "Content-Type: text/html\n\n<p>{}</p>"


def test_every_text_of_a_message_is_read_once():
    long = "The pump takes eight bar and no more, says the manual of the year."
    for said in ("", "See HTML."):
        assert mail(*multi("alternative", PLAIN.format(said), PAGE.format(long))) == long
    assert mail(*multi("alternative", PLAIN.format(long), PAGE.format(f"{long} More."))) == long
    assert mail(*multi("mixed", PLAIN.format("One."), PAGE.format("Two."), PLAIN.format("Three."))) == "One.\n\nTwo.\n\nThree."
    forwarded = "Content-Type: message/rfc822\n\n" + mail(long, parse=False).decode().replace("x\n", "inner\n", 1)
    assert mail(*multi("mixed", PLAIN.format("See below."), forwarded)) == f"See below.\n\ninner\n\nFrom: a@b.c\n\n{long}"
    file = 'Content-Type: text/plain\nContent-Disposition: attachment; filename="a.txt"\n\nhidden'
    assert mail(*multi("mixed", PLAIN.format("One."), file)) == "One.\n\nattached: a.txt"


FLOWED = "Content-Type: text/plain; format=flowed; delsp={}"


def test_lines_that_flow_are_paragraphs():
    assert mail("It is worn \nout; take \npart 7.\n\n  two spaces\n-- \nAnn", FLOWED.format("no")) \
        == "It is worn out; take part 7.\n\n two spaces\n--\nAnn"
    assert mail("ポンプ \nです。", FLOWED.format("yes")) == "ポンプです。"
    assert mail("> a \n> b \n>> c\nd", FLOWED.format("no")) == "> a b\n>> c\nd"     # a quote goes on in its own depth
    assert mail("It is worn \nout.") == "It is worn \nout."


@pytest.mark.parametrize("quote", [
    "On Monday, Bob wrote:\n> It leaks.\n>\n> > Earlier.\n", "On Monday, 1 May 2024, Bob\n<b@c.d> wrote:\n\n> It leaks.", "> It leaks.",
    "-----Original Message-----\nFrom: Bob\nTo: Ann\n\nIt leaks.", "From: Bob\nSent: Monday\nTo: Ann\n\nIt leaks."])
def test_an_answer_stands_apart_from_what_it_quotes(quote):
    raw = mail(f"Take part 7.\nClose it.\n\n{quote}", parse=False)
    own, below = parse_message(raw)
    assert own.text.endswith("Take part 7.\nClose it.") and "leaks" not in own.text
    assert below.text == quote.strip() and below.path == ("x",)
    assert len(parse_message(mail(quote, parse=False))) == 1     # nothing but a quote
    assert len(parse_message(mail("> See\n> below:", parse=False))) == 1


def test_a_message_of_a_subject_alone_is_read():
    assert [(s.heading, s.text) for s in parse_message(b"Subject: Call me\n\n")] == [("Call me", "")]


def test_answers_between_quotes_stay_with_them():
    text = "> It leaks.\n\nTake part 7.\n\n> It hums.\n\nThat is normal."
    assert [s.text.partition("\n\n")[2] for s in parse_message(mail(text, parse=False))] == [text]


def test_signs_that_a_reader_uses_itself_stop_no_text():
    assert parse_latex("a \x037\x03 b \\verb|x_1|.")[0].text == "a 7 b x_1."


def test_a_mailbox_is_known_by_its_content_and_the_foot_of_a_list_is_left_out(tmp_path):
    foot = f"{'_' * 47}\nPumps mailing list\nPumps at x.org\nhttps://x.org/listinfo/pumps\n\n"
    text = "".join(f"From ann at x.org  Mon Mar  4 10:0{i}:00 2024\nFrom: ann at x.org (Ann Smith)\nSubject: Leak {i}\n\n"
                   f"Close valve {i}.\n{foot}" for i in range(2))
    for name in ("2024-March.txt", "list.mbox"):
        (tmp_path/name).write_text(text)
    (tmp_path/"Inbox").write_text(text.replace("ann at x.org  Mon", "- Mon") + "\n" * 2_000_000)    # larger than a text may be
    (tmp_path/"notes.txt").write_text("From 10:00 on it is open.\nBring: tea")
    read = read_folder(tmp_path).documents
    assert [(d.source, d.heading or d.headings[-1], d.text) for d in read if d.source in ("2024-March.txt", "list.mbox")] == [
        (name, f"Leak {i}", f"From: Ann Smith <ann@x.org>\n\nClose valve {i}.")
        for name in ("2024-March.txt", "list.mbox") for i in range(2)]
    assert [d.source for d in read].count("Inbox") == 2
    assert [d.text for d in read if d.source == "notes.txt"] == ["From 10:00 on it is open.\nBring: tea"]


def test_all_messages_of_a_mailbox_and_of_a_maildir(tmp_path, caplog):
    head = b"From a@b.c Mon Jan  1 10:00:00 2024\n"
    box = head + mail("One.\n\n>From here on.", parse=False) + b"\n\n" + head + mail("From a to b.", parse=False)
    assert [(s.heading, s.level, s.text.partition("\n\n")[2]) for s in parse_mailbox(box)] == [
        ("x", 2, "One.\n\nFrom here on."), ("x", 2, "From a to b.")]
    with pytest.raises(UserError, match="not a mailbox"):
        parse_mailbox(b"From here on it is text.")
    for place in ("cur", "new", "other"):
        (tmp_path/place).mkdir()
        (tmp_path/place/"1700000000.M1P2.host,U=7:2,S").write_bytes(mail(place, parse=False))
    found = read_folder(tmp_path)
    assert [d.title for d in found.documents] == ["x", "x"] and sum(found.unread.values()) == 1


def test_what_a_mail_program_keeps_is_read_as_mail_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr("ragcun.data.documents.MAX_TABLE", 200)      # bytes of a text without an ending
    def letter(subject, mark="0001"):
        return (f"From - Fri Mar 01 10:00:00 2024\r\nX-Mozilla-Status: {mark}\r\nSubject: {subject}\r\nFrom: a@b.c\r\n"
                "Content-Transfer-Encoding: base64\r\n\r\nVGhlIHB1bXAgaXMgcmVkLg==\r\n\r\n")
    (tmp_path/"Inbox.sbd").mkdir()
    (tmp_path/"Inbox").write_text(letter("One") + letter("Deleted", "0009"))
    (tmp_path/"Inbox.sbd"/"Work").write_text(letter("Two"))
    (tmp_path/"Large").write_text(letter("Three")*9)
    (tmp_path/"Trash").write_text(letter("Gone", "0008"))
    (tmp_path/"letter").write_text("From now on 10:30 is the time.\n\nText.")
    (tmp_path/"scan").write_bytes(pdf_bytes("A page."))
    listed = list_folder(tmp_path)
    assert len(listed.files) == 6 and not listed.unread
    read = [(d.source, d.heading, d.text) for d in read_folder(tmp_path).documents if d.source not in ("Large", "letter")]
    assert read == [("Inbox", "One", "From: a@b.c\n\nThe pump is red."), ("Inbox.sbd/Work", "Two", "From: a@b.c\n\nThe pump is red."),
                    ("scan", "", "A page.")]
    with pytest.raises(UserError, match="holds no text"):
        read_file(tmp_path/"Trash")


@pytest.mark.parametrize("quoted", [
    "<div class='gmail_quote'>On Friday Bob wrote:<blockquote>Is it red?</blockquote></div>",
    "<div class=moz-cite-prefix>On Friday Bob wrote:</div><blockquote type='cite'><p>Is it red?</p></blockquote>"])
def test_what_a_letter_in_html_quotes_stands_apart(quoted):
    raw = f"From: a@b.c\nSubject: S\nContent-Type: text/html\n\n<p>Yes, it is.</p><p>Ann</p>{quoted}"
    own, below = parse_message(raw.encode())
    assert own.text == "From: a@b.c\n\nYes, it is.\n\nAnn" and "> Is it red?" in below.text and "On Friday" in below.text
    alone = parse_message(f"Subject: S\nContent-Type: text/html\n\n{quoted}".encode())
    assert "Is it red?" in words(alone)


@pytest.mark.parametrize("to", ["Group: a@b.c, Group2: d@e.f;;", "a: <>; x", "<", '"', "a@b.c, :"])
def test_an_odd_head_takes_no_message_with_it(to):
    found = parse_message(f"From: a@b.c\nTo: {to}\nSubject: S\n\nThe pump is red.".encode())[0]
    assert found.heading == "S" and found.text.startswith(f"From: a@b.c\nTo: {to}") and found.text.endswith("is red.")


def test_an_invitation_in_a_message_is_read():
    event = "BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:On pumps\nLOCATION:Hall B\nEND:VEVENT\nEND:VCALENDAR"
    raw = ("Subject: Invitation\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nPlease come.\n"
           f"--b\nContent-Type: text/calendar; method=REQUEST\n\n{event}\n--b--\n")
    assert parse_message(raw.encode())[0].text == "Please come.\n\nOn pumps\nPlace: Hall B"


def test_every_list_of_a_json_object_is_read():
    found = parse_json_rows('{"title": "Questions of users", "v": "1.0", "faq": [{"q": "Why oil?"}], "words": [{"t": "valve"}]}')
    assert found[0].text == "title: Questions of users\n\nq: Why oil?\n\nt: valve"
    deep = parse_json_rows('{"response": {"status": 1, "data": {"items": [{"q": "Why oil?"}, {"q": "Why air?"}]}}}')
    assert deep[0].text == "q: Why oil?\n\nq: Why air?"


def test_what_exports_hold_is_read_as_people_see_it():
    rows = [{"id": 7, "title": "Reset", "body": "<p>Hold the <b>red</b> button.</p><p>Wait.</p>", "by": {"id": 1, "name": "Ann", "key": "0f8fad5b-d9cb-469f"},
             "notes": [{"body": "Works.", "url": "https://x.y", "is_bot": False}], "tags": ["a", "b"]}, {"title": "Stop"}]
    found = parse_json_rows(json.dumps({"articles": rows}))
    assert [(s.heading, s.level, s.text) for s in found] == [
        ("Reset", 2, "id: 7; by: id: 1, name: Ann; notes: body: Works., is_bot: false; tags: a, b\nbody: Hold the red button.\n\nWait."), ("", 0, "title: Stop")]
    assert [s.heading for s in parse_json_lines("\n".join(map(json.dumps, rows)))] == ["Reset", ""]
    assert parse_table("q;a\nWhy?;<p>Hold the <b>red</b><br>button.</p>\n")[0].text == "q | a\nWhy? | Hold the red button."
    assert parse_table("a;b\n1 < 2;x</y>\n")[0].text == "a | b\n1 < 2 | x</y>"


TREE = {"a": {"id": "a", "message": None, "parent": None, "children": ["b"]},
        "b": {"id": "b", "parent": "a", "children": [], "message": {
            "author": {"role": "user"}, "create_time": 1709283600.5, "weight": 1.0, "content": {"content_type": "text", "parts": ["Is it red?"]}}}}


@pytest.mark.parametrize("data, wanted", [
    ([{"type": "message", "ts": "1709283600.1", "user": "U1", "user_profile": {"real_name": "Ann", "image_72": "https://x"},
       "text": "Is it <https://x.org/a|red> &amp; new?", "blocks": [{"elements": [{"text": "Is it red?"}]}], "client_msg_id": "c"},
      {"type": "message", "subtype": "channel_join", "ts": "1709283601.1", "user": "U2", "text": "<@U2> has joined the channel"},
      {"type": "message", "ts": "1709283660.1", "user": "U2", "text": "", "files": [{"title": "Plan of the hall"}]}],
     "Ann (2024-03-01 09:00): Is it red & new?\n\nU2 (2024-03-01 09:01): Plan of the hall"),
    ({"name": "Pumps", "id": 1, "messages": [
        {"id": 1, "type": "service", "date": "2024-03-01T10:00:00", "from_id": "u1", "text": ""},
        {"id": 2, "type": "message", "date": "2024-03-01T10:01:00", "from": "Ann", "from_id": "u1", "text_entities": [{"text": "x"}],
         "text": ["See ", {"type": "link", "text": "x.org"}, " for it"]}]}, "Ann (2024-03-01T10:01:00): See x.org for it"),
    ({"guild": {"name": "ACME"}, "messages": [{"id": "1", "type": "Default", "timestamp": "2024-03-01", "content": "Is it red?",
                                               "author": {"id": "5", "name": "ann", "nickname": "Ann"}, "mentions": []}]},
     "Ann (2024-03-01): Is it red?"),
    ({"participants": [], "messages": [{"sender_name": "Zo\u00c3\u00ab", "timestamp_ms": 1709283600000, "content": "caf\u00c3\u00a9"}]},
     "café"),
    ([{"title": "Red pump", "mapping": TREE}], "Red pump user (2024-03-01 09:00): Is it red?"),
    ([{"name": "Red pump", "chat_messages": [{"uuid": "1", "sender": "human", "text": "Is it red?", "created_at": "2024-03-01"}]}],
     "Red pump human (2024-03-01): Is it red?"),
    ([{"author": "ann", "content": "A good pump.", "timestamp": 1, "stars": 5}], "author: ann; content: A good pump.; timestamp: 1; stars: 5")])
def test_a_chat_says_who_said_what_and_when(data, wanted):
    said = words(parse_json_rows(json.dumps(data))).strip()
    assert said == wanted if wanted != "café" else said.endswith("café")


@pytest.mark.parametrize("data", [
    {"name": {"0": "Pump", "1": "Valve"}, "price": {"0": 40, "1": 7}}, {"name": ["Pump", "Valve"], "price": [40, 7]},
    {"0": {"name": "Pump", "price": 40}, "1": {"name": "Valve", "price": 7}},
    {"columns": ["name", "price"], "index": [0, 1], "data": [["Pump", 40], ["Valve", 7]]}])
def test_a_table_in_json_is_rows_however_it_is_turned(data):
    assert words(parse_json_rows(json.dumps(data))).strip() == "name: Pump; price: 40\n\nname: Valve; price: 7"


@pytest.mark.parametrize("talk", [
    {"messages": [{"role": "user", "content": "Is it red?"}, {"role": "assistant", "content": "Yes."}]},
    {"conversations": [{"from": "user", "value": "Is it red?"}, {"from": "assistant", "value": "Yes."}]}])
def test_a_conversation_for_training_is_who_said_what(talk):
    assert parse_json_rows(json.dumps([talk]))[0].text == "user: Is it red?\nassistant: Yes."
    assert parse_json_lines(json.dumps(talk))[0].text == "user: Is it red?\nassistant: Yes."


DOC = {"type": "doc", "version": 1, "content": [      # as Atlassian's editor keeps it
    {"type": "paragraph", "content": [{"type": "text", "text": "Start the "}, {"type": "text", "text": "pump", "marks": [{"type": "strong"}]}]},
    {"type": "bulletList", "content": [{"type": "listItem", "content": [{"type": "paragraph", "content": [{"type": "text", "text": "Wait"}]}]}]}]}


@pytest.mark.parametrize("data, wanted", [
    ({"articles": [{"id": 3, "url": "https://x.org/3", "author_id": 5, "title": "Reset", "name": "Reset", "body": "<p>Hold it.</p>"}]},     # a help desk
     [("Reset", "id: 3; body: Hold it.")]),
    ([{"title": "Reset", "description": "<p>Hold <b>it</b> now.</p>", "description_text": "Hold it now."}], [("Reset", "description: Hold it now.")]),
    ([{"number": 7, "node_id": "MDU6", "title": "It leaks", "body": "## Steps\r\n\r\n1. Start the **pump**\r\n", "reactions": {"url": "https://x", "+1": 0}}],
     [("It leaks", "number: 7\nbody: Steps\n\n1. Start the pump")]),
    ({"issues": [{"key": "P-7", "fields": {"summary": "It leaks", "description": DOC, "status": {"self": "https://x", "name": "Open"}}}]},
     [("It leaks", "key: P-7; status: name: Open\ndescription: Start the pump\n\nWait")]),
    ([{"summary": "It leaks", "description": "h2. Steps\r\n{code:java}\r\nx = {1};\r\n{code}\r\n||a||b||\r\n|1|2|\r\nSee [the *lid*|https://x] *now*."}],
     [("It leaks", "description: Steps x = {1}; a | b 1 | 2 See the *lid* now.")]),
    ([{"title": "CSS", "body": "h2 {color: red}\nplain"}], [("CSS", "body: h2 {color: red} plain")]),
    ({"info": {"name": "Pumps", "description": "All *calls*.", "schema": "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"}, "item": [
        {"name": "Seals", "item": [{"name": "List", "request": {"method": "GET", "url": {"raw": "{{base}}/s", "query": [
            {"key": "n", "description": "How many."}]}}}]}, {"name": "Go", "request": "https://x"}, None]},
     [("Pumps", "All calls."), ("Seals", ""), ("List", "GET {{base}}/s\n\nn: How many."), ("Go", "https://x")]),
    ([{"title": "Seals", "children": [{"string": "Why it **failed**", "uid": "a", "children": [{"string": "{{[[TODO]]}} See [[oil]]"}]}]}],     # Roam
     [("Seals", "children: Why it failed\n\nSee oil")]),
    ({"title": "It leaks", "body": "Since noon.\nIt is loud.", "labels": [{"name": "bug"}]}, [("It leaks", "body: Since noon. It is loud.; labels: name: bug")]),
    ({"post_stream": {"posts": [{"id": 1, "username": "ann", "created_at": "2024", "cooked": "<p>It leaks.</p>"}], "stream": [1]}},
     [("", "ann (2024): It leaks.")]),
    ({"text": " Hello. Bye now.", "segments": [{"start": 0, "end": 1.5, "text": " Hello.", "tokens": [1]}, {"start": 2, "end": 3, "text": " Bye now."}]},
     [("", "Hello.\n\nBye now.")]),                                                                                                    # Whisper
    ({"text": "It leaks.", "words": [{"text": "It", "start": 1, "end": 2}, {"text": "leaks.", "start": 2, "end": 3}],
      "utterances": [{"speaker": "A", "text": "It leaks.", "start": 1, "end": 3}]}, [("", "A: It leaks.")]),
    ([{"id": 1, "link": "https://x", "title": {"rendered": "Oil &amp; lid"}, "content": {"rendered": "<p>It is <b>thin</b>.</p>"}}],     # WordPress
     [("Oil & lid", "id: 1; content: It is thin.")]),
    ([{"tweet": {"id_str": "1", "full_text": "Oil &amp; lid &lt;3"}}], [("", "id_str: 1; full_text: Oil & lid <3")]),
    ({"records": [{"id": "rec1", "fields": {"Name": "Oil", "Notes": "Thin.\nRed."}}]}, [("Oil", "id: rec1; Notes: Thin. Red.")]),     # Airtable
    ([{"_id": {"$oid": "5f1a2b3c4d5e6f7081920a1b"}, "at": {"$date": "2024"}, "a": 0}], [("", "at: 2024; a: 0")]),
    ([{"page_content": "It leaks.", "metadata": {"page": 3}, "type": "Document"}], [("", "page: 3\nIt leaks.")]),
    ([{"type": kind, "element_id": "x", "text": text, "metadata": {}} for kind, text in (
        ("Header", "Draft"), ("Title", "Oil"), ("NarrativeText", "Thin."), ("ListItem", "a"), ("ListItem", "b"))], [("Oil", "Thin.\n\na\nb")]),
    ({"schema_name": "DoclingDocument", "body": {"children": [{"$ref": "#/texts/1"}, {"$ref": "#/groups/0"}, {"$ref": "#/tables/0"}, {"$ref": "#/x/9"}]},
      "texts": [{"label": "text", "text": "Thin."}, {"label": "section_header", "text": "Oil", "level": 1}, {"label": "page_footer", "text": "7"}],
      "groups": [{"label": "list", "children": [{"$ref": "#/texts/0"}, {"$ref": "#/texts/2"}]}],
      "tables": [{"label": "table", "data": {"grid": [[{"text": "a"}, {"text": "b"}]]}}]}, [("Oil", "Thin.\n\na | b")]),
    ([{"text": "Acme", "start": 0, "end": 4, "label": "ORG"}], [("", "start: 0; end: 4; label: ORG\nAcme")]),
    ([{"name": "Pump", "description": "A red pump.", "maker_id": 7, "url": "https://x"}], [("", "name: Pump; description: A red pump.; maker_id: 7; url: https://x")])])
def test_what_an_interface_gives_is_read_as_its_site_shows_it(data, wanted):
    assert [(s.heading, s.text) for s in parse_json_rows(json.dumps(data))] == wanted


def test_an_object_that_is_a_page_by_itself_is_read():
    page = {"title": "Storage", "tags": ["x"], "body": "Drain it first.\n\nKeep it dry."}
    assert [(s.heading, s.level, s.text) for s in parse_json_rows(json.dumps(page))] == [
        ("Storage", 1, "tags: x\nbody: Drain it first.\n\nKeep it dry.")]
    export = {"id": "7", "title": "Pump", "body": {"storage": {"value": "<p>It needs <b>oil</b> now</p>"}}}    # Confluence
    assert [(s.heading, s.text) for s in parse_json_rows(json.dumps({"page": export}))] == [
        ("Pump", "id: 7; body: storage: value: It needs oil now")]
    assert words(parse_json_rows('{"title": "水泵", "text": "水泵的保修期为二十四个月。"}')) == "水泵 水泵的保修期为二十四个月。"
    with pytest.raises(UserError, match="without a list of rows"):
        parse_json_rows('{"compilerOptions": {"strict": true, "run": "tsc -p ."}, "include": ["a b c"], "name": "x"}')


def test_a_page_saved_as_one_file_is_read_as_a_page():
    pages = [PAGE.format("<h1>Guide</h1><h2>Winter</h2>Größe").replace("html", "html; charset=utf-8", 1), PAGE.format("Advert")]
    body, head = multi("related", *pages)
    assert [(s.heading, s.text) for s in parse_web_archive(mail(body, head, parse=False))] == [("Guide", ""), ("Winter", "Größe")]
    with pytest.raises(UserError, match="not a saved page"):
        parse_web_archive(b"Subject: x\n\ntext")


def test_parts_of_a_saved_page_are_no_documents(tmp_path):
    for name in ("Pump guide_files/advert.html", "Pump guide.html", "other_files/note.html"):
        (tmp_path/name).parent.mkdir(exist_ok=True)
        (tmp_path/name).write_text("<p>Text.</p>")
    found = list_folder(tmp_path)
    assert [*found.files] == ["Pump guide.html", "other_files/note.html"] and found.unread == {"parts of saved pages": 1}


@pytest.mark.parametrize("text", ["هل هو مغلق؟ نعم. انتهى!", "弁を閉じる。次へ！終わり？", "「閉じて。」と言った。次へ。", "ਕੀ? وہ آیا۔ ہاں"])
def test_sentences_end_where_each_language_ends_them(text):
    found = {"هل": 3, "弁を": 3, "「閉": 2, "ਕੀ": 3}
    said = sentences(text)
    assert len(said) == next(n for start, n in found.items() if text.startswith(start)) and not any(s.startswith("」") for s in said)
    assert "".join(passages(text, 12, 0)).replace(" ", "") == text.replace(" ", "")
    assert not any(p.startswith("」") for p in passages(text, 12, 0))


def test_kinds_that_are_not_read_are_said_in_a_few_words(tmp_path):
    for name in [*(f"report.2024-01-{n:02}, of Ann" for n in range(1, 30)), *(f"a.k{n}" for n in range(20)), "a.doc", "b.doc", "c.zip"]:
        (tmp_path/name).write_bytes(b"\xd0\xcf\x11\xe0\0")     # as Word 97 begins its files
    unread = list_folder(tmp_path).unread
    assert unread["(other names)"] == 29 and unread[".doc"] == 2 and len(unread) == 23
    said = kinds_in_words(unread)
    assert said.startswith("29 (other names), 2 .doc, 1 .k0") and "13 of 13 more kinds" in said and len(said) < 250
    assert said.endswith("; to have them read, save .doc as .docx, unpack .zip")


def test_a_long_cell_of_a_table_is_read():
    long = "word " * 40_000
    assert parse_table(f"id,text\n1,{long}\n2,last\n")[0].text.endswith("2 | last")


@pytest.mark.parametrize("name, source, shown", [
    ("a.md", "# Keys\n\nPut it there:\n\n```\n-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n```\n\nStart it.",
     "Put it there:\n\n-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n\nStart it."),
    ("a.txt", "logo: data:image/png;base64,{}\nnote: red", "logo: …\nnote: red"),
    ("a.eml", "From: a@b.c\nSubject: S\n\nHello.\n\n-----BEGIN PGP SIGNATURE-----\n\n{}\n-----END PGP SIGNATURE-----\n",
     "From: a@b.c\n\nHello.\n\n-----BEGIN PGP SIGNATURE-----\n\n…\n-----END PGP SIGNATURE-----"),
    ("a.json", '[{{"body": "A pump of the hall that is red.", "image": "{}"}}]', "body: A pump of the hall that is red.\nimage: …"),
    ("a.md", "Style\n\n" + "a.b{{color:red;margin:0}}.c{{d:e;f:g}}@media(x){{a{{b:c;d:e}}}}function(){{x=>y}}"*20, None)])
def test_what_only_a_program_reads_is_no_passage(tmp_path, name, source, shown):
    letters = base64.b64encode(b"".join(hashlib.sha256(bytes([i])).digest() for i in range(30))).decode()
    wall = letters if "json" in name or "data:" in source else "\n".join(re.findall(".{1,64}", letters))
    (tmp_path/name).write_text(source.format(wall))
    text = "".join(d.text for d in read_file(tmp_path/name))
    assert text == shown if shown else len(text) < 100 and text.startswith("Style") and text.endswith(" …")

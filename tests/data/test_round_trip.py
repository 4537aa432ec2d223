"What a person sees in a page is what the sections hold: every visible word once, in order."

import io
import json
import re
import zipfile
from collections import Counter

import docx
import pytest
from docx.oxml import OxmlElement, parse_xml
from docx.oxml.ns import nsdecls
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import pdf_bytes

from ragcun.core import UserError
from ragcun.data.markup import parse_markdown, parse_notebook, parse_rst
from ragcun.data.office import parse_docx
from ragcun.data.pdf import parse_pdf
from ragcun.data.web_pages import parse_html

runs = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
WORD = re.compile(r"w\d+x")


def words_of(sections):
    "The numbered words of headings and texts, in order; a heading without own text is in the path of those below."
    out = []
    for s in sections:
        out += [w for w in WORD.findall(" ".join(s.path)) if w not in out] + WORD.findall(f"{s.heading} {s.text}")
    return out


class Words:
    "w1x, w2x, … each once."

    def __init__(self):
        self.n = 0

    def __call__(self):
        self.n += 1
        return f"w{self.n}x"

    @property
    def all(self):
        return [f"w{i}x" for i in range(1, self.n + 1)]


# HTML: a tree of random blocks, text between them at every level, inline tags in the middle of words

BLOCKS = ("div p ul ol section article aside form blockquote details dl figure header main address fieldset center "
          "pre table h2 h3").split()
INLINE = ["b", "i", "span", "a", "sub", "sup", "code", "font", "u", "mark", "small", "st1:place", "button", "label"]
INNER = {
    "ul": ["li"],
    "ol": ["li"],
    "dl": ["dt", "dd"],
    "details": ["summary", "div"],
    "figure": ["figcaption", "div"],
}
shape = st.recursive(
    st.sampled_from(["text", "inline", "cut", "br"]),
    lambda kids: st.tuples(st.sampled_from(BLOCKS), st.lists(kids, max_size=5)),
    max_leaves=25,
)
pages = st.lists(shape, min_size=1, max_size=8)


def written(node, word):
    "HTML of one node of a tree."
    if node == "text":
        return f" {word()} "
    if node == "inline":
        return f" <{(tag := INLINE[word.n % len(INLINE)])}>{word()}</{tag}> "
    if node == "cut":
        w = word()
        return f" {w[0]}<{(tag := INLINE[word.n % 12])}>{w[1:-1]}</{tag}>{w[-1]} "
    if node == "br":
        return f" {word()}<br>{word()}"
    tag, kids = node
    if tag in ("h2", "h3", "pre", "p"):
        return f"<{tag}>{''.join(written(k, word) for k in kids if isinstance(k, str))}</{tag}>"
    inner = "".join(written(k, word) for k in kids)
    if tag == "table":
        rows = (f"<tr><td>{written(k, word)}</td><td></td><td>{word()}</td></tr>" for k in kids)
        return f"<table>{''.join(rows)}</table>"
    if tag in INNER:
        parts = zip(kids, INNER[tag] * 3, strict=False)
        return f"<{tag}>{''.join(f'<{t}>{written(k, word)}</{t}>' for k, t in parts)}</{tag}>" if kids else ""
    return f"<{tag}>{inner}</{tag}>"


@given(page=pages)
@runs
def test_html_keeps_every_word_once_in_order(page):
    word = Words()
    parts = [written(node, word) for node in page]
    text = "".join(parts)
    plain = re.sub(
        r"<[^>]*>", "", re.sub(r"<(?!/?(?:b|i|span|a|sub|sup|code|font|u|mark|small|st1:place)\b)[^>]*>", " ", text)
    )
    assert words_of(parse_html(f"<title>T</title><body>{text}")) == WORD.findall(plain)


def test_a_walk_that_drops_text_beside_blocks_is_seen():
    page = "<div>w1x<p>w2x</p></div>"
    assert words_of(parse_html(page)) == ["w1x", "w2x"]
    only_leaves = [w for m in re.findall(r"<p>(.*?)</p>", page) for w in WORD.findall(m)]
    assert only_leaves != ["w1x", "w2x"]


# Markdown

MD = ("para h1 h2 h3 setext list nested code tilde indented "
      "quote table link image rule html comment foot span generic deflist hard math entity talk").split()
md_parts = st.lists(st.sampled_from(MD), min_size=1, max_size=14)


def md_part(kind, w):
    "One part of a Markdown text with numbered words."
    return {
        "para": lambda: f"{w()} **{w()}** _{w()}_ ~~{w()}~~\n{w()}",
        "h1": lambda: f"# {w()}",
        "h2": lambda: f"## {w()} `{w()}` ##",
        "h3": lambda: f"### {w()} {{#anchor .c}}",
        "setext": lambda: f"{w()}\n---",
        "list": lambda: f"- {w()}\n- {w()}\n  more {w()}",
        "nested": lambda: f"1. {w()}\n   - {w()}\n     ```\n     {w()}\n     ```\n2. {w()}",
        "code": lambda: f"````py\n# {w()}\n```\n## {w()}\n````",
        "tilde": lambda: f"~~~\n{w()} | {w()}\n~~~",
        "indented": lambda: f"    # {w()}",
        "quote": lambda: f"> {w()}\n>\n> > {w()}",
        "table": lambda: f"| {w()} | b |\n|---|---|\n| {w()} | {w()} |\n|  | {w()} |",
        "link": lambda: f'[{w()}](http://a.b/c_d "t") <https://x.y/{w()}> [{w()}][ref]\n\n[ref]: http://z',
        "image": lambda: f"![{w()}](data:image/png;base64,QUJD) {w()}",
        "rule": lambda: "---",
        "html": lambda: f"<details><summary>{w()}</summary>\n\n{w()}\n\n</details>",
        "comment": lambda: f"<!--\n# no heading\n-->\n\n{w()}",
        "foot": lambda: f"{w()}",
        "span": lambda: f"```{w()}``` is a span\n\n# {w()}",
        "generic": lambda: f"List<{w()}> and a < b {w()}",
        "deflist": lambda: f"{w()}\n: {w()}",
        "hard": lambda: f"{w()}  \n{w()}\\\n{w()}",
        "math": lambda: f"$a_{w()}*b*{w()}$ costs $5",
        "entity": lambda: f"&lt;{w()}&gt; &amp;{w()}",
        "talk": lambda: f"{w()} <title> and <nav> and <your-name> {w()}",
    }[kind]()


@given(kinds=md_parts)
@runs
def test_markdown_keeps_every_word_once_in_order(kinds):
    word = Words()
    text = "\n\n".join(md_part(k, word) for k in kinds)
    assert words_of(parse_markdown(text)) == word.all


@given(kinds=md_parts)
@runs
def test_notebook_is_its_markdown(kinds):
    word = Words()
    cells = [{"cell_type": "markdown", "source": md_part(k, word)} for k in kinds]
    assert words_of(parse_notebook(json.dumps({"cells": cells}))) == word.all


# reStructuredText

RULE = "+-------+-------+\n"
RST = ("para note versionadded code grid list def field role function "
       "quote literal foot admonition subst section").split()


def rst_part(kind, w):
    "One part of a reStructuredText with numbered words."
    return {
        "para": lambda: f"{w()} *{w()}* **{w()}** ``{w()}``",
        "note": lambda: f".. note:: {w()}\n\n   {w()}",
        "versionadded": lambda: f".. versionadded:: 2.0 {w()}",
        "code": lambda: f".. code-block:: py\n   :linenos:\n\n   # {w()}\n   {w()}",
        "grid": lambda: f"{RULE}| {w():<5.5} | b     |\n{RULE}| x     | {w():<5.5} |\n{RULE}",
        "list": lambda: f"- {w()}\n\n  - {w()}\n- {w()}",
        "def": lambda: f"{w()}\n   {w()}",
        "field": lambda: f":{w()}: {w()}",
        "role": lambda: f":ref:`{w()} <x>` :func:`~a.{w()}` :kbd:`{w()}` :unheard:`{w()}`",
        "function": lambda: f".. py:function:: {w()}(a)\n\n   {w()}\n\n   :param a: {w()}",
        "quote": lambda: f"   {w()}",
        "literal": lambda: f"{w()}::\n\n   # {w()}",
        "foot": lambda: f"{w()}",
        "admonition": lambda: f".. admonition:: {w()}\n\n   {w()}",
        "subst": lambda: f"|undefined| {w()}",
        "section": lambda: (lambda x: f"{x}\n{'=' * len(x)}")(w()),
    }[kind]()


@given(kinds=st.lists(st.sampled_from(RST), min_size=1, max_size=8))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_rst_keeps_every_word_once_in_order(kinds):
    word = Words()
    text = "\n\n".join(rst_part(k, word) if k != "quote" else "..\n\n" + rst_part(k, word) for k in kinds)
    assert words_of(parse_rst(text)) == word.all


# Word


MC = "http://schemas.openxmlformats.org/markup-compatibility/2006"
WPS = "http://schemas.microsoft.com/office/word/2010/wordprocessingShape"
MATH = "http://schemas.openxmlformats.org/officeDocument/2006/math"


def element(name, *kids, text=""):
    "An XML element of a Word file."
    made = OxmlElement(name)
    if text:
        made.text = text
    for kid in kids:
        made.append(kid)
    return made


def run(text):
    return element("w:r", element("w:t", text=text))


def control(el):
    "Put an element into a content control."
    content = element("w:sdtContent")
    el.getparent().replace(el, element("w:sdt", content))
    content.append(el)


def after(d, w, made):
    "A paragraph, and something made of a run behind its words."
    d.add_paragraph(w())._p.append(made(f" {w()}"))


def equal_table(d, w):
    t = d.add_table(2, 3)
    for i in (0, 2, 3, 4, 5):
        t.cell(i // 3, i % 3).text = w()


def merged(d, w):
    t = d.add_table(2, 2)
    t.cell(0, 0).merge(t.cell(0, 1)).text = w()
    t.cell(1, 0).text = w()
    t.cell(1, 1).text = w()


def cell_control(d, w):
    t = d.add_table(1, 3)
    for cell in t.rows[0].cells:
        cell.text = w()
    control(t.cell(0, 1)._tc)


def deleted(d, w):
    p = d.add_paragraph(w())
    gone = run("gone")
    gone[0].tag = gone[0].tag.replace("}t", "}delText")
    p._p.append(element("w:del", gone))


def nested(d, w):
    t = d.add_table(1, 2)
    t.cell(0, 0).text = w()
    t.cell(0, 0).add_table(1, 1).cell(0, 0).text = w()
    t.cell(0, 1).text = w()


def box(d, w):
    p = d.add_paragraph(w())
    inner = f"<w:txbxContent><w:p><w:r><w:t>{w()}</w:t></w:r></w:p></w:txbxContent>"
    p._p.append(
        parse_xml(
            f'<w:r {nsdecls("w")} xmlns:mc="{MC}" xmlns:wps="{WPS}"><mc:AlternateContent><mc:Choice Requires="wps">'
            f"<wps:txbx>{inner}</wps:txbx></mc:Choice><mc:Fallback><w:pict>{inner}</w:pict></mc:Fallback>"
            "</mc:AlternateContent></w:r>"
        )
    )


def frame(d, w):
    c = d.add_table(1, 1).cell(0, 0)
    c.text = w()
    c.add_paragraph(w(), style="Heading 3")
    c.add_paragraph(w())


def bullets(d, w):
    d.add_paragraph(w(), style="List Bullet")
    d.add_paragraph(w(), style="List Bullet")


def math(d, w):
    p = d.add_paragraph(w())
    p._p.append(parse_xml(f'<m:oMath xmlns:m="{MATH}"><m:r><m:t> {w()}</m:t></m:r></m:oMath>'))


def bold(d, w):
    d.add_paragraph(f"{w()} ").add_run(w()).bold = True


DOCX = {
    "para": bold,
    "heading": lambda d, w: d.add_heading(w(), 2),
    "list": bullets,
    "equal": equal_table,
    "merged": merged,
    "control": lambda d, w: control(d.add_paragraph(w())._p),
    "cell_control": cell_control,
    "inserted": lambda d, w: after(d, w, lambda text: element("w:ins", run(text))),
    "deleted": deleted,
    "link": lambda d, w: after(d, w, lambda text: element("w:hyperlink", run(text))),
    "nested": nested,
    "box": box,
    "frame": frame,
    "field": lambda d, w: after(d, w, lambda text: element("w:fldSimple", run(text))),
    "math": math,
}


@given(kinds=st.lists(st.sampled_from(sorted(DOCX)), min_size=1, max_size=10))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_docx_keeps_every_word_once_in_order(kinds):
    d, word = docx.Document(), Words()
    for kind in kinds:
        DOCX[kind](d, word)
    held = io.BytesIO()
    d.save(held)
    sections = parse_docx(held.getvalue())
    assert words_of(sections) == word.all and "gone" not in str(sections)


# PDF: a file made by hand, whose lines are broken at random, some at hyphens


def pdf(lines):
    "A PDF file of one page with these lines, each character with its own code."
    code = {c: f"{i:02X}" for i, c in enumerate(sorted({c for line in lines for c in line}), 1)}
    table = " ".join(f"<{n}> <{c.encode('utf-16-be').hex().upper()}>" for c, n in code.items())
    cmap = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap 1 begincodespacerange <00> <FF> "
        f"endcodespacerange {len(code)} beginbfchar {table} endbfchar endcmap end end"
    )
    shown = " ".join(
        f"1 0 0 1 40 {800 - 10 * i} Tm <{''.join(code[c] for c in line)}> Tj" for i, line in enumerate(lines)
    )
    body = f"BT /F1 8 Tf {shown} ET"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [5 0 R] /Count 1 >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /FirstChar 0 /LastChar 255 "
        f"/Widths [{' '.join(['500'] * 256)}] /ToUnicode 4 0 R >>",
        f"<< /Length {len(cmap)} >>\nstream\n{cmap}\nendstream",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 900 900] "
        "/Resources << /Font << /F1 3 0 R >> >> /Contents 6 0 R >>",
        f"<< /Length {len(body)} >>\nstream\n{body}\nendstream",
    ]
    out = b"%PDF-1.4\n"
    places = []
    for i, o in enumerate(objects, 1):
        places.append(len(out))
        out += f"{i} 0 obj\n{o}\nendobj\n".encode("latin-1")
    rows = b"".join(b"%010d 00000 n \n" % p for p in places)
    end = b"trailer << /Size 7 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % len(out)
    return out + b"xref\n0 7\n0000000000 65535 f \n" + rows + end


TEXT = (
    "The office keeps a well-known file of state-of-the-art pumps from 2019-2020 for the efficient flow of water. "
    "Part 12-34 needs maintenance every twenty-four months, and a temperature of -5 degrees must not damage the "
    "centrifugal impeller. First-class suppliers affirm this in their specification. " * 4
)


LIGATURES = (("ffi", "\ufb03"), ("ff", "\ufb00"), ("fi", "\ufb01"), ("fl", "\ufb02"))


def broken(text, width, ligatures):
    "A text in lines; long words without a hyphen are parted, words with one break at it."
    lines, line = [], ""
    for word in text.split():
        while len(line) + len(word) + 1 > width:
            room = width - len(line) - 2
            cut = word.rfind("-", 1, max(room, 0)) + 1 if "-" in word else 0
            if cut:
                line, word = f"{line} {word[:cut]}".strip(), word[cut:]
            elif word.isalpha() and len(word) > 8 and 4 <= room <= len(word) - 4:
                line, word = f"{line} {word[:room]}-".strip(), word[room:]
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    text = "\n".join([*lines, line])
    for letters, one in LIGATURES if ligatures else ():
        text = text.replace(letters, one)
    return text.split("\n")


@pytest.mark.parametrize("ligatures", [False, True])
def test_pdf_keeps_the_words_of_broken_lines(ligatures):
    kept = total = 0
    for width in range(28, 90):
        shown = " ".join(s.text for s in parse_pdf(pdf(broken(TEXT, width, ligatures))))
        wanted, found = TEXT.split(), shown.split()
        total += len(wanted)
        kept += sum((Counter(wanted) & Counter(found)).values())
    assert kept / total >= 0.995, kept / total


def changed(raw, change, **more):
    "A PDF file written again by pypdf."
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(raw)))
    change(writer, **more)
    held = io.BytesIO()
    writer.write(held)
    return held.getvalue()


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-128", "AES-256"])
def test_pdf_that_needs_no_password_to_be_read_is_read(algorithm):
    def lock(writer, password):
        writer.encrypt(password, "owner", algorithm=algorithm)

    assert parse_pdf(changed(pdf(["The pump."]), lock, password=""))[0].text == "The pump."
    with pytest.raises(UserError, match="^protected by a password. Save it again without one.$"):
        parse_pdf(changed(pdf(["The pump."]), lock, password="secret"))


ROWS = [["Name", "Use", "Price"], ["Kestrel 300", "Lifts water,\nsand, too", "12.50"], ["Owl", "Pours", "7"]]


def drawn(cells, said):
    "A page of texts at their places, each with the operators that a program writes around a text."
    def draw(writer):
        from pypdf.generic import DecodedStreamObject, NameObject
        stream = DecodedStreamObject()
        stream.set_data("\n".join(said.format(x=x, y=y, text=text) for x, y, text in cells).encode())
        writer.pages[0][NameObject("/Contents")] = writer._add_object(stream)
    return parse_pdf(changed(pdf_bytes("x"), draw))[0].text.split("\n")


@pytest.mark.parametrize("said", [
    "BT /F1 10 Tf {x} {y} Td ({text}) Tj ET",                                          # as Word does
    "q 1 0 0 1 {x} {y} cm BT 1 0 0 1 0 2 Tm /F1 10 Tf 12 TL ({text}) Tj T* ET Q"])     # as ReportLab does
def test_cells_of_a_row_of_a_pdf_stay_on_one_line(said):
    cells = [(72 + 120*j, 700 - 40*i - 12*k, line) for i, row in enumerate(ROWS) for j, cell in enumerate(row)
             for k, line in enumerate(cell.split("\n"))]
    assert drawn(cells, said) == [" ".join(row).replace("\n", " ") for row in ROWS]
    columns = [(72 + 240*j, 700 - 12*k, f"line {k} of {j}.") for j in range(2) for k in range(6)]    # are no rows
    assert drawn(columns, said) == [text for _, _, text in columns]


@pytest.mark.parametrize("bad", [1, 2])
def test_pdf_page_that_cannot_be_read_takes_no_other_with_it(caplog, monkeypatch, bad):
    import pypdf

    def read(page, rest=iter([KeyError("/Font"), "The pump." if bad == 1 else KeyError("/Font")]), **how):
        if isinstance(now := next(rest), Exception):
            raise now
        return now

    raw = changed(pdf(["x"]), lambda writer: writer.append(pypdf.PdfReader(io.BytesIO(pdf(["x"])))))
    monkeypatch.setattr(pypdf.PageObject, "extract_text", read)
    if bad == 2:
        with pytest.raises(UserError, match="not a readable PDF file: KeyError"):
            parse_pdf(raw)
        return
    found = parse_pdf(raw, "a.pdf")
    assert [(s.text, s.page) for s in found] == [("The pump.", 2)] and "page 1 of a.pdf cannot be read" in caplog.text


def test_pdf_fields_and_notes_are_read():
    from pypdf.annotations import FreeText
    from pypdf.generic import ArrayObject, DictionaryObject, NameObject, NumberObject, TextStringObject

    def fill(writer):
        box = ArrayObject(NumberObject(n) for n in (0, 0, 9, 9))
        for kind, value, flags in (("/Tx", "Ann Example", 0), ("/Tx", "secret", 8192), ("/Btn", "Off", 0)):
            writer.add_annotation(0, DictionaryObject({
                NameObject("/Subtype"): NameObject("/Widget"), NameObject("/Rect"): box,
                NameObject("/FT"): NameObject(kind), NameObject("/V"): TextStringObject(value),
                NameObject("/Ff"): NumberObject(flags)}))
        writer.add_annotation(0, FreeText(text="Checked by Bo", rect=(0, 0, 9, 9)))

    assert parse_pdf(changed(pdf(["Buyer:"]), fill))[0].text == "Buyer:\nAnn Example\nChecked by Bo"


def test_pdf_heading_of_single_letters():
    assert parse_pdf(pdf(["P U M P  M A N U A L", "A B C D", "1 2 3 4", "V A L V E", "The valve."]))[0].text == (
        "PUMP MANUAL\nA B C D\n1 2 3 4\nVALVE\nThe valve.")


# Word: parts beside the text

RELATED = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
DRAWING = "http://schemas.openxmlformats.org/drawingml/2006"
WEB = "<h2>Chunk</h2><p>w\u00f6rds</p>"
MESSAGE = ('MIME-Version: 1.0\r\nContent-Type: multipart/related; boundary="b"\r\n\r\n--b\r\nContent-Type: text/html; '
           'charset="utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<h2>Chunk</h2><p>w=C3=B6rds</p>\r\n'
           "--b--\r\n")
DIAGRAM = (f'<d:dataModel xmlns:d="{DRAWING}/diagram" xmlns:a="{DRAWING}/main"><d:ptLst><d:pt><d:t><a:p><a:r><a:t>Order '
           "</a:t></a:r><a:r><a:t>pump</a:t></a:r></a:p><a:p/></d:t></d:pt></d:ptLst></d:dataModel>")
CHART = (f'<c:chartSpace xmlns:c="{DRAWING}/chart" xmlns:a="{DRAWING}/main"><c:title><a:p><a:r><a:t>Sales</a:t></a:r></a:p>'
         "</c:title><c:strCache><c:pt><c:v>May</c:v></c:pt></c:strCache><c:numCache><c:v>7</c:v></c:numCache>"
         "</c:chartSpace>")


def with_part(name, content, kind, reference):
    "A Word file with a part that its text refers to."
    d = docx.Document()
    d.add_paragraph("Limit")
    held, made = io.BytesIO(), io.BytesIO()
    d.save(held)
    types = {"html": "text/html", "mht": "message/rfc822", "xml": "application/xml"}
    ending = name.rpartition(".")[2]
    with zipfile.ZipFile(held) as old, zipfile.ZipFile(made, "w") as new:
        for part in old.namelist():
            data = old.read(part).decode("latin-1")
            if part == "[Content_Types].xml":
                data = data.replace("</Types>", f'<Override PartName="/word/{name}" ContentType="{types[ending]}"/></Types>')
            if part.endswith("document.xml.rels"):
                data = data.replace("</Relationships>", f'<Relationship Id="rX" Type="{RELATED}/{kind}" Target="{name}"/>'
                                                        "</Relationships>")
            new.writestr(part, data.replace("<w:sectPr", f"{reference}<w:sectPr", part.endswith("document.xml"))
                         .encode("latin-1"))
        new.writestr(f"word/{name}", content)
    return made.getvalue()


CHUNK = f'<w:altChunk xmlns:r="{RELATED}" r:id="rX"/>'
SHAPE = f'<w:p><w:r><w:drawing xmlns:r="{RELATED}">{{}}</w:drawing></w:r></w:p>'


@pytest.mark.parametrize("name, content, kind, reference, text", [
    ("a.html", f"<meta charset=utf-8>{WEB}", "aFChunk", CHUNK, "Chunk wörds"),
    ("a.html", f"<meta charset=latin-1>{WEB}".encode("latin-1"), "aFChunk", CHUNK, "Chunk wörds"),
    ("a.mht", MESSAGE, "aFChunk", CHUNK, "Chunk wörds"),
    ("a.xml", DIAGRAM, "diagramData", SHAPE.format(f'<d:relIds xmlns:d="{DRAWING}/diagram" r:dm="rX"/>'), "Order pump"),
    ("a.xml", CHART, "chart", SHAPE.format(f'<c:chart xmlns:c="{DRAWING}/chart" r:id="rX"/>'), "Sales May"),
])
def test_docx_parts_beside_the_text(name, content, kind, reference, text):
    found = parse_docx(with_part(name, content, kind, reference))
    assert " ".join(" ".join(f"{s.heading} {s.text}" for s in found).split()) == f"Limit {text}"


def test_docx_in_other_forms():
    d = docx.Document()
    d.add_paragraph()._p.append(parse_xml(
        f'<m:oMath xmlns:m="{MATH}"><m:f><m:num><m:r><m:t>1</m:t></m:r></m:num><m:den><m:r><m:t>2</m:t></m:r></m:den></m:f>'
        "</m:oMath>"))
    t = d.add_table(1, 2)
    t.cell(0, 0).text, t.cell(0, 1).text = "A", "B"
    t._tbl.append(parse_xml(f'<w:tr {nsdecls("w")}><w:trPr><w:gridBefore w:val="1"/></w:trPr><w:tc><w:p><w:r><w:t>only B'
                            "</w:t></w:r></w:p></w:tc></w:tr>"))
    held, made = io.BytesIO(), io.BytesIO()
    d.save(held)
    assert parse_docx(held.getvalue())[0].text == "1/2\n\nA | B\n | only B"
    with zipfile.ZipFile(held) as old, zipfile.ZipFile(made, "w") as new:      # "Strict Open XML", as Word offers it
        for part in old.namelist():
            data = old.read(part)
            for usual, strict in ((b"officeDocument/2006/relationships", b"officeDocument/relationships"),
                                  (b"wordprocessingml/2006/main", b"wordprocessingml/main")):
                data = data.replace(b"http://schemas.openxmlformats.org/" + usual, b"http://purl.oclc.org/ooxml/" + strict)
            new.writestr(part, data)
    assert parse_docx(made.getvalue())[0].text == "1/2\n\nA | B\n | only B"
    with pytest.raises(UserError, match="protected by a password, or in the format of Word 97"):
        parse_docx(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99))

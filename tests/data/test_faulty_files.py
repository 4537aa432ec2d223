"""Files that are damaged, named wrongly or written by careless programs: what a reader can see in them is read."""
import datetime
import gzip
import io
import zipfile

import docx
import openpyxl
import pytest
from docx.opc.packuri import PackURI
from docx.opc.part import Part
from docx.oxml import parse_xml
from small import archive, docx_bytes, pdf_bytes

from ragcun import UserError
from ragcun.data import markup
from ragcun.data.decoding import decode_bytes, file_kind
from ragcun.data.documents import document_kind, passages, read_file, read_folder
from ragcun.data.markup import parse_markdown, parse_rst
from ragcun.data.office import parse_docx, parse_epub, parse_message, parse_slides, parse_workbook
from ragcun.data.other_markup import parse_asciidoc, parse_latex
from ragcun.data.pdf import _plain_letters, mend_lines, parse_pdf
from ragcun.data.structured import parse_captions, parse_json_lines, parse_json_rows, parse_table
from ragcun.data.web_pages import parse_html


def workbook(*rows):
    book, made = openpyxl.Workbook(), io.BytesIO()
    for row in rows:
        book.active.append(row)
    book.save(made)
    return made.getvalue()


def texts(sections):
    return [s.text for s in sections]


# texts


def test_a_few_nul_are_left_out_and_many_are_no_text(caplog):
    assert decode_bytes(b"The pump\0 needs oil.", "f")[0] == "The pump needs oil."
    assert decode_bytes(b"\0"*5000 + b"2026 failed\n\0\0\0\n2027 ok\n" + b"x"*40, "f")[0].split() == [
        "2026", "failed", "2027", "ok", "x"*40]
    assert caplog.text.count("NUL") == 2
    for other in (b"a\0b\0c\0d\0e", b"\x7fELF\x02\x01\0" + b"word "*100):
        with pytest.raises(UserError, match="NUL"):
            decode_bytes(other, "f")


@pytest.mark.parametrize("raw, said", [
    ("Größe\n".encode()*9 + b"caf\xe9\n", "Größe\n"*9 + "café\n"),            # a line that was pasted last
    (b"Oil \xed\xa0\xbd\xed\xb8\x80 it", "Oil 😀 it"),                        # a letter in two halves, as Java writes it
    ("שלום עולם, זה קובץ בדיקה קצר".encode("cp1255"), "שלום עולם, זה קובץ בדיקה קצר"),
    ("Η εγγύηση της αντλίας είναι είκοσι μήνες.".encode("cp1253"), "Η εγγύηση της αντλίας είναι είκοσι μήνες."),
    ("Срок гарантии на насос".encode("cp1251"), "Срок гарантии на насос")])
def test_bytes_that_are_odd_or_of_another_alphabet(raw, said):
    assert decode_bytes(raw, "f")[0] == said


def test_words_that_are_parted_at_the_end_of_a_line(tmp_path):
    (tmp_path/"a.txt").write_text("The centri-\nfugal pump, a well-\nknown centrifugal one, is a Donau\xad\ndampf\xadschiff.")
    (tmp_path/"b.csv").write_text("Ship\nDonau\xaddampf\xadschiff\n")
    assert [d.text for d in read_file(tmp_path/"a.txt")] == [
        "The centrifugal pump, a well-\nknown centrifugal one, is a Donaudampfschiff."]
    assert "Donaudampfschiff" in read_file(tmp_path/"b.csv")[0].text


def test_half_a_letter_in_json_costs_no_passage(tmp_path):
    (tmp_path/"a.json").write_text('{"title": "Pump \\ud83d", "text": "Oil \\udc00it \\u0000now, please."}')
    assert [(d.title, d.text) for d in read_file(tmp_path/"a.json")] == [("Pump \ufffd", "Oil \ufffdit now, please.")]


@pytest.mark.parametrize("text", ['{"text": "a b"}{"text": "c d"}', '{\n "text": "a b"\n}\n{\n "text": "c d"\n}\n',
                                  '{"text": "a b"},\n{"text": "c d"}\n'])
def test_json_texts_one_after_the_other(text):
    assert texts(parse_json_rows(text)) == texts(parse_json_lines(text)) == ["a b\n\nc d"]
    with pytest.raises(UserError, match="broken"):
        parse_json_rows('[{"text": "a b"},]')


def test_subtitles_without_lines_between_them():
    cue = "{0}\n00:00:0{0},000 --> 00:00:09,000\n"
    assert texts(parse_captions(cue.format(1) + "Oil it.\n" + cue.format(2) + "In\n1999\nit ran.")) == [
        "Oil it.\nIn\n1999\nit ran."]


# names


WORD, PDF, BOOK = docx_bytes("Pump", "Oil it."), pdf_bytes("Oil it."), workbook(["Part", "Bar"], ["seal", 8])
PAGE = b"<!doctype html><html><body><p>Oil it.</p>"


@pytest.mark.parametrize("name, raw, said", [
    ("a.pdf", PAGE, "Oil it."), ("a.docx", PAGE, "Oil it."), ("a.docx", PDF, "Oil it."), ("a.pdf", WORD, "Oil it."),
    ("a.xlsx", b"Part;Bar\nseal;8\n", "Part | Bar\nseal | 8"), ("a.csv", BOOK, "Part | Bar\nseal | 8"),
    ("a.xlsx", b"<table><tr><td>seal</td><td>8</td></tr></table>", "seal | 8"), ("a.docx", b"{\\rtf1 Oil it.}", "Oil it."),
    ("a.xls", b"Part,Bar\nseal,8\n", "Part | Bar\nseal | 8"), ("a.docx", BOOK, "Part | Bar\nseal | 8"),
    ("a.pdf", b"HTTP/1.1 200 OK\r\n\r\n" + PDF, "Oil it."), ("page.html?id=7&v=1.2", PAGE, "Oil it.")])
def test_files_of_another_kind_than_their_name_says(tmp_path, name, raw, said):
    (tmp_path/name).write_bytes(raw)
    assert texts(read_file(tmp_path/name)) == [said]


def test_kinds_that_stay_what_their_names_say(tmp_path):
    for name, raw in (("a.xlsx", b"\xd0\xcf\x11\xe0,x"), ("a.docx", b"not one"), ("a.pptx", b""), ("a.docm", WORD),
                      ("a.epub", b"PK\x03\x04"), ("a.csv", b"<p>,x\n")):
        (tmp_path/name).write_bytes(raw)
        assert document_kind(tmp_path/name) == name[1:]
    assert [file_kind(n) for n in ("What is it?.md", "why?", "a.html?", "a.php?x=1")] == [".md", "", ".html", ".php?x=1"]


# pages


@pytest.mark.parametrize("page, said", [
    ("<div>at $<div style='display: inline;'><span>5.22</span></div> a share. More</div>", "at $5.22 a share. More"),
    ("<p>Tags: <a href=x>pumps</a><a href=y>oil</a>, un<a href=z>seal</a>ed</p>", "Tags: pumps oil, unsealed"),
    ("<p>日<a href=x>本</a><a href=y>語</a></p>", "日本語")])
def test_what_stands_in_one_line_of_a_page(page, said):
    assert texts(parse_html(page)) == [said]


# Office


def changed(raw, part, *pairs, rename=lambda name: name):
    "A packed file with other bytes in one of its parts; without the part where no bytes are given."
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            for before, after in pairs if name == part else ():
                assert before in data
                data = data.replace(before, after)
            if name != part or pairs:
                new.writestr(rename(name), data)
    return made.getvalue()


LINK = b'<Relationship Id="rId99" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/%s" Target="%s"/>'


@pytest.mark.parametrize("raw", [
    changed(WORD, "word/styles.xml"), changed(WORD, "docProps/core.xml"),
    *(changed(WORD, "word/_rels/document.xml.rels", (b"</Relationships>", LINK % link + b"</Relationships>"))
      for link in ((b"image", b"NULL"), (b"footnotes", b"footnotes.xml"), (b"image", b"../media/gone.png"))),
    changed(WORD, "[Content_Types].xml", (b'Extension="jpeg"', b'Extension="abc"')),
    changed(WORD, "", rename=lambda name: name.replace("/", "\\"))])
def test_word_files_with_links_to_nothing(raw):
    assert "Oil it." in parse_docx(raw)[-1].text


def test_what_is_put_into_a_word_file_from_elsewhere():
    made, out = docx.Document(), io.BytesIO()
    word = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"     # as OpenXML's tools say
    for name, kind, raw in (("a.docx", word, WORD), ("b.rtf", "application/rtf", b"{\\rtf1 Rich.}"),
                            ("c.txt", "text/plain", b"One.\r\n\r\nTwo."), ("d.htm", "text/html", b"<p>Page.</p>")):
        part = Part(PackURI(f"/word/{name}"), kind, raw, made.part.package)
        key = made.part.relate_to(part, "http://schemas.openxmlformats.org/officeDocument/2006/relationships/aFChunk")
        chunk = (f"<w:altChunk xmlns:w='http://schemas.openxmlformats.org/wordprocessingml/2006/main' xmlns:r='http://schemas."
                 f"openxmlformats.org/officeDocument/2006/relationships' r:id='{key}'/>")
        made.element.body.insert(len(made.element.body) - 1, parse_xml(chunk))
    made.save(out)
    assert [(s.heading, s.text) for s in parse_docx(out.getvalue())] == [("Pump", "Oil it.\n\nRich.\n\nOne.\n\nTwo.\n\nPage.")]


def dated():
    return workbook(["Made", "Part"], [datetime.date(2026, 1, 5), "seal"])


@pytest.mark.parametrize("raw", [
    changed(dated(), "xl/styles.xml", (b"gray125", b"none of these")),
    changed(dated(), "xl/styles.xml", (b'<patternFill patternType="gray125"/>', b"")),
    changed(dated(), "docProps/core.xml", (b"T", b"at ")),
    changed(dated(), "xl/worksheets/sheet1.xml", (b"</sheetData>", b"</sheetData><autoFilter ref='A1:B2'><filterColumn "
            b"colId='0'><customFilters><customFilter operator='x' val='y'/></customFilters></filterColumn></autoFilter>")),
    changed(dated(), "xl/_rels/workbook.xml.rels", (b"</Relationships>", LINK % (b"theme", b"theme/t.xml") +
                                                    b"</Relationships>")),
    changed(dated(), "", rename=lambda name: name.replace("sharedStrings", "SharedStrings")),
    changed(dated(), "xl/theme/theme1.xml"),
    changed(dated(), "", rename=lambda name: name.replace("/", "\\"))])
def test_workbooks_over_whose_faults_openpyxl_stumbles(raw):
    assert texts(parse_workbook(raw)) == ["Made | Part\n2026-01-05 | seal"]


def test_workbooks_in_the_strict_form_and_in_one_file(tmp_path):
    strict, made = dated(), io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(strict)) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            data = old.read(name).replace(b"http://schemas.openxmlformats.org/spreadsheetml/2006/",
                                          b"http://purl.oclc.org/ooxml/spreadsheetml/")
            new.writestr(name, data.replace(b"http://schemas.openxmlformats.org/officeDocument/2006/",
                                            b"http://purl.oclc.org/ooxml/officeDocument/"))
    assert texts(parse_workbook(made.getvalue())) == ["Made | Part\n2026-01-05 | seal"]
    (tmp_path/"a.xls").write_text(
        "<?xml version='1.0'?><Workbook xmlns='urn:schemas-microsoft-com:office:spreadsheet' xmlns:s='urn:schemas-microsoft-"
        "com:office:spreadsheet'><Worksheet s:Name='Parts'><Table><Row><Cell><Data>Made</Data></Cell><Cell s:Index='3'>"
        "<Data>Part</Data></Cell></Row><Row><Cell s:MergeAcross='1'><Data>2026-01-05T00:00:00.000</Data></Cell><Cell><Data>"
        "seal &amp; oil</Data></Cell></Row></Table></Worksheet><Worksheet s:Name='x'><Table><Row><Cell><Data>no</Data></Cell>"
        "</Row></Table><WorksheetOptions><Visible>SheetHidden</Visible></WorksheetOptions></Worksheet></Workbook>")
    assert [(d.heading, d.text) for d in read_file(tmp_path/"a.xls")] == [("Parts", "Made | Part\n2026-01-05 | seal & oil")]
    assert texts(parse_workbook(workbook(["A"], ["one_x000D_\ntwo"]))) == ["A\none two"]


def test_letters_of_symbol_fonts():
    w = "xmlns:w='http://schemas.openxmlformats.org/wordprocessingml/2006/main'"
    made, out = docx.Document(), io.BytesIO()
    made.element.body.insert(0, parse_xml(
        f"<w:p {w}><w:r><w:t>20 </w:t><w:sym w:font='Symbol' w:char='F0B0'/><w:t>C, 5 </w:t></w:r><w:r><w:rPr><w:rFonts "
        "w:ascii='Symbol'/></w:rPr><w:t>\uf06d</w:t></w:r><w:r><w:t>m </w:t><w:sym w:font='Wingdings' w:char='F0FE'/>"
        "<w:sym w:font='Other' w:char='F041'/></w:r></w:p>"))
    made.save(out)
    assert texts(parse_docx(out.getvalue())) == ["20 °C, 5 μm ☑"]


def test_a_lost_slide_or_page_takes_no_other_with_it(caplog):
    slide = "<sld><sp><t/><p><r><t>{}</t></r></p></sp></sld>"
    formula = slide.format("</t></r><AlternateContent><Choice><t>E=mc</t></Choice><Fallback><r><t>E=mc</t></r></Fallback>"
                           "</AlternateContent><r><t>")
    links = "".join(f'<r Id="r{i}" Target="slides/{i}.xml"/>' for i in (1, 2, 3))
    ids = "".join(f'<sldId xmlns:r="r" r:id="r{i}"/>' for i in (1, 2, 3))
    deck = archive({"ppt/presentation.xml": f"<p>{ids}</p>", "ppt/_rels/presentation.xml.rels": f"<R>{links}</R>",
                    "ppt/slides/1.xml": slide.format("One \x02"), "ppt/slides/3.xml": formula})
    assert [(s.text.strip(), s.page) for s in parse_slides(deck, "a.pptx")] == [("One", 1), ("E=mc", 3)]
    assert "slides/2.xml of a.pptx cannot be read" in caplog.text
    book = archive({"META-INF/container.xml": '<c><rootfile full-path="b.opf"/></c>', "a.xhtml": "<p>Here.</p>",
                    "b.xhtml": "<p>Gone for good.</p>", "b.opf": '<p><title>Oil&nbsp;it</title><item id="a" href="a.xhtml"/>'
                    '<item id="b" href="b.xhtml"/><itemref idref="b"/><itemref idref="a"/></p>'})
    at = book.index(b"<p>Gone")
    found = parse_epub(book[:at] + b"<q>Gone" + book[at + 7:], "a.epub")      # its checksum is that of before
    assert texts(found) == ["Here."] and "b.xhtml of a.epub" in caplog.text


# mail


def test_letters_whose_parts_are_told_wrongly(tmp_path):
    assert "Oil it." in parse_message(b"Subject: S\nMIME-Version: 1.0\nContent-Type: multipart/mixed\n\nOil it.\n")[0].text
    coded = (b"Subject: S\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n--B\nContent-Type: message/rfc822\n"
             b"Content-Transfer-Encoding: base64\n\nU3ViamVjdDogSW5uZXIKCk9pbCBpdC4K\n--B--\n")
    assert parse_message(coded)[0].text == "Inner\n\nOil it."
    letter = b"Subject: S\n\nOil it.\n"
    (tmp_path/"1.emlx").write_bytes(b"%d       \n%s<?xml?><plist>flags</plist>" % (len(letter), letter))
    assert [(d.title, d.text) for d in read_file(tmp_path/"1.emlx")] == [("S", "Oil it.")]


# PDF


HELVETICA = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"


def page_of(operations, font=HELVETICA, *further):
    "A PDF file of one page with these operations; further objects have the numbers from 6 on."
    parts = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
             font,
             b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> /Contents 5 0 R >>",
             *(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(said), said) for said in (operations, *further))]
    out, places = b"%PDF-1.4\n", []
    for number, part in enumerate(parts, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    table = b"".join(b"%010d 00000 n \n" % at for at in places)
    size = len(parts) + 1
    return out + b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (
        size, table, size, len(out))


def glyphs(text, *shifts):
    "Each letter placed by itself, as often as there are shifts."
    widths, x, out = {"W": 944, "r": 333, "i": 222, "l": 222, " ": 278}, 50., ""
    for letter in text:
        out += "".join(f"1 0 0 1 {x + shift:.2f} 700 Tm ({letter}) Tj " for shift in shifts if letter != " ")
        x += .012*widths.get(letter, 556)
    return out


@pytest.mark.parametrize("operations, said", [
    ("50 700 Td (Warning) Tj .3 0 Td (Warning) Tj 0 -14 Td (Hot.) Tj", "Warning\nHot."),          # one after the other
    (glyphs("Warning all", 0, .3), "Warning all"),                                              # letter by letter
    ("50 700 Td [(Wa)-10(rn)] TJ .2 0 Td [(Wa)-10(rn)] TJ -.2 .2 Td [(Wa)-10(rn)] TJ 0 -14 Td (Hot.) Tj", "Warn\nHot."),
    ("50 700 Td (Hot.) Tj ET q 1 0 0 1 .3 .3 cm BT 50 700 Td (Hot.) Tj ET Q BT 50 600 Td (Hot.) Tj", "Hot.\nHot."),
    ("50 700 Td (l) Tj (l) Tj 12 0 Td (l) Tj 2.7 0 Td (l) Tj", "ll ll"),                        # no copies
])
def test_what_is_drawn_twice_at_one_place_is_read_once(operations, said):
    assert texts(parse_pdf(page_of(f"BT /F1 12 Tf {operations} ET".encode()))) == [said]


@pytest.mark.parametrize("operations, said", [
    ("50 700 Td 3 Tw (lines of def) Tj 64 0 Td (ault) Tj", "lines of default"),                      # a filled line
    ("50 700 Td 3 Tw [(lines of def)] TJ 68 0 Td (ault) Tj", "lines of def ault"),
    ("q 3 Tw Q 50 700 Td (lines of def) Tj 64 0 Td (ault) Tj", "lines of def ault"),
    ("1 0 0 1 0 0 Tm 50 700 Td (Te) Tj 1 0 0 1 0 0 Tm 64 700 Td (X 2) Tj", "TeX 2"),                 # as Qt draws it
    ("50 700 Td (of) Tj 10 0 Td 3 Tc (fe) Tj 0 Tc 13 0 Td (very) Tj", "off every"),                  # as Ghostscript does
    ("50 700 Td (of) Tj 10 0 Td .3 Tc (fe) Tj 0 Tc 10.3 0 Td (very) Tj", "offevery"),
    ("/F1 6 Tf 50 700 Td (1) Tj /F1 9 Tf 3.3 -3 Td (The words) Tj", "1 The words"),                  # of a note
    ("50 700 Td (H) Tj /F1 6 Tf 8.7 -2 Td (2) Tj /F1 12 Tf 3.3 2 Td (O) Tj", "H2O")])
def test_words_are_whole_and_apart(operations, said):
    assert texts(parse_pdf(page_of(f"BT /F1 12 Tf {operations} ET".encode()))) == [said]


def test_words_in_a_font_without_a_space():
    names = b"begincmap 1 begincodespacerange <0000> <FFFF> endcodespacerange 3 beginbfchar\n<0001> <0061>\n<0020> <006D>\n%s"
    font = (b"<< /Type /Font /Subtype /Type0 /BaseFont /A /Encoding /Identity-H /ToUnicode 6 0 R /DescendantFonts [<< "
            b"/Type /Font /Subtype /CIDFontType2 /BaseFont /A /CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) "
            b"/Supplement 0 >> /DW 500 /W [1 [500] 32 [900]] >>] >>")
    page = b"BT /F1 10 Tf 50 700 Td [<00200001> -300 <00200001> -30 <0020>] TJ ET"
    for more in (b"endbfchar endcmap", b"<0002> <0020>\nendbfchar endcmap"):
        assert texts(parse_pdf(page_of(page, font, names % more))) == ["ma mam"]


def test_letters_that_a_font_draws_itself():
    font = (b"<< /Type /Font /Subtype /Type3 /FontBBox [0 0 9 9] /FontMatrix [.0125 0 0 .0125 0 0] /FirstChar 32 /LastChar 98 "
            b"/CharProcs << >> /Encoding << /Differences [98 /b] >> /Widths [22 %s] >>" % (b"40 "*66))
    page = b"BT /F1 10 Tf 50 700 Td [(a) -28 (b)] TJ 10 0 Td (a) Tj 10 0 Td (b) Tj ET"       # kerned, then two words
    assert texts(parse_pdf(page_of(page, font))) == ["aba b"]


@pytest.mark.parametrize("text, wanted", [
    ("E\x1ecient \x1clters o\x1b", "Efficient filters off"), ("o\x0cce e\x0bect K\x1cb na\x7f\x10ve x\x1a", "ofice effect Køb naïve x"),
    ("Z\xa8urich na\xa8\u0131ve fa\xb8cades cr`eme \u02c7Skoda", "Zürich naïve façades crème Škoda"),
    ("geht\xb4s, a `quoted word", "geht\xb4s, a `quoted word"), ("d\xb4eau à la", "d\xb4eau à la")])
def test_letters_and_accents_as_tex_draws_them(text, wanted):
    assert _plain_letters(text) == wanted


def test_hyphens_that_part_words_are_left_out():
    assert mend_lines("goes out\u2010\nward by a seal\u2010 ring") == "goes outward by a sealring"
    assert mend_lines("pre\u2010 and post\u2010war, a well\u2010\nknown one") == "pre\u2010 and post\u2010war, a well-known one"


def test_a_pdf_file_that_lost_its_end():
    raw = page_of(b"BT /F1 12 Tf 50 700 Td (Oil it.) Tj ET")
    for end in (raw.index(b"xref\n0"), raw.index(b"trailer"), raw.rindex(b"startxref")):
        assert texts(parse_pdf(raw[:end])) == ["Oil it."]
    with pytest.raises(UserError, match="not a readable PDF file"):
        parse_pdf(raw[:30])
    with pytest.raises(UserError, match="no pages"):
        parse_pdf(raw.replace(b"[4 0 R]", b"[]     ").replace(b"/Count 1", b"/Count 0"))


# markup


def test_latex_with_names_of_its_own_and_what_it_hides():
    paper = r"""\newcommand{\ours}{FastPump\xspace}\def\rival{\textbf{Slow}}\newcommand{\two}[2]{#1 by #2}
        \begin{document}\section{\ours} \ours beats \rival{}. \iffalse no \fi S\o ren, {\AA}ngstr\"om, Stra\ss e, \L\'od\'z.
        \begin{comment} no \end{comment} \begin{thebibliography}{9}\bibitem[K(84)]{k84} {\em Oil}.\end{thebibliography}"""
    found = parse_latex(paper)[0]
    assert (found.heading, found.text.split()) == (
        "FastPump", "FastPump beats Slow. Søren, Ångström, Straße, Łódź. Oil.".split())
    many = "".join(rf"\def\{a}{{{10*(chr(92) + b)}}}" for a, b in zip("abcdef", "bcdefg", strict=True))
    assert len(str(parse_latex(many + r"\a"*50))) < 100_000


@pytest.mark.parametrize("table", ['[format=csv]\n|===\nPart,"Bar, max"\nseal,8\n|===', ',===\nPart,"Bar, max"\nseal,8\n,===',
                                   "[%header,format=dsv]\n|===\nPart:Bar, max\nseal:8\n|===",
                                   "[format=csv,separator=;]\n|===\nPart;Bar, max\nseal;8\n|==="])
def test_tables_of_asciidoc_whose_cells_are_told_apart_otherwise(table):
    assert texts(parse_asciidoc(f"## C#\n\n{table}\n\nText.")) == ["Part | Bar, max\nseal | 8\n\nText."]


@pytest.mark.parametrize("text, said", [
    ("![a pump](b.png =100x20) in [the book](My Book.pdf), a[i](j k)", "a pump in the book, a[i](j k)"),
    ("Shown %%not%% %% this %%.\n\n%%\nnot\n\nthis\n%%\n\n50%% and %%time", "Shown .\n\n50%% and %%time"),
    ("```\n%%\nshown\n%%\n```", "%%\nshown\n%%")])
def test_markdown_of_other_programs(text, said):
    assert texts(parse_markdown(text)) == [said]


# passages


@pytest.mark.parametrize("text", [": as follows:\n\nas follows:\n\nSentence here. as follows:\n\nword",
                                  "Term\n\nword a | b\nas follows:\n\nas follows:\n\nword"])
def test_what_leads_over_to_a_passage_that_it_does_not_fit_into_is_not_lost(text):
    for overlap in range(10):
        made = " ".join(passages(text, 10, overlap)).split()
        assert {word: made.count(word) >= text.split().count(word) for word in text.split()} == dict.fromkeys(
            text.split(), True)


@pytest.mark.parametrize("text, said", [
    ("+---+---+\n| Part of it | 8 |\n+===+===+\n\nText.", ["Part of it", "Text."]),           # not drawn to its columns
    ("+----+----+\n| 水泵 | 8 |\n+====+====+\n| 阀门 | 9 |\n+----+----+", ["水泵 | 8\n阀门 | 9"]),   # letters of double width
    ("> :::note Lid\nShut it.\n> :::\n> ", ["Shut it."])])
def test_boxes_of_markdown_that_are_drawn_wrongly(text, said):
    found = texts(parse_markdown(text))[0]
    assert all(one in found for one in said)


def test_markdown_that_its_reader_stumbles_over_is_plain_text(monkeypatch, caplog):
    def stumble(*args):
        raise IndexError("string index out of range")
    monkeypatch.setattr(markup, "_markdown_html", stumble)
    assert texts(parse_markdown("# Pump\n\nOil it.")) == ["# Pump\n\nOil it."] and "plain text" in caplog.text


def test_a_caption_that_says_nothing():
    assert texts(parse_rst(".. code-block:: sh\n   :caption:\n\n   run it\n")) == ["run it"]


def test_a_packed_text_without_an_ending_and_a_title_of_one_word_in_json(tmp_path):
    (tmp_path/"README.gz").write_bytes(gzip.compress(b"Oil it every week."))
    (tmp_path/"broken.gz").write_bytes(b"\x1f\x8b\x08zz")
    (tmp_path/"a.json").write_text('{"title": "Kestrel", "parts": [{"name": "Seal", "bar": 8}, {"name": "Lid", "bar": 2}]}')
    assert [(d.title, d.text) for d in read_folder(tmp_path).documents] == [
        ("", "Oil it every week."), ("Kestrel", "name: Seal; bar: 8\n\nname: Lid; bar: 2")]


@pytest.mark.parametrize("text, said", [
    ('::: {.callout-note title="Tip of the day"}\nOil it.\n:::', "Tip of the day"), (":::note[Important dates]\nOil it.\n:::",
                                                                                    "Important dates"),
    ("```{note} overview\nOil it.\n```", "Overview"), (":::{warning} overheating\nOil it.\n:::", "Overheating"),
    ("/// note | overview\nOil it.\n///", "overview"), (":::tip My tip\nOil it.\n:::", "My tip")])
def test_titles_of_boxes_that_look_like_kinds_or_classes(text, said):
    assert texts(parse_markdown(text)) == [f"{said}\n\nOil it."]


def test_quoted_cells_after_a_space():
    assert texts(parse_table('Part, Note\nseal, "dry, clean"\n')) == ["Part | Note\nseal | dry, clean"]


@pytest.mark.parametrize("kind, body, said", [
    ("text/markdown", "# Oil it", "# Oil it"), ("text/x-patch", "+oil", "+oil"), ("text/enriched", "<bold>Oil</bold> it", "Oil it"),
    ("text/plain", "<html><body><p>Oil it</p></body></html>", "Oil it"), ("text/rtf", "{\\rtf1 Oil it}", "Oil it")])
def test_letters_of_other_kinds_of_text(kind, body, said):
    assert parse_message(f"Subject: S\nContent-Type: {kind}\n\n{body}\n".encode())[0].text == said


def test_forms_of_a_letter_that_programs_read_are_left_out():
    parts = "".join(f"--B\nContent-Type: text/{kind}\n\n{said}\n" for kind, said in (
        ("plain", "Oil it."), ("x-amp-html", "<p>not this</p>"), ("rfc822-headers", "Subject: nor this")))
    raw = f"Subject: S\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n{parts}--B--\n"
    assert parse_message(raw.encode())[0].text == "Oil it."


def test_documents_in_xml_of_16_bits(tmp_path):
    for encoding in ("utf-16-le", "utf-16-be"):
        text = '\ufeff<?xml version="1.0" encoding="UTF-16"?><book><title>Pump</title><para>Für Öl.</para></book>'
        (tmp_path/"a.xml").write_bytes(text.encode(encoding))
        assert [(d.title, d.text) for d in read_file(tmp_path/"a.xml")] == [("Pump", "Für Öl.")]
    sheet = ('\ufeff<Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet"><Worksheet><Table><Row><Cell><Data>Öl</Data>'
             "</Cell></Row></Table></Worksheet></Workbook>")
    (tmp_path/"a.xls").write_bytes(sheet.encode("utf-16-le"))
    assert texts(read_file(tmp_path/"a.xls")) == ["Öl"]

"""Files that are damaged, named wrongly or written by careless programs: what a reader can see in them is read."""
import io

import openpyxl
import pytest
from small import docx_bytes, pdf_bytes

from ragcun import UserError
from ragcun.data.decoding import decode_bytes, file_kind
from ragcun.data.documents import document_kind, read_file
from ragcun.data.structured import parse_captions, parse_json_lines, parse_json_rows
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

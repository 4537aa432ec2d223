"""One odd row among many is left out, counted and named; many of them are another encoding, and an error."""
import json
import logging

import pytest

from ragcun import UserError, load_pairs
from ragcun.cli.flags import read_corpus
from ragcun.data.collections import load_beir, read_qrels
from ragcun.data.documents import read_documents
from ragcun.data.files import write_rows
from ragcun.data.preparation import PrepareConfig, prepare

ROWS = [{"query": f"what is thing {i}", "positive": f"thing {i} is made of part {i * 7}"} for i in range(60)]
FRENCH = "café".encode("cp1252")


def lines(path, *rows):
    path.write_bytes(b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in rows))
    return path


def cells(*rows):
    return b"".join(f"{i},{t}\n".encode() if isinstance(t, str) else b"%d,%s\n" % (i, t) for i, t in rows)


@pytest.mark.parametrize("bad, what", [(b'{"query": "x", "positive": "' + FRENCH + b'"}', "not UTF-8"),
                                       (b'{"query": "x", "pos', "broken JSON")])
def test_a_broken_row_among_pairs_is_dropped_and_named(tmp_path, bad, what):
    source = lines(tmp_path/"p.jsonl", *ROWS, bad, {"query": "last one", "positive": "is here as well"})
    report = prepare(PrepareConfig(input=str(source), output=str(tmp_path/"o"/"train.json")))
    assert (report.read, report.kept) == (62, 61)
    assert [rows for reason, rows in report.examples.items() if what in reason] == [[61]]
    assert json.loads((tmp_path/"o"/"train.json").read_text())[-1]["query"] == "last one"
    with pytest.raises(UserError, match=f"{what}.*row 61"):
        prepare(PrepareConfig(input=str(source), output=str(tmp_path/"q"/"train.json"), on_fault="stop"))
    with pytest.raises(UserError, match=f"{what}.*row 61"):
        load_pairs(source)
    assert not (tmp_path/"q"/"train.json").exists()


def test_a_broken_row_of_documents_is_left_out_and_named(tmp_path, caplog):
    texts = [f"document {i} of the pump" for i in range(40)]
    source = lines(tmp_path/"d.jsonl", *({"text": t} for t in texts), b'{"text": "' + FRENCH + b'"}', {"text": "last"})
    assert [d.text for d in read_documents(source)] == [*texts, "last"]
    assert "1 of 42 documents" in caplog.text and "row 41: not UTF-8: byte 0xe9" in caplog.text


def test_a_broken_line_of_a_table_takes_its_whole_record(tmp_path, caplog):
    table = b"id,text\n" + cells(*((i, f"document {i}") for i in range(40)))
    torn = b'50,"first line\n' + FRENCH + b'\nthird line"\n'
    (tmp_path/"d.csv").write_bytes(table + cells((49, FRENCH)) + torn + b'51,"two\nlines"\n')
    found = read_documents(tmp_path/"d.csv")
    assert [d.document_id for d in found[-2:]] == ["39", "51"] and found[-1].text == "two\nlines"
    assert "2 of 43 documents" in caplog.text


def test_another_encoding_is_an_error_and_loses_no_rows(tmp_path):
    for number in (4, 300):
        rows = [b'{"text": "' + FRENCH + b'"}' if i % 4 == 3 else b'{"text": "plain %d"}' % i for i in range(number)]
        with pytest.raises(UserError, match="not UTF-8.*row 4.*iconv"):
            read_documents(lines(tmp_path/"d.jsonl", *rows))
    (tmp_path/"d.csv").write_bytes("text\nGrüße\nplain\n".encode("cp1252"))
    with pytest.raises(UserError, match="not UTF-8"):
        read_documents(tmp_path/"d.csv")


def test_ids_that_a_table_with_empty_cells_made_decimals(tmp_path):
    nan = float("nan")
    rows = [r | {"query_id": float(i), "document_id": nan, "negative": nan} for i, r in enumerate(ROWS)]
    pairs = load_pairs(rows)
    assert [p.query_id for p in pairs][:2] == ["0", "1"] and {p.document_id for p in pairs} == {""}
    assert {p.negatives for p in pairs} == {()}
    source = lines(tmp_path/"d.jsonl", {"id": 3.0, "text": "a"}, {"id": nan, "text": "b"}, {"id": nan, "text": "c"})
    assert [d.document_id for d in read_documents(source)] == ["3", "", ""]


# BEIR folders


def beir(folder, qrels="query-id\tcorpus-id\tscore\nq0\td0\t1\nq1\td1\t1\n", corpus=(), queries=()):
    (folder/"qrels").mkdir(parents=True, exist_ok=True)
    lines(folder/"corpus.jsonl", *({"_id": f"d{i}", "text": f"thing {i}"} for i in range(40)), *corpus)
    lines(folder/"queries.jsonl", *queries or ({"_id": f"q{i}", "text": f"what is {i}"} for i in range(5)))
    (folder/"qrels"/"test.tsv").write_text(qrels)
    return folder


def test_a_broken_row_of_a_corpus_is_left_out_and_named(tmp_path, caplog):
    odd = (b'{"_id": "x", "te', b'{"_id": "y", "text": "' + FRENCH + b'"}', {"text": "no id"})
    assert len(load_beir(beir(tmp_path, corpus=odd)).corpus) == 40
    assert "3 rows of" in caplog.text and all(f"row {i}: " in caplog.text for i in (41, 42, 43))
    lines(tmp_path/"corpus.jsonl", {"id": "d0", "text": "a"}, {"id": "d1", "text": "b"})
    with pytest.raises(UserError, match="no _id; its keys are id, text.*row 1"):
        load_beir(tmp_path)


@pytest.mark.parametrize("text", [None, "", ["what"]])
def test_questions_without_a_text_are_not_measured(tmp_path, caplog, text):
    rows = [{"_id": "q0", "text": text}, {"_id": "q1", "text": text}]
    with pytest.raises(UserError, match="none of 2 judged rows has a text"):
        load_beir(beir(tmp_path, queries=rows))
    assert load_beir(beir(tmp_path, queries=[rows[0], {"_id": "q1", "text": "what is 1"}])).queries["q0"] == ""
    assert "1 text of" in caplog.text and "row 1: text is" in caplog.text


def test_judged_documents_that_all_lack_a_text_are_an_error_of_one_line(tmp_path):
    empty = [{"_id": "d98", "text": ""}, {"_id": "d99", "text": ""}]
    folder = beir(tmp_path, "query-id\tcorpus-id\tscore\nq0\td98\t1\nq1\td99\t1\n", empty)
    assert len(load_beir(folder).corpus) == 42
    with pytest.raises(UserError, match="none of 2 judged rows has a text .*corpus.jsonl"):
        load_beir(folder, only_judged=True)


@pytest.mark.parametrize("header", ["query-id\tscore\tcorpus-id", "qid\trelevance\tdocid"])
def test_a_header_whose_documents_stand_last_is_refused(tmp_path, header):
    (tmp_path/"q.tsv").write_text(f"{header}\n1\t1\t7\n2\t1\t8\n")      # ids that are numbers look like grades
    with pytest.raises(UserError, match="stands last"):
        list(read_qrels(tmp_path/"q.tsv"))


def test_judgements_without_grades_are_said_to_have_none(tmp_path):
    (tmp_path/"q.tsv").write_text("query-id\tcorpus-id\n1\t7\n")
    with pytest.raises(UserError, match="no column of grades .*whole number"):
        list(read_qrels(tmp_path/"q.tsv"))


@pytest.mark.parametrize("header", ["query_id\tdoc_id\tdoc_relevance", "qid\tpid\tpassage_score"])
def test_a_grade_may_be_named_after_the_document(tmp_path, header):
    (tmp_path/"q.tsv").write_text(f"{header}\n1\t7\t1\n")
    assert list(read_qrels(tmp_path/"q.tsv")) == [(2, "1", "7", 1)]


@pytest.mark.parametrize("mark", ["\t", " ", ","])
@pytest.mark.parametrize("header", [["query-id", "corpus-id", "score"], None, ["qid", "0", "docid", "rel"]])
def test_judgements_are_the_same_whatever_parts_their_columns(tmp_path, mark, header):
    rows = [["q1", "d 7" if mark == "\t" else "d7", "1"], ["q2", "d8", "0"]]
    if header and len(header) == 4:
        rows = [[query, "0", document, grade] for query, document, grade in rows]
    (tmp_path/"q.tsv").write_text("".join(mark.join(row) + "\n" for row in [*[header] * bool(header), *rows]))
    found = [row[1:] for row in read_qrels(tmp_path/"q.tsv")]
    assert found == [("q1", rows[0][-2], 1), ("q2", "d8", 0)]


@pytest.mark.parametrize("known, judged", [("d1", "d1 "), ("Doc-A", "doc-a"), ("7", "007"), ("caf\u00e9", "cafe\u0301")])
def test_an_unknown_id_is_named_with_the_one_that_looks_like_it(tmp_path, caplog, known, judged):
    caplog.set_level(logging.WARNING)
    corpus = [{"_id": known, "text": "the one"}] if known != "d1" else []
    head = "query-id\tcorpus-id\tscore\n"
    load_beir(beir(tmp_path, f"{head}q0\td0\t1\nq1\t{judged}\t1\n", corpus))
    assert f"{judged!r} (the texts have {known!r})" in caplog.text
    with pytest.raises(UserError, match="the texts have"):
        load_beir(beir(tmp_path, f"{head}q1\t{judged}\t1\n", corpus))


def test_quotes_of_a_table_written_without_quoting_take_no_rows_with_them(tmp_path):
    rows = [("1", 'the 5" pipe'), ("2", '"Stop, he said'), ("3", "not quoted"), ("4", '"Go, she said'), ("5", "last"),
            ("6", '"One quote more')]
    (tmp_path/"d.tsv").write_text("id\ttext\n" + "".join(f"{i}\t{t}\n" for i, t in rows))
    assert [(d.document_id, d.text) for d in read_documents(tmp_path/"d.tsv")] == rows
    (tmp_path/"e.tsv").write_text('id\ttext\n1\t"two\nlines"\n2\t"a ""word"""\n')      # quoted as it should be
    assert [d.text for d in read_documents(tmp_path/"e.tsv")] == ["two\nlines", 'a "word"']
    texts = ["Table:", "name\tvalue\ndensity\t917"]       # each of its lines has a tab, too, and its quotes are in order
    write_rows([{"id": "1", "text": t} for t in texts], tmp_path/"g.tsv")
    assert [d.text for d in read_documents(tmp_path/"g.tsv")] == texts
    (tmp_path/"f.tsv").write_text('id\ttext\n1\ta\n2\t"never\nclosed\n')
    with pytest.raises(UserError, match="never closed"):
        read_documents(tmp_path/"f.tsv")


def test_a_quote_that_is_never_closed_is_named_also_where_a_line_after_it_is_not_utf8(tmp_path):
    rows = [f"{i},words of row {i}\n".encode() for i in range(200)]
    rows[50], rows[60] = b'50,"never closed\n', b"60,caf\xe9\n"
    (tmp_path/"d.csv").write_bytes(b"id,text\n" + b"".join(rows))
    with pytest.raises(UserError, match="never closed.*line 52"):       # 150 rows were left out without a word
        read_documents(tmp_path/"d.csv")


def test_what_json_cannot_hold_of_a_row_ends_nothing(tmp_path):
    rows = [{"text": "a", "price": float("inf"), "size": float("nan"), "vector": [1., float("nan")]},
            {"text": "b", "metadata": {"price": float("nan"), "year": 3}}, {"text": "c", "metadata": "from the shelf"}]
    found = read_corpus(str(lines(tmp_path/"d.jsonl", *rows)))
    assert [d["metadata"] for d in found] == [{"price": None, "vector": [1., None]}, {"price": None, "year": 3},
                                              {"metadata": "from the shelf"}]


@pytest.mark.parametrize("text", ['{"text": "a"}{"text": "b"}', '[{"text": "a"},', '{', '{"text": "a"}\r{"text": "b"}'])
def test_rows_in_another_shape_than_their_name_says_are_told_which(tmp_path, text):
    (tmp_path/"d.jsonl").write_bytes(text.encode() + b"\n")
    with pytest.raises(UserError, match="one object a line; a list of rows belongs in a .json file"):
        read_documents(tmp_path/"d.jsonl")
    (tmp_path/"d.txt").write_bytes(b"One.\r\nTwo.\x1a")
    assert [d.text for d in read_documents(tmp_path/"d.txt")] == ["One.", "Two."]

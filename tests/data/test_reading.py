"""Reading pairs and collections: every planted fault is named with its row, and nothing crashes."""
import csv
import gzip
import io
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from small import WORDS

from ragcun.cli.commands import main
from ragcun.core import UserError
from ragcun.data.collections import RetrievalData, save_retrieval
from ragcun.data.negatives import mine_bm25
from ragcun.data.files import MAX_TEXT, check_apart, normalise_text, cell_fault, text_id
from ragcun.data.pairs import (Pair, PairSet, as_retrieval, column_advice, load_pairs, load_retrieval,
                               pairs_to_retrieval, save_pairs)

GOOD = {"query": "What is a byte?", "positive": "Eight bits."}
SHARED = Path(os.environ.get("RAGCUN_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
FORMATS = ["p.json", "p.jsonl", "p.jsonl.gz", "p.csv", "p.tsv", "p.parquet"]
slow_files = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refused(path, *words, split="train"):
    """Loading fails in one line that holds these words."""
    with pytest.raises(UserError) as e:
        load_pairs(path, split)
    line = str(e.value)
    assert "\n" not in line
    for word in (*words, str(path)):
        assert word in line, line
    return line


def jsonl(path, *rows):
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


# one test for each planted fault

def test_empty(tmp_path):
    refused(jsonl(tmp_path/"a.jsonl", GOOD, {"query": "  ", "positive": "x"}), "query is empty", "row 2")


def test_null(tmp_path):
    refused(jsonl(tmp_path/"a.jsonl", GOOD, GOOD, {"query": "x", "positive": None}), "positive is null", "row 3")


def test_number(tmp_path):
    refused(jsonl(tmp_path/"a.jsonl", {"query": 3, "positive": "x"}), "query is not text but int", "row 1")


@pytest.mark.parametrize("column, value", [("score", 0), ("label", False), ("Relevance", "0"), ("grade", -1.0),
                                           ("is_duplicate", 0)])
def test_a_row_that_is_judged_to_be_no_answer_is_no_pair(tmp_path, column, value):
    path = jsonl(tmp_path/"a.jsonl", GOOD | {column: 1}, {"query": "x", "positive": "y", column: value})
    refused(path, f"is no answer by its column {column}", "rename the column", "row 2")
    with pytest.raises(UserError, match="leave out all such rows: ragcun prepare --input"):
        load_pairs(path)
    assert main(["prepare", "--input", str(path), "--output_dir", str(tmp_path/"o")]) == 0
    assert len(load_pairs(tmp_path/"o"/"train.json")) == 1
    assert len(load_pairs([GOOD | {column: .5}, GOOD | {"rank": 0}])) == 2


def test_a_list_of_answers_is_a_pair_for_each(tmp_path):
    rows = [{"query": w, "pos": [f"{w} and more", "", f"{w} again"], "neg": [f"no {w}", f"never {w}"],
             "document_id": w} for w in WORDS[:40]]
    path = jsonl(tmp_path/"a.jsonl", *rows)
    refused(path, "its fields are query, pos, neg", "--query_column query --positive_column pos", "row 1")
    assert main(["prepare", "--input", str(path), "--positive_column", "pos", "--output_dir", str(tmp_path/"o")]) == 0
    made = load_pairs(tmp_path/"o"/"train.json")
    assert [(p.query, p.positive) for p in made][:2] == [(WORDS[0], f"{WORDS[0]} and more"), (WORDS[0],
                                                                                              f"{WORDS[0]} again")]
    assert len(made) == 80 and made[0].negatives == (f"no {WORDS[0]}", f"never {WORDS[0]}") == made[1].negatives


def test_a_list_of_answers_that_are_no_texts_is_said_in_a_line_without_them(tmp_path, capsys):
    path = jsonl(tmp_path/"a.jsonl", *({"query": w, "positive": [{"text": w}, {"text": w * 2}]} for w in WORDS[:40]))
    assert main(["prepare", "--input", str(path), "--output_dir", str(tmp_path/"o")]) == 2
    said = capsys.readouterr().err
    assert "40 rows: positive is not text but list: give each text a row" in said and len(said) < 300


def test_json_nan(tmp_path):
    refused(jsonl(tmp_path/"a.jsonl", '{"query": NaN, "positive": "x"}'), "query is not text but float", "row 1")


def test_broken_json(tmp_path):
    refused(jsonl(tmp_path/"a.jsonl", GOOD, GOOD, '{"query": "x", '), "broken JSON", "row 3")


def test_deep_json(tmp_path):
    refused(jsonl(tmp_path/"a.jsonl", GOOD, "[" * 100_000), "broken JSON", "row 2")


def test_columns(tmp_path):
    refused(jsonl(tmp_path/"a.jsonl", {"question": "x", "answer": "y"}), "question, answer", "Rename the columns")


def test_no_rows(tmp_path):
    refused(jsonl(tmp_path/"a.jsonl"), "no pairs")


def test_json_lines_as_json(tmp_path):
    refused(jsonl(tmp_path/"a.json", GOOD, GOOD), ".jsonl")


def test_json_object(tmp_path):
    refused(jsonl(tmp_path/"a.json", {"data": []}), "not a list")


def test_long_text(tmp_path):
    refused(jsonl(tmp_path/"a.jsonl", GOOD, {"query": "x", "positive": "a" * (MAX_TEXT + 1)}),
            "1,000,001 characters", "row 2")


def test_nul(tmp_path):
    refused(jsonl(tmp_path/"a.jsonl", {"query": "x\u0000y", "positive": "a"}), "NUL", "row 1")


def test_negative_is_positive(tmp_path):
    refused(jsonl(tmp_path/"a.jsonl", GOOD | {"negative": "eight  bits"}), "negative is equal", "row 1")


def test_bad_negative(tmp_path):
    refused(jsonl(tmp_path/"a.jsonl", GOOD | {"negative": ["x", ""]}), "negative is empty", "row 1")


def test_ten_megabyte_line(tmp_path):
    refused(jsonl(tmp_path/"a.jsonl", GOOD, {"query": "x", "positive": "a" * 10_000_000}),
            "longer than 8,000,000 bytes", "row 2")


def test_endless_line_in_bounded_memory(tmp_path):
    import tracemalloc
    with open(tmp_path/"a.jsonl", "wb") as f:
        f.truncate(300_000_000)     # one line of 300 MB, sparse
    tracemalloc.start()
    refused(tmp_path/"a.jsonl", "longer than", "row 1")
    assert tracemalloc.get_traced_memory()[1] < 40_000_000
    tracemalloc.stop()


def test_nan_from_empty_csv_cell(tmp_path):
    (tmp_path/"a.csv").write_text("query,positive\nx,nan\n")
    refused(tmp_path/"a.csv", "word nan", "empty cell", "row 2")
    (tmp_path/"b.csv").write_text("query,positive,negative\nx,\ny,z,\n")
    refused(tmp_path/"b.csv", "row 2")
    (tmp_path/"c.csv").write_text("query,positive,negative\ny,z,\n")
    assert load_pairs(tmp_path/"c.csv")[0].negatives == ()


def test_csv_cells(tmp_path):
    (tmp_path/"a.csv").write_text("query,positive\nx,y\nx,y,z\n")
    refused(tmp_path/"a.csv", "3 cells under 2 column names", "row 3")
    (tmp_path/"b.csv").write_text("question,answer\nx,y\n")
    refused(tmp_path/"b.csv", "Rename the columns", "row 2")


@pytest.mark.parametrize("cell, found", [
    ('["no, not", "never"]', ("no, not", "never")), ("['no']", ("no",)), ("['no' 'never']", ("['no' 'never']",)),
    ("[1] says no", ("[1] says no",)), ("['no", ("['no",))])
def test_a_list_in_a_cell(tmp_path, cell, found):
    with open(tmp_path/"p.csv", "w", newline="") as f:
        csv.writer(f).writerows([["query", "positive", "negative"], ["a", "b", cell]])
    assert load_pairs(tmp_path/"p.csv")[0].negatives == found


def test_byte_order_mark(tmp_path):
    for name, text in (("a.jsonl", json.dumps(GOOD)), ("a.json", json.dumps([GOOD])),
                       ("a.csv", "query,positive\nWhat is a byte?,Eight bits.\n")):
        (tmp_path/name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert load_pairs(tmp_path/name)[0] == Pair(**GOOD)
        (tmp_path/name).write_bytes(text.encode("utf-16"))      # as shells and spreadsheets of Windows write
        assert load_pairs(tmp_path/name)[0] == Pair(**GOOD)
    (tmp_path/"b.jsonl").write_bytes(json.dumps(GOOD).encode("utf-16")[:-1])
    refused(tmp_path/"b.jsonl", "broken UTF-16")


def test_latin1(tmp_path):
    (tmp_path/"a.jsonl").write_bytes(json.dumps(GOOD).encode() + b"\n" + json.dumps(
        {"query": "größer", "positive": "x"}, ensure_ascii=False).encode("latin-1"))
    refused(tmp_path/"a.jsonl", "not UTF-8", "0xf6", "position 13", "row 2", "iconv")


def test_lone_surrogate(tmp_path):
    refused(jsonl(tmp_path/"a.jsonl", GOOD, '{"query": "ok\\ud83d", "positive": "x"}'), "surrogate",
            "character 2", "row 2")
    assert load_pairs(jsonl(tmp_path/"b.jsonl", '{"query": "ok\\ud83d\\ude42", "positive": "x"}'))[0].query == "ok🙂"


def test_one_id_two_texts(tmp_path):
    rows = [{"query": "a", "positive": "x", "document_id": "7"}, {"query": "b", "positive": "y", "document_id": "7"}]
    refused(jsonl(tmp_path/"a.jsonl", *rows), "document id 7 stands for two texts")
    rows = [{"query": "a", "positive": "x", "query_id": 7}, {"query": "b", "positive": "x", "query_id": 7}]
    refused(jsonl(tmp_path/"b.jsonl", *rows), "query id 7 stands for two texts")


def test_broken_containers(tmp_path):
    (tmp_path/"a.jsonl.gz").write_bytes(gzip.compress(b"x" * 1000)[:-12])
    refused(tmp_path/"a.jsonl.gz", "gzip")
    (tmp_path/"b.json.gz").write_bytes(b"not gzip")
    refused(tmp_path/"b.json.gz", "gzip")
    (tmp_path/"c.parquet").write_bytes(b"PAR1 no")
    refused(tmp_path/"c.parquet", "Parquet")
    (tmp_path/"d.xlsx").write_bytes(b"")
    refused(tmp_path/"d.xlsx", "unknown format .xlsx", "Save the sheet as .csv")
    refused(tmp_path/"none.json", "no such file")


# BEIR folders

@pytest.fixture
def beir(tmp_path):
    jsonl(tmp_path/"corpus.jsonl", {"_id": "d1", "title": "Byte", "text": "Eight bits."},
          {"_id": "d2", "title": "", "text": "Four bits."})
    jsonl(tmp_path/"queries.jsonl", {"_id": "q1", "text": "byte?"}, {"_id": "q2", "text": "nobody judged me"})
    (tmp_path/"qrels").mkdir()
    (tmp_path/"qrels"/"test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n")
    return tmp_path


def test_beir(beir):
    data = load_retrieval(beir)
    assert data.corpus == {"d1": "Byte Eight bits.", "d2": "Four bits."}
    assert data.queries == {"q1": "byte?"} and data.qrels == {"q1": {"d1": 2, "d2": 0}}
    assert load_pairs(beir, "test").pairs == [Pair("byte?", "Byte Eight bits.", (), "q1", "d1")]


def test_judgements_in_json_as_mteb_writes_them(beir):
    (beir/"qrels"/"test.tsv").unlink()
    path = beir/"qrels"/"test.jsonl"
    path.write_text('{"query-id": "q1", "corpus-id": "d1", "score": 2.0}\n{"query-id": "q1", "corpus-id": "d2", "score": 0}\n')
    assert load_retrieval(beir).qrels == {"q1": {"d1": 2, "d2": 0}}
    path.write_text('{"query-id": "q1", "corpus-id": "d1"}\n')
    with pytest.raises(UserError, match="not a judgement .*row 1"):
        load_retrieval(beir)


def test_beir_trec_qrels(beir):
    (beir/"qrels"/"test.tsv").write_text("q1 0 d1 1\n")
    assert load_retrieval(beir).qrels == {"q1": {"d1": 1}}


@pytest.mark.parametrize("name, text", [("test.tsv.gz", "query-id\tcorpus-id\tscore\nq1\td1\t1\n"),
                                        ("test.txt", "q1 0 d1 1\n"), ("test.trec.gz", "q1 0 d1 1\n"),
                                        ("test.csv", "query-id,corpus-id,score\nq1,d1,1\n"),
                                        ("test.csv", '"query-id","corpus-id","score"\n"q1","d1",1\n'),
                                        ("test.txt", '"query-id"\t"corpus-id"\t"score"\n"q1"\t"d1"\t1\n')])
def test_judgements_under_other_endings(beir, name, text):
    (beir/"qrels"/"test.tsv").unlink()
    path = beir/"qrels"/name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    (beir/"qrels"/"README.txt").write_text("who judged")
    for given in (beir, path):
        data = load_retrieval(given)
        assert data.qrels == {"q1": {"d1": 1}} and data.name.endswith("/test")
    assert [p.positive for p in load_pairs(path)] == ["Byte Eight bits."]
    with pytest.raises(UserError, match="no split dev .*Name one of test with"):
        load_retrieval(beir, "dev")
    with pytest.raises(UserError, match="is read by this command"):
        check_apart({"output_file": path}, beir)
    (beir/"qrels"/"test.tsv").write_text("q1\td2\t1\n")
    with pytest.raises(UserError, match="the split test is that of test.tsv"):
        load_retrieval(path)


def test_a_folder_without_judgements_says_what_it_holds_instead(beir):
    (beir/"qrels"/"test.tsv").rename(beir/"qrels"/"test-00000.parquet")
    with pytest.raises(UserError, match=r"qrels/ holds test-00000.parquet .*Write them as qrels/<split>.tsv"):
        load_retrieval(beir)
    (beir/"qrels"/"test-00000.parquet").rename(beir/"qrels.tsv.gz")
    with pytest.raises(UserError, match=r"qrels.tsv.gz is not in the folder qrels/ .*: qrels/test.tsv.gz"):
        load_retrieval(beir)


def test_beir_columns_the_other_way_round(beir):
    path = next(beir.glob("qrels/*.tsv"))
    path.write_text("corpus-id\tquery-id\tscore\n1\t1\t1\n")
    with pytest.raises(UserError, match="column of documents stands first.*row 1"):
        load_retrieval(beir, path.stem)


def test_beir_faults(beir):
    refused(beir, "no split train", "test")
    qrels = beir/"qrels"/"test.tsv"
    qrels.write_text("q1\td1\t1\nq1\td9\t1\n")
    assert load_pairs(beir, "test").document_ids == ["d1"]    # d9 has no text: counted, not trained on
    qrels.write_text("q1\td9\t1\n")
    refused(beir, "no judged document is known, d9 for example", split="test")
    qrels.write_text("q9\td1\t1\n")
    refused(beir, "no judged query is known, q9 for example", split="test")
    qrels.write_text("q1\td1\t1\nq1\td1\t2\n")
    refused(beir, "judged twice", "row 2", split="test")
    qrels.write_text("q1\td1\t1\nq1 d1\n")
    refused(beir, "not a judgement", "row 2", split="test")
    qrels.write_text("")
    refused(beir, "no judgements", split="test")
    qrels.write_text("q1\td1\t1\n")
    jsonl(beir/"corpus.jsonl", {"_id": "d1", "text": "x"}, {"_id": "d1", "text": "y"})
    refused(beir, "id d1 is used twice", "row 2", split="test")
    jsonl(beir/"corpus.jsonl", {"id": "d1", "text": "x"})
    refused(beir, "no _id", "row 1", split="test")
    (beir/"corpus.jsonl").unlink()
    refused(beir, "no corpus.jsonl", split="test")


@pytest.mark.skipif(not (SHARED/"cranfield").is_dir(), reason="the shared data sets are not here")
def test_shared_counts():
    data = load_retrieval(SHARED/"cranfield")
    assert (len(data.queries), len(data.corpus)) == (225, 1398)
    assert len(load_retrieval(SHARED/"squad-small").queries) == 1000


# the single evaluation file

def single(path, **changed):
    path.write_text(json.dumps({"corpus": ["a", "b"], "queries": ["x", "y"], "relevance": [[0], [1, 0]]} | changed))
    return path


def test_single(tmp_path):
    data = load_retrieval(single(tmp_path/"e.json"))
    assert data.qrels == {"0": {"0": 1}, "1": {"1": 1, "0": 1}}
    assert [p.positive for p in load_pairs(tmp_path/"e.json")] == ["a", "b", "a"]


@pytest.mark.parametrize("changed, word", [
    ({"relevance": [[0], [2]]}, "relevance 1"), ({"relevance": [[0], [-1]]}, "relevance 1"),
    ({"relevance": [[0]]}, "1 rows of relevance"), ({"relevance": [[0], ["0"]]}, "relevance 1"),
    ({"corpus": ["", " "]}, "corpus 0 is empty"), ({"queries": [None, None]}, "queries 0 is null"),
    ({"corpus": [{"contents": "a"}, {"contents": "b"}]}, "its keys are contents"),
    ({"corpus": "ab"}, "corpus is not a list"), ({"corpus_ids": ["1", "1"]}, "ids of corpus"),
    ({"relevance": [[True], [0]]}, "relevance 0"), ({"relevance": 7}, "relevance is not a list"),
    ({"relevance": [7, [0]]}, "relevance 0"), ({"judged": [[[0, 1]], [[0]]]}, "relevance 1")])
def test_single_faults(tmp_path, changed, word):
    with pytest.raises(UserError, match=word):
        load_retrieval(single(tmp_path/"e.json", **changed))


def test_one_odd_text_is_not_the_end_of_a_single_file(tmp_path, caplog):
    data = load_retrieval(single(tmp_path/"e.json", corpus=["a", ""], queries=["x", None]))
    assert data.corpus == {"0": "a", "1": ""} and data.queries == {"0": "x", "1": ""}
    assert "corpus 1 is empty" in caplog.text and "queries 1 is null" in caplog.text
    save_retrieval(data, tmp_path/"again.json")
    assert load_retrieval(tmp_path/"again.json").qrels == data.qrels
    for name, said in (("again", "unknown format"), ("again.csv", "an evaluation set is one .json file")):
        with pytest.raises(UserError, match=said):      # no reader would take it
            save_retrieval(data, tmp_path/name)


def test_a_title_belongs_to_the_text_of_a_single_file(tmp_path):
    path = tmp_path/"e.json"
    path.write_text(json.dumps({"corpus": [{"title": "Salt", "text": "keeps."}, "plain"], "queries": ["a"],
                                "relevance": [[0]]}))
    assert list(load_retrieval(path).corpus.values()) == ["Salt keeps.", "plain"]


@slow_files
@given(data=st.data())
def test_single_round_trip(tmp_path, data):
    ids = st.text(min_size=1, max_size=4).filter(lambda t: not cell_fault(t))
    corpus = data.draw(st.dictionaries(ids, st.sampled_from(["a", "b c", "é🙂"]), min_size=1, max_size=5))
    queries = data.draw(st.dictionaries(ids, st.sampled_from(["x", "y"]), max_size=4))
    qrels = {q: data.draw(st.dictionaries(st.sampled_from(sorted(corpus)), st.integers(0, 3), max_size=3))
             for q in queries}
    made = RetrievalData(corpus, queries, qrels, "e")
    save_retrieval(made, tmp_path/"e.json")
    assert load_retrieval(tmp_path/"e.json") == made


# round trips and hypothesis

texts = st.text(max_size=30).filter(lambda t: not cell_fault(t))
good_pairs = st.builds(Pair, query=texts, positive=texts.map(lambda t: t + " p"),
                       negatives=st.lists(texts.map(lambda t: t + " n"), max_size=3).map(tuple), query_id=st.just(""),
                       document_id=st.just(""), strategy=st.sampled_from(["", "title"]))


@pytest.mark.parametrize("name", FORMATS)
@slow_files
@given(pairs=st.lists(good_pairs, min_size=1, max_size=4).map(PairSet))
def test_round_trip(tmp_path, name, pairs):
    save_pairs(pairs, tmp_path/name)
    first = (tmp_path/name).read_bytes()
    assert load_pairs(tmp_path/name).pairs == pairs.pairs
    save_pairs(pairs, tmp_path/name)
    assert (tmp_path/name).read_bytes() == first
    assert load_pairs(tmp_path/name).fingerprint() == pairs.fingerprint()


def never_crashes(path):
    """Either pairs or one line."""
    for load in (load_pairs, load_retrieval):
        try:
            load(path)
        except UserError as e:
            assert "\n" not in str(e)


@pytest.mark.parametrize("name", ["f.json", "f.jsonl", "f.csv", "f.tsv", "f.parquet", "f.jsonl.gz"])
@slow_files
@given(raw=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass"))))
def test_any_bytes(tmp_path, name, raw):
    (tmp_path/name).write_bytes(raw)
    never_crashes(tmp_path/name)


values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                      lambda c: st.lists(c, max_size=3) | st.dictionaries(
                          st.sampled_from(["query", "positive", "negative", "query_id", "corpus", "queries",
                                           "relevance", "text", "_id"]), c, max_size=4), max_leaves=8)


@slow_files
@given(value=values)
def test_any_json(tmp_path, value):
    (tmp_path/"f.json").write_text(json.dumps(value))
    never_crashes(tmp_path/"f.json")
    (tmp_path/"f.jsonl").write_text(json.dumps(value) + "\n")
    never_crashes(tmp_path/"f.jsonl")


@slow_files
@given(rows=st.lists(st.lists(st.text(max_size=6), max_size=4), max_size=4), header=st.booleans())
def test_any_csv(tmp_path, rows, header):
    out = io.StringIO()
    csv.writer(out).writerows([["query", "positive", "negative"]] * header + rows)
    (tmp_path/"f.csv").write_bytes(out.getvalue().encode("utf-8", "surrogatepass"))
    never_crashes(tmp_path/"f.csv")


@slow_files
@given(raw=st.binary(max_size=80), which=st.sampled_from(["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"]))
def test_any_beir(tmp_path, raw, which):
    jsonl(tmp_path/"corpus.jsonl", {"_id": "d1", "text": "Eight bits."})
    jsonl(tmp_path/"queries.jsonl", {"_id": "q1", "text": "byte?"})
    (tmp_path/"qrels").mkdir(exist_ok=True)
    (tmp_path/"qrels"/"test.tsv").write_text("q1\td1\t1\n")
    (tmp_path/which).write_bytes(raw)
    try:
        load_retrieval(tmp_path)
    except UserError as e:
        assert "\n" not in str(e)


@given(st.text(max_size=40))
def test_normalise_is_stable(text):
    assert normalise_text(text) == normalise_text(" " + text.upper().lower() + "\n") or not text.isascii()
    assert text_id(text) == text_id(f" {text} ")


def test_pairs_to_retrieval():
    pairs = PairSet([Pair("a", "x", ("n", "X.")), Pair("A?", "y"), Pair("b", "x")])
    data = pairs_to_retrieval(pairs)
    assert sorted(data.corpus.values()) == ["n", "x", "y"] and len(data.queries) == 2
    assert data.qrels[text_id("a")] == {text_id("x"): 1, text_id("y"): 1}


def test_in_memory():
    assert load_pairs([GOOD, Pair("a", "b")]).queries == ["What is a byte?", "a"]
    with pytest.raises(UserError, match="row 2"):
        load_pairs([GOOD, {"query": "a"}])
    with pytest.raises(UserError, match="row 1"):
        load_pairs([Pair("a", "")])


def test_import_is_light():
    import subprocess
    import sys
    code = ("import sys, ragcun.data.pairs; print(sorted({'torch', 'pyarrow', 'scipy', 'datasketch', 'bs4', "
            "'matplotlib', 'transformers'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          check=True).stdout.strip() == "[]"
    code = ("import sys, ragcun.data.preparation; print(sorted({'torch', 'pyarrow', 'scipy', 'datasketch', 'bs4', "
            "'matplotlib', 'transformers'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          check=True).stdout.strip() == "[]"


def test_other_names():
    from ragcun.data.generation import generate_pairs, python_package_pairs
    from ragcun.data.preparation import PrepareConfig
    from ragcun.data.splitting import split_pairs
    assert all(map(callable, (PrepareConfig, generate_pairs, python_package_pairs, split_pairs)))
    with pytest.raises(ImportError):
        from ragcun.data.pairs import nothing  # noqa: F401


@pytest.mark.parametrize("things, question, answer", [
    ("水泵 阀门 发动机 电池 齿轮", "{}的保修期是多久？", "{}的保修期为{}个月，请每周检查。"),
    ("ポンプ バルブ エンジン 電池 歯車", "{}の保証期間はどのくらいですか。", "{}の保証期間は{}か月です。"),
    ("ปั๊มน้ำ วาล์ว แบตเตอรี่ เฟือง พัดลม", "{}รับประกันนานเท่าไร", "{}รับประกัน{}เดือนโปรดตรวจสอบทุกสัปดาห์"),
    ("펌프 밸브 엔진 배터리 기어", "{}의 보증 기간은?", "{}의 보증 기간은 {}개월입니다."),
    ("ស្នប់ សន្ទះ ម៉ាស៊ីន ថ្ម បំពង់", "តើ{}មានការធានារយៈពេលប៉ុន្មាន", "{}មានការធានា{}ខែ")])
def test_negatives_by_words_in_languages_without_spaces(things, question, answer):
    pairs = PairSet([Pair(question.format(x), answer.format(x, 12 + 3*i)) for i, x in enumerate(things.split())])
    mined = mine_bm25(pairs, 2)
    answers = {p.positive for p in pairs}
    assert all(len(set(p.negatives)) == 2 and set(p.negatives) <= answers - {p.positive} for p in mined)


@pytest.mark.parametrize("columns, asking, answering", [
    ("query_id query positive_passages negative_passages", "query", "positive_passages"),
    ("id qid1 qid2 question1 question2 is_duplicate", "question1", "question2"),
    ("sentence1 sentence2 score", "sentence1", "sentence2"), ("text1 text2 score", "text1", "text2"),
    ("sentence_A sentence_B", "sentence_A", "sentence_B"), ("instruction input output", "instruction", "output"),
    ("context question answers", "question", "answers"), ("prompt completion", "prompt", "completion"),
    ("text title queryId query answer", "query", "answer"), ("id question resolution", "question", "resolution"),
    ("a b", "NAME", "NAME")])
def test_the_advice_names_the_columns_that_hold_question_and_answer(columns, asking, answering):
    said = column_advice(dict.fromkeys(columns.split()), "f.csv")
    assert f"--query_column {asking} --positive_column {answering} " in said


def test_a_column_with_fields_of_its_own_is_not_named_as_the_answer():
    squad = {"id": "1", "context": "c", "question": "q", "answers": {"text": ["a"], "answer_start": [0]}}
    assert "--query_column question --positive_column context " in column_advice(squad, "f.parquet")
    chat = {"id": 1, "answer_messages": [{"role": "user", "content": "q"}]}
    assert "--positive_column NAME " in column_advice(chat, "f.jsonl")


@pytest.mark.parametrize("name, line", [("triples.tsv", "how long\t" + "so long " * 20 + "\tshort"), ("ids.csv", "1,5,9")])
def test_a_table_without_column_names_is_told_of_them(tmp_path, name, line):
    (tmp_path/name).write_text(f"{line}\n" * 2)
    refused(tmp_path/name, "The first line of a table names its columns, and this one holds a row")


def test_data_sets_in_folders_of_other_programs_are_told_what_to_do(tmp_path):
    (tmp_path/"hub"/"data").mkdir(parents=True)
    save_pairs([Pair("a", "b")], tmp_path/"hub"/"data"/"train-00000-of-00001.parquet")
    refused(tmp_path/"hub", "Give a file, such as ", "train-00000-of-00001.parquet")
    (tmp_path/"disk").mkdir()
    (tmp_path/"disk"/"dataset_info.json").write_text("{}")
    refused(tmp_path/"disk", "load_from_disk(FOLDER)", "to_parquet")
    refused(jsonl(tmp_path/"a.jsonl", json.dumps([GOOD, GOOD])), "the line is a list of rows", "belongs in a .json file")


@pytest.mark.parametrize("name", ["qrels", "relevant_docs"])
def test_grades_of_an_evaluation_file_by_ids_are_kept(tmp_path, name):
    "As MTEB and BEIR have them; a document judged 0 was taken for an answer."
    made = {"corpus": {"n1": {"title": "Byte", "text": "Eight bits."}, "n2": "A star."}, "queries": {"q1": "A byte?"},
            name: {"q1": {"n1": 2, "n2": 0}}}
    path = tmp_path/"qa.json"
    path.write_text(json.dumps(made))
    data = load_retrieval(path)
    assert data.qrels == {"q1": {"n1": 2, "n2": 0}} and data.corpus["n1"] == "Byte Eight bits."
    assert [p.positive for p in load_pairs(path)] == ["Byte Eight bits."]
    assert as_retrieval((made["corpus"], made["queries"], made[name])).qrels == data.qrels     # BEIR's own loader
    for grades, part in (({"n1": .5}, "the grade of document n1 is 0.5"), ({"n1": 0}, "no question has a relevant doc"),
                         (None, "no question has a relevant doc"), ([["n1", 1]], "the judgements are [['n1', 1]]")):
        path.write_text(json.dumps(made | {name: {"q1": grades}}))
        refused(path, part)


def test_an_evaluation_file_by_ids_is_read(tmp_path, caplog):
    made = {"corpus": {"n1": "Eight bits.", "n2": "A star."}, "queries": {"q1": "What is a byte?", "q2": "What is a sun?",
                                                                          "q3": "Unjudged?"},
            "relevant_docs": {"q1": ["n1"], "q2": ["n2", "gone"]}, "mode": "text"}
    path = tmp_path/"qa.json"
    path.write_text(json.dumps(made))
    data = load_retrieval(path)
    assert data.qrels == {"q1": {"n1": 1}, "q2": {"n2": 1, "gone": 1}} and set(data.queries) == {"q1", "q2"}
    assert "gone" in caplog.text and [(p.query, p.positive) for p in load_pairs(path)] == [
        ("What is a byte?", "Eight bits."), ("What is a sun?", "A star.")]
    path.write_text(json.dumps(made | {"relevant_docs": {"q1": ["n7"]}}))
    refused(path, "no question has a relevant document that is there")
    path.write_text(json.dumps(made | {"queries": ["What is a byte?"]}))
    refused(path, "not all objects of ids")

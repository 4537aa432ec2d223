"""Splits, pair strategies, folders, negatives, and the prepare command's function from end to end."""
import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ragcun.core import UserError
from ragcun.data.decoding import decode_bytes
from ragcun.data.documents import Document, ReadOptions, passages, read_documents, read_folder, token_counter
from ragcun.data.files import normalise_text
from ragcun.data.generation import STRATEGIES, generate_pairs, python_package_pairs
from ragcun.data.negatives import mine_bm25, mine_dense, mine_random
from ragcun.data.pairs import Pair, PairSet, load_pairs, load_retrieval, save_pairs
from ragcun.data.preparation import PrepareConfig, prepare
from ragcun.data.quality import data_report, plot_lengths
from ragcun.data.splitting import assign_sides, check_ratios, find_leaks, near_duplicates, split_pairs, split_sizes
from small import pdf_bytes

ROOT = Path(__file__).resolve().parents[2]
RAW = ROOT/"data"/"raw"
files = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


def tree(folder):
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(folder.rglob("*")) if p.is_file()}


def documented(out, **changed):
    return PrepareConfig(**{"documents": "data/raw/all_docs.txt", "generate_pairs": True, "num_pairs": 100, "split": (
        .7, .15, .15), "output": f"{out}/train.json", "output_dir": str(out), "seed": 42} | changed)


# the documented command

def test_documented_command(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    report = prepare(documented(tmp_path))
    sizes = {n: len(json.loads((tmp_path/f"{n}.json").read_text())) for n in ("train", "val")}
    test = load_retrieval(tmp_path/"test_eval.json")
    assert sizes == {"train": 43, "val": 9} and len(test.queries) == len(test.corpus) == 10
    assert "100 asked, 62 made" in str(report) and "recall@10 is 1" in str(report)
    assert sorted(tree(tmp_path)) == ["prepare_report.json", "test_eval.json", "train.json", "val.json"]
    train = load_pairs(tmp_path/"train.json")
    val = load_pairs(tmp_path/"val.json")
    assert not set(train.documents) & (set(val.documents) | set(test.corpus.values()))
    assert report.data.leaks["train/test"] == {"queries": 0, "documents": 0}


def test_same_command_same_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trees = []
    for _ in range(2):
        prepare(documented("out", documents=str(RAW/"all_docs.txt"), split=(.6, .2, .2), strategy="mix", distractors=5,
                           negatives="bm25"))
        trees.append(tree(tmp_path/"out"))
    assert trees[0] == trees[1]
    code = (f"from ragcun.data.preparation import *; prepare(PrepareConfig(documents={str(RAW/'all_docs.txt')!r}, "
            "generate_pairs=True, num_pairs=100, strategy='mix', split=(.6, .2, .2), "
            "output='out/train.json', output_dir='out', distractors=5, negatives='bm25'))")
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONHASHSEED": "7"})
    assert tree(tmp_path/"out") == trees[0]


def test_committed_data_is_what_the_command_makes(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    committed = tree(ROOT/"data"/"processed")
    prepare(documented(tmp_path))
    for name in ("train.json", "val.json", "test_eval.json"):
        assert tree(tmp_path)[name] == committed[name]


def test_folder_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path/"docs").mkdir()
    for i, line in enumerate((RAW/"all_docs.txt").read_text().splitlines()):
        (tmp_path/"docs"/f"{i}.md").write_text(f"# Document number {i}\n\n{line}\n")
    report = prepare(PrepareConfig(input_dir="docs", generate_pairs=True, num_pairs=10000, split=(.8, .1, .1),
                                   output_dir="out"))
    assert report.data.rows == {"train": 49, "val": 6, "test": 7} and report.strategies == {"title": 62}
    assert len(load_pairs("out/train.json")) == 49


def test_distractors(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    report = prepare(documented(tmp_path, distractors=-1))
    data = load_retrieval(tmp_path/"test_eval.json")
    assert len(data.corpus) == 62 and len(data.queries) == 10 and "recall@" not in str(report)
    assert set(load_pairs(tmp_path/"train.json").documents) < set(data.corpus.values())
    prepare(documented(tmp_path, distractors=7))
    assert len(load_retrieval(tmp_path/"test_eval.json").corpus) == 17


def test_training_negatives_stay_on_their_side(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for kind in ("bm25", "random"):
        prepare(documented(tmp_path, negatives=kind, num_negatives=2))
        train = load_pairs(tmp_path/"train.json")
        assert {n for p in train for n in p.negatives} <= set(train.documents) and any(p.negatives for p in train)
        assert not any(p.negatives for p in load_pairs(tmp_path/"val.json"))


def test_packages_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = prepare(PrepareConfig(python_packages="json, csv", output="out/p.jsonl", split=(.8, .1, .1)))
    assert report.data.rows["train"] == len(load_pairs("out/p.jsonl")) and (tmp_path/"out"/"val.jsonl").exists()


# wrong calls: one line that says what to type

@pytest.mark.parametrize("changed, words", [
    ({"generate_pairs": False}, "Type: ragcun prepare --documents"),
    ({"input": "x.json"}, "2 inputs: documents, input"), ({"documents": None}, "no input"),
    ({"split": (.7, .2, .2)}, "sum to 1.1, not to 1"), ({"split": (.7,)}, "--split 0.8 0.1 0.1"),
    ({"split": (1.5, -.25, -.25)}, "--split"), ({"documents": "none.txt"}, "no such file"),
    ({"output": None, "output_dir": None}, "nowhere to write"), ({"output": "."}, "--output is a folder"),
    ({"output": "x.xlsx"}, "unknown format"), ({"num_pairs": 0}, "--num_pairs"),
    ({"strategy": "summary"}, "Use auto, mix or one of"), ({"negatives": "x"}, "Use bm25 or random"),
    ({"on_fault": "x"}, "drop or stop")])
def test_wrong_calls(tmp_path, monkeypatch, changed, words):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError) as e:
        prepare(documented(tmp_path/"out", **changed))
    assert words in str(e.value) and "\n" not in str(e.value)
    assert not (tmp_path/"out").exists()


def test_unwritable(tmp_path):
    (tmp_path/"file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        prepare(documented(tmp_path/"file"/"out", documents=str(RAW/"all_docs.txt")))


def test_nothing_half_written(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    prepare(documented(tmp_path))
    before = tree(tmp_path)
    monkeypatch.setattr("ragcun.data.preparation.save_retrieval",
                        lambda *a: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError):
        prepare(documented(tmp_path, seed=1))
    assert tree(tmp_path) == before


# rows that cannot be used are dropped and counted, or stop the run

ROWS = [{"query": f"question {i}", "positive": f"answer number {i} of the file"} for i in range(20)]


def test_dropped_rows_are_reported(tmp_path):
    bad = [{"query": "", "positive": "x"}, ROWS[0], {"query": "same", "positive": "Same."},
           {"query": "y", "positive": None}, {"query": "z", "positive": "nan"}]
    (tmp_path/"rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in [*ROWS, *bad]))
    report = prepare(PrepareConfig(input=str(tmp_path/"rows.jsonl"), output=str(tmp_path/"o"/"train.jsonl"),
                                   split=(.8, .1, .1)))
    assert (report.read, report.kept) == (25, 20)
    assert report.dropped == {"query is empty": 1, "query is equal to the positive": 1, "positive is null": 1,
                              "positive is the word nan, which is what an empty cell turns into": 1,
                              "duplicate of an earlier row": 1}
    assert report.examples["positive is null"] == [24] and "row 24" in str(report)
    assert json.loads((tmp_path/"o"/"prepare_report.json").read_text())["dropped"] == report.dropped
    with pytest.raises(UserError, match=r"query is empty \(.*row 21"):
        prepare(PrepareConfig(input=str(tmp_path/"rows.jsonl"), output=str(tmp_path/"p"/"t.json"), on_fault="stop"))


def test_wrong_columns_stop(tmp_path):
    (tmp_path/"a.csv").write_text("question,answer\nx,y\n")
    with pytest.raises(UserError, match="Rename the columns"):
        prepare(PrepareConfig(csv_file=str(tmp_path/"a.csv"), output=str(tmp_path/"t.json")))


def test_columns_by_other_names(tmp_path):
    (tmp_path/"a.csv").write_text("Question,Answer\nx?,y\nz?,w\n")
    with pytest.raises(UserError, match="--query_column Question --positive_column Answer"):
        prepare(PrepareConfig(input=str(tmp_path/"a.csv"), output=str(tmp_path/"t.json")))
    named = PrepareConfig(input=str(tmp_path/"a.csv"), output=str(tmp_path/"t.json"), query_column="Question",
                          positive_column="Answer")
    prepare(named)
    assert load_pairs(tmp_path/"t.json").pairs == [Pair("x?", "y"), Pair("z?", "w")]
    with pytest.raises(UserError, match="has no Reply.*Check --query_column"):
        prepare(PrepareConfig(input=named.input, output=named.output, query_column="Question", positive_column="Reply"))


def test_csv_of_documents(tmp_path):
    save = [{"text": line} for line in (RAW/"tech_docs.txt").read_text().splitlines()]
    (tmp_path/"a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in save))
    report = prepare(PrepareConfig(input=str(tmp_path/"a.jsonl"), generate_pairs=True, output=str(tmp_path/"t.json")))
    assert report.made == 31 and report.split == "none asked for" and len(load_pairs(tmp_path/"t.json")) == 31


def test_duplicate_ids_stop(tmp_path):
    rows = [{"query": "a", "positive": "one", "document_id": "7"},
            {"query": "b", "positive": "two", "document_id": "7"}]
    (tmp_path/"a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    with pytest.raises(UserError, match="document id stands for two different texts"):
        prepare(PrepareConfig(input=str(tmp_path/"a.jsonl"), output=str(tmp_path/"t.json")))


@pytest.mark.parametrize("name", ["t.json", "t.jsonl", "t.jsonl.gz", "t.csv", "t.parquet"])
def test_output_formats(tmp_path, name):
    save_pairs(PairSet(Pair(**r) for r in ROWS), tmp_path/"in.json")
    prepare(PrepareConfig(input=str(tmp_path/"in.json"), output=str(tmp_path/"o"/name), split=(.5, .25, .25)))
    assert len(load_pairs(tmp_path/"o"/name)) == 10 and len(load_pairs(tmp_path/"o"/name.replace("t.", "val.", 1))) == 5
    assert {p.query for p in load_pairs(tmp_path/"o"/name)} < {r["query"] for r in ROWS}


# splits

@given(rows=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=40), seed=st.integers(0, 5),
       ratios=st.sampled_from([(.7, .15, .15), (.8, .1, .1), (.5, 0, .5), (1, 0, 0)]))
@settings(deadline=None, max_examples=60)
def test_split_never_leaks(rows, seed, ratios):
    pairs = PairSet(Pair(f"question {q}", f"document {d} " * 3) for q, d in rows)
    parts = split_pairs(pairs, ratios, seed)
    assert sorted(map(repr, (p for part in parts for p in part))) == sorted(map(repr, pairs))
    for i in range(3):
        for j in range(i + 1, 3):
            assert find_leaks(parts[i], parts[j]) == {"query": 0, "document": 0}
    for part, r in zip(parts, ratios, strict=True):
        assert r or not len(part)


def test_a_row_wise_split_is_caught():
    pairs = PairSet(Pair(f"question {i}", f"document {i // 2}") for i in range(40))
    half = PairSet(pairs[0:40:2]), PairSet(pairs[1:40:2])
    assert find_leaks(*half)["document"] == 20
    assert data_report(half[0], None, half[1]).leaks["train/test"]["documents"] == 20


@given(n=st.integers(0, 300), seed=st.integers(0, 3))
@settings(deadline=None, max_examples=40)
def test_singles_meet_the_sizes(n, seed):
    sides = assign_sides(np.arange(n), (.7, .15, .15), seed)
    assert tuple(np.bincount(sides, minlength=3)) == split_sizes(n, (.7, .15, .15))


def test_groups_of_questions_meet_the_sizes():
    groups = np.sort(np.random.default_rng(0).integers(0, 2000, 5000))
    groups = np.unique(groups, return_inverse=True)[1]
    sides = assign_sides(groups, (.8, .1, .1))
    assert np.abs(np.bincount(sides) - [4000, 500, 500]).max() <= 2
    assert all(len(set(sides[groups == g])) == 1 for g in range(50))
    sizes = np.bincount(groups)[groups]
    assert abs(sizes[sides == 2].mean() - sizes[sides == 0].mean()) < .5, "test groups are like training groups"


def test_a_huge_group_goes_to_train():
    sides = assign_sides(np.array([0] * 60 + list(range(1, 41))), (.7, .15, .15))
    assert np.bincount(sides).tolist() == [70, 15, 15] and set(sides[:60]) == {0}


def test_split_reports_what_it_missed(tmp_path):
    save_pairs(PairSet(Pair(f"question {i}", f"document {i // 10}") for i in range(30)), tmp_path/"a.json")
    report = prepare(PrepareConfig(input=str(tmp_path/"a.json"), output=str(tmp_path/"o"/"t.json"),
                                   split=(.5, .25, .25)))
    assert "asked 15/7/8" in report.split and "stay whole" in report.split


def test_near_duplicates_stay_together():
    docs = (RAW/"all_docs.txt").read_text().splitlines()
    pairs = PairSet([Pair(f"question {i} {v}", d.replace("The", ("The", "This")[v], 1)) for i, d in enumerate(docs)
                     for v in (0, 1)])
    assert len(near_duplicates(pairs.documents[:40])) > 0
    train, val, test = split_pairs(pairs, (.6, .2, .2))
    assert find_leaks(train, test, near=True)["near document"] == 0
    train, val, test = split_pairs(pairs, (.6, .2, .2), near=False)
    assert find_leaks(train, test, near=True)["near document"] > 0


@pytest.mark.parametrize("ratios", [(.7, .2, .2), (1,), (.5, .6, -.1), (0, 0, 0), (float("nan"), .5, .5), (1, 1, 1, 1)])
def test_bad_ratios(ratios):
    with pytest.raises(UserError, match="--split"):
        check_ratios(ratios)


# pairs from documents

@given(text=st.text(max_size=200), title=st.text(max_size=20), strategy=st.sampled_from([*STRATEGIES, "auto", "mix"]))
@settings(deadline=None, max_examples=150)
def test_no_query_is_in_its_positive(text, title, strategy):
    for p in generate_pairs([Document(text, title, title)], strategy):
        assert normalise_text(p.query) not in normalise_text(p.positive)
        assert p.strategy in STRATEGIES


def test_a_pair_does_not_depend_on_the_others():
    docs = (RAW/"all_docs.txt").read_text().splitlines()
    every = generate_pairs(docs, "mix")
    some = generate_pairs(docs[20:30], "mix")
    assert every.pairs[20:30] == some.pairs


# folders

def test_folder_formats_and_order(tmp_path):
    (tmp_path/"B").mkdir()
    (tmp_path/"a.txt").write_text("A short title\n\nThe text of the file is here.")
    (tmp_path/"B"/"c.md").write_text("# Guide\n\nWelcome to this guide, reader.\n\n## How to install\n\n"
                                     "Type one command and wait.")
    (tmp_path/"d.rst").write_text("Guide two\n=========\n\nIntro text.\n\nUsing it\n--------\n\nCall :func:`run` now.")
    (tmp_path/"e.html").write_text("<h1>Page</h1><p>First.</p><h2>More about it</h2><p>Second.</p>"
                                   "<script>bad()</script>")
    (tmp_path/"f.ipynb").write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": "# Note\n\nCell text."},
                                                          {"cell_type": "code", "source": "secret()"}]}))
    (tmp_path/"g.txt").write_bytes(b"\x00\x01\x02")
    (tmp_path/".hidden.txt").write_text("no")
    found = read_folder(tmp_path)
    assert [d.document_id for d in found.documents] == ["B/c.md#1", "B/c.md#2", "a.txt#1", "d.rst#1", "d.rst#2",
                                                        "e.html#1", "e.html#2", "f.ipynb#1"]
    assert [d.heading for d in found.documents if d.heading] == ["How to install", "Using it", "More about it"]
    assert (found.documents[4].text == "Call run now." and found.skipped[0][0] == "g.txt"
            and "byte 0" in found.skipped[0][1])
    made = generate_pairs(found.documents)
    assert made.queries[1:3] == ["How to install", "A short title"]


def test_optional_formats_are_named(tmp_path):
    for kind in ("pdf", "docx"):
        (tmp_path/f"a.{kind}").write_bytes(b"not one")
        (tmp_path/"b.txt").write_text("Some words here. And more.")
        reason = read_folder(tmp_path).skipped[0][1]
        assert "pip install pypdf" in reason or "not a readable" in reason
        (tmp_path/f"a.{kind}").unlink()


def test_pdf(tmp_path):
    pytest.importorskip("pypdf")
    (tmp_path/"a.pdf").write_bytes(pdf_bytes("A byte has eight bits."))
    assert read_folder(tmp_path).documents[0].text == "A byte has eight bits."


def test_docx(tmp_path):
    docx = pytest.importorskip("docx")
    d = docx.Document()
    d.add_heading("The guide", 0)
    d.add_heading("How to start", 1)
    d.add_paragraph("Press the button.")
    d.save(tmp_path/"a.docx")
    assert ([(x.heading, x.text) for x in read_folder(tmp_path).documents][-1] == ("How to start", "Press the button.")
            or read_folder(tmp_path).documents[0].text == "Press the button.")


@pytest.mark.parametrize("encoding, text", [
    ("utf-8", "Größe 日本"), ("utf-8-sig", "Größe"), ("utf-16", "Größe 日本"),
    ("cp1252", "Die Größe der Straße wächst, während die Bäume blühen und die Vögel fröhlich über die Brücke fliegen."),
    ("cp1251", "Быстрая коричневая лисица перепрыгивает через ленивую собаку, "
     "пока кошка спит под старой тёплой печью."), ("shift_jis", "これは日本語の文章です。文字コードを正しく判別できるかどうかを確認するための例文です。")])
def test_encodings(encoding, text):
    assert decode_bytes(text.encode(encoding), "f")[0] == text


@given(raw=st.binary(max_size=300))
@files
def test_any_folder(tmp_path, raw):
    for kind in ("txt", "md", "rst", "html", "ipynb"):
        (tmp_path/f"a.{kind}").write_bytes(raw)
    try:
        read_folder(tmp_path, ReadOptions(20, 5))
    except UserError as e:
        assert "\n" not in str(e)
    try:
        read_documents(tmp_path/"a.txt")
    except UserError as e:
        assert "\n" not in str(e)


@given(text=st.text(alphabet=st.sampled_from("ab .!?\n日é"), max_size=300), budget=st.integers(1, 30),
       overlap=st.integers(0, 10))
@settings(deadline=None, max_examples=100)
def test_passages_keep_every_word(text, budget, overlap):
    count = token_counter()
    if overlap >= budget:
        with pytest.raises(UserError):
            passages(text, budget, overlap)
        return
    made = passages(text, budget, overlap)
    assert all(count(p) <= budget or len(p) < 2 for p in made)
    assert set("".join(text.split())) == set("".join("".join(made).split()))
    if not overlap:
        assert "".join(text.split()) == "".join("".join(made).split())


def test_documents_file(tmp_path):
    (tmp_path/"a.txt").write_text("one document.\n\n  two.  \n")
    assert [d.text for d in read_documents(tmp_path/"a.txt")] == ["one document.", "two."]
    with gzip.open(tmp_path/"a.txt.gz", "wt") as f:
        f.write("one.\n")
    assert len(read_documents(tmp_path/"a.txt.gz")) == 1
    (tmp_path/"b.csv").write_text("id,title,text\n7,Byte,Eight bits.\n")
    assert read_documents(tmp_path/"b.csv")[0] == Document("Eight bits.", "Byte", "", "7")
    (tmp_path/"c.txt").write_text("\n")
    for path, word in ((tmp_path/"c.txt", "no documents"), (tmp_path/"d.txt", "no such file"),
                       (tmp_path/"x.md", "--input_dir"), (tmp_path, "--input_dir")):
        with pytest.raises(UserError, match=word):
            read_documents(path)


# negatives

DOCS = (RAW/"all_docs.txt").read_text().splitlines()


def letters(texts):
    return np.array([[t.lower().count(chr(97 + i)) for i in range(26)] for t in texts], dtype=np.float32)


@pytest.mark.parametrize("mine", [mine_bm25, lambda p, n: mine_dense(p, letters, n), mine_random])
def test_negatives_are_never_answers(mine):
    base = generate_pairs(DOCS)
    pairs = PairSet([*base, *(Pair(p.query.upper(), q.positive) for p, q in zip(base[:10], base[10:20], strict=True)),
                     *(Pair(f"other {i}", p.positive + " Indeed.") for i, p in enumerate(base[:10]))])
    answers = {}
    for p in pairs:
        answers.setdefault(normalise_text(p.query), set()).add(normalise_text(p.positive))
    mined = mine(pairs, 3)
    assert ([(p.query, p.positive) for p in mined] == [(p.query, p.positive) for p in pairs]
            and any(p.negatives for p in mined))
    for p in mined:
        assert (not answers[normalise_text(p.query)] & set(map(normalise_text, p.negatives))
                and len(p.negatives) == len(set(p.negatives)) <= 3)
    for p in mined[:10]:
        assert not any(n == p.positive + " Indeed." for n in p.negatives)


@given(texts=st.lists(st.tuples(st.text(min_size=1, max_size=8), st.text(min_size=1, max_size=8)), max_size=6))
@settings(deadline=None, max_examples=40)
def test_bm25_on_anything(texts):
    pairs = PairSet(Pair(q, d) for q, d in texts)
    assert len(mine_bm25(pairs)) == len(pairs)


# the demo corpus and the report

def test_python_packages():
    made = python_package_pairs(["json", "csv", "email"], max_pairs=60)
    assert made == python_package_pairs("email,csv,json", max_pairs=60) and len(made) == 60
    for p in made:
        assert normalise_text(p.query) not in normalise_text(p.positive) and p.positive.startswith(p.document_id)
        assert not any(part.startswith(("_", "test")) for part in p.document_id.split("."))
    code = ("import sys; from ragcun.data.generation import python_package_pairs as f; print(len(f(['networkx'])), "
            "'networkx' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          check=True).stdout.split()[1] == "False"
    with pytest.raises(UserError, match="--python_packages"):
        python_package_pairs(["no-such.package"])


@pytest.mark.slow
def test_demo_corpus():
    import time
    start = time.process_time()
    made = python_package_pairs()
    assert 3000 <= len(made) <= 4000 and time.process_time() - start < 30
    assert len(set(made.documents)) == len(set(map(normalise_text, made.queries))) == len(made)
    assert made.fingerprint() == python_package_pairs().fingerprint()
    assert not near_duplicates(made.documents)


def test_report_numbers_and_figure():
    pairs = PairSet([Pair("слово", "Это длинный текст " * 200), Pair("a", "b"), Pair("a", "c"),
                     Pair("byte", "a byte is eight bits")])
    report = data_report(pairs)
    assert (report.scripts == {"Latin": 3, "Cyrillic": 1} and report.cut["positive"] == .25
            and report.several_answers == 1 and report.contained == 1)
    assert plot_lengths(report).get_xlabel() == "characters"


@pytest.mark.slow
def test_a_million_rows():
    from data_memory import measure
    assert measure(1_000_000)["peak_megabytes"] < 1000


def test_recorded_memory():
    recorded = json.loads((ROOT/"data"/"results"/"prepare_memory.json").read_text())
    assert recorded["rows"] == 1_000_000 and recorded["peak_megabytes"] < 1000


def test_killed_while_writing(tmp_path):
    """A process killed between the rows leaves the old files whole; the next run is not disturbed by what it left."""
    save_pairs(PairSet(Pair(**r) for r in ROWS), tmp_path/"in.json")
    config = PrepareConfig(input=str(tmp_path/"in.json"), output=str(tmp_path/"o"/"train.json"), split=(.5, .25, .25))
    prepare(config)
    before = tree(tmp_path/"o")
    code = ("import os, ragcun.data.preparation as w; from ragcun.data.preparation import *; "
            f"w.RowFile.close = lambda self: os.kill(os.getpid(), 9); prepare(PrepareConfig(input={config.input!r}, "
            f"output={config.output!r}, split=(.4, .3, .3)))")
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert {k: v for k, v in tree(tmp_path/"o").items() if not k.startswith(".")} == before
    prepare(config)
    assert tree(tmp_path/"o") == before


def test_rows_of_another_library():
    """Anything that yields mappings is read, a `datasets.Dataset` for one."""
    class Rows:
        def __iter__(self):
            return iter(ROWS)
    assert len(load_pairs(Rows())) == 20
    with pytest.raises(UserError, match="one document was given where a list is wanted"):
        generate_pairs("A star is hot. It shines.")


# the base decides lengths

class Whole:
    "Counts as a base that knows every word: a token a word."
    name = "whole"

    def __init__(self, limit):
        self.limit = limit

    def count(self, text):
        return len(text.split())


def russian(folder):
    sentence = "Звезда сжимает лёгкие ядра в более тяжёлые и светит от этого. "
    (folder/"docs").mkdir()
    (folder/"docs"/"a.txt").write_text("\n\n".join(f"Глава {i}. {sentence*12}" for i in range(8)))
    return str(folder/"docs")


def test_passages_are_as_long_as_the_base_reads(tmp_path):
    config = PrepareConfig(input_dir=russian(tmp_path), generate_pairs=True, output_dir=str(tmp_path/"out"))
    estimated, counted, cut = (prepare(config, tokens) for tokens in (None, Whole(512), Whole(40)))
    assert estimated.documents > 3*counted.documents and cut.documents > 3*counted.documents
    assert (estimated.data.token_limit, counted.data.token_limit, cut.data.token_limit) == (256, 512, 40)
    assert (estimated.counted, counted.counted) == ("", "whole") and "as whole counts them" in str(counted)
    assert prepare(PrepareConfig(**{**vars(config), "token_limit": 9}), Whole(40)).data.cut["positive"] > .5


def test_a_static_base_cuts_nothing(tmp_path):
    report = prepare(PrepareConfig(input_dir=russian(tmp_path), generate_pairs=True, output_dir=str(tmp_path/"out")),
                     Whole(None))
    assert report.data.token_limit is None and report.data.cut["positive"] == 0 and "cut at" not in str(report)

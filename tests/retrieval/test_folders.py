"""A folder and its index: killed and taken up, changed and run again; and judgements that survive the same."""
import argparse
import json
import os
import random
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from jobs import index_beside_another_datasets
from small import ROOT, Job, context, docx_bytes, pdf_bytes
from tiny_encoder import TinyEncoder

from ragcun.cli import commands
from ragcun.cli.commands import _compare
from ragcun.cli.flags import read_corpus, sole_run
from ragcun.core import UserError
from ragcun.data import documents
from ragcun.retrieval import folders
from ragcun.retrieval.folders import RECORD, fill_index, plan_folder, read_record
from ragcun.retrieval.judgements import BlindJudging, Pool, findings
from ragcun.retrieval.retriever import GaussianRetriever
from ragcun.retrieval.stores import read_manifest, write_manifest


PLAIN = (".md", ".html", ".txt", ".ipynb", ".rst")   # kinds that need no other package


def make(folder, number, kinds=PLAIN):
    "Files of several kinds, some of them without text."
    for i in range(number):
        place = folder/f"{i % 6}"
        place.mkdir(parents=True, exist_ok=True)
        kind = kinds[i % len(kinds)]
        text = f"Subject {i}\n\nThe text of file number {i} speaks of thing {i * 31 % 101} and of its use."
        if kind in (".pdf", ".docx"):
            made = pdf_bytes(*text.split("\n\n")) if kind == ".pdf" else docx_bytes(*text.split("\n\n"))
            (place/f"{i}{kind}").write_bytes(made)
            continue
        if kind == ".html":
            text = f"<h1>Subject {i}</h1><p>{text}</p>"
        if kind == ".ipynb":
            text = json.dumps({"cells": [{"cell_type": "markdown", "metadata": {}, "source": text}], "metadata": {},
                               "nbformat": 4, "nbformat_minor": 5})
        (place/f"{i}{kind}").write_text("" if i % 50 == 49 else text)


def fill(docs, idx, block=20):
    folders.BLOCK = folders.FIRST = block
    plan = plan_folder(docs, Path(idx))
    return fill_index(GaussianRetriever(TinyEncoder(), idx), plan, "docs")


def child(docs, idx, block):
    "Fills, and rests after each block, so that a quick machine is not done before the kill."
    os.setsid()
    real = folders.add_to_record
    folders.add_to_record = lambda *args: (real(*args), time.sleep(.15))
    fill(docs, idx, block)


def killed(docs, idx, times, seed, block):
    rng = random.Random(seed)
    ended = 0
    for _ in range(times):
        job = context().Process(target=child, args=(docs, idx, block))   # of a server without the table's threads
        job.start()
        job.join(rng.uniform(.5, 2.5))
        ended += not job.is_alive()
        if job.is_alive():
            job.kill()
        job.join()
        assert job.exitcode in (0, -9)        # done or killed; a child that fails is neither
    return times - ended


def check(docs, idx, number):
    report = fill(docs, idx)
    index = GaussianRetriever(TinyEncoder(), idx)
    rows = [i for b in index.store.blocks() for i in b.ids]
    wanted = {d.document_id for d in documents.read_folder(docs).documents}
    assert len(rows) == len(set(rows)) and set(rows) == wanted            # nothing lost, nothing twice
    states, whole = read_record(Path(idx))
    assert whole and len(states) == number and report.files == sum(s.passages > 0 for s in states.values())


def test_a_folder_named_datasets_beside_a_program_is_not_that_of_hugging_face(tmp_path):
    job = Job(index_beside_another_datasets, str(tmp_path/"index"), log=tmp_path/"log")
    assert job.wait() == 0 and "['sea ice'] True" in job.text(), job.text()


def test_a_folder_that_is_killed_loses_nothing_and_has_nothing_twice(tmp_path):
    make(tmp_path/"docs", 120)
    assert killed(tmp_path/"docs", tmp_path/"idx", 3, 0, 7) >= 1
    check(tmp_path/"docs", tmp_path/"idx", 120)


def test_a_record_of_a_later_version_is_read_without_what_it_adds(tmp_path):
    state = {"size": 3, "time": 4, "sha": "ab", "passages": 2, "reader": 99, "language": "de"}
    (tmp_path/RECORD).write_text(json.dumps({"name": "a.md", **state}) + '\n{"whole": true}\n')
    states, whole = read_record(tmp_path)
    assert whole and states["a.md"].passages == 2 and states["a.md"].reader == 99


def alone(docs, idx):
    "Fill an index in a new process: processor seconds without its start, peak megabytes."
    code = ("import sys, time, lancedb; from retrieval.test_folders import fill; t = time.process_time(); "
            "fill(sys.argv[1], sys.argv[2], 512); print(time.process_time() - t)")
    paths = os.pathsep.join([str(ROOT), str(ROOT/"tests")])
    process = subprocess.Popen([sys.executable, "-c", code, str(docs), str(idx)], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": paths})
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return float(said), usage.ru_maxrss/1024


@pytest.mark.slow
def test_ten_thousand_files_and_twenty_kills(tmp_path):
    kinds = (*PLAIN, ".pdf", ".docx")
    make(tmp_path/"few", 1000, kinds)
    make(tmp_path/"docs", 10_000, kinds)
    _, small = alone(tmp_path/"few", tmp_path/"few_index")
    first, peak = alone(tmp_path/"docs", tmp_path/"whole")
    again, _ = alone(tmp_path/"docs", tmp_path/"whole")
    print(f"10,000 files: {first:.0f} CPU seconds, peak {peak:.0f} MB (1,000: {small:.0f} MB); unchanged: {again:.1f}")
    assert peak < small + 150 and again < .05*first
    assert killed(tmp_path/"docs", tmp_path/"idx", 20, 1, 512) >= 10
    check(tmp_path/"docs", tmp_path/"idx", 10_000)


def test_an_unchanged_folder_opens_no_file_and_loads_nothing_new(tmp_path, monkeypatch):
    make(tmp_path/"docs", 20)
    fill(tmp_path/"docs", tmp_path/"idx")
    monkeypatch.setattr(folders, "read_listed", lambda *a: pytest.fail("a file was read"))
    monkeypatch.setattr(folders, "sha256_file", lambda *a: pytest.fail("a file was opened"))
    report = fill(tmp_path/"docs", tmp_path/"idx")
    assert (report.kept, report.added) == (20, 0)


def test_a_touched_file_is_as_it_was_and_a_half_known_one_is_brought_up_to_date(tmp_path):
    docs, idx = tmp_path/"docs", tmp_path/"idx"
    make(docs, 10)
    fill(docs, idx)
    os.utime(docs/"0"/"0.md", (1, 1))
    assert fill(docs, idx).kept == 10
    lines = (idx/RECORD).read_bytes().splitlines()
    (idx/RECORD).write_bytes(b"\n".join(r for r in lines if b'"0/0.md"' not in r and b"whole" not in r) + b"\n")
    (docs/"0"/"0.md").write_text("Subject 0\n\nAnother text, written between the kill and the next run.")
    check(docs, idx, 10)                                     # without --update: the run before had not come to its end


@pytest.mark.parametrize("again", [False, True])
def test_a_run_that_was_killed_before_it_noted_a_file_is_made_good(tmp_path, monkeypatch, again):
    docs, idx = written(tmp_path/"docs", "a.md"), tmp_path/"idx"
    fill(docs, idx)
    written(docs, "b.md")

    def killed(*_):
        raise SystemExit
    with monkeypatch.context() as m, pytest.raises(SystemExit):
        m.setattr(folders, "add_to_record", killed)
        fill(docs, idx)
    states, whole = read_record(idx)
    assert list(states) == ["a.md"] and not whole
    (docs/"b.md").write_text("Another text, written before the next run.")
    (update if again else fill)(docs, idx)
    index = GaussianRetriever(TinyEncoder(), idx)
    assert index.store.texts(["b.md#1"]) == {"b.md#1": "Another text, written before the next run."}
    assert len(index) == 2 and read_record(idx)[1]


def test_a_file_that_changes_while_the_model_is_loaded_is_read_by_the_next_run(tmp_path):
    docs, idx = written(tmp_path/"docs", "a.md", "b.md"), tmp_path/"idx"
    plan = plan_folder(docs, idx)                            # has read the first file
    index = GaussianRetriever(TinyEncoder(), idx)
    for name in ("a.md", "b.md"):
        (docs/name).write_text(f"Another text of {name}.")
    fill_index(index, plan)
    assert update(docs, idx)[1].replaced == 1
    assert GaussianRetriever(TinyEncoder(), idx).store.texts(["a.md#1", "b.md#1"]) == {
        "a.md#1": "Another text of a.md.", "b.md#1": "Another text of b.md."}


@pytest.mark.parametrize("left", ["", "# A\n\nFirst words of it.\n"])
def test_a_file_that_has_become_shorter_is_not_followed_without_update(tmp_path, left):
    docs, idx = written(tmp_path/"docs", "b.md"), tmp_path/"idx"
    (docs/"a.md").write_text("# A\n\nFirst words of it.\n\n# B\n\nOther words of it.\n")
    fill(docs, idx)
    (docs/"a.md").write_text(left)                          # as an editor does before it writes, or a full disk
    with pytest.raises(UserError, match="no longer all of their passages: .* Add --update"):
        fill(docs, idx)
    assert len(GaussianRetriever(TinyEncoder(), idx)) == 3
    assert len(update(docs, idx)[2]) == 1 + bool(left)


def test_two_folders_that_are_read_at_one_time_stay_in_the_record(tmp_path):
    first, second, idx = written(tmp_path/"1", "a.md"), written(tmp_path/"2", "b.md", "c.md"), tmp_path/"idx"
    index = GaussianRetriever(TinyEncoder(), idx)
    plans = [plan_folder(docs, idx) for docs in (first, second)]
    for plan in plans:
        fill_index(index, plan)
    assert sorted(read_record(idx)[0]) == ["a.md", "b.md", "c.md"]
    lines = (idx/RECORD).read_bytes().splitlines()           # as two runs of before left it
    (idx/RECORD).write_bytes(b"\n".join(r for r in lines if b'"b.md"' not in r) + b"\n")
    (second/"b.md").write_text("Another text under a name that the record does not have.")
    with pytest.raises(UserError, match="Add --update"):
        fill(second, idx)
    plan, report, left = update(second, idx)
    assert report.replaced == 1 and left == {"a.md", "b.md", "c.md"} and "b.md" in read_record(idx)[0]
    update(second, idx, prune=True)
    assert sorted(read_record(idx)[0]) == ["b.md", "c.md"]


def update(docs, idx, prune=False):
    plan = plan_folder(docs, Path(idx), update=True)
    index = GaussianRetriever(TinyEncoder(), idx)
    report = fill_index(index, plan, "docs", prune)
    return plan, report, {i.partition("#")[0] for i in index.store.ids()}


def written(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder/name).write_text(f"A text of {name} and nothing else.")
    return folder


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path):
    docs, idx = written(tmp_path/"docs", "a.md", "b.md"), tmp_path/"idx"
    for name in ("a.md", "b.md"):
        os.utime(docs/name, (315532800, 315532800))          # as archives and reproducible builds set it
    fill(docs, idx)
    (docs/"a.md").write_text("A text of a.md and something else."[:len("A text of a.md and nothing else.")])
    os.utime(docs/"a.md", (315532800, 315532800))
    plan, report, _ = update(docs, idx)
    assert (plan.changed, report.kept, report.replaced) == (["a.md"], 1, 1)
    os.utime(docs/"b.md", (315532800, 315532800))
    assert update(docs, idx)[1].kept == 2                    # looked at, and then known again
    assert not plan_folder(docs, idx).touched


def test_a_file_whose_parser_was_missing_is_read_once_it_is_there(tmp_path, monkeypatch, caplog):
    docs, idx = written(tmp_path/"docs", "a.md"), tmp_path/"idx"
    (docs/"b.pdf").write_bytes(pdf_bytes("The pump needs priming."))
    monkeypatch.setitem(sys.modules, "pypdf", None)
    assert fill(docs, idx).skipped == {"PDF files need a parser that is not installed": 1}
    monkeypatch.undo()
    report = fill(docs, idx)
    assert (report.passages, report.added, report.skipped) == (2, 1, {})
    monkeypatch.setitem(sys.modules, "pypdf", None)
    (docs/"b.pdf").write_bytes(pdf_bytes("The pump needs priming each time."))
    assert update(docs, idx)[2] == {"a.md", "b.pdf"} and "its passages of before stay (PDF files need" in caplog.text
    monkeypatch.undo()
    assert update(docs, idx)[1].replaced == 1


def test_what_an_older_reader_has_read_is_read_again_once(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    docs, idx = written(tmp_path/"docs", "same.md"), tmp_path/"idx"
    (docs/"steps.md").write_text("# Steps\n\n1. Open the lid.\n2. Close it.")
    (docs/"empty.md").write_text("")
    read = documents.TEXT_PARSERS[".md"]
    monkeypatch.setitem(documents.TEXT_PARSERS, ".md", lambda text: read(re.sub(r"(?m)^\d\. ", "", text)))
    fill(docs, idx)
    monkeypatch.undo()
    assert fill(docs, idx).kept == 3                         # nothing has changed
    rows = [json.loads(r) for r in (idx/RECORD).read_bytes().splitlines()]     # as versions before wrote it
    (idx/RECORD).write_text("\n".join(json.dumps({k: v for k, v in r.items() if k != "reader"}) for r in rows) + "\n")
    encoded = []
    monkeypatch.setattr(TinyEncoder, "embed", lambda self, texts, side, _own=TinyEncoder.embed, **kw:
                        (encoded.extend(texts), _own(self, texts, side, **kw))[1])
    report = fill(docs, idx)                                 # without --update: the files are as they were
    assert (report.replaced, report.added, report.passages) == (1, 0, 2) and len(encoded) == 1
    assert "3 files to read again" in caplog.text
    assert GaussianRetriever(TinyEncoder(), idx).store.texts(["steps.md#1"]) == {
        "steps.md#1": "1. Open the lid.\n2. Close it."}
    assert fill(docs, idx).kept == 3


def test_an_update_removes_what_was_deleted_from_this_folder_and_from_no_other(tmp_path):
    a, b = written(tmp_path/"a", "1.md", "2.md", "3.md"), written(tmp_path/"b", "4.md", "5.md")
    fill(a, tmp_path/"idx")
    fill(b, tmp_path/"idx")
    (a/"1.md").unlink()
    (b/"5.md").unlink()
    plan = plan_folder(a, tmp_path/"idx")
    assert (plan.own, plan.drop, plan.gone) == (["1.md"], [], ["1.md", "4.md", "5.md"])       # named, not removed
    plan, report, there = update(a, tmp_path/"idx")
    assert (there, plan.removed, report.kept) == ({"2.md", "3.md", "4.md", "5.md"}, 1, 2)
    assert update(a, tmp_path/"idx")[0].drop == []                                           # and not again
    assert update(b, tmp_path/"idx")[2] == {"2.md", "3.md", "4.md"}
    os.rename(a, tmp_path/"c")                                                               # the folder moves
    plan, _, there = update(tmp_path/"c", tmp_path/"idx")
    assert (plan.states.keys(), there) == ({"2.md", "3.md"}, {"2.md", "3.md", "4.md"})
    assert update(tmp_path/"c", tmp_path/"idx", prune=True)[2] == {"2.md", "3.md"}


def test_files_that_are_gone_from_an_index_made_in_python_are_named_and_pruned(tmp_path):
    docs, idx = written(tmp_path/"docs", "1.md", "2.md"), tmp_path/"idx"
    found = documents.read_folder(docs).documents
    GaussianRetriever(TinyEncoder(), idx).add(
        [{"id": d.document_id, "text": d.text, "metadata": d.metadata} for d in found])
    (docs/"1.md").unlink()
    written(docs, "3.md")
    plan, _, there = update(docs, idx)
    assert (plan.gone, plan.drop, there) == (["1.md"], [], {"1.md", "2.md", "3.md"})
    assert plan_folder(docs, idx).gone == ["1.md"]                                           # nor forgotten
    plan, report, there = update(docs, idx, prune=True)
    assert (there, plan.removed, report.kept) == ({"2.md", "3.md"}, 1, 2)


def test_a_file_of_another_folder_is_not_replaced_in_silence(tmp_path, caplog):
    a, b = written(tmp_path/"a", "README.md"), tmp_path/"b"
    b.mkdir()
    (b/"README.md").write_text("Another text of the same name.")
    fill(a, tmp_path/"idx")
    with pytest.raises(UserError, match="read from another folder; to keep both, index the folder above both"):
        plan_folder(b, tmp_path/"idx")
    held = GaussianRetriever.open(tmp_path/"idx", TinyEncoder()).store.texts(["README.md#1"])
    assert "README.md" in held["README.md#1"]
    plan_folder(b, tmp_path/"idx", update=True)
    assert "another folder under the same name: 1 file, the first of them README.md" in caplog.text
    caplog.clear()
    (a/"README.md").write_text("The same folder, another text.")
    plan_folder(a, tmp_path/"idx", update=True)
    assert "another folder" not in caplog.text


def test_what_cannot_be_opened_now_is_not_gone(tmp_path, monkeypatch):
    docs = written(tmp_path/"docs", "a.md", "b.md")
    written(docs/"sub", "c.md")
    fill(docs, tmp_path/"idx")
    real = os.scandir

    def closed(place):
        if str(place).endswith("sub"):
            raise PermissionError(13, "Permission denied")
        return real(place)

    (docs/"b.md").write_text("Another text of b.")
    monkeypatch.setattr(os, "scandir", closed)
    monkeypatch.setattr(folders, "sha256_file", lambda p: (_ for _ in ()).throw(PermissionError(13, "no")))
    plan, report, there = update(docs, tmp_path/"idx", prune=True)
    assert there == {"a.md", "b.md", "sub/c.md"} and plan.gone == [] and report.skipped["cannot be opened"] == 1
    assert GaussianRetriever(TinyEncoder(), tmp_path/"idx").store.texts(["b.md#1"]) == {
        "b.md#1": "A text of b.md and nothing else."}
    monkeypatch.undo()
    assert update(docs, tmp_path/"idx")[1].replaced == 1


@pytest.mark.parametrize("spoil", ["gone", "folder", "cut"])
def test_a_folder_that_changes_while_it_is_read(tmp_path, monkeypatch, spoil):
    docs = written(tmp_path/"docs", *(f"{i}.md" for i in range(6)))
    plan = plan_folder(docs, tmp_path/"idx")
    (docs/"3.md").unlink()
    if spoil == "folder":
        (docs/"3.md").mkdir()
    if spoil == "cut":
        (docs/"3.md").write_text("")
    report = fill_index(GaussianRetriever(TinyEncoder(), tmp_path/"idx"), plan, "docs")
    assert report.passages == 5 and sum(report.skipped.values()) == 1
    if spoil == "folder":
        (docs/"3.md").rmdir()
    written(docs, "3.md")
    assert update(docs, tmp_path/"idx")[2] == {f"{i}.md" for i in range(6)}


def test_update_sees_changed_metadata_and_passages_that_a_file_has_lost(tmp_path):
    def rows(*given):
        (tmp_path/"d.jsonl").write_text("".join(json.dumps(r) + "\n" for r in given))
        return read_corpus(str(tmp_path/"d.jsonl"))
    first = [{"id": "1", "text": "The pump needs oil.", "url": "http://old"},
             {"id": "2", "text": "A valve.", "source": "b"}, {"id": "3", "text": "A lid.", "source": "b"}]
    index = GaussianRetriever(TinyEncoder(), tmp_path/"idx")
    index.add(rows(*first))
    def changed(*given, update=True):
        args = argparse.Namespace(index_dir=str(tmp_path/"idx"), update=update, documents="d.jsonl")
        return _compare(rows(*given), args)[1]
    assert changed(*first) == []
    new = {**first[0], "url": "http://new"}
    assert changed(new, *first[1:], update=False) == []            # only --update looks at metadata
    index.update(changed(new, *first[1:]))
    assert index.store.get(["1"]).metadata == [{"url": "http://new"}] and changed(new, *first[1:]) == []
    index.update(changed(new, first[1]))                           # b has lost a row
    assert index.store.ids() == {"1", "2"}


def test_rows_that_a_file_has_lost_are_named_and_pruned(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(commands, "_index_model", lambda args: TinyEncoder())

    def run(rows, name="r.csv", update=False, prune=False):
        (tmp_path/name).write_text(rows)
        index, said = commands._index_rows(argparse.Namespace(
            documents=str(tmp_path/name), index_dir=str(tmp_path/"idx"), text_column="text", update=update,
            prune=prune))
        return len(index), said, capsys.readouterr().out.strip()

    assert run("id,text\n1,The pump needs oil.\n2,The valve is blue.\n") == (2, "2 new", "")
    lost = "not among the documents: 1 document of the index (2); --prune removes them"
    assert run("id,text\n1,The pump needs oil.\n", update=True) == (2, "0 new", lost)
    assert run("A line.\nAnother one.\n", "d.txt")[:2] == (4, "2 new")
    assert run("A line.\nThe other one.\n", "d.txt", True)[:2] == (4, "1 new, 1 replaced, 1 removed")     # "-1 new"
    held, said, out = run("id,text\n1,The pump needs oil.\n", prune=True)
    assert (held, said) == (1, "0 new") and "2 passages of 1 file" in out and "1 document of the index (2), not" in out
    assert run("id,text\n1,The pump needs oil.\n", prune=True) == (1, "0 new", "")


@pytest.mark.parametrize("name", ["new\nline", "tab\t", os.fsdecode(b"gr\xf6\xdfe"), "per%20cent", "#?&", " "])
def test_an_index_folder_may_have_any_name(tmp_path, monkeypatch, name):
    monkeypatch.setenv("RAGCUN_CACHE", str(tmp_path/"cache"))
    GaussianRetriever(TinyEncoder(), tmp_path/name).add(["The pump needs oil.", "The valve is blue."])
    assert GaussianRetriever(TinyEncoder(), tmp_path/name).search("valve")[0].text == "The valve is blue."
    assert (tmp_path/name/"documents.lance").is_dir() and {*os.listdir(tmp_path)} <= {name, "cache"}


def test_judgements_survive_a_torn_line_and_undo(tmp_path):
    index = GaussianRetriever(TinyEncoder())
    index.add([{"id": str(i), "text": f"text {i}"} for i in range(5)])
    pools = [Pool("q", "a question", ["3", "1"], {"search": ["1", "3"]})]
    BlindJudging(index, pools, tmp_path).yes().no()
    with open(tmp_path/"votes.jsonl", "ab") as f:
        f.write(b'\n{"query": "q", "docu')
    again = BlindJudging(index, pools, tmp_path)
    assert again.grades == {"q": {"3": 1, "1": 0}} and again.now() is None
    assert again.undo().now()[1] == "1" and BlindJudging(index, pools, tmp_path).grades == {"q": {"3": 1}}
    assert again.skip().now() is None


def test_copies_of_a_passage_are_judged_with_it(tmp_path):
    "A page for printing repeats every passage; one under another heading may say something else."
    index = GaussianRetriever(TinyEncoder())
    rows = [("a", "same text", "H"), ("b", "other text", "H"), ("print", "same text", "H"), ("c", "same text", "Else")]
    index.add([{"id": i, "text": t, "title": h} for i, t, h in rows])
    judging = BlindJudging(index, [Pool("q", "a question", ["a", "b", "print", "c"], {"search": ["a"]}),
                                   Pool("r", "another", ["print"], {"search": ["print"]})], tmp_path)
    assert judging.yes().grades == {"q": {"a": 1, "print": 1}} and judging.now()[1] == "b"
    assert judging.undo().grades == {} and judging.now()[1] == "a"
    seen = []
    while here := judging.now():
        seen.append((here[0].id, here[1]))
        judging.answer(here[1] == "a")
    assert seen == [("q", "a"), ("q", "b"), ("q", "c"), ("r", "print")]
    again = BlindJudging(index, judging.pools, tmp_path)
    assert again.grades == {"q": {"a": 1, "print": 1, "b": 0, "c": 0}, "r": {"print": 0}}
    assert again.undo().undo().undo().undo().grades == {} == BlindJudging(index, judging.pools, tmp_path).grades


def test_files_that_are_cut_otherwise_are_cut_again(tmp_path):
    docs, idx = tmp_path/"docs", tmp_path/"idx"
    make(docs, 10)
    for i in range(2):
        (docs/f"long{i}.txt").write_text(" ".join(f"Sentence {k} of file {i} is here." for k in range(60)))
    fill(docs, idx)
    before = GaussianRetriever(TinyEncoder(), idx).store.ids()
    (docs/"new.txt").write_text("A new file.")
    for options in (documents.ReadOptions(60), documents.ReadOptions(tokenizer=len)):
        with pytest.raises(UserError, match="cut otherwise: 200 tokens.*--update"):
            plan_folder(docs, idx, options=options)
    options = documents.ReadOptions(60)
    plan = plan_folder(docs, idx, True, options)
    report = fill_index(GaussianRetriever(TinyEncoder(), idx), plan, "docs", options=options)
    after = GaussianRetriever(TinyEncoder(), idx).store.ids()
    assert report.kept == 0 and before < after
    assert after == {d.document_id for d in documents.read_folder(docs, options).documents}
    assert plan_folder(docs, idx, options=options).todo == []
    rows = [json.loads(r) for r in (idx/RECORD).read_bytes().splitlines()]
    (idx/RECORD).write_text("\n".join(json.dumps({k: v for k, v in r.items() if k != "cut"}) for r in rows) + "\n")
    assert plan_folder(docs, idx).todo == []                 # a record of before does not know how, and is believed


def test_one_judged_question_proves_nothing(tmp_path):
    index = GaussianRetriever(TinyEncoder())
    index.add([{"id": str(i), "text": f"text {i}"} for i in range(5)])
    def said(n):
        pools = [Pool(f"q{i}", "a question", ["3", "1"], {"search": ["1", "3"], "dense": ["3", "1"]}) for i in range(n)]
        judging = BlindJudging(index, pools, tmp_path/str(n))
        for _ in range(n):
            judging.no().yes()                       # 3 is no answer, 1 is one
        return repr(findings(judging))
    assert "do not tell" in said(1) and "do not tell" in said(5) and "to +" not in said(5)
    assert ", better" in said(6) and "to +" in said(6)


@pytest.mark.parametrize("name", ["tiny", "other"])
def test_an_index_made_anew_takes_the_place_of_one_that_is_open(tmp_path, monkeypatch, name):
    encoders = {TinyEncoder(name=n).fingerprint: TinyEncoder(name=n) for n in ("tiny", "other")}
    monkeypatch.setattr("ragcun.retrieval.index.open_model", lambda place, fingerprint, *_: encoders[fingerprint])
    place, beside = tmp_path/"idx", tmp_path/".idx.anew"
    GaussianRetriever(TinyEncoder(name="tiny"), place).add({f"a{i}": f"ice sea bee n{i}" for i in range(30)})
    served = GaussianRetriever.open(place)
    given = GaussianRetriever.open(place, model=TinyEncoder(name="tiny"))
    assert served.search("ice n3", top_k=1)[0].id == "a3"
    GaussianRetriever(TinyEncoder(name=name), beside).add({f"b{i}": f"code disk key x{i}" for i in range(40)})
    folders.exchange_index(place, beside)
    assert len(served) in (30, 40) and served.search("code x7", top_k=1)[0].id == "b7" and len(served) == 40
    assert served.model.fingerprint == TinyEncoder(name=name).fingerprint
    assert sorted(p.name for p in tmp_path.iterdir()) == ["idx"]
    if name == "other":      # a model that was given is not exchanged in silence
        with pytest.raises(UserError, match="another model"):
            given.search("code x7")


def test_an_index_in_the_place_of_one_with_as_many_versions_is_read_anew(tmp_path):
    place, beside = tmp_path/"idx", tmp_path/".idx.anew"
    GaussianRetriever(TinyEncoder(), place).add({f"a{i}": f"ice sea bee n{i}" for i in range(30)})
    served = GaussianRetriever(TinyEncoder(), place)
    assert served.search("ice n3", top_k=1)[0].words > 1 and "a3" in served.store.ids()
    GaussianRetriever(TinyEncoder(), beside).add({f"b{i}": f"code disk key x{i}" for i in range(30)})
    folders.exchange_index(place, beside)
    fresh = GaussianRetriever(TinyEncoder(), place)
    assert served.search("code x7", top_k=1)[0].words == fresh.search("code x7", top_k=1)[0].words > 1
    assert served.store.ids() == fresh.store.ids()
    (place/"documents.lance").rename(tmp_path/"away")        # a folder that is just being copied
    os.utime(place/"manifest.json", (1, 1))
    with pytest.raises(UserError, match="not there"):
        served.search("code x7")
    assert not (place/"documents.lance").exists()
    (tmp_path/"away").rename(place/"documents.lance")
    assert served.search("code x7", top_k=1)[0].id == "b7"


def test_what_is_written_while_an_index_is_exchanged_goes_into_the_new_one(tmp_path):
    place, beside = tmp_path/"idx", tmp_path/".idx.anew"
    GaussianRetriever(TinyEncoder(), place).add({f"a{i}": f"ice sea bee n{i}" for i in range(30)})
    writer = GaussianRetriever(TinyEncoder(), place)
    assert len(writer.store.ids()) == 30
    GaussianRetriever(TinyEncoder(), beside).add({f"b{i}": f"code disk key x{i}" for i in range(30)})
    folders.exchange_index(place, beside)
    assert writer.add({"a30": "ice sea bee n30"}) == 1 and writer.update({"b3": "code disk key y3"}) == 1
    assert writer.delete(["b4", "a4"]) == 1
    fresh = GaussianRetriever(TinyEncoder(), place)
    assert fresh.store.ids() == {*(f"b{i}" for i in range(30)), "a30"} - {"b4"}
    assert fresh.search("code y3", top_k=1)[0].text == "code disk key y3"
    GaussianRetriever(TinyEncoder(), beside).add({f"c{i}": f"code disk key z{i}" for i in range(30)})
    real = writer._fit_nulls

    def exchanged(write):
        folders.exchange_index(place, beside)
        real(write)
    writer._fit_nulls = exchanged                    # after the last look at the folder
    writer.add({f"d{i}": f"bee sea light q{i}" for i in range(60)})
    stale = writer.store
    writer.refresh()
    assert writer.store is not stale
    assert writer.add({"c1": "code disk key z1", "d1": "bee sea light q1"}) == 1
    fresh = GaussianRetriever(TinyEncoder(), place)
    assert sorted(i for b in fresh.store.blocks() for i in b.ids) == sorted([*(f"c{i}" for i in range(30)), "d1"])
    with pytest.raises(UserError, match="not a ragcun index"):       # half of a run that another one has finished
        commands._take_place(place, written(tmp_path/"half", "x.md"))
    assert len(GaussianRetriever(TinyEncoder(), place)) == 31


def test_an_index_behind_a_link_is_made_anew_where_it_lies(tmp_path, monkeypatch, capsys):
    docs = written(tmp_path/"docs", "a.md")
    (tmp_path/"disk").mkdir()
    GaussianRetriever(TinyEncoder(), tmp_path/"disk"/"idx").add(["ice sea"])
    (tmp_path/"link").symlink_to("disk/idx")
    monkeypatch.setattr(commands, "_index_model", lambda args: TinyEncoder())
    monkeypatch.setattr(commands, "_index_tokens", lambda args: None)
    monkeypatch.setenv("RAGCUN_RUNTIME", "torch")
    for _ in range(2):
        assert commands.main(["index", "--documents", str(docs), "--index_dir", str(tmp_path/"link"), "--anew"]) == 0
        assert GaussianRetriever(TinyEncoder(), tmp_path/"disk"/"idx").store.ids() == {"a.md#1"}
    assert (tmp_path/"link").is_symlink() and [p.name for p in (tmp_path/"disk").iterdir()] == ["idx"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["disk", "docs", "link"]
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path/"disk"/"idx")
    for flag in ("--anew", "--fit"):
        capsys.readouterr()
        assert commands.main(["index", "--documents", str(docs), "--index_dir", str(tmp_path/"link"), flag]) == 2
        assert "where a disk is mounted" in capsys.readouterr().err


def test_files_of_others_outlive_an_index_that_is_made_anew(tmp_path, monkeypatch, capsys):
    from ragcun.cli.flags import check_free_model
    from ragcun.models.saving import check_free
    docs, place = written(tmp_path/"docs", "a.md"), tmp_path/"idx"
    monkeypatch.setattr(commands, "_index_model", lambda args: TinyEncoder())
    monkeypatch.setattr(commands, "_index_tokens", lambda args: None)
    monkeypatch.setenv("RAGCUN_RUNTIME", "torch")
    anew = ["index", "--documents", str(docs), "--anew", "--index_dir"]
    assert commands.main([*anew, str(docs)]) == 2      # the documents would be gone
    assert "other files than an index" in capsys.readouterr().err and (docs/"a.md").exists()
    assert commands.main([*anew, str(place)]) == 0
    before = tmp_path/".idx.before"                    # of a run that was killed
    for other in (place/"judged"/"queries.jsonl", place/".git"/"HEAD", before/"notes.txt", before/"words.arrow"):
        other.parent.mkdir(exist_ok=True)
        other.write_text("mine")
    assert commands.main([*anew, str(place)]) == 0
    for other in ("judged/queries.jsonl", ".git/HEAD", "notes.txt"):
        assert (place/other).read_text() == "mine"
    assert not before.exists() and (place/"words.arrow").read_bytes() != b"mine"
    assert GaussianRetriever(TinyEncoder(), place).store.ids() == {"a.md#1"}
    for check in (check_free, check_free_model):       # a model of a run, in the place of the index's own
        (place/"model"/"modules.json").touch()
        with pytest.raises(UserError, match="the folder of an index"):
            check(place/"model")


def test_the_manifest_of_an_index_of_another_model_is_not_written_over(tmp_path):
    place, beside = tmp_path/"idx", tmp_path/".idx.anew"
    index = GaussianRetriever(TinyEncoder(name="tiny"), place)
    index.add(["ice sea"])
    GaussianRetriever(TinyEncoder(name="other"), beside).add(["code disk"])
    folders.exchange_index(place, beside)
    with pytest.raises(UserError, match="another model"):
        index._write_manifest()                  # as a long calibration does at its end
    assert read_manifest(place).fingerprint == TinyEncoder(name="other").fingerprint


def test_two_runs_do_not_make_one_index_anew(tmp_path, capsys):
    written(tmp_path/"docs", "a.md")
    with sole_run(tmp_path/"idx", "--index_dir", tmp_path/".idx.running"):
        assert commands.main(["index", "--documents", str(tmp_path/"docs"), "--index_dir", str(tmp_path/"idx"),
                              "--anew"]) == 2
    assert f"another run is going on in this folder (--index_dir {tmp_path/'idx'})" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["docs"]


@pytest.mark.parametrize("old, new", [(0., 0.), (.1, 0.), (.1, .2)])
def test_a_calibration_that_goes_with_the_old_index_is_named(tmp_path, capsys, old, new):
    for name, alpha in (("idx", old), ("beside", new)):
        GaussianRetriever(TinyEncoder(), tmp_path/name).add(["ice sea", "code disk"])
        write_manifest(tmp_path/name, replace(read_manifest(tmp_path/name), alpha=alpha))
    before = commands._is_calibrated(tmp_path/"idx")
    commands._take_place(tmp_path/"idx", tmp_path/"beside")
    commands._say_uncalibrated(str(tmp_path/"idx"), before)
    assert ("this one is not: ragcun index" in capsys.readouterr().out) == (old > new)
    assert read_manifest(tmp_path/"idx").alpha == new and not (tmp_path/"beside").exists()


def test_a_kill_between_the_two_renames_is_mended(tmp_path, monkeypatch):
    place, beside = tmp_path/"idx", tmp_path/".idx.anew"
    for folder, text in ((place, "old"), (beside, "new")):
        folder.mkdir()
        (folder/"said").write_text(text)
    real = os.rename
    monkeypatch.setattr(folders.os, "rename", lambda a, b: real(a, b) if Path(a) == place else 1/0)
    with pytest.raises(ZeroDivisionError):
        folders.exchange_index(place, beside)
    assert not place.exists()
    monkeypatch.setattr(folders.os, "rename", real)
    folders.mend_index(place)
    assert (place/"said").read_text() == "old"
    folders.exchange_index(place, beside)
    assert (place/"said").read_text() == "new" and sorted(p.name for p in tmp_path.iterdir()) == ["idx"]


def test_a_few_passages_are_not_about_none(caplog):
    clock = folders._Clock(100, 3)
    clock.read(100)
    with caplog.at_level("INFO"):
        clock.wrote(2, 1)
        clock.spoke = -1e9
        clock.wrote(4321, 5)
    assert "2 of about 3 passages" in caplog.text and "4,323 of about 4,328" in caplog.text


def test_files_from_all_over_a_folder_decide_the_language(tmp_path, caplog):
    docs = tmp_path/"docs"
    docs.mkdir()
    german = "Der Abschnitt beschreibt die Pumpen und Filter der Anlage, die regelmäßig gereinigt werden müssen. " * 6
    english = "The section describes the pumps and filters of the plant, which have to be cleaned regularly. " * 6
    for i in range(30):
        (docs/f"{i:02}.txt").write_text(f"{i}. " + (english if i < 3 else german))     # the first are in English
    report = fill(docs, tmp_path/"i")
    assert GaussianRetriever(TinyEncoder(), tmp_path/"i").tokenizer.stem == "german" and report.added == 30

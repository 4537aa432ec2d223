"""A folder and its index: killed and taken up, changed and run again; and judgements that survive the same."""
import json
import multiprocessing
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from small import ROOT, docx_bytes, pdf_bytes
from tiny_encoder import TinyEncoder

from ragcun.core import UserError
from ragcun.data import documents
from ragcun.retrieval import folders
from ragcun.retrieval.folders import RECORD, fill_index, plan_folder, read_record
from ragcun.retrieval.judgements import BlindJudging, Pool, findings
from ragcun.retrieval.retriever import GaussianRetriever


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
    os.setsid()
    fill(docs, idx, block)


def killed(docs, idx, times, seed, block):
    rng = random.Random(seed)
    context = multiprocessing.get_context("fork")
    ended = 0
    for _ in range(times):
        job = context.Process(target=child, args=(docs, idx, block))
        job.start()
        job.join(rng.uniform(.05, .5))
        ended += not job.is_alive()
        if job.is_alive():
            job.kill()
        job.join()
    return times - ended


def check(docs, idx, number):
    report = fill(docs, idx)
    index = GaussianRetriever(TinyEncoder(), idx)
    rows = [i for b in index.store.blocks() for i in b.ids]
    wanted = {d.document_id for d in documents.read_folder(docs).documents}
    assert len(rows) == len(set(rows)) and set(rows) == wanted            # nothing lost, nothing twice
    states, whole = read_record(Path(idx))
    assert whole and len(states) == number and report.files == sum(s.passages > 0 for s in states.values())


def test_a_folder_that_is_killed_loses_nothing_and_has_nothing_twice(tmp_path):
    make(tmp_path/"docs", 120)
    assert killed(tmp_path/"docs", tmp_path/"idx", 3, 0, 7) >= 1
    check(tmp_path/"docs", tmp_path/"idx", 120)


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

"""Threads of the command that wait leave the processor to whoever has work; what the user has set stays."""
import copy
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from ragcun.cli.commands import main
from ragcun.retrieval.hits import Batch
from ragcun.retrieval.retriever import GaussianRetriever
from ragcun.retrieval.stores import LanceStore
from tiny_encoder import TinyEncoder


def test_waiting_threads_do_not_spin(monkeypatch, capsys):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    for wanted in ("ACTIVE", "PASSIVE"):
        with pytest.raises(SystemExit):
            main(["search", "--no_such_flag"])
        assert os.environ["OMP_WAIT_POLICY"] == wanted
        monkeypatch.delenv("OMP_WAIT_POLICY")


def test_a_thread_that_outlives_the_program_still_searches(tmp_path, monkeypatch):
    "Python starts no more threads then, and the search that looks words up in one failed."
    for folder in (None, tmp_path/"index"):
        index = GaussianRetriever(TinyEncoder(), folder)
        index.add([f"sea ice w{i}" for i in range(30)])
        before = index.search("ice w3").to_json()
        with monkeypatch.context() as m:
            m.setattr("concurrent.futures.thread._shutdown", True)
            assert index.search("ice w3").to_json() == before


def test_two_threads_write_one_file(tmp_path):
    from ragcun.core import atomic_write
    path = tmp_path/"a.txt"
    met = threading.Barrier(2)
    faults = []

    def write(text):
        try:
            with atomic_write(path) as tmp:
                tmp.write_text(text)
                met.wait(10)                # both are at it
        except Exception as e:
            faults.append(e)

    both = [threading.Thread(target=write, args=(t * 9,)) for t in "ab"]
    for t in both: t.start()
    for t in both: t.join()
    assert not faults
    assert path.read_text() in ("a" * 9, "b" * 9)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("copied", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy])
def test_a_store_on_disk_is_copied_by_its_folder(tmp_path, copied):
    store = LanceStore(tmp_path/"i", 2)
    store.add(Batch(["a", "b"], ["one", "two"], [{}, {}], np.eye(2, dtype=np.float32), ["one", "two"]))
    store.keep_words()
    store.keep_indexes()
    other = copied(store)
    assert other.ids() == {"a", "b"}
    other.delete(["a"])
    assert store.ids() == {"b"}
    assert other.word_counts().documents == 1


FORK = """
import multiprocessing, sys
sys.path.insert(0, sys.argv[2])
from ragcun.retrieval.retriever import GaussianRetriever
from ragcun.core import UserError
from tiny_encoder import TinyEncoder
index = GaussianRetriever(TinyEncoder(), sys.argv[1])
index.add([{"id": f"d{i}", "text": f"alpha{i} beta{i} gamma{i}", "metadata": {"n": i}} for i in range(30)])
index.search("alpha3")
def top(question, **more):
    return next((h.text for h in index.search(question, top_k=1, **more)), None)
def ask(job, answers):
    try:
        answers.put((job, globals()[job]()))
    except BaseException as e:
        answers.put((job, repr(e)))
def searched():
    return top("alpha7 beta7")
def embedded():
    sys.executable = "/usr/sbin/uwsgi"
    return top("alpha7 beta7")
def filtered():
    return top("alpha7 beta7", filter=lambda m: m["n"] == 8), top("alpha7 beta7", filter={"n": 9})
def opened():
    other = GaussianRetriever.open(sys.argv[1], TinyEncoder())
    made = GaussianRetriever(TinyEncoder(), sys.argv[1] + "-new")
    made.add(["delta epsilon"])
    return other.search("alpha7 beta7", top_k=1)[0].text, made.search("delta", top_k=1)[0].text
def changed():
    index.add([{"id": "new", "text": "zeta eta"}])
    index.update([{"id": "d3", "text": "theta iota"}])
    index.delete(["d7"])
    return len(index), top("zeta"), top("theta"), top("alpha7 beta7") != "alpha7 beta7 gamma7"
def shared():
    import concurrent.futures
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return sorted(set(pool.map(top, ["alpha7 beta7", "alpha8 beta8"] * 6)))
def again():
    from ragcun.retrieval import stores
    first = top("alpha7 beta7")
    stores._fresh[0]._process.kill()
    stores._fresh[0]._process.wait()
    try:
        broken = top("alpha8 beta8")
    except UserError as e:
        broken = str(e).split(": ")[1].split(" for")[0]
    return first, broken, top("alpha8 beta8")
class Late(Exception): pass
def interrupted():
    import os, signal
    from ragcun.retrieval import stores
    first = top("alpha7 beta7")
    def late(*_): raise Late
    signal.signal(signal.SIGALRM, late)
    os.kill(stores._fresh[0]._process.pid, signal.SIGSTOP)
    signal.alarm(1)
    try:
        first = top("alpha8 beta8")
    except Late:
        os.kill(stores._fresh[0]._process.pid, signal.SIGCONT)
        return first, top("alpha9 beta9")
forked = multiprocessing.get_context("fork")
for jobs in (["searched", "embedded", "filtered"], ["opened", "shared", "again", "interrupted"], ["changed"]):
    answers = forked.Queue()
    for job in jobs: forked.Process(target=ask, args=(job, answers), daemon=True).start()
    for job in jobs: print(*answers.get(timeout=60), sep=": ")
print(top("alpha9 beta9"))
"""
SEVENTH, EIGHTH, NINTH = (f"alpha{i} beta{i} gamma{i}" for i in (7, 8, 9))
DONE = {"searched": SEVENTH, "embedded": SEVENTH, "filtered": (EIGHTH, NINTH), "opened": (SEVENTH, "delta epsilon"),
        "shared": [SEVENTH, EIGHTH], "interrupted": (SEVENTH, NINTH),
        "again": (SEVENTH, "the process that reads it", EIGHTH),
        "changed": (30, "zeta eta", "theta iota", True)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_uses_an_index_that_was_open(tmp_path):
    "LanceDB would hang there or end the process, in one to seven of ten: a fresh process does its work."
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK, str(tmp_path/"i"),
                           str(Path(__file__).parents[1])], capture_output=True, text=True, timeout=300)
    *found, last = done.stdout.splitlines() or [""]
    assert sorted(found) == sorted(f"{job}: {answer}" for job, answer in DONE.items()), done.stderr[-800:]
    assert last == NINTH


COMPUTED = """
import multiprocessing
import torch
import ragcun.models.encoder
torch.set_num_threads(2)
numbers = torch.ones(1500, 1500)
def count(answers):
    answers.put(float(numbers.add(1).sum()))
forked = multiprocessing.get_context("fork")
answers = forked.Queue()
child = forked.Process(target=count, args=(answers,), daemon=True)
count(answers)
child.start()
print(answers.get(timeout=20), answers.get(timeout=20))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_computes():
    "The threads of its parent are not there: torch would wait for them, or crash."
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", COMPUTED], capture_output=True, text=True, timeout=120,
                          env=os.environ | {"OMP_NUM_THREADS": "2"})
    assert done.stdout.split() == ["4500000.0"]*2, done.stderr[-500:]

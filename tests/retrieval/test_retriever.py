"""The retriever over both stores: parity with brute force and faiss, durability under kill -9, readers beside a
writer, and bad input."""
import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ragcun.core import UserError, write_json
from ragcun.retrieval.hits import Batch
from ragcun.retrieval.retriever import GaussianRetriever
from ragcun.retrieval.stores import LanceStore, MemoryStore, read_manifest, writer_lock
from tiny_encoder import TinyEncoder

WORDS = "ice sea bee heart blood light gene cell star moon tree rock wind fire code disk node key lock page".split()


def texts(n, seed=0):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=8)) + f" n{i}" for i in range(n)]


def batch(n, dim=24, start=0, seed=0):
    ids = [f"d{i}" for i in range(start, start + n)]
    return Batch(ids, [f"text {i}" for i in ids], [{"n": i} for i in range(start, start + n)],
                 np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32))


@pytest.fixture(params=["memory", "lance"])
def store(request, tmp_path):
    return MemoryStore(24) if request.param == "memory" else LanceStore(tmp_path, 24)


def test_distances_are_brute_force_and_not_squared(store):
    b = batch(700)
    store.add(b.take(range(300)))
    store.add(b.take(range(300, 700)))
    u = np.random.default_rng(1).standard_normal((9, 24)).astype(np.float32)
    brute = np.sqrt(((u[:, None].astype(float) - b.v[None]) ** 2).sum(-1))
    for row, want in zip(store.search(u, 10), brute, strict=True):
        order = np.argsort(want)[:10]
        assert [f.id for f in row] == [b.ids[i] for i in order]
        assert np.allclose([f.distance for f in row], want[order], rtol=1e-12)
    assert not np.allclose([f.distance for f in store.search(u, 10)[0]], np.sort(brute[0])[:10] ** 2)


def interrupted_at(line, names, work):
    "Whether Ctrl+C came in: before the line-th line of these functions of the stores."
    left = [line]
    def trace(frame, event, _):
        code = frame.f_code
        if not code.co_filename.endswith("stores.py") or code.co_name not in names: return None
        if event == "line":
            left[0] -= 1
            if left[0] < 0: raise KeyboardInterrupt
        return trace
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_a_store_in_memory_is_whole_wherever_a_change_of_it_is_interrupted():
    for change in ("add", "replace", "delete"):
        for line in range(200):
            store = MemoryStore(24)
            store.add(batch(4))
            ids = store.ids()
            store.search(np.zeros((1, 24)), 2)
            given = {"add": batch(3, start=4), "replace": batch(3, start=2), "delete": ["d1", "d2"]}[change]
            if not interrupted_at(line, ("add", "replace", "delete"), partial(getattr(store, change), given)): break
            assert store.ids() == ids and len(store.search(np.zeros((1, 24)), 9)[0]) == 4, (change, line)
            assert store.word_counts().documents == 4 and store.last_row() == 3
            store.replace(batch(3, start=2))
            assert len(store) == 5 == len(store.get([f"d{i}" for i in range(5)]))
        assert line > 4


def test_parity_with_faiss(store):
    faiss = pytest.importorskip("faiss")
    b = batch(2000)
    store.add(b)
    u = np.random.default_rng(2).standard_normal((20, 24)).astype(np.float32)
    index = faiss.IndexFlatL2(24)
    index.add(b.v)
    squared, ids = index.search(u, 5)
    found = store.search(u, 5)
    assert [[f.id for f in row] for row in found] == [[b.ids[i] for i in row] for row in ids]
    assert np.allclose([[f.distance for f in row] for row in found], np.sqrt(squared), rtol=1e-4)


def test_ties_come_in_order_of_arrival(store):
    b = batch(40)
    b.v[:] = b.v[0]
    store.add(b)
    assert [f.row for f in store.search(np.zeros((1, 24), np.float32), 7)[0]] == list(range(7))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["add", "delete", "update"]), st.integers(0, 30), st.integers(1, 8)),
                max_size=8))
def test_memory_and_disk_stay_the_same(tmp_path_factory, steps):
    stores = [MemoryStore(6), LanceStore(tmp_path_factory.mktemp("s"), 6)]
    for number, (what, start, n) in enumerate(steps):
        b = batch(n, 6, start, seed=number)
        for s in stores:
            known = s.ids()
            if what == "add":
                keep = [i for i, name in enumerate(b.ids) if name not in known]
                if keep:
                    s.add(b.take(keep))
            elif what == "delete":
                s.delete(b.ids)
            else:
                s.replace(b)
    u = np.random.default_rng(3).standard_normal((2, 6)).astype(np.float32)
    a, b = ([[(f.id, f.text, f.distance) for f in row] for row in s.search(u, 50)] for s in stores)
    assert len(stores[0]) == len(stores[1]) and a == b
    assert stores[0].ids() == stores[1].ids()


def test_evidence_is_the_density_ratio_in_both_backends(tmp_path):
    from scipy.stats import multivariate_normal as mvn, norm
    model = TinyEncoder()
    docs = texts(80)
    memory = GaussianRetriever(model)
    memory.add(docs)
    disk = GaussianRetriever(model, tmp_path/"i")
    disk.add(docs)
    a, b = (r.search("ice sea bee", top_k=6) for r in (memory, disk))
    assert a.to_json() == b.to_json()
    q = model.embed(["ice sea bee"], "query")[0].astype(float)
    x = model.embed([a[0].text])[0].astype(float)
    by_hand = sum(mvn([0, 0], [[1, r], [r, 1]]).logpdf([q[i], x[i]]) - norm.logpdf(q[i]) - norm.logpdf(x[i])
                  for i, r in enumerate(model.rho_numpy))
    assert np.isclose(a[0].raw_evidence, by_hand, atol=1e-4)
    assert np.isclose(a[0].evidence, a[0].dense + a[0].words + a[0].constant, atol=1e-9) and a[0].words > 0
    alone = next(h for h in memory.search("ice sea bee", top_k=80, words=0) if h.id == a[0].id)
    assert np.isclose(alone.evidence, -.5 + .3 * by_hand, atol=1e-4)
    assert np.isclose(a[0].e_value, 80 * a[0].p_value)
    assert [h.evidence for h in a] == sorted((h.evidence for h in a), reverse=True)
    assert [h.p_value for h in a] == sorted(h.p_value for h in a)


def test_open_needs_only_the_folder_and_a_second_add_nothing(tmp_path, monkeypatch):
    import ragcun.models.evidence
    model = TinyEncoder()
    docs = texts(60)
    disk = GaussianRetriever(model, tmp_path/"i")
    assert disk.add(docs) == 60 and disk.add(docs) == 0
    monkeypatch.setattr(ragcun.models.encoder.GaussianEncoder, "load",
                        classmethod(lambda cls, p, device="auto": TinyEncoder.load(p)))
    again = GaussianRetriever.open(tmp_path/"i")
    assert again.search(docs[3], top_k=1)[0].text == docs[3] and again.null is not None
    assert again.search(docs[3]).to_json() == disk.search(docs[3]).to_json()
    version = disk.store.table.version
    disk.add(docs)
    assert disk.store.table.version == version       # nothing was rebuilt


def test_streaming_add_filters_update_delete():
    index = GaussianRetriever(TinyEncoder())
    assert index.add(({"id": i, "text": t, "even": i % 2 == 0} for i, t in enumerate(texts(50))), block_size=7) == 50
    got = index.search(["ice", "sea"], top_k=4, filter={"even": True})
    assert all(h.metadata["even"] for r in got for h in r) and all(len(r) == 4 for r in got)
    assert len(index.search("ice", top_k=30, filter={"even": True})) == 25
    assert (len(index.search("ice", top_k=3, filter={"nothing": 1})) == 0
            and not index.search("ice", filter={"nothing": 1}).answered)
    assert (index.update([{"id": 3, "text": "new words"}]) == 1 and index.delete("4") == 1 and index.delete(["4"]) == 0
            and len(index) == 49)
    assert index.search("new words", top_k=1)[0].id == "3"
    empty = GaussianRetriever(TinyEncoder()).search("anything")
    assert len(empty) == 0 and not empty.answered and json.dumps(empty.to_json())


def test_max_e_value_drops_and_answered_tells():
    index = GaussianRetriever(TinyEncoder())
    docs = texts(300)
    index.add(docs)
    all_hits = index.search(docs[5], top_k=10)
    few = index.search(docs[5], top_k=10, max_e_value=.5)
    assert len(all_hits) == 10 and 1 <= len(few) < 10 and few[0] == all_hits[0] and few.answered
    assert all(h.e_value <= .5 for h in few) and not index.search("zebra", max_e_value=1e-9).answered


def test_calibrate_keeps_its_rate():
    index = GaussianRetriever(TinyEncoder(32))
    docs = texts(400)
    index.add({str(i): t for i, t in enumerate(docs)})
    ask = [" ".join(t.split()[:6]) for t in docs]
    index.calibrate(ask[:300], [[str(i)] for i in range(300)], alpha=.1)
    rest = index.answer_values(ask[300:], [[str(i)] for i in range(300, 400)])
    assert (rest <= index.answer_limit).mean() <= .1 + 3 * np.sqrt(.09 / 100)
    assert index.null.questions == 150
    with pytest.raises(UserError, match="lists of relevant"):
        index.calibrate(["a"], [])


def test_bad_input_is_one_line(tmp_path, caplog):
    index = GaussianRetriever(TinyEncoder())
    cases = [(lambda: index.search(" \n"), "empty"), (lambda: index.search([]), None),
             (lambda: index.search("x", filter=3), "filter"), (lambda: index.add([None]), "null"),
             (lambda: index.add([{"text": "a", "metadata": {"x": float("nan")}}]), "JSON"),
             (lambda: index.add_vectors(["a"], np.full((1, 16), np.inf)), "infinite"),
             (lambda: index.add_vectors(["a"], np.zeros((1, 3))), "shape"),
             (lambda: index.add([("i", "a"), ("i", "b")]), "different texts"),
             (lambda: GaussianRetriever.open(tmp_path), "not a ragcun index"),
             (lambda: GaussianRetriever.open(tmp_path/"none"), "no such index")]
    for wrong, word in cases:
        if word is None:
            assert wrong() == []
            continue
        with pytest.raises(UserError, match=word) as e:
            wrong()
        assert "\n" not in str(e.value)
    assert len(index) == 0
    assert index.add(["word " * 200_000]) == 1 and "reads only the beginning" in caplog.text      # 1 MB
    assert index.search("word", top_k=1)[0].text.startswith("word")


def test_wrong_model_version_and_folder_are_refused(tmp_path):
    GaussianRetriever(TinyEncoder(), tmp_path/"i").add(["one text"])
    with pytest.raises(UserError, match="another model"):
        GaussianRetriever(TinyEncoder(name="other"), tmp_path/"i")
    with pytest.raises(UserError, match="16 dimensions"):
        GaussianRetriever(TinyEncoder(8), tmp_path/"i")
    m = read_manifest(tmp_path/"i")
    write_json(tmp_path/"i"/"manifest.json", vars(m) | {"format": 7})
    with pytest.raises(UserError, match="format 7.*Use the ragcun that wrote it"):
        GaussianRetriever.open(tmp_path/"i")
    for later in ({"id_rule": "page"}, {"token_rule": "chars"}, {"weights": list(range(9))}, {"tokens": {"kind": "x"}}):
        write_json(tmp_path/"i"/"manifest.json", vars(m) | later)
        with pytest.raises(UserError, match="Use the ragcun that wrote it"):
            GaussianRetriever(TinyEncoder(), tmp_path/"i")
    write_json(tmp_path/"i"/"manifest.json", vars(m) | {"of_later": 1})
    with pytest.raises(UserError, match="unknown ones.*Use the ragcun that wrote it"):
        GaussianRetriever.open(tmp_path/"i")
    (tmp_path/"i"/"manifest.json").unlink()
    with pytest.raises(UserError, match="no manifest|not a ragcun"):
        GaussianRetriever(TinyEncoder(), tmp_path/"i")
    (tmp_path/"stuff").mkdir()
    (tmp_path/"stuff"/"letter.txt").write_text("dear")
    with pytest.raises(UserError, match="not a ragcun index"):
        GaussianRetriever(TinyEncoder(), tmp_path/"stuff")


@pytest.mark.parametrize("damage", ["gone", "empty", "cut"])
def test_a_damaged_table_is_one_line_whatever_is_asked(tmp_path, damage):
    GaussianRetriever(TinyEncoder(), tmp_path/"i").add(texts(30))
    data = next((tmp_path/"i"/"documents.lance"/"data").iterdir())
    kept = data.read_bytes()
    data.unlink() if damage == "gone" else data.write_bytes(kept[:len(kept)//2 if damage == "cut" else 0])
    for use in (lambda index: index.search("ice sea"), lambda index: index.search("ice", words=0),
                lambda index: index.search("ice", filter={"n": 1}), lambda index: index.add(["a new text"]),
                lambda index: index.delete(["d1"]), lambda index: index.store.get(["d1"])):
        with pytest.raises(UserError, match="table of documents cannot be read"):
            use(GaussianRetriever(TinyEncoder(), tmp_path/"i"))


@pytest.mark.parametrize("gone", ["folder", "table"])
def test_an_index_that_goes_while_it_is_open_is_one_line(tmp_path, gone):
    index = GaussianRetriever(TinyEncoder(), tmp_path/"i")
    index.add(texts(30))
    (tmp_path/"i" if gone == "folder" else tmp_path/"i"/"documents.lance").rename(tmp_path/"away")
    for use in (lambda: index.search("ice"), lambda: index.add(["a new text"]), lambda: index.update(["a new text"]),
                lambda: index.delete(["d1"]), lambda: len(index), index.sources, lambda: index.save(tmp_path/"copy")):
        with pytest.raises(UserError, match="index folder is gone" if gone == "folder" else "table of documents"):
            use()
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "copy") == ["away"] + ["i"]*(gone == "table")


def test_damaged_nulls_are_made_again(tmp_path):
    index = GaussianRetriever(TinyEncoder(), tmp_path/"i")
    index.add(texts(60))
    before = index.search("ice sea heart").to_json()
    for path in (tmp_path/"i").glob("*.npz"):
        raw = path.read_bytes()
        for damaged in (raw[:len(raw)//2], raw[:200] + bytes([raw[200] ^ 4]) + raw[201:]):
            path.write_bytes(damaged)
            assert GaussianRetriever(TinyEncoder(), tmp_path/"i").search("ice sea heart").to_json() == before
            path.write_bytes(raw)


FULL = """
import resource, signal, sys
from tiny_encoder import TinyEncoder
from ragcun.retrieval.retriever import GaussianRetriever
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
GaussianRetriever(TinyEncoder(), sys.argv[1]).add([f"star {i} " * 90 for i in range(200)])
"""


@pytest.mark.slow
def test_a_full_disk_is_named_and_the_index_stays(tmp_path):
    GaussianRetriever(TinyEncoder(), tmp_path/"i").add(texts(30))
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]))
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path/"i")], env=env, capture_output=True, text=True)
    assert "UserError: the disk is full" in done.stderr, done.stderr[-500:]
    assert len(GaussianRetriever(TinyEncoder(), tmp_path/"i").search("ice sea", top_k=3)) == 3


def test_nan_from_the_model_is_refused_and_nothing_is_stored():
    class Broken(TinyEncoder):
        def embed(self, texts, side="document"):
            z = super().embed(texts, side)
            z[-1] = np.nan
            return z
    index = GaussianRetriever(Broken())
    with pytest.raises(UserError, match="NaN"):
        index.add(["a", "b"])
    with pytest.raises(UserError, match="NaN"):
        index.search("a")
    assert len(index) == 0


@pytest.mark.parametrize("kind,dim", [("IVF_FLAT", 24), ("", 24), ("", 21)])
def test_ann_finds_most_and_keeps_exact_distances(tmp_path, kind, dim):
    store = LanceStore(tmp_path, dim)
    b = batch(3000, dim)
    store.add(b)
    u = np.random.default_rng(5).standard_normal((30, dim)).astype(np.float32)
    exact = store.search(u, 10)
    with pytest.raises(UserError, match="no approximate index 'ivf_pq'.*Use IVF_RQ"):
        store.build_ann("ivf_pq")
    store.build_ann(kind)
    near = store.search(u, 10)
    common = np.mean([len({f.id for f in a} & {f.id for f in b}) / 10 for a, b in zip(exact, near, strict=True)])
    assert common > .9
    known = {f.id: f.distance for f in exact[0]}
    assert all(known[f.id] == f.distance for f in near[0] if f.id in known)
    assert [[f.id for f in row] for row in store.search(u, 10, exact=True)] == [[f.id for f in row] for row in exact]


WRITER = """
import sys; sys.path[:0] = [{tests!r}]
from tiny_encoder import TinyEncoder
from ragcun.retrieval.retriever import GaussianRetriever
index = GaussianRetriever(TinyEncoder(), {folder!r})
start = len(index)
for i in range(start, 100000, 20):
    index.add([(f"d{{j}}", f"text {{j}}") for j in range(i, i + 20)])
    print(i + 20, flush=True)
"""


def kill_rounds(folder, rounds, seed):
    "Add until killed at a random moment, again and again; returns what was acknowledged each time."
    rng = random.Random(seed)
    code = WRITER.format(tests=str(Path(__file__).parents[1]), folder=str(folder))
    acknowledged = 0
    for _ in range(rounds):
        p = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        first = p.stdout.readline() if rng.random() < .8 else ""      # sometimes also while starting
        time.sleep(rng.uniform(0, .4))
        os.kill(p.pid, signal.SIGKILL)
        out, err = p.communicate()
        assert "Error" not in err, err[-500:]
        lines = [int(x) for x in (first + out).split("\n")[:-1] if x]
        acknowledged = max([acknowledged, *lines])
        if not (folder/"manifest.json").exists(): continue
        index = GaussianRetriever(TinyEncoder(), folder)
        n = len(index)
        assert n >= acknowledged and n % 20 == 0, (n, acknowledged)
        assert index.store.ids() == {f"d{j}" for j in range(n)}
        if n:
            assert index.search("text 3", top_k=1)[0].text
            newest = index.asked([f"text {n - 1}"])[0]          # words are there for every document, the last one too
            assert index.store.word_counts().documents == n
            assert index.store.search_words(newest, 1)[0].id == f"d{n - 1}"
    return acknowledged


def test_kill_during_add_loses_nothing_acknowledged(tmp_path):
    assert kill_rounds(tmp_path/"i", 4, 0) > 0


@pytest.mark.slow
def test_fifty_kills(tmp_path):
    assert kill_rounds(tmp_path/"i", 50, 1) > 0


READER = """
import sys; sys.path[:0] = [{tests!r}]
from tiny_encoder import TinyEncoder
from ragcun.retrieval.retriever import GaussianRetriever
index, last = GaussianRetriever(TinyEncoder(), {folder!r}), 0
print("ready", flush=True)
while last < {until}:
    r = index.search("text 5", top_k=3)
    n = len(index)
    assert n >= last and len(r) == 3 and n % 10 == 0, (n, last)
    last = n
"""


def test_two_readers_beside_a_writer(tmp_path):
    index = GaussianRetriever(TinyEncoder(), tmp_path/"i")
    index.add([(f"d{j}", f"text {j}") for j in range(40)])
    code = READER.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path/"i"), until=200)
    readers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
               for _ in range(2)]
    for r in readers:
        assert r.stdout.readline() == "ready\n", r.communicate()[1][-500:]
    for i in range(40, 200, 10):
        index.add([(f"d{j}", f"text {j}") for j in range(i, i + 10)])
    for r in readers:
        assert r.wait(60) == 0, r.stderr.read()[-800:]


def test_one_writer_at_a_time(tmp_path):
    import threading
    inside, most = [], []
    def write(i):
        with writer_lock(tmp_path):
            inside.append(i)
            most.append(len(inside))
            time.sleep(.01)
            inside.remove(i)
    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(most) == 8 and max(most) == 1


def test_compact_changes_no_answer(tmp_path):
    store = LanceStore(tmp_path, 24)
    for i in range(12):
        store.add(batch(5, start=5 * i, seed=i))
    store.delete([f"d{i}" for i in range(0, 60, 7)])
    u = np.random.default_rng(9).standard_normal((4, 24)).astype(np.float32)
    before = [[(f.id, f.distance) for f in row] for row in store.search(u, 9)]
    reader = LanceStore(tmp_path, 24)
    store.compact()
    assert [[(f.id, f.distance) for f in row] for row in store.search(u, 9)] == before
    assert [[(f.id, f.distance) for f in row] for row in reader.search(u, 9)] == before and len(reader) == 51
    store.add(batch(3, start=100))
    assert len(reader) == 54


def test_refresh_takes_over_what_another_process_calibrated(tmp_path):
    writer = GaussianRetriever(TinyEncoder(16), tmp_path/"index")
    docs = texts(300)
    writer.add({str(i): t for i, t in enumerate(docs)})
    reader, adder = (GaussianRetriever(writer.model, tmp_path/"index") for _ in range(2))
    writer.calibrate([" ".join(t.split()[:6]) for t in docs[:60]], [[str(i)] for i in range(60)], alpha=.1)
    assert reader.answer_limit == 1. and reader.rule is None
    reader.refresh()
    assert (reader.answer_limit == writer.answer_limit and reader.rule == writer.rule
            and reader.null.questions == writer.null.questions)
    adder.add({f"more {i}": t for i, t in enumerate(texts(100))})      # fits the null anew, and writes what it knows
    assert adder.rule == writer.rule and read_manifest(tmp_path/"index").answer_limit == writer.answer_limit != 1


def test_questions_come_in_any_form():
    index = GaussianRetriever(TinyEncoder())
    index.add(texts(30))
    want = [r.to_json() for r in index.search(["ice sea", "tree rock"])]
    for asked in (iter(["ice sea", "tree rock"]), np.array(["ice sea", "tree rock"]), ("ice sea", "tree rock")):
        assert [r.to_json() for r in index.search(asked)] == want
    half = [h.id for h in index.search("ice sea", 5, diversity=.5).hits]      # numbers of numpy are numbers
    again = index.search("ice sea", np.int64(5), words=np.float32(1), diversity=np.float32(.5))
    assert [h.id for h in again.hits] == half
    index.add([{"id": "untitled", "text": "ice", "title": np.float32("nan")}])
    assert index.store.texts(["untitled"]) == {"untitled": "ice"}


@pytest.mark.parametrize("use, part", [
    (lambda i: i.search("ice", diversity=2), "diversity is 2"), (lambda i: i.search("ice", diversity="x"), "diversity"),
    (lambda i: i.search("ice", diversity=float("nan")), "diversity is nan"),
    (lambda i: i.search("ice", rerank=lambda q, hits: hits.sort(key=id)), "rerank gave no hits"),
    (lambda i: i.search("ice", rerank=lambda q, hits: [(h, 1.) for h in hits]), "rerank gave a tuple for a hit"),
    (lambda i: i.add(["ice"], [{"year": 2003}]), "metadata and ids stand in the documents"),
    (lambda i: i.search(b"ice"), "the query is not text but bytes"),
    (lambda i: i.calibrate(["ice sea"], ["d1"]), "a list of ids is wanted"),
    (lambda i: i.calibrate(["ice", "sea"], [["no"], ["such"]]), "none of the relevant documents"),
    (lambda i: i.delete(None), "the id is None"), (lambda i: i.delete([None]), "the id is None"),
    (lambda i: i.delete({"source": "a.md"}), "ids are wanted, not a filter"),
    (lambda i: i.delete(["\ud800"]), "half of a surrogate pair"), (lambda i: i.delete([1.5]), "the id is 1.5"),
    (lambda i: i.add([{"text": "a", "title": "\ud800"}]), "the title holds half of a surrogate pair at character 0"),
    (lambda i: i.add([{"text": "a", "title": ["b"]}]), "the title is ['b'] (document 1)"),
    (lambda i: i.add(["a", {"text": "b", "when": {1}}]), "(document 2: {'when': {1}})"),
    (lambda i: GaussianRetriever("some/folder"), "a model is wanted, not 'some/folder'"),
    (lambda i: GaussianRetriever(None), "a model is wanted, not None"),
])
def test_misuse_is_one_line_and_changes_nothing(tmp_path, use, part):
    index = GaussianRetriever(TinyEncoder(), tmp_path/"i")
    index.add([{"id": f"d{i}", "text": t} for i, t in enumerate(texts(20))])
    with pytest.raises(UserError) as e:
        use(index)
    assert part in str(e.value) and "\n" not in str(e.value) and len(index) == 20


def test_rows_of_a_table_with_gaps_are_documents_and_the_table_itself_is_refused():
    pandas = pytest.importorskip("pandas")
    index = GaussianRetriever(TinyEncoder())
    rows = pandas.DataFrame({"id": [1, 2], "text": ["ice sea", "tree rock"], "title": ["Water", None]})
    with pytest.raises(UserError, match="a DataFrame is no list of documents"):
        index.add(rows)
    assert index.add(rows.to_dict("records")) == 2
    assert index.store.get(["1", "2"]).texts == ["Water ice sea", "tree rock"]
    assert index.delete(np.int64(1)) == 1 and index.delete(n for n in ["2"]) == 1


def test_the_same_weights_under_another_pooling_are_refused(tmp_path):
    from small import small_base
    from ragcun.models.encoder import GaussianEncoder
    base = small_base(tmp_path)
    GaussianRetriever(GaussianEncoder.from_base(base, None, "cpu", "no"), tmp_path/"i").add(texts(20))
    pooling = next(base.glob("*Pooling"))/"config.json"
    same = GaussianEncoder.from_base(base, None, "cpu", "no")
    pooling.write_text(pooling.read_text().replace('"mean"', '"cls"'))
    other = GaussianEncoder.from_base(base, None, "cpu", "no")
    assert len(GaussianRetriever.open(tmp_path/"i", same)) == 20
    assert other.fingerprint == same.fingerprint
    for opened in (lambda: GaussianRetriever.open(tmp_path/"i", other), lambda: GaussianRetriever(other, tmp_path/"i")):
        with pytest.raises(UserError, match="pools or tokenises in another way"):
            opened()


@pytest.mark.parametrize("questions", [{"q1": "ice sea"}, "table"])
def test_questions_in_a_mapping_or_a_table_are_not_asked_by_their_names(questions):
    index = GaussianRetriever(TinyEncoder())
    index.add(texts(20))
    if questions == "table":
        questions = pytest.importorskip("pandas").DataFrame({"question": ["ice sea"]})
    for ask in (index.search, lambda q: index.ranked(q, 3), index.answer_values, index.encode_queries):
        with pytest.raises(UserError, match="is no list of questions"):
            ask(questions)
    assert len(index.search({"q1": "ice sea"}.values())) == 1
    with pytest.raises(UserError, match="str is no list of questions"):
        index.ranked("ice sea", 3)              # it would be asked letter by letter


def test_a_text_under_another_key_is_named():
    with pytest.raises(UserError, match="no key 'text', only id, page_content .document 2."):
        GaussianRetriever(TinyEncoder()).add([{"id": 1, "text": "ice"}, {"id": 2, "page_content": "sea"}])


def test_rows_of_tables_and_documents_of_other_libraries_are_documents():
    import sqlite3
    from collections import namedtuple

    import pandas as pd
    from langchain_core.documents import Document as Other

    from ragcun.data.documents import Document
    from ragcun.retrieval.hits import as_entry
    base = sqlite3.connect(":memory:")
    base.row_factory = sqlite3.Row
    row = base.execute("SELECT 7 AS id, 'sea' AS text, 2003 AS year").fetchone()
    table = pd.DataFrame({"text": ["sea"], "id": [7], "year": [2003]})
    beir = (7, {"text": "sea", "year": 2003})
    for one in (row, next(table.itertuples(index=False)), next(table.iterrows())[1], beir):
        entry = as_entry(one)
        assert (entry.id, entry.text, entry.metadata) == ("7", "sea", {"year": 2003})
    # by name, not by place: a pair of (text, id) is not one of (id, text)
    assert as_entry(namedtuple("Row", "text id")("sea", "a")).id == "a"
    assert as_entry(namedtuple("Row", "key body")("a", "sea")).text == "sea"
    own = as_entry(Document("sea", "Title", document_id="m.md#1", source="m.md"))
    assert (own.id, own.context, own.metadata["source"]) == ("m.md#1", "Title", "m.md")
    other = as_entry(Other(page_content="sea", metadata={"year": 2003}))
    assert other == as_entry({"text": "sea", "year": 2003})
    with pytest.raises(UserError, match=r"to_pylist\(\)"):
        GaussianRetriever(TinyEncoder()).add(pytest.importorskip("pyarrow").table({"text": ["sea"]}))


def test_an_interrupted_save_leaves_no_half_of_an_index(tmp_path, monkeypatch):
    index = GaussianRetriever(TinyEncoder())
    index.add(texts(30))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(LanceStore, "keep_words", interrupt)
        index.save(tmp_path/"copy")
    assert not (tmp_path/"copy"/"manifest.json").exists()
    assert len(index.save(tmp_path/"copy")) == 30


def interrupt(*args):
    raise KeyboardInterrupt

"""An index at an address: file:// and a server of the S3 protocol on this machine, several writers, and what a store
can refuse."""
import http.server
import json
import logging
import os
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import ragcun.retrieval.stores
from ragcun.cli.commands import main
from ragcun.core import UserError
from ragcun.retrieval.hits import Batch
from ragcun.retrieval.retriever import GaussianRetriever
from ragcun.retrieval.storage import RemotePath, as_place
from ragcun.retrieval.stores import LanceStore, is_free, read_manifest
from tiny_encoder import TinyEncoder

WORDS = "ice sea bee heart blood light gene cell star moon tree rock wind fire code disk node key lock page".split()
NAMES = ("AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION")
OURS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


def texts(n):
    rng = np.random.default_rng(0)
    return {f"d{i}": " ".join(rng.choice(WORDS, 8)) + f" n{i}" for i in range(n)}


@pytest.fixture()
def clean(monkeypatch):
    "No settings of a store from outside."
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in OURS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def server():
    "A server of the S3 protocol with one bucket."
    moto = pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[s3]' flask flask-cors")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    url = "http://{}:{}".format(*running.get_host_and_port())
    urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT"))
    yield url
    running.stop()


@pytest.fixture()
def bucket(server, clean, monkeypatch, tmp_path):
    "An address in the bucket where nothing is yet."
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    return f"s3://bucket/{tmp_path.name}/an index"


@pytest.fixture(params=["file", "s3"])
def place(request, tmp_path, clean):
    "The same, or a file:// address."
    return (tmp_path/"bucket"/"an index").as_uri() if request.param == "file" else request.getfixturevalue("bucket")


def test_the_whole_life_of_an_index(place, tmp_path):
    model = TinyEncoder()
    docs = texts(120)
    memory = GaussianRetriever(model)
    remote = GaussianRetriever(model, place)
    for index in (memory, remote):
        assert index.add(docs, block_size=50) == 120 and index.add(docs) == 0
    assert isinstance(remote.index_dir, RemotePath) and "120 documents" in repr(remote) and "an index" in repr(remote)
    reader = GaussianRetriever.open(place, model)
    asked, asking = ["ice sea bee", "code disk n3"], list(docs)[:40]  # each question goes to the server a few times
    def same(*indexes): # noqa: E731
        return len({json.dumps([r.to_json() for r in i.search(asked, top_k=6)]) for i in indexes}) == 1
    assert same(memory, remote, reader)
    for index in (memory, remote):
        index.calibrate([" ".join(docs[i].split()[:6]) for i in asking], [[i] for i in asking], alpha=.1)
    assert reader.rule is None
    # search looks at the manifest
    assert same(memory, remote, reader) and reader.rule == memory.rule and reader.answer_limit == memory.answer_limit
    for index in (memory, remote):
        assert index.update({"d3": "new words", "d200": "more words"}) == 2 and index.delete(["d4", "d5", "none"]) == 2
    assert same(memory, remote, reader) and len(reader) == 119
    copy = remote.save(place + " copy")
    home = reader.save(tmp_path/"home")
    assert (same(memory, copy, home) and copy.store.ids() == home.store.ids() == memory.store.ids()
            and home.index_dir == tmp_path/"home")
    # what the manifest no longer names is gone
    assert sum(p.name.startswith("null-") for p in remote.index_dir.iterdir()) == 1
    with pytest.raises(UserError, match="in use"):
        memory.save(place)


def test_what_is_no_index_of_this_model_is_refused(place):
    with pytest.raises(UserError, match="no such index folder"):
        GaussianRetriever.open(place)
    GaussianRetriever(TinyEncoder(), place).add(["one text"])
    with pytest.raises(UserError, match="another model"):
        GaussianRetriever(TinyEncoder(name="other"), place)
    with pytest.raises(UserError, match="16 dimensions"):
        GaussianRetriever(TinyEncoder(8), place)
    manifest = as_place(place)/"manifest.json"
    manifest.unlink()
    with pytest.raises(UserError, match="no manifest|holds documents"):
        GaussianRetriever(TinyEncoder(), place)
    folder = as_place(place + " of letters")
    (folder/"dear.txt").upload(Path(__file__))
    with pytest.raises(UserError, match="not a ragcun index"):
        GaussianRetriever(TinyEncoder(), str(folder))
    (folder/"manifest.json").upload(Path(__file__))
    with pytest.raises(UserError, match="broken JSON") as e:
        read_manifest(folder)
    assert f"{folder}/manifest.json, line 1" in str(e.value)


def test_the_manifest_is_written_last_and_half_a_creation_is_repeated(place, monkeypatch):
    put = []
    real = RemotePath.upload
    monkeypatch.setattr(RemotePath, "upload", lambda self, source: (real(self, source), put.append(self.name))[0])
    index = GaussianRetriever(TinyEncoder(), place)
    index.add(texts(30))
    index.calibrate(list(texts(30).values()), [[i] for i in texts(30)], alpha=.2)
    assert put[:3] == ["tiny.json", "model", "manifest.json"] and put[-1] == "manifest.json"
    assert all(after.startswith(("words", "null", "joint", "answer", "manifest")) for after in put[2:])
    assert put[3] == "manifest.json"        # the language, before the first document that is cut by it
    assert put[4] == "words.arrow" and put[5].startswith("null")

    class Killed(Exception):
        pass
    def killed(self, source):
        if self.name == "manifest.json":
            raise Killed
        real(self, source)
    monkeypatch.setattr(RemotePath, "upload", killed)
    with pytest.raises(Killed):
        GaussianRetriever(TinyEncoder(), place + "2")
    monkeypatch.setattr(RemotePath, "upload", real)
    assert is_free(place + "2") and GaussianRetriever(TinyEncoder(), place + "2").add(["one"]) == 1


def write_at_once(place, writers=3, rounds=3):
    "Rows and different ids after several writers have added the same blocks at the same time."
    stores = [LanceStore(place, 4) for _ in range(writers)]
    start = threading.Barrier(writers)
    faults = []
    def work(store):
        try:
            for r in range(rounds):
                ids = [f"d{i}" for i in range(4 * r, 4 * r + 4)]
                rows = store._arrow(Batch(ids, ids, [{}] * 4, np.ones((4, 4), np.float32)))
                start.wait(30)
                store._insert(rows)
        except BaseException as e:
            faults.append(e)
            start.abort()
    threads = [threading.Thread(target=work, args=(s,)) for s in stores]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not faults
    names = [i for b in stores[0].blocks() for i in b.ids]
    return len(names), len(set(names))


def test_writers_at_the_same_time_add_each_document_once(place, monkeypatch):
    assert write_at_once(place) == (12, 12)
    monkeypatch.setattr(ragcun.retrieval.stores, "KEY", {})          # without it the table lets them in more than once
    rows, ids = write_at_once(place + " without a key")
    assert rows > ids == 12


def test_ids_are_known_also_after_another_writer(place):
    a = LanceStore(place, 4)
    b = LanceStore(place, 4)
    def batch(*ids): # noqa: E731
        return Batch(list(ids), list(ids), [{}] * len(ids), np.ones((len(ids), 4), np.float32))
    a.add(batch("1", "2"))
    b.add(batch("2", "3"))
    a.add(batch("3", "4", "1"))
    a.replace(batch("4"))
    assert (a.ids() == b.ids() == {"1", "2", "3", "4"} and len(a) == len(b) == 4 and b.delete(["1", "9"]) == 1
            and len(a) == 3)


def test_an_approximate_index_and_compacting(place):
    store = LanceStore(place, 16)
    rng = np.random.default_rng(0)
    for start in (0, 700):
        ids = [f"d{i}" for i in range(start, start + 700)]
        store.add(Batch(ids, ids, [{}] * 700, rng.standard_normal((700, 16)).astype(np.float32)))
    u = rng.standard_normal((5, 16)).astype(np.float32)
    exact = [[(f.id, f.distance) for f in row] for row in store.search(u, 5)]
    store.build_ann()
    store.compact()
    near = LanceStore(place, 16).search(u, 5)
    assert np.mean([(f.id, f.distance) in row for found, row in zip(near, exact, strict=True) for f in found]) > .8
    assert [[(f.id, f.distance) for f in row] for row in store.search(u, 5, exact=True)] == exact


def test_a_table_copied_from_a_disk_is_added_to(tmp_path, clean):
    local = GaussianRetriever(TinyEncoder(), tmp_path/"index")
    local.add(texts(20))
    remote = GaussianRetriever.open((tmp_path/"index").as_uri(), local.model)
    assert (remote.add(texts(25)) == 5 and len(local) == 25 and local.add(texts(30)) == 5
            and remote.store.ids() == set(texts(30)))


SHARD = """
import sys; sys.path[:0] = [{tests!r}]
from tiny_encoder import TinyEncoder
from ragcun.retrieval.retriever import index_corpus
index_corpus(TinyEncoder(), {{f"d{{i}}": f"text {{i}}" for i in range(60)}}, {place!r}, 10)
"""


@pytest.mark.slow
def test_two_processes_share_the_work(bucket):
    code = SHARD.format(tests=str(Path(__file__).parents[1]), place=bucket)
    both = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True,
                             env=os.environ | {"RANK": str(r), "WORLD_SIZE": "2"}) for r in range(2)]
    for p in both:
        assert p.wait(120) == 0, p.stderr.read()[-800:]
    names = [i for b in GaussianRetriever(TinyEncoder(), bucket).store.blocks() for i in b.ids]
    assert sorted(names) == sorted(f"d{i}" for i in range(60))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    "A real model folder, small."
    from ragcun.models.encoder import GaussianEncoder
    from small import small_base
    folder = tmp_path_factory.mktemp("model")
    return GaussianEncoder.from_base(str(small_base(folder)), 8, "cpu", "no").save(folder/"model")


def test_the_command_and_a_model_that_is_downloaded_once(place, saved, tmp_path, own_cache, capsys, monkeypatch):
    (tmp_path/"docs.jsonl").write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in texts(40).items()))
    flags = ["--model_path", str(saved), "--documents", str(tmp_path/"docs.jsonl"), "--index_dir", place,
             "--device", "cpu"]
    assert main(["index", *flags]) == 0 and f"40 documents in {place} (40 new)" in capsys.readouterr().out
    assert main(["index", *flags]) == 0 and "(0 new)" in capsys.readouterr().out
    ask = ["search", "--index_dir", place, "--json", "--device", "cpu", "--top_k", "2"]
    assert main([*ask, texts(40)["d7"]]) == 0
    first = json.loads(capsys.readouterr().out)
    kept = list((tmp_path/"cache"/"models").iterdir())
    assert len(first["hits"]) == 2 and len(kept) == 1 and kept[0].name[0] != "."
    assert {p.relative_to(kept[0]) for p in kept[0].rglob("*")} == {p.relative_to(saved) for p in saved.rglob("*")}
    monkeypatch.setattr(RemotePath, "download", lambda *a: pytest.fail("downloaded again"))
    assert main([*ask, texts(40)["d7"]]) == 0 and json.loads(capsys.readouterr().out) == first
    (tmp_path/"docs.jsonl").write_text(json.dumps({"id": "d7", "text": "other words"}) + "\n")
    assert main(["index", *flags]) == 2 and "Add --update" in capsys.readouterr().err
    assert main(["index", *flags, "--update"]) == 0 and "1 replaced" in capsys.readouterr().out


def real_texts(n=400):
    "Documentation strings of Python's own modules, some of them many times as long as others."
    from ragcun.data.generation import package_docstrings
    packages = ("argparse", "logging", "email", "json", "unittest")
    found = dict.fromkeys(doc for package in packages for _, doc in package_docstrings(package))
    return {f"doc{i}": text[:2000] for i, text in enumerate(list(found)[:n])}


ASKED = ["How is an argument parsed?", "handler that writes to a file", "decode JSON", "assertRaises context",
         "zyzzyva", "the of and", "Wie liest man eine Nachricht?"]


def seen(results):
    "What a search says, hit by hit; rounded, since sums of float32 may end in other digits."
    return [(r["answered"], [(h["id"], *(round(h[k], 4) for k in ("evidence", "dense", "words", "p_value", "e_value")))
                             for h in r["hits"]]) for r in results]


@pytest.mark.slow
def test_every_way_in_gives_the_same_hits_and_numbers(bucket, saved, tmp_path, own_cache, capsys):
    from ragcun.integrations.frameworks import haystack_retriever, langchain_retriever, llama_index_retriever
    from ragcun.models.encoder import GaussianEncoder
    model = GaussianEncoder.load(saved, "cpu", "auto")            # as the command does
    docs = real_texts()
    ways = {"memory": GaussianRetriever(model), "disk": GaussianRetriever(model, tmp_path/"i"),
            "bucket": GaussianRetriever(model, bucket)}
    for index in ways.values():
        assert index.add(docs) == len(docs) > 300
    ways |= {"opened": GaussianRetriever.open(tmp_path/"i", model), "saved": ways["memory"].save(tmp_path/"copy")}
    want = seen(r.to_json() for r in ways["memory"].search(ASKED, top_k=8))
    for name, index in ways.items():
        assert seen(r.to_json() for r in index.search(ASKED, top_k=8)) == want, name
    for question, (_, hits) in zip(ASKED, want, strict=True):
        ids = [h[0] for h in hits]
        for index in (ways["memory"], ways["disk"]):
            assert [d.id for d in langchain_retriever(index, 8, None).invoke(question)] == ids
            assert [d.id for d in haystack_retriever(index, 8, None).run(question)["documents"]] == ids
            assert [n.node.node_id for n in llama_index_retriever(index, 8, None).retrieve(question)] == ids
    flags = ["--device", "cpu", "--json", "--top_k", "8", "--index_dir"]
    for question in ASKED:                                        # one at a time: a batch may round otherwise
        assert main(["search", *flags, str(tmp_path/"i"), question]) == 0
        told = json.loads(capsys.readouterr().out)
        assert seen([told]) == seen([ways["memory"].search(question, top_k=8).to_json()])


def refused(argv, word, capsys, seconds=12):
    "Exit code 2 and one line."
    start = time.monotonic()
    assert main(argv) == 2
    said = capsys.readouterr().err.strip()
    assert word in said and "\n" not in said and time.monotonic() - start < seconds, said


@pytest.fixture()
def commands(tmp_path, monkeypatch):
    "`ragcun index` and `ragcun search` at an address; neither may load a model."
    import ragcun.cli.commands
    (tmp_path/"m").mkdir()
    (tmp_path/"m"/"ragcun.json").write_text("{}")
    (tmp_path/"d.txt").write_text("a text\n")
    monkeypatch.setattr(ragcun.cli.commands, "load", lambda args: pytest.fail("a model was loaded"))
    index = ["index", "--model_path", str(tmp_path/"m"), "--documents", str(tmp_path/"d.txt"), "--index_dir"]
    return lambda place: ([*index, place], ["search", "question", "--index_dir", place])


@pytest.mark.parametrize("place", ["ftp://host/folder", "s3://", "s3://bucket/a/../b", "https://host/x"])
def test_other_addresses_are_refused(place, commands, capsys):
    for argv in commands(place):
        refused(argv, "address" if place[:2] == "s3" else "nothing can be kept", capsys, 60)


def test_a_bucket_that_is_not_there(server, clean, monkeypatch, commands, capsys):
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    for argv in commands("s3://nobucket/folder"):
        refused(argv, "there is no such bucket (s3://nobucket/folder", capsys)
    with pytest.raises(UserError, match="no such bucket"):
        LanceStore("s3://nobucket/folder", 4)


def test_no_credentials(server, clean, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(UserError, match="access is refused.*AWS_ACCESS_KEY_ID"):
        GaussianRetriever(TinyEncoder(), "s3://bucket/nobody")


def test_access_denied(clean, monkeypatch, commands, capsys):
    "As a store answers to a wrong key."
    class Closed(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(403)
            self.send_header("Content-Length", "0")
            self.end_headers()
        do_HEAD = do_PUT = do_POST = do_GET
        def log_message(self, *args):
            pass
    closed = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Closed)
    threading.Thread(target=closed.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.server_port}")
    for argv in commands("s3://bucket/folder"):
        refused(argv, "access is refused", capsys)
    with pytest.raises(UserError, match="access is refused"):
        LanceStore("s3://bucket/folder", 4)
    closed.shutdown()
    closed.server_close()


def test_no_server(clean, monkeypatch, commands, capsys):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for argv in commands("s3://bucket/folder"):
        refused(argv, "the store cannot be reached", capsys)


def test_names_in_a_bucket_cannot_leave_the_cache(server, clean, monkeypatch, own_cache, tmp_path):
    "Keys are free text: one with .. in it would be written outside."
    from ragcun.retrieval.storage import local_copy
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    folder = as_place("s3://bucket/evil/model")
    (folder/"good.txt").upload(Path(__file__))
    urllib.request.urlopen(urllib.request.Request(f"{server}/bucket/evil/model/%2E%2E/%2E%2E/escaped.txt", b"x",
                                                  method="PUT"))
    with pytest.raises(UserError, match="unsafe name"):
        local_copy(folder, "key")
    assert not list(tmp_path.rglob("escaped.txt")) and not list((tmp_path/"cache"/"models").iterdir())

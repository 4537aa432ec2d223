"""The server in this process: what it answers, what it refuses, and that nothing makes it fail."""
import asyncio
import base64
import contextlib
import json
import os
import re
import threading
import time
import urllib.request

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("fastapi", reason="extra serve is not installed")
import uvicorn
from starlette.testclient import TestClient

from ragcun.core import UserError
from ragcun.integrations.server import (OPEN, Gate, Limits, PatientProtocol, Refusal, Room, SearchRequest, ServeOptions,
                                        Worker, api_keys, check_inputs, error_body, listen, make_app, read_body,
                                        serve_options, side_of)
from ragcun.retrieval.retriever import GaussianRetriever
from tiny_encoder import TinyEncoder

KEY = "0123456789abcdef-for-tests"
JSON = {"content-type": "application/json"}
QUESTION = "alpha7 beta7 gamma7"


def make_index(folder=None):
    index = GaussianRetriever(TinyEncoder(24), folder)
    index.add([{"id": f"d/{i}", "text": f"alpha{i} beta{i} gamma{i} delta{i}", "n": i, "source": f"s{i // 10}",
                "position": i % 10 + 1} for i in range(200)])
    return index


@pytest.fixture(scope="module")
def index():
    return make_index()


@pytest.fixture(scope="module")
def client(index):
    with TestClient(make_app(index, ServeOptions()), raise_server_exceptions=False) as c:
        yield c


def ask(client, **body):
    return client.post("/search", json=body)


# --- search

def test_search_gives_what_the_index_gives(client, index):
    got = ask(client, query=QUESTION, top_k=3).json()
    want = index.search(QUESTION, top_k=3).to_json()
    assert [h["id"] for h in got["hits"]] == [h["id"] for h in want["hits"]] and got["answered"] == want["answered"]
    assert np.isclose([h["evidence"] for h in got["hits"]], [h["evidence"] for h in want["hits"]]).all()
    assert got["chance"] == want["chance"]


def test_questions_of_one_request_keep_their_order(client):
    unset = dict.fromkeys(("top_k", "filter", "words", "max_e_value", "explain", "as_written", "merge"))
    assert ask(client, query=QUESTION, **unset).json() == ask(client, query=QUESTION).json()
    got = ask(client, query=[f"alpha{i} beta{i} delta{i}" for i in (9, 3, 5)], top_k=1).json()
    assert [r["hits"][0]["id"] for r in got["results"]] == ["d/9", "d/3", "d/5"]


def test_filter_words_and_e_value_reach_the_index(client, index):
    got = ask(client, query=QUESTION, top_k=4, filter={"n": {"$lt": 5}}).json()
    assert got["hits"] and all(h["metadata"]["n"] < 5 for h in got["hits"])
    dense = ask(client, query=QUESTION, top_k=3, words=0).json()
    assert [h["id"] for h in dense["hits"]] == [h.id for h in index.search(QUESTION, top_k=3, words=0)]
    assert all(h["e_value"] <= .5 for h in ask(client, query=QUESTION, max_e_value=.5).json()["hits"])


def test_copies_and_passages_of_a_file_are_merged_where_asked():
    index = GaussianRetriever(TinyEncoder(24))
    index.add([{"id": f"v{v}/{i}", "text": f"alpha{i} beta{i} gamma{i}", "source": f"v{v}"}
               for v in range(6) for i in range(20)])
    with TestClient(make_app(index, ServeOptions())) as client:
        plain, texts, files = (ask(client, query=QUESTION, top_k=5, **m).json()["hits"]
                               for m in ({}, {"merge": "text"}, {"merge": "source"}))
        explained = ask(client, query=QUESTION, top_k=5, merge="text", explain=True).json()["hits"]
    assert len({h["text"] for h in plain}) == 1 and not any("copies" in h for h in plain)
    assert len({h["text"] for h in texts}) == 5 and [len(h["copies"]) for h in texts] == [5] * 5
    assert [h["copies"] for h in explained] == [h["copies"] for h in texts]
    assert len({h["metadata"]["source"] for h in files}) == 5


def test_a_typing_error_is_corrected_unless_it_is_asked_for_as_written(client, index, monkeypatch):
    monkeypatch.setattr(index, "corrected", lambda queries: [q.replace("quetsion", QUESTION) for q in queries])
    got = ask(client, query=["quetsion", QUESTION]).json()["results"]
    assert got[0].pop("corrected") == QUESTION and got[0].pop("query") == "quetsion"
    assert got[1].pop("query") == QUESTION and got[0] == got[1]
    assert "corrected" not in ask(client, query="quetsion", as_written=True).json()


def test_a_filter_that_nothing_passes_is_said_to_be_that(client):
    got = ask(client, query=QUESTION, filter={"m": 3}).json()
    assert got["hits"] == [] and got["note"].startswith("no document passes the filter. Fields of their metadata: ")
    several = ask(client, query=[QUESTION, "x"], filter={"n": "3"}, explain=True).json()["results"]
    assert all("n is for example " in r["note"] for r in several)
    for more in ({}, {"filter": {"n": 3}}, {"max_e_value": 0}):
        assert "note" not in ask(client, query=QUESTION, **more).json()


def test_twice_the_words_leaves_the_verdict_open(client):
    got = ask(client, query=QUESTION, words=2).json()
    assert got["answered"] is None and all(h["e_value"] is None for h in got["hits"])


def test_explained_results_say_it_in_words(client):
    got = ask(client, query=QUESTION, explain=True, top_k=2).json()
    first = got["hits"][0]
    assert [first["text"][a:b] for a, b in first["matched"]] == ["alpha7", "beta7", "gamma7"]
    assert sum(got["surroundings"]["counts"]) == got["surroundings"]["documents"] == 200
    for words in (0, 1, 2):             # hits and histogram are on one scale: the sample holds the best document
        one = ask(client, query=QUESTION, explain=True, words=words).json()
        assert np.isclose(one["surroundings"]["edges"][-1], one["hits"][0]["evidence"], rtol=.05)
    assert "answer" in got["verdict"] and "unrelated document" in first["e_value_in_words"]


def test_an_empty_index_answers_that_there_is_nothing():
    with TestClient(make_app(GaussianRetriever(TinyEncoder(24)))) as c:
        got = ask(c, query="anything", explain=True).json()
    assert got["hits"] == [] and got["answered"] is False and got["surroundings"] is None


# --- refusals

@pytest.mark.parametrize("body, status, part", [
    ({}, 422, "query"), ({"query": ""}, 422, "empty"), ({"query": "a\0b"}, 422, "NUL"), ({"query": 3}, 422, "query"),
    ({"query": []}, 422, "questions"), ({"query": ["a"] * 65}, 422, "questions"), ({"query": "x" * 4001}, 422, "4,001"),
    ({"query": "x", "top_k": 0}, 422, "top_k"), ({"query": "x", "top_k": 101}, 422, "top_k"),
    ({"query": "x", "top_k": True}, 422, "top_k"), ({"query": "x", "top_k": "5"}, 422, "top_k"),
    ({"query": ["x"] * 60, "top_k": 50}, 422, "hits in all"),
    ({"query": None}, 422, "query"), ({"query": "x", "topk": None}, 422, "topk: there is no such field"),
    ({"query": "x", "topk": 5}, 422, "topk: there is no such field. Fields are query, top_k, filter"),
    ({"query": "x", "filter": {"$and": 1}}, 400, "list of filters"), ({"query": "x", "words": -1}, 422, "words"),
    ({"query": "x", "filter": {"a": 10**20}}, 422, "number"), ({"query": "x", "max_e_value": -1}, 422, "max_e_value"),
    ({"query": "x", "filter": {"a": [[[[[[[[[[1]]]]]]]]]]}}, 422, "nested"), ({"query": ["x", 3]}, 422, "query 2: "),
])
def test_bad_searches_are_refused_with_a_reason(client, body, status, part):
    got = ask(client, **body)
    assert got.status_code == status and part in got.json()["error"]["message"], got.text


def test_bodies_of_other_kinds_are_refused(client):
    def post(content, **headers):
        return client.post("/search", content=content, headers=headers).status_code
    assert post(b"{}") == 415 and post(b"query=x", **{"content-type": "text/plain"}) == 415
    kind = {"content-type": "application/json"}
    assert post(b"{", **kind) == 400 and post(b"\xff", **kind) in (400, 422) and post(b"", **kind) == 422
    assert post(b"[" * 100_000, **kind) in (400, 422)
    for unread in (b'{"query": "\xff"}', b'{"query": "x", "top_k": ' + b"9" * 5000 + b"}"):
        got = client.post("/search", content=unread, headers=kind)
        assert got.status_code == 400 and "no JSON that can be read" in got.json()["error"]["message"]
    assert post(b" " * 2_000_001, **kind) == 413
    assert post(b"{}", **kind, **{"content-encoding": "gzip"}) == 415
    assert post(iter([b" " * 1_000_000] * 3), **kind) == 413          # no length announced


def test_unknown_places_and_methods(client):
    assert client.get("/nowhere").status_code == 404 and client.get("/search").status_code == 405
    assert client.get("/../../etc/passwd").status_code == 404 and client.get("/page.js/..%2f..%2fx").status_code == 404
    assert client.get("/nowhere").json()["error"] == {
        "message": "there is nothing at /nowhere. See /openapi.json for what there is.", "code": 404,
        "type": "invalid_request_error"}
    for path in ("/", "/healthz", "/page.js"):                  # as programs that watch servers ask
        assert (client.head(path).status_code, client.head(path).content) == (200, b"")
    assert client.post("/documents", json={"documents": [{"text": "x"}]}).status_code == 403
    assert client.delete("/documents/d%2F1").status_code == 403


def test_a_slow_body_is_given_up():
    async def never():
        await asyncio.sleep(5)
    with pytest.raises(Refusal) as e:
        asyncio.run(read_body(never, Limits(body_seconds=.05)))
    assert e.value.status_code == 408


def test_bodies_of_all_requests_together_are_bounded():
    room = Room(100)
    async def body(n):
        async def receive():
            return {"type": "http.request", "body": b"x"*n, "more_body": False}
        with room.place() as add:
            read = await read_body(receive, Limits(), add)
            await asyncio.sleep(.01)        # while it is answered
            return len(read)
    async def several():
        return await asyncio.gather(body(60), body(40), body(1), return_exceptions=True)
    *good, bad = asyncio.run(several())
    assert good == [60, 40] and bad.status_code == 503 and room.held == 0
    assert asyncio.run(body(100)) == 100


def test_a_full_queue_and_a_greedy_caller_are_refused():
    release = threading.Event()

    async def scenario():
        worker = Worker(Limits(queue=4, seconds=5))
        worker.start()
        hers = [asyncio.create_task(worker.ask("she", release.wait, 5)) for _ in range(2)]
        his = [asyncio.create_task(worker.ask("he", release.wait, 5)) for _ in range(2)]
        await asyncio.sleep(.05)
        with pytest.raises(Refusal) as greedy:
            await worker.ask("she", release.wait, 5)
        with pytest.raises(Refusal) as full:
            await worker.ask("it", release.wait, 5)
        release.set()
        done = await asyncio.gather(*hers, *his)
        await worker.stop()
        return greedy.value.status_code, full.value.status_code, done, worker.pending
    assert asyncio.run(scenario()) == (429, 503, [True] * 4, 0)


def test_an_answer_that_takes_too_long_is_504_and_the_next_job_runs():
    async def scenario():
        worker = Worker(Limits(seconds=.3))
        worker.start()
        with pytest.raises(Refusal) as late:
            await worker.ask("me", time.sleep, .4)
        again = await worker.ask("me", lambda: 7)
        await worker.stop()
        return late.value.status_code, again
    assert asyncio.run(scenario()) == (504, 7)


def test_a_job_whose_client_has_gone_is_not_done():
    done = []

    async def scenario():
        gone = [False]
        async def has_gone():
            return gone[0]
        worker = Worker(Limits())
        worker.start()
        first = asyncio.create_task(worker.ask("me", time.sleep, .2))
        await asyncio.sleep(.05)
        rest = [asyncio.create_task(worker.ask("me", done.append, i, gone=has_gone if i else None)) for i in range(3)]
        await asyncio.sleep(0)
        gone[0] = True
        results = await asyncio.gather(first, *rest, return_exceptions=True)
        await worker.stop()
        return [type(r).__name__ for r in results], worker.pending
    assert asyncio.run(scenario()) == (["NoneType", "NoneType", "Refusal", "Refusal"], 0) and done == [0]


def test_one_bad_question_of_a_batch_fails_alone():
    def work(questions, mark):
        if "bad" in questions: raise UserError("bad", "here")
        return [q + mark for q in questions]

    async def scenario():
        worker = Worker(Limits(), wait=.05)
        worker.start()
        got = await asyncio.gather(*[worker.ask("me", work, [q], key=("!",)) for q in ("a", "bad", "b")],
                                   return_exceptions=True)
        await worker.stop()
        return got
    a, bad, b = asyncio.run(scenario())
    assert (a, b) == (["a!"], ["b!"]) and isinstance(bad, UserError)


# --- who may ask

def test_a_key_is_wanted_for_everything_that_holds_documents(index):
    app = make_app(index, ServeOptions(keys=(KEY,)))
    with TestClient(app) as c:
        paths = [p for p in c.get("/openapi.json", headers={"Authorization": f"Bearer {KEY}"}).json()["paths"]]
        for path in [*paths, "/openapi.json"]:
            want = 200 if path in OPEN else 401
            assert c.get(path.replace("{name}", "d")).status_code == want, path
        for path in OPEN:
            assert c.get(path).status_code == 200
        for header in (f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Basic {KEY}", "Bearer ", "Bearer é"):
            assert c.get("/about", headers={"Authorization": header.encode()}).status_code == 401
        assert c.get("/about", headers={"Authorization": f"Bearer {KEY}"}).json()["documents"] == 200


def test_other_names_and_other_pages_are_refused(index):
    with TestClient(make_app(index, serve_options("127.0.0.1")), base_url="http://127.0.0.1:8080") as c:
        assert c.get("/about").status_code == 200
        assert c.get("/about", headers={"Host": "evil.example"}).status_code == 400
        assert c.get("/about", headers={"Host": "127.0.0.1.evil.example"}).status_code == 400
        assert c.get("/about", headers={"Origin": "http://evil.example"}).status_code == 403
        assert c.get("/about", headers={"Origin": "null"}).status_code == 403
        own = c.get("/about", headers={"Origin": "http://127.0.0.1:8080"})
        assert own.status_code == 200 and "access-control-allow-origin" not in own.headers
    allowed = serve_options("localhost", cors_origins=["https://friend.example"])
    with TestClient(make_app(index, allowed), base_url="http://localhost") as c:
        got = c.get("/about", headers={"Origin": "https://friend.example"})
        assert got.headers["access-control-allow-origin"] == "https://friend.example"
        assert c.get("/about", headers={"Origin": "https://other.example"}).status_code == 403


def test_origins_are_those_that_browsers_send():
    for typed, want in (("https://Friend.example/", "https://friend.example"), ("http://a:80", "http://a"), ("*", "*"),
                        ("https://a:443/", "https://a"), ("http://a:443", "http://a:443"), ("http://[::1]:3000",) * 2):
        assert serve_options("localhost", cors_origins=[typed]).cors_origins == (want,)
    for typed in ("friend.example", "https://friend.example/app", "https://*.friend.example", "https://a,http://b", ""):
        with pytest.raises(UserError, match="is no origin of web pages .--cors_origins"):
            serve_options("localhost", cors_origins=["https://a", typed])


def test_open_addresses_need_keys(tmp_path):
    with pytest.raises(UserError, match="no key is set"):
        serve_options("0.0.0.0")
    file = tmp_path / "keys"
    for content, part in (("", "empty"), ("# none\n", "empty"), ("short\n", "fewer than 16"), ("é" * 20, "ASCII")):
        file.write_text(content)
        with pytest.raises(UserError, match=part) as e:
            api_keys(file)
        assert "short" not in str(e.value)
    file.write_bytes(b"\xef\xbb\xbf# ours\r\n  # a comment that stands further in\r\n " + KEY.encode() + b" \r\n")
    assert api_keys(file) == (KEY,)
    file.write_text(f"{KEY}\n")
    assert serve_options("0.0.0.0", str(file)).hosts == ()
    with pytest.raises(UserError, match="cannot be read"):
        api_keys(tmp_path / "none")


def test_keys_and_questions_are_not_logged(index, caplog):
    with caplog.at_level("DEBUG"), TestClient(make_app(index, ServeOptions(keys=(KEY,)))) as c:
        ask_with = {"Authorization": f"Bearer {KEY}"}
        c.post("/search", json={"query": "secretquestion"}, headers=ask_with)
        c.post("/search", json={"query": ""}, headers=ask_with)
        c.get("/about", headers={"Authorization": "Bearer wrong"})
    assert KEY not in caplog.text and "secretquestion" not in caplog.text


# --- documents

def test_documents_are_read_by_any_id(client):
    assert client.get("/documents/d%2F7").json()["text"].startswith("alpha7")
    near = client.get("/documents", params={"id": "d/7", "around": 1}).json()
    assert [p["id"] for p in near["passages"]] == ["d/6", "d/7", "d/8"] and near["metadata"]["n"] == 7
    assert client.get("/documents/d%2F999").status_code == 404
    assert client.get("/documents", params={"id": "d/7", "around": 99}).status_code == 422


@pytest.mark.parametrize("name", ["a/b", "../../etc/passwd", "%2e%2e", "a b?c#d", "'; DROP TABLE x; --", "ü漢🙂",
                                  "\\", "."])
def test_odd_ids_come_and_go(name):
    with TestClient(make_app(make_index(), ServeOptions(allow_writes=True))) as c:
        new = {"id": name, "text": "something entirely new", "metadata": {"k": [1, None]}}
        assert c.post("/documents", json={"documents": [new]}).json() == {"written": 1, "documents": 201}
        got = c.get("/documents", params={"id": name}).json()
        assert (got["id"], got["text"], got["metadata"]) == (name, new["text"], new["metadata"])
        assert c.post("/documents", json={"documents": [{**new, "text": "changed"}]}).json()["documents"] == 201
        assert c.get("/documents", params={"id": name}).json()["text"] == "changed"
        assert c.request("DELETE", "/documents", params={"id": name}).json() == {"deleted": 1, "documents": 200}
        assert c.request("DELETE", "/documents", params={"id": name}).status_code == 404


def test_writes_are_checked():
    with TestClient(make_app(make_index(), ServeOptions(allow_writes=True))) as c:
        for documents in ([], [{"text": ""}], [{"id": "", "text": "x"}], [{"text": "x", "metadata": 3}], [{"id": "a"}],
                          [{"text": "x"}] * 101, [{"text": "x" * 100_001}], [{"text": "x", "more": 1}]):
            assert c.post("/documents", json={"documents": documents}).status_code == 422
        assert c.get("/about").json()["documents"] == 200


def test_the_passages_of_a_source_may_come_in_several_requests():
    with TestClient(make_app(make_index(), ServeOptions(allow_writes=True))) as c:
        for part in "ab":
            new = [{"id": f"{part}{i}", "text": f"new {part}{i}", "metadata": {"source": "long.pdf"}} for i in range(3)]
            assert c.post("/documents", json={"documents": new}).json()["written"] == 3
        assert c.get("/about").json()["documents"] == 206 and c.get("/documents/a0").status_code == 200


@pytest.mark.parametrize("document, part", [
    ({"text": ""}, "document 1: its text is empty. Give every document a text."),
    ({"text": "x", "metadata": {"a": 10**30}}, "document 1: its metadata holds a number"),
    ({"text": "x", "metadata": {"a": "b\0"}}, "document 1: its metadata: a text holds a NUL"),
    ({"text": "x", "title": "\ud800"}, "the title holds half of a surrogate pair"),
    ({}, "documents 1.text: Field required")])
def test_a_refused_document_is_told_as_one(document, part):
    with TestClient(make_app(make_index(), ServeOptions(allow_writes=True)), raise_server_exceptions=False) as c:
        got = c.post("/documents", content=json.dumps({"documents": [document]}), headers=JSON)
        assert got.status_code in (400, 422) and part in got.json()["error"]["message"], got.text


def test_an_index_that_is_gone_or_damaged_is_the_servers_fault(tmp_path):
    with TestClient(make_app(make_index(tmp_path/"i"), ServeOptions(allow_writes=True))) as c:
        def statuses():
            new = {"documents": [{"text": "x"}]}
            return [r.status_code for r in (ask(c, query=QUESTION), c.get("/about"), c.get("/documents/d%2F7"),
                                            c.post("/documents", json=new), c.get("/healthz"))]
        assert statuses() == [200] * 5
        for name in ("", "manifest.json", "documents.lance"):
            (tmp_path/"i"/name).rename(tmp_path/"away")
            got = statuses()
            assert got[-1] == 200 and {got[0], got[3]} == {503} and not {400, 404, 500} & set(got), (name, got)
            assert tmp_path.name not in ask(c, query=QUESTION).text     # where it lies is the log's to say
            (tmp_path/"away").rename(tmp_path/"i"/name)
        assert statuses() == [200] * 5


def test_changes_by_another_process_are_seen(tmp_path):
    served = make_index(tmp_path / "index")
    with TestClient(make_app(served)) as c:
        other = GaussianRetriever(TinyEncoder(24), tmp_path / "index")
        other.add([{"id": "new", "text": "zebra quagga okapi"}])
        assert ask(c, query="zebra quagga okapi").json()["hits"][0]["id"] == "new"
        other.delete("new")
        assert c.get("/documents/new").status_code == 404
        other.answer_limit = .125
        other._write_manifest()
        assert c.get("/about").json()["answer_limit"] == .125


# --- embeddings

def embed(client, **body):
    return client.post("/v1/embeddings", json=body)


def test_embeddings_of_both_sides_sort_as_the_index_does(client, index):
    u = np.array(embed(client, model="ragcun-query", input=QUESTION).json()["data"][0]["embedding"])
    texts = index.store.texts([f"d/{i}" for i in range(200)])
    v = np.array([d["embedding"] for d in embed(client, model="x-document", input=list(texts.values())).json()["data"]])
    order = [list(texts)[i] for i in np.argsort(np.linalg.norm(v - u, axis=1))[:5]]
    assert order == [h.id for h in index.search(QUESTION, top_k=5, words=0)]
    coded = embed(client, model="ragcun-query", input=[QUESTION], encoding_format="base64", dimensions=5).json()
    assert np.allclose(np.frombuffer(base64.b64decode(coded["data"][0]["embedding"]), "<f4"), u[:5], atol=1e-5)
    plain = embed(client, model="ragcun-query", input=QUESTION, encoding_format=None, dimensions=None, user=None).json()
    assert np.allclose(plain["data"][0]["embedding"], u)


def test_a_client_that_looks_for_one_model_finds_it(client):
    models = client.get("/v1/models").json()["data"]
    assert [client.get(f"/v1/models/{m['id']}").json() for m in models] == models and len(models) == 2
    gone = client.get("/v1/models/gpt-4")
    assert gone.status_code == 404 and "ragcun-query takes questions" in gone.json()["error"]["message"]


def test_an_application_is_asked_wherever_it_runs(index):
    "Mounted, started twice, or asked without being started: its queue belonged to no loop, or to one that had ended."
    from fastapi import FastAPI
    app, outer = make_app(index), FastAPI()
    for _ in range(2):
        with TestClient(app) as c:
            assert ask(c, query=QUESTION).status_code == 200
    assert [ask(TestClient(app), query=QUESTION).status_code for _ in range(2)] == [200, 200]
    outer.mount("/rag", make_app(index, ServeOptions(keys=(KEY,))))
    with TestClient(outer) as c:
        auth = {"authorization": f"Bearer {KEY}"}
        got = [c.get(*asked).status_code for asked in (("/rag/",), ("/rag/about",))]
        assert got == [200, 401] and c.get("/rag/about", headers=auth).status_code == 200


def test_a_server_runs_in_a_thread(index):
    from ragcun.integrations.server import run_server
    listener = listen("127.0.0.1", 0)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/healthz"
    threading.Thread(target=run_server, args=(make_app(index), listener), daemon=True).start()
    status, end = None, time.monotonic() + 20
    while status is None and time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5) as answer:
            status = json.load(answer)["status"]
        time.sleep(.05)
    assert status == "ok"


def test_a_watcher_that_names_no_host_is_answered_and_another_name_is_not():
    "HAProxy asks in HTTP/1.0, without a Host; a browser always sends one."
    gate = Gate(serve_options("127.0.0.1"))
    scope = {"path": "/healthz", "method": "GET", "client": ("127.0.0.1", 1)}
    assert gate.caller(scope, {}) == "address 127.0.0.1"
    for host in ("evil.example", ""):
        with pytest.raises(Refusal, match="answers to"):
            gate.caller(scope, {"host": host})


@pytest.mark.parametrize("body, status, part", [
    ({"model": "ragcun", "input": "x"}, 404, "ragcun-query"),
    ({"model": "ragcun-query", "input": [1, 2]}, 400, "tokens"),
    ({"model": "ragcun-query", "input": [[1, 2]]}, 400, "check_embedding_ctx_length"),
    ({"model": "ragcun-query", "input": ["x"] * 1000}, 422, "input has 1,000 texts, more than 256: send fewer"),
    ({"model": "ragcun-query", "input": []}, 422, "input"),
    ({"model": "ragcun-query", "input": [["x"]]}, 422, "input 1 is not text but list"),
    ({"model": "ragcun-query", "input": ["x", ""]}, 422, "input 2"),
    ({"model": "ragcun-query", "input": {"a": 1}}, 422, "input"), ({"model": "ragcun-query"}, 422, "input"),
    ({"model": "ragcun-query", "input": "x", "dimensions": 25}, 400, "24 dimensions"),
    ({"model": "ragcun-query", "input": "x", "encoding_format": "hex"}, 422, "encoding_format"),
])
def test_bad_embedding_requests(client, body, status, part):
    got = embed(client, **body)
    assert got.status_code == status and part in got.json()["error"]["message"], got.text


def test_side_and_inputs_alone():
    assert [side_of(m) for m in ("a-query", "ragcun-document")] == ["query", "document"]
    for name in ("query", "", "-", "a-queries"):
        with pytest.raises(Refusal):
            side_of(name)
    assert check_inputs("x", Limits()) == ["x"]
    assert error_body(500, "a\nb")["error"] == {"message": "a b", "type": "server_error", "code": 500}


# --- a real socket: the client that most programs use

@pytest.fixture(scope="module")
def address(index):
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(make_app(index, serve_options("127.0.0.1")), http=PatientProtocol, ws="none",
                            log_level="error", lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def test_the_openai_client(address, index):
    openai = pytest.importorskip("openai", reason="openai is not installed")
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        assert [m.id for m in client.models.list()] == ["ragcun-query", "ragcun-document"]
        as_base64 = client.embeddings.create(model="ragcun-query", input=QUESTION)
        as_float = client.embeddings.create(model="ragcun-query", input=[QUESTION], encoding_format="float")
        assert np.allclose(as_base64.data[0].embedding, as_float.data[0].embedding, atol=1e-6)
        with pytest.raises(openai.BadRequestError, match="tokens"):
            client.embeddings.create(model="ragcun-query", input=[[1, 2, 3]])
        with pytest.raises(openai.NotFoundError, match="no model"):
            client.embeddings.create(model="text-embedding-3-small", input="x")


# --- what operators see

def test_metrics_health_and_description(client):
    ask(client, query=QUESTION)
    text = client.get("/metrics").text
    assert 'ragcun_requests_total{method="POST",route="/search",status="200"}' in text
    assert "ragcun_documents 200.0" in text and "ragcun_batch_questions_count" in text and "d/7" not in text
    assert client.get("/healthz").json() == {"status": "ok"}
    described = client.get("/openapi.json").json()
    assert {"/search", "/v1/embeddings", "/v1/models", "/documents", "/healthz", "/metrics"} <= set(described["paths"])
    assert "422" in described["paths"]["/search"]["post"]["responses"]


def test_the_page_cannot_be_made_to_run_anything(client):
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "unsafe" not in policy and "default-src 'none'" in policy and "http" not in policy
    assert " style=" not in page.text and "onclick" not in page.text and "<script>" not in page.text
    script = client.get("/page.js").text
    assert "innerHTML" not in script and "insertAdjacentHTML" not in script and "http" not in script.replace(
        "http://www.w3.org/2000/svg", "")
    for path in ("/nowhere", "/search", "/about"):
        assert client.get(path).headers["x-content-type-options"] == "nosniff"


def test_what_the_page_asks_is_what_the_server_takes(client):
    body = re.search(r"const body = \{(.+?)\};", client.get("/page.js").text)[1]
    assert {"query", "merge"} < set(re.findall(r"(\w+): ", body)) <= set(SearchRequest.model_fields)
    assert 'merge: "text"' in body


# --- nothing makes it fail

TRIES = int(os.environ.get("RAGCUN_FUZZ", 1)) * 120
text = st.text(st.characters(), max_size=20)  # lone surrogates, too
plain = st.none() | st.booleans() | st.integers() | st.floats() | text
anything = st.recursive(plain, lambda s: st.lists(s, max_size=4) | st.dictionaries(st.text(max_size=8), s, max_size=4),
                        max_leaves=12)
OPERATORS = ["$and", "$or", "$not", "$in", "$nin", "$gt", "$exists", "$eq", "n", "source", "a'b", "a.b", ""]
conditions = st.sampled_from(OPERATORS)
filters = st.recursive(plain, lambda s: st.lists(s, max_size=3) | st.dictionaries(conditions, s, max_size=3),
                       max_leaves=10)
bodies = st.one_of(
    anything,
    st.fixed_dictionaries({"query": text | st.lists(text, max_size=4) | plain},
                          optional={"top_k": plain, "words": plain, "filter": filters, "max_e_value": plain,
                                    "explain": st.booleans()}),
    st.fixed_dictionaries({"model": st.sampled_from(["a-query", "a-document", "x"]) | plain, "input": anything},
                          optional={"dimensions": plain, "encoding_format": plain}),
    st.fixed_dictionaries({"documents": st.lists(st.fixed_dictionaries(
        {"text": text}, optional={"id": plain, "metadata": anything, "title": plain}), max_size=3)}))


@pytest.fixture(scope="module")
def writable():
    with TestClient(make_app(make_index(), ServeOptions(allow_writes=True)), raise_server_exceptions=False) as c:
        yield c


@settings(max_examples=TRIES, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(["/search", "/v1/embeddings", "/documents"]), body=bodies)
def test_no_body_makes_it_fail(writable, path, body):
    got = writable.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
    assert got.status_code in (200, 400, 404, 422), (got.status_code, got.text, body)
    if got.status_code != 200:
        assert got.json()["error"]["message"]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.text(max_size=30), method=st.sampled_from(["GET", "DELETE"]))
def test_no_id_makes_it_fail(writable, name, method):
    got = writable.request(method, "/documents", params={"id": name.encode("utf-8", "surrogatepass")})
    assert got.status_code in (200, 404, 422), (got.status_code, got.text, name)

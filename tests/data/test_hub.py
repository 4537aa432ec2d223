"""Downloads and generated questions, against local servers over real HTTP."""
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ragcun.core import UserError
from ragcun.data.documents import Document
from ragcun.data.generation import QuestionConfig, question_pairs, read_cache
from ragcun.data.hub import MSMARCO, download
from ragcun.data.pairs import load_pairs, load_retrieval

COMMIT = "a" * 40


class Hub(BaseHTTPRequestHandler):
    """A hub with the files in `server.files`; the first GET of each file in `server.cut` is cut in half."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, raw, headers=None, status=200, body=True, stop=None):
        self.send_response(status)
        for k, v in {"Content-Length": str(len(raw)), **(headers or {})}.items():
            self.send_header(k, v)
        self.end_headers()
        if body:
            self.wfile.write(raw[:stop])
        if stop is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)

    def do_HEAD(self):
        self.serve(body=False)

    def do_GET(self):
        self.serve(body=True)

    def serve(self, body):
        s = self.server
        path = self.path.split("?")[0]
        s.seen.append((self.command, path, self.headers.get("Range")))
        if "/tree/" in path:
            rows = [{"type": "file", "path": p, "size": len(raw),
                     "oid": hashlib.sha1(b"blob %d\0" % len(raw) + raw).hexdigest()}
                    | ({"lfs": {"oid": hashlib.sha256(raw).hexdigest(), "size": len(raw), "pointerSize": 130}}
                       if p.endswith(".parquet") else {}) for p, raw in s.files.items()]
            return self.reply(json.dumps(rows).encode(), {"Content-Type": "application/json"}, body=body)
        if "/revision/" in path:
            return self.reply(json.dumps({"id": "x/y", "sha": COMMIT, "tags": [], "siblings": []}).encode(),
                              {"Content-Type": "application/json"}, body=body)
        name = path.split("/resolve/", 1)[-1].split("/", 1)[-1] if "/resolve/" in path else ""
        if name not in s.files: return self.reply(b"", {"X-Error-Code": "EntryNotFound"}, 404, body)
        raw = s.files[name] if name not in s.wrong else b"x" * len(s.files[name])
        revision = path.split("/resolve/", 1)[1].split("/", 1)[0]
        headers = {"ETag": f'"{hashlib.sha1(s.files[name]).hexdigest()}"',
                   "X-Repo-Commit": revision if len(revision) == 40 else COMMIT, "Accept-Ranges": "bytes"}
        if r := self.headers.get("Range"):
            start = int(r.split("=")[1].split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(raw) - 1}/{len(raw)}"
            return self.reply(raw[start:], headers, 206, body)
        if body and name in s.cut:
            s.cut.discard(name)
            return self.reply(raw, headers, stop=len(raw) // 2)
        self.reply(raw, headers, body=body)


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files = {}
    server.cut = set()
    server.wrong = set()
    server.seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def fetch(hub, tmp_path, *args, ok=True):
    """Run `download` in a process of its own, with the hub's client online and pointed here."""
    code = "import sys, json; from ragcun.data.hub import download; from ragcun.core import UserError\n" \
           "try: print(download(*json.loads(sys.argv[1])))\nexcept UserError as e: print('UserError', e); sys.exit(2)"
    env = os.environ | {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HUB_OFFLINE": "0",
                        "HF_HOME": str(tmp_path/"hf"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
                        "NO_PROXY": "127.0.0.1"}
    done = subprocess.run([sys.executable, "-c", code, json.dumps(args)], capture_output=True, text=True,
                          env=env, timeout=100)
    assert done.returncode == (0 if ok else 2), done.stdout + done.stderr
    return done.stdout


def msmarco_file(first, rows=40, pad=0):
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq
    made = [{"answers": ["a"], "query": f"what is thing number {i}", "query_id": i, "query_type": "ENTITY",
             "wellFormedAnswers": [], "passages": {"is_selected": [0, int(i % 4 != 0), 0], "passage_text": [
                 f"passage {i} about nothing", f"thing {i} is a kind of object with the number {i}",
                 f"another text {i}"], "url": ["", "", ""]}} for i in range(first, first + rows)]
    made[0]["pad"] = os.urandom(pad)
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(made), out)
    return out.getvalue()


def test_msmarco(hub, tmp_path):
    hub.files = {f"v2.1/train-0000{k}-of-00002.parquet": msmarco_file(100 * k) for k in range(2)} | {"README.md": b"x"}
    # the client keeps what it has in steps of 10 MB
    hub.files["v2.1/train-00000-of-00002.parquet"] = msmarco_file(0, pad=24_000_000)
    hub.cut = {"v2.1/train-00000-of-00002.parquet"}
    printed = fetch(hub, tmp_path, "msmarco", str(tmp_path/"m"), 50)
    assert "train.jsonl" in printed and "not for commercial use" in printed
    train = load_pairs(tmp_path/"m"/"train.jsonl")
    val = load_pairs(tmp_path/"m"/"val.jsonl")
    test = load_retrieval(tmp_path/"m"/"test_eval.json")
    assert len(train) + len(val) + len(test.queries) == 50 and len(train) == 45 and len(train[0].negatives) == 2
    assert len(test.corpus) >= 50, "the other documents are distractors"
    record = json.loads((tmp_path/"m"/"download.json").read_text())
    assert (record["revision"] == MSMARCO[1] and record["files"]["v2.1/train-00000-of-00002.parquet"]
            == hashlib.sha256(hub.files["v2.1/train-00000-of-00002.parquet"]).hexdigest())
    assert any(r for c, p, r in hub.seen if c == "GET" and "00000-of" in p), "resumed with a range after the cut"
    assert not list((tmp_path/"m").glob(".*"))
    before = (tmp_path/"m"/"train.jsonl").read_bytes()
    fetch(hub, tmp_path, "msmarco", str(tmp_path/"m"), 50)
    assert (tmp_path/"m"/"train.jsonl").read_bytes() == before


def test_msmarco_takes_only_the_files_it_needs_and_says_when_short(hub, tmp_path):
    hub.files = {f"v2.1/train-0000{k}-of-00002.parquet": msmarco_file(100 * k) for k in range(2)}
    fetch(hub, tmp_path, "msmarco", str(tmp_path/"m"), 20)
    assert not any("00001-of" in p for c, p, _ in hub.seen if c == "GET" and "/resolve/" in p)
    assert "500 examples asked for, 60 there" in fetch(hub, tmp_path, "msmarco", str(tmp_path/"n"), 500)


def test_wrong_checksum_is_refused(hub, tmp_path):
    hub.files = {"v2.1/train-00000-of-00001.parquet": msmarco_file(0)}
    hub.wrong = set(hub.files)
    printed = fetch(hub, tmp_path, "msmarco", str(tmp_path/"m"), 5, ok=False)
    assert "checksum" in printed and not list((tmp_path/"m").iterdir())


def beir_files(layout):
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq
    corpus = [{"_id": f"d{i}", "title": "T" * (i % 2), "text": f"text {i}"} for i in range(4)]
    queries = [{"_id": f"q{i}", "text": f"question {i}"} for i in range(3)]
    qrels = [{"query-id": f"q{i}", "corpus-id": f"d{i}", "score": 1} for i in range(3)]
    if layout == "jsonl":
        return {f"{n}.jsonl": "".join(json.dumps(r) + "\n" for r in rows).encode()
                for n, rows in (("corpus", corpus), ("queries", queries), ("qrels/test", qrels))}
    def parquet(rows):
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), out)
        return out.getvalue()
    return {"corpus/corpus-00000-of-00002.parquet": parquet(corpus[:2]),
            "corpus/corpus-00001-of-00002.parquet": parquet(corpus[2:]),
            "queries/queries-00000-of-00001.parquet": parquet(queries),
            "data/test-00000-of-00001.parquet": parquet(qrels)}


@pytest.mark.parametrize("layout", ["jsonl", "parquet"])
def test_beir(hub, tmp_path, layout):
    hub.files = beir_files(layout)
    fetch(hub, tmp_path, "beir:scidocs", str(tmp_path/"b"))
    data = load_retrieval(tmp_path/"b")
    assert len(data.corpus) == 4 and data.corpus["d1"] == "T text 1" and data.qrels["q2"] == {"d2": 1}
    assert json.loads((tmp_path/"b"/"download.json").read_text())["revision"] == COMMIT


def test_broken_beir_leaves_nothing(hub, tmp_path):
    hub.files = beir_files("jsonl")
    hub.files["qrels/test.jsonl"] = b'{"query-id": "q1", "corpus-id": "d77", "score": 1}\n'
    assert "no judged document is known, d77" in fetch(hub, tmp_path, "beir:scidocs", str(tmp_path/"b"), ok=False)
    assert not list((tmp_path/"b").iterdir())


def test_no_hub(tmp_path):
    class Nowhere:
        server_port = 9
    printed = fetch(Nowhere, tmp_path, "beir:scifact", str(tmp_path/"b"), ok=False)
    assert ("cannot fetch mteb/scifact" in printed and "HF_ENDPOINT" in printed
            and len(printed.strip().splitlines()) == 1)


@pytest.mark.parametrize("name, examples, word", [("x", None, "Use msmarco"), ("beir:x", None, "beir: and one of"),
                                                  ("msmarco", 0, "from 1 up"), ("beir:fiqa", 5, "come whole")])
def test_wrong_calls(tmp_path, name, examples, word):
    with pytest.raises(UserError, match=word):
        download(name, tmp_path/"o", examples)
    assert not (tmp_path/"o").exists()


# questions

class Chat(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        s = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        s.calls.append((self.path, body, self.headers.get("Authorization")))
        status = s.script.pop(0) if s.script else 200
        if status == 0: return self.connection.shutdown(2)
        text = body["messages"][0]["content"].rsplit("\n", 1)[-1]
        raw = s.body or json.dumps({"choices": [{"message": {"content": s.say(text)}}]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@pytest.fixture
def chat():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    server.calls = []
    server.script = []
    server.body = b""
    server.say = lambda text: f'1. "What about {text.split()[0]}?"'
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


DOCS = [f"Topic{i} is explained in this text." for i in range(6)]


def config(chat, tmp_path, **more):
    return QuestionConfig(f"http://127.0.0.1:{chat.server_port}/v1", "m", str(tmp_path/"q.jsonl"), wait=.01, **more)


def test_questions_resume(chat, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    chat.script = [200, 200, 429, 200, 400]
    with pytest.raises(UserError, match="400"):
        question_pairs(DOCS, config(chat, tmp_path))
    assert (len(read_cache(tmp_path/"q.jsonl")) == 3 and chat.calls[0][2] == "Bearer secret"
            and "secret" not in (tmp_path/"q.jsonl").read_text())
    with open(tmp_path/"q.jsonl", "ab") as f:
        f.write(b'{"key": "torn')
    done = len(chat.calls)
    pairs = question_pairs([Document(d, document_id=f"i{n}") for n, d in enumerate(DOCS)], config(chat, tmp_path))
    assert len(chat.calls) - done == 3 and pairs.queries == [f"What about Topic{i}?" for i in range(6)]
    assert pairs[0].document_id == "i0" and pairs[0].strategy == "questions"
    assert (question_pairs(DOCS[::-1], config(chat, tmp_path)).queries == pairs.queries[::-1]
            and len(chat.calls) - done == 3)
    question_pairs(DOCS[:1], config(chat, tmp_path, prompt="Other: {text}"))
    assert len(chat.calls) - done == 4


def test_questions_retry_cuts(chat, tmp_path):
    chat.script = [0, 500, 503, 200]
    assert len(question_pairs(DOCS[:1], config(chat, tmp_path))) == 1
    chat.script = [500] * 9
    with pytest.raises(UserError, match="no answer after 3 attempts"):
        question_pairs(DOCS[1:2], config(chat, tmp_path, retries=2))


def test_useless_questions_are_left_out(chat, tmp_path):
    chat.say = lambda text: text
    assert len(question_pairs(DOCS, config(chat, tmp_path))) == 0
    chat.body = b'{"error": "no"}'
    with pytest.raises(UserError, match="not a chat completion"):
        question_pairs(["Another text."], config(chat, tmp_path))


def test_prepare_asks_for_questions(chat, tmp_path):
    from ragcun.data.preparation import PrepareConfig, prepare
    (tmp_path/"docs.txt").write_text("\n".join(DOCS))
    config = PrepareConfig(documents=str(tmp_path/"docs.txt"), generate_pairs=True, output_dir=str(tmp_path/"o"),
                           num_pairs=5, questions_url=f"http://127.0.0.1:{chat.server_port}/v1", questions_model="m")
    report = prepare(config)
    assert report.strategies == {"questions": 5} and len(chat.calls) == 5
    before = (tmp_path/"o"/"train.json").read_bytes()
    prepare(config)
    assert len(chat.calls) == 5 and (tmp_path/"o"/"train.json").read_bytes() == before

"""`ragcun serve` under load: 16 clients for a minute beside in-process batches, and what must not disturb it.

    python benchmarks/bench_serve.py [--collection NAME] [--seconds 60] [--clients 16]

Up to 4,000 passages of a public collection (RAGCUN_SHARED_DATA, default ../shared/data), default base. The clients are
a process of their own on this machine, so they take their share of its cores. In-process search, batches of 16 as the
server gathers them, is measured before and after. Then, while one ordinary client goes on asking: clients that send a
byte a second, bodies of 10 MB, broken JSON, 1,000 connections at one time, and a writer in another process that is
killed while it writes. Everything stays on loopback and ends by itself.
"""
from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench_encode import machine, versions
from ragcun.core import write_json
from ragcun.data.pairs import load_retrieval
from ragcun.models.encoder import GaussianEncoder
from ragcun.retrieval.retriever import GaussianRetriever

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("RAGCUN_SHARED_DATA", ROOT.parent/"shared"/"data"))
KIND = {"Content-Type": "application/json"}


def collection(name: str, number: int) -> tuple[list[dict[str, Any]], list[str]]:
    "Documents and questions."
    data = load_retrieval(SHARED/name, "test")
    return [{"id": i, "text": t} for i, t in list(data.corpus.items())[:number]], list(data.queries.values())


def start(folder: Path) -> tuple[subprocess.Popen, int]:
    "The server in a process of its own, and its port."
    command = [sys.executable, "-m", "ragcun.cli.commands", "serve", "--index_dir", str(folder), "--port", "0",
               "--runtime", "torch"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for line in process.stdout:
        if line.startswith("search page"): return process, int(line.rstrip("/\n").rpartition(":")[2])
    raise RuntimeError("the server did not start")


class Client:
    "A connection that is kept open."
    def __init__(self, port: int):
        self.port = port
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def search(self, question: str) -> int:
        "Ask once; the status."
        body = json.dumps({"query": question, "top_k": 5})
        self.connection.request("POST", "/search", body, KIND)
        answer = self.connection.getresponse()
        answer.read()
        return answer.status


def one_client(port: int, questions: list[str], first: int, until: float, out: list[tuple[float, int]]) -> None:
    "Ask one question after the other."
    client = Client(port)
    while time.monotonic() < until:
        begun = time.perf_counter()
        try:
            status = client.search(questions[first % len(questions)])
        except OSError:
            status = 0
            client = Client(port)
        out.append((time.perf_counter() - begun, status))
        first += 7


def clients(port: int, questions: list[str], number: int, seconds: float, out: Any) -> None:
    "Many clients of one process."
    rows: list[tuple[float, int]] = []
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=one_client, args=(port, questions, 1009 * i, until, rows))
               for i in range(number)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    out.put(rows)


def load(port: int, questions: list[str], number: int, seconds: float) -> dict[str, Any]:
    "What the clients met."
    queue = multiprocessing.get_context("spawn").Queue()
    process = multiprocessing.get_context("spawn").Process(target=clients,
                                                           args=(port, questions, number, seconds, queue))
    process.start()
    rows = queue.get()
    process.join()
    took = np.array([t for t, s in rows if s == 200])
    return {"requests": len(rows), "errors": sum(s != 200 for _, s in rows),
            "per_second": round(len(took) / seconds, 1),
            "milliseconds": {f"p{p}": round(1000 * float(np.percentile(took, p)), 1) for p in (50, 95, 99)}}


def in_process(index: GaussianRetriever, questions: list[str], size: int, seconds: float) -> float:
    "Questions a second, in batches."
    n = 0
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        index.search([questions[(n + 7 * i) % len(questions)] for i in range(size)], 5)
        n += size
    return n / (time.perf_counter() - begun)


# --- what must not disturb it

def statuses(work: Any, number: int) -> dict[str, int]:
    "Run in that many threads; how often each status came back."
    found: list[str] = []
    def run(i: int) -> None:
        try:
            found.append(str(work(i)))
        except OSError as e:
            found.append(type(e).__name__)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(number)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return {s: found.count(s) for s in sorted(set(found))}


def post(port: int, body: bytes) -> int:
    "One request of its own connection."
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/search", body, KIND)
        return connection.getresponse().status
    finally:
        connection.close()


def trickle(port: int, text: bytes) -> str:
    "A byte a second until the server has had enough; what it says."
    with socket.create_connection(("127.0.0.1", port), 30) as s:
        for byte in text[:30]:
            try:
                s.send(bytes([byte]))
            except OSError:
                return "closed"
            s.settimeout(1)
            try:
                said = s.recv(100)
                return said.split(b" ")[1].decode() if said else "closed"
            except TimeoutError:
                continue
        return "still open"


def held(port: int, question: str, together: threading.Barrier) -> int:
    "A connection that waits for all others before it asks."
    with socket.create_connection(("127.0.0.1", port), 60) as s:
        together.wait(60)
        body = json.dumps({"query": question}).encode()
        s.sendall(b"POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
                  + str(len(body)).encode() + b"\r\n\r\n" + body)
        return int(s.recv(100).split(b" ")[1])


WRITER = """import sys
from ragcun.retrieval.retriever import GaussianRetriever
index = GaussianRetriever.open(sys.argv[1], runtime="torch", device="cpu")
for i in range(1000):
    index.add([{"id": f"new {i} {j}", "text": f"Written number {i} {j} beside the server."} for j in range(8)])
    print(i, flush=True)
"""


def killed_writer(folder: Path, port: int) -> dict[str, Any]:
    "A writer in another process, killed in the middle; what it had finished must be there, and searchable."
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert writer.stdout
    done = -1
    for line in writer.stdout:
        done = int(line)
        if done == 5: break
    time.sleep(.05)
    writer.kill()
    writer.wait()
    index = GaussianRetriever.open(folder, runtime="torch", device="cpu")
    ids = index.store.ids()
    lost = [f"new {i} {j}" for i in range(done + 1) for j in range(8) if f"new {i} {j}" not in ids]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/about")
    seen = json.loads(connection.getresponse().read())["documents"]
    return {"blocks_finished": done + 1, "documents_lost": len(lost), "documents_seen_by_server": seen,
            "documents_in_folder": len(ids)}


def disturbances(folder: Path, port: int, questions: list[str]) -> dict[str, Any]:
    "Each beside one ordinary client."
    header = (b"POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
              b"Content-Length: 500\r\n\r\n")
    def slow_body(i: int) -> str:
        with socket.create_connection(("127.0.0.1", port), 30) as s:
            s.sendall(header)
            return s.recv(100).split(b" ")[1].decode()
    together = threading.Barrier(1000)
    cases = {
        "slow headers": lambda: statuses(lambda i: trickle(port, header), 50),
        "slow bodies": lambda: statuses(slow_body, 50),
        "bodies of 10 MB": lambda: statuses(lambda i: post(port, b" " * 10_000_000), 20),
        "broken JSON": lambda: statuses(lambda i: [post(port, b'{"query": "x"' + b"[" * i) for _ in range(10)][0], 50),
        "1,000 connections": lambda: statuses(lambda i: held(port, questions[i % len(questions)], together), 1000),
        "writer killed": lambda: killed_writer(folder, port)}
    out: dict[str, Any] = {}
    for name, case in cases.items():
        rows: list[tuple[float, int]] = []
        end = [float("inf")]
        good = threading.Thread(target=_until, args=(port, questions, end, rows))
        good.start()
        found = case()
        end[0] = 0
        good.join()
        took = [t for t, s in rows if s == 200]
        out[name] = {"answers": found, "ordinary client": {
            "requests": len(rows), "errors": sum(s not in (200, 429, 503) for _, s in rows),
            "asked to wait": sum(s in (429, 503) for _, s in rows),
            "p95 milliseconds": round(1000 * float(np.percentile(took, 95)), 1) if took else None}}
        print(name, out[name], flush=True)
    return out


def _until(port: int, questions: list[str], end: list[float], rows: list[tuple[float, int]]) -> None:
    while time.monotonic() < end[0]:
        one_client(port, questions, len(rows), time.monotonic() + .01, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collection", default="squad-small")
    parser.add_argument("--documents", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--output", default="data/results/serve.json")
    args = parser.parse_args()
    documents, questions = collection(args.collection, args.documents)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)/"index"
        model = GaussianEncoder.from_base(device="cpu", precision="no")
        model.cached = True
        index = GaussianRetriever(model, folder)
        index.add(documents)
        index = GaussianRetriever.open(folder, runtime="torch", device="cpu")
        in_process(index, questions, args.clients, 2)
        before = in_process(index, questions, args.clients, args.seconds / 4)
        server, port = start(folder)
        try:
            load(port, questions, args.clients, 3)
            loaded = load(port, questions, args.clients, args.seconds)
            after = in_process(index, questions, args.clients, args.seconds / 4)
            disturbed = disturbances(folder, port, questions)
        finally:
            server.terminate()
            code = server.wait(60)
    direct = (before + after) / 2
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    result = {"command": f"python benchmarks/bench_serve.py --collection {args.collection}",
              "commit": commit, "machine": machine(),
              "versions": versions(sys.executable, ("torch", "fastapi", "uvicorn", "lancedb")),
              "collection": args.collection, "documents": len(documents), "clients": args.clients,
              "seconds": args.seconds, "threads": os.environ.get("OMP_NUM_THREADS", "default"), "load": loaded,
              "in_process_per_second": [round(before, 1), round(after, 1)],
              "ratio": round(loaded["per_second"] / direct, 3), "disturbed": disturbed, "exit_code": code}
    write_json(args.output, result)
    print(json.dumps({k: result[k] for k in ("load", "in_process_per_second", "ratio", "exit_code")}))


if __name__ == "__main__":
    main()

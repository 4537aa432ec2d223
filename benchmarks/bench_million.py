"""A large index searched by words and meaning together: rates, latencies, memory, and what approximation misses.

    python benchmarks/bench_million.py [--documents 1000000] [--questions 50] [--output data/results/million.json]

Texts are drawn so that new words go on coming as in real collections: half of each text from a Zipf-Mandelbrot law
without an end (exponent 1.6, so that the number of different words grows like the number of words to the power 1/1.6),
half from three hundred words of the text's topic. Vectors are the topic's and the text's own share, seeded by
the text. A question is drawn given a document: some of its words, some of no matter, and a vector correlated with the
document's, coordinate by coordinate. The exact order is computed over every document, apart from the index."""
from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np

from bench_encode import high_water, machine, versions
from ragcun.core import write_json
from ragcun.models.evidence import Calibration, evidence_from_distance, query_vector
from ragcun.retrieval.retriever import GaussianRetriever

DIM = 384
TOPICS = 4096
WORDS = 60
RHO = np.linspace(.85, .05, DIM)


# ── texts and vectors that can be made again from a seed
def ranks(rng, n):
    "Ranks of a Zipf-Mandelbrot law without an end, by its inverse distribution function."
    return (30 * (rng.random(n) ** (-1 / .6) - 1)).astype(np.int64)


def spell(rank):
    "A word for a rank: its digits in base 20, as syllables."
    consonants = "bcdfghjklmnpqrstvwxz"
    out = []
    while True:
        out.append(consonants[rank % 20] + "aeiou"[rank // 20 % 5])
        rank //= 100
        if not rank: return "".join(out) + "q"


def make_texts(start, n):
    "Texts number start to start + n; their first word is their topic."
    rng = np.random.default_rng([7, start])
    topic = rng.integers(0, TOPICS, n)
    plain = ranks(rng, (n, WORDS))
    own = 1000 + (topic[:, None] * 7919 + plain % 300 * 104_729) % 30_000   # three hundred words of the topic
    use = np.where(rng.random((n, WORDS)) < .5, plain, own)
    names = {}
    def name(rank):
        if rank not in names:
            names[rank] = spell(rank)
        return names[rank]
    return [" ".join([f"topic{t}", *map(name, row)]) for t, row in zip(topic.tolist(), use.tolist(), strict=True)]


class StandIn:
    "In place of an encoder: seeded vectors of texts, and of questions those that were set."
    rho_numpy = RHO
    output_dim = DIM
    fingerprint = "seeded vectors"
    prompts = {"query": "", "document": ""}
    calibration = Calibration(0., 1.)

    def __init__(self):
        self.asked = {}
        self._topics = {}

    def embed(self, texts, side, **_):
        "[n, d] z of texts."
        return np.stack([self.asked[t] if side == "query" and t in self.asked else self._vector(t) for t in texts])

    def _vector(self, text):
        topic = text.split(" ", 1)[0]
        if topic not in self._topics:
            self._topics[topic] = np.random.default_rng(zlib.crc32(topic.encode())).standard_normal(DIM)
        own = np.random.default_rng(zlib.crc32(text.encode())).standard_normal(DIM)
        return np.sqrt(.5) * (self._topics[topic] + own)

    def save(self, folder):
        "Only a name: a search opens the index with the stand-in."
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_json(Path(folder)/"ragcun.json", {"stand_in": True})


def documents(start, n, block=10_000):
    "Documents as `add` takes them."
    for i in range(start, start + n, block):
        for j, text in enumerate(make_texts(i, min(block, start + n - i)), i):
            yield {"id": f"d{j}", "text": text}


def questions(index, n):
    "Texts, vectors and the documents they were drawn from."
    rng = np.random.default_rng(11)
    sample = index.store.sample(n, seed=5)
    out = []
    for name, text in zip(sample.ids, sample.texts, strict=True):
        words = rng.choice(text.split()[1:], 5, replace=False).tolist()
        other = [spell(r) for r in ranks(rng, 3).tolist()]
        z = index.model._vector(text)
        out.append((name, " ".join([*words, *other]), RHO * z + np.sqrt(1 - RHO ** 2) * rng.standard_normal(DIM)))
    index.model.asked = {text: z for _, text, z in out}
    return [name for name, _, _ in out], [text for _, text, _ in out]


# ── the exact order, over every document
def exact_order(index, texts, k=10):
    "Ids of the k documents with the most joint evidence, for each question, by reading all of them."
    z = index.encode_queries(texts)
    asked = index.asked(texts)
    _, mean, sd = index.joint.background.dense(z)
    interest = {}
    for i, one in enumerate(asked):
        for w in one.weights:
            interest.setdefault(w, []).append(i)
    u = query_vector(z, RHO).astype(np.float32)
    best = [[] for _ in texts]
    for batch in index.store.blocks(8192):
        square = np.square(u).sum(1)[:, None] + np.square(batch.v).sum(1)[None] - 2 * u @ batch.v.T
        raw = evidence_from_distance(np.sqrt(np.maximum(square, 0)), z, RHO)
        lexical = np.zeros((len(texts), len(batch), 2))
        for j, words in enumerate(batch.words):
            tokens = words.split()
            for i in {i for w in set(tokens) & interest.keys() for i in interest[w]}:
                lexical[i, j] = asked[i].score(tokens)
        for i in range(len(texts)):
            dense, by_words = index.weights.parts((raw[i] - mean[i]) / sd[i], lexical[i])
            score = dense + by_words
            top = np.argpartition(-score, k)[:k] if len(score) > k else range(len(score))
            best[i] = sorted([*best[i], *((float(score[j]), batch.ids[j]) for j in top)], reverse=True)[:k]
    return [[name for _, name in row] for row in best]


# ── each stage in a process of its own
def add(folder, args):
    "Everything in, words and vectors, committed a block at a time."
    index = GaussianRetriever(StandIn(), folder)
    started = time.perf_counter()
    index.add(documents(0, args.documents), 10_000)
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    if not index.store.is_approximate():
        index.store.build_ann()
    return {"seconds": round(seconds), "documents_a_second": round(args.documents / seconds),
            "further_ann_seconds": round(time.perf_counter() - started),
            "distinct_words": len(index.store.word_counts().found)}


def search(folder, args):
    "Latency of the joint search beside the table's own two searches; recall against the exact order."
    started = time.perf_counter()
    index = GaussianRetriever.open(folder, model=StandIn())
    ids, texts = questions(index, args.questions + 5)
    index.search(texts[0])
    opened = time.perf_counter() - started
    asked = index.asked(texts)
    z = index.encode_queries(texts)
    u = query_vector(z, RHO)
    seconds = {"joint": [], "vectors": [], "words": [], "vectors and words": []}
    found = []
    for i, text in enumerate(texts):                    # in turns, so that load from elsewhere meets all alike
        for name in ("joint", "table"):
            started = time.perf_counter()
            if name == "joint":
                found.append([h.id for h in index.search(text, 10)])
                seconds["joint"].append(time.perf_counter() - started)
            else:
                _own_vector_search(index.store, u[i])
                middle = time.perf_counter()
                _own_word_search(index.store, asked[i])
                end = time.perf_counter()
                seconds["vectors"].append(middle - started)
                seconds["words"].append(end - middle)
                seconds["vectors and words"].append(end - started)
    peak = round(high_water())
    ms = {name: {"p50_ms": round(float(np.median(v[5:])) * 1000, 1),
                 "p95_ms": round(float(np.percentile(v[5:], 95)) * 1000, 1)} for name, v in seconds.items()}
    started = time.perf_counter()
    exact = exact_order(index, texts)
    exact_seconds = time.perf_counter() - started
    pairs = list(zip(found, exact, strict=True))
    return {"open_seconds": round(opened, 2), "latency": ms,
            "joint_over_both": round(float(np.median(seconds["joint"][5:]) /
                                           np.median(seconds["vectors and words"][5:])), 3),
            "recall@10": round(float(np.mean([len(set(a) & set(b)) / len(b) for a, b in pairs])), 4),
            "first_equal": round(float(np.mean([a[:1] == b[:1] for a, b in pairs])), 4),
            "right_first": round(float(np.mean([a[:1] == [i] for (a, _), i in zip(pairs, ids, strict=True)])), 4),
            "exact_order_seconds_a_question": round(exact_seconds / len(texts), 2), "peak_mib": peak}


def _own_vector_search(store, u):
    "The table's own approximate search, with the settings of the joint search, its rows read."
    from ragcun.retrieval.retriever import SIDE
    query = store.table.search(u.astype(np.float32), vector_column_name="v").distance_type("l2").limit(SIDE)
    return query.nprobes(store.PROBES).refine_factor(store.REFINE).select([*store.columns, "_distance"]).to_arrow()


def _own_word_search(store, asked):
    "The table's own full-text search, its rows read."
    from lancedb.query import MatchQuery

    from ragcun.retrieval.retriever import SIDE
    query = store.table.search(MatchQuery(" ".join(asked.weights), "words"), query_type="fts").limit(SIDE)
    return query.select([*store.columns, "_score"]).to_arrow()


def change(folder, args):
    "Small adds, updates and deletes on the large index."
    index = GaussianRetriever.open(folder, model=StandIn())
    n = args.documents
    out = {}
    started = time.perf_counter()
    for i in range(args.small):
        index.add([{"id": f"new{i}", "text": make_texts(n + i, 1)[0]}])
    out["add_one_ms"] = round((time.perf_counter() - started) / args.small * 1000)
    started = time.perf_counter()
    index.add(documents(n + 100_000, 1000), 1000)
    out["add_thousand_seconds"] = round(time.perf_counter() - started, 2)
    started = time.perf_counter()
    for i in range(args.small):
        index.update([{"id": f"d{i}", "text": make_texts(2 * n + i, 1)[0]}])
    out["update_one_ms"] = round((time.perf_counter() - started) / args.small * 1000)
    started = time.perf_counter()
    for i in range(args.small):
        index.delete(f"new{i}")
    out["delete_one_ms"] = round((time.perf_counter() - started) / args.small * 1000)
    out["files"] = sum(1 for p in Path(folder).rglob("*") if p.is_file())
    out["peak_mib"] = round(high_water())
    return out


STAGES = {f.__name__: f for f in (add, search, change)}


def run(stage, folder, args):
    "A stage in a process of its own; what it printed last."
    command = [sys.executable, __file__, "--stage", stage, "--folder", folder, "--documents", str(args.documents),
               "--questions", str(args.questions), "--small", str(args.small)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    result = json.loads(done.stdout.splitlines()[-1])
    print(stage, result, flush=True)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--small", type=int, default=50, help="adds, updates and deletes of one document")
    parser.add_argument("--output", default="data/results/million.json")
    parser.add_argument("--stage", choices=list(STAGES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        print(json.dumps(STAGES[args.stage](args.folder, args)))
        return
    with tempfile.TemporaryDirectory() as folder:
        place = args.folder or folder
        result = {name: run(name, place, args) for name in STAGES}
        size = subprocess.run(["du", "-sk", place], capture_output=True, text=True, check=True).stdout
        result["disk_gib"] = round(int(size.split()[0]) / 2 ** 20, 2)
    result = {"documents": args.documents, "dim": DIM, "questions": args.questions, **result,
              "command": f"python benchmarks/bench_million.py --documents {args.documents}",
              "machine": machine(),
              "versions": versions(sys.executable, ["lancedb", "numpy", "pyarrow"])}
    write_json(args.output, result)


if __name__ == "__main__":
    main()

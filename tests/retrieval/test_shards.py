"""Several processes on one corpus: each document exactly once, also when a process is killed."""
import collections
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ragcun.core import UserError
from ragcun.retrieval.retriever import GaussianRetriever, encode_shards, read_shards
from tiny_encoder import TinyEncoder

CODE = """
import sys, time; sys.path[:0] = [{tests!r}]
from tiny_encoder import TinyEncoder
from ragcun.retrieval.retriever import encode_shards, index_corpus
class Slow(TinyEncoder):
    def embed(self, texts, side="document"):
        time.sleep({pause})
        return super().embed(texts, side)
documents = {{f"d{{i}}": f"text {{i}}" for i in range(600)}}
print("start", flush=True)
{call}
print("done", flush=True)
"""
CALLS = {"files": "encode_shards(Slow(), documents, {out!r}, 20)",
         "index": "index_corpus(Slow(), documents, {out!r}, 20)"}


def start(kind, out, rank, pause):
    code = CODE.format(tests=str(Path(__file__).parents[1]), pause=pause, call=CALLS[kind].format(out=str(out)))
    env = os.environ | {"RANK": str(rank), "WORLD_SIZE": "2"}
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, env=env)


@pytest.mark.parametrize("kind", ["files", pytest.param("index", marks=pytest.mark.slow)])
def test_two_processes_one_killed_then_run_again(tmp_path, kind):
    out = tmp_path/"out"
    first = [start(kind, out, r, .1) for r in range(2)]
    for p in first:
        assert p.stdout.readline() == "start\n", p.communicate()[1][-500:]
    time.sleep(.6)
    os.kill(first[1].pid, signal.SIGKILL)
    assert first[0].wait(90) == 0, first[0].stderr.read()[-800:]
    first[1].wait()
    assert stored(kind, out) != {f"d{i}" for i in range(600)}      # the kill did leave work
    again = [start(kind, out, r, 0) for r in range(2)]
    for p in again:
        assert p.wait(90) == 0, p.stderr.read()[-800:]
    assert stored(kind, out) == {f"d{i}" for i in range(600)}


def stored(kind, out):
    if kind == "files":
        names = [i for ids, _ in read_shards(out) for i in ids]
    else:
        names = [i for b in GaussianRetriever(TinyEncoder(), out).store.blocks() for i in b.ids]
    assert max(collections.Counter(names).values(), default=1) == 1          # never twice
    return set(names)


def test_vectors_come_back_in_order_and_other_settings_are_refused(tmp_path):
    model = TinyEncoder()
    docs = [f"text {i}" for i in range(50)]
    assert encode_shards(model, docs, tmp_path, 16) == 50 and encode_shards(model, docs, tmp_path, 16) == 0
    z = np.concatenate([z for _, z in read_shards(tmp_path)])
    assert np.array_equal(z, model.embed(docs))
    with pytest.raises(UserError, match="another model"):
        encode_shards(TinyEncoder(name="b"), docs, tmp_path, 16)
    with pytest.raises(UserError, match="changed"):
        encode_shards(model, docs[::-1], tmp_path, 16)

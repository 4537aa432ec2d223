"""Bases run by OpenVINO: the same features for every family or PyTorch as before, never a mixture of weights, no word
to its makers, and threads that do not meet."""
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from ragcun.models import compiling
from ragcun.models.base import encode_features, load_base
from ragcun.models.compiling import CompiledBase, compiled_base, import_openvino, suits_compiling
from small import small_base
from zoo import FAMILIES, made

pytestmark = pytest.mark.skipif(import_openvino() is None, reason="openvino is not installed")
TEXTS = [f"text {i} of a star and a planet " * (1 + i % 7) for i in range(60)] + ["", "a star"]


@pytest.fixture
def always(monkeypatch):
    "Small bases and small calls are compiled, too."
    monkeypatch.setattr(compiling, "SIZES", (0, 1e9))
    monkeypatch.setattr(compiling, "BIG", 0)


@pytest.fixture
def base(tmp_path):
    return load_base(str(small_base(tmp_path)))[0].eval()


def features(base, texts, **options):
    return encode_features(base, texts, choose=compiled_base, **options)


@pytest.mark.parametrize("name", [*FAMILIES, "bf16", "static", "query and passage", "cut", "Dense between", "router"])
def test_every_kind_of_base(name, tmp_path, always):
    base, normalise, _ = load_base(str(made(tmp_path, name)))
    ours, theirs = (f(base, TEXTS, normalise=normalise) for f in (features, encode_features))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4*np.abs(theirs).max())


def test_the_usual_ones_are_compiled(tmp_path, always):
    for name in ("Bert", "MPNet", "Dense between"):
        base, _, _ = load_base(str(made(tmp_path/name, name)))
        assert compiled_base(base.eval(), "no", 1) is not None, name


@pytest.mark.parametrize("precision, tokens, why", [("no", 10, "a question"), ("fp16", 10**9, "half precision")])
def test_pytorch_does_the_rest(base, monkeypatch, precision, tokens, why):
    monkeypatch.setattr(compiling, "SIZES", (0, 1e9))
    assert suits_compiling(base, "no", 10**9) and not suits_compiling(base, precision, tokens), why


def test_sizes(base):
    assert not suits_compiling(base, "no", 10**12)


def test_switched_off(base, always, monkeypatch):
    monkeypatch.setenv("RAGCUN_OPENVINO", "0")
    assert compiled_base(base, "no", 1) is None


def test_not_installed(base, always, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert compiled_base(base, "no", 1) is None
    assert features(base, TEXTS).shape == (len(TEXTS), 32)


def test_weights_that_moved(base, always):
    before = features(base, TEXTS)
    with torch.no_grad():
        for p in base.parameters():
            p.mul_(1.3)
    after = features(base, TEXTS)
    assert np.abs(after - before).max() > .01
    np.testing.assert_allclose(after, encode_features(base, TEXTS), atol=1e-4)


def test_another_result_or_a_fault_leaves_pytorch(base, always, monkeypatch):
    theirs = encode_features(base, TEXTS)
    def wrong(self, inputs):
        out = base(dict(inputs))
        return out | {"sentence_embedding": out["sentence_embedding"] + 1}
    def broken(*args):
        raise RuntimeError("no such operator")
    for name, fault in (("__call__", wrong), ("__init__", broken)):
        compiling._KNOWN.clear()
        with monkeypatch.context() as m:
            m.setattr(CompiledBase, name, fault)
            np.testing.assert_array_equal(features(base, TEXTS), theirs)


def test_in_training_under_autocast(base, always):
    "The caller's modes are not compiled in, and are left as they were."
    base.train()
    theirs = encode_features(base, TEXTS)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        ours = features(base, TEXTS)
    assert base.training
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_many_threads(base, always):
    theirs = [encode_features(base, TEXTS[i::4]) for i in range(4)]
    found = [None]*4
    def work(i):
        for _ in range(5):
            found[i] = features(base, TEXTS[i::4])
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    for ours, true in zip(found, theirs, strict=True):
        np.testing.assert_allclose(ours, true, atol=1e-4)


def test_no_word_to_its_makers(tmp_path):
    "OpenVINO would leave a number of the user in the home folder and report; its own switch is put back."
    code = ("import sys; from ragcun.models.compiling import import_openvino as i; assert i() is not None; "
            "assert 'openvino_telemetry' not in sys.modules; import openvino_telemetry")
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"HOME": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []

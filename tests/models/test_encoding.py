"""Long encoding: what it says, what a kill leaves behind, and many threads on one tokenizer."""
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ragcun.core import UserError
from ragcun.models import base as bases
from ragcun.models.base import Ticker
from ragcun.models.cache import FeatureCache, cache_for, cached_features, work_blocks
from ragcun.models.encoder import GaussianEncoder
from ragcun.retrieval.retriever import index_corpus
from small import context, small_base

TEXTS = [f"text {i} of a star and a planet " * (1 + i % 7) for i in range(60)]


@pytest.fixture
def model(tmp_path, own_cache):
    return GaussianEncoder.from_base(str(small_base(tmp_path)), device="cpu", precision="no")


def test_an_encoder_handed_to_another_process_encodes_there(model):
    "As pickles of joblib, Ray and spawned workers are: it knew nothing of our attention, and said that the base fails."
    texts = ["How are stars made?", "water"]
    with context().Pool(1) as workers:
        assert np.array_equal(workers.apply(model.embed, (texts,)), model.embed(texts))


def test_half_of_a_surrogate_pair_is_one_line(model):
    with pytest.raises(UserError, match="text 1 holds half of a surrogate pair at character 5"):
        model.encode_document(["water", "half \ud83d of an emoji"])


def test_a_line_a_minute(monkeypatch):
    clock = [0.0]
    said = []
    monkeypatch.setattr(bases.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(bases.logger, "info", lambda text, *values: said.append(text % values))
    ticker = Ticker("document texts", 1000)
    for _ in range(10):
        clock[0] += 25
        ticker.add(100)
    assert len(said) == 3 and said[0] == "encoded 300 of 1,000 document texts, 4 a second, about 3 minutes left"


def test_blocks_hold_everything_in_order_and_go_on_where_they_stopped(model):
    blocks = list(work_blocks(model.base, TEXTS*100))
    assert [t for b in blocks for t in b] == TEXTS*100
    huge = SimpleNamespace(device=model.base.device, max_seq_length=48,
                           named_parameters=lambda: [("layer", torch.empty(10**9, device="meta"))])
    many = list(work_blocks(huge, TEXTS))
    assert len(many) > 1
    assert list(work_blocks(huge, [t for b in many[1:] for t in b])) == many[1:]


def test_a_kill_loses_a_block_at_most_and_the_numbers_stay(model, monkeypatch):
    monkeypatch.setattr("ragcun.models.cache.work_blocks",
                        lambda base, texts: (texts[i:i + 20] for i in range(0, len(texts), 20)))
    whole = cached_features(model, TEXTS)
    for path in cache_for(model, "document").folder.glob("*.*"):
        path.unlink()
    compute = model.compute_features
    calls = []
    def killed(texts, side):
        if calls:
            raise KeyboardInterrupt
        calls.append(len(texts))
        return compute(texts, side)
    monkeypatch.setattr(model, "compute_features", killed)
    with pytest.raises(KeyboardInterrupt):
        cached_features(model, TEXTS)
    assert len(cache_for(model, "document")) == 20
    monkeypatch.setattr(model, "compute_features", compute)
    np.testing.assert_array_equal(cached_features(model, TEXTS), whole)


def test_threads_share_a_tokenizer(model):
    want = model.compute_features(TEXTS[:8])
    faults = []
    def work():
        for _ in range(5):
            try:
                if not np.array_equal(model.compute_features(TEXTS[:8]), want):
                    faults.append("other numbers")
            except Exception as e:
                faults.append(repr(e))
    threads = [threading.Thread(target=work) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not faults


def test_work_inside_other_work_lends_its_count(monkeypatch):
    clock = [0.0]
    said = []
    monkeypatch.setattr(bases.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(bases.logger, "info", lambda text, *values: said.append(text % values))
    with Ticker("documents", 1000) as outer:
        for _ in range(2):
            with Ticker("document texts", 500) as inner:
                for _ in range(4):
                    clock[0] += 40
                    inner.add(100)
            outer.add(500)
    assert said == ["encoded 200 of 1,000 documents, 2.5 a second, about 6 minutes left",
                    "encoded 400 of 1,000 documents, 2.5 a second, about 4 minutes left",
                    "encoded 700 of 1,000 documents, 2.92 a second, about 2 minutes left",
                    "encoded 900 of 1,000 documents, 2.81 a second, about 1 minute left"]


def test_an_index_that_was_killed_has_kept_its_features(model, monkeypatch, tmp_path):
    monkeypatch.setattr("ragcun.models.cache.work_blocks",
                        lambda base, texts: (texts[i:i + 20] for i in range(0, len(texts), 20)))
    compute = model.compute_features
    calls = []
    def killed(texts, side):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(len(texts))
        return compute(texts, side)
    monkeypatch.setattr(model, "compute_features", killed)
    with pytest.raises(KeyboardInterrupt):
        index_corpus(model, TEXTS, tmp_path/"index")
    assert calls == [20, 20] and not model.cached
    monkeypatch.setattr(model, "compute_features", lambda texts, side: calls.append(len(texts)) or compute(texts, side))
    assert len(index_corpus(model, TEXTS, tmp_path/"index")) == 60 and calls[2] == 20


def test_a_corpus_that_the_cache_cannot_hold_is_computed(model, monkeypatch):
    monkeypatch.setenv("RAGCUN_CACHE_GB", "1e-6")
    found = cached_features(model, TEXTS)
    np.testing.assert_array_equal(found, model.compute_features(TEXTS))
    assert not len(cache_for(model, "document"))


def test_the_same_weights_pooled_in_another_way_share_no_features(model, tmp_path):
    mean = cached_features(model, TEXTS[:3])
    pooling = next((tmp_path/"base").glob("*Pooling"))/"config.json"
    pooling.write_text(pooling.read_text().replace('"mean"', '"cls"'))
    other = GaussianEncoder.from_base(str(tmp_path/"base"), device="cpu", precision="no")
    found = cached_features(other, TEXTS[:3])
    np.testing.assert_array_equal(found, other.compute_features(TEXTS[:3]))
    assert np.abs(found - mean).max() > .01
    assert not cache_for(model, "document").missing(TEXTS[:3]) and not cache_for(other, "document").missing(TEXTS[:3])
    note = cache_for(model, "document").folder/"base.json"
    note.write_text('{"base": "of an earlier version"}')         # knows no probe, and is taken over
    np.testing.assert_array_equal(cached_features(model, TEXTS[:3]), mean)
    assert "probe" in note.read_text()


def test_a_row_that_another_process_added_is_seen(tmp_path):
    one, two = (FeatureCache(tmp_path, 2) for _ in range(2))
    one.add(["a"], np.ones((1, 2), np.float32))
    two.add(["b"], np.zeros((1, 2), np.float32))
    one.add(["c"], np.full((1, 2), 3, np.float32))
    two.add(["a", "d"], np.full((2, 2), 4, np.float32))
    np.testing.assert_array_equal(FeatureCache(tmp_path, 2).get(["a", "b", "c", "d"])[:, 0], [1, 0, 3, 4])

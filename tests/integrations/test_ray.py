"A step for Ray Data: batches tried twice, and a local cluster with a worker that is killed on the way."
import os
import signal

import numpy as np
import pytest

from ragcun.core import UserError
from ragcun.integrations.ray_data import IndexBatches, index_dataset
from ragcun.retrieval.retriever import GaussianRetriever
from small import small_base

N = 60


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(small_base(tmp_path_factory.mktemp("base"), dropout=0.))


def documents(n=N):
    return [{"id": f"d{i}", "text": f"document {i} about topic {i % 7} and colour {i % 5}",
             "metadata": {"year": 2000 + i}} for i in range(n)]


def as_batch(rows):
    return {name: np.array([r[name] for r in rows], dtype=object) for name in rows[0]}


def same(a, b):
    "Ids, texts, metadata and vectors of two indexes."
    ids = sorted(a.store.ids())
    assert ids == sorted(b.store.ids())
    x, y = a.store.get(ids), b.store.get(ids)
    assert x.texts == y.texts and x.metadata == y.metadata and x.words == y.words
    np.testing.assert_allclose(x.v, y.v, atol=2e-5)
    assert [h.id for h in a.search("topic 3 colour 1", 9).hits] == [h.id for h in b.search("topic 3 colour 1", 9).hits]


def test_a_batch_that_is_tried_twice_goes_in_once(tmp_path, model):
    GaussianRetriever(model, tmp_path/"shared")
    GaussianRetriever(model, tmp_path/"alone")
    alone = GaussianRetriever.open(tmp_path/"alone", device="cpu")
    alone.add(documents())
    step = IndexBatches(str(tmp_path/"shared"), "cpu")
    rows = documents()
    assert step(as_batch(rows[:40]))["new"] == [40]
    assert step(as_batch(rows[20:]))["new"] == [20] and step(as_batch(rows[:40]))["new"] == [0]
    step.index._changed()
    same(GaussianRetriever.open(tmp_path/"shared"), alone)


def test_rows_without_a_text_are_named(tmp_path, model):
    GaussianRetriever(model, tmp_path)
    with pytest.raises(UserError, match="no column 'text', but body, id"):
        IndexBatches(str(tmp_path), "cpu")({"id": np.array(["a"]), "body": np.array(["b"])})


class Mortal(IndexBatches):
    "Dies once: after the commit of the batch that holds d30, before its answer."
    def __call__(self, batch):
        answer = super().__call__(batch)
        mark = f"{self.index.index_dir}.died"
        if "d30" in batch["id"] and not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return answer


@pytest.mark.slow
def test_two_workers_one_killed_make_the_index_of_one_process(tmp_path, model, monkeypatch):
    ray = pytest.importorskip("ray", reason="ray is not installed (the extra `ray`)")
    from ragcun.integrations import ray_data
    GaussianRetriever(model, tmp_path/"alone")
    alone = GaussianRetriever.open(tmp_path/"alone", device="cpu")
    alone.add(documents())
    monkeypatch.setattr(ray_data, "IndexBatches", Mortal)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    path = os.pathsep.join([os.path.dirname(__file__), *filter(None, [os.environ.get("PYTHONPATH"), os.getcwd(),
                                                                      f"{os.getcwd()}/tests"])])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error",
             runtime_env={"env_vars": {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}})
    try:
        index = index_dataset(ray.data.from_items(documents()), tmp_path/"shared", model, batch_size=10, num_cpus=1)
    finally:
        ray.shutdown()
    assert os.path.exists(f"{tmp_path/'shared'}.died") and len(index) == N
    same(index, alone)

"""The adapters against the real packages."""
import sys
from pathlib import Path

import numpy as np
import pytest

from ragcun.adapters import langchain_embeddings, langchain_retriever, langchain_store, llama_index_embedding, llama_index_retriever
from ragcun.core import UserError
from ragcun.null import document_vector, query_vector
from ragcun.retrieve import GaussianRetriever

sys.path.insert(0, str(Path(__file__).parent))
from tiny_encoder import TinyEncoder  # noqa: E402


class Model(TinyEncoder):
    def encode_query(self, texts): return query_vector(self.encode(texts, "query"), self.rho_numpy)
    def encode_document(self, texts): return document_vector(self.encode(texts), self.rho_numpy)


@pytest.fixture
def index():
    r = GaussianRetriever(Model(24))
    r.add([{"id": f"d{i}", "text": f"alpha{i} beta{i} gamma{i} delta{i}", "n": i} for i in range(200)])
    return r


def test_langchain_store(index):
    pytest.importorskip("langchain_core", reason="extra langchain-core is not installed")
    store = langchain_store(index)
    question = "alpha7 beta7 gamma7"
    got = store.similarity_search_with_relevance_scores(question, k=3)
    hits = index.search(question, top_k=3)
    assert [d.id for d, _ in got] == [h.id for h in hits] and got[0][0].metadata["n"] == 7
    assert all(0 <= s <= 1 for _, s in got) and got[0][1] >= got[1][1]
    assert store.similarity_search(question, k=2, filter={"n": 8})[0].id == "d8"
    assert store.similarity_search_with_relevance_scores(question, k=3, score_threshold=1.1) == []
    added = store.add_texts(["new words here"], [{"x": 1}], ids=["new"])
    assert added == ["new"] and store.similarity_search("new words here", k=1)[0].metadata["x"] == 1
    assert store.delete(["new"]) and len(index) == 200
    with pytest.raises(UserError): type(store).from_texts(["a"], None)


def test_langchain_retriever_and_embeddings_in_their_own_store(index):
    core = pytest.importorskip("langchain_core", reason="extra langchain-core is not installed")
    assert core
    r = langchain_retriever(index, top_k=4, max_e_value=None)
    assert [d.id for d in r.invoke("alpha9 beta9")] == [h.id for h in index.search("alpha9 beta9", top_k=4)]
    assert len(langchain_retriever(index, top_k=50).invoke("alpha9 beta9 gamma9 delta9")) < 50
    e = langchain_embeddings(index.model)
    u, v = np.array(e.embed_query("alpha9 beta9")), np.array(e.embed_documents([f"alpha{i} beta{i} gamma{i} delta{i}" for i in range(200)]))
    assert f"d{np.linalg.norm(v - u, axis=1).argmin()}" == index.search("alpha9 beta9", top_k=1)[0].id
    assert e.embed_documents([]) == []


def test_llama_index(index):
    pytest.importorskip("llama_index.core", reason="extra llama-index-core is not installed")
    nodes = llama_index_retriever(index, top_k=3, max_e_value=None).retrieve("alpha5 beta5 gamma5")
    assert [n.node.node_id for n in nodes] == [h.id for h in index.search("alpha5 beta5 gamma5", top_k=3)]
    assert nodes[0].node.metadata["n"] == 5 and all(0 <= n.score <= 1 for n in nodes)
    e = llama_index_embedding(index.model)
    assert np.allclose(e.get_query_embedding("alpha1"), index.model.encode_query(["alpha1"])[0], atol=1e-5)
    assert np.allclose(e.get_text_embedding_batch(["alpha1", "beta2"]), index.model.encode_document(["alpha1", "beta2"]), atol=1e-5)


def test_a_missing_package_is_one_line(monkeypatch, index):
    import importlib
    def absent(name): raise ImportError(name)
    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(UserError, match="pip install langchain-core"): langchain_store(index)

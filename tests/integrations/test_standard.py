"The suites that LangChain and Haystack publish for what stands behind their interfaces, on our adapters."
import copy
import pickle

import pytest
from haystack import Document
from haystack.testing.document_store import FilterDocumentsTest
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from ragcun.integrations.frameworks import (haystack_document_embedder, haystack_retriever, haystack_text_embedder,
                                            langchain_embeddings, langchain_retriever, langchain_store,
                                            llama_index_embedding, llama_index_retriever)
from ragcun.integrations.langchain import GaussianLangChainRetriever
from ragcun.retrieval.retriever import GaussianRetriever
from tiny_encoder import TinyModel


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self):
        return langchain_store(GaussianRetriever(TinyModel(24)))


class TestVectorStoreInAFolder(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path):
        return langchain_store(GaussianRetriever(TinyModel(24), tmp_path/"index"))


class TestRetriever(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self):
        return GaussianLangChainRetriever

    @property
    def retriever_constructor_params(self):
        index = GaussianRetriever(TinyModel(24))
        index.add([f"alpha{i} beta{i}" for i in range(9)])
        return {"index": index, "max_e_value": None}

    @property
    def retriever_query_example(self):
        return "alpha3"


class FilterOnlyStore:
    "What Haystack's tests of filters ask of a store, answered by the retriever over an index."

    def __init__(self):
        self.index = GaussianRetriever(TinyModel(24))
        self.written = {}

    def write_documents(self, documents):
        self.written = {d.id: d for d in documents}
        self.index.add([{"id": d.id, "text": d.content, "metadata": d.meta} for d in documents])

    def filter_documents(self, filters=None):
        if not self.written: return []
        retriever = haystack_retriever(self.index, top_k=len(self.written), max_e_value=None)
        found = {d.id for d in retriever.run("a question", filters)["documents"]}
        return [d for d in self.written.values() if d.id in found]


class TestHaystackFilters(FilterDocumentsTest):
    @pytest.fixture
    def document_store(self):
        return FilterOnlyStore()


COPIES = {"pickle": lambda x: pickle.loads(pickle.dumps(x)), "deepcopy": copy.deepcopy, "copy": copy.copy}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("in_folder", [False, True])
def test_adapters_are_copied_and_pickled(tmp_path, copied, in_folder):
    index = GaussianRetriever(TinyModel(24), tmp_path/"index" if in_folder else None)
    index.add([{"id": f"d{i}", "text": f"alpha{i} beta{i}", "n": i} for i in range(9)])
    model = index.model
    asked = "alpha3 beta3"
    u = langchain_embeddings(model).embed_query(asked)
    assert copied(langchain_embeddings(model)).embed_query(asked) == u
    assert copied(langchain_store(index)).similarity_search(asked, k=1)[0].id == "d3"
    assert copied(langchain_retriever(index, max_e_value=None)).invoke(asked)[0].id == "d3"
    assert copied(llama_index_embedding(model)).get_query_embedding(asked) == u
    assert copied(llama_index_retriever(index, max_e_value=None)).retrieve(asked)[0].node.node_id == "d3"
    assert copied(haystack_retriever(index, max_e_value=None)).run(asked)["documents"][0].id == "d3"
    assert copied(haystack_text_embedder(model)).run(asked)["embedding"] == u
    one = [Document(content=asked)]
    assert copied(haystack_document_embedder(model)).run(one)["documents"][0].embedding

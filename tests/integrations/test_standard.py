"The suites that LangChain publishes for what stands behind their interfaces, on our adapters."
import pytest
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from ragcun.integrations.frameworks import langchain_store
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

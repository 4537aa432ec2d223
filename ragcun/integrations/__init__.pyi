from .haystack import GaussianDocumentEmbedder, GaussianHaystackRetriever, GaussianTextEmbedder
from .explorer import explore
from .frameworks import MtebModel, langchain_embeddings, langchain_retriever, langchain_store, llama_index_embedding, llama_index_retriever, mteb_task
from .mcp_server import make_mcp
from .server import make_app, run_server

__all__ = [
    "GaussianDocumentEmbedder", "GaussianHaystackRetriever", "GaussianTextEmbedder", "MtebModel",
    "explore", "langchain_embeddings", "langchain_retriever", "langchain_store", "llama_index_embedding",
    "llama_index_retriever", "make_app", "make_mcp", "mteb_task", "run_server",
]

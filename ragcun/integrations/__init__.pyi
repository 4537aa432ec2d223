from .haystack import GaussianDocumentEmbedder, GaussianHaystackRetriever, GaussianTextEmbedder
from .frameworks import MtebModel, langchain_embeddings, langchain_retriever, langchain_store, llama_index_embedding, llama_index_retriever, mteb_task

__all__ = [
    "GaussianDocumentEmbedder", "GaussianHaystackRetriever", "GaussianTextEmbedder", "MtebModel",
    "langchain_embeddings", "langchain_retriever", "langchain_store", "llama_index_embedding",
    "llama_index_retriever", "mteb_task",
]

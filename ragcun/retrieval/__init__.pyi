from .null import EmpiricalNull, GaussianNull, e_value, fit_null, theoretical_null
from .hits import Hit, SearchResult
from .no_answer import AnswerRule, fit_answer_rule
from .storage import RemotePath, as_place
from .stores import LanceStore, MemoryStore, read_manifest
from .quantization import QuantizedStore, Quantizer, fit_quantizer
from .index import DocumentIndex
from .retriever import GaussianRetriever, encode_shards, index_corpus, read_shards
from .words import HybridRetriever, reciprocal_rank_fusion

__all__ = [
    "AnswerRule", "DocumentIndex", "EmpiricalNull", "GaussianNull", "GaussianRetriever", "Hit", "HybridRetriever",
    "LanceStore", "MemoryStore", "QuantizedStore", "Quantizer", "RemotePath", "SearchResult", "as_place", "e_value",
    "encode_shards", "fit_answer_rule", "fit_null", "fit_quantizer", "index_corpus", "read_manifest", "read_shards",
    "reciprocal_rank_fusion", "theoretical_null",
]

from .null import EmpiricalNull, GaussianNull, e_value, fit_null, theoretical_null
from .hits import Hit, SearchResult, verdict_in_words
from .no_answer import AnswerRule, fit_answer_rule
from .storage import RemotePath, as_place
from .stores import LanceStore, MemoryStore, read_manifest
from .quantization import QuantizedStore, Quantizer, fit_quantizer
from .index import DocumentIndex
from .retriever import GaussianRetriever, encode_shards, index_corpus, read_shards
from .folders import fill_index, plan_folder
from .judgements import BlindJudging, findings, pool_hits, save_judgements
from .adaptation import adapt_index, fit_documents
from .filters import Filter, as_filter
from .joint import PRIOR, Background, JointNull, JointWeights
from .words import Question, Tokenizer, WordCounts, reciprocal_rank_fusion
from .explanation import explain_results, read_passage

__all__ = [
    "AnswerRule", "Background", "BlindJudging", "DocumentIndex", "EmpiricalNull", "Filter", "GaussianNull",
    "GaussianRetriever", "Hit", "JointNull", "JointWeights", "LanceStore", "MemoryStore", "PRIOR",
    "QuantizedStore", "Quantizer", "Question", "RemotePath", "SearchResult", "Tokenizer", "WordCounts",
    "adapt_index", "as_filter", "as_place", "e_value", "encode_shards", "explain_results", "fill_index",
    "findings", "fit_answer_rule", "fit_documents", "fit_null", "fit_quantizer", "index_corpus", "plan_folder",
    "pool_hits", "read_manifest", "read_passage", "read_shards", "reciprocal_rank_fusion", "save_judgements",
    "theoretical_null", "verdict_in_words",
]

from .files import iter_rows, normalise_text, text_id, write_rows
from .collections import RetrievalData, find_split, load_beir, load_single, read_qrels, save_retrieval
from .pairs import Pair, PairSet, iter_pairs, load_pairs, load_retrieval, pairs_to_retrieval, retrieval_to_pairs, save_pairs
from .web_pages import Section
from .documents import Document, ReadOptions, passages, read_documents, read_folder, read_sections
from .generation import QuestionConfig, STRATEGIES, generate_pairs, python_package_pairs, question_pairs
from .splitting import drop_duplicates, drop_near_duplicates, find_leaks, near_duplicates, split_pairs
from .negatives import MineOptions, mine_bm25, mine_dense, mine_random
from .quality import DataReport, data_report, plot_lengths
from .preparation import PrepareConfig, PrepareReport, prepare
from .hub import DownloadReport, download

__all__ = [
    "DataReport", "Document", "DownloadReport", "MineOptions", "Pair", "PairSet", "PrepareConfig", "PrepareReport",
    "QuestionConfig", "ReadOptions", "RetrievalData", "STRATEGIES", "Section", "data_report", "download",
    "drop_duplicates", "drop_near_duplicates", "find_leaks", "find_split", "generate_pairs", "iter_pairs",
    "iter_rows", "load_beir", "load_pairs", "load_retrieval", "load_single", "mine_bm25", "mine_dense",
    "mine_random", "near_duplicates", "normalise_text", "pairs_to_retrieval", "passages", "plot_lengths", "prepare",
    "python_package_pairs", "question_pairs", "read_documents", "read_folder", "read_qrels", "read_sections",
    "retrieval_to_pairs", "save_pairs", "save_retrieval", "split_pairs", "text_id", "write_rows",
]

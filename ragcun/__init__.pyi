__version__: str

from .core import UserError
from .data.pairs import Pair, PairSet, load_pairs, load_retrieval, pairs_to_retrieval
from .data.collections import RetrievalData
from .data.generation import generate_pairs, python_package_pairs
from .data.splitting import split_pairs
from .data.preparation import PrepareConfig, prepare
from .models.encoder import GaussianEncoder
from .losses.total import LossWeights
from .training.closed_form import fit_closed_form
from .training.config import TrainConfig
from .training.run import fit
from .evaluation.evaluation_report import evaluate
from .evaluation.comparison import compare
from .diagnostics.diagnosis import diagnose
from .retrieval.retriever import GaussianRetriever
from .retrieval.hits import Hit

__all__ = [
    "GaussianEncoder", "GaussianRetriever", "Hit", "LossWeights", "Pair", "PairSet", "PrepareConfig",
    "RetrievalData", "TrainConfig", "UserError", "compare", "diagnose", "evaluate", "fit", "fit_closed_form",
    "generate_pairs", "load_pairs", "load_retrieval", "pairs_to_retrieval", "prepare", "python_package_pairs",
    "split_pairs",
]

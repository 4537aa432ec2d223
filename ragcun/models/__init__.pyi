from .evidence import Calibration, document_vector, embedding_std, evidence_pairs, information, plot_evidence, pos_dist, pos_residual, query_vector
from .base import DEFAULT_BASE, find_base, load_base
from .encoder import GaussianEncoder
from .cache import FeatureCache
from .saving import load_model, model_info, pack_model, save_model, unpacked_model
from .kernels import use_attention, use_packed
from .runtime import ExportedEncoder, pick_runtime
from .exporting import export_model

__all__ = [
    "Calibration", "DEFAULT_BASE", "ExportedEncoder", "FeatureCache", "GaussianEncoder", "document_vector",
    "embedding_std", "evidence_pairs", "export_model", "find_base", "information", "load_base", "load_model",
    "model_info", "pack_model", "pick_runtime", "plot_evidence", "pos_dist", "pos_residual", "query_vector",
    "save_model", "unpacked_model", "use_attention", "use_packed",
]

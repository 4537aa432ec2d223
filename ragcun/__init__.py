"""Isotropic Gaussian text embeddings for retrieval: train, measure and serve them."""

__version__ = "0.1.0"

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

_HOME = {
    "UserError": "core",
    "Pair": "data", "PairSet": "data", "RetrievalData": "data", "load_pairs": "data", "load_retrieval": "data", "pairs_to_retrieval": "data",
    "generate_pairs": "pairs", "split_pairs": "split", "prepare": "preparation", "PrepareConfig": "preparation", "python_package_pairs": "packages",
    "GaussianEncoder": "model",
    "LossWeights": "losses",
    "fit_closed_form": "closed_form", "fit": "train", "TrainConfig": "train",
    "evaluate": "evaluate", "compare": "evaluate",
    "diagnose": "diagnose",
    "GaussianRetriever": "retrieve", "Hit": "retrieve",
}
__all__ = sorted(_HOME)


class _Package(ModuleType):
    """The function `ragcun.evaluate` has the name of its module: where both exist, the attribute is the function."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Importing a submodule does not hide a public function."""
        if not (name in _HOME and isinstance(value, ModuleType)): super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that `import ragcun` stays fast."""
    if name not in _HOME: raise AttributeError(f"module 'ragcun' has no attribute {name!r}")
    return getattr(import_module(f"ragcun.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """Public names, also those not loaded yet."""
    return sorted(set(globals()) | set(_HOME))

"""Isotropic Gaussian text embeddings for retrieval: train, measure and serve them."""

__version__ = "0.2.0"

import lazy_loader

from ._moved import install as _install

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
_install()

"""Where Haystack pipelines saved by version 0.1.0 look for their components."""
from haystack import component

from .integrations.haystack import GaussianDocumentEmbedder, GaussianHaystackRetriever, GaussianTextEmbedder

__all__ = ["GaussianDocumentEmbedder", "GaussianHaystackRetriever", "GaussianTextEmbedder"]

for _kind in (GaussianDocumentEmbedder, GaussianHaystackRetriever, GaussianTextEmbedder):
    component.registry[f"{__name__}.{_kind.__name__}"] = _kind

from .sigreg import covariance_penalty, example_cloud, sigreg_loss, sigreg_relative, slice_directions
from .contrastive import critic_scores, duplicate_mask, info_nce_loss
from .penalties import predictive_loss, regularization_loss
from .total import LossParts, LossWeights, cosine_loss, total_loss

__all__ = [
    "LossParts", "LossWeights", "cosine_loss", "covariance_penalty", "critic_scores", "duplicate_mask",
    "example_cloud", "info_nce_loss", "predictive_loss", "regularization_loss", "sigreg_loss", "sigreg_relative",
    "slice_directions", "total_loss",
]

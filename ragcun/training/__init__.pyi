from .selection import clearly_better, climb, decide
from .closed_form import Head, HeldOut, Moments, fit_closed_form, solve_head
from .config import TrainConfig
from .step import Critic, Processes, Stepper, batch_gradients
from .record import (
    CURVES, Curve, Journal, find_checkpoint, load_checkpoint, plot_curve, plot_isotropy_curve, plot_positive_distance,
    plot_training, save_checkpoint,
)
from .learner import Interrupted, Learner
from .run import FitResult, fit, line_search, refit

__all__ = [
    "CURVES", "Critic", "Curve", "FitResult", "Head", "HeldOut", "Interrupted", "Journal", "Learner", "Moments",
    "Processes", "Stepper", "TrainConfig", "batch_gradients", "clearly_better", "climb", "decide", "find_checkpoint",
    "fit", "fit_closed_form", "line_search", "load_checkpoint", "plot_curve", "plot_isotropy_curve",
    "plot_positive_distance", "plot_training", "refit", "save_checkpoint", "solve_head",
]

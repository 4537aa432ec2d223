from .gaussianity import drift_test, gaussian_tests, norm_law, plot_qq, plot_spectrum, spectrum
from .space import (
    DiagnoseConfig, alignment, hubness, plot_information, plot_pair_distances, plot_quality_isotropy, separation,
    uniformity,
)
from .capacity import fit_tau, measure_recall, plot_capacity, predict_recall, temper
from .diagnosis import Diagnosis, compare_spaces, diagnose, plot_before_after, write_diagnosis

__all__ = [
    "DiagnoseConfig", "Diagnosis", "alignment", "compare_spaces", "diagnose", "drift_test", "fit_tau",
    "gaussian_tests", "hubness", "measure_recall", "norm_law", "plot_before_after", "plot_capacity",
    "plot_information", "plot_pair_distances", "plot_qq", "plot_quality_isotropy", "plot_spectrum", "predict_recall",
    "separation", "spectrum", "temper", "uniformity", "write_diagnosis",
]

from .gaussianity import drift_test, gaussian_tests, norm_law, spectrum
from .space import DiagnoseConfig, alignment, hubness, separation, uniformity
from .capacity import fit_tau, measure_recall, predict_recall, temper
from .diagnosis import Diagnosis, compare_spaces, diagnose, write_diagnosis

__all__ = [
    "DiagnoseConfig", "Diagnosis", "alignment", "compare_spaces", "diagnose", "drift_test", "fit_tau",
    "gaussian_tests", "hubness", "measure_recall", "norm_law", "predict_recall",
    "separation", "spectrum", "temper", "uniformity", "write_diagnosis",
]

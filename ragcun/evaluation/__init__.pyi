from .comparison import Comparison, Comparisons, compare, compare_sets, load_qrels, read_run, write_qrels, write_run
from .evaluation_report import EvaluateConfig, EvaluationReport, evaluate
from .abstention import Abstention, auroc, plot_risk_coverage, without_answers

__all__ = [
    "Abstention", "Comparison", "Comparisons", "EvaluateConfig", "EvaluationReport", "auroc", "compare",
    "compare_sets", "evaluate", "load_qrels", "plot_risk_coverage", "read_run", "without_answers", "write_qrels",
    "write_run",
]

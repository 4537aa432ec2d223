"""Modules of version 0.1.0 that have a new name: importing one says which."""
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType

MOVED = {
    "abstain": "evaluation.abstention",
    "adapters": "integrations.frameworks",
    "answer": "retrieval.no_answer",
    "arguments": "cli.flags",
    "attention": "models.kernels",
    "base": "models.base",
    "cache": "models.cache",
    "capacity": "diagnostics.capacity",
    "checkpoint": "training.record",
    "checks": "cli.flags",
    "closed_form": "training.selection training.closed_form",
    "collection": "data.collections",
    "config": "training.config",
    "costs": "figures",
    "demo": "cli.demonstration",
    "diagnose": "diagnostics.diagnosis",
    "document_index": "retrieval.index",
    "drawing": "figures",
    "evaluate": "evaluation.evaluation_report",
    "evidence": "models.evidence",
    "files": "data.files",
    "formats": "data.web_pages data.markup data.other_markup data.structured data.pdf data.office data.documents",
    "gaussianity": "measures.isotropy diagnostics.gaussianity",
    "head": "training.closed_form",
    "hits": "retrieval.hits",
    "hub": "data.hub",
    "hybrid": "retrieval.words",
    "journal": "training.record",
    "laws": "diagnostics.gaussianity",
    "learner": "training.learner",
    "linear": "models.kernels",
    "loop": "training.step",
    "lora": "training.step",
    "manifest": "retrieval.stores",
    "material": "training.learner",
    "metrics": "measures.ranking",
    "model": "models.evidence models.encoder",
    "mteb_model": "integrations.frameworks",
    "negatives": "data.negatives",
    "neighbours": "diagnostics.space",
    "null": "retrieval.null",
    "packages": "data.generation",
    "paired": "measures.paired",
    "pairs": "data.documents data.generation",
    "preparation": "data.preparation",
    "quantize": "retrieval.quantization",
    "questions": "data.generation",
    "report": "data.quality",
    "retrieve": "retrieval.retriever",
    "runs": "evaluation.comparison",
    "saving": "models.saving",
    "serving": "cli.commands",
    "shards": "retrieval.retriever",
    "sigreg": "losses.sigreg",
    "sources": "data.documents",
    "spaces": "diagnostics.space",
    "split": "data.splitting",
    "storage": "retrieval.storage",
    "store": "retrieval.stores",
    "train": "training.selection training.run",
    "update_scale": "training.selection training.run",
    "writing": "data.preparation",
}


class MovedModules(MetaPathFinder):
    """Finds nothing; a module that was renamed is named in the error."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """Refuse a name of version 0.1.0 with its new one."""
        package, _, name = fullname.partition(".")
        if package == "ragcun" and name in MOVED:
            places = " or ".join(f"ragcun.{new}" for new in MOVED[name].split())
            raise ModuleNotFoundError(f"{fullname} was renamed in version 0.2.0: import from {places}", name=fullname)


def install() -> None:
    """Ask here first, once."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())

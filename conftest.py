"""Settings that every test run shares, and what nbval needs to read notebooks that nbdev has cleaned."""
import os
import re
import sys
from pathlib import Path

sys.modules.setdefault("rfc3987_syntax", None)  # else jsonschema compiles a grammar of web addresses for two seconds
import nbformat  # noqa: E402

ROOT = Path(__file__).resolve().parent
SETTINGS = {"IN_TEST": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1",
            "HAYSTACK_TELEMETRY_ENABLED": "False",
            "RAGCUN_RUNTIME": "torch",  # no export beside every index that a test makes
            "RAGCUN_CACHE": str(ROOT / ".cache" / "ragcun"), "MPLCONFIGDIR": str(ROOT / ".cache" / "matplotlib")}
for key, value in SETTINGS.items():
    os.environ.setdefault(key, value)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
# kernels and subprocesses must find this environment's commands, activated or not
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

SKIPPED = re.compile(r"^#\|\s*(eval:\s*false|cuda|notest|slow)\b", re.MULTILINE)
_read = nbformat.read


def _read_for_nbval(*args, **kwargs):
    "Give the run counts back that nbdev empties, and tag the cells that its flags keep from running."
    notebook = _read(*args, **kwargs)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code, 1):
        cell.execution_count = count
        if SKIPPED.search(cell.source):
            cell.metadata.setdefault("tags", []).append("nbval-skip")
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    return notebook


nbformat.read = _read_for_nbval

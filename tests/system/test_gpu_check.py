"""The script for a GPU starts at the first try: here on whatever the machine has, with few pairs."""
import importlib.util
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("gpu_check", Path(__file__).with_name("gpu_check.py"))
gpu_check = importlib.util.module_from_spec(SPEC)


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    import sys
    sys.modules["gpu_check"] = gpu_check
    SPEC.loader.exec_module(gpu_check)
    return gpu_check.prepared(None, tmp_path_factory.mktemp("gpu"), True)


@pytest.mark.slow
def test_every_check_passes_or_says_why_not(setup):
    found = gpu_check.run_checks(setup)
    assert set(found) == {check.__name__ for check in gpu_check.CHECKS}
    assert all(row.get("passed") or row.get("skipped") for row in found.values()), found
    assert found["resume"]["passed"] and found["half_precision"]["passed"]


@pytest.mark.slow
def test_a_broken_check_is_recorded_and_the_rest_goes_on(setup, monkeypatch):
    def broken(setup):
        raise ValueError("no")
    monkeypatch.setattr(gpu_check, "CHECKS", (broken, gpu_check.overflow))
    found = gpu_check.run_checks(setup)
    assert found["broken"]["passed"] is False and "ValueError: no" in found["broken"]["reason"]
    assert "overflow" in found

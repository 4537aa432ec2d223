"""Threads of the command that wait leave the processor to whoever has work; what the user has set stays."""
import os

import pytest

from ragcun.cli.commands import main


def test_waiting_threads_do_not_spin(monkeypatch, capsys):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    for wanted in ("ACTIVE", "PASSIVE"):
        with pytest.raises(SystemExit):
            main(["search", "--no_such_flag"])
        assert os.environ["OMP_WAIT_POLICY"] == wanted
        monkeypatch.delenv("OMP_WAIT_POLICY")

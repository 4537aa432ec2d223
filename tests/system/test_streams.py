"Standard streams and settings of machines as they are."
import io
import sys

import pytest

from ragcun.cli.commands import main
from ragcun.core import UserError, env_number


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_help_is_printed_in_any_encoding(monkeypatch, encoding):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    sys.stdout.flush()
    assert not stopped.value.code and b"usage: ragcun" in raw.getvalue()


@pytest.mark.parametrize("text, wanted", [("", 1), (" ", 1), ("4", 4)])
def test_empty_settings_are_none(monkeypatch, text, wanted):
    monkeypatch.setenv("WORLD_SIZE", text)
    assert env_number("WORLD_SIZE", 1) == wanted


def test_settings_that_are_no_numbers_are_one_line(monkeypatch):
    monkeypatch.setenv("RAGCUN_CACHE_GB", "lots")
    with pytest.raises(UserError, match="'lots' is no number .RAGCUN_CACHE_GB."):
        env_number("RAGCUN_CACHE_GB", 10.)

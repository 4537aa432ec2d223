"""Fixtures that several test files share; a file that needs others of the same name has its own."""
import pytest

from ragcun.models.encoder import GaussianEncoder


@pytest.fixture()
def own_cache(tmp_path, monkeypatch):
    "A feature cache that no other test has written to."
    monkeypatch.setenv("RAGCUN_CACHE", str(tmp_path/"cache"))


@pytest.fixture()
def model(base):
    "An encoder over the file's own `base`, in float32."
    return GaussianEncoder.from_base(base, None, "cpu", "no")

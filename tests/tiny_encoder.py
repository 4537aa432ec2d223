"""A random encoder of words, for tests where the size of a real model is the obstacle: same interface, milliseconds,
deterministic over processes."""
import hashlib
from pathlib import Path

import numpy as np

from ragcun.core import read_json, write_json
from ragcun.models.evidence import document_vector, query_vector


class Calibration:
    a, tau = -.5, .3


class TinyEncoder:
    "Texts as sums of seeded Gaussian word vectors; queries and documents that share words correlate."
    def __init__(self, dim=16, name="tiny"):
        self.output_dim = dim
        self.name = name
        self.calibration = Calibration()
        self.rho_numpy = np.linspace(.9, .2, dim)
        self.prompts = {"query": "", "document": ""}
        self.fingerprint = hashlib.sha256(f"{name}{dim}".encode()).hexdigest()

    def embed(self, texts, side="document"):
        return np.stack([self._one(t) for t in texts]) if len(texts) else np.zeros((0, self.output_dim), np.float32)

    def _one(self, text):
        words = text.lower().split()[:256] or ["?"]
        z = sum(np.random.default_rng(int(hashlib.md5((self.name + w).encode()).hexdigest()[:8], 16))
                .standard_normal(self.output_dim) for w in words)
        return (z / np.sqrt(len(words))).astype(np.float32)

    def save(self, folder):
        write_json(Path(folder)/"tiny.json", {"dim": self.output_dim, "name": self.name})
        return Path(folder)

    @classmethod
    def load(cls, folder):
        d = read_json(Path(folder)/"tiny.json")
        return cls(d["dim"], d["name"])


class TinyModel(TinyEncoder):
    "With u and v, which the adapters ask for."

    def encode_query(self, texts):
        return query_vector(self.embed(texts, "query"), self.rho_numpy)

    def encode_document(self, texts):
        return document_vector(self.embed(texts), self.rho_numpy)

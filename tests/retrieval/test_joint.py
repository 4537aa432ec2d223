"""The joint evidence: one number with its parts, the same from every store, and a null that follows the content."""
import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ragcun.cli.commands import _say_what_is_doubted
from ragcun.models.evidence import Calibration
from ragcun.retrieval.explanation import surroundings
from ragcun.retrieval.joint import LEAST_TRUST, PRIOR, trust_in_meaning
from ragcun.retrieval.quantization import QuantizedStore
from ragcun.retrieval.retriever import GaussianRetriever
from tiny_encoder import TinyEncoder

WORDS = "ice sea bee heart blood light gene cell star moon tree rock wind fire code disk node key lock page".split()
ASKED = ["ice sea bee", "code n7 lock", "nothing known", "star star moon"]


def documents(start, n, seed=0):
    rng = np.random.default_rng([seed, start])
    return [{"id": f"d{i}", "text": " ".join(rng.choice(WORDS, 7)) + f" n{i}"} for i in range(start, start + n)]


def numbers(index, **more):
    return [[(h.id, h.evidence, h.dense, h.words, h.constant, h.p_value, h.e_value) for h in r]
            for r in index.search(ASKED, top_k=12, **more)]


def near(a, b, rtol=1e-9, atol=1e-9):
    assert [[h[0] for h in row] for row in a] == [[h[0] for h in row] for row in b]
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose([h[1:] for h in x], [h[1:] for h in y], rtol=rtol, atol=atol)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(["add", "delete", "update"]), st.integers(0, 140), st.integers(1, 30)),
                max_size=4))
def test_every_store_gives_the_same_hits(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("j")
    model = TinyEncoder()
    indexes = [GaussianRetriever(model), GaussianRetriever(model, folder/"i"),
               GaussianRetriever(model, (folder/"u").as_uri()),
               GaussianRetriever(model, store=QuantizedStore(model.rho_numpy, 8))]
    for seed, (what, start, n) in enumerate([("add", 0, 120), *steps]):
        for index in indexes:
            if what == "delete":
                index.delete([f"d{i}" for i in range(start, start + n)])
            elif what == "update":
                index.update(documents(start, n, seed))
            else:
                known = index.store.ids()
                index.add([d for d in documents(start, n, seed) if d["id"] not in known])
    first, disk, address, codes = map(numbers, indexes)
    near(first, disk)
    near(first, address)
    near(first, numbers(GaussianRetriever(model, folder/"i")))
    assert np.mean([a[0][0] == b[0][0] for a, b in zip(first, codes, strict=True)]) >= .75
    for a, b in zip(first, codes, strict=True):
        approx = {h[0]: h for h in b}
        for h in a[:3]:
            if h[0] in approx:
                np.testing.assert_allclose(approx[h[0]][1:5], h[1:5], atol=.15)
                assert approx[h[0]][3] == pytest.approx(h[3], abs=1e-9)


@pytest.mark.parametrize("disk", [False, True])
def test_parts_add_up_and_no_words_is_the_dense_search(tmp_path, disk):
    index = GaussianRetriever(TinyEncoder(), tmp_path/"i" if disk else None)
    index.add(documents(0, 150))
    for words in (0, .5, 1, 2):
        for r in index.search(ASKED, top_k=20, words=words):
            assert [h.evidence for h in r] == sorted((h.evidence for h in r), reverse=True)
            assert all(np.isclose(h.dense + h.words + h.constant, h.evidence, atol=1e-9) for h in r)
    z = index.encode_queries(ASKED)
    want = index.dense_hits(z, index.find(z, 12))
    got = numbers(index, words=0)
    near(got, [[(h.id, h.evidence, h.dense, 0., h.constant, h.p_value, h.e_value) for h in row] for row in want])
    c = index.model.calibration
    assert all(np.isclose(h.evidence, c.a + c.tau * h.raw_evidence) for row in want for h in row)


def test_other_weights_give_no_verdict():
    index = GaussianRetriever(TinyEncoder())
    index.add(documents(0, 120))
    result = index.search("ice sea bee", words=2)
    plain = result.to_json()
    assert result.answered is None and plain["answered"] is None and "chance" in plain
    assert all(h["p_value"] is None and h["e_value"] is None for h in plain["hits"])
    for words in (0, 1):
        told = index.search("ice sea bee", words=words).to_json()
        assert told["answered"] in (True, False) and all(0 <= h["p_value"] <= 1 for h in told["hits"])
    assert plain["hits"][0]["words"] == pytest.approx(
        2 * {h.id: h.words for h in index.search("ice sea bee", top_k=120)}[plain["hits"][0]["id"]])


@pytest.mark.parametrize("disk", [False, True])
def test_a_source_is_replaced_as_a_whole(tmp_path, disk):
    index = GaussianRetriever(TinyEncoder(), tmp_path/"i" if disk else None)
    index.add([{"text": f"part {i} of it", "source": s} for s in ("a'b.md", "b.md") for i in range(5)])
    assert len(index) == 10                                     # the same text from two sources keeps both
    index.update([{"text": f"part {i} of it", "source": "a'b.md"} for i in (1, 7)])
    texts = sorted(t for b in index.store.blocks() for t, m in zip(b.texts, b.metadata, strict=True)
                   if m["source"] == "a'b.md")
    assert texts == ["part 1 of it", "part 7 of it"] and len(index) == 7 and index.sources() == {"a'b.md", "b.md"}
    assert index.prune(["b.md", "none"]) == 5 and index.sources() == {"a'b.md"}
    assert index.prune("a'b.md") and not index.sources()


@pytest.mark.parametrize("disk", [False, True])
@pytest.mark.parametrize("way", ["update", "delete and add"])
def test_the_null_follows_the_content(tmp_path, disk, way):
    index = GaussianRetriever(TinyEncoder(), tmp_path/"i" if disk else None)
    index.add(documents(0, 150))
    index.search("ice")
    other = [{"id": f"d{i}", "text": f"gas{i % 5} oil{i % 3} coal{i}"} for i in range(50, 150)]
    if way == "update":
        index.update(other)
    else:
        index.delete([d["id"] for d in other])
        index.add(other)
    fresh = GaussianRetriever(TinyEncoder())
    fresh.add([*documents(0, 150)[:50], *other])
    near(numbers(index), numbers(fresh))
    assert index._fitted == (150, index.store.last_row())


CREATE = """
import sys; sys.path[:0] = [{tests!r}]
from tiny_encoder import TinyEncoder
from ragcun.retrieval.retriever import GaussianRetriever
GaussianRetriever(TinyEncoder(), {folder!r}).add([(f"p{who}-{{i}}", f"text {{i}} of {who}") for i in range(40)])
"""


def test_three_processes_make_one_index_at_once(tmp_path):
    code = [CREATE.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path/"i"), who=w) for w in range(3)]
    jobs = [subprocess.Popen([sys.executable, "-c", c], stderr=subprocess.PIPE, text=True) for c in code]
    for job in jobs:
        error = job.communicate(timeout=120)[1]
        assert job.returncode == 0, error[-800:]
    index = GaussianRetriever(TinyEncoder(), tmp_path/"i")
    assert index.store.ids() == {f"p{w}-{i}" for w in range(3) for i in range(40)}
    assert index.store.word_counts().documents == 120 and len(index.search("text 7 of 2", top_k=3)) == 3


class Uncalibrated(TinyEncoder):
    "As a base that nobody has fitted: every coordinate counts alike, and they repeat each other."
    def __init__(self):
        super().__init__(64)
        self.calibration = Calibration()
        self.rho_numpy = np.full(64, .5)

    def embed(self, texts, side="document"):
        z = super().embed(texts, side)
        return 2 * z + 3 * z[:, :1]


def test_meaning_alone_is_on_the_scale_of_evidence_where_nobody_has_calibrated(tmp_path):
    index = GaussianRetriever(Uncalibrated(), tmp_path/"i")
    index.add([{"id": str(i), "text": f"thing{i % 10} part{i} of{i % 7} a{i % 3}"} for i in range(120)])
    questions = [f"thing{i % 10} part{i}" for i in range(0, 120, 12)]
    rows = index.search(questions, top_k=120, words=0)
    others = [h for r, i in zip(rows, range(0, 120, 12), strict=True) for h in r if h.id != str(i)]
    nats = np.array([h.evidence for h in others])
    assert np.median(nats) < 0 and nats.max() < 12 and np.mean(np.exp(nats)) < 3  # a likelihood ratio has the mean 1
    assert max(h.raw_evidence for h in others) > 30                               # and this is none
    first = rows[0][0]
    assert first.dense + first.constant == pytest.approx(first.evidence) and first.words == 0
    edges = surroundings(index, questions[:1], 0.)[0].edges
    assert edges[-1] == pytest.approx(first.evidence, abs=.05)                    # the picture has the same scale
    index.calibrate(questions, [[str(i)] for i in range(0, 120, 12)], alpha=None)
    assert index.weights.alone != PRIOR.alone
    assert index.search(questions[0], words=0)[0].constant == index.weights.alone_constant
    again = GaussianRetriever(Uncalibrated(), tmp_path/"i")
    assert again.weights == index.weights and again.joint.weights == index.weights


class Deaf(TinyEncoder):
    "Its vectors are the same for the same text and have nothing to do with what that says."
    def _one(self, text):
        seed = int(hashlib.md5(text.encode()).hexdigest()[:8], 16)
        return np.random.default_rng(seed).standard_normal(self.output_dim).astype(np.float32)


def prose(n):
    rng = np.random.default_rng(0)
    words = [*WORDS, *(f"w{j}" for j in range(400))]
    return [{"id": f"d{i}", "text": ". ".join(" ".join(rng.choice(words, 9)).capitalize() for _ in range(4)) + "."}
            for i in range(n)]


def own_rank(index, documents):
    "How often three words of a document find it first."
    asked = [" ".join(d["text"].split(". ")[1].split()[:3]) for d in documents]
    return np.mean([r.hits[0].id == d["id"] for r, d in zip(index.search(asked, top_k=1), documents, strict=True)])


@pytest.mark.parametrize("size", [30, 200])
def test_a_base_that_does_not_know_the_documents_weighs_little(tmp_path, capsys, size):
    documents = prose(size)
    knows, deaf = GaussianRetriever(TinyEncoder(512)), GaussianRetriever(Deaf(64), tmp_path/"i")
    for index in (knows, deaf):
        index.add(documents)
    assert knows.joint.weights == PRIOR
    assert deaf.joint.weights == PRIOR.doubted(LEAST_TRUST)
    assert deaf.weights == PRIOR                              # what an index starts from, when its content has changed
    assert GaussianRetriever(Deaf(64), tmp_path/"i").joint.weights == deaf.joint.weights
    _say_what_is_doubted(knows)
    assert not capsys.readouterr().out
    _say_what_is_doubted(deaf)
    said = capsys.readouterr().out
    assert "another language?" in said and "meaning weighs 12% of the usual; --base_model" in said
    doubted = own_rank(deaf, documents)
    deaf.joint = replace(deaf.joint, weights=PRIOR.doubted(.9))
    _say_what_is_doubted(deaf)
    said = capsys.readouterr().out
    assert "another language?" not in said and "meaning weighs 90% of the usual" in said
    deaf.joint = replace(deaf.joint, weights=PRIOR)
    assert doubted > own_rank(deaf, documents) + .1


def test_weights_from_questions_are_not_doubted():
    index = GaussianRetriever(Deaf(64))
    documents = prose(150)
    index.add(documents)
    asked = [d["text"].split(". ")[2] for d in documents[:60]]
    index.calibrate(asked, [[d["id"]] for d in documents[:60]], alpha=.1)
    assert index.joint.weights == index.weights
    assert index.weights.dense / index.weights.words < LEAST_TRUST * PRIOR.dense / PRIOR.words


def test_few_questions_conclude_nothing():
    scores = np.eye(19)
    assert trust_in_meaning(-scores, scores, range(19)) == 1
    scores = np.eye(40)
    assert trust_in_meaning(-scores, scores, range(40)) == LEAST_TRUST
    assert trust_in_meaning(scores, scores, range(40)) == 1
    half = np.where(np.arange(40)[:, None] < 26, scores, -scores)     # .65 first, the rest last
    assert LEAST_TRUST < trust_in_meaning(half, scores, range(40)) < 1

"""Whitened coordinates of an index: the same hits, distances and evidence by plain L2, a map that stays, and figures of
isotropy that say which documents they are of."""
import numpy as np
import pytest

from ragcun.core import UserError
from ragcun.diagnostics.space import whitened_numbers
from ragcun.measures.isotropy import participation_ratio
from ragcun.models.evidence import document_vector, evidence, evidence_from_distance, query_vector
from ragcun.models.whitening import isotropy_by_halves, whiten_on
from ragcun.retrieval.index import DocumentIndex
from ragcun.retrieval.retriever import GaussianRetriever
from ragcun.retrieval.stores import MemoryStore, read_manifest
from ragcun.retrieval.hits import Batch
from tiny_encoder import TinyEncoder

WORDS = "ice sea bee heart blood light gene cell star moon tree rock wind fire code disk node key lock page".split()


def texts(n, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS[:10 if i % 3 else 20], 6)) + f" n{i}" for i in range(n)]


def cloud(n, d, seed=0):
    "Embeddings with unequal, tilted directions, a mean, and heavy tails."
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(9).standard_normal((d, d))*np.geomspace(3, .05, d)
    return (rng.standard_normal((n, d)) @ mix*rng.uniform(.5, 2, (n, 1)) + .3).astype(np.float32)


def l2(u, v):
    return np.sqrt((np.square(u).sum(1)[:, None] + np.square(v).sum(1)
                    - 2*u.astype(float) @ v.T.astype(float)).clip(0))


@pytest.mark.parametrize("low", [.02, .3])
def test_hits_distances_and_evidence_are_those_of_the_model(low):
    rho = np.linspace(.95, low, 24)
    x, q = cloud(400, 24), np.random.default_rng(1).standard_normal((80, 24)).astype(np.float32)
    made = whiten_on([x[:150], x[150:300]], rho)          # the last hundred are fresh
    here, there = l2(query_vector(q, rho), document_vector(x, rho)), l2(made.query(q), made.document(x))
    first = np.argsort(there, 1)[:, :10]
    assert (first == np.argsort(here, 1)[:, :10]).all()
    np.testing.assert_allclose(made.distance(there, q), here, rtol=1e-4, atol=1e-3)
    raw = evidence(q.astype(float), x.astype(float), rho)
    np.testing.assert_allclose(evidence_from_distance(made.distance(there, q), q.astype(float), rho), raw,
                               rtol=1e-4, atol=1e-2)
    # without the extra coordinate the order is another one: the test above can fail
    assert (np.argsort(l2(made.query(q)[:, :-1], made.document(x)[:, :-1]), 1)[:, :10] != first).any()


def test_the_root_exists_for_every_document():
    rho = np.linspace(.95, .1, 12)
    made = whiten_on([cloud(200, 12)], rho)
    far = np.random.default_rng(3).standard_normal((2000, 12))*np.geomspace(.01, 1000, 2000)[:, None]
    rest = np.square(document_vector(far, rho)).sum(1) - np.square(
        made.kappa*document_vector(made.coordinates(far), made.strength)).sum(1)
    assert (rest + made.constant >= -1e-9*np.square(far).sum(1)).all()
    assert (rest < 0).any()                                # and c is needed


def test_an_index_keeps_its_map_and_its_hits(tmp_path):
    model = TinyEncoder()
    index = GaussianRetriever(model, tmp_path/"index")
    index.add(texts(120))
    made = index.whitening()
    name = read_manifest(tmp_path/"index").whitening
    assert name.startswith("whitening-") and (tmp_path/"index"/name).exists()
    _, z = index.background()
    w = made.coordinates(z)
    np.testing.assert_allclose(np.cov(w.T), np.eye(16), atol=1e-5)
    assert participation_ratio(z, False) < .8 and participation_ratio(w, False) > .999
    before = [[(h.id, round(h.distance, 3), round(h.evidence, 3)) for h in r.hits]
              for r in index.search(texts(20, 5), 10, words=0)]
    round_store = MemoryStore(17)                          # the same search, in whitened coordinates, plain L2
    ids, z = index.background()
    round_store.add(Batch(ids, index.store.texts(ids) and ids, [{}]*len(ids), made.document(z)))
    q = model.embed(texts(20, 5), "query")
    after = round_store.search(made.query(q), 10)
    assert [[f.id for f in row] for row in after] == [[h[0] for h in row] for row in before]
    np.testing.assert_allclose(made.distance(np.array([[f.distance for f in row] for row in after]), q),
                               [[h[1] for h in row] for row in before], atol=2e-3)
    index.add(texts(60, 1))
    index.update([{"id": ids[0], "text": "another text of ice and fire"}])
    index.delete(ids[5:9])
    again = GaussianRetriever.open(tmp_path/"index", model)
    assert read_manifest(tmp_path/"index").whitening == name
    np.testing.assert_array_equal(again.whitening().root, made.root)
    copy = index.save(tmp_path/"copy")
    np.testing.assert_array_equal(copy.whitening().root, made.root)
    assert DocumentIndex.open(tmp_path/"copy", model).whitening().documents == 120


def test_too_few_documents_and_a_broken_file(tmp_path):
    model = TinyEncoder()
    index = GaussianRetriever(model, tmp_path/"index")
    index.add(texts(16))
    with pytest.raises(UserError, match="16 documents are too few to whiten 16 coordinates on"):
        index.whitening()
    with pytest.raises(UserError, match="all 20 documents have the same embedding"):
        whiten_on([np.ones((20, 4))*.3], np.full(4, .5))
    assert isotropy_by_halves(np.r_[np.ones((39, 4)), np.eye(4)[:1]], np.full(4, .5)) is None
    index.add(texts(30, 2))
    index.whitening()
    (tmp_path/"index"/read_manifest(tmp_path/"index").whitening).write_bytes(b"no arrays")
    with pytest.raises(UserError, match="whitened coordinates cannot be read"):
        GaussianRetriever.open(tmp_path/"index", model)


def test_figures_say_which_documents_they_are_of():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((1200, 20)) @ rng.standard_normal((20, 20))
    found = whitened_numbers(z, np.full(20, .5))
    assert found["documents"] == 1200 and found["fresh"]["whitened_on"] == 600
    assert found["participation_ratio_uncorrected"] > .999 and found["sigreg_relative"] < 1.3
    assert found["fresh"]["expected"] == pytest.approx(1 - 20/600)
    assert found["fresh"]["participation_ratio"] == pytest.approx(1 - 20/600, abs=.02)
    assert "participation_ratio" not in found              # the corrected figure is not given in sample
    assert whitened_numbers(z[:30], np.full(20, .5))["fresh"] is None
    assert whitened_numbers(z[:15], np.full(20, .5)) is None

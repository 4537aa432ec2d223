"""BM25 and evidence together: the fitted sum against known weights, fusion by hand, and the retriever on words a
dense model cannot know."""

import numpy as np
import pytest

from ragcun.core import UserError
from ragcun.retrieval.retriever import GaussianRetriever
from ragcun.retrieval.words import HybridRetriever, diversify, fit_sum, reciprocal_rank_fusion
from tiny_encoder import TinyEncoder


class Blind(TinyEncoder):
    "Sees only the first two words."
    def _one(self, text):
        return super()._one(" ".join(text.split()[:2]))


@pytest.fixture(params=["memory", "lance"])
def index(request, tmp_path):
    r = GaussianRetriever(Blind(), tmp_path/"i" if request.param == "lance" else None)
    r.add([{"id": f"d{i}", "text": f"topic{i % 7} part{i % 11} rest code{i}"} for i in range(150)])
    return r


def test_fusion_by_hand():
    got = reciprocal_rank_fusion([["a", "b", "c"], ["c", "a"]], k=1)
    assert np.isclose(got["a"], 1 / 2 + 1 / 3) and np.isclose(got["c"], 1 / 4 + 1 / 2) and np.isclose(got["b"], 1 / 3)


def test_sum_is_a_log_likelihood_ratio():
    rng = np.random.default_rng(0)
    y = rng.random(40_000) < .05                              # rare positives: the constant must not carry the prior
    x = np.stack([rng.normal(3 * y, 1), rng.normal(0, 1, len(y))], 1)
    assert np.allclose(fit_sum(x, y), [3, 0, -4.5], atol=.35)


def test_words_help_where_the_model_is_blind(index):
    both = HybridRetriever(index)
    assert HybridRetriever(index, 150).search("code77", top_k=1)[0].id == "d77"
    ids = [f"d{i}" for i in range(0, 150, 3)]
    w = both.fit([f"topic{i % 7} part{i % 11} code{i}" for i in range(0, 150, 3)], [[i] for i in ids])
    assert w[1] > 0
    got = both.search("topic1 part2 code134", top_k=3)
    assert got[0].id == f"d{134}" and got[0].evidence > got[1].evidence and got[0].e_value >= 0
    dense = {h.id: h.raw_evidence for h in index.search("topic1 part2 code134", top_k=150)}
    # candidates from words get their true evidence
    assert all(np.isclose(h.raw_evidence, dense[h.id], atol=1e-3) for h in got)
    assert len(both.search("unknownword", top_k=3)) == 3


def test_empty_index_and_no_relevant_candidates(index):
    with pytest.raises(UserError, match="empty"):
        HybridRetriever(GaussianRetriever(TinyEncoder()))
    with pytest.raises(UserError, match="no relevant"):
        HybridRetriever(index).fit(["topic1"], [["nobody"]])


def test_diversity_trades_score_for_difference():
    v = np.array([[1., 0], [.99, .01], [0, 1.]])
    assert (diversify(v, np.array([3., 2.9, 1.]), 2, .6) == [0, 2]
            and diversify(v, np.array([3., 2.9, 1.]), 2, 0) == [0, 1])

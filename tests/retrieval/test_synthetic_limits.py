"""Calibration without questions: what questions made from the documents find without their own."""
import json

import numpy as np
import pytest

from ragcun.data.documents import Document
from ragcun.data.generation import generate_pairs
from ragcun.retrieval.null import EmpiricalNull
from ragcun.retrieval.retriever import MADE, GaussianRetriever
from tiny_encoder import TinyEncoder

WORDS = [f"{a}{b}" for a in "ba de fi go lu ma ne pi ro su ta vi wo xe zu".split()
         for b in "la mer nos pit rak sel tun".split()]


def documents(n, seed=0, start=0):
    "Texts of three sentences on one of twenty subjects each."
    rng = np.random.default_rng(seed)
    subject = rng.permutation(len(WORDS))[:100].reshape(20, 5)
    def sentence(s):
        return " ".join(WORDS[w] for w in rng.permutation(np.r_[rng.choice(subject[s], 3, replace=False),
                                                                rng.choice(len(WORDS), 5)])).capitalize() + "."
    return {f"d{start + i}": " ".join(sentence(rng.integers(20)) for _ in range(3)) for i in range(n)}


def filled(n=300, where=None):
    index = GaussianRetriever(TinyEncoder(32), where)
    docs = documents(n)
    index.add(docs)
    return index, docs


def made_by_hand(index, docs):
    "Each synthetic question asked by itself, its own document left out: the log of the answer value over n."
    pairs = generate_pairs([Document(t, document_id=i) for i, t in docs.items()], "mix", seed=0)
    return np.sort([np.log(index.answer_values([p.query], [[p.document_id]])[0] / len(docs)) for p in pairs])


def test_made_questions_are_asked_without_their_own_document():
    index, docs = filled(120)
    assert index.search("any words at all").chance is None and not len(index.joint.made)
    limit = index.calibrate(alpha=.1)
    made = index.joint.made
    n = len(docs)
    assert len(made) <= min(MADE, n) and len(made) > .9 * n
    np.testing.assert_allclose(made, made_by_hand(index, docs), rtol=1e-6)
    found = n * np.exp(made)
    # strictly below the k-th
    assert (found <= limit).sum() == int(.1 * (len(made) + 1) + 1e-9) - 1 and index.alpha == .1
    result = index.search(next(iter(docs.values())))
    assert (result.answered and result.chance == pytest.approx(1 / (1 + len(made)))
            and result.to_json()["chance"] == result.chance)
    assert "answered: 1 of 120 questions without an answer find as good a hit" in repr(result)
    assert (result.chance <= .1) == result.answered == (result.value <= limit) and result.limit == limit


def test_the_rate_holds_for_new_made_questions():
    """Questions of documents that the index does not hold are exchangeable with the made ones; a limit ten times as
    large is noticed."""
    index, _ = filled(400)
    limit = index.calibrate(alpha=.2)
    new = generate_pairs(documents(900, 0)  # the first 400 are those of the index
                         .values(), "mix", seed=0).queries[400:]
    values = index.answer_values(new)
    rate = (values <= limit).mean()
    assert .2 - 4 * np.sqrt(.16 / 400) < rate < .2 + 4 * np.sqrt(.16 / 400), rate
    assert (values <= 10 * limit).mean() > .2 + 4 * np.sqrt(.16 / 400)
    chance = np.array([r.chance for r in index.search(new, top_k=1)])
    assert abs((chance <= .5).mean() - .5) < .12


def test_a_corpus_that_grows_is_asked_again(tmp_path):
    index, docs = filled(100, tmp_path/"index")
    first = index.calibrate(alpha=.2)
    again = GaussianRetriever(index.model, tmp_path/"index")
    assert (again.alpha, again.answer_limit) == (.2, first) and np.array_equal(again.joint.made, index.joint.made)
    assert [len(list((tmp_path/"index").glob(f"{kind}-*"))) for kind in ("null", "joint")] == [1, 1]
    index.add(documents(5, 7, 1000))                                            # five more change nothing
    assert index.answer_limit == first and len(index.joint.made) <= 100
    index.add(documents(200, 8, 2000))
    assert len(index.joint.made) > 250 and index.answer_limit != first
    assert again.search(docs["d3"]).limit == index.answer_limit and len(again.joint.made) == len(index.joint.made)
    copy = index.save(tmp_path/"copy")
    assert (copy.alpha, copy.answer_limit, len(copy.joint.made)) == (index.alpha, index.answer_limit,
                                                                    len(index.joint.made))


def test_other_ways_to_set_the_limit_end_it():
    index, docs = filled(100)
    index.calibrate(alpha=.2)
    index.calibrate([t.split(".")[0] for t in docs.values()], [[i] for i in docs], alpha=.1)
    assert index.alpha == 0 and index.rule is not None and index.search("any words").chance is None
    odd = [" ".join(reversed(t.split())) for t in documents(60, 5).values()]
    limit = index.calibrate(alpha=.1, unanswerable=odd)
    assert index.alpha == 0 and (index.answer_values(odd) <= limit).mean() <= .1
    decided = index.answer_values(odd)
    index.calibrate(alpha=None)                                                 # only measured: the limit stays
    assert index.answer_limit == limit and index.search("any words").chance > 0
    np.testing.assert_allclose(index.answer_values(odd), decided)              # and so does what is compared with it
    with pytest.raises(ValueError, match="0 lists"):
        index.calibrate(["a question"])


def test_too_few_and_none(caplog):
    index = GaussianRetriever(TinyEncoder(8))
    index.add({"a": "short", "b": "words", "c": "only"})
    assert index.calibrate(alpha=.1) == 0 and not len(index.joint.made)          # no question can be made of one word
    assert "too few" in caplog.text and not index.search("short").answered and index.search("short").chance is None


def test_an_index_of_an_earlier_version_has_none(tmp_path):
    index, docs = filled(60, tmp_path/"index")
    index.calibrate(alpha=.2)
    manifest = json.loads((tmp_path/"index"/"manifest.json").read_text())
    del manifest["alpha"]
    (tmp_path/"index"/"manifest.json").write_text(json.dumps(manifest))
    path = tmp_path/"index"/manifest["null"]
    arrays = dict(np.load(path))
    del arrays["made"]
    np.savez(path, **arrays)
    for name in ("joint", "weights", "tokens", "null_row", "id_rule", "heading_rule"):   # a folder of 0.1.0 has none
        del manifest[name]
    (tmp_path/"index"/"manifest.json").write_text(json.dumps(manifest | {"format": 1}))
    old = GaussianRetriever(index.model, tmp_path/"index")
    assert old.alpha == 0 and old.answer_limit == index.answer_limit and old.search(docs["d1"]).chance is None
    assert np.isnan(EmpiricalNull.load(path).chance(-3.))


def test_a_log_asks_once():
    from ragcun.retrieval.index import unlike
    log = [f"2024 worker-{i} request {i*7} finished in {i} ms with status 200" for i in range(50)]
    other = [f"{w} has words of its own such as {w}ness" for w in ("ice", "salt", "wood")]
    assert unlike([*log, *other]) == [0, 50, 51, 52] and unlike(["one two", "one two"]) == [0, 1]


FEW_MADE = 60   # instead of MADE, so that a small index is large


def test_questions_are_made_from_the_whole_sample_and_not_from_the_first_files(monkeypatch):
    "A sample is in order of arrival: a change log that came first decided alone whether the base knows the documents."
    monkeypatch.setattr("ragcun.retrieval.index.MADE", FEW_MADE)
    asked = []
    whole = GaussianRetriever._made_questions
    monkeypatch.setattr(GaussianRetriever, "_made_questions", lambda self, s: asked.append(s.ids) or whole(self, s))
    index, docs = filled(3 * FEW_MADE)
    index.search("any words at all")
    place = [list(docs).index(i) for i in asked[0]]
    assert len(place) == FEW_MADE // 2 and place == sorted(place)
    thirds = np.bincount(np.array(place) // FEW_MADE, minlength=3)
    assert thirds.min() > .8 * thirds.max()


def test_where_a_log_takes_most_of_a_sample_the_further_questions_are_from_all_of_it(monkeypatch):
    "A second, larger sample is not cut off after its first files either."
    monkeypatch.setattr("ragcun.retrieval.retriever.MADE", FEW_MADE)
    index, docs = filled(3 * FEW_MADE)
    whole = index._made_questions
    sizes = []

    def mostly_log(sample):
        sizes.append(len(sample.ids))
        return whole(sample)[:10] if len(sizes) == 1 else whole(sample)
    monkeypatch.setattr(index, "_made_questions", mostly_log)
    seen = []
    monkeypatch.setattr(index, "_without", lambda q, own, z: seen.extend(own) or [[] for _ in q])
    monkeypatch.setattr(index, "_log_p", lambda *row: 0.)
    made = index._made()
    assert sizes == [FEW_MADE, 3 * FEW_MADE] and FEW_MADE // 2 <= len(made) <= FEW_MADE
    assert max(list(docs).index(i) for [i] in seen) > .9 * len(docs)

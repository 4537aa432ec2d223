"""A fit to documents alone: kept where synthetic questions do not speak against it, given up where they do, and what
is there stays whole."""
import numpy as np
import pytest
from small import WORDS, small_base

from ragcun.cli.commands import main
from ragcun.core import UserError, write_json
from ragcun.measures.paired import Difference
from ragcun.retrieval import adaptation
from ragcun.retrieval.adaptation import adapt_index, fit_documents, hard_questions, opening_pairs
from ragcun.retrieval.retriever import GaussianRetriever


def sentence(rng, n=8):
    return " ".join(rng.choice(WORDS, n)).capitalize() + "."


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return small_base(tmp_path_factory.mktemp("adapt")/"base")


@pytest.fixture
def index_dir(base, tmp_path):
    "150 documents of three sentences, indexed by the command without a model."
    rng = np.random.default_rng(0)
    rows = [{"id": f"d{i}", "text": " ".join(sentence(rng) for _ in range(3))} for i in range(150)]
    write_json(tmp_path/"docs.json", rows)
    assert main(["index", "--documents", str(tmp_path/"docs.json"), "--index_dir", str(tmp_path/"idx"),
                 "--base_model", str(base), "--device", "cpu"]) == 0
    return tmp_path/"idx"


def verdict(mean, p):
    return lambda *a: Difference(mean, mean - .01, mean + .01, p, 150)


def test_what_is_not_worse_beyond_chance_is_kept_and_a_second_time_it_is_there(index_dir, monkeypatch, capsys):
    monkeypatch.setattr(adaptation, "compare_indexes", verdict(-.01, .06))
    before = GaussianRetriever.open(index_dir, device="cpu").store.ids()
    said = adapt_index(index_dir, "cpu")
    assert said.kept and said.pairs == 150 and "kept" in repr(said)
    after = GaussianRetriever.open(index_dir, device="cpu")
    assert after.store.ids() == before and after.model.extra["documents_only"]["s"] == adaptation.SHRINKAGE
    assert len(after.search("how does a machine learning model work", top_k=5)) == 5
    capsys.readouterr()
    assert main(["index", "--documents", str(index_dir.parent/"docs.json"), "--index_dir", str(index_dir), "--fit",
                 "--device", "cpu"]) == 0
    assert "this index has it already" in capsys.readouterr().out


def test_what_is_worse_beyond_chance_is_given_up_and_nothing_is_left(index_dir, monkeypatch):
    monkeypatch.setattr(adaptation, "compare_indexes", verdict(-.02, .03))
    files = sorted(p.name for p in index_dir.parent.iterdir())
    said = adapt_index(index_dir, "cpu")
    assert not said.kept and "given up, the base stays" in repr(said)
    assert sorted(p.name for p in index_dir.parent.iterdir()) == files
    assert "documents_only" not in GaussianRetriever.open(index_dir, device="cpu").model.extra


def test_a_fit_that_fails_leaves_the_index_alone(index_dir, monkeypatch):
    def broken(*a):
        raise UserError("no", "here", "stop")
    monkeypatch.setattr(adaptation, "compare_indexes", broken)
    with pytest.raises(UserError):
        adapt_index(index_dir, "cpu")
    assert [p.name for p in index_dir.parent.iterdir() if "fitted" in p.name] == []
    assert len(GaussianRetriever.open(index_dir, device="cpu")) == 150


def test_texts_without_sentences_ask_with_their_first_words(index_dir):
    index = GaussianRetriever.open(index_dir, device="cpu", runtime="torch")
    index.delete(list(index.store.ids()))
    rng = np.random.default_rng(1)
    index.add([{"id": f"n{i}", "text": " ".join(rng.choice(WORDS, 50))} for i in range(120)])
    asked, own = hard_questions(index)
    assert len(asked) == len(own) == 120 and all(4 <= len(q.split()) <= 12 for q in asked)
    pairs = opening_pairs(index)
    texts = index.store.texts(pairs.document_ids)
    assert len(pairs) == 120
    assert all(texts[d].startswith(q) and len(q.split()) == 12
               for q, d in zip(pairs.query_ids, pairs.document_ids, strict=True))
    assert np.isfinite(fit_documents(index).embed(["a star"])).all()


def test_pairs_and_questions_are_of_all_files_and_not_of_the_first_ones(index_dir):
    index = GaussianRetriever.open(index_dir, device="cpu", runtime="torch")
    places = {name: i for i, name in enumerate(index.store.sample(len(index)).ids)}  # in order of arrival
    for ids in (opening_pairs(index, 20).document_ids, hard_questions(index, 20)[1]):
        where = [places[i]/len(places) for i in ids]
        assert len(where) == 20 and min(where) < .3 and max(where) > .7


def test_too_few_passages_are_a_sentence(base, index_dir):
    index = GaussianRetriever.open(index_dir, device="cpu", runtime="torch")
    index.delete(sorted(index.store.ids())[:100])
    with pytest.raises(UserError, match="50 passages of 50 .* too few to fit to"):
        fit_documents(index)

"""The no-answer rule: against plain code, at its limits, on disk, in an index, and in an index folder of an earlier
version."""
import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import norm

from ragcun.core import UserError
from ragcun.evaluation.abstention import auroc
from ragcun.retrieval.hits import in_blocks, verdict_in_words
from ragcun.retrieval.no_answer import (CANDIDATES, FEW_QUESTIONS, LETTERS, SHARES, AnswerRule, Candidates,
                                        choose_share, fit_answer_rule, load_rule, save_rule, usual_rule,
                                        word_weights, words_of)
from ragcun.retrieval.joint import NORMAL_99, PRIOR
from ragcun.retrieval.retriever import RIGHT_LEVEL, GaussianRetriever
from tiny_encoder import TinyEncoder

WORDS = "ice sea bee heart blood light gene cell star moon tree rock wind fire code disk node key lock page".split()
some_texts = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join), min_size=1, max_size=12)


def slow_weight(word, texts):
    k = max(1, sum(word in t.split() for t in texts))
    n = len(texts)
    return math.log(1 + (n - k + .5) / (k + .5))


@settings(max_examples=100, deadline=None)
@given(some_texts, st.lists(st.sampled_from(WORDS), min_size=1, max_size=6))
def test_coverage_is_the_share_of_weight(texts, asked):
    rule = AnswerRule(*word_weights(texts))
    for text, got in zip(texts, rule.coverage(" ".join(asked), texts), strict=True):
        total = sum(slow_weight(w, texts) for w in set(asked))
        assert got == pytest.approx(sum(slow_weight(w, texts) for w in set(asked) & set(text.split())) / total,
                                    abs=2e-4)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(1e-12, 1), min_size=1, max_size=12), st.floats(0, 4), st.floats(0, 900),
       st.lists(st.booleans(), min_size=12, max_size=12))
def test_the_score_by_hand(p, share, norm2, holds):
    rule = AnswerRule({}, 2., share, 400., 30.)
    texts = ["ice" if h else "sea" for h in holds[:len(p)]]
    best = max(norm.isf(min(x, 1 - 1e-9)) + share * (h - .5) for x, h in zip(p, holds, strict=False))
    want = norm.logsf(best - .5 * max(0, (norm2 - 400) / 30))
    assert rule.log_p(Candidates("ice", norm2, texts, np.log(p))) == pytest.approx(want, rel=1e-3, abs=1e-3)


def test_limits():
    rule = AnswerRule({}, 1., 1., 10., 1.)
    assert rule.log_p(Candidates("x", 5., [], np.array([]))) == 0.
    for p in (0., 1., 1e-300):
        with np.errstate(divide="ignore"):
            assert np.isfinite(rule.log_p(Candidates("x", 5., ["x"], np.log([p]))))
    assert (words_of("Ice, ICE and die Brücke") == {"ice", "and", "die", "brücke"}
            and words_of("x" * LETTERS + " hidden") == {"x" * LETTERS})
    assert rule.coverage("?!", ["x"]).tolist() == [0.]                      # a question without words
    assert word_weights([]) and 0. in SHARES


def made(n, seed, agree):
    rng = np.random.default_rng(seed)
    right = [Candidates("ice sea", 30 + rng.normal(), ["ice sea" if rng.uniform() < agree else "bee"],
                        np.log([rng.uniform() ** 3])) for _ in range(n)]
    wrong = [Candidates("ice sea", 30 + rng.normal(), ["ice sea" if rng.uniform() < .3 else "bee"],
                        np.log([rng.uniform()])) for _ in range(n)]
    return right, wrong


@pytest.mark.parametrize("agree", [.3, .6, 1.])
def test_the_chosen_share_is_the_best_and_holds_on_new_questions(agree):
    rule = AnswerRule(*word_weights(["ice sea", "sea bee", "bee ice"] * 4))
    right, wrong = made(300, 0, agree)
    def area(share, sides):
        r = dataclasses.replace(rule, share=share)
        return auroc(np.array([-r.log_p(c) for s in sides for c in s]), np.repeat([1, 0], [len(s) for s in sides]))
    areas = [area(s, (right, wrong)) for s in SHARES]
    share = choose_share(rule, right, wrong)
    assert areas[SHARES.index(share)] == pytest.approx(max(areas), abs=1e-5)
    new = made(300, 1, agree)
    assert area(share, new) >= area(0., new) - .02
    assert choose_share(rule, wrong, right) != share or agree == .3  # the other way round it chooses otherwise


def test_few_questions_do_not_choose():
    right, wrong = made(FEW_QUESTIONS - 1, 0, 1.)
    assert (fit_answer_rule(["ice", "sea"], right, wrong).share == 1.
            and fit_answer_rule(["ice"], right[:1], wrong).spread == 0.)
    more = made(FEW_QUESTIONS, 0, 1.)
    assert fit_answer_rule(["ice", "sea"] * 9, *more).share > 1.


def test_files(tmp_path):
    rule = AnswerRule({"ice": 1.25, "ß": 2.}, 3., .5, 400., 20.)
    save_rule(tmp_path/"r.json", rule)
    assert load_rule(tmp_path/"r.json") == rule
    for bad in ({}, [], {"weights": [], "unseen": 1, "share": 1, "usual": 1, "spread": 1},
                {"weights": {"a": "b"}, "unseen": 1, "share": 1, "usual": 1, "spread": 1}):
        (tmp_path/"r.json").write_text(json.dumps(bad))
        with pytest.raises(UserError, match="no-answer rule"):
            load_rule(tmp_path/"r.json")


def filled(where=None, n=300):
    rng = np.random.default_rng(0)
    docs = {f"{i}": " ".join(rng.choice(WORDS, 8)) + f" n{i}" for i in range(n)}
    index = GaussianRetriever(TinyEncoder(32), where)
    index.add(docs)
    return index, docs, [" ".join(t.split()[:6]) for t in docs.values()]


def test_an_index_keeps_its_rule(tmp_path):
    index, docs, ask = filled(tmp_path/"index")
    ids = [[i] for i in docs]
    assert index.rule is None and index.search(ask[0]).guess
    limit = index.calibrate(ask[:100], ids[:100], alpha=.1)
    again = GaussianRetriever(index.model, tmp_path/"index")
    assert again.rule == index.rule and again.answer_limit == limit
    assert len(list((tmp_path/"index").glob("answer-*.json"))) == 1
    new = ask[200:230]
    values = index.answer_values(new)
    for top_k in (1, 3, 20):  # the verdict does not depend on how many hits are shown
        results = again.search(new, top_k=top_k)
        assert [r.answered for r in results] == (values <= limit).tolist() and all(len(r) == top_k for r in results)
        np.testing.assert_allclose([r.value for r in results], values, rtol=1e-4)
        assert not any(r.guess for r in results)
    by_e = again.search(ask[200], max_e_value=1.)
    assert by_e.value is None and by_e.limit == 1.                            # an E-value limit decides alone
    refused = next(r for r in results if not r.answered)
    assert "answer value" in repr(refused) and set(refused.to_json()) == {"query", "hits", "answered", "chance"}
    copy = index.save(tmp_path/"copy")
    assert copy.rule == index.rule and len(index.answer_values(ask[:2], [["0"], []])) == 2
    index.calibrate(ask[:60], ids[:60], alpha=.2)
    assert (again.search(ask[200]).limit == index.answer_limit and again.rule == index.rule
            and len(list((tmp_path/"index").glob("answer-*.json"))) == 1)


def test_left_out_answers_are_not_seen():
    index, docs, ask = filled()
    index.calibrate(ask[:200], [[i] for i in docs][:200], alpha=.1)
    index2, _, _ = filled()
    without = index.answer_values(ask[250:251], [["250"]])[0]
    index.delete("250")
    assert without == pytest.approx(index.answer_values(ask[250:251])[0] * 300 / 299, rel=1e-6)
    assert index2.answer_values(ask[:1], [list(docs)])[0] == np.inf            # nothing is left
    assert CANDIDATES == 10


def test_an_earlier_index_folder_decides_by_e_values(tmp_path):
    index, docs, ask = filled(tmp_path/"index")
    path = tmp_path/"index"/"manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["rule"]
    manifest["answer_limit"] = .25
    path.write_text(json.dumps(manifest))
    old = GaussianRetriever(index.model, tmp_path/"index")
    assert old.rule is None
    for r in old.search(ask[:20]):
        assert r.answered == (min(h.e_value for h in r) <= .25) and r.value is None


def test_without_calibration_the_usual_rule_decides(tmp_path):
    index, docs, ask = filled(tmp_path/"index")
    foreign = ["bread oven crust", "goal match referee", "verdict court judge"]
    for reader in (index, GaussianRetriever(index.model, tmp_path/"index")):
        values = reader.answer_values([*ask[:40], *foreign])
        for top_k in (1, 3):
            results = reader.search([*ask[:40], *foreign], top_k=top_k)
            assert [r.answered for r in results] == (values <= 1).tolist() and all(r.guess for r in results)
            np.testing.assert_allclose([r.value for r in results], values, rtol=1e-4)
    by_hand = usual_rule(*index._word_sample())
    hits = index.search(ask[0], top_k=CANDIDATES)
    z = index.encode_queries(ask[:1])[0]
    log_p = index.null.log_p(np.array([[h.raw_evidence for h in hits]]), z[None])[0]
    asked = Candidates(ask[0], float(z @ z), [h.text for h in hits], log_p, [h.kept for h in hits])
    assert values[0] == pytest.approx(300*np.exp(by_hand.log_p(asked)), rel=1e-3)
    results = index.search([*ask[:40], *foreign])
    assert np.mean([r.answered for r in results[:40]]) > .9 and not any(r.answered for r in results[40:])
    said = [verdict_in_words(r) for r in results]
    assert said[0].startswith("an answer was found") and all(s.startswith("probably no answer") for s in said[40:])
    few = GaussianRetriever(index.model)
    few.add(dict(list(docs.items())[:60]))
    assert few.search(ask[0]).value is None and few.search(ask[0]).guess       # so few say little of chance: E-values
    limit = index.calibrate(alpha=.3, unanswerable=foreign * 5)
    again = GaussianRetriever(index.model, tmp_path/"index")
    results = again.search(ask[:9])
    assert again.answer_limit == limit and [r.answered for r in results] == [r.value <= limit for r in results]
    assert not results[0].guess


class Apart(TinyEncoder):
    "Questions lie elsewhere than documents."
    def embed(self, texts, side="document"):
        z = super().embed(texts, side)
        return z if side == "document" else (.6*z).astype(np.float32)


def test_where_questions_lie_elsewhere_e_values_and_words_decide(tmp_path):
    rng = np.random.default_rng(0)
    docs = {f"{i}": ". ".join(" ".join(rng.choice(WORDS, 9)).capitalize() for _ in range(4)) + f" n{i}."
            for i in range(200)}
    ask = [t.split(". ")[1] for t in docs.values()]
    usual = GaussianRetriever(TinyEncoder(32))
    usual.add(docs)
    assert NORMAL_99 != usual.joint.level > RIGHT_LEVEL
    assert usual._is_elsewhere() == (usual.joint.weights.dense < PRIOR.dense) and not filled()[0]._is_elsewhere()
    index = GaussianRetriever(Apart(32), tmp_path/"index")
    index.add(docs)
    reader = GaussianRetriever(Apart(32), tmp_path/"index")
    assert reader.joint.level == index.joint.level < RIGHT_LEVEL and reader._is_elsewhere()
    asked = [*ask[:40], "bread oven crust", "goal match referee"]
    results = reader.search(asked)
    assert [r.answered for r in results] == (reader.answer_values(asked) <= 1).tolist()
    assert np.mean([r.answered for r in results[:40]]) > .9 and not any(r.answered for r in results[40:])
    rule = usual_rule(*index._word_sample())
    hits = reader.search(ask[0], top_k=CANDIDATES)
    share = rule.coverage(ask[0], [h.text for h in hits], [h.kept for h in hits])
    assert results[0].value == pytest.approx(min(h.e_value*np.exp(6*(.5 - c))
                                                 for h, c in zip(hits, share, strict=True)), rel=1e-4)
    index.calibrate(ask[:100], [[i] for i in docs][:100], alpha=.1)      # from here on the fitted rule
    value = index.search(ask[0]).value
    assert value == pytest.approx(index.answer_values(ask[:1])[0], rel=1e-4) != pytest.approx(results[0].value)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(), max_size=30), st.integers(1, 7))
def test_blocks_are_all_items_in_order(items, size):
    blocks = list(in_blocks(iter(items), size))
    assert sum(blocks, []) == items and all(len(b) == size for b in blocks[:-1]) and all(blocks)


def test_the_command_sets_the_limit_from_questions_with_known_answers(tmp_path, capsys, monkeypatch):
    from ragcun.cli.commands import main
    from ragcun.models.encoder import GaussianEncoder
    from small import small_base
    monkeypatch.setenv("RAGCUN_CACHE", str(tmp_path/"cache"))
    GaussianEncoder.from_base(str(small_base(tmp_path)), None, "cpu", "no").save(tmp_path/"model")
    words = ("star cell water planet energy light computer network language plant earth code program "
             "machine data model".split())
    texts = [f"{a} and {b} {a}" for a in words for b in words if a < b]
    (tmp_path/"documents.jsonl").write_text("\n".join(json.dumps({"_id": f"d{i}", "text": t})
                                                      for i, t in enumerate(texts)))
    beir = tmp_path/"beir"
    (beir/"qrels").mkdir(parents=True)
    (beir/"corpus.jsonl").write_text((tmp_path/"documents.jsonl").read_text())
    (beir/"queries.jsonl").write_text("\n".join(json.dumps({"_id": f"q{i}", "text": t.replace("and", "with")})
                                                for i, t in enumerate(texts)))
    (beir/"qrels"/"dev.tsv").write_text("query-id\tcorpus-id\tscore\n"
                                        + "\n".join(f"q{i}\td{i}\t1" for i in range(len(texts))))
    command = ["index", "--model_path", str(tmp_path/"model"), "--documents", str(tmp_path/"documents.jsonl"),
               "--index_dir", str(tmp_path/"ix"), "--device", "cpu"]
    assert main([*command, "--questions", str(beir), "--alpha", ".2"]) == 0
    assert f"limit of an answer from {len(texts)} questions" in capsys.readouterr().out
    assert json.loads((tmp_path/"ix"/"manifest.json").read_text())["answer_limit"] != 1
    assert main([*command, "--alpha", "2"]) == 2 and "--alpha" in capsys.readouterr().err
    assert main([*command, "--split_name", "test"]) == 2 and "Give the questions" in capsys.readouterr().err
    other = json.dumps({"corpus": ["something else"], "queries": ["what else"], "relevance": [[0]]})
    (tmp_path/"other.json").write_text(other)
    assert main([*command, "--questions", str(tmp_path/"other.json"), "--split_name", "test"]) == 2
    assert "--split_name test has no effect" in capsys.readouterr().err
    assert main([*command, "--questions", str(tmp_path/"other.json")]) == 2
    assert "none of the documents that answer these questions" in capsys.readouterr().err

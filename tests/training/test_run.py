"""Whole runs on a tiny random base: full training, low-rank updates, the residual layer, the length of an update."""
import copy
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ragcun.core import UserError
from ragcun.data.collections import RetrievalData
from ragcun.data.negatives import mine_random
from ragcun.data.pairs import PairSet, load_pairs, pair_to_row, pairs_to_retrieval
from ragcun.data.splitting import drop_duplicates, drop_near_duplicates, find_leaks, split_pairs
from ragcun.diagnostics.diagnosis import diagnose
from ragcun.evaluation.comparison import compare
from ragcun.evaluation.evaluation_report import evaluate
from ragcun.losses.total import LossParts
from ragcun.measures.paired import Difference
from ragcun.measures.ranking import evaluate_vectors
from ragcun.models.base import hash_state
from ragcun.models.cache import cache_for
from ragcun.models.encoder import GaussianEncoder
from ragcun.models.evidence import evidence
from ragcun.retrieval.joint import PRIOR, JointWeights
from ragcun.retrieval.measure import ServedGain
from ragcun.retrieval.retriever import GaussianRetriever
from ragcun.training import run
from ragcun.training.closed_form import (Head, HeldOut, Moments, encode_held_out, evidence_samples, few_of_each,
                                         fit_calibration, fit_closed_form, solve_head)
from ragcun.training.config import TrainConfig, resolve_defaults
from ragcun.training.learner import Learner, Progress, ResumableLearner, loss_row
from ragcun.training.record import describe_epoch, metric_rows
from ragcun.training.run import (Candidate, FitResult, candidate_report, final_refit, fit, line_search, refit,
                                 start_candidates, trained_features, unit_spread, whiten, z_moments)
from small import processed, small_base

FULL = dict(epochs=2, batch_size=16, mixed_precision="no", n_slices=4, base_learning_rate=1e-3)
pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(small_base(tmp_path_factory.mktemp("train")))


@pytest.fixture(scope="module")
def pairs():
    return load_pairs(processed("train.json"))


@pytest.fixture(scope="module")
def val():
    return pairs_to_retrieval(load_pairs(processed("val.json")))


def learner(model, pairs, val, folder=None, **more):
    "A learner on a copy of the base."
    mine = model.clone_head()
    mine.base = copy.deepcopy(model.base)
    return Learner(mine, pairs, val, resolve_defaults(TrainConfig(**more), len(pairs)), folder)


def test_full_training_leaves_the_given_base_alone_and_saves_what_it_trained(model, pairs, val, tmp_path):
    before = hash_state(model.base.state_dict())
    result = fit(model, pairs, val, TrainConfig(**FULL), tmp_path/"run")
    assert isinstance(result, FitResult) and hash_state(model.base.state_dict()) == before
    assert set(result.report["candidates"]) == {"base", "closed form", "trained", "trained, refitted",
                                                "trained, then the head"}
    assert result.report["update_scale"] in (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
    texts = list(val.queries.values())
    again = GaussianEncoder.load(tmp_path/"run"/"model", "cpu", "no")
    np.testing.assert_array_equal(again.embed(texts, "query"), result.model.embed(texts, "query"))


def test_a_head_goes_on_where_the_base_was_trained_and_leaves_no_features_behind(model, pairs, val,
                                                                                 tmp_path, monkeypatch):
    # keep the last one, whatever it is worth
    monkeypatch.setattr("ragcun.training.run.decide", lambda scores, *_: len(scores) - 1)
    result = fit(model, pairs, val, TrainConfig(**FULL), tmp_path/"run")
    kept = result.model
    texts = list(val.corpus.values())
    assert (result.report["kept"] == "trained, then the head" and kept.base_changed
            and float(kept.residual.linear.weight.detach().abs().max()) > 0)
    assert hash_state(kept.base.state_dict()) != hash_state(model.base.state_dict())
    folders = [cache_for(m, "query") for m in (model, kept)]
    assert len(folders[0]) and not len(folders[1])  # the base is met again, this trained one is not
    from sentence_transformers import SentenceTransformer
    plain = SentenceTransformer(str(tmp_path/"run"/"model"), device="cpu")
    np.testing.assert_allclose(plain.encode_document(texts, show_progress_bar=False),
                               kept.encode_document(texts), atol=1e-3)
    np.testing.assert_array_equal(GaussianEncoder.load(tmp_path/"run"/"best_model.pt", "cpu", "no").embed(texts),
                                  kept.embed(texts))
    without = fit(model, pairs, val, TrainConfig(**FULL, finish_head=False), tmp_path/"later")
    assert set(result.report["candidates"]) - set(without.report["candidates"]) == {"trained, then the head"}
    for name, row in without.report["candidates"].items():
        assert row == result.report["candidates"][name]  # the others are what they were
    # a finished run is given its head
    later = fit(model, pairs, val, TrainConfig(**FULL, resume_from="auto"), tmp_path/"later")
    assert later.report["candidates"] == result.report["candidates"] and later.model.fingerprint == kept.fingerprint


def test_features_of_a_base_that_no_step_has_moved_stay(model, pairs, val, monkeypatch):
    monkeypatch.setattr("ragcun.training.step.Stepper.apply", lambda *_: 0.0)  # as where every step of fp16 overflows
    monkeypatch.setattr("ragcun.training.run.line_search", lambda *_: 1.0)
    fit(model, pairs, val, TrainConfig(**FULL, finish_head=False))
    assert len(cache_for(model, "query"))


def test_a_residual_layer_is_in_the_calibration_too(model, pairs, val, monkeypatch):
    monkeypatch.setattr("ragcun.training.run.decide", lambda *_: 2)
    kept = fit(model, pairs, val, TrainConfig(freeze_base=True, epochs=8, batch_size=16, mixed_precision="no",
                                              n_slices=4, projection_learning_rate=.02)).model
    h = held(model, val)
    head = Head(*(t.detach().double().numpy() for t in (kept.head.weight, kept.head.bias, kept.rho)), 0.0)
    q, x = (torch.as_tensor(kept.project(side)).double() for side in (h.q, h.x))
    bent = HeldOut(kept.refined(h.q), kept.refined(h.x), h.data)
    related, others = evidence_samples(head, bent)
    rows = bent.related()
    # what a search gives
    np.testing.assert_allclose(related, evidence(q, x, kept.rho.double()).numpy()[rows[:, 0], rows[:, 1]], atol=1e-3)
    right = fit_calibration(related, others)
    wrong = fit_calibration(*evidence_samples(head, h))
    assert (kept.calibration.a, kept.calibration.tau) == pytest.approx((right.a, right.tau), rel=1e-6)
    assert abs(wrong.a - right.a) > .05  # of the features as they were before the layer


def test_the_star_of_the_curves_is_of_the_questions_of_the_rings(model, pairs, val, monkeypatch):
    for user in ("closed_form", "learner"):
        monkeypatch.setattr(f"ragcun.training.{user}.halves",
                            lambda qrels, *_, **__: (list(qrels)[::2], list(qrels)[1::2]))
    monkeypatch.setattr("ragcun.training.run.decide", lambda *_: 1)
    result = fit(model, pairs, val, TrainConfig(freeze_base=True, epochs=1, batch_size=16, mixed_precision="no"))
    start, star = result.rows[0], result.rows[-1]      # training starts where the closed form, which is kept, ends
    assert (start["kind"], star["kind"], star["model"]) == ("start", "kept", "closed form")
    for what in ("val_ndcg@10", "val_pos_dist", "val_participation_ratio", "val_query_participation_ratio"):
        assert star[what] == pytest.approx(start[what], rel=1e-3)
    assert abs(result.report["candidates"]["closed form"]["ndcg@10"] - star["val_ndcg@10"]) > 1e-3   # the other half


def test_fewer_coordinates_are_compared_with_the_whole_base_too(model, pairs, val):
    result = fit(model, pairs, val, TrainConfig(closed_form=True, output_dim=4, mixed_precision="no"))
    held = encode_held_out(model, val)
    base = evaluate_vectors(held.q, held.x, held.data, "ip", 10)["ndcg@10"].mean()
    kept = result.report["kept"]
    assert (result.report["against_whole_base"]["mean"]
            == pytest.approx(result.report["candidates"][kept]["ndcg@10"] - base))
    assert f"In 4 coordinates; against the base with all {model.output_dim} of its own: " in result.sentence
    assert fit(model, pairs, val,
               TrainConfig(closed_form=True, mixed_precision="no")).report["against_whole_base"] is None


def test_the_gain_on_answers_that_were_not_trained_on_is_told(model, pairs, val, monkeypatch):
    """Twelve of the validation questions have an answer that was trained on: the others are compared by themselves."""
    monkeypatch.setattr("ragcun.training.run.decide", lambda *_: 1)
    config = TrainConfig(closed_form=True, mixed_precision="no")
    trained = PairSet(pairs[8:])
    asked = pairs_to_retrieval(PairSet(pairs[:20]))
    both = RetrievalData(asked.corpus | val.corpus, asked.queries | val.queries, asked.qrels | val.qrels)
    assert fit(model, trained, val, config).report["on_new_documents"] is None
    result = fit(model, trained, both, config)
    h = held(model, both)
    gain = np.subtract(*(evaluate_vectors(m.to_query(m.project(h.q, "query")),
                                          m.to_document(m.project(h.x, "document")),
                                          both, "l2", 10)["ndcg@10"] for m in (result.model, model)))
    new = result.report["on_new_documents"]
    assert new["n"] == 8 + len(val.qrels) == len(gain) - 12
    assert new["mean"] == pytest.approx(np.r_[gain[:8], gain[20:]].mean(), abs=1e-6) and abs(gain[8:20]).any()
    assert f"12 of these questions have an answer that was trained on; on the other {new['n']}: " in result.sentence


def test_pairs_that_all_hang_together_cannot_be_set_aside_and_that_is_said(model, pairs):
    one_question = load_pairs([{"query": "the same question", "positive": p.positive} for p in pairs])
    with pytest.raises(UserError, match="share questions or documents in groups of more than a tenth.*--val_data"):
        fit(model, one_question, None, TrainConfig(closed_form=True))
    with pytest.raises(UserError, match="none can be held out"):
        fit_closed_form(model, one_question)


def test_pairs_of_one_document_are_named_whoever_sets_aside(model, pairs, val):
    one_answer = load_pairs([{"query": p.query, "positive": "the handbook"} for p in pairs])
    one_answer.name = "handbook.json"
    for given in (None, val):
        with pytest.raises(UserError, match="43 training pairs with 1 different document say.*handbook.json"):
            fit(model, one_answer, given, TrainConfig(closed_form=True))
    with pytest.raises(UserError, match="1 different document say"):
        fit_closed_form(model, one_answer)


def test_a_validation_document_or_three(model, pairs, caplog):
    config = TrainConfig(freeze_base=True, epochs=1, mixed_precision="no")
    with pytest.raises(UserError, match="1 documents ranks nothing"):
        fit(model, pairs[:40], pairs[40:41], config)
    for grade, name in ((0, "a"), (1, "elsewhere")):      # judged, and nothing relevant that could be found
        empty = RetrievalData({n: f"text {n}" for n in "abcd"}, {"q": "what"}, {"q": {"a": 0, name: grade}}, "empty")
        with pytest.raises(UserError, match="no validation question has a relevant document"):
            fit(model, pairs[:40], empty, config)
    documents = list(dict.fromkeys(pairs[40:].documents))[:3]
    three = [next(p for p in pairs[40:] if p.positive == d) for d in documents]
    with caplog.at_level("INFO", "ragcun"):
        assert fit(model, pairs[:40], PairSet(three), config).report["validation"]["documents"] == 3
    assert "participation ratio –" in caplog.text and " nan" not in caplog.text


def test_a_run_that_was_stopped_is_kept_when_the_same_is_begun_anew(model, pairs, val, tmp_path, monkeypatch, caplog):
    out, config = tmp_path/"run", TrainConfig(freeze_base=True, mixed_precision="no", epochs=3)
    whole = fit(model, pairs, val, config, tmp_path/"whole")
    saved = ResumableLearner.checkpoint
    def stop_after_two(self, name):
        path = saved(self, name)
        if name == "epoch_2": raise KeyboardInterrupt
        return path
    for _ in range(2):                      # of two that were stopped the later one stays
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(ResumableLearner, "checkpoint", stop_after_two)
            fit(model, pairs, val, config, out)
    assert "kept in run/stopped_run" in caplog.text
    fit(model, pairs, val, config, out)
    aside = out/"stopped_run"
    assert {p.name for p in aside.glob("*.pt")} == {"checkpoint_epoch_1.pt", "checkpoint_epoch_2.pt"}
    resumed = fit(model, pairs, val, replace(config, resume_from="auto"), aside)
    assert resumed.rows == whole.rows and resumed.sentence == whole.sentence


def test_a_run_that_starts_anew_leaves_nothing_of_an_earlier_one(model, pairs, val, tmp_path, caplog):
    out = tmp_path/"run"
    def checkpoints():
        return [p.name for p in sorted(out.glob("checkpoint_*.pt"))]
    def run(**more):
        return fit(model, pairs, val, TrainConfig(freeze_base=True, mixed_precision="no", **more), out)
    run(epochs=4)
    assert checkpoints() == ["checkpoint_epoch_3.pt", "checkpoint_epoch_4.pt"]
    (out/"checkpoint_of_mine.pt").write_text("mine")
    (out/"not_finite.json").write_text("{}")
    with caplog.at_level("INFO", "ragcun"):
        first = run(epochs=2, lambda_reg=2.)
    assert caplog.text.count("checkpoints of an earlier run are removed") == 1
    assert checkpoints() == ["checkpoint_epoch_1.pt", "checkpoint_epoch_2.pt", "checkpoint_of_mine.pt"]
    assert not (out/"not_finite.json").exists()
    assert [r["kind"] for r in metric_rows(out)] == [r["kind"] for r in first.rows]
    again = run(epochs=2, lambda_reg=2., resume_from="auto")      # finds its own, not the longer run's
    assert again.rows[:-1] == first.rows[:-1] and again.sentence == first.sentence
    fit(model, pairs, val, TrainConfig(closed_form=True), out)
    assert sorted(p.name for p in out.iterdir()) == ["best_model.pt", "checkpoint_of_mine.pt", "model",
                                                      "report.json"]


@pytest.mark.parametrize("given, said", [
    (dict(closed_form=True, patience=3, resume_from="auto"), ["patience", "resume_from"]),
    (dict(freeze_base=True, weight_decay=.3, allow_changes=True), ["allow_changes", "weight_decay"]),
    (dict(learning_rate=1e-5, base_learning_rate=2e-5), ["learning_rate"]), (dict(micro_batch_tokens=64), []),
    (dict(preset="small", learning_rate=1e-3, epochs=3), [])])
def test_what_changes_nothing_is_said(given, said, caplog):
    with caplog.at_level("WARNING", "ragcun"):
        config = resolve_defaults(TrainConfig(**given), 100)
        assert [m.split()[0] for m in caplog.messages] == said and all(" is not used: " in m for m in caplog.messages)
        resolve_defaults(config, 100)
    assert len(caplog.messages) == 2*len(said)


def test_pairs_come_as_rows_and_a_table_or_a_name_is_refused(model, pairs, val):
    pandas = pytest.importorskip("pandas")
    held = load_pairs(processed("val.json"))
    rows = [pair_to_row(p) for p in pairs]
    wanted = fit_closed_form(model, pairs, val).head_arrays()[0]
    for given in (list(pairs), rows, pandas.DataFrame(rows).to_dict("records"), (p for p in pairs)):
        assert np.array_equal(fit_closed_form(model, given, list(held)).head_arrays()[0], wanted)
    config = TrainConfig(closed_form=True, mixed_precision="no")
    assert fit(model, rows, list(held), config).sentence == fit(model, pairs, val, config).sentence
    report = evaluate(model, list(held), base=False)
    assert report.metrics == evaluate(model, val, base=False).metrics
    assert compare(report, report).difference.mean == 0 and compare(report, report).metric == "ndcg@10"
    assert list(map(len, split_pairs(rows))) == list(map(len, split_pairs(pairs)))
    assert find_leaks(rows, pairs)["query"] == len(pairs) and len(drop_near_duplicates(rows)) <= len(pairs)
    assert drop_duplicates(iter(rows)) == drop_duplicates(pairs) and mine_random(rows) == mine_random(pairs)
    for use in (lambda p: fit(model, p), lambda p: fit_closed_form(model, p), split_pairs, pairs_to_retrieval,
                lambda p: evaluate(model, p), lambda p: diagnose(model, p)):
        for wrong in (pandas.DataFrame(rows), None):
            with pytest.raises(UserError, match=f"^{type(wrong).__name__} is no list of pairs"):
                use(wrong)
    for use in (fit, fit_closed_form, diagnose):
        for wrong, said in (("some/base", "'some/base'"), (model.base, "SentenceTransformer")):
            with pytest.raises(UserError, match=f"a GaussianEncoder is wanted, not {said}"):
                use(wrong, pairs)


@pytest.mark.parametrize("given", [dict(epochs=1.5), dict(epochs="2"), dict(learning_rate="1e-3"), dict(seed=None),
                                   dict(freeze_base="no"), dict(report_to=["jsonl"]), dict(lora_rank=True)])
def test_a_setting_of_another_kind_is_refused(given):
    with pytest.raises(UserError, match=f"^{next(iter(given))} is .*Give "):
        TrainConfig(**given)
    TrainConfig(epochs=np.int64(2), learning_rate=np.float32(1e-3), tau=1, resume_from=Path("c.pt"),
                mixed_precision=True, freeze_base=False)


def test_what_a_closed_form_cannot_do_is_refused_and_arrays_are_taken(model, pairs, val):
    "A dimension of -1 was one less than all, a shrinkage of 2 the base."
    for given in (dict(output_dim=-1), dict(output_dim=0), dict(output_dim=8.), dict(shrinkages=.5),
                  dict(shrinkages=(2.,)), dict(shrinkages=(0., 1.)), dict(documents=[]), dict(documents="one text")):
        with pytest.raises(UserError, match="Give |Write "):
            fit_closed_form(model, pairs, val, **given)
    two = [fit_closed_form(model, pairs, val, np.int64(8), s, d).head_arrays()[0]
           for s, d in (((.5, 1.), pairs.documents), (np.array([.5, 1.]), (t for t in pairs.documents)))]
    assert two[0].shape == (8, 32) and np.array_equal(*two)


def test_a_place_that_cannot_hold_a_model_is_refused_before_the_work(model, pairs, val, tmp_path, monkeypatch):
    (tmp_path/"notes.txt").write_text("years")
    (tmp_path/"run"/"model").mkdir(parents=True)
    (tmp_path/"run"/"model"/"thesis.txt").write_text("years")
    monkeypatch.setattr(run, "encode_held_out", lambda *a: pytest.fail("the work has begun"))
    for place, said in (("notes.txt", "a file, not a folder"), ("notes.txt/deep", "a file, not a folder"),
                        ("run", "other files than a model")):
        with pytest.raises(UserError, match=said):
            fit(model, pairs, val, TrainConfig(closed_form=True), tmp_path/place)
    with pytest.raises(UserError, match="a file, not a folder"):
        model.save(tmp_path/"notes.txt"/"deep")
    assert (tmp_path/"notes.txt").read_text() == (tmp_path/"run"/"model"/"thesis.txt").read_text() == "years"


def test_a_head_that_does_not_fit_is_refused(model):
    weight, bias, rho = model.head_arrays()
    for wrong in ((weight[:, :3], bias, rho), (weight, bias[:3], rho), (weight, bias, rho[:3]),
                  (weight, bias, rho, (weight[:3], bias))):
        with pytest.raises(UserError, match=re.escape("Give W [d, 32], b [d] and ρ [d]")):
            model.clone_head().set_head(*wrong)
    with pytest.raises(UserError, match="outside 0 ≤ ρ < 1"):
        model.clone_head().set_head(weight, bias, rho + 1)
    listed = model.clone_head().set_head(weight.tolist(), bias.tolist(), rho.tolist())
    assert np.array_equal(listed.head_arrays()[0], weight)
    for m in (0, 33, 2.5, None):
        with pytest.raises(UserError, match="Give a whole number from 1 to 32"):
            model.truncate(m)


def test_a_rate_that_was_given_wins_over_the_preset():
    small, large = (resolve_defaults(TrainConfig(preset=p, learning_rate=3e-3), 100) for p in ("small", "large"))
    assert (small.projection_learning_rate, large.base_learning_rate) == (3e-3, 3e-3)
    for given, flag in ((dict(preset="large", freeze_base=True), "preset large trains the base"),
                        (dict(preset="large", residual=False), "--no-residual has no effect"),
                        (dict(preset="small", lora_rank=4), "leave out --preset small")):
        with pytest.raises(UserError, match=flag):
            resolve_defaults(TrainConfig(**given), 100)


def test_no_more_parameters_are_trained_than_there_are(model, pairs, val, caplog):
    with caplog.at_level("INFO", "ragcun"):
        fit(model, pairs, val, TrainConfig(**FULL))
    total, trained = (int(n.replace(",", ""))
                      for n in re.search(r"parameters: ([\d,]+) in all, ([\d,]+) trainable", caplog.text).groups())
    assert trained == total


def test_low_rank_updates_are_merged_and_leave_an_ordinary_base(model, pairs, val, tmp_path, monkeypatch):
    pytest.importorskip("peft")
    monkeypatch.setattr("ragcun.training.run.decide", lambda *_: 2)  # keep the trained model, whatever it is worth
    names = [n for n, _ in model.base.named_parameters()]
    result = fit(model, pairs, val, TrainConfig(**FULL, lora_rank=2), tmp_path/"run")
    assert result.report["kept"] == "trained" and [n for n, _ in result.model.base.named_parameters()] == names
    assert hash_state(result.model.base.state_dict()) != hash_state(model.base.state_dict())
    from sentence_transformers import SentenceTransformer
    plain = SentenceTransformer(str(tmp_path/"run"/"model"), device="cpu")
    texts = list(val.queries.values())
    np.testing.assert_allclose(plain.encode_query(texts, show_progress_bar=False),
                               result.model.encode_query(texts), atol=1e-3)


def test_a_run_with_low_rank_updates_resumes_bit_for_bit(model, pairs, val, tmp_path):
    pytest.importorskip("peft")
    from ragcun.training.step import add_lora
    def make(folder, **more):
        mine = model.clone_head()
        mine.base = copy.deepcopy(model.base)
        return Learner(add_lora(mine, 2, seed=42), pairs, val,
                       resolve_defaults(TrainConfig(**FULL, lora_rank=2, **more), len(pairs)), folder)
    whole = make(tmp_path/"a")
    whole.train()
    first = make(tmp_path/"b")
    first.run_epoch()
    second = make(tmp_path/"b", resume_from="auto")
    second.resume()
    assert second.at.epoch == 1 and second.at.step == first.at.step
    second.train()
    assert second.rows == whole.rows and second.model.fingerprint == whole.model.fingerprint


HEAD = dict(freeze_base=True, epochs=4, batch_size=16, mixed_precision="no", patience=0)


def test_a_run_goes_back_to_an_earlier_checkpoint_at_another_rate(model, pairs, val, tmp_path, caplog):
    out = tmp_path/"run"
    whole = learner(model, pairs, val, out, **HEAD, keep_last=0)
    whole.train()
    per = whole.steps_per_epoch
    caplog.set_level("INFO", "ragcun")
    (out/"not_finite.json").write_text("{}")
    back = learner(model, pairs, val, out, **HEAD, projection_learning_rate=1e-6, allow_changes=True,
                   resume_from=str(out/"checkpoint_epoch_2.pt"))
    back.resume()
    assert sorted(p.name for p in out.glob("*.pt")) == ["checkpoint_epoch_1.pt", "checkpoint_epoch_2.pt"]
    assert "checkpoint_epoch_3.pt, checkpoint_epoch_4.pt" in caplog.text and not (out/"not_finite.json").exists()
    back.run_epoch()
    assert (out/"checkpoint_epoch_3.pt").exists()       # later ones of before would have taken its place
    rate = {of: [r["lr_head"] for r in of.rows if r["kind"] == "step"] for of in (whole, back)}
    assert rate[back][:2*per] == rate[whole][:2*per]
    assert np.allclose(rate[back][2*per:], [r*1e-6/5e-4 for r in rate[whole][2*per:3*per]], atol=1e-7)
    on = learner(model, pairs, val, out, **HEAD, projection_learning_rate=1e-6, resume_from="auto")
    on.resume()
    assert on.at.epoch == 3


def test_a_checkpoint_of_another_folder_says_where_its_log_is(model, pairs, val, tmp_path):
    learner(model, pairs, val, tmp_path/"a", **HEAD).run_epoch()
    other = learner(model, pairs, val, tmp_path/"b", **HEAD, resume_from=str(tmp_path/"a"))
    with pytest.raises(UserError, match="another folder.*checkpoint_epoch_1.pt.*--output_dir .*/a,"):
        other.resume()


def test_a_diverged_run_says_how_to_go_on_and_its_advice_works(model, pairs, val, tmp_path):
    out = tmp_path/"run"
    first = learner(model, pairs, val, out, **HEAD)
    first.run_epoch()
    with torch.no_grad():
        first.model.head.weight.fill_(float("nan"))
    with pytest.raises(UserError) as said:
        first.run_epoch()
    text = str(said.value)
    assert "Lower the learning rate. --resume_from" in text and "mixed_precision" not in text    # it is "no" already
    path = re.search(r"--resume_from (\S+) --allow_changes", text).group(1)
    again = learner(model, pairs, val, out, **HEAD, learning_rate=1e-5, allow_changes=True, resume_from=path)
    again.resume()
    assert again.at.epoch == 1 and again.train() and again.at.epoch == 4


def test_the_residual_layer_is_trained_saved_and_can_be_left_out(model, pairs, val, tmp_path):
    run = learner(model, pairs, val, freeze_base=True, epochs=2, batch_size=16, mixed_precision="no", n_slices=4)
    assert float(run.model.residual.linear.weight.detach().abs().max()) == 0
    run.train()
    assert float(run.model.residual.linear.weight.detach().abs().max()) > 0
    run.model.save(tmp_path/"model")
    again = GaussianEncoder.load(tmp_path/"model", "cpu", "no")
    texts = list(val.queries.values())
    np.testing.assert_array_equal(again.embed(texts), run.model.embed(texts))
    assert learner(model, pairs, val, freeze_base=True, residual=False, mixed_precision="no").model.residual is None
    # full training has the base itself to bend
    assert learner(model, pairs, val, mixed_precision="no").model.residual is None


def test_state_of_a_residual_run_can_be_put_back(model, pairs, val):
    run = learner(model, pairs, val, freeze_base=True, epochs=1, batch_size=16, mixed_precision="no", n_slices=4)
    start = run.trained_state()
    run.train()
    assert not torch.equal(run.model.residual.linear.weight, start["residual"]["linear.weight"])
    run.set_trained_state(start)
    assert torch.equal(run.model.residual.linear.weight, start["residual"]["linear.weight"])
    assert run.at == Progress(**vars(run.at)) and run.at.epoch == 1


def test_the_cosine_part_trains_the_base_and_nothing_else(model, pairs, val):
    only = dict(lambda_contrastive=0.0, lambda_isotropy=0.0, lambda_reg=0.0)
    run = learner(model, pairs, val, **FULL, **only, lambda_cosine=1.0)
    base = hash_state(run.model.base.state_dict())
    head = run.model.head.weight.detach().clone()
    row = run.step(np.arange(16))
    assert row["cosine"] > 0 and row["loss"] == pytest.approx(row["cosine"])
    assert hash_state(run.model.base.state_dict()) != base and torch.equal(run.model.head.weight, head)
    with pytest.raises(UserError, match="nothing to learn"):
        TrainConfig(**only, lambda_cosine=0.0)


def test_with_a_frozen_base_the_cosine_part_trains_the_residual_layer(model, pairs, val):
    only = dict(lambda_contrastive=0.0, lambda_isotropy=0.0, lambda_reg=0.0, freeze_base=True, mixed_precision="no",
                batch_size=16)
    run = learner(model, pairs, val, **only)
    base = hash_state(run.model.base.state_dict())
    head = run.model.head.weight.detach().clone()
    losses = [run.step(np.arange(16)) for _ in range(8)]
    assert losses[0]["loss"] == pytest.approx(10*losses[0]["cosine"]) and losses[-1]["cosine"] < losses[0]["cosine"]
    assert hash_state(run.model.base.state_dict()) == base and torch.equal(run.model.head.weight, head)
    h = torch.as_tensor(model.features(pairs.queries[:5], "query"))
    bent = run.model.refine(h).detach().numpy()
    assert np.abs(bent - h.numpy()).max() > 1e-3
    np.testing.assert_allclose(run.model.refined(h.numpy()), bent, atol=1e-6)
    with pytest.raises(UserError, match="without a residual layer"):
        TrainConfig(freeze_base=True, residual=False, lambda_cosine=1.0)


def test_a_refit_starts_from_what_the_residual_layer_was_trained_to(model, pairs, val):
    config = resolve_defaults(TrainConfig(freeze_base=True), len(pairs))
    trained = model.clone_head().add_residual()
    with torch.no_grad():
        trained.residual.linear.weight.normal_(std=.3, generator=torch.Generator().manual_seed(0))
    features, data = trained_features(trained, pairs), held(trained, val)
    chosen = refit(trained, features, data, config)
    bent = HeldOut(trained.refined(data.q), trained.refined(data.x), data.data)
    moments = Moments.of(trained.refined(features.q), trained.refined(features.x))
    values = [bent.ndcg(solve_head(moments, s)).mean() for s in (.03, .1, .2, .3, .45, .6, .8, .9, .95, .98)]
    assert chosen.scores()["ndcg@10"].mean() == pytest.approx(max(values), abs=1e-6)


def test_an_epoch_takes_a_few_pairs_of_each_query():
    rows = few_of_each(["a"]*50 + ["b"]*3 + ["c"], 5, np.random.default_rng(0))
    assert len(rows) == 9 and len(set(rows)) == 9 and sum(rows < 50) == 5 and list(rows) != sorted(rows)


def test_a_cosine_critic_keeps_its_large_temperature(model, pairs, val):
    run = learner(model, pairs, val, freeze_base=True, critic="cosine", epochs=1, mixed_precision="no", n_slices=4)
    assert float(run.critic.tau.detach()) == pytest.approx(20, rel=1e-5)
    run.train()
    assert float(run.critic.tau.detach()) > 10


def moved(model, seed=0, size=0.3):
    "A copy whose base has other weights."
    other = model.clone_head()
    other.base = copy.deepcopy(model.base)
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in other.base.parameters():
            p.add_(size*p.std().nan_to_num(0)*torch.randn(p.shape, generator=g))
    return other


def test_the_line_search_puts_the_weights_where_it_says(model, val):
    trained = moved(model)
    before = model.base.state_dict()
    after = {k: t.clone() for k, t in trained.base.state_dict().items()}
    a = line_search(model, trained, val)
    for k, t in trained.base.state_dict().items():
        if t.is_floating_point():
            torch.testing.assert_close(t, before[k] + a*(after[k] - before[k]))
    nothing = moved(model, size=0.0)
    assert line_search(model, nothing, val) == 1.0
    assert hash_state(nothing.base.state_dict()) == hash_state(model.base.state_dict())


def test_the_line_search_goes_back_from_an_update_that_ruined_the_base(pairs, tmp_path):
    everything = pairs_to_retrieval(pairs)
    good = GaussianEncoder.from_base(None, None, "cpu", "no")
    assert line_search(good, moved(good, size=1.0), everything) < 1


def held(model, val):
    "Validation features."
    return encode_held_out(model, val)


def test_unit_spread_changes_the_spread_and_no_order(model, val):
    rng = np.random.default_rng(0)
    d = model.output_dim
    model.set_head(rng.normal(size=(d, d)), rng.normal(size=d), np.sort(rng.uniform(.1, .9, d))[::-1])
    before = Candidate("trained", model, held(model, val))
    after = unit_spread(before)
    std, residual = (after.health()[k] for k in ("embedding_std", "pos_residual"))
    # the spread comes first
    assert before.health()["embedding_std"] != pytest.approx(1, abs=.01) and abs(std - 1) < .0501
    assert std**2*residual == pytest.approx(1, abs=1e-4) or abs(std - 1) > .047
    order = [[c.model.to_query(c.model.project(c.held.q)), c.model.to_document(c.model.project(c.held.x))]
             for c in (before, after)]
    ranks = [((q[:, None] - x[None])**2).sum(2).argsort(1) for q, x in order]
    np.testing.assert_array_equal(*ranks)
    q, x = (after.model.project(f) for f in (after.held.q, after.held.x))
    rows = after.held.related()
    # of the pairs, not of the corpus
    assert np.concatenate([q[rows[:, 0]], x[rows[:, 1]]]).var(0, ddof=1).mean()**.5 == pytest.approx(std, rel=1e-5)
    # forgets the bias
    broken = model.clone_head().set_head(model.head.weight.detach().numpy()/3, model.head.bias.detach().numpy(),
                                         model.rho_numpy)
    q = broken.to_query(broken.project(before.held.q))
    x = broken.to_document(broken.project(before.held.x))
    assert (((q[:, None] - x[None])**2).sum(2).argsort(1) != ranks[0]).any()


def test_whitened_coordinates_keep_the_score_and_are_refused_where_they_cost_quality(model, pairs, val, monkeypatch):
    features = trained_features(model, pairs)
    plain = solve_head(Moments.of(features.q, features.x), .6, isotropic=False)
    before = Candidate("trained", model.set_head(plain.weight, plain.bias, plain.rho), held(model, val))
    monkeypatch.setattr("ragcun.training.run.clearly_better", lambda gain: False)
    after = whiten(before, features)
    weights = [c.model.head.weight.detach().double().numpy() for c in (before, after)]
    scores = [(w.T*(r/(1 - r**2))) @ w for w, r in zip(weights,
                                                       (before.model.rho_numpy, after.model.rho_numpy), strict=True)]
    assert np.abs(scores[0] - scores[1]).max() < .05*np.abs(scores[0]).max()  # but for ρ at the ends of its range
    whitened, trained = (np.linalg.eigvalsh(z_moments(c.model, features).solve_for()[1]) for c in (after, before))
    assert whitened[-1]/whitened.mean() < .9*trained[-1]/trained.mean()
    monkeypatch.setattr("ragcun.training.run.clearly_better", lambda gain: True)
    assert whiten(before, features) is before


def test_the_refit_is_the_best_of_its_candidates(model, pairs, val):
    config = resolve_defaults(TrainConfig(**FULL), len(pairs))
    trained = moved(model)
    trained.base_changed = True
    chosen = refit(trained, trained_features(trained, pairs), held(trained, val), config)
    moments = Moments.of(trained.features(pairs.queries, "query"), trained.features(pairs.documents))
    values = [chosen.held.ndcg(solve_head(moments, s)).mean() for s in (.03, .1, .2, .3, .45, .6, .8)]
    assert chosen.scores()["ndcg@10"].mean() == pytest.approx(max(values), abs=1e-6)


def test_candidates_are_compared_with_the_base_and_refitted_on_everything(model, pairs, val):
    features = encode_held_out(model, val)
    candidates = start_candidates(model, pairs, features, TrainConfig())
    kept, table = candidate_report(candidates)
    assert [c.name for c in candidates] == ["base", "closed form"] and kept in (0, 1)
    assert table["base"]["against_base"]["mean"] == 0
    base = evaluate_vectors(features.q, features.x, val, "ip")["ndcg@10"].mean()
    assert table["base"]["ndcg@10"] == pytest.approx(base, abs=1e-9)
    final = final_refit(model, pairs, candidates[0])
    q = final.model.features(list(val.queries.values()), "query")
    assert np.corrcoef(final.model.project(q).ravel(), q.ravel())[0, 1] > .999  # s = 1 is the base's own geometry


@pytest.mark.parametrize("worse", [True, False])
def test_what_search_returns_has_the_last_word(model, pairs, val, worse, monkeypatch, tmp_path):
    monkeypatch.setattr(run, "decide", lambda *_: 1)
    asked = []
    weights = JointWeights(.9, 2., .7, -3.)

    def served(before, after, data):
        asked.append((before, after, data))
        low, high = (-.2, -.1) if worse else (-.2, .1)
        return ServedGain(.8, .7, Difference((low + high) / 2, low, high, .01, 9), weights)

    result = fit(model, pairs, val, TrainConfig(closed_form=True), tmp_path, served)
    (before, after, data), = asked
    assert data is val and result.model is (before if worse else after)
    assert result.report["kept"] == ("base" if worse else "closed form")
    assert ("answer list is worse" in result.sentence) == worse and "as an index serves it" in result.sentence
    kept = GaussianEncoder.load(tmp_path/"model")
    assert GaussianRetriever(kept).weights == (PRIOR if worse else weights)


def test_the_dial_can_be_set(model, pairs, val):
    features = encode_held_out(model, val)
    def closed(**more):
        return start_candidates(model, pairs, features, TrainConfig(closed_form=True, **more))[1]
    narrow = closed(shrinkage=.05)
    wide = closed(shrinkage=.05, isotropic_corpus=True)
    assert narrow.model.extra["closed_form"]["s"] == wide.model.extra["closed_form"]["s"] == .05
    assert wide.health()["participation_ratio"] > narrow.health()["participation_ratio"] + .05
    assert closed(shrinkage=.8).health()["participation_ratio"] < narrow.health()["participation_ratio"]
    final = final_refit(model, pairs, wide, features.x)
    assert final.health()["participation_ratio"] > final_refit(model, pairs, narrow).health()["participation_ratio"]
    for s in (0, 1.5, float("nan")):
        with pytest.raises(UserError, match="shrinkage"):
            TrainConfig(shrinkage=s)


def test_an_epoch_is_described_in_words(caplog):
    parts = LossParts(*(torch.tensor(float(i)) for i in range(6)))
    row = {f"{side}_{k}": v for side in ("train", "val") for k, v in loss_row(parts).items()}
    row |= {f"{side}_{k}": 1.0 for side in ("train", "val") for k in ("pos_dist", "embedding_std")}
    row |= {"val_ndcg@10": .5, "val_recall@10": .6, "val_participation_ratio": .7}
    with caplog.at_level("INFO", "ragcun"):
        describe_epoch(row, 1, 3)
    text = caplog.text
    assert "epoch 1 of 3" in text and "cosine 5.0000" in text and "NDCG@10 0.5000" in text and "far from 1" not in text
    narrow = row | {"val_embedding_std": .2, "val_pos_dist": .3}
    for before in (row, narrow):
        describe_epoch(narrow, 2, 3, before)
    # said when it begins, and not again
    assert caplog.text.count("far from 1") == 1 and caplog.text.count("nothing was learned") == 1

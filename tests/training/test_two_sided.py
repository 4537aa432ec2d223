"""A map for each side through a whole run: fit, head training, saved folder, resume; and masks that know all pairs."""
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from ragcun import GaussianEncoder, GaussianRetriever, TrainConfig, fit
from ragcun.core import UserError
from ragcun.data.collections import RetrievalData
from ragcun.data.pairs import Pair, PairSet, pairs_to_retrieval
from ragcun.diagnostics.capacity import measure_recall
from ragcun.models.evidence import evidence, evidence_from_distance, information
from ragcun.models.saving import pack_model
from ragcun.retrieval.null import fit_null
from ragcun.retrieval.quantization import QuantizedStore
from ragcun.training import run
from ragcun.training.closed_form import (MANY, POOLS, SHRINKAGES, HeldOut, Moments, ascend, choose_point,
                                         choose_shrinkage, choose_two_sided, encode_held_out, pair_features, solve,
                                         solve_two_sided, validation_splits)
from ragcun.training.config import resolve_defaults
from ragcun.training.learner import Learner
from ragcun.training.run import (Candidate, _to_train, compose, cross_fit, head_of, refit, start_candidates,
                                 trained_features, training_start, unit_spread, whiten, with_head, z_moments)
from ragcun.training.selection import ENOUGH, beyond_chance, decide, halves
from ragcun.training.step import lay_out
from small import small_base

WORDS = [f"w{a}{b}" for a in "abcdefgh" for b in "abcdefgh"]


def many_pairs(n=240, seed=0, start=0):
    "Questions of two words whose answer says two other words: the sides have nothing in common but a rule."
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        a, b = rng.integers(0, len(WORDS), 2)
        rows.append(Pair(f"{WORDS[a]} {WORDS[b]} number {start + i}",
                         f"{WORDS[(a + 7) % 64]} {WORDS[(b + 7) % 64]} item {start + i}"))
    return PairSet(rows, "many")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return str(small_base(tmp_path_factory.mktemp("two")/"tiny", width=16, layers=1))


@pytest.fixture()
def model(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("RAGCUN_CACHE", str(tmp_path/"cache"))
    return GaussianEncoder.from_base(tiny, None, "cpu", "no")


@pytest.fixture()
def two(model):
    "A model whose sides have different heads."
    features = pair_features(model, many_pairs())
    head = solve_two_sided(features.moments, .3)
    return with_head(model, head)


QUICK = {"freeze_base": True, "epochs": 2, "batch_size": 64, "mixed_precision": "no", "n_slices": 4}


def test_a_head_and_a_model_agree_about_both_sides(model, two):
    features = pair_features(model, many_pairs())
    head = solve_two_sided(features.moments, .3)
    for h, side in ((features.q, "query"), (features.x, "document")):
        np.testing.assert_allclose(two.project(h, side), head.project(h, side), atol=1e-4)
    assert np.abs(two.project(features.q, "document") - two.project(features.q, "query")).max() > .1
    with pytest.raises(UserError, match="which side"):
        two.project(features.q)
    again = head_of(two)
    np.testing.assert_allclose(again.query[0], head.query[0], atol=1e-6)


def test_the_search_ranks_by_both_heads(two):
    pairs = many_pairs(40)
    index = GaussianRetriever(two)
    index.add(list(pairs.documents))
    evidence = two.evidence(pairs.queries[:5], pairs.documents)
    for row, question in zip(evidence, pairs.queries[:5], strict=True):
        hits = index.search(question, top_k=3, words=0)
        best = [pairs.documents[i] for i in np.argsort(-row)[:3]]
        assert [h.text for h in hits] == best
        assert hits[0].evidence > hits[1].evidence


def test_folder_file_and_plain_sentence_transformers_rank_alike(two, tmp_path):
    from sentence_transformers import SentenceTransformer
    pairs = many_pairs(30)
    for model in (two, two.truncate(6)):
        folder = model.save(tmp_path/f"m{model.output_dim}")
        plain = SentenceTransformer(str(folder), device="cpu")
        for mine, theirs in ((model.encode_query, plain.encode_query), (model.encode_document, plain.encode_document)):
            np.testing.assert_allclose(mine(pairs.queries), theirs(pairs.queries), atol=1e-4)
        again = GaussianEncoder.load(folder, "cpu", "no")
        assert again.fingerprint == model.fingerprint and again.query_head is not None
        assert '"ragcun-2"' in (folder/"ragcun.json").read_text()


def test_head_training_goes_on_with_both_heads_and_resumes(two, tmp_path):
    pairs, val = many_pairs(), pairs_to_retrieval(many_pairs(30, 1, 1000))
    config = resolve_defaults(TrainConfig(**QUICK), len(pairs))
    before = two.query_head.weight.detach().clone()
    whole = Learner(two.clone_head(), pairs, val, config, tmp_path/"a")
    assert any(p is whole.model.query_head.weight for g in whole.stepper.optimizer.param_groups for p in g["params"])
    first = whole.train()
    assert not torch.equal(first.query_head.weight, before)
    assert not torch.equal(first.head.weight, first.query_head.weight)
    (tmp_path/"a"/"checkpoint_epoch_2.pt").unlink()
    (tmp_path/"a"/"checkpoint_epoch_2.json").unlink()
    config = resolve_defaults(TrainConfig(**QUICK, resume_from="auto"), len(pairs))
    again = Learner(two.clone_head(), pairs, val, config, tmp_path/"a")
    again.resume()
    assert again.at.epoch == 1
    assert again.train().fingerprint == first.fingerprint
    plain = with_head(two, solve(trained_features(two, pairs).moments, .3, None))
    one = Learner(plain, pairs, val, config, tmp_path/"a")
    one.resume()                                  # a start with one head takes the two of the checkpoint
    assert one.train().fingerprint == first.fingerprint


def test_a_checkpoint_of_one_head_goes_on_with_one(two, tmp_path):
    pairs, val = many_pairs(), pairs_to_retrieval(many_pairs(30, 1, 1000))
    config = resolve_defaults(TrainConfig(**QUICK), len(pairs))
    plain = with_head(two, solve(trained_features(two, pairs).moments, .3, None))
    first = Learner(plain, pairs, val, config, tmp_path/"a").train()
    (tmp_path/"a"/"checkpoint_epoch_2.pt").unlink()
    (tmp_path/"a"/"checkpoint_epoch_2.json").unlink()
    config = resolve_defaults(TrainConfig(**QUICK, resume_from="auto"), len(pairs))
    again = Learner(two.clone_head(), pairs, val, config, tmp_path/"a")
    again.resume()
    assert again.model.query_head is None and again.train().fingerprint == first.fingerprint


def by_hand(model, pairs):
    "Evidence of each question with each document, from the two affine maps and nothing else of the model."
    (weight, bias, rho), (query_weight, query_bias) = model.head_arrays(), model.query_arrays()
    q = model.features(pairs.queries, "query") @ query_weight.T + query_bias
    x = model.features(pairs.documents, "document") @ weight.T + bias
    return q.astype(float), x.astype(float), evidence(q.astype(float), x.astype(float), rho.astype(float))


def two_files(two, pairs, folder):
    "The folder packed into one file."
    pack_model(two.save(folder/"m"), folder/"best.pt")
    return GaussianEncoder.load(folder/"best.pt", "cpu", "no").evidence(pairs.queries, pairs.documents)


def low_rank(two, pairs, folder):
    "Low-rank updates of the base, trained under both heads, merged and saved."
    pytest.importorskip("peft")
    config = resolve_defaults(TrainConfig(lora_rank=2, epochs=1, batch_size=20, mixed_precision="no", n_slices=4), 40)
    start = _to_train(two, config)
    trained = Learner(start, pairs, pairs_to_retrieval(many_pairs(30, 1, 1000)), config).train()
    again = GaussianEncoder.load(trained.save(folder/"m"), "cpu", "no")
    assert not np.allclose(trained.query_head.weight.detach(), two.query_head.weight.detach(), atol=1e-5)
    np.testing.assert_allclose(by_hand(trained, pairs)[2], by_hand(again, pairs)[2], atol=1e-2)
    return again.evidence(pairs.queries, pairs.documents), by_hand(trained, pairs)[2]


def refitted(two, pairs, folder):
    "The closed form on what was trained."
    config = resolve_defaults(TrainConfig(freeze_base=True, residual=False, shrinkage=.3), len(pairs))
    data = pairs_to_retrieval(pairs)
    held = HeldOut(two.features(list(data.queries.values()), "query"), two.features(list(data.corpus.values())), data)
    best = refit(two, trained_features(two, many_pairs()), held, config).model
    if best.query_head is None:  # one map was better here: two are composed all the same
        moments = z_moments(two, trained_features(two, many_pairs()))
        best = with_head(two, compose(solve(moments, .3, .25), two))
    return best.evidence(pairs.queries, pairs.documents), by_hand(best, pairs)[2]


def quantised(two, pairs, folder):
    "Four bits a coordinate: questions stay exact, documents are what their codes say."
    store = QuantizedStore(two.rho_numpy, 4)
    index = GaussianRetriever(two, store=store)
    index.add([{"id": str(i), "text": t} for i, t in enumerate(pairs.documents)])
    found = np.full((len(pairs), len(pairs)), -np.inf)
    for i, question in enumerate(pairs.queries):
        for hit in index.search(question, top_k=len(pairs), words=0):
            found[i, int(hit.id)] = hit.dense
    q, x, _ = by_hand(two, pairs)
    return found, evidence(q, store.coder.decode(store.coder.encode(x)).astype(float), two.rho_numpy)


def null_of(two, pairs, folder):
    "The rank of p-values is that of the evidence, for a law that was fitted on both sides."
    q, x, e = by_hand(two, pairs)
    law = fit_null(x, two.rho_numpy, q, [[i] for i in range(len(q))])
    raw = evidence(two.embed(pairs.queries, "query").astype(float), x, two.rho_numpy)
    return -law.log_p(raw, two.embed(pairs.queries, "query").astype(float)), e


def capacity_of(two, pairs, folder):
    "Recall@1 is that of the two maps."
    e = by_hand(two, pairs)[2]
    u, v = two.encode_query(pairs.queries), two.encode_document(pairs.documents)
    measured = measure_recall(u, v, [{i} for i in range(len(u))], [len(v)])[0]
    assert measured == np.mean(e.argmax(1) == np.arange(len(e))) > 0
    return evidence_from_distance(np.linalg.norm(u[:, None].astype(float) - v, axis=2), by_hand(two, pairs)[0],
                                  two.rho_numpy), e


@pytest.mark.parametrize("ability", [two_files, low_rank, refitted, quantised, null_of, capacity_of])
def test_what_is_done_with_two_heads_ranks_as_they_do(two, ability, tmp_path):
    pairs = many_pairs(40)
    found = ability(two, pairs, tmp_path)
    mine, reference = found if isinstance(found, tuple) else (found, by_hand(two, pairs)[2])
    close = np.abs(reference[:, :, None] - reference[:, None]) < 1e-3*np.abs(reference).max()  # rounding may turn these
    swapped = (mine[:, :, None] > mine[:, None]) != (reference[:, :, None] > reference[:, None])
    assert not (swapped & ~close).any()
    one = with_head(two, replace(head_of(two), query=None))  # the head of documents for both sides ranks otherwise
    assert (one.evidence(pairs.queries, pairs.documents).argmax(1) != reference.argmax(1)).mean() > .2


def test_refit_whitening_and_spread_of_two_heads(two):
    pairs = many_pairs()
    features = trained_features(two, pairs)
    data = pairs_to_retrieval(many_pairs(60, 1, 1000))
    held = HeldOut(two.features(list(data.queries.values()), "query"), two.features(list(data.corpus.values())), data)
    start = Candidate("trained", two, held)
    turned = whiten(start, features)
    for side, h in (("query", features.q), ("document", features.x)):
        form = [np.einsum("ki,k,kj->ij", m.query_arrays()[0], m.rho_numpy/(1 - m.rho_numpy**2), m.head_arrays()[0])
                for m in (two, turned.model)]
        assert np.abs(form[0] - form[1]).max() < .05*np.abs(form[0]).max()
        assert .8 < turned.model.project(h, side).var(0).mean() < 1.2
    unit = unit_spread(turned)
    np.testing.assert_allclose(unit.scores()["ndcg@10"], turned.scores()["ndcg@10"])
    best = refit(two, features, held, resolve_defaults(TrainConfig(freeze_base=True), len(pairs)))
    assert best.scores()["ndcg@10"].mean() >= turned.scores()["ndcg@10"].mean() - .05
    once = compose(head_of(unit.model), with_head(two, solve(features.moments, 1., None)))
    assert once.query is not None


def test_the_form_is_chosen_and_kept_by_a_run(model, tmp_path):
    pairs = many_pairs(210)
    result = fit(model, pairs, pairs_to_retrieval(many_pairs(220, 5, 5000)), TrainConfig(**QUICK), tmp_path/"run")
    said = result.report["closed_form"]
    assert [p["s"] for p in said["points"]][-3:] == [.9, .95, 1.] and len(said["two_sided"]) >= 9 + 3
    assert result.report["validation"]["deciding"] == 110
    further = [c["cross_fitted"] for c in result.report["candidates"].values()]
    assert [f["n"] for f in further] == [210]*4 and further[0]["mean"] == 0   # each training question once
    again = GaussianEncoder.load(tmp_path/"run"/"model", "cpu", "no")
    some = pairs.queries[:5]
    np.testing.assert_array_equal(again.embed(some, "query"), result.model.embed(some, "query"))
    assert (said["pool"] is not None) >= (again.query_head is not None and result.report["kept"] == "closed form")


def test_further_questions_are_asked_only_where_few_decide(model, monkeypatch):
    pairs, val = many_pairs(230), many_pairs(30, 1, 1000)
    config = resolve_defaults(TrainConfig(**QUICK), 230)
    held = encode_held_out(model, val)
    candidates = start_candidates(model, pairs, held, config)
    asked = []
    def instead(model, rest, val, candidates, config, third):
        asked.append((rest, third))
        return [[0.]]
    monkeypatch.setattr("ragcun.training.run._fold_scores", instead)
    assert len(cross_fit(model, pairs, held.data, candidates, config)[0]) == 3
    for rest, third in asked:
        assert not set(rest.queries) & {pairs.queries[pairs.query_ids.index(q)] for q in third.data.queries}
    assert sum(len(rest) for rest, _ in asked) == 2*230 and sum(len(third.q) for _, third in asked) == 230
    assert cross_fit(model, pairs, held.data, candidates, replace(config, isotropic_corpus=True)) == []
    assert cross_fit(model, many_pairs(MANY - 1), held.data, candidates, config) == []
    monkeypatch.setattr("ragcun.training.run.ENOUGH_TO_DECIDE", 30)
    assert cross_fit(model, pairs, held.data, candidates, config) == []


def test_features_of_a_frozen_base_are_centred_for_the_cosine(two):
    pairs, val = many_pairs(), pairs_to_retrieval(many_pairs(30, 1, 1000))
    config = resolve_defaults(TrainConfig(**QUICK), len(pairs))
    learner = Learner(two.clone_head(), pairs, val, config)
    h = learner.source.table
    np.testing.assert_allclose(learner.centre, (h["query"].mean(0) + h["document"].mean(0))/2, atol=1e-6)
    rows = learner.batches(0)[0]
    q, x = (learner.source.features([getattr(pairs[int(i)], n) for i in rows], s)
            for n, s in (("query", "query"), ("positive", "document")))
    scores = 20*torch.nn.functional.normalize(torch.as_tensor(q) - learner.centre) @ torch.nn.functional.normalize(
        torch.as_tensor(x) - learner.centre).T
    want = float(torch.nn.functional.cross_entropy(scores, torch.arange(len(rows))))
    assert learner.step(rows)["cosine"] == pytest.approx(want, rel=1e-4)
    learner.centre = 0.0
    other = learner.step(rows)["cosine"]
    assert abs(other - want) > 1e-3*want and not learner.facts()["centred"]


def test_steps_of_a_head_start_from_the_maps_of_the_closed_form(model, two, monkeypatch):
    "Its second map is there only where it is clearly better: to begin from a single one would lose that."
    begun = []
    def with_two(*asked):
        base, closed = start_candidates(*asked)
        two.extra = closed.model.extra
        return [base, replace(closed, model=two)]
    class Noted(Learner):
        def __init__(self, start, *more):
            begun.append(start)
            super().__init__(start, *more)
    monkeypatch.setattr(run, "start_candidates", with_two)
    monkeypatch.setattr(run, "Learner", Noted)
    result = fit(model, many_pairs(), None, TrainConfig(**QUICK | {"epochs": 1}))
    assert begun and begun[0] is not two and "trained" in result.report["candidates"]
    np.testing.assert_allclose(begun[0].query_arrays()[0], two.query_arrays()[0], atol=.1)
    assert np.abs(begun[0].query_arrays()[0] - begun[0].head_arrays()[0]).max() > .1


def test_a_base_that_is_trained_starts_with_one_map(model, two):
    pairs = many_pairs()
    held = validation_splits(pair_features(model, pairs))[0][1]
    points = [{"s": .2, "ndcg@10": .5}, {"s": .6, "ndcg@10": .7}, {"s": 1.0, "ndcg@10": .4}]
    two.extra = {"closed_form": {"points": points, "pool": .25}}
    closed, whole = Candidate("closed form", two, held), TrainConfig(freeze_base=False)
    assert training_start(closed, pairs, TrainConfig(freeze_base=True)) is two
    start = training_start(closed, pairs, whole)
    assert start.query_head is None and two.query_head is not None and start.extra == two.extra
    want = solve(pair_features(model, pairs).moments, .6, None, model.output_dim)
    ratio = start.head_arrays()[0]/want.weight
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-3)     # the same head, but for its unit
    assert training_start(Candidate("closed form", start, held), pairs, whole) is start


def test_few_pairs_have_one_map_and_coarse_shrinkages(model):
    pairs = many_pairs(MANY - 1)
    form = fit(model, pairs, None, TrainConfig(closed_form=True, mixed_precision="no")).report["closed_form"]
    assert form["pool"] is None and form["two_sided"] == [] and .95 not in [p["s"] for p in form["points"]]


def test_s_and_pool_are_searched_in_turn_until_neither_is_better_elsewhere(model):
    features = pair_features(model, many_pairs(300))
    splits = validation_splits(features)
    sides = choose_two_sided(splits)
    steps = [s for s in SHRINKAGES if s < 1]
    seen = {(p.s, p.pool): p.ndcg for p in sides}
    best = max(seen, key=lambda f: (seen[f], f[0]))
    assert len(seen) == len(sides) and {(s, POOLS[0]) for s in steps} <= seen.keys()
    assert {(s, best[1]) for s in steps} | {(best[0], pool) for pool in POOLS} <= seen.keys()
    assert choose_point(choose_shrinkage(splits) + sides, gated=False) in choose_shrinkage(splits) + sides


def test_the_best_s_of_the_first_pool_may_be_a_bad_one_of_the_best():
    asked = []
    def ridge(s, pool):
        return pool - abs(s - (.03 + .36*pool))      # the best s rises with the pool
    def quality(s, pool):
        asked.append((s, pool))
        return ridge(s, pool)
    ascend(quality, SHRINKAGES)
    assert max(asked, key=lambda f: ridge(*f)) == (.3, .75) and len(asked) == len(set(asked))
    few = len(asked)
    ascend(quality, (1.,))                           # the base alone has nothing to search
    assert few == len(asked) < len(POOLS)*(len(SHRINKAGES) - 1)


def test_moments_count_different_texts():
    h = np.random.default_rng(0).standard_normal((2, 100, 5))
    m, part = Moments.of(*h, (10, 80)), Moments.of(*h[:, :40], (4, 30))
    assert (m - part).distinct.tolist() == [6, 50]
    uneven = h*[5, 2, 1, .5, .1]
    few, many = Moments.of(*uneven, (10, 30)), Moments.of(*uneven)
    assert (few.effective, many.effective) == (10, 100)
    assert few.ridge() > many.ridge()  # 100 pairs of 40 texts say less about a covariance than 100 pairs of 200
    fewer, more = solve_two_sided(Moments.of(*h, (10, 10)), .9), solve_two_sided(Moments.of(*h, (100, 100)), .9)
    assert not np.allclose(fewer.weight, more.weight)


# ---- masks

def test_a_batch_knows_the_positives_of_all_pairs(two):
    pairs = PairSet([Pair("q1", "a"), Pair("q1", "b"), Pair("q2", "b"), Pair("q3", "c", ["a"])], "p")
    from ragcun.losses.contrastive import KnownPositives
    known = KnownPositives(pairs.queries, pairs.documents)
    columns = lay_out(pairs, [0, 2, 3], known)
    assert columns.mask.int().tolist() == [[0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert lay_out(pairs, [0, 2, 3]).mask.int().tolist() == [[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    learner = Learner(two.clone_head(), many_pairs(), pairs_to_retrieval(many_pairs(30, 1, 1000)),
                      resolve_defaults(TrainConfig(**QUICK), 240))
    assert len(learner.known.of) == 240


def test_the_validation_mask_knows_judgements_beyond_the_pairs_it_shows(two):
    corpus = {f"d{i}": WORDS[i % 64] + f" {i}" for i in range(600)}
    data = RetrievalData(corpus, {"q": "wab", "r": "wcd"}, {"q": {f"d{i}": 1 for i in range(511)} | {"d599": 1},
                                                           "r": {"d0": 1}})
    seen = Learner(two.clone_head(), many_pairs(), data, resolve_defaults(TrainConfig(**QUICK), 240)).validation
    mask = seen.known.mask(*seen.pairs.T.tolist())
    assert mask.shape == (512, 512) and bool(mask.sum(1).eq(511).all())  # all of q's documents answer q


# ---- selection

def test_the_choosing_half_has_no_question_of_the_deciding_half():
    qrels = {f"q{i}": {f"d{i//3}": 1} for i in range(ENOUGH)}
    a, b = halves(qrels)
    assert not set(a) & set(b) and not {int(q[1:])//3 for q in a} & {int(q[1:])//3 for q in b}
    assert abs(len(a) - len(b)) <= 6


def test_a_worse_model_is_rarely_kept_and_a_naive_rule_is_caught():
    rng = np.random.default_rng(3)
    def wrong(rule):
        return np.mean([rule(rng.normal(0, .2, (12, 120))) for _ in range(300)])
    assert wrong(lambda g: beyond_chance(g, draws=500).any()) <= .10
    assert wrong(lambda g: g.mean(1).max() > g[g.mean(1).argmax()].std()/120**.5) > .5


def test_a_trusted_candidate_needs_no_second_proof_but_may_be_refuted():
    base = np.random.default_rng(0).random(12)
    assert decide([base, base + .0001]) == 1 and decide([base, base]) == 0
    mixed = base + np.array([.1, -.1]*6)
    assert (decide([base, mixed]), decide([base, mixed], [1]), decide([base, base - .1], [1])) == (0, 1, 0)


def test_a_diverged_run_says_so(two, caplog):
    caplog.set_level(logging.INFO)
    learner = Learner(two.clone_head(), many_pairs(), pairs_to_retrieval(many_pairs(30, 1, 1000)),
                      resolve_defaults(TrainConfig(**QUICK), 240))
    with torch.no_grad():
        learner.critic.logit.fill_(float("nan"))
    with pytest.raises(UserError, match="training has diverged: the loss is not a number at step 0"):
        learner.step(learner.batches(0)[0])
    with pytest.raises(UserError, match="diverged"):
        information(learner.critic.rho.detach())

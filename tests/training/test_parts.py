"""The parts that whole runs are made of, one at a time: each with a case that it must get wrong if it is broken."""
import copy

import numpy as np
import pytest
import torch

import distributed_jobs
from ragcun.core import UserError, read_json
from ragcun.data.pairs import Pair, PairSet, load_pairs, pairs_to_retrieval
from ragcun.measures.paired import Difference
from ragcun.models.base import encode_features, feature_dim, load_base, with_modules
from ragcun.models.encoder import GaussianEncoder
from ragcun.training.closed_form import (Moments, PairFeatures, ShrinkagePoint, apply_head, best_head,
                                         held_out_pairs, choose_point, shrinkages_for, solve_head, validation_splits)
from ragcun.training.config import TrainConfig, resolve_defaults
from ragcun.training.learner import Learner, TrainingQuestions
from ragcun.training.record import differences, remove_leftovers, save_checkpoint
from ragcun.training.run import fit, save_result
from ragcun.training.step import Critic, Layout, Processes, lay_out
from small import processed, small_base, together

WIDTH = 32
pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(small_base(tmp_path_factory.mktemp("parts"), dropout=0.0, width=WIDTH))


class TestBase:
    def test_other_modules_are_shared_and_settings_are_copied(self, base):
        whole, _, _ = load_base(base)
        whole.prompts = {"query": "ask: ", "document": ""}
        whole.eval()
        part = with_modules(whole, [whole[0], whole[1]])
        assert [part[0] is whole[0], part[1] is whole[1], len(part), part.training] == [True, True, 2, False]
        part.prompts["query"] = "changed"
        assert whole.prompts["query"] == "ask: "
        whole.train()
        assert with_modules(whole, list(whole)).training

    def test_feature_dim_is_the_width_of_the_features(self, base, tmp_path):
        wide, _, _ = load_base(str(small_base(tmp_path/"wide", width=48)))
        narrow, _, _ = load_base(base)
        assert [feature_dim(narrow), feature_dim(wide)] == [WIDTH, 48]
        assert encode_features(wide, ["a text"]).shape == (1, feature_dim(wide))


def test_a_change_that_only_hashes_show_is_said_in_words():
    then, now = {"training pairs": "0a"*32, "epochs": 2}, {"training pairs": "1b"*32, "epochs": 3}
    assert differences(then, now) == ["epochs: 2 then, 3 now", "training pairs: changed since, or in another order"]


def test_a_disk_that_torch_finds_full_is_said_to_be_full(tmp_path, monkeypatch):
    def full(*a):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 46912 vs 46804")
    monkeypatch.setattr("torch.save", full)
    with pytest.raises(UserError, match="could not be written: the disk is full"):
        save_checkpoint(tmp_path, "step_1", {"step": 1, "epoch": 0})


def test_a_checkpoint_does_not_depend_on_the_name_and_the_process_that_wrote_it(tmp_path):
    "torch writes the name of a file into it: sizes and hashes followed the number of the process."
    state = {"step": 1, "epoch": 0, "weights": torch.arange(4.)}
    one, other = (save_checkpoint(tmp_path, name, state).read_bytes() for name in ("step_1", "step_1000000"))
    assert one == other


def test_leftovers_of_a_killed_writer_go_and_everything_else_stays(tmp_path):
    for name in (".checkpoint_step_3.pt.x1.tmp", "keep.tmp", "checkpoint_step_2.pt", ".gitignore"):
        (tmp_path/name).write_text("x")
    for name in (".model.half", "model"):
        (tmp_path/name).mkdir()
        (tmp_path/name/"model.safetensors").write_text("x")
    remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".gitignore", "checkpoint_step_2.pt", "keep.tmp", "model"]
    remove_leftovers(tmp_path/"nowhere")


def toy(n=240, d=WIDTH, rho=.8, seed=0):
    "Pairs of features, each query and document once; half of the coordinates say nothing."
    rng = np.random.default_rng(seed)
    q, noise = rng.standard_normal((2, n, d))
    r = np.r_[np.full(d//2, rho), np.zeros(d - d//2)]
    x = r*q + np.sqrt(1 - r*r)*noise
    return PairFeatures(q.astype("f4"), x.astype("f4"), [f"q{i}" for i in range(n)], [f"d{i}" for i in range(n)])


class TestClosedForm:
    pairs = PairFeatures(np.arange(8.).reshape(4, 2), -np.arange(8.).reshape(4, 2), ["a", "a", "b", "c"],
                         ["1", "2", "2", "3"])

    def test_a_subset_by_mask_is_the_subset_by_position(self):
        by_mask = self.pairs.subset(np.array([True, False, False, True]))
        by_place = self.pairs.subset(np.array([0, 3]))
        for part in (by_mask, by_place):
            assert (part.query_ids, part.document_ids, part.q.tolist()) == (["a", "c"], ["1", "3"], [[0, 1], [6, 7]])
            assert part.x.tolist() == [[-0., -1], [-6, -7]]
        assert self.pairs.subset(np.array([3, 0])).query_ids == ["c", "a"]

    def test_held_out_queries_are_ranked_among_the_documents_of_all_pairs(self):
        held = held_out_pairs(self.pairs, np.array([False, False, True, True]))
        assert held.data.qrels == {"b": {"2": 1}, "c": {"3": 1}}
        assert held.q.tolist() == [[4, 5], [6, 7]]
        found = dict(zip(held.data.corpus, held.x.tolist(), strict=True))
        assert found == {"1": [-0., -1], "2": [-2, -3], "3": [-6, -7]}       # row of the first pair with each document
        assert list(held.data.corpus)[-1] == "1"                             # relevant ones first
        both = held_out_pairs(self.pairs, np.array([True, False, False, False]))
        assert both.data.qrels == {"a": {"1": 1, "2": 1}}                    # the other answer of the query counts, too

    def test_the_sizes_of_a_held_out_set_are_bounded_but_no_answer_is_lost(self):
        held = held_out_pairs(self.pairs, np.ones(4, bool), limit=1, corpus=1)
        assert (list(held.data.queries), set(held.data.corpus)) == (["a"], {"1", "2"})

    def point(self, s, ndcg, mean, low, high):
        "A point whose gains have this mean and about this standard error."
        noise = np.random.default_rng(int(1000*ndcg)).standard_normal(100)
        gains = mean + (noise - noise.mean())/noise.std()*10*(high - low)/3.92
        return ShrinkagePoint(s, ndcg, Difference(mean, low, high, .5, 100), .5, None, gains)

    def test_the_best_point_is_chosen_only_where_it_is_clearly_ahead_of_the_base(self):
        base = self.point(1., .70, 0., 0., 0.)
        clear = self.point(.3, .80, .1, .08, .12)
        luck = self.point(.3, .71, .01, -.2, .22)
        assert choose_point([clear, base]) is clear
        assert choose_point([luck, base]) is base
        assert choose_point([luck, clear, base]) is clear
        tie = self.point(.6, .80, .1, .08, .12)
        assert choose_point([clear, tie, base]) is tie                 # of equals, the one nearest to the base

    def test_a_solved_head_is_scaled_by_pairs_it_has_not_seen(self, model):
        features = toy()
        splits, every = validation_splits(features), Moments.of(features.q, features.x)
        head = solve_head(every, .3, 8)
        fitted = apply_head(model, head, splits)
        def misfit(scale):
            "The factor that is still missing, by pairs that a fold's head has not seen."
            found = []
            for m, held in splits:
                rows = [int(q[1:]) for q in held.data.queries]  # query i and document i are row i of the toy
                seen = solve_head(m, .3, 8)
                q, x = (scale*seen.project(f[rows]) for f in (features.q, features.x))
                residual = ((x - seen.rho*q)**2).sum(1).mean()/(1 - seen.rho**2).sum()
                variance = np.concatenate([q, x]).var(0, ddof=1).mean()
                found.append(variance**-.5*np.clip((variance/residual)**.25, 1/1.05, 1.05))
            return np.mean(found)
        unit = float(np.linalg.norm(fitted.head.weight.detach().numpy())/np.linalg.norm(head.weight))
        assert misfit(unit) == pytest.approx(1, abs=1e-4) and abs(misfit(1) - 1) > 1e-3
        assert fitted.calibration.tau > 0 and fitted.output_dim == 8
        assert model.output_dim == WIDTH and fitted.base is model.base       # the given encoder is as it was

    def test_the_best_head_is_the_chosen_point_solved_on_all_pairs(self, model):
        features = toy()
        fitted = best_head(model, features, validation_splits(features), WIDTH)
        said = fitted.extra["closed_form"]
        assert (said["pairs"], [p["s"] for p in said["points"]]) == (240, list(shrinkages_for(240)))
        chosen = next(p for p in said["points"] if p["s"] == said["s"])
        assert said["s"] < 1 and chosen["ndcg@10"] > said["points"][-1]["ndcg@10"] + .05
        again = apply_head(model, solve_head(Moments.of(features.q, features.x), said["s"], WIDTH),
                           validation_splits(features))
        assert torch.equal(fitted.head.weight, again.head.weight)
        assert "closed_form" not in model.extra

    def test_pairs_without_a_relation_keep_the_base(self, model):
        rng = np.random.default_rng(5)
        same = toy(n=120)
        noise = PairFeatures(same.q, rng.standard_normal(same.x.shape).astype("f4"), same.query_ids, same.document_ids)
        assert best_head(model, noise, validation_splits(noise), WIDTH).extra["closed_form"]["s"] == 1


class TestLoop:
    def test_a_layout_splits_embeddings_as_its_texts_were_laid_out(self):
        pairs = PairSet([Pair("q0", "d0", ("n0",)), Pair("q1", "d1"), Pair("q2", "d0")], "three")
        layout = lay_out(pairs, [0, 1, 2])
        assert isinstance(layout, Layout) and layout.texts == ["q0", "q1", "q2", "d0", "d1", "d0", "n0"]
        place = {t: i for i, t in enumerate(layout.texts)}
        q, x, n = layout.split(torch.arange(7.)[:, None])
        assert (q.ravel().tolist(), x.ravel().tolist(), n.ravel().tolist()) == ([0, 1, 2], [3, 4, 5], [place["n0"]])
        assert layout.mask[0, 2] and layout.mask[2, 0] and not layout.mask[0, 1]   # rows 0 and 2 have one document
        assert lay_out(pairs, [1]).split(torch.zeros(2, 4))[2] is None

    def test_one_process_gathers_what_it_has_in_the_order_of_the_batch(self):
        alone = Processes()
        whole = torch.arange(6.).reshape(3, 2)
        z, own = alone.gather(whole[[2, 0, 1]], [2, 0, 1])
        assert torch.equal(z, whole) and own == [2, 0, 1]
        assert alone.gather_objects("mine") == ["mine"] and alone.barrier() is None
        assert list(alone.share(3)) == [0, 1, 2]

    @pytest.mark.parametrize("world", [2, 3])
    def test_several_processes_gather_embeddings_and_objects_and_wait(self, world, tmp_path):
        codes, texts = together(distributed_jobs.meet, world, place=tmp_path)
        assert codes == [0]*world, texts


@pytest.fixture(scope="module")
def pairs():
    return load_pairs(processed("train.json"))


@pytest.fixture(scope="module")
def val():
    return pairs_to_retrieval(load_pairs(processed("val.json")))


def learner(model, pairs, val, **more):
    mine = model.clone_head()
    mine.base = copy.deepcopy(model.base)
    return Learner(mine, pairs, val, resolve_defaults(
        TrainConfig(**dict(epochs=2, batch_size=16, mixed_precision="no", n_slices=4) | more), len(pairs)))


class TestLearner:
    def test_a_restored_learner_takes_the_same_next_step(self, model, pairs, val):
        one = learner(model, pairs, val)
        rows = np.arange(16)
        one.step(rows)
        state = copy.deepcopy(one.state())
        one.step(rows)
        other = learner(model, pairs, val)
        other.restore(state)
        assert other.at.step == state["step"] and not torch.equal(other.model.head.weight, one.model.head.weight)
        other.step(rows)
        for kind, tensors in one.trained_state().items():
            for name, value in tensors.items():
                assert torch.equal(value, other.trained_state()[kind][name]), (kind, name)

    def test_what_cannot_be_restored_is_refused_in_a_sentence(self, model, pairs, val):
        state = learner(model, pairs, val).state()
        without = {k: v for k, v in state.items() if k != "scheduler"}
        with pytest.raises(UserError, match="lacks scheduler"):
            learner(model, pairs, val).restore(without)
        with pytest.raises(UserError, match="learning_rate"):
            learner(model, pairs, val, base_learning_rate=1e-3).restore(state)
        state["trained"]["head"]["weight"] = state["trained"]["head"]["weight"][:5]
        with pytest.raises(UserError, match="other shapes"):
            learner(model, pairs, val).restore(state)

    def test_the_best_epoch_comes_back_sorted_by_what_its_coordinates_tell(self, model, pairs, val):
        run = learner(model, pairs, val)
        with torch.no_grad():
            run.critic.logit[3:6] += torch.tensor([2., 1., 3.])
        best = run.best_state = run.trained_state()
        rho = run.critic.rho.detach().clone()
        weight = run.model.head.weight.detach().clone()
        for _ in range(2):
            run.step(np.arange(16))
        assert not torch.equal(run.model.head.weight, weight)                # training has gone on
        kept = run.use_best()
        order = rho.argsort(descending=True)
        assert torch.allclose(kept.rho, rho[order], atol=1e-6) and (kept.rho.diff() <= 1e-7).all()
        assert torch.equal(kept.head.weight, weight[order]) and kept.base_changed
        assert torch.equal(kept.base.state_dict()[next(iter(best["base"]))], best["base"][next(iter(best["base"]))])


def test_a_result_is_saved_as_a_folder_one_file_a_report_and_a_picture(model, pairs, val, tmp_path):
    result = fit(model, pairs, val, TrainConfig(freeze_base=True, closed_form=True, mixed_precision="no", seed=0))
    for rows, names in (([], ["best_model.pt", "model", "report.json"]),
                        ([{"kind": "step", "step": 1, "pos_dist": 1.}],
                         ["best_model.pt", "curves.png", "model", "report.json"])):
        out = tmp_path/f"rows_{len(rows)}"
        out.mkdir()
        result.rows[:] = rows
        save_result(result, out)
        assert sorted(p.name for p in out.iterdir()) == names
        assert read_json(out/"report.json")["kept"] == result.report["kept"]
        folder, packed = (GaussianEncoder.load(out/n, device="cpu", precision="no") for n in ("model", "best_model.pt"))
        assert (torch.equal(folder.head.weight, result.model.head.weight)
                and torch.equal(packed.head.weight, folder.head.weight))


def test_training_questions_compete_with_the_validation_documents_and_find_all_their_answers():
    pairs = PairSet([Pair("a", "first"), Pair("b", "second"), Pair("a", "third"), Pair("c", "seen before"),
                     Pair("d", "fourth")])
    corpus = {"v0": "seen before", "v1": "of nobody", "v2": "third"}
    sample = [pairs[i] for i in (3, 0, 1, 2)]                  # the last asks what the second asked
    asked = TrainingQuestions.of(pairs, sample, corpus, most=3)
    assert asked.data.corpus == corpus | {"trained 1": "first", "trained 2": "second"}
    assert list(asked.data.queries.values()) == ["c", "a", "b"]
    assert list(asked.data.qrels.values()) == [{"v0": 1}, {"trained 1": 1, "v2": 1}, {"trained 2": 1}]
    assert list(TrainingQuestions.of(pairs, sample, corpus, most=1).data.queries.values()) == ["c"]
    z = torch.eye(5).numpy()                                   # v0, v1, v2, first, second: each its own direction
    own = z[[0, 3, 4, 2]]
    critic = Critic(torch.full((5,), .5))
    assert asked.ndcg(critic, "evidence", (own, own), z[:3]) == pytest.approx(1)
    second, last = 1/np.log2(3), 1/np.log2(6)                  # equal distances: the larger id comes first
    assert asked.ndcg(critic, "evidence", (own[::-1], own), z[:3]) == pytest.approx(
        (1/2 + (second + last)/(1 + second) + last)/3)

"""Diagnostics against references, by simulation, and on a really fitted model. Each property test is also shown
something broken."""
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st
from scipy.stats import kstest

from ragcun.core import UserError
from ragcun.data.collections import RetrievalData
from ragcun.data.generation import python_package_pairs
from ragcun.data.pairs import Pair, PairSet
from ragcun.diagnostics.capacity import fit_tau, measure_recall, predict_recall, simulate_p_values
from ragcun.diagnostics.diagnosis import (CAPTIONS, Diagnosis, compare_spaces, diagnose, diagnosis_figures,
                                          diagnosis_page, write_diagnosis)
from ragcun.diagnostics.gaussianity import (ChiSquareLaw, Drift, GaussianTests, Spectrum, chi_square_law, drift_test,
                                            gaussian_tests, henze_zirkler, marchenko_pastur, mardia, norm_law, qq_norms,
                                            related_law, spectrum, unrelated_law)
from ragcun.diagnostics.space import (Hubness, Separation, Side, draw_sample, hubness, measure_space, separation,
                                      sigreg, space_numbers, uniformity)
from ragcun.figures import figure_of, figure_png, headless
from ragcun.training.record import metric_rows, plot_curve, plot_positive_distance, plot_training
from ragcun.diagnostics.gaussianity import plot_spectrum
from ragcun.measures.isotropy import as_cloud, effective_rank, isoscore, mean_cosine, participation_ratio, trace_square
from ragcun.models.cache import cached_features
from ragcun.models.encoder import GaussianEncoder
from ragcun.training.closed_form import fit_closed_form

shapes = st.tuples(st.integers(5, 60), st.integers(2, 20), st.integers(0, 10**6))


def cloud(n, d, seed, stretch=0.15):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) * np.exp(-stretch * np.arange(d)) + rng.standard_normal(d)


# numbers of one cloud

@given(shapes)
@settings(max_examples=60, deadline=None)
def test_shares_of_variance_do_not_depend_on_rotation_shift_or_unit(shape):
    z = cloud(*shape)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((shape[1],) * 2))[0]
    moved = 7.5 * (z @ turn) - 3
    for f in (participation_ratio, lambda v: participation_ratio(v, False), effective_rank, isoscore):
        assert f(moved) == pytest.approx(f(z), rel=1e-6)


@given(shapes)
@settings(max_examples=60, deadline=None)
def test_plain_participation_ratio_and_effective_rank_by_their_definitions(shape):
    z = cloud(*shape)
    values = np.clip(np.linalg.eigvalsh(np.cov(z.T)), 0, None)
    assert participation_ratio(z, False) == pytest.approx(values.sum() ** 2 / (shape[1] * (values**2).sum()))
    shares = values[values > 1e-14 * values.sum()] / values.sum()
    assert effective_rank(z) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-6)
    assert 1 / shape[1] <= participation_ratio(z, False) <= 1 + 1e-12


@given(shapes)
@settings(max_examples=40, deadline=None)
def test_mean_cosine_is_the_mean_over_all_pairs(shape):
    z = cloud(*shape)
    units = z / np.linalg.norm(z, axis=1, keepdims=True)
    assert mean_cosine(z) == pytest.approx((units @ units.T)[~np.eye(len(z), dtype=bool)].mean(), abs=1e-9)


def test_correction_for_sample_size_is_unbiased_where_the_plain_value_is_not():
    rng = np.random.default_rng(0)
    scale = np.linspace(1, 3, 24)
    draws = [rng.laplace(size=(30, 24)) * scale for _ in range(800)]
    variance = 2 * scale**2
    error = np.mean([trace_square(z) for z in draws]) / (variance**2).sum() - 1
    assert abs(error) < 0.03
    truth = variance.sum() ** 2 / (24 * (variance**2).sum())
    assert np.mean([participation_ratio(z) for z in draws]) == pytest.approx(truth, rel=0.06)
    assert np.mean([participation_ratio(z, False) for z in draws]) < 0.8 * truth


def test_sigreg_is_the_epps_pulley_distance_and_one_for_a_gaussian():
    import torch

    from ragcun.losses.sigreg import slice_directions
    z = np.random.default_rng(0).standard_normal((300, 6)).astype(np.float32)
    t = np.linspace(0, 3, 17)
    weight = np.full(17, 6 / 16) * np.exp(-t**2 / 2)
    weight[[0, -1]] /= 2
    p = z @ slice_directions(6, 256, 0, dtype=torch.float32).numpy().T
    wave = np.exp(1j * t[:, None, None] * p).mean(1)                                        # [17, 256]
    value = (np.abs(wave - np.exp(-t**2 / 2)[:, None]) ** 2 * weight[:, None]).sum(0).mean()
    null = (weight * (1 - np.exp(-t**2))).sum()
    assert sigreg(z) == pytest.approx(300 * value / null, rel=1e-4)
    assert (np.mean([sigreg(np.random.default_rng(s).standard_normal((200, 24)), seed=s) for s in range(12)])
            == pytest.approx(1, abs=0.2))
    assert sigreg(2 * z) > 5 and sigreg(z + 1) > 5


@pytest.mark.parametrize("n,d", [(300, 60), (100, 100), (50, 120)])
def test_marchenko_pastur_quantiles_match_simulated_eigenvalues(n, d):
    rng = np.random.default_rng(0)
    mean = np.mean([spectrum(rng.standard_normal((n, d))).values for _ in range(20)], axis=0)
    assert np.abs(mean - marchenko_pastur(d, n)).max() < 0.08 * mean.max()


@pytest.mark.parametrize("test", [lambda z: mardia(z)[1], lambda z: mardia(z)[3], lambda z: henze_zirkler(z)[1]],
                         ids=["skewness", "kurtosis", "henze-zirkler"])
def test_normality_tests_hold_their_level_and_have_power(test):
    "600 Gaussian samples at 5 %: 2.5 % to 8 % rejected; at least 90 % of exponential samples rejected."
    rng = np.random.default_rng(0)
    rejected = np.mean([test(rng.standard_normal((150, 5))) < 0.05 for _ in range(600)])
    assert 0.025 <= rejected <= 0.08
    assert np.mean([test(rng.exponential(size=(150, 5))) < 0.05 for _ in range(40)]) > 0.9


def test_chi_square_laws_hold_for_the_model_and_reject_other_ones():
    rng = np.random.default_rng(0)
    rho = np.linspace(0.9, 0.1, 20)
    p_values = {"norms": [], "unrelated": [], "related": []}
    for _ in range(100):
        q = rng.standard_normal((200, 20))
        x = rho * q + np.sqrt(1 - rho**2) * rng.standard_normal((200, 20))
        p_values["norms"].append(norm_law(x).p_value)
        p_values["unrelated"].append(unrelated_law(q, np.roll(x, 1, 0)).p_value)
        p_values["related"].append(related_law(q, x, rho).p_value)
    for values in p_values.values():
        assert kstest(values, "uniform").pvalue > 0.001
    assert related_law(q, x, np.full(20, 0.8)).p_value < 1e-3
    assert norm_law(1.1 * x).p_value < 1e-3


def test_drift_test_keeps_its_false_alarm_rate_on_any_law():
    "400 batches at 5 %: between 2 % and 8.3 % flagged (3 standard errors)."
    rng = np.random.default_rng(0)
    def draw(n): # neither Gaussian nor centred
        return rng.standard_normal((n, 8)) * rng.exponential(size=(n, 1)) + 2
    flagged = [drift_test(draw(60), draw(25), 0.05, 99, seed=s).drifted for s in range(400)]
    assert 0.02 <= np.mean(flagged) <= 0.083
    assert np.mean([drift_test(draw(60), draw(25) + 0.7, 0.05, 99, seed=s).drifted for s in range(40)]) > 0.9


def test_there_is_one_participation_ratio():
    """The trainer's and the diagnosis's number are the same function; few heavy-tailed vectors, where a correction
    for Gaussian data is far off."""
    from ragcun.measures import isotropy as gaussianity
    from ragcun.training import closed_form
    assert closed_form.participation_ratio is gaussianity.participation_ratio is participation_ratio
    rng = np.random.default_rng(0)
    draws = [rng.normal(size=(25, 60)) * np.sqrt(rng.exponential(size=(25, 1))) for _ in range(200)]
    assert np.median([participation_ratio(z) for z in draws]) == pytest.approx(1, abs=0.15)

    def gaussian_only(z):
        n, d = z.shape
        values = np.linalg.eigvalsh(np.cov(z.T))
        square = (n - 1) ** 2 / ((n - 2) * (n + 1)) * ((values**2).sum() - values.sum() ** 2 / (n - 1))
        return values.sum() ** 2 / (d * square)

    assert np.median([gaussian_only(z) for z in draws]) < 0.5


@pytest.mark.parametrize("bad", [np.full((9, 3), np.nan), np.zeros((0, 3)), np.zeros(5), np.zeros((2, 3)), [["a"]]])
@pytest.mark.parametrize("f", [participation_ratio, effective_rank, mean_cosine, spectrum, norm_law, qq_norms,
                               uniformity, space_numbers])
def test_bad_vectors_are_named(f, bad):
    with pytest.raises(UserError):
        f(bad)


# capacity

def test_p_values_are_calibrated():
    """The p-value of an unrelated document is uniform: so E over related ones of 1/p's density is 1, checked as P(p
    ≤ t) under the null by weights."""
    p = simulate_p_values(np.full(4, 0.5), 200, 200)
    assert 0 < p.min() and p.max() <= 1
    beaten = predict_recall(np.full(4, 0.5), [2])[0]
    rng = np.random.default_rng(0)
    q, x, y = rng.standard_normal((3, 200_000, 4))
    x = 0.5 * q + np.sqrt(0.75) * x
    gap = ((x - 0.5 * q) ** 2).sum(1) / 0.75 - (x**2).sum(1), ((y - 0.5 * q) ** 2).sum(1) / 0.75 - (y**2).sum(1)
    assert beaten == pytest.approx((gap[0] < gap[1]).mean(), abs=0.02)


def test_fit_tau_recovers_a_tempered_model():
    rho = np.linspace(0.8, 0.2, 30)
    for tau in (0.3, 0.7):
        assert fit_tau(rho, 200, predict_recall(rho, [200], tau)[0]) == pytest.approx(tau, abs=0.01)


def test_measured_recall_counts_the_queries_whose_document_comes_first():
    v = np.eye(4)
    assert measure_recall(v, v, [{0}, {1}, {2}, {3}], [1, 4]) == [1, 1]
    assert measure_recall(v[[1, 0]], v, [{0}, {1}], [4]) == [0]
    with pytest.raises(UserError):
        measure_recall(v, v, [{0}], [2])


# figures

def test_figures_load_nothing_until_drawn_and_never_touch_pyplot(tmp_path):
    rows = [{"kind": "step", "step": 1, "pos_dist": 1.1}, {"kind": "epoch", "epoch": 1, "val_pos_dist": 1.0}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code = ("import sys\nimport ragcun.figures as f\n"
            "assert 'matplotlib' not in sys.modules and 'torch' not in sys.modules\n"
            "from ragcun.training.record import plot_training\n"
            "assert 'matplotlib' not in sys.modules\n"
            "f.save_figure(plot_training('metrics.jsonl'), 'curves.png')\n"
            "assert 'matplotlib.pyplot' not in sys.modules\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


@given(st.lists(st.dictionaries(st.sampled_from(["kind", "step", "epoch", "pos_dist", "embedding_std",
                                                 "val_pos_dist", "train_participation_ratio",
                                                 "val_query_sigreg_relative"]),
                                st.one_of(st.none(), st.integers(0, 99), st.floats(allow_nan=True, allow_infinity=True),
                                          st.text(max_size=3)), max_size=5), max_size=6))
@example([{"val_query_sigreg_relative": 9e198}, {"val_query_sigreg_relative": 1.}])   # no room above for the legend
@settings(max_examples=15, deadline=None)
def test_training_curves_survive_any_rows(rows):
    with headless():
        assert plot_training(rows).shape == (2, 3)


def test_figures_name_bad_numbers():
    with pytest.raises(UserError, match="NaN"):
        plot_spectrum({"model": [1.0, np.nan]})


def test_same_numbers_give_the_same_bytes():
    with headless():
        first, second = (figure_png(plot_spectrum({"model": [3.0, 2.0, 1.0]})) for _ in range(2))
    assert first == second


def test_positive_distance_is_drawn_from_rows_or_from_the_file(tmp_path):
    rows = [{"kind": "step", "step": i, "pos_dist": 1.3 - i / 10}
            for i in range(4)] + [{"kind": "epoch", "step": 4, "val_pos_dist": 0.9}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert metric_rows(tmp_path / "metrics.jsonl") == metric_rows(rows) == rows
    with headless():
        ax, other = (plot_positive_distance(source) for source in (rows, tmp_path / "metrics.jsonl"))
        assert figure_of(ax) is ax.get_figure() is figure_of([ax]) and figure_png(ax) == figure_png(other)
    line, _, unrelated = ax.lines
    assert line.get_ydata().tolist() == [1.3, 1.2, 1.1, 1.0] and unrelated.get_ydata()[0] == pytest.approx(np.sqrt(2))
    with headless():
        assert "not recorded" in plot_positive_distance([]).texts[0].get_text()
        far = [{"kind": "step", "step": i, "pos_dist": 2. + i} for i in range(3)]     # inside the picture, too
        for ax in (plot_positive_distance(far), plot_training(far)[1, 0]):
            assert ax.get_ylim() == (0, 4)


def test_the_ranking_of_training_questions_is_drawn_where_it_was_recorded():
    rows = [{"kind": kind, "step": i, "train_ndcg@10": .8 + i / 10, "val_ndcg@10": .7} for i, kind in
            enumerate(("start", "epoch", "kept"))]
    before = [{k: v for k, v in row.items() if k != "train_ndcg@10"} for row in rows]  # as version 0.1.0 wrote them
    with headless():
        new, old = (plot_curve(found, "quality") for found in (rows, before))
    assert new.get_legend_handles_labels()[1] == ["training questions", "validation", "kept model"]
    assert new.lines[0].get_ydata().tolist() == [.8, .9] and new.lines[1].get_ydata().tolist() == [.7, .7]
    assert old.get_legend_handles_labels()[1] == ["validation", "kept model"]


# what comes back

def test_results_are_small_objects_that_say_what_was_measured():
    rng = np.random.default_rng(0)
    q = rng.standard_normal((300, 6))
    far = rng.standard_normal((60, 6)) + 1
    values = spectrum(q)
    tests = gaussian_tests(q, samples=200, coordinates=4)
    hubs = hubness(q, q[::-1], 5)
    assert isinstance(values, Spectrum) and values.samples == 300 and values.values.mean() == pytest.approx(1)
    assert isinstance(tests, GaussianTests) and (tests.samples, tests.coordinates) == (200, 4) and not tests.rejected()
    assert (isinstance(hubs, Hubness) and (hubs.k, hubs.queries, hubs.documents) == (5, 300, 300)
            and hubs.most >= 5 / 300)
    assert isinstance(separation([2.0, 3.0], [0.0, 1.0]), Separation) and separation([2.0, 3.0], [0.0, 1.0]).kept == 1
    found = drift_test(q, far, permutations=199)
    assert (isinstance(found, Drift) and found.drifted and str(found).startswith("drift (p = 0.005")
            and "60 new vectors" in str(found))


def test_squared_lengths_are_compared_with_the_law_they_should_follow():
    rng = np.random.default_rng(0)
    squares = rng.chisquare(9, 4000)
    law = chi_square_law(squares, 9)
    wrong = chi_square_law(squares, 12)
    assert isinstance(law, ChiSquareLaw) and law.samples == 4000 and law.p_value > 0.001 > wrong.p_value
    assert (law.p_value == pytest.approx(kstest(squares, "chi2", args=(9,)).pvalue)
            and (law.mean, law.spread) == pytest.approx((1, 1), abs=0.08))
    with pytest.raises(UserError, match="squared lengths"):
        chi_square_law([1.0, np.inf], 3)


def test_a_cloud_is_checked_once():
    assert as_cloud([[1, 2], [3, 4], [5, 6], [7, 9]]).dtype == np.float64
    with pytest.raises(UserError, match="too few, 7 are needed"):
        as_cloud(np.ones((6, 2)), least=7)


# a really fitted model, on texts it has not seen

@pytest.fixture(scope="module")
def fitted():
    """all-MiniLM-L6-v2 with a closed-form head on documentation strings: (model, diagnosis on held-out pairs, z of
    queries and documents)."""
    pairs = python_package_pairs(["numpy"], max_pairs=450)
    short = [Pair(p.query, p.positive[:160]) for p in pairs]
    train = PairSet([p for i, p in enumerate(short) if i % 3])
    test = PairSet(short[::3], "documentation strings")
    model = fit_closed_form(GaussianEncoder.from_base(device="cpu", precision="no"), train, output_dim=64,
                            shrinkages=(0.1,))
    sample = draw_sample(test)
    return model, sample, (cached_features(model, sample.queries, "query"),
                           cached_features(model, sample.documents, "document"))


@pytest.fixture(scope="module")
def diagnosis(fitted):
    return compare_spaces(*fitted)


def scaled(factor):
    return lambda q, x: (factor * q, factor * x)


def dead(q, x):
    return q * (np.arange(q.shape[1]) > 0), x * (np.arange(x.shape[1]) > 0)


PROPERTIES = {  # name: (holds, what must fail it: "base" or something broken)
              "mean near 0": (lambda n: n["documents"]["mean_length"] < 0.25, ["base", lambda q, x: (q + 1, x + 1)]),
              "coordinates uncorrelated": (lambda n: n["documents"]["participation_ratio"] > 0.6,
                                           ["base", lambda q, x: (q, x @ np.ones((64, 64)) / 8 + 0.3 * x)]),
              "no dead coordinate": (lambda n: n["documents"]["dead_coordinates"] == 0, [dead]),
              "unit scale": (lambda n: 0.8 < n["documents"]["embedding_std"] < 1.25, [scaled(0.5), scaled(2)]),
              "far nearer to Gaussian than the base": (lambda n: n["documents"]["sigreg_relative"] < 8,
                                                       ["base", scaled(0.3)]),
              "lengths vary, as χ does and within ten times": (lambda n: 0.5 < n["documents"]["norms"]["spread"] < 10, [
                  "base", lambda q, x: (q, 8 * x / np.linalg.norm(x, axis=1, keepdims=True))]),
              "related closer than unrelated": (lambda n: n["pairs"]["pos_dist"] < 0.85 * n["pairs"]["unrelated_dist"],
                                                [lambda q, x: (q, x[::-1])]),
              "evidence tells related from unrelated": (lambda n: n["pairs"]["by_evidence"]["auc"] > 0.95
                                                        if "by_evidence" in n["pairs"] else False,
                                                        [lambda q, x: (q, x[::-1])]),
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_property_of_the_fitted_model(name, fitted, diagnosis):
    model, sample, h = fitted
    holds, failures = PROPERTIES[name]
    assert holds(diagnosis.model.numbers)
    z = [model.project(side).astype(np.float64) for side in h]
    for broken in failures:
        numbers = (diagnosis.base.numbers if broken == "base"
                   else measure_space(*broken(*z), sample, model.rho_numpy).numbers)
        assert not holds(numbers)


def test_diagnosis_tells_writes_and_loads(diagnosis, tmp_path):
    assert (diagnosis.base.numbers["documents"]["dimension"] == 384
            and diagnosis.model.numbers["documents"]["dimension"] == 64)
    files = write_diagnosis(diagnosis, tmp_path / "out")
    assert sorted(p.name for p in files) == sorted(p.name for p in (tmp_path / "out").iterdir())
    stored = json.loads((tmp_path / "out" / "diagnostics.json").read_text())
    assert stored == json.loads(diagnosis.to_json()) and stored["model"]["information"]["coordinates"] == 64
    page = (tmp_path / "out" / "diagnostics.html").read_text()
    assert "<script" not in page and "src='http" not in page and page.count("data:image/png") == 6
    assert len(page) < 1_500_000


def test_a_diagnosis_is_two_sides_of_the_same_texts(diagnosis):
    assert isinstance(diagnosis, Diagnosis) and isinstance(diagnosis.base, Side) and isinstance(diagnosis.model, Side)
    assert diagnosis.base.numbers["documents"]["vectors"] == diagnosis.model.numbers["documents"]["vectors"]
    figures = diagnosis_figures(diagnosis)
    assert set(figures) == set(CAPTIONS)
    diagnosis.name, name = "<b>&", diagnosis.name
    try:
        page = diagnosis_page(diagnosis, {"qq": figures["qq"]})
    finally:
        diagnosis.name = name
    assert "<b>&" not in page and "&lt;b&gt;&amp;" in page and page.count("<figure>") == 1


def test_too_few_pairs_are_named(fitted):
    with pytest.raises(UserError, match="too few"):
        diagnose(fitted[0], PairSet([Pair("a", "b")]))
    alike = RetrievalData({f"d{i}": "one text" for i in range(40)}, {f"q{i}": f"asks {i}" for i in range(12)},
                          {f"q{i}": {f"d{i}": 1} for i in range(12)}, "copies")
    with pytest.raises(UserError, match="1 different documents are too few.*copies"):
        diagnose(fitted[0], alike)

"""The null of unrelated documents: saddlepoint against Monte Carlo, scipy and Imhof's integral; the corpus
correction; conformal limits."""
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import integrate, stats

from ragcun.core import UserError
from ragcun.models.evidence import document_vector, evidence_from_distance, query_vector
from ragcun.retrieval.null import (IDENTITY, EmpiricalNull, GaussianNull, TailMap, answer_limit, corpus_null, fit_null,
                                   fit_tail_map, posterior, theoretical_null)


def imhof(s, lam, shift2):
    "P(Σ λ (g + δ)² ≤ s) by Imhof's integral (Biometrika 1961); shift2 = δ²."
    def f(x):
        theta = .5 * np.sum(np.arctan(lam * x) + shift2 * lam * x / (1 + (lam * x) ** 2)) - .5 * s * x
        size = np.prod((1 + (lam * x) ** 2) ** .25) * np.exp(.5
                                                             * np.sum(shift2 * (lam * x) ** 2 / (1 + (lam * x) ** 2)))
        return np.sin(theta) / (x * size)
    return .5 - integrate.quad(f, 0, np.inf, limit=500)[0] / np.pi


def offset(q, rho):
    return -.5 * np.log1p(-rho ** 2).sum() + .5 * (q ** 2).sum()


@pytest.mark.parametrize("seed", range(4))
def test_saddlepoint_against_imhof(seed):
    rng = np.random.default_rng(seed)
    rho = rng.uniform(.2, .9, 8)
    q = rng.standard_normal((1, 8))
    null = theoretical_null(rho)
    lam, shift2 = null.variances, (query_vector(q, rho)[0]) ** 2 / null.variances
    m = null.moments(q)
    e = (m.mean + m.sd * np.array([-2, -1, 0, 1, 1.3]))
    ours = np.exp(null.log_p(e[None], q))[0]
    theirs = np.array([imhof(2 * (offset(q[0], rho) - x), lam, shift2) for x in e])
    assert np.abs(ours - theirs).max() < .01
    keep = theirs > 1e-6
    assert np.abs(np.log(ours[keep] / theirs[keep])).max() < .06


def test_equal_weights_are_one_noncentral_chi_square():
    d, r = 40, .6
    rho = np.full(d, r)
    q = np.random.default_rng(0).standard_normal((1, d))
    null = theoretical_null(rho)
    lam, u2 = null.variances[0], (query_vector(q, rho) ** 2).sum()
    s = lam * stats.ncx2.ppf([1e-10, 1e-7, 1e-4, .01, .3, .9], d, u2 / lam)
    ours = np.exp(null.log_p((offset(q[0], rho) - .5 * s)[None], q))[0]
    assert np.allclose(ours, [1e-10, 1e-7, 1e-4, .01, .3, .9], rtol=5e-3)


@pytest.mark.slow
def test_saddlepoint_against_monte_carlo_in_384_dimensions():
    rng = np.random.default_rng(1)
    rho = np.linspace(.9, .02, 384)
    null = theoretical_null(rho)
    q = rng.standard_normal((1, 384))
    draws = np.concatenate([null.sample(q[0], 50_000, seed=s) for s in range(20)])
    for p in (.5, .1, .01, 1e-3, 1e-4):
        got = np.exp(null.log_p(np.quantile(draws, [[1 - p]]), q))[0, 0]
        assert abs(got / p - 1) < max(.02, 4 / np.sqrt(p * 1e6))


def test_uncorrelated_limit_tells_nothing():
    rho = np.full(10, 1e-6)
    q, x = np.random.default_rng(0).standard_normal((2, 1, 10))
    e = evidence_from_distance(np.linalg.norm(query_vector(q, rho) - document_vector(x, rho), axis=1)[:, None], q, rho)
    assert abs(e[0, 0]) < 1e-3


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(0, 10 ** 6), st.floats(.02, .97))
def test_log_p_is_monotone_and_finite(d, seed, top):
    rng = np.random.default_rng(seed)
    rho = rng.uniform(.02, top, d) if top > .02 else np.full(d, .02)
    null = theoretical_null(rho)
    q = 2 * rng.standard_normal((2, d))
    m = null.moments(q)
    e = m.mean[:, None] + m.sd[:, None] * np.linspace(-6, 6, 25)
    lp = null.log_p(e, q)
    assert np.isfinite(lp).all() and (lp <= 0).all() and (np.diff(lp, axis=1) <= 1e-9).all()


def test_rotation_and_order_do_not_matter():
    rng = np.random.default_rng(2)
    rho = rng.uniform(.1, .9, 12)
    q = rng.standard_normal((3, 12))
    e = rng.normal(-3, 2, (3, 7))
    p = rng.permutation(12)
    assert np.allclose(theoretical_null(rho).log_p(e, q), theoretical_null(rho[p]).log_p(e, q[:, p]))
    null = theoretical_null(np.full(12, .5))
    turn = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    assert np.allclose(null.log_p(e, q), GaussianNull(null.rho, null.centre, turn, null.variances).log_p(e, q))


def test_interpolated_rows_agree_with_exact_ones():
    rng = np.random.default_rng(3)
    rho = np.linspace(.9, .1, 64)
    q = rng.standard_normal((4, 64))
    e = np.sort(rng.normal(-10, 8, (4, 400)))
    null = theoretical_null(rho)
    exact = np.concatenate([null.normal_score(e[:, i:i + 20], q) for i in range(0, 400, 20)], axis=1)
    assert np.abs(null.normal_score(e, q) - exact).max() < .01


def test_uniform_p_values_on_a_gaussian_corpus_and_a_wrong_null_is_caught():
    rng = np.random.default_rng(4)
    rho = np.linspace(.85, .1, 32)
    shape = np.linspace(.5, 1.3, 32)
    z = rng.standard_normal((4000, 32)) * shape + .2
    ask = rng.standard_normal((200, 32)) * shape + .2
    from ragcun.retrieval.null import _evidence_matrix
    e = _evidence_matrix(ask, z, rho)
    good = corpus_null(z, rho)
    wrong = theoretical_null(rho)
    ks = [stats.kstest(np.exp(n.log_p(e, ask)).ravel(), "uniform").statistic for n in (good, wrong)]
    assert ks[0] < .02 and ks[1] > .05
    p = np.exp(good.log_p(e, ask))
    for a in (.01, 1e-3):
        assert .8 < (p < a).mean() / a < 1.25


def test_tail_map_never_gives_zero_and_small_samples_change_nothing():
    rng = np.random.default_rng(5)
    curve = fit_tail_map(rng.exponential(2, 20_000))
    far = curve(np.array([100., 1e4, 1e6]))
    assert np.isfinite(far).all() and (np.diff(far) < 0).all()
    assert fit_tail_map(rng.exponential(1, 100)) is IDENTITY
    short = fit_tail_map(rng.uniform(0, 3, 20_000))       # a finite end must not become p = 0
    assert np.isfinite(short(np.array([50.]))).all() and short.shape == 0


def test_no_documents_and_few_documents():
    rho = np.full(6, .5)
    null = fit_null(np.zeros((3, 6)), rho)
    assert null.curve is IDENTITY and np.isfinite(null.log_p(np.zeros((1, 2)), np.ones((1, 6)))).all()
    with pytest.raises(UserError, match="shape"):
        fit_null(np.zeros((3, 5)), rho)


def test_save_and_load_are_plain_arrays(tmp_path):
    rng = np.random.default_rng(6)
    null = fit_null(rng.standard_normal((300, 8)), np.linspace(.8, .2, 8))
    null.save(tmp_path/"n.npz")
    again = EmpiricalNull.load(tmp_path/"n.npz")
    q = rng.standard_normal((2, 8))
    e = rng.normal(-2, 2, (2, 5))
    assert np.allclose(null.log_p(e, q), again.log_p(e, q), atol=1e-4)
    np.savez(tmp_path/"pickled.npz", rho=np.array([object()], dtype=object))
    with pytest.raises(UserError, match="cannot be read"):
        EmpiricalNull.load(tmp_path/"pickled.npz")


@settings(max_examples=30, deadline=None)
@given(st.integers(5, 60), st.floats(.02, .5))
def test_conformal_limit_is_the_stated_order_statistic(n, alpha):
    scores = np.random.default_rng(n).permutation(np.arange(1., n + 1))
    k = int(np.floor(alpha * (n + 1) + 1e-9))
    limit = answer_limit(scores, alpha)
    assert (scores <= limit).sum() == max(0, k - 1)


def test_conformal_rate_is_kept_and_a_naive_quantile_breaks_it():
    rng = np.random.default_rng(7)
    n, alpha, trials = 9, .1, 20_000
    calibration = rng.lognormal(size=(trials, n))
    new = rng.lognormal(size=trials)
    limits = np.array([answer_limit(c, alpha) for c in calibration])
    assert (new <= limits).mean() <= alpha + .01
    # the plug-in quantile is not a guarantee
    assert (new <= np.quantile(calibration, alpha, axis=1)).mean() > alpha + .02


def test_posterior():
    assert np.isclose(posterior(0., .5), .5) and np.isclose(posterior(np.log(9.), .1), .5)
    with pytest.raises(UserError):
        posterior(0., 1.)


def test_a_tail_map_is_monotone_and_never_zero():
    curve = TailMap(np.array([0., 1., 3.]), np.array([0., -2., -4.]), 2., .5)
    y = np.array([0., .5, 1., 2., 3., 5., 1e6])
    got = curve(y)
    assert (np.diff(got) < 0).all() and np.isfinite(got).all()
    np.testing.assert_allclose(got[:5], [0, -1, -2, -3, -4])
    assert got[5] == pytest.approx(-4 - np.log1p(.5 * 1.) / .5)  # the generalised Pareto's survival function, by hand
    flat = TailMap(curve.y, curve.logp, 2., 0.)
    assert flat(y)[5] == pytest.approx(-5)  # exponential: (5 − 3) / 2 below the last point
    assert IDENTITY(np.array([.3, 7.])).tolist() == [-.3, -7.]


@pytest.mark.parametrize("least", [.5, 1e-3])
def test_scores_are_finite_and_fall_in_order_however_far_the_evidence_and_uneven_the_variances(least):
    "The saddlepoint lies next to a pole for very little evidence, and far from it for the most there can be."
    rho = np.geomspace(.99, least, 40)
    q = np.random.default_rng(0).normal(size=(5, 40))
    moments = theoretical_null(rho).moments(q)
    most = evidence_from_distance(np.zeros((5, 1)), q, rho)
    evidence = np.minimum(moments.mean[:, None] + moments.sd[:, None]*np.array([-1e5, -100, -3, 0, .5, 2, 9]), most)
    z = theoretical_null(rho).normal_score(evidence, q)
    assert np.isfinite(z).all()
    assert (np.diff(z, axis=1) >= 0).all()
    assert np.abs(z[:, 3]).max() < 1.2

"""Losses and scores: references, limits, errors, and broken versions that the checks must reject."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import stats

from ragcun.losses.contrastive import CRITICS, critic_scores, duplicate_mask, info_nce_loss
from ragcun.losses.penalties import predictive_loss, regularization_loss
from ragcun.losses.sigreg import (CLOUDS, characteristic_function_sums, covariance_penalty, example_cloud,
                                  sigreg_from_sums, sigreg_loss, sigreg_relative, slice_directions)
from ragcun.losses.total import LossParts, LossWeights, total_loss
from ragcun.models.evidence import (document_vector, embedding_std, evidence, evidence_pairs, information, pos_dist,
                                    pos_residual, query_vector)

F64 = torch.float64


@pytest.fixture(autouse=True)
def one_thread():
    "Tiny tensors: threads only cost."
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pairs(n=40, d=6, seed=0, low=.1, high=.9):
    g = torch.Generator().manual_seed(seed)
    rho = torch.linspace(high, low, d, dtype=F64)
    q, e = torch.randn(2, n, d, generator=g, dtype=F64)
    return q, rho*q + (1 - rho*rho).sqrt()*e, rho


def rotation(d, seed=0):
    return torch.linalg.qr(example_cloud("gaussian", d, d, seed))[0]


def close(a, b, tol=1e-9):
    np.testing.assert_allclose(np.asarray(torch.as_tensor(a).detach()), np.asarray(b), rtol=0, atol=tol)


def slow_evidence(q, x, rho):
    "Difference of two scipy log densities, pair by pair."
    q = q.numpy()
    x = x.numpy()
    rho = rho.numpy()
    given_q = stats.norm(rho*q[:, None], np.sqrt(1 - rho**2)).logpdf(x[None])
    return (given_q - stats.norm.logpdf(x)[None]).sum(-1)


# ---- evidence -------------------------------------------------------------------------------------------------------

@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 20), st.integers(0, 999), st.floats(0, .99))
def test_evidence_is_the_log_density_ratio(n, m, d, seed, high):
    q, _, rho = pairs(n, d, seed, 0., high)
    x = example_cloud("gaussian", m, d, seed + 1)
    close(evidence(q, x, rho), slow_evidence(q, x, rho), 1e-8)


def test_evidence_check_rejects_wrong_versions():
    q, x, rho = pairs()
    truth = slow_evidence(q, x, rho)
    u = query_vector(q, rho)
    v = document_vector(x, rho)
    forgot_query = information(rho).sum() - .5*torch.cdist(u, v)**2
    forgot_half = 2*information(rho).sum() - .5*torch.cdist(u, v)**2 + .5*(q*q).sum(1, keepdim=True)
    symmetric_scaling = information(rho).sum() - .5*torch.cdist(u,
                                                                query_vector(x, rho))**2 + .5*(q*q).sum(1, keepdim=True)
    for wrong in (forgot_query, forgot_half, symmetric_scaling):
        assert np.abs(wrong.numpy() - truth).max() > .1
    right = information(rho).sum() - .5*torch.cdist(u, v)**2 + .5*(q*q).sum(1, keepdim=True)
    close(right, truth, 1e-8)


def test_evidence_limits_and_symmetry():
    q, x, rho = pairs()
    close(evidence(q, x, 0*rho), torch.zeros(40, 40))
    close(evidence(q, x, rho), evidence(x, q, rho).T)                    # neither side is special
    order = torch.randperm(6)
    close(evidence(q[:, order], x[:, order], rho[order]), evidence(q, x, rho))
    same = torch.full((6,), .4, dtype=F64)
    r = rotation(6)
    close(evidence(q @ r, x @ r, same), evidence(q, x, same))            # rotation where all rho are equal
    assert (evidence(q @ r, x @ r, rho) - evidence(q, x, rho)).abs().max() > .1
    close(evidence(q[:, :3], x[:, :3], rho[:3]) + evidence(q[:, 3:], x[:, 3:], rho[3:]), evidence(q, x, rho))


def test_evidence_float32_error_is_small_at_full_size():
    q, x, rho = pairs(300, 768, low=.02, high=.97)
    assert (evidence(q.float(), x.float(), rho.float()) - evidence(q, x, rho)).abs().max() < 5e-3  # of E around ±1,000


def test_evidence_is_exact_under_autocast():
    q, x, rho = (t.float() for t in pairs(30, 64))
    with torch.autocast("cpu", torch.bfloat16):
        inside = evidence(q, x, rho)
        loss = sigreg_loss(q)
    assert torch.equal(inside, evidence(q, x, rho)) and torch.equal(loss, sigreg_loss(q))
    assert evidence(q.bfloat16(), x.bfloat16(), rho).dtype == torch.float32


def test_evidence_gradient():
    q, x, rho = pairs(4, 3)
    for t in (q, x, rho):
        t.requires_grad_()
    assert torch.autograd.gradcheck(evidence, (q, x, rho))
    assert torch.autograd.gradcheck(evidence_pairs, (q, x, rho))


def test_mean_of_the_ratio_over_unrelated_pairs_is_one():
    q, _, rho = pairs(3000, 3, 1, .1, .5)
    x = example_cloud("gaussian", 3000, 3, 7)
    assert abs(evidence(q, x, rho).exp().mean() - 1) < .1


@pytest.mark.parametrize("rho", [[.5, 1.], [-.1, .5], [float("nan"), .5]])
def test_impossible_correlations_are_refused(rho):
    said = "not a number" if np.isnan(rho).any() else "0 ≤ ρ < 1"
    with pytest.raises(ValueError, match=said):
        evidence(torch.ones(1, 2), torch.ones(1, 2), torch.tensor(rho))


def test_wrong_shapes_are_refused():
    q, x, rho = pairs()
    for f in (evidence, evidence_pairs, lambda *a: info_nce_loss(*a, 1.)):
        with pytest.raises(ValueError, match="do not fit"):
            f(q, x[:, :5], rho)


# ---- masks and InfoNCE ----------------------------------------------------------------------------------------------

def slow_mask(queries, documents, negatives):
    "True where some row pairs this query with this column's document."
    known = set(zip(queries, documents, strict=True))
    rows = [[(a, b) in known for b in documents + negatives] for a in queries]
    for i, row in enumerate(rows):
        row[i] = False
    return rows


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=12),
       st.lists(st.integers(0, 8), max_size=6))
def test_duplicate_mask_against_brute_force(rows, negatives):
    a, b = [list(c) for c in zip(*rows, strict=True)]
    given_negatives = torch.tensor(negatives, dtype=torch.long) if negatives else None
    got = duplicate_mask(torch.tensor(a), torch.tensor(b), given_negatives)
    assert got.tolist() == slow_mask(a, b, negatives)


def slow_info_nce(q, x, rho, tau, negatives=None, mask=None, symmetric=True):
    "Loops and logarithms."
    columns = x if negatives is None else torch.cat([x, negatives])
    s = tau*slow_evidence(q, columns, rho)
    keep = ~mask.numpy() if mask is not None else np.ones_like(s, bool)
    n = len(q)
    there = np.mean([np.log(np.exp(s[i][keep[i]]).sum()) - s[i, i] for i in range(n)])
    back = np.mean([np.log(np.exp(s[:, i][keep[:, i]]).sum()) - s[i, i] for i in range(n)])
    return (there + back)/2 if symmetric else there


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(0, 5), st.booleans(), st.booleans(), st.integers(0, 99))
def test_info_nce_against_loops(n, m, masked, symmetric, seed):
    q, x, rho = pairs(n, 4, seed)
    negatives = example_cloud("gaussian", m, 4, seed) if m else None
    g = torch.Generator().manual_seed(seed)
    mask = (torch.rand(n, n + m, generator=g) < .3).fill_diagonal_(False) if masked else None
    if mask is not None:
        mask[torch.arange(n), torch.arange(n)] = False
    got = info_nce_loss(q, x, rho, .7, negatives=negatives, mask=mask, symmetric=symmetric)
    close(got, slow_info_nce(q, x, rho, .7, negatives, mask, symmetric), 1e-9)


def test_info_nce_gradient_also_with_masks():
    q, x, rho = pairs(5, 3)
    tau = torch.tensor(.6, dtype=F64)
    mask = duplicate_mask(torch.tensor([0, 0, 1, 2, 3]), torch.tensor([0, 1, 2, 3, 3]), torch.tensor([3, 7]))
    negatives = example_cloud("gaussian", 2, 3)
    tensors = [t.clone().requires_grad_() for t in (q, x, rho, tau, negatives)]
    for critic in CRITICS:
        def f(q, x, rho, tau, neg, critic=critic):
            return info_nce_loss(q, x, rho, tau, negatives=neg, mask=mask, critic=critic)
        assert torch.autograd.gradcheck(f, tensors)


def test_no_critic_beats_the_true_ratio():
    q, x, rho = pairs(512, 8, low=.05)
    best = info_nce_loss(q, x, rho, 1.)
    for wrong in (rho*0 + rho.mean(), rho.flip(0), (1.3*rho).clamp(max=.97)):
        assert info_nce_loss(q, x, wrong, 1.) > best
    for tau in (.5, 2.):
        assert info_nce_loss(q, x, rho, tau) > best


def test_negatives_are_columns_for_every_row_and_only_there():
    q, x, rho = pairs(6, 4)
    extra = example_cloud("gaussian", 3, 4)
    one_way = info_nce_loss(q, x, rho, 1., negatives=extra, symmetric=False)
    both = info_nce_loss(q, x, rho, 1., negatives=extra)
    close(2*both - one_way, info_nce_loss(x, q, rho, 1., symmetric=False), 1e-9)
    assert one_way > info_nce_loss(q, x, rho, 1., symmetric=False)


def test_a_single_row_trains():
    q, x, rho = (t.requires_grad_() for t in pairs(1, 4))
    parts = total_loss(q, x, rho, 1., LossWeights(predictive=1.))
    parts.total.backward()
    assert parts.contrastive == 0 and torch.isfinite(q.grad).all() and torch.isfinite(x.grad).all()


# ---- SIGReg ---------------------------------------------------------------------------------------------------------

def published_sigreg(z, directions):
    "n times the statistic of LeJEPA, arXiv 2511.08544: trapezoid on [0, 3], 17 points, doubled, window e^(-t²/2)."
    t = torch.linspace(0, 3, 17, dtype=z.dtype)
    phi = (-t.square()/2).exp()
    weights = torch.full((17,), 2*3/16, dtype=z.dtype)
    weights[[0, -1]] = 3/16
    angles = torch.einsum("nd,kd,t->nkt", z, directions, t)
    gap = (angles.cos().mean(0) - phi).square() + angles.sin().mean(0).square()
    return len(z)*(gap @ (weights*phi)).mean()


def double_sum(z, directions, keep_diagonal):
    "Epps–Pulley as a sum over pairs of points."
    t = torch.linspace(0, 3, 17, dtype=z.dtype)
    w = torch.full((17,), 6/16, dtype=z.dtype)
    w[[0, -1]] = 3/16
    phi = (-t*t/2).exp()
    p = z @ directions.T
    n = len(z)
    both = torch.cos((p[:, None] - p[None])[..., None]*t)                     # [n, n, k, 17]
    keep = torch.ones(n, n, dtype=z.dtype) if keep_diagonal else 1 - torch.eye(n, dtype=z.dtype)
    power = torch.einsum("ij,ijkt->kt", keep, both)/keep.sum()
    return ((power - 2*phi*torch.cos(p[..., None]*t).mean(0) + phi**2) @ (w*phi)).mean()


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 99), st.sampled_from(sorted(CLOUDS)))
def test_sigreg_against_the_published_formula_and_the_double_sum(n, d, seed, kind):
    z = example_cloud(kind, n, d, seed)
    a = slice_directions(d, 16, seed, dtype=F64)
    v, u = (sigreg_loss(z, seed=seed, n_slices=16, form=f) for f in "vu")
    close(n*v, published_sigreg(z, a), 1e-9)
    close(v, double_sum(z, a, True), 1e-9)
    close(u, double_sum(z, a, False), 1e-9)


@pytest.mark.parametrize("n", [8, 16, 64, 256, 1024])
def test_the_optimum_is_at_std_one(n):
    "Mean over many batches; the same test rejects the V form at 8 and 16, and a regularization that is not unbiased."
    batches = [example_cloud("gaussian", n, 32, s) for s in range(max(4, 1600//n))]
    grid = np.arange(.82, 1.14, .04)
    def best(loss):
        "Vertex of a parabola through the mean losses."
        means = [np.mean([float(loss(b*s)) for b in batches]) for s in grid]
        a, b, _ = np.polyfit(grid, means, 2)
        return -b/(2*a)
    assert abs(best(lambda z: sigreg_loss(z, n_slices=16)) - 1) < .045
    assert abs(best(regularization_loss) - 1) < .045
    if n <= 16:
        assert best(lambda z: sigreg_loss(z, n_slices=16, form="v")) < .955
        assert best(lambda z: (z.mean(0)**2 + (z.std(0) - 1)**2).mean()) < .955


def test_sigreg_invariances():
    z = example_cloud("laplace", 200, 5)
    close(sigreg_loss(z[torch.randperm(200)]), sigreg_loss(z), 1e-12)
    a = slice_directions(5, 64, 1, dtype=F64)
    r = rotation(5)
    turned = characteristic_function_sums(z @ r, a @ r)
    close(turned, characteristic_function_sums(z, a), 1e-9)                 # rotating cloud and directions together
    close(sigreg_loss(-z), sigreg_loss(z), 1e-12)
    many = [sigreg_relative(z @ rotation(5, s), n_slices=512) for s in range(3)]
    assert max(many) < 1.25*min(many)                                        # and nearly so with directions of its own


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 7))
def test_chunks_add_up_to_the_batch_with_their_gradients(sizes, block):
    z = example_cloud("uniform", sum(sizes), 4).requires_grad_()
    a = slice_directions(4, 8, 2, dtype=F64)
    whole = sigreg_loss(z, seed=2, n_slices=8)
    parts = sum(characteristic_function_sums(c, a, block) for c in z.split(sizes))
    again = sigreg_from_sums(parts, sum(sizes))
    close(again, whole.detach(), 1e-12)
    (g1,) = torch.autograd.grad(whole, z)
    (g2,) = torch.autograd.grad(again, z)
    close(g1, g2, 1e-12)
    if len(sizes) > 1 and max(sizes) > 1:  # averaging the losses of chunks is something else
        wrong = sum(sigreg_loss(c, seed=2, n_slices=8, form="v") for c in z.split(sizes))/len(sizes)
        assert abs(float((wrong - sigreg_loss(z, seed=2, n_slices=8, form="v")).detach())) > 1e-6


def test_the_closed_form_gradient_is_autograds():
    z = example_cloud("two lumps", 9, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: sigreg_loss(z, n_slices=5), z)
    assert torch.autograd.gradcheck(lambda z: sigreg_loss(z, n_slices=5, form="v"), z)
    a = slice_directions(3, 5, 0, dtype=F64)
    (mine,), (plain,) = (torch.autograd.grad(v, z)
                         for v in (9*sigreg_loss(z, n_slices=5, form="v"), published_sigreg(z, a)))
    close(mine, plain, 1e-10)


def test_float32_and_far_points_stay_close_to_float64():
    z = 30*example_cloud("gaussian", 500, 8)
    close(float(sigreg_loss(z.float())), float(sigreg_loss(z)), 1e-5)


def test_directions_are_units_and_the_same_everywhere():
    a = slice_directions(7, 50, 3)
    close(a.norm(dim=1), np.ones(50), 1e-6)
    torch.manual_seed(99)
    torch.randn(5)
    assert torch.equal(a, slice_directions(7, 50, 3)) and not torch.equal(a, slice_directions(7, 50, 4))
    state = torch.get_rng_state()
    slice_directions(7)
    assert torch.equal(state, torch.get_rng_state())                         # the global generator is left alone


# relative distance; above the largest of the Gaussian clouds drawn for the notebook, below every sick one
THRESHOLD = 3.5


@pytest.mark.parametrize("kind", [k for k in CLOUDS if k != "gaussian"])
def test_sick_clouds_are_rejected(kind):
    scores = [sigreg_relative(example_cloud(kind, 1024, 3, s), n_slices=64) for s in range(5)]
    assert min(scores) > THRESHOLD


def test_gaussian_clouds_pass_and_read_one():
    scores = np.array([sigreg_relative(example_cloud("gaussian", 1024, 3, 500 + s), n_slices=64) for s in range(60)])
    assert (scores > THRESHOLD).sum() <= 1  # fixed seeds; at most one Gaussian cloud may reach it
    assert abs(scores.mean() - 1) < .35


@pytest.mark.parametrize("n", [4, 32, 500])
def test_relative_distance_is_one_at_any_size(n):
    scores = [sigreg_relative(example_cloud("gaussian", n, 24, s), n_slices=64) for s in range(150)]
    assert abs(np.mean(scores) - 1) < 4*np.std(scores)/150**.5 + .01


def test_the_covariance_penalty_is_fooled_where_sigreg_is_not():
    for kind in ("coin flips", "uniform", "laplace", "two lumps", "shifted"):
        assert covariance_penalty(example_cloud(kind, 4096, 3)) < .01
    z = example_cloud("gaussian", 8, 32)
    assert min((.4, .6, .8, 1.), key=lambda s: float(covariance_penalty(s*z))) < .7  # a small batch pays to shrink
    r = rotation(32)
    close(covariance_penalty(z @ r), covariance_penalty(z), 1e-9)
    c = np.cov(z.numpy().T) - np.eye(32)
    close(covariance_penalty(z), (c**2).sum()/32, 1e-9)


def test_sigreg_refuses_nonsense():
    z = torch.ones(3, 2)
    for bad in (z[0], z[:0]):
        with pytest.raises(ValueError, match="shape"):
            sigreg_loss(bad)
    with pytest.raises(ValueError, match="'u' or 'v'"):
        sigreg_loss(z, form="x")
    with pytest.raises(ValueError, match="unknown cloud"):
        example_cloud("donut")


def test_memory_of_the_graph_does_not_grow_with_the_points():
    saved = []
    z = torch.randn(512, 16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        sigreg_loss(z, n_slices=64)
    assert sum(saved) < 3*512*64  # the plain version keeps 17 times 512·64, twice


# ---- regularization, predictive, figures, total ----------------------------------------------------------------------

def test_regularization_is_unbiased():
    for n, mean, std in ((4, 0., 1.), (8, .5, .6), (32, 0., 2.)):
        draws = [float(regularization_loss(mean + std*example_cloud("gaussian", n, 200, s))) for s in range(60)]
        assert abs(np.mean(draws) - (mean**2 + (std - 1)**2)) < 4*np.std(draws)/60**.5 + 1e-3


def test_regularization_pulls_near_collapse_where_sigreg_does_not():
    from ragcun.losses.penalties import gradient_norm
    z = 1e-5*example_cloud("gaussian", 64, 16)
    assert gradient_norm(regularization_loss, z) > .05 and gradient_norm(sigreg_loss, z) < 1e-5
    point = torch.zeros(8, 4, requires_grad=True)
    regularization_loss(point).backward()
    assert torch.isfinite(point.grad).all()


def test_predictive_loss():
    q, x, rho = pairs(2000, 5)
    close(predictive_loss(q, x, rho),
          np.mean(stats.norm(rho*q, (1 - rho**2)**.5).logpdf(x)*-2 - np.log(2*np.pi*(1 - rho.numpy()**2))), 1e-9)
    q, x, r = (t[:4].clone().requires_grad_() for t in (q, x, rho))
    q5, x5, r5 = pairs(4, 5)
    for t in (q5, x5, r5):
        t.requires_grad_()
    predictive_loss(q5, x5, r5, stop_gradient=True).backward()
    assert q5.grad is not None and x5.grad is None and r5.grad is None
    assert torch.autograd.gradcheck(lambda a, b: predictive_loss(a, b, r5.detach()), (q5, x5))


def test_logged_figures():
    q, x, rho = pairs(3000, 8)
    assert abs(pos_residual(q, x, rho) - 1) < .03 and pos_residual(q, x.flip(0), rho) > 1.2
    assert abs(pos_dist(q, x.flip(0)) - 2**.5) < .02 and pos_dist(q, q) == 0
    assert abs(embedding_std(.3*q) - .3) < .01 and embedding_std(q[:1]) == 0
    assert all(isinstance(v, float) for v in (pos_residual(q, x, rho), pos_dist(q, x), embedding_std(q)))


@settings(max_examples=25, deadline=None)
@given(*[st.sampled_from([0., .3, 2.])]*4, st.integers(1, 20), st.integers(0, 50))
def test_total_is_the_weighted_sum_of_its_parts(a, b, c, e, n, seed):
    q, x, rho = pairs(n, 4, seed)
    w = LossWeights(a, b, c, e, n_slices=8)
    got = total_loss(q, x, rho, .5, w, seed=seed)
    want = (a*info_nce_loss(q, x, rho, .5) + b/2*sum(sigreg_loss(z, seed=seed, n_slices=8) for z in (q, x))
            + c/2*sum(regularization_loss(z) for z in (q, x)) + e*predictive_loss(q, x, rho))
    close(got.total, want, 1e-9)
    close(got.total, a*got.contrastive + b*got.isotropy + c*got.regularization + e*got.predictive, 1e-9)


def test_each_side_is_tested_alone():
    "Two half clouds that are Gaussian only when thrown together are caught."
    z = example_cloud("gaussian", 4000, 2)
    left = z[z[:, 0] < 0][:1900]
    right = z[z[:, 0] >= 0][:1900]
    w = LossWeights(0, 1, 0)
    assert total_loss(left, right, torch.tensor([.5, .5], dtype=F64), 1., w).isotropy > .05
    assert sigreg_loss(torch.cat([left, right])) < .01


def test_weights_are_checked():
    for bad in ({"isotropy": -1.}, {"reg": float("nan")}):
        with pytest.raises(ValueError, match="not ≥ 0"):
            LossWeights(**bad)
    with pytest.raises(ValueError, match="unknown critic"):
        LossWeights(critic="dot")
    with pytest.raises(AttributeError):
        LossWeights().isotropy = 3.


def test_descending_the_loss_gives_a_gaussian_cloud_and_the_right_score():
    """Free embeddings, wrong in every way, are trained: std, mean and shape come right, and the positives stay the
    best hits."""
    g = torch.Generator().manual_seed(0)
    q = (.2*torch.randn(256, 8, generator=g) + 1).requires_grad_()
    x = (q.detach() + .05*torch.randn(256, 8, generator=g)).requires_grad_()
    rho = torch.full((8,), .9)
    opt = torch.optim.Adam([q, x], lr=.08)
    for step in range(100):
        loss = total_loss(q, x, rho, 1., LossWeights(n_slices=64), seed=step).total
        opt.zero_grad()
        loss.backward()
        opt.step()
    assert abs(embedding_std(q) - 1) < .1 and q.mean().abs() < .1 and sigreg_relative(q.detach()) < 3
    assert (evidence(q, x, rho).argmax(1) == torch.arange(256)).float().mean() > .95


def test_full_precision_raises_half_and_leaves_the_rest():
    from ragcun.models.evidence import full_precision
    seen = []

    @full_precision
    def f(a, *, b=None):
        seen.append((a.dtype, b, torch.is_autocast_enabled("cpu")))
        return a @ a.T

    with torch.autocast("cpu", torch.bfloat16):
        assert f(torch.ones(2, 2, dtype=torch.float16)).dtype == torch.float32
        assert f(torch.ones(2, 2, dtype=F64), b="kept").dtype == F64
    assert seen == [(torch.float32, None, False), (F64, "kept", False)]


def test_critic_scores_are_what_they_are_called():
    q, x, rho = pairs(5, 3)
    close(critic_scores(q, x, rho, "euclidean"), -.5*torch.cdist(q, x)**2)
    close(critic_scores(q, x, rho, "cosine"), torch.cosine_similarity(q[:, None], x[None], dim=-1))
    close(critic_scores(q, x, rho), evidence(q, x, rho))


def test_loss_parts_are_named_scalars_with_a_graph():
    q, x, rho = pairs(6, 3)
    got = total_loss(q.requires_grad_(), x, rho, 1., LossWeights(predictive=1., n_slices=8, cosine=1.), features=(q, x))
    assert (isinstance(got, LossParts)
            and got._fields == ("total", "contrastive", "isotropy", "regularization", "predictive", "cosine"))
    assert all(t.ndim == 0 and t.requires_grad for t in got)

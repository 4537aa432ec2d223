"""Quantised storage: constant tables against theory, packing, and stores that search codes."""
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from ragcun.core import UserError
from ragcun.retrieval.hits import Batch
from ragcun.retrieval.quantization import (QuantizedStore, Quantizer, RotatedQuantizer, allot_bits,
                                           fit_quantizer, lloyd_max)
from ragcun.retrieval.retriever import GaussianRetriever
from ragcun.retrieval.stores import MemoryStore
from tiny_encoder import TinyEncoder


@pytest.mark.parametrize("bits,error", [(1, .3634), (2, .1175), (3, .03454), (4, .009497)])
def test_tables_have_the_error_of_theory(bits, error):
    levels, edges, own = lloyd_max(bits)
    assert abs(own - error) < 6e-5 and len(levels) == 2 ** bits and np.allclose(levels, -levels[::-1])
    x = np.random.default_rng(bits).standard_normal(400_000)
    assert abs(np.mean((levels[np.searchsorted(edges, x)] - x) ** 2) - error) < .01 * error + 5e-5


def test_one_bit_level_is_known():
    assert np.allclose(lloyd_max(1)[0], [-np.sqrt(2 / np.pi), np.sqrt(2 / np.pi)])


@pytest.mark.parametrize("bits", [2, 4])
def test_levels_are_conditional_means(bits):
    levels, edges, _ = lloyd_max(bits)
    cut = np.r_[-np.inf, edges, np.inf]
    want = [stats.truncnorm.mean(a, b) for a, b in zip(cut[:-1], cut[1:], strict=True)]
    assert np.allclose(levels, want, atol=1e-6)


def test_uniform_table_is_worse():
    levels, _, error = lloyd_max(3)
    x = np.random.default_rng(0).standard_normal(300_000)
    even = np.linspace(-3, 3, 8)
    assert np.mean((even[np.searchsorted((even[1:] + even[:-1]) / 2, x)] - x) ** 2) > error * 1.1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=40), st.integers(0, 1000))
def test_codes_come_back_whatever_the_bits(bits, seed):
    z = 3 * np.random.default_rng(seed).standard_normal((5, len(bits)))
    q = Quantizer(bits, len(bits))
    codes = q.encode(z)
    assert codes.shape == (5, -(-sum(bits) // 8)) and codes.dtype == np.uint8
    back = q.decode(codes)
    for j, b in enumerate(bits):
        levels = lloyd_max(b)[0] if b else np.zeros(1)
        nearest = levels[np.abs(levels[None] - z[:, j, None]).argmin(1)]
        assert np.allclose(np.abs(back[:, j] - z[:, j]), np.abs(nearest - z[:, j]), atol=1e-5)


def test_allotted_bits_beat_equal_and_random_ones():
    rho = np.linspace(.95, .05, 48)
    rng = np.random.default_rng(1)
    bits = allot_bits(rho, 2)
    weight = rho ** 2 / (1 - rho ** 2)
    def damage(b):
        return sum(w * lloyd_max(int(k))[2] for w, k in zip(weight, b, strict=True))
    assert bits.sum() == 96 and damage(bits) < damage(np.full(48, 2))
    for _ in range(20):
        assert damage(bits) <= damage(rng.permutation(bits)) + 1e-12
    for i, j in ((0, 20), (20, 0), (3, 40)):                # moving any bit makes it worse
        moved = bits.copy()
        if moved[i] < 8 and moved[j] > 0:
            moved[i] += 1
            moved[j] -= 1
            assert damage(moved) >= damage(bits)


def test_asymmetric_distances_are_those_of_decoded_vectors():
    rho = np.linspace(.9, .1, 20)
    rng = np.random.default_rng(2)
    store = QuantizedStore(rho, allot_bits(rho, 3))
    z = rng.standard_normal((500, 20))
    gain = rho / np.sqrt(1 - rho ** 2)
    ids = [str(i) for i in range(500)]
    store.add(Batch(ids, ids, [{}] * 500, (z * gain).astype(np.float32)))
    u = (rng.standard_normal((7, 20)) / np.sqrt(1 - rho ** 2)).astype(np.float32)
    v = store.coder.decode(store.coder.encode(z)) * gain
    want = np.linalg.norm(u[:, None] - v[None], axis=-1)
    for row, w in zip(store.search(u, 4), want, strict=True):
        assert np.allclose([f.distance for f in row], np.sort(w)[:4], atol=1e-4)


def test_fitted_quantizer_adapts_and_a_dead_coordinate_is_harmless():
    rng = np.random.default_rng(3)
    rho = np.linspace(.9, .1, 24)
    z = rng.standard_normal((800, 24)) * np.linspace(2, .2, 24) + 1
    z[:, 5] = .7                                             # a coordinate that never varies
    fitted = fit_quantizer(z, rho, 2)
    plain = Quantizer(2, 24)
    assert (fitted.bits[5] == 0 and np.allclose(fitted.decode(fitted.encode(z))[:, 5], .7, atol=1e-5)
            and fitted.width == plain.width)
    error = [np.mean((q.decode(q.encode(z)) - z) ** 2) for q in (fitted, plain)]
    assert error[0] < error[1]


def test_bad_input():
    for wrong in (lambda: Quantizer(4, 8).encode(np.zeros((2, 7))),
                  lambda: Quantizer(4, 2).encode(np.array([[1., np.inf]])), lambda: lloyd_max(12),
                  lambda: fit_quantizer(np.ones((4, 8)), np.full(8, .5), -1),
                  lambda: fit_quantizer(np.ones((4, 8)), np.full(8, .5), 9)):
        with pytest.raises(UserError):
            wrong()


def test_the_retriever_works_on_codes():
    model = TinyEncoder()
    docs = [f"text {i} and {i * 7 % 50}" for i in range(200)]
    full = GaussianRetriever(model)
    short = GaussianRetriever(model, store=QuantizedStore(model.rho_numpy, 4))
    full.add(docs)
    short.add(docs)
    a = full.search(docs[17], top_k=3)
    b = short.search(docs[17], top_k=3)
    assert a[0].id == b[0].id and abs(a[0].evidence - b[0].evidence) < 1 and short.add(docs) == 0


def damage(code, z, rho):
    return np.mean(((code.decode(code.encode(z)) - z) * rho / np.sqrt(1 - rho ** 2)) ** 2)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_rotation_keeps_the_theory_on_the_law_and_mends_what_is_off_it(bits):
    rng = np.random.default_rng(bits)
    rho = np.linspace(.9, .1, 96)
    z = rng.standard_normal((4000, 96))
    even = RotatedQuantizer(np.full(96, .6), bits)
    assert np.mean((even.decode(even.encode(z)) - z) ** 2) == pytest.approx(lloyd_max(bits)[2], rel=.02)
    assert damage(RotatedQuantizer(rho, bits), z, rho) < 1.02 * damage(Quantizer(bits, 96), z, rho)
    off = z * rng.choice([.2, 1.4], 96) + rng.normal(0, .8, 96)  # as far off as real coordinates, and further
    skew = rng.standard_exponential((4000, 96)) - 1
    for x in (off, skew):
        assert damage(RotatedQuantizer(rho, bits), x, rho) < .9 * damage(Quantizer(bits, 96), x, rho)


def test_the_shrinkage_after_rotation_is_the_best_linear_one():
    rng = np.random.default_rng(0)
    rho = np.linspace(.95, .05, 64)
    z = rng.standard_normal((20_000, 64))
    code = RotatedQuantizer(np.linspace(.95, .05, 64), 1)
    back = code.decode(code.encode(z))
    slope = (back * z).mean(0) / (back ** 2).mean(0)  # 1 when no rescaling of a coordinate would help
    assert np.abs(slope - 1).max() < .08 and damage(code, z, rho) > 0
    assert np.abs(slope * 1.3 - 1).max() > .25  # what a wrong factor would give


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 8), st.integers(0, 100))
def test_rotated_codes_have_their_width_and_depend_on_the_seed_only(dim, bits, seed):
    rho = np.linspace(.9, .05, dim)
    z = np.random.default_rng(seed).standard_normal((5, dim))
    a = RotatedQuantizer(rho, bits, seed)
    b = RotatedQuantizer(rho, bits, seed)
    assert a.width == -(-bits * dim // 8) and a.encode(z).shape == (5, a.width) and (a.encode(z) == b.encode(z)).all()
    assert a.decode(a.encode(z)).shape == (5, dim) and np.isfinite(a.decode(a.encode(1e6 * z))).all()


def test_a_store_takes_bits_or_a_quantiser():
    rho = np.linspace(.9, .1, 16)
    mine = fit_quantizer(np.random.default_rng(0).standard_normal((50, 16)), rho, 2)
    kinds = {4: RotatedQuantizer, 2: Quantizer, 1: Quantizer, mine: Quantizer,
             RotatedQuantizer(rho, 1): RotatedQuantizer}
    for given_, kind in kinds.items():
        assert type(QuantizedStore(rho, given_).coder) is kind
    assert type(QuantizedStore(np.full(16, .5), 2).coder) is RotatedQuantizer
    assert QuantizedStore(rho, mine).coder is mine and type(QuantizedStore(rho, allot_bits(rho, 2)).coder) is Quantizer
    for bad in (0, 9, -1, 2.5, "4", None, True, [1, 2], [.5] * 16, np.full(16, 9)):
        with pytest.raises(UserError, match="bits is"):
            QuantizedStore(rho, bad)
    for bad in (np.zeros((2, 5)), np.full((1, 16), np.nan)):
        with pytest.raises(UserError):
            RotatedQuantizer(rho, 2).encode(bad)
    with pytest.raises(UserError, match=r"codes have shape \(3, 4\), not \[n, 8\]"):   # it decoded the wrong bits
        Quantizer(4, 16).decode(Quantizer(2, 16).encode(np.zeros((3, 16))))
    assert len(QuantizedStore(TinyEncoder(16), 4).gain) == 16
    for bad in (np.zeros((2, 3)), [1., 2.], np.float64(.5)):
        with pytest.raises(UserError, match="correlations of a model are wanted"):
            QuantizedStore(bad, 4)


def test_a_store_that_would_be_ignored_or_does_not_fit_is_refused(tmp_path):
    model = TinyEncoder(16)
    with pytest.raises(UserError, match="a folder keeps its documents itself"):
        GaussianRetriever(model, tmp_path/"index", store=QuantizedStore(model.rho_numpy, 4))
    assert not (tmp_path/"index").exists()
    for store in (MemoryStore(12), QuantizedStore(model.rho_numpy[:12], 4)):
        with pytest.raises(UserError, match="for 12 coordinates, the model gives 16"):
            GaussianRetriever(model, store=store)
    with pytest.raises(UserError, match="a store is wanted, not 'memory'"):
        GaussianRetriever(model, store="memory")


def test_an_empty_index_of_codes_is_saved_and_calibrated_as_any_other(tmp_path):
    model = TinyEncoder(16)
    index = GaussianRetriever(model, store=QuantizedStore(model.rho_numpy.tolist(), 4))
    assert index.add([]) == 0 and index.calibrate() == 0 and not index.search("ice").hits
    assert len(index.save(tmp_path/"index")) == 0
    assert Quantizer(4, 16).encode(np.zeros((0, 16))).shape == (0, 8)

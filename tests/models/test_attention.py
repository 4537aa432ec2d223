"""Attention in pieces against PyTorch's own, over shapes, masks and precisions, and inside encoders of other kinds."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st

from ragcun.models import kernels as module
from ragcun.models.encoder import GaussianEncoder
from ragcun.models.kernels import Pieces, attention, keep_mask, use_attention
from small import small_base


def tensors(seed, texts, heads, tokens, width, dtype):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(texts, tokens, heads, width, generator=g, dtype=dtype).transpose(1, 2) for _ in range(3)]


def mask_of(seed, texts, tokens):
    length = torch.randint(1, tokens + 1, (texts,), generator=torch.Generator().manual_seed(seed))
    return (torch.arange(tokens) < length[:, None])[:, None, None].expand(texts, 1, tokens, tokens)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99), st.integers(1, 5), st.integers(1, 3), st.integers(1, 17), st.sampled_from([1, 4, 8]),
       st.booleans(), st.sampled_from([1, 200, 10**6]))
def test_values_and_gradients(seed, texts, heads, tokens, width, masked, cached):
    q, k, v = (t.requires_grad_() for t in tensors(seed, texts, heads, tokens, width, torch.float64))
    mask = mask_of(seed, texts, tokens) if masked else None
    module.CACHED, old = cached, module.CACHED
    try:
        ours = Pieces.apply(q, k, v, mask, 0.0)
        theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
        g = torch.randn_like(ours)
        for a, b in zip(torch.autograd.grad(ours, (q, k, v), g),
                        torch.autograd.grad(theirs, (q, k, v), g), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    finally:
        module.CACHED = old


@pytest.mark.parametrize("masked", [False, True])
def test_bfloat16_is_as_near_as_the_kernel_of_torch(masked):
    exact = tensors(0, 6, 4, 70, 32, torch.float32)
    mask = mask_of(1, 6, 70) if masked else None
    want = F.scaled_dot_product_attention(*exact, attn_mask=mask)
    half = [t.bfloat16() for t in exact]
    with torch.no_grad():
        ours = attention(None, *half, mask)[0].transpose(1, 2)
    theirs = F.scaled_dot_product_attention(*half, attn_mask=mask)
    error = [(t.float() - want).norm()/want.norm() for t in (ours, theirs)]
    assert error[0] < .01 and error[0] < 4*error[1]


def test_additive_masks_and_grouped_heads_go_the_right_way():
    q, k, v = (t.bfloat16() for t in tensors(2, 3, 4, 9, 8, torch.float32))
    keep = mask_of(3, 3, 9)
    additive = torch.zeros(keep.shape, dtype=torch.bfloat16).masked_fill(~keep, float("-inf"))
    with torch.no_grad():
        torch.testing.assert_close(attention(None, q, k, v, keep)[0], attention(None, q, k, v, additive)[0])
        grouped = type("Layer", (), {"num_key_value_groups": 2, "is_causal": False})()
        out = attention(grouped, q, k[:, :2], v[:, :2], None)[0].transpose(1, 2)
    torch.testing.assert_close(out, F.scaled_dot_product_attention(q, k[:, [0, 0, 1, 1]], v[:, [0, 0, 1, 1]]),
                               rtol=.02, atol=.02)


@pytest.mark.parametrize("p", [.1, .5, .999])
def test_dropout_keeps_the_mean(p):
    torch.manual_seed(0)
    keep, scale = keep_mask((400, 500), p)
    assert abs(float(keep.float().mean()*scale) - 1) < 5*((p/(1 - p))/2e5)**.5
    assert keep_mask((7, 3), 0)[0].all() and keep_mask((5,), 0.0)[1] == 1


def test_an_encoder_trains_the_same_with_and_without_its_graph(tmp_path):
    "Exact accumulation encodes twice: the second time with the random state of the first."
    model = GaussianEncoder.from_base(str(small_base(tmp_path)), device="cpu", precision="no")
    texts = ["the cell of a plant", "energy and light from a star " * 3]
    model.base.train()
    torch.manual_seed(5)
    z = model.base(model.base.preprocess(texts))["sentence_embedding"]
    torch.manual_seed(5)
    with torch.no_grad():
        again = model.base(model.base.preprocess(texts))["sentence_embedding"]
    assert torch.equal(z, again) and z.requires_grad


def test_float32_encoding_is_what_it_was(tmp_path):
    folder = small_base(tmp_path)
    fast, plain = (GaussianEncoder.from_base(str(folder), device="cpu", precision="no") for _ in range(2))
    plain.base[0].auto_model.set_attn_implementation("sdpa")
    assert fast.base[0].auto_model.config._attn_implementation == module.NAME and not use_attention(fast.base)
    texts = ["water", "how does a machine learn " * 4]
    np.testing.assert_array_equal(fast.compute_features(texts), plain.compute_features(texts))

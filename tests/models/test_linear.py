"""Packed linear layers: the same encoder whatever is done to it, and never an old weight."""
import copy
import threading

import numpy as np
import pytest
import torch

from ragcun.models import kernels as linear
from ragcun.models.encoder import GaussianEncoder
from ragcun.models.kernels import PackedIntermediate, PackedLinear, can_pack, use_packed
from small import small_base

pytestmark = pytest.mark.skipif(not can_pack(), reason="PyTorch has no packed bfloat16 layers for this processor")
TEXTS = ["water", "how does a machine learn " * 4, "the star and the planet", "energy"]


@pytest.fixture
def model(tmp_path):
    return GaussianEncoder.from_base(str(small_base(tmp_path)), device="cpu", precision="bf16")


def unpacked(model):
    "The same encoder with PyTorch's own layers."
    twin = copy.deepcopy(model)
    for m in twin.base.modules():
        if type(m) is PackedLinear:
            m.__class__ = torch.nn.Linear
    assert not any(type(m) is PackedLinear for m in twin.base.modules())
    return twin


def agree(model):
    ours = model.compute_features(TEXTS)
    theirs = unpacked(model).compute_features(TEXTS)
    np.testing.assert_allclose(ours, theirs, atol=.03)
    return ours


def test_a_loaded_encoder_packs(model):
    kinds = [type(m) for m in model.base.modules()]
    assert (kinds.count(PackedIntermediate) == 2 and kinds.count(PackedLinear) >= 12
            and kinds.count(torch.nn.Linear) == 0)
    linear._packed.clear()
    agree(model)
    assert len(linear._packed) >= 12
    assert use_packed(model.base) == 0  # already done


def test_float32_and_training_do_not_touch_it(model):
    linear._packed.clear()
    model.precision = "no"
    np.testing.assert_array_equal(model.compute_features(TEXTS), unpacked(model).compute_features(TEXTS))
    with torch.autocast("cpu", torch.bfloat16):
        model.base(model.base.preprocess(TEXTS))["sentence_embedding"].sum().backward()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model.base(model.base.preprocess(TEXTS))
    assert not linear._packed


@pytest.mark.parametrize("how", ["optimiser", "data", "load", "swap"])
def test_new_weights_are_seen(model, how):
    before = agree(model)
    weights = [p for n, p in model.base.named_parameters()
               if n.endswith("weight") and p.dim() == 2 and "embed" not in n]
    if how == "optimiser":
        for p in model.base.parameters():
            p.grad = torch.randn_like(p)
        torch.optim.AdamW(model.base.parameters(), lr=.05).step()
    elif how == "data":
        for p in weights:
            p.data.mul_(1.7)
    elif how == "load":
        model.base.load_state_dict({k: v*1.5 if v.is_floating_point() else v
                                    for k, v in model.base.state_dict().items()})
    else:
        for p in weights:
            p.data = p.data*.3
    assert np.abs(agree(model) - before).max() > .05


def test_low_rank_updates_pass_through_it_and_are_merged(model):
    pytest.importorskip("peft")
    from ragcun.training.step import add_lora, merge_lora
    before = agree(model)
    add_lora(model, 4)
    np.testing.assert_allclose(agree(model), before, atol=.03)  # B is zero
    for n, p in model.base.named_parameters():
        if "lora_B" in n:
            p.data.normal_(std=.3)
    moved = agree(model)
    assert np.abs(moved - before).max() > .05
    np.testing.assert_allclose(agree(merge_lora(model)), moved, atol=.05)


def test_saved_and_loaded(model, tmp_path):
    before = agree(model)
    model.save(tmp_path/"kept")
    again = GaussianEncoder.load(tmp_path/"kept", device="cpu")
    again.precision = "bf16"
    np.testing.assert_array_equal(again.compute_features(TEXTS), before)


def test_many_threads_at_once(model):
    want = model.compute_features(TEXTS)
    out = {}
    linear._packed.clear()
    def work(i):
        out[i] = model.compute_features(TEXTS)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for i in range(6):
        np.testing.assert_array_equal(out[i], want)


def test_without_the_operators_nothing_changes(monkeypatch, tmp_path):
    monkeypatch.setattr(linear, "_operators", lambda: None)
    can_pack.cache_clear()
    try:
        model = GaussianEncoder.from_base(str(small_base(tmp_path)), device="cpu", precision="bf16")
        assert not any(isinstance(m, PackedLinear) for m in model.base.modules())
        assert np.isfinite(model.compute_features(TEXTS)).all()
    finally:
        can_pack.cache_clear()


def test_operators_that_answer_wrongly_are_not_used(monkeypatch):
    reorder, product = linear._operators()
    for wrong in ((reorder, lambda *a: product(*a)*1.5), (reorder, lambda *a: 1/0), (lambda *a: 1/0, product)):
        monkeypatch.setattr(linear, "_operators", lambda wrong=wrong: wrong)
        can_pack.cache_clear()
        assert not can_pack()
    monkeypatch.undo()
    can_pack.cache_clear()
    assert can_pack()


def test_packs_only_in_inference_under_bfloat16(model):
    layer = next(m for m in model.base.modules() if type(m) is PackedLinear)
    x = torch.zeros(2, layer.in_features)
    half = torch.autocast("cpu", dtype=torch.bfloat16)
    assert not layer.packs(x)
    with torch.inference_mode():
        assert not layer.packs(x)
    with half:
        assert not layer.packs(x)
    with half, torch.inference_mode():
        assert layer.packs(x) and not layer.packs(x.double())
    with torch.autocast("cpu", dtype=torch.float16), torch.inference_mode():
        assert not layer.packs(x)

"""Bases of other shapes, saved models elsewhere, and files of earlier versions."""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from make_golden import golden_learner
from ragcun.core import UserError, read_json
from ragcun.data.pairs import load_pairs, pairs_to_retrieval
from ragcun.models.base import hash_state, load_base
from ragcun.models.encoder import GaussianEncoder
from ragcun.training.closed_form import fit_closed_form
from ragcun.training.config import TrainConfig, resolve_defaults
from ragcun.training.learner import Learner
from small import processed, same, small_base, transformer_folder

GOLDEN = Path(__file__).parents[1]/"golden"
TEXTS = ["what is a star", "A star is a ball of hot gas.", "how",
         "How does a cell of a plant make energy from light and water, and what else does it need?" * 3, "!"]
PROMPTS = {"query": "task: search result | query: ", "document": "title: none | text: "}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    before = os.environ.get("RAGCUN_CACHE")
    os.environ["RAGCUN_CACHE"] = str(folder/"cache")
    yield folder
    os.environ["RAGCUN_CACHE"] = before or ""


@pytest.fixture(scope="module")
def base(place):
    return small_base(place/"small")


@pytest.fixture(scope="module")
def gemma(place):
    "The module list and prompts of embeddinggemma-300m on a random Gemma 3 of 2 layers."
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
    body = Transformer(str(transformer_folder(place/"gemma_body", "gemma")), max_seq_length=48)
    torch.manual_seed(2)
    dense = [Dense(32, 64, bias=False, activation_function=None), Dense(64, 32, bias=False, activation_function=None)]
    SentenceTransformer(modules=[body, Pooling(32, "mean"), *dense, Normalize()], device="cpu", prompts=PROMPTS,
                        similarity_fn_name="cosine").save(
                            str(place/"gemma"), create_model_card=False)
    return place/"gemma"


def test_gemma_base_loads_with_its_dense_layers_and_prompts(gemma):
    from sentence_transformers import SentenceTransformer
    model = GaussianEncoder.from_base(str(gemma), None, "cpu", "no")
    assert [type(m).__name__ for m in model.base] == ["Transformer", "Pooling", "Dense", "Dense"]
    assert model.normalise and model.prompts == PROMPTS
    plain = SentenceTransformer(str(gemma), device="cpu")
    for side, encode in (("query", plain.encode_query), ("document", plain.encode_document)):
        np.testing.assert_allclose(model.features(TEXTS, side), encode(TEXTS), atol=2e-6)
    assert np.abs(model.features(TEXTS, "query") - model.features(TEXTS, "document")).max() > 1e-3  # the prompts count


def test_gemma_refuses_fp16(gemma):
    from ragcun.models.base import check_precision
    base, _, _ = load_base(str(gemma))
    with pytest.raises(UserError, match="gemma3_text models overflow in fp16.*Use bf16"):
        check_precision(base, "fp16")
    assert check_precision(base, "bf16") == "bf16"


@pytest.mark.slow
def test_gemma_saved_model_ranks_the_same(gemma, place):
    model = fit_closed_form(GaussianEncoder.from_base(str(gemma), None, "cpu", "no"),
                            load_pairs(processed("train.json")), output_dim=16)
    model.save(place/"gemma_model")
    check_elsewhere(model, place/"gemma_model")


def check_elsewhere(model, folder):
    "A process without ragcun gives the same vectors and the same order."
    code = """
import json, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'ragcun': raise ImportError('no ragcun here')
sys.meta_path.insert(0, Block())
from sentence_transformers import SentenceTransformer
m = SentenceTransformer(sys.argv[1], device='cpu')
texts = json.loads(sys.argv[2])
q, x = m.encode_query(texts), m.encode_document(texts)
print(json.dumps([q.tolist(), x.tolist(), m.similarity(q, x).argsort(1, descending=True).tolist()]))
"""
    done = subprocess.run([sys.executable, "-c", code, str(folder), json.dumps(TEXTS)], capture_output=True, text=True,
                          cwd="/", timeout=120)
    assert done.returncode == 0, done.stderr[-1500:]
    q, x, order = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(q, model.encode_query(TEXTS), atol=2e-5)
    np.testing.assert_allclose(x, model.encode_document(TEXTS), atol=2e-5)
    mine = ((model.encode_query(TEXTS)[:, None] - model.encode_document(TEXTS)[None])**2).sum(2).argsort(1)
    assert mine.tolist() == order


def test_transformers_folder_without_sentence_transformers_files(place):
    "Mean pooling, as sentence-transformers does for such folders."
    folder = transformer_folder(place/"plain")
    model = GaussianEncoder.from_base(str(folder), None, "cpu", "no")
    h = model.features(TEXTS)
    assert h.shape == (5, 32) and np.isfinite(h).all()
    model.save(place/"plain_model")
    again = GaussianEncoder.load(place/"plain_model", "cpu", "no")
    np.testing.assert_allclose(again.embed(TEXTS), model.embed(TEXTS), atol=1e-5)


def test_frozen_means_frozen(base, place):
    "Not a bit of the base changes in a head run; it stays in eval mode and takes no gradient."
    pairs = load_pairs(processed("train.json"))
    config = resolve_defaults(TrainConfig(freeze_base=True, epochs=2, batch_size=12, mixed_precision="no"), len(pairs))
    model = GaussianEncoder.from_base(str(base), None, "cpu", "no")
    before = hash_state(model.base.state_dict())
    head = model.head.weight.detach().clone()
    learner = Learner(model, pairs, pairs_to_retrieval(load_pairs(processed("val.json"))), config, None)
    learner.train()
    assert hash_state(model.base.state_dict()) == before and not torch.equal(model.head.weight, head)
    assert not model.base.training and not any(p.requires_grad for p in model.base.parameters())
    assert {g["name"] for g in learner.stepper.optimizer.param_groups} == {"head", "critic"}


def test_vector_does_not_depend_on_its_batch(base, gemma):
    "In float32 every feature moves by less than 2e-6, whatever it is batched with (features have length 1)."
    texts = TEXTS*1 + load_pairs(processed("train.json")).documents
    for folder in (base, gemma):
        model = GaussianEncoder.from_base(str(folder), None, "cpu", "no")
        together = model.features(texts, batch_tokens=10**6)
        alone = np.concatenate([model.features([t]) for t in texts])
        mixed = model.features(texts[::-1], batch_tokens=200)[::-1]
        assert max(np.abs(together - alone).max(), np.abs(together - mixed).max()) < 2e-6


def test_order_duplicates_and_emptiness(base):
    model = GaussianEncoder.from_base(str(base), None, "cpu", "no")
    h = model.features([*TEXTS, TEXTS[0], "", " "])
    assert np.array_equal(h[0], h[5]) and np.isfinite(h).all()
    assert model.features([]).shape == (0, 32)


def test_texts_come_in_any_form_and_a_table_is_not_encoded_by_its_columns(base):
    pandas = pytest.importorskip("pandas")
    model = GaussianEncoder.from_base(str(base), None, "cpu", "no")
    wanted = model.encode_query(TEXTS)
    for texts in (tuple(TEXTS), np.array(TEXTS), pandas.Series(TEXTS, index=range(7, 12)), iter(TEXTS),
                  (t for t in TEXTS), dict.fromkeys(TEXTS).keys()):
        assert np.array_equal(model.encode_query(texts), wanted)
    for wrong in (pandas.DataFrame({"text": TEXTS}), {"text": "a"}, set(TEXTS), None):
        with pytest.raises(UserError, match=f"^{type(wrong).__name__} is no list of texts"):
            model.encode_document(wrong)


def test_saving_is_repeatable(base, place):
    "Saved, loaded and saved again: every byte of the weights is the same."
    model = GaussianEncoder.from_base(str(base), 8, "cpu", "no")
    model.save(place/"once")
    GaussianEncoder.load(place/"once", "cpu").save(place/"twice")
    for p in (place/"once").rglob("*.safetensors"):
        assert p.read_bytes() == (place/"twice"/p.relative_to(place/"once")).read_bytes(), p.name
    (place/"once"/".git").mkdir()        # a clone from the hub
    model.save(place/"once")
    assert (place/"once"/".git").is_dir()


def test_golden_model_loads_in_this_version():
    model = GaussianEncoder.load(GOLDEN/"best_model.pt", "cpu", "no")
    want = read_json(GOLDEN/"vectors.json")
    np.testing.assert_allclose(model.encode_query(want["texts"]), want["query"], atol=2e-4)
    np.testing.assert_allclose(model.encode_document(want["texts"]), want["document"], atol=2e-4)


def test_golden_checkpoint_resumes_in_this_version(place):
    "The kept checkpoint goes on to the kept end."
    folder = place/"golden_run"
    folder.mkdir()
    for name in ("checkpoint_epoch_1.pt", "checkpoint_epoch_1.json", "metrics.jsonl"):
        shutil.copy(GOLDEN/name, folder/name)
    learner = golden_learner(str(small_base(place/"golden_base", width=16, layers=1)), folder, resume_from="auto",
                             allow_changes=True, projection_learning_rate=2e-3)    # what it was by default then
    learner.resume()
    assert learner.at.epoch == 1
    learner.run_epoch()
    want = read_json(GOLDEN/"end.json")
    assert learner.at.best == pytest.approx(want["ndcg@10"], abs=1e-4)
    np.testing.assert_allclose(learner.model.head.bias.detach().numpy(), want["bias"], atol=1e-4)


def test_same_sees_a_difference():
    assert same({"a": torch.zeros(2)}, {"a": torch.tensor([0., -0.])})

"""Bases of many families and shapes, random and tiny: each is used as it should be, or refused in one line."""
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (Dense, Normalize, Pooling, Router, StaticEmbedding,
                                                                Transformer)

from ragcun.core import UserError, read_json
from ragcun.data.collections import RetrievalData
from ragcun.data.pairs import load_pairs
from ragcun.evaluation.evaluation_report import evaluate
from ragcun.models import base as bases
from ragcun.models.base import BaseOptions, base_tokens, load_base, token_limit
from ragcun.models.encoder import GaussianEncoder
from ragcun.training.config import TrainConfig
from ragcun.training.run import fit
from small import _tokenizer, processed, same

WIDTH = 32
TEXTS = ["what is a star", "A star is a ball of hot gas.", "how",
         "How does a cell of a plant make energy from light and water?" * 3, "!"]
SIZES = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 2*WIDTH,
         "max_position_embeddings": 66, "pad_token_id": 0}
OWN = {"DistilBert": {"dim": WIDTH, "n_layers": 2, "n_heads": 2, "hidden_dim": 2*WIDTH, "max_position_embeddings": 66},
       "T5": {"d_model": WIDTH, "d_kv": 16, "d_ff": 2*WIDTH, "num_layers": 2, "num_heads": 2},
       "Qwen3": SIZES | {"num_key_value_heads": 1, "head_dim": 16},
       "Gemma3Text": SIZES | {"num_key_value_heads": 1, "head_dim": 16, "sliding_window": 32,
                              "use_bidirectional_attention": True},
       "Electra": SIZES | {"embedding_size": WIDTH},
       "ModernBert": SIZES | {"global_attn_every_n_layers": 2, "local_attention": 32}}
FAMILIES = ("Bert", "XLMRoberta", "MPNet", "DistilBert", "ModernBert", "Qwen3", "Gemma3Text", "T5", "Electra",
            "DebertaV2")


def body(folder, family="Bert", dtype=torch.float32):
    "A transformers folder: random weights and a tokenizer of letters."
    n = _tokenizer(folder)
    torch.manual_seed(1)
    config = getattr(transformers, family + "Config")(vocab_size=n, **OWN.get(family, SIZES))
    if hasattr(config, "initializer_range"):
        config.initializer_range = .2
    model = transformers.T5EncoderModel(config) if family == "T5" else transformers.AutoModel.from_config(config)
    model.to(dtype).save_pretrained(folder)
    return folder


def transformer(folder, family="Bert", dtype=torch.float32):
    module = Transformer(str(body(folder/"body", family, dtype)))
    module.max_seq_length = 48
    return module


def static(folder, dtype=torch.float32):
    from tokenizers import Tokenizer
    _tokenizer(folder)
    tokenizer = Tokenizer.from_file(str(folder/"tokenizer.json"))
    weights = torch.randn(tokenizer.get_vocab_size(), WIDTH, generator=torch.Generator().manual_seed(3))
    return StaticEmbedding(tokenizer, embedding_weights=weights.to(dtype))


def dense(width=WIDTH):
    torch.manual_seed(2)
    return Dense(WIDTH, width, bias=False, activation_function=torch.nn.Identity())


def family(name):
    pooling = "lasttoken" if name == "Qwen3" else "mean"
    return lambda f: ([transformer(f, name), Pooling(WIDTH, pooling), Normalize()], {})


def half(dtype):
    return lambda f: ([transformer(f, "Bert", dtype), Pooling(WIDTH, "mean"), Normalize()], {})


def usual(*modules, **options):
    return lambda f: ([transformer(f), Pooling(WIDTH, "mean"), *modules], options)


def routed(f):
    router = Router.for_query_document([static(f/"q")], [transformer(f/"d"), Pooling(WIDTH, "mean")])
    return [router, Normalize()], {}


ZOO = {name: family(name) for name in FAMILIES} | {
    "fp16": half(torch.float16), "bf16": half(torch.bfloat16),
    "static": lambda f: ([static(f), Normalize()], {}),
    "static, fp16": lambda f: ([static(f, torch.float16)], {}),
    "query and passage": usual(Normalize(), prompts={"query": "question: ", "passage": "text: "}),
    "one prompt for both": usual(Normalize(), prompts={"search": "hot "}, default_prompt_name="search"),
    "cosine without Normalize": usual(),
    "cut": usual(truncate_dim=16),
    "Normalize and cut": usual(Normalize(), truncate_dim=16),
    "Normalize before Dense": usual(Normalize(), dense()),
    "Dense between": usual(dense(48), Normalize()),
    "Euclid of unit vectors": usual(Normalize(), similarity_fn_name="euclidean"),
    "router": routed}


@pytest.fixture(scope="module")
def pairs():
    return load_pairs(processed("train.json"))[:60]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RAGCUN_CACHE", str(tmp_path/"cache"))


def made(tmp_path, kind):
    "A base as it would be published: its folder."
    torch.manual_seed(0)
    modules, options = ZOO[kind](tmp_path)
    prompts = options.get("prompts", {})
    model = SentenceTransformer(modules=modules, device="cpu", **options)
    model.save(str(tmp_path/"base"), create_model_card=False)
    place = tmp_path/"base"/"config_sentence_transformers.json"
    config = read_json(place)
    place.write_text(json.dumps(config | {"prompts": prompts}))     # only what the publisher wrote
    return tmp_path/"base"


def collection(pairs):
    texts = list(dict.fromkeys(p.positive for p in pairs))
    queries = dict(enumerate(p.query for p in pairs))
    return RetrievalData({str(i): t for i, t in enumerate(texts)}, {str(i): q for i, q in queries.items()},
                         {str(i): {str(texts.index(p.positive)): 1} for i, p in enumerate(pairs)})


def order(distance):
    return distance.argsort(1, kind="stable").tolist()


@pytest.mark.parametrize("kind", ZOO)
def test_fitted_saved_and_ranked_the_same_by_sentence_transformers(kind, tmp_path, pairs):
    folder = made(tmp_path, kind)
    model = GaussianEncoder.from_base(str(folder), device="cpu", precision="no")
    plain = SentenceTransformer(str(folder), device="cpu")
    if kind == "one prompt for both":   # sentence-transformers gives it to neither side
        assert model.prompts == {"query": "hot ", "document": "hot "}
    elif "fp16" not in kind and "bf16" not in kind and kind != "query and passage":
        for side, encode in (("query", plain.encode_query), ("document", plain.encode_document)):
            want = encode(TEXTS, normalize_embeddings=model.normalise)
            np.testing.assert_allclose(model.features(TEXTS, side), want, atol=2e-5)
    config = TrainConfig(freeze_base=True, epochs=2, mixed_precision="no")
    kept = fit(model, pairs[:40], collection(pairs[40:]), config, tmp_path/"out").model
    saved = SentenceTransformer(str(kept.save(tmp_path/"kept")), device="cpu")
    q, x = saved.encode_query(TEXTS), saved.encode_document(TEXTS)
    np.testing.assert_allclose(q, kept.encode_query(TEXTS), atol=5e-4*np.abs(q).max())
    np.testing.assert_allclose(x, kept.encode_document(TEXTS), atol=5e-4*np.abs(x).max())
    assert {t.dtype for t in saved.state_dict().values() if t.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize("kind", ZOO)
def test_reopened_bit_for_bit_and_evaluated(kind, tmp_path, pairs):
    model = GaussianEncoder.from_base(str(made(tmp_path, kind)), device="cpu", precision="no")
    again = GaussianEncoder.load(model.save(tmp_path/"kept"), device="cpu", precision="no")
    assert not same(model.base.state_dict(), again.base.state_dict())
    assert again.fingerprint == model.fingerprint and again.prompts == model.prompts
    assert token_limit(again.base) == token_limit(model.base)
    for side in ("query", "document"):
        np.testing.assert_array_equal(model.embed(TEXTS, side), again.embed(TEXTS, side))
    report = evaluate(again, collection(pairs[:20]))
    assert report.metrics["ndcg@10"] == pytest.approx(report.base["ndcg@10"], abs=1e-9)


@pytest.mark.parametrize("kind", ["Bert", "fp16", "static", "query and passage", "cut", "router"])
def test_fully_trained_resumed_and_compared_with_the_base(kind, tmp_path, pairs):
    model = GaussianEncoder.from_base(str(made(tmp_path, kind)), device="cpu", precision="no")
    config = {"epochs": 2, "batch_size": 16, "mixed_precision": "no", "line_search": False, "finish_head": False,
              "base_learning_rate": 1e-3}
    val = collection(pairs[40:])
    whole = fit(model, pairs[:40], val, TrainConfig(**config), tmp_path/"whole")
    shutil.copytree(tmp_path/"whole", tmp_path/"part")
    first = str(tmp_path/"part"/"checkpoint_epoch_1.pt")
    resumed = fit(model, pairs[:40], val, TrainConfig(**config, resume_from=first), tmp_path/"part")
    assert resumed.report["candidates"] == whole.report["candidates"]
    assert len(whole.report["candidates"]) > 2
    trained = GaussianEncoder.load(tmp_path/"whole"/"model", device="cpu", precision="no")
    assert evaluate(trained, val).base


def test_a_family_is_told_once_what_it_lacks(tmp_path, monkeypatch):
    folder = made(tmp_path, "Bert").rename(tmp_path/"multilingual-e5-small")
    said = []
    monkeypatch.setattr(bases.logger, "warning", lambda text, *values: said.append(text % values))
    for _ in range(2):
        GaussianEncoder.from_base(str(folder), device="cpu", precision="no")
    asked = GaussianEncoder.from_base(str(folder), device="cpu", precision="no", query_prompt="query: ",
                                      document_prompt="passage: ")
    assert len(said) == 1 and '--query_prompt "query: " --document_prompt "passage: "' in said[0]
    assert asked.prompts == {"query": "query: ", "document": "passage: "}
    card = folder.rename(tmp_path/"mine")
    (card/"README.md").write_text("---\nmodel-index:\n- name: e5-small-v2\n---\n# A model\n")
    assert bases.family_prompts(card)[1:] == ("query: ", "passage: ")


def test_prompts_and_token_limit_stay_with_the_model(tmp_path, pairs):
    folder = made(tmp_path, "query and passage")
    model = GaussianEncoder.from_base(str(folder), device="cpu", precision="no", query_prompt="one ",
                                      document_prompt="", max_seq_length=20)
    assert model.prompts == {"query": "one ", "document": ""}
    again = GaussianEncoder.load(model.save(tmp_path/"kept"), device="cpu", precision="no")
    plain = SentenceTransformer(str(tmp_path/"kept"), device="cpu")
    assert again.prompts == model.prompts and token_limit(again.base) == plain.max_seq_length == 20
    again.base_changed = True
    from ragcun.models.encoder import open_original
    original = open_original(again)
    np.testing.assert_array_equal(original.features(TEXTS, "query"), model.features(TEXTS, "query"))
    np.testing.assert_array_equal(original.features(TEXTS), model.features(TEXTS))


@pytest.mark.parametrize("kind", ["Bert", "static", "router", "Qwen3"])
def test_tokens_are_counted_as_the_base_counts_them(kind, tmp_path):
    folder = made(tmp_path, kind)
    found = base_tokens(str(folder))
    base, _, _ = load_base(str(folder))
    tokenizer = base[0].sub_modules["document"][0].tokenizer if kind == "router" else base.tokenizer
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert found.count(text) == len(getattr(ids, "ids", ids))
    assert found.limit == (None if kind == "static" else 46)


def refused(match, folder, **options):
    with pytest.raises(UserError, match=match) as e:
        load_base(str(folder), options=BaseOptions(**options))
    assert "\n" not in str(e.value)


def remove(folder, wanted):
    "Take weights out of a checkpoint."
    from safetensors.torch import load_file, save_file
    place = next(Path(folder).rglob("model.safetensors"))
    save_file({k: v for k, v in load_file(place).items() if not wanted(k)}, place, metadata={"format": "pt"})


def test_a_checkpoint_without_a_pooler_is_the_same_base_each_time(tmp_path):
    folder = made(tmp_path, "Bert")
    remove(folder, lambda k: "pooler" in k)
    one, two = (GaussianEncoder.from_base(str(folder), device="cpu", precision="no") for _ in range(2))
    assert one.fingerprint == two.fingerprint


def test_refused_in_one_line(tmp_path):
    ZOO["loose"] = usual(similarity_fn_name="euclidean")
    try:
        refused("by euclidean distance", made(tmp_path/"euclid", "loose"))
    finally:
        del ZOO["loose"]
    folder = made(tmp_path/"gap", "Bert")
    remove(folder, lambda k: "layer.1.attention" in k)
    refused("lacks .* weights", folder)
    refused("reads 66 tokens at most", made(tmp_path/"long", "Bert"), max_seq_length=100)
    refused("no limit of tokens", made(tmp_path/"static", "static"), max_seq_length=100)


CODE = """
from transformers import BertConfig, BertModel
class OwnConfig(BertConfig):
    model_type = "own_bert"
class OwnModel(BertModel):
    config_class = OwnConfig
"""


def test_code_is_trusted_once_by_its_files(tmp_path):
    folder = body(tmp_path/"own")
    (folder/"own.py").write_text(CODE)
    config = read_json(folder/"config.json") | {"model_type": "own_bert", "architectures": ["OwnModel"], "auto_map": {
        "AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}}
    (folder/"config.json").write_text(json.dumps(config))
    refused("runs code of its own.*--trust_remote_code", folder)
    model = GaussianEncoder.from_base(str(folder), device="cpu", precision="no", trust_remote_code=True)
    saved = model.save(tmp_path/"kept")
    again = GaussianEncoder.load(saved, device="cpu", precision="no")     # the same files
    np.testing.assert_array_equal(again.features(TEXTS), model.features(TEXTS))
    next(saved.rglob("*.py")).write_text(CODE + "evil = 1\n")
    with pytest.raises(UserError, match="code of its own"):
        GaussianEncoder.load(saved, device="cpu", precision="no")

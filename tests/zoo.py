"""Bases of many families and shapes, random and tiny, as their publishers would write them."""
import json

import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (Dense, Normalize, Pooling, Router, StaticEmbedding,
                                                                Transformer)

from ragcun.core import read_json
from small import _tokenizer

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
       "GPT2": {"n_embd": WIDTH, "n_layer": 2, "n_head": 2, "n_positions": 66},
       "Xmod": SIZES | {"languages": ["en_XX"], "default_language": "en_XX"},
       "Electra": SIZES | {"embedding_size": WIDTH}, "Luke": SIZES | {"entity_vocab_size": 5},
       "ConvBert": SIZES | {"embedding_size": WIDTH, "head_ratio": 1, "conv_kernel_size": 3},
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
    pooling = "lasttoken" if name in ("Qwen3", "GPT2") else "mean"
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

"""Bases of many families and shapes, random and tiny: each is used as it should be, or refused in one line."""
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from ragcun.core import UserError, read_json
from ragcun.data.collections import RetrievalData
from ragcun.data.pairs import load_pairs
from ragcun.evaluation.evaluation_report import evaluate
from ragcun.models import base as bases
from ragcun.models.base import BaseOptions, base_tokens, encode_features, load_base, token_limit
from ragcun.models.cache import cached_features
from ragcun.models.encoder import GaussianEncoder
from ragcun.retrieval.retriever import GaussianRetriever
from ragcun.training.closed_form import fit_closed_form
from ragcun.training.config import TrainConfig
from ragcun.training.run import fit
from small import _tokenizer, processed, same, small_base
from zoo import TEXTS, WIDTH, ZOO, body, dense, family, made, static, usual


@pytest.fixture(scope="module")
def pairs():
    return load_pairs(processed("train.json"))[:60]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RAGCUN_CACHE", str(tmp_path/"cache"))


@pytest.fixture(autouse=True)
def pictures(monkeypatch):
    "A run's curves are no business of these tests, and take longer to draw than a run with a tiny base."
    monkeypatch.setattr("ragcun.figures.save_figure", lambda figure, path: Path(path).write_bytes(b""))


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
    index = GaussianRetriever(again, tmp_path/"index")
    index.add(TEXTS)
    opened = GaussianRetriever.open(tmp_path/"index", GaussianEncoder.load(tmp_path/"index"/"model", "cpu", "no"))
    assert opened.model.fingerprint == model.fingerprint
    for words in (0, 1):
        one, two = (i.search("where is the star", words=words).to_json() for i in (index, opened))
        assert json.dumps(one) == json.dumps(two) and len(one["hits"]) == len(TEXTS)


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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ZOO)
def test_head_training_goes_on_from_a_checkpoint(kind, tmp_path, pairs):
    model = GaussianEncoder.from_base(str(made(tmp_path, kind)), device="cpu", precision="no")
    config = {"freeze_base": True, "epochs": 2, "mixed_precision": "no"}
    val = collection(pairs[40:])
    whole = fit(model, pairs[:40], val, TrainConfig(**config), tmp_path/"whole")
    shutil.copytree(tmp_path/"whole", tmp_path/"part")
    again = GaussianEncoder.from_base(str(tmp_path/"base"), device="cpu", precision="no")   # as another process would
    first = str(tmp_path/"part"/"checkpoint_epoch_1.pt")
    resumed = fit(again, pairs[:40], val, TrainConfig(**config, resume_from=first), tmp_path/"part")
    assert resumed.report["candidates"] == whole.report["candidates"]


MEAN, CLS, LAST = ({f"pooling_mode_{n}": n == k for n in ("cls_token", "mean_tokens", "max_tokens", "lasttoken")}
                   for k in ("mean_tokens", "cls_token", "lasttoken"))
OLD = "sentence_transformers.models."


def published(folder, parts, pooling=None, dtype=torch.float32, **config):
    "A folder as it lies on the hub: parts are names of modules, the first a family of transformers."
    body(folder, parts[0], dtype)
    files = {"modules.json": [{"idx": i, "name": str(i), "path": f"{i}_{n}" if i else "",
                               "type": OLD + (n if i else "Transformer")} for i, n in enumerate(parts)],
             "sentence_bert_config.json": {"max_seq_length": 48, "do_lower_case": False},
             "1_Pooling/config.json": {"word_embedding_dimension": WIDTH, **(pooling or MEAN)}}
    if config:
        files["config_sentence_transformers.json"] = config
    for i, name in enumerate(parts):
        (folder/f"{i}_{name}").mkdir(exist_ok=True)
        if name == "Dense":
            dense().save(str(folder/f"{i}_{name}"))
    for name, value in files.items():
        (folder/name).write_text(json.dumps(value))


def potion(folder):
    "A static model, as model2vec publishes it."
    from safetensors.torch import save_file
    _tokenizer(folder)
    n = len(read_json(folder/"tokenizer.json")["model"]["vocab"])
    save_file({"embeddings": torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(3))},
              folder/"model.safetensors")
    modules = [{"idx": 0, "name": "0", "path": ".", "type": OLD + "StaticEmbedding"},
               {"idx": 1, "name": "1", "path": "1_Normalize", "type": OLD + "Normalize"}]
    (folder/"modules.json").write_text(json.dumps(modules))
    (folder/"config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": True}))
    (folder/"1_Normalize").mkdir()


TASK = "task: search result | query: "
HUB = {  # name on the hub → how its folder is made, the prompts it names, those it is told to be given
    "intfloat/e5-small-v2": (lambda f: published(f, ["Bert", "Pooling", "Normalize"]), ("", ""),
                             ("query: ", "passage: ")),
    "intfloat/multilingual-e5-base": (lambda f: published(f, ["XLMRoberta", "Pooling", "Normalize"]), ("", ""),
                                      ("query: ", "passage: ")),
    "BAAI/bge-small-en-v1.5": (lambda f: published(f, ["Bert", "Pooling", "Normalize"], CLS, __version__={}), ("", ""),
                               (bases.RETRIEVE, "")),
    "BAAI/bge-m3": (lambda f: published(f, ["XLMRoberta", "Pooling", "Normalize"], CLS), ("", ""), None),
    "thenlper/gte-small": (lambda f: published(f, ["Bert", "Pooling", "Normalize"], dtype=torch.float16), ("", ""),
                           None),
    "Alibaba-NLP/gte-modernbert-base": (lambda f: published(f, ["ModernBert", "Pooling"], CLS,
                                                            similarity_fn_name="cosine"), ("", ""), None),
    "Snowflake/snowflake-arctic-embed-m-v1.5": (lambda f: published(
        f, ["Bert", "Pooling", "Normalize"], CLS, prompts={"query": bases.RETRIEVE}), (bases.RETRIEVE, ""), None),
    "mixedbread-ai/mxbai-embed-large-v1": (lambda f: published(
        f, ["Bert", "Pooling"], CLS, prompts={"query": bases.RETRIEVE, "passage": ""}), (bases.RETRIEVE, ""), None),
    "Qwen/Qwen3-Embedding-0.6B": (lambda f: published(
        f, ["Qwen3", "Pooling", "Normalize"], LAST | {"include_prompt": True}, torch.bfloat16,
        prompts={"query": bases.INSTRUCT, "document": ""}, similarity_fn_name="cosine"), (bases.INSTRUCT, ""), None),
    "google/embeddinggemma-300m": (lambda f: published(
        f, ["Gemma3Text", "Pooling", "Dense", "Dense", "Normalize"], MEAN | {"include_prompt": True}, torch.bfloat16,
        prompts={"query": TASK, "document": "title: none | text: ", "Clustering": "task: clustering | query: "},
        similarity_fn_name="cosine"), (TASK, "title: none | text: "), None),
    "sentence-transformers/gtr-t5-base": (lambda f: published(f, ["T5", "Pooling", "Dense", "Normalize"]), ("", ""),
                                          None),
    "nomic-ai/nomic-embed-text-v1.5": (lambda f: published(f, ["Bert", "Pooling", "Normalize"]), ("", ""),
                                       ("search_query: ", "search_document: ")),
    "minishlab/potion-base-8M": (potion, ("", ""), None),
    "FacebookAI/xlm-roberta-base": (lambda f: body(f, "XLMRoberta"), ("", ""), None)}


@pytest.mark.parametrize("name", HUB)
def test_published_layouts_are_taken_as_they_are(name, tmp_path, monkeypatch):
    make, prompts, wanted = HUB[name]
    folder = tmp_path/name
    folder.mkdir(parents=True)
    make(folder)
    said = []
    monkeypatch.setattr(bases.logger, "warning", lambda text, *values: said.append(text % values))
    model = GaussianEncoder.from_base(str(folder), device="cpu", precision="no")
    assert tuple(model.prompts.values()) == prompts
    plain = SentenceTransformer(str(folder), device="cpu").float()
    for side, encode in (("query", plain.encode_query), ("document", plain.encode_document)):
        want = encode(TEXTS, normalize_embeddings=model.normalise)
        np.testing.assert_allclose(model.features(TEXTS, side), want, atol=2e-5)
    if wanted is None:
        assert not said
    else:
        flags = '--query_prompt "{}" --document_prompt "{}"'.format(*(p.replace("\n", "\\n") for p in wanted))
        assert len(said) == 1 and said[0].startswith("WITHOUT PROMPTS") and said[0].endswith(flags)
    shown = bases.describe_base(str(folder))
    assert shown["query prompt"] == repr(prompts[0]) and shown["dimension"] == str(WIDTH)
    limit = base_tokens(str(folder)).limit
    assert limit is None if "potion" in name else 0 < limit <= 66


def test_a_snapshot_of_the_hub_keeps_its_name(tmp_path):
    place = tmp_path/"models--intfloat--e5-small-v2"/"snapshots"/"0a1b"
    place.mkdir(parents=True)
    assert bases.family_prompts(place)[1:] == ("query: ", "passage: ")
    (tmp_path/"mine").symlink_to(place)
    assert bases.family_prompts(tmp_path/"mine")[1:] == ("query: ", "passage: ")


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


def command(*argv):
    "The exit code of `ragcun`; its lines are printed."
    from ragcun.cli.commands import main
    return main([str(a) for a in argv])


def test_commands_that_name_a_base_take_its_tokens_prompts_and_limit(tmp_path, capsys):
    folder = made(tmp_path, "Bert")
    (tmp_path/"docs").mkdir()
    (tmp_path/"docs"/"a.txt").write_text("A star is a cell of light. How does the plant grow? " * 30)
    named = ("--base_model", folder, "--query_prompt", "q: ", "--max_seq_length", 40)
    made_by = ("prepare", "--input_dir", tmp_path/"docs", "--generate_pairs", "--output_dir", tmp_path/"out", *named)
    assert command(*made_by) == 0
    report = read_json(tmp_path/"out"/"prepare_report.json")
    assert report["counted"] == "base" and report["data"]["token_limit"] == 38
    index = ("index", "--documents", tmp_path/"docs", "--index_dir", tmp_path/"index", "--mixed_precision", "no")
    assert command(*index, *named) == command(*index, *named) == command(*index) == 0
    opened = GaussianRetriever.open(tmp_path/"index", device="cpu")
    assert opened.model.prompts["query"] == "q: " and token_limit(opened.model.base) == 40
    tokens = base_tokens(str(folder))
    assert max(tokens.count(t) for b in opened.store.blocks() for t in b.texts) <= 38
    capsys.readouterr()
    for flags, said in ((("--max_seq_length", 32), "max_seq_length 40, not 32"), (("--query_prompt", ""), "not ''"),
                        (("--base_model", tmp_path/"other"), "base_model 'base', not 'other'")):
        assert command(*index, *flags) == 2 and said in capsys.readouterr().err
    kept = tmp_path/"index"/"model"
    assert command(*index[:4], tmp_path/"new", "--model_path", kept, "--query_prompt", "x") == 2
    assert "no effect" in capsys.readouterr().err and not (tmp_path/"new").exists()


def test_an_index_of_an_earlier_version_cuts_as_it_did(tmp_path):
    folder = made(tmp_path, "Bert")
    (tmp_path/"a.md").write_text("A star of gas. Звезда и планета. " * 60)
    index = ("index", "--documents", tmp_path/"a.md", "--index_dir", tmp_path/"index")
    assert command(*index, "--base_model", folder) == 0
    place = tmp_path/"index"/"manifest.json"
    manifest = read_json(place)
    assert manifest.pop("token_rule") == "base"
    place.write_text(json.dumps(manifest))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bases, "folder_tokens", None)     # not asked for
        assert command(*index) == 2                     # the estimate cuts elsewhere: these are other passages
    assert read_json(place) == manifest


def refused(match, folder, **options):
    with pytest.raises(UserError, match=match) as e:
        load_base(str(folder), options=BaseOptions(**options))
    assert "\n" not in str(e.value)


def remove(folder, wanted):
    "Take weights out of a checkpoint."
    from safetensors.torch import load_file, save_file
    place = next(Path(folder).rglob("model.safetensors"))
    save_file({k: v for k, v in load_file(place).items() if not wanted(k)}, place, metadata={"format": "pt"})


def change(folder, name, how):
    "Write other numbers in place of one matrix of a checkpoint."
    from safetensors.torch import load_file, save_file
    place = next(Path(folder).rglob("model.safetensors"))
    save_file({k: how(v) if k.endswith(name) else v for k, v in load_file(place).items()}, place,
              metadata={"format": "pt"})


def test_a_checkpoint_without_a_pooler_is_the_same_base_each_time(tmp_path):
    folder = made(tmp_path, "Bert")
    remove(folder, lambda k: "pooler" in k)
    one, two = (GaussianEncoder.from_base(str(folder), device="cpu", precision="no") for _ in range(2))
    assert one.fingerprint == two.fingerprint


def test_a_base_that_compares_by_dot_product_is_followed(tmp_path, pairs, monkeypatch):
    monkeypatch.setitem(ZOO, "dot", lambda f: ([static(f)], {"similarity_fn_name": "dot"}))
    folder = str(made(tmp_path, "dot"))
    model = GaussianEncoder.from_base(folder, device="cpu", precision="no")
    plain = SentenceTransformer(folder, device="cpu")
    queries, documents = [p.query for p in pairs], list(dict.fromkeys(p.positive for p in pairs))
    dot = plain.similarity(plain.encode_query(queries), plain.encode_document(documents)).numpy()
    length = np.linalg.norm(plain.encode_document(documents), axis=1)
    assert length.max() > 1.2*length.min()
    def agreement(found):
        return np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(found, dot, strict=True)])
    assert agreement(model.evidence(queries, documents)) > .999
    head, rho = np.eye(WIDTH), np.full(WIDTH, .5)       # what a base that compares by cosine starts with
    assert agreement(model.clone_head().set_head(head, np.zeros(WIDTH), rho).evidence(queries, documents)) < .99
    kept = fit_closed_form(model, pairs, shrinkages=(1.,))
    assert kept.rho_numpy.max() < .03 and agreement(kept.evidence(queries, documents)) > .999


@pytest.mark.parametrize("kind", ["Roberta", "Bert", "Data2VecText", "IBert", "RobertaPreLayerNorm", "Xmod", "GPT2",
                                  "MegatronBert", "Luke"])
def test_no_more_tokens_than_positions_and_something_to_pad_with(kind, tmp_path, monkeypatch):
    monkeypatch.setitem(ZOO, kind, family(kind))
    folder = made(tmp_path, kind)
    own = {"Bert": {"model_max_length": 512}, "GPT2": {"padding_side": "left"}}.get(kind, {})
    stated = 512 if kind in ("Bert", "GPT2", "MegatronBert") else None
    for path in folder.rglob("sentence_bert_config.json"):
        path.write_text(json.dumps(read_json(path) | {"max_seq_length": stated}))
    path = folder/"tokenizer_config.json"
    config = {k: v for k, v in read_json(path).items() if k not in ("pad_token", "model_max_length")}
    path.write_text(json.dumps(config | own))
    model = GaussianEncoder.from_base(str(folder), device="cpu", precision="no")
    room = 66 if stated else 64
    assert token_limit(model.base) == room and base_tokens(str(folder)).limit == room - 2
    long = "star light water "*60
    one = model.features([long])[0]
    np.testing.assert_allclose(model.features(["star", long])[1], one, atol=2e-5)
    saved = SentenceTransformer(str(model.save(tmp_path/"kept")), device="cpu")
    np.testing.assert_allclose(saved.encode_document([long, "star"])[0], model.encode_document([long])[0], atol=1e-3)


def test_a_limit_above_the_positions_stays_with_the_model(tmp_path):
    folder = made(tmp_path, "ModernBert")               # rotary positions: it reads more than its configuration names
    place = folder/"sentence_bert_config.json"
    place.write_text(json.dumps(read_json(place) | {"max_seq_length": 512}))
    model = GaussianEncoder.from_base(str(folder), device="cpu", precision="no")
    again = GaussianEncoder.load(model.save(tmp_path/"kept"), device="cpu", precision="no")
    plain = SentenceTransformer(str(tmp_path/"kept"), device="cpu")
    assert again.base.max_seq_length == plain.max_seq_length == model.base.max_seq_length == 512
    long = ["star light water "*60]
    np.testing.assert_array_equal(again.encode_document(long), model.encode_document(long))


@pytest.mark.parametrize("stated", [0, 1, -1, None, "48", 48.0])
def test_odd_limits_are_read_as_they_are_meant(stated, tmp_path):
    folder = made(tmp_path, "Bert")
    place = folder/"sentence_bert_config.json"
    place.write_text(json.dumps(read_json(place) | {"max_seq_length": stated}))
    base, *_ = load_base(str(folder))
    meant = isinstance(stated, (str, float))
    assert token_limit(base) == (48 if meant or stated is None else 66) and base_tokens(str(folder)).limit == 46
    assert np.isfinite(encode_features(base, ["star light water "*60])).all()


def test_a_base_that_reads_what_pads_a_text_gets_batches_of_one_length(tmp_path, monkeypatch):
    monkeypatch.setitem(ZOO, "ConvBert", family("ConvBert"))
    base, *_ = load_base(str(made(tmp_path, "ConvBert")))
    alone = np.concatenate([encode_features(base, [t]) for t in TEXTS])
    np.testing.assert_allclose(encode_features(base, TEXTS), alone, atol=1e-5)
    monkeypatch.setattr(bases, "UNPADDED", ())
    assert np.abs(encode_features(base, TEXTS) - alone).max() > .01


def test_words_with_vectors_of_their_own_are_counted(tmp_path):
    from sentence_transformers.sentence_transformer.modules import Pooling
    from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer
    from sentence_transformers.sentence_transformer.modules.word_embeddings import WordEmbeddings
    words = WhitespaceTokenizer(["PADDING_TOKEN", "star", "light", "water"], stop_words=[])
    vectors = np.random.default_rng(0).normal(size=(4, WIDTH)).astype("float32")
    SentenceTransformer(modules=[WordEmbeddings(words, vectors), Pooling(WIDTH, "mean")], device="cpu").save(
        str(tmp_path/"glove"), create_model_card=False)
    (tmp_path/"a.md").write_text("star light\n\nwater " * 40)
    assert base_tokens(tmp_path/"glove").count("star light of water") == 4
    assert command("index", "--documents", tmp_path/"a.md", "--index_dir", tmp_path/"i", "--base_model",
                   tmp_path/"glove") == 0


def test_a_base_that_is_not_there_is_not_the_fault_of_the_documents(tmp_path, capsys):
    (tmp_path/"docs").mkdir()
    (tmp_path/"docs"/"a.txt").write_text("A star is a cell of light.")
    (tmp_path/"empty").mkdir()
    for base, said in ((tmp_path/"empty", "this folder holds no model"), ("someone/no-such-base", "no-such-base")):
        assert command("index", "--documents", tmp_path/"docs", "--index_dir", tmp_path/"index",
                       "--base_model", base) == 2
        assert said in capsys.readouterr().err and not (tmp_path/"index").exists()


def test_a_model_of_another_kind_is_named(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(bases.logger, "warning", lambda text, *values: said.append(text % values))
    body(tmp_path/"plain")
    bases.warn_of_kind(tmp_path/"plain", "plain")
    assert not said
    for architecture, what in (("BertForSequenceClassification", "cross-encoder"),
                               ("LlamaForCausalLM", "language model"), ("GPT2LMHeadModel", "language model"),
                               ("T5ForConditionalGeneration", "language model")):
        folder = body(tmp_path/architecture)
        place = folder/"config.json"
        place.write_text(json.dumps(read_json(place) | {"architectures": [architecture]}))
        load_base(str(folder))
        load_base(str(folder))
        assert len(said) == 1 and what in said.pop()
        (folder/"modules.json").write_text("[]")        # an embedding model made of it
        bases._warned.discard(str(folder))
        bases.warn_of_kind(folder, "mine")
        assert not said


def test_what_stands_where_a_model_should_be_is_named(tmp_path):
    folder = made(tmp_path/"hub"/"snapshots"/"0a1b", "Bert")
    refused(f"neither modules.json nor config.json.*There is one in it: {folder}", folder.parent)
    refused("this is a file", folder/"config.json")
    for name in ("model.onnx", "model.safetensors.incomplete"):
        weights = next(p for p in folder.iterdir() if p.name.startswith("model."))
        weights.rename(folder/name)
        refused(f"no weights that torch reads.*{name}", folder)
    place = folder/"config.json"
    place.write_text(json.dumps(read_json(place) | {"model_type": "newer"}))
    refused("knows no models of the kind newer.*pip install -U transformers", folder)


def test_a_base_that_ends_on_a_text_is_one_line(tmp_path, monkeypatch):
    base, *_ = load_base(str(made(tmp_path, "Bert")))
    base.max_seq_length = 100                           # of 66 positions
    with pytest.raises(UserError, match="fails on a text of 100 tokens.*--max_seq_length"):
        encode_features(base, ["star light water "*60])
    monkeypatch.setattr(base, "forward", lambda inputs: inputs)
    with pytest.raises(UserError, match="KeyError: 'sentence_embedding'"):
        encode_features(base, ["star"])
    def full(inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr(base, "forward", full)
    with pytest.raises(torch.OutOfMemoryError):         # has an answer of its own
        encode_features(base, ["star"])


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
    bare = made(tmp_path/"unpooled", "Bert")
    (bare/"modules.json").write_text(json.dumps(read_json(bare/"modules.json")[:1]))
    refused("has no pooling", bare)
    folder = made(tmp_path/"pooled", "Bert")
    pooling = next(folder.glob("*Pooling"))/"config.json"
    pooling.write_text(pooling.read_text().replace(str(WIDTH), "999"))
    refused("states 999 numbers a token, the transformer gives 32", folder)
    change(folder := made(tmp_path/"shape", "Bert"), "layer.1.attention.self.query.weight", lambda w: w[:4, :4].clone())
    refused("1 of the checkpoint's weights have other shapes than config.json states.*query.weight", folder)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_what_git_lfs_has_not_fetched_is_named(name, tmp_path):
    folder = made(tmp_path, "Bert")
    place = next(folder.rglob(name))
    place.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 90868376\n")
    refused(f"{name} is a pointer of Git LFS.*git lfs pull", folder)


def test_damaged_weights_are_one_line_each_time(tmp_path):
    folder = made(tmp_path, "Bert")
    change(folder, "layer.1.attention.self.query.weight", lambda w: torch.full_like(w, torch.nan))
    model = GaussianEncoder.from_base(str(folder), device="cpu", precision="no")
    for _ in range(2):      # the second time, there would be a cache with the first one's numbers
        with pytest.raises(UserError, match="NaN or infinite numbers.*weights are damaged"):
            cached_features(model, ["a star"])
    few = ["a star", "a planet and its light"]      # torch's attention gives a text alone numbers, in spite of them
    with pytest.raises(UserError, match="NaN or infinite numbers in float32.*weights are damaged"):
        model.features(few)
    model.precision = "bf16"
    with pytest.raises(UserError, match="NaN or infinite numbers in bf16.*--mixed_precision no"):
        model.features(few)


def test_a_base_without_its_tokenizer_is_refused(tmp_path):
    folder = made(tmp_path/"mute", "Bert")
    for place in folder.rglob("tokenizer*"):
        place.unlink()
    refused("knows no word", folder)        # every word would be the unknown one, and nothing would say so
    with pytest.raises(UserError, match="knows no word"):
        base_tokens(folder)


def test_a_word_without_a_vector_is_one_line(tmp_path):
    folder = made(tmp_path/"short", "Bert")
    from safetensors.torch import load_file, save_file
    place = next(folder.rglob("model.safetensors"))
    weights = load_file(place)
    name = next(k for k in weights if "word_embeddings" in k)
    weights[name] = weights[name][:150].clone()
    save_file(weights, place, metadata={"format": "pt"})
    config = next(p for p in folder.rglob("config.json") if "vocab_size" in p.read_text())
    config.write_text(json.dumps(json.loads(config.read_text()) | {"vocab_size": 150}))
    base, *_ = load_base(str(folder))       # words that are not used do no harm
    assert np.isfinite(encode_features(base, ["a b"])).all()
    with pytest.raises(UserError, match="has no vector in this base"):
        encode_features(base, ["water energy"])


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


def test_adapters_become_weights_and_the_saved_model_stands_alone(tmp_path):
    peft = pytest.importorskip("peft")
    body = small_base(tmp_path)
    published = SentenceTransformer(str(body), device="cpu")
    published.add_adapter(peft.LoraConfig(task_type="FEATURE_EXTRACTION", r=2, target_modules=["query", "value"]))
    with torch.no_grad():
        for name, p in published.named_parameters():
            if "lora_B" in name:
                p.normal_()
    published.save_pretrained(str(tmp_path/"adapter"))
    assert not (tmp_path/"adapter"/"model.safetensors").exists()
    model = GaussianEncoder.from_base(tmp_path/"adapter", device="cpu", precision="no")
    assert not any("lora" in name for name, _ in model.base.named_parameters())
    theirs, merged, plain = (m.encode(TEXTS, normalize_embeddings=True)
                             for m in (published, model.base, SentenceTransformer(str(body), device="cpu")))
    assert np.allclose(merged, theirs, atol=1e-5) and not np.allclose(merged, plain, atol=1e-3)
    wanted = model.encode_query(TEXTS)
    model.save(tmp_path/"model")
    body.rename(tmp_path/"moved")               # what an adapter alone would need
    assert np.array_equal(GaussianEncoder.load(tmp_path/"model", "cpu", "no").encode_query(TEXTS), wanted)


def test_an_adapter_as_peft_saves_it_is_a_base(tmp_path):
    peft = pytest.importorskip("peft")
    from transformers import AutoModel
    whole = body(tmp_path/"whole")
    adapted = peft.get_peft_model(AutoModel.from_pretrained(whole),
                                  peft.LoraConfig(task_type="FEATURE_EXTRACTION", r=2, target_modules=["query"]))
    adapted.save_pretrained(tmp_path/"adapter")
    refused("this adapter has no tokenizer.*whole", tmp_path/"adapter")
    for path in whole.glob("token*"):
        shutil.copy(path, tmp_path/"adapter"/path.name)
    base, *_ = load_base(str(tmp_path/"adapter"))
    np.testing.assert_allclose(encode_features(base, TEXTS), SentenceTransformer(str(tmp_path/"adapter")).encode(
        TEXTS, normalize_embeddings=True), atol=1e-5)
    whole.rename(tmp_path/"moved")
    refused(f"this is an adapter of {whole}, which is not on this machine", tmp_path/"adapter")


def hub_of(monkeypatch, cached, files, refuse=None):
    "A hub that gives these files of a model into a folder of the cache; what it was asked to leave out."
    import fnmatch
    import huggingface_hub
    asked = []
    def snapshot_download(name, local_files_only=False, ignore_patterns=(), **more):
        if not local_files_only:
            asked.append(list(ignore_patterns))
            if refuse: raise refuse
            for file in files.rglob("*"):
                inside = file.relative_to(files)
                if file.is_file() and not any(fnmatch.fnmatch(str(inside), p) for p in ignore_patterns):
                    (cached/inside).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(file, cached/inside)
        if not cached.is_dir(): raise FileNotFoundError
        return str(cached)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def test_a_download_that_was_broken_off_is_taken_up(tmp_path, monkeypatch):
    files, cached = made(tmp_path, "Dense between"), tmp_path/"cached"
    (cached/"2_Dense").mkdir(parents=True)
    for name in ("modules.json", "config.json", "model.safetensors"):
        shutil.copy(files/name, cached/name)            # without the weights of the layer after it
    asked = hub_of(monkeypatch, cached, files)
    assert np.isfinite(encode_features(load_base("someone/base")[0], TEXTS)).all() and len(asked) == 1
    load_base("someone/base")
    assert len(asked) == 1                              # whole: the hub is not asked
    weights = (cached/"model.safetensors").rename(cached/"model-00001-of-00002.safetensors")
    (cached/"model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": weights.name, "b": "b"}}))
    assert not bases._is_whole(cached)


def test_weights_in_the_older_format_are_downloaded_where_there_are_no_others(tmp_path, monkeypatch):
    files = made(tmp_path, "Bert")
    from safetensors.torch import load_file
    torch.save(load_file(files/"model.safetensors"), files/"pytorch_model.bin")
    want = encode_features(load_base(str(files))[0], TEXTS)
    (files/"model.safetensors").unlink()
    asked = hub_of(monkeypatch, tmp_path/"cached", files)
    np.testing.assert_allclose(encode_features(load_base("someone/base")[0], TEXTS), want, atol=1e-6)
    assert ["*.bin" in patterns for patterns in asked] == [True, False]


def test_a_base_behind_terms_says_how_to_get_it(tmp_path, monkeypatch):
    hub_of(monkeypatch, tmp_path/"cached", tmp_path, type("GatedRepoError", (Exception,), {})())
    with pytest.raises(UserError, match="GatedRepoError.*hf auth login"):
        load_base("someone/base")
    shutil.copytree(made(tmp_path, "Bert"), tmp_path/"cached")
    (tmp_path/"cached"/"model.safetensors").unlink()
    with pytest.raises(UserError, match="no weights that torch reads"):     # what is there is named
        load_base("someone/base")


@pytest.mark.parametrize("given", ["", 3, object()])
def test_what_names_no_base_is_refused(given):
    with pytest.raises(UserError, match="is no base model"):
        GaussianEncoder.from_base(given)
    with pytest.raises(UserError, match="output_dim 'cpu' is no whole number.*device='cpu'"):
        GaussianEncoder.from_base(None, "cpu")


def test_a_model_and_a_base_below_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    small_base(tmp_path/"at home")
    model = GaussianEncoder.from_base("~/at home/base", device="cpu", precision="no")
    model.save(tmp_path/"m")
    assert np.array_equal(GaussianEncoder.load("~/m", "cpu", "no").encode_query(TEXTS), model.encode_query(TEXTS))
    with pytest.raises(UserError, match="is no path"):
        GaussianEncoder.load(model)

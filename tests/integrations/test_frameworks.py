"""The adapters against the real packages."""
import asyncio
import importlib
import sys
import threading

import numpy as np
import pytest

from ragcun.core import UserError
from ragcun.integrations.frameworks import (haystack_document_embedder, haystack_retriever, haystack_text_embedder,
                                            langchain_embeddings, langchain_retriever, langchain_store,
                                            llama_index_embedding, llama_index_retriever)
from ragcun.models.encoder import GaussianEncoder
from ragcun.retrieval.retriever import GaussianRetriever
from tiny_encoder import TinyModel as Model


@pytest.fixture
def index():
    r = GaussianRetriever(Model(24))
    r.add([{"id": f"d{i}", "text": f"alpha{i} beta{i} gamma{i} delta{i}", "n": i} for i in range(200)])
    return r


def test_langchain_store(index):
    pytest.importorskip("langchain_core", reason="extra langchain-core is not installed")
    store = langchain_store(index)
    question = "alpha7 beta7 gamma7"
    got = store.similarity_search_with_relevance_scores(question, k=3)
    hits = index.search(question, top_k=3)
    assert [d.id for d, _ in got] == [h.id for h in hits] and got[0][0].metadata["n"] == 7
    assert all(0 <= s <= 1 for _, s in got) and got[0][1] >= got[1][1]
    assert store.similarity_search(question, k=2, filter={"n": 8})[0].id == "d8"
    assert store.similarity_search_with_relevance_scores(question, k=3, score_threshold=1.1) == []
    added = store.add_texts(["new words here"], [{"x": 1}], ids=["new"])
    assert added == ["new"] and store.similarity_search("new words here", k=1)[0].metadata["x"] == 1
    assert store.delete(["new"]) and len(index) == 200
    with pytest.raises(UserError, match="made from a model, not from an embedding"):
        type(store).from_texts(["a"], None)


def test_langchain_options_count_or_are_refused(index):
    pytest.importorskip("langchain_core", reason="extra langchain-core is not installed")
    r = langchain_retriever(index, top_k=3, max_e_value=None)
    assert [d.metadata["n"] for d in r.invoke("alpha9 beta9", filter={"n": 4})] == [4]
    assert len(r.invoke("alpha9 beta9")) > len(r.invoke("alpha9 beta9", max_e_value=1e-9))
    store = langchain_store(index)
    for ask in (r.invoke, store.similarity_search, store.max_marginal_relevance_search):
        with pytest.raises(UserError, match="no option 'filters'"):
            ask("alpha9 beta9", filters={"n": 4})
    with pytest.raises(UserError, match="2 texts and 1 ids"):
        store.add_texts(["one text", "two texts"], ids=["a"])


def test_langchain_searches_for_the_words_as_they_are_where_it_is_told_to(index, monkeypatch):
    pytest.importorskip("langchain_core", reason="extra langchain-core is not installed")
    monkeypatch.setattr(index, "corrected", lambda asked: [q.replace("alfa9 baeta9", "alpha9 beta9") for q in asked])
    store, r = langchain_store(index), langchain_retriever(index, top_k=1, max_e_value=None)
    for ask in (r.invoke, store.similarity_search):
        assert ask("alfa9 baeta9")[0].id == "d9" and ask("alfa9 baeta9", as_written=True)[0].id != "d9"


def test_llama_index_and_haystack_search_for_the_words_as_they_are_where_they_are_told_to(index, monkeypatch):
    pytest.importorskip("llama_index.core", reason="extra llama-index-core is not installed")
    pytest.importorskip("haystack", reason="extra haystack-ai is not installed")
    monkeypatch.setattr(index, "corrected", lambda asked: [q.replace("alfa9 baeta9", "alpha9 beta9") for q in asked])
    def by_node(**how):
        return llama_index_retriever(index, 1, None, **how).retrieve("alfa9 baeta9")[0].node_id
    assert by_node() == "d9" != by_node(as_written=True)
    plain, strict = (haystack_retriever(index, 1, None, as_written=how) for how in (False, True))
    first = [r.run("alfa9 baeta9", **how)["documents"][0].id == "d9" for r, how in (
        (plain, {}), (strict, {}), (plain, {"as_written": True}), (strict, {"as_written": False}))]
    assert first == [True, False, False, True]


def test_llama_index_filters_are_those_of_the_index(index, tmp_path):
    pytest.importorskip("llama_index.core", reason="extra llama-index-core is not installed")
    from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
    stored = GaussianRetriever(index.model, tmp_path/"index")
    for i in (index, stored):
        i.update([{"id": f"d{n}", "text": f"alpha{n} beta{n}", "n": n, "tags": ["odd"] * (n % 2)} for n in range(9)])
    def found(*filters, how=FilterCondition.AND):
        wanted = MetadataFilters(filters=list(filters), condition=how)
        ids = [{n.node_id for n in llama_index_retriever(i, 9, None, wanted).retrieve("alpha5")}
               for i in (index, stored)]
        return ids[1] if len({len(i) for i in ids}) == 1 or how == FilterCondition.NOT else ids
    late = MetadataFilter(key="n", operator=FilterOperator.GTE, value=5)
    early = MetadataFilter(key="n", operator=FilterOperator.LT, value=9)
    odd = MetadataFilter(key="tags", operator=FilterOperator.CONTAINS, value="odd")
    assert found(late, early) == {"d5", "d6", "d7", "d8"} and found(late, early, odd) == {"d5", "d7"}
    assert found(late, odd, how=FilterCondition.NOT) == {"d0", "d2", "d4"}
    inner = MetadataFilters(filters=[late, odd], condition=FilterCondition.OR)
    assert found(inner, MetadataFilter(key="n", value=3)) == {"d3"}
    with pytest.raises(UserError, match="all does not take 'odd'"):
        found(MetadataFilter(key="tags", operator=FilterOperator.ALL, value="odd"))


def test_langchain_options_of_other_stores_remove_and_lose_nothing(index):
    pytest.importorskip("langchain_core", reason="extra langchain-core is not installed")
    from langchain_core.documents import Document
    store = langchain_store(index)
    for call in (lambda: store.delete(filter={"n": 4}), lambda: asyncio.run(store.adelete(where={"n": 4})),
                 lambda: store.add_texts(["one text"], metadata=[{"n": 1}])):
        with pytest.raises(UserError, match="there is no option"):
            call()
    assert len(index) == 200
    lazy = (Document(page_content=f"new{i} words here", id=f"new{i}") for i in range(3))
    assert store.add_documents(lazy, batch_size=2) == ["new0", "new1", "new2"]
    assert store.delete(["new0", "new1", "new2"]) and len(index) == 200


def test_langchain_takes_ids_and_columns_as_the_index_does(index):
    pytest.importorskip("langchain_core", reason="extra langchain-core is not installed")
    store = langchain_store(index)
    assert store.add_texts(["one text", "two texts"], ids=[7, 12]) == ["7", "12"]
    for asked, got in (([12, "7"], ["12", "7"]), ("12", ["12"])):
        assert [d.id for d in store.get_by_ids(asked)] == got
    assert store.delete([7, 12]) and len(index) == 200
    assert len(langchain_embeddings(index.model).embed_documents(np.array(["a", "b"]))) == 2


def test_langchain_retriever_and_embeddings_in_their_own_store(index):
    core = pytest.importorskip("langchain_core", reason="extra langchain-core is not installed")
    assert core
    r = langchain_retriever(index, top_k=4, max_e_value=None)
    assert [d.id for d in r.invoke("alpha9 beta9")] == [h.id for h in index.search("alpha9 beta9", top_k=4)]
    assert len(langchain_retriever(index, top_k=50).invoke("alpha9 beta9 gamma9 delta9")) < 50
    e = langchain_embeddings(index.model)
    u = np.array(e.embed_query("alpha9 beta9"))
    v = np.array(e.embed_documents([f"alpha{i} beta{i} gamma{i} delta{i}" for i in range(200)]))
    assert f"d{np.linalg.norm(v - u, axis=1).argmin()}" == index.search("alpha9 beta9", top_k=1)[0].id
    assert e.embed_documents([]) == []


def test_llama_index(index):
    pytest.importorskip("llama_index.core", reason="extra llama-index-core is not installed")
    nodes = llama_index_retriever(index, top_k=3, max_e_value=None).retrieve("alpha5 beta5 gamma5")
    assert [n.node.node_id for n in nodes] == [h.id for h in index.search("alpha5 beta5 gamma5", top_k=3)]
    assert nodes[0].node.metadata["n"] == 5 and all(0 <= n.score <= 1 for n in nodes)
    e = llama_index_embedding(index.model)
    with pytest.raises(UserError, match="JSON cannot hold one"):
        type(e).from_dict(e.to_dict()).get_query_embedding("alpha")
    assert np.allclose(e.get_query_embedding("alpha1"), index.model.encode_query(["alpha1"])[0], atol=1e-5)
    assert np.allclose(e.get_text_embedding_batch(["alpha1", "beta2"]),
                       index.model.encode_document(["alpha1", "beta2"]), atol=1e-5)


def test_llama_index_caches_tell_two_models_apart(index):
    pytest.importorskip("llama_index.core", reason="extra llama-index-core is not installed")
    from llama_index.core.ingestion.pipeline import get_transformation_hash
    from llama_index.core.schema import TextNode
    nodes = [TextNode(text="alpha1", id_="1")]
    same, other = (get_transformation_hash(nodes, llama_index_embedding(m)) for m in (Model(24), Model(16)))
    assert get_transformation_hash(nodes, llama_index_embedding(index.model)) == same != other


def test_retrievers_of_chains_take_a_filter(index):
    for made, ask in ((llama_index_retriever, "retrieve"), (langchain_retriever, "invoke")):
        found = getattr(made(index, 9, None, filter={"n": {"$lt": 3}}), ask)("alpha7 beta7")
        assert sorted(d.metadata["n"] for d in found) == [0, 1, 2]


def test_llama_index_embeds_beside_the_event_loop_and_together(index):
    pytest.importorskip("llama_index.core", reason="extra llama-index-core is not installed")
    seen = []
    class Model:
        def encode_document(self, texts):
            seen.append((len(texts), threading.current_thread() is threading.main_thread()))
            return index.model.encode_document(texts)
    e = llama_index_embedding(Model())
    want = [f"alpha{i}" for i in range(5)]
    got = asyncio.run(e.aget_text_embedding_batch(want))
    assert np.allclose(got, index.model.encode_document(want), atol=1e-5) and seen == [(5, False)]
    assert np.allclose(asyncio.run(e.aget_text_embedding("alpha1")), got[1], atol=1e-5) and seen[1:] == [(1, False)]


@pytest.fixture
def haystack():
    return pytest.importorskip("haystack", reason="extra haystack-ai is not installed")


def pipeline_of(haystack, **components):
    p = haystack.Pipeline()
    for name, c in components.items():
        p.add_component(name, c)
    return p


def test_haystack_sends_nothing_while_we_test(haystack):
    telemetry = importlib.import_module("haystack.telemetry._telemetry")
    assert telemetry.telemetry is None


def test_haystack_retriever_in_a_pipeline(haystack, index):
    question = "alpha7 beta7 gamma7"
    p = pipeline_of(haystack, retriever=haystack_retriever(index, top_k=4, max_e_value=None))
    def ask(**more):
        return p.run({"retriever": {"query": question, **more}})["retriever"]["documents"]
    found = ask()
    hits = index.search(question, top_k=4)
    assert ([d.id for d in found] == [h.id for h in hits] and found[0].id == "d7"
            and [d.content for d in found] == [h.text for h in hits])
    assert [d.score for d in found] == pytest.approx(hits.posterior()) and 0 <= found[-1].score < found[0].score <= 1
    assert found[0].meta == {"n": 7, "evidence": hits[0].evidence, "e_value": hits[0].e_value,
                             "p_value": hits[0].p_value}
    assert len(ask(top_k=2)) == 2
    with pytest.raises(UserError, match="top_k is 0"):
        haystack_retriever(index).run(question, top_k=0)


def test_haystack_retriever_brings_nothing_where_there_is_no_answer(haystack, index):
    few = haystack_retriever(index, top_k=50)
    all_of_them = haystack_retriever(index, top_k=50, max_e_value=None)
    for question in ("alpha9 beta9 gamma9 delta9", "words of no document"):
        got = few.run(question)["documents"]
        every = all_of_them.run(question)["documents"]
        assert [d.id for d in got] == [d.id for d in every if d.meta["e_value"] <= 1] and len(got) < len(every) == 50


@pytest.mark.parametrize("filters, wanted", [
    ({"field": "meta.n", "operator": "==", "value": 8}, lambda n: n == 8),
    ({"field": "meta.n", "operator": "in", "value": [3, 5, 500]}, lambda n: n in (3, 5)),
    ({"operator": "AND", "conditions": [
        {"field": "meta.n", "operator": ">=", "value": 190},
        {"operator": "NOT", "conditions": [{"field": "meta.n", "operator": "==", "value": 195}]}]},
     lambda n: n >= 190 and n != 195),
    ({"operator": "OR", "conditions": [{"field": "meta.n", "operator": "<", "value": 2},
                                       {"field": "meta.n", "operator": ">", "value": 197}]},
     lambda n: n < 2 or n > 197),
    (None, lambda n: True), ({}, lambda n: True)])
def test_haystack_filters(haystack, index, filters, wanted):
    found = haystack_retriever(index, top_k=200, max_e_value=None).run("alpha7 beta7", filters)["documents"]
    assert sorted(d.meta["n"] for d in found) == [n for n in range(200) if wanted(n)]


def test_haystack_filters_of_the_component_hold_where_a_run_has_none(haystack, index, tmp_path):
    late, seventh = ({"field": "meta.n", "operator": o, "value": v} for o, v in ((">=", 190), ("==", 7)))
    r = haystack_retriever(index, top_k=200, max_e_value=None, filters=late)
    def found(of, *filters):
        return sorted(d.meta["n"] for d in of.run("alpha7 beta7", *filters)["documents"])
    assert found(r) == found(r, {}) == list(range(190, 200)) and found(r, seventh) == [7]
    written = haystack_retriever(tmp_path/"index", 200, None, "cpu", filters=late).to_dict()
    assert type(r).from_dict(written).filters == late


def test_haystack_filters_that_would_find_nothing_are_errors(haystack, index):
    r = haystack_retriever(index)
    by_id = {"operator": "OR", "conditions": [{"field": "meta.n", "operator": "==", "value": 7},
                                              {"field": "id", "operator": "==", "value": "d7"}]}
    with pytest.raises(UserError, match="by metadata, not by 'id'"):
        r.run("alpha7", by_id)
    with pytest.raises(UserError, match="Name fields as 'meta.NAME'"):
        r.run("alpha7", {"field": "n", "operator": "==", "value": 7})
    from haystack.errors import FilterError
    with pytest.raises(FilterError):
        r.run("alpha7", {"n": 7})
    for shape in ([1], {"operator": "AND", "conditions": "x"}, {"operator": "AND", "conditions": [3]}):
        with pytest.raises(UserError, match="is no filter of Haystack"):
            r.run("alpha7", shape)
    with pytest.raises(UserError, match="by metadata, not by '5'"):
        r.run("alpha7", {"field": 5, "operator": "==", "value": 7})


def test_haystack_embedders_agree_with_the_index(haystack, index):
    documents = [haystack.Document(id=f"d{i}", content=f"alpha{i} beta{i} gamma{i} delta{i}", meta={"n": i})
                 for i in range(200)]
    p = pipeline_of(haystack, u=haystack_text_embedder(index.model), v=haystack_document_embedder(index.model))
    out = p.run({"u": {"text": "alpha9 beta9"}, "v": {"documents": documents}})
    u = np.array(out["u"]["embedding"])
    v = np.array([d.embedding for d in out["v"]["documents"]])
    order = np.linalg.norm(v - u, axis=1).argsort()[:5]
    assert [f"d{i}" for i in order] == [h.id for h in index.search("alpha9 beta9", top_k=5)]
    # a question is not embedded as a document
    assert not np.allclose(index.model.encode_document(["alpha9 beta9"])[0], u)
    assert [(d.id, d.meta, d.content) for d in out["v"]["documents"]] == [(d.id, d.meta, d.content) for d in documents]
    assert (haystack_document_embedder(index.model).run(documents[:1])["documents"][0].embedding
            and documents[0].embedding is None)


def test_haystack_embeds_what_a_generator_gives(haystack, index):
    lazy = (haystack.Document(content=f"alpha{i}") for i in range(3))
    assert len(haystack_document_embedder(index.model).run(lazy)["documents"]) == 3


def test_haystack_embedders_say_what_is_wrong(haystack, index):
    u = haystack_text_embedder(index.model)
    v = haystack_document_embedder(index.model)
    assert haystack_document_embedder("no/such/model").run([]) == {"documents": []}  # needs no model
    with pytest.raises(UserError, match="is null.*'scan'"):
        v.run([haystack.Document(content="a text"), haystack.Document(id="scan")])
    with pytest.raises(UserError, match="not Haystack Documents"):
        v.run("a text")
    for bad in ("", None, ["a", "b"]):
        with pytest.raises(UserError, match="one question"):
            u.run(bad)


def test_haystack_pipeline_from_a_file(haystack, index, tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(GaussianEncoder, "load",
                        lambda path, device: loaded.append((str(path), device)) or Model.load(path))
    saved = index.save(tmp_path/"index")
    folder = str(index.model.save(tmp_path/"model"))
    parts = {"retriever": haystack_retriever(saved, top_k=2, max_e_value=None, device="cpu"),
             "u": haystack_text_embedder(folder, "cpu"), "v": haystack_document_embedder(tmp_path/"model", "cpu")}
    text = pipeline_of(haystack, **parts).dumps()
    for c in parts.values():
        monkeypatch.delitem(haystack.component.registry, f"ragcun.integrations.haystack.{type(c).__name__}")
    ours = "ragcun.integrations.haystack"
    monkeypatch.setattr(ours, sys.modules[ours])  # put back at the end, for those that come after
    monkeypatch.delitem(sys.modules, ours)        # as in a process that has imported nothing of ours
    again = haystack.Pipeline.loads(text)      # they are imported, so they are trusted
    assert again.dumps() == text and loaded == []  # nothing is read before the first run
    for _ in range(2):
        out = again.run({"retriever": {"query": "alpha7 beta7"}, "u": {"text": "alpha7"},
                         "v": {"documents": [haystack.Document(content="beta2")]}})
    # and once, not at each run
    assert sorted(loaded) == [(str(tmp_path/"index"/"model"), "cpu"), (folder, "cpu"), (folder, "cpu")]
    assert [d.id for d in out["retriever"]["documents"]] == [h.id for h in index.search("alpha7 beta7", top_k=2)]
    assert np.allclose(out["u"]["embedding"], index.model.encode_query(["alpha7"])[0])
    assert np.allclose(out["v"]["documents"][0].embedding, index.model.encode_document(["beta2"])[0])


def test_haystack_objects_in_memory_are_not_written(haystack, index):
    for part in (haystack_retriever(index), haystack_text_embedder(index.model),
                 haystack_document_embedder(index.model)):
        with pytest.raises(UserError, match="in memory.*Save it"):
            pipeline_of(haystack, part=part).dumps()
    missing = haystack_retriever("no/such/index")
    assert type(missing).from_dict(missing.to_dict()).index == "no/such/index"
    with pytest.raises(UserError, match="no/such/index"):
        missing.run("a question")


def test_the_adapters_are_imported_without_haystack(monkeypatch, index):
    for name in [n for n in sys.modules if n.split(".")[0] == "haystack"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "haystack", None)  # as where it is not installed
    for name in ("adapters", "haystack_adapter"):
        monkeypatch.delitem(sys.modules, f"ragcun.{name}", raising=False)
    fresh = importlib.import_module("ragcun.integrations.frameworks")
    for make, given in ((fresh.haystack_retriever, index), (fresh.haystack_text_embedder, index.model),
                        (fresh.haystack_document_embedder, index.model)):
        with pytest.raises(UserError) as e:
            make(given)
        assert str(e.value) == "haystack is not installed (haystack-ai). Run: pip install haystack-ai"


def test_a_missing_package_is_one_line(monkeypatch, index):
    def absent(name):
        raise ImportError(name)
    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(UserError, match="pip install langchain-core"):
        langchain_store(index)


def test_langchain_texts_that_are_no_list_or_hold_an_empty_one(index):
    pytest.importorskip("langchain_core", reason="extra langchain-core is not installed")
    store = langchain_store(index)
    with pytest.raises(UserError, match="one text was given"):
        store.add_texts("abc")                  # each letter was a document
    for metadatas in (None, [{"n": i} for i in range(3)]):
        with pytest.raises(UserError, match="the text is empty .document 3."):
            store.add_texts(["new one", "new two", ""], metadatas)
    assert len(index) == 200
    added = store.add_texts((t for t in ("new one", "new two")), ({"n": i} for i in range(2)), ids=np.array(["x", "y"]))
    assert added == ["x", "y"] and store.get_by_ids(["y"])[0].metadata == {"n": 1}

"""Filters: in memory as on disk, and what is none is refused."""
import datetime
from decimal import Decimal
from uuid import UUID

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ragcun.core import UserError
from ragcun.retrieval.filters import as_filter
from ragcun.retrieval.hits import Batch
from ragcun.retrieval.retriever import GaussianRetriever
from ragcun.retrieval.stores import LanceStore, MemoryStore
from tiny_encoder import TinyEncoder

PLAIN = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([2.5, -1.5, 2**53, 2**53 + 1, 10**30]),
                  st.sampled_from(["a", "B", "it's", 'say "x"', "1", "true", "null", "", "a\\b", "\x07", "é\U0001F600",
                                   "\u2028", "\x7f"]))
VALUE = st.one_of(PLAIN, st.lists(st.integers(0, 2), max_size=2), st.dictionaries(st.just("in"), st.integers(0, 2)))
FIELD = st.sampled_from(["x", "y", "é", "a b", "p.q", "", "it's"])
DOCUMENTS = st.lists(st.dictionaries(FIELD, VALUE, max_size=3), min_size=1, max_size=5)
NUMBER = st.one_of(st.integers(-3, 3), st.sampled_from([2.5, 2**53, 2**53 + 1, float("inf"), float("nan")]))
CONDITION = st.one_of(
    PLAIN, st.lists(st.integers(0, 2), max_size=2),
    st.tuples(st.sampled_from(["$eq", "$ne"]), VALUE).map(lambda p: dict([p])),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), NUMBER | st.sampled_from(["a", "B"])
              ).map(lambda p: dict([p])),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(PLAIN, max_size=3)).map(lambda p: dict([p])),
    st.integers(0, 2).map(lambda n: {"$contains": n}), st.booleans().map(lambda b: {"$exists": b}))
ONE = st.dictionaries(FIELD, CONDITION, max_size=2)
WANTED = st.recursive(ONE, lambda inner: st.one_of(
    st.lists(inner, min_size=1, max_size=2).map(lambda p: {"$and": p}),
    st.lists(inner, min_size=1, max_size=2).map(lambda p: {"$or": p}), inner.map(lambda p: {"$not": p})), max_leaves=4)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(DOCUMENTS, st.lists(WANTED, min_size=6, max_size=12))
def test_memory_and_disk_let_the_same_pass(tmp_path_factory, metadata, wanted):
    ids = [f"d{i}" for i in range(len(metadata))]
    b = Batch(ids, ids, metadata, np.ones((len(ids), 4), np.float32), [""] * len(ids))
    stores = [MemoryStore(4), LanceStore(tmp_path_factory.mktemp("f"), 4)]
    for s in stores:
        s.add(b)
    u = np.zeros((1, 4), np.float32)
    for one in wanted:
        where = as_filter(one)
        want = [i for i, m in zip(ids, metadata, strict=True) if where.passes(m)]
        for s in stores:
            assert sorted(s.select(where)) == want, (one, where.sql)
            assert sorted(f.id for f in s.search(u, 9, where=where)[0]) == want, (one, where.sql)


@pytest.mark.parametrize("value", [10**30, -2**63 - 1, 2**64, 2**64 - 1, -2**63, 2**53 + 1])
def test_a_whole_number_beyond_64_bits_is_found_where_it_was_put(tmp_path, value):
    for s in (MemoryStore(4), LanceStore(tmp_path/"t", 4)):
        s.add(Batch(["a", "b"], ["a", "b"], [{"x": value}, {"x": 3}], np.ones((2, 4), np.float32), ["", ""]))
        for wanted in (value, {"$in": [value]}, {"$ne": 3}):
            assert s.select(as_filter({"x": wanted})) == ["a"], (wanted, s)


@pytest.mark.parametrize("wanted", [{"x": {"$like": 1}}, {"x": {"$in": 3}}, {"x": {"$exists": 1}}, {"$or": []}, 3,
                                    {"x": {"$gt": None}}, {"$gte": 3}, {"$nor": [{}]}, {"x": {"$gt": True}},
                                    {"x": {"$contains": ["a", "b"]}}])
def test_what_is_no_filter_is_refused(wanted):
    with pytest.raises(UserError):
        as_filter(wanted)


@pytest.mark.parametrize("value", [datetime.date(2024, 1, 2), UUID(int=1), b"en"])
def test_a_value_that_no_metadata_can_hold_is_refused(value):
    for wanted in (value, {"$ne": value}, {"$in": ["x", value]}, [value]):      # all passed, or none, without a word
        with pytest.raises(UserError, match="no metadata hold a"):
            as_filter({"$or": [{"x": 1}, {"day": wanted}]})
    assert as_filter({"x": Decimal("1.5")}).passes({"x": 1.5})
    assert as_filter({"x": {"$in": {np.int64(3), "a"}}}).passes({"x": 3})


def test_the_usual_ones_are_pushed_down():
    for wanted in ({"year": {"$gte": 2003}}, {"lang": "en"}, {"source": {"$in": ["a.md", "b.md"]}},
                   {"$or": [{"x": 1}, {"y": None}]}):
        assert as_filter(wanted).sql
    years = [{"year": 2001}, {"year": 2003}, {"year": "2004"}, {}]
    assert [as_filter({"year": {"$gte": 2003}}).passes(m) for m in years] == [False, True, False, False]


@pytest.mark.parametrize("wanted", [
    {"n": {"$in": [*range(100_000), "x", None]}}, {"n": {"$nin": list(range(5, 100_000))}},
    {"$or": [{"n": i} for i in range(3000)]}, {"$and": [{"$not": {"$not": {"$or": [{"$not": {"n": 2}}]}}}] * 3}])
def test_long_and_nested_filters_end_nothing(tmp_path, wanted):
    "A chain of conditions is recursion to the table's parser: 100,000 of them ended the process."
    b = Batch(["a", "b"], ["a", "b"], [{"n": 2}, {"n": 3}], np.ones((2, 4), np.float32), ["", ""])
    found = []
    for store in (MemoryStore(4), LanceStore(tmp_path, 4)):
        store.add(b)
        found.append([f.id for f in store.search(np.zeros((1, 4), np.float32), 9, where=as_filter(wanted))[0]])
    assert found[0] == found[1] == (["b"] if "$and" in wanted else ["a", "b"])


@pytest.mark.parametrize("levels", [10, 20, 40, 5000])
def test_a_filter_of_many_levels_is_answered_or_refused(tmp_path, levels):
    store = LanceStore(tmp_path, 4)
    store.add(Batch(["a"], ["a"], [{"n": 2}], np.ones((1, 4), np.float32), [""]))
    wanted = {"n": 2}
    for _ in range(levels):
        wanted = {"$not": wanted}
    if levels > 50:
        with pytest.raises(UserError, match="levels"):
            as_filter(wanted)
    else:
        assert store.select(as_filter(wanted)) == ["a"]


def test_what_a_function_raises_is_one_line(tmp_path):
    documents = [{"id": "a", "text": "sea ice", "year": 2003}, {"id": "b", "text": "sea bees", "lang": "en"}]
    for index in (GaussianRetriever(TinyEncoder()), GaussianRetriever(TinyEncoder(), tmp_path/"index")):
        index.add(documents)
        with pytest.raises(UserError, match=r"raised KeyError \('year'\) for the metadata {'lang': 'en'}.*m.get"):
            index.search("sea", filter=lambda m: m["year"] > 2000)
        assert [h.id for h in index.search("sea", filter=lambda m: m.get("year"))] == ["a"]

"""Exact search and metrics against references: brute force, faiss, pytrec_eval, scipy; and what must be refused."""
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from ragcun.core import UserError
from ragcun.data.collections import RetrievalData
from ragcun.evaluation.comparison import (Comparison, Comparisons, check_ids, compare, compare_sets, detectable,
                                          holm, html_table, load_qrels, markdown_table, read_run, text_table,
                                          write_qrels, write_run)
from ragcun.measures.paired import Difference, paired_test, paired_tests
from ragcun.measures.ranking import (PerQuery, Ranking, check_collection, evaluate_vectors, rank_vectors,
                                     ranking_metrics, retrieval_metrics, run_order, top_k)

pytrec_eval = pytest.importorskip("pytrec_eval", reason="pytrec_eval-terrier is not installed")
KS = (1, 3, 10, 100)
MEASURES = {"ndcg_cut.1,3,10,100", "recall.1,3,10,100", "P.1,3,10,100", "map_cut.1,3,10,100",
            "success.1,3,10,100", "Rprec"}
THEIRS = {**{f"{ours}@{k}": f"{theirs}_{k}" for k in KS for ours, theirs in (("ndcg", "ndcg_cut"), (
    "recall", "recall"), ("precision", "P"), ("map", "map_cut"), ("success", "success"))}, "r_precision": "Rprec"}


def reference(run: dict, qrels: dict) -> dict[str, np.ndarray]:
    "pytrec_eval's values; MRR@k is its reciprocal rank of the run cut at k in its own order."
    full = {q: run.get(q, {}) for q in qrels}
    found = pytrec_eval.RelevanceEvaluator(qrels, MEASURES).evaluate(full)
    out = {ours: np.array([found[q][theirs] for q in qrels]) for ours, theirs in THEIRS.items()}
    for k in KS:
        cut = {q: {d: hits[d] for d in run_order(hits)[:k]} for q, hits in full.items()}
        mrr = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(cut)
        out[f"mrr@{k}"] = np.array([mrr[q]["recip_rank"] for q in qrels])
    return out


def random_case(rng: np.random.Generator) -> tuple[dict, dict]:
    "Runs with many ties, graded, negative and missing judgements, empty results, unjudged queries."
    names = [f"{c}{i}" for c in "aBé9" for i in range(int(rng.integers(1, 40)))]
    def some(most):
        return [names[i] for i in rng.permutation(len(names))[:int(rng.integers(0, most))]]
    qrels = {f"q{i}": {d: int(rng.integers(-1, 4)) for d in some(12)} or {names[0]: 0} for i in range(6)}
    levels = int(rng.integers(1, 30))
    run = {f"q{i}": {d: float(rng.integers(0, levels)) / 7 + float(rng.choice([0, 1e-9])) for d in some(len(names) + 1)}
           for i in range(1, 8)}
    return run, qrels


@settings(max_examples=600, deadline=None)
@given(st.integers(0, 2 ** 32 - 1))
def test_metrics_equal_trec_eval(seed):
    run, qrels = random_case(np.random.default_rng(seed))
    got = retrieval_metrics(run, qrels, KS)
    want = reference(run, qrels)
    assert set(got.values) == set(want)
    for name, values in want.items():
        np.testing.assert_allclose(got[name], values, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("broken", ["ascending ids", "float64 ties", "ideal of what was found"])
def test_the_comparison_can_fail(broken):
    "Each usual mistake is told from the reference within a few hundred runs."
    def order(hits):
        if broken == "ascending ids": return sorted(hits, key=lambda d: (-np.float32(hits[d]), d))
        return sorted(hits, key=lambda d: (hits[d], d), reverse=True)
    worst = 0.
    for seed in range(40):
        run, qrels = random_case(np.random.default_rng(seed))
        seen = (qrels if broken != "ideal of what was found"
                else {q: {d: g for d, g in v.items() if d in run.get(q, {})} for q, v in qrels.items()})
        ranked = {q: (run_order if broken.startswith("ideal") else order)(h) for q, h in run.items()}
        got = ranking_metrics(ranked, seen, KS)
        want = reference(run, qrels)
        worst = max(worst, max(float(np.abs(got[n] - want[n]).max()) for n in want))
    assert worst > 1e-3


def test_means_count_every_judged_query():
    qrels = {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 0}}
    got = retrieval_metrics({"a": {"x": 1.}, "other": {"x": 1.}}, qrels)
    assert got.query_ids == ["a", "b", "c"] and got.mean()["recall@100"] == pytest.approx(1 / 3)
    assert got.relevant.tolist() == [1, 1, 0]


def brute(q, x, k, metric):
    s = (np.sqrt(((q[:, None].astype(float) - x[None]) ** 2).sum(-1)) if metric == "l2"
         else -(q.astype(float) @ x.T.astype(float)))
    i = np.argsort(s.astype(np.float32), axis=1, kind="stable")[:, :k]
    return np.abs(np.take_along_axis(s, i, 1)) if metric == "l2" else -np.take_along_axis(s, i, 1), i


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2 ** 32 - 1), st.sampled_from(["l2", "ip"]), st.integers(1, 40), st.booleans())
def test_top_k_is_brute_force(seed, metric, k, repeated):
    rng = np.random.default_rng(seed)
    q = rng.standard_normal((int(rng.integers(1, 9)), 6)).astype(np.float32)
    x = rng.standard_normal((int(rng.integers(1, 300)), 6)).astype(np.float32)
    if repeated:
        x = np.round(x[rng.integers(0, max(1, len(x) // 20), len(x))])
    scores, found = top_k(q, x, k, metric, block_size=int(rng.integers(1, 64)))
    want_scores, want = brute(q, x, k, metric)
    np.testing.assert_allclose(scores, want_scores, atol=1e-5)
    if len(x) <= k + 16 or not repeated:
        np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_top_k_equals_faiss_over_many_blocks(metric):
    faiss = pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    rng = np.random.default_rng(0)
    q = rng.standard_normal((1100, 32)).astype(np.float32)
    x = rng.standard_normal((30_000, 32)).astype(np.float32)
    index = faiss.IndexFlatL2(32) if metric == "l2" else faiss.IndexFlatIP(32)
    index.add(x)
    want_scores, want = index.search(q, 100)
    scores, found = top_k(q, x, 100, metric, block_size=5000)
    assert (found == want).mean() > .999        # float32 rounding may swap neighbours that are all but equal
    np.testing.assert_allclose(scores, np.sqrt(want_scores) if metric == "l2" else want_scores, rtol=1e-4)


def test_top_k_reads_a_memory_map(tmp_path):
    x = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float16)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(top_k(x[:5], mapped, 1)[1][:, 0], np.arange(5))


def test_equal_documents_share_one_score_and_order():
    rng = np.random.default_rng(0)
    x = np.repeat(rng.standard_normal((200, 16)).astype(np.float32), 5, axis=0)
    scores, found = top_k(x[::5][:20] + 1, x, 50, block_size=77)
    assert all(len(set(row[i:i + 5].tolist())) == 1 for row in scores for i in range(0, 50, 5))
    assert all((np.diff(row.reshape(-1, 5), axis=1) == 1).all() for row in found)


def collection(documents=30, queries=6):
    return RetrievalData({f"d{i}": "t" for i in range(documents)}, {f"q{i}": "t" for i in range(queries)},
                         {f"q{i}": {f"d{i}": 2, f"d{i + 6}": 1} for i in range(queries)}, "toy")


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2 ** 32 - 1), st.sampled_from(["l2", "ip"]))
def test_vectors_give_the_run_that_trec_eval_scores(seed, metric):
    rng, data = np.random.default_rng(seed), collection()
    # full of ties
    u = rng.integers(-1, 2, (6, 3)).astype(np.float32)
    v = rng.integers(-1, 2, (30, 3)).astype(np.float32)
    ranking = rank_vectors(u, v, data, metric, 30)
    np.testing.assert_allclose(evaluate_vectors(u, v, data, metric, 30)["ndcg@10"],
                               reference(ranking.run(), data.qrels)["ndcg@10"], atol=1e-9)
    assert all(run_order(hits) == list(hits) for hits in ranking.run().values())


def test_own_document_is_left_out():
    data = collection()
    data = RetrievalData(data.corpus, {f"d{i}": "t" for i in range(6)}, {f"d{i}": {f"d{i + 6}": 1} for i in range(6)})
    v = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
    kept, dropped = (rank_vectors(v[:6], v, data, "l2", 5, own).ranked() for own in (False, True))
    for q in data.qrels:
        assert kept[q][0] == q and dropped[q][:4] == kept[q][1:] and len(dropped[q]) == 5


BAD = {
    "NaN": (lambda u, v, d: evaluate_vectors(u, np.where(np.arange(30)[:, None] == 3, np.nan, v), d), "row 3"),
    "infinite": (lambda u, v, d: evaluate_vectors(u * np.inf, v, d), "NaN or infinite"),
    "dimension": (lambda u, v, d: evaluate_vectors(u[:, :2], v, d), "dimensions"),
    "empty": (lambda u, v, d: evaluate_vectors(u, v[:0], RetrievalData({}, d.queries, d.qrels)), "corpus is empty"),
    "k": (lambda u, v, d: evaluate_vectors(u, v, d, k=0), "at least 1"),
    "top_k": (lambda u, v, d: top_k(u, v, -1), "at least 1"),
    "metric": (lambda u, v, d: top_k(u, v, 1, "cosine"), "unknown metric"),
    "unknown document": (lambda u, v, d: evaluate_vectors(u, v, RetrievalData(d.corpus, d.queries, {"q0": {"x": 1}})),
                         "no judged document"),
    "unknown query": (lambda u, v, d: evaluate_vectors(u, v, RetrievalData(d.corpus, d.queries, {"x": {"d0": 1}})),
                      "unknown query"),
    "rows": (lambda u, v, d: evaluate_vectors(u[:2], v, d), "2 query vectors for 6 texts"),
    "no judgements": (lambda u, v, d: evaluate_vectors(u, v, RetrievalData(d.corpus, d.queries, {})),
                      "no relevance judgements"),
    "repeated": (lambda u, v, d: ranking_metrics({"q0": ["d1", "d1"]}, d.qrels), "ranked twice"),
    "NaN score": (lambda u, v, d: retrieval_metrics({"q0": {"d1": np.nan}}, d.qrels), "NaN score"),
    "collection": (lambda u, v, d: check_collection(RetrievalData(d.corpus, d.queries, {"q0": {"d0": 1}, "x": {}})),
                   "unknown query"),
    "ids": (lambda u, v, d: check_ids(["q0", "a\u2003b"]), "white space"),
    "other ids": (lambda u, v, d: compare({"1": {"d0": 1.}}, {"1": {"d0": 1.}}, d.qrels), "none of the judged queries"),
    "paired": (lambda u, v, d: paired_test(np.ones(3), np.ones(4)), "cannot be paired"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name):
    call, words = BAD[name]
    rng = np.random.default_rng(0)
    with pytest.raises(UserError) as caught:
        call(rng.standard_normal((6, 4)), rng.standard_normal((30, 4)), collection())
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_paired_test_against_scipy():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for shift in (0, .02, .05, .1):
        a = rng.beta(2, 2, 200)
        b = np.clip(a + rng.normal(shift, .2, 200), 0, 1)
        got = paired_test(b, a)
        want = stats.permutation_test((b - a,), np.mean, permutation_type="samples", n_resamples=9999, random_state=0)
        interval = stats.bootstrap((b - a,), np.mean, n_resamples=9999, method="percentile",
                                   random_state=0).confidence_interval
        assert got.p == pytest.approx(want.pvalue, abs=.02)
        assert (got.low, got.high) == pytest.approx((interval.low, interval.high), abs=.004)


def test_intervals_hold_the_truth_and_metrics_are_tested_alone_or_together():
    """95 % intervals of 300 samples of 60 skewed differences: at least 90 % hold the mean (percentile intervals run
    a little short)."""
    d = np.random.default_rng(0).exponential(1, (60, 300)) - 1
    both = paired_tests({str(i): c for i, c in enumerate(d.T)}, {str(i): np.zeros(60) for i in range(300)})
    assert np.mean([x.low <= 0 <= x.high for x in both.values()]) > .9
    alone = paired_test(d[:, 7], np.zeros(60))
    assert (alone.p, alone.n) == (both["7"].p, 60) and alone.low == pytest.approx(both["7"].low, abs=1e-12)
    assert paired_test(d[:, 7], np.zeros(60)) == alone and isinstance(alone, Difference)


def test_holm_against_a_plain_loop():
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = dict(zip("abcdef", rng.uniform(0, .4, 6).tolist(), strict=True))
        ranked = sorted(p.values())
        want = {k: min(1, max((6 - i) * ranked[i] for i in range(ranked.index(v) + 1))) for k, v in p.items()}
        assert holm(p) == pytest.approx(want)


def test_detectable_is_the_textbook_value():
    assert detectable(1, 100) == pytest.approx(.28016, abs=1e-4)


def test_files_there_and_back(tmp_path):
    run, qrels = random_case(np.random.default_rng(3))
    qrels = {q: {d: max(g, 0) for d, g in v.items()} for q, v in qrels.items()}
    write_run(tmp_path / "r.trec", run)
    write_qrels(tmp_path / "q.txt", qrels)
    again = read_run(tmp_path / "r.trec")
    judged = load_qrels(tmp_path / "q.txt")
    assert judged == qrels
    for name, values in retrieval_metrics(run, qrels).values.items():
        np.testing.assert_array_equal(retrieval_metrics(again, judged)[name], values)
    with open(tmp_path / "r.trec", encoding="utf-8") as f:
        theirs = pytrec_eval.parse_run(f)
    assert {q: set(h) for q, h in theirs.items()} == {q: set(h) for q, h in run.items() if h}
    assert compare(tmp_path / "r.trec", run, qrels).difference.p == 1
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("text, words", [
    ("q1 Q0 a 1 .5 x\nq1 Q0 b 2 .4 x\nq1 Q0 a 3 .3 x\n", "row 3"), ("q1 Q0 a 1 nan x\n", "not a run line"),
    ("q1 Q0 a 1\n", "not a run line"), ("q1 Q0 a 1 high x\n", "row 1")])
def test_a_broken_run_file_names_the_row(tmp_path, text, words):
    (tmp_path / "r.trec").write_text(text)
    with pytest.raises(UserError, match=words):
        compare(tmp_path / "r.trec", tmp_path / "r.trec", {"q1": {"a": 1}})


def test_ids_with_blanks_are_read_where_tabs_part_the_columns_and_never_misread(tmp_path):
    (tmp_path/"r.trec").write_text("q 1\tQ0\td 1\t1\t2.5\tmy run\n")
    assert read_run(tmp_path/"r.trec") == {"q 1": {"d 1": 2.5}}
    (tmp_path/"r.trec").write_text("q 1 Q0 d1 1 2.5 mine\n")      # was a document Q0 of a query q
    with pytest.raises(UserError, match="not a run line"):
        read_run(tmp_path/"r.trec")


def test_what_comes_back_says_what_it_is():
    data = collection()
    rng = np.random.default_rng(0)
    ranking = rank_vectors(rng.standard_normal((6, 4)), rng.standard_normal((30, 4)), data, k=7)
    assert isinstance(ranking, Ranking) and ranking.indices.shape == ranking.scores.shape == (6, 7)
    scored = ranking_metrics(ranking.ranked(), data.qrels)
    assert (isinstance(scored, PerQuery) and scored.query_ids == list(data.qrels)
            and repr(scored).startswith("PerQuery(6 queries: ndcg@10"))
    assert {q: dict(row) for q, row in ranking.rows()} == ranking.run()
    alone = compare(ranking, scored, data.qrels)
    several = compare_sets({"a|b": (scored, scored)})
    assert (isinstance(alone, Comparison) and isinstance(several, Comparisons)
            and alone.p_holm == alone.difference.p == 1 and several["a|b"].difference.mean == 0)


def test_tables_keep_their_cells_apart():
    rows = [["set", "value"], ["a|b", "1"], ["<i>", "22"]]
    assert text_table(rows).splitlines() == ["set  value", "a|b      1", "<i>     22"]
    assert "a\\|b" in markdown_table(rows) and "&lt;i&gt;" in html_table(rows) and html_table(rows).count("<tr>") == 3


def test_holm_is_applied_over_sets():
    rng = np.random.default_rng(0)
    runs = [{str(i): {f"d{j}": float(s) for j, s in enumerate(rng.normal(size=9))} for i in range(30)}
            for _ in range(2)]
    qrels = {str(i): {"d3": 1} for i in range(30)}
    got = compare_sets({"one": (*runs, qrels), "two": (*runs, qrels)})
    assert got["one"].p_holm == pytest.approx(min(1, 2 * got["one"].difference.p))
    assert "95 % interval" in repr(got) and "<table>" in got._repr_html_() and "| one |" in got._repr_markdown_()


@pytest.mark.parametrize("work, said", [
    (lambda: retrieval_metrics({"q": {"a": 1.}}, {"q": {"a"}}), "judgements are a set, not documents with grades"),
    (lambda: ranking_metrics({"q": ["a"]}, {"q": ["a"]}), "judgements are a list"),
    (lambda: retrieval_metrics({"q": {"a": 1.}}, {"q": {"a": "1"}}), "grade of document a is '1'"),
    (lambda: retrieval_metrics({"q": {"a": 1.}}, {"q": {"a": float("nan")}}), "grade of document a is nan"),
    (lambda: retrieval_metrics({"q": [("a", 1.)]}, {"q": {"a": 1}}), "hits of a query are a list"),
    (lambda: ranking_metrics({"q": {"b": .1, "a": .9}}, {"q": {"a": 1}}), "documents are a dict, not a list"),
    (lambda: ranking_metrics({"q": "ab"}, {"q": {"a": 1}}), "documents are a str, not a list"),
    (lambda: retrieval_metrics({"q": {"a": 1.}}, {"q": {"a": 1}}, ("10",)), "no list of cut-offs"),
    (lambda: compare([("q", "a")], {}, {"q": {"a": 1}}), "a list is no run"),
])
def test_shapes_of_other_libraries_are_refused_in_one_line(work, said):
    with pytest.raises(UserError, match=said):
        work()


def test_one_cut_off_and_a_generator_of_them():
    for ks in (3, (k for k in (3,)), np.array([3])):
        assert "ndcg@3" in retrieval_metrics({"q": {"a": 1.}}, {"q": {"a": np.int64(1)}}, ks).mean()


def test_judgements_with_fractions_are_not_written_as_none(tmp_path):
    with pytest.raises(UserError, match="the grade of document a is 0.5"):
        write_qrels(tmp_path/"q", {"q": {"a": .5}})
    assert not (tmp_path/"q").exists()

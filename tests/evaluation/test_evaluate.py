"""Evaluation on the real base, abstention against references, the mteb model; and what must be refused."""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from ragcun.core import UserError
from ragcun.data.collections import RetrievalData
from ragcun.data.pairs import load_pairs, load_retrieval
from ragcun.evaluation.abstention import (Abstention, auroc, calibration_error, false_answer_rate, measure_abstention,
                                          nauc, plot_risk_coverage, risk_coverage, without_answers)
from ragcun.evaluation.comparison import compare, read_run
from ragcun.evaluation.evaluation_report import (EvaluateConfig, EvaluationReport, encode_collection,
                                                 evaluate, make_notes)
from ragcun.measures.ranking import ranking_metrics, retrieval_metrics
from small import command, processed, small_base

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("RAGCUN_SHARED_DATA", ROOT.parent / "shared" / "data"))


def small(data: RetrievalData, documents: int, characters: int) -> RetrievalData:
    "A few hundred documents of a collection, texts cut, judgements of the others dropped."
    judged = list(dict.fromkeys(d for grades in data.qrels.values()
                                for d, g in grades.items() if g > 0))[:documents // 2]
    kept = {*judged, *list(data.corpus)[:documents - len(judged)]}
    qrels = {q: {d: g for d, g in grades.items() if d in kept} for q, grades in data.qrels.items()}
    qrels = {q: grades for q, grades in qrels.items() if grades}
    return RetrievalData({d: t[:characters] for d, t in data.corpus.items() if d in kept},
                         {q: data.queries[q] for q in qrels}, qrels, "part")


@pytest.fixture(scope="module")
def model():
    from ragcun.models.encoder import GaussianEncoder
    try:
        return GaussianEncoder.from_base(device="cpu", precision="no")
    except UserError as e:
        pytest.skip(f"no base model: {e}")


@pytest.fixture(scope="module")
def tiny():
    return load_retrieval(ROOT / "data" / "processed" / "test_eval.json")


@pytest.fixture(scope="module")
def med():
    if not (SHARED / "med").exists():
        pytest.skip("the shared collection med is not at hand (RAGCUN_SHARED_DATA)")
    return small(load_retrieval(SHARED / "med"), 160, 160)


@pytest.fixture(scope="module")
def plain(model):
    from sentence_transformers import SentenceTransformer

    from ragcun.models.base import find_base
    return SentenceTransformer(str(find_base(None)[0]), device="cpu")


def test_base_is_what_sentence_transformers_measures(model, med, plain):
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
    relevant = {q: {d for d, g in grades.items() if g > 0} for q, grades in med.qrels.items()}
    answered = {q: t for q, t in med.queries.items() if relevant[q]}
    data = RetrievalData(med.corpus, answered, {q: med.qrels[q] for q in answered}, "part")
    theirs = InformationRetrievalEvaluator(answered, med.corpus, {q: relevant[q] for q in answered},
                                           write_csv=False)(plain)
    ours = evaluate(model, data)
    for name in ("ndcg@10", "mrr@10", "map@100", "recall@10", "precision@5"):
        assert ours.base[name] == pytest.approx(theirs[f"cosine_{name}"], abs=1e-6), name
    assert max(abs(d.mean) for d in ours.difference.values()) < 1e-6        # an unfitted encoder ranks as its base
    alone = evaluate(plain, data)                                           # a plain SentenceTransformer, no other base
    assert alone.base is None and alone.metrics["ndcg@10"] == pytest.approx(ours.base["ndcg@10"], abs=1e-6)


@pytest.mark.slow
def test_the_published_similarity_figure_of_the_base_is_reproduced(tmp_path):
    if not (SHARED / "stsb").exists():
        pytest.skip("the shared collection stsb is not at hand (RAGCUN_SHARED_DATA)")
    script = Path(__file__).parents[2]/"benchmarks"/"bench_evaluate.py"
    out = tmp_path / "published.json"
    subprocess.run([sys.executable, str(script), "published", "--output", str(out)], check=True, capture_output=True,
                   env={**os.environ, "RAGCUN_SHARED_DATA": str(SHARED)})
    found = json.loads(out.read_text())["stsb"]
    assert found["pairs"] == 1379 and found["spearman"] == pytest.approx(found["published"], abs=1e-5)


def test_files_hold_what_the_report_says(model, med, tmp_path):
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="pytrec_eval-terrier is not installed")
    from ragcun.models.encoder import GaussianEncoder
    cut = GaussianEncoder.from_base(output_dim=24, device="cpu", precision="no")
    report = evaluate(cut, med, EvaluateConfig(ks=(3,)), run_file=tmp_path / "run.trec",
                      per_query_file=tmp_path / "q.jsonl")
    with open(tmp_path / "run.trec", encoding="utf-8") as f:
        run = pytrec_eval.parse_run(f)
    trec = pytrec_eval.RelevanceEvaluator(med.qrels, {"ndcg_cut.3", "map_cut.100"}).evaluate(run)
    assert report.metrics["ndcg@3"] == pytest.approx(np.mean([trec[q]["ndcg_cut_3"] for q in med.qrels]), abs=1e-9)
    assert report.metrics["map@100"] == pytest.approx(np.mean([trec[q]["map_cut_100"] for q in med.qrels]), abs=1e-9)
    rows = [json.loads(line) for line in (tmp_path / "q.jsonl").read_text().splitlines()]
    assert [r["query_id"] for r in rows] == list(med.qrels)
    assert np.mean([r["model"]["ndcg@10"] for r in rows]) == pytest.approx(report.metrics["ndcg@10"])
    assert np.mean([r["base"]["ndcg@10"] for r in rows]) == pytest.approx(report.base["ndcg@10"])
    again = compare(tmp_path / "run.trec", report.base_per_query, med.qrels).difference
    first = report.difference["ndcg@10"]
    assert (again.mean, again.low, again.high,
            again.p) == pytest.approx((first.mean, first.low, first.high, first.p), abs=1e-9)
    assert retrieval_metrics(read_run(tmp_path / "run.trec"),
                             med.qrels).mean()["mrr@10"] == pytest.approx(report.metrics["mrr@10"])


def test_contract_of_the_file(model, tiny, tmp_path):
    report = evaluate(model, tiny)
    assert isinstance(report, EvaluationReport) and report.timing["encoding"] > report.timing["ranking"]
    report.save_per_query(tmp_path / "q.jsonl")
    assert ([set(json.loads(line)) for line in (tmp_path / "q.jsonl").read_text().splitlines()]
            == [{"query_id", "relevant", "model", "base"}] * 10)
    report.save(tmp_path / "results" / "evaluation.json")
    saved = json.loads((tmp_path / "results" / "evaluation.json").read_text())
    assert {"metrics", "base", "difference", "queries", "documents", "seconds", "config", "notes"} <= set(saved)
    wanted = {"ndcg@10", "mrr@10", "map@100", "precision@5", "success@10",
              *(f"recall@{k}" for k in (1, 5, 10, 20, 100))}
    assert wanted <= set(saved["metrics"]) == set(saved["base"]) == set(saved["difference"])
    assert (set(saved["difference"]["ndcg@10"]) == {"mean", "low", "high", "p", "n"}
            and saved["queries"] == saved["documents"] == 10)
    assert saved["metrics"]["recall@100"] == 1 and "by construction" in saved["notes"][0]
    for shown in (repr(report), report._repr_markdown_(), report._repr_html_()):
        assert "by construction" in shown and "95 % interval" in shown


def test_a_changed_base_is_measured_against_the_original(tiny, model):
    import torch

    from ragcun.models.encoder import GaussianEncoder
    changed = GaussianEncoder.from_base(device="cpu", precision="no")
    with torch.no_grad():
        for p in changed.base.parameters():
            p.add_(.3 * p.std() * torch.randn(p.shape, generator=torch.Generator().manual_seed(0))
                   if p.numel() > 1 else 0)
    # taken for frozen: wrong base
    assert np.abs(encode_collection(changed, tiny)[1].u - encode_collection(model, tiny)[1].u).max() > .01
    changed.base_changed = True
    np.testing.assert_allclose(encode_collection(changed, tiny)[1].u, encode_collection(model, tiny)[1].u, atol=1e-5)


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory):
    "A random base, trained whole for a few steps; the folder of base and saved model."
    from ragcun.data.pairs import load_pairs, pairs_to_retrieval
    from ragcun.models.encoder import GaussianEncoder
    from ragcun.training.config import TrainConfig, resolve_defaults
    from ragcun.training.learner import Learner
    place = tmp_path_factory.mktemp("fine_tuned")
    start = GaussianEncoder.from_base(str(small_base(place)), None, "cpu", "no")
    pairs = load_pairs(processed("train.json"))
    val = pairs_to_retrieval(load_pairs(processed("val.json")))
    config = TrainConfig(epochs=2, batch_size=12, mixed_precision="no", n_slices=8, base_learning_rate=2e-2,
                         learning_rate=1e-2)
    trained = Learner(start, pairs, val, resolve_defaults(config, len(pairs)), place / "run").train()
    assert trained.base_changed
    trained.save(place / "model")
    return place


def test_a_fine_tuned_model_is_compared_with_its_untouched_base(fine_tuned, tiny):
    from ragcun.models.encoder import GaussianEncoder
    untouched = evaluate(GaussianEncoder.from_base(str(fine_tuned / "base"), None, "cpu", "no"), tiny)
    loaded = GaussianEncoder.load(fine_tuned / "model", device="cpu", precision="no")
    assert loaded.base_changed
    report = evaluate(loaded, tiny)
    np.testing.assert_array_equal(encode_collection(loaded, tiny)[1].v,
                                  GaussianEncoder.from_base(str(fine_tuned / "base"), None, "cpu",
                                                            "no").features(list(tiny.corpus.values())))
    assert report.base == untouched.base and report.difference["ndcg@10"].n == len(tiny.qrels)
    trained_features = loaded.features(list(tiny.corpus.values())) # what a comparison with the wrong base would rank by
    assert np.abs(trained_features - encode_collection(loaded, tiny)[1].v).max() > .05
    assert (report.per_query["mrr@100"] != report.base_per_query["mrr@100"]).any()


def test_the_diagnosis_of_a_fine_tuned_model_shows_the_untouched_base(fine_tuned, tiny):
    from ragcun.diagnostics.diagnosis import diagnose
    from ragcun.models.encoder import GaussianEncoder
    loaded = GaussianEncoder.load(fine_tuned / "model", "cpu", "no")
    untouched = GaussianEncoder.from_base(str(fine_tuned / "base"), None, "cpu", "no")
    got = diagnose(loaded, tiny)
    want = diagnose(untouched, tiny)
    assert got.base_name == "base" and got.base.numbers["documents"] == want.base.numbers["documents"]
    assert got.model.numbers["documents"] != want.model.numbers["documents"]


def test_the_commands_find_the_untouched_base_or_say_so(fine_tuned, tmp_path):
    model = fine_tuned / "model"
    data = processed("test_eval.json")
    code, said = command("evaluate", "--model_path", model, "--test_data", data, "--output_file", tmp_path / "e.json",
                         "--device", "cpu", "--mixed_precision", "no", log=tmp_path / "a.log")
    saved = json.loads((tmp_path / "e.json").read_text())
    assert (code == 0 and "base" in said and set(saved["base"]) == set(saved["metrics"])
            and "mean" in saved["difference"]["ndcg@10"])
    away = fine_tuned / "away"
    (fine_tuned / "base").rename(away)
    try:
        code, said = command("evaluate", "--model_path", model, "--test_data", data, "--output_file",
                             tmp_path / "f.json", "--device", "cpu", log=tmp_path / "b.log")
        named, told = command("evaluate", "--model_path", model, "--test_data", data, "--base_model", away,
                              "--output_file", tmp_path / "g.json", "--device", "cpu", "--mixed_precision", "no",
                              log=tmp_path / "c.log")
    finally:
        away.rename(fine_tuned / "base")
    lines = [line for line in said.splitlines() if "no comparison with the base" in line]
    assert code == 0 and len(lines) == 1 and "--base_model" in lines[0], said
    assert not json.loads((tmp_path / "f.json").read_text())["base"]
    assert named == 0 and json.loads((tmp_path / "g.json").read_text())["base"] == saved["base"], told


def peak_memory(tmp_path, documents: int) -> dict:
    "What `bench_evaluate.py memory` measures in a process of its own."
    script = Path(__file__).parents[2]/"benchmarks"/"bench_evaluate.py"
    out = tmp_path / "memory.json"
    subprocess.run([sys.executable, str(script), "memory", "--documents", str(documents), "--output", str(out)],
                   check=True, capture_output=True)
    return json.loads(out.read_text())


def test_evaluation_stays_in_bounded_memory(tmp_path):
    "A score matrix of 1,000 queries × 20,000 documents and its order alone would take 240 MB."
    found = peak_memory(tmp_path, 20_000)
    assert 0 <= found["search_gib"] < .25 and found["evaluate_gib"] < .4


@pytest.mark.slow
def test_a_hundred_thousand_documents_take_less_than_two_gigabytes(tmp_path):
    found = peak_memory(tmp_path, 100_000)
    assert found["search_gib"] < 2 and found["evaluate_gib"] < 2


def test_notes_say_what_the_numbers_hide(model, tiny):
    qrels = {**tiny.qrels, next(iter(tiny.qrels)): {next(iter(tiny.corpus)): 0}}
    qrels.pop(list(qrels)[-1])
    notes = " ".join(evaluate(model, RetrievalData(tiny.corpus, tiny.queries, qrels)).notes)
    assert "1 of 9 queries have no relevant document" in notes and "1 query without judgements" in notes
    assert "say nothing of the ranking, which holds all of them" in notes and "by construction" not in notes


def test_notes_tell_a_query_that_is_a_document_from_one_that_shares_its_number():
    corpus = {"1": "Ice. Sea ice melts.", "2": "Bread needs salt.", "3": "No answer here."}
    def notes(queries, qrels, ignored):
        scored = ranking_metrics({q: [] for q in qrels}, qrels, (1,))
        return [n for n in make_notes(RetrievalData(corpus, queries, qrels), scored, None, (1,), ignored) if "id" in n]
    itself = {"1": "Sea ice melts.", "2": "what of bread?"}, {"1": {"2": 1}, "2": {"3": 1}}
    assert "1 query found in the corpus, under the same id" in notes(*itself, False)[0] and not notes(*itself, True)
    numbered = {"1": "does ice melt?", "2": "what of bread?"}, {"1": {"1": 1}, "2": {"2": 1}}
    assert "2 queries answered by the document of the same id" in notes(*numbered, True)[0]
    assert not notes(*numbered, False)


def test_notes_count_queries_deeper_than_the_ranking():
    data = RetrievalData({f"d{i}": "t" for i in range(9)}, {"q": "t"}, {"q": {f"d{i}": 1 for i in range(5)}})
    scored = ranking_metrics({"q": ["d0"]}, data.qrels, (1, 3))
    assert make_notes(data, scored, None,
                      (1, 3)) == ["1 query with more than 3 relevant documents, the depth of the ranking."]


ODD = {  # name: (what is changed in a good BEIR folder, words of the answer)
       "empty corpus": (lambda f: (f / "corpus.jsonl").write_text(""), "no judged document"),
       "unknown document": (lambda f: (f / "qrels" / "test.tsv")
                            .write_text("query-id\tcorpus-id\tscore\nq1\tnowhere\t1\n"),
                            "no judged document is known, nowhere for example"),
       "unknown query": (lambda f: (f / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nnobody\td1\t1\n"),
                         "no judged query is known, nobody for example"),
       "missing split": (lambda f: (f / "qrels" / "test.tsv").rename(f / "qrels" / "dev.tsv"), "no split test"),
       "no judgements": (lambda f: (f / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n"),
                         "no judgements"),
       "judged twice": (lambda f: (f / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n"
                                                                        "q1\td1\t1\nq1\td1\t2\n"), "judged twice"),
       "grade NaN": (lambda f: (f / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\tnan\n"),
                     "not a judgement"),
}


def beir_folder(place: Path) -> Path:
    (place / "qrels").mkdir(parents=True)
    for name, n in (("corpus", 30), ("queries", 12)):
        (place / f"{name}.jsonl").write_text("".join(json.dumps(
            {"_id": f"{name[0].replace('c', 'd')}{i}", "text": f"{name} number {i}"}) + "\n" for i in range(n)))
    (place / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n"
                                              + "".join(f"q{i}\td{i}\t1\n" for i in range(12)))
    return place


def refused(argv: list, capsys, *words: str) -> None:
    "The command ends with code 2 and one line on standard error."
    import ragcun.cli.commands as cli
    code = cli.main([str(a) for a in argv])
    said = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert code == 2 and len(said) == 1 and said[0].startswith("ragcun: ") and all(w in said[0] for w in words), said


@pytest.mark.parametrize("what", ["evaluate", "diagnose"])
@pytest.mark.parametrize("name", ODD)
def test_commands_refuse_odd_collections_in_one_line(fine_tuned, tmp_path, capsys, name, what):
    change, words = ODD[name]
    folder = beir_folder(tmp_path / "data")
    change(folder)
    flags = (["--test_data", folder, "--output_file", tmp_path / "e.json"] if what == "evaluate"
             else ["--data", folder, "--output_dir", tmp_path / "out"])
    refused([what, "--model_path", fine_tuned / "model", *flags, "--device", "cpu"], capsys, words)
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_commands_refuse_a_model_whose_vectors_are_not_numbers(fine_tuned, tmp_path, capsys):
    from safetensors.torch import load_file, save_file
    folder = beir_folder(tmp_path / "data")
    broken = tmp_path / "broken"
    shutil.copytree(fine_tuned / "model", broken)
    tensors = load_file(broken / "ragcun.safetensors")
    tensors["bias"][0] = float("nan")
    save_file(tensors, broken / "ragcun.safetensors")
    run = ["--model_path", broken, "--device", "cpu", "--mixed_precision", "no"]
    refused(["evaluate", *run, "--test_data", folder, "--output_file", tmp_path / "e.json"], capsys,
            "layer does not agree")
    refused(["diagnose", *run, "--data", folder, "--output_dir", tmp_path / "out"], capsys, "layer does not agree")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken", "data"]


def test_ids_that_a_run_file_cannot_hold_are_refused_before_encoding(tiny, tmp_path):
    class Fails:
        def __getattr__(self, name):
            raise AssertionError("encoded before the ids were checked")
    blank = RetrievalData({f"a {d}": t for d, t in tiny.corpus.items()}, tiny.queries,
                          {q: {f"a {d}": g for d, g in v.items()} for q, v in tiny.qrels.items()})
    with pytest.raises(UserError, match="white space"):
        evaluate(Fails(), blank, run_file=tmp_path / "r.trec")


@pytest.mark.parametrize("change, words", [
    (lambda d: RetrievalData({}, d.queries, d.qrels), "corpus is empty"),
    (lambda d: RetrievalData(d.corpus, d.queries, {}), "no relevance judgements"),
    (lambda d: RetrievalData(d.corpus, d.queries, {**d.qrels, "nobody": {"0": 1}}), "unknown query"),
    (lambda d: RetrievalData(d.corpus, d.queries, {q: {"nothing": 1} for q in d.qrels}), "no judged document")])
def test_bad_data_is_refused_before_encoding(tiny, change, words):
    class Fails:
        def __getattr__(self, name):
            raise AssertionError("encoded before the data were checked")
    with pytest.raises(UserError, match=words):
        evaluate(Fails(), change(tiny))


def test_vectors_with_nan_are_refused(tiny):
    class Broken:
        similarity_fn_name = "dot"
        def encode_query(self, texts):
            return np.ones((len(texts), 3))

        def encode_document(self, texts):
            return np.full((len(texts), 3), np.nan)
    with pytest.raises(UserError, match="NaN"):
        evaluate(Broken(), tiny)
    Broken.encode_document = lambda self, texts: np.ones((len(texts), 4))
    with pytest.raises(UserError, match="dimensions"):
        evaluate(Broken(), tiny)


def test_nothing_half_written_stays(model, tiny, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError):
        evaluate(model, tiny, run_file=tmp_path / "file" / "run.trec")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_import_is_light():
    code = ("import sys, ragcun.evaluation.evaluation_report, ragcun.evaluation.abstention, "
            "ragcun.integrations.frameworks; print([m for m in ('torch', 'matplotlib', 'scipy', "
            "'mteb') if m in sys.modules])")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          check=True).stdout.strip() == "[]"


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2 ** 32 - 1), st.integers(2, 60), st.booleans())
def test_abstention_against_references(seed, n, ties):
    from sklearn.metrics import roc_auc_score
    rng = np.random.default_rng(seed)
    c = rng.normal(size=n).round(0 if ties else 6)
    yes = rng.integers(0, 2, n)
    q = rng.uniform(size=n).round(1)
    if 0 < yes.sum() < n:
        assert auroc(c, yes) == pytest.approx(roc_auc_score(yes, c), abs=1e-12)
    coverage, risk = risk_coverage(c, q)
    assert coverage[-1] == 1 and risk[-1] == pytest.approx(1 - q.mean())
    try:
        from mteb._evaluators.retrieval_metrics import nauc as theirs
    except ImportError:
        return
    if q.max() - q.min() > .05:
        assert nauc(c, q) == pytest.approx(theirs(c, q), abs=1e-9)


def test_abstention_on_a_real_collection(model, med):
    """With the answers of half the queries removed, the best score tells answerable queries from the others;
    shuffled, it does not."""
    from ragcun.measures.ranking import rank_vectors
    part, has = without_answers(med, .5, seed=0)
    own, _ = encode_collection(model, part, base=False)
    ranking = rank_vectors(own.u, own.v, part, own.metric, 10)
    quality = retrieval_metrics(ranking.run(), part.qrels)["ndcg@10"]
    best = ranking.scores[:, 0].astype(float)
    found = measure_abstention(best, has, quality, float(np.median(best)))
    assert (isinstance(found, Abstention) and 0 < found.unanswerable < found.queries and found.auroc > .6
            and quality[~has].max() == 0)
    shuffled = [auroc(np.random.default_rng(s).permutation(best), has) for s in range(200)]
    assert abs(np.mean(shuffled) - .5) < .03


def test_rates_and_calibration():
    rng = np.random.default_rng(0)
    null = rng.normal(size=20_000)
    assert false_answer_rate(np.r_[null, 5], np.r_[np.zeros(20_000), 1], 1.6449) == pytest.approx(.05, abs=.005)
    p = rng.uniform(size=20_000)
    assert (calibration_error(p, rng.uniform(size=20_000) < p) < .02
            < calibration_error(p, rng.uniform(size=20_000) < p ** 2))


def test_risk_coverage_figure():
    rng = np.random.default_rng(0)
    q = rng.uniform(size=50)
    ax = plot_risk_coverage({"model": (q + rng.normal(0, .1, 50), q), "base": (rng.normal(size=50), q)}, .4)
    assert len(ax.lines) == 5 and ax.get_ylim()[0] == 0 and ax.get_xlabel() and ax.get_ylabel()
    assert (ax.lines[0].get_ydata() >= ax.lines[2].get_ydata() - 1e-9).all()        # nothing beats the oracle


def test_model_runs_in_mteb(tiny, tmp_path):
    mteb = pytest.importorskip("mteb", reason="the optional extra mteb is not installed")
    from ragcun.integrations.frameworks import MtebModel, mteb_task
    from ragcun.models.encoder import GaussianEncoder
    cut = GaussianEncoder.from_base(output_dim=16, device="cpu", precision="no")
    about = MtebModel(cut, "me/model").mteb_model_meta
    assert (about.name, about.embed_dim, about.revision) == ("me/model", 16, cut.fingerprint[:12])
    results = mteb.evaluate(MtebModel(cut), [mteb_task(tiny, "MyCollection")], cache=None, show_progress_bar=False)
    scores = results[0].scores["test"][0]
    ours = evaluate(cut, tiny, base=False).metrics
    for theirs, name in (("ndcg_at_10", "ndcg@10"), ("map_at_100", "map@100"), ("recall_at_1", "recall@1")):
        assert scores[theirs] == pytest.approx(ours[name], abs=1e-4)
    assert ours["ndcg@10"] < 1


def test_one_query_has_no_detectable_difference():
    found = compare({"q": {"a": 1.}}, {"q": {"b": 1.}}, {"q": {"a": 1}})
    assert "nan" not in f"{found}" and "–" in found.row()


def test_an_evaluation_file_as_json_reads_it():
    data = {"corpus": ["ice sea", "tree rock"], "queries": ["ice"], "relevance": [[0]]}
    assert load_retrieval(data).qrels == load_retrieval(json.loads(json.dumps(data))).qrels
    for odd, said in (({"corpus": {}, "queries": {}}, "not an evaluation file"), ({}, "not an eval"),
                      ({"corpus": {}, "queries": {}, "qrels": {}}, "no question has a relevant document")):
        with pytest.raises(UserError, match=said):
            load_retrieval(odd)
    with pytest.raises(UserError, match="dict is no list of pairs"):
        load_pairs({"ice": "sea"})

"""What somebody meets on the first day: folders that change, collections with gaps, models that others must read."""
import json
import logging
import stat
from pathlib import Path

import pytest

from ragcun.cli.commands import main
from ragcun.core import UserError, logger
from ragcun.data.pairs import load_pairs
from ragcun.models.encoder import GaussianEncoder
from ragcun.retrieval.retriever import GaussianRetriever
from ragcun.training.closed_form import fit_closed_form
from small import processed, small_base


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    place = tmp_path_factory.mktemp("first_day")
    base = GaussianEncoder.from_base(str(small_base(place)), None, "cpu", "no")
    with pytest.MonkeyPatch.context() as m:
        m.setenv("RAGCUN_CACHE", str(place/"cache"))
        yield fit_closed_form(base, load_pairs(processed("train.json")))


@pytest.fixture()
def here(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model.save("m")
    yield tmp_path
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = True


def index(documents, *more):
    return main(["index", "--model_path", "m", "--documents", documents, "--index_dir", "i", "--device", "cpu", *more])


def test_a_changed_document_is_named_before_a_model_is_loaded_and_replaced_when_asked(here, capsys, monkeypatch):
    Path("notes").mkdir()
    Path("notes/a.md").write_text("# Bread\n\nRye bread keeps for a week.")
    Path("notes/b.md").write_text("# Cheese\n\nSoft cheese keeps for three days.")
    assert index("notes") == 0
    assert ("2 documents in i (2 new), " in (said := capsys.readouterr().out)
            and "next:  ragcun search --index_dir i" in said)
    Path("notes/a.md").write_text("# Bread\n\nRye bread keeps for two weeks.")
    with monkeypatch.context() as m:
        m.setattr("ragcun.models.encoder.GaussianEncoder.load", lambda *a, **k: pytest.fail("a model was loaded"))
        assert index("notes") == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0 and "'a.md#1'" in said and "--update" in said
    assert index("notes", "--update") == 0 and "2 documents in i (0 new, 1 replaced), " in capsys.readouterr().out
    assert main(["search", "--index_dir", "i", "rye bread", "--json", "--device", "cpu"]) == 0
    assert {"Rye bread keeps for two weeks."} < {h["text"] for h in json.loads(capsys.readouterr().out)["hits"]}


def test_columns_of_a_file_become_metadata_of_the_hits(here, capsys):
    Path("d.csv").write_text("id;text;year\n1;Rye bread keeps for a week, more or less.;1956\n"
                             "2;Soft cheese keeps for three days.;1957\n")
    assert index("d.csv") == 0 and main(["search", "--index_dir", "i", "cheese", "--json", "--device", "cpu"]) == 0
    hits = json.loads(capsys.readouterr().out.splitlines()[-1])["hits"]
    assert {h["id"]: h["metadata"] for h in hits} == {"1": {"year": "1956"}, "2": {"year": "1957"}}


def test_a_collection_with_gaps_is_indexed_trained_on_and_evaluated(here, capsys, caplog):
    rows = json.loads(Path(processed("train.json")).read_text())
    Path("c/qrels").mkdir(parents=True)
    corpus = [{"_id": i, "title": "", "text": r["positive"]} for i, r in enumerate(rows)]
    corpus += [{"_id": "title only", "title": "Soft cheese", "text": ""}, {"_id": "nothing", "title": "", "text": ""}]
    Path("c/corpus.jsonl").write_text("".join(json.dumps(r) + "\n" for r in corpus))
    Path("c/queries.jsonl").write_text("".join(json.dumps({"_id": i, "text": r["query"]}) + "\n"
                                               for i, r in enumerate(rows)))
    judged = [f"{i}\t{i}\t1\n" for i in range(len(rows))] + ["0\tnothing\t1\n"]
    Path("c/qrels/train.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judged))
    Path("c/qrels/validation.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judged[:9]))
    with caplog.at_level(logging.WARNING, "ragcun"):
        assert len(load_pairs("c")) == len(rows)
    assert f"1 of {len(rows) + 1} relevant pairs of c left out: positive is empty" in caplog.text
    assert index("c") == 0 and f"{len(rows) + 1} documents in i" in capsys.readouterr().out
    assert main(["evaluate", "--model_path", "m", "--test_data", "c", "--split_name", "dev", "--device", "cpu"]) == 0
    assert f"c/validation: 9 queries, {len(corpus)} documents" in capsys.readouterr().out


def test_whoever_reads_the_folder_reads_the_model(here):
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in Path("m").rglob("*") if p.is_file()}
    assert len(set(modes.values())) == 1, modes


def test_a_model_does_not_replace_a_folder_of_other_files(here, model):
    Path("work").mkdir()
    Path("work/thesis.txt").write_text("years")
    with pytest.raises(UserError, match="other files than a model"):
        model.save("work")
    assert Path("work/thesis.txt").read_text() == "years"
    assert model.save("m") == Path("m")      # an earlier model is replaced
    with pytest.raises(UserError, match="this is a file, not a folder"):
        model.save("work/thesis.txt")
    assert Path("work/thesis.txt").read_text() == "years"


def test_the_code_of_the_model_card_runs(here, capsys):
    blocks = (Path("m")/"README.md").read_text().split("```python\n")[1:]
    assert len(blocks) == 2
    for block in blocks:
        exec(block.split("```")[0].replace("path/to/this/folder", "m"), {})
    assert "tensor([[-" in (said := capsys.readouterr().out) and "'a question': " in said


def test_a_number_that_was_added_as_an_id_can_be_deleted(model):
    index = GaussianRetriever(model)
    index.add([{"id": 1, "text": "Rye bread keeps for a week."},
               {"id": 2, "text": "Soft cheese keeps for three days."}])
    assert index.delete(1) == 1 and index.delete([2, 3]) == 1 and len(index) == 0


def test_pairs_too_few_to_set_some_aside_are_refused_before_anything_is_made(here, capsys):
    rows = json.loads(Path(processed("train.json")).read_text())[:35]
    Path("few.json").write_text(json.dumps(rows))
    assert main(["train", "--train_data", "few.json", "--closed_form", "--output_dir", "out", "--device", "cpu"]) == 2
    assert "--val_data" in capsys.readouterr().err and not Path("out").exists()


def test_a_strategy_or_a_row_that_cannot_be_used_is_named():
    from ragcun.data.documents import row_document
    from ragcun.data.generation import check_strategy
    for good in ("auto", "mix", ["title"]):
        check_strategy(good)
    with pytest.raises(UserError, match="unknown strategy foo.*--strategy"):
        check_strategy("foo")
    document = row_document({"text": "A text.", "title": None, "_id": 0}, "rows.jsonl, row 1")
    assert (document.text, document.title, document.document_id) == ("A text.", "", "0")  # an id of 0 is an id
    assert row_document("A text.", "").text == "A text."
    for bad in ({"body": "x"}, 7, {"text": "   "}, {"text": None}):
        with pytest.raises(UserError, match="rows.jsonl, row 2"):
            row_document(bad, "rows.jsonl, row 2")


def test_a_slip_in_a_call_is_one_line(model, tmp_path):
    "What a table, a row, a dict of settings or one text in place of many gave: a traceback, or an answer to letters."
    from ragcun import fit, generate_pairs, load_retrieval, prepare, split_pairs
    from ragcun.retrieval import explain_results, pool_hits, read_shards
    pairs = load_pairs(processed("train.json"))
    index = GaussianRetriever(model)
    index.add(pairs.documents)
    class Table(dict):
        columns = ["text"]
    for call, said in (
            (lambda: generate_pairs(Table(text="x")), "Table is no list of documents"),
            (lambda: generate_pairs(None), "NoneType is no list of documents"),
            (lambda: generate_pairs([{"text": "x"}]), "a dict is no text"),
            (lambda: split_pairs(pairs, .8), "0.8 is no list of split ratios"),
            (lambda: split_pairs(pairs, (-1, 1, 1)), "a split ratio is below 0"),
            (lambda: fit(model, pairs, config={"epochs": 1}), "a TrainConfig is wanted, not a dict"),
            (lambda: prepare({"input_dir": "x"}), "a PrepareConfig is wanted, not a dict"),
            (lambda: load_retrieval(None), "NoneType is no list of pairs"),
            (lambda: pool_hits(index, "how"), "one question was given where a list is wanted"),
            (lambda: list(read_shards(tmp_path)), "no shards of vectors"),
            (lambda: index.calibrate(alpha=0), "alpha 0 is not between 0 and 1")):
        with pytest.raises(UserError, match=said):
            call()
    assert len(load_retrieval([{"query": "a", "positive": "b"}]).queries) == 1
    result = index.search("how does memory get freed", top_k=2)
    assert explain_results(index, result) == explain_results(index, [result])


def test_an_unknown_flag_is_one_line_that_says_which_was_meant_and_where_to_look(capsys):
    for argv, line in ((["train", "--trian_data", "x.json"], "ragcun train: unknown: --trian_data "
                        "x.json (did you mean --train_data?). See ragcun train --help."),
                       (["train", "--learning-rat=1"], "ragcun train: unknown: --learning-rat=1 "
                        "(did you mean --learning_rate?). See ragcun train --help."),
                       (["search", "--zzz", "a question"], "ragcun search: unknown: --zzz. See ragcun search --help."),
                       (["index", "docs/", "--index_dir", "i"], "ragcun index: unknown: docs/ (did you mean "
                        "--documents docs/?). See ragcun index --help."),
                       (["serve", "my index"], "ragcun serve: unknown: my index (did you mean --index_dir 'my index'?)"
                        ". See ragcun serve --help."),
                       (["index", "--documents", "a.md", "b.md"], "ragcun index: unknown: b.md (--documents takes one "
                        "value: give the folder, without *). See ragcun index --help."),
                       (["-x"], "ragcun: unknown: -x. See ragcun --help.")):
        with pytest.raises(SystemExit) as stopped:
            main(argv)
        assert stopped.value.code == 2 and capsys.readouterr().err == line + "\n"


def test_every_command_with_a_model_has_its_flags_in_both_spellings():
    from ragcun.cli.flags import Parser, model_flags
    parser = Parser(prog="ragcun")
    model_flags(parser)
    for name in ("model_path", "model-path"):
        assert parser.parse_args([f"--{name}", "m", "--mixed-precision"]).model_path == "m"
    assert (parser.parse_args([]).device, parser.parse_args([]).mixed_precision) == ("auto", "auto")

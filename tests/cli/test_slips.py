"""Slips of the pen on the command line: a result that would be written over an input, a flag without effect, an index
that holds other documents than those that were judged."""
import json
import os
import signal
import tempfile
import time

import pytest
from small import WORDS, processed, small_base

from ragcun.cli.commands import main
from ragcun.cli.flags import check_output, read_corpus, say_lines, sole_run
from ragcun.core import UserError, atomic_write, refuse_device

WORD = [w for w in WORDS if len(w) > 3]
TEXTS = [f"{a} {b} {i}" for i, (a, b) in enumerate(zip(WORD, WORD[::-1], strict=True))]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "A model, an index of texts, and judgements of it."
    folder = tmp_path_factory.mktemp("slips")
    base = small_base(folder/"base")
    assert main(["train", "--train_data", processed("train.json"), "--val_data", processed("val.json"), "--base_model",
                 str(base), "--closed_form", "--device", "cpu", "--output_dir", str(folder/"m")]) == 0
    (folder/"docs.json").write_text(json.dumps([{"id": f"d{i}", "text": t} for i, t in enumerate(TEXTS)]))
    assert main(["index", "--documents", str(folder/"docs.json"), "--index_dir", str(folder/"idx"),
                 "--model_path", str(folder/"m"/"model"), "--device", "cpu"]) == 0
    return folder


def judged(path, ids, texts=TEXTS):
    path.write_text(json.dumps({"corpus": texts, "corpus_ids": ids, "queries": texts[:9],
                                "relevance": [[i] for i in range(9)]}))
    return str(path)


def said(capsys, *argv):
    capsys.readouterr()
    code = main([*map(str, argv), "--device", "cpu"] if argv[0] != "prepare" else list(map(str, argv)))
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return code, err


@pytest.mark.parametrize("flag", ["output_file", "run_file", "per_query_file"])
def test_a_result_never_replaces_the_test_data(made, tmp_path, capsys, flag):
    data = judged(tmp_path/"t.json", [f"d{i}" for i in range(len(TEXTS))])
    before = (tmp_path/"t.json").read_bytes()
    (tmp_path/"link.json").symlink_to(tmp_path/"t.json")
    for name in (data, f"{tmp_path}/x/../t.json", f"{tmp_path}/link.json"):
        code, err = said(capsys, "evaluate", "--model_path", made/"m"/"model", "--test_data", data, f"--{flag}", name)
        assert code == 2 and f"--{flag}" in err
    assert (tmp_path/"t.json").read_bytes() == before


def test_one_result_never_replaces_another(made, tmp_path, capsys):
    data = judged(tmp_path/"t.json", [f"d{i}" for i in range(len(TEXTS))])
    code, err = said(capsys, "evaluate", "--model_path", made/"m"/"model", "--test_data", data,
                     "--output_file", tmp_path/"o", "--run_file", tmp_path/"o")
    assert code == 2 and "--run_file" in err and not (tmp_path/"o").exists()


@pytest.mark.parametrize("argv", [["--output", "train.json"], ["--output", "o.json", "--output_dir", "d"],
                                  ["--output", "val.json"]])
def test_prepare_never_replaces_what_it_reads(tmp_path, capsys, monkeypatch, argv):
    monkeypatch.chdir(tmp_path)
    rows = json.dumps([{"query": f"what is {t}?", "positive": f"It is {t}, all of it."} for t in TEXTS])
    (tmp_path/"d").mkdir()
    for name in ("train.json", "d/val.json"):
        (tmp_path/name).write_text(rows)
    source = "d/val.json" if "d" in argv else "train.json"
    code, err = said(capsys, "prepare", "--input", source, "--split", ".6", ".2", ".2", *argv)
    assert code == 2 and ("read by this command" in err or "written by --output" in err)
    assert (tmp_path/"train.json").read_text() == (tmp_path/"d"/"val.json").read_text() == rows
    assert sorted(p.name for p in tmp_path.rglob("*.json")) == ["train.json", "val.json"]
    assert said(capsys, "prepare", "--input", "train.json", "--output", "val.json")[0] == 0      # without a split


@pytest.mark.parametrize("name, value", [("seed", "-1"), ("max_tokens", "0"), ("overlap", "-5"), ("token_limit", "-1"),
                                         ("distractors", "-2")])
def test_prepare_refuses_numbers_that_mean_nothing(tmp_path, capsys, name, value):
    code, err = said(capsys, "prepare", "--input", processed("train.json"), "--output_dir", tmp_path/"o", f"--{name}",
                     value, "--negatives", "random")
    assert code == 2 and f"--{name}" in err and not (tmp_path/"o").exists()


@pytest.mark.parametrize("flags", [["--run_file", "r.trec"], ["--ignore_identical_ids"], ["--model_path", "m"],
                                   ["--base_model", "b"]])
def test_what_has_no_effect_on_an_index_is_refused(made, tmp_path, capsys, flags):
    data = judged(tmp_path/"t.json", [f"d{i}" for i in range(len(TEXTS))])
    code, err = said(capsys, "evaluate", "--index_dir", made/"idx", "--test_data", data, *flags)
    assert code == 2 and "no effect" in err and flags[0] in err


def test_an_index_is_measured_without_its_base_and_question_by_question(made, tmp_path, capsys):
    data = judged(tmp_path/"t.json", [f"d{i}" for i in range(len(TEXTS))])
    assert said(capsys, "evaluate", "--index_dir", made/"idx", "--test_data", data, "--no-base", "--output_file",
                tmp_path/"o.json", "--per_query_file", tmp_path/"q.jsonl")[0] == 0
    assert "base" not in json.loads((tmp_path/"o.json").read_text())
    assert len((tmp_path/"q.jsonl").read_text().splitlines()) == 9
    (tmp_path/"t.json").write_text(json.dumps(json.loads((tmp_path/"t.json").read_text())
                                              | {"relevance": [[], [], *([i] for i in range(2, 9))]}))
    assert main(["evaluate", "--index_dir", str(made/"idx"), "--test_data", data, "--device", "cpu"]) == 0
    assert "2 of 9 questions have no relevant document; they count 0" in capsys.readouterr().out


def test_an_index_of_other_documents_is_not_measured_as_a_bad_search(made, tmp_path, capsys):
    for ids, texts, what in ((range(len(TEXTS)), [f"qqq{i}" for i in range(len(TEXTS))], "none of the documents"),
                             ([f"d{i}" for i in range(len(TEXTS))], [f"qqq{i}" for i in range(len(TEXTS))], "'d0'")):
        data = judged(tmp_path/"t.json", list(ids), texts)
        code, err = said(capsys, "evaluate", "--index_dir", made/"idx", "--test_data", data)
        assert code == 2 and what in err
    some = judged(tmp_path/"t.json", [f"{'x' * (i < 2)}d{i}" for i in range(len(TEXTS))])
    code, err = said(capsys, "evaluate", "--index_dir", made/"idx", "--test_data", some)
    assert code == 0 and "2 of 9 documents that answer these questions are not in the index" in err


def test_pairs_are_found_by_their_text_where_the_index_has_ids_of_its_own(made, tmp_path, capsys):
    rows = [{"Question": f"Which one is {t}?", "Answer": t.upper() + "."} for t in TEXTS]
    (tmp_path/"faq.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert main(["prepare", "--input", str(tmp_path/"faq.jsonl"), "--query_column", "Question", "--positive_column",
                 "Answer", "--split", ".4", ".3", ".3", "--output_dir", str(tmp_path/"data")]) == 0
    assert main(["index", "--documents", str(tmp_path/"faq.jsonl"), "--text_column", "Answer", "--model_path",
                 str(made/"m"/"model"), "--index_dir", str(tmp_path/"idx"), "--device", "cpu",
                 "--questions", str(tmp_path/"data"/"val.json"), "--alpha", ".2"]) == 0
    asked = len(json.loads((tmp_path/"data"/"val.json").read_text()))
    assert f"from {asked} questions" in capsys.readouterr().out
    assert main(["evaluate", "--index_dir", str(tmp_path/"idx"), "--test_data", str(tmp_path/"data"/"test_eval.json"),
                 "--output_file", str(tmp_path/"o.json"), "--device", "cpu"]) == 0
    assert "not in the index" not in capsys.readouterr().err
    assert json.loads((tmp_path/"o.json").read_text())["search"]["recall@100"] == 1
    some = judged(tmp_path/"t.json", list(range(len(TEXTS))), [*(f"qqq{i}" for i in range(4)), *TEXTS[4:]])
    code, err = said(capsys, "evaluate", "--index_dir", made/"idx", "--test_data", some)
    assert code == 0 and "4 of 9 documents that answer these questions are not in the index" in err


def test_validation_questions_that_are_trained_on_are_counted(made, tmp_path, capsys):
    rows = [{"query": f"{ask} {t}?", "positive": f"It is {t}, {ask} it."} for ask in ("what", "how") for t in TEXTS]
    (tmp_path/"t.json").write_text(json.dumps(rows))
    seen = [{"query": r["query"].upper(), "positive": r["positive"]} for r in rows[:5]]
    (tmp_path/"v.json").write_text(json.dumps(seen + [r | {"query": f"other {i}"} for i, r in enumerate(rows[:7])]))
    for val, word in (("v.json", "5 of 12 validation questions are training pairs"), (None, "")):
        code, err = said(capsys, "train", "--train_data", tmp_path/"t.json", "--base_model", made/"base"/"base",
                         "--closed_form", "--output_dir", tmp_path/"o",
                         *(["--val_data", tmp_path/val] if val else []))
        assert code == 0 and word in err and ("are training pairs" in err) == bool(word)


def test_a_run_that_is_refused_takes_nothing_away(made, tmp_path, capsys):
    (tmp_path/"one.json").write_text(json.dumps([{"query": "what is it", "positive": t} for t in TEXTS*3]))
    (tmp_path/"o").mkdir()
    earlier = ("checkpoint_epoch_7.pt", "metrics.jsonl", "train_config.json")
    for name in earlier:
        (tmp_path/"o"/name).write_text("of ten hours")
    code, err = said(capsys, "train", "--train_data", tmp_path/"one.json", "--base_model", made/"base"/"base",
                     "--freeze_base", "--output_dir", tmp_path/"o")
    assert code == 2 and "can be set aside" in err
    assert {(tmp_path/"o"/name).read_text() for name in earlier} == {"of ten hours"}


def test_a_second_run_keeps_out_of_a_folder(made, tmp_path, capsys):
    run = ("train", "--train_data", processed("train.json"), "--val_data", processed("val.json"), "--base_model",
           made/"base"/"base", "--closed_form", "--output_dir", tmp_path/"o")
    (tmp_path/"o").mkdir()
    with sole_run(tmp_path/"o"):
        code, err = said(capsys, *run)
        assert code == 2 and "another run is going on in this folder" in err and "--output_dir" in err
        assert [p.name for p in (tmp_path/"o").iterdir()] == [".running"]
    (tmp_path/"o"/".running").touch()       # of a run that was killed
    assert said(capsys, *run)[0] == 0 and not (tmp_path/"o"/".running").exists()


def test_a_stopped_run_says_how_to_go_on(capsys, monkeypatch):
    def stop(*a):
        raise KeyboardInterrupt
    monkeypatch.setattr("ragcun.data.pairs.load_pairs", stop)
    code, err = said(capsys, "train", "--train_data", processed("train.json"))
    assert code == 130 and "stopped; with --resume_from auto it goes on" in err


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_command_without_leaving_half_a_folder(tmp_path, capsys, monkeypatch, name):
    number = getattr(signal, name)
    seen = []

    def prepare(*_):
        with tempfile.TemporaryDirectory(dir=tmp_path):
            seen.append(len(list(tmp_path.iterdir())))
            try:
                os.kill(os.getpid(), number)
                time.sleep(5)
            except KeyboardInterrupt:
                raise ImportError("initialization failed") from None      # as a library in C does
    monkeypatch.setattr("ragcun.data.preparation.prepare", prepare)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.chdir(tmp_path)
    before = signal.signal(number, signal.SIG_DFL)      # nohup would ignore one of them
    try:
        code, err = said(capsys, "prepare", "--input", processed("train.json"), "--output_dir", tmp_path)
        assert code == 128 + number and err == "ragcun: stopped\n" and seen == [1]
        assert list(tmp_path.iterdir()) == [] and signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_a_full_disk_says_what_to_do(tmp_path, capsys, monkeypatch):
    def full(*a):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("ragcun.data.preparation.prepare", full)
    code, err = said(capsys, "prepare", "--input", processed("train.json"), "--output_dir", tmp_path/"o")
    assert code == 2 and "no space is left" in err and "Free some" in err and len(err.splitlines()) == 1


def test_a_text_given_alone_says_that_its_lines_are_documents(tmp_path, caplog):
    caplog.set_level("INFO")
    (tmp_path/"a.txt").write_text("A report that is\nwrapped at few\n\ncharacters.\n")
    for name, documents, said_so in (("a.txt", 3, True), (".", 1, False)):
        caplog.clear()
        found = read_corpus(str(tmp_path/name))
        assert len(found) == documents and not caplog.text     # an index that cannot be made is one line
        say_lines(str(tmp_path/name), found)
        assert ("each of its 3 lines is a document" in caplog.text) == said_so


@pytest.mark.parametrize("source", [".", "a.md", "b.csv"])
def test_a_column_that_is_not_there_is_refused(tmp_path, capsys, source):
    (tmp_path/"a.md").write_text("Some text.")
    (tmp_path/"b.csv").write_text("text,answer\nWhy?,So.\n")
    code, err = said(capsys, "index", "--documents", tmp_path/source, "--text_column", "anwser",
                     "--index_dir", tmp_path/"i")
    assert code == 2 and "anwser" in err and not (tmp_path/"i").exists()
    assert "its columns are text, answer" in err if source == "b.csv" else "--text_column anwser" in err
    with pytest.raises(UserError, match="anwser"):
        read_corpus(str(tmp_path/source), text_column="anwser")


def test_documents_are_not_told_to_be_pairs(tmp_path, capsys):
    (tmp_path/"a.json").write_text('{"rows": [{"text": "x"}]}')
    code, err = said(capsys, "index", "--documents", tmp_path/"a.json", "--index_dir", tmp_path/"i")
    assert code == 2 and "not a list of rows" in err and "query" not in err


def test_ids_that_no_document_has_are_named(made, tmp_path, capsys):
    (tmp_path/"notes").mkdir()
    (tmp_path/"notes"/"a.md").write_text("# A\n\nPlants turn light into energy for their cells.\n")
    index = str(tmp_path/"idx")
    assert main(["index", "--documents", str(tmp_path/"notes"), "--index_dir", index, "--model_path",
                 str(made/"m"/"model"), "--device", "cpu"]) == 0
    code, err = said(capsys, "delete", "--index_dir", index, "--ids", "a.md", *(f"n{i}" for i in range(6)))
    assert code == 0 and "no document has the id a.md; it is a file: --source a.md removes its passages" in err
    assert "id n3\n" in err and "id n4" not in err and "and 2 more ids that no document has" in err
    code, err = said(capsys, "delete", "--index_dir", index, "--ids", "a.md#1")
    assert code == 0 and "no document" not in err


def test_training_names_the_test_questions_that_belong_to_it(tmp_path):
    from ragcun.cli.flags import _test_data
    (tmp_path/"beir"/"qrels").mkdir(parents=True)
    (tmp_path/"test_eval.json").write_text("{}")
    assert _test_data(str(tmp_path/"train.json")) == str(tmp_path/"test_eval.json")
    assert _test_data(str(tmp_path/"beir")) == "…"                     # not what lies beside the folder
    (tmp_path/"beir"/"qrels"/"test.tsv").write_text("")
    assert _test_data(str(tmp_path/"beir")) == str(tmp_path/"beir")


def test_pairs_that_leave_none_for_training_name_no_training(tmp_path, capsys):
    (tmp_path/"one.csv").write_text("query,positive\nHow do I pay?,By card.\n")
    assert main(["prepare", "--input", str(tmp_path/"one.csv"), "--output_dir", str(tmp_path),
                 "--split", ".7", ".15", ".15"]) == 0
    out = capsys.readouterr().out
    assert "no pair is left for training" in out and "next:" not in out
    assert main(["prepare", "--documents", str(tmp_path/"one.csv"), "--output_dir", str(tmp_path)]) == 2
    assert "a file of questions and answers is given with --input" in capsys.readouterr().err


def test_a_folder_that_was_moved_or_of_which_passages_were_deleted(made, tmp_path, capsys):
    docs, idx = tmp_path/"docs", tmp_path/"idx"
    docs.mkdir()
    for i, text in enumerate(TEXTS[:5]):
        (docs/f"{i}.md").write_text(text)
    assert main(["index", "--documents", str(docs), "--index_dir", str(idx), "--model_path", str(made/"m"/"model"),
                 "--device", "cpu"]) == 0
    docs = docs.rename(tmp_path/"moved")
    update = ["index", "--documents", str(docs), "--index_dir", str(idx), "--update"]
    assert main(update) == 0
    (docs/"4.md").unlink()
    assert main([*update, "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "removed: 1 passage of 1 file no longer there (4.md)" in out and "deleted" not in out
    assert main(["delete", "--index_dir", str(idx), "--source", "2.md"]) == 0
    assert main(update) == 0
    assert "deleted from the index since: passages of 1 file (2.md)" in capsys.readouterr().out
    (docs/"2.md").write_text("other words")
    assert main([*update, "--device", "cpu"]) == 0
    assert "deleted" not in capsys.readouterr().out


@pytest.mark.parametrize("variables, why", [
    ({"RANK": "1"}, "rank 1 of 1 processes"),                       # it trained and said nothing at all
    ({"RANK": "0", "WORLD_SIZE": "2"}, "did not find one another"),  # nobody said where they meet: a traceback
])
def test_variables_that_another_launcher_left(tmp_path, capsys, monkeypatch, variables, why):
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    code, err = said(capsys, "train", "--train_data", processed("train.json"), "--val_data", processed("val.json"),
                     "--closed_form", "--output_dir", tmp_path/"o")
    assert code == 2 and why in err and "torchrun, or unset both" in err


def test_a_working_folder_that_was_removed(tmp_path, capsys, monkeypatch):
    (tmp_path/"gone").mkdir()
    monkeypatch.chdir(tmp_path/"gone")
    (tmp_path/"gone").rmdir()
    assert main(["info"]) == 2
    assert "the working folder was removed" in capsys.readouterr().err


def test_a_home_folder_that_no_shell_has_put_in(made, tmp_path, capsys, monkeypatch):
    (tmp_path/"home"/"docs").mkdir(parents=True)
    (tmp_path/"home"/"docs"/"a.md").write_text(TEXTS[0])
    monkeypatch.setenv("HOME", str(tmp_path/"home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path/"home"/"m").symlink_to(made/"m"/"model")
    assert main(["index", "--documents=~/docs", "--index_dir=~/idx", "--model_path=~/m", "--device", "cpu"]) == 0
    assert (tmp_path/"home"/"idx"/"manifest.json").is_file() and not (tmp_path/"~").exists()
    assert f"--index_dir {tmp_path/'home'/'idx'}" in capsys.readouterr().out
    (tmp_path/"home"/"c.yaml").write_text("output_dir: ~/run\nclosed_form: true\n")
    assert main(["train", "--config=~/c.yaml", "--train_data", processed("train.json"), "--val_data",
                 processed("val.json"), "--base_model", str(made/"base"/"base"), "--device", "cpu"]) == 0
    assert (tmp_path/"home"/"run"/"report.json").is_file() and not (tmp_path/"~").exists()


def test_a_run_goes_on_with_its_base_under_another_path(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small_base(tmp_path/"b")

    def train(base, *more):
        return said(capsys, "train", "--train_data", processed("train.json"), "--val_data", processed("val.json"),
                    "--freeze_base", "--epochs", 2, "--batch_size", 16, "--output_dir", tmp_path/"run", "--base_model",
                    base, *more)
    assert train("b/base")[0] == 0
    (tmp_path/"elsewhere").mkdir()
    monkeypatch.chdir(tmp_path/"elsewhere")             # the same folder has another name from here
    (tmp_path/"b").rename(tmp_path/"moved")
    assert train("../moved/base", "--resume_from", "auto")[0] == 0
    pooling = next((tmp_path/"moved"/"base").glob("*Pooling"))/"config.json"
    pooling.write_text(pooling.read_text().replace('"mean"', '"cls"'))
    (tmp_path/"moved").rename(tmp_path/"other")         # the same weights, pooled otherwise, are another base
    code, err = train("../other/base", "--resume_from", "auto")
    assert code == 2 and "base: 'b/base' then, '../other/base' now" in err


def test_a_device_or_a_pipe_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path/"pipe")
    with pytest.raises(UserError, match="a device or a pipe"), atomic_write(tmp_path/"pipe") as temporary:
        temporary.write_text("x")
    assert (tmp_path/"pipe").is_fifo() and len(list(tmp_path.iterdir())) == 1
    for place in ("/dev/null", "/dev/stdout", "/dev/fd/1", str(tmp_path/"pipe")):   # refused before anything is written
        with pytest.raises(UserError, match="a device or a pipe"):
            check_output(place)
    check_output("/dev/shm/file")
    refuse_device(tmp_path/"new.json")


def test_a_demonstration_replaces_no_folder_that_it_did_not_make(tmp_path, capsys):
    (tmp_path/"index").mkdir()
    (tmp_path/"index"/"page.html").write_text("mine")
    assert main(["demo", "--output_dir", str(tmp_path)]) == 2
    assert "not of a demonstration" in capsys.readouterr().err
    assert [p.name for p in tmp_path.rglob("*")] == ["index", "page.html"]


def test_help_says_nothing_of_none(capsys):
    "The comments of the configurations speak of None; who types a flag leaves it out, and reads what holds then."
    for command in ("train", "prepare"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        shown = " ".join(capsys.readouterr().out.split())
        assert "None" not in shown and "(default: " in shown
    assert "keep near copies of a document on one side (default: up to 200,000 rows)" in shown


@pytest.mark.parametrize(("flags", "line"), [([], "near duplicates 2"), (["--near_duplicates"], "near duplicates 2"),
                                             (["--no-near_duplicates"], "near duplicates not looked for")])
def test_near_duplicates_can_be_switched(flags, line, tmp_path, capsys):
    "As a flag with a value, `no` was a word like any other, and meant yes."
    sentence = "the pump moves water from the tank to the filter, and from there to the valve above the hall, every day"
    (tmp_path/"pairs.json").write_text(json.dumps([{"query": f"question {i}", "positive": text} for i, text in
                                                   enumerate((sentence, sentence + " now", "something else"))]))
    assert main(["prepare", "--input", str(tmp_path/"pairs.json"), "--output", str(tmp_path/"train.json"), *flags]) == 0
    assert line in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("word", ["no", "True"])
def test_a_value_for_a_switch_is_said_to_be_one(word, capsys):
    "It was taken for the documents: `did you mean --documents no?`."
    with pytest.raises(SystemExit) as ended:
        main(["prepare", "--near_duplicates", word, "--input", "pairs.json"])
    assert ended.value.code == 2 and "(--near_duplicates takes no value)" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["index", "--anew", "docs"])
    assert "did you mean --documents docs?" in capsys.readouterr().err

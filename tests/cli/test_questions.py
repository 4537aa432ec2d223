"""`ragcun index --questions` with few judged questions, and an index whose making was stopped."""
import io
import json
import shutil
import sys

import numpy as np
import pytest
from small import WORDS, small_base
from tiny_encoder import TinyEncoder

from ragcun.cli.commands import main
from ragcun.cli.judging import judge_loop, read_keys
from ragcun.core import UserError, write_json
from ragcun.models.encoder import GaussianEncoder
from ragcun.retrieval.folders import RECORD
from ragcun.retrieval.judgements import BlindJudging, pool_hits
from ragcun.retrieval.retriever import GaussianRetriever
from ragcun.retrieval.stores import read_manifest

TOPICS = [f"topic{i:03d}" for i in range(120)]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return small_base(tmp_path_factory.mktemp("questions")/"base")


@pytest.fixture(scope="module")
def indexed(base, tmp_path_factory):
    "Documents and an index of them, made once; each test has a copy."
    place = tmp_path_factory.mktemp("indexed")
    rng = np.random.default_rng(0)
    write_json(place/"docs.json", [{"id": t, "text": f"{t} " + " ".join(rng.choice(WORDS, 20))} for t in TOPICS])
    assert main(["index", "--documents", str(place/"docs.json"), "--index_dir", str(place/"idx"),
                 "--base_model", str(base), "--device", "cpu"]) == 0
    return place


@pytest.fixture
def index_dir(indexed, tmp_path):
    shutil.copytree(indexed, tmp_path, dirs_exist_ok=True)
    return tmp_path/"idx"


def judged(folder, number, split="test"):
    "Questions as `ragcun judge` leaves them: one split, named test."
    (folder/"qrels").mkdir(parents=True)
    (folder/"corpus.jsonl").write_text("".join(json.dumps({"_id": t, "text": t}) + "\n" for t in TOPICS))
    rows = [(f"q{i}", f"what is {t} about", t) for i, t in enumerate(TOPICS[:number])]
    (folder/"queries.jsonl").write_text("".join(json.dumps({"_id": q, "text": text}) + "\n" for q, text, _ in rows))
    (folder/"qrels"/f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n"
                                               + "".join(f"{q}\t{t}\t1\n" for q, _, t in rows))
    return folder


@pytest.mark.parametrize(("number", "rates"), [(30, ("10%",)), (12, ("15%", "20%")), (80, ("5%",))])
def test_few_questions_give_the_rate_that_they_can_vouch_for(index_dir, tmp_path, capsys, number, rates):
    data = judged(tmp_path/"judged", number)
    capsys.readouterr()
    assert main(["index", "--documents", str(tmp_path/"docs.json"), "--index_dir", str(index_dir), "--questions",
                 str(data), "--device", "cpu"]) == 0     # the only split is taken
    said = capsys.readouterr().out
    assert any(f"{rate} are expected" in said for rate in rates), said
    assert ("cannot vouch for 5%" in said) == ("5%" not in rates)
    assert read_manifest(index_dir).answer_limit > 0


def test_too_few_questions_leave_the_limit_alone(index_dir, tmp_path, capsys):
    before = read_manifest(index_dir).answer_limit
    data = judged(tmp_path/"judged", 4)
    assert main(["index", "--documents", str(tmp_path/"docs.json"), "--index_dir", str(index_dir), "--questions",
                 str(data), "--split_name", "test", "--device", "cpu"]) == 0
    assert "too few for a limit of an answer, which stays as it was" in capsys.readouterr().out
    assert read_manifest(index_dir).answer_limit == before != 0


def test_an_index_is_calibrated_without_its_documents(index_dir, tmp_path, capsys):
    before = read_manifest(index_dir)
    assert main(["index", "--index_dir", str(index_dir), "--questions", str(judged(tmp_path/"judged", 80)), "--device",
                 "cpu"]) == 0
    assert "5% are expected" in capsys.readouterr().out and read_manifest(index_dir).answer_limit != before.answer_limit
    assert main(["index", "--index_dir", str(index_dir)]) == 2 and "--documents is missing" in capsys.readouterr().err
    for flag in (["--anew"], ["--prune"], ["--fit"], ["--text_column", "body"], ["--base_model", "other"]):
        assert main(["index", "--index_dir", str(index_dir), "--alpha", ".1", *flag]) == 2
        assert f"{flag[0]} has no effect where an index is only calibrated" in capsys.readouterr().err
    assert main(["index", "--index_dir", str(index_dir), "--alpha", "0"]) == 2
    assert "alpha 0.0 is not between 0 and 1" in capsys.readouterr().err


def test_a_rate_that_cannot_be_had_leaves_an_index_that_answers(base, tmp_path, capsys):
    write_json(tmp_path/"few.json", [{"question": t, "answer": f"{t} alpha beta gamma. A second."} for t in TOPICS[:4]])
    said = ["index", "--documents", str(tmp_path/"few.json"), "--index_dir", str(tmp_path/"idx"), "--base_model",
            str(base), "--device", "cpu", "--alpha", ".05"]
    assert main(said) == 2 and "--text_column NAME" in capsys.readouterr().err
    assert main([*said, "--text_column", "answer"]) == 0
    assert "too few for a limit" in capsys.readouterr().out and read_manifest(tmp_path/"idx").answer_limit == 1
    index = GaussianRetriever.open(tmp_path/"idx", device="cpu")
    index.alpha, index.answer_limit = .1, .3                  # a limit from elsewhere is not lost by trying
    index._write_manifest()
    assert main(["index", "--index_dir", str(tmp_path/"idx"), "--alpha", ".05", "--device", "cpu"]) == 0
    assert "stays as it was" in capsys.readouterr().out and read_manifest(tmp_path/"idx").answer_limit == .3


def test_a_search_says_that_its_index_is_not_finished(base, tmp_path, capsys):
    rng = np.random.default_rng(1)
    (tmp_path/"docs").mkdir()
    for t in TOPICS[:30]:
        (tmp_path/"docs"/f"{t}.md").write_text(f"# {t}\n\n" + " ".join(rng.choice(WORDS, 20)))
    idx = tmp_path/"idx"
    assert main(["index", "--documents", str(tmp_path/"docs"), "--index_dir", str(idx), "--base_model", str(base),
                 "--device", "cpu"]) == 0
    ask = ["search", "--index_dir", str(idx), "--device", "cpu", "what is topic001 about"]
    capsys.readouterr()
    assert main(ask) == 0 and "not finished" not in capsys.readouterr().err
    record = (idx/RECORD).read_bytes()
    (idx/RECORD).write_bytes(record.replace(b'{"whole": true}\n', b""))      # as a kill leaves it
    assert main(ask) == 0 and "not finished: it holds 30 files so far" in capsys.readouterr().err


def test_other_metadata_alone_is_named_and_replaced_when_asked(index_dir, tmp_path, capsys):
    rows = json.loads((tmp_path/"docs.json").read_text())
    write_json(tmp_path/"docs.json", [{**rows[0], "year": 2005}, *rows[1:]])
    def year(*more):
        capsys.readouterr()
        assert main(["index", "--documents", str(tmp_path/"docs.json"), "--index_dir", str(index_dir), "--device",
                     "cpu", *more]) == 0
        held = GaussianRetriever.open(index_dir, device="cpu").store.get([TOPICS[0]]).metadata[0]
        return held.get("year"), "for 1 of these documents, the first of them 'topic000'" in capsys.readouterr().err
    assert [year(), year("--update"), year()] == [(None, True), (2005, False), (2005, False)]


def test_a_filter_that_nothing_passes_is_no_answer_to_the_question(index_dir, capsys):
    index = GaussianRetriever.open(index_dir, device="cpu")
    index.add([{"id": "one", "text": "topic500", "author": "ann", "tags": ["x"]}])
    for wanted, said in (({"autor": "ann"}, True), ({"tags": "x"}, True), ({"id": "one"}, True),
                         ({"author": "ann"}, False)):
        capsys.readouterr()
        assert main(["search", "--index_dir", str(index_dir), "--filter", json.dumps(wanted), "topic500"]) == 0
        told = capsys.readouterr().err
        assert ("no document passes the filter. Fields of their metadata: author, tags" in told) == said
        assert "is a guess" not in told or not said
    main(["search", "--index_dir", str(index_dir), "--filter", '{"author": {"$in": [5]}}', "topic500"])
    assert 'tags. author is for example "ann" (--filter)' in capsys.readouterr().err   # a text, no number


def test_questions_side_by_side_are_said_to_be_one(index_dir, capsys):
    for words, said in ((["topic001", "topic002"], False), (["topic001 here", "topic002"], True), (["a topic"], False)):
        capsys.readouterr()
        assert main(["search", "--index_dir", str(index_dir), *words]) == 0
        assert ("asked as one question" in capsys.readouterr().err) == said


def test_a_merge_by_what_no_hit_has_is_said(index_dir, capsys, caplog):
    for name, said in (("autor", True), ("author", False)):
        index = GaussianRetriever.open(index_dir, device="cpu")
        index.update([{"id": "one", "text": "topic500", "author": "ann"}])
        caplog.clear()
        assert len(index.search("topic500", 3, merge=name)) == 3
        assert ("no hit has 'autor' in its metadata, so all of them stay. There are: author" in caplog.text) == said
    with pytest.raises(UserError, match="Give the name of a field"):
        index.search("topic500", merge=["author"])


def test_copies_of_a_passage_are_merged_by_text():
    "A page for printing fills an answer list with passages that are there already."
    index = GaussianRetriever(TinyEncoder())
    index.add([{"id": f"{kind}{i}", "text": f"topic{i} is here", "metadata": {"source": kind}}
               for i in range(4) for kind in ("page", "print")])
    found = index.search("topic2", 4, merge="text")
    assert sorted(h.text for h in found) == [f"topic{i} is here" for i in range(4)]
    assert sorted({**found.copies}) == sorted(h.id for h in found)
    assert [sorted([k, *v]) for k, v in sorted(found.copies.items())] == [[f"page{i}", f"print{i}"] for i in range(4)]
    assert [len(h["copies"]) for h in found.to_json()["hits"]] == [1] * 4
    plain = index.search("topic2", 4)
    assert len({h.text for h in plain}) < 4 and not plain.copies and "copies" not in plain.to_json()["hits"][0]


def test_the_printed_list_shows_a_text_once_and_says_where_else_it_stands(index_dir, capsys):
    "Versions of a folder, each with the same file: five copies were all that one saw. Programs get every hit."
    index = GaussianRetriever.open(index_dir, device="cpu")
    index.update([{"id": f"v{i}/backup.md#1", "text": "topic700 is kept at night", "source": f"v{i}/backup.md"}
                  for i in range(6)])
    ask = ["search", "--index_dir", str(index_dir), "--device", "cpu", "--top_k", "3", "topic700"]
    def answer(*more):
        capsys.readouterr()
        assert main([*ask, *more]) == 0
        return capsys.readouterr().out
    shown = answer()
    assert shown.count("topic700 is kept at night") == 1 and " and 2 more" in shown
    assert answer("--merge", "none").count("topic700 is kept at night") == 3
    hits = json.loads(answer("--json"))["hits"]
    assert [h["text"] for h in hits] == ["topic700 is kept at night"] * 3 and "copies" not in hits[0]
    merged = json.loads(answer("--json", "--merge", "text"))["hits"]
    assert len(merged[0]["copies"]) == 5 and len({h["text"] for h in merged}) == 3


def test_one_bad_line_takes_no_answer_away(index_dir, capsys, monkeypatch):
    def ask(sent):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sent)))
        capsys.readouterr()
        code = main(["search", "--index_dir", str(index_dir), "--json", "--device", "cpu"])
        said = capsys.readouterr()
        return code, [json.loads(line)["query"] for line in said.out.splitlines()], said.err.splitlines()
    code, asked, told = ask(b"topic001\ntopic\xe9\n\ntopic003\n")
    assert (code, asked) == (2, ["topic001", "topic003"]) and len(told) == 1 and "row 2" in told[0]
    code, asked, told = ask("topic001\n".encode("utf-16") * 9)
    assert (code, asked) == (2, []) and len(told) == 6 and "lines in all" in told[-1]


def test_a_key_that_sends_a_sequence_judges_nothing():
    sent = "y\x1b[15~\x1b[1;5C\x1bOP\x1b[3~n\x1b[1~\x1b"   # F5, Ctrl and an arrow, F1, delete, home, escape
    assert [k for k in read_keys(io.StringIO(sent)) if k] == ["y", "n"]


def test_documents_send_nothing_to_the_terminal(base, tmp_path):
    index = GaussianRetriever(GaussianEncoder.from_base(base, None, "cpu", "no"))
    index.add([{"id": "a", "text": "water\x1b]0;title\x07 is\nice", "heading": "cold\x1b[2J"}])
    judging = BlindJudging(index, pool_hits(index, ["water\x1b[31m"], 1), tmp_path/"judged")
    said = []
    judge_loop(judging, iter("y"), said.append)
    assert "\x1b" not in "".join(said) and "water ]0;title  is\nice" in said[-1]
    assert "question 1 of 1, 1 passage left" in said[0]

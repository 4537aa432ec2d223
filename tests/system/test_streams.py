"Standard streams and settings of machines as they are."
import io
import os
import sys

import pytest

from ragcun.cli.commands import main
from ragcun.core import UserError, env_number, progress
from ragcun.data.files import stream_blocks, stream_lines


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_help_is_printed_in_any_encoding(monkeypatch, encoding):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    sys.stdout.flush()
    assert not stopped.value.code and b"usage: ragcun" in raw.getvalue()


@pytest.mark.parametrize("text, wanted", [("", 1), (" ", 1), ("4", 4)])
def test_empty_settings_are_none(monkeypatch, text, wanted):
    monkeypatch.setenv("WORLD_SIZE", text)
    assert env_number("WORLD_SIZE", 1) == wanted


def test_settings_that_are_no_numbers_are_one_line(monkeypatch):
    monkeypatch.setenv("RAGCUN_CACHE_GB", "lots")
    with pytest.raises(UserError, match="'lots' is no number .RAGCUN_CACHE_GB."):
        env_number("RAGCUN_CACHE_GB", 10.)


def test_lines_come_when_they_are_sent_and_are_cut_where_they_end():
    ours, theirs = os.pipe()
    with open(ours) as stream:
        blocks = stream_blocks(stream)
        for sent, want in ((b"\xef\xbb\xbfone\n", ["one"]), (b"\n\r\ntwo\r\nthr", ["two"]),
                           (b"ee\nfour\n", ["three", "four"])):
            os.write(theirs, sent)
            assert next(blocks) == want         # a reader that waits for the end of the stream would never return
        os.write(theirs, b"the last\xff")
        os.close(theirs)
        with pytest.raises(UserError, match="byte 0xff .standard input, row 7"):
            next(blocks)
    told = []
    bad = io.TextIOWrapper(io.BytesIO(b"one\nb\xe9d\nn\x00l\nfour\n"))
    assert list(stream_blocks(bad, odd=told.append)) == [["one", "four"]]
    assert [str(e).partition(" (")[2][:21] for e in told] == ["standard input, row 2", "standard input, row 3"]
    want = [f"question {i}" for i in range(9000)]
    for end in ("\n", "\r", "\r\n"):
        text = "".join(q + end for q in want)
        assert stream_lines(io.TextIOWrapper(io.BytesIO(text.encode()))) == stream_lines(io.StringIO(text)) == want


def test_a_short_piece_of_work_shows_no_bar(monkeypatch):
    shown = io.StringIO()
    shown.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    for _ in progress(range(3), "searching"):      # in a notebook the bars of many searches would pile up
        pass
    assert shown.getvalue() == ""
    bar = progress(range(2), "training")
    bar.delay = 0
    bar.refresh()
    assert "training" in shown.getvalue()
    bar.close()


def test_what_is_kept_on_an_interval_that_holds_zero_says_so():
    from ragcun.training.run import sentence
    gain = {"mean": .1, "low": -.1, "high": .3, "p": .4}
    table = {"base": {"ndcg@10": .5}, "closed form": {"ndcg@10": .6, "against_base": gain}}
    assert "The interval holds 0" in sentence("closed form", table, 6)
    table["closed form"]["against_base"] = {**gain, "low": .05}
    assert "holds 0" not in sentence("closed form", table, 6)

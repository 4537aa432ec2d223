"""The tools of an agent, asked by the official client in this process; a process of its own is in tests/system."""
import asyncio
from argparse import Namespace
from unittest.mock import Mock

import pytest

pytest.importorskip("mcp", reason="extra mcp is not installed")
from mcp import Client
from starlette.testclient import TestClient

from ragcun.cli.commands import main
from ragcun.cli.serving import _say_address
from ragcun.integrations.mcp_server import LONGEST_TEXT, READ_TOOL, SEARCH_TOOL, make_mcp, mcp_app, source_of
from ragcun.integrations.server import ServeOptions, serve_options
from ragcun.retrieval.retriever import GaussianRetriever
from tiny_encoder import TinyEncoder


@pytest.fixture(scope="module")
def index():
    r = GaussianRetriever(TinyEncoder(24))
    r.add([{"id": f"d{i}", "text": f"alpha{i} beta{i} gamma{i} delta{i}", "source": f"s{i // 10}.md",
            "position": i % 10 + 1, "headings": ["Part", f"Section {i}"], "page": i + 1} for i in range(200)])
    r.add([{"id": "long", "text": "omega " * 2000}])
    return r


def use(index, tool, **arguments):
    async def scenario():
        async with Client(make_mcp(index)) as agent:
            return await agent.call_tool(tool, arguments)
    return asyncio.run(scenario())


def test_an_agent_sees_two_tools_that_only_read(index):
    async def scenario():
        async with Client(make_mcp(index, about="Notes of a workshop.")) as agent:
            return (await agent.list_tools()).tools, agent.instructions
    tools, instructions = asyncio.run(scenario())
    assert {t.name: t.description for t in tools} == {"search": SEARCH_TOOL, "read": READ_TOOL}
    assert all(t.annotations.read_only_hint for t in tools) and all(t.output_schema for t in tools)
    assert all(t.input_schema["additionalProperties"] is False for t in tools)
    assert "stop" in SEARCH_TOOL and "Notes of a workshop." in instructions


def test_search_gives_hits_sources_and_the_verdict(index):
    got = use(index, "search", question="alpha7 beta7 gamma7 delta7", top_k=2).structured_content
    want = index.search("alpha7 beta7 gamma7 delta7", top_k=2)
    assert [h["id"] for h in got["hits"]] == [h.id for h in want] and got["answered"] == want.answered is True
    assert got["hits"][0]["source"] == "s0.md › Part › Section 7, page 8" and got["documents"] == 201
    assert got["chance"] is want.chance is None and got["advice"].startswith("Answer from")


def test_an_agent_reads_copies_of_a_passage_once():
    index = GaussianRetriever(TinyEncoder(24))
    index.add([{"id": f"v{v}/{i}", "text": f"alpha{i} beta{i} gamma{i}"} for v in range(8) for i in range(20)])
    hits = use(index, "search", question="alpha7 beta7 gamma7", top_k=3).structured_content["hits"]
    assert len({h["text"] for h in hits}) == 3 and all(len(h["copies"]) == 5 for h in hits)


def test_an_agent_is_told_to_stop_where_nothing_answers(index):
    got = use(index, "search", question="nothing of this kind stands anywhere").structured_content
    assert got["answered"] is False and "stop" in got["advice"] and got["verdict"].startswith("probably no answer")


def test_an_agent_is_told_where_the_verdict_is_a_guess():
    few = GaussianRetriever(TinyEncoder(24))
    few.add([f"alpha{i} beta{i}" for i in range(9)])
    for question in ("alpha7 beta7", "nothing of this kind stands anywhere"):
        assert few.search(question).tentative
        got = use(few, "search", question=question).structured_content
        assert "Among 9 documents this verdict is a guess" in got["advice"]


def test_an_agent_is_told_what_was_searched_for_instead(index, monkeypatch):
    monkeypatch.setattr(index, "corrected", lambda asked: [q.replace("alfa7", "alpha7") for q in asked])
    meant = "alpha7 beta7 gamma7 delta7"
    right = use(index, "search", question=meant).structured_content
    got = use(index, "search", question="alfa7 beta7 gamma7 delta7").structured_content
    assert right["corrected"] is None and got["corrected"] == meant and got["hits"] == right["hits"]
    assert "search again as_written" in got["advice"] and "as_written" not in right["advice"]
    as_written = use(index, "search", question="alfa7 beta7 gamma7 delta7", as_written=True).structured_content
    assert as_written["corrected"] is None and as_written["hits"] != right["hits"]


def test_read_gives_the_neighbours_of_the_same_source(index):
    got = use(index, "read", id="d19", around=2).structured_content
    assert [(p["id"], p["asked"]) for p in got["passages"]] == [("d17", False), ("d18", False), ("d19", True)]
    assert len(use(index, "read", id="long").structured_content["passages"][0]["text"]) < LONGEST_TEXT + 20


def test_filters_and_errors_reach_the_agent(index):
    got = use(index, "search", question="alpha7", filter={"source": "s3.md"}, top_k=20).structured_content
    assert {h["source"].partition(" ")[0] for h in got["hits"]} == {"s3.md"} and len(got["hits"]) == 10
    for tool, arguments, part in (("read", {"id": "none"}, "no document has this id"),
                                  ("search", {"question": ""}, "the query is empty"),
                                  ("search", {"question": "x", "filter": {"a": {"$near": 1}}}, "unknown operator"),
                                  ("search", {"question": "x", "filter": {"file": "s3.md"}}, "headings, page"),
                                  ("search", {}, "question"),
                                  ("search", {"question": "x", "limit": 1}, "argument. Arguments are question, top_k"),
                                  ("search", {"query": "alpha7"}, "question: it is missing; query: there is no"),
                                  ("search", {"question": "x", "top_k": "many"}, "top_k: Input should be a valid int"),
                                  ("search", {"question": "x", "top_k": 99}, "top_k: Input should be less than or"),
                                  ("search", {"question": "x", "top_k": 0}, "top_k: Input should be greater than"),
                                  ("read", {"id": "d5", "around": -1}, "around: Input should be greater than"),
                                  ("read", {"id": "d5", "neighbours": 3}, "neighbours: there is no such")):
        failed = use(index, tool, **arguments)
        said = failed.content[0].text
        assert failed.is_error and part in said and "\n" not in said and "http" not in said


def test_over_http_it_stands_behind_the_gate(index):
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "read", "arguments": {"id": "d5"}}}
    accept = {"Accept": "application/json, text/event-stream"}
    options = ServeOptions(keys=("0123456789abcdef",))
    with TestClient(mcp_app(make_mcp(index), options)) as http:
        assert http.post("/mcp", json=call, headers=accept).status_code == 401
        got = http.post("/mcp", json=call, headers={**accept, "Authorization": "Bearer 0123456789abcdef"})
        assert got.json()["result"]["structuredContent"]["source"].startswith("s0.md")
    with TestClient(mcp_app(make_mcp(index), serve_options("127.0.0.1")), base_url="http://127.0.0.1") as http:
        assert http.post("/mcp", json=call, headers={**accept, "Host": "evil.example"}).status_code == 400


def test_sources_by_name():
    assert source_of({}, "x") == "x"
    assert source_of({"source": "a.pdf", "title": "T", "page": 3}, "x") == "a.pdf › T, page 3"
    assert source_of({"source": "a.txt", "title": "BASH(1)    User\tManual"}, "x") == "a.txt › BASH(1) User Manual"


def test_flags_of_http_are_refused_without_it_and_an_open_address_is_warned_of(capsys, caplog):
    for flag, value in (("host", "0.0.0.0"), ("port", "9000"), ("api_key_file", "keys")):
        assert main(["mcp", "--index_dir", "none", f"--{flag}", value]) == 2
        assert f"--{flag} has no effect without --http" in capsys.readouterr().err
    for host, shown, warned in (("::1", "http://[::1]:7/mcp", False), ("0.0.0.0", "http://0.0.0.0:7/mcp", True)):
        caplog.clear()
        _say_address("tools ", "/mcp", Namespace(host=host), Mock(getsockname=lambda: ("", 7)))
        assert f"tools {shown}\n" in capsys.readouterr().out and ("TLS" in caplog.text) == warned

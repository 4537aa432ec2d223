"""`ragcun serve` and `ragcun mcp` as processes, asked by everything that will ask them: curl, a browser on a screen and
on a phone, the OpenAI client, LangChain, and the client of the Model Context Protocol."""
import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ragcun.models.encoder import GaussianEncoder
from ragcun.retrieval.retriever import GaussianRetriever
from small import ROOT, small_base

CHROMIUM = next(filter(None, map(shutil.which,
                                 ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"])), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]
KEY = "a-key-for-tests-only-0123456789"
NASTY = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\"> planet light"
RAGCUN = [sys.executable, "-m", "ragcun.cli.commands"]
needs = {name: pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"needs {name}")
         for name in ("openai", "langchain_openai", "mcp", "playwright")}
in_browser = pytest.mark.skipif(CHROMIUM is None or importlib.util.find_spec("playwright") is None,
                                reason="needs Chromium and playwright (pip install playwright==1.65.2)")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="needs fastapi")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "An index folder of a random base; one document holds a script."
    place = tmp_path_factory.mktemp("serve")
    model = GaussianEncoder.from_base(small_base(place), None, "cpu", "no")
    index = GaussianRetriever(model, place / "index")
    words = "water energy cell light planet plant earth star code program data model system".split()
    rng = np.random.default_rng(0)
    documents = [{"id": f"p{i}", "text": " ".join(rng.choice(words, 12)), "source": f"book{i // 20}.md",
                  "position": i % 20 + 1, "headings": ["Notes", f"Chapter {i // 20}"]} for i in range(160)]
    index.add([*documents, {"id": "nasty/<b>", "text": NASTY, "source": "<i>source</i>"}])
    return place / "index"


@contextlib.contextmanager
def serving(*flags):
    "A server in a process of its own: process and address."
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen([*RAGCUN, *map(str, flags)], cwd=ROOT, env=env, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    try:
        line = next((said for said in process.stdout if "http://" in said), None)
        assert line, process.stderr.read()
        yield process, "http://" + line.partition("http://")[2].strip().rstrip("/")
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def server(folder):
    with serving("serve", "--index_dir", folder, "--port", 0) as (process, address):
        yield process, address


def test_curl(server):
    _, address = server
    if not shutil.which("curl"): pytest.skip("needs curl")
    def curl(*arguments):
        done = subprocess.run(["curl", "-sS", "-w", "\n%{http_code}", *arguments], capture_output=True, text=True)
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body
    kind = ["-H", "Content-Type: application/json"]
    status, body = curl(f"{address}/search", *kind, "-d", '{"query": "planet light", "top_k": 3}')
    assert status == 200 and len(json.loads(body)["hits"]) == 3
    assert curl(f"{address}/search", "-d", "x=1")[0] == 415
    assert curl("--path-as-is", f"{address}/../../../etc/passwd")[0] == 404
    assert curl("--path-as-is", f"{address}/documents/../../../etc/passwd")[0] == 404
    assert curl(f"{address}/about", "-H", "Host: evil.example")[0] == 400
    assert curl(f"{address}/healthz") == (200, '{"status":"ok"}')


@needs["openai"]
def test_the_openai_client(server, folder):
    import openai
    _, address = server
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none") as client:
        got = client.embeddings.create(model="ragcun-query", input=["planet light"]).data[0].embedding
    want = GaussianRetriever.open(folder, device="cpu").model.encode_query(["planet light"])[0]
    assert np.allclose(got, want, atol=1e-4)


@needs["langchain_openai"]
def test_langchain(server, folder):
    from langchain_openai import OpenAIEmbeddings
    _, address = server
    def side(name):
        return OpenAIEmbeddings(model=f"ragcun-{name}", base_url=f"{address}/v1", api_key="none",
                                check_embedding_ctx_length=False)
    model = GaussianRetriever.open(folder, device="cpu").model
    texts = ["planet light water", "earth star code", "energy cell plant"]
    assert np.allclose(side("document").embed_documents(texts), model.encode_document(texts), atol=1e-4)
    assert np.allclose(side("query").embed_query("planet light star"), model.encode_query(["planet light star"])[0],
                       atol=1e-4)


# --- the page

@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@contextlib.contextmanager
def page_of(browser, address, **options):
    "A page, with what it complained of."
    context = browser.new_context(**options)
    page = context.new_page()
    page.wrong, page.asked = [], []
    page.on("console", lambda m: page.wrong.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: page.wrong.append(str(e)))
    page.on("request", lambda r: page.asked.append(r.url))
    page.goto(f"{address}/")
    yield page
    context.close()


def ask(page, question):
    page.fill("#question", question)
    page.keyboard.press("Enter")
    page.wait_for_function("() => /documents, \\d+ ms/.test(document.getElementById('status').textContent)")


SCREENS = {"light": {"color_scheme": "light"}, "dark": {"color_scheme": "dark"},
           "phone": {"viewport": {"width": 390, "height": 800}, "is_mobile": True, "has_touch": True}}


@in_browser
@pytest.mark.parametrize("screen", SCREENS)
def test_the_page_on_a_screen(server, browser, screen, tmp_path):
    _, address = server
    with page_of(browser, address, **SCREENS[screen]) as page:
        ask(page, "planet light star")
        assert page.locator("#list > li").count() == 5 and page.locator("mark").count() > 0
        assert page.locator("#picture circle").count() == 5 and page.locator("#picture rect.bar").count() > 3
        assert page.inner_text("#sentence") and "meaning" in page.inner_text("#list > li >> nth=0")
        page.click("summary")
        out = page.evaluate("[...document.querySelectorAll('body *')].filter(e => !e.closest('svg') && "
                            "e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)"
                            ".map(e => e.outerHTML)")   # innerWidth grows with what sticks out on a phone
        assert out == []                                               # nothing sticks out, options or hits
        ink = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ink == "rgb(255, 255, 255)") == (screen != "dark")
        assert page.wrong == [] and all(url.startswith(address) for url in page.asked)
        if os.environ.get("RAGCUN_SCREENSHOTS"):
            page.screenshot(path=f"{os.environ['RAGCUN_SCREENSHOTS']}/{screen}.png", full_page=True)


@in_browser
def test_a_script_in_a_document_is_shown_as_text(server, browser):
    _, address = server
    with page_of(browser, address) as page:
        ask(page, "script document title taken planet")
        shown = page.locator(".passage").filter(has_text="onerror")
        assert shown.count() == 1 and shown.inner_text() == NASTY
        assert "<i>source</i>" in page.inner_text("#list") and page.title() != "taken"
        assert page.locator("#list img, #list script, #list i").count() == 0 and page.wrong == []


@in_browser
def test_the_keyboard_is_enough(server, browser):
    _, address = server
    with page_of(browser, address) as page:
        assert page.evaluate("document.activeElement.id") == "question"
        ask(page, "water energy cell")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        assert page.evaluate("[...document.querySelectorAll('#list > li')].indexOf(document.activeElement)") == 1
        page.keyboard.press("Enter")
        page.wait_for_selector(".passage.other")
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") == "question"
        assert page.url.endswith("#q=water%20energy%20cell")
        ask(page, "earth star")
        page.go_back()
        page.wait_for_function("document.getElementById('question').value === 'water energy cell'")


@in_browser
def test_a_typing_error_is_told_on_the_page_and_may_be_meant(server, browser):
    _, address = server
    with page_of(browser, address) as page:
        ask(page, "planett light?")
        assert page.inner_text("#corrected") == "Searched for: planet light? · Search as typed"
        page.click("#corrected button")
        page.wait_for_selector("#corrected", state="hidden")
        assert page.input_value("#question") == "planett light?" and page.locator("#list > li").count() == 5


@in_browser
def test_filters_and_mistakes_on_the_page(server, browser):
    _, address = server
    with page_of(browser, address) as page:
        page.click("summary")
        page.fill("#filter", '{"source": "book3.md"}')
        page.fill("#hits", "3")
        ask(page, "planet light")
        assert page.locator(".source").all_inner_texts() == ["book3.md › Notes › Chapter 3"] * 3
        page.fill("#filter", '{"sauce": "book3.md"}')
        page.click("button[type=submit] >> nth=0")
        page.wait_for_selector("#status.error")
        assert "No document passes the filter" in page.inner_text("#status")
        page.fill("#filter", '{"source": ')
        page.click("button[type=submit] >> nth=0")
        page.wait_for_function("() => document.getElementById('status').textContent.includes('no JSON')")
        assert "filter is no JSON" in page.inner_text("#status")
        page.fill("#filter", "")
        page.fill("#hits", "99")
        page.click("summary")                                          # folded: the browser has nowhere to say it
        page.click("button[type=submit] >> nth=0")
        page.wait_for_function("() => document.getElementById('status').textContent.startsWith('Hits: ')")
        assert page.is_visible("#hits") and "50" in page.inner_text("#status")


@in_browser
def test_the_page_asks_for_a_key(folder, browser, tmp_path):
    (tmp_path / "keys").write_text(f"{KEY}\n")
    flags = ["serve", "--index_dir", folder, "--port", 0, "--api_key_file", tmp_path / "keys"]
    with serving(*flags) as (_, address), page_of(browser, address) as page:
        page.wait_for_selector("#unlock:not([hidden])")
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.getElementById('about').textContent.includes('161 documents')")
        ask(page, "planet light")
        assert page.locator("#list > li").count() == 5 and KEY not in page.content()


# --- starting and stopping

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_answers_what_is_under_way(folder, number):
    import http.client
    with serving("serve", "--index_dir", folder, "--port", 0) as (process, address):
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
        connection.request("GET", "/healthz")                # the address is named a moment before it is answered at
        assert connection.getresponse().read()
        body = json.dumps({"query": ["planet light"] * 60, "explain": True, "top_k": 10})
        connection.request("POST", "/search", body, {"Content-Type": "application/json"})
        time.sleep(.02)
        process.send_signal(number)
        assert connection.getresponse().status == 200
        assert process.wait(30) == 0


def test_what_is_wrong_is_one_line(folder, tmp_path, server):
    _, address = server
    port = address.rpartition(":")[2]
    (tmp_path / "keys").write_text("short\n")
    for flags, part in ((["--index_dir", tmp_path], "not a ragcun index"), ([], "--index_dir is missing"),
                        (["--index_dir", folder, "--host", "0.0.0.0"], "no key is set"),
                        (["--index_dir", folder, "--port", port], "cannot listen there"),
                        (["--index_dir", folder, "--api_key_file", tmp_path / "keys"], "fewer than 16")):
        done = subprocess.run([*RAGCUN, "serve", *map(str, flags)], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2 and part in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert "short\n" not in done.stderr


def test_a_killed_writer_beside_it_loses_nothing(folder, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from bench_serve import killed_writer
    copy = tmp_path / "index"
    shutil.copytree(folder, copy)
    with serving("serve", "--index_dir", copy, "--port", 0) as (_, address):
        found = killed_writer(copy, int(address.rpartition(":")[2]))
    assert found["documents_lost"] == 0 and found["blocks_finished"] == 6
    assert found["documents_seen_by_server"] == found["documents_in_folder"]


# --- agents

def in_thread(scenario):
    "Run a coroutine where the browser's own loop is not."
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, scenario).result()


@needs["mcp"]
def test_mcp_over_standard_input_and_output(folder):
    from mcp import Client, StdioServerParameters
    server = StdioServerParameters(command=sys.executable, args=[*RAGCUN[1:], "mcp", "--index_dir", str(folder)],
                                   env={"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}, cwd=str(ROOT))

    async def scenario():
        async with Client(server) as agent:
            tools = [t.name for t in (await agent.list_tools()).tools]
            found = await agent.call_tool("search", {"question": "planet light star", "top_k": 2})
            read = await agent.call_tool("read", {"id": found.structured_content["hits"][0]["id"]})
            return tools, found.structured_content, read.structured_content
    tools, found, read = in_thread(scenario())
    want = GaussianRetriever.open(folder, device="cpu").search("planet light star", top_k=2)
    assert sorted(tools) == ["read", "search"] and [h["id"] for h in found["hits"]] == [h.id for h in want]
    assert any(p["asked"] and p["id"] == want[0].id for p in read["passages"])


def test_nothing_but_the_protocol_is_on_standard_output(folder):
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}}
    done = subprocess.run([*RAGCUN, "mcp", "--index_dir", str(folder)], cwd=ROOT, input=json.dumps(hello) + "\n",
                          capture_output=True, text=True, timeout=120)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["id"] for line in lines] == [1] and done.returncode == 0, done.stderr


@needs["mcp"]
def test_ctrl_c_ends_a_server_whose_input_is_open(folder):
    with subprocess.Popen([*RAGCUN, "mcp", "--index_dir", str(folder)], cwd=ROOT, text=True, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        print(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}), file=server.stdin, flush=True)
        assert '"id":1' in server.stdout.readline()
        server.send_signal(signal.SIGINT)
        try:
            assert server.wait(20) == -signal.SIGINT and server.stderr.read() == ""
        finally:
            server.kill()


@needs["mcp"]
def test_mcp_over_http(folder, tmp_path):
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client
    (tmp_path / "keys").write_text(f"{KEY}\n")

    async def scenario(address, key):
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}) as http:
            async with Client(streamable_http_client(address, http_client=http)) as agent:
                return (await agent.call_tool("search", {"question": "planet light"})).structured_content
    flags = ["mcp", "--http", "--index_dir", folder, "--port", 0, "--api_key_file", tmp_path / "keys"]
    with serving(*flags) as (process, address):
        assert len(in_thread(scenario(address, KEY))["hits"]) == 5
        with pytest.raises(BaseException):  # noqa: B017 - the client wraps the 401 in groups of its own
            in_thread(scenario(address, "wrong"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0

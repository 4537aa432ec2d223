"""Every tutorial, in a real JupyterLab in headless Chromium: run all cells, no error, the figures are there."""
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next(filter(None, map(shutil.which,
                                 ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"])), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]
TUTORIALS = sorted(p.relative_to(ROOT / "nbs").as_posix() for p in (ROOT / "nbs" / "tutorials").glob("*.ipynb")
                   if p.name[0] not in "_.")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None,
                       reason="needs playwright (pip install playwright==1.65.2)"),
]

# what the notebook's model holds after a run: the number of code cells, how many ran, errors, pictures
STATE = """() => {
  const panel = window.jupyterapp.shell.currentWidget, cells = panel.content.model.cells;
  const found = {code: 0, ran: 0, errors: [], pictures: 0};
  for (let i = 0; i < cells.length; i++) {
    const cell = cells.get(i).toJSON();
    if (cell.cell_type !== 'code') continue;
    found.code += 1;
    found.ran += cell.execution_count !== null || !cell.source.length;
    for (const o of cell.outputs) {
      if (o.output_type === 'error') found.errors.push(o.ename + ': ' + o.evalue);
      const data = o.data || {}, drawn = data['image/png'] || data['image/svg+xml'];
      if (drawn || String(data['text/html'] || '').includes('<img')) found.pictures += 1;
    }
  }
  const session = panel.sessionContext.session;
  found.status = session && session.kernel && session.kernel.status;
  return found;
}"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(url, process, seconds=300):
    "Until the server answers; its own words if it ends instead."
    for _ in range(seconds * 4):
        if process.poll() is not None:
            raise RuntimeError(f"JupyterLab ended with code {process.returncode}")
        try:
            return urllib.request.urlopen(url, timeout=2).status
        except OSError:
            time.sleep(.25)
    raise TimeoutError(url)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    "A JupyterLab on a copy of the notebooks (Lab saves what it opens), with folders of its own."
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "nbs", home / "work" / "nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for name in ("data", "settings.ini"):
        if (ROOT / name).exists():
            (home / "work" / name).symlink_to(ROOT / name)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    for name in ("TQDM_DISABLE", "MPLBACKEND"):    # with another backend than its own a kernel shows no figures
        env.pop(name, None)
    env.update({f"JUPYTER_{kind}_DIR": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")})
    port = free_port()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}",
               "--ServerApp.port_retries=0", "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True",
               f"--ServerApp.root_dir={home / 'work'}", "--allow-root"]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(f"http://127.0.0.1:{port}/api", process)
        yield f"http://127.0.0.1:{port}", home / "work"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


def run_all(page, address, name, seconds=900):
    "Open a notebook, run all its cells, and return what its model then holds."
    page.goto(f"{address}/lab/tree/nbs/{name}?reset")
    page.wait_for_function("() => window.jupyterapp && window.jupyterapp.shell.currentWidget "
                           "&& window.jupyterapp.shell.currentWidget.sessionContext"
                           " && window.jupyterapp.shell.currentWidget.content.model"
                           " && window.jupyterapp.shell.currentWidget.sessionContext.session"
                           " && window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'",
                           timeout=300_000)
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
    for _ in range(seconds):
        page.wait_for_timeout(1000)
        state = page.evaluate(STATE)
        if state["errors"] or state["ran"] == state["code"] and state["status"] == "idle":
            return state
    return state


def expected_pictures(name):
    cells = json.loads((ROOT / "nbs" / name).read_text("utf-8"))["cells"]
    outputs = [o for c in cells if c["cell_type"] == "code" for o in c["outputs"]]
    return sum("image/png" in o.get("data", {}) or "image/svg+xml" in o.get("data", {}) for o in outputs)


@pytest.mark.parametrize("name", TUTORIALS or [pytest.param("", marks=pytest.mark.skip(reason="no tutorial yet"))])
def test_tutorial_runs_in_jupyterlab(server, browser, name):
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(300_000)
    state = run_all(page, server[0], name)
    if pictures := os.environ.get("RAGCUN_LAB_PICTURES"):
        Path(pictures).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(pictures) / f"{Path(name).stem}.png"))
    page.close()
    assert state["errors"] == []
    assert state["ran"] == state["code"] > 0
    assert state["pictures"] >= expected_pictures(name)


def test_a_cell_that_fails_is_seen(server, browser):
    "The test above can fail: a notebook with an error and no figure does not pass for a good one."
    import nbformat
    made = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "python3",
                                                             "language": "python"}})
    made.cells = [nbformat.v4.new_code_cell("1 + 1"), nbformat.v4.new_code_cell("1 / 0")]
    nbformat.write(made, server[1] / "nbs" / "broken.ipynb")
    page = browser.new_page()
    page.set_default_timeout(300_000)
    state = run_all(page, server[0], "broken.ipynb", 60)
    page.close()
    assert state["errors"] == ["ZeroDivisionError: division by zero"] and state["pictures"] == 0


EXPLORE = """from pathlib import Path
from ragcun.integrations.explorer import explore
from ragcun.models.encoder import GaussianEncoder
from ragcun.retrieval.retriever import GaussianRetriever
texts = [t for t in Path("../data/raw/all_docs.txt").read_text(encoding="utf-8").splitlines() if t.strip()]
index = GaussianRetriever(GaussianEncoder.from_base(precision="no", device="cpu"))
index.add([{"id": f"{i:02d}", "text": t, "source": "notes.txt"} for i, t in enumerate(texts)])"""


def test_the_explorer_in_jupyterlab(server, browser):
    "A question is typed into the widget, and both columns answer with hits, picture and map."
    import nbformat
    made = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "python3",
                                                             "language": "python"}})
    made.cells = [nbformat.v4.new_code_cell(EXPLORE), nbformat.v4.new_code_cell("explore(index, 0.)"),
                  nbformat.v4.new_code_cell('index.search("Why does ice float on water?", top_k=3)')]
    nbformat.write(made, server[1] / "nbs" / "exploring.ipynb")
    page = browser.new_page(viewport={"width": 1400, "height": 1200})
    page.set_default_timeout(120_000)
    state = run_all(page, server[0], "exploring.ipynb", 120)
    assert state["errors"] == []
    box = page.locator("input[placeholder='A question in your own words']")
    box.fill("Why does ice float on water?")
    box.press("Enter")
    page.wait_for_function("() => [...document.querySelectorAll('.widget-html')]"
                           ".filter(w => w.querySelectorAll('circle').length > 60).length == 2")
    shown = page.locator(".widget-html:has(svg)")
    assert shown.count() == 2 and all("Water is densest" in text for text in shown.all_inner_texts())
    result = page.locator(".jp-RenderedHTML:has(mark)").last                                # of the search below it
    assert "Water is densest" in result.inner_text() and "meaning" in result.inner_text()
    inks = []
    for theme in ("Light", "Dark"):
        page.evaluate(f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}})")
        page.wait_for_function(f"document.body.dataset.jpThemeLight == '{str(theme == 'Light').lower()}'")
        result.scroll_into_view_if_needed()
        inks.append(result.locator("mark").first.evaluate("e => getComputedStyle(e).color"))
        if pictures := os.environ.get("RAGCUN_LAB_PICTURES"):
            Path(pictures).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=str(Path(pictures) / f"explorer_{theme.lower()}.png"))
    assert len(set(inks)) == 2                              # a marked word has the colour of the text in both
    page.close()

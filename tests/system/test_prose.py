"""Numbers that a page quotes from the record of another one: each phrase is made anew from the record, and has to stand
in the text. A page that draws its numbers itself has them in its outputs; a quoted one would stay."""
import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


def record(name):
    return json.loads((ROOT/"data"/"results"/f"{name}.json").read_text(encoding="utf-8"))


def text_of(page):
    cells = json.loads((ROOT/"nbs"/f"{page}.ipynb").read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def short(x, digits=1):
    "A number below 1 as the pages write it, without the 0."
    return f"{x:.{digits}f}".removeprefix("0")


def cells():
    ann = record("index_scale")["ann"]["IVF_RQ"]
    few, usual = ann["32 probes, refine 4"], ann["128 probes, refine 4"]
    return (f"{few['recall@10']:.0%} of the neighbours instead of {usual['recall@10']:.0%}".replace("%", " %")
            + " and saved one of seventeen milliseconds")


def quantised():
    sets = record("storage")["sets"]
    own, fifth = sets["mean kept, own model"], sets["cranfield"]["kept"]
    ways = ("fixed table, bits by rho", "fixed table, rotated")
    ours, rotated = ([100*own[b][w] for b in "21"] for w in ways)
    other, turned = ([100*fifth[b][w] for b in "21"] for w in ways)
    return (f"bits by ρ kept {ours[0]:.1f} % and {ours[1]:.1f} % where the rotated table kept {rotated[0]:.1f} and "
            f"{rotated[1]:.1f} %",
            f"{other[0]:.1f} and {other[1]:.1f} % where it kept {turned[0]:.1f} and {turned[1]:.1f} %")


def beyond_alpha():
    "How many times the rate that was asked for real questions got, at most, with a limit from synthetic ones."
    limits = record("documents_only")["limits"].values()
    return f"{max(v['without']/float(a) for r in limits for a, v in r['alpha'].items() if float(a) > .01):.1f} times"


def first_sentences():
    gains = sorted(c["heads"]["first one 0.95"][0] for c in record("documents_only")["collections"].values())
    return f"gained {short(gains[1])} to {gains[-1]:.1f} points on five and lost {short(-gains[0])} on one"


def on_code():
    rows = record("search_quality")["bases"]["all-MiniLM-L6-v2"]
    gains = [100*r["difference"]["base"]["mean"] for name, r in rows.items() if name.startswith("code")]
    return f"gains {gains[0]:.1f} and {gains[1]:.1f} points"


def directions():
    rows = record("quality")["rows"]
    heads = [r for r in rows if r["mode"] == "head"]
    low, high = ([f(100*r["participation_ratio"] for r in heads if r["seed"] == 0) for f in (min, max)])
    base = [100*r["base_participation_ratio"] for r in rows]
    least = min(100*r["participation_ratio"] for r in heads)
    return (f"fill {low:.0f} to {high:.0f} % of the directions where the base fills {min(base):.0f} to "
            f"{max(base):.0f} % ({least:.0f} % in one run of the second seed)")


def full_training():
    return f"{100*record('full')['rows'][0]['ragcun minus sentence-transformers']['mean']:.1f} points ahead"


def removed_answers():
    mean = record("no_answer")["sets"]["mean"]["positives_removed"]
    return f"by {100*(mean['rule']['auroc'] - mean['max_cosine']['auroc']):.0f} points of AUROC"


def real_tails():
    tails = [r["questions"]["tail"]["1e-05"] for r in record("null_calibration")["sets"].values() if "questions" in r]
    return f"and {short(min(tails))} to {max(tails):.1f} on [test questions]"


def scan():
    return f"{short(record('index_scale')['exact']['p50_ms']/1000, 2)} seconds for a million documents"


def encoded():
    speed = record("encoding")["speed"]["contestants"]["ragcun bf16"]["documents_per_second"]
    return f"{np.round(speed, -1):.0f} documents"


QUOTED = {"results/growth": [cells], "7_retrieval/09_quantization": [quantised], "tutorials/no_answer": [beyond_alpha],
          "results/no_answer": [beyond_alpha], "7_retrieval/11_retriever": [beyond_alpha],
          "results/documents_only": [beyond_alpha], "7_retrieval/15_adaptation": [first_sentences],
          "explain/words_and_meaning": [on_code], "results/quality": [directions],
          "tutorials/fine_tune_fully": [full_training], "7_retrieval/06_no_answer": [removed_answers],
          "7_retrieval/01_null": [real_tails], "7_retrieval/08_stores": [scan], "8_integrations/08_ray_data": [encoded]}


@pytest.mark.parametrize("page", QUOTED)
def test_quoted_numbers_are_those_of_the_record(page):
    text = " ".join(text_of(page).replace("`alpha`", "").split())
    for phrase in QUOTED[page]:
        for wanted in np.atleast_1d(phrase()):
            assert wanted in text, f"{page}: the record says {wanted!r}"


def test_a_changed_record_is_noticed(monkeypatch):
    "With another number in the record, the phrase is another one."
    was = full_training()
    changed = record("full")
    changed["rows"][0]["ragcun minus sentence-transformers"]["mean"] += .002
    monkeypatch.setitem(globals(), "record", lambda name: changed)
    assert full_training() != was
    with pytest.raises(AssertionError, match="the record says"):
        test_quoted_numbers_are_those_of_the_record("tutorials/fine_tune_fully")

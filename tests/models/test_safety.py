"""Loading cannot run code, leave its folder, or mix files of two models."""
import ast
import io
import os
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from ragcun.core import UserError, write_json
from ragcun.models.base import find_base, load_base
from ragcun.models.encoder import GaussianEncoder
from ragcun.models.saving import FORMAT, load_pt, pack_model
from ragcun.training.record import load_checkpoint, save_checkpoint
from small import ROOT, record, small_base

COUNT = {"tried": 0, "refused": 0}


class Bomb:
    "A pickle that makes a file when it is loaded."
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("safety")


@pytest.fixture(scope="module")
def model(place):
    "A saved model on the small random base."
    encoder = GaussianEncoder.from_base(str(small_base(place/"small")), 8, "cpu", "no")
    rng = np.random.default_rng(0)
    encoder.set_head(rng.normal(size=(8, 32)), rng.normal(size=8), np.linspace(.9, .1, 8))
    encoder.save(place/"model")
    pack_model(place/"model", place/"best_model.pt")
    return encoder


def refused(load, *words):
    "The load is refused in one line."
    COUNT["tried"] += 1
    with pytest.raises(UserError) as e:
        load()
    assert "\n" not in str(e.value) and all(w in str(e.value) for w in words), str(e.value)
    COUNT["refused"] += 1


def pickles(path, marker):
    "The same bomb in each form that torch.load knows."
    torch.save({"format": FORMAT, "files": Bomb(marker)}, path/"zip.pt")
    torch.save({"format": FORMAT, "files": Bomb(marker)}, path/"old.pt", _use_new_zipfile_serialization=False)
    (path/"raw.pt").write_bytes(pickle.dumps(Bomb(marker)))
    with tarfile.open(path/"tar.pt", "w") as t:
        data = pickle.dumps(Bomb(marker))
        info = tarfile.TarInfo("pickle")
        info.size = len(data)
        t.addfile(info, io.BytesIO(data))
    return [path/n for n in ("zip.pt", "old.pt", "raw.pt", "tar.pt")]


def test_pickles_that_run_code_are_refused(tmp_path):
    marker = str(tmp_path/"exploded")
    for path in pickles(tmp_path, marker):
        for load in (load_pt, GaussianEncoder.load, load_checkpoint):
            refused(lambda: load(path))  # noqa: B023
    assert not os.path.exists(marker)
    with open(tmp_path/"raw.pt", "rb") as f:
        pickle.load(f).close()
    assert os.path.exists(marker)  # the bomb works


@pytest.mark.parametrize("name", ["../escape", "/abs/escape", "a/../../escape", "..", "", "model/../../../escape",
                                  "a\0b", "a/../b/../../escape"])
def test_paths_that_leave_the_folder_are_refused(tmp_path, model, place, name):
    packed = load_pt(place/"best_model.pt")
    packed["files"][name] = torch.zeros(3, dtype=torch.uint8)
    torch.save(packed, tmp_path/"bad.pt")
    refused(lambda: GaussianEncoder.load(tmp_path/"bad.pt", "cpu"))
    assert not list(tmp_path.rglob("escape")) and not list(Path("/abs").glob("*"))


@pytest.mark.parametrize("value", ["text", 3, None, [1], {"a": torch.zeros(2)}])
def test_entries_that_are_no_files_are_refused(tmp_path, model, place, value):
    packed = load_pt(place/"best_model.pt")
    packed["files"]["extra"] = value
    torch.save(packed, tmp_path/"bad.pt")
    refused(lambda: GaussianEncoder.load(tmp_path/"bad.pt", "cpu"))


@pytest.mark.parametrize("what", [{}, {"format": "ragcun-9"}, {"format": FORMAT}, {"format": FORMAT, "files": {}},
                                  [1, 2], 7, {"format": FORMAT, "files": [1]}])
def test_other_pt_files_are_refused(tmp_path, what):
    torch.save(what, tmp_path/"bad.pt")
    refused(lambda: GaussianEncoder.load(tmp_path/"bad.pt", "cpu"))
    refused(lambda: load_checkpoint(tmp_path/"bad.pt"))


def test_a_zip_bomb_or_text_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path/"z.pt", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("archive/data.pkl", b"\0"*10**7)
    (tmp_path/"t.pt").write_text("hello")
    for name in ("z.pt", "t.pt"):
        refused(lambda: GaussianEncoder.load(tmp_path/name, "cpu"))  # noqa: B023


def swap(folder, name, change):
    "Change a file of a copied model."
    path = folder/name
    path.write_bytes(change(path.read_bytes()))


def flipped(data):
    data = bytearray(data)
    data[-5] ^= 64
    return bytes(data)


@pytest.mark.parametrize("name",
                         ["model.safetensors", "ragcun.safetensors", "ragcun.json", "modules.json", "config.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "empty"])
def test_damaged_model_files_are_refused(tmp_path, model, place, name, damage):
    shutil.copytree(place/"model", tmp_path/"m")
    found = next(p for p in (tmp_path/"m").rglob(name))
    if damage == "gone":
        found.unlink()
    else:
        swap(found.parent, name, {"cut": lambda d: d[:len(d)//2], "flip": flipped, "empty": lambda d: b""}[damage])
    if damage == "flip" and name.endswith(".json"): return  # may be a harmless space
    refused(lambda: GaussianEncoder.load(tmp_path/"m", "cpu"))


@pytest.mark.parametrize("name, old, new", [("1_Pooling/config.json", '"mean"', '"cls"'),
                                            ("tokenizer.json", '"lowercase": true', '"lowercase": false')])
def test_the_same_weights_used_in_another_way_are_refused(tmp_path, model, place, name, old, new):
    shutil.copytree(place/"model", tmp_path/"m")
    path = tmp_path/"m"/name
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    refused(lambda: GaussianEncoder.load(tmp_path/"m", "cpu"), "other vectors")


def test_files_of_two_models_are_not_mixed(tmp_path, model, place):
    other = GaussianEncoder.from_base(str(place/"small"/"base"), 8, "cpu", "no")
    other.save(tmp_path/"other")
    for name in ("ragcun.safetensors", "ragcun.json"):
        shutil.copytree(place/"model", tmp_path/name)
        shutil.copy(tmp_path/"other"/name, tmp_path/name/name)
        if name == "ragcun.safetensors":
            refused(lambda: GaussianEncoder.load(tmp_path/name, "cpu"), "mixed")  # noqa: B023
    narrow = other.truncate(4)
    narrow.save(tmp_path/"narrow")
    shutil.copytree(place/"model", tmp_path/"dims")
    shutil.copy(tmp_path/"narrow"/"ragcun.safetensors", tmp_path/"dims")
    refused(lambda: GaussianEncoder.load(tmp_path/"dims", "cpu"), "4", "8")


def remote_code(folder, place, marker):
    "A base whose configuration names code of its own."
    shutil.copytree(place/"small"/"base", folder)
    (folder/"evil.py").write_text(f"open({str(marker)!r}, 'w')\n"
                                  "from sentence_transformers.sentence_transformer.modules import Normalize\n"
                                  "class Evil(Normalize): pass\n")
    import json
    modules = json.loads((folder/"modules.json").read_text())
    modules.append({"idx": len(modules), "name": "9", "path": "", "type": "evil.Evil"})
    write_json(folder/"modules.json", modules)
    config = json.loads((folder/"config.json").read_text()) if (folder/"config.json").exists() else {}
    write_json(folder/"config.json", {**config, "auto_map": {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"}})
    return folder


def test_code_of_a_base_does_not_run(tmp_path, model, place):
    folder = remote_code(tmp_path/"base", place, tmp_path/"ran")
    try:
        load_base(folder)
    except UserError:
        COUNT["refused"] += 1
    COUNT["tried"] += 1
    assert not (tmp_path/"ran").exists()


def test_a_pickled_base_does_not_run(tmp_path, model, place):
    "pytorch_model.bin with a bomb in it."
    folder = tmp_path/"base"
    shutil.copytree(place/"small"/"base", folder)
    next(folder.rglob("model.safetensors")).unlink()
    torch.save({"x": Bomb(str(tmp_path/"ran"))}, folder/"pytorch_model.bin")
    refused(lambda: load_base(folder))
    assert not (tmp_path/"ran").exists()


def test_a_trained_model_is_no_base(model, place):
    refused(lambda: find_base(place/"model"), "trained ragcun model")


def test_a_symlink_as_output_is_not_followed_outside(tmp_path):
    "A checkpoint is renamed over a link, not written through it."
    (tmp_path/"victim").write_text("precious")
    (tmp_path/"run").mkdir()
    os.symlink(tmp_path/"victim", tmp_path/"run"/"checkpoint_step_1.pt")
    save_checkpoint(tmp_path/"run", "step_1", {"step": 1, "epoch": 0})
    assert (tmp_path/"victim").read_text() == "precious"


def unsafe_calls(tree):
    "Calls that could run code from a file."
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call): continue
        name = ast.unparse(node.func)
        keys = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if name == "torch.load" and keys.get("weights_only") != "True":
            yield name
        if name in ("pickle.load", "pickle.loads", "joblib.load", "eval", "exec", "os.system", "yaml.load",
                    "yaml.unsafe_load", "marshal.loads"):
            yield name
        if name.endswith("np.load") and keys.get("allow_pickle", "False") != "False":
            yield name
        if name.startswith("subprocess.") and keys.get("shell") == "True":
            yield name
        if keys.get("trust_remote_code") == "True":
            yield name
        if name.endswith("extractall"):
            yield name


def test_no_unsafe_call_in_the_package():
    for path in (ROOT/"ragcun").glob("*.py"):
        assert not list(unsafe_calls(ast.parse(path.read_text()))), path.name
    assert (list(unsafe_calls(ast.parse("torch.load(p); pickle.loads(b); f(trust_remote_code=True)")))
            == ["torch.load", "pickle.loads", "f"])


def test_figures():
    assert COUNT["tried"] >= COUNT["refused"]
    record("malicious", "files", dict(COUNT))

"""What runs in the processes that the tests kill: a training run that dies where it is told to."""
import json
import os
import resource
import signal
import time
from pathlib import Path

import torch

from ragcun.core import logger, setup_logging
from ragcun.data.pairs import load_pairs, pairs_to_retrieval
from ragcun.models.encoder import GaussianEncoder
from ragcun.training.config import TrainConfig, resolve_defaults
from ragcun.training.learner import Interrupted, Learner
from small import processed

SETTINGS = {"head": dict(freeze_base=True, epochs=2, batch_size=12, save_steps=2, mixed_precision="no", n_slices=8),
            "full": dict(epochs=2, batch_size=12, save_steps=3, mixed_precision="no", n_slices=8),
            "accumulated": dict(epochs=1, batch_size=12, save_steps=1, mixed_precision="no", n_slices=8,
                                micro_batch_tokens=150)}


class Killer:
    "Counts what a run does to its files and steps, and dies at the event it is given."
    def __init__(self, at=None):
        self.at = at
        self.count = 0

    def event(self, half=None):
        if self.count == self.at:
            if half:
                half()
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1

    def around(self, owner, name, half=None):
        real = getattr(owner, name)
        def call(*args, **kwargs):
            self.event()
            if half:
                self.event(lambda: half(real, *args, **kwargs))
            result = real(*args, **kwargs)
            self.event()
            return result
        setattr(owner, name, call)


def _half_file(save, state, path, *args, **kwargs):
    "What a kill in the middle of a write leaves."
    save(state, path)
    os.truncate(path, os.path.getsize(path)//2)


def _half_line(log, learner, row):
    with open(learner.output_dir/"metrics.jsonl", "ab") as f:
        f.write(json.dumps(row).encode()[:40])


def kill_at(at):
    "Patch saves, renames, deletions, flushes, log lines and steps of this process."
    killer = Killer(at)
    killer.around(torch, "save", _half_file)
    killer.around(Learner, "log", _half_line)
    killer.around(Learner, "step")
    if at is not None and at < 0:
        _kill_before_step(-at)
    for name in ("replace", "fsync"):
        killer.around(os, name)
    killer.around(Path, "unlink")
    killer.around(Path, "write_text", lambda real, path, text, **kw: real(path, text[:len(text)//2], **kw))
    return killer


def _kill_before_step(n):
    real = Learner.step
    def step(self, rows):
        if self.at.step == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, rows)
    Learner.step = step


def make_learner(base, folder, mode="head", **more):
    "A learner on the tracked example data."
    setup_logging(Path(folder)/"training.log")
    config = resolve_defaults(TrainConfig(**{**SETTINGS[mode], **more}), 43)
    model = GaussianEncoder.from_base(base, None, "cpu", "no")
    return Learner(model, load_pairs(processed("train.json")), pairs_to_retrieval(load_pairs(processed("val.json"))),
                   config, folder)


def train(base, folder, mode="head", kill=None, more=None):
    """Train to the end, from the newest checkpoint on; with `kill`, die at that event (below 0: before that step).
    final.pt holds all of the end state."""
    os.environ["RAGCUN_CACHE"] = str(Path(folder).parent/"cache")
    Path(folder).mkdir(exist_ok=True)
    learner = make_learner(base, folder, mode, resume_from="auto", **(more or {}))
    killer = kill_at(kill)
    learner.resume()
    try:
        model = learner.train()
    except Interrupted as e:
        logger.info("%s", e)
        return 128 + e.number
    n = killer.count
    killer.at = None
    final = {"state": learner.state(), "rho": model.rho, "rows": learner.rows}
    torch.save({**final, "events": n}, Path(folder)/"final.pt")
    return 0


def slow_train(base, folder, mode, seconds):
    "The same with long steps, to have time for signals."
    real = Learner.step
    def step(self, rows):
        (Path(folder)/"in_step").touch()
        time.sleep(seconds)
        return real(self, rows)
    Learner.step = step
    return train(base, folder, mode)


def train_with_little_disk(base, folder, mode, size):
    "The same where no file may be longer than `size` bytes."
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return _one_line(train, base, folder, mode)


def command_with_little_disk(argv, size):
    "The command where no file may be longer than `size` bytes."
    from ragcun.cli.commands import main
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return main(argv)


def index_beside_another_datasets(folder):
    "An index where somebody has tried to import `datasets` and found a folder of that name."
    import sys
    import types

    from ragcun.retrieval.retriever import GaussianRetriever
    from tiny_encoder import TinyEncoder
    assert "lancedb" not in sys.modules
    found = sys.modules["datasets"] = types.ModuleType("datasets")
    index = GaussianRetriever(TinyEncoder(), folder)
    index.add(["sea ice", "bread"])
    print([h.text for h in index.search("ice", top_k=1)], sys.modules["datasets"] is found)


def train_without_rights(base, folder, mode):
    "The same as a user who may not write into the folder (root becomes another user, once all is loaded)."
    os.environ["RAGCUN_CACHE"] = str(Path(folder).parent/"cache")
    learner = make_learner(base, folder, mode, resume_from="auto")
    learner.validation.measure(learner.critic)
    learner.stepper.optimizer.state_dict()
    b"".decode("utf-8-sig")
    if os.geteuid() == 0:
        os.setuid(65534)
    learner.resume()
    return _one_line(learner.train)


def _one_line(function, *args):
    from ragcun.core import UserError
    try:
        return function(*args)
    except UserError as e:
        print(f"one line: {e}", flush=True)
        return 2


def check_refusals(base, folder, place):  # noqa: C901
    "Other settings, data, validation data or base: refused with the list; --allow_changes goes on."
    import shutil

    from ragcun.core import UserError
    os.environ["RAGCUN_CACHE"] = str(Path(place)/"cache")
    def refused(change, *words, **more):
        learner = make_learner(base, folder, resume_from="auto", **more)
        change(learner)
        try:
            learner.resume()
        except UserError as e:
            assert all(w in str(e) for w in (*words, "--allow_changes")), str(e)
        else:
            raise AssertionError(f"not refused: {words}")
    refused(lambda learner: None, "seed: 42 then, 7 now", "tau", seed=7, tau=.3)
    other = Path(place)/"other_base"
    shutil.copytree(base, other)
    from safetensors.torch import load_file, save_file
    weights = load_file(str(other/"model.safetensors"))
    save_file({k: v*1.01 for k, v in weights.items()}, str(other/"model.safetensors"), {"format": "pt"})
    config = resolve_defaults(TrainConfig(**SETTINGS["head"], resume_from="auto"), 43)
    pairs = load_pairs(processed("train.json"))
    val = pairs_to_retrieval(load_pairs(processed("val.json")))
    def learner(base=base, pairs=pairs, val=val):
        model = GaussianEncoder.from_base(base, None, "cpu", "no")
        model.base_id = "base"
        return Learner(model, pairs, val, config, folder)
    def same_name(of):
        of.model.base_id = "base"
    for changed, word in ((learner(pairs=pairs[:42]), "training pairs"), (learner(str(other)), "base"),
                          (learner(val=pairs_to_retrieval(load_pairs(processed("val.json"))[:5])), "validation")):
        changed.model.base_id = base
        try:
            changed.resume()
        except UserError as e:
            assert word in str(e), str(e)
        else:
            raise AssertionError(f"another {word} is not refused")
    allowed = make_learner(base, folder, resume_from="auto", allow_changes=True, tau=.3)
    allowed.resume()
    assert allowed.at.step > 0
    wider = make_learner(base, folder, resume_from="auto", allow_changes=True)
    wider.model.truncate(8)
    small = Learner(wider.model.truncate(8), pairs, val,
                    resolve_defaults(TrainConfig(**SETTINGS["head"], resume_from="auto", allow_changes=True), 43),
                    folder)
    try:
        small.resume()
    except UserError as e:
        assert "shape" in str(e) or "size" in str(e), str(e)
    else:
        raise AssertionError("another dimension was taken")


def check_interrupt(base):
    "An interrupt in the middle of a step, as in Jupyter: the learner goes on and ends well."
    os.environ["RAGCUN_CACHE"] = str(Path(base).parent/"cache")
    import ragcun.training.learner as module
    learner = make_learner(base, Path(base).parent/"interrupt")
    learner.output_dir = None
    real = module.pos_dist
    calls = []
    def interrupt(*args):
        calls.append(1)
        if len(calls) == 4:  # the first call is the measurement before any step
            raise KeyboardInterrupt
        return real(*args)
    module.pos_dist = interrupt
    try:
        learner.train()
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError("was not interrupted")
    at = learner.at.step
    assert at == 2 and torch.isfinite(learner.model.head.weight).all()
    learner.train()
    assert learner.at.epoch == 2 and learner.at.step == learner.total_steps
    with_folder = make_learner(base, Path(base).parent/"interrupt2")
    real_step, before = Learner.step, signal.getsignal(signal.SIGINT)
    def step(self, rows):
        if self.at.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return real_step(self, rows)
    Learner.step = step
    try:
        with_folder.train()
    except KeyboardInterrupt as e:      # no Exception, which a loop over many runs would take for one that failed
        assert isinstance(e, Interrupted) and "TrainConfig(resume_from='auto')" in str(e)
    Learner.step = real_step
    assert with_folder.at.step == 3
    with_folder.train()
    assert with_folder.at.step == with_folder.total_steps
    assert signal.getsignal(signal.SIGINT) is before


def check_not_finite(base, folder):
    """A broken weight makes the loss NaN: one line with rows; batch and state are on disk, and the state is the one
    before."""
    from ragcun.core import UserError, read_json
    os.environ["RAGCUN_CACHE"] = str(Path(folder).parent/"cache")
    Path(folder).mkdir()
    learner = make_learner(base, folder)
    real = learner.source.encode
    def encode(layout, part):
        z = real(layout, part)
        return z*float("nan") if learner.at.step == 3 else z
    learner.source.encode = encode
    try:
        learner.train()
    except UserError as e:
        assert "step 3" in str(e) and "rows" in str(e), str(e)
    else:
        raise AssertionError("not stopped")
    bad = read_json(Path(folder)/"not_finite.json")
    assert bad["step"] == 3 and len(bad["pairs"]) == len(bad["rows"]) == 7
    assert all(p["query"] for p in bad["pairs"])
    again = make_learner(base, folder, resume_from="auto")
    again.resume()
    assert again.at.step == 3 and torch.isfinite(again.model.head.weight).all()
    again.train()


def check_out_of_memory(base):
    "Memory runs out above 8 texts at a time: the same losses to 1e-5 as with enough of it, and it says so."
    import logging
    notes = []
    class Keep(logging.Handler):
        def emit(self, record):
            notes.append(record.getMessage())
    os.environ["RAGCUN_CACHE"] = str(Path(base).parent/"cache")
    def losses(limit):
        torch.manual_seed(0)
        learner = make_learner(base, Path(base).parent/"oom", "full", epochs=1)
        learner.output_dir = None
        for module in learner.model.base.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if hasattr(module, "dropout_prob"):
                module.dropout_prob = 0.0
        learner.model.base[0].auto_model.config.attention_probs_dropout_prob = 0.0
        learner.model.base[0].auto_model.set_attn_implementation("eager")
        real = learner.source.encode
        def encode(layout, part):
            if len(part) > limit:
                raise torch.OutOfMemoryError("out of memory")
            return real(layout, part)
        learner.source.encode = encode
        from ragcun.core import logger
        logger.addHandler(Keep())
        learner.train()
        return [r["loss"] for r in learner.rows if r["kind"] == "step"]
    enough = losses(10**9)
    assert not any("out of memory" in n for n in notes)
    scarce = losses(8)
    assert any("out of memory: going on in parts of" in n for n in notes)
    assert max(abs(a - b) for a, b in zip(enough, scarce, strict=True)) < 1e-4, (enough, scarce)


def soak(base, folder, steps):
    "Resident memory after a fifth of the steps and after all of them, in MB."
    os.environ["RAGCUN_CACHE"] = str(Path(folder).parent/"cache")
    Path(folder).mkdir()
    learner = make_learner(base, folder, epochs=-(-steps//4), patience=0, save_steps=0)
    seen = {}
    real = Learner.run_epoch
    def run_epoch(self):
        row = real(self)
        self.rows.clear()  # those are bounded by their number
        with open("/proc/self/statm") as f:
            seen[self.at.step] = int(f.read().split()[1])*os.sysconf("SC_PAGE_SIZE")/2**20
        return row
    Learner.run_epoch = run_epoch
    learner.train()
    marks = sorted(seen)
    print("soak", seen[next(m for m in marks if m >= steps//5)], seen[marks[-1]], flush=True)

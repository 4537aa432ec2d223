"""Several processes give the numbers of one: gradients to 1e-10 in float64, losses of whole runs, clear ends when
one dies."""
import signal
import subprocess
import sys
import time

import pytest
import torch

import distributed_jobs as jobs
from small import free_port, json_lines, processed, small_base, together


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("distributed")


@pytest.fixture(scope="module")
def base(place):
    return str(small_base(place/"small", dropout=0.0))


@pytest.fixture(scope="module")
def reference(base, place):
    "Gradients of one process on the whole batch at once."
    made = {}
    def get(batch):
        if batch not in made:
            out = place/f"one_{batch}.pt"
            codes, texts = together(jobs.gradients, 1, base, "plain", batch, place=place, last=(str(out),))
            assert codes == [0], texts
            made[batch] = torch.load(out)
        return made[batch]
    return get


def distance(a, b):
    "Largest difference of two sets of gradients, in units of the largest gradient."
    assert set(a["grad"]) == set(b["grad"])
    scale = max(float(g.abs().max()) for g in a["grad"].values())
    return max(float((a["grad"][k] - b["grad"][k]).abs().max())
               for k in a["grad"])/scale, abs(float(a["loss"] - b["loss"]))


@pytest.mark.parametrize("kind,world,batch",
                         [("accumulated", 1, 12), ("cached", 1, 12), ("plain", 2, 12), ("accumulated", 2, 12),
                          ("cached", 2, 12), ("plain", 4, 12), ("cached", 4, 12), ("plain", 4, 1)])
def test_gradients_equal_one_process(base, place, reference, kind, world, batch):
    "Also with fewer texts than processes."
    out = place/f"{kind}{world}_{batch}.pt"
    codes, texts = together(jobs.gradients, world, base, kind, batch, place=place, last=(str(out),))
    assert codes == [0]*world, texts
    assert max(distance(reference(batch), torch.load(out))) < 1e-10


def test_the_comparison_can_fail(reference):
    a = reference(12)
    b = {"loss": a["loss"], "grad": {k: g*(1 + 1e-9) for k, g in a["grad"].items()}}
    assert max(distance(a, b)) > 1e-10


def losses(folder):
    return [r["loss"] for r in json_lines(folder/"metrics.jsonl") if r["kind"] == "step"]


@pytest.fixture(scope="module")
def alone(base, place):
    made = {}
    def run(mode):
        folder = place/f"alone_{mode}"
        if mode not in made:
            codes, texts = together(jobs.train_together, 1, base, str(folder), mode, place=place)
            assert codes == [0], texts
            made[mode] = losses(folder)
        return made[mode]
    return run


@pytest.mark.parametrize("mode,world", [("head", 2), ("full", 2), ("accumulated", 4)])
def test_runs_equal_one_process(base, place, alone, mode, world):
    "Every loss of a run, to 1e-4 in float32 (the base without dropout)."
    folder = place/f"together_{mode}"
    codes, texts = together(jobs.train_together, world, base, str(folder), mode, place=place)
    assert codes == [0]*world, texts
    assert losses(folder) == pytest.approx(alone(mode), abs=1e-4)


def test_bf16_in_two_processes(base, place):
    folder = place/"bf16"
    codes, texts = together(jobs.train_together, 2, base, str(folder), "full", place=place,
                            last=({"mixed_precision": "bf16", "epochs": 1},))
    assert codes == [0, 0], texts


def test_one_of_two_is_killed(base, place, alone):
    "The other ends in one line within a minute; one process goes on with the right data to the same losses."
    alone("head")
    folder = place/"killed"
    started = time.time()
    codes, texts = together(jobs.train_together, 2, base, str(folder), "head", place=place, last=(None, 5))
    assert codes == [2, -signal.SIGKILL] and time.time() - started < 60, texts
    assert "another process of this run has ended" in texts[0] and "Traceback" not in texts[0]
    codes, texts = together(jobs.train_together, 1, base, str(folder), "head", place=place)
    assert codes == [0] and "resumed from checkpoint" in texts[0]
    assert losses(folder) == pytest.approx(alone("head"), abs=1e-4)


def test_a_signal_to_one_stops_all_at_the_same_step(base, place):
    folder = place/"stopped"
    codes, texts = together(jobs.stop_one, 2, base, str(folder), place=place)
    assert codes == [128 + signal.SIGTERM]*2, texts
    assert len(losses(folder)) == 3 and (folder/"checkpoint_step_3.pt").exists()


def test_not_finite_ends_all(base, place):
    (place/"nan").mkdir()
    codes, texts = together(jobs.not_finite_together, 2, base, str(place/"nan"), place=place)
    assert codes == [2, 2] and all("rows" in t for t in texts), texts


def test_an_index_of_several_processes_is_whole_before_the_first_speaks(base, place):
    "And the others say nothing: number, null, limit and export are those of all documents."
    (place/"rows.jsonl").write_text("".join(f'{{"id": "{i}", "text": "plant {i} of earth"}}\n' for i in range(1030)))
    flags = ["index", "--base_model", base, "--documents", str(place/"rows.jsonl"), "--device", "cpu", "--index_dir"]
    codes, texts = together(jobs.command_together, 2, [*flags, str(place/"index")], place=place)
    assert codes == [0, 0] and "1,030 documents in" in texts[0] and not texts[1].strip(), texts
    codes, texts = together(jobs.command_together, 2, [*flags, str(place/"fitted"), "--fit"], place=place)
    assert codes == [2, 2] and "a fit is made by one process" in texts[0]
    codes, texts = together(jobs.command_together, 2, ["encode", "--model_path", str(place/"index"/"model"), "--input",
                                                       str(place/"rows.jsonl"), "--output", "z.npy"], place=place)
    assert codes == [2, 2] and "several processes cannot write one file" in texts[0]


def test_one_of_several_processes_warns(base, place):
    flags = ["train", "--train_data", processed("train.json"), "--val_data", processed("val.json"), "--base_model",
             base, "--freeze_base", "--epochs", "1", "--device", "cpu", "--output_dir", str(place/"quiet")]
    codes, texts = together(jobs.command_together, 2, flags, place=place)
    assert codes == [0, 0] and "nothing was learned yet" in texts[0] and not texts[1].strip(), texts


@pytest.mark.slow
def test_torchrun_equals_one_process(base, place):
    "The command under torchrun with two processes: losses, best model and report of one."
    def run(name, *launcher):
        flags = ["train", "--train_data", processed("train.json"), "--val_data", processed("val.json"), "--base_model",
                 base, "--freeze_base", "--epochs", "2", "--batch_size", "12", "--mixed_precision", "no", "--device",
                 "cpu", "--output_dir", str(place/name)]
        done = subprocess.run([sys.executable, *launcher, "-m", "ragcun.cli.commands", *flags], capture_output=True,
                              text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        return losses(place/name)
    two = run("torchrun", "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port", str(free_port()))
    assert two == pytest.approx(run("one"), abs=1e-4)
    from ragcun.models.encoder import GaussianEncoder
    a, b = (GaussianEncoder.load(place/n/"best_model.pt", "cpu") for n in ("torchrun", "one"))
    assert torch.allclose(a.head.weight, b.head.weight, atol=1e-3)

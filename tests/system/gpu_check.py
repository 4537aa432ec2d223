"""What only a GPU can show, in one script of a few minutes; on a machine without one its parts say so.

    python tests/system/gpu_check.py [--base FOLDER] [--output data/results/gpu.json] [--small]

Needs torch, transformers, sentence-transformers, numpy, scipy and this repository. The base is a folder (an fp16 copy
of a small model fits 60 MiB), or a random one where none is given. Each check is a plain function of a `Setup` and
returns numbers; tests call the same functions. One that fails is recorded with its reason, and the rest goes on.
"""
from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT/"tests")]
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from ragcun.core import UserError, machine_info, set_seed, supports_bf16, write_json  # noqa: E402
from ragcun.data.collections import RetrievalData  # noqa: E402
from ragcun.data.pairs import PairSet, pairs_to_retrieval  # noqa: E402
from ragcun.models.base import token_counts  # noqa: E402
from ragcun.models.encoder import GaussianEncoder  # noqa: E402
from ragcun.training.config import TrainConfig, resolve_defaults  # noqa: E402
from ragcun.training.learner import Learner  # noqa: E402
from ragcun.training.step import Stepper  # noqa: E402


@dataclass(frozen=True)
class Setup:
    "What every check works with."
    base: str               # folder of the base
    device: str             # "cuda" or "cpu"
    pairs: PairSet          # to train on
    val: RetrievalData      # held out
    place: Path             # an empty folder

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("cuda")

    def encoder(self, precision: str = "no") -> GaussianEncoder:
        set_seed(0)
        return GaussianEncoder.from_base(self.base, None, self.device, precision)


class Skipped(Exception):
    "A check that this machine cannot make."


def prepared(base: str | None, place: Path, small: bool) -> Setup:
    "Texts and a base, from what is on the machine."
    from ragcun.data.generation import python_package_pairs
    from small import small_base
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pairs = python_package_pairs(max_pairs=120 if small else 1200, seed=0)
    pairs = pairs if isinstance(pairs, PairSet) else PairSet(pairs)
    cut = len(pairs)*4//5
    val = pairs_to_retrieval(pairs[cut:])
    return Setup(base or str(small_base(place/"random", width=64)), device, pairs[:cut], val, place)


def learner(setup: Setup, output: Path | None = None, **options: Any) -> Learner:
    "A full training run that has not begun."
    set_seed(0)
    given = {"epochs": 1, "batch_size": 32, "val_documents": 200, "line_search": False, "finish_head": False,
             "mixed_precision": "no"}
    config = resolve_defaults(TrainConfig(**given | options), len(setup.pairs))
    model = setup.encoder(str(config.mixed_precision))
    for p in model.base.parameters():
        p.requires_grad_(True)
    return Learner(model, setup.pairs, setup.val, config, output)


def trained(run: Learner) -> Learner:
    "To the end, from the checkpoint that it was told of."
    run.resume()
    run.train()
    return run


def losses(run: Learner) -> list[float]:
    return [round(float(r["loss"]), 5) for r in run.rows if r.get("kind") == "step"]


def precisions(setup: Setup) -> list[str]:
    return ["no"] + ["bf16"]*supports_bf16(setup.device) + ["fp16"]*setup.on_gpu


# ---- the checks ----

def half_precision(setup: Setup) -> dict[str, Any]:
    "Loss curves of bf16 and fp16 lie on that of float32; steps that overflowed are counted."
    found: dict[str, Any] = {}
    for precision in precisions(setup):
        run = learner(setup, mixed_precision=precision)
        started = time.perf_counter()
        trained(run)
        curve = losses(run)
        assert np.isfinite(curve).all(), f"{precision}: a loss is not finite"
        found[precision] = {"losses": curve, "skipped": run.stepper.skipped,
                            "seconds": round(time.perf_counter() - started, 2)}
    whole = np.array(found["no"]["losses"])
    for precision, row in found.items():
        row["farthest"] = round(float(np.abs(np.array(row["losses"]) - whole).max()/np.abs(whole).max()), 4)
        assert row["farthest"] < .1, f"{precision} leaves the curve of float32 by {row['farthest']:.0%}"
    return found


def overflow(setup: Setup) -> dict[str, Any]:
    "An infinite gradient in fp16 moves nothing and is counted; gradients are unscaled before they are clipped."
    if not setup.on_gpu:
        raise Skipped("fp16 needs a GPU")
    weight = torch.nn.Parameter(torch.ones(4, device=setup.device))
    stepper = Stepper(torch.optim.SGD([{"params": [weight], "lr": .1, "name": "w"}]), lambda step: 1.0, "cuda", "fp16")
    stepper.scaler.scale((weight*torch.inf).sum()).backward()
    stepper.apply()
    assert stepper.skipped == 1 and bool((weight == 1).all()), "a step with an infinite gradient was taken"
    stepper.scaler.scale((weight*3).sum()).backward()
    norm = stepper.apply()
    assert abs(norm - 6) < 1e-3, f"the gradient is 6 long, {norm} was clipped"
    moved = float((1 - weight).norm())
    assert abs(moved - .1) < 1e-3, f"a gradient clipped to 1 at rate .1 moved the weights by {moved}"
    return {"skipped": stepper.skipped, "norm": norm, "moved": round(moved, 4)}


def resume(setup: Setup) -> dict[str, Any]:
    "A run that goes on after its first epoch ends where the whole one does, scaler included."
    from ragcun.training.record import load_checkpoint
    precision = precisions(setup)[-1]
    whole = learner(setup, setup.place/"whole", epochs=2, mixed_precision=precision, deterministic=True)
    trained(whole)
    shutil.copytree(setup.place/"whole", setup.place/"part")
    first = setup.place/"part"/"checkpoint_epoch_1.pt"
    held = load_checkpoint(first)["scaler"]
    again = learner(setup, setup.place/"part", epochs=2, mixed_precision=precision, deterministic=True,
                    resume_from=str(first))
    trained(again)
    far = max(float((a.float() - b.float()).abs().max()) for a, b in
              zip(whole.model.state_dict().values(), again.model.state_dict().values(), strict=True))
    assert far < 1e-6 or setup.on_gpu and far < 1e-3, f"weights differ by {far} after a resume"
    assert whole.stepper.scaler.state_dict() == again.stepper.scaler.state_dict(), "the scaler differs after a resume"
    return {"precision": precision, "weights_differ_by": far, "bit_for_bit": far == 0.0,
            "scale_at_the_checkpoint": held.get("scale")}


def memory(setup: Setup) -> dict[str, Any]:
    "The most GiB of a step: as it is, with checkpointing, in parts at equal loss."
    if not setup.on_gpu:
        raise Skipped("memory of a GPU")
    found = {}
    for name, options in (("plain", {}), ("gradient_checkpointing", {"gradient_checkpointing": True}),
                          ("in parts", {"micro_batch_tokens": 2048})):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        run = learner(setup, batch_size=128, mixed_precision=precisions(setup)[1], **options)
        trained(run)
        found[name] = {"peak_gib": round(torch.cuda.max_memory_allocated()/2**30, 3), "first_loss": losses(run)[0]}
        del run
    return found


def out_of_memory(setup: Setup) -> dict[str, Any]:
    "Under a memory cap a run goes on in parts, or says in one line what to take less of."
    if not setup.on_gpu:
        raise Skipped("a cap on the memory of a GPU")
    total = torch.cuda.get_device_properties(0).total_memory
    found = {}
    for gib in (3.0, 1.0, .4):
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(min(1.0, gib*2**30/total))
        try:
            run = learner(setup, batch_size=256)
            trained(run)
            found[f"{gib} GiB"] = f"went on in parts of {run.source.budget} tokens" if run.recompute else "enough"
        except UserError as e:
            found[f"{gib} GiB"] = str(e)
        except torch.OutOfMemoryError:
            found[f"{gib} GiB"] = "too little for the model itself"
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    return found


def encoding_speed(setup: Setup) -> dict[str, Any]:
    "Tokens a second beside sentence-transformers, same base, same texts, same precision."
    from sentence_transformers import SentenceTransformer
    texts = [p.positive for p in setup.pairs]
    found: dict[str, Any] = {}
    plain = SentenceTransformer(setup.base, device=setup.device).float()
    for precision in precisions(setup):
        model = setup.encoder(precision)
        tokens = sum(token_counts(model.base, texts))
        dtype = torch.float16 if precision == "fp16" else torch.bfloat16
        def theirs(dtype: torch.dtype = dtype, on: bool = precision != "no") -> None:
            with torch.autocast(setup.device, dtype, enabled=on):
                plain.encode(texts, batch_size=64, show_progress_bar=False)
        found[precision] = {name: round(tokens/_seconds(work, setup)) for name, work in
                            (("ragcun", lambda m=model: m.compute_features(texts)), ("sentence-transformers", theirs))}
    return found


def training_speed(setup: Setup) -> dict[str, Any]:
    "Pairs a second and peak memory beside MultipleNegativesRankingLoss in a plain loop."
    precision = precisions(setup)[min(1, len(precisions(setup)) - 1)]
    run = learner(setup, mixed_precision=precision)
    _reset_peak(setup)
    ours = _seconds(lambda: trained(run), setup, warm=False)
    peak = _peak(setup)
    _reset_peak(setup)
    theirs = _seconds(lambda: mnrl(setup, precision), setup, warm=False)
    n = len(setup.pairs)
    return {"precision": precision, "ragcun": {"pairs_a_second": round(n/ours, 1), "peak_gib": peak},
            "MNRL": {"pairs_a_second": round(n/theirs, 1), "peak_gib": _peak(setup)},
            "note": "ragcun's seconds hold its validation"}


def mnrl(setup: Setup, precision: str) -> None:
    "An epoch of sentence-transformers' loss."
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    base = setup.encoder(precision).base.train()
    loss_of = MultipleNegativesRankingLoss(base)
    optimizer = torch.optim.AdamW(base.parameters(), 5e-5)
    for start in range(0, len(setup.pairs), 32):
        rows = setup.pairs[start:start + 32]
        inputs = [{k: v.to(setup.device) if isinstance(v, torch.Tensor) else v for k, v in base.preprocess(t).items()}
                  for t in ([p.query for p in rows], [p.positive for p in rows])]
        with torch.autocast(setup.device, torch.bfloat16, enabled=precision != "no"):
            loss = loss_of(inputs, torch.empty(0))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def two_processes(setup: Setup) -> dict[str, Any]:
    "Two processes over NCCL have the loss of one."
    if torch.cuda.device_count() < 2:
        raise Skipped(f"{torch.cuda.device_count()} GPUs")
    script = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", __file__, "--worker",
              "--base", setup.base, "--output", str(setup.place/"two.json")]
    subprocess.run(script, check=True, timeout=240)
    from ragcun.core import read_json
    two = read_json(setup.place/"two.json")["losses"]
    run = learner(setup)
    trained(run)
    far = float(np.abs(np.array(two) - np.array(losses(run))).max())
    assert far < 1e-2, f"the losses of one and of two processes differ by {far}"
    return {"losses_differ_by": far}


def worker(base: str, output: str, small: bool) -> None:
    "One of the two."
    from ragcun.cli.flags import join_processes
    device = join_processes("cuda")
    with tempfile.TemporaryDirectory() as d:
        setup = prepared(base, Path(d), small)
        run = learner(Setup(base, device, setup.pairs, setup.val, Path(d)))
        trained(run)
    if int(os.environ["RANK"]) == 0:
        write_json(output, {"losses": losses(run)})


# ---- clockwork ----

def _seconds(work: Callable[[], Any], setup: Setup, warm: bool = True) -> float:
    if warm:
        work()
    if setup.on_gpu:
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if setup.on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _reset_peak(setup: Setup) -> None:
    if setup.on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak(setup: Setup) -> float | None:
    return round(torch.cuda.max_memory_allocated()/2**30, 3) if setup.on_gpu else None


CHECKS = (half_precision, overflow, resume, memory, out_of_memory, encoding_speed, training_speed, two_processes)


def run_checks(setup: Setup, deadline: float = 440.0) -> dict[str, Any]:
    "All of them; none begins after the deadline."
    started = time.perf_counter()
    found: dict[str, Any] = {}
    for check in CHECKS:
        begun = time.perf_counter()
        row: dict[str, Any]
        try:
            if begun - started > deadline:
                raise Skipped("no time was left")
            row = {"passed": True, **check(setup)}
        except Skipped as e:
            row = {"skipped": str(e)}
        except Exception as e:  # a broken check is a result, too
            row = {"passed": False, "reason": f"{type(e).__name__}: {' '.join(str(e).split())[:400]}"}
        found[check.__name__] = row | {"check_seconds": round(time.perf_counter() - begun, 1)}
        print(check.__name__, {k: v for k, v in found[check.__name__].items() if not isinstance(v, dict)}, flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help="folder of a base; a random small one without")
    parser.add_argument("--output", default="data/results/gpu.json", help="where the numbers go")
    parser.add_argument("--small", action="store_true", help="few pairs: to try the script itself")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args.base, args.output, args.small)
        return 0
    with tempfile.TemporaryDirectory() as d:
        os.environ["RAGCUN_CACHE"] = d
        setup = prepared(args.base, Path(d), args.small)
        found = run_checks(setup)
    info = machine_info()
    write_json(args.output, {"command": "python tests/system/gpu_check.py --base FOLDER",
                             "base": Path(args.base).name if args.base else "random, 2 layers, 64 features",
                             "pairs": len(setup.pairs), "small": args.small, "device": setup.device,
                             "gpu": torch.cuda.get_device_name(0) if setup.on_gpu else None,
                             "torch": info["torch"], "precision": info["precision"], "checks": found})
    return int(any(row.get("passed") is False for row in found.values()))


if __name__ == "__main__":
    sys.exit(main())

"""Write tests/golden/: a saved model, best_model.pt and a checkpoint of this version on a tiny random base, which every later version must load.

Run once per released format: python tests/make_golden.py
"""
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
from ragcun.core import write_json  # noqa: E402
from ragcun.learner import Learner, TrainConfig, settle  # noqa: E402
from ragcun.data import PairSet, load_pairs, pairs_to_retrieval  # noqa: E402
from ragcun.model import GaussianEncoder  # noqa: E402
from ragcun.train import fit_closed_form  # noqa: E402
from ragcun.saving import pack_model  # noqa: E402
from small import processed, small_base  # noqa: E402

GOLDEN = Path(__file__).parent/"golden"
TEXTS = ["what is a star", "a star is a ball of hot gas", "how does a cell work"]


def golden_learner(base, folder, **more):
    "The run whose checkpoint is kept: two epochs of two steps."
    pairs = load_pairs(processed("train.json"))
    config = settle(TrainConfig(freeze_base=True, epochs=2, batch_size=22, mixed_precision="no", n_slices=4, keep_last=1, residual=False, **more), len(pairs))
    model = GaussianEncoder.from_base(base, 8, "cpu", "no")
    model.base_id = "golden"
    return Learner(model, PairSet(list(pairs), "golden"), pairs_to_retrieval(load_pairs(processed("val.json"))), config, folder)


def main():
    torch.set_num_threads(1)
    shutil.rmtree(GOLDEN, ignore_errors=True)
    GOLDEN.mkdir()
    with tempfile.TemporaryDirectory() as d:
        os.environ["RAGCUN_CACHE"] = f"{d}/cache"
        base = small_base(d, width=16, layers=1)
        encoder = GaussianEncoder.from_base(str(base), 8, "cpu", "no")
        encoder.base_id = "golden"
        model = fit_closed_form(encoder, load_pairs(processed("train.json")), output_dim=8)
        model.save(Path(d)/"model")
        pack_model(Path(d)/"model", GOLDEN/"best_model.pt")
        write_json(GOLDEN/"vectors.json", {"texts": TEXTS, "query": model.encode_query(TEXTS).round(5), "document": model.encode_document(TEXTS).round(5)})
        learner = golden_learner(str(base), f"{d}/run")
        learner.run_epoch()
        for name in ("checkpoint_epoch_1.pt", "checkpoint_epoch_1.json", "metrics.jsonl"): shutil.copy(f"{d}/run/{name}", GOLDEN/name)
        learner.run_epoch()
        write_json(GOLDEN/"end.json", {"ndcg@10": learner.at.best, "tau": float(learner.critic.tau.detach()), "bias": learner.model.head.bias})
    print(json.dumps({p.name: p.stat().st_size for p in sorted(GOLDEN.iterdir())}, indent=1))


if __name__ == "__main__": main()

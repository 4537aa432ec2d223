"""What each of several processes runs."""
import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from jobs import make_learner, train
from ragcun.data.pairs import Pair, PairSet, load_pairs
from ragcun.losses.contrastive import KnownPositives
from ragcun.losses.total import LossWeights, total_loss
from ragcun.models.encoder import GaussianEncoder
from ragcun.training.learner import Learner, TextSource
from ragcun.training.step import Critic, Processes, batch_gradients, lay_out
from small import processed

BUDGETS = {"plain": (10**6, False), "accumulated": (150, False), "cached": (150, True)}


def join(rank, world, port):
    "Join a gloo group, as torchrun's children do."
    if world == 1: return
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))


def gradients(base, kind, batch, rank, world, port, out):
    """Gradients of base, head and critic in float64 on one batch with some negatives; the first process keeps them. Two
    rows and a negative are answers of the first question that only pairs outside the batch tell of."""
    join(rank, world, port)
    pairs = load_pairs(processed("train.json"))
    rows = [Pair(p.query, p.positive, (pairs[i - 9].positive,) if i % 3 == 0 else ()) for i, p in enumerate(pairs)]
    also = [Pair(rows[0].query, text) for text in (rows[1].positive, rows[4].positive, rows[3].negatives[0])]
    pairs = PairSet(rows + also, "x")
    model = GaussianEncoder.from_base(base, None, "cpu", "no").double()
    model.base.eval()
    critic = Critic(torch.linspace(.8, .1, model.output_dim, dtype=torch.float64), .16)
    budget, recompute = BUDGETS[kind]
    source, processes = TextSource(model, budget), Processes()
    layout = lay_out(pairs, list(range(batch)), KnownPositives(pairs.queries, pairs.documents))
    assert batch < 12 or layout.mask[0].nonzero()[:2].tolist() == [[1], [4]] and int(layout.mask[0].sum()) == 4
    weights = LossWeights(1, 1, 1, .5, "evidence", 16, cosine=.7)
    def loss_of(h):
        q, x, n = layout.split(model.project_tensor(h))
        return total_loss(q, x, critic.rho, critic.tau, weights, negatives=n, mask=layout.mask, seed=5,
                          features=(h[:batch], h[batch:]))
    parts = source.parts(layout, processes.share(len(layout.texts)))
    losses = batch_gradients(lambda part: source.encode(layout, part), parts, loss_of, recompute, processes=processes)
    processes.sum_gradients(list(model.base.parameters()))  # head and critic see the whole batch everywhere
    assert kind == "plain" or len(parts) > 2 or world > 2
    if rank == 0:
        named = {**dict(model.named_parameters()), **dict(critic.named_parameters())}
        torch.save({"loss": losses.total, "grad": {k: p.grad for k, p in named.items() if p.grad is not None}}, out)


def train_together(base, folder, mode, rank, world, port, more=None, die_at=None, pause=0):
    "A run of `jobs.train` in several processes; one of them may be killed before a step."
    join(rank, world, port)
    real = Learner.step
    def step(self, rows):
        if die_at is not None and rank == world - 1 and self.at.step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, rows)
    Learner.step = step
    return _one_line(train, base, folder, mode, None, more)


def stop_one(base, folder, rank, world, port):
    "Only the last process gets the signal; all stop at the same step."
    join(rank, world, port)
    real = Learner.step
    def step(self, rows):
        if rank == world - 1 and self.at.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, rows)
    Learner.step = step
    return train(base, folder, "head")


def not_finite_together(base, folder, rank, world, port):
    "A NaN is met by all: each ends with the same line, none waits."
    join(rank, world, port)
    os.environ["RAGCUN_CACHE"] = str(Path(folder).parent/"cache")
    learner = make_learner(base, folder)
    real = learner.source.encode
    learner.source.encode = lambda layout, part: real(layout, part)*(float("nan") if learner.at.step == 1 else 1)
    return _one_line(learner.train)


def command_together(flags, rank, world, port):
    "The command as torchrun starts it; the last process is late with its documents."
    from ragcun.cli.commands import main
    from ragcun.retrieval.retriever import GaussianRetriever
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    real = GaussianRetriever.add
    def add(self, *args, **more):
        time.sleep(1.5*rank)
        return real(self, *args, **more)
    GaussianRetriever.add = add
    return main(flags)


def _one_line(function, *args):
    from ragcun.core import UserError
    try:
        return function(*args)
    except UserError as e:
        print(f"one line: {e}", flush=True)
        return 2


def meet(rank, world, port):
    """Embeddings of a batch of five, encoded by several processes, come together in the order of the batch; objects
    and sums too."""
    join(rank, world, port)
    p = Processes()
    assert (p.rank, p.world, p.on) == (rank, world, True)
    whole = torch.arange(10.).reshape(5, 2)
    z, own = p.gather(whole[list(p.share(5))] if len(p.share(5)) else None, p.share(5))
    assert torch.equal(z, whole) and own == list(range(rank, 5, world)), (z, own)
    backwards = list(p.share(5))[::-1]
    assert torch.equal(p.gather(whole[backwards], backwards)[0], whole)
    assert p.gather_objects({"rank": rank}) == [{"rank": r} for r in range(world)]
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([1., rank])
    p.sum_gradients([weight])
    assert weight.grad.tolist() == [world, sum(range(world))]
    if rank:
        time.sleep(.5)
    late = time.monotonic()
    p.barrier()
    assert rank or time.monotonic() - late > .2  # the first waited for the other
    return 0

"""Training of an in-context classifier from nothing in a fixed time, for ``benchmarks.challenge``.

Two processes draw tables and train on them, each on one core: gradients are averaged at every step, as in distributed
training. Sizes of the tables, the prior and the learning rate are functions of the share of the time that has passed.
"""

import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, distributed
from tqdm import tqdm

from datamodules.counter import generator
from datamodules.draws import chance, integer, log_integer, uniform
from datamodules.prior.scm_options import ClassOptions, ColumnOptions, NetworkOptions, ScmOptions
from datamodules.prior.synthetic import ScmBatches, TableSizes
from tabattn.contract.batches import TableBatch
from tabattn.optim import MuonAdamW
from tabattn.prior.network import PriorNetwork
from tabattn.prior.options import PriorOptions
from tabattn.prior.task import restricted_log_softmax
from tabattn.prior.weights import described, write

CLASSES = 3
NETWORK: dict[str, Any] = {"dim": 24, "heads": 1, "hidden": 48, "layers": 2, "classes": CLASSES, "thinking_rows": 8}
STRUCTURE = PriorOptions(order="rows", summaries=3, row_layers=3, row_dim=96, row_heads=4, row_hidden=192)
RATE = 0.008
"""Peak learning rate of matrices; other parameters have a fifth."""

WARM, FALL = 0.03, 0.5
"""Shares of the time at which the learning rate has risen, and begins to fall to zero."""

PARTS = 2
"""Batches of a step, of tables of one size; each of two processes draws one of them."""

TABLES, CELLS = 24, 5000
"""Most tables, and cells, of a batch."""

NARROW = 0.2
"""Share of the steps in which few columns are likelier."""

EASY = ScmOptions(
    NetworkOptions(noise=(1e-3, 0.1), layers=(1, 2), trees=0.1, discrete=0.05),
    ColumnOptions(categorical=0.1, missing=0.0),
    ClassOptions(unrelated=0.0),
)
"""Prior of the first tables, on which a network soon begins to read its context."""

WIDE = ScmOptions(
    NetworkOptions(noise=(1e-3, 0.3), layers=(1, 2), trees=0.1, discrete=0.1),
    ColumnOptions(0.15, tails=0.2, outliers=0.05, rounding=0.15, missing=0.0, irrelevant=0.2, duplicates=0.3),
    ClassOptions(unrelated=0.02, regions=0.2),
    linear=0.35,
)
"""Prior of the tables after them: skewed, discrete, irrelevant and repeated columns."""

SMALL = TableSizes(rows=(30, 70), features=(2, 6), classes=(2, CLASSES), context=(0.4, 0.85))
GROWING = TableSizes(rows=(40, 400), features=(2, 45), classes=(2, CLASSES), context=(0.4, 0.85))
LARGE = TableSizes(rows=(120, 500), features=(6, 50), classes=(2, CLASSES), context=(0.5, 0.85))
SWITCH, GROWN = 0.15, 0.5
"""Shares of the time at which the wide tables begin, and have grown to their full sizes."""

LATE = 0.85
"""Share of the steps after that whose tables are large."""


class Clock(NamedTuple):
    """Clock of a training.

    Attributes:
        begun: Time at which it began.
        seconds: Its length.
        cpu: Whether CPU time counts instead: that of all processes, from their first step, over the number ``PARTS``.
    """

    begun: float
    seconds: float
    cpu: bool = False

    def reader(self, processes: int) -> Callable[[], float]:
        """Function that returns the share of the time that has passed for one of the processes."""
        if not self.cpu:
            return lambda: (time.time() - self.begun) / self.seconds
        start = time.process_time()
        return lambda: (time.process_time() - start) * processes / PARTS / self.seconds


def recipe() -> str:
    """Fingerprint of the recipe, which is all of this file."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]


def rate(share: float) -> float:
    """Learning rate at a share of the time, as a fraction of its peak."""
    if share < FALL:
        return min(1.0, share / WARM + 0.02)
    return max(0.0, (1 - share) / (1 - FALL))


def draw(share: float, step: int, part: int, seed: int) -> TableBatch:
    """Draw a batch of a step; its parts have tables of one size.

    Args:
        share: Share of the time that has passed.
        step: Number of the step.
        part: Number of the batch in the step.
        seed: Seed of the stream.
    """
    easy, source = share < SWITCH, generator(seed, step)
    sizes = SMALL if easy else GROWING.grown(min(1.0, (share - SWITCH) / (GROWN - SWITCH)))
    if share > GROWN and chance(LATE, source):
        sizes = LARGE
    rows = log_integer(*sizes.rows, source)
    features = (log_integer if chance(NARROW, source) else integer)(*sizes.features, source)
    context = uniform(*sizes.context, source)
    one = TableSizes((rows, rows), (features, features), sizes.classes, (context, context))
    return ScmBatches(one, EASY if easy else WIDE, TABLES, CELLS, grow=0, seed=seed)[PARTS * step + part]


def loss_of(network: PriorNetwork, batch: TableBatch) -> Tensor:
    """Mean cross-entropy of the target rows, in nats."""
    given = restricted_log_softmax(network(batch.x, batch.y, batch.context), batch.y[:, : batch.context])
    return F.nll_loss(given.flatten(0, 1), batch.y[:, batch.context :].flatten())


def averaged(network: PriorNetwork, passed: float, processes: int) -> float:
    """Average the gradients over all processes, in place; return the average of the share of the time."""
    if processes == 1:
        return passed
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), torch.tensor([passed])])
    distributed.all_reduce(flat)
    flat /= processes
    *means, share = flat.split([*(gradient.numel() for gradient in gradients), 1])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))
    return float(share)


def new_network(seed: int) -> PriorNetwork:
    """Untrained network; the same for a seed in every process."""
    torch.manual_seed(seed)
    return PriorNetwork(**NETWORK, options=STRUCTURE)


def learn(network: PriorNetwork, seed: int, clock: Clock, rank: int, processes: int) -> dict[str, float]:
    """Train in one of the processes until the time is over.

    Returns:
        Steps, tables of all processes, and the mean loss in nats of the last tenth of the time in this process.
    """
    optimizer = MuonAdamW(network.parameters(), lr=RATE, adamw_lr=RATE / 5, weight_decay=0.01)
    bases = [group["lr"] for group in optimizer.param_groups]
    steps, tables, losses = 0, 0, []
    read = clock.reader(processes)
    # The start of the processes is no part of the first step's length, by which the end of the next is foretold.
    before = share = averaged(network, read(), processes)
    with tqdm(total=100, unit="%", desc=f"seed {seed}", disable=None if rank == 0 else True) as bar:
        while 2 * share - before < 1:
            optimizer.zero_grad(set_to_none=True)
            for part in range(rank, PARTS, processes):
                batch = draw(share, steps, part, seed)
                loss = loss_of(network, batch) * (processes / PARTS)
                loss.backward()
                tables += len(batch.x) * processes
            for group, base in zip(optimizer.param_groups, bases, strict=True):
                group["lr"] = base * rate(share)
            before, share = share, averaged(network, read(), processes)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            steps += 1
            if share > 0.9:
                losses.append(loss.item() * PARTS / processes)
            bar.update(round(100 * share) - bar.n)
    return {"steps": steps, "tables": tables, "loss": sum(losses) / max(1, len(losses))}


def work(rank: int, path: Path, seed: int, clock: Clock, processes: int, meeting: str) -> None:
    """Process of a training; the first one writes the network, and facts of its training, to a weight file."""
    torch.set_num_threads(1)
    if processes > 1:
        distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=processes)
    network = new_network(seed)
    facts = learn(network, seed, clock, rank, processes) | {"wall": time.time() - clock.begun}
    if rank == 0:
        tensors, arguments = described(network)
        write(path, tensors, {"network": arguments, "training": facts})
    if processes > 1:
        distributed.destroy_process_group()


def train(path: Path, seed: int, seconds: float, processes: int, *, cpu: bool) -> None:
    """Train a network from nothing, and write it to a weight file.

    Args:
        path: File to write (.safetensors).
        seed: Seed of initial weights and tables.
        seconds: Length of the training, with the start of its processes and the drawing of its tables.
        processes: Number of processes, up to ``PARTS``; each uses one core.
        cpu: Whether CPU time counts; see ``Clock``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clock = Clock(time.time(), seconds, cpu)
    with tempfile.TemporaryDirectory() as folder:
        given = path, seed, clock, processes, f"file://{folder}/meeting"
        if processes == 1:
            work(0, *given)
        else:
            torch.multiprocessing.spawn(work, given, nprocs=processes)

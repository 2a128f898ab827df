"""Training steps beside the original programs of each task: ``python -m benchmarks.originals --prior DIR ...``.

For each checkout that is given, a training step of the original and ours on the same data are taken in turns, and timed
by what the process computes, so that ratios hold on a busy machine too. The floor is the time of the matrix products of
our step alone: a step of the same network cannot take less. Memory is the peak of a step, beyond what it holds before.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import MagicMock

import torch
from entmax import entmax15
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from benchmarks import npt_entrants, prior_step, zoo_vae
from benchmarks.measure import Step, provenance
from benchmarks.reports import add_out, check_checkout, check_least, publish
from benchmarks.sparsefinder_parity import independent
from datamodules import QueriesKeys
from datamodules.sparsity.records import write_records
from tabattn.compare.clocks import peak_bytes
from tabattn.prior.nanotabpfn import NanoTabPFN
from tabattn.prior.network import PriorNetwork
from tabattn.sparsity.task import SparsefinderProjections

CPU = torch.device("cpu")
FILES = {
    "prior": "model.py",
    "reconstruction": "npt/model/npt.py",
    "zoo": str(zoo_vae.ORIGINAL),
    "sparsity": "quantization.py",
}
"""A file of each original, by the task."""
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "scaled_dot_product")


class Beside(NamedTuple):
    """Step of ours beside that of an original.

    Attributes:
        name: What is compared.
        ours: Our step.
        theirs: Step of the original.
        items: Examples of a step of ours, and of one of theirs.
    """

    name: str
    ours: Step
    theirs: Step
    items: tuple[int, int] = (1, 1)


class Products(TorchDispatchMode):
    """Mode that keeps the matrix products and fused attentions of a step, to take them again alone."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable[[], object]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        name = func.__name__.partition(".")[0].lstrip("_")
        if name.startswith(PRODUCTS):
            kept, named = tree_map_only(Tensor, Tensor.detach, (args, given))
            self.calls.append(lambda: func(*kept, **named))
        return func(*args, **given)

    @torch.no_grad()
    def again(self) -> None:
        """Take the products once more."""
        for call in self.calls:
            call()


def prior(folder: Path) -> Iterator[Beside]:
    """In-context classification: the fork of nanoTabPFN."""
    rows, features = prior_step.ROWS, prior_step.FEATURES
    x, y = torch.randn(prior_step.BATCH, rows, features), torch.randint(0, 2, (prior_step.BATCH, rows))
    theirs = prior_step.step(*prior_step.original(folder, "Original"), x, y)
    for kind in (NanoTabPFN, PriorNetwork):
        yield Beside(f"prior, {kind.__name__}", prior_step.step(*prior_step.ours(kind), x, y), theirs)


def reconstruction(folder: Path) -> Iterator[Beside]:
    """Reconstruction of tables: non-parametric transformers, of width 16."""
    theirs = npt_entrants.Original(folder, 16)
    yield Beside("reconstruction, LegacyNPT", npt_entrants.legacy(16).step, theirs.step)
    yield Beside("reconstruction, configs/reconstruction.yaml", npt_entrants.default().step, theirs.step)


def zoo(folder: Path, path: Path) -> Iterator[Beside]:
    """Networks as data: Netformer."""
    ours, count = zoo_vae._step(path)
    yield Beside("zoo, configs/zoo.yaml", ours, zoo_vae._original_step(folder), (count, zoo_vae.ROWS))


def sparsity(folder: Path) -> Iterator[Beside]:
    """Attention graphs: the projections of Sparsefinder, of one layer."""
    sys.path.insert(0, str(folder))
    # It is missing in the repository, and draws pictures alone.
    sys.modules.setdefault("plot_utils", MagicMock())
    from extender_layers import HeadwiseLinearProjection
    from quantization import batch_compute_loss, dot_product_and_mask
    from utils import get_ground_truth

    with tempfile.TemporaryDirectory() as records:
        write_records(Path(records, "a.h5"), independent(layers=1))
        data = QueriesKeys(f"{records}/a.h5", 8)
        task = SparsefinderProjections(4, shared=True, start="random")
        data.setup("fit")
        batch = next(iter(data.train_dataloader()))
        layer = batch.layers[0]
        task.check_data(data)
    heads, width = layer.q.shape[1], layer.q.shape[-1]
    lengths = layer.keys.sum(1)
    projection = HeadwiseLinearProjection(heads, width, 4)
    theirs, ours = (torch.optim.Adam(module.parameters(), lr=0.01) for module in (projection, task.network))

    def original() -> None:
        dots = dot_product_and_mask(layer.q, layer.k, lengths)
        order, positive = get_ground_truth(entmax15(dots, dim=-1), lengths)
        loss: Tensor = batch_compute_loss(projection(layer.q), projection(layer.k), order, positive, lengths)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(projection.parameters(), 1.0)
        theirs.step()
        theirs.zero_grad()

    def own() -> None:
        ours.zero_grad()
        torch.stack([task.layer_loss(step).mean() for step in task.steps(batch)]).sum().backward()
        torch.nn.utils.clip_grad_norm_(task.network.parameters(), 1.0)
        ours.step()

    yield Beside("sparsity, projections", own, original)


def measured(beside: Beside, steps: int) -> list[str]:
    """Cells of a row: times, ratios with their floor, and memory."""
    beside.ours()  # The first step may prepare what later ones use.
    with Products() as products:
        beside.ours()
    entrants = {"theirs": beside.theirs, "ours": beside.ours, "products": products.again}
    seconds: dict[str, list[float]] = {name: [] for name in entrants}
    for turn in range(1 + steps):
        for name, step in entrants.items():
            start = time.process_time()
            step()
            if turn:  # The first one warms up.
                seconds[name].append(time.process_time() - start)
    share = beside.items[0] / beside.items[1]
    pairs = list(zip(seconds["theirs"], seconds["ours"], seconds["products"], strict=True))
    ratio = statistics.median(theirs / ours for theirs, ours, _ in pairs) * share
    floor = statistics.median(products / ours for _, ours, products in pairs)
    times = [f"{1e3 * statistics.median(seconds[name]):.3g}" for name in ("theirs", "ours")]
    memory = [peak_bytes(step, CPU) / 2**20 for step in (beside.theirs, beside.ours)]
    cells = [beside.name, *times, f"{ratio:.2f}", f"{floor:.2f}", f"{ratio / floor:.2f}"]
    return [*cells, *(f"{each:.3g}" for each in memory), f"{memory[0] / memory[1] * share:.2f}"]


def pairs(options: argparse.Namespace) -> Iterator[Beside]:
    """Yield what is compared, for each checkout."""
    if options.prior:
        yield from prior(options.prior)
    if options.reconstruction:
        yield from reconstruction(options.reconstruction)
    if options.zoo:
        yield from zoo(options.zoo, options.networks)
    if options.sparsity:
        yield from sparsity(options.sparsity)


def report(rows: Sequence[Sequence[str]], options: argparse.Namespace) -> str:
    """Return the report in Markdown."""
    given = " ".join(f"--{name} <checkout>" for name in FILES if getattr(options, name))
    head = ["step", "original, ms", "ours, ms", "speed", "products", "most", "original, MB", "ours, MB", "memory"]
    text = (
        "Milliseconds that the process computes, steps in turns, medians of ratios of paired steps; memory is the peak "
        "of a step beyond what it holds before, in 2**20 bytes. Both ratios are those of an example: above 1, ours "
        "needs less. products: share of our step that its matrix products alone take; most: the speed if nothing else "
        "took time."
    )
    title = "# Training steps beside the original programs"
    command = f"`python -m benchmarks.originals {given} --steps {options.steps} --threads {options.threads}`"
    lines = [title, "", command, "", f"{provenance(CPU)}.", "", text, ""]
    lines += [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.originals",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for task, file in FILES.items():
        parser.add_argument(f"--{task}", type=Path, metavar="DIR", help=f"checkout of its original, with {file}")
    parser.add_argument("--networks", type=Path, default=Path("zoo.h5"), help="zoo of networks (default: zoo.h5)")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each (default: 10)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    add_out(parser, "originals.md")
    options = parser.parse_args(argv)
    check_least(parser, options, steps=1, threads=1)
    for task, file in FILES.items():
        check_checkout(parser, task, getattr(options, task), file)
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Measure; write the report after each row, and print it."""
    options = arguments(argv)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rows = []
    for beside in pairs(options):
        rows.append(measured(beside, options.steps))
        publish(report(rows, options), options.out)
        sys.stderr.write(f"{' | '.join(rows[-1])}\n")
    sys.stdout.write(report(rows, options))


if __name__ == "__main__":
    main()

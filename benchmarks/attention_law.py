"""Gap to the exact oracle by length, for each mechanism: ``python -m benchmarks.attention_law``.

Pairs of sequences, the second of which is inferred from the first and from a quarter of its own points, have as many
points in all as each length. For each, small networks ``TNPD`` are trained with each mechanism on the same batches, of
the same number of points at each length, and so with fewer tasks where these are longer. A power law is fitted to the
gap. ``NAME+distances`` is a mechanism with distance bias. Cells that are in the CSV file already are not trained again.
"""

import argparse
import csv
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import nn

from benchmarks.attention_law_report import BIASED, OBSERVATIONS, SIZES, TESTS, WAVES, draw, report
from benchmarks.reports import add_out, check_least, publish
from datamodules import SyntheticPairs
from datamodules.pairs import SyntheticEvaluation
from tabattn.attention import MECHANISMS
from tabattn.contract.batches import PairBatch
from tabattn.optim import MuonAdamW
from tabattn.pairs import TNPD, TokenOptions

RATES = (0.01, 0.004)
"""Peak learning rates of MuonAdamW: twice those of ``configs/pairs.yaml``, as the networks are half as wide."""
WARM = 0.05
"""Share of the steps in which the learning rate rises."""
DEFAULT = ("Softmax", f"Softmax{BIASED}", "Entmax", "Linear", "Inducing")
LENGTHS = (32, 64, 128, 256, 512)


class Cell(NamedTuple):
    """One training.

    Attributes:
        mechanism: Name of the mechanism, with ``+distances`` for the bias.
        length: Points of a task, context and targets.
        seed: Seed of tasks and weights.
    """

    mechanism: str
    length: int
    seed: int


class Tasks(NamedTuple):
    """Tasks of one length: batches to train on, and batches to score with their oracle."""

    train: list[PairBatch]
    test: list[PairBatch]

    @property
    def oracle(self) -> float:
        """Log-likelihood of the oracle, in nats."""
        return float(torch.cat([batch.oracle.log_density for batch in self.test if batch.oracle]).mean())


def draw_tasks(length: int, seed: int, steps: int) -> Tasks:
    """Draw the tasks of a length: the test ones are the same for every seed."""

    def pairs(size: int, seed: int) -> SyntheticPairs:
        shown = length // 8
        evaluation = SyntheticEvaluation(val_batches=1, test_batches=max(1, TESTS // size))
        points = (length // 2, length // 2)
        return SyntheticPairs(
            "const",
            points,
            (shown, shown),
            regime="forecast",
            evaluation=evaluation,
            batch_size=size,
            steps_per_epoch=steps,
            seed=seed,
        )

    train = pairs(max(1, OBSERVATIONS // length), seed + 1).train_dataloader()
    return Tasks(list(train), list(pairs(32, 0).test_dataloader()))


def build(name: str, seed: int) -> TNPD:
    """Build the network of a mechanism."""
    mechanism, biased, _ = name.partition(BIASED)
    torch.manual_seed(seed)
    tokens = TokenOptions(distances=WAVES if biased else 0)
    sizes: dict[str, Any] = SIZES
    return TNPD(MECHANISMS[mechanism], residual="nearest", tokens=tokens, **sizes)


def rate(step: int, steps: int) -> float:
    """Learning rate as a fraction of its peak: a linear rise, and a cosine to zero."""
    return min(1.0, (step + 1) / (WARM * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))


def train(cell: Cell, batches: Sequence[PairBatch]) -> TNPD:
    """Train a network on all batches in their order."""
    network = build(cell.mechanism, cell.seed)
    points = (cell.length // 2, cell.length // 2)
    network.scale(SyntheticPairs("const", points, context=cell.length // 8).scaling)
    optimizer = MuonAdamW(network.parameters(), *RATES)
    peaks = [group["lr"] for group in optimizer.param_groups]
    for number, batch in enumerate(batches):
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * rate(number, len(batches))
        optimizer.zero_grad()
        density = network(batch.x, batch.y, batch.member, batch.context)
        (-density.log_prob(batch.y[:, batch.context :]).mean()).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return network.eval()


@torch.no_grad()
def score(network: TNPD, batches: Sequence[PairBatch]) -> float:
    """Log-likelihood of a target given the context, in nats."""
    found = [network(*batch[:3], batch.context).log_prob(batch.y[:, batch.context :]) for batch in batches]
    return float(torch.cat(found).mean())


def measure(cell: Cell, tasks: Tasks) -> dict[str, object]:
    """Train and score one cell: the row of the CSV file."""
    start = time.process_time()
    network = train(cell, tasks.train)
    spent = time.process_time() - start
    ll, oracle = score(network, tasks.test), tasks.oracle
    row = {**cell._asdict(), "steps": len(tasks.train), "ll": ll, "ll_oracle": oracle, "gap": oracle - ll}
    return {**row, "ms_of_a_step": 1e3 * spent / len(tasks.train)}


def measure_all(options: argparse.Namespace) -> None:
    """Train and score every cell that the CSV file lacks, and add each to it as it is done."""
    path = options.out.with_suffix(".csv")
    done = {Cell(row.mechanism, row.length, row.seed) for row in rows(path).itertuples()}
    for seed in range(options.seeds):
        for length in options.lengths:
            cells = [cell for name in options.attentions if (cell := Cell(name, length, seed)) not in done]
            tasks = draw_tasks(length, seed, options.steps) if cells else None
            for cell in cells:
                assert tasks is not None
                row = measure(cell, tasks)
                append(path, row)
                sys.stderr.write(f"{cell.mechanism}, {length} points, seed {seed}: gap {row['gap']:.3f}\n")


def rows(path: Path) -> pd.DataFrame:
    """Cells that are done."""
    if not path.is_file():
        return pd.DataFrame(columns=["mechanism", "length", "seed", "steps"])
    return pd.read_csv(path)


def append(path: Path, row: dict[str, object]) -> None:
    """Add a cell to the CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if not begun:
            writer.writeheader()
        writer.writerow({name: f"{value:.5g}" if isinstance(value, float) else value for name, value in row.items()})


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attention_law",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    known = [name for mechanism in MECHANISMS for name in (mechanism, f"{mechanism}{BIASED}")]
    parser.add_argument("--attentions", nargs="+", choices=known, default=list(DEFAULT), metavar="NAME")
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS), help="points of a task")
    parser.add_argument("--steps", type=int, default=1200, help="training steps of each cell (default: 1200)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each cell (default: 3)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    add_out(parser, "attention_law.md", [".csv", ".png"])
    options = parser.parse_args(argv)
    options.usual = {name: parser.get_default(name) for name in ("attentions", "lengths")}
    check_least(parser, options, lengths=16, steps=1, seeds=1, threads=1)
    if wrong := [length for length in options.lengths if length % 8]:
        parser.error(f"lengths must be multiples of 8, an eighth of which is the context to infer from, got {wrong[0]}")
    taken = rows(options.out.with_suffix(".csv"))["steps"].unique().tolist()
    if other := [steps for steps in taken if steps != options.steps]:
        parser.error(f"steps must be {other[0]}, as in {options.out.with_suffix('.csv')}, got {options.steps}")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Train all cells that are missing; write the picture and the report."""
    options = arguments(argv)
    for name in options.attentions:  # Build every network once, so that errors show before the trainings.
        build(name, 0)
    torch.set_num_threads(options.threads)
    measure_all(options)
    found = rows(options.out.with_suffix(".csv"))
    wanted = found["mechanism"].isin(options.attentions) & found["length"].isin(options.lengths)
    found = found[wanted & (found["seed"] < options.seeds)]
    draw(found, options.out.with_suffix(".png"))
    text = report(found, options)
    publish(text, options.out)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()

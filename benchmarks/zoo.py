"""Speed of zoos on one core: ``python -m benchmarks.zoo``.

Networks are generated in memory, trained one by one for comparison, tokenised, and their sensitivities computed. Times
are those of the processor, so that they hold on a busy machine too, but for its caches.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from benchmarks.measure import provenance
from benchmarks.reports import add_out, check_least, publish
from datamodules.zoo.architectures import Runs, buckets, draw_runs
from datamodules.zoo.generate import AT_ONCE, table_of
from datamodules.zoo.profiles import CHECKPOINTS, PROFILES
from datamodules.zoo.tasks import Tasks, draw_tasks
from datamodules.zoo.training import Table, initial, population_of, train
from tabattn.contract.graphs import Population
from tabattn.zoo import neuron_sensitivity, to_module, tokenize

ROWS = 100
"""Rows of sensitivities."""
CHUNK = 256
"""Networks whose sensitivities are computed at once."""


def seconds(work: Callable[[], object]) -> float:
    """Seconds of the processor that some work takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def generated(runs: Runs, table: Table, steps: Sequence[int], batch: int) -> Population:
    """Train runs in buckets, as a zoo is generated; their networks at all checkpoints."""
    pieces = []
    for piece in buckets(runs, AT_ONCE["cpu"]):
        own = runs.at(piece)
        trained = train(own, table, steps, batch, 0)
        pieces += [population_of(trained.layers, own, flat) for flat in trained.parameters.unbind(1)]
    return Population.joined(pieces)


def one_by_one(population: Population, runs: Runs, tasks: Tasks, steps: int, batch: int) -> None:
    """Train networks one after another by ``torch.optim.Adam``, the way of the original."""
    source = np.random.default_rng(0)
    for number in range(len(population)):
        network, task = to_module(population[number]), int(runs.task[number])
        x, y = torch.from_numpy(tasks.x[task]), torch.from_numpy(tasks.y[task])
        optimizer = torch.optim.Adam(network.parameters(), lr=float(runs.rate[number]))
        for _ in range(steps):
            rows = torch.from_numpy(source.integers(0, len(x), batch))
            optimizer.zero_grad()
            nn.functional.mse_loss(network(x[rows]), y[rows]).backward()
            optimizer.step()


def measured(networks: int, steps: int, single: int) -> dict[str, float]:
    """Networks a second of each kind of work.

    Args:
        networks: Number of networks that are trained at once.
        steps: Training steps of each.
        single: Number of networks that are trained one by one, for a tenth of the steps.
    """
    profile = PROFILES["seed"]
    tasks = draw_tasks(profile.tasks, profile.tasks.tasks, 0)
    runs = draw_runs(profile.networks, networks, tasks.columns, 0)
    table, batch = table_of(tasks, torch.device("cpu")), profile.networks.batch
    checkpoints = [round(share * steps) for share in CHECKPOINTS]
    made: list[Population] = []
    speed = {"generated": networks / seconds(lambda: made.append(generated(runs, table, checkpoints, batch)))}
    chosen = runs.at(next(buckets(runs, single, len(runs.run) // 2)))
    first = train(chosen, table, [1], batch, 0)
    fresh = population_of(first.layers, chosen, initial(first.layers, chosen, 0))
    few = max(1, steps // 10)
    taken = seconds(lambda: one_by_one(fresh, chosen, tasks, few, batch))
    speed["trained one by one"] = len(fresh) / (taken * steps / few)
    population = made[0]
    speed["tokenised"] = len(population) / seconds(lambda: tokenize(population))
    some = np.arange(len(population) // 2, len(population))[:CHUNK]
    tokens = tokenize(population.take(some))
    inputs = torch.randn(1, ROWS, table.rows.shape[1] - 1).expand(len(tokens.mask), -1, -1)
    speed["sensitivities"] = len(tokens.mask) / seconds(lambda: neuron_sensitivity(tokens, inputs))
    return speed


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.zoo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--networks", type=int, default=1500, help="networks trained at once (default: 1500)")
    parser.add_argument("--steps", type=int, default=400, help="training steps of each (default: 400)")
    parser.add_argument("--single", type=int, default=10, help="networks trained one by one (default: 10)")
    add_out(parser, "zoo.md")
    options = parser.parse_args(argv)
    check_least(parser, options, networks=10, steps=10, single=1)
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Measure; write and print the report."""
    options = arguments(argv)
    torch.set_num_threads(1)
    speed = measured(options.networks, options.steps, options.single)
    ratio = speed["generated"] / speed["trained one by one"]
    work = {
        "generated": f"trained for {options.steps} steps, scored at {len(CHECKPOINTS)} checkpoints, made graphs",
        "trained one by one": f"`nn.Sequential` and `torch.optim.Adam`: 1/{ratio:.0f} of the speed",
        "tokenised": "`tokenize`, to padded tensors",
        "sensitivities": f"`neuron_sensitivity`, exact, on {ROWS} rows",
    }
    lines = ["| networks | a second | how |", "|---|---|---|"]
    lines += [f"| {name} | {value:,.{0 if value >= 10 else 2}f} | {work[name]} |" for name, value in speed.items()]
    head = (
        f"{options.networks} networks of profile `seed`; {provenance(torch.device('cpu'))}; seconds of the processor."
    )
    text = "\n".join(["# Speed of zoos", "", "`python -m benchmarks.zoo`", "", head, "", *lines, ""])
    publish(text, options.out)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()

"""Comparison of all mechanisms on sequence pairs: ``python -m benchmarks.pairs_sweep``.

Trains by ``configs/pairs.yaml`` with each mechanism for the same number of steps, and tests on the same tasks: gap to
the oracle's predictive density, error of the first target, steps per second, and memory of a training step.
``--biased`` compares one network with and without a distance bias of attention, trained on every size of the context
as in the configuration. Further arguments go to the command line of each training, such as ``--data.kind=icm``.
"""

import argparse
import logging
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import Callback

import datamodules  # noqa: F401  (makes the names of the configuration known)
from benchmarks.measure import on_device, provenance
from benchmarks.reports import QUIET, add_out, check_least, check_trainings, publish
from tabattn.attention import MECHANISMS
from tabattn.compare.clocks import peak_bytes
from tabattn.contract.batches import PairBatch
from tabattn.tasks import PairInference
from tabattn.training.cli import CLI

CONFIG = Path(__file__).parents[1] / "configs" / "pairs.yaml"
ONE_SIZE = "--data.context=[8,8]"
"""Argument of training with the same number of context points as in the tests only."""
TOKENS = "--model.network.tokens"
BIASED = {
    "no bias": [f"{TOKENS}.distances=0", f"{TOKENS}.relative=false"],
    "distance bias": [f"{TOKENS}.distances=16", f"{TOKENS}.relative=false"],
    "distance bias, relative values": [f"{TOKENS}.distances=16", f"{TOKENS}.relative=true"],
}
"""Arguments of the networks that ``--biased`` compares, by name."""
UNWATCHED = [*QUIET, "--trainer.limit_val_batches=0"]
COLUMNS = ("ll", "gap", "mse", "rmse_first", "coverage90")


def now() -> float:
    """Clock in seconds: elapsed time on a GPU, otherwise CPU time, which is fair on a busy machine."""
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


class Laps(Callback):
    """Callback that records the seconds of each training step, without the loading of its batch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.start = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        self.start = now()

    def on_train_batch_end(self, *_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(now() - self.start)


def build(name: str, seed: int, options: argparse.Namespace) -> CLI:
    """Build the network with a mechanism, or a network of ``BIASED``, the tasks and the trainer."""
    chosen = BIASED[name] if options.biased else [f"--model.attention=tabattn.attention.{name}", ONE_SIZE]
    own = [f"--config={CONFIG}", f"--seed_everything={seed}", f"--trainer.max_steps={options.steps}", *UNWATCHED]
    return CLI([*own, *chosen, *options.further], run=False)


def train(name: str, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Train and test one network; return its scores and costs."""
    torch.set_num_threads(options.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    cli = build(name, seed, options)
    laps = Laps()
    cli.trainer.callbacks.append(laps)  # type: ignore[attr-defined]
    cli.trainer.fit(cli.model, cli.datamodule)
    figures = cli.trainer.test(cli.model, cli.datamodule, verbose=False)[0]
    batch = next(iter(cli.datamodule.train_dataloader()))
    task, device = cli.model, cli.trainer.strategy.root_device
    assert isinstance(task, PairInference)
    task.to(device)
    peak = peak_bytes(partial(_step, task, on_device(batch, device)), device)
    return {
        **{column: figures.get(f"test/{column}", float("nan")) for column in COLUMNS},
        "ll_oracle": figures.get("test/ll_oracle", float("nan")),
        "steps in a second": 1 / statistics.median(laps.seconds),
        "MB of a step": peak / 1e6,
    }


def names(options: argparse.Namespace) -> list[str]:
    """Names of the networks to train."""
    return list(BIASED) if options.biased else list(options.attentions)


def train_all(options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Train every network of every seed, in parallel if requested; yield scores and costs as each is done."""
    jobs = [(name, seed) for seed in range(options.seeds) for name in names(options)]
    if options.processes == 1:
        for name, seed in jobs:
            yield {"mechanism": name, "seed": seed, **train(name, seed, options)}
        return
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as pool:
        found = {pool.submit(train, name, seed, options): (name, seed) for name, seed in jobs}
        for done in as_completed(found):
            name, seed = found[done]
            yield {"mechanism": name, "seed": seed, **done.result()}


def _step(task: PairInference, batch: PairBatch) -> None:
    given = task.network.density(batch.x, batch.y, batch.member, batch.context)
    y = batch.y[:, batch.context :]
    (-given.log_prob(y).mean()).backward()
    task.zero_grad()


def report(results: pd.DataFrame, options: argparse.Namespace) -> str:
    """Report in Markdown: means over seeds, with standard errors if there are several."""
    groups = results.groupby("mechanism", sort=False)
    means, errors = groups.mean(numeric_only=True), groups.sem(numeric_only=True)
    heads = ["network" if options.biased else "mechanism", *COLUMNS, "steps in a second", "MB of a step"]
    lines = [f"| {' | '.join(heads)} |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for name in means.sort_values("gap").index:
        cells = []
        for head in heads[1:]:
            figure = f"{means.loc[name, head]:.1f}" if head in heads[-2:] else f"{means.loc[name, head]:.3f}"
            error = errors.loc[name, head] if head in COLUMNS else float("nan")
            cells.append(figure if pd.isna(error) else f"{figure} ± {error:.3f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    further = "".join(f" {word}" for word in options.further)
    chosen = "" if options.biased else f" with `{ONE_SIZE}`"
    told = (
        "Distance bias: `tokens.distances=16`; relative values: `tokens.relative=true` with it."
        if options.biased
        else "With mechanisms that do not serve cross-attention (Sparse, Local, Pooling, Nystrom), context points "
        "attend to one another by them, and targets to the context by Softmax."
    )
    text = (
        f"{options.steps} steps of `configs/pairs.yaml`{chosen}, {options.seeds} seeds; the oracle's "
        f"log-likelihood is {means['ll_oracle'].iloc[0]:.3f}. `gap`: that minus the log-likelihood of the network, "
        f"nats per target. Seconds are CPU time. {told}"
    )
    further = f"{' --biased' if options.biased else ''}{further}"
    command = f"`python -m benchmarks.pairs_sweep --steps {options.steps} --seeds {options.seeds}{further}`"
    title = "# Distance bias on pairs" if options.biased else "# Every mechanism on pairs"
    return "\n".join([title, "", command, "", f"{provenance(device)}.", "", text, "", *lines, ""])


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pairs_sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--steps", type=int, default=1000, help="training steps of each (default: 1000)")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each mechanism (default: 1)")
    parser.add_argument("--attentions", nargs="+", choices=list(MECHANISMS), default=list(MECHANISMS), metavar="NAME")
    parser.add_argument("--biased", action="store_true", help="compare networks with and without distance bias instead")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each (default: 1)")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time (default: 1)")
    add_out(parser, "pairs_sweep.md", [".csv"])
    options, further = parser.parse_known_args(argv)
    taken = [word for words in BIASED.values() for word in words] if options.biased else ["--model.attention"]
    options.further = check_trainings(parser, further, [*taken, "--trainer.max_steps", *UNWATCHED])
    if options.biased and options.out == parser.get_default("out"):
        options.out = options.out.with_name("pairs_distances.md")
    check_least(parser, options, steps=1, seeds=1, threads=1, processes=1)
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Train with every mechanism and write the report."""
    options = arguments(argv)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for name in names(options):  # Build every network once, so that errors show before the trainings.
        build(name, 0, options)
    torch.set_num_threads(options.threads)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    lines, text = [], ""
    for line in train_all(options):
        lines.append(line)
        sys.stderr.write(f"seed {line['seed']}, {line['mechanism']}: gap {line['gap']:.3f}\n")
        # Written after each network, so that an abort loses no result.
        results = pd.DataFrame(lines).sort_values(["seed", "mechanism"])
        results.to_csv(options.out.with_suffix(".csv"), index=False, float_format="%.5g")
        text = report(results, options)
        publish(text, options.out)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()

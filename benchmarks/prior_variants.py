"""Comparison of network structures of the prior task on one stream of tables: ``python -m benchmarks.prior_variants``.

All variants take a step on every batch, in turn, so that they see the same tables. The learning rate is constant, and
decays in the last third; each variant is saved before the decay, for further training, and at the end. With a folder of
tables, each is then scored as in ``benchmarks.openml``.
"""

import argparse
import csv
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from benchmarks.reports import check_checkout, check_device, check_least, check_positive, writable_folder
from datamodules.prior.options import BatchOptions
from datamodules.prior.scm_options import GROUPS, ScmOptions
from datamodules.prior.synthetic import SyntheticPrior
from tabattn.attention import MECHANISMS
from tabattn.contract.batches import TableBatch
from tabattn.optim import MuonAdamW
from tabattn.prior.network import PriorNetwork
from tabattn.prior.options import PriorOptions
from tabattn.tasks import PriorClassification

CONFIG = Path(__file__).parents[1] / "configs" / "prior_gpu.yaml"
WARM = 0.02
"""Share of the time in which the learning rate warms up."""

EACH = 50
"""Steps over which the log averages losses."""

ROWS: dict[str, Any] = {"order": "rows", "summaries": 4, "row_layers": 6}
INDUCING = {"class_path": "tabattn.attention.Inducing", "init_args": {"points": 32}}
WIDE = {"row_layers": 4, "row_dim": 256, "row_heads": 8, "row_hidden": 512}
STAGED: dict[str, Any] = {"hidden": 128, "layers": 3, "cell_attention": INDUCING}
SOFT2 = {"cell_attention": None, "heads": 2}
VARIANTS: dict[str, dict[str, Any]] = {
    "cells": {"hidden": 192, "layers": 4},
    "cells, rbf, rows first": {"hidden": 192, "layers": 4, "options": {"embedding": "rbf", "order": "rows"}},
    "rows": {**STAGED, "options": {"embedding": "rbf", **ROWS}},
    "rows, linear": {**STAGED, "options": ROWS},
    "rows, softmax in cells": {**STAGED, "cell_attention": None, "options": {"embedding": "rbf", **ROWS}},
    "rows, softmax, 2 heads": {**STAGED, **SOFT2, "options": {"embedding": "rbf", **ROWS}},
    "rows, softmax, 2 heads, linear": {**STAGED, **SOFT2, "options": ROWS},
    "rows, softmax, 2 heads, 2 layers": {**STAGED, **SOFT2, "layers": 2, "options": {"embedding": "rbf", **ROWS}},
    "rows, wide": {**STAGED, "layers": 2, "options": {"embedding": "rbf", **ROWS, **WIDE}},
}
"""Arguments of the variants; all have width 64 and, unless named, 4 heads."""


class Runner(NamedTuple):
    """A variant in training."""

    name: str
    task: PriorClassification
    optimizer: MuonAdamW
    rates: list[float]


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prior_variants", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--seconds", type=float, default=330, help="of training, all variants together")
    parser.add_argument("--fall", type=float, default=0.65, help="share of the time at which the learning rate falls")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--tables", type=Path, help="folder with index.csv and its files, to score the variants on")
    parser.add_argument("--config", type=Path, default=CONFIG, help="whose data, and optimizer, all variants share")
    parser.add_argument("--max-cells", type=int, help="cells of a batch; without it, the configuration's")
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--workers", type=int, help="processes that make tables; without it, the configuration's")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--device", type=torch.device, default=device)
    parser.add_argument(
        "--out", type=writable_folder, default=Path("runs/prior_variants"), help="folder of the results"
    )
    options = parser.parse_args(argv)
    check_positive(parser, options, "seconds")
    if not 0 <= options.fall < 1:
        parser.error(f"fall must be in [0, 1), got {options.fall:g}")
    check_least(parser, options, max_cells=1, views=1, workers=0)
    check_device(parser, options.device)
    check_checkout(parser, "tables", options.tables, "index.csv")
    if not options.config.is_file():
        parser.error(f"config: there is no file {options.config}")
    return options


def build(name: str, optimizer: dict[str, Any], device: str) -> Runner:
    """Build a variant with its own optimizer; the initial weights are seeded."""
    given: dict[str, Any] = {"dim": 64, "heads": 4, "classes": 10, **VARIANTS[name]}
    given["options"] = PriorOptions(**given.get("options", {}))
    if given.get("cell_attention"):
        given["cell_attention"] = factory(given["cell_attention"])
    torch.manual_seed(0)
    task = PriorClassification(partial(PriorNetwork, **given)).to(device)
    made = MuonAdamW(task.network.parameters(), **optimizer)
    return Runner(name, task, made, [group["lr"] for group in made.param_groups])


def factory(given: dict[str, Any]) -> Any:
    """Mechanism factory from its description."""
    return partial(MECHANISMS[given["class_path"].rpartition(".")[2]], **given["init_args"])


def stream(config: dict[str, Any], options: argparse.Namespace) -> Iterator[TableBatch]:
    """Endless training batches of a configuration."""
    given = dict(config["data"]["init_args"])
    given["scm"] = ScmOptions(**{name: GROUPS[name](**group) for name, group in given["scm"].items()})
    given["batches"] = replace(BatchOptions(**given["batches"]), views=options.views)
    if options.max_cells is not None:
        given["batches"] = replace(given["batches"], max_cells=options.max_cells)
    if options.workers is not None:
        given["num_workers"] = options.workers
    loader = SyntheticPrior(**{**given, "tables": ("sklearn:iris",)}).train_dataloader()
    while True:
        yield from loader


def step(runner: Runner, batch: TableBatch, factor: float, clip: float) -> Tensor:
    """Training step of a variant; return its loss."""
    for group, base in zip(runner.optimizer.param_groups, runner.rates, strict=True):
        group["lr"] = base * factor
    device = batch.x.device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        given = runner.task(batch)
    targets = batch.y[:, batch.context :]
    loss = F.nll_loss(given.flatten(0, 1), targets.flatten())
    runner.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(runner.task.network.parameters(), clip)
    runner.optimizer.step()
    return loss.detach()


def rate(share: float, fall: float) -> float:
    """Learning rate at a share of the time, as a fraction of its peak."""
    if share < WARM:
        return max(share, 1e-3) / WARM
    return 1.0 if share < fall else max(0.01, (1 - share) / (1 - fall))


def save(runner: Runner, path: Path, steps: int) -> None:
    """Write a variant as a checkpoint of its task."""
    checkpoint: dict[str, Any] = {
        "state_dict": {name: value.cpu() for name, value in runner.task.state_dict().items()},
        "hyper_parameters": dict(runner.task.hparams),
        "global_step": steps,
        "epoch": 0,
    }
    runner.task.on_save_checkpoint(checkpoint)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint, path)


def file_name(name: str) -> str:
    """Name of a variant in file names."""
    return name.replace(", ", "_").replace(" ", "_")


class Training:
    """Training of all variants, with losses and times of their steps.

    Args:
        options: The command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.config = yaml.safe_load(options.config.read_text())
        self.runners = [build(name, self.config["optimizer"]["init_args"], options.device) for name in options.variants]
        self.losses: dict[str, list[float]] = {name: [] for name in options.variants}
        self.milliseconds = dict.fromkeys(options.variants, float("nan"))
        self.sums = {name: torch.zeros((), device=options.device) for name in options.variants}
        self.steps = self.tables = 0

    def run(self) -> None:
        """Train until the time is over; a variant that fails at its first step is dropped with a message."""
        clip, log = self.config["trainer"]["gradient_clip_val"], (self.options.out / "steps.csv").open("w", buffering=1)
        writer = csv.writer(log)
        writer.writerow(["seconds", "steps", "tables", "variant", "loss", "milliseconds"])
        batches, begun, kept = stream(self.config, self.options), time.perf_counter(), False
        with log:
            while (share := (time.perf_counter() - begun) / self.options.seconds) < 1:
                if not kept and share > self.options.fall:
                    self.save(".stable")
                    kept = True
                batch = next(batches)
                batch = batch._replace(x=batch.x.to(self.options.device), y=batch.y.to(self.options.device))
                self._round(batch, rate(share, self.options.fall), clip)
                if self.steps % EACH == 0:
                    writer.writerows(self._figures(time.perf_counter() - begun))
        self.save("")

    def save(self, ending: str) -> None:
        """Write every variant as a checkpoint of its task."""
        for runner in self.runners:
            save(runner, self.options.out / f"{file_name(runner.name)}{ending}.ckpt", self.steps)

    def _round(self, batch: TableBatch, factor: float, clip: float) -> None:
        timed = self.steps % EACH == EACH // 2
        for runner in list(self.runners):
            before = time.perf_counter()
            try:
                self.sums[runner.name] += step(runner, batch, factor, clip)
            except RuntimeError as ex:
                if self.steps or len(self.runners) == 1:
                    raise
                sys.stderr.write(f"{runner.name} is left out: {ex}\n")
                self.runners.remove(runner)
            if timed:
                float(self.sums[runner.name])  # synchronises with the device
                self.milliseconds[runner.name] = 1000 * (time.perf_counter() - before)
        self.tables, self.steps = self.tables + len(batch.x), self.steps + 1

    def _figures(self, seconds: float) -> Iterator[list[Any]]:
        for runner in self.runners:
            loss = float(self.sums[runner.name]) / EACH
            self.sums[runner.name].zero_()
            self.losses[runner.name].append(loss)
            name, time_of_step = runner.name, self.milliseconds[runner.name]
            yield [f"{seconds:.1f}", self.steps, self.tables, name, f"{loss:.4f}", f"{time_of_step:.1f}"]
        sys.stderr.write(f"{self.steps} steps, {self.tables} tables, {seconds:.0f} s\n")


SCORE = """
import sys, warnings
from benchmarks import openml
warnings.simplefilter("ignore")
options = openml.arguments([sys.argv[1], "--model", sys.argv[2], "--device", sys.argv[3]])
options.methods = []
openml.measure(options).to_csv(sys.argv[4], index=False)
"""


def score(names: list[str], options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Score the variants on real tables, in parallel."""
    paths = {name: options.out / f"{file_name(name)}.csv" for name in names}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCORE, options.tables, path.with_suffix(".ckpt"), str(options.device), path],
            stderr=path.with_suffix(".log").open("w"),
        )
        for path in paths.values()
    ]
    for process in processes:
        process.wait()
    found = {}
    for name, path in paths.items():
        if path.is_file():
            rows = list(csv.DictReader(path.open()))
            found[name] = {
                key: sum(float(row[key]) for row in rows) / len(rows) for key in ("auc", "accuracy", "log_loss")
            }
    return found


def report(training: Training, scores: dict[str, dict[str, float]]) -> str:
    """Report in Markdown: size of each variant, loss over the last half of its steps, time of a step, and scores."""
    lines = [
        "| variant | parameters | training loss | ms per step | ROC AUC | accuracy | log-loss |",
        "| --- " + "| ---: " * 6 + "|",
    ]
    for runner in training.runners:
        losses = training.losses[runner.name]
        late = losses[len(losses) // 2 :] or [float("nan")]
        size = sum(parameter.numel() for parameter in runner.task.network.parameters())
        given = scores.get(runner.name, {})
        figures = [f"{given[key]:.4f}" if given else "" for key in ("auc", "accuracy", "log_loss")]
        row = [runner.name, f"{size:,}", f"{sum(late) / len(late):.4f}", f"{training.milliseconds[runner.name]:.0f}"]
        lines.append(f"| {' | '.join([*row, *figures])} |")
    said = f"{training.steps} steps on the same {training.tables} tables."
    return "\n".join([said, "", *lines, ""])


def main(argv: Sequence[str] | None = None) -> None:
    """Train and score the variants; write and print the report."""
    options = arguments(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    training = Training(options)
    training.run()
    names = [runner.name for runner in training.runners]
    text = report(training, {} if options.tables is None else score(names, options))
    (options.out / "report.md").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()

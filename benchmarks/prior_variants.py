"""``python -m benchmarks.prior_variants``: in-context classifiers of several structures, trained on one stream of tables.

All variants take a step on every batch, in turn, so that they see the same tables. The learning rate stays constant and
falls in the last third; each variant is kept as a checkpoint before the fall, to be trained further, and after it. With a
folder of tables, each is then scored as ``benchmarks.openml`` scores the packaged weights.
"""

import argparse
import csv
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from datamodules.priors.scm_options import ScmOptions
from datamodules.priors.synthetic import SyntheticPrior
from tabattn.attention import MECHANISMS
from tabattn.batches import TableBatch
from tabattn.models.prior_options import PriorOptions
from tabattn.optim import MuonAdamW
from tabattn.tasks import PriorClassification

CONFIG = Path(__file__).parents[1] / "configs" / "prior_gpu.yaml"
WARM = 0.02
"""Share of the time at which the learning rate has risen."""

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
"""What differs between the variants; all have width 64 and 4 heads."""


class Runner(NamedTuple):
    """A variant in training."""

    name: str
    task: PriorClassification
    optimizer: MuonAdamW
    arguments: dict[str, Any]


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prior_variants", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seconds", type=float, default=330, help="of training, all variants together")
    parser.add_argument("--fall", type=float, default=0.65, help="share of the time at which the learning rate falls")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--tables", type=Path, help="folder with index.csv and its files, to score the variants on")
    parser.add_argument("--config", type=Path, default=CONFIG, help="whose data, and optimizer, all variants share")
    parser.add_argument("--max-cells", type=int, help="cells of a batch; without it, the configuration's")
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--workers", type=int, help="processes that make tables; without it, the configuration's")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/prior_variants"), help="folder of the results")
    return parser.parse_args(argv)


def build(name: str, optimizer: dict[str, Any], device: str) -> Runner:
    """A variant with weights of its own, the same at every call."""
    given: dict[str, Any] = {"dim": 64, "heads": 4, "classes": 10, **VARIANTS[name]}
    given["options"] = PriorOptions(**given.get("options", {}))
    if given.get("cell_attention"):
        given["cell_attention"] = factory(given["cell_attention"])
    torch.manual_seed(0)
    task = PriorClassification(**given).to(device)
    return Runner(name, task, MuonAdamW(task.network.parameters(), **optimizer), given)


def factory(given: dict[str, Any]) -> Any:
    """The attention of a description."""
    return partial(MECHANISMS[given["class_path"].rpartition(".")[2]], **given["init_args"])


def stream(config: dict[str, Any], options: argparse.Namespace) -> Iterator[TableBatch]:
    """The endless tables of a configuration."""
    given = {**config["data"]["init_args"], "views": options.views}
    given["scm"] = ScmOptions(**given["scm"])
    if options.max_cells is not None:
        given["max_cells"] = options.max_cells
    if options.workers is not None:
        given["num_workers"] = options.workers
    loader = SyntheticPrior(**{**given, "tables": ("sklearn:iris",)}).train_dataloader()
    while True:
        yield from loader


def step(runner: Runner, batch: TableBatch, factor: float, clip: float) -> Tensor:
    """One step of a variant; its loss."""
    for group, base in zip(runner.optimizer.param_groups, runner.optimizer.bases, strict=True):  # type: ignore[attr-defined]
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
    """The learning rate as a fraction of its peak, at a share of the time."""
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
    """The name of a variant in names of files."""
    return name.replace(", ", "_").replace(" ", "_")


def train(options: argparse.Namespace) -> list[str]:
    """Train all variants; those that fail at their first step are left out, and said.

    Returns:
        Their names.
    """
    config = yaml.safe_load(options.config.read_text())
    optimizer, clip = config["optimizer"]["init_args"], config["trainer"]["gradient_clip_val"]
    runners = [build(name, optimizer, options.device) for name in options.variants]
    for runner in runners:
        runner.optimizer.bases = [group["lr"] for group in runner.optimizer.param_groups]  # type: ignore[attr-defined]
    batches = stream(config, options)
    log = csv.writer((options.out / "steps.csv").open("w", buffering=1))
    log.writerow(["seconds", "steps", "tables", "variant", "loss", "milliseconds"])
    tables = steps = 0
    fallen = False
    waited, begun = 0.0, time.perf_counter()
    sums = {runner.name: torch.zeros((), device=options.device) for runner in runners}
    spent = dict.fromkeys(sums, 0.0)
    while (now := time.perf_counter() - begun) < options.seconds:
        before = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - before
        batch = batch._replace(x=batch.x.to(options.device, non_blocking=True), y=batch.y.to(options.device))
        if not fallen and now > options.fall * options.seconds:
            fallen = True
            for runner in runners:
                save(runner, options.out / f"{file_name(runner.name)}.stable.ckpt", steps)
        timed = steps % 50 == 10
        for runner in list(runners):
            before = time.perf_counter()
            try:
                sums[runner.name] += step(runner, batch, rate(now / options.seconds, options.fall), clip)
            except RuntimeError as ex:
                if steps:
                    raise
                sys.stderr.write(f"{runner.name} is left out: {ex}\n")
                runners.remove(runner)
                if not runners:
                    raise
                continue
            if timed:
                if options.device == "cuda":
                    torch.cuda.synchronize()
                spent[runner.name] = time.perf_counter() - before
        tables, steps = tables + len(batch.x), steps + 1
        if steps % 50 == 0 or steps == 1:
            for runner in runners:
                mean = float(sums[runner.name]) / (50 if steps > 1 else 1)
                log.writerow([f"{now:.1f}", steps, tables, runner.name, f"{mean:.4f}", f"{1000 * spent[runner.name]:.1f}"])
                sums[runner.name].zero_()
            if steps % 250 == 0 or steps == 1:
                losses = f"{steps} steps, {tables} tables, {now:.0f} s, {waited:.0f} s waited"
                sys.stderr.write(losses + "\n")
    for runner in runners:
        save(runner, options.out / f"{file_name(runner.name)}.ckpt", steps)
    return [runner.name for runner in runners]


SCORE = """
import sys, warnings
from benchmarks import openml
warnings.simplefilter("ignore")
options = openml.arguments([sys.argv[1], "--model", sys.argv[2], "--device", sys.argv[3]])
options.methods = []
openml.measure(options).to_csv(sys.argv[4], index=False)
"""


def score(names: list[str], options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Score the variants on real tables, all at one time."""
    paths = {name: options.out / f"{file_name(name)}.csv" for name in names}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCORE, options.tables, path.with_suffix(".ckpt"), options.device, path],
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


def main(argv: Sequence[str] | None = None) -> None:
    """Train, score, and write what came out."""
    options = arguments(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    names = train(options)
    if options.tables is not None:
        scores = score(names, options)
        (options.out / "scores.json").write_text(json.dumps(scores, indent=1))
        for name, entry in scores.items():
            sys.stdout.write(f"{name:28} " + " ".join(f"{key} {value:.4f}" for key, value in entry.items()) + "\n")


if __name__ == "__main__":
    main()

"""Autoencoder of networks, training step and quality: ``python -m benchmarks.zoo_vae``.

Without arguments it measures a training step; with ``--original FOLDER``, a checkout of CTLab-ITMO/Netformer, also that
of the original at its configuration. With ``--checkpoint`` it measures the quality of trained autoencoders on the zoo
of ``--zoo``. ``--ablation`` trains with each part of the loss left out or replaced, ``--sweep`` with each mechanism;
both by ``configs/zoo.yaml`` and further arguments, such as ``--data.path=zoo.h5 --trainer.max_steps=1000``.
"""

import argparse
import importlib.util
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import median_seconds, provenance
from benchmarks.reports import add_out, check_checkout, check_least, check_trainings, publish
from benchmarks.zoo_quality import quality
from benchmarks.zoo_variants import LOSSES, ablation, sweep
from tabattn.tasks import NetworkVAE
from tabattn.training.cli import CLI

CPU = torch.device("cpu")
CONFIG = Path(__file__).parents[1] / "configs" / "zoo.yaml"
ORIGINAL = Path("lib", "netformer", "netformer.py")
TOKENS, ROWS = 350, 20
TAKEN = ("--model.attention", "--model.loss", "--model.form", "--seed_everything")


def steps(zoo: Path, original: Path | None) -> list[list[str]]:
    """Rows of what is trained, networks of a step, seconds of a step, and networks per second."""
    ours, size = _step(zoo)
    entrants = {"ours, by configs/zoo.yaml": (ours, size)}
    if original is not None:
        entrants["the original at its configuration"] = (_original_step(original), ROWS)
    seconds = median_seconds({name: step for name, (step, _) in entrants.items()}, 3, CPU)
    return [
        [name, str(count), f"{seconds[name]:.3g}", f"{count / seconds[name]:.3g}"]
        for name, (_, count) in entrants.items()
    ]


def _step(path: Path) -> tuple[Any, int]:
    """Training step by the configuration, and the number of its networks."""
    quiet = ["--trainer.logger=false", "--trainer.accelerator=cpu", f"--data.path={path}"]
    cli = CLI([f"--config={CONFIG}", *quiet], run=False)
    task: NetworkVAE = cli.model
    cli.datamodule.setup("fit")
    batch = next(iter(cli.datamodule.train_dataloader()))
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        task.batch_loss(batch, 0.5)[0].backward()
        optimizer.step()

    return step, len(batch.number)


def _original_step(folder: Path) -> Any:
    """Training step of the original at its configuration, as its example has it, on tokens of its form."""
    module = _module(folder / ORIGINAL)
    torch.manual_seed(0)
    network = module.NetFormer(1024, 4, 4, 1024, 0)
    optimizer = torch.optim.Adam(network.parameters(), lr=4e-5, betas=(0.9, 0.98), eps=1e-9)
    tokens, meta = torch.randn(ROWS, TOKENS, 4), torch.randn(ROWS, 26)

    def step() -> None:
        optimizer.zero_grad()
        output: Tensor = network(tokens, tokens, meta)
        loss = 1.5 * (output[..., :2] - tokens[..., :2]).square().mean()
        loss = loss + (output[..., 2:] - tokens[..., 2:]).square().mean() + 0.01 * network.encoder.kl
        loss.backward()
        optimizer.step()

    return step


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("original_netformer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Table in Markdown."""
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.zoo_vae",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--original", type=Path, metavar="FOLDER", help="checkout of CTLab-ITMO/Netformer")
    parser.add_argument("--checkpoint", type=Path, nargs="+", help="checkpoints of trained autoencoders")
    parser.add_argument("--zoo", type=Path, default=Path("zoo.h5"), help="zoo of these (default: %(default)s)")
    parser.add_argument(
        "--split",
        choices=("network", "task", "architecture"),
        default="network",
        help="what the networks of trainings and tests do not share, as data.split (default: %(default)s)",
    )
    parser.add_argument("--ablation", action="store_true", help="train with parts of the loss left out")
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=LOSSES,
        default=[*LOSSES],
        metavar="NAME",
        help="only these of the ablation: " + "; ".join(LOSSES),
    )
    parser.add_argument("--sweep", action="store_true", help="train with each mechanism")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="seeds of trainings (default: 0 1)")
    add_out(parser, "zoo_vae.md")
    options, further = parser.parse_known_args(argv)
    check_least(parser, options, seeds=0)
    check_checkout(parser, "original", options.original, str(ORIGINAL))
    for path in options.checkpoint or []:
        if not path.is_file():
            parser.error(f"checkpoint: there is no file {path}")
    options.further = check_trainings(parser, further, TAKEN)
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is asked for and write the report."""
    options = arguments(argv)
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    parts = []
    if options.checkpoint:
        columns = [quality(path, options.zoo, options.split) for path in options.checkpoint]
        rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
        parts += ["## Quality", "", *table(["", *(str(path) for path in options.checkpoint)], rows), ""]
    if options.ablation:
        parts += ["## Parts of the loss", "", *table(*ablation(options.variants, options.seeds, options.further)), ""]
    if options.sweep:
        parts += ["## Mechanisms between neurons", "", *table(*sweep(options.seeds[:1], options.further)), ""]
    if not parts:
        rows = steps(options.zoo, options.original)
        head = ["", "networks a step", "seconds a step", "networks per second"]
        parts = ["## Training step", "", *table(head, rows), ""]
    given = " ".join(argv if argv is not None else sys.argv[1:])
    command = f"`python -m benchmarks.zoo_vae{given and ' '}{given}`"
    top = ["# Autoencoder of networks", "", command, "", f"{provenance(CPU)}.", ""]
    publish("\n".join([*top, *parts]), options.out)
    sys.stdout.write(f"{options.out}\n")


if __name__ == "__main__":
    main()

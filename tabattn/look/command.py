"""Command line of pictures of a trained network: what a training with the callback ``Look`` shows, as PNG files."""

import argparse
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from callbacks.embeddings import MAX_POINTS
from tabattn.cli import main as run_command
from tabattn.contract.checks import check_expression, check_least
from tabattn.contract.errors import one_line
from tabattn.look.page import write_page
from tabattn.look.sources import Source, source_of

DESCRIPTION = """Draws what is in a trained network, without training, as PNG files and one HTML page: attention maps
of every layer, similarity of heads, calibration, precision-recall curves, predictions and trajectories where the task
has them, histograms of weights, and t-SNE of a layer. The data are those of the checkpoint's run."""
EPILOG = """Flags that begin with --model., --data. or --trainer. override the run's configuration, as for train.py:
  python -m tabattn.look runs/prior/Softmax/version_0/checkpoints/best.ckpt --tsne network.blocks.2
  python -m tabattn.look shipped --data.tables=[sklearn:wine,table.csv:target] --out look"""
PASSED = ("--model.", "--data.", "--trainer.", "--allow", "--debug", "--seed_everything")
"""Beginnings of flags that the run takes."""
LEFT_OUT = ["Embeddings", "Weights", "Throughput", "HParams", "TaskExamples"]
"""Callbacks that show a training, or in TensorBoard alone."""
KEPT = ("AlphaAnnealing", "Projections")
"""Callbacks of this project that a network needs to be what it was in training."""


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    found = argparse.ArgumentParser(
        "python -m tabattn.look", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawTextHelpFormatter
    )
    add = found.add_argument
    add("checkpoint", help="checkpoint of a run; 'shipped' = the classifier in the package, 'shipped:pairs_const' and\n"
        "others = its networks of sequences; a weight file (.safetensors) with --config")  # fmt: skip
    add("--config", help="configuration in place of the run's config.yaml, or the name of a packaged one")
    add("--out", help="folder of the pictures; by default 'look' in the folder of the run, else in the current one")
    add("--split", choices=("validation", "test"), default="validation", help="data to look at (default: validation)")
    add("--layers", help="regular expression searched in module paths: layers whose attention is drawn (default: all)")
    add("--items", type=int, default=2, help="items whose attention maps are drawn, at most 8 (default: 2)")
    add("--batches", type=int, default=32, help="batches whose predictions are shown (default: 32)")
    add("--tsne", metavar="LAYER", help="path of a layer whose outputs are drawn by t-SNE; 'last' = the last block")
    add("--points", type=int, default=1000, help="most points of the t-SNE (default: 1000)")
    return found


def main(args: Sequence[str] | None = None) -> int:
    """Draw the pictures, print their paths, and return the exit status of the run (see ``tabattn.training.cli.main``).

    Args:
        args: Words of the command line; None = those of the process.
    """
    options, passed = parser().parse_known_args(args)
    try:
        for word in passed:
            if word.startswith("-") and not word.startswith(PASSED):
                raise ValueError(f"unknown flag {word}: there are those of --help, and {', '.join(PASSED[:3])}")
        found = source_of(options.checkpoint, options.config)
        # Now, and not after the run: it is not of a library that is missing.
        config = prepared(found, options)
    except (ValueError, OSError) as ex:
        sys.stderr.write(f"error: {one_line(str(ex))}\n")
        return 2
    out = Path(options.out) if options.out else found.home / "look"
    config["trainer"]["logger"] = {
        "class_path": "callbacks.picture_logger.PictureLogger",
        "init_args": {"save_dir": str(out)},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        path.write_text(yaml.safe_dump(config))
        command = "validate" if options.split == "validation" else "test"
        words = [command, "--config", str(path), *found.flags, *passed]
        with warnings.catch_warnings():
            # Callbacks of the training that save checkpoints are not needed here.
            warnings.filterwarnings("ignore", "Be aware that when using `ckpt_path`")
            status = run_command(words)
    if status == 0:
        for written in write_page(out, f"{options.checkpoint}, {options.split}"):
            sys.stdout.write(f"{written}\n")
    return status


def prepared(found: Source, options: argparse.Namespace) -> dict[str, Any]:
    """Configuration of the run with callbacks that look at the network, on one device.

    Raises:
        ValueError: An option is out of bounds.
    """
    check_expression("layers", options.layers)
    for name, value, most in (("items", options.items, 8), ("points", options.points, MAX_POINTS)):
        if not 1 <= value <= most:
            raise ValueError(f"{name} must be at least 1 and at most {most}, got {value}")
    check_least(batches=(options.batches, 1))
    look = {"layers": options.layers, "items": options.items, "batches": options.batches, "without": LEFT_OUT}
    callbacks: list[dict[str, Any]] = [
        {"class_path": "Look", "init_args": look},
        {"class_path": "tabattn.look.histograms.WeightHistograms"},
    ]
    if options.tsne is not None:
        layers = None if options.tsne == "last" else [options.tsne]
        arguments = {"layers": layers, "limit": options.points}
        callbacks.append({"class_path": "tabattn.look.tsne.TSNE", "init_args": arguments})
    config: dict[str, Any] = {
        part: found.config[part] for part in ("model", "data", "seed_everything") if part in found.config
    }
    trainer = dict(found.config.get("trainer") or {})
    own = [each for each in trainer.get("callbacks") or [] if _acts(each)]
    fresh = {"callbacks": [*own, *callbacks], "enable_model_summary": False, "enable_checkpointing": False}
    single = {"devices": 1, "num_nodes": 1, "strategy": "auto", "fast_dev_run": False}
    return {**config, "trainer": {**trainer, **fresh, **single}}


def _acts(callback: Any) -> bool:
    """Whether a callback of the run is not one that looks on."""
    path = callback.get("class_path") if isinstance(callback, dict) else callback
    package, _, name = str(path).rpartition(".")
    import callbacks

    return name in KEPT or not (package.startswith("callbacks") or (not package and hasattr(callbacks, name)))

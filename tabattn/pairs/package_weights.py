"""Packager ``python -m tabattn.pairs.package_weights KIND run.ckpt``: a weight file of a kind of synthetic pairs.

The header holds class and arguments of the network, the kind, and a description of the training.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from tabattn.contract.errors import DataError
from tabattn.pairs.weights import ATTENTIONS, KIND, PREFIX, SHIPPED, build, load_network, shipped_path
from tabattn.storage.checkpoint_files import read
from tabattn.storage.weight_files import write

LEVELS = {"const": "sequence", "rbf_const_2D": "sequence", "rbf_rbf_2D": "task"}
"""Which mean is subtracted from the values of an own task: that of its sequence where sequences have levels."""

DTYPES = {"float32": torch.float32, "float16": torch.float16}
"""Data types in files; a loaded network is float32."""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.prog = "python -m tabattn.pairs.package_weights"
    parser.add_argument("kind", choices=SHIPPED, help="kind of the tasks that the network was trained on")
    parser.add_argument("checkpoint", type=Path, help="checkpoint of PairInference")
    parser.add_argument("--out", type=Path, help="file to write (default: the packaged one)")
    parser.add_argument(
        "--fact", action="append", default=[], metavar="NAME=TEXT", help="what else is known of the training"
    )
    parser.add_argument(
        "--dtype", choices=list(DTYPES), default="float16", help="type of the numbers in the file (default: float16)"
    )
    options = parser.parse_args(argv)
    for fact in options.fact:
        if not fact.partition("=")[2]:
            parser.error(f"a fact has a name and a text, as in hardware='one CPU core', got {fact!r}")
    if options.out is not None and options.out.suffix != ".safetensors":
        parser.error(f"out must end in .safetensors, got {options.out}")
    return options


def package(checkpoint: Path, kind: str, out: Path, notes: dict[str, str], dtype: torch.dtype) -> None:
    """Write the weights of a checkpoint to a weight file, and check it by loading it.

    Args:
        checkpoint: Checkpoint of ``PairInference``.
        kind: Kind of the tasks that it was trained on.
        out: The file.
        notes: Further facts of the training.
        dtype: Data type of the weights in the file; the units of the data stay as they are.

    Raises:
        ValueError: The checkpoint is of another task, or a weight exceeds the range of ``dtype``.
        DataError: It cannot be read.
    """
    found = read(checkpoint)
    known = found.get("hyper_parameters", {})
    task = str(known.get("_class_path", "")).rpartition(".")[2]
    if task != "PairInference":
        raise ValueError(f"{checkpoint} is no checkpoint of PairInference: its task is {task or 'not named'}")
    network = known["network"] if isinstance(known["network"], dict) else {"class_path": known["network"]}
    own = {name: known[name] for name in ATTENTIONS if known.get(name) is not None}
    described = {"class_path": network["class_path"], "init_args": {**network.get("init_args", {}), **own}}
    weights = {
        name.removeprefix(PREFIX): value
        if name == f"{PREFIX}extent" or not value.is_floating_point()
        else value.to(dtype)
        for name, value in found["state_dict"].items()
        if name.startswith(PREFIX)
    }
    build(described, weights, str(checkpoint))
    training = {"steps": found.get("global_step"), "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest()}
    header = {"kind": kind, "level": LEVELS[kind], "training": {**training, "torch": torch.__version__, **notes}}
    out.parent.mkdir(parents=True, exist_ok=True)
    tensors = {PREFIX + name: value for name, value in weights.items()}
    write(out, tensors, {"network": described, **header}, KIND)
    load_network(out)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the weight file and print a summary.

    Returns:
        Exit status: 0 done, 2 a checkpoint that does not fit, 3 a file that cannot be read or written.
    """
    options = arguments(argv)
    out = options.out or shipped_path(options.kind)
    notes = dict(fact.split("=", 1) for fact in options.fact)
    try:
        package(options.checkpoint, options.kind, out, notes, DTYPES[options.dtype])
    except (ValueError, OSError, DataError) as ex:
        sys.stderr.write(f"error: {ex}\n")
        return 2 if isinstance(ex, ValueError) else 3
    sys.stdout.write(f"{out}: {out.stat().st_size / 1e6:.2f} MB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

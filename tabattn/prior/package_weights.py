"""Packager ``python -m tabattn.prior.package_weights run.ckpt``: weight files from checkpoints of a run.

The weights of several checkpoints of a run are averaged, which often generalises better than the last one. The header
holds class and arguments of the network, and a description of its training.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tabattn.prior.weights import PREFIX, build, load_network, packaged_path, read_checkpoint, write

Weights = dict[str, Tensor]

DTYPES = {"float32": torch.float32, "float16": torch.float16}
"""Data types in files; a loaded network is float32."""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.prog = "python -m tabattn.prior.package_weights"
    parser.add_argument("checkpoints", type=Path, nargs="+", help="checkpoints of PriorClassification, to be averaged")
    parser.add_argument("--out", type=Path, default=packaged_path(), help="file to write (default: the packaged one)")
    parser.add_argument(
        "--fact", action="append", default=[], metavar="NAME=TEXT", help="what else is known of the training"
    )
    parser.add_argument(
        "--dtype", choices=list(DTYPES), default="float32", help="type of the numbers in the file (default: float32)"
    )
    options = parser.parse_args(argv)
    for fact in options.fact:
        if not fact.partition("=")[2]:
            parser.error(f"a fact has a name and a text, as in hardware='one CPU core', got {fact!r}")
    if options.out.suffix != ".safetensors":
        parser.error(f"out must end in .safetensors, got {options.out}")
    return options


def average(paths: Sequence[Path]) -> tuple[Weights, dict[str, Any], list[dict[str, Any]]]:
    """Average the weights of checkpoints.

    Returns:
        The averaged weights, the arguments of the network, and the facts of each checkpoint.

    Raises:
        ValueError: The checkpoints are of different networks.
    """
    means: Weights = {}
    facts = []
    for path in paths:
        weights, network, fact = read_checkpoint(path)
        facts.append(fact | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
        if not means:
            first = network
            means = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in weights.items()}
        shapes = [{name: value.shape for name, value in entry.items()} for entry in (weights, means)]
        if network != first or shapes[0] != shapes[1]:
            raise ValueError(f"{path} has another network than {paths[0]}")
        for name, value in weights.items():
            means[name] += value.double() / len(paths)
    kinds = {name: value.dtype for name, value in weights.items()}
    return {name: value.to(kinds[name]) for name, value in means.items()}, first, facts


def package(paths: Sequence[Path], out: Path, notes: dict[str, str], dtype: torch.dtype = torch.float32) -> None:
    """Write the averaged weights of checkpoints to a weight file, and check it by loading it.

    Args:
        paths: The checkpoints.
        out: The file.
        notes: Further facts of the training.
        dtype: Data type of the weights in the file.

    Raises:
        ValueError: The checkpoints are of different networks or hold none, or a weight exceeds the range of ``dtype``.
    """
    weights, network, facts = average(paths)
    weights = {name: value.to(dtype) if value.is_floating_point() else value for name, value in weights.items()}
    build(network, weights, str(paths[0]))
    out.parent.mkdir(parents=True, exist_ok=True)
    header = {"network": network, "training": {"checkpoints": facts, "torch": torch.__version__, **notes}}
    write(out, {PREFIX + name: value for name, value in weights.items()}, header)
    load_network(out)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the weight file and print a summary.

    Returns:
        Exit status: 0 done, 2 checkpoints that do not match, 3 a file that cannot be read or written.
    """
    options = arguments(argv)
    try:
        package(
            options.checkpoints, options.out, dict(fact.split("=", 1) for fact in options.fact), DTYPES[options.dtype]
        )
    except (ValueError, OSError) as ex:
        sys.stderr.write(f"error: {ex}\n")
        return 3 if isinstance(ex, OSError) else 2
    size = options.out.stat().st_size
    sys.stdout.write(f"{options.out}: {size / 1e6:.1f} MB from {len(options.checkpoints)} checkpoints\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

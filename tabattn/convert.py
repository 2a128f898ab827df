"""Converter ``python -m tabattn.convert OLD NEW``: files of earlier versions and of nanoTabPFN.

In a configuration (.yaml) or a checkpoint of a task, arguments of earlier versions are moved to their present paths,
each with a message; everything else is kept.

Checkpoints of nanoTabPFN, of its attention fork and of TFM-Playground become checkpoints of ``PriorClassification``.
The result is loaded by ``train.py test --ckpt_path``, by ``PriorClassification.load_from_checkpoint`` and by
``--model.init_from``. Its logits are those of the original, except for a column that is constant in the context: there
TFM-Playground adds 1e-8 to the standard deviation, not 1e-20. Dropout is in no checkpoint and starts at 0.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning
from torch import Tensor

from tabattn.attention import AttentionFactory, Local, Pooling, Scratch, Softmax, Sparse
from tabattn.contract.errors import DataError
from tabattn.prior.nanotabpfn import NanoTabPFN
from tabattn.prior.translate import CONTEXT, FOUR_PROJECTIONS, Sizes, kinds, sizes, translate
from tabattn.storage.checkpoint_files import load
from tabattn.storage.files import write_checkpoint
from tabattn.storage.finite import non_finite_weight
from tabattn.tasks import PriorClassification
from tabattn.upgrade import is_of_task, upgrade_checkpoint, upgrade_config

KINDS = ("Original", "Sparse", "Pooling", *FOUR_PROJECTIONS)
"""Attention types of the fork, by the fork's names."""

WINDOWED = ("Sparse", "Local", "Optimized Local", "Einstein")
"""Attention types with a window."""

FILE_KINDS = {
    "local_opt": "Optimized Local",
    "optimized_local": "Optimized Local",
    "einstein": "Einstein",
    "local": "Local",
    "scratch": "Scratch",
}
"""Attention types by a part of the file's name; the first that occurs counts."""

FILE_WINDOWS = {
    ("nanotabpfn_sparse_attention", 2): ("Sparse", 8),
    ("nanotabpfn_sparse_attention_small", 2): ("Sparse", 4),
    ("nanotabpfn_sparse_attention_big", 2): ("Sparse", 30),
    ("nanotabpfn_local_attention", 2): ("Local", 8),
    ("nanotabpfn_own_prior_local_attention_500_seed0", 7): ("Local", 8),
}
"""Attention type and window of the fork's published files, by name and number of classes, as some share a name."""

DEFAULT_HEADS = 4


class Conversion(NamedTuple):
    """Result of a conversion: name, attention type and window, heads, sizes, and whether weights were dropped.

    As text it is one line.
    """

    name: str
    kind: str
    window: int | None
    heads: int
    size: Sizes
    unread: bool

    def __str__(self) -> str:
        window = "" if self.window is None else f" with window {self.window}"
        size = f"layers {self.size.layers}, width {self.size.dim}, heads {self.heads}, classes {self.size.classes}"
        dropped = "; left out: the last layer's attention between context rows, which nothing reads"
        return f"{self.name}: {self.kind}{window}, {size}{dropped if self.unread else ''}"


def convert(
    source: str | Path,
    out: str | Path,
    attention: str | None = None,
    window: int | None = None,
    heads: int | None = None,
) -> Conversion:
    """Convert a checkpoint of nanoTabPFN, its fork or TFM-Playground.

    Args:
        source: The file to convert.
        out: The checkpoint to write, atomically.
        attention: Type of the attention between context rows, by the fork's name; None = inferred from weights and file
            name.
        window: Window size of the fork; None = inferred from the file name.
        heads: Number of heads; None = as stored in the file, else 4.

    Returns:
        What the file held, and whether weights were dropped.

    Raises:
        ValueError: An argument is missing, or does not match the weights.
        DataError: A file cannot be read or written, or holds something else.
    """
    source, out = Path(source), Path(out)
    if out.exists() and source.exists() and out.samefile(source):
        raise ValueError(f"out must be another file than the source, got {out} for both")
    theirs, told = read(source)
    size = sizes(theirs)
    kind = _kind(kinds(theirs, size.layers), attention, source.stem)
    window = _window(kind, window, FILE_WINDOWS.get((source.stem, size.classes)))
    heads = _heads(heads, told)
    network = partial(
        NanoTabPFN, dim=size.dim, heads=heads, hidden=size.hidden, layers=size.layers, classes=size.classes
    )
    task = PriorClassification(
        network,
        _mechanism(kind, window, size) if size.layers > 1 else Softmax,
    )
    ours = translate(theirs, size, heads)
    if name := non_finite_weight(task.network, ours):
        raise DataError(f"{source} holds weights that are not finite, in {name}: its training had diverged")
    task.network.load_state_dict(ours)
    write(task, out)
    return Conversion(source.name, kind, window, heads, size, any(f".{CONTEXT}." in name for name in theirs))


def read(path: Path) -> tuple[dict[str, Tensor], int | None]:
    """Read the weights, and the number of heads if the file holds it.

    Raises:
        DataError: The file cannot be read, or holds more than weights and plain values.
    """
    try:
        content = load(path)
    except ValueError as ex:
        raise DataError(str(ex)) from ex
    heads = None
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        architecture = content.get("architecture")
        told = architecture.get("num_attention_heads") if isinstance(architecture, Mapping) else None
        heads = told if isinstance(told, int) else None
        content = content["model"]
    if not isinstance(content, Mapping) or not all(isinstance(weight, Tensor) for weight in content.values()):
        raise DataError(f"{path} holds no weights by name")
    return {str(name): weight for name, weight in content.items()}, heads


def write(task: PriorClassification, path: Path) -> None:
    """Write a checkpoint of weights and arguments, as the trainer would.

    Raises:
        DataError: The file cannot be written.
    """
    checkpoint: dict[str, Any] = {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": lightning.__version__,
        "state_dict": task.state_dict(),
        "hyper_parameters": dict(task.hparams),
    }
    task.on_save_checkpoint(checkpoint)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(path, checkpoint)
    except (OSError, RuntimeError) as ex:
        raise DataError(f"{path} cannot be written: {ex}") from ex


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments; None = those of the process.

    Returns:
        Exit status: 0 done, 2 wrong use, 3 file error.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tabattn.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("source", type=Path, help="configuration, or checkpoint of ours or theirs")
    parser.add_argument("out", type=Path, help="file to write")
    parser.add_argument("--attention", choices=KINDS, help="attention between context rows, by the fork's name")
    parser.add_argument("--window", type=int, help="the fork's window size")
    parser.add_argument("--heads", type=int, help=f"number of heads (default: told by the file, else {DEFAULT_HEADS})")
    options = parser.parse_args(argv)
    try:
        found = upgrade(options.source, options.out)
        sys.stdout.write(f"{convert(**vars(options)) if found is None else found}\n")
    except (DataError, ValueError) as ex:
        sys.stderr.write(f"error: {ex}\n")
        return 3 if isinstance(ex, DataError) else 2
    return 0


def upgrade(source: Path, out: Path) -> str | None:
    """Migrate a configuration or a checkpoint of a task; see ``tabattn.upgrade``.

    Returns:
        A line for each argument that moved; None if the file is neither.

    Raises:
        ValueError: Arguments are invalid, or both paths are the same file.
        DataError: A file cannot be read or written.
    """
    is_config = source.suffix in (".yaml", ".yml")
    if not is_config and not is_of_task(source):
        return None
    if out.exists() and out.samefile(source):
        raise ValueError(f"out must be another file than the source, got {out} for both")
    moved = (upgrade_config if is_config else upgrade_checkpoint)(source, out)
    return "\n".join([f"{source.name}: {len(moved)} arguments moved", *moved])


def _kind(possible: tuple[str, ...], attention: str | None, stem: str) -> str:
    if attention is not None:
        if attention not in possible:
            raise ValueError(f"attention must be {' or '.join(possible)} to fit the weights, got {attention}")
        return attention
    if len(possible) == 1:
        return possible[0]
    for part, kind in FILE_KINDS.items():
        if part in stem:
            return kind
    raise ValueError(f"the weights fit {', '.join(possible)} alike: say by --attention which it was")


def _window(kind: str, window: int | None, known: tuple[str, int] | None) -> int | None:
    if kind not in WINDOWED:
        if window is not None:
            raise ValueError(f"window does not go with {kind} attention, got {window}")
        return None
    if window is not None:
        return window
    if known is None or known[0] != kind:
        raise ValueError(f"no checkpoint holds the window of {kind} attention: say by --window what it was")
    return known[1]


def _heads(heads: int | None, told: int | None) -> int:
    if heads is None:
        return DEFAULT_HEADS if told is None else told
    if told is not None and heads != told:
        raise ValueError(f"heads must be {told}, as the file says, got {heads}")
    return heads


def _mechanism(kind: str, window: int | None, size: Sizes) -> AttentionFactory:
    """Mechanism of a fork's attention type. In both programs, Local's window is per side, Sparse's over both sides."""
    if window is None:
        ours: dict[str, AttentionFactory] = {
            "Original": Softmax,
            "Scratch": Scratch,
            "Pooling": partial(Pooling, points=size.points),
        }
    else:
        ours = {
            "Sparse": partial(Sparse, window=window),
            "Einstein": partial(Sparse, window=window),
            "Local": partial(Local, window=window, edges="zero"),
            "Optimized Local": partial(Local, window=window),
        }
    return ours[kind]


if __name__ == "__main__":
    sys.exit(main())

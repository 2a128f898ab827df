"""Parity of converted checkpoints with originals: ``python -m benchmarks.convert_parity --original <folder>``.

The folders are checkouts of the original programs, which are no part of this project. Every ``.pt`` file of the
attention fork is converted, and both networks run on the same random tables. The other two projects publish no weights:
networks with random weights are compared.
"""

import argparse
import contextlib
import importlib.util
import io
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.measure import provenance
from benchmarks.reports import add_out, check_checkout, publish
from tabattn.convert import Conversion, convert
from tabattn.tasks import PriorClassification

BATCH, ROWS, CONTEXT, FEATURES = 3, 100, 80, 13
LARGE_COLUMN, FACTOR = 7, 1000
TOLERANCE = 1e-3
ASSUMED_WINDOW = 8
"""Window of both networks if that of the training is unknown."""

WINDOW_NAMES = {"Sparse": "local_window", "Local": "window", "Einstein": "window", "Optimized Local": "W"}
"""Names of the window argument in the fork's modules."""

CHECKOUTS = {"original": "model.py", "upstream": "model.py", "playground": "tfmplayground/models/nanotabpfn.py"}
"""Source file of each project's network."""


class Row(NamedTuple):
    """Row of the report: file, attention with its window, largest difference and largest magnitude of the logits."""

    file: str
    attention: str
    difference: float
    size: float


def load_module(path: Path) -> ModuleType:
    """Import a file of a checkout, with its folder on the import path."""
    spec = importlib.util.spec_from_file_location(f"original_{abs(hash(path))}", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"error: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


def tables(classes: int) -> tuple[Tensor, Tensor]:
    """Return fixed random cells and labels; one column has large values."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, ROWS, FEATURES, generator=generator)
    x[:, :, LARGE_COLUMN] *= FACTOR
    return x, torch.randint(0, classes, (BATCH, ROWS), generator=generator)


@torch.no_grad()
def compare(file: str, attention: str, theirs: nn.Module, ours: Path) -> Row:
    """Run both networks on the same tables."""
    task = PriorClassification.load_from_checkpoint(ours, map_location="cpu", weights_only=True).eval()
    x, y = tables(int(task.hparams["classes"]))
    want = theirs.eval()((x, y[:, :CONTEXT].float()), train_test_split_index=CONTEXT)
    got = task.network(x, y, CONTEXT)
    return Row(file, attention, (got - want).abs().max().item(), want.abs().max().item())


def forked(model: Callable[..., nn.Module], found: Conversion, weights: dict[str, Tensor]) -> nn.Module:
    """Build the fork's network for a checkpoint."""
    dim, hidden, layers, classes, _ = found.size
    with contextlib.redirect_stdout(io.StringIO()):
        network = model(dim, found.heads, hidden, layers, classes, found.kind)
    for name, module in network.named_modules():
        if found.window is not None and name.endswith("datapoints_train"):
            setattr(module, WINDOW_NAMES[found.kind], found.window)
            if found.kind == "Optimized Local":
                module.dropout = 0.0  # Its dropout is active in eval mode too.
    network.load_state_dict(weights)
    return network


def checkpoints(folder: Path, scratch: Path) -> Iterator[Row]:
    """Compare every checkpoint of the fork."""
    model = load_module(folder / CHECKOUTS["original"]).NanoTabPFNModel
    for path in sorted(folder.rglob("*.pt")):
        known = True
        try:
            found = convert(path, scratch)
        except ValueError:
            known, found = False, convert(path, scratch, window=ASSUMED_WINDOW)
        window = "" if found.window is None else f", window {found.window}{'' if known else ' assumed'}"
        weights = torch.load(path, map_location="cpu", weights_only=True)
        theirs = forked(model, found, weights)
        yield compare(str(path.relative_to(folder)), f"{found.kind}{window}", theirs, scratch)


def fresh(name: str, path: Path, scratch: Path, wrap: Callable[[nn.Module], Any], sizes: Sequence[int]) -> Row:
    """Compare a network with random weights."""
    torch.manual_seed(0)
    network = load_module(path).NanoTabPFNModel(*sizes)
    # No initial zeros and ones, so that a forgotten weight changes the output.
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    theirs = scratch.with_suffix(".pt")
    torch.save(wrap(network), theirs)
    found = convert(theirs, scratch)
    return compare(f"{name}, random weights", f"{found.kind}, shared by all rows", network, scratch)


def playground_file(network: nn.Module) -> dict[str, Any]:
    """Return a checkpoint in TFM-Playground's form."""
    return {"epoch": 1, "architecture": {"num_attention_heads": 6}, "model": network.state_dict()}


def measure(options: argparse.Namespace) -> list[Row]:
    """Compare the networks of all folders given."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder, "ours.ckpt")
        rows = list(checkpoints(options.original, scratch))
        if options.upstream:
            path = options.upstream / CHECKOUTS["upstream"]
            rows.append(fresh("nanoTabPFN", path, scratch, nn.Module.state_dict, (96, 4, 192, 3, 2)))
        if options.playground:
            path = options.playground / CHECKOUTS["playground"]
            rows.append(fresh("TFM-Playground", path, scratch, playground_file, (192, 6, 768, 6, 10)))
    return rows


def report(rows: Sequence[Row]) -> str:
    """Return the report in Markdown."""
    lines = [f"| {row.file} | {row.attention} | {row.difference:.1e} | {row.size:.1f} |\n" for row in rows]
    within = sum(row.difference <= TOLERANCE for row in rows)
    return (
        "# Parity of converted checkpoints with the original networks\n\n"
        f"Written by `python -m benchmarks.convert_parity` on {provenance(torch.device('cpu'))}.\n\n"
        f"Logits on {BATCH} random tables of {ROWS} rows, {CONTEXT} of them context, and {FEATURES} features, one of "
        f"them {FACTOR} times as large as the others; float32. {within} of {len(rows)} networks differ by at most "
        f"{TOLERANCE:g}. A window is *assumed* if that of the training is not recorded; both networks have the same "
        "one.\n\n"
        "| file | attention | largest difference | largest logit |\n| --- | --- | ---: | ---: |\n" + "".join(lines)
    )


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.convert_parity", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--original", type=Path, required=True, help="checkout of the attention fork")
    parser.add_argument("--upstream", type=Path, help="checkout of nanoTabPFN")
    parser.add_argument("--playground", type=Path, help="checkout of TFM-Playground")
    add_out(parser, "convert.md")
    options = parser.parse_args(argv)
    for name, file in CHECKOUTS.items():
        check_checkout(parser, name, getattr(options, name), file)
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; write and print the report. The exit status is 1 if a difference is too large."""
    options = arguments(argv)
    rows = measure(options)
    text = report(rows)
    publish(text, options.out)
    sys.stdout.write(text)
    return int(any(row.difference > TOLERANCE for row in rows))


if __name__ == "__main__":
    sys.exit(main())

"""Parity of converted checkpoints with originals: ``python -m benchmarks.convert_parity --original <folder>``.

The folders are checkouts of the original programs, which are no part of this project. Every ``.pt`` file of the
attention fork is converted, and both networks run on the same random tables, and both classifiers on breast cancer
(scikit-learn's table). The other two projects publish no weights: networks with random weights are compared.
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

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from benchmarks.measure import provenance
from benchmarks.reports import add_out, check_checkout, publish
from tabattn import TabularClassifier
from tabattn.convert import Conversion, convert
from tabattn.tasks import PriorClassification

BATCH, ROWS, CONTEXT, FEATURES = 3, 100, 80, 13
LARGE_COLUMN, FACTOR = 7, 1000
TOLERANCE = 1e-3
TRAIN = 300
"""Labelled rows of breast cancer; the other 269 are predicted."""

PROBABILITY_TOLERANCE = 1e-4
ASSUMED_WINDOW = 8
"""Window of both networks if that of the training is unknown."""

WINDOW_NAMES = {"Sparse": "local_window", "Local": "window", "Einstein": "window", "Optimized Local": "W"}
"""Names of the window argument in the fork's modules."""

CHECKOUTS = {"original": "model.py", "upstream": "model.py", "playground": "tfmplayground/models/nanotabpfn.py"}
"""Source file of each project's network."""


class Row(NamedTuple):
    """Row of the report.

    Attributes:
        file: The checkpoint.
        attention: Its attention, with the window.
        difference: Largest difference of the logits.
        size: Largest magnitude of the logits.
        probability: Largest difference of the classifiers' probabilities; None = the project's file has no classifier.
        scores: ROC AUC of the original's classifier and of ours, (0, 0) without one.
    """

    file: str
    attention: str
    difference: float
    size: float
    probability: float | None
    scores: tuple[float, float]


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


def classified(theirs: nn.Module, classifier: Any, ours: Path) -> tuple[float | None, tuple[float, float]]:
    """Run both classifiers on breast cancer: largest difference of the probabilities, and both values of ROC AUC."""
    if classifier is None:
        return None, (0.0, 0.0)
    x, y = load_breast_cancer(return_X_y=True)
    original = classifier(theirs, torch.device("cpu"))
    original.fit(x[:TRAIN], y[:TRAIN])
    want: NDArray[np.float64] = original.predict_proba(x[TRAIN:])
    plain = TabularClassifier(ours, n_estimators=1, temperature=1.0, plain=True, device="cpu")
    got = plain.fit(x[:TRAIN], y[:TRAIN]).predict_proba(x[TRAIN:])
    scores = tuple(float(roc_auc_score(y[TRAIN:], found[:, 1])) for found in (want, got))
    return float(np.abs(got - want).max()), (scores[0], scores[1])


@torch.no_grad()
def compare(file: str, attention: str, theirs: nn.Module, ours: Path, classifier: Any = None) -> Row:
    """Run both networks on the same tables, and both classifiers."""
    task = PriorClassification.load_from_checkpoint(ours, map_location="cpu", weights_only=True).eval()
    x, y = tables(task.network.classes)
    want = theirs.eval()((x, y[:, :CONTEXT].float()), train_test_split_index=CONTEXT)
    got = task.network(x, y, CONTEXT)
    difference, size = (got - want).abs().max().item(), want.abs().max().item()
    return Row(file, attention, difference, size, *classified(theirs, classifier, ours))


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
    module = load_module(folder / CHECKOUTS["original"])
    for path in sorted(folder.rglob("*.pt")):
        known = True
        try:
            found = convert(path, scratch)
        except ValueError:
            known, found = False, convert(path, scratch, window=ASSUMED_WINDOW)
        window = "" if found.window is None else f", window {found.window}{'' if known else ' assumed'}"
        weights = torch.load(path, map_location="cpu", weights_only=True)
        theirs = forked(module.NanoTabPFNModel, found, weights)
        file, attention = str(path.relative_to(folder)), f"{found.kind}{window}"
        yield compare(file, attention, theirs, scratch, module.NanoTabPFNClassifier)


def fresh(name: str, path: Path, scratch: Path, wrap: Callable[[nn.Module], Any], sizes: Sequence[int]) -> Row:
    """Compare a network with random weights."""
    torch.manual_seed(0)
    module = load_module(path)
    network = module.NanoTabPFNModel(*sizes)
    # No initial zeros and ones, so that a forgotten weight changes the output.
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    theirs = scratch.with_suffix(".pt")
    torch.save(wrap(network), theirs)
    found = convert(theirs, scratch)
    classifier = getattr(module, "NanoTabPFNClassifier", None)
    return compare(f"{name}, random weights", f"{found.kind}, shared by all rows", network, scratch, classifier)


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
    lines = []
    for row in rows:
        answers = "" if row.probability is None else f"{row.probability:.1e}"
        scores = "" if row.probability is None else " / ".join(f"{score:.4f}" for score in row.scores)
        lines.append(
            f"| {row.file} | {row.attention} | {row.difference:.1e} | {row.size:.1f} | {answers} | {scores} |\n"
        )
    within = sum(row.difference <= TOLERANCE for row in rows)
    asked = [row.probability for row in rows if row.probability is not None]
    near = sum(value <= PROBABILITY_TOLERANCE for value in asked)
    return (
        "# Parity of converted checkpoints with the original networks\n\n"
        f"Written by `python -m benchmarks.convert_parity` on {provenance(torch.device('cpu'))}.\n\n"
        f"Logits on {BATCH} random tables of {ROWS} rows, {CONTEXT} of them context, and {FEATURES} features, one of "
        f"them {FACTOR} times as large as the others; float32. {within} of {len(rows)} networks differ by at most "
        f"{TOLERANCE:g}. A window is *assumed* if that of the training is not recorded; both networks have the same "
        "one.\n\n"
        f"Probabilities on breast cancer, {TRAIN} rows of context and 269 to predict, by the project's own classifier "
        "and by `TabularClassifier(converted, n_estimators=1, temperature=1, plain=True)`: "
        f"{near} of {len(asked)} differ by at most {PROBABILITY_TOLERANCE:g}. ROC AUC: theirs / ours; networks that "
        "were trained on adult alone may be on the wrong side of .5, with their own classifier too.\n\n"
        "| file | attention | largest difference | largest logit | difference of probabilities | ROC AUC |\n"
        "| --- | --- | ---: | ---: | ---: | ---: |\n" + "".join(lines)
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
    far = any(row.difference > TOLERANCE or (row.probability or 0.0) > PROBABILITY_TOLERANCE for row in rows)
    return int(far)


if __name__ == "__main__":
    sys.exit(main())

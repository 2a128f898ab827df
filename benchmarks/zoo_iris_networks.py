"""Networks of ``benchmarks.zoo_iris``: classifiers of iris, and those that DeepWeightFlow generates from them."""

import contextlib
import copy
import importlib
import io
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import MagicMock, patch

import torch
import torch.nn.functional as F
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import Generator, Tensor, nn

WIDTHS = (4, 16, 3)
"""Inputs, hidden neurons and classes."""
RATE, BATCH = 1e-3, 16
"""Learning rate of Adam, and rows of a step."""
INITIAL: dict[str, Callable[[Tensor, int, int], None]] = {
    "xavier": lambda weight, width, outputs: _uniform(weight, (6 / (width + outputs)) ** 0.5),
    "he": lambda weight, width, outputs: _normal(weight, (2 / width) ** 0.5),
    "normal": lambda weight, width, outputs: _normal(weight, 0.02),
    "uniform": lambda weight, width, outputs: _uniform(weight, 0.1),
    "default": lambda weight, width, outputs: _uniform(weight, width**-0.5),
}
"""Initial weights: each changes standard normal numbers; those of one network in five are of each kind."""
ENTRY = Path("flowmatching", "train_and_generate.py")
ABSENT = ("torchvision", "transformers", "datasets")
"""Packages that the original imports at its start, and needs in no step here."""
SLOTS = 20
"""Networks of each kind that the original looks for."""


class Iris(NamedTuple):
    """The 120 rows for training and the 30 for the test, standardised, and their classes."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor


def iris() -> Iris:
    """Split iris as DeepWeightFlow does: stratified, always the same rows."""
    x, y = load_iris(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.2, random_state=42, stratify=y)
    scaler = StandardScaler().fit(x)
    rows = (torch.from_numpy(scaler.transform(part)).float() for part in (x, x_test))
    return Iris(next(rows), torch.from_numpy(y), next(rows), torch.from_numpy(y_test))


def train_networks(data: Iris, count: int, seed: int, epochs: int = 100) -> list[nn.Sequential]:
    """Train networks with one hidden layer of ReLU on iris, all at once, each as if it were alone.

    Each has initial weights and an order of rows of its own; their kinds are those of ``INITIAL`` in turn.

    Args:
        data: The table.
        count: Number of networks.
        seed: Seed.
        epochs: Passes over the rows.
    """
    source = Generator().manual_seed(seed)
    weights, biases = [], []
    for width, outputs in pairwise(WIDTHS):
        weight = torch.randn(count, outputs, width, generator=source)
        for number, draw in enumerate(INITIAL.values()):
            draw(weight[number :: len(INITIAL)], width, outputs)
        weights.append(weight.requires_grad_())
        biases.append(torch.zeros(count, 1, outputs, requires_grad=True))
    optimizer = torch.optim.Adam([*weights, *biases], lr=RATE)
    for _ in range(epochs):
        order = torch.rand(count, len(data.x), generator=source).argsort(1)
        for rows in order.split(BATCH, 1):
            hidden = (data.x[rows] @ weights[0].mT + biases[0]).relu()
            logits = hidden @ weights[1].mT + biases[1]
            losses = F.cross_entropy(logits.mT, data.y[rows], reduction="none").mean(1)
            optimizer.zero_grad()
            # A sum: the gradient of each network is that of its own loss.
            losses.sum().backward()
            optimizer.step()
    return [_network([w[i] for w in weights], [b[i, 0] for b in biases]) for i in range(count)]


def original_samples(
    folder: Path, networks: Sequence[nn.Module], hidden: int, seed: int, steps: int | None = None
) -> list[nn.Sequential]:
    """Networks that DeepWeightFlow generates after it is trained on networks, by its program and its configuration.

    Args:
        folder: Checkout of NNeuralDynamics/DeepWeightFlow.
        networks: At most 100 networks; the first is the one that the others are aligned with.
        hidden: Width of its flow.
        seed: Seed.
        steps: Training steps; none = those of its configuration.
    """
    if len(networks) > SLOTS * len(INITIAL):
        raise ValueError(f"networks must be at most {SLOTS * len(INITIAL)}, got {len(networks)}")
    made: list[Any] = []

    def keep(generated: Sequence[Any], *_: object) -> tuple[float, float]:
        made.extend(generated)
        return 0.0, 0.0

    def aligned(**options: Any) -> Any:
        """Its alignment returns, of iris alone, the reference too, which its training does not expect."""
        return align(**options)[-2:]

    with _modules(folder / ENTRY.parent) as original, tempfile.TemporaryDirectory() as saved:
        for number, network in enumerate(networks):
            kind, slot = list(INITIAL)[number // SLOTS], number % SLOTS
            torch.save(_renamed(network), Path(saved, f"mlp_{kind}_seed{slot}.pt"))
        config = original.load_config(str(folder / ENTRY.parent / "constants.json"))
        chosen: dict[str, Any] = config["models"]["mlp_iris"]
        if steps is not None:
            chosen["n_iters"] = steps
        options = Namespace(model="mlp_iris", num_models=100, ref_point=0, hidden_dim=hidden, mode="with_gitrebasin")
        original.device, align = torch.device("cpu"), original.get_permuted_models_data
        torch.manual_seed(seed)
        replaced = patch.multiple(original, print_stats=keep, get_permuted_models_data=aligned)
        said = io.StringIO()
        with replaced, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            original.train_standard_model(options, config, chosen, saved, None)
    if not made:
        raise ValueError(f"hidden must be one of {chosen['flow_hidden_dims']}, got {hidden}")
    return [_network([each.fc1.weight, each.fc2.weight], [each.fc1.bias, each.fc2.bias]) for each in made]


@contextlib.contextmanager
def _modules(folder: Path) -> Iterator[Any]:
    """Import the original's program, and forget its modules, whose names are common ones, afterwards."""
    before = dict(sys.modules)
    sys.path.insert(0, str(folder))
    sys.modules |= {name: MagicMock() for name in ABSENT}
    try:
        yield importlib.import_module(ENTRY.stem)
    finally:
        sys.path.remove(str(folder))
        own = [
            name for name, each in sys.modules.items() if Path(getattr(each, "__file__", None) or "/").parent == folder
        ]
        for name in (*own, *ABSENT):
            del sys.modules[name]
            sys.modules |= {name: before[name]} if name in before else {}


def _renamed(network: nn.Module) -> dict[str, Tensor]:
    """State of a network by the names of the original."""
    state = copy.deepcopy(network.state_dict())
    return {name.replace("0.", "fc1.").replace("2.", "fc2."): value for name, value in state.items()}


def _network(weights: Sequence[Tensor], biases: Sequence[Tensor]) -> nn.Sequential:
    network = nn.Sequential(nn.Linear(*WIDTHS[:2]), nn.ReLU(), nn.Linear(*WIDTHS[1:]))
    with torch.no_grad():
        for own, value in zip(network.parameters(), (weights[0], biases[0], weights[1], biases[1]), strict=True):
            own.copy_(value)
    return network


def _normal(weight: Tensor, std: float) -> None:
    weight.mul_(std)


def _uniform(weight: Tensor, bound: float) -> None:
    """Standard normal numbers to uniform ones."""
    weight.copy_(bound * torch.special.erf(weight * 0.5**0.5))

"""Golden of the original network of Non-Parametric Transformers: ``python -m benchmarks.npt_golden --original DIR``.

``--out tests/reconstruction/npt_original.json`` writes that of the tests. Weights and cells are functions of names and
places, so that nothing but the outputs has to be stored.
"""

import argparse
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.npt_entrants import Settings, original, translated
from benchmarks.reports import add_out, check_checkout, publish
from tabattn.contract.cells import Column

GOLDEN_COLUMNS = (
    Column("kind", ("a", "b"), target=True),
    Column("size"),
    Column("shape", ("flat", "round", "square")),
    Column("age"),
    Column("price", target=True),
)
GOLDEN_ROWS = 7
SIZES = {"model_dim_hidden": 8, "model_num_heads": 2, "model_stacking_depth": 4}


def ramp(network: nn.Module) -> None:
    """Set the parameters of ``LegacyNPT``, or of another network by the same names, to values of a formula."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(ramped(name, parameter.shape))


def ramped(name: str, shape: Sequence[int]) -> Tensor:
    """Values of a parameter by its name."""
    places = torch.arange(torch.Size(shape).numel(), dtype=torch.double).view(*shape)
    return torch.sin(0.7 * places**1.1 + sum(map(ord, name)) % 97) * shape[-1] ** -0.5


def golden_cells() -> tuple[Tensor, Tensor]:
    """Cells and mask, ``(1, rows, columns)``."""
    rows, columns = torch.meshgrid(torch.arange(GOLDEN_ROWS), torch.arange(len(GOLDEN_COLUMNS)), indexing="ij")
    x = torch.sin(3.0 * rows.double() + columns)
    for place, column in enumerate(GOLDEN_COLUMNS):
        if column.categories:
            x[:, place] = (rows[:, place] * 5 % len(column.categories)).double()
    return x[None], ((rows * 3 + columns * 2) % 5 == 0)[None]


def golden_outputs(mean: Tensor, logits: Tensor) -> list[Tensor]:
    """Split predictions of a table into those of its columns, ``(rows, width)``, in the order of the original."""
    numbers, classes = iter(mean.unbind(1)), iter(logits.unbind(1))
    return [
        next(classes)[:, : len(column.categories)] if column.categories else next(numbers)[:, None]
        for column in GOLDEN_COLUMNS
    ]


def ragged() -> list[Tensor]:
    """Input of the original: for each column a number or a one-hot code, and the mask slot."""
    (x,), (hidden,) = golden_cells()
    found = []
    for place, column in enumerate(GOLDEN_COLUMNS):
        shown = F.one_hot(x[:, place].long(), len(column.categories)) if column.categories else x[:, place, None]
        mask = hidden[:, place, None]
        found.append(torch.cat([shown * ~mask, mask.double()], dim=1).double())
    return found


def golden(folder: Path) -> dict[str, Any]:
    """Outputs of the original, and norms of the gradients of their sum of squares."""
    with original(folder):
        from npt.configs import build_parser
        from npt.model.npt import NPTModel

        chosen = Settings(vars(build_parser().parse_args([]))) | SIZES | {"exp_gradient_clipping": 0}
        categorical = [place for place, column in enumerate(GOLDEN_COLUMNS) if column.categories]
        described = {
            "input_feature_dims": [1 + max(1, len(column.categories)) for column in GOLDEN_COLUMNS],
            "cat_features": categorical,
            "num_features": [place for place in range(len(GOLDEN_COLUMNS)) if place not in categorical],
            "cat_target_cols": [0],
            "num_target_cols": [4],
        }
        network = NPTModel(Settings(chosen), metadata=described, device="cpu").double().eval()
    places = {name: torch.tensor(place) for place, name in enumerate(network.state_dict())}
    ours = {int(place): name for name, place in translated(places).items()}
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name, place in places.items():
            parameters[name].copy_(ramped(ours[int(place)], parameters[name].shape))
    outputs = network(ragged())
    sum(each.square().sum() for each in outputs).backward()
    norms = {ours[int(places[name])]: each.grad.norm().item() for name, each in parameters.items()}
    return {"outputs": [each.tolist() for each in outputs], "gradients": norms}


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.npt_golden", description=__doc__, allow_abbrev=False)
    parser.add_argument("--original", type=Path, required=True, help="checkout of non-parametric-transformers")
    add_out(parser, "npt_original.json")
    options = parser.parse_args(argv)
    check_checkout(parser, "original", options.original, "npt/model/npt.py")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Write the golden."""
    options = arguments(argv)
    command = ["git", "-C", str(options.original), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    source = {
        "repository": "https://github.com/OATML/non-parametric-transformers",
        "commit": commit,
        "dtype": "float64",
        "torch": torch.__version__,
        "seed": None,
    }
    publish(json.dumps({**source, **golden(options.original)}, indent=1) + "\n", options.out)


if __name__ == "__main__":
    main()

"""Configurations of the experiments of Non-Parametric Transformers: they are accepted, and the small ones are built."""

from pathlib import Path

import pytest

from tabattn.reconstruction import CellTransformer, PatchTransformer
from tabattn.tasks import TableReconstruction
from tabattn.training.cli import CLI
from tests.test_configs import Parsed, commands

FOLDER = Path(__file__).parents[1] / "configs" / "experiments"
SETS = sorted(FOLDER.glob("npt_*.yaml"))
SETTINGS = {
    "boston": (128, None, 0.15, 0.5, 4000),
    "breast_cancer": (32, None, 0.15, 0.1, 20000),
    "concrete": (128, None, 0.15, 0.5, 10000),
    "forest": (64, 1800, 0.15, 0.5, 800000),
    "higgs": (64, 4096, 0.15, 1.0, 500000),
    "income": (64, 2048, 0.0, 0.15, 2000000),
    "kick": (64, 4096, 0.15, 0.5, 250000),
    "poker": (64, 4096, 0.15, 0.5, 200000),
    "protein": (128, 2048, 0.15, 0.15, 400000),
    "yacht": (128, None, 0.15, 0.1, 20000),
}
"""Width, rows of a batch, probabilities of hidden features and labels, and steps of the paper."""
LAST = {"income": 99762, "poker": 1000000, "higgs": 500000}
"""Test rows of the sets whose last rows are the test part."""


def test_all_sets_of_the_paper_are_there() -> None:
    assert [path.stem.removeprefix("npt_") for path in SETS] == sorted(SETTINGS)


@pytest.mark.parametrize("path", SETS, ids=lambda path: path.stem)
def test_settings_of_the_paper_without_a_network(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER.parents[1])
    (command,) = commands(path, "python train.py fit")
    config = Parsed(["fit", *command]).config.fit
    model, data = config.model.init_args, config.data.init_args
    found = (model.network.init_args.dim, data.context.rows, data.masks.features, data.masks.targets)
    name = path.stem.removeprefix("npt_")
    assert (*found, config.trainer.max_steps) == SETTINGS[name]
    assert data.split.test_rows == LAST.get(name)
    assert data.context.transductive
    if data.context.rows is not None:
        assert data.context.balanced == (name in ("poker", "forest"))


@pytest.mark.parametrize(
    ("name", "network"), [("reconstruction_lookup", CellTransformer), ("reconstruction_digits", PatchTransformer)]
)
def test_small_experiments_are_built(name: str, network: type) -> None:
    quiet = ["--trainer.accelerator=cpu", "--trainer.logger=false"]
    cli = CLI([f"--config={FOLDER / name}.yaml", *quiet], run=False)
    assert isinstance(cli.model, TableReconstruction)
    cli.model.check_data(cli.datamodule)
    assert isinstance(cli.model.network, network)

"""Run folders of tiny trainings."""

from pathlib import Path

import pytest

from tabattn.cli import main

CONFIGS = Path(__file__).parents[3] / "configs"
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
QUIET += ["--trainer.callbacks=null", "--run.version=null", "--trainer.num_sanity_val_steps=0"]
ONE = ["--trainer.max_steps=1", "--data.steps_per_epoch=1"]
SMALL = ["--model.network.dim=16", "--model.network.hidden=16", "--model.network.layers=2", "--model.network.heads=2"]


def trained(folder: Path, config: str, *flags: str) -> Path:
    """Checkpoint of a training of one step."""
    words = ["fit", "--config", str(CONFIGS / f"{config}.yaml"), *SMALL, *QUIET, *ONE, f"--run.root={folder}", *flags]
    assert main(words) == 0
    (found,) = folder.rglob("last.ckpt")
    return found


@pytest.fixture(scope="session")
def pairs_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of pairs in its run folder."""
    few = ["--data.batch_size=2", "--data.evaluation.val_batches=1", "--data.evaluation.test_batches=1"]
    return trained(tmp_path_factory.mktemp("pairs"), "pairs", *few)


@pytest.fixture(scope="session")
def cells_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of reconstruction in its run folder."""
    few = ["--data.table=sklearn:iris", "--data.context.rows=64"]
    return trained(tmp_path_factory.mktemp("reconstruction"), "reconstruction", *few)

"""Hyperparameters of a run with its best and final scores, in TensorBoard's tab HParams."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks.board import require_tensorboard, writers
from callbacks.run_configuration import configuration_of, flat

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

MOST_SCORES = 12
"""Most scores in the table, the monitored one first."""


class HParams(Callback):
    """Lists a run in TensorBoard's tab HParams: its hyperparameters with its best validation and its test.

    The hyperparameters are those of the resolved configuration, flat and by dotted names: the task, its network and
    mechanism, the datamodule, the optimizer and the schedule of the command line with all their arguments. The scores
    are ``best/val/<score>``, those of the validation with the best monitored score (``checkpoint.monitor``; without one
    the latest), and ``test/<score>``. They are written at each validation, so that an interrupted run has them too. A
    test below a run's folder is listed in one row with that run. Scores of single tables are left out.

    A resumed run goes on with the best score of its checkpoint. Only rank 0 writes.
    """

    def __init__(self) -> None:
        self.folder = Path()
        self.best: float | None = None
        self.listed = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the run has a TensorBoard logger, and find its folder; raise before any work."""
        if stage == "predict":
            return
        require_tensorboard(trainer, type(self).__name__)
        self.folder = Path(trainer.log_dir or trainer.default_root_dir)
        self.listed = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """List the run, and log the scores where they are the best so far."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        monitor, larger = _monitored(trainer)
        scores = _scores(trainer, "val", monitor)
        now = scores.get(monitor) if monitor is not None else None
        if monitor is not None and (now is None or not _better(now, self.best, larger)):
            return
        self.best = now
        if trainer.is_global_zero:
            self._list(trainer, pl_module, [name.removeprefix("val/") for name in scores])
            for writer in writers(trainer):
                for name, value in scores.items():
                    writer.add_scalar(f"best/{name}", value, trainer.global_step)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """List the test; the task has logged its scores."""
        monitor, _ = _monitored(trainer)
        wanted = None if monitor is None else f"test/{monitor.removeprefix('val/')}"
        if trainer.is_global_zero:
            self._list(trainer, pl_module, [name.removeprefix("test/") for name in _scores(trainer, "test", wanted)])

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def _list(self, trainer: Trainer, task: LightningModule, scores: list[str]) -> None:
        if self.listed:
            return
        self.listed = True
        found = flat(configuration_of(trainer, task, self.folder))
        metrics = [*(f"best/val/{name}" for name in scores), *(f"test/{name}" for name in scores)]
        # A test is written below the folder of the run that it tests.
        below = self.folder.name.startswith(("test_", "validate_")) and (self.folder.parent / "config.yaml").is_file()
        home = self.folder.parent if below else self.folder
        for writer in writers(trainer):
            write_session(writer, found, metrics, _short(home.resolve()))


def write_session(
    writer: "SummaryWriter", hyperparameters: dict[str, float | str], metrics: list[str], group: str
) -> None:
    """Write the entries of a run in TensorBoard's tab HParams.

    Args:
        writer: Writer of the run.
        hyperparameters: Hyperparameters by name.
        metrics: Tags of the scalars that are its scores; their latest values are shown.
        group: Name shared by runs that are one row.
    """
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
    from torch.utils.tensorboard.summary import hparams

    experiment, start, end = hparams(hyperparameters, dict.fromkeys(metrics, 0.0))
    plugin = start.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(plugin.content)
    content.session_start_info.group_name = group
    plugin.content = content.SerializeToString()
    for summary in (experiment, start, end):
        writer._get_file_writer().add_summary(summary)


def _short(folder: Path) -> str:
    """Path below the current folder, or else the whole path."""
    return str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)


def _monitored(trainer: Trainer) -> tuple[str | None, bool]:
    """Monitored score of the first checkpoint callback that has one, and whether larger is better."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor is not None:
            return callback.monitor, callback.mode == "max"
    return None, False


def _scores(trainer: Trainer, stage: str, first: str | None) -> dict[str, float]:
    """Scores of a stage, without those of single tables or sequences; the monitored one first."""
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    names = [name for name in logged if name.startswith(f"{stage}/") and name.count("/") == 1]
    names = [name for name in (first,) if name in logged] + [name for name in names if name != first]
    return {name: logged[name] for name in names[:MOST_SCORES] if name is not None}


def _better(now: float, best: float | None, larger: bool) -> bool:
    if now != now:
        return False
    return best is None or (now > best if larger else now < best)

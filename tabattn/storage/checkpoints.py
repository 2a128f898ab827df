"""Checkpoints of a run: ``last.ckpt``, the paths in callback state, and the file that ``--ckpt_path`` means."""

import os
import traceback
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.connectors import checkpoint_connector
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from tabattn.storage.checkpoint_files import find
from tabattn.storage.trusted import shortened

WORDS = {"best", "last", "hpc"}
"""Values of ``--ckpt_path`` other than a path."""


class LastCheckpoint(ModelCheckpoint):
    """Callback that writes ``last.ckpt`` at the end of every epoch and of the training.

    ``save_last`` of ``ModelCheckpoint`` does not: where a metric is monitored, it saves the last *improvement*.

    Args:
        fresh: Whether to refuse checkpoint folders that hold checkpoints of an earlier run.
    """

    def __init__(self, fresh: bool = False) -> None:
        super().__init__(filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
        self.fresh = fresh

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Resolve the checkpoint folder, and refuse one whose checkpoints of an earlier run would be overwritten.

        Raises:
            MisconfigurationException: A folder of the trainer's checkpoints holds some already.
        """
        super().setup(trainer, pl_module, stage)
        requeued = trainer._checkpoint_connector._hpc_resume_path is not None
        if not self.fresh or requeued:
            return
        for each in trainer.checkpoint_callbacks:
            if not isinstance(each, ModelCheckpoint) or each._enable_version_counter:
                continue
            if taken := sorted(path.name for path in Path(str(each.dirpath)).glob(f"*{self.FILE_EXTENSION}")):
                raise MisconfigurationException(
                    f"checkpoint.dirpath: {each.dirpath} holds {taken[0]} of an earlier run: choose another folder, or "
                    "go on with that run by --ckpt_path"
                )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end of the training, if that was within an epoch."""
        if self._last_global_step_saved != trainer.global_step and trainer.global_step > 0:
            self.save(trainer)

    def save(self, trainer: Trainer) -> str:
        """Save a checkpoint of the current state; return its path."""
        self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
        return self.best_model_path


class OwnPaths(Callback):
    """Callback that drops foreign file paths from a restored checkpoint; see ``forget_foreign_paths``."""

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        forget_foreign_paths(trainer, checkpoint)


def forget_foreign_paths(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Drop paths outside the run folder from the callback state of a checkpoint, and warn of it.

    ``ModelCheckpoint`` saves the paths of the checkpoints it keeps, and deletes these files when there are better ones.
    Only paths inside the folder that it writes to in this run are kept, so that a resumed run never deletes files of an
    earlier one.

    Args:
        trainer: Trainer whose callbacks are about to be restored.
        checkpoint: Changed in place.
    """
    states = checkpoint.get("callbacks", {})
    for callback in trainer.checkpoint_callbacks:
        state = states.get(callback.state_key)
        if not isinstance(callback, ModelCheckpoint) or state is None:
            continue
        if (foreign := _foreign(state, str(callback.dirpath))) is not None:
            states[callback.state_key] = callback.state_dict()
            if trainer.state.fn == TrainerFn.FITTING:
                rank_zero_info(
                    f"the checkpoint names files that are not this run's own, which are left as they are: "
                    f"{shortened(foreign)}; the best checkpoint is chosen anew in {callback.dirpath}"
                )


def _foreign(state: Any, folder: str) -> Any:
    """First entry of a ``ModelCheckpoint``'s state that is malformed or a path outside a folder; None = none."""
    if not isinstance(state, dict):
        return state
    if state.get("dirpath") != folder:
        return state.get("best_model_path") or state.get("dirpath", "")
    kept, best = state.get("best_k_models"), state.get("kth_best_model_path")
    if not isinstance(kept, dict) or best not in ("", *kept):
        return best
    scores = [*kept.values(), state.get("kth_value")]
    if state.get("best_model_score") is not None:
        scores.append(state["best_model_score"])
    if not all(isinstance(score, Tensor) and score.numel() == 1 for score in scores):
        return scores
    paths = (state.get("best_model_path"), state.get("last_model_path"), *kept)
    return next((path for path in paths if path != "" and not _is_checkpoint_in(path, folder)), None)


def _is_checkpoint_in(path: Any, folder: str) -> bool:
    """Whether a path names a checkpoint inside a folder, after links are resolved."""
    if not isinstance(path, str) or path != os.path.normpath(path) or not path.endswith(ModelCheckpoint.FILE_EXTENSION):
        return False
    try:
        return Path(folder).resolve() in Path(path).resolve().parents
    except (OSError, ValueError, RuntimeError):
        return False


def located(path: str, checkpoints: Path | None, trainer: Any) -> Path:
    """Resolve ``--ckpt_path`` to a file.

    Args:
        path: A path, or one of ``WORDS``: the best or the last checkpoint of this run's own folder, or the one saved
            when the cluster's scheduler stopped the run.
        checkpoints: The folder of this run's checkpoints, None if it has none yet.
        trainer: The trainer's configuration.

    Raises:
        ValueError: There is no such file; the path is a URL, or a folder.
    """
    if path not in WORDS:
        return find(path)
    if path == "hpc":
        folder = Path(trainer.default_root_dir or ".")
        numbered = {int(file.stem[9:]): file for file in folder.glob("hpc_ckpt_*.ckpt") if file.stem[9:].isdigit()}
        if not numbered:
            raise ValueError(f"'hpc' is the checkpoint of a stopped job, and {folder} has none: give a path")
        return find(numbered[max(numbered)])
    if checkpoints is None:
        raise ValueError(
            f"{path!r} is a checkpoint of this run's own folder, and a new run has none: "
            "give its path, or the folder by --run.version"
        )
    if not (checkpoints / f"{path}.ckpt").is_file():
        raise ValueError(f"{path!r} is a checkpoint of this run's own folder, and {checkpoints} has none")
    return find(checkpoints / f"{path}.ckpt")


def restoring(ex: BaseException) -> bool:
    """Whether an exception was raised while a run restored the state of a checkpoint."""
    frames = (frame.f_code for frame, _ in traceback.walk_tb(ex.__traceback__))
    return any(
        code.co_filename == checkpoint_connector.__file__ and code.co_name.startswith(("restore", "resume"))
        for code in frames
    )

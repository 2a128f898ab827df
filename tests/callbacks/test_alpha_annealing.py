"""Annealing of alpha: in training steps alone, up to the mechanism's own alpha, in any task."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback

from callbacks import AlphaAnnealing
from tabattn.attention import Entmax, Softmax
from tests.helpers import MeanData, MeanTask

pytestmark = pytest.mark.filterwarnings("ignore")
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
    "num_sanity_val_steps": 0,
}


class Seen(Callback):
    """Notes alpha in training steps and in validations."""

    def __init__(self) -> None:
        self.training: list[float] = []
        self.validation: list[float] = []

    def on_before_zero_grad(self, trainer: Any, task: Any, optimizer: Any) -> None:
        self.training.append(task.mix.mechanism.alpha)

    def on_validation_batch_start(self, trainer: Any, task: Any, *_: Any) -> None:
        self.validation.append(task.mix.mechanism.alpha)


def trained(annealing: Callback, attention: Any, steps: int = 9, resumed: str | None = None, **options: Any) -> Seen:
    seen = Seen()
    task = MeanTask(attention=attention)
    task.configure_optimizers = partial(_sgd, task)  # type: ignore[method-assign]
    given = {"max_steps": steps, "enable_checkpointing": False} | QUIET | options
    lightning.Trainer(callbacks=[annealing, seen], **given).fit(task, MeanData(), ckpt_path=resumed)
    assert task.mix.mechanism.fixed_alpha == 1.7
    return seen


def _sgd(task: Any) -> Any:
    return torch.optim.SGD(task.parameters(), lr=0.1)


def test_alpha_rises_linearly_and_stays() -> None:
    seen = trained(AlphaAnnealing(start=1.1, fraction=2 / 3), partial(Entmax, alpha=1.7))
    assert seen.training == pytest.approx([1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.7, 1.7])
    assert set(seen.validation) == {1.7}


def test_it_begins_at_softmax_if_asked() -> None:
    seen = trained(AlphaAnnealing(start=1.0, fraction=1.0), partial(Entmax, alpha=1.7), steps=2)
    assert seen.training == pytest.approx([1.0, 1.35])


@pytest.mark.parametrize(
    ("attention", "options", "said"),
    [
        (Softmax, {}, "needs a mechanism with an alpha, such as Entmax; MeanTask has none"),
        (partial(Entmax, learn_alpha=True), {}, "needs a fixed alpha, and it is learned: drop learn_alpha"),
        (partial(Entmax, alpha=1.005), {}, "starts at 1.01, above the alpha 1.005 to reach"),
        (Entmax, {"max_steps": -1, "max_epochs": -1}, "needs a number of steps: set trainer.max_steps"),
    ],
)
def test_what_cannot_be_annealed_is_refused(attention: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(MisconfigurationException, match=said):
        trained(AlphaAnnealing(), attention, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"start": 0.9}, r"start must be in \[1, 2\], got 0.9"),
        ({"fraction": 0.0}, r"fraction must be in \(0, 1\], got 0.0"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AlphaAnnealing(**options)


def test_a_resumed_run_goes_on(tmp_path: Path) -> None:
    whole = trained(AlphaAnnealing(), partial(Entmax, alpha=1.7), steps=6)
    keep = {"enable_checkpointing": True, "default_root_dir": tmp_path}
    stop = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, "a", every_n_train_steps=3, save_top_k=-1)
    seen = Seen()
    task = MeanTask(attention=partial(Entmax, alpha=1.7))
    task.configure_optimizers = partial(_sgd, task)  # type: ignore[method-assign]
    task.hparams.clear()  # A plain Lightning checkpoint cannot hold a factory.
    callbacks = [AlphaAnnealing(), seen, stop, StopAt(3)]
    lightning.Trainer(max_steps=6, callbacks=callbacks, **QUIET | keep).fit(task, MeanData())
    rest = trained(AlphaAnnealing(), partial(Entmax, alpha=1.7), steps=6, resumed=str(tmp_path / "a.ckpt"))
    assert seen.training + rest.training == pytest.approx(whole.training)


class StopAt(Callback):
    """Ends a run after some steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        trainer.should_stop = trainer.global_step >= self.steps

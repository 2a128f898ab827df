"""Calibration and PrecisionRecall: errors and curves of predictors that are known, and a training left as it is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from sklearn.metrics import average_precision_score
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from callbacks import Calibration, PrecisionRecall
from callbacks.calibration_plots import coverage_error, draw, expected_calibration_error, measured
from callbacks.outcomes import MOST_CLASSES, Pool
from callbacks.precision_recall import draw_curves
from callbacks.probe import evenly
from tabattn.contract.views import ScoredColumn
from tests.callbacks.tiny import Batch, TinyTask, board, fit, loader, metrics, trainer

NAMES = ("a", "b", "c")


class Predicting(TinyTask):
    """Predicts classes of two tables and numbers of a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.predicted = 0

    def outcomes(self, batch: Batch) -> list[ScoredColumn]:
        assert not self.training
        assert not torch.is_grad_enabled()
        torch.rand(3)
        self.predicted += 1
        chances = torch.cat([self(batch.x)[:, None], batch.x[:, 0, :2]], 1).softmax(-1)
        truth = torch.arange(len(batch.y)) % 3
        below = torch.linspace(0.05, 0.95, len(batch.y)).double()
        numbers = ScoredColumn("height", (), batch.y, batch.y, below)
        return [
            ScoredColumn("iris", NAMES, truth, chances, None),
            ScoredColumn("wine", NAMES, truth, chances, None),
            numbers,
        ]


class Numbers(Predicting):
    def outcomes(self, batch: Batch) -> list[ScoredColumn]:
        return super().outcomes(batch)[2:]

    def predicts_classes(self) -> bool:
        return False


def calibrated(rows: int = 40_000) -> tuple[Tensor, Tensor]:
    """Probabilities of three classes, and truths drawn from them."""
    source = torch.Generator().manual_seed(0)
    chances = torch.randn(rows, 3, generator=source).mul(2).softmax(-1).double()
    return chances, chances.multinomial(1, generator=source)[:, 0]


def pool(chances: Tensor, truth: Tensor, names: tuple[str, ...] = NAMES) -> Pool:
    found = Pool()
    found.add(ScoredColumn("iris", names, truth, chances, None))
    return found


def test_the_error_of_a_calibrated_predictor_is_that_of_chance() -> None:
    chances, truth = calibrated()
    assert measured({"iris": pool(chances, truth)}, 10).scalars["ece"] < 0.01


def test_the_error_of_a_predictor_that_is_too_sure_is_the_excess_of_its_confidence() -> None:
    # Right in 6 of 10 rows with confidence 0.9, in 3 of 10 with 0.5.
    confidence = np.repeat([0.9, 0.5], 10)
    right = np.concatenate([np.arange(10) < 6, np.arange(10) < 3])
    assert expected_calibration_error(confidence, right, 10) == pytest.approx((0.3 + 0.2) / 2)


def test_the_error_is_that_of_torchmetrics() -> None:
    chances, truth = calibrated(500)
    chances = chances.sqrt() / chances.sqrt().sum(1, keepdim=True)
    found = measured({"iris": pool(chances, truth)}, 15).scalars["ece"]
    assert found == pytest.approx(float(multiclass_calibration_error(chances, truth, 3, n_bins=15)), abs=1e-6)


def test_coverage_is_exact_for_uniform_transforms_and_half_for_a_point_predictor() -> None:
    assert coverage_error((np.arange(10_000) + 0.5) / 10_000) < 1e-3
    # All truths at the ends: no interval but the widest holds any, so the error is the mean nominal level below 1.
    assert coverage_error(np.array([0.0, 1.0])) == pytest.approx(np.linspace(0, 1, 21)[:-1].sum() / 21)


def test_all_columns_of_a_kind_are_pooled() -> None:
    chances, truth = calibrated(60)
    numbers = Pool(parts=[(torch.tensor([0.5, 0.5]).double(),)])
    found = measured({"iris": pool(chances, truth), "wine": pool(chances, truth), "height": numbers}, 10)
    assert [panel.name for panel in found.panels] == ["all 2 together", "iris", "wine", "height"]
    assert len(found.panels[0].confidence) == 120
    assert set(found.scalars) == {"ece", "coverage_error"}
    figure = draw(found.panels, "all", 10)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles[0].startswith("all 2 together\nECE ")
    assert "height\nPIT histogram" in titles[-1]


def test_predictions_that_are_not_finite_are_left_out() -> None:
    chances, truth = calibrated(10)
    chances[:4] = torch.nan
    assert len(pool(chances, truth).classes.confidence) == 6  # type: ignore[union-attr]
    assert measured({"iris": pool(chances * torch.nan, truth)}, 10) == ({}, [])


def test_of_many_classes_the_most_frequent_are_kept_and_confidence_is_of_all() -> None:
    truth = torch.tensor([20] * 5 + [3] * 4 + list(range(4, 12)))
    chances = torch.full((len(truth), 30), 0.01)
    chances[:, 29] = 0.71
    found = pool(chances, truth, tuple(map(str, range(30)))).classes
    assert found is not None
    assert len(found.names) == MOST_CLASSES
    assert {"20", "3"} <= set(found.names)
    assert found.confidence.max() == pytest.approx(0.71)
    assert not found.right.any()
    assert found.truth[:, found.names.index("20")].tolist() == [True] * 5 + [False] * 12


def test_curves_have_the_average_precision_of_scikit_learn() -> None:
    chances, truth = calibrated(200)
    found = pool(chances, truth).classes
    assert found is not None
    figure, mean = draw_curves(found, "iris")
    each = [average_precision_score(truth.numpy() == place, chances[:, place].numpy()) for place in range(3)]
    assert mean == pytest.approx(np.mean(each))
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert [text.split(":")[0] for text in texts] == list(NAMES)
    assert f"AP {each[1]:.3f}" in texts[1]


def test_of_two_classes_the_second_has_a_curve() -> None:
    chances = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    found = pool(chances, torch.tensor([0, 1, 1, 0]), ("no", "\n")).classes
    assert found is not None
    figure, mean = draw_curves(found, "iris")
    assert mean == 1.0
    assert [text.get_text()[:7] for text in figure.axes[0].get_legend().get_texts()] == ["(blank)"]


@pytest.mark.parametrize("total", [3, 8, 20, float("inf")])
def test_batches_are_spread(total: float) -> None:
    chosen = [place for place in range(int(min(total, 50))) if evenly(place, 4, total)]
    assert chosen == {3: [0, 1, 2], 8: [0, 2, 4, 6], 20: [0, 5, 10, 15]}.get(int(min(total, 50)), [0, 1, 2, 3])


def test_a_run_has_pictures_curves_and_scalars_and_trains_as_without(tmp_path: Path) -> None:
    plain, looking = TinyTask(), Predicting()
    looking.load_state_dict(plain.state_dict())
    torch.manual_seed(1)
    fit(tmp_path / "plain", plain)
    torch.manual_seed(1)
    run = fit(tmp_path, looking, Calibration(), PrecisionRecall(batches=1))
    assert looking.losses == plain.losses
    assert looking.predicted == 2 * 2, "the batch of the second callback is one of those of the first"
    events = board(tmp_path)
    assert events.Tags()["images"] == [
        "calibration/calibration",
        "precision_recall/curves_iris",
        "precision_recall/curves_wine",
    ]
    curves = [tag for tag in events.Tags()["tensors"] if tag.startswith("precision_recall")]
    assert curves == [f"precision_recall/{table}/{name}" for table in ("iris", "wine") for name in NAMES]
    assert 0 < metrics(tmp_path, "calibration/ece")[0] < 1
    assert len(metrics(tmp_path, "precision_recall/iris/average_precision")) == 2
    files = {path.name for path in (Path(run.log_dir or "") / "figures" / "validation_000006").iterdir()}
    assert files == {"calibration.png", "curves_iris.png", "curves_wine.png"}


def test_callbacks_share_what_is_predicted(tmp_path: Path) -> None:
    both, alone = Predicting(), Predicting()
    alone.load_state_dict(both.state_dict())
    trainer(tmp_path / "both", [Calibration(), PrecisionRecall()]).test(both, loader(3), verbose=False)
    trainer(tmp_path / "alone", [PrecisionRecall()]).test(alone, loader(3), verbose=False)
    assert both.predicted == alone.predicted == 3
    assert metrics(tmp_path / "both", name := "test/precision_recall/iris/average_precision") == metrics(
        tmp_path / "alone", name
    )


def test_a_batch_of_an_earlier_validation_is_predicted_again(tmp_path: Path) -> None:
    """Its object may be the same, and the weights others; also where the earlier one was broken off."""
    task, callback, batch = Predicting(), Calibration(), next(iter(loader(1)))
    run = trainer(tmp_path, [callback])
    run.strategy.connect(task)
    for _ in range(2):
        callback._begin(run, task, 1)
        callback.pools = {}
        for _ in range(2):
            callback._gather(run, task, batch)
            callback.position = -1
    assert task.predicted == 2


def test_a_test_has_scalars_of_its_own(tmp_path: Path) -> None:
    run = trainer(tmp_path, [Calibration(), PrecisionRecall(columns=1)])
    run.test(Predicting(), loader(2), verbose=False)
    tags = board(tmp_path).Tags()
    assert {"test/calibration/ece", "test/precision_recall/iris/average_precision"} <= set(tags["scalars"])
    assert "test/precision_recall/curves_wine" not in tags["images"]


@pytest.mark.parametrize(
    ("callback", "task", "said"),
    [
        (Calibration(), TinyTask(), "TinyTask predicts no distributions: the callback Calibration"),
        (PrecisionRecall(), TinyTask(), "TinyTask predicts no distributions: the callback PrecisionRecall"),
        (PrecisionRecall(), Numbers(), "Numbers predicts numbers and no classes"),
    ],
)
def test_a_task_without_distributions_is_refused(tmp_path: Path, callback: Any, task: TinyTask, said: str) -> None:
    with pytest.raises(MisconfigurationException, match=said):
        fit(tmp_path, task, callback)


def test_numbers_alone_have_coverage(tmp_path: Path) -> None:
    fit(tmp_path, Numbers(), Calibration())
    assert "calibration/coverage_error" in board(tmp_path).Tags()["scalars"]
    assert "calibration/ece" not in board(tmp_path).Tags()["scalars"]


@pytest.mark.parametrize("options", [{"batches": 0}, {"columns": 0}, {"every": 0}, {"bins": 1}])
def test_bad_options(options: dict[str, int]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        Calibration(**options)

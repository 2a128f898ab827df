"""Task of in-context regression: numbers of target rows from those of context rows, in one forward pass."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from tabattn.attention import AttentionFactory, Softmax
from tabattn.contract.batches import RegressionBatch
from tabattn.contract.facts import Fact
from tabattn.optim import MuonAdamW
from tabattn.prior import NETWORKS
from tabattn.prior.bars import Bars
from tabattn.prior.classifier_network import ContextClassifier, NetworkFactory
from tabattn.prior.earlier import REGRESSION_MOVED, upgrade_regression
from tabattn.prior.in_context import InContext
from tabattn.prior.network import PriorNetwork
from tabattn.prior.options import DEFAULT_OPTIONS
from tabattn.prior.regression_scores import QUANTILES, RegressionScores, TableRegressionScores
from tabattn.storage.hyperparameters import class_of, factory, mechanism

BINS = 100
"""Number of bars of a ``PriorNetwork`` for which none is given."""

CONSTANT = 1e-6
"""Share of the magnitude of the numbers below which their standard deviation counts as zero."""


class Standardised(NamedTuple):
    """Numbers of a batch, standardised by those of the context rows.

    Attributes:
        y: Standardised numbers, ``(batch, rows)``.
        mean: Mean of the context rows, ``(batch, 1)``.
        scale: Their standard deviation, ``(batch, 1)``; 1 where they are constant.
    """

    y: Tensor
    mean: Tensor
    scale: Tensor


class PriorRegression(InContext):
    """Trains an in-context regressor on tables of a prior and scores it on real ones.

    The network predicts a bar distribution. Logs the root mean squared error, the log-likelihood (nats), the CRPS and
    the coverage of the 90 % interval, of each table and on average; numbers are in units of their standard deviation
    in the context.

    Args:
        network: Network to train: ``PriorNetwork``, or the class path of a network of your own whose targets are
            numbers. Its options are ``network.<option>``, such as the width ``network.dim``. Of a ``PriorNetwork``,
            ``classes`` is the number of bars of the predicted distribution, 100 where none is given, and
            ``options.targets`` is ``numbers``, whatever is given.
        attention: Mechanism between context rows, and from target rows to them where it can answer queries from
            outside.
        feature_attention: Mechanism between the columns of a row.
        target_attention: Mechanism from target rows to context rows; none = ``attention`` where it can answer queries
            from outside, else Softmax.
        init_from: Checkpoint or weight file (.safetensors) to initialise the network from, by matching name and shape:
            that of a classifier gives all but the embedding of the targets and the last layer.
    """

    task_name = "regression"
    target = "number"
    batch = RegressionBatch
    optimizer = partial(MuonAdamW, lr=0.02, adamw_lr=3e-3, weight_decay=0.01)
    facts: ClassVar[Mapping[str, Fact]] = {
        "tables": Fact(Sequence, "the names of the tables that a batch is cut from, for their scores", ()),
        "target_rows": Fact(Callable, "the target rows of a prediction batch, by its number", None),
        "column_names": Fact(Callable, "the column names of a table, by its index, for attention maps", None),
    }
    moved = REGRESSION_MOVED

    def __init__(
        self,
        network: NetworkFactory = PriorNetwork,
        attention: AttentionFactory = Softmax,
        feature_attention: AttentionFactory = Softmax,
        target_attention: AttentionFactory | None = None,
        init_from: str | None = None,
    ) -> None:
        super().__init__(init_from)
        network = of_numbers(factory(network, "network", NETWORKS, ContextClassifier))
        self.save_hyperparameters(ignore=["init_from"])
        self.network = network(
            mechanism(attention),
            mechanism(feature_attention, "feature_attention"),
            None if target_attention is None else mechanism(target_attention, "target_attention"),
        )
        if (targets := self.network.targets) != "numbers":
            raise ValueError(f"the network of PriorRegression must predict numbers, this one {targets}")
        self.bars = Bars(self.network.classes)
        self.scores = TableRegressionScores()

    @classmethod
    def upgraded(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Migrate the arguments of an earlier version to today's."""
        return upgrade_regression(arguments)

    def forward(self, batch: RegressionBatch) -> Tensor:
        """Logits of the bars of target rows, ``(batch, target rows, bins)``, for standardised numbers."""
        numbers = standardised(batch)
        return self.network(batch.x, numbers.y, batch.context, batch.columns)

    def training_step(self, batch: RegressionBatch, batch_idx: int) -> Tensor:
        """Mean negative log-likelihood of the standardised numbers of target rows, in nats."""
        numbers = standardised(batch)
        logits = self.network(batch.x, numbers.y, batch.context, batch.columns)
        targets = numbers.y[:, batch.context :]
        known = torch.isfinite(targets)
        density = self.bars.log_density(logits, targets.where(known, 0.0))
        loss = -density.where(known, 0.0).sum() / known.sum().clamp(min=1)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.x))
        return loss

    def validation_step(self, batch: RegressionBatch, batch_idx: int) -> None:
        """Predict the target rows, and add them to the scores of their tables."""
        numbers = standardised(batch)
        logits = self.network(batch.x, numbers.y, batch.context, batch.columns)
        targets = numbers.y[:, batch.context :]
        filled = targets.nan_to_num()
        quantiles = torch.stack([self.bars.quantile(logits, q) for q in QUANTILES], dim=-1)
        tables = torch.zeros(len(batch.x), dtype=torch.long) if batch.table is None else batch.table
        density = self.bars.log_density(logits, filled)
        self.scores.update(self.bars.mean(logits), density, quantiles, targets, tables.to(targets.device))

    test_step = validation_step

    def predict_step(self, batch: RegressionBatch, batch_idx: int) -> Tensor:
        """Mean, median, and 5 % and 95 % quantiles of target rows, in the data's units: ``(batch, target rows, 4)``."""
        numbers = standardised(batch)
        logits = self.network(batch.x, numbers.y, batch.context, batch.columns)
        parts = [self.bars.mean(logits), *(self.bars.quantile(logits, q) for q in (0.5, 0.05, 0.95))]
        return torch.stack(parts, dim=-1) * numbers.scale[..., None] + numbers.mean[..., None]

    def prediction_table(self, batch: RegressionBatch, output: Tensor, number: int) -> dict[str, list[Any]]:
        """One line for each target row: table, row, number, and its predicted mean, median and 90 % interval."""
        count, rows = output.shape[:2]
        names, places = self.of_data("tables"), self.of_data("target_rows")
        numbers = range(count) if batch.table is None else batch.table.tolist()
        within = list(range(batch.context, batch.context + rows)) if places is None else list(map(int, places(number)))
        parts = output.flatten(0, 1).T.tolist()
        return {
            "table": [names[each] if names else each for each in numbers for _ in range(rows)],
            "row": within * count,
            "number": [y if y == y else None for y in batch.y[:, batch.context :].flatten().tolist()],
            **dict(zip(("mean", "median", "5 %", "95 %"), parts, strict=True)),
        }

    def on_validation_epoch_end(self) -> None:
        """Log the scores under ``val/``."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores under ``test/``."""
        self._log_scores("test")

    def token_names(self, batch: Any) -> dict[str, list[str]] | None:
        """Column names, if the datamodule has names for the table of the batch."""
        return self.names_of_columns(self.of_data("column_names"), batch)

    def _log_scores(self, stage: str) -> None:
        self.scores.settle()
        scores, names = self.scores.compute(), self.of_data("tables")
        self.scores.reset()
        figures: dict[str, float] = {}
        for index, entry in scores.items():
            if names:
                figures |= {f"{stage}/{names[index]}/{field}": value for field, value in entry._asdict().items()}
        for field in RegressionScores._fields:
            values = [getattr(entry, field) for entry in scores.values()]
            figures[f"{stage}/{field}"] = sum(values) / len(values) if values else float("nan")
        self.log_dict(figures, sync_dist=True)
        self.log(f"{stage}_rmse", figures[f"{stage}/rmse"], prog_bar=True, logger=False, sync_dist=True)


def of_numbers(network: NetworkFactory) -> NetworkFactory:
    """Factory of a network whose targets are numbers, from one of a ``PriorNetwork``; another is returned unchanged."""
    if class_of(network) is not PriorNetwork:
        return network
    given = network.keywords if isinstance(network, partial) else {}
    options = replace(given.get("options", DEFAULT_OPTIONS), targets="numbers")
    return partial(PriorNetwork, **{"classes": BINS, **given, "options": options})


def standardised(batch: RegressionBatch) -> Standardised:
    """Standardise the numbers of a batch by the mean and the standard deviation of its context rows."""
    shown = batch.y[:, : batch.context]
    mean, scale = shown.mean(1, keepdim=True), shown.std(1, keepdim=True, correction=0)
    scale = torch.where(scale > CONSTANT * mean.abs(), scale, 1.0)
    return Standardised((batch.y - mean) / scale, mean, scale)

"""Task of reconstruction: hidden cells of a table from all others, in one forward pass."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from os import getpid
from typing import Any, ClassVar, cast

import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher as ForkedLauncher
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from tabattn.attention import AttentionFactory, Softmax
from tabattn.contract.cells import CellBatch, Column
from tabattn.contract.facts import Fact
from tabattn.contract.views import MapView, ScoredColumn
from tabattn.optim import MuonAdamW
from tabattn.reconstruction import NETWORKS
from tabattn.reconstruction.cell_network import CellNetwork, NetworkFactory, Reconstruction
from tabattn.reconstruction.column_check import check_columns
from tabattn.reconstruction.corrected import ProcessTransformer
from tabattn.reconstruction.deciding import decide, deciding_table, described
from tabattn.reconstruction.losses import cell_losses, group_means
from tabattn.reconstruction.metrics import ColumnScores, collected
from tabattn.reconstruction.options import DEFAULT_LOSS, DEFAULT_PREDICT, LossOptions, PredictOptions
from tabattn.reconstruction.predictions import Filled, filled, predicted, prediction_table
from tabattn.reconstruction.views import map_views, row_metadata, row_points
from tabattn.storage.hyperparameters import factory, mechanism
from tabattn.storage.weights import EXTRA
from tabattn.task import Task


class TableReconstruction(Task):
    """Trains a Non-Parametric Transformer on one table, by masked reconstruction of its cells.

    The loss is a trade-off between hidden feature cells and hidden target cells. Validation and test score target
    columns in the data's units: RMSE, MAE, CRPS, log-likelihood and coverage of numbers; ROC AUC, accuracy and log-loss
    of categories. Kossen et al. 2021 (arXiv 2106.02584).

    Args:
        network: Network to train: ``ProcessTransformer``, ``CellTransformer``, or the class path of a network of your
            own. Its options are ``network.<option>``, such as the width ``network.dim``.
        attention: Mechanism between rows (attention between datapoints).
        attribute_attention: Mechanism between the columns of a row (attention between attributes).
        loss: Options of the loss.
        predict: Options of ``predict``. A checkpoint leaves them to the command line.
        columns: Columns of the table; none = those of the datamodule. Checkpoints hold them.
        init_from: Checkpoint or weight file (.safetensors) to initialise the network from, by matching name and shape;
            keeps the command line's model.
    """

    task_name = "reconstruction"
    batch = CellBatch
    optimizer = partial(MuonAdamW, lr=1e-2)
    facts: ClassVar[Mapping[str, Fact]] = {
        "columns": Fact(Sequence, "the columns of the table, for which the network is built"),
        "learned": Fact(tuple, "numbers and true cells of all training rows, by which the network is prepared", None),
        "duplicated": Fact(object, "which rows equal a training row, for scores without them", None),
        "roles": Fact(object, "the role of each row: 0 = training, 1 = validation, 2 = test", None),
    }
    network: CellNetwork

    def __init__(
        self,
        network: NetworkFactory = ProcessTransformer,
        attention: AttentionFactory = Softmax,
        attribute_attention: AttentionFactory = Softmax,
        loss: LossOptions = DEFAULT_LOSS,
        columns: list[dict[str, Any]] | None = None,
        init_from: str | None = None,
        predict: PredictOptions = DEFAULT_PREDICT,
    ) -> None:
        super().__init__(init_from)
        self.save_hyperparameters(ignore=["init_from", "predict"])
        make = factory(network, "network", NETWORKS, CellNetwork)
        mechanisms = mechanism(attention), mechanism(attribute_attention, "attribute_attention")

        def network_of(columns: tuple[Column, ...]) -> CellNetwork:
            return make(columns, *mechanisms)

        # A function, which copies of the task share: what the command line gives cannot be copied.
        self.network_of = network_of
        self.loss = loss
        self.asked = predict
        self.prepared = False
        self.changes: list[Tensor] = []
        self.columns: tuple[Column, ...] = ()
        if columns is not None:
            self.build(tuple(map(Column.of, columns)))

    def build(self, columns: tuple[Column, ...]) -> None:
        """Build the network for the columns of a table."""
        if not any(column.target for column in columns):
            raise ValueError(f"a table needs at least 1 target column, got none of {len(columns)}")
        self.columns, self._builder = columns, getpid()
        self.hparams["columns"] = [column.plain() for column in columns]
        self.network = self.network_of(columns)
        for parameter in self.network.parameters():
            # Those of a kind that no column has: distributed training stops where a parameter gets no gradient.
            parameter.requires_grad_(parameter.requires_grad and parameter.numel() > 0)
        self.targets: Tensor
        self.register_buffer("targets", torch.tensor([column.target for column in columns]), persistent=False)
        asked = [place for place, column in enumerate(columns) if column.target]
        self.scores = torch.nn.ModuleDict({str(place): ColumnScores(columns[place]) for place in asked})

    def check_data(self, datamodule: Any) -> None:
        """Check the batches of a datamodule, and build the network for its columns if it is not yet built.

        Raises:
            MisconfigurationException: It makes other batches, or has other columns than the network.
        """
        super().check_data(datamodule)
        columns = getattr(datamodule, "columns", None)
        if columns is not None:
            if not self.columns:
                self.build(tuple(columns))
            check_columns(self.columns, columns)

    def configure_callbacks(self) -> list[Callback]:
        """Build the network before the callbacks are set up, some of which check its layers."""
        data = getattr(self.trainer, "datamodule", None)
        if data is not None:
            self.check_data(data)
        return super().configure_callbacks()

    def setup(self, stage: str) -> None:
        """Check precision and data, and tell the scores which rows equal a training row."""
        if self.trainer.precision in ("16-true", "bf16-true"):
            raise MisconfigurationException(
                f"precision {self.trainer.precision} would round the cells that predictions are scored against: choose "
                f"{self.trainer.precision.removesuffix('true')}mixed"
            )
        super().setup(stage)
        if not self.columns:
            raise MisconfigurationException("loaders alone do not say their columns: give TableReconstruction columns")
        if stage == "fit" and self._builder == getpid() and isinstance(self.trainer.strategy.launcher, ForkedLauncher):
            raise MisconfigurationException("the strategy trains in other processes: call task.check_data(data) before")
        duplicated = self.of_data("duplicated")
        for _, metric in self._scored():
            metric.duplicated = None if duplicated is None else torch.as_tensor(duplicated)

    def forward(self, batch: CellBatch) -> Reconstruction:
        """Predict all cells of a batch."""
        return self.network.reconstruct(batch)

    def prepare(self, truth: Tensor, total: int | None = None, row: Tensor | None = None) -> None:
        """Let the network prepare itself; where this is not called before the training, it is with its first batch.

        Args:
            truth: True cells of rows to learn from, ``(rows, columns)``; NaN = missing.
            total: Number of rows that the training learns from; None = these are all.
            row: Number of each row in the table, ``(rows,)``; None = unknown.
        """
        self.network.begin(truth, total, row)
        self.prepared = True

    def on_train_batch_start(self, batch: CellBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Let the network prepare itself before the first step of a training; on all ranks as on the first."""
        super().on_train_batch_start(batch, batch_idx, dataloader_idx)
        if self.global_step == 0 and batch_idx == 0 and not self.prepared:
            self._prepare_by(batch)
            if self.trainer.world_size > 1:
                self._take_prepared()

    def _prepare_by(self, batch: CellBatch) -> None:
        """Prepare the network by all training rows, or by those of a batch where the datamodule does not tell them."""
        learned, roles = self.of_data("learned"), self._roles()
        if learned is None:
            self.prepare(batch.truth[0], None if roles is None else int((roles == 0).sum()))
        else:
            row, truth = (each.to(self.device) for each in learned)
            self.prepare(truth, len(row), row)

    def _take_prepared(self) -> None:
        """Take buffers and kept rows from the first rank: others may have found numbers with other last digits."""
        buffers = {name for name, _ in self.network.named_buffers()}
        found = {name: value for name, value in self.network.state_dict().items() if name in buffers or EXTRA in name}
        found = self.trainer.strategy.broadcast(move_data_to_device(found, "cpu"))
        if not self.trainer.is_global_zero:
            self.network.load_state_dict(found, strict=False)

    def unreplayable(self, batch: CellBatch) -> str | None:
        """The trade-off between losses may be annealed."""
        loss = self.loss
        if loss.tradeoff and loss.annealing != "constant":
            return f"loss.tradeoff is annealed from step to step: give loss.annealing=constant, got {loss.annealing}"
        return None

    def training_step(self, batch: CellBatch, batch_idx: int) -> Tensor:
        """Trade-off between the losses of hidden features and of hidden targets."""
        losses = cell_losses(self(batch), batch.truth, self.network.kinds, self.loss.density)
        features, targets = group_means(losses, batch.scored, self.targets)
        weight = self.loss.weight(self.global_step, self.trainer.estimated_stepping_batches)
        loss = weight * features + (1 - weight) * targets
        self.log("train/loss", loss, prog_bar=True, batch_size=1)
        self.log_dict({"train/features": features, "train/targets": targets, "train/tradeoff": weight}, batch_size=1)
        return loss

    def validation_step(self, batch: CellBatch, batch_idx: int) -> None:
        """Predict the targets of rows behind the context, or of all rows where they attend to one another."""
        found = self(batch)
        for place, metric in self._scored():
            metric.update(*predicted(found, batch, self.network.kinds, place))

    test_step = validation_step

    def _scored(self) -> Iterator[tuple[int, ColumnScores]]:
        """Yield the place of each target column and its scores."""
        for place, metric in self.scores.items():
            yield int(place), cast("ColumnScores", metric)

    def on_validation_epoch_end(self) -> None:
        """Log the scores under ``val/``."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores under ``test/``."""
        self._log_scores("test")

    def _log_scores(self, stage: str) -> None:
        figures = collected({self.columns[place].name: metric for place, metric in self._scored()}, stage)
        # In double precision, as scores of large numbers may be infinite in single precision.
        exact = partial(torch.tensor, dtype=torch.double, device=self.device)
        self.log_dict({name: exact(value) for name, value in figures.items()}, sync_dist=True)
        self.log(f"{stage}_loss", figures[f"{stage}/loss"], prog_bar=True, logger=False, sync_dist=True)

    def predict_step(self, batch: CellBatch, batch_idx: int) -> Filled:
        """Predictions of all cells of the rows with a hidden target, averaged over contexts."""
        found = self(batch)
        output = filled(found, batch, self.columns, self.network.kinds)
        if not self.asked.deciding_rows:
            return output
        deciding = decide(self.network, batch, found, self.columns, self.asked)
        self.changes.append(deciding.changes)
        return output._replace(deciding=deciding)

    def on_predict_epoch_end(self) -> None:
        """Say how much the predictions of this rank change without their deciding rows."""
        if self.changes:
            targets = [column for column in self.columns if column.target]
            for line in described(torch.cat(self.changes), targets, self.asked.deciding_rows):
                rank_zero_info(line)
            self.changes.clear()

    def probe(self, batch: CellBatch) -> Reconstruction:
        """Forward pass for callbacks."""
        return self(batch)

    def prediction_table(self, batch: CellBatch, output: Filled, number: int) -> dict[str, list[Any]]:
        """One line for each row: its number, its targets and their predictions, and what fills its missing cells."""
        return prediction_table(output, self.columns)

    def further_tables(self, batch: CellBatch, output: Filled, number: int) -> dict[str, dict[str, list[Any]]]:
        """The deciding rows, where they were asked for."""
        if output.deciding is None:
            return {}
        return {"deciding": deciding_table(output.row, output.deciding, self.columns)}

    def map_views(self, batch: CellBatch, items: int, tokens: int) -> dict[str, MapView]:
        """Maps between rows sorted by their label, and maps between columns with their names."""
        sites = [site._replace(path=f"network.{site.path}") for site in self.network.sites()]
        return map_views(sites, batch, self.columns, self._roles(), items, tokens, self.network.token_of)

    def token_points(self, layer: str, batch: CellBatch, output: Tensor) -> Tensor:
        """Tokens of the target columns: one point for each row and target."""
        return row_points(batch, self.columns, output, self.network.token_of)

    def token_metadata(self, layer: str, batch: CellBatch, output: Tensor) -> dict[str, list[Any]] | None:
        """Label, split and number of the row of each point."""
        return row_metadata(batch, self.columns, self._roles(), output)

    def scored_columns(self) -> list[ScoredColumn]:
        """Truth and predictions of each target, in the data's units."""
        return [metric.scored for _, metric in self._scored() if metric.scored is not None]

    def counted(self, batch: CellBatch) -> dict[str, int]:
        """Rows of a batch, in all its contexts."""
        return {"rows": batch.row.numel()}

    def outcomes(self, batch: CellBatch) -> list[ScoredColumn]:
        """Truth and predicted distributions of each target, in the data's units."""
        found, kinds = self(batch), self.network.kinds
        return [metric.outcome(predicted(found, batch, kinds, place)[0]) for place, metric in self._scored()]

    def predicts_classes(self) -> bool:
        """Whether a target has categories."""
        return any(column.target and column.categories for column in self.columns)

    def _roles(self) -> Tensor | None:
        roles = self.of_data("roles")
        return None if roles is None else torch.as_tensor(roles).cpu()

"""Task of in-context classification: labels of target rows from labelled context rows, in one forward pass."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import isnan
from numbers import Integral
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor

from tabattn.attention import AttentionFactory, Softmax
from tabattn.contract.batches import TableBatch
from tabattn.contract.facts import Fact
from tabattn.contract.views import ScoredColumn
from tabattn.optim import MuonAdamW
from tabattn.prior import NETWORKS
from tabattn.prior.classifier_network import ContextClassifier, NetworkFactory
from tabattn.prior.earlier import MOVED, upgrade
from tabattn.prior.in_context import InContext
from tabattn.prior.metrics import Scores, TableScores
from tabattn.prior.network import PriorNetwork
from tabattn.prior.predictions import outcomes, prediction_table
from tabattn.storage.hyperparameters import factory, mechanism

MOST_PASSES = 1000
"""Most permutations and renamings: each costs a forward pass, and a checkpoint from any source may set their number."""


class PriorClassification(InContext):
    """Trains an in-context classifier on tables of a prior and scores it on real ones.

    Logs ROC AUC, accuracy and log-loss (nats) of each table and on average, and the *context reliance*: the AUC minus
    the AUC with permuted context labels. It is large for a network that learns in context, and 0 for one that has
    memorised a table.

    Args:
        network: Network to train: ``PriorNetwork``, ``NanoTabPFN`` (the original, numerically equal), or the class path
            of a network of your own. Its options are ``network.<option>``, such as the width ``network.dim``.
        attention: Mechanism between context rows, and from target rows to them where it can answer queries from
            outside.
        feature_attention: Mechanism between the columns of a row.
        target_attention: Mechanism from target rows to context rows; none = ``attention`` where it can answer queries
            from outside, else Softmax.
        permutations: Number of passes of validation and test with permuted context labels; 0 = no context reliance.
        renamings: Number of cyclic permutations of the class indices that a prediction averages over, at most the
            number of classes: predictions should not depend on the indices, but do after short training. Not used in
            training.
        init_from: Checkpoint or weight file (.safetensors) to initialise the network from, by matching name and shape;
            keeps the command line's model.
    """

    batch = TableBatch
    optimizer = partial(MuonAdamW, lr=0.02, adamw_lr=3e-3, weight_decay=0.01)
    facts: ClassVar[Mapping[str, Fact]] = {
        "classes": Fact(Integral, "the largest number of classes of any of its tables, which the network must hold"),
        "tables": Fact(Sequence, "the names of the tables that a batch is cut from, for their scores", ()),
        "class_names": Fact(Callable, "the class names of a table, by its index, for predictions", None),
        "target_rows": Fact(Callable, "the target rows of a prediction batch, by its number", None),
        "column_names": Fact(Callable, "the column names of a table, by its index, for attention maps", None),
    }
    moved = MOVED

    def __init__(
        self,
        network: NetworkFactory = PriorNetwork,
        attention: AttentionFactory = Softmax,
        feature_attention: AttentionFactory = Softmax,
        target_attention: AttentionFactory | None = None,
        permutations: int = 1,
        renamings: int = 1,
        init_from: str | None = None,
    ) -> None:
        super().__init__(init_from)
        for name, value, least in (("permutations", permutations, 0), ("renamings", renamings, 1)):
            if not least <= value <= MOST_PASSES:
                raise ValueError(f"{name} must be between {least} and {MOST_PASSES}, got {value}")
        self.save_hyperparameters(ignore=["init_from"])
        make = factory(network, "network", NETWORKS, ContextClassifier)
        self.network = make(
            mechanism(attention),
            mechanism(feature_attention, "feature_attention"),
            None if target_attention is None else mechanism(target_attention, "target_attention"),
        )
        if (targets := self.network.targets) != "classes":
            raise ValueError(f"the network of PriorClassification must predict classes, this one {targets}")
        self.permutations = permutations
        self.renamings = renamings
        self.scores = TableScores(self.network.classes)
        self.permuted_scores = TableScores(self.network.classes)

    @classmethod
    def upgraded(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Migrate the arguments of an earlier version to today's."""
        return upgrade(arguments)

    def setup(self, stage: str) -> None:
        """Check that the network has an output for every class of the data."""
        super().setup(stage)
        needed = self.of_data("classes")
        if needed is not None and needed > self.network.classes:
            raise MisconfigurationException(
                f"the data has up to {needed} classes, the network only classes={self.network.classes}"
            )

    def forward(self, batch: TableBatch) -> Tensor:
        """Log-probabilities of target rows, ``(batch, target rows, classes)``; -inf for classes no context row has."""
        logits = self.network(batch.x, batch.y, batch.context, batch.columns)
        return restricted_log_softmax(logits, batch.y[:, : batch.context])

    def probabilities(self, batch: TableBatch) -> Tensor:
        """Class probabilities of target rows, averaged over ``renamings``, ``(batch, target rows, classes)``."""
        context = batch.y[:, : batch.context]
        count = context.amax(1, keepdim=True) + 1
        names = torch.arange(self.network.classes, device=context.device)
        turns = count.clamp(max=self.renamings)
        total = torch.zeros((), device=context.device)
        for turn in range(int(turns.max())):
            renamed = torch.where(names < count, (names + turn) % count, names)
            given = self(batch._replace(y=renamed.gather(1, context))).exp()
            total = total + given.gather(2, renamed[:, None].expand_as(given)) * (turn < turns)[..., None]
        return total / turns[..., None]

    def training_step(self, batch: TableBatch, batch_idx: int) -> Tensor:
        """Mean cross-entropy of the target rows, in nats."""
        targets = batch.y[:, batch.context :]
        loss = F.nll_loss(self(batch).flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="sum")
        loss = loss / (targets >= 0).sum().clamp(min=1)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.x))
        return loss

    def validation_step(self, batch: TableBatch, batch_idx: int) -> None:
        """Predict with the true context labels, and with permuted ones for the context reliance."""
        targets = batch.y[:, batch.context :]
        tables = batch.table if batch.table is not None else torch.zeros(len(batch.x), dtype=torch.long)
        tables = tables.to(targets.device)
        self.scores.update(self.probabilities(batch), targets, tables)
        number = batch_idx * self.trainer.world_size + self.global_rank
        for repeat in range(self.permutations):
            seed = number * self.permutations + repeat
            shuffled = batch._replace(y=permute_context(batch.y, batch.context, seed))
            repeats = tables * self.permutations + repeat
            self.permuted_scores.update(self.probabilities(shuffled), targets, repeats)

    test_step = validation_step

    def predict_step(self, batch: TableBatch, batch_idx: int) -> Tensor:
        """Class probabilities of target rows, ``(batch, target rows, classes)``."""
        return self.probabilities(batch)

    def class_probabilities(self, output: Tensor) -> Tensor:
        """Class probabilities of target rows, ``(batch, target rows, classes)``."""
        return output

    def prediction_table(self, batch: TableBatch, output: Tensor, number: int) -> dict[str, list[Any]]:
        """One line for each target row: table, row, label, the predicted class, and the probability of each."""
        rows = self.of_data("target_rows")
        return prediction_table(
            batch,
            output,
            self.of_data("tables"),
            self.of_data("class_names"),
            None if rows is None else rows(number),
        )

    def outcomes(self, batch: TableBatch) -> list[ScoredColumn]:
        """Classes of target rows and their predicted probabilities, by table."""
        return outcomes(batch, self.probabilities(batch), self.of_data("tables"), self.of_data("class_names"))

    def on_validation_epoch_end(self) -> None:
        """Log the scores under ``val/``."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores under ``test/``."""
        self._log_scores("test")

    def _log_scores(self, stage: str) -> None:
        for metric in (self.scores, self.permuted_scores):
            metric.settle()
        scores = self.scores.compute()
        self.scores.reset()
        permuted = self.permuted_scores.compute() if self.permutations else {}
        self.permuted_scores.reset()
        names = self.of_data("tables")
        figures: dict[str, float] = {}
        for index, entry in scores.items():
            if names:
                figures |= {f"{stage}/{names[index]}/{field}": value for field, value in entry._asdict().items()}
        for field in Scores._fields:
            figures[f"{stage}/{field}"] = _mean(scores.values(), field)
        if permuted:
            figures[f"{stage}/permuted_auroc"] = _mean(permuted.values(), "auroc")
            figures[f"{stage}/reliance"] = figures[f"{stage}/auroc"] - figures[f"{stage}/permuted_auroc"]
        self.log_dict(figures, sync_dist=True)
        self.log(f"{stage}_auroc", figures[f"{stage}/auroc"], prog_bar=True, logger=False, sync_dist=True)

    def token_names(self, batch: Any) -> dict[str, list[str]] | None:
        """Column names, if the datamodule has names for the table of the batch."""
        return self.names_of_columns(self.of_data("column_names"), batch)

    def token_metadata(self, layer: str, batch: Any, output: Tensor) -> dict[str, list[Any]] | None:
        """Label, table and role of each token of a layer that outputs target rows."""
        targets = batch.y[:, batch.context :]
        if output.shape[:2] != targets.shape:
            return None
        each = output[..., 0].numel() // targets.numel()
        tables = batch.table if batch.table is not None else torch.full((len(targets),), -1)
        return {
            "label": targets.repeat_interleave(each).tolist(),
            "table": tables.repeat_interleave(targets.shape[1] * each).tolist(),
        }


def restricted_log_softmax(logits: Tensor, context_labels: Tensor) -> Tensor:
    """Log-softmax restricted to the classes that occur in the context.

    Args:
        logits: ``(batch, target rows, classes)``.
        context_labels: ``(batch, context)``.

    Returns:
        ``(batch, target rows, classes)``; -inf where a class does not occur.
    """
    present = torch.zeros(len(logits), logits.shape[-1], dtype=torch.bool, device=logits.device)
    present.scatter_(1, context_labels, True)
    return logits.float().masked_fill(~present[:, None], -torch.inf).log_softmax(-1)


def permute_context(y: Tensor, context: int, seed: int) -> Tensor:
    """Permute the labels of the context rows at random."""
    order = torch.randperm(context, generator=torch.Generator().manual_seed(seed)).to(y.device)
    return torch.cat([y[:, :context][:, order], y[:, context:]], dim=1)


def _mean(scores: Iterable[Scores], field: str) -> float:
    """Mean of a score over tables, without the AUC of tables with a single class; NaN if any prediction was NaN."""
    kept = [entry for entry in scores if field != "auroc" or entry.auroc == entry.auroc or isnan(entry.accuracy)]
    return sum(getattr(entry, field) for entry in kept) / len(kept) if kept else float("nan")

"""Task of inference between sequences: predict the rest of one from another and a few points of its own."""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from numbers import Integral
from typing import Any, ClassVar, cast

import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.distributions import Distribution

from tabattn.attention import AttentionFactory, Softmax
from tabattn.contract.batches import PairBatch, Scaling
from tabattn.contract.facts import Fact
from tabattn.contract.views import ScoredColumn
from tabattn.optim import MuonAdamW
from tabattn.pairs import (
    NETWORKS,
    TNPD,
    InferenceOptions,
    NetworkFactory,
    PairNetwork,
    Trajectories,
    lay_out,
    trajectories,
)
from tabattn.pairs.beyond import about_beyond
from tabattn.pairs.earlier import MOVED, upgrade
from tabattn.pairs.metrics import PairScores
from tabattn.pairs.predictions import outcomes, prediction_table
from tabattn.pairs.scheduled import LONG, scheduled
from tabattn.storage.hyperparameters import factory, mechanism
from tabattn.task import Task

CHAINED = 2
"""Tasks of each test batch whose trajectories are scored; each target takes a forward pass."""


class PairInference(Task):
    """Trains a network to infer the rest of a sequence from another sequence and a few points of its own.

    Logs the mean log-likelihood of a target in nats (a log-density, so it may be positive), that of the oracle where
    there is one (``ll_oracle``) and the ``gap`` to it, the squared error, the error of the first target after the
    context, the share of explained variance, continuous ranked probability score and the coverage of intervals; also
    for each member (with its explained variance) and for buckets of distance to the nearest known point. Training logs
    the loss and the squared error of each batch. Test also logs the error of trajectories (autoregressive predictions)
    of the first 2 tasks of each batch: ``rmse_chain`` conditions on the means before, ``rmse_chain_sample`` on samples,
    and ``rmse_chain_once`` is the error of the same tasks in a single pass.

    Args:
        network: Network to train: ``TNPD``: context tokens attend to one another, targets to them (TNP-D, Nguyen and
            Grover 2022); ``TNPA``: targets also to the targets before them; ``SeedNetwork``: the first such network,
            whose attention is blind to which sequence a point belongs to; or a class of your own, by its path. Its
            options are ``network.<option>``, such as the width ``network.dim``.
        attention: Mechanism between context tokens, and from targets to them where it can answer queries from outside.
        target_attention: Mechanism from targets to the context; none = ``attention`` where it can, else Softmax.
        joint: Whether validation and test also score the joint log-likelihood, each target given the targets before it;
            none = where that takes a single pass.
        inference: Options of ``predict`` and of the figures: the layout of a task, and its trajectories.
        scheduled_sampling: Probability that the context of a training batch of 32 or more targets goes on with values
            that the network predicts, as that of a trajectory does, so that long trajectories do not drift (scheduled
            sampling); 0 = true values alone.
        init_from: Checkpoint or weight file (.safetensors) to initialise the network from, by matching name and shape;
            keeps the command line's model.
    """

    task_name = "pairs"
    batch = PairBatch
    optimizer = partial(MuonAdamW, lr=0.005, adamw_lr=2e-3)
    facts: ClassVar[Mapping[str, Fact]] = {
        "members": Fact(Integral, "the number of sequences in a task, which the network must hold"),
        "scaling": Fact(Scaling, "the range of locations and the mean and std of values, which the network works in"),
        "complete": Fact(bool, "whether no value is ever NaN in training, so that batches need no check", False),
        "names": Fact(Sequence, "the names of the sequences, for predictions", None),
        "mean": Fact(object, "the mean that standardisation subtracted from each sequence, for predictions", None),
        "infer": Fact(Sequence, "the numbers of the sequences to infer, for predictions", None),
        "std": Fact(object, "the standard deviation that it divided each sequence by, for predictions", None),
    }
    moved = MOVED
    network: PairNetwork

    def __init__(
        self,
        network: NetworkFactory = TNPD,
        attention: AttentionFactory = Softmax,
        target_attention: AttentionFactory | None = None,
        joint: bool | None = None,
        inference: InferenceOptions = InferenceOptions(),  # noqa: B008
        scheduled_sampling: float = 0.5,
        init_from: str | None = None,
    ) -> None:
        super().__init__(init_from)
        if not 0 <= scheduled_sampling <= 1:
            raise ValueError(f"scheduled_sampling must be between 0 and 1, got {scheduled_sampling}")
        # Options of inference and training are not part of the network: a checkpoint leaves them to the command line.
        self.save_hyperparameters(ignore=["init_from", "inference", "joint", "scheduled_sampling"])
        within = None if target_attention is None else mechanism(target_attention, "target_attention")
        make = factory(network, "network", NETWORKS, PairNetwork)
        self.network = make(mechanism(attention), within)
        self.joint = self.network.one_pass if joint is None else joint
        self.inference = inference
        self.scheduled_sampling = scheduled_sampling
        self.scores = PairScores(self.network.members)
        self.scaled = False
        self.warned = False

    @classmethod
    def upgraded(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Migrate the arguments of an earlier version to today's."""
        return upgrade(arguments)

    def setup(self, stage: str) -> None:
        """Check that the network has enough members, and set the data's units once.

        Initial weights (``init_from``) include units: a training replaces them by those of its data, a test keeps them.
        """
        self.check_data(getattr(self.trainer, "datamodule", None))
        members, scaling = self.of_data("members"), self.of_data("scaling")
        if (self.of_data("mean") is None) != (self.of_data("std") is None):
            lacking, given = ("mean", "std") if self.of_data("mean") is None else ("std", "mean")
            raise MisconfigurationException(
                f"PairInference needs {lacking} of its datamodule ({self.facts[lacking].what}), as it has {given}: "
                f"{type(cast('Any', self.trainer).datamodule).__name__} lacks it"
            )
        if members is not None and members > self.network.members:
            raise MisconfigurationException(
                f"the data has {members} members, the network only members={self.network.members}"
            )
        self.network.complete = bool(self.of_data("complete"))
        self.scaled |= self.init_from is not None and stage != "fit"
        super().setup(stage)
        if scaling is not None and not self.scaled:
            self.network.scale(scaling)
            self.scaled = True

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the units of the checkpoint."""
        super().on_load_checkpoint(checkpoint)
        self.scaled = True

    def forward(self, batch: PairBatch) -> Distribution:
        """Density of each target given the context, ``(batch, targets)``, in the data's units."""
        return self.network(batch.x, batch.y, batch.member, batch.context)

    def unreplayable(self, batch: PairBatch) -> str | None:
        """Scheduled sampling draws how many targets become context."""
        if self.scheduled_sampling and batch.x.shape[1] - batch.context >= LONG:
            return f"scheduled sampling of batches with {LONG} targets or more differs from step to step: give 0"
        return None

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """Mean negative log-likelihood of the targets, in nats."""
        if self.scheduled_sampling:
            batch = scheduled(self.network, batch, self.scheduled_sampling)
        y = batch.y[:, batch.context :]
        scored = y.isfinite()
        density = self.network.density(batch.x, batch.y, batch.member, batch.context)
        each = density.log_prob(torch.where(scored, y, 0.0)).masked_fill(~scored, 0.0)
        loss = -each.sum() / scored.sum().clamp(min=1)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.x))
        error = (density.mean.detach() - y).square().where(scored, 0.0).sum() / scored.sum().clamp(min=1)
        self.log("train/mse", error, batch_size=len(batch.x))
        return loss

    def validation_step(self, batch: PairBatch, batch_idx: int) -> None:
        """Score every target given the context and, with ``joint``, given the targets before it too."""
        self._score(batch)

    def test_step(self, batch: PairBatch, batch_idx: int) -> None:
        """Score as in validation, and the trajectories of the first tasks of the batch."""
        given = self._score(batch)
        few = batch.first(CHAINED)
        source = torch.Generator(self.device).manual_seed(self._number(batch_idx))
        drawn = trajectories(self.network, few, InferenceOptions(samples=1), source)
        assert drawn.mean is not None
        self.scores.add_trajectories(few.y[:, few.context :], given.mean[:CHAINED], drawn.mean, drawn.samples[0])

    def _score(self, batch: PairBatch) -> Distribution:
        """Score a batch in one pass; return the density of each target given the context."""
        self._watch(batch)
        parts = (batch.x, batch.y, batch.member, batch.context)
        chain = self.network.chain(*parts) if self.joint else None
        low, high, *_ = self.network.scaling
        given = self.network(*parts)
        self.scores.update(batch, given, chain, (low, high))
        return given

    def _number(self, batch_idx: int) -> int:
        """Number of a batch over all ranks."""
        return batch_idx * self.trainer.world_size + self.global_rank

    def predict_step(self, batch: PairBatch, batch_idx: int) -> Trajectories:
        """Infer trajectories of the sequences to infer, laid out by ``inference``."""
        self._watch(batch)
        return self.trajectories(batch, self._number(batch_idx))

    def trajectories(self, batch: PairBatch, number: int = 0) -> Trajectories:
        """Infer trajectories; the same for the same batch and batch number."""
        mixed = np.random.SeedSequence([self.inference.seed, number]).generate_state(1)
        source = torch.Generator(self.device).manual_seed(int(mixed[0]))
        inferred = None if self._trainer is None else self.of_data("infer")
        laid = lay_out(batch, self.inference, source, inferred)
        return trajectories(self.network, laid, self.inference, source)

    def prediction_table(self, batch: PairBatch, output: Trajectories, number: int) -> dict[str, list[Any]]:
        """One line for each target: task, member, location, value, mean, samples and quantiles, in the data's units."""
        return prediction_table(output, self.of_data("names"), self.of_data("mean"), self.of_data("std"))

    def counted(self, batch: PairBatch) -> dict[str, int]:
        """Tasks of a batch and their points."""
        return {"tasks": len(batch.x), "points": batch.x.numel()}

    def outcomes(self, batch: PairBatch) -> list[ScoredColumn]:
        """Values of targets and their densities given the context, by sequence, in the units of the network."""
        return outcomes(batch, self(batch), self.of_data("names"))

    def predicts_classes(self) -> bool:
        """No: it predicts numbers."""
        return False

    def probe(self, batch: PairBatch) -> Tensor:
        """Predict the means of the targets, for callbacks."""
        return self(batch).mean

    def on_validation_epoch_end(self) -> None:
        """Log the scores under ``val/``."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores under ``test/``."""
        self._log_scores("test")

    def _log_scores(self, stage: str) -> None:
        figures = {f"{stage}/{name}": figure for name, figure in self.scores.compute().items()}
        self.scores.reset()
        # The sums are already reduced over ranks.
        self.log_dict(figures, sync_dist=True)
        self.log(f"{stage}_ll", figures[f"{stage}/ll"], prog_bar=True, logger=False, sync_dist=True)

    def _watch(self, batch: PairBatch) -> None:
        """Warn, once, of locations outside the range of training."""
        told = about_beyond(self.network.scaling, batch.x.min().item(), batch.x.max().item())
        if told and not self.warned:
            self.warned = True
            warnings.warn(told, stacklevel=2)  # Each rank warns of its own batches.

    def token_metadata(self, layer: str, batch: Any, output: Tensor) -> dict[str, list[Any]] | None:
        """Location, value, member and role of each token of a layer that outputs observations."""
        points = batch.x.shape[1]
        first = points - output.shape[1]
        if output.dim() != 3 or first not in {0, batch.context}:
            return None
        roles = ["context"] * (batch.context - first) + ["target"] * (points - max(first, batch.context))
        columns = {"x": batch.x, "y": batch.y, "member": batch.member}
        described = {name: part[:, first:].flatten().tolist() for name, part in columns.items()}
        return {**described, "role": roles * len(batch.x)}

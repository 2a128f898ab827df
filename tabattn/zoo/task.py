"""Task of networks: a variational autoencoder of trained networks, which samples networks for tasks."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Literal, cast, get_args

import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.optim import AdamW
from torchmetrics import CatMetric, MeanMetric, Metric

from tabattn.attention import AttentionFactory, Softmax
from tabattn.contract.facts import Fact
from tabattn.contract.networks import NetworkBatch, NeuronTokens
from tabattn.metafeatures import NAMES, MetaScaler
from tabattn.storage.hyperparameters import factory, mechanism
from tabattn.task import Task
from tabattn.zoo import NETWORKS
from tabattn.zoo.canonical import canonical, permuted
from tabattn.zoo.coder import DEFAULT_SIZES, NetworkCoder, NetworkFactory, RoomError, Sizes, TaskRows
from tabattn.zoo.loss import (
    DEFAULT_LOSS,
    LossOptions,
    divergences,
    free_divergences,
    network_losses,
    target_losses,
    total_loss,
    validity_losses,
)
from tabattn.zoo.metrics import FunctionScores, StructureScores, TaskScores, WeightR2
from tabattn.zoo.network import NeuronTransformer
from tabattn.zoo.options import DEFAULT_PREDICT, PredictOptions
from tabattn.zoo.own_data import OwnData
from tabattn.zoo.predictions import SampledNetworks, prediction_table
from tabattn.zoo.priors import LatentPrior
from tabattn.zoo.sampling import Sampler, decoded, with_columns
from tabattn.zoo.scores import validity
from tabattn.zoo.task_scores import task_scores
from tabattn.zoo.views import NetworkViews

MEANS = ("loss", "divergence", "free_valid")
"""Scores that are means over networks."""
ACTIVE = 0.01
"""Variance of the mean of a dimension of the latent, over networks, from which it is active."""
Form = Literal["canonical", "permuted", "given"]


@contextmanager
def refused() -> Iterator[None]:
    """Refuse a run whose networks or tasks are larger than there is room for."""
    try:
        yield
    except RoomError as ex:
        raise MisconfigurationException(f"model.{ex}") from ex


class NetworkVAE(NetworkViews, OwnData, Sampler, Task):
    """Trains a variational autoencoder of trained networks, and samples networks for tasks.

    Its parts: a transformer encoder over neurons, a latent, what is told of the task (meta-features or rows), and a
    parallel decoder of architecture and weights. The loss weights errors of weights by neuron sensitivity and compares
    what networks compute. Validation and test encode a network, decode it, and compare: its functional R2, whether the
    architecture is exact, and whether graphs drawn from N(0, I) are valid.

    Args:
        network: Network to train: ``NeuronTransformer``, the baselines ``ConvMatrix`` and ``MLPMatrix``, or the class
            path of a network of your own. Its options are ``network.<option>``, such as the width of the latent,
            ``network.latent``.
        attention: Mechanism between neurons.
        sizes: Room for networks.
        loss: Options of the loss.
        form: Form of networks: ``canonical`` = of networks that differ by a permutation, a sign or a scale, one;
            ``permuted`` = neurons of a level permuted at random in training; ``given`` = as they are.
        predict: Options of ``predict``. A checkpoint leaves them to the command line.
        init_from: Checkpoint or weight file (.safetensors) to initialise the network from, by matching name and shape;
            keeps the command line's model.
    """

    task_name = "zoo"
    batch = NetworkBatch
    optimizer = partial(AdamW, lr=5e-3, weight_decay=0.01)
    facts: ClassVar[Mapping[str, Fact]] = {
        "scaler": Fact(MetaScaler, "the scaling of meta-features, by which a user's table is described", None),
    }

    def __init__(
        self,
        network: NetworkFactory = NeuronTransformer,
        attention: AttentionFactory = Softmax,
        sizes: Sizes = DEFAULT_SIZES,
        loss: LossOptions = DEFAULT_LOSS,
        form: Form = "canonical",
        init_from: str | None = None,
        predict: PredictOptions = DEFAULT_PREDICT,
    ) -> None:
        super().__init__(init_from)
        if form not in get_args(Form):
            raise ValueError(f"form must be {', '.join(get_args(Form))}, got {form!r}")
        self.save_hyperparameters(ignore=["init_from", "predict"])
        make = factory(network, "network", NETWORKS, NetworkCoder)
        self.network: NetworkCoder = make(sizes, mechanism(attention))
        self.prior = LatentPrior(self.network.latent, self.network.told)
        self.loss = loss
        self.form = form
        self.asked = predict
        self.structure, self.weight_r2 = StructureScores(), WeightR2()
        self.function, self.performance = FunctionScores(), TaskScores()
        self.means = torch.nn.ModuleDict({name: MeanMetric() for name in MEANS})
        self.latents = CatMetric()
        # Rows: means and standard deviations of meta-features in the zoo.
        self.register_buffer("meta_scaling", torch.tensor([0.0, 1.0])[:, None].repeat(1, len(NAMES)))
        # Where callbacks find the latents.
        self.embedding = torch.nn.Identity()

    def setup(self, stage: str) -> None:
        """Check the precision and the data.

        Raises:
            MisconfigurationException: Numbers of networks would be rounded, or widened.
        """
        precision = self.trainer.precision
        if precision in ("16-true", "bf16-true"):
            raise MisconfigurationException(
                f"precision {precision} would round the weights of networks: choose {precision[:-4]}mixed"
            )
        if precision == "64-true":
            raise MisconfigurationException("precision 64-true: networks are in single precision: choose 32-true")
        super().setup(stage)
        scaler = self.of_data("scaler")
        if stage == "fit" and scaler is not None:
            self.meta_scaling.copy_(torch.from_numpy(np.stack([scaler.mean, scaler.std])))

    def formed(self, tokens: NeuronTokens) -> NeuronTokens:
        """Networks in the form that is encoded, without room for more vertices than the network has."""
        room = self.network.sizes.vertices
        if tokens.mask.shape[1] > room:
            tokens = NeuronTokens(*(each[:, :room, :room] if each.dim() == 3 else each[:, :room] for each in tokens))
        if self.form == "canonical":
            return canonical(tokens)
        return permuted(tokens) if self.form == "permuted" and self.training else tokens

    def told(self, batch: NetworkBatch) -> Tensor:
        """What the network is told of the tasks of a batch, ``(networks, told)``: nothing of rows held out."""
        with refused():
            return self.network.tell(TaskRows(batch.meta, batch.x[:, : batch.context], batch.y[:, : batch.context]))

    @staticmethod
    def held_out(batch: NetworkBatch) -> tuple[Tensor, Tensor]:
        """Rows and targets that no network was trained on; none where all are training rows."""
        first = batch.x.shape[1] if batch.context is None else batch.context
        return batch.x[:, first:], batch.y[:, first:]

    def forward(self, batch: NetworkBatch) -> NeuronTokens:
        """Encode networks and decode them."""
        posterior = self.network.encode(self.formed(batch.tokens))
        return decoded(self.network, self.embedding(posterior.mean), self.told(batch))

    probe = forward

    def on_train_batch_start(self, batch: NetworkBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Check a batch; measure the weights of the first, before the first step of a training; alike on all ranks."""
        self._check(batch, batch_idx)
        if self.global_step == 0 and batch_idx == 0:
            self.network.begin(self.formed(batch.tokens))
            self.network.statistics.copy_(self.trainer.strategy.broadcast(self.network.statistics))

    def _check(self, batch: NetworkBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Check the type of a batch, and the sizes of its networks."""
        super().on_train_batch_start(batch, batch_idx, dataloader_idx)
        with refused():
            self.network.sizes.check(batch.tokens)

    on_validation_batch_start = on_test_batch_start = on_predict_batch_start = _check

    def batch_loss(self, batch: NetworkBatch, warmed: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch, and its parts by name.

        Args:
            batch: The batch.
            warmed: Factor on the weights of the divergence.
        """
        tokens, told = self.formed(batch.tokens), self.told(batch)
        posterior = self.network.encode(tokens)
        parts = network_losses(self.network, tokens, posterior.drawn(), told, batch.probe, self.loss)
        if self.loss.valid:
            parts["valid"] = validity_losses(self.network, told)
        if self.loss.targets and self.network.told:
            x, y = with_columns(batch.x, self.network.sizes.inputs), batch.y
            parts["targets"] = target_losses(self.network, tokens, told, x, y, self.loss.tolerance, batch.classes)
        leading, rest = free_divergences(posterior, self.loss.free_bits, self.network.leading)
        divergence = warmed * (self.loss.leading_beta * leading + self.loss.beta * rest)
        prior = self.prior.loss(posterior.mean, told)
        loss = total_loss(parts, self.loss) + divergence + self.loss.prior * prior
        means = {name: part.mean() for name, part in parts.items()}
        return loss, means | {"divergence": leading + rest, "prior": prior}

    def unreplayable(self, batch: NetworkBatch) -> str | None:
        """The weight of the divergence is warmed up."""
        if self.loss.warmup:
            return f"the divergence is warmed up from step to step: give loss.warmup=0, got {self.loss.warmup:g}"
        return None

    def training_step(self, batch: NetworkBatch, batch_idx: int) -> Tensor:
        """Weighted sum of the parts of the loss."""
        warmed = self.loss.warmed(self.global_step, self.trainer.estimated_stepping_batches)
        loss, parts = self.batch_loss(batch, warmed)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.number))
        self.log_dict({f"train/{name}": part for name, part in parts.items()}, batch_size=len(batch.number))
        return loss

    def counted(self, batch: NetworkBatch) -> dict[str, int]:
        """Networks of a batch."""
        return {"networks": len(batch.number)}

    def validation_step(self, batch: NetworkBatch, batch_idx: int) -> None:
        """Encode and decode networks, and graphs drawn from N(0, I), and score them."""
        scored = batch.number >= 0
        tokens, told = self.formed(batch.tokens), self.told(batch)
        posterior = self.network.encode(tokens)
        own = decoded(self.network, posterior.mean, told)
        parts = network_losses(self.network, tokens, posterior.mean, told, batch.probe, self.loss)
        loss = torch.stack([getattr(self.loss, name) * part for name, part in parts.items()]).sum(0)
        drawn = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(batch_idx)).to(told.device)
        free = validity(decoded(self.network, drawn, told, valid_only=False)).float()
        figures = loss, divergences(posterior).sum(1), free
        for name, values in zip(MEANS, figures, strict=True):
            cast("MeanMetric", self.means[name]).update(values[scored])
        self.latents.update(posterior.mean[scored])
        self.structure.update(own, tokens, scored)
        self.weight_r2.update(own, tokens, scored)
        probe, x = (with_columns(rows, self.network.sizes.inputs) for rows in (batch.probe, self.held_out(batch)[0]))
        self.function.update(own, tokens, probe, scored)
        if x.shape[1]:
            self.performance.update(own, tokens, x, self.held_out(batch)[1], scored, batch.classes)

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Log the scores under ``val/``."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores under ``test/``."""
        self._log_scores("test")

    def _log_scores(self, stage: str) -> None:
        figures = {name: cast("MeanMetric", metric).compute() for name, metric in self.means.items()}
        latents = torch.as_tensor(self.latents.compute()).reshape(-1, self.network.latent)
        if len(latents):
            figures["active_units"] = (latents.var(0, correction=0) > ACTIVE).float().sum()
        for metric in (self.structure, self.weight_r2, self.function, self.performance):
            figures |= metric.compute()
        for part in self.modules():
            if isinstance(part, Metric):
                part.reset()
        self.log_dict({f"{stage}/{name}": value.float() for name, value in figures.items()}, sync_dist=True)

    def predict_step(self, batch: NetworkBatch, batch_idx: int) -> SampledNetworks:
        """Sample a network for the task of each network, and compare it on the rows of the task."""
        tokens, told, asked = self.formed(batch.tokens), self.told(batch), self.asked
        source = torch.Generator().manual_seed(batch_idx * self.trainer.world_size + self.global_rank)
        latent = self.prior.sample(told, asked.prior, asked.temperature, source)
        arch = tokens if asked.given_architecture else None
        sampled = decoded(self.network, latent, told, asked.valid_only, arch)
        again = decoded(self.network, self.network.encode(tokens).mean, told)
        x, y = self.held_out(batch)
        x = with_columns(x, self.network.sizes.inputs)
        figures = [task_scores(each, x, y, batch.classes) for each in (sampled, tokens, again)]
        return SampledNetworks(batch.number, batch.task, sampled, *figures)

    def prediction_table(self, batch: NetworkBatch, output: SampledNetworks, number: int) -> dict[str, list[Any]]:
        """One line for each sampled network: what it stands beside, its size, and its R2 or accuracy."""
        return prediction_table(output, self.formed(batch.tokens), batch.classes)

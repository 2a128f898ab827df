"""Quality of a trained autoencoder of networks: reconstruction, samples, novelty and probes."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from lightning.pytorch import Trainer
from sklearn.linear_model import RidgeCV
from torch import Tensor

from datamodules import NetworkZoo
from datamodules.zoo.tasks import TEST, TRAIN
from tabattn.contract.networks import NetworkBatch, NeuronTokens
from tabattn.tasks import NetworkVAE
from tabattn.zoo import canonical, execute
from tabattn.zoo.novelty import NoveltyGate, novelty_gate
from tabattn.zoo.priors import Prior
from tabattn.zoo.probes import probe
from tabattn.zoo.sampling import decoded, with_columns
from tabattn.zoo.scores import functional_r2, repeated_exactness, sample_scores, taken, validity
from tabattn.zoo.task_scores import task_r2

SAMPLES = 500
"""Samples of each prior."""
TRAINING = 1500
"""Training networks that samples are compared with."""
Split = Literal["network", "task", "architecture"]
PRIORS: tuple[Prior, ...] = ("normal", "gauss", "kde", "flow")
"""Priors that are compared."""
PENALTIES = np.logspace(-3, 3, 13)
"""Penalties of ridge regression, of which cross-validation takes one."""
ROWS = 256
"""Rows on which outputs of networks of different tasks are compared."""
TOLD = {
    "functional_r2": "functional R2, median",
    "functional_r2_good": "share with functional R2 above .9",
    "architecture_exact": "architecture exact",
    "type_accuracy": "types right",
    "cosine_similarity": "cosine of the penultimate activations",
    "weight_r2": "R2 of weights",
    "task_r2_original": "task R2 of the originals, median",
    "delta_task": "task R2 of reconstructions less that of originals, median",
    "divergence": "divergence from N(0, I), nats",
    "active_units": "active dimensions",
}
"""Scores of the test and their names."""


def quality(checkpoint: Path, zoo: Path, split: Split = "network") -> dict[str, str]:
    """Figures of a checkpoint on the networks that it was not trained on.

    Args:
        checkpoint: The checkpoint.
        zoo: The zoo.
        split: What training and test networks do not share; where these are tasks, samples are for tasks held out.

    Raises:
        ValueError: The zoo has tasks with classes, whose R2 would compare logits with them.
    """
    data = NetworkZoo(str(zoo), split, batch_size=256)
    if count := int((data.zoo.tasks.classes > 0).sum()):
        raise ValueError(f"{zoo} must have targets that are numbers, got classes in {count} of its tasks")
    task = NetworkVAE.load_from_checkpoint(checkpoint, map_location="cpu").eval()
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    found = trainer.test(task, data, verbose=False)[0]
    figures = {words: _shown(found[f"test/{name}"]) for name, words in TOLD.items() if f"test/{name}" in found}
    batch = next(iter(data.test_dataloader()))
    figures["architecture exact, 10 encodings, 10 decodings"] = _shown(_repeated(task, batch))
    figures |= _controls(task, data, batch)
    training = _training(task, data)
    for prior in PRIORS:
        figures |= _samples(task, data, training, prior)
    return figures | _probes(task, data)


@torch.no_grad()
def _repeated(task: NetworkVAE, batch: NetworkBatch) -> float:
    tokens, told = task.formed(batch.tokens), task.told(batch)
    posterior = task.network.encode(tokens)
    torch.manual_seed(0)
    return repeated_exactness(lambda: decoded(task.network, posterior.drawn(), told), tokens, times=10)


@torch.no_grad()
def _controls(task: NetworkVAE, data: NetworkZoo, batch: NetworkBatch) -> dict[str, str]:
    """Functional R2, median, of networks that are no reconstruction: what of it says that a latent is read."""
    told = task.told(batch)
    latent = task.network.encode(task.formed(batch.tokens)).mean
    others = {"decoded from the latent of another network": decoded(task.network, latent.roll(1, 0), told)}
    train = data.part("train")
    if np.isin(batch.task, data.models["task"][train]).all():
        source = np.random.default_rng(0)
        same = [source.choice(train[data.models["task"][train] == number]) for number in batch.task.tolist()]
        others["a training network of the same task"] = NeuronTokens.of(data.population.take(np.array(same)))
    probe_rows = with_columns(batch.probe, task.network.sizes.inputs)
    true = execute(batch.tokens, probe_rows).outputs
    return {
        f"functional R2 of {name}, median": _shown(
            float(functional_r2(execute(tokens, probe_rows).outputs, true).median())
        )
        for name, tokens in others.items()
    }


def _training(task: NetworkVAE, data: NetworkZoo) -> tuple[NeuronTokens, Tensor]:
    """Some of the training networks in canonical form, and their tasks."""
    chosen = np.random.default_rng(0).permutation(data.part("train"))[:TRAINING]
    tokens = canonical(NeuronTokens.of(data.population.take(chosen)))
    return tokens, torch.from_numpy(data.models["task"][chosen]).long()


def _samples(task: NetworkVAE, data: NetworkZoo, training: tuple[NeuronTokens, Tensor], prior: Prior) -> dict[str, str]:
    """Validity, diversity, quality and novelty of samples of a prior for the tasks of the zoo."""
    known = torch.from_numpy(np.unique(data.models["task"][data.part("test")])).long()
    tasks = known[torch.arange(SAMPLES) % len(known)]
    meta = torch.from_numpy(data.tasks["meta"])[tasks]
    x, y = (torch.from_numpy(data.tasks[name])[tasks, :128] for name in ("x", "y"))
    torch.manual_seed(0)
    with torch.no_grad():
        told = task.told(NetworkBatch(training[0], x, meta, x, y, tasks, tasks))
        latent = task.prior.sample(told, prior)
        free = validity(decoded(task.network, latent, told, valid_only=False))
    tokens = canonical(task.decode(latent, meta, x, y))
    rows = with_columns(torch.randn(ROWS, data.inputs, generator=torch.Generator().manual_seed(0)), data.inputs)
    scores = sample_scores(tokens, training[0], rows)
    gate = novelty_gate(tokens, training[0], rows, partial(_held_out_r2, data), (tasks, training[1]))
    figures = {
        "valid, constrained": scores["validity"],
        "valid, free": float(free.float().mean()),
        "distinct architectures": scores["uniqueness"],
        "diversity over that of the zoo": scores["diversity"],
        "novelty of weights": gate.samples.weight,
        "novelty of functions": gate.samples.function,
    }
    if not task.network.told:
        return {f"{prior}: {name}": _shown(value) for name, value in figures.items()}
    figures |= {
        "task R2, median": gate.samples.quality,
        "task R2 of training networks, median": gate.training.quality,
        "task R2 of ridge regression, median": float(np.median([_ridge(data, number) for number in known.tolist()])),
    }
    shown = {f"{prior}: {name}": _shown(value) for name, value in figures.items()}
    return shown | {f"{prior}: novelty gate": _told(gate)}


def _ridge(data: NetworkZoo, number: int) -> float:
    """R2 of ridge regression on the test rows of a task."""
    x, y, part = (data.tasks[name][number] for name in ("x", "y", "part"))
    x, y = x[:, ~np.isnan(x).all(0)], y[:, 0]
    return float(RidgeCV(PENALTIES).fit(x[part == TRAIN], y[part == TRAIN]).score(x[part == TEST], y[part == TEST]))


def _held_out_r2(data: NetworkZoo, tokens: NeuronTokens, tasks: Tensor) -> Tensor:
    """R2 of networks on the test rows of tasks."""
    found = []
    for part in torch.arange(len(tasks)).split(500):
        own = tasks[part].numpy()
        y = np.where((data.tasks["part"] == 2)[own][..., None], data.tasks["y"][own], np.nan)
        x = torch.from_numpy(data.tasks["x"][own])
        found.append(task_r2(taken(tokens, part), x, torch.from_numpy(y)))
    return torch.cat(found) if found else torch.zeros(0)


def _told(gate: NoveltyGate) -> str:
    """The gate in words, with the baselines."""
    if gate.passed:
        return "passed"
    fails = [
        ("too near", gate.samples.weight < 1),
        ("below noise", not gate.above_noise),
        ("below averages", not gate.above_average),
    ]
    return "; ".join(name for name, failed in fails if failed) or "too bad"


def _probes(task: NetworkVAE, data: NetworkZoo) -> dict[str, str]:
    """Probes of the test networks' latents, beside statistics of weights and the task."""
    numbers = data.part("test")
    tokens = NeuronTokens.of(data.population.take(numbers))
    models = data.models
    properties = {
        "test R2": models["test_r2"][numbers].astype(float),
        "depth": tokens.level.amax(1).numpy(),
        "task": models["task"][numbers],
        "log learning rate": np.log(models["lr"][numbers]).astype(float),
    }
    scores = probe(task.embed(tokens), tokens, models["task"][numbers], properties, groups=models["run"][numbers])
    return dict(_lines(scores))


def _lines(scores: list) -> Iterator[tuple[str, str]]:
    for each in scores:
        others = f"statistics {each.statistics:.2f}, with the task {each.statistics_and_task:.2f}"
        yield f"probe of {each.name}, {each.score}", f"{each.embedding:.3f} ({others})"


def _shown(value: float) -> str:
    return f"{float(value):.4g}"

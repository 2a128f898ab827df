"""Trainings of the autoencoder of networks with other losses, and with each mechanism."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from lightning.pytorch import Trainer

from benchmarks.reports import QUIET
from tabattn.attention import MECHANISMS
from tabattn.contract.networks import NetworkBatch
from tabattn.tasks import NetworkVAE
from tabattn.training.cli import CLI
from tabattn.zoo import PredictOptions
from tabattn.zoo.canonical import canonical
from tabattn.zoo.priors import Prior
from tabattn.zoo.scores import architectures

CONFIG = Path(__file__).parents[1] / "configs" / "zoo.yaml"
LOSSES: dict[str, list[str]] = {
    "all parts": [],
    "without behaviour": ["--model.loss.behaviour=0", "--model.loss.structure=1"],
    "without behaviour, by neuron sensitivity": [
        "--model.loss.behaviour=0",
        "--model.loss.structure=1",
        "--model.loss.weighting=neuron",
    ],
    "without behaviour, by neuron sensitivity and activation": [
        "--model.loss.behaviour=0",
        "--model.loss.structure=1",
        "--model.loss.weighting=neuron_x_act",
    ],
    "without behaviour, Gauss-Newton": [
        "--model.loss.behaviour=0",
        "--model.loss.structure=1",
        "--model.loss.weighting=gauss_newton",
    ],
    "without errors of weights": ["--model.loss.structure=0"],
    "without graphs from the prior": ["--model.loss.valid=0"],
    "architecture from its own part of the latent": ["--model.network.latent=[16,48]"],
    "that, fewer graphs from the prior": ["--model.network.latent=[16,48]", "--model.loss.valid=0.3"],
    "networks as they are": ["--model.form=given"],
    "networks permuted": ["--model.form=permuted"],
    "without the targets of tasks": ["--model.loss.targets=0"],
    "without probe features": ["--model.network.probes=0"],
    "task not told": ["--model.network.meta=none"],
    "task not told, without probe features": ["--model.network.meta=none", "--model.network.probes=0"],
    "meta-features as a token": ["--model.network.meta=token"],
    "meta-features concatenated": ["--model.network.meta=concat"],
}
"""Arguments of each variant."""
SCORES = (
    "functional_r2",
    "architecture_exact",
    "free_valid",
    "weight_r2",
    "task_r2",
    "sampled_r2",
    "normal_r2",
    "normal_distinct",
)
"""Scores of the test, and of networks sampled for its tasks: median R2 by flow (``sampled``) and from N(0, I)
(``normal``), and the share of distinct architectures among 500 of the latter."""
SAMPLES = 500


def trained(words: Sequence[str]) -> dict[str, float]:
    """Train by the configuration and further arguments, and test the last weights."""
    cli = CLI([f"--config={CONFIG}", *QUIET, "--checkpoint.monitor=null", *words], run=False)
    trainer: Trainer = cli.trainer
    trainer.limit_val_batches = 0
    trainer.fit(cli.model, cli.datamodule)
    found = trainer.test(cli.model, cli.datamodule, verbose=False)[0]
    scores = {name.removeprefix("test/"): float(value) for name, value in found.items()}
    task: NetworkVAE = cli.model.eval()
    scores["sampled_r2"], _ = sampled(task, cli.datamodule.test_dataloader(), "flow")
    scores["normal_r2"], scores["normal_distinct"] = sampled(task, cli.datamodule.test_dataloader(), "normal")
    return scores


@torch.no_grad()
def sampled(task: NetworkVAE, batches: Iterable[NetworkBatch], prior: Prior) -> tuple[float, float]:
    """Median R2 of networks that are sampled for tasks, and the share of distinct architectures."""
    task.asked = PredictOptions(prior)
    found = [task.predict_step(batch, index) for index, batch in enumerate(batches)]
    kinds = [kind for batch in found for kind in architectures(canonical(batch.networks))][:SAMPLES]
    return float(torch.cat([batch.sampled for batch in found]).median()), len(set(kinds)) / len(kinds)


def compared(
    variants: dict[str, list[str]], seeds: Sequence[int], further: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table: the scores of each variant, one for each seed; told on the way."""
    rows = []
    for name, words in variants.items():
        runs = [trained([f"--seed_everything={seed}", *further, *words]) for seed in seeds]
        # Each seed by itself: two say little by their mean.
        rows.append([name, *(", ".join(f"{run[score]:.3f}" for run in runs) for score in SCORES)])
        sys.stderr.write(f"{' | '.join(rows[-1])}\n")
    return ["", *SCORES], rows


def ablation(names: Sequence[str], seeds: Sequence[int], further: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Each part of the loss left out or replaced, of the variants that are named."""
    return compared({name: LOSSES[name] for name in names}, seeds, further)


def sweep(seeds: Sequence[int], further: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Each mechanism between neurons, and the baselines without attention."""
    variants = {name: [f"--model.attention={name}"] for name in MECHANISMS}
    variants |= {
        name: [f"--model.network={name}", "--model.network.meta=concat"] for name in ("ConvMatrix", "MLPMatrix")
    }
    return compared(variants, seeds, further)

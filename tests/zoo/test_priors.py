"""Latents that priors keep."""

import copy
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging

from tabattn.tasks import NetworkVAE
from tabattn.zoo.priors import LatentPrior
from tests.zoo.networks import batch
from tests.zoo.test_task import QUIET, loaded, task


def fitted(callbacks: list[Any]) -> tuple[NetworkVAE, lightning.Trainer]:
    lightning.seed_everything(0)
    made, trainer = task(), lightning.Trainer(max_steps=6, callbacks=callbacks, **QUIET)
    trainer.fit(made, loaded(*(batch(8, seed) for seed in range(3))), loaded(batch(6, 9)))
    return made, trainer


def test_moving_averages_of_weights_have_the_latents_as_they_are(tmp_path: Path) -> None:
    """Averages over time were of latents of different networks, and their spread was too small."""
    plain, _ = fitted([])
    made, trainer = fitted([EMAWeightAveraging(decay=0.9)])
    assert made.prior.kept().shape == (48, made.network.latent)
    torch.testing.assert_close(made.prior.kept(), plain.prior.kept())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded_task = NetworkVAE.load_from_checkpoint(tmp_path / "a.ckpt")
    assert torch.equal(loaded_task.prior.kept(), made.prior.kept())


def test_the_latest_latents_are_kept_in_their_order() -> None:
    prior = LatentPrior(2, 0, hidden=8, kept=5)
    latents = torch.arange(16.0).view(8, 2)
    for part in latents.split(3):
        prior.loss(part, torch.zeros(len(part), 0))
    assert torch.equal(prior.kept(), latents[3:])
    prior.eval().loss(latents, torch.zeros(8, 0))
    assert torch.equal(prior.kept(), latents[3:])
    torch.testing.assert_close(prior._scale(), latents[3:].square().mean().sqrt())
    assert copy.deepcopy(prior).memory is prior.memory


def test_states_of_earlier_versions_have_a_buffer() -> None:
    prior, state = LatentPrior(2, 0, hidden=8), LatentPrior(2, 0, hidden=8).state_dict()
    del state["_extra_state"]
    prior.load_state_dict({**state, "latents": torch.ones(9, 2), "count": torch.tensor(4)})
    assert torch.equal(prior.kept(), torch.ones(4, 2))
    with pytest.raises(ValueError, match=r"latents kept must have the shape \(number, 2\), got \(4, 3\)"):
        prior.load_state_dict({**state, "_extra_state": torch.ones(4, 3)})

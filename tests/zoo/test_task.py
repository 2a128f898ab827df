"""Task of networks: loss, scores, sampling, runs from Python."""

import csv
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from tabattn.contract.networks import NetworkBatch, NeuronTokens
from tabattn.tasks import NetworkVAE
from tabattn.training.predictions import Predictions
from tabattn.zoo import (
    LossOptions,
    MLPMatrix,
    NeuronTransformer,
    PredictOptions,
    Sizes,
    execute,
    from_module,
    to_module,
)
from tabattn.zoo.coder import Posterior
from tabattn.zoo.loss import (
    architecture_losses,
    behaviour_losses,
    divergences,
    free_divergences,
    relative_errors,
    structure_losses,
    target_losses,
    validity_losses,
)
from tabattn.zoo.sampling import as_tokens, decoded
from tabattn.zoo.scores import validity
from tabattn.zoo.task_scores import task_accuracy, task_r2
from tabattn.zoo.tokens import detokenize
from tests.zoo.networks import batch, sure

SMALL: dict[str, Any] = {"dim": 16, "heads": 2, "hidden": 16, "layers": 1, "slots": 3, "weight_layers": 1, "latent": 8}
SIZES = Sizes(14, 4, 5, 4, 6)
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
}


def task(**options: Any) -> NetworkVAE:
    """Make a small task."""
    torch.manual_seed(0)
    made = NetworkVAE(**{"network": partial(NeuronTransformer, **SMALL), "sizes": SIZES, **options})
    return made.use_optimizer(partial(torch.optim.AdamW, lr=1e-3), None)


def loaded(*batches: NetworkBatch) -> Any:
    """Make a loader of batches."""
    return torch.utils.data.DataLoader(list(batches), batch_size=None)


def trained(steps: int = 6, **options: Any) -> tuple[NetworkVAE, lightning.Trainer]:
    """Train a small task."""
    made, trainer = task(**options), lightning.Trainer(max_steps=steps, **QUIET)
    trainer.fit(made, loaded(*(batch(8, seed) for seed in range(3))), loaded(batch(6, 9)))
    return made, trainer


@pytest.mark.parametrize("form", ["canonical", "permuted", "given"])
def test_a_training_logs_its_parts_and_scores(form: Any) -> None:
    made, trainer = trained(form=form)
    logged = trainer.callback_metrics
    parts = {"loss", "architecture", "structure", "behaviour", "divergence", "prior"}
    assert parts <= {name.removeprefix("train/") for name in logged}
    assert {"val/functional_r2", "val/architecture_exact", "val/free_valid", "val/active_units"} <= set(logged)
    assert all(value.isfinite() for value in logged.values())
    assert (made.network.statistics[1, 1:3] != 1).all()
    assert made.prior.kept().shape == (48, made.network.latent)


@pytest.mark.slow
def test_a_training_fits_a_few_networks() -> None:
    made = task(loss=LossOptions(beta=0)).use_optimizer(partial(torch.optim.AdamW, lr=1e-2), None)
    few = batch(3)
    trainer = lightning.Trainer(max_steps=120, **QUIET)
    trainer.fit(made, loaded(few), loaded(few))
    trainer.validate(made, loaded(few), verbose=False)
    assert trainer.callback_metrics["val/architecture_exact"] == 1
    assert trainer.callback_metrics["val/functional_r2"] > 0.5


def test_networks_that_are_not_scored_have_no_scores() -> None:
    made = task()
    trainer = lightning.Trainer(**QUIET)
    trainer.validate(made, loaded(batch(6)), verbose=False)
    alone = dict(trainer.callback_metrics)
    trainer.validate(made, loaded(batch(6), batch(6, 1).unscored()), verbose=False)
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert found == pytest.approx({name: float(value) for name, value in alone.items()}, nan_ok=True)
    trainer.validate(made, loaded(batch(6).unscored()), verbose=False)


def test_a_checkpoint_samples_as_the_task_did(tmp_path: Path) -> None:
    made, trainer = trained()
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = NetworkVAE.load_from_checkpoint(tmp_path / "a.ckpt")
    meta = batch().meta[0]
    for prior in ("normal", "scaled", "gauss", "kde", "flow"):
        own, other = (each.draw(5, meta, prior=prior, seed=3) for each in (made, again))
        assert torch.equal(own, other)
    assert torch.equal(made.decode(own, meta).weight, again.decode(own, meta).weight)


def test_samples_are_modules_that_compute_what_was_decoded() -> None:
    made, _ = trained()
    meta = batch().meta[0]
    modules = made.sample(7, meta, seed=1)
    tokens = made.decode(made.draw(7, meta, seed=1), meta)
    assert len(modules) == 7
    for index, module in enumerate(modules):
        own = NeuronTokens(*(part[index : index + 1] for part in tokens))
        inputs = int((own.mask & (own.level == 0)).sum())
        x = torch.randn(5, inputs)
        padded = torch.nn.functional.pad(x, (0, 4 - inputs))
        assert torch.allclose(module(x), execute(own, padded[None]).outputs[0], atol=1e-5)


def test_samples_may_have_a_given_architecture() -> None:
    made, _ = trained()
    arch = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))
    modules = made.sample(3, batch().meta[0], arch=arch, prior="normal", seed=0)
    assert [str(module) for module in modules] == [str(arch)] * 3
    assert not torch.equal(modules[0][0].weight, modules[1][0].weight)  # type: ignore[index]


def test_embeddings_are_the_same_for_every_form_of_networks() -> None:
    made, _ = trained()
    tokens = batch().tokens
    dags = detokenize(tokens)
    whole = made.embed(tokens)
    assert whole.shape == (6, 8)
    assert torch.allclose(made.embed(dags), whole, atol=1e-5)
    assert torch.allclose(made.embed([to_module(dag) for dag in dags]), whole, atol=1e-5)
    with pytest.raises(ValueError, match=r"sizes.inputs must be at least 5"):
        made.embed([from_module(nn.Linear(5, 1))])


def test_decoded_weights_have_gradients_to_latents_that_require_them() -> None:
    made = task()
    latent = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    assert not made.decode(latent).weight.requires_grad
    found = made.decode(latent.requires_grad_(), arch=nn.Linear(4, 1))
    found.weight.sum().backward()
    assert latent.grad is not None
    assert (latent.grad != 0).any(1).all()


def test_latents_depend_on_what_is_told_of_the_task() -> None:
    made, _ = trained()
    meta = batch().meta
    assert not torch.allclose(made.draw(4, meta[0], seed=0), made.draw(4, meta[1], seed=0))
    latent = made.draw(4, meta[0], prior="normal", seed=0)
    assert not torch.allclose(
        made.decode(latent, meta[0], arch=nn.Linear(4, 1)).weight,
        made.decode(latent, meta[1], arch=nn.Linear(4, 1)).weight,
    )
    rows = NetworkVAE(partial(NeuronTransformer, meta="rows", **SMALL), sizes=SIZES)
    one, other = batch(2).x[0], batch(2).x[1]
    y = one[:, 0]
    found = [rows.decode(latent, x=x, y=y, arch=nn.Linear(4, 1)).weight for x in (one, other, one)]
    assert torch.equal(found[0], found[2])
    assert not torch.allclose(found[0], found[1])
    with pytest.raises(ValueError, match="x and y must have the same rows"):
        rows.decode(latent, x=one, y=y[:3])


def test_priors_have_the_moments_of_the_latents() -> None:
    made = task()
    source = torch.Generator().manual_seed(0)
    mix = torch.randn(8, 8, generator=source)
    latents = torch.randn(4096, 8, generator=source) @ mix + 3
    with pytest.raises(ValueError, match="latents of training networks, and there are none"):
        made.draw(2, prior="kde")
    made.prior.keep(latents)
    for prior, near in (("scaled", False), ("gauss", True), ("kde", True)):
        drawn = made.draw(4000, prior=prior, seed=0)
        assert torch.allclose(drawn.mean(0), latents.mean(0), atol=0.3)
        assert torch.allclose(drawn.std(0), latents.std(0), rtol=0.1)
        assert torch.allclose(drawn.T.cov(), latents.T.cov(), atol=1.5) == near
    still = made.draw(3, prior="gauss", temperature=0, seed=0)
    assert torch.allclose(still, latents.mean(0).expand(3, -1), atol=1e-5)
    with pytest.raises(ValueError, match="prior must be normal, scaled, gauss, kde, flow, got 'wrong'"):
        made.draw(2, prior="wrong")  # type: ignore[arg-type]


def test_the_flow_learns_a_distribution() -> None:
    """Two clusters, chosen by what is told."""
    from tabattn.zoo.priors import LatentPrior

    torch.manual_seed(0)
    prior = LatentPrior(2, 1, hidden=32)
    optimizer = torch.optim.AdamW(prior.parameters(), lr=1e-2)
    for _ in range(120):
        told = torch.randint(2, (128, 1)).float()
        loss = prior.loss(torch.cat([4 * told - 2, 4 * told], 1) + 0.2 * torch.randn(128, 2), told)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for side in (0.0, 1.0):
        drawn = prior.sample(torch.full((500, 1), side))
        assert torch.allclose(drawn.mean(0), torch.tensor([4 * side - 2, 4 * side]), atol=0.3)
        assert drawn.std(0).max() < 0.6


def test_prediction_writes_networks_and_their_scores(tmp_path: Path) -> None:
    made, _ = trained(predict=PredictOptions(prior="gauss"))
    given = batch(4)
    trainer = lightning.Trainer(**{**QUIET, "default_root_dir": tmp_path}, callbacks=[Predictions()])
    (output,) = trainer.predict(made, loaded(given)) or []
    assert isinstance(output, tuple)
    folder = tmp_path / "predictions"
    with (folder / "batch00000.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["network"] for line in lines] == ["0", "1", "2", "3"]
    arrays = np.load(folder / "batch00000.npz")
    names = NeuronTokens._fields
    tokens = NeuronTokens(*(torch.from_numpy(arrays[f"networks.{name}"]) for name in names))
    assert validity(tokens).all()
    r2 = task_r2(tokens, given.x[:, 8:], given.y[:, 8:])
    assert [float(line["r2"]) for line in lines] == pytest.approx(r2.tolist(), abs=1e-4)


def test_networks_of_classes_are_scored_by_their_accuracy(tmp_path: Path) -> None:
    """In validation and in predictions; their targets are compared as probabilities."""
    given = batch(4)
    codes = (given.x[..., :1] > 0).float()
    known = given.y.isnan().logical_not()
    given = given._replace(y=torch.where(known, codes, torch.nan), classes=torch.full((4,), 2))
    made = task(predict=PredictOptions(prior="normal"))
    trainer = lightning.Trainer(**{**QUIET, "default_root_dir": tmp_path}, callbacks=[Predictions()])
    found = trainer.validate(made, loaded(given), verbose=False)[0]
    assert 0 <= found["val/task_accuracy"] <= 1
    assert not {"val/task_r2", "val/task_r2_original", "val/delta_task"} & set(found)
    trainer.predict(made, loaded(given))
    with (tmp_path / "predictions/batch00000.csv").open() as file:
        lines = list(csv.DictReader(file))
    x, y = made.held_out(given)
    expected = task_accuracy(given.tokens, x, y)
    assert [float(line["accuracy_original"]) for line in lines] == pytest.approx(expected.tolist(), abs=1e-4)
    assert {line["r2"] for line in lines} == {""}
    network, told = made.network, made.told(given)
    losses = []
    for classes in (given.classes, None):
        torch.manual_seed(0)
        losses.append(target_losses(network, given.tokens, told, given.x, given.y, 1.0, classes))
    torch.manual_seed(0)
    latent = torch.randn(4, network.latent)
    outputs = execute(network.with_weights(given.tokens, *network.weights(latent, told, given.tokens)), given.x).outputs
    means = torch.where(known, given.y, 0.0).sum(1, keepdim=True) / known.sum(1, keepdim=True)
    true, chances = torch.where(known, given.y, means), torch.where(known, outputs.sigmoid(), means)
    torch.testing.assert_close(losses[0], behaviour_losses(true, chances, 1.0))
    assert not torch.allclose(*losses)


def test_each_choice_of_an_architecture_is_learned() -> None:
    """Whatever is wrong in the logits of a vertex, of an input too, raises the loss; what is right costs nothing."""
    tokens = batch(3).tokens
    logits = sure(tokens, levels=4)
    assert (architecture_losses(logits, tokens) < 1e-3).all()
    for name, vertex in (("presence", 0), ("presence", 13), ("level", 0), ("flags", 0), ("flags", 5), ("type", 5)):
        part = getattr(logits, name).clone()
        part[:, vertex] *= -1
        assert (architecture_losses(logits._replace(**{name: part}), tokens) > 0.5).all()
    pair = logits.pair.clone()
    pair[:, 5, 0] *= -1
    assert (architecture_losses(logits._replace(pair=pair), tokens) > 0.1).all()
    absent = ~(tokens.mask[:, :, None] & tokens.mask[:, None])
    beyond = logits._replace(pair=logits.pair.masked_fill(absent, 20.0))
    assert torch.equal(architecture_losses(beyond, tokens), architecture_losses(logits, tokens))


def test_graphs_from_the_prior_are_learned_to_be_valid() -> None:
    """Training on nothing but the nearest valid graphs makes free decoding valid."""
    made = task()
    told = made.told(batch(16))
    optimizer = torch.optim.AdamW(made.network.parameters(), lr=1e-2)

    def valid() -> float:
        latent = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
        return float(validity(decoded(made.network, latent, told.detach(), valid_only=False)).float().mean())

    assert valid() < 0.3
    for _ in range(40):
        optimizer.zero_grad()
        validity_losses(made.network, told.detach()).mean().backward()
        optimizer.step()
    assert valid() > 0.8


def test_weights_from_the_prior_learn_the_task() -> None:
    """Training on nothing but the targets makes networks decoded from N(0, I) good on their tasks."""
    made, given = task(), batch(16)
    tokens, x, y = made.formed(given.tokens), given.x[:, :8], given.y[:, :8]
    optimizer = torch.optim.AdamW(made.network.parameters(), lr=1e-2)

    def quality() -> float:
        latent = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
        return float(task_r2(decoded(made.network, latent, made.told(given), arch=tokens), x, y).median())

    assert quality() < 0.1
    for _ in range(60):
        optimizer.zero_grad()
        target_losses(made.network, tokens, made.told(given), x, y, 1.0).mean().backward()
        optimizer.step()
    assert quality() > 0.6


def test_the_loss_of_targets_is_that_of_the_rows_that_have_one() -> None:
    made, given = task().eval(), batch(5)
    tokens, told = made.formed(given.tokens), made.told(given)
    torch.manual_seed(3)
    found = target_losses(made.network, tokens, told, given.x, given.y, 0.5)
    torch.manual_seed(3)
    weights = made.network.weights(torch.randn(5, 8), told, tokens)
    outputs = execute(made.network.with_weights(tokens, *weights), given.x[:, :-1]).outputs
    assert torch.allclose(found, behaviour_losses(given.y[:, :-1], outputs, 0.5), rtol=1e-4)
    # In a zoo whose other tasks have more outputs, some are not there.
    wide = torch.cat([given.y, torch.full((*given.y.shape[:2], 2), torch.nan)], dim=-1)
    torch.manual_seed(3)
    assert torch.allclose(target_losses(made.network, tokens, told, given.x, wide, 0.5), found)
    two = NeuronTokens(*(part[:2] for part in tokens))._replace(flags=tokens.flags[:2] | 4 * (tokens.level[:2] > 0))
    target_losses(made.network, two, told[:2], given.x[:2], wide[:2], 0.5)


def test_a_part_of_the_loss_is_computed_where_it_has_a_weight() -> None:
    for name in ("targets", "valid"):
        for weight in (0.0, 2.0):
            made = task(loss=LossOptions(**{name: weight}))  # type: ignore[arg-type]
            torch.manual_seed(0)
            loss, parts = made.batch_loss(batch(4), 0.0)
            assert (name in parts) == (weight > 0)
            rest = parts | {"divergence": torch.zeros(())}
            options = made.loss
            assert loss.item() == pytest.approx(
                sum(getattr(options, each, 0) * part.item() for each, part in rest.items()), rel=1e-4
            )


def test_targets_are_not_learned_where_no_task_is_told() -> None:
    made = NetworkVAE(
        partial(NeuronTransformer, **SMALL, meta="none"), sizes=SIZES, loss=LossOptions(targets=1.0, valid=0)
    )
    assert "targets" not in made.batch_loss(batch(4), 0.0)[1]


def test_the_leading_part_of_the_latent_has_its_own_divergence() -> None:
    losses = {}
    for beta, leading in ((0.0, 0.0), (0.3, 0.0), (0.0, 0.3)):
        options = LossOptions(beta=beta, leading_beta=leading, free_bits=0, valid=0)
        made = task(network=partial(NeuronTransformer, **SMALL | {"latent": (3, 5)}), loss=options)
        torch.manual_seed(0)
        losses[beta, leading] = made.batch_loss(batch(4), 0.5)[0].item()
    divergence = divergences(made.network.encode(made.formed(batch(4).tokens))).mean(0).detach()
    for beta, leading, own in ((0.3, 0.0, divergence[3:]), (0.0, 0.3, divergence[:3])):
        assert losses[beta, leading] - losses[0, 0] == pytest.approx(0.15 * float(own.sum()), rel=1e-3)


def test_losses_have_their_values() -> None:
    true = torch.randn(3, 50, 1, generator=torch.Generator().manual_seed(0))
    found = true + torch.tensor([0.0, 0.1, 1.0])[:, None, None]
    errors = relative_errors(true, found)
    assert torch.allclose(errors, torch.tensor([0, 0.01, 1.0]) / true.var(1, correction=0).squeeze(), atol=1e-5)
    assert torch.allclose(behaviour_losses(true, found, 0.1), 0.1 * (1 + 10 * errors).log())
    posterior = Posterior(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
    wide = torch.distributions.Normal(posterior.mean, (posterior.log_variance / 2).exp())
    truth = torch.distributions.kl_divergence(wide, torch.distributions.Normal(0.0, 1.0))
    assert torch.allclose(divergences(posterior), truth)
    found = free_divergences(Posterior(torch.zeros(4, 3), torch.zeros(4, 3)), 0.05, 2)
    assert found.tolist() == pytest.approx([0.1, 0.05])
    # Of a dimension the mean over the batch counts, not each network: here 0 and 1 nats.
    uneven = Posterior(torch.tensor([[0.0], [2.0**0.5]]), torch.zeros(2, 1))
    assert free_divergences(uneven, 0.4, 0).tolist() == pytest.approx([0, 0.5])
    weights = torch.tensor([[[0.0, 1.0], [3.0, 0.0]]]), torch.tensor([[0.0, 0.0]])
    zero = torch.zeros(1, 2, 2), torch.zeros(1, 2)
    wrong = torch.tensor([[[5.0, 1.0], [2.0, 5.0]]]), torch.tensor([[7.0, 7.0]])
    assert structure_losses(zero, wrong, weights) == pytest.approx((1 * 1 + 3 * 4) / 4)


def test_the_prior_gives_no_gradient_to_what_it_learns_from() -> None:
    from tabattn.zoo.priors import LatentPrior

    prior = LatentPrior(2, 3, hidden=8)
    latent, told = torch.randn(5, 2, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    prior.loss(latent, told).backward()
    assert latent.grad is None
    assert told.grad is None
    assert all(parameter.grad is not None for parameter in prior.parameters())
    assert len(prior.kept()) == 5
    prior.eval().loss(latent, told)
    assert len(prior.kept()) == 5


def test_the_oldest_latents_are_replaced() -> None:
    from tabattn.zoo.priors import LatentPrior

    prior = LatentPrior(1, 0, hidden=8, kept=4)
    for values in ([1.0, 2, 3], [4, 5], [6, 7, 8, 9, 10, 11]):
        prior.keep(torch.tensor(values)[:, None])
    assert sorted(prior.kept()[:, 0].tolist()) == [8, 9, 10, 11]
    prior.keep(torch.tensor([[12.0]]))
    assert sorted(prior.kept()[:, 0].tolist()) == [9, 10, 11, 12]


@pytest.mark.parametrize("meta", ["token", "rows"])
def test_nothing_is_told_of_rows_held_out(meta: Any) -> None:
    made = NetworkVAE(partial(NeuronTransformer, **SMALL, meta=meta), sizes=SIZES).eval()
    given = batch(3)
    other = given._replace(x=given.x.clone(), y=given.y.clone())
    other.x[:, 8:] += 1
    other.y[:, 8:] -= 3
    assert torch.equal(made.told(other), made.told(given))
    other.y[:, :8] -= 3
    assert torch.equal(made.told(other), made.told(given)) == (meta == "token")


def test_weights_are_measured_once_before_the_first_step() -> None:
    made, _ = trained(steps=3)
    torch.manual_seed(0)
    first = task()
    first.network.begin(first.formed(batch(8, 0).tokens))
    assert torch.equal(made.network.statistics, first.network.statistics)


def test_the_divergence_warms_up() -> None:
    options = LossOptions(warmup=0.5)
    assert [options.warmed(step, 100) for step in (0, 25, 50, 99)] == pytest.approx([0, 0.5, 1, 1])
    assert LossOptions(warmup=0).warmed(1, 10) == 1
    for name, value in (("beta", -1), ("warmup", 2), ("tolerance", 0)):
        with pytest.raises(ValueError, match=f"loss.{name} must be"):
            LossOptions(**{name: value})  # type: ignore[arg-type]


def test_room_beyond_that_of_the_network_is_cut() -> None:
    made = task().eval()
    wide, narrow = (made.embed(batch(room=room).tokens) for room in (20, 14))
    assert torch.equal(wide, narrow)


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
def test_networks_larger_than_the_room_are_refused_in_any_batch(stage: str) -> None:
    """Not cut: the vertices behind the room would be their outputs."""
    wide = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 1))
    large = batch(4)._replace(tokens=as_tokens([wide] * 4))
    made = task()
    made.prior.keep(torch.randn(4, 8))
    loaders = [loaded(batch(4), large)] * (2 if stage == "fit" else 1)
    message = r"^model\.sizes\.vertices must be at least 17 for these networks, got 14"
    with pytest.raises(MisconfigurationException, match=message):
        getattr(lightning.Trainer(max_steps=4, **QUIET), stage)(made, *loaders)


def test_tasks_larger_than_the_room_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sizes.meta must be at least 7 for these tasks, got 6"):
        task().decode(torch.zeros(1, 8), meta=torch.zeros(7))
    rows = NetworkVAE(partial(NeuronTransformer, meta="rows", **SMALL), sizes=SIZES)
    with pytest.raises(ValueError, match=r"sizes.inputs must be at least 5 for these tasks, got 4"):
        rows.decode(torch.zeros(1, 8), x=torch.zeros(3, 5), y=torch.zeros(3))


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(ValueError, match="form must be canonical, permuted, given, got 'sorted'"):
        task(form="sorted")
    with pytest.raises(MisconfigurationException, match=r"^model.sizes.vertices must be at least"):
        lightning.Trainer(max_steps=1, **QUIET).fit(
            NetworkVAE(partial(MLPMatrix, hidden=8), sizes=Sizes(5, 4, 5, 4)), loaded(batch(3)), loaded(batch(3))
        )
    with pytest.raises(MisconfigurationException, match="would round the weights of networks: choose bf16-mixed"):
        lightning.Trainer(max_steps=1, precision="bf16-true", **QUIET).fit(task(), loaded(batch(3)), loaded(batch(3)))
    with pytest.raises(MisconfigurationException, match="networks are in single precision: choose 32-true"):
        lightning.Trainer(max_steps=1, precision="64-true", **QUIET).fit(task(), loaded(batch(3)), loaded(batch(3)))
    small = NetworkVAE(partial(NeuronTransformer, **SMALL), sizes=Sizes(14, 4, 5, 4, 3))
    with pytest.raises(MisconfigurationException, match=r"^model.sizes.meta must be at least 5 for these tasks, got 3"):
        lightning.Trainer(max_steps=1, **QUIET).fit(small, loaded(batch(3)), loaded(batch(3)))
    with pytest.raises(ValueError, match=r"predict.prior must be normal, .*, got 'x'"):
        PredictOptions(prior="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"predict.temperature must be at least 0 and finite, got -1"):
        PredictOptions(temperature=-1)
    assert PredictOptions(temperature=0).temperature == 0

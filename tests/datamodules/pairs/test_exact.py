"""Exact density of laid out tasks: that of the oracle where the context is the same, of regression where it is not."""

from pathlib import Path

import h5py
import pytest
import torch

from datamodules import SyntheticPairs
from datamodules.pairs.cache import _read
from datamodules.pairs.gaussian import predict
from datamodules.pairs.kinds import make_process
from tabattn.contract.views import ExactDensity
from tabattn.pairs import InferenceOptions, lay_out
from tests.helpers import build

SIZES = {"points": (12, 12), "context": 5, "batch_size": 4, "evaluation__val_batches": 1, "evaluation__test_batches": 2}


def made(**changes: object) -> SyntheticPairs:
    return build(SyntheticPairs, **{"kind": "icm", **SIZES, **changes})


def log_density(found: ExactDensity, y: torch.Tensor) -> torch.Tensor:
    each = torch.distributions.Normal(found.means, found.stds).log_prob(y.double()[..., None])
    return (found.weights.log()[:, None] + each).logsumexp(-1)


@pytest.mark.parametrize("oracle", ["known", "marginal"])
@pytest.mark.parametrize("kind", [{}, {"kind": "tnp", "points": (12,), "context": (3, 6)}, {"kind": "const"}])
def test_of_a_batch_it_is_what_the_oracle_says(kind: dict[str, object], oracle: str) -> None:
    data = made(**kind, evaluation__oracle=oracle)
    batch = list(data.test_dataloader())[1]
    found = data.exact(batch)
    assert found is not None
    assert batch.oracle is not None
    mean = (found.weights[:, None] * found.means).sum(-1)
    torch.testing.assert_close(mean.float(), batch.oracle.mean, rtol=0, atol=1e-4)
    density = log_density(found, batch.y[:, batch.context :])
    torch.testing.assert_close(density.float(), batch.oracle.log_density, rtol=0, atol=1e-3)


def test_another_layout_has_a_posterior_of_its_own() -> None:
    """Contexts of unequal sizes are padded: each task is regressed by itself, and padding has no density."""
    data = made()
    batch = next(iter(data.test_dataloader()))
    y, member = batch.y.clone(), batch.member
    y[1, 3] = torch.nan
    laid = lay_out(batch._replace(y=y), InferenceOptions(context_p=2, num_steps=6))
    found = data.exact(laid)
    assert found is not None
    assert laid.padding is not None
    assert laid.padding[1, : laid.context].sum() == 1
    assert batch.process is not None
    process = make_process(data.plan, batch.process)
    for task in range(4):
        mine = ~laid.padding[task]
        x, values, members = (part[task, None, mine] for part in (laid.x, laid.y, laid.member))
        context = int(mine[: laid.context].sum())
        expected = predict(process.tasks(slice(task, task + 1)), x, values, members, context)
        torch.testing.assert_close(found.means[task, :, 0], expected.mean[0])
        torch.testing.assert_close(found.stds[task, :, 0], expected.variance[0].sqrt())
    padded = laid._replace(padding=laid.padding.index_fill(1, torch.tensor([laid.context + 1]), True))
    shorter = data.exact(padded)
    assert shorter is not None
    assert shorter.means[:, 1].isnan().all()
    torch.testing.assert_close(shorter.means[:, 2:], found.means[:, 2:])
    assert len(member) == 4


def test_a_context_point_without_a_value_is_not_read() -> None:
    data = made()
    batch = next(iter(data.test_dataloader()))
    padding = torch.zeros_like(batch.x, dtype=torch.bool)
    padding[2, 4] = True
    lacking = data.exact(batch._replace(y=batch.y.masked_fill(padding, torch.nan)))
    padded, whole = data.exact(batch._replace(padding=padding)), data.exact(batch)
    assert lacking is not None
    assert padded is not None
    assert whole is not None
    torch.testing.assert_close(lacking.means, padded.means)
    assert not lacking.means[2].allclose(whole.means[2])


def test_unknown_targets_have_one_too() -> None:
    data = made()
    batch = next(iter(data.test_dataloader()))
    known, unknown = data.exact(batch), data.exact(batch.unscored())
    assert known is not None
    assert unknown is not None
    torch.testing.assert_close(known.means, unknown.means)


def test_the_parameters_of_the_process_go_along(tmp_path: Path) -> None:
    """In training, in the first tasks, in a layout and in a cache file."""
    drawn, kept = made(), made(cache__file=str(tmp_path / "pairs.h5"))
    batch = next(iter(drawn.train_dataloader()))
    assert batch.process is not None
    assert batch.process.shape == (4, 4)
    assert torch.equal(batch.first(2).process, batch.process[:2])
    assert torch.equal(lay_out(batch, InferenceOptions(given_member=0)).process, batch.process)
    for ours, theirs in zip(kept.test_dataloader(), drawn.test_dataloader(), strict=True):
        assert torch.equal(ours.process, theirs.process)


def test_a_cache_file_of_an_earlier_version_has_no_exact_density(tmp_path: Path) -> None:
    path = tmp_path / "pairs.h5"
    data = made(cache__file=str(path))
    data.prepare_data()
    with h5py.File(path) as file, h5py.File(tmp_path / "earlier.h5", "w") as earlier:
        file.copy("test", earlier)
        del earlier["test/process"]
        batch = _read(earlier["test"], 1)
    assert batch.process is None
    assert data.exact(batch) is None
    assert made(evaluation__oracle="marginal").exact(batch) is not None

"""TabICL's priors as functions of (seed, number), and a clear message if the package is missing."""

import random
import sys
import types
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules import TabiclPrior
from datamodules.prior.dump import __main__ as dump
from datamodules.prior.dump.read import Dump
from datamodules.prior.tabicl import TabiclBatches
from tabattn.contract.errors import DataError
from tests.helpers import build


class Prior:
    """A stand-in for TabICL's, which draws from every global generator; its first draw cannot be answered."""

    draws = 0

    def __init__(self, batch_size: int, max_seq_len: int, max_features: int, max_classes: int, **others: Any) -> None:
        self.batch_size = batch_size
        self.rows = max_seq_len - 1
        self.features = max_features
        self.classes = max_classes
        self.others = others

    def get_batch(self) -> tuple[Tensor, ...]:
        Prior.draws += 1
        shift = random.random() + np.random.random()  # noqa: NPY002
        x = torch.randn(self.batch_size, self.rows, self.features) + shift
        y = (torch.arange(self.rows) % self.classes).float().expand(self.batch_size, -1)
        context = 1 if Prior.draws == 1 else self.rows // 2
        widths = torch.full((self.batch_size,), self.features)
        widths[0] -= 1
        return x, y, widths, torch.full_like(widths, self.rows), torch.full_like(widths, context)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    prior = types.ModuleType("tabicl.prior")
    prior.PriorDataset = Prior  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tabicl", types.ModuleType("tabicl"))
    monkeypatch.setitem(sys.modules, "tabicl.prior", prior)
    monkeypatch.setattr(Prior, "draws", 0)


def batches(**changes: Any) -> TabiclBatches:
    arguments = {"kind": "mlp_scm", "rows": (20, 20), "features": (2, 4), "classes": 3, "context": (0.5, 0.5)}
    return TabiclBatches(**{**arguments, "batch_size": 2, "seed": 0, **changes})


@pytest.mark.usefixtures("package")
def test_batches_are_functions_of_seed_and_number() -> None:
    Prior.draws = 1
    first = batches()
    expected = first[3]
    random.random()
    again = batches()
    again[1]
    torch.randn(5)
    found = again[3]
    assert torch.equal(found.x, expected.x)
    assert found.columns is not None
    assert found.columns.tolist() == [3, 4]
    assert found.y.dtype == torch.long
    assert not torch.equal(first[4].x, expected.x)
    assert not torch.equal(batches(seed=1)[3].x, expected.x)


@pytest.mark.usefixtures("package")
def test_the_generators_of_the_process_are_left_alone() -> None:
    before = random.getstate(), repr(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002
    batches()[0]
    assert random.getstate() == before[0]
    assert repr(np.random.get_state()) == before[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])


@pytest.mark.usefixtures("package")
def test_a_batch_that_cannot_be_answered_is_drawn_again() -> None:
    assert batches()[0].context == 10
    assert Prior.draws == 2


@pytest.mark.usefixtures("package")
def test_the_module_and_the_command_use_it(tmp_path: Any) -> None:
    data = TabiclPrior("tree_scm", 2, 3, rows=(20, 20), tables=("sklearn:iris",), num_workers=0)
    assert len(list(data.train_dataloader())) == 3
    assert data.batches.prior.others["prior_type"] == "tree_scm"
    assert (data.tables, data.classes, len(list(data.val_dataloader()))) == (("iris",), 3, 2)
    assert len(list(data.test_dataloader())) == 3
    arguments = ["--prior", "tabicl", "--kind", "tree_scm", "--tasks", "5", "--rows", "20", "--features", "4"]
    assert dump.main([*arguments, "--context", "10", "--batch-size", "2", "--out", f"{tmp_path}/a.h5"]) == 0
    dumped = Dump(f"{tmp_path}/a.h5")
    assert dumped.attributes["prior"] == "tabicl tree_scm"
    assert dumped.sizes.features.tolist() == [3, 4, 3, 4, 3]


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tabicl", None)
    monkeypatch.delitem(sys.modules, "tabicl.prior", raising=False)
    with pytest.raises(DataError, match=r"TabICL's priors need more packages .*: pip install 'tabattn\[priors\]'"):
        batches()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": (3, 9)}, "rows must be two numbers, 4 <="),
        ({"features": (0, 9)}, "features must be two numbers, 1 <="),
        ({"classes": 1}, "classes must be at least 2, got 1"),
        ({"context": (0, 0.5)}, "context must be two shares"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batches(**changes)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps_per_epoch": 0}, "steps_per_epoch must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must be at least 0, got -1"),
        ({"evaluation__max_rows": 9}, "max_rows must be at least 10, got 9"),
        ({"evaluation__folds": 1}, r"smallest class of iris \(50\), got 1"),
    ],
)
def test_the_module_refuses_bad_arguments(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(TabiclPrior, tables=("sklearn:iris",), **changes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mlp_scm", "tree_scm", "mix_scm", "graph_scm"])
def test_the_real_package_where_it_is_installed(kind: str) -> None:
    pytest.importorskip("tabicl.prior")
    first, again = batches(kind=kind)[1], batches(kind=kind)[1]
    assert torch.equal(first.x, again.x)
    assert first.x.shape[:2] == (2, 20)
    assert first.y[:, : first.context].max() <= 2

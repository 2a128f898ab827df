"""Goldens: numbers of this project that no refactoring may change.

Networks get weights by a rule of their own, in the order of their parameters: a golden does not depend on how a network
is initialised.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from datamodules import LongPairs, PriorDump, SyntheticPairs, SyntheticPrior, TablePairs, TableTasks
from datamodules.pairs import Augmentation, LongNames, ProcessOptions, WindowOptions
from datamodules.prior import (
    BatchOptions,
    ClassOptions,
    DrawOptions,
    FoldEvaluation,
    NetworkOptions,
    ScmOptions,
    TaskEvaluation,
)
from datamodules.prior.dump import __main__ as dump
from datamodules.tables.real import Folds
from tabattn import TabularClassifier
from tabattn.attention import MECHANISMS
from tabattn.contract.batches import PairBatch, TableBatch
from tabattn.nn.block import row_block
from tabattn.pairs import TNPA, TNPD, PairNetwork, SeedNetwork, TokenOptions
from tabattn.prior.classifier_network import ContextClassifier
from tabattn.prior.encoders import CellEncoder
from tabattn.prior.nanotabpfn import NanoTabPFN
from tabattn.prior.network import PriorNetwork
from tabattn.tasks import PairInference, PriorClassification

Numbers = dict[str, Tensor]


def settle(network: nn.Module, scale: float = 0.2) -> nn.Module:
    """Give a network weights that depend on the order of its parameters alone."""
    source = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source) * scale)
            if parameter.dim() == 1:
                parameter.add_(0.5)
    return network


def gradients(network: nn.Module, loss: Tensor) -> Numbers:
    """The norm of each parameter's gradient, and its product with a fixed direction: both ``(parameters,)``."""
    loss.backward()
    source = torch.Generator().manual_seed(8)
    kept = [p.grad for p in network.parameters() if p.grad is not None]
    along = [(g * torch.randn(g.shape, generator=source)).sum() for g in kept]
    return {"norms": torch.stack([g.norm() for g in kept]), "along": torch.stack(along)}


def table(rows: int = 14, features: int = 5, classes: int = 3) -> TableBatch:
    """Two tables with a missing cell, a constant column, a target beyond four deviations, and unequal widths."""
    source = torch.Generator().manual_seed(1)
    x = torch.randn(2, rows, features, generator=source) * torch.tensor([1.0, 20.0, 0.1, 3.0, 1.0])[:features]
    x[0, 1, 0], x[0, :, 2], x[0, 11, 1] = torch.nan, 4.0, 900.0
    y = torch.arange(rows).remainder(classes).expand(2, -1).clone()
    y[1] = (y[1] + 1) % classes
    y[1, -1] = -1
    return TableBatch(x, y, 9, torch.tensor([features, features - 2]))


def points(members: int = 2) -> PairBatch:
    """Three tasks of two sequences in the units of the data, one context value unknown."""
    source = torch.Generator().manual_seed(2)
    x = torch.rand(3, 12, generator=source) * 4 - 2
    y = torch.randn(3, 12, generator=source) * 2 + 1
    y[2, 1] = torch.nan
    member = torch.arange(12).remainder(members).expand(3, -1).clone()
    return PairBatch(x, y, member, 7)


def prior(kind: type[ContextClassifier] = PriorNetwork, **attentions: Any) -> Numbers:
    """Log-probabilities, loss and gradients of the in-context classifier."""
    task = PriorClassification(partial(kind, dim=16, heads=2, hidden=24, layers=2, classes=4), **attentions)
    settle(task.network)
    batch = table() if kind is PriorNetwork else table()._replace(columns=None)
    out = task(batch)
    seen: Numbers = {}
    task.log = lambda name, value, **_: seen.__setitem__(name, value.detach())  # type: ignore[method-assign, assignment]
    found = gradients(task.network, task.training_step(batch, 0))
    return {"log_probabilities": out.detach().clamp(min=-99), "loss": seen["train/loss"], **found}


def shipped() -> Numbers:
    """Probabilities of the shipped weights on a fixed table, and the gradient of their logits."""
    source = np.random.default_rng(0)
    x = source.normal(size=(60, 6))
    x[5, 2] = np.nan
    y = (x[:, 0] + np.nan_to_num(x[:, 2]) ** 2 > 0.5).astype(int) + (x[:, 1] > 1)
    classifier = TabularClassifier(n_estimators=2, kernel_weight=0, random_state=0).fit(x[:45], y[:45])
    network = classifier.network_.requires_grad_(True)
    rows = torch.from_numpy(x[None]).float()
    logits = network(rows, torch.from_numpy(y[None, :45]), 45)
    return {
        "probabilities": torch.from_numpy(classifier.predict_proba(x[45:])),
        "logits": logits.detach(),
        **gradients(network, logits.square().mean()),
    }


def pairs(network: type[PairNetwork] = TNPD, **arguments: object) -> Numbers:
    """Densities, chain, loss and gradients of a network of sequences."""
    task = PairInference(partial(network, dim=16, heads=2, hidden=24, layers=2, **arguments))
    settle(task.network)
    batch = points()
    parts = (batch.x, batch.y, batch.member, batch.context)
    density = task.network(*parts)
    with torch.no_grad():
        chain = task.network.chain(*parts).log_prob(batch.y[:, batch.context :])
    loss = -task.network.density(*parts).log_prob(batch.y[:, batch.context :]).mean()
    return {
        "mean": density.mean.detach(),
        "variance": density.variance.detach(),
        "chain": chain,
        "loss": loss.detach(),
        **gradients(task.network, loss),
    }


class Reader(nn.Module):
    """Answers with the labels of the nearest context rows, or by the cells alone where ``blind``."""

    classes = 3

    def __init__(self, blind: bool) -> None:
        super().__init__()
        self.blind = blind

    def forward(self, x: Tensor, y: Tensor, context: int, columns: Tensor | None = None) -> Tensor:
        if self.blind:
            return x[:, context:, :3]
        nearness = -torch.cdist(x[:, context:], x[:, :context])
        return 4 * (2 * nearness).softmax(-1) @ nn.functional.one_hot(y[:, :context], 3).float()


def reliance(blind: bool) -> Numbers:
    """Scores on a real table with true and with permuted context labels: the latter cost a blind network nothing."""
    task = PriorClassification(partial(PriorNetwork, dim=8, heads=1, layers=1, classes=3), permutations=3)
    task.network = Reader(blind)  # type: ignore[assignment]
    data = SyntheticPrior(tables=("sklearn:iris",), classes=(2, 3), evaluation=FoldEvaluation(folds=3), seed=1)
    data.folds = Folds([*data.folds.val, *data.folds.test], [])
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    (scores,) = trainer.validate(task, data, verbose=False)
    return {name.partition("/")[2]: torch.tensor(scores[name]) for name in sorted(scores) if name.count("/") == 1}


def encoder() -> Numbers:
    """Tokens of cells: squashed beyond four deviations, grouped with the neighbours one and three columns on."""
    cells = settle(CellEncoder(8, 3))
    batch = table()
    statistics = cells.statistics(batch.x[:, :9])
    return {"tokens": cells(batch.x, statistics, batch.columns).detach()}


def block(norm: str) -> Numbers:
    """A layer over rows and its gradients, for every mechanism."""
    x = torch.randn(2, 10, 16, generator=torch.Generator().manual_seed(3))
    found: Numbers = {}
    for name, attention in MECHANISMS.items():
        layer = settle(row_block(16, 2, 24, attention, norm=norm))  # type: ignore[arg-type]
        out = layer(x, 6)
        found[name] = out[:, ::3, ::4].detach()
        found |= {f"{name}.{key}": value for key, value in gradients(layer, out.square().mean()).items()}
    return found


def batch_numbers(batch: TableBatch | PairBatch) -> Numbers:
    """A part of every tensor of a batch, and its sums."""
    found: Numbers = {}
    for name, value in batch._asdict().items():
        if isinstance(value, Tensor):
            flat = value.double().nan_to_num(nan=-77.0).flatten()
            found[name] = torch.cat([flat[:40], flat.sum()[None], flat.square().sum()[None]])
        elif isinstance(value, int):
            found[name] = torch.tensor([value])
    return found


def synthetic_prior() -> Numbers:
    """Training tables with options of the causal models at other than default values, and a fold of a real one."""
    data = SyntheticPrior(
        batch_size=4,
        rows=(24, 60),
        features=(3, 7),
        classes=(2, 4),
        context=(0.4, 0.8),
        batches=BatchOptions(max_cells=900, grow=6),
        scm=ScmOptions(NetworkOptions(discrete=0.5, trees=0.5), classes=ClassOptions(unrelated=0.5)),
        tables=("sklearn:iris",),
        evaluation=FoldEvaluation(folds=3),
        seed=5,
    )
    batches = iter(data.train_dataloader())
    trained = [batch_numbers(next(batches)) for _ in range(6)]
    real = batch_numbers(next(iter(data.val_dataloader())))
    return {**_numbered(trained), **{f"fold.{name}": value for name, value in real.items()}}


def table_tasks(folder: Path) -> Numbers:
    """Tasks cut from a real table."""
    data = TableTasks(
        "sklearn:wine",
        rows=30,
        context=20,
        features=5,
        draws=DrawOptions(permute_labels=False),
        evaluation=TaskEvaluation(val_tasks=2, test_tasks=2),
        batch_size=3,
        seed=4,
    )
    return _numbered(
        [batch_numbers(next(iter(data.train_dataloader()))), batch_numbers(next(iter(data.val_dataloader())))]
    )


def prior_dump(folder: Path) -> Numbers:
    """Tasks of a dump, their contexts drawn anew."""
    file = folder / "tasks.h5"
    command = ["--prior", "scm", "--tasks", "6", "--rows", "20", "30", "--features", "2", "4", "--classes", "2", "3"]
    if not file.exists():
        assert dump.main([*command, "--batch-size", "3", "--out", str(file)]) == 0
    data = PriorDump(str(file), batch_size=2, resample_context=(0.5, 0.8), tables=("sklearn:iris",), seed=3)
    return batch_numbers(next(iter(data.train_dataloader())))


def synthetic_pairs() -> Numbers:
    """Tasks of Gaussian processes with options at other than default values."""
    data = SyntheticPairs(
        kind="const",
        points=(9, 7),
        context=(2, 5),
        regime="interp",
        swap_roles=True,
        process=ProcessOptions(eps=0.1, length=(0.4, 0.9)),
        batch_size=3,
        seed=6,
    )
    return batch_numbers(next(iter(data.train_dataloader())))


def table_pairs(folder: Path) -> Numbers:
    """Windows of a table's columns, with drift, a forecast and exchanged roles."""
    hours = np.arange(200)
    frame = pd.DataFrame({"a": np.sin(hours / 7), "b": np.cos(hours / 5) + hours / 100})
    frame.to_csv(folder / "table.csv", index=False)
    data = TablePairs(
        str(folder / "table.csv"),
        ("a", "b"),
        windows=WindowOptions(length=16, stride=4),
        context=(3, 8),
        regime=("forecast", "mix"),
        augmentation=Augmentation(swap_roles=True, drift=0.2),
        batch_size=3,
        seed=2,
    )
    return batch_numbers(next(iter(data.train_dataloader())))


def long_pairs() -> Numbers:
    """Windows of irregular observations of the example table."""
    file = Path(__file__).parents[2] / "examples" / "populations.csv"
    columns = LongNames(task="island", member="animal", x="year", y="log_count")
    data = LongPairs(
        os.fspath(file), columns, infer="lynxes", context=(2, 6), regime=("forecast", "shuffle"), batch_size=3, seed=9
    )
    return batch_numbers(next(iter(data.train_dataloader())))


def _numbered(parts: list[Numbers]) -> Numbers:
    return {f"{i}.{name}": value for i, part in enumerate(parts) for name, value in part.items()}


def cases(folder: Path) -> Iterator[tuple[str, Callable[[], Numbers]]]:
    """Yield every golden by name, and what computes it."""
    yield "shipped", shipped
    yield "prior_default", prior
    yield "prior_legacy", lambda: prior(NanoTabPFN)
    yield "prior_local", lambda: prior(attention=MECHANISMS["Local"], feature_attention=MECHANISMS["Linear"])
    yield "reliance_blind", lambda: reliance(blind=True)
    yield "reliance_reader", lambda: reliance(blind=False)
    yield "encoder", encoder
    yield "block_after", lambda: block("after")
    yield "block_before", lambda: block("before")
    yield "tnpd", lambda: pairs(residual="nearest", components=2)
    yield "tnpd_centred", lambda: pairs(centred=True, residual="parallel", norm="before")
    yield "tnpa", lambda: pairs(TNPA, tokens=TokenOptions("learned"))
    yield "seed", lambda: pairs(SeedNetwork)
    yield "synthetic_prior", synthetic_prior
    yield "table_tasks", lambda: table_tasks(folder)
    yield "prior_dump", lambda: prior_dump(folder)
    yield "synthetic_pairs", synthetic_pairs
    yield "table_pairs", lambda: table_pairs(folder)
    yield "long_pairs", long_pairs

"""Comparison of attention graphs in a trained network: the task's test with its attention replaced."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.seed import isolate_rng

from callbacks.board import writers
from callbacks.swap_results import Result, drawn, table, write
from tabattn.attention import Entmax, Sparsefinder
from tabattn.attention.capture import Record, capture
from tabattn.attention.graphs import PATTERNS, named
from tabattn.attention.swap import (
    Agreement,
    agreement,
    entmax_layers,
    of_sparsity,
    probes,
    replacements,
    swapped,
)
from tabattn.contract.checks import nearest
from tabattn.storage.projection_loading import load_projections, read_learned

ITEMS = 4
"""Elements of the batch of each call on which graphs are compared."""


class AttentionSwap(Callback):
    """Tests a network that was trained with Entmax again with its attention replaced, and compares.

    After ``test``: Entmax itself; Sparsefinder in mode ``exact``; with learned projections Sparsefinder on each of
    ``groupings``; and the baselines, each with the knob whose graph comes nearest to the sparsity of the first grouping
    (or, without projections, of ``sparsity``). Sparsity, recall and the share of exact queries are measured on the
    first batches. In patterns of a sequence, such as a window, queries of other tokens than the keys are spread evenly
    over these. A pattern with learned weights of its own, ``gate``, is compared by the sweep of
    ``SparsefinderProjections`` alone: a test has no training items to fit it to, and fitted to those of the test it
    would be measured where it was fitted. Writes ``attention_swap.csv``, a picture beside it, and the same to
    TensorBoard.

    Args:
        projections: Checkpoint of ``SparsefinderProjections``, or a file of projections; None = baselines alone.
        groupings: Patterns of the learned projections, with their knob: ``kmeans``, ``fixed=8``, or of blocks of 4
            tokens ``fixed/4=2``.
        baselines: Patterns to compare with, such as ``window`` or ``pages/32``; None = all that learn nothing.
        sparsity: Sparsity of the baselines where there are no projections, in (0, 1).
        window: Neighbouring keys that Sparsefinder's graphs always hold, in a sequence.
        ends: Whether the first token (1), or the first and the last (2), see and are seen by all.
        metric: Metric of the test to compare by; None = the first of all data that is no loss, or the loss.
        probes: Test batches on which graphs are compared.
        out: Folder to write to; None = that of the run.
    """

    def __init__(
        self,
        projections: str | None = None,
        groupings: Sequence[str] = ("kmeans",),
        baselines: Sequence[str] | None = None,
        sparsity: float = 0.9,
        window: int = 0,
        ends: int = 0,
        metric: str | None = None,
        probes: int = 1,
        out: str | None = None,
    ) -> None:
        if not 0.0 < sparsity < 1.0:
            raise ValueError(f"sparsity must be in (0, 1), got {sparsity}")
        if probes < 1:
            raise ValueError(f"probes must be at least 1, got {probes}")
        for name, value in (("window", window), ("ends", ends)):
            if projections is None and value:
                raise ValueError(f"{name} is of graphs of projections, and there are none, got {name} {value}")
        free = [name for name, pattern in PATTERNS.items() if not (pattern.projected or pattern.learned)]
        for name in baselines or ():
            if name.partition("/")[0] not in free:
                raise ValueError(f"baselines must be some of {', '.join(free)}, got {name!r}")
            named(name)
        self.projections, self.groupings, self.sparsity = projections, [_grouping(each) for each in groupings], sparsity
        self.baselines = free if baselines is None else list(baselines)
        self.extras = {"window": window, "ends": ends}
        self.metric, self.probes, self.out = metric, probes, out
        self.layers: dict[str, Entmax] = {}
        self.records: dict[str, list[Record]] = {}
        self.found: dict[str, list[Record]] = {}
        self.open, self.running = ExitStack(), False

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the layers to replace, before any work."""
        if self.running:
            return
        if trainer.world_size > 1:
            raise MisconfigurationException(f"AttentionSwap compares in one process, got {trainer.world_size}")
        try:
            self.layers = entmax_layers(pl_module)
        except ValueError as ex:
            raise MisconfigurationException(f"AttentionSwap: {ex}") from ex
        if self.projections is not None:
            self._keep_learned(self.projections)
        self.records = {path: [] for path in self.layers}
        self._check_folder(trainer)
        self._check_metric(trainer, pl_module)

    def _check_folder(self, trainer: Trainer) -> None:
        """Refuse a folder that cannot be written to."""
        from datamodules.commands import check_target

        try:
            check_target(self._folder(trainer) / "attention_swap.csv", overwrite=True)
        except ValueError as ex:
            raise MisconfigurationException(f"AttentionSwap: {ex}") from ex

    def _folder(self, trainer: Trainer) -> Path:
        return Path(self.out or trainer.log_dir or trainer.default_root_dir)

    def _check_metric(self, trainer: Trainer, model: LightningModule) -> None:
        """Refuse a metric that a test of one batch does not log; those of a part, such as a table, may come later."""
        data: Any = getattr(trainer, "datamodule", None)
        # Loaders that were given as such may have workers, which serve one reader at a time.
        if self.metric is None or self.metric.count("/") > 1 or data is None:
            return
        with self._running(trainer, model), isolate_rng():
            metrics = _tester(trainer, 1).test(model, datamodule=data, verbose=False)[0]
        # The end of a test moves the module to the CPU.
        model.to(trainer.strategy.root_device)
        self._chosen(metrics)

    def _keep_learned(self, projections: str) -> None:
        """Leave the layers without projections as they are."""
        try:
            learned = read_learned(projections)
        except ValueError as ex:
            raise MisconfigurationException(f"AttentionSwap: {ex}") from ex
        if without := [path for path in self.layers if path not in learned]:
            if len(without) == len(self.layers):
                raise MisconfigurationException(f"AttentionSwap: {projections} has no layer of this network")
            rank_zero_info(f"AttentionSwap leaves as they are, without projections: {', '.join(without)}")
        self.layers = {path: layer for path, layer in self.layers.items() if path in learned}

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not self.running and batch_idx < self.probes and dataloader_idx == 0:
            recording = capture(pl_module, ("q", "k", "mask"), items=ITEMS)
            self.found = self.open.enter_context(recording)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not self.running and batch_idx < self.probes and dataloader_idx == 0:
            self.open.close()
            for path, calls in self.found.items():
                if path in self.records:
                    self.records[path] += calls

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.open.close()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Test every variant, and write the comparison after each."""
        if self.running:
            return
        self._chosen(trainer.logged_metrics)
        folder = self._folder(trainer)
        results: list[Result] = []
        with self._running(trainer, pl_module):
            for name, mechanisms, found in self._variants(pl_module):
                results.append(self._tested(trainer, pl_module, name, mechanisms, found))
                self._write(trainer, folder, results)
        rank_zero_info(f"{table(results)}\ncomparison of attention: {folder / 'attention_swap.csv'}")

    @contextmanager
    def _running(self, trainer: Trainer, pl_module: LightningModule) -> Iterator[None]:
        """Mark the tests of variants, whose trainers take the module and the data for a while."""
        self.running = True
        data: Any = getattr(trainer, "datamodule", None)
        try:
            yield
        finally:
            self.running = False
            pl_module.trainer = trainer
            if data is not None:
                data.trainer = trainer

    def _variants(self, model: LightningModule) -> "Iterator[tuple[str, dict[str, Sparsefinder], Agreement]]":
        """Name, mechanisms and agreement of each variant; Entmax itself has no mechanisms."""
        probed, wanted = probes(self.layers, self.records), self.sparsity
        yield "entmax", {}, agreement(probed, None)
        exact = replacements(self.layers)
        yield "sparsefinder exact", exact, agreement(probed, exact)
        for number, (name, knob) in enumerate(self.groupings if self.projections else ()):
            try:
                mechanisms = self._learned(model, name, knob)
            except ValueError as ex:
                raise MisconfigurationException(f"AttentionSwap: {ex}") from ex
            found = agreement(probed, mechanisms)
            wanted = wanted if number else found.sparsity
            yield f"sparsefinder {name}{'' if knob is None else f' {knob:g}'}", mechanisms, found
        for name in self.baselines:
            try:
                mechanisms, found = of_sparsity(self.layers, probed, name, wanted)
            except ValueError as ex:
                rank_zero_info(f"AttentionSwap leaves out {name}: {ex}")
                continue
            yield f"{name} {next(iter(mechanisms.values())).knob:g}", mechanisms, found

    def _learned(self, model: LightningModule, name: str, knob: float | None) -> dict[str, Sparsefinder]:
        """Mechanisms of a grouping with the learned projections of each layer."""
        assert self.projections is not None
        learned, made = read_learned(self.projections), {}
        for path, layer in self.layers.items():
            sizes = {part: learned[path].sizes[part] for part in ("width", "hidden", "shared")}
            own = {"mode": "gather", "grouping": name, "knob": knob, **sizes, **self.extras}
            made[path] = Sparsefinder.like(layer, **own).eval()
        with swapped(model, made):
            load_projections(model, self.projections)
        return made

    def _tested(
        self, trainer: Trainer, model: LightningModule, name: str, made: dict[str, Sparsefinder], found: Agreement
    ) -> Result:
        """Test a variant by a trainer of its own, on the same data with the same seed."""
        inner = _tester(trainer, trainer.limit_test_batches)
        data: Any = getattr(trainer, "datamodule", None)
        given = {"datamodule": data} if data is not None else {"dataloaders": trainer.test_dataloaders}
        made = {path: mechanism.to(model.device) for path, mechanism in made.items()}
        with isolate_rng(), swapped(model, made):
            seed_everything(0, verbose=False)
            start = time.perf_counter()
            metrics = inner.test(model, **given, verbose=False)[0]
            seconds = time.perf_counter() - start
        return Result(name, found, metrics[self._chosen(metrics)], seconds, dict(metrics))

    def _chosen(self, metrics: Mapping[str, Any]) -> str:
        """Name of the metric to compare by."""
        if not metrics:
            raise MisconfigurationException("AttentionSwap: the test logs no metric to compare by")
        if self.metric is not None:
            if self.metric not in metrics:
                hint = nearest(self.metric, metrics)
                raise MisconfigurationException(
                    f"AttentionSwap: metric must be one of {', '.join(metrics)}, got {self.metric!r}{hint}"
                )
            return self.metric
        named = [name for name in metrics if not name.endswith("loss")] or list(metrics)
        # Means over all data before parts, such as those of a table.
        return min(named, key=lambda name: name.count("/"))

    def _write(self, trainer: Trainer, folder: Path, results: Sequence[Result]) -> None:
        """Write the table, and draw the picture."""
        figure = drawn(results, self._chosen(results[0].metrics))
        write(folder, results, figure)
        for writer in writers(trainer):
            writer.add_figure("attention_swap", figure, close=False)


def _tester(trainer: Trainer, batches: int | float) -> Trainer:
    """Trainer that tests a number of batches, or a share of them, as another one would, and shows nothing."""
    return Trainer(
        accelerator=trainer.accelerator,
        devices=1,
        precision=trainer.precision,
        limit_test_batches=batches,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _grouping(text: str) -> tuple[str, float | None]:
    """Name and knob of ``kmeans`` or ``fixed=8``.

    Raises:
        ValueError: There is no such pattern of projections, or the knob is no number.
    """
    name, _, knob = text.partition("=")
    known = [name for name, pattern in PATTERNS.items() if pattern.projected]
    if name.partition("/")[0] not in known:
        raise ValueError(f"groupings must be some of {', '.join(known)}, such as fixed=8, got {text!r}")
    named(name)
    try:
        return name, float(knob) if knob else None
    except ValueError as ex:
        raise ValueError(f"the knob of a grouping must be a number, got {text!r}") from ex

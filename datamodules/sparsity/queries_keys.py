"""Datamodule of recorded queries and keys."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader

from datamodules.counter import CounterLoader, Seed, Seeds, endless, place, shared
from tabattn.contract.checks import NotInCheckpoints, check_expression, check_least, check_seed
from tabattn.contract.queries_keys import Layer, QueryKeyBatch

if TYPE_CHECKING:
    from datamodules.sparsity.batches import Batches, Ints
    from datamodules.sparsity.records import Records


class QueriesKeys(NotInCheckpoints, LightningDataModule):
    """Queries and keys of a trained model's attention layers, as the callback ``QueryKeyRecorder`` records them.

    A batch has items of every layer; an item is one element of the layer's batch, such as a table or a row of one.
    What was recorded from one batch is on one side of the split.

    Args:
        path: File of the recorder (HDF5), or a dump ``<name>_enc-attn.pt`` of Sparsefinder's own programs.
        batch_size: Most items of each layer in a batch (on each device).
        steps_per_epoch: Batches per epoch (on each device); none = all training items of every layer.
        val: Share of items to validate on.
        test: Share of items to test on.
        max_size: Most items of a layer, of all parts together; none = all.
        layers: Regular expression searched in module paths; only matching layers are taken. None = all.
        clustered: Most training items of a layer by which clusters are learned; none = all.
        rescale: Whether a dump's queries are multiplied by the root of ``head_dim``, as for models that have divided by
            it before.
        seed: Seed of the split, and of the order of items; of two, the second is that of the order alone.
        num_workers: Worker processes of the training loader; 0 = make batches in the training process.
    """

    batch = QueryKeyBatch

    def __init__(
        self,
        path: str = "queries_keys.h5",
        batch_size: int = 16,
        *,
        steps_per_epoch: int | None = None,
        val: float = 0.1,
        test: float = 0.1,
        max_size: int | None = None,
        layers: str | None = None,
        clustered: int | None = 256,
        rescale: bool = False,
        seed: Seed = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        check_least(batch_size=(batch_size, 1), num_workers=(num_workers, 0))
        for name, value in (("steps_per_epoch", steps_per_epoch), ("clustered", clustered)):
            check_least(**{name: (1 if value is None else value, 1)})
        check_least(max_size=(3 if max_size is None else max_size, 3))
        self.seeds = Seeds.of(seed)
        check_seed(self.seeds.scored)
        check_expression("layers", layers)
        if not (val > 0 and test > 0 and val + test < 1):
            raise ValueError(f"val and test must be above 0, and below 1 together, got {val} and {test}")
        self.path, self.batch_size, self.steps_per_epoch = Path(path), batch_size, steps_per_epoch
        self.shares, self.max_size, self.chosen, self.most_clustered = (val, test), max_size, layers, clustered
        self.rescale, self.num_workers = rescale, num_workers

    def setup(self, stage: str) -> None:
        """Read what was recorded, and split it.

        Raises:
            MisconfigurationException: There is no such file, no layer is chosen, or one has too few items.
            DataError: The file is damaged.
        """
        counts = [sum(map(len, self.parts[part])) for part in ("train", "val", "test")]
        rank_zero_info(
            f"{self.path}: {len(self.layers)} layers; {counts[0]} items train, {counts[1]} validate, {counts[2]} test"
        )

    @cached_property
    def records(self) -> "Records":
        """What was recorded, of the chosen layers.

        Raises:
            MisconfigurationException: There is no such file, or no layer is chosen.
            DataError: The file is damaged.
        """
        from datamodules.sparsity.chosen import read

        try:
            return read(self.path, self.chosen, self.rescale)
        except ValueError as ex:
            raise MisconfigurationException(str(ex)) from ex

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, in the order of their entries in a batch."""
        return tuple(recorded.layer for recorded in self.records.layers)

    @cached_property
    def parts(self) -> "dict[str, list[Ints]]":
        """Numbers of the items of each layer, by part.

        Raises:
            MisconfigurationException: A layer has too few items.
        """
        from datamodules.sparsity.batches import PARTS, split_groups

        found: dict[str, list[Ints]] = {part: [] for part in PARTS}
        for recorded in self.records.layers:
            try:
                part = split_groups(recorded.group[: self.max_size], self.shares, self.seeds.scored)
            except ValueError as ex:
                raise MisconfigurationException(f"{self.path}: {recorded.layer.path}: {ex}") from ex
            for number, name in enumerate(PARTS):
                found[name].append((part == number).nonzero()[0])
        return found

    @cached_property
    def clustered(self) -> QueryKeyBatch:
        """Training items by which clusters are learned, of every layer."""
        numbers = [items[: self.most_clustered] for items in self.parts["train"]]
        return self._batches("train").batch(numbers)

    def train_dataloader(self) -> CounterLoader:
        """Training loader: this rank's share of the stream of batches."""
        from datamodules.sparsity.batches import TrainingBatches

        batches = TrainingBatches(self.records, self.parts["train"], self.batch_size, self.seeds.training)
        steps = self.steps_per_epoch or max(1, len(batches) // place(self.trainer)[1])
        return endless(self.trainer, batches, steps, self.num_workers)

    def val_dataloader(self) -> DataLoader[QueryKeyBatch]:
        """Validation loader: this rank's share of the validation items."""
        return shared(self.trainer, self._batches("val"))

    def test_dataloader(self) -> DataLoader[QueryKeyBatch]:
        """Test loader: this rank's share of the test items."""
        return shared(self.trainer, self._batches("test"))

    predict_dataloader = test_dataloader

    def _batches(self, part: Literal["train", "val", "test"]) -> "Batches":
        from datamodules.sparsity.batches import Batches

        return Batches(self.records, self.parts[part], self.batch_size)

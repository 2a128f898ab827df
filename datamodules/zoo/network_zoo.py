"""Datamodule of a zoo of trained networks."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec

import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.counter import CounterLoader, Seed, Seeds, endless, place, shared
from tabattn.contract.checks import NotInCheckpoints, check_least
from tabattn.contract.graphs import Population
from tabattn.contract.networks import NetworkBatch

if TYPE_CHECKING:
    from datamodules.zoo.batches import Source
    from datamodules.zoo.zoo_file import Zoo
    from tabattn.metafeatures import MetaScaler

Made = ParamSpec("Made")
STAGES = {"train": "train", "val": "validate", "test": "test"}
"""Parts in the order of their numbers, and what is done with them."""


@dataclass(frozen=True)
class ZooOptions:
    """Options of a zoo that is generated where its file is not there.

    Args:
        profile: Distribution of tasks and networks.
        networks: Number of networks to train; each is kept at several checkpoints.
        tasks: Number of tasks; none = the profile's.
        seed: Seed.
        steps: Training steps of each network; none = the profile's.
        device: Device to train on, such as cpu or cuda; auto = cuda where there is one.
    """

    profile: Literal["seed", "mixed", "default"] = "seed"
    networks: int = 20_000
    tasks: int | None = None
    seed: int = 0
    steps: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        check_least(**{"zoo.networks": (self.networks, 10), "zoo.seed": (self.seed, 0)})
        if self.tasks is not None:
            check_least(**{"zoo.tasks": (self.tasks, 1)})
        if self.steps is not None:
            check_least(**{"zoo.steps": (self.steps, 10)})


DEFAULT_ZOO = ZooOptions()


def refusing(method: Callable[Made, None]) -> Callable[Made, None]:
    """Decorate a method that Lightning calls: what it refuses ends the run in one line."""

    @wraps(method)
    def wrapped(*args: Made.args, **kwargs: Made.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except ValueError as ex:
            raise MisconfigurationException(str(ex)) from ex

    return wrapped


class NetworkZoo(NotInCheckpoints, LightningDataModule):
    """Zoo: small networks, each trained on a regression task, from a file of ``python -m datamodules.zoo``.

    Where the file is not there it is generated first. Dead networks, whose outputs are constant, are left out.

    Args:
        path: The file.
        split: What training, validation and test networks do not share: training runs (``network``), also tasks
            (``task``), or also architectures (``architecture``). Copies of a network are always on one side.
        checkpoints: Shares of their training at which networks are taken: of 0.1, 0.25, 0.5 and 1 those that are
            named.
        batch_size: Most networks in a batch (on each device).
        steps_per_epoch: Batches per epoch (on each device); none = all training networks.
        probes: Rows of each task on which outputs are compared: training rows in training, else test rows.
        rows: Training rows of each task that a batch shows; one to validate or to test shows as many test rows too.
        zoo: Options of the zoo to generate.
        seed: Seed of the order of networks and of rows in training, the only random choices here; of two, the second.
        num_workers: Worker processes of the training loader; 0 = make batches in the training process.
    """

    batch = NetworkBatch

    def __init__(
        self,
        path: str = "zoo.h5",
        split: Literal["network", "task", "architecture"] = "network",
        *,
        checkpoints: tuple[float, ...] = (1.0,),
        batch_size: int = 256,
        steps_per_epoch: int | None = None,
        probes: int = 64,
        rows: int = 128,
        zoo: ZooOptions = DEFAULT_ZOO,
        seed: Seed = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        check_least(batch_size=(batch_size, 1), steps_per_epoch=(1 if steps_per_epoch is None else steps_per_epoch, 1))
        check_least(probes=(probes, 2), rows=(rows, 1), num_workers=(num_workers, 0))
        if not checkpoints:
            raise ValueError("checkpoints must name at least one share of the training, got none")
        self.path, self.split, self.checkpoints = Path(path), split, tuple(checkpoints)
        self.batch_size, self.steps_per_epoch, self.num_workers = batch_size, steps_per_epoch, num_workers
        self.probes, self.rows, self.seed = probes, rows, Seeds.of(seed).training
        self.options = zoo

    @refusing
    def prepare_data(self) -> None:
        """Generate the zoo, if its file is not there.

        Raises:
            MisconfigurationException: The options of the zoo do not fit, or a part of another is there.
            DataError: It cannot be written.
        """
        if self.path.exists():
            return
        from datamodules.zoo.bar import Bar
        from datamodules.zoo.generate import generate

        made = self.options
        device = made.device if made.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        rank_zero_info(f"{self.path} is not there: generating {made.networks} networks of profile {made.profile}")
        with Bar(self.path.name) as bar:
            generate(self.path, made.profile, made.networks, made.tasks, made.seed, device, made.steps, progress=bar)

    @refusing
    def setup(self, stage: str) -> None:
        """Read the zoo.

        Raises:
            MisconfigurationException: The path is no file, or has no networks at the checkpoints asked for.
            DataError: It is damaged.
        """
        rank_zero_info(self.told())

    @cached_property
    def zoo(self) -> "Zoo":
        """The zoo, read at first use.

        Raises:
            ValueError: The file is not there, or has no networks at the checkpoints asked for.
            DataError: It is damaged.
        """
        from datamodules.zoo.zoo_file import read_zoo

        return read_zoo(self.path)

    @property
    def population(self) -> Population:
        """All networks of the zoo."""
        return self.zoo.population

    @property
    def models(self) -> dict[str, NDArray[Any]]:
        """Facts of each network; see ``datamodules.zoo.zoo_file.Zoo``."""
        return self.zoo.models

    @property
    def tasks(self) -> dict[str, NDArray[Any]]:
        """The tasks, by the names of ``datamodules.zoo.tasks.Tasks``, and their scaled meta-features as ``meta``."""
        return {**self.zoo.tasks._asdict(), "meta": self.meta.numpy()}

    @property
    def splits(self) -> dict[str, NDArray[np.uint8]]:
        """Part of each network, 0 = training, 1 = validation, 2 = test, for each way to split."""
        return self.zoo.splits

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the meta-features."""
        from tabattn.metafeatures import NAMES

        return tuple(NAMES)

    @property
    def inputs(self) -> int:
        """Most inputs of a network."""
        return self.zoo.tasks.x.shape[2]

    @property
    def outputs(self) -> int:
        """Most outputs of a network."""
        return self.zoo.tasks.y.shape[2]

    @property
    def vertices(self) -> int:
        """Most vertices of a network."""
        return int(np.diff(self.population.vertex_pointer).max())

    @property
    def levels(self) -> int:
        """Most levels of a network, that of the inputs included."""
        return int(self.population.level.max()) + 1

    @cached_property
    def scaler(self) -> "MetaScaler":
        """Scaling of meta-features, by those of tasks of training networks."""
        from datamodules.zoo.meta import scaler_of

        return scaler_of(self.zoo, np.unique(self.models["task"][self.part("train")]))

    @cached_property
    def meta(self) -> Tensor:
        """Scaled meta-features of each task, ``(tasks, features)``."""
        from datamodules.zoo.meta import scaled

        return torch.from_numpy(scaled(self.zoo, self.scaler))

    def part(self, stage: Literal["train", "val", "test"]) -> NDArray[np.int64]:
        """Numbers of the networks of a part, at the checkpoints asked for, without dead ones.

        Raises:
            ValueError: There is none.
        """
        models = self.models
        taken = np.isclose(models["frac"][:, None], np.asarray(self.checkpoints, np.float32)).any(1)
        taken &= ~models["constant"]
        own = self.splits[self.split] == list(STAGES).index(stage)
        found = np.flatnonzero(taken & own)
        lacks = f"{self.path} has no networks to {STAGES[stage]} on with split {self.split}"
        if not len(found) and taken.any():
            raise ValueError(f"{lacks}: all {taken.sum()} are in other parts, so take more networks, or another split")
        if not len(found):
            shares = ", ".join(f"{share:g}" for share in np.unique(models["frac"]))
            raise ValueError(f"{lacks} at checkpoints {list(self.checkpoints)}: it has those of {shares}")
        return found

    def told(self) -> str:
        """The zoo in one line."""
        counts = [len(self.part(stage)) for stage in ("train", "val", "test")]
        taken = ", ".join(f"{100 * share:g}" for share in self.checkpoints)
        return (
            f"{self.path}: {len(self.population)} networks of {len(self.zoo.tasks.x)} tasks, "
            f"{int(self.models['constant'].sum())} are dead; of those at {taken} % of their training "
            f"{counts[0]} train, {counts[1]} validate, {counts[2]} test"
        )

    def train_dataloader(self) -> CounterLoader:
        """Training loader: this rank's share of the stream of batches."""
        from datamodules.zoo.batches import TrainingBatches

        batches = TrainingBatches(self._source(), self.part("train"))
        steps = self.steps_per_epoch or max(1, len(batches) // place(self.trainer)[1])
        return endless(self.trainer, batches, steps, self.num_workers)

    def val_dataloader(self) -> DataLoader[NetworkBatch]:
        """Validation loader: this rank's share of the validation networks."""
        return self._scored("val")

    def test_dataloader(self) -> DataLoader[NetworkBatch]:
        """Test loader: this rank's share of the test networks."""
        return self._scored("test")

    predict_dataloader = test_dataloader

    def _source(self) -> "Source":
        from datamodules.zoo.batches import Source

        return Source(self.zoo, self.meta, self.batch_size, self.probes, self.rows, self.seed)

    def _scored(self, stage: Literal["val", "test"]) -> DataLoader[NetworkBatch]:
        from datamodules.zoo.batches import ScoredBatches

        return shared(self.trainer, ScoredBatches(self._source(), self.part(stage)))

"""Generation of a zoo: draws tasks and networks, and trains these in buckets, each of which is kept when it is done."""

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.commands import check_target
from datamodules.zoo.architectures import Runs, architecture_numbers, buckets, draw_runs
from datamodules.zoo.meta import measured
from datamodules.zoo.profiles import CHECKPOINTS, PROFILES, NetworkProfile, Profile
from datamodules.zoo.splits import split_networks
from datamodules.zoo.tasks import Tasks, draw_tasks
from datamodules.zoo.training import Table, Trained, population_of, train
from datamodules.zoo.zoo_file import GRAPH, Models, Zoo, write_zoo
from tabattn.contract.checks import check_least, nearest
from tabattn.contract.errors import DataError
from tabattn.contract.graphs import Population
from tabattn.metafeatures import NAMES
from tabattn.storage import weight_files
from tabattn.storage.files import try_lock

KIND = "tabattn.zoo.part"
SCORES = ("train_r2", "val_r2", "test_r2")
MOST = 2**31 - 1
"""Most networks, and most tasks, that a file numbers."""
SEEDS = 2**63 - 1
"""Largest seed."""
CONVERTED = 256
"""Networks that are converted to graphs at once."""
AT_ONCE = {"cpu": 256, "cuda": 8192}
"""Networks that are trained at once."""

Progress = Callable[[int, int], None]
"""Is told how many of how many networks are trained."""


class Plan(NamedTuple):
    """What a zoo is a function of.

    Attributes:
        profile: Name of the profile.
        networks: Number of networks that are trained; each is kept at several checkpoints.
        tasks: Number of tasks.
        seed: Seed.
        steps: Training steps.
    """

    profile: str
    networks: int
    tasks: int
    seed: int
    steps: int


def generate(
    path: str | Path = "zoo.h5",
    profile: str = "seed",
    networks: int = 20_000,
    tasks: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    steps: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Generate a zoo, or go on with one whose generation was interrupted, and write it atomically.

    Network i of a profile is a function of (seed, i, number of tasks), up to rounding: it depends neither on the number
    of networks, nor on which are trained together, nor on the device.

    Args:
        path: The file.
        profile: Distribution of tasks and networks: ``seed``, ``mixed`` or ``default``.
        networks: Number of networks to train; the file holds each at 10, 25, 50 and 100 % of its training.
        tasks: Number of tasks; none = the profile's.
        seed: Seed of all that is random.
        device: Device to train on, such as ``cpu`` or ``cuda``.
        steps: Training steps of each network; none = the profile's.
        overwrite: Whether an existing file may be replaced.
        progress: Called after each bucket.

    Raises:
        ValueError: Wrong arguments, the file exists, or an interrupted generation had other arguments.
        DataError: The file cannot be written; what is trained so far stays, and the same call goes on from there.
    """
    path, chosen = Path(path), _profile(profile)
    count = chosen.tasks.tasks if tasks is None else tasks
    plan = Plan(profile, networks, count, seed, chosen.networks.steps if steps is None else steps)
    check_least(networks=(networks, 10), tasks=(plan.tasks, 1), seed=(seed, 0), steps=(plan.steps, 10))
    place = _device(device)
    for name, value, most in (("networks", networks, MOST), ("tasks", plan.tasks, MOST), ("seed", seed, SEEDS)):
        if value > most:
            raise ValueError(f"{name} must be at most {most}, got {value}")
    check_target(path, overwrite)
    with _folder(path.with_name(f"{path.name}.parts")) as parts:
        drawn = draw_tasks(chosen.tasks, plan.tasks, seed)
        runs = draw_runs(chosen.networks, networks, drawn.columns, seed)
        done = _known(parts, plan)
        table = table_of(drawn, place)
        if progress:
            progress(sum(end - start for start, end in done.items()), networks)
        for piece in _missing(runs, AT_ONCE.get(place.type, AT_ONCE["cuda"]), dict(done)):
            _keep(parts, plan, piece, _trained(runs.at(piece), table, chosen.networks, plan))
            done[piece.start] = piece.stop
            if progress:
                progress(sum(end - start for start, end in done.items()), networks)
        write_zoo(path, _joined(parts, plan, sorted(done), runs, drawn))
    return path


def _profile(name: str) -> Profile:
    if name not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, got {name!r}{nearest(name, PROFILES)}")
    return PROFILES[name]


def _device(name: str) -> torch.device:
    try:
        place = torch.device(name)
        torch.zeros(1, device=place).item()
    except (RuntimeError, AssertionError, NotImplementedError) as ex:
        raise ValueError(f"device must be one of this machine, such as cpu, got {name!r}") from ex
    return place


@contextmanager
def _folder(parts: Path) -> Iterator[Path]:
    """Folder of the parts of an unfinished zoo, for this process alone; removed once the zoo is written."""
    try:
        parts.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(parts, os.O_RDONLY)
        try:
            if not try_lock(descriptor):
                raise DataError(f"{parts} is being written by another process")
            yield parts
            shutil.rmtree(parts)
        finally:
            os.close(descriptor)
    except OSError as ex:
        raise DataError(f"{ex.filename or parts} cannot be written: {ex.strerror or ex}") from ex


def _known(parts: Path, plan: Plan) -> dict[int, int]:
    """First and last run, exclusive, of the parts that are there; damaged ones are removed.

    Raises:
        ValueError: They are of another plan.
    """
    known = {}
    for file in sorted(parts.glob("*.safetensors")):
        try:
            _, header = weight_files.read(file, KIND)
        except ValueError:
            file.unlink()
            continue
        if header["plan"] != plan._asdict():
            given = ", ".join(f"{name}={value}" for name, value in header["plan"].items())
            raise ValueError(f"{parts} was begun with other arguments ({given}): give them again, or delete it")
        known[header["start"]] = header["stop"]
    return known


def _missing(runs: Runs, most: int, done: dict[int, int]) -> Iterator[slice]:
    """Buckets of the runs that no part has."""
    start = 0
    while start < len(runs.run):
        if start in done:
            start = done[start]
            continue
        piece = next(buckets(runs, most, start))
        end = min([piece.stop, *(first for first in done if first > start)])
        yield slice(start, end)
        start = end


def table_of(tasks: Tasks, device: torch.device) -> Table:
    """Rows of tasks behind one another, on a device."""
    rows = np.nan_to_num(np.concatenate([tasks.x, tasks.y], 2))
    train = (tasks.part == 0).sum(1)
    return Table(*(torch.from_numpy(each).to(device) for each in (rows.reshape(-1, rows.shape[2]), tasks.part, train)))


def _trained(runs: Runs, table: Table, profile: NetworkProfile, plan: Plan) -> dict[str, Tensor]:
    """Train a bucket; its networks as arrays, the checkpoints of a run behind one another."""
    steps = [round(share * plan.steps) for share in CHECKPOINTS]
    trained = train(runs, table, steps, profile.batch, plan.seed)
    return {
        **_graphs(runs, trained, plan.seed),
        "r2": trained.r2.flatten(0, 1).cpu(),
        "constant": trained.constant.flatten(0, 1).cpu(),
    }


def _graphs(runs: Runs, trained: Trained, seed: int) -> dict[str, Tensor]:
    """Graphs of networks at all checkpoints, the arrays of ``Population``."""
    count = trained.parameters.shape[1]
    pieces = []
    for start in range(0, len(runs.run), CONVERTED):
        every = torch.arange(len(runs.run))[start : start + CONVERTED].repeat_interleave(count)
        flat = trained.parameters[start : start + CONVERTED].flatten(0, 1)
        pieces.append(population_of(trained.layers.at(every), runs.at(every), flat))
    whole = Population.joined(pieces)
    return {name: torch.from_numpy(getattr(whole, name)) for name in GRAPH}


def _keep(parts: Path, plan: Plan, piece: slice, tensors: dict[str, Tensor]) -> None:
    header = {"plan": plan._asdict(), "start": piece.start, "stop": piece.stop}
    weight_files.write(parts / f"{piece.start:08d}.safetensors", tensors, header, KIND)


def _joined(parts: Path, plan: Plan, starts: list[int], runs: Runs, tasks: Tasks) -> Zoo:
    """The zoo of all parts."""
    read = [weight_files.read(parts / f"{start:08d}.safetensors", KIND)[0] for start in starts]
    population = Population.joined([Population(**{name: part[name].numpy() for name in GRAPH}) for part in read])
    arch, words = architecture_numbers(runs)
    count = len(CHECKPOINTS)
    r2 = torch.cat([part["r2"] for part in read]).numpy()
    models: Models = {
        "run": np.repeat(runs.run.numpy(), count),
        "task": np.repeat(runs.task.numpy(), count),
        "arch": np.repeat(arch, count),
        "step": np.tile([round(share * plan.steps) for share in CHECKPOINTS], len(arch)),
        "frac": np.tile(np.asarray(CHECKPOINTS, np.float32), len(arch)),
        "lr": np.repeat(runs.rate.numpy(), count),
        **dict(zip(SCORES, r2.T, strict=True)),
        "constant": torch.cat([part["constant"] for part in read]).numpy(),
    }
    facts = {"plan": plan._asdict(), "versions": _versions()}
    return Zoo(
        population, models, tasks, split_networks(models, plan.seed), words, facts, measured(tasks), tuple(NAMES)
    )


def _versions() -> dict[str, str]:
    try:
        own = metadata.version("tabattn")
    except metadata.PackageNotFoundError:
        own = "not installed"
    return {"tabattn": own, "python": platform.python_version(), "torch": str(torch.__version__)}

"""Two seeds: of the splits and what is scored, and of the training batches."""

import importlib.util
import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import datamodules
from datamodules.counter import Seed, Seeds
from datamodules.pairs.synthetic_options import CacheOptions
from datamodules.prior.options import DrawOptions
from datamodules.reconstruction.options import ContextOptions
from datamodules.sparsity.records import write_records
from datamodules.zoo import ZooOptions
from tests.datamodules.pairs.test_long import long
from tests.datamodules.prior.dump.foreign import original
from tests.datamodules.sparsity.test_queries_keys import many
from tests.helpers import build
from tests.mlm.texts import masked_text

ROOT = Path(__file__).parents[2]
ROOMS = ROOT / "examples" / "rooms.csv"


def dump(folder: Path, **options: Any) -> Any:
    path = original(folder / "a.h5") if not (folder / "a.h5").exists() else folder / "a.h5"
    return datamodules.PriorDump(str(path), batch_size=2, tables=("sklearn:iris",), **options)


def pairs_file(folder: Path, **options: Any) -> Any:
    long().to_csv(folder / "long.csv", index=False)
    return datamodules.LongPairs(str(folder / "long.csv"), context=2, batch_size=2, **options)


def queries_keys(folder: Path, **options: Any) -> Any:
    write_records(folder / "qk.h5", many())
    data = datamodules.QueriesKeys(f"{folder}/qk.h5", batch_size=2, **options)
    data.setup("fit")
    return data


def zoo(folder: Path, **options: Any) -> Any:
    made = ZooOptions(networks=30, tasks=4, steps=10)
    data = datamodules.NetworkZoo(f"{folder}/zoo.h5", batch_size=4, zoo=made, **options)
    data.prepare_data()
    data.setup("fit")
    return data


def tabicl(folder: Path, **options: Any) -> Any:
    if importlib.util.find_spec("tabicl") is None:
        pytest.skip("needs tabicl")
    return datamodules.TabiclPrior(batch_size=2, rows=(12, 16), tables=("sklearn:iris",), num_workers=0, **options)


def text(folder: Path, **options: Any) -> Any:
    pytest.importorskip("transformers", minversion="5.0")
    return masked_text(folder, batch_size=4, **options)


MADE: dict[str, Callable[..., Any]] = {
    "SyntheticPrior": lambda _, **o: datamodules.SyntheticPrior(2, rows=(12, 16), tables=("sklearn:iris",), **o),
    "SyntheticRegression": lambda _, **o: datamodules.SyntheticRegression(2, rows=(12, 16), **o),
    "TabiclPrior": tabicl,
    "PriorDump": dump,
    "TableTasks": lambda _, **o: build(
        datamodules.TableTasks, "sklearn:wine", rows=20, context=12, batch_size=2, evaluation__val_tasks=2, **o
    ),
    "SyntheticPairs": lambda _, **o: build(datamodules.SyntheticPairs, batch_size=2, evaluation__val_batches=2, **o),
    "TablePairs": lambda _, **o: datamodules.TablePairs(
        str(ROOMS), ("outside", "inside"), context=4, batch_size=2, **o
    ),
    "LongPairs": pairs_file,
    "TableCells": lambda _, **o: datamodules.TableCells(context=ContextOptions(rows=50), **o),
    "ImageCells": lambda _, **o: datamodules.ImageCells(context=ContextOptions(rows=50), **o),
    "MaskedText": text,
    "QueriesKeys": queries_keys,
    "NetworkZoo": zoo,
}


def numbers(value: Any) -> list[Tensor]:
    """Every tensor of a batch."""
    if isinstance(value, Tensor):
        return [value.double().nan_to_num(-1.0)]
    parts = value.__dict__.values() if hasattr(value, "__dict__") else value
    return [part for each in parts for part in numbers(each)] if isinstance(parts, tuple | list) else []


def drawn(data: Any, stage: str) -> list[Tensor]:
    """Tensors of the first two batches of a stage."""
    batches = iter(getattr(data, f"{stage}_dataloader")())
    return [part for batch in (next(batches), next(batches, None)) for part in numbers(batch or ())]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) > 0 and all(map(torch.equal, one, other))


def test_seeds() -> None:
    assert Seeds.of(3) == (3, 3)
    assert Seeds.of((3, 4)) == Seeds.of([3, 4]) == (3, 4)  # type: ignore[arg-type]


def test_every_datamodule_is_here() -> None:
    assert set(MADE) == set(datamodules.__all__)
    for name in MADE:
        assert inspect.signature(getattr(datamodules, name)).parameters["seed"].annotation == Seed, name


@pytest.mark.parametrize("name", MADE)
def test_the_second_seed_is_that_of_the_training_batches_alone(name: str, tmp_path: Path) -> None:
    one, same, two = (MADE[name](tmp_path, seed=seed) for seed in (1, (1, 1), (1, 2)))
    for stage in ("train", "val", "test"):
        assert equal(drawn(one, stage), drawn(same, stage))
        assert equal(drawn(one, stage), drawn(two, stage)) is (stage != "train"), stage


def test_columns_that_all_tasks_of_a_table_share_are_those_of_the_first_seed() -> None:
    made = partial(datamodules.TableTasks, "sklearn:wine", rows=20, context=12, features=4)
    one, two = (made(draws=DrawOptions(fixed_columns=True), seed=seed) for seed in (1, (1, 2)))
    assert one.cutters["train"].columns.tolist() == two.cutters["train"].columns.tolist()


def test_training_tasks_of_a_cache_file_are_those_of_the_first_seed(tmp_path: Path) -> None:
    def made(name: str, seed: Seed) -> Any:
        options = {"evaluation__val_batches": 2, "evaluation__test_batches": 2}
        cache = CacheOptions(f"{tmp_path}/{name}.pt", batches=2)
        return build(datamodules.SyntheticPairs, batch_size=2, cache=cache, seed=seed, **options)

    one, two, again = made("one", 1), made("two", (1, 2)), made("one", (1, 2))
    for stage in ("train", "val", "test"):
        assert equal(drawn(one, stage), drawn(two, stage))
        assert equal(drawn(one, stage), drawn(again, stage))

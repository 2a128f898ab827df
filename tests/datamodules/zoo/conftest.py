"""A small zoo of the default profile, generated once."""

from pathlib import Path

import pytest

from datamodules.zoo.generate import generate
from datamodules.zoo.zoo_file import Zoo, read_zoo


@pytest.fixture(scope="session")
def zoo_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("zoo") / "zoo.h5", "default", 60, tasks=8, seed=3, steps=20)


@pytest.fixture(scope="session")
def zoo(zoo_path: Path) -> Zoo:
    return read_zoo(zoo_path)

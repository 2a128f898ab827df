"""Goldens: a refactoring changes no number; a change of numerics records them again."""

from pathlib import Path

import pytest
import torch

from tests.goldens.cases import cases
from tests.goldens.record import FOLDER, read

NAMES = [name for name, _ in cases(Path())]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_numbers_are_those_recorded(name: str, tmp_path: Path) -> None:
    found = dict(cases(tmp_path))[name]()
    stored = read(name)
    for key, value in stored.items():
        torch.testing.assert_close(
            found[key].double(), value, rtol=2e-4, atol=2e-5, msg=lambda text, key=key: f"{key}: {text}"
        )


def test_only_a_network_that_reads_the_context_relies_on_it() -> None:
    assert float(read("reliance_blind")["reliance"]) == 0.0
    assert float(read("reliance_reader")["reliance"]) > 0.3


def test_every_golden_is_computed() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(NAMES)

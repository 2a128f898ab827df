"""Benchmark of the zoo: its command line, and its variants."""

from pathlib import Path

import pytest

from benchmarks import zoo, zoo_variants
from tests.test_configs import Parsed

CONFIG = f"--config={Path(__file__).parents[2] / 'configs' / 'zoo.yaml'}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--networks=1"], "networks must be at least 100, got 1"),
        (["--checkpoint=none.ckpt"], "checkpoint: there is no file none.ckpt"),
        (["--original=."], "original: . is no checkout of it"),
        (["--sweep", "--model.attention=Local"], "--model.attention is not to be chosen"),
    ],
)
def test_what_cannot_be_measured_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        zoo.arguments(words)
    assert leaving.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", zoo_variants.LOSSES.values(), ids=zoo_variants.LOSSES)
def test_variants_of_the_loss_are_arguments_of_the_task(words: list[str]) -> None:
    Parsed(["fit", CONFIG, *words])


@pytest.mark.slow
def test_speeds_are_measured() -> None:
    rows = zoo.speeds(100, None)
    assert len(rows) == 5
    assert all(float(row[1].replace(",", "")) > 0 for row in rows)
    text = zoo.table(["a", "b", "c"], rows)
    assert len(text) == 7

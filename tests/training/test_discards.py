"""Options that the class of a command line does not have are named in a warning, none is left out in silence."""

import warnings
from pathlib import Path

import pytest

import datamodules  # noqa: F401  (makes the names of the configuration known)
import tabattn.tasks  # noqa: F401
from tabattn.training.cli import main

MODEL = """\
model:
  class_path: PairInference
  init_args:
    network:
      class_path: TNPD
      init_args: {dim: 8, layers: 2, residual: parallel, centred: true, tokens: {fourier: 3}}
    attention:
      class_path: Local
      init_args: {window: 3, edges: zero}
data:
  class_path: SyntheticPairs
  init_args: {kind: icm, seed: 3}
"""


def said(folder: Path, *words: str) -> list[str]:
    """Warnings of a command line behind the configuration."""
    path = folder / "pairs.yaml"
    path.write_text(MODEL)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with pytest.raises(SystemExit) as left:
            main(["fit", "--config", str(path), *words, "--print_config"])
    assert left.value.code == 0
    return [str(each.message) for each in found if "left out" in str(each.message)]


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ([], []),
        (["--model.network=TNPD"], []),
        (
            ["--model.network=TNPA"],
            ["TNPA takes no residual=parallel, centred=True, which was given for TNPD: left out"],
        ),
        (
            ["--model.network.residual=nearest", "--model.network=TNPA"],
            ["TNPA takes no centred=True, which was given for TNPD: left out"],
        ),
        (
            ["--model.network.norm=before", "--model.network.residual=none", "--model.network=SeedNetwork"],
            ["SeedNetwork takes no centred=True, norm=before, which was given for TNPD: left out"],
        ),
        (
            ["--model.network.norm", "before", "--model.network.residual=none", "--model.network", "SeedNetwork"],
            ["SeedNetwork takes no centred=True, norm=before, which was given for TNPD: left out"],
        ),
        # A default takes nothing away.
        (["--data.kind=const", "--data=SyntheticPrior"], []),
        (["--model.attention=Sparse"], ["Sparse takes no edges=zero, which was given for Local: left out"]),
        (
            ["--data=SyntheticPrior"],
            ["SyntheticPrior takes no kind=icm, which was given for SyntheticPairs: left out"],
        ),
    ],
)
def test_options_that_a_change_of_class_drops_are_said(words: list[str], lines: list[str], tmp_path: Path) -> None:
    assert said(tmp_path, *words) == lines

"""Networks with and without distance bias of ``benchmarks.pairs_sweep``, and its report of them."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks import pairs_sweep
from benchmarks.reports import FOLDER
from datamodules import SyntheticPairs

NAMES = ["no bias", "distance bias", "distance bias, relative values"]


def test_networks_differ_in_the_bias_alone() -> None:
    options = pairs_sweep.arguments(["--biased", "--trainer.accelerator=cpu"])
    assert pairs_sweep.names(options) == NAMES
    given = []
    for name in NAMES:
        cli = pairs_sweep.build(name, 0, options)
        assert isinstance(cli.datamodule, SyntheticPairs)
        assert cli.datamodule.plan.every  # Every size of the context, as in the configuration.
        given.append(dict(cli.model.hparams["network"]["init_args"]))
    tokens = [network.pop("tokens", {}) for network in given]
    assert given[0] == given[1] == given[2]
    assert [(options.get("distances", 0), options.get("relative", False)) for options in tokens] == [
        (0, False),
        (16, False),
        (16, True),
    ]


def test_mechanisms_are_compared_with_one_size_of_the_context() -> None:
    options = pairs_sweep.arguments(["--trainer.accelerator=cpu", "--attentions", "Linear", "Local"])
    assert pairs_sweep.names(options) == ["Linear", "Local"]
    cli = pairs_sweep.build("Linear", 0, options)
    assert not cli.datamodule.plan.every
    assert cli.model.hparams["attention"]["class_path"].endswith("Linear")


@pytest.mark.parametrize("word", ["--model.network.tokens.distances=4", "--model.network.tokens.relative=true"])
def test_the_bias_is_not_to_be_chosen_where_it_is_compared(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert pairs_sweep.arguments([word]).further == [word]
    with pytest.raises(SystemExit):
        pairs_sweep.arguments(["--biased", word])
    assert f"{word.partition('=')[0]} is not to be chosen" in capsys.readouterr().err


def test_the_report_of_the_bias_is_its_own(tmp_path: Path) -> None:
    options = pairs_sweep.arguments(["--biased"])
    assert options.out == FOLDER / "pairs_distances.md"
    assert pairs_sweep.arguments(["--biased", f"--out={tmp_path / 'x.md'}"]).out == tmp_path / "x.md"
    scores = dict.fromkeys([*pairs_sweep.COLUMNS, "ll_oracle", "steps in a second", "MB of a step"], 1.0)
    text = pairs_sweep.report(pd.DataFrame([{"mechanism": name, "seed": 0, **scores} for name in NAMES]), options)
    assert text.startswith(
        "# Distance bias on pairs\n\n`python -m benchmarks.pairs_sweep --steps 1000 --seeds 1 --biased`"
    )
    assert "configs/pairs.yaml`, 1 seeds" in text

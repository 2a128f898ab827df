"""A null on the command line: a line where an argument takes none, None where it does."""

from pathlib import Path

import pytest

import datamodules  # noqa: F401
import tabattn.tasks  # noqa: F401
from tabattn.training.cli import CLI, main

PAIRS = Path(__file__).parents[1] / "configs" / "pairs.yaml"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--data.batch_size=null"], "data.batch_size: expected int, got null"),
        (["--data.points=[null,24]"], "data.points: expected int, got None"),
        (["--data.process=null"], "data.process: expected ProcessOptions, got null"),
        (["--model.network.dim=null"], "model.network.dim: expected int, got null"),
        (
            ["--model.attention=Local", "--model.attention.window=null"],
            "model.attention.window: expected int, got null",
        ),
    ],
)
def test_null_where_an_argument_takes_none(capsys: pytest.CaptureFixture[str], flags: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["fit", f"--config={PAIRS}", "--trainer.accelerator=cpu", *flags])
    assert leaving.value.code == 2
    assert f"error: {said}" in capsys.readouterr().err


def test_null_of_an_option_in_a_group(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("hour,a,b\n" + "".join(f"{row},{row % 5},{row % 7}\n" for row in range(900)))
    data = ["--data=TablePairs", f"--data.path={table}", "--data.columns=[a,b]", "--data.windows.x=null"]
    cli = CLI(["--model=PairInference", *data, "--trainer.accelerator=cpu"], run=False)
    assert cli.config.data.init_args.windows.x is None
    cli = CLI(["--model=PairInference", "--data=SyntheticPairs", "--data.process.eps=null"], run=False)
    assert cli.config.data.init_args.process.eps is None

"""Example tables are reproduced by their scripts, and example scripts run."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from examples import populations, rooms


@pytest.mark.parametrize(
    ("made", "kept"),
    [(rooms.rooms, rooms.PATH), pytest.param(populations.populations, populations.PATH, marks=pytest.mark.slow)],
    ids=["rooms", "populations"],
)
def test_a_table_is_what_its_script_makes(made: Callable[[], pd.DataFrame], kept: Path, tmp_path: Path) -> None:
    made().to_csv(tmp_path / "made.csv", index=False)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "made.csv"), pd.read_csv(kept))


@pytest.mark.parametrize(
    "name", ["prior", "pairs", "reconstruction", "sequence_inferrer", pytest.param("zoo", marks=pytest.mark.slow)]
)
def test_the_script_of_a_task_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With fewer steps, and without a file left behind."""
    monkeypatch.chdir(tmp_path)
    text = (Path(rooms.__file__).parent / f"{name}.py").read_text()
    code, replaced = re.subn(r"^STEPS = \d+$", "STEPS = 2", text, flags=re.MULTILINE)
    assert replaced == 1
    code = re.sub(r"^NETWORKS = \d+$", "NETWORKS = 40", code, flags=re.MULTILINE)
    assert [
        title for title in ("Data", "Train", "Score", "Look at attention", "Predict") if f"# ## {title}" not in text
    ] == []
    exec(compile(code, f"{name}.py", "exec"), {"__name__": "__main__"})
    assert "map (" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())

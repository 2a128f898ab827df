"""The tables of the examples are what their scripts make."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from examples import populations, rooms


@pytest.mark.parametrize(
    ("made", "kept"),
    [(rooms.rooms, rooms.PATH), (populations.populations, populations.PATH)],
    ids=["rooms", "populations"],
)
def test_a_table_is_what_its_script_makes(made: Callable[[], pd.DataFrame], kept: Path, tmp_path: Path) -> None:
    made().to_csv(tmp_path / "made.csv", index=False)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "made.csv"), pd.read_csv(kept))

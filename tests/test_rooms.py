"""The table of the examples is what its script makes."""

from pathlib import Path

import pandas as pd

from examples.rooms import PATH, rooms


def test_the_table_is_what_its_script_makes(tmp_path: Path) -> None:
    rooms().to_csv(tmp_path / "rooms.csv", index=False)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "rooms.csv"), pd.read_csv(PATH))

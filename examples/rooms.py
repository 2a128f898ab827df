"""Generator of ``examples/rooms.csv``, hourly temperatures outside and inside: ``python -m examples.rooms``."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

PATH = Path(__file__).with_name("rooms.csv")
HOURS = 1500
LAG = 6
"""Lag of the room's temperature in hours."""


def rooms(hours: int = HOURS) -> pd.DataFrame:
    """Simulate a room that follows the weather with a lag and half the amplitude, is heated by day, and has gaps."""
    source = np.random.default_rng(0)
    time = pd.date_range("2024-01-01", periods=hours, freq="h")
    hour = time.hour.to_numpy()
    weather = np.cumsum(source.normal(0, 0.35, hours)) + 6 * np.sin(np.arange(hours) / 700)
    outside = weather + 4 * np.sin(2 * np.pi * (hour - 9) / 24) + source.normal(0, 0.3, hours)
    inside = np.empty(hours)
    level = 18.0
    for row in range(hours):
        wanted = 18 + 0.4 * outside[row] + (3 if 7 <= hour[row] < 22 else 0)
        level += (wanted - level) / LAG
        inside[row] = level + source.normal(0, 0.1)
    inside[source.random(hours) < 0.02] = np.nan
    return pd.DataFrame({"time": time, "outside": outside.round(1), "inside": inside.round(1)})


def main() -> None:
    """Write the table."""
    rooms().to_csv(PATH, index=False)
    sys.stdout.write(f"{PATH}: {HOURS} rows\n")


if __name__ == "__main__":
    main()

"""Generator of ``examples/populations.csv``, counts of hares and lynxes: ``python -m examples.populations``."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

PATH = Path(__file__).with_name("populations.csv")
ISLANDS = 300
YEARS = 20.0
STEP = 0.02
"""Time step of the simulation in years."""


def course(source: np.random.Generator) -> NDArray[np.float64]:
    """Simulate the logarithms of both populations, ``(2, steps)``, by noisy Lotka-Volterra equations."""
    births, hunts, deaths = source.uniform(0.8, 1.2), source.uniform(0.8, 1.2), source.uniform(0.6, 1.0)
    states = np.empty((2, round(YEARS / STEP)))
    hares, lynxes = source.normal(0, 0.5, 2)
    for step in range(states.shape[1]):
        states[:, step] = hares, lynxes
        growth = births - hunts * np.exp(lynxes), hunts * np.exp(hares) - deaths
        weather = source.normal(0, 0.1 * STEP**0.5, 2)
        hares, lynxes = np.clip((hares, lynxes) + STEP * np.array(growth) + weather, -3, 3)
    return states


def populations(islands: int = ISLANDS) -> pd.DataFrame:
    """Table of log-counts at irregular times, more of hares than of lynxes."""
    source = np.random.default_rng(0)
    parts = []
    for island in range(islands):
        for name, logarithms, counts in zip(("hares", "lynxes"), course(source), ((14, 21), (8, 15)), strict=True):
            time = np.sort(source.uniform(0, YEARS, source.integers(*counts))).round(2)
            value = np.interp(time, np.arange(len(logarithms)) * STEP, logarithms) + source.normal(0, 0.2, len(time))
            parts.append(pd.DataFrame({"island": island, "animal": name, "year": time, "log_count": value.round(2)}))
    return pd.concat(parts, ignore_index=True)


def main() -> None:
    """Write the table."""
    table = populations()
    table.to_csv(PATH, index=False)
    sys.stdout.write(f"{PATH}: {len(table)} rows\n")


if __name__ == "__main__":
    main()

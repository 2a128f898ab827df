"""``python -m tests.goldens.record [NAME ...]``: compute goldens and write them; without names, all of them."""

import json
import sys
import tempfile
from pathlib import Path

import torch

from tests.goldens.cases import Numbers, cases

FOLDER = Path(__file__).parent / "numbers"


def read(name: str) -> Numbers:
    """Read a golden: tensors by name."""
    stored = json.loads((FOLDER / f"{name}.json").read_text())
    return {key: torch.tensor(values, dtype=torch.float64).reshape(shape) for key, (shape, values) in stored.items()}


def write(name: str, numbers: Numbers) -> None:
    """Write a golden with seven digits of each number."""
    FOLDER.mkdir(exist_ok=True)
    rows = {
        key: [list(value.shape), [float(f"{number:.7g}") for number in value.double().flatten().tolist()]]
        for key, value in numbers.items()
    }
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(row)}" for key, row in rows.items())
    (FOLDER / f"{name}.json").write_text(f"{{\n{lines}\n}}\n")


def main(names: list[str]) -> None:
    """Record the goldens of these names, or all."""
    with tempfile.TemporaryDirectory() as folder:
        known = dict(cases(Path(folder)))
        if unknown := sorted(set(names) - set(known)):
            raise SystemExit(f"no golden is called {unknown[0]}; there are {', '.join(known)}")
        for name in names or known:
            write(name, known[name]())


if __name__ == "__main__":
    main(sys.argv[1:])

"""Records the meta-features of pymfe: ``python -m tests.metafeatures.record``, where pymfe is installed."""

import json
import warnings
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tabattn.metafeatures.features import ORIGINAL
from tests.metafeatures.tables import classification, cut, regression

FILE = Path(__file__).with_name("pymfe.json")
SEED = 1


def record() -> None:
    """Write the values of each table, and the versions that computed them."""
    columns, target = regression()
    found: dict[str, object] = {
        "source": "https://github.com/ealcobaca/pymfe, MIT, groups='all', summary mean and sd, transform_num, float64",
        "seed": SEED,
        "versions": {name: version(name) for name in ("pymfe", "numpy", "scipy", "scikit-learn")},
    }
    for name, table in {**classification(), "regression": (columns, cut(target))}.items():
        extractor = import_module("pymfe.mfe").MFE(
            groups="all", features=list(ORIGINAL), summary=["mean", "sd"], random_state=SEED
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            extractor.fit(*table, transform_num=True)
            names, values = extractor.extract()
        pairs = zip(names, values, strict=True)
        found[name] = {each: float(value) if np.isfinite(value) else None for each, value in pairs}
    FILE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    record()

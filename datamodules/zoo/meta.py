"""Meta-features of the tasks of a zoo."""

import numpy as np
from numpy.typing import NDArray

from datamodules.zoo.tasks import TRAIN, Tasks
from datamodules.zoo.zoo_file import Zoo
from tabattn.metafeatures import NAMES, MetaScaler, get_meta_features

Floats = NDArray[np.float32]


def measured(tasks: Tasks) -> Floats:
    """Meta-features of the training rows of each task, ``(tasks, features)``; NaN = undefined."""
    found = np.full((len(tasks.x), len(NAMES)), np.nan, np.float32)
    for task, (columns, classes) in enumerate(zip(tasks.columns, tasks.classes, strict=True)):
        own = tasks.part[task] == TRAIN
        y = tasks.y[task, own]
        target = y[:, :classes].argmax(1) if classes else y[:, 0]
        made = get_meta_features(
            tasks.x[task, own, :columns], target, task="classification" if classes else "regression"
        )
        found[task] = np.where(made.valid, made.values, np.nan)
    return found


def known(zoo: Zoo) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Meta-features of each task of a zoo, and whether each is defined; measured anew if a file has others."""
    values = zoo.meta if zoo.names == tuple(NAMES) else measured(zoo.tasks)
    valid = np.isfinite(values)
    return np.where(valid, values, 0).astype(np.float64), valid


def scaler_of(zoo: Zoo, training: NDArray[np.integer]) -> MetaScaler:
    """Scaler of meta-features by those of some tasks, whose numbers are given."""
    values, valid = known(zoo)
    return MetaScaler.fit(values[training], valid[training])


def scaled(zoo: Zoo, scaler: MetaScaler) -> Floats:
    """Scaled meta-features of each task, ``(tasks, features)``; 0 where undefined."""
    return scaler(*known(zoo))

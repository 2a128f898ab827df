"""Files of fitted estimators: tensors and plain values only, so that loading runs no code of the file."""

from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from tabattn.prior.estimator import header_check
from tabattn.prior.estimator.arguments import check_arguments
from tabattn.prior.weights import described, read, restore, write
from tabattn.storage import table_headers

if TYPE_CHECKING:
    from tabattn.prior.estimator.classifier import TabularClassifier

PARAMETERS = ("n_estimators", "average", "temperature", "max_context", "chunk_rows", "plain", "cache", "kernel_weight")
"""Arguments that are saved; device and dtype are not, as they depend on the machine."""


def save(estimator: "TabularClassifier", path: str | Path) -> None:
    """Save a fitted estimator; see ``TabularClassifier.save``."""
    tensors, network = described(estimator.network_)
    tensors |= {"table.x": torch.from_numpy(estimator.x_), "table.y": torch.from_numpy(estimator.y_)}
    seed = estimator.random_state
    run = check_arguments(estimator.get_params(deep=False))
    given = {name: getattr(estimator, name) for name in PARAMETERS}
    header = {
        "network": network,
        "parameters": given | {"n_estimators": run.members, "kernel_weight": run.kernel_weight},
        "random_state": seed if isinstance(seed, Integral) else None,
        "seed": estimator.seed_,
        "labels": table_headers.plain_labels(estimator.classes_),
        **table_headers.plain_encoder(estimator),
    }
    write(path, tensors, header)


def load(cls: "type[TabularClassifier]", path: str | Path, device: str | torch.device) -> "TabularClassifier":
    """Load a fitted estimator; see ``TabularClassifier.load``."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    tensors, header = read(path)
    network = restore(tensors, header, str(path))
    try:
        parameters = header_check.checked_parameters(header["parameters"], PARAMETERS)
        seed = header["random_state"]
        if seed is not None:
            table_headers.whole("random_state", seed, 0, table_headers.SEEDS - 1)
        estimator = cls(network, **parameters, device=device, random_state=seed)
        estimator.network_ = network
        estimator.seed_ = table_headers.whole("seed", header["seed"], 0, table_headers.SEEDS - 1)
        estimator.classes_ = table_headers.labels(header["labels"])
        estimator.encoder_ = table_headers.encoder(header).set_params(keep_constant=estimator.plain)
        estimator.n_features_in_ = header["columns"]
        if hasattr(estimator.encoder_, "feature_names_in_"):
            estimator.feature_names_in_ = estimator.encoder_.feature_names_in_
        estimator.x_, estimator.y_ = tensors["table.x"].numpy(), tensors["table.y"].numpy()
        _check_fit(estimator)
    except (KeyError, TypeError, ValueError, OverflowError) as ex:
        raise ValueError(f"{path} holds no estimator that fits together: {ex}") from ex
    return estimator


def _check_fit(estimator: "TabularClassifier") -> None:
    """Raise ValueError if the table does not match the labels or the encoder."""
    x, y = estimator.x_, estimator.y_
    width = max(1, len(estimator.encoder_.columns_))
    if x.ndim != 2 or x.shape[1] != width or y.shape != (len(x),) or x.dtype != np.float64 or y.dtype != np.int64:
        raise ValueError(f"the table has shapes {x.shape} and {y.shape}, the encoder {width} columns")
    if np.isinf(x).any():
        raise ValueError("the table holds infinite cells")
    for column, entry in enumerate(estimator.encoder_.categories_):
        codes = x[~np.isnan(x[:, column]), column]
        if entry is not None and not np.isin(codes, np.arange(len(entry))).all():
            raise ValueError(f"the table's column {column} holds codes of no category")
    check_arguments(estimator.get_params(deep=False))
    if not np.array_equal(np.unique(y), np.arange(len(estimator.classes_))):
        raise ValueError(f"the rows' labels are not those of {len(estimator.classes_)} classes")

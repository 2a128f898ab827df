"""Files of fitted estimators: tensors and plain values only, so that loading runs no code of the file."""

from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from tabattn.contract.columns import TableEncoder
from tabattn.prior.estimator import header_check
from tabattn.prior.estimator.arguments import check_arguments
from tabattn.prior.weights import described, read, restore, write

if TYPE_CHECKING:
    from tabattn.prior.estimator.classifier import TabularClassifier

PARAMETERS = ("n_estimators", "average", "temperature", "max_context", "chunk_rows", "cache")
"""Arguments that are saved; device and dtype are not, as they depend on the machine."""


def save(estimator: "TabularClassifier", path: str | Path) -> None:
    """Save a fitted estimator; see ``TabularClassifier.save``."""
    tensors, network = described(estimator.network_)
    tensors |= {"table.x": torch.from_numpy(estimator.x_), "table.y": torch.from_numpy(estimator.y_)}
    encoder = estimator.encoder_
    seed = estimator.random_state
    header = {
        "network": network,
        "parameters": {name: getattr(estimator, name) for name in PARAMETERS},
        "random_state": seed if isinstance(seed, Integral) else None,
        "seed": estimator.seed_,
        "labels": _plain_labels(estimator.classes_),
        "columns": estimator.n_features_in_,
        "names": [str(name) for name in getattr(estimator, "feature_names_in_", ())] or None,
        "kept": encoder.columns_.tolist(),
        "categories": encoder.categories_,
        "readings": [reading.plain() for reading in encoder.readings_],
    }
    write(path, tensors, header)


def load(cls: "type[TabularClassifier]", path: str | Path, device: str | torch.device) -> "TabularClassifier":
    """Load a fitted estimator; see ``TabularClassifier.load``."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    tensors, header = read(path)
    network = restore(tensors, header, str(path))
    try:
        header_check.check_parameters(header["parameters"], PARAMETERS)
        seed = header["random_state"]
        if seed is not None:
            header_check.whole("random_state", seed, 0, header_check.SEEDS - 1)
        estimator = cls(network, **header["parameters"], device=device, random_state=seed)
        estimator.network_ = network
        estimator.seed_ = header_check.whole("seed", header["seed"], 0, header_check.SEEDS - 1)
        estimator.classes_ = header_check.labels(header["labels"])
        estimator.encoder_ = _encoder(header)
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


def _encoder(header: dict[str, Any]) -> TableEncoder:
    encoder = TableEncoder()
    columns = header_check.whole("columns", header["columns"], 1, 2**31)
    encoder.n_features_in_ = columns
    names = header_check.names(header["names"], columns)
    if names is not None:
        encoder.feature_names_in_ = names
    encoder.columns_ = header_check.kept_columns(header["kept"], columns)
    categories = header_check.categories(header["categories"], len(encoder.columns_))
    encoder.readings_ = header_check.readings(header.get("readings"), categories)
    return encoder


def _plain_labels(classes: NDArray[Any]) -> dict[str, Any]:
    """Labels as plain values, from which equal labels are restored."""
    text = classes.dtype == object and all(isinstance(label, str) for label in classes)
    if classes.dtype.kind not in "biufU" and not text:
        raise ValueError(f"labels must be numbers, truth values or text to be saved, got type {classes.dtype}")
    return {"dtype": "object" if text else classes.dtype.str, "values": classes.tolist()}

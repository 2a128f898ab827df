"""Files of fitted estimators: tensors and plain values only, so that loading runs no code of the file."""

from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from tabattn.prior.estimator import header_check
from tabattn.prior.estimator.arguments import STACKED
from tabattn.prior.weights import described, read, restore, write
from tabattn.storage import table_headers

if TYPE_CHECKING:
    from tabattn.prior.estimator.predictor import TabularPredictor

Loaded = TypeVar("Loaded", bound="TabularPredictor")


def save(estimator: "TabularPredictor", path: str | Path) -> None:
    """Save a fitted estimator; see ``TabularPredictor.save``."""
    tensors, network = ({}, None) if estimator.network_ is None else described(estimator.network_)
    tensors |= {"table.x": torch.from_numpy(estimator.x_), "table.y": torch.from_numpy(estimator.y_)}
    seed = estimator.random_state
    run = estimator.checked_run()
    given = {name: getattr(estimator, name) for name in estimator.saved}
    header = {
        "network": network,
        "parameters": given
        | {"n_estimators": run.members, "kernel_weight": STACKED if run.stacked else run.kernel_weight},
        "random_state": seed if isinstance(seed, Integral) else None,
        "seed": estimator.seed_,
        **estimator.described_targets(),
        **table_headers.plain_encoder(estimator),
    }
    write(path, tensors, header)


def load(cls: type[Loaded], path: str | Path, device: str | torch.device) -> Loaded:
    """Load a fitted estimator; see ``TabularPredictor.load``."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    tensors, header = read(path)
    unused = cls.may_lack_network and "network" in header and header["network"] is None
    network = None if unused else restore(tensors, header, str(path))
    try:
        parameters = header_check.checked_parameters(header["parameters"], cls.saved, cls.added)
        seed = header["random_state"]
        if seed is not None:
            table_headers.whole("random_state", seed, 0, table_headers.SEEDS - 1)
        if network is not None:
            cls.checked_network(network)
        estimator = cls(network, **parameters, device=device, random_state=seed)
        estimator.network_ = network
        estimator.seed_ = table_headers.whole("seed", header["seed"], 0, table_headers.SEEDS - 1)
        estimator.encoder_ = table_headers.encoder(header).set_params(keep_constant=getattr(estimator, "plain", False))
        estimator.n_features_in_ = header["columns"]
        if hasattr(estimator.encoder_, "feature_names_in_"):
            estimator.feature_names_in_ = estimator.encoder_.feature_names_in_
        estimator.x_, estimator.y_ = tensors["table.x"].numpy(), tensors["table.y"].numpy()
        _check_fit(estimator)
        estimator.restore_targets(header)
    except (KeyError, TypeError, ValueError, OverflowError) as ex:
        raise ValueError(f"{path} holds no estimator that fits together: {ex}") from ex
    return estimator


def _check_fit(estimator: "TabularPredictor") -> None:
    """Raise ValueError if the table does not match the encoder, or an argument is invalid."""
    x, y = estimator.x_, estimator.y_
    width = max(1, len(estimator.encoder_.columns_))
    if x.ndim != 2 or x.shape[1] != width or y.shape != (len(x),):
        raise ValueError(f"the table has shapes {x.shape} and {y.shape}, the encoder {width} columns")
    if x.dtype != np.float64 or y.dtype != estimator.target_type:
        expected = np.dtype(estimator.target_type)
        raise ValueError(f"the table has the types {x.dtype} and {y.dtype}, not float64 and {expected}")
    if np.isinf(x).any():
        raise ValueError("the table holds infinite cells")
    for column, entry in enumerate(estimator.encoder_.categories_):
        codes = x[~np.isnan(x[:, column]), column]
        if entry is not None and not np.isin(codes, np.arange(len(entry))).all():
            raise ValueError(f"the table's column {column} holds codes of no category")
    estimator.checked_run()

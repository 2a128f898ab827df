"""Files of fitted ``SequenceInferrer``: tensors and plain values only, so that loading runs no code of the file."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from datamodules.pairs.options import Augmentation, WindowOptions
from tabattn.attention import MECHANISMS, Softmax
from tabattn.pairs.estimator.arguments import check_arguments, layout_of
from tabattn.pairs.estimator.observed import Layout, LongOptions
from tabattn.pairs.estimator.settings import DEFAULT_SETTINGS, InferrerSettings
from tabattn.pairs.weights import ATTENTIONS, PREFIX, SHIPPED, arguments_of, build
from tabattn.storage import table_headers
from tabattn.storage.hyperparameters import plain
from tabattn.storage.weight_files import read, write

if TYPE_CHECKING:
    from tabattn.pairs.estimator.inferrer import SequenceInferrer

KIND = "tabattn.pairs.estimator"
"""Kind of these files, in their metadata."""

PARAMETERS = ("infer", "context", "max_steps", "max_time", "patience", "validation_fraction")
"""Arguments that are saved as they are."""

SETTINGS = ("regimes", "scored", "scheduled_sampling", "batch_size", "validate_every", "decay", "clip")
"""Settings that are saved as they are; beside them the network, where it began, and augmentation, not the optimizer."""

LAYOUTS: dict[str, type[WindowOptions | LongOptions]] = {"wide": WindowOptions, "long": LongOptions}

LEVELS = ("sequence", "task")
"""Which mean a network of synthetic tasks expects to be subtracted."""


def starting(settings: InferrerSettings, source: str | Path) -> InferrerSettings:
    """Settings of a training that starts from these weights."""
    return replace(settings, init_from=str(source))


def level_of(facts: Mapping[str, Any]) -> str:
    """Which mean a network of synthetic tasks expects to be subtracted, from the header of its file."""
    level = facts.get("level", "task")
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {str(level)[:40]!r}")
    return str(level)


def save(estimator: "SequenceInferrer", path: str | Path) -> None:
    """Save a fitted estimator."""
    layout = layout_of(estimator.layout)
    kind = next(name for name, cls in LAYOUTS.items() if isinstance(layout, cls))
    settings = estimator.settings or DEFAULT_SETTINGS
    seed = estimator.random_state
    header = {
        "estimator": type(estimator).__name__,
        "parameters": {name: plain(getattr(estimator, name)) for name in PARAMETERS},
        "layout": {"kind": kind, "options": plain(layout)},
        "network": estimator.described_,
        "settings": {name: plain(getattr(settings, name)) for name in SETTINGS},
        "augmentation": plain(settings.augmentation),
        "init_from": settings.init_from if settings.init_from in SHIPPED else None,
        "random_state": seed if isinstance(seed, Integral) else None,
        "seed": estimator.seed_,
        "names": estimator.names_,
        "mean": estimator.mean_,
        "std": estimator.std_,
        "level": estimator.level_,
        "unit": estimator.unit_,
        "shown": estimator.context_,
        "scores": estimator.validation_scores_,
    }
    write(path, {PREFIX + name: value for name, value in estimator.network_.state_dict().items()}, header, KIND)


def load(cls: "type[SequenceInferrer]", path: str | Path, device: str | torch.device) -> "SequenceInferrer":
    """Load a fitted estimator; see ``SequenceInferrer.load``."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    tensors, header = read(path, KIND)
    if header.get("estimator") != cls.__name__:
        raise ValueError(f"{path} holds no {cls.__name__}, but {str(header.get('estimator'))[:40]!r}")
    with _refusing(path):
        weights = {name.removeprefix(PREFIX): value for name, value in tensors.items()}
        network = build(header["network"], weights, str(path))
        made = cls(device=device, **_parameters(header, str(path)))
        check_arguments(made.get_params(deep=False))
        made.network_, made.described_ = network, header["network"]
        made.seed_ = table_headers.whole("seed", header["seed"], 0, table_headers.SEEDS - 1)
        shown = header["shown"]
        made.context_ = None if shown is None else table_headers.whole("shown", shown, 1, 2**31)
        made.validation_scores_ = [float(score) for score in header["scores"]]
        made.level_ = None if header["level"] is None else level_of(header)
        made.unit_ = None if header["unit"] is None else _positive("unit", header["unit"])
        _restore_units(made, header)
    return made


@contextmanager
def _refusing(path: str | Path) -> Iterator[None]:
    """Context in which parts of a file that do not fit together are one ValueError that names the file."""
    try:
        yield
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError, AttributeError) as ex:
        raise ValueError(f"{path} holds no estimator that fits together: {' '.join(str(ex).split())}") from ex


def _parameters(header: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Arguments of the constructor."""
    given = header["parameters"]
    if not isinstance(given, dict) or set(given) != set(PARAMETERS):
        raise ValueError(f"its parameters must be {', '.join(PARAMETERS)}, got {list(given)[:9]}")
    infer = given["infer"]
    if not (infer is None or isinstance(infer, str) or all(isinstance(name, str) for name in infer)):
        raise ValueError(f"infer must be names of sequences, got {str(infer)[:40]!r}")
    network, options = arguments_of(header["network"], where)
    attention = options.get("attention") or Softmax
    if isinstance(attention, partial) and not attention.keywords and attention.func in MECHANISMS.values():
        attention = attention.func.__name__
    options = {name: value for name, value in options.items() if name not in (*ATTENTIONS, "members")}
    start = header["init_from"]
    if start is not None and start not in SHIPPED:
        raise ValueError(f"init_from must be one of {', '.join(SHIPPED)}, got {str(start)[:40]!r}")
    seed = header["random_state"]
    if seed is not None:
        table_headers.whole("random_state", seed, 0, table_headers.SEEDS - 1)
    return {
        **given,
        "infer": tuple(infer) if isinstance(infer, list) else infer,
        "layout": _layout(header["layout"]),
        "attention": attention,
        "settings": InferrerSettings(
            network=partial(network, **options),
            init_from=start,
            augmentation=Augmentation(**header["augmentation"]),
            **_settings(header["settings"]),
        ),
        "random_state": seed,
    }


def _settings(given: Any) -> dict[str, Any]:
    """Settings that are saved as they are, each of the type of its default."""
    if not isinstance(given, dict) or set(given) != set(SETTINGS):
        raise ValueError(f"its settings must be {', '.join(SETTINGS)}, got {list(given)[:9]}")
    for name in SETTINGS[1:]:
        default = getattr(DEFAULT_SETTINGS, name)
        if type(given[name]) is not type(default) and not (type(default) is float and type(given[name]) is int):
            raise ValueError(f"{name} must be of the type {type(default).__name__}, got {str(given[name])[:40]!r}")
    return {**given, "regimes": tuple(map(str, given["regimes"]))}


def _layout(given: Any) -> Layout:
    cls = LAYOUTS[given["kind"]]
    options, known = given["options"], {field.name: field.type for field in fields(cls)}
    if set(options) != set(known):
        raise ValueError(f"its layout must have {', '.join(known)}, got {list(options)[:9]}")
    for name, value in options.items():
        if not isinstance(value, (str, int, float, bool, type(None))):
            raise ValueError(f"layout.{name} must be a plain value, got {str(value)[:40]!r}")
    return cls(**options)


def _restore_units(made: "SequenceInferrer", header: Mapping[str, Any]) -> None:
    """Set names, means and standard deviations of the sequences, all of them or none."""
    parts = [header[name] for name in ("names", "mean", "std")]
    if parts == [None] * 3 and made.level_ is not None:
        made.names_ = made.mean_ = made.std_ = None
        return
    names, mean, std = parts
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("its sequences must have names")
    if not 0 < len(names) == len(set(names)) == len(mean) == len(std) <= made.network_.members:
        raise ValueError(f"it has {len(names)} sequences of {made.network_.members}, which do not fit its units")
    made.names_, made.std_ = tuple(names), tuple(_positive("std", value) for value in std)
    made.mean_ = tuple(map(float, mean))
    if not all(map(math.isfinite, made.mean_)):
        raise ValueError("a mean is not finite")


def _positive(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be above 0 and finite, got {str(value)[:40]!r}")
    return float(value)

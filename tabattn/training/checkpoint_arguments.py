"""``--ckpt_path``: resolving the file, and merging its hyperparameters into the configuration."""

from collections.abc import Iterator, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info

from tabattn.contract.errors import DataError, one_line
from tabattn.storage import earlier, trusted
from tabattn.storage.checkpoint_files import read
from tabattn.storage.checkpoints import located
from tabattn.training.parser import debugging, tidy
from tabattn.training.resumed import resumed
from tabattn.training.runs import path_of


def with_hyperparameters(parser: ArgumentParser, config: Namespace, words: Sequence[str]) -> Namespace:
    """Merge the hyperparameters of the checkpoint of ``--ckpt_path`` into the model's configuration.

    Args:
        parser: Parser of the command line, which reports wrong arguments.
        config: Parsed configuration, with its subcommand.
        words: The command line. Flags for another model, or another class of optimizer, are refused as wrong arguments.

    Returns:
        The merged configuration; unchanged without a checkpoint.

    Raises:
        DataError: The checkpoint is damaged, or its hyperparameters are unknown.
    """
    subcommand = config.get("subcommand")
    options = config.get(subcommand) if subcommand else None
    if options is None or options.get("ckpt_path") is None:
        return config
    if not options.ckpt_path.strip():
        parser.error("ckpt_path: expected the path of a checkpoint, best, last or hpc, got nothing")
    before = dict(_model_arguments(options))
    try:
        options.ckpt_path = str(located(options.ckpt_path, _own_checkpoints(options), options.trainer))
        checkpoint = read(options.ckpt_path)
    except ValueError as ex:
        parser.error(f"ckpt_path: {ex}")
    except DataError as ex:
        raise DataError(f"ckpt_path: {ex}") from ex
    if subcommand == "fit" and "optimizer_states" not in checkpoint:
        parser.error(
            "ckpt_path: the checkpoint holds weights alone, no training to go on with; "
            "to start from its weights use --model.init_from"
        )
    if model := _model_of(parser, options.model, checkpoint.get("hyper_parameters", {})):
        config = _merged(parser, config, {subcommand: {"model": model}})
    after = dict(_model_arguments(config[subcommand]))
    changed = sorted(key for key, value in after.items() if before.get(key) != value)
    if refused := sorted(flags_of(words).intersection(changed)):
        parser.error(
            f"ckpt_path: the checkpoint has another {', '.join(refused)} than the command line; "
            "to start a different model from its weights use --model.init_from"
        )
    task = trusted.resolve(config[subcommand].model.class_path, LightningModule)
    derived = {f"model.{name}" for name in getattr(task, "facts", ())}
    for key in changed:
        if key in derived and before.get(key) is None:
            continue  # None leaves it to the data, of which a training derived it.
        old, new = trusted.shortened(after[key]), trusted.shortened(before.get(key))
        rank_zero_info(f"{key} of the checkpoint: {old} (configuration: {new})")
    return _with_settings(parser, config, checkpoint, words) if subcommand == "fit" else config


def _with_settings(
    parser: ArgumentParser, config: Namespace, checkpoint: dict[str, Any], words: Sequence[str]
) -> Namespace:
    """Merge optimizer and schedule of the checkpoint, as changed by flags, into the configuration; print changes."""
    commands = parser._subcommands_action
    assert commands is not None
    goes_on = resumed(checkpoint, config["fit"], commands._name_parser_map["fit"].get_defaults(), words)
    if goes_on.problem is not None:
        parser.error(goes_on.problem)
    for part in goes_on.parts:
        # Arguments that the checkpoint lacks take the defaults of their class, not values of the configuration.
        config["fit"][part] = None
    for line in goes_on.lines:
        rank_zero_info(line)
    return _merged(parser, config, {"fit": goes_on.parts}) if goes_on.parts else config


def leave_init_from_aside(parser: ArgumentParser, model: Namespace, flags: set[str]) -> None:
    """Drop ``init_from`` of the configuration, as the checkpoint holds all weights; as a flag it is refused."""
    if source := model.get("init_args.init_from"):
        if "model.init_from" in flags:
            parser.error(
                "ckpt_path: the checkpoint brings all weights, none would be left of --model.init_from: "
                "give only one of the two"
            )
        model.init_args.init_from = None
        rank_zero_info(f"init_from of the configuration is left aside for the weights of ckpt_path: {source}")


def run_names(model: Namespace) -> dict[str, str]:
    """Names in the path of a run: ``task`` and ``attention``.

    ``attention`` is the class name of the mechanism, after that of the network where it is not the task's default one:
    ``Softmax``, ``TNPA-Softmax``. A part that the task has no argument for is left out.

    Args:
        model: Configuration of the task.
    """
    task_class = trusted.resolve(model.class_path, LightningModule)
    default = signature(task_class).parameters.get("network")
    network, attention = (_class_name(model.get(f"init_args.{part}")) for part in ("network", "attention"))
    if default is not None and network == getattr(default.default, "__name__", None):
        network = ""
    return {
        "task": getattr(task_class, "task_name", task_class.__name__.lower()),
        "attention": "-".join(name for name in (network, attention) if name),
    }


def _class_name(described: Namespace | None) -> str:
    """Class name in a configuration's description of an object; empty without one."""
    return described.class_path.rpartition(".")[2] if described else ""


def flags_of(words: Sequence[str]) -> set[str]:
    """Return the flags of a command line in their usual short form, such as ``model.attention.window``."""
    return {short(word.partition("=")[0].removeprefix("--")) for word in words}


def short(key: str) -> str:
    """Shorten a configuration key to its usual flag."""
    return ".".join(word for word in key.split(".") if word not in {"init_args", "class_path"})


def _model_of(parser: ArgumentParser, model: Namespace, hparams: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of the model by a checkpoint's hyperparameters."""
    given = {name: value for name, value in hparams.items() if name != "_instantiator"}
    named = given.pop("_class_path", None)
    if named is None:
        return given
    own = trusted.resolve(model.class_path, LightningModule)
    try:
        found = trusted.resolve(named, LightningModule)
    except ValueError as ex:
        raise DataError(f"ckpt_path: task of the checkpoint: {ex}") from ex
    if found is not own:
        parser.error(f"ckpt_path: the checkpoint is one of {named}, the model is {model.class_path}")
    if earlier.is_earlier(own, given):
        rank_zero_info("ckpt_path: arguments of an earlier version are taken as those of today")
    try:
        given = earlier.upgraded(own, given)
    except ValueError as ex:
        raise DataError(f"ckpt_path: hyperparameters of the checkpoint: {ex}") from ex
    free = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature(own).parameters.values())
    return {"class_path": model.class_path, "dict_kwargs" if free else "init_args": given}


def _merged(parser: ArgumentParser, config: Namespace, changes: dict[str, Any]) -> Namespace:
    """Merge arguments of the checkpoint into the configuration, and parse the result."""
    leaves, parser.exit_on_error = parser.exit_on_error, False
    try:
        return parser.parse_object(changes, config)
    except (ArgumentError, ValueError, TypeError, LookupError, AttributeError) as ex:
        if debugging():
            raise
        raise DataError(f"ckpt_path: hyperparameters of the checkpoint: {one_line(tidy(str(ex)))}") from ex
    finally:
        parser.exit_on_error = leaves


def _own_checkpoints(options: Namespace) -> Path | None:
    """Folder of this run's checkpoints, if flags name it; None if it is the next free version."""
    if options.checkpoint.dirpath is not None:
        return Path(options.checkpoint.dirpath)
    if options.run.version is None:
        return None
    name = path_of(options.run.name, run_names(options.model))
    return Path(options.run.root, name, options.run.version, "checkpoints")


def _model_arguments(options: Namespace) -> Iterator[tuple[str, Any]]:
    """Yield the model's arguments, named by their flags."""
    for key, value in options.model.items():
        yield short(f"model.{key}"), value

"""Command-line interface: any task on any datamodule, with any mechanism, optimizer and schedule."""

import os
import sys
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import (
    ArgsType,
    LightningArgumentParser,
    LightningCLI,
    LRSchedulerTypeUnion,
)
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_info
from torch.optim import Optimizer

from tabattn.contract.errors import DataError
from tabattn.contract.library_warnings import ordinary_runs, overridden_optimizers, without_advertisements
from tabattn.optim.divergence import DivergenceGuard
from tabattn.optim.schedule import with_schedule
from tabattn.optim.schedule_free import ScheduleFree, check_schedule
from tabattn.optim.settings import OptimizerSettings
from tabattn.storage.checkpoints import LastCheckpoint, OwnPaths
from tabattn.storage.class_paths import guard
from tabattn.storage.resumption import Resumption
from tabattn.task import Task
from tabattn.training.checkpoint_arguments import flags_of, leave_init_from_aside, run_names, with_hyperparameters
from tabattn.training.checkpoint_io import install
from tabattn.training.checks import check_filenames, check_loggers, check_nulls
from tabattn.training.commands import closing, going_on
from tabattn.training.configurations import two_tasks, with_packaged
from tabattn.training.discards import said_of
from tabattn.training.help import DESCRIPTIONS, answer, asked, needed, parser_kwargs
from tabattn.training.parser import Parser, debugging, split_allowed
from tabattn.training.predictions import FOLDER as PREDICTIONS
from tabattn.training.predictions import Predictions
from tabattn.training.resumed import PARTS, any_asked, as_dict
from tabattn.training.run_files import SavedConfig
from tabattn.training.runs import RunFolder, home_of, made_folder, path_of
from tabattn.training.signals import Interrupted, Interruption, Watch, take_over
from tabattn.training.status import constructor_error, status_of, thread_fault

WATCH = Watch()
"""Signal handler of this process."""


class CLI(LightningCLI):
    """LightningCLI that builds and runs what a configuration describes.

    Args:
        args: Command line, as a list of strings or a nested dictionary; None = that of the process.
        run: Whether the arguments name a subcommand, which the constructor runs. With False they name none, and objects
            are only built.
        callbacks: Further callbacks, which no configuration names.

    Raises:
        SystemExit: The arguments are wrong (status 2).
    """

    def __init__(self, args: ArgsType = None, *, run: bool = True, callbacks: Sequence[Callback] = ()) -> None:
        words, self.packages = split_allowed(sys.argv[1:] if args is None else args)
        words = with_packaged(words)
        self.needed = needed(words, self.subcommands()) if run else []
        with guard(self.packages):
            super().__init__(
                parser_class=Parser,
                parser_kwargs=parser_kwargs(),
                save_config_callback=SavedConfig,
                seed_everything_default=0,
                # Datamodules distribute batches over ranks themselves; Lightning's sampler would do so again, and pad.
                trainer_defaults={
                    "use_distributed_sampler": False,
                    "callbacks": [OwnPaths(), ScheduleFree(), Predictions(), *callbacks],
                },
                args=words,
                run=run,
            )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_class_arguments(RunFolder, "run")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(DivergenceGuard, "guard")
        parser.add_optimizer_args()
        parser.add_lr_scheduler_args()
        parser.set_defaults(
            {
                "checkpoint.filename": "best",
                "checkpoint.enable_version_counter": False,
                "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
                "lr_scheduler": {"class_path": "tabattn.optim.WarmupCosine"},
            }
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        if isinstance(args, list) and (question := asked(args)):
            self._explain(parser, args, *question)
        # Not the base class's method: called from Python, it warns of arguments of the process, such as pytest's.
        if isinstance(args, (dict, Namespace)):
            self.config = parser.parse_object(args)
        else:
            if isinstance(args, list) and (problem := two_tasks(args)):
                parser.error(problem)
            with said_of(args if isinstance(args, list) else []):
                self.config = parser.parse_args(args)
        self.given = args if isinstance(args, list) else []

    def _explain(self, parser: LightningArgumentParser, words: list[str], key: str, name: str | None) -> None:
        """Print the help of an argument, and exit."""
        try:
            text = answer(self._subcommand_parsers[self.needed[0]] if self.needed else parser, words, key, name)
        except ValueError as ex:
            parser.error(str(ex))
        if text is None:
            parser.error(f"unrecognized arguments: --{key}.help")
        sys.stdout.write(f"{text}\n")
        parser.exit(0)

    def before_instantiate_classes(self) -> None:
        if self._get(self.config, "ckpt_path"):
            leave_init_from_aside(self.parser, self._get(self.config, "model"), self._flags())
        try:
            for part in ("model", "data"):
                check_nulls(part, self._get(self.config, part))
        except ValueError as ex:
            self.parser.error(str(ex))
        if self.subcommand in (None, "fit"):
            default = self._parser(self.subcommand).get_defaults().lr_scheduler
            named = any(flag.split(".")[0] == "lr_scheduler" for flag in self._flags())
            config = self.config[self.subcommand] if self.subcommand else self.config
            check_schedule(config, named or config.lr_scheduler != default)

    def instantiate_classes(self) -> None:
        """Instantiate task, datamodule and trainer; an error of a constructor is reported as wrong use (status 2)."""
        try:
            super().instantiate_classes()
        except (ValueError, MisconfigurationException) as ex:
            cause = constructor_error(ex)
            if debugging() or not isinstance(cause, (ValueError, MisconfigurationException)):
                raise cause from None
            self.parser.error(str(cause))
        finally:
            if not hasattr(self, "trainer") and (run := self._run()):
                run.discard()

    def _run(self) -> RunFolder | None:
        """Run folder; None before the arguments are instantiated."""
        return cast("RunFolder", self._get(self.config_init, "run")) if hasattr(self, "config_init") else None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self._get(self.config_init, "trainer")
        # Neither of these logs anything or saves checkpoints.
        trial = config.fast_dev_run or config.barebones
        if default_loggers := config.logger in (None, True) and not trial:
            kwargs["logger"] = False
        elif (config.logger is False or config.barebones) and config.default_root_dir is None:
            self.save_config_callback = None
        keeps_checkpoints = config.enable_checkpointing is not False and not trial
        if not keeps_checkpoints:
            self._parser(self.subcommand).callback_keys.remove("checkpoint")
        trainer = super().instantiate_trainer(**kwargs)
        install(trainer)
        check_filenames(trainer)
        if self.subcommand == "fit" and self._get(self.config, "ckpt_path") is None:
            check_loggers(trainer)
        # First of the callbacks, as any other may save a checkpoint in its hooks.
        described = {part: as_dict(self._get(self.config, part)) for part in PARTS}
        settings = OptimizerSettings(described, asked=any_asked(self.given))
        cast("Any", trainer).callbacks[:0] = [settings, Resumption()]
        last = None
        if keeps_checkpoints:
            # After the user's ModelCheckpoint, which must stay first: ``--ckpt_path best`` refers to the first one.
            last = LastCheckpoint(fresh=self.subcommand == "fit" and self._get(self.config, "ckpt_path") is None)
            cast("Any", trainer).callbacks.append(last)
        # Last of the callbacks, so that the others have recorded the step before it is saved.
        command = partial(going_on, self.given, self.packages)
        interruption = Interruption(WATCH, last, command, on_fault=take_over(trainer))
        cast("Any", trainer).callbacks.append(interruption)
        interruption.siblings.watch(trainer)
        if default_loggers and self.subcommand is not None:
            # Not earlier: only a run that can start gets a folder.
            trainer.loggers = self._loggers(self._get(self.config_init, "run"))
        folder = self._get(self.config, "checkpoint").dirpath
        if self.subcommand == "fit" and keeps_checkpoints and folder is not None:
            with made_folder(self.parser, "checkpoint.dirpath", folder):
                os.makedirs(folder, exist_ok=True)
        return trainer

    def _loggers(self, run: RunFolder) -> list[Logger]:
        """Claim the run folder; a test or prediction without flags for it is put below the run of its checkpoint."""
        assert self.subcommand is not None
        checkpoint = self._get(self.config, "ckpt_path")
        run.name = path_of(run.name, run_names(self._get(self.config, "model")))
        placed = self._flags() & {"run.root", "run.name", "run.version"}
        home = None if placed or self.subcommand == "fit" else home_of(checkpoint)
        once = PREDICTIONS if self.subcommand == "predict" else None
        with made_folder(self.parser, "run", *((run.root, run.name) if home is None else (str(home),))):
            return run.loggers(run.name, checkpoint, once, self.subcommand, home)

    def _run_subcommand(self, subcommand: str) -> None:
        """Run the subcommand, print where its files are, and unlock the run folder; a refused run leaves no folder."""
        run = self._get(self.config_init, "run")
        try:
            with ordinary_runs(bool(self._get(self.config, "ckpt_path"))):
                super()._run_subcommand(subcommand)
            if run.folder is not None and self.trainer.is_global_zero:
                # Other ranks may have chosen a later number, whose folder there is not.
                rank_zero_info(closing(subcommand, run.folder, self.packages, self.trainer))
        except (DataError, MisconfigurationException, SystemExit):
            run.discard()
            raise
        finally:
            run.release()

    def _add_configure_optimizers_method_to_model(self, subcommand: str | None) -> None:
        """Replace the task's default optimizer by the command line's, without Lightning's warning about it.

        First the callbacks check the task, before any data is made, and the task checks the data, before a run folder
        is created; its network may be built only then.
        """
        for each in self._get(self.config_init, "trainer").callbacks or ():
            if callable(fitting := getattr(each, "check_task", None)):
                fitting(self.model, subcommand)
        if callable(check := getattr(self.model, "check_data", None)):
            check(self.datamodule)
        with overridden_optimizers(type(self.model).configure_optimizers is Task.configure_optimizers):
            super()._add_configure_optimizers_method_to_model(subcommand)

    @staticmethod
    def configure_optimizers(
        lightning_module: LightningModule, optimizer: Optimizer, lr_scheduler: LRSchedulerTypeUnion | None = None
    ) -> Any:
        """Combine optimizer and schedule, stepped every batch over the length of the run.

        Args:
            lightning_module: The task.
            optimizer: Optimizer of its parameters.
            lr_scheduler: Learning-rate schedule; None = constant.

        Returns:
            Optimizer and schedule in the form that Lightning expects.
        """
        return with_schedule(lightning_module, optimizer, lr_scheduler)

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        super()._add_subcommands(parser, **kwargs)
        for choice in getattr(parser._subcommands_action, "_choices_actions", ()):
            choice.help = DESCRIPTIONS[choice.dest]

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        if subcommand not in self.needed:
            # This parser is only listed in the help: leave it empty, as adding arguments is slow.
            return self.init_parser(**kwargs)
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        parser.set_defaults({"weights_only": True})
        return parser

    def _parse_ckpt_path(self) -> None:
        """Take arguments of model and optimizer from the checkpoint; flags for another model are refused."""
        self.config = with_hyperparameters(self.parser, self.config, self.given)

    def _flags(self) -> set[str]:
        """Return the flags of the command line in their usual short form."""
        return flags_of(self.given)


def main(args: ArgsType = None, callbacks: Sequence[Callback] = ()) -> int:
    """Run a command line and return its exit status.

    Args:
        args: Arguments; None = those of the process.
        callbacks: As of ``CLI``.

    Returns:
        Exit status: 0 done, 2 wrong use, 3 data or disk error, 4 diverged, 129 SIGHUP, 130 SIGINT, 143 SIGTERM.
    """
    without_advertisements()
    threading.excepthook = thread_fault
    try:
        with WATCH.watching():
            CLI(args, callbacks=callbacks)
    except (SystemExit, Exception, Interrupted, KeyboardInterrupt) as ex:
        return status_of(ex, WATCH.number)
    return 0

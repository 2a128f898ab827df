"""Help: lists of classes, and arguments by their flags."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import datamodules  # noqa: F401  (makes the names of the commands known)
from tabattn import pairs, prior, reconstruction, zoo
from tabattn.attention import MECHANISMS
from tabattn.tasks import PairInference
from tabattn.training.cli import main
from tabattn.training.help import DESCRIPTIONS, asked

ROOT = Path(__file__).parents[2]
HEAVY = ("matplotlib", "openml", "pandas", "pyarrow", "requests", "scipy", "sklearn", "tensorboard")

PROGRAM = """
import sys
import lightning.pytorch.cli

heavy = sys.argv[1].split(",")
for name in [name for name in sys.modules if name.partition(".")[0] in heavy]:
    sys.modules[name] = None
sys.modules.update(dict.fromkeys([*heavy, "torch.utils.tensorboard"]))  # importing what is None here fails
sys.argv = ["train.py", *sys.argv[2:]]
from tabattn.cli import main
main()
"""


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as leaving:
        main(list(arguments))
    assert leaving.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("before", [[], ["fit"], ["test", "--config", str(ROOT / "configs/prior.yaml")]])
def test_help_without_a_name_lists_what_there_is(capsys: pytest.CaptureFixture[str], before: list[str]) -> None:
    text = shown(capsys, *before, "--model.attention.help")
    assert text.startswith("Attention mechanisms, for --model.attention=<name>:\n")
    assert set(MECHANISMS) <= {line.split()[0] for line in text.splitlines()[1:-1]}
    text = shown(capsys, *before, "--model.help")
    assert "\n  PriorClassification Trains an in-context classifier " in re.sub(" +", " ", text).replace("\n ", "\n  ")
    assert "\n  PairInference " in text
    data = re.sub(" +", " ", shown(capsys, *before, "--data.help"))
    assert "\n SyntheticPrior Endless synthetic classification tables " in data
    assert "\n  AdamW " in shown(capsys, *before, "--optimizer.help")
    assert "\n  EarlyStopping " in shown(capsys, *before, "--trainer.callbacks.help")


def test_networks_of_every_task_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    class Heir(PairInference):
        """A task of one's own, which inherits the argument."""

    of_pairs, of_prior, of_cells, of_zoo = shown(capsys, "fit", "--model.network.help").split("\n\n")
    for text, task, networks in (
        (of_pairs, "PairInference", pairs.NETWORKS),
        (of_prior, "PriorClassification and PriorRegression", prior.NETWORKS),
        (of_cells, "TableReconstruction", reconstruction.NETWORKS),
        (of_zoo, "NetworkVAE", zoo.NETWORKS),
    ):
        assert text.startswith(f"Networks of {task}, for --model.network=<name>:\n")
        assert set(networks) <= {line.split()[0] for line in text.splitlines()[1:]}
    one = shown(capsys, "fit", "--model=PriorClassification", "--model.network.help")
    assert one.strip() == of_prior.strip().replace("Networks of PriorClassification and PriorRegression", "Networks")
    # The attentions that a task hands over are no flags of either's networks.
    for name in ("NanoTabPFN", "TNPD"):
        text = shown(capsys, "fit", "--model.network.help", name)
        assert "--model.network.dim" in text
        assert "--model.network.attention" not in text
        assert "--model.network.feature_attention" not in text
        assert "--model.network.target_attention" not in text
    assert "Heir" in shown(capsys, "fit", "--model.help")


def test_what_cannot_be_built_is_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    listed = {line.split()[0] for line in shown(capsys, "fit", "--data.help").splitlines()[1:-1]}
    assert {"LongPairs", "TablePairs"} <= listed
    assert "TaskPairs" not in listed


@pytest.mark.parametrize("name", MECHANISMS)
def test_arguments_are_shown_by_the_flags_that_one_types(capsys: pytest.CaptureFixture[str], name: str) -> None:
    text = shown(capsys, "fit", "--model.attention.help", name)
    flags = {line.split()[0] for line in text.splitlines() if line.startswith("  --")}
    assert all(flag.startswith("--model.attention.") and "init_args" not in flag for flag in flags)
    assert not any(hidden in text for hidden in ("HEADS", "HEAD_DIM"))
    parameters = inspect.signature(MECHANISMS[name]).parameters.values()
    own = {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    assert flags == {f"--model.attention.{argument}" for argument in own}


def test_arguments_of_nested_options(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "fit", "--model.help=PairInference")
    assert "--model.inference.samples SAMPLES" in text
    assert "--model.attention.help" in text
    assert "--model.inference.samples SAMPLES" in shown(
        capsys, "fit", "--model=PairInference", "--model.inference.help"
    )


def test_help_of_a_class_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["fit", "--model.attention.help", "local"])
    assert leaving.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("error: model.attention: no class is called 'local'; there are: ")
    assert line.endswith("(did you mean Local?)\n")


def test_the_first_help_has_an_example_and_that_of_a_command_explains(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "--help")
    assert " fit --config configs/prior.yaml --model.attention=Local --model.attention.window=8\n" in text
    assert all(command in text for command in DESCRIPTIONS)
    text = shown(capsys, "predict", "--help")
    assert DESCRIPTIONS["predict"] in text
    assert "--model.attention=Local --model.attention.window=8" in text


def test_which_help_is_asked_for() -> None:
    assert asked(["fit", "--model.help"]) == ("model", None)
    assert asked(["fit", "--model.help", "--data=X"]) == ("model", None)
    assert asked(["fit", "--model.attention.help=Local"]) == ("model.attention", "Local")
    assert asked(["fit", "--help"]) is None


@pytest.mark.parametrize("words", [pytest.param(["--help"], marks=pytest.mark.slow), ["fit", "--model.help"]])
def test_help_imports_nothing_that_it_does_not_use(words: list[str]) -> None:
    """Beyond what Lightning itself imports."""
    command = [sys.executable, "-c", PROGRAM, ",".join(HEAVY), *words]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "PriorClassification" in result.stdout

"""Task of masked language modelling: loss, scores, checkpoints, predictions."""

import csv
import math
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch.nn.functional import cross_entropy

from tabattn.attention import Entmax, Linear
from tabattn.cli import main
from tabattn.contract.errors import DataError
from tabattn.mlm import PredictOptions
from tabattn.mlm.metrics import TokenScores
from tabattn.tasks import MaskedLanguageModel
from tests.mlm.texts import TOKENS, WORDS, batch, masked_text, model, text_file

pytest.importorskip("transformers", minversion="5.0")
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
}


def test_a_training_beats_the_frequencies_of_tokens(tmp_path: Path) -> None:
    """On lines that repeat one word, of which some are hidden."""
    lines = [" ".join([word] * count) for count in range(4, 12) for word in WORDS]
    (tmp_path / "repeated.txt").write_text("\n\n".join(lines), encoding="utf-8")
    data = masked_text(tmp_path, text=str(tmp_path / "repeated.txt"), layout="lines", batch_size=32, vocabulary=320)
    made = MaskedLanguageModel(Entmax, dim=32, hidden=32, heads=2, layers=1)
    made.use_optimizer(partial(torch.optim.AdamW, lr=1e-2), None)
    trainer = lightning.Trainer(max_steps=80, enable_checkpointing=False, check_val_every_n_epoch=20, **QUIET)
    trainer.fit(made, data)
    scores = trainer.callback_metrics
    assert scores["val/perplexity"] < 0.5 * scores["val/unigram_perplexity"]
    assert scores["val/loss"].exp().item() == pytest.approx(scores["val/perplexity"].item(), rel=1e-4)
    assert {"val/bits_per_character", "val/accuracy", "train/loss"} <= scores.keys()
    assert "test/perplexity" in trainer.test(made, data, verbose=False)[0]


@pytest.mark.parametrize("kind", ["roberta", "bert"])
def test_logits_of_places_are_those_of_all(kind: Any) -> None:
    made, given = model(kind=kind).eval(), batch(5, 9)
    at = given.labels >= 0
    torch.testing.assert_close(made.network(given.ids, given.mask, at), made(given)[at])


def test_scores_are_those_of_all_tokens_together() -> None:
    logits, labels = torch.randn(9, 6), torch.randint(6, (9,))
    characters = torch.randint(1, 5, (9,))
    unigram = torch.randn(6).log_softmax(0)
    scores = TokenScores()
    for part in (slice(0, 2), slice(2, 9), slice(0, 0)):
        scores.update(logits[part], labels[part], characters[part], unigram)
    found = scores.compute()
    loss = cross_entropy(logits, labels).item()
    assert found["loss"].item() == pytest.approx(loss, rel=1e-6)
    assert found["perplexity"].item() == pytest.approx(math.exp(loss), rel=1e-6)
    assert found["bits_per_character"].item() == pytest.approx(9 * loss / math.log(2) / characters.sum().item())
    assert found["accuracy"].item() == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert found["unigram_perplexity"].item() == pytest.approx(math.exp(-unigram[labels].mean().item()))
    scores.update(logits, labels, characters)
    assert "unigram_perplexity" not in scores.compute()
    scores.reset()
    scores.update(logits[:0], labels[:0], characters[:0])
    assert scores.compute() == {}


def test_a_checkpoint_keeps_attention_and_tokens(tmp_path: Path) -> None:
    made = model(kind="bert", attention=partial(Entmax, alpha=1.3, learn_alpha=True))
    made.use_optimizer(partial(torch.optim.SGD, lr=0.1), None)
    loader = torch.utils.data.DataLoader([batch(5, 9)], batch_size=None)  # type: ignore[arg-type]
    trainer = lightning.Trainer(max_steps=1, default_root_dir=tmp_path, **QUIET)
    trainer.fit(made, loader, loader)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = MaskedLanguageModel.load_from_checkpoint(tmp_path / "a.ckpt")
    assert again.tokens == TOKENS
    first = again.network.model.bert.encoder.layer[0].attention.self.mechanism
    assert isinstance(first, Entmax)
    assert first.alpha_logit is not None
    assert first.fixed_alpha == 1.3
    torch.testing.assert_close(again.eval()(batch(5, 9)), made.eval()(batch(5, 9)))


@pytest.mark.parametrize(
    ("part", "name", "bound"),
    [
        ("tokens", "size", 50),
        ("tokens", "length", 50),
        ("config", "hidden_size", 50),
        ("config", "num_hidden_layers", 44),
    ],
)
def test_a_size_that_the_weights_do_not_allow_is_refused(tmp_path: Path, part: str, name: str, bound: int) -> None:
    """Before memory is allocated for it."""
    made = model()
    made.hparams["config"] = made.network.config
    made.hparams[part][name] = 10**9
    trainer = lightning.Trainer(**QUIET)
    trainer.strategy.connect(made)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(DataError, match=rf"{part}.{name} is 1000000000, and its weights allow {bound} at most$"):
        MaskedLanguageModel.load_from_checkpoint(tmp_path / "a.ckpt")


def test_other_tokens_than_those_of_the_training_are_refused(tmp_path: Path) -> None:
    data = masked_text(tmp_path)
    with pytest.raises(MisconfigurationException, match=r"^the tokenizer of the data \(300 tokens, .* is another than"):
        model().check_data(data)
    fitting = data.tokens.plain()
    made = model(tokens=fitting)
    made.check_data(data)
    with pytest.raises(MisconfigurationException, match="length must be at most 16, got 17"):
        made.check_data(masked_text(tmp_path, length=17))


def test_loaders_alone_do_not_say_their_tokens() -> None:
    made = MaskedLanguageModel()
    trainer = lightning.Trainer(max_steps=1, enable_checkpointing=False, **QUIET)
    with pytest.raises(MisconfigurationException, match="give MaskedLanguageModel tokens"):
        trainer.predict(made, torch.utils.data.DataLoader([batch(5)], batch_size=None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dim": 10, "heads": 4}, "dim must be a multiple of heads, 4, got 10"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"folder": "no/such"}, "folder must be a local one with a model, got no/such"),
        ({"tokens": {"size": 3}}, "tokens must have size, pad, .*, got size"),
        ({"tokens": TOKENS.plain() | {"pad": 50}}, r"token pad must be in \[0, 50\), got 50"),
        ({"tokens": TOKENS.plain() | {"size": 5.0}}, "size of tokens must be of type int, got 5.0"),
        ({"config": {"model_type": "nothing"}}, "no masked language model nothing"),
        ({"config": {"model_type": "gpt2", "n_layer": 1, "vocab_size": 9}}, "no masked language model gpt2"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        model(**options)
    with pytest.raises(ValueError, match=r"predict.top must be at least 1, got 0"):
        PredictOptions(top=0)


def test_the_likeliest_tokens_of_a_place() -> None:
    made = model(predict=PredictOptions(top=3), attention=Linear).eval()
    given = batch(5, 9)
    found = made.predict_step(given, 0)
    logits = made(given)
    for row in range(2):
        best = logits[row, 2].softmax(-1).topk(3)
        assert found.token[row].tolist() == best.indices.tolist()
        torch.testing.assert_close(found.probability[row], best.values)
    assert found.sequence.tolist() == [0, 1]
    assert found.place.tolist() == [2, 2]
    assert found.truth.tolist() == given.labels[:, 2].tolist()


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Trains, tests with the checkpoint's attention, and fills sentences."""
    monkeypatch.chdir(tmp_path)
    text_file(tmp_path)
    (tmp_path / "sentences.txt").write_text("the quick <mask> fox\n\nlazy [MASK] while <mask>\n")
    sizes = ["--model.dim=16", "--model.hidden=16", "--model.heads=2", "--model.layers=1"]
    data = ["--data.text=text.txt", "--data.vocabulary=300", "--data.length=16", "--data.split.test=0.2"]
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    common = ["--config", str(Path(__file__).parents[2] / "configs/mlm.yaml"), *sizes, *data, *quiet]
    few = ["--trainer.max_steps=4", "--data.steps_per_epoch=2", "--trainer.callbacks+=AlphaAnnealing"]
    assert main(["fit", *common, *few, "--model.attention.alpha=1.3"]) == 0
    folder = tmp_path / "runs/mlm/Entmax/version_0"
    checkpoint = f"--ckpt_path={folder}/checkpoints/last.ckpt"
    assert main(["test", *common, checkpoint]) == 0
    attention = yaml.safe_load((folder / "test_0/config.yaml").read_text())["model"]["init_args"]["attention"]
    assert attention["init_args"]["alpha"] == 1.3
    assert main(["predict", *common, checkpoint, "--data.sentences=sentences.txt", "--model.predict.top=2"]) == 0
    with (folder / "predict_0/predictions/batch00000.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["sequence"] for row in rows] == ["0", "0", "1", "1", "1", "1"]
    assert [row["rank"] for row in rows] == ["1", "2"] * 3
    assert all(float(row["probability"]) > 0 for row in rows)
    with pytest.raises(SystemExit, match="2"):
        main(["fit", *common, checkpoint, "--model.attention=Softmax"])
    assert "to start a different model from its weights use --model.init_from" in capfd.readouterr().err

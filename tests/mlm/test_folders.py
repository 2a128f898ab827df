"""Folders of transformers: what was written is read, with learned parameters of mechanisms."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from tabattn.attention import Entmax, Softmax
from tabattn.contract.errors import DataError
from tabattn.mlm.__main__ import main
from tabattn.tasks import MaskedLanguageModel
from tests.mlm.texts import SMALL, TOKENS, batch, masked_text, model

transformers = pytest.importorskip("transformers", minversion="5.0")


def learned(**options: Any) -> MaskedLanguageModel:
    """Make a model with other alphas than the initial ones."""
    made = model(attention=partial(Entmax, learn_alpha=True), **options).eval()
    for name, parameter in made.named_parameters():
        if name.endswith("alpha_logit"):
            torch.nn.init.normal_(parameter)
    return made


@pytest.mark.parametrize("kind", ["roberta", "bert"])
def test_a_folder_holds_the_whole_model(tmp_path: Path, kind: Any) -> None:
    made = learned(kind=kind)
    made.save_folder(str(tmp_path / "out"))
    again = model(attention=partial(Entmax, learn_alpha=True), folder=str(tmp_path / "out")).eval()
    torch.testing.assert_close(again(batch(5, 9)), made(batch(5, 9)))
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["model_type"] == kind
    assert not [path for path in tmp_path.iterdir() if path.name != "out"]
    with pytest.raises(ValueError, match="folder must be a new one"):
        made.save_folder(str(tmp_path / "out"))


def test_a_checkpoint_needs_the_folder_no_more(tmp_path: Path) -> None:
    learned().save_folder(str(tmp_path / "out"))
    made = model(attention=partial(Entmax, learn_alpha=True), folder=str(tmp_path / "out"), dim=64)
    trainer = lightning.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False)
    trainer.strategy.connect(made)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    (tmp_path / "out").rename(tmp_path / "gone")
    again = MaskedLanguageModel.load_from_checkpoint(tmp_path / "a.ckpt")
    torch.testing.assert_close(again.eval()(batch(5, 9)), made.eval()(batch(5, 9)))


def test_another_attention_than_that_of_the_training_is_said(tmp_path: Path) -> None:
    learned().save_folder(str(tmp_path / "out"))
    said = r"was trained with Entmax\(learn_alpha=True\), the model attends by Softmax$"
    with pytest.warns(UserWarning, match=said):
        made = model(attention=Softmax, folder=str(tmp_path / "out")).eval()
    plain = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "out", local_files_only=True).eval()
    given = batch(5, 9)
    theirs = plain(input_ids=given.ids, attention_mask=given.mask).logits
    torch.testing.assert_close(made(given)[given.mask], theirs[given.mask], rtol=1e-4, atol=1e-5)


def test_tokens_that_the_model_does_not_know_are_refused(tmp_path: Path) -> None:
    learned().save_folder(str(tmp_path / "out"))
    other = TOKENS.plain() | {"fingerprint": "sha256-1"}
    with pytest.raises(ValueError, match="was trained with another tokenizer than the data's"):
        model(folder=str(tmp_path / "out"), tokens=other, attention=Entmax)
    (tmp_path / "out/tabattn.json").unlink()
    with pytest.raises(ValueError, match="the model knows 50 tokens, the tokenizer has 51"):
        model(folder=str(tmp_path / "out"), tokens=other | {"size": 51})
    with pytest.raises(ValueError, match="length must be at most 16, the model's, got 17"):
        model(folder=str(tmp_path / "out"), tokens=other | {"length": 17})


def test_pickled_parameters_are_not_opened(tmp_path: Path) -> None:
    made = learned()
    made.save_folder(str(tmp_path / "out"))
    (tmp_path / "out/model.safetensors").unlink()
    torch.save(made.network.model.state_dict(), tmp_path / "out/pytorch_model.bin")
    with pytest.raises(DataError, match=r"out holds no model that can be read: .*safetensors"):
        model(folder=str(tmp_path / "out"), attention=partial(Entmax, learn_alpha=True))


@pytest.mark.parametrize("kind", ["roberta", "theirs"])
def test_code_of_a_folder_is_not_run(tmp_path: Path, kind: str) -> None:
    """Neither that of a known architecture, which needs none, nor that of another, which is refused."""
    out = tmp_path / "out"
    learned().save_folder(str(out))
    names = {f"Auto{name}": f"theirs.Their{name}" for name in ("Config", "ModelForMaskedLM", "Tokenizer")}
    for file in ("config.json", "tokenizer_config.json"):
        held = json.loads((out / "config.json").read_text()) | {"auto_map": names, "model_type": kind}
        (out / file).write_text(json.dumps(held))
    (out / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    same = partial(Entmax, learn_alpha=True)
    if kind == "roberta":
        assert model(folder=str(out), attention=same).tokens == TOKENS
    else:
        with pytest.raises(DataError, match="out holds no model that can be read"):
            model(folder=str(out), attention=same)
    with pytest.raises(DataError, match=r"out (holds no tokenizer|has a tokenizer without a vocabulary)"):
        _ = masked_text(tmp_path, tokenizer=str(out)).tokens
    assert not (tmp_path / "ran").exists()


def test_missing_parameters_are_said(tmp_path: Path) -> None:
    made = learned()
    made.network.model.roberta.save_pretrained(tmp_path / "base")
    with pytest.warns(UserWarning, match=r"base lacks \d+ tensors, which are random, such as lm_head"):
        again = model(folder=str(tmp_path / "base"), attention=partial(Entmax, learn_alpha=True))
    ours, theirs = (each.network.model.roberta.embeddings.word_embeddings.weight for each in (made, again))
    torch.testing.assert_close(ours, theirs)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = masked_text(tmp_path)
    made = MaskedLanguageModel(Entmax, **SMALL | {"tokens": data.tokens.plain()})
    trainer = lightning.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False)
    trainer.strategy.connect(made)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    words = [str(tmp_path / "a.ckpt"), str(tmp_path / "out"), f"--tokenizer={data.vocabulary.source}"]
    assert main(words) == 0
    assert "roberta, as transformers reads it" in capsys.readouterr().out
    again = masked_text(tmp_path, tokenizer=str(tmp_path / "out"))
    assert again.tokens == data.tokens
    assert main(words) == 2
    assert "folder must be a new one" in capsys.readouterr().err
    assert main([str(tmp_path / "b.ckpt"), str(tmp_path / "new")]) == 2
    other = masked_text(tmp_path, vocabulary=290)
    assert main([words[0], str(tmp_path / "new"), f"--tokenizer={other.vocabulary.source}"]) == 2
    assert "tokenizer must be the one that the model was trained with" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()

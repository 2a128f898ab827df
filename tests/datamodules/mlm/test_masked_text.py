"""Masked text: files, splits, tokenizers, sequences, hidden tokens."""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from datamodules import MaskedText
from datamodules.mlm import MaskOptions, SplitOptions
from datamodules.mlm.docstrings import docstrings
from datamodules.mlm.reading import _shares, part_of, read
from datamodules.mlm.sequences import ScoredBatches, Source, TrainingBatches
from datamodules.mlm.vocabulary import package
from tabattn.contract.batches import TokenBatch
from tabattn.contract.errors import DataError
from tests.mlm.texts import masked_text, text_file

pytest.importorskip("transformers", minversion="5.0")


def source(data: MaskedText, part: int = 0, **options: Any) -> Source:
    given: dict[str, Any] = {"masks": data.masks, "batch_size": 8, "seed": 0} | options
    return Source(data.parts[part], data.tokens, tuple(data.vocabulary.special), **given)


def truth(batch: TokenBatch) -> torch.Tensor:
    return torch.where(batch.labels >= 0, batch.labels, batch.ids)


def test_blocks_hold_the_whole_text(tmp_path: Path) -> None:
    """Documents one after another, with the last token of a sequence between them."""
    data = masked_text(tmp_path)
    for part, documents in enumerate(data.text.parts):
        made = ScoredBatches(source(data, part))
        rows: dict[int, list[int]] = {}
        characters = 0
        for batch in (made[i] for i in range(len(made))):
            assert (batch.ids[:, 0] == data.tokens.begin).all()
            for row, number in enumerate(batch.number.tolist()):
                length = int(batch.mask[row].sum())
                assert length <= data.tokens.length
                assert batch.ids[row, length - 1] == data.tokens.end
                assert (batch.ids[row, length:] == data.tokens.pad).all()
                rows[number] = truth(batch)[row, 1 : length - 1].tolist()
            characters += int(batch.characters.sum())
        found = [token for number in sorted(rows) for token in rows[number]]
        assert data.vocabulary.tokenizer.decode(found) == "</s>".join(documents)
        assert characters == sum(map(len, documents))


def test_lines_are_sequences(tmp_path: Path) -> None:
    data = masked_text(tmp_path, layout="lines", length=12)
    lines = [line for document in data.text.parts[0] for line in document.split("\n")]
    texts = [data.vocabulary.tokenizer.decode(data.parts[0].ids[a:b]) for a, b in data.parts[0].bounds]
    assert "".join(texts) == "".join(lines)
    assert len(texts) > len(lines), "those that are too long are cut"


def test_shares_and_kinds_of_hidden_tokens(tmp_path: Path) -> None:
    data = masked_text(tmp_path, length=64)
    special = torch.tensor(data.vocabulary.special)
    made = TrainingBatches(source(data))
    batches = [made[i] for i in range(40 * len(made))]
    open_to = sum(int((batch.mask & ~torch.isin(truth(batch), special)).sum()) for batch in batches)
    hidden = [(batch.ids[batch.labels >= 0], batch.labels[batch.labels >= 0]) for batch in batches]
    ids, labels = (torch.cat(parts) for parts in zip(*hidden, strict=True))
    masked, same = (ids == data.tokens.mask).float().mean(), (ids == labels).float().mean()
    assert len(labels) / open_to == pytest.approx(0.15, abs=0.01)
    assert masked == pytest.approx(0.8, abs=0.03)
    assert same == pytest.approx(0.1, abs=0.03)
    assert not torch.isin(labels, special).any()
    assert not torch.isin(ids[ids != data.tokens.mask], special).any()
    assert all((batch.labels >= 0).any(1).all() for batch in batches)


def test_every_epoch_has_every_sequence_once(tmp_path: Path) -> None:
    data = masked_text(tmp_path)
    made = TrainingBatches(source(data))
    epochs = [[made[epoch * len(made) + i] for i in range(len(made))] for epoch in range(2)]
    orders = [torch.cat([batch.number for batch in epoch]).tolist() for epoch in epochs]
    assert orders[0] != orders[1]
    assert [sorted(order) for order in orders] == [list(range(len(data.parts[0].bounds)))] * 2
    again = TrainingBatches(source(data))[len(made) + 1]
    assert all(torch.equal(a, b) for a, b in zip(again, epochs[1][1], strict=True))
    other = TrainingBatches(source(data, seed=1))[0]
    assert other.number.tolist() != epochs[0][0].number.tolist()


def test_what_is_hidden_for_scores_is_a_function_of_the_sequence(tmp_path: Path) -> None:
    """Not of the batch: scores do not depend on the size of batches or on the number of processes."""
    data = masked_text(tmp_path, layout="lines")
    found = []
    for size in (1, 5):
        made = ScoredBatches(source(data, 1, batch_size=size))
        batches = [made[i] for i in range(len(made))]
        rows = [
            (int(number), ids[mask].tolist(), labels[mask].tolist())
            for batch in batches
            for ids, labels, mask, number in zip(batch.ids, batch.labels, batch.mask, batch.number, strict=True)
        ]
        found.append(sorted(rows))
    assert found[0] == found[1]
    assert all((batch.unscored().labels == -100).all() for batch in batches)


def test_documents_are_on_one_side(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    documents = [f"document {number % 40:02} of many words" for number in range(80)]
    path.write_text("\n \n\n".join(documents))
    text = read(str(path), SplitOptions(validation=0.25, test=0.25), 0, tmp_path)
    parts = [set(part) for part in text.parts]
    assert sorted(len(part) for part in text.parts) == [20, 20, 40]
    assert sorted(set().union(*parts)) == sorted(set(documents))
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
    assert read(str(path), SplitOptions(validation=0.25, test=0.25), 1, tmp_path).parts != text.parts
    lines = read(str(path), SplitOptions("lines", 0.0, 0.5), 0, tmp_path)
    assert [len(part) for part in lines.parts] == [40, 0, 40]


@pytest.mark.parametrize("seed", range(8))
def test_a_long_document_leaves_text_to_every_part(seed: int) -> None:
    documents = ["long " * 2000, *(f"document {number}" for number in range(20))]
    train, validation, test = _shares(documents, SplitOptions("paragraphs", 0.05, 0.05), seed, "a file")
    assert train
    assert validation
    assert test
    assert sorted(train + validation + test) == sorted(documents)


def test_names_of_files_tell_their_part(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        (tmp_path / f"wiki.{name}.raw").write_text(f" = {name} = \n\n {name} text .\n")
    (tmp_path / ".hidden").write_text("hidden")
    text = read(str(tmp_path), SplitOptions(), 0, tmp_path)
    assert text.parts == (
        [" = train =".strip(), "train text ."],
        ["= valid =", "valid text ."],
        ["= test =", "test text ."],
    )
    assert text.split == "files by their names"
    pattern = read(str(tmp_path / "wiki.t*"), SplitOptions(validation=0.3, test=0.3), 0, tmp_path)
    assert "at random" in pattern.split
    names = {"wiki.train.raw": 0, "dev.txt": 1, "latest.txt": None, "train_test.txt": None, "TEST.txt": 2}
    assert {name: part_of(Path(name)) for name in names} == names


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_bytes(b"ab\xff"), r"a.txt is no UTF-8 text: byte 2 is 0xff"),
        (lambda path: path.write_bytes(gzip.compress(b"text")), r"a.txt is no UTF-8 text"),
        (
            lambda path: path.write_text("one document"),
            r"has 1 distinct documents, too few to .* on: split.doc",
        ),
        (lambda path: path.write_text(" \n"), r"has 0 distinct documents, too few"),
        (lambda path: None, r"there is no file of text at .*a.txt"),
    ],
)
def test_unusable_text_is_refused(tmp_path: Path, make: Any, said: str) -> None:
    path = tmp_path / "a.txt"
    make(path)
    with pytest.raises(DataError, match=said):
        _ = MaskedText(str(path), cache_dir=str(tmp_path)).text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"vocabulary": 100}, "vocabulary must be at least 270, got 100"),
        ({"length": 2}, "length must be at least 3, got 2"),
        ({"layout": "pages"}, "layout must be blocks or lines, got 'pages'"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MaskedText(**options)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: MaskOptions(rate=0), r"masks.rate must be in \(0, 1\], got 0"),
        (lambda: MaskOptions(masked=0.9, random=0.2), "must be at most 1 together, got 1.1"),
        (lambda: MaskOptions(random=-0.1), r"masks.random must be in \[0, 1\], got -0.1"),
        (lambda: SplitOptions(test=1.0), r"split.test must be in \[0, 1\), got 1.0"),
        (lambda: SplitOptions(validation=0.5, test=0.5), "must be below 1 together, got 1"),
        (lambda: SplitOptions("pages"), "split.documents must be paragraphs, lines, files, got 'pages'"),  # type: ignore[arg-type]
    ],
)
def test_wrong_options_are_refused(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_tokenizer_and_encoded_text_are_kept(tmp_path: Path) -> None:
    first = masked_text(tmp_path)
    expected = [part.ids.tolist() for part in first.parts]
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")}
    second = masked_text(tmp_path)
    assert [part.ids.tolist() for part in second.parts] == expected
    assert second.tokens == first.tokens
    assert torch.equal(second.unigram, first.unigram)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")} == kept
    for path in (tmp_path / "cache").glob("text-*"):
        path.write_bytes(path.read_bytes()[:100])
    assert [part.ids.tolist() for part in masked_text(tmp_path).parts] == expected
    other = masked_text(tmp_path, vocabulary=290)
    assert other.tokens.fingerprint != first.tokens.fingerprint
    given = masked_text(tmp_path, tokenizer=first.vocabulary.source)
    assert given.tokens == first.tokens


def test_unigram_frequencies(tmp_path: Path) -> None:
    data = masked_text(tmp_path)
    counts = np.bincount(data.parts[0].ids, minlength=300) + 1
    np.testing.assert_allclose(data.unigram.exp(), counts / counts.sum(), rtol=1e-5)


@pytest.mark.parametrize("broken", ["", "{}", '{"model": 3}'])
def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path, broken: str) -> None:
    with pytest.raises(DataError, match="tokenizer must be a local folder with the files of a tokenizer, got no/such"):
        _ = masked_text(tmp_path, tokenizer="no/such").tokens
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/tokenizer.json").write_text(broken)
    with pytest.raises(DataError, match=r"empty (holds|has) .*tokenizer"):
        _ = masked_text(tmp_path, tokenizer=str(tmp_path / "empty")).tokens


def test_a_tokenizer_of_bert(tmp_path: Path) -> None:
    """WordPiece in lower case, whose tokens do not cover the text: all characters are counted all the same."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "quick", "##ly", "fox"]
    folder = tmp_path / "bert"
    package("transformers").BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder)
    data = masked_text(tmp_path, tokenizer=str(folder))
    assert (data.tokens.pad, data.tokens.begin, data.tokens.end, data.tokens.mask) == (0, 2, 3, 4)
    found = data.vocabulary.encode(["The  quickly fox", "fox"])
    assert found.ids.tolist() == [5, 6, 7, 8, 8]
    assert found.characters.tolist() == [3, 7, 2, 4, 3]


def test_sentences_to_fill(tmp_path: Path) -> None:
    data = masked_text(tmp_path, sentences=("the [MASK] fox", "  a <mask> <mask>  ", ""))
    (batch,) = list(data.predict_dataloader())
    assert batch.number.tolist() == [0, 1]
    assert (batch.ids == data.tokens.mask).sum(1).tolist() == [1, 2]
    assert (batch.labels == -100).all()
    assert batch.ids[~batch.mask].eq(data.tokens.pad).all()
    (tmp_path / "s.txt").write_text("the <mask> fox\n\na <mask> <mask>\n", encoding="utf-8")
    (same,) = list(masked_text(tmp_path, sentences=str(tmp_path / "s.txt")).predict_dataloader())
    assert torch.equal(batch.ids, same.ids)


@pytest.mark.parametrize(
    ("sentences", "said"),
    [
        (("the fox",), "sentence 0 has no <mask> to fill: 'the fox'"),
        (("<mask>", "<mask> " * 20), "sentence 1 must have at most 14 tokens, got 20"),
        ("no/such.txt", "there is no file no/such.txt: sentences are a list"),
        ((), "sentences must be at least 1, got none"),
    ],
)
def test_sentences_that_cannot_be_filled(tmp_path: Path, sentences: Any, said: str) -> None:
    with pytest.raises(MisconfigurationException, match=said):
        masked_text(tmp_path, sentences=sentences).predict_dataloader()


def test_a_part_without_text_is_refused_where_it_is_used(tmp_path: Path) -> None:
    data = masked_text(tmp_path, split=SplitOptions(validation=0.2, test=0.0))
    data.val_dataloader()
    with pytest.raises(MisconfigurationException, match="has no text to test on"):
        data.test_dataloader()


def test_default_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docstrings of the library, by the order of the files' paths; modules that cannot be parsed are left out."""
    library = tmp_path / "library"
    (library / "test").mkdir(parents=True)
    (library / "b.py").write_text('"""Second."""\ndef f():\n    """Of a function."""\n')
    (library / "a.py").write_text('class A:\n    """First, a long one."""\n')
    (library / "c.py").write_text("no python")
    (library / "d.py").write_text("x = 1\n")
    (library / "test/e.py").write_text('"""A test."""\n')
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(library))
    expected = ["First, a long one.", "Second.\n\nOf a function."]
    assert docstrings(tmp_path / "cache") == expected
    (library / "a.py").unlink()
    assert docstrings(tmp_path / "cache") == expected
    (kept,) = (tmp_path / "cache").iterdir()
    assert json.loads(kept.read_text()) == expected
    data = MaskedText(vocabulary=270, cache_dir=str(tmp_path / "cache"), split=SplitOptions(validation=0.4, test=0.0))
    assert data.text.source == "docstrings of the standard library"
    assert sorted(map(len, data.text.parts)) == [0, 1, 1]


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text_file(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    package.cache_clear()
    with pytest.raises(DataError, match=r"needs the package transformers .*: pip install 'tabattn\[mlm\]'$"):
        masked_text(tmp_path)
    package.cache_clear()

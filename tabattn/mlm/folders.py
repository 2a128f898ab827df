"""Folders of models in the layout of ``transformers``, with our choice of attention beside them."""

import json
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from tabattn.attention import AttentionFactory
from tabattn.contract.errors import DataError
from tabattn.contract.tokens import TokenFormat, fingerprint
from tabattn.mlm.network import MaskedLanguageNetwork
from tabattn.mlm.plugged import transformers
from tabattn.storage.files import write_file
from tabattn.storage.folders import new_folder
from tabattn.storage.hyperparameters import plain

NOTE = "tabattn.json"
"""Name of the file with the mechanism and the format of tokens of a model; ``transformers`` stores neither."""


def save_folder(
    network: MaskedLanguageNetwork,
    folder: str | Path,
    attention: AttentionFactory,
    tokens: TokenFormat,
    tokenizer: str | Path | None = None,
) -> None:
    """Write a folder that ``transformers`` and ``--model.folder`` read, atomically.

    ``transformers`` by itself knows no mechanism of ours: there the model attends by softmax, and the mechanisms' own
    parameters, such as learned alphas, are left aside.

    Args:
        network: The network.
        folder: The folder to make.
        attention: Its mechanism.
        tokens: Its format of tokens.
        tokenizer: Folder of its tokenizer, which is written too; None = without.

    Raises:
        ValueError: The folder is there already, or the tokenizer is another one than the network's.
        DataError: The tokenizer cannot be read.
    """
    if Path(folder).exists():
        raise ValueError(f"folder must be a new one, got {folder}, which is there")
    words = None if tokenizer is None else _tokenizer(str(tokenizer), tokens)
    with new_folder(folder) as draft:
        network.model.save_pretrained(draft)
        if words is not None:
            words.save_pretrained(draft)
        write_file(draft / NOTE, json.dumps({"attention": plain(attention), "tokens": tokens.plain()}).encode())


def _tokenizer(folder: str, tokens: TokenFormat) -> Any:
    """Read the tokenizer of a folder, which must be that of the tokens."""
    if not Path(folder).is_dir():
        raise ValueError(f"tokenizer must be a local folder, got {folder}")
    try:
        found = transformers().AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as ex:
        raise DataError(f"{folder} holds no tokenizer that can be read: {str(ex).partition(chr(10))[0]}") from ex
    if fingerprint(found.get_vocab()) != tokens.fingerprint:
        raise ValueError(f"tokenizer must be the one that the model was trained with, got another, {folder}")
    return found


def check_folder(folder: str, tokens: TokenFormat, attention: AttentionFactory) -> None:
    """Check that a folder's model was trained on the tokens that it will see, where it says so.

    Another mechanism than that of the training is a warning.

    Raises:
        ValueError: It was trained on those of another tokenizer.
        DataError: What it says cannot be read.
    """
    path = Path(folder) / NOTE
    if not path.exists():
        return
    try:
        note = json.loads(path.read_bytes())
        trained, own = note["attention"], TokenFormat.of(note["tokens"])
    except (ValueError, KeyError, TypeError) as ex:
        raise DataError(f"{path} is damaged: {ex}") from ex
    if own.fingerprint != tokens.fingerprint:
        raise ValueError(f"{folder} was trained with another tokenizer than the data's: give that as data.tokenizer")
    given = plain(attention)
    if trained != given:
        rank_zero_warn(f"{folder} was trained with {_shown(trained)}, the model attends by {_shown(given)}")


def _shown(described: Any) -> str:
    """Mechanism in words, from its plain form."""
    name = str(described.get("class_path", "")).rpartition(".")[2]
    options = ", ".join(f"{key}={value}" for key, value in described.get("init_args", {}).items())
    return f"{name}({options})" if options else name

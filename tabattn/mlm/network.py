"""Network of the task: a masked language model of ``transformers`` whose layers attend by our mechanisms."""

import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from tabattn.attention import AttentionFactory
from tabattn.contract.errors import DataError
from tabattn.mlm.plugged import NAME, plug, transformers

MECHANISM = ".mechanism."
"""Part of the names of a mechanism's own parameters."""


class MaskedLanguageNetwork(nn.Module):
    """Masked language model of ``transformers``; its tokens attend by mechanisms, one for each layer.

    Args:
        model: The model, made with ``attn_implementation=NAME``.
        attention: Makes the mechanisms.

    Raises:
        ValueError: The model does not take its attention from ``transformers.AttentionInterface``.
    """

    def __init__(self, model: Any, attention: AttentionFactory) -> None:
        super().__init__()
        plug(model, attention)
        self.model = model

    @classmethod
    def of_config(cls, config: dict[str, Any], attention: AttentionFactory) -> "MaskedLanguageNetwork":
        """Make a network with random parameters.

        Args:
            config: Configuration of ``transformers``, with its ``model_type``.
            attention: Makes the mechanisms.

        Raises:
            ValueError: There is no such model.
        """
        parts = transformers()
        given = dict(config)
        kind = given.pop("model_type", None)
        try:
            made = parts.AutoConfig.for_model(kind, **given)
            model = parts.AutoModelForMaskedLM.from_config(made, attn_implementation=NAME)
        except (ValueError, TypeError, KeyError, AttributeError) as ex:
            raise ValueError(f"no masked language model {kind}: {str(ex).partition(chr(10))[0]}") from ex
        return cls(model, attention)

    @classmethod
    def of_folder(cls, folder: str, attention: AttentionFactory) -> "MaskedLanguageNetwork":
        """Make a network with the parameters of a local folder; nothing is fetched, and no code of it is run.

        Args:
            folder: Folder with ``config.json`` and parameters as ``.safetensors``.
            attention: Makes the mechanisms. Their own parameters are taken from the folder where they fit.

        Raises:
            ValueError: There is no such folder.
            DataError: It cannot be read as a model.
        """
        if not Path(folder).is_dir():
            raise ValueError(f"folder must be a local one with a model, got {folder}")
        parts = transformers()
        quiet = parts.utils.logging
        level = quiet.get_verbosity()
        quiet.set_verbosity_error()  # What is missing is said below.
        try:
            model, found = parts.AutoModelForMaskedLM.from_pretrained(
                folder,
                attn_implementation=NAME,
                attention_probs_dropout_prob=0.0,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as ex:
            raise DataError(f"{folder} holds no model that can be read: {str(ex).partition(chr(10))[0]}") from ex
        finally:
            quiet.set_verbosity(level)
        network = cls(model, attention)
        if missing := sorted(found["missing_keys"]):
            rank_zero_warn(f"{folder} lacks {len(missing)} tensors, which are random, such as {missing[0]}")
        network.load_state_dict(_own_parameters(Path(folder), network), strict=False)
        return network

    @property
    def config(self) -> dict[str, Any]:
        """Configuration of the model, as plain values."""
        plain: dict[str, Any] = json.loads(self.model.config.to_json_string(use_diff=True))
        return plain

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes of the model, by the names of the task's arguments."""
        config = self.model.config
        return {
            "dim": config.hidden_size,
            "layers": config.num_hidden_layers,
            "heads": config.num_attention_heads,
            "hidden": config.intermediate_size,
        }

    @property
    def vocabulary(self) -> int:
        """Number of tokens that the model knows."""
        return int(self.model.get_input_embeddings().num_embeddings)

    @property
    def length(self) -> int | None:
        """Most tokens of a sequence; None = any."""
        for name, part in self.model.named_modules():
            if name.endswith("position_embeddings") and isinstance(part, nn.Embedding):
                # Where padding has a position of its own, that and those before are not used.
                return part.num_embeddings - (0 if part.padding_idx is None else part.padding_idx + 1)
        return None

    def forward(self, ids: Tensor, mask: Tensor, at: Tensor | None = None) -> Tensor:
        """Predict tokens.

        Args:
            ids: Tokens, ``(batch, tokens)`` long.
            mask: Padding mask, ``(batch, tokens)`` boolean; True = a token.
            at: Places to predict, of that shape; None = all. Only for these are logits computed.

        Returns:
            Logits, ``(places, vocabulary)``, or ``(batch, tokens, vocabulary)`` for all.
        """
        if at is None:
            logits: Tensor = self.model(input_ids=ids, attention_mask=mask).logits
            return logits
        heads = [part for part in self.model.children() if part is not self.model.base_model]
        if len(heads) != 1:
            return self(ids, mask)[at]
        found: Tensor = heads[0](self.model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state[at])
        return found


def _own_parameters(folder: Path, network: nn.Module) -> dict[str, Tensor]:
    """Parameters of mechanisms in a folder that fit a network by name and shape."""
    state, found = network.state_dict(), {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                own = state.get(f"model.{name}")
                if MECHANISM in name and own is not None and own.shape == (value := file.get_tensor(name)).shape:
                    found[f"model.{name}"] = value
    return found

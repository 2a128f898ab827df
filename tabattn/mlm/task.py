"""Task of masked language modelling: hidden tokens of a text from the others."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback
from torch import Tensor
from torch.nn.functional import cross_entropy

from tabattn.attention import AttentionFactory, Softmax
from tabattn.contract.batches import TokenBatch
from tabattn.contract.checks import check_least
from tabattn.contract.facts import Fact
from tabattn.contract.tokens import TokenFormat
from tabattn.contract.views import ScoredColumn
from tabattn.mlm.folders import check_folder, save_folder
from tabattn.mlm.metrics import TokenScores
from tabattn.mlm.network import MaskedLanguageNetwork
from tabattn.mlm.options import DEFAULT_PREDICT, Kind, PredictOptions
from tabattn.mlm.plugged import transformers
from tabattn.optim import MuonAdamW
from tabattn.storage.hyperparameters import mechanism
from tabattn.task import Task


class Fills(NamedTuple):
    """Likeliest tokens of hidden places.

    Attributes:
        sequence: Number of the sequence of each place, ``(places,)``.
        place: Place of the token in the sequence, ``(places,)``; 0 is its first token.
        truth: True token, ``(places,)``; -100 = not known.
        token: The likeliest tokens, ``(places, top)``.
        probability: Their probabilities, of that shape.
    """

    sequence: Tensor
    place: Tensor
    truth: Tensor
    token: Tensor
    probability: Tensor


class MaskedLanguageModel(Task):
    """Trains a masked language model of ``transformers`` whose layers attend by a mechanism of this project.

    Needs the extra ``mlm``. The loss is the cross-entropy of hidden tokens. Validation and test score perplexity, bits
    per character and accuracy of the hidden tokens. The model is made from a configuration, or read from a local
    folder; nothing is fetched. Dropout of attention weights is that of the mechanism.

    Args:
        attention: Mechanism of every layer, each with parameters of its own.
        kind: Architecture: ``roberta`` or ``bert``.
        dim: Width of a token.
        layers: Number of layers.
        heads: Number of attention heads.
        hidden: Width of the feed-forward layers.
        dropout: Probability of dropping a hidden unit while training.
        folder: Local folder of a model, such as a copy of roberta-base, whose sizes and parameters are taken in place
            of those above.
        tokens: Format of token sequences; none = that of the datamodule. Checkpoints hold it.
        config: Configuration of a model of a folder. Checkpoints hold it, so that they need the folder no more.
        predict: Options of ``predict``. A checkpoint leaves them to the command line.
        init_from: Checkpoint or weight file (.safetensors) to initialise the network from, by matching name and shape;
            keeps the command line's model.
    """

    task_name = "mlm"
    batch = TokenBatch
    optimizer = partial(MuonAdamW, lr=0.02, adamw_lr=3e-3)
    facts: ClassVar[Mapping[str, Fact]] = {
        "tokens": Fact(TokenFormat, "the format of its token sequences, for which the network is built"),
        "unigram": Fact(Tensor, "log-probability of each token by its frequency, as a baseline", None),
        "pieces": Fact(Sequence, "the text of each token, for predictions", None),
    }
    network: MaskedLanguageNetwork

    def __init__(
        self,
        attention: AttentionFactory = Softmax,
        kind: Kind = "roberta",
        dim: int = 128,
        layers: int = 2,
        heads: int = 4,
        hidden: int = 512,
        dropout: float = 0.0,
        folder: str | None = None,
        tokens: dict[str, Any] | None = None,
        config: dict[str, Any] | None = None,
        init_from: str | None = None,
        predict: PredictOptions = DEFAULT_PREDICT,
    ) -> None:
        super().__init__(init_from)
        self.save_hyperparameters(ignore=["init_from", "predict"])
        check_least(dim=(dim, 1), layers=(layers, 1), heads=(heads, 1), hidden=(hidden, 1))
        if dim % heads:
            raise ValueError(f"dim must be a multiple of heads, {heads}, got {dim}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        transformers()
        self.attention = mechanism(attention)
        self.configuration = partial(configuration, kind, dim, layers, heads, hidden, dropout)
        self.folder, self.config = folder, config
        self.asked = predict
        self.scores = TokenScores()
        self.tokens: TokenFormat | None = None
        if tokens is not None:
            self.build(TokenFormat.of(tokens))

    def build(self, tokens: TokenFormat) -> None:
        """Build the network for a format of token sequences."""
        if self.folder is not None and self.config is None:
            check_folder(self.folder, tokens, self.attention)
            network = MaskedLanguageNetwork.of_folder(self.folder, self.attention)
            self.config = network.config
            self.hparams.update({"config": self.config, **network.sizes})
        else:
            config = self.config or self.configuration(tokens)
            network = MaskedLanguageNetwork.of_config(config, self.attention)
        if network.vocabulary < tokens.size:
            raise ValueError(f"the model knows {network.vocabulary} tokens, the tokenizer has {tokens.size}")
        if network.length is not None and tokens.length > network.length:
            raise ValueError(f"length must be at most {network.length}, the model's, got {tokens.length}")
        self.network, self.tokens = network, tokens
        self.hparams["tokens"] = tokens.plain()

    def check_data(self, datamodule: Any) -> None:
        """Check the batches of a datamodule, and build the network for its tokens if it is not yet built.

        Raises:
            MisconfigurationException: It makes other batches, or has other tokens than the network.
        """
        super().check_data(datamodule)
        found = getattr(datamodule, "tokens", None)
        if not isinstance(found, TokenFormat):
            return
        if self.tokens is None:
            try:
                self.build(found)
            except ValueError as ex:
                raise MisconfigurationException(str(ex)) from ex
        elif found.fingerprint != self.tokens.fingerprint:
            raise MisconfigurationException(
                f"the tokenizer of the data ({found.size} tokens, {found.fingerprint}) is another than the model's "
                f"({self.tokens.size} tokens, {self.tokens.fingerprint})"
            )
        elif self.network.length is not None and found.length > self.network.length:
            raise MisconfigurationException(f"length must be at most {self.network.length}, got {found.length}")

    def configure_callbacks(self) -> list[Callback]:
        """Build the network before the callbacks are set up, some of which check its layers."""
        data = getattr(self.trainer, "datamodule", None)
        if data is not None:
            self.check_data(data)
        return super().configure_callbacks()

    def setup(self, stage: str) -> None:
        """Check the data, and that there is a network."""
        super().setup(stage)
        if self.tokens is None:
            raise MisconfigurationException("loaders alone do not say their tokens: give MaskedLanguageModel tokens")

    def save_folder(self, folder: str, tokenizer: str | None = None) -> None:
        """Write the model as a folder of ``transformers``; see ``tabattn.mlm.folders.save_folder``.

        Args:
            folder: The folder to make.
            tokenizer: Folder of its tokenizer, which is written too; None = without.
        """
        if self.tokens is None:
            raise ValueError("the model is not built yet: it needs tokens, or a datamodule")
        save_folder(self.network, folder, self.attention, self.tokens, tokenizer)

    def forward(self, batch: TokenBatch) -> Tensor:
        """Logits of all tokens of a batch, ``(batch, tokens, vocabulary)``."""
        logits: Tensor = self.network(batch.ids, batch.mask)
        return logits

    def probe(self, batch: TokenBatch) -> Tensor:
        """Forward pass for callbacks."""
        return self(batch)

    def class_probabilities(self, output: Tensor) -> Tensor:
        """Probabilities of the tokens at each position, ``(batch, tokens, vocabulary)``."""
        return output.float().softmax(-1)

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        """Mean cross-entropy of the hidden tokens."""
        hidden = batch.labels >= 0
        loss = cross_entropy(self.network(batch.ids, batch.mask, hidden).float(), batch.labels[hidden])
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.ids))
        return loss

    def validation_step(self, batch: TokenBatch, batch_idx: int) -> None:
        """Predict the hidden tokens."""
        hidden = batch.labels >= 0
        logits = self.network(batch.ids, batch.mask, hidden)
        unigram = self.of_data("unigram")
        told = None if unigram is None else unigram.to(self.device)
        self.scores.update(logits, batch.labels[hidden], batch.characters[hidden], told)

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Log the scores under ``val/``."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores under ``test/``."""
        self._log_scores("test")

    def _log_scores(self, stage: str) -> None:
        figures = self.scores.compute()
        self.scores.reset()
        self.log_dict({f"{stage}/{name}": value.float() for name, value in figures.items()}, sync_dist=True)

    def predict_step(self, batch: TokenBatch, batch_idx: int) -> Fills:
        """Fill the hidden places."""
        assert self.tokens is not None
        at = (batch.labels >= 0) | (batch.ids == self.tokens.mask)
        # A model may know more tokens than the tokenizer.
        logits = self.network(batch.ids, batch.mask, at).float()[:, : self.tokens.size]
        found = logits.softmax(-1).topk(min(self.asked.top, self.tokens.size))
        row, place = at.nonzero(as_tuple=True)
        return Fills(batch.number[row], place, batch.labels[at], found.indices, found.values)

    def counted(self, batch: TokenBatch) -> dict[str, int]:
        """Sequences of a batch and their tokens, padding included."""
        return {"sequences": len(batch.ids), "tokens": batch.ids.numel()}

    def outcomes(self, batch: TokenBatch) -> list[ScoredColumn]:
        """Hidden tokens and the predicted probability of each token of the vocabulary."""
        hidden, pieces = batch.labels >= 0, self.of_data("pieces")
        chances = self.network(batch.ids, batch.mask, hidden).float().softmax(-1).cpu()
        names = range(chances.shape[1]) if pieces is None else pieces
        # A model may know more tokens than the tokenizer.
        texts = (*map(str, names), *map(str, range(len(names), chances.shape[1])))
        return [ScoredColumn("hidden tokens", texts, batch.labels[hidden].cpu(), chances, None)]

    def prediction_table(self, batch: TokenBatch, output: Fills, number: int) -> dict[str, list[Any]]:
        """One line for each token that a hidden place may be filled by."""
        pieces = self.of_data("pieces")

        def text(tokens: Tensor) -> list[Any]:
            shown = tokens.flatten().tolist()
            return shown if pieces is None else [pieces[token] if token >= 0 else "" for token in shown]

        top = output.token.shape[1]
        repeated = {"sequence": output.sequence, "place": output.place}
        return {
            **{name: values.repeat_interleave(top).tolist() for name, values in repeated.items()},
            "rank": list(range(1, top + 1)) * len(output.place),
            "token": text(output.token),
            "probability": output.probability.flatten().tolist(),
            "truth": text(output.truth.repeat_interleave(top)),
        }


def configuration(
    kind: Kind, dim: int, layers: int, heads: int, hidden: int, dropout: float, tokens: TokenFormat
) -> dict[str, Any]:
    """Configuration of ``transformers`` for a model of given sizes; see ``MaskedLanguageModel``."""
    return {
        "model_type": kind,
        "vocab_size": tokens.size,
        "hidden_size": dim,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": hidden,
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": 0.0,
        # RoBERTa counts positions from the token of padding on.
        "max_position_embeddings": tokens.length + (tokens.pad + 1 if kind == "roberta" else 0),
        "type_vocab_size": 1,
        "pad_token_id": tokens.pad,
        "bos_token_id": tokens.begin,
        "eos_token_id": tokens.end,
    }

"""Mechanisms in models of transformers: one for each layer, and padding that is never seen."""

import sys
from functools import partial
from typing import Any

import pytest
import torch

from tabattn.attention import MECHANISMS, Entmax, Softmax, capture
from tabattn.contract.errors import DataError
from tabattn.mlm import plugged
from tabattn.mlm.task import MaskedLanguageModel
from tests.mlm.texts import TOKENS, batch, model

transformers = pytest.importorskip("transformers", minversion="5.0")
KINDS = ("roberta", "bert")


def sharp(**options: Any) -> MaskedLanguageModel:
    """Make a model in double precision whose tokens depend on one another much more than at the start."""
    made = model(**options).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() == 2:
                parameter.mul_(10)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_has_a_mechanism_of_its_own(kind: Any) -> None:
    made = model(kind=kind, attention=partial(Entmax, learn_alpha=True))
    paths = [f"network.model.{kind}.encoder.layer.{layer}.attention.self.mechanism" for layer in range(2)]
    assert {f"{path}.alpha_logit" for path in paths} <= made.state_dict().keys()
    with capture(made, ("q", "weights", "mask")) as records:
        made(batch(5, 9))
    assert list(records) == paths
    for (record,) in records.values():
        assert record.q is not None
        assert record.weights is not None
        assert record.q.shape == (2, 2, 9, 8)
        assert (record.weights[0, :, :, 5:] == 0).all()
    made(batch(5, 9)).square().sum().backward()
    lacking = [name for name, parameter in made.named_parameters() if parameter.grad is None]
    assert lacking == []
    assert all(made.get_parameter(f"{path}.alpha_logit").grad.abs().min() > 0 for path in paths)  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", KINDS)
def test_with_softmax_it_is_the_model_itself(kind: Any) -> None:
    made = model(kind=kind).eval()
    given = batch(5, 9)
    ours = made(given)
    made.network.model.set_attn_implementation("eager")
    theirs = made(given)
    torch.testing.assert_close(ours[given.mask], theirs[given.mask], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(MECHANISMS.keys() - {"Nystrom"}))
@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_not_seen(name: str, kind: Any) -> None:
    """Neither what is appended to all sequences, nor the padding by which a shorter one is as long as another.

    Nystrom mixes the queries of padding too, as its docstring says.
    """
    made = sharp(kind=kind, attention=MECHANISMS[name])
    alone, appended, together = batch(7), batch(7, width=12), batch(7, 12)
    torch.testing.assert_close(alone.ids[0], appended.ids[0, :7])
    expected = made(alone)[0]
    close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)
    close(made(appended)[0, :7], expected)
    together = together._replace(ids=torch.cat([appended.ids, together.ids[1:]]))
    close(made(together)[0, :7], expected)
    junk = appended._replace(ids=appended.ids.masked_fill(~appended.mask, 7))
    if kind == "bert":  # RoBERTa finds positions by the tokens of padding.
        close(made(junk)[0, :7], expected)


def test_without_our_masks_padding_would_be_seen() -> None:
    """The reason why masks are registered: no mask at all arrives for an unknown name, and nothing is said."""
    transformers.AttentionInterface.register("unmasked", plugged.attend)
    try:
        made = sharp()
        made.network.model.set_attn_implementation("unmasked")
        difference = made(batch(7, width=12))[0, :7] - made(batch(7))[0]
        assert difference.abs().max() > 0.1
    finally:
        del transformers.AttentionInterface._global_mapping["unmasked"]


def test_the_same_keys_for_all_queries_are_one_row() -> None:
    """Mechanisms that summarise keys take no mask with a row for each query."""
    made = model()
    with capture(made, ("mask",)) as records:
        made(batch(5, 9))
        made(batch(9, 9)._replace(mask=None))  # type: ignore[arg-type]
    for padded, free in records.values():
        assert padded.mask is not None
        assert padded.mask.shape == (2, 1, 1, 9)
        assert padded.mask[:, 0, 0].tolist() == batch(5, 9).mask.tolist()
        assert free.mask is None


def test_other_patterns_arrive_whole() -> None:
    parts = sys.modules["transformers.masking_utils"]
    seen = plugged.visible(
        batch_size=1,
        q_length=4,
        kv_length=4,
        q_offset=0,
        kv_offset=0,
        mask_function=parts.causal_mask_function,
        attention_mask=torch.tensor([[True, True, True, False]]),
        device="cpu",
        allow_is_causal_skip=True,
    )
    assert seen is not None
    assert seen.shape == (1, 1, 4, 4)
    assert torch.equal(seen[0, 0], torch.ones(4, 4, dtype=torch.bool).tril() & torch.tensor([1, 1, 1, 0]).bool())


def test_a_mask_of_numbers_is_refused() -> None:
    made = model()
    with pytest.raises(ValueError, match=r"attention_mask must be boolean, .* got torch.float32"):
        made.network.model(input_ids=batch(5).ids, attention_mask=torch.zeros(1, 1, 5, 5))


def test_scores_are_scaled_as_the_model_asks() -> None:
    made = model().eval()
    given = batch(9)
    for layer in made.network.model.roberta.encoder.layer:
        layer.attention.self.scaling = 0.1
    ours = made(given)
    made.network.model.set_attn_implementation("eager")
    torch.testing.assert_close(ours, made(given), rtol=1e-4, atol=1e-5)


def test_a_model_with_attention_of_its_own_is_refused() -> None:
    with pytest.raises(ValueError, match=r"_Plain does not take its attention from transformers.AttentionInterface"):
        plugged.plug(_Plain(), Softmax)


class _Plain(torch.nn.Linear):
    def __init__(self) -> None:
        super().__init__(2, 2)

    def forward(self, input_ids: Any) -> Any:
        return super().forward(input_ids.float())


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    plugged.transformers.cache_clear()
    with pytest.raises(DataError, match=r"need transformers 5 .*: pip install 'tabattn\[mlm\]'$"):
        model()
    monkeypatch.undo()
    assert model().tokens == TOKENS

"""Predictors at the sites of messages: each token or pixel is a row, in units that do not depend on their number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon.comms import Example, Predictor
from antiphon.comms.channel import GradientSettings
from antiphon.comms.examples import ContextSpec, encode
from antiphon.comms.predictors import predictor_of
from antiphon.nets.schedules import Rate
from tests.comms.made import DOUBLE, draw

B, T, D, V = 5, 3, 4, 6
H, W, C = 2, 3, 2
FOLLOWING, LABEL, PLACE = (
    ContextSpec("following", (T,), V),
    ContextSpec("label", (), 3),
    ContextSpec("place", (2,)),
)
WORDS = ContextSpec("words", (T, 2))
SEGMENTS, SKY = ContextSpec("segments", (H, W), V), ContextSpec("sky", (2, H, W))
TOKENS, PIXELS = (LABEL, FOLLOWING, WORDS, PLACE), (LABEL, SEGMENTS, SKY, PLACE)
KINDS: dict[str, dict[str, Any]] = {
    "linear": {},
    "mlp": {"hidden": (5, 3), "norm": "layer"},
    "mlp, batch norm": {"hidden": (5,)},
    "critic": {"hidden": ()},
    "sobolev": {"hidden": (5,), "norm": "layer"},
    "sobolev_label": {"hidden": (5,), "norm": "layer"},
    "local": {},
    "module": {},
}
every_kind = pytest.mark.parametrize("name", KINDS)


def module(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 7), nn.Tanh(), nn.Linear(7, outputs))


def make(
    name: str,
    shape: tuple[int, ...] = (T, D),
    context: tuple[ContextSpec, ...] = TOKENS,
    target: ContextSpec | None = FOLLOWING,
    *,
    sites: bool | None = True,
    seed: int = 0,
    **settings: Any,
) -> Predictor:
    """A predictor whose parameters are all sampled: what starts at zero too."""
    kind: Any = module if name == "module" else name.partition(",")[0]
    own = kind in ("local", "sobolev_label")
    keys = {"kind": kind, "sites": sites, **KINDS.get(name, {}), **settings}
    keys |= {"target": target.name} if own and target else {}
    predictor = predictor_of(
        GradientSettings.model_validate(keys),
        shape,
        context,
        target=target if own else None,
        generator=torch.Generator().manual_seed(0),
        optimiser={"kind": "sgd"},
        rate=Rate(base=0.1, run_steps=1),
        dtype=DOUBLE,
    )
    for i, parameter in enumerate(predictor.trainable):
        parameter.data.copy_(0.3 * draw(*parameter.shape, seed=20 + 10 * seed + i))
    return predictor


def signals(batch: int = B, seed: int = 0) -> dict[str, Tensor]:
    """Values of all the signals above."""

    def classes(count: int, *shape: int) -> Tensor:
        return torch.randint(count, (batch, *shape), generator=torch.Generator().manual_seed(seed))

    return {
        "label": classes(3),
        "following": classes(V, T),
        "segments": classes(V, H, W),
        "words": draw(batch, T, 2, seed=seed + 1),
        "sky": draw(batch, 2, H, W, seed=seed + 2),
        "place": draw(batch, 2, seed=seed + 3),
    }


def example(
    values: dict[str, Tensor],
    context: tuple[ContextSpec, ...] = TOKENS,
    size: int = T * D,
    target: str = "following",
    seed: int = 4,
) -> Example:
    batch = len(values["label"])
    return Example(
        draw(batch, size, seed=seed),
        encode(context, values, DOUBLE),
        0.1 * draw(batch, size, seed=seed + 1),
        target=values[target],
        loss=draw(batch, seed=seed + 2).square(),
    )


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


def found(predictor: Predictor, given: Example) -> list[Tensor]:
    """All that a predictor says of an example: its prediction, value, loss and gradients."""
    says = [predictor.predict(given)]
    says += [predictor.value(given)] if predictor.needs_loss else []
    loss, gradients = predictor.loss_and_gradients([given])
    return [*says, loss, *gradients]


# --- contexts ----------------------------------------------------------------------------------------------------


def test_a_context_is_encoded_in_its_order_one_hot_where_it_has_classes() -> None:
    values = {"label": torch.tensor([2, 0]), "place": torch.tensor([[1.0, 2], [5, 6]])}
    values["pair"] = torch.tensor([[0, 2], [1, 1]])
    pair = ContextSpec("pair", (2,), 3)
    found = encode([PLACE, LABEL, pair], values, DOUBLE)
    assert found is not None
    assert found.dtype == DOUBLE
    assert found.tolist() == [[1, 2, 0, 0, 1, 1, 0, 0, 0, 0, 1], [5, 6, 1, 0, 0, 0, 1, 0, 0, 1, 0]]
    assert encode([], {}, DOUBLE) is None


# --- closed form -------------------------------------------------------------------------------------------------


def by_token(values: dict[str, Tensor], message: Tensor) -> Tensor:
    """What a token's predictor reads, [B, T, features], written out."""
    one_hot = F.one_hot(values["following"], V).to(DOUBLE)
    whole = [F.one_hot(values["label"], 3).to(DOUBLE), values["place"]]
    label, place = (value.unsqueeze(1).expand(B, T, -1) for value in whole)
    return torch.cat([message.view(B, T, D), label, one_hot, values["words"], place], 2)


def test_a_linear_predictor_of_tokens_is_a_linear_layer_over_tokens() -> None:
    values = signals()
    given, predictor = example(values), make("linear")
    layer = nn.Linear(D + 3 + V + 2 + 2, D, dtype=DOUBLE)
    layer.load_state_dict(dict(zip(("weight", "bias"), predictor.trainable, strict=True)))
    assert given.returned is not None
    rows = layer(by_token(values, given.message))
    loss = (rows - T * given.returned.view(B, T, D)).square().sum(2).mean()
    total, gradients = predictor.loss_and_gradients([given])
    close(predictor.predict(given), (rows / T).flatten(1))
    close(total, loss)
    for mine, theirs in zip(gradients, torch.autograd.grad(loss, list(layer.parameters())), strict=True):
        close(mine, theirs)


@pytest.mark.parametrize("target", [FOLLOWING, LABEL])
def test_a_local_loss_is_the_mean_over_tokens(target: ContextSpec) -> None:
    values, context = signals(), (WORDS,)
    given = example(values, context, target=target.name)
    predictor = make("local", context=context, target=target)
    leaf = given.message.clone().requires_grad_()
    weight, bias = predictor.trainable
    logits = F.linear(torch.cat([leaf.view(B, T, D), values["words"]], 2), weight, bias)
    labels = given.target if target is FOLLOWING else values["label"].unsqueeze(1).expand(B, T)
    assert labels is not None
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(B, T).mean(1)
    close(predictor.loss(given), losses.mean())
    close(predictor.predict(given), torch.autograd.grad(losses.sum(), leaf)[0])


# --- what does not depend on sites -------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("maps", [False, True])
def test_numbers_do_not_depend_on_how_many_sites_are_equal(name: str, maps: bool) -> None:
    values = signals() | {"returned": draw(B, D, seed=9)}
    one = make(name, (1, D), (LABEL, ContextSpec("returned", (1, D))), LABEL)
    shape = (D, 2, 2) if maps else (4, D)
    four = make(name, shape, (LABEL, ContextSpec("returned", shape)), LABEL)
    given = example(values, (LABEL, ContextSpec("returned", (D,))), D, target="label")

    def repeated(value: Tensor) -> Tensor:
        return value.repeat_interleave(4, 1) if maps else value.repeat(1, 4)

    assert given.context is not None
    assert given.returned is not None
    context = torch.cat([given.context[:, :3], repeated(given.context[:, 3:] / 4)], 1)
    more = Example(
        repeated(given.message),
        context,
        repeated(given.returned / 4),
        target=given.target,
        loss=given.loss,
    )
    close(four.predict(more) * 4, repeated(one.predict(given)))
    for mine, theirs in zip(found(four, more)[-3:], found(one, given)[-3:], strict=True):
        close(mine, theirs)

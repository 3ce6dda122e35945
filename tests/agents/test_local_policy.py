"""A policy on a message as a predictor of gradients: its loss, its slopes, and many as one."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from antiphon.agents.distributions import Categorical, Distribution, Gaussian, MultiCategorical
from antiphon.agents.local_policy import LocalPolicyGradient
from antiphon.comms import Example
from antiphon.comms.examples import ContextSpec, ReturnedAction
from antiphon.nets.schedules import Rate
from tests.kit.tensors import drawn

BATCH, SIZE = 5, 3
DISTRIBUTIONS: dict[str, Distribution] = {
    "categorical": Categorical(4),
    "several": MultiCategorical((2, 3)),
    "gaussian": Gaussian(2),
}
every_distribution = pytest.mark.parametrize("name", DISTRIBUTIONS)
LAYERS = pytest.mark.parametrize("hidden", [(), (6,)])


def _made(
    name: str, hidden: tuple[int, ...] = (), *, seed: int = 0, trained: bool = True, **given: str
) -> LocalPolicyGradient:
    own = LocalPolicyGradient(
        (SIZE,),
        [ContextSpec("place", (2,))],
        distribution=DISTRIBUTIONS[name],
        hidden=hidden,
        norm="batch",
        generator=torch.Generator().manual_seed(seed),
        optimiser={"kind": "adam"},
        rate=Rate(base=0.01, run_steps=1),
        dtype=torch.float64,
        **given,
    )
    with torch.no_grad():
        for i, parameter in enumerate(own.trainable if trained else ()):
            parameter.copy_(0.3 * drawn(seed + i, *parameter.shape))
    return own


def _example(name: str, seed: int = 1, uses: int = 2) -> Example:
    """A message that was read at some ticks, not all of which teach something."""
    distribution = DISTRIBUTIONS[name]
    actions = []
    for use in range(uses):
        outputs = drawn(seed + 10 + use, BATCH, distribution.parameters)
        numbers = torch.rand(BATCH, distribution.draws, generator=torch.Generator().manual_seed(seed + use))
        valid = torch.arange(BATCH) != use
        advantage = drawn(seed + 20 + use, BATCH).where(valid, torch.zeros(()))
        actions.append(ReturnedAction(distribution.sample(outputs, numbers.double()), advantage, valid))
    context = drawn(seed + 5, BATCH, 2)
    return Example(drawn(seed, BATCH, SIZE), context, drawn(seed + 6, BATCH, SIZE), actions=tuple(actions))


def _by_hand(own: LocalPolicyGradient, example: Example) -> Tensor:
    """The losses, [B], of a linear policy."""
    assert example.context is not None
    x = torch.cat([example.message, example.context], 1)
    outputs = x @ own.parameters["last.weight"].T + own.parameters["last.bias"]
    each = [a.advantage * own.distribution.log_prob(outputs, a.action) for a in example.actions or ()]
    return -torch.stack(each).sum(0)


@every_distribution
def test_the_loss_is_that_of_a_policy_gradient(name: str) -> None:
    own, example = _made(name), _example(name)
    torch.testing.assert_close(own.loss(example), _by_hand(own, example).mean())


@pytest.mark.parametrize(("name", "hidden"), [("categorical", ()), ("several", ()), ("gaussian", (6,))])
def test_gradients_equal_finite_differences(name: str, hidden: tuple[int, ...]) -> None:
    own, example = _made(name, hidden, normalise="layer"), _example(name)
    buffers, step = dict(own.buffers), 1e-6

    def loss() -> float:
        own.buffers = dict(buffers)
        return float(own.loss_and_gradients([example])[0])

    _, gradients = own.loss_and_gradients([example])
    for parameter, gradient in zip(own.trainable, gradients, strict=True):
        for index in (0, parameter.numel() - 1):
            flat, found = parameter.data.view(-1), []
            for sign in (1, -1):
                flat[index] += sign * step
                found.append(loss())
                flat[index] -= sign * step
            slope = (found[0] - found[1]) / (2 * step)
            assert float(gradient.reshape(-1)[index]) == pytest.approx(slope, rel=1e-5, abs=1e-8)


@every_distribution
@LAYERS
def test_the_prediction_is_the_slope_of_the_summed_loss(name: str, hidden: tuple[int, ...]) -> None:
    own, example = _made(name, hidden), _example(name)
    predicted, step = own.predict(example), 1e-6
    for index in range(0, BATCH * SIZE, 4):
        found = []
        for sign in (1, -1):
            message = example.message.clone()
            message.view(-1)[index] += sign * step
            found.append(float(own.loss(dataclasses.replace(example, message=message)).detach()) * BATCH)
        slope = (found[0] - found[1]) / (2 * step)
        assert float(predicted.flatten()[index]) == pytest.approx(slope, rel=1e-5, abs=1e-7)


@every_distribution
def test_before_it_has_learned_it_says_nothing(name: str) -> None:
    own, example = _made(name, trained=False), _example(name)
    assert not own.predict(example).any()
    assert not _made(name).predict(dataclasses.replace(example, actions=None)).any()

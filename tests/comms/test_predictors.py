"""What holds for synthetic gradients of every kind: their own gradients, their zero start, and what moves when."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from antiphon.comms.synthetic_gradients import PREDICTORS, Example
from tests.comms.made import BATCH, CASES, DOUBLE, SIZE, case, example, make

every_case = pytest.mark.parametrize("name", CASES)


def test_every_kind_is_among_the_cases() -> None:
    learned = set(PREDICTORS) - {"lens", "local_policy"}  # which have tests of their own
    assert {kind for kind, _ in CASES.values()} == learned


@every_case
def test_gradients_equal_finite_differences(name: str) -> None:
    own, each = case(name)
    _, gradients = own.gradients([each])
    buffers = dict(own.buffers)
    step = 1e-6
    for parameter, gradient in zip(own.trainable, gradients, strict=True):
        for index in (0, parameter.numel() - 1):
            losses = []
            for sign in (1, -1):
                own.buffers = dict(buffers)
                parameter.data.view(-1)[index] += sign * step
                losses.append(float(own.gradients([each])[0]))
                parameter.data.view(-1)[index] -= sign * step
            found = (losses[0] - losses[1]) / (2 * step)
            assert float(gradient.reshape(-1)[index]) == pytest.approx(found, rel=1e-5, abs=1e-8)


@every_case
def test_the_loss_over_several_messages_is_their_sum(name: str) -> None:
    own, first = case(name)
    second = dataclasses.replace(first, message=first.message.flip(0))
    both, gradients = own.gradients([first, second])
    apart = [own.gradients([each]) for each in (first, second)]
    torch.testing.assert_close(both, apart[0][0] + apart[1][0])
    for total, *parts in zip(gradients, apart[0][1], apart[1][1], strict=True):
        torch.testing.assert_close(total, sum(parts))


@every_case
def test_untrained_it_injects_exactly_nothing(name: str) -> None:
    own, each = case(name, trained=False)
    assert torch.equal(own.predict(each), torch.zeros(BATCH, SIZE, dtype=DOUBLE))
    if own.needs_loss:
        assert torch.equal(own.value(each), torch.zeros(BATCH, dtype=DOUBLE))


@every_case
def test_a_step_lowers_the_loss_and_counts(name: str) -> None:
    own, each = case(name, trained=False)
    first, _ = own.gradients([each])
    for now in range(50):
        _, gradients = own.gradients([each])
        own.step(gradients, now)
    last, _ = own.gradients([each])
    assert last < first
    assert own.updates == 50
    assert own.predict(each).any()


@every_case
def test_what_is_said_depends_on_neither_answer_nor_past(name: str) -> None:
    own, each = case(name)
    said = own.predict(each)
    silent = dataclasses.replace(each, delta=None, loss=None, valid=None)
    assert torch.equal(own.predict(silent), said)
    assert said.shape == (BATCH, SIZE)


@pytest.mark.parametrize("name", ["linear", "mlp", "conv", "conv, hidden filters"])
def test_the_loss_of_a_regression_is_the_mean_over_the_batch_of_the_squared_distance(name: str) -> None:
    own, each = case(name)
    assert each.delta is not None
    torch.testing.assert_close(own.loss(each), (own.predict(each) - each.delta).square().sum() / BATCH)


def test_what_each_kind_needs() -> None:
    assert [kind for kind, cls in PREDICTORS.items() if not cls.needs_delta] == ["local", "lens"]
    assert [kind for kind, cls in PREDICTORS.items() if cls.needs_loss] == ["critic", "sobolev"]
    assert [kind for kind, cls in PREDICTORS.items() if cls.propagates] == ["linear", "mlp", "conv"]


@pytest.mark.parametrize("kind", ["critic", "sobolev", "sobolev_label", "local"])
def test_a_kind_whose_loss_no_sender_could_follow_says_so(kind: str) -> None:
    with pytest.raises(NotImplementedError, match="has no loss that its sender could follow"):
        make(kind).propagated(example())


def test_only_critics_have_a_value() -> None:
    with pytest.raises(NotImplementedError, match="only critics have a value"):
        make("linear").value(example())


@pytest.mark.parametrize("name", [name for name, (_, given) in CASES.items() if not given.get("hidden")])
def test_masked_rows_count_nothing_but_the_mean_is_over_the_whole_batch(name: str) -> None:
    own, each = case(name, hidden=()) if CASES[name][0] != "mlp" else case(name, norm="none")
    keep = torch.tensor([True, True, False, True, False, False])
    assert each.delta is not None
    assert each.context is not None
    assert each.target is not None
    assert each.loss is not None
    few = Example(each.message[keep], each.context[keep], each.delta[keep])
    few.target, few.loss = each.target[keep], each.loss[keep]
    each.valid = keep
    each.delta[~keep] = torch.nan
    each.loss[~keep] = torch.nan
    loss, gradients = own.gradients([each])
    loss_few, gradients_few = own.gradients([few])
    torch.testing.assert_close(loss, loss_few * 3 / BATCH)
    for mine, theirs in zip(gradients, gradients_few, strict=True):
        torch.testing.assert_close(mine, theirs * 3 / BATCH)


@pytest.mark.parametrize("name", [name for name, (_, given) in CASES.items() if given.get("hidden")])
def test_masked_rows_of_one_with_hidden_layers_add_no_error(name: str) -> None:
    own, each = case(name)
    each.valid = torch.zeros(BATCH, dtype=torch.bool)
    loss, gradients = own.gradients([each])
    assert loss == 0
    assert all(torch.equal(g, torch.zeros_like(g)) for g in gradients)


@pytest.mark.parametrize("name", ["mlp", "conv, hidden filters", "sobolev, a hidden layer"])
def test_statistics_move_only_in_learning(name: str) -> None:
    own, each = case(name)
    before = {k: v.clone() for k, v in own.buffers.items()}
    assert {"0.norm.mean", "0.norm.var"} <= set(before)
    own.predict(each)
    if own.needs_loss:
        own.value(each)
    if own.propagates:
        own.propagated(each)
    assert all(torch.equal(own.buffers[k], v) for k, v in before.items())
    each.prediction = own.predict(each)
    own.gradients([each])
    assert not any(torch.equal(own.buffers[k], v) for k, v in before.items())


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_other_norms_keep_no_statistics(norm: str) -> None:
    own = make("mlp", norm=norm)
    assert own.buffers == {}
    assert ("0.norm.gain" in own.parameters) == (norm == "layer")
    one = example(batch=1)
    torch.testing.assert_close(own.predict(one), own.predict(one))


@pytest.mark.parametrize("kind", ["mlp", "conv", "sobolev"])
def test_hidden_layers_follow_the_generator(kind: str) -> None:
    first, again = make(kind, hidden=(5, 7)), make(kind, hidden=(5, 7))
    other = make(kind, hidden=(5, 7), generator=torch.Generator().manual_seed(3))
    assert torch.equal(first.parameters["0.weight"], again.parameters["0.weight"])
    assert not torch.equal(first.parameters["0.weight"], other.parameters["0.weight"])


@every_case
def test_a_bias_before_batch_norm_stays_where_it_started(name: str) -> None:
    own, each = case(name)
    lost = [f"{key.removesuffix('.norm.mean')}.bias" for key in own.buffers if key.endswith(".norm.mean")]
    start = {key: own.parameters[key].data.clone() for key in lost}
    for now in range(5):
        _, gradients = own.gradients([each])
        own.step(gradients, now)
    for key, value in start.items():
        assert torch.equal(own.parameters[key].data, value), key

"""Policies: distributions against torch's, advantages and losses against closed forms."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch import distributions as of_torch

from antiphon.agents.advantages import Advantages, Trajectory, trajectory_of
from antiphon.agents.distributions import (
    Categorical,
    Distribution,
    Gaussian,
    MultiCategorical,
)
from antiphon.agents.policy_gradients import A2c, Ppo, Reinforce
from antiphon.agents.policy_objectives import PassConstants, PolicyChange, PolicyObjective, PolicyPorts
from antiphon.nets.random import uniform
from tests.kit.tensors import drawn

POLICIES: dict[str, type[PolicyObjective]] = {"a2c": A2c, "ppo": Ppo, "reinforce": Reinforce}
FAMILIES: tuple[Distribution, ...] = (Categorical(4), MultiCategorical((3, 2)), Gaussian(3, bounded=False))


def torchs(distribution: Distribution, outputs: Tensor) -> list[of_torch.Distribution]:
    """The same distribution, as independent ones of torch per component."""
    if isinstance(distribution, Gaussian):
        mean, log_deviation = outputs.chunk(2, -1)
        return [of_torch.Independent(of_torch.Normal(mean, log_deviation.exp()), 1)]
    ns = (distribution.n,) if isinstance(distribution, Categorical) else distribution.ns
    return [of_torch.Categorical(logits=part) for part in torch.split(outputs, list(ns), -1)]


def actions_of(distribution: Distribution, rows: int, seed: int = 3) -> Tensor:
    uniforms = uniform(seed, 0, rows * distribution.draws).view(rows, -1)
    return distribution.sample(drawn(9, rows, distribution.parameters), uniforms)


# --- distributions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distribution", FAMILIES)
def test_log_probabilities_and_entropies_are_those_of_torch(distribution: Distribution) -> None:
    outputs, action = drawn(1, 7, distribution.parameters), actions_of(distribution, 7)
    theirs = torchs(distribution, outputs)
    log_prob, entropy = distribution.log_prob_and_entropy(outputs, action)
    best, _ = distribution.log_prob_and_entropy(outputs, distribution.mode(outputs))
    assert (log_prob <= best).all()
    columns = [action] if len(theirs) == 1 else list(action.unbind(-1))
    expected = sum(each.log_prob(column) for each, column in zip(theirs, columns, strict=True))
    torch.testing.assert_close(log_prob, expected)
    torch.testing.assert_close(entropy, sum(each.entropy() for each in theirs))
    in_two = outputs.expand(2, 7, -1), action.expand(2, *action.shape)
    stacked, _ = distribution.log_prob_and_entropy(*in_two)
    torch.testing.assert_close(stacked, torch.as_tensor(expected).expand(2, 7))


# --- advantages ---------------------------------------------------------------------------------------------------


def trajectory(
    rewards: Tensor,
    terminated: Tensor | None = None,
    truncated: Tensor | None = None,
    *,
    absent: Tensor | None = None,
    actions: Tensor | None = None,
    known_length: bool = False,
) -> Trajectory:
    """A window, of which every end that is left out is nowhere."""
    nothing = torch.zeros(rewards.shape, dtype=torch.bool)
    terminated = nothing if terminated is None else terminated
    truncated = nothing if truncated is None else truncated
    experience = ~(nothing if absent is None else absent)
    return trajectory_of(actions, rewards, terminated, truncated, experience, known_length=known_length)


def by_hand(of: Trajectory, values: Tensor, discount: float, trace: float) -> Tensor:
    """Advantages as weighted sums of n-step ones, straight from their definition (Schulman et al. 2016, eq. 15)."""
    found = torch.zeros_like(values)
    ticks, rows = values.shape
    for t, row in itertools.product(range(ticks), range(rows)):
        if of.unseen[t, row]:
            continue
        n_step, total = [], torch.zeros((), dtype=values.dtype)
        for k in range(t, ticks):
            if of.unseen[k, row]:
                break
            total = total + discount ** (k - t) * of.rewards[k, row]
            end = bool(of.terminated[k, row])
            n_step.append(
                total + (0 if end else discount ** (k - t + 1) * values[k + 1, row]) - values[t, row]
            )
            if end:
                break
        weights = [(1 - trace) * trace**i for i in range(len(n_step) - 1)] + [trace ** (len(n_step) - 1)]
        found[t, row] = sum(w * a for w, a in zip(weights, n_step, strict=True))
    return found


@pytest.mark.parametrize("trace", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("known_length", [False, True])
@pytest.mark.parametrize("kind", ["terminated", "truncated", "absent"])
def test_advantages_with_an_end_at_every_place(kind: str, known_length: bool, trace: float) -> None:
    """Which ticks are unseen, too (rule 40c)."""
    ticks = 4
    ends = torch.stack([torch.tensor(e) for e in itertools.product([False, True], repeat=ticks)], 1)
    rewards, values = drawn(1, ticks, 16), drawn(2, ticks, 16)
    window = trajectory(rewards, **{kind: ends}, known_length=known_length)
    last = torch.zeros_like(ends)
    last[-1] = ~ends[-1] if known_length and kind == "terminated" else True
    assert torch.equal(window.unseen, last if kind == "terminated" else last | ends)
    found = window.advantages(values, None, 0.9, trace)
    torch.testing.assert_close(found, by_hand(window, values, 0.9, trace))
    assert (found[window.unseen] == 0).all()


def test_returns_of_reinforce_count_to_the_end_of_their_episode() -> None:
    yes, no = True, False
    rewards = drawn(3, 5, 3)
    terminated = torch.tensor([[no] * 3, [no] * 3, [yes, no, no], [no] * 3, [no] * 3])
    truncated = torch.tensor([[no] * 3, [no] * 3, [no] * 3, [no, yes, no], [no] * 3])
    absent = torch.zeros(5, 3, dtype=torch.bool)
    absent[1, 1] = True
    window = trajectory(rewards, terminated, truncated, absent=absent)
    found = Reinforce(None, discount=0.9).advantages(window)
    # Row 0 terminates at tick 2; row 1 has left at 1, is back at 2 and truncated at 3; row 2 has no end.
    assert found.valid.T.tolist() == [[yes, yes, yes, no, no], [yes, no, yes, yes, no], [no] * 5]
    first = rewards[0, 0] + 0.9 * rewards[1, 0] + 0.81 * rewards[2, 0]
    last = rewards[1, 0] + 0.9 * rewards[2, 0], rewards[2, 0]
    again = rewards[0, 1], rewards[2, 1] + 0.9 * rewards[3, 1], rewards[3, 1]
    returns = torch.stack([first, *last, *again])
    torch.testing.assert_close(found.returns.T[found.valid.T], returns)
    torch.testing.assert_close(found.advantages.T[found.valid.T], returns - returns.mean())


@pytest.mark.parametrize("known_length", [False, True])
def test_ticks_at_which_an_agent_waits_count_with_its_last_turn(known_length: bool) -> None:
    """Semantics 38a."""
    turns = torch.tensor([False, True, False, False, True, False, True, False, True, False])
    rewards, values, final = (drawn(seed, len(turns), 1) for seed in (1, 2, 3))
    terminated, truncated = torch.zeros(2, len(turns), 1, dtype=torch.bool)
    truncated[2], terminated[5], terminated[9] = True, True, True
    every = torch.ones_like(terminated)
    ends = {"final_values": final, "final_known": every, "known_length": known_length}
    window = trajectory_of(None, rewards, terminated, truncated, every, waiting=~turns[:, None], **ends)
    sums = torch.stack([rewards[t] + rewards[t + 1] for t in (1, 4, 6, 8)])
    ended = (
        torch.tensor([[False], [True], [False], [True]]),
        torch.tensor([[True], [False], [False], [False]]),
    )
    ends["final_values"], ends["final_known"] = final[[2, 5, 7, 9]], every[:4]
    alone = trajectory_of(None, sums, *ended, every[:4], **ends)
    for policy, known in ((A2c(None), True), (Reinforce(None), False)):
        found = policy.advantages(window, values if known else None)
        wanted = policy.advantages(alone, values[turns] if known else None)
        assert torch.equal(found.valid[turns], wanted.valid)
        assert not found.valid[~turns].any()
        assert torch.equal(found.returns[turns][wanted.valid], wanted.returns[wanted.valid])
        assert torch.equal(found.advantages[turns], wanted.advantages)


@pytest.mark.parametrize("rows", [15, 16])
def test_advantages_are_normalised_from_32_samples(rows: int) -> None:
    rewards, values = drawn(1, 3, rows), drawn(2, 3, rows)
    window = trajectory(rewards)
    raw = window.advantages(values, None, 0.99, 0.95)
    found = A2c(None).advantages(window, values)
    if rows == 15:
        torch.testing.assert_close(found.advantages, raw)
    else:
        known = raw[:-1]
        torch.testing.assert_close(found.advantages[:-1], (known - known.mean()) / known.std())
    torch.testing.assert_close(found.returns, raw + values)  # returns are never normalised


@pytest.mark.parametrize("kind", ["a2c", "reinforce"])
@pytest.mark.parametrize("reward", [1.0, 0.1, -300.7])
def test_returns_that_are_all_the_same_teach_no_action(kind: str, reward: float) -> None:
    # Of two members the first has equal returns in float32, whose mean is rounded; the second lost one reward.
    rewards = torch.full((8, 64), reward, dtype=torch.float32)
    rewards[3, 40] = 0.0
    ends = torch.ones(8, 64, dtype=torch.bool)
    values = None if kind == "reinforce" else drawn(2, 8, 64).float() * 0.1
    found = POLICIES[kind](None).advantages(trajectory(rewards, ends), values, member_count=2)
    assert (found.advantages[:, :32] == 0).all()
    torch.testing.assert_close(found.advantages[:, 32:][found.valid[:, 32:]].var(), torch.tensor(1.0))


# --- losses -------------------------------------------------------------------------------------------------------


def window_of(
    distribution: Distribution, ticks: int, rows: int, seed: int = 1, absent: Tensor | None = None
) -> Trajectory:
    """A random window with a few ends."""
    actions = torch.stack([actions_of(distribution, rows, seed + t) for t in range(ticks)])
    chance = uniform(seed, 99, ticks * rows).view(ticks, rows)
    return trajectory(drawn(seed, ticks, rows), chance < 0.15, chance > 0.9, absent=absent, actions=actions)


@pytest.mark.parametrize("distribution", FAMILIES)
@pytest.mark.parametrize("kind", ["a2c", "ppo", "reinforce"])
def test_losses_against_the_formula(kind: str, distribution: Distribution) -> None:
    ticks, rows = 5, 4
    window = window_of(distribution, ticks, rows)
    outputs = drawn(2, ticks, rows, distribution.parameters)
    values = None if kind == "reinforce" else drawn(3, ticks, rows)
    objective = POLICIES[kind](distribution, entropy=0.3, value=0.7)
    advantages = objective.advantages(window, values)
    found = objective.losses(PolicyPorts(outputs, values), window.actions, advantages)
    valid, actions = advantages.valid, window.actions
    assert actions is not None
    log_prob, entropy = distribution.log_prob_and_entropy(outputs, actions)
    policy = -advantages.advantages * (log_prob if kind != "ppo" else 1)
    expected = policy - 0.3 * entropy
    if values is not None:
        expected = expected + 0.7 * (values - advantages.returns).square()
    torch.testing.assert_close(found.losses.sum() / rows, expected[valid].mean())
    assert (found.losses[~valid] == 0).all()
    change_metrics = {} if found.change is None else PolicyChange.metrics([found.change])
    assert {*found.metrics, *change_metrics} == {*objective.logged}
    assert all(value.item() == 0 for value in change_metrics.values())
    torch.testing.assert_close(found.metrics["policy_loss"], policy[valid].mean().reshape(1))
    torch.testing.assert_close(found.metrics["entropy"], entropy[valid].mean().reshape(1))
    if values is not None:
        returns = advantages.returns[valid]
        unexplained = (returns - values[valid]).var() / returns.var()
        torch.testing.assert_close(found.metrics["explained_variance"], (1 - unexplained).reshape(1))


@pytest.mark.parametrize(
    ("advantage", "change", "slope"),
    [
        (1.0, 0.1, -1.1),
        (1.0, 0.3, 0.0),  # it has changed far enough that way
        (1.0, -0.5, -0.5),
        (-1.0, 0.5, 1.5),
        (-1.0, -0.5, 0.0),
        (-1.0, -0.1, 0.9),
    ],
)
def test_ratios_beyond_the_clip_have_no_gradient(advantage: float, change: float, slope: float) -> None:
    """`change` of the ratio from 1; the slope of the loss by the log-probability is -A times the ratio, or 0."""
    objective = Ppo(None, clip=0.2, entropy=0.0)
    zero, valid = torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool)
    known = Advantages(torch.full((1, 1), advantage), zero, valid, zero)
    log_prob = torch.full((1, 1), 1.0 + change).log().requires_grad_()
    message = (log_prob, torch.zeros(1, 1))
    (constants,) = PassConstants.of_parts(None, torch.zeros(1, 1), known, 1.0, 1, [torch.arange(1)])
    slopes, policy_change = objective.slopes(PolicyPorts(None, None, [message]), constants)
    torch.testing.assert_close(dict(slopes)[log_prob].item(), slope)
    assert policy_change is not None
    far = replace(policy_change, log_ratio=torch.zeros(1, 2), valid=valid.expand(1, 2))
    for passes, share in (
        ([policy_change], 1.0),
        ([policy_change, far, policy_change], 2 / 3),
    ):  # of other rows too
        metrics = PolicyChange.metrics(passes)
        torch.testing.assert_close(metrics["clip_fraction"].item(), share * (abs(change) > 0.2))
        expected = share * (change - torch.tensor(1 + change).log())
        torch.testing.assert_close(metrics["approx_kl"][0], expected)

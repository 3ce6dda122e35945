"""Policies: what acting agents do, what followed in a window, and the passes of `ppo` after the first (rules 37-42)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from antiphon.agents.network import OBJECTIVE, VALUE
from antiphon.agents.policies import Advantages, PolicyLosses, Trajectory, trajectory_of
from antiphon.comms.backward_requests import constant
from antiphon.engine.heart.message import Action, StepSignals, Tick, Window
from antiphon.engine.heart.updates import Update
from antiphon.engine.policies.policy_window import PolicyWindow
from antiphon.engine.reference.forward import replay
from antiphon.engine.reference.ledger import mask_fill_zero
from antiphon.engine.reference.state import State
from antiphon.nets.random import seed_for, uniform

if TYPE_CHECKING:
    from antiphon.engine.heart.agent import Agent, Goal

# --- acting ------------------------------------------------------------------------------------------------


def act(state: State, tick: Tick) -> None:
    """Let an acting agent's tick set its action, which holds until its next tick; a policy's is sampled (rule 37)."""
    agent, outputs = state.agents[tick.agent], constant(tick.ports[OBJECTIVE])
    policy = None if agent.goal is None else agent.goal.policy
    if policy is None or policy.distribution is None:
        agent.action = outputs
        return
    if state.quarantine:
        outputs = outputs.nan_to_num()  # of an agent that has diverged
    draws = policy.distribution.draws
    numbers = uniform(seed_for(agent.seed, "action"), tick.step, state.batch * draws, outputs.device)
    tick.action = policy.distribution.sample(outputs, numbers.view(state.batch, draws))
    agent.action = tick.action


def forget_actions(state: State) -> None:
    """Drop the outputs that act at their own step only: those of an only actor without a policy."""
    for agent in state.agents.values():
        if agent.acts is True and (agent.goal is None or agent.goal.policy is None):
            agent.action = None


def environment_action(state: State) -> Action | None:
    """Return what the actors do at the newest step, as the environment's space counts it; None: nothing."""
    space, parts = state.system.description.action_space, dict[str, Tensor]()
    for agent in state.agents.values():
        if not agent.acts or agent.goal is None:
            continue
        action = agent.action
        policy = agent.goal.policy
        if action is None:  # before its first tick
            if policy is None and agent.acts is True:
                continue
            size = agent.learner.network.heads[OBJECTIVE].size
            action = torch.zeros(state.batch, *size, dtype=state.system.dtype, device=state.system.device)
            action = (
                action if policy is None or policy.distribution is None else policy.distribution.mode(action)
            )
        own: Any = space[agent.acts] if isinstance(agent.acts, str) and space is not None else space  # type: ignore[index]
        if policy is not None and not action.is_floating_point():
            action = action.reshape(-1, *own.shape) + torch.as_tensor(getattr(own, "start", 0)).to(action)
        if agent.acts is True:
            return action
        parts[agent.acts] = action
    return parts or None


def note_outcome(state: State, signals: StepSignals) -> None:
    """Add a step to what followed the newest tick of each policy in its open window (rule 38)."""
    for name, agent in state.agents.items():
        if agent.goal is None or agent.goal.policy is None:
            continue
        ticks = [tick for tick in state.group_of[name].window.ticks() if tick.agent == name]
        if ticks:
            ticks[-1].outcomes.append(signals)


# --- a window ----------------------------------------------------------------------------------------------


def policy_window(state: State, agent: Agent, window: Window) -> PolicyWindow | None:
    """Evaluate a policy over a window (rules 38-41); None where no tick teaches anything."""
    ticks = [tick for tick in window.ticks() if tick.agent == agent.name]
    if agent.goal is None or agent.goal.policy is None or not ticks or not ticks[0].participates:
        return None
    followed = [_outcome(state, agent.goal, tick.outcomes) for tick in ticks[:-1]]
    followed.append(_outcome(state, agent.goal, ticks[-1].outcomes[:1]))
    rewards = torch.stack([each.reward for each in followed])
    for t, (tick, after) in enumerate(pairwise(ticks)):
        rewards[t] += _direction_reward(state, agent, tick, after, window, followed[t])
    description = state.system.description
    trajectory = trajectory_of(
        None if ticks[0].action is None else torch.stack([_action(tick) for tick in ticks]),
        rewards,
        torch.stack([each.terminated for each in followed]),
        torch.stack([each.truncated for each in followed]),
        torch.stack([each.experience for each in followed]),
        known_length=description.episode_steps is not None or description.longest_episode is not None,
    )
    values = _values(ticks)
    advantages = agent.goal.policy.advantages(trajectory, None if values is None else constant(values))
    if not advantages.valid.any():
        return None
    first = pass_losses(agent, ticks, trajectory, advantages)
    return PolicyWindow(ticks, trajectory, advantages, first)


def pass_losses(
    agent: Agent,
    ticks: Sequence[Tick],
    trajectory: Trajectory,
    advantages: Advantages,
    then: Tensor | None = None,
    rows: Tensor | slice = slice(None),
) -> PolicyLosses:
    """Return the losses of a pass over some environments of a window, whose ticks have their ports (rules 41, 42).

    `then`: [T, B], log-probabilities of the first pass; None: this is it.
    """
    assert agent.goal is not None
    assert agent.goal.policy is not None
    outputs = (
        torch.stack([tick.ports[OBJECTIVE] for tick in ticks])[:, rows]
        if OBJECTIVE in ticks[0].ports
        else None
    )
    values, then = _values(ticks), None if then is None else then[:, rows]
    values = None if values is None else values[:, rows]
    messages = [(log_prob[:, rows], entropy[:, rows]) for log_prob, entropy in _messages(agent, ticks)]
    constants = trajectory.of(rows), advantages.of(rows)
    return agent.goal.policy.losses(outputs, values, *constants, then, messages=messages)


def _messages(agent: Agent, ticks: Sequence[Tick]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield log-probability and entropy of sampled messages, [T, B] each: one message a port, zero where none was sent (41)."""
    learned = [c for c in agent.outgoing if c.sampler is not None and c.sampler.learned]
    for port in dict.fromkeys(channel.port for channel in learned):
        found = []
        for tick in ticks:
            output, nothing = tick.ports[port], torch.zeros_like(tick.ports[port].flatten(1)[:, 0])
            sent = next((c for c in learned if c.port == port and c.name in tick.sampled), None)
            if sent is None or sent.sampler is None:
                found.append((nothing, nothing))
            else:
                log_prob = sent.sampler.log_prob(output, tick.sampled[sent.name])
                found.append((log_prob, sent.sampler.entropy(output)))
        yield torch.stack([log_prob for log_prob, _ in found]), torch.stack([entropy for _, entropy in found])


def _values(ticks: Sequence[Tick]) -> Tensor | None:
    """[T, B]; None of a policy without values."""
    return torch.stack([tick.ports[VALUE][:, 0] for tick in ticks]) if VALUE in ticks[0].ports else None


def _action(tick: Tick) -> Tensor:
    assert tick.action is not None
    return tick.action


@dataclass(slots=True)
class _Outcome:
    """What followed a tick, [B] each."""

    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    experience: Tensor


def _outcome(state: State, goal: Goal, steps: list[StepSignals]) -> _Outcome:
    """Add up the rewards of some steps, as far as their episode goes on (rule 38)."""
    nowhere = torch.zeros(state.batch, dtype=torch.bool, device=state.system.device)
    found = _Outcome(state.system.nothing, nowhere, nowhere, ~nowhere)
    going = ~nowhere
    for signals in steps:
        known, reward = signals.signals.get("_reward", ~nowhere), state.system.nothing
        for name, weight in goal.rewards:
            if name in signals.signals:
                known = known & signals.signals.get(f"_{name}", ~nowhere)
                reward = reward + weight * signals.signals[name].to(state.system.dtype)
        found.reward = found.reward + mask_fill_zero(going & known, reward)
        if signals is steps[0]:
            found.experience = known
        terminated, truncated = (signals.signals[name] > 0 for name in goal.ends)
        found.terminated = found.terminated | (going & terminated)
        found.truncated = found.truncated | (going & truncated & ~terminated)
        going = going & ~terminated & ~truncated
    return found


def _direction_reward(
    state: State, agent: Agent, tick: Tick, after: Tick, window: Window, outcome: _Outcome
) -> Tensor:
    """[B]: the weighted reward `goal.cosine` of a tick (rule 39); zero without a goal, or where the episode ended."""
    direction = None if agent.goal is None else agent.goal.direction
    if agent.goal is None or direction is None:
        return state.system.nothing
    channel = agent.incoming[direction.place].name
    read = [read for read in tick.reads if read.channel == channel][-1]
    message = agent.incoming[direction.place].zeros if read.value is None else read.value
    if read.stamp is not None:
        ledger, sent = state.ledgers[channel], window.live[channel, read.stamp].flatten(1)
        message = mask_fill_zero(ledger.mask(read.available), ledger.link.carry(read.stamp, sent))
    before, now = (
        each.step_signals.signals[direction.signal].flatten(1).to(state.system.dtype)
        for each in (tick, after)
    )
    cosine = cosine_similarity(now - before, constant(message), dim=1)
    goes_on = ~(outcome.terminated | outcome.truncated)
    return mask_fill_zero(goes_on, dict(agent.goal.rewards)["goal.cosine"] * cosine)


# --- further passes ----------------------------------------------------------------------------------------


def further_passes(state: State, update: Update, step: int) -> None:
    """Take the passes of `ppo` over a window that follow the update, each over parts of the environments (rule 42).

    Only the parameters of the window's group move: what was received, the state at its start, advantages and returns
    are those of the first pass. All environments are replayed, of which the losses of a part are followed.
    """
    group, window, policies = update.group, update.window, update.window_loss.policies
    goals = {name: goal for name in policies if (goal := state.agents[name].goal) is not None}
    again = [name for name in goals if _passes(state.agents[name]) > 1]
    if not again:
        return
    policy = goals[again[0]].policy
    seed = next(state.agents[name].seed for name in group.members if _passes(state.agents[name]) > 1)
    assert policy is not None
    for epoch in range(1, policy.passes):
        chance = uniform(seed_for(seed, "epoch", str(epoch)), step, state.batch, state.system.device)
        for rows in chance.argsort(stable=True).tensor_split(policy.minibatches):
            replay(state, window)
            losses = []
            for name in again:
                known, agent = policies[name], state.agents[name]
                constants = (known.trajectory, known.advantages, known.first.log_prob)
                found = pass_losses(agent, known.ticks, *constants, rows)
                known.further.append(found.figures)
                losses.append(goals[name].weight * found.losses)
            if not _follow(state, update, torch.stack(losses).sum() / len(rows), step):
                return


def _passes(agent: Agent) -> int:
    return 0 if agent.goal is None or agent.goal.policy is None else agent.goal.policy.passes


def _follow(state: State, update: Update, loss: Tensor, step: int) -> bool:
    """Move a group's parameters along the gradient of a loss; False: it has diverged (rule 32)."""
    group = update.group
    learners = [name for name in group.owners if state.participates(name, update.window.number)]
    parameters = [p for name in learners for p in state.agents[name].learner.trainable]
    found = torch.autograd.grad(loss, parameters, allow_unused=True) if parameters else ()
    wrong = state.divergence_of(found, [])
    if wrong:
        state.stop(group, step, f"the gradient at step {step} {wrong}")
        return False
    rest = iter(found)
    for name in learners:  # rule 27a
        own = [next(rest) for _ in state.agents[name].learner.trainable]
        if any(g is not None for g in own):
            state.learners[name].step([None if g is None else g / group.owners[name] for g in own], step)
    return True

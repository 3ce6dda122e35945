"""Policies: what acting agents do, what followed in a window, and the passes of `ppo` after the first (rules 37-42)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from antiphon.agents.advantages import RETURNS, Advantages, Trajectory, running_returns, trajectory_of
from antiphon.agents.learner import TARGET
from antiphon.agents.network import OBJECTIVE, VALUE, sub, with_prefix
from antiphon.agents.policy_objectives import PolicyChange, PolicyPorts
from antiphon.agents.q_learning import QLearning, ReplayBuffer
from antiphon.agents.rewards import Rewards
from antiphon.comms.backward_requests import as_leaf, constant
from antiphon.comms.examples import Example
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.ends import Sent
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.updates import PolicyWindow, Update
from antiphon.engine.heart.window import CountedRead, Tick, Window
from antiphon.nets.mask import NONE, Mask
from antiphon.nets.random import seed_for, uniform
from tests.reference.forward import input_of, message_read, replay
from tests.reference.predictors import example_of, gated, learned, refit
from tests.reference.state import State, gradients_of
from tests.reference.wires import as_mask, mask_fill_zero


def act(state: State, tick: Tick) -> None:
    """Let an acting agent's tick set its action, which holds until its next tick; a policy's is sampled (rule 37)."""
    agent, outputs = state.agents[tick.agent_name], constant(tick.ports[OBJECTIVE])
    distribution = None if agent.policy is None else agent.policy.distribution
    if agent.policy is not None and distribution is not None:
        shape, distribution = (state.batch, distribution.draws), agent.policy.at(tick.step)
        seed = seed_for(agent.random_seed, "action")
        numbers = uniform(seed, tick.step, shape[0] * shape[1], outputs.device)
        outputs = tick.action = distribution.sample(outputs, numbers.view(shape))
    agent.kept.newest_action = outputs


def policy_window(state: State, agent: Agent, window: Window) -> PolicyWindow | None:
    """Evaluate a policy over a window (rules 38-41); None where no tick teaches anything."""
    ticks = [tick for tick in window.ticks() if tick.agent_name == agent.name]
    goal, policy = agent.goal, agent.policy
    if goal is None or policy is None or not ticks or ticks[0].learning_rows is NONE:
        return None
    assert goal.rewards is not None
    steps = [*(tick.outcomes for tick in ticks[:-1]), ticks[-1].outcomes[:1]]
    outcomes = zip(*(_outcome(state, goal.rewards, some) for some in steps), strict=True)
    rewards, *ends = (torch.stack(each) for each in outcomes)
    direction = goal.rewards.direction
    if direction is not None:  # rule 39: how far a signal moved where a message points to
        weight = goal.rewards.weight_by_name["goal.cosine"]
        for t, pair in enumerate(pairwise(ticks)):
            message = message_read(state, pair[0].reads_by_channel[direction.channel_index][-1], window)
            signals = [tick.observed_signals.signals[direction.signal_name].flatten(1) for tick in pair]
            moved = signals[1].to(message.dtype) - signals[0].to(message.dtype)
            cosine = weight * cosine_similarity(moved, constant(message), dim=1)
            rewards[t] += mask_fill_zero(~(ends[0] | ends[1])[t], cosine)
    description = state.system.description
    known_length = description.episode_steps is not None or description.longest_episode is not None
    actions = [tick.action for tick in ticks if tick.action is not None]
    sampled = torch.stack(actions) if actions else None
    turn, waiting = goal.rewards.may_act_signal_name, None
    if turn is not None:
        waiting = torch.stack([signals[0].signals[turn] for signals in steps]) <= 0
    settings = {"known_length": known_length, "waiting": waiting, **_final(state, ticks)}
    trajectory = trajectory_of(sampled, rewards, *ends, **settings)
    values = _port(ticks, VALUE)
    values = None if values is None else values[..., 0]
    statistics = window.statistics_before[state.system.learner_name_by_agent[agent.name]].get(RETURNS)
    before = None if statistics is None else statistics.unsqueeze(0)
    advantages = policy.advantages(trajectory, values, statistics=before)
    if not advantages.valid.any():
        return None
    outputs, messages = _port(ticks, OBJECTIVE), [*_messages(agent, ticks)]
    first = policy.losses(PolicyPorts(outputs, values, messages), sampled, advantages)
    for name, number in policy.metrics_at(ticks[-1].step).items():
        first.metrics[name] = torch.as_tensor(number).view(1)
    return PolicyWindow(ticks, trajectory, advantages, first)


def _final(state: State, had: Sequence[Tick]) -> dict[str, Tensor]:
    """The values of final observations, [T, B], and where they are known (40)."""
    values = [state.nothing if one.final_value is None else one.final_value for one in had]
    known = [one.final_known.tensor(state.batch, state.nowhere.device) for one in had]
    return {"final_values": torch.stack(values), "final_known": torch.stack(known)}


def _outcome(state: State, own: Rewards, steps: list[StepSignals]) -> tuple[Tensor, ...]:
    """What followed a tick in its episode (38), [B] each: rewards, termination, truncation; whether it was experience."""
    reward = state.nothing
    terminated = truncated = state.nowhere
    going = experience = ~state.nowhere
    for signals in steps:
        now, present = state.nothing, []
        for name, weight in own.weight_by_name.items():
            if name in signals.signals:
                present.append(signals.signals.get(f"_{name}", ~state.nowhere))
                now = now + mask_fill_zero(present[-1], weight * signals.signals[name].to(now.dtype))
        if own.life_reward_name is not None:
            present = [signals.signals.get(f"_{own.life_reward_name}", ~state.nowhere)]
        known = signals.signals.get("_reward", ~state.nowhere)
        reward = reward + mask_fill_zero(going & known, now)
        if signals is steps[0]:
            experience = known & torch.stack(present).any(0) if present else known
        final, cut = (signals.signals[name] > 0 for name in own.end_names)
        terminated, truncated = terminated | (going & final), truncated | (going & cut & ~final)
        going = going & ~final & ~cut
    return reward, terminated, truncated, experience


def pass_losses(agent: Agent, known: PolicyWindow, rows: Tensor) -> Tensor:
    """Return the losses, [T, rows], of a pass over some environments of a window, whose ticks have their ports (rules 41, 42)."""
    outputs, own = _port(known.ticks, OBJECTIVE, rows), known.advantages
    each = (own.advantages, own.returns, own.valid, own.targets)
    advantages, _, valid, targets = some = [values[:, rows] for values in each]
    actions = None if known.trajectory.actions is None else known.trajectory.actions[:, rows]
    if isinstance(agent.policy, QLearning):
        return agent.policy.losses(PolicyPorts(outputs, None), actions, Advantages(*some)).losses
    policy: Any = agent.policy
    parts = [(log_prob[:, rows], entropy[:, rows]) for log_prob, entropy in _messages(agent, known.ticks)]
    if actions is not None:
        parts.insert(0, policy.distribution.log_prob_and_entropy(outputs, actions))
    log_prob, entropy = (torch.stack(own).sum(0) for own in zip(*parts, strict=True))
    change = (log_prob - known.first_pass_losses.log_prob[:, rows]).where(valid, 0)
    known.policy_changes.append(PolicyChange(constant(change), policy.clip, valid, 1))
    ratio, errors = change.exp(), _port(known.ticks, VALUE, rows)[..., 0] - targets  # type: ignore[index]
    gain = torch.minimum(ratio * advantages, ratio.clamp(1 - policy.clip, 1 + policy.clip) * advantages)
    losses = (policy.value * errors.square() - gain - policy.entropy * entropy).where(valid, 0)
    return losses * len(rows) / valid.sum().clamp(min=1)


def _port(ticks: Sequence[Tick], port: str, rows: Tensor | slice = slice(None)) -> Tensor | None:
    """[T, rows, …]: a port of an agent at its ticks; None: it has none."""
    return torch.stack([tick.ports[port] for tick in ticks])[:, rows] if port in ticks[0].ports else None


def _learned_ports(agent: Agent) -> dict[str, list[Channel]]:
    """The channels of an agent whose sampled messages its policy learns, by port."""
    found: dict[str, list[Channel]] = {}
    for channel in agent.connections.outgoing:
        if channel.content.sampler is not None and channel.content.sampler.learned:
            found.setdefault(channel.content.port_name, []).append(channel)
    return found


def _messages(agent: Agent, ticks: Sequence[Tick]) -> Iterator[tuple[Tensor, ...]]:
    """Yield log-probability and entropy of sampled messages, [T, B] each: one message a port, zero where none was sent (41)."""
    for port, channels in _learned_ports(agent).items():
        pairs = []
        for tick in ticks:
            output, nothing = tick.ports[port], torch.zeros_like(tick.ports[port].flatten(1)[:, 0])
            sent = next((c for c in channels if c.name in tick.sampled_messages), None)
            pair = nothing, nothing
            if sent is not None and sent.content.sampler is not None:
                sample = tick.sampled_messages[sent.name]
                sampler = sent.content.sampler
                pair = sampler.log_prob(output, sample), sampler.entropy(output)
            pairs.append(pair)
        yield tuple(torch.stack(each) for each in zip(*pairs, strict=True))


def update_returns(state: State, update: Update) -> None:
    """Add a window's returns to the running statistics of the agents that normalise them (rule 41)."""
    for name, policy in update.window_loss.policy_windows.items():
        learner, moments = state.agents[name].learner, policy.advantages.moments
        if moments is not None and not learner.frozen:
            after = running_returns(learner.buffers[RETURNS].unsqueeze(0), moments)[0]
            learner.buffers = learner.buffers | {RETURNS: after}


def copy_target(state: State, update: Update) -> None:
    """Copy the parameters of agents that have taken a multiple of `period` steps since their last window (rule 41a)."""
    for name in update.window_loss.policy_windows:
        learner, objective = state.agents[name].learner, state.agents[name].policy
        if not isinstance(objective, QLearning):
            continue
        taken = 1 + (objective.epochs - 1) * objective.minibatches
        if learner.updates % objective.period < taken:
            copied = {key: p.detach().clone() for key, p in learner.parameters.items()}
            learner.buffers = learner.buffers | with_prefix(TARGET, copied)


def remember(state: State, agent: Agent, known: PolicyWindow, window: Window) -> None:
    """Let a window take the place of the oldest one of an agent, unless it taught nothing (rule 42a)."""
    trajectory, start = known.trajectory, window.statistics_before[agent.name]
    unseen = ~known.advantages.valid | trajectory.bootstrapped
    waiting = torch.zeros_like(unseen) if trajectory.waiting is None else trajectory.waiting
    parts = {name: getattr(trajectory, name) for name in ("actions", "rewards", "terminated")}
    parts |= {"unseen": unseen, "waiting": waiting}
    parts["inputs"] = torch.stack([constant(input_of(state, tick, window, start)) for tick in known.ticks])
    assert isinstance(agent.policy, QLearning)
    buffer = agent.kept.replay_buffer
    if buffer is None:
        kept = {key: part.transpose(0, 1).unsqueeze(1) for key, part in parts.items()}
        empty = {
            key: torch.zeros_like(one).repeat_interleave(agent.policy.replay, 1) for key, one in kept.items()
        }
        empty["unseen"].fill_(True)
        buffer = agent.kept.replay_buffer = ReplayBuffer(empty, torch.zeros(state.batch, dtype=torch.int64))
    if not unseen.all():
        for key, part in parts.items():
            values = buffer.windows[key] = buffer.windows[key].clone()
            values[:, int(buffer.written[0]) % agent.policy.replay] = part.transpose(0, 1)
        buffer.written = buffer.written + 1


def drawn(agent: Agent, step: int, epoch: int, rows: Tensor) -> Tensor:
    """Return the losses, [T, rows], of a window of earlier of each of some environments, by the parameters of now (rule 42a)."""
    policy, learner, buffer = agent.policy, agent.learner, agent.kept.replay_buffer
    assert isinstance(policy, QLearning)
    assert buffer is not None
    batch, count = len(buffer.written), min(int(buffer.written[0]), policy.replay)
    numbers = uniform(seed_for(agent.random_seed, "replay"), step, policy.epochs * batch)[epoch * batch :]
    own = {
        key: torch.stack([values[b, int(numbers[b] * count)] for b in rows.tolist()], 1)
        for key, values in buffer.windows.items()
    }
    target = sub(learner.buffers, TARGET)
    outputs, values = [], []
    for x in own["inputs"]:
        outputs.append(learner.evaluate(learner.buffers, x)[0][OBJECTIVE])
        beside = constant(
            learner.network(target, learner.buffers, x, training=False, state=None)[0][OBJECTIVE]
        )
        values.append(beside[torch.arange(len(x)), outputs[-1].argmax(1)])
    nowhere = torch.zeros_like(own["terminated"])
    did = own["actions"], own["rewards"], own["terminated"], nowhere, own["unseen"]
    trajectory, statistics = Trajectory(*did, nowhere, None, own["waiting"]), learner.buffers.get(RETURNS)
    before = None if statistics is None else statistics.unsqueeze(0)
    advantages = policy.advantages(trajectory, torch.stack(values), statistics=before, counted=False)
    return policy.losses(PolicyPorts(torch.stack(outputs), None), own["actions"], advantages).losses


def further_passes(state: State, update: Update, updates: Sequence[Update], step: int) -> None:
    """Take the passes of `ppo` over a window that follow the update, each over parts of the environments (rule 42).

    Only the parameters of the window's group move, and of senders that are replayed beside it (42b): what else was received,
    the state at its start, advantages and returns are those of the first pass. All environments are replayed, of which the
    losses of a part are followed.
    """
    members = [state.agents[name] for name in update.group.agent_names]
    again = {agent: agent.policy for agent in members if agent.policy is not None and agent.policy.epochs > 1}
    policies = update.window_loss.policy_windows.items()
    windows = [(agent, known) for name, known in policies if (agent := state.agents[name]) in again]
    if not windows:
        return
    incoming = [channel for agent in members for channel in agent.connections.incoming]
    senders = [
        (channel, sending)
        for channel in incoming
        for sending in updates
        if channel.synthetic_gradient.replayed and channel.sender in sending.group.agent_names
    ]
    leader, policy = next(iter(again.items()))  # whose passes all of the group share
    draws = isinstance(policy, QLearning) and policy.replay > 1
    if draws:
        remember(state, *windows[0], update.window)
    for epoch in range(1, policy.epochs):
        seed = seed_for(leader.random_seed, "epoch", str(epoch))
        order = uniform(seed, step, state.batch, state.system.device).argsort(stable=True)
        for rows in order.tensor_split(policy.minibatches):
            sent = [
                _send_again(state, channel, sending.window, update.window) for channel, sending in senders
            ]
            replay(state, update.window)
            losses = []
            for agent, known in windows:
                assert agent.goal is not None
                own = drawn(agent, step, epoch, rows) if draws else pass_losses(agent, known, rows)
                losses.append(agent.goal.weight * own)
            loss = torch.stack(losses).sum() / len(rows)
            moves = [state.gradients(update, [loss], step)]
            slopes, examples = [], []
            for (channel, sending), own in zip(senders, sent, strict=True):
                slope, terms, learned_from = _taught_again(state, channel, own, loss, rows, step)
                slopes.append((channel.synthetic_gradient.model, slope))
                examples.append(learned_from)
                if terms:
                    moves.append(state.gradients(sending, terms, step))
            for gradients in moves:
                state.move(gradients, step, further=True)
            for (model, slope), learned_from in zip(slopes, examples, strict=True):
                if slope is not None:
                    state.optimizers[model].step(slope[1], step, further=True)
                refit(model, learned_from)


Sent = list[tuple[Sent, Tensor, Tensor]]
"""Messages of a window that is replayed, each with its sender's graph and as the leaf that is read."""


def _send_again(state: State, channel: Channel, sending: Window, reading: Window) -> Sent:
    """Make the messages of a window again, and have them read as leaves."""
    replay(state, sending)
    found = []
    for message in (one for name, one in sending.sent if name == channel.name):
        live = sending.outputs_with_graph[channel.name, message.stamp].flatten(1)
        leaf = as_leaf(channel.wire.link.carry(message.stamp, constant(live)))
        found.append((message, live, leaf))
        for read in (read for tick in reading.ticks() for read in tick.reads()):
            if (
                isinstance(read, CountedRead)
                and read.received.stamp == message.stamp
                and read.channel_name == channel.name
            ):
                read.value = mask_fill_zero(as_mask(read.available, leaf), leaf)
    return found


def _taught_again(
    state: State, channel: Channel, sent: Sent, loss: Tensor, rows: Tensor, step: int
) -> tuple[tuple[Tensor, list[Tensor | None]] | None, list[Tensor], list[Example]]:
    """What predictor and sender learn from a minibatch: loss, gradients and examples of the one, a surrogate of the other."""
    own, examples, terms = channel.synthetic_gradient, [], []
    returned = gradients_of([loss], [leaf for *_, leaf in sent])
    for (message, live, _), gradient in zip(sent, returned, strict=True):
        known = example_of(state, channel, message, answered=False)
        if known is None:
            continue
        back = torch.zeros_like(constant(live)) if gradient is None else gradient * len(rows)
        counted = Mask.of(as_mask(message.counted, live)[rows])
        context = None if known.context is None else known.context[rows]
        example = Example(constant(live)[rows], context, back[rows], counted)
        credit: Tensor | None = constant(own.model.predict(example))
        credit = gated(own, credit) if own.model.gated else credit
        if credit is not None:
            credit = mask_fill_zero(as_mask(message.creditable, live)[rows], credit)
            terms.append(own.scale * (live[rows] * credit).sum() / len(rows))
        if counted.anywhere and not own.model.frozen:
            examples.append(example)
    slope = learned(state, channel, own.model, [own.model.loss(one) for one in examples], step)
    return slope, terms, examples

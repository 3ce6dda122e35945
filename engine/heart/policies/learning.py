"""Learning of policies: what a window has taught them in its first pass, with the messages that they sampled (rules 38 to 42)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from antiphon.agents.advantages import RETURNS, running_returns
from antiphon.agents.network import OBJECTIVE, VALUE, Tensors
from antiphon.agents.policy_objectives import PolicyPorts
from antiphon.agents.q_learning import QLearning
from antiphon.comms.backward_requests import constant
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.forward import ForwardPass
from antiphon.engine.heart.policies.experience import Trajectories
from antiphon.engine.heart.policies.window_evaluation import Pass, WindowEvaluation, ports_of, rows_through
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import PolicyWindow, ReportedLoss, Update, WindowLoss
from antiphon.engine.heart.window import LearningGroup, Tick, Window
from antiphon.nets.mask import ALL, Mask
from antiphon.nets.per_member import scaled


class PolicyLearning:
    """What the policies of a system learn from a window in its first pass.

    Args:
        windows_at_once: Evaluates the windows whose ticks keep no graph; None: all do.
    """

    def __init__(self, system: System, windows_at_once: WindowsAtOnce | None = None) -> None:
        self.system, self._windows_at_once = system, windows_at_once
        self._trajectories = Trajectories(self.system)

    def add_loss(
        self, losses: WindowLoss, agent: Agent, ticks: Sequence[Tick], window: Window
    ) -> Tensor | None:
        """Add the losses of a policy over a window's ticks, the mean over its valid ticks, and return them, [rows] with their
        graph; None: no tick is learned from. What is reported is their sum, as of other objectives."""
        policy, goal = agent.policy, agent.goal
        assert policy is not None
        assert goal is not None
        trajectory = self._trajectories.of(agent, ticks, window)
        at_once = self._windows_at_once
        ports = None if at_once is None else at_once.ports(agent, window)
        ports = ports_of(ticks, port_names(agent)) if ports is None else ports
        values, members = values_in(ports), len(agent.members)
        statistics = window.statistics_before[self.system.learner_name_by_agent[agent.name]].get(RETURNS)
        advantages = policy.advantages(
            trajectory,
            None if values is None else constant(values),
            member_count=members,
            statistics=None if statistics is None else statistics.view(members, -1),
        )
        if ticks[0].learning_rows is not ALL:
            rows = ticks[0].learning_rows.tensor(members * agent.batch, self.system.device)
            advantages = replace(
                advantages,
                advantages=advantages.advantages.where(rows, 0),
                valid=advantages.valid & rows,
            )
        if not bool(advantages.valid.any()):
            return None
        first_pass = policy.losses(policy_ports(agent, ports, ticks), trajectory.actions, advantages)
        for name, number in policy.metrics_at(ticks[-1].step).items():
            first_pass.metrics[name] = torch.as_tensor(number, device=self.system.device).expand(members)
        rows = scaled(first_pass.losses.sum(0), goal.weight)
        batch, samples = self.system.batch, constant(rows)
        valid, returns = advantages.valid, advantages.returns
        count = agent.layout.sum_by_member(valid.sum(0))
        reported = ReportedLoss(
            agent.layout.sum_by_member(samples) / batch * count / batch,
            agent.layout.sum_by_member(returns.where(valid, 0).sum(0)),
            count,
        )
        losses.add(agent.name, samples, reported)
        losses.policy_windows[agent.name] = PolicyWindow(ticks, trajectory, advantages, first_pass)
        return rows

    def count_returns(self, updates: Iterable[Update]) -> None:
        """Add the returns of the windows learned from to the running statistics of the agents that normalise them."""
        for update in updates:
            for name, policy in update.window_loss.policy_windows.items():
                agent, moments = self.system.agents[name], policy.advantages.moments
                if moments is None or agent.learner.frozen:
                    continue
                before = agent.learner.buffers[RETURNS]
                after = running_returns(before.view(len(agent.members), -1), moments).view_as(before)
                members = update.moving(name).map(lambda values: values.to(self.system.device))
                agent.learner.put_statistics({RETURNS: members.where(after, before)})

    def copy_to_target_networks(self, updates: Iterable[Update]) -> None:
        """Copy the parameters of agents that have taken a multiple of `period` steps since their last window (rule 41a)."""
        for update in updates:
            for name in update.window_loss.policy_windows:
                agent = self.system.agents[name]
                if agent.inputs.has_target_network:
                    objective = agent.policy
                    assert isinstance(objective, QLearning)
                    agent.learner.update_target(objective.period, objective.updates)


def passes_of(agent: Agent) -> int:
    return 0 if agent.policy is None else agent.policy.epochs


def evaluated_at_once(agent: Agent) -> bool:
    """Return whether nothing but further passes needs the graph of an agent's ticks, and no tick needs the one before."""
    connections, network = agent.connections, agent.learner.network
    return (
        passes_of(agent) > 1
        and not agent.inputs.has_target_network
        and not (connections.read_channels or connections.send_channels)
        and network.row_split_obstacle() is None
        and not network.buffers()
    )


class WindowsAtOnce:
    """Evaluates windows of which no tick needs another at once, as they end; their ticks keep no graph."""

    def __init__(self, forward_pass: ForwardPass) -> None:
        self.system, self.forward_pass = forward_pass.system, forward_pass
        self._groups = {
            group
            for group in self.system.groups
            if all(evaluated_at_once(self.system.agents[name]) for name in group.agent_names)
        }
        forward_pass.agent_names_without_graph = frozenset(
            name for group in self._groups for name in group.agent_names
        )
        self._newest: dict[LearningGroup, tuple[Window, WindowEvaluation, Pass]] = {}
        """The first pass over the newest window of each group, until the further passes."""

    def ports(self, agent: Agent, window: Window) -> Tensors | None:
        """Return the ports of the first pass at all ticks, [T, rows, …]; None: its ticks have them."""
        group = self.system.group_by_agent[agent.name]
        if group not in self._groups:
            return None
        if group not in self._newest or self._newest[group][0] is not window:
            evaluation = self._evaluation(group, window)
            self._newest[group] = window, evaluation, evaluation.evaluate()
        return self._newest[group][2].ports[agent.name]

    def pop_evaluation(self, group: LearningGroup, window: Window) -> WindowEvaluation:
        """Return what evaluates a window in further passes, which has evaluated it in the first where that was at once."""
        newest = self._newest.pop(group, None)
        return self._evaluation(group, window) if newest is None else newest[1]

    def _evaluation(self, group: LearningGroup, window: Window) -> WindowEvaluation:
        agents = {name: self.system.agents[name] for name in group.agent_names}
        asked = {name: port_names(agent) for name, agent in agents.items() if passes_of(agent) > 1}
        return WindowEvaluation(window, agents, self.forward_pass, asked)


# --- the ports that a policy learns from -------------------------------------------------------------------


def policy_ports(
    agent: Agent, ports: Tensors, ticks: Sequence[Tick], rows: Tensor | None = None
) -> PolicyPorts:
    """Return what a policy's losses are made of.

    Args:
        ports: With their graph, [T, rows, …]: those of `port_names`.
        rows: The rows that `ports` are of, as many of each member; None: all.
    """
    messages = [sampled.log_probs(ports, ticks, rows) for sampled in sampled_messages_of(agent)]
    return PolicyPorts(ports.get(OBJECTIVE), values_in(ports), messages, len(agent.members))


def port_names(agent: Agent) -> tuple[str, ...]:
    """Return the names of the ports that a policy's losses may be made of."""
    sampled = [messages.channel.content.port_name for messages in sampled_messages_of(agent)]
    return tuple(dict.fromkeys([OBJECTIVE, VALUE, *sampled]))


def values_in(ports: Tensors) -> Tensor | None:
    """Return the values among some ports, [T, rows]; None of a policy without."""
    return ports[VALUE].squeeze(2) if VALUE in ports else None


# --- sampled messages --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SampledMessages:
    """A stack of channels whose messages are sampled and learned by their senders' policies.

    Attributes:
        counted: [K] bool: the first channel of each port, which all its channels carry; None: every channel.
    """

    channel: Channel
    counted: Tensor | None

    def log_probs(
        self, ports: Tensors, ticks: Sequence[Tick], rows: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy of what was sent, [T, rows] of the sender each; 0 where nothing was; see `policy_ports`."""
        channel, sampler = self.channel, self.channel.content.sampler
        assert sampler is not None
        endpoints, channel_rows = channel.endpoints, None
        if rows is not None:
            channel_rows = rows_through(rows, endpoints.sender_index, endpoints.sender_count, channel.batch)
        log_probs, entropies = list[Tensor](), list[Tensor]()
        for output, tick in zip(ports[channel.content.port_name], ticks, strict=True):
            message = tick.sampled_messages.get(channel.name)
            if message is None:
                log_probs.append(output.new_zeros(len(output)))
                entropies.append(output.new_zeros(len(output)))
                continue
            carried = channel.output_from_port(output)
            message = message if channel_rows is None else message[channel_rows]
            log_probs.append(self._sum_by_sender(sampler.log_prob(carried, message)))
            entropies.append(self._sum_by_sender(sampler.entropy(carried)))
        return torch.stack(log_probs), torch.stack(entropies)

    def _sum_by_sender(self, values: Tensor) -> Tensor:
        """Values of the channels' rows as their senders', once for each port."""
        if self.counted is not None:
            by_channel = values.view(len(self.counted), -1)
            values = Mask.of(self.counted).zero_elsewhere(by_channel).flatten()
        return self.channel.sum_by_sender(values)


def sampled_messages_of(agent: Agent) -> list[SampledMessages]:
    """Return the channels whose sampled messages a policy learns, each port once."""
    learned = list[SampledMessages]()
    counted_ports = set[tuple[int, str, str]]()
    for channel in agent.connections.outgoing:
        if channel.content.sampler is None or not channel.content.sampler.learned:
            continue
        counted = list[bool]()
        for index, member in enumerate(channel.members):
            port = channel.layout.seed_of(index), member.sender, member.content.port_name
            counted.append(port not in counted_ports)
            counted_ports.add(port)
        if any(counted):
            device = channel.content.zeros.device
            learned.append(
                SampledMessages(channel, None if all(counted) else torch.tensor(counted, device=device))
            )
    return learned

"""The window of a policy, with what its first pass has computed (rules 38 to 42, policies)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from antiphon.agents.advantages import Advantages, Trajectory
from antiphon.agents.network import OBJECTIVE, VALUE, Tensors
from antiphon.agents.policy_passes import PolicyChange, PolicyLosses, PolicyPorts
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.notes import Note
from antiphon.engine.heart.updates import WindowLoss
from antiphon.engine.heart.window import Tick
from antiphon.engine.policies.sampled_messages import sampled_messages_of


@dataclass(frozen=True, slots=True, eq=False)
class PolicyWindow:
    """A policy's window, with the constants that its first pass has computed and further passes keep."""

    ticks: Sequence[Tick]
    trajectory: Trajectory
    """The actions, and the rewards and ends of episodes that followed."""
    advantages: Advantages
    first_pass_losses: PolicyLosses
    """What the first pass has computed of the objective, with its metrics."""
    policy_changes: list[PolicyChange] = field(default_factory=list)
    """Of `ppo`: how far each further pass found the policy from that of the first."""

    @property
    def metrics(self) -> dict[str, Tensor]:
        """The metrics of the first pass, [N], by name; those of how far the policy changed are the mean over further passes."""
        first = self.first_pass_losses
        changes = self.policy_changes or ([] if first.change is None else [first.change])
        return PolicyChange.metrics(changes) | first.metrics if changes else first.metrics


@dataclass(slots=True, eq=False)
class PolicyWindows(Note):
    """The windows of policies among the losses of a group's window (`WindowLoss`)."""

    by_agent: dict[str, PolicyWindow] = field(default_factory=dict)


def policy_windows(window_loss: WindowLoss) -> Mapping[str, PolicyWindow]:
    """Return the windows of policies among some losses, by agent that learns from rewards."""
    windows = PolicyWindows.of(window_loss)
    return {} if windows is None else windows.by_agent


def policy_ports(
    agent: Agent, ports: Tensors, ticks: Sequence[Tick], rows: Tensor | None = None
) -> PolicyPorts:
    """Return what a policy's losses are made of, of its first pass or, in some rows, of a further one.

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

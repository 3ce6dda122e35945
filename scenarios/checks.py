"""Checks across the parts of a scenario: unknown names, cycles, inconsistent groups; of each coupling, of `read`, of
state channels and of states as context signals.

Every check yields a DocumentError for each problem. Channels are named by their place in the document. Keys that a
coupling does not use are not refused: a template sets them once for all its variants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from antiphon.errors import suggest
from antiphon.extensions import name_of
from antiphon.problems import DocumentError, Path, Problems, show_value
from antiphon.scenarios.agent_specs import AgentSpec
from antiphon.scenarios.channel_specs import (
    STATE,
    ChannelSpec,
    GradientSpec,
)
from antiphon.scenarios.relations import (
    Graph,
    components,
    cycle_among,
    episode_agents,
    learning_groups,
    learning_steps,
    levels,
    locked_groups,
    message_channels,
    undelayed,
    window_of,
)
from antiphon.scenarios.ties import tie_problems
from antiphon.spec import Spec, plain

__all__ = ["AGE", "STATES", "check", "problems_of"]

AGE = "age"
"""Observation of the age of each message read, in periods of its sender."""

Check = Callable[[Graph], Iterator[DocumentError]]


def _reads(scenario: Graph) -> Iterator[DocumentError]:
    for index, channel in enumerate(scenario.channels):
        if channel.state or channel.read == "last":
            continue
        reason = _cannot(scenario, channel)
        if reason is not None:
            yield DocumentError(("channels", index, "read"), f"{channel.read} {reason}, or read last")


def _cannot(scenario: Graph, channel: ChannelSpec) -> str | None:
    """Return why several messages cannot be read at a time, and the fix."""
    link, receiver = channel.link, scenario.agents[channel.receiver]
    if channel.coupling == "unlocked":
        return "needs messages, and an unlocked channel gives none to its receiver; make it decoupled"
    if link.drop or link.rate < 1:
        key, value = ("drop", 0) if link.drop else ("rate", 1)
        return f"needs every message, but the link has a {key} of {getattr(link, key)}; make it {value}"
    if channel.input is not None:
        return "needs no synthetic input, every message being there; leave out input"
    if receiver.align is not None:
        return f"reads several messages, and {channel.receiver!r} is aligned to one; leave out its align"
    if channel.read == "mean":
        return None
    if receiver.fan_in != "concat":
        return f"lays messages side by side, but the fan_in of {channel.receiver!r} is {name_of(receiver.fan_in)}; read mean"
    periods = scenario.agents[channel.sender].clock.period, receiver.clock.period
    if periods[1] > periods[0] and periods[1] % periods[0]:
        message = (
            f"needs as many messages at every tick, but period {periods[1]} of {channel.receiver!r} is no"
        )
        return f"{message} multiple of {periods[0]}, that of {channel.sender!r}; read mean"
    return None


STATES = ("from.state", "to.state")
"""Context signals: the states of a channel's ends."""
_COUPLINGS = ("locked", "detached", "decoupled")
_NOT_FOR_STATES = (
    *("size", "port", "norm", "symbols", "sample", "link", "input", "feedback", "read", "staleness"),
)
_FOR_STATES = ("span", "auxiliary")


def _has_state(agent: AgentSpec) -> bool:
    return agent.layers.recurrent if agent.layers is not None else agent.state_size > 0


def _state_channels(scenario: Graph) -> Iterator[tuple[Path, ChannelSpec]]:
    for index, channel in enumerate(scenario.channels):
        if channel.state:
            yield ("channels", index), channel


def _ends(scenario: Graph) -> Iterator[DocumentError]:
    for path, channel in _state_channels(scenario):
        if channel.sender != channel.receiver:
            message = f"a state goes from an agent to itself, {channel.sender!r}, not to {channel.receiver!r}"
            yield DocumentError((*path, "to"), f"{message}; make them one, or carry messages")
        if channel.key != STATE:
            message = f"the key of a state is {STATE}, not {show_value(channel.key)}; leave it out"
            yield DocumentError((*path, "key"), message)
        network = scenario.agents[channel.sender].layers
        if not _has_state(scenario.agents[channel.sender]):
            what = (
                f"of kind {network.kind}" if network is not None else "not built in, and without a state_size"
            )
            message = f"agent {channel.sender!r} has no state, its network being {what}"
            yield DocumentError((*path, "carries"), f"{message}; use kind rnn, leaky, gru or lstm")


def _keys(scenario: Graph) -> Iterator[DocumentError]:
    for path, channel in _state_channels(scenario):
        for key in _NOT_FOR_STATES:
            if getattr(channel, key) != ChannelSpec.model_fields[key].default:
                yield DocumentError((*path, key), f"a state has no {key}; leave it out")
        if channel.coupling not in _COUPLINGS:
            known = ", ".join(_COUPLINGS)
            message = f"a state cannot be {channel.coupling}, its reader being its sender; use one of {known}"
            yield DocumentError((*path, "coupling"), message)


def _gradients(scenario: Graph) -> Iterator[DocumentError]:
    plain = GradientSpec()
    for index, channel in enumerate(scenario.channels):
        path, gradient = ("channels", index, "gradient"), channel.gradient
        if not channel.state:
            for key in _FOR_STATES:
                if getattr(gradient, key) != getattr(plain, key):
                    yield DocumentError((*path, key), "is of state channels only; leave it out")
            continue
        if gradient.propagate:
            message = "is of message channels only; a state's SG would teach the state to be predictable"
            yield DocumentError((*path, "propagate"), f"{message}; leave it out")


def _state_contexts(scenario: Graph) -> Iterator[DocumentError]:
    for index, channel in enumerate(scenario.channels):
        ends = dict(zip(STATES, (channel.sender, channel.receiver), strict=True))
        for place, name in enumerate(channel.gradient.context):
            path = ("channels", index, "gradient", "context", place)
            if name not in ends:
                continue
            if channel.state:
                yield DocumentError(path, f"{name!r} is what this channel carries; leave it out")
            if not _has_state(scenario.agents[ends[name]]):
                message = f"agent {ends[name]!r} has no state; leave it out, or make its network recurrent"
                yield DocumentError(path, f"{name!r}: {message}")


_PREDICTED = ("decoupled", "unlocked")
_FOR_INPUTS = ("held", "age")
_FOR_GRADIENTS = ("returned", *STATES)


def _requirements(scenario: Graph) -> Iterator[DocumentError]:
    for index, channel in enumerate(scenario.channels):
        path = ("channels", index)
        if channel.coupling == "locked" and channel.link.drop > 0:
            message = f"a locked channel loses nothing, not {channel.link.drop}; leave it out"
            yield DocumentError((*path, "link", "drop"), f"{message}, or use another coupling")
        if channel.coupling == "unlocked" and channel.input is None:
            message = (
                "an unlocked channel always runs on a synthetic input; give it one, such as {kind: linear}"
            )
            yield DocumentError((*path, "input"), message)
        if channel.coupling in _PREDICTED:
            yield from _gradient(scenario, channel, (*path, "gradient"))


def _gradient(scenario: Graph, channel: ChannelSpec, path: Path) -> Iterator[DocumentError]:
    gradient = channel.gradient
    if gradient.follows_actions:
        receiver = scenario.agents[channel.receiver]
        if channel.state:
            yield DocumentError((*path, "kind"), f"{gradient.kind} is of message channels only; use another")
        elif receiver.objective is None or not receiver.objective.policy or not receiver.acts:
            message = f"{gradient.kind} follows the actions of the receiver, and {channel.receiver!r} has no policy that acts"
            yield DocumentError((*path, "kind"), f"{message} (a2c, ppo, reinforce); use another kind")
    reconstruct = gradient.reconstruction
    if reconstruct is not None and reconstruct.target in gradient.context:
        message = f"{reconstruct.target!r} is in the context, and need only be copied; leave it out there"
        yield DocumentError((*path, "reconstruct", "target"), message)
    if gradient.declared("needs_map"):
        network = scenario.agents[channel.sender].layers
        flat = isinstance(channel.size, int) or (channel.size is not None and len(channel.size) != 3)
        if flat or (channel.size is None and network is not None and network.kind != "conv"):
            message = f"a {gradient.kind} gradient needs messages of [channels, height, width]; use kind mlp"
            yield DocumentError((*path, "kind"), message)


def _contexts(scenario: Graph) -> Iterator[DocumentError]:
    for index, channel in enumerate(scenario.channels):
        context = () if channel.input is None else channel.input.context
        refused = [
            ("gradient", p, n, "inputs") for p, n in enumerate(channel.gradient.context) if n in _FOR_INPUTS
        ]
        refused += [("input", p, n, "gradients") for p, n in enumerate(context) if n in _FOR_GRADIENTS]
        for key, place, name, others in refused:
            message = f"{name!r} is for synthetic {others} only; leave it out"
            yield DocumentError(("channels", index, key, "context", place), message)


def _feedback(scenario: Graph) -> Iterator[DocumentError]:
    groups = {name: group for group in scenario.locked_groups() for name in group}
    with_objective: dict[str, list[str]] = {}
    for name, agent in scenario.agents.items():
        if agent.objective is not None:
            with_objective.setdefault(groups[name][0], []).append(name)
    for index, channel in enumerate(scenario.channels):
        feedback = channel.feedback
        if feedback is None or channel.coupling != "locked":
            continue
        path = ("channels", index, "feedback")
        if feedback.kind == "fa":
            if scenario.agents[channel.receiver].layers is None:
                message = f"agent {channel.receiver!r} has a network of its own, of which no first layer is known; use dfa"
                yield DocumentError((*path, "kind"), message)
            continue
        group = groups[channel.sender]
        choices = with_objective.get(group[0], [])
        of = feedback.of
        if of is None and len(scenario.readouts) != 1:
            shown = ", ".join(choices[:12]) + (", …" if len(choices) > 12 else "")
            known = shown if choices else "none in its locked group"
            message = f"the scenario has {len(scenario.readouts)} readouts; name the agent whose error it is: {known}"
            yield DocumentError((*path, "of"), message)
        name = scenario.readouts[0] if of is None else of
        if name not in scenario.agents:
            yield DocumentError((*path, "of"), f"no agent {name!r}{suggest(name, scenario.agents)}")
        is_choice = groups.get(name) is group and scenario.agents[name].objective is not None
        objective = scenario.agents[name].objective if is_choice else None
        if objective is not None and objective.policy:
            message = f"agent {name!r} is a policy, whose error is that of a whole window; use fa"
            yield DocumentError((*path, "kind"), message)
        if not is_choice:
            why = "has no objective" if groups.get(name) is group else f"learns apart from {channel.name}"
            known = suggest(name, choices) if choices else "; give an agent of its locked group an objective"
            yield DocumentError((*path, "of"), f"agent {name!r} {why}{known}")


def _at_once(scenario: Graph) -> Iterator[DocumentError]:
    """Check `trace` and `propagate`, and `local_policy`, which use what returns at the step at which the sender learns."""
    asked = [
        (index, channel, key)
        for index, channel in enumerate(scenario.channels)
        if channel.coupling in _PREDICTED and not channel.state
        for key in _used_at_once(channel.gradient)
    ]
    if not asked:
        return
    learning = _LearningTimes(scenario)
    group_of = learning.group_of
    for index, channel, key in asked:
        reason = _not_at_once(scenario, channel, learning, ticks=key != "kind")
        if reason is not None:
            path = ("channels", index, "gradient", key)
            needs, mend = "needs what the receiver returns at the same step, but", "or leave it out"
            if key == "kind":
                needs, mend = f"{name_of(channel.gradient.kind)} {needs}", "or use another kind"
            yield DocumentError(path, f"{needs} {reason}, {mend}")
    first = {name: group[0] for name, group in group_of.items()}
    arcs = {(first[channel.sender], first[channel.receiver]) for _, channel, _ in asked}
    if levels(set(first.values()), arcs)[1]:
        index, channel, key = asked[0]
        message = "what learns together lies on a cycle of such channels; leave it out of one of them"
        yield DocumentError(("channels", index, "gradient", key), message)


def _used_at_once(gradient: GradientSpec) -> Iterator[str]:
    """Yield the keys that ask for what returns at once."""
    if gradient.follows_actions:
        yield "kind"
    yield from (key for key in ("trace", "propagate") if gradient.apply and getattr(gradient, key) > 0)


class _LearningTimes:
    """When the learning groups of a scenario learn."""

    def __init__(self, scenario: Graph) -> None:
        groups = learning_groups(scenario.agents, scenario.channels)
        whole = episode_agents(scenario.agents, scenario.channels)
        self.group_of = {name: group for group in groups for name in group}
        """By agent, what learns together."""
        self.late: dict[str, str] = {}
        """By the first agent of a group, its first delayed channel."""
        for channel in scenario.channels:
            if channel.coupling == "delayed":
                self.late.setdefault(self.group_of[channel.sender][0], channel.name)
        self.steps = {
            group[0]: learning_steps(
                group, scenario.agents, whole, locked=not scenario.locked_agents.isdisjoint(group)
            )
            for group in groups
        }
        """By the first agent of a group, its period and first step of learning."""


def _not_at_once(
    scenario: Graph, channel: ChannelSpec, learning: _LearningTimes, *, ticks: bool = True
) -> str | None:
    """Describe why a channel's gradient is not back at the step at which its sender learns, and the fix.

    Args:
        scenario: Of the channel.
        channel: The channel.
        learning: When each group learns.
        ticks: Whether both ends have to tick at the same steps too.
    """
    link = channel.link
    if channel.coupling == "unlocked":
        return "the channel is unlocked; make it decoupled"
    if link.delay:
        return f"the link has a delay of {link.delay}; make it 0"
    if link.back:
        return f"the link's way back takes {link.back} steps; make link.back 0"
    if link.drop or link.rate < 1:
        key, value = ("drop", 0) if link.drop else ("rate", 1)
        return f"the link has a {key} of {getattr(link, key)}; make it {value}"
    ends = channel.sender, channel.receiver
    one, other = learning.group_of[ends[0]], learning.group_of[ends[1]]
    if one is other:
        return "both ends learn as one; make the channel locked"
    for name, group in zip(ends, (one, other), strict=True):
        late = learning.late.get(group[0])
        if late is not None:
            return f"{name!r} learns late, {late} being delayed; give that another coupling"
    clocks = [scenario.agents[name].clock for name in ends]
    due = [(clock.period, clock.phase % clock.period) for clock in clocks]
    learns = [learning.steps[group[0]] for group in (one, other)]
    if (ticks and due[0] != due[1]) or learns[0] != learns[1]:
        verb = "tick" if ticks and due[0] != due[1] else "learn"
        return f"{ends[0]!r} and {ends[1]!r} {verb} at different steps; give them one clock"
    return None


def _unknown_agent(name: str, agents: Mapping[str, AgentSpec], path: Path) -> DocumentError:
    return DocumentError(path, f"no agent {name!r}{suggest(name, agents)}")


def _agents_and_readout(scenario: Graph) -> Iterator[DocumentError]:
    if not scenario.agents:
        yield DocumentError(("agents",), "there is none; name at least one agent")
    if not any(agent.objective for agent in scenario.agents.values()):
        yield DocumentError(
            ("agents",), "none has an objective, so nothing would be learned; give one to an agent"
        )
    for name in scenario.readout or ():
        if name not in scenario.agents:
            yield _unknown_agent(name, scenario.agents, ("readout",))
        elif scenario.agents[name].objective is None:
            yield DocumentError(("readout",), f"agent {name!r} has no objective to be read; give it one")


def _acting(scenario: Graph) -> Iterator[DocumentError]:
    acting = {name: agent.acts for name, agent in scenario.agents.items() if agent.acts}
    first: dict[bool | str, str] = {}
    wholes = [name for name, part in acting.items() if part is True][:2]
    for name, part in acting.items():
        path = ("agents", name, "acts")
        other = first.setdefault(part, name)
        whole = next((one for one in wholes if one != name), None)
        if whole is not None:
            message = f"{whole!r} acts already, and the environment takes the actions of one"
            mend = "leave it out, or name for each its part of a Dict of actions"
            if whole < name or part is not True:
                yield DocumentError(path, f"{message}; {mend}")
        elif other != name:
            yield DocumentError(
                path, f"{other!r} acts already for {part!r}; name another part, or leave it out"
            )
        if scenario.agents[name].objective is None:
            message = "the action is the output that an objective reads, and it has none; give it one"
            yield DocumentError(path, message)


def _policies(scenario: Graph) -> Iterator[DocumentError]:
    """Check agents that learn from rewards; what depends on the environment is checked where shapes are."""
    policies = {
        name: agent.objective
        for name, agent in scenario.agents.items()
        if agent.objective is not None and agent.objective.policy
    }
    sampling = {channel.sender for channel in scenario.channels if channel.learned_by_policy}
    goals = any(objective.goal is not None for objective in policies.values())
    inputs = message_channels(scenario.agents, scenario.channels, "receiver") if goals else {}
    for name, objective in policies.items():
        path, agent = ("agents", name), scenario.agents[name]
        if not agent.acts and name not in sampling:
            message = (
                f"a policy ({name_of(objective.kind)}) needs something to do; give the agent `acts: true`"
            )
            yield DocumentError((*path, "objective"), f"{message}, or a channel of sampled messages")
        if agent.align:
            message = (
                "a policy acts on what is there at its tick, not on an older step's signals; leave it out"
            )
            yield DocumentError((*path, "align"), message)
        if objective.goal is not None:
            names = [channel.name for channel in inputs[name]]
            if objective.goal.channel not in names:
                known = suggest(objective.goal.channel, names)
                message = f"no channel {objective.goal.channel!r} leads to this agent{known}"
                yield DocumentError((*path, "objective", "goal", "channel"), message)
    for index, channel in enumerate(scenario.channels):
        if channel.learned_by_policy and not channel.state and channel.sender not in policies:
            message = f"are learned by the policy of their sender, and {channel.sender!r} has none"
            field = "symbols" if channel.sample is None else "sample"
            mend = "give it an objective of kind a2c, ppo or reinforce"
            yield DocumentError(("channels", index, field), f"{message}; {mend}")
    for group in learning_groups(scenario.agents, scenario.channels) if policies else ():
        ppo = [(name, policies[name]) for name in group if name in policies and policies[name].kind == "ppo"]
        for name, objective in ppo[1:]:
            for field in ("epochs", "minibatches"):
                if objective.get(field) != ppo[0][1].get(field):
                    message = f"differs from that of {ppo[0][0]!r}, with which the agent learns as one"
                    yield DocumentError(("agents", name, "objective", field), f"{message}; make them equal")


def _channel_ends(scenario: Graph) -> Iterator[DocumentError]:
    indices: dict[str, int] = {}
    for index, channel in enumerate(scenario.channels):
        for key, name in (("from", channel.sender), ("to", channel.receiver)):
            if name not in scenario.agents:
                yield _unknown_agent(name, scenario.agents, ("channels", index, key))
        first = indices.setdefault(channel.name, index)
        if first != index:
            mend = "an agent has one state; leave it out" if channel.state else "give one of them another key"
            yield DocumentError(
                ("channels", index), f"{channel.name} is already declared as channels[{first}]; {mend}"
            )


def _ports(scenario: Graph) -> Iterator[DocumentError]:
    ports: dict[tuple[str, str], tuple[int, Any]] = {}
    for index, channel in enumerate(scenario.channels):
        path = ("channels", index)
        network = scenario.agents[channel.sender].layers
        if channel.state:
            continue
        if channel.size is None:
            if channel.port is not None:
                yield DocumentError((*path, "size"), f"port {channel.port!r} needs a size")
            if network is None:
                yield DocumentError(
                    (*path, "size"), f"agent {channel.sender!r} has a network of its own; give a size"
                )
            elif not network.get("hidden") and not network.recurrent:
                message = f"agent {channel.sender!r} has no hidden layer that could be carried; give a size"
                yield DocumentError((*path, "size"), message)
        if channel.port is None:
            continue
        first, other = ports.setdefault((channel.sender, channel.port), (index, channel))
        for field in ("size", "norm", "symbols", "sample"):
            mine, theirs = getattr(channel, field), getattr(other, field)
            if mine != theirs:
                mine, theirs = (plain(one) if isinstance(one, Spec) else one for one in (mine, theirs))
                message = f"{show_value(mine)} differs from channels[{first}].{field}, {show_value(theirs)}"
                mend = f"on the same port {channel.port!r}; make them equal"
                yield DocumentError((*path, field), f"{message}, {mend}")
        if channel.learned_by_policy and channel.link.rate != other.link.rate:
            message = f"{channel.link.rate} differs from channels[{first}].link.rate, {other.link.rate}, on the same port"
            yield DocumentError((*path, "link", "rate"), f"{message} of sampled messages; make them equal")


def _agent_inputs(scenario: Graph) -> Iterator[DocumentError]:
    channels = message_channels(scenario.agents, scenario.channels, "receiver")
    for name, agent in scenario.agents.items():
        path = ("agents", name)
        names = [channel.name for channel in channels[name]]
        if not names and not agent.observes:
            yield DocumentError(path, "observes nothing and no channel leads to it; give it one or the other")
        if AGE in agent.observes and not names:
            message = f"{AGE!r} is how old the messages are that it reads, and no channel leads to this agent"
            yield DocumentError((*path, "observes"), f"{message}; leave it out")
        if agent.align is True and not names:
            yield DocumentError((*path, "align"), "no channel leads to this agent; leave it out")
        if isinstance(agent.align, str) and agent.align not in names:
            known = suggest(agent.align, names)
            yield DocumentError((*path, "align"), f"no channel {agent.align!r} leads to this agent{known}")
        sizes = [(channel.name, channel.size) for channel in channels[name] if channel.size is not None]
        for other, size in sizes[1:]:
            if agent.fan_in != "concat" and size != sizes[0][1]:
                first = f"{sizes[0][0]} has {show_value(sizes[0][1])}"
                message = f"{name_of(agent.fan_in)} needs messages of one size, but {first} and {other} {show_value(size)}"
                yield DocumentError((*path, "fan_in"), message)


def _shared(scenario: Graph) -> Iterator[DocumentError]:
    """Check that agents with shared parameters have equal settings and equal state channels."""
    first: dict[str, str] = {}
    states = {
        channel.sender: (channel.coupling, channel.gradient) for _, channel in _state_channels(scenario)
    }
    for name, agent in scenario.agents.items():
        if agent.share is None:
            continue
        other = first.setdefault(agent.share, name)
        if states.get(name) != states.get(other):
            message = (
                f"its state channel differs from that of agent {other!r}, with which it shares parameters"
            )
            yield DocumentError(("agents", name), f"{message} (share: {agent.share}); make them equal")
        for field in ("categories", "network", "clock", "optimiser", "learn", "weights", "p_update"):
            if getattr(agent, field) != getattr(scenario.agents[other], field):
                message = (
                    f"differs from agent {other!r}, with which it shares parameters (share: {agent.share})"
                )
                yield DocumentError(("agents", name, field), f"{message}; make them equal")


def _zero_delay_cycles(scenario: Graph) -> Iterator[DocumentError]:
    arcs = undelayed(scenario.channels)
    _, stuck = levels(scenario.agents, arcs)
    if stuck:
        cycle = cycle_among(stuck, arcs)
        shown = " -> ".join((*cycle, cycle[0]))
        yield DocumentError(
            ("channels",), f"zero-delay cycle {shown}; give one of these a link delay of 1 or more"
        )


def _windows(scenario: Graph) -> Iterator[DocumentError]:
    limit = scenario.training.window_limit
    episodic = episode_agents(scenario.agents, scenario.channels)
    for group in locked_groups(scenario.agents, scenario.channels):
        if len(group) == 1:
            unroll = scenario.agents[group[0]].clock.unroll
            if unroll != "episode" and unroll > limit:
                message = f"a window of {show_value(unroll)} ticks is more than training.window_limit {limit}"
                path = ("agents", group[0], "clock", "unroll")
                yield DocumentError(path, f"{message}; use a shorter one, or raise the limit")
            continue
        shown = ", ".join(group[:8]) + (f", … ({len(group)} agents)" if len(group) > 8 else "")
        whole = [name for name in group if name in episodic]
        if whole and len(whole) < len(group):
            other = next(agent for agent in group if agent not in whole)
            clock = scenario.agents[whole[0]].clock
            why = "has it" if clock.unroll == "episode" else "needs it, its state being locked"
            message = f"must be episode, as {whole[0]!r} of the same locked group {why}, not"
            given = scenario.agents[other].clock.unroll
            yield DocumentError(("agents", other, "clock", "unroll"), f"{message} {given}")
        window = window_of(group, scenario.agents, episodic)
        if window != "episode" and window > limit:
            message = f"the locked group {shown} would learn every {show_value(window)} steps, more than"
            mend = "choose periods and unrolls with a smaller common multiple, or another coupling"
            yield DocumentError(("agents",), f"{message} training.window_limit {limit}; {mend}")


def _discounts_on_cycles(scenario: Graph) -> Iterator[DocumentError]:
    if all(channel.gradient.discount <= 1 for channel in scenario.channels):
        return
    part = components(scenario.agents, [(c.sender, c.receiver) for c in scenario.channels])
    for index, channel in enumerate(scenario.channels):
        if channel.gradient.discount > 1 and part[channel.sender] == part[channel.receiver]:
            message = f"must be at most 1 on a cycle, not {channel.gradient.discount}"
            yield DocumentError(("channels", index, "gradient", "discount"), message)


_NAMES: tuple[Check, ...] = (_channel_ends, _agents_and_readout)
"""Checks that all others rely on."""
_STATES: tuple[Check, ...] = (_ends, _keys, _gradients, _state_contexts)
_CHECKS: tuple[Check, ...] = (
    *_NAMES,
    _acting,
    _policies,
    *_STATES,
    _ports,
    _agent_inputs,
    _shared,
    _zero_delay_cycles,
    _windows,
    _discounts_on_cycles,
    tie_problems,
    _requirements,
    _contexts,
    _feedback,
    _at_once,
    _reads,
)


def check(scenario: Graph) -> None:
    """Check a scenario as a whole, its channels still in the order in which they were written.

    Raises:
        DocumentError: At the first problem.
    """
    for problem in _found(_CHECKS, scenario):
        raise problem


def problems_of(scenario: Graph) -> list[DocumentError]:
    """Return the problems of a scenario as a whole; where a channel or readout names no agent, those of names alone."""
    return Problems(_found(_NAMES, scenario)) or Problems(_found(_CHECKS, scenario))


def _found(checks: Iterable[Check], scenario: Graph) -> Iterator[DocumentError]:
    return (problem for check_one in checks for problem in check_one(scenario))

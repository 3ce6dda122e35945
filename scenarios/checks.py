"""Checks of a scenario as a whole: what takes two things at once, such as a clock and a window, or a coupling and a link.

Each is a function with the rule of docs/semantics.md in its name. Those of one channel or one agent yield (place in it, problem
and fix), the others a DocumentError. Keys that a coupling does not use are not refused: a template sets them once for all its
variants.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, product
from typing import TypeVar

from antiphon.base.extensions import name_of
from antiphon.base.nearest_names import suggest
from antiphon.base.problems import DocumentError, Path, refuse, show_value
from antiphon.base.spec import Spec, plain
from antiphon.comms.couplings import COUPLINGS
from antiphon.comms.endpoint_values import GRADIENT_ENDPOINTS, INPUT_ENDPOINTS, STATES
from antiphon.scenarios.agent_specs import AGE
from antiphon.scenarios.channel_specs import ChannelSpec
from antiphon.scenarios.relations import (
    LONGEST_WINDOW,
    Graph,
    Relations,
    components,
    cycle_among,
    undelayed,
)
from antiphon.scenarios.tied_parameters import rule_27c_ties

_MOST_NAMED = 8
"""Agents of a group or a cycle in a message."""

T = TypeVar("T")
Problem = tuple[str, str]
"""Place in an agent or a channel, its keys joined by dots, and what is wrong there with the fix."""


# --- of one channel -------------------------------------------------------------------------------------------


def rule_18_read(relations: Relations, channel: ChannelSpec) -> Iterator[Problem]:
    """Several messages are read at a time only where each is there."""
    if not channel.state and channel.read != "last":
        reason = _unreadable(relations, channel)
        if reason is not None:
            yield "read", f"{channel.read} {reason}, or read last"


def _unreadable(relations: Relations, channel: ChannelSpec) -> str | None:
    """Return why several messages cannot be read at a time, and the fix."""
    receiver = relations.agents[channel.receiver]
    if channel.coupling.replaces_messages:
        return f"needs messages, and the receiver of an {channel.coupling.name} channel reads none; make it decoupled"
    if channel.link.loses:
        return f"needs every message, but the link has a drop of {channel.link.drop}; make it 0"
    if channel.input is not None:
        return "needs every message, and so no synthetic input; leave out input"
    if receiver.align is not None:
        return f"reads several messages, and {channel.receiver!r} is aligned to one; leave out its align"
    sent, read = relations.agents[channel.sender].clock.period, receiver.clock.period
    if read > sent and read % sent:
        message = f"needs the same number of messages at every tick, but period {read} of {channel.receiver!r} is not a"
        return f"{message} multiple of period {sent} of {channel.sender!r}; make it one"
    return None


def rule_16_coupling(relations: Relations, channel: ChannelSpec) -> Iterator[Problem]:
    """What a coupling refuses: a locked channel loses nothing (rule 16), an unlocked one has an input (rule 18)."""
    coupling = channel.coupling
    if coupling.joins_endpoints and channel.link.loses:
        message = f"must be 0 on a {coupling.name} channel, not {channel.link.drop}; leave it out"
        yield "link.drop", f"{message}, or use another coupling"
    if coupling.replaces_messages and channel.input is None:
        message = f"must be given where the coupling is {coupling.name}, as the receiver reads it in place of every message"
        yield "input", f"{message}; give one, such as {{kind: linear}}"


_NOT_FOR_STATES = (*("size", "port", "norm", "sample", "link", "mask", "input", "read", "horizon"),)


def rule_20_state(relations: Relations, channel: ChannelSpec) -> Iterator[Problem]:
    """A state goes from a recurrent agent to itself, over no link."""
    if not channel.state:
        return
    if channel.sender != channel.receiver:
        message = f"a state goes from an agent to itself, not from {channel.sender!r} to {channel.receiver!r}"
        yield "to", f"{message}; make them the same, or use another key"
    network = relations.agents[channel.sender].layers
    if not relations.agents[channel.sender].has_state:
        reason = (
            f"is of kind {network.kind}" if network is not None else "is user-defined and has no state_size"
        )
        message = f"agent {channel.sender!r} has no state: its network {reason}"
        yield "key", f"{message}; use kind rnn, leaky, gru or lstm, or another key"
    for key in _NOT_FOR_STATES:
        if getattr(channel, key) != ChannelSpec.model_fields[key].get_default():
            yield key, f"a state channel has no {key}; leave it out"
    if not channel.coupling.allows_states:
        message = f"a state channel cannot be {channel.coupling.name}"
        possible = ", ".join(name for name, coupling in COUPLINGS.items() if coupling.allows_states)
        yield "coupling", f"{message}; use one of {possible}"


def rule_12_gradient_of_states(relations: Relations, channel: ChannelSpec) -> Iterator[Problem]:
    """`auxiliary` is of states."""
    if not channel.state and channel.gradient.auxiliary:
        yield "gradient.auxiliary", "is for state channels only; leave it out"


def rule_9a_gate(relations: Relations, channel: ChannelSpec) -> Iterator[Problem]:
    """A gate compares predictions of messages with what comes back."""
    gradient = channel.gradient
    if gradient.gate != "skill" or not channel.coupling.predicts:
        return
    reason = None
    if channel.state:
        reason = "is for message channels only"
    elif not gradient.direct:
        reason = f"compares predictions with what comes back, which a {name_of(gradient.kind)} gradient does not predict"
    if reason is not None:
        yield "gradient.gate", f"skill {reason}; make it none, or leave it out"


def rule_23_context(relations: Relations, channel: ChannelSpec) -> Iterator[Problem]:
    """Which signals a synthetic gradient or input may be conditioned on."""
    ends = {STATES["from"]: channel.sender, STATES["to"]: channel.receiver}
    for index, name in enumerate(channel.gradient.context or ()):
        where = f"gradient.context.{index}"
        if name in {*INPUT_ENDPOINTS} - {*GRADIENT_ENDPOINTS}:
            yield where, f"{name!r} is for synthetic inputs only; leave it out"
        if name in ends and channel.state:
            yield where, f"{name!r} is the state that this channel carries; leave it out"
        if name in ends and not relations.agents[ends[name]].has_state:
            message = f"agent {ends[name]!r} has no state; leave it out, or make its network recurrent"
            yield where, f"{name!r}: {message}"
    for index, name in enumerate(channel.input.context if channel.input is not None else ()):
        if name in {*GRADIENT_ENDPOINTS} - {*INPUT_ENDPOINTS}:
            yield f"input.context.{index}", f"{name!r} is for synthetic gradients only; leave it out"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (", …" if len(names) > _MOST_NAMED else "")


def rule_42b_at_once(relations: Relations, channel: ChannelSpec) -> Iterator[Problem]:
    """`passes: all` uses what returns at the step at which the sender learns."""
    gradient = channel.gradient
    if gradient.passes != "all" or not gradient.apply or not channel.coupling.predicts or channel.state:
        return
    reason = _not_at_once(relations, channel)
    if reason is not None:
        yield (
            "gradient.passes",
            f"needs the receiver's learning signal at the same step, but {reason}, or leave it out",
        )


def _not_at_once(relations: Relations, channel: ChannelSpec) -> str | None:
    """Describe why a channel's gradient is not back at the step at which its sender learns, and the fix."""
    link, ends = channel.link, (channel.sender, channel.receiver)
    if channel.coupling.replaces_messages:
        return f"the channel is {channel.coupling.name}; make it decoupled"
    if link.delay:
        return f"the link has a delay of {link.delay}; make it 0"
    if link.back:
        return f"the link has a delay back of {link.back}; make it 0"
    if link.loses:
        return f"the link has a drop of {link.drop}; make it 0"
    if relations.learning[ends[0]] is relations.learning[ends[1]]:
        return "both ends learn together; make the channel locked"
    for name in ends:
        late = relations.late.get(relations.learning[name][0])
        if late is not None:
            return f"{name!r} learns late, because {late[0].name} is delayed; give {late[0].name} another coupling"
    clocks = [relations.agents[name].clock for name in ends]
    apart = len({(clock.period, clock.phase % clock.period) for clock in clocks}) > 1
    if apart or relations.learns(ends[0]) != relations.learns(ends[1]):
        verb = "tick" if apart else "learn"
        return f"{ends[0]!r} and {ends[1]!r} {verb} at different steps; give them the same clock"
    return None


def rule_26_size(relations: Relations, channel: ChannelSpec) -> Iterator[Problem]:
    """A port has a size, and without one the message is the sender's last hidden activation."""
    network = relations.agents[channel.sender].layers
    if channel.state or channel.size is not None:
        return
    if channel.port is not None:
        yield "size", f"port {channel.port!r} needs a size"
    if network is None:
        yield "size", f"agent {channel.sender!r} has a user-defined network; give a size"
    elif not network.get("hidden") and not network.recurrent:
        yield "size", f"agent {channel.sender!r} has no hidden layer to send; give a size"


def rule_26_norm(relations: Relations, channel: ChannelSpec) -> Iterator[Problem]:
    """Layer norm of a single component is a constant: it subtracts the component from itself."""
    if channel.norm == "layer" and not channel.state and channel.port_components == 1:
        yield (
            "norm",
            "layer of 1 component is a constant, so the receiver reads nothing; use none, or a size above 2",
        )


def rule_26b_sampled(relations: Relations, channel: ChannelSpec) -> Iterator[Problem]:
    """Sampled messages are actions of the sender's policy."""
    objective = relations.agents[channel.sender].objective
    policy = objective is not None and objective.needs_rewards and not objective.has_target
    if channel.learned_by_policy and not channel.state and not policy:
        message = f"sampled messages are trained by their sender's policy, but {channel.sender!r} has none"
        yield "sample", f"{message}; give it an objective of kind a2c, ppo or reinforce"
    if channel.learned_by_policy and channel.mask is not None:
        yield "mask", "a policy would learn from samples that are not sent; leave it out, or sample by gumbel"


def rule_42b_passes(relations: Relations, channel: ChannelSpec) -> Iterator[Problem]:
    """A sender's window is replayed beside its receiver's; that both learn at the same steps: `_not_at_once`."""
    reason = next(_unreplayed(relations, channel), None) if channel.replayed else None
    if reason is not None:
        yield "gradient.passes", f"all {reason}, or make passes first"


def _unreplayed(relations: Relations, channel: ChannelSpec) -> Iterator[str]:
    """Yield why a channel's sender cannot be replayed, each with a fix."""
    if channel.state:
        yield "is for message channels only; leave it out"
        return
    goal, gradient = relations.agents[channel.receiver].objective, channel.gradient
    if gradient.needs_loss or not gradient.direct:
        kind = name_of(gradient.kind)
        yield f"needs a gradient that learns returned gradients alone, not {kind}; use linear"
    if goal is None or goal.passes < 2:
        yield f"needs further passes of {channel.receiver!r}; give it ppo or q with 2 or more epochs"
    if channel.sender in relations.rewarded:
        yield f"is for senders without rewards, and {channel.sender!r} learns from some; leave out its objective"
    if not channel.written_coupling.built_in:
        yield f"injects predictions, and {channel.coupling.name} is a coupling of your own; make it decoupled"
    for key in ("input", "sample"):
        if getattr(channel, key) is not None:
            yield f"does not go with {key}; leave that out"
    if any(sibling.replayed for sibling in relations.outputs[channel.sender] if sibling is not channel):
        yield f"is for one channel of a sender, and {channel.sender!r} has several; make others first"
    if any(incoming.read != "last" for incoming in relations.inputs[channel.receiver]):
        yield f"needs channels into {channel.receiver!r} that read last; make them so"
    for name in (channel.sender, channel.receiver):
        agent = relations.agents[name]
        if len(relations.learning[name]) > 1:
            yield f"needs ends that learn by themselves, and {name!r} learns with others; make its channels decoupled"
        if agent.learn is not True:
            yield f"needs ends that learn from each window, and {name!r} does not; leave out its learn"
        if (
            agent.has_state and agent.state_size is not None
        ):  # one that is not made yet is looked at when it is
            yield f"needs ends without a state, and {name!r} has one; use a network of another kind"
        if agent.align is not None:
            yield f"needs ends that are not aligned, and {name!r} is; leave out its align"


# --- of one agent ---------------------------------------------------------------------------------------------


def rule_28_inputs(relations: Relations, name: str) -> Iterator[Problem]:
    """An agent takes something in."""
    agent, channels = relations.agents[name], relations.inputs[name]
    names = [channel.name for channel in channels]
    if not names and not agent.observes:
        yield "", "observes nothing and has no incoming channel; give it one of the two"
    if AGE in agent.observes and not names:
        message = f"{AGE!r} is the age of incoming messages, and no channel leads to this agent"
        yield "observes", f"{message}; leave it out, or give a signal that has this name another"


def rule_21_align(relations: Relations, name: str) -> Iterator[Problem]:
    """An agent is aligned to a channel that leads to it."""
    align, names = relations.agents[name].align, [channel.name for channel in relations.inputs[name]]
    if align is True and not names:
        yield "align", "no channel leads to this agent; leave it out"
    if isinstance(align, str) and align not in names:
        yield "align", f"no channel {align!r} leads to this agent{suggest(align, names)}"


def rule_37_policy(relations: Relations, name: str) -> Iterator[Problem]:
    """A policy has something to do, now; what depends on the environment is checked where shapes are."""
    agent = relations.agents[name]
    objective = agent.objective
    if objective is None or not objective.needs_rewards:
        return
    if not agent.acts and name not in relations.sampling:
        message = f"a policy ({name_of(objective.kind)}) needs actions; give the agent `acts: true`"
        yield "objective", f"{message}, or a channel of sampled messages"
    if agent.align:
        message = "a policy acts on the signals of the current step, not of an earlier one; leave it out"
        yield "align", message


def rule_39_goal(relations: Relations, name: str) -> Iterator[Problem]:
    """The goal of a policy is the message of a channel that leads to it."""
    objective, names = relations.agents[name].objective, [channel.name for channel in relations.inputs[name]]
    if objective is not None and objective.goal is not None and objective.goal.channel not in names:
        fix = suggest(objective.goal.channel, names)
        message = f"no channel {objective.goal.channel!r} leads to this agent{fix}"
        yield "objective.goal.channel", message


def rule_42a_replay(relations: Relations, name: str) -> Iterator[Problem]:
    """What is drawn from a replay buffer is of no earlier parameters."""
    unroll, objective = relations.agents[name].clock.unroll, relations.agents[name].objective
    if objective is None or objective.get("replay", 1) == 1:
        return
    companions = [companion for companion in relations.learning[name] if companion != name]
    reason = None
    if relations.inputs[name]:
        reason = (
            f"earlier messages are of earlier parameters, and {relations.inputs[name][0].name} leads here"
        )
    elif companions:
        reason = f"the agent learns together with {companions[0]!r}, which would repeat other windows"
    elif unroll == "episode":
        reason = "windows of whole episodes differ in length"
    elif objective.passes == 1:
        reason = "passes after the first draw from the windows, and epochs is 1"
    if reason is not None:
        yield "objective.replay", f"{reason}; leave it out"


def rule_14_window(relations: Relations, name: str) -> Iterator[Problem]:
    """The window of an agent that learns alone is bounded."""
    unroll = relations.agents[name].clock.unroll
    if len(relations.locked[name]) == 1 and unroll != "episode" and unroll > LONGEST_WINDOW:
        yield "clock.unroll", f"a window has at most {LONGEST_WINDOW:,} ticks, not {show_value(unroll)}"


# --- of several -----------------------------------------------------------------------------------------------


def channel_ends(relations: Relations) -> Iterator[DocumentError]:
    """Every channel joins agents that there are, and is declared once."""
    indices: dict[str, int] = {}
    for index, channel in enumerate(relations.channels):
        for key, message in unknown_ends(channel, relations.agents):
            yield DocumentError(("channels", index, key), message)
        first = indices.setdefault(channel.name, index)
        if first != index:
            mend = "an agent has one state; leave it out" if channel.state else "give one of them another key"
            message = f"{channel.name} is already declared as channels[{first}]; {mend}"
            yield DocumentError(("channels", index), message)


def unknown_ends(channel: ChannelSpec, agents: Collection[str]) -> Iterator[Problem]:
    for key, name in (("from", channel.sender), ("to", channel.receiver)):
        if name not in agents:
            yield key, f"no agent {name!r}{suggest(name, agents)}"


def rule_27_readout(relations: Relations) -> Iterator[DocumentError]:
    """Some agent has an objective, and each readout."""
    if not relations.agents:
        yield DocumentError(("agents",), "is empty; add at least one agent")
    if not any(agent.objectives for agent in relations.agents.values()):
        acting = any(agent.acts for agent in relations.agents.values())
        example = "{kind: ppo}" if acting else "{kind: classification, target: label}"
        message = "no agent has an objective, so nothing would be learned; add one, such as"
        yield DocumentError(("agents",), f"{message} {example}")
    for name in relations.scenario.readout or ():
        if name not in relations.agents:
            candidates = [known for known, agent in relations.agents.items() if agent.objectives]
            yield DocumentError(("readout",), f"no agent {name!r}{suggest(name, candidates)}")
        elif not relations.agents[name].objectives:
            yield DocumentError(("readout",), f"agent {name!r} has no objective; give it one")


def rule_37_acting(relations: Relations) -> Iterator[DocumentError]:
    """One agent acts, or one for each part of the action; its objective reads that output."""
    parts = {name: _part(agent.acts) for name, agent in relations.agents.items() if agent.acts}
    for name, part in parts.items():
        path = ("agents", name, "acts")
        overlapping = (n for n, other in parts.items() if part.startswith(other) or other.startswith(part))
        if (first := next(overlapping)) != name:
            message = f"{first!r} already acts, and the environment takes the action of one agent"
            yield DocumentError(
                path, f"{message}; leave it out, or give each agent its part of a Dict of actions"
            )
        if relations.agents[name].objective is None:
            message = "the action is the output for an objective, and the agent has none; give it one"
            yield DocumentError(path, message)


def _part(acts: bool | str) -> str:
    """Return the prefix of what lies within a part of the action; within the whole lies everything."""
    return "" if acts is True else f"{acts}."


def _unequal(items: Iterable[tuple[Hashable, T, Mapping[str, object]]]) -> Iterator[tuple[T, T, str]]:
    """Yield each item that differs from the first of its group, with that one and the key in which it does.

    Args:
        items: Of each its group, itself, and what has to be equal within the group.
    """
    first: dict[Hashable, tuple[T, Mapping[str, object]]] = {}
    for group, item, values in items:
        earlier, equal = first.setdefault(group, (item, values))
        yield from ((item, earlier, key) for key in values if values[key] != equal[key])


def rule_26_port(relations: Relations) -> Iterator[DocumentError]:
    """Channels that read one port agree on what it holds."""
    fields = ("size", "norm", "sample")
    values = [{field: getattr(channel, field) for field in fields} for channel in relations.channels]
    of_ports = (
        (n, channel)
        for n, channel in enumerate(relations.channels)
        if channel.port is not None and not channel.state
    )
    for mine, theirs, key in _unequal(
        ((channel.sender, channel.port), n, values[n]) for n, channel in of_ports
    ):
        shown = [
            plain(value) if isinstance(value, Spec) else value
            for value in (values[mine][key], values[theirs][key])
        ]
        message = f"{show_value(shown[0])} differs from channels[{theirs}].{key}, {show_value(shown[1])}"
        mend = f"on the same port {relations.channels[mine].port!r}; make them equal"
        yield DocumentError(("channels", mine, *_keys(key)), f"{message}, {mend}")


def rule_27a_share(relations: Relations) -> Iterator[DocumentError]:
    """Agents with shared parameters have equal settings and equal state channels."""
    fields = ("categories", "network", "clock", "optimiser", "learn", "parameters")

    def state_of(name: str) -> object:
        channel = relations.states.get(name)
        return channel and (channel.coupling.name, channel.gradient)

    for name, agent in relations.agents.items():
        namesake = None if agent.share is None else relations.agents.get(agent.share)
        if namesake is not None and namesake.share != agent.share:
            message = f"{agent.share!r} is the name of a group, and the agent of that name is not in it; give it `share: {agent.share}` too, or name the group otherwise"
            yield DocumentError(("agents", name, "share"), message)
    sharing = (
        (agent.share, name, {"": state_of(name)} | {field: getattr(agent, field) for field in fields})
        for name, agent in relations.agents.items()
        if agent.share is not None
    )
    for name, earlier, key in _unequal(sharing):
        difference = "differs from" if key else "has another state channel than"
        message = f"{difference} agent {earlier!r}, with which it shares parameters (share: {relations.agents[name].share})"
        yield DocumentError(("agents", name, *_keys(key)), f"{message}; make them equal")


def rule_42_equal_in_a_group(relations: Relations) -> Iterator[DocumentError]:
    """Agents that learn as one make the same passes over their windows."""
    objectives = ((name, agent.objective) for name, agent in relations.agents.items())
    values = (
        ((relations.learning[name][0], keys), name, {key: objective.get(key) for key in keys})
        for name, objective in objectives
        if objective is not None and (keys := objective.equal_in_group)
    )
    for name, earlier, key in _unequal(values):
        message = f"differs from {earlier!r}, with which the agent learns together; make them equal"
        yield DocumentError(("agents", name, "objective", key), message)


def rule_13_zero_delay_cycle(relations: Relations) -> Iterator[DocumentError]:
    """Some channel of every cycle has a delay."""
    ticking = {*chain(*relations.waves)}
    stuck = [name for name in relations.agents if name not in ticking]
    if stuck:
        cycle = cycle_among(stuck, undelayed(relations.channels))
        shown = [*cycle[:_MOST_NAMED], *("…" for _ in cycle[_MOST_NAMED : _MOST_NAMED + 1]), cycle[0]]
        message = f"zero-delay cycle {' -> '.join(shown)}; give one of these a link delay of 1 or more"
        ends = cycle[0], (*cycle, cycle[0])[1]
        at = next(n for n, c in enumerate(relations.channels) if undelayed([c]) == [ends])
        yield DocumentError(("channels", at), message)


def rule_3_discount(relations: Relations) -> Iterator[DocumentError]:
    """No discount on a cycle is above 1."""
    growing = [index for index, channel in enumerate(relations.channels) if channel.gradient.discount > 1]
    component = (
        components(relations.agents, [(c.sender, c.receiver) for c in relations.channels]) if growing else {}
    )
    for index in growing:
        channel = relations.channels[index]
        if component[channel.sender] == component[channel.receiver]:
            message = f"must be at most 1 on a cycle, not {channel.gradient.discount}"
            yield DocumentError(("channels", index, "gradient", "discount"), message)


def rule_24_evaluated(relations: Relations) -> Iterator[DocumentError]:
    """A training is evaluated at least once."""
    evaluate, steps = relations.scenario.training.evaluate, relations.scenario.training.steps
    if evaluate is not None and evaluate.period > steps:
        message = f"{evaluate.period:,} is more than training.steps, {steps:,}; make it at most {steps:,}"
        yield DocumentError(("training", "evaluate", "period"), message)


def rule_14_locked_window(relations: Relations) -> Iterator[DocumentError]:
    """The window of a locked group is bounded."""
    for group in relations.locked_groups:
        window = relations.window(group)
        if len(group) > 1 and window != "episode" and window > LONGEST_WINDOW:
            shown = _some(group) + (f" ({len(group)} agents)" if len(group) > _MOST_NAMED else "")
            message = f"the locked group {shown} would learn every {show_value(window)} steps, more than"
            mend = "choose periods and unrolls with a smaller common multiple, or another coupling"
            yield DocumentError(("agents",), f"{message} {LONGEST_WINDOW:,}; {mend}")


# --- all ------------------------------------------------------------------------------------------------------

OF_AGENTS: Sequence[Callable[[Relations, str], Iterator[Problem]]] = (
    rule_37_policy,
    rule_39_goal,
    rule_28_inputs,
    rule_21_align,
    rule_42a_replay,
    rule_14_window,
)
OF_CHANNELS: Sequence[Callable[[Relations, ChannelSpec], Iterator[Problem]]] = (
    rule_26b_sampled,
    rule_20_state,
    rule_12_gradient_of_states,
    rule_26_size,
    rule_26_norm,
    rule_16_coupling,
    rule_9a_gate,
    rule_23_context,
    rule_42b_at_once,
    rule_18_read,
    rule_42b_passes,
)
OF_SEVERAL: Sequence[Callable[[Relations], Iterator[DocumentError]]] = (
    rule_37_acting,
    rule_26_port,
    rule_27a_share,
    rule_42_equal_in_a_group,
    rule_13_zero_delay_cycle,
    rule_3_discount,
    rule_14_locked_window,
    rule_24_evaluated,
    rule_27c_ties,
)


def check(scenario: Graph) -> None:
    """Check a scenario as a whole, its channels still in the order in which they were written.

    Raises:
        DocumentError: The first problem.
    """
    relations = Relations(scenario)
    refuse(channel_ends(relations))
    refuse(rule_27_readout(relations))
    refuse(_problems(relations))


def _problems(relations: Relations) -> Iterator[DocumentError]:
    for check_several in OF_SEVERAL:
        yield from check_several(relations)
    for check_agent, name in product(OF_AGENTS, relations.agents):
        for key_path, message in check_agent(relations, name):
            yield DocumentError(("agents", name, *_keys(key_path)), message)
    for check_channel, (number, channel) in product(OF_CHANNELS, enumerate(relations.channels)):
        for key_path, message in check_channel(relations, channel):
            yield DocumentError(("channels", number, *_keys(key_path)), message)


def _keys(key_path: str) -> Path:
    return tuple(int(key) if key.isdecimal() else key for key in key_path.split(".") if key)

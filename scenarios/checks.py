"""Checks of a scenario as a whole: what takes two things at once, such as a clock and a window, or a coupling and a link.

Each is a function with the rule of docs/semantics.md in its name. Those of one channel or one agent yield (place in it, problem
and fix), the others a DocumentError. Keys that a coupling does not use are not refused: a template sets them once for all its
variants.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, product
from typing import TypeVar

from antiphon.base.errors import suggest
from antiphon.base.extensions import name_of
from antiphon.base.problems import DocumentError, Path, refuse, show_value
from antiphon.base.spec import Spec, plain
from antiphon.comms.couplings import COUPLINGS
from antiphon.comms.endpoint_values import GRADIENT_ENDPOINTS, INPUT_ENDPOINTS, STATES
from antiphon.scenarios.channel_specs import ChannelSpec
from antiphon.scenarios.relations import Relations, agent_and_parameter, cycle_among, undelayed

T = TypeVar("T")
Problem = tuple[str, str]
"""Place in an agent or a channel, its keys joined by dots, and what is wrong there with the fix."""


# --- of one channel -------------------------------------------------------------------------------------------


def rule_18_read(relations: Relations, channel: ChannelSpec) -> Iterator[Problem]:
    """Several messages are read at a time only where each is there."""
    if channel.state or channel.read == "last":
        return
    sender, receiver = (relations.agents[name] for name in (channel.sender, channel.receiver))
    sent, read = sender.clock.period, receiver.clock.period
    arrive = not (channel.coupling.replaces_messages or channel.link.loses or channel.input is not None)
    if not arrive or receiver.align is not None or (read > sent and read % sent):
        message = "concat needs a channel that loses nothing, without a synthetic input, and a receiver that is not aligned and whose"
        yield "read", f"{message} period is a multiple of the sender's, {sent}; read last"


def rule_16_coupling(relations: Relations, channel: ChannelSpec) -> Iterator[Problem]:
    """What a coupling refuses: a locked channel loses nothing (rule 16), an unlocked one has an input (rule 18)."""
    coupling = channel.coupling
    if coupling.joins_endpoints and channel.link.loses:
        message = f"must be 0 on a {coupling.name} channel, not {channel.link.drop}; leave it out"
        yield "link.drop", f"{message}, or use another coupling"
    if coupling.replaces_messages and channel.input is None:
        message = f"must be given where the coupling is {coupling.name}, as the receiver reads it in place of every message"
        yield "input", f"{message}; give one, such as {{kind: linear}}"


def rule_20_state(relations: Relations, channel: ChannelSpec) -> Iterator[Problem]:
    """A state goes from a recurrent agent to itself, over no link."""
    if not channel.state:
        return
    if channel.sender != channel.receiver:
        message = f"a state goes from an agent to itself, not from {channel.sender!r} to {channel.receiver!r}"
        yield "to", f"{message}; make them the same, or use another key"
    if not relations.agents[channel.sender].has_state:
        message = f"agent {channel.sender!r} has no state: its network is not recurrent, or has no state_size"
        yield "key", f"{message}; use kind rnn, leaky, gru or lstm, or another key"
    for key in ("size", "port", "norm", "sample", "link", "mask", "input", "read", "horizon"):
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
    if channel.state or not gradient.direct:
        reason = "skill is for gradients of messages that predict what comes back alone"
        yield "gradient.gate", f"{reason}; make it none, or leave it out"


def rule_23_context(relations: Relations, channel: ChannelSpec) -> Iterator[Problem]:
    """Which signals a synthetic gradient or input may be conditioned on."""
    ends = {STATES["from"]: channel.sender, STATES["to"]: channel.receiver}
    for index, name in enumerate(channel.gradient.context or ()):
        where = f"gradient.context.{index}"
        if name in {*INPUT_ENDPOINTS} - {*GRADIENT_ENDPOINTS}:
            yield where, f"{name!r} is for synthetic inputs only; leave it out"
        if name in ends and (channel.state or not relations.agents[ends[name]].has_state):
            yield (
                where,
                f"{name!r} is the state of a recurrent agent at the end of a message channel; leave it out",
            )
    for index, name in enumerate(channel.input.context if channel.input is not None else ()):
        if name in {*GRADIENT_ENDPOINTS} - {*INPUT_ENDPOINTS}:
            yield f"input.context.{index}", f"{name!r} is for synthetic gradients only; leave it out"


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
    """`passes: all` uses what returns at the step at which the sender learns, and replays its window beside the receiver's."""
    if not channel.replayed:
        return
    sender, receiver = ends = [relations.agents[name] for name in (channel.sender, channel.receiver)]
    gradient, link, goal = channel.gradient, channel.link, receiver.objective
    plain = not (channel.state or channel.input or channel.sample or link.delay or link.back or link.loses)
    returns = gradient.direct and not gradient.needs_loss and channel.written_coupling.built_in
    at_once = relations.learns[channel.sender] == relations.learns[channel.receiver] and (
        sender.clock.period == receiver.clock.period
        and sender.clock.phase % sender.clock.period == receiver.clock.phase % receiver.clock.period
    )
    alone = all(
        len(relations.learning[name]) == 1 and name not in relations.late
        for name in (channel.sender, channel.receiver)
    )
    without_more = all(
        # a network that is not made yet is looked at when it is
        agent.learn is True and agent.align is None and not (agent.has_state and agent.state_size is not None)
        for agent in ends
    )
    if (
        plain
        and returns
        and at_once
        and alone
        and without_more
        and not channel.coupling.replaces_messages
        and goal is not None
        and goal.passes > 1
        and channel.sender not in relations.rewarded
        and sum(sibling.replayed for sibling in relations.outputs[channel.sender]) == 1
        and all(incoming.read == "last" for incoming in relations.inputs[channel.receiver])
    ):
        return
    of_channel = "one decoupled message channel without delay, loss, input or sample, whose gradient is linear or the like"
    of_ends = "a sender without rewards, and an agent with ppo or q of 2 or more epochs that reads the last"
    both = "both learn alone, at the same steps, from every window, without a state or `align`"
    yield "gradient.passes", f"all is for {of_channel}, of {of_ends}; {both}; make passes first"


# --- of one agent ---------------------------------------------------------------------------------------------


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
        yield "align", "a policy acts on the signals of the current step, not of an earlier one; leave it out"


def rule_39_goal(relations: Relations, name: str) -> Iterator[Problem]:
    """The goal of a policy is the message of a channel that leads to it."""
    objective, names = relations.agents[name].objective, [channel.name for channel in relations.inputs[name]]
    if objective is not None and objective.goal is not None and objective.goal.channel not in names:
        fix = suggest(objective.goal.channel, names)
        yield "objective.goal.channel", f"no channel {objective.goal.channel!r} leads to this agent{fix}"


def rule_42a_replay(relations: Relations, name: str) -> Iterator[Problem]:
    """What is drawn from a replay buffer is of no earlier parameters."""
    unroll, objective = relations.agents[name].clock.unroll, relations.agents[name].objective
    if objective is None or objective.get("replay", 1) == 1:
        return
    if (
        relations.inputs[name]
        or len(relations.learning[name]) > 1
        or unroll == "episode"
        or objective.passes == 1
    ):
        message = "is for an agent without incoming channels that learns alone, in 2 or more epochs, from windows of a number of ticks"
        yield "objective.replay", f"{message}; leave it out"


# --- of several -----------------------------------------------------------------------------------------------


def channel_ends(relations: Relations) -> Iterator[DocumentError]:
    """Every channel joins agents that there are, and is declared once."""
    indices: dict[str, int] = {}
    for index, channel in enumerate(relations.channels):
        for key, name in (("from", channel.sender), ("to", channel.receiver)):
            if name not in relations.agents:
                line = f"no agent {name!r}{suggest(name, relations.agents)}"
                yield DocumentError(("channels", index, key), line)
        first = indices.setdefault(channel.name, index)
        if first != index:
            mend = "an agent has one state; leave it out" if channel.state else "give one of them another key"
            message = f"{channel.name} is already declared as channels[{first}]; {mend}"
            yield DocumentError(("channels", index), message)


def rule_27_readout(relations: Relations) -> Iterator[DocumentError]:
    """Some agent has an objective, and each readout."""
    if not any(agent.objectives for agent in relations.agents.values()):
        line = "no agent has an objective, so nothing would be learned; add one, such as {kind: classification, target: label}"
        yield DocumentError(("agents",), line)
    for name in relations.scenario.readout or ():
        if name not in relations.agents:
            candidates = [known for known, agent in relations.agents.items() if agent.objectives]
            yield DocumentError(("readout",), f"no agent {name!r}{suggest(name, candidates)}")
        elif not relations.agents[name].objectives:
            yield DocumentError(("readout",), f"agent {name!r} has no objective; give it one")


def rule_37_acting(relations: Relations) -> Iterator[DocumentError]:
    """One agent acts, or one for each part of the action; its objective reads that output."""
    acting = {name: agent.acts for name, agent in relations.agents.items() if agent.acts}
    # the prefix of what lies within a part of the action; within the whole lies everything
    parts = {name: "" if acts is True else f"{acts}." for name, acts in acting.items()}
    for name, part in parts.items():
        path = ("agents", name, "acts")
        overlapping = (n for n, other in parts.items() if part.startswith(other) or other.startswith(part))
        if (first := next(overlapping)) != name:
            message = f"{first!r} already acts, and the environment takes the action of one agent"
            yield DocumentError(
                path, f"{message}; leave it out, or give each agent its part of a Dict of actions"
            )
        objective = relations.agents[name].objective
        if objective is None or objective.of_network:
            yield DocumentError(
                path, "the action is the output for one objective with a target or rewards; give it one"
            )


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
    reading = (
        ((channel.sender, channel.port), number, {field: getattr(channel, field) for field in fields})
        for number, channel in enumerate(relations.channels)
        if channel.port is not None and not channel.state
    )
    for mine, theirs, key in _unequal(reading):
        values = [getattr(relations.channels[number], key) for number in (mine, theirs)]
        shown = [show_value(plain(value) if isinstance(value, Spec) else value) for value in values]
        message = f"{shown[0]} differs from channels[{theirs}].{key}, {shown[1]}"
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
            line = f"{agent.share!r} is the name of an agent outside the group; name the group otherwise"
            yield DocumentError(("agents", name, "share"), line)
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


def rule_27c_ties(relations: Relations) -> Iterator[DocumentError]:
    """Ties name parameters of agents once each, and these agents learn at the same steps and rates."""
    named: set[str] = set()
    for index, group in enumerate(relations.scenario.share):
        for position, name in enumerate(group):
            (agent, parameter), path = agent_and_parameter(name), ("share", index, position)
            if not parameter:
                yield DocumentError(
                    path, f"must be AGENT.PARAMETER such as 'part0.module.weight', not {name!r}"
                )
            elif agent not in relations.agents:
                yield DocumentError(path, f"no agent {agent!r}{suggest(agent, relations.agents)}")
            elif name in named:
                yield DocumentError(path, f"{name!r} is in two places; name it once")
            named.add(name)
        agents = tuple(dict.fromkeys(agent_and_parameter(name)[0] for name in group))
        if len(agents) > 1:
            yield from _tied_differences(relations, agents)


def _tied_differences(relations: Relations, agents: Sequence[str]) -> Iterator[DocumentError]:
    """What would let the parameters of tied agents come to differ."""
    first, joint = agents[0], len({relations.learning[name] for name in agents}) == 1
    specs, default = relations.agents, relations.scenario.training.optimiser
    settings = {n: (specs[n].optimiser or default, specs[n].learn, relations.learns[n]) for n in agents}
    for name in agents:
        group = relations.learning[name]
        goals = [specs[member].objective for member in group]
        waits = any(
            relations.locked[end.sender] is not relations.locked[end.receiver]
            for end in relations.late.get(group[0], ())
        )
        if (
            settings[name] != settings[first]
            or specs[name].share is not None
            or any(goal is not None and goal.passes > 1 for goal in goals)
            or (not joint and (waits or settings[name][0].clip is not None))
        ):
            line = f"has parameters tied to those of {first!r}: such agents need the same optimiser, `learn` and steps of learning, and"
            yield DocumentError(
                ("agents", name), f"{line} no `share`, clip, further epochs or delayed channels; make them so"
            )


def rule_13_zero_delay_cycle(relations: Relations) -> Iterator[DocumentError]:
    """Some channel of every cycle has a delay."""
    ticking = {*chain(*relations.waves)}
    stuck = [name for name in relations.agents if name not in ticking]
    if stuck:
        cycle = cycle_among(stuck, undelayed(relations.channels))
        shown = " -> ".join((*cycle, cycle[0]))
        message = f"zero-delay cycle {shown}; give one of these a link delay of 1 or more"
        ends = cycle[0], (*cycle, cycle[0])[1]
        at = next(n for n, c in enumerate(relations.channels) if undelayed([c]) == [ends])
        yield DocumentError(("channels", at), message)


def rule_24_evaluated(relations: Relations) -> Iterator[DocumentError]:
    """A training is evaluated at least once."""
    evaluate, steps = relations.scenario.training.evaluate, relations.scenario.training.steps
    if evaluate is not None and evaluate.period > steps:
        message = f"{evaluate.period:,} is more than training.steps, {steps:,}; make it at most {steps:,}"
        yield DocumentError(("training", "evaluate", "period"), message)


# --- all ------------------------------------------------------------------------------------------------------

OF_AGENTS = (rule_37_policy, rule_39_goal, rule_21_align, rule_42a_replay)
OF_CHANNELS = (
    rule_26b_sampled,
    rule_20_state,
    rule_12_gradient_of_states,
    rule_26_size,
    rule_16_coupling,
    rule_9a_gate,
    rule_23_context,
    rule_18_read,
    rule_42b_passes,
)
OF_SEVERAL = (
    rule_27_readout,
    rule_37_acting,
    rule_26_port,
    rule_27a_share,
    rule_42_equal_in_a_group,
    rule_13_zero_delay_cycle,
    rule_24_evaluated,
    rule_27c_ties,
)


def check(relations: Relations) -> None:
    """Raise the first problem of a scenario as a whole, its channels still in the order in which they were written."""
    for check_several in (channel_ends, *OF_SEVERAL):
        refuse(check_several(relations))
    for check_agent, name in product(OF_AGENTS, relations.agents):
        for key_path, message in check_agent(relations, name):
            raise DocumentError(("agents", name, *_keys(key_path)), message)
    for check_channel, (number, channel) in product(OF_CHANNELS, enumerate(relations.channels)):
        for key_path, message in check_channel(relations, channel):
            raise DocumentError(("channels", number, *_keys(key_path)), message)


def _keys(key_path: str) -> Path:
    return tuple(int(key) if key.isdecimal() else key for key in key_path.split(".") if key)

"""Senders that learn in the further passes of their receivers: what `gradient.passes: all` needs and sets, and where `auto` chooses it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import chain

from antiphon.base.extensions import name_of
from antiphon.base.spec import AUTO
from antiphon.comms.endpoint_values import STATES
from antiphon.scenarios.agent_specs import AGE, AgentSpec
from antiphon.scenarios.channel_specs import ChannelSpec
from antiphon.scenarios.relations import Relations


def has_state(agent: AgentSpec) -> bool:
    """Return whether an agent has a state; one whose network is not made yet may have one."""
    return agent.layers.recurrent if agent.layers is not None else agent.state_size != 0


def rule_42b_passes(relations: Relations, channel: ChannelSpec) -> Iterator[tuple[str, str]]:
    """A sender's window is replayed beside its receiver's; that both learn at the same steps: `not_at_once`."""
    if channel.replayed:
        reasons = chain(_losses(channel), _obstacles(relations, channel), _lost_codes(relations, channel))
        reason = next(reasons, None)
        if reason is not None:
            yield "gradient.passes", f"all {reason}, or make passes first"


def not_at_once(relations: Relations, channel: ChannelSpec) -> str | None:
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
        verb, same = "tick" if apart else "learn", ""
        alone = all(len(relations.learning[name]) == 1 for name in ends)
        if alone and clocks[0].model_copy(update={"unroll": clocks[1].unroll}) == clocks[1]:
            same = f", such as clock: {{unroll: {clocks[1].unroll}}} of {ends[0]!r}"
        return f"{ends[0]!r} and {ends[1]!r} {verb} at different steps; give them the same clock{same}"
    return None


def in_all_passes(relations: Relations) -> frozenset[str]:
    """Return the channels whose senders learn in all passes: those with `passes: all`, and those for which `auto` chooses it.

    A shadow is among the first, as it keeps its inputs if it is applied in mid-run.

    Predictors that fit noise or do not learn, a delay that is chosen in parts, and networks of the user's own, whose ticks and
    environments may depend on each other, leave it at the first pass: `all` has to be asked for there. So do senders that learn
    from more than the channel: steps by it alone would change its weight against a loss of their own or another channel.
    """
    return frozenset(
        channel.name
        for channel in relations.channels
        if (channel.gradient.passes == "all" and channel.coupling.predicts and not channel.state)
        or (
            channel.gradient.passes == AUTO
            and may_be_chosen(relations, channel)
            and not needed_keys(relations, channel)
        )
    )


def observed_context(relations: Relations, channel: ChannelSpec) -> tuple[str, ...]:
    """Return the default context of a channel whose sender learns in all passes, or sends symbols: what the sender observes."""
    return tuple(name for name in relations.agents[channel.sender].observes if name != AGE)


def setting_that_may_open(relations: Relations, channels: Collection[str]) -> str:
    """Return a setting that may open the gate of one of some channels, which is not refused; empty: there is none.

    Where the sender can learn in more passes, and has no other channel whose predictions it follows (with `all` on both the
    scenario would be refused), it is that; else a context, where the predictor reads nothing that the sender observes.
    """
    named = [channel for channel in relations.channels if channel.name in channels and not channel.replayed]
    channel = next((c for c in named if _may_replay(relations, c) and _alone(relations, c)), None)
    if channel is None:
        contexts = (_context_to_add(relations, channel) for channel in named)
        return next((f"gradient.context: [{', '.join(names)}]" for names in contexts if names), "")
    passes, keys = AUTO if may_be_chosen(relations, channel) else "all", needed_keys(relations, channel)
    if channel.gradient.passes != passes:
        keys["passes"] = passes
    if len(keys) == 1:
        return "".join(f"gradient.{key}: {value}" for key, value in keys.items())
    return f"gradient: {{{', '.join(f'{key}: {value}' for key, value in keys.items())}}}"


def _alone(relations: Relations, channel: ChannelSpec) -> bool:
    """Return whether a sender follows the predictions of no other channel."""
    return not any(
        sibling.coupling.predicts and not sibling.state
        for sibling in relations.outputs[channel.sender]
        if sibling is not channel
    )


def _context_to_add(relations: Relations, channel: ChannelSpec) -> tuple[str, ...]:
    """Return the context of a channel with what its sender observes; empty where it reads some of that, or the sender's state."""
    observed, given = observed_context(relations, channel), channel.gradient.context
    if channel.state or not channel.coupling.predicts or not {*observed, STATES["from"]}.isdisjoint(given):
        return ()
    return (*given, *observed) if observed else ()


def may_be_chosen(relations: Relations, channel: ChannelSpec) -> bool:
    """Return whether `passes: auto` would choose all passes for a channel, if its predictors keep up."""
    return (
        _may_replay(relations, channel)
        and channel.gradient.scale > 0
        and channel.gradient.learn
        and not relations.agents[channel.sender].objectives
        and not any(
            sibling.name in relations.teaching
            for sibling in relations.outputs[channel.sender]
            if sibling is not channel
        )
        and channel.link.written_delay != AUTO
        and all(_built_in(relations.agents[name]) for name in (channel.sender, channel.receiver))
    )


def _may_replay(relations: Relations, channel: ChannelSpec) -> bool:
    """Return whether `passes: all` has an effect on a channel, and is not refused with the keys that it needs."""
    goal, gradient = relations.agents[channel.receiver].objective, channel.gradient
    if not channel.coupling.predicts or not gradient.apply or goal is None or goal.passes < 2:
        return False  # at once, as it is for most channels
    ends = [relations.agents[name] for name in (channel.sender, channel.receiver)]
    norms: list[str | None] = [
        outgoing.norm for name in (channel.sender, channel.receiver) for outgoing in relations.outputs[name]
    ]
    norms += [
        agent.layers.get(key) for agent in ends if agent.layers is not None for key in ("norm", "cell_norm")
    ]
    if "batch" in norms or not_at_once(relations, channel) is not None:
        return False
    return bool(observed_context(relations, channel)) and next(_obstacles(relations, channel), None) is None


def needed_keys(relations: Relations, channel: ChannelSpec) -> dict[str, str]:
    """Return the keys, with values, by which a predictor follows what the minibatches of further passes have in common."""
    gradient, keys = channel.gradient, dict[str, str]()
    if not gradient.keeps_up:
        keys["kind"] = "linear"
    if not _has_context(relations, channel):
        keys["context"] = f"[{', '.join(observed_context(relations, channel))}]"
    if "rescale" in gradient.model_fields_set and gradient.get("rescale") == "none":
        keys["rescale"] = "rms"
    return keys


def _has_context(relations: Relations, channel: ChannelSpec) -> bool:
    """Return whether the predictor of a sender that learns in all passes reads more than the message."""
    is_written = "context" in channel.gradient.model_fields_set
    return bool(channel.gradient.context if is_written else observed_context(relations, channel))


def _lost_codes(relations: Relations, channel: ChannelSpec) -> Iterator[str]:
    """Yield that a gate would let a code collapse, with a fix."""
    if channel.gradient.gate != "none" and channel.gradient.learn and not _has_context(relations, channel):
        yield "needs a context beside a gate, which shuts too late for the code; name signals, make gate none"


def _built_in(agent: AgentSpec) -> bool:
    """Return whether an agent's network, with what aggregates its messages, is antiphon's own."""
    return agent.layers is not None and agent.fan_in.built_in


def _losses(channel: ChannelSpec) -> Iterator[str]:
    """Yield that a critic's losses do not return in further passes, with a fix."""
    if channel.gradient.needs_loss:
        yield _of_gradients_alone(channel)


def _of_gradients_alone(channel: ChannelSpec) -> str:
    return f"needs a gradient that learns returned gradients alone, not {name_of(channel.gradient.kind)}; use linear"


def _obstacles(relations: Relations, channel: ChannelSpec) -> Iterator[str]:
    """Yield why a channel's sender cannot be replayed, each with a fix."""
    if channel.state:
        yield "is for message channels only; leave it out"
        return
    goal, gradient = relations.agents[channel.receiver].objective, channel.gradient
    if goal is None or goal.passes < 2:
        yield f"needs further passes of {channel.receiver!r}; give it ppo or q with 2 or more epochs"
    if channel.sender in relations.rewarded:
        yield f"is for senders without rewards, and {channel.sender!r} learns from some; leave out its objective"
    if not gradient.direct:
        yield _of_gradients_alone(channel)
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
        yield from _obstacles_of_end(relations, name)


def _obstacles_of_end(relations: Relations, name: str) -> Iterator[str]:
    """Yield why the windows of one of its ends cannot be replayed."""
    agent = relations.agents[name]
    if len(relations.learning[name]) > 1:
        yield f"needs ends that learn by themselves, and {name!r} learns with others; make its channels decoupled"
    if agent.learn is not True:
        yield f"needs ends that learn from each window, and {name!r} does not; leave out its learn"
    if has_state(agent) and agent.state_size is not None:  # one that is not made yet is looked at when it is
        yield f"needs ends without a state, and {name!r} has one; use a network of another kind"
    if agent.align is not None:
        yield f"needs ends that are not aligned, and {name!r} is; leave out its align"

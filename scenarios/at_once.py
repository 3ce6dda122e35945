"""What returns at the step at which the sender learns: what `trace`, `passes: all` and `local_policy` need of a channel."""

from __future__ import annotations

from antiphon.scenarios.channel_specs import ChannelSpec
from antiphon.scenarios.relations import Relations


def lost(channel: ChannelSpec) -> str | None:
    """Return why not every message arrives, and the fix."""
    link = channel.link
    return f"the link has a drop of {link.drop}; make it 0" if link.loses else None


def not_at_once(relations: Relations, channel: ChannelSpec, *, ticks: bool) -> str | None:
    """Describe why a channel's gradient is not back at the step at which its sender learns, and the fix.

    Args:
        ticks: Whether both ends have to tick at the same steps too.
    """
    link, ends = channel.link, (channel.sender, channel.receiver)
    if channel.coupling.replaces_messages:
        return f"the channel is {channel.coupling.name}; make it decoupled"
    if link.delay:
        return f"the link has a delay of {link.delay}; make it 0"
    if link.back:
        return f"the link has a delay back of {link.back}; make it 0"
    loss = lost(channel)
    if loss is not None:
        return loss
    if relations.learning[ends[0]] is relations.learning[ends[1]]:
        return "both ends learn together; make the channel locked"
    for name in ends:
        late = relations.late.get(relations.learning[name][0])
        if late is not None:
            return f"{name!r} learns late, because {late[0].name} is delayed; give {late[0].name} another coupling"
    clocks = [relations.agents[name].clock for name in ends]
    apart = ticks and len({(clock.period, clock.phase % clock.period) for clock in clocks}) > 1
    if apart or relations.learns(ends[0]) != relations.learns(ends[1]):
        verb, same = "tick" if apart else "learn", ""
        alone = all(len(relations.learning[name]) == 1 for name in ends)
        if alone and clocks[0].model_copy(update={"unroll": clocks[1].unroll}) == clocks[1]:
            same = f", such as clock: {{unroll: {clocks[1].unroll}}} of {ends[0]!r}"
        return f"{ends[0]!r} and {ends[1]!r} {verb} at different steps; give them the same clock{same}"
    return None

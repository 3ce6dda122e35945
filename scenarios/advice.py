"""What runs but is probably not meant: warnings, each one line, never errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from antiphon.scenarios.document import Scenario
from antiphon.scenarios.parts import AgentSpec, ChannelSpec, GradientSpec, NetworkSpec
from antiphon.scenarios.relations import window_of
from antiphon.scenarios.training import OptimiserSpec, ScheduleSpec

__all__ = ["warnings"]

_MOST_NAMED = 4


def warnings(scenario: Scenario) -> list[str]:
    """Return what probably is not meant, one line each.

    Agents that no learning signal can reach, channels that nobody reads or that no credit crosses, and
    keys that the chosen kind or coupling does not use.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for kind, name, message in _all(scenario):
        found.setdefault((kind, message), []).append(name)
    return [f"{_listed(kind, names)}: {message}" for (kind, message), names in found.items()]


def _listed(kind: str, names: list[str]) -> str:
    if kind == "training":
        return names[0]
    shown = ", ".join(names[:_MOST_NAMED])
    if len(names) > _MOST_NAMED:
        shown += f", … ({len(names)} in all)"
    return f"{kind} {shown}" if len(names) == 1 else f"{kind}s {shown}"


Finding = tuple[str, str, str]


def _all(scenario: Scenario) -> Iterator[Finding]:
    yield from _unreached(scenario)
    for channel in scenario.channels:
        yield from (("channel", channel.name, message) for message in _unread(scenario, channel))
    yield from (("channel", name, "heard by no agent with an objective") for name in _unheard(scenario))
    for channel in scenario.channels:
        yield from (("channel", channel.name, message) for message in _unused_by_channel(channel))
    for name, agent in scenario.agents.items():
        yield from (("agent", name, message) for message in _unused_by_agent(agent))
    for field in ("optimiser", "predictor"):
        optimiser = getattr(scenario.training, field)
        for message in _unused_by_optimiser(optimiser):
            yield "training", f"training.{field}", message


def _closure(start: Iterable[str], steps: Iterable[tuple[str, str]]) -> set[str]:
    """Return everything that pairs (from, to), followed any number of times, lead to from `start`."""
    onward: dict[str, list[str]] = {}
    for one, other in steps:
        onward.setdefault(one, []).append(other)
    reached = set(start)
    todo = list(reached)
    while todo:
        for other in onward.get(todo.pop(), ()):
            if other not in reached:
                reached.add(other)
                todo.append(other)
    return reached


def _blocked(scenario: Scenario) -> set[str]:
    """Return the names of locked channels whose delay is not shorter than the group's window."""
    group_of = {agent: group for group in scenario.locked_groups() for agent in group}
    blocked = set()
    for channel in scenario.channels:
        if channel.coupling == "locked":
            window = window_of(group_of[channel.sender], scenario.agents)
            if window != "episode" and channel.link.delay >= window:
                blocked.add(channel.name)
    return blocked


def _unreached(scenario: Scenario) -> Iterator[Finding]:
    blocked = _blocked(scenario)
    for name in sorted(blocked):
        yield "channel", name, "no credit passes, the delay being a whole window; use unroll: episode"
    with_signal = {name for name, agent in scenario.agents.items() if agent.objective}
    back: list[tuple[str, str]] = []
    for channel in scenario.channels:
        gradient = channel.gradient
        if channel.coupling == "detached" or channel.name in blocked:
            continue
        if channel.coupling == "decoupled":
            if not gradient.apply or gradient.scale == 0:
                continue
            if gradient.kind == "local":
                with_signal.add(channel.sender)
        back.append((channel.receiver, channel.sender))
    reached = _closure(with_signal, back)
    for name, agent in scenario.agents.items():
        if agent.learn and name not in reached:
            yield "agent", name, "reached by no learning signal"


def _unheard(scenario: Scenario) -> list[str]:
    objectives = [name for name, agent in scenario.agents.items() if agent.objective]
    heard = _closure(objectives, [(channel.receiver, channel.sender) for channel in scenario.channels])
    return [channel.name for channel in scenario.channels if channel.receiver not in heard]


def _unread(scenario: Scenario, channel: ChannelSpec) -> Iterator[str]:
    sender, receiver = scenario.agents[channel.sender].clock, scenario.agents[channel.receiver].clock
    arrival = sender.phase % sender.period + channel.link.delay
    read = arrival + (receiver.phase - arrival) % receiver.period
    if read >= scenario.training.steps:
        yield f"read by nobody before step {read}, and training.steps is {scenario.training.steps}"


def _unused(key: str, reason: str) -> str:
    return f"{key} is not used {reason}"


def _unused_by_channel(channel: ChannelSpec) -> Iterator[str]:
    gradient = channel.gradient
    if channel.coupling != "decoupled":
        if gradient != GradientSpec():
            yield _unused("gradient", f"by a {channel.coupling} channel")
    else:
        if gradient.kind != "local" and gradient.target is not None:
            yield _unused("gradient.target", f"by a gradient of kind {gradient.kind}")
        if gradient.kind == "linear" and gradient.hidden:
            yield _unused("gradient.hidden", "by a gradient of kind linear")
        if (gradient.kind == "linear" or not gradient.hidden) and gradient.norm != "batch":
            yield _unused("gradient.norm", "by a gradient without hidden layers")
        if gradient.optimiser is not None:
            yield from (f"gradient.optimiser.{text}" for text in _unused_by_optimiser(gradient.optimiser))
    if channel.coupling != "delayed" and channel.staleness != 16:
        yield _unused("staleness", f"by a {channel.coupling} channel")
    if channel.size is None and channel.norm is not None:
        yield _unused("norm", "by a channel without a size")


def _unused_by_agent(agent: AgentSpec) -> Iterator[str]:
    network = agent.network
    if isinstance(network, NetworkSpec) and network.kind == "mlp":
        if network.filter != 5:
            yield _unused("network.filter", "by an mlp")
        if network.pool:
            yield _unused("network.pool", "by an mlp")
        if not network.hidden and network.norm is not None:
            yield _unused("network.norm", "without hidden layers")
    if agent.optimiser is not None:
        if not agent.learn:
            yield _unused("optimiser", "by an agent that does not learn")
        yield from (f"optimiser.{text}" for text in _unused_by_optimiser(agent.optimiser))


def _unused_by_optimiser(optimiser: OptimiserSpec | None) -> Iterator[str]:
    if optimiser is None:
        return
    if optimiser.kind != "sgd" and optimiser.momentum:
        yield _unused("momentum", f"by {optimiser.kind}")
    if optimiser.kind == "sgd" and optimiser.betas != OptimiserSpec().betas:
        yield _unused("betas", "by sgd")
    schedule = optimiser.schedule
    if schedule is not None:
        if schedule.kind != "steps" and schedule.at:
            yield _unused("schedule.at", f"by a {schedule.kind} schedule")
        if schedule.kind == "constant" and schedule.factor != ScheduleSpec().factor:
            yield _unused("schedule.factor", "by a constant schedule")

"""Unused keys: kept, but without effect for the chosen kind or coupling."""

from __future__ import annotations

from collections.abc import Iterator

from antiphon.scenarios.parts import AgentSpec, ChannelSpec, GradientSpec, InputSpec, NetworkSpec
from antiphon.scenarios.training import OptimiserSpec, ScheduleSpec

__all__ = ["unused_by_agent", "unused_by_channel", "unused_by_optimiser"]


def _unused(key: str, reason: str) -> str:
    return f"{key} is not used {reason}"


def unused_by_channel(channel: ChannelSpec) -> Iterator[str]:
    """Return the keys of a channel without effect."""
    coupling = f"by a {channel.coupling} channel"
    if channel.coupling in ("decoupled", "unlocked"):
        yield from _by_gradient(channel.gradient)
    elif channel.gradient != GradientSpec():
        yield _unused("gradient", coupling)
    if channel.input is not None:
        if channel.coupling not in ("decoupled", "unlocked"):
            yield _unused("input", coupling)
        elif channel.coupling == "decoupled" and channel.link.drop == 0:
            yield _unused("input", "where the link loses nothing")
        else:
            yield from _by_input(channel.input)
    if channel.feedback is not None:
        if channel.coupling != "locked":
            yield _unused("feedback", coupling)
        elif channel.feedback.kind == "fa" and channel.feedback.of is not None:
            yield _unused("feedback.of", "by feedback of kind fa")
    if channel.coupling != "delayed" and channel.staleness != 16:
        yield _unused("staleness", coupling)
    if channel.link.back is not None and channel.coupling in ("locked", "detached"):
        yield _unused("link.back", coupling)
    if channel.size is None and channel.norm is not None:
        yield _unused("norm", "by a channel without a size")
    if channel.link.drop == 1:
        for key, plain in (("noise", 0.0), ("bits", None)):
            if getattr(channel.link, key) != plain:
                yield _unused(f"link.{key}", "where every message is lost")


def _by_gradient(gradient: GradientSpec) -> Iterator[str]:
    kind = f"by a gradient of kind {gradient.kind}"
    if gradient.kind not in ("local", "sobolev_label") and gradient.target is not None:
        yield _unused("gradient.target", kind)
    if gradient.kind == "local" and "returned" in gradient.context:
        yield _unused("returned in gradient.context", kind)
    if gradient.kind == "linear" and gradient.hidden:
        yield _unused("gradient.hidden", kind)
    if gradient.kind != "conv" and gradient.filter != 5:
        yield _unused("gradient.filter", kind)
    if (gradient.kind == "linear" or not gradient.hidden) and gradient.norm != "batch":
        yield _unused("gradient.norm", "by a gradient without hidden layers")
    if not gradient.trace and gradient.span != GradientSpec().span:
        yield _unused("gradient.span", "where trace is 0")
    if not gradient.apply:
        for key in ("scale", "schedule", "clip", "trace", "propagate"):
            if getattr(gradient, key) != getattr(GradientSpec(), key):
                yield _unused(f"gradient.{key}", "where apply is false")
    yield from (f"gradient.{text}" for text in _by_schedule(gradient.schedule))
    yield from (f"gradient.optimiser.{text}" for text in unused_by_optimiser(gradient.optimiser))


def _by_input(model: InputSpec) -> Iterator[str]:
    if model.kind == "linear" and model.hidden:
        yield _unused("input.hidden", "by an input of kind linear")
    if model.kind == "linear" and model.norm != "batch":
        yield _unused("input.norm", "by an input without hidden layers")
    yield from (f"input.optimiser.{text}" for text in unused_by_optimiser(model.optimiser))


def unused_by_agent(agent: AgentSpec) -> Iterator[str]:
    """Return the keys of an agent without effect."""
    if isinstance(agent.network, NetworkSpec):
        yield from (f"network.{text}" for text in _by_network(agent.network))
    if agent.optimiser is not None and not agent.learn:
        yield _unused("optimiser", "by an agent that does not learn")
    yield from (f"optimiser.{text}" for text in unused_by_optimiser(agent.optimiser))


def _by_network(network: NetworkSpec) -> Iterator[str]:
    plain, kind = NetworkSpec(), f"by a network of kind {network.kind}"
    others = {
        "hidden": network.recurrent,
        "size": not network.recurrent,
        "encoder": not network.recurrent,
        "cell_norm": not network.recurrent,
        "leak": network.kind != "leaky",
        "filter": network.kind != "conv",
        "pool": network.kind != "conv",
    }
    for key, useless in others.items():
        if useless and getattr(network, key) != getattr(plain, key):
            yield _unused(key, kind)
    if not (network.encoder if network.recurrent else network.hidden):
        for key in ("norm", "activation"):
            if getattr(network, key) != getattr(plain, key):
                yield _unused(key, "without hidden layers")


def unused_by_optimiser(optimiser: OptimiserSpec | None) -> Iterator[str]:
    """Return the keys of an optimiser without effect."""
    if optimiser is None:
        return
    if optimiser.kind != "sgd" and optimiser.momentum:
        yield _unused("momentum", f"by {optimiser.kind}")
    if optimiser.kind == "sgd" and optimiser.betas != OptimiserSpec().betas:
        yield _unused("betas", "by sgd")
    yield from _by_schedule(optimiser.schedule)


def _by_schedule(schedule: ScheduleSpec | None) -> Iterator[str]:
    if schedule is None:
        return
    if schedule.kind != "steps" and schedule.at:
        yield _unused("schedule.at", f"by a {schedule.kind} schedule")
    if schedule.kind == "constant" and schedule.factor != ScheduleSpec().factor:
        yield _unused("schedule.factor", "by a constant schedule")

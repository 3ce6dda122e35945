"""Shapes: what each agent takes in and each channel carries, resolved without allocating anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gymnasium import spaces

from antiphon.agents.distributions import distribution_of
from antiphon.agents.network import AUXILIARY_PORT, HIDDEN, OBJECTIVE, VALUE, Head, features_of
from antiphon.agents.objectives import AnyObjective, Objective, Weighted, objective_of
from antiphon.agents.policy_objectives import PolicyObjective
from antiphon.base.errors import ScenarioError, suggest
from antiphon.base.extensions import name_of
from antiphon.base.problems import DocumentError, Path, within
from antiphon.comms.endpoint_values import GRADIENT_ENDPOINTS, INPUT_ENDPOINTS
from antiphon.engine.heart.agent import AGE
from antiphon.envs.signal import OUTCOMES, Description, Signal
from antiphon.nets.recurrent_cells import Cell
from antiphon.scenarios.agent_specs import AgentSpec, NetworkSpec, ObjectiveSpec
from antiphon.scenarios.channel_specs import ChannelSpec
from antiphon.scenarios.scenario import Scenario

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Shapes:
    """Shapes of one sample, and the objectives, which say how many outputs they compare."""

    inputs: dict[str, Shape]
    """What each agent's network takes in, by agent."""
    messages: dict[str, Shape]
    """Shape of a message by channel; that of a state is what the network says."""
    heads: dict[str, tuple[Head, ...]]
    """Each agent's heads, in canonical order: the objective's, its value's, then its ports."""
    critics: dict[str, Shape]
    """What the critic of each agent takes in that has one of its own, by agent."""
    objectives: dict[str, AnyObjective]
    """The objective of each agent that has one, by agent."""
    layouts: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    """By agent and `network` or `critic`: how a conv network reads each observation (see `as_maps`)."""


def head_of(channel: ChannelSpec) -> str:
    """Return the name of the sender's port that a channel reads."""
    if channel.port is not None:
        return f"port_{channel.port}"
    if channel.size is None:
        return HIDDEN
    return f"to_{channel.receiver}" + ("" if channel.key == 0 else f"_{channel.key}")


def candidates_of(agent: AgentSpec, env: Description) -> Shape:
    """Return the shape of what a pointer network chooses from: the agent's first observation, [candidates, …]."""
    first = agent.observes[0] if agent.observes else None
    if first is None or first == AGE:
        raise ScenarioError(
            "network.kind: pointer chooses among the candidates in its first observation; give the agent an observation"
        )
    return env.signals[first].shape_as(agent.categories)


def default_norm(agent: AgentSpec, env: Description) -> str:
    """Return `batch` for an agent that ticks once per example, else `layer` (semantics 19, 26)."""
    once = env.is_stream and agent.clock.period >= env.hold
    return "batch" if once else "layer"


_LAYER_COMPONENTS = 3
"""Components from which a port has layer norm by default: of one it is a constant, of two about one bit."""


def port_norm(channel: ChannelSpec, sender: AgentSpec, env: Description) -> str:
    """Return the normalisation of a channel's port.

    By default none of logits and deviations, nor of fewer components than layer norm needs; and else `default_norm`.
    """
    if channel.norm is not None:
        return channel.norm
    raw = channel.sample is not None and (
        channel.symbols is not None or channel.sample.parameters_per_component > 1
    )
    norm = default_norm(sender, env)
    components = channel.port_components
    narrow = norm == "layer" and components is not None and components < _LAYER_COMPONENTS
    return "none" if raw or narrow else norm


def resolve(scenario: Scenario, env: Description) -> Shapes:
    _check_signals(scenario, env)
    messages: dict[str, Shape] = {}
    for channel in scenario.channels:
        if channel.state:
            continue
        sender = scenario.agents[channel.sender]
        if channel.shape is not None:
            messages[channel.name] = channel.shape
        elif sender.layers is None:
            raise DocumentError(
                ("channels", channel.name, "size"),
                "is missing; only built-in networks can pass on their last hidden activation, so give the message "
                "a size",
            )
        elif (hidden := _hidden_shape(sender.layers, sender, env)) is not None:
            messages[channel.name] = hidden
    inputs: dict[str, Shape] = {}
    layouts = dict(_layouts(scenario, env))
    unknown = Counter(c.receiver for c in scenario.channels if not c.state and c.name not in messages)
    ready = [name for name in scenario.agents if not unknown[name]]
    for name in ready:  # grows as it is read
        inputs[name] = _input_shape(scenario, name, messages, env, layouts.get((name, "network"), ()))
        sender = scenario.agents[name]
        for channel in scenario.relations.outputs[name]:
            if channel.name not in messages:
                assert sender.layers is not None
                hidden = _hidden_shape(sender.layers, sender, env, inputs[name])
                assert hidden is not None
                messages[channel.name] = hidden
                unknown[channel.receiver] -= 1
                if not unknown[channel.receiver]:
                    ready.append(channel.receiver)
    if len(inputs) < len(scenario.agents):
        waiting = [name for name in scenario.agents if name not in inputs]
        raise DocumentError(
            ("agents", waiting[0]),
            f"{', '.join(waiting)}: the input size of each depends on the size of the other's message; "
            "give one of the channels between them a size",
        )
    heads: dict[str, tuple[Head, ...]] = {}
    critics: dict[str, Shape] = {}
    objectives: dict[str, AnyObjective] = {}
    for name, agent in scenario.agents.items():
        goal = objective_in(name, agent, env, scenario.training.batch)
        if goal is not None:
            objectives[name] = goal[0]
        heads[name] = _heads(scenario, name, messages, env, 0 if goal is None else goal[1])
        if (critic := agent.critic) is not None:
            seen = [env.signals[signal].shape_as(agent.categories) for signal in critic.observes]
            seen = _maps(seen, layouts.get((name, "critic"), ()))
            path = ("agents", name, "objective", "critic")
            critics[name] = _joined_shape(critic.network, seen, path)
    return Shapes(inputs, messages, heads, critics, objectives, layouts)


def _hidden_shape(
    network: NetworkSpec, agent: AgentSpec, env: Description, inputs: Shape | None = None
) -> Shape | None:
    return network.own.hidden_shape(inputs, lambda: candidates_of(agent, env))


def _layouts(scenario: Scenario, env: Description) -> Iterator[tuple[tuple[str, str], tuple[str, ...]]]:
    """Yield how networks of images, of agents and critics, read what they observe; DocumentError where that is open."""
    for name, agent in scenario.agents.items():
        critic = agent.critic
        networks: list[tuple[Path, str, NetworkSpec | None, tuple[str, ...]]]
        networks = [(("agents", name, "network"), "network", agent.layers, agent.observes)]
        if critic is not None:
            critic_path = ("agents", name, "objective", "critic", "network")
            networks.append((critic_path, "critic", critic.network, critic.observes))
        for path, key, network, observes in networks:
            if network is not None and (network.on_maps or network.sees_images):
                order = network.get("channels")
                images = [
                    _layout(path, observation, env.signals.get(observation), agent.categories, order)
                    for observation in observes
                ]
                if order is not None and order not in images:
                    message = f"{order}, but no image with three axes is observed; leave it out"
                    raise DocumentError((*path, "channels"), message)
                yield (name, key), tuple(images)


def _layout(path: Path, name: str, signal: Signal | None, categories: str, order: str | None) -> str:
    if signal is None:
        return "first"
    if len(signal.shape_as(categories)) == 2:
        return "none"
    if len(signal.shape) != 3 or len(signal.shape_as(categories)) != 3:
        return "first"
    if order is None and signal.channels == "unknown":
        message = f"'{name}' is {list(signal.shape)}, which leaves open where its channels are; write `channels: last`"
        raise DocumentError((*path, "channels"), f"{message} or `channels: first` beside `kind: conv`")
    return order or signal.channels or "first"


def _maps(shapes: Sequence[Shape], layouts: Sequence[str]) -> list[Shape]:
    """Return shapes of observations as a conv network reads them; without layouts unchanged."""
    if not layouts:
        return list(shapes)
    maps: list[Shape] = []
    for shape, layout in zip(shapes, layouts, strict=True):
        moved = (shape[-1], *shape[:-1]) if layout == "last" else shape
        maps.append((1, *shape) if layout == "none" else moved)
    return maps


def _check_signals(scenario: Scenario, env: Description) -> None:
    """Refuse names of signals that lead nowhere, and signals that their reader may not have, or not yet."""
    at_tick = [name for name, signal in env.all_signals.items() if signal.known == "tick"]
    for name, path, reader in _readers(scenario):
        signal = env.all_signals.get(name)
        if signal is None:
            raise DocumentError(path, f"no signal '{name}'{suggest(name, env.signals)}")
        if signal.training_only and reader in ("agent", "synthetic input"):
            message = f"'{name}' is a training-only signal, which no {reader} may read"
            fix = f"use one of {', '.join(env.observations)}, or in your own data name the targets alone in training_only"
            raise DocumentError(path, f"{message}; {fix}")
        if name in OUTCOMES and reader == "agent":
            message = f"'{name}' is the name of what a step returns, which no agent may read"
            raise DocumentError(path, f"{message}; rename the signal")
        if name not in at_tick and reader in ("value", "synthetic input", "mask"):
            needed = f"'{name}' is known only after the step, and a {reader} is needed at the tick"
            usable = env.observations if reader == "synthetic input" else at_tick
            raise DocumentError(path, f"{needed}; use some of {', '.join(usable)}")
        if reader == "mask" and features_of(signal.shape) != 1:
            message = f"'{name}' has shape {list(signal.shape)}; a mask of a channel is one number"
            raise DocumentError(path, f"{message}, 0 where no message is sent")


def _readers(scenario: Scenario) -> Iterator[tuple[str, Path, str]]:
    """Yield the signals that a scenario names, each with its place and who reads it: a loss may have any at any time."""
    for name, agent in scenario.agents.items():
        path: Path = ("agents", name)
        mask = None if agent.objective is None else agent.objective.mask  # the agent observes it too
        for signal in agent.observes:
            if signal != AGE:
                yield signal, (*path, *(("objective", "mask") if signal == mask else ("observes",))), "agent"
        for where, goal in agent.objectives.items():
            if goal.target is not None:
                yield goal.target, (*path, *where, "target"), "loss"
            if goal.critic is not None:
                seen = (*path, *where, "critic", "observes")
                yield from ((signal, seen, "value") for signal in goal.critic.observes)
    for channel in scenario.channels:
        if channel.mask is not None:
            yield channel.mask, ("channels", channel.name, "mask"), "mask"
        if channel.coupling.predicts:
            path, gradient = ("channels", channel.name), channel.gradient
            named = [
                (signal, "context")
                for signal in scenario.relations.context(channel)
                if signal not in GRADIENT_ENDPOINTS
            ]
            if gradient.own_target is not None:
                named.append((gradient.own_target, "target"))
            yield from ((signal, (*path, "gradient", key), "loss") for signal, key in named)
            for signal in () if channel.input is None else channel.input.context:
                if signal not in INPUT_ENDPOINTS:
                    yield signal, (*path, "input", "context"), "synthetic input"


def _input_shape(
    scenario: Scenario, name: str, messages: dict[str, Shape], env: Description, layouts: Sequence[str]
) -> Shape:
    agent = scenario.agents[name]
    inputs = scenario.relations.inputs[name]
    observed = [
        (len(inputs),) if s == AGE else env.signals[s].shape_as(agent.categories) for s in agent.observes
    ]
    observed = _maps(observed, layouts)
    messages_read = []
    for channel in inputs:
        first, *rest = messages[channel.name]
        sender, receiver = (scenario.agents[end].clock.period for end in (channel.sender, name))
        messages_read.append((first * channel.slots(sender, receiver), *rest))
    if not observed and not messages_read:
        raise DocumentError(
            ("agents", name), "it observes nothing and no channel leads to it; give it an input"
        )
    return _joined_shape(agent.layers, [*observed, *messages_read], ("agents", name))


def _joined_shape(network: NetworkSpec | None, shapes: Sequence[Shape], path: Path) -> Shape:
    """The shape of what a network reads side by side; None: a user-defined network, which reads vectors."""
    if network is None:
        return (sum(features_of(shape) for shape in shapes),)
    with within(path):
        return network.own.input_shape(shapes)


def objective_in(
    name: str, agent: AgentSpec, env: Description, batch: int
) -> tuple[AnyObjective, int] | None:
    """Return an agent's objective and the size of its output: that of the target, or an acting agent's of its actions."""
    goal = agent.objective
    if goal is not None and goal.needs_rewards:
        return _policy_in(name, agent, env, batch)
    fits_by_goal = [_on_target(("agents", name, *path), goal, env) for path, goal in agent.objectives.items()]
    if not fits_by_goal:
        return None
    if len(fits_by_goal) > 1:
        objectives, sizes = zip(*fits_by_goal, strict=True)
        targets, weights = zip(
            *((goal.target or "own", goal.scale) for goal in agent.objectives.values()), strict=True
        )
        return Weighted(targets, objectives, sizes, weights), sum(sizes)
    objective, size = fits_by_goal[0]
    space = _space_of(name, agent, env)
    if goal is None or not agent.acts or space is None:
        return objective, size
    signal = env.all_signals[str(goal.target)]
    if isinstance(space, spaces.Discrete):
        count: int | None = None if signal.classes is not None and signal.shape else int(space.n)
    else:
        count = features_of(space.shape) if isinstance(space, spaces.Box) else None
    if size != count:
        message = f"an action is {space}, and {name_of(goal.kind)} of '{goal.target}' gives {size} outputs"
        raise DocumentError(
            ("agents", name, "acts"), f"{message}; make them equal, or learn them with a policy"
        )
    return objective, size


def _on_target(path: Path, goal: ObjectiveSpec, env: Description) -> tuple[Objective, int]:
    with within(path):
        objective = objective_of(goal.kind, goal.options, ".".join(map(str, path)))
    if goal.target is None:  # the network returns the loss
        return objective, 1
    signal = env.all_signals[goal.target]
    for key, message in objective.refusals(goal.target, signal.classes):
        raise DocumentError((*path, key), message)
    size = objective.size(signal.shape, signal.classes)
    if size is None:
        have = f"{signal.classes} classes" if signal.classes is not None else "floats"
        message = f"{name_of(goal.kind)} does not fit the target '{goal.target}' ({have}, shape {list(signal.shape)})"
        raise DocumentError(path, f"{message}; use another kind, or another target")
    return objective, size


def _space_of(name: str, agent: AgentSpec, env: Description) -> spaces.Space[Any] | None:
    """Return the space of an acting agent's action, which may be a part of the environment's; None: any output fits."""
    space = env.action_space
    if not isinstance(agent.acts, str):
        return space
    parts = space.spaces if isinstance(space, spaces.Dict) else {}
    if agent.acts not in parts:
        message = f"the environment's actions have no part '{agent.acts}'{suggest(agent.acts, parts)}"
        raise DocumentError(("agents", name, "acts"), message)
    return parts[agent.acts]


def _policy_in(name: str, agent: AgentSpec, env: Description, batch: int) -> tuple[PolicyObjective, int]:
    """Return a policy's objective and the number of its distribution's parameters; 0: it is over messages alone."""
    goal, distribution = agent.objective, None
    assert goal is not None
    if agent.acts:
        space = _space_of(name, agent, env)
        if space is None:
            message = "the environment takes no actions; give it a target instead"
            raise DocumentError(("agents", name, "acts"), message)
        with within(("agents", name, "acts")):
            distribution = distribution_of(space)
    kind: type[PolicyObjective] = goal.source
    with within(("agents", name, "objective")):
        objective = kind.in_batch(distribution, goal.options, batch)
    return objective, 0 if distribution is None else distribution.parameters


def _heads(
    scenario: Scenario, name: str, messages: dict[str, Shape], env: Description, outputs: int
) -> tuple[Head, ...]:
    """The heads of an agent; `outputs`: the size of what its objective compares, 0: none."""
    agent = scenario.agents[name]
    heads: dict[str, Head] = {}
    if outputs:
        heads[OBJECTIVE] = Head(OBJECTIVE, (outputs,))
    goal = agent.objective
    if goal is not None and goal.needs_value and not goal.has_target and goal.critic is None:
        heads[VALUE] = Head(VALUE, (1,))
    for channel in scenario.relations.outputs[name]:
        head = head_of(channel)
        if head != HIDDEN and head not in heads:
            first, *rest = messages[channel.name]
            first *= 1 if channel.sample is None else channel.sample.parameters_per_component
            heads[head] = Head(head, (first, *rest), port_norm(channel, agent, env))
    state_channel = scenario.relations.states.get(name)
    if state_channel is not None and state_channel.coupling.predicts and state_channel.gradient.auxiliary:
        heads[AUXILIARY_PORT] = Head(AUXILIARY_PORT, (_state_size(agent, state_channel),))
    if not heads and not scenario.relations.outputs[name]:
        raise DocumentError(
            ("agents", name), "it has no objective and no channel leaves it; nothing could use it"
        )
    return tuple(heads.values())


def _state_size(agent: AgentSpec, state_channel: ChannelSpec) -> int:
    """The components of the state that an agent hands to its next tick, before its network is made."""
    if agent.layers is not None:
        return Cell(kind=agent.layers.kind, inputs=1, size=agent.layers.get("size")).state_size
    if agent.state_size is None:
        message = "needs the size of the state before the network is made; make state_size an attribute of its class"
        raise DocumentError(("channels", state_channel.name, "gradient", "auxiliary"), message)
    return agent.state_size

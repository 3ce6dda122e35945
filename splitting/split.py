"""Splitting: a torch model becomes agents joined by channels."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from antiphon.agents.objectives import objective_of
from antiphon.base.errors import ScenarioError, suggest
from antiphon.base.spec import AUTO
from antiphon.comms.couplings import DEFAULT, kind_predicts
from antiphon.envs import registry
from antiphon.envs.signal import Description, Signal
from antiphon.scenarios import Scenario
from antiphon.scenarios.agent_specs import ObjectiveSpec
from antiphon.splitting.check import check
from antiphon.splitting.credit import ChannelGradients
from antiphon.splitting.cuts import containers, cut_names
from antiphon.splitting.join import Origin, tied_parameters
from antiphon.splitting.outputs import Head, prediction_of
from antiphon.splitting.parts import ModelPart, build_parts
from antiphon.splitting.plan import plan_parts, starts_of
from antiphon.splitting.trace import fewer, named_example, trace

_BATCH = 5


def split(
    model: nn.Module,
    at: int | Sequence[int | str],
    *,
    env: Any = None,
    inputs: Mapping[str, str] | None = None,
    objective: str | Mapping[str, Any] | None = None,
    output: str | int | None = None,
    class_axis: int | None = None,
    coupling: str = DEFAULT,
    gradient: str | Mapping[str, Any] | None = None,
    delay: int | Literal["auto"] = "auto",
    bits: int | Literal["auto"] | None = "auto",
    scenario: str = "split",
    telemetry: Mapping[str, Any] | None = None,
    **training: Any,
) -> Scenario:
    """Cut a model into agents joined by channels; `antiphon.join` returns the model again.

    The forward is traced with torch.fx on an example with the environment's shapes. A tensor that crosses a cut becomes a channel
    to every part that reads it; values that depend on no parameter (sizes, masks) are recomputed. The parts, one after the other,
    are compared with the model: predictions, gradients and buffers. The model is not changed.

    Args:
        model: Its forward takes tensors [batch, …]. A parameter that several parts use is kept equal.
        at: Submodules before whose first call to cut (`["blocks.1", "blocks.2.mlp"]`), positions of an `nn.Sequential`, or a
            number of parts of about equal cost (floating-point operations of the example). With `[]` it is one agent.
        env: Needed. The environment, as in a scenario: `{"id": …}`, `antiphon.envs.from_tensors(…)`, …
        inputs: The signal of each argument of the forward: `{"idx": "tokens"}`. None: the observation of the same name,
            also for an `attention_mask` with a default; else a single argument reads the `image`, or the first observation.
        objective: The objective of the prediction; a string is the target to classify. None: classification of `label`.
        output: The key or index of the prediction, if the model returns several outputs; the others are dropped.
        class_axis: Axis of the classes where sizes leave it open: 1 as in `cross_entropy`, -1: the last.
        coupling: The coupling of every channel.
        gradient: The gradient of every channel: a kind, which reads the targets as its context, or a mapping of its keys. None:
            for a categorical target with a value per class `aug_local` with one block for messages of tokens and maps, if the
            model's last layers are no larger than that block, else `local` (docs/results/split-credit.md); for others `ridge`.
            `local` without a head gets a small one. `aug_local` copies later blocks (`{"kind": "aug_local", "layers": 2}`) and
            the last layers.
        delay: Steps that a message takes to the next part. With 1, all parts work at the same time, each on another sample with
            its labels (`align`): pipelined. `auto`: 0 in one process; in parts, the fewest steps that hide the network.
        bits: Bits that a component of a message takes on its way, 1 to 16. None: it is a float. `auto`: a float in one process;
            in parts, the most of 32, 16, 8 and 4 bits that the network carries while a step is computed.
        scenario: The scenario's name; its agents are `part0`, `part1`, ….
        telemetry: As in a scenario: `{"period": 20}`.
        **training: `batch`, `steps`, `optimiser`, ….

    Raises:
        ScenarioError: The model cannot be traced or cut there, or its parts compute something else; the message names the fix.
    """
    try:
        # the parts, and what `join` begins with, share the parameters of a copy
        model = copy.deepcopy(model)
        if env is None:
            raise ScenarioError(
                "env: is missing; pass an environment, such as antiphon.envs.from_tensors(image=…, label=…)"
            )
        described = registry.describe(env)
        head = _head(objective or "label", output, class_axis, described)
        with torch.random.fork_rng(devices=[]):
            signals, example = _inputs(model, described, inputs)
            names = cut_names(model, at, example)
            traced = trace(model, containers(names), example)
            starts = starts_of(traced, names)
            prediction = prediction_of(traced, head)
            plans = plan_parts(traced, starts, [prediction.node])
            agents = [f"part{number}" for number in range(len(plans))]
            parts = dict(zip(agents, build_parts(traced, plans, model, agents, prediction), strict=True))
            check(model, [*parts.values()], prediction, fewer(example, 3))
            credit = ChannelGradients(model, example, [*starts], head)
            channels = _channels(parts, coupling, gradient, credit, delay, bits)
    except ScenarioError as error:
        raise ScenarioError(f"split: {error}") from error.__cause__
    for part in parts.values():
        part.module.origin = Origin(model)
    document = {"scenario": scenario, "env": env, "channels": channels, "share": tied_parameters(parts)}
    document |= {
        "agents": _agents(parts, signals, described, head, delay),
        "training": {"sweep": True, **training},
    }
    document["telemetry"] = telemetry
    return Scenario.model_validate({key: value for key, value in document.items() if value is not None})


def _inputs(
    model: nn.Module, env: Description, inputs: Mapping[str, str] | None
) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the signals of a model's arguments, and an example of these, [5, …] each: random, categorical ones as whole numbers."""
    signals, generator = _signals(model, env, inputs), torch.Generator().manual_seed(0)
    values = {name: _random(env.signals[signal], generator) for name, signal in signals.items()}
    return signals, named_example(model, values)


def _signals(model: nn.Module, env: Description, inputs: Mapping[str, str] | None) -> dict[str, str]:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = [p for p in inspect.signature(model.forward).parameters.values() if p.kind not in kinds]
    names = [p.name for p in parameters]
    needed = [p.name for p in parameters if p.default is p.empty]
    form = f"inputs={{'{next(iter(names), 'x')}': '{env.observations[0]}', …}}"
    chosen = {name: name for name in names if name in env.observations}
    if inputs is None and len(needed) == 1:
        chosen.setdefault(needed[0], "image" if "image" in env.observations else env.observations[0])
    if inputs is not None:
        chosen = {name: name for name in chosen if name in needed} | dict(inputs)
    if not chosen or not {*needed} <= chosen.keys():
        raise ScenarioError(f"{type(model).__name__}.forward takes {', '.join(names)}; give {form}")
    for name, signal in chosen.items():
        if name not in names:
            raise ScenarioError(f"inputs: forward has no argument '{name}'{suggest(name, names)}")
        if signal not in env.signals:
            raise ScenarioError(f"inputs: no signal '{signal}'{suggest(signal, env.observations)}")
    return {name: chosen[name] for name in names if name in chosen}


def _random(signal: Signal, generator: torch.Generator) -> Tensor:
    shape = _BATCH, *signal.shape
    if signal.classes is not None:  # a length is above zero
        return torch.randint(int(signal.classes > 2), signal.classes, shape, generator=generator)
    low, high = max(signal.low, -1.0), min(signal.high, 1.0)
    return low + (high - low) * torch.rand(shape, generator=generator)


def _head(objective: Any, output: str | int | None, class_axis: int | None, env: Description) -> Head:
    goal = ObjectiveSpec.model_validate(
        {"kind": "classification", "target": objective} if isinstance(objective, str) else objective
    )
    signal = env.signals.get(str(goal.target))
    if signal is None:
        raise ScenarioError(f"objective: no signal '{goal.target}'{suggest(str(goal.target), env.signals)}")
    if class_axis is not None and signal.classes is None:
        raise ScenarioError(f"class_axis: '{goal.target}' has no classes; leave it out")
    size = objective_of(goal.kind, goal.options).size(signal.shape, signal.classes)
    return Head(output, goal, size, signal, class_axis)


def _agents(
    parts: Mapping[str, ModelPart],
    signals: Mapping[str, str],
    env: Description,
    head: Head,
    delay: int | str,
) -> dict[str, dict[str, Any]]:
    agents: dict[str, dict[str, Any]] = {}
    for name, part in parts.items():
        observed = [signals[argument] for argument in part.observes]
        agents[name] = {"network": part.module, "observes": observed}
        if any(env.signals[signal].classes is not None for signal in observed):
            agents[name]["categories"] = "index"
        if delay not in (0, AUTO) and part.reads:
            agents[name]["align"] = True
        if part.predicts:
            agents[name]["objective"] = [head.goal]
    return agents


def _channels(
    parts: Mapping[str, ModelPart],
    coupling: str,
    gradient: str | Mapping[str, Any] | None,
    credit: ChannelGradients,
    delay: int | str,
    bits: int | str | None,
) -> list[dict[str, Any]]:
    channels, names = [], [*parts]
    for name, part in parts.items():
        for wire in part.reads:
            link: dict[str, Any] = {} if bits is None else {"bits": bits}
            if delay:  # a skip waits for what goes through every part on its way
                link["delay"] = delay if isinstance(delay, str) else delay * (wire.receiver - wire.sender)
            channel: dict[str, Any] = {
                "from": names[wire.sender],
                "to": name,
                "key": wire.key,
                "norm": "none",
                "coupling": coupling,
                "link": link,
                "size": [*wire.shape] if len(wire.shape) > 1 else (*wire.shape, 1)[0],
            }
            if gradient is not None:  # also one that the coupling does not use, which the scenario reports
                channel["gradient"] = credit.gradient(gradient, wire)
            elif credit.head.codes_classes and kind_predicts(coupling):
                channel["gradient"] = credit.default(wire)
            if wire.shared:
                channel["port"] = wire.message.name.strip("_")
            channels.append(channel)
    return channels

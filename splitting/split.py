"""Splitting: a torch model becomes agents joined by channels."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from antiphon.agents.objectives import objective_of
from antiphon.base.errors import ScenarioError
from antiphon.base.nearest_names import suggest
from antiphon.base.spec import AUTO
from antiphon.comms.couplings import DEFAULT, kind_predicts
from antiphon.envs import registry
from antiphon.envs.signal import Description
from antiphon.scenarios import Scenario
from antiphon.scenarios.agent_specs import ObjectiveSpec
from antiphon.splitting.check import check
from antiphon.splitting.credit import WORDS, ChannelGradients
from antiphon.splitting.cuts import containers, cut_names
from antiphon.splitting.example import check_model, inputs_for
from antiphon.splitting.join import Origin, tied_parameters
from antiphon.splitting.outputs import Head, prediction_of
from antiphon.splitting.parts import ModelPart, build_parts
from antiphon.splitting.plan import plan_parts, starts_of
from antiphon.splitting.trace import fewer, trace


def split(
    model: nn.Module,
    at: int | Sequence[int | str],
    *,
    env: Any = None,
    inputs: Mapping[str, str] | None = None,
    objective: str | Mapping[str, Any] | None = None,
    objectives: Mapping[str | int, str | Mapping[str, Any]] | None = None,
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
        objectives: Instead, if the model returns several outputs: an objective by key or index; outputs without one are dropped.
        class_axis: Axis of the classes where sizes leave it open: 1 as in `cross_entropy`, -1: the last.
        coupling: The coupling of every channel.
        gradient: The gradient of every channel: a kind, which reads the targets as its context, or a mapping of its keys. None:
            for one objective of a categorical target with a value per class, `aug_local` with one block for messages of tokens
            and maps if the model's last layers are no larger than that block, `local` for others and where no later block
            reads them (docs/results/split-credit.md); else `linear` at every site, with each target that has a part per site or
            is no larger than one. `local` without a head gets a small one. `aug_local` copies later blocks (`{"kind":
            "aug_local", "layers": 2}`) and the last layers; `at` names their first submodule if not after the blocks.
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
        model = copy.deepcopy(check_model(model))
        if env is None:
            raise ScenarioError(
                "env: is missing; pass an environment, such as antiphon.envs.from_tensors(image=…, label=…)"
            )
        described = registry.describe(env)
        heads = _heads(objective, objectives, class_axis, described)
        with torch.random.fork_rng(devices=[]):
            signals, example = inputs_for(model, described, inputs)
            names = cut_names(model, at, example)
            traced = trace(model, containers(names), example)
            starts = starts_of(traced, names)
            outputs = [prediction_of(traced, head) for head in heads]
            plans = plan_parts(traced, starts, [output.node for output in outputs])
            agents = [f"part{number}" for number in range(len(plans))]
            parts = dict(zip(agents, build_parts(traced, plans, model, agents, outputs), strict=True))
            check(model, [*parts.values()], outputs, fewer(example, 3))
            credit = _credit(model, example, [*starts], heads, gradient)
            channels = _channels(parts, coupling, gradient, credit, delay, bits)
    except ScenarioError as error:
        raise ScenarioError(f"split: {error}") from error.__cause__
    for part in parts.values():
        part.module.origin = Origin(model)
    document = {"scenario": scenario, "env": env, "channels": channels, "share": tied_parameters(parts)}
    document |= {
        "agents": _agents(parts, signals, described, heads, delay),
        "training": {"sweep": True, **training},
    }
    document["telemetry"] = telemetry
    return Scenario.model_validate({key: value for key, value in document.items() if value is not None})


def _heads(objective: Any, objectives: Any, class_axis: int | None, env: Description) -> list[Head]:
    if objective is not None and objectives is not None:
        raise ScenarioError("objectives: replaces objective; leave it out")
    given: Mapping[str | int | None, Any] = {None: objective or "label"} if objectives is None else objectives
    heads = []
    for output, words in given.items():
        goal = ObjectiveSpec.model_validate(
            {"kind": "classification", "target": words} if isinstance(words, str) else words
        )
        signal = env.signals.get(str(goal.target))
        if signal is None:
            raise ScenarioError(
                f"objective: no signal '{goal.target}'{suggest(str(goal.target), env.signals)}"
            )
        size = objective_of(goal.kind, goal.options).size(signal.shape, signal.classes)
        heads.append(Head(output, goal, size, signal, class_axis))
    if class_axis is not None and all(head.signal.classes is None for head in heads):
        targets = ", ".join(f"'{head.target}'" for head in heads)
        raise ScenarioError(f"class_axis: {targets} has no classes; leave it out")
    return heads


def _credit(
    model: nn.Module,
    example: Mapping[str, Tensor],
    cuts: Sequence[str],
    heads: Sequence[Head],
    gradient: str | Mapping[str, Any] | None,
) -> ChannelGradients:
    """What makes the gradients of the cuts: of several objectives, losses there are of the one with their target."""
    keys = gradient if isinstance(gradient, Mapping) else {"kind": gradient}
    main, several = heads[0], len(heads) > 1
    if several and keys.get("kind") in WORDS:
        fitting = [head for head in heads if keys.get("target") == head.target]
        if not fitting:
            raise ScenarioError(
                f"gradient: {keys['kind']} needs one objective, and the model has several; use local or aug_local with the "
                "`target` of one, or ridge, which learns the gradients of all"
            )
        main = fitting[0]
    coded = main.codes_classes and not (several and gradient is None)
    targets = list(dict.fromkeys(head.target for head in heads))
    return ChannelGradients(model, example, cuts, main, targets=targets, coded=coded)


def _agents(
    parts: Mapping[str, ModelPart],
    signals: Mapping[str, str],
    env: Description,
    heads: Sequence[Head],
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
        if part.predictions:
            agents[name]["objective"] = [heads[i].goal for i in part.predictions]
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
            elif credit.coded and kind_predicts(coupling):
                channel["gradient"] = credit.default(wire)
            if wire.shared:
                channel["port"] = wire.message.name.strip("_")
            channels.append(channel)
    return channels

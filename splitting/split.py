"""Splitting: a torch model becomes agents joined by channels."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, Literal

import torch
from torch import nn

from antiphon.agents.objectives import objective_of
from antiphon.base.argument_checks import check_counts
from antiphon.base.errors import ScenarioError, ScenarioWarning
from antiphon.base.extensions import Catalogue, name_of
from antiphon.base.nearest_names import suggest
from antiphon.base.problems import show_value
from antiphon.base.spec import AUTO, section_of
from antiphon.base.spellings import fix_of_word, spelled, suggest_key
from antiphon.comms.coupling_catalogue import kind_predicts, kind_replaces_messages
from antiphon.comms.couplings import DEFAULT
from antiphon.envs import registry
from antiphon.envs.signal import Description, Signal
from antiphon.nets.isolation.own_context import in_own_context
from antiphon.nets.user_modules import copied, hold_modes, hooked
from antiphon.scenarios import Scenario
from antiphon.scenarios.agent_specs import ObjectiveSpec
from antiphon.scenarios.training import TrainingSpec
from antiphon.splitting.credit import WORDS, ChannelGradients
from antiphon.splitting.cut_plan import CrossingTensor, Place, at_path, no_submodule, plan_parts
from antiphon.splitting.cuts import containers, cut_names, flop_of, named_cuts
from antiphon.splitting.example import ModelInputs, check_model, inputs_for
from antiphon.splitting.graph import ModelGraph
from antiphon.splitting.join import Origin
from antiphon.splitting.outputs import (
    RequiredOutput,
    ReturnedLoss,
    divided_again,
    loss_among,
    loss_left,
    prediction_of,
    predictions_of,
)
from antiphon.splitting.part_modules import ModelPart, build_parts
from antiphon.splitting.repeats import caller_random_kept, check_repeats
from antiphon.splitting.shared_parameters import tied_parameters
from antiphon.splitting.tracer import trace
from antiphon.splitting.whole import check_whole

_LENS = 2 / 3
"""Share of a head's operations in its forward and the message's gradient; the rest is for its parameters."""


@in_own_context
@caller_random_kept()
def split(
    model: nn.Module | None = None,
    at: int | Sequence[int | str] | None = None,
    *,
    env: Any = None,
    inputs: Mapping[str, str] | None = None,
    output: str | int | None = None,
    objective: str | Mapping[str, Any] | None = None,
    objectives: Mapping[str | int, str | Mapping[str, Any] | None] | None = None,
    class_axis: int | Mapping[str | int, int] | None = None,
    coupling: str = DEFAULT,
    gradient: str | Mapping[str, Any] | None = None,
    delay: int | Literal["auto"] = "auto",
    bits: int | Literal["auto"] | None = "auto",
    tie: Literal["copy", "together"] | None = None,
    parts: Sequence[nn.Module] | None = None,
    scenario: str = "split",
    telemetry: Mapping[str, Any] | None = None,
    **training: Any,
) -> Scenario:
    """Cut a model into agents joined by channels; `antiphon.join` returns the model again.

    The forward is traced with torch.fx on an example with the environment's shapes. A tensor that crosses a cut becomes a channel
    to every part that reads it; values that depend on no parameter (sizes, masks) are recomputed. The model is not changed.

    Args:
        model: Its forward takes tensors [batch, …].
        at: Submodules before which to cut (`["blocks.1", "blocks.2.mlp"]`), positions of an `nn.Sequential`, or a number
            of parts of about equal cost (floating-point operations of the example and the heads). With `[]` it is one agent.
        env: Needed. The environment, as in a scenario: `{"id": …}`, `antiphon.envs.from_tensors(…)`, …
        inputs: The signal of each argument of the forward: `{"idx": "tokens"}`. None: the observation of the same name,
            also for an `attention_mask` with a default; else a single argument reads the `image`, or the first observation.
        output: The key or index of the prediction, if the model returns several outputs; the others are dropped, and a line says so of a loss.
        objective: The objective of the prediction; a string is the target to classify. None: classification of `label`.
        objectives: Instead of `output` and `objective`: an objective for each output, by key or index; None drops the output.
        class_axis: Axis of the classes where sizes leave it open: 1 as in `cross_entropy`, -1: the last; or a mapping by output.
        coupling: The coupling of every channel.
        gradient: The gradient of every channel: a kind, which reads the targets as its context, or a mapping of its keys. None: for one objective of a categorical target with a value per class,
            `aug_local` with one block for messages of tokens and maps (`lens` if the model's last layers are larger than that
            block), `local` for others and where no later block reads them (docs/results/split-credit.md); else `linear` at every
            site, with each target that has a part per site or is no larger than one. `local` without a head gets a small one. `aug_local` copies later blocks (`{"kind": "aug_local", "layers": 2}`)
            and the last layers; `lens` uses the last layers themselves. `at` names their first submodule if not after the blocks.
        delay: Steps that a message takes to the next part. With 1, all parts work at the same time, each on another sample with
            its labels (`align`): pipelined. `auto`: 0 in one process; in parts, the fewest steps that hide the network.
        bits: Bits that a component of a message takes on its way, 1 to 16. None: it is a float. `auto`: a float in one process;
            in parts, the most of 32, 16, 8 and 4 bits that the network carries while a step is computed.
        tie: Parameters that several parts share: `copy` makes them independent, `together` keeps them equal; None: an error.
        parts: Instead of a model whose forward cannot be traced: a list of modules, each fed with the previous one's output.
        scenario: The scenario's name; its agents are `part0`, `part1`, ….
        telemetry: As in a scenario: `{"period": 20, "recorders": [{"kind": "wandb", "project": "gpt"}]}`.
        **training: `batch`, `steps`, `optimiser`, ….

    Raises:
        ScenarioError: The model cannot be traced or cut there; the message names the place and the fix.
    """
    try:
        if parts is not None:
            model, at = _in_sequence(parts, model, at)
        model = copied(check_model(model))  # the parts and what `join` begins with share its parameters
        hold_modes(model)
        _check_given(model, at, env)
        description = registry.describe(env)
        heads = _heads(objective, objectives, output, class_axis, description)
        model_inputs = inputs_for(model, env, description, inputs)
        cut_before = partial(_cut, model, model_inputs, heads, objectives, gradient)
        cost = partial(_flop_of_heads, cut_before, model_inputs, coupling, gradient)
        cut, credit = cut_before(_names(model, at, model_inputs, cost))
        check_whole(cut.parts, cut.names, cut.trace, cut.predictions, model, model_inputs.example)
        tied = tied_parameters(cut.parts, model, cut.names, tie)
        channels = _channels(cut, coupling, gradient, credit, delay, bits)
    except ScenarioError as error:
        raise ScenarioError(f"split: {str(error).removeprefix('split: ')}") from None
    given = {} if channels else {"coupling": coupling, "gradient": gradient, "delay": delay, "bits": bits}
    _warn(cut, heads, given, None if tied else tie, *_misread(model, cut, model_inputs, description))
    _mark(cut.parts, Origin(model, tied if tie == "copy" else ()))
    document = {"scenario": scenario, "env": env, "channels": channels, "telemetry": telemetry}
    document |= {"agents": _agents(cut, model_inputs, heads, delay), "training": _training(training)}
    if tied and tie == "together":
        document["share"] = [[f"{name}.module.{key}" for name, key in group] for group in tied]
    return Scenario.model_validate({key: value for key, value in document.items() if value is not None})


def _training(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the training of further keywords of `split`, with a sweep unless it is switched off."""
    accepted = [*signature(split).parameters, *TrainingSpec.model_fields]
    for name in keywords:
        if spelled(name, accepted) not in accepted:
            meant = (
                fix_of_word("split", name) or section_of(TrainingSpec, name) or suggest_key(name, accepted)
            )
            raise ScenarioError(f"split: no argument {name!r}{meant}")
    return {"sweep": True, **keywords}


def _in_sequence(parts: Sequence[nn.Module], model: object, at: object) -> tuple[nn.Sequential, list[int]]:
    """Modules as one model, and where to cut it; ScenarioError if these are given too."""
    if model is not None or at:
        raise ScenarioError("give a model and where to cut it, or parts, not both")
    modules = list(parts) if isinstance(parts, Iterable) else []
    if not modules or not all(isinstance(part, nn.Module) for part in modules):
        raise ScenarioError(f"parts is {show_value(parts)}; give a list of torch.nn.Module")
    return nn.Sequential(*modules), list(range(1, len(modules)))


def _check_given(model: nn.Module, at: object, env: Any) -> None:
    """Refuse wrong cuts in `at`, and a missing environment, before other arguments are read, whose defaults may fit no environment of the model's."""
    modules = dict(model.named_modules(remove_duplicate=False))
    for name in [] if type(at) is int else named_cuts(model, at):
        if name not in modules:
            raise no_submodule(name, modules)
    if env is None:
        raise ScenarioError(
            "env: is missing; pass an environment, such as antiphon.envs.from_tensors(image=…, label=…)"
        )


@dataclass(frozen=True)
class _CutModel:
    parts: list[ModelPart]
    names: list[str]
    at: list[str]
    dropped: ReturnedLoss | None
    """A loss that the forward returns and no objective names."""
    trace: ModelGraph
    predictions: list[Place]

    @property
    def members(self) -> dict[str, ModelPart]:
        return dict(zip(self.names, self.parts, strict=True))


@dataclass(frozen=True)
class _OutputObjective:
    """An output of a model with its objective."""

    output: str | int | None
    """Its key or index; None: the only one."""
    goal: ObjectiveSpec
    required: RequiredOutput

    @property
    def name(self) -> str:
        """Its key or index, for errors."""
        return "a tensor" if self.output is None else f"{self.output}"


def _heads(
    objective: Any, objectives: Any, output: str | int | None, class_axis: Any, env: Description
) -> list[_OutputObjective]:
    if objectives is None:
        goal = _objective(objective)
        if isinstance(class_axis, Mapping):
            raise ScenarioError(
                f"class_axis: {dict(class_axis)}; give a number, such as 1, for one prediction"
            )
        return [_OutputObjective(output, goal, _required(goal, env, class_axis))]
    if objective is not None or output is not None:
        raise ScenarioError("objectives: replaces objective and output; leave these out")
    used = (
        [objective for objective in objectives.values() if objective is not None]
        if isinstance(objectives, Mapping)
        else []
    )
    if not used:
        raise ScenarioError(
            f"objectives: {objectives!r}; give one for each output by its key or index, such as {{'logits': 'label'}}"
        )
    goals = {name: _objective(objective) for name, objective in objectives.items() if objective is not None}
    axes = class_axis if isinstance(class_axis, Mapping) else {}
    for name in axes:
        if name not in goals:
            raise ScenarioError(f"class_axis: no objective of {name!r}{suggest(str(name), map(str, goals))}")
    if not isinstance(class_axis, Mapping):  # of all that have classes
        coded = [name for name, goal in goals.items() if _target(goal, env).classes is not None]
        axes = dict.fromkeys(coded if coded or class_axis is None else goals, class_axis)
    return [
        _OutputObjective(name, goal, _required(goal, env, axes.get(name))) for name, goal in goals.items()
    ]


def _credit(
    model: nn.Module,
    model_inputs: ModelInputs,
    cut: _CutModel,
    heads: Sequence[_OutputObjective],
    gradient: str | Mapping[str, Any] | None,
) -> ChannelGradients:
    """What makes the gradients of the cuts: of several objectives, losses there are of the one with their target."""
    keys = gradient if isinstance(gradient, Mapping) else {"kind": gradient}
    main, several = heads[0], len(heads) > 1
    if several and keys.get("kind") in WORDS:
        fitting = [
            head for head in heads if keys.get("target") == head.required.target and keys["kind"] != "lens"
        ]
        if not fitting:
            raise ScenarioError(
                f"gradient: {keys['kind']} needs one objective, and the model has several; use local or aug_local with the "
                "`target` of one, or linear, which learns the gradients of all"
            )
        main = fitting[0]
    coded = main.required.codes_classes and not (several and gradient is None)
    targets = {head.required.target: head.required.signal for head in heads}
    about = main.required, main.output, cut.members
    return ChannelGradients(
        model, model_inputs.example, cut.at, cut.trace, *about, targets=targets, coded=coded
    )


@torch.random.fork_rng(devices=[])  # as in `_channels`
def _flop_of_heads(
    cut_before: Callable[[list[str]], tuple[_CutModel, ChannelGradients]],
    model_inputs: ModelInputs,
    coupling: str,
    gradient: str | Mapping[str, Any] | None,
    names: list[str],
) -> list[float]:
    """Return the operations of the heads on what crosses each of some cuts, for the example; of channels without heads none.

    In units of a forward whose gradients are computed too.
    """
    crossing: list[dict[CrossingTensor, float]] = [{} for _ in names]
    rows = len(next(iter(model_inputs.example.values())))
    with suppress(ScenarioError):  # of the cuts that are chosen it is reported what is wrong
        cut, credit = cut_before(names)
        for wire in (wire for part in cut.parts for wire in part.reads if kind_predicts(coupling)):
            with suppress(ScenarioError):
                keys = credit.default(wire) if gradient is None else credit.gradient(gradient, wire)
                if isinstance(keys, str) or not isinstance(head := keys.get("network"), nn.Module):
                    continue
                value = at_path(cut.trace.facts[wire.message.node].value, wire.message.path)
                zeros = torch.zeros(rows, *wire.message.shape, dtype=value.dtype)
                flop = flop_of(copied(head).to(value.dtype), zeros)
                for cut_index in range(wire.message.sender, wire.receiver):
                    crossing[cut_index].setdefault(
                        wire.message, flop * (_LENS if keys["kind"] == "lens" else 1)
                    )
    return [sum(flop_by_message.values()) for flop_by_message in crossing]


def _cut(
    model: nn.Module,
    model_inputs: ModelInputs,
    heads: Sequence[_OutputObjective],
    objectives: Mapping[str | int, Any] | None,
    gradient: str | Mapping[str, Any] | None,
    names: list[str],
) -> tuple[_CutModel, ChannelGradients]:
    """Trace a model and build its parts, and what makes the gradients of the cuts; if that fails, anew with its hooks, which may change shapes."""
    try:
        return _cut_once(model, model_inputs, heads, objectives, gradient, names)
    except ScenarioError:
        if not hooked(model).keys() - containers(names):
            raise
        return _cut_once(
            model, model_inputs, heads, objectives, gradient, names, hooks=True
        )  # which may change shapes


def _cut_once(
    model: nn.Module,
    model_inputs: ModelInputs,
    heads: Sequence[_OutputObjective],
    objectives: Mapping[str | int, Any] | None,
    gradient: str | Mapping[str, Any] | None,
    names: list[str],
    *,
    hooks: bool = False,
) -> tuple[_CutModel, ChannelGradients]:
    traced = trace(model, containers(names), model_inputs.example, hooks=hooks)
    dropped = (
        [] if objectives is None else [name for name, objective in objectives.items() if objective is None]
    )
    if objectives is None:
        predictions = [prediction_of(traced, head.output, head.required) for head in heads]
    else:
        predictions = predictions_of(traced, {head.output: head.required for head in heads}, dropped)
    plan = plan_parts(traced, names, predictions)
    agents = [f"part{i}" for i in range(len(plan.parts))]
    shapes = [tuple(at_path(traced.facts[node].value, path).shape[1:]) for node, path in predictions]
    axes = [head.required.axes_for(shape, head.name) for shape, head in zip(shapes, heads, strict=True)]
    targets = {
        name
        for name, signal in model_inputs.signals.items()
        if signal in [head.goal.target for head in heads]
    }
    loss = loss_among(traced, predictions, dropped, targets)
    cut = _CutModel(
        build_parts(traced, plan, model, agents, axes), agents, plan.names, loss, traced, predictions
    )
    return cut, _credit(model, model_inputs, cut, heads, gradient)


def _names(
    model: nn.Module, at: Any, model_inputs: ModelInputs, heads: Callable[[list[str]], Sequence[float]]
) -> list[str]:
    """Return the submodules to cut before; ScenarioError where Python changes what their containers compute."""
    if isinstance(at, int):  # the places are found by a trace
        check_repeats(model, containers([]), model_inputs.example)
    names = cut_names(model, at, model_inputs.example, heads)
    if twice := next((name for number, name in enumerate(names) if name in names[:number]), None):
        raise ScenarioError(f"at names {twice!r} twice; leave one out")
    check_repeats(model, containers(names), model_inputs.example)
    return names


def _mark(parts: Sequence[ModelPart], origin: Origin) -> None:
    for part in parts:
        part.module.origin = origin  # type: ignore[assignment]


def _without_effect(of_channels: Mapping[str, Any], tie: str | None) -> list[str]:
    """Return arguments that change nothing, each with the reason; `of_channels`: those of channels where there is none.

    A delay of 0 is what one part has.
    """
    defaults = {name: signature(split).parameters[name].default for name in of_channels}
    useless = [] if tie is None else [f"tie={tie!r} has no effect, since no parameter is in several parts"]
    return useless + [
        f"{name}={value!r} has no effect, since there is one part and no channel"
        for name, value in of_channels.items()
        if value != defaults[name] and (name, value) != ("delay", 0)
    ]


def _misread(
    model: nn.Module, cut: _CutModel, inputs: ModelInputs, env: Description
) -> tuple[str | None, str | None]:
    """The attribute in which a forward leaves a loss, and the argument whose bytes it divides twice."""
    signals = {name: env.signals[signal] for name, signal in inputs.signals.items()}
    return loss_left(model, cut.trace, inputs.example), divided_again(cut.trace, signals)


def _warn(
    cut: _CutModel,
    heads: Sequence[_OutputObjective],
    of_channels: Mapping[str, Any],
    useless_tie: str | None,
    stored_loss: str | None,
    picture: str | None,
) -> None:
    """Warn of losses that are dropped, of arguments without effect, and of a picture whose bytes are divided twice."""
    if picture is not None:
        line = (
            f"split: forward divides '{picture}' by 255, but bytes enter in [0, 1], divided already: leave the division out, or "
            "give the data as floats, .float()"
        )
        warnings.warn(line, ScenarioWarning, stacklevel=5)  # two decorators are between
    useless = _without_effect(of_channels, useless_tie)
    for argument in useless:
        warnings.warn(
            f"split: {argument}; leave it out", ScenarioWarning, stacklevel=5
        )  # two decorators are between
    goal, output = heads[0].goal, heads[0].output
    if stored_loss is not None:
        line = (
            f"split: forward leaves a number with a gradient in '{stored_loss}', which no part learns from: if it is a loss, return it "
            "per sample, [batch], and give it one of the objectives (docs/extending.md); if not, store it detached"
        )
        warnings.warn(line, ScenarioWarning, stacklevel=5)  # two decorators are between
    if cut.dropped is not None:
        loss_key, target = cut.dropped.key, f"'target': '{goal.target}'"
        kind = repr(goal.kind) if isinstance(goal.kind, str) else name_of(goal.kind)
        present = f"'{goal.target}'" if kind == "'classification'" else f"{{'kind': {kind}, {target}}}"
        objectives = f"objectives={{{output!r}: {present}, {loss_key!r}: "
        computed = f"give objective={{'kind': FUNCTION, {target}}} to compute that loss"
        if not cut.dropped.of_target:
            computed = (
                f"to learn from it, return it per sample, [batch], and give {objectives}{{'kind': KIND, {target}}}}}, where KIND "
                "is a class whose size(self, shape, classes) is 1 and whose __call__(self, output, target) is output[:, 0]"
            )
        line = (
            f"split: forward also returns {loss_key!r}, a loss of its own, which is dropped: the parts train on {goal.kind} of "
            f"'{goal.target}'; {computed} (docs/extending.md), or {objectives}None}} to drop it"
        )
        warnings.warn(line, ScenarioWarning, stacklevel=5)  # two decorators are between


def _objective(objective: str | Mapping[str, Any] | None) -> ObjectiveSpec:
    if objective is None or isinstance(objective, str):
        objective = {"kind": "classification", "target": objective or "label"}
    if not isinstance(objective, Mapping):
        raise ScenarioError(
            f"objective: {objective!r}; give a target's name, or {{'kind': 'classification', 'target': …}}"
        )
    return ObjectiveSpec.model_validate(objective)


def _required(goal: ObjectiveSpec, description: Description, class_axis: Any) -> RequiredOutput:
    """What an objective needs of the output that it is of."""
    signal = _target(goal, description)
    if class_axis is not None and (type(class_axis) is not int or class_axis == 0):
        raise ScenarioError(f"class_axis: {class_axis!r}; give a number: 1, -1, … (axis 0 is the batch)")
    loss = objective_of(goal.kind, goal.options)
    size = loss.size(signal.shape, signal.classes)
    return RequiredOutput(size, str(goal.target), signal, class_axis, loss.without_size)


def _target(goal: ObjectiveSpec, description: Description) -> Signal:
    if goal.target is None:
        raise ScenarioError(f"objective: a model has no policy ({goal.kind}); give it a target")
    signal = description.signals.get(goal.target)
    if signal is None:
        kind = goal.target in Catalogue("objective")
        fix = f"; write {{'kind': '{goal.target}', 'target': …}}" if kind else ""
        fix = fix or suggest(goal.target, description.signals, listed="name the target, objective=…, of")
        raise ScenarioError(f"objective: no signal '{goal.target}'{fix}")
    return signal


def _agents(
    cut: _CutModel, model_inputs: ModelInputs, heads: Sequence[_OutputObjective], delay: int | str
) -> dict[str, dict[str, Any]]:
    agents: dict[str, dict[str, Any]] = {}
    for name, part in zip(cut.names, cut.parts, strict=True):
        agents[name] = {
            "network": part.module,
            "observes": [model_inputs.signals[argument] for argument in part.observes],
        }
        if any(argument in model_inputs.indices for argument in part.observes):
            agents[name]["categories"] = "index"
        if delay not in (0, AUTO) and part.reads:
            agents[name]["align"] = True
        goals = [heads[i].goal for i in part.predictions]
        if goals:
            agents[name]["objective"] = goals
    return agents


@torch.random.fork_rng(devices=[])  # heads sample their initial parameters
def _channels(
    cut: _CutModel,
    coupling: str,
    gradient: str | Mapping[str, Any] | None,
    credit: ChannelGradients,
    delay: int | str,
    bits: int | str | None,
) -> list[dict[str, Any]]:
    if not isinstance(delay, str):
        check_counts("split", 0, needed=True, delay=delay)
    channels, ports = [], _ports(cut.parts)
    for index, (name, part) in enumerate(zip(cut.names, cut.parts, strict=True)):
        for wire in part.reads:
            if kind_replaces_messages(coupling):
                line = f"coupling: parts have no synthetic inputs, which {coupling!r} reads; use decoupled"
                raise ScenarioError(line)
            channel: dict[str, Any] = {
                "from": cut.names[wire.message.sender],
                "to": name,
                "key": wire.key,
                "norm": "none",
                "coupling": coupling,
            }
            channel["link"] = {} if bits is None else {"bits": bits}
            if delay:  # a skip waits for what goes through every part on its way
                steps = delay if isinstance(delay, str) else delay * (index - wire.message.sender)
                channel["link"]["delay"] = steps
            settings = None
            if gradient is not None:  # also one that the coupling does not use, of which the scenario warns
                settings = credit.gradient(gradient, wire)
            elif kind_predicts(coupling):
                settings = credit.default(wire)
            channel |= credit.keys(wire, settings)
            if wire.port is not None:
                channel["port"] = ports[wire.message]
            channels.append(channel)
    return channels


def _ports(parts: Sequence[ModelPart]) -> dict[CrossingTensor, str]:
    """Return the ports of the messages that several parts read, by the names that these have in the model.

    Messages of one part whose names have the same letters are told apart by numbers.
    """
    ports: dict[CrossingTensor, str] = {}
    for wire in (wire for part in parts for wire in part.reads if wire.port is not None):
        taken = {port for message, port in ports.items() if message.sender == wire.message.sender}
        name = re.sub("[^A-Za-z0-9]+", "_", wire.message.name).strip("_") or "message"
        numbered = (name if number == 1 else f"{name}_{number}" for number in itertools.count(1))
        if wire.message not in ports:
            ports[wire.message] = next(port for port in numbered if port not in taken)
    return ports

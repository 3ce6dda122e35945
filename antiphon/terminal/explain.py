"""What `show` prints: a scenario or run with how it is run, an environment's signals; as plain data and as tables."""

from __future__ import annotations

import json as json_text
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from gymnasium import Space, spaces
from rich.text import Text

from antiphon.base.errors import with_count
from antiphon.base.files import finite
from antiphon.base.table import some
from antiphon.base.tools import by_key
from antiphon.engine.build.builder import build_to_look
from antiphon.engine.build.shapes import port_norm
from antiphon.engine.heart.system import System
from antiphon.engine.metrics.description import about_agent, about_channel
from antiphon.engine.plan import ScenarioPlan, plan
from antiphon.envs import Description, Signal, describe, ids, options_of
from antiphon.running.directory import RunDirectory, run_folder
from antiphon.running.python_template import PythonTemplate
from antiphon.scenarios import ChannelSpec, EnvSpec, Scenario, Template
from antiphon.terminal.output import console, percent, print_json, show_table, write_line

_ROWS = 12
"""Most agents, channels or stacks with rows of their own; more agents or channels are grouped by common properties."""


def built(scenario: Scenario) -> System:
    """Build a scenario without its data: the build check. A large one is built without parameters."""
    return build_to_look(scenario, describe(scenario.env))


def explain(scenario: Scenario, system: System) -> dict[str, Any]:
    """Return the explanation of a resolved scenario and its system."""
    agents = {name: _agent(scenario, system, name) for name in scenario.agents}
    counted = {agent.learner: agent.learner.parameters for agent in system.agents.values()}
    return {
        "scenario": scenario.scenario,
        "description": scenario.description,
        "readout": list(scenario.readouts),
        "batch": scenario.training.batch,
        "steps": scenario.training.steps,
        "parameters": sum(p.numel() for numbers in counted.values() for p in numbers.values()),
        "agents": agents,
        "channels": {channel.name: _channel(scenario, channel, system) for channel in scenario.channels},
        "waves": [list(wave) for wave in scenario.relations.waves],
        "locked_groups": [
            {"agents": list(group), "window": scenario.relations.window(group)}
            for group in scenario.relations.locked_groups
            if len(group) > 1
        ],
        "environment": _environment(_id(scenario), system.description),
    }


def explain_template(template: Template | PythonTemplate, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a template, with the values they have, and its variants; of a Python function only values are known."""
    parameters = {}
    for name, value in resolved.items():
        about = {"value": value, "accepts": "", "description": ""}
        if isinstance(template, Template):
            parameter = template.parameters[name]
            about |= {"accepts": parameter.accepts, "description": parameter.description}
        parameters[name] = about
    variants = {name: dict(sets) for name, sets in template.variants.items() if isinstance(sets, Mapping)}
    return {"parameters": parameters, "variants": variants}


def explain_environment(name: str, description: Description) -> dict[str, Any]:
    """Return the explanation of an environment: its signals, and its options unless it is one of another library."""
    rows = options_of(name).rows() if name in ids() else ()
    options = {key: {"meaning": meaning, "default": default} for key, meaning, default in rows}
    return {**_environment(name, description), "options": options}


def _environment(name: str, description: Description) -> dict[str, Any]:
    return {
        "id": name,
        "hold": description.hold,
        "episode_steps": description.episode_steps,
        "longest_episode": description.longest_episode,
        "examples": dict(description.example_counts),
        "actions": _actions(description.action_space),
        "signals": {name: _signal(signal) for name, signal in description.signals.items()},
    }


def _actions(space: Space[Any] | None) -> dict[str, str]:
    """Return what an action of each part is, by the name of the part; a space without parts is called `action`."""
    if space is None:
        return {}
    parts = space.spaces if isinstance(space, spaces.Dict) else {"action": space}
    return {name: _action(part) for name, part in parts.items()}


def _action(space: Space[Any]) -> str:
    if isinstance(space, spaces.Discrete):
        return f"one of {space.n}"
    if isinstance(space, spaces.Box):
        low, high = space.low.min(), space.high.max()
        return f"{' x '.join(map(str, space.shape)) or 1} numbers from {low:g} to {high:g}"
    return str(space)


def _id(scenario: Scenario) -> str:
    return scenario.env.id if isinstance(scenario.env, EnvSpec) else f"a Python {type(scenario.env).__name__}"


def _signal(signal: Signal) -> dict[str, Any]:
    return {
        "shape": list(signal.shape),
        "classes": signal.classes,
        "training_only": signal.training_only,
        "known": signal.known,
    }


def _agent(scenario: Scenario, system: System, name: str) -> dict[str, Any]:
    spec, learner = scenario.agents[name], system.agents[name].learner
    return {
        "readout": name in scenario.readouts,
        "incoming": [channel.name for channel in scenario.relations.inputs[name]],
        "inputs": list(learner.network.input_shape),
        "parameters": sum(p.numel() for p in learner.parameters.values()),
        "clock": {"period": spec.clock.period, "phase": spec.clock.phase, "unroll": spec.clock.unroll},
        "about": about_agent(scenario, name),
    }


def _channel(scenario: Scenario, channel: ChannelSpec, system: System) -> dict[str, Any]:
    norm = None
    if channel.port_components is not None and not channel.state:
        norm = port_norm(channel, scenario.agents[channel.sender], system.description)
    return {
        "from": channel.sender,
        "to": channel.receiver,
        "shape": list(system.channels[channel.name].content.shape),
        "norm": norm,
        "coupling": channel.coupling.name,
        "delay": channel.link.delay,
        "about": about_channel(channel, scenario.relations),
    }


# --- tables ------------------------------------------------------------------------------------------------


def show_plan(plan: ScenarioPlan) -> None:
    """Print how a scenario is run: where, in which stacks, and what is computed alone and why."""
    write_line(f"runs on {plan.device}, {plan.backend}: {with_count(plan.waves, 'wave')} of ticks a step")
    if plan.channel_stacks:
        count = sum(map(len, plan.channel_stacks))
        write_line(f"{with_count(count, 'channel')} in {with_count(len(plan.channel_stacks), 'stack')}")
    rows = [
        [some(cohort.agents), f"{len(cohort.agents):,}", f"{cohort.parameters:,}"]
        for cohort in sorted(plan.cohorts, key=lambda cohort: -len(cohort.agents))
    ]
    console().print()
    if rows:
        show_table(["stack", "agents", "parameters each"], rows, right=2, most=_ROWS)
    tables = {
        "not stacked": plan.alone if plan.agents > 1 else (),
        "without the native kernel": plan.by_torch,
        "activations kept until windows end": plan.not_swept,
        "each minibatch replays all environments": plan.replayed_whole,
    }
    for heading, plans in tables.items():
        if plans:
            show_table([heading, "why"], [[some(entry.agents), entry.reason] for entry in plans])


Row = tuple[str, tuple[str, ...], str, int]
"""A table's row before grouping: name, common properties, and a text and a number that differ."""


def show_scenario(
    name_or_file: str,
    template: Template | PythonTemplate,
    variant: str | None,
    values: Mapping[str, Any],
    json: bool,
) -> None:
    """Print a scenario or a run with its execution plan; for the arguments, see the command `show`."""
    resolved = template.resolve_values(variant, values)
    scenario = template.resolve(variant, values)
    with template.placing():
        system = built(scenario)
    folder = run_folder(name_or_file)
    run = RunDirectory.open(folder) if (folder / "run.json").is_file() else None
    facts = {} if run is None else run.facts
    settings = {name: facts[name] for name in ("backend", "device") if name in facts}
    execution_plan = plan(scenario, system=system, **settings)
    explained = explain(scenario, system)
    explained["template"] = explain_template(template, resolved)
    explained["plan"] = asdict(execution_plan)
    if run is not None:
        explained["run"] = {
            key: run.facts.get(key)
            for key in ("variant", "values", "seed", "step", "exit", "error", "started")
        }
        explained["run"]["steps"] = max(run.facts["steps"], scenario.training.steps)
        explained["run"]["accuracy"] = (run.result or {}).get("accuracy")
    if json:
        print_json(finite(explained))
        return
    out = console()
    out.print(Text(f"{explained['scenario']}" + (f" · {variant}" if variant else ""), style="bold"))
    if explained["description"]:
        out.print(Text(explained["description"]))
    out.print()
    if run is not None:
        _run(explained["run"])
    _template(explained["template"])
    _agents(explained)
    _channels(explained["channels"])
    out.print(Text(_order(explained)), soft_wrap=False)
    out.print()
    show_signals(explained["environment"])
    out.print()
    show_plan(execution_plan)


def _run(run: Mapping[str, Any]) -> None:
    """Print the facts of a run."""
    scored = f", accuracy {percent(run['accuracy'])}" if run["accuracy"] is not None else ""
    name = f"{run['variant']}, " if run["variant"] else ""
    text = f"a run: {name}seed {run['seed']}, started {run['started']}, {run['step']:,} steps, {run['exit']}{scored}"
    write_line(text)
    if run["error"]:
        write_line(run["error"])
    console().print()


def _template(template: Mapping[str, Any]) -> None:
    parameters = template["parameters"]
    if parameters:
        rows = [
            [name, _written(parameter["value"]), parameter["accepts"], parameter["description"]]
            for name, parameter in parameters.items()
        ]
        show_table(["parameter", "value", "accepts", ""], rows)
    if template["variants"]:
        variants = {
            name: ", ".join(f"{key}={_written(value)}" for key, value in values.items())
            for name, values in template["variants"].items()
        }
        show_table(
            ["variant", "sets"],
            [[name, text or "the parameters' defaults"] for name, text in variants.items()],
        )


def _agents(explained: Mapping[str, Any]) -> None:
    rows: list[Row] = []
    for name, agent in explained["agents"].items():
        about, count = agent["about"], len(agent["incoming"])
        inputs = [about.get("observes", ""), with_count(count, "channel") if count else ""]
        goal = about.get("objective", "–") + (" (readout)" if agent["readout"] else "")
        key = (about["network"], about["ticks"], about["learns"], goal)
        rows.append((name, key, " + ".join(filter(None, inputs)), agent["parameters"]))
    cells = []
    for names, (_, common, first, _), inputs, counts in _joined(rows):
        low, high = f"{min(counts):,}", f"{max(counts):,}"
        prefix = "" if len(counts) == 1 else "each "
        parameters = prefix + (low if low == high else f"{low} – {high}")
        cells.append([names, first + (", …" if len(set(inputs)) > 1 else ""), *common, parameters])
    heads = ["agent", "inputs", "network", "ticks", "learns", "objective", "parameters"]
    show_table(heads, cells, right=1)


def _channels(channels: Mapping[str, Any]) -> None:
    rows: list[Row] = []
    for name, channel in channels.items():
        about, size = channel["about"], " x ".join(map(str, channel["shape"]))
        size += f" ({about['sample']})" if "sample" in about else ""
        coupling = about.get("coupling", channel["coupling"])
        gradient, input_, link = (about.get(key, "–") for key in ("gradient", "input", "link"))
        rows.append((name, (coupling, gradient, input_, size, channel["norm"] or "–", link), "", 0))
    cells = [[names, *key] for names, (_, key, _, _), _, _ in _joined(rows)]
    heads = ["channel", "coupling", "gradient", "input", "size", "norm", "link"]
    if all(row[3] == "–" for row in cells):
        heads.remove("input")
        cells = [[*row[:3], *row[4:]] for row in cells]
    if cells:
        show_table(heads, cells, right=3)


def _joined(rows: Sequence[Row]) -> Iterator[tuple[str, Row, list[str], list[int]]]:
    """Yield groups of rows with equal properties where there are many: names, the first row, and all texts and numbers."""
    place = 1 if len(rows) > _ROWS else 0  # of the properties, or of the name
    for group in by_key((row[place], row) for row in rows).values():
        names, _, texts, counts = zip(*group, strict=True)
        yield some(names), group[0], list(texts), list(counts)


def _order(explained: Mapping[str, Any]) -> str:
    spanned = explained["steps"]
    steps = explained.get("run", explained)["steps"]
    of_schedules = f" (schedules end at {spanned:,})" if steps != spanned else ""
    lines = [
        f"{explained['parameters']:,} parameters · batch {explained['batch']} · {steps:,} steps{of_schedules}"
    ]
    for group in explained["locked_groups"]:
        window = group["window"]
        length = "the episode" if window == "episode" else with_count(int(window), "step")
        lines.append(f"learn as one network: {some(group['agents'])}; window: {length}")
    return "\n".join(lines)


def show_signals(environment: Mapping[str, Any]) -> None:
    """Print an environment's signals, actions and numbers of examples, and its options where they are explained."""
    hold = f" · each example for {environment['hold']} steps" if environment["hold"] > 1 else ""
    steps = environment["episode_steps"]
    ends = f" · episodes of {with_count(steps, 'step')}" if steps else ""
    if environment["longest_episode"]:
        ends = f" · episodes of at most {environment['longest_episode']} steps"
    counts = ", ".join(f"{split} {count:,}" for split, count in environment["examples"].items())
    show_table(
        ["signal", "kind", "shape", "seen by"],
        _signal_rows(environment["signals"]),
        title=f"{environment['id']}{hold}{ends}",
    )
    for name, action in environment["actions"].items():
        write_line(f"{name if name == 'action' else f'action of {name}'}: {action}")
    if counts:
        write_line(f"examples: {counts}")
    if options := environment.get("options"):
        rows = [[key, option["default"], option["meaning"]] for key, option in options.items()]
        show_table(["option", "default", ""], rows)


def _signal_rows(signals: Mapping[str, Any]) -> list[list[str]]:
    rows: dict[tuple[str, ...], list[str]] = {}
    for name, signal in signals.items():
        kind = "number" if signal["classes"] is None else f"one of {signal['classes']}"
        observer = "training only" if signal["training_only"] else "agents"
        observer += "" if signal["known"] == "tick" else ", after the step"
        shape = " x ".join(map(str, signal["shape"])) or "–"
        family = re.sub(r"\d+$", "", name)
        rows.setdefault((family, kind, shape, observer), []).append(name)
    return [
        [names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}", *key[1:]]
        for key, names in rows.items()
    ]


def _written(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    return json_text.dumps(value) if isinstance(value, bool | None) else str(value)

"""The verbs `show` and `check`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from antiphon.commands.arguments import scenario_template, values_of
from antiphon.commands.output import console, percent, print_json, remark, show_table
from antiphon.engine.runs.directory import RunDirectory, finite
from antiphon.errors import ScenarioError
from antiphon.scenarios import catalogue, json_schema

__all__ = ["check", "show", "some"]

_ROWS = 12
"""Most agents or channels with rows of their own; more are grouped by common properties."""


Row = tuple[str, list[str], list[int], tuple[str, ...]]
"""A table's row before grouping: name, differing texts and numbers, and common properties."""


def show(
    what: str | None,
    *,
    variant: str | None,
    settings: list[str],
    yaml: bool,
    resolved: bool,
    schema: bool,
    json: bool,
    timeline: bool = False,
    steps: int | None = None,
    measure: bool = False,
) -> None:
    """Explain a scenario, run or environment, print its document or timeline, or list the library."""
    if sum((yaml, resolved, schema, timeline)) > 1:
        raise ScenarioError("show: --yaml, --resolved, --schema and --timeline exclude each other; give one")
    if steps is not None and not timeline:
        raise ScenarioError("show --steps is for --timeline; give both, or neither")
    if measure and (yaml or resolved or schema or timeline):
        raise ScenarioError(
            "show --measure is for the explanation of a scenario; leave out --yaml and the like"
        )
    values = values_of(settings)
    if schema:
        console().print_json(data=json_schema(), indent=1, highlight=False) if not json else print_json(
            json_schema()
        )
    elif what is None:
        if yaml or resolved or timeline or variant or values or measure:
            raise ScenarioError("show: name a scenario, run or environment")
        _list(json)
    elif timeline:
        from antiphon.commands.timeline import show_timeline

        show_timeline(scenario_template(what).resolve(variant, values), steps, json=json)
    elif _is_environment(what):
        if measure:
            raise ScenarioError("show --measure times a scenario; an environment alone has no agents to run")
        _environment(what, values, json)
    elif yaml:
        if variant or values:
            raise ScenarioError(
                "show --yaml prints the document as written; --resolved shows what --variant and --set make of it"
            )
        print(scenario_template(what).text, end="")
    elif resolved:
        print(scenario_template(what).resolve(variant, values).to_yaml(), end="")
    else:
        _scenario(what, variant, values, json, measure=measure)


def check(name: str, *, variant: str | None, settings: list[str], json: bool) -> None:
    """Resolve and build a scenario, and print its warnings.

    Raises:
        ScenarioError: It cannot be run as written.
    """
    from antiphon.commands.explain import built
    from antiphon.engine.planning.advice import advice

    template = scenario_template(name)
    values = values_of(settings)
    variants = [variant] if variant or not template.variants else [None, *template.variants]
    found: dict[str, list[str]] = {}
    for each in variants:
        scenario = template.resolve(each, values)
        built(scenario)
        for line in advice(scenario):
            found.setdefault(line, []).append(each or "default")
    if json:
        lines = [{"warning": line, "variants": where} for line, where in found.items()]
        print_json(
            {
                "scenario": template.name,
                "ok": True,
                "checked": [each or "default" for each in variants],
                "warnings": lines,
            }
        )
        return
    for line, where in found.items():
        only = "" if len(where) == len(variants) else f"{', '.join(where)}: "
        console().print(Text(f"warning: {only}{line}", style="yellow"), soft_wrap=True)
    checked = f" with variants {', '.join(v for v in variants if v)}" if len(variants) > 1 else ""
    console().print(Text(f"{template.source}: ok{checked}"), soft_wrap=True)


def _is_environment(name: str) -> bool:
    from antiphon.envs import ids

    return name in ids() or (name.startswith("antiphon/") and not Path(name).exists())


def _list(json: bool) -> None:
    from antiphon.envs import ids

    templates = catalogue()
    if json:
        scenarios = {
            name: {"description": template.description, "variants": list(template.variants)}
            for name, template in templates.items()
        }
        print_json({"scenarios": scenarios, "environments": list(ids())})
        return
    rows = [
        [name, template.description.partition(": ")[0].split(". ")[0], ", ".join(template.variants)]
        for name, template in templates.items()
    ]
    show_table(["scenario", "", "variants"], rows)
    show_table(["environment"], [[name] for name in ids()])
    remark("antiphon show NAME explains one; antiphon run NAME runs it")


def _environment(name: str, values: Mapping[str, Any], json: bool) -> None:
    from antiphon.commands.explain import explain_environment
    from antiphon.envs import describe

    explained = explain_environment(name, describe({"id": name, **values}))
    if json:
        print_json(explained)
        return
    _signals(explained)
    if not values and "image" in explained["signals"]:
        remark("--set shows it with other options, for example --set patches=4 --set hold=6")


def _scenario(
    what: str, variant: str | None, values: Mapping[str, Any], json: bool, *, measure: bool
) -> None:
    from antiphon.commands.explain import built, explain, explain_template
    from antiphon.commands.plan import planned, show_plan

    template = scenario_template(what)
    resolved = template.resolve_values(variant, values)
    scenario = template.resolve(variant, values)
    system = built(scenario)
    run = RunDirectory.open(what) if (Path(what) / "run.json").is_file() else None
    plan = planned(scenario, system, {} if run is None else run.facts, measure=measure)
    explained = explain(scenario, system)
    explained["template"] = explain_template(template, resolved)
    explained["plan"] = plan.as_dict()
    if run is not None:
        explained["run"] = {
            key: run.facts.get(key)
            for key in ("variant", "values", "seed", "step", "exit", "error", "started")
        }
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
    _signals(explained["environment"])
    out.print()
    show_plan(plan)
    for line in explained["warnings"]:
        remark(f"warning: {line}", "yellow")


def _run(run: Mapping[str, Any]) -> None:
    scored = f", accuracy {percent(run['accuracy'])}" if run["accuracy"] is not None else ""
    name = f"{run['variant']}, " if run["variant"] else ""
    text = f"a run: {name}seed {run['seed']}, begun {run['started']}, {run['step']:,} steps, {run['exit']}{scored}"
    console().print(Text(text), soft_wrap=True)
    if run["error"]:
        console().print(Text(run["error"]), soft_wrap=True)
    console().print()


def _template(template: Mapping[str, Any]) -> None:
    parameters = template["parameters"]
    if parameters:
        rows = [
            [name, _written(found["value"]), found["accepts"], found["help"]]
            for name, found in parameters.items()
        ]
        show_table(["parameter", "value", "accepts", ""], rows)
    if template["variants"]:
        rows = [
            [
                name,
                ", ".join(f"{key}={_written(value)}" for key, value in values.items())
                or "the parameters' defaults",
            ]
            for name, values in template["variants"].items()
        ]
        show_table(["variant", "sets"], rows)


def _agents(explained: Mapping[str, Any]) -> None:
    rows: list[Row] = []
    for name, agent in explained["agents"].items():
        heard = f"{len(agent['hears'])} channel" + ("" if len(agent["hears"]) == 1 else "s")
        inputs = [*agent["observes"], *([heard] if agent["hears"] else [])]
        goal = (agent["objective"] or "–") + (" (readout)" if agent["readout"] else "")
        key = (agent["network"], agent["ticks"], agent["learning"], goal)
        rows.append((name, [" + ".join(inputs) or "nothing"], [agent["parameters"]], key))
    cells = [
        [
            names,
            inputs[0] + (", …" if len(set(inputs)) > 1 else ""),
            key[0],
            key[1],
            key[2],
            key[3],
            _range(counts),
        ]
        for names, inputs, counts, key in _joined(rows)
    ]
    heads = ["agent", "takes in", "network", "ticks", "learns", "objective", "parameters"]
    show_table(heads, cells, right=1)


def _channels(channels: Mapping[str, Any]) -> None:
    rows: list[Row] = []
    for name, channel in channels.items():
        gradient = channel["gradient"] or "–"
        if channel["target"]:
            gradient += f" of {channel['target']}"
        if channel["context"]:
            gradient += f", given {', '.join(channel['context'])}"
        size = " x ".join(map(str, channel["shape"]))
        coupling = channel["coupling"] + (f" ({channel['feedback']})" if channel["feedback"] else "")
        rows.append((name, [], [], (coupling, gradient, _input(channel), size, _link(channel))))
    cells = [[names, *key] for names, _, _, key in _joined(rows)]
    heads = ["channel", "coupling", "gradient", "input", "size", "link"]
    if all(row[3] == "–" for row in cells):
        heads.remove("input")
        cells = [[*row[:3], *row[4:]] for row in cells]
    if cells:
        show_table(heads, cells, right=2)


def _input(channel: Mapping[str, Any]) -> str:
    if channel["input"] is None:
        return "–"
    given = channel["input_context"]
    return f"{channel['input']}" + (f", given {', '.join(given)}" if given else "")


def _link(channel: Mapping[str, Any]) -> str:
    """Format a link: `delay 2, loses 20 %`."""
    link, words = channel["link"], []
    if channel["delay"]:
        words.append(f"delay {channel['delay']}")
    if link["drop"]:
        words.append(f"loses {100 * link['drop']:g} %")
    if link["noise"]:
        words.append(f"noise {link['noise']:g}")
    if link["bits"]:
        words.append(f"{link['bits']} bit" + ("" if link["bits"] == 1 else "s"))
    if link["rate"] != 1:
        words.append(f"rate {link['rate']:g}")
    if link["back"] != channel["delay"]:
        words.append(f"back {link['back']}")
    if channel["read"] != "last":
        words.append(f"reads {'the mean of ' if channel['read'] == 'mean' else ''}all since the last tick")
    return ", ".join(words) or "–"


def _joined(rows: Sequence[Row]) -> list[Row]:
    """Group rows with equal keys where there are many."""
    if len(rows) <= _ROWS:
        return list(rows)
    joined: dict[tuple[str, ...], tuple[list[str], list[str], list[int]]] = {}
    for name, texts, counts, key in rows:
        names, all_texts, all_counts = joined.setdefault(key, ([], [], []))
        names.append(name)
        all_texts += texts
        all_counts += counts
    return [(some(names), texts, counts, key) for key, (names, texts, counts) in joined.items()]


def some(names: Iterable[str]) -> str:
    """Format the first names and the count: `n00, n01, … (28)`."""
    names = list(dict.fromkeys(names))
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]}, … ({len(names)})"


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    each = f"{low:,}" if low == high else f"{low:,} – {high:,}"
    return each if len(counts) == 1 else f"each {each}"


def _order(explained: Mapping[str, Any]) -> str:
    waves = [some(wave) for wave in explained["waves"]]
    lines = [
        f"{explained['parameters']:,} parameters · batch {explained['batch']} · {explained['steps']:,} steps"
    ]
    lines.append(
        "ticks in order: " + " | ".join(waves)
        if len(waves) > 1
        else "all tick at once: no channel is without delay"
    )
    for group in explained["locked_groups"]:
        window = "the episode" if group["window"] == "episode" else f"{group['window']} steps"
        lines.append(f"learn as one network: {some(group['agents'])}; window: {window}")
    return "\n".join(lines)


def _signals(environment: Mapping[str, Any]) -> None:
    hold = f" · each for {environment['hold']} steps" if environment["hold"] > 1 else ""
    ends = f" · episodes of {environment['episode_steps']} steps" if environment["episode_steps"] else ""
    if environment["longest_episode"]:
        ends = f" · episodes of at most {environment['longest_episode']} steps"
    counts = ", ".join(f"{split} {count:,}" for split, count in environment["examples"].items())
    show_table(
        ["signal", "kind", "shape", "seen by"],
        _signal_rows(environment["signals"]),
        title=f"{environment['id']}{hold}{ends}",
    )
    console().print(Text(f"examples: {counts}"), soft_wrap=True)


def _signal_rows(signals: Mapping[str, Any]) -> list[list[str]]:
    rows: dict[tuple[str, ...], list[str]] = {}
    for name, signal in signals.items():
        kind = "number" if signal["classes"] is None else f"one of {signal['classes']}"
        seen = "training only" if signal["training_only"] else "agents"
        seen += "" if signal["known"] == "tick" else ", after the step"
        shape = " x ".join(map(str, signal["shape"])) or "–"
        family = re.sub(r"\d+$", "", name)
        rows.setdefault((family, kind, shape, seen), []).append(name)
    return [
        [names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}", *key[1:]]
        for key, names in rows.items()
    ]


def _written(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    return (
        {True: "true", False: "false", None: "null"}[value] if isinstance(value, bool | None) else str(value)
    )

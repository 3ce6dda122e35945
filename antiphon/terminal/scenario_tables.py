"""The tables of `show` and `plan`: a scenario or run, an environment's signals, an execution plan."""

from __future__ import annotations

import json as json_text
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from antiphon.commands.arguments import scenario_template
from antiphon.engine.planning.memory_estimate import MemoryEstimate, byte_unit, in_unit, in_units
from antiphon.engine.planning.plan import ChannelStackPlan, CohortPlan, Plan, Waves, plan
from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.python_template import other_variants
from antiphon.files import finite
from antiphon.terminal.explain import built, explain, explain_template, explain_verdicts
from antiphon.terminal.output import (
    console,
    percent,
    print_json,
    remark,
    show_table,
    some,
    write_line,
)

__all__ = ["show_plan", "show_scenario", "show_signals"]

_ROWS = 12
"""Most agents, channels or cohorts with rows of their own; more agents or channels are grouped by common properties."""
_FLOP = {"TFLOP": 1e12, "GFLOP": 1e9, "MFLOP": 1e6}


def show_plan(plan: Plan) -> None:
    """Print the execution plan of a scenario."""
    rows = [
        ["backend", f"{plan.backend}: {plan.why}"],
        ["device", plan.device],
        ["steps", _steps(plan)],
        ["waves", _waves(plan.waves)],
        ["memory", _memory(plan.memory, plan.installed)],
        ["work", f"{_flop(plan.flop)} a step in products of matrices"],
    ]
    show_table(["runs on", ""], rows)
    _cohorts(plan.cohorts)
    _channel_stacks(plan.channel_stacks)
    alone = plan.alone if plan.agents > 1 else ()
    for heading, found in (("alone", alone), ("not by the native kernel", plan.by_torch)):
        if found:
            show_table([heading, "why"], [[some(one.agents), one.reason] for one in found])
    if plan.sweep:
        show_table(
            ["kept for backward", "each", f"at most {in_units(plan.memory.activations)}"],
            [
                [
                    some(kept.agents),
                    in_units(kept.each),
                    kept.obstacle or "gone before the next one's forward",
                ]
                for kept in plan.activations
            ],
        )


def _cohorts(cohorts: Sequence[CohortPlan]) -> None:
    """Print the largest cohorts."""
    rows = [
        [some(one.agents), ", ".join(_in_common(one)), f"{len(one.agents):,}", f"{one.parameters:,}"]
        for one in sorted(cohorts, key=lambda cohort: -len(cohort.agents))
    ]
    if rows:
        show_table(["cohort", "in common", "agents", "parameters each"], rows, right=2, most=_ROWS)


def _in_common(cohort: CohortPlan) -> list[str]:
    learns = f"learns {cohort.learns} by {cohort.optimiser}" if cohort.optimiser else "frozen"
    return [cohort.network, cohort.ticks, learns, *([cohort.objective] if cohort.objective else [])]


def _channel_stacks(stacks: Iterable[ChannelStackPlan]) -> None:
    """Print the channel stacks, grouped by coupling."""
    kinds: dict[tuple[str, str, str], list[ChannelStackPlan]] = {}
    for stack in stacks:
        kinds.setdefault((stack.coupling, stack.gradient or "–", stack.input or "–"), []).append(stack)
    rows = [
        [*kind, f"{len(found):,}", f"{sum(len(b.channels) for b in found):,}"]
        for kind, found in kinds.items()
    ]
    if rows:
        show_table(["coupling", "gradient", "input", "stacks", "channels"], rows, right=2)


def _steps(plan: Plan) -> str:
    if plan.one_by_one is not None:
        return f"one by one, on cuda too: {plan.one_by_one}"
    period = "each is" if plan.period == 1 else f"{plan.period} at a time are"
    return f"on cuda {period} recorded and replayed; those with figures, checkpoints or recordings one by one"


def _waves(waves: Waves) -> str:
    if waves.count == 1:
        return "1: all that are due tick at once"
    kind = f"{waves.count}, a chain" if waves.chain else f"{waves.count}"
    verb = "has" if len(waves.channels) == 1 else "have"
    line = f"{kind}: {some(waves.channels)} {verb} no delay"
    if waves.locked:
        line += "; with one, credit over locked channels would be lost at a window's end"
    return line


def _memory(memory: MemoryEstimate, installed: int | None) -> str:
    """Format the memory estimate; negligible parts are left out."""
    unit = byte_unit(memory.total)
    parts = [
        f"{MemoryEstimate.word(name)} {in_unit(count, unit)}"
        for name, count in memory.parts().items()
        if count > memory.total / 200
    ]
    of = "" if installed is None else f" of {in_units(installed)}"
    return f"{in_units(memory.total)}{of}: {', '.join(parts)}"


def _flop(count: float) -> str:
    unit, size = next(((u, s) for u, s in _FLOP.items() if count >= s), ("MFLOP", 1e6))
    number = count / size
    return f"{number:,.0f} {unit}" if number >= 10 else f"{number:.2g} {unit}"


Row = tuple[str, tuple[str, ...], str, int]
"""A table's row before grouping: name, common properties, and a text and a number that differ."""


def show_scenario(
    what: str,
    python: str | None,
    variant: str | None,
    values: Mapping[str, Any],
    json: bool,
) -> None:
    """Print a scenario or a run with its execution plan; the arguments are those of the command `show`."""
    template = scenario_template(what, python)
    resolved = template.resolve_values(variant, values)
    scenario = template.resolve(variant, values)
    system = built(scenario)
    run = RunDirectory.open(what) if (Path(what) / "run.json").is_file() else None
    facts = {} if run is None else run.facts
    settings = {name: facts[name] for name in ("backend", "device") if name in facts}
    found = plan(scenario, system=system, **settings)
    explained = explain(scenario, system, other_variants(template, variant, values))
    explained["template"] = explain_template(template, resolved)
    explained["plan"] = found.as_dict()
    if run is not None:
        explained["run"] = {
            key: run.facts.get(key)
            for key in ("variant", "values", "seed", "step", "exit", "error", "started", "weights")
        }
        explained["run"]["accuracy"] = (run.result or {}).get("accuracy")
        explained["run"]["verdicts"] = explain_verdicts(run.path)
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
    show_plan(found)
    for line in explained["warnings"]:
        remark(f"warning: {line}", "yellow")


def _run(run: Mapping[str, Any]) -> None:
    scored = f", accuracy {percent(run['accuracy'])}" if run["accuracy"] is not None else ""
    name = f"{run['variant']}, " if run["variant"] else ""
    text = f"a run: {name}seed {run['seed']}, begun {run['started']}, {run['step']:,} steps, {run['exit']}{scored}"
    write_line(text)
    for taken in run["weights"] or ():
        line = f"{taken['agent']} took the weights of {taken['from']} (step {taken['from_step']:,})"
        write_line(f"{line} at step {taken['step']:,}")
    if run["error"]:
        write_line(run["error"])
    if run["verdicts"]:
        write_line(f"channels: {run['verdicts']['line']}")
    console().print()


def _template(template: Mapping[str, Any]) -> None:
    parameters = template["parameters"]
    if parameters:
        rows = [
            [name, _written(found["value"]), found["accepts"], found["description"]]
            for name, found in parameters.items()
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
    signals = explained["environment"]["signals"]
    for name, agent in explained["agents"].items():
        count = len(agent["incoming"])
        inputs = [_observed(signal, agent, signals) for signal in agent["observes"]]
        inputs += [f"{count} channel{'s' * (count > 1)}"] if count else []
        goal = (agent["objective"] or "–") + (" (readout)" if agent["readout"] else "")
        key = (agent["network"], agent["ticks"], agent["learning"], goal)
        rows.append((name, key, " + ".join(inputs) or "nothing", agent["parameters"]))
    cells = []
    for names, (_, common, first, _), inputs, counts in _joined(rows):
        low, high = f"{min(counts):,}", f"{max(counts):,}"
        each = "" if len(counts) == 1 else "each "
        parameters = each + (low if low == high else f"{low} – {high}")
        cells.append([names, first + (", …" if len(set(inputs)) > 1 else ""), *common, parameters])
    heads = ["agent", "takes in", "network", "ticks", "learns", "objective", "parameters"]
    show_table(heads, cells, right=1)


def _observed(signal: str, agent: Mapping[str, Any], signals: Mapping[str, Any]) -> str:
    """`tokens (index)` where a categorical signal enters as its values."""
    by_index = agent["categories"] == "index" and signals.get(signal, {}).get("classes")
    return f"{signal} (index)" if by_index else signal


def _channels(channels: Mapping[str, Any]) -> None:
    rows: list[Row] = []
    for name, channel in channels.items():
        gradient = channel["gradient"] or "–"
        if channel["target"]:
            gradient += f" of {channel['target']}"
        gradient += " at every site" if channel["sites"] else ""
        if channel["context"]:
            gradient += f", given {', '.join(channel['context'])}"
        size = " x ".join(map(str, channel["shape"]))
        size += f" ({channel['sampling']})" if channel["sampling"] else ""
        coupling = channel["coupling"] + (f" ({channel['feedback']})" if channel["feedback"] else "")
        rows.append((name, (coupling, gradient, _input(channel), size, _link(channel)), "", 0))
    cells = [[names, *key] for names, (_, key, _, _), _, _ in _joined(rows)]
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
    kind = str(channel["input"]) + (" at every site" if channel["input_sites"] else "")
    return kind + (f", given {', '.join(given)}" if given else "")


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


def _joined(rows: Sequence[Row]) -> Iterator[tuple[str, Row, list[str], list[int]]]:
    """Yield groups of rows with equal properties where there are many: names, the first row, and all texts and numbers."""
    groups: dict[object, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[1] if len(rows) > _ROWS else row[0], []).append(row)
    for group in groups.values():
        names, _, texts, counts = zip(*group, strict=True)
        yield some(names), group[0], list(texts), list(counts)


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
        alone: dict[Any, list[str]] = {}
        for name, window in group["alone"].items():
            alone.setdefault(window, []).append(name)
        shorter = [f"{_window(of)} of {some(who)}" for of, who in alone.items() if of != group["window"]]
        why = f", in place of {', '.join(shorter)}" if shorter else ""
        lines.append(
            f"learn as one network: {some(group['agents'])}; window: {_window(group['window'])}{why}"
        )
    lines += [f"one weight: {' = '.join(group)}" for group in explained["tied"]]
    return "\n".join(lines)


def _window(steps: int | str) -> str:
    return "the episode" if steps == "episode" else f"{steps} step{'s' * (steps != 1)}"


def show_signals(environment: Mapping[str, Any]) -> None:
    """Print an environment's signals, actions and numbers of examples, and its options where they are explained."""
    hold = f" · each for {environment['hold']} steps" if environment["hold"] > 1 else ""
    steps = environment["episode_steps"]
    ends = f" · episodes of {steps} step{'' if steps == 1 else 's'}" if steps else ""
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

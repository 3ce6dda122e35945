"""What `show` prints: a scenario or run with its stacks, and an environment's signals, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gymnasium import Space, spaces

from antiphon.base.errors import with_count
from antiphon.base.problems import in_table
from antiphon.base.table import some
from antiphon.engine.build.builder import build_to_look
from antiphon.engine.build.stack_members import plan
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.system import System
from antiphon.engine.metrics.description import about_agent, about_channel
from antiphon.envs import Description, describe, ids, options_of
from antiphon.running.directory import RunDirectory, run_folder
from antiphon.running.templates import PythonTemplate
from antiphon.scenarios import EnvSpec, Scenario, Template
from antiphon.terminal.output import show_table

_ROWS = 12
"""Most agents, channels or stacks that are shown."""


def built(scenario: Scenario) -> System:
    """Build a scenario without its data: the build check. A large one is built without parameters."""
    return build_to_look(scenario, describe(scenario.env))


def show_scenario(
    name_or_file: str, template: Template | PythonTemplate, variant: str | None, values: Mapping[str, Any]
) -> None:
    """Print a scenario or a run; for the arguments, see the command `show`."""
    scenario = template.resolve(variant, values)
    with template.placing():
        system = built(scenario)
    print(scenario.scenario + (f" · {variant}" if variant else ""))
    print(f"{scenario.description}\n")
    folder = run_folder(name_or_file)
    if (folder / "run.json").is_file():
        facts = RunDirectory.open(folder).facts
        print(f"a run: seed {facts['seed']}, {facts['step']:,} steps, {facts['exit']}\n")
    _template(template, template.resolve_values(variant, values))
    _agents(scenario, system)
    _channels(scenario, system)
    learners = {agent.learner for agent in system.agents.values()}
    count = sum(p.numel() for learner in learners for p in learner.parameters.values())
    training = scenario.training
    print(f"{count:,} parameters · batch {training.batch} · {training.steps:,} steps")
    for group in scenario.relations.locked_groups:
        if len(group) > 1:
            window = scenario.relations.window(group)
            length = "the episode" if window == "episode" else with_count(int(window), "step")
            print(f"learn as one network: {some(group)}; window: {length}")
    print()
    env = scenario.env
    name = env.id if isinstance(env, EnvSpec) else f"a Python {type(env).__name__}"
    _signals(name, system.description, most=_ROWS)
    _stacks(scenario, system)


def _template(template: Template | PythonTemplate, resolved: Mapping[str, Any]) -> None:
    """Print parameters with their values, and variants; of a Python function only values are known."""
    known = template.parameters if isinstance(template, Template) else {}
    about = {
        name: [" | ".join(map(str, known[name].choices or ())), known[name].description] for name in known
    }
    rows = [[name, in_table(value), *about.get(name, ["", ""])] for name, value in resolved.items()]
    if rows:
        show_table(["parameter", "value", "choices", ""], rows)
    variants = {
        name: ", ".join(f"{key}={in_table(value)}" for key, value in sets.items())
        for name, sets in template.variants.items()
        if isinstance(sets, Mapping)
    }
    if variants:
        show_table(["variant", "sets"], list(map(list, variants.items())))


def _agents(scenario: Scenario, system: System) -> None:
    rows = []
    for name, agent in system.agents.items():
        about, count = about_agent(scenario, name), len(scenario.relations.inputs[name])
        inputs = [about.get("observes", ""), with_count(count, "channel") if count else ""]
        goal = about.get("objective", "–") + (" (readout)" if name in scenario.readouts else "")
        facts = [about["network"], about["ticks"], about["learns"], goal, f"{_size(agent):,}"]
        rows.append([name, " + ".join(filter(None, inputs)), *facts])
    heads = ["agent", "inputs", "network", "ticks", "learns", "objective", "parameters"]
    show_table(heads, rows, right=1, most=_ROWS, where="--yaml")


def _size(agent: Agent) -> int:
    return sum(p.numel() for p in agent.learner.parameters.values())


def _channels(scenario: Scenario, system: System) -> None:
    rows = []
    for channel in scenario.channels:
        about = about_channel(channel, scenario.relations)
        facts = [about.get(key, "–") for key in ("gradient", "input", "sample", "link")]
        size = " x ".join(map(str, system.channels[channel.name].content.shape))
        rows.append([channel.name, channel.coupling.name, *facts, size])
    if rows:
        heads = ["channel", "coupling", "gradient", "input", "sample", "link", "size"]
        show_table(heads, rows, right=1, most=_ROWS, where="--yaml")


def _stacks(scenario: Scenario, system: System) -> None:
    """Print which agents are computed together, and why others are not."""
    planned = plan(system)
    rows = [
        [some(agent.name for agent in cohort), f"{len(cohort):,}", f"{_size(cohort[0]):,}"]
        for cohort in sorted(planned.cohorts, key=len, reverse=True)
    ]
    if rows:
        show_table(["stack", "agents", "parameters each"], rows, right=2, most=_ROWS, where="Python")
    if planned.alone and len(scenario.agents) > 1:
        show_table(["not stacked", "why"], [[some(names), why] for why, names in planned.alone.items()])


# --- environments ------------------------------------------------------------------------------------------


def show_environment(name: str, description: Description) -> None:
    """Print an environment's signals and actions, and its options where they are known."""
    _signals(name, description)
    if name in ids() and (rows := options_of(name).rows()):
        show_table(["option", "default", ""], [[key, default, meaning] for key, meaning, default in rows])


def _signals(name: str, description: Description, most: int | None = None) -> None:
    """Print signals, of which `most` at most, actions and numbers of examples."""
    title = name
    if description.hold > 1:
        title += f" · each example for {description.hold} steps"
    if description.episode_steps:
        title += f" · episodes of {with_count(description.episode_steps, 'step')}"
    elif description.longest_episode:
        title += f" · episodes of at most {description.longest_episode} steps"
    rows = [
        [
            signal_name,
            "number" if signal.classes is None else f"one of {signal.classes}",
            " x ".join(map(str, signal.shape)) or "–",
            ("training only" if signal.training_only else "agents")
            + ("" if signal.known == "tick" else ", after the step"),
        ]
        for signal_name, signal in description.signals.items()
    ]
    show_table(["signal", "kind", "shape", "seen by"], rows, title=title, most=most, where="show env ID")
    space = description.action_space
    parts = space.spaces if isinstance(space, spaces.Dict) else {"": space} if space is not None else {}
    for part, actions in parts.items():
        print(f"action{f' of {part}' if part else ''}: {_action(actions)}")
    if description.example_counts:
        counts = ", ".join(f"{split} {count:,}" for split, count in description.example_counts.items())
        print(f"examples: {counts}\n")


def _action(space: Space[Any]) -> str:
    if isinstance(space, spaces.Discrete):
        return f"one of {space.n}"
    if isinstance(space, spaces.Box):
        low, high = space.low.min(), space.high.max()
        return f"{' x '.join(map(str, space.shape)) or 1} numbers from {low:g} to {high:g}"
    return str(space)

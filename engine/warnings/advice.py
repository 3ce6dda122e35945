"""Warnings that depend on the environment: scenarios that run, but whose delays, windows or alignment defeat them."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import lcm, prod
from typing import Any, NamedTuple

import networkx as nx
from gymnasium import spaces

from antiphon.base.errors import with_article, with_count
from antiphon.base.extensions import name_of
from antiphon.comms.couplings import Locked
from antiphon.comms.read_modes import read_mode_of
from antiphon.engine.build.learning_groups import windows_of
from antiphon.engine.heart.clock import Clock, StepWindows, WindowGrid
from antiphon.engine.heart.timetable import Timetable
from antiphon.engine.warnings.given_up import warn_27_given_up
from antiphon.envs.registry import describe
from antiphon.envs.signal import ID, TURN, Description
from antiphon.scenarios import ChannelSpec, Scenario
from antiphon.scenarios.agent_specs import POLICY_WINDOW, ClockSpec, policy_network
from antiphon.scenarios.channel_specs import CouplingSpec
from antiphon.scenarios.checks import speaking
from antiphon.scenarios.env_spec import EnvSpec
from antiphon.scenarios.scenario_warnings import (
    Finding,
    about,
    fast_predictor,
    findings,
    in_lines,
    slow_predictor,
)

_MOST_WALKED = 300_000
"""Agents and channels that are walked through, at most, in search of late messages."""

_FEW = 100
"""Updates of an agent, below which a warning asks whether it learns often enough."""
_LONGER = 8
"""How many times longer a receiver's window than its sender's is warned of."""
_LONG_STEP = 1.0
"""A step of a parameter that is long: networks begin with smaller parameters."""
_STAMPS, _LONGEST_FIX = 64, 16
"""First messages of a channel whose way back is followed, and the longest unroll that is advised for it, in ticks."""
_OF_OTHERS = ("gymnasium", "pettingzoo")
"""Prefixes of the ids of environments of other packages."""
_FEWEST_STEPS, _FEW_STEPS = 20_000, 100_000
"""Environment steps of a training, at least and at most, in which a policy is advised to learn more from each."""
_WIDE = 4096
"""Zeros and ones of a one-hot observation of several values, at most, without a warning."""


def advice(
    scenario: Scenario,
    variants: Iterable[Scenario] = (),
    *,
    env: Description | None = None,
    saved: bool = True,
    acts: bool = True,
) -> list[str]:
    """Return the scenario's warnings and those about delays and waiting (semantics 21, 27b).

    Args:
        variants: As for `antiphon.scenarios.warnings`.
        env: The description of its environment, where one has been made; None: one is made to be described, if need be.
        saved: Whether the run is saved, so that its environment should have a state.
        acts: Whether a few steps are taken in an environment made for it, to see its observations; else it is only reset.

    Raises:
        ScenarioError: There is no such environment.
    """
    env = describe(scenario.env) if env is None else env
    beside = _beside_its_environment(scenario, env, saved=saved, acts=acts)
    return in_lines([*findings(scenario, variants), *beside])


def _beside_its_environment(
    scenario: Scenario, env: Description, *, saved: bool, acts: bool
) -> list[Finding]:
    """Return the warnings for which the environment's signals, splits and episodes have to be known."""
    # they load torch, which help does not need
    from antiphon.engine.warnings.data_ranges import of_ranges
    from antiphon.engine.warnings.missing_targets import missing_in_data
    from antiphon.engine.warnings.mixed_parameters import of_optimisers
    from antiphon.engine.warnings.samples import of_samples

    warnings: list[Finding] = []
    if env.is_stream:
        warnings += _of_stream(scenario, env)
    for rule in speaking(_RULES, scenario.relations.given):
        warnings += rule(scenario, env)
    steps, evaluate = scenario.training.steps, scenario.training.evaluate
    if evaluate is not None and evaluate.period > steps:
        warnings += about(
            "setting",
            ["training.evaluate.period"],
            f"{evaluate.period} is more than training.steps, {steps}: nothing is evaluated",
        )
    warnings += of_samples(scenario, env, acts=acts)
    warnings += missing_in_data(scenario, env)
    warnings += of_optimisers(scenario)
    warnings += of_ranges(scenario, env)
    if not saved:
        warnings += _without_logdir(scenario)
    if saved and not env.can_be_saved:
        warnings += about(
            "setting",
            ["env"],
            f"{env.unsaved or 'it has no state_dict'}, so a run cannot be resumed or forked: resume, evaluate --value, "
            "telemetry.value and probes raise an error; evaluate, export and diff work"
            + ("" if env.unsaved else "; give it state_dict and load_state_dict"),
        )
    grows = env.longest_episode is not None and not env.splits
    if grows and not any(agent.acts for agent in scenario.agents.values()):
        warnings += about(
            "setting",
            ["env"],
            "its task becomes harder as an acting agent solves it, and no agent acts; "
            "give an agent `acts: true`, or the environment threshold 0",
        )
    return warnings


def _without_logdir(scenario: Scenario) -> Iterator[Finding]:
    """Yield what is asked for and is only written into a run directory."""
    training, telemetry = scenario.training, scenario.telemetry
    if training.evaluate is not None and training.evaluate.keep_best is not None:
        message = "no checkpoint is kept without a logdir; give one, or leave it out"
        yield Finding("setting", "training.evaluate.keep_best", message)
    for key in ("histograms", "recorders"):
        if getattr(telemetry, key):
            message = "nothing is recorded without a logdir; give one, or leave it out"
            yield Finding("setting", f"telemetry.{key}", message)


def _of_stream(scenario: Scenario, env: Description) -> Iterator[Finding]:
    """Yield what a stream of examples does with a setting that is meant for something else."""
    for name, agent in scenario.agents.items():
        if agent.acts and not agent.needs_rewards:
            yield Finding(
                "setting",
                f"agents.{name}.acts",
                "actions change nothing in a data set, and this agent learns from its target alone; "
                "leave it out",
            )
    batch, split = scenario.training.batch, "train"
    if 0 < env.example_counts.get(split, 0) < batch:
        count = env.example_counts[split]
        yield Finding(
            "setting",
            "training.batch",
            f"{batch:,} is more than the {count:,} examples of {split}: every step has some of them several "
            f"times; set {count} or fewer",
        )


def advice_on_a_run(scenario: Scenario, env: Description, *, saved: bool) -> list[str]:
    """Return the scenario's warnings without agents that learn from nothing as they would if their channels were not
    detached: these are controls.
    """
    rule = CouplingSpec(kind=Locked.name)
    channels = [channel.model_copy(update={"written_coupling": rule}) for channel in scenario.channels]
    locked = scenario.model_copy(update={"channels": channels})
    warned = [finding for finding in findings(scenario, [locked]) if not finding.unused]
    warned += [finding for finding in findings(scenario) if finding.unused]
    return in_lines([*warned, *_beside_its_environment(scenario, env, saved=saved, acts=False)])


def _weak_signals(scenario: Scenario, env: Description) -> Iterator[Finding]:
    """Warnings of decoupled channels, the most usual causes of what decoupling costs: one line for each cause."""
    goals = (goal for agent in scenario.agents.values() for goal in agent.objectives.values())
    targets = dict.fromkeys(goal.target for goal in goals if goal.labels)
    shown_targets = [name for name in targets if name in env.signals and env.is_stream]
    for channel in scenario.channels:
        gradient = channel.gradient
        if not channel.coupling.predicts or channel.state or not gradient.apply:
            continue
        if (
            gradient.direct and shown_targets and "context" not in gradient.model_fields_set
        ):  # [] is a decision
            line = f"predicts gradients without {shown_targets[0]!r}, on which they depend; give gradient.context [{shown_targets[0]}]"
            yield Finding("channel", channel.name, line)
        ends = [scenario.windows[name] for name in (channel.sender, channel.receiver)]
        alike = scenario.agents[channel.receiver].clock.period == scenario.agents[channel.sender].clock.period
        if alike and isinstance(ends[0], int) and isinstance(ends[1], int) and ends[1] >= _LONGER * ends[0]:
            line = f"its sender learns every {ends[0]} steps, its receiver every {ends[1]}; give the sender the same unroll"
            yield Finding("channel", channel.name, line)
        for says, fix in (fast_predictor(scenario, channel), slow_predictor(scenario, channel)):
            if says:
                yield Finding("channel", channel.name, f"{says}; try {fix}")


def _begins_shut(scenario: Scenario, env: Description) -> Iterator[Finding]:
    """Warnings of gates that are shut at first where a policy's sender has an objective of its own, and so learns in one pass.

    A kind, gate or passes other than the defaults are a decision.
    """
    for channel in scenario.channels:
        goal, sender = scenario.agents[channel.receiver].objective, scenario.agents[channel.sender]
        decided = not channel.gradient.given_keys.isdisjoint(("kind", "gate", "passes"))
        once = goal is not None and goal.passes > 1 and not channel.replayed
        if once and sender.objectives and not decided and scenario.relations.gated(channel):
            yield Finding(
                "channel",
                channel.name,
                "one pass per window, because the sender has an objective of its own, and a gate that "
                "begins shut, as with detached; set coupling: locked, leave out the sender's objective, or keep it with "
                "gradient.gate: skill",
            )


def _long_steps(scenario: Scenario, env: Description) -> Iterator[Finding]:
    """Warnings of learning rates that take parameters far from where networks compute, in one step: the loss stays finite."""
    for name, agent in scenario.agents.items():
        optimiser = agent.optimiser or scenario.training.optimiser
        schedule = optimiser.schedule
        if schedule is not None and not (schedule.built_in and schedule.warmup == 0):
            continue  # the first steps are shorter, or of a length that only your function knows
        if agent.learn is not False and optimiser.lr >= _LONG_STEP and optimiser.unit_steps:
            line = f"its learning rate, {optimiser.lr:g}, is about what a step of {optimiser.kind} adds to each parameter; lower it"
            yield Finding("agent", name, line)


def _wide(scenario: Scenario, env: Description) -> Iterator[Finding]:
    """Warnings of arrays of classes that are rather quantities: they enter networks one-hot; and the reverse."""
    for name, agent in scenario.agents.items():
        signals = [env.signals.get(observed) for observed in agent.observes]
        if agent.categories == "index" and all(
            signal is None or signal.classes is None for signal in signals
        ):
            yield Finding("agent", name, "categories is not used by an agent that observes no classes")
        for observed, signal in zip(agent.observes, signals, strict=True):
            if signal is None or signal.classes is None:
                continue
            values = f"{prod(signal.shape):,} values of {signal.classes:,} classes each"
            if agent.categories == "index":
                if agent.layers is not None and signal.classes > 2:
                    yield Finding(
                        "agent",
                        name,
                        f"'{observed}' enters as numbers, 0 to {signal.classes - 1:,}, and its "
                        f"{agent.layers.kind} treats them as quantities; use `categories: one_hot`, or your own network "
                        "that embeds them",
                    )
            elif signal.shape and prod(signal.input_shape) > _WIDE:
                yield Finding(
                    "agent",
                    name,
                    f"'{observed}' enters as {prod(signal.input_shape):,} zeros and ones: {values}; if "
                    "they are quantities, give floats, and for a network that embeds them `categories: index`",
                )


def _one_class(scenario: Scenario, env: Description) -> Iterator[Finding]:
    """Warnings of targets of a single class, which every network predicts from the beginning."""
    for name, agent in scenario.agents.items():
        for goal in agent.objectives.values():
            target = env.signals.get(goal.target or "")
            if goal.classifies and target is not None and target.classes == 1:
                yield Finding(
                    "agent",
                    name,
                    f"its target '{goal.target}' has one class, so that its loss is always 0 and nothing is learned; check "
                    f"the labels, or give the number of classes, such as classes={{'{goal.target}': 10}}",
                )


def warn_10_kickback(scenario: Scenario, env: Description) -> Iterator[Finding]:
    """Warnings of channels that bring back the sum of errors, where all of them are of classes and add up to zero."""
    for channel in scenario.channels:
        feedback = channel.feedback
        if feedback is None or not (feedback.summed and channel.coupling.joins_endpoints):
            continue
        of = feedback.of or scenario.readouts[0]
        objectives = scenario.agents[of].objectives.values()
        targets = [
            env.signals.get(objective.target or "") for objective in objectives if objective.errors_cancel
        ]
        classes = [target for target in targets if target is not None and target.classes is not None]
        if len(classes) == len(objectives):
            kinds = " and ".join(
                dict.fromkeys(with_article(name_of(objective.kind)) for objective in objectives)
            )
            yield Finding(
                "channel",
                channel.name,
                f"{feedback.kind} returns nothing: the errors of {of!r}, {kinds}, add up to 0; use dfa",
            )


def _late(scenario: Scenario, env: Description) -> Iterator[Finding]:
    """Warnings of objectives whose messages are about an example that is no longer shown."""
    over = env.episode_steps == env.hold  # `_over` is about these
    if not env.is_stream or over or sum(channel.link.delay for channel in scenario.channels) < env.hold:
        return
    graph: nx.DiGraph[str] = (
        nx.DiGraph()
    )  # from each receiver to its senders, with the longest delay between them
    graph.add_nodes_from(scenario.agents)
    for channel in scenario.channels:
        edge = graph.get_edge_data(channel.receiver, channel.sender, {"delay": 0})
        graph.add_edge(channel.receiver, channel.sender, delay=max(edge["delay"], channel.link.delay))
    walks = max(1, _MOST_WALKED // (len(scenario.agents) + len(scenario.channels)))
    order = list(nx.topological_sort(graph)) if nx.is_directed_acyclic_graph(graph) else []
    for name, agent in scenario.agents.items():
        if not agent.objectives or agent.align:
            continue
        if not walks:
            return
        walks -= 1
        # the age of what it receives, by source: along the longest path, each cycle taken the shortest
        nearest = nx.single_source_dijkstra_path_length(graph, name, weight="delay")
        ages = {node: int(steps) for node, steps in nearest.items()}
        for node in order:  # none where there are cycles
            for sender in graph.successors(node) if node in ages else ():
                ages[sender] = max(ages[sender], ages[node] + graph.edges[node, sender]["delay"])
        observers = [(steps, source) for source, steps in ages.items() if scenario.agents[source].observes]
        late = [(steps, source) for steps, source in observers if steps >= env.hold and source != name]
        if late:
            steps, source = min(late)
            yield Finding(
                "agent",
                name,
                f"receives what '{source}' observed {with_count(steps, 'step')} later, when another example is shown "
                f"(hold {env.hold}); give it `align`, or the environment a longer `hold`",
            )


def _over(scenario: Scenario, env: Description) -> Iterator[Finding]:
    """Warnings of aligned objectives that count at an example's last step, which reaches them after its episode's end."""
    lags = _lags(scenario) if env.is_stream and env.episode_steps == env.hold else {}
    for name, agent in scenario.agents.items():
        late = any(goal.read != "each" for goal in agent.objectives.values())
        if late and agent.align and lags.get(name):
            yield Finding(
                "agent",
                name,
                f"receives an example's last step {with_count(lags[name], 'step')} later, when its episode has ended, "
                "so its objective never counts; remove the delays, or use `read: each`",
            )


def expected_updates(scenario: Scenario, env: Description) -> dict[str, int | None]:
    """Return how many optimiser steps each agent that learns takes in the training, by its windows (their mean with `learn: P`).

    0: no learning signal reaches it, or it has no parameters to train. None: it learns once an episode, and their lengths vary.
    Where windows wait for late gradients the last ones are missing.
    """
    count_by_agent: dict[str, int | None] = {}
    for group in scenario.relations.learning_groups:
        goals = list(filter(None, (scenario.agents[name].objective for name in group)))
        count = None
        if scenario.window(group) != "episode" or env.episode_steps is not None:
            windows, last = windows_of(scenario, group, env, None), scenario.training.steps - 1
            number = windows.number_at(last)
            count = max(0, number + (windows.end_of(number) <= last)) * _updates_of_window(scenario, group)
            alone = len(goals) == 1 and goals[0].needs_an_end
            if alone and env.episode_steps and isinstance(windows, StepWindows):
                count = _with_an_end(windows, count, env.episode_steps)
        count_by_agent |= dict.fromkeys(group, count)
    shares = {name: agent.p_update for name, agent in scenario.agents.items() if agent.learn}
    changed = scenario.relations.learners
    count_by_agent = {name: count if name in changed else 0 for name, count in count_by_agent.items()}
    return {name: None if (n := count_by_agent[name]) is None else round(n * p) for name, p in shares.items()}


def several_a_window(scenario: Scenario) -> list[str]:
    """Return the agents that take several optimiser steps for each window, in the passes of a policy."""
    groups = scenario.relations.learning_groups
    names = {name for group in groups if _updates_of_window(scenario, group) > 1 for name in group}
    return [name for name in scenario.agents if name in names & {*scenario.relations.learners}]


def _with_an_end(windows: StepWindows, count: int, length: int) -> int:
    """Return in how many of the first windows an episode of `length` steps ends: in others there is no loss."""
    turn = (
        lcm(windows.length, length) // windows.length
    )  # windows after which the same steps of an episode come again
    first = (windows.first_step + number * windows.length for number in range(min(turn, count)))
    ends = [(step + windows.end_offset + 1) // length > step // length for step in first]
    return sum((count - number + turn - 1) // turn for number, ends_one in enumerate(ends) if ends_one)


class _Seldom(NamedTuple):
    """Why some agents are warned of together: they learn so often, from windows of one length, and one fix helps all."""

    updates: int
    window: int | str
    fix: str


def _seldom_learning(scenario: Scenario, env: Description) -> Iterator[Finding]:
    """Warnings of agents that learn seldom: at no step of the training, or in less than 100 of at least as many steps.

    A sender to a policy that learns often, from passes over the same windows, learns as seldom as policies ask of it.
    """
    for seldom, names in _learning_seldom(scenario, env).items():
        if (line := _line_of_seldom(scenario, env, seldom, names)) is not None:
            yield from about("agent", names, line)


def _learning_seldom(scenario: Scenario, env: Description) -> dict[_Seldom, list[str]]:
    steps, updates = scenario.training.steps, expected_updates(scenario, env)
    often = {
        scenario.windows[name]
        for name, agent in scenario.agents.items()
        if agent.needs_rewards and (updates.get(name) or 0) >= _FEW
    }
    usual = {
        scenario.windows[name]
        for name, agent in scenario.agents.items()
        if agent.needs_value and agent.clock.unroll == POLICY_WINDOW
    }
    names_by_seldom: dict[_Seldom, list[str]] = {}
    learners = scenario.relations.learners  # of others another warning says why they do not learn
    for name, count in updates.items():
        if name not in learners or count is None:
            continue
        window, goal = scenario.windows[name], scenario.agents[name].objective
        shorter = window != "episode" and window < (env.episode_steps or 0)
        lost = goal is not None and goal.needs_an_end and shorter  # windows without an end teach nothing
        if count and (count >= _FEW or steps < _FEW) and not lost:
            continue
        if not count or scenario.agents[name].objectives or window not in often:
            clocks = [scenario.agents[member].clock for member in scenario.relations.learning[name]]
            fix = _fix_of_window(clocks, usual=window in usual)
            names_by_seldom.setdefault(_Seldom(count, window, fix), []).append(name)
    return names_by_seldom


def _line_of_seldom(
    scenario: Scenario, env: Description, seldom: _Seldom, names: Sequence[str]
) -> str | None:
    """Return what is said of agents that learn seldom; None: nothing, as windows are episodes of which none may end."""
    (count, window, fix), steps, length = seldom, scenario.training.steps, env.episode_steps
    goals = [goal for name in names if (goal := scenario.agents[name].objective) is not None]
    learn = "learns" if len(names) == 1 else "learn"
    if window != "episode" and sum(goal.needs_an_end for goal in goals) == len(names):
        learns = f"{count} updates in {steps:,} steps: {name_of(goals[0].kind)} learns"
        if length and isinstance(window, int) and window % length:
            return (
                f"{learns} from windows in which an episode ends, a window has {window} steps and an episode {length}; "
                "use `unroll: episode`"
            )
        if count and not length:  # of unknown lengths, which `unroll: episode` is refused for
            return f"{learns} only from episodes that end within {window} steps; use an unroll of several episodes, or train for longer"
    if not count:
        first = f"{learn} after {window} steps for the first time, and training.steps is {steps}; {fix}"
        return None if window == "episode" else first
    every = "episode" if window == "episode" else f"{window} steps"
    passes = _updates_of_window(scenario, scenario.relations.learning[names[0]])
    if passes > 1:
        return f"{learn} at the end of every {every}: {round(count / passes)} windows, {count} updates; {fix}"
    return f"{count} updates in {steps:,} steps, one in {every.replace('episode', 'an episode')}; {fix}"


def _updates_of_window(scenario: Scenario, group: Iterable[str]) -> int:
    """Return the optimiser steps that agents that learn together take at the end of a window."""
    outputs = (channel for name in group for channel in scenario.outputs_of(name))
    names = [*group, *(channel.receiver for channel in outputs if channel.replayed)]
    goals = filter(None, (scenario.agents[name].objective for name in names))
    return max((goal.updates(scenario.training.batch) for goal in goals), default=1)


def _fix_of_window(clocks: Sequence[ClockSpec], *, usual: bool) -> str:
    """Return how agents that learn together learn more often: by what makes their window long, but for `unroll: episode`, which
    is chosen for what a shorter window would not learn; a policy's default window (`usual`) is not advised against."""
    keys = []
    if any(clock.period > 1 for clock in clocks):
        keys.append("period")
    if not usual and any(clock.unroll not in (1, "episode") for clock in clocks):
        keys.append("unroll")
    shorter = "smaller" if "period" in keys else "shorter"
    return f"use a {shorter} {' or '.join(keys)}, or train for longer" if keys else "train for longer"


def _lost_credit(scenario: Scenario, env: Description) -> Iterator[Finding]:
    """Warnings of locked channels of whose messages at least half are read in a later window, where their credit ends."""
    sent_in: dict[str, list[ChannelSpec]] = {}
    for channel in scenario.channels:
        if channel.coupling.joins_endpoints:
            sent_in.setdefault(channel.sender, []).append(channel)
    for group in scenario.locked_groups():
        if len(group) < 2:
            continue
        window = scenario.window(group)
        length = env.episode_steps if window == "episode" else window
        # What is on its way when an episode ends is void, not lost.
        if length is None or length == env.episode_steps:
            continue
        for channel in sorted(
            (c for name in group for c in sent_in.get(name, ())), key=lambda channel: channel.order
        ):
            clocks = [scenario.agents[end].clock for end in (channel.sender, channel.receiver)]
            sender, receiver = (Clock(clock.period, clock.phase) for clock in clocks)
            sent = sender.among(range(length, 2 * length))
            delay, last = channel.link.delay, receiver.latest(2 * length - 1)
            in_time = 0 if last is None else bisect_right(sent, last - delay)
            lost = len(sent) - in_time
            if lost and 2 * lost >= len(sent) and delay < length:
                yield Finding(
                    "channel",
                    channel.name,
                    f"{lost} of {len(sent)} messages of a window are read after its end, where "
                    "their credit is lost; use a longer unroll, or `unroll: episode`",
                )


def _never_back(scenario: Scenario, env: Description) -> Iterator[Finding]:
    """Warnings of couplings that only use returned gradients, and whose senders learn before any can be back."""
    for channel in (c for c in scenario.channels if c.coupling.needs_own_return):
        coupling, link, name = channel.coupling, channel.link, channel.sender
        groups = [scenario.relations.learning[end] for end in (name, channel.receiver)]
        episodes = any(scenario.window(group) == "episode" for group in groups)
        if episodes or name not in scenario.relations.learners:
            continue
        windows, grid = (windows_of(scenario, group, env, None) for group in groups)
        clocks = [scenario.agents[end].clock for end in (name, channel.receiver)]
        sender, receiver = (Clock(clock.period, clock.phase) for clock in clocks)
        mode = read_mode_of(channel.read, sender.tick_period, receiver.tick_period)
        times = Timetable(sender, receiver, grid, link.delay, link.back, mode)
        if _is_ever_back(times, sender, windows):
            continue
        lengths = range(2, _LONGEST_FIX + 1)
        fits = (n for n in lengths if _is_ever_back(times, sender, StepWindows.of_ticks(sender, n)))
        unroll = next(fits, None)
        clock = "a longer unroll" if unroll is None else f"clock: {{unroll: {unroll}}}"
        yield Finding(
            "channel",
            channel.name,
            f"no gradient is back before '{name}' learns, and coupling {coupling.name} uses none but "
            f"returned ones; set `waits = True` in its class, or give '{name}' {clock}",
        )


def _is_ever_back(times: Timetable, sender: Clock, windows: WindowGrid) -> bool:
    """Whether a gradient of a message is back when the window that sent it is learned from; a step learns before it books."""
    for stamp in itertools.islice(itertools.count(sender.phase, sender.tick_period), _STAMPS):
        end, finished = windows.end_of(windows.number_at(stamp)), times.read_plan(stamp).finish_by
        if finished is not None and finished < end and times.back_from(finished) <= end:
            return True
    return False


def _sparing(scenario: Scenario, env: Description) -> Iterator[Finding]:
    """A warning of a policy with the defaults of its passes and windows, in few steps of a Gymnasium environment.

    It is measured there, for single agents (docs/policies.md); a run of fewer steps is a trial.
    """
    kind = scenario.env.id.partition("/")[0] if isinstance(scenario.env, EnvSpec) else ""
    steps = scenario.training.steps * scenario.training.batch
    few = _FEWEST_STEPS <= steps <= _FEW_STEPS and "batch" not in scenario.training.model_fields_set
    if kind != "gymnasium" or not few or len(scenario.agents) > 1:
        return
    ((name, agent),) = scenario.agents.items()
    goal = agent.objective
    if goal is None or goal.has_target or goal.passes == 1 or "epochs" in goal.model_fields_set:
        return
    if agent.clock.unroll == POLICY_WINDOW and agent.layers == policy_network():
        training = f"training: {{batch: 16, steps: {steps // 16}}}"
        keys = f"objective: {{kind: {name_of(goal.kind)}, epochs: 10}}, clock: {{unroll: 64}}, {training}"
        yield Finding(
            "agent",
            name,
            f"{steps:,} environment steps are few; more is learned from each, in 2 to 4 times the time, with {keys}",
        )


def _unmasked(scenario: Scenario, env: Description) -> Iterator[Finding]:
    for name, agent in scenario.agents.items():
        goal, prefix = agent.objective, f"{agent.acts}." if isinstance(agent.acts, str) else ""
        mask = f"{prefix}action_mask"
        if (
            agent.acts
            and goal is not None
            and goal.needs_rewards
            and goal.mask is None
            and mask in env.signals
            # one mask of several parts is refused
            and not (agent.acts is True and isinstance(env.action_space, spaces.Dict))
        ):
            line = f"the environment has '{mask}', and the policy may choose what is not legal"
            yield Finding(
                "agent", name, f"{line}; write objective: {{kind: {name_of(goal.kind)}, mask: {mask}}}"
            )


def _unobserved(scenario: Scenario, env: Description) -> Iterator[Finding]:
    """A warning of parts of an observation that no agent reads, such as a goal: in environments whose signals are all meant for
    whoever acts."""
    kind = scenario.env.id.partition("/")[0] if isinstance(scenario.env, EnvSpec) else ""
    actors = [agent for agent in scenario.agents.values() if agent.acts]
    if kind not in _OF_OTHERS or not actors:
        return
    read = {name for agent in scenario.agents.values() for name in agent.observes}
    goals = [goal for agent in scenario.agents.values() for goal in agent.objectives.values()]
    read |= {name for goal in goals if goal.critic is not None for name in goal.critic.observes}
    parts = () if any(agent.acts is True for agent in actors) else tuple(f"{agent.acts}." for agent in actors)
    unread = [
        repr(name)
        for name in env.observations
        if name not in read and not name.startswith(f"{ID}.") and not name.endswith("action_mask")
        if not parts or name.startswith(parts)
    ]
    if unread:
        yield Finding(
            "setting",
            "env",
            f"no agent observes {', '.join(unread)}; add what the policy needs to its observes",
        )


def _untaken(scenario: Scenario, env: Description) -> Iterator[Finding]:
    """A warning of actions of an environment that no agent takes, where agents take others."""
    parts = getattr(env.action_space, "spaces", None)  # of a Dict
    acting = [agent.acts for agent in scenario.agents.values() if isinstance(agent.acts, str)]
    if not isinstance(parts, Mapping) or not acting or any(a.acts is True for a in scenario.agents.values()):
        return
    untaken = [
        repr(action)
        for action, space in parts.items()
        if _has_choice(space)
        and not any(f"{action}.".startswith(f"{act}.") or act.startswith(f"{action}.") for act in acting)
    ]
    if untaken:
        yield Finding(
            "setting",
            "env",
            f"no agent acts for {', '.join(untaken)}, which acts at random; give an agent `acts` with its name",
        )


def _has_choice(space: spaces.Space[Any]) -> bool:
    inner = getattr(space, "spaces", None)  # of a Dict or Tuple
    if inner is not None:
        return any(map(_has_choice, inner.values() if isinstance(inner, Mapping) else inner))
    return not isinstance(space, spaces.Discrete) or space.n > 1


def _few_turns(scenario: Scenario, env: Description) -> Iterator[Finding]:
    """A warning of policies whose windows have about one turn: they learn from all but the last (rule 38a)."""
    takers = sum(name.startswith(f"{TURN}.") for name in env.signals)
    for name, agent in scenario.agents.items():
        player, unroll = agent.acts if isinstance(agent.acts, str) else name, agent.clock.unroll
        if (
            agent.acts
            and agent.needs_rewards
            and f"{TURN}.{player}" in env.signals
            and not isinstance(unroll, str)
            and unroll * agent.clock.period <= takers
        ):
            yield Finding(
                "agent",
                name,
                f"{takers} agents take turns, so their windows have about one turn, and a policy does not "
                f"learn from the last turn of a window; set clock.unroll to {4 * takers} or more",
            )


def _in_step(scenario: Scenario, env: Description) -> Iterator[Finding]:
    """A warning of log entries that are all of the last step of an episode, where messages and gradients may be unlike the others."""
    period, length = scenario.telemetry.period, env.episode_steps or 1
    is_set = "period" in scenario.telemetry.model_fields_set
    if is_set and length > 1 and period % length == 0:
        yield Finding(
            "setting",
            "telemetry.period",
            f"{period} is a multiple of an episode's {length} steps, so every log entry is of an episode's last step; "
            f"set {period + 1}",
        )


def _mixed(scenario: Scenario, env: Description) -> Iterator[Finding]:
    """Warnings of aligned agents whose messages were made from different examples."""
    lags = _lags(scenario)
    for name, agent in scenario.agents.items():
        age_by_channel = {c.name: lags[c.sender] + c.link.delay for c in scenario.inputs_of(name)}
        if agent.align and len(set(age_by_channel.values())) > 1:
            ages = ", ".join(f"{channel} {steps}" for channel, steps in age_by_channel.items())
            yield Finding("agent", name, f"is aligned, but its messages are of different steps ({ages} old)")


def _one_object(scenario: Scenario, env: Description) -> Iterator[Finding]:
    """Warnings of parameters that are one object in the networks of several agents, which torch would train as one."""
    names_by_parameter: dict[int, dict[str, str]] = {}
    for name, agent in scenario.agents.items():
        if hasattr(agent.network, "named_parameters") and not isinstance(agent.network, type):
            for key, parameter in agent.network.named_parameters():
                if parameter.requires_grad:
                    names_by_parameter.setdefault(id(parameter), {})[name] = f"{name}.module.{key}"
    tied = [set(group) for group in scenario.share]
    for agents in names_by_parameter.values():
        shares, names = {scenario.agents[name].share for name in agents}, set(agents.values())
        if (
            len(agents) > 1
            and (None in shares or len(shares) > 1)
            and not any(names <= group for group in tied)
        ):
            yield from about(
                "agent",
                agents,
                f"their networks have parameters in common, of which each agent trains a copy; to "
                f"train them as one, write share: [[{', '.join(agents.values())}], …], or else give each agent its own module",
            )
            return


def _lags(scenario: Scenario) -> dict[str, int]:
    """Age in steps of the example that each agent works on: the delays along the channels that agents are aligned to, of a
    cycle as many as there are agents.
    """
    before, lags = {name: name for name in scenario.agents}, dict.fromkeys(scenario.agents, 0)
    for name, agent in scenario.agents.items():
        inputs = scenario.inputs_of(name)
        if agent.align and inputs:
            chosen = next((c for c in inputs if c.name == agent.align), inputs[0])
            before[name], lags[name] = chosen.sender, chosen.link.delay
    total_lags, at, hops = dict.fromkeys(scenario.agents, 0), {name: name for name in before}, len(before)
    while hops:  # `before` and `lags` are of 1, 2, 4, … channels
        if hops % 2:
            total_lags = {name: lag + lags[at[name]] for name, lag in total_lags.items()}
            at = {name: before[end] for name, end in at.items()}
        lags = {name: lag + lags[before[name]] for name, lag in lags.items()}
        before = {name: before[end] for name, end in before.items()}
        hops //= 2
    return total_lags


def _waiting_for_each_other(scenario: Scenario, env: Description) -> Iterator[Finding]:
    """Warnings of cycles of delayed channels: each gradient waits for the next one, so none ever comes."""
    group_of = scenario.relations.learning
    graph: nx.DiGraph[tuple[str, ...]] = nx.DiGraph()
    for channel in scenario.channels:
        if not channel.coupling.waits:
            continue
        ends = group_of[channel.sender], group_of[channel.receiver]
        if ends[0] == ends[1]:
            yield Finding(
                "channel",
                channel.name,
                "is delayed within a learning group, and returns nothing; make it locked",
            )
        else:
            graph.add_edge(*ends)
    for component in nx.strongly_connected_components(graph):
        if len(component) > 1:
            names = sorted(name for members in component for name in members)
            yield from about(
                "agent", names, "wait for each other's gradients over delayed channels, and never learn"
            )


_RULES: Mapping[Callable[[Scenario, Description], Iterable[Finding]], Sequence[str]] = {
    _late: ("channels.link.delay",),
    _over: ("channels.link.delay",),
    _lost_credit: ("channels.coupling",),
    _never_back: ("channels.coupling",),
    _mixed: ("channels.link.delay",),
    _seldom_learning: (),
    _sparing: ("agents.acts",),
    _unmasked: ("agents.acts",),
    _unobserved: ("agents.acts",),
    _untaken: ("agents.acts",),
    _few_turns: ("agents.acts",),
    _in_step: (),
    _one_object: (),
    _weak_signals: (),
    _begins_shut: (),
    _long_steps: (),
    _wide: (),
    _one_class: (),
    _waiting_for_each_other: ("channels.coupling",),
    warn_10_kickback: ("channels.feedback",),
    warn_27_given_up: ("channels.coupling",),
}
"""Warnings by the scenario and the description of its environment, each with the settings of which it speaks (`speaking`)."""

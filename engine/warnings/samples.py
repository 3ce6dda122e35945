"""Warnings from a few observations of an environment: numbers of wild sizes, and tied agents that observe the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

import gymnasium
import torch
from torch import Tensor

from antiphon.base.call_errors import call_error
from antiphon.base.errors import AntiphonError
from antiphon.base.extensions import name_of
from antiphon.engine.heart.agent import AGE
from antiphon.engine.warnings.missing_targets import is_own_data
from antiphon.envs.registry import ids, make
from antiphon.envs.signal import ID, Description
from antiphon.nets.isolation.global_numbers import seeded_globally
from antiphon.scenarios import Scenario
from antiphon.scenarios.agent_specs import AgentSpec, Observing
from antiphon.scenarios.env_spec import EnvSpec
from antiphon.scenarios.scenario_warnings import Finding, about

_LARGE, _SMALL = 100.0, 1e-3
"""Sizes of the largest number of an observation, root mean square, beyond which it is warned of."""
_RATIO = 1e3
"""Ratio of the sizes of the largest and the smallest number that a network observes, beyond which it is warned of."""
_STEPS, _ROWS = 8, 2

Samples = Mapping[str, Tensor]
"""By signal, a few observations, [samples, components]."""


def of_samples(scenario: Scenario, env: Description, *, acts: bool) -> list[Finding]:
    """Return the warnings.

    Args:
        acts: Whether a few steps with random actions are taken, beside a reset.
    """
    samples, masks = _samples(scenario, acts=acts)
    return [
        *_wild(scenario, env, samples),
        *_alike(scenario, env, samples),
        *_unread(scenario, env, masks),
    ]


def _samples(scenario: Scenario, *, acts: bool) -> tuple[Samples, Sequence[str]]:
    """Observations of an environment made for them alone; of a Python object only where it holds data, and of no task of
    antiphon's own.

    What the environment samples from global generators is of a seed, and they are as before afterwards.

    Returns:
        They, and the masks of choices that are in `info` alone.
    """
    spec = scenario.env
    task = isinstance(spec, EnvSpec) and spec.id in ids() and spec.id.startswith("antiphon/")
    if not is_own_data(spec) and (task or not isinstance(spec, EnvSpec)):
        return {}, ()
    observers = [observer for agent in scenario.agents.values() for _, observer in _observers(agent)]
    names = {name for observer in observers for name in observer.observes if name != AGE}
    values_by_signal: dict[str, list[Tensor]] = {name: [] for name in names}
    try:
        with seeded_globally(0), closing(make(spec, batch=_ROWS)) as env:
            env.request(names)
            shown, info = env.reset(seed=0)
            masks = env.masks_in_info
            for step in range(_STEPS if acts else 1):
                if step:
                    shown, *_, info = env.step(None)
                for name in names:
                    value = shown.get(name, info.get(name))
                    if value is not None:
                        values_by_signal[name].append(value.double().reshape(len(value), -1).cpu())
    except Exception as error:
        if isinstance(error, AntiphonError) or call_error(
            error, "env"
        ):  # the run tells what is wrong with it
            return {}, ()
        raise
    return {name: torch.cat(values) for name, values in values_by_signal.items() if values}, masks


def _wild(scenario: Scenario, env: Description, samples: Samples) -> Iterator[Finding]:
    """Warnings of observations whose numbers are far from 1, or whose sizes differ much, by what was seen of them, else by their
    bounds."""
    agents: dict[str, list[str]] = {}
    for name, agent in scenario.agents.items():
        for prefix, observer in _observers(agent):
            for line in _wild_of(observer, prefix, env, samples):
                agents.setdefault(line, []).append(name)
    for line, names in agents.items():
        yield from about("agent", names, line)


def _observers(agent: AgentSpec) -> Iterator[tuple[str, Observing]]:
    """An agent and its critic, each with what stands before its `observes` in a document."""
    yield "", agent
    for goal in agent.objectives.values():
        if goal.critic is not None:
            yield "objective.critic.", goal.critic


def _wild_of(observer: Observing, prefix: str, env: Description, samples: Samples) -> Iterator[str]:
    sizes: dict[str, tuple[float, float]] = {}
    goals = observer.objectives.values() if isinstance(observer, AgentSpec) else ()
    as_they_are = {observer.observes[number] for number in observer.normalised} | {
        goal.mask for goal in goals
    }
    for observed in observer.observes:
        signal = env.signals.get(observed)
        if signal is not None and signal.classes is None and observed not in as_they_are:
            size = _sizes(samples[observed]) if observed in samples else _bound(env, observed)
            if size is not None:
                sizes[observed] = size if len(signal.shape) < 2 else (size[1], size[1])
    most = max((large for _, large in sizes.values()), default=0.0)
    for observed, (small, large) in sizes.items():
        problem = None
        if not _SMALL <= large <= _LARGE:
            problem = f"has numbers of about {large:.2g}, far from 1"
        elif most <= _LARGE and most > _RATIO * small:
            problem = f"has numbers of about {small:.2g} beside others of about {most:.2g}"
        if problem is not None:
            fix = f"write {prefix}observes: {{{observed}: {{normalise: true}}}}"
            yield f"'{observed}' {problem}, which networks learn from badly; {fix}"


def _sizes(values: Tensor) -> tuple[float, float] | None:
    """The sizes of the smallest and the largest component, where they are not zero; None: all are zero.

    Of a single step the smallest is not known: components such as velocities begin near zero.
    """
    shown = (values != 0) & values.isfinite()
    squares = values.where(shown, torch.zeros_like(values)).square().sum(0)
    sizes = (squares / shown.sum(0).clamp(min=1)).sqrt()[shown.any(0)]
    if not len(sizes):
        return None
    large = float(sizes.max())
    return float(sizes.min()) if len(values) > _ROWS else large, large


def _bound(env: Description, name: str) -> tuple[float, float] | None:
    """The larger bound of a signal, as smallest and largest size; None: it has none."""
    bounds = [abs(bound) for bound in (env.signals[name].low, env.signals[name].high) if bound is not None]
    size = max(bounds, default=0.0)
    return (size, size) if 0 < size < 1e10 else None


def _alike(scenario: Scenario, env: Description, samples: Samples) -> Iterator[Finding]:
    """Warnings of tied agents that observe the same and read nothing else: they do the same."""
    groups: dict[str, list[str]] = {}
    for name, agent in scenario.agents.items():
        if agent.share is not None and agent.observes and not scenario.inputs_of(name):
            groups.setdefault(agent.share, []).append(name)
    for share, names in groups.items():
        views = [[samples.get(observed) for observed in scenario.agents[name].observes] for name in names]
        all_sampled = all(values is not None for view in views for values in view)
        same = len({scenario.agents[name].observes for name in names}) == 1
        if len(names) > 1 and (same or (all_sampled and all(_equal(views[0], view) for view in views[1:]))):
            number = next((f", such as {name}" for name in env.signals if name.startswith(f"{ID}.")), "")
            yield from about(
                "agent",
                names,
                f"share parameters ({share}) and observe the same, so that they do the same; let each "
                f"observe something of its own{number}",
            )


def _unread(scenario: Scenario, env: Description, masks: Sequence[str]) -> Iterator[Finding]:
    """Warnings of policies whose environment returns a mask of their choices where nothing reads it."""
    for name, agent in scenario.agents.items():
        if agent.acts is True and isinstance(env.action_space, gymnasium.spaces.Dict):
            continue  # one mask of several parts is refused
        goal, part = agent.objective, f"{agent.acts}." if isinstance(agent.acts, str) else ""
        mask = next((mask for mask in masks if mask.startswith(part)), None)
        if agent.acts and goal is not None and goal.needs_rewards and goal.mask is None and mask is not None:
            line = f"the environment has '{mask}' in info, which is not read, and the policy may choose what is not legal"
            fix = f"return it in the observation too, by a wrapper, and write objective: {{kind: {name_of(goal.kind)}, mask: {mask}}}"
            yield Finding("agent", name, f"{line}; {fix}")


def _equal(first: list[Tensor | None], second: list[Tensor | None]) -> bool:
    pairs = zip(first, second, strict=False)
    return len(first) == len(second) and all(
        a is not None and b is not None and a.shape == b.shape and torch.equal(a, b) for a, b in pairs
    )

"""Warnings of the user's own data whose numbers are not what their place takes: bytes that are no pictures, targets that are no bits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import closing
from typing import Any

from antiphon.base.errors import AntiphonError
from antiphon.engine.warnings.missing_targets import is_own_data
from antiphon.envs.registry import make
from antiphon.envs.signal import Description
from antiphon.envs.stream import ExampleStream
from antiphon.scenarios import Scenario
from antiphon.scenarios.scenario_warnings import Finding, about

_AT_ONCE = 4096
"""Examples whose range is read at once."""
_WHITE = 255
_BITS = 1.5 / _WHITE
"""Above the largest of bytes of zeros and ones, as these enter: 1 / 255."""


def of_ranges(scenario: Scenario, env: Description) -> list[Finding]:
    """Return a line about each signal of data in memory that is bytes of 0 and 1, and each float target of bits that is no bits."""
    observers: dict[str, list[str]] = {}
    coders: dict[str, list[str]] = {}
    for name, agent in scenario.agents.items():
        targets = {
            goal.target: goal.codes_bits for goal in agent.objectives.values() if goal.target is not None
        }
        for signal in dict.fromkeys((*agent.observes, *targets)):
            observers.setdefault(signal, []).append(name)
            if targets.get(signal):
                coders.setdefault(signal, []).append(name)
    floats = {name for name, signal in env.signals.items() if signal.classes is None and name in observers}
    pictures = {name for name in floats if (env.signals[name].low, env.signals[name].high) == (0, 1)}
    ranges = _ranges(scenario.env, pictures, (floats & coders.keys()) - pictures)
    warnings: list[Finding] = []
    for name, (low, high) in ranges.items():
        if name in pictures and 0 < high < _BITS:
            warnings += about(
                "agent",
                observers[name],
                f"'{name}' has bytes of 0 and 1, which enter as 0 and 1/{_WHITE}, as pictures do; "
                f"pass it as bool for zeros and ones, or as classes={{'{name}': 2}}",
            )
        elif name not in pictures and (low < 0 or high > 1):
            warnings += about(
                "agent",
                coders[name],
                f"the target '{name}' has numbers from {low:.3g} to {high:.3g}, and this objective codes "
                "zeros and ones, or what lies between; scale the target, or use regression",
            )
    return warnings


def _ranges(
    spec: Any, pictures: Collection[str], targets: Collection[str]
) -> Mapping[str, tuple[float, float]]:
    """Return the least and the largest value of the train split's targets, and of its pictures as far as they are dark."""
    ranges: dict[str, tuple[float, float]] = {}
    if not (pictures or targets) or not is_own_data(spec):
        return ranges
    names = {*pictures, *targets}
    try:
        with closing(make(spec, batch=1)) as env:
            if not isinstance(env, ExampleStream):
                return ranges
            env.request(names)
            for examples in env.batches("train", _AT_ONCE):
                for name in names:
                    low, high = (float(end) for end in examples[name].aminmax())
                    least, most = ranges.get(name, (low, high))
                    ranges[name] = min(low, least), max(high, most)
                names -= {name for name in pictures if name in ranges and ranges[name][1] > _BITS}
                if not names:
                    break
    except AntiphonError:  # the run tells what is wrong with it
        return {}
    return ranges

"""Keys that documents of earlier versions have, and what is written instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["moved_key", "new_name"]


def _advanced(keys: Mapping[str, Any]) -> str:
    given = keys["advanced"] if isinstance(keys["advanced"], Mapping) else ("on_divergence", "sweep")
    return f"write its keys in training itself: {', '.join(f'{key}: …' for key in given)}"


def _apply(keys: Mapping[str, Any]) -> str:
    if keys["apply"] is True:
        return "leave it out"
    return "write scale: 0 and discount: 0 for a predictor that is trained and not applied"


def _deviation(keys: Mapping[str, Any]) -> str:
    return "write noise" if "kind" in keys else "write kind: gaussian, noise: …"


def _known_to(keys: Mapping[str, Any]) -> str:
    given = keys["known_to"] if isinstance(keys["known_to"], Mapping) else {"SIGNAL": "adjacent"}
    return f"write split: {{{', '.join(f'{signal}: {who}' for signal, who in given.items())}}}"


def _symbols(keys: Mapping[str, Any]) -> str:
    """Return the line with the same values, as far as they are given."""
    old = keys["symbols"] if isinstance(keys["symbols"], Mapping) else {}
    new = {"kind": old.get("by", "gumbel"), "vocabulary": old.get("vocabulary", "…")}
    if "length" in old:
        new["size"] = old["length"]
    return f"write sample: {{{', '.join(f'{key}: {value}' for key, value in new.items())}}}"


def _type(keys: Mapping[str, Any]) -> str:
    default = keys.get("default")
    if keys["type"] == "float" and isinstance(default, int):
        return f"leave it out, and write default: {default}.0, which accepts any number"
    return "leave it out; values are of the type of the default, such as 1, 1.0 or word"


_OPTIONS = "write its keys beside kind"
_SPLIT = "write channel: {split: …}"
_RENAMED: Mapping[str, Mapping[str, str]] = {
    "AgentSpec": {"weights": "parameters"},
    "ChannelSpec": {"staleness": "horizon"},
    "DivergenceSpec": {"bound": "max"},
    "GoalSpec": {"signal": "observes"},
    "GradientSpec": {"filter": "size", "head": "network", "span": "horizon"},
    "GraphSpec": {"branching": "neighbours", "readouts": "readout", "rewire": "rate"},
    "NetworkSpec": {"encoder": "hidden", "filter": "size", "leak": "rate"},
    "ObjectiveSpec": {"weight": "scale", "when": "read"},
    "ParameterSpec": {"also": "choices", "help": "description"},
    "RecorderSpec": {"experiment": "project"},
    "SampleSpec": {"by": "kind", "length": "size"},
    "Scenario": {"tied": "share"},
    "ScheduleSpec": {"factor": "scale"},
    "TelemetrySpec": {"top": "max"},
}
"""By the spec of a section and the old key the new one."""
_REWRITTEN: Mapping[str, Mapping[str, str | Callable[[Mapping[str, Any]], str]]] = {
    "AgentSpec": {"objectives": "write objective: […]", "p_update": "write the probability as learn"},
    "ChannelSpec": {
        "carries": "write key: state on a state channel, and leave it out elsewhere",
        "symbols": _symbols,
    },
    "EnvSpec": {"gymnasium": "write id: gymnasium/ID", "pettingzoo": "write id: pettingzoo/MODULE"},
    "FanInSpec": {"options": _OPTIONS},
    "GradientSpec": {"apply": _apply, "options": _OPTIONS},
    "GraphSpec": {"known_to": _known_to, "prefix": "leave it out; names of generated agents begin with n"},
    "InputSpec": {"options": _OPTIONS},
    "LinkSpec": {"back": "write link: {delay: [there, back]}"},
    "NetworkSpec": {"options": _OPTIONS},
    "ObjectiveSpec": {"options": _OPTIONS},
    "OptimiserSpec": {"options": _OPTIONS},
    "ParameterSpec": {"type": _type},
    "RecorderSpec": {"options": _OPTIONS},
    "SampleSpec": {"deviation": _deviation},
    "Scenario": {
        "blind_channel": _SPLIT,
        "dealt_agents": "write agent: {deal: […]}",
        "first_agent": "write agent: {first: …}",
        "readout_agent": "write agent: {readout: …}",
        "split_channel": _SPLIT,
    },
    "ScheduleSpec": {"options": _OPTIONS},
    "TrainingSpec": {
        "advanced": _advanced,
        "bound": "write on_divergence: {max: …}",
        "keep_best": "write evaluate: {period: …, keep_best: METRIC}",
        "stop": "write evaluate: {period: …, patience: {METRIC: N}}",
        "window_limit": "leave it out; windows may have up to 65,536 steps",
    },
}
"""By the spec of a section and the old key what is to be done, where it is more than another name."""


def new_name(section: str, key: str) -> str | None:
    """Return the name that a section has instead of a key of earlier versions; None: it has no other name.

    Args:
        section: The name of the section's spec.
        key: The key.
    """
    return _RENAMED.get(section, {}).get(key)


def moved_key(section: str, key: str, keys: Mapping[str, Any]) -> str | None:
    """Return the line about a key that a section had in earlier versions; None: it had no such key.

    Args:
        section: The name of the section's spec.
        key: The key, which the section does not have.
        keys: The section, whose other keys and values the fix may depend on.
    """
    new = new_name(section, key)
    fix = f"write {new}" if new else _REWRITTEN.get(section, {}).get(key)
    if callable(fix):
        fix = fix(keys)
    return None if fix is None else f"is no longer a key; {fix}"

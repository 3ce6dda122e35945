"""Small documents, and the one line with which one is refused."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from antiphon.base.errors import ScenarioError
from antiphon.scenarios import Scenario

OBJECTIVE = {"kind": "classification", "target": "label"}
PLAIN: Mapping[str, dict[str, Any]] = {"a": {"observes": ["image"]}, "b": {"objective": OBJECTIVE}}


def built(
    plain: Mapping[str, dict[str, Any]],
    changes: Mapping[str, dict[str, Any]],
    channels: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """A document of `plain` agents with other or further keys, and of channels."""
    names = {**plain, **changes}
    agents = {name: {**plain.get(name, {}), **changes.get(name, {})} for name in names}
    env = {"id": "antiphon/Digits-v0"}
    return {"scenario": "small", "env": env, "agents": agents, "channels": list(channels)}


def document(**changes: Any) -> dict[str, Any]:
    """A small valid document (a -> b), with some keys changed."""
    return built(PLAIN, {}, [{"from": "a", "to": "b"}]) | changes


def agents(**changes: dict[str, Any]) -> dict[str, Any]:
    """A document whose agents have other or further keys."""
    return built(PLAIN, changes, [{"from": "a", "to": "b"}])


def channels(*specs: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A document with these channels; a and b are the ends where none are given."""
    return built(PLAIN, {}, [{"from": "a", "to": "b", **spec} for spec in specs]) | more


def recurrent(*channels: dict[str, Any], **agents: dict[str, Any]) -> dict[str, Any]:
    """A document of a -> b, both recurrent, with more channels: from a to itself unless they say otherwise."""
    plain: dict[str, Any] = {
        "a": {"observes": ["image"], "network": "lstm"},
        "b": {"network": "gru", "objective": OBJECTIVE},
    }
    own = ({"from": "a", "to": "a", **channel} for channel in channels)
    return built(plain, agents, [{"from": "a", "to": "b"}, *own])


def state(**keys: Any) -> dict[str, Any]:
    return {"key": "state", **keys}


def changed(data: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """The document with another value at a place like `channels[0].link.delay`."""
    keys = re.split(r"[.\[\]]+", place.removesuffix("]"))
    *parents, last = [int(key) if key.isdigit() else key for key in keys]
    part: Any = (data := copy.deepcopy(data))
    for key in parents:
        part = part[key] if isinstance(part, list) else part.setdefault(key, {})
    part[last] = value
    return data


def refused(data: Any) -> str:
    """The line with which a document is refused."""
    with pytest.raises(ScenarioError) as caught:
        Scenario.model_validate(data)
    line = str(caught.value)
    assert "\n" not in line
    return line


def network(inputs: int, outputs: int) -> None:
    """Stands for a factory."""

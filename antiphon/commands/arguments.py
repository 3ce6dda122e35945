"""Parsing of command-line arguments: values and parts."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any

from antiphon.base.errors import ScenarioError
from antiphon.base.nearest_names import suggest
from antiphon.base.problems import show_value
from antiphon.distributed.settings import PartsSettings
from antiphon.scenarios.yaml_text import read


def values_of(settings: Iterable[str]) -> dict[str, Any]:
    """Read the `name=value` of `--set`; values are YAML."""
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise ScenarioError(
                f"--set {show_value(setting)}: must be name=value, for example --set width=64"
            )
        data = read(f"value: {text}", f"--set '{setting}'").data
        if data.keys() != {"value"}:
            raise ScenarioError(f"--set '{setting}': the value must be one YAML value")
        values[name.strip()] = data["value"]
    return values


def division_of(parts: Sequence[str], agents: Iterable[str]) -> int | dict[str, int]:
    """Read `--parts`: a number of parts, or `AGENT=PART` of each agent, where `*` stands for any characters and the last entry counts."""
    if len(parts) == 1 and parts[0].isdecimal() and int(parts[0]):
        return int(parts[0])
    names, placement = list(agents), dict[str, int]()
    for entry in parts:
        pattern, _, part = entry.rpartition("=")
        matching = fnmatch.filter(names, pattern)
        if not pattern or not part.isdecimal():
            raise ScenarioError(f"--parts {entry}: must be a number of parts, or AGENT=PART, as {names[0]}=0")
        if not matching:
            raise ScenarioError(f"--parts {entry}: no agent '{pattern}'{suggest(pattern, names)}")
        placement |= dict.fromkeys(matching, int(part))
    if missing := [name for name in names if name not in placement]:
        raise ScenarioError(
            f"--parts: agent '{missing[0]}' has no part; start with --parts '*=0' for all others"
        )
    return placement


def parts_of(
    parts: Sequence[str] | None,
    agents: Iterable[str],
    ray: str | None,
    cluster: str | None = None,
    before: PartsSettings | None = None,
) -> PartsSettings | None:
    """Return the settings of a run in parts; None: as it was run, or of a new one without parts.

    Args:
        parts: The entries of `--parts`.
        before: Of the run that is resumed. Where `--parts` is given, all else is as of a new run.
    """
    if not parts and before is not None:
        return None if ray is None else PartsSettings(**dict(before) | {"ray": ray})
    settings: dict[str, Any] = {"ray": ray, "cluster": cluster}
    if parts:
        division = division_of(parts, agents)
        settings["count" if isinstance(division, int) else "placement"] = division
    return PartsSettings(**settings) if any(value is not None for value in settings.values()) else None

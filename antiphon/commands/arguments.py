"""Parsing of command-line arguments: values and parts."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from antiphon.base.errors import ScenarioError
from antiphon.base.nearest_names import suggest
from antiphon.base.problems import show_value
from antiphon.distributed.settings import PartsSettings
from antiphon.distributed.virtual.profile import find_profile
from antiphon.scenarios.yaml_text import read, read_file

_PART = re.compile(r"[0-9]{1,9}")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NUMBERS = re.compile(r"[0-9]+(,[0-9]+)+")
_MOST_DIGITS = 18


def values_of(settings: Iterable[str]) -> dict[str, Any]:
    """Read the `name=value` of `--set`; values are YAML."""
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise ScenarioError(
                f"--set {show_value(setting)}: must be name=value, for example --set width=64"
            )
        name = name.strip()
        if name in values:
            raise ScenarioError(f"--set '{setting}': '{name}' is set twice; keep one")
        data = read(f"value: {text}", f"--set '{setting}'").data
        if data.keys() != {"value"}:
            raise ScenarioError(f"--set '{setting}': the value must be one YAML value")
        values[name] = data["value"]
    return values


def placement_of(entries: Iterable[str], agents: Iterable[str]) -> dict[str, int]:
    """Read the agents' parts of `--parts`: `AGENT=PART`, where `*` stands for any characters, or a YAML file of `AGENT: PART`.

    Of several entries that match an agent the last counts.
    """
    agents = list(agents)
    one_each = "one AGENT=PART each time, as " + " ".join(
        f"--parts {a}={n}" for n, a in enumerate(agents[:2])
    )
    placement = dict[str, int | None].fromkeys(agents)
    for entry in entries:
        if _NUMBERS.fullmatch(entry):
            raise ScenarioError(f"--parts {entry}: {one_each}")
        pattern, equals, number = entry.rpartition("=")
        parts_by_pattern: Mapping[str, object] = {pattern: number} if equals else _placement_file(entry)
        for name, part in parts_by_pattern.items():
            pattern = name.strip()
            if not _PART.fullmatch(str(part)):
                raise ScenarioError(
                    f"--parts {entry}: the part of '{name}' is {show_value(part)}; parts are numbered from 0, for example "
                    f"--parts {agents[0]}=0"
                )
            matching = [pattern] if pattern in placement else fnmatch.filter(agents, pattern)
            if not matching and "," in name:
                raise ScenarioError(f"--parts {entry}: {one_each}")
            if not matching:
                raise ScenarioError(f"--parts {entry}: no agent '{name}'{suggest(name, agents)}")
            placement |= dict.fromkeys(matching, int(str(part)))
    missing = [agent for agent, part in placement.items() if part is None]
    if missing:
        rest = f" and {len(missing) - 1} more have" if len(missing) > 1 else " has"
        raise ScenarioError(
            f"--parts: agent '{missing[0]}'{rest} no part; start with --parts '*=0' for all others"
        )
    return {agent: part for agent, part in placement.items() if part is not None}


def _placement_file(path: str) -> Mapping[str, object]:
    if not path.strip():
        raise ScenarioError("--parts '': is empty; give a number, AGENT=PART or a YAML file")
    try:
        text = read_file(Path(path))
    except ScenarioError as error:
        reason = str(error).removeprefix(f"{path}: ").partition("; ")[0]
        raise ScenarioError(
            f"--parts {path}: must be a number, AGENT=PART or a readable YAML file ({reason})"
        ) from None
    return read(text, path).data


def division_of(parts: Sequence[str], agents: Iterable[str]) -> int | dict[str, int] | None:
    """Read `--parts`: a number of parts, or the part of each agent (`placement_of`); None: it was not given."""
    number = next((entry for entry in parts if _NUMBER.fullmatch(entry)), None)
    if number is None:
        return placement_of(parts, agents) if parts else None
    if len(parts) > 1:
        raise ScenarioError(f"--parts {number}: a number of parts must be alone; leave out the other --parts")
    digits = number.lstrip("+-")
    if not digits.isdecimal():
        raise ScenarioError(
            f"--parts: must be a whole number, not {number}; give how many parts share the agents, such as 2"
        )
    if len(digits) > _MOST_DIGITS:
        raise ScenarioError(f"--parts: has {len(digits):,} digits; use at most the number of agents")
    if int(number) < 1:
        raise ScenarioError(f"--parts: must be at least 1, not {number}")
    return int(number)


def parts_of(
    parts: Sequence[str] | None,
    agents: Iterable[str],
    ray: str | None,
    before: PartsSettings | None = None,
) -> PartsSettings | None:
    """Return the settings of a run in parts; None: as it was run, or of a new one without parts.

    Args:
        parts: The entries of `--parts`.
        before: Of the run that is resumed. Where `--parts` is given, all else is as of a new run.
    """
    if divided := _divided(parts, agents):
        return PartsSettings(**divided, ray=ray)
    if ray is None:
        return None
    if before is None:
        raise ScenarioError("--ray: has no effect without parts; add --parts N")
    return replace(before, ray=ray)


def cluster_of(
    cluster: str, parts: Sequence[str] | None, agents: Iterable[str], backend: str, ray: str | None
) -> PartsSettings:
    """Return the settings of a run in virtual time; for the arguments, see `parts_of`."""
    if backend != "cohort":
        raise ScenarioError(f"--backend {backend}: has no effect in virtual time; leave it out")
    if ray is not None:
        raise ScenarioError("--ray: has no effect in virtual time; leave it out")
    return PartsSettings(cluster=find_profile(cluster), **_divided(parts, agents))


def _divided(parts: Sequence[str] | None, agents: Iterable[str]) -> dict[str, Any]:
    """Return `--parts` as a setting of `PartsSettings`; nothing where it was not given."""
    division = division_of(parts or (), agents)
    if division is None:
        return {}
    return {"count" if isinstance(division, int) else "placement": division}

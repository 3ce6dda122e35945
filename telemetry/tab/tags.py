"""Tags of the Channels tab's data in event files."""

from __future__ import annotations

import re
from functools import cache
from typing import Literal, TypeAlias, cast, get_args

from antiphon.telemetry.metrics import tag_part

PLUGIN = "antiphon"
"""The plugin's name in the metadata of its values."""
FORMAT = 2
"""Version of the tab's data."""
GRAPH = "antiphon/graph"
"""A string: the graph as JSON, by every session."""
TIMELINE = "antiphon/timeline"
"""A string: the timeline of the first steps as JSON, once."""
PARTS = "antiphon/parts"
"""A string: the machines of the parts of a run in parts as JSON, whenever they change."""

Family: TypeAlias = Literal["agent", "channel", "part"]
"""Family of an array of values: one per agent, one per channel, one per part of a run in parts, or a single one of the run."""


@cache
def metric_tag(family: Family, metric: str) -> str:
    """Return the tag of a metric: float32 [agents], [channels] or [parts] per log entry, nan without a value."""
    return f"antiphon/{family}/{tag_part(metric)}"


def messages_tag(channel: int) -> str:
    """Return the tag of a channel's messages: float32 [samples, size + 1] per log entry, the label last."""
    return f"antiphon/messages/{channel}"


def parsed(tag: str) -> tuple[Family, str] | int | None:
    """Parse a tag: (family, metric), the number of a channel for messages, or None for anything else."""
    parts = tag.split("/")
    if len(parts) != 3 or parts[0] != PLUGIN:
        return None
    if parts[1] in get_args(Family) and parts[2]:
        return cast(Family, parts[1]), parts[2]
    numbered = parts[1] == "messages" and re.fullmatch("[0-9]{1,9}", parts[2])
    return int(parts[2]) if numbered else None

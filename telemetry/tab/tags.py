"""Tags of the Channels tab's data in event files."""

from __future__ import annotations

import re
from functools import cache
from typing import Literal, TypeAlias, cast, get_args

from antiphon.telemetry.names import tag_part

PLUGIN = "antiphon"
"""The plugin's name in the metadata of its values."""
FORMAT = 1
"""Version of the tab's data."""
GRAPH = "antiphon/graph"
"""A string: the graph as JSON, by every session."""
TIMELINE = "antiphon/timeline"
"""A string: the timeline of the first steps as JSON, once."""
PARTS = "antiphon/parts"
"""A string: the machines of the parts of a run in parts as JSON, whenever they change."""
MEASURING = "antiphon/measuring"
"""A string: how far a measurement of values is as JSON, every few seconds while it goes on."""

UNDEFINED = "antiphon/undefined/"
"""Beginning of the tags of strings, by measure of worth: why channels have no result, as JSON, by every measurement."""
MESSAGES = "antiphon/messages/"
"""Beginning of the tags of messages."""

Family: TypeAlias = Literal["agent", "channel", "part", "run"]
"""Family of an array of values: one per agent, one per channel, one per part of a run in parts, or a single one of the run."""

VERDICTS = ("verdict", "channel")
"""Key of the verdicts on channels among a run's metrics; they follow from other metrics, and are not written."""
MEAN = "mean"
"""Family of the means of `MEANS` over their newest log entries, which are not written either: of all channels the means, then half of
their intervals, then the numbers of entries."""
SEEDS = "seeds"
"""Family of what the seeds find of channels by a measure of worth, each by itself (`telemetry/tab/seeds.py`): of all channels how many of
their intervals lie above 0, then below, then around it."""
HEADLINE = "headline"
"""Family of the scores of a run (`headline_series`): the mean, half of its interval over seeds, and of how many seeds it is."""
REASONS = ("verdict", "reasons")
"""Key of the remarks on channels, of conclusions, and of the hints at causes; neither are they written."""
LOST_SIGNALS = ("verdict", "signals")
"""Key of the medians of a run's signals, and whether they follow the returned gradients (`lost_signals`); neither are they written."""


@cache
def metric_tag(family: Family, metric: str) -> str:
    """Return the tag of a metric: float32 [agents], [channels] or [parts] per log entry, nan without a value."""
    return f"antiphon/{family}/{tag_part(metric)}"


def messages_tag(channel: int) -> str:
    """Return the tag of a channel's messages: float32 [samples, size + 1] per log entry, the label last."""
    return f"{MESSAGES}{channel}"


def parsed(tag: str) -> tuple[Family, str] | int | None:
    """Parse a tag: (family, metric), the number of a channel for messages, or None for anything else."""
    parts = tag.split("/")
    if len(parts) != 3 or parts[0] != PLUGIN:
        return None
    if parts[1] in get_args(Family) and parts[2]:
        return cast(Family, parts[1]), parts[2]
    numbered = parts[1] == "messages" and re.fullmatch("[0-9]{1,9}", parts[2])
    return int(parts[2]) if numbered else None

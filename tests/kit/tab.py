"""What the Channels tab is made of, for tests that write its data: where each part lies is said here alone."""

from __future__ import annotations

from antiphon.telemetry.tab.channels_writer import ChannelsWriter
from antiphon.telemetry.tab.documents import graph_document
from antiphon.telemetry.tab.loader import ChannelsLoader
from antiphon.telemetry.tab.series import cloud
from antiphon.telemetry.tab.tags import FORMAT, GRAPH, PARTS, PLUGIN, TIMELINE

__all__ = [
    "FORMAT",
    "GRAPH",
    "PARTS",
    "PLUGIN",
    "TIMELINE",
    "ChannelsLoader",
    "ChannelsWriter",
    "cloud",
    "graph_document",
]

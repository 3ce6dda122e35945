"""What the Channels tab is made of, for tests that write its data or a page of it: where each part lies is said here alone."""

from __future__ import annotations

from antiphon.telemetry.channels.documents import graph_document, lineage_document
from antiphon.telemetry.channels.loader import ChannelsLoader
from antiphon.telemetry.channels.page import page
from antiphon.telemetry.channels.recorder import ChannelsWriter
from antiphon.telemetry.channels.series import cloud
from antiphon.telemetry.channels.tags import GRAPH, PARTS, PLUGIN, TIMELINE, VERDICTS
from antiphon.telemetry.channels.verdict_series import with_verdicts

__all__ = [
    "GRAPH",
    "PARTS",
    "PLUGIN",
    "TIMELINE",
    "VERDICTS",
    "ChannelsLoader",
    "ChannelsWriter",
    "cloud",
    "graph_document",
    "lineage_document",
    "page",
    "with_verdicts",
]

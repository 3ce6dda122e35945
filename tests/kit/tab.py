"""What the Channels tab is made of, for tests that write its data or a page of it: where each part lies is said here alone."""

from __future__ import annotations

from antiphon.telemetry.tab.channels_writer import ChannelsWriter
from antiphon.telemetry.tab.documents import graph_document, lineage_document
from antiphon.telemetry.tab.loader import ChannelsLoader
from antiphon.telemetry.tab.page import page
from antiphon.telemetry.tab.seeds import run_over_seeds
from antiphon.telemetry.tab.series import cloud
from antiphon.telemetry.tab.tags import GRAPH, PARTS, PLUGIN, REASONS, TIMELINE, VERDICTS
from antiphon.telemetry.tab.verdict_series import with_verdicts

__all__ = [
    "GRAPH",
    "PARTS",
    "PLUGIN",
    "REASONS",
    "TIMELINE",
    "VERDICTS",
    "ChannelsLoader",
    "ChannelsWriter",
    "cloud",
    "graph_document",
    "lineage_document",
    "page",
    "run_over_seeds",
    "with_verdicts",
]

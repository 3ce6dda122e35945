"""Functions that the documents import from deep within the engine, for tests: where one lies is said here alone."""

from __future__ import annotations

from antiphon.engine.inference.links import Links
from antiphon.engine.metrics.timeline import timeline
from antiphon.engine.populations.population import Population
from antiphon.engine.probes.ablation import ABLATIONS, ablate
from antiphon.engine.probes.ceiling import ceilings
from antiphon.engine.probes.language import language
from antiphon.engine.probes.signal_alignment import signal_alignment
from antiphon.splitting.library import gpt, resnet

__all__ = [
    "ABLATIONS",
    "Links",
    "Population",
    "ablate",
    "ceilings",
    "gpt",
    "language",
    "resnet",
    "signal_alignment",
    "timeline",
]

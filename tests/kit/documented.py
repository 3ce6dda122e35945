"""Functions that the documents import from deep within the engine, for tests: where one lies is said here alone."""

from __future__ import annotations

from antiphon import Population
from antiphon.distributed.settings import PartsSettings
from antiphon.engine.inference.rollout_links import Links
from antiphon.engine.metrics.timeline import timeline
from antiphon.inspection.ablation import ABLATIONS, ablate, ablation_rows
from antiphon.inspection.language import language
from antiphon.splitting.split_scenarios import gpt, resnet

__all__ = [
    "ABLATIONS",
    "Links",
    "PartsSettings",
    "Population",
    "ablate",
    "ablation_rows",
    "gpt",
    "language",
    "resnet",
    "timeline",
]

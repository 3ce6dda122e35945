"""Metrics of studies by name: of the readouts (`accuracy`), of one agent (`A.accuracy`), of the environment (`solved`)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import PlainValidator

from antiphon.errors import suggest
from antiphon.scenarios.fields import FrozenMap, fail
from antiphon.scenarios.names import name_problem
from antiphon.scenarios.problems import DocumentError, kind_of, show_value

__all__ = [
    "OF_AGENTS",
    "OF_KIND",
    "OF_TRAINING",
    "Bounds",
    "Metrics",
    "is_of_env",
    "less_is_better",
    "on_validation",
    "split_metric",
]

OF_KIND = {"classification": ("accuracy", "error"), "regression": ("error",), "coding": ("bits",)}
"""The metrics of each kind of objective beside its loss, its own first."""
OF_TRAINING = ("train_loss", "excess_loss")
"""Metrics of the training split."""
OF_AGENTS = ("accuracy", "error", "bits", "loss")
"""Metrics of an agent with an objective, and of the readouts."""
_LESS = ("error", "bits", "loss", *OF_TRAINING)
"""Metrics of which less is better; of all others more is."""


def split_metric(metric: str) -> tuple[str | None, str]:
    """Split a metric into its agent (None: the readouts, or the environment) and its name."""
    agent, dot, what = metric.rpartition(".")
    return (agent, what) if dot else (None, what)


def is_of_env(metric: str) -> bool:
    """Whether a metric is the environment's."""
    agent, what = split_metric(metric)
    return agent is None and what not in (*OF_AGENTS, *OF_TRAINING)


def on_validation(metric: str) -> bool:
    """Whether a metric exists on the validation split: those of training and the environment do not."""
    return split_metric(metric)[1] in OF_AGENTS


def less_is_better(metric: str) -> bool:
    """Whether less of a metric is better."""
    return split_metric(metric)[1] in _LESS


def _metric(value: object) -> str:
    """Read a metric; an unknown name is the environment's, unless it is close to a known one."""
    if not isinstance(value, str):
        fail(f"must be a metric, not {kind_of(value)}")
    agent, what = split_metric(value)
    known = [*OF_AGENTS, *(OF_TRAINING if agent is None else ())]
    if agent is not None and (name_problem(agent) is not None or what not in known):
        fail(f"unknown metric {show_value(value)}; write AGENT.METRIC{suggest(what, known)}")
    if name_problem(what) is not None:
        fail(f"unknown metric {show_value(value)}{suggest(what, known)}")
    if what not in known and difflib.get_close_matches(what, known, n=1):
        fail(f"unknown metric {show_value(value)}{suggest(what, known)}")
    return value


def _metrics(value: object) -> tuple[str, ...]:
    """Read several metrics, or one."""
    listed = tuple(_metric(item) for item in (value if isinstance(value, list | tuple) else [value]))
    for index, metric in enumerate(listed):
        if metric in listed[:index]:
            fail(f"names {metric!r} twice")
        if metric in OF_TRAINING and len(listed) > 1:
            fail(f"{metric} is of the training split and stands alone; leave the others out")
    return listed


def _bounds(value: object) -> FrozenMap[float]:
    """Read numbers by metric; a number alone is that of the only metric, under an empty name."""
    bounds: Mapping[Any, Any] = value if isinstance(value, Mapping) else {"": value}
    for metric, bound in bounds.items():
        if isinstance(bound, bool) or not isinstance(bound, int | float):
            path = (str(metric),) if isinstance(value, Mapping) else ()
            raise DocumentError(path, f"must be a number, or numbers by metric, not {kind_of(bound)}")
    return FrozenMap({str(metric): float(bound) for metric, bound in bounds.items()})


Metrics = Annotated[tuple[str, ...], PlainValidator(_metrics)]
Bounds = Annotated[Mapping[str, float], PlainValidator(_bounds)]

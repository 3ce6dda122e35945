"""Conformance checks of the extension points, to be run on one's own class, in a test or at a prompt.

Each check takes what a scenario takes (a registered name, a class, an object) and raises AssertionError with one line
that names the first thing that is broken. What passes runs on both backends and goes on from a checkpoint.
"""

from antiphon.testing.functions import (
    check_aggregation,
    check_input,
    check_network,
    check_objective,
    check_predictor,
)
from antiphon.testing.training import (
    check_environment,
    check_optimiser,
    check_recorder,
    check_schedule,
)

__all__ = [
    "check_aggregation",
    "check_environment",
    "check_input",
    "check_network",
    "check_objective",
    "check_optimiser",
    "check_predictor",
    "check_recorder",
    "check_schedule",
]

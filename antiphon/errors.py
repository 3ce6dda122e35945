"""The errors that antiphon raises: each is one line that names the place, the value and the fix."""

from antiphon.base.errors import (
    AntiphonError,
    DataError,
    DivergenceError,
    EngineError,
    RunError,
    ScenarioError,
    ScenarioWarning,
)

__all__ = [
    "AntiphonError",
    "DataError",
    "DivergenceError",
    "EngineError",
    "RunError",
    "ScenarioError",
    "ScenarioWarning",
]

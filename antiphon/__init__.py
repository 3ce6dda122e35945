"""antiphon: independent networks that learn to work together through decoupled neural interfaces.

Names load on first use, so that `import antiphon` is quick and the command line's help needs no torch.
"""

from __future__ import annotations

import os as _os

TYPE_CHECKING = False
"""As `typing` has it: what is imported here comes before a Ctrl-C is one line (`__main__.py`)."""

if TYPE_CHECKING:
    from typing import Any

    from antiphon import tune
    from antiphon.base.errors import (
        AntiphonError,
        DataError,
        DivergenceError,
        RunError,
        ScenarioError,
        ScenarioWarning,
    )
    from antiphon.base.extensions import (
        coupling,
        environment,
        gradient,
        network,
        objective,
        optimiser,
        recorder,
        register,
        sample,
        schedule,
        synthetic_input,
    )
    from antiphon.base.kinds import Options
    from antiphon.checks import check
    from antiphon.jobs.populations.population import Population
    from antiphon.populations import population
    from antiphon.running.simulation import Simulation
    from antiphon.scenarios import Scenario, Template, load
    from antiphon.splitting.cuts import cuts
    from antiphon.splitting.join import join
    from antiphon.splitting.split import split
    from antiphon.studies import study

__version__ = "0.1.0"

__all__ = [
    "AntiphonError",
    "DataError",
    "DivergenceError",
    "Options",
    "Population",
    "RunError",
    "Scenario",
    "ScenarioError",
    "ScenarioWarning",
    "Simulation",
    "Template",
    "check",
    "comms",
    "coupling",
    "cuts",
    "environment",
    "envs",
    "gradient",
    "join",
    "load",
    "network",
    "objective",
    "optimiser",
    "population",
    "recorder",
    "register",
    "sample",
    "schedule",
    "split",
    "study",
    "synthetic_input",
    "tune",
]

# The subpackages are folders of the repository root. A checkout reaches them through the symbolic
# links in this folder; where those were not restored (Windows, some unzip tools), look beside it.
_here = _os.path.dirname(_os.path.realpath(__file__))
if not _os.path.isdir(_os.path.join(_here, "agents")):
    __path__.append(_os.path.dirname(_here))

_FROM = {
    "base.errors": "AntiphonError DataError DivergenceError RunError ScenarioError ScenarioWarning",
    "base.extensions": "coupling environment gradient network objective optimiser recorder register sample "
    "schedule synthetic_input",
    "base.kinds": "Options",
    "checks": "check",
    "jobs.populations.population": "Population",
    "populations": "population",
    "running.simulation": "Simulation",
    "scenarios": "Scenario Template load",
    "splitting.cuts": "cuts",
    "splitting.join": "join",
    "splitting.split": "split",
    "studies": "study",
}
_FOLDERS = "agents base comms engine envs errors nets scenarios telemetry testing tune"


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _FOLDERS.split():
        return import_module(f"antiphon.{name}")
    for module, names in _FROM.items():
        if name in names.split():
            return getattr(import_module(f"antiphon.{module}"), name)
    raise AttributeError(f"module 'antiphon' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

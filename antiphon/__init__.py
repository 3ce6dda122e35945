"""antiphon: independent networks that learn to work together through decoupled neural interfaces.

Names load on first use, so that `import antiphon` is quick and the command line's help needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from typing import Any

    from antiphon import tune as tune
    from antiphon.base.errors import AntiphonError as AntiphonError
    from antiphon.base.errors import DataError as DataError
    from antiphon.base.errors import DivergenceError as DivergenceError
    from antiphon.base.errors import RunError as RunError
    from antiphon.base.errors import ScenarioError as ScenarioError
    from antiphon.base.errors import ScenarioWarning as ScenarioWarning
    from antiphon.base.extensions import coupling as coupling
    from antiphon.base.extensions import environment as environment
    from antiphon.base.extensions import gradient as gradient
    from antiphon.base.extensions import network as network
    from antiphon.base.extensions import objective as objective
    from antiphon.base.extensions import optimiser as optimiser
    from antiphon.base.extensions import register as register
    from antiphon.base.extensions import sample as sample
    from antiphon.base.extensions import schedule as schedule
    from antiphon.base.extensions import synthetic_input as synthetic_input
    from antiphon.base.kinds import Options as Options
    from antiphon.checks import check as check
    from antiphon.jobs.populations.population import Population as Population
    from antiphon.populations import population as population
    from antiphon.running.simulation import Simulation as Simulation
    from antiphon.scenarios import Scenario as Scenario
    from antiphon.scenarios import Template as Template
    from antiphon.scenarios import load as load
    from antiphon.splitting.cuts import cuts as cuts
    from antiphon.splitting.join import join as join
    from antiphon.splitting.split import split as split
    from antiphon.studies import study as study

__version__ = "0.1.0"

_FROM = {
    "base.errors": "AntiphonError DataError DivergenceError RunError ScenarioError ScenarioWarning",
    "base.extensions": "coupling environment gradient network objective optimiser register sample "
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
_FOLDERS = "agents base comms engine envs nets scenarios telemetry testing tune"


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _FOLDERS.split():
        return import_module(f"antiphon.{name}")
    for module, names in _FROM.items():
        if name in names.split():
            return getattr(import_module(f"antiphon.{module}"), name)
    raise AttributeError(f"module 'antiphon' has no attribute {name!r}")


def __dir__() -> list[str]:
    return ["comms", "envs", "tune", *" ".join(_FROM.values()).split()]

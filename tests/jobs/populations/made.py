"""Small populations."""

from __future__ import annotations

from typing import Any

import antiphon
from antiphon.scenarios.population_spec import PopulationSpec


def digits(lr: float = 1e-3, **values: Any) -> antiphon.Scenario:
    return antiphon.load("digits-mlp").resolve(
        values={"depth": 2, "width": 8, "batch": 8, "lr": lr, **values}
    )


RATES = {"lr": {"from": 1e-3, "to": 1e-1, "log": True}}


def spec(**keys: Any) -> PopulationSpec:
    known = {"population": "it", "scenario": "digits-mlp", "members": 10, "vary": {"lr": RATES["lr"]}}
    return PopulationSpec(**{**known, "select": {"every": 5}, **keys})

"""What tests of plans read: what `show` says of how a scenario is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from antiphon import Scenario
from tests.kit.commands import Commands

Planned = Callable[..., dict[str, Any]]


@pytest.fixture
def planned(here: Path, cli: Commands) -> Planned:
    """The plan of a scenario that can be written down, or of what a name stands for."""

    def plan(scenario: Scenario | str, *words: str) -> dict[str, Any]:
        if isinstance(scenario, Scenario):
            Path("scenario.yaml").write_text(scenario.to_yaml(), encoding="utf-8")
            scenario = "scenario.yaml"
        found: dict[str, Any] = cli.json("show", scenario, *words)["plan"]
        return found

    return plan

"""Simulations on disk: a checkpoint with what it takes to build the simulation again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from antiphon.engine.state import checkpoint
from antiphon.errors import RunError, ScenarioError
from antiphon.scenarios import Scenario

__all__ = ["Saved", "read_simulation", "write_simulation"]


@dataclass(frozen=True)
class Saved:
    """What a checkpoint says of its simulation."""

    place: Path
    scenario: Scenario
    seed: int
    dtype: torch.dtype
    state: dict[str, Any]


def write_simulation(path: Path, scenario: Scenario, dtype: torch.dtype, state: dict[str, Any]) -> Path:
    """Write a checkpoint folder, whole or not at all, and return its path.

    Raises:
        RunError: It cannot be written.
    """
    try:
        document: str | None = scenario.to_yaml()
    except ScenarioError:  # holds Python objects: whoever loads it must bring the scenario along
        document = None
    manifest = {
        "scenario": document,
        "seed": state["seed"],
        "step": state["now"],
        "dtype": str(dtype).removeprefix("torch."),
    }
    checkpoint.write(path, manifest, state)
    return path


def read_simulation(path: Path, scenario: Scenario | None, device: torch.device | str) -> Saved:
    """Read a checkpoint folder, or a run directory's newest.

    Raises:
        RunError: It is missing or damaged, its environment was not saved, or it needs its scenario.
    """
    place = checkpoint.latest(path)
    manifest, state = checkpoint.read(place, device)
    document, seed, dtype = manifest["scenario"], manifest["seed"], getattr(torch, manifest["dtype"])
    if state["env"] is None:
        raise RunError(
            f"{place}: its environment keeps its state to itself, so the run cannot go on; "
            "take its agents into another one with `weights: RUN:agent`"
        )
    if scenario is None:
        if document is None:
            raise RunError(f"{place}: its scenario holds Python objects; load it with scenario=…")
        scenario = Scenario.from_yaml(document, str(place / "state.json"))
    return Saved(place, scenario, seed, dtype, state)

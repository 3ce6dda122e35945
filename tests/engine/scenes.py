"""Scenarios that many tests of the engine run: on the embedded digits, and variations of the rings of tests/contracts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from antiphon.scenarios import Scenario
from tests.contracts.builders import Document, Play

CLASSIFY: dict[str, Any] = {"kind": "classification", "target": "label"}
LINEAR_MAP: dict[str, Any] = {"kind": "mlp", "hidden": [], "norm": "none"}
ENDS = Play(share=0.15)
BATCH_NORM: Document = {"network": {"kind": "mlp", "hidden": [4], "norm": "batch"}}


def scenario_of(
    agents: Mapping[str, Any],
    channels: Sequence[Any] = (),
    env: Any = None,
    *,
    readout: str | None = None,
    telemetry: Mapping[str, Any] | None = None,
    **training: Any,
) -> Scenario:
    """A scenario in an environment, on the embedded digits where its keys name no other; and keys of its training."""
    if env is None or isinstance(env, Mapping):
        env = {"id": "antiphon/Digits-v0", **(env or {})}
    return Scenario.model_validate(
        {
            "scenario": "scene",
            "env": env,
            "agents": agents,
            "channels": channels,
            "readout": readout,
            "training": {"batch": 8, **training},
            "telemetry": telemetry or {},
        }
    )


def gradient(**keys: Any) -> Document:
    """A channel with these keys of its synthetic gradient."""
    return {"gradient": {"kind": "linear", "context": ["label"], **keys}}

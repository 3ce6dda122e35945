"""Scenarios that many tests of the engine run: on the embedded digits, and variations of the rings of tests/contracts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from antiphon.envs.base import TorchVectorEnv
from antiphon.envs.signal import Description, Signal
from antiphon.scenarios import Scenario
from tests.contracts.builders import Document, Play

CLASSIFY: dict[str, Any] = {"kind": "classification", "target": "label"}
LINEAR_MAP: dict[str, Any] = {"kind": "mlp", "hidden": [], "norm": "none"}
BATCH = 4
ENDS = Play(share=0.15)
QUARANTINE: Document = {"on_divergence": "quarantine"}
LSTM: Document = {"network": {"kind": "lstm", "size": 4}, "clock": {"unroll": 3}}
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


@dataclass(frozen=True)
class Sights(Play):
    """Where there is another thing to see of the shape of `x`: `z`."""

    @property
    def description(self) -> Description:
        usual = super().description
        return replace(usual, signals={**usual.signals, "z": Signal(shape=(4,))})

    def make(self, *, batch: int, **where: Any) -> TorchVectorEnv:
        env: Any = super().make(batch=batch, **where)
        usual = env._shown

        def shown() -> tuple[dict[str, Tensor], dict[str, Any]]:
            seen, info = usual()
            return {**seen, "z": env._drawn(7, 4)}, info

        env._shown = shown
        found: TorchVectorEnv = env
        return found


def gradient(**keys: Any) -> Document:
    """A channel with these keys of its synthetic gradient."""
    return {"gradient": {"kind": "linear", "context": ["label"], **keys}}


def states(names: Iterable[str], **keys: Any) -> list[Document]:
    """The state channels of some agents."""
    return [{"from": name, "to": name, "carries": "state", **keys} for name in names]

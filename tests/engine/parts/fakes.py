"""Parts that each compute the whole scenario, and give only their agents' share of its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from antiphon.engine.base_simulation import BaseSimulation
from antiphon.engine.parts.settings import PartsSettings
from antiphon.engine.parts.transport import Stop, never
from antiphon.telemetry.parts.part_figures import PartFigures


class FakeParts:
    def __init__(self, simulation: BaseSimulation, settings: PartsSettings) -> None:
        names = list(simulation.scenario.agents)
        count = settings.count or 2
        half = {name: k * count // len(names) for k, name in enumerate(names)}
        self.placement: Mapping[str, int] = settings.placement or half
        self.every = settings.every or 1
        self.calls: list[tuple[int, int]] = []
        self.log: list[str] = []
        self.closed = False
        kind = {"seed": simulation.seed, "dtype": simulation.dtype}
        self.parts = [BaseSimulation(simulation.scenario, **kind) for _ in range(count)]

    def advance(self, until: int, *, stop: Stop = never, row_at: int | None = None) -> int:
        start = self.parts[0].now
        for part in self.parts:
            while part.now < until:
                part.step()
                if part.now - 1 == row_at:
                    part.train_means.end_row()
                if part is self.parts[0] and stop():
                    until = part.now
        self.calls.append((start, until))
        self.log.append("advance")
        return until

    def gather(self) -> dict[str, Any]:
        self.log.append("gather")
        states = [part._state_dict() for part in self.parts]
        whole = dict(states[0])
        whole["system"] = dict(whole["system"])
        whole["system"]["learners"] = {
            name: states[self.placement[name]]["system"]["learners"][name]
            for name in whole["system"]["learners"]
        }
        whole["tally"] = {name: states[self.placement[name]]["tally"][name] for name in whole["tally"]}
        return whole

    def scatter(self, state: Mapping[str, Any]) -> None:
        self.log.append("scatter")
        for part in self.parts:
            part._load_state_dict(dict(state))

    def statistics(self) -> list[PartFigures]:
        figures: dict[str, Any] = {
            "machine": "here",
            "seconds": 1.0,
            "computing": 0.5,
            "calls": len(self.calls),
        }
        return [PartFigures(part=k, steps_taken=part.now, **figures) for k, part in enumerate(self.parts)]

    def close(self) -> None:
        self.closed = True
        for part in self.parts:
            part.close()

"""What takes the steps of a run: this process one by one, recorded graphs, parts, or machines in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from antiphon.distributed.coordinator import Coordinator
from antiphon.distributed.parts.placement import placement_for
from antiphon.distributed.settings import PartsSettings
from antiphon.distributed.virtual.virtual_coordinator import VirtualCoordinator
from antiphon.engine.capture.loop import CapturedLoop, captured_loop
from antiphon.engine.live_system import Executor, LiveSystem, Settings
from antiphon.nets.random import seed_for, seed_globally
from antiphon.scenarios import Scenario

if TYPE_CHECKING:
    from antiphon.distributed.ray.ray_parts import RayParts


def executor_of(
    settings: Settings, division: PartsSettings | None, capture: bool | CapturedLoop
) -> Executor | None:
    """Return what takes the steps of a run from its beginning; None: they are taken one by one, until it is divided."""
    if capture:
        return captured_loop(settings.device, settings.backend, capture, parts=division is not None)
    return VirtualCoordinator(division) if division is not None and division.cluster is not None else None


def at_the_beginning(scenario: Scenario, settings: Settings, executor: Executor | None) -> LiveSystem:
    """Return what runs, at step 0, with the generators of numpy and Python seeded, which users' code may draw from."""
    seed_globally(seed_for(settings.seed, "build"))
    running = LiveSystem(scenario, settings, executor)
    seed_globally(seed_for(settings.seed, "run"))
    return running


def divide(running: LiveSystem, division: PartsSettings, opened: RayParts | None = None) -> None:
    """Have parts take the steps from here on that nothing observes; one part in this process divides nothing."""
    if division.cluster is not None:
        return  # from its beginning
    if division.placement is not None:
        placement_for(running.system, running.scenario, division.count, division.placement)
    if not division.one_process:
        running.execute_by(Coordinator(division, opened))

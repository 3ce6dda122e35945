"""Parts of a run that stacks nothing."""

from __future__ import annotations

from antiphon import Simulation
from antiphon.distributed.coordinator import Coordinator
from antiphon.distributed.parts.transport import LocalParts
from tests.distributed.test_coordinator import assert_same, scenario


def test_parts_stack_where_the_whole_does() -> None:
    with Simulation(scenario(), stacked=False, parts=2) as divided:
        divided.run(7)
        with Simulation(scenario(), stacked=False) as whole:
            whole.run(7)
            assert_same(whole, divided)
        assert isinstance(divided.running.executor, Coordinator)
        parts = divided.running.executor.parts
        assert isinstance(parts, LocalParts)
        for part in parts.parts:
            assert part.backend.system is part.backend.stacked.single_system

"""Parts as actors of one Ray cluster: the bits of the uncut run, deaths, stops, refusals; where the cluster listens."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import yaml

from antiphon.engine.parts.part import Part
from antiphon.engine.ray import ray_parts as ray_parts_module
from antiphon.engine.ray.ray_cluster import RayCluster, open_cluster
from antiphon.engine.ray.ray_parts import RayParts
from antiphon.engine.simulation import Simulation
from antiphon.errors import RunError
from tests.engine.parts.rings import document, ring
from tests.engine.ray.processes import (
    LOOPBACK,
    PATIENCE,
    children_of,
    listening,
    named,
    needs_ray,
    parts_of,
    started,
    survivors,
    wait_for_rows,
)
from tests.engine.ray.test_worker import assert_whole

pytestmark = [*needs_ray, pytest.mark.long]

PLACEMENT = {"a": 0, "b": 0, "c": 1, "d": 1}
RING = ring(delay=4)


class SlowPart(Part):
    """A part whose steps take 20 ms."""

    def step(self, *, watch: bool = False) -> None:
        time.sleep(0.02)
        super().step(watch=watch)


def make(index: int) -> Part:
    return SlowPart(RING, PLACEMENT, index)


def opened() -> closing[RayParts]:
    return closing(RayParts(make, PLACEMENT, every=2))


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with open_cluster("local") as found:
        yield found


@pytest.fixture(scope="module")
def _parts(cluster: RayCluster) -> Iterator[RayParts]:
    with opened() as found:
        yield found


@pytest.fixture
def parts(_parts: RayParts) -> RayParts:
    """Two parts at step 0 in processes that all tests share."""
    with Simulation(RING) as start:
        _parts.scatter(start._state_dict())
    return _parts


@contextmanager
def later(seconds: float, call: Callable[[], object]) -> Iterator[None]:
    timer = threading.Timer(seconds, call)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def kill() -> None:
    """Kill a part of this process."""
    os.kill(parts_of(os.getpid())[0], signal.SIGKILL)


def test_lockstep_rows_states_and_figures(parts: RayParts) -> None:
    before = parts.statistics()
    assert parts.advance(31) == 31
    assert_whole(parts.gather(), RING, 31)
    assert parts.advance(50, row_at=31) == 50
    assert_whole(parts.gather(), RING, 50, row_at=31)
    for old, new in zip(before, parts.statistics(), strict=True):
        assert new.steps_taken == 50
        assert new.calls - old.calls == 26  # 25, and one where the state was gathered
        assert new.bytes_sent > old.bytes_sent
        assert new.bytes_received > old.bytes_received
        assert new.computing - old.computing > 50 * 0.02
        assert new.alive


def test_parts_that_are_killed_come_back_to_the_same_bits(parts: RayParts) -> None:
    before = sum(row.incarnation for row in parts.statistics())
    parts.advance(30)
    parts.gather()
    kill()  # between two calls
    states: list[int] = []
    with later(1.0, kill):  # in one
        parts.advance(
            120, row_at=30, stop=lambda: states.append(sum(r.alive for r in parts.statistics())) or False
        )
    assert_whole(parts.gather(), RING, 120, row_at=30)
    assert sum(row.incarnation for row in parts.statistics()) - before >= 1
    assert {1, 2} <= set(states)  # whether all run is known meanwhile


@pytest.mark.nightly
def test_a_part_whose_process_does_not_come_is_one_line(
    cluster: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_parts_module, "_STARTED_WITHIN", 0.0)
    with pytest.raises(
        RunError, match=r"^ray: part 0 has not started within 0 s; \d+ CPUs and 0 GPUs .* free$"
    ):
        opened()


@pytest.mark.nightly
def test_it_listens_on_this_machine_alone(parts: RayParts) -> None:
    found = listening({os.getpid(), *children_of(os.getpid())})
    assert sum(found.values()) >= 6
    assert set(found) <= LOOPBACK


@pytest.mark.nightly
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_however_a_run_ends_nothing_of_it_is_left(number: int, tmp_path: Path, short: Path) -> None:
    """After kill -9 Ray ends all but two agents of its own, which go a minute later."""
    scenario = tmp_path / "ring.yaml"
    scenario.write_text(yaml.safe_dump(document(1_000_000)), encoding="utf-8")
    with started(scenario, tmp_path, short) as run:
        try:
            wait_for_rows(tmp_path, 4, run)
            processes = children_of(run.pid)
            agents = {one for one in processes if named(one).startswith("ray::") and "Agent" in named(one)}
            assert len(parts_of(run.pid)) == 2
            if number == signal.SIGTERM:  # a part that is killed comes back
                os.kill(parts_of(run.pid)[0], signal.SIGKILL)
                wait_for_rows(tmp_path, 40, run)
                processes |= children_of(run.pid)
            run.send_signal(number)
            out, err = run.communicate(timeout=PATIENCE)
        finally:
            run.kill()
    if number == signal.SIGTERM:
        assert not survivors(processes, 300.0)
        assert (run.returncode, "Traceback" in out + err) == (143, False), out + err
        assert (tmp_path / "run" / "result.json").exists()
        assert list(short.iterdir()) == []
    else:
        assert not survivors(processes - agents, 300.0)
        for one in survivors(agents, 0.0):
            os.kill(one, signal.SIGKILL)

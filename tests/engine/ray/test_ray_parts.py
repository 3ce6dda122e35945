"""Parts as actors of one Ray cluster: the bits of the uncut run, deaths, stops, refusals; where the cluster listens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial

import pytest

from antiphon.engine.parts.free_boundary import FreeSettings
from antiphon.engine.parts.part import Part
from antiphon.engine.ray import ray_parts as ray_parts_module
from antiphon.engine.ray.ray_cluster import RayCluster, open_cluster
from antiphon.engine.ray.ray_parts import RayParts
from antiphon.engine.simulation import Simulation
from antiphon.errors import RunError
from antiphon.scenarios import Scenario
from tests.engine.parts.rings import ring
from tests.engine.parts.stages import stages
from tests.engine.ray.marks import needs_ray_all
from tests.engine.ray.processes import LOOPBACK, PATIENCE, children_of, listening, parts_of
from tests.engine.ray.test_worker import assert_whole

pytestmark = needs_ray_all

PLACEMENT = {"a": 0, "b": 0, "c": 1, "d": 1}
RING = ring(delay=4)


class SlowPart(Part):
    """A part whose steps take 20 ms."""

    def step(self, *, watch: bool = False) -> None:
        time.sleep(0.02)
        super().step(watch=watch)


def make(index: int) -> Part:
    return SlowPart(RING, PLACEMENT, index)


def make_bad(index: int) -> Part:
    if index == 1:
        raise RunError("part 1 has no data")
    return make(index)


def make_free(scenario: Scenario, index: int) -> Part:
    return SlowPart(scenario, {"s0": 0, "s1": 1}, index, free=FreeSettings())


def opened(make: Callable[[int], Part] = make) -> closing[RayParts]:
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


def test_a_stop_ends_all_at_one_step(parts: RayParts) -> None:
    end = time.monotonic() + 0.5
    reached = parts.advance(10_000, stop=lambda: time.monotonic() > end)
    assert 0 < reached < 1_000
    assert_whole(parts.gather(), RING, reached)


def test_a_part_that_does_not_wait_comes_back_alone(cluster: RayCluster) -> None:
    scenario = stages(2, aligned=False, env={"hold": 50})
    before = set(parts_of(os.getpid()))
    parts = RayParts(partial(make_free, scenario), {"s0": 0, "s1": 1}, every=1, free=True, keep_every=0.0)
    with closing(parts):
        parts.advance(20)
        (first, _) = sorted(set(parts_of(os.getpid())) - before)
        with later(0.5, lambda: os.kill(first, signal.SIGKILL)):
            assert parts.advance(100) == 100
        found = parts.statistics()
        assert sorted(row.incarnation for row in found) == [0, 1]
        # The one that stayed took each step once; the other began again at the end of the call before.
        assert all(row.steps_taken == 100 and row.calls >= 100 for row in found)
        assert parts.gather()["now"] == 100


def test_what_building_a_part_raises_is_raised(cluster: RayCluster) -> None:
    with pytest.raises(RunError, match=r"^part 1 has no data$"):
        opened(make_bad)


def test_a_part_whose_process_does_not_come_is_one_line(
    cluster: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_parts_module, "_STARTED_WITHIN", 0.0)
    with pytest.raises(
        RunError, match=r"^ray: part 0 has not started within 0 s; \d+ CPUs and 0 GPUs .* free$"
    ):
        opened()


def test_it_listens_on_this_machine_alone(parts: RayParts) -> None:
    found = listening({os.getpid(), *children_of(os.getpid())})
    assert sum(found.values()) >= 6
    assert set(found) <= LOOPBACK


def test_it_refuses_whoever_lacks_the_token(cluster: RayCluster) -> None:
    program = (
        "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1]).get_all_node_info()"
    )
    without = {"RAY_AUTH_MODE": "disabled", "RAY_NUM_REDIS_GET_RETRIES": "1"}
    for environment, code in ((without, 1), ({"RAY_NUM_REDIS_GET_RETRIES": "1"}, 0)):
        done = subprocess.run(
            [sys.executable, "-c", program, cluster.address],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert not code or "Authentication" in done.stderr or "Unauthenticated" in done.stderr


def test_another_address_at_the_same_time_is_refused(cluster: RayCluster) -> None:
    with pytest.raises(
        RunError, match=r"^--ray: this process is connected to the Ray cluster at 127\.0\.0\.1"
    ):
        RayParts(make, PLACEMENT, every=2, cluster="10.0.0.1:6379")

"""Parts as actors of one Ray cluster: the bits of the uncut run, deaths, halts, errors; where the cluster listens."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import pytest

from antiphon.engine.parts.part import Part, merge_states
from antiphon.engine.ray import ray_parts as ray_parts_module
from antiphon.engine.ray.ray_cluster import RayCluster, open_cluster
from antiphon.engine.ray.ray_parts import RayParts
from antiphon.engine.simulation import Simulation
from antiphon.engine.state.checkpoint import to_bytes
from antiphon.errors import DivergenceError, RunError
from tests.engine.parts.lockstep import ring
from tests.engine.parts.test_part import differences
from tests.engine.ray.fake_parts import FakePart, merge, uncut
from tests.engine.ray.marks import needs_ray_all
from tests.engine.ray.processes import LOOPBACK, children_of, listening

pytestmark = needs_ray_all

LOOKAHEAD = 4
PLACEMENT = {"a": 0, "b": 1}
SLOW = {index: {"seconds": 0.02} for index in range(2)}


def make(index: int) -> FakePart:
    return FakePart(2, index, LOOKAHEAD)


def make_bad(index: int) -> FakePart:
    if index == 1:
        raise RunError("part 1 has no data")
    return make(index)


def opened(make: Callable[[int], Any] = make, **settings: Any) -> closing[RayParts]:
    settings = {"every": 2, "checkpoint_every": 20, **settings}
    return closing(RayParts(make, merge, PLACEMENT, **settings))


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with open_cluster(None) as found:
        yield found


@pytest.fixture(scope="module")
def _two_parts(cluster: RayCluster) -> Iterator[RayParts]:
    with opened() as found:
        assert (found.lookahead, found.every) == (LOOKAHEAD, 2)
        assert found.advance(31) == 31
        assert_same(found.gather(), expected(31))
        yield found


@pytest.fixture
def parts(_two_parts: RayParts) -> RayParts:
    """Two parts at step 0 in processes that all tests share."""
    _two_parts.scatter(expected(0))
    return _two_parts


def expected(steps: int, **settings: Any) -> dict[str, Any]:
    return uncut(2, LOOKAHEAD, steps, **settings)


def restarts(parts: RayParts) -> list[int]:
    return [one.incarnation for one in parts.statistics()]


def kill(parts: RayParts, index: int) -> None:
    os.kill(parts._records[index].progress.process, signal.SIGKILL)


@contextmanager
def later(seconds: float, call: Callable[[], None]) -> Iterator[None]:
    timer = threading.Timer(seconds, call)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def assert_same(one: Any, other: Any) -> None:
    assert to_bytes(one) == to_bytes(other)


def test_lockstep_rows_states_and_figures(parts: RayParts) -> None:
    before = parts.statistics()
    assert parts.advance(31) == 31
    assert_same(first := parts.gather(), expected(31))
    assert parts.advance(50, row_at=31) == 50
    assert_same(parts.gather(), expected(50, rows=[31]))
    for old, new in zip(before, parts.statistics(), strict=True):
        assert new.steps_taken == 50
        assert new.calls - old.calls == 26  # 25, and one where the state was gathered
        assert new.bytes_sent - old.bytes_sent == new.bytes_received - old.bytes_received == 50 * 48
        assert new.computing > old.computing
        assert new.alive
    parts.scatter(first)
    parts.advance(40)
    assert_same(parts.gather(), expected(40))


def test_parts_that_are_killed_come_back_to_the_same_bits(parts: RayParts) -> None:
    before = restarts(parts)
    parts.scatter(expected(0, habits=SLOW))
    parts.advance(30)
    kill(parts, 0)  # between two calls
    with later(0.5, lambda: kill(parts, 1)):  # in one
        parts.advance(160, row_at=30)
    assert_same(parts.gather(), expected(160, rows=[30], habits=SLOW))
    assert [after - old for old, after in zip(before, restarts(parts), strict=True)] == [1, 1]


@pytest.mark.parametrize("gathered", [True, False])
def test_all_go_back_where_a_checkpoint_is_gone(parts: RayParts, gathered: bool) -> None:
    parts.advance(45)
    if gathered:
        parts.gather()
    parts.advance(90, row_at=45)
    assert parts._directory is not None
    shutil.rmtree(parts._directory / "1")
    kill(parts, 1)
    parts.advance(130, row_at=90)
    assert_same(parts.gather(), expected(130, rows=[45, 90]))


def test_a_stop_ends_all_at_one_step(parts: RayParts) -> None:
    parts.scatter(expected(0, habits=SLOW))
    end = time.monotonic() + 0.5
    reached = parts.advance(10_000, stop=lambda: time.monotonic() > end)
    assert 0 < reached < 1_000
    assert_same(parts.gather(), expected(reached, habits=SLOW))


def test_a_divergence_is_raised_and_the_parts_go_on_from_another_state(parts: RayParts) -> None:
    parts.scatter(expected(0, habits={1: {"bad_at": 7}}))
    with pytest.raises(DivergenceError, match=r"^the loss of part 1 is nan at step 7$"):
        parts.advance(100)
    parts.scatter(expected(8))
    parts.advance(20)
    assert_same(parts.gather(), expected(20))


def test_parts_that_stand_still_are_one_line(parts: RayParts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.engine.ray.records._LOOK", 0.1)
    monkeypatch.setattr(ray_parts_module, "_ANSWERED_WITHIN", 0.1)
    monkeypatch.setattr(ray_parts_module, "_STEPPED_WITHIN", 1.0)
    parts.scatter(expected(0, habits={1: {"seconds": 3.0}}))
    with pytest.raises(RunError, match=r"no part has taken a step for 1 s; part 1 is at step 0, .* ago$"):
        parts.advance(100)


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


@pytest.mark.parametrize("seed", range(3))
def test_random_cut_scenarios_have_the_bits_of_the_uncut_run(cluster: RayCluster, seed: int) -> None:
    chance = random.Random(seed)
    agents, delay = chance.randint(4, 7), chance.randint(1, 4)
    gradient = {"kind": chance.choice(["linear", "sobolev", "critic"]), "context": ["label"]}
    link = {"delay": delay, "drop": chance.choice([0.0, 0.3]), "noise": chance.choice([0.0, 0.1])}
    clock = {"period": chance.randint(1, 2), "phase": -1, "unroll": chance.randint(1, 3)}
    scenario = ring(
        agents, degree=chance.randint(1, 2), agent={"clock": clock}, channel={"link": link}, gradient=gradient
    )
    first, second, *others = scenario.agents
    placement = {first: 0, second: 1, **{name: chance.randrange(2) for name in others}}
    parts = RayParts(
        partial(Part, scenario, placement),
        merge_states,
        placement,
        every=max(1, delay // 2),
        checkpoint_every=10,
    )
    whole, joined = Simulation(scenario), Simulation(scenario)
    with closing(parts):
        parts.advance(13)
        if not seed:
            kill(parts, 1)
        parts.advance(25)
        joined.load_state_dict(parts.gather())
    for _ in range(25):
        whole.step()
    assert differences(whole, joined) == []


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
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert not code or "Authentication" in done.stderr or "Unauthenticated" in done.stderr


def test_another_address_at_the_same_time_is_refused(cluster: RayCluster) -> None:
    with pytest.raises(
        RunError, match=r"^--address: this process is connected to the Ray cluster at 127\.0\.0\.1"
    ):
        opened(address="10.0.0.1:6379")

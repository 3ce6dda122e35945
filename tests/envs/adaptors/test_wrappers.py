"""State of wrappers: saved, resumed and carried into evaluations, or refused by the wrapper's name."""

import random
import threading
from collections import defaultdict, deque, namedtuple
from collections.abc import Callable
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers import (
    DelayObservation,
    DtypeObservation,
    FrameStackObservation,
    MaxAndSkipObservation,
    NormalizeObservation,
    NormalizeReward,
    RecordEpisodeStatistics,
    StickyAction,
    TimeAwareObservation,
    TimeLimit,
    TransformObservation,
)
from gymnasium.wrappers import vector as of_vector
from gymnasium.wrappers.utils import RunningMeanStd

from antiphon import Scenario, Simulation, envs
from antiphon.errors import AntiphonError, RunError, ScenarioError
from tests.envs.adaptors.parallel_worlds import Mines
from tests.kit.tiers import sampled

BOX = spaces.Box(-1e6, 1e6, (2,), np.float32)


class Walk(gymnasium.Env[Any, int]):
    """A random walk far from zero, of five steps."""

    observation_space, action_space = BOX, spaces.Discrete(2)

    def _see(self) -> np.ndarray[Any, Any]:
        return np.asarray(self.x, np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps, self.x = 0, self.np_random.normal(50, 10, 2)
        return self._see(), {}

    def step(self, action: int) -> Any:
        self.steps += 1
        self.x = self.x + self.np_random.normal(0.5, 1, 2)
        return self._see(), float((self.x[0] > 55) == bool(action)), self.steps == 5, False, {}

    def state_dict(self) -> dict[str, Any]:
        return {"x": self.x.tolist(), "steps": self.steps}  # its generator is saved by antiphon

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.x, self.steps = np.array(state["x"]), state["steps"]


class Walks(VectorEnv[Any, Any, Any]):
    """A vector environment of its own: walks of 20 steps, which all end together."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int = 4) -> None:
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = BOX, spaces.Discrete(2)
        self.observation_space = batch_space(BOX, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps, self.x = 0, self.np_random.normal(50, 10, (self.num_envs, 2))
        return self.x.astype(np.float32), {}

    def step(self, actions: Any) -> Any:
        again = self.steps == 20
        self.steps = 0 if again else self.steps + 1
        moves = self.np_random.normal(0.5, 1, self.x.shape)
        self.x = self.x * 0 + 50 + moves if again else self.x + moves
        rewards = (np.asarray(actions) == (self.x[:, 0] > 60)).astype(float) * (not again)
        ended = np.full(self.num_envs, self.steps == 20)
        return self.x.astype(np.float32), rewards, ended, np.zeros(self.num_envs, bool), {}

    def state_dict(self) -> dict[str, Any]:
        return {"x": torch.from_numpy(self.x.copy()), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.x, self.steps = state["x"].numpy().copy(), state["steps"]


class Mood(Enum):
    """A state that is no number."""

    LOW = "low"
    HIGH = "high"


class Place(NamedTuple):
    """A state that has names."""

    x: float
    size: torch.Size


class Noise:
    """A process with a state, as users write them."""

    def __init__(self) -> None:
        self.level, self.random = np.zeros(2), np.random.default_rng(3)

    def reset(self) -> None:
        self.level = self.level * 0.5

    def step(self) -> np.ndarray[Any, Any]:
        self.level = 0.9 * self.level + self.random.normal(size=2)
        return self.level


class Everything(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A user's wrapper that has state of every kind."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.count, self.mood, self.last = 0, Mood.LOW, None
        self.queue: deque[Any] = deque(maxlen=3)
        self.python, self.old = random.Random(1), np.random.RandomState(2)
        self.unwrapped._np_random = np.random.default_rng(5)
        self.stale = self.np_random  # a reset with a seed makes another one
        self.drawn = self.stale.normal  # a method of an object with a state
        self.drawn_too = np.random.default_rng(7).normal
        self.seen: Any = defaultdict(list)
        self.pair = self.alias = np.zeros(2)  # one array, by two names
        self.noise, self.statistics = Noise(), RunningMeanStd(shape=(2,))
        self.late: Any = {}
        self.place = Place(0.0, torch.Size([2, 3]))
        self.layer = torch.nn.Linear(2, 2)
        torch.nn.init.zeros_(self.layer.bias)
        offsets = np.zeros(2)

        def moved(obs: Any) -> Any:
            nonlocal offsets
            offsets = offsets + 0.01
            return obs + offsets

        self.shifted = lambda obs: obs + self.count
        self.moved, self.scaled = moved, partial(np.multiply, np.float32(1.5))

    def reset(self, **settings: Any) -> Any:
        obs, info = self.env.reset(**settings)
        self.noise.reset()
        return self._changed(obs), info

    def step(self, action: Any) -> Any:
        obs, *rest = self.env.step(action)
        return self._changed(obs), *rest

    def _changed(self, obs: Any) -> Any:
        self.count += 1
        self.mood = Mood.HIGH if self.count % 7 == 6 else self.mood
        self.queue.append(obs)
        self.seen[self.mood.value].append(self.count)
        self.pair += 1
        self.place = Place(self.place.x + 0.01 * self.place.size.numel(), self.place.size)
        self.statistics.update(obs[None])
        self.late.setdefault("statistics", RunningMeanStd(shape=(2,))).update(obs[None])
        with torch.no_grad():
            self.layer.bias += 0.1
            more = self.layer.bias.numpy() + self.late["statistics"].mean + self.alias
        obs = self.moved(self.scaled(self.shifted(obs))) + self.noise.step() + more + len(self.seen["low"])
        obs = (
            obs
            + self.python.random()
            + self.old.normal()
            + self.drawn()
            + self.drawn_too()
            + self.np_random.normal()
        )
        obs = obs + self.place.x + (self.mood is Mood.HIGH) * np.mean(self.queue) + self.statistics.var
        return np.asarray(obs, np.float32)


SINGLE: list[Callable[[Any], Any]] = [
    NormalizeObservation,
    NormalizeReward,
    RecordEpisodeStatistics,
    lambda env: TimeAwareObservation(TimeLimit(env, 4)),
    partial(FrameStackObservation, stack_size=2),
    partial(DelayObservation, delay=1),
    partial(StickyAction, repeat_action_probability=0.5),
    lambda env: NormalizeObservation(TimeLimit(NormalizeReward(env), 3)),
    lambda env: TransformObservation(env, lambda obs: 2 * obs, BOX),
]
VECTOR = [
    of_vector.NormalizeObservation,
    of_vector.NormalizeReward,
    of_vector.RecordEpisodeStatistics,
    lambda env: of_vector.TransformObservation(env, lambda obs: 2 * obs),
]


@pytest.mark.parametrize("wrap", SINGLE)
def test_of_sub_environments(wrap: Any) -> None:
    continued(lambda: SyncVectorEnv([lambda: wrap(Walk())] * 2))


@pytest.mark.parametrize("wrap", VECTOR)
@pytest.mark.parametrize("base", [Walks, lambda n: SyncVectorEnv([Walk] * n)])
def test_of_vector_environments(base: Any, wrap: Any) -> None:
    continued(lambda: wrap(base(2)))


def continued(make: Callable[[], Any], steps: int = 9) -> None:
    """Check that an environment and one that loads its state take equal steps."""
    env, twin = (envs.make(make(), batch=2) for _ in range(2))
    try:
        env.reset(seed=1)
        stepped(env, steps)
        twin.load_state_dict(env.state_dict())
        assert_equal(stepped(env, 12), stepped(twin, 12))
    finally:
        env.close()
        twin.close()


def stepped(env: envs.TorchVectorEnv, steps: int) -> list[Any]:
    return [env.step() for _ in range(steps)]  # random actions, whose generator has a state too


def assert_equal(one: list[Any], other: list[Any]) -> None:
    for (observations, *outcomes, _), (others, *other_outcomes, _) in zip(one, other, strict=True):
        assert all(torch.equal(value, others[name]) for name, value in observations.items())
        assert all(map(torch.equal, outcomes, other_outcomes))


def test_state_of_every_kind() -> None:
    """Random numbers of four libraries, statistics, closures, methods, networks, enumerations and aliases."""
    continued(lambda: SyncVectorEnv([lambda: Everything(Walk())] * 2))


class Locked(NormalizeObservation):
    """A wrapper with what is no data."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.lock = threading.Lock()


class Saving(Locked):
    """The same, with methods of its own."""

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self.obs_rms, name).tolist() for name in ("mean", "var")} | {
            "count": float(self.obs_rms.count)
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.obs_rms.mean, self.obs_rms.var = np.float32(state["mean"]), np.float32(state["var"])
        self.obs_rms.count = state["count"]


class Late(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Makes what has its state in mid-run."""

    noise: Any = None
    seen = 0

    def observation(self, observation: Any) -> Any:
        self.seen += 1
        if self.seen == 4:
            self.noise = Noise()
        return observation if self.noise is None else observation + self.noise.step().astype(np.float32)


class Placed(Late):
    """Has a named tuple, of a class of its own, and a list to which such tuples are appended."""

    def __init__(self, env: Any, fields: str = "x y", *, grows: bool = False) -> None:
        super().__init__(env)
        self.grows, self.places = grows, list[Any]()
        self.place = namedtuple("Spot", fields)(*fields.split())  # type: ignore[misc]

    def observation(self, observation: Any) -> Any:
        self.places += [self.place._replace(x="there")] * self.grows
        return observation


class Views(Late):
    """Has an array and a view of it."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.whole = np.zeros(4)
        self.part = self.whole[:2]


class Counted(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Makes a mapping with default values in a step, as supersuit's wrappers of rewards do."""

    counts: Any = None

    def step(self, action: Any) -> Any:
        self.counts = self.counts or defaultdict(int, {"before": 3})
        self.counts["here"] += 1
        observation, *rest = self.env.step(action)
        return observation + np.float32(self.counts["here"]), *rest


def test_a_mapping_with_default_values_that_is_made_during_a_run_is_kept() -> None:
    continued(lambda: SyncVectorEnv([lambda: Counted(Walk())] * 2))
    env = carried(lambda n: SyncVectorEnv([lambda: Counted(Walk())] * n))
    env.close()


def test_what_is_no_data_is_refused_by_name(tmp_path: Path) -> None:
    env = envs.make(SyncVectorEnv([lambda: Locked(Walk())] * 2), batch=2)
    assert not env.description.can_be_saved
    with pytest.raises(RunError, match=r"its wrapper Locked holds a lock \(Locked.lock\).*state_dict"):
        env.state_dict()
    env.close()
    continued(lambda: SyncVectorEnv([lambda: Saving(Walk())] * 2))  # unless the wrapper saves itself
    with pytest.raises(RunError, match=r"wrapper Views holds two arrays of one memory"):
        continued(lambda: SyncVectorEnv([lambda: Views(Walk())] * 2))
    continued(lambda: SyncVectorEnv([lambda: Late(Walk())] * 2), steps=2)
    with pytest.raises(RunError, match=r"wrapper Late holds a Noise \(Late.noise\) that was made during"):
        continued(lambda: SyncVectorEnv([lambda: Late(Walk())] * 2))
    with Simulation(scenario(SyncVectorEnv([lambda: Locked(Walk())] * 4)), logdir=tmp_path / "run") as run:
        run.run(steps=10, progress=False)
    with pytest.raises(RunError, match=r"its environment cannot be saved \(its wrapper Locked holds"):
        Simulation.resume(tmp_path / "run", scenario=scenario(SyncVectorEnv([lambda: Locked(Walk())] * 4)))


def test_named_tuples_of_other_fields_or_without_a_place_are_refused_in_one_line() -> None:
    def placed(*fields: str, grows: bool = False) -> envs.TorchVectorEnv:
        env = envs.make(SyncVectorEnv([lambda: Placed(Walk(), *fields, grows=grows)] * 2), batch=2)
        env.reset(seed=1)
        return env

    saved = placed().state_dict()
    for fields in ("x", "y x", "x y z"):
        line = rf"Placed\.place with the fields {', '.join(fields.split())}, and .* has x, y; give Spot these"
        with pytest.raises(RunError, match=line):
            placed(fields).load_state_dict(saved)
    grown = placed(grows=True)
    grown.step()
    with pytest.raises(RunError, match=r"Spot \(Placed.places.*, or give the wrapper state_dict and load"):
        grown.state_dict()


class Shift:
    """A PettingZoo wrapper with running statistics for each agent."""

    def __init__(self, env: Any) -> None:
        self.env, self.counts = env, defaultdict(int)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def _seen(self, seen: dict[str, Any]) -> dict[str, Any]:
        self.counts["low"] += 1
        return {**seen, "low": seen["low"] + self.counts["low"]} if "low" in seen else seen

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        seen, info = self.env.reset(seed, options)
        return self._seen(seen), info

    def step(self, actions: Any) -> Any:
        seen, *rest = self.env.step(actions)
        return self._seen(seen), *rest


class SavedMines(Mines):
    """Mines with a state."""

    @property
    def unwrapped(self) -> Any:
        return self

    def state_dict(self) -> dict[str, Any]:
        found = {"places": self.places, "agents": self.agents, "steps": self.steps}
        return {**found, "random": self.np_random.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.places, self.agents, self.steps = dict(state["places"]), list(state["agents"]), state["steps"]
        self.np_random.bit_generator.state = state["random"]


def test_of_parallel_environments() -> None:
    env, twin = (envs.make([Shift(SavedMines()) for _ in range(2)], batch=2) for _ in range(2))
    env.reset(seed=1)
    stepped(env, 3)
    twin.load_state_dict(env.state_dict())
    assert_equal(stepped(env, 5), stepped(twin, 5))


# --- runs ------------------------------------------------------------------------------------------------------


def scenario(env: Any, **training: Any) -> Scenario:
    agent = {"observes": ["observation"], "acts": True, "objective": "ppo", "clock": {"unroll": 5}}
    settings = {"batch": 4, "steps": 40, **training}
    return Scenario(scenario="w", env=env, agents={"p": agent}, training=settings)


def outcome(simulation: Simulation) -> dict[str, Any]:
    return {**simulation.agents["p"].parameters, "last": simulation.signals["observation"].clone()}


RUNS = {
    "single": lambda: SyncVectorEnv([lambda: NormalizeObservation(NormalizeReward(Walk()))] * 4),
    "vector": lambda: of_vector.NormalizeReward(of_vector.NormalizeObservation(Walks())),
    "own": lambda: {"id": "everything"},
    "object": lambda: SyncVectorEnv([lambda: Everything(Walk())] * 4),
}


@pytest.mark.long
@pytest.mark.parametrize("kind", sampled(RUNS, 2, "nightly"))
def test_a_resumed_run_is_the_unbroken_one_and_evaluations_change_no_bit(kind: str, tmp_path: Path) -> None:
    envs.register("everything", lambda: Everything(Walk()))
    made = RUNS[kind]
    with Simulation(scenario(made())) as run:
        run.run(steps=17, progress=False)
        unbroken = outcome(run)
    with Simulation(scenario(made()), logdir=tmp_path / "run") as run:
        run.run(steps=8, progress=False)
        run.evaluate(episodes=1)
    with Simulation.resume(tmp_path / "run", scenario=scenario(made())) as run:
        run.evaluate(episodes=1)
        run.run(steps=9, progress=False)
        resumed = outcome(run)
    for name, value in unbroken.items():
        assert torch.equal(value, resumed[name]), name


class Recorded(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Keeps what the policy of an evaluation observes, in a list that the test has."""

    seen: list[Any] = []  # noqa: RUF012

    def reset(self, **settings: Any) -> Any:
        obs, info = self.env.reset(**settings)
        Recorded.seen.append((self.env.obs_rms.mean.copy(), self.env.obs_rms.count))
        return obs, info


class Own(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Statistics of a user's own, in attributes, without a switch."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.mean, self.count = np.zeros(2), 0

    def observation(self, observation: Any) -> Any:
        self.count += 1
        self.mean = self.mean + (observation - self.mean) / self.count
        return (observation - self.mean).astype(np.float32)


class Columns(VectorWrapper[Any, Any, Any, Any, Any]):
    """The same, of a vector environment."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.rows, self.mean, self.count = np.zeros(env.num_envs), None, 0

    def reset(self, **settings: Any) -> Any:
        obs, info = self.env.reset(**settings)
        self.mean = np.zeros(2) if self.mean is None else self.mean
        return (obs - self.mean).astype(np.float32), info

    def step(self, actions: Any) -> Any:
        obs, *rest = self.env.step(actions)
        self.count += 1
        self.mean = self.mean + (obs.mean(0) - self.mean) / self.count
        return (obs - self.mean).astype(np.float32), *rest


@pytest.mark.parametrize("state", [True, False])
def test_evaluations_have_the_statistics_of_training_and_keep_them(state: bool, tmp_path: Path) -> None:
    base = Walk if state else WithoutState
    envs.register("recorded", lambda: Recorded(NormalizeObservation(base())))
    with Simulation(scenario({"id": "recorded"}), logdir=tmp_path / "run") as run:
        run.run(steps=30, progress=False)
        Recorded.seen.clear()
        run.evaluate(episodes=2)
        evaluated = Recorded.seen[:]
    assert len(evaluated) >= 8
    assert all(abs(mean[0] - 50) < 15 and 20 < count < 60 for mean, count in evaluated)
    assert len({count for _, count in evaluated[:4]}) == len({count for _, count in evaluated}) == 1
    Recorded.seen.clear()
    if state:  # from a checkpoint
        with Simulation.resume(tmp_path / "run") as run:
            Recorded.seen.clear()
            run.evaluate(episodes=1)
            assert Recorded.seen[-1][1] == evaluated[-1][1]
    else:
        with Simulation.load(tmp_path / "run") as run:
            Recorded.seen.clear()
            run.evaluate(episodes=1)
            assert Recorded.seen[-1][1] == evaluated[-1][1]


class WithoutState(Walk):
    """An environment as most are."""

    state_dict: Any = None
    load_state_dict: Any = None


def carried(made: Callable[[int], Any], sizes: tuple[int, int] = (2, 2)) -> envs.TorchVectorEnv:
    """Return an environment that has the wrappers' state of another one which has taken steps."""
    env, other = (envs.make(made(size), batch=size) for size in sizes)
    env.reset(seed=1)
    stepped(env, 8)
    state = env.carried()
    assert state is not None
    other.carry(state, sizes[0])
    env.close()
    return other


@pytest.mark.parametrize("sizes", [(2, 2), (4, 2), (2, 3)])
@pytest.mark.parametrize(
    "made",
    [
        lambda n: of_vector.NormalizeObservation(Walks(n)),
        lambda n: SyncVectorEnv([lambda: NormalizeObservation(Walk())] * n),
        lambda n: SyncVectorEnv([lambda: Own(Walk())] * n),
        lambda n: Columns(Walks(n)),
    ],
)
def test_statistics_fit_environments_of_any_number(made: Any, sizes: tuple[int, int]) -> None:
    env = carried(made, sizes)
    first = env.reset(seed=2)[0]["observation"]
    assert first.abs().max() < 45  # a fresh one's first observations are 0, or about 50
    assert first.abs().min() > 0
    assert env.step(torch.zeros(sizes[1], dtype=torch.int64))[0]["observation"].shape == (sizes[1], 2)
    env.close()


def test_what_a_wrappers_function_encloses_is_carried_arrays_too() -> None:
    factor, offset = np.array([2, 3], np.float32), np.array([5, 7], np.float32)

    def made(n: int) -> SyncVectorEnv:
        def moved(seen: Any) -> Any:
            return seen * factor + offset

        return SyncVectorEnv([lambda: TransformObservation(Walk(), moved, Walk.observation_space)] * n)

    env, plain = carried(made), envs.make(SyncVectorEnv([Walk] * 2), batch=2)
    seen, walked = (one.reset(seed=2)[0]["observation"] for one in (env, plain))
    torch.testing.assert_close(seen, walked * torch.from_numpy(factor) + torch.from_numpy(offset))
    env.close()
    plain.close()


def test_policies_and_files_are_refused_where_the_statistics_are_missing(tmp_path: Path) -> None:
    for name, wrapper in (("NormalizeObservation", NormalizeObservation), ("Own", Own)):
        envs.register(f"with-{name}", lambda wrapper=wrapper: wrapper(Walk()))
        with Simulation(scenario({"id": f"with-{name}"})) as run:
            run.run(steps=10, progress=False)
            for call in (run.policy, run.compose, partial(run.export, tmp_path / "p.pt2", actions="greedy")):
                with pytest.raises(ScenarioError, match=f"the wrapper {name} has statistics of the run"):
                    call()
            run.export(tmp_path / "weights.safetensors")
    with Simulation(scenario(of_vector.NormalizeObservation(Walks()))) as run:
        run.run(steps=10, progress=False)
        with pytest.raises(ScenarioError, match="the wrapper NormalizeObservation has statistics"):
            run.policy()


@pytest.mark.parametrize("name", ["generator", "random_state", "space"])
def test_statistics_beside_an_attribute_that_random_numbers_have_are_refused(name: str) -> None:
    class WithNumbers(Own):
        def __init__(self, env: Any) -> None:
            super().__init__(env)
            setattr(self, name, np.random.default_rng(0))

    envs.register("with-numbers", lambda: WithNumbers(Walk()))
    with Simulation(scenario({"id": "with-numbers"})) as run:
        run.run(steps=10, progress=False)
        with pytest.raises(ScenarioError, match="the wrapper WithNumbers has statistics of the run"):
            run.policy()


class Noisy(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Noise of a generator of its own."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.random = np.random.default_rng(0)

    def observation(self, observation: Any) -> Any:
        return (observation + self.random.normal()).astype(np.float32)


@pytest.mark.parametrize(
    "wrapper",
    [
        partial(MaxAndSkipObservation, skip=2),  # a buffer that each step fills
        lambda env: DtypeObservation(
            env, np.float32
        ),  # its function encloses a space, which has random numbers
        Noisy,
    ],
)
def test_buffers_and_random_numbers_of_wrappers_are_no_statistics(wrapper: Any) -> None:
    envs.register("buffered", lambda: wrapper(Walk()))
    with Simulation(scenario({"id": "buffered"})) as run:
        run.run(steps=10, progress=False)
        run.policy()


@pytest.mark.long  # an export compiles
def test_policies_and_files_are_made_where_state_ends_with_an_episode_or_is_of_rewards(
    tmp_path: Path,
) -> None:
    envs.register("stacked", lambda: RecordEpisodeStatistics(DelayObservation(Walk(), 1)))
    with Simulation(scenario({"id": "stacked"})) as run:
        run.run(steps=10, progress=False)
        run.policy()
        run.export(tmp_path / "stacked.pt2", actions="greedy")


@pytest.mark.long  # processes
def test_of_environments_in_other_processes() -> None:
    def made(wrapper: Any) -> Any:
        return gymnasium.vector.AsyncVectorEnv([lambda: wrapper(WithoutState())] * 2)

    env = carried(lambda _: made(NormalizeObservation))
    assert env.reset(seed=2)[0]["observation"].abs().min() > 0
    env.close()
    with pytest.raises(ScenarioError, match="state of the wrapper Own is in other processes"):
        carried(lambda _: made(Own))
    env = carried(lambda _: made(partial(DelayObservation, delay=1)))
    env.close()
    assert issubclass(ScenarioError, AntiphonError)

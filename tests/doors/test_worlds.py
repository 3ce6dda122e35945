"""The door of worlds: what a Gymnasium or PettingZoo environment hands over, against a loop played by hand."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces, wrappers
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

import antiphon
from antiphon import envs
from antiphon.base.errors import AntiphonError
from tests.kit.worlds import batch_of

Path = tuple[Any, ...]


def leaves(space: spaces.Space[Any], path: Path = ()) -> dict[Path, spaces.Space[Any]]:
    """The parts that are neither Dict nor Tuple, by path; `()` is the space itself."""
    if isinstance(space, spaces.Dict):
        parts = list(space.spaces.items())
    elif isinstance(space, spaces.Tuple):
        parts = list(enumerate(space.spaces))
    else:
        return {path: space}
    return {place: leaf for key, part in parts for place, leaf in leaves(part, (*path, key)).items()}


def part_at(value: Any, path: Path) -> Any:
    """A part of a value of a space."""
    return part_at(value[path[0]], path[1:]) if path else value


Space = spaces.Space[Any]


class Samples(gymnasium.Env[Any, Any]):
    """Shows samples of its space, the same in every life, in episodes of three steps."""

    action_space = spaces.Discrete(2)

    def __init__(self, space: Space) -> None:
        self.observation_space = space
        space.seed(1)
        self.samples = [space.sample() for _ in range(4)]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.at = 0
        return self.samples[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.at += 1
        return self.samples[self.at], float(self.at), False, self.at == 3, {}


def by_hand(space: Space, value: Any) -> NDArray[np.float64]:
    """What an agent is to see of a value, element by element."""
    seen = np.asarray(value, np.float64)
    if isinstance(space, spaces.Box):
        if space.dtype != np.uint8:
            return seen
        ranges = [
            max(int(high) - int(low), 1) for low, high in zip(space.low.flat, space.high.flat, strict=True)
        ]
        return (seen - space.low) / np.reshape(ranges, space.shape)
    return seen - getattr(space, "start", 0)


PLAIN = spaces.Box(-1, 1, (2,), np.float32)
BYTES = np.uint8
SPACES: dict[str, Space] = {
    "planes": spaces.Box(0, 1, (2, 2), BYTES),
    "pixels": spaces.Box(0, 255, (2, 2), BYTES),
    "levels": spaces.Box(0, 5, (3,), BYTES),
    "offset": spaces.Box(10, 20, (3,), BYTES),
    "one byte": spaces.Box(0, 4, (), BYTES),
    **{
        name: spaces.Box(-3 if np.dtype(name).kind in "if" else 0, 100, (2,), np.dtype(name).type)
        for name in ("int8", "int32", "int64", "uint16", "uint32", "float16", "float32", "float64")
    },
    "bool": spaces.Box(0, 1, (2,), np.bool_),
    "unbounded": spaces.Box(-np.inf, np.inf, (2,), np.float64),
    "half bounded": spaces.Box(np.array([-np.inf, 0], np.float32), np.array([1, np.inf], np.float32)),
    "bits": spaces.MultiBinary((2, 2)),
    "choices": spaces.MultiDiscrete([3, 5], start=[-1, 4]),
    "choice": spaces.Discrete(4, start=-2),
    "nested": spaces.Dict(
        {
            "eye": spaces.Box(0, 1, (2,), BYTES),
            "body": spaces.Tuple((spaces.Box(0, 9, (1,), BYTES), spaces.Discrete(3, start=1))),
        }
    ),
}


class Two:
    """A parallel environment of two agents that inherits nothing of PettingZoo's, whose state is the first one's observation."""

    metadata = {"name": "two"}  # noqa: RUF012
    possible_agents = ["a", "b"]  # noqa: RUF012

    def __init__(self, space: Space) -> None:
        self.state_space, self.world, self.agents = space, Samples(space), list[str]()

    def observation_space(self, agent: str) -> Space:
        return self.state_space

    def action_space(self, agent: str) -> Space:
        return spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.agents = list(self.possible_agents)
        self.seen = self.world.reset()[0]
        return dict.fromkeys(self.agents, self.seen), {}

    def state(self) -> Any:
        return self.seen

    def step(self, actions: Any) -> tuple[dict[str, Any], ...]:
        self.seen, reward, terminated, truncated, _ = self.world.step(0)
        everyone, self.agents = self.agents, [] if truncated else self.agents
        return tuple(dict.fromkeys(everyone, one) for one in (self.seen, reward, terminated, truncated, {}))


def expected(space: Space, value: Any) -> dict[tuple[Any, ...], NDArray[np.float64]]:
    return {path: by_hand(leaf, part_at(value, path)) for path, leaf in leaves(space).items()}


def check(
    found: dict[str, torch.Tensor], wanted: dict[Any, NDArray[np.float64]], env: envs.TorchVectorEnv
) -> None:
    """Compare rows of signals with one value each, in their order, and the values with what is announced."""
    assert len(found) == len(wanted)
    for (name, value), right in zip(found.items(), wanted.values(), strict=True):
        signal = env.signals[name]
        np.testing.assert_allclose(value.double().numpy(), np.broadcast_to(right, value.shape), rtol=1e-6)
        low, high = (signal.low, signal.high) if signal.classes is None else (0, signal.classes - 1)
        assert bool(((value >= low) & (value <= high)).all())
        assert value.shape[1:] == signal.shape


@pytest.mark.parametrize("name", SPACES)
def test_observations_are_those_of_a_loop_by_hand(name: str) -> None:
    space = SPACES[name]
    samples = Samples(space).samples
    rows = SyncVectorEnv([lambda: Samples(space)] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    env, pair = envs.make(lambda: rows, batch=2), batch_of(Two(space), Two(space))
    shown, last = [env.reset(seed=0)[0]], None
    states = [pair.reset(seed=0)]
    for _ in range(3):
        observed, _, _, _, info = env.step(None)
        shown.append(observed)
        last = info.get("final_obs")
        observed, _, _, _, info = pair.step(None)
        states.append((observed, info))
    for observed, sample in zip((*shown[:3], last, shown[3]), (*samples, samples[0]), strict=True):
        assert observed is not None
        check(observed, expected(space, sample), env)
    for (observed, info), sample in zip(states, (*samples[:3], samples[0]), strict=True):
        for agent in ("a.", "b."):
            check({n: v for n, v in observed.items() if n.startswith(agent)}, expected(space, sample), pair)
        check(
            {n: v for n, v in info.items() if n.partition(".")[0] == "state"}, expected(space, sample), pair
        )


WRAPPERS: dict[str, Any] = {
    "stacked frames": lambda env: wrappers.FrameStackObservation(env, 2),
    "flattened": wrappers.FlattenObservation,
    "rescaled": lambda env: wrappers.RescaleObservation(
        wrappers.DtypeObservation(env, np.float32), np.float32(-1), np.float32(1)
    ),
    "of another type": lambda env: wrappers.DtypeObservation(env, np.float32),
    "transformed": lambda env: wrappers.TransformObservation(
        env, lambda seen: seen // 2, env.observation_space
    ),
    "checked": wrappers.PassiveEnvChecker,
    "limited": lambda env: wrappers.TimeLimit(env, 2),
    "counted": wrappers.RecordEpisodeStatistics,
    "delayed": lambda env: wrappers.DelayObservation(env, 1),
    "with time": lambda env: wrappers.TimeAwareObservation(wrappers.TimeLimit(env, 9)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["planes", "pixels"])
@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_are_those_of_a_loop_by_hand(name: str, kind: str) -> None:
    def made() -> Any:
        return WRAPPERS[name](Samples(SPACES[kind]))

    env = envs.make(named(made), batch=1)
    plain = made()
    seen, _ = plain.reset(seed=0)
    check(env.reset(seed=0)[0], expected(plain.observation_space, seen), env)
    for _ in range(5):
        observed, reward, terminated, truncated, info = env.step(torch.zeros(1))
        seen, right, *ends, _ = plain.step(0)
        assert (reward.item(), [terminated.item(), truncated.item()]) == (
            pytest.approx(right, rel=1e-5),
            ends,
        )
        if any(ends):
            check(info["final_obs"], expected(plain.observation_space, seen), env)
            seen, _ = plain.reset()
        check(observed, expected(plain.observation_space, seen), env)


PLAYER = {
    "observes": ["observation"],
    "acts": True,
    "objective": "a2c",
    "network": {"kind": "mlp", "hidden": [4]},
}


def scenario(env: Any, **sections: Any) -> antiphon.Scenario:
    training = {"batch": 2, "steps": 4}
    sections = {"agents": {"a": PLAYER}, **sections}
    return antiphon.Scenario(scenario="w", env=env, training=training, **sections)


NUMBER = iter(range(99))


def named(factory: Any) -> dict[str, Any]:
    name = f"test-doors/World{next(NUMBER)}-v0"
    envs.register(name, factory)
    return {"id": name}


class Saved(Samples):
    own: Any = ()

    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at, "own": self.own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.at, self.own = state["at"], state["own"]


def rows() -> SyncVectorEnv:
    return SyncVectorEnv([lambda: Saved(SPACES["float32"])] * 2, autoreset_mode=AutoresetMode.SAME_STEP)


def test_a_function_makes_the_environments_of_runs_forks_and_evaluations_which_close_them() -> None:
    made: list[Any] = []

    def make(num_envs: int) -> SyncVectorEnv:
        assert num_envs == 2
        made.append(rows())
        return made[-1]

    with antiphon.Simulation(scenario(make)) as simulation:
        simulation.run(2, progress=False)
        simulation.evaluate(episodes=1)
        with simulation.fork() as twin:
            twin.step()
            simulation.step()
            pairs = zip(*(one.agents["a"].parameters.values() for one in (simulation, twin)), strict=True)
            assert all(torch.equal(*pair) for pair in pairs)
    assert all(one.closed for one in made)


@pytest.mark.parametrize(
    ("wrapper", "fix"),
    [
        (wrappers.NormalizeObservation, r"NormalizeObservation out, and write normalise: \[SIGNAL\]"),
        (wrappers.NormalizeReward, "NormalizeReward out, and write objective: .*normalise: returns"),
    ],
)
def test_wrappers_whose_statistics_nothing_saves_are_refused(wrapper: Any, fix: str) -> None:
    with pytest.raises(AntiphonError, match=fix):
        envs.make(named(lambda: wrapper(Samples(PLAIN))), batch=2)


class Failing(Samples):
    """Fails in its third step."""

    def step(self, action: Any) -> Any:
        if self.at == 2:
            raise KeyError("a bug of one's own")
        return super().step(action)


def test_an_exception_keeps_its_type_and_gets_a_note_with_environment_and_step() -> None:
    with (
        antiphon.Simulation(scenario(named(lambda: Failing(PLAIN)))) as simulation,
        pytest.raises(KeyError, match="a bug of one's own") as caught,
    ):
        simulation.run(4, progress=False)
    assert caught.value.__notes__ == ["antiphon: step 3, environment Failing"]

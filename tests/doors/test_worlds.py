"""The door of worlds: what a Gymnasium or PettingZoo environment hands over, against a loop played by hand."""

from __future__ import annotations

import random
from pathlib import Path
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
from antiphon.errors import AntiphonError
from tests.kit.spaces import leaves, part_at
from tests.kit.worlds import batch_of

Space = spaces.Space[Any]


class Samples(gymnasium.Env[Any, Any]):
    """Shows samples of its space, the same in every life, in episodes of three steps; `buffered`: in one array."""

    action_space = spaces.Discrete(2)

    def __init__(self, space: Space, buffered: bool = False) -> None:
        self.observation_space, self.buffered = space, buffered
        space.seed(1)
        self.samples = [space.sample() for _ in range(4)]

    def _shown(self) -> Any:
        if not self.buffered:
            return self.samples[self.at]
        if not hasattr(self, "buffer"):
            self.buffer = np.empty_like(self.samples[0])
        self.buffer[...] = self.samples[self.at]
        return self.buffer

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.at = 0
        return self._shown(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.at += 1
        return self._shown(), float(self.at), False, self.at == 3, {}


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


BYTES = np.uint8
SPACES: dict[str, Space] = {
    "planes": spaces.Box(0, 1, (2, 2), BYTES),
    "pixels": spaces.Box(0, 255, (2, 2), BYTES),
    "levels": spaces.Box(0, 5, (3,), BYTES),
    "offset": spaces.Box(10, 20, (3,), BYTES),
    "each its own": spaces.Box(np.array([0, 3, 7], BYTES), np.array([1, 200, 7], BYTES), dtype=BYTES),
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
    """A parallel environment of two agents, whose state is the first one's observation."""

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
    env, pair = envs.make(rows, batch=2), batch_of(Two(space), Two(space))
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
    "normalised rewards": wrappers.NormalizeReward,
    "normalised": wrappers.NormalizeObservation,
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

    env = envs.make(SyncVectorEnv([made], autoreset_mode=AutoresetMode.SAME_STEP), batch=1)
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


def samples_of(name: str) -> SyncVectorEnv:
    made = [lambda: Samples(SPACES[name])] * 2
    return SyncVectorEnv(made, autoreset_mode=AutoresetMode.SAME_STEP)


@pytest.mark.long
@pytest.mark.parametrize("name", ["planes", "each its own"])
def test_exported_modules_see_what_training_saw(name: str) -> None:
    raw = np.stack([Samples(SPACES[name]).samples[0]] * 2)
    agents = {"a": {**PLAYER, "acts": False, "objective": {"kind": "regression", "target": "reward"}}}
    given = {"scenario": "w", "env": samples_of(name), "agents": agents, "training": {"batch": 2, "steps": 2}}
    with antiphon.Simulation(antiphon.Scenario(**given)) as simulation:
        module = simulation.compose()
        network = simulation.agents["a"].module
        right = network(simulation.signals["observation"].flatten(1))
        found = module(torch.from_numpy(raw)[None])
    torch.testing.assert_close(found[0]["a"][0], right["objective"])


class Given(Samples):
    """Returns a reward and a last observation that are given to it."""

    def __init__(self, reward: Any = 1.0, last: Any = None) -> None:
        super().__init__(spaces.Box(-np.inf, np.inf, (2,), np.float64))
        self.reward, self.last = reward, last

    def step(self, action: Any) -> Any:
        seen, _, *rest = super().step(action)
        return self.last if self.last is not None and self.at == 3 else seen, self.reward, *rest


LARGE = r"and float32 holds up to 3.4e\+38; scale it, or use dtype: float64$"
NOT_FINITE = r"which is not finite; fix the environment$"
RETURNED: dict[str, tuple[dict[str, Any], str]] = {
    "reward": ({"reward": -1e40}, rf"'reward' of sub-environment 0 is -1e\+40, {LARGE}"),
    "whole number": ({"reward": 10**40}, rf"'reward' of sub-environment 0 is 1e\+40, {LARGE}"),
    "infinite": ({"reward": np.inf}, f"'reward' of sub-environment 0 is inf, {NOT_FINITE}"),
    "last": ({"last": np.array([0.0, 1e300])}, "'observation' of sub-environment 0 is "),
    "last, too few": (
        {"last": np.array([0.0])},
        r"'observation' of final_obs is \[1\], but its space is \[2\]",
    ),
}


@pytest.mark.parametrize("name", RETURNED)
def test_numbers_that_a_run_cannot_hold_are_those_of_the_line(name: str) -> None:
    given, line = RETURNED[name]
    mode = AutoresetMode.SAME_STEP
    env = envs.make(SyncVectorEnv([lambda: Given(**given)], autoreset_mode=mode), batch=1)

    def played() -> None:
        env.reset(seed=0)
        for _ in range(3):
            env.step(None)

    refused(played, f"^env: {line}")


NUMBER = iter(range(99))


def named(factory: Any) -> dict[str, Any]:
    name = f"test-doors/World{next(NUMBER)}-v0"
    envs.register(name, factory)
    return {"id": name}


def test_a_buffer_that_is_written_again_changes_no_final_observation() -> None:
    env = envs.make(named(lambda: Samples(SPACES["int32"], buffered=True)), batch=2)
    samples, seen = Samples(SPACES["int32"]).samples, [env.reset(seed=0)[0]["observation"]]
    for _ in range(3):
        observed, _, _, _, info = env.step(None)
        seen.append(observed["observation"])
    assert [one[1].tolist() for one in seen] == [one.tolist() for one in (*samples[:3], samples[0])]
    assert info["final_obs"]["observation"].tolist() == [samples[3].tolist()] * 2


def refused(make: Any, match: str) -> None:
    with pytest.raises(AntiphonError, match=match) as caught:
        make()
    assert "\n" not in str(caught.value)


class Held(envs.TorchVectorEnv):
    """A torch environment that the caller makes, and whose closing is noted."""

    def __init__(self) -> None:
        signals = {"observation": envs.Signal(shape=(1,))}
        super().__init__(
            2, envs.Description(signals=signals, action_space=spaces.Discrete(2)), spaces.Discrete(2)
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return {"observation": torch.zeros(2, 1)}, {}

    def step(self, actions: Any = None) -> Any:
        off = torch.zeros(2, dtype=torch.bool)
        return {"observation": torch.ones(2, 1)}, torch.zeros(2), off, off, {}

    def state_dict(self) -> dict[str, Any]:
        return {"own": (np.zeros(2), {0: "first"})}

    def load_state_dict(self, state: Any) -> None:
        assert state["own"][1:] == ({0: "first"},)


class Saved(Samples):
    own: Any = ()

    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at, "own": self.own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.at, self.own = state["at"], state["own"]


def saved() -> SyncVectorEnv:
    return SyncVectorEnv([lambda: Saved(SPACES["float32"])] * 2, autoreset_mode=AutoresetMode.SAME_STEP)


HELD: dict[str, Any] = {
    "vector": saved,
    "wrapped": lambda: wrappers.vector.NormalizeReward(saved()),
    "torch": Held,
}


class Rolling(Saved):
    """Has random numbers of its own, a reward by them, and a state of what they are made of."""

    def __init__(self) -> None:
        super().__init__(SPACES["float32"])
        kinds = {"name": np.str_("dice"), "size": torch.Size([2, 3])}
        self.dice, self.own = random.Random(0), {0: np.zeros(2), "seen": {()}, **kinds}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        shown, _, *ends = super().step(action)
        self.own[0][1] += self.dice.random()
        self.own["seen"].add((self.at,))
        return shown, float(self.own[0][1]), *ends  # type: ignore[return-value]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "dice": self.dice.getstate()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.dice.setstate(state["dice"])


def test_a_state_of_an_environment_is_any_plain_data(tmp_path: Path) -> None:
    def given() -> antiphon.Scenario:
        return scenario(SyncVectorEnv([Rolling] * 2, autoreset_mode=AutoresetMode.SAME_STEP))

    with antiphon.Simulation(given()) as whole:
        whole.run(4, progress=False)
        whole.save(tmp_path / "saved")
        with antiphon.Simulation.load(tmp_path / "saved", scenario=given()) as again:
            for one in (whole, again):
                one.run(3, progress=False)
            runs = [one.scenario.env.envs for one in (whole, again)]
            for a, b in zip(*runs, strict=True):
                assert (a.own[0] == b.own[0]).all()
                assert a.own["seen"] == b.own["seen"]
                assert b.own["size"].numel() == 6  # which a tuple has not
                assert a.dice.getstate() == b.dice.getstate()


class Closing(Samples):
    closed = False

    def close(self) -> None:
        self.closed = True


class ClosingTwo(Two):
    closed = False

    def close(self) -> None:
        self.closed = True


MADE = {
    "gymnasium": lambda: Closing(SPACES["float32"]),
    "pettingzoo": lambda: ClosingTwo(SPACES["float32"]),
    **HELD,
}


@pytest.mark.parametrize("kind", MADE)
def test_an_environment_that_a_function_of_the_callers_made_is_closed(kind: str) -> None:
    made: list[Any] = []

    def make(**_: Any) -> Any:
        made.append(MADE[kind]())
        return made[-1]

    agents = (
        {"a": {**PLAYER, "observes": ["a.observation"], "acts": "a"}}
        if kind == "pettingzoo"
        else {"a": PLAYER}
    )
    with antiphon.Simulation(scenario(named(make), agents=agents)) as simulation:
        simulation.step()
    assert made
    assert all(one.closed for one in made)


class Wrong(Samples):
    def __init__(self, fault: str) -> None:
        super().__init__(SPACES["float32"])
        self.fault = fault
        if fault == "no seed":
            vars(self)["reset"] = lambda: None

    def reset(self, **settings: Any) -> Any:
        found = super().reset(**settings)
        return {"old reset": found[0], "no info": (found[0], None)}.get(self.fault, found)

    def step(self, action: Any) -> Any:
        seen, _, *rest = super().step(action)
        reward = {"rewards": np.array([1.0, 2.0]), "no reward": None}.get(self.fault, 1.0)
        return (seen, reward, *(rest[1:] if self.fault == "old step" else rest))


OLD = r"^env: 'Wrong' failed in .*; write reset\(self, \*, seed=None, options=None\) .*, terminated, truncated, info\)$"


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("old reset", OLD),
        ("no info", OLD),
        ("old step", OLD),
        ("no seed", OLD),
        (
            "rewards",
            r"^env: the reward is an array of shape \[2\]; return a number from step\(\), or register a Petting",
        ),
    ],
)
def test_what_is_not_gymnasium_s_interface_is_refused_with_who_can_tell(fault: str, line: str) -> None:
    def played() -> None:
        env = envs.make(named(lambda: Wrong(fault)), batch=2)
        env.reset(seed=0)
        env.step(None)

    refused(played, line)


class Bandit(gymnasium.Env[Any, Any]):
    """Shows nothing; the second choice is right."""

    observation_space, action_space = spaces.Box(-1, 1, (0,), np.float32), spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(0, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(0, np.float32), float(action), True, False, {}


def test_a_world_that_shows_nothing_is_learned_alone_and_with_other_seeds() -> None:
    player = {"observes": ["observation"], "acts": True, "objective": {"kind": "ppo", "epochs": 2}}
    env, training = named(lambda: Bandit()), {"batch": 4, "steps": 200}
    scenario = antiphon.Scenario(scenario="p", env=env, agents={"p": player}, training=training)
    with antiphon.Simulation(scenario) as alone:
        alone.run(steps=160)
        assert alone.evaluate(episodes=1).return_ == 1
    with antiphon.Population(scenario, [0, 1]) as members:
        members.run(steps=160)
        assert [one.evaluate(episodes=1).return_ for one in members.simulations] == [1, 1]

"""The door of worlds, all at once: a table of spaces, types, bounds and wrappers against a loop in Gymnasium alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import product
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
from tests.kit.tiers import sampled

Space = spaces.Space[Any]
INF = np.inf

# --- the table ---------------------------------------------------------------------------------------------

TYPES = (
    "bool",
    "uint8",
    "uint16",
    "uint32",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
)
BOUNDS: dict[str, tuple[float, float]] = {
    "unit": (0, 1),
    "symmetric": (-1, 1),
    "offset": (3, 7),
    "fractions": (-0.1, 0.3),
    "largest": (-INF, INF),
    "from below": (-2, INF),
    "from above": (-INF, 5),
}


def box(kind: str, bounds: str) -> Space | None:
    """A box of three numbers; None: there is no such box."""
    dtype, (low, high) = np.dtype(kind), BOUNDS[bounds]
    if dtype.kind != "f":
        if bounds == "fractions" or (dtype.kind in "bu" and low < 0 and np.isfinite(low)):
            return None
        least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        low, high = max(least, low), min(most, high)
        if dtype.kind == "b" and low > 1:
            return None
        low, high = (int(x) if np.isfinite(x) else x for x in (low, high))
    lows = np.full(3, low, dtype)
    highs = np.full(3, high, dtype)
    return spaces.Box(lows, highs, dtype=dtype.type)


OTHERS: dict[str, Space] = {
    "choice": spaces.Discrete(4),
    "choice from -2": spaces.Discrete(4, start=-2),
    "one choice": spaces.Discrete(1, start=3),
    "choices": spaces.MultiDiscrete([3, 5]),
    "choices from": spaces.MultiDiscrete([3, 5], start=[-1, 4]),
    "choices in rows": spaces.MultiDiscrete([[2, 3], [4, 2]]),
    "small choices": spaces.MultiDiscrete([3, 2], dtype=np.int8),
    "number": spaces.Box(-2, 2, (), np.float64),
    "whole number": spaces.Box(3, 9, (), np.int16),
    "numbers in rows": spaces.Box(0, 1000, (2, 2), np.float32),
    "bits": spaces.MultiBinary(3),
    "bits in rows": spaces.MultiBinary((2, 2)),
    "dict": spaces.Dict(
        {
            "b": spaces.Box(-2, 2, (2,), np.float32),
            "a": spaces.Discrete(3, start=1),
            "z": spaces.MultiBinary(2),
        }
    ),
    "tuple": spaces.Tuple((spaces.Discrete(2, start=5), spaces.Box(0, 4, (2,), np.int16))),
    "nested": spaces.Dict(
        {
            "in": spaces.Dict({"eye": spaces.Box(0, 9, (2, 2), np.uint8)}),
            "t": spaces.Tuple((spaces.Discrete(3),)),
        }
    ),
}


def all_spaces() -> Iterator[tuple[str, Space]]:
    """Every space, and its name."""
    for kind, bounds in product(TYPES, BOUNDS):
        found = box(kind, bounds)
        if found is not None:
            yield f"{kind} {bounds}", found
    yield from OTHERS.items()


SPACES = dict(all_spaces())
PLAIN = spaces.Box(-1, 1, (2,), np.float32)


def is_float_box(space: Space) -> bool:
    return isinstance(space, spaces.Box) and space.dtype.kind == "f"


def bounded(space: Space) -> bool:
    return isinstance(space, spaces.Box) and bool(space.is_bounded())


Wrapper = Callable[[gymnasium.Env[Any, Any]], gymnasium.Env[Any, Any]]
WRAPPERS: dict[str, tuple[Wrapper, Callable[[Space, Space], bool]]] = {
    "none": (lambda env: env, lambda observed, acted: True),
    "limit": (lambda env: wrappers.TimeLimit(env, 2), lambda observed, acted: True),
    "normalised": (wrappers.NormalizeObservation, lambda observed, acted: is_float_box(observed)),
    "frames": (lambda env: wrappers.FrameStackObservation(env, 2), lambda observed, acted: isinstance(observed, spaces.Box)),
    "transformed": (
        lambda env: wrappers.TransformObservation(env, np.flip, env.observation_space),
        lambda observed, acted: isinstance(observed, spaces.Box),
    ),
    "flattened": (wrappers.FlattenObservation, lambda observed, acted: True),
    "rewards": (lambda env: wrappers.TransformReward(env, lambda reward: 2 * reward + 1), lambda observed, acted: True),
    "rescaled": (
        lambda env: wrappers.RescaleAction(env, np.float32(-1), np.float32(1)),
        lambda observed, acted: is_float_box(acted) and bounded(acted) and acted.dtype == np.float32,
    ),
    "clipped": (wrappers.ClipAction, lambda observed, acted: is_float_box(acted)),
    "sticky": (lambda env: wrappers.TransformAction(env, lambda action: action, env.action_space), lambda observed, acted: True),
}  # fmt: skip


def fits(observed: str, acted: str, wrapper: str) -> bool:
    return WRAPPERS[wrapper][1](SPACES[observed], SPACES[acted])


# --- the world ---------------------------------------------------------------------------------------------


class World(gymnasium.Env[Any, Any]):
    """Shows samples of a space, rewards by what it was given, and keeps that; episodes of three steps."""

    def __init__(self, observed: Space, acted: Space) -> None:
        self.observation_space, self.action_space = observed, acted
        draw = np.random.default_rng(3)
        self.samples = [
            joined(observed, {p: sample(s, draw) for p, s in leaves(observed).items()}) for _ in range(5)
        ]
        self.given: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.at = 0
        return self.samples[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.given.append(action)
        self.at += 1
        parts = [np.asarray(part_at(action, path), float) for path in leaves(self.action_space)]
        numbers = [np.nan_to_num(part).clip(-99, 99).sum() for part in parts]  # float16 makes 1e30 infinite
        reward = float(np.clip(sum(numbers), -9, 9)) + self.at
        return self.samples[self.at], reward, self.at == 3, False, {}


# --- by hand -----------------------------------------------------------------------------------------------


def seen(space: Space, value: Any) -> dict[str, NDArray[np.float64]]:
    """What agents are to observe: bytes between 0 and 1, choices from 0, in float32."""
    found = {}
    for path, leaf in leaves(space).items():
        keys = path if path and isinstance(path[0], str) else ("observation", *path)
        number = np.asarray(part_at(value, path), np.float64)
        if isinstance(leaf, spaces.Box) and leaf.dtype == np.uint8:
            low, high = leaf.low.astype(float), leaf.high.astype(float)
            number = (number - low) / np.maximum(high - low, 1)
        elif isinstance(leaf, spaces.Discrete | spaces.MultiDiscrete):
            number = number - leaf.start
        found[".".join(map(str, keys))] = number
    return found


def put_out(space: Space, rows: int, draw: random.Random) -> tuple[torch.Tensor, list[Any]]:
    """What agents put out for one part of the action, [rows, …], and what each world is to be given for it."""
    if isinstance(space, spaces.Discrete):
        choices = torch.tensor([draw.randrange(int(space.n)) for _ in range(rows)])
        logits = torch.nn.functional.one_hot(choices, int(space.n)).float()
        return (logits if draw.random() < 0.5 else choices), (choices + int(space.start)).tolist()
    count = int(np.prod(space.shape, dtype=int))
    if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
        sizes = space.nvec.reshape(-1) if isinstance(space, spaces.MultiDiscrete) else [2] * count
        values = np.array([[draw.randrange(int(n)) for n in sizes] for _ in range(rows)])
        start = getattr(space, "start", 0)
        return torch.tensor(values), [(v.reshape(space.shape) + start).astype(space.dtype) for v in values]
    assert isinstance(space, spaces.Box)
    largest = draw.choice([2.0, 9.0, 1e30])
    values = np.array([[draw.uniform(-largest, largest) for _ in range(count)] for _ in range(rows)])
    values = values.astype(np.float32).reshape(rows, *space.shape)
    return torch.tensor(values), [nearest(space, value) for value in values]


def nearest(space: spaces.Box, values: NDArray[np.float32]) -> NDArray[Any]:
    """The nearest element of a box, number by number."""
    found = []
    for value, low, high in zip(values.flat, space.low.flat, space.high.flat, strict=True):
        if space.dtype.kind == "f":
            found.append(min(max(space.dtype.type(value), low), high))
        else:
            found.append(min(max(round(float(value)), int(low)), int(high)))
    return np.array(found, space.dtype).reshape(space.shape)


def sample(space: Space, draw: np.random.Generator) -> Any:
    """A value of a space, near zero; Gymnasium samples no box that reaches from a bound to the largest number of 64 bits."""
    if not isinstance(space, spaces.Box):
        space.seed(int(draw.integers(99)))
        return space.sample()
    return nearest(space, (4 * draw.standard_normal(space.shape)).astype(np.float32))


def joined(space: Space, parts: dict[tuple[Any, ...], Any], path: tuple[Any, ...] = ()) -> Any:
    """A value of a space of its parts."""
    if isinstance(space, spaces.Dict):
        return {key: joined(part, parts, (*path, key)) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(joined(part, parts, (*path, place)) for place, part in enumerate(space.spaces))
    return parts[path]


def actions_of(space: Space, rows: int, draw: random.Random) -> tuple[Any, list[Any]]:
    """A batch of what agents put out, and for each row what its world is to be given."""
    found = {path: put_out(leaf, rows, draw) for path, leaf in leaves(space).items()}
    given = {".".join(map(str, path)): tensors for path, (tensors, _) in found.items()}
    wanted = [
        joined(space, {path: values[row] for path, (_, values) in found.items()}) for row in range(rows)
    ]
    return (given if isinstance(space, spaces.Dict | spaces.Tuple) else given[""]), wanted


def alike(space: Space, one: Any, other: Any) -> None:
    """Hold two native actions to each other, with their types."""
    for path, leaf in leaves(space).items():
        a, b = np.asarray(part_at(one, path)), np.asarray(part_at(other, path))
        np.testing.assert_array_equal(a.astype(leaf.dtype), b.astype(leaf.dtype))
        assert a.shape == b.shape


MODES = (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED)


def play(observed: str, acted: str, wrapper: str, mode: AutoresetMode, seed: int) -> None:
    """Play two rows of a world through antiphon, and each in a loop of Gymnasium alone."""
    around, draw = WRAPPERS[wrapper][0], random.Random(seed)
    worlds = [World(SPACES[observed], SPACES[acted]) for _ in range(4)]
    alone = [around(world) for world in worlds[2:]]
    vector = SyncVectorEnv([lambda world=world: around(world) for world in worlds[:2]], autoreset_mode=mode)
    env = envs.make(vector, batch=2)
    space, action_space = alone[0].observation_space, alone[0].action_space
    shown = env.reset(seed=0)[0]
    right = [one.reset(seed=0)[0] for one in alone]
    compare(space, shown, right)
    due: list[Any] = [False, False]
    for _ in range(7):
        given, wanted = actions_of(action_space, 2, draw)
        shown, reward, terminated, truncated, info = env.step(given)
        rewards, ends, last = [], [], []
        for row, (one, action) in enumerate(zip(alone, wanted, strict=True)):
            if due[row]:  # the step that only resets
                right[row], pay, end = one.reset()[0], 0.0, (False, False)
            else:
                right[row], pay, *end, _ = one.step(action)
            if mode is AutoresetMode.NEXT_STEP:
                ends.append(due[row] or (False, False))
                due[row] = tuple(end) if any(end) else False
                last.append(right[row])
            else:
                ends.append(tuple(end))
                last.append(right[row])
                right[row] = one.reset()[0] if any(end) else right[row]
            rewards.append(pay)
        np.testing.assert_allclose(reward.numpy(), rewards, rtol=1e-6)
        assert list(zip(terminated.tolist(), truncated.tolist(), strict=True)) == ends
        compare(space, shown, right)
        if mode is not AutoresetMode.NEXT_STEP and any(map(any, ends)):
            compare(space, info["final_obs"], last)
    for ours, theirs in zip(worlds[:2], worlds[2:], strict=True):
        assert len(ours.given) == len(theirs.given)
        for one, other in zip(ours.given, theirs.given, strict=True):
            alike(ours.action_space, one, other)
    env.close()


def compare(space: Space, shown: dict[str, torch.Tensor], right: list[Any]) -> None:
    for row, value in enumerate(right):
        wanted = seen(space, value)
        assert shown.keys() == wanted.keys()
        for name, number in wanted.items():
            np.testing.assert_allclose(shown[name][row].double().numpy(), number, rtol=1e-6, err_msg=name)


CELLS = [
    (observed, acted, wrapper)
    for observed, acted, wrapper in [
        *product(SPACES, ["choice", "float32 symmetric"], WRAPPERS),
        *product(["float32 symmetric"], SPACES, WRAPPERS),
    ]
    if fits(observed, acted, wrapper)
]
random.Random(0).shuffle(CELLS)
CHUNKS = 60


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("chunk", sampled(range(CHUNKS), CHUNKS, "nightly"))
def test_a_world_is_played_as_in_gymnasium_alone(chunk: int) -> None:
    for number, (observed, acted, wrapper) in enumerate(CELLS[chunk::CHUNKS]):
        try:
            play(observed, acted, wrapper, MODES[number % 3], number)
        except Exception as error:
            error.add_note(f"{observed}; {acted}; {wrapper}; {MODES[number % 3]}")
            raise


def test_no_policy_acts_in_a_box_of_bools() -> None:
    agent = {"observes": ["observation"], "acts": True, "objective": "a2c"}
    rows = SyncVectorEnv([lambda: World(PLAIN, SPACES["bool unit"])], autoreset_mode=MODES[0])
    scenario = antiphon.Scenario(scenario="w", env=rows, agents={"a": agent}, training={"batch": 1})
    with pytest.raises(AntiphonError, match=r"bool\); use Discrete, .*MultiBinary or a Box of numbers, or"):
        antiphon.Simulation(scenario)


PLAYED = [name for name in SPACES if not name.startswith("bool")]


# a SyncVectorEnv hands over NumPy's scalars for a Box without axes, of which Gymnasium itself warns in `contains`
@pytest.mark.filterwarnings("ignore:.*Casting input x to numpy array")
@pytest.mark.parametrize("name", sampled(PLAYED, 24, "nightly"))
@pytest.mark.parametrize("kind", ["a2c", pytest.param("ppo", marks=pytest.mark.nightly)])
def test_policies_act_inside_every_space(name: str, kind: str) -> None:
    """Those of a run, and the policy that is taken out of it."""
    space = SPACES[name]
    worlds = [World(PLAIN, space) for _ in range(2)]
    rows = SyncVectorEnv([lambda world=world: world for world in worlds], autoreset_mode=MODES[0])
    nested = isinstance(space, spaces.Dict | spaces.Tuple)
    parts: list[Any] = [".".join(map(str, path)) for path in leaves(space)] if nested else [True]
    network = {"kind": "mlp", "hidden": [4]}
    agents = {
        f"a{place}": {"observes": ["observation"], "acts": part, "objective": kind, "network": network}
        for place, part in enumerate(parts)
    }
    scenario = antiphon.Scenario(scenario="w", env=rows, agents=agents, training={"batch": 2, "steps": 20})
    with antiphon.Simulation(scenario) as simulation:
        simulation.run(20, progress=False)
        policy = simulation.policy()
        for seed in range(3):
            assert space.contains(policy.act(PLAIN.sample() * seed))
    assert [len(world.given) for world in worlds] == [20, 20]

"""What rows of Gymnasium's vector environments change without a word, and what of a row they refuse without saying what it is."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from antiphon.base.errors import RunError, ScenarioWarning, warn_caller
from antiphon.base.problems import show_value
from antiphon.envs.adaptors.spaces import leaves, masks_in, part_at, signal_name
from antiphon.nets.isolation.global_numbers import seed_globally


class FinalObservation(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Copy of the last observation of each episode, and observations and rewards as they are, or a RunError; of info the names of masks.

    Gymnasium's vector environments keep the array itself as `final_obs`, and then reset the environment, which may write to it.
    They write observations into arrays of the space's type, in which larger whole numbers become others: 300 in int8 is 44. Into
    shared memory one number is written as many; of any other shape that does not fit, and of a reward, no error says what it is.
    They gather info, which nothing here reads, in arrays of the first row's types and shapes, in which other rows' may not fit, and
    take a `final_obs` in it for theirs.

    Args:
        alone: Whether it has a process of its own, whose global random numbers are seeded with it.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], *, alone: bool = False) -> None:
        super().__init__(env)
        self._alone = alone
        space_leaves = leaves(env.observation_space)
        self._paths = [*space_leaves]
        self._boxes = [(path, box) for path, box in space_leaves.items() if isinstance(box, spaces.Box)]

    def reset(self, **settings: Any) -> tuple[Any, dict[str, Any]]:
        if self._alone and settings.get("seed") is not None:
            seed_globally(settings["seed"])
        shown, info = self.env.reset(**settings)
        # Of an observation alone, its first two numbers would be taken for these.
        if not isinstance(info, dict):
            raise TypeError(f"reset() returned {show_value(info)} as info, which is no dict")
        self._check(shown)
        return shown, dict.fromkeys(masks_in(info), True)

    def _check(self, observation: Any) -> None:
        """Raise a RunError if a part is None or has not the shape of its space, or a whole number is none of its type."""
        for path in self._paths:
            if observation is None or part_at(observation, path) is None:
                raise RunError(
                    f"env: '{signal_name(path)}' is None; return its value from reset() and step()"
                )
        for path, box in self._boxes:
            part = part_at(observation, path)
            if (shape := np.shape(part)) != box.shape:
                name = ".".join(map(str, path)) or "observation"
                fix = "return that shape, or declare the other"
                raise RunError(f"env: '{name}' is {list(shape)}, but its space is {list(box.shape)}; {fix}")
            if box.dtype.kind not in "iu":
                continue
            value = np.asarray(part)
            if value.dtype == box.dtype or value.dtype.kind not in "iu":
                continue
            limits = np.iinfo(box.dtype)
            outside = value[(value < limits.min) | (value > limits.max)]
            if outside.size:
                name = ".".join(map(str, path)) or "observation"
                fix = "declare another dtype, such as numpy.int64"
                raise RunError(
                    f"env: '{name}' is {outside.flat[0]}, which its Box of {box.dtype} cannot hold; {fix}"
                )

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, Any]:
        """Take a step; the observation is a copy where the episode ends."""
        observation, reward, terminated, truncated, _ = self.env.step(action)
        self._check(observation)
        reward = reward_of(reward)
        terminated, truncated = _end_of("terminated", terminated), _end_of("truncated", truncated)
        if terminated or truncated:
            observation = deepcopy(observation)
        return observation, reward, terminated, truncated, {}

    def close(self) -> None:
        close_world(self.env)


def close_world(world: Any, **how: Any) -> None:
    """Close an environment; one of PettingZoo's form, but without its base class, may have no `close`.

    A ScenarioWarning says where it fails: what it was made for is done, or has failed with an error of its own.
    """
    if (close := getattr(world, "close", None)) is None:
        return
    try:
        close(**how)
    except Exception as error:  # noqa: BLE001  (anything somebody's world may raise)
        base = getattr(world, "unwrapped", world)
        for process in getattr(base, "processes", ()):
            process.terminate()
        if hasattr(base, "closed"):  # else Gymnasium would close it again, and print a traceback
            base.closed = True
        if not isinstance(error, EOFError | ConnectionError):  # a process that has ended failed earlier
            line = " ".join(f"{type(error).__name__}: {error}".split())
            warn_caller(f"env: '{type(base).__name__}' failed in close(): {line}", ScenarioWarning)


def _end_of(name: str, flag: Any) -> Any:
    """Return whether an episode has ended, as an environment says it; RunError for what is no truth value."""
    if type(flag) is bool:
        return flag
    with suppress(RuntimeError, ValueError):  # of a tensor, on whatever device, too
        flag = flag.item() if hasattr(flag, "item") else flag
    if np.size(flag) != 1 or np.asarray(flag).dtype.kind not in "biuf":
        shown = f"an array of shape {list(flag.shape)}" if hasattr(flag, "shape") else repr(flag)
        raise RunError(f"env: '{name}' is {shown}; return True or False from step()")
    return flag


def reward_of(reward: Any, agent: str = "") -> float:
    """Return a reward, a number or an array of a single one, as a number; RunError for anything else.

    Args:
        reward: As an environment returned it.
    """
    try:
        number: float = (reward.item() if hasattr(reward, "item") else reward).__float__()
    except (AttributeError, RuntimeError, TypeError, ValueError):
        whose = f" of '{agent}'" if agent else ""
        shown = "None" if reward is None else show_value(reward)
        shown = f"an array of shape {list(reward.shape)}" if hasattr(reward, "shape") else shown
        several = not agent and (isinstance(reward, list | tuple) or hasattr(reward, "shape"))
        hint = ", or register a PettingZoo environment, in which each agent has its own" if several else ""
        raise RunError(f"env: the reward{whose} is {shown}; return a number from step(){hint}") from None
    return number

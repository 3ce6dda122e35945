"""The contract of a `TorchVectorEnv`: what every environment of the library is held to."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor
from torch.utils._pytree import tree_leaves

from antiphon.base.errors import RunError
from antiphon.envs import ExampleStream, TorchVectorEnv
from antiphon.envs.base import StepResult


def check_vector_env(env_factory: Callable[[], TorchVectorEnv], steps: int = 12) -> None:
    """Check that environments implement the interface of `TorchVectorEnv`.

    Args:
        env_factory: Returns a new, equal environment at every call.
        steps: Steps for which environments are compared; an episode should end within them.

    Raises:
        AssertionError: A requirement is violated; the message names it.
    """
    env = env_factory()
    _require(isinstance(env, TorchVectorEnv), f"{type(env).__name__} is not a TorchVectorEnv")
    same_step = env.metadata.get("autoreset_mode") is AutoresetMode.SAME_STEP
    _require(same_step, "metadata['autoreset_mode'] is not AutoresetMode.SAME_STEP")
    first = _roll(env, steps, seed=7)
    for result in first:
        _check_result(env, result)
    again, twin = _roll(env, steps, seed=7), _roll(env_factory(), steps, seed=7)
    _require(_equal(first, again), "the same seed gives different steps; draw all numbers from it")
    _require(_equal(first, twin), "an equal environment gives different steps")
    free = [[env.reset(seed=seed), *(env.step(None) for _ in range(steps))] for seed in (7, 8)]
    same = _equal(first, _roll(env, steps, seed=8)) and _equal(*free)
    _require(not same, "another seed gives the same steps")
    _check_state(env_factory, steps)
    for split in env.splits:
        _require(env.example_count(split) > 0, f"the split '{split}' has no examples")
        if isinstance(env, ExampleStream) and env.is_stream:
            _check_split(env, split)


def _roll(env: TorchVectorEnv, steps: int, seed: int) -> list[StepResult]:
    """Reset and take some steps with the same random actions; the reset counts as a step without an end."""
    obs, info = env.reset(seed=seed)
    env.action_space.seed(0)
    none = torch.zeros(env.num_envs, dtype=torch.bool, device=env.device)
    reward = torch.zeros(env.num_envs, dtype=env.dtype, device=env.device)
    return [(obs, reward, none, none, info), *_go(env, steps)]


def _go(env: TorchVectorEnv, steps: int) -> list[StepResult]:
    return [env.step(env.action_space.sample()) for _ in range(steps)]


def _check_result(env: TorchVectorEnv, result: StepResult) -> None:
    """Check names, shapes, types and ranges of what a step returns."""
    obs, reward, terminated, truncated, info = result
    expected = sorted(env.single_observation_space.spaces)
    _require(
        sorted(obs) == expected, f"obs has {sorted(obs)}, not {expected}; return each requested observation"
    )
    for name, signal in env.signals.items():
        _require(name not in (obs if signal.training_only else info), _MISPLACED[signal.training_only] % name)
        value = obs.get(name, info.get(name))
        is_given = value is not None or signal.known == "after_step"
        _require(is_given, f"info lacks the training-only signal '{name}'")
        if value is not None:
            dtype = env.dtype if signal.classes is None else torch.int64
            _require_form(env, f"'{name}'", value, dtype, signal.shape)
            low, high = (signal.low, signal.high) if signal.classes is None else (0, signal.classes - 1)
            inside = bool(((value >= low) & (value <= high)).all())
            _require(inside, f"'{name}' leaves its range from {low} to {high}")
        if f"_{name}" in info:
            mask = info[f"_{name}"]
            sites = () if mask.dim() == 1 else signal.shape or (1,)
            _require_form(env, f"the mask '_{name}'", mask, torch.bool, sites)
    _require_form(env, "reward", reward, env.dtype)
    _require(bool(torch.isfinite(reward).all()), "reward has numbers that are not finite")
    _require_form(env, "terminated", terminated, torch.bool)
    _require_form(env, "truncated", truncated, torch.bool)
    ended = terminated | truncated
    if bool(ended.any()):
        _require("final_obs" in info and "_final_obs" in info, "an episode ended without final_obs in info")
        _require(set(info["final_obs"]) == set(obs), "final_obs has other names than obs")
        _require(torch.equal(info["_final_obs"], ended), "_final_obs is not where an episode ended")


_MISPLACED = {True: "obs has the training-only signal '%s'", False: "info has the observation '%s'"}


def _require_form(
    env: TorchVectorEnv, subject: str, value: Any, dtype: torch.dtype, shape: tuple[int, ...] = ()
) -> None:
    expected_shape = (env.num_envs, *shape)
    form = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    _require(form == f"{dtype} {expected_shape}", f"{subject} is {form}, not {dtype} {expected_shape}")
    _require(value.device.type == env.device.type, f"{subject} is on {value.device}, not {env.device}")


def _check_state(env_factory: Callable[[], TorchVectorEnv], steps: int) -> None:
    """Check that a copy made by state_dict continues bit for bit; numbers in it pass through JSON."""
    env, twin = env_factory(), env_factory()
    _roll(env, steps // 2, seed=3)
    try:
        state = env.state_dict()
    except RunError:  # an environment that cannot be saved raises
        return
    plain = {n: v for n, v in state.items() if not any(isinstance(leaf, Tensor) for leaf in tree_leaves(v))}
    twin.load_state_dict({**state, **json.loads(json.dumps(plain))})
    env.action_space.seed(3)
    twin.action_space.seed(3)
    _require(_equal(_go(env, steps), _go(twin, steps)), "load_state_dict gives different steps")


def _check_split(env: ExampleStream, split: str) -> None:
    """Check that each batch has every signal, and all batches together the split's number of examples."""
    count = 0
    for batch in env.batches(split, 100):
        signals = {name for name in batch if not name.startswith("_")}
        _require(signals == set(env.signals), f"batches('{split}') have the signals {sorted(batch)}")
        sizes = {len(value) for value in batch.values()}
        _require(len(sizes) == 1, f"batches('{split}') have signals of unequal length")
        count += sizes.pop()
    expected = env.example_count(split)
    _require(count == expected, f"batches('{split}') have {count} examples, not {expected}")


def _equal(a: Any, b: Any) -> bool:
    try:
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    except AssertionError:
        return False
    return True


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)

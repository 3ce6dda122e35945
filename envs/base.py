"""The interface of antiphon's environments: Gymnasium's vector environments, in torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar

import gymnasium
import torch
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Dict
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from antiphon.base.errors import RunError, ScenarioError, require, suggest
from antiphon.envs.signal import Description, Signal

Values = tuple[dict[str, Tensor], dict[str, Any]]
"""Observations and info."""
StepResult = tuple[dict[str, Tensor], Tensor, Tensor, Tensor, dict[str, Any]]
"""Observations, reward, terminated, truncated (the last three `[batch]`) and info."""

_HOLDS = "_holds"
"""Attribute of a mask of which the host knows without synchronisation: its one value, or None: it holds in some rows."""
_LIBRARIES = ("antiphon.", "gymnasium.", "pettingzoo.", "ale_py.")
"""Packages whose environments draw from generators of their own."""


def may_draw_globally(env: object) -> bool:
    """Return whether an environment may draw from the global generators of torch, numpy and Python, as a user's may."""
    return not type(env).__module__.startswith(_LIBRARIES)


class TorchVectorEnv(VectorEnv[dict[str, Tensor], Any, Tensor], ABC):
    """A batch of environments whose signals are torch tensors on one device.

    It is a `gymnasium.vector.VectorEnv` that resets ended environments in the same step. Observations are in
    `obs`, training-only signals under their own names in `info`: a signal known at the tick belongs to the returned
    observation, a signal known after the step to the step just taken. A reset with a seed starts the sequence of episodes
    of this seed; a reset without a seed continues the sequence, at first from a random seed. A step before the first reset
    raises ResetNeeded, and a step with actions of the wrong shape a ScenarioError. A step changes nothing that was returned
    before, from which windows are learned later: it returns new tensors. Do not write into what a step returns.

    Attributes:
        hold, episode_steps, endless, splits, is_stream: See `Description`.
        requested: Names of the signals that are computed, in the order of `signals`.
        epoch_examples: Examples of an epoch; None: there are no epochs.
        name: By which errors name it: of its class, or its id.
        late_ends: Whether an end is returned a step later than its signals `terminated` and `truncated`.
        given: The environment as its own library has it, where this one adapts it; else None.
        draws_globally: Whether it may draw from the global generators, which a run then seeds before each of its steps.
    """

    epoch_examples: int | None = None
    late_ends: bool = False
    given: Any = None

    def __init__(
        self,
        num_envs: int,
        description: Description,
        single_action_space: gymnasium.Space[Any],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.num_envs = num_envs
        self.name: str = getattr(self, "name", type(self).__name__)
        self.draws_globally = may_draw_globally(self)
        self.description = description
        self.signals: dict[str, Signal] = dict(description.signals)
        self.hold = description.hold
        self.episode_steps = description.episode_steps
        self.endless = description.endless
        self.splits = description.splits
        self.is_stream = description.is_stream
        self.device = torch.device(device)
        self.dtype = dtype
        self.metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_action_space = single_action_space
        self.action_space = batch_space(single_action_space, num_envs)
        self._seed: int | None = None
        self.request(self.signals)

    def request(self, names: Iterable[str]) -> None:
        """Compute only these signals from the next reset on, in any order; ScenarioError for an unknown signal."""
        requested = set(names)
        for name in sorted(requested - set(self.signals)):
            raise ScenarioError(f"env: no signal '{name}'{suggest(name, self.signals)}")
        self.requested = tuple(name for name in self.signals if name in requested)
        for name in ("single_observation_space", "observation_space"):
            self.__dict__.pop(name, None)

    # Spaces have a bound per element, which is expensive for large batches, and only Gymnasium uses them.

    @cached_property
    def single_observation_space(self) -> Dict:  # type: ignore[override]
        """Space of the requested observations of one environment."""
        observed = [name for name in self.requested if not self.signals[name].training_only]
        floats = str(self.dtype).removeprefix("torch.")
        return Dict({name: self.signals[name].space(floats) for name in observed})

    @cached_property
    def observation_space(self) -> gymnasium.Space[Any]:  # type: ignore[override]
        """Space of the requested observations of all environments."""
        return batch_space(self.single_observation_space, self.num_envs)

    @property
    def episode_length(self) -> int | None:
        """Length of the present episode in steps, the same in all environments; None: endless or unknown."""
        return self.episode_steps

    @property
    def evaluation_steps(self) -> int | None:
        """Steps from the last reset that cover the environment's split once; None: undefined."""
        return None

    def epoch_at(self, step: int) -> Fraction | None:
        """Return the epochs completed after `step` steps; None: there are no epochs."""
        if self.epoch_examples is None:
            return None
        return Fraction(step * self.num_envs, self.hold * self.epoch_examples)

    def step_at(self, epoch: Fraction) -> Fraction:
        """Return the number of steps for `epoch` epochs, if there are epochs."""
        assert self.epoch_examples is not None
        return epoch * self.hold * self.epoch_examples / self.num_envs

    def metrics(self) -> Mapping[str, float | Tensor]:
        """Return the environment's own metrics of progress, such as the difficulty, by name.

        One that differs between the environments is `[batch]`: its mean is logged, and its standard error is known to a
        population that selects by it.
        """
        return {}

    def example_count(self, split: str) -> int:
        """Return the number of examples in a split; ScenarioError if there is no such split."""
        check_split(split, self.splits)
        return self.description.example_counts[split]

    def batches(self, split: str, size: int) -> Iterator[dict[str, Tensor]]:
        """Yield every example of a split once, in order: the requested signals; the last batch may be smaller.

        Raises:
            ScenarioError: It is no stream of examples, or has no such split.
        """
        lacks = "it is not a stream of examples, so there is no loss per example; leave this measurement out"
        raise ScenarioError(f"env: {lacks}")

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return the state, plain data and tensors, from which `load_state_dict` continues bit-identically."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state from `state_dict` of an environment constructed with the same arguments."""

    @staticmethod
    def uniform(mask: Tensor) -> bool | None:
        """Return a mask's value if it is the same everywhere and known on the host without synchronisation; else None."""
        return getattr(mask, _HOLDS, None)

    @staticmethod
    def anywhere(mask: Tensor) -> bool | None:
        """Return whether a mask holds anywhere, if that is known on the host without synchronisation; else None."""
        return getattr(mask, _HOLDS) is not False if hasattr(mask, _HOLDS) else None

    def everywhere(self, holds: bool) -> Tensor:
        """Return a new mask [batch] of one value, which `uniform` knows."""
        make = torch.ones if holds else torch.zeros
        return known(make(self.num_envs, dtype=torch.bool, device=self.device), holds)

    def typed(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return values of signals in their types, whatever the environment computes in: floats in `dtype`, classes as int64."""
        signals, converted = self.description.all_signals, {}
        for name, value in values.items():
            signal = signals.get(name)
            kind = value.dtype if signal is None else self.dtype if signal.classes is None else torch.int64
            converted[name] = value.to(kind)
        return converted

    def _divide(self, values: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Split the values of requested signals into observations, and training-only signals and masks (`_name`)."""
        observations, training_only = dict[str, Tensor](), dict[str, Tensor]()
        for name in self.requested:
            if name in values:
                divided = training_only if self.signals[name].training_only else observations
                divided[name] = values[name]
            if (mask := f"_{name}") in values:
                training_only[mask] = values[mask]
        return observations, training_only

    def _begin_seed(self, seed: int | None) -> bool:
        """Set the seed of a reset, or at first a random one; return whether there is a new one."""
        begins = seed is not None or self._seed is None
        if begins:
            self._seed = seeding.np_random(None)[1] if seed is None else int(seed)
        return begins

    def _require_state(self) -> None:
        lacks = "it has no state_dict and load_state_dict, so no run can go on from it; give it both"
        require(self.description.can_be_saved, "env", lacks, RunError)

    def _require_reset(self) -> None:
        if self._seed is None:
            raise ResetNeeded("call reset() before step()")


class SeededEnv(TorchVectorEnv):
    """Synchronous environments whose signals are a function of the seed, the number of the present example or episode, and its
    tick.

    An example or episode lasts `episode_length` steps, or else `hold`, and is followed by the next number. A subclass opens
    it (`_open`) and computes its signals at each tick (`_values`). A reset with a seed goes to number 0, a reset without a
    seed to the next number. The state is the seed, number and tick, plus whatever a subclass adds.
    """

    _place: ClassVar[tuple[str, ...]] = ("example", "tick")
    """Names of number and tick in a state."""
    _number = 0
    """Examples or episodes since the last seed."""
    _tick = 0
    """Steps of the present example or episode."""
    _present: Values = {}, {}
    """Signals of the present tick."""
    _shown: Values = {}, {}
    """Signals of a held example, the same tensors at each of its ticks."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Values:
        self._number, self._tick = 0 if self._begin_seed(seed) else self._number + 1, 0
        self._open()
        self._present = self._values()
        return self._present

    def step(self, actions: Any = None) -> StepResult:
        """Apply actions (None: none) to the present step, and go to the next; `info` has the last signals of ended episodes."""
        self._require_reset()
        reward, after_step = self._reward(actions), self._known_after()
        last, self._tick = self._present, self._tick + 1
        ended = self._tick == (self.episode_length or self.hold)
        if ended:
            self._close()
            self._number, self._tick = self._number + 1, 0
            self._open()
        self._present = self._values()
        terminates = ended and self.episode_length is not None
        terminated = self.everywhere(terminates)
        shown, facts = self._present
        info = {**after_step, **facts}
        if terminates:
            info.update(final_obs=last[0], final_info=last[1])
            info.update(_final_obs=terminated, _final_info=terminated)
        if reward is None:
            reward = torch.zeros(self.num_envs, dtype=self.dtype, device=self.device)
        return shown, reward, terminated, self.everywhere(False), info

    def state_dict(self) -> dict[str, Any]:
        return dict(zip(("seed", *self._place), (self._seed, self._number, self._tick), strict=False))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._seed = state["seed"]
        self._number, self._tick = int(state[self._place[0]]), int(state.get("tick", 0))
        if self._seed is not None:
            self._open()
            self._present = self._values()

    @abstractmethod
    def _open(self) -> None:
        """Look up the present example or episode."""

    def _values(self) -> Values:
        """Return observations and info of the present step; by default what `_open` has put into `_shown`."""
        return self._shown

    def _reward(self, actions: Any) -> Tensor | None:
        """Return the reward of actions in the present step; None: zeros."""

    def _known_after(self) -> dict[str, Tensor]:
        """Return the signals that are known after the present step."""
        return {}

    def _close(self) -> None:
        """Conclude the present example or episode."""


def known(mask: Tensor, holds: bool | None) -> Tensor:
    """Return a mask, of which the host knows its one value from here on, or None: that it holds in some rows."""
    setattr(mask, _HOLDS, holds)
    return mask


def chosen(actions: Tensor, choices: int) -> Tensor:
    """Return the choices `[batch]` of actions: these, or of logits `[batch, choices]` the largest."""
    if actions.ndim < 2:
        return actions
    fix = f"pass the logits of {choices} choices, {[len(actions), choices]}"
    fits = actions.shape[1:] == (choices,)
    require(fits, "env", f"actions are {list(actions.shape)}; {fix}", ScenarioError)
    return actions.argmax(1)


def check_split(split: str, splits: Sequence[str], place: str = "env.split") -> None:
    """Check that a split is one of `splits`; otherwise raise a ScenarioError with the nearest name, at what names it."""
    if split not in splits:
        ending = suggest(split, splits) if splits else "; this environment has no data set"
        raise ScenarioError(f"{place}: no split '{split}'{ending}")

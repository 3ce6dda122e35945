"""Base of the adaptors of external environments: checked values as tensors, and exceptions as one-line errors."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from inspect import signature
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from gymnasium.vector import AsyncVectorEnv
from torch import Tensor

from antiphon.base.call_errors import users_place
from antiphon.base.errors import AntiphonError, RunError, ScenarioError, require
from antiphon.base.nearest_names import nearest
from antiphon.base.problems import DocumentError, Problems, show_refused
from antiphon.envs.adaptors.final_observation import close_world
from antiphon.envs.adaptors.spaces import ActionSpace, leaves, signal_name
from antiphon.envs.adaptors.wrappers import TRIAL, LayersOfBatch
from antiphon.envs.base import TorchVectorEnv
from antiphon.envs.env_keys import is_flag
from antiphon.envs.signal import OUTCOMES, Description, Signal
from antiphon.nets.isolation.global_numbers import GlobalNumbers


class Adaptor(TorchVectorEnv):
    """An external environment, or copies of it, as a `TorchVectorEnv`; closing this closes them.

    Its methods raise a RunError if the environment fails, returns values that do not fit its spaces, or has no state;
    `step` raises a ScenarioError if actions have unknown parts, or logits the wrong number of choices.

    Args:
        worlds: The environments that are rendered and closed.
        rows: The sub-environments that are in this process.
        signals: Signals of its observations, and of each step beside `OUTCOMES`.
        can_be_saved: Whether what the wrappers are around has a state.
        unreadable: See `Description`.
    """

    hashes_seed = True
    interface = "Gymnasium's interface", "check_env(env) of gymnasium.utils.env_checker"
    """Its name, and what checks it."""
    signatures = (
        "write reset(self, *, seed=None, options=None) that returns (observation, info), and step(self, action) that returns "
        "(observation, reward, terminated, truncated, info)"
    )
    """How to write what an environment of an earlier interface has otherwise; empty: there is no earlier one."""

    def __init__(
        self,
        worlds: Sequence[Any],
        rows: Sequence[Any],
        name: str,
        num_envs: int,
        signals: Mapping[str, Signal],
        actions: ActionSpace,
        layers: LayersOfBatch,
        can_be_saved: bool,
        unreadable: Mapping[str, str],
        **settings: Any,
    ) -> None:
        self._worlds, self._rows, self._name = list(worlds), list(rows), name
        self.actions, self._layers = actions, layers
        self._numbers = GlobalNumbers()
        bases = [id(getattr(row, "unwrapped", row)) for row in rows]
        shared = f"'{name}' is one object in several rows of the batch; let its function make a new one at each call"
        require(len(set(bases)) == len(bases), "env", shared, ScenarioError)
        unsaved = layers.unsaved if can_be_saved else ""
        description = Description(
            signals={**signals, **OUTCOMES},
            action_space=actions.space,
            unreadable=dict(unreadable),
            can_be_saved=can_be_saved and not unsaved,
            unsaved=unsaved,
        )
        super().__init__(num_envs, description, actions.space, **settings)

    def close_extras(self, **kwargs: Any) -> None:
        for world in self._worlds:
            close_world(world, **kwargs)

    @contextmanager
    def _failing(self, call: str) -> Iterator[None]:
        """Raise any exception of an environment's call as a one-line RunError; subprocesses issue tracebacks as warnings."""
        subprocesses = isinstance(self._worlds[0], AsyncVectorEnv)
        try:
            if subprocesses:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message=".*ERROR: ")
                    yield
            else:
                yield
        except AntiphonError:
            raise
        except Exception as error:  # noqa: BLE001  (anything somebody's environment may raise)
            words = " ".join(str(error).split())
            line = f"{type(error).__name__}: {words}" if words else _wordless(error)
            if subprocesses and isinstance(error, EOFError | ConnectionError):
                line = "one of its processes has ended"
            elif not subprocesses and isinstance(error, _MISFITS) and _raised_in(error).startswith(_AROUND):
                interface, check = self.interface
                fix = f"it does not return what its spaces and {interface} say: {check} names it"
                fix = self.signatures if self.signatures and _OLD.search(words) else self._cast(words) or fix
                line += f"{_keys_instead(error)}; {fix}"
            elif not _raised_in(error).startswith("gymnasium.") and (users := users_place(error)):
                line += f" ({users[1]})"
            raise RunError(f"env: '{self._name}' failed in {call}(): {line}") from None

    def _cast(self, words: str) -> str:
        """Return what to write where an observation is of another type than its space says; empty: the words say something else."""
        space, found = getattr(self._worlds[0], "single_observation_space", None), _CAST.search(words)
        if space is None or found is None:
            return ""
        parts = leaves(space).items()
        names = [f"'{signal_name(path)}'" for path, leaf in parts if str(leaf.dtype) == found[2]]
        return (
            f"return {' and '.join(names)} as {found[2]}, or declare {found[1]} in its space" if names else ""
        )

    @contextmanager
    def _calling(self, call: str) -> Iterator[None]:
        """Have an environment's call draw from global generators what is its own, and report its errors in one line."""
        with self._failing(call), self._numbers.active():
            yield

    def carried(self) -> dict[str, Any] | None:
        """Return the state of the wrappers; None if none outlives an episode."""
        return self._layers.carried() if self._layers.lasting else None

    def carry(self, state: Mapping[str, Any], num_envs: int) -> None:
        """Load the wrappers' state, of so many environments, with running statistics that stand still from here on."""
        try:
            self._layers.carry(state, (num_envs, self.num_envs))
        except RunError:  # some wrappers are initialised only by a reset
            self.reset()
            self._layers.carry(state, (num_envs, self.num_envs))

    def surviving(self, make: Callable[[], TorchVectorEnv]) -> list[str]:
        """Return the wrappers whose statistics change observations and outlive a reset; `make` makes an equal environment."""
        if not self._layers.observing:
            return []
        if names := self._layers.normalising:
            return names
        state = self._layers.carried()
        try:
            envs = make(), make()
        except ScenarioError:  # an object that cannot be copied
            return []
        with closing(envs[0]) as fresh, closing(envs[1]) as second:
            assert isinstance(fresh, Adaptor)
            assert isinstance(second, Adaptor)
            second.carry(state, self.num_envs)
            shown = [env.reset(seed=0)[0] for env in (fresh, second)]
            names = self._layers.surviving(fresh._layers, second._layers)
            for _ in range(
                TRIAL
            ):  # what steps write anew, such as a buffer of frames, changes no observation
                if not names or any(not torch.equal(shown[0][name], shown[1][name]) for name in shown[0]):
                    break
                shown = [env.step(None)[0] for env in (fresh, second)]
                names = self._layers.surviving(fresh._layers, second._layers)
            return names

    def check_own_loop(self, make: Callable[[], TorchVectorEnv]) -> None:
        """Raise ScenarioError for a wrapper with running statistics of observations, which no other environment has."""
        if names := self.surviving(make):
            raise ScenarioError(
                f"env: the wrapper {names[0]} has statistics of the run, which observations of an environment of your own "
                "lack; use evaluate(), or `observes: {SIGNAL: {normalise: true}}` in its place"
            )

    def _remember(self) -> None:
        """Keep what wrappers hold after the first reset, if they are saved."""
        if self.description.can_be_saved:
            self._layers.remember()

    def _require_state(self) -> None:
        reason = self.description.unsaved
        why = f": {reason}" if reason else "; give it state_dict and load_state_dict"
        cannot = f"'{self._name}' cannot be forked{why}"
        require(self.description.can_be_saved, "env", cannot, RunError)


_MISFITS = AttributeError, KeyError, TypeError, ValueError
"""Errors of what reads the values that an environment returns."""
_CAST = re.compile(r"Cannot cast array data from dtype\('(\w+)'\) to dtype\('(\w+)'\)")
"""What numpy says where values do not fit the type of the array in which they are gathered."""
_OLD = re.compile(r"values to unpack|as info, which is no dict|unexpected keyword argument '(seed|options)'")
"""Messages that a call of an earlier interface, such as Gym's, leads to."""
_AROUND = "gymnasium.vector.", "gymnasium.wrappers.", "antiphon.envs.adaptors."
"""Modules that read them."""


def _keys_instead(error: BaseException) -> str:
    """Return the keys of what a KeyError was raised of, where it is seen; empty: it is another error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or not isinstance(error, KeyError):
        return ""
    read = [value for value in trace.tb_frame.f_locals.values() if isinstance(value, dict)]
    lacking = next((value for value in read if value and error.args[0] not in value), {})
    return f", but {', '.join(map(repr, lacking))} was returned" if lacking else ""


def _raised_in(error: BaseException) -> str:
    """Return the name of the module that raised an error, or that called numpy, which did."""
    trace, found = error.__traceback__, ""
    while trace is not None:
        name = str(trace.tb_frame.f_globals.get("__name__", ""))
        found = found if found and name.startswith("numpy.") else name
        trace = trace.tb_next
    return found


def _wordless(error: BaseException) -> str:
    """Return what an exception without a message is, such as a failed `assert`, and where it was raised."""
    module = _raised_in(error)
    return type(error).__name__ + (f" in {module}" if module else "")


def arguments_of(factory: Any) -> dict[str, bool]:
    """Return the arguments of what makes an environment, and whether each is a flag; none where it has no signature."""
    try:
        return {name: is_flag(parameter) for name, parameter in signature(factory).parameters.items()}
    except (TypeError, ValueError):
        return {}


def _not_taken(error: BaseException, keys: Mapping[str, Any], make: Callable[..., Any] | None) -> list[str]:
    """Return the keys that a call does not take: the one that its error names, and those that later calls of `make` do."""
    unknown: list[str] = []
    while match := re.search(r"unexpected keyword argument '(\w+)'", str(error)):
        if match[1] not in keys or match[1] in unknown:
            break
        unknown.append(match[1])
        if make is None:
            break
        try:
            close_world(make(**{key: value for key, value in keys.items() if key not in unknown}))
        except Exception as later:  # noqa: BLE001  (anything somebody's world may raise)
            error = later
    return unknown


def _fails(make: Callable[[], Any], words: str) -> bool:
    """Whether a call without keys raises an error of the same words."""
    try:
        close_world(make())
    except Exception as error:  # noqa: BLE001  (anything somebody's world may raise)
        return str(error) == words
    return False


def _meant(key: str, accepted: Iterable[str]) -> str:
    near = nearest(key, accepted)
    return f"did you mean '{near}'?" if near else "leave it out"


@contextmanager
def making(
    name: str,
    fix: str = "",
    keys: Mapping[str, Any] | None = None,
    instead: Mapping[str, str] = MappingProxyType({}),
    make: Callable[..., Any] | None = None,
    accepted: Mapping[str, bool] = MappingProxyType({}),
) -> Iterator[None]:
    """Raise any exception while an environment is made as a one-line ScenarioError, with a fix at its end if one is given.

    The place of the line is the one of `keys`, with their values, that the exception names or that is the only one, unless `make` fails alike without keys; `instead` has
    the fixes of keys that are not taken; of others it is a key among `accepted`, which are true for flags. With `make`, which makes
    one of some keys, all keys that are not taken are named. A flag is no word or number, which would be true.

    Errors of antiphon stay what they are.
    """
    for key, value in (keys or {}).items():
        wrong = f"must be true or false, not {show_refused(value)}"
        require(
            isinstance(value, bool | np.bool_) or not accepted.get(key), f"env.{key}", wrong, ScenarioError
        )
    try:
        yield
    except AntiphonError:
        raise
    except Exception as error:  # noqa: BLE001  (anything somebody's world may raise)
        line = " ".join(str(error).split()) or _wordless(error)
        keys = keys or {}
        if isinstance(error, ModuleNotFoundError) and error.name:
            line += f"; install {error.name.partition('.')[0]}"
            keys = {}
        elif fix:
            line += f"; {fix}"
        if unknown := _not_taken(error, keys, make):
            raise Problems(
                DocumentError(
                    ("env", key),
                    f"'{name}' does not take it; {instead.get(key) or fix or _meant(key, accepted)}",
                )
                for key in unknown
            ).as_one() from None
        named = [key for key in keys if re.search(rf"\b{key}\b", line)]
        if keys and not named and make is not None and _fails(make, str(error)):
            keys = {}  # it is none of theirs
        named = named or list(keys)
        if len(named) == 1:
            cannot = f"{keys[named[0]]!r}, and '{name}' cannot be made with it: {line}"
            ending = "" if fix else "; write another value, or leave it out"
            raise ScenarioError(f"env.{named[0]}: {cannot}{ending}") from None
        values = ", ".join(f"{key}: {value!r}" for key, value in keys.items())
        with_values = f" with {values}" if keys else ""
        ending = "; write other values, or leave them out" if keys and not fix else ""
        raise ScenarioError(f"env.id: '{name}' cannot be made{with_values}: {line}{ending}") from None


def checked(
    name: str, signal: Signal, value: Tensor, batch: int, raw: Any = None, *, batched: bool = True
) -> Tensor:
    """Return a signal's values in all sub-environments, [batch, …]; RunError if shape, numbers or classes are wrong.

    Args:
        value: The values, in the type of the run.
        raw: The values as the environment returned them, whose type may hold larger ones.
        batched: Whether it returned those of all sub-environments; each one returned its own otherwise.
    """
    expected_shape = (batch, *signal.shape)
    if value.shape != expected_shape:
        first = 0 if batched else 1
        shapes = f"{list(value.shape[first:])}, but its space is {list(expected_shape[first:])}"
        raise RunError(f"env: '{name}' is {shapes}; return that shape")
    if signal.classes is None:
        if math.isfinite(value.sum().item()):  # almost always, and cheaper than a look at each number
            return value
        wrong, fault = ~torch.isfinite(value), "which is not finite"
    else:
        wrong, fault = (value < 0) | (value >= signal.classes), f"outside its {signal.classes} classes"
    if bool(wrong.any()):
        row = int(wrong.reshape(batch, -1).any(1).nonzero()[0])
        number = value[row][wrong[row]].flatten()[0].item()
        native = number if raw is None else _tensor(raw)[row][wrong[row].cpu()].flatten()[0].item()
        subject = f"env: '{name}' of sub-environment {row} is"
        if math.isinf(number) and math.isfinite(native):
            kind, most = str(value.dtype).removeprefix("torch."), torch.finfo(value.dtype).max
            fix = "scale it, or use dtype: float64"
            raise RunError(f"{subject} {native:g}, and {kind} holds up to {most:.2g}; {fix}")
        raise RunError(f"{subject} {number}, {fault}; fix the environment")
    return value


def _tensor(values: Any) -> Tensor:
    return values.cpu() if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values, np.float64))


def has_state(env: Any) -> bool:
    """Whether an environment has `state_dict` and `load_state_dict`."""
    return all(callable(getattr(env, name, None)) for name in ("state_dict", "load_state_dict"))


def random_state(space: Space[Any]) -> list[Any]:
    return [leaf.np_random.bit_generator.state for leaf in leaves(space).values()]


def load_random_state(space: Space[Any], state: list[Any]) -> None:
    for leaf, leaf_state in zip(leaves(space).values(), state, strict=True):
        leaf.np_random.bit_generator.state = leaf_state

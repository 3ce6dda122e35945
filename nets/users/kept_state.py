"""State that a user's objects keep between calls, such as the running mean of a loss: saved, or found by a comparison.

| of a user's object | |
| --- | --- |
| modules: buffers, and attributes with plain data (`plain_trees`) | saved |
| objects that a run makes itself of a class: `state_dict` and `load_state_dict`, or else attributes with plain data | saved |
| what else changes (`outlines`): closures, objects within objects, attributes of classes, an object that the caller holds too | found: the run cannot be continued |
| globals of modules | not seen |
"""

from __future__ import annotations

import copy
import types
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from typing import Any

from torch import nn

from antiphon.base.errors import warn_of_scenario
from antiphon.nets.users.outlines import ClassChanges, Outlines
from antiphon.nets.users.plain_trees import NotPlainError, from_tree, to_tree

_OF_MODEL = frozenset({"_parameters", "_buffers", "training"})
"""Attributes of a module that are saved elsewhere: with what it is part of."""


class KeptState:
    """What a user's object keeps between calls.

    Args:
        owned: Whether no one but the run has it, so that its state may be loaded.
    """

    def __init__(self, user_object: Any, *, owned: bool) -> None:
        self._user_object, self._owned = user_object, owned
        self.was_called = False
        """Whether it has been called (`seen`)."""
        self._classes = ClassChanges(type(user_object))
        self._first, is_whole = self._outline()
        if not is_whole:
            line = (
                "holds more objects than are compared; what changes in the others is neither seen nor saved"
            )
            warn_of_scenario(f"{type(user_object).__name__}: {line}")

    @property
    def is_lost(self) -> bool:
        """Whether something has changed that `state_dict` lacks."""
        return self.changes_class or self._outline()[0] != self._first

    @property
    def changes_class(self) -> bool:
        """Whether calls have changed its class, or what methods enclose: all its objects share this."""
        return self._classes.changed is not None

    @property
    def kind(self) -> type:
        return type(self._user_object)

    def seen(self) -> AbstractContextManager[None]:
        """Return a context for a call of the object, of which it is seen whether it changes the object's class."""
        self.was_called = True
        return self._classes.seen()

    def shares(self, state: KeptState) -> bool:
        """Whether another state is of the same object."""
        return self._user_object is state._user_object

    @property
    def is_the_callers(self) -> bool:
        """Whether the caller holds the object too, and may give it to another run."""
        return not self._owned

    def state_dict(self) -> dict[str, Any]:
        """Return what can be loaded, without copying a tensor."""
        if not self._owned or isinstance(self._user_object, type | types.FunctionType):
            return {}
        if (state := self._own_state()) is not None:
            return {"state": state}
        state_by_kind = {"attributes": self._attributes()}
        if isinstance(self._user_object, nn.Module):
            state_by_kind["buffers"] = dict(self._user_object.named_buffers())
        return {key: values for key, values in state_by_kind.items() if values}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if "state" in state:
            self._user_object.load_state_dict(from_tree(state["state"]))
        vars_of = vars(self._user_object) if "attributes" in state else {}  # a frozen dataclass has them too
        vars_of.update(from_tree(dict(state.get("attributes", {}))))
        buffers = dict(self._user_object.named_buffers()) if "buffers" in state else {}
        for name, value in state.get("buffers", {}).items():
            buffers[name].copy_(value)

    def _own_state(self) -> Any:
        """Return what the object's own `state_dict` returns; None where it has none, or one that is not plain data."""
        methods = (getattr(self._user_object, name, None) for name in ("state_dict", "load_state_dict"))
        if isinstance(self._user_object, nn.Module) or not all(map(callable, methods)):
            return None
        with suppress(NotPlainError):
            return to_tree(self._user_object.state_dict())
        return None

    def _attributes(self) -> dict[str, Any]:
        """Return the attributes with plain data, as trees; of a module those that torch does not write."""
        theirs = vars(nn.Module()) if isinstance(self._user_object, nn.Module) else {}
        trees: dict[str, Any] = {}
        for name, value in getattr(self._user_object, "__dict__", {}).items():
            if name not in theirs:
                with suppress(NotPlainError):
                    trees[name] = to_tree(value)
        return trees

    def _outline(self) -> tuple[Any, bool]:
        """Return the outline of what `state_dict` lacks, and whether it is one of all."""
        saved = self.state_dict()
        if "state" in saved:
            return None, True
        saved_attributes = saved.get("attributes", {}).keys()
        saves_tensors = isinstance(self._user_object, nn.Module)

        def lacking(holder: Any) -> dict[str, Any]:
            left_out = set(_OF_MODEL) if saves_tensors and isinstance(holder, nn.Module) else set()
            if holder is self._user_object:
                left_out |= saved_attributes
            return {name: value for name, value in vars(holder).items() if name not in left_out}

        walk = Outlines(apart=lacking, versions=True)
        return walk.of(self._user_object), walk.is_whole


def copied_object(original: Any) -> Any:
    """Return a copy of a user's object whose calls do not change it; of a function with copies of what it encloses.

    What cannot be copied is returned as it is.
    """
    try:
        if not isinstance(original, types.FunctionType) or not original.__closure__:
            return copy.deepcopy(original)
        cells = tuple(types.CellType(copy.deepcopy(cell.cell_contents)) for cell in original.__closure__)
        twin = types.FunctionType(
            original.__code__, original.__globals__, original.__name__, original.__defaults__, cells
        )
        twin.__kwdefaults__ = original.__kwdefaults__
    except Exception:  # noqa: BLE001  (anything that copying a user's object may raise)
        return original
    return twin

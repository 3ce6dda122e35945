"""State that users' networks keep between calls beside parameters and buffers.

| of a user's module | |
| --- | --- |
| `get_extra_state` | saved |
| plain data in attributes that its calls change, where it has no extra state | saved |
| what else changes: generators, closures, other objects, attributes of classes | found: such a run cannot be continued |
| parameters and tensors with a graph; what torch's own modules, and hooks, hold | neither |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor, nn

from antiphon.nets.user_modules import extra_state, load_extra_state, stateful
from antiphon.nets.users.outlines import ClassChanges, outline_of
from antiphon.nets.users.plain_trees import NotPlainError, copied_tree, from_tree, to_tree

MODULE_STATE_KEYS = ("extra", "attributes")
"""The keys that `state_dict` may have."""
_OF_TORCH = frozenset(vars(nn.Module()))
"""Attributes of every module."""
_LIBRARIES = ("torch", "antiphon", "builtins")
"""Packages whose modules keep nothing in attributes."""
_ATOMS = (type(None), bool, int, float, str)
_FEW = 1024
"""Numbers of a tensor whose bits are compared; a larger one is known by torch's count of its changes."""


class ModuleState:
    """What the users' modules of one network keep between calls.

    Args:
        modules: The modules, by the prefix of their tensors' names.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        paths = [
            (f"{prefix}.{path}".strip("."), submodule)
            for prefix, module in modules.items()
            for path, submodule in module.named_modules()
        ]
        extra = {id(submodule) for module in modules.values() for submodule in stateful(module).values()}
        self._extra = {path: submodule for path, submodule in paths if id(submodule) in extra}
        self._parts = {
            path: submodule
            for path, submodule in paths
            if id(submodule) not in extra and _is_users(submodule)
        }
        self._classes = ClassChanges(*{type(submodule) for submodule in self._parts.values()})
        self._alive = [
            dict(vars(submodule)) for submodule in self._parts.values()
        ]  # so that none has another's id
        self._first = {path: self._outlines(submodule) for path, submodule in self._parts.items()}
        self._trees = {path: copied_tree(self._plain(submodule)) for path, submodule in self._parts.items()}

    @property
    def lost(self) -> str | None:
        """What has changed that `state_dict` lacks, and that a call might read; None: nothing."""
        for path, names in self._changed().items():
            if beside := sorted(names - self._plain(self._parts[path]).keys()):
                return f"its attribute '{beside[0]}'"
        return self._classes.changed

    def seen(self) -> AbstractContextManager[None]:
        """Return a context for a call of the modules, of which it is seen whether it changes their classes."""
        return self._classes.seen()

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of what is kept; empty where nothing is.

        Raises:
            ScenarioError: An extra state is not plain data.
        """
        state: dict[str, Any] = {"extra": extra_state(self._extra)} if self._extra else {}
        attributes: dict[str, Any] = {}
        for path, names in self._changed().items():
            plain = self._plain(self._parts[path])
            if changed := {name: plain[name] for name in sorted(names) if name in plain}:
                attributes[path] = copied_tree(changed)
        return state | ({"attributes": attributes} if attributes else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a copy of what `state_dict` returned; attributes that it lacks are as they were at first."""
        load_extra_state(self._extra, state.get("extra", {}))
        saved = state.get("attributes", {})
        for path, names in self._changed().items():
            first, held = self._trees[path], vars(self._parts[path])
            for name in names - saved.get(path, {}).keys():
                if name in first:
                    held[name] = from_tree(first[name])
                elif name not in self._first[path]:
                    del held[name]
        self._load_attributes(self._parts, saved)

    @contextmanager
    def unchanged(self, begin: Mapping[str, Any] | None = None) -> Iterator[None]:
        """Leave no change behind the block, which begins with a state that was kept before, or (None) with the present one."""
        now = self.state_dict()
        if begin is not None:
            self.load_state_dict(begin)
        try:
            yield
        finally:
            self.load_state_dict(now)

    def copy_to(self, module: nn.Module, prefix: str) -> None:
        """Set what is kept in another module that has the submodules, by their paths without a prefix."""
        state = {key: _without(prefix, states) for key, states in self.state_dict().items()}
        parts = dict(module.named_modules(remove_duplicate=False))
        load_extra_state(stateful(module), state.get("extra", {}))
        self._load_attributes(parts, state.get("attributes", {}))

    @staticmethod
    def _load_attributes(submodules: Mapping[str, nn.Module], states: Mapping[str, Any]) -> None:
        for path, trees in states.items():
            if path in submodules:
                attributes = {name: from_tree(tree) for name, tree in trees.items()}
                vars(submodules[path]).update(attributes)

    def _changed(self) -> dict[str, set[str]]:
        """The names of the attributes that differ from the first ones, or are gone or new, by path."""
        changed = {}
        for path, submodule in self._parts.items():
            first, now = self._first[path], self._outlines(submodule)
            if names := {n for n in first.keys() | now.keys() if first.get(n) != now.get(n)}:
                changed[path] = names
        return changed

    def _outlines(self, submodule: nn.Module) -> dict[str, Any]:
        return {
            name: self._outline(value)
            for name, value in vars(submodule).items()
            if name not in _OF_TORCH and not _is_made_again(value)
        }

    def _outline(self, value: Any) -> Any:
        if isinstance(value, _ATOMS):
            return type(value).__name__, repr(value)
        if isinstance(value, Tensor) and value.numel() > _FEW and not value.is_inference():
            return "tensor", id(value), value._version
        return outline_of(value)

    def _plain(self, submodule: nn.Module) -> dict[str, Any]:
        trees = {}
        for name, value in vars(submodule).items():
            if name not in _OF_TORCH and not _is_made_again(value):
                try:
                    trees[name] = to_tree(value)
                except (NotPlainError, RecursionError):
                    continue
        return trees


def _is_users(submodule: nn.Module) -> bool:
    return any(kind.__module__.partition(".")[0] not in _LIBRARIES for kind in type(submodule).__mro__)


def _without(prefix: str, by_path: Mapping[str, Any]) -> dict[str, Any]:
    return {path.removeprefix(prefix): value for path, value in by_path.items()}


def _is_made_again(value: Any) -> bool:
    """Whether a value is a parameter or a tensor with a graph, or holds one: these are no state of a later call."""
    if isinstance(value, Tensor):
        return value.requires_grad or isinstance(value, nn.Parameter)
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return any(map(_is_made_again, values))

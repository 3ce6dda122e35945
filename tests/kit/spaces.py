"""Parts of nested spaces of Gymnasium, found independently of the library."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

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

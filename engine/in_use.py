"""Objects of a user's that one run at a time may use: the environments that it steps, the recorders that it calls.

Two runs that step one environment, or write to one recorder, would mix their episodes or rows without an error.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable

from antiphon.base.errors import ScenarioError

_users: dict[int, weakref.ref[object]] = {}
"""The user of an object, by the object's id, which is valid while the user holds the object."""


def use(objects: Iterable[object], user: object, place: str, fix: str) -> None:
    """Mark objects as used until `release(user)`, or until the user is no longer referenced.

    Args:
        objects: To be held by `user` from now on.
        user: Part of a run.
        place: Of the objects in a scenario, for the error.
        fix: How each run gets an object of its own.

    Raises:
        ScenarioError: Another run uses one of them.
    """
    by_id = {id(used): used for used in objects}
    if _used_by_another(by_id, user):
        gc.collect()  # simulations are reference cycles, and this may be one that was dropped without close()
    for key in _used_by_another(by_id, user):
        name = type(by_id[key]).__name__
        raise ScenarioError(f"{place}: another simulation uses this {name}; close() it first, or {fix}")
    for key in [key for key, reference in _users.items() if reference() is None]:
        del _users[key]
    _users.update(dict.fromkeys(by_id, weakref.ref(user)))


def release(user: object) -> None:
    """Let other runs use what a user has used."""
    for key in [key for key, reference in _users.items() if reference() is user]:
        del _users[key]


def _used_by_another(keys: Iterable[int], user: object) -> list[int]:
    users = ((key, _users[key]()) for key in keys if key in _users)
    return [key for key, owner in users if owner is not None and owner is not user]

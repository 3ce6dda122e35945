"""Every argument of a public callable has an effect, or its other values are refused in one line."""

from __future__ import annotations

import inspect
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from antiphon.errors import AntiphonError
from tests.obeyed.doors import DOORS as CALLED
from tests.obeyed.doors import Door
from tests.obeyed.uses import USES
from tests.obeyed.ways import Shown

pytestmark = pytest.mark.long
DOORS = [*CALLED, *USES]
_REFUSALS = (AntiphonError, TypeError)
"""Python refuses an argument that a callable does not have."""


@cache
def _as_given(number: int) -> Shown:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return DOORS[number].call(Path(folder))


@pytest.mark.parametrize(
    "door", [door for door in DOORS if not door.partial], ids=lambda door: door.function.__qualname__
)
def test_every_argument_is_tried(door: Door) -> None:
    arguments = inspect.signature(door.function).parameters
    # what is given by place alone has no name by which it could be tried
    names = {name for name, one in arguments.items() if one.kind is not one.VAR_POSITIONAL} - {"self"}
    assert names - {*door.others, *door.unseen} == set()


@pytest.mark.parametrize(
    ("number", "name", "value"),
    [
        (i, name, value)
        for i, door in enumerate(DOORS)
        for name, values in door.others.items()
        for value in values
    ],
    ids=lambda value: (
        DOORS[value].function.__qualname__
        if isinstance(value, int) and value < len(DOORS)
        else str(value)[:20]
    ),
)
def test_another_value_shows_or_is_refused(number: int, name: str, value: Any, here: Path) -> None:
    refused, as_given = "", _as_given(number)
    try:
        shown = DOORS[number].call(here, **{name: value})
    except _REFUSALS as error:
        refused, shown = str(error), {}
    assert "\n" not in refused.strip()
    assert refused or shown != as_given, f"{name}={value!r} is accepted and ignored"

"""Failures of calls of users' objects, in one line; and the function of theirs that failed."""

from __future__ import annotations

import os
import sysconfig
from functools import cache
from traceback import walk_tb
from types import FrameType

from antiphon.base.errors import AntiphonError, CallError, first_line


def call_error(error: Exception, place: str, name: str = "") -> CallError | None:
    """Return the error of a call of a user's object, in one line; None for antiphon's own, or if nothing of theirs was called.

    Args:
        error: What was raised.
        place: Whose object it is, such as `agents.eye`; empty: unknown.
        name: What was called, where it is known to be a user's; else their code is sought on the way of the error.
    """
    from antiphon.base.memory import was_refused

    if isinstance(error, AntiphonError) or was_refused(error):
        return None
    cause, prefix = f"{type(error).__name__}: {first_line(error)}", f"{place}: " if place else ""
    if users := users_place(error):
        where = "{} failed at {}".format(*users)
    elif name:
        where = f"{name} failed"
    else:
        return None
    return CallError(f"{prefix}{where}: {cause}")


def users_place(error: BaseException) -> tuple[str, str] | None:
    """Return the newest function of a user's that an error passed, and its file and line; None: it passed none."""
    frames = [(frame.f_code, line) for frame, line in walk_tb(error.__traceback__) if _is_users(frame)]
    if not frames:
        return None
    code, line = frames[-1]
    return code.co_qualname, f"{os.path.basename(code.co_filename)}:{line}"


@cache
def _libraries() -> tuple[str, ...]:
    """Folders of antiphon, of torch, which calls users' objects, and of pydantic, whose objects they read."""
    import pydantic
    import torch

    antiphon_folder = os.path.dirname(os.path.abspath(__file__))  # a folder of the package
    return tuple(
        os.path.join(os.path.dirname(file), "")
        for file in (torch.__file__, pydantic.__file__, antiphon_folder)
    )


def _is_users(frame: FrameType) -> bool:
    """Whether a frame is of none of these libraries, nor of Python itself."""
    file, standard = frame.f_code.co_filename, os.path.join(sysconfig.get_path("stdlib"), "")
    if file.startswith((standard, "<frozen")) and "site-packages" not in file:
        return False
    return not file.startswith((*_libraries(), "<eval_with_key>"))  # the last is code of torch.fx

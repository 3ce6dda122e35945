"""The checkers of Gymnasium and PettingZoo, run once on an environment of a user's own."""

from __future__ import annotations

import warnings
from contextlib import closing, redirect_stdout
from io import StringIO
from typing import Any

from antiphon.base.errors import first_line
from antiphon.envs.gymnasium import VectorAdaptor
from antiphon.envs.pettingzoo import ParallelAdaptor
from antiphon.envs.registry import is_users_own, make

_CYCLES = 100
"""Steps of PettingZoo's checkers."""


def broken_rule(spec: Any) -> str | None:
    """Return in a line which rule of its interface an environment of a user's own breaks; None: it keeps them, or has no checker."""
    if not is_users_own(spec):
        return None
    try:
        with closing(make(spec, batch=1)) as env, warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            if isinstance(env, ParallelAdaptor):
                from pettingzoo.test import api_test, parallel_api_test  # type: ignore[import-untyped]

                world = env.worlds[0]
                if hasattr(world, "aec_env"):
                    api_test(world.aec_env, num_cycles=_CYCLES)
                else:
                    parallel_api_test(world, num_cycles=_CYCLES)
            elif isinstance(env, VectorAdaptor):
                from gymnasium.utils.env_checker import check_env

                for row in env.rows[:1]:
                    check_env(row.unwrapped, skip_render_check=True, skip_close_check=True)
    except Exception as error:  # noqa: BLE001  (a checker, and what it checks, may raise anything)
        return f"env: {type(error).__name__}: {first_line(error)}"
    return None

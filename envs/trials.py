"""Trial steps: whether an environment of a user's own fails in its first steps, for `antiphon check`."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from antiphon.base.call_errors import call_error
from antiphon.base.errors import RunError, ScenarioError
from antiphon.envs.registry import is_users_own, make

_STEPS = 10


def trial_problem(spec: Any) -> str | None:
    """Return in a line how an environment of a user's own fails in its first steps, with random actions; None: it does not.

    Nothing is tried of other environments, and of one that is a single object, which the run needs as it is.
    """
    if not is_users_own(spec):
        return None
    # it loads torch, which names do not need
    from antiphon.nets.isolation.global_numbers import seeded_globally

    try:
        with seeded_globally(0), closing(make(spec, batch=2)) as env:
            env.reset(seed=0)
            env.action_space.seed(0)
            for _ in range(_STEPS):
                env.step(env.action_space.sample())
    except (RunError, ScenarioError) as error:
        return str(error)
    except Exception as error:
        called = call_error(error, "env")
        if called is None:
            raise
        return str(called)
    return None

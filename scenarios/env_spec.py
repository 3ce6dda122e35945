"""The environment of a scenario, by its id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, model_validator

from antiphon.base.problems import DocumentError
from antiphon.base.spec import Spec, fail, frozen_data


class EnvSpec(Spec):
    """An environment by its id; all other keys are options of the environment. A word is an id without options.

    Attributes:
        id: An id of antiphon, such as `antiphon/Digits-v0`, or one that you registered. `gymnasium/ID` is an id of Gymnasium's
            registry, such as `gymnasium/CartPole-v1` (`gymnasium/MODULE:ID` if a module registers it); other keys:
            `vectorization_mode` (sync, async or vector_entry_point), `wrappers` (of `gymnasium.wrappers`, by name with their
            arguments) and arguments of the environment. `pettingzoo/MODULE` is a module of PettingZoo with a `parallel_env`, such as
            `pettingzoo/mpe2.simple_speaker_listener_v4`; other keys are arguments of the environment.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the environment: plain data, lists as tuples."""
        return dict(self.model_extra or {})

    @model_validator(mode="before")
    @classmethod
    def _plain_data(cls, data: Any) -> Any:
        if isinstance(data, str):
            data = {"id": data}
        if not isinstance(data, Mapping):
            from antiphon.envs.registry import recipe_instead_of

            return fail(recipe_instead_of(data))
        name = data.get("id")
        if isinstance(name, str) and name.startswith("antiphon/"):  # another may be registered later
            from antiphon.envs.registry import unknown_id

            if (problem := unknown_id(name)) is not None:
                raise DocumentError(("id",), problem)
        return frozen_data(data)


def is_environment(value: object) -> bool:
    """Whether a value makes environments: a function, a class, or a source."""
    if isinstance(value, Spec | Mapping):
        return False
    makes = callable(getattr(value, "make", None)) and not hasattr(value, "entry_point")
    return makes or callable(value)

"""The environment of a scenario, by its id; and what to pass in place of an object that is no environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, model_validator

from antiphon.base.problems import DocumentError, show_refused
from antiphon.base.spec import Spec, fail, frozen_data


class EnvSpec(Spec):
    """An environment by its id; all other keys are options of the environment. A word is an id without options.

    Attributes:
        id: An id of antiphon, such as `antiphon/Digits-v0`, or one that you registered. `gymnasium/ID` is an id of Gymnasium's
            registry, such as `gymnasium/CartPole-v1` (`gymnasium/MODULE:ID` if a module registers it); other keys:
            `vectorization_mode` (sync, async or vector_entry_point), `stack` (how many of the newest observations are seen)
            and arguments of the environment. `pettingzoo/MODULE` is a module of PettingZoo with a `parallel_env`, such as
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
            fix = _fix_of_object(data)
            return fail(f"must be a mapping of keys, not {show_refused(data)}{fix}") if fix else data
        name = data.get("id")
        if isinstance(name, str) and name.startswith("antiphon/"):  # another may be registered later
            from antiphon.envs.registry import unknown_id

            if (problem := unknown_id(name)) is not None:
                raise DocumentError(("id",), problem)
        if "file" in data:
            from antiphon.envs.registry import with_paths

            data = with_paths(data, Path.cwd())
        return frozen_data(data)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
        from antiphon.envs.registry import ids, options_of

        any_schema = handler(core)
        handler.resolve_ref_schema(any_schema)["properties"]["id"]["not"] = {"enum": list(ids())}
        registered = [options_of(name).schema_of(name) for name in ids()]
        return {"anyOf": [{"type": "string"}, *registered, any_schema]}


def _fix_of_object(value: object) -> str:
    """Return what to pass in place of a Python object that is no source of environments; empty where nothing is known of it."""
    register = "antiphon.envs.register('my/Env-v0', MAKE) and env={'id': 'my/Env-v0'}"
    if hasattr(value, "possible_agents") or hasattr(value, "agent_iter"):
        return f"; an environment of PettingZoo is made by its id: {register}, where MAKE returns it"
    if hasattr(value, "reset") and hasattr(value, "step"):
        name = getattr(getattr(value, "spec", None), "id", None) if not isinstance(value, type) else None
        maker = value.__name__ if isinstance(value, type) else f"lambda: {type(value).__name__}(…)"
        ways = [f"env={{'id': 'gymnasium/{name}'}}"] if name else [register.replace("MAKE", maker)]
        ways.append("a gymnasium.vector.SyncVectorEnv of training.batch")
        return f"; a run needs a batch of environments, and this is one: {', or '.join(ways)}"
    if hasattr(value, "entry_point"):
        return f"; write env={{'id': 'gymnasium/{getattr(value, 'id', 'ID')}'}}"
    if isinstance(value, list | tuple):
        if value and all(hasattr(item, "shape") and hasattr(item, "dtype") for item in value):
            return "; use antiphon.envs.from_tensors(image=…, label=…)"
        if not value or not all(hasattr(item, "reset") or callable(item) for item in value):
            return "; write {id: ID}"
        makers = "them" if all(map(callable, value)) else "functions that make them: [lambda: …]"
        return f"; write gymnasium.vector.SyncVectorEnv(…) of {makers}"
    if hasattr(value, "__getitem__") or hasattr(value, "__iter__"):
        return "; data enters by antiphon.envs.from_tensors, from_dataset or from_loader"
    return f"; a function or class that makes environments has an id: {register}" if callable(value) else ""


def is_environment(value: object) -> bool:
    """Whether a value is a source (it can make environments) or a vector environment itself."""
    if isinstance(value, Spec | Mapping):
        return False
    vector = all(hasattr(value, name) for name in ("num_envs", "reset", "step"))
    return vector or (callable(getattr(value, "make", None)) and not hasattr(value, "entry_point"))

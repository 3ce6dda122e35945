"""Environments: built-in tasks, data sets, your own data, and adaptors of Gymnasium and PettingZoo. Names load lazily."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

from antiphon.base.extensions import environment
from antiphon.envs.options import EnvOptions
from antiphon.envs.registry import describe, ids, make, options_of, register
from antiphon.envs.signal import Description, Signal

if TYPE_CHECKING:
    from antiphon.envs.base import TorchVectorEnv
    from antiphon.envs.data import Source, from_dataset, from_tensors
    from antiphon.envs.datasets import download
    from antiphon.envs.loaders import from_loader
    from antiphon.envs.sequences import from_sequences
    from antiphon.envs.stream import ExampleStream
    from antiphon.envs.worlds.arena import Arena
    from antiphon.envs.worlds.world import World

__all__ = [
    "Arena",
    "Description",
    "EnvOptions",
    "ExampleStream",
    "Signal",
    "Source",
    "TorchVectorEnv",
    "World",
    "describe",
    "download",
    "environment",
    "from_dataset",
    "from_loader",
    "from_sequences",
    "from_tensors",
    "ids",
    "make",
    "options_of",
    "register",
]

_LAZY = {
    "Arena": "worlds.arena",
    "ExampleStream": "stream",
    "Source": "data",
    "TorchVectorEnv": "base",
    "World": "worlds.world",
    "download": "datasets",
    "from_dataset": "data",
    "from_loader": "loaders",
    "from_sequences": "sequences",
    "from_tensors": "data",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

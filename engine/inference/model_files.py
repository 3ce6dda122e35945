"""Model files: the composed system, an agent alone or their weights, in formats that are read without antiphon."""

from __future__ import annotations

import importlib.util
import logging
import os
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, fx

from antiphon.agents.learner import Learner
from antiphon.agents.network import STATE
from antiphon.comms.backward_requests import constant
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.system import System
from antiphon.engine.inference.export import agent_module, argument_names, export, observed
from antiphon.errors import RunError, ScenarioError, suggest
from antiphon.manifests import VERSION

__all__ = ["SUFFIXES", "write_agent", "write_system"]

SUFFIXES = (".pt2", ".onnx", ".safetensors")
"""Suffixes of the files."""
_ROWS = 2
"""Of the example that a module is traced with; files take any number."""
_BATCH = "batch"
"""Name of the dimension that is of any size."""
_ONNX_BYTES = 2**31
"""An ONNX file is a protocol buffer, and holds less than this."""

Arguments = dict[str, Any]
"""Tensors by name, or dicts of tensors."""


def write_system(system: System, path: Path, agents: Sequence[str] | None, readouts: Sequence[str]) -> Path:
    """Write a system over perfect links as one file, whole or not at all, and return its path.

    Args:
        system: What is written.
        path: Its suffix, one of `SUFFIXES`, is the format.
        agents: Of a module, whose outputs it returns; None: the `readouts`. Of weights, whose; None: all.
        readouts: The scenario's.

    Raises:
        ScenarioError: No such agent, or as of `export`.
        RunError: Another suffix; ONNX is not installed; torch cannot trace a module; the file cannot be written.
    """
    if isinstance(agents, str) or not isinstance(agents, Iterable | None):
        raise ScenarioError(f"export: agents: {agents!r}; must be a list of names")
    if agents is not None and not agents:
        raise ScenarioError("export: agents is empty; name one, or leave it out")
    if _format(path) == ".safetensors":
        for name in agents or ():
            if name not in system.agents:
                raise ScenarioError(f"export: no agent '{name}'{suggest(name, system.agents)}")
        owners = {system.owner_of[name] for name in (system.agents if agents is None else agents)}
        named = {f"{name}.": agent.learner for name, agent in system.agents.items() if name in owners}
        return _write_weights(path, named)
    agents = list(dict.fromkeys(readouts if agents is None else agents))
    module = export(system, agents).cpu()
    signals = [system.description.signals[name] for name in observed(system)]
    words = [str(node.target) for node in module.graph.nodes if node.op == "placeholder"][: len(signals)]
    steps = () if system.description.is_stream else (int(module.steps_per_round),)  # type: ignore[arg-type]
    arguments: Arguments = {
        word: torch.zeros(
            *steps, _ROWS, *signal.shape, dtype=system.dtype if signal.classes is None else torch.int64
        )
        for word, signal in zip(words, signals, strict=True)
    }
    outputs = agents.copy()
    if steps:
        with torch.no_grad():
            _, after = module(**arguments)
        arguments["state"] = {key: torch.zeros_like(value) for key, value in after.items()}  # silence
        outputs += [f"next_state_{key}" for key in after]
    return _write_module(path, module, arguments, len(steps), outputs)


def write_agent(agent: Agent, path: Path) -> Path:
    """Write one agent's network as one file, whole or not at all, and return its path; formats and errors as above."""
    learner = agent.learner
    if _format(path) == ".safetensors":
        return _write_weights(path, {"": learner})
    network = learner.network
    module = agent_module(learner, stateful=agent.memory is not None).cpu()
    shapes = {"x": network.input_shape} | ({"state": (network.state_size,)} if agent.memory else {})
    dtype = next((p.dtype for p in learner.parameters.values()), torch.float32)
    arguments: Arguments = {name: torch.zeros(_ROWS, *shape, dtype=dtype) for name, shape in shapes.items()}
    (ports,) = next(node.args for node in module.graph.nodes if node.op == "output")
    outputs = ["next_state" if port == STATE else port for port in ports]
    return _write_module(path, module, arguments, 0, outputs)


def _format(path: Path) -> str:
    if path.suffix not in SUFFIXES:
        raise RunError(
            f"export: '{path.name}' is of no known format; end it in {', '.join(SUFFIXES)} or .gif"
        )
    if path.suffix == ".onnx":
        for package in ("onnx", "onnxscript"):
            if importlib.util.find_spec(package) is None:
                raise RunError(f"export: {path.name} needs {package}: pip install 'antiphon[onnx]'")
    return path.suffix


def _write_weights(path: Path, learners: Mapping[str, Learner]) -> Path:
    """Write parameters and running statistics, with what their names begin with."""
    tensors = {
        f"{prefix}{name}": constant(tensor).cpu().clone(memory_format=torch.contiguous_format)
        for prefix, learner in learners.items()
        for held in (learner.parameters, learner.buffers)
        for name, tensor in held.items()
    }
    metadata = {"format": "pt", "antiphon": VERSION}
    return _replace(path, partial(save_file, tensors, metadata=metadata))


def _write_module(
    path: Path, module: fx.GraphModule, arguments: Arguments, axis: int, outputs: Sequence[str]
) -> Path:
    """Trace a module that is called with `arguments` by name, and write it.

    Args:
        path: The file.
        module: On the CPU.
        arguments: An example.
        axis: Which of an argument's dimensions is the batch, of any size; of entries of a dict it is the first.
        outputs: Names of the tensors that it returns, for formats in which they have any.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    if path.suffix == ".onnx" and size >= _ONNX_BYTES:
        raise RunError(
            f"export: {path.name} would have {size / 2**30:.1f} GiB, ONNX has less than 2; use .pt2"
        )
    try:
        with torch.no_grad(), _quiet():
            any_size = torch.export.Dim(_BATCH)
            program = torch.export.export(
                module, (), arguments, dynamic_shapes=_axes(arguments, axis, any_size)
            )
            write: Callable[[Path], object] = partial(torch.export.save, program)
            if path.suffix == ".onnx":
                inputs = argument_names(_flat(arguments))
                exported = torch.onnx.export(
                    program,
                    dynamo=True,
                    verbose=False,
                    dynamic_shapes=_axes(arguments, axis, _BATCH),
                    input_names=list(inputs.values()),
                    output_names=list(argument_names(outputs, taken=inputs.values()).values()),
                )
                assert exported is not None
                write = partial(exported.save, external_data=False)
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = (str(cause) or type(cause).__name__).splitlines()[0]
        raise RunError(
            f"export: {path.name}: torch cannot trace the module ({reason}); weights alone go into .safetensors"
        ) from error
    return _replace(path, write)


def _axes(arguments: Arguments, axis: int, batch: object) -> dict[str, Any]:
    """Return, in the form of the arguments, `batch` for each dimension that is the batch."""
    return {
        name: {axis: batch}
        if isinstance(value, Tensor)
        else {key: {0: batch} if entry.dim() else None for key, entry in value.items()}
        for name, value in arguments.items()
    }


def _flat(arguments: Arguments) -> Iterator[str]:
    """Yield the names of all tensors."""
    for name, value in arguments.items():
        yield from [name] if isinstance(value, Tensor) else (f"{name}_{key}" for key in value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's own remarks about its exporters away."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _replace(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file beside `path`, and put it in its place once it is whole."""
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{path}: cannot be written ({reason}); choose another path") from None
    finally:
        temporary.unlink(missing_ok=True)
    return path

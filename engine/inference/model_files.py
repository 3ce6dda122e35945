"""Model files: the composed system or weights, in formats that are read without antiphon."""

from __future__ import annotations

import importlib.util
import io
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import fx
from torch.utils import _pytree as pytree

from antiphon.base.errors import RunError, ScenarioError, first_line
from antiphon.base.files import write_bytes, writing
from antiphon.base.manifests import VERSION
from antiphon.base.nearest_names import suggest
from antiphon.comms.backward_requests import constant
from antiphon.engine.heart.system import System
from antiphon.engine.inference.composition import export, observed
from antiphon.envs.native import Native

SUFFIXES = (".pt2", ".onnx", ".safetensors")
_DTYPE_CHECK = torch.ops.aten._assert_tensor_metadata.default
"""What torch puts before a conversion of an input."""
_FIXED_BATCH = "Constraints violated (batch)"
"""Part of torch's error of a module in which the size of the batch has become a constant."""
_ROWS = 2
"""Rows of the example that a module is traced with; files take any number."""


def check_agents(agents: Sequence[str] | None, system: System) -> None:
    """Raise ScenarioError where those that a file is asked for are not the names of some agents; None is all."""
    if agents is not None and not agents:
        raise ScenarioError("export: agents is empty; name one, or leave it out")
    for name in agents or ():
        if name not in system.agents:
            raise ScenarioError(f"export: no agent '{name}'{suggest(name, system.agents)}")


def write_system(
    system: System,
    native: Native,
    path: Path,
    agents: Sequence[str] | None,
    readouts: Sequence[str],
    policy: fx.GraphModule | None = None,
) -> Path:
    """Write a system over perfect links as one file, whole or not at all, and return its path.

    Args:
        native: The format of its environment's observations.
        path: Its suffix, one of `SUFFIXES`, is the format.
        agents: The agents whose outputs the module returns (None: the `readouts`), or whose weights are written (None: all).
        policy: A module from observations to actions in place of the system's.

    Raises:
        ScenarioError: No such agent, or see `export`.
        RunError: Another suffix; torch cannot trace a module; a package is missing; the file cannot be written.
    """
    check_agents(agents, system)
    if path.suffix not in SUFFIXES:
        raise RunError(f"export: '{path.name}' has no known suffix; use {', '.join(SUFFIXES)}")
    if path.suffix == ".safetensors":
        content = _weights(system, agents)
    else:
        if path.suffix == ".onnx" and importlib.util.find_spec("onnxscript") is None:
            raise RunError("export: an .onnx file needs onnxscript: pip install 'antiphon[onnx]'")
        module = policy
        if module is None:
            module = export(
                system, list(dict.fromkeys(readouts if agents is None else agents)), native.conversions
            )
        content = _module(observed(system), native, path, module.cpu())
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
    return path


def _weights(system: System, agents: Sequence[str] | None) -> bytes:
    """Return parameters and running statistics as `agent.name`; those of tied agents once."""
    owners = {system.learner_name_by_agent[name] for name in (system.agents if agents is None else agents)}
    tensors = {
        f"{owner}.{name}": constant(tensor).cpu().clone(memory_format=torch.contiguous_format)
        for owner, agent in system.agents.items()
        if owner in owners
        for held in (agent.learner.parameters, agent.learner.buffers)
        for name, tensor in held.items()
    }
    metadata = {"format": "pt", "antiphon": VERSION}
    return save(tensors, metadata=metadata)


def _module(names: Sequence[str], native: Native, path: Path, module: fx.GraphModule) -> bytes:
    """Trace a module of a system that observes these signals, for a file."""
    words = [str(node.target) for node in module.graph.nodes if node.op == "placeholder"][: len(names)]
    rounds: Any = getattr(module, "steps_per_round", None)
    steps = () if rounds is None else (int(rounds),)
    arguments: dict[str, Any] = {
        word: native.example(name, (*steps, _ROWS)) for word, name in zip(words, names, strict=True)
    }
    batch = torch.export.Dim("batch")
    sizes: dict[str, Any] = {word: {len(steps): batch} for word in words}
    if steps:
        with torch.no_grad():
            _, after = module(**arguments)
        arguments["state"] = {key: torch.zeros_like(value) for key, value in after.items()}  # silence
        sizes["state"] = {key: {0: batch} if value.dim() else None for key, value in after.items()}
    try:
        with torch.no_grad():
            program = torch.export.export(module, (), arguments, dynamic_shapes=sizes)
        if path.suffix == ".onnx":
            level = logging.root.manager.disable
            logging.disable(logging.WARNING)  # torch's own, of what is not there and not needed
            try:
                with warnings.catch_warnings(action="ignore"):
                    names = _output_names(program, len(words))
                    exported: Any = torch.onnx.export(program, dynamo=True, verbose=False, output_names=names)
            finally:
                logging.disable(level)
            return bytes(exported.model_proto.SerializeToString())
        for node in [*program.graph.nodes]:
            node.meta.pop("stack_trace", None)  # which would tell the folders of this machine
            if node.target is _DTYPE_CHECK and node.kwargs["dtype"] is not torch.uint8:
                program.graph.erase_node(node)  # any type of number is converted
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        fixed = _FIXED_BATCH in str(cause)
        fix = (
            "in forward, read the size of the batch as x.shape[0], not as len(x) or int(…); " if fixed else ""
        )
        raise RunError(
            f"export: {path.name}: torch cannot trace the module ({first_line(cause)}); {fix}weights alone go into .safetensors"
        ) from error
    _returns_plain_dicts(program)
    content = io.BytesIO()
    torch.export.save(program, content)
    return content.getvalue()


def _output_names(program: torch.export.ExportedProgram, observed: int) -> list[str]:
    """Return names of a program's outputs: agents, or the action; of states those of the inputs, which follow so many."""
    spec = program.module_call_graph[0].signature
    assert spec is not None
    outputs = spec.out_spec.unflatten([0] * spec.out_spec.num_leaves)
    inputs = [str(name) for name in program.graph_signature.user_inputs]
    states = [f"next_{name}" for name in inputs[observed:]]
    named = [*_paths(outputs[0] if states else outputs), *states]
    used = {*inputs}
    for index, name in enumerate(named):
        while name in used:  # an agent named like a signal
            name += "_"
        used.add(name)
        named[index] = name
    return named


def _paths(value: Any, path: str = "") -> list[str]:
    """Return a name for each leaf of nested dicts, lists and tuples: its keys, joined by dots."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [name for key, item in items for name in _paths(item, f"{path}.{key}".strip("."))]
    return [path or "action"]


def _returns_plain_dicts(program: torch.export.ExportedProgram) -> None:
    """Let a program return dicts, which it also takes, where torch.export has the immutable ones of the fx graph."""
    signature = program.module_call_graph[0].signature
    assert signature is not None
    signature.out_spec = pytree.tree_structure(
        _plain(signature.out_spec.unflatten([0] * signature.out_spec.num_leaves))
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return type(value)(map(_plain, value)) if isinstance(value, tuple | list) else value

"""The verb `split`: where a model can be cut, or the parts of a cut and what crosses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from antiphon.commands.output import console, print_json, show_table
from antiphon.engine.runs.python_template import imported_object, in_one_line
from antiphon.engine.split.cuts import Cut, Preview, cuts, preview
from antiphon.errors import ScenarioError

__all__ = ["split"]


def split(source: str, *, at: Sequence[str], output: str | None, inside: bool, json: bool) -> None:
    """Print where a model can be cut, or with `at` its parts and what crosses."""
    model, example = _model(source)
    chosen: Any = int(output) if output is not None and output.isdecimal() else output
    if not at:
        found = cuts(model, example, output=chosen, inside=inside)
        if json:
            print_json({"model": type(model).__name__, "cuts": [_plain(cut) for cut in found]})
        else:
            console().print(found)
        return
    parts = preview(model, _cuts(at), example, output=chosen)
    if json:
        print_json({"model": type(model).__name__, "parts": [_part(part) for part in parts]})
        return
    rows = [
        [
            part.name,
            ", ".join(part.inputs) or "–",
            ", ".join(f"{name} {list(shape)} from {sender}" for name, shape, sender in part.reads) or "–",
            f"{part.parameters:,}",
            f"{100 * part.share:.0f} %",
        ]
        for part in parts
    ]
    show_table(["part", "inputs", "reads", "parameters", "cost"], rows, right=2)


def _cuts(at: Sequence[str]) -> int | list[int | str]:
    names = [name.strip() for item in at for name in item.split(",") if name.strip()]
    if len(at) == 1 and at[0].strip().isdecimal():
        return int(at[0])
    return [int(name) if name.isdecimal() else name for name in names]


def _model(source: str) -> tuple[nn.Module, Any]:
    """The model and example of `MODULE:FUNCTION`."""
    found = imported_object(source, f"split {source}")
    if callable(found) and not isinstance(found, nn.Module):
        found = in_one_line(found, f"split {source}")()
    model, example = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    if not isinstance(model, nn.Module):
        raise ScenarioError(
            f"split {source}: returned {type(model).__name__}; return a torch.nn.Module and an example of its inputs"
        )
    if example is None:
        example = getattr(model, "example_input_array", None)
    if example is None:
        raise ScenarioError(
            f"split {source}: returned a model without an example; return (model, example), tensors [batch, …]"
        )
    return model, example


def _plain(cut: Cut) -> dict[str, Any]:
    tensors = {name: list(shape) for name, shape in cut.tensors.items()}
    return {
        "name": cut.name,
        "module": cut.kind,
        "crosses": tensors,
        "bytes": cut.size,
        "cost": cut.share,
    } | ({"problem": cut.problem} if cut.problem else {})


def _part(part: Preview) -> dict[str, Any]:
    reads = [{"name": name, "shape": list(shape), "from": sender} for name, shape, sender in part.reads]
    return {
        "name": part.name,
        "inputs": list(part.inputs),
        "reads": reads,
        "parameters": part.parameters,
        "cost": part.share,
    }

"""The places where a model can be cut, and the tensors that would cross."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from antiphon.base.errors import ScenarioError, suggest
from antiphon.base.table import Result, Table
from antiphon.distributed.flop import counting
from antiphon.splitting.outputs import outputs_of
from antiphon.splitting.plan import plan_parts
from antiphon.splitting.trace import Trace, fewer, named_example, trace

_BYTES = 4


@dataclass(frozen=True)
class Cut:
    """A place before which a model can be cut.

    Attributes:
        name: The submodule's path.
        kind: Its class.
        tensors: The tensors that would cross, by name: the shape of one sample.
        share: The share of the forward's floating-point operations before the cut.
    """

    name: str
    kind: str
    tensors: Mapping[str, tuple[int, ...]]
    share: float

    @property
    def size(self) -> int:
        """Bytes per sample that cross, in float32."""
        return _BYTES * sum(math.prod(shape) for shape in self.tensors.values())


class Cuts(Result, tuple[Cut, ...]):
    """The places where a model can be cut; printed as a table."""

    def table(self) -> Table:
        rows = []
        for cut in self:
            crosses = ", ".join(f"{name} {list(shape)}" for name, shape in cut.tensors.items())
            rows.append((cut.name, cut.kind, crosses, f"{cut.size:,}", f"{100 * cut.share:.0f} %"))
        return Table(("cut before", "module", "crosses", "bytes/sample", "cost before"), rows, 3)


def cuts(model: nn.Module, example: Any) -> Cuts:
    """Return the places where a model can be cut, in the order of its forward, with the tensors that would cross.

    Args:
        model: The model; it is not changed.
        example: Its argument, a tuple of its arguments, or a mapping by their names: tensors [batch, …] with a batch of at
            least 2.

    Raises:
        ScenarioError: The forward cannot be traced, or does not take the example.
    """
    with torch.random.fork_rng(devices=[]):
        return _places(model, named_example(model, example))


def _places(model: nn.Module, example: Mapping[str, Any]) -> Cuts:
    traced = _traced(model, example)
    predictions = [*outputs_of(traced).values()]
    shares = _shares(traced, example)
    places: dict[fx.Node, Cut] = {}
    for path, node in traced.first.items():
        if not path or node in places:
            continue
        kind = type(traced.root.get_submodule(path)).__name__
        try:
            plans = plan_parts(traced, {path: node}, predictions)
        except ScenarioError:  # not there
            continue
        tensors = {read.name: traced.sample_shape(read) for read in plans[1].reads}
        places[node] = Cut(path, kind, tensors, shares[node])
    return Cuts(places[node] for node in sorted(places))


def cut_names(model: nn.Module, at: Any, example: Mapping[str, Any]) -> list[str]:
    """Return the paths of the submodules to cut before; `at`: paths, positions of an `nn.Sequential`, or a number of parts."""
    if type(at) is int:
        return _balanced(model, at, example)
    if isinstance(at, str) or not isinstance(at, Sequence):
        raise ScenarioError(
            f"at: {at!r}; give names of submodules to cut before (antiphon.cuts lists them), or a number of parts"
        )
    positions = dict(enumerate(model._modules)) if isinstance(model, nn.Sequential) else {}
    names = [positions.get(name, name) for name in at]
    modules = dict(model.named_modules(remove_duplicate=False))
    for name in names:
        if name not in modules:
            raise ScenarioError(f"at: no submodule {name!r}{suggest(str(name), filter(None, modules))}")
    paths = {module: path for path, module in model.named_modules()}
    return [*dict.fromkeys(paths[modules[name]] for name in names)]


def containers(names: Iterable[str]) -> set[str]:
    """Return the paths of all modules around some submodules, the model's own ("") among them."""
    around = {""}
    for name in names:
        parts = name.split(".")
        around |= {".".join(parts[:i]) for i in range(1, len(parts))}
    return around


def _balanced(model: nn.Module, count: int, example: Mapping[str, Any]) -> list[str]:
    """The cuts that make parts of about equal cost; of equal ones those over which the least crosses."""
    places = _places(model, example)
    if not 0 < count <= len(places) + 1:
        raise ScenarioError(
            f"at={count}: {type(model).__name__} can be cut at {len(places)} places; give 1 to {len(places) + 1} parts, or name "
            "submodules inside its blocks"
        )
    bounds = [0.0, *(cut.share for cut in places), 1.0]
    sizes = [0, *(cut.size for cut in places), 0]
    best: dict[int, tuple[float, int, tuple[int, ...]]] = {0: (0.0, 0, ())}
    for _ in range(count):
        best = {
            end: min(
                (max(cost, round(bounds[end] - bounds[start], 3)), size + sizes[end], (*chosen, end))
                for start, (cost, size, chosen) in best.items()
                if start < end
            )
            for end in range(min(best) + 1, len(bounds))
        }
    return [places[end - 1].name for end in best[len(bounds) - 1][2][:-1]]


def _traced(model: nn.Module, example: Mapping[str, Any]) -> Trace:
    """A trace with all lists opened, and the outermost ones of blocks with what holds them, if that can be traced."""
    lists, of_blocks = {""}, list[str]()
    for path, module in model.named_modules():
        if type(module) in (nn.Sequential, nn.ModuleList, nn.ModuleDict):
            lists.add(path)
        blocks = module.children() if isinstance(module, nn.ModuleList | nn.Sequential) else ()
        inside = any(path.startswith(f"{outer}.") for outer in of_blocks if outer)
        if not inside and any(True for block in blocks for _ in block.children()):
            of_blocks.append(path)  # it may have a forward of its own
    with suppress(ScenarioError):
        return trace(model, {*lists, *of_blocks, *containers(of_blocks)}, example)
    return trace(model, lists, example)


def _shares(traced: Trace, example: Mapping[str, Any]) -> dict[fx.Node, float]:
    """The share of the forward's operations that is before each node."""
    before: dict[fx.Node, int] = {}

    class Counted(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            before[n] = counter.flop
            return super().run_node(n)

    with torch.no_grad(), counting() as counter:
        Counted(traced.root, graph=traced.graph).run(*fewer(example, traced.rows).values())
    return {node: flop / max(counter.flop, 1) for node, flop in before.items()}

"""Credit of a cut model's channels, in words: `local` and `aug_local` become gradients with heads.

`local` is a small head of its own (Nøkland & Eidnes 2019, 1901.06656); `aug_local` a head made of copies of the model's own
later layers, chosen uniformly in depth, which train on their own (AugLocal, Ma et al. 2024, 2402.17318).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from antiphon.agents.models import MapHead
from antiphon.base.errors import ScenarioError
from antiphon.base.problems import check_counts
from antiphon.comms.sites import Sites
from antiphon.scenarios.channel_specs import GradientSpec
from antiphon.splitting.cuts import containers
from antiphon.splitting.outputs import Head, Shape, prediction_of
from antiphon.splitting.parts import ModelPart, Wire, build_parts
from antiphon.splitting.plan import plan_parts
from antiphon.splitting.trace import Trace, trace

WORDS = ("local", "aug_local")
"""Kinds of gradients that get their heads from the model."""
_LAYERS = 2
_AFTER = "after "
"""Before a path: the submodule's end, not its beginning."""


class SiteHead(nn.Module):
    """Linear head of messages [T, D] (after a layer norm), [C, H, W] or [D]: at every site, or on their mean.

    Outputs are [*sites, classes] of targets that have the message's sites, else [classes] or those of floats.
    """

    def __init__(self, shape: Shape, outputs: Shape) -> None:
        super().__init__()
        sites = Sites(shape)
        self.maps, axes, width = not sites.tokens, sites.axes, sites.features
        self.pooled = bool(axes) and outputs[:-1] != axes
        self.norm = nn.LayerNorm(width) if axes and not self.maps else nn.Identity()
        features = torch.Size(outputs).numel() if self.pooled or not axes else outputs[-1]
        self.linear = nn.Linear(width, features)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        sites = x.movedim(1, -1) if self.maps else x
        read = self.norm(sites)
        if self.pooled:
            read = read.flatten(1, -2).mean(1)
        outputs: Tensor = self.linear(read)
        return outputs


class ChannelGradients:
    """Makes the gradients, of a head's losses, of the channels of a model that is cut before some submodules."""

    def __init__(
        self, model: nn.Module, example: Mapping[str, Tensor], cuts: Sequence[str], head: Head
    ) -> None:
        self.model, self.example, self.cuts, self.head = model, example, cuts, head
        self._traces: dict[frozenset[str], Trace] = {}

    def default(self, wire: Wire) -> dict[str, Any]:
        """Return the gradient of a channel where none is given: the best of the safe ones in docs/results/split-credit.md.

        Of tokens and maps `aug_local` with one block, if the last layers are no larger than that block, whose copies every
        channel has; else `local`.
        """
        if len(wire.shape) > 1:
            with suppress(ScenarioError):  # there are no such layers, or they read another shape
                blocks = [self.model.get_submodule(path) for path in self._chosen(wire, 1)]
                if blocks and _size(self._last[1].module) <= _size(blocks[0]):
                    return self.gradient({"kind": "aug_local", "layers": 1}, wire)
        return self.gradient("local", wire)

    def gradient(self, settings: str | Mapping[str, Any], wire: Wire) -> dict[str, Any]:
        """Return the gradient of a channel, as a scenario has it.

        Args:
            settings: A kind, which predicts the target or has it as its context, or a gradient's keys; beside those of a
                scenario `layers` of `aug_local`.
        """
        keys: dict[str, Any] = {"kind": settings} if isinstance(settings, str) else dict(settings)
        kind, name, signal = keys.get("kind", "linear"), self.head.target, self.head.signal
        if kind not in WORDS:
            with suppress(ScenarioError):  # there is no such kind, which the scenario refuses with its place
                accepted = GradientSpec.entry_of(settings).keys if isinstance(settings, str) else ()
                if "target" in accepted:
                    return {**keys, "target": name}
                if "context" in accepted:
                    return {**keys, "context": [name]}
            return keys
        if kind == "local":
            keys.setdefault("target", name)
            if keys["target"] == name and not {"network", "hidden"} & keys.keys():
                outputs = signal.shape if signal.classes is None else (*signal.shape, signal.classes)
                pooled_map = len(wire.shape) == 3 and outputs[:-1] != wire.shape[1:]
                keys["network"] = MapHead if pooled_map else SiteHead(wire.shape, outputs)
            return keys
        check_counts("gradient", 0, layers=keys.get("layers"))
        chosen = self._chosen(wire, keys.pop("layers", _LAYERS))
        heads = {path: self._block(path) for path in chosen} | dict([self._last])
        first = next(iter(heads))
        _check_reads(heads[first], first, wire.shape)
        network = nn.Sequential(nn.Flatten(), *(part.module for part in heads.values()))
        return {"target": name, "network": network, **keys, "kind": "local"}

    # --- sub-graphs ----------------------------------------------------------------------------------------

    def _tail(self, at: str) -> ModelPart:
        """The model from the beginning of a submodule, or from its end (`after PATH`), to the prediction, as a part."""
        tail = self._parts(self._trace([at]), [at])[-1]
        _check_reads(tail, at)
        return tail

    def _block(self, name: str) -> ModelPart:
        """A block as a part from its input to the input of what follows it: the next block, or the last layers."""
        places = [*self._blocks, self._last[0]]
        following = places[places.index(name) + 1]
        block = self._parts(self._trace(places), [name, following])[1]
        _check_reads(block, name)
        return block

    def _trace(self, names: Sequence[str]) -> Trace:
        opened = frozenset(containers([name.removeprefix(_AFTER) for name in names]))
        if opened not in self._traces:
            self._traces[opened] = trace(self.model, opened, self.example)
        return self._traces[opened]

    def _parts(self, traced: Trace, at: Sequence[str]) -> list[ModelPart]:
        prediction = prediction_of(traced, self.head)
        starts = {name: _start(traced, name) for name in at}
        plans = plan_parts(traced, starts, [prediction.node])
        return build_parts(traced, plans, self.model, [f"layers{i}" for i in range(len(plans))], prediction)

    # --- names ---------------------------------------------------------------------------------------------

    @cached_property
    def _blocks(self) -> list[str]:
        """The members of the lists of modules that are cut, in the order of their calls."""
        lists = {member.rpartition(".")[0] for name in self.cuts if (member := self._block_of(name))}
        members = [
            f"{path}.{child}"
            for path in lists
            for child, _ in self.model.get_submodule(path).named_children()
        ]
        return [path for path in self._trace(members).first if path in members] if members else []

    def _block_of(self, cut: str) -> str | None:
        """The repeated block that a cut is before, or in: the outermost member of a list of modules; None: there is none."""
        names = cut.split(".")
        for depth in range(1, len(names)):
            if isinstance(self.model.get_submodule(".".join(names[:depth])), nn.ModuleList | nn.Sequential):
                return ".".join(names[: depth + 1])
        return None

    @cached_property
    def _last(self) -> tuple[str, ModelPart]:
        """Where the last layers begin, behind the last block or else at the submodule that is called after it; and they."""
        last = self._blocks[-1]
        with suppress(ScenarioError):  # more than one tensor crosses there, as where a sum follows the block
            return f"{_AFTER}{last}", self._tail(f"{_AFTER}{last}")
        called = [path for path in self._trace(self._blocks).first if path]
        later = [path for path in called[called.index(last) + 1 :] if not path.startswith(f"{last}.")]
        if not later:
            raise ScenarioError(
                f"gradient: aug_local needs layers after '{last}', and there are none; use local"
            )
        return later[0], self._tail(later[0])

    def _chosen(self, wire: Wire, layers: int) -> list[str]:
        """Of the blocks between a cut and the last layers, so many: those that change the shape, and evenly spaced ones."""
        cut = self.cuts[wire.receiver - 1]
        block = self._block_of(cut)
        if block is None:
            raise ScenarioError(
                f"gradient: aug_local copies blocks, and '{cut}' is in no list of them; use local"
            )
        blocks, (last, tail) = self._blocks, self._last
        traced = self._trace([*blocks, last])
        first = blocks.index(block) + (cut not in traced.first)  # a cut inside a block
        end = _start(traced, last)
        rest = [path for path in blocks[first:] if traced.first[path] < end]
        reads = [_read_by(traced, path) for path in rest] + [tail.reads[0].shape]
        needed = {path for path, read, after in zip(rest, reads, reads[1:], strict=False) if read != after}
        optional = [path for path in rest if path not in needed]
        count = min(max(layers - len(needed), 0), len(optional))
        needed |= {optional[((i + 1) * len(optional) + count - 1) // count - 1] for i in range(count)}
        return [path for path in rest if path in needed]


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _start(traced: Trace, name: str) -> fx.Node:
    """The first node of a submodule, or of what follows it."""
    first = traced.first[name.removeprefix(_AFTER)]
    return first.next if name.startswith(_AFTER) else first


def _read_by(traced: Trace, path: str) -> Shape:
    """Shape of a sample of the first tensor that a submodule reads."""
    values = (traced.values[read] for read in traced.first[path].all_input_nodes)
    return next((tuple(value.shape[1:]) for value in values if isinstance(value, Tensor)), ())


def _check_reads(part: ModelPart, at: str, shape: Shape | None = None) -> None:
    """Check that layers read one message, and of this shape where one is given."""
    if not part.observes and len(part.reads) == 1 and shape in (None, part.reads[0].shape):
        return
    where = f"after '{at.removeprefix(_AFTER)}'" if at.startswith(_AFTER) else f"from '{at}' on"
    reads = [*part.observes, *(f"{wire.message.name} {list(wire.shape)}" for wire in part.reads)]
    of_shape = "" if shape is None else f" of shape {list(shape)}"
    raise ScenarioError(
        f"gradient: the layers {where} read {', '.join(reads)}, and a head reads one message{of_shape}; use local"
    )

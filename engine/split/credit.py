"""Credit of a cut model's channels, in words: `local`, `aug_local` and `lens` become gradients with heads.

`local` is a small head of its own (Nøkland & Eidnes 2019, 1901.06656); `aug_local` a head made of copies of the model's own
later layers, chosen uniformly in depth, which train on their own (AugLocal, Ma et al. 2024, 2402.17318); `lens` the model's
own last layers with the parameters that they have at present, and nothing to learn ("logit lens", nostalgebraist 2020).
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from antiphon.agents.models import MapHead
from antiphon.engine.split.cuts import containers
from antiphon.engine.split.graph import Trace
from antiphon.engine.split.outputs import axes_for, prediction_of
from antiphon.engine.split.parts import Part, Wire, build_parts
from antiphon.engine.split.plan import at_path, plan_parts
from antiphon.engine.split.tracer import trace
from antiphon.envs.signal import Signal
from antiphon.errors import ScenarioError, suggest
from antiphon.nets.site_axes import features_first, site_axes, site_features

__all__ = ["WORDS", "Credit", "SiteHead"]

Shape = tuple[int, ...]
WORDS = ("local", "aug_local", "lens")
"""Kinds of gradients that get their heads from the model."""
_LAYERS = 2


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


class SiteHead(nn.Module):
    """Linear head of messages [T, D] (after a layer norm), [C, H, W] or [D]: at every site, or on their mean.

    Args:
        shape: Of a message.
        outputs: Of the head: [*sites, classes] of targets that have the message's sites, else [classes] or that of floats.
    """

    def __init__(self, shape: Shape, outputs: Shape) -> None:
        super().__init__()
        self.maps = features_first(shape)
        axes, width = site_axes(shape), site_features(shape)
        self.pooled = bool(axes) and outputs[:-1] != axes
        self.norm = nn.LayerNorm(width) if len(shape) == 2 else nn.Identity()
        features = torch.Size(outputs).numel() if self.pooled or not axes else outputs[-1]
        self.linear = nn.Linear(width, features)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, *outputs] of [B, *shape]."""
        sites = x.movedim(1, -1) if self.maps else x
        read = self.norm(sites)
        if self.pooled:
            read = read.flatten(1, -2).mean(1)
        found: Tensor = self.linear(read)
        return found


class Credit:
    """Makes the gradients of a cut model's channels.

    Args:
        model: The model.
        example: Its arguments.
        cuts: The submodules before which it is cut, one for each part but the first.
        target: Of the objective: its signal's name, and the signal.
        output: As of `split`.
        size: The numbers per sample that the objective needs.
        parts: The parts, whose parameters a lens has, by the names of their agents.
        coded: Whether the objective is the cross-entropy of its target.
    """

    def __init__(
        self,
        model: nn.Module,
        example: Mapping[str, Tensor],
        cuts: Sequence[str],
        target: tuple[str, Signal],
        output: str | int | None,
        size: int | None,
        parts: Mapping[str, Part],
        *,
        coded: bool,
    ) -> None:
        self.coded = coded and target[1].classes is not None
        self.model, self.example, self.cuts = model, example, cuts
        self.target, self.output, self.size, self.parts = target, output, size, parts
        self._tails: dict[str, Part] = {}
        self._traces: dict[tuple[str, ...], Trace] = {}

    def default(self, wire: Wire) -> str | dict[str, Any]:
        """Return the gradient of a channel for which none is given: the best of the safe ones in docs/results/split-credit.md.

        Of tokens that the last layers can read `aug_local` with one block, if the last layers are no larger than a block, whose
        copies every channel has; else `lens`. `local` of other messages, and `linear` where no class is the target.
        """
        shape = wire.message.shape
        if not self.coded:
            return {"kind": "linear", "sites": len(shape) > 1}
        if len(shape) == 2:
            with suppress(ScenarioError):  # there are no such layers, or they read another shape
                last = self.tail(self._last("lens"), shape).module
                blocks = [self.model.get_submodule(path) for path in self._chosen(wire, 1)]
                large = not blocks or _size(last) > _size(blocks[0])
                return self.gradient("lens" if large else {"kind": "aug_local", "layers": 1}, wire)
        return self.gradient("local", wire)

    def gradient(self, given: str | Mapping[str, Any], wire: Wire) -> str | dict[str, Any]:
        """Return the gradient of a channel, as a scenario has it.

        Args:
            given: A kind, or a gradient's keys; beside those of a scenario `layers` of `aug_local`, and `at`, the submodule
                at which the last layers begin, of `aug_local` and `lens`.
            wire: The channel.

        Raises:
            ScenarioError: The layers do not fit the message; the line names the fix.
        """
        keys: dict[str, Any] = {"kind": given} if isinstance(given, str) else dict(given)
        kind, shape = keys.get("kind", "linear"), wire.message.shape
        if kind not in WORDS:
            return given if isinstance(given, str) else keys
        at, layers = keys.pop("at", None), keys.pop("layers", _LAYERS)
        name, signal = self.target
        if kind == "local":
            keys.setdefault("target", name)
            if keys["target"] == name and not {"head", "hidden", "pool"} & keys.keys():
                outputs = signal.shape if signal.classes is None else (*signal.shape, signal.classes)
                pooled_map = len(shape) == 3 and outputs[:-1] != shape[1:]
                keys["head"] = MapHead if pooled_map else SiteHead(shape, outputs)
            return keys
        last = self.tail(at or self._last(kind), shape)
        if kind == "lens":
            names = {f"1.{key}": self._owner(key) for key, _ in last.module.named_parameters()}
            return {"head": nn.Sequential(nn.Flatten(), last.module), "parameters": names, **keys}
        chosen = [self.block(path, shape) for path in self._chosen(wire, layers)]
        head = nn.Sequential(nn.Flatten(), *(part.module for part in (*chosen, last)))
        return {"target": name, "head": head, **keys, "kind": "local"}

    # --- sub-graphs ----------------------------------------------------------------------------------------

    def tail(self, name: str, shape: Shape | None = None) -> Part:
        """Return the model from the input of a submodule to the prediction, as a part of its own.

        Args:
            name: Path of the submodule.
            shape: That its input is to have; None: any.

        Raises:
            ScenarioError: It reads more than one tensor, or another shape.
        """
        if name not in self._tails:
            traced = self._trace([name])
            self._tails[name] = self._parts(traced, [name])[-1]
        found = self._tails[name]
        return self._checked(found, f"the layers from '{name}' on", shape)

    def block(self, name: str, shape: Shape) -> Part:
        """Return a submodule as a part from its input to the input of what follows it.

        Args:
            name: Path of the submodule.
            shape: That its input is to have.

        Raises:
            ScenarioError: It reads more than one tensor, or another shape.
        """
        siblings = self._siblings(name)
        traced = self._trace(siblings)
        order = list(traced.graph.nodes)
        entries = sorted(traced.entries.items(), key=lambda pair: order.index(pair[1]))
        after = [path for path, _ in entries[[path for path, _ in entries].index(name) + 1 :]]
        following = next(path for path in after if not path.startswith(f"{name}."))
        return self._checked(self._parts(traced, [name, following])[1], f"'{name}'", shape)

    def _trace(self, names: Sequence[str]) -> Trace:
        key = tuple(sorted(containers(names)))
        if key not in self._traces:
            self._traces[key] = trace(self.model, set(key), self.example)
        return self._traces[key]

    def _parts(self, traced: Trace, at: Sequence[str]) -> list[Part]:
        prediction = prediction_of(traced, self.output, self.size)
        shape = tuple(at_path(traced.facts[prediction[0]].value, prediction[1]).shape[1:])
        axes = axes_for(shape, self.target[1].shape, self.target[1].classes)
        plan = plan_parts(traced, at, prediction)
        return build_parts(traced, plan, self.model, [f"layers{i}" for i in range(len(at) + 1)], axes)

    def _checked(self, part: Part, what: str, shape: Shape | None) -> Part:
        reads = [tuple(wire.message.shape) for wire in part.reads]
        if part.observes or len(reads) != 1:
            names = [*part.observes, *(wire.message.name for wire in part.reads)]
            raise ScenarioError(
                f"gradient: {what} read {', '.join(names)}, and a head reads one message; name where the last layers "
                "begin with `at`, or use local"
            )
        if shape is not None and reads[0] != tuple(shape):
            raise ScenarioError(
                f"gradient: {what} read {list(reads[0])}, and a message is {list(shape)}; name where the last layers "
                "begin with `at`, or use local"
            )
        return part

    # --- names ---------------------------------------------------------------------------------------------

    def _siblings(self, name: str) -> list[str]:
        """The submodules of the container that holds a submodule, in order."""
        container = name.rpartition(".")[0]
        children = self.model.get_submodule(container).named_children()
        return [f"{container}.{child}" if container else child for child, _ in children]

    def _stack(self, cut: str) -> str | None:
        """The repeated block that a cut is before, or in: the outermost member of a list of modules; None: there is none."""
        names = cut.split(".")
        for depth in range(1, len(names)):
            if isinstance(self.model.get_submodule(".".join(names[:depth])), nn.ModuleList | nn.Sequential):
                return ".".join(names[: depth + 1])
        return None

    def _last(self, kind: str) -> str:
        """Where the last layers begin: at the submodule that is called after the last of the cuts' blocks."""
        block = next((found for cut in reversed(self.cuts) if (found := self._stack(cut))), None)
        if block is None:
            called = [path for path in self._trace(self.cuts).entries if path]
            raise ScenarioError(
                f"gradient: {kind} needs the model's last layers, and no list of blocks holds {_quoted(self.cuts)}; name "
                f"where they begin with `at`: {{'kind': '{kind}', 'at': '{called[-1]}'}}"
            )
        last = self._siblings(block)[-1]
        traced = self._trace(self._siblings(block))
        order = list(traced.graph.nodes)
        start = order.index(traced.entries[last])
        later = [
            (order.index(node), path)
            for path, node in traced.entries.items()
            if path and order.index(node) > start and not path.startswith(f"{last}.")
        ]
        if not later:
            raise ScenarioError(
                f"gradient: {kind} needs layers after '{last}', and there are none; use local"
            )
        return min(later)[1]

    def _chosen(self, wire: Wire, layers: int) -> list[str]:
        """Of the blocks behind a cut, so many, evenly spaced and the last among them."""
        cut = self.cuts[wire.receiver - 1]
        block = self._stack(cut)
        if block is None:
            raise ScenarioError(
                f"gradient: aug_local copies blocks, and '{cut}' is in no list of them; use local"
            )
        siblings = self._siblings(block)
        rest = siblings[siblings.index(block) + (block != cut) :]
        count = min(layers, len(rest))
        return [rest[((i + 1) * len(rest) + count - 1) // count - 1] for i in range(count)]

    def _owner(self, key: str) -> str:
        """The agent and parameter that a parameter of the model became, the last part's before others."""
        for agent, part in reversed(list(self.parts.items())):
            try:
                found = operator.attrgetter(key)(part.module)
            except AttributeError:
                continue
            own = next((name for name, p in part.module.named_parameters() if p is found), None)
            if own is not None:
                return f"{agent}.module.{own}"
        raise ScenarioError(f"gradient: no part has '{key}'{suggest(key, self.parts)}; use local")

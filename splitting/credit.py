"""Credit of a cut model's channels, in words: `local`, `aug_local` and `lens` become gradients with heads.

`local` is a small head of its own (Nøkland & Eidnes 2019, 1901.06656); `aug_local` a head made of copies of the model's own
later layers, chosen uniformly in depth, which train on their own (AugLocal, Ma et al. 2024, 2402.17318); `lens` the model's
own last layers with the parameters that they have at present, and nothing to learn ("logit lens", nostalgebraist 2020).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from antiphon.agents.models import MapHead
from antiphon.base.argument_checks import check_counts
from antiphon.base.errors import ScenarioError
from antiphon.base.nearest_names import suggest
from antiphon.base.problems import show_value
from antiphon.base.spec import accepted_keys
from antiphon.comms.examples import ContextSpec
from antiphon.comms.sites import Sites
from antiphon.envs.signal import Signal
from antiphon.nets.site_axes import features_first, site_features
from antiphon.nets.user_modules import parameters_of, remove_hooks, without_parameter_hooks
from antiphon.scenarios.channel_specs import GradientSpec
from antiphon.splitting.cut_plan import Where, at_path, plan_parts
from antiphon.splitting.cuts import containers
from antiphon.splitting.feature_axes import feature_axes
from antiphon.splitting.graph import ModelGraph
from antiphon.splitting.outputs import RequiredOutput, prediction_of
from antiphon.splitting.part_modules import ModelPart, Wire, build_parts
from antiphon.splitting.tracer import trace

Shape = tuple[int, ...]
WORDS = ("local", "aug_local", "lens")
"""Kinds of gradients that get their heads from the model."""
_LAYERS = 2
_OF_LAST_LAYERS: Mapping[str, tuple[str, ...]] = {"local": (), "aug_local": ("at", "layers"), "lens": ("at",)}
"""By kind, its keys that a scenario does not have."""
_AFTER = "after "


def _in_order(traced: ModelGraph) -> list[str]:
    order = {node: index for index, node in enumerate(traced.graph.nodes)}
    return sorted(filter(None, traced.entries), key=lambda path: order[traced.entries[path]])


def _read_by(traced: ModelGraph, path: str) -> Shape:
    """Shape of a sample of the first tensor that a submodule reads."""
    node = traced.entries[path]
    values = (traced.facts[read].value for read in node.all_input_nodes)
    return next((tuple(value.shape[1:]) for value in values if isinstance(value, Tensor)), ())


def _checked(part: ModelPart, at: str, shape: Shape | None = None) -> ModelPart:
    """A part; ScenarioError unless it reads one message, and of this shape where one is given."""
    if not part.observes and len(part.reads) == 1 and shape in (None, tuple(part.reads[0].message.shape)):
        return part
    where = f"after '{at.removeprefix(_AFTER)}'" if at.startswith(_AFTER) else f"from '{at}' on"
    reads = [*part.observes, *(f"{w.message.name} {list(w.message.shape)}" for w in part.reads)]
    of_shape = "" if shape is None else f" of shape {list(shape)}"
    raise ScenarioError(
        f"gradient: the layers {where} read {', '.join(reads)}, and a head reads one message{of_shape}; name where the last "
        "layers begin with `at`, or use local"
    )


def _last_layers(kind: str, keys: dict[str, Any]) -> tuple[str | None, int]:
    """Take `at` and `layers` out of the keys of a kind in words; ScenarioError where they are not its own, or wrong."""
    at, layers = keys.pop("at", None), keys.pop("layers", None)
    for key, value in (("at", at), ("layers", layers)):
        if value is not None and key not in _OF_LAST_LAYERS[kind]:
            raise ScenarioError(f"gradient: {kind} has no key '{key}'; leave it out")
    if not isinstance(at, str | None):
        raise ScenarioError(f"gradient: at={at!r}; must be the path of a submodule")
    check_counts("gradient", 0, layers=layers)
    return at, _LAYERS if layers is None else int(layers)


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


class SiteHead(nn.Module):
    """Linear head of messages [T, D] (after a layer norm), [C, H, W] or [D]: at every site, or on their mean.

    Args:
        shape: Of a message.
        outputs: Of the head: [*sites, classes] of targets that have the message's sites, else [classes] or that of floats.
        maps: Whether the features of a site are the first axis, not the last.
    """

    def __init__(self, shape: Shape, outputs: Shape, *, maps: bool) -> None:
        super().__init__()
        self.maps = maps
        axes, width = (shape[1:], shape[0]) if maps else (shape[:-1], shape[-1])
        self.pooled = bool(axes) and outputs[:-1] != axes
        self.norm = nn.LayerNorm(width) if axes and not maps else nn.Identity()
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
        outputs: Tensor = self.linear(read)
        return outputs


class ChannelGradients:
    """Makes the gradients of a cut model's channels.

    Args:
        cuts: The submodules before which it is cut, one for each part but the first.
        required: What the objective needs of the output.
        parts: The parts, whose parameters a lens has, by the names of their agents.
        coded: Whether the default may be a loss of the classes of the target.
    """

    def __init__(
        self,
        model: nn.Module,
        example: Mapping[str, Tensor],
        cuts: Sequence[str],
        traced: ModelGraph,
        required: RequiredOutput,
        output: str | int | None,
        parts: Mapping[str, ModelPart],
        *,
        targets: Mapping[str, Signal],
        coded: bool,
    ) -> None:
        self.coded, self.targets = coded, targets
        self.model, self.example, self.cuts, self.traced = model, example, cuts, traced
        self.required, self.output, self.parts = required, output, parts
        self._tails: dict[str, ModelPart] = {}
        self._traces: dict[tuple[str, ...], ModelGraph] = {}

    def default(self, wire: Wire) -> str | dict[str, Any]:
        """Return the gradient of a channel for which none is given: the best of the safe ones in docs/results/split-credit.md.

        Of tokens and maps `aug_local` with one block, if the last layers are no larger than that block, whose copies every
        channel has; else `lens`, where the last layers can read the message. `local` of other messages, and `linear` with the
        targets as its context where no class is the target.
        """
        shape = wire.message.shape
        if not self.coded:
            sites = len(shape) > 1
            read = self._read_at_sites(wire) if sites else [*self.targets]
            return {"kind": "linear", "sites": sites, "context": read}
        if len(shape) > 1:
            with suppress(ScenarioError):  # there are no such layers, or they read another shape
                at = self._last("lens")
                last = self.tail(at)
                blocks = [self.model.get_submodule(path) for path in self._chosen(wire, at, 1)]
                large = not blocks or _size(last.module) > _size(blocks[0])
                return self.gradient("lens" if large else {"kind": "aug_local", "layers": 1}, wire)
        return self.gradient("local", wire)

    def _read_at_sites(self, wire: Wire) -> list[str]:
        """Return the targets that every site can read: their own part of it, or no more than the features of a site."""
        size = self.keys(wire, {"kind": "linear", "sites": True})["size"]
        sites, of_site = Sites(tuple(size)), site_features(tuple(size))
        specs = [ContextSpec(name, target.shape, target.classes) for name, target in self.targets.items()]
        return [spec.name for spec in specs if sites.divides(spec) or spec.features <= of_site]

    def gradient(self, settings: str | Mapping[str, Any], wire: Wire) -> str | dict[str, Any]:
        """Return the gradient of a channel, as a scenario has it.

        Args:
            settings: A kind, which has the targets as its context, or a gradient's keys; beside those of a scenario `layers` of `aug_local`, and `at`, the submodule
                at which the last layers begin, of `aug_local` and `lens`.

        Raises:
            ScenarioError: The layers do not fit the message; the line names the fix.
        """
        if not isinstance(settings, str | Mapping):
            raise ScenarioError(
                f"gradient: {show_value(settings)}; must be a kind, such as 'local', or a mapping of its keys"
            )
        keys: dict[str, Any] = {"kind": settings} if isinstance(settings, str) else dict(settings)
        kind, shape = keys.get("kind", "linear"), wire.message.shape
        if kind not in WORDS:
            with suppress(ScenarioError):  # there is no such kind, which the scenario refuses with its place
                if isinstance(settings, str) and "context" in accepted_keys(GradientSpec.spec_of(settings)):
                    return {**keys, "context": list(self.targets)}
            return keys
        at, layers = _last_layers(kind, keys)
        name, signal = self.required.target, self.required.signal
        if kind == "local":
            keys.setdefault("target", name)
            if keys["target"] == name and not {"network", "hidden", "pool"} & keys.keys():
                outputs = signal.shape if signal.classes is None else (*signal.shape, signal.classes)
                maps = self._features_first(wire)
                pooled_map = maps and len(shape) in (2, 3) and outputs[:-1] != shape[1:]
                keys["network"] = MapHead if pooled_map else SiteHead(shape, outputs, maps=maps)
            return keys
        at = at or self._last(kind)
        last = self.tail(at)
        if kind == "lens":
            _checked(last, at, shape)
            names = {f"1.{key}": self._owner(key) for key in parameters_of(last.module)}
            return {"network": nn.Sequential(nn.Flatten(), last.module), "parameters": names, **keys}
        chosen = {path: self.block(path, at) for path in self._chosen(wire, at, layers)} | {at: last}
        first = next(iter(chosen))
        _checked(chosen[first], first, shape)
        head = nn.Sequential(nn.Flatten(), *(part.module for part in chosen.values()))
        return {"target": name, "network": without_parameter_hooks(head), **keys, "kind": "local"}

    def keys(self, wire: Wire, gradient: str | Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the keys `size` and `gradient` of a channel: its size is the shape of its message, for a network.

        Other gradients look for the features of [T, D] last and of more axes first. Where the model has them at the other end,
        the same numbers in the same order have a size that says so: [C, L, 1] of a `Conv1d`, [H W, C] of maps with channels last.
        Sites are by default those of the message, not of this size. A kind that cannot read the size reads the message.

        Args:
            gradient: Its gradient, as in a scenario; None: it has none.
        """
        shape = wire.message.shape
        channel_keys: dict[str, Any] = {} if gradient is None else {"gradient": gradient}
        if len(shape) < 2:
            return {"size": (*shape, 1)[0], **channel_keys}
        if gradient is None or (isinstance(gradient, Mapping) and "network" in gradient):
            return {"size": list(shape), **channel_keys}
        first = self._features_first(wire)
        if first == features_first(shape):
            return {"size": list(shape), **channel_keys}
        size = (*shape, 1) if first else (math.prod(shape[:-1]), shape[-1])
        try:
            spec = GradientSpec.model_validate(gradient)
        except ScenarioError:  # the scenario refuses it too, and names its place
            return {"size": list(shape), **channel_keys}
        if any(spec.refusals(size, sends_maps=None)):
            return {"size": list(shape), **channel_keys}
        if spec.get("sites", False) is None and not getattr(spec, "reads_whole", False):
            written = {"kind": gradient} if isinstance(gradient, str) else gradient
            channel_keys = {"gradient": {**written, "sites": len(shape) == 2}}
        return {"size": list(size), **channel_keys}

    def _features_first(self, wire: Wire) -> bool:
        """Whether the features of a message of several axes are its first axis, not its last, by the layers that computed it."""
        shape = wire.message.shape
        axis = self._axes(wire.message.node, wire.message.path) if len(shape) > 1 else None
        return axis == 1 if axis in (1, len(shape)) else features_first(shape)

    @cached_property
    def _axes(self) -> Callable[[fx.Node, Where], int | None]:
        return feature_axes(self.traced, self.example)

    # --- sub-graphs ----------------------------------------------------------------------------------------

    def tail(self, at: str) -> ModelPart:
        """Return the model from the input of a submodule, or from what follows a block, to the prediction, as a part.

        Args:
            at: Path of the submodule, or `after PATH`.

        Raises:
            ScenarioError: It reads more than one tensor.
        """
        if at not in self._tails:
            self._tails[at] = _checked(self._parts(self._trace([at]), [at])[-1], at)
        return self._tails[at]

    def block(self, name: str, at: str) -> ModelPart:
        """Return a block as a part from its input to the input of what follows it.

        Args:
            name: Path of the submodule.
            at: Where the last layers begin, which follow the last block.

        Raises:
            ScenarioError: It reads more than one tensor.
        """
        blocks = self._blocks()
        following = [*blocks, at][blocks.index(name) + 1]
        return _checked(self._parts(self._trace([*blocks, at]), [name, following])[1], name)

    def _trace(self, names: Sequence[str]) -> ModelGraph:
        """The model's trace with the containers of submodules opened, and an entry for every `after PATH`."""
        ends = {name: name.removeprefix(_AFTER) for name in names if name.startswith(_AFTER)}
        key = (*sorted(containers([ends.get(name, name) for name in names])), *ends)
        if key not in self._traces:
            traced = trace(self.model, set(key) - ends.keys(), self.example)
            more = {name: traced.entries[path].next for name, path in ends.items()}
            self._traces[key] = replace(traced, entries=traced.entries | more)
        return self._traces[key]

    def _parts(self, traced: ModelGraph, at: Sequence[str]) -> list[ModelPart]:
        prediction = prediction_of(traced, self.output, self.required)
        shape = tuple(at_path(traced.facts[prediction[0]].value, prediction[1]).shape[1:])
        axes = self.required.axes_for(shape)
        plan = plan_parts(traced, at, [prediction])
        parts = build_parts(traced, plan, self.model, [f"layers{i}" for i in range(len(at) + 1)], [axes])
        for part in parts:
            remove_hooks(part.module)  # those of the model are called by its own parts
        return parts

    # --- names ---------------------------------------------------------------------------------------------

    def _blocks(self) -> list[str]:
        """The members of the lists of modules that are cut, in the order of their calls."""
        cut = [member for name in self.cuts if (member := self._block_of(name))]
        members = dict.fromkeys(path for member in cut for path in self._siblings(member))
        return [path for path in _in_order(self._trace([*members])) if path in members] if members else []

    def _siblings(self, name: str) -> list[str]:
        """The submodules of the container that holds a submodule, in order."""
        container = name.rpartition(".")[0]
        children = self.model.get_submodule(container).named_children()
        return [f"{container}.{child}" if container else child for child, _ in children]

    def _block_of(self, cut: str) -> str | None:
        """The repeated block that a cut is before, or in: the outermost member of a list of modules; None: there is none."""
        names = cut.split(".")
        for depth in range(1, len(names)):
            if isinstance(self.model.get_submodule(".".join(names[:depth])), nn.ModuleList | nn.Sequential):
                return ".".join(names[: depth + 1])
        return None

    def _last(self, kind: str) -> str:
        """Where the last layers begin: behind the last block, or else at the submodule that is called after it."""
        blocks = self._blocks()
        if not blocks:
            called = [path for path in self._trace(self.cuts).entries if path]
            raise ScenarioError(
                f"gradient: {kind} needs the model's last layers, and no list of blocks holds '{self.cuts[0]}'; name "
                f"where they begin with `at`: {{'kind': '{kind}', 'at': '{called[-1]}'}}"
            )
        last = blocks[-1]
        with suppress(ScenarioError):  # more than one tensor crosses there, as where a sum follows the block
            self.tail(f"{_AFTER}{last}")
            return f"{_AFTER}{last}"
        called = _in_order(self._trace(blocks))
        later = [path for path in called[called.index(last) + 1 :] if not path.startswith(f"{last}.")]
        if not later:
            raise ScenarioError(
                f"gradient: {kind} needs layers after '{last}', and there are none; use local"
            )
        return later[0]

    def _chosen(self, wire: Wire, at: str, layers: int) -> list[str]:
        """Of the blocks between a cut and the last layers, so many: those that change the shape, and evenly spaced ones."""
        cut = self.cuts[wire.receiver - 1]
        block = self._block_of(cut)
        if block is None:
            raise ScenarioError(
                f"gradient: aug_local copies blocks, and '{cut}' is in no list of them; use local"
            )
        blocks = self._blocks()
        traced = self._trace([*blocks, at])
        order = list(traced.graph.nodes)
        first = blocks.index(block) + (cut not in traced.entries)  # a cut inside a block
        end = order.index(traced.entries[at])
        rest = [path for path in blocks[first:] if order.index(traced.entries[path]) < end]
        reads = [_read_by(traced, path) for path in rest] + [self.tail(at).reads[0].message.shape]
        needed = {
            path for path, *shapes in zip(rest, reads, reads[1:], strict=False) if shapes[0] != shapes[1]
        }
        optional = [path for path in rest if path not in needed]
        count = min(max(layers - len(needed), 0), len(optional))
        needed |= {optional[((i + 1) * len(optional) + count - 1) // count - 1] for i in range(count)}
        return [path for path in rest if path in needed]

    def _owner(self, key: str) -> str:
        """The agent and parameter that a parameter of the model became, the last part's before others."""
        for agent, part in reversed(list(self.parts.items())):
            try:
                parameter = operator.attrgetter(key)(part.module)
            except AttributeError:
                continue
            parameter_name = next(
                (name for name, p in part.module.named_parameters() if p is parameter), None
            )
            if parameter_name is not None:
                return f"{agent}.module.{parameter_name}"
        raise ScenarioError(f"gradient: no part has '{key}'{suggest(key, self.parts)}; use local")

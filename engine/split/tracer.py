"""Tracing: the graph of a model's forward, down to its submodules, with the values of an example beside it (torch.fx,
Reed et al. 2022).
"""

from __future__ import annotations

import copy
import operator
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any, cast

import torch
import torch.utils.checkpoint
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from antiphon.errors import ScenarioError

__all__ = ["Fact", "Mode", "Trace", "copied", "evaluate", "storages", "tensors_in", "trace"]

_FACTORIES = (
    "arange",
    "as_tensor",
    "empty",
    "eye",
    "full",
    "linspace",
    "logspace",
    "normal",
    "ones",
    "rand",
    "randint",
    "randn",
    "randperm",
    "tensor",
    "tril_indices",
    "triu_indices",
    "zeros",
)
"""Functions that make tensors of plain numbers: they become nodes, so that device and type are not frozen in."""
_SHAPE_METHODS = frozenset(
    [
        "size",
        "dim",
        "ndimension",
        "numel",
        "nelement",
        "stride",
        "is_floating_point",
        "is_complex",
        "is_contiguous",
        "element_size",
        "get_device",
    ]
)
_SHAPE_ATTRIBUTES = frozenset(["shape", "dtype", "device", "ndim", "is_cuda", "layout", "is_sparse"])
_LIBRARIES = (os.path.dirname(torch.__file__), os.path.dirname(__file__), "<")
_SIZES = "take the batch size from x.shape[0] as it is, without len(x), int(…) or a loop over it"
NUMBERS = frozenset({"input", "parameter", "buffer", "state", "random"})
"""What the numbers of a tensor may depend on."""


@dataclass
class Fact:
    """What is known of a node of a trace."""

    value: Any
    """Its value for the example."""
    depends: frozenset[str]
    """What its numbers depend on, of `NUMBERS`; sizes and constants depend on nothing."""
    writes: frozenset[int]
    """The storages that it changes in place."""
    where: str
    """File and line of the user's code."""


@dataclass
class Trace:
    """The graph of a model's forward.

    Attributes:
        graph: Its calls of submodules, functions and methods, in order.
        root: A copy of the model, which the graph was made of.
        facts: Of every node but the output, in training mode.
        entries: By path of a submodule that was called: the first node of that call.
        other: By node: its value for the example of another batch size, in evaluation mode.
        batches: The two batch sizes.
    """

    graph: fx.Graph
    root: nn.Module
    facts: dict[fx.Node, Fact]
    entries: dict[str, fx.Node]
    other: dict[fx.Node, Any]
    batches: tuple[int, int]


class Mode(nn.Module):
    """One of two plain values: that of training, or that of evaluation."""

    def __init__(self, train: Any, evaluation: Any) -> None:
        super().__init__()
        self.train_value, self.evaluation_value = train, evaluation

    def forward(self) -> Any:
        """Return the value of the present mode."""
        return self.train_value if self.training else self.evaluation_value


def tensors_in(value: object) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dicts."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def storages(value: object) -> frozenset[int]:
    """Return the storages of the tensors in a value."""
    return frozenset(t.untyped_storage().data_ptr() for t in tensors_in(value) if t.numel())


class _Carried(fx.Proxy):
    """A node with its value: what asks for a number, a size or a type is answered from the example."""

    tracer: Any
    """The `_Tracer`."""

    @property
    def _value(self) -> Any:
        return self.tracer.facts[self.node].value

    def __getattr__(self, name: str) -> Any:
        value = self.__dict__["tracer"].facts[self.__dict__["node"]].value
        if isinstance(value, Mapping) and name in ("keys", "values", "items"):
            pairs = {key: cast(Any, self)[key] for key in value}
            return getattr(pairs, name)
        if callable(getattr(value, name)):
            return lambda *args, **kwargs: self.tracer.create_proxy(
                "call_method", name, (self, *args), kwargs
            )
        return self.tracer.create_proxy("call_function", getattr, (self, name), {})

    def __len__(self) -> int:
        return len(self._value)

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self._value, Mapping):
            return iter(self._value)
        return (cast(Any, self)[i] for i in range(len(self._value)))

    def __contains__(self, item: object) -> bool:
        return self.tracer.plain(self, f"whether it contains {item!r}") and item in self._value

    def __int__(self) -> int:
        return int(self.tracer.plain(self, "its value as an int"))

    def __index__(self) -> int:
        return operator.index(self.tracer.plain(self, "its value as an index"))

    def __float__(self) -> float:
        return float(self.tracer.plain(self, "its value as a float"))

    def __setitem__(self, key: object, value: object) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})

    def __iadd__(self, other: object) -> Any:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __isub__(self, other: object) -> Any:
        return self.tracer.create_proxy("call_function", operator.isub, (self, other), {})

    def __imul__(self, other: object) -> Any:
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})

    def __itruediv__(self, other: object) -> Any:
        return self.tracer.create_proxy("call_function", operator.itruediv, (self, other), {})


class _Tracer(fx.Tracer):
    """Traces the modules on the way to the opened ones; every other submodule is one call.

    Args:
        opened: Paths of the submodules whose forwards are traced, the model's own included.
        example: Its arguments, by name.
    """

    proxy_buffer_attributes = True

    def __init__(self, opened: Collection[str], example: Mapping[str, Any]) -> None:
        factories = tuple(getattr(torch, name) for name in _FACTORIES)
        super().__init__(autowrap_functions=factories)
        self.opened, self.example = opened, example
        self.facts: dict[fx.Node, Fact] = {}
        self.starts: dict[str, int] = {}
        self.evaluating = False
        self.contexts = _contexts()

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: object = None
    ) -> tuple[Any, list[Any]]:
        given = {name: self.create_proxy("placeholder", name, (), {}) for name in self.example}
        return (lambda root: root(**given)), [self.root]  # not its forward: its hooks run too

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Carried(node, self)

    def create_arg(self, a: Any) -> Any:
        if type(a) is _Carried:
            return a.node
        if hasattr(a, "__dataclass_fields__") and not isinstance(a, type):
            a = {name: getattr(a, name) for name in a.__dataclass_fields__}
        found = super().create_arg(a)
        if isinstance(found, fx.Node) and found not in self.facts:
            self._evaluate(found)  # a parameter or constant
        return found

    def create_proxy(
        self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any
    ) -> fx.Proxy:
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **more)
        self._evaluate(proxy.node)
        return proxy

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self.opened

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.evaluating:
            return forward(*args, **kwargs)
        if m not in self.submodule_paths:
            return forward(*args, **kwargs)  # made by forward itself: nn.ReLU()(x)
        self.starts.setdefault(self.path_of_module(m), len(self.graph.nodes))
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self.evaluating else super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(self.plain(obj, "a branch"))

    def plain(self, proxy: fx.Proxy, use: str) -> Any:
        """Return a value that Python code needs; ScenarioError where it depends on the data."""
        fact = self.facts[proxy.node]
        if fact.depends:
            raise ScenarioError(
                f"forward needs the value of '{proxy.node}' ({use}) at {_where()}, which depends on the data; put "
                "those lines into a submodule of their own, or give split(parts=[module, …])"
            )
        return fact.value

    @contextmanager
    def plainly(self) -> Iterator[None]:
        """Evaluate modules as they are, whatever is patched."""
        self.evaluating = True
        try:
            with torch.no_grad():
                yield
        finally:
            self.evaluating = False

    def _check_context(self, node: fx.Node) -> None:
        """Refuse what is computed under a context of its own, which a graph does not keep."""
        for name, have in _contexts().items():
            if have != self.contexts[name]:
                raise ScenarioError(
                    f"'{node}' is computed under {name} at {_where()}, which parts do not keep; put those lines into a "
                    "submodule of their own"
                )

    def _evaluate(self, node: fx.Node) -> None:
        self._check_context(node)
        parts = list(node.all_input_nodes)
        depends = frozenset[str]().union(*(self.facts[part].depends for part in parts))
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: self.facts[n].value)
        held: list[Tensor] = []
        if node.op == "call_module":
            module = self.root.get_submodule(str(node.target))
            depends |= {"parameter"} if any(True for _ in module.parameters()) else set()
            held = list(module.buffers())
            depends |= {"buffer"} if held else set()
        versions = [(t, t._version) for t in [*tensors_in((args, kwargs)), *held]]
        with self.plainly():
            state = torch.get_rng_state()
            value = _call(self.root, node, args, kwargs, self.example)
            drawn = not torch.equal(state, torch.get_rng_state())
        changed = storages([t for t, version in versions if t._version != version])
        if node.op in ("placeholder", "get_attr"):
            kind = "parameter" if isinstance(value, nn.Parameter) else "buffer"
            depends = (
                frozenset({"input" if node.op == "placeholder" else kind}) if tensors_in(value) else depends
            )
        elif _only_sizes(node, value):
            depends = frozenset()
        if drawn:
            depends |= {"random"}
        if changed & storages(held):
            depends |= {"state"}
        self.facts[node] = Fact(value, depends, changed, _where())
        for fact in self.facts.values():
            if changed & storages(fact.value):
                fact.depends |= depends


def _contexts() -> dict[str, Any]:
    """The contexts around a computation, by name."""
    return {
        "torch.no_grad": torch.is_grad_enabled(),
        "torch.inference_mode": torch.is_inference_mode_enabled(),
        "torch.autocast": torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"),
    }


def _only_sizes(node: fx.Node, value: object) -> bool:
    """Whether a node asks for no more than sizes and types."""
    if tensors_in(value):
        return False
    if node.op == "call_method":
        return node.target in _SHAPE_METHODS
    return node.op == "call_function" and node.target is getattr and node.args[1] in _SHAPE_ATTRIBUTES


def _call(root: nn.Module, node: fx.Node, args: Any, kwargs: Any, example: Mapping[str, Any]) -> Any:
    target = node.target
    if node.op == "placeholder":
        return example[str(target)]
    if node.op == "get_attr":
        return operator.attrgetter(str(target))(root)
    if node.op == "call_module":
        return root.get_submodule(str(target))(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(target))(*args[1:], **kwargs)
    assert callable(target)
    return target(*args, **kwargs)


def _where() -> str:
    frame = sys._getframe(1)
    while frame.f_back is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_LIBRARIES):
            return f"{os.path.basename(file)}:{frame.f_lineno}"
        frame = frame.f_back
    return "an unknown line"


@contextmanager
def _patched(tracer: _Tracer, root: nn.Module) -> Iterator[None]:
    """Record torch's factories of tensors as nodes, leave out checkpointing, and let `isinstance` see values."""

    def is_instance(value: object, kinds: Any) -> bool:
        return isinstance(tracer.facts[value.node].value if type(value) is _Carried else value, kinds)

    def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        own = (
            "use_reentrant",
            "preserve_rng_state",
            "context_fn",
            "determinism_check",
            "debug",
            "early_stop",
        )
        return function(*args, **{key: value for key, value in kwargs.items() if key not in own})

    classes = {type(root.get_submodule(path)) for path in tracer.opened if _exists(root, path)}
    names = [function.__globals__ for kind in classes if isinstance(function := kind.forward, FunctionType)]
    plain = [found for found in names if "isinstance" not in found]
    checkpoint = torch.utils.checkpoint.checkpoint
    replaced = [found for found in names if found.get("checkpoint") is checkpoint]
    try:
        torch.utils.checkpoint.checkpoint = run
        for found in plain:
            found["isinstance"] = is_instance
        for found in replaced:
            found["checkpoint"] = run
        with _factories(tracer):
            yield
    finally:
        torch.utils.checkpoint.checkpoint = checkpoint
        for found in plain:
            found.pop("isinstance", None)
        for found in replaced:
            found["checkpoint"] = checkpoint


def _exists(root: nn.Module, path: str) -> bool:
    try:
        root.get_submodule(path)
    except AttributeError:
        return False
    return True


@contextmanager
def _factories(tracer: _Tracer) -> Iterator[None]:
    """Record torch's factories of tensors as nodes."""
    originals = {name: getattr(torch, name) for name in _FACTORIES}

    def recorded(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if tracer.evaluating:
                return original(*args, **kwargs)
            return tracer.create_proxy("call_function", original, args, kwargs)

        return call

    try:
        for name, original in originals.items():
            setattr(torch, name, recorded(original))
        yield
    finally:
        for name, original in originals.items():
            setattr(torch, name, original)


def evaluate(graph: fx.Graph, root: nn.Module, example: Mapping[str, Any]) -> dict[fx.Node, Any]:
    """Return the value of every node of a graph for other arguments, without gradients.

    Raises:
        ScenarioError: A node fails: something was frozen in.
    """
    values: dict[fx.Node, Any] = {}
    example = _own(example)
    torch.manual_seed(1)
    for node in graph.nodes:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        if node.op == "output":
            values[node] = args[0]
            continue
        try:
            with torch.no_grad():
                values[node] = _call(root, node, args, kwargs, example)
        except Exception as error:  # noqa: BLE001  (anything a user's module may raise)
            raise ScenarioError(f"'{node}' fails for another batch size ({_line(error)}); {_SIZES}") from None
    return values


def trace(model: nn.Module, opened: Collection[str], example: Mapping[str, Any]) -> Trace:
    """Trace a model in training and in evaluation mode, at two batch sizes.

    Args:
        model: It is copied; nothing of it changes.
        opened: Paths of submodules whose forwards are traced too; "" is the model.
        example: Its arguments by name; what varies with the batch has it as the first axis.

    Raises:
        ScenarioError: Its forward cannot be traced; the line names the node and the fix.
    """
    name = type(model).__name__
    root = copied(model).cpu().float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with _restored(root):
            train = _traced(root.train(), opened, example, name)
        with _restored(root):
            evaluation = _traced(root.eval(), opened, example, name)
        entries = dict(train.starts)
        nodes = list(train.graph.nodes)
        firsts = {path: nodes[start] for path, start in entries.items()}
        _merge(train, evaluation, root, name)
        batch, fewer = _fewer(example)
        with _restored(root):
            other = evaluate(train.graph, root, fewer)
        _compare(root, train.graph, other, fewer, name)
    return Trace(train.graph, root, train.facts, firsts, other, (batch, batch - 1))


def copied(model: nn.Module) -> nn.Module:
    """Return a copy of a model; ScenarioError where it has none."""
    try:
        return copy.deepcopy(model)
    except Exception as error:  # noqa: BLE001  (anything a user's module may raise)
        raise ScenarioError(
            f"{type(model).__name__} cannot be copied ({_line(error)}); keep such attributes out of the model"
        ) from None


def _traced(root: nn.Module, opened: Collection[str], example: Mapping[str, Any], name: str) -> _Tracer:
    tracer = _Tracer(opened, _own(example))
    try:
        with _patched(tracer, root):
            tracer.trace(root)
        for path, buffer in _buffers_of(root):
            if type(buffer) is _Carried:
                raise ScenarioError(
                    f"{name}.forward assigns the buffer '{path}', which a part cannot; write to it in place "
                    "(self.buffer.copy_(…)), or put those lines into a submodule of their own"
                )
    except ScenarioError:
        raise
    except Exception as error:  # noqa: BLE001  (anything a user's module may raise)
        raise ScenarioError(
            f"{name}.forward cannot be traced for the example ({_line(error)}); put what fails into a submodule of "
            "its own, or give split(parts=[module, …])"
        ) from None
    return tracer


def _buffers_of(root: nn.Module) -> Iterator[tuple[str, Any]]:
    for path, module in root.named_modules():
        for name, buffer in module._buffers.items():
            yield f"{path}.{name}" if path else name, buffer


@contextmanager
def _restored(root: nn.Module) -> Iterator[None]:
    """Give a model its attributes and the numbers of its buffers back, whatever its forward does to them."""
    held = [(module, dict(vars(module)), dict(module._buffers)) for module in root.modules()]
    numbers = [
        (buffer, buffer.clone())
        for _, _, buffers in held
        for buffer in buffers.values()
        if buffer is not None
    ]
    try:
        yield
    finally:
        for module, attributes, buffers in held:
            mode = module.training
            for name in [name for name, value in vars(module).items() if type(value) is _Carried]:
                del vars(module)[name]
            vars(module).update(attributes)
            module._buffers.update(buffers)
            module.training = mode
        for buffer, value in numbers:
            buffer.data.copy_(value)


def _merge(train: _Tracer, evaluation: _Tracer, root: nn.Module, name: str) -> None:
    """Make values that differ between the modes depend on the mode; ScenarioError where the calls themselves differ."""
    ours, theirs = list(train.graph.nodes), list(evaluation.graph.nodes)
    same = dict(zip(theirs, ours, strict=False))
    count = 0

    def chosen(node: fx.Node, mine: Any, other: Any) -> Any:
        nonlocal count
        if isinstance(mine, tuple | list) and isinstance(other, type(mine)) and len(mine) == len(other):
            return type(mine)(chosen(node, a, b) for a, b in zip(mine, other, strict=True))
        if isinstance(mine, dict) and isinstance(other, dict) and mine.keys() == other.keys():
            return {key: chosen(node, value, other[key]) for key, value in mine.items()}
        if isinstance(mine, fx.Node) and isinstance(other, fx.Node) and same.get(other) is mine:
            return mine
        if type(mine) is type(other) and not isinstance(mine, fx.Node) and repr(mine) == repr(other):
            return mine
        if isinstance(mine, fx.Node) or isinstance(other, fx.Node):
            raise _differs(node, name)
        path, count = f"mode{count}", count + 1
        root.add_module(path, Mode(mine, other).train(root.training))
        with train.graph.inserting_before(node):
            made = train.graph.call_module(path)
        train.facts[made] = Fact(mine, frozenset(), frozenset(), "")
        return made

    for mine, other in zip(ours, theirs, strict=False):
        if (mine.op, mine.target) != (other.op, other.target) and not _same_constant(
            train.facts.get(mine), evaluation.facts.get(other), mine
        ):
            raise _differs(mine, name)
        args = chosen(mine, mine.args, other.args)
        mine.args, mine.kwargs = args, chosen(mine, dict(mine.kwargs), dict(other.kwargs))
    if len(ours) != len(theirs):
        raise _differs(ours[-1], name)


def _same_constant(mine: Fact | None, other: Fact | None, node: fx.Node) -> bool:
    """Whether two nodes are one tensor that forward has made anew without torch's own factories."""
    values = [fact.value for fact in (mine, other) if fact is not None]
    constant = node.op == "get_attr" and str(node.target).startswith("_tensor_constant")
    return constant and len(values) == 2 and torch.equal(*values)


def _compare(
    root: nn.Module, graph: fx.Graph, values: Mapping[fx.Node, Any], example: Mapping[str, Any], name: str
) -> None:
    """Hold the graph to the model for another batch size and mode than it was traced for."""
    torch.manual_seed(1)
    with torch.no_grad():
        returned = root(**_own(example))
    if hasattr(returned, "__dataclass_fields__"):
        returned = {key: getattr(returned, key) for key in returned.__dataclass_fields__}
    expected = tensors_in(dict(returned) if isinstance(returned, Mapping) else returned)
    found = tensors_in(next(values[node] for node in graph.nodes if node.op == "output"))
    same = len(found) == len(expected) and all(
        a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
        for a, b in zip(found, expected, strict=False)
    )
    if not same:
        raise ScenarioError(
            f"{name}.forward, traced, gives other numbers for another batch size; {_SIZES}, and keep no tensor as a "
            "plain attribute"
        )


def _own(example: Mapping[str, Any]) -> dict[str, Any]:
    """An example that may be written to."""
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in example.items()}


def _differs(node: fx.Node, name: str) -> ScenarioError:
    return ScenarioError(
        f"{name}.forward makes other calls in training than in evaluation (at '{node}'); put what depends on "
        "`self.training` into a submodule of its own"
    )


def _fewer(example: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """The example's batch size, and its arguments with one row less."""
    sizes = [t.shape[0] for t in tensors_in(dict(example)) if t.dim()]
    batch = sizes[0] if sizes else 0
    if batch < 2:
        raise ScenarioError(
            f"the example has a batch of {batch}; give tensors with at least 2 rows, the batch first"
        )
    return batch, {
        key: value[: batch - 1]
        if isinstance(value, Tensor) and value.dim() and len(value) == batch
        else value
        for key, value in example.items()
    }


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]

"""Tracing: the graph of a model's forward, down to its submodules, with the values of an example beside it (torch.fx,
Reed et al. 2022).
"""

from __future__ import annotations

import inspect
import operator
import os
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property, partial
from types import BuiltinMethodType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from antiphon.base.errors import ScenarioError, first_line
from antiphon.nets.isolation.global_numbers import seed_globally
from antiphon.nets.isolation.own_random import seeded
from antiphon.nets.modules import tensors_in
from antiphon.nets.user_modules import hooked, probe_of, set_mode
from antiphon.splitting.graph import (
    Applied,
    Fact,
    ModelGraph,
    as_dict,
    call_model,
    evaluate,
    in_own_type,
    merge_modes,
    other_parameters,
    own_copies,
    restored,
    storages,
)

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
_EINOPS = ("einsum", "pack", "parse_shape", "rearrange", "reduce", "repeat", "unpack")
"""Functions of einops, which take no values of a trace: each call becomes a node."""
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
_SELECTIONS = frozenset(
    [
        "argwhere",
        "bincount",
        "masked_select",
        "nonzero",
        "repeat_interleave",
        "unique",
        "unique_consecutive",
        "where",
    ]
)
"""Functions whose results have sizes that depend on numbers: `where` of a condition, `repeat_interleave` by a tensor."""
_LIKE = frozenset(
    ["empty_like", "full_like", "ones_like", "rand_like", "randint_like", "randn_like", "zeros_like"]
)
"""Functions that read the size and the type of their first argument."""
_OF_TYPE = frozenset(["to", "type_as", "expand_as", "view_as", "reshape_as"])
"""Methods that read the size or the type of their second argument, as `x.to(other)` does."""
_CHECKPOINTING = frozenset(
    ["use_reentrant", "preserve_rng_state", "context_fn", "determinism_check", "debug", "early_stop"]
)
"""Settings of `torch.utils.checkpoint.checkpoint` itself, beside the arguments of the function that it calls."""
_TORCH = os.path.dirname(torch.__file__)
_LIBRARIES = (_TORCH, os.path.dirname(__file__), "<")
_OF_SIZE = (
    "for another batch size",
    "take the batch size from x.shape[0] as it is, without len(x), int(…) or a loop over it",
)
"""What differs from a trace, and how to write a forward that bears it."""
_OF_NUMBERS = (
    "for other inputs and parameters",
    "compute every value anew in forward, and return what another submodule reads, rather than keep it in an attribute",
)
NUMBERS = frozenset({"input", "parameter", "buffer", "state", "random"})
"""What the numbers of a tensor may depend on."""


class _Carried(fx.Proxy):
    """A node with its value: what asks for a number, a size or a type is answered from the example."""

    tracer: Any
    """The `_Tracer`."""

    @classmethod
    def __torch_function__(
        cls, method: Any, types: Any, args: Any = None, kwargs: Any = None
    ) -> Any:  # torch's own names the objects of both traces
        _check_of_one_trace(*(leaf.tracer for leaf in tree_leaves((args, kwargs)) if type(leaf) is _Carried))
        return super().__torch_function__(method, types, args, kwargs)

    @property
    def _value(self) -> Any:
        return self.__dict__["tracer"].facts[self.__dict__["node"]].value

    def __getattr__(self, name: str) -> Any:
        value = self._value
        if isinstance(value, Mapping) and name in ("values", "items"):
            return getattr({key: self[key] for key in value}, name)
        if isinstance(value, Mapping) and name in value and getattr(value, name) is value[name]:
            return self[name]  # an item that is an attribute too: what crosses a cut is a plain dict
        if callable(getattr(value, name)):
            return lambda *args, **more: self.tracer.create_proxy("call_method", name, (self, *args), more)
        return self.tracer.read(self, getattr, name)

    def keys(self) -> Any:
        """Return the keys of a mapping, which are plain values."""
        return self._value.keys()

    def __getitem__(self, key: Any) -> Any:
        value = self._value
        if isinstance(key, slice) and type(value) in (tuple, list):
            return _items(self)[key]
        if isinstance(value, Mapping) and isinstance(key, int) and key not in value:
            key = list(value)[key]
        return self.tracer.read(self, operator.getitem, key)

    def __add__(self, operand: object) -> Any:
        return self._sum(self, operand)

    def __radd__(self, operand: object) -> Any:
        return self._sum(operand, self)

    def _sum(self, first: Any, second: Any) -> Any:
        if _items(self) is not self:
            return _items(first) + _items(second)
        return self.tracer.create_proxy("call_function", operator.add, (first, second), {})

    def __len__(self) -> int:
        if self.tracer.facts[self.node].ragged:
            self.tracer.plain(self, "its length")
        return len(self._value)

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self._value, Mapping):
            return iter(self._value)
        return (self[i] for i in range(len(self._value)))

    def __contains__(self, item: object) -> bool:
        return self.tracer.plain(self, f"whether it contains {item!r}") and item in self._value

    def __int__(self) -> int:
        return int(self.tracer.plain(self, "its value as an int"))

    def __index__(self) -> int:
        return operator.index(self.tracer.plain(self, "its value as an index"))

    def __float__(self) -> float:
        return float(self.tracer.plain(self, "its value as a float"))

    def __round__(self, digits: int | None = None) -> Any:
        return round(self.tracer.plain(self, "its value rounded"), digits)

    def __setitem__(self, key: object, value: object) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})


def _check_of_one_trace(*tracers: _Tracer) -> None:
    """Check that values are of one trace: what an earlier call computed was kept."""
    if any(tracer is not tracers[0] for tracer in tracers):
        raise ScenarioError(
            f"forward reads a value that an earlier call computed, at {_where()}; compute it in every call, without a cache "
            "(functools.lru_cache, cached_property)"
        )


def _items(value: Any) -> Any:
    """The items of a tuple or list of a trace, each of which may be of another part; all else as it is."""
    kind = type(value._value) if type(value) is _Carried else None
    return kind(value) if kind in (tuple, list) else value


def _in_place(name: str) -> Callable[[_Carried, object], fx.Proxy]:
    function = getattr(operator, name)

    def change(self: _Carried, operand: object) -> Any:
        if type(self._value) is tuple:
            return NotImplemented  # which Python takes as `self + operand`
        return self.tracer.create_proxy("call_function", function, (self, operand), {})

    return change


for _name in ("iadd", "isub", "imul", "itruediv"):
    setattr(_Carried, f"__{_name}__", _in_place(_name))


class _Tracer(fx.Tracer):
    """Traces the modules on the way to the opened ones; every other submodule is one call.

    Args:
        opened: Paths of the submodules whose forwards are traced, the model's own included.
        silent: Paths of submodules whose hooks are not called; what these compute may depend on anything.
    """

    proxy_buffer_attributes = True

    def __init__(
        self, opened: Collection[str], example: Mapping[str, Any], silent: frozenset[str] = frozenset()
    ) -> None:
        factories = tuple(getattr(torch, name) for name in _FACTORIES)
        super().__init__(autowrap_functions=factories)
        self.opened, self.example, self.silent = opened, example, silent
        self.facts: dict[fx.Node, Fact] = {}
        self.calls: dict[str, list[tuple[int, int]]] = {}
        self.items: dict[tuple[fx.Node, Callable[..., Any], Any], fx.Proxy] = {}
        self.evaluating = False
        self.written = frozenset[int]()
        """The storages of parameters that submodules change which are called whole: their parts do so too."""
        self.contexts = _contexts()

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: object = None
    ) -> tuple[Any, list[Any]]:
        proxies = {name: self.create_proxy("placeholder", name, (), {}) for name in self.example}
        return (lambda root: call_model(root, proxies)), [self.root]  # not its forward: its hooks run too

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Carried(node, self)

    def create_arg(self, a: Any) -> Any:
        if type(a) is _Carried:
            _check_of_one_trace(self, a.tracer)
            return a.node
        a = a.dtype if isinstance(a, type(torch.FloatTensor)) else as_dict(a)  # x.type(torch.ByteTensor)
        argument = super().create_arg(a)
        if isinstance(argument, fx.Node) and argument not in self.facts:
            self._evaluate(argument)  # a parameter or constant
        return argument

    def create_proxy(
        self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any
    ) -> fx.Proxy:
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **more)
        self._evaluate(proxy.node)
        return proxy

    def read(self, proxy: fx.Proxy, function: Callable[..., Any], key: Any) -> fx.Proxy:
        """Record what is read of a value; of a tuple, dict or dataclass each item once, which crosses a cut once then."""
        value = self.facts[proxy.node].value
        if isinstance(value, Tensor) or not isinstance(key, int | str):
            return self.create_proxy("call_function", function, (proxy, key), {})
        place = proxy.node, function, key
        earlier = self.items.get(place)
        if earlier is None or self.facts[earlier.node].value is not function(value, key):  # it was changed
            earlier = self.items[place] = self.create_proxy("call_function", function, (proxy, key), {})
        return earlier

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self.opened

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.evaluating or m not in (self.submodule_paths or {}):  # made by forward itself: nn.ReLU()(x)
            return forward(*args, **kwargs)
        start = len(self.graph.nodes)
        result = super().call_module(m, forward, args, kwargs)
        self.calls.setdefault(self.path_of_module(m), []).append((start, len(self.graph.nodes)))
        return result

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self.evaluating else super().getattr(attr, attr_val, parameter_proxy_cache)

    def applied(self, function: type[torch.autograd.Function], args: Any, kwargs: Any) -> Any:
        """Record a call of an autograd function as one of a module, so that its own backward is kept."""
        children, number = dict(self.root.named_children()), 0
        while True:
            path = f"{function.__name__}_function{number}"
            existing = children.get(path)
            if isinstance(existing, Applied) and existing.function is function:
                break
            if existing is None:
                self.root.add_module(path, Applied(function).train(self.root.training))
                break
            number += 1
        return self.create_proxy("call_module", path, args, kwargs)

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(self.plain(obj, "a branch"))

    def plain(self, proxy: fx.Proxy, use: str) -> Any:
        """Return a value that Python code needs; ScenarioError where it depends on the data."""
        fact = self.facts[proxy.node]
        if fact.depends:
            fix = "put those lines into a submodule of their own"
            if self.scope.module_type in (nn.TransformerEncoder, nn.TransformerDecoder):  # a line of torch's
                layers = ".".join(filter(None, ("self", self.scope.module_path, "layers")))
                fix = f"call its layers: for layer in {layers}: x = layer(x); or cut elsewhere"
            raise ScenarioError(
                f"forward needs the value of '{proxy.node}' ({use}) at {_where()}, which depends on the data; {fix}, or give "
                "split(parts=[module, …])"
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

    @cached_property
    def _interpreter(self) -> fx.Interpreter:
        return fx.Interpreter(self.root, graph=self.graph)

    def _check_context(self, node: fx.Node) -> None:
        """Refuse what is computed under a context of its own, which a graph does not keep."""
        for name, have in _contexts().items():
            if have != self.contexts[name]:
                function = _function_around()
                if function:
                    raise ScenarioError(
                        f"'{node}' is computed by the autograd function {function} at {_where()}, called in a way that a trace "
                        f"does not see; write {function}.apply(…) where it is called, or put those lines into a submodule of "
                        "their own"
                    )
                raise ScenarioError(
                    f"'{node}' is computed under {name} at {_where()}, which parts do not keep; put those lines into a "
                    "submodule of their own"
                )

    def _evaluate(self, node: fx.Node) -> None:
        """Evaluate a node, and note its fact, and what it changes of the facts of earlier nodes."""
        self._check_context(node)
        module = self.root.get_submodule(str(node.target)) if node.op == "call_module" else None
        arguments = fx.node.map_arg((node.args, node.kwargs), lambda n: self.facts[n].value)
        value, random, changed = self._computed(node, module, arguments)
        typed = self._typed_inputs(node, module, value, pure=not random and not changed)
        ragged = any(self.facts[operand].ragged for operand in node.all_input_nodes)
        ragged = ragged or _selects(node, *arguments)
        held = () if module is None else tuple(module.buffers())
        only_sizes = _only_sizes(node, value) and not ragged
        depends = frozenset[str]() if only_sizes else self._sources(node, module, held, value, typed)
        depends |= {"random"} if random else set()
        depends |= {"state"} if changed & storages(held) else set()
        self.facts[node] = Fact(
            value, depends, changed, _where(), ragged and not depends <= {"buffer"}, typed
        )
        for fact in self.facts.values():
            if changed & storages(fact.value):
                fact.depends |= depends

    def _computed(
        self, node: fx.Node, module: nn.Module | None, arguments: tuple[Any, Any]
    ) -> tuple[Any, bool, frozenset[int]]:
        """Return a node's value, whether it may depend on random numbers, and the storages that it changes in place."""
        held = [] if module is None else list(module.buffers())
        learned = [] if module is None else [(p, p.data.clone()) for p in module.parameters()]
        versions = [(t, t._version) for t in [*tensors_in(arguments), *held]]
        with self.plainly():
            state = torch.get_rng_state()
            if node.op == "placeholder":
                value = self.example[str(node.target)]
            else:
                value = getattr(self._interpreter, node.op)(node.target, *arguments)
            sampled = not torch.equal(state, torch.get_rng_state())
        self.written |= storages([p for p, before in learned if not torch.equal(p.data, before)])
        silent = module is not None and any(f"{path}.".startswith(f"{node.target}.") for path in self.silent)
        return value, sampled or silent, storages([t for t, version in versions if t._version != version])

    def _typed_inputs(
        self, node: fx.Node, module: nn.Module | None, value: Any, *, pure: bool
    ) -> frozenset[fx.Node]:
        """Return the inputs of which a node reads the sizes and the type alone; `pure`: whether it draws and changes nothing."""
        # the gradient of an autograd function may depend on what its outputs do not
        if pure and module is not None and not isinstance(module, Applied) and not _has_parameters(module):
            operands = node.all_input_nodes
            return frozenset(
                operand for operand in operands if self._only_typed(node, module, operand, value)
            )
        return frozenset(operand for operand in _typed(node) if isinstance(self.facts[operand].value, Tensor))

    def _sources(
        self,
        node: fx.Node,
        module: nn.Module | None,
        buffers: Collection[Tensor],
        value: Any,
        typed: Collection[fx.Node],
    ) -> frozenset[str]:
        """What a node's numbers are computed from: inputs, parameters, buffers, and what its operands depend on."""
        if node.op in ("placeholder", "get_attr") and tensors_in(value):
            kind = "parameter" if isinstance(value, nn.Parameter) else "buffer"
            return frozenset({"input" if node.op == "placeholder" else kind})
        operands = [operand for operand in node.all_input_nodes if operand not in typed]
        depends = frozenset[str]().union(*(self.facts[operand].depends for operand in operands))
        if module is not None:
            depends |= {"parameter"} if _has_parameters(module) else set()
            depends |= {"buffer"} if buffers else set()
        return depends

    def _only_typed(self, node: fx.Node, module: nn.Module, operand: fx.Node, value: Any) -> bool:
        """Whether a module returns the same tensors whatever the numbers of one of its inputs are, NaN among them."""
        tensor = self.facts[operand].value
        if (
            not isinstance(tensor, Tensor)
            or not tensor.is_floating_point()
            or not self.facts[operand].depends
        ):
            return False
        replacements = [
            tensor.new_zeros(tensor.shape),
            torch.full_like(tensor, torch.nan),
            tensor.flip(0) * 3 - 1e3,
        ]
        expected = tensors_in(value)
        for replacement in replacements:

            def of(n: fx.Node, replacement: Tensor = replacement) -> Any:
                return replacement if n is operand else self.facts[n].value

            args, kwargs = fx.node.map_arg((node.args, node.kwargs), of)
            try:
                with self.plainly():
                    returned = tensors_in(module(*args, **kwargs))
            except Exception:  # noqa: BLE001  (anything a user's module may raise)
                return False
            if (
                not expected
                or len(returned) != len(expected)
                or not all(map(torch.equal, returned, expected))
            ):
                return False
        return True


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def _typed(node: fx.Node) -> frozenset[fx.Node]:
    """The inputs of a call of torch's own of which it reads the sizes and the type alone."""
    first, second = (node.args[i] if len(node.args) > i else None for i in (0, 1))
    typed: Any = None
    is_new = str(node.target).startswith("new_") if node.op == "call_method" else False
    if is_new or (node.op == "call_function" and getattr(node.target, "__name__", "") in _LIKE):
        typed = first
    elif node.op == "call_method" and node.target in _OF_TYPE and first is not second:
        typed = second
    once = isinstance(typed, fx.Node) and [*node.args, *node.kwargs.values()].count(typed) == 1
    return frozenset({typed}) if once else frozenset()


def _contexts() -> dict[str, Any]:
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
    if node.op == "call_function" and node.target is not getattr:
        return any(getattr(torch, name, None) is node.target for name in _SHAPE_METHODS)
    return node.op == "call_function" and node.args[1] in _SHAPE_ATTRIBUTES


def _selects(node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether the sizes of what a node makes depend on numbers."""
    if node.target is operator.getitem:
        indices = args[1] if isinstance(args[1], tuple | list) else (args[1],)
        return any(isinstance(index, Tensor) and index.dtype is torch.bool for index in indices)
    if node.op == "call_function":
        name = next((name for name in _SELECTIONS if getattr(torch, name) is node.target), "")
    else:
        name = str(node.target) if node.op == "call_method" else ""
    operands = [*args, *kwargs.values()]
    if name == "where":
        return len(operands) == 1
    if name == "repeat_interleave":
        return len(tensors_in(operands)) == 2 or len(operands) == 1
    return name in _SELECTIONS


_APPLY = torch.autograd.Function.__dict__["apply"]
"""What calls an autograd function: a class method of Python, or of C from torch 2.14 on."""


def _function_around() -> str:
    """The name of the autograd function whose forward is running; empty: none is."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not _traced.__code__:
        first = frame.f_locals.get(next(iter(frame.f_code.co_varnames), ""))
        function = first if isinstance(first, type) else getattr(type(first), "_forward_cls", None)
        if function is not None and issubclass(function, torch.autograd.Function):
            return str(function.__name__)
        frame = frame.f_back
    return ""


def _is_apply(value: Any) -> bool:
    """Whether a value is the `apply` of an autograd function."""
    function = getattr(value, "__self__", None) if isinstance(value, MethodType | BuiltinMethodType) else None
    is_autograd = isinstance(function, type) and inspect.getattr_static(function, "apply", None) is _APPLY
    return is_autograd and value.__name__ == "apply"


def _has_traced(arguments: Any) -> bool:
    return any(type(value) is _Carried for value in tree_leaves(arguments))


@contextmanager
def _functions_recorded(tracer: _Tracer, held: list[dict[str, Any]]) -> Iterator[None]:
    """Record calls of autograd functions, also by other names of their `apply` among the given ones.

    Called as it is, a function of values that are no tensors would run its forward alone, and its backward were lost.
    """
    function: Any = torch.autograd.Function

    def call(cls: type[torch.autograd.Function], *args: Any, **kwargs: Any) -> Any:
        if _has_traced((args, kwargs)):
            return tracer.applied(cls, args, kwargs)
        return _APPLY.__get__(None, cls)(*args, **kwargs)

    with ExitStack() as undo:
        for names in held:
            for name, value in list(names.items()):
                if _is_apply(value):
                    undo.enter_context(_replaced(names, name, partial(call, value.__self__)))
        before = function.__dict__["apply"]
        function.apply = classmethod(call)
        try:
            yield
        finally:
            function.apply = before


def _where() -> str:
    """The newest line outside of torch that a forward is at, or the newest of a forward of torch's own."""
    frame: FrameType | None = sys._getframe(1)
    newest = "an unknown line"
    while frame is not None and frame.f_code is not _traced.__code__:
        code = frame.f_code
        line = f"{os.path.basename(code.co_filename)}:{frame.f_lineno}"
        if not code.co_filename.startswith(_LIBRARIES):
            return line
        if code.co_name == "forward" and newest == "an unknown line" and code.co_filename.startswith(_TORCH):
            newest = line
        frame = frame.f_back
    return newest


@contextmanager
def _patched(tracer: _Tracer, root: nn.Module) -> Iterator[None]:
    """Record torch's factories of tensors as nodes, leave out checkpointing, and let `isinstance` see values."""

    def is_instance(value: object, kinds: Any) -> bool:
        return isinstance(tracer.facts[value.node].value if type(value) is _Carried else value, kinds)

    def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return function(*args, **{key: value for key, value in kwargs.items() if key not in _CHECKPOINTING})

    def recorded(original: Callable[..., Any], *, of_traced: bool = False) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if tracer.evaluating or (of_traced and not _has_traced((args, kwargs))):
                return original(*args, **kwargs)
            return tracer.create_proxy("call_function", original, args, kwargs)

        return call

    modules = dict(root.named_modules())
    classes = {type(modules[path]) for path in tracer.opened if path in modules}
    names = [function.__globals__ for kind in classes if isinstance(function := kind.forward, FunctionType)]
    checkpoint = torch.utils.checkpoint.checkpoint
    with ExitStack() as undo:
        replaced = [(vars(torch), name, recorded(getattr(torch, name))) for name in _FACTORIES]
        replaced += [(vars(torch), "is_tensor", lambda value: is_instance(value, Tensor))]
        replaced += [(vars(torch.utils.checkpoint), "checkpoint", run)]
        replaced += [(namespace, "isinstance", is_instance) for namespace in names]
        replaced += [
            (namespace, "checkpoint", run) for namespace in names if namespace.get("checkpoint") is checkpoint
        ]
        replaced += [
            (namespace, name, recorded(function, of_traced=True))
            for namespace, name, function in _einops_in(names)
        ]
        for namespace, name, value in replaced:
            undo.enter_context(_replaced(namespace, name, value))
        held: list[Any] = [*names, *(vars(modules[path]) for path in tracer.opened if path in modules)]
        unique: dict[int, Any] = {id(namespace): namespace for namespace in held}
        undo.enter_context(_functions_recorded(tracer, list(unique.values())))
        yield


def _einops_in(names: Iterable[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], str, Callable[..., Any]]]:
    """The functions of einops that loaded modules, or some other names, have by their own names."""
    einops: dict[str, Any] = vars(sys.modules["einops"]) if "einops" in sys.modules else {}
    functions: dict[str, Callable[..., Any]] = {name: einops[name] for name in _EINOPS if name in einops}
    modules = [vars(module) for module in sys.modules.values() if isinstance(module, ModuleType)]
    unique = {id(namespace): namespace for namespace in (*modules, *names)} if functions else {}
    for namespace in unique.values():
        yield from ((namespace, name, f) for name, f in functions.items() if namespace.get(name) is f)


def _check_backward_hooks(model: nn.Module, opened: Collection[str]) -> None:
    for path, module in hooked(model).items():
        if path in opened and (module._backward_hooks or module._backward_pre_hooks):
            raise _no_hook("backward", model, path)


def _no_hook(kind: str, model: nn.Module, path: str) -> ScenarioError:
    subject = f"'{path}'" if path else type(model).__name__
    return ScenarioError(
        f"{subject} has a {kind} hook and is cut, and no part would call it; register it on a submodule that is not cut, or put "
        "what it computes into forward"
    )


@contextmanager
def _watched_hooks(tracer: _Tracer, root: nn.Module) -> Iterator[None]:
    """Refuse forward hooks of traced modules that leave nothing in the graph: they observe, and no step would call them."""

    def watched(hook: Callable[..., Any], path: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            before = len(tracer.graph.nodes)
            result = hook(*args, **kwargs)
            added = list(tracer.graph.nodes)[before:]
            if result is None and not any(tracer.facts[node].writes for node in added):
                raise _no_hook("forward", root, path)
            return result

        return call

    traced = [(path, module) for path, module in hooked(root).items() if path in tracer.opened]
    hook_dicts: list[tuple[str, dict[int, Any]]] = [
        (path, hooks)
        for path, module in traced
        for hooks in (module._forward_hooks, module._forward_pre_hooks)
    ]
    before = [dict(hooks) for _, hooks in hook_dicts]
    for path, hooks in hook_dicts:
        hooks.update({key: watched(hook, path) for key, hook in hooks.items()})
    try:
        yield
    finally:
        for (_, hooks), earlier in zip(hook_dicts, before, strict=True):
            hooks.update(earlier)


@contextmanager
def _replaced(names: dict[str, Any], name: str, value: object) -> Iterator[None]:
    before = {name: names[name]} if name in names else {}
    names[name] = value
    try:
        yield
    finally:
        del names[name]
        names.update(before)


def trace(
    model: nn.Module, opened: Collection[str], example: Mapping[str, Any], *, hooks: bool = False
) -> ModelGraph:
    """Trace a model in training and in evaluation mode, at two batch sizes.

    Args:
        model: It is copied; nothing of it changes.
        opened: Paths of submodules whose forwards are traced too; "" is the model.
        example: Its arguments by name; what varies with the batch has it as the first axis.
        hooks: Whether the hooks of submodules that are not opened are called, as they are where the trace fails without.

    Raises:
        ScenarioError: Its forward cannot be traced; the line names the node and the fix.
    """
    _check_backward_hooks(model, opened)
    if hooked(model).keys() - set(opened) and not hooks:
        with suppress(ScenarioError):
            return _trace(model, opened, example, hooks=False)
    return _trace(model, opened, example, hooks=True)


def _trace(
    model: nn.Module, opened: Collection[str], example: Mapping[str, Any], *, hooks: bool
) -> ModelGraph:
    name, having = type(model).__name__, hooked(model)
    root = in_own_type(probe_of(model, having if hooks else opened))
    silent = frozenset() if hooks else frozenset(having.keys() - set(opened))
    with seeded(0):
        with restored(root):
            train = _traced(set_mode(root, True), opened, example, name, silent)
        with restored(root):
            evaluation = _traced(set_mode(root, False), opened, example, name, silent)
        nodes = list(train.graph.nodes)
        firsts = {path: nodes[min(spans)[0]] for path, spans in train.calls.items()}
        calls = {
            path: tuple(frozenset(nodes[start : max(end, start + 1)]) for start, end in sorted(spans))
            for path, spans in train.calls.items()
        }
        merge_modes(train.graph, train.facts, evaluation.graph, root, name)
        batch, fewer = _fewer(example)
        try:
            smaller = _compare(root, train.graph, fewer, name, *_OF_SIZE)
        except ScenarioError:
            flipped = {
                key: value.flip(0) if value is not fewer[key] else value for key, value in example.items()
            }
            _compare(root, train.graph, flipped, name, *_OF_NUMBERS)  # whose error comes first
            raise
    return ModelGraph(train.graph, root, train.facts, firsts, calls, smaller, (batch, batch - 1))


def _traced(
    root: nn.Module, opened: Collection[str], example: Mapping[str, Any], name: str, silent: frozenset[str]
) -> _Tracer:
    tracer = _Tracer(opened, own_copies(example), silent)
    before = {(module, key): buffer for module in root.modules() for key, buffer in module._buffers.items()}
    parameters = [(key, p, p.data.clone()) for key, p in root.named_parameters()]
    try:
        with _patched(tracer, root), _watched_hooks(tracer, root):
            tracer.trace(root)
        for module in root.modules():
            for key, buffer in dict[str, Any](module._buffers).items():
                if type(buffer) is _Carried and storages(buffer._value) != storages(
                    before.get((module, key))
                ):
                    raise ScenarioError(
                        f"{name}.forward assigns the buffer '{key}', which a part cannot; write to it in place "
                        "(self.buffer.copy_(…)), or put those lines into a submodule of their own"
                    )
        written = tracer.written.union(*(fact.writes for fact in tracer.facts.values()))
        for key, p, value in parameters:
            if not torch.equal(p.data, value) and not storages(p) & written:
                raise _changed(name, key)
    except ScenarioError:
        raise
    except Exception as error:  # noqa: BLE001  (anything a user's module may raise)
        raise ScenarioError(
            f"{name}.forward cannot be traced for the example ({first_line(error)}, at {_line(error, root)}); "
            f"{_way_out(error, root)}"
        ) from None
    return tracer


def _changed(name: str, key: str) -> ScenarioError:
    return ScenarioError(
        f"{name}.forward changes the parameter '{key}', which a part cannot; make it a buffer that is changed in place "
        "(self.buffer.mul_(0.9)), or put those lines into a submodule of their own"
    )


def _way_out(error: Exception, root: nn.Module) -> str:
    """What to write instead."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if any(frame.f_globals.get("__name__", "").partition(".")[0] == "einops" for frame in frames):
        return 'write torch.fx.wrap("rearrange") under the import, with the name of each function of einops that is called'
    advice = "put what fails into a submodule of its own, or give split(parts=[module, …])"
    configs = [getattr(module, "config", None) for module in root.modules()]
    if any(
        getattr(config, "use_cache", False) is True for config in configs
    ):  # as models of transformers have
        return f"make the model with use_cache=False, or {advice}"
    return advice


def _line(error: Exception, root: nn.Module) -> str:
    """The newest line of a user's that an error passed; of what forward returns, where forward begins."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [
        f"{os.path.basename(f.filename)}:{f.lineno}" for f in frames if not f.filename.startswith(_LIBRARIES)
    ]
    code = type(root).forward.__code__
    return lines[-1] if lines else f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}"


def _compare(
    root: nn.Module, graph: fx.Graph, example: Mapping[str, Any], name: str, change: str, fix: str
) -> dict[fx.Node, Any]:
    """Hold the graph to the model for another example, mode and parameters; return the value of every node."""
    with other_parameters(root):
        with restored(root):
            values = evaluate(graph, root, example, change, fix)
        before = [(key, p, p.data.clone()) for key, p in root.named_parameters()]
        seed_globally(1)
        with torch.no_grad():
            returned = call_model(root, own_copies(example))
        changed = next((key for key, p, value in before if not torch.equal(p.data, value)), None)
    expected = tensors_in(as_dict(returned))
    outputs = tensors_in(next(values[node] for node in graph.nodes if node.op == "output"))
    same = len(outputs) == len(expected) and all(
        a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
        for a, b in zip(outputs, expected, strict=False)
    )
    if not same and changed is not None:
        raise _changed(name, changed)
    if not same:
        raise ScenarioError(f"{name}.forward, traced, gives different results {change}; {fix}")
    return values


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

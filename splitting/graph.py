"""The graph of a model's forward: its nodes with what is known of them, their evaluation, and both modes in one graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, fx, nn

from antiphon.base.errors import ScenarioError, first_line
from antiphon.nets.isolation.global_numbers import seed_globally
from antiphon.nets.modules import tensors_in
from antiphon.nets.user_modules import cast, on_cpu, own_type


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
    ragged: bool = False
    """Whether its sizes depend on the numbers of data, as those of selected rows do."""
    typed: frozenset[fx.Node] = frozenset()
    """Inputs of which it reads the sizes and the type alone, as `zeros_like` and rotary tables do."""


@dataclass
class ModelGraph:
    """The graph of a model's forward.

    Attributes:
        graph: Its calls of submodules, functions and methods, in order.
        root: A copy of the model, which the graph was made of.
        facts: Of every node but the output, in training mode.
        entries: By path of a submodule that was called: the first node of its first call.
        calls: By path of a submodule that was called: the nodes of each call, in order.
        smaller: By node: its value for the example of another batch size, in evaluation mode.
        batches: The two batch sizes.
    """

    graph: fx.Graph
    root: nn.Module
    facts: dict[fx.Node, Fact]
    entries: dict[str, fx.Node]
    calls: dict[str, tuple[frozenset[fx.Node], ...]]
    smaller: dict[fx.Node, Any]
    batches: tuple[int, int]


class Mode(nn.Module):
    """One of two plain values: that of training, or that of evaluation."""

    def __init__(self, train: Any, evaluation: Any) -> None:
        super().__init__()
        self.train_value, self.evaluation_value = train, evaluation

    def forward(self) -> Any:
        return self.train_value if self.training else self.evaluation_value


class Applied(nn.Module):
    """A call of an autograd function, with its own backward."""

    function: Any

    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function.apply(*args, **kwargs)


def in_own_type(module: nn.Module) -> nn.Module:
    """Return a module on the CPU and in its own type, float32 or float64: numbers in its forward may be of this type alone."""
    return cast(on_cpu(module), own_type(module))


def call_model(model: nn.Module, example: Mapping[str, Any]) -> Any:
    """Call a model with arguments by name; by position where it takes them so alone, or its hooks are given no names.

    Of hooks of both kinds those before its forward decide, which may change the arguments.
    """
    named, by_position = dict(example), []
    without_names = {*model._forward_pre_hooks} - {*model._forward_pre_hooks_with_kwargs}
    if not (model._forward_pre_hooks_with_kwargs or model._forward_hooks_with_kwargs):
        without_names |= {*model._forward_hooks}
    for parameter in signature(model.forward).parameters.values():
        nameless = without_names or parameter.kind is parameter.POSITIONAL_ONLY
        if not nameless or parameter.kind is parameter.KEYWORD_ONLY or parameter.name not in named:
            break
        by_position.append(named.pop(parameter.name))
    return model(*by_position, **named)


def storages(value: object) -> frozenset[int]:
    return frozenset(t.untyped_storage().data_ptr() for t in tensors_in(value) if t.numel())


def evaluate(
    graph: fx.Graph, root: nn.Module, example: Mapping[str, Any], change: str, fix: str
) -> dict[fx.Node, Any]:
    """Return the value of every node of a graph in evaluation mode, without gradients.

    Args:
        change: What differs from the trace, for the error.
        fix: How to write a forward that bears that change.

    Raises:
        ScenarioError: A node fails: something was frozen in.
    """
    interpreter = fx.Interpreter(root, garbage_collect_values=False, graph=graph)
    seed_globally(1)
    try:
        with torch.no_grad():
            interpreter.run(*own_copies(example).values())
    except Exception as error:  # noqa: BLE001  (anything a user's module may raise)
        node = next(node for node in graph.nodes if node not in interpreter.env)
        raise ScenarioError(f"'{node}' fails {change} ({first_line(error)}); {fix}") from None
    return interpreter.env


@contextmanager
def other_parameters(*roots: nn.Module) -> Iterator[None]:
    """Give the parameters of models other numbers, so that what does not follow them shows."""
    unique = {id(p): p for root in roots for p in root.parameters()}.values()
    held = [(p.data, p.data.clone()) for p in unique if p.is_floating_point() or p.is_complex()]
    for data, _ in held:
        data.mul_(1.1).add_(0.01)
    try:
        yield
    finally:
        for data, value in held:
            data.copy_(value)


@contextmanager
def restored(root: nn.Module) -> Iterator[None]:
    """Give a model its attributes and the numbers of its buffers back, whatever its forward does to them."""
    give_back = _state_of(root)
    try:
        yield
    finally:
        give_back()


@contextmanager
def kept_unless_it_fails(root: nn.Module) -> Iterator[None]:
    """Give a model its attributes and the numbers of its buffers back where its forward raises, and only there."""
    give_back = _state_of(root)
    try:
        yield
    except BaseException:
        give_back()
        raise


def _state_of(root: nn.Module) -> Callable[[], None]:
    """Copy a model's attributes and buffers; the result gives them back."""
    held = [(module, dict(vars(module)), dict(module._buffers)) for module in root.modules()]
    numbers = [(buffer, buffer.clone()) for buffer in root.buffers()]

    def give_back() -> None:
        for module, attributes, buffers in held:
            mode = module.training
            for name in [name for name, value in vars(module).items() if isinstance(value, fx.Proxy)]:
                del vars(module)[name]
            vars(module).update(attributes)
            module._buffers.update(buffers)
            module.training = mode
        for buffer, value in numbers:
            if buffer.shape != value.shape:  # as a forward may resize it
                buffer.data = buffer.data.new_empty(value.shape)
            buffer.data.copy_(value)

    return give_back


def own_copies(example: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in example.items()}


def as_dict(value: Any) -> Any:
    """Return a dataclass or mapping of any class as a dict; all else as it is."""
    fields = getattr(type(value), "__dataclass_fields__", None)
    if fields is not None:
        return {name: getattr(value, name) for name in fields}
    return dict(value) if isinstance(value, Mapping) else value


def merge_modes(
    train: fx.Graph, facts: dict[fx.Node, Fact], evaluation: fx.Graph, root: nn.Module, name: str
) -> None:
    """Make values that differ between the modes depend on the mode; ScenarioError where the calls themselves differ."""
    ours, theirs = list(train.nodes), list(evaluation.nodes)
    same = dict(zip(theirs, ours, strict=False))
    count = 0

    def chosen(node: fx.Node, mine: Any, counterpart: Any) -> Any:
        nonlocal count
        if (
            isinstance(mine, tuple | list)
            and isinstance(counterpart, type(mine))
            and len(mine) == len(counterpart)
        ):
            return type(mine)(chosen(node, a, b) for a, b in zip(mine, counterpart, strict=True))
        if isinstance(mine, dict) and isinstance(counterpart, dict) and mine.keys() == counterpart.keys():
            return {key: chosen(node, value, counterpart[key]) for key, value in mine.items()}
        if isinstance(mine, fx.Node) and isinstance(counterpart, fx.Node) and same.get(counterpart) is mine:
            return mine
        if (
            type(mine) is type(counterpart)
            and not isinstance(mine, fx.Node)
            and repr(mine) == repr(counterpart)
        ):
            return mine
        if isinstance(mine, fx.Node) or isinstance(counterpart, fx.Node):
            raise _differs(node, name)
        path, count = f"mode{count}", count + 1
        root.add_module(path, Mode(mine, counterpart).train(root.training))
        with train.inserting_before(node):
            mode_node = train.call_module(path)
        facts[mode_node] = Fact(mine, frozenset(), frozenset(), "")
        return mode_node

    for mine, counterpart in zip(ours, theirs, strict=False):
        if (mine.op, mine.target) != (counterpart.op, counterpart.target) and not _same_constant(
            root, mine, counterpart
        ):
            raise _differs(mine, name)
        args = chosen(mine, mine.args, counterpart.args)
        mine.args, mine.kwargs = args, chosen(mine, dict(mine.kwargs), dict(counterpart.kwargs))
    if len(ours) != len(theirs):
        raise _differs(ours[-1], name)


def _same_constant(root: nn.Module, mine: fx.Node, counterpart: fx.Node) -> bool:
    """Whether two nodes are one tensor, which forward makes anew at every call by other means than torch's factories."""
    names = [str(node.target) for node in (mine, counterpart)]
    if not all(name.startswith("_tensor_constant") for name in names):
        return False
    return torch.equal(*(getattr(root, name) for name in names))


def _differs(node: fx.Node, name: str) -> ScenarioError:
    return ScenarioError(
        f"{name}.forward makes other calls in training than in evaluation (at '{node}'); put what depends on "
        "`self.training` into a submodule of its own"
    )

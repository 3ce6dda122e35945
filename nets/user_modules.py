"""The door for users' modules: an agent's network, a part of a split model, a predictor, a head or an aggregation enters here.

| of a module | kept, as in plain torch | refused in one line |
| --- | --- | --- |
| types | buffers and parameters of another type than the module's own: float64, complex, integers | trained parameters below 32 bits, tensor subclasses |
| parameters | the `Parameter` objects that an optimiser gets, with attributes; frozen ones | lazy ones |
| modes | `train` and `eval` of the module, called as around an evaluation; submodules in evaluation within a module in training stay so | |
| gradients | dense | `sparse=True` |
| classes | any `torch.nn.Module` | compiled and data-parallel ones: pass the original |

A module's own type is float32, or float64 if all its parameters are: tensors of this type get the type of the run.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy
from torch.utils.checkpoint import CheckpointFunction

from antiphon.base.errors import ScenarioError, first_line, warn_of_scenario
from antiphon.base.extensions import call_factory, name_of
from antiphon.nets.isolation.global_numbers import seeded_globally

Copied = TypeVar("Copied")
_OWN_TYPE = "own_type"
"""Attribute of a module in which its type is kept, where its parameters do not show it: of parts of a model."""
_MODES = "antiphon_modes"
"""Attribute of a submodule in which the modes are kept that `train` and `eval` of the whole do not give it: its own by theirs."""
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_NO_GRADIENT = "None of the inputs have requires_grad=True"
"""The beginning of torch's warning where a checkpoint of its older kind has no input that needs a gradient."""
_HOOK_SETTINGS = (
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
)
"""Attributes of a module that have keys of its hooks."""


def module_of(source: Callable[..., nn.Module] | nn.Module, seed: int, /, **arguments: Any) -> nn.Module:
    """Return a copy of a module, or a factory's result, on the CPU.

    Args:
        source: A module, or a factory.
        seed: Seed of the global random state under which a factory samples its initial parameters.

    Raises:
        ScenarioError: The factory does not take the arguments, fails, or returns something else; also see `check_trainable`.
    """
    if isinstance(source, nn.Module):
        check_trainable(source, "the module")
        module = copied(source)
    else:
        with seeded_globally(seed):
            module = call_factory(source, name_of(source), **arguments)
        if not isinstance(module, nn.Module):
            raise ScenarioError(
                f"the factory returned {type(module).__name__}, not a torch.nn.Module; return one"
            )
        check_trainable(module, "the module")
    hold_modes(module)
    return module if is_meta(module) else module.cpu()


# --- tensors -----------------------------------------------------------------------------------------------------


def parameters_of(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of a module that are trained, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def buffers_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a module that a call may change and no optimiser does: frozen parameters, and buffers."""
    frozen = {name: p.data for name, p in module.named_parameters() if not p.requires_grad}
    return frozen | dict(module.named_buffers())


def is_meta(module: nn.Module) -> bool:
    """Whether a module has parameters without memory."""
    return any(p.is_meta for p in module.parameters())


def as_real(tensor: Tensor) -> Tensor:
    """Return a complex tensor as pairs of real numbers in the same memory, any other as it is."""
    return torch.view_as_real(tensor.data) if tensor.is_complex() else tensor


def own_type(module: nn.Module) -> torch.dtype:
    """Return the type of a module: float32, or float64 if all its floating parameters are."""
    types = (vars(submodule).get(_OWN_TYPE) for submodule in module.modules())
    given_type: torch.dtype | None = next((dtype for dtype in types if dtype is not None), None)
    if given_type is not None:
        return given_type
    kinds = {p.dtype for p in module.parameters() if p.is_floating_point()}
    return torch.float64 if kinds == {torch.float64} else torch.float32


def set_type(module: nn.Module, dtype: torch.dtype) -> None:
    """Set the type of a module that is a part of a model of this type."""
    setattr(module, _OWN_TYPE, dtype)


def kept_types(module: nn.Module) -> frozenset[str]:
    """Return the names of the parameters and buffers whose type differs from the module's: they keep it in a run."""
    type_of_module = own_type(module)
    tensors = chain(module.named_parameters(), module.named_buffers())
    return frozenset(name for name, tensor in tensors if tensor.dtype is not type_of_module)


def cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Give a module another type, in place, and return it; tensors of other types than its own keep theirs.

    Complex parameters have the module's type too; complex buffers, such as tables, keep theirs.
    """
    type_of_module = own_type(module)

    def of_type(tensor: Tensor) -> Tensor:
        if isinstance(tensor, nn.Parameter) and tensor.is_complex():
            return tensor.to(dtype.to_complex())
        return tensor.to(dtype) if tensor.dtype is type_of_module else tensor

    if type_of_module is not dtype or any(p.is_complex() for p in module.parameters()):
        module._apply(of_type)  # type: ignore[no-untyped-call]
        if any(_OWN_TYPE in vars(submodule) for submodule in module.modules()):
            set_type(module, dtype)
    return module


def with_data(parameter: nn.Parameter, data: Tensor) -> nn.Parameter:
    """Return a parameter of the same class with other data, the same attributes and the same hooks.

    Hooks are shared, so that the handle of the original removes a hook of both.
    """
    copy_of_parameter = type(parameter)(data, parameter.requires_grad)
    vars(copy_of_parameter).update(vars(parameter))
    for hooks in ("_backward_hooks", "_post_accumulate_grad_hooks"):
        if getattr(parameter, hooks):
            setattr(copy_of_parameter, hooks, getattr(parameter, hooks))
    return copy_of_parameter


# --- modes -------------------------------------------------------------------------------------------------------


def set_mode(module: nn.Module, training: bool) -> nn.Module:
    """Call a module's `train` or `eval`, restore the modes that are held, and return the module."""
    module.train() if training else module.eval()
    for submodule in module.modules():
        mode = vars(submodule).get(_MODES, {}).get(training)
        if mode is not None:
            submodule.training = mode
    return module


def hold_mode(submodule: nn.Module, training: bool, mode: bool) -> None:
    """Give a submodule a mode of its own, whatever `train` of the whole sets."""
    vars(submodule)[_MODES] = {**vars(submodule).get(_MODES, {}), training: mode}


def hold_modes(module: nn.Module) -> None:
    """Let submodules that are in evaluation mode within a module in training stay so in training: frozen batch norms.

    `train` is called once, as before a loop: it may freeze parameters; the module's own modes stay. A module that is in evaluation mode itself, as pretrained ones often are, trains with all its submodules in training.
    """
    modes = [(submodule, submodule.training) for submodule in module.modules()]
    for submodule, mode in modes:
        if module.training and not mode:
            hold_mode(submodule, True, False)
    set_mode(module, True)
    for submodule, mode in modes:
        submodule.training = mode


# --- copies ------------------------------------------------------------------------------------------------------


def deepcopy_memo(
    modules: Iterable[nn.Module], shared: Iterable[nn.Parameter] = (), parameters: Iterable[Tensor] = ()
) -> dict[int, Any]:
    """Return a memo for `copy.deepcopy`, with which copies keep what torch's drop: attributes and hooks of parameters.

    Args:
        modules: The modules within what is copied.
        shared: Parameters that are shared, and not copied.
        parameters: Further parameters within what is copied.
    """
    inside = {id(submodule): submodule for module in modules for submodule in module.modules()}
    memo: dict[int, Any] = {id(p): p for p in shared}
    held = (p for submodule in inside.values() for p in submodule._parameters.values())
    for p in chain(held, parameters):
        if isinstance(p, nn.Parameter) and id(p) not in memo and not is_lazy(p):
            memo[id(p)] = with_data(p, p.data.clone())
    # what calls leave, such as attention maps; what torch's hooks compute before each
    for tensor in _tensors_in([vars(submodule) for submodule in inside.values()]):
        if not tensor.is_leaf:
            memo[id(tensor)] = tensor.data.clone()
    return memo


def _tensors_in(value: object) -> Iterator[Tensor]:
    """Yield the tensors in nested lists, tuples and dicts, which may hold themselves."""
    waiting, seen = [value], set[int]()
    while waiting:
        item = waiting.pop()
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, list | tuple | dict) and id(item) not in seen:
            seen.add(id(item))
            waiting += item.values() if isinstance(item, dict) else item


def copied(value: Copied, shared: Iterable[nn.Parameter] = ()) -> Copied:
    """Return a deep copy of a module, or of a dict of modules and tensors, see `deepcopy_memo`.

    Raises:
        ScenarioError: It has none.
    """
    within = value.values() if isinstance(value, dict) else (value,)
    modules = [module for module in within if isinstance(module, nn.Module)]
    try:
        copy_of_value = copy.deepcopy(value, deepcopy_memo(modules, shared))
    except Exception as error:  # noqa: BLE001  (anything a user's module may raise)
        raise ScenarioError(
            f"{type(value).__name__} cannot be copied ({first_line(error)}); keep such attributes out of the model"
        ) from None
    type_of_value = vars(value).get(_OWN_TYPE) if isinstance(value, nn.Module) else None
    if type_of_value is not None and isinstance(copy_of_value, nn.Module):  # torch.fx drops it
        set_type(copy_of_value, type_of_value)
    copies = copy_of_value.values() if isinstance(copy_of_value, dict) else (copy_of_value,)
    pairs = [
        pair
        for original, twin in zip(within, copies, strict=True)
        if isinstance(original, nn.Module) and isinstance(twin, nn.Module)
        for pair in zip(original.modules(), twin.modules(), strict=True)
    ]
    for original, twin in pairs:
        if isinstance(original, fx.GraphModule):  # torch.fx drops its hooks too
            for name in (*_HOOKS, *_HOOK_SETTINGS):
                getattr(twin, name).update(getattr(original, name))
    return copy_of_value


def hooked(module: nn.Module) -> dict[str, nn.Module]:
    return {
        path: submodule
        for path, submodule in module.named_modules()
        if any(getattr(submodule, kind) for kind in _HOOKS)
    }


def hooked_parameter(module: nn.Module) -> str | None:
    """Return the name of the first parameter that has a hook; None if none has."""
    return next(
        (n for n, p in module.named_parameters() if p._backward_hooks or p._post_accumulate_grad_hooks), None
    )


def probe_of(module: nn.Module, shared: Iterable[nn.Parameter] = ()) -> nn.Module:
    """Return a copy of a module for trial calls, which call no hook of the user's.

    Args:
        shared: Parameters that the copy shares.
    """
    probe = copied(module, shared)
    for submodule in hooked(probe).values():
        for name in (*_HOOKS, *_HOOK_SETTINGS):
            getattr(submodule, name).clear()
    return probe


def singular(module: nn.Module) -> str | None:
    """Return why a module is evaluated by itself, with its own parameters, in one line; None: it need not be."""
    if (hooked_one := hooked_parameter(module)) is not None:
        return f"its parameter '{hooked_one}' has a hook"
    for name, p in module.named_parameters():
        if vars(p):
            return f"its parameter '{name}' has the attribute '{next(iter(vars(p)))}'"
        if p.is_complex():
            return f"its parameter '{name}' is complex"
    if hooks := hooked(module):
        return f"its {type(next(iter(hooks.values()))).__name__} has hooks"
    return None


# --- checks ------------------------------------------------------------------------------------------------------


def check_trainable(module: nn.Module, name: str) -> None:
    """Check that gradients of a module can be computed and followed.

    Raises:
        ScenarioError: The table of this file names what is refused.
    """
    if isinstance(module, _WRAPPERS):
        kind = type(module).__name__
        raise ScenarioError(f"{name} is a {kind}; give the module that it was made from (.module)")
    for path, submodule in module.named_modules():
        named = f"'{path}'" if path else name
        if why := _refused(submodule):
            raise ScenarioError(f"{named} {why}")
        if submodule._compiled_call_impl is not None:
            line = "is compiled in place (its compile()), and is called as it was written here, uncompiled; pass it before that"
            warn_of_scenario(f"{named} {line}")
    for key, p in module.named_parameters():
        if is_lazy(p):
            raise ScenarioError(f"'{key}' is not initialised (a lazy module; call the model once first)")
        if p.is_floating_point() and p.dtype.itemsize < torch.float32.itemsize:
            raise ScenarioError(
                f"'{key}' is {str(p.dtype).removeprefix('torch.')}, but parameters are trained in float32; call float() on "
                f"{name}, and for bfloat16 set training.precision: bf16"
            )
        if type(p.data) is not Tensor or p.layout is not torch.strided:
            type_name = type(p.data).__name__ if type(p.data) is not Tensor else "sparse"
            raise ScenarioError(f"'{key}' is {type_name}; give a parameter of a plain, dense tensor")
    trained, narrow = parameters_of(module), own_type(module) is torch.float32
    kinds = {key: p.dtype.to_real() for key, p in trained.items() if not p.is_complex() or narrow}
    if len(set(kinds.values())) > 1:
        first, second = (
            next(n for n, t in kinds.items() if t is kind)
            for kind in sorted(set(kinds.values()), key=str)[:2]
        )
        raise ScenarioError(
            f"'{first}' is float32 and '{second}' float64, but parameters that are trained together have one type; call "
            f"float() or double() on {name}, or make one a buffer"
        )


def check_followed(name: str, result: Tensor) -> None:
    """Check that the graph of a result has all parameters: a checkpoint of torch's older kind hides those that it calls.

    Raises:
        ScenarioError: It has such a checkpoint; the line begins with `name`.
    """
    nodes, seen = [result.grad_fn], set[Any]()
    for node in nodes:
        if node is not None and node not in seen:
            seen.add(node)
            nodes += [earlier for earlier, _ in node.next_functions]
            if getattr(node, "_forward_cls", None) is CheckpointFunction:
                raise _hidden_parameters(name)


@contextmanager
def followed_checkpoints(name: str) -> Iterator[None]:
    """Refuse, in the context, a checkpoint of torch's older kind over inputs that need no gradient: no graph has it (`check_followed`).

    Raises:
        ScenarioError: Such a checkpoint is called; the line begins with `name`.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("error", _NO_GRADIENT, UserWarning)
        try:
            yield
        except UserWarning as warning:
            if not str(warning).startswith(_NO_GRADIENT):  # an error of the caller's own filters
                raise
            raise _hidden_parameters(name) from None


def _hidden_parameters(name: str) -> ScenarioError:
    return ScenarioError(
        f"{name} calls torch.utils.checkpoint with use_reentrant=True, and no gradient would reach the parameters in it; "
        "pass use_reentrant=False"
    )


def _refused(submodule: nn.Module) -> str:
    """Return why a submodule cannot be trained, and the fix; empty if it can."""
    if isinstance(getattr(submodule, "_orig_mod", None), nn.Module):
        return "is compiled (torch.compile); pass the original module, its _orig_mod"
    if isinstance(submodule, nn.Embedding | nn.EmbeddingBag) and submodule.sparse:
        return "has sparse gradients (sparse=True), and all are dense here; make it with sparse=False"
    return ""

"""Work: the operations of a part's evaluation and of its gradient, counted on tensors without numbers.

What is evaluated is the part itself (torch's meta device computes shapes alone), so that every kind of network and of
predictor counts, a user's module too. Nothing is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from antiphon.agents.network import Network
from antiphon.comms.context import ContextSpec
from antiphon.comms.inputs import InputModel
from antiphon.comms.predictors import Example, Predictor

__all__ = ["Passes", "Work", "of_input", "of_network", "of_optimiser", "of_predictor"]

_META = torch.device("meta")
_BACKWARDS = 2
"""What a gradient costs beside the evaluation, where the part itself cannot be evaluated without numbers."""
_ADAM = 7
"""Numbers that Adam reads and writes for one that it moves: parameter, gradient and two moments; all but the gradient."""
_ADAM_FLOP = 12


@dataclass(frozen=True)
class Work:
    """What something costs each time that it is done.

    Attributes:
        operations: Tensor operations; views are none.
        flop: Floating-point operations of its products.
        bytes: Read and written by its operations.
        held: Bytes that autograd keeps until the window's end.
    """

    operations: float = 0.0
    flop: float = 0.0
    bytes: float = 0.0
    held: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.operations + other.operations,
            self.flop + other.flop,
            self.bytes + other.bytes,
            self.held + other.held,
        )

    def __mul__(self, times: float) -> Work:
        """Return what it costs so many times."""
        return Work(self.operations * times, self.flop * times, self.bytes * times, self.held * times)

    def together(self, members: int) -> Work:
        """Return what it costs for so many of a kind that are computed as one: as many operations, each larger."""
        return Work(self.operations, self.flop * members, self.bytes * members, self.held * members)


Passes = tuple[Work, Work]
"""Of an evaluation, and of its gradients."""


class _Count(TorchDispatchMode):
    """Counts the operations within it that compute something, and the bytes of what they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.bytes = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        if not operation.is_view:
            self.operations += 1
            self.bytes += _bytes(args) + _bytes(result)
        return result


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(map(_bytes, value)) if isinstance(value, tuple | list) else 0


def _counted(compute: Callable[[], object], own: Sequence[Tensor] = ()) -> Work:
    """Count what `compute` does; `own` (parameters) is held anyway."""
    held: dict[int, UntypedStorage] = {}  # alive until they are counted, so that no two are at one place

    def keep(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        held[storage._cdata] = storage
        return saved

    counted, flops = _Count(), FlopCounterMode(display=False)
    with flops, counted, torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        compute()
    for tensor in own:
        held.pop(tensor.untyped_storage()._cdata, None)
    kept = sum(storage.nbytes() for storage in held.values())
    return Work(counted.operations, flops.get_total_flops(), counted.bytes, kept)


def _blank(tensors: Mapping[str, Tensor], *, learned: bool = False) -> dict[str, Tensor]:
    return {
        name: torch.empty_like(t, device=_META).requires_grad_(learned and t.is_floating_point())
        for name, t in tensors.items()
    }


def of_network(
    network: Network,
    parameters: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    rows: int,
    dtype: torch.dtype,
    *,
    returns: bool,
) -> Passes:
    """Return the work of one evaluation of a network, and that of its gradients by its parameters and what it read.

    Args:
        network: The network.
        parameters: Of one agent; only their shapes count.
        buffers: Its running statistics.
        rows: B.
        dtype: Of all floats.
        returns: Whether the gradient by its input is asked for.
    """
    own, held = _blank(parameters, learned=True), _blank(buffers)
    x = torch.empty(rows, *network.input_shape, device=_META, dtype=dtype, requires_grad=returns)
    state = torch.empty(rows, network.state_size, device=_META, dtype=dtype) if network.state_size else None
    ports: dict[str, Tensor] = {}

    def forwards() -> None:
        ports.update(network(own, held, x, training=True, state=state)[0])

    def backwards() -> None:
        said = [port for port in ports.values() if port.requires_grad]
        leaves = [leaf for leaf in (*own.values(), x) if leaf.requires_grad]
        if said and leaves:
            torch.autograd.grad(said, leaves, [torch.empty_like(port) for port in said], allow_unused=True)

    if state is not None:
        state.requires_grad_()
    try:
        return _counted(forwards, list(own.values())), _counted(backwards)
    except Exception:  # noqa: BLE001  (a user's module may refuse tensors without numbers in any way)
        size = torch.Size(network.input_shape).numel() + sum(h.features for h in network.heads.values())
        return _rough(list(parameters.values()), rows, size)


def _rough(parameters: Sequence[Tensor], rows: int, size: int) -> Passes:
    """What it costs if every parameter met every row once."""
    numbers = sum(p.numel() for p in parameters)
    width = parameters[0].element_size() if parameters else 4
    layers = [p for p in parameters if p.dim() > 1]
    inner = rows * (size + sum(len(p) for p in layers))
    once = Work(2 * len(layers) + 1, 2.0 * rows * numbers, width * (numbers + 2.0 * inner))
    return once + Work(held=width * inner), once * _BACKWARDS


def of_predictor(predictor: Predictor, rows: int) -> Work:
    """Return the work of a synthetic gradient for one message: what it says, and what it learns from the answer."""
    dtype = predictor.trainable[0].dtype
    message = torch.empty(rows, predictor.size, device=_META, dtype=dtype)
    example = Example(message, _features(predictor.context, rows, dtype), torch.empty_like(message))
    if predictor.target is not None:
        example.target = _signal(predictor.target, rows, dtype)
    if predictor.needs_loss:
        example.loss = message.new_empty(rows)

    def compute() -> None:
        predictor.predict(example)
        predictor.gradients([example])

    return _of_model(predictor, compute, rows)


def of_input(model: InputModel, rows: int) -> Work:
    """Return the work of a synthetic input for one message: what it says, and what it learns when that comes."""
    dtype = model.trainable[0].dtype
    message = torch.empty(rows, model.size, device=_META, dtype=dtype)
    context = _features(model.context, rows, dtype)

    def compute() -> None:
        model.predict(context, rows)
        model.gradients([(context, message, None)])

    return _of_model(model, compute, rows)


def _of_model(model: Predictor | InputModel, compute: Callable[[], None], rows: int) -> Work:
    """Count with numbers that are none; the model has its own again afterwards."""
    numbers, statistics, trainable = model.parameters, model.buffers, model.trainable
    model.parameters, model.buffers = _blank(numbers, learned=True), _blank(statistics)
    model.trainable = list(model.parameters.values())
    try:
        return _counted(compute, model.trainable)
    except NotImplementedError:  # torch lacks an operation for tensors without numbers
        forwards, backwards = _rough(list(numbers.values()), rows, model.size)
        return forwards + backwards
    finally:
        model.parameters, model.buffers, model.trainable = numbers, statistics, trainable


def _features(specs: Sequence[ContextSpec], rows: int, dtype: torch.dtype) -> Tensor | None:
    features = sum(spec.features for spec in specs)
    return torch.empty(rows, features, device=_META, dtype=dtype) if specs else None


def _signal(spec: ContextSpec, rows: int, dtype: torch.dtype) -> Tensor:
    kind = dtype if spec.classes is None else torch.int64
    return torch.empty(rows, *spec.shape, device=_META, dtype=kind)


def of_optimiser(parameters: Sequence[Tensor]) -> Work:
    """Return the work of one step of an optimiser on these parameters, as torch's fused kernel does it."""
    numbers = sum(p.numel() for p in parameters)
    if not numbers:
        return Work()
    return Work(1, _ADAM_FLOP * numbers, _ADAM * numbers * parameters[0].element_size())

"""Work: the operations of a part's evaluation and of its gradient, counted while it is evaluated on a few rows.

What is evaluated is the part itself, so that every kind of network and of predictor counts, a user's module too; what is
counted at two and at three rows tells it for any number. Nothing is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from antiphon.agents.network import Network
from antiphon.comms.context import ContextSpec
from antiphon.comms.inputs import InputModel
from antiphon.comms.predictors import Example, Predictor

__all__ = ["Passes", "Work", "of_input", "of_network", "of_optimiser", "of_predictor"]

_FEW = 2
"""Rows; with fewer, batch norm is another function."""
_LARGE = 1 << 24
"""Parts with more parameters are evaluated on tensors without numbers (torch's meta device), for which torch loads slowly."""
_BACKWARDS = 2
"""What a gradient costs beside the evaluation, where the part cannot be evaluated here."""
_ADAM, _ADAM_FLOP = 7, 12
"""Numbers that Adam reads and writes for one that it moves (parameter, gradient and two moments; all but the gradient
again), and its floating-point operations."""


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


class _Count(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations within it that compute something, and what they read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = self.flop = self.bytes = 0
        self.held: dict[int, UntypedStorage] = {}  # kept alive, so that no two are at one place

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would load its compiler, for a second, to keep it from compiling this

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        result = operation(*args, **named)
        if not operation.is_view:
            self.operations += 1
            self.bytes += _bytes(args) + _bytes(result)
        if operation._overloadpacket in flop_registry:
            self.flop += flop_registry[operation._overloadpacket](*args, **named, out_val=result)
        return result

    def keep(self, saved: Tensor) -> Tensor:
        """Note a tensor that autograd keeps."""
        storage = saved.untyped_storage()
        self.held[storage._cdata] = storage
        return saved

    def work(self, own: Sequence[Tensor]) -> Work:
        """Return what has been counted; `own` is held anyway."""
        for tensor in own:
            self.held.pop(tensor.untyped_storage()._cdata, None)
        held = sum(storage.nbytes() for storage in self.held.values())
        return Work(self.operations, self.flop, self.bytes, held)


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(map(_bytes, value)) if isinstance(value, tuple | list) else 0


def _counted(compute: Callable[[], object], own: Sequence[Tensor] = ()) -> Work:
    counted = _Count()
    with counted, torch.autograd.graph.saved_tensors_hooks(counted.keep, lambda saved: saved):
        compute()
    return counted.work(own)


def _for_rows(few: Work, more: Work, rows: int) -> Work:
    """What it costs for `rows`, from what it costs for a few and for one more."""
    return few + (more + few * -1) * (rows - _FEW)


def _place(parameters: Mapping[str, Tensor]) -> torch.device:
    return torch.device("meta" if sum(p.numel() for p in parameters.values()) > _LARGE else "cpu")


def _copies(
    tensors: Mapping[str, Tensor], place: torch.device, *, learned: bool = False
) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(t, device=place).requires_grad_(learned and t.is_floating_point())
        for name, t in tensors.items()
    }


# --- networks --------------------------------------------------------------------------------------------


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
    place = _place(parameters)
    own, held = _copies(parameters, place, learned=True), _copies(buffers, place)
    try:
        (few, back), (more, further) = (
            _passes(network, own, held, count, dtype, place, returns) for count in (_FEW, _FEW + 1)
        )
    except Exception:  # noqa: BLE001  (a user's module may refuse such inputs in any way)
        size = torch.Size(network.input_shape).numel() + sum(h.features for h in network.heads.values())
        return _rough(list(parameters.values()), rows, size)
    return _for_rows(few, more, rows), _for_rows(back, further, rows)


def _passes(
    network: Network,
    own: dict[str, Tensor],
    held: dict[str, Tensor],
    rows: int,
    dtype: torch.dtype,
    place: torch.device,
    returns: bool,
) -> Passes:
    x = torch.zeros(rows, *network.input_shape, device=place, dtype=dtype, requires_grad=returns)
    state = torch.zeros(rows, network.state_size, device=place, dtype=dtype) if network.state_size else None
    ports: dict[str, Tensor] = {}

    def forwards() -> None:
        ports.update(network(own, held, x, training=True, state=state)[0])

    def backwards() -> None:
        said = [port for port in ports.values() if port.requires_grad]
        leaves = [leaf for leaf in (*own.values(), x, state) if leaf is not None and leaf.requires_grad]
        if said and leaves:
            torch.autograd.grad(said, leaves, [torch.zeros_like(port) for port in said], allow_unused=True)

    if state is not None:
        state.requires_grad_()
    return _counted(forwards, list(own.values())), _counted(backwards)


def _rough(parameters: Sequence[Tensor], rows: int, size: int) -> Passes:
    """What it costs if every parameter met every row once."""
    numbers = sum(p.numel() for p in parameters)
    width = parameters[0].element_size() if parameters else 4
    layers = [p for p in parameters if p.dim() > 1]
    inner = rows * (size + sum(len(p) for p in layers))
    once = Work(2 * len(layers) + 1, 2.0 * rows * numbers, width * (numbers + 2.0 * inner))
    return once + Work(held=width * inner), once * _BACKWARDS


# --- predictors ------------------------------------------------------------------------------------------


def of_predictor(predictor: Predictor, rows: int) -> Work:
    """Return the work of a synthetic gradient for one message: what it says, and what it learns from the answer."""

    def compute(count: int, place: torch.device, dtype: torch.dtype) -> None:
        message = torch.zeros(count, predictor.size, device=place, dtype=dtype)
        context = _features(predictor.context, count, place, dtype)
        example = Example(message, context, torch.zeros_like(message))
        if predictor.target is not None:
            kind = dtype if predictor.target.classes is None else torch.int64
            example.target = torch.zeros(count, *predictor.target.shape, device=place, dtype=kind)
        if predictor.needs_loss:
            example.loss = message.new_zeros(count)
        predictor.predict(example)
        predictor.gradients([example])

    return _of_model(predictor, compute, rows)


def of_input(model: InputModel, rows: int) -> Work:
    """Return the work of a synthetic input for one message: what it says, and what it learns when that comes."""

    def compute(count: int, place: torch.device, dtype: torch.dtype) -> None:
        context = _features(model.context, count, place, dtype)
        message = torch.zeros(count, model.size, device=place, dtype=dtype)
        model.predict(context, count)
        model.gradients([(context, message, None)])

    return _of_model(model, compute, rows)


def _of_model(
    model: Predictor | InputModel, compute: Callable[[int, torch.device, torch.dtype], None], rows: int
) -> Work:
    """Count with copies of its numbers; the model has its own again afterwards."""
    numbers, statistics, trainable = model.parameters, model.buffers, model.trainable
    place, dtype = _place(numbers), trainable[0].dtype
    model.parameters, model.buffers = _copies(numbers, place, learned=True), _copies(statistics, place)
    model.trainable = list(model.parameters.values())
    try:
        few, more = (
            _counted(lambda count=count: compute(count, place, dtype), model.trainable)  # type: ignore[misc]
            for count in (_FEW, _FEW + 1)
        )
    finally:
        model.parameters, model.buffers, model.trainable = numbers, statistics, trainable
    return _for_rows(few, more, rows)


def _features(
    specs: Sequence[ContextSpec], rows: int, place: torch.device, dtype: torch.dtype
) -> Tensor | None:
    features = sum(spec.features for spec in specs)
    return torch.zeros(rows, features, device=place, dtype=dtype) if specs else None


def of_optimiser(parameters: Sequence[Tensor]) -> Work:
    """Return the work of one step of an optimiser on these parameters, as torch's fused Adam does it."""
    numbers = sum(p.numel() for p in parameters)
    if not numbers:
        return Work()
    return Work(1, _ADAM_FLOP * numbers, _ADAM * numbers * parameters[0].element_size())

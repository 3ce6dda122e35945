"""A pretended GPU: the program runs as on CUDA, without a GPU and without a CUDA build of torch, to true numbers.

A tensor put on `cuda` is a `PretendTensor`: its numbers lie in a CPU tensor inside, but Python and torch's dispatcher take it
to be on another device (torch's PrivateUse1 backend in Python). A TorchDispatchMode computes every operation on the numbers
inside, and counts what would cost time or fail on a GPU, by the line of antiphon that caused it:

    mismatches   operations on tensors of both devices that CUDA refuses
    waits        the host waits for the device: item, bool, tolist, nonzero, masks as indices, copies to the host
    host_copies  data copied from the host: they wait too, and no CUDA graph can have them
    launches     kernels launched; views and empty tensors launch none

How many kernels an operation launches is read off ATen's CUDA sources; lists go to a kernel in chunks of 36 tensors.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CUDA = torch.device("cuda:0")
_ROOT = str(Path(__file__).resolve().parents[2])
_SYNCHRONISES = _words(
    """
    _local_scalar_dense is_nonzero nonzero masked_select equal _unique2 unique_dim unique_consecutive
    bincount nonzero_numpy _linalg_check_errors
    """
)
_INDEXES = frozenset(["index", "index_put", "index_put_", "_index_put_impl_"])
_MIXES = _INDEXES | {"copy_", "_to_copy"}
"""What takes tensors of the host beside those of the device."""
_NO_SCALARS = _words(
    """
    _fused_adam_ _fused_adamw_ _fused_sgd_ bmm mm addmm baddbmm cat stack index_select gather scatter
    index_add index_copy native_batch_norm embedding
    """
)
"""What takes no tensor [] of the host either; elsewhere it is a scalar."""
_FREE = _words(
    """
    detach alias lift_fresh _unsafe_view empty empty_like empty_strided new_empty new_empty_strided
    _reshape_alias set_ view expand sym_size sym_stride sym_numel is_same_size
    _has_compatible_shallow_copy_type record_stream broadcast_tensors
    """
)
_LAUNCHES = {"index_put_": 3, "_index_put_impl_": 3, "nonzero": 4, "cumsum": 2, "baddbmm": 2, "index_add": 2}
_LAUNCHES |= {"sort": 3, "argsort": 3, "native_batch_norm": 3, "native_batch_norm_backward": 2}
_LAUNCHES |= {"_native_batch_norm_legit": 3}
_CHUNK = 36


@dataclass
class Counts:
    """What was counted, by operation and line of antiphon; launches by operation."""

    mismatches: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    host_copies: Counter[str] = field(default_factory=Counter)
    launches: Counter[str] = field(default_factory=Counter)


class PretendTensor(Tensor):
    """A tensor that is taken to be on a GPU.

    Args:
        inner: Its numbers, on the CPU.
    """

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Self:
        made: Self = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device="pretend:0",
            requires_grad=False,
        )
        return made

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _active().computed(func, args, kwargs or {})

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return _CUDA

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        return False

    def get_device(self) -> int:
        return 0

    @property
    def data(self) -> Tensor:  # type: ignore[override]
        return self.detach()

    @data.setter
    def data(self, other: Tensor) -> None:
        if not isinstance(other, PretendTensor):
            raise TypeError("data: the other tensor is on the CPU")
        self.inner = other.inner.detach()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.inner.untyped_storage()

    def stride(self, *axis: Any) -> Any:
        return self.inner.stride(*axis)

    def tolist(self) -> Any:
        _active().note("waits", "tolist")
        return self.inner.tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    def cpu(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.to("cpu")

    def __repr__(self, **kwargs: Any) -> str:  # type: ignore[override]
        return f"PretendTensor({self.inner!r})"

    def __deepcopy__(self, memo: Any) -> PretendTensor:
        return PretendTensor(self.inner.detach().clone()).requires_grad_(self.requires_grad)  # type: ignore[return-value]


class PretendGpu(TorchDispatchMode):
    """Computes what is asked of pretended tensors, and counts it while somebody records."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._counts: Counts | None = None

    @contextmanager
    def recording(self) -> Iterator[Counts]:
        """Count what happens meanwhile."""
        self._counts = counts = Counts()
        try:
            yield counts
        finally:
            self._counts = None

    def note(self, what: str, operation: str) -> None:
        """Count a wait, a copy or a mismatch at the present line of antiphon."""
        if self._counts is not None:
            getattr(self._counts, what)[f"{operation} at {_line()}"] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.computed(func, args, kwargs or {})

    def computed(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """The result of an operation."""
        flat, spec = pytree.tree_flatten((args, kwargs))
        pretended = [t for t in flat if isinstance(t, PretendTensor)]
        device = kwargs.get("device")
        there = bool(pretended) if device is None else torch.device(device).type in ("cuda", "pretend")
        if self._counts is not None and (there or pretended):
            self._count(func, flat, args, kwargs, there=there)
        known = {id(t.inner): t for t in pretended}
        inside = [_inside(t) for t in flat]
        own_args, own_kwargs = pytree.tree_unflatten(inside, spec)
        if own_kwargs.get("pin_memory"):
            own_kwargs["pin_memory"] = False
        out = func(*own_args, **own_kwargs)
        if func._schema.name == "aten::_to_copy" and bool(pretended) is not there and out is own_args[0]:
            out = out.clone()
        if not there:
            return out

        def outside(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            return known[id(value)] if id(value) in known else PretendTensor(value)

        return pytree.tree_map(outside, out)

    def _count(self, func: Any, flat: list[Any], args: Any, kwargs: dict[str, Any], *, there: bool) -> None:
        assert self._counts is not None
        name = func._schema.name.split("::")[1]
        pretended = [t for t in flat if isinstance(t, PretendTensor)]
        of_host = [t for t in flat if isinstance(t, Tensor) and not isinstance(t, PretendTensor)]
        if name in ("_to_copy", "copy_"):
            if name == "copy_":
                there, from_host = isinstance(args[0], PretendTensor), not isinstance(args[1], PretendTensor)
            else:
                from_host = not pretended
            if there and from_host:
                self.note("host_copies", name)
            elif pretended and not there:
                self.note("waits", name)
        elif name in _SYNCHRONISES or (name == "repeat_interleave" and kwargs.get("output_size") is None):
            self.note("waits", name)
        elif name in _INDEXES:
            for index in args[1]:
                if index is not None and index.dtype == torch.bool:
                    self.note("waits", f"{name} by a mask")
                elif index is not None and not isinstance(index, PretendTensor) and index.dim():
                    self.note("host_copies", f"{name} by indices of the host")
        if pretended and name not in _MIXES and any(t.dim() or name in _NO_SCALARS for t in of_host):
            self.note("mismatches", name)
        if not (func.is_view or name in _FREE):
            launches = _LAUNCHES.get(name, 1)
            if name.startswith(("_foreach", "_fused")):
                launches = max(1, -(-len(args[0]) // _CHUNK)) * (2 if name == "_foreach_norm" else 1)
            self._counts.launches[name] += launches


class _OnCuda(TorchFunctionMode):
    """What is asked to be on cuda is put on the pretended device, before C++ looks for a real one."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.device:
            return func(*args, **kwargs)
        args = tuple(_PLACE if _is_cuda(a) else a for a in args)
        if _is_cuda(kwargs.get("device")):
            kwargs = {**kwargs, "device": _PLACE}
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and kwargs.get("device") is _PLACE:
            rest = {key: value for key, value in kwargs.items() if key != "device"}
            if args and isinstance(args[0], PretendTensor):
                dtype = rest.get("dtype")
                return args[0] if dtype in (None, args[0].dtype) else args[0].to(dtype)
            return func(*args, **rest).to(_PLACE)
        return func(*args, **kwargs)


_PLACE: Any = None
_ACTIVE: list[PretendGpu] = []


def _active() -> PretendGpu:
    return _ACTIVE[-1]


def _is_cuda(value: Any) -> bool:
    if isinstance(value, torch.device):
        return value.type == "cuda"
    return isinstance(value, str) and (value == "cuda" or value.startswith("cuda:"))


def _inside(value: Any) -> Any:
    if isinstance(value, PretendTensor):
        return value.inner
    if isinstance(value, torch.device) and value.type in ("cuda", "pretend"):
        return torch.device("cpu")
    return value


def _line() -> str:
    """The innermost line of antiphon that is being run."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(_ROOT) and path != __file__ and ".venv" not in path:
            return f"{path.removeprefix(_ROOT + '/')}:{frame.f_lineno}"
        frame = frame.f_back
    return "(elsewhere)"


def on_host(tensor: Tensor) -> Tensor:
    """A copy of a tensor's numbers, wherever it is taken to be; nothing is counted."""
    return (tensor.inner if isinstance(tensor, PretendTensor) else tensor).detach().clone()


def _one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """As on CUDA, where nothing is checked if the number of classes is given."""
    if isinstance(tensor, PretendTensor) and num_classes > 0:
        found = torch.zeros(*tensor.shape, num_classes, dtype=torch.long, device="cuda")
        return found.scatter_(-1, tensor.unsqueeze(-1), 1)
    return _TORCHS_ONE_HOT(tensor, num_classes)


_TORCHS_ONE_HOT = torch.nn.functional.one_hot


@contextmanager
def pretend_gpu() -> Iterator[PretendGpu]:
    """Let `device="cuda"` be a pretended GPU meanwhile."""
    global _PLACE
    if _PLACE is None:
        _setup_privateuseone_for_python_backend("pretend")
        torch.pretend.get_amp_supported_dtype = list  # type: ignore[attr-defined]  # asked by torch.utils.checkpoint
        _PLACE = torch.device("pretend:0")
    gpu = PretendGpu()
    with (
        patch.object(torch.cuda, "_lazy_init", lambda: None),
        patch.object(torch.nn.functional, "one_hot", _one_hot),
        torch.autograd.set_multithreading_enabled(False),
        gpu,
        _OnCuda(),
    ):
        _ACTIVE.append(gpu)
        try:
            yield gpu
        finally:
            _ACTIVE.pop()

"""The compiled kernel: its object file from the wheel or the user's cache, or compiled into the cache once."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from antiphon.nets.native.compiler import INSTRUCTION_SETS, SOURCE, compile_kernel, file_name

_log = logging.getLogger(__name__)


def _compiled(instruction_set: str) -> Path:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder, name = caches / "antiphon" / "kernels", file_name(instruction_set)
    if not (folder / name).is_file():
        from filelock import FileLock  # only where something is compiled

        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):  # one process at a time compiles
            if not (folder / name).is_file():
                return compile_kernel(instruction_set, folder)
    return folder / name


@cache
def kernel() -> ctypes.CDLL | None:
    """Return the compiled kernel, compiled on the first call if necessary; None: not available, which is logged once."""
    capability = torch.backends.cpu.get_cpu_capability()
    instruction_set = capability if capability in INSTRUCTION_SETS else "DEFAULT"
    try:
        with suppress(OSError):  # there is none, or it was built for another system
            return ctypes.CDLL(str(SOURCE.with_name(file_name(instruction_set))))
        return ctypes.CDLL(str(_compiled(instruction_set)))
    except (OSError, ImportError, RuntimeError, subprocess.SubprocessError) as error:
        says = (getattr(error, "stderr", None) or str(error).encode()).decode(errors="replace")
        reason = f"the kernel cannot be compiled: {says.strip().partition(chr(10))[0]}"
        _log.warning("backend native: %s; using backend cohort instead", reason)
        return None


@cache
def function(name: str, dtype: torch.dtype) -> Any:
    return getattr(kernel(), f"antiphon_{name}_{str(dtype).removeprefix('torch.')}")


def address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()

"""The compiled kernel: its object file from the wheel, from the user's cache, or compiled into it once.

The object file has a plain C interface, so that it depends on no version of torch or Python. There is one for each of the
instruction sets that torch tells apart, and the file's name holds a digest of the source and of how it is compiled.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["address", "compile_kernel", "file_name", "flags", "function", "kernel", "why_absent"]

SOURCE = Path(__file__).with_name("mlp.cpp")
INSTRUCTION_SETS = {"AVX512": "x86-64-v4", "AVX2": "x86-64-v3", "DEFAULT": "x86-64"}
"""By torch's name of what the processor can do: the architecture that the kernel is compiled for."""
_FLAGS = (
    *("-std=c++17", "-O3", "-fPIC", "-shared", "-pthread"),
    # sums may be reordered, so that they are made of vectors; what is not finite stays so
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
)
_SECONDS = 300.0
_log = logging.getLogger(__name__)


def flags(instruction_set: str) -> list[str]:
    """Return the compiler's arguments for one of `INSTRUCTION_SETS`, which only x86-64 tells apart."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return list(_FLAGS)
    wide = ["-mprefer-vector-width=512"] if instruction_set == "AVX512" else []
    return [*_FLAGS, f"-march={INSTRUCTION_SETS[instruction_set]}", *wide]


def file_name(instruction_set: str) -> str:
    """Return the name of the object file for an instruction set."""
    made_of = SOURCE.read_bytes() + " ".join([platform.machine(), *flags(instruction_set)]).encode()
    return f"mlp-{hashlib.sha256(made_of).hexdigest()[:16]}.so"


def compile_kernel(instruction_set: str, folder: Path) -> Path:
    """Compile the kernel into a folder, whole or not at all, and return its file.

    Raises:
        OSError: There is no compiler, or the folder cannot be written.
        subprocess.SubprocessError: The compiler fails.
    """
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        raise OSError("there is no C++ compiler")
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / file_name(instruction_set)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        made = Path(own) / place.name
        command = [*compiler.split(), *flags(instruction_set), str(SOURCE), "-o", str(made)]
        subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
        made.replace(place)
    return place


def _cache_folder() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "antiphon" / "kernels"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "antiphon" / "kernels"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time compile."""
    import fcntl  # where there is none, nothing is compiled

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _found(instruction_set: str) -> Path:
    name = file_name(instruction_set)
    prebuilt = SOURCE.with_name(name)
    if prebuilt.is_file():
        return prebuilt
    folder = _cache_folder()
    if not (folder / name).is_file():
        with _locked(folder):
            if not (folder / name).is_file():
                return compile_kernel(instruction_set, folder)
    return folder / name


def _instruction_set() -> str:
    found = torch.backends.cpu.get_cpu_capability()
    return found if found in INSTRUCTION_SETS else "DEFAULT"


@cache
def _loaded() -> tuple[ctypes.CDLL | None, str]:
    """The kernel, and why there is none."""
    try:
        return ctypes.CDLL(str(_found(_instruction_set()))), ""
    except (OSError, ImportError, RuntimeError, subprocess.SubprocessError) as error:
        stderr = getattr(error, "stderr", None)
        lines = (stderr.decode(errors="replace") if stderr else str(error)).strip().splitlines()
        reason = f"the kernel cannot be compiled: {lines[0] if lines else type(error).__name__}"
        _log.warning("backend native: %s; torch computes all agents", reason)
        return None, reason


def kernel() -> ctypes.CDLL | None:
    """Return the compiled kernel, compiled on the first call if need be; None: there is none, which is logged once."""
    return _loaded()[0]


@cache
def function(name: str, dtype: torch.dtype) -> Any:
    """Return a function of the kernel for numbers of a type."""
    return getattr(kernel(), f"antiphon_{name}_{str(dtype).removeprefix('torch.')}")


def address(tensor: Tensor | None) -> int:
    """Return where a tensor begins; None: 0."""
    return 0 if tensor is None else tensor.data_ptr()


def why_absent() -> str | None:
    """Return why there is no kernel, in one line; None: there is one."""
    return _loaded()[1] or None

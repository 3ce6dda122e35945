"""Compile the kernel: when the wheel is built, or, without a compiled kernel, at its first use. No torch is needed.

The object file has a plain C interface, so that it depends on no version of torch or Python. There is one for each
instruction set that torch distinguishes, and the file's name has a digest of the source and of the compiler flags.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("mlp.cpp")
INSTRUCTION_SETS = {"AVX512": "x86-64-v4", "AVX2": "x86-64-v3", "DEFAULT": "x86-64"}
"""By torch's name of the CPU capability: the architecture for which the kernel is compiled."""
_FLAGS = (
    *("-std=c++17", "-O3", "-fPIC", "-shared", "-pthread"),
    # sums may be reordered, so that they are made of vectors; what is not finite stays so
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
)
_SECONDS = 300.0


def flags(instruction_set: str) -> list[str]:
    """Return the compiler's arguments for one of `INSTRUCTION_SETS`, which differ only on x86-64."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return list(_FLAGS)
    wide = ["-mprefer-vector-width=512"] if instruction_set == "AVX512" else []
    return [*_FLAGS, f"-march={INSTRUCTION_SETS[instruction_set]}", *wide]


def file_name(instruction_set: str) -> str:
    made_of = SOURCE.read_bytes() + " ".join([platform.machine(), *flags(instruction_set)]).encode()
    return f"mlp-{hashlib.sha256(made_of).hexdigest()[:16]}.so"


def compiler() -> str | None:
    return os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


def compile_kernel(instruction_set: str, folder: Path) -> Path:
    """Compile the kernel into a folder, atomically, and return its file; OSError or subprocess.SubprocessError: it cannot be."""
    command_of_compiler = compiler()
    if not command_of_compiler:
        raise OSError("no C++ compiler found")
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / file_name(instruction_set)
    with tempfile.TemporaryDirectory(dir=folder) as temporary_folder:
        compiled = Path(temporary_folder) / library.name
        command = [*command_of_compiler.split(), *flags(instruction_set), str(SOURCE), "-o", str(compiled)]
        subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
        compiled.replace(library)
    return library

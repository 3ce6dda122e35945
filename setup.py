"""What pyproject.toml cannot say: where there is a C++ compiler, the wheel has the native kernel, and is one of its platform."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

_spec = importlib.util.spec_from_file_location(
    "compiler", Path(__file__).parent / "nets" / "native" / "compiler.py"
)
compiler = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(compiler)


class BuildWithKernel(build_py):
    """Compiles the kernel for each instruction set; an editable install compiles it at its first use."""

    def run(self) -> None:
        super().run()
        if self.editable_mode or compiler.compiler() is None:
            return
        folder = Path(self.build_lib, "antiphon", "nets", "native")
        for name in {compiler.file_name(name): name for name in compiler.INSTRUCTION_SETS}.values():
            try:
                compiler.compile_kernel(name, folder)
            except (OSError, subprocess.SubprocessError) as error:
                self.warn(f"no native kernel for {name}: {error}")


class PlatformWheel(bdist_wheel):
    """A wheel of a platform, for every Python."""

    def get_tag(self) -> tuple[str, str, str]:
        python, abi, platform = super().get_tag()
        return (python, abi, platform) if self.root_is_pure else ("py3", "none", platform)


class WithKernel(Distribution):
    """Compiled code is in it if there is a compiler."""

    def has_ext_modules(self) -> bool:
        return compiler.compiler() is not None


setup(distclass=WithKernel, cmdclass={"build_py": BuildWithKernel, "bdist_wheel": PlatformWheel})

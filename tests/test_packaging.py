"""What is on disk, what pyproject.toml installs and what a checkout imports are the same packages."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS: dict[str, Any] = PROJECT["tool"]["setuptools"]
FOLDERS: dict[str, str] = SETUPTOOLS["package-dir"]
NOT_PACKAGES = {"tests", "docs", "benchmarks", "build", "dist", "packaging", "runs"}


def folders_on_disk() -> Iterator[Path]:
    """Yield every folder of the checkout that is a package, links not followed."""
    for top in sorted(ROOT.iterdir()):
        if top.name.startswith(".") or top.name in NOT_PACKAGES or not top.is_dir():
            continue
        for init in sorted(top.rglob("__init__.py")):
            if not any(parent.is_symlink() for parent in init.parents if parent.is_relative_to(top)):
                yield init.parent


def import_name(folder: Path) -> str:
    """Return the name under which a folder of the checkout is imported, antiphon.<folder>."""
    parts = folder.relative_to(ROOT).parts
    return ".".join(parts if parts[0] == "antiphon" else ("antiphon", *parts))


def folder_of(package: str) -> Path:
    """Return the folder of a listed package, through the entry of its nearest mapped parent."""
    if package in FOLDERS:
        return ROOT / FOLDERS[package]
    parent, _, last = package.rpartition(".")
    return folder_of(parent) / last


def requirements() -> set[str]:
    """Return every dependency that pyproject.toml declares, those of extras too, in small letters."""
    lines = [
        *PROJECT["project"]["dependencies"],
        *chain(*PROJECT["project"]["optional-dependencies"].values()),
    ]
    return {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in lines} - {"antiphon"}


def test_every_folder_with_an_init_is_installed_and_no_other() -> None:
    assert sorted(SETUPTOOLS["packages"]) == sorted(import_name(folder) for folder in folders_on_disk())


@pytest.mark.parametrize("package", sorted(set(FOLDERS) - {"antiphon"}))
def test_the_link_of_a_checkout_leads_to_the_mapped_folder(package: str) -> None:
    link = ROOT / Path(*package.split("."))
    if not link.is_symlink():
        pytest.skip("this checkout was made without symbolic links")
    assert link.resolve() == folder_of(package)
    assert not link.readlink().is_absolute()


def test_every_file_that_is_not_python_is_package_data() -> None:
    patterns: dict[str, list[str]] = SETUPTOOLS["package-data"]
    missing = []
    for package in SETUPTOOLS["packages"]:
        folder = folder_of(package)
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            inner = f"{package}.{inside.parts[0]}" in SETUPTOOLS["packages"]
            if inner or path.is_dir() or path.name.startswith(".") or path.suffix in {".py", ".pyc"}:
                continue
            if not any(fnmatch(inside.as_posix(), pattern) for pattern in patterns.get(package, [])):
                missing.append(str(path.relative_to(ROOT)))
    assert not missing, f"not in the wheel: {missing}; add them to [tool.setuptools.package-data]"


def test_constraints_pin_every_declared_dependency_exactly_and_nothing_else() -> None:
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9.]+)", line)
            assert match, f"constraints.txt: not an exact version: {line}"
            pinned[match.group(1).lower()] = match.group(2)
    assert pinned.keys() == requirements()

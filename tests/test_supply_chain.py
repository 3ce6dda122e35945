"""The lowest versions, the bill of materials, and the promises of SECURITY.md: numbers and names in them are true."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from antiphon.telemetry.tab import loader
from tests.test_packaging import PROJECT, ROOT, requirements

SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def script(name: str) -> ModuleType:
    """Load a script of the folder .ci."""
    spec = importlib.util.spec_from_file_location(f"ci_{name}", ROOT / ".ci" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_lowest_versions_are_those_of_the_declared_requirements() -> None:
    lowest = script("lowest").lowest
    lines = list(lowest(PROJECT["project"]))
    assert {"numpy==1.26", "pandas==2.2", "torch==2.11"} <= set(lines)
    assert {line.partition("==")[0].lower() for line in lines} == requirements()
    with pytest.raises(ValueError, match="'numpy' must be NAME>=VERSION"):
        list(lowest({"name": "x", "dependencies": ["numpy"], "optional-dependencies": {}}))


@pytest.mark.long
def test_the_bill_has_every_required_distribution_the_extras_and_what_the_repository_holds(
    tmp_path: Path,
) -> None:
    path = tmp_path / "new" / "sbom.json"
    assert script("sbom").main([str(path)]) == 0
    text = path.read_text(encoding="utf-8")
    script("sbom").main([str(path)])
    assert path.read_text(encoding="utf-8") == text
    bill: dict[str, Any] = json.loads(text)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    components = {component["name"]: component for component in bill["components"]}
    assert len(components) == len(bill["components"])
    for line in PROJECT["project"]["dependencies"]:
        name = re.split(r"[^A-Za-z0-9._-]", line)[0].lower()
        component = components[name]
        assert (component["scope"], component["version"]) == ("required", distribution(name).version)
        assert component["licenses"][0]["license"]["name"]
        assert re.fullmatch(r"pkg:pypi/[a-z0-9.-]+@[A-Za-z0-9.%]+", component["purl"])
    assert components["grpcio"]["scope"] == "required"  # of TensorBoard
    assert "properties" not in components["numpy"]
    assert {"pytest", "sphinx", "mypy"}.isdisjoint(components)
    if "pooch" in components:
        assert components["pooch"]["scope"] == "optional"
        assert [item["value"] for item in components["pooch"]["properties"]] == ["data"]
    refs = {component["bom-ref"] for component in [*bill["components"], bill["metadata"]["component"]]}
    needs = {dependency["ref"]: set(dependency.get("dependsOn", [])) for dependency in bill["dependencies"]}
    assert needs.keys() == refs
    assert set.union(*needs.values()) == refs - {bill["metadata"]["component"]["bom-ref"]}
    head = (ROOT / "telemetry/tab/static/vendor/uPlot.iife.min.js").read_text(encoding="utf-8")[:200]
    assert f"(v{components['uplot']['version']})" in head
    data = {path.name for path in (ROOT / "envs/files").glob("LICENSE-*")}
    assert (
        len([component for component in bill["components"] if component["type"] == "data"]) == len(data) == 2
    )


def test_the_limits_in_security_md_are_those_of_the_code() -> None:
    assert f"rows that TensorBoard keeps of a metric: {loader._SAMPLES:,}, unless" in SECURITY


def test_targets_and_files_that_security_md_names_exist() -> None:
    targets = set(
        re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert set(re.findall(r"`make ([a-z-]+)`", SECURITY)) <= targets
    for link in re.findall(r"\]\(([^)#]+)", SECURITY):
        assert (ROOT / link).is_file(), link
    assert "SECURITY.md" in (ROOT / "MANIFEST.in").read_text(encoding="utf-8")

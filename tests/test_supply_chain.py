"""The lowest versions, the bill of materials, and the promises of SECURITY.md: numbers and names in them are true."""

from __future__ import annotations

import importlib.util
import re
import sys
from importlib.metadata import PackageNotFoundError, PathDistribution, distribution
from pathlib import Path
from types import ModuleType
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from antiphon.telemetry.channels import limits
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
    assert {"protobuf==6.31.1", "pandas==2.2", "torch==2.11"} <= set(lines)
    assert sorted(line.partition("==")[0] for line in lines) == sorted(requirements())
    with pytest.raises(ValueError, match="'numpy' must be NAME>=VERSION"):
        list(lowest({"name": "x", "dependencies": ["numpy"], "optional-dependencies": {}}))


class Strict(BaseModel):
    """Part of a CycloneDX 1.6 document, as far as it is written here."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Licence(Strict):
    name: str | None = Field(default=None, min_length=1)
    id: Literal["MIT", "CC-BY-4.0"] | None = None


class LicenceChoice(Strict):
    license: Licence


class Property(Strict):
    name: Literal["antiphon:extra"]
    value: str


class Component(Strict):
    type: Literal["application", "library", "data"]
    ref: str = Field(alias="bom-ref", min_length=1)
    name: str = Field(min_length=1)
    version: str | None = None
    purl: str | None = Field(default=None, pattern=r"^pkg:(pypi|npm)/[a-z0-9.-]+@[A-Za-z0-9.%]+$")
    scope: Literal["required", "optional"] | None = None
    licenses: list[LicenceChoice]
    properties: list[Property] = []


class Dependency(Strict):
    ref: str
    depends_on: list[str] = Field(default=[], alias="dependsOn")


class Metadata(Strict):
    component: Component


class Bill(Strict):
    schema_: Literal["http://cyclonedx.org/schema/bom-1.6.schema.json"] = Field(alias="$schema")
    format: Literal["CycloneDX"] = Field(alias="bomFormat")
    spec: Literal["1.6"] = Field(alias="specVersion")
    serial: str = Field(alias="serialNumber", pattern=r"^urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
    version: Literal[1]
    metadata: Metadata
    components: list[Component]
    dependencies: list[Dependency]


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> Bill:
    """The bill of materials of this environment."""
    path = tmp_path_factory.mktemp("dist") / "new" / "sbom.json"
    assert script("sbom").main([str(path)]) == 0
    first = path.read_text(encoding="utf-8")
    script("sbom").main([str(path)])
    assert path.read_text(encoding="utf-8") == first
    return Bill.model_validate_json(first)


def test_the_bill_has_every_required_distribution_with_version_and_licence(bill: Bill) -> None:
    components = {component.name: component for component in bill.components}
    assert len(components) == len(bill.components)
    for line in PROJECT["project"]["dependencies"]:
        name = re.split(r"[^A-Za-z0-9._-]", line)[0].lower()
        assert components[name].scope == "required", name
        assert components[name].version == distribution(name).version
        assert (components[name].licenses[0].license.name or "?") != "?"
    assert components["grpcio"].scope == "required"  # of TensorBoard
    assert {"pytest", "sphinx", "mypy"}.isdisjoint(components)


def test_what_only_extras_need_is_optional_and_says_which(bill: Bill) -> None:
    components = {component.name: component for component in bill.components}
    try:
        distribution("pooch")
    except PackageNotFoundError:
        pytest.skip("pooch is not installed")
    assert components["pooch"].scope == "optional"
    assert [item.value for item in components["pooch"].properties] == ["data"]
    assert components["numpy"].properties == []


def test_every_reference_of_the_bill_leads_to_a_component(bill: Bill) -> None:
    refs = {component.ref for component in bill.components} | {bill.metadata.component.ref}
    assert {dependency.ref for dependency in bill.dependencies} == refs
    reached, waiting = set(), [bill.metadata.component.ref]
    needs = {dependency.ref: dependency.depends_on for dependency in bill.dependencies}
    while waiting:
        ref = waiting.pop()
        if ref not in reached:
            reached.add(ref)
            waiting += needs[ref]
    assert reached == refs


def test_what_the_repository_holds_of_others_is_in_the_bill(bill: Bill) -> None:
    (uplot,) = (component for component in bill.components if component.name == "uplot")
    script_text = (ROOT / "telemetry/channels/static/vendor/uPlot.iife.min.js").read_text(encoding="utf-8")
    assert f"(v{uplot.version})" in script_text[:200]
    data = {path.name for path in (ROOT / "envs/data").glob("LICENSE-*")}
    assert data == {"LICENSE-digits.txt", "LICENSE-text.txt"}
    assert len([component for component in bill.components if component.type == "data"]) == len(data)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"License-Expression": "MIT AND 0BSD", "License": "x"}, "MIT AND 0BSD"),
        ({"License": "BSD-3-Clause"}, "BSD-3-Clause"),
        ({"License": "Copyright (c) 2015"}, ""),
        (
            {"License": "=====\nmuch text", "Classifier": "License :: OSI Approved :: BSD License"},
            "BSD License",
        ),
        ({"Classifier": "Programming Language :: Python"}, ""),
    ],
)
def test_the_licence_in_metadata(tmp_path: Path, fields: dict[str, str], expected: str) -> None:
    folder = tmp_path / "x-1.dist-info"
    folder.mkdir()
    lines = [f"{name}: {value.replace(chr(10), chr(10) + '        ')}" for name, value in fields.items()]
    (folder / "METADATA").write_text(
        "\n".join(["Metadata-Version: 2.4", "Name: x", "Version: 1", *lines, ""])
    )
    assert script("sbom").licence_of(distribution_at(folder)) == expected


def distribution_at(folder: Path) -> PathDistribution:
    return PathDistribution(folder)


def test_the_limits_in_security_md_are_those_of_the_code() -> None:
    assert f"| {limits.ANSWER_BYTES // 2**20} MiB; of more" in SECURITY
    assert f"| {limits.DOCUMENT_BYTES // 2**20} MiB each |" in SECURITY
    assert f"covariance of {limits.COMPONENTS:,};" in SECURITY


def test_targets_and_files_that_security_md_names_exist() -> None:
    targets = set(
        re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert set(re.findall(r"`make ([a-z-]+)`", SECURITY)) <= targets
    for link in re.findall(r"\]\(([^)#]+)", SECURITY):
        assert (ROOT / link).is_file(), link
    assert "SECURITY.md" in (ROOT / "MANIFEST.in").read_text(encoding="utf-8")

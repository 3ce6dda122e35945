"""Modules as one script: what the rule lets pass, what it refuses, and that the front end keeps to it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from antiphon.errors import EngineError
from antiphon.telemetry.channels.frontend import bundled, sheet, vendored

TWO = "export const TWO = 2;\nfunction hidden() {\n  return TWO;\n}\n"
FOUR = 'import { TWO } from "./two.js";\n// import("./x.js") in a comment is nobody\'s\nexport function four() {\n  return TWO + TWO;\n}\n'


def write(folder: Path, **modules: str) -> Path:
    for name, text in modules.items():
        (folder / f"{name}.js").write_text(text, encoding="utf-8")
    return folder


def test_modules_come_after_those_they_need_without_imports_and_exports(tmp_path: Path) -> None:
    script = bundled(write(tmp_path, four=FOUR, two=TWO, index='import "./four.js";\n'))
    assert script.index("const TWO = 2;") < script.index("function four()")
    assert not re.search(r"^(import|export)\b", script, re.MULTILINE)
    assert "index.js" not in script


def test_line_ends_of_another_system_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "two.js").write_bytes(TWO.replace("\n", "\r\n").encode())
    assert "\r" not in bundled(tmp_path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('import two from "./two.js";', "an import that is not"),
        ('import * as two from "./two.js";', "an import that is not"),
        ('import { TWO as three } from "./two.js";', "an import that is not"),
        ('import { TWO } from "elsewhere";', "an import that is not"),
        ("import {", "an import that is not"),
        ("export default four;", "an export that is not"),
        ("export { four };", "an export that is not"),
        ("export const { a } = four;", "an export that is not"),
        ("const { a } = four;", "not of one name"),
        ("let a, b;", "not of one name"),
        ("await four();", "await"),
        ('  const later = import("./two.js");', "import\\(\\)"),
        ("  const here = import.meta.url;", "import.meta"),
        ('import { five } from "./two.js";', "'five', which two.js does not export"),
        ('import { hidden } from "./two.js";', "'hidden', which two.js does not export"),
        ('import { TWO } from "./three.js";', "three.js, which is not there"),
        ("const TWO = 3;", "declares 'TWO'"),
        ("async function hidden() {}", "declares 'hidden'"),
        ('const text = "</script>";', "</script"),
        ('const text = "<!-- ";', "<!--"),
    ],
)
def test_what_cannot_be_put_into_one_script_is_refused_by_name(tmp_path: Path, line: str, said: str) -> None:
    folder = write(tmp_path, two=TWO, wrong=f"{line}\n")
    with pytest.raises(EngineError, match=said) as error:
        bundled(folder)
    assert "wrong.js" in str(error.value) or "two.js" in str(error.value)


def test_modules_that_import_each_other_in_a_circle_are_refused(tmp_path: Path) -> None:
    there = 'import { b } from "./b.js";\nexport const a = 1;\n'
    back = 'import { a } from "./a.js";\nexport const b = 1;\n'
    with pytest.raises(EngineError, match="circle"):
        bundled(write(tmp_path, a=there, b=back))


def test_sheets_may_load_nothing(tmp_path: Path) -> None:
    (tmp_path / "style.css").write_text("body { background: url(http://elsewhere/x.png) }")
    with pytest.raises(EngineError, match="url"):
        sheet(tmp_path)


def test_the_front_end_keeps_to_the_rule() -> None:
    script = bundled()
    assert "function mount(" in script
    assert "class EmbeddedSource" in script
    assert "uPlot" in vendored("uPlot.iife.min.js")
    assert ".uplot" in sheet()
    assert ".ap" in sheet()

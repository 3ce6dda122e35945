"""Modules as one script, and the rule that the front end keeps to."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from antiphon.telemetry.tab.frontend import bundled, sheet, vendored

TWO = "export const TWO = 2;\nfunction hidden() {\n  return TWO;\n}\n"
FOUR = 'import { TWO } from "./numbers/two.js";\nexport function four() {\n  return TWO + TWO;\n}\n'


def write(folder: Path, **modules: str) -> Path:
    for name, text in modules.items():
        path = folder / f"{name.replace('_', '/')}.js"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def test_modules_come_after_those_they_need_without_imports_and_exports(tmp_path: Path) -> None:
    script = bundled(write(tmp_path, four=FOUR, numbers_two=TWO, index='import "./four.js";\n'))
    assert script.index("const TWO = 2;") < script.index("function four()")
    assert not re.search(r"^(import|export)\b", script, re.MULTILINE)
    assert "index.js" not in script


def test_the_front_end_keeps_to_the_rule() -> None:
    script = bundled()
    assert not re.search(r"^(import|export|await)\b|\bimport\s*[(.]", script, re.MULTILINE)
    declared = re.findall(
        r"^(?:async function|function\*?|class|const|let|var) ([\w$]+)", script, re.MULTILINE
    )
    assert [name for name, times in Counter(declared).items() if times > 1] == []
    assert {"mount", "EmbeddedSource"} <= set(declared)
    assert "uPlot" in vendored("uPlot.iife.min.js")
    for text in (script, vendored("uPlot.iife.min.js")):
        assert not re.search(r"</script|<!--", text, re.IGNORECASE)
    assert ".uplot" in sheet()
    assert ".ap" in sheet()
    assert not re.search(r"</style|@import|url\(", sheet(), re.IGNORECASE)

"""Texts as numbers: found, read, parted, and refused in one line."""

import re
from pathlib import Path

import pytest

from antiphon.envs.datasets import texts
from antiphon.errors import DataError


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that texts are read from."""
    (tmp_path / "text").mkdir()
    monkeypatch.setenv("ANTIPHON_DATA", str(tmp_path))
    return tmp_path / "text"


def test_the_embedded_text() -> None:
    text = texts.load(texts.EMBEDDED)
    train, validation, test = (text.characters(text.splits[name]) for name in ("train", "validation", "test"))
    whole = train + validation + test
    assert 60_000 < len(whole) < 100_000
    assert whole.startswith("CHAPTER 1. Loomings.\n\nCall me Ishmael.")
    assert (len(train), len(train + validation)) == (len(whole) * 90 // 100, len(whole) * 95 // 100)
    assert text.vocabulary == "".join(sorted(set(train)))
    assert text.classes == len(text.vocabulary) + 1
    assert texts.load(texts.EMBEDDED) is text


def test_a_text_written_out(shelf: Path) -> None:
    (shelf / "abc.txt").write_text("cabé" * 9 + "aé" + "zb", encoding="utf-8")
    text = texts.load("abc")
    assert text.vocabulary == "abcé"
    assert text.splits["train"].tolist() == [2, 0, 1, 3] * 9
    assert text.splits["validation"].tolist() == [0, 3]
    assert text.splits["test"].tolist() == [4, 1]  # z is unknown
    assert texts.load(str(shelf / "abc.txt")).vocabulary == text.vocabulary
    assert text.characters(text.splits["test"]) == "\ufffdb"


def test_a_changed_file_is_read_again(shelf: Path) -> None:
    (shelf / "new.txt").write_text("ab" * 30)
    assert texts.load("new").vocabulary == "ab"
    (shelf / "new.txt").write_text("abc" * 30)
    assert texts.load("new").vocabulary == "abc"


def test_bytes_that_are_not_utf_8(shelf: Path) -> None:
    (shelf / "latin.txt").write_bytes("é caf".encode() + b"\xe9" + b" bar" * 20)
    expected = (
        f"{shelf / 'latin.txt'}: byte 6 is not UTF-8 (invalid continuation byte); save the text as UTF-8"
    )
    with pytest.raises(DataError, match=re.escape(expected)):
        texts.load("latin")


@pytest.mark.parametrize(
    ("length", "split"),
    [
        (0, "train"),
        (20, "validation"),
    ],
)
def test_a_text_too_short_to_be_parted(shelf: Path, length: int, split: str) -> None:
    (shelf / "short.txt").write_text("a" * length)
    with pytest.raises(DataError, match=rf"short\.txt: {length} characters leave \d for the {split} split"):
        texts.load("short")


def test_a_name_that_is_not_there(shelf: Path, tmp_path: Path) -> None:
    for name in ("moby", "iliad"):
        (shelf / f"{name}.txt").write_text("a b" * 30)
    with pytest.raises(
        DataError, match=r"no text 'mobi' in .*text \(of ANTIPHON_DATA\); did you mean 'moby'\?"
    ):
        texts.load("mobi")
    with pytest.raises(DataError, match=r"no text 'xyz' in .*; known: embedded, iliad, moby"):
        texts.load("xyz")
    (tmp_path / "secret.txt").write_text("a b" * 30)
    with pytest.raises(DataError, match=r"no text '\.\./secret'"):
        texts.load("../secret")


def test_nowhere_to_look(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTIPHON_DATA", raising=False)
    with pytest.raises(DataError, match=r"no text 'moby': ANTIPHON_DATA is not set; set it to a folder"):
        texts.load("moby")
    monkeypatch.setenv("ANTIPHON_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"which has no folder text; set it to a folder with text/moby\.txt"):
        texts.load("moby")

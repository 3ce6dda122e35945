"""Messages for the Projector tab."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format  # type: ignore[import-untyped]
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import (  # type: ignore[import-untyped]
    ProjectorConfig,
)

from antiphon.engine.simulation import Simulation
from antiphon.errors import RunError
from antiphon.telemetry.channels.frontend import STATIC
from antiphon.telemetry.pictures import LABEL_COLOURS
from antiphon.telemetry.tensorboard import write_projector

MESSAGES = np.array([[0.5, -1, 3], [np.nan, 0, 1], [2, 3, np.nan]], dtype=np.float32)


def config_of(folder: Path) -> ProjectorConfig:
    return text_format.Parse(
        (folder / "projector_config.pbtxt").read_text(encoding="utf-8"), ProjectorConfig()
    )


def test_tables_with_a_line_per_message_that_is_finite(tmp_path: Path) -> None:
    write_projector(tmp_path, [("a->b", MESSAGES)])
    (embedding,) = config_of(tmp_path).embeddings
    assert embedding.tensor_name == "a->b"
    assert (tmp_path / embedding.tensor_path).read_text(encoding="utf-8") == "0.5\t-1\n2\t3\n"
    assert (tmp_path / embedding.metadata_path).read_text(encoding="utf-8") == "3\n–\n"


def sprite_of(folder: Path) -> tuple[np.ndarray, Image.Image]:  # type: ignore[type-arg]
    """The colours in the middle of the cells of the one embedding's picture, and the picture."""
    (embedding,) = config_of(folder).embeddings
    picture = Image.open(folder / embedding.sprite.image_path)
    cell = embedding.sprite.single_image_dim[0]
    pixels = np.asarray(picture)[cell // 2 :: cell, cell // 2 :: cell]
    return pixels.reshape(-1, 4), picture


def test_points_start_in_the_colours_of_their_labels(tmp_path: Path) -> None:
    labels = np.array([0, 1, 9, 10, np.nan])
    write_projector(tmp_path, [("a->b", np.column_stack([np.ones((5, 3)), labels]))])
    middles, picture = sprite_of(tmp_path)
    assert picture.mode == "RGBA"
    assert picture.size == (96, 96)  # three by three cells
    found = ["#" + bytes(middle[:3]).hex() for middle in middles[:5]]
    assert found[:4] == [LABEL_COLOURS[place] for place in (0, 1, 9, 0)]
    assert found[4] not in LABEL_COLOURS
    assert middles[:, 3].tolist() == [255] * 5 + [0] * 4
    assert picture.getpixel((0, 0))[3] == 0  # a disc, no square


def test_labels_that_are_no_categories_have_a_scale(tmp_path: Path) -> None:
    write_projector(tmp_path, [("a->b", np.column_stack([np.ones((3, 3)), [-1.5, 0.0, 2.5]]))])
    middles, _ = sprite_of(tmp_path)
    reds = middles[:3, 0].astype(int)
    assert reds[0] > reds[1] > reds[2]


def test_the_tab_draws_labels_in_the_same_colours() -> None:
    script = (STATIC / "colours.js").read_text(encoding="utf-8")
    (light,) = re.findall(r"CATEGORIES = \{\s*light: \[([^\]]*)\]", script)
    assert tuple(re.findall("#[0-9a-f]{6}", light)) == LABEL_COLOURS


def test_without_labels_there_are_none(tmp_path: Path) -> None:
    write_projector(tmp_path, [("a->b", np.where([False, False, True], np.nan, np.ones((4, 3))))])
    (embedding,) = config_of(tmp_path).embeddings
    assert not embedding.metadata_path
    assert not embedding.sprite.image_path


def test_names_make_no_paths_and_few_channels_are_shown(tmp_path: Path) -> None:
    rows = [(f'../{i}->"<b>', MESSAGES) for i in range(20)]
    write_projector(tmp_path, rows)
    found = config_of(tmp_path).embeddings
    assert [embedding.tensor_name for embedding in found] == [name for name, _ in rows[:8]]
    assert {path.parent for path in tmp_path.rglob("*.tsv")} == {tmp_path / "projector"}
    assert len(list((tmp_path / "projector").iterdir())) == 24


@pytest.mark.parametrize("rows", [[], [("a->b", np.ones((5, 2)))], [("a->b", np.ones((1, 4)))]])
def test_where_there_is_nothing_to_project_there_is_no_file(
    tmp_path: Path, rows: list[tuple[str, np.ndarray]]
) -> None:  # type: ignore[type-arg]
    write_projector(tmp_path, rows)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be written"):
        write_projector(tmp_path / "nowhere", [("a->b", MESSAGES)])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "projector").mkdir()
    os.mkfifo(tmp_path / "projector" / "0.tsv")
    with pytest.raises(RunError, match=r"0\.tsv: is a link, a folder or a special file"):
        write_projector(tmp_path, [("a->b", MESSAGES)])


def test_a_run_that_ends_leaves_them(tmp_path: Path) -> None:
    with Simulation("digits-mlp", logdir=tmp_path / "run") as simulation:
        simulation.run(steps=3)
    found = config_of(tmp_path / "run").embeddings
    assert [embedding.tensor_name for embedding in found] == ["n2->n3", "n0->n1", "n1->n2"]
    for embedding in found:
        lines = (tmp_path / "run" / embedding.tensor_path).read_text(encoding="utf-8").splitlines()
        labels = (tmp_path / "run" / embedding.metadata_path).read_text(encoding="utf-8").splitlines()
        assert len(lines) == len(labels) > 10
        assert set(labels) <= set("0123456789")

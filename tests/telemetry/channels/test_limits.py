"""What one request of the Channels tab may cost: long tags, wide messages, large documents, long names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from werkzeug.test import Client

from antiphon.telemetry.channels import limits
from antiphon.telemetry.channels.limits import COMPONENTS
from antiphon.telemetry.channels.series import Messages, cloud
from tests.telemetry.channels.serving import client, figure, get, refused
from tests.telemetry.channels.writing import rows, write


def served(folder: Path) -> Client:
    """Return a client of TensorBoard that keeps every row."""
    return client(folder, samples_per_plugin={"antiphon": 0})


def test_of_too_many_rows_an_even_sample_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", rows(range(1, 201)))
    found = served(tmp_path)
    assert get(found, "catalog", run="a").json["sampled"] is False
    monkeypatch.setattr(limits, "ANSWER_BYTES", 50 * (8 + 4 * 2) + 3)
    assert get(found, "catalog", run="a").json["sampled"] is True
    steps, values = figure(get(found, "figure", run="a", kind="agent", metric="loss"))
    assert len(steps) == 50
    assert steps[-1] == 200
    assert values[:, 0].tolist() == steps


def test_a_row_that_alone_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", {**rows([1]), 2: {"antiphon/messages/0": np.ones((5, 8))}})
    found = served(tmp_path)
    monkeypatch.setattr(limits, "ANSWER_BYTES", 15)
    refused(get(found, "figure", run="a", kind="agent", metric="loss"), 500, "a row of 2 values is too long")
    refused(
        get(found, "cloud", run="a", channel=0), 500, "antiphon/messages/0: a row of 40 values is too long"
    )


def test_a_document_that_is_too_long_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a", rows([1]), timeline={"agents": [], "channels": []})
    found = client(tmp_path)
    monkeypatch.setattr("antiphon.telemetry.channels.plugin.DOCUMENT_BYTES", 20)
    for path, tag in (("graph", "graph"), ("catalog", "graph"), ("timeline", "timeline")):
        refused(get(found, path, run="a"), 500, f"'a': antiphon/{tag} has ")


def test_wide_messages_vary_along_the_directions_of_their_covariance() -> None:
    generator = np.random.default_rng(1)
    hidden = generator.normal(size=(90, 3)) * [5.0, 2.0, 0.1]
    wide = hidden @ generator.normal(size=(3, COMPONENTS + 1))
    samples = np.concatenate([wide, np.zeros((90, 1))], axis=1).astype(np.float32)
    found = cloud(Messages(np.array([1, 2]), [samples[:50], samples[50:]]))
    deviations = samples[:, :-1].astype(np.float64) - samples[:, :-1].mean(0)
    variances, directions = np.linalg.eigh(np.cov(deviations.T, bias=True))
    expected = np.abs(deviations @ directions[:, :-3:-1])
    got = np.abs(np.concatenate([found.points[0], found.points[1][:40]]))
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.explained, variances[:-3:-1] / variances.sum(), rtol=1e-5)

"""Where calls run: errors, the precision of matrix products, and Ctrl-C while a process begins."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from antiphon.jobs.processes import Here, Processes
from antiphon.nets.isolation.own_context import matmul_precision


def failing(word: str) -> None:
    raise ValueError(word)


def test_an_error_here_is_that_of_the_call_as_in_other_processes() -> None:
    call = Here().submit(failing, "it fails")
    assert str(call.exception()) == "it fails"


@pytest.mark.long
def test_each_call_has_the_precision_that_the_caller_has_then() -> None:
    found = []
    with Processes() as place:
        for precision in ("highest", "high"):
            torch.set_float32_matmul_precision(precision)
            found.append((matmul_precision(), place.submit(matmul_precision).result()))
    assert found[0][0] != found[1][0]
    assert all(here == there for here, there in found)


PROGRAM = """
import os, signal
from antiphon.jobs.processes import Processes

seen = []
signal.signal(signal.SIGINT, lambda *_: seen.append(1))
with Processes() as place:
    print("begins", flush=True)
    call = place.submit(len, "done")
    print(call.result(), len(seen) > 0, flush=True)
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups")
def test_a_process_that_begins_is_spared_a_ctrl_c() -> None:
    words = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "begins\n"
        for _ in range(8):
            time.sleep(0.05)
            try:
                os.killpg(program.pid, signal.SIGINT)
            except ProcessLookupError:
                break
        out, err = program.communicate(timeout=120)
    assert (out, err) == ("4 True\n", "")

"""When a task counts as solved, how it grows, and that all of it is state."""

import pytest

from antiphon.envs.copying import Copy, RepeatCopy
from tests.kit.some import some


def update(curriculum: Copy, error: float, times: int) -> None:
    for _ in range(times):
        curriculum.grow(error)


def test_a_task_grows_below_the_threshold_after_twenty_episodes() -> None:
    curriculum = Copy(1, Copy.Options())
    update(curriculum, 0.14, 19)
    assert curriculum.metrics() == {"difficulty": 1, "solved": 0, "bits": pytest.approx(0.14)}
    curriculum.grow(0.14)
    assert curriculum.metrics() == {"difficulty": 2, "solved": 1 + 3}
    update(curriculum, 0.15, 100)
    assert curriculum.metrics()["difficulty"] == 2


def test_the_mean_starts_from_the_first_error_and_forgets_by_a_twentieth() -> None:
    curriculum = Copy(1, Copy.Options())
    curriculum.grow(1.0)
    assert curriculum.bits == 1.0
    curriculum.grow(0.0)
    curriculum.grow(0.5)
    assert curriculum.bits == pytest.approx(0.95 * 0.95 + 0.05 * 0.5)
    update(curriculum, 0.0, 35)
    assert curriculum.difficulty.length == 1  # 0.95^36 > 0.15 > 0.95^37
    update(curriculum, 0.0, 3)
    assert curriculum.difficulty.length == 2


def test_repeat_copy_grows_by_turns_as_far_as_the_product_fits() -> None:
    curriculum = RepeatCopy(1, RepeatCopy.Options(max_length=10))
    seen = []
    for _ in range(7):
        seen.append((curriculum.difficulty.length, curriculum.difficulty.repeats))
        update(curriculum, 0.0, 20)
    assert seen == [(1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (3, 3), (3, 3)]
    assert curriculum.solved == 9 + 3
    later = RepeatCopy.Options(length=3, repeats=1)
    harder = some(later.harder(later.start))
    assert (harder.length, harder.repeats) == (4, 1)

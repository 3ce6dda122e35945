"""Every setting of a scenario is obeyed or refused: it is changed alone, and must show in some scene."""

from __future__ import annotations

import pytest

from antiphon.base.kinds import kinds_of, own_keys_of, sections
from tests.kit.tiers import sampled
from tests.obeyed.given import OBJECTS, UNSEEN
from tests.obeyed.settings import Setting
from tests.obeyed.trial import places, tried

SETTINGS = [one for one in places() if str(one) not in OBJECTS]


@pytest.mark.long
def test_every_setting_stands_in_a_scene() -> None:
    known = {str(one) for one in places()}
    missing = set[str]()
    for section in sections():
        for kind in kinds_of(section):
            missing |= {f"{section} {kind}.{key}" for key in own_keys_of(section, kind)} - known
    assert {name for name in missing if name not in OBJECTS} == set()


@pytest.mark.long
@pytest.mark.parametrize("setting", sampled(SETTINGS, 10, "nightly"), ids=str)
def test_a_changed_setting_shows_or_is_refused(setting: Setting) -> None:
    trial = tried(setting)
    if str(setting) in UNSEEN:
        assert not trial.obeyed, f"{setting} has an effect now: it is no exception any more"
        return
    assert trial.obeyed or trial.refused or trial.ignored, (
        f"{setting} was not tried: give it values in tests/obeyed/given.py"
    )
    assert trial.obeyed or not trial.ignored, f"{setting} is accepted and ignored: {trial.ignored}"

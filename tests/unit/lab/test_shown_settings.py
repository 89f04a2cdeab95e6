"""What `status` shows of settings: all that differ from what profile and mode have, and only that guest's."""

from __future__ import annotations

import pytest

from lab.livechange import changed, parse_changes
from lab.shownsettings import shown_settings
from machine.config import make_settings


def shown(words=(), **settings):
    """Name -> text, of a stack with these settings after `worldswitch set WORDS`."""
    made = make_settings(settings)
    return dict(shown_settings(changed(made, parse_changes(words)).as_map()))


@pytest.mark.parametrize("profile", ["paper", "fast"])
def test_zero_and_off_are_shown_where_they_differ(profile):
    """`set combining=off moderation_us=0` shows, although Python has 0 == False, and None is neither."""
    found = shown(["combining=off", "moderation_us=0", "combine_threshold=0", "combine_decay=0"], profile=profile)
    assert found["combining"] == "off"
    assert found["moderation_us"] == "0"
    assert found["combine_threshold"] == "0"
    assert found["combine_decay"] == "0.0"


def test_what_the_profile_has_anyway_is_not_shown():
    """Profile fast posts and lingers, profile paper does neither: only what is otherwise is worth a word."""
    assert not {"posted", "linger_us", "combine_cap", "combining"} & shown(profile="fast").keys()
    assert shown(profile="fast", posted=False, linger_us=0, combine_cap=3)["posted"] == "off"
    assert shown(profile="fast", linger_us=0)["linger_us"] == "0"
    assert shown(profile="fast", combine_cap=3)["combine_cap"] == "3"
    assert shown(profile="paper", posted=True)["posted"] == "on"


@pytest.mark.parametrize(
    ("guest", "has", "has_not"),
    [
        ("builtin", {"ram_mib", "driver", "hlt"}, {"memory", "accel"}),
        ("qemu", {"memory", "accel"}, {"ram_mib", "driver", "hlt"}),
        ("none", {"link", "mode"}, {"memory", "accel", "ram_mib", "driver", "hlt"}),
    ],
)
def test_only_settings_that_mean_something_for_the_guest(guest, has, has_not):
    """The built-in guest has no QEMU's memory, QEMU no guest driver of ours."""
    found = shown(guest=guest).keys()
    assert found >= has
    assert not found & has_not


def test_a_stack_of_an_earlier_version_is_shown():
    """Its record may lack settings that came later."""
    assert dict(shown_settings({"profile": "gone", "mode": "2.0", "cpus": [0, 1]})) == {
        "profile": "gone",
        "mode": "2.0",
        "cpus": "0,1",
    }

"""What may be set while a stack runs, and `up --set`: words to values, one line for every mistake. No privilege."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import cli
from lab.livechange import CABLE, LIVE, changed, parse_changes
from lab.options import add_settings, settings_from
from machine.config import Settings, make_settings, parse_value
from machine.errors import ConfigError


def up(*words):
    """Settings from options as `up` takes them."""
    parser = argparse.ArgumentParser()
    add_settings(parser)
    return settings_from(parser.parse_args(words))


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        (["mode=ports"], {"mode": "ports"}),
        (["ports=on", "combining=OFF", "notification=1"], {"ports": True, "combining": False, "notification": True}),
        (["combine_decay=0.25", "combine_cap=9"], {"combine_decay": 0.25, "combine_cap": 9}),
        (["tick_ms=5", "tick_ms=7"], {"tick_ms": 7}),
        (["link=down"], {CABLE: False}),
        (["link=up", "link=1gbit"], {CABLE: True, "link": "1gbit"}),
        (["hlt=vmm"], {"hlt": "vmm"}),
    ],
)
def test_words_become_values(words, changes):
    """Each KEY=VALUE gets the type of its setting; link=up and link=down are the cable's."""
    assert parse_changes(words) == changes


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("mode", "not KEY=VALUE"),
        ("speed=1", "unknown setting 'speed'"),
        ("cpus=0", "cpus can't change"),
        ("driver=napi", "driver can't change"),
        ("cable=1", "unknown setting"),
        ("ports=maybe", "bad ports 'maybe': on or off"),
        ("tick_ms=soon", "bad tick_ms 'soon'"),
        ("=", "unknown setting ''"),
    ],
)
def test_a_bad_word_is_one_line_and_status_2(word, said, capsys):
    """What can't be set is refused before any stack is looked for; an unknown key lists those that can."""
    assert cli.main(["set", word]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert said in err
    if "setting" in said or "can't" in said:
        assert all(key in err for key in LIVE)


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "3.0"},
        {"mode": []},
        {"tick_ms": 0},
        {"tick_ms": True},
        {"combine_decay": float("nan")},
        {"link": "fast"},
        {"link": 5},
        {"name": "other"},
        {"ports": "on"},
        None,
        [1],
        {7: 7},
    ],
)
def test_the_supervisor_refuses_bad_values_of_any_type(changes):
    """Whatever a client sends: checked settings, or one ConfigError."""
    with pytest.raises(ConfigError):
        changed(Settings(), changes)


def test_a_mode_switches_all_optimisations_that_are_not_named_beside_it():
    """The three switches are overridden by a later mode, but not by one in the same request."""
    single = changed(Settings(), {"notification": True})
    assert single.optimisations.notification
    assert not changed(single, {"mode": "ports"}).optimisations.notification
    both = changed(single, {"mode": "ports", "combining": True}).optimisations
    assert (both.ports, both.combining, both.notification) == (True, True, False)


def test_the_cable_is_no_setting():
    """Pulling the cable leaves the settings as they are."""
    assert changed(Settings(), {CABLE: False}) == Settings()


def test_up_takes_any_other_setting():
    """--set is repeatable, the last one wins, and every word for on and off works there as in a file."""
    settings = up("--set", "ports=on", "--set", "posted=false", "--set", "tick_ms=3", "--set", "tick_ms=4")
    assert (settings.ports, settings.posted, settings.tick_ms) == (True, False, 4)
    assert make_settings({"combining": "off", "posted": 1}).combining is False


@pytest.mark.parametrize("word", ["mode=2.0", "cpus=0", "probe_rounds=3", "speed=1", "ports", "posted=7"])
def test_up_set_refuses_what_is_not_its_own(word):
    """Settings that have an option, internal ones, unknown ones, and nonsense."""
    with pytest.raises(ConfigError):
        up("--set", word)


@given(st.sampled_from(sorted(LIVE)), st.text(max_size=8))
def test_no_text_breaks_the_parser(key, text):
    """Any text for any key: a value of settings, or a ConfigError."""
    try:
        changed(Settings(), parse_changes([f"{key}={text}"]))
    except ConfigError:
        pass


@given(st.booleans())
def test_booleans_read_back(value):
    """Every spelling of a boolean means the same."""
    words = ("on", "true", "1", "True", "ON") if value else ("off", "false", "0", "False", "OFF")
    assert {parse_value("posted", word) for word in words} == {value}

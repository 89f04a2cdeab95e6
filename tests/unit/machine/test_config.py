"""Settings: layers and profiles, the TOML file, the wire map, and one line for every bad value."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.config import CHOICES, MODES, PROFILES, Settings, load_file, make_settings, parse_value
from machine.errors import ConfigError

CPUS = tuple(sorted(os.sched_getaffinity(0)))


def refusal(**settings: object) -> str:
    """The message with which these settings are refused."""
    with pytest.raises(ConfigError) as caught:
        make_settings(settings)
    assert caught.value.exit_status == 2
    return str(caught.value)


def test_defaults_are_the_paper():
    """Without anything said: the paper's driver, one CPU, version 2.0, nothing posted."""
    made = make_settings()
    assert (made.profile, made.mode, made.driver, made.posted) == ("paper", "2.0", "linux22", False)
    assert made.one_cpu


def test_a_profile_sets_what_it_bundles():
    """Each profile's own values arrive, and nothing else differs from the defaults but its name."""
    for name, bundle in PROFILES.items():
        made = make_settings({"profile": name})
        assert made.cpus == (CPUS if name == "fast" else CPUS[:1])
        for field in dataclasses.fields(Settings):
            if field.name == "cpus":  # of no profile's table: they depend on who asks
                continue
            expected = bundle.get(field.name, name if field.name == "profile" else field.default)
            assert getattr(made, field.name) == expected, field.name


def test_later_layers_win_over_earlier_ones_and_all_over_the_profile():
    """Command line over file over profile over default."""
    file = {"profile": "fast", "driver": "linux22", "ram_mib": 32}
    line = {"ram_mib": 64, "mode": None}
    made = make_settings(file, line)
    assert (made.driver, made.ram_mib, made.posted, made.mode) == ("linux22", 64, True, "2.0")


def test_the_layers_are_left_alone():
    """make_settings changes none of the maps it is given, nor the profiles."""
    layer = {"profile": "fast", "cpus": "0"}
    before = json.dumps(PROFILES), dict(layer)
    make_settings(layer)
    assert (json.dumps(PROFILES), layer) == before


@pytest.mark.parametrize(
    ("text", "cpus"), [("0", (0,)), ([0], (0,)), ((0,), (0,)), (",".join(map(str, CPUS)), CPUS), ("0,0", (0, 0))]
)
def test_cpus(text: object, cpus: tuple[int, ...]):
    """A list of numbers, as text from the command line or as a TOML array."""
    assert make_settings({"cpus": text}).cpus == cpus


@pytest.mark.parametrize("cpus", ["", "x", "0,", "0-1", [], 3, ["a"], {"a": 1}, "4096", [-1], [0.5], [True]])
def test_bad_cpus(cpus: object):
    """What is no list of this machine's CPUs is refused."""
    assert refusal(cpus=cpus).startswith("bad cpus")


BAD = [
    ("name", ["", "A", "-a", "a-", "-", "--", "a b", "a/b", "x" * 21, 7, "a\n", None]),
    ("profile", ["slow", 1, ["paper"], {}]),
    ("mode", ["3.0", 2.0, "", []]),
    ("driver", ["e1000", {}, 0]),
    ("doorbell", ["bell", 0, []]),
    ("hlt", ["guest", True]),
    ("ram_mib", [0, -1, 1025, 1.5, "16", True, 1 << 80]),
    ("tick_ms", [0, 1001, "10", 2.5, False]),
    ("combine_threshold", [-1, 1_000_001, "500"]),
    ("combine_cap", [0, 513, 2.0]),
    ("combine_decay", [-0.1, 1, 1.0, "0.5", float("nan"), float("inf"), True]),
    ("probe_rounds", [-1, 10_001, "1"]),
    ("ports", ["yes", 2, [], 1.5]),
    ("combining", ["perhaps", -1]),
    ("notification", [{}, "", [False]]),
    ("posted", ["yes", 2, []]),
    ("link", [7, [], True, ""]),
    ("pcap", [7, [], True, "", "a\0b"]),
]


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in BAD for value in values if value is not None]
)
def test_every_bad_value_is_refused_in_one_line(key: str, value: object):
    """The message names the setting and the value; no other kind of error, and never two lines."""
    message = refusal(**{key: value})
    assert key in message
    assert "\n" not in message


@given(
    st.sampled_from([field.name for field in dataclasses.fields(Settings)]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    ),
)
def test_any_value_is_taken_or_refused(key: str, value: object):
    """Whatever TOML can say for any setting is either taken over or refused in one line."""
    message = ""
    try:
        make_settings({key: value})
    except ConfigError as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.parametrize("key", [key for key in CHOICES if key != "profile"])
def test_every_choice_is_taken(key: str):
    """Each name that is offered works."""
    for choice in CHOICES[key]:
        assert getattr(make_settings({key: choice}), key) == choice


def test_unknown_key():
    """A layer with a name that is no setting is refused like everything else."""
    assert "colour" in refusal(colour="red")


def test_settings_cross_the_wire():
    """as_map and from_map are inverse, by way of what msgpack and JSON can carry."""
    made = make_settings({"profile": "fast", "name": "a-1", "mode": "ports", "pcap": "x.pcapng", "combining": True})
    assert Settings.from_map(json.loads(json.dumps(made.as_map()))) == made


def test_settings_cannot_change():
    """They are the same in every process."""
    with pytest.raises(AttributeError):
        make_settings().name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(("text", "value"), [("on", True), ("TRUE", True), ("1", True), ("off", False), ("0", False)])
def test_words_for_on_and_off(text: str, value: bool):
    """Switches are spelled as people and TOML spell them."""
    assert parse_value("ports", text) is value
    assert make_settings({"posted": text}).posted is value


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [("ram_mib", "32", 32), ("combine_decay", "0.25", 0.25), ("mode", "ports", "ports"), ("cpus", "0", "0")],
)
def test_values_from_the_command_line(key: str, text: str, value: object):
    """Text becomes what its setting wants."""
    assert parse_value(key, text) == value


@pytest.mark.parametrize(
    ("key", "text"), [("ram_mib", "many"), ("combine_decay", ""), ("ports", "perhaps"), ("colour", "red")]
)
def test_bad_values_from_the_command_line(key: str, text: str):
    """What it cannot become is refused in one line that names the setting."""
    with pytest.raises(ConfigError, match=key):
        parse_value(key, text)


@pytest.mark.parametrize("mode", MODES)
def test_modes_are_bundles_of_optimisations(mode: str):
    """A mode is its three switches, and each can be switched by itself."""
    made = make_settings({"mode": mode})
    assert made.optimisations == MODES[mode]
    for key in ("ports", "combining", "notification"):
        for value in (True, False):
            switched = make_settings({"mode": mode, key: value}).optimisations
            assert getattr(switched, key) is value
            others = {"ports", "combining", "notification"} - {key}
            assert all(getattr(switched, other) == getattr(MODES[mode], other) for other in others)


def test_a_file(tmp_path: Path):
    """TOML: numbers, text, arrays, booleans."""
    path = tmp_path / "stack.toml"
    path.write_text('name = "lab"\nram_mib = 32\ncpus = [0]\nposted = true\ncombine_decay = 0.25\n')
    made = make_settings(load_file(path))
    assert (made.name, made.ram_mib, made.cpus, made.posted, made.combine_decay) == ("lab", 32, (0,), True, 0.25)


@pytest.mark.parametrize(
    ("text", "problem"),
    [(b"name = ", "is not TOML"), (b"\xff\xfe", "is not TOML"), (b"colour = 1", "unknown setting 'colour'")],
)
def test_bad_files(tmp_path: Path, text: bytes, problem: str):
    """What is wrong with a file is said in one line, with its path."""
    path = tmp_path / "stack.toml"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=problem) as caught:
        load_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path):
    """A file that is not there, or is a directory."""
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError, match="cannot read"):
            load_file(path)


def test_load_file_does_not_check_values(tmp_path: Path):
    """Values are checked once, where all layers have come together: a later layer may repair one."""
    path = tmp_path / "stack.toml"
    path.write_text("ram_mib = 0\n")
    assert make_settings(load_file(path), {"ram_mib": 8}).ram_mib == 8

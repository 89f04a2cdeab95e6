"""What control messages and records carry: names that are no text; and one line for what they cannot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import client
from lab.rundir import RunDirectory
from machine.control import Channel, pack, unpack
from machine.errors import ConfigError, ControlError


@given(st.binary(max_size=40))
def test_a_name_of_any_bytes_arrives(name: bytes) -> None:
    """As the operating system has it, surrogates and all."""
    here, there = Channel.pair()
    here.send({"name": os.fsdecode(name)})
    message = there.receive(1.0)
    assert message is not None
    assert os.fsencode(message["name"]) == name
    here.close()
    there.close()


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    found: Any = []
    for _ in range(levels):
        found = [found]
    return found


UNFIT = {"large": 2**64, "small": -(2**63) - 1, "surrogate": "\ud800", "deep": deep(2000), "object": object()}


@pytest.mark.parametrize("value", UNFIT.values(), ids=UNFIT)
def test_what_cannot_be_carried_is_one_line(value: Any) -> None:
    """By whoever sends it; nothing is sent."""
    with pytest.raises(ControlError, match="cannot be carried"):
        pack({"value": value})


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_an_error(packed: bytes) -> None:
    """No other exception, whatever a process sends."""
    try:
        unpack(packed)
    except ControlError:
        pass


@pytest.mark.parametrize(
    "packed",
    [
        b"\xc7\x03\xffabc",  # a timestamp of 3 bytes
        msgpack.packb(deep(400)) * 2,
        b"\xdf\xff\xff\xff\xff",  # a map of 2**32 - 1 entries
        b"\x81\x90\x01",  # a list as a key
        b"",
    ],
)
def test_rubbish_is_an_error(packed: bytes) -> None:
    """ControlError, which the supervisor's loop expects."""
    with pytest.raises(ControlError):
        unpack(packed)


def test_a_request_that_cannot_be_carried_is_the_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """`set combine_cap=10**30`, say: one line, before anybody is asked."""
    monkeypatch.setattr(client, "require_root", lambda: None)
    with pytest.raises(ConfigError, match="cannot be carried"):
        client.request("default", {"command": "set", "changes": {"combine_cap": 10**30}})


def test_a_record_keeps_names_that_are_no_text(tmp_path: Path) -> None:
    """It is written before anything is made, and read back by `down`."""
    directory = RunDirectory("names", tmp_path)
    directory.claim()
    name = os.fsdecode(b"/tmp/caf\xe9.pcapng")
    directory.save({"state": "starting", "settings": {"pcap": name}})
    record = directory.load()
    assert record is not None
    assert record["settings"]["pcap"] == name
    directory.release()

"""Settings that may change while a stack runs: what ``worldswitch set`` takes, and what the supervisor does with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final

from machine.config import OPTIMISATIONS, Settings, parse_value
from machine.errors import ConfigError
from machine.suggestion import did_you_mean
from netbackend.rate import parse_rate

__all__ = ["CABLE", "LIVE", "changed", "parse_changes"]

CABLE: Final = "cable"  # not a setting, but the state of the virtual NIC's cable: a boolean, True if plugged in

LIVE: Final = {
    "mode": "2.0, ports, combining or optimised; all three optimisations as the mode says",
    "ports": "on or off: the Lance's ports are handled in the vmm",
    "combining": "on or off: send combining",
    "notification": "on or off: received frames are announced in shared memory",
    "combine_threshold": "world switches per second from which packets may wait",
    "combine_decay": "weight of the past at each tick, 0 to 1",
    "combine_cap": "the packet that may not wait any more",
    "tick_ms": "period of the host timer",
    "moderation_us": "how soon after a world switch a received frame may force another one",
    "hlt": "host or vmm: where the guest's HLT waits",
    "link": "rate of the wire, or none; down and up pull and plug the virtual NIC's cable",
}

_CABLE_WORDS: Final = {"up": True, "down": False}


def parse_changes(words: Iterable[str]) -> dict[str, Any]:
    """What ``KEY=VALUE`` words ask for: setting -> value, and ``CABLE`` -> bool. ConfigError for nonsense."""
    changes: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"{word!r} is not KEY=VALUE; {_what_can()}")
        if key not in LIVE:
            raise ConfigError(f"{_why_not(key)}; {_what_can()}")
        if key == "link" and text in _CABLE_WORDS:
            changes[CABLE] = _CABLE_WORDS[text]
        else:
            changes[key] = parse_value(key, text)
    return changes


def _why_not(key: str) -> str:
    known = any(field.name == key for field in dataclasses.fields(Settings))
    if known:
        return f"{key} can't change while the stack runs"
    hint = did_you_mean(key, LIVE)
    return f"unknown setting {key!r}{hint and f':{hint}'}"


def _what_can() -> str:
    return f"what can be set is {', '.join(LIVE)}"


def changed(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """The settings after the changes, checked. A mode sets all optimisations that aren't named beside it."""
    try:
        wanted = {key: value for key, value in changes.items() if key != CABLE}
        if not wanted.keys() <= LIVE.keys():
            raise ConfigError(f"that can't change while the stack runs; {_what_can()}")
        if "mode" in wanted:
            wanted = dict.fromkeys(OPTIMISATIONS) | wanted
        after = dataclasses.replace(settings, **wanted)
        parse_rate(after.link)
    except (TypeError, AttributeError) as error:  # a client that speaks msgpack may send anything
        raise ConfigError(f"a value of the wrong kind: {error}") from None
    return after

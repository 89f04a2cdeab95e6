"""Which of a stack's settings a person is shown, and how they are written.

Shown is what means something for that guest and is either worth knowing always, or other than the profile and the mode
have it: 0 and "off" like any other value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Final

from machine.config import OPTIMISATIONS, PROFILES, Settings

__all__ = ["shown_settings"]

_ALWAYS: Final = (
    *("profile", "mode", "driver", "link", "doorbell", "cpus", "guest"),
    *("ram_mib", "memory", "accel", "tick_ms", "moderation_us", "hlt"),
)

# Settings that mean something for some guests only: for which. All others do for each.
_GUESTS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "driver": ("builtin",),
    "ram_mib": ("builtin",),
    "hlt": ("builtin",),
    "probe_rounds": ("builtin",),
    "memory": ("qemu",),
    "accel": ("qemu",),
    "qemu": ("qemu",),
    "kernel": ("qemu",),
    "initrd": ("qemu",),
    "disk": ("qemu",),
    "socket": ("none",),
}


def shown_settings(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, value as a person writes it) in the order of ``Settings``; ``settings`` as ``Settings.as_map`` has them.

    Settings of a stack that an earlier version started may be missing.
    """
    guest = settings.get("guest", "builtin")
    defaults = _defaults(settings)
    for key in (field.name for field in dataclasses.fields(Settings)):
        value = settings.get(key)
        if key == "name" or value is None or guest not in _GUESTS_OF.get(key, (guest,)):
            continue
        if key in _ALWAYS or not _same(value, defaults.get(key)):
            yield key, _text(value)


def _defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the profile has, or else every stack. An optimisation that is switched by itself is always shown."""
    fixed = {
        field.name: field.default
        for field in dataclasses.fields(Settings)
        if field.default is not dataclasses.MISSING and field.name not in OPTIMISATIONS
    }
    return fixed | PROFILES.get(str(settings.get("profile")), {})


def _same(value: object, default: object) -> bool:
    """Equal and of one kind: 0 is not "off", although Python has 0 == False."""
    return type(value) is type(default) and value == default


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

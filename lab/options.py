"""The command line's settings: one option each, and the layers that make them a :class:`Settings`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lab.arguments import absolute
from lab.perfsupport import check_perf_frames
from machine.config import CHOICES, Settings, load_file, make_settings, parse_value
from machine.descriptors import named_descriptor
from machine.errors import ConfigError
from machine.suggestion import did_you_mean
from netbackend.rate import parse_rate

__all__ = ["DEFAULT_NAME", "add_guest", "add_name", "add_settings", "settings_from"]

DEFAULT_NAME: Final = "default"

_TEXTS: Final = ("name", "profile", "mode", "driver", "link", "doorbell", "pcap")
_GUEST: Final = {  # options of foreign guests: setting -> (what it is called, help)
    "memory": ("SIZE", "QEMU's guest memory, such as 512M"),
    "accel": ("ACCEL", " or ".join(CHOICES["accel"])),
    "qemu": ("PROGRAM", "a QEMU with vfio-user-pci (10.1 or later), not the stock guest's"),
    "kernel": ("FILE", "another kernel than the stock guest's"),
    "initrd": ("FILE", "another initrd"),
    "disk": ("IMAGE", "a raw disk image; the guest boots from it if there is no --kernel"),
}
_FILES: Final = ("pcap", "qemu", "kernel", "initrd", "disk")
_OPTIONS: Final = (*_TEXTS, *_GUEST, "guest", "cpus", "profiling")
_INTERNAL: Final = ("probe_rounds", "socket")
_OTHERS: Final = tuple(
    field.name for field in dataclasses.fields(Settings) if field.name not in (*_OPTIONS, *_INTERNAL)
)


def add_name(parser: argparse.ArgumentParser) -> None:
    """``--name``, for commands that work on a stack that is there."""
    parser.add_argument("--name", default=DEFAULT_NAME, help="which stack (default: %(default)s)")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """An option for each setting a user may want to choose; all default to None, "not given"."""
    for key in ("profile", "mode", "driver", "doorbell"):
        parser.add_argument(f"--{key}", metavar=key.upper(), help=" or ".join(CHOICES[key]))
    parser.add_argument("--link", metavar="RATE", help="rate of the wire: 100mbit, 1gbit, any rate, or none")
    parser.add_argument("--cpus", metavar="LIST", help="CPUs for guest, vmm and vmapp, such as 0 or 0,1")
    parser.add_argument("--name", help=f"the stack's name (default: {DEFAULT_NAME})")
    parser.add_argument(
        "--profiling", action="store_true", default=None, help="let perf see Python functions (Python 3.12, -X perf)"
    )
    parser.add_argument("--pcap", metavar="FILE", help="capture the virtual NIC's frames in pcapng; -: standard output")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help=f"any of {', '.join(_OTHERS)}; repeatable"
    )
    parser.add_argument("--config", metavar="TOML", type=Path, help="settings from a file; options win over it")


def add_guest(parser: argparse.ArgumentParser) -> None:
    """Which guest, and what a foreign one needs; all default to None, "not given"."""
    group = parser.add_argument_group("the guest")
    group.add_argument("--guest", metavar="GUEST", help="builtin, or qemu: a stock kernel under QEMU, over vfio-user")
    for key, (what, text) in _GUEST.items():
        group.add_argument(f"--{key}", metavar=what, help=text)


def settings_from(args: argparse.Namespace) -> Settings:
    """Checked settings: options over the file's over the profile's. ConfigError, one line, if they won't do."""
    layer = load_file(args.config) if args.config is not None else {}
    _check_types(args.config, layer)
    options = {key: getattr(args, key, None) for key in _OPTIONS}
    settings = make_settings(layer, _parse_others(getattr(args, "set", [])), options)
    parse_rate(settings.link)
    if settings.profiling:
        check_perf_frames()
    files: dict[str, Any] = {key: _absolute(path) for key in _FILES if (path := getattr(settings, key)) is not None}
    _check_guest_options(settings, options)
    return dataclasses.replace(settings, **files)


def _check_guest_options(settings: Settings, options: Mapping[str, Any]) -> None:
    """An option that only QEMU could carry out is refused for the built-in guest, not passed over.

    A file's settings are: it may be written for both, and `--guest builtin` wins over it.
    """
    given = [f"--{key}" for key in _GUEST if options[key] is not None]
    if given and settings.guest == "builtin":
        raise ConfigError(f"{', '.join(given)}: only of a guest under QEMU; add --guest qemu")


def _absolute(path: str) -> str:
    """The name from anywhere: whoever opens the file may have another working directory."""
    if named_descriptor(path) is not None:  # no file of that name is meant
        return path
    return str(absolute(path))


def _parse_others(words: Sequence[str]) -> dict[str, Any]:
    """What --set KEY=VALUE asks for; the last of two that name the same key."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"{word!r} is not KEY=VALUE")
        if key in _OPTIONS:
            raise ConfigError(f"{key} is an option of its own: --{key}")
        if key not in _OTHERS:
            hint = did_you_mean(key, (*_OTHERS, *_OPTIONS))
            raise ConfigError(f"unknown setting {key!r}:{hint} --set knows {', '.join(_OTHERS)}")
        found[key] = parse_value(key, text)
    return found


def _check_types(path: Path | None, layer: Mapping[str, Any]) -> None:
    for key in _TEXTS:
        if key in layer and not isinstance(layer[key], str):
            raise ConfigError(f'{path}: {key} = {layer[key]!r} must be text: write {key} = "..."')

"""The settings of a stack: names, choices, defaults, profiles, and the file they may come from.

Precedence: command line, then the TOML file, then the profile, then the default. Every value is checked here
and nowhere else; a bad one raises ConfigError in one line.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from machine.boundedfile import read_bounded
from machine.cpus import allowed_cpus, check_allowed, parse_cpus
from machine.doorbell import DOORBELLS, check_sound
from machine.errors import ConfigError
from machine.stackname import LONGEST_CHOSEN, check_stack_name
from machine.suggestion import did_you_mean

__all__ = [
    "CHOICES",
    "MODES",
    "OPTIMISATIONS",
    "PROFILES",
    "Mode",
    "Settings",
    "default_cpus",
    "load_file",
    "make_settings",
    "parse_value",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Mode:
    """Which of the paper's optimisations a mode switches on (section 3.3)."""

    name: str
    ports: bool = False
    combining: bool = False
    notification: bool = False


MODES: Final = {
    mode.name: mode
    for mode in (
        Mode("2.0"),
        Mode("ports", ports=True),
        Mode("combining", ports=True, combining=True),
        Mode("optimised", ports=True, combining=True, notification=True),
    )
}

OPTIMISATIONS: Final = ("ports", "combining", "notification")

# What each profile bundles, but for the CPUs: see ``default_cpus``.
PROFILES: Final[dict[str, dict[str, Any]]] = {
    "paper": {"driver": "linux22", "doorbell": "eventfd", "posted": False, "linger_us": 0},
    "fast": {"driver": "napi", "doorbell": "eventfd", "posted": True, "linger_us": 1000, "combine_cap": 8},
}

_SPREADING: Final = "fast"  # the profile that takes every CPU there is; the others share one

_DEFAULT_PROFILE: Final = "paper"

CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "profile": tuple(PROFILES),
    "mode": tuple(MODES),
    "driver": ("linux22", "napi"),
    "doorbell": DOORBELLS,
    "hlt": ("host", "vmm"),
    "guest": ("builtin", "qemu", "none"),
    "accel": ("tcg", "kvm"),
}

_FILES: Final = ("pcap", "qemu", "kernel", "initrd", "disk", "socket")
_ANY_TEXT: Final = re.compile(r"[^\0]+", re.DOTALL)
_MEMORY: Final = re.compile(r"[1-9][0-9]{0,4}[MG]")
_LARGEST_RAM_MIB: Final = 1024
_LARGEST_FILE: Final = 65536  # bytes of a settings file; 40 settings fit into a few thousand
_FILE_SECONDS: Final = 5.0  # how long a settings file that is a pipe may be silent
_BOOLEANS: Final = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}


def default_cpus(profile: str) -> tuple[int, ...]:
    """The CPUs of a profile's stack if nobody names any: of those this process may use now, the first, or all."""
    allowed = allowed_cpus()
    return allowed if profile == _SPREADING else allowed[:1]


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """One stack's settings; immutable, checked, and the same in every process."""

    name: str = "default"
    profile: str = _DEFAULT_PROFILE
    mode: str = "2.0"
    driver: str = "linux22"
    link: str = "100mbit"
    doorbell: str = "eventfd"
    cpus: tuple[int, ...] = dataclasses.field(default_factory=lambda: default_cpus(_DEFAULT_PROFILE))
    posted: bool = False  # an OUT completes before its world switch: the device works while the guest runs on
    linger_us: int = 0  # how long a driver that polls, and vmapp, look for more work before they sleep
    moderation_us: int = 250  # a frame that arrives sooner after a world switch does not force another one
    ram_mib: int = 16
    ports: bool | None = None  # the three optimisations, one by one; None: as the mode says
    combining: bool | None = None
    notification: bool | None = None
    combine_threshold: int = 500  # world switches per second from which packets may wait
    combine_decay: float = 0.5  # weight of the past at each tick
    combine_cap: int = 3  # a packet that would be the cap-th to wait forces a switch
    hlt: str = "host"  # the guest's HLT: "host" switches and blocks in select(), "vmm" halts in the vmm (measuring)
    tick_ms: int = 10  # the host timer: the longest a host event may wait for a busy guest
    pcap: str | None = None
    profiling: bool = False  # the processes run under -X perf, so that perf sees Python functions
    guest: str = "builtin"  # "qemu": QEMU with a stock kernel, over vfio-user; "none": a socket for whoever comes
    memory: str = "512M"  # QEMU's guest memory; that of the built-in guest is ram_mib
    accel: str = "tcg"  # QEMU's accelerator
    qemu: str | None = None  # program; None, and so for the kernel and the initrd: of the stock guest's image
    kernel: str | None = None
    initrd: str | None = None
    disk: str | None = None  # a raw disk image, the guest's first disk
    socket: str | None = None  # where the device is served, of guest "none"; None: in the run directory
    probe_rounds: int = 0  # not 0: the guest times this many traps instead of running its driver

    def __post_init__(self) -> None:
        for key, choices in CHOICES.items():
            if getattr(self, key) not in choices:
                raise ConfigError(_unknown(key, getattr(self, key), choices))
        check_stack_name(self.name, LONGEST_CHOSEN)
        self._check_text("link", "a link rate such as 100mbit", _ANY_TEXT)
        for key in _FILES:
            if getattr(self, key) is not None:
                self._check_text(key, "a file name", _ANY_TEXT)
        self._check_guest()
        self._check_cpus()
        self._check_integer("ram_mib", 1, _LARGEST_RAM_MIB)
        self._check_integer("tick_ms", 1, 1000)
        self._check_integer("moderation_us", 0, 10_000)
        self._check_integer("linger_us", 0, 10_000)
        self._check_integer("combine_threshold", 0, 1_000_000)
        self._check_integer("combine_cap", 1, 512)
        self._check_optimisations()
        self._check_integer("probe_rounds", 0, 10_000)  # both series must fit into one control message
        check_sound(self.doorbell, self.cpus)

    def _check_guest(self) -> None:
        self._check_text("memory", "such as 512M or 2G", _MEMORY)
        if self.socket is not None and self.guest != "none":
            raise ConfigError(f"guest {self.guest} brings its own socket: see `worldswitch serve` for another's")
        if self.guest == "builtin":
            return
        if self.doorbell != "eventfd":  # the others cannot be waited for together with a socket
            raise ConfigError(f"a guest behind a socket needs the doorbell eventfd, not {self.doorbell}")
        if self.hlt != "host" or self.probe_rounds:
            raise ConfigError("hlt and probe_rounds are of the built-in guest")

    def _check_cpus(self) -> None:
        """Whether they are CPUs at all.

        A process that is pinned reads its stack's settings, too, so what it may use itself is no measure here:
        ``make_settings`` asks that of whoever starts a stack.
        """
        if not self.cpus or any(type(cpu) is not int or cpu < 0 for cpu in self.cpus):
            raise ConfigError(f"bad cpus {','.join(map(str, self.cpus))!r}: a list such as 0 or 0,1")

    def _check_optimisations(self) -> None:
        for key in OPTIMISATIONS:
            if getattr(self, key) is not None and not isinstance(getattr(self, key), bool):  # 0 == False, too
                raise ConfigError(f"bad {key} {getattr(self, key)!r}: on or off")
        self._check_fraction("combine_decay")

    def _check_text(self, key: str, hint: str, pattern: re.Pattern[str]) -> None:
        value = getattr(self, key)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ConfigError(f"bad {key} {value!r}: {hint}")

    def _check_fraction(self, key: str) -> None:
        value = getattr(self, key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
            raise ConfigError(f"bad {key} {value!r}: at least 0 and less than 1")

    def _check_integer(self, key: str, lowest: int, highest: int) -> None:
        value = getattr(self, key)
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise ConfigError(f"bad {key} {value!r}: a whole number from {lowest} to {highest}")

    def as_map(self) -> dict[str, Any]:
        """The settings as a map that msgpack and JSON can carry; :meth:`from_map` reads it back."""
        return dataclasses.asdict(self) | {"cpus": list(self.cpus)}

    @classmethod
    def from_map(cls, record: Mapping[str, Any]) -> Settings:
        """The settings that :meth:`as_map` made ``record`` of."""
        return cls(**dict(record) | {"cpus": tuple(record["cpus"])})

    @property
    def optimisations(self) -> Mode:
        """The mode with the optimisations that were switched one by one."""
        switched = {key: getattr(self, key) for key in OPTIMISATIONS}
        return dataclasses.replace(
            MODES[self.mode], **{key: value for key, value in switched.items() if value is not None}
        )

    @property
    def foreign(self) -> bool:
        """Whether the guest is not ours, and reaches the device through a socket."""
        return self.guest != "builtin"

    @property
    def one_cpu(self) -> bool:
        """Whether guest, vmm and vmapp share one CPU (the paper's machine)."""
        return len(set(self.cpus)) == 1


def _unknown(key: str, value: object, choices: Collection[str]) -> str:
    """One line on a word that is none of those to choose from, and what it may have been meant to be."""
    hint = did_you_mean(value, choices) if isinstance(value, str) else ""
    return f"unknown {key} {value!r}:{hint} choose one of {', '.join(choices)}"


_KINDS: Final = {field.name: str(field.type).removesuffix(" | None") for field in dataclasses.fields(Settings)}


def parse_value(key: str, text: str) -> Any:
    """The value of setting ``key`` that ``text`` means; ConfigError if none. ``Settings`` checks its range."""
    try:
        kind = _KINDS[key]
        if kind == "int":
            return int(text)
        if kind == "float":
            return float(text)
    except KeyError:
        raise ConfigError(f"unknown setting {key!r}:{did_you_mean(key, _KINDS)}".rstrip(":")) from None
    except ValueError:
        raise ConfigError(f"bad {key} {text!r}: a number") from None
    return _parse_boolean(key, text) if kind == "bool" else text


def _parse_boolean(key: str, value: object) -> bool:
    """On or off, as a TOML boolean, or in any of the words for it."""
    found = _BOOLEANS.get(str(value).lower())
    if found is None:
        raise ConfigError(f"bad {key} {value!r}: on or off")
    return found


def load_file(path: Path) -> dict[str, Any]:
    """The settings in a TOML file, unchecked but for their names; ConfigError, one line, if it cannot be read."""
    try:
        record = tomllib.loads(read_bounded(path, _LARGEST_FILE, _FILE_SECONDS).decode())
    except (ValueError, RecursionError) as error:  # more than TOMLDecodeError: numbers too long, nesting too deep
        raise ConfigError(f"{path} is not TOML: {error}") from error
    _check_names(record, f"{path}: ")
    return record


def _check_names(record: Mapping[str, Any], where: str = "") -> None:
    unknown = sorted(set(record) - set(_KINDS))
    if unknown:
        hint = did_you_mean(unknown[0], _KINDS)
        raise ConfigError(f"{where}unknown setting {unknown[0]!r}:{hint} known are {', '.join(sorted(_KINDS))}")


def make_settings(*layers: Mapping[str, Any]) -> Settings:
    """Settings from layers, later ones winning over earlier ones and all over their profile."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update({key: value for key, value in layer.items() if value is not None})
    _check_names(merged)
    profile = merged.get("profile", _DEFAULT_PROFILE)
    if not isinstance(profile, str) or profile not in PROFILES:
        raise ConfigError(_unknown("profile", profile, PROFILES))
    complete = {"cpus": default_cpus(profile)} | PROFILES[profile] | {"profile": profile} | merged
    complete["cpus"] = parse_cpus(complete["cpus"])
    flags = {key: _parse_boolean(key, value) for key, value in complete.items() if _KINDS.get(key) == "bool"}
    settings = Settings(**complete | flags)
    check_allowed(settings.cpus)
    return settings

"""What a stock guest boots from: a QEMU that speaks vfio-user, a distribution's kernel, and an initrd.

``scripts/setup-guest`` makes an image: a folder with the three names of ``_PARTS``. It is a cache: nothing in it is
changed while it is used, and it may be deleted at any time.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.arguments import absolute
from machine.errors import ConfigError, SetupError

__all__ = ["CACHE_VARIABLE", "LEAST_MEMORY_MIB", "GuestImage", "find_image", "find_qemu", "image_folders"]

CACHE_VARIABLE: Final = "WORLDSWITCH_GUEST"

LEAST_MEMORY_MIB: Final = 128
"""What the image starts with: with 104 it reaches its prompt, with 96 its initrd no longer fits [measured]."""

_REMEDY: Final = "run scripts/setup-guest"
_PARTS: Final = {"qemu": "qemu", "kernel": "vmlinuz", "initrd": "initrd.img"}
_IMAGE: Final = "image"  # the finished image, within the cache
_CACHE: Final = Path("worldswitch", "guest")
_SHARED_CACHE: Final = Path("/var/cache") / _CACHE  # root's: QEMU runs as an ordinary user, who must reach it
_OF_USER: Final = Path(".cache") / _CACHE


@dataclass(frozen=True, slots=True)
class GuestImage:
    """``qemu``: the words that a command line which runs QEMU begins with. ``kernel``, ``initrd``: for its options."""

    qemu: tuple[str, ...]
    kernel: Path
    initrd: Path


def find_image(qemu: Path | None = None, kernel: Path | None = None, initrd: Path | None = None) -> GuestImage:
    """The image of ``scripts/setup-guest``, each part replaced by the user's own where one is given.

    SetupError if a part that isn't given has not been made; ConfigError if one that is given isn't there.
    """
    given = {"qemu": qemu, "kernel": kernel, "initrd": initrd}
    found = {part: _given(part, path) for part, path in given.items() if path is not None}
    if len(found) < len(_PARTS):
        folder = _made()
        found = {part: folder / name for part, name in _PARTS.items()} | found
    return GuestImage((str(found["qemu"]),), found["kernel"], found["initrd"])


def find_qemu(qemu: Path | None = None) -> tuple[str, ...]:
    """``GuestImage.qemu`` alone, for a guest that boots from its disk. Errors as ``find_image``."""
    return (str(_made() / _PARTS["qemu"] if qemu is None else _given("qemu", qemu)),)


def image_folders() -> Iterator[Path]:
    """Where an image may be, best first: where the user says, or root's cache and then the user's own."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        yield absolute(chosen) / _IMAGE
        return
    if os.geteuid() == 0:
        yield _SHARED_CACHE / _IMAGE
    own = os.environ.get("XDG_CACHE_HOME")
    yield (Path(own) / _CACHE if own else Path.home() / _OF_USER) / _IMAGE
    invoker = os.environ.get("SUDO_USER")
    if invoker:
        try:
            yield Path(pwd.getpwnam(invoker).pw_dir) / _OF_USER / _IMAGE
        except KeyError:  # sudo was run by a user who is no longer there
            pass


def _made() -> Path:
    for folder in image_folders():
        if all((folder / name).exists() for name in _PARTS.values()):
            return folder
    raise SetupError(f"the stock guest is not installed: {_REMEDY}")


def _given(part: str, path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"--{part} {path}: {'no file' if path.exists() else 'there is no such file'}")
    return absolute(path)

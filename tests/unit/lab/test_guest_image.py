"""Where the stock guest's image is looked for, and what is said when it isn't there."""

from __future__ import annotations

import pytest

from lab import guestimage
from lab.guestimage import CACHE_VARIABLE, find_image
from machine.errors import ConfigError, SetupError

PARTS = ("qemu", "vmlinuz", "initrd.img")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache that the environment names, with a complete image."""
    folder = tmp_path / "image"
    folder.mkdir()
    for name in PARTS:
        (folder / name).touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    return folder


def test_image_of_the_cache(cache):
    """All three parts, where the environment says."""
    image = find_image()
    assert (image.qemu, image.kernel, image.initrd) == ((str(cache / "qemu"),), *(cache / name for name in PARTS[1:]))


@pytest.mark.parametrize("part", PARTS)
def test_incomplete_image_is_none(cache, part):
    """A part is missing: one line that says what to do."""
    (cache / part).unlink()
    with pytest.raises(SetupError, match=r"run scripts/setup-guest$"):
        find_image()


def test_own_parts_replace_the_image_s(cache, tmp_path):
    """A kernel of the user's own goes with the image's QEMU and initrd."""
    kernel = tmp_path / "bzImage"
    kernel.touch()
    image = find_image(kernel=kernel)
    assert (image.kernel, image.initrd) == (kernel, cache / "initrd.img")


def test_own_parts_alone_need_no_image(tmp_path, monkeypatch):
    """Whoever brings all three needs no image."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "absent"))
    own = tmp_path / "file"
    own.touch()
    assert find_image(own, own, own).qemu == (str(own),)


def test_own_part_that_is_not_there(cache, tmp_path):
    """A path that leads nowhere is the user's mistake, and named."""
    with pytest.raises(ConfigError, match=r"--kernel .*absent: there is no such file"):
        find_image(kernel=tmp_path / "absent")


def test_places_are_looked_at_in_order(tmp_path, monkeypatch):
    """Root's cache first, then that of the user, then that of whoever called sudo."""
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setattr(guestimage.os, "geteuid", lambda: 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("SUDO_USER", "root")
    places = [str(path) for path in guestimage.image_folders()]
    assert places[0] == "/var/cache/worldswitch/guest/image"
    assert places[1] == str(tmp_path / "worldswitch" / "guest" / "image")
    assert places[2].endswith("/.cache/worldswitch/guest/image")

"""Files that a user names for settings: whatever the name leads to, an answer in bounded time and memory."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from machine.boundedfile import read_bounded
from machine.config import load_file
from machine.errors import ConfigError


@pytest.mark.parametrize("path", ["/", "/dev/zero", "/no/such/file", "/etc/hostname/x", "a\0b", "x" * 5000])
def test_what_is_no_settings_file_is_one_line(path):
    """A directory, a device without an end, nothing at all, a name that cannot be."""
    with pytest.raises(ConfigError, match="cannot read") as caught:
        load_file(Path(path))
    assert "\n" not in str(caught.value)


def test_a_fifo_that_nobody_writes_to_is_not_waited_for_without_a_limit(tmp_path):
    """It is neither an empty file nor a reason to hang."""
    os.mkfifo(tmp_path / "fifo")
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"nothing came from it for 0\.2 s"):
        read_bounded(tmp_path / "fifo", 100, 0.2)
    assert time.monotonic() - began < 5.0


def test_a_shells_process_substitution_is_read():
    """`--config <(command)` is a pipe, whose writer may take its time between two writes."""
    reader, writer = os.pipe()
    os.write(writer, b"ram_mib = 8\n")
    os.close(writer)
    try:
        assert load_file(Path(f"/dev/fd/{reader}")) == {"ram_mib": 8}
    finally:
        os.close(reader)


def test_a_file_has_a_largest_size(tmp_path):
    """As large as allowed is read whole; a byte more is refused, not cut."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)
    assert read_bounded(path, 1000, 1.0) == b"x" * 1000
    with pytest.raises(ConfigError, match="larger than 999 bytes"):
        read_bounded(path, 999, 1.0)

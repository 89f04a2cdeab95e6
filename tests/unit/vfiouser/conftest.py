"""A served memory device, and the promise that no test here leaves a descriptor open."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.vfioclient import VfioClient
from tests.kit.vfiodevice import ServedDevice, open_descriptors


@pytest.fixture(name="no_leaks", autouse=True)
def _no_leaks() -> Iterator[None]:
    gc.collect()  # what other tests have dropped closes its descriptors now, not in the midst of this one
    before = open_descriptors()
    yield
    assert open_descriptors() == before


@pytest.fixture(name="served")
def _served(no_leaks: None, tmp_path: Path) -> Iterator[ServedDevice]:
    served = ServedDevice(tmp_path / "socket")
    yield served
    served.close()


@pytest.fixture(name="client")
def _client(served: ServedDevice) -> VfioClient:
    return served.greet()


@pytest.fixture(name="eventfd")
def _eventfd(no_leaks: None) -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    yield fd
    os.close(fd)

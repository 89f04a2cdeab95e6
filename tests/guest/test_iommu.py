"""A stock guest behind QEMU's own IOMMU: its driver's pages are mapped one by one, while it runs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.guestconsole import GuestConsole, channel_options, connected
from lab.guestimage import find_image
from lab.qemu import kernel_arguments
from netbackend.plan import NetworkPlan
from tests.kit.cli import COMMAND, status, worldswitch
from tests.kit.served import until

MEMORY = "256M"
BOOT_SECONDS = 150.0
"""Some 10 of them on a machine with nothing else to do: each of the guest's accesses to its IOMMU is emulated."""


@contextmanager
def serving(name: str, path: Path) -> Iterator[None]:
    """`worldswitch serve` in the foreground, once it serves."""
    words = [*COMMAND, "serve", str(path), "--name", name, "--profile", "fast", "--link", "none"]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"stack {name} serves")
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        worldswitch("down", "--name", name)


@contextmanager
def guest_behind_iommu(folder: Path, plan: NetworkPlan, socket: Path) -> Iterator[GuestConsole]:
    """The stock guest on a q35 whose IOMMU tells the card of each page that is mapped or unmapped (caching mode)."""
    image = find_image()
    device = {"driver": "vfio-user-pci", "socket": {"type": "unix", "path": str(socket)}}
    channel = folder / "channel.sock"
    arguments = f"{kernel_arguments(plan)} intel_iommu=on iommu.strict=1"
    words = [*image.qemu, "-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg", "-cpu", "max"]
    words += ["-object", f"memory-backend-memfd,id=memory,size={MEMORY},share=on", "-m", MEMORY, "-nic", "none"]
    words += ["-machine", "q35,memory-backend=memory", "-device", "intel-iommu,caching-mode=on"]
    log = folder / "console"
    words += ["-device", json.dumps(device), "-serial", f"file:{log}", *channel_options(channel)]
    words += ["-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", arguments]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    try:
        assert until(lambda: log.exists() and b"the other end of the wire" in log.read_bytes(), BOOT_SECONDS)
        with connected(channel) as console:
            yield console
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.timeout(300)
def test_no_ping_is_lost_behind_an_iommu(tmp_path: Path) -> None:
    """200 of 200 pings whose frames cross pages that are not neighbours, and not one memory error."""
    name = f"iommu-{os.getpid()}"
    plan = NetworkPlan(name)
    with (
        serving(name, tmp_path / "vfio.sock"),
        guest_behind_iommu(tmp_path, plan, tmp_path / "vfio.sock") as console,
    ):
        assert "IOMMU enabled" in console.check("dmesg | grep -m 1 'DMAR: IOMMU enabled'")
        pings = console.check("ping -c 200 -i 0.02 -s 1400 peer", 60)
        assert re.search(r"\b200 packets received, 0% packet loss", pings), pings
        counters = status(name)["counters"]
        assert (counters["memory_errors"], counters["rx_errors"], counters["tx_errors"]) == (0, 0, 0)

"""QEMU's command line: a PC whose only network card is ours, behind a vfio-user socket."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lab.guestconsole import channel_options
from lab.guestimage import find_image, find_qemu
from machine.config import Settings
from netbackend.plan import PREFIX_LENGTH, NetworkPlan

__all__ = ["CHANNEL", "MONITOR", "SOCKET", "client_options", "command", "kernel_arguments"]

SOCKET: Final = "vfio.sock"  # in the guest's folder, which is where QEMU is started
CHANNEL: Final = "channel.sock"  # the command channel (lab.guestconsole)
MONITOR: Final = "monitor.sock"  # QMP, by which QEMU says what its guest does (lab.guestwatch)

_CONSOLE: Final = ("-chardev", "stdio,id=console,mux=on,signal=off", "-serial", "chardev:console")  # mux: Ctrl-A X
_DISK_SET: Final = 1  # QEMU's "fdsets": files that it opens by number, not by path
_KVM_SET: Final = 2
_CONFINED: Final = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


def client_options(memory: str, socket: str) -> list[str]:
    """The options that connect a QEMU of 10.1 or later to a device served at ``socket``.

    Guest memory must be a shared memfd, which QEMU seals: vmapp maps it.
    """
    device = {"driver": "vfio-user-pci", "socket": {"type": "unix", "path": socket}}
    return [
        *("-object", f"memory-backend-memfd,id=memory,size={memory},share=on"),
        *("-machine", "pc,memory-backend=memory", "-m", memory, "-nic", "none"),
        *("-device", json.dumps(device, separators=(",", ":"))),
    ]


def kernel_arguments(plan: NetworkPlan) -> str:
    """The guest kernel's command line: its console, and for the stock guest's init who it is in the network."""
    address = f"worldswitch.address={plan.guest.address}/{PREFIX_LENGTH}"
    return f"console=ttyS0 quiet {address} worldswitch.peer={plan.peer.address}"


def command(
    settings: Settings, plan: NetworkPlan, disk: Sequence[int] | None = None, kvm: int | None = None
) -> tuple[str, ...]:
    """The whole command line, for a start in the guest's folder. ``disk``: descriptors of a disk image, or none.

    ``kvm``: a descriptor of /dev/kvm, which the user that QEMU runs as cannot open on most machines.

    It boots the stock guest's kernel and initrd, those that were given, or the disk if there is one and no kernel.
    SetupError if the image is not there, ConfigError for a file that is not.
    """
    qemu, kernel, initrd = (
        None if it is None else Path(it) for it in (settings.qemu, settings.kernel, settings.initrd)
    )
    boot: list[str] = []
    if not disk or kernel is not None:
        image = find_image(qemu, kernel, initrd)
        boot = ["-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", kernel_arguments(plan)]
    words = [*find_qemu(qemu), "-nodefaults", "-no-user-config", "-display", "none", "-sandbox", _CONFINED]
    accel = settings.accel
    if kvm is not None:
        words += ["-add-fd", f"fd={kvm},set={_KVM_SET}"]
        accel += f",device=/dev/fdset/{_KVM_SET}"
    words += ["-accel", accel, "-cpu", "max" if settings.accel == "tcg" else "host"]
    words += client_options(settings.memory, SOCKET)
    words += [*_CONSOLE, *channel_options(Path(CHANNEL))]
    words += ["-qmp", f"unix:{MONITOR},server=on,wait=off"]
    for fd in disk or ():  # QEMU opens it more than once, and takes whichever fits
        words += ["-add-fd", f"fd={fd},set={_DISK_SET}"]
    if disk:
        words += ["-drive", f"file=/dev/fdset/{_DISK_SET},format=raw,if=ide"]
    return (*words, *boot)

"""The error tree: every failure that worldswitch reports on purpose has this one root.

The command line prints ``str(error)`` as one line and exits with ``exit_status``; a traceback therefore
always means a defect in worldswitch itself.
"""

from __future__ import annotations

__all__ = [
    "BenchError",
    "ConfigError",
    "ControlError",
    "GuestError",
    "LayoutError",
    "NetworkError",
    "PortOverlapError",
    "PortRangeError",
    "ProcessDiedError",
    "SetupError",
    "SignalledError",
    "StackError",
    "StartInterruptedError",
    "UnsoundDoorbellError",
    "WorldswitchError",
]


class WorldswitchError(Exception):
    """Root of the tree. The message says what is wrong and what to do about it, in one line."""

    exit_status = 1


class ConfigError(WorldswitchError):
    """A setting has a value, or a combination of values, that makes no sense."""

    exit_status = 2


class UnsoundDoorbellError(ConfigError):
    """The chosen doorbell gives no memory ordering on this machine (see ``machine.doorbell``)."""


class SetupError(WorldswitchError):
    """The machine lacks something: privilege, /dev/net/tun, namespaces, a program."""


class NetworkError(WorldswitchError):
    """The kernel refused a TAP, bridge, link, namespace or queueing discipline."""


class StackError(WorldswitchError):
    """A stack of that name is in use, is not there, or does not answer."""


class StartInterruptedError(WorldswitchError):
    """Somebody ended the stack while it was starting: by a signal, or by closing the terminal it was to report to."""

    exit_status = 130  # 128 + SIGINT, as a shell has it


class SignalledError(WorldswitchError):
    """A signal that is not how one ends a stack has ended it all the same, and in good order."""


class ControlError(WorldswitchError):
    """A control message was malformed, or its peer is gone."""


class ProcessDiedError(WorldswitchError):
    """One of the stack's processes ended although nobody asked it to."""


class PortOverlapError(WorldswitchError):
    """Two devices claim one I/O port; the message names both owners."""


class PortRangeError(WorldswitchError):
    """A device claims I/O ports that do not exist, as a guest can make it do through a base address register."""


class LayoutError(WorldswitchError):
    """A shared-memory object does not have the size that ``machine.layout`` gives it."""


class GuestError(WorldswitchError):
    """A real guest does not start, does not answer, or a command in it has failed."""


class BenchError(WorldswitchError):
    """A benchmark could not be run to its end; what it has measured is kept and marked as partial."""

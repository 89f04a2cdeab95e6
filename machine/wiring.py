"""Who shares what with whom: the one table from which launch and supervisor derive every descriptor of a process.

A process is given exactly what is written here, under these names. What it does with each is said in
``machine.layout`` (pages), ``machine.doorbell`` and ``machine.signalpipe``.
"""

from __future__ import annotations

from typing import Final

__all__ = ["EVENTS", "INTERRUPTS", "PAGES", "RINGS", "ROLES", "bell", "interrupt"]

ROLES: Final = ("guest", "vmm", "vmapp")

PAGES: Final = {"guest": ("ram", "gate"), "vmm": ("gate", "world"), "vmapp": ("ram", "gate", "world")}
"""Role -> shared pages that it maps, its own counters and trace apart."""

RINGS: Final = {"guest": ("vmm",), "vmm": ("guest", "vmapp"), "vmapp": ("guest", "vmm")}
"""Role -> whose doorbells it rings. Each has its own doorbell besides."""

INTERRUPTS: Final = {"vmm": ("guest", "vmapp")}
"""Role -> whom it interrupts, by signal: the guest's virtual IRQs, and a vmapp that has not come back for a tick."""

EVENTS: Final = {"guest": ("wake",), "vmm": ("wake", "kick"), "vmapp": ("kick",)}
"""Role -> eventfds that are no doorbells: "wake" ends the guest's HLT, "kick" vmapp's select() for an idle guest."""


def bell(owner: str) -> str:
    """The name of the descriptor by which ``owner`` is rung, and by which it is told of rings."""
    return f"bell-{owner}"


def interrupt(owner: str) -> str:
    """The name of the descriptor by which ``owner`` is interrupted, and takes its interrupts."""
    return f"irq-{owner}"

"""What the supervisor does with ``worldswitch set``: all that is asked for is carried out and recorded, or nothing is.

Three parties are to agree: the kernel has the wire's rate, the vmm has the settings and the cable, and the record says
what runs. Each step leaves its opposite behind, in case that a later one fails.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from lab.livechange import CABLE, changed
from lab.requests import UNDO_SECONDS, seconds_left
from lab.stack import Stack
from machine.config import Settings
from machine.control import Message
from machine.lance.state import LINK_UP
from netbackend.rate import parse_rate
from netbackend.topology import Record, set_link_rate

__all__ = ["set_live"]

Attempt = Callable[..., None]
"""attempt(function, *arguments) does what nobody waits for any more; a failure is only said."""

_VMM: Final = "vmm"


def set_live(
    request: Message,
    stack: Stack,
    before: Settings,
    network: Record,
    note: Callable[[Settings], None],
    attempt: Attempt,
) -> Settings:
    """Carries {"changes"} of ``request`` out; the settings of the stack after it. ``note`` records settings.

    Any WorldswitchError: nothing has changed. If the vmm does its part when it has been given up already, that is
    recorded when it says so.
    """
    changes = request.get("changes", {})
    after = changed(before, changes)
    there, back = _messages(before, after, changes, cable=bool(stack.lance[LINK_UP]))
    late = None
    if "settings" in there:
        late = partial(attempt, note, dataclasses.replace(after, link=before.link))
    with contextlib.ExitStack() as undo:
        if after.link != before.link:
            undo.callback(attempt, set_link_rate, network, parse_rate(before.link))
            set_link_rate(network, parse_rate(after.link))  # of two ends: the first may succeed and the second fail
        if there:
            stack.tell(_VMM, there, late, seconds_left(request))
            undo.callback(attempt, stack.tell, _VMM, back, None, UNDO_SECONDS)
        note(after)
        undo.pop_all()
    return after


def _messages(before: Settings, after: Settings, changes: Mapping[str, Any], *, cable: bool) -> tuple[Message, Message]:
    """What to tell the vmm (``vmm.livesettings``), and what takes that back; empty: nothing.

    All of it in one message, for that is taken over as a whole. ``cable``: whether it is plugged in now. The link's
    rate is no business of the vmm's.
    """
    there: Message = {}
    back: Message = {}
    if dataclasses.replace(after, link=before.link) != before:
        there["settings"], back["settings"] = after.as_map(), before.as_map()
    if CABLE in changes:
        there[CABLE], back[CABLE] = bool(changes[CABLE]), cable
    return there, back

"""Requests to a stack's processes that have been sent: which answer belongs to which, and what becomes of a late one.

``machine.livecontrol`` is the other side. A request that was not answered in time has failed, as far as anybody was
told, and as a rule its process will refuse it when it gets to it. If it was carried out all the same, the late answer
says so, and is recorded then: ``late`` is called. An answer is never taken for that of another request.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable
from typing import Final

from lab.hearing import text_of
from machine.control import Message
from machine.errors import ConfigError, ProcessDiedError, StackError, StartInterruptedError, WorldswitchError
from machine.livecontrol import REQUEST, UNTIL

__all__ = ["ANSWER_SECONDS", "UNDO_SECONDS", "Late", "Requests", "interrupted", "seconds_left"]

Late = Callable[[], object] | None

ANSWER_SECONDS: Final = 5.0
UNDO_SECONDS: Final = 2.0
"""For putting back what was taken over, when something else of the same request has failed."""

_SLACK_SECONDS: Final = 0.5  # an answer that was given in time may arrive a little later
_MOST_OPEN: Final = 256  # of a process that never answers: older ones are forgotten


class Requests:
    """The requests of one stack, all processes together."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._open: dict[int, tuple[str, Late]] = {}

    def tell(
        self,
        role: str,
        message: Message,
        late: Late,
        seconds: float,
        send: Callable[[Message], object],
        remind: Callable[[], object],
        expect: Callable[[float], Message],
    ) -> None:
        """Has ``role`` take ``message`` over within ``seconds``; ``late``, if it has done so after all, later.

        ``send`` sends the message, ``remind`` the signal; ``expect(deadline)`` is the role's next "set". ConfigError if
        the process refuses; StackError if it has not answered in time: then it will not do it any more.
        """
        if seconds <= 0:
            raise StackError("the stack is busy with another request: nothing has changed; try again")
        deadline = time.monotonic() + seconds
        number = next(self._numbers)
        send(message | {REQUEST: number, UNTIL: int(deadline * 1e9)})
        self._keep(number, role, late)
        with contextlib.suppress(ProcessLookupError):  # it has died, as ``expect`` will find
            remind()
        try:
            while not self._answers(role, number, answer := expect(deadline + _SLACK_SECONDS)):
                pass
        except ProcessDiedError:
            if time.monotonic() < deadline:
                raise
            raise StackError(f"{role} has not taken it over within {seconds:.1f} s, and will not do it later") from None
        if "refused" in answer:
            raise ConfigError(text_of(answer, "refused") or "refused")

    def _keep(self, number: int, role: str, late: Late) -> None:
        self._open[number] = role, late
        if len(self._open) > _MOST_OPEN:
            del self._open[next(iter(self._open))]

    def _answers(self, role: str, number: int, answer: Message) -> bool:
        """Whether ``answer`` of ``role`` is that to request ``number``; one to an earlier request is seen to here.

        An answer without a number is that to the latest request.
        """
        if answer.get(REQUEST, number) == number:
            self._open.pop(number, None)
            return True
        self.note(role, answer)
        return False

    def hear(self, role: str, message: Message) -> None:
        """A message for which nobody waits: of all that a role may say, a late answer is to be noted."""
        if message.get("event") == "set":
            self.note(role, message)

    def note(self, role: str, answer: Message) -> None:
        """An answer for which nobody waits any more. What a process makes up is not among the open requests."""
        number = answer.get(REQUEST)
        if not isinstance(number, int) or self._open.get(number, ("", None))[0] != role:
            return
        _, late = self._open.pop(number)
        if late is not None and "refused" not in answer:
            late()


def interrupted(*, started: bool) -> WorldswitchError:
    """What a wait ends with when somebody has asked to stop."""
    if started:
        return StackError("the stack is ending")
    return StartInterruptedError("the start was interrupted; everything is removed again")


def seconds_left(request: Message, most: float = ANSWER_SECONDS) -> float:
    """How long a client's ``request`` (``lab.client``) may take here: until it would be told that it has failed."""
    until = request.get(UNTIL)
    if not isinstance(until, int):
        return most
    return min(most, until / 1e9 - time.monotonic())

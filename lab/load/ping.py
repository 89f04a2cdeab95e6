"""Round-trip times by ping (iputils), a program that everybody has and believes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from lab.load.place import Place, find_program, output, started
from machine.errors import BenchError

__all__ = ["PingResult", "parse", "ping"]

_ANSWER: Final = re.compile(r"^\d+ bytes from .* icmp_seq=\d+ .*time=([0-9.]+) ms(?P<again> \(DUP!\))?", re.MULTILINE)
_SUMMARY: Final = re.compile(r"^(\d+) packets transmitted, (\d+) received", re.MULTILINE)
_WAIT_SECONDS: Final = 1  # for the last answer
_GRACE_SECONDS: Final = 10.0
_NOBODY_ANSWERED: Final = 1  # ping(8): the exit status if no answer came, or fewer than asked for


@dataclass(frozen=True, slots=True)
class PingResult:
    """``rtts_ms``: one for each answer, in order of arrival (ping prints three digits, 1 us at best)."""

    rtts_ms: tuple[float, ...]
    sent: int
    lost: int


def ping(source: Place, target: str, *, count: int = 10, interval: float = 0.2, payload_bytes: int = 56) -> PingResult:
    """``count`` echo requests to address ``target``, one every ``interval`` seconds (0: as soon as answered).

    Losses are part of the result. SetupError without ping, BenchError if it cannot run.
    """
    program = find_program("ping", "iputils-ping")
    numbers = ("-c", str(count), "-i", f"{interval:g}", "-s", str(payload_bytes), "-W", str(_WAIT_SECONDS))
    with started([program, "-n", *numbers, target], source) as process:
        limit = count * max(interval, 0.01) + _WAIT_SECONDS + _GRACE_SECONDS
        return parse(output(process, "ping", limit, good=(0, _NOBODY_ANSWERED)))


def parse(text: str) -> PingResult:
    """The result from what ping prints in the C locale; an answer that came twice counts once."""
    summary = _SUMMARY.search(text)
    if summary is None:
        raise BenchError(f"ping printed no summary: {text.strip()[-200:]!r}")
    sent, received = int(summary[1]), int(summary[2])
    rtts = tuple(float(answer[1]) for answer in _ANSWER.finditer(text) if not answer["again"])
    return PingResult(rtts, sent, sent - received)

"""The two ends of a nettest connection, each a process of its own that prints one JSON object and ends.

After the paper's nettest (section 4): one TCP connection, operations of one size, always the same buffer; the
receiver discards what it gets. It imports little, and nothing at all between connect() and the last byte.

Limits on every wait are the kernel's (SO_RCVTIMEO, SO_SNDTIMEO): Python's own socket timeouts cost one poll() more
per operation, and would be measured too.
"""

from __future__ import annotations

import argparse
import json
import socket
import struct
import sys
import time
from collections.abc import Sequence
from typing import Final

__all__ = ["DEFAULT_LIMIT_SECONDS", "DEFAULT_OPERATION_BYTES", "main", "receive", "send", "total_retransmits"]

DEFAULT_OPERATION_BYTES: Final = 65536
DEFAULT_LIMIT_SECONDS: Final = 60.0
_LARGEST_OPERATION: Final = 64 << 20
_CONNECT_SECONDS: Final = 5.0
_CALL_SECONDS: Final = 60.0  # for a client to call: a busy machine, or a person who starts it by hand
_NANOSECONDS: Final = 1_000_000_000
_READY: Final = b"\n"
_UNBOUNDED: Final = 1 << 62

_TIMEVAL: Final = struct.Struct("@ll")
# linux/tcp.h, struct tcp_info: 8 bytes, then words of 32 bits, of which tcpi_total_retrans is the 24th.
_TOTAL_RETRANS: Final = struct.Struct("@100xI")


def total_retransmits(info: bytes) -> int:
    """tcpi_total_retrans of a TCP_INFO, as getsockopt() gives it: segments sent again since the connection began."""
    (count,) = _TOTAL_RETRANS.unpack_from(info)
    return int(count)


def receive(connection: socket.socket, operation: int, omit: float, limit: float) -> dict[str, object]:
    """Discards all that arrives, by recv() of ``operation`` bytes, and reports from ``omit`` seconds on.

    Ends with the connection, or after ``limit`` seconds with ``complete`` false. ``seconds`` and ``bytes`` are of the
    time after the warm-up; ``marks``: how many of the bytes had arrived by the end of each whole second.
    """
    buffer = bytearray(operation)
    receive_into, clock = connection.recv_into, time.monotonic_ns
    marks: list[int] = []
    total, before = 0, 0
    begin = now = clock()
    deadline = begin + int(limit * _NANOSECONDS)
    start = begin + int(omit * _NANOSECONDS)
    mark = start
    complete = False
    try:
        while now < deadline:
            count = receive_into(buffer)
            now = clock()
            while now >= mark:  # more than once if a whole second brought nothing
                if mark == start:
                    before = total
                marks.append(total - before)
                mark += _NANOSECONDS
            if not count:
                complete = True
                break
            total += count
    except OSError:  # SO_RCVTIMEO; or the sender died
        pass
    if not marks:  # it ended within the warm-up
        before, start = total, now
    seconds = (now - start) / _NANOSECONDS
    return {"complete": complete, "bytes": total - before, "seconds": seconds, "marks": marks[1:]}


def send(
    connection: socket.socket, operation: int, seconds: float, amount: int, omit: float, limit: float
) -> dict[str, object]:
    """Sends until ``omit + seconds`` have passed or ``amount`` bytes are on their way; waits for the other to close.

    ``sent``: bytes, all of them; ``retransmits``: segments, since the end of the warm-up. ``complete`` is false if
    that takes more than ``limit`` seconds, or the connection fails.
    """
    view = memoryview(bytearray(operation))
    begin = time.monotonic_ns()
    end = begin + int(limit * _NANOSECONDS)
    sent, warm = 0, 0
    complete = False
    try:
        if omit:
            sent = _push(connection, view, 0, amount, min(end, begin + int(omit * _NANOSECONDS)))
            warm = _retransmits(connection)
        sent = _push(connection, view, sent, amount, min(end, begin + int((omit + seconds) * _NANOSECONDS)))
        connection.shutdown(socket.SHUT_WR)
        complete = not connection.recv(1) and time.monotonic_ns() < end
    except OSError:  # SO_SNDTIMEO, SO_RCVTIMEO; or the receiver gave up: reset, no longer connected
        pass
    return {"complete": complete, "sent": sent, "retransmits": _retransmits(connection) - warm}


def _push(connection: socket.socket, view: memoryview, sent: int, amount: int, deadline: int) -> int:
    send_some, clock = connection.send, time.monotonic_ns
    last = amount - len(view)  # up to there an operation is a whole one
    while sent <= last and clock() < deadline:
        sent += send_some(view)
    while last < sent < amount and clock() < deadline:
        sent += send_some(view[: amount - sent])
    return sent


def _retransmits(connection: socket.socket) -> int:
    return total_retransmits(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TOTAL_RETRANS.size))


def _limit_waits(opened: socket.socket, seconds: float) -> None:
    opened.settimeout(None)
    whole = int(seconds)
    value = _TIMEVAL.pack(whole, int((seconds - whole) * 1_000_000))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        opened.setsockopt(socket.SOL_SOCKET, option, value)


def _serve(args: argparse.Namespace) -> dict[str, object]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((args.address, args.port))
        listener.listen(1)
        print(listener.getsockname()[1], flush=True)
        listener.settimeout(_CALL_SECONDS)
        connection, _ = listener.accept()
    with connection:
        _limit_waits(connection, args.limit)
        connection.sendall(_READY)  # nothing may arrive before the clock runs
        return receive(connection, args.operation, args.omit, args.limit)


def _call(args: argparse.Namespace) -> dict[str, object]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.settimeout(min(_CONNECT_SECONDS, args.limit))
        connection.connect((args.address, args.port))
        _limit_waits(connection, args.limit)
        if connection.recv(len(_READY)) != _READY:
            raise ConnectionResetError("the server did not get ready")
        return send(connection, args.operation, args.seconds, args.bytes, args.omit, args.limit)


def _operation(text: str) -> int:
    size = int(text)
    if not 1 <= size <= _LARGEST_OPERATION:
        raise argparse.ArgumentTypeError(f"an operation is 1 to {_LARGEST_OPERATION} bytes")
    return size


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nettest", description="One TCP connection; goodput at its receiver.")
    roles = parser.add_subparsers(required=True)
    server = roles.add_parser("server", help="receives; prints its port, then a JSON object")
    client = roles.add_parser("client", help="sends; prints a JSON object")
    server.set_defaults(run=_serve)
    client.set_defaults(run=_call)
    for role in (server, client):
        role.add_argument("address", help="the server's IPv4 address")
        role.add_argument("--operation", type=_operation, default=DEFAULT_OPERATION_BYTES, metavar="BYTES")
        role.add_argument("--omit", type=float, default=0.0, metavar="SECONDS", help="warm-up that does not count")
        role.add_argument(
            "--limit", type=float, default=DEFAULT_LIMIT_SECONDS, metavar="SECONDS", help="for the transfer"
        )
    server.add_argument("--port", type=int, default=0, help="default: any that is free")
    client.add_argument("port", type=int, help="what the server has printed")
    client.add_argument("--seconds", type=float, default=10.0)
    client.add_argument("--bytes", type=int, default=_UNBOUNDED, help="at most that many")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Plays the end that the arguments name; exit status 1 and one line if the connection fails."""
    args = _parser().parse_args(arguments)
    try:
        print(json.dumps(args.run(args)))
    except OSError as error:
        print(f"nettest: {args.address}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

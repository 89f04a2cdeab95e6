"""nettest: what its two ends count, and what is made of that."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.load import endpoint
from lab.load.nettest import measure, result_of
from lab.load.place import Place
from machine.errors import BenchError, ConfigError

SECOND = 1_000_000_000


class Arrivals:
    """Stands for a connection and for the clock: each recv() takes some ns and brings some bytes; then it ends."""

    def __init__(self, arrivals):
        self.arrivals = list(arrivals)
        self.now = 5 * SECOND

    def recv_into(self, buffer):
        if not self.arrivals:
            return 0
        wait, count = self.arrivals.pop(0)
        self.now += wait
        if count is None:
            raise BlockingIOError
        return min(count, len(buffer))

    def monotonic_ns(self):
        return self.now


def received(monkeypatch, arrivals, **options):
    """What the receiver reports of these arrivals."""
    connection = Arrivals(arrivals)
    monkeypatch.setattr(endpoint, "time", types.SimpleNamespace(monotonic_ns=connection.monotonic_ns))
    return endpoint.receive(connection, **({"operation": 4096, "omit": 0, "limit": 60} | options))


@pytest.fixture
def tcp_pair():
    """Both ends of a TCP connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        yield near, far


def test_goodput_is_bytes_over_the_whole_time(monkeypatch):
    """From accept() to the end of the stream, waits included; a mark for each second that has passed."""
    found = received(monkeypatch, [(SECOND // 2, 1000)] * 5)
    assert found == {"complete": True, "bytes": 5000, "seconds": 2.5, "marks": [1000, 3000]}


def test_the_warm_up_does_not_count(monkeypatch):
    """Bytes and time before ``omit`` are left out, of the marks too."""
    found = received(monkeypatch, [(SECOND // 2, 1000)] * 5, omit=1)
    assert found == {"complete": True, "bytes": 4000, "seconds": 1.5, "marks": [2000]}


def test_a_stream_that_ends_in_the_warm_up_has_no_figures(monkeypatch):
    """No second of it counts, so there is nothing to divide by; measure() makes an error of that."""
    found = received(monkeypatch, [(SECOND // 2, 1000)], omit=1)
    assert found == {"complete": True, "bytes": 0, "seconds": 0.0, "marks": []}
    with pytest.raises(BenchError, match="warm-up"):
        result_of({"complete": True, "sent": 1000, "retransmits": 0}, found, 60)


def test_a_silent_second_is_in_the_series(monkeypatch):
    """A stall shows as seconds of nothing, not as a gap."""
    found = received(monkeypatch, [(SECOND // 2, 1000), (3 * SECOND, 1000)])
    assert found["marks"] == [1000, 1000, 1000]


@pytest.mark.parametrize("arrivals", [[(SECOND, 10)] * 90, [(SECOND, 10), (60 * SECOND, None)]])
def test_it_is_over_at_the_limit(monkeypatch, arrivals):
    """A stream that goes on for ever, or stops without an end, is given up and reported as incomplete."""
    found = received(monkeypatch, arrivals, limit=60)
    assert not found["complete"]
    with pytest.raises(BenchError, match="did not finish within 60 s"):
        result_of({"complete": True, "sent": 1, "retransmits": 0}, found, 60)


@given(
    arrivals=st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(1, 4096)), max_size=20),
    omit=st.sampled_from([0, 1, 2.5]),
)
def test_bytes_and_series_agree(arrivals, omit):
    """Whatever arrives when: warm-up and rest make up all bytes; the series is the rest, cut at whole seconds."""
    with pytest.MonkeyPatch.context() as patch:
        found = received(patch, arrivals, omit=omit, limit=1000)
    elapsed, late = 0, 0
    for wait, count in arrivals:
        elapsed += wait
        late += count if elapsed >= omit * SECOND else 0
    assert found["complete"]
    assert found["bytes"] == late
    assert found["seconds"] == pytest.approx(max(0.0, elapsed / SECOND - omit))
    assert len(found["marks"]) == int(max(0, elapsed - int(omit * SECOND)) // SECOND)
    assert [*found["marks"], late] == sorted([*found["marks"], late])


def test_result_from_both_reports():
    """Mb/s are 10^6 bit/s; a last second of at least half a second is in the series, at its own rate."""
    found = result_of(
        {"complete": True, "sent": 3_000_000, "retransmits": 3},
        {"complete": True, "bytes": 3_000_000, "seconds": 2.5, "marks": [1_000_000, 2_000_000]},
        60,
    )
    assert (found.goodput_mbps, found.seconds, found.bytes, found.retransmits) == (9.6, 2.5, 3_000_000, 3)
    assert found.series == (8.0, 8.0, 16.0)


def test_a_short_last_second_is_not_in_the_series():
    """A few late bytes would show as a slump or a peak that never was."""
    report = {"complete": True, "bytes": 1_000_100, "seconds": 1.01, "marks": [1_000_000]}
    assert result_of({"complete": True, "sent": 0, "retransmits": 0}, report, 60).series == (8.0,)


def test_retransmits_are_where_the_kernel_has_them():
    """tcpi_total_retrans is the 24th word after the first 8 bytes of struct tcp_info."""
    info = bytes(8) + struct.pack("=30I", *range(30))
    assert endpoint.total_retransmits(info) == 23


@pytest.mark.parametrize(("operation", "amount"), [(1, 7), (4096, 4096), (4096, 100_001), (65536, 10), (1000, 0)])
def test_a_chosen_amount_arrives_exactly(tcp_pair, operation, amount):
    """The last operation is cut to size; the sender waits until the receiver has closed."""
    near, far = tcp_pair
    reports = []

    def take():
        reports.append(endpoint.receive(far, operation, 0, 10))
        far.close()

    taker = threading.Thread(target=take)
    taker.start()
    sent = endpoint.send(near, operation, 10, amount, 0, 10)
    taker.join()
    assert (sent["complete"], sent["sent"], reports[0]["complete"], reports[0]["bytes"]) == (True, amount, True, amount)


def test_a_receiver_that_dies_ends_the_sender(tcp_pair):
    """A reset is an incomplete transfer, not a traceback."""
    near, far = tcp_pair
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    assert not endpoint.send(near, 65536, 5, 1 << 30, 0, 10)["complete"]


def test_a_receiver_that_takes_nothing_ends_the_sender(tcp_pair):
    """The kernel's own limit on send() ends the wait, without a poll() for every operation."""
    near, _ = tcp_pair
    endpoint._limit_waits(near, 0.05)
    assert not endpoint.send(near, 1 << 20, 5, 1 << 30, 0, 10)["complete"]


@pytest.mark.parametrize("size", ["0", "-1", "1000000000000"])
def test_a_size_that_makes_no_sense_is_refused(size, capsys):
    """Before anything is allocated or connected."""
    with pytest.raises(SystemExit) as caught:
        endpoint.main(["client", "127.0.0.1", "9", "--operation", size])
    assert caught.value.code == 2
    assert "an operation is 1 to" in capsys.readouterr().err


def test_a_connection_that_fails_is_one_line(capsys):
    """Nobody listens: status 1 and the reason."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert endpoint.main(["client", "127.0.0.1", str(port)]) == 1
    assert capsys.readouterr().err == "nettest: 127.0.0.1: Connection refused\n"


def test_a_time_beyond_the_limit_is_refused():
    """At once, not after a minute."""
    place = Place("ws-none-guest", "198.18.0.2")
    with pytest.raises(ConfigError, match="cannot send for 60 s within 60 s"):
        measure(place, place, seconds=50, omit=10)


def test_it_runs_by_hand():
    """The documented commands: the server prints its port and then a report, the client a report."""
    command = [sys.executable, "-P", "-m", "lab.load.nettest"]
    with subprocess.Popen([*command, "server", "127.0.0.1"], stdout=subprocess.PIPE, text=True) as server:
        try:
            port = server.stdout.readline().strip()
            client = subprocess.run(
                [*command, "client", "127.0.0.1", port, "--bytes", "100000", "--operation", "4096"],
                check=True,
                capture_output=True,
                timeout=20,
            )
            report = json.loads(server.stdout.read())
        finally:
            server.kill()
    assert json.loads(client.stdout)["sent"] == report["bytes"] == 100_000


def test_the_ends_import_little():
    """The processes that are measured load neither pyroute2 nor psutil nor the parts that start them."""
    program = "import sys, lab.load.endpoint; print([m for m in sys.modules if m.split('.')[0] in sys.argv[1:]])"
    heavy = ("pyroute2", "psutil", "subprocess", "netbackend", "dataclasses")
    done = subprocess.run([sys.executable, "-c", program, *heavy], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"

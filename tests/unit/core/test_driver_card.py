"""What the guest's kernel sets on its interface reaches the card: both drivers, access by access."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guest.card import Card, GuestEvents
from guest.drivers.pcnet import LARGEST_FRAME
from machine.errors import SetupError
from machine.lance.bits import CSR0_RXON, CSR0_STOP, CSR0_TXON, CSR5_LTINTEN, CSR15_PROM
from tests.kit.barepc import BarePc
from tests.kit.board import MAC, RAP, RDP
from vmapp.lance.filter import hash_index

PEER = bytes.fromhex("020000000001")
OTHER = bytes.fromhex("020000000099")
GROUP = bytes.fromhex("333300000001")
OUTGOING = PEER + MAC + b"\x08\x00"
EVERY_GROUP = (1 << 64) - 1
DRIVERS = {"linux22": {}, "napi": {"log_tx": 8, "log_rx": 8}}


def frame(destination: bytes, number: int, size: int = 100) -> bytes:
    """A frame from the peer that tells which one it is."""
    return (destination + PEER + b"\x08\x00" + number.to_bytes(4, "big")).ljust(size, b"\x55")


def outgoing(number: int, size: int = 100) -> bytes:
    """A frame of the guest's that tells which one it is."""
    return (OUTGOING + number.to_bytes(4, "big")).ljust(size, b"\x55")


@pytest.fixture(params=DRIVERS)
def pc(request: pytest.FixtureRequest):
    """A PC with each driver, up."""
    with BarePc(request.param, **DRIVERS[request.param]) as pc:
        pc.run()
        yield pc


def ladrf(pc: BarePc) -> int:
    """The chip's logical address filter as one number."""
    return sum(pc.registers.read_csr(8 + i) << 16 * i for i in range(4))


def hears(pc: BarePc, destination: bytes) -> bool:
    """Whether a frame to this address gets as far as the guest's network stack."""
    sent = frame(destination, 7)
    pc.cpu.at_halt.append(lambda: pc.arrive(sent))
    pc.run()
    return pc.delivered() == [sent]


def csr_writes(pc: BarePc) -> list[tuple[int, int]]:
    """(CSR, value) of every write in the log, in order, but for the one with which napi's loop begins."""
    found, index = [], 0
    for way, port, value in pc.cpu.log:
        if (way, port) == ("out", RAP):
            index = value
        elif (way, port) == ("out", RDP):
            found.append((index, value))
    return found[1:] if found[:1] == [(5, CSR5_LTINTEN)] else found


def test_a_group_that_the_kernel_joins_is_heard(pc: BarePc):
    """LADRF is programmed with the groups: the group's frames come through, as long as it is joined."""
    assert not hears(pc, GROUP)
    pc.kernel.announce(ladrf=1 << hash_index(GROUP))
    pc.run()
    assert ladrf(pc) == 1 << hash_index(GROUP)
    assert hears(pc, GROUP)
    assert not hears(pc, OTHER)
    pc.kernel.announce(ladrf=0)
    pc.run()
    assert not hears(pc, GROUP)


def test_promiscuous_mode_is_passed_on(pc: BarePc):
    """CSR15.PROM follows IFF_PROMISC: frames for somebody else come through, and no longer when it ends."""
    pc.kernel.announce(promiscuous=True)
    pc.run()
    assert pc.registers.read_csr(15) == CSR15_PROM
    assert hears(pc, OTHER)
    pc.kernel.announce(promiscuous=False, ladrf=EVERY_GROUP)
    pc.run()
    assert (pc.registers.read_csr(15), ladrf(pc)) == (0, EVERY_GROUP)
    assert not hears(pc, OTHER)


def test_the_accesses_are_pcnet32s(pc: BarePc):
    """pcnet32_set_multicast_list: suspend, CSR15, CSR8 to CSR11, resume; CSR5 and CSR15 keep their other bits."""
    csr5 = pc.registers.read_csr(5)
    pc.kernel.announce(ladrf=0x4444_3333_2222_1111)
    pc.run()
    assert csr_writes(pc)[:7] == [
        (5, csr5 | 1), (15, 0), (8, 0x1111), (9, 0x2222), (10, 0x3333), (11, 0x4444), (5, csr5),
    ]  # fmt: skip
    assert pc.registers.read_csr(5) == csr5
    pc.kernel.announce(promiscuous=True)
    pc.run()
    assert csr_writes(pc)[:3] == [(5, csr5 | 1), (15, CSR15_PROM), (5, csr5)]


def test_a_new_mac_is_the_cards(pc: BarePc):
    """PADR follows ``ip link set address``: the new address is heard, the old one is not."""
    pc.kernel.announce(mac=OTHER)
    pc.run()
    assert [pc.registers.read_csr(12 + i) for i in range(3)] == [0x0002, 0x0000, 0x9900]
    assert hears(pc, OTHER)
    assert not hears(pc, MAC)


def test_down_is_stop_and_up_opens_again(pc: BarePc):
    """An interface that is down has a chip that is deaf; up, it works as before, with what was set meanwhile."""
    csr5 = pc.registers.read_csr(5)
    pc.kernel.announce(up=False)
    pc.run()
    assert pc.registers.read_csr(0) & (CSR0_STOP | CSR0_RXON | CSR0_TXON) == CSR0_STOP
    assert not hears(pc, MAC)
    pc.kernel.announce(up=True, mac=OTHER, promiscuous=True, ladrf=1 << 63)
    pc.run()
    assert (pc.registers.read_csr(5), pc.registers.read_csr(15), ladrf(pc)) == (csr5, CSR15_PROM, 1 << 63)
    assert hears(pc, OTHER)
    pc.stack.send(outgoing(1))
    pc.run()
    assert pc.wire.sent[-1] == outgoing(1)


def test_down_and_up_many_times_under_traffic(pc: BarePc):
    """Twenty times down and up, wherever the rings are: what is sent while it is up goes out, in order."""
    sent = []
    for turn in range(20):
        for number in range(3):
            sent.append(outgoing(10 * turn + number))
            pc.stack.send(sent[-1])
        pc.run()
        pc.kernel.announce(up=False)
        pc.run()
        pc.kernel.announce(up=True)
        pc.run()
        assert hears(pc, MAC)
    assert pc.wire.sent == sent
    assert pc.chip.tx_used == 0


def test_frames_of_an_interface_that_is_down_stay_where_they_are(pc: BarePc):
    """While the card is off the driver leaves the stack's queue alone, and its idle loop sleeps; up, they go out."""
    pc.kernel.announce(up=False)
    pc.run()
    pc.stack.send(outgoing(1))
    pc.run()
    assert pc.wire.sent == []
    pc.kernel.announce(up=True)
    pc.run()
    assert pc.wire.sent == [outgoing(1)]


def test_a_card_that_starts_down_is_opened_when_the_interface_comes_up():
    """A guest whose interface is down when its driver starts has a chip that is not touched until it is up."""
    for driver, rings in DRIVERS.items():
        with BarePc(driver, up=False, **rings) as pc:
            pc.run()
            assert not pc.chip.up
            pc.kernel.announce(up=True)
            pc.run()
            assert hears(pc, MAC)
            assert pc.registers.read_csr(5) == (CSR5_LTINTEN if driver == "napi" else 0)


def test_what_is_not_announced_is_found_within_a_second(pc: BarePc, monkeypatch: pytest.MonkeyPatch):
    """A group that a packet socket joins makes no announcement: the look once a second finds it, halted or busy."""
    now = [10**12]
    monkeypatch.setattr("guest.card.monotonic_ns", lambda: now[0])
    pc.card.look(now[0])
    pc.kernel.set(ladrf=5)
    now[0] += 999_000_000
    pc.run()
    assert ladrf(pc) == 0
    now[0] += 1_000_000
    pc.run()
    assert ladrf(pc) == 5


def test_a_busy_driver_looks_too(pc: BarePc, monkeypatch: pytest.MonkeyPatch):
    """A driver whose stack always has frames never halts: it finds the kernel's wish after some turns of its loop."""
    now = [10**12]
    monkeypatch.setattr("guest.card.monotonic_ns", lambda: now[0])
    pc.card.look(now[0])
    queue = pc.chip.queue_from_stack
    frames = iter(range(20_000))

    def always_more(flags: int = 0) -> bool:
        number = next(frames, None)
        if number is None:
            return False
        if number == 100:
            pc.kernel.set(ladrf=9)
            now[0] += 2_000_000_000
        pc.stack.send(outgoing(number))
        assert queue(flags)
        return True

    halted: list[int] = []
    pc.chip.queue_from_stack = always_more  # type: ignore[method-assign]
    program = pc.card.apply

    def apply() -> None:
        halted.append(pc.cpu.halts)
        program()

    pc.card.apply = apply  # type: ignore[method-assign]
    pc.run()
    assert halted[0] == 0 or pc.cpu.halts > halted[0]
    assert ladrf(pc) == 9


def test_a_look_that_finds_nothing_new_leaves_the_chip_alone(pc: BarePc):
    """Announcements about other links, or of what the card has already, cost no port access and end no HLT."""
    pc.kernel.announce()
    pc.run()
    assert not csr_writes(pc)
    assert pc.cpu.halts == 1
    assert pc.kernel.looks >= 2
    pc.kernel.settings = None  # moved to another namespace: the card stays as it was
    pc.card.look(0)
    pc.run()
    assert not csr_writes(pc)


def test_frames_in_the_rings_survive_a_new_filter(pc: BarePc):
    """Frames queued and frames received before the filter changed are sent and delivered, in order, none twice."""
    pc.engine_runs = False
    for number in range(10):
        pc.stack.send(outgoing(number))
    pc.run()
    pc.kernel.announce(ladrf=1)
    pc.run()
    pc.engine_runs = True
    pc.cpu.at_halt.append(lambda: pc.engine.run(2))
    pc.run()
    assert pc.wire.sent == [outgoing(number) for number in range(10)]
    assert hears(pc, MAC)


def test_a_vlan_frame_goes_out_and_comes_in_whole(pc: BarePc):
    """1518 bytes, which is 1500 and a tag, are carried unchanged both ways."""
    assert LARGEST_FRAME == 1518
    pc.stack.send(outgoing(1, 1518))
    pc.run()
    assert pc.wire.sent == [outgoing(1, 1518)]
    pc.cpu.at_halt.append(lambda: pc.arrive(frame(MAC, 2, 1518)))
    pc.run()
    assert pc.delivered() == [frame(MAC, 2, 1518)]
    assert pc.counter("guest_tx_too_long") == pc.counter("guest_rx_errors") == 0


@pytest.mark.parametrize("size", [1519, 1543, 1544, 1545, 4096, 9014])
def test_a_frame_that_is_too_long_is_counted_and_not_cut(pc: BarePc, size: int):
    """What the card cannot carry is dropped whole, and what comes behind it goes out."""
    for number in range(5):
        pc.stack.send(outgoing(number, size))
    pc.stack.send(outgoing(9))
    pc.run()
    assert pc.wire.sent == [outgoing(9)]
    assert pc.counter("guest_tx_too_long") == 5
    assert pc.counter("guest_tap_reads") == 1


def test_a_chip_that_does_not_suspend(pc: BarePc):
    """After a bounded number of looks the driver says so in one line."""
    read = pc.chip.read_csr
    pc.chip.read_csr = lambda index: 0 if index == 5 else read(index)  # type: ignore[method-assign]
    pc.kernel.announce(ladrf=1)
    with pytest.raises(SetupError, match="SPND"):
        pc.driver.run()


def test_a_card_without_a_kernel_never_wakes_anybody():
    """A driver that has been given no kernel polls for ever, as before, and programs nothing."""
    card = Card(None)  # type: ignore[arg-type]
    assert (card.fd, card.wanted) == (-1, None)
    card.look_if_due()
    assert GuestEvents(card).poll(0) == []


Step = Callable[[BarePc, list[bytes], int], None]


def _send(pc: BarePc, sent: list[bytes], number: int) -> None:
    sent.append(outgoing(number))
    pc.stack.send(sent[-1])


def _filter(pc: BarePc, _sent: list[bytes], number: int) -> None:
    pc.kernel.announce(ladrf=number * 0x9E37_79B9_7F4A_7C15 & EVERY_GROUP)


def _toggle(pc: BarePc, _sent: list[bytes], _number: int) -> None:
    assert pc.kernel.settings is not None
    pc.kernel.announce(promiscuous=not pc.kernel.settings.promiscuous)


def _bounce(pc: BarePc, _sent: list[bytes], _number: int) -> None:
    pc.kernel.announce(up=False)
    pc.run()
    pc.kernel.announce(up=True)


@given(
    st.sampled_from(sorted(DRIVERS)), st.lists(st.sampled_from([_send, _send, _filter, _toggle, _bounce]), max_size=30)
)
@settings(deadline=None)
def test_any_mixture_ends_with_what_the_kernel_wants(driver: str, steps: list[Step]):
    """Whatever is set and sent in whatever order: no frame is lost, and the chip ends as the kernel has it."""
    with BarePc(driver, log_tx=3, log_rx=2) as pc:
        sent: list[bytes] = []
        for number, step in enumerate(steps):
            step(pc, sent, number)
            pc.run()
        assert pc.wire.sent == sent
        wanted = pc.kernel.settings
        assert wanted is not None
        assert bool(pc.registers.read_csr(15) & CSR15_PROM) == wanted.promiscuous
        if not wanted.promiscuous:
            assert ladrf(pc) == wanted.ladrf

"""INTx over eventfds: level semantics, all forms of DEVICE_SET_IRQS that work, descriptors that are no eventfds."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from tests.kit.vfioclient import VfioClient, refused
from tests.kit.vfiodevice import ServedDevice
from vmm.vfiouser.interrupts import IntxLine
from vmm.vfiouser.messages import IrqAction, IrqData, IrqIndex

FULL = (1 << 64) - 2


def taken(fd: int) -> int:
    """What the eventfd counts, which begins anew."""
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0


@pytest.fixture(name="line")
def _line(served: ServedDevice) -> IntxLine:
    return served.server.interrupt


def test_a_rise_is_signalled_once(client: VfioClient, line: IntxLine, eventfd: int) -> None:
    """A line that goes up and stays up triggers once until the client unmasks, however often it is driven."""
    client.set_trigger(eventfd)
    for level in (1, 1, 0, 1):
        line.set_level(level)
    assert taken(eventfd) == 1
    assert line.raised == 1
    assert line.masked


def test_unmasking_triggers_a_line_that_is_still_up(
    served: ServedDevice, client: VfioClient, line: IntxLine, eventfd: int
) -> None:
    """As long as the line is up each unmasking triggers again; when it is down, none does."""
    client.set_trigger(eventfd)
    line.set_level(1)
    for _ in range(3):
        assert taken(eventfd) == 1
        client.unmask()
    assert taken(eventfd) == 1
    line.set_level(0)
    client.unmask()
    assert taken(eventfd) == 0
    line.set_level(1)
    assert taken(eventfd) == 1
    assert served.device.unmasked == 5  # the device is told of the trigger and of every unmasking


def test_patience_waits_for_the_handler(client: VfioClient, line: IntxLine, eventfd: int) -> None:
    """With patience, unmasking a line that is up triggers nothing until it is repaid, and then once."""
    line.patient = True
    client.set_trigger(eventfd)
    line.set_level(1)
    assert taken(eventfd) == 1
    client.unmask()
    assert taken(eventfd) == 0
    assert line.owed_ns
    line.repay()
    assert (taken(eventfd), line.masked, line.owed_ns) == (1, True, 0)
    line.repay()
    assert taken(eventfd) == 0


def test_patience_forgets_a_line_that_went_down(client: VfioClient, line: IntxLine, eventfd: int) -> None:
    """A handler that lowers the line after unmasking owes nothing; the next rise triggers at once."""
    line.patient = True
    client.set_trigger(eventfd)
    line.set_level(1)
    client.unmask()
    line.set_level(0)
    line.repay()
    assert taken(eventfd) == 1
    line.set_level(1)
    assert taken(eventfd) == 1


def test_a_rise_while_masked_is_kept(client: VfioClient, line: IntxLine, eventfd: int) -> None:
    """What the line does behind the mask is seen when the mask goes, if it is still so."""
    client.set_trigger(eventfd)
    client.set_irqs(IrqData.NONE | IrqAction.MASK)
    line.set_level(1)
    assert taken(eventfd) == 0
    client.unmask()
    assert taken(eventfd) == 1


def test_a_line_that_is_up_before_there_is_a_trigger(client: VfioClient, line: IntxLine, eventfd: int) -> None:
    """Nothing is lost without an eventfd: the first one is signalled when it is set."""
    line.set_level(1)
    client.set_trigger(eventfd)
    assert taken(eventfd) == 1


def test_replacing_the_trigger_keeps_the_mask(client: VfioClient, line: IntxLine, eventfd: int) -> None:
    """The new eventfd takes over as things are; the old one is not written any more."""
    other = os.eventfd(0, os.EFD_NONBLOCK)
    client.set_trigger(eventfd)
    client.set_irqs(IrqData.NONE | IrqAction.MASK)
    client.set_trigger(other)
    line.set_level(1)
    assert (taken(eventfd), taken(other)) == (0, 0)
    client.unmask()
    assert (taken(eventfd), taken(other)) == (0, 1)
    os.close(other)


def test_taking_the_trigger_away(client: VfioClient, line: IntxLine, eventfd: int) -> None:
    """EVENTFD | TRIGGER without a descriptor has none from now on, and nothing is lost meanwhile."""
    client.set_trigger(eventfd)
    client.set_irqs(IrqData.EVENTFD | IrqAction.TRIGGER)
    line.set_level(1)
    client.unmask()
    assert taken(eventfd) == 0
    client.set_trigger(eventfd)
    assert taken(eventfd) == 1


def test_disabling(client: VfioClient, line: IntxLine, eventfd: int) -> None:
    """A count of 0 takes trigger and mask away; what comes next begins unmasked."""
    client.set_trigger(eventfd)
    client.set_irqs(IrqData.NONE | IrqAction.MASK)
    client.set_irqs(IrqData.NONE | IrqAction.TRIGGER, 0)
    line.set_level(1)
    assert taken(eventfd) == 0
    client.set_trigger(eventfd)
    assert taken(eventfd) == 1


@pytest.mark.parametrize(("data", "times"), [(b"\0", 0), (b"\1", 1), (b"\xff", 1)])
def test_booleans_choose(client: VfioClient, line: IntxLine, eventfd: int, data: bytes, times: int) -> None:
    """With BOOL an action happens if the boolean is true, for each of the three actions."""
    client.set_trigger(eventfd)
    client.set_irqs(IrqData.BOOL | IrqAction.TRIGGER, data=data)
    assert taken(eventfd) == times
    client.set_irqs(IrqData.BOOL | IrqAction.MASK, data=data)
    assert line.masked == bool(times)
    line.masked = True
    client.set_irqs(IrqData.BOOL | IrqAction.UNMASK, data=data)
    assert line.masked != bool(times)


def test_loop_back_trigger(client: VfioClient, line: IntxLine, eventfd: int) -> None:
    """A client may have its own eventfd signalled, even while masked; line and mask stay as they are."""
    client.set_trigger(eventfd)
    client.set_irqs(IrqData.NONE | IrqAction.MASK)
    client.set_irqs(IrqData.NONE | IrqAction.TRIGGER)
    assert taken(eventfd) == 1
    assert (line.level, line.masked, line.raised) == (0, True, 0)
    client.set_irqs(IrqData.EVENTFD | IrqAction.TRIGGER)
    refused(errno.EINVAL, client.set_irqs, IrqData.NONE | IrqAction.TRIGGER)


def test_unmasking_by_eventfd(served: ServedDevice, client: VfioClient, line: IntxLine, eventfd: int) -> None:
    """As KVM's resampling does: a write to the client's second eventfd unmasks, without a message."""
    waker = os.eventfd(0, os.EFD_NONBLOCK)
    client.set_trigger(eventfd)
    changed = served.server.changed
    client.set_irqs(IrqData.EVENTFD | IrqAction.UNMASK, fds=[waker])
    assert served.server.changed > changed
    assert len(served.server.descriptors) == 3
    line.set_level(1)
    assert taken(eventfd) == 1
    os.eventfd_write(waker, 1)
    assert served.pump() == 1
    assert taken(eventfd) == 1
    assert served.device.unmasked == 2
    client.set_irqs(IrqData.EVENTFD | IrqAction.UNMASK)
    assert len(served.server.descriptors) == 2
    os.eventfd_write(waker, 1)
    assert served.pump() == 0
    os.close(waker)


def test_masking_by_eventfd(served: ServedDevice, client: VfioClient, line: IntxLine, eventfd: int) -> None:
    """A write to the eventfd that was set for MASK masks."""
    client.set_irqs(IrqData.EVENTFD | IrqAction.MASK, fds=[eventfd])
    os.eventfd_write(eventfd, 1)
    served.pump()
    assert line.masked


def wrong_descriptors() -> Iterator[tuple[int, list[int]]]:
    """Descriptors that are no eventfds, and what else must be closed with each."""
    here, there = socket.socketpair()
    yield here.detach(), [there.detach()]
    reader, writer = os.pipe()
    yield writer, [reader]
    yield os.memfd_create("anon_inode:[eventfd]"), []
    yield os.open("/dev/zero", os.O_RDWR), []
    yield os.pidfd_open(os.getpid()), []


@pytest.mark.parametrize("action", list(IrqAction))
def test_descriptors_that_are_no_eventfds(served: ServedDevice, client: VfioClient, action: IrqAction) -> None:
    """Anything else is EINVAL and is closed; what was set before stays."""
    for fd, others in wrong_descriptors():
        refused(errno.EINVAL, client.set_irqs, IrqData.EVENTFD | action, fds=[fd])
        for each in (fd, *others):
            os.close(each)
    assert len(served.server.descriptors) == 2


def test_two_descriptors_for_one_interrupt(client: VfioClient, eventfd: int) -> None:
    """INTx has one interrupt, and takes one descriptor."""
    refused(errno.EINVAL, client.set_irqs, IrqData.EVENTFD | IrqAction.TRIGGER, fds=[eventfd, eventfd])


@pytest.mark.timeout(5)
def test_a_full_counter_does_not_block(client: VfioClient, line: IntxLine) -> None:
    """A blocking eventfd that can take no more is not written: its reader is awake anyway."""
    fd = os.eventfd(0)
    os.eventfd_write(fd, FULL)
    client.set_trigger(fd)
    line.set_level(1)
    client.unmask()
    client.set_irqs(IrqData.NONE | IrqAction.TRIGGER)
    assert os.eventfd_read(fd) == FULL
    client.unmask()
    assert os.eventfd_read(fd) == 1
    os.close(fd)


@pytest.mark.timeout(5)
def test_an_empty_waker_does_not_block(served: ServedDevice, client: VfioClient) -> None:
    """A blocking eventfd that the client has emptied again is not waited for."""
    fd = os.eventfd(0)
    client.set_irqs(IrqData.EVENTFD | IrqAction.UNMASK, fds=[fd])
    assert served.pump() == 0
    os.close(fd)


def test_flags_of_the_clients_eventfd_stay(client: VfioClient, line: IntxLine) -> None:
    """Both sides share the file's flags: a client whose reads wait goes on having them wait."""
    fd = os.eventfd(0)
    client.set_trigger(fd)
    line.set_level(1)
    assert os.get_blocking(fd)
    os.close(fd)


def test_err_has_a_trigger(served: ServedDevice, client: VfioClient, line: IntxLine, eventfd: int) -> None:
    """A client may set ERR's eventfd, try it, and take it away; INTx does not notice."""
    for take_away in (IrqData.NONE | IrqAction.TRIGGER, IrqData.EVENTFD | IrqAction.TRIGGER):
        client.set_irqs(IrqData.EVENTFD | IrqAction.TRIGGER, index=IrqIndex.ERR, fds=[eventfd])
        line.set_level(1)
        assert taken(eventfd) == 0
        client.set_irqs(IrqData.NONE | IrqAction.TRIGGER, index=IrqIndex.ERR)
        assert taken(eventfd) == 1
        client.set_irqs(take_away, 0 if take_away & IrqData.NONE else 1, index=IrqIndex.ERR)
        refused(errno.EINVAL, client.set_irqs, IrqData.NONE | IrqAction.TRIGGER, index=IrqIndex.ERR)
    assert served.device.unmasked == 0
    client.set_irqs(IrqData.EVENTFD | IrqAction.TRIGGER, index=IrqIndex.ERR, fds=[eventfd])  # closed with the client

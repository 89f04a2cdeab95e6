"""IntxLine against a model: whatever is done in whatever order, the client hears what VFIO's INTx must tell it."""

from __future__ import annotations

import os

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vmm.vfiouser.interrupts import IntxLine
from vmm.vfiouser.messages import IrqAction


class IntxMachine(RuleBasedStateMachine):
    """The model: a level, a mask, the number of signals that each eventfd should have got."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0
        self.line = IntxLine(self._count)
        self.level = 0
        self.masked = False
        self.raised = 0
        self.trigger: int | None = None  # the client's end of the eventfd in use
        self.expected = 0
        self.wakers: dict[IrqAction, int] = {}

    def _count(self) -> None:
        self.changes += 1

    def _settle(self) -> None:
        if self.level and not self.masked and self.trigger is not None:
            self.masked = True
            self.raised += 1
            self.expected += 1

    def _forget_trigger(self) -> None:
        if self.trigger is not None:
            self.check()
            os.close(self.trigger)
            self.trigger = None

    @rule(level=st.integers(0, 3))
    def set_level(self, level: int) -> None:
        self.line.set_level(level)
        self.level = min(level, 1)
        self._settle()

    @rule()
    def mask(self) -> None:
        self.line.mask()
        self.masked = True

    @rule()
    def unmask(self) -> None:
        self.line.unmask()
        self.masked = False
        self._settle()

    @rule()
    def connect(self) -> None:
        fd = os.eventfd(0, os.EFD_NONBLOCK)
        self._forget_trigger()
        self.line.connect(os.dup(fd))
        self.trigger, self.expected = fd, 0
        self._settle()

    @rule()
    def disconnect(self) -> None:
        self.line.disconnect()
        self._forget_trigger()

    @precondition(lambda self: self.trigger is not None)
    @rule()
    def test(self) -> None:
        self.line.test()
        self.expected += 1

    @rule(action=st.sampled_from([IrqAction.MASK, IrqAction.UNMASK]), semaphore=st.booleans())
    def set_waker(self, action: IrqAction, semaphore: bool) -> None:
        if action in self.wakers:
            os.close(self.wakers.pop(action))
        self.wakers[action] = os.eventfd(0, os.EFD_SEMAPHORE if semaphore else 0)
        changes = self.changes
        self.line.set_waker(action, os.dup(self.wakers[action]))
        assert self.changes == changes + 1

    @rule(action=st.sampled_from([IrqAction.MASK, IrqAction.UNMASK]))
    def clear_waker(self, action: IrqAction) -> None:
        self.line.set_waker(action, None)
        if action in self.wakers:
            os.close(self.wakers.pop(action))

    @precondition(lambda self: bool(self.wakers))
    @rule(data=st.data())
    def wake(self, data: st.DataObject) -> None:
        action = data.draw(st.sampled_from(sorted(self.wakers)))
        os.eventfd_write(self.wakers[action], 1)
        assert self.line.take_wakers()
        assert not self.line.take_wakers()
        self.masked = action == IrqAction.MASK
        self._settle()

    @rule()
    def reset(self) -> None:
        self.line.reset()
        for fd in self.wakers.values():
            os.close(fd)
        self.wakers = {}
        self.masked = False
        self._forget_trigger()

    @invariant()
    def check(self) -> None:
        assert (self.line.level, self.line.masked, self.line.raised) == (self.level, self.masked, self.raised)
        assert len(self.line.descriptors) == len(self.wakers)
        if self.trigger is not None:
            try:
                heard = os.eventfd_read(self.trigger)
            except BlockingIOError:
                heard = 0
            assert heard == self.expected
            self.expected = 0

    def teardown(self) -> None:
        self.reset()


IntxMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestIntx = IntxMachine.TestCase
TestIntx.__doc__ = """Level, mask, triggers and descriptors agree with the model after every step."""

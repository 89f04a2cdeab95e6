"""Forms of DEVICE_SET_IRQS that are refused; those that work are in test_vfio_intx.py."""

from __future__ import annotations

import errno

import pytest

from tests.kit.vfioclient import VfioClient, refused
from vmm.vfiouser.messages import IRQ_SET, Command, IrqAction, IrqData, IrqIndex


@pytest.mark.parametrize("flags", [0, 1, 2, 4, 3 | 32, 5 | 32, 1 | 8 | 16, 1 | 48, 8, 16, 32, 64 | 1 | 32, 0xFFFFFFFF])
def test_one_data_flag_and_one_action(client: VfioClient, flags: int) -> None:
    """DEVICE_SET_IRQS has exactly one of each kind of flag, and no other."""
    refused(errno.EINVAL, client.set_irqs, flags)


@pytest.mark.parametrize(("start", "count"), [(0, 2), (1, 0), (1, 1), (0, (1 << 32) - 1), ((1 << 32) - 1, 1)])
def test_interrupts_that_are_not_there(client: VfioClient, start: int, count: int) -> None:
    """INTx has one interrupt."""
    refused(errno.EINVAL, client.set_irqs, IrqData.NONE | IrqAction.UNMASK, count, start=start)


@pytest.mark.parametrize("index", [1, 2, 4])
@pytest.mark.parametrize("count", [0, 1])
def test_other_indices_have_no_interrupts(client: VfioClient, index: int, count: int) -> None:
    """MSI, MSI-X and REQ have nothing to set, and nothing to disable."""
    refused(errno.EINVAL, client.set_irqs, IrqData.NONE | IrqAction.TRIGGER, count, index=index)


@pytest.mark.parametrize("data", list(IrqData))
@pytest.mark.parametrize("action", list(IrqAction))
def test_no_interrupt_means_disable_only(client: VfioClient, data: IrqData, action: IrqAction) -> None:
    """A count of 0 goes with NONE and TRIGGER alone."""
    if (data, action) == (IrqData.NONE, IrqAction.TRIGGER):
        client.set_irqs(data | action, 0)
    else:
        refused(errno.EINVAL, client.set_irqs, data | action, 0)


def test_irq_argsz_and_missing_data(client: VfioClient) -> None:
    """Argsz below the fixed part is EINVAL, and so is a boolean that is not there."""
    refused(errno.EINVAL, client.call, Command.DEVICE_SET_IRQS, IRQ_SET.pack(19, 17, 0, 0, 1))
    refused(errno.EINVAL, client.set_irqs, IrqData.BOOL | IrqAction.MASK)


@pytest.mark.parametrize("action", [IrqAction.MASK, IrqAction.UNMASK])
@pytest.mark.parametrize("data", list(IrqData))
def test_err_cannot_be_masked(client: VfioClient, data: IrqData, action: IrqAction) -> None:
    """ERR has a trigger and nothing else."""
    refused(errno.EINVAL, client.set_irqs, data | action, index=IrqIndex.ERR, data=b"\1")

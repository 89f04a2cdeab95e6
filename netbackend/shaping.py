"""A link rate put on a link: the kernel's token bucket filter, set up for Ethernet.

The rate is the line's: besides its bytes each frame pays for preamble, FCS and gap, and a short one for padding
(``netbackend.rate``). So 100mbit carries what 100 Mb/s Ethernet carries: 8127 full frames a second, 94.1 Mb/s of TCP
payload with timestamps.
"""

from __future__ import annotations

import errno
from typing import Final

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, nla
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTM_DELQDISC, RTM_NEWQDISC, TC_H_ROOT
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from machine.errors import SetupError
from netbackend.links import Link, Session, reporting
from netbackend.rate import ETHERNET_OVERHEAD, MINIMUM_WIRE_FRAME, TokenBucket

__all__ = ["shape", "swallow"]

_HANDLE: Final = 0x10000  # 1:
_LINKLAYER_ETHERNET: Final = 1  # linux/pkt_sched.h
_RATE32_MAX: Final = 0xFFFFFFFF


class _TbfOptions(nla):  # type: ignore[misc]  # pyroute2 carries no types
    """TCA_OPTIONS of TBF (linux/pkt_sched.h). pyroute2's own knows no 64-bit rate, overhead or burst in bytes."""

    nla_map = (
        ("TCA_TBF_UNSPEC", "none"),
        ("TCA_TBF_PARMS", "parameters"),
        ("TCA_TBF_RTAB", "hex"),
        ("TCA_TBF_PTAB", "hex"),
        ("TCA_TBF_RATE64", "uint64"),
        ("TCA_TBF_PRATE64", "uint64"),
        ("TCA_TBF_BURST", "uint32"),
    )

    class parameters(nla):  # type: ignore[misc]  # noqa: N801
        """struct tc_tbf_qopt: the rate's tc_ratespec, the peak's (never set), limit, buffer, mtu."""

        fields = (
            ("cell_log", "B"),
            ("linklayer", "B"),
            ("overhead", "H"),
            ("cell_align", "h"),
            ("mpu", "H"),
            ("rate", "I"),
            ("peak", "12s"),
            ("limit", "I"),
            ("buffer", "I"),
            ("mtu", "I"),
        )


class _TbfMessage(tcmsg):  # type: ignore[misc]
    """A tcmsg whose options are always TBF's."""

    @staticmethod
    def get_options(*_: object, **__: object) -> type[_TbfOptions]:
        """The class that encodes TCA_OPTIONS."""
        return _TbfOptions


def shape(connection: Session, link: Link, rate: int | None) -> None:
    """Limits what leaves through ``link`` to ``rate`` bit/s, or to nothing if None; live, as often as one likes."""
    with reporting(f"set the rate of {link.name}"):
        try:
            if rate is None:
                _send(connection, _message(link), RTM_DELQDISC, 0)
            else:
                _send(connection, _tbf(link, TokenBucket.for_line(rate)), RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE)
        except NetlinkError as error:
            if rate is None and error.code in (errno.ENOENT, errno.EINVAL):
                return  # there is no queueing discipline to delete
            if rate is not None and error.code == errno.ENOENT:
                raise SetupError("the kernel has no TBF (modprobe sch_tbf); or use link rate none") from None
            raise


def swallow(connection: Session, link: Link) -> None:
    """Has the kernel throw away whatever leaves through ``link``, until ``shape`` is told its rate."""
    with reporting(f"silence {link.name}"):
        message = _message(link)
        message["attrs"] = [("TCA_KIND", "blackhole")]  # net/sched/sch_blackhole.c
        _send(connection, message, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE)


def _send(connection: Session, message: _TbfMessage, kind: int, flags: int) -> None:
    message["header"]["type"] = kind
    message["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK | flags
    # A batch of one: in pyroute2 0.9.7 the synchronous nlm_request() itself fails (KeyError: nlm_generator).
    connection.nlm_request_batch([message])


def _message(link: Link) -> _TbfMessage:
    message = _TbfMessage()
    message["family"] = 0
    message["index"] = link.index
    message["handle"] = _HANDLE
    message["parent"] = TC_H_ROOT
    return message


def _tbf(link: Link, bucket: TokenBucket) -> _TbfMessage:
    parameters = {
        "linklayer": _LINKLAYER_ETHERNET,  # else the kernel wants a rate table that it doesn't use
        "overhead": ETHERNET_OVERHEAD,
        "mpu": MINIMUM_WIRE_FRAME,
        "rate": min(bucket.rate, _RATE32_MAX),
        "peak": bytes(12),
        "limit": bucket.limit,
    }
    options = [("TCA_TBF_PARMS", parameters), ("TCA_TBF_BURST", bucket.burst)]
    if bucket.rate > _RATE32_MAX:
        options.append(("TCA_TBF_RATE64", bucket.rate))
    message = _message(link)
    message["attrs"] = [("TCA_KIND", "tbf"), ("TCA_OPTIONS", {"attrs": options})]
    return message

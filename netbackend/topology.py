"""A stack's network as a whole: built from its plan, recorded, removed by its record, measured, re-shaped.

Everything that is made is in namespaces of the stack's own. ``Network.record`` says what exactly that is, in plain
values, so that any later process removes that and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Final, TypeAlias

from machine.errors import StackError
from netbackend import links, muting, namespaces
from netbackend.links import LinkStatistics, Session
from netbackend.mtuguard import MtuGuard
from netbackend.plan import (
    BRIDGE,
    HOST_TAP,
    LARGEST_MTU,
    NATIVE_PORT,
    PREFIX_LENGTH,
    PREFIX_LENGTH_6,
    SMALLEST_MTU_6,
    STATION_INTERFACE,
    TAP_QUEUE_FRAMES,
    WIRE,
    NetworkPlan,
    Station,
)
from netbackend.shaping import shape
from netbackend.tap import keep, open_tap

__all__ = ["Network", "NetworkPlan", "Record", "build", "left_of", "link_statistics", "remove", "set_link_rate"]

Record: TypeAlias = dict[str, Any]
"""{"stack": name, "namespaces": [entry, ...]}; an entry: {"role", "name", "device", "inode", "links": [link, ...]};
a link: {"name", "index", "kind", "mac"}. Strings and integers only."""

_SHAPED: Final = (("host", WIRE), ("peer", STATION_INTERFACE))  # both ends of the wire: each limits one direction


class Network:
    """The network of one stack, up until ``close`` or the end of the ``with`` block.

    ``guest_tap`` and ``host_tap`` are descriptors of the two TAPs, non-blocking and close-on-exec; whoever plays the
    guest's NIC and the host's VMNet inherits them. A TAP exists only while a descriptor of it is open somewhere.
    """

    def __init__(self, plan: NetworkPlan, save: Callable[[Record], None] = lambda _: None) -> None:
        """Nothing is made yet: see ``build``. ``save`` is called with the record each time it has grown."""
        self.plan = plan
        self.guest_tap = -1
        self.host_tap = -1
        self.record: Record = {"stack": plan.stack, "namespaces": []}
        self._save = save
        self._guard: MtuGuard | None = None

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes all of it; harmless the second time."""
        with ExitStack() as stack:
            stack.callback(remove, self.record)
            stack.callback(self.close_taps)
            if self._guard is not None:
                self._guard.close()

    def close_taps(self) -> None:
        """Gives up this process's descriptors of the TAPs, once whoever plays the machines has inherited them."""
        taps = self.guest_tap, self.host_tap
        self.guest_tap = self.host_tap = -1
        for fd in taps:
            if fd >= 0:
                os.close(fd)

    @contextmanager
    def lent_taps(self) -> Iterator[None]:
        """Within the block nobody has the TAPs open: for programs that open them by name in their namespaces.

        MACs, addresses and the bridge's port stay. The programs must have ended with the block; afterwards
        ``guest_tap`` and ``host_tap`` are new descriptors of the same TAPs. If this process dies meanwhile, they are
        in the record like everything else.
        """
        for fd in (self.guest_tap, self.host_tap):
            keep(fd, True)
        self.close_taps()
        try:
            yield
        finally:
            self.guest_tap = namespaces.run(self.plan.guest.namespace, lambda: open_tap(self.plan.guest.interface))
            self.host_tap = namespaces.run(self.plan.host.namespace, lambda: open_tap(HOST_TAP))
            for fd in (self.guest_tap, self.host_tap):
                keep(fd, False)

    def make(self, link_rate: int | None) -> None:
        """Makes everything; what is there when it fails is in the record, for ``close``."""
        plan = self.plan
        for role, station in plan.stations.items():
            self._add_namespace(role, station.namespace)
        namespaces.run(plan.host.namespace, self._make_host)
        namespaces.run(plan.guest.namespace, self._make_guest)
        for role in ("peer", "native"):
            namespaces.run(plan.stations[role].namespace, partial(self._make_station, role))
        muting.await_reports()
        for station in plan.stations.values():
            namespaces.run(station.namespace, partial(_speak, station))
        set_link_rate(self.record, link_rate)
        guest = plan.guest
        self._guard = namespaces.run(guest.namespace, lambda: MtuGuard(guest.interface, LARGEST_MTU))

    def _add_namespace(self, role: str, name: str) -> None:
        device, inode = namespaces.create(name)
        self.record["namespaces"].append({"role": role, "name": name, "device": device, "inode": inode, "links": []})
        self._save(self.record)

    def _make_host(self) -> None:
        plan = self.plan
        with links.session() as connection:
            links.add_bridge(connection, BRIDGE, plan.host.mac)
            self.host_tap = open_tap(HOST_TAP)
            self._add_veth(connection, WIRE, plan.wire_mac, plan.peer)
            self._add_veth(connection, NATIVE_PORT, plan.native_port_mac, plan.native)
            master = links.existing(connection, BRIDGE).index
            tap = {"address": plan.host_tap_mac, "mtu": plan.mtu, "txqlen": TAP_QUEUE_FRAMES}
            for port in (HOST_TAP, WIRE, NATIVE_PORT):
                muting.without_ipv6(port)
            self._settle(connection, "host", HOST_TAP, master=master, **tap)
            for port in (WIRE, NATIVE_PORT):
                self._settle(connection, "host", port, master=master)
            # Last: a bridge without a port that is up has no carrier, and what it says then counts as lost.
            self._settle_station(connection, "host", mtu=plan.mtu)

    def _add_veth(self, connection: Session, name: str, mac: str, station: Station) -> None:
        fd = os.open(namespaces.path(station.namespace), os.O_RDONLY | os.O_CLOEXEC)
        try:
            links.add_veth(connection, name, mac, station.interface, station.mac, fd, self.plan.mtu)
        finally:
            os.close(fd)

    def _make_guest(self) -> None:
        self.guest_tap = open_tap(self.plan.guest.interface)
        self._make_station("guest", txqlen=TAP_QUEUE_FRAMES)

    def _make_station(self, role: str, **attributes: object) -> None:
        station = self.plan.stations[role]
        with links.session() as connection:
            self._settle_station(connection, role, address=station.mac, mtu=self.plan.mtu, **attributes)

    def _settle_station(self, connection: Session, role: str, **attributes: object) -> None:
        """A station's interface with its addresses; it says nothing yet."""
        station = self.plan.stations[role]
        muting.mute(connection, station.interface)
        self._settle(connection, role, station.interface, **attributes)
        links.add_address(connection, station.interface, station.address, PREFIX_LENGTH)
        if self.plan.mtu >= SMALLEST_MTU_6 and muting.has_ipv6():
            links.add_address(connection, station.interface, station.address6, PREFIX_LENGTH_6)

    def _settle(self, connection: Session, role: str, name: str, **attributes: object) -> None:
        """Configures a link that has just been made in the namespace of ``role``, and enters it into the record."""
        links.offloads_off(name)
        link = links.configure(connection, name, state="up", **attributes)
        entry = _entry(self.record, role)
        entry["links"].append({"name": name, "index": link.index, "kind": link.kind, "mac": link.mac})
        self._save(self.record)


def _speak(station: Station) -> None:
    with links.session() as connection:
        muting.unmute(connection, station.interface)


def build(plan: NetworkPlan, link_rate: int | None, save: Callable[[Record], None] = lambda _: None) -> Network:
    """Makes the network of ``plan``, its wire at ``link_rate`` bit/s (None: as fast as it goes); see ``Network``.

    ``save`` gets the record each time it has grown. Raises StackError if such a stack exists, SetupError and
    NetworkError if the machine or the kernel won't; whatever had been made by then is removed again.
    """
    network = Network(plan, save)
    with ExitStack() as undo:
        undo.callback(network.close)
        network.make(link_rate)
        undo.pop_all()
    return network


def remove(record: Record) -> None:
    """Removes what ``record`` lists and is still there, still the same; nothing else. Twice does no harm.

    One thing that can't be removed doesn't keep the others; its error is raised at the end.
    """
    with ExitStack() as stack:
        for entry in _entries(record):
            stack.callback(_remove_namespace, entry)


def left_of(record: Record, planned: Iterable[str]) -> dict[str, namespaces.NamespaceId | None]:
    """Those of the ``planned`` namespaces that are still there and ours: name -> what it was when it was made.

    One that is not in the record was made, but its maker did not live to enter it: None.
    """
    made = {entry["name"]: _identity(entry) for entry in _entries(record)}
    return {name: made.get(name) for name in planned if namespaces.is_ours(name, made.get(name))}


def set_link_rate(record: Record, link_rate: int | None) -> None:
    """Limits the wire, each way, to ``link_rate`` bit/s (None: no limit); live."""
    for role, name in _SHAPED:

        def reshape(name: str = name) -> None:
            with links.session() as connection:
                shape(connection, links.existing(connection, name), link_rate)

        _run_in(record, role, reshape)


def link_statistics(record: Record) -> dict[str, LinkStatistics]:
    """What each link has carried and lost since it was made, by "role/link", as in "host/wire0".

    A TAP goes with its last descriptor, and a foreign guest has no use for the guest's: it is left out then.
    """
    found: dict[str, LinkStatistics] = {}
    for entry in _entries(record):

        def read(entry: Record = entry) -> None:
            with links.session() as connection:
                for recorded in entry["links"]:
                    with links.reporting(f"look {recorded['name']} up"):
                        link = links.find(connection, recorded["name"])
                    if link is not None:
                        found[f"{entry['role']}/{link.name}"] = links.statistics(connection, link)

        _run_in(record, entry["role"], read)
    return found


def _run_in(record: Record, role: str, function: Callable[[], None]) -> None:
    entry = _entry(record, role)
    if namespaces.identity(entry["name"]) != _identity(entry):
        raise StackError(f"network namespace {entry['name']} is gone; is the stack up?")
    namespaces.run(entry["name"], function)


def _remove_namespace(entry: Record) -> None:
    """Deletes the links first: whoever still lives in the namespace would otherwise keep them."""

    def delete_links() -> None:
        with links.session() as connection:
            for recorded in reversed(entry["links"]):
                links.delete(connection, links.Link(**recorded))

    try:
        if namespaces.identity(entry["name"]) == _identity(entry):
            namespaces.run(entry["name"], delete_links)
    except StackError:  # somebody has removed its name since: `ip netns delete`
        if namespaces.identity(entry["name"]) == _identity(entry):
            raise
    finally:
        namespaces.remove(entry["name"], _identity(entry))


def _entries(record: Record) -> list[Record]:
    try:
        return list(record["namespaces"])
    except (KeyError, TypeError):
        raise StackError("the record of the stack's network is damaged; see `ip netns list` for what is left") from None


def _entry(record: Record, role: str) -> Record:
    for entry in _entries(record):
        if entry["role"] == role:
            return entry
    raise StackError(f"the network of stack {record.get('stack')} has no {role}; is the stack up?")


def _identity(entry: Record) -> namespaces.NamespaceId:
    return entry["device"], entry["inode"]

"""TAPs that are deleted or set down under a running stack: the first is an end in one line, the second is not."""

from __future__ import annotations

import secrets

import pytest

from lab.foreign import ForeignGuest
from lab.stack import Stack
from machine.config import make_settings
from machine.tapend import gone
from netbackend import links, namespaces
from netbackend.plan import HOST_TAP, NetworkPlan
from netbackend.topology import build
from tests.kit.cli import assert_one_line, status, up, worldswitch
from tests.kit.programs import ping
from tests.kit.stack import cpu_seconds, eventually, running
from vmm.vfiouser.listen import listen

END_S = 5.0
PINGS = 5
KINDS = {"paper": {}, "fast": {"profile": "fast"}, "2.0": {"mode": "2.0"}, "vmm-halts": {"hlt": "vmm"}}


def tap_of(plan, whose):
    """Namespace and name of the guest's TAP, or of the host's."""
    return {"guest": (plan.guest.namespace, plan.guest.interface), "host": (plan.host.namespace, HOST_TAP)}[whose]


def change(plan, whose, **attributes):
    """Deletes the TAP, or gives it these attributes."""
    namespace, name = tap_of(plan, whose)

    def carry_out():
        with links.session() as connection:
            if attributes:
                links.configure(connection, name, **attributes)
            else:
                links.delete(connection, links.existing(connection, name))

    namespaces.run(namespace, carry_out)


def last_words(stack):
    """What is said of the first process that ends; it is said once."""
    said = []
    assert eventually(lambda: said.append(stack.died()) or said[-1], END_S)
    return said[-1]


def lose_pings(bed):
    """The peer asks the guest for a second, and gets no answer."""
    command = ("ping", "-n", "-c", "5", "-i", "0.2", "-W", "0.2", bed.plan.guest.address)
    with bed.spawn("peer", *command) as process:
        output, _ = process.communicate(timeout=15)
    assert " 0 received" in output, output


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("whose", "role"), [("guest", "guest"), ("host", "vmapp")])
def test_a_deleted_tap_ends_the_stack_in_one_line(kind, whose, role):
    """The process at the TAP ends by itself, soon, and says which TAP is gone; nobody else ends."""
    with running(**KINDS[kind]) as bed:
        bed.settle()
        change(bed.plan, whose)
        words = last_words(bed.stack)
        assert words.startswith(f"process {role} (pid {bed.stack.pids[role]}) ended with status 1: the {whose}"), words
        assert "TAP is gone" in words
        assert "\n" not in words


@pytest.mark.parametrize("whose", ["guest", "host"])
def test_status_says_that_a_tap_is_gone(whose):
    """A detached stack whose TAP was deleted has ended for that reason, as its user can read afterwards."""
    name = f"tap-{secrets.token_hex(4)}"
    with up(name):
        change(NetworkPlan(name), whose)
        assert eventually(lambda: status(name)["state"] == "stopped", 20)
        assert "TAP is gone" in assert_one_line(worldswitch("status", "--name", name), 3)


@pytest.mark.parametrize("profile", ["paper", "fast"])
def test_an_idle_stack_behind_a_socket_notices_a_deleted_tap(profile, tmp_path):
    """Nobody sends or receives, and notification asks the kernel for nothing: vmapp notices all the same."""
    settings = make_settings({"guest": "none", "profile": profile, "name": f"t-{secrets.token_hex(4)}"})
    plan = NetworkPlan(settings.name)
    with (
        build(plan, None) as network,
        listen(tmp_path / "vfio.sock") as listener,
        Stack(settings, -1, network.host_tap, bytes(6), None, ForeignGuest(listener, tmp_path)) as stack,
    ):
        change(plan, "host")
        assert last_words(stack).endswith(f"ended with status 1: {gone('host')}")


@pytest.mark.parametrize("whose", ["guest", "host"])
def test_a_tap_that_is_set_down_is_not_gone(whose):
    """No frame passes while it is down, nobody ends or spins, and when it is up again traffic goes on."""
    with running(profile="fast") as bed:
        assert ping(bed, "guest", "peer", PINGS) == PINGS
        change(bed.plan, whose, state="down")
        before = {role: cpu_seconds(process) for role, process in bed.processes.items()}
        lose_pings(bed)
        bed.alive()
        spent = {role: cpu_seconds(process) - before[role] for role, process in bed.processes.items()}
        assert max(spent.values()) < 1.0, spent
        change(bed.plan, whose, state="up")
        assert eventually(lambda: ping(bed, "peer", "guest", PINGS) == PINGS, 10.0)
        bed.alive()

"""Files that a user names, on real file systems and real devices; captures to a FIFO; standard streams of a stack."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from lab.rundir import RunDirectory
from tests.kit.captures import drops, read_all
from tests.kit.cli import COMMAND, assert_one_line, foreground, names_of, record_of, up, worldswitch

NAME = f"out{os.getpid()}"
ROOT = Path(__file__).resolve().parents[2]


def in_a_mount_namespace(folder: Path, mounts: str, script: str) -> str:
    """What a program prints that runs in ``folder``, in a mount namespace of its own after ``mounts``."""
    program = (
        "from lab.outfile import OutFile\nfrom machine.errors import ConfigError\n" + TRY + textwrap.dedent(script)
    )
    return subprocess.run(
        ["unshare", "-m", "bash", "-ec", f'{mounts}\nexec {sys.executable} -c "$PROGRAM"'],
        cwd=folder,
        env=os.environ | {"PROGRAM": program, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


TRY = """
import os

from lab.outfile import OutFile
from machine.errors import ConfigError

def attempt(path, size=400_000):
    try:
        out = OutFile(path)
        out.write(b"n" * size)
        return "written"
    except ConfigError as error:
        return error
"""
FULL_DISK = 'mount -t tmpfs -o size={} none "$PWD"; cd "$PWD"'


@pytest.mark.parametrize("links", [1, 2])
def test_a_full_disk_keeps_the_old_file(tmp_path: Path, links: int) -> None:
    """A tmpfs of 256 KiB: what does not fit is one line, the old content is whole, and nothing else is left there."""
    script = f"""
    open("old", "w").write("old" * 10_000)
    if {links} == 2:
        os.link("old", "other")
    before = sorted(os.listdir())
    print(attempt("old"), open("old").read() == "old" * 10_000, sorted(os.listdir()) == before)
    print(attempt("new"), sorted(os.listdir()) == before)
    print(attempt("old", 100_000), len(open("old").read()))
    """
    printed = in_a_mount_namespace(tmp_path, "mount -t tmpfs -o size=256k none . && cd .", script).splitlines()
    assert printed == [
        "cannot write old: No space left on device True True",
        "cannot write new: No space left on device True",
        "written 100000",
    ]


def test_a_disk_that_is_full_already_is_known_at_the_start(tmp_path: Path) -> None:
    """Before a benchmark begins."""
    script = """
    with open("all", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    try:
        OutFile("new")
    except ConfigError as error:
        print(error, os.listdir())
    """
    printed = in_a_mount_namespace(tmp_path, FULL_DISK.format("64k"), script)
    assert printed == "cannot write new: No space left on device ['all']\n"


def test_read_only_file_systems_and_mount_points(tmp_path: Path) -> None:
    """A read-only bind mount is one line; a file that is a mount point is written in place."""
    for name in ("inside/old", "single", "onto"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("old")
    mounts = "mount --bind inside inside; mount -o remount,ro,bind inside; mount --bind single onto"
    script = """
    print(attempt("inside/old"), "|", attempt("inside/new"), "|", attempt("onto"), sorted(os.listdir()))
    """
    assert in_a_mount_namespace(tmp_path, mounts, script) == (
        "cannot write inside/old: Read-only file system | cannot write inside/new: Read-only file system | "
        "written ['inside', 'onto', 'single']\n"
    )
    assert (tmp_path / "single").stat().st_size == 400_000


def test_the_owner_of_a_file_stays(tmp_path: Path) -> None:
    """Root replaces a user's file: it is still the user's, with its mode; a user's own is replaced by the user."""
    (tmp_path / "file").write_text("old")
    (tmp_path / "file").chmod(0o640)
    os.chown(tmp_path / "file", 65534, 65534)
    script = """
    print(attempt("file"))
    """
    assert in_a_mount_namespace(tmp_path, "true", script) == "written\n"
    found = (tmp_path / "file").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (65534, 65534, 0o640)


def test_a_user_may_write_only_what_is_his(tmp_path: Path) -> None:
    """As nobody: a file in root's folder is written in place if it is nobody's, and refused if it is root's."""
    for name in ("mine", "roots"):
        (tmp_path / name).write_text("old")
    os.chown(tmp_path / "mine", 65534, 65534)
    tmp_path.chmod(0o755)
    script = """
    os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
    print(attempt("mine"), "|", attempt("roots"), "|", attempt("new"))
    """
    for folder in tmp_path.parents[:2]:  # pytest's own are for root alone
        folder.chmod(0o755)
    assert in_a_mount_namespace(tmp_path, "true", script) == (
        "written | cannot write roots: Permission denied | cannot write new: Permission denied\n"
    )


def test_a_benchmark_into_a_device_leaves_the_device(tmp_path: Path) -> None:
    """`bench handoff --quick --json NODE`: a node like /dev/null, and a link to it, are what they were."""
    node, link = tmp_path / "null", tmp_path / "link"
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    link.symlink_to(node)
    done = worldswitch("bench", "handoff", "--quick", "--json", str(link))
    assert done.returncode == 0, done.stderr
    assert stat.S_ISCHR(node.stat().st_mode)
    assert link.is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["link", "null"]


def test_a_capture_whose_reader_pauses(tmp_path: Path) -> None:
    """Traffic and control go on, the user is told once, the capture goes on with its reader, and every frame counts."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    assert "nobody reads" in assert_one_line(worldswitch("up", "--detach", "--name", NAME, "--pcap", str(path)), 1)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    ping = ("exec", "--name", NAME, "guest", "--", "ping", "-q", "-s", "1400")
    with up(NAME, "--mode", "optimised", "--profile", "fast", "--pcap", str(path)):
        flood = worldswitch(*ping, "-c", "1500", "-i", "0.001", "-W", "2", "198.18.0.3")
        assert " 0% packet loss" in flood.stdout, flood.stdout
        began = time.monotonic()
        assert worldswitch("status", "--name", NAME).returncode == 0
        assert time.monotonic() - began < 10
        assert RunDirectory(NAME).log.read_text().count("its reader is too slow") == 1
        data = read_all(reader)
        assert " 0% packet loss" in worldswitch(*ping, "-c", "3", "-i", "0.2", "198.18.0.3").stdout
        for _ in range(8):  # a second at most until what is buffered is written
            time.sleep(0.3)
            data += read_all(reader)
    data += read_all(reader)
    os.close(reader)
    frames, dropped, total = drops(data)
    assert dropped == total > 0
    assert frames + dropped >= 2 * 1500


def test_a_capture_whose_reader_leaves(tmp_path: Path) -> None:
    """The capture ends with one line in the log; the machine runs on."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    ping = ("exec", "--name", NAME, "guest", "--", "ping", "-q", "-c", "3", "-i", "0.6", "198.18.0.3")
    with up(NAME, "--pcap", str(path)):
        os.close(reader)
        for _ in range(2):
            assert " 0% packet loss" in worldswitch(*ping).stdout
        assert RunDirectory(NAME).log.read_text().count("Broken pipe; the stack runs on without it") == 1


def test_a_capture_on_standard_output(tmp_path: Path) -> None:
    """`up --pcap -` has nothing but the capture there; words are on standard error. Detached, it is refused."""
    with (tmp_path / "c").open("wb") as file, (tmp_path / "words").open("wb") as words:
        process = subprocess.Popen([*COMMAND, "up", "--name", NAME, "--pcap", "-"], stdout=file, stderr=words)
        try:
            for _ in range(200):
                if b"is up" in (tmp_path / "words").read_bytes():
                    break
                time.sleep(0.1)
            worldswitch("exec", "--name", NAME, "guest", "--", "ping", "-c", "2", "-i", "0.2", "198.18.0.3")
        finally:
            process.terminate()
            assert process.wait(20) == 0
    assert drops((tmp_path / "c").read_bytes())[0] >= 4
    assert "no standard output" in assert_one_line(worldswitch("up", "--detach", "--name", NAME, "--pcap", "-"), 2)
    assert names_of(NAME) == set()


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """A capture, and a trace, whose names are not UTF-8: a stack comes up, says its name, and goes down."""
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.pcapng")
    trace = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.json")
    with up(NAME, "--pcap", name):
        assert record_of(NAME)["settings"]["pcap"] == name
        done = worldswitch("status", "--name", NAME, PYTHONIOENCODING="ascii")
        assert "caf\\xe9.pcapng" in done.stdout
        assert json.loads(worldswitch("status", "--name", NAME, "--json").stdout)["settings"]["pcap"] == name
        assert worldswitch("trace", "--name", NAME, "--seconds", "0.2", trace).returncode == 0
        for change in (os.fsdecode(b"mode=\xe9"), f"combine_cap={10**30}", "combine_decay=nan"):
            assert_one_line(worldswitch("set", "--name", NAME, change), 2)
    assert sorted(os.listdir(os.fsencode(tmp_path))) == [b"caf\xe9.json", b"caf\xe9.pcapng"]


def test_a_trace_into_a_fifo(tmp_path: Path) -> None:
    """Its reader gets one whole trace; without a reader it is one line, and no waiting."""
    os.mkfifo(tmp_path / "fifo")
    with up(NAME):
        with (tmp_path / "read").open("wb") as file, subprocess.Popen(["cat", tmp_path / "fifo"], stdout=file) as cat:
            time.sleep(0.3)
            done = worldswitch("trace", "--name", NAME, "--seconds", "0.2", str(tmp_path / "fifo"))
            assert done.returncode == 0, done.stderr
            assert cat.wait(20) == 0
        assert json.loads((tmp_path / "read").read_bytes())["traceEvents"]
        done = worldswitch("trace", "--name", NAME, "--seconds", "0.2", str(tmp_path / "fifo"))
        assert "nobody reads this FIFO" in assert_one_line(done, 2)


def test_closed_standard_streams(tmp_path: Path) -> None:
    """`up --detach`, `exec` and `down` do their work without any of them; on a full one, they say so."""
    program = " ".join(COMMAND)

    def shell(words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", f"{program} {words}"], capture_output=True, text=True, timeout=60, cwd=ROOT
        )

    try:
        assert shell(f"up --detach --name {NAME} <&- >&- 2>&-").returncode == 0
        assert record_of(NAME)["state"] == "running"
        assert shell(f"exec --name {NAME} guest -- touch {tmp_path}/ran <&- >&- 2>&-").returncode == 0
        assert (tmp_path / "ran").exists()
        done = shell(f"down --name {NAME} >/dev/full")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert names_of(NAME) == set()
    finally:
        worldswitch("down", "--name", NAME)


def test_a_stack_in_the_foreground_outlives_a_reader_of_its_words() -> None:
    """`up | head -1`: the stack stays up until it is told to end."""
    with foreground(NAME) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert worldswitch("status", "--name", NAME).returncode == 0
        process.stdout = None

"""Output files: what may be replaced is replaced whole, all else is written to, and a failure leaves nothing behind."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import bench, cli
from lab.bench.samples import Recorder
from lab.outfile import OutFile, apart_from
from machine.descriptors import named_descriptor
from machine.errors import BenchError, ConfigError

CONTENT = b"new " * 50_000


def write(path: Path | str, content: bytes = CONTENT) -> None:
    """As a command does: looked at, then written."""
    out = OutFile(path)
    out.write(content)
    out.close()


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes (`ulimit -f`), as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_new_file_is_made_with_the_usual_mode(tmp_path: Path) -> None:
    """The content is there, the mode is the umask's, nothing else is left."""
    before = os.umask(0o027)
    try:
        write(tmp_path / "new")
    finally:
        os.umask(before)
    assert (tmp_path / "new").read_bytes() == CONTENT
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["new"]


def test_a_regular_file_is_replaced_and_keeps_its_mode(tmp_path: Path) -> None:
    """Whoever has the old one open still has the old content, whole; the new one has the old one's mode."""
    target = tmp_path / "file"
    target.write_text("old")
    target.chmod(0o604)
    with target.open("rb") as old:
        write(target)
        assert old.read() == b"old"
    assert target.read_bytes() == CONTENT
    assert stat.S_IMODE(target.stat().st_mode) == 0o604
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("there", [True, False])
def test_a_symbolic_link_is_followed(tmp_path: Path, there: bool) -> None:
    """The link stays a link; its target has the content, whether it was there or not."""
    (tmp_path / "folder").mkdir()
    if there:
        (tmp_path / "folder" / "target").write_text("old")
    (tmp_path / "link").symlink_to(Path("folder") / "target")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "target").read_bytes() == CONTENT
    assert os.listdir(tmp_path / "folder") == ["target"]


def test_hard_links_stay_one_file(tmp_path: Path) -> None:
    """Both names have the new content, also when it is shorter than the old."""
    (tmp_path / "one").write_bytes(CONTENT)
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    write(tmp_path / "one", b"short")
    assert (tmp_path / "two").read_bytes() == b"short"
    assert (tmp_path / "one").samefile(tmp_path / "two")
    write(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == CONTENT


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    """/dev/null through a link is written to: no rename is tried in /dev, and the link is still one to a device."""
    (tmp_path / "link").symlink_to("/dev/null")
    write(tmp_path / "link")
    assert stat.S_ISCHR((tmp_path / "link").stat().st_mode)
    assert os.listdir(tmp_path) == ["link"]


def test_a_full_device_is_one_line() -> None:
    """/dev/full takes the open, and no byte."""
    with pytest.raises(ConfigError, match=r"^cannot write /dev/full: No space left on device$"):
        write("/dev/full")


def test_a_fifo_is_opened_once(tmp_path: Path) -> None:
    """Its reader gets all of the content and then the end, though much later than the first look at it."""
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    out = OutFile(tmp_path / "fifo")
    os.set_blocking(reader, True)
    writer = threading.Thread(target=lambda: (out.write(CONTENT), out.close()))
    writer.start()
    with os.fdopen(reader, "rb") as stream:
        assert stream.read() == CONTENT
    writer.join()
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)


def test_a_fifo_without_a_reader_is_one_line(tmp_path: Path) -> None:
    """Nobody is waited for."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="nobody reads this FIFO"):
        OutFile(tmp_path / "fifo")


def test_a_fifo_whose_reader_leaves_is_one_line(tmp_path: Path) -> None:
    """EPIPE in the middle of the content."""
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    out = OutFile(tmp_path / "fifo")
    os.close(reader)
    with pytest.raises(ConfigError, match="Broken pipe"):
        out.write(CONTENT)
    out.close()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing/file", "No such file or directory"),
        ("folder", "Is a directory"),
        ("folder/", "Is a directory"),
        ("new/", "Is a directory"),
        ("file/below", "Not a directory"),
        ("loop", "Too many levels of symbolic links"),
        ("n" * 300, "File name too long"),
        ("null\0character", "null"),
        ("socket", "it is a socket"),
    ],
)
def test_what_cannot_be_written_is_refused_at_the_start(tmp_path: Path, name: str, reason: str) -> None:
    """One line, before anything is measured, and nothing is left."""
    import socket

    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        before = sorted(os.listdir(tmp_path))
        with pytest.raises(ConfigError, match=f"^cannot write .*: .*{reason}"):
            OutFile(f"{tmp_path}/{name}")
        assert sorted(os.listdir(tmp_path)) == before


def test_an_empty_name_is_refused() -> None:
    """It is no file's."""
    with pytest.raises(ConfigError, match="cannot write"):
        OutFile("")


@pytest.mark.parametrize("links", [1, 2])
def test_a_limit_leaves_the_old_file_whole(tmp_path: Path, links: int) -> None:
    """RLIMIT_FSIZE instead of a full disk: one line, the old content, no temporary file; also in place."""
    target = tmp_path / "file"
    target.write_text("old")
    if links == 2:
        (tmp_path / "other").hardlink_to(target)
    before = sorted(os.listdir(tmp_path))
    out = OutFile(target)
    with file_size_limit(100_000), pytest.raises(ConfigError, match=r"^cannot write .*: File too large$"):
        out.write(CONTENT)
    out.close()
    assert target.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == before


def test_a_directory_that_is_removed_meanwhile_is_one_line(tmp_path: Path) -> None:
    """It was there at the start."""
    (tmp_path / "folder").mkdir()
    out = OutFile(tmp_path / "folder" / "file")
    (tmp_path / "folder").rmdir()
    with pytest.raises(ConfigError, match="No such file or directory"):
        out.write(CONTENT)


def test_content_that_does_not_end_well_changes_nothing(tmp_path: Path) -> None:
    """An exception, or Ctrl-C, while it is written."""
    target = tmp_path / "file"
    target.write_text("old")

    def interrupted() -> None:
        with OutFile(target).writing() as sink:
            sink.write(CONTENT)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_names_of_descriptors(tmp_path: Path) -> None:
    """`-` and the links of /dev, through links of a user's own too; a file `-` in a directory is a file."""
    (tmp_path / "link").symlink_to("/dev/stdout")
    names = {"-": 1, "/dev/stdout": 1, "/dev/stderr": 2, "/dev/fd/7": 7, "/proc/self/fd/12": 12}
    assert {name: named_descriptor(name) for name in names} == names
    assert named_descriptor(tmp_path / "link") == 1
    assert named_descriptor(f"/proc/{os.getpid()}/fd/3") == 3
    for other in ("./-", "/proc/1/fd/3", "/dev/null", "fd/1", "", str(tmp_path / "absent")):
        assert named_descriptor(other) is None


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1"])
def test_standard_output_is_appended_to(tmp_path: Path, name: str) -> None:
    """A log that a shell redirects to keeps what it has: the descriptor is used, not opened anew at offset 0."""
    script = f"print('before', flush=True); from lab.outfile import OutFile; OutFile({name!r}).write(b'content\\n')"
    with (tmp_path / "log").open("wb") as log:
        subprocess.run([sys.executable, "-c", script], stdout=log, check=True)
    assert (tmp_path / "log").read_text() == "before\ncontent\n"


def test_words_go_to_standard_error_where_output_is_data(capsys: pytest.CaptureFixture[str]) -> None:
    """Only within the block, and only if standard output was named."""
    with apart_from("-"):
        print("words")
    with apart_from("/dev/null"), apart_from(None):
        print("output")
    assert capsys.readouterr() == ("output\n", "words\n")


def test_a_recorder_changes_nothing_before_its_end(tmp_path: Path) -> None:
    """An older result stays until the new one is complete; a name that cannot be written is refused at the start."""
    target = tmp_path / "old.json"
    target.write_text("old")
    with Recorder("handoff", {}, target) as recorder:
        recorder.add("raw", "x", "ns", 1.0, 1)
        assert target.read_text() == "old"
    assert '"complete": true' in target.read_text()
    with pytest.raises(BenchError, match="cannot write"):
        Recorder("handoff", {}, tmp_path / "missing" / "file")


def test_a_benchmark_keeps_its_samples_though_nobody_reads_its_remarks(tmp_path: Path) -> None:
    """Standard output takes nothing when the remarks come: an error, but what was measured is in the file."""
    target = tmp_path / "new.json"
    nobody = io.StringIO()
    nobody.close()
    with (
        pytest.raises(ValueError, match="closed"),
        contextlib.redirect_stdout(nobody),
        Recorder("handoff", {}, target) as recorder,
    ):
        recorder.add("raw", "x", "ns", 1.0, 1, valid=False, reason="it was not there")
    assert '"complete": false' in target.read_text()
    assert "it was not there" in target.read_text()


def test_a_benchmark_prints_clean_json(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """`bench NAME --json -`: JSON alone on standard output, the table on standard error."""
    import json

    def measure(args: object) -> int:
        with Recorder("handoff", {}, args.json) as recorder:  # type: ignore[attr-defined]
            print("a table")
            recorder.add("raw", "x", "ns", 1.0, 1)
        return 0

    monkeypatch.setattr(bench.importlib.import_module("lab.bench.handoff"), "run", measure)
    assert cli.main(["bench", "handoff", "--json", "-"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["complete"] is True
    assert err == "a table\n"


def test_sigxfsz_is_an_error_and_not_the_end() -> None:
    """Python ignores the signal, so that a write beyond the limit fails as any other."""
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN

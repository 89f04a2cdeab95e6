"""Standard streams that are closed, full, unread, or of another encoding: one line at most, and the right status."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FULL = "worldswitch: cannot write standard output: No space left on device\n"


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A shell's command line; ``$W`` is the program."""
    program = f"{sys.executable} -m lab"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env=os.environ | {"W": program} | environment,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=60,
        check=False,
    )


def script(text: str, redirections: str) -> subprocess.CompletedProcess[str]:
    """A program of ours between ``take_over`` and ``finish``, with its streams redirected as a shell does it."""
    program = f"from lab import streams\nstreams.take_over()\n{text}"
    return shell(f'{sys.executable} -c "$PROGRAM" {redirections}', PROGRAM=program)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_streams_are_dev_null(closed: str) -> None:
    """The command does what it does; with its standard output closed, for nobody."""
    done = shell(f"$W status --schema {closed}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("{") == (">&-" not in closed.split())


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_gets_a_standard_number(closed: str) -> None:
    """What the program opens after that has a number of 3 or more, whichever were free."""
    assert script("import os, sys\nsys.exit(os.open('/dev/zero', os.O_RDONLY) < 3)", closed).returncode == 0


def test_a_closed_standard_input_can_be_asked() -> None:
    """It is at its end, and no terminal."""
    assert script("import sys\nassert not sys.stdin.isatty()\nassert sys.stdin.read() == ''", "<&-").returncode == 0


@pytest.mark.parametrize("command", ["status --schema", "--help", "bench --help"])
def test_a_full_standard_output_is_one_line(command: str) -> None:
    """Status 1, and neither a traceback nor what the interpreter says at its end."""
    done = shell(f"$W {command} >/dev/full")
    assert (done.returncode, done.stderr) == (1, FULL)


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-"])
def test_a_standard_error_that_takes_nothing_changes_nothing(stderr: str) -> None:
    """The status is that of the failure; what could not be said is lost."""
    assert shell(f"$W nonsense {stderr}").returncode == 2
    assert shell(f"$W status --schema >/dev/full {stderr}").returncode == 1


def test_nobody_reads_it() -> None:
    """`| head` is no failure to speak of: quiet, and the status of an end by SIGPIPE."""
    done = shell("$W status --schema | head -c 1; echo ${PIPESTATUS[0]}")
    assert (done.stdout, done.stderr) == (f"{{{128 + signal.SIGPIPE}\n", "")


def test_work_without_words_is_done() -> None:
    """Within ``patient`` a line that cannot be written stops nothing; it is said once, by ``finish``."""
    text = """
with streams.patient():
    print("a line", flush=True)
    print("another", flush=True)
print("worked", file=__import__("sys").stderr)
for _ in range(2):
    try:
        streams.finish()
        print("nothing to say", file=__import__("sys").stderr)
    except streams.OutputError as error:
        print(error, file=__import__("sys").stderr)
"""
    done = script(text, ">/dev/full")
    words = ["worked", "cannot write standard output: No space left on device", "nothing to say"]
    assert (done.returncode, done.stderr.splitlines()) == (0, words)


def test_a_slow_pipe_that_does_not_block_gets_everything() -> None:
    """A standard output that somebody has made non-blocking is waited for."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    program = [sys.executable, "-c", "from lab import streams; streams.take_over(); print('x' * 100_000)"]
    with subprocess.Popen(program, stdout=writer, cwd=ROOT) as process:
        os.close(writer)
        time.sleep(0.5)
        with os.fdopen(reader, "rb") as stream:
            assert len(stream.read()) == 100_001
        assert process.wait(20) == 0


ENCODINGS = (
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "C.UTF-8"},
)


@pytest.mark.parametrize("environment", ENCODINGS, ids=str)
def test_nothing_that_is_printed_has_no_form(environment: dict[str, str]) -> None:
    """Letters that the encoding lacks, and bytes of names that are no text, are printed as escapes."""
    text = r"import os; print('\u00b5\u00d7\u2502', os.fsdecode(b'caf\xe9'))"
    program = f"from lab import streams; streams.take_over(); {text}"
    done = shell(f'{sys.executable} -c "$PROGRAM"', PROGRAM=program, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(r"caf\xe9")


def test_a_name_that_is_no_text_is_named() -> None:
    """The complaint about it is one line, with its bytes."""
    done = shell("$W report $'/no/caf\\xe9'")
    assert done.returncode == 2
    assert done.stderr == "worldswitch: cannot read /no/caf\\xe9: No such file or directory\n"

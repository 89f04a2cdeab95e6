"""The command line without a stack: arguments, settings in layers, one line for every mistake. No privilege."""

from __future__ import annotations

import argparse
import errno
import os
import platform
import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from lab import cli
from lab.commands import execute
from lab.options import add_settings, settings_from
from lab.preflight import as_root, require_program, require_root
from machine.activity import note
from machine.errors import ConfigError, SetupError


def parse(*words):
    """Settings from options as `up` takes them."""
    parser = argparse.ArgumentParser()
    add_settings(parser)
    return settings_from(parser.parse_args(words))


@pytest.fixture
def toml(tmp_path):
    """Writes a configuration file and returns the options that name it."""

    def write(text):
        path = tmp_path / "stack.toml"
        path.write_text(text)
        return "--config", str(path)

    return write


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["staus"], "unknown command 'staus': did you mean status?"),
        (["sideways"], "invalid choice: 'sideways'"),
        (["--sideways"], "unrecognized arguments: --sideways"),
        (["--"], "takes no -- COMMAND"),
        (["STATUS"], "did you mean status?"),
        (["up", "--profil", "fast"], "unrecognized arguments: --profil fast: did you mean --profile?"),
        (["up", "--mode", "optimized"], "unknown mode 'optimized': did you mean optimised?"),
        (["up", "--profile", "fats"], "did you mean fast?"),
        (["up", "--set", "tik_ms=5"], "unknown setting 'tik_ms': did you mean tick_ms?"),
        (["set", "modd=2.0"], "unknown setting 'modd': did you mean mode?"),
        (["bench", "latenci"], "did you mean latency?"),
        (["exec", "gest", "ls"], "did you mean guest?"),
        (["up", "--sideways"], "unrecognized arguments: --sideways"),
        (["up", "--mo", "2.0"], "unrecognized arguments: --mo"),
        (["up", "--mode"], "expected one argument"),
        (["up", "--mode", "1.0"], "unknown mode '1.0'"),
        (["up", "--profile", "slow"], "unknown profile 'slow'"),
        (["up", "--driver", "e1000"], "unknown driver"),
        (["up", "--doorbell", "bell"], "unknown doorbell"),
        (["up", "--link", "fast"], "link rate 'fast' makes no sense"),
        (["up", "--link", "0bit"], "link rate"),
        (["up", "--link", ""], "link rate"),
        (["up", "--cpus", "zero"], "bad cpus 'zero'"),
        (["up", "--cpus", "4096"], "bad cpus '4096'"),
        (["up", "--cpus", ""], "bad cpus"),
        (["up", "--name", "../x"], "bad name"),
        (["up", "--name", ""], "bad name"),
        (["up", "--name", "a\nb"], "bad name"),
        (["up", "--name", "bug-"], "stack name 'bug-'"),
        (["up", "--name", "bug-", "--detach"], "stack name 'bug-'"),
        (["up", "--name=--"], "argument --name: '--' is no value"),
        (["exec", "--name=--", "guest", "ls"], "argument --name: '--' is no value"),
        (["up", "--config", "/dev/zero"], "larger than"),
        (["up", "--set", "combine_decay=nan"], "bad combine_decay"),
        (["up", "--set", f"tick_ms={'9' * 5000}"], "bad tick_ms"),
        (["bench", "handoff", "--runs", "-1"], "argument --runs: '-1': a whole number"),
        (["bench", "ping", "--runs", "0"], "argument --runs: '0': a whole number"),
        (["bench", "ping", "--runs", "9" * 5000], "argument --runs: '999"),
        *((["bench", "ping", "--seconds", bad], "--seconds") for bad in ("0", "-1", "nan", "inf", "1e99", "", "x")),
        *((["demo", "--seconds", bad], "--seconds") for bad in ("0", "-1", "1.5", "1e99", "9" * 5000, "")),
        (["demo", "--profile", "slow"], "invalid choice: 'slow'"),
        (["demo", "--link", "fast"], "link rate 'fast'"),
        *((["profile", bad], "bad duration") for bad in ("0", "1.5", "9" * 5000, "\u0663", "")),
        *((["trace", "--seconds", bad, "x"], "--seconds") for bad in ("0", "-1", "nan", "inf", "1e99", "")),
        *((["top", "--interval", bad], "interval") for bad in ("0", "nan", "inf", "1e99", "", "9" * 5000)),
        (["up", "--config", "/no/such/file"], "cannot read"),
        (["up", "--config", "/"], "cannot read"),
        (["up", "--", "ls"], "takes no -- COMMAND"),
        (["exec"], "required: MACHINE"),
        (["exec", "moon", "--", "ls"], "invalid choice: 'moon'"),
        (["exec", "guest"], "what shall guest run"),
        (["exec", "guest", "--"], "what shall guest run"),
        (["status", "--name", "A"], "stack name 'A'"),
        (["status", "extra"], "unrecognized arguments: extra"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(words, said, capsys):
    """Whatever is wrong with the arguments: one line that names it, status 2, nothing on stdout."""
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("worldswitch: ")
    assert err.count("\n") == 1
    assert said in err


def test_without_root_nothing_is_tried(monkeypatch, capsys):
    """Up, exec and down say that they need root, in one line, before anything else."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for words in (["up"], ["exec", "guest", "--", "true"], ["down"], ["down", "--all"]):
        assert cli.main(words) == 1
        said = capsys.readouterr().err
        assert said.startswith("worldswitch: needs root: run it with sudo: sudo /")
        assert said.endswith(f" {shlex.join(words)}\n")
    with pytest.raises(SetupError, match="sudo"):
        require_root()


def test_roots_command_line_is_the_program_as_it_was_called(monkeypatch, tmp_path):
    """Sudo has a path of its own, on which no virtual environment is: the advice names the file, quoted for a shell."""
    program = tmp_path / "a b" / "worldswitch"
    monkeypatch.setattr(sys, "argv", [str(program), "up"])
    assert as_root(["up", "--name", "x y"]) == f"sudo '{program}' up --name 'x y'"
    monkeypatch.setattr(sys, "argv", ["/x/lab/__main__.py"])
    assert as_root(["list"]) == f"sudo {sys.executable} -m lab list"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bin/worldswitch"])
    assert as_root([]) == f"sudo {tmp_path}/bin/worldswitch"


def test_a_missing_program_is_named_with_its_package():
    """A command that needs a program says which, and how to get it."""
    with pytest.raises(SetupError, match=r"needs no-such-thing.*apt-get install some-package"):
        require_program("no-such-thing", "some-package")
    assert require_program("sh", "dash").endswith("/sh")


def test_options_win_over_the_file_and_the_file_over_the_profile(toml):
    """Layers: option, file, profile, default; each only where the ones before say nothing."""
    file = toml('profile = "fast"\nlink = "1gbit"\ndriver = "linux22"\nram_mib = 32\n')
    settings = parse(*file, "--link", "none")
    assert (settings.profile, settings.link, settings.driver, settings.ram_mib) == ("fast", "none", "linux22", 32)
    assert settings.posted is parse("--profile", "fast").posted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "is not TOML"),
        ("speed = 1", "unknown setting 'speed'"),
        ("mode = 2.0", 'mode = "..."'),
        ("profile = []", 'profile = "..."'),
        ("link = 100", 'link = "..."'),
        ("pcap = 1", 'pcap = "..."'),
        ('link = "100"', "link rate '100'"),
        ("ram_mib = 0", "bad ram_mib"),
        ("cpus = 'x'", "bad cpus"),
        ('name = "Ä"', "bad name"),
    ],
)
def test_a_bad_file_is_one_line(toml, text, said, capsys):
    """A file with a bad name, type or value is refused as a bad option is."""
    assert cli.main(["up", *toml(text)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_programs_of_the_peer_get_the_other_cpus():
    """The peer is another computer: its programs stay off the stack's CPUs, if there are others."""
    every = os.sched_getaffinity(0)
    first = min(every)
    assert execute.cpus_of("guest", (first,)) == (first,)
    assert execute.cpus_of("native", (first,)) == (first,)
    assert set(execute.cpus_of("peer", (first,))) == (every - {first} or every)
    assert set(execute.cpus_of("peer", tuple(every))) == every


@pytest.mark.parametrize(
    ("words", "machine", "command"),
    [
        (["guest", "ls", "-la"], "guest", ["ls", "-la"]),
        (["guest", "ls", "--name", "x", "--", "-v"], "guest", ["ls", "--name", "x", "--", "-v"]),
        (["--name", "x", "guest", "ls", "--help"], "guest", ["ls", "--help"]),
        (["guest", "--name=x", "ls", "-v"], "guest", ["ls", "-v"]),
        (["-v", "peer", "--name", "x", "--", "-odd", "--name"], "peer", ["-odd", "--name"]),
        (["host", "--", "--"], "host", ["--"]),
        (["host", "-"], "host", ["-"]),
    ],
)
def test_exec_needs_no_dashes(monkeypatch, words, machine, command):
    """The first word after the machine that is no option is the program; what follows it is the program's."""
    seen = []
    monkeypatch.setattr(execute, "run", lambda args: seen.append(args) or 0)
    assert cli.main(["exec", *words]) == 0
    assert (seen[0].machine, seen[0].words) == (machine, command)


def test_exec_knows_which_of_its_options_take_a_word():
    """Else the word would be taken for the machine or the program."""
    parser, found = cli._parsers("exec")
    options = {name for action in found._actions if action.nargs != 0 for name in action.option_strings}
    assert options == set(execute.VALUED)
    assert parser is not found


def test_alone_it_prints_help_and_that_is_no_failure(capsys):
    """Called without a command: help on standard output, status 0; -v changes nothing about it."""
    for words in ([], ["-v"]):
        assert cli.main(words) == 0
        assert capsys.readouterr().out.startswith("usage: worldswitch")


def test_version_names_program_python_and_kernel(capsys):
    """One line with what a report of a defect needs."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    for part in (metadata.version("worldswitch"), platform.python_version(), platform.release()):
        assert part in out


@pytest.mark.parametrize("words", [["-v", "status"], ["status", "-v"], ["--verbose", "status", "--name", "x"]])
def test_verbose_is_taken_before_and_after_the_command(monkeypatch, words, capsys):
    """Whoever makes something says so on standard error meanwhile; afterwards nobody listens any more."""
    from lab.commands import status

    monkeypatch.setattr(status, "run", lambda _args: note("made %s", "a thing") or 0)
    assert cli.main(words) == 0
    assert re.fullmatch(r"worldswitch: \[ *[0-9.]+\] made a thing\n", capsys.readouterr().err)
    assert cli.main(["status"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files (see `ulimit -n`)"),
        (OSError(errno.ENOSPC, "No space left on device", "/run/x"), "No space left on device: /run/x"),
        (MemoryError(), "out of memory"),
        (RuntimeError("can't start new thread"), "no new thread (see `ulimit -u` and `ulimit -v`)"),
    ],
)
def test_what_the_machine_does_not_grant_is_one_line(monkeypatch, error, said, capsys):
    """Wherever a limit hits: one line, status 1, no traceback."""
    from lab.commands import status

    def run(_args):
        raise error

    monkeypatch.setattr(status, "run", run)
    assert cli.main(["status"]) == 1
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_defect_stays_visible(monkeypatch):
    """What is nobody's limit is not taken for one."""
    from lab.commands import status

    def run(_args):
        raise RuntimeError("a defect")

    monkeypatch.setattr(status, "run", run)
    with pytest.raises(RuntimeError):
        cli.main(["status"])


@pytest.mark.parametrize("option", ["--memory=512M", "--accel=tcg", "--qemu=q", "--kernel=k", "--initrd=i", "--disk=d"])
def test_what_only_qemu_can_do_is_refused_without_it(option, capsys):
    """`up --kernel FILE` without --guest qemu would start the built-in guest, and FILE would never run."""
    assert cli.main(["up", option]) == 2
    assert "only of a guest under QEMU; add --guest qemu" in capsys.readouterr().err


def test_a_name_that_no_stack_can_have_is_a_bad_argument(capsys):
    """Status 2 from every command that takes a name, from `down` too: 1 would be a stack that could not be ended."""
    if os.geteuid():
        pytest.skip("needs root")
    for words in (["down"], ["status"], ["set", "tick_ms=5"], ["top", "--once"], ["exec", "guest", "true"]):
        assert cli.main([words[0], "--name", "bug-", *words[1:]]) == 2, words
    assert capsys.readouterr().err.count("is a bad name") == 5


def test_a_trace_needs_root_before_it_needs_a_file(monkeypatch, tmp_path, capsys):
    """As a user, one is told to take sudo, not that a file cannot be written which root could write."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["trace", str(tmp_path / "absent" / "t.json")]) == 1
    assert "needs root" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["up", "--pcap", "x"], ["up", "--kernel", "x"], ["serve", "nic.sock"]])
def test_a_working_directory_that_is_gone_is_one_line(monkeypatch, tmp_path, words, capsys):
    """A relative path then leads nowhere."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert cli.main(words) == 2
    err = capsys.readouterr().err
    assert "the working directory was removed" in err
    assert err.count("\n") == 1


def test_the_demo_says_that_it_needs_root_before_it_sets_up(tmp_path):
    """Nobody waits a minute for that: the script looks first. Its sudo is one that does not work."""
    scripts = Path(__file__).parents[3] / "scripts"
    for name in ("demo", "privilege.bash"):
        (tmp_path / name).write_bytes((scripts / name).read_bytes())
    (tmp_path / "setup").write_text("#!/bin/sh\necho setting up\n")
    (tmp_path / "sudo").write_text("#!/bin/sh\nexit 1\n")
    for name in ("setup", "sudo"):
        (tmp_path / name).chmod(0o755)
    for folder in (tmp_path, *tmp_path.parents):  # user nobody has to get there
        if folder.stat().st_uid == os.geteuid() and folder.is_relative_to(tmp_path.parents[1]):
            folder.chmod(0o755)
    user = 65534 if os.geteuid() == 0 else None
    done = subprocess.run(
        ["bash", str(tmp_path / "demo"), "--guest", "qemu"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        user=user,
        cwd="/",
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "needs root" in done.stderr
    assert f"{tmp_path}/demo --guest qemu" in done.stderr
    assert done.stderr.count("\n") == 1


def test_exec_leaves_its_commands_arguments_alone(monkeypatch):
    """Everything after -- reaches the command, whatever it looks like; what comes before it is ours."""
    for words in (["guest", "--", "ls", "-l", "--name", "x", "--"], ["guest", "--name", "default", "--", "ls", "-l"]):
        seen = []
        monkeypatch.setattr(execute, "run", lambda args, seen=seen: seen.append(args) or 0)
        assert cli.main(["exec", *words]) == 0
        assert seen[0].words[:2] == ["ls", "-l"]
        assert seen[0].name == "default"
    with pytest.raises(ConfigError):
        cli._parse(["exec", "--bad", "guest"], "exec")


def test_help_imports_no_subcommand():
    """The program starts fast: help loads neither pyroute2 nor psutil nor any subcommand."""
    code = "import sys; from lab import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"pyroute2", "psutil", "posix_ipc", "lab.commands", "lab.supervisor", "asyncio"}


def test_every_command_has_help(capsys):
    """Each subcommand that is installed explains itself."""
    for name in ("up", "exec", "status", "down"):
        with pytest.raises(SystemExit) as ended:
            cli.main([name, "--help"])
        assert ended.value.code == 0
        assert f"usage: worldswitch {name}" in capsys.readouterr().out

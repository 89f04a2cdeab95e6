"""The command line without a stack: arguments, settings in layers, one line for every mistake. No privilege."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys

import pytest

from lab import cli
from lab.commands import execute
from lab.options import add_settings, settings_from
from lab.preflight import require_program, require_root
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

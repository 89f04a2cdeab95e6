"""The lock files and ``scripts/setup``: what is installed for whom, and what is said when it cannot be."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TOOLS = ("matplotlib", "numpy", "py-spy", "pytest", "mypy", "ruff", "hypothesis", "atheris")
FILES = ("scripts", "requirements.lock", "requirements-dev.lock", "setup.cfg", "pyproject.toml", "README.md")


def locked(*extras: str) -> str:
    """What ``scripts/locked.py`` prints."""
    words = [sys.executable, str(ROOT / "scripts" / "locked.py"), *extras]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout


def names(lock: str) -> list[str]:
    """The packages that are pinned in it."""
    return re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE)


def run_setup(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``scripts/setup`` of the checkout in ``folder``, which finds no package anywhere."""
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/nonexistent", "PIP_CONFIG_FILE": os.devnull}
    return subprocess.run(
        [str(folder / "scripts" / "setup"), *arguments],
        env=os.environ | nowhere | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone, as far as setup needs one, at a path with a space and letters that are not ASCII."""
    folder = tmp_path / "a clöne"
    folder.mkdir()
    for name in FILES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copy(source, folder / name)
    return folder


def test_the_small_lock_is_a_part_of_the_big_one() -> None:
    """The same versions and hashes, line by line; it has what is imported, what builds it, and no tool."""
    small = (ROOT / "requirements.lock").read_text()
    assert small == locked()
    assert {"msgpack", "posix-ipc", "psutil", "pyroute2", "setuptools"} <= set(names(small))
    assert not set(names(small)) & set(TOOLS)
    assert set(names(small)) < set(names((ROOT / "requirements-dev.lock").read_text()))


def test_an_extra_is_locked_with_all_that_it_needs() -> None:
    """Dependencies of dependencies are among them, each with a hash; an extra that is not there is one line."""
    report = locked("report")
    assert {"matplotlib", "numpy", "contourpy", "pillow"} <= set(names(report))
    assert not {"pytest", "msgpack", "py-spy"} & set(names(report))
    assert report.count("--hash=sha256:") > len(names(report))
    assert names(locked("profile")) == ["py-spy"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "locked.py"), "nothing"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_every_package_of_the_big_lock_is_wanted() -> None:
    """Run time and extras together are the whole of it, so no part can miss what another test relies on."""
    everything = names(locked()) + names(locked("dev", "profile", "report"))
    assert set(everything) == set(names((ROOT / "requirements-dev.lock").read_text()))


def test_setup_knows_the_extras() -> None:
    """Those of setup.cfg, and no others."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    done = subprocess.run([ROOT / "scripts" / "setup", "--with", "x"], capture_output=True, text=True, check=False)
    assert done.stderr.rstrip().endswith(" ".join(sorted(parser["options.extras_require"])))


@pytest.mark.parametrize("wrong", [("--with",), ("--with", "everything"), ("dev",), ("--with=",), ("--dev", "-x")])
def test_wrong_arguments(wrong: tuple[str, ...], checkout: Path) -> None:
    """One line that says what the arguments are, and nothing is made."""
    done = run_setup(checkout, *wrong)
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (1, 1, "")
    assert "--with EXTRA" in done.stderr
    assert not (checkout / ".venv").exists()


def test_setup_says_why_it_failed(checkout: Path) -> None:
    """Without packages: one line and status 1; what was half made does not pass for an environment."""
    done = run_setup(checkout)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("setup: pip failed: ")
    assert not (checkout / ".venv" / "worldswitch-setup").exists()


def test_setup_is_interrupted(checkout: Path) -> None:
    """Ctrl-C: one line, status 130."""
    process = subprocess.Popen(
        [str(checkout / "scripts" / "setup")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        env=os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/nonexistent"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert (process.returncode, complaint) == (130, "setup: interrupted; run it again to begin anew\n")


def test_scripts_are_bash_that_parses() -> None:
    """Every script that a person runs."""
    scripts = [path for path in (ROOT / "scripts").iterdir() if path.is_file() and path.suffix != ".py"]
    for path in (*scripts, ROOT / ".ci" / "run"):
        subprocess.run(["bash", "-n", str(path)], check=True, timeout=20)


def test_nothing_that_is_imported_is_an_extra() -> None:
    """Every module runs with what requirements.lock has; extras are asked for by name, where they are needed."""
    own = {"guest", "lab", "machine", "netbackend", "vmapp", "vmm"}
    allowed = own | set(sys.stdlib_module_names) | {name.replace("-", "_") for name in names(locked())}
    for package in own:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    found = [str(node.module)]
                assert {name.partition(".")[0] for name in found} <= allowed, path

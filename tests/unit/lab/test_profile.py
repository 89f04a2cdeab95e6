"""Flame graphs and what profilers print. No stack, no privilege, no profiler."""

from __future__ import annotations

import os
import shlex
import sysconfig
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import cli, extras, perfsupport, profilers
from lab.flamegraph import Frame, render
from lab.perfscript import parse_perf_script
from machine.errors import ConfigError, SetupError

GUEST = Frame("guest", "group")
VMM = Frame("vmm", "group")

SCRIPT = """
 4711 \n\tffffffff81000010 eventfd_read
\tffffffff81000000 do_syscall_64
\t    7f0000000010 read
\t    7f0000000020 [unknown]

 4712 \n\t    7f0000000030 _PyEval_EvalFrameDefault
\t    7f0000000040 py::loop:/x/vmm/monitor.py
\t    7f0000000050 _PyEval_Vector
\t    7f0000000060 py::<module>:/x/vmm/__main__.py

    1 \n\t    7f0000000030 somebody_else

 4711 \n\t    7f0000000030 [unknown]
"""
ROLES = {4711: "guest", 4712: "vmm"}

frames = st.builds(Frame, st.text(max_size=8).filter(str.isprintable), st.sampled_from(["python", "native", "kernel"]))
stacks_of = st.dictionaries(
    st.lists(frames, min_size=1, max_size=5).map(tuple), st.floats(min_value=0.001, max_value=10), max_size=8
)


def boxes(svg):
    """(name, x, width, depth) of the frames in an SVG, as fractions."""
    groups = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}g")
    return [(g.get("data-n"), float(g.get("data-x")), float(g.get("data-w")), int(g.get("data-d"))) for g in groups]


@given(stacks_of)
def test_every_graph_is_a_document_whose_callees_lie_within_their_callers(stacks):
    """Any names and times give well-formed XML; each row fits on the one below."""
    found = boxes(render(stacks, "a <title> & more", "]]>"))
    assert found[0][1:] == (0.0, 1.0, 0)
    for _, x, width, depth in found[1:]:
        assert any(px - 1e-6 <= x and x + width <= px + pw + 1e-6 for _, px, pw, d in found if d == depth - 1)


def test_widths_are_shares_of_the_time():
    """Frames of one caller are merged, in alphabetical order, and what is too narrow to see is left out."""
    stacks = {
        (GUEST, Frame("a", "python")): 1.0,
        (GUEST, Frame("b", "python"), Frame("c", "kernel")): 2.0,
        (VMM,): 1.0,
        (Frame("tiny", "group"),): 1e-6,
    }
    found = {name: (round(x, 3), round(width, 3), depth) for name, x, width, depth in boxes(render(stacks, "t"))}
    assert found == {
        "all": (0, 1, 0),
        "guest": (0, 0.75, 1),
        "a": (0, 0.25, 2),
        "b": (0.25, 0.5, 2),
        "c": (0.25, 0.5, 3),
        "vmm": (0.75, 0.25, 1),
    }


def test_a_graph_needs_nothing_but_itself():
    """Script and style are inside; nothing is fetched; each frame says its time when pointed at."""
    svg = render({(GUEST, Frame("run", "python")): 1.5}, "t")
    assert "<script>" in svg
    assert "href" not in svg
    assert "<title>run (python): 1.500 s, 100.0%</title>" in svg


def test_perf_stacks_keep_the_kernel_and_one_user_function():
    """Without frame pointers only the innermost user frame is believed; other processes are left out."""
    found = parse_perf_script(SCRIPT, ROLES, 0.5, python=False)
    assert found == {
        (
            GUEST,
            Frame("read", "native"),
            Frame("do_syscall_64", "kernel"),
            Frame("eventfd_read", "kernel"),
        ): 0.5,
        (VMM, Frame("_PyEval_EvalFrameDefault", "native")): 0.5,
        (GUEST, Frame("user code", "native")): 0.5,
    }


def test_perf_stacks_show_python_functions_where_perf_can_see_them():
    """Trampolines become Python functions, the interpreter's own functions go, kernel frames stay on top."""
    found = parse_perf_script(SCRIPT, ROLES, 1.0, python=True)
    assert (VMM, Frame("<module> (__main__.py)", "python"), Frame("loop (monitor.py)", "python")) in found
    assert (
        GUEST,
        Frame("read", "native"),
        Frame("do_syscall_64", "kernel"),
        Frame("eventfd_read", "kernel"),
    ) in found


@given(st.text())
def test_no_output_breaks_the_parsers(text):
    """Whatever a profiler prints: stacks, or none."""
    parse_perf_script(text, ROLES, 1.0, python=True)
    profilers.parse_py_spy(text, "guest", 1.0)


def test_py_spy_lines_become_stacks():
    """One line is one stack with its number of samples; lines that are no stack are left out."""
    text = "main (guest/__main__.py:55);run (guest/cpu.py:10) 42\nmain (guest/__main__.py:55) 8\n\nnonsense\n"
    main = Frame("main (guest/__main__.py:55)", "python")
    assert profilers.parse_py_spy(text, "guest", 0.01) == {
        (GUEST, main, Frame("run (guest/cpu.py:10)", "python")): pytest.approx(0.42),
        (GUEST, main): pytest.approx(0.08),
    }


def test_the_two_profilers_make_one_graph():
    """Kernel time stays; user time is divided as py-spy's samples are; the sum is perf's; unseen roles stay as is."""
    kernel = (GUEST, Frame("read", "native"), Frame("sys", "kernel"))
    perf = {kernel: 3.0, (GUEST, Frame("eval", "native")): 1.0, (VMM, Frame("eval", "native")): 5.0}
    python = {(GUEST, Frame("f", "python")): 30.0, (GUEST, Frame("g", "python")): 10.0}
    assert profilers.combine(python, perf) == {
        kernel: 3.0,
        (GUEST, Frame("f", "python")): 0.75,
        (GUEST, Frame("g", "python")): 0.25,
        (VMM, Frame("eval", "native")): 5.0,
    }


def test_what_is_installed_decides(monkeypatch):
    """Only perf where it sees Python, else py-spy and perf, else whichever there is, else one line."""
    there = {"perf", "py-spy"}
    monkeypatch.setattr(profilers.shutil, "which", lambda name, path=None: name if name in there else None)
    assert [p.sees_python for p in profilers.choose(profiling=True)] == [True]
    assert [p.program for p in profilers.choose(profiling=False)] == ["py-spy", "perf"]
    there.discard("perf")
    assert [p.program for p in profilers.choose(profiling=True)] == ["py-spy"]
    there.clear()
    with pytest.raises(SetupError, match=r"worldswitch\[profile\]"):
        profilers.choose(profiling=False)


def test_a_failing_profiler_is_one_line():
    """Its own words, and no result; one that cannot be started is a failure like any other."""
    failing = profilers.PySpy("/bin/false")
    missing = profilers.PySpy("/no/such/program")
    found, problems = profilers.record([failing, missing], ROLES, 1)
    assert found == {}
    assert len(problems) == 2
    assert all("\n" not in problem for problem in problems)


PY_SPY = """#!/bin/sh
while [ $# -gt 1 ]; do
    case $1 in --pid) pid=$2 ;; --output) output=$2 ;; esac
    shift
done
if [ "$pid" = 4712 ]; then echo "Error: No such process" >&2; exit 1; fi
echo "run (x.py) 10" >"$output"
"""


def test_one_process_that_cannot_be_sampled_costs_its_own_samples_only(tmp_path):
    """One that has ended meanwhile is named in one line; what was found of the others is kept."""
    program = tmp_path / "py-spy"
    program.write_text(PY_SPY)
    program.chmod(0o755)
    spy = profilers.PySpy(str(program))
    found, problems = profilers.record([spy], ROLES, 1)
    assert found == {spy: {(GUEST, Frame("run (x.py)", "python")): pytest.approx(0.04)}}
    assert problems == ["no Python functions (py-spy) of vmm: Error: No such process"]


def test_a_guest_that_is_no_python_program_is_left_to_perf(tmp_path):
    """py-spy is not asked about QEMU, and does not fail for it."""
    program = tmp_path / "py-spy"
    program.write_text(PY_SPY)
    program.chmod(0o755)
    spy, perf = profilers.PySpy(str(program)), profilers.Perf("/bin/false")
    found, problems = profilers.record([spy, perf], {4712: "guest", 1: "vmm"}, 1, foreign=("guest",))
    assert set(found[spy]) == {(VMM, Frame("run (x.py)", "python"))}
    assert problems == ["no C and kernel functions (perf) of guest, vmm: failed without a word"]


def test_the_remedy_can_be_typed_as_it_is(tmp_path):
    """The setup script of this checkout, with its whole path; where there is none, pip's line alone."""
    command = extras.remedy("profile").split(" --with profile")[0]
    assert os.access(command, os.X_OK)
    assert Path(command).is_absolute()
    assert extras.remedy("report", tmp_path / "setup") == "pip install 'worldswitch[report]'"
    setup = tmp_path / "a folder" / "setup"
    setup.parent.mkdir()
    setup.touch()
    assert shlex.split(extras.remedy("report", setup))[:3] == [str(setup), "--with", "report"]


def test_profiling_needs_a_python_that_perf_can_follow(monkeypatch):
    """Up --profiling is refused before Python 3.12, and without frame pointers; accepted otherwise."""
    flags = ["-O2"]
    monkeypatch.setattr(sysconfig, "get_config_vars", lambda *_: flags)
    monkeypatch.setattr(perfsupport.sys, "version_info", _Version((3, 11, 7)))
    with pytest.raises(ConfigError, match=r"3\.12"):
        perfsupport.check_perf_frames()
    monkeypatch.setattr(perfsupport.sys, "version_info", _Version((3, 13, 0)))
    with pytest.raises(ConfigError, match="frame pointers"):
        perfsupport.check_perf_frames()
    flags.append("-fno-omit-frame-pointer -O2")
    perfsupport.check_perf_frames()


class _Version(tuple):
    """Stands for sys.version_info."""

    major = property(lambda self: self[0])
    minor = property(lambda self: self[1])


@pytest.mark.parametrize("seconds", ["0", "601", "x", "1.5", "-1", "²"])
def test_a_bad_duration_is_one_line(seconds, capsys):
    """Refused with status 2, before any stack is looked for."""
    assert cli.main(["profile", seconds]) == 2
    assert capsys.readouterr().err.count("\n") == 1

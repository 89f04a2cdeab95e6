"""Programs of the tests in the place of a role's own: same descriptors, same user, same launch (``lab.child``)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from unittest import mock

from lab.child import Child, spawn_role
from lab.stack import Stack
from machine.launch import Station

__all__ = ["ImpostorStack", "Program", "module_program", "prepared"]

_ROOT: Final = Path(__file__).parents[2]

Program = tuple[tuple[str, ...], tuple[str, ...]]
"""``program`` and ``arguments`` of ``lab.child.spawn_role``."""


def module_program(module: str, *arguments: str) -> Program:
    """``main()`` of a module of the tests, which a role's interpreter does not find by itself.

    Its sys.argv: see ``lab.child.spawn_role``.
    """
    words = (
        f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from importlib import import_module; "
        f"sys.exit(import_module({module!r}).main())"
    )
    return ("-c", words), arguments


class ImpostorStack(Stack):
    """Like Stack; ``programs``: role -> what runs in its place."""

    def __init__(self, *arguments: Any, programs: Mapping[str, Program], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._programs = programs

    def _spawn(self, role: str) -> None:
        if role not in self._programs:
            super()._spawn(role)
            return
        program, arguments = self._programs[role]
        self._children[role] = self._spawn_program(role, program, arguments)

    def _spawn_program(self, role: str, program: tuple[str, ...], arguments: tuple[str, ...]) -> Child:
        fds = self.keeper.of(role).values()
        return spawn_role(role, fds, profiling=self.settings.profiling, program=program, arguments=arguments)


def prepared(role: str, station: Station) -> Callable[[], None]:
    """The loop that the role's ``main`` would run."""
    module = importlib.import_module(f"{role}.__main__")
    with mock.patch.object(module, "run_role") as run_role:
        module.main()
    named, prepare = run_role.call_args.args
    assert named == role
    loop: Callable[[], None] = prepare(station)
    return loop

"""How a stack may be called. The one definition: settings, run directories and namespaces all ask here."""

from __future__ import annotations

import re
from typing import Final

from machine.errors import ConfigError

__all__ = ["LONGEST_CHOSEN", "LONGEST_NAME", "check_stack_name"]

# A name becomes a directory (/run/worldswitch/NAME), part of a namespace's name (ws-NAME-guest) and a word in commands
# that are shown to the user. So: one path component, one shell word, and never mistaken for an option.
# Interfaces are not named after the stack (each stack has its own namespaces), so the kernel's 15 bytes are no limit.
_STACK_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")

LONGEST_NAME: Final = 32
"""Of any stack: the path of a guest's socket stays well below the 107 bytes of sockaddr_un."""

LONGEST_CHOSEN: Final = 20
"""Of a stack that a user starts: a name fits into a column of a table."""


def check_stack_name(name: object, longest: int = LONGEST_NAME) -> str:
    """``name`` itself if a stack may be called so; ConfigError, one line, otherwise."""
    if not isinstance(name, str) or len(name) > longest or not _STACK_NAME.fullmatch(name):
        raise ConfigError(
            f"stack name {name!r} is a bad name: use 1 to {longest} of a-z, 0-9 and '-', with no '-' at either end"
        )
    return name

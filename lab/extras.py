"""What to do about a package that only some commands need, and that setup therefore leaves out (``setup.cfg``)."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

__all__ = ["remedy"]

_SETUP: Final = Path(__file__).resolve().parents[1] / "scripts" / "setup"  # of the checkout that this runs from


def remedy(extra: str, setup: Path = _SETUP) -> str:
    """The command that installs ``extra``, to be typed as it is; an installation without a checkout has only pip."""
    pip = f"pip install 'worldswitch[{extra}]'"
    # Quoted: a checkout may lie in a folder with a space in its name.
    return f"{shlex.quote(str(setup))} --with {extra} (or {pip})" if setup.is_file() else pip

"""``worldswitch set``: changes settings of a stack that runs, re-shapes its wire, pulls and plugs its cable."""

from __future__ import annotations

import argparse

from lab import client
from lab.livechange import LIVE, parse_changes
from lab.options import add_name
from lab.textlayout import listing, wrapped

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Which stack, and what."""
    add_name(parser)
    parser.epilog = f"keys:\n{listing(LIVE.items())}"
    parser.add_argument("changes", nargs="+", metavar="KEY=VALUE", help="see below; all take effect together")


def run(args: argparse.Namespace) -> int:
    """0 when the stack has taken the changes over; `worldswitch status` shows them."""
    changes = parse_changes(args.changes)
    client.request(args.name, {"command": "set", "changes": changes})
    print(wrapped(f"stack {args.name}: {' '.join(args.changes)}", hanging="  "))
    return 0

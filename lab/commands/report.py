"""``worldswitch report``: one page with the paper's figures beside those of the bench results in a directory."""

from __future__ import annotations

import argparse
from pathlib import Path

from lab.complaint import complain
from machine.errors import ConfigError

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Where the results are, and where the page goes."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="where `worldswitch bench NAME --json` wrote")
    parser.add_argument("--output", type=Path, metavar="FILE.html", help="the page (default: DIR/report.html)")


def run(args: argparse.Namespace) -> int:
    """0 when the page and its plots are written; files that were left out are named on standard error."""
    from lab.reporting import book, results

    output = args.output or args.directory / "report.html"
    if output.suffix != ".html":
        raise ConfigError(f"--output {output}: give the page a name that ends in .html; its plots go beside it")
    found = results.load(args.directory)
    for name, reason in found.refused:
        complain(f"{name} is left out: {reason}")
    written = book.write(found, output)
    print(f"{output}: {len(found.results)} results, {(len(written) - 1) // 2} plots beside it (SVG and PNG)")
    return 0

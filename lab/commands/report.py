"""``worldswitch report``: one page with the paper's figures beside those of the bench results in a directory."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from lab.complaint import complain
from lab.outfile import OutFile
from machine.descriptors import named_descriptor
from machine.errors import BenchError, ConfigError

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Where the results are, and where the page goes."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="where `worldswitch bench NAME --json` wrote")
    parser.add_argument(
        "--output", metavar="FILE.html", help="the page (default: DIR/report.html); -: standard output, the page alone"
    )


def run(args: argparse.Namespace) -> int:
    """0 when the page and its plots are written; files that were left out are named on standard error."""
    from lab.reporting import book, results

    output = args.output or str(args.directory / "report.html")
    if not output.endswith(".html") and named_descriptor(output) is None:
        raise ConfigError(f"--output {output}: give the page a name that ends in .html; its plots go beside it")
    found = results.load(args.directory)
    book.check(found)
    for name, reason in found.refused:
        complain(f"{name} is left out: {reason}")
    page = OutFile(output, BenchError)
    with contextlib.closing(page):
        written = book.write(found, page)
    for name, reason in found.undrawn:
        complain(f"chart {name} is not drawn: {reason}")
    if not page.is_standard_output:
        plots = (len(written) - 1) // 2
        print(f"{output}: {len(found.results)} results, {plots} plots beside it (SVG and PNG)")
    return 0

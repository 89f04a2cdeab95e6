"""The report as one HTML page: style and drawings inline, nothing fetched, no script; readable small, dark, printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from lab.reporting.blocks import Block, Chart, Prose, Section, Table

__all__ = ["render"]

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --soft: #5b6570; --line: #d5dae0; --tint: #f3f5f8;
  --mark: #fbf3dc; --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e7eb; --paper: #14181c; --soft: #9ba6b1; --line: #38414a;
  --tint: #1d2329; --mark: #3a3117; --link: #7db8f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, sans-serif; }
a { color: var(--link); } h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
h2 small { font-weight: normal; font-size: .65em; color: var(--soft); white-space: nowrap; }
nav ul { columns: 16rem; padding-left: 1.2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: 1rem 0; font-size: .9rem; }
caption { text-align: left; color: var(--soft); padding-bottom: .3rem; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top;
  font-variant-numeric: tabular-nums; }
thead th { background: var(--tint); vertical-align: bottom; } tr > :first-child { text-align: left; }
.paper { background: var(--mark); } thead .paper::after { content: " (paper)"; font-weight: normal; }
.warning { border-left: .3rem solid #c98a1b; padding: .3rem .8rem; background: var(--mark); }
figure { margin: 1.5rem 0; } figure svg { width: 100%; height: auto; max-width: 52rem; }
svg * { stroke-linejoin: round; } figcaption { color: var(--soft); font-size: .9rem; }
code { overflow-wrap: anywhere; } footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
@media print { body { max-width: none; font-size: 10.5pt; } nav { display: none; } figure, tr { break-inside: avoid; }
  .wide { overflow: visible; } h2 { break-after: avoid; } }
"""


def render(
    title: str, intro: Sequence[Block], sections: Sequence[Section], drawings: Mapping[str, str], closing: str
) -> str:
    """The page. ``drawings``: chart name -> inline SVG, trusted; every other text is escaped."""
    contents = "".join(f'<li><a href="#{s.anchor}">{escape(s.title)}</a></li>' for s in sections)
    body = "".join(_section(section, drawings) for section in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<header>\n"
        f"<h1>{escape(title)}</h1>\n{_blocks(intro, drawings)}</header>\n<nav><ul>{contents}</ul></nav>\n"
        f"<main>\n{body}</main>\n<footer>{escape(closing)}</footer>\n</body>\n</html>\n"
    )


def _section(section: Section, drawings: Mapping[str, str]) -> str:
    source = f" <small>{escape(section.source)}</small>" if section.source else ""
    heading = f'<h2 id="{section.anchor}">{escape(section.title)}{source}</h2>'
    return f"<section>\n{heading}\n{_blocks(section.blocks, drawings)}</section>\n"


def _blocks(blocks: Sequence[Block], drawings: Mapping[str, str]) -> str:
    return "".join(_block(block, drawings) for block in blocks)


def _block(block: Block, drawings: Mapping[str, str]) -> str:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Chart):
        return _figure(block, drawings)
    return _prose(block)


def _prose(block: Prose) -> str:
    """A paragraph; what stands between backquotes is code."""
    parts = escape(block.text).split("`")
    text = "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))
    return f'<p class="warning">{text}</p>\n' if block.warning else f"<p>{text}</p>\n"


def _table(table: Table) -> str:
    head = "".join(_cell("th", text, at in table.paper, ' scope="col"') for at, text in enumerate(table.header))
    rows = "".join(f"<tr>{_row(row, table.paper)}</tr>\n" for row in table.rows)
    return (
        f'<div class="wide"><table>\n<caption>{escape(table.caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n"
    )


def _row(row: Sequence[str], paper: frozenset[int]) -> str:
    first = _cell("th", row[0], 0 in paper, ' scope="row"')
    return first + "".join(_cell("td", text, at in paper) for at, text in enumerate(row[1:], 1))


def _cell(tag: str, text: str, paper: bool, attributes: str = "") -> str:
    marked = ' class="paper"' if paper else ""
    return f"<{tag}{marked}{attributes}>{escape(text)}</{tag}>"


def _figure(chart: Chart, drawings: Mapping[str, str]) -> str:
    drawing = drawings[chart.name]
    return (
        f'<figure role="group" aria-label="{escape(chart.text)}">\n{drawing}\n'
        f"<figcaption>{escape(chart.title)}. {escape(chart.text)}</figcaption>\n</figure>\n"
    )

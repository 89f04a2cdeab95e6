"""Flame graphs: stacks and the time spent in them, as one SVG that needs nothing else to be zoomed and searched.

The width of a frame is the time in it and in what it called, callers below callees, in no order from left to right
but the alphabet's (Gregg, "The Flame Graph", CACM 59(6), 2016).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias
from xml.sax.saxutils import escape, quoteattr

__all__ = ["Frame", "Stacks", "render"]


class Frame(NamedTuple):
    """One function. ``kind``: "group" (a process, say), "python", "native" or "kernel"; it gives the colour."""

    name: str
    kind: str


Stacks: TypeAlias = dict[tuple[Frame, ...], float]
"""Stack, outermost frame first -> seconds."""

_WIDTH: Final = 1200
_MARGIN: Final = 10
_ROW: Final = 17
_HEAD: Final = 58
_NARROWEST: Final = 0.0003  # of the whole width: less than half a pixel is left out
_CHARACTER: Final = 6.7  # pixels
_SHORTEST: Final = 3  # characters
_COLOURS: Final = {"group": "#c8c8c8", "python": "#8fc98f", "native": "#e8d078", "kernel": "#f0985a"}

_STYLE: Final = """
text { font: 11px monospace; pointer-events: none; }
.button { pointer-events: auto; cursor: pointer; text-decoration: underline; }
.f { cursor: pointer; } .f:hover rect { stroke: black; } .hit rect { fill: #d060e0; }
"""

# Positions are fractions of the whole: data-x and data-w, with data-d for the depth.
_SCRIPT: Final = """
const frames = [...document.querySelectorAll("g.f")], near = 1e-7, width = %(inner)d, margin = %(margin)d;
const found = document.getElementById("found");
function place(g, x, w) {
  const rect = g.querySelector("rect"), text = g.querySelector("text");
  const room = Math.floor((w * width - 4) / %(character)s), name = g.dataset.n;
  rect.setAttribute("x", margin + x * width);
  rect.setAttribute("width", Math.max(w * width - 0.5, 0.5));
  text.setAttribute("x", margin + x * width + 3);
  text.textContent = room < %(shortest)d ? "" : name.length > room ? name.slice(0, room - 1) + "\\u2026" : name;
}
function zoom(to) {
  const x0 = +to.dataset.x, w0 = +to.dataset.w, d0 = +to.dataset.d;
  for (const g of frames) {
    const x = +g.dataset.x, w = +g.dataset.w, d = +g.dataset.d;
    const below = d < d0 && x <= x0 + near && x + w >= x0 + w0 - near;
    const within = d >= d0 && x >= x0 - near && x + w <= x0 + w0 + near;
    g.style.display = below || within ? "" : "none";
    if (below) place(g, 0, 1);
    else if (within) place(g, (x - x0) / w0, w / w0);
  }
}
function search(text) {
  let pattern = null, end = 0, sum = 0;
  try { pattern = text ? new RegExp(text, "i") : null; } catch (error) { found.textContent = error.message; return; }
  for (const g of frames) {
    const hit = pattern !== null && pattern.test(g.dataset.n), x = +g.dataset.x, w = +g.dataset.w;
    g.classList.toggle("hit", hit);
    if (hit && x >= end - near) { sum += w; end = x + w; }
  }
  found.textContent = pattern ? "matched: " + (100 * sum).toFixed(1) + " %%" : "";
}
const ask = () => { const text = prompt("search (regular expression)"); if (text !== null) search(text); };
for (const g of frames) g.addEventListener("click", () => zoom(g));
document.getElementById("search").addEventListener("click", ask);
document.getElementById("reset").addEventListener("click", () => { zoom(frames[0]); search(""); });
document.addEventListener("keydown", (event) => {
  if (event.key === "/") { event.preventDefault(); ask(); }
  if (event.key === "Escape") { zoom(frames[0]); search(""); }
});
zoom(frames[0]);
"""


@dataclasses.dataclass(slots=True)
class _Node:
    seconds: float = 0.0
    callees: dict[Frame, _Node] = dataclasses.field(default_factory=dict)


def render(stacks: Mapping[tuple[Frame, ...], float], title: str, subtitle: str = "") -> str:
    """The SVG's text. Without any time in the stacks it is one empty frame."""
    root = _tree(stacks)
    boxes = list(_boxes(root, Frame("all", "group"), 0.0, 0, root.seconds or 1.0))
    height = _HEAD + _ROW * (1 + max(depth for _, _, _, depth, _ in boxes)) + _MARGIN
    script = _SCRIPT % {
        "inner": _WIDTH - 2 * _MARGIN,
        "margin": _MARGIN,
        "character": _CHARACTER,
        "shortest": _SHORTEST,
    }
    legend = "".join(
        f'<rect x="{_WIDTH - 330 + 82 * at}" y="8" width="12" height="12" fill="{colour}"/>'
        f'<text x="{_WIDTH - 314 + 82 * at}" y="18">{kind}</text>'
        for at, (kind, colour) in enumerate(_COLOURS.items())
    )
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}">',
            f"<style>{_STYLE}</style>",
            '<rect width="100%" height="100%" fill="white"/>',
            f'<text x="{_MARGIN}" y="18" style="font-weight: bold">{escape(title)}</text>{legend}',
            f'<text x="{_MARGIN}" y="34">{escape(subtitle)}</text>',
            f'<text x="{_MARGIN}" y="50" id="search" class="button">search (/)</text>',
            '<text x="100" y="50" id="reset" class="button">reset (Esc)</text><text x="200" y="50" id="found"></text>',
            *(_box(*box, height, root.seconds) for box in boxes),
            f"<script><![CDATA[{script}]]></script>",
            "</svg>\n",
        )
    )


def _tree(stacks: Mapping[tuple[Frame, ...], float]) -> _Node:
    root = _Node()
    for stack, seconds in stacks.items():
        node = root
        node.seconds += seconds
        for frame in stack:
            node = node.callees.setdefault(frame, _Node())
            node.seconds += seconds
    return root


def _boxes(
    node: _Node, frame: Frame, x: float, depth: int, whole: float
) -> Iterator[tuple[Frame, float, float, int, float]]:
    """Frame, left edge, width, depth, seconds of every frame wide enough; callers before callees."""
    width = node.seconds / whole if node.seconds else 1.0
    yield frame, x, width, depth, node.seconds
    for callee, child in sorted(node.callees.items()):
        if child.seconds / whole >= _NARROWEST:
            yield from _boxes(child, callee, x, depth + 1, whole)
        x += child.seconds / whole


def _label(name: str, width: float) -> str:
    """As much of the name as fits; place() in the script does the same, for viewers that run it."""
    room = int((width * (_WIDTH - 2 * _MARGIN) - 4) / _CHARACTER)
    if room < _SHORTEST:
        return ""
    return name if len(name) <= room else f"{name[: room - 1]}\N{HORIZONTAL ELLIPSIS}"


def _box(frame: Frame, x: float, width: float, depth: int, seconds: float, height: int, whole: float) -> str:
    top = height - _MARGIN - _ROW * (depth + 1)
    share = seconds / whole if whole else 0.0
    inner = _WIDTH - 2 * _MARGIN
    return (
        f'<g class="f" data-n={quoteattr(frame.name)} data-x="{x:.9f}" data-w="{width:.9f}" data-d="{depth}">'
        f"<title>{escape(frame.name)} ({frame.kind}): {seconds:.3f} s, {share:.1%}</title>"
        f'<rect x="{_MARGIN + x * inner:.1f}" y="{top}" width="{width * inner:.1f}" height="{_ROW - 1}" '
        f'fill="{_COLOURS[frame.kind]}"/><text x="{_MARGIN + x * inner + 3:.1f}" y="{top + 12}">'
        f"{escape(_label(frame.name, width))}</text></g>"
    )

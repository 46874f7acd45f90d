"""Pieces of SVG that the plots share: the look of text, rules and hints. Text only, no plotting library."""

from __future__ import annotations

from xml.sax.saxutils import escape

INK, GREY, RULE = "#222222", "#5a5a5a", "#d9d9d9"
FONT = "font-family='DejaVu Sans, Arial, sans-serif'"
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
"""Colours by Okabe and Ito, told apart with every kind of sight."""


def svg_hint(content: str) -> str:
    """Return what a viewer shows when the mouse rests on the element around it."""
    return f"<title>{escape(content)}</title>"


def svg_text(x: float, y: float, content: str, anchor: str = "start", size: int = 12, more: str = "") -> str:
    """Return a line of text; `more` are further attributes."""
    place = f"x='{x:g}' y='{y:g}' text-anchor='{anchor}' font-size='{size}'"
    return f"<text {place} fill='{INK}' {more}>{escape(content)}</text>"

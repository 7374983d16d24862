"""HTML pages that stand alone: style and pictures within, no script, and nothing that is fetched from anywhere.

Whatever a page is given is text and is escaped, by jinja2; only what this package draws or renders itself is markup.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / "templates"
_SCROLLS = '<div class="scroll" tabindex="0" role="group" aria-label="table">'
_CARD_LEVELS = {"h1": "h3", "h2": "h4"}  # a card stands within a section of a page


@dataclass(frozen=True)
class Listed:
    """A table's rows, and a sentence that says which were left out, if any were."""

    rows: Sequence[Any]
    left_out: str = ""


def listed(rows: Sequence[Any], *, most: int, what: str, which: str, of: int | None = None) -> Listed:
    """Return the first rows, at most so many; `which`: the words for those, `of`: how many there are in truth."""
    kept = rows[:most]
    return Listed(kept, left_out(len(kept), len(rows) if of is None else of, what=what, which=which))


def left_out(shown: int, of: int, *, what: str, which: str) -> str:
    """Return the sentence that says what a table leaves out, or nothing where it leaves out nothing."""
    return f"Shown are {shown:,} of {of:,} {what}: {which}." if shown < of else ""


def page(template: str, /, **found: Any) -> str:
    """Return a page made of a template in templates/, with everything in `found` escaped."""
    style = Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file
    return _environment().get_template(template).render(style=style, **found)


def drawing(picture: str) -> Markup:
    """Return an SVG of `fednet.reporting.report_pictures` as it is: the texts in it were escaped when it was drawn."""
    return Markup(picture)  # noqa: S704 - our own drawing, escaped when it was made


def markdown(text: str) -> Markup:
    """Return Markdown as HTML; markup, links and images in it stay text."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["link", "image", "autolink"])
    tokens = parser.parse(text)
    for token in tokens:
        token.tag = _CARD_LEVELS.get(token.tag, token.tag)
    found = str(parser.renderer.render(tokens, parser.options, {}))
    found = found.replace("<table>", f"{_SCROLLS}<table>").replace("</table>", "</table></div>")
    return Markup(found)  # noqa: S704 - what it was given, the renderer has escaped


@functools.cache
def _environment() -> Environment:
    return Environment(
        autoescape=True,
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

"""Pictures of a report: SVG to stand within an HTML page, whose style sheet gives the colours, light or dark.

Drawn with matplotlib in colours that stand for the page's variables; what is drawn from the same figures is the same,
byte for byte.
"""

from __future__ import annotations

import io
import itertools
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_INK, _MUTED, _GRID, _CARD = "#010101", "#020202", "#030303", "#040404"
_SERIES = tuple(f"#0{number}0505" for number in range(1, 7))
_GOOD, _BAD, _AWAY = "#060601", "#060602", "#060603"
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _GRID: "var(--grid)",
    _CARD: "var(--card)",
    _GOOD: "var(--good)",
    _BAD: "var(--bad)",
    _AWAY: "var(--away)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(_SERIES, start=1)},
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be searched, read aloud and copied
    "text.parse_math": False,  # a worker may be called $x$
    "font.size": 10.0,
    "text.color": _INK,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _GRID,
    "axes.labelsize": 9.5,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "grid.color": _GRID,
    "legend.labelcolor": _MUTED,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
_DASHES = ("-", "--", "-.", ":")  # told apart in black and white too
_MARKERS = ("o", "s", "^", "D", "v", "P")
_SIZE = (4.6, 2.9)  # inches
_SQUARE = 3.9  # inches high, for what has two directions
_MOST_MARKED = 40  # rounds: of more, markers run into each other
_MOST_BARS = 60  # rounds: of more, bars are thinner than the gaps between them
_MOST_NAMED = 30  # workers whose names fit beside an axis
_MOST_FILLED = 400  # scores of one shape: more are finer than a screen's dots
_MOST_NUMBERED = 10  # workers whose distances are written into the heat map
_MOST_LABELLED = 12  # points of a map that have a name beside them
_LOGARITHMIC_FROM = 30.0  # largest score over smallest: on a linear axis the small ones would be one bar
_LONGEST_NAME = 18

Series = Mapping[str, Sequence[float | None]]


def courses(name: str, rounds: Sequence[int], series: Series, *, label: str, are_shares: bool = True) -> str:
    """Return each series' line over the rounds; `are_shares`: the values lie between 0 and 1."""
    with _figure(name) as (figure, out):
        axes = _axes(figure, label=label)
        for index, (title, values) in enumerate(series.items()):
            known = [(at, value) for at, value in zip(rounds, values, strict=True) if value is not None]
            axes.plot(
                [at for at, _ in known],
                [value for _, value in known],
                color=_SERIES[index % len(_SERIES)],
                linestyle=_DASHES[index % len(_DASHES)],
                marker=_MARKERS[index % len(_MARKERS)] if len(known) <= _MOST_MARKED else "",
                markersize=4.5,
                linewidth=1.8,
                label=title,
            )
        if are_shares:
            axes.set_ylim(-0.02, 1.02)
        else:
            axes.set_ylim(bottom=0)
        _over_rounds(axes, rounds)
        _legend(figure, len(series))
    return out[0]


def stacks(name: str, rounds: Sequence[int], series: Series, *, label: str, colours: Sequence[str] = ()) -> str:
    """Return one bar a round, with its parts on top of each other; `colours`: good, bad or away, by part."""
    with _figure(name) as (figure, out):
        axes = _axes(figure, label=label)
        chosen = {"good": _GOOD, "bad": _BAD, "away": _AWAY}
        below = np.zeros(len(rounds))
        for index, (title, values) in enumerate(series.items()):
            heights = np.array([value or 0.0 for value in values])
            colour = chosen[colours[index]] if colours else _SERIES[index % len(_SERIES)]
            if len(rounds) <= _MOST_BARS:
                axes.bar(rounds, heights, width=0.8, bottom=below, color=colour, label=title)
            else:
                axes.fill_between(rounds, below, below + heights, step="mid", color=colour, label=title, linewidth=0)
            below = below + heights
        axes.set_ylim(bottom=0)
        _over_rounds(axes, rounds)
        _legend(figure, len(series))
    return out[0]


def score_bars(name: str, scores: Mapping[str, float], selected: Sequence[bool], *, cut: float | None) -> str:
    """Return every update's score, the lowest on top, and the cut: the largest score that still counts."""
    order = sorted(range(len(scores)), key=lambda index: list(scores.values())[index])
    names, values = [list(scores)[index] for index in order], [list(scores.values())[index] for index in order]
    colours = [_GOOD if selected[index] else _BAD for index in order]
    are_named = len(names) <= _MOST_NAMED
    with _figure(name, height=max(_SQUARE, 1.3 + 0.24 * len(names)) if are_named else _SQUARE) as (figure, out):
        axes = _axes(figure, grid="x")
        if are_named:
            axes.barh(range(len(names)), values, color=colours, height=min(0.7, 0.09 * len(names)))
        else:
            _fill(axes, values, colours)
        axes.set_yticks(range(len(names)) if are_named else [], [_short(each) for each in names] if are_named else [])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlabel("Krum's score: squared distances to its nearest others")
        if not are_named:
            axes.set_ylabel(f"{len(names)} updates, the lowest score on top")
        positive = [value for value in values if value > 0]
        if positive and max(positive) > _LOGARITHMIC_FROM * min(positive):
            axes.set_xscale("log")
        if cut is not None:
            axes.axvline(cut, color=_INK, linewidth=1.2, linestyle="--", label=f"the cut, at {cut:.3g}")
        axes.bar(0, 0, color=_GOOD, label="counts")
        axes.bar(0, 0, color=_BAD, label="does not count")
        _legend(figure, 3)
    return out[0]


def _fill(axes: Axes, values: Sequence[float], colours: Sequence[str]) -> None:
    """Draw bars without gaps as one shape a verdict: thousands of bars of their own would be megabytes."""
    every = -(-len(values) // _MOST_FILLED)
    missed = [place for place, colour in enumerate(colours) if colour == _BAD][:_MOST_FILLED]
    places = np.array(sorted({*range(0, len(values), every), *missed}))
    for colour in (_GOOD, _BAD):
        heights = np.array([values[place] if colours[place] == colour else 0.0 for place in places])
        axes.fill_betweenx(places, heights, step="mid", color=colour, linewidth=0)


def distance_map(name: str, distances: Sequence[Sequence[float]], workers: Sequence[str]) -> str:
    """Return the distances of updates as colours, with their numbers where they fit."""
    matrix = np.array(distances)  # (workers, workers)
    with _figure(name, height=_SQUARE) as (figure, out):
        axes = figure.add_subplot()
        picture = axes.imshow(matrix, cmap="cividis", aspect="equal", vmin=0.0)
        if len(workers) <= _MOST_NUMBERED:
            half = float(matrix.max()) * 0.55
            for (row, column), value in np.ndenumerate(matrix):
                colour = "white" if value < half else "black"
                axes.text(column, row, f"{value:.2g}", ha="center", va="center", fontsize=8, color=colour)
        shown = [_short(each) for each in workers] if len(workers) <= _MOST_NAMED else []
        axes.set_xticks(range(len(shown)), shown, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(shown)), shown)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        if not shown:
            axes.set_ylabel(f"{len(workers)} updates, by worker's name")
        bar = figure.colorbar(picture, ax=axes, shrink=0.8)
        bar.set_label("distance between two updates")
        bar.outline.set_visible(False)
    return out[0]


def update_map(name: str, points: Sequence[Sequence[float]], workers: Sequence[str], selected: Sequence[bool]) -> str:
    """Return the updates as points whose distances are near the true ones; who stands apart differs from the rest."""
    places = np.array(points, dtype=float)  # (workers, 2)
    with _figure(name, height=_SQUARE) as (figure, out):
        axes = _axes(figure, grid="both")
        _points(axes, places, workers, selected)
        axes.margins(0.18)
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_xlabel("first direction in which the updates differ most")
        axes.set_ylabel("second direction")
        _legend(figure, 2)
    return out[0]


def sizes_and_directions(
    name: str, norms: Sequence[float], cosines: Sequence[float], workers: Sequence[str], selected: Sequence[bool]
) -> str:
    """Return each update as a point: how large it is, and how far it points where those that count do."""
    places = np.array([norms, cosines], dtype=float).T  # (workers, 2)
    with _figure(name, height=_SQUARE) as (figure, out):
        axes = _axes(figure, grid="both")
        _points(axes, places, workers, selected)
        axes.axhline(0.0, color=_MUTED, linewidth=1.0, linestyle=":")
        axes.margins(0.14)
        axes.set_ylim(-1.08, 1.08)
        if min(norms) > 0 and max(norms) > _LOGARITHMIC_FROM * min(norms):
            axes.set_xscale("log")
        axes.set_xlabel("size: the update's norm")
        axes.set_ylabel("cosine to the mean of those that count")
        _legend(figure, 2)
    return out[0]


def _points(axes: Axes, places: np.ndarray, workers: Sequence[str], selected: Sequence[bool]) -> None:
    """Draw workers as points, by what became of them, with the names that there is room for."""
    for is_selected, colour, marker, title in ((True, _GOOD, "o", "counts"), (False, _BAD, "X", "does not count")):
        chosen = [index for index, each in enumerate(selected) if each is is_selected]
        x, y = places[chosen].T
        axes.scatter(x, y, s=70, color=colour, marker=marker, label=title, linewidths=0)
    missed = [index for index, each in enumerate(selected) if not each][:_MOST_LABELLED]
    for index in _apart(places, missed if len(workers) > _MOST_LABELLED else range(len(workers))):
        axes.annotate(_short(workers[index]), places[index], xytext=(6, 5), textcoords="offset points", fontsize=8.5)


def _apart(places: np.ndarray, indices: Sequence[int]) -> Iterator[int]:
    """Yield those of the points that have room for a name: not within 4 % of one that has got its own."""
    span = np.maximum(np.ptp(places, axis=0), 1e-12)
    taken: list[np.ndarray] = []
    for index in indices:
        if all((np.abs(places[index] - other) > 0.04 * span).any() for other in taken):
            taken.append(places[index])
            yield index


@contextmanager
def _figure(name: str, *, height: float = _SIZE[1]) -> Iterator[tuple[Figure, list[str]]]:
    """Yield a figure and a list in which its SVG is afterwards; `name` tells its parts from other pictures'."""
    out: list[str] = []
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # a name in letters that matplotlib's font lacks: browsers have them
        figure = Figure(figsize=(_SIZE[0], height), layout="constrained")
        yield figure, out
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    out.append(_for_a_page(content.getvalue()))


def _for_a_page(svg: str) -> str:
    """Return matplotlib's SVG as a part of an HTML page: the page's colours and letters, and no identifier twice."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)  # it would style the page
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"<svg ", '<svg aria-hidden="true" focusable="false" ', svg, count=1)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)  # HTML knows them
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 var(--letters)", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg


def _axes(figure: Figure, *, label: str = "", grid: Literal["x", "y", "both"] = "y") -> Axes:
    axes = figure.add_subplot()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.grid(axis=grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_ylabel(label)
    return axes


def _over_rounds(axes: Axes, rounds: Sequence[int]) -> None:
    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    axes.set_xlim(min(rounds) - 0.6, max(rounds) + 0.6)


def _legend(figure: Figure, entries: int) -> None:
    if entries > 1:
        figure.legend(
            loc="outside upper left", ncols=3 if entries > 4 else entries, handlelength=1.8, columnspacing=1.2
        )


def _short(name: str) -> str:
    """Return a name that fits beside an axis, of printable letters only."""
    plain = "".join(itertools.filterfalse(lambda char: not char.isprintable(), name))
    return plain if len(plain) <= _LONGEST_NAME else f"{plain[: _LONGEST_NAME - 1]}…"

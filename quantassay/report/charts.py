"""SVG charts for the report: small, inline, readable in light and dark, in print and by screen
readers.

Contract: every function returns one <svg> string that refers to nothing outside itself. Colours are
CSS classes (s1..s4, set in templates/report.css from a colour-blind-safe palette), and every series
also differs by marker or dash. Text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH = 480
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 44
DASHES = ("", "7 3", "2 3", "9 3 2 3")
Points = Sequence[tuple[float, float]]


@dataclass
class Axis:
    """Maps values in [low, high] to pixels in [start, stop], linearly or by logarithm."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        change: Callable[[float], float] = math.log if self.log else float
        low, high = change(self.low), change(self.high)
        share = (change(min(max(value, self.low), self.high)) - low) / (high - low)
        return self.start + share * (self.stop - self.start)


@dataclass
class Chart:
    """An SVG being drawn. `title` is what a screen reader says."""

    title: str
    height: int = 280
    left: int = LEFT
    parts: list[str] = field(default_factory=list)

    @property
    def bottom(self) -> int:
        return self.height - BOTTOM

    def x_axis(self, low: float, high: float, log: bool = False) -> Axis:
        return Axis(low, high, self.left, WIDTH - RIGHT, log)

    def y_axis(self, low: float, high: float, log: bool = False) -> Axis:
        return Axis(low, high, self.bottom, TOP, log)

    def text(self, x: float, y: float, words: str, style: str = "", anchor: str = "middle") -> None:
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}">'
            f"{escape(words)}</text>"
        )

    def rule(self, x1: float, y1: float, x2: float, y2: float, style: str = "grid") -> None:
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'
        )

    def bar(self, x: float, y: float, width: float, height: float, style: str, tip: str) -> None:
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'class="{style}"><title>{escape(tip)}</title></rect>'
        )

    def path(self, points: Points, series: int) -> None:
        route = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dash = f' stroke-dasharray="{DASHES[series]}"' if DASHES[series] else ""
        self.parts.append(f'<polyline points="{route}" class="line l{series + 1}"{dash}/>')

    def marker(self, x: float, y: float, series: int, tip: str = "", faint: bool = False) -> None:
        """Circle, square, triangle or diamond, by series."""
        r = 3.0 if faint else 5.0
        style = f"s{series + 1}{' faint' if faint else ''}"
        shapes = (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" class="{style}">',
            f'<path d="M{x - r:.1f} {y - r:.1f}h{2 * r}v{2 * r}h{-2 * r}z" class="{style}">',
            f'<path d="M{x:.1f} {y - r:.1f}l{r} {2 * r}h{-2 * r}z" class="{style}">',
            f'<path d="M{x:.1f} {y - r:.1f}l{r} {r}l{-r} {r}l{-r} {-r}z" class="{style}">',
        )
        tag = "circle" if series == 0 or faint else "path"
        shape = shapes[0] if faint else shapes[series]
        self.parts.append(f"{shape}<title>{escape(tip)}</title></{tag}>")

    def x_ticks(self, axis: Axis, ticks: Mapping[float, str], label: str) -> None:
        for value, words in ticks.items():
            self.rule(axis(value), TOP, axis(value), self.bottom)
            self.text(axis(value), self.bottom + 16, words, "tick")
        self.text((self.left + WIDTH - RIGHT) / 2, self.height - 8, label, "label")

    def y_ticks(self, axis: Axis, ticks: Mapping[float, str], label: str = "") -> None:
        for value, words in ticks.items():
            self.rule(self.left, axis(value), WIDTH - RIGHT, axis(value))
            self.text(self.left - 6, axis(value) + 4, words, "tick", "end")
        if label:
            middle = (TOP + self.bottom) / 2
            self.parts.append(
                f'<text transform="translate(13 {middle:.1f}) rotate(-90)" text-anchor="middle" '
                f'class="label">{escape(label)}</text>'
            )

    def svg(self) -> str:
        return (
            f'<svg viewBox="0 0 {WIDTH} {self.height}" role="img" '
            f'aria-label="{escape(self.title, quote=True)}">'
            f"<title>{escape(self.title)}</title>{''.join(self.parts)}</svg>"
        )


def short(value: float) -> str:
    """A number in little space: 0.001, 16, 4096, 2.5M."""
    if abs(value) < 1e4 and value == int(value):
        return str(int(value))
    for size, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"


def bars(
    title: str, labels: Sequence[str], values: Sequence[float], tips: Sequence[str],
    x_label: str,
) -> str:  # fmt: skip
    """Vertical bars of shares (0..1), each with its per cent above it."""
    chart = Chart(title)
    high = max(max(values), 1e-9) * 1.15
    axis = chart.y_axis(0, high)
    chart.y_ticks(axis, {tick / 100: f"{tick:g}%" for tick in _steps(high * 100)})
    slot = (WIDTH - RIGHT - chart.left) / len(values)
    for number, (words, value) in enumerate(zip(labels, values, strict=True)):
        x, top = chart.left + slot * number, axis(value)
        chart.bar(x + slot * 0.18, top, slot * 0.64, chart.bottom - top, "s1", tips[number])
        chart.text(x + slot / 2, top - 5, f"{value * 100:.2g}%", "value")
        chart.text(x + slot / 2, chart.bottom + 16, words, "tick")
    chart.rule(chart.left, chart.bottom, WIDTH - RIGHT, chart.bottom, "axis")
    chart.text((chart.left + WIDTH - RIGHT) / 2, chart.height - 8, x_label, "label")
    return chart.svg()


def dot_rows(
    title: str, rows: Mapping[str, Sequence[float | None]], series: Sequence[str], x_label: str
) -> str:
    """One row per name, one marker per series: horizontal dot plot on a linear axis."""
    values = [value for row in rows.values() for value in row if value is not None]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    pad = max(high - low, 1.0) * 0.08
    chart = Chart(title, height=TOP + BOTTOM + 46 * len(rows), left=118)
    axis = chart.x_axis(low - pad, high + pad)
    ticks = [tick for tick in _steps(high + pad) if tick >= low - pad]
    chart.x_ticks(axis, {tick: f"{tick:g}" for tick in ticks}, x_label)
    for number, (name, row) in enumerate(rows.items()):
        y = TOP + 46 * number + 23
        chart.rule(chart.left, y, WIDTH - RIGHT, y, "axis")
        chart.text(chart.left - 8, y + 4, name, "tick", "end")
        for which, value in enumerate(row):
            if value is not None:
                chart.marker(axis(value), y, which, f"{name}, {series[which]}: {value:.1f}")
    return chart.svg()


def strips(title: str, rows: Mapping[str, Sequence[float]], x_label: str) -> str:
    """One row of faint dots per name on a logarithmic axis, its mean as a bar."""
    floor = 1e-8  # below it, float32 embeddings cannot tell
    values = [max(value, floor) for row in rows.values() for value in row]
    low, high = min(values) / 1.6, max(values) * 1.6
    chart = Chart(title, height=TOP + BOTTOM + 40 * len(rows), left=118)
    axis = chart.x_axis(low, high, log=True)
    powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    chart.x_ticks(axis, {10.0**power: f"1e{power}" for power in powers}, x_label)
    for number, (name, row) in enumerate(rows.items()):
        y = TOP + 40 * number + 20
        chart.rule(chart.left, y, WIDTH - RIGHT, y, "axis")
        chart.text(chart.left - 8, y + 4, name, "tick", "end")
        for place, value in enumerate(row):
            spread = (place * 7 % 11 - 5) * 1.8  # fixed jitter, so that dots do not hide dots
            chart.marker(axis(max(value, floor)), y + spread, 0, f"{value:.2e}", faint=True)
        mean = max(sum(row) / len(row), floor)
        chart.bar(axis(mean) - 1.5, y - 12, 3, 24, "mean", f"{name}: mean {mean:.2e}")
    return chart.svg()


def lines(
    title: str, x: Sequence[float], series: Mapping[str, Sequence[float]],
    x_label: str, y_label: str, *, log_y: bool = False, marks: Mapping[float, str] | None = None,
) -> str:  # fmt: skip
    """Lines over a logarithmic x; `marks` are labelled vertical rules."""
    chart = Chart(title, height=300)
    values = [value for row in series.values() for value in row]
    across = chart.x_axis(min(x), max(x), log=True)
    if log_y:
        up = chart.y_axis(min(values), max(values) * 1.3, log=True)
        powers = range(math.ceil(math.log10(up.low)), math.floor(math.log10(up.high)) + 1)
        chart.y_ticks(up, {10.0**power: short(10.0**power) for power in powers}, y_label)
    else:
        up = chart.y_axis(0, max(values) * 1.1)
        chart.y_ticks(up, {tick: f"{tick:g}" for tick in _steps(up.high)}, y_label)
    ratio = 10 if max(x) / min(x) > 1e5 else 4
    count = math.floor(math.log(max(x) / min(x), ratio) + 1e-9) + 1
    chart.x_ticks(across, {min(x) * ratio**i: short(min(x) * ratio**i) for i in range(count)},
                  x_label)  # fmt: skip
    for number, (value, words) in enumerate((marks or {}).items()):
        low = chart.bottom - (6 if number % 2 else 22)  # neighbours at two heights
        chart.rule(across(value), TOP, across(value), chart.bottom, "mark")
        near = across(value) > WIDTH - RIGHT - 56  # no room to its right
        anchor = "end" if near else "start"
        chart.text(across(value) + (-4 if near else 4), low, words, "value", anchor)
    for number, row in enumerate(series.values()):
        chart.path([(across(a), up(b)) for a, b in zip(x, row, strict=True)], number)
    return chart.svg()


def _steps(high: float) -> list[float]:
    """Round numbers from 0 to at most `high`, four to eight of them."""
    size = 10.0 ** math.floor(math.log10(high))
    for step in (size / 10, size / 5, size / 2, size, size * 2):
        if high / step <= 7:
            return [round(step * number, 12) for number in range(int(high / step) + 1)]
    return [0.0, high]

"""``docs/scaling.md`` and its figures, drawn only from measurements and assumptions: the same input gives the same bytes."""

import io
import re
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks.cost_model import (
    MILLION,
    Model,
    Point,
    Prediction,
    Quality,
    Refits,
    fit,
    predicted,
    quality,
    refits,
    smallest,
)

SPELLS, ATTENDANCES = 20_000_000, 120_000_000
# A spell has a derived row of its own.
NATIONAL_ROWS = 2 * SPELLS + ATTENDANCES
YEARS = 12
STAGES = ("ingest", "flag", "rate", "monitor", "validate", "publish")
AROUND, WHOLE = "start and end", "whole job"
# Okabe and Ito's palette, which people with any kind of colour vision can distinguish.
BLUE, VERMILLION, ORANGE, GREEN = "#0072B2", "#D55E00", "#E69F00", "#009E73"
GREY, INK, PALE = "#8A8F98", "#1F2933", "#D9DDE2"
COLOURS = (BLUE, VERMILLION, ORANGE, GREY, INK, GREEN)
HOUR = 3600.0
WITHOUT_MONITOR = """

**The stage `monitor` is not included**, because it did not exist when this was measured. It is in no time, cost or number of cores on this
page: a run takes longer ([benchmarks/README.md](../benchmarks/README.md#beside-duckdb) has one with it)."""


@dataclass(frozen=True)
class Assumed:
    """What no measurement says: price of an hour of one core, worth of cores beyond the measured ones at worst, hours
    in which a dozen years and one year should be done, core counts to look at."""

    price: float = 0.10
    efficiency: float = 0.6
    night_hours: float = 8.0
    evening_hours: float = 3.0
    clusters: tuple[int, ...] = (2, 16, 32, 64, 128)


@dataclass(frozen=True)
class Fitted:
    """The models of the stages and of the whole job, and what follows for a national year."""

    points: dict[str, list[Point]]
    models: dict[str, Model]
    qualities: dict[str, Quality]
    others: Refits
    measured_cores: int
    year: list[Prediction]


def fitted(state: dict[str, Any], assumed: Assumed) -> Fitted:
    """Fit every stage and the whole job, including a measured national year. Small runs are left out, because the job compiles and
    plans differently for them."""
    large = [item for item in state["measurements"] if not item["small"]]
    if "national" in state:
        large.append(state["national"] | {"rows": sum(state["national"]["rows"].values())})
    points: dict[str, list[Point]] = {}
    for name in (*stages_of(state), AROUND, WHOLE):
        points[name] = [Point(item["rows"], item["cores"], _seconds(item, name)) for item in large]
    models = {name: fit(own) for name, own in points.items()}
    others = refits(points[WHOLE])
    measured = max(point.cores for point in points[WHOLE])
    qualities = {name: quality(model, points[name]) for name, model in models.items()}
    year = [
        predicted(models[WHOLE], qualities[WHOLE], others, NATIONAL_ROWS, cores, measured, assumed.efficiency)
        for cores in assumed.clusters
    ]
    return Fitted(points, models, qualities, others, measured, year)


def stages_of(state: dict[str, Any]) -> tuple[str, ...]:
    """The stages that every measurement has."""
    measured = [*state["measurements"], *([state["national"]] if "national" in state else [])]
    return tuple(name for name in STAGES if all(name in item["stages"] for item in measured))


def write_page(state: dict[str, Any], measurements: Path, assumed: Assumed) -> list[Path]:
    """Write page and figures beside the file of measurements; what was written."""
    found = fitted(state, assumed)
    curves, shares = (measurements.with_name(f"{measurements.stem}-{name}.svg") for name in ("seconds", "stages"))
    page = measurements.with_suffix(".md")
    curves.write_text(_curves(state, found), encoding="utf-8")
    shares.write_text(_shares(found), encoding="utf-8")
    names = {"curves": curves.name, "shares": shares.name, "measurements": measurements.name}
    page.write_text(page_text(state, found, assumed, names), encoding="utf-8")
    return [page, curves, shares]


def page_text(state: dict[str, Any], found: Fitted, assumed: Assumed, names: dict[str, str]) -> str:
    """The page in Markdown."""
    parts = [
        _head(state, names),
        _measured(state, found, names),
        _model(found, names),
        _national(state, found, assumed),
        _advice(state, found, assumed),
        _limits(state, found),
    ]
    return "\n\n".join(parts) + "\n"


def _head(state: dict[str, Any], names: dict[str, str]) -> str:
    machine, items = state["machine"], state["measurements"]
    days, commits = (sorted({item[name] for item in items if item[name]}) for name in ("day", "commit"))
    processor = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gigabytes']} GB"
    loads = [item["load_before"] for item in items]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    without = "" if "monitor" in stages_of(state) else WITHOUT_MONITOR
    return f"""# Scaling

How long the whole job takes by rows and cores, and what that means for a dozen national years. `python -m benchmarks.scaling`
makes this page and its figures from [{names["measurements"]}]({names["measurements"]}), which has every measurement. A change by
hand is lost with the next run. `--page-only` draws the page again without measuring, for example with your `--price`.

| | |
|---|---|
| Machine | {processor}; driver memory {machine["driver_memory"]} |
| Versions | {versions} |
| Measured | {" to ".join(dict.fromkeys((days[0], days[-1])))}, code of commit {", ".join(commits) or "unknown"} |
| Other work | load average before a measurement: {min(loads)} to {max(loads)} |{without}"""


def _measured(state: dict[str, Any], found: Fitted, names: dict[str, str]) -> str:
    mix, groups, named = state["attendances_a_spell"], _groups(state["measurements"]), stages_of(state)
    base: dict[int, float] = {}
    lines = []
    for (rows, cores), items in groups.items():
        seconds = _median(items, WHOLE)
        faster = base.setdefault(rows, seconds) / seconds
        stages = " | ".join(_count(_median(items, name)) for name in (*named, AROUND))
        used = [item["processor_seconds"] for item in items if item["processor_seconds"] is not None]
        processor = _count(statistics.median(used)) if used else ""
        peak = _count(max(item["peak_megabytes"] for item in items))
        lines.append(
            f"| {rows:,}{'*' if items[0]['small'] else ''} | {cores} | {stages} | **{_count(seconds)}** | "
            f"{faster:.2f} | {processor} | {_count(rows / seconds)} | {peak} |"
        )
    starred = "\n\n\\* Small data, for which the job compiles and plans differently: shown, not fitted." if any(
        item["small"] for item in state["measurements"]
    ) else ""  # fmt: skip
    table = "\n".join(lines)
    header = " | ".join((*named, AROUND, WHOLE))
    repeats = max(len(items) for items in groups.values())
    medians = f" Seconds are medians of up to {repeats} repetitions." if repeats > 1 else ""
    return f"""## Measured

Made-up SUS+ files (Parquet) of one financial year, with one derived row and {mix} attendances for each spell, into a new lake.
{state["part"]:,} rows of each table were made up; the others are copies of them with their own keys and patients. The job, with
Java's compilers and collectors, was limited to the cores. "Start and end" is the time outside all stages: Python and the
session.{medians}

| Source rows | Cores | {header} | Times as fast | Processor s | Rows/s | Peak MB |
|---:|---:|{"---:|" * (len(named) + 6)}
{table}{starred}

{_memory(groups)}

![Seconds of the whole job by source rows, a line for each number of cores]({names["curves"]})"""


def _memory(groups: dict[tuple[int, int], list[dict[str, Any]]]) -> str:
    said = []
    for cores in sorted({cores for _, cores in groups}):
        peaks = {
            rows: max(item["peak_megabytes"] for item in items)
            for (rows, of), items in groups.items()
            if of == cores and not items[0]["small"]
        }
        low, high = min(peaks), max(peaks)
        said.append(f"{peaks[high] / peaks[low]:.2f} times the memory on {cores} core{'s' if cores > 1 else ''}")
    return f"**Memory.** {high / low:.1f} times the rows, from {low:,} to {high:,}, took {' and '.join(said)}."


def _model(found: Fitted, names: dict[str, str]) -> str:
    largest = max(point.rows for point in found.points[WHOLE])
    cores = sorted({point.cores for point in found.points[WHOLE] if point.rows == largest})
    lines = []
    for name, model in found.models.items():
        own = found.qualities[name]
        held = ", ".join(
            f"{statistics.mean(error for point, error in own.held_out if point.cores == number):+.1%}"
            for number in cores
        )
        terms = " | ".join(f"{value:,.1f}" for value in (model.fixed, model.shared, model.row, model.shared_row))
        lines.append(f"| {name} | {terms} | {own.median:.1%} | {own.worst:.1%} | {held} |")
    table = "\n".join(lines)
    return f"""## Cost model

Seconds = fixed + shared / cores + million rows × (each million + shared each million / cores). No term is below 0. The fit is by least
squares of relative errors. More cores shorten the terms that are divided by cores, and not the others.

| Stage | fixed | shared | each million | shared each million | median error | worst error | {largest:,} rows predicted |
|---|---:|---:|---:|---:|---:|---:|---:|
{table}

The last column is the most important test: the largest size, on {_listed(cores)} core{"s" if cores != [1] else ""}, predicted from the smaller
sizes only, compared with the measurement. Where the times of a stage hardly differ, its terms can replace each other; their sum is
more certain than each of them.

![Share of each stage in the whole job, as fitted]({names["shares"]})"""


def _national(state: dict[str, Any], found: Fitted, assumed: Assumed) -> str:
    lines = []
    for year in found.year:
        dozen = year.times(YEARS)
        hours = _span(dozen, year.cores / HOUR, ",.0f")
        cost = _span(dozen, year.cores / HOUR * assumed.price, ",.2f")
        lines.append(f"| {year.cores} | {_times(year)} | {_times(dozen)} | {hours} | {cost} |")
    table = "\n".join(lines)
    whole = found.models[WHOLE]
    on = found.measured_cores
    added = sum(model.seconds(NATIONAL_ROWS, on) for name, model in found.models.items() if name != WHOLE)
    largest = max(point.rows for point in found.points[WHOLE])
    floor = whole.fixed + whole.row * NATIONAL_ROWS / MILLION
    refitted = [*found.others.left_out, *found.others.drawn]
    most = max(other.fixed + other.row * NATIONAL_ROWS / MILLION for other in refitted)
    return f"""## A national year, and a dozen

A national year has {SPELLS / MILLION:.0f} million spells, as many derived rows and {ATTENDANCES / MILLION:.0f} million attendances. A dozen is {YEARS} such years,
one after the other, each with its fixed seconds. The figures are as fitted, with the low and the high end in brackets.

| Cores | A year | A dozen years | Core-hours of the dozen | Cost of the dozen |
|---:|---:|---:|---:|---:|
{table}
{_really(state, found)}
- **Cost** is core-hours times **{_price(assumed.price)} for an hour of one core. This is an assumption, not a price**, and has no
  currency. Give yours with `--price`. It does not include storage, network, a driver besides the workers, or the time in which a
  cluster starts.
- **Low end**: the 5th percentile of {len(found.others.drawn)} refits with the model's errors redistributed, or a refit without one of the
  sizes, whichever is lower; cores share the shared work perfectly. **High end**: likewise the 95th percentile; with more than {on}
  cores, all together are worth {assumed.efficiency:.0%} of their number. Both ends are moved by the worst error with which the
  largest size was predicted.
- **More than {on} cores is extrapolation**: no such machine was measured, and the actual time can be outside both ends.{_rows_beyond(largest)}
- More cores do not shorten {_time(floor)} of a year as fitted, or {_time(most)} by the worst refit.
- The models of the stages add up to {_time(added)} for a year on {on} cores; the model of the whole job gives
  {_time(whole.seconds(NATIONAL_ROWS, on))}.{_mix(state)}"""


def _rows_beyond(largest: int) -> str:
    times = NATIONAL_ROWS / largest
    return f"\n  {times:.0f} times the rows of the largest measurement is extrapolation too." if times > 1.5 else ""


def _really(state: dict[str, Any], found: Fitted) -> str:
    if "national" not in state:
        return ""
    run = state["national"]
    rows, seconds, on = sum(run["rows"].values()), run["seconds"], run["cores"]
    foretold = [error for point, error in found.qualities[WHOLE].held_out if (point.rows, point.cores) == (rows, on)]
    said = (
        f" From the other measurements alone the model predicts {_time((1 + foretold[0]) * seconds)}, {foretold[0]:+.0%}."
        if foretold
        else ""
    )
    tables = ", ".join(f"{number:,} of {table}" for table, number in run["rows"].items())
    stages = ", ".join(f"{name} {_time(value)}" for name, value in run["stages"].items())
    used = run["processor_seconds"]  # none where there is no /proc
    processor = f", {_count(used)} processor seconds" if used else ""
    return f"""
**Measured once**, on {on} cores, {run["day"]}, code of commit {run["commit"] or "unknown"}: {tables}, from raw files to
published in **{_time(seconds)}** ({stages}){processor}, peak memory of all processes {run["peak_megabytes"]:,} MB. The fit
includes it.{said}
"""


def _mix(state: dict[str, Any]) -> str:
    mix, national = state["attendances_a_spell"], ATTENDANCES // SPELLS
    if mix == national:
        return ""
    beside = " (the measured one too)" if "national" in state else ""
    return (
        f"\n- The model counts all rows alike. The measurements have {mix} attendances to a spell, a national year "
        f"has {national}{beside}: `--attendances-a-spell {national}` measures that."
    )


def _advice(state: dict[str, Any], found: Fitted, assumed: Assumed) -> str:
    dozen = smallest([year.times(YEARS) for year in found.year], assumed.night_hours * HOUR)
    year = smallest(found.year, assumed.evening_hours * HOUR)
    largest = max(item["rows"] for item in state["measurements"])
    peak, cores = max(
        (item["peak_megabytes"], item["cores"]) for item in state["measurements"] if item["rows"] == largest
    )
    return f"""## Which cluster

The fewest of the cores above that finish in time even at the high end:

| What | Within | Cores | As fitted, low to high end | Cost |
|---|---|---:|---:|---:|
{_advised(f"{YEARS} national years", "a night", assumed.night_hours, dozen, assumed.price)}
{_advised("one national year", "an evening", assumed.evening_hours, year, assumed.price)}

Memory: the largest measurement's peak was {peak:,} MB on {cores} core{"s" if cores > 1 else ""}, Python included.
Workers that have as much for every {cores} of their cores match what was measured; less was not tried. Java may fill its driver memory
({state["machine"]["driver_memory"]}) before it frees any, so a peak near that size does not mean that it is needed."""


def _advised(what: str, within: str, hours: float, found: Prediction | None, price: float) -> str:
    if found is None:
        return f"| {what} | {within} of {hours:g} hours | none of these | | |"
    cost = _span(found, found.cores / HOUR * price, ",.2f")
    return f"| {what} | {within} of {hours:g} hours | **{found.cores}** | {_times(found)} | {cost} |"


def _limits(state: dict[str, Any], found: Fitted) -> str:
    return f"""## What this does not say

- One process with threads was measured, never a cluster. Shuffles over a network, object storage, lost executors and a driver that
  waits for all of them are not included, beyond the allowance of the high end.
- The model is a straight line in rows. Sorting, and data that no longer fits in memory and is spilled to disk, grow faster. The memory of
  a worker was not varied.
- The files are made up. Real ones have more odd values, columns that nothing reads, and other file sizes. Text files take longer than
  Parquet.
- Two cores of a virtual machine may be two threads of one processor core. Then the step to {found.measured_cores} shows less than whole
  cores would."""


def _seconds(item: dict[str, Any], name: str) -> float:
    if name == WHOLE:
        return float(item["seconds"])
    stages: dict[str, float] = item["stages"]
    return max(0.0, float(item["seconds"]) - sum(stages.values())) if name == AROUND else stages[name]


def _groups(items: Sequence[dict[str, Any]]) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """Measurements by rows and cores, repetitions together."""
    found: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for item in sorted(items, key=lambda item: (item["rows"], item["cores"], item["repetition"])):
        found.setdefault((item["rows"], item["cores"]), []).append(item)
    return found


def _median(items: Sequence[dict[str, Any]], name: str) -> float:
    return statistics.median(_seconds(item, name) for item in items)


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / HOUR:,.1f} h"


def _times(of: Prediction) -> str:
    return f"{_time(of.fitted)} ({_time(of.low)}–{_time(of.high)})"


def _span(of: Prediction, factor: float, shown: str) -> str:
    fitted, low, high = (format(value * factor, shown) for value in (of.fitted, of.low, of.high))
    return f"{fitted} ({low}–{high})"


def _price(price: float) -> str:
    return f"{price:.2f}" if round(price, 2) == price else f"{price:g}"


def _listed(values: Sequence[int]) -> str:
    *first, last = map(str, values)
    return f"{', '.join(first)} and {last}" if first else last


def _curves(state: dict[str, Any], found: Fitted) -> str:
    with _drawing(3.4) as (figure, axes):
        largest = max(item["rows"] for item in state["measurements"])
        for number, cores in enumerate(sorted({item["cores"] for item in state["measurements"]})):
            colour = COLOURS[number % len(COLOURS)]
            for small, face in ((False, colour), (True, "white")):
                own = [i for i in state["measurements"] if i["cores"] == cores and i["small"] == small]
                axes.plot(
                    [item["rows"] / MILLION for item in own], [item["seconds"] for item in own], "os^Dv"[number % 5],
                    color=colour, markerfacecolor=face, markersize=5, zorder=3,
                )  # fmt: skip
            ends = [0.0, largest * 1.05]
            line = [found.models[WHOLE].seconds(rows, cores) for rows in ends]
            label = f"{cores} core{'s' if cores > 1 else ''}"
            axes.plot([rows / MILLION for rows in ends], line, color=colour, linewidth=1.2, label=label)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("Million source rows")
        axes.set_ylabel("Seconds, start to end")
        axes.grid(color=PALE, linewidth=0.6)
        hollow = any(item["small"] for item in state["measurements"])
        title = f"Points measured{' (hollow: small data, not fitted)' if hollow else ''}, lines fitted"
        figure.legend(title=title, loc="outside upper left", ncols=3, frameon=False)
        return _svg(figure)


def _shares(found: Fitted) -> str:
    sizes = sorted(
        {point.rows for point in found.points[WHOLE] if point.rows < NATIONAL_ROWS / 2}
    )  # it has bars itself
    most = found.year[-1].cores
    names = [name for name in found.models if name != WHOLE]
    bars = [
        *((f"{rows / MILLION:.1f} million rows, {found.measured_cores} cores", rows, found.measured_cores)
          for rows in (sizes[0], sizes[-1])),
        *((f"national year, {cores} cores", NATIONAL_ROWS, cores)
          for cores in dict.fromkeys((found.measured_cores, most))),
    ]  # fmt: skip
    with _drawing(0.42 * len(bars) + 1.2) as (figure, axes):
        for place, (_, rows, cores) in enumerate(bars):
            seconds = [found.models[name].seconds(rows, cores) for name in names]
            so_far = 0.0
            for number, value in enumerate(seconds):
                share = 100 * value / sum(seconds)
                axes.barh(
                    [place], [share], left=[so_far], height=0.62, color=PALE if names[number] == AROUND else COLOURS[number],
                    edgecolor="white", linewidth=0.6, label=names[number] if place == 0 else None,
                )  # fmt: skip
                so_far += share
        axes.set_yticks(range(len(bars)), [name for name, _, _ in bars])
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.set_xlabel("Per cent of the time, as fitted")
        figure.legend(loc="outside upper left", ncols=6, frameon=False, columnspacing=1, handlelength=1)
        return _svg(figure)


@contextmanager
def _drawing(height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure on white, for a page that may have a dark background."""
    style = {
        "svg.hashsalt": "ebi-spark", "svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans"], "font.size": 9,
        "legend.fontsize": 8, "legend.title_fontsize": 8, "axes.edgecolor": GREY, "axes.labelcolor": INK,
        "axes.spines.top": False, "axes.spines.right": False, "xtick.color": INK, "ytick.color": INK, "text.color": INK,
    }  # fmt: skip
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(style)
        figure = Figure(figsize=(6.4, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, figure.add_subplot()


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return re.sub(
        r"[ \t]+$", "", out.getvalue().replace("'DejaVu Sans'", "'DejaVu Sans', sans-serif"), flags=re.MULTILINE
    )

"""The quality of the data that all figures come from: missing values, quarantined rows and completeness."""

from collections.abc import Mapping, Sequence
from typing import Any

from ebi_spark.geography.area_lists import ENGLAND
from ebi_spark.records.quarantine_summary import REMEDIES, columns_of
from ebi_spark.records.row_status import CONFLICTING
from ebi_spark.report import charts, wording
from ebi_spark.report.blocks import LONG, Block, by_year_shown, chart_block, text
from ebi_spark.report.rows import Row, latest_year, position


def quality(rows: Sequence[Row]) -> tuple[Block, ...]:
    """The national measures of each data set by year, then the quarantined rows. ``rows`` are those of ``quality``."""
    if not rows:
        return (text("This release has no measures of data quality."),)

    def place(row: Row) -> tuple[Any, ...]:
        name = str(row["measure"])
        return (position(name, wording.QUALITY), name)

    def named(row: Row) -> str:
        policy = f" ({row['policy_id']})" if row.get("policy_id") else ""
        return wording.quality_measure(str(row["measure"])) + policy

    blocks: list[Block] = []
    for dataset in sorted({str(row["dataset"]) for row in rows}):
        own = sorted((row for row in rows if str(row["dataset"]) == dataset), key=place)
        name = wording.DATASETS.get(dataset, dataset)
        blocks += by_year_shown(
            own,
            label=named,
            is_hidden=lambda row: row.get("status") == "withheld_small",
            words=f"{name}, fewer than 50 in every year",
            order=lambda row: (*place(row), str(row.get("policy_id"))),
            cell=_quality_cell,
            caption=f"{name}: records by year, and their percentage of the records that the measure is a part of. Totals are "
            "exact. Every other number is rounded to the nearest 100, because it could be the records of one area or provider.",
            first="Measure",
        )
    return (*blocks, *_quarantine(rows))


# The source tables of each data set.
_ROLES = {"apc": ("apcs", "apc"), "op": ("opa", "op")}


def _quarantine(quality: Sequence[Row]) -> list[Block]:
    """Why rows were quarantined, which columns to check, and what to do."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in quality:
        kind, _, reason = str(row["measure"]).partition(":")
        if kind == "quarantined":
            found.setdefault((str(row["dataset"]), reason), []).append(row)
    if not found:
        return []
    listed = []
    for (dataset, reason), years in sorted(found.items(), key=lambda item: (-_known(item[1]), item[0])):
        columns = dict.fromkeys(name for role in _ROLES.get(dataset, ()) for name in columns_of(reason, role))
        where = ", ".join(columns) or (
            "the columns in which the rows differ" if reason == CONFLICTING else "the whole line"
        )
        name = wording.DATASETS.get(dataset, dataset)
        listed.append((name, wording.in_words(reason), _rows_of_years(years), where, REMEDIES.get(reason, "")))
    return [
        Block(
            "grid",
            text="Quarantined rows (rows that could not be used), all years. The command ebi-spark status lists them by source table.",
            head=("Data set", "Reason", "Rows", "Columns to check", "What to do"),
            rows=tuple(listed),
            align="lwrww",
            fold=True,
        )
    ]


def _known(years: Sequence[Row]) -> int:
    return sum(int(row.get("records") or 0) for row in years)


def _rows_of_years(years: Sequence[Row]) -> str:
    """The quarantined rows of some years. A suppressed year has fewer than 50."""
    suppressed = sum(row.get("status") == "withheld_small" for row in years)
    known = wording.count(_known(years) or None)
    if not suppressed:
        return known
    small = wording.SUPPRESSED_MEASURES["withheld_small"]
    if len(years) > 1:
        small += " in one year" if suppressed == 1 else f" in each of {suppressed} years"
    return f"{known}, and {small}" if _known(years) else small


def _quality_cell(row: Row) -> str:
    if row.get("status") in wording.SUPPRESSED_MEASURES:
        return wording.SUPPRESSED_MEASURES[str(row["status"])]
    part = wording.share(row.get("records"), row.get("of_records")) if row.get("measure") != "records" else ""
    return wording.count(row.get("records")) + (f" ({part})" if part else "")


def completeness(rows: Sequence[Row], rates: Sequence[Row] = ()) -> tuple[Block, ...]:
    """Records by month for each data set, and the providers that sent less than half of their typical month. ``rates``: the rows of
    ``rate``, which have the names of providers."""
    blocks: list[Block] = []
    names = {str(row["area_code"]): wording.area_name(row) for row in rates if row["area_type"] == "provider"}
    for dataset in sorted({str(row["dataset"]) for row in rows}):
        own = [row for row in rows if str(row["dataset"]) == dataset]
        blocks += _dataset_blocks(own, dataset, wording.DATASETS.get(dataset, dataset), names)
    return tuple(blocks)


def _dataset_blocks(rows: Sequence[Row], dataset: str, name: str, names: Mapping[str, str]) -> list[Block]:
    """The months of a data set, and its providers with low months. ``names``: names of providers by code."""
    national = sorted((row for row in rows if row["area_type"] == ENGLAND), key=lambda row: str(row["month"]))
    providers = [row for row in rows if row["area_type"] == "provider"]
    blocks = _month_blocks(national, dataset, name, with_providers=bool(providers)) if national else []
    last, latest = latest_year(providers)
    if not latest:
        return blocks
    low: dict[str, list[Row]] = {}
    for row in sorted(latest, key=lambda row: (str(row["area_code"]), str(row["month"]))):
        if row.get("low"):
            low.setdefault(str(row["area_code"]), []).append(row)
    number = len({row["area_code"] for row in latest})
    blocks.append(
        text(
            f"{name}, {last}: {len(low)} of {number} providers with 100 records or more in a typical month have a low month.",
        )
    )
    if low:
        blocks.append(_low_months(low, f"{name}: low months by provider, {last}", names))
    return blocks


def _month_blocks(national: Sequence[Row], dataset: str, name: str, *, with_providers: bool) -> list[Block]:
    """Every month of a data set, as a chart and as a table. Where every provider is small, none of them is published."""
    of_providers = {"providers": "Providers", "providers_low": "With a low month"} if with_providers else {}
    low = (
        " A provider's month is low if it has less than half as many records as the provider's typical month of that year (the "
        "median of its months that are not marked)."
    )
    months = Block(
        "grid",
        text=f"{name}: every month, the latest first.{low if with_providers else ''}",
        head=("Month", "Records", *of_providers.values(), "Mark"),
        rows=tuple(
            (
                wording.month(row["month"]),
                *(wording.count(row.get(field)) for field in ("records", *of_providers)),
                wording.month_marks(row),
            )
            for row in reversed(national)
        ),
        align="nr" + "r" * len(of_providers) + "l",
        long=len(national) > LONG,
    )
    drawn = chart_block(
        charts.records_by_month(national, key=f"completeness-{dataset}", title=name),
        f"{name}: records by month, all procedures. Hollow points are provisional months, which will grow, and months of the pandemic.",
        [months],
    )
    return drawn or [months]


def _low_months(low: Mapping[str, Sequence[Row]], caption: str, names: Mapping[str, str]) -> Block:
    """The low months of each provider."""
    return Block(
        "grid",
        text=caption,
        head=("Provider", "Low months, as a percentage of a typical month"),
        rows=tuple(
            (
                f"{names[code]} ({code})" if names.get(code, code) != code else code,
                ", ".join(f"{wording.month(row['month'])} {row['share_of_typical']:.0%}{_mark(row)}" for row in months),
            )
            for code, months in sorted(low.items())
        ),
        align="lw",
        fold=True,
    )


def _mark(row: dict[str, Any]) -> str:
    return " (provisional)" if row.get("provisional") else ""

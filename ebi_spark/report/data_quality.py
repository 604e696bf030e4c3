"""What is known of the data behind all figures: missing values and completeness."""

from collections.abc import Sequence
from typing import Any

from ebi_spark.canonical.worklist import CONFLICT, REMEDIES, columns_of
from ebi_spark.report import charts, wording
from ebi_spark.report.blocks import Block, by_year, drawn
from ebi_spark.report.rows import Row


def quality(quality: Sequence[Row]) -> tuple[Block, ...]:
    """The national measures of each data set by year."""
    if not quality:
        return (Block("text", text="This release holds no measures of data quality."),)
    known = list(wording.QUALITY)

    def place(row: Row) -> tuple[Any, ...]:
        name = str(row["measure"])
        return (known.index(name) if name in known else len(known), name)

    blocks = []
    for dataset in sorted({str(row["dataset"]) for row in quality}):
        blocks.append(
            by_year(
                [row for row in quality if str(row["dataset"]) == dataset],
                label=lambda row: (
                    wording.quality_measure(str(row["measure"]))
                    + (f" ({row['policy_id']})" if row.get("policy_id") else "")
                ),
                order=place,
                cell=_quality_cell,
                caption=f"{wording.DATASETS.get(dataset, dataset)}: records by year, and their share of those that the "
                "measure is a part of. Totals are exact; all else is to the nearest 100, since it can be the records of one area "
                "or provider.",
                first="Measure",
            )
        )
    return (*blocks, *_set_aside(quality))


# The source tables of each data set.
_ROLES = {"apc": ("apcs", "apc"), "op": ("opa", "op")}


def _set_aside(quality: Sequence[Row]) -> list[Block]:
    """What rows were set aside for, which columns to look at, and what to do."""
    rows: dict[tuple[str, str], int] = {}
    for row in quality:
        kind, _, reason = str(row["measure"]).partition(":")
        if kind == "quarantined":
            key = str(row["dataset"]), reason
            rows[key] = rows.get(key, 0) + int(row.get("records") or 0)
    if not rows:
        return []
    listed = []
    for (dataset, reason), number in sorted(rows.items(), key=lambda item: (-item[1], item[0])):
        columns = dict.fromkeys(name for role in _ROLES.get(dataset, ()) for name in columns_of(reason, role))
        place = ", ".join(columns) or ("those in which the rows differ" if reason == CONFLICT else "the whole line")
        name = wording.DATASETS.get(dataset, dataset)
        shown = wording.count(number) if number else wording.ABSENT_MEASURES["withheld_small"]
        listed.append((name, wording.spoken(reason), shown, place, REMEDIES.get(reason, "")))
    return [
        Block(
            "grid",
            text="Rows that could not be used, of all years. `ebi-spark status` lists them by source table.",
            head=("Data set", "Reason", "Rows", "Columns to look at", "What to do"),
            rows=tuple(listed),
            align="lwrww",
            fold=True,
        )
    ]


def _quality_cell(row: Row) -> str:
    if row.get("status") in wording.ABSENT_MEASURES:
        return wording.ABSENT_MEASURES[str(row["status"])]
    part = wording.share(row.get("records"), row.get("of_records")) if row.get("measure") != "records" else ""
    return wording.count(row.get("records")) + (f" ({part})" if part else "")


def completeness(rows: Sequence[Row]) -> tuple[Block, ...]:
    """Records by month and data set, and the providers that sent less than half of their typical month."""
    blocks: list[Block] = []
    for dataset in sorted({str(row["dataset"]) for row in rows}):
        own = [row for row in rows if str(row["dataset"]) == dataset]
        blocks += _of_dataset(own, dataset, wording.DATASETS.get(dataset, dataset))
    return tuple(blocks)


def _of_dataset(rows: Sequence[Row], dataset: str, name: str) -> list[Block]:
    national = sorted((row for row in rows if row["area_type"] == wording.NATIONAL), key=lambda row: str(row["month"]))
    providers = [row for row in rows if row["area_type"] == "provider"]
    blocks: list[Block] = []
    if national:
        blocks += drawn(
            charts.records_by_month(national, key=f"completeness-{dataset}", title=name),
            f"{name}: records by month, all procedures. Provisional months, which will grow, and the pandemic's are hollow.",
        )
        blocks.append(
            Block(
                "grid",
                text=f"{name}: the latest twelve months. A provider's month is low when it holds less than half of its typical "
                "month of the year (median of its months that are not marked).",
                head=("Month", "Records", "Providers", "Of these low", "Mark"),
                rows=tuple(
                    (
                        wording.month(row["month"]),
                        *(wording.count(row.get(field)) for field in ("records", "providers", "providers_low")),
                        wording.month_marks(row),
                    )
                    for row in national[-12:]
                ),
                align="lrrrl",
            )
        )
    last = max((str(row["financial_year"]) for row in providers), default="")
    of_year = [row for row in providers if str(row["financial_year"]) == last]
    low: dict[str, list[Row]] = {}
    for row in sorted(of_year, key=lambda row: (str(row["area_code"]), str(row["month"]))):
        if row.get("low"):
            low.setdefault(str(row["area_code"]), []).append(row)
    told = f"{name}, {last}: {len(low)} of {len({row['area_code'] for row in of_year})} providers have a low month"
    told += ", of those with 100 records or more in a typical month"
    if of_year:
        blocks.append(Block("text", text=told + "."))
    if low:
        blocks.append(
            Block(
                "grid",
                text=f"{name}: low months by provider, {last}",
                head=("Provider", "Months, and their share of a typical one"),
                rows=tuple(
                    (
                        code,
                        ", ".join(
                            f"{wording.month(row['month'])} {row['share_of_typical']:.0%}{_mark(row)}" for row in months
                        ),
                    )
                    for code, months in sorted(low.items())
                ),
                align="lw",
                fold=True,
            )
        )
    return blocks


def _mark(row: dict[str, Any]) -> str:
    return " (provisional)" if row.get("provisional") else ""

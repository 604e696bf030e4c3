"""Makes the tables for BI tools from the published rates and policies of one release. Plain functions over plain rows."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from scipy.stats import chi2

from ebi_spark.config.settings import resource
from ebi_spark.financial_years import start_of
from ebi_spark.geography.area_versions import versions
from ebi_spark.small_files import read_rows
from ebi_spark.tables.star import DIM_AREA, DIM_PERIOD, DIM_POLICY, DIM_STATUS, RATE_CURRENT
from ebi_spark.tables.table import Table

Row = Mapping[str, Any]

ENGLAND, ENGLAND_CODE = "england", "E92000001"
AREA_TYPES = {
    "england": "England",
    "region": "Region",
    "icb": "Integrated care board",
    "sub_icb": "Sub-ICB location",
    "provider": "Provider",
}
STATUSES = {
    "ok": ("A rate is given.", ""),
    "few_events": (
        "There are too few records for a rate.",
        "Fewer than 10 flagged records: no standardised rate is given.",
    ),
    "no_population": (
        "There is no population.",
        "No rate is given where no population is known, such as for providers.",
    ),
    "not_calculated": ("The rate is not calculated.", "The rate could not be calculated."),
    "withheld_small": ("Suppressed: a small number.", "Suppressed because the number is small."),
    "withheld_secondary": (
        "Suppressed to protect another number.",
        "Suppressed so that a small number elsewhere cannot be worked out.",
    ),
}
NOT_COMPARED = "not_compared"


def star_rows(
    rates: Iterable[Row], policies: Iterable[Row], *, release_id: str, geography: str, rule: Mapping[str, Any]
) -> dict[Table, list[dict[str, Any]]]:
    """The rows of every table of the star.

    ``rates`` has the release's rows of ``published/rate``, ``policies`` those of ``published/policy``. ``rule`` is the disclosure
    rule: its rounding says which counts are possible behind a published one.
    """
    listed = list(policies)
    default = {(row["policy_id"], row["revision"]): row for row in listed if row["is_default_reading"]}
    chosen = [row for row in rates if _is_shown(row, default)]
    release = {"release_id": release_id}
    tables: dict[Table, list[dict[str, Any]]] = {
        DIM_POLICY: [_policy(row, listed) for _, row in sorted(default.items())],
        DIM_AREA: _areas(chosen, geography),
        DIM_PERIOD: _periods(chosen),
        DIM_STATUS: [
            {"status_code": code, "words": words, "footnote": footnote} for code, (words, footnote) in STATUSES.items()
        ],
        RATE_CURRENT: _rates(chosen, rule),
    }
    return {table: [row | release for row in rows] for table, rows in tables.items()}


def _is_shown(row: Row, default: Mapping[tuple[str, str], Row]) -> bool:
    """Whether a rate is by the default reading of its policy, in a single year of England or a period published below it."""
    policy = default.get((row["policy_id"], row["revision"]))
    if policy is None or policy["reading"] != row["reading"]:
        return False
    years, first = int(policy["publish_years"] or 1), policy["publish_first_year"]
    offset = int(row["period"][:4]) - int(first[:4]) if first else 0
    published = row["period_years"] == years and offset % years == 0
    return bool(published or (row["area_type"] == ENGLAND and row["period_years"] == 1))


def policy_key(row: Row) -> str:
    """The key of a policy and revision."""
    return f"{row['policy_id']}@{row['revision']}"


def area_key(row: Row) -> str:
    """The key of an area."""
    return f"{row['area_type']}/{row['area_code']}"


def _policy(row: Row, policies: Sequence[Row]) -> dict[str, Any]:
    scope = [clause for clause in row["clauses"] or () if clause["kind"] == "scope"]
    readings = sorted(
        {
            other["reading"]
            for other in policies
            if (other["policy_id"], other["revision"]) == (row["policy_id"], row["revision"])
        }
    )
    names = ("policy_id", "revision", "reading", "title", "publisher", "source", "in_force_from", "in_force_to")
    return {
        "policy_key": policy_key(row),
        **{name: row[name] for name in names},
        "readings": "; ".join(readings),
        "words": " ".join(clause["words"] for clause in scope),
        "is_local": bool(row["boards"]),
        "boards": "; ".join(row["boards"] or ()),
        "wanted": "lower",
        "target": None,
    }


def _areas(rates: Iterable[Row], geography: str) -> list[dict[str, Any]]:
    day = versions().get(geography, max(versions().values()))
    ons, known = _ons_codes(day), _known_areas(day)
    found: dict[str, dict[str, Any]] = {}
    for row in rates:
        kind, code = row["area_type"], row["area_code"]
        place = known.get((kind, code), {})
        found.setdefault(
            area_key(row),
            {
                "area_key": area_key(row),
                "area_type": kind,
                "area_type_name": AREA_TYPES[kind],
                "ods_code": None if kind == ENGLAND else code,
                "ons_code": ENGLAND_CODE if kind == ENGLAND else ons.get((kind, code)),
                "area_name": row["area_name"] or code,
                "parent_key": place.get("parent_key"),
                "parent_name": place.get("parent_name"),
                **{name: place.get(name) for name in ("icb_code", "icb_name", "region_code", "region_name")},
                "valid_from": place.get("valid_from"),
                "valid_to": place.get("valid_to"),
                "geography": geography,
            },
        )
    return [found[key] for key in sorted(found)]


def _known_areas(day: date) -> dict[tuple[str, str], dict[str, Any]]:
    """Regions, boards and sub-ICB locations that are valid on a day, each with its parents."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in read_rows(resource("conf", "reference", "areas.csv")):
        since = date.fromisoformat(row["valid_from"])
        until = date.fromisoformat(row["valid_to"]) if row["valid_to"] else None
        if not since <= day or (until is not None and until <= day):
            continue
        region = {"region_code": row["region_code"], "region_name": row["region_name"]}
        board = {"icb_code": row["icb_code"], "icb_name": row["icb_name"]} | region
        found["sub_icb", row["sub_icb_code"]] = board | {
            "parent_key": f"icb/{row['icb_code']}", "parent_name": row["icb_name"], "valid_from": since, "valid_to": until,
        }  # fmt: skip
        found["icb", row["icb_code"]] = board | {
            "parent_key": f"region/{row['region_code']}", "parent_name": row["region_name"],
        }  # fmt: skip
        found["region", row["region_code"]] = region | {
            "parent_key": f"{ENGLAND}/{ENGLAND_CODE}", "parent_name": "England",
        }  # fmt: skip
    return found


def _ons_codes(day: date) -> dict[tuple[str, str], str]:
    """By kind of area and NHS code, the ONS code that is valid on a day."""
    found = {}
    for kind, file, column in (
        ("region", "region_ons_codes.csv", "region_code"),
        ("icb", "icb_ons_codes.csv", "icb_code"),
        ("sub_icb", "area_ons_codes.csv", "sub_icb_code"),
    ):
        for row in sorted(read_rows(resource("conf", "reference", file)), key=lambda row: row["valid_from"]):
            if row["valid_from"] <= day.isoformat() and (not row["valid_to"] or day.isoformat() < row["valid_to"]):
                found[kind, row[column]] = row["ons_code"]
    return found


def _periods(rates: Iterable[Row]) -> list[dict[str, Any]]:
    found = {}
    for row in rates:
        first, last = row["period"][:7], row["financial_year"]
        end = date(start_of(last).year + 1, 4, 1) - timedelta(days=1)
        found[row["period"]] = {
            "period_key": row["period"],
            "label": last if row["period_years"] == 1 else f"{first} to {last}",
            "start_date": start_of(first),
            "end_date": end,
            "years": int(row["period_years"]),
            "is_pooled": row["period_years"] > 1,
            "sort_key": end.year * 100 + int(row["period_years"]),
        }
    return [found[key] for key in sorted(found)]


def _rates(rates: Sequence[Row], rule: Mapping[str, Any]) -> list[dict[str, Any]]:
    national = {
        (row["policy_id"], row["revision"], row["period"]): row["standardised_rate"]
        for row in rates
        if row["area_type"] == ENGLAND
    }
    found = []
    for row in rates:
        england = national.get((row["policy_id"], row["revision"], row["period"]))
        lower, upper = (
            row[f"{name}_adjusted"] if row[f"{name}_adjusted"] is not None else row[name] for name in ("lower", "upper")
        )
        wide_lower, wide_upper = _wider(row, lower, upper, rule)
        below = row["area_type"] != ENGLAND
        found.append(
            {
                "policy_key": policy_key(row),
                "area_key": area_key(row),
                "period_key": row["period"],
                "status_code": row["status"],
                "area_type": row["area_type"],
                "is_pooled": row["period_years"] > 1,
                "standardised_rate": row["standardised_rate"],
                "lower_95": lower,
                "upper_95": upper,
                "lower_998": wide_lower,
                "upper_998": wide_upper,
                "crude_rate": row["crude_rate"],
                "flagged_share": row["flagged_share"],
                "share_lower_95": row["share_lower"],
                "share_upper_95": row["share_upper"],
                "england_rate": england,
                "compared_with_england_95": compared(lower, upper, england) if below else NOT_COMPARED,
                "compared_with_england_998": compared(wide_lower, wide_upper, england) if below else NOT_COMPARED,
                "method": row["method"],
            }
        )
    return found


def compared(lower: float | None, upper: float | None, england: float | None) -> str:
    """``lower``, ``similar`` or ``higher`` than England's rate by the limits; ``not_compared`` where one is missing."""
    if lower is None or upper is None or england is None:
        return NOT_COMPARED
    return "lower" if upper < england else "higher" if lower > england else "similar"


def _wider(
    row: Row, lower: float | None, upper: float | None, rule: Mapping[str, Any]
) -> tuple[float | None, float | None]:
    """The 99.8% limits of an area below England, from its 95% limits.

    Limits of a rate are those of the count, times what the count is multiplied by. So the 99.8% limit is the 95% limit times the
    ratio of the count's two limits, each of the least or the most count that could be published as this one.
    """
    if row["area_type"] == ENGLAND or row["activity"] is None or lower is None or upper is None:
        return None, None
    least, most = possible_counts(int(row["activity"]), rule)
    narrow, wide = count_limits(least, 0.95)[0], count_limits(least, 0.998)[0]
    wide_lower = 0.0 if narrow == 0 else lower * wide / narrow
    return wide_lower, upper * count_limits(most, 0.998)[1] / count_limits(most, 0.95)[1]


def possible_counts(published: int, rule: Mapping[str, Any]) -> tuple[int, int]:
    """The smallest and largest true count that is published as this value."""
    step, low, high = rule["round_to"], rule["withhold"]["from"], rule["withhold"]["to"]
    near = range(max(0, published - step), published + step + 1)
    fit = [n for n in near if not low <= n <= high and math.floor((n + step / 2) / step) * step == published]
    return min(fit), max(fit)


def count_limits(count: int, level: float) -> tuple[float, float]:
    """Exact Poisson limits below 10 records and Byar's from 10 on, as for all published rates."""
    tail = (1 - level) / 2
    if count < 10:
        lower = 0.0 if count == 0 else float(chi2.ppf(tail, 2 * count)) / 2
        return lower, float(chi2.ppf(1 - tail, 2 * count + 2)) / 2
    z = float(chi2.ppf(level, 1)) ** 0.5

    def byar(number: float, sign: int) -> float:
        return float(number * (1 - 1 / (9 * number) + sign * z / (3 * number**0.5)) ** 3)

    return byar(count, -1), byar(count + 1, 1)

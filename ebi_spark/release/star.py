"""Makes the tables for BI tools from the published rates and policies of one release. Plain functions over plain rows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ebi_spark.financial_years import end_of, start_of
from ebi_spark.geography.area_lists import AREA_TYPES, ENGLAND, ListedArea, Place, areas_on
from ebi_spark.geography.area_versions import versions
from ebi_spark.release.published_limits import NOT_COMPARED, compared, limits_998_of, limits_of
from ebi_spark.tables.star import DIM_AREA, DIM_PERIOD, DIM_POLICY, DIM_STATUS, RATE_CURRENT
from ebi_spark.tables.table import Table

Row = Mapping[str, Any]

# Every status of published/rate: (what it means, what to put under a table or chart).
STATUSES = {
    "ok": ("A rate is given.", ""),
    "few_events": (
        "There are too few records for a reliable rate.",
        "Fewer than 10 flagged records: a rate is unreliable, and may not be given.",
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


def star_rows(
    rates: Iterable[Row], policies: Iterable[Row], *, release_id: str, geography: str, rule: Mapping[str, Any]
) -> dict[Table, list[dict[str, Any]]]:
    """The rows of each of the five tables: the rates, and the four tables that describe their keys.

    ``rates`` has the release's rows of ``published/rate``, ``policies`` those of ``published/policy``. ``rule`` is the disclosure
    rule. Its rounding says from which counts a published count may have been rounded. A suppressed figure is None.

    | policy_id | reading      | default reading | area_type | area_code | → policy_key | area_key          |
    |-----------|--------------|-----------------|-----------|-----------|--------------|-------------------|
    | P         | as_intended  | as_intended     | england   | E92000001 | P@2021-04    | england/E92000001 |
    | P         | as_intended  | as_intended     | icb       | QJ2       | P@2021-04    | icb/QJ2           |
    | P         | as_published | as_intended     | england   | E92000001 | no row       |                   |
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
    """Whether a rate has its policy's default reading and a period that is published below England, or is of England and one year."""
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


def _policy(row: Row, policies: Sequence[Row]) -> dict[str, Any]:
    readings = sorted(other["reading"] for other in policies if policy_key(other) == policy_key(row))
    same = ("policy_id", "revision", "title", "publisher", "source", "in_force_from", "in_force_to", "target")
    return {
        "policy_key": policy_key(row),
        **{name: row[name] for name in same},
        "default_reading": row["reading"],
        "readings": "; ".join(readings),
        "words": " ".join(clause["words"] for clause in row["clauses"] or () if clause["kind"] == "scope"),
        "is_local": bool(row["boards"]),
        "boards": "; ".join(row["boards"]) if row["boards"] else None,
        # Every policy of the programme lists what should not be routine.
        "wanted": "lower",
    }


def _areas(rates: Iterable[Row], geography: str) -> list[dict[str, Any]]:
    """The areas of the rates, and the larger areas that these are part of."""
    listed = areas_on(versions().get(geography, max(versions().values())))
    names = {(row["area_type"], row["area_code"]): row["area_name"] for row in rates}
    shown = {above for place in names for above in (place, *_above(place, listed))}
    return [_area(place, names.get(place), listed) | {"geography": geography} for place in sorted(shown)]


def _above(place: Place, listed: Mapping[Place, ListedArea]) -> list[Place]:
    """The area that an area is part of, and so on up to England."""
    parent = listed[place].parent if place in listed else None
    return [parent, *_above(parent, listed)] if parent else []


def _area(place: Place, name: str | None, listed: Mapping[Place, ListedArea]) -> dict[str, Any]:
    kind, code = place
    area, above = listed.get(place, ListedArea(name or code, None)), _above(place, listed)
    part_of = {**dict(reversed(above)), kind: code}
    parent = above[0] if above else None
    return {
        "area_key": f"{kind}/{code}",
        "area_type": kind,
        "area_type_name": AREA_TYPES[kind],
        "ods_code": None if kind == ENGLAND else code,
        "ons_code": area.ons_code,
        "area_name": name or area.name,
        "parent_key": f"{parent[0]}/{parent[1]}" if parent else None,
        "parent_ods_code": parent[1] if parent and parent[0] != ENGLAND else None,
        "parent_ons_code": listed[parent].ons_code if parent else None,
        "parent_name": listed[parent].name if parent else None,
        **{f"{larger}_code": part_of.get(larger) for larger in ("icb", "region")},
        **{
            f"{larger}_name": listed[larger, part_of[larger]].name if (larger, part_of.get(larger)) in listed else None
            for larger in ("icb", "region")
        },
        "valid_from": area.since,
        "valid_to": area.until,
    }


def _periods(rates: Iterable[Row]) -> list[dict[str, Any]]:
    found = {}
    for row in rates:
        first, last = row["period"][:7], row["financial_year"]
        end = end_of(last)
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
    national = {(policy_key(row), row["period"]): row for row in rates if row["area_type"] == ENGLAND}
    found = []
    for row in rates:
        england = national.get((policy_key(row), row["period"]), {})
        limits, wide = limits_of(row), limits_998_of(row, rule)
        lower, upper = limits or (None, None)
        wide_lower, wide_upper = wide or (None, None)
        comparisons = [NOT_COMPARED, NOT_COMPARED]
        if row["area_type"] != ENGLAND:
            comparisons = [compared(each, england.get("standardised_rate")) for each in (limits, wide)]
        found.append(
            {
                "policy_key": policy_key(row),
                "area_key": f"{row['area_type']}/{row['area_code']}",
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
                "crude_lower_95": row["crude_lower"],
                "crude_upper_95": row["crude_upper"],
                "flagged_share": row["flagged_share"],
                "share_lower_95": row["share_lower"],
                "share_upper_95": row["share_upper"],
                "england_rate": england.get("standardised_rate"),
                "england_share": england.get("flagged_share"),
                "compared_with_england_95": comparisons[0],
                "compared_with_england_998": comparisons[1],
                "method": row["method"],
                "notes": "; ".join(row["notes"]) or None,
            }
        )
    return found

"""The report shows what was published, loads nothing from outside, and explains missing figures in words.

The frames are made up in the shape of the published tables. No row describes anything real.
"""

import ast
import base64
import hashlib
import json
import math
import random
import re
from collections.abc import Iterator
from datetime import date, datetime
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from ebi_spark.config.shipped_files import caveats, disclosure_rules
from ebi_spark.lake.earlier_releases import CORRECTIONS
from ebi_spark.rates.baselines import baselines, compare
from ebi_spark.release.published_tables import INDIRECT
from ebi_spark.report import build_report, charts, data_quality, wording
from ebi_spark.report.blocks import interval, stack
from ebi_spark.report.page import report_caveats, sources_to_check
from ebi_spark.report.rows import mapping, rows_of
from ebi_spark.tables import schemas
from ebi_spark.tables.monitoring_approvals import APPROVAL_SUMMARY
from ebi_spark.tables.monitoring_audit import PUBLISHED_AUDIT_ESTIMATE
from ebi_spark.tables.monitoring_changes import MEASURE_SUMMARY, PUBLISHED_ACTIVITY_CHANGE
from ebi_spark.tables.monitoring_pathway import PATHWAY_SUMMARY

YEARS = ["2019-20", "2020-21", "2021-22", "2022-23"]
FUSION, IMAGING = "2Y_back_pain_fusion", "2S_lower_back_imaging"
TITLES = {FUSION: "Fusion surgery for back pain", IMAGING: "Low back pain imaging"}
REVISION = {FUSION: "2022-08", IMAGING: "2023-12"}
DEFAULT = {FUSION: "as_published", IMAGING: "as_intended"}
DATASET = {FUSION: "apc", IMAGING: "op"}
READINGS = ("as_published", "as_intended", "guidance_coded")
NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "published_figures.ipynb"

TABLES = {
    "rate": schemas.RATE,
    "variation": schemas.VARIATION,
    "attrition": schemas.ATTRITION,
    "reading_effect": schemas.READING_EFFECT,
    "sensitivity": schemas.SENSITIVITY,
    "quality": schemas.QUALITY,
    "activity_month": schemas.PUBLISHED_ACTIVITY_MONTH,
    "days_between": schemas.DAYS_BETWEEN,
    "completeness": schemas.COMPLETENESS,
    "policy": schemas.PUBLISHED_POLICY,
    "approval_summary": APPROVAL_SUMMARY,
    "pathway_summary": PATHWAY_SUMMARY,
    "activity_change": PUBLISHED_ACTIVITY_CHANGE,
    "measure_summary": MEASURE_SUMMARY,
    "audit_estimate": PUBLISHED_AUDIT_ESTIMATE,
}


def framed(rows: list[dict[str, Any]], table: schemas.Table) -> pd.DataFrame:
    """The rows with all columns of the table. A column that the table does not have fails the test."""
    for row in rows:
        assert not set(row) - set(table.names()), set(row) - set(table.names())
    return pd.DataFrame([{"release_id": "r-7", **row} for row in rows], columns=table.names())


def rate_row(policy: str, year: str, area_type: str, code: str, name: str, **given: Any) -> dict[str, Any]:
    people = given.pop("population", 59_400_000)
    events = given.pop("activity")
    crude = None if events is None else 100_000 * events / people
    return {
        "policy_id": policy, "revision": REVISION[policy], "reading": DEFAULT[policy], "financial_year": year,
        "period_years": 1, "period": year, "area_type": area_type, "area_code": code, "area_name": name,
        "activity": events, "in_scope": None if events is None else events * 4, "people_flagged": events,
        "population": people, "crude_rate": crude,
        "standardised_rate": None if crude is None else crude * 1.02,
        "lower": None if crude is None else max(0.0, 1.02 * crude * (1 - 1.9 / math.sqrt(events + 1))),
        "upper": None if crude is None else 1.02 * crude * (1 + 2.1 / math.sqrt(events + 1)),
        "method": "direct", "status": "ok", "notes": [], "disclosure": "hes_2018", "caveats": [],
        **given,
    }  # fmt: skip


def suppressed_row(policy: str, year: str, code: str, name: str, status: str, **given: Any) -> dict[str, Any]:
    row = rate_row(policy, year, "icb", code, name, activity=None, population=1_100_000, **given)
    return {**row, "status": status}


def clause(step: int, clause_id: str, kind: str, words: str, test: str, **given: str) -> dict[str, Any]:
    return {
        "clause_id": clause_id, "step": step, "kind": kind, "words": words, "test": test, "missing": "fails",
        "coding": "coded", "decision": "", "because": "", **given,
    }  # fmt: skip


def sample() -> dict[str, pd.DataFrame]:
    """Two policies over four years and 42 ICBs: imaging is common, fusion is suppressed in single years."""
    random.seed(3)
    names = [
        f"NHS {a} and {b} Integrated Care Board"
        for a in ("North Vale", "Eastmere", "Southwold", "Westbury", "Midshire", "Fenland", "Chiltern")
        for b in ("Ashdown", "Broadmoor", "Castle Hill", "Dunmere", "Elmstead", "Forest Heath")
    ]
    codes = [f"Q{number:02d}" for number in range(42)]
    people = [random.randint(500_000, 3_100_000) for _ in codes]
    rates = []
    for year, events in zip(YEARS, (41, 35, 12, 1_038), strict=True):
        rates.append(rate_row(FUSION, year, "england", "E92", "England", activity=events))
    rates[-1]["notes"] = ["partial_year"]
    for year, events in zip(YEARS, (61_234, 55_010, 38_765, 58_321), strict=True):
        rates.append(rate_row(IMAGING, year, "england", "E92", "England", activity=events))
    for code, name, number in zip(codes, names, people, strict=True):
        place = codes.index(code)
        status = "withheld_secondary" if place % 6 == 0 else "withheld_small"
        rates.append(suppressed_row(FUSION, YEARS[-1], code, name, status))
        pooled = {"period_years": 3, "period": "2020-21..2022-23"}
        if place < 30:
            rates.append(
                rate_row(
                    FUSION, YEARS[-1], "icb", code, name, population=3 * number,
                    activity=10 + 5 * (place % 5), standardised_rate=None, lower=None, upper=None, **pooled,
                )
            )  # fmt: skip
        else:
            rates.append(suppressed_row(FUSION, YEARS[-1], code, name, "withheld_small", **pooled))
        if place == 41:
            rates.append(suppressed_row(IMAGING, YEARS[-1], code, name, "withheld_small"))
        else:
            expected = number * 98.2 / 100_000
            events = round(expected * random.lognormvariate(0, 0.16) / 5) * 5
            rates.append(rate_row(IMAGING, YEARS[-1], "icb", code, name, activity=events, population=number))
    rates.append(
        rate_row(FUSION, YEARS[-1], "england", "E92", "England", activity=1_085, population=178_000_000,
                 period_years=3, period="2020-21..2022-23")
    )  # fmt: skip

    variation = []
    for policy, year, spread in (
        (IMAGING, YEARS[-1], (71.25, 84.0, 97.5, 111.0, 130.4)),
        (IMAGING, YEARS[-2], (60.0, 70.0, 80.0, 90.0, 100.0)),
        (FUSION, YEARS[-1], (None,) * 5),
    ):
        known = spread[0] is not None
        variation.append(
            {
                "policy_id": policy, "revision": REVISION[policy], "reading": DEFAULT[policy], "financial_year": year,
                "period_years": 1, "period": year, "area_type": "icb", "areas": 42,
                "areas_with_activity": 41 if known else None,
                **dict(zip(("p10", "p25", "p50", "p75", "p90"), spread, strict=True)),
                "n_fold": spread[4] / spread[0] if known else None,
                "opportunity": 8_964.0 if known and year == YEARS[-1] else None,
                "opportunity_share": 0.235 if known and year == YEARS[-1] else None,
                "status": "ok" if known else "withheld_small", "notes": [], "disclosure": "hes_2018",
            }
        )  # fmt: skip

    attrition, effects = [], []
    clauses = {
        FUSION: ["procedure", "primary_diagnosis", "deformity", "age", "non_elective", "global_cancer", "private_patient"],
        IMAGING: ["imaging", "age", "private_patient", "global_cancer", "site_after_imaging"],
    }  # fmt: skip
    for policy in (FUSION, IMAGING):
        for number, year in enumerate(YEARS):
            left = 16_400_000 + 1_000 * number
            for step, clause_id in enumerate(clauses[policy]):
                failed = round(left * (0.9995 if step == 0 else 0.4 if step == 1 else 0.06))
                missing = 7 * step + number
                attrition.append(
                    {
                        "policy_id": policy, "revision": REVISION[policy], "reading": DEFAULT[policy],
                        "financial_year": year, "step": step, "clause_id": clause_id, "records_in": left,
                        "records_failed": failed, "records_missing": missing, "records_left": left - failed - missing,
                        "near_miss": None if step == 0 else 111 * step + number,
                    }
                )  # fmt: skip
                left -= failed + missing
            for place, reading in enumerate(READINGS):
                effects.append(
                    {
                        "policy_id": policy, "revision": REVISION[policy], "reading": reading, "financial_year": year,
                        "in_scope": 9_000, "flagged": 1_038 + 204 * place, "flagged_as_published": 1_038,
                        "added": 317 * place, "removed": 113 * place, "is_default_reading": reading == DEFAULT[policy],
                    }
                )  # fmt: skip

    quality = [
        {"financial_year": year, "dataset": dataset, "measure": measure, "records": records, "of_records": whole,
         "status": "ok" if records else "withheld_small"}
        for year in YEARS
        for dataset in ("apc", "op")
        for measure, records, whole in (
            ("records", 16_400_000, None),
            ("no_person", 20_500, 16_400_000),
            ("quarantined:no_usable_date", None, 16_400_000),
        )
    ]  # fmt: skip
    months, groups, complete = by_month()
    policies = []
    for policy in (FUSION, IMAGING):
        for reading in READINGS:
            listed = [
                clause(0, clauses[policy][0], "scope", "Where the procedure is V38.2", "dominant_procedure starts with V382"),
                clause(1, "age", "require", "Patient age >= 19 years", "age between 19 and 120"),
                clause(2, "deformity", "exclude", "NOT M40.0", "not (any_diagnosis contains M400, M401)"),
            ]  # fmt: skip
            if reading == "guidance_coded":
                listed += [
                    clause(3, "pregnancy", "exclude", "Pregnancy-related back pain", "not (any_diagnosis contains O267)",
                           coding="proxy", decision="pregnancy_excluded", because="The codes say pregnancy only."),
                    clause(4, "viscera", "note", "Diseases of the viscera", "", coding="not_codable",
                           decision="viscera_not_codable"),
                ]  # fmt: skip
            policies.append(
                {
                    "policy_id": policy, "revision": REVISION[policy], "reading": reading,
                    "is_default_reading": reading == DEFAULT[policy], "dataset": DATASET[policy],
                    "title": TITLES[policy], "publisher": "Academy of Medical Royal Colleges", "source": "The page",
                    "in_force_from": pd.Timestamp("2022-08-01").date(), "in_force_to": None,
                    "policy_fingerprint": f"f1f2f3-{policy}-{reading}", "clauses": np.array(listed, dtype=object),
                    "definition": "{}",
                }
            )  # fmt: skip
    turned = [
        {
            "policy_id": FUSION, "revision": REVISION[FUSION], "base_reading": base, "decision": decision,
            "source": "sensitivity", "direction": "made", "clause_id": "age", "financial_year": year, "in_scope": 4_000,
            "flagged": flagged, "flagged_flipped": flagged + added - removed, "added": added, "removed": removed,
            "words": "the page's words", "because": f"why {decision}",
        }
        for year in YEARS[-2:]
        for base, flagged, effects_of in (
            ("as_published", 1_038, {"missing_category_kept": (1_204, 0), "cleaned_age": (3, 17), "unknown_age_kept": (0, 0)}),
            ("as_intended", 977, {"missing_category_kept": (0, 0), "cleaned_age": (0, 0)}),
        )
        for decision, (added, removed) in effects_of.items()
    ]  # fmt: skip
    rows = {
        "rate": rates, "variation": variation, "attrition": attrition, "reading_effect": effects, "sensitivity": turned,
        "quality": quality, "policy": policies, "activity_month": months, "days_between": groups, "completeness": complete,
        **monitored(),
    }  # fmt: skip
    return {name: framed(rows[name], table) for name, table in TABLES.items()}


def monitored() -> dict[str, list[dict[str, Any]]]:
    """Figures of monitoring of two years: some withheld, one year of approvals of too few boards."""
    key = {
        "policy_id": FUSION,
        "revision": REVISION[FUSION],
        "reading": DEFAULT[FUSION],
        "disclosure": "hes_2018_protected",
    }

    def counted(count: int | None, of: int = 2400, **more: Any) -> dict[str, Any]:
        share = None if count is None else round(count / of, 6)
        status = "withheld" if count is None else "ok"
        return key | {"operations": count, "of_operations": of, "share": share, "status": status} | more

    approvals = [
        counted(count, match_class=name, financial_year="2022-23", boards="QOQ,QHL,QJ2")
        for name, count in (
            ("cannot_link", 1800),
            ("regime_unknown", 0),
            ("not_required", 60),
            ("ambiguous", None),
            ("approved_in_time", 320),
            ("approved_late", 15),
            ("declined", None),
            ("none_on_record", 165),
        )
    ]
    approvals += [
        key | {"match_class": name, "financial_year": "2021-22", "status": "sub_national"}
        for name in ("cannot_link", "approved_in_time")
    ]
    pathway = [
        counted(count, financial_year=year, period=year, kind="step", measure=step, window=window, **{"class": state})
        for year in ("2021-22", "2022-23")
        for step, window, counts in (
            ("supervised_physiotherapy", "6_months", (840, 1200, 360)),
            ("supervised_physiotherapy", "12_months", (1060, 880, 460)),
            ("pain_management", "12_months", (455, 1485, 460)),
            ("denervation", "12_months", (None, 2340, None)),
            ("talking_therapy", "12_months", (0, 0, 2400)),
            ("spondylolisthesis", "at_operation", (None, None, 0)),
            ("infection", "90_days", (25, 2375, 0)),
        )
        for state, count in zip(("seen", "not_seen", "cannot_be_seen"), counts, strict=True)
    ]
    pathway += [
        counted(count, financial_year=year, period=year, kind="class", measure=measure, **{"class": name})
        for year in ("2021-22", "2022-23")
        for measure, counts in (
            ("algorithm_step", {"confirm": 960, "conservative_care": 870, "reassess": None, "proceed": None}),
            ("levels", {"one": 1400, "two": 620, "three_or_more": 130, "not_stated": 250, "ambiguous": None}),
        )
        for name, count in counts.items()
    ]
    late = {"financial_year": "2022-23", "period": "2021-22..2022-23", "kind": "incidence", "class": "event"}
    pathway += [
        counted(count, 4800, day=day, measure=event, **late)
        | (
            {}
            if count is None
            else {"share_lower": count / 4800 * 0.8, "share_upper": count / 4800 * 1.2, "at_risk": 3000}
        )
        for event, counts in (("readmission", (240, 310, 400, None)), ("death_in_hospital", (None, None, None, 10)))
        for day, count in zip((30, 90, 365, 730), counts, strict=True)
    ]
    changed = key | {"period_from": "2021-22", "period_to": "2022-23", "status": "ok"}
    changes = [
        changed | {"component": name, "records": records}
        for name, records in (
            ("total_from", 1200),
            ("total_to", 1038),
            ("people", 12),
            ("operations_per_person", -90),
            ("in_scope", -20),
            ("primary_diagnosis", -84),
            ("no_exclusion", 0),
            ("flagged", 20),
        )
    ]
    measure = key | {"financial_year": "2022-23", "period": "2022-23", "status": "ok"}
    withheld = {"status": "withheld"}
    measures = [
        measure | {"kind": kind, "measure": name, "class": of, **values}
        for kind, name, of, values in (
            ("code_use", "operation_outside_scope", "any", {"records": 310, "of_records": 2700, "value": 0.115}),
            ("code_use", "unspecified", "any", withheld),
            ("code_use", "primary_diagnosis", "M545", {"records": 1400, "of_records": 2400, "value": 0.583}),
            ("code_use", "primary_diagnosis", "other", {"records": 1000, "of_records": 2400, "value": 0.417}),
            ("equality", "sex", "1", {"records": 500, "of_records": 1040, "value": 1.6, "lower": 1.4, "upper": 1.8}),
            ("equality", "age_group", "80+", {"records": 40, "of_records": 1040, "value": 0.4}),
            ("equality", "age_group", "0-19", withheld),
            ("equality", "age_group", "20-29", withheld),
            ("equality", "deprivation_fifth", "1", {"records": 300, "of_records": 1040, "value": 2.0}),
            ("equality", "deprivation_fifth", "slope_index", {"value": 1.2, "lower": 0.4, "upper": 2.0}),
            ("linked", "imaging_before_fusion", "flagged", {"records": 400, "of_records": 800, "value": 0.5}),
            ("linked", "flagged_imaging_before_fusion", "flagged", withheld),
        )
    ]
    audit = {name: key[name] for name in ("policy_id", "reading", "disclosure")} | {
        "audit_id": "2Y-7",
        "part": "overall",
    }
    audits = [
        audit
        | {"measure": "positive_predictive_value", "estimate": 0.82, "lower": 0.74, "upper": 0.88, "status": "ok"}
        | {"worst": 0.7, "best": 0.86, "forms": 120, "method": "clopper_pearson"},
        audit
        | {"measure": "corrected_records", "estimate": 910.0, "lower": 800.0, "upper": 1040.0, "status": "ok"}
        | {"forms": 120, "method": "bootstrap"},
        audit | {"measure": "missed_cases", "status": "withheld", "method": "hajek"},
        audit | {"measure": "kappa", "status": "undefined"},
    ]
    return {
        "approval_summary": approvals,
        "pathway_summary": pathway,
        "activity_change": changes,
        "measure_summary": measures,
        "audit_estimate": audits,
    }


def by_month() -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Three years of months. Imaging has one very high month, fusion is rare. Also the records that each provider sent."""
    months, complete = [], []
    for number in range(36):
        year, month = divmod(3 + number, 12)
        first = pd.Timestamp(2020 + year, month + 1, 1).date()
        marks = {"month": first, "financial_year": YEARS[1 + number // 12]}
        marks |= {"provisional": number >= 34, "pandemic": number < 15}
        for policy, activity in (
            (IMAGING, 6_800 if number == 20 else 4_800 + 400 * (number % 2)),
            (FUSION, number % 4),
        ):
            row = {"policy_id": policy, "revision": REVISION[policy], "reading": DEFAULT[policy], **marks}
            months.append(row | {"activity": activity, "in_scope": activity * 2})
        known = {"dataset": "apc", **marks, "status": "ok", "disclosure": "hes_2018"}
        complete.append(
            known
            | {"area_type": "england", "area_code": "E92", "records": 1_300_000, "providers": 140}
            | {"providers_low": int(number == 30)}
        )
        for code, share in (("RX1", 0.2 if number == 30 else 1.0), ("RX2", 1.0)):
            row = known | {"area_type": "provider", "area_code": code, "share_of_typical": share, "low": share < 0.5}
            complete.append(row)
    groups = [
        {"policy_id": FUSION, "revision": REVISION[FUSION], "reading": "as_published", "financial_year": YEARS[-1],
         "number": number, "events": 8, "month": pd.Timestamp(2022, 4 + number // 2, 1).date(), "days": 60 + 5 * (number % 4),
         "disclosure": "hes_2018"} for number in range(1, 10)
    ]  # fmt: skip
    return months, groups, complete


def few_boards() -> dict[str, pd.DataFrame]:
    """The sample with five ICBs, which is quicker to draw."""
    tables = sample()
    rates = tables["rate"]
    tables["rate"] = rates[rates.area_code.isin(["E92", "Q00", "Q01", "Q02", "Q40", "Q41"])].reset_index(drop=True)
    return tables


def manifest(**changed: Any) -> dict[str, Any]:
    return {
        "release_id": "r-7",
        "is_current": True,
        "released_at": pd.Timestamp("2026-03-12 14:05:09", tz="UTC"),
        "run_id": "run-20260312-4711",
        "code_version": "0.1.0+abc1234",
        "configuration": "0123456789abcdef",
        "disclosure": "hes_2018",
        "coverage": "national",
        "years": np.array(YEARS, dtype=object),
        "tables": {"rate": 93, "quality": 24},
        "versions": [("rate", 12), ("quality", 13)],
        "sources": [{"key": "gold/activity_rate", "value": 31}, {"key": "gold/policy", "value": 5}],
        "policy_fingerprints": {f"{FUSION}/2022-08/as_published": "cafe0123cafe0123"},
        "caveats": {},
        **changed,
    }


_TEXTS = ("td", "th", "caption", "p", "h1", "h2", "h3", "li", "dt", "dd", "title", "text", "summary", "figcaption")


class Page(HTMLParser):
    """What a reader sees: tables by caption, headings, paragraphs, labels of charts, and links."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: dict[str, list[list[str]]] = {}
        self.texts: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.labels: list[str] = []
        self.tags: list[str] = []
        # The marks of notes, by the text that they follow.
        self.marks: dict[str, str] = {}
        self._mark: list[str] | None = None
        self.notes: list[str] = []
        self._is_note = False
        self._row: list[str] | None = None
        self._rows: list[list[str]] = []
        self._into: list[str] | None = None
        self._caption = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given[name] or "" for name in ("src", "href", "xlink:href", "action", "data") if name in given]
        self._is_note = self._is_note or bool(re.fullmatch(r"note-\d+", given.get("id") or ""))
        if tag == "svg" and given.get("class") != "bar":
            if given.get("x") is None:  # else it is a point of a bar
                assert given["role"] == "img"
                self.labels.append(given["aria-label"] or "")
        elif tag == "sup":
            self._mark = []
        elif tag == "table":
            self._rows, self._caption = [], ""
        elif tag == "tr":
            self._row = []
        elif tag in _TEXTS:
            self._into = []

    def handle_data(self, data: str) -> None:
        if self._mark is not None:
            self._mark.append(data)
        elif self._into is not None:
            self._into.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "sup" and self._mark is not None:
            text = " ".join("".join(self._into or []).split())
            self.marks[text] = " ".join("".join(self._mark).split())
            self._mark = None
        elif self._into is not None and tag in _TEXTS:
            text = " ".join("".join(self._into).split())
            if tag in ("td", "th") and self._row is not None:
                self._row.append(text)
            elif tag == "caption":
                self._caption = text
            else:
                self.texts.append(text)
                self.notes += [text] if self._is_note else []
                self._is_note = False
            self._into = None
        if tag == "tr" and self._row is not None:
            self._rows.append(self._row)
            self._row = None
        elif tag == "table":
            name = self._caption
            while name in self.tables:
                name += "'"
            self.tables[name] = self._rows

    def table(self, start: str, number: int = 0) -> dict[str, dict[str, str]]:
        """The ``number``-th table whose caption starts with ``start``, as first cell → column → cell."""
        head, *body = [rows for caption, rows in self.tables.items() if caption.startswith(start)][number]
        return {row[0]: dict(zip(head, row, strict=True)) for row in body}

    def says(self, part: str) -> bool:
        return any(part in text for text in self.texts)


@pytest.fixture(scope="module")
def html() -> str:
    return build_report(sample(), release=manifest())


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_the_first_screen_answers_in_words(page: Page) -> None:
    assert page.says("58,321 records flagged in England in 2022-23")
    # 1.02 · 58321 / 594 = 100.15
    assert page.says("100.1 per 100,000 people, standardised by age and sex (95% limits 99.4 to 101.0).")
    assert page.says(
        "The policy asks: Spinal fusion is not indicated for the treatment of non-specific, mechanical back pain."
    )
    assert page.says("The policy asks: Do not routinely offer imaging in a non-specialist setting")
    # 58,321 ÷ 61,234 = 0.952, and 1.96 · √(1/58,321 + 1/61,234) = 0.0113
    assert page.says(
        "The rate fell from 2019-20 to 2022-23: the direction the policy asks for (ratio 0.95, 95% interval 0.94 to 0.96)"
    )
    assert page.says("With the coding decision “missing category kept”, the count would be 2,242 instead of 1,038.")
    assert page.says("12 of 42 ICBs are suppressed, 2020-21 to 2022-23. Of the others, ")
    # An answer is one of the first screen only if it comes before the first section.
    first = page.texts[
        : page.texts.index(
            "In England in 2022-23, 58,321 records were flagged: 100.1 per 100,000 people, standardised by age and sex (95% limits 99.4 to 101.0)."
        )
    ]
    # Of imaging, only one reading is published, so nothing can be said of how sure its count is.
    others = ["Where", "Which way", "What this cannot say"]
    assert [text for text in first if text in ANSWERS] == [*others, "How sure", *others]


ANSWERS = {"How sure", "Where", "Which way", "What this cannot say"}


def test_the_range_over_readings_is_beside_the_figure() -> None:
    """95 and 1,983 records by two readings of one policy: the first screen says so, and where the counts of tables differ."""
    given = {"as_published": 95, "as_intended": 1_983, "guidance_coded": 520}
    rates = [
        rate_row(IMAGING, "2022-23", "england", "E92", "England", activity=count) | {"reading": reading}
        for reading, count in given.items()
    ]
    tables = {**empty(), "rate": framed(rates, schemas.RATE), "policy": sample()["policy"]}
    effects = sample()["reading_effect"]
    tables["reading_effect"] = effects[effects.policy_id == IMAGING].assign(
        flagged=lambda rows: rows["reading"].map({**given, "as_intended": 1_993})
    )
    page = Page(build_report(tables, release=manifest()))
    shown = page.table("How the count depends on the reading")
    assert [line["Flagged"] for line in shown.values()] == ["95", "1,983", "520"]
    assert shown["as intended (used here)"]["Rate (limits)"].startswith("3.4 (")  # 1.02 · 1983 / 594
    by_reading = page.table("Rates per 100,000 people in England by every reading")
    assert [line["2022-23"] for line in by_reading.values()] == ["0.16", "3.4", "0.89"]  # 1.02 · count / 594
    assert page.says(
        "Depending on the reading, 95 to 1,983 of the same records are flagged. The large number is for the reading “as intended”"
    )
    assert (
        sum(
            "1,993 records are flagged at hospitals in England. Rates count 1,983 of them" in text
            for text in page.texts
        )
        == 1
    )
    assert "The readings compared with the policy as published, 2022-23." in page.marks


def test_made_up_data_are_called_made_up() -> None:
    for kind, words in (("synthetic", "Made-up data."), ("sample", "Sample data."), ("real", None), (None, None)):
        html = build_report(few_boards(), release=manifest(data_kind=kind))
        page = Page(html)
        warnings = [text for text in page.texts if text.startswith(("Made-up data.", "Sample data."))]
        assert [text.startswith(words or "") for text in warnings] == ([True] if words else [])
        facts = dict(row for row in page.tables["The release."][1:])
        assert (
            facts["Data"]
            == {
                "synthetic": "made up",
                "sample": "a sample of real records",
                "real": "real records",
                None: "not stated",
            }[kind]
        )
        assert ("the whole of England (of made-up records)" in html) == (kind == "synthetic")


def test_a_rare_rate_keeps_two_significant_digits(page: Page) -> None:
    trend = page.table("Flagged records and rates per 100,000 people in England.", 1)
    assert trend["2019-20"]["Flagged"] == "41"
    assert trend["2019-20"]["Crude"] == "0.069"  # 41 / 594
    assert trend["2022-23"]["Standardised"] == "1.8"
    pooled = page.table("Pooled years in England")
    assert pooled["2020-21 to 2022-23"]["Flagged"] == "1,085"
    assert [wording.rate(value) for value in (0, 0.00512, 0.0998, 0.996, 0.94, 1, 12.34, 12345.67)] == [
        "0", "0.0051", "0.10", "1.0", "0.94", "1.0", "12.3", "12,345.7",
    ]  # fmt: skip


def test_every_attrition_figure_is_printed_as_given(page: Page) -> None:
    frame = sample()["attrition"]
    for number, policy in enumerate((IMAGING, FUSION)):
        given = frame[(frame.policy_id == policy) & (frame.financial_year == "2022-23")]
        printed = page.table("What each clause removes, 2022-23", number)
        near = page.table("Records that failed this clause and no other", number)
        by_year = page.table("Records left after each step", number)
        assert len(printed) == len(given)
        for row in given.to_dict("records"):
            line = printed[str(row["step"])]
            shown = [line[name].replace(",", "") for name in ("Records in", "Failed", "Not recorded", "Left")]
            assert [int(value) for value in shown] == [
                row[name] for name in ("records_in", "records_failed", "records_missing", "records_left")
            ]
            clause_name = row["clause_id"].replace("_", " ")
            if row["step"]:
                assert int(near[f"{row['step']}. {clause_name}"]["2022-23"].replace(",", "")) == row["near_miss"]
                assert line["Near misses"] == f"{row['near_miss']:,.0f}"
            assert by_year[f"{row['step']}. {clause_name}"]["2022-23"] == line["Left"]


def test_areas_without_a_rate_are_counted_and_called_suppressed(page: Page) -> None:
    assert page.says(
        "42 ICBs, 2022-23: 0 have a published rate; 42 are suppressed "
        "(35 for a small number, 7 so that a small number elsewhere cannot be worked out)"
    )
    assert page.says("42 ICBs, 2020-21 to 2022-23: 30 have a published rate; 12 are suppressed")
    assert page.says("42 ICBs, 2022-23: 41 have a published rate; 1 is suppressed (for a small number).")
    assert page.says("[c] means that a number is suppressed to protect patients. It does not mean 0.")
    fusion = page.table("ICBs ranked by crude rate per 100,000, 2022-23")
    assert len(fusion) == 42 and {line["Flagged"] for line in fusion.values()} == {"[c]"}
    for line in fusion.values():
        assert {line[name] for name in ("Flagged", "Crude rate", "Rate", "95% limits")} == {"[c]"}
    assert "NHS North Vale and Ashdown Integrated Care Board" in fusion, "names in full"
    ranked = page.table("ICBs ranked by standardised rate per 100,000, 2022-23")
    rates = [float(line["Rate"]) for line in ranked.values() if line["Rate"] != "[c]"]
    assert len(ranked) == 42 and len(rates) == 41 and rates == sorted(rates, reverse=True)


def test_areas_with_only_crude_rates_are_compared_by_those(page: Page) -> None:
    assert any("ranked by crude rate" in caption for caption in page.tables)
    assert any("crude" not in label and "funnel plot of 41 areas" in label for label in page.labels)
    assert any("funnel plot of 30 areas" in label for label in page.labels)


def test_every_kind_of_area_has_a_view_and_providers_are_compared_by_share() -> None:
    places = [
        rate_row(
            IMAGING, "2022-23", kind, f"{kind[0]}{number}", f"{kind} {number}", activity=activity, population=people
        )
        for kind, people in (("region", 8_000_000), ("icb", 1_500_000), ("sub_icb", 400_000))
        for number, activity in enumerate((people // 1000, people // 900))
    ]
    for row, share in zip(places[:3], (0.5, 0.8, 0.6), strict=True):
        shares = {"flagged_share": share, "share_lower": share - 0.1, "share_upper": share + 0.1}
        provider = {"area_type": "provider", "area_name": row["area_code"], "status": "no_population"}
        none = dict.fromkeys(("population", "crude_rate", "standardised_rate", "lower", "upper"))
        places.append(row | provider | none | shares)
    england = rate_row(IMAGING, "2022-23", "england", "E92", "England", activity=58_321)
    tables = {**empty(), "rate": framed([england, *places], schemas.RATE), "policy": sample()["policy"]}
    page = Page(build_report(tables, release=manifest()))
    for line in ("2 regions, ", "2 ICBs, ", "2 sub-ICB locations, ", "3 providers, 2022-23: 3 have a published share."):
        assert page.says(line), line
    providers = page.table("Providers ranked by flagged records as a share of those in scope, 2022-23")
    assert [line["Share flagged (95% limits)"] for line in providers.values()] == [
        "80.0% (70.0 to 90.0)", "60.0% (50.0 to 70.0)", "50.0% (40.0 to 60.0)",
    ]  # fmt: skip


def test_variation_is_printed_and_gaps_are_spelled_out(page: Page) -> None:
    imaging, earlier, fusion = (
        next(iter(page.table(start, number).values()))
        for start, number in (
            ("Percentiles (P10 to P90) of the standardised rate", 0),
            ("Variation in earlier periods", 0),
            ("Percentiles (P10 to P90) of the standardised rate", 1),
        )
    )
    assert (imaging["P10"], imaging["P25"], imaging["N-fold"]) == ("71.2", "84.0", "1.8")
    assert imaging["Opportunity"] == "8,964 (23.5%)"
    assert earlier["Opportunity"] == "not calculated"
    assert {fusion[name] for name in ("P10", "P90", "N-fold", "Opportunity", "With activity")} == {"[c]"}


def test_readings_clauses_and_quality_are_printed(page: Page) -> None:
    effect = page.table("The readings compared with the policy as published, 2022-23.")
    assert effect["guidance coded"]["Added"] == "634"
    assert effect["guidance coded"]["Removed"] == "226"
    assert effect["as intended (default)"]["Flagged"] == "1,242"
    says = page.table("The clauses of revision 2022-08, as published.")
    assert says["age"]["The page's words"] == "Patient age >= 19 years"
    assert says["age"]["If not recorded"] == "drops the record"
    decisions = page.table("The decisions by which the other readings differ")
    assert len(decisions) == 1  # both are under one reading, which is the first cell
    listed = next(rows for caption, rows in page.tables.items() if caption.startswith("The decisions"))
    assert [row[4] for row in listed[1:]] == ["proxy", "not codable"]
    quality = page.table("Admitted patient care: records by year")
    assert quality["Records"]["2021-22"] == "16,400,000"
    assert quality["No pseudonymised person"]["2021-22"] == "20,500 (0.12%)"
    assert page.says("Admitted patient care, fewer than 50 in every year: Quarantined: no usable date.")


def test_quarantined_rows_of_several_years_are_added_up_and_suppressed_years_are_counted() -> None:
    def shown(*records: tuple[int | None, str | None]) -> str:
        measure = {"dataset": "apc", "measure": "quarantined:no_usable_date"}
        rows = [{**measure, "financial_year": "2021-22", "records": n, "status": status} for n, status in records]
        return str(data_quality.quality(rows)[-1].rows[0][2])

    ok, few, emptied = (100, "ok"), (None, "withheld_small"), (None, None)
    assert shown(ok, (200, "ok")) == "300"
    assert shown(few) == "fewer than 50"
    assert shown(few, few, few) == "fewer than 50 in each of 3 years"  # together they can be 147
    assert shown(ok, few) == "100, and fewer than 50 in one year"
    assert shown(ok, few, few) == "100, and fewer than 50 in each of 2 years"
    assert shown(emptied) == "–"  # of a release of an earlier version


def test_months_are_drawn_with_their_limits_and_signals(page: Page) -> None:
    plain = [4_800 + 400 * (number % 2) if number != 20 else 6_800 for number in range(15, 34)]
    mean = sum(plain) / len(plain)
    reach = 2.66 * sum(abs(b - a) for a, b in zip(plain, plain[1:], strict=False)) / (len(plain) - 1)
    assert any(f"mean {wording.rate(mean)}; 1 of 36 points meet a rule" in label for label in page.labels)
    signal = page.table("1 of 36 points meet a rule")
    assert signal["December 2021"] == {"Month": "December 2021", "Records": "6,800", "Rule": "outside the limits"}
    years = page.table("Flagged records by month")
    assert (years["2021-22"]["Dec"], years["2022-23"]["Mar"], years["2020-21"]["Apr"]) == (
        "6,800",
        "5,200 p",
        "4,800 c",
    )
    assert any(f"limits {wording.rate(mean - reach)} to {wording.rate(mean + reach)}" in text for text in page.texts)
    assert page.says("There are 1.5 records a month on average, which is too few for a chart of counts by month.")
    assert any("days in which 8 records occurred, 9 groups" in label for label in page.labels)


def test_a_chart_says_its_form_and_screens_outlying_ranges_unless_asked() -> None:
    rows = sample()
    rows["activity_month"].loc[rows["activity_month"]["activity"] == 6_800, "activity"] = 9_200
    plain = [4_800 + 400 * (number % 2) if number != 20 else 9_200 for number in range(15, 34)]
    mean = sum(plain) / len(plain)
    for form, average, words in (
        ("plot_the_dots", 400, "are those of NHSRplotthedots"),
        ("unscreened", (16 * 400 + 2 * 4_000) / 18, "Every moving range counts"),
    ):
        drawn = Page(build_report(rows, release=manifest(), control_charts=form))  # type: ignore[arg-type]
        limits = f"limits {wording.rate(mean - 2.66 * average)} to {wording.rate(mean + 2.66 * average)}"
        assert any(limits in text for text in drawn.texts), limits
        assert any(words in text for text in drawn.texts)


def test_change_and_flagged_share_are_printed(page: Page) -> None:
    change = page.table("Change of the rate in England")
    assert change["2021-22 to 2022-23"]["Ratio"] == "1.50"  # 58,321 by 38,765
    reach = 1.959964 * math.sqrt(1 / 58_321 + 1 / 38_765)
    low, high = (58_321 / 38_765 * math.exp(sign * reach) for sign in (-1, 1))
    assert change["2021-22 to 2022-23"]["95% interval"] != "" and f"{low:.2f} to {high:.2f}" == "1.49 to 1.52"
    rows = next(rows for caption, rows in page.tables.items() if caption.startswith("Change of the rate"))
    assert [row[2] for row in rows[1:] if row[0] == "2021-22 to 2022-23"] == ["1.49 to 1.52"]
    assert [row[0] for row in rows[1:]][-1] == "2019-20 to 2022-23", "and the last against the first"
    share = page.table("Flagged records and rates per 100,000 people in England.")["2022-23"]
    assert share["People flagged"] == "58,321" and share["Share flagged (95% limits)"] == "–"


def test_completeness_names_the_providers_that_sent_little(page: Page) -> None:
    latest = page.table("Admitted patient care: every month")
    assert latest["October 2022"] == {
        "Month": "October 2022", "Records": "1,300,000", "Providers": "140", "With a low month": "1", "Mark": "–",
    }  # fmt: skip
    assert latest["March 2023"]["Mark"] == "provisional" and len(latest) == 36
    assert page.says(
        "Admitted patient care, 2022-23: 1 of 2 providers with 100 records or more in a typical month have a low month."
    )
    low = page.table("Admitted patient care: low months by provider")
    assert low["RX1"]["Low months, as a percentage of a typical month"] == "October 2022 20%"
    for name, shown in (("RX1", "RX1"), ("A TRUST", "A TRUST (RX1)")):
        rates = [{"area_type": "provider", "area_code": "RX1", "area_name": name}]
        *_, listed = data_quality.completeness(rows_of(sample()["completeness"]), rates)
        assert [row[0] for row in listed.rows] == [shown]


def test_limits_allow_for_repeated_events_where_these_are_published() -> None:
    row = rate_row(FUSION, "2022-23", "england", "E92", "England", activity=900)
    row |= {"lower": 1.2, "upper": 1.8, "lower_adjusted": 1.1, "upper_adjusted": 1.9, "standard_error": 0.2}
    row |= {"flagged_share": 0.25, "share_lower": 0.21, "share_upper": 0.3}
    page = Page(build_report({**empty(), "rate": framed([row], schemas.RATE)}, release=manifest()))
    assert page.says("(95% limits 1.1 to 1.9)")
    share = page.table("Flagged records and rates per 100,000 people in England.")
    assert share["2022-23"]["Share flagged (95% limits)"] == "25.0% (21.0 to 30.0)"


def test_windows_are_explained() -> None:
    tables = few_boards()
    tables["policy"] = tables["policy"].assign(publish_years=3, publish_first_year="2018-19")
    tables["rate"] = tables["rate"][tables["rate"].area_type == "england"]
    page = Page(build_report(tables, release=manifest()))
    assert page.says("for windows of 3 years that do not overlap. One window begins with 2018-19.")


def test_funnels_widen_where_areas_differ_by_more_than_chance_and_nothing_is_suppressed() -> None:
    tables = few_boards()
    rates = tables["rate"]
    tables["rate"] = rates[(rates.policy_id == IMAGING) & (rates.status == "ok")].reset_index(drop=True)
    boards = tables["rate"].area_type == "icb"
    for name, part in (("standardised_rate", 1.0), ("lower", 0.96), ("upper", 1.04)):
        tables["rate"].loc[boards, name] = [part * rate for rate in (60.0, 80.0, 100.0, 140.0)]
    sources = [build_report(tables, release=manifest(), over_dispersion=wider) for wider in (False, True)]
    plain, wide = map(Page, sources)
    for page in (plain, wide):
        assert page.says("ICBs differ far more than chance would explain; recording may be one reason (overdispersion ")
    assert plain.says("(Poisson limits).") and wide.says("(Poisson limits, widened for overdispersion: φ = ")
    assert plain.says("Higher than the limits (1): ") and wide.says("No ICB is outside the 99.8% limits.")
    # The tables for BI tools compare each area by its own limits. The page says so where it calls fewer areas higher or lower.
    own = (
        "By their own 99.8% limits, which allow for chance alone, more areas differ from England: 1 higher and 2 lower "
    )
    assert wide.says(f"{own}(compared_with_england_998 in the table rate_current).") and not plain.says("By their own")
    # So does the sentence of the area finder.
    assert "; higher than the limits of the funnel plot around England's 100.1" in sources[0]
    assert (
        "; higher than England's 100.1 by its own 99.8% limits, but within the limits of the funnel plot" in sources[1]
    )
    assert wide.says("if its own 99.8% limits exclude England's rate and it is outside these limits, for every count ")
    suppressed = Page(build_report(few_boards(), release=manifest()))
    assert suppressed.says("is not calculated, because some areas are suppressed.") and not suppressed.says("widened")


def test_the_method_of_rates_below_england_is_where_they_are() -> None:
    """In the caption of the ranked table and in the sentence of the area finder, only where the rates are indirect."""
    tables = few_boards()
    captions = "rates are indirectly standardised from published counts, England's directly"
    sentence = "per 100,000, indirectly standardised (95% limits "
    boards = (tables["rate"].area_type == "icb") & (tables["rate"].policy_id == IMAGING)
    for method, said in (("direct", False), (INDIRECT, True)):
        tables["rate"].loc[boards, "method"] = method
        html = build_report(tables, release=manifest())
        named = [caption for caption in Page(html).tables if captions in caption]
        assert [caption.split(",")[0] for caption in named] == ["ICBs ranked by standardised rate per 100"] * said
        assert (sentence in html) == said


def test_an_area_is_outside_only_if_every_possible_count_is() -> None:
    """With 400 expected records, 99.8% limits are about (√400 ± 1.545)², so 340.6 to 464.2 records."""
    rows = [
        {"area_code": str(count), "activity": count, "standardised_rate": 100 * count / 400, "expected": 400.0}
        for count in (335, 340, 400, 465, 470)
    ]
    assert charts.outlying(rows, 100.0) == {"335": "below", "340": "below", "465": "above", "470": "above"}
    # Rounded to the nearest 5, 340 can be 342 and 465 can be 463.
    assert charts.outlying(rows, 100.0, round_to=5) == {"335": "below", "470": "above"}
    assert charts.outlying(rows, 100.0, phi=4.0) == {}


def test_provenance_says_what_made_the_figures(page: Page) -> None:
    facts = {row[0]: row[1] for row in page.tables["The release."][1:]}
    assert facts["Release"] == "r-7"
    assert facts["Published"] == "12 March 2026, 14:05 UTC"
    assert facts["Run"] == "run-20260312-4711"
    assert facts["Code version"] == "0.1.0+abc1234"
    assert facts["Configuration (fingerprint)"] == "0123456789abcdef"
    assert "1 to 7 are suppressed" in facts["Disclosure control"]
    assert page.table("Delta versions of the gold tables")["gold/activity_rate"]["Version"] == "31"
    assert page.table("The published tables")["rate"] == {"Table": "rate", "Rows": "93", "Delta version": "12"}
    assert page.table("Fingerprints")[f"{FUSION}, 2022-08, as_published"]["Fingerprint"] == "cafe0123cafe0123"


def test_published_activity_is_beside_ours_where_the_release_has_the_year(page: Page) -> None:
    assert not page.says("Published activity beside ours")  # no figures of 2018-19
    counts = {"as_published": 50, "as_intended": 30, "guidance_coded": 0}
    row = {name: None for name, *_ in schemas.READING_EFFECT.fields()} | {
        "policy_id": FUSION,
        "revision": "2022-08",
        "added": 0,
        "removed": 0,
    }
    effects = [
        row | {"reading": reading, "financial_year": "2018-19", "in_scope": 900, "flagged": flagged, "flagged_as_published": 50}
        for reading, flagged in counts.items()
    ]  # fmt: skip
    tables = {**empty(), "reading_effect": framed(effects, schemas.READING_EFFECT)}
    found = Page(build_report(tables, release=manifest())).table("Published activity beside ours, England, 2018-19.")
    assert found["Published by the source"]["Records"] == "41 episodes, 0.1 per 100,000"
    # 50 ÷ 41 = 1.22 is nearer than 30 ÷ 41 = 0.73, whose inverse is 1.37.
    assert found["Ours, as published (nearest)"] == {
        "Count": "Ours, as published (nearest)",
        "Records": "50",
        "Ours ÷ published": "1.22",
    }
    assert found["Ours, as intended"]["Ours ÷ published"] == "0.73"
    assert found["Ours, guidance coded"]["Ours ÷ published"] == "–"
    partial = Page(build_report(tables, release=manifest(coverage="partial")))
    assert not partial.says("Published activity beside ours")


def test_how_areas_differ_is_beside_what_the_source_published() -> None:
    blank = {name: None for name, *_ in schemas.VARIATION.fields()}
    row = blank | {"policy_id": FUSION, "revision": "2022-08", "reading": "as_published", "status": "ok", "areas": 106}
    figures = dict(zip(("n_fold", "p10", "p25", "p50", "p90"), (3.24, 0.2, 0.31, 0.4, 0.65), strict=True))
    rows = [
        row | {"area_type": kind, "period": period, "financial_year": period[-7:], "period_years": years, **changes}
        for kind, period, years, changes in (
            ("sub_icb", "2018-19..2020-21", 3, figures), ("sub_icb", "2017-18..2021-22", 5, {}), ("icb", "2018-19", 1, {}),
            ("sub_icb", "2021-22..2023-24", 3, {}),
        )
    ]  # fmt: skip
    tables = {**empty(), "variation": framed(rows, schemas.VARIATION)}
    found = Page(build_report(tables, release=manifest())).table(
        "How areas differed, in the published figures and in ours"
    )
    assert [*found["Published by the source: CCGs, 2018-19"].values()][1:] == ["0.1", "4.5", "0.1", "0.1", "0.3", "0.5"]
    ours = found["Ours: sub-ICB locations, 2018-19..2020-21, revision 2022-08"]
    assert [*ours.values()][1:] == ["–", "3.2", "0.20", "0.31", "0.40", "0.65"]
    later = {**empty(), "variation": framed(rows[3:], schemas.VARIATION)}
    assert not Page(build_report(later, release=manifest())).says("How areas differed, as published")


def test_published_baselines_are_those_of_the_sources() -> None:
    fusion, imaging = baselines()[FUSION], baselines()[IMAGING]
    keys = ("records", "standardised_rate", "n_fold", "p10", "p25", "p50", "p90")
    assert [fusion[key] for key in keys] == [41, 0.1, 4.5, 0.1, 0.1, 0.3, 0.5]
    assert imaging["records"] == 253_956 and "older page" in imaging["source"]
    assert {fusion["financial_year"], imaging["financial_year"]} == {"2018-19"}
    tied = compare({"records": 40}, {"a": 20, "b": 80})
    assert [found.nearest for found in tied] == [True, True]
    assert [found.nearest for found in compare({"records": 40}, {"a": 0})] == [False]


def test_a_source_that_has_to_be_checked_is_named() -> None:
    row = {"policy_id": FUSION, "definition": '{"source": {"last_checked": "2023-01-31", "review": "2023-06"}}'}
    late = sources_to_check([row, {"policy_id": IMAGING, "definition": "{}"}], datetime(2024, 2, 1, 9, 0))
    assert late == {
        FUSION: "its source was last checked on 2023-01-31, more than a year ago; the review that its source announces was "
        "due by 2023-06-30"
    }
    assert sources_to_check([row], date(2023, 6, 30)) == {}


def test_caveats_are_shown_for_the_policies_they_apply_to(page: Page, html: str) -> None:
    texts = {caveat["key"]: " ".join(caveat["text"].split()) for caveat in caveats()}
    assert page.says(texts["question_not_verdict"])
    cards = html.split('<article class="card"')[1:]
    imaging, fusion = (unescape(" ".join(card.partition("</article>")[0].split())) for card in cards)
    assert texts["imaging_elsewhere"] in imaging and "Diagnostic Imaging Dataset" not in fusion
    assert texts["article_under_review"] in fusion and texts["article_under_review"] not in imaging
    own = report_caveats({"question_not_verdict": "The release's own words.", "new_one": "Only this release."})
    assert [item["text"] for item in own if item["key"] == "question_not_verdict"] == ["The release's own words."]
    assert own[-1] == {"key": "new_one", "text": "Only this release.", "applies_to": "all"}
    row = rate_row(FUSION, "2022-23", "england", "E92", "England", activity=900, caveats=["imaging_elsewhere"])
    tables = {**empty(), "rate": framed([row], schemas.RATE)}
    page = Page(build_report(tables, release=manifest(caveats={"x": "Said once."})))
    assert page.says("Said once.")
    assert page.says("Diagnostic Imaging Dataset"), "the rate names the caveat"


def test_the_page_loads_nothing_from_outside(html: str, page: Page) -> None:
    assert page.links and all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)", html)
    assert not {"link", "img", "iframe", "object", "image", "base", "form"} & set(page.tags)
    assert "<?xml" not in html and "<metadata" not in html


def test_the_security_policy_allows_only_the_page_s_own_script_and_style_by_their_hashes(html: str) -> None:
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and "unsafe" not in policy and "http" not in policy
    for kind, element in (("script-src", "<script>"), ("style-src", "<style>")):
        (text,) = re.findall(rf"{element}(.*?)</", html, flags=re.DOTALL)
        wanted = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[kind] == f"'sha256-{wanted}'"
    # No handler and no style stands in an element, where the policy would refuse it.
    elements = re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL)
    assert not re.search(r"<[^>]*\s(on\w+|style)=", elements)


def test_the_script_s_data_are_published_figures_only(html: str) -> None:
    """Every number of the area finder is a published cell of that area, and a suppressed area has none."""
    (text,) = re.findall(r'<script type="application/json" id="areas">(.*?)</script>', html, flags=re.DOTALL)
    assert not set("<>&") & set(text)
    data = json.loads(text)
    rates = sample()["rate"]
    assert len(data["areas"]) == 42 and len(data["policies"]) == 2
    for anchor, policy in data["policies"].items():
        own = rates[rates.policy_id == (IMAGING if "2s-" in anchor else FUSION)]
        published = {
            number for name in ("standardised_rate", "crude_rate", "lower", "upper") for number in own[name].dropna()
        }
        for key, row in policy["rows"].items():
            cells = own[own.area_code == key.split("/")[1]]
            shown = {number for point in row["line"] for number in point[1:] if number is not None}
            assert shown <= published
            assert bool(shown) == (cells.activity.notna() & cells.crude_rate.notna()).any()
            if not shown:
                assert "suppressed" in row["words"] and not re.search(r"[1-9]\d* flagged", row["words"])


def test_ids_are_unique_and_every_reference_is_met(html: str, page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    for reference in re.findall(r"url\(#([^)]+)\)", html):
        assert reference in page.ids


def test_the_decision_that_changes_most_records_is_first(page: Page) -> None:
    changes = page.table("From the reading “as published”, 1,038 records flagged")
    assert list(changes) == ["missing category kept", "cleaned age"]
    first = changes["missing category kept"]
    assert (first["Adds"], first["Removes"], first["Then flagged"]) == ("1,204", "0", "2,242")
    assert first["Why"] == "why missing_category_kept"
    assert page.says("Decisions that change nothing by themselves: unknown age kept.")
    assert page.says("From the reading “as intended”, 977 records flagged: no single decision changes that.")


def test_the_same_rows_in_another_order_give_the_same_bytes(html: str) -> None:
    tables = {name: frame.sample(frac=1, random_state=5) for name, frame in sample().items()}
    assert build_report(tables, release=manifest()) == html


def test_a_reader_s_matplotlib_settings_do_not_matter(html: str) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 23, "svg.fonttype": "path", "axes.facecolor": "red"}):
        assert build_report(sample(), release=manifest()) == html
        assert mpl.rcParams["font.size"] == 23


def test_texts_of_the_data_are_escaped() -> None:
    hostile = "<script>alert('x')</script> & $a_b$ \"q\""
    tables = few_boards()
    for name in ("title", "source"):
        tables["policy"][name] = hostile
    tables["rate"]["area_name"] = hostile
    tables["attrition"]["clause_id"] = hostile
    tables["quality"]["measure"] = hostile
    for clauses in tables["policy"]["clauses"]:
        for item in clauses:
            item["words"] = hostile
    html = build_report(tables, release=manifest(release_id=hostile, run_id=hostile, disclosure=hostile))
    page = Page(html)
    assert page.tags.count("script") == 2 and html.count("<script") == 2
    assert "alert('x')" not in "".join(re.findall(r"<script>.*?</script>", html, flags=re.DOTALL))
    assert any(hostile in label for label in page.labels)
    assert page.says(hostile)


def test_monitoring_says_what_is_withheld_and_what_cannot_be_seen() -> None:
    html = build_report(sample(), release=manifest())
    page = Page(html)
    assert '<td class="r">5.0% (4.0 to 6.0)</td>' in html and '<td class="r">too few boards</td>' in html
    for words in (
        "Article pending human review.",
        "“Cannot be seen” does not mean “no”",
        "Deaths outside hospital are not in the data",
        "V54.4",
        "T84.7",
        "the registers of 3 boards are known",
        "“Too few boards” means",
        "It does not replace the published rate. The published figure for 2022-23 is",
    ):
        assert page.says(words) or any(words in caption for caption in page.tables), words
    change = page.table("Why the number of flagged records changed from 2021-22 to 2022-23")
    assert [line["Records"] for line in change.values()] == ["1,200", "+12", "−90", "−20", "−84", "+0", "+20", "1,038"]
    reached = page.table("How far the data show that fusions followed the article's algorithm")
    assert [line["Share of fusions"] for line in reached.values()] == ["40.0%", "36.2%", "[c]", "[c]"]
    assert page.says("NHS Humber and North Yorkshire Integrated Care Board"), "boards by their names"


@pytest.mark.parametrize(
    ("transfers_by", "words"),
    [
        (None, None),  # a release of an earlier version
        ("admission_method,admission_source,discharge_destination", None),
        ("admission_method", "No spell in the data has an admission source or a discharge destination, so the admission method alone decides"),
        ("admission_method,admission_source", "No spell in the data has a discharge destination, so the admission method and the other"),
    ],
)  # fmt: skip
def test_the_report_says_what_decides_a_transfer(transfers_by: str | None, words: str | None) -> None:
    tables = sample()
    late = tables["pathway_summary"]["kind"] == "incidence"
    tables["pathway_summary"].loc[late, "transfers_by"] = transfers_by
    page = Page(build_report(tables, release=manifest()))
    assert page.says("No spell in the data has") == (words is not None)
    assert words is None or page.says(words)


def test_codes_groups_and_linked_records_are_shown_with_what_is_withheld() -> None:
    page = Page(build_report(sample(), release=manifest()))
    uses = page.table("Other codes that may be recorded instead")
    assert uses["Lumbar fusions with a code outside the policy's scope"]["2022-23"] == "310"
    assert page.says("Suppressed in every year: Fusions whose code does not name the part of the spine.")
    assert [*page.table("The primary diagnosis of operations in scope")] == ["M545 (Low back pain)", "any other"]
    groups = page.table("Flagged records by groups of people, 2022-23")
    assert groups["Sex: Male"] == {"Group": "Sex: Male", "Records": "500", "Rate": "1.6 (1.4 to 1.8)"}
    assert groups["Age: 0-19"]["Rate"] == "[c]"
    assert [name for name in groups if name.startswith("Age")] == ["Age: 0-19", "Age: 20-29", "Age: 80+"]
    assert groups["Deprivation fifth: 1 (most deprived)"]["Rate"] == "2.0"
    assert groups["Deprivation fifth: Slope index of inequality"]["Rate"] == "1.2 (0.40 to 2.0)"
    linked = page.table("Imaging, from records that are linked by person")
    assert [row["Share"] for row in linked.values()] == ["50.0%", "[c]"]


def test_a_local_policy_has_no_part_on_monitoring_and_a_withheld_change_no_chart() -> None:
    tables = sample()
    changes = tables["activity_change"]
    total = changes["component"].str.startswith("total")
    changes.loc[~total, ["records", "status"]] = [None, "withheld"]
    page = build_report(tables, release=manifest())
    assert "the parts are suppressed" in page and "-monitoring" in page
    policies = tables["policy"]
    policies["boards"] = [["QJ2"]] * len(policies)
    assert "-monitoring" not in build_report(tables, release=manifest())


def empty() -> dict[str, pd.DataFrame]:
    return {name: pd.DataFrame(columns=table.names()) for name, table in TABLES.items()}


def test_an_empty_release_is_described_as_empty() -> None:
    page = Page(build_report(empty(), release=manifest(years=[], sources=None, versions=None, tables=None)))
    assert page.says("This release has no policies.")
    assert page.says("This release has no measures of data quality.")
    assert not page.labels
    assert Page(build_report({}, release={})).says("This release has no policies.")


def test_a_release_of_an_earlier_version_is_drawn_without_the_values_that_migration_removed() -> None:
    """After `Lake.migrate` it has no standardised rate, limit, percentile or days between records, few measures of quality, and
    shares without limits below England."""
    tables = sample()
    provider = {"area_type": "provider", "population": None, "crude_rate": None, "standardised_rate": None}
    providers = [
        rate_row(IMAGING, "2022-23", "provider", code, code, activity=50) | provider for code in ("RX1", "RX2")
    ]
    rates = pd.concat([tables["rate"], framed(providers, schemas.RATE)], ignore_index=True)
    tables["rate"] = rates.assign(flagged_share=0.25, share_lower=0.21, share_upper=0.3)
    for correction in CORRECTIONS:
        if correction.table.name in tables:
            frame = tables[correction.table.name].iloc[: 0 if correction.remove == "true" else None].copy()
            for column, value in correction.values.items():
                kept = frame["measure"] == "records" if column == "records" else frame.get("area_type") == "england"
                frame[column] = frame[column].astype(object).where(kept & (value != "NULL"), None)
            tables[correction.table.name] = frame
    emptied = Page(build_report(tables, release=manifest()))
    latest = emptied.table("Flagged records and rates per 100,000 people in England.")["2022-23"]
    assert (latest["Flagged"], latest["Standardised"], latest["95% limits"]) == (
        "58,321",
        "not calculated",
        "not calculated",
    )
    assert latest["Share flagged (95% limits)"] == "25.0% (21.0 to 30.0)"
    shares = emptied.table("Providers ranked by flagged records as a share of those in scope, 2022-23")
    assert {line["Share flagged (95% limits)"] for line in shares.values()} == {"25.0%"}


def test_the_part_on_monitoring_says_what_its_disclosure_rule_suppresses() -> None:
    for rule, words in (
        ("hes_2018", "Counts are rounded. In this part [c] means that a count is below 8,"),
        ("five_or_fewer", "(as published). In this part [c] means that a count is below 6,"),
        ("under_five", "Counts are rounded. In this part [c] means that a count is below 5,"),
        ("of a newer version", "(as published). In this part [c] means that a count is small,"),
    ):
        assert Page(build_report(sample(), release=manifest(disclosure=rule))).says(words), rule


def test_a_policy_without_figures_says_so_everywhere() -> None:
    page = Page(build_report({**empty(), "policy": sample()["policy"]}, release=manifest()))
    assert page.says("This release has no figures for this policy under its main definition (as published).")
    assert not page.labels
    for words in (
        "the release shows neither how many records each clause removes nor near misses",
        "No overall rates",
        "No rates of several areas",
        "No variation",
        "No effects of single decisions",
    ):
        assert page.says(words)
    assert page.says("no data This release has no figures under the policy's main definition (as published).")


def test_zero_events_in_a_single_year_are_shown_as_zero() -> None:
    row = rate_row(FUSION, "2022-23", "england", "E92", "England", activity=0)
    row.update(standardised_rate=0.0, lower=0.0, upper=0.0062)
    steps = [
        {
            "policy_id": FUSION, "revision": "2022-08", "reading": "as_published", "financial_year": "2022-23",
            "step": step, "clause_id": name, "records_in": 0, "records_failed": 0, "records_missing": 0,
            "records_left": 0, "near_miss": 0,
        }
        for step, name in enumerate(("procedure", "age"))
    ]  # fmt: skip
    page = Page(
        build_report(
            {
                **empty(),
                "rate": framed([row], schemas.RATE),
                "attrition": framed(steps, schemas.ATTRITION),
                "policy": sample()["policy"],
            },
            release=manifest(years=["2022-23"]),
        )
    )
    assert page.says("0 records were flagged: 0 per 100,000 people")
    assert page.says("(95% limits 0 to 0.0062)")
    assert page.says("There is only one year, so there is no trend yet.")
    assert page.says("0 records flagged in England in 2022-23")


def test_figures_suppressed_everywhere_are_never_shown_as_zero() -> None:
    tables = few_boards()
    rates = tables["rate"]
    for name in ("activity", "in_scope", "people_flagged", "crude_rate", "standardised_rate", "lower", "upper"):
        rates[name] = None
    rates["status"] = "withheld_secondary"
    page = Page(build_report(tables, release=manifest()))
    line = page.table("Flagged records and rates per 100,000 people in England.", 1)["2022-23"]
    assert [line[name] for name in ("Flagged", "Standardised", "Crude", "95% limits")] == ["[c]"] * 4
    assert page.says("[c] The number of flagged records in England in 2022-23 is suppressed.")
    assert page.says("the number of records flagged is suppressed")
    assert not any("ranked" in text or "funnel" in text for text in page.texts)


def test_zeros_are_not_drawn_if_other_areas_are_suppressed() -> None:
    tables = few_boards()
    rates = tables["rate"]
    shown = (rates.area_type == "icb") & (rates.status == "ok") & (rates.policy_id == IMAGING)
    for name in ("activity", "crude_rate", "standardised_rate", "lower", "upper"):
        rates.loc[shown, name] = 0
    page = Page(build_report(tables, release=manifest()))
    assert page.says("4 have a published rate; 1 is suppressed (for a small number).")
    assert page.says("All published figures of these ICBs are 0. There is no chart.")
    assert not any(TITLES[IMAGING] in label and "areas" in label for label in page.labels)


def test_without_a_population_the_count_is_shown_and_the_missing_rate_explained() -> None:
    tables = few_boards()
    rates = tables["rate"]
    rates["population"] = pd.array([None] * len(rates), dtype="Int64")
    for name in ("crude_rate", "standardised_rate", "lower", "upper"):
        rates[name] = float("nan")
    rates["status"] = "no_population"
    page = Page(build_report(tables, release=manifest()))
    line = page.table("Flagged records and rates per 100,000 people in England.")["2022-23"]
    assert (line["Flagged"], line["Standardised"], line["95% limits"]) == ("58,321", "no population", "no population")
    assert page.says("58,321 records were flagged: no standardised rate (no population)")


def test_a_population_of_a_few_areas_gives_areas_a_rate_and_england_none() -> None:
    tables = few_boards()
    rates = tables["rate"]
    england = rates["area_type"] == "england"
    rates.loc[england, ["population", "crude_rate", "standardised_rate", "lower", "upper"]] = None
    rates.loc[england, "status"] = "no_population"
    rates.loc[england, "notes"] = pd.Series([["partial_population"]] * len(rates))[england.to_numpy()].to_numpy()
    page = Page(build_report(tables, release=manifest()))
    caption = "Flagged records and rates per 100,000 people in England."
    assert page.table(caption)["2022-23"]["Standardised"] == "no population"
    mark = page.marks[caption].removeprefix("note ")
    assert page.notes[int(mark) - 1] == "The population file lacks some of this area's people."
    assert page.says("58,321 records were flagged: no standardised rate (no population)")
    assert page.says("There is no funnel plot, because there is no national rate to draw limits around.")


def test_notes_are_explained_once_on_the_page() -> None:
    def named(year: str, vintage: Any, notes: list[str], **given: Any) -> dict[str, Any]:
        row = rate_row(FUSION, year, "england", "E92", "England", activity=900, population_vintage=vintage, **given)
        return row | {"notes": notes}

    vintage = date(2026, 8, 1)
    rows = [
        named("2021-22", vintage, ["back_cast", "distant_vintage"]),
        named("2022-23", vintage, ["back_cast", "distant_vintage", "partial_year"]),
    ]
    page = Page(build_report({**empty(), "rate": framed(rows, schemas.RATE)}, release=manifest()))
    notes = {
        "The policy came into force later; shown for comparison only.",
        "The population estimate is of August 2026, more than four years after this period.",
        "The population estimate is of August 2026, more than three years after this period.",
        "The year is incomplete.",
    }
    assert set(page.notes) == notes and len(page.notes) == 4

    def marked(words: str) -> set[str]:
        return {page.notes[int(number) - 1] for number in page.marks[words].removeprefix("note ").split(", ")}

    # A note of every row stands by the table's caption, one of a single row by that row.
    assert marked("Flagged records and rates per 100,000 people in England.") == {
        "The policy came into force later; shown for comparison only."
    }
    assert marked("2021-22") == {"The population estimate is of August 2026, more than four years after this period."}
    assert "The year is incomplete." in marked("2022-23") and len(marked("2022-23")) == 2
    for day, period_years, words in (
        (date(2018, 3, 1), 1, "is of March 2018, more than four years before this period."),
        (date(2018, 3, 1), 3, "is of March 2018, more than two years before this period."),
        (date(2023, 10, 1), 1, "is of a date far from this period."),
        (None, 1, "is of a date far from this period."),
    ):
        row = named("2022-23", day, ["distant_vintage"], period_years=period_years)
        assert wording.notes_of(row) == [f"The population estimate {words}"]


def test_an_extract_is_never_called_england() -> None:
    page = Page(build_report(few_boards(), release=manifest(coverage="partial")))
    assert page.says("In the whole extract in 2022-23")
    assert not page.says("In England in")
    assert not any("in England" in caption for caption in page.tables)


def test_a_local_policy_without_a_national_row_describes_its_icb() -> None:
    row = rate_row(
        FUSION, "2022-23", "icb", "QJ2", "NHS Derby and Derbyshire Integrated Care Board",
        activity=1_240, population=1_090_000,
    )  # fmt: skip
    row["in_scope"] = None  # a small number: suppressed by itself, although the row's status is ok
    tables = {**empty(), "rate": framed([row], schemas.RATE), "policy": sample()["policy"]}
    page = Page(build_report(tables, release=manifest()))
    assert page.says("In NHS Derby and Derbyshire Integrated Care Board in 2022-23, 1,240 records were")
    trend = page.table(
        "Flagged records and rates per 100,000 people in NHS Derby and Derbyshire Integrated Care Board."
    )
    assert (trend["2022-23"]["In scope"], trend["2022-23"]["Flagged"]) == ("[c]", "1,240")


def test_a_local_policy_whose_figures_are_all_suppressed_has_one_line() -> None:
    tables = sample()
    row = suppressed_row(
        FUSION, "2022-23", "QJ2", "NHS Derby and Derbyshire Integrated Care Board", "withheld_secondary"
    )
    fusion = tables["policy"][tables["policy"].policy_id == FUSION].assign(boards=[["QJ2"]] * 3)
    page = Page(build_report({**empty(), "rate": framed([row], schemas.RATE), "policy": fusion}, release=manifest()))
    line = f"{TITLES[FUSION]} (NHS Derby and Derbyshire Integrated Care Board): every figure is suppressed"
    assert [text for text in page.texts if text.startswith(line)] and not page.labels
    assert not page.says("No near misses") and not page.says("records flagged in")
    assert page.table("The clauses of revision 2022-08")["age"]["Test"] == "age between 19 and 120"


def test_two_revisions_of_one_year_are_both_shown() -> None:
    tables = few_boards()
    made_up = {name: frame.assign(revision="2024-01-made-up") for name, frame in tables.items() if "revision" in frame}
    both = {**tables, **{name: pd.concat([tables[name], frame]) for name, frame in made_up.items()}}
    page = Page(build_report(both, release=manifest()))
    assert page.says("records were flagged under revision 2022-08")
    assert page.says("records were flagged under revision 2024-01-made-up")
    assert page.says("in 2022-23, by revision 2024-01-made-up, the newest of 2 that apply to this year")
    assert len(page.ids) == len(set(page.ids))


def test_funnel_limits_are_close_to_those_of_the_poisson_distribution() -> None:
    from scipy.stats import poisson

    for people in (500_000, 1_500_000, 3_000_000):
        expected = 98.2 * people / 100_000
        for z, tail in ((charts.Z_95, 0.025), (charts.Z_998, 0.001)):
            low, high = charts.funnel_limits(98.2, people, z)
            scale = 100_000 / people
            assert low == pytest.approx(poisson.ppf(tail, expected) * scale, abs=3 * scale)
            assert high == pytest.approx(poisson.ppf(1 - tail, expected) * scale, abs=3 * scale)
    assert charts.funnel_limits(0.1, 500_000, charts.Z_95)[0] == 0


def test_bars_and_charts_show_the_numbers_they_were_given() -> None:
    drawn = interval(3.0, (2.0, 4.0), 4.0, "above", 1.0)  # a value v is at (2 + 96 · v/4)%
    assert re.findall(r'x1="([\d.]+)%" x2="([\d.]+)%"', drawn) == [("26.00", "26.00"), ("50.00", "98.00")]
    assert 'x="74.00%"' in drawn and "polygon" in drawn and "circle" not in drawn
    assert re.findall(r'width="([\d.]+)%"', stack([("left", 30), ("removed", 0), ("dropped", 10)], 40)) == [
        "75.00",
        "25.00",
    ]
    rows = rows_of(sample()["rate"].query("policy_id == @IMAGING and area_type == 'icb'"))
    chart = charts.funnel(rows, national=98.2, key="a", title="t")
    assert chart is not None and chart.svg.count("data-area=") == 41
    named = re.findall(r'data-area="icb/(Q\d\d)".*?<title>[^<]*: ([\d.,]+)</title>', chart.svg)
    assert dict(named) == {
        row["area_code"]: f"{row['standardised_rate']:.1f}" for row in rows if row["standardised_rate"]
    }
    assert charts.trend([], key="a", title="t") is None
    # Areas outside the limits have their names in the chart as far as there is room, without the words that all have.
    sides = charts.outlying(rows, 98.2)
    names = {
        row["area_code"]: row["area_name"].removeprefix("NHS ").removesuffix(" Integrated Care Board") for row in rows
    }
    labels = " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", chart.svg))
    named = {code for code, name in names.items() if name in labels}
    assert len(named) == 6 and named < sides.keys()
    # There is room for the only one, whatever its place.
    for code in sides:
        one = charts.funnel(rows, national=98.2, key="a", title="t", sides={code: sides[code]})
        assert one is not None and names[code] in " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", one.svg))


def test_maps_and_missing_values_come_in_several_forms() -> None:
    assert mapping({"a": 1}) == mapping([("a", 1)]) == mapping(np.array([{"key": "a", "value": 1}])) == {"a": 1}
    assert mapping(None) == {}
    frame = pd.DataFrame({"n": [1.5, float("nan")], "t": [pd.NaT, pd.NaT], "l": [np.array(["x"]), None]})
    assert rows_of(frame)[1] == {"n": None, "t": None, "l": None}
    assert rows_of(frame)[0] == {"n": 1.5, "t": None, "l": ["x"]}


def test_every_disclosure_rule_has_a_description() -> None:
    for name in disclosure_rules():
        facts = dict(Page(build_report(empty(), release=manifest(disclosure=name))).tables["The release."][1:])
        assert facts["Disclosure control"].startswith(f"{name} (")


def code_cells(notebook: dict[str, Any]) -> Iterator[str]:
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            yield "".join(cell["source"])


def test_the_notebook_runs_over_a_lake_of_published_tables(tmp_path: Path) -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    cells = list(code_cells(notebook))
    for cell in cells:
        ast.parse(cell)
    tables = sample()
    stale = {name: frame.assign(release_id="r-6") for name, frame in tables.items()}
    for name in TABLES:
        frame = pd.concat([stale[name], tables[name]], ignore_index=True)
        # A column that is null in every row has no type that Delta knows. The published tables get it from their schema.
        frame = frame.drop(columns=["clauses", "notes", "caveats"], errors="ignore").dropna(axis=1, how="all")
        write_deltalake(
            str(tmp_path / "published" / name),
            pa.Table.from_pandas(frame, preserve_index=False),
            partition_by=["release_id"],
        )
    write_deltalake(
        str(tmp_path / "published" / "release"),
        pa.table({"release_id": ["r-6", "r-7"], "is_current": [False, True]}),
    )
    assert cells[0].count('LAKE = "') == 1, "the lake's path is set in the first cell"
    scope: dict[str, Any] = {}
    for number, cell in enumerate(cells):
        exec(compile(cell, f"cell {number}", "exec"), scope)
        if number == 0:
            scope["LAKE"] = str(tmp_path)
    assert set(scope["rate"].release_id) == {"r-7"}
    drawn = scope["drawn"]
    assert len(drawn) >= 6 and all("<svg" in chart._repr_html_() for chart in drawn)
    page = Page("".join(chart.svg for chart in drawn))
    assert len(page.ids) == len(set(page.ids))

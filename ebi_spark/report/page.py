"""The report of a release: one HTML page, made from the release's published rows.

Modules of this package turn every figure into text. ``page.html.j2`` lays the texts out and escapes them.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ebi_spark.config.shipped_files import caveats, disclosure_rules, policy_aims
from ebi_spark.own_files import REPORT_VERSION
from ebi_spark.policies.reminders import reminders, sources_of
from ebi_spark.rates.control_charts import Form
from ebi_spark.report import data_quality, monitoring, summary, wording
from ebi_spark.report.blocks import Block, Part
from ebi_spark.report.policy import Options, Policy
from ebi_spark.report.rows import Row, listing, mapping, plain, rows_of

TABLES = (
    "rate", "variation", "attrition", "reading_effect", "sensitivity", "activity_month", "days_between", "policy", "quality",
    "completeness", *monitoring.TABLES,
)  # fmt: skip
WITHOUT_POLICY = ("quality", "completeness")
_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Section:
    """The texts of a policy's section."""

    anchor: str
    title: str
    headline: str
    facts: tuple[tuple[str, str], ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class LocalPolicy:
    """A local policy whose figures are all suppressed: one line and what it says."""

    anchor: str
    title: str
    boards: str
    aim: str
    blocks: tuple[Block, ...]


def build_report(
    tables: dict[str, pd.DataFrame],
    *,
    release: dict[str, Any],
    over_dispersion: bool = True,
    control_charts: Form = "plot_the_dots",
) -> str:
    """The report of a release as one HTML page that loads nothing from elsewhere.

    ``tables`` maps the names in :data:`TABLES` to the release's rows of those published tables. ``release`` is its row of
    the manifest. Where a table is missing or empty, the page says so. ``over_dispersion`` widens the limits of funnel plots
    where areas differ more than chance would explain. ``control_charts`` is the form of the charts by month. The same rows
    give the same bytes, whatever their order.
    """
    manifest = {str(key): plain(value) for key, value in release.items()}
    rows = {name: rows_of(tables.get(name)) for name in TABLES}
    all_caveats = report_caveats(mapping(manifest.get("caveats")))
    rule = disclosure_rules().get(str(manifest.get("disclosure")), {})
    options = Options(over_dispersion, control_charts, rule, manifest.get("coverage") == "partial")
    footnotes = wording.Footnotes()
    released = manifest.get("released_at")
    due = sources_to_check(rows["policy"], released) if isinstance(released, date) else {}
    ids = sorted({str(row["policy_id"]) for name in rows if name not in WITHOUT_POLICY for row in rows[name]})
    policies = [
        Policy(
            number,
            policy_id,
            {name: [row for row in table if row.get("policy_id") == policy_id] for name, table in rows.items()},
            options,
            footnotes,
        )
        for number, policy_id in enumerate(ids, start=1)
    ]
    shown = [policy for policy in policies if not policy.is_hidden]
    aims = policy_aims()
    cards = [
        summary.card(policy, aims.get(policy.policy_id, ""), _own_caveats(policy, all_caveats)) for policy in shown
    ]
    sections = [
        Section(
            policy.anchor,
            policy.title,
            summary.headline(policy),
            policy.facts(due.get(policy.policy_id, "")),
            policy.parts(),
        )
        for policy in shown
    ]
    local = [
        LocalPolicy(
            policy.anchor, policy.title, wording.listed(policy.boards), aims.get(policy.policy_id, ""), policy.clauses()
        )
        for policy in policies
        if policy.is_hidden
    ]
    years = sorted(str(year) for year in listing(manifest.get("years")))
    texts = {
        "report_version": REPORT_VERSION,
        "release_id": str(manifest.get("release_id", "unknown")),
        "released": wording.moment(released) if released else "unknown",
        "years": (years[0] if len(years) == 1 else f"{years[0]} to {years[-1]}") if years else "no year",
        "coverage": _coverage(manifest),
        "general": " ".join(item["text"] for item in all_caveats if item["key"] == "question_not_verdict"),
        "data_kind": str(manifest.get("data_kind") or ""),
        "disclosure": _disclosure(manifest.get("disclosure")),
        "cards": cards,
        "sections": sections,
        "local": local,
        "quality": data_quality.quality(rows["quality"]),
        "completeness": data_quality.completeness(rows["completeness"], rows["rate"]),
        "caveats": tuple(item["text"] for item in all_caveats if item["applies_to"] == "all"),
        "provenance": _provenance(manifest),
        "notes": footnotes.texts,
        "areas": _data(summary.area_data(shown)),
    }
    return _page(texts)


def _page(texts: dict[str, Any]) -> str:
    """The page. Its security policy allows only its own style and script, by their hashes."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    html = environment.get_template("page.html.j2").render(texts)
    html, of_charts = _styles_as_classes(html)
    style = (_FOLDER / "page.css").read_text(encoding="utf-8") + of_charts
    filled = {"STYLE": style, "SCRIPT": script, "STYLE_HASH": _hash(style), "SCRIPT_HASH": _hash(script)}
    # Texts of the data are escaped, so they cannot contain these marks.
    return re.sub(r"<!--(STYLE|SCRIPT|STYLE_HASH|SCRIPT_HASH)-->", lambda mark: filled[mark[1]], html)


def _styles_as_classes(html: str) -> tuple[str, str]:
    """The page with the style of every part of a chart as a class, and the rules of these classes.

    Charts repeat few styles many times. As classes they are smaller, and the security policy can refuse all other styles.
    """
    names: dict[str, str] = {}

    def named(found: re.Match[str]) -> str:
        return f'class="{names.setdefault(found[1], f"s{len(names)}")}"'

    html = re.sub(r'(?<=[ <])style="([^"<>]*)"(?=[^<>]*>)', named, html)
    return html, "".join(f".{name} {{ {style} }}\n" for style, name in names.items())


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data(value: Any) -> Markup:
    """A value as JSON that can stand inside a script element: no text of it can end the element or begin a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704


def _own_caveats(policy: Policy, all_caveats: Iterable[dict[str, Any]]) -> list[str]:
    """The caveats of one policy. Rates can name caveats themselves, for example those of a policy that conf/caveats.yml
    does not list."""
    named = {str(key) for row in policy.own["rate"] for key in listing(row.get("caveats"))}
    return [
        item["text"]
        for item in all_caveats
        if item["applies_to"] != "all" and (policy.policy_id in item["applies_to"] or item["key"] in named)
    ]


def report_caveats(released: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The caveats of ``conf/caveats.yml``. Each has ``key``, ``text`` and ``applies_to``: a list of policies, or ``all``.

    ``released`` has a release's own texts by key. They replace the texts in ``conf/caveats.yml``. A key that is not in
    that file applies to all policies.
    """
    released = released or {}
    known = [{**caveat, "text": str(released.get(caveat["key"], caveat["text"]))} for caveat in caveats()]
    keys = {caveat["key"] for caveat in known}
    others = [
        {"key": key, "text": str(text), "applies_to": "all"}
        for key, text in sorted(released.items())
        if key not in keys
    ]
    return known + others


def sources_to_check(policies: Iterable[Row], released: date) -> dict[str, str]:
    """By policy: why its source had to be looked at again on the day of the release. ``policies``: rows of
    ``published/policy``."""
    today = date(released.year, released.month, released.day)
    found: dict[str, list[str]] = {}
    for name, reason in reminders(sources_of(policies), today):
        found.setdefault(name, []).append(reason)
    return {name: "; ".join(reasons) for name, reasons in found.items()}


def _provenance(manifest: Row) -> tuple[Block, ...]:
    """From the manifest's row: the code, configuration and table versions needed to reproduce the figures."""
    years = ", ".join(sorted(str(year) for year in listing(manifest.get("years"))))
    facts = [
        ("Release", str(manifest.get("release_id", "unknown"))),
        ("Published", wording.moment(manifest["released_at"]) if manifest.get("released_at") else "unknown"),
        ("Run", str(manifest.get("run_id") or "unknown")),
        ("Code version", str(manifest.get("code_version") or "unknown")),
        ("Configuration (fingerprint)", str(manifest.get("configuration") or "unknown")),
        ("Years", years or "none"),
        ("Data", wording.data_kind(manifest.get("data_kind"))),
        ("Coverage", _coverage(manifest)),
        ("Areas", str(manifest.get("geography") or "unknown")),
        ("Disclosure control", _disclosure(manifest.get("disclosure"))),
    ]
    blocks = [Block("grid", text="The release.", head=("What", "Value"), rows=tuple(facts), align="ll")]
    fingerprints = mapping(manifest.get("policy_fingerprints"))
    if fingerprints:
        blocks.append(
            Block(
                "grid",
                text="Fingerprints of the policies. A fingerprint changes when a rule changes, not when only the layout of its file does.",
                head=("Policy, revision, reading", "Fingerprint"),
                rows=tuple((name.replace("/", ", "), str(value)) for name, value in sorted(fingerprints.items())),
                align="lc",
                fold=True,
            )
        )
    sources = mapping(manifest.get("sources"))
    if sources:
        blocks.append(
            Block(
                "grid",
                text="Delta versions of the gold tables that the release was made from.",
                head=("Table", "Version"),
                rows=tuple((name, str(value)) for name, value in sorted(sources.items())),
                align="lr",
                fold=True,
            )
        )
    versions, sizes = mapping(manifest.get("versions")), mapping(manifest.get("tables"))
    if versions or sizes:
        blocks.append(
            Block(
                "grid",
                text="The published tables of the release.",
                head=("Table", "Rows", "Delta version"),
                rows=tuple(
                    (name, wording.count(sizes.get(name)), str(versions.get(name, "–")))
                    for name in sorted({*versions, *sizes})
                ),
                align="lrr",
                fold=True,
            )
        )
    return tuple(blocks)


def _coverage(manifest: Row) -> str:
    """What the data cover. Made-up data cover nothing, whatever the setting says."""
    words = {
        "national": "the whole of England",
        "partial": "an extract, so no figure here is for the whole of England",
    }.get(str(manifest.get("coverage")), str(manifest.get("coverage") or "unknown"))
    return {
        "synthetic": f"{words} (of made-up records)",
        "sample": f"{words} (of a sample)",
    }.get(str(manifest.get("data_kind")), words)


def _disclosure(name: Any) -> str:
    """A disclosure rule and what it means. For a rule that this version does not know, only its name."""
    rule = disclosure_rules().get(str(name))
    if rule is None:
        return str(name or "unknown")
    words = [f"{name} ({rule['title']})"]
    if "withhold" in rule:
        words.append(
            f"counts of areas from {rule['withhold']['from']} to {rule['withhold']['to']} are suppressed"
            + (f", others are rounded to the nearest {rule['round_to']}" if rule.get("round_to", 1) > 1 else "")
            + ("; national figures are shown unchanged" if rule.get("national") == "stands" else "")
        )
    # Further texts of the rule.
    words += [str(rule[key]) for key in ("meaning", "protects", "notes") if isinstance(rule.get(key), str)]
    return ": ".join(words[:2]) + "".join(f". {more}" for more in words[2:])

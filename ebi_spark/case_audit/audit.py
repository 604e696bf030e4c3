"""The three steps of a case-note audit: draw a sample, import the forms, estimate. Each step reads and writes the lake.

Only counts and the drawn records leave Spark. Every step can be repeated: the same call writes the same rows.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.case_audit.design import Cell, Design, allocate
from ebi_spark.case_audit.estimates import Estimate, audit_estimates, drawn_records
from ebi_spark.case_audit.forms import refuse_folder, write_files
from ebi_spark.case_audit.questions import form_texts
from ebi_spark.case_audit.returns import Form, Key, Rejected, answers_of, validate
from ebi_spark.case_audit.sample import count_cells, draw, with_strata
from ebi_spark.errors import InputError, did_you_mean
from ebi_spark.geography.record_areas import OUTSIDE_ENGLAND
from ebi_spark.lake.local_tables import LocalLake, may_have_rows
from ebi_spark.lake.storage import Lake
from ebi_spark.tables.gold import ACTIVITY_FLAG, POLICY
from ebi_spark.tables.monitoring_audit import AUDIT_ESTIMATE, AUDIT_RESULT, AUDIT_SAMPLE
from ebi_spark.tables.silver import RECORD_TABLES
from ebi_spark.tables.table import RECORD_KEY, YEAR

STAGE = "audit"


@dataclass(frozen=True)
class DrawOptions:
    """How a sample is drawn: ``size`` records, at most ``cap`` from one provider, strata by ``reading`` (None: the policy's
    default), and the ``double_share`` of each stratum that two people read."""

    policy_id: str
    years: tuple[str, ...]
    size: int
    seed: int = 1
    cap: int | None = None
    reading: str | None = None
    double_share: float = 0.2

    def __post_init__(self) -> None:
        for name, value, least in (("size", self.size, 1), ("cap", self.cap, 1), ("seed", self.seed, 0)):
            if value is not None and not least <= value < 1 << 31:
                raise InputError(f"--{name} {value}: it must be from {least} to 2147483647", remedy=f"correct --{name}")
        if not 0 <= self.double_share <= 1:
            raise InputError(
                f"--double-share {self.double_share}: a share is between 0 and 1", remedy="give one such as 0.2"
            )


@dataclass
class DrawnAudit:
    """The result of a draw: ``strata`` are (stratum, records of the frame, records drawn), ``folders`` one for each provider."""

    audit_id: str
    reading: str
    drawn: int
    read_twice: int
    strata: list[tuple[str, int, int]]
    folders: list[str]


def draw_audit(lake: Lake, options: DrawOptions, out: Path) -> DrawnAudit:
    """Draw a sample, write ``gold/audit_sample``, and write the files of each provider to ``out``."""
    refuse_folder(out, lake.location.folder)
    lake.prepare()
    policy = check_draw(lake, options)
    reading = options.reading or next(row["reading"] for row in policy if row["is_default_reading"])
    texts = form_texts(policy, reading)
    # Patients from outside England are in no rate, so they are in no audit either.
    inside = ~F.col("area_basis").eqNullSafe(OUTSIDE_ENGLAND)
    flags = lake.read(ACTIVITY_FLAG).where(
        (F.col("policy_id") == options.policy_id) & F.col(YEAR).isin(*options.years) & inside
    )
    records = with_strata(flags, reading)
    counted = [row.asDict() for row in count_cells(records).collect()]
    sizes: dict[Cell, int] = {}
    for row in counted:
        cell = row["stratum"], row["provider_code"]
        sizes[cell] = sizes.get(cell, 0) + row["records"]
    design = allocate(sizes, options.size, options.cap)
    audit_id = _audit_id(options, reading, counted)
    drawn = draw(records, design, options.seed, options.double_share)
    rows = [row.asDict() for row in _with_dates(lake, drawn, options, policy[0]["dataset"]).collect()]
    common = {
        "audit_id": audit_id, "policy_id": options.policy_id, "reading": reading, "seed": options.seed,
        "years": list(options.years), "drawn_at": datetime.now(UTC), "run_id": lake.run_id,
    }  # fmt: skip
    stored = [
        {**{name: row.get(name) for name in AUDIT_SAMPLE.names()}, "clauses": texts[row["revision"]].clauses, **common}
        for row in rows
    ]
    lake.replace(AUDIT_SAMPLE, stored, {"audit_id": [audit_id]}, stage=STAGE)
    folders = write_files(out, rows, {name: texts[name] for name in {row["revision"] for row in rows}}, audit_id)
    return DrawnAudit(
        audit_id, reading, len(rows), sum(row["read_twice"] for row in rows), _by_stratum(design), folders
    )


def check_draw(lake: LocalLake, options: DrawOptions) -> list[dict[str, Any]]:
    """The rows of the policy in ``gold/policy``. An :class:`InputError` if the lake has no such policy, if the policy has no such
    reading, or if the lake has none of the years."""
    policy = _policy_rows(lake, options.policy_id)
    known = sorted({row["reading"] for row in policy})
    if options.reading and options.reading not in known:
        raise InputError(
            f"--reading: {options.policy_id} has no reading {options.reading!r}",
            remedy=f"choose from: {', '.join(known)}",
        )
    folder = lake.location.folder
    if folder and not (
        lake.exists(ACTIVITY_FLAG) and may_have_rows(folder / ACTIVITY_FLAG.full_name, [{YEAR: options.years}])
    ):
        raise InputError(
            f"the lake has no flags of {', '.join(options.years)}",
            remedy="name other years; `ebi-spark status` shows those of the lake",
        )
    return policy


def _policy_rows(lake: LocalLake, policy_id: str) -> list[dict[str, Any]]:
    names = (
        "policy_id",
        "revision",
        "reading",
        "is_default_reading",
        "dataset",
        "title",
        "publisher",
        "source",
        "definition",
    )
    rows = lake.rows_if_there(POLICY, names, {"policy_id": [policy_id]})
    if not rows:
        known = sorted({row["policy_id"] for row in lake.rows_if_there(POLICY, ["policy_id"])})
        raise InputError(
            f"--policy: the lake has no policy {policy_id!r}",
            remedy=f"{did_you_mean(policy_id, known)}choose from: {', '.join(known)}"
            if known
            else "run `ebi-spark run` first",
        )
    return rows


def _audit_id(options: DrawOptions, reading: str, counted: Iterable[Mapping[str, Any]]) -> str:
    """A name that is the same for the same frame, policy fingerprint and options, whatever the order of rows."""
    frame = sorted(
        (row["stratum"], row["provider_code"], row["policy_fingerprint"], row["records"], row["checksum"])
        for row in counted
    )
    described = json.dumps([asdict(options) | {"reading": reading}, frame], sort_keys=True)
    return f"{options.policy_id}-{options.seed}-{hashlib.sha256(described.encode()).hexdigest()[:10]}"


def _with_dates(lake: Lake, drawn: DataFrame, options: DrawOptions, dataset: str) -> DataFrame:
    """The drawn records with the dates that help to find the notes. For an appointment, its day is in ``discharge_date``."""
    silver = lake.read(RECORD_TABLES[dataset]).where(F.col(YEAR).isin(*options.years))
    if dataset == "apc":
        dates = ("admission_date", "discharge_date", "provider_spell_number")
        found = silver.select(*RECORD_KEY, YEAR, *dates)
    else:
        found = silver.select(
            *RECORD_KEY, YEAR, F.lit(None).cast("date").alias("admission_date"),
            F.col("activity_date").alias("discharge_date"), F.lit(None).cast("string").alias("provider_spell_number"),
        )  # fmt: skip
    # Few records are drawn: silver is read once and not shuffled.
    return found.join(F.broadcast(drawn), [*RECORD_KEY, YEAR])


def _by_stratum(design: Design) -> list[tuple[str, int, int]]:
    strata = sorted({stratum for stratum, _ in design.records})
    return [
        (
            name,
            sum(number for (stratum, _), number in design.records.items() if stratum == name),
            sum(number for (stratum, _), number in design.drawn.items() if stratum == name),
        )
        for name in strata
    ]


@dataclass
class ImportedForms:
    """The result of an import. ``taken``: forms that were taken; ``unchanged``: those of them that are the same as in an earlier
    import; ``empty``: forms without an answer."""

    taken: int
    unchanged: int
    empty: int
    rejected: list[Rejected] = field(default_factory=list)


def import_forms(lake: Lake, forms: Sequence[Form], *, replace: bool = False) -> ImportedForms:
    """Validate filled forms and write those that can be used to ``gold/audit_result``, in one commit.

    ``replace``: a form replaces an earlier one with other answers.
    """
    lake.prepare()
    audits = {"audit_id": sorted({form.key[0] for form in forms})}
    columns = ("audit_id", *RECORD_KEY, "policy_id", "years", "policy_fingerprint", "read_twice", "clauses")
    sample = {_key(row): row for row in lake.small_rows(AUDIT_SAMPLE, columns, audits)} if forms else {}
    before: dict[Key, list[dict[str, str]]] = {}
    if forms:
        for row in lake.small_rows(AUDIT_RESULT, AUDIT_RESULT.names(), audits):
            before.setdefault(_key(row), []).append(row)
    found = validate(forms, sample, _in_scope(lake, [form.key for form in forms], sample), before, replace=replace)
    files = {form.key: form.file for form in forms if form.filled}
    unchanged = {
        key for key, rows in found.taken.items() if key in before and answers_of(before[key]) == answers_of(rows)
    }
    new = {key: rows for key, rows in found.taken.items() if key not in unchanged}
    if new:
        common = {"imported_at": datetime.now(UTC), "run_id": lake.run_id}
        rows = [
            {**dict(zip(("audit_id", *RECORD_KEY), key, strict=True)), **row, "form": files[key], **common}
            for key, answers in new.items()
            for row in answers
        ]
        replaced: dict[Key, list[str]] = {}
        for key in new:
            replaced.setdefault(key[:-1], []).append(key[-1])
        where = [
            {
                **{name: [value] for name, value in zip(("audit_id", *RECORD_KEY[:-1]), key, strict=True)},
                "record_id": ids,
            }
            for key, ids in sorted(replaced.items())
        ]
        lake.replace(AUDIT_RESULT, rows, where, stage=STAGE)
    return ImportedForms(len(found.taken), len(unchanged), found.empty, found.rejected)


def _key(row: Mapping[str, Any]) -> Key:
    return tuple(str(row[name]) for name in ("audit_id", *RECORD_KEY))


def _in_scope(lake: Lake, keys: Iterable[Key], sample: Mapping[Key, Mapping[str, Any]]) -> set[Key]:
    """The keys of records that are in scope of their audit's policy and years, but not in its sample."""
    frames = {key[0]: (row["policy_id"], tuple(row["years"])) for key, row in sample.items()}
    asked = sorted({key for key in keys if key not in sample and key[0] in frames})
    if not asked:
        return set()
    where = [
        {
            "policy_id": [frames[audit][0]], YEAR: list(frames[audit][1]),
            "record_id": sorted({key[-1] for key in asked if key[0] == audit}),
        }
        for audit in sorted({key[0] for key in asked})
    ]  # fmt: skip
    there = {
        (row["policy_id"], *(row[name] for name in RECORD_KEY))
        for row in lake.grouped(ACTIVITY_FLAG, ["policy_id", *RECORD_KEY], where=where)
    }
    return {key for key in asked if (frames[key[0]][0], *key[1:]) in there}


def check_estimate(lake: LocalLake, policy_id: str, audit_id: str | None, precision: float) -> None:
    """Raise an :class:`InputError` if no sample was drawn for the policy, if the policy has no such audit, or if ``precision`` is not
    between 0 and 0.5."""
    if not 0 < precision < 0.5:
        raise InputError(f"--precision {precision}: it must be between 0 and 0.5", remedy="give one such as 0.05")
    there = lake.exists(AUDIT_SAMPLE)
    rows = lake.grouped(AUDIT_SAMPLE, ["audit_id"], where={"policy_id": [policy_id]}) if there else []
    audits = sorted(row["audit_id"] for row in rows)
    if not audits:
        raise InputError(
            f"--policy: no sample was drawn for {policy_id!r}", remedy="draw one with `ebi-spark audit draw`"
        )
    if audit_id is not None and audit_id not in audits:
        raise InputError(f"--audit: {policy_id} has no audit {audit_id!r}", remedy=f"choose from: {', '.join(audits)}")


@dataclass
class EstimatedAudit:
    """The estimates of one audit, with its years and sizes. ``others``: other audits of the policy in the lake."""

    audit_id: str
    policy_id: str
    reading: str
    years: list[str]
    providers: int
    drawn: int
    estimates: list[Estimate]
    others: list[str]


def estimate_audit(lake: Lake, policy_id: str, audit_id: str | None = None, precision: float = 0.05) -> EstimatedAudit:
    """Estimate from the forms that were imported for an audit (None: the policy's newest), and write
    ``gold/audit_estimate``."""
    check_estimate(lake, policy_id, audit_id, precision)
    lake.prepare()
    sample = lake.small_rows(AUDIT_SAMPLE, AUDIT_SAMPLE.names(), {"policy_id": [policy_id]})
    newest = max(sample, key=lambda row: (row["drawn_at"], row["audit_id"]))["audit_id"]
    audits = sorted({row["audit_id"] for row in sample})
    wanted = audit_id or newest
    own = [row for row in sample if row["audit_id"] == wanted]
    results = lake.small_rows(AUDIT_RESULT, AUDIT_RESULT.names(), {"audit_id": [wanted]})
    reading = own[0]["reading"]
    estimates = audit_estimates(drawn_records(own, results), reading, precision)
    common = {"audit_id": wanted, "policy_id": policy_id, "reading": reading, "run_id": lake.run_id}
    rows = [{**common, **asdict(row)} for row in estimates]
    lake.replace(AUDIT_ESTIMATE, rows, {"audit_id": [wanted]}, stage=STAGE)
    return EstimatedAudit(
        wanted, policy_id, reading, list(own[0]["years"]), len({row["provider_code"] for row in own}), len(own), estimates,
        [name for name in audits if name != wanted],
    )  # fmt: skip

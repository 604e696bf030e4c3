"""Did operations fall, or only the use of a code? A policy's flagged records as a chain of counts, each a part of the one before it,
and how much each factor of the chain adds to a change. Also the codes that may be recorded instead of the policy's.

Definitions are in ``conf/lumbar_fusions.yml``. Spark counts in one query (:func:`counts_frame`). The rows are made from these few
counts on the driver: the counts of each area (:func:`area_counts`), and from them the change between two periods
(:func:`change_between`, :func:`change_rows`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache, reduce
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.config.shipped_files import shipped_document
from ebi_spark.errors import InputError, did_you_mean
from ebi_spark.financial_years import end_of, parse_years, period_of
from ebi_spark.flags.apply_policies import FLAGGED, apply_policies
from ebi_spark.geography.area_lists import ENGLAND_ONS
from ebi_spark.geography.area_versions import Geography
from ebi_spark.geography.output_areas import assign_output_area
from ebi_spark.geography.record_areas import OUTSIDE_ENGLAND, Lookups, with_area
from ebi_spark.policies.model import PolicyReading, RevisionPeriod
from ebi_spark.policies.patterns import one_of
from ebi_spark.rates.methods import NO_POPULATION
from ebi_spark.rates.population import members_of
from ebi_spark.small_frames import small_frame
from ebi_spark.statistics.decomposition import factors_of, shapley_parts
from ebi_spark.tables.table import RECORD_KEY, YEAR

PEOPLE, OPERATIONS, IN_SCOPE = "people", "operations_per_person", "in_scope"
REVISION, TOTAL_FROM, TOTAL_TO = "revision", "total_from", "total_to"
UNDEFINED = "undefined_factor"
OUTSIDE_SCOPE, NON_DOMINANT, UNSPECIFIED, PRIMARY_DIAGNOSIS = (
    "operation_outside_scope", "non_dominant", "unspecified", "primary_diagnosis",
)  # fmt: skip
ANY, UNKNOWN = "any", "unknown"
# The revision in force on each record's day, as gold/activity_flag has it.
IN_FORCE = "in_force"
_AREA = "area"
_STEPS = ("operations", "in_scope", "primary_diagnosis", "no_exclusion", "flagged")
_AREA_COLUMNS = ("area_code", "area_date", "latest_area_code", "area_basis", "person_id")


@cache
def definitions() -> dict[str, Any]:
    """The whole of ``conf/lumbar_fusions.yml``. Shared by all callers: do not change it."""
    return shipped_document("lumbar_fusions", "lumbar fusions")


@dataclass(frozen=True)
class Chain:
    """How the flagged records of one policy are split.

    ``periods``: the revisions of the policy, each with the days on which it is in force. ``others``: the names of the revisions that
    are applied to all years too. Empty if all revisions have the same clauses, because then each gives the same counts.
    """

    periods: tuple[RevisionPeriod, ...]
    others: tuple[str, ...]
    fusions: bool
    primary_diagnosis: tuple[str, ...]
    no_exclusion: tuple[str, ...]

    @property
    def policy_id(self) -> str:
        """The policy."""
        return self.periods[0].policy.id

    @property
    def dataset(self) -> str:
        """The records that the policy is about: apc or op."""
        return self.periods[0].policy.dataset

    @property
    def reading(self) -> str:
        """The policy's default reading."""
        return self.periods[0].policy.default_reading

    @property
    def steps(self) -> tuple[str, ...]:
        """The counts of the chain after the people, the widest first."""
        given = {"operations": self.fusions, "primary_diagnosis": bool(self.primary_diagnosis)}
        return tuple(step for step in _STEPS if given.get(step, True))

    def revision_on(self, day: date) -> str:
        """The revision in force on a day; the first one for days before it, the last for days after it has ended."""
        started = [period for period in self.periods if period.since is None or period.since <= day]
        return (started or list(self.periods))[-1].revision.name


def chains(periods: Iterable[RevisionPeriod]) -> list[Chain]:
    """The chains of those policies of a run that ``conf/lumbar_fusions.yml`` names."""
    by_policy: dict[str, list[RevisionPeriod]] = defaultdict(list)
    for period in periods:
        by_policy[period.policy.id].append(period)
    found = []
    for policy_id, given in definitions()["chains"].items():
        if policy_id not in by_policy:
            continue
        own = by_policy[policy_id]
        rules = {repr(_rule(period.revision.readings[period.policy.default_reading])) for period in own}
        found.append(
            Chain(
                tuple(own),
                tuple(period.revision.name for period in own) if len(rules) > 1 else (),
                given.get("lumbar_fusions", False),
                tuple(given.get("primary_diagnosis", ())),
                tuple(given.get("no_exclusion", ())),
            )
        )
    return found


def _rule(reading: PolicyReading) -> list[Any]:
    """Everything that decides an outcome, without the revision's name and time."""
    return [clause.outcome_parts for clause in reading.clauses if clause.kind != "note"]


def lumbar_fusions(spells: DataFrame) -> DataFrame:
    """The rows of ``silver/apc_spell`` that have a code of ``conf/lumbar_fusions.yml``, with two more columns: ``fusion_codes``, the
    distinct codes of that file in the record, and ``is_fusion``, whether one of them is a lumbar fusion.

    | dominant_procedure_4 | procedure_codes | → fusion_codes | is_fusion |
    |----------------------|-----------------|----------------|-----------|
    | V382                 | ,V382,V404,     | [V382, V404]   | true      |
    | V254                 | ,V254,V393,     | [V393]         | true      |
    | V388                 | ,V388,          | [V388]         | false     |
    """
    lumbar = [*definitions()["scope"]["codes"], *definitions()["outside_scope"]["codes"]]
    every = [*lumbar, *definitions()["unspecified"]["codes"]]
    dominant = F.col("dominant_procedure_4")
    listed = F.coalesce(F.col("procedure_codes"), F.lit(""))
    found = spells.where(listed.rlike(f",{one_of(every)}") | dominant.isin(every))
    codes = F.transform(F.split(listed, ","), lambda code: F.substring(code, 1, 4))
    own = F.array_intersect(F.array_append(codes, F.coalesce(dominant, F.lit(""))), _texts(every))
    return found.withColumn("fusion_codes", own).withColumn(
        "is_fusion", F.size(F.array_intersect("fusion_codes", _texts(lumbar))) > 0
    )


def counts_frame(
    records: Mapping[str, DataFrame],
    flags: DataFrame,
    found: Sequence[Chain],
    lookups: Lookups,
    geography: Geography,
) -> DataFrame:
    """All counts in one frame: ``policy_id``, ``version``, ``financial_year``, ``kind``, ``code`` and a column for each step.

    ``kind`` ``area`` has the chain's counts by sub-ICB location of the version shown (``code``; NULL where it is unknown).
    The other kinds are those of ``gold/code_use``, with their number of records in ``operations``. ``version`` is the
    revision that is applied to all years; for :data:`IN_FORCE` it is the one in force on each record's day. ``records`` are the silver
    tables by dataset, ``flags`` rows of ``gold/activity_flag``. Records from outside England are left out.

    | policy_id | version  | financial_year | kind         | code | operations | in_scope | primary_diagnosis | no_exclusion | flagged |
    |-----------|----------|----------------|--------------|------|------------|----------|-------------------|--------------|---------|
    | 2Y…       | in_force | 2022-23        | area         | 15E  | 12         | 10       | 7                 | 6            | 5       |
    | 2Y…       | in_force | 2022-23        | area         | NULL | 1          | 1        | 0                 | 0            | 0       |
    | 2Y…       | in_force | 2022-23        | non_dominant | V382 | 2          | 2        | 2                 | 2            | 2       |
    """
    parts = []
    for chain in found:
        scoped = _in_scope(records, flags, chain, lookups)
        parts.append(_with_fusions(records["apc"], scoped, chain, lookups) if chain.fusions else _alone(scoped, chain))
    every = reduce(DataFrame.unionByName, parts).where(F.col("area_basis") != OUTSIDE_ENGLAND)
    placed = assign_output_area(every, geography)
    area = F.struct(F.lit(_AREA).alias("kind"), F.col("area_code").alias("code"), *[F.col(step) for step in _STEPS])
    listed = placed.select("policy_id", "version", YEAR, F.inline(F.concat(F.array(area), "uses")))
    sums = [F.sum(F.col(step).cast("int")).alias(step) for step in _STEPS]
    return listed.groupBy("policy_id", "version", YEAR, "kind", "code").agg(*sums)


_OUTCOME_COLUMNS = ("version", *RECORD_KEY, YEAR, *_AREA_COLUMNS, "outcome", "failed_clauses")


def _in_scope(records: Mapping[str, DataFrame], flags: DataFrame, chain: Chain, lookups: Lookups) -> DataFrame:
    """The records in scope of a policy in its default reading, once for each version needed.

    | record_id | revision of its day | → version | outcome     |
    |-----------|---------------------|-----------|-------------|
    | 1         | 2                   | in_force  | not_flagged |
    | 1         | 2                   | 1         | flagged     |
    | 1         | 2                   | 2         | not_flagged |
    """
    policy = chain.periods[0].policy
    wanted = (F.col("policy_id") == policy.id) & (F.col("reading") == chain.reading)
    found = flags.where(wanted).withColumn("version", F.lit(IN_FORCE)).select(*_OUTCOME_COLUMNS)
    if not chain.others:
        return found
    # Apply every revision to every record, whatever its day. This is needed only if the clauses of two revisions differ.
    always = [RevisionPeriod(policy, period.revision, None, None) for period in chain.periods]
    again = apply_policies(records[policy.dataset], policy.dataset, always, lookups).where(wanted)
    return found.unionByName(again.withColumn("version", F.col("revision")).select(*_OUTCOME_COLUMNS))


def _with_steps(frame: DataFrame, chain: Chain, *, operations: Column, in_scope: Column) -> DataFrame:
    failed = F.coalesce("failed_clauses", F.array().cast("array<string>"))
    primary = in_scope & ~F.arrays_overlap(failed, _texts(chain.primary_diagnosis))
    kept = primary & ~F.arrays_overlap(failed, _texts(chain.no_exclusion))
    flagged = kept & F.coalesce(F.col("outcome") == FLAGGED, F.lit(False))
    values = dict(zip(_STEPS, (operations, in_scope, primary, kept, flagged), strict=True))
    return frame.withColumn("policy_id", F.lit(chain.policy_id)).withColumns(values)


_COUNTED = ("policy_id", "version", *RECORD_KEY, YEAR, *_AREA_COLUMNS, *_STEPS)


def _alone(scoped: DataFrame, chain: Chain) -> DataFrame:
    stepped = _with_steps(scoped, chain, operations=F.lit(True), in_scope=F.lit(True))
    return stepped.select(*_COUNTED, _no_uses().alias("uses"))


def _with_fusions(spells: DataFrame, scoped: DataFrame, chain: Chain, lookups: Lookups) -> DataFrame:
    versions = small_frame(spells.sparkSession, [(name,) for name in (IN_FORCE, *chain.others)], "version string")
    placed = with_area(lumbar_fusions(spells), lookups).crossJoin(F.broadcast(versions))
    key = ("version", *RECORD_KEY, YEAR)
    outcomes = scoped.select(*key, "outcome", "failed_clauses")
    # The column gets another name, because a step of the chain is called primary_diagnosis too.
    named = placed.withColumn("_diagnosis", F.coalesce(F.substring("primary_diagnosis", 1, 4), F.lit(UNKNOWN)))
    joined = named.join(F.broadcast(outcomes), [*key], "left")
    stepped = _with_steps(
        joined, chain, operations=F.col("is_fusion"), in_scope=F.col("is_fusion") & F.col("outcome").isNotNull()
    )
    uses = F.when(F.col("version") == IN_FORCE, _uses()).otherwise(_no_uses())
    return stepped.select(*_COUNTED, uses.alias("uses"))


_USE = f"array<struct<kind:string,code:string,{','.join(f'{step}:boolean' for step in _STEPS)}>>"


def _no_uses() -> Column:
    return F.array().cast(_USE)


def _uses() -> Column:
    """The other codes of a record, one entry for each row of ``gold/code_use`` in which it counts."""
    given = definitions()
    scoped = _texts(given["scope"]["codes"])
    own = F.col("fusion_codes")
    dominant = F.coalesce(F.col("dominant_procedure_4"), F.lit(""))
    is_dominant = F.array_contains(scoped, dominant)
    other = F.when(~is_dominant, F.array_intersect(own, scoped)).otherwise(F.array().cast("array<string>"))
    outside = F.array_intersect(own, _texts(given["outside_scope"]["codes"]))
    unspecified = F.array_intersect(own, _texts(given["unspecified"]["codes"]))
    first = F.when(F.col("in_scope"), F.array("_diagnosis")).otherwise(F.array().cast("array<string>"))

    def used(kind: str, codes: Column, *, whole: bool = True) -> Column:
        and_any = F.when(F.size(codes) > 0, F.array_append(codes, F.lit(ANY))).otherwise(codes) if whole else codes
        return F.transform(
            and_any,
            lambda code: F.struct(
                F.lit(kind).alias("kind"), code.alias("code"), *[F.lit(True).alias(step) for step in _STEPS]
            ),
        ).cast(_USE)

    return F.concat(
        used(OUTSIDE_SCOPE, outside),
        used(NON_DOMINANT, other),
        used(UNSPECIFIED, unspecified),
        used(PRIMARY_DIAGNOSIS, first, whole=False),
    )


def _texts(values: Iterable[str]) -> Column:
    return F.array(*[F.lit(value) for value in values]).cast("array<string>")


# On the driver

# (policy, version, year) → sub-ICB location (None: unknown) → the counts of _STEPS
Counts = Mapping[tuple[str, str, str], Mapping[str | None, tuple[int, ...]]]


@dataclass(frozen=True)
class Change:
    """The counts of one policy and area in two periods (``before`` and ``after``), the widest count first, with one revision applied to
    both periods. ``in_force``: the flagged records of each period by the revisions then in force."""

    policy_id: str
    reading: str
    area: tuple[str, str]
    periods: tuple[str, str]
    revision: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    in_force: tuple[int, int]
    names: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())


def counts_of(rows: Iterable[Mapping[str, Any]]) -> Counts:
    """The counts by area from rows of :func:`counts_frame`."""
    found: dict[tuple[str, str, str], dict[str | None, tuple[int, ...]]] = defaultdict(dict)
    for row in rows:
        if row["kind"] == _AREA:
            found[row["policy_id"], row["version"], row[YEAR]][row["code"]] = tuple(row[step] for step in _STEPS)
    return found


def code_use_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of ``gold/code_use``, without the run, from rows of :func:`counts_frame`.

    ``of_records`` are the policy's operations of the year, for a primary diagnosis the operations in scope.

    | kind              | code | operations | in_scope | → kind            | code | records | of_records |
    |-------------------|------|------------|----------|-------------------|------|---------|------------|
    | area              | 15E  | 12         | 10       | non_dominant      | V382 | 2       | 12         |
    | non_dominant      | V382 | 2          | 2        | primary_diagnosis | M545 | 7       | 10         |
    | primary_diagnosis | M545 | 7          | 7        |                   |      |         |            |
    """
    rows = list(rows)
    totals: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for row in rows:
        if row["kind"] == _AREA and row["version"] == IN_FORCE:
            totals[row["policy_id"], row[YEAR]][0] += row["operations"]
            totals[row["policy_id"], row[YEAR]][1] += row["in_scope"]
    return [
        {
            "policy_id": row["policy_id"],
            YEAR: row[YEAR],
            "kind": row["kind"],
            "code": row["code"],
            "records": row["operations"],
            "of_records": totals[row["policy_id"], row[YEAR]][row["kind"] == PRIMARY_DIAGNOSIS],
        }
        for row in rows
        if row["kind"] != _AREA
    ]


def pairs_of(years: Iterable[str]) -> list[tuple[str, str]]:
    """The periods that are compared: each year with the next one in the lake, and the first with the last.

    >>> pairs_of(["2019-20", "2020-21", "2021-22"])
    [('2019-20', '2020-21'), ('2020-21', '2021-22'), ('2019-20', '2021-22')]
    """
    known = sorted(years)
    found = list(zip(known, known[1:], strict=False))
    return found + ([(known[0], known[-1])] if len(known) > 2 else [])


def area_counts(
    chain: Chain,
    counts: Counts,
    years: Iterable[str],
    people: Mapping[tuple[str, str, str], int],
    geography: Geography,
    covered: Iterable[str],
    *,
    partial: bool,
) -> list[dict[str, Any]]:
    """The rows of ``gold/activity_count`` of one policy, without the run: one for each revision needed, year and area.

    Records of an unknown area count in England only. The records of a year that is not in ``covered`` cannot be assigned to other
    areas, so these have no row of that year. Under ``partial`` coverage there are no rows of England or regions. ``people``
    are those of each (year, area type, area code). A step that the policy does not have is None. An area without records has 0.

    | location | operations | flagged | → area_type | area_code | operations | flagged |
    |----------|------------|---------|-------------|-----------|------------|---------|
    | 15M      | 12         | 5       | england     | E92000001 | 13         | 5       |
    | NULL     | 1          | 0       | icb         | QJ2       | 12         | 5       |
    |          |            |         | sub_icb     | 15M       | 12         | 5       |
    """
    kinds = ("icb", "sub_icb") if partial else ("england", "region", "icb", "sub_icb")
    by_area: dict[tuple[str, str, tuple[str, str]], tuple[int, ...]] = {}
    areas: set[tuple[str, str]] = set()
    members: dict[str | None, list[tuple[str, str]]] = {None: [("england", ENGLAND_ONS)]}
    for code in geography.areas:
        members[code] = [area[:2] for area in members_of(geography, code)]
        areas |= {area for area in members[code] if area[0] in kinds}
    for (policy_id, version, year), by_location in counts.items():
        if policy_id != chain.policy_id:
            continue
        for location, numbers in by_location.items():
            for area in members.get(location, members[None]):
                key = (version, year, area)
                by_area[key] = tuple(map(sum, zip(by_area.get(key, (0,) * len(_STEPS)), numbers, strict=True)))
    covered = set(covered)
    return [
        {
            "policy_id": chain.policy_id,
            "revision": version,
            "revision_at_end": chain.revision_on(end_of(year)),
            "reading": chain.reading,
            YEAR: year,
            "area_type": area[0],
            "area_code": area[1],
            PEOPLE: people.get((year, *area)),
            **{
                step: number if step in chain.steps else None
                for step, number in zip(_STEPS, by_area.get((version, year, area), (0,) * len(_STEPS)), strict=True)
            },
        }
        for version in (IN_FORCE, *chain.others)
        for year in sorted(years)
        for area in sorted(areas)
        if area[0] == "england" or year in covered
    ]


# (revision, year) → a row of gold/activity_count, of one policy and area
AreaCounts = Mapping[tuple[str, str], Mapping[str, Any]]


def by_area(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], dict[tuple[str, str], Mapping[str, Any]]]:
    """The rows of ``gold/activity_count`` of one policy by area type and code."""
    found: dict[tuple[str, str], dict[tuple[str, str], Mapping[str, Any]]] = defaultdict(dict)
    for row in rows:
        found[row["area_type"], row["area_code"]][row["revision"], row[YEAR]] = row
    return found


def change_between(rows: AreaCounts, first: Sequence[str], later: Sequence[str]) -> Change:
    """The change of one policy and area from some years to later ones. The revision in force at the end of the first period is
    applied to both. Counts and people of several years are added up. If the people of any year are missing, the change has no
    factor of people and the note ``no_population``."""
    last = rows[IN_FORCE, first[-1]]
    revision = last["revision_at_end"]
    version = revision if (revision, first[-1]) in rows else IN_FORCE
    steps = [step for step in _STEPS if last[step] is not None]
    names = (OPERATIONS if steps[0] == _STEPS[0] else IN_SCOPE, *steps[1:])

    def sums(of: str, years: Sequence[str], columns: Iterable[str]) -> tuple[int, ...]:
        return tuple(sum(rows[of, year][column] for year in years) for column in columns)

    before, after = (sums(version, years, steps) for years in (first, later))
    (then,), (now,) = (sums(IN_FORCE, years, (FLAGGED,)) for years in (first, later))
    notes: tuple[str, ...] = (NO_POPULATION,)
    if all(rows[IN_FORCE, year][PEOPLE] for year in (*first, *later)):
        before, after = (
            sums(IN_FORCE, years, (PEOPLE,)) + counted for years, counted in ((first, before), (later, after))
        )
        names, notes = (PEOPLE, *names), ()
    periods = (period_of(first), period_of(later))
    area = (last["area_type"], last["area_code"])
    return Change(last["policy_id"], last["reading"], area, periods, revision, before, after, (then, now), names, notes)


def change_of_periods(
    rows: Sequence[Mapping[str, Any]], policy_id: str, area: str, period_from: str, period_to: str
) -> list[dict[str, Any]]:
    """The rows of :func:`change_rows` for any two periods of one policy and area.

    ``rows``: those of ``gold/activity_count`` of the policy. ``area``: ``england``, or a type and a code such as ``icb:QYG``. A
    period is a year or a range of years. Raises an :class:`InputError` for a policy, area or year that ``rows`` do not have, and for
    periods that are not ranges, have a year in common, or are not in order.
    """
    if not rows:
        known = definitions()["chains"]
        hint = "Run `ebi-spark monitor` first. " if policy_id in known else did_you_mean(policy_id, known, 0)
        raise InputError(
            f"the lake has no counts of {policy_id!r}", remedy=f"{hint}Counts are made for {', '.join(known)}"
        )
    first, later = (_range(name, text) for name, text in (("from", period_from), ("to", period_to)))
    if first[-1] >= later[0]:
        raise InputError(
            f"{period_from} and {period_to} have years in common or are not in order",
            remedy="give the earlier period first",
        )
    kind, _, code = area.partition(":")
    areas = by_area(rows)
    own = areas.get(("england", ENGLAND_ONS) if area == "england" else (kind, code))
    if own is None:
        types = sorted({row["area_type"] for row in rows})
        raise InputError(
            f"the lake has no counts of the area {area!r}",
            remedy=f"{did_you_mean(area, ['england', *map(':'.join, areas)])}Write england, or a type and a code such as icb:QYG; the types "
            f"are {', '.join(types)}",
        )
    missing = [year for year in (*first, *later) if (IN_FORCE, year) not in own]
    if missing:
        there = sorted({year for version, year in own if version == IN_FORCE})
        raise InputError(f"the lake has no counts of {missing[0]} for {area}", remedy=f"choose from {', '.join(there)}")
    return change_rows([change_between(own, first, later)])


def _range(name: str, text: str) -> tuple[str, ...]:
    years = parse_years(text)
    if int(years[-1][:4]) - int(years[0][:4]) >= len(years):
        raise InputError(f"{name}: {text} leaves out a year", remedy="write a range such as 2018-19..2020-21")
    return years


def changes(rows: Iterable[Mapping[str, Any]], years: Iterable[str]) -> list[Change]:
    """The changes of every area for the pairs of :func:`pairs_of`, from the rows of ``gold/activity_count`` of one policy."""
    grouped = by_area(rows)
    return [
        change_between(own, (first,), (later,))
        for first, later in pairs_of(years)
        for _, own in sorted(grouped.items())
        if (IN_FORCE, first) in own and (IN_FORCE, later) in own
    ]


def change_rows(found: Sequence[Change]) -> list[dict[str, Any]]:
    """The rows of ``gold/activity_change`` without the run: for each change its factors, the effect of the revision, and both totals.

    The parts of the factors and of the revision add up to the difference of the totals (to 1e-9). The revision's part is how many
    more records the revisions in force flag than the revision that is applied to both periods: this number for the later period,
    less that for the earlier one. ``records`` are flagged records.

    | in_scope | flagged  | → component | value_from | value_to | records |
    |----------|----------|-------------|------------|----------|---------|
    | 100, 120 | 50, 48   | in_scope    | 100        | 120      | 9       |
    |          |          | flagged     | 0.5        | 0.4      | -11     |
    |          |          | revision    |            |          | 0       |
    |          |          | total_from  |            |          | 50      |
    |          |          | total_to    |            |          | 48      |
    """
    rows: list[dict[str, Any]] = []
    by_names: dict[tuple[str, ...], list[Change]] = defaultdict(list)
    for change in found:
        by_names[change.names].append(change)
    for names, group in by_names.items():
        factors = factors_of([change.before for change in group], [change.after for change in group])
        parts = shapley_parts(factors, [change.after[-1] - change.before[-1] for change in group])
        for number, change in enumerate(group):
            common = {
                "policy_id": change.policy_id, "revision": change.revision, "reading": change.reading,
                "area_type": change.area[0], "area_code": change.area[1], "period_from": change.periods[0],
                "period_to": change.periods[1],
            }  # fmt: skip
            then, now = change.in_force
            whole = {
                REVISION: float((now - change.after[-1]) - (then - change.before[-1])),
                TOTAL_FROM: float(then),
                TOTAL_TO: float(now),
            }
            for place, name in enumerate(names):
                undefined = [UNDEFINED] if factors.undefined[number, place] else []
                rows.append(
                    common
                    | {
                        "component": name,
                        "value_from": float(factors.before[number, place]),
                        "value_to": float(factors.after[number, place]),
                        "records": float(parts[number, place]),
                        "notes": [*change.notes, *undefined],
                    }
                )
            rows += [
                common | {"component": name, "records": records, "notes": [*change.notes]}
                for name, records in whole.items()
            ]
    return rows

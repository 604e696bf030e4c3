"""The published tables: figures that may be shared, by release. Tables of monitoring and for BI tools are in modules of their own."""

from collections.abc import Mapping

from ebi_spark.tables.gold import (
    ACTIVITY_MONTH,
    ACTIVITY_RATE,
    POLICY,
    POLICY_ATTRITION,
    POLICY_SENSITIVITY,
    RATE_VARIATION,
)
from ebi_spark.tables.table import POLICY_KEY, YEAR, Table

_RUN_ID = "\n    run_id string -- the run that wrote the row\n"
_RELEASE_ID = "\n    release_id string -- the release that the row belongs to\n"


def _published(columns: str) -> str:
    """The columns of a gold table as published: with the release instead of the run."""
    return _RELEASE_ID + columns.replace(_RUN_ID, "\n")


# What the columns of a rate mean where they are published. Below England they are made from rounded counts.
_OF_PUBLISHED_COUNTS = {
    "activity": "number of flagged records; below England rounded, or NULL where suppressed",
    "in_scope": "number of records with the policy's procedure, flagged or not; below England rounded, or NULL where suppressed",
    "expected": "number of flagged records if England's rates by age and sex applied; below England rounded to 0.5, from 10 on to 1; NULL without a population or a figure for England",
    "crude_rate": "flagged records, as published, per 100,000 people",
    "standardised_rate": "per 100,000 people, as `method` says. England: directly standardised for age and sex. Below England, under a rule with secondary suppression: indirectly standardised, activity / expected x England's rate, all as published; it differs from the direct rate by a few percent",
    "lower": "lower 95% confidence limit of the standardised rate, per 100,000. Of a direct rate: treating all events as independent. Of an indirect one: it holds for every count, expected number and rate of England that would be published as these",
    "standard_error": "standard error of a directly standardised rate with that extra variance, per 100,000",
    "flagged_share": "activity / in_scope as published, at most 1: the share of procedures in scope that are flagged. Below England NULL where its limits are more than 0.5 apart",
    "share_lower": "lower 95% confidence limit of the share (Wilson); below England it holds for every two counts that would be published as these",
    "share_upper": "upper 95% confidence limit of the share, likewise",
    "status": "ok, few_events, no_population, not_calculated, withheld_small or withheld_secondary",
}


def _with_meanings(columns: str, meanings: Mapping[str, str]) -> str:
    """The columns with other meanings for some of them."""
    lines = []
    for line in columns.splitlines():
        declared = line.partition(" -- ")[0]
        name = declared.strip().partition(" ")[0]
        lines.append(f"{declared} -- {meanings[name]}" if name in meanings else line)
    return "\n".join(lines) + "\n"


RATE = Table(
    "published",
    "rate",
    "the activity and rate of one area and period after disclosure control",
    _published(_with_meanings(ACTIVITY_RATE.columns, _OF_PUBLISHED_COUNTS))
    + """
    crude_lower double -- lower 95% confidence limit of the crude rate (exact below 10 records, Byar's from 10); below England it holds for every count that would be published as this one
    crude_upper double -- upper 95% confidence limit of the crude rate, likewise
    disclosure string -- the disclosure rule that was applied
    caveats array<string> -- what to know before using the figure: keys of release.caveats
""",
    partition_by=("release_id", YEAR),
    required=("release_id", *ACTIVITY_RATE.required[:-3], "status", "notes", "disclosure"),
)
VARIATION = Table(
    "published",
    "variation",
    "the variation of the standardised rates between areas of one type in a period, after disclosure control",
    _published(RATE_VARIATION.columns) + "    disclosure string -- the disclosure rule that was applied\n",
    partition_by=("release_id", YEAR),
    required=("release_id", *[name for name in RATE_VARIATION.required if name != "areas_with_activity"], "disclosure"),
)
ATTRITION = Table(
    "published",
    "attrition",
    "one step of a policy's attrition in one year, for England: how many records a clause removes",
    _published(POLICY_ATTRITION.columns) + "    near_miss bigint -- records that fail only this clause\n",
    partition_by=("release_id", YEAR),
    required=("release_id", *POLICY_ATTRITION.required),
)
READING_EFFECT = Table(
    "published",
    "reading_effect",
    "the records that one reading flags in a year, for England, compared with the reading as_published",
    """
    release_id string -- the release that the row belongs to
    policy_id string -- the policy, such as 2Y_back_pain_fusion
    revision string -- the revision of the policy
    reading string -- as_published, as_intended or guidance_coded
    financial_year string -- April to March, such as 2021-22
    in_scope bigint -- records in scope of the policy
    flagged bigint -- records flagged by this reading
    flagged_as_published bigint -- records flagged by the reading as_published
    added bigint -- records flagged by this reading but not by as_published
    removed bigint -- records flagged by as_published but not by this reading
    is_default_reading boolean -- true for the reading that figures are published by
""",
    partition_by=("release_id", YEAR),
    required=("release_id", *POLICY_KEY, YEAR, "in_scope", "flagged", "flagged_as_published", "added", "removed"),
)
SENSITIVITY = Table(
    "published",
    "sensitivity",
    "the effect of reversing one decision of a policy, starting from one reading, in one year, for England",
    _published(POLICY_SENSITIVITY.columns),
    partition_by=("release_id", YEAR),
    required=("release_id", *POLICY_SENSITIVITY.required),
)
QUALITY = Table(
    "published",
    "quality",
    "one measure of data quality in a year, for England",
    """
    release_id string -- the release that the row belongs to
    financial_year string -- April to March, such as 2021-22
    dataset string -- apc (admitted patient care) or op (outpatients)
    policy_id string -- the policy whose records in scope are measured; NULL if all records, or those of all policies, are
    measure string -- records, no_age, area_unknown, area_unmapped, outside_england, quarantined:REASON, …
    records bigint -- rounded to the nearest 100, except for the measure records, which is the total
    of_records bigint -- the total that the measure is a part of
    status string -- ok, withheld_small (suppressed: fewer than 50, or none) or withheld_secondary (suppressed: all but fewer than 50, or all)
""",
    partition_by=("release_id", YEAR),
    required=("release_id", YEAR, "dataset", "measure"),
)
PUBLISHED_ACTIVITY_MONTH = Table(
    "published",
    "activity_month",
    "the records of one month under one policy reading, for England",
    _published(ACTIVITY_MONTH.columns)
    + "    provisional boolean -- one of the latest months of the data set: more records are expected\n"
    + "    pandemic boolean -- one of the months marked as pandemic\n",
    partition_by=("release_id", YEAR),
    required=("release_id", *ACTIVITY_MONTH.required, "provisional", "pandemic"),
)
DAYS_BETWEEN = Table(
    "published",
    "days_between",
    "a group of consecutive months that together have enough flagged records to publish, for England; only for policies too rare for a monthly chart",
    """
    release_id string -- the release that the row belongs to
    policy_id string -- the policy, such as 2Y_back_pain_fusion
    revision string -- the revision of the policy
    reading string -- as_published, as_intended or guidance_coded
    financial_year string -- year of the group's last month
    number int -- place of the group in time order
    events int -- flagged records in the group's months: always more than the disclosure rule suppresses
    month date -- first day of the group's last month
    days int -- number of days in the group's months, which are whole months
    disclosure string -- the disclosure rule that was applied
""",
    partition_by=("release_id", YEAR),
    required=("release_id", *POLICY_KEY, YEAR, "number", "events", "month", "days", "disclosure"),
)
COMPLETENESS = Table(
    "published",
    "completeness",
    "the completeness of one month of a data set, for England or for one provider compared with its own typical month",
    """
    release_id string -- the release that the row belongs to
    dataset string -- apc (admitted patient care) or op (outpatients)
    financial_year string -- April to March, such as 2021-22
    month date -- first day of the month
    area_type string -- england or provider
    area_code string -- E92000001 for England, otherwise the code of the provider
    records bigint -- all records, whatever the procedure; given for England only
    providers bigint -- number of providers that have rows in this table; given for England only
    providers_low bigint -- how many of these have less than half of their typical month; given for England only
    share_of_typical double -- a provider's records divided by those of its typical month of the year, rounded to tenths
    low boolean -- less than half of a typical month; never a pandemic month
    provisional boolean -- one of the latest months of the data set: more records are expected
    pandemic boolean -- one of the months marked as pandemic
    status string -- ok; a provider with fewer than 100 records in a typical month has no rows
    disclosure string -- the disclosure rule that was applied
""",
    partition_by=("release_id", YEAR),
    required=("release_id", "dataset", YEAR, "month", "area_type", "area_code", "provisional", "pandemic", "status",
              "disclosure"),
)  # fmt: skip
PUBLISHED_POLICY = Table(
    "published",
    "policy",
    "a policy revision under one reading, with the source's words for each clause",
    _published(POLICY.columns),
    partition_by=("release_id",),
    required=("release_id", *POLICY.required),
)
RELEASE = Table(
    "published",
    "release",
    "a release: a set of published tables that belong together; exactly one release is current",
    """
    release_id string -- the release
    is_current boolean -- true for the release that readers should use
    released_at timestamp -- when it was released
    run_id string -- the run that published it
    code_version string -- version of ebi-spark
    configuration string -- fingerprint of the configuration file
    disclosure string -- the disclosure rule that was applied
    coverage string -- national, or partial for an extract of a part of England
    data_kind string -- what the records are: real, sample (a part of real records) or synthetic (made up); NULL in releases before this column
    geography string -- version of the geography that the areas belong to
    years array<string> -- financial years in the release
    tables map<string,bigint> -- number of rows of each published table in this release
    versions map<string,bigint> -- Delta version of each published table that has this release
    sources map<string,bigint> -- Delta version of each gold table that the release was made from
    policy_fingerprints map<string,string> -- fingerprint by policy/revision/reading
    caveats map<string,string> -- what to know before using the figures, by key
    disclosure_loss map<string,double> -- always NULL: saying how many suppressed values are small would help to recover them
""",
    required=("release_id", "is_current", "released_at", "run_id"),
)

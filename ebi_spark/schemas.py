"""The tables of a lake: what a row is, its columns and types, its partition, and where it may be read.

Outside programs rely on these columns. ``silver`` and ``gold`` hold records of patients and are restricted;
``published`` holds only what may leave. Columns are nullable in Delta (a NOT NULL violation would print a patient's
row); what must not be null is listed in ``required`` and checked by the gate.
"""

from dataclasses import dataclass

from pyspark.sql.types import DataType, StructType

# What the tables mean together, kept as a property of each. A column that is added needs nothing here: `Lake.migrate` sees
# it. Raise it when a column changes its type or its meaning: lakes under a higher one than the program's are refused.
SCHEMA_VERSION = 2

YEAR = "financial_year"
RECORD_KEY = ("source_system", "dataset", "record_id")
POLICY_KEY = ("policy_id", "revision", "reading")


@dataclass(frozen=True)
class Table:
    """One table of the lake: ``columns`` is Spark DDL, a column a line, each with its meaning behind ``--``."""

    layer: str
    name: str
    row: str
    columns: str
    partition_by: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    # Delta keeps minimum and maximum of these alone, in its log: statistics on every column made writing a third dearer, and
    # in tables of records no column may stand here whose values could tell of a person. (Rules skip by the page index inside
    # each sorted file, not by these.) Without any, Delta takes the first 32 columns.
    statistics: tuple[str, ...] = ()
    # Small tables whose files must stay apart are not compacted.
    compact: bool = True

    @property
    def full_name(self) -> str:
        """``layer/name``, as documents and messages call it."""
        return f"{self.layer}/{self.name}"

    @property
    def schema(self) -> StructType:
        """The columns as a Spark schema, all nullable, meanings as comments."""
        schema = StructType()
        for name, spark_type, meaning in self.fields():
            schema.add(
                name, DataType.fromDDL(spark_type), nullable=True, metadata={"comment": meaning} if meaning else None
            )
        return schema

    def fields(self) -> list[tuple[str, str, str]]:
        """(name, Spark type, meaning) of each column, in order."""
        fields = []
        for line in filter(str.strip, self.columns.splitlines()):
            declared, _, meaning = line.strip().partition(" -- ")
            name, _, spark_type = declared.strip().partition(" ")
            fields.append((name, spark_type.strip(), meaning.strip()))
        return fields

    def names(self) -> list[str]:
        """Column names in order."""
        return [name for name, _, _ in self.fields()]


_RECORD = """
    source_system string -- sus_plus or hes
    dataset string -- apc or op
    record_id string -- the source's own key as bare text; of HES rows before 2012-13 with the year before it, 2010-11/100001
    person_id string -- pseudonymised person; NULL where the source has none
    financial_year string -- April to March, such as 2021-22
    activity_date date -- the date that decides the year: discharge, or appointment
    provider_code string
    commissioner_code string
    gp_practice_code string
    lsoa string -- residence, lower layer super output area: of 2011, or of a census that the source does not name
    sex string -- 1 male, 2 female; everything else as the source has it
    age int -- as the published SQL sees it, baby codes and impossible ages included
    age_years int -- completed years; baby codes 0, above 120 NULL
    administrative_category string -- 01 NHS, 02 private, 03 amenity, 04 category II
    diagnosis_codes string -- ICD-10, ,E119,J849,|,I801, : a comma before and after each code, | between episodes
    procedure_codes string -- OPCS-4 in the same form; NULL when there is none
    treatment_function string
    lsoa_2021 string -- residence by the areas of 2021; NULL in rows that an older version wrote
    lsoa_2001 string -- residence by the areas of 2001 (HES alone)
    gp_practice_sus string -- the practice as SUS derived it (SUS+ alone)
"""
_LINEAGE = """
    cleaned array<string> -- field:kind of each value that reading changed (blank, null_text, case, dots, padding, sentinel)
    extract_date date -- of the extract that the record stands in, where the source or the configuration says
    content bigint -- hash of the values above but `cleaned`: tells whether two extracts say the same
    source_file string
    run_id string
"""

APC_SPELL = Table(
    "silver",
    "apc_spell",
    "a hospital provider spell of an admitted patient",
    _RECORD
    + """
    admission_date date
    discharge_date date
    admission_method string
    discharge_method string
    patient_classification string
    dominant_procedure string -- the whole code, upper case, no dots
    dominant_procedure_4 string -- its first four characters, which rules test; rows are sorted by it
    primary_diagnosis string
    dominance_basis string -- what dominant procedure and primary diagnosis rest on
    incomplete_spell boolean -- HES: an episode of the spell stands in a file that was not read
    episodes int -- source rows that made the spell
"""
    + _LINEAGE,
    partition_by=(YEAR,),
    required=(*RECORD_KEY, YEAR, "dominance_basis", "source_file", "run_id"),
    statistics=("activity_date",),
)
OP_ATTENDANCE = Table(
    "silver",
    "op_attendance",
    "an outpatient attendance or appointment",
    _RECORD
    + """
    attendance_status string -- 5 and 6 attended
    first_attendance string
    referral_source string
"""
    + _LINEAGE,
    partition_by=(YEAR,),
    required=(*RECORD_KEY, YEAR, "source_file", "run_id"),
    statistics=("activity_date",),
)
QUARANTINE = Table(
    "silver",
    "quarantine",
    "a source row that cannot be used, with every reason",
    """
    source_system string
    dataset string
    role string -- the source table: apcs, apcs_der, opa, apc, op
    record_id string -- as far as known
    financial_year string -- as far as known, else unknown
    reasons array<string>
    source_file string
    raw string -- the row as JSON text
    extract_date date -- of the extract that the row stands in, as far as known
    run_id string
""",
    partition_by=(YEAR,),
    required=("source_system", "dataset", "role", YEAR, "reasons", "source_file", "raw", "run_id"),
    statistics=("dataset", "source_file"),
)
REPEATED_ROW = Table(
    "silver",
    "repeated_row",
    "a source row of the last ingest whose key stands in more than one row of its table, as read",
    """
    source_system string
    role string -- the source table: apcs, apcs_der, opa, apc, op
    record_id string
    conflict boolean -- rows of the key differ and no extract date says which is right: one of each content is in quarantine
    is_duplicate boolean -- a further copy, or superseded by a later extract: left out
    differs_elsewhere boolean -- a further copy that differs in columns that no record takes
    fields map<string,string> -- the row's columns, under the names of the canonical records
    lists map<string,array<string>> -- its runs of numbered columns
    raw_names array<string> -- the table's own column names
    raw_values array<string>
    content bigint -- hash of the row but its extract date
    source_file string
    file_bytes bigint
    file_modified timestamp
    run_id string
""",
    required=("source_system", "role", "record_id", "conflict", "is_duplicate", "content", "source_file", "run_id"),
    statistics=("role",),
)
INGEST_AUDIT = Table(
    "silver",
    "ingest_audit",
    "what became of the rows of one source file in one run",
    """
    run_id string
    source_system string
    dataset string
    role string
    source_file string
    file_bytes bigint
    file_modified timestamp
    rows_read bigint -- always rows_valid + rows_quarantined + rows_duplicate + rows_outside_years
    rows_valid bigint
    rows_quarantined bigint
    rows_aside_before bigint -- of the rows set aside: that stood in quarantine word for word, and were not written again
    rows_duplicate bigint -- further copies, and rows that a later extract supersedes
    rows_differing_elsewhere bigint -- of the duplicates: copies that differ in columns that no record takes
    rows_outside_years bigint -- of years that the run was not asked for
    records_built bigint -- spells or attendances that this run wrote of the valid rows
    records_unchanged bigint -- that the lake held already, word for word: not written again
    records_older bigint -- upsert: that the lake holds of a later extract, or knows to be withdrawn since
    records_withdrawn bigint -- upsert: taken out of the lake because this file lists their keys
    rows_checksum string -- of the records that came of the file, whatever their order; NULL where none did
    year_disagrees bigint -- rows whose year column says another year than the date
    reasons map<string,bigint> -- rows by reason of quarantine
    cleaned map<string,bigint> -- values that reading changed, by field:kind
    columns_missing array<string> -- optional columns that the file does not have
    columns_extra array<string> -- columns that nothing reads
    column_notes array<string> -- columns that mean the same thing and which of them is read, and gaps in numbered ones
    written_at timestamp
""",
    required=("run_id", "source_system", "dataset", "role", "source_file", "rows_read", "rows_valid",
              "rows_quarantined", "rows_duplicate", "rows_outside_years"),
)  # fmt: skip
WITHDRAWN_RECORD = Table(
    "silver",
    "withdrawn_record",
    "a key that a source has withdrawn, with the latest extract that says so",
    """
    source_system string
    dataset string
    record_id string
    extract_date date -- records of this extract and of earlier ones are out
    source_file string
    run_id string
""",
    required=("source_system", "dataset", "record_id", "extract_date", "source_file", "run_id"),
    statistics=("dataset",),
)
POPULATION = Table(
    "silver",
    "population",
    "people of one area, sex and age band on one day, as a population file has them",
    """
    vintage date -- the day of which the count is
    area_type string -- sub_icb
    area_code string -- as the file names it, in the NHS's short form
    geography string -- the version whose areas these are; empty where only the user's mappings know them
    area_date date -- the day on which the area's code is to be read
    sex string -- 1 male, 2 female
    age_from int -- completed years
    age_to int -- inclusive; NULL for 90 and over
    people bigint
    source string -- the file's name
    run_id string
""",
    required=("vintage", "area_type", "area_code", "geography", "area_date", "sex", "age_from", "people", "source"),
)
ACTIVITY_FLAG = Table(
    "gold",
    "activity_flag",
    "a record in scope of a policy, judged under one revision and reading",
    """
    policy_id string
    revision string
    reading string -- as_published, as_intended or guidance_coded
    policy_fingerprint string
    back_cast boolean -- the record is older than the policy's first revision
    source_system string
    dataset string
    record_id string
    person_id string
    financial_year string
    activity_date date
    provider_code string
    commissioner_code string
    area_code string -- sub-ICB location or CCG, as the source names it; NULL where unknown
    area_date date -- the day on which the area's code is to be read; NULL without a code
    latest_area_code string -- where the newest rows of the lookups put the practice, else the residence
    area_basis string -- gp_practice, residence, commissioner, outside_england or unknown
    sex string
    age int
    age_years int
    outcome string -- flagged or not_flagged
    failed_clauses array<string> -- every clause that kept the record from being flagged
    missing_clauses array<string> -- every clause that could not be decided, passed or not
    near_miss boolean -- exactly one clause failed
    decisive_decisions array<string> -- decisions that, flipped alone, turn the outcome; none for guidance_coded, no base
    run_id string
""",
    partition_by=(YEAR,),
    required=(*POLICY_KEY, "policy_fingerprint", *RECORD_KEY, YEAR, "area_basis", "outcome", "failed_clauses",
              "missing_clauses", "near_miss", "run_id"),
    statistics=("policy_id", "reading", "dataset"),
)  # fmt: skip
POLICY = Table(
    "gold",
    "policy",
    "a policy revision under one reading",
    """
    policy_id string
    revision string
    reading string
    is_default_reading boolean
    dataset string
    title string
    publisher string
    source string -- the page or document
    in_force_from date
    in_force_to date -- exclusive; NULL while in force
    in_force_dated string -- how the source gives the day: stated, month (its first day is taken) or inferred
    extends string -- the national policy that a local one extends; NULL for a national policy
    boards array<string> -- integrated care boards whose patients alone it is for; NULL for a national policy
    policy_fingerprint string
    publish_years int -- how many years each figure below England is of: single years, or windows that do not overlap
    publish_first_year string -- one of these windows begins with it, so that they never shift
    clauses array<struct<clause_id:string,step:int,kind:string,words:string,test:string,missing:string,coding:string,decision:string,because:string>>
    definition string -- the whole definition as JSON text
    run_id string
""",
    required=(*POLICY_KEY, "policy_fingerprint", "publish_years", "publish_first_year", "definition"),
)
POLICY_ATTRITION = Table(
    "gold",
    "policy_attrition",
    "one step of a policy's waterfall in one year; step 0 is the scope, over all records of the dataset",
    """
    policy_id string
    revision string
    reading string
    financial_year string
    step int
    clause_id string
    records_in bigint -- always records_failed + records_missing + records_left
    records_failed bigint
    records_missing bigint -- dropped on NULL only
    records_left bigint
    run_id string
""",
    partition_by=(YEAR,),
    required=(
        *POLICY_KEY,
        YEAR,
        "step",
        "clause_id",
        "records_in",
        "records_failed",
        "records_missing",
        "records_left",
    ),
)
POLICY_SENSITIVITY = Table(
    "gold",
    "policy_sensitivity",
    "one decision of a policy flipped alone from one reading in one year; effects need not add up",
    """
    policy_id string
    revision string
    base_reading string -- as_published or as_intended
    decision string
    source string -- the reading that makes the decision, or sensitivity
    direction string -- made where the base does not make it, undone where it does
    clause_id string -- the clause that the decision adds or changes
    financial_year string
    in_scope bigint
    flagged bigint -- by the base reading
    flagged_flipped bigint -- always flagged + added - removed
    added bigint
    removed bigint
    words string -- of the source
    because string
    run_id string
""",
    partition_by=(YEAR,),
    required=("policy_id", "revision", "base_reading", "decision", "source", "direction", YEAR, "in_scope", "flagged",
              "flagged_flipped", "added", "removed"),
)  # fmt: skip
POLICY_COMPARISON = Table(
    "gold",
    "policy_comparison",
    "records of a year that a local policy and the national one judge apart, by the clause that keeps them unflagged",
    """
    policy_id string -- the local policy
    revision string
    reading string
    national_policy_id string
    financial_year string
    direction string -- national_only: flagged by the national policy alone; local_only: by the local alone
    clause_id string -- of the policy that does not flag them
    records bigint -- kept by this clause, among others perhaps
    records_alone bigint -- kept by this clause alone
    records_differing bigint -- of this direction, by whatever clause
    records_compared bigint -- in scope of both
    run_id string
""",
    partition_by=(YEAR,),
    required=(*POLICY_KEY, "national_policy_id", YEAR, "direction", "clause_id", "records", "records_alone",
              "records_differing", "records_compared"),
)  # fmt: skip
_RATE_KEY = """
    policy_id string
    revision string
    reading string
    financial_year string -- the last year of a pooled period
    period_years int
    period string -- such as 2021-22, or 2019-20..2021-22
    area_type string -- england, region, icb, sub_icb or provider
"""
ACTIVITY_RATE = Table(
    "gold",
    "activity_rate",
    "flagged activity of an area and period under one policy reading",
    _RATE_KEY
    + """
    area_code string
    area_name string
    activity bigint -- flagged records
    in_scope bigint -- records with the policy's procedure, flagged or not
    people_flagged bigint -- distinct persons among the flagged records that have one
    activity_unknown_age_sex bigint -- flagged records without age or sex: in the crude rate only
    population bigint -- people of all ages; over a pooled period person-years
    population_vintage date -- of a pooled period the newest
    standard_population string
    expected double -- records flagged at England's rates by sex and age; NULL without population or England
    crude_rate double -- per 100,000
    standardised_rate double -- directly standardised by age and sex, per 100,000
    lower double -- 95% limits of the standardised rate, per 100,000, every event independent
    upper double
    lower_adjusted double -- the same limits, with the variance of people who have several events
    upper_adjusted double
    standard_error double -- of the directly standardised rate, with that variance; per 100,000
    flagged_share double -- activity / in_scope: the flagged among all procedures in scope
    share_lower double -- 95% limits of the share (Wilson)
    share_upper double
    method string
    status string -- ok, few_events, no_population or not_calculated
    notes array<string> -- distant_vintage, partial_population, unusual_population, back_cast, partial_year, partial_coverage, local_policy, split_estimate, unmapped_part, …
    coverage string -- national, or partial: an extract of one board
    geography string -- the version whose areas these are
    run_id string
""",
    partition_by=(YEAR,),
    required=(*POLICY_KEY, YEAR, "period_years", "period", "area_type", "area_code", "activity", "status", "notes"),
    compact=False,
)
RATE_VARIATION = Table(
    "gold",
    "rate_variation",
    "how the standardised rates of one type of area vary in a period",
    _RATE_KEY
    + """
    areas bigint
    areas_with_activity bigint
    p10 double -- over areas with activity, unweighted, linear interpolation
    p25 double
    p50 double
    p75 double
    p90 double
    n_fold double -- p90 / p10 before rounding; NULL when p10 is 0
    all_areas_p10 double -- the same over all areas, those without activity included
    all_areas_p25 double
    all_areas_p50 double
    all_areas_p75 double
    all_areas_p90 double
    opportunity double -- records above the 25th percentile's rate, summed over areas
    opportunity_share double -- of the areas' activity
    status string -- ok or not_calculated
    notes array<string>
    coverage string
    geography string
    run_id string
""",
    partition_by=(YEAR,),
    required=(*POLICY_KEY, YEAR, "period_years", "period", "area_type", "areas", "areas_with_activity", "status"),
    compact=False,
)
ACTIVITY_MONTH = Table(
    "gold",
    "activity_month",
    "a policy reading's records of one month, of the whole of England (under partial coverage: of the extract)",
    """
    policy_id string
    revision string
    reading string
    financial_year string
    month date -- its first day; NULL for records without a date
    activity bigint -- flagged records
    in_scope bigint
    run_id string
""",
    partition_by=(YEAR,),
    required=(*POLICY_KEY, YEAR, "activity", "in_scope"),
)
PROVIDER_MONTH = Table(
    "gold",
    "provider_month",
    "the records of a provider in one month, beside its typical month of the year",
    """
    dataset string
    financial_year string
    provider_code string -- NULL for records without one
    month date -- its first day; only months in which the data set has a record
    records bigint -- of all procedures, not of a policy
    provisional boolean -- among the latest months of the data set: records are still to come
    pandemic boolean
    typical_month double -- median of the provider's months with records in the year, marked ones left out
    share_of_typical double
    low boolean -- less than half of a typical month of 20 records or more
    run_id string
""",
    partition_by=(YEAR,),
    required=("dataset", YEAR, "month", "records", "provisional", "pandemic", "typical_month", "low"),
)
UNMAPPED_AREA = Table(
    "gold",
    "unmapped_area",
    "a code of records in scope that is no area of the version shown: they count in England only",
    """
    dataset string
    financial_year string
    code_kind string -- what the code stands for: gp_practice, residence (their area in the lookup) or commissioner
    code string
    reason string -- unmapped: nothing says what area it is; not_valid_on_date: it is one on other days
    records bigint
    geography string -- the version shown
    run_id string
""",
    partition_by=(YEAR,),
    required=("dataset", YEAR, "code_kind", "code", "reason", "records", "geography"),
)
RECORD_QUALITY = Table(
    "gold",
    "record_quality",
    "one measure of what the records of a data set and year hold, whatever policy they are of",
    """
    dataset string
    financial_year string
    measure string -- records, no_person, no_age, no_procedure, procedure_not_applicable, procedure_without_code, …
    records bigint
    of_records bigint -- all records of the data set and year
    run_id string
""",
    partition_by=(YEAR,),
    required=("dataset", YEAR, "measure", "records", "of_records"),
)
RUN_LOG = Table(
    "gold",
    "run_log",
    "one stage of one run",
    """
    run_id string
    stage string
    started_at timestamp
    ended_at timestamp
    outcome string -- done, failed or broken
    years array<string>
    rows bigint
    code_version string
    configuration string -- fingerprint of the configuration file
    versions_read map<string,bigint> -- Delta version of each table read
    versions_written map<string,bigint>
    details map<string,string> -- further facts as text, never a patient's value
""",
    required=("run_id", "stage", "started_at", "outcome"),
)


def _published(columns: str) -> str:
    return "\n    release_id string\n" + columns.replace("\n    run_id string\n", "\n")


RATE = Table(
    "published",
    "rate",
    "a rate after disclosure control",
    _published(
        ACTIVITY_RATE.columns.replace(
            "status string -- ok, few_events, no_population or not_calculated",
            "status string -- ok, few_events, no_population, not_calculated, withheld_small or withheld_secondary",
        )
    )
    + "    disclosure string -- the rule applied\n    caveats array<string> -- keys of conf/caveats.yml\n",
    partition_by=("release_id", YEAR),
    required=("release_id", *ACTIVITY_RATE.required[:-3], "status", "notes", "disclosure"),
)
VARIATION = Table(
    "published",
    "variation",
    "the variation between areas after disclosure control",
    _published(RATE_VARIATION.columns) + "    disclosure string\n",
    partition_by=("release_id", YEAR),
    required=("release_id", *[name for name in RATE_VARIATION.required if name != "areas_with_activity"], "disclosure"),
)
ATTRITION = Table(
    "published",
    "attrition",
    "one step of a policy's waterfall in one year, national",
    _published(POLICY_ATTRITION.columns) + "    near_miss bigint -- records that failed this clause alone\n",
    partition_by=("release_id", YEAR),
    required=("release_id", *POLICY_ATTRITION.required),
)
READING_EFFECT = Table(
    "published",
    "reading_effect",
    "what one reading flags in a year, national, beside the policy as published",
    """
    release_id string
    policy_id string
    revision string
    reading string
    financial_year string
    in_scope bigint
    flagged bigint
    flagged_as_published bigint
    added bigint -- flagged under this reading, not as published
    removed bigint -- flagged as published, not under this reading
    is_default_reading boolean
""",
    partition_by=("release_id", YEAR),
    required=("release_id", *POLICY_KEY, YEAR, "in_scope", "flagged", "flagged_as_published", "added", "removed"),
)
SENSITIVITY = Table(
    "published",
    "sensitivity",
    "one decision of a policy flipped alone from one reading in one year, national",
    _published(POLICY_SENSITIVITY.columns),
    partition_by=("release_id", YEAR),
    required=("release_id", *POLICY_SENSITIVITY.required),
)
QUALITY = Table(
    "published",
    "quality",
    "one national measure of the data's quality in a year",
    """
    release_id string
    financial_year string
    dataset string
    policy_id string -- the policy whose records in scope are measured; NULL: of all records, or of all policies
    measure string -- records, no_age, area_unknown, area_unmapped, outside_england, quarantined:REASON, …
    records bigint -- to the nearest 100, but for the totals (records)
    of_records bigint -- what the measure is a part of
    status string -- ok, withheld_small (fewer than 50, or none) or withheld_secondary (all but fewer than 50, or all)
""",
    partition_by=("release_id", YEAR),
    required=("release_id", YEAR, "dataset", "measure"),
)
PUBLISHED_ACTIVITY_MONTH = Table(
    "published",
    "activity_month",
    "a policy reading's records of one month, national",
    _published(ACTIVITY_MONTH.columns)
    + "    provisional boolean -- among the latest months of the data set: records are still to come\n"
    + "    pandemic boolean\n",
    partition_by=("release_id", YEAR),
    required=("release_id", *ACTIVITY_MONTH.required, "provisional", "pandemic"),
)
DAYS_BETWEEN = Table(
    "published",
    "days_between",
    "months that follow one another with enough flagged records together, national, of a policy too rare for a chart by month",
    """
    release_id string
    policy_id string
    revision string
    reading string
    financial_year string -- of the group's last month
    number int -- groups in the order of their months
    events int -- records in the group's months: more than the disclosure rule withholds
    month date -- first day of the group's last month
    days int -- of the group's months, which are whole
    disclosure string
""",
    partition_by=("release_id", YEAR),
    required=("release_id", *POLICY_KEY, YEAR, "number", "events", "month", "days", "disclosure"),
)
COMPLETENESS = Table(
    "published",
    "completeness",
    "how complete a month of a data set is: England's, and a provider's against its own typical month",
    """
    release_id string
    dataset string
    financial_year string
    month date -- its first day
    area_type string -- england or provider
    area_code string
    records bigint -- of all procedures; England's alone
    providers bigint -- providers that have rows; England's row
    providers_low bigint -- of these, with less than half of their typical month; England's row
    share_of_typical double -- a provider's records by its typical month of the year, in tenths
    low boolean -- less than half of it
    provisional boolean -- among the latest months of the data set: records are still to come
    pandemic boolean
    status string -- ok; providers with fewer than 100 records in a typical month have no rows
    disclosure string
""",
    partition_by=("release_id", YEAR),
    required=("release_id", "dataset", YEAR, "month", "area_type", "area_code", "provisional", "pandemic", "status",
              "disclosure"),
)  # fmt: skip
PUBLISHED_POLICY = Table(
    "published",
    "policy",
    "a policy revision under one reading, with the words behind each clause",
    _published(POLICY.columns),
    partition_by=("release_id",),
    required=("release_id", *POLICY.required),
)
RELEASE = Table(
    "published",
    "release",
    "a release; exactly one is current",
    """
    release_id string
    is_current boolean
    released_at timestamp
    run_id string
    code_version string
    configuration string
    disclosure string
    coverage string
    geography string -- the version whose areas the figures are of
    years array<string>
    tables map<string,bigint> -- rows of each published table in this release
    versions map<string,bigint> -- Delta version of each published table that holds it
    sources map<string,bigint> -- Delta version of each gold table that it was made from
    policy_fingerprints map<string,string> -- policy/revision/reading: fingerprint
    caveats map<string,string> -- what every figure says of itself, by key
    disclosure_loss map<string,double> -- always NULL: how many of the withheld are small would narrow what they can be
""",
    required=("release_id", "is_current", "released_at", "run_id"),
)

# The silver table of each dataset's records.
RECORD_TABLES = {"apc": APC_SPELL, "op": OP_ATTENDANCE}

TABLES: dict[str, Table] = {
    table.full_name: table
    for table in (
        APC_SPELL, OP_ATTENDANCE, QUARANTINE, REPEATED_ROW, WITHDRAWN_RECORD, INGEST_AUDIT, POPULATION,
        ACTIVITY_FLAG, POLICY, POLICY_ATTRITION, POLICY_SENSITIVITY, POLICY_COMPARISON, ACTIVITY_RATE, RATE_VARIATION,
        ACTIVITY_MONTH, PROVIDER_MONTH, UNMAPPED_AREA, RECORD_QUALITY, RUN_LOG,
        RATE, VARIATION, ATTRITION, READING_EFFECT, SENSITIVITY, QUALITY, PUBLISHED_ACTIVITY_MONTH, DAYS_BETWEEN,
        COMPLETENESS, PUBLISHED_POLICY, RELEASE,
    )
}  # fmt: skip

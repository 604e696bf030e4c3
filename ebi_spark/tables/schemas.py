"""The tables of a lake: what a row is, which columns it has, how the table is partitioned, and which layer it is in.

Other programs rely on these columns. ``silver`` and ``gold`` have patients' records and are restricted; ``published``
has only figures that may be shared. Every column is nullable in Delta, because the error for a broken NOT NULL
constraint would print a patient's row. Columns that must not be null are listed in ``required``, and validation checks
them.
"""

from collections.abc import Mapping

from ebi_spark.tables.monitoring import MONITORING_TABLES, PUBLISHED_MONITORING
from ebi_spark.tables.star import STAR_TABLES
from ebi_spark.tables.table import POLICY_KEY, RECORD_KEY, SCHEMA_VERSION, UNKNOWN_YEAR, YEAR, Table

__all__ = ["POLICY_KEY", "RECORD_KEY", "SCHEMA_VERSION", "UNKNOWN_YEAR", "YEAR", "Table"]

_RECORD = """
    source_system string -- sus_plus or hes
    dataset string -- apc (admitted patient care) or op (outpatients)
    record_id string -- the source's own key as text; HES keys before 2012-13 start with the year, such as 2010-11/100001
    person_id string -- pseudonymised person; NULL if the source has none
    financial_year string -- April to March, such as 2021-22
    activity_date date -- the date that decides the year: discharge date (apc) or appointment date (op)
    provider_code string -- the organisation that gave the care, as the source has it
    commissioner_code string -- the organisation that pays for the care, as the source has it
    gp_practice_code string -- the patient's GP practice
    lsoa string -- small area (LSOA) of the home address: of the 2011 census, or of a census that the source does not name
    sex string -- 1 male, 2 female; any other value is as in the source
    age int -- the age that the published SQL uses: baby codes (7000 and above) and impossible ages are not corrected
    age_years int -- age in completed years: baby codes become 0, ages above 120 become NULL
    administrative_category string -- 01 NHS, 02 private, 03 amenity, 04 category II
    diagnosis_codes string -- ICD-10 codes, such as ,E119,J849,|,I801, with a comma before and after each code and | between episodes
    procedure_codes string -- OPCS-4 codes in the same form; NULL if there are none
    treatment_function string -- the specialty that treated the patient
    lsoa_2021 string -- small area (LSOA) of the home address, 2021 census; NULL in rows written by older versions
    lsoa_2001 string -- small area (LSOA) of the home address, 2001 census (HES only)
    gp_practice_sus string -- the GP practice as derived by SUS (SUS+ only)
"""
_LINEAGE = """
    cleaned array<string> -- field:kind of each value that cleaning changed (blank, null_text, case, dots, padding, sentinel)
    extract_date date -- date of the extract that has the record; NULL if neither source nor configuration gives it
    content bigint -- hash of all columns above except `cleaned`, to see whether two extracts agree
    source_file string -- path of the source file that has the record
    run_id string -- the run that wrote the row
"""

APC_SPELL = Table(
    "silver",
    "apc_spell",
    "a hospital provider spell of an admitted patient",
    _RECORD
    + """
    admission_date date -- first day of the spell
    discharge_date date -- last day of the spell
    admission_method string -- how the patient was admitted, as the source codes it (11 to 13: elective)
    discharge_method string -- how the spell ended, as the source codes it
    patient_classification string -- day case, regular attender or other, as the source codes it
    dominant_procedure string -- the procedure that represents the whole spell: OPCS-4, upper case, no dots
    dominant_procedure_4 string -- its first four characters, which policies test; rows are sorted by it
    primary_diagnosis string -- the main condition treated: ICD-10, upper case, no dots
    dominance_basis string -- how dominant procedure and primary diagnosis were found
    incomplete_spell boolean -- HES: an episode of the spell is in a file that was not read
    episodes int -- number of source rows that make up the spell
    procedure_date date -- day of the dominant procedure, where the source table has one
    admission_source string -- where the patient came from, as the source codes it; HES: of the first episode
    discharge_destination string -- where the patient went, as the source codes it; HES: of the last episode
    provider_spell_number string -- the provider's own number of the spell, by which it finds the case notes
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
    attendance_status string -- 5 and 6: the patient attended
    first_attendance string -- whether it is a first or follow-up attendance, as the source has it
    referral_source string -- who referred the patient, as the source has it
"""
    + _LINEAGE,
    partition_by=(YEAR,),
    required=(*RECORD_KEY, YEAR, "source_file", "run_id"),
    statistics=("activity_date",),
)
QUARANTINE = Table(
    "silver",
    "quarantine",
    "a source row that cannot be used, with every reason why",
    """
    source_system string -- sus_plus or hes
    dataset string -- apc (admitted patient care) or op (outpatients)
    role string -- the source table, such as apcs, apcs_der, opa, apc, op
    record_id string -- the source's own key; NULL if it could not be read
    financial_year string -- such as 2021-22; the word unknown if it could not be decided
    reasons array<string> -- every reason why the row cannot be used
    source_file string -- path of the source file that has the row
    raw string -- the whole source row as JSON text
    extract_date date -- date of the extract that has the row; NULL if unknown
    run_id string -- the run that wrote the row
""",
    partition_by=(YEAR,),
    required=("source_system", "dataset", "role", YEAR, "reasons", "source_file", "raw", "run_id"),
    statistics=("dataset", "source_file"),
)
REPEATED_ROW = Table(
    "silver",
    "repeated_row",
    "a source row of the last ingest whose key is on more than one row of its source table, as it was read",
    """
    source_system string -- sus_plus or hes
    role string -- the source table, such as apcs, apcs_der, opa, apc, op
    record_id string -- the key
    conflict boolean -- rows with this key differ and no extract date shows which is right: one row of each version is quarantined
    is_duplicate boolean -- left out: a repeat of a row that was kept, or replaced by a later extract
    differs_elsewhere boolean -- a duplicate that differs from the kept row, but only in columns that silver does not keep
    fields map<string,string> -- the row's values, by our column names
    lists map<string,array<string>> -- its numbered columns (diagnosis, operation) as lists
    raw_names array<string> -- the column names of the source file
    raw_values array<string> -- the values in those columns
    content bigint -- hash of the whole row except its extract date
    source_file string -- path of the source file that has the row
    file_bytes bigint -- size of that file
    file_modified timestamp -- when that file was last changed
    run_id string -- the run that wrote the row
""",
    required=("source_system", "role", "record_id", "conflict", "is_duplicate", "content", "source_file", "run_id"),
    statistics=("role",),
)
INGEST_AUDIT = Table(
    "silver",
    "ingest_audit",
    "one source file in one run: how many rows were read and what happened to them",
    """
    run_id string -- the run that read the file
    source_system string -- sus_plus or hes
    dataset string -- apc (admitted patient care) or op (outpatients)
    role string -- the source table, such as apcs, apcs_der, opa, apc, op
    source_file string -- path of the file
    file_bytes bigint -- size of the file
    file_modified timestamp -- when the file was last changed
    rows_read bigint -- always rows_valid + rows_quarantined + rows_duplicate + rows_outside_years
    rows_valid bigint -- rows that can be used
    rows_quarantined bigint -- rows that cannot be used
    rows_aside_before bigint -- quarantined rows that were already in quarantine with the same content, so not written again
    rows_duplicate bigint -- repeats of a row that was kept, and rows replaced by a later extract
    rows_differing_elsewhere bigint -- duplicates that differ from the kept row, but only in columns that silver does not keep
    rows_outside_years bigint -- rows of years that the run was not asked for
    records_built bigint -- spells or attendances that this run wrote from the valid rows
    records_unchanged bigint -- records not written because the lake already has the same content
    records_older bigint -- upsert: records not written because the lake has a later extract of them, or they were withdrawn since
    records_withdrawn bigint -- upsert: records removed from the lake because this file lists their keys
    rows_checksum string -- checksum of the records made from the file, in any order; NULL if none were made
    year_disagrees bigint -- rows whose year column disagrees with the date that decides the year
    reasons map<string,bigint> -- quarantined rows by reason
    cleaned map<string,bigint> -- number of values that cleaning changed, by field:kind
    columns_missing array<string> -- optional columns that the file does not have
    columns_extra array<string> -- columns of the file that are not used
    column_notes array<string> -- columns with the same meaning and which of them was read, and gaps in numbered columns
    written_at timestamp -- when this row was written
""",
    required=("run_id", "source_system", "dataset", "role", "source_file", "rows_read", "rows_valid",
              "rows_quarantined", "rows_duplicate", "rows_outside_years"),
)  # fmt: skip
WITHDRAWN_RECORD = Table(
    "silver",
    "withdrawn_record",
    "a key that a source has withdrawn, with the latest extract that lists it",
    """
    source_system string -- sus_plus or hes
    dataset string -- apc (admitted patient care) or op (outpatients)
    record_id string -- the key
    extract_date date -- a record with this key from this extract or an earlier one is removed
    source_file string -- path of the list of withdrawn keys
    run_id string -- the run that wrote the row
""",
    required=("source_system", "dataset", "record_id", "extract_date", "source_file", "run_id"),
    statistics=("dataset",),
)
POPULATION = Table(
    "silver",
    "population",
    "the number of people of one area, sex and age band on one day, from a population file",
    """
    vintage date -- the day that the count is for
    area_type string -- sub_icb
    area_code string -- the area in the file, as a short NHS code
    geography string -- version of the geography that the area belongs to; empty if only your own mappings have the area
    area_date date -- the day on which the area code is looked up
    sex string -- 1 male, 2 female
    age_from int -- youngest age of the band, in completed years
    age_to int -- oldest age of the band; NULL for 90 and over
    people bigint -- number of people
    source string -- name of the population file
    run_id string -- the run that wrote the row
""",
    required=("vintage", "area_type", "area_code", "geography", "area_date", "sex", "age_from", "people", "source"),
)
ACTIVITY_FLAG = Table(
    "gold",
    "activity_flag",
    "a record in scope of a policy, with its outcome under one revision and reading",
    """
    policy_id string -- the policy, such as 2Y_back_pain_fusion
    revision string -- the revision of the policy
    reading string -- as_published, as_intended or guidance_coded
    policy_fingerprint string -- changes when the definition of the policy revision and reading changes
    back_cast boolean -- the record is older than the policy's first revision, which is applied to it all the same
    source_system string -- sus_plus or hes
    dataset string -- apc (admitted patient care) or op (outpatients)
    record_id string -- key of the record in silver
    person_id string -- pseudonymised person; NULL if the source has none
    financial_year string -- April to March, such as 2021-22
    activity_date date -- the date that decides the year: discharge date (apc) or appointment date (op)
    provider_code string -- the organisation that gave the care
    commissioner_code string -- the organisation that pays for the care
    area_code string -- sub-ICB location or CCG, before it is mapped to the geography shown; NULL if unknown
    area_date date -- the day on which the area code is looked up; NULL if there is no area code
    latest_area_code string -- area of the practice, otherwise of the residence, by the newest rows of the lookups
    area_basis string -- what gave the area: gp_practice, residence, commissioner, outside_england or unknown
    sex string -- 1 male, 2 female; any other value is as in the source
    age int -- the age that the published SQL uses, not corrected
    age_years int -- age in completed years: baby codes become 0, ages above 120 become NULL
    outcome string -- flagged or not_flagged
    failed_clauses array<string> -- every clause that kept the record from being flagged
    missing_clauses array<string> -- every clause that could not be decided because a value is missing, whether it passed or failed
    near_miss boolean -- exactly one clause failed
    decisive_decisions array<string> -- decisions that change the outcome if that one decision is reversed; empty for guidance_coded
    run_id string -- the run that wrote the row
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
    policy_id string -- the policy, such as 2Y_back_pain_fusion
    revision string -- the revision of the policy
    reading string -- as_published, as_intended or guidance_coded
    is_default_reading boolean -- true for the reading that figures are published by
    dataset string -- apc (admitted patient care) or op (outpatients)
    title string -- title of the policy
    publisher string -- who published the policy
    source string -- the page or document
    in_force_from date -- first day of the revision
    in_force_to date -- first day on which the revision no longer applies; NULL while in force
    in_force_dated string -- how the source gives the first day: stated, month (the first of the month is used) or inferred
    extends string -- the national policy that a local policy extends; NULL for a national policy
    boards array<string> -- ICBs whose patients a local policy is for; NULL for a national policy
    policy_fingerprint string -- changes when the definition of the policy revision and reading changes
    publish_years int -- number of years in each figure published below England: 1, or more for periods that do not overlap
    publish_first_year string -- a year with which one of these periods begins; it fixes all the others
    target double -- the standardised rate to reach, per 100,000; NULL if the policy has no target
    clauses array<struct<clause_id:string,step:int,kind:string,words:string,test:string,missing:string,coding:string,decision:string,because:string>> -- each clause: words are the source's own, test is what is applied, because is our reason
    definition string -- the whole policy definition as JSON text
    run_id string -- the run that wrote the row
""",
    required=(*POLICY_KEY, "policy_fingerprint", "publish_years", "publish_first_year", "definition"),
)
POLICY_ATTRITION = Table(
    "gold",
    "policy_attrition",
    "one step of a policy's attrition in one year: how many records a clause removes; step 0 is the scope, out of all records of the dataset",
    """
    policy_id string -- the policy, such as 2Y_back_pain_fusion
    revision string -- the revision of the policy
    reading string -- as_published, as_intended or guidance_coded
    financial_year string -- April to March, such as 2021-22
    step int -- order of the clause; 0 is the scope
    clause_id string -- the clause
    records_in bigint -- records before this step; always records_failed + records_missing + records_left
    records_failed bigint -- records that fail the clause
    records_missing bigint -- records removed only because a value that the clause needs is missing
    records_left bigint -- records that remain after this step
    run_id string -- the run that wrote the row
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
    "the effect of reversing one decision of a policy, starting from one reading, in one year; effects need not add up",
    """
    policy_id string -- the policy, such as 2Y_back_pain_fusion
    revision string -- the revision of the policy
    base_reading string -- the reading started from: as_published or as_intended; guidance_coded for what its excerpt no longer shows
    decision string -- the decision that is reversed
    source string -- the reading that makes the decision, or sensitivity
    direction string -- made if the base reading does not make the decision, undone if it does
    clause_id string -- the clause that the decision adds or changes
    financial_year string -- April to March, such as 2021-22
    in_scope bigint -- records in scope of the policy
    flagged bigint -- records flagged by the base reading
    flagged_flipped bigint -- records flagged with the decision reversed; always flagged + added - removed
    added bigint -- records flagged only with the decision reversed
    removed bigint -- records flagged only by the base reading
    words string -- the words of the source
    because string -- the reason for the decision
    run_id string -- the run that wrote the row
""",
    partition_by=(YEAR,),
    required=("policy_id", "revision", "base_reading", "decision", "source", "direction", YEAR, "in_scope", "flagged",
              "flagged_flipped", "added", "removed"),
)  # fmt: skip
POLICY_COMPARISON = Table(
    "gold",
    "policy_comparison",
    "the records of a year that only one of a local policy and its national policy flags, and that fail one clause of the other",
    """
    policy_id string -- the local policy
    revision string -- the revision of the policy
    reading string -- as_published, as_intended or guidance_coded
    national_policy_id string -- the national policy that it extends
    financial_year string -- April to March, such as 2021-22
    direction string -- national_only: only the national policy flags them; local_only: only the local policy flags them
    clause_id string -- the clause that failed, in the policy that does not flag them
    records bigint -- records that fail this clause, and perhaps others
    records_alone bigint -- records that fail only this clause
    records_differing bigint -- all records of this direction, whichever clause failed
    records_compared bigint -- records in scope of both policies
    run_id string -- the run that wrote the row
""",
    partition_by=(YEAR,),
    required=(*POLICY_KEY, "national_policy_id", YEAR, "direction", "clause_id", "records", "records_alone",
              "records_differing", "records_compared"),
)  # fmt: skip
_RATE_KEY = """
    policy_id string -- the policy, such as 2Y_back_pain_fusion
    revision string -- the revision of the policy
    reading string -- as_published, as_intended or guidance_coded
    financial_year string -- such as 2021-22; the last year if several are pooled
    period_years int -- number of years that are pooled; 1 for a single year
    period string -- such as 2021-22 or, pooled, 2019-20..2021-22
    area_type string -- england, region, icb, sub_icb or provider
"""
ACTIVITY_RATE = Table(
    "gold",
    "activity_rate",
    "the flagged activity and rate of one area and period under one policy revision and reading",
    _RATE_KEY
    + """
    area_code string -- code of the area or provider
    area_name string -- name of the area or provider
    activity bigint -- number of flagged records
    in_scope bigint -- number of records with the policy's procedure, flagged or not
    people_flagged bigint -- number of different people among the flagged records that name a person
    activity_unknown_age_sex bigint -- flagged records of unknown age or sex: counted in the crude rate only
    population bigint -- people of all ages; person-years if years are pooled
    population_vintage date -- the day that the population is for; if years are pooled, the latest
    standard_population string -- the population by whose age and sex the rate is standardised
    expected double -- number of flagged records if England's rates by age and sex applied; NULL without a population or a figure for England
    crude_rate double -- flagged records per 100,000 people
    standardised_rate double -- directly standardised for age and sex, per 100,000 people
    lower double -- lower 95% confidence limit of the standardised rate, per 100,000, treating all events as independent
    upper double -- upper 95% confidence limit, likewise
    lower_adjusted double -- lower limit with the extra variance from people who have several events
    upper_adjusted double -- upper limit, likewise
    standard_error double -- standard error of the directly standardised rate with that extra variance, per 100,000
    flagged_share double -- activity / in_scope: the share of procedures in scope that are flagged
    share_lower double -- lower 95% confidence limit of the share (Wilson)
    share_upper double -- upper 95% confidence limit of the share (Wilson)
    method string -- how the rate was calculated
    status string -- ok, few_events, no_population or not_calculated
    notes array<string> -- what to know about the figure: distant_vintage, partial_population, unusual_population, back_cast, partial_year, partial_coverage, local_policy, split_estimate, unmapped_part, …
    coverage string -- national, or partial for an extract of a part of England
    geography string -- version of the geography that the area belongs to
    run_id string -- the run that wrote the row
""",
    partition_by=(YEAR,),
    required=(*POLICY_KEY, YEAR, "period_years", "period", "area_type", "area_code", "activity", "status", "notes"),
    compact=False,
)
RATE_VARIATION = Table(
    "gold",
    "rate_variation",
    "the variation of the standardised rates between areas of one type in a period",
    _RATE_KEY
    + """
    areas bigint -- number of areas
    areas_with_activity bigint -- number of areas with flagged records
    p10 double -- 10th percentile of the rates of areas with activity, per 100,000; unweighted, linear interpolation
    p25 double -- 25th percentile, likewise
    p50 double -- median, likewise
    p75 double -- 75th percentile, likewise
    p90 double -- 90th percentile, likewise
    n_fold double -- p90 / p10 before rounding; NULL when p10 is 0
    all_areas_p10 double -- 10th percentile of the rates of all areas, with or without activity
    all_areas_p25 double -- 25th percentile, likewise
    all_areas_p50 double -- median, likewise
    all_areas_p75 double -- 75th percentile, likewise
    all_areas_p90 double -- 90th percentile, likewise
    opportunity double -- records above the 25th percentile's rate, summed over areas; not a target
    opportunity_share double -- opportunity as a share of the areas' activity
    status string -- ok or not_calculated
    notes array<string> -- what to know about the figures, as in activity_rate
    coverage string -- national, or partial for an extract of a part of England
    geography string -- version of the geography that the areas belong to
    run_id string -- the run that wrote the row
""",
    partition_by=(YEAR,),
    required=(*POLICY_KEY, YEAR, "period_years", "period", "area_type", "areas", "areas_with_activity", "status"),
    compact=False,
)
ACTIVITY_MONTH = Table(
    "gold",
    "activity_month",
    "the records of one month under one policy reading, for the whole of England (for partial coverage: the whole extract)",
    """
    policy_id string -- the policy, such as 2Y_back_pain_fusion
    revision string -- the revision of the policy
    reading string -- as_published, as_intended or guidance_coded
    financial_year string -- April to March, such as 2021-22
    month date -- first day of the month; NULL for records without a date
    activity bigint -- number of flagged records
    in_scope bigint -- number of records with the policy's procedure, flagged or not
    run_id string -- the run that wrote the row
""",
    partition_by=(YEAR,),
    required=(*POLICY_KEY, YEAR, "activity", "in_scope"),
)
PROVIDER_MONTH = Table(
    "gold",
    "provider_month",
    "the records of one provider in one month, compared with its typical month of that year",
    """
    dataset string -- apc (admitted patient care) or op (outpatients)
    financial_year string -- April to March, such as 2021-22
    provider_code string -- NULL for records without a provider
    month date -- first day of the month; only months in which the data set has a record
    records bigint -- all records, whatever the procedure
    provisional boolean -- one of the latest months of the data set: more records are expected
    pandemic boolean -- one of the months marked as pandemic
    typical_month double -- median of the provider's months with records in the year, without provisional and pandemic months
    share_of_typical double -- records / typical_month
    low boolean -- fewer than half the records of a typical month, where a typical month has 20 records or more
    run_id string -- the run that wrote the row
""",
    partition_by=(YEAR,),
    required=("dataset", YEAR, "month", "records", "provisional", "pandemic", "typical_month", "low"),
)
UNMAPPED_AREA = Table(
    "gold",
    "unmapped_area",
    "a code that cannot be mapped to an area of the geography shown; its records in scope count in England only",
    """
    dataset string -- apc (admitted patient care) or op (outpatients)
    financial_year string -- April to March, such as 2021-22
    code_kind string -- what gave the code: gp_practice or residence (their area in the lookup), or commissioner
    code string -- the code
    reason string -- unmapped: no mapping has the code; not_valid_on_date: the code has an area, but not on this date
    records bigint -- number of records in scope with the code
    geography string -- version of the geography shown
    run_id string -- the run that wrote the row
""",
    partition_by=(YEAR,),
    required=("dataset", YEAR, "code_kind", "code", "reason", "records", "geography"),
)
RECORD_QUALITY = Table(
    "gold",
    "record_quality",
    "one measure of data quality over all records of a data set and year, in scope of a policy or not",
    """
    dataset string -- apc (admitted patient care) or op (outpatients)
    financial_year string -- April to March, such as 2021-22
    measure string -- records, no_person, no_age, no_procedure, procedure_not_applicable, procedure_without_code, …
    records bigint -- number of records that the measure counts
    of_records bigint -- all records of the data set and year
    run_id string -- the run that wrote the row
""",
    partition_by=(YEAR,),
    required=("dataset", YEAR, "measure", "records", "of_records"),
)
RUN_LOG = Table(
    "gold",
    "run_log",
    "one stage of one run",
    """
    run_id string -- the run
    stage string -- ingest, flag, rate, monitor, validate, publish and others
    started_at timestamp -- when the stage began
    ended_at timestamp -- when the stage ended
    outcome string -- done, failed or broken
    years array<string> -- financial years that the stage worked on
    rows bigint -- rows that the stage wrote
    code_version string -- version of ebi-spark
    configuration string -- fingerprint of the configuration file
    versions_read map<string,bigint> -- Delta version of each table that was read
    versions_written map<string,bigint> -- Delta version of each table that was written
    details map<string,string> -- further facts for people, such as a message; never a patient's value
""",
    required=("run_id", "stage", "started_at", "outcome"),
)
BATCH = Table(
    "gold",
    "batch",
    "what one stage of one run (of an ingest: one batch of years) worked on and used; the next run compares it to decide what is due. Counts only with a row in gold/run_log of the same run, stage and time",
    """
    run_id string -- the run
    stage string -- ingest, flag, rate, validate, publish and others that can be due
    started_at timestamp -- when the stage began, as in gold/run_log
    outcome string -- done, or failed if a check or a limit stopped it
    reasons array<string> -- why the stage was due, in words; empty if it was called by its name or with --force
    years array<string> -- financial years that the stage worked on
    inputs string -- its inputs besides tables of the lake: the rows of gold/stage_input with the same value; NULL if not recorded
    versions_read map<string,bigint> -- Delta version of each table that was read
    versions_written map<string,bigint> -- Delta version of each table that was written
    day date -- the day of the run, after which no date of activity can be true
    every_year boolean -- true if the configuration named no years
    whole boolean -- false if flag worked on some policies only, so that rows of other policies stayed
    keep_releases int -- the number of releases to keep, by the configuration
    years_by_layer map<string,array<string>> -- validate: the years whose tables were checked, by layer (silver, flags, rates)
    years_found array<string> -- ingest: all years that the run had to bring up to date, also in other batches
    years_unchanged array<string> -- ingest: the years whose source files were checked and did not have to be read
    files array<struct<file:string,financial_year:string,fingerprint:string>> -- ingest: the source files that were read, by year (NULL: rows without a year), with a fingerprint of the status of their rows; NULL if nothing was read
    due_from map<string,date> -- ingest: the source files with rows of future days, each with the first day on which it is read again
    checked map<string,array<string>> -- ingest: by table and fingerprint of its checks, the years in which every record was checked when it was written and met all checks that look at one record
""",
    required=("run_id", "stage", "started_at", "outcome"),
)
STAGE_INPUT = Table(
    "gold",
    "stage_input",
    "one input of a stage besides tables of the lake, such as a setting or a file. Stages with the same inputs share their rows, by the column inputs of gold/batch",
    """
    inputs string -- names the set of inputs that the row belongs to
    run_id string -- the first run that had this set of inputs
    stage string -- the stage
    kind string -- program (version of the stage's logic), setting, file, source (how source files are described), data (source file), table (of a catalogue), policies (how they are published), policy (what decides its flags) or wording (of all policies)
    input string -- name of the setting, file, source, table or policy; empty if there is only one of its kind
    fingerprint string -- its state: the value of a setting, size and time of a source file, version, or hash of the content
""",
    required=("inputs", "run_id", "stage", "kind", "input", "fingerprint"),
)


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
    area_code string -- England or the code of the provider
    records bigint -- all records, whatever the procedure; given for England only
    providers bigint -- number of providers that have rows in this table; given for England only
    providers_low bigint -- how many of these have less than half of their typical month; given for England only
    share_of_typical double -- a provider's records divided by those of its typical month of the year, rounded to tenths
    low boolean -- less than half of a typical month
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

# The silver table of each dataset's records.
RECORD_TABLES = {"apc": APC_SPELL, "op": OP_ATTENDANCE}

TABLES: dict[str, Table] = {
    table.full_name: table
    for table in (
        *MONITORING_TABLES,
        APC_SPELL, OP_ATTENDANCE, QUARANTINE, REPEATED_ROW, WITHDRAWN_RECORD, INGEST_AUDIT, POPULATION,
        ACTIVITY_FLAG, POLICY, POLICY_ATTRITION, POLICY_SENSITIVITY, POLICY_COMPARISON, ACTIVITY_RATE, RATE_VARIATION,
        ACTIVITY_MONTH, PROVIDER_MONTH, UNMAPPED_AREA, RECORD_QUALITY, RUN_LOG, BATCH, STAGE_INPUT,
        RATE, VARIATION, ATTRITION, READING_EFFECT, SENSITIVITY, QUALITY, PUBLISHED_ACTIVITY_MONTH, DAYS_BETWEEN,
        COMPLETENESS, *PUBLISHED_MONITORING, PUBLISHED_POLICY, *STAR_TABLES, RELEASE,
    )
}  # fmt: skip

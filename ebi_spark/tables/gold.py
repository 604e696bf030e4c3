"""The tables of gold: flags, rates, what the records lack, and the history of runs. Restricted."""

from ebi_spark.tables.table import POLICY_KEY, RECORD_KEY, YEAR, Table

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
    typical_month double -- median of the provider's months with records in the year; provisional and pandemic months count only if there are no others
    share_of_typical double -- records / typical_month
    low boolean -- fewer than half the records of a typical month, where a typical month has 20 records or more; never a pandemic month
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
    stage string -- ingest, flag, rate, monitor, validate or publish; roll_back for `publish --release`
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
    stage string -- ingest, flag, rate, monitor, validate or publish
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
    years_by_layer map<string,array<string>> -- validate: the years whose tables were checked, by layer (silver, flags, rates, monitoring)
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
    kind string -- program (version of the stage's logic), setting, file, source (how source files are described), data (source file), table (of a catalogue), policies (how they are published), policy (what decides its flags) or wording (of all policies; recorded by earlier versions)
    input string -- name of the setting, file, source, table or policy; empty if there is only one of its kind
    fingerprint string -- its state: the value of a setting, size and time of a source file, version, or hash of the content
""",
    required=("inputs", "run_id", "stage", "kind", "input", "fingerprint"),
)

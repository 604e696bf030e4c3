"""The tables of monitoring: prior approval, case-note audit, the care around an operation, and what changed.

An *operation* is a record of admitted care in scope of a policy, under the policy's default reading.
"""

from ebi_spark.tables.table import RECORD_KEY, YEAR, Table

_OPERATION = """
    policy_id string -- the policy, such as 2Y_back_pain_fusion
    revision string -- the revision of the policy
    reading string -- the policy's default reading
    source_system string -- sus_plus or hes
    dataset string -- apc (admitted patient care)
    record_id string -- key of the record in silver
    person_id string -- pseudonymised person; NULL if the source has none
    financial_year string -- April to March, such as 2021-22
    operation_date date -- the day of the operation
    operation_date_basis string -- procedure_date where the source has it, otherwise admission_date
    board string -- the patient's integrated care board (NHS code) in the geography shown; NULL if unknown
    provider_code string -- the organisation that gave the care
    flagged boolean -- flagged under the default reading
"""
_RUN = "    run_id string -- the run that wrote the row\n"
_KEY = ("policy_id", *RECORD_KEY, YEAR)

# Every table of the pathway says so.
_PENDING = " (the article that the pathway follows is pending human review and is not NHS policy)"

PRIOR_APPROVAL = Table(
    "silver",
    "prior_approval",
    "an entry of a register of approvals: one request for one person",
    """
    register string -- name of the register's source in the configuration
    approval_id string -- the register's own key
    person_id string -- pseudonymised person
    person_in_silver boolean -- the person has a record in silver
    policy_id string -- the policy that was applied for; NULL if the register names only procedures
    procedure_codes string -- OPCS-4 codes that were applied for, such as ,V382,V383,; NULL if the register names only a policy
    route string -- prior_approval, ifr (individual funding request) or criteria_checked
    requested_on date -- day of the request
    decided_on date -- day of the decision; NULL while pending
    decision string -- approved, declined, withdrawn or pending
    valid_from date -- first day of the approval; the day of the decision where the register gives none
    valid_to date -- last day of the approval; NULL if it has no end
    board string -- the integrated care board (NHS code) in the geography shown; NULL if the register does not say
    provider_code string -- the provider that asked
    criteria array<string> -- clauses of the policy that the request confirms
    source_file string -- path of the register
"""
    + _RUN,
    required=("register", "approval_id", "person_id", "person_in_silver", "route", "decision", "source_file", "run_id"),
    statistics=("policy_id",),
)
PRIOR_APPROVAL_QUARANTINE = Table(
    "silver",
    "prior_approval_quarantine",
    "a row of a register of approvals that cannot be used, with every reason why",
    """
    register string -- name of the register's source in the configuration
    approval_id string -- the register's own key; NULL if it could not be read
    reasons array<string> -- every reason why the row cannot be used
    source_file string -- path of the register
    raw string -- the whole row as JSON text
"""
    + _RUN,
    required=("register", "reasons", "source_file", "raw", "run_id"),
    statistics=("register",),
)
APPROVAL_MATCH = Table(
    "gold",
    "approval_match",
    "an operation with what its record says, and the result of looking it up in the registers of approvals",
    _OPERATION
    + """
    admission_date date -- first day of the spell
    discharge_date date -- last day of the spell
    discharge_method string -- how the patient was discharged, as in silver
    primary_diagnosis string -- the primary diagnosis of the spell
    dominant_procedure string -- the dominant procedure of the spell
    diagnosis_codes string -- all diagnoses of the spell, such as ,M545,|,M431,
    procedure_codes string -- all procedures of the spell, such as ,V382,Z993,
    emergency boolean -- the patient was admitted as an emergency
    regime string -- what the board asked for on the day: prior_approval, ifr_only, criteria_based or none; NULL if unknown
    match_class string -- the first class that applies, from cannot_link to none_on_record (docs/monitoring-approvals.md)
    reason string -- why the operation cannot be linked: no_person, register_does_not_cover or register_not_linkable; NULL for other classes
    approval_ids array<string> -- the entries that decide the class; if no entry decides it, all entries of the person for the policy
    days_from_decision int -- days from the decision to the operation, where the class is based on one entry; negative if the decision came afterwards
    other_policy_approvals array<string> -- approved entries of the person for other policies
"""
    + _RUN,
    partition_by=(YEAR,),
    required=(*_KEY, "operation_date", "operation_date_basis", "flagged", "match_class", "run_id"),
    statistics=("policy_id", "operation_date"),
)
APPROVAL_UNUSED = Table(
    "gold",
    "approval_unused",
    "an approval without an operation, once the configured time has passed",
    """
    register string -- name of the register's source in the configuration
    approval_id string -- the register's own key
    person_id string -- pseudonymised person
    person_in_silver boolean -- the person has a record in silver
    policy_id string -- the policy that was approved; NULL if the register names only procedures
    procedure_codes string -- OPCS-4 codes that were approved, such as ,V382,V383,; NULL if the register names only a policy
    board string -- the integrated care board (NHS code); NULL if the register does not say
    decided_on date -- day of the decision
    valid_to date -- last day of the approval; NULL if it has no end
    days_waited int -- days from the decision to the end of the data
"""
    + _RUN,
    required=("register", "approval_id", "person_in_silver", "decided_on", "days_waited", "run_id"),
    statistics=("policy_id",),
)
REGIME_CHANGE = Table(
    "gold",
    "regime_change",
    "the operations of a board in one month or quarter before or after its regime changed",
    """
    policy_id string -- the policy
    board string -- the integrated care board (NHS code)
    changed_on date -- first day of the new regime
    regime_before string -- what the board asked for before
    regime_after string -- what it asked for from that day on; NULL if unknown
    grain string -- month or quarter
    period_start date -- first day of the month or quarter
    side string -- before, after, or during (the period in which the regime changed)
    days int -- days of the period that are in the data
    operations bigint -- operations in scope of the policy
    operations_lower double -- lower 95% confidence limit of the operations (Poisson, exact)
    operations_upper double -- upper 95% confidence limit of the operations (Poisson, exact)
    flagged bigint -- flagged operations
    flagged_lower double -- lower 95% confidence limit of the flagged operations (Poisson, exact)
    flagged_upper double -- upper 95% confidence limit of the flagged operations (Poisson, exact)
"""
    + _RUN,
    required=("policy_id", "board", "changed_on", "grain", "period_start", "side", "operations", "flagged", "run_id"),
)
PATHWAY = Table(
    "gold",
    "pathway",
    f"a fusion in scope of a policy, with the care around it in one row{_PENDING}",
    _OPERATION
    + """
    admission_date date -- first day of the spell
    discharge_date date -- last day of the spell
    spell_end date -- last day of the continuous inpatient spell, transfers included; NULL if the person cannot be followed
    levels string -- one, two, three_or_more, not_stated or ambiguous (proxy, from V55 codes)
    approach string -- posterior, anterior, lateral or combined; NULL if the codes do not say
    decompression boolean -- decompression of the spine in the same spell (proxy)
    algorithm_step string -- the last step of the article's algorithm that the data show: confirm, conservative_care, reassess or proceed
    missing_to_decide array<string> -- the steps that cannot be seen and would be needed to decide the step reached or the next one
    died_in_hospital boolean -- the continuous spell ended with death
    follow_up_days int -- days of data after the continuous spell; NULL if the person died in it or cannot be followed
    readmitted_after int -- days from spell_end to the first emergency readmission; NULL if none was seen
    possible_staged_after int -- days to a planned readmission within 30 days with an anterior operation; NULL if none was seen
    further_fusion_after int -- days from the operation to the next fusion in a later continuous spell; NULL if none was seen
    revision_after int -- days from the operation to a revision of a fusion in a later continuous spell; NULL if none was seen
    removal_after int -- days from the operation to a removal of instruments without a new fusion, in a later continuous spell; NULL if none was seen
    death_after int -- days from the operation to a death in hospital; NULL if none was seen
"""
    + _RUN,
    partition_by=(YEAR,),
    required=(*_KEY, "operation_date", "operation_date_basis", "flagged", "levels", "algorithm_step", "run_id"),
    statistics=("policy_id", "operation_date"),
)
PATHWAY_STEP = Table(
    "gold",
    "pathway_step",
    f"whether one step of the pathway is seen for one fusion in one window{_PENDING}",
    """
    policy_id string -- the policy
    source_system string -- sus_plus or hes
    dataset string -- apc (admitted patient care)
    record_id string -- key of the record in silver
    financial_year string -- of the fusion's record, such as 2021-22
    step_id string -- the step, as in conf/pathway.yml and conf/pathway_after.yml
    window string -- 3_months, 6_months or 12_months before; at_operation; index_spell, 30_days, 90_days, 1_year or 2_years after
    state string -- seen, not_seen or cannot_be_seen
    evidence array<string> -- the codes or treatment functions that show the step; empty where it is not seen
    first_day date -- first day in the window on which a record shows the step; NULL for steps at or after the operation
    last_day date -- last day in the window on which a record shows the step; NULL for steps at or after the operation
"""
    + _RUN,
    partition_by=(YEAR,),
    required=(*_KEY, "step_id", "window", "state", "run_id"),
    statistics=("policy_id", "step_id"),
)
PATHWAY_INCIDENCE = Table(
    "gold",
    "pathway_incidence",
    f"the share of fusions with an event by one day after the start, allowing for censoring{_PENDING}",
    """
    policy_id string -- the policy
    group string -- all or flagged
    event string -- readmission, further_operation, death_in_hospital, alive_without_further_operation or readmission_within_30_days
    method string -- aalen_johansen, kaplan_meier or wilson
    day int -- days since the start: discharge for readmissions, otherwise the operation
    at_risk bigint -- fusions still observed on that day; for readmission_within_30_days, live discharges with 30 days of data after them
    events bigint -- events on that day; for readmission_within_30_days, by that day
    estimate double -- cumulative incidence, or for alive_without_further_operation the share still without the event
    lower double -- lower 95% confidence limit
    upper double -- upper 95% confidence limit
    transfers_by string -- the columns that decide which spells are one stay, separated by commas; without admission_source and discharge_destination some transfers are not found
"""
    + _RUN,
    required=("policy_id", "group", "event", "method", "day", "at_risk", "events", "run_id"),
)
LINKED_MEASURE = Table(
    "gold",
    "linked_measure",
    "one measure over records of one year that are linked by person",
    """
    measure string -- the measure, as in conf/pathway.yml: imaging_before_fusion, flagged_imaging_before_fusion or repeat_imaging
    group string -- all, or flagged: the records that the policy flags
    policy_id string -- the policy whose records are counted
    revision string -- the revision of the policy
    reading string -- the policy's default reading
    financial_year string -- of the records, such as 2021-22
    records bigint -- records whose person is known, with data for the whole time before them
    counted bigint -- those of them with what the measure counts
    left_out bigint -- records for which it cannot be decided
    share double -- counted / records; NULL if records is 0
    lower double -- lower 95% confidence limit (Wilson)
    upper double -- upper 95% confidence limit (Wilson)
"""
    + _RUN,
    partition_by=(YEAR,),
    required=("measure", "group", "policy_id", "revision", "reading", YEAR, "records", "counted", "left_out", "run_id"),
)
CODE_USE = Table(
    "gold",
    "code_use",
    "the records of one year with one code that may be recorded instead of a policy's, or one group of such codes",
    """
    policy_id string -- the policy
    financial_year string -- April to March, such as 2021-22
    kind string -- operation_outside_scope, non_dominant (a code of the scope that is not dominant), unspecified (the code does not name the part of the spine) or primary_diagnosis
    code string -- the code; `any` for records with at least one code of the kind; `unknown` for records without a primary diagnosis
    records bigint -- number of records with the code; a record with two codes counts for both
    of_records bigint -- the denominator: lumbar fusions of the year, for primary_diagnosis those in scope
"""
    + _RUN,
    partition_by=(YEAR,),
    required=("policy_id", YEAR, "kind", "code", "records", "of_records", "run_id"),
)
ACTIVITY_COUNT = Table(
    "gold",
    "activity_count",
    "the chain of counts of one policy, area and year, from which the change between two periods is made",
    """
    policy_id string -- the policy
    revision string -- the revision that is applied to the records, or in_force: on each record the one in force on its day
    revision_at_end string -- the revision in force at the end of the year
    reading string -- the policy's default reading
    financial_year string -- April to March, such as 2021-22
    area_type string -- england, region, icb or sub_icb
    area_code string -- code of the area
    people bigint -- people of the area, as in the rates; NULL where unknown
    operations bigint -- all lumbar fusions; NULL for a policy without this step
    in_scope bigint -- those in scope of the policy
    primary_diagnosis bigint -- those with a primary diagnosis of the policy; NULL for a policy without this step
    no_exclusion bigint -- those without a coded exclusion
    flagged bigint -- those that are flagged
"""
    + _RUN,
    partition_by=(YEAR,),
    required=("policy_id", "revision", "revision_at_end", "reading", YEAR, "area_type", "area_code", "in_scope",
              "no_exclusion", "flagged", "run_id"),
)  # fmt: skip
ACTIVITY_CHANGE = Table(
    "gold",
    "activity_change",
    "how much one factor changed the flagged records of an area from one period to another",
    """
    policy_id string -- the policy
    revision string -- the revision that is applied to both periods
    reading string -- the policy's default reading
    area_type string -- england, region, icb or sub_icb
    area_code string -- code of the area
    period_from string -- the earlier financial year
    period_to string -- the later financial year
    component string -- people, operations_per_person, in_scope, primary_diagnosis, no_exclusion, flagged, revision, total_from or total_to
    value_from double -- the factor in the earlier period; NULL for revision and totals
    value_to double -- the factor in the later period; NULL for revision and totals
    records double -- records that the factor adds (negative: takes away); for totals the flagged records themselves
    notes array<string> -- undefined_factor where a factor was 0 / 0 and keeps the other period's value; no_population where the people are unknown, so that the first factor is a count
"""
    + _RUN,
    required=("policy_id", "revision", "reading", "area_type", "area_code", "period_from", "period_to", "component",
              "records", "run_id"),
)  # fmt: skip
EQUALITY_RATE = Table(
    "gold",
    "equality_rate",
    "the flagged records of England in one group of people, over pooled years",
    """
    policy_id string -- the policy
    revision string -- the revision of the policy; NULL where years have different ones
    reading string -- the policy's default reading
    period string -- the pooled years, such as 2019-20..2021-22
    dimension string -- sex, age_group or deprivation_fifth
    group string -- the group: 1 is the most deprived fifth
    activity bigint -- number of flagged records
    population bigint -- person-years; NULL where the population is not known
    rate double -- flagged records per 100,000 person-years: by sex standardised for age, by deprivation_fifth for age and sex, by age_group as counted
    lower double -- lower 95% confidence limit
    upper double -- upper 95% confidence limit
    slope_index double -- how much higher the rate is at the most deprived end than at the least deprived end, per 100,000; deprivation_fifth only
    slope_lower double -- lower 95% confidence limit of the slope index
    slope_upper double -- upper 95% confidence limit of the slope index
    status string -- ok, few_events (fewer than 10), or no_population
"""
    + _RUN,
    required=("policy_id", "reading", "period", "dimension", "group", "activity", "status", "run_id"),
)
AUDIT_SAMPLE = Table(
    "gold",
    "audit_sample",
    "a record drawn for a case-note audit",
    """
    audit_id string -- the audit: the policy, the seed, and a hash of the frame and the options of the draw
    policy_id string -- the policy
    revision string -- the revision by which the record was read
    reading string -- the reading that decides the strata
    policy_fingerprint string -- changes when the definition of the policy changes; a returned form must have the same one
    seed bigint -- the seed of the draw
    years array<string> -- the financial years of the frame
    source_system string -- sus_plus or hes
    dataset string -- apc (admitted patient care) or op (outpatients)
    record_id string -- key of the record in silver
    financial_year string -- April to March, such as 2021-22
    provider_code string -- the organisation that has the case notes; unknown if the record does not name it
    stratum string -- flagged, readings_disagree, near_miss:CLAUSE or rest
    flagged_by array<string> -- the readings that flag the record
    records_in_stratum bigint -- records of the stratum and provider (N)
    records_drawn bigint -- how many of them were drawn (m)
    probability double -- inclusion probability, m / N, above 0
    draw_order int -- place in the order of the draw, from 1 in each stratum and provider
    read_twice boolean -- two people read the notes
    clauses map<string,string> -- the clauses that the form asks about, each with its kind: scope, require, exclude or note
    drawn_at timestamp -- when the sample was drawn
"""
    + _RUN,
    required=("audit_id", "policy_id", "revision", "reading", "policy_fingerprint", *RECORD_KEY, "provider_code", "stratum",
              "flagged_by", "records_in_stratum", "records_drawn", "probability", "read_twice", "clauses", "run_id"),
    statistics=("audit_id",),
)  # fmt: skip
AUDIT_RESULT = Table(
    "gold",
    "audit_result",
    "one reader's answer to one question about one record",
    """
    audit_id string -- the audit
    source_system string -- sus_plus or hes
    dataset string -- apc (admitted patient care) or op (outpatients)
    record_id string -- key of the record in silver
    reader string -- first, second or adjudicated; an adjudicated answer exists only where first and second differ, or only the second found the notes
    clause_id string -- the clause asked about; notes_found for whether the notes were found, verdict for the policy as a whole
    found string -- the answer: yes, no or cannot_tell
    form string -- name of the file with the form
    imported_at timestamp -- when the form was taken
"""
    + _RUN,
    required=("audit_id", *RECORD_KEY, "reader", "clause_id", "found", "run_id"),
    statistics=("audit_id",),
)
AUDIT_ESTIMATE = Table(
    "gold",
    "audit_estimate",
    "one estimate of a case-note audit",
    """
    audit_id string -- the audit
    policy_id string -- the policy
    reading string -- the reading that decides the strata
    measure string -- what is estimated, such as positive_predictive_value, missed_cases or kappa (docs/monitoring-audit.md)
    part string -- overall, clause:ID, reading:NAME or stratum:NAME
    estimate double -- the estimate: a share from 0 to 1, or a number of records (corrected_records, sample_size)
    lower double -- lower 95% confidence limit; NULL if the estimate has no limits
    upper double -- upper 95% confidence limit; NULL if the estimate has no limits
    worst double -- the share if every record without an answer counted as no
    best double -- the share if every record without an answer counted as yes
    process_lower double -- of a census: lower exact limit for the process that produced the records
    process_upper double -- of a census: upper exact limit for the process that produced the records
    method string -- clopper_pearson, wilson, hajek (weighted, linearised), census, mover (variances from limits), kappa or count
    records bigint -- records of the frame that the estimate is about; NULL where their number is not known exactly, only estimated from the sample
    forms bigint -- forms with an answer, on which the estimate is based
    counted bigint -- those of them with the answer whose share is estimated; for kappa, the fewest of the forms on which both readers say yes, both say no, or neither is so; NULL for what is neither
    effective double -- effective number of forms: how many would give as much information in a simple random sample
    not_returned bigint -- drawn records without a form
    notes_not_found bigint -- forms without notes
    cannot_tell bigint -- forms with the answer cannot tell
    status string -- ok, no_answers, incomplete (a stratum without any answer is left out), few_pairs or undefined
"""
    + _RUN,
    required=("audit_id", "policy_id", "reading", "measure", "part", "status", "run_id"),
)

# In the order in which they are made.
MONITORING_TABLES = (
    PRIOR_APPROVAL, PRIOR_APPROVAL_QUARANTINE, APPROVAL_MATCH, APPROVAL_UNUSED, REGIME_CHANGE, PATHWAY, PATHWAY_STEP,
    PATHWAY_INCIDENCE, LINKED_MEASURE, CODE_USE, ACTIVITY_COUNT, ACTIVITY_CHANGE, EQUALITY_RATE, AUDIT_SAMPLE, AUDIT_RESULT, AUDIT_ESTIMATE,
)  # fmt: skip

_RELEASE = "    release_id string -- the release that the row belongs to\n"
_CONTROLLED = """    status string -- ok, or withheld: the count is below 8 (default rule), or it would reveal a count below 8{more}
    disclosure string -- the disclosure rule that was applied
"""

APPROVAL_SUMMARY = Table(
    "published",
    "approval_summary",
    "the operations of one year in one class of prior approval, over all boards of England",
    _RELEASE
    + """
    policy_id string -- the policy, such as 2Y_back_pain_fusion
    revision string -- the revision of the policy; several are separated by commas
    reading string -- the policy's default reading
    financial_year string -- April to March, such as 2021-22
    match_class string -- from cannot_link to none_on_record (docs/monitoring-approvals.md)
    operations bigint -- operations in scope in this class, rounded; NULL where withheld
    of_operations bigint -- all operations in scope that have a date, rounded; NULL where not published
    share double -- operations / of_operations
    boards string -- the boards whose registers the classes are based on, codes separated by commas; NULL where not published
"""
    + _CONTROLLED.format(
        more="; or sub_national: the boards with a register are too few, or differ by one from others that are published"
    ),
    partition_by=("release_id", YEAR),
    required=("release_id", "policy_id", "revision", "reading", YEAR, "match_class", "status", "disclosure"),
)
PATHWAY_SUMMARY = Table(
    "published",
    "pathway_summary",
    f"the fusions of England in one class of one measure of the care around the operation{_PENDING}",
    _RELEASE
    + """
    policy_id string -- the policy, such as 2Y_back_pain_fusion
    revision string -- the revision of the policy; several are separated by commas
    reading string -- the policy's default reading
    financial_year string -- the year, or the last year of the period
    period string -- the year, or for incidence all years, such as 2018-19..2023-24
    kind string -- step, class or incidence
    measure string -- the step's id; levels, approach, decompression or algorithm_step; or the event of an incidence
    window string -- the window of a step; NULL otherwise
    class string -- for a step: seen, not_seen or cannot_be_seen; for a class: its value; for an incidence: event
    day int -- for an incidence: days since discharge (readmissions) or since the operation; NULL otherwise
    operations bigint -- fusions in this class, or with the event by this day, rounded; NULL where withheld
    of_operations bigint -- all fusions that are counted, rounded
    share double -- operations / of_operations; for an incidence, the estimate that allows for censoring, rounded to the share of 5 fusions
    share_lower double -- lower 95% confidence limit of an incidence, rounded down; NULL otherwise
    share_upper double -- upper 95% confidence limit of an incidence, rounded up; NULL otherwise
    at_risk bigint -- for an incidence: fusions still observed on this day (readmission_within_30_days: live discharges with 30 days of data), rounded; NULL otherwise
    transfers_by string -- for an incidence: the columns that decide which spells are one stay, separated by commas; NULL otherwise
"""
    + _CONTROLLED.format(more=""),
    partition_by=("release_id", YEAR),
    required=("release_id", "policy_id", "revision", "reading", YEAR, "period", "kind", "measure", "class", "status",
              "disclosure"),
)  # fmt: skip
PUBLISHED_ACTIVITY_CHANGE = Table(
    "published",
    "activity_change",
    "how much one factor changed England's flagged records from one year to another",
    _RELEASE
    + """
    policy_id string -- the policy, such as 2Y_back_pain_fusion
    revision string -- the revision that is applied to both periods
    reading string -- the policy's default reading
    period_from string -- the earlier financial year
    period_to string -- the later financial year
    component string -- people, operations_per_person, in_scope, primary_diagnosis, no_exclusion, flagged, revision, total_from or total_to
    value_from double -- the factor in the earlier period, to 3 significant digits
    value_to double -- the factor in the later period, to 3 significant digits
    records bigint -- whole records that the factor adds (negative: takes away); they add up to the change of the totals
    notes string -- undefined_factor where a factor was 0 / 0 and keeps the other period's value; NULL otherwise
"""
    + _CONTROLLED.format(more=""),
    partition_by=("release_id",),
    required=("release_id", "policy_id", "revision", "reading", "period_from", "period_to", "component", "status",
              "disclosure"),
)  # fmt: skip
PUBLISHED_AUDIT_ESTIMATE = Table(
    "published",
    "audit_estimate",
    "one estimate of a case-note audit that drew from all providers of England",
    _RELEASE
    + """
    audit_id string -- the audit
    policy_id string -- the policy, such as 2Y_back_pain_fusion
    reading string -- the reading that decides the strata
    measure string -- what is estimated, such as positive_predictive_value, missed_cases or kappa
    part string -- overall or clause:ID
    estimate double -- the estimate, rounded to the effect of one form; NULL where withheld
    lower double -- lower 95% confidence limit, rounded down to the effect of five forms
    upper double -- upper 95% confidence limit, rounded up to the effect of five forms
    worst double -- the estimate if every record without an answer counted as no; NULL where fewer than 8 records have no answer, for any share of the audit
    best double -- the estimate if every record without an answer counted as yes; NULL where worst is
    method string -- clopper_pearson, wilson, hajek, mover, kappa or count; NULL without an estimate
    forms bigint -- forms with an answer, on which the estimate is based, to the nearest 10
"""
    + _CONTROLLED.format(more="; or the reason why there is no estimate: no_answers, incomplete, few_pairs, undefined"),
    partition_by=("release_id",),
    required=("release_id", "audit_id", "policy_id", "reading", "measure", "part", "status", "disclosure"),
)
MEASURE_SUMMARY = Table(
    "published",
    "measure_summary",
    "England's records in one class of one measure: the use of a code, a group of people, or a measure over linked records",
    _RELEASE
    + """
    policy_id string -- the policy, such as 2Y_back_pain_fusion
    revision string -- the revision of the policy; several are separated by commas
    reading string -- the policy's default reading
    financial_year string -- the year, or the last year of the period
    period string -- the year, or the years together, such as 2018-19..2023-24
    kind string -- code_use (by year), equality (pooled years) or linked (all years)
    measure string -- for code_use operation_outside_scope, non_dominant, unspecified or primary_diagnosis; for equality sex, age_group or deprivation_fifth; for linked the measure's id (docs/monitoring-changes.md)
    class string -- the code, any, other or required; the group of people, or slope_index; all or flagged records
    records bigint -- records in this class, rounded; NULL where withheld, and for slope_index
    of_records bigint -- the records that the class is a part of, rounded; NULL where withheld, for unspecified and for slope_index
    value double -- records / of_records; for equality the rate per 100,000 person-years, NULL without a population
    lower double -- lower 95% confidence limit, rounded down; NULL for code_use
    upper double -- upper 95% confidence limit, rounded up; NULL for code_use
"""
    + _CONTROLLED.format(more=""),
    partition_by=("release_id", YEAR),
    required=("release_id", "policy_id", "revision", "reading", YEAR, "period", "kind", "measure", "class", "status",
              "disclosure"),
)  # fmt: skip
PUBLISHED_MONITORING = (
    APPROVAL_SUMMARY, PATHWAY_SUMMARY, PUBLISHED_ACTIVITY_CHANGE, MEASURE_SUMMARY, PUBLISHED_AUDIT_ESTIMATE,
)  # fmt: skip

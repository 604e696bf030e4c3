"""The tables of monitoring: prior approval, case-note audit, the care around an operation, and what changed.

An *operation* is a record of admitted care in scope of a policy under the policy's default reading.
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
)
APPROVAL_MATCH = Table(
    "gold",
    "approval_match",
    "an operation and what the register of approvals says of it",
    _OPERATION
    + """
    emergency boolean -- the patient was admitted as an emergency
    regime string -- what the board asked for on the day: prior_approval, ifr_only, criteria_based or none; NULL if unknown
    match_class string -- the first class that holds, from cannot_link to none_on_record (docs/monitoring-approvals.md)
    reason string -- why the operation cannot be linked: no_person, register_does_not_cover or register_not_linkable; NULL for other classes
    approval_ids array<string> -- the entries behind the class
    days_from_decision int -- days from the decision to the operation, where one entry is behind the class; negative if it was decided afterwards
    other_policy_approvals array<string> -- approved entries of the person with another policy
"""
    + _RUN,
    partition_by=(YEAR,),
    required=(*_KEY, "operation_date", "operation_date_basis", "flagged", "match_class", "run_id"),
    statistics=("policy_id", "operation_date"),
)
APPROVAL_UNUSED = Table(
    "gold",
    "approval_unused",
    "an approval without an operation after the configured time",
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
    side string -- before, after, or during for the period in which the regime changed
    days int -- days of the period that are in the data
    operations bigint -- operations in scope of the policy
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
    "a fusion in scope of a policy, with the care around it in one row",
    _OPERATION
    + """
    admission_date date -- first day of the spell
    discharge_date date -- last day of the spell
    spell_end date -- last day of the continuous inpatient spell, with transfers
    levels string -- one, two, three_or_more, not_stated or ambiguous (proxy, from V55 codes)
    approach string -- posterior, anterior, lateral or combined; NULL if the codes do not say
    decompression boolean -- decompression of the spine in the same spell (proxy)
    algorithm_step string -- the last step of the article's algorithm that the data show: confirm, conservative_care, reassess or proceed
    missing_to_decide array<string> -- the steps that cannot be seen and would be needed to decide the algorithm
    died_in_hospital boolean -- the continuous spell ended with death
    follow_up_days int -- days of data after the continuous spell; NULL if the person died in hospital
    readmitted_after int -- days to the first emergency readmission; NULL if none was seen
    possible_staged_after int -- days to a planned readmission within 30 days with an anterior code; NULL if none was seen
    further_fusion_after int -- days from the operation to the next fusion in a later continuous spell; NULL if none was seen
    revision_after int -- days from the operation to a revision, likewise
    removal_after int -- days from the operation to a removal of instruments without a new fusion, likewise
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
    "whether one step of the pathway is seen for one fusion in one window",
    """
    policy_id string -- the policy
    source_system string -- sus_plus or hes
    dataset string -- apc (admitted patient care)
    record_id string -- key of the record in silver
    financial_year string -- of the fusion's record, such as 2021-22
    step_id string -- the step, as in conf/pathway.yml
    window string -- 3_months, 6_months or 12_months before; at_operation; index_spell, 30_days, 90_days, 1_year or 2_years after
    state string -- seen, not_seen or cannot_be_seen
    evidence array<string> -- the codes or treatment functions that show the step; empty where it is not seen
"""
    + _RUN,
    partition_by=(YEAR,),
    required=(*_KEY, "step_id", "window", "state", "run_id"),
    statistics=("policy_id", "step_id"),
)
PATHWAY_INCIDENCE = Table(
    "gold",
    "pathway_incidence",
    "the share of fusions with an event by a day after the operation, with censoring",
    """
    policy_id string -- the policy
    group string -- all or flagged
    event string -- readmission, further_operation, death_in_hospital or alive_without_further_operation
    method string -- aalen_johansen or kaplan_meier
    day int -- days since the start: discharge for readmission, otherwise the operation
    at_risk bigint -- fusions still observed on that day
    events bigint -- events on that day
    estimate double -- cumulative incidence, or for alive_without_further_operation the share still without the event
    lower double -- lower 95% confidence limit
    upper double -- upper 95% confidence limit
"""
    + _RUN,
    required=("policy_id", "group", "event", "method", "day", "at_risk", "events", "run_id"),
)
CODE_USE = Table(
    "gold",
    "code_use",
    "the records of one year with one code or group of codes that is seen beside a policy's rule",
    """
    policy_id string -- the policy
    financial_year string -- April to March, such as 2021-22
    kind string -- operation_outside_scope, non_dominant, unspecified or primary_diagnosis
    code string -- the code, or the name of the group
    records bigint -- number of records
    of_records bigint -- all records that the share is of: lumbar fusions of the year
"""
    + _RUN,
    partition_by=(YEAR,),
    required=("policy_id", YEAR, "kind", "code", "records", "of_records", "run_id"),
)
ACTIVITY_CHANGE = Table(
    "gold",
    "activity_change",
    "how much one factor changed the flagged records of an area from one period to another",
    """
    policy_id string -- the policy
    revision string -- the revision by which both periods are read
    reading string -- the policy's default reading
    area_type string -- england, region, icb or sub_icb
    area_code string -- code of the area
    period_from string -- the earlier financial year
    period_to string -- the later financial year
    component string -- people, operations_per_person, in_scope, primary_diagnosis, no_exclusion, flagged, revision, total_from or total_to
    value_from double -- the factor in the earlier period
    value_to double -- the factor in the later period
    records double -- records that the factor adds (negative: takes away); for totals the flagged records themselves
    notes array<string> -- undefined_factor where a factor was 0 / 0 and keeps the other period's value
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
    population bigint -- person-years; NULL where none is known
    rate double -- flagged records per 100,000 person-years, standardised for age and sex where the dimension is neither
    lower double -- lower 95% confidence limit
    upper double -- upper 95% confidence limit
    slope_index double -- difference in the rate from the least to the most deprived, per 100,000; deprivation_fifth only
    slope_lower double -- lower 95% confidence limit of the slope index
    slope_upper double -- upper 95% confidence limit of the slope index
    status string -- ok, few_events, no_population or not_calculated
"""
    + _RUN,
    required=("policy_id", "reading", "period", "dimension", "group", "activity", "status", "run_id"),
)
AUDIT_SAMPLE = Table(
    "gold",
    "audit_sample",
    "a record drawn for a case-note audit",
    """
    audit_id string -- the audit: policy, seed and a hash of the frame
    policy_id string -- the policy
    revision string -- the revision by which the record was read
    reading string -- the reading that decides the strata
    policy_fingerprint string -- changes when the definition of the policy changes
    seed bigint -- the seed of the draw
    source_system string -- sus_plus or hes
    dataset string -- apc (admitted patient care) or op (outpatients)
    record_id string -- key of the record in silver
    financial_year string -- April to March, such as 2021-22
    provider_code string -- the organisation that has the case notes
    stratum string -- flagged, readings_disagree, near_miss:CLAUSE or rest
    records_in_stratum bigint -- records of the stratum and provider (N)
    records_drawn bigint -- how many of them were drawn (m)
    probability double -- m / N, above 0
    draw_order int -- place in the order of the draw
    read_twice boolean -- two readers fill a form of it
    drawn_at timestamp -- when the sample was drawn
"""
    + _RUN,
    required=("audit_id", "policy_id", "reading", *RECORD_KEY, "stratum", "probability", "read_twice", "run_id"),
)
AUDIT_RESULT = Table(
    "gold",
    "audit_result",
    "what a reader of the case notes found for one clause of one record",
    """
    audit_id string -- the audit
    source_system string -- sus_plus or hes
    dataset string -- apc (admitted patient care) or op (outpatients)
    record_id string -- key of the record in silver
    reader string -- first, second or adjudicated
    clause_id string -- the clause; the whole policy is `verdict`
    found string -- yes, no or cannot_tell; for the verdict meets_policy, does_not_meet or notes_not_found
    form string -- name of the form's file
    imported_at timestamp -- when the form was taken
"""
    + _RUN,
    required=("audit_id", *RECORD_KEY, "reader", "clause_id", "found", "run_id"),
)
AUDIT_ESTIMATE = Table(
    "gold",
    "audit_estimate",
    "one estimate of a case-note audit",
    """
    audit_id string -- the audit
    policy_id string -- the policy
    reading string -- the reading that is estimated
    measure string -- positive_predictive_value, missed_cases, kappa, corrected_activity, …
    part string -- overall, or the clause, stratum or provider that the estimate is of
    estimate double -- the estimate
    lower double -- lower 95% confidence limit
    upper double -- upper 95% confidence limit
    worst double -- the estimate if every form that is missing counted against it
    best double -- the estimate if every form that is missing counted for it
    method string -- clopper_pearson, wilson, hajek, bootstrap, census, …
    forms bigint -- forms that the estimate rests on
    not_returned bigint -- forms that did not come back
    notes_not_found bigint -- forms without notes
    status string -- ok or undefined
"""
    + _RUN,
    required=("audit_id", "policy_id", "reading", "measure", "part", "status", "run_id"),
)

# In the order in which they are made.
MONITORING_TABLES = (
    PRIOR_APPROVAL, PRIOR_APPROVAL_QUARANTINE, APPROVAL_MATCH, APPROVAL_UNUSED, REGIME_CHANGE, PATHWAY, PATHWAY_STEP,
    PATHWAY_INCIDENCE, CODE_USE, ACTIVITY_CHANGE, EQUALITY_RATE, AUDIT_SAMPLE, AUDIT_RESULT, AUDIT_ESTIMATE,
)  # fmt: skip

"""The tables of the care around an operation. docs/monitoring-pathway.md and docs/monitoring-outcomes.md explain them."""

from ebi_spark.tables.monitoring_columns import CONTROLLED, OPERATION, OPERATION_KEY, RELEASE_ID, RUN
from ebi_spark.tables.table import YEAR, Table

# Every table of the pathway says so.
_PENDING = " (the article that the pathway follows is pending human review and is not NHS policy)"

PATHWAY = Table(
    "gold",
    "pathway",
    f"a fusion in scope of a policy, with the care around it in one row{_PENDING}",
    OPERATION
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
    + RUN,
    partition_by=(YEAR,),
    required=(
        *OPERATION_KEY,
        "operation_date",
        "operation_date_basis",
        "flagged",
        "levels",
        "algorithm_step",
        "run_id",
    ),
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
    + RUN,
    partition_by=(YEAR,),
    required=(*OPERATION_KEY, "step_id", "window", "state", "run_id"),
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
    + RUN,
    required=("policy_id", "group", "event", "method", "day", "at_risk", "events", "run_id"),
)
PATHWAY_SUMMARY = Table(
    "published",
    "pathway_summary",
    f"the fusions of England in one class of one measure of the care around the operation{_PENDING}",
    RELEASE_ID
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
    + CONTROLLED.format(more=""),
    partition_by=("release_id", YEAR),
    required=("release_id", "policy_id", "revision", "reading", YEAR, "period", "kind", "measure", "class", "status",
              "disclosure"),
)  # fmt: skip

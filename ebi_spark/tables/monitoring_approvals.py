"""The tables of prior approval. docs/monitoring-approvals.md explains them."""

from ebi_spark.tables.monitoring_columns import CONTROLLED, OPERATION, OPERATION_KEY, RELEASE_ID, RUN
from ebi_spark.tables.table import YEAR, Table

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
    + RUN,
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
    + RUN,
    required=("register", "reasons", "source_file", "raw", "run_id"),
    statistics=("register",),
)
APPROVAL_MATCH = Table(
    "gold",
    "approval_match",
    "an operation with what its record says, and the result of looking it up in the registers of approvals",
    OPERATION
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
    + RUN,
    partition_by=(YEAR,),
    required=(*OPERATION_KEY, "operation_date", "operation_date_basis", "flagged", "match_class", "run_id"),
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
    + RUN,
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
    + RUN,
    required=("policy_id", "board", "changed_on", "grain", "period_start", "side", "operations", "flagged", "run_id"),
)
APPROVAL_SUMMARY = Table(
    "published",
    "approval_summary",
    "the operations of one year in one class of prior approval, over all boards of England",
    RELEASE_ID
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
    + CONTROLLED.format(
        more="; or sub_national: the boards with a register are too few, or differ by one from others that are published"
    ),
    partition_by=("release_id", YEAR),
    required=("release_id", "policy_id", "revision", "reading", YEAR, "match_class", "status", "disclosure"),
)

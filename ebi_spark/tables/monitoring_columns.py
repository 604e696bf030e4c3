"""Columns that several tables of monitoring have."""

from ebi_spark.tables.table import RECORD_KEY, YEAR

# An *operation* is a record of admitted care in scope of a policy, under the policy's default reading.
OPERATION = """
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
OPERATION_KEY = ("policy_id", *RECORD_KEY, YEAR)
RUN = "    run_id string -- the run that wrote the row\n"
# The first column of a published table, and its last two. ``{more}``: other values of the status.
RELEASE_ID = "    release_id string -- the release that the row belongs to\n"
CONTROLLED = """    status string -- ok, or withheld: the count is below 8 (default rule), or it would reveal a count below 8{more}
    disclosure string -- the disclosure rule that was applied
"""

"""The tables of case-note audits. docs/monitoring-audit.md explains them."""

from ebi_spark.tables.monitoring_columns import CONTROLLED, RELEASE_ID, RUN
from ebi_spark.tables.table import RECORD_KEY, Table

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
    + RUN,
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
    + RUN,
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
    counted bigint -- how many of these forms have the answer whose share is estimated; for kappa the smallest of three numbers: forms on which both readers say yes, on which both say no, and all others; NULL for other estimates
    effective double -- effective number of forms: how many would give as much information in a simple random sample
    not_returned bigint -- drawn records without a form
    notes_not_found bigint -- forms without notes
    cannot_tell bigint -- forms with the answer cannot tell
    status string -- ok, no_answers, incomplete (a stratum without any answer is left out), few_pairs or undefined
"""
    + RUN,
    required=("audit_id", "policy_id", "reading", "measure", "part", "status", "run_id"),
)
PUBLISHED_AUDIT_ESTIMATE = Table(
    "published",
    "audit_estimate",
    "one estimate of a case-note audit that drew from all providers of England",
    RELEASE_ID
    + """
    audit_id string -- the audit
    policy_id string -- the policy, such as 2Y_back_pain_fusion
    reading string -- the reading that decides the strata
    measure string -- what is estimated, such as positive_predictive_value, missed_cases or kappa
    part string -- overall or clause:ID
    estimate double -- the estimate, rounded to the effect of one form; NULL where withheld
    lower double -- lower 95% confidence limit, rounded down to the effect of five forms
    upper double -- upper 95% confidence limit, rounded up to the effect of five forms
    worst double -- the estimate if every record without an answer counted as no; NULL if, for any published share of the audit, fewer than 8 records have no answer
    best double -- the estimate if every record without an answer counted as yes; NULL where worst is
    method string -- clopper_pearson, wilson, hajek, mover, kappa or count; NULL without an estimate
    forms bigint -- forms with an answer, on which the estimate is based, to the nearest 10
"""
    + CONTROLLED.format(more="; or the reason why there is no estimate: no_answers, incomplete, few_pairs, undefined"),
    partition_by=("release_id",),
    required=("release_id", "audit_id", "policy_id", "reading", "measure", "part", "status", "disclosure"),
)

"""The tables of changes over the years, of groups of people, and of measures over codes and linked records.

docs/monitoring-changes.md explains them."""

from ebi_spark.tables.monitoring_columns import CONTROLLED, RELEASE_ID, RUN
from ebi_spark.tables.table import YEAR, Table

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
    + RUN,
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
    + RUN,
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
    + RUN,
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
    + RUN,
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
    + RUN,
    required=("policy_id", "reading", "period", "dimension", "group", "activity", "status", "run_id"),
)
PUBLISHED_ACTIVITY_CHANGE = Table(
    "published",
    "activity_change",
    "how much one factor changed England's flagged records from one year to another",
    RELEASE_ID
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
    + CONTROLLED.format(more=""),
    partition_by=("release_id",),
    required=("release_id", "policy_id", "revision", "reading", "period_from", "period_to", "component", "status",
              "disclosure"),
)  # fmt: skip
MEASURE_SUMMARY = Table(
    "published",
    "measure_summary",
    "England's records in one class of one measure: the use of a code, a group of people, or a measure over linked records",
    RELEASE_ID
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
    + CONTROLLED.format(more=""),
    partition_by=("release_id", YEAR),
    required=("release_id", "policy_id", "revision", "reading", YEAR, "period", "kind", "measure", "class", "status",
              "disclosure"),
)  # fmt: skip

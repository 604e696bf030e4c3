"""The tables that BI tools take as they are: one table of rates with four tables that describe its keys (a star).

They have the current release only, simple types, and no counts: nothing in them can be added up by mistake. Counts are in
``published/rate``.
"""

from ebi_spark.tables.table import Table

_RELEASE = "    release_id string -- the release that the row is from: always the current one\n"

DIM_POLICY = Table(
    "published",
    "dim_policy",
    "a policy under one revision, in its default reading",
    """
    policy_key string -- key: the policy and its revision, such as 2Y_back_pain_fusion@2022-08
    policy_id string -- the policy, such as 2Y_back_pain_fusion
    revision string -- the revision of the policy
    default_reading string -- the reading that figures are published by
    readings string -- every reading of the policy, separated by semicolons
    title string -- title of the policy
    words string -- the source's own words for the procedures in scope
    publisher string -- who published the policy
    source string -- the page or document
    in_force_from date -- first day of the revision
    in_force_to date -- first day on which the revision no longer applies; NULL while in force
    is_local boolean -- a local policy of one or more boards
    boards string -- codes of the boards of a local policy, separated by semicolons; NULL for a national policy
    wanted string -- lower: the policy asks for fewer flagged records
    target double -- the standardised rate to reach, per 100,000; NULL if the policy has no target
"""
    + _RELEASE,
    required=(
        "policy_key",
        "policy_id",
        "revision",
        "default_reading",
        "readings",
        "title",
        "wanted",
        "is_local",
        "release_id",
    ),
)
DIM_AREA = Table(
    "published",
    "dim_area",
    "an area or provider of the release, or a larger area that has it as a part",
    """
    area_key string -- key: the kind of area and its code, such as icb/QYG
    area_type string -- england, region, icb, sub_icb or provider
    area_type_name string -- the kind of area in words
    ods_code string -- code of the NHS's Organisation Data Service; NULL for England
    ons_code string -- code of the Office for National Statistics, for maps; NULL for providers, and for regions before April 2026
    area_name string -- name of the area; of a provider its code, unless the configuration names a file of names
    parent_key string -- area_key of the area that it is part of; NULL for England and providers
    parent_ods_code string -- NHS code of that area; NULL where it is England
    parent_ons_code string -- ONS code of that area
    parent_name string -- name of that area
    icb_code string -- the integrated care board that it is or is part of; NULL for larger areas and providers
    icb_name string -- name of that board
    region_code string -- the region that it is or is part of; NULL for England and providers
    region_name string -- name of that region
    valid_from date -- first day of its ONS code or, for a sub-ICB location, of its name and board; NULL if not known
    valid_to date -- first day on which these no longer apply; NULL while they do
    geography string -- version of the areas that the release shows
"""
    + _RELEASE,
    required=("area_key", "area_type", "area_type_name", "area_name", "release_id"),
)
DIM_PERIOD = Table(
    "published",
    "dim_period",
    "a financial year, or several years that are pooled",
    """
    period_key string -- key: the year, or the first and last year
    label string -- for axes, such as 2021-22 or 2019-20 to 2021-22
    start_date date -- first day
    end_date date -- last day
    years int -- number of years
    is_pooled boolean -- several years are pooled
    sort_key int -- orders periods by their end, then by their length
"""
    + _RELEASE,
    required=("period_key", "label", "start_date", "end_date", "years", "is_pooled", "sort_key", "release_id"),
)
DIM_STATUS = Table(
    "published",
    "dim_status",
    "what a status means",
    """
    status_code string -- key: the status of a rate, as in published/rate
    words string -- the status in words
    footnote string -- the text to put under a table or chart
"""
    + _RELEASE,
    required=("status_code", "words", "footnote", "release_id"),
)
RATE_CURRENT = Table(
    "published",
    "rate_current",
    "the rate of one area and published period under a policy revision's default reading, in the current release",
    """
    policy_key string -- published/dim_policy
    area_key string -- published/dim_area
    period_key string -- published/dim_period
    status_code string -- published/dim_status
    area_type string -- as in dim_area: a query filters on one kind of area
    is_pooled boolean -- as in dim_period: a query filters on one kind of period
    standardised_rate double -- flagged records per 100,000 people, standardised for age and sex: by the direct method for England, by the indirect one below it under a rule with secondary suppression. `method` says which
    lower_95 double -- lower 95% limit of the standardised rate; below England it holds for every count that rounding leaves possible
    upper_95 double -- upper 95% limit, likewise
    lower_998 double -- lower 99.8% limit, likewise; NULL for England
    upper_998 double -- upper 99.8% limit, likewise
    crude_rate double -- flagged records per 100,000 people; below England of the rounded count
    crude_lower_95 double -- lower 95% limit of the crude rate; below England it holds for every count that rounding leaves possible
    crude_upper_95 double -- upper 95% limit, likewise
    flagged_share double -- flagged records as a share of those in scope; below England of rounded counts
    share_lower_95 double -- lower 95% limit of the share; below England it holds for every pair of counts that rounding leaves possible
    share_upper_95 double -- upper 95% limit, likewise
    england_rate double -- England's standardised rate of the same policy and period
    england_share double -- England's flagged share of the same policy and period
    compared_with_england_95 string -- lower or higher: both of lower_95 and upper_95 are below or above england_rate; similar: england_rate is between them; not_compared
    compared_with_england_998 string -- likewise, by lower_998 and upper_998: whether chance alone may explain the difference. The report's funnel plot can also allow for how much areas differ in general, so it calls fewer areas higher or lower, and never one that is similar here
    method string -- how the rate was calculated
    notes string -- what to know about the figure, separated by semicolons: distant_vintage, back_cast, partial_year, …
"""
    + _RELEASE,
    required=("policy_key", "area_key", "period_key", "status_code", "area_type", "is_pooled",
              "compared_with_england_95", "compared_with_england_998", "release_id"),
)  # fmt: skip

STAR_TABLES = (DIM_POLICY, DIM_AREA, DIM_PERIOD, DIM_STATUS, RATE_CURRENT)

"""A Databricks metric view of ``published/rate_current``, joined with the tables that describe its keys.

A metric view aggregates its measures over the groups of each query. The rate of several areas or years is neither the sum nor the
mean of their rates. So a measure has a value only where a group is one row of the table, and is NULL elsewhere.
"""

from typing import Any

import yaml

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.lake.catalogue import catalogue_name
from ebi_spark.quoting import sql_name
from ebi_spark.tables.star import DIM_AREA, DIM_PERIOD, DIM_POLICY, DIM_STATUS, RATE_CURRENT

NAME = "ebi_rates"
# The tables that describe the keys of a rate, by the name under which the view joins them.
DIMENSIONS = {"policy": DIM_POLICY, "area": DIM_AREA, "period": DIM_PERIOD, "status": DIM_STATUS}
# Columns to group and filter by: (table, column, another name if the column's own is not clear enough).
_FIELDS = (
    ("policy", "title", "policy_title"), ("policy", "policy_id", ""), ("policy", "revision", ""), ("policy", "is_local", ""),
    ("policy", "wanted", ""), ("policy", "target", ""), ("area", "area_name", ""), ("area", "area_type_name", ""),
    ("area", "ods_code", ""), ("area", "ons_code", ""), ("area", "icb_name", ""), ("area", "region_name", ""),
    ("period", "label", "period_label"), ("period", "start_date", ""), ("period", "end_date", ""),
    ("status", "words", "status_words"), ("status", "footnote", ""),
)  # fmt: skip
_COMPARED = "compared_with_england_998"
_OWN_FIELDS = ("area_type", "is_pooled", "compared_with_england_95", _COMPARED, "method", "notes")
_ONE_ROW = "CASE WHEN COUNT(*) = 1 THEN MAX({}) END"
_ONE_KIND = "CASE WHEN COUNT(DISTINCT policy_key, period_key, area_type) = 1 THEN {} END"


def metric_view(location: LakeLocation) -> dict[str, Any]:
    """The definition of the view, to be written as YAML."""
    meanings = {name: meaning for name, _, meaning in RATE_CURRENT.fields()}
    fields = [
        {"name": name or column, "expr": f"{join}.{column}", "comment": _meaning(join, column)}
        for join, column, name in _FIELDS
    ]
    fields += [{"name": name, "expr": name, "comment": meanings[name]} for name in _OWN_FIELDS]
    measures = [
        {"name": name, "expr": _ONE_ROW.format(name), "comment": f"{meaning}. Only for one area, period and policy"}
        for name, kind, meaning in RATE_CURRENT.fields()
        if kind == "double"
    ]
    measures += [
        {
            "name": f"areas_{word}",
            "expr": _ONE_KIND.format(f"COUNT_IF({_COMPARED} = '{word}')"),
            "comment": f"number of areas where {_COMPARED} is {word}. Only for one kind of area, period and policy",
        }
        for word in ("lower", "similar", "higher")
    ]
    return {
        "version": 1.1,
        "comment": f"{RATE_CURRENT.row}. Rates cannot be added up: a measure is NULL for more than one row.",
        "source": catalogue_name(location, RATE_CURRENT),
        "joins": [
            {"name": name, "source": catalogue_name(location, table), "on": f"source.{key} = {name}.{key}"}
            for name, table in DIMENSIONS.items()
            for key in table.names()[:1]
        ],
        "dimensions": fields,
        "measures": measures,
    }


def _meaning(join: str, column: str) -> str:
    return next(meaning for name, _, meaning in DIMENSIONS[join].fields() if name == column)


def metric_view_sql(location: LakeLocation) -> str:
    """The statement that creates the view in the published schema."""
    name = sql_name(str(location.catalog), location.schemas["published"], NAME)
    text = yaml.safe_dump(metric_view(location), sort_keys=False, allow_unicode=True, width=1000)
    return f"CREATE OR REPLACE VIEW {name}\nWITH METRICS\nLANGUAGE YAML\nAS $$\n{text}$$"

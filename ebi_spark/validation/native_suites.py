"""Suites in Great Expectations' own format: read them, and run them on pandas.

The published tables have such suites, in ``expectations/published/``. Anybody can load one with
``great_expectations.ExpectationSuite(**json.load(file))``. ``meta.id`` of an expectation names the check that it belongs to;
several expectations can make one check, such as a list of values and *not NULL*. The tables are figures, a few thousand rows.
Results have numbers of rows only, never a value.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ebi_spark.errors import InputError

# Numbers of rows, but no values and no rows.
COUNTS_ONLY = {
    "result_format": "BASIC",
    "exclude_unexpected_values": True,
    "include_unexpected_rows": False,
    "partial_unexpected_count": 0,
}


def great_expectations() -> Any:
    """The module ``great_expectations``, which may not contact the web.

    It is imported where it is used, because the import takes seconds.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # set before the import, which would otherwise contact the web
    import great_expectations

    return great_expectations


def new_context() -> Any:
    """A context of Great Expectations that keeps nothing on disk and shows no progress bars."""
    gx = great_expectations()
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


def read_suite(path: Path) -> dict[str, Any]:
    """A suite as its file has it. Great Expectations is not needed for this.

    An :class:`InputError` for a file that is not a suite, or an expectation without an id, description or severity.
    """
    where = f"expectations: {path}"
    remedy = "correct the file; its form is that of Great Expectations' suites, and each expectation needs `meta.id`"
    try:
        suite = json.loads(path.read_text(encoding="utf-8"))
        items = suite["expectations"]
        listed = [(item["type"], item["meta"]["id"], item["description"], item["severity"]) for item in items]
        texts = [suite["name"], *(text for item in listed for text in item)]
    except ValueError as error:
        raise InputError(f"{where} is not JSON: {error}", remedy=remedy) from None
    except (KeyError, TypeError) as error:
        raise InputError(f"{where}: a key is missing or in the wrong place: {error}", remedy=remedy) from None
    if not items or not all(isinstance(text, str) and text for text in texts):
        raise InputError(f"{where}: it has no expectations, or a text is empty", remedy=remedy)
    meanings: dict[str, tuple[str, str]] = {}
    for _, name, description, severity in listed:
        if meanings.setdefault(name, (description, severity)) != (description, severity):
            raise InputError(
                f"{where}: the expectations of {name} differ in description or severity",
                remedy="give all expectations of one check the same description and severity",
            )
    assert isinstance(suite, dict)
    return suite


def load(suite: Mapping[str, Any], where: str) -> Any:
    """A suite as Great Expectations loads it, from the content of its file ``where``.

    An :class:`InputError` if a type is unknown, an argument is wrong, or fewer expectations are loaded than the file has:
    Great Expectations drops an expectation that it does not know and only writes a line to its log.
    """
    gx = great_expectations()
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    items = suite["expectations"]
    unknown = sorted({item["type"] for item in items} - set(list_registered_expectation_implementations()))
    if unknown:
        raise InputError(
            f"expectations: {where}: Great Expectations {gx.__version__} does not know {', '.join(unknown)}",
            remedy="correct `type`, or install the locked version: `make setup`",
        )
    try:
        loaded = gx.ExpectationSuite(**suite)
    except (ValueError, TypeError, gx.exceptions.GreatExpectationsError) as error:
        raise InputError(
            f"expectations: {where}: Great Expectations {gx.__version__} cannot load it: {' '.join(str(error).split())}",
            remedy="correct the arguments in `kwargs`",
        ) from None
    if len(loaded.expectations) != len(items):
        raise InputError(
            f"expectations: {where}: {len(items)} expectations in the file, {len(loaded.expectations)} loaded by Great "
            f"Expectations {gx.__version__}",
            remedy="correct the expectations that its log names, or remove those that are repeated",
        )
    return loaded


def to_pandas(rows: pa.Table) -> pd.DataFrame:
    """Rows as pandas has them, for Great Expectations.

    NULL is missing. pandas cannot tell NULL from *not a number*, so the latter becomes infinity: both are above every number,
    and both fail a check for finite numbers.
    """
    for place, field in enumerate(rows.schema):
        if pa.types.is_floating(field.type):
            column = rows.column(place)
            infinite = pa.scalar(float("inf"), field.type)
            rows = rows.set_column(place, field, pc.if_else(pc.is_nan(column), infinite, column))
    frame: pd.DataFrame = rows.to_pandas(date_as_object=False)
    return frame


def run(suite: Any, frame: pd.DataFrame) -> list[Any]:
    """Great Expectations' results for a loaded suite and the rows of its table, one for each expectation."""
    batch = new_context().data_sources.pandas_default.read_dataframe(frame)
    return list(batch.validate(suite, result_format=COUNTS_ONLY).results)


def count_violations(results: Iterable[Any]) -> tuple[Counter[str], set[str]]:
    """The violations of each check, and the checks that could not be evaluated (which count as violated).

    Violations are rows. A row that does not meet two expectations of a check counts twice. An expectation about a whole
    table or column counts as one.
    """
    counts: Counter[str] = Counter()
    raised: set[str] = set()
    for item in results:
        check = item.expectation_config.meta["id"]
        counts[check] += 0 if item.success else _rows(item)
        if has_raised(item.exception_info):
            raised.add(check)
    return counts, raised


def _rows(result: Any) -> int:
    """How many rows violate an expectation that is not met; 1 if it is not about single rows."""
    found = dict(result.result or {})
    key = (
        "observed_value" if result.expectation_config.type == "expect_table_row_count_to_equal" else "unexpected_count"
    )
    return max(1, int(found.get(key) or 0))


def has_raised(info: Any) -> bool:
    """Whether an expectation raised an exception. Great Expectations says so directly or by metric."""
    if not isinstance(info, dict):
        return False
    if "raised_exception" in info:
        return bool(info["raised_exception"])
    return any(has_raised(item) for item in info.values())

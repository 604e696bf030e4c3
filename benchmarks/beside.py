"""The same work by DuckDB: the tables of silver as Parquet, and the published SQL. For SUS+; of HES see
:mod:`benchmarks.beside_hes`.

``ingest`` writes what the product's ingest writes: records with ``cleaned`` and ``content``, sorted as silver is (each table as a
whole, because DuckDB cannot sort by parts), rows of repeated keys with what was decided about them, quarantined rows with their
reasons and raw values, and the audit of each file.
Text files (``--format csv``) are first written as Parquet, all columns as text, and then cleaned in the same way; that counts as
part of ``ingest``. Dates and numbers are known only as made-up files write them, and DuckDB stops at a line that it cannot parse.
``normalise`` writes only the records, without ``cleaned`` and ``content``, unsorted. ``published`` runs the pages' SQL on the raw files,
with quotes and aliases repaired and character classes as regular expressions. ``compare`` is not timed: it says whether silver and
gold have the same rows as DuckDB's tables, and what the published SQL finds in DuckDB's; ``compare-ingest`` compares silver
alone, and names the columns that differ. ``flags`` continues from the records of ``ingest``
to flags and rates (:mod:`benchmarks.beside_flags`).
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.beside_flags import compare_flags, flags_and_rates
from benchmarks.duckdb_tables import in_folders, quoted, rows_in, same_rows
from ebi_spark.config.load import load_config
from ebi_spark.tables.silver import RECORD_TABLES

_MACROS = """
CREATE MACRO text_of(x) AS CASE WHEN trim(x) = '' OR upper(trim(x)) = 'NULL' THEN NULL ELSE trim(x) END;
CREATE MACRO two_characters(x) AS
  CASE WHEN length(text_of(x)) = 1 THEN '0' || upper(text_of(x)) ELSE upper(text_of(x)) END;
CREATE MACRO code_of(x) AS upper(replace(replace(text_of(x), '.', ''), ' ', ''));
CREATE MACRO bare(x) AS
  replace(replace(replace(upper(trim(text_of(x), '|, ' || chr(9))), ' ', ''), '.', ''), chr(9), '');
CREATE MACRO packed(x) AS replace(',' || replace(replace(bare(x), '||', '|'), '|', ',|,') || ',', ',,', ',');
CREATE MACRO single_codes(p) AS
  regexp_replace(regexp_replace(p, ',(?:[-&]*,)+', ',', 'g'), '(?:,\\|)+,', ',|,', 'g');
CREATE MACRO tidied(p) AS nullif(regexp_replace(regexp_replace(single_codes(p), '^,\\|,', ','), ',\\|,$', ','), ',');
CREATE MACRO tidy(p) AS CASE WHEN length(p) > 2 THEN
  CASE WHEN contains(p, ',,') OR contains(p, ',-') OR contains(p, ',&') OR contains(p, ',|,|,') THEN tidied(p) ELSE p END
  END;
CREATE MACRO codes_of(x) AS tidy(packed(x));
CREATE MACRO no_placeholder(d) AS CASE WHEN d NOT IN (DATE '0001-01-01', DATE '1582-10-15', DATE '1600-01-01', DATE '1753-01-01',
  DATE '1800-01-01', DATE '1801-01-01', DATE '1899-12-30', DATE '1899-12-31', DATE '1900-01-01', DATE '1901-01-01',
  DATE '9999-12-31') THEN d END;
CREATE MACRO first_year(d) AS year(d) - CASE WHEN month(d) < 4 THEN 1 ELSE 0 END;
CREATE MACRO year_of(d) AS first_year(d)::VARCHAR || '-' || lpad(((first_year(d) + 1) % 100)::VARCHAR, 2, '0');
CREATE MACRO year_by(d, stated) AS coalesce(year_of(d), left(stated, 4) || '-' || right(stated, 2));
CREATE MACRO years_old(a) AS CASE WHEN a >= 7000 THEN 0 WHEN a BETWEEN 0 AND 120 THEN a END;
CREATE MACRO emptied(x, value) AS CASE WHEN trim(x) = '' THEN 'blank' WHEN upper(trim(x)) = 'NULL' THEN 'null_text'
  WHEN x IS NOT NULL AND value IS NULL THEN 'blank' END;
CREATE MACRO restyled(x) AS CASE WHEN contains(x, '.') THEN 'dots' WHEN x <> upper(x) THEN 'case' END;
CREATE MACRO text_changed(x, value) AS CASE WHEN x = value THEN NULL
  ELSE coalesce(emptied(x, value), restyled(x), CASE WHEN x IS NOT NULL THEN 'padding' END) END;
CREATE MACRO two_changed(x, value) AS CASE WHEN x = value THEN NULL
  ELSE coalesce(emptied(x, value), CASE WHEN length(trim(x)) = 1 THEN 'one_digit' END, text_changed(x, value)) END;
CREATE MACRO list_changed(x, value) AS coalesce(emptied(x, value), restyled(x));
"""
# Of columns that are dates and numbers in the files, and of those that are text there (in the only form that made-up files have).
_TYPED_MACROS = """
CREATE MACRO day_of(d) AS no_placeholder(d);
CREATE MACRO number_of(x) AS x;
CREATE MACRO day_changed(d) AS CASE WHEN d IS NOT NULL AND day_of(d) IS NULL THEN 'sentinel' END;
"""
_TEXT_MACROS = """
CREATE MACRO day_in(d) AS try_cast(text_of(d) AS DATE);
CREATE MACRO day_of(d) AS no_placeholder(day_in(d));
CREATE MACRO number_of(x) AS trunc(try_cast(text_of(x) AS DOUBLE))::INT;
CREATE MACRO day_changed(d) AS CASE WHEN d IS NOT NULL AND day_of(d) IS NULL THEN
  coalesce(emptied(d, d), CASE WHEN day_in(d) IS NULL THEN 'not_a_date' ELSE 'sentinel' END) END;
CREATE MACRO number_changed(x) AS CASE WHEN x IS NOT NULL AND number_of(x) IS NULL THEN
  coalesce(emptied(x, x), 'not_a_number') END;
"""

# The rows of repeated keys with what was decided about each (decision 21; made-up rows have no extract dates). `made` are the values
# that silver takes from a row: rows that are equal there count once.
_REPEATED = """
CREATE TEMP TABLE {name}_again AS SELECT {key} AS again FROM {name} WHERE {key} IS NOT NULL GROUP BY 1 HAVING count(*) > 1;
CREATE TEMP TABLE {name}_repeated AS
  WITH made AS (SELECT a AS whole, {made} FROM {name} a WHERE {key} IN (FROM {name}_again)),
  hashed AS (SELECT unnest(whole), hash(*COLUMNS(* EXCLUDE (whole))) AS same FROM made),
  placed AS (SELECT *, hash(*COLUMNS(* EXCLUDE (filename, same))) AS content FROM hashed)
  SELECT * EXCLUDE (same), row_number() OVER same_values = 1 AND min(same) OVER same_key <> max(same) OVER same_key AS conflict,
    row_number() OVER same_values > 1 AS is_duplicate, content <> first_value(content) OVER same_values AS differs_elsewhere
  FROM placed WINDOW same_key AS (PARTITION BY {key}), same_values AS (PARTITION BY {key}, same ORDER BY filename, content);
CREATE VIEW {name}_counted AS FROM {name} ANTI JOIN {name}_again ON {key} = again
  UNION ALL BY NAME SELECT * EXCLUDE (content, conflict, is_duplicate, differs_elsewhere) FROM {name}_repeated WHERE NOT is_duplicate;
CREATE VIEW {name}_conflicting AS SELECT {key} AS against FROM {name}_repeated WHERE conflict;
CREATE VIEW {name}_once AS
  FROM {name}_counted WHERE {key} IS NOT NULL AND {key} NOT IN (FROM {name}_conflicting);
"""

_COMMON = """
  text_of(a.Der_Pseudo_NHS_Number::VARCHAR) AS person_id, text_of(a.Der_Provider_Code) AS provider_code,
  text_of(a.Der_Commissioner_Code) AS commissioner_code, text_of(a.GP_Practice_Code) AS gp_practice_code,
  text_of(a.Der_Postcode_LSOA_2011_Code) AS lsoa, NULL::VARCHAR AS lsoa_2021, NULL::VARCHAR AS lsoa_2001,
  NULL::VARCHAR AS gp_practice_sus, upper(text_of(a.Sex)) AS sex,
  two_characters(a.Administrative_Category) AS administrative_category,
  codes_of(a.Der_Diagnosis_All) AS diagnosis_codes, codes_of(a.Der_Procedure_All) AS procedure_codes
"""

# What a record takes from its own row; a spell has values of its derived row besides.
_OF_SPELL = f"""{_COMMON},
  coalesce(number_of(a.Age_At_Start_of_Spell_SUS), number_of(a.Der_Age_at_CDS_Activity_Date)) AS age,
  years_old(age) AS age_years,
  day_of(a.Admission_Date) AS admission_date, day_of(a.Discharge_Date) AS discharge_date,
  day_of(a.Discharge_Date) AS activity_date, text_of(a.Der_Admit_Treatment_Function_Code) AS treatment_function,
  two_characters(a.Admission_Method) AS admission_method, upper(text_of(a.Discharge_Method)) AS discharge_method,
  upper(text_of(a.Patient_Classification)) AS patient_classification, NULL::DATE AS procedure_date,
  text_of(a.Source_of_Admission) AS admission_source, text_of(a.Discharge_Destination) AS discharge_destination,
  text_of(a.Hospital_Spell_No) AS provider_spell_number
"""
_OF_ATTENDANCE = f"""{_COMMON},
  coalesce(number_of(a.Age_at_Start_of_Episode_SUS), number_of(a.Der_Age_at_CDS_Activity_Date)) AS age,
  years_old(age) AS age_years,
  day_of(a.Appointment_Date) AS activity_date, text_of(a.Treatment_Function_Code) AS treatment_function,
  upper(text_of(a.Attendance_Status)) AS attendance_status, upper(text_of(a.First_Attendance)) AS first_attendance,
  two_characters(a.Referral_Source) AS referral_source,
  coalesce(year_of(activity_date), left(a.Der_Financial_Year, 4) || '-' || right(a.Der_Financial_Year, 2))
    AS financial_year
"""

_SPELLS = f"""
SELECT 'sus_plus' AS source_system, 'apc' AS dataset, a.APCS_Ident::VARCHAR AS record_id, {_OF_SPELL},
  code_of(d.Spell_Dominant_Procedure) AS dominant_procedure, left(dominant_procedure, 4) AS dominant_procedure_4,
  code_of(d.Spell_Primary_Diagnosis) AS primary_diagnosis,
  CASE WHEN d.APCS_Ident IS NULL THEN 'no_derived_row' ELSE 'sus_grouper' END AS dominance_basis,
  false AS incomplete_spell, 1 AS episodes, a.filename AS source_file, 'beside' AS run_id,
  year_of(activity_date) AS financial_year
FROM apcs_once a LEFT JOIN apcs_der_once d ON a.APCS_Ident = d.APCS_Ident
WHERE day_of(a.Discharge_Date) IS NOT NULL
"""

_ATTENDANCES = f"""
SELECT 'sus_plus' AS source_system, 'op' AS dataset, a.OPA_Ident::VARCHAR AS record_id, {_OF_ATTENDANCE},
  a.filename AS source_file, 'beside' AS run_id
FROM opa_once a WHERE financial_year IS NOT NULL
"""

# The fields in `cleaned`: (field, how a change is noted, the source's column), in silver's order. A number can only be
# unreadable where it is text.
_FIRST = (
    ("provider_code", "text", "a.Der_Provider_Code"),
    ("commissioner_code", "text", "a.Der_Commissioner_Code"),
    ("gp_practice_code", "text", "a.GP_Practice_Code"),
    ("lsoa", "text", "a.Der_Postcode_LSOA_2011_Code"),
    ("sex", "text", "a.Sex"),
    ("administrative_category", "two", "a.Administrative_Category"),
)
_LISTS = (("diagnosis_codes", "list", "a.Der_Diagnosis_All"), ("procedure_codes", "list", "a.Der_Procedure_All"))
_NOTED = {
    "apc_spell": (
        *_FIRST,
        ("treatment_function", "text", "a.Der_Admit_Treatment_Function_Code"),
        ("age", "number", "a.Age_At_Start_of_Spell_SUS"),
        ("age_fallback", "number", "a.Der_Age_at_CDS_Activity_Date"),
        *_LISTS,
        ("admission_date", "day", "a.Admission_Date"),
        ("discharge_date", "day", "a.Discharge_Date"),
        ("admission_method", "two", "a.Admission_Method"),
        ("discharge_method", "text", "a.Discharge_Method"),
        ("patient_classification", "text", "a.Patient_Classification"),
        ("dominant_procedure", "text", "d.Spell_Dominant_Procedure"),
        ("primary_diagnosis", "text", "d.Spell_Primary_Diagnosis"),
    ),
    "op_attendance": (
        *_FIRST,
        ("treatment_function", "text", "a.Treatment_Function_Code"),
        ("age", "number", "a.Age_at_Start_of_Episode_SUS"),
        ("age_fallback", "number", "a.Der_Age_at_CDS_Activity_Date"),
        *_LISTS,
        ("appointment_date", "day", "a.Appointment_Date"),
        ("attendance_status", "text", "a.Attendance_Status"),
        ("first_attendance", "text", "a.First_Attendance"),
        ("referral_source", "two", "a.Referral_Source"),
    ),
}
_SORTED_BY = {"apc_spell": "dominant_procedure_4", "op_attendance": "procedure_codes"}

_QUARANTINED = """
SELECT '{system}' AS source_system, '{dataset}' AS dataset, '{name}' AS role, a.{key}::VARCHAR AS record_id,
  coalesce({year}, 'unknown') AS financial_year,
  {reasons} AS reasons,
  a.filename AS source_file, to_json(a)::VARCHAR AS raw, NULL::DATE AS extract_date, 'beside' AS run_id
FROM {name}_counted a {joined} WHERE len(reasons) > 0
"""


def reasons(own: str) -> str:
    """The reasons of a row: those of every source table, and one of its ``own``."""
    return (
        f"list_filter([CASE WHEN a.{{key}} IS NULL THEN 'no_key' END, {own}, CASE WHEN a.{{key}} IN "
        "(FROM {name}_conflicting) THEN 'conflicting_duplicate' END], x -> x IS NOT NULL)"
    )


_OF_APCS = "year_by(day_of(a.Discharge_Date), a.Der_Financial_Year)"
_OF_OPA = "year_by(day_of(a.Appointment_Date), a.Der_Financial_Year)"
_ROLES: dict[str, dict[str, str]] = {
    "apcs": {
        "dataset": "apc", "key": "APCS_Ident", "made": f"{_OF_SPELL}, {_OF_APCS} AS financial_year",
        "year": _OF_APCS, "joined": "",
        "reasons": reasons("CASE WHEN day_of(a.Discharge_Date) IS NULL THEN 'undischarged' END"),
    },
    "apcs_der": {
        "dataset": "apc", "key": "APCS_Ident", "year": "k.spell_year",
        "made": "code_of(a.Spell_Dominant_Procedure), code_of(a.Spell_Primary_Diagnosis)",
        "joined": f"LEFT JOIN (SELECT a.APCS_Ident, min({_OF_APCS}) AS spell_year FROM apcs a GROUP BY 1) k "
        "ON a.APCS_Ident = k.APCS_Ident",
        "reasons": reasons("CASE WHEN a.APCS_Ident IS NOT NULL AND k.APCS_Ident IS NULL THEN 'no_spell' END"),
    },
    "opa": {
        "dataset": "op", "key": "OPA_Ident", "made": _OF_ATTENDANCE, "year": _OF_OPA, "joined": "",
        "reasons": reasons(f"CASE WHEN {_OF_OPA} IS NULL THEN 'no_usable_date' END"),
    },
}  # fmt: skip

# The pages' SQL over the views `spell` and `attendance`. Case counts here though it does not in SQL Server's collation:
# ignoring it would make DuckDB slower.
PUBLISHED = {
    "2Y_back_pain_fusion": """
SELECT count(*) FROM spell
WHERE (regexp_matches(left(dominant, 4), 'V38[23456]') OR left(dominant, 4) LIKE '%V404%')
  AND regexp_matches(main_diagnosis, 'M54[59]')
  AND NOT regexp_matches(diagnoses, 'M40[012]') AND NOT regexp_matches(diagnoses, 'M41[01234589]')
  AND NOT regexp_matches(diagnoses, 'M42[019]') AND NOT regexp_matches(diagnoses, 'M43[01589]')
  AND diagnoses NOT LIKE '%M872%'
  AND age BETWEEN 19 AND 120 AND method NOT LIKE '2%'
  AND ((NOT regexp_matches(diagnoses, 'C[0-9][0-9]') AND diagnoses NOT LIKE '%D0%'
        AND NOT regexp_matches(diagnoses, 'D3[789]') AND NOT regexp_matches(diagnoses, 'D4[012345678]'))
       OR diagnoses IS NULL)
  AND category <> '02'
""",
    "2S_lower_back_imaging": """
SELECT count(*) FROM attendance
WHERE (regexp_matches(procedures, 'U05[45]')
       OR ((regexp_matches(procedures, 'U13[2356]') OR regexp_matches(procedures, 'U21[1267]'))
           AND (procedures LIKE '%Z665%' OR procedures LIKE '%O162%')))
  AND age BETWEEN 19 AND 120
  AND NOT regexp_matches(diagnoses, 'C[0-9][0-9]') AND diagnoses NOT LIKE '%D0%'
  AND NOT regexp_matches(diagnoses, 'D3[789]') AND NOT regexp_matches(diagnoses, 'D4[012345678]')
  AND category <> '02'
""",
}

_RAW_VIEWS = """
CREATE VIEW spell AS SELECT d.Spell_Dominant_Procedure AS dominant, d.Spell_Primary_Diagnosis AS main_diagnosis,
  a.Der_Diagnosis_All AS diagnoses, coalesce(a.Age_At_Start_of_Spell_SUS, a.Der_Age_at_CDS_Activity_Date) AS age,
  a.Admission_Method AS method, a.Administrative_Category AS category
  FROM apcs a LEFT JOIN apcs_der d ON a.APCS_Ident = d.APCS_Ident;
CREATE VIEW attendance AS SELECT Der_Procedure_All AS procedures, Der_Diagnosis_All AS diagnoses,
  coalesce(Age_at_Start_of_Episode_SUS, Der_Age_at_CDS_Activity_Date) AS age, Administrative_Category AS category
  FROM opa;
"""

_NORMALISED_VIEWS = """
CREATE VIEW spell AS SELECT dominant_procedure AS dominant, primary_diagnosis AS main_diagnosis,
  diagnosis_codes AS diagnoses, age, admission_method AS method, administrative_category AS category FROM apc_spell;
CREATE VIEW attendance AS SELECT procedure_codes AS procedures, diagnosis_codes AS diagnoses, age,
  administrative_category AS category FROM op_attendance;
"""


@dataclass(frozen=True)
class System:
    """How DuckDB makes silver from the files of one system.

    ``roles``: of each source table its key, the values that silver takes from a row (``made``), and the year and the reasons of a
    quarantined one (``joined``: what these need besides); ``after`` is SQL that runs once its repeated keys are resolved.
    ``records``: the query of each table of records, which has ``cleaned`` itself unless ``noted`` says how to find it.
    ``text``: whether its Parquet files have nothing but text.
    """

    name: str
    roles: Mapping[str, Mapping[str, str]]
    records: Mapping[str, str]
    noted: Mapping[str, Sequence[tuple[str, str, str]]]
    text: bool = False


SUS_PLUS = System("sus_plus", _ROLES, {"apc_spell": _SPELLS, "op_attendance": _ATTENDANCES}, _NOTED)
QUARANTINED_FILE, REPEATED_FILE, AUDIT_FILE = "quarantine.parquet", "repeated_row.parquet", "ingest_audit.parquet"
# Run, path and the way of hashing differ between the two by nature; everything else has to be the same.
_NOT_COMPARED = ("source_file", "run_id", "content")
_COMPARED = {
    "quarantine": (QUARANTINED_FILE, ("dataset", "role", "record_id", "financial_year", "reasons")),
    "repeated_row": (REPEATED_FILE, ("role", "record_id", "conflict", "is_duplicate", "differs_elsewhere")),
    "ingest_audit": (AUDIT_FILE, ("parse_filename(source_file)", "rows_read", "rows_quarantined", "rows_duplicate",
                                  "rows_differing_elsewhere", "records_built")),
}  # fmt: skip


def connected(threads: int, *, text: bool = False) -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory with the macros, those for ``text`` or those for dates and numbers."""
    database = duckdb.connect()
    database.execute(f"SET threads = {int(threads)}")
    database.execute("SET enable_progress_bar = false")
    database.execute(_MACROS + (_TEXT_MACROS if text else _TYPED_MACROS))
    return database


def raw_views(database: duckdb.DuckDBPyConnection, source: Path, system: System = SUS_PLUS) -> None:
    """The source tables as views on their Parquet files."""
    for name, role in system.roles.items():
        files = rows_in(source / "data" / name / "**" / "*.parquet")
        # An empty text is no key.
        rows = f"* REPLACE (text_of({role['key']}) AS {role['key']})" if system.text else "*"
        database.execute(f"CREATE VIEW {name} AS SELECT {rows} FROM {files}")


def _text_views(database: duckdb.DuckDBPyConnection, source: Path, system: System, place: Path) -> None:
    """The source tables as views on Parquet files that are written in ``place`` from text files, with all columns as text."""
    place.mkdir(parents=True)
    for name, role in system.roles.items():
        files, stored = rows_in(source / "data" / name / "**" / "*.csv"), quoted(place / f"{name}.parquet")
        database.execute(f"COPY (FROM {files}) TO {stored} (FORMAT parquet)")
        rows = f"* REPLACE (text_of({role['key']}) AS {role['key']})"
        database.execute(f"CREATE VIEW {name} AS SELECT {rows} FROM read_parquet({stored})")


def ingest(system: System, source: Path, out: Path, threads: int, file_format: str) -> dict[str, Any]:
    """Write everything that the product's ingest writes; return the seconds of each table."""
    text, seconds = system.text or file_format == "csv", {}
    database = connected(threads, text=text)
    started = time.monotonic()
    if file_format == "csv":
        _text_views(database, source, system, out / "text")
        seconds["text files"] = time.monotonic() - started
    else:
        raw_views(database, source, system)
    seconds |= _records(database, system, out, whole=True, text=text)
    started = time.monotonic()
    parts = []
    for name, role in system.roles.items():
        filled = {**role, "reasons": role["reasons"].format(name=name, **role)}
        parts.append(_QUARANTINED.format(system=system.name, name=name, **filled))
    quarantined, repeated, audit = (quoted(out / name) for name in (QUARANTINED_FILE, REPEATED_FILE, AUDIT_FILE))
    database.execute(f"COPY ({' UNION ALL '.join(parts)}) TO {quarantined} (FORMAT parquet, COMPRESSION zstd)")
    decided = " UNION ALL ".join(
        f"SELECT '{system.name}' AS source_system, '{name}' AS role, {role['key']}::VARCHAR AS record_id, conflict, is_duplicate, "
        f"differs_elsewhere, content, filename AS source_file, 'beside' AS run_id FROM {name}_repeated"
        for name, role in system.roles.items()
    )
    database.execute(f"COPY ({decided}) TO {repeated} (FORMAT parquet, COMPRESSION zstd)")
    seconds["quarantine"] = time.monotonic() - started
    started = time.monotonic()
    read = " UNION ALL ".join(
        f"SELECT filename AS source_file, count(*) AS rows_read FROM {n} GROUP BY 1" for n in system.roles
    )
    built = " UNION ALL ".join(
        f"SELECT source_file, count(*) AS records_built, histogram(array_to_string(cleaned, ' ')) AS cleaned FROM "
        f"read_parquet({quoted(out / table / '*' / '*.parquet')}) GROUP BY 1"
        for table in system.records
    )
    database.execute(
        f"COPY (SELECT source_file, coalesce(COLUMNS('rows_.*|records_built'), 0), reasons, cleaned FROM ({read}) "
        "LEFT JOIN (SELECT source_file, count(*) AS rows_quarantined, histogram(reasons) AS reasons FROM "
        f"{quarantined} GROUP BY 1) USING (source_file) LEFT JOIN (SELECT source_file, count(*) FILTER (is_duplicate) AS rows_duplicate, "
        f"count(*) FILTER (differs_elsewhere) AS rows_differing_elsewhere FROM {repeated} GROUP BY 1) USING (source_file) "
        f"LEFT JOIN ({built}) USING (source_file)) TO {audit} (FORMAT parquet)"
    )
    seconds["account"] = time.monotonic() - started
    shutil.rmtree(out / "text", ignore_errors=True)
    return {"seconds": sum(seconds.values()), "tables": seconds}


def with_cleaned(query: str, noted: Sequence[tuple[str, str, str]], *, text: bool) -> str:
    """The rows of a query with ``cleaned``."""
    noted = [item for item in noted if text or item[1] != "number"]
    raw = ", ".join(f"{column} AS raw_{field}" for field, _, column in noted)
    changed = {"text": "text_changed(raw_{0}, {0})", "two": "two_changed(raw_{0}, {0})", "number": "number_changed(raw_{0})",
               "list": "list_changed(raw_{0}, {0})", "day": "day_changed(raw_{0})"}  # fmt: skip
    notes = ", ".join(f"'{field}:' || {changed[kind].format(field)}" for field, kind, _ in noted)
    inner = query.replace("\nFROM ", f", {raw}\nFROM ", 1)
    return (
        f"SELECT * EXCLUDE ({', '.join(f'raw_{field}' for field, _, _ in noted)}), "
        f"list_filter([{notes}], x -> x IS NOT NULL) AS cleaned FROM ({inner})"
    )


def _whole(system: System, table: str, *, text: bool) -> str:
    """The records of a table with ``cleaned`` and ``content``, sorted."""
    query, noted = system.records[table], system.noted.get(table)
    values = "COLUMNS(c -> c NOT IN ('source_file', 'run_id', 'cleaned'))"
    return (
        f"SELECT *, hash(*{values}) AS content, NULL::DATE AS extract_date "
        f"FROM ({with_cleaned(query, noted, text=text) if noted else query}) ORDER BY {_SORTED_BY[table]}"
    )


def normalise(source: Path, out: Path, threads: int) -> dict[str, Any]:
    """Write both normalised tables, partitioned by year; return the seconds of each."""
    database = connected(threads)
    raw_views(database, source)
    seconds = _records(database, SUS_PLUS, out, whole=False, text=False)
    return {"seconds": sum(seconds.values()), "tables": seconds}


def _records(
    database: duckdb.DuckDBPyConnection, system: System, out: Path, *, whole: bool, text: bool
) -> dict[str, float]:
    """Both tables of records, ``whole`` with all that silver says of a record and sorted as it is; seconds of each."""
    seconds = {}
    for table, query in system.records.items():
        started = time.monotonic()
        for name, role in system.roles.items():
            if RECORD_TABLES[role["dataset"]].name == table:
                database.execute(_REPEATED.format(name=name, **role) + role.get("after", ""))
        out.mkdir(parents=True, exist_ok=True)
        target = quoted(out / table)
        if whole:
            query = _whole(system, table, text=text)
        database.execute(
            f"COPY ({query}) TO {target} (FORMAT parquet, PARTITION_BY (financial_year), COMPRESSION zstd)"
        )
        seconds[table] = time.monotonic() - started
    return seconds


def published(source: Path, threads: int, repeat: int) -> dict[str, Any]:
    """Run the published SQL on the raw files, once without timing and then ``repeat`` times."""
    database = connected(threads)
    raw_views(database, source)
    database.execute(_RAW_VIEWS)
    return _rules(database, repeat)


def flags(source: Path, out: Path, threads: int) -> dict[str, Any]:
    """Write flags and rates from the records of :func:`ingest`; return the seconds."""
    database, config = connected(threads), load_config(source / "run.yml")
    started = time.monotonic()
    flags_and_rates(database, config, out)
    return {"seconds": time.monotonic() - started}


def compare(lake: Path, out: Path, threads: int) -> dict[str, Any]:
    """Whether silver and what ``ingest`` made, gold and what ``flags`` made have the same rows, and what the published SQL
    finds in the records of ``ingest``."""
    database = connected(threads)
    same = _compare_silver(database, lake, out) | compare_flags(database, lake, out, PUBLISHED)
    database.execute(_NORMALISED_VIEWS)
    return {"tables": same, "hits": _rules(database, 0)["hits"]}


def compare_ingest(lake: Path, out: Path, threads: int) -> dict[str, Any]:
    """Whether silver and what ``ingest`` made have the same rows, and which columns of the records differ."""
    return {"tables": _compare_silver(connected(threads), lake, out)}


def _compare_silver(database: duckdb.DuckDBPyConnection, lake: Path, out: Path) -> dict[str, dict[str, Any]]:
    same: dict[str, dict[str, Any]] = {}
    for record_table in RECORD_TABLES.values():
        table = record_table.name
        database.execute(f"CREATE VIEW {table} AS SELECT * FROM {in_folders(out / table)}")
        names = [name for name in record_table.names() if name not in _NOT_COMPARED]
        silver = in_folders(lake / "silver" / table)
        same[table] = same_rows(database, silver, table, names)
        if not same[table]["same_rows"]:
            pairs = {name: ("record_id", name) for name in names}
            differing = [n for n, pair in pairs.items() if not same_rows(database, silver, table, pair)["same_rows"]]
            same[table]["differing"] = differing
    for table, (file, columns) in _COMPARED.items():
        same[table] = same_rows(database, in_folders(lake / "silver" / table), quoted(out / file), columns)
    return same


def _rules(database: duckdb.DuckDBPyConnection, repeat: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {}
    hits: dict[str, int] = {}
    for policy, query in PUBLISHED.items():
        times = []
        for _ in range(repeat + 1):
            started = time.monotonic()
            hits[policy] = int(database.execute(query).fetchall()[0][0])
            times.append(time.monotonic() - started)
        seconds[policy] = times[1:]
    return {"seconds": seconds, "hits": hits}


def main(argv: list[str] | None = None, system: System = SUS_PLUS) -> int:
    """Do one piece of work and print its seconds as JSON."""
    parser = argparse.ArgumentParser(prog=f"DuckDB beside the product, {system.name}")
    works = (
        "ingest",
        "compare-ingest",
        *(("normalise", "flags", "published", "compare") if system is SUS_PLUS else ()),
    )
    parser.add_argument("work", choices=works)
    parser.add_argument("--source", type=Path, help="the folder that `ebi-spark generate` made")
    parser.add_argument("--format", choices=("parquet", "csv"), default="parquet", help="of the files to ingest")
    parser.add_argument("--lake", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args(argv)
    if given.work == "ingest":
        answer = ingest(system, given.source, given.out, given.threads, given.format)
    elif given.work == "compare-ingest":
        answer = compare_ingest(given.lake, given.out, given.threads)
    elif given.work == "normalise":
        answer = normalise(given.source, given.out, given.threads)
    elif given.work == "flags":
        answer = flags(given.source, given.out, given.threads)
    elif given.work == "published":
        answer = published(given.source, given.threads, given.repeat)
    else:
        answer = compare(given.lake, given.out, given.threads)
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())

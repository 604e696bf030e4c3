"""The same ingest of HES by DuckDB: spells built from episodes, and outpatient appointments.

It writes what :mod:`benchmarks.beside` writes for SUS+: records with ``cleaned`` and ``content``, sorted as silver is, rows of repeated
keys, quarantined rows and the audit. Episodes are cleaned, joined to spells by the same key, and put in the same order. A bad
episode sends its whole spell to quarantine.

It leaves out what made-up files of 2012-13 and later do not have: keys that repeat from year to year, other names and families of
the numbered columns, long tables of codes, numbers of spells in SUS, extract dates, dates outside their plausible range,
future appointments, years that were not asked for, other ways to write dates and years, and lines that cannot be parsed. It
checks nothing, refuses nothing and commits nothing in one step.
"""

import sys

from benchmarks.beside import System, main, reasons, with_cleaned
from ebi_spark.config.default_codes import default_codes_of
from ebi_spark.quoting import sql_list
from ebi_spark.records.hes import (
    FIRST_OPERATION,
    FIRST_OPERATION_FIRST_DIAGNOSIS,
    HIGHEST_EPISODE_ORDER,
    NO_OPERATION,
    REGULAR_ATTENDERS,
    UNFINISHED,
)

_WHOLE = "".join(f"{code}|" for code in default_codes_of("diagnosis_codes"))


def _cleaned(codes: str) -> str:
    """The cleaned codes of a list, without empty ones. Most places are empty: only the others are cleaned."""
    bare = f"list_transform(list_filter({codes}, x -> x <> '' AND x <> '-'), x -> regexp_replace(upper(x), '[\\s.&-]', '', 'g'))"
    cut = f"regexp_extract(x, '^({_WHOLE}[A-Z][0-9][0-9]X|[A-Z][0-9]{{4}}|.{{1,4}})', 1)"
    return f"list_filter(list_transform({bare}, x -> CASE WHEN length(x) <= 4 THEN x ELSE {cut} END), x -> x NOT IN ('', 'NULL'))"


def _codes(stem: str, most: int) -> str:
    """The columns of one kind of code: the cleaned ones as a list, as text, and the one in first place. The concatenation is used
    where no numbered column has a code."""
    ours, text = ("diagnosis", "diagnosis_codes") if stem == "DIAG" else ("operation", "procedure_codes")
    numbered = ", ".join(f"a.{stem}_4_{place:02d}" for place in range(1, most + 1))
    split = f"string_split(text_of(a.{stem}_4_CONCAT), ',')"
    return f"""
  {_cleaned(f"[{numbered}]")} AS {ours}_numbered,
  CASE WHEN len({ours}_numbered) > 0 THEN {ours}_numbered ELSE {_cleaned(split)} END AS {ours}_list,
  CASE WHEN len({ours}_list) > 0 THEN ',' || array_to_string({ours}_list, ',') || ',' END AS {text},
  CASE WHEN len({ours}_numbered) > 0 THEN {_cleaned(f"[a.{stem}_4_01]")} ELSE {_cleaned(f"{split}[:1]")} END[1] AS first_{ours}"""


def _common(stem: str) -> str:
    return f"""
  text_of(a.PSEUDO_HESID) AS person_id, text_of(a.PROCODE3) AS provider_code, text_of(a.CCG_RESPONSIBILITY) AS commissioner_code,
  text_of(a.GPPRAC) AS gp_practice_code, text_of(a.LSOA11) AS lsoa, NULL::VARCHAR AS lsoa_2021, NULL::VARCHAR AS lsoa_2001,
  NULL::VARCHAR AS gp_practice_sus, upper(text_of(a.SEX)) AS sex, two_characters(a.ADMINCAT) AS administrative_category,
  text_of(a.TRETSPEF) AS treatment_function, coalesce(number_of(a.{stem}), number_of(a.{stem}_CALC)) AS age,
  years_old(age) AS age_years"""


_STATED_YEAR = "'20' || left(a.FYEAR, 2) || '-' || right(a.FYEAR, 2)"
_OF_EPISODE = f"""{_common("STARTAGE")}, {_codes("DIAG", 20)}, {_codes("OPERTN", 24)},
  day_of(a.ADMIDATE) AS admission_date, day_of(a.DISDATE) AS discharge_date, day_of(a.EPISTART) AS episode_start,
  day_of(a.EPIEND) AS episode_end, number_of(a.EPIORDER) AS episode_order, upper(text_of(a.EPISTAT)) AS episode_status,
  two_characters(a.ADMIMETH) AS admission_method, upper(text_of(a.DISMETH)) AS discharge_method,
  upper(text_of(a.CLASSPAT)) AS patient_classification, text_of(a.PROVSPNOPS) AS provider_spell_number,
  text_of(a.ADMISORC) AS admission_source, text_of(a.DISDEST) AS discharge_destination, NULL::DATE AS procedure_date"""
_OF_APPOINTMENT = f"""{_common("APPTAGE")}, {_codes("DIAG", 12)}, {_codes("OPERTN", 24)},
  day_of(a.APPTDATE) AS activity_date, upper(text_of(a.ATTENDED)) AS attendance_status,
  upper(text_of(a.FIRSTATT)) AS first_attendance, two_characters(a.REFSOURC) AS referral_source"""
_YEAR_OF_APPOINTMENT = f"coalesce(year_of(day_of(a.APPTDATE)), {_STATED_YEAR})"

# The key that the episodes of one spell share. Rows without a key of their own are quarantined: of these only what decides their
# year and their reasons matters.
_SPELL_KEY = f"""
  CASE WHEN upper(text_of(a.CLASSPAT)) IN {sql_list(REGULAR_ATTENDERS)} OR text_of(a.PROVSPNOPS) IS NULL
    THEN 'E:' || coalesce(a.EPIKEY, concat_ws('#', '', a.DISDATE, a.FYEAR, a.EPISTAT))
  WHEN text_of(a.PSEUDO_HESID) IS NULL THEN concat_ws('|', 'S:', coalesce(text_of(a.PROCODE3), ''), text_of(a.PROVSPNOPS))
  ELSE concat_ws('|', 'P:', text_of(a.PSEUDO_HESID), coalesce(text_of(a.PROCODE3), ''), text_of(a.PROVSPNOPS),
    coalesce(day_of(a.ADMIDATE)::VARCHAR, '')) END"""
# The spells of several episodes, and the bad ones (those that have a bad episode, or no discharge) with their reasons.
_ODD_SPELLS = f"""
CREATE TEMP TABLE apc_odd AS
  WITH spells AS (
    SELECT {_SPELL_KEY} AS spell_key, count(*) AS episodes, max(day_of(a.DISDATE)) AS discharged, max({_STATED_YEAR}) AS stated,
      bool_or(a.EPIKEY IS NULL) AS no_key, bool_or(a.EPIKEY IN (FROM apc_conflicting)) AS conflicting,
      bool_or(upper(text_of(a.EPISTAT)) = '{UNFINISHED}') AS unfinished,
      bool_or(text_of(a.DISDATE) IS NOT NULL AND day_in(a.DISDATE) IS NULL) AS unread
    FROM apc_counted a GROUP BY ALL)
  SELECT spell_key, coalesce(year_of(discharged), stated) AS spell_year, list_filter([
      CASE WHEN conflicting THEN 'conflicting_duplicate' END, CASE WHEN no_key THEN 'no_key' END,
      CASE WHEN unfinished THEN 'unfinished' END,
      CASE WHEN discharged IS NULL THEN CASE WHEN unread THEN 'no_usable_date' ELSE 'undischarged' END END
    ], x -> x IS NOT NULL) AS reasons
  FROM spells WHERE episodes > 1 OR no_key OR conflicting OR unfinished OR discharged IS NULL;
"""
_FROM_FIRST = (
    "record_id", "person_id", "provider_code", "commissioner_code", "gp_practice_code", "lsoa", "lsoa_2021", "lsoa_2001",
    "gp_practice_sus", "sex", "age", "age_years", "administrative_category", "treatment_function", "admission_date",
    "admission_method", "patient_classification", "admission_source", "provider_spell_number",
)  # fmt: skip
_FROM_LAST = ("discharge_method", "discharge_destination", "source_file")

# The fields in `cleaned`, in silver's order (of spells they are sorted).
_FIRST = (
    ("person_id", "text", "a.PSEUDO_HESID"),
    ("provider_code", "text", "a.PROCODE3"),
    ("commissioner_code", "text", "a.CCG_RESPONSIBILITY"),
    ("gp_practice_code", "text", "a.GPPRAC"),
    ("lsoa", "text", "a.LSOA11"),
    ("sex", "text", "a.SEX"),
    ("administrative_category", "two", "a.ADMINCAT"),
    ("treatment_function", "text", "a.TRETSPEF"),
)
_OF_EPISODE_NOTED = (
    *_FIRST,
    ("age", "number", "a.STARTAGE"),
    ("age_fallback", "number", "a.STARTAGE_CALC"),
    ("admission_date", "day", "a.ADMIDATE"),
    ("discharge_date", "day", "a.DISDATE"),
    ("admission_method", "two", "a.ADMIMETH"),
    ("discharge_method", "text", "a.DISMETH"),
    ("patient_classification", "text", "a.CLASSPAT"),
    ("episode_start", "day", "a.EPISTART"),
    ("episode_end", "day", "a.EPIEND"),
    ("episode_order", "number", "a.EPIORDER"),
    ("episode_status", "text", "a.EPISTAT"),
    ("provider_spell_number", "text", "a.PROVSPNOPS"),
)
_OF_APPOINTMENT_NOTED = (
    *_FIRST,
    ("age", "number", "a.APPTAGE"),
    ("age_fallback", "number", "a.APPTAGE_CALC"),
    ("appointment_date", "day", "a.APPTDATE"),
    ("attendance_status", "text", "a.ATTENDED"),
    ("first_attendance", "text", "a.FIRSTATT"),
    ("referral_source", "two", "a.REFSOURC"),
)


def _episodes(joined: str) -> str:
    """Cleaned episodes, of the spells that a join leaves."""
    rows = f"""SELECT a.EPIKEY AS record_id, {_OF_EPISODE}, a.spell_key, a.filename AS source_file
FROM (SELECT a.*, {_SPELL_KEY} AS spell_key FROM apc_counted a) a {joined}"""
    return with_cleaned(rows, _OF_EPISODE_NOTED, text=True)


def _of_one(name: str, place: str) -> str:
    return f"first({name}) FILTER (place = {place}) AS {name}"


def _joined(name: str) -> str:
    return f"string_agg({name}, '|' ORDER BY place) AS {name}"


_OPERATED = f"regexp_matches(first_operation, '^[A-Z][0-9][0-9]') AND first_operation NOT IN {sql_list(default_codes_of('procedure_codes'))}"
_OPERATION = "{'operation': first_operation, 'diagnosis': first_diagnosis, 'day': procedure_date}"
# Most spells have one episode: only the others are grouped and put in order.
_SPELLS = f"""
WITH placed AS (
  SELECT *, count(*) OVER (PARTITION BY spell_key) AS of_spell, row_number() OVER (PARTITION BY spell_key ORDER BY
    episode_start NULLS FIRST, episode_order NULLS FIRST, episode_end NULLS FIRST, record_id) AS place,
    CASE WHEN episode_order BETWEEN 1 AND {HIGHEST_EPISODE_ORDER} THEN episode_order END AS n
  FROM ({_episodes("SEMI JOIN (FROM apc_odd WHERE len(reasons) = 0) USING (spell_key)")})),
spells AS (
  SELECT {", ".join(_FROM_FIRST)}, {", ".join(_FROM_LAST)}, discharge_date, diagnosis_codes, procedure_codes,
    CASE WHEN {_OPERATED} THEN {_OPERATION} END AS operated, first_diagnosis AS of_first, 1 AS episodes,
    coalesce(episode_order BETWEEN 2 AND {HIGHEST_EPISODE_ORDER}, false) AS incomplete_spell, list_sort(cleaned) AS cleaned
  FROM ({_episodes("ANTI JOIN apc_odd USING (spell_key)")})
  UNION ALL BY NAME
  SELECT {", ".join(_of_one(name, "1") for name in _FROM_FIRST)},
    {", ".join(_of_one(name, "of_spell") for name in _FROM_LAST)},
    max(discharge_date) AS discharge_date, {_joined("diagnosis_codes")}, {_joined("procedure_codes")},
    arg_min({_OPERATION}, place) FILTER ({_OPERATED}) AS operated, first(first_diagnosis) FILTER (place = 1) AS of_first,
    count(*) AS episodes, count(n) > 0 AND (min(n) > 1 OR max(n) > count(DISTINCT n)) AS incomplete_spell,
    list_sort(list_distinct(flatten(list(cleaned)))) AS cleaned
  FROM placed GROUP BY spell_key)
SELECT 'hes' AS source_system, 'apc' AS dataset, * EXCLUDE (operated, of_first), operated.operation AS dominant_procedure,
  left(operated.operation, 4) AS dominant_procedure_4, coalesce(operated.diagnosis, of_first) AS primary_diagnosis,
  operated.day AS procedure_date, CASE WHEN operated IS NULL THEN '{NO_OPERATION}'
    WHEN operated.diagnosis IS NULL THEN '{FIRST_OPERATION_FIRST_DIAGNOSIS}' ELSE '{FIRST_OPERATION}' END AS dominance_basis,
  discharge_date AS activity_date, 'beside' AS run_id, year_of(discharge_date) AS financial_year
FROM spells
"""
_ATTENDANCES = f"""
SELECT 'hes' AS source_system, 'op' AS dataset, a.ATTENDKEY AS record_id, {_OF_APPOINTMENT},
  {_YEAR_OF_APPOINTMENT} AS financial_year, a.filename AS source_file, 'beside' AS run_id
FROM op_once a WHERE financial_year IS NOT NULL
"""
_NOT_OF_SILVER = (
    "diagnosis_numbered, diagnosis_list, first_diagnosis, operation_numbered, operation_list, first_operation"
)

HES = System(
    "hes",
    {
        "apc": {
            "dataset": "apc",
            "key": "EPIKEY",
            "made": _OF_EPISODE,
            "after": _ODD_SPELLS,
            "year": "b.spell_year",
            "reasons": "b.reasons",
            "joined": f"JOIN apc_odd b ON b.spell_key = {_SPELL_KEY}",
        },
        "op": {
            "dataset": "op",
            "key": "ATTENDKEY",
            "made": f"{_OF_APPOINTMENT}, {_YEAR_OF_APPOINTMENT} AS financial_year",
            "year": _YEAR_OF_APPOINTMENT,
            "reasons": reasons(f"CASE WHEN {_YEAR_OF_APPOINTMENT} IS NULL THEN 'no_usable_date' END"),
            "joined": "",
        },
    },
    {
        "apc_spell": _SPELLS,
        "op_attendance": f"SELECT * EXCLUDE ({_NOT_OF_SILVER}) FROM ("
        f"{with_cleaned(_ATTENDANCES, _OF_APPOINTMENT_NOTED, text=True)})",
    },
    {},
    text=True,
)

if __name__ == "__main__":
    sys.exit(main(system=HES))

"""The tables of silver: cleaned records, rows that could not be used, and what each ingest did. Restricted."""

from ebi_spark.tables.table import RECORD_KEY, YEAR, Table

_RECORD = """
    source_system string -- sus_plus or hes
    dataset string -- apc (admitted patient care) or op (outpatients)
    record_id string -- the source's own key as text; HES keys before 2012-13 start with the year, such as 2010-11/100001
    person_id string -- pseudonymised person; NULL if the source has none
    financial_year string -- April to March, such as 2021-22
    activity_date date -- the date that decides the year: discharge date (apc) or appointment date (op)
    provider_code string -- the organisation that gave the care, as the source has it
    commissioner_code string -- the organisation that pays for the care, as the source has it
    gp_practice_code string -- the patient's GP practice
    lsoa string -- small area (LSOA) of the home address: of the 2011 census, or of a census that the source does not name
    sex string -- 1 male, 2 female; any other value is as in the source
    age int -- the age that the published SQL uses: baby codes (7000 and above) and impossible ages are not corrected
    age_years int -- age in completed years: baby codes become 0, ages above 120 become NULL
    administrative_category string -- 01 NHS, 02 private, 03 amenity, 04 category II
    diagnosis_codes string -- ICD-10 codes, such as ,E119,J849,|,I801, with a comma before and after each code and | between episodes
    procedure_codes string -- OPCS-4 codes in the same form; NULL if there are none
    treatment_function string -- the specialty that treated the patient
    lsoa_2021 string -- small area (LSOA) of the home address, 2021 census; NULL in rows written by older versions
    lsoa_2001 string -- small area (LSOA) of the home address, 2001 census (HES only)
    gp_practice_sus string -- the GP practice as derived by SUS (SUS+ only)
"""
_LINEAGE = """
    cleaned array<string> -- field:kind of each value that cleaning changed: blank, null_text, dots, case, padding, one_digit, not_a_number, not_a_date, sentinel, before_first_day or after_extract
    extract_date date -- date of the extract that has the record; NULL if neither source nor configuration gives it
    content bigint -- hash of all columns above except `cleaned` and `extract_date`, to see whether two extracts agree
    source_file string -- path of the source file that has the record
    run_id string -- the run that wrote the row
"""
APC_SPELL = Table(
    "silver",
    "apc_spell",
    "a hospital provider spell of an admitted patient",
    _RECORD
    + """
    admission_date date -- first day of the spell
    discharge_date date -- last day of the spell
    admission_method string -- how the patient was admitted, as the source codes it (11 to 13: elective)
    discharge_method string -- how the spell ended, as the source codes it
    patient_classification string -- day case, regular attender or other, as the source codes it
    dominant_procedure string -- the procedure that represents the whole spell: OPCS-4, upper case, no dots
    dominant_procedure_4 string -- its first four characters, which policies test; rows are sorted by it
    primary_diagnosis string -- the main condition treated: ICD-10, upper case, no dots
    dominance_basis string -- how dominant procedure and primary diagnosis were found
    incomplete_spell boolean -- HES: an episode of the spell is in a file that was not read
    episodes int -- number of source rows that make up the spell
    procedure_date date -- day of the dominant procedure, where the source table has one
    admission_source string -- where the patient came from, as the source codes it; HES: of the first episode
    discharge_destination string -- where the patient went, as the source codes it; HES: of the last episode
    provider_spell_number string -- the provider's own number of the spell, by which it finds the case notes
"""
    + _LINEAGE,
    partition_by=(YEAR,),
    required=(*RECORD_KEY, YEAR, "dominance_basis", "source_file", "run_id"),
    statistics=("activity_date",),
)
OP_ATTENDANCE = Table(
    "silver",
    "op_attendance",
    "an outpatient attendance or appointment",
    _RECORD
    + """
    attendance_status string -- 5 and 6: the patient attended
    first_attendance string -- whether it is a first or follow-up attendance, as the source has it
    referral_source string -- who referred the patient, as the source has it
"""
    + _LINEAGE,
    partition_by=(YEAR,),
    required=(*RECORD_KEY, YEAR, "source_file", "run_id"),
    statistics=("activity_date",),
)
QUARANTINE = Table(
    "silver",
    "quarantine",
    "a source row that cannot be used, with every reason why",
    """
    source_system string -- sus_plus or hes
    dataset string -- apc (admitted patient care) or op (outpatients)
    role string -- the source table, such as apcs, apcs_der, opa, apc, op
    record_id string -- the source's own key; NULL if it could not be read
    financial_year string -- such as 2021-22; the word unknown if it could not be decided
    reasons array<string> -- every reason why the row cannot be used
    source_file string -- path of the source file that has the row
    raw string -- the whole source row as JSON text
    extract_date date -- date of the extract that has the row; NULL if unknown
    run_id string -- the run that wrote the row
""",
    partition_by=(YEAR,),
    required=("source_system", "dataset", "role", YEAR, "reasons", "source_file", "raw", "run_id"),
    statistics=("dataset", "source_file"),
)
REPEATED_ROW = Table(
    "silver",
    "repeated_row",
    "a source row of the last ingest whose key is on more than one row of its source table",
    """
    source_system string -- sus_plus or hes
    role string -- the source table, such as apcs, apcs_der, opa, apc, op
    record_id string -- the key
    conflict boolean -- rows with this key differ and no extract date shows which is right: one row of each version is quarantined
    is_duplicate boolean -- left out: a repeat of a row that was kept, or replaced by a later extract
    differs_elsewhere boolean -- a duplicate that differs from the kept row, but only in columns that silver does not keep
    content bigint -- hash of the whole row except its extract date
    source_file string -- path of the source file that has the row
    file_bytes bigint -- size of that file
    file_modified timestamp -- when that file was last changed
    run_id string -- the run that wrote the row
""",
    required=("source_system", "role", "record_id", "conflict", "is_duplicate", "content", "source_file", "run_id"),
    statistics=("role",),
)
INGEST_AUDIT = Table(
    "silver",
    "ingest_audit",
    "one source file in one run: how many rows were read and what happened to them",
    """
    run_id string -- the run that read the file
    source_system string -- sus_plus or hes
    dataset string -- apc (admitted patient care) or op (outpatients)
    role string -- the source table, such as apcs, apcs_der, opa, apc, op
    source_file string -- path of the file
    file_bytes bigint -- size of the file
    file_modified timestamp -- when the file was last changed
    rows_read bigint -- always rows_valid + rows_quarantined + rows_duplicate + rows_outside_years
    rows_valid bigint -- rows that can be used
    rows_quarantined bigint -- rows that cannot be used
    rows_aside_before bigint -- quarantined rows that were already in quarantine with the same content, so not written again
    rows_duplicate bigint -- repeats of a row that was kept, and rows replaced by a later extract
    rows_differing_elsewhere bigint -- duplicates that differ from the kept row, but only in columns that silver does not keep
    rows_outside_years bigint -- rows of years that the run was not asked for
    records_built bigint -- spells or attendances that this run wrote from the valid rows
    records_unchanged bigint -- records not written because the lake already has the same content
    records_older bigint -- upsert: records not written because the lake has a later extract of them, or they were withdrawn since
    records_withdrawn bigint -- upsert: records removed from the lake because this file lists their keys
    rows_checksum string -- checksum of the records made from the file, in any order; NULL if none were made
    year_disagrees bigint -- rows whose year column disagrees with the date that decides the year
    reasons map<string,bigint> -- quarantined rows by reason
    cleaned map<string,bigint> -- number of values that cleaning changed, by field:kind
    columns_missing array<string> -- optional columns that the file does not have
    columns_extra array<string> -- columns of the file that are not used
    column_notes array<string> -- columns with the same meaning and which of them was read, and gaps in numbered columns
    written_at timestamp -- when this row was written
""",
    required=("run_id", "source_system", "dataset", "role", "source_file", "rows_read", "rows_valid",
              "rows_quarantined", "rows_duplicate", "rows_outside_years"),
)  # fmt: skip
WITHDRAWN_RECORD = Table(
    "silver",
    "withdrawn_record",
    "a key that a source has withdrawn, with the latest extract that lists it",
    """
    source_system string -- sus_plus or hes
    dataset string -- apc (admitted patient care) or op (outpatients)
    record_id string -- the key
    extract_date date -- a record with this key from this extract or an earlier one is removed
    source_file string -- path of the list of withdrawn keys
    run_id string -- the run that wrote the row
""",
    required=("source_system", "dataset", "record_id", "extract_date", "source_file", "run_id"),
    statistics=("dataset",),
)
POPULATION = Table(
    "silver",
    "population",
    "the number of people of one area, sex and age band on one day, from a population file",
    """
    vintage date -- the day that the count is for
    area_type string -- sub_icb
    area_code string -- the area in the file, as a short NHS code
    geography string -- version of the geography that the area belongs to; empty if only your own mappings have the area
    area_date date -- the day on which the area code is looked up
    sex string -- 1 male, 2 female
    age_from int -- youngest age of the band, in completed years
    age_to int -- oldest age of the band; NULL for 90 and over
    people bigint -- number of people
    source string -- name of the population file
    run_id string -- the run that wrote the row
""",
    required=("vintage", "area_type", "area_code", "geography", "area_date", "sex", "age_from", "people", "source"),
)
# The silver table of each dataset's records.
RECORD_TABLES = {"apc": APC_SPELL, "op": OP_ATTENDANCE}

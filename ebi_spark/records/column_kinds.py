"""How each column of a record is cleaned: our names, each with its kind (:data:`ebi_spark.records.cleaning.KINDS`).

SUS+ and HES share these lists. A column that is added here is cleaned in both.
"""

RECORD_KINDS = {
    "record_id": "identifier",
    "person_id": "identifier",
    "provider_code": "identifier",
    "commissioner_code": "identifier",
    "gp_practice_code": "identifier",
    "lsoa": "identifier",
    "sex": "short_code",
    "administrative_category": "two_character_code",
    "treatment_function": "identifier",
    "age": "number",
    "age_fallback": "number",
    "extract_date": "day",
}
SPELL_KINDS = {
    "admission_date": "day",
    "discharge_date": "day",
    "admission_method": "two_character_code",
    "discharge_method": "short_code",
    "patient_classification": "short_code",
}
# Of a HES episode: what its spell has, and what joins the episodes of one spell.
EPISODE_KINDS = SPELL_KINDS | {
    "episode_start": "day",
    "episode_end": "day",
    "episode_order": "number",
    "episode_status": "short_code",
    "provider_spell_number": "identifier",
    "sus_spell_id": "identifier",
}
ATTENDANCE_KINDS = {
    "appointment_date": "day",
    "attendance_status": "short_code",
    "first_attendance": "short_code",
    "referral_source": "two_character_code",
}
DERIVED_KINDS = {
    "record_id": "identifier",
    "dominant_procedure": "code",
    "primary_diagnosis": "code",
    "extract_date": "day",
}
CODE_KINDS = {"diagnosis_codes": "codes", "procedure_codes": "codes"}
# A row of a long table of HES, which has one code of a record.
CODE_TABLE_KINDS = {"record_id": "identifier", "code": "code", "procedure_date": "day", "extract_date": "day"}
# Alternative columns for an identifier above, which are only used to find the area of a record. They are tidied
# without noting what changed: the method that Java compiles for a row has little room left.
ALTERNATIVES = ("lsoa_2021", "lsoa_2001", "gp_practice_sus")
# Columns of a spell that only monitoring reads: tidied in the same way.
SPELL_DETAILS = ("admission_source", "discharge_destination", "provider_spell_number")
SPELL_DAYS = ("procedure_date",)

"""The shares and frequencies behind the made-up data. The generator and its tests both use them.

A share is of the rows that its name describes. A figure without a named source is our own assumption.
"""

# --- what is inflated, and a text that says so ----------------------------------------------------
# Spells of people aged 12 to 85 with lumbar fusion as dominant procedure. Nationally, 2023-24: about 0.025% of admissions
# (4,154 uses of V382-V386 and V404 in about 16.4 million).
FUSION_SHARE = 0.02
# Attendances of people aged 10 and over with imaging of the spine.
IMAGING_SHARE = 0.05
INFLATION_WORDS = (
    "Made-up data. Lumbar fusion is about 60 times as frequent as in national admissions, and about one attendance in "
    "twenty has imaging of the spine, so that a small run has something to show. No figure here says anything about a real "
    "hospital, ICB or patient."
)
# How much both vary between areas: lowest and highest factor of an ICB, and of a location within its ICB, before they are
# scaled to 1 for England.
BOARD_FACTOR = (0.35, 2.0)
LOCATION_FACTOR = (0.8, 1.25)

# --- fusion spells --------------------------------------------------------------------------------
FUSION_BACK_PAIN_PRIMARY = 0.65  # M545 or M549 as primary diagnosis; the others have stenosis, disc disease
FUSION_DEFORMITY = 0.14  # M40-M43, M872 as a secondary diagnosis: the published exclusions
FUSION_CANCER = 0.03  # C or D37-D48 as a secondary diagnosis
FUSION_GUIDANCE = 0.16  # codes that the guidance excludes in words but the SQL does not (M45X, M809, M533, ...)
FUSION_DECOMPRESSION = 0.10  # also a decompression
FUSION_PRIVATE = 0.06
FUSION_NON_ELECTIVE = 0.06
FUSION_SPECIALISED_COMMISSIONER = 0.25  # commissioned by NHS England, not by an ICB

# --- outpatients ----------------------------------------------------------------------------------
OP_DIAGNOSIS_BLANK = 0.95  # "outpatient diagnoses are usually blank"
OP_DIAGNOSIS_CANCER = 0.06  # of attendances with imaging and a diagnosis
OP_PROCEDURE_SHARE = 0.38  # attendances with any procedure code, apart from imaging
IMAGING_SITELESS = 0.55  # U054, U055; the others are U13x or U21x with a site
IMAGING_LUMBAR_SITE = 0.55  # of those with a site: Z665 or O162; the others are another part of the body
IMAGING_SITE_BEFORE = 0.04  # of those with a site: the site comes before the imaging code
APPOINTMENT_DATE_MISSING = 0.0005

# --- who and where --------------------------------------------------------------------------------
BIRTH_SHARE = 0.035  # spells of the newborn
MATERNITY_SHARE = 0.33  # of the spells of women aged 15 to 45
NOT_ENGLAND = 0.006  # residents of Wales and elsewhere
NO_PRACTICE = 0.006  # V81997, V81998, V81999
SPECIALISED_COMMISSIONER = 0.03
OTHER_PROVIDER = 0.14  # not the trust of the patient's own area
INDEPENDENT_PROVIDER = 0.09  # elective care at an independent hospital
SHORT_COMMISSIONER = 0.3  # `15M` rather than `15M00`

# --- values that analysts have to clean: they are part of the record, so both systems have them ----
SEX_UNKNOWN = 0.002  # 0, 9, X
AGE_NONSENSE = 0.0004  # above 120
CATEGORY_PRIVATE = 0.012
CATEGORY_AMENITY = 0.002
CATEGORY_TWO = 0.001
CATEGORY_MISSING = 0.004
UNDISCHARGED = 0.002  # no discharge date; in HES the last episode is unfinished
NO_DIAGNOSIS = 0.003  # spells without any
DIAGNOSIS_MARK = 0.06  # of episodes: one code has a 5th digit, or `-D` (dagger) or `-A` (asterisk)

# --- how SUS+ writes it ---------------------------------------------------------------------------
STYLE_PADDED = 0.5  # `||E119 ,J849 ||I801 ` rather than `||E119,J849||I801`
NO_LEADING_BARS = 0.1
WITH_DOTS = 0.02
LOWER_CASE = 0.01
TEXT_NULL = 0.3  # of missing values: the text NULL; for TEXT_BLANK a blank; otherwise nothing
TEXT_BLANK = 0.2
FIRST_AGE_MISSING = 0.02
SINGLE_DIGIT_CATEGORY = 0.1  # `2` for `02`
DOMINANT_OTHER = 0.03  # SUS's grouper picks a procedure that the HES proxy would not
PRIMARY_NOT_LISTED = 0.002  # the spell's primary diagnosis is not in its list of diagnoses
DER_MISSING = 0.001  # spells without their row in _Der
DER_STRAY = 0.0005  # rows of _Der without a spell

# --- rows, both systems ---------------------------------------------------------------------------
DUPLICATES = 0.001  # identical rows
CONFLICTS = 0.0002  # the same key with other values
NO_KEY = 0.0002

# --- HES ------------------------------------------------------------------------------------------
EMPTY_MARKS = ("", "&", "-")  # what an empty code column contains; each file uses one of them
LAST_PIPE_YEAR = 2018  # files up to 2018-19 have `|` as delimiter
LAST_OLD_NAMES_YEAR = 2015  # files up to 2015-16 have DIAG_01, OPERTN_01
FIRST_LONG_KEY_YEAR = 2021  # keys have 20 digits from 2021-22

# --- frequencies for which we ship no published table ---------------------------------------------
# Hospital use by age (0-4, 5-9, ... 90 and over) relative to the average. Our own curve, with the well-known shape: high in
# infancy, low in childhood, rising from 50.
AGE_CURVE = (
    1.0,
    0.4,
    0.4,
    0.5,
    0.65,
    0.75,
    0.8,
    0.8,
    0.8,
    0.85,
    1.0,
    1.15,
    1.35,
    1.6,
    1.9,
    2.3,
    2.6,
    2.7,
    2.5,
)
# Relative activity by month (April ... March) and by weekday (Monday ... Sunday).
MONTHS = (0.97, 1.0, 1.01, 1.0, 0.96, 1.01, 1.05, 1.05, 0.94, 1.0, 0.98, 1.03)
WEEKDAYS_SPELLS = (1.1, 1.12, 1.13, 1.12, 1.1, 0.75, 0.68)
WEEKDAYS_ATTENDANCES = (1.3, 1.35, 1.33, 1.3, 1.15, 0.35, 0.22)

METHODS_ELECTIVE = {"11": 55, "12": 35, "13": 10}
METHODS_EMERGENCY = {
    "21": 64,
    "22": 5,
    "23": 1,
    "24": 8,
    "25": 0.5,
    "28": 5,
    "2A": 9,
    "2B": 4,
    "2D": 1.5,
    "81": 2,
}
METHODS_MATERNITY = {"31": 85, "32": 15}
METHODS_BIRTH = {"82": 96, "83": 2, "2C": 2}
SOURCES = {"19": 95, "29": 1, "51": 1.2, "54": 0.5, "65": 0.8, "85": 1.4, "87": 0.1}
SOURCES_TRANSFER = {"51": 92, "87": 3, "19": 5}  # a few transfers are recorded as if the patient came from home
DESTINATIONS = {"19": 93, "29": 1, "51": 2.2, "54": 0.8, "65": 0.8, "85": 1.8, "87": 0.1, "98": 0.3}
DISCHARGE_METHODS = {"1": 92.5, "2": 0.8, "3": 0.1, "4": 2.6, "8": 2, "9": 2}
SPECIALTIES = {
    "300": 17, "100": 9, "110": 9, "301": 8, "101": 5, "130": 6, "502": 5, "420": 6, "180": 7, "320": 4,
    "430": 6, "303": 5, "370": 4, "361": 3, "120": 2.5, "160": 1.5, "330": 1, "340": 2.5, "400": 1.5,
    "410": 1.5, "191": 1.5, "150": 0.8, "108": 0.5, "140": 1, "104": 2,
}  # fmt: skip
SPECIALTIES_OP = {
    "130": 9, "110": 8.5, "650": 7, "330": 5, "100": 3, "101": 3.5, "120": 4, "300": 2, "301": 4, "303": 4,
    "320": 5, "340": 3, "370": 4, "400": 3, "410": 4, "420": 4, "501": 4, "502": 4.5, "560": 3, "812": 5,
    "191": 1, "108": 0.6, "150": 0.7, "656": 0.7, "651": 1, "840": 1.5, "307": 1, "361": 1.8, "800": 1.5,
}  # fmt: skip
SPECIALTIES_IMAGING = {"812": 55, "110": 17, "108": 9, "150": 6, "410": 5, "191": 4, "300": 4}
ATTENDANCE_STATUS = {"5": 80, "6": 1.5, "7": 7.5, "3": 3.5, "2": 6.5, "4": 0.7, "0": 0.8}
FIRST_ATTENDANCE = {"1": 27, "2": 55, "3": 5, "4": 13}
REFERRAL_SOURCES = {
    "03": 44,
    "05": 17,
    "01": 6,
    "92": 7,
    "97": 9,
    "11": 6,
    "10": 3,
    "12": 2,
    "15": 2,
    "17": 2,
    "06": 2,
}
# Outpatient procedures, for which we ship no counts. 70% of coded attendances have one of these codes; the others
# have codes like those of admitted patients.
OP_PROCEDURES = {"X621": 30, "X622": 20, "X623": 8, "X629": 6, "X628": 3, "X638": 2, "C871": 5, "C873": 6,
                 "D144": 3, "U222": 4, "U201": 8, "E253": 4, "Q554": 5, "H259": 2, "M459": 2, "S575": 3,
                 "X372": 2}  # fmt: skip

FUSION_CODES = {
    "V382": 138,
    "V383": 689,
    "V384": 30,
    "V385": 494,
    "V386": 1256,
    "V404": 1547,
}  # uses in 2023-24
FUSION_PRIMARY = {"M545": 60, "M549": 40}
FUSION_PRIMARY_OTHER = {"M480": 30, "M511": 22, "M431": 18, "M513": 12, "M472": 8, "M543": 5, "M544": 5}
FUSION_DEFORMITIES = {"M431": 40, "M419": 25, "M430": 10, "M402": 8, "M418": 5, "M415": 4, "M421": 4,
                      "M439": 3, "M872": 1}  # fmt: skip
FUSION_CANCERS = {"C795": 50, "C412": 10, "C509": 15, "C61X": 10, "D480": 10, "D474": 5}
FUSION_GUIDANCE_CODES = {"M45X": 8, "M464": 5, "M809": 10, "M485": 8, "M533": 12, "M961": 15, "Z981": 22,
                         "S320": 6, "M532": 10, "O268": 2, "M469": 2}  # fmt: skip
DECOMPRESSION_CODES = {"V254": 31, "V255": 60, "V265": 9}
FUSION_LEVELS = {"V551": 60, "V552": 30, "V553": 10}
FUSION_SITES = {"Z665": 40, "Z675": 40, "Z676": 20}
IMAGING_SPINE = {"U055": 66, "U054": 34}
IMAGING_SITED = {"U211": 34, "U212": 20, "U216": 8, "U217": 14, "U133": 12, "U135": 8, "U136": 3, "U132": 1}
SITES_LUMBAR = {"Z665": 88, "O162": 12}
SITES_OTHER = {"Z663": 12, "Z664": 10, "Z846": 22, "Z921": 10, "Z011": 14, "Z924": 12, "Z926": 12, "Z843": 8}
OP_DIAGNOSES_BACK = {
    "M545": 40,
    "M549": 20,
    "M543": 12,
    "M511": 12,
    "M480": 10,
    "G834": 2,
    "M464": 2,
    "S320": 2,
}
OP_CANCERS = {"C509": 30, "C61X": 25, "C795": 25, "C349": 12, "D471": 4, "D057": 4}

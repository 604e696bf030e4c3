"""A made-up register of approvals for a few boards, and what is true of each operation.

No board ever had such a register, and the regimes of all boards but Derby and Derbyshire's are made up too.
"""

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.small_frames import small_frame
from ebi_spark.synthetic.draws import Draws
from ebi_spark.synthetic.people import scattered
from ebi_spark.synthetic.places import places
from ebi_spark.synthetic.truth import to_date

DERBY = "QJ2"
# Boards with a register. That of Derby ships with a regime, those of Greater Manchester, West Yorkshire, and Cheshire and
# Merseyside get a made-up one, and what Humber and North Yorkshire asked for stays unknown.
MADE_UP_REGIME = ("QOP", "QWO", "QYG")
NO_REGIME = "QOQ"
BOARDS = (DERBY, *MADE_UP_REGIME, NO_REGIME)
DERBY_ENDED = date(2024, 3, 18)

_POLICY = "2Y_back_pain_fusion"
_CODES = "V38.2; V38.3; V38.4; V38.5; V38.6; V40.4"
_COLUMNS = (
    "kind int, part int, policy_id string, procedure_codes string, route string, requested int, decided int, "
    "decision string, ends int"
)
# The entries of one operation, in days before or after it: policy, codes, route, requested, decided, decision, last day; and
# the class that they make. A patient stays at most a month, so the day of the procedure changes nothing.
_Entry = tuple[str | None, str | None, str, int, int | None, str, int | None]
_KINDS: tuple[tuple[str, tuple[_Entry, ...]], ...] = (
    ("approved_in_time", ((_POLICY, None, "prior_approval", -120, -60, "approved", 90),)),
    ("approved_in_time", ((_POLICY, None, "ifr", -200, -90, "approved", None),)),
    ("approved_in_time", ((None, _CODES, "prior_approval", -90, -50, "approved", 120),)),
    ("approved_in_time", ((_POLICY, None, "prior_approval", -300, -250, "declined", None),
                          (_POLICY, None, "ifr", -120, -80, "approved", 90))),
    ("criteria_confirmed", ((_POLICY, None, "criteria_checked", -60, -60, "approved", 120),)),
    ("ambiguous", ((_POLICY, None, "prior_approval", -150, -120, "approved", 200),
                   (_POLICY, None, "ifr", -60, -50, "approved", None))),
    ("approved_expired", ((_POLICY, None, "prior_approval", -500, -450, "approved", -85),)),
    ("approved_late", ((_POLICY, None, "prior_approval", 40, 45, "approved", None),)),
    ("declined", ((_POLICY, None, "prior_approval", -120, -90, "declined", None),)),
    ("pending", ((_POLICY, None, "prior_approval", -20, None, "pending", None),)),
    ("withdrawn", ((_POLICY, None, "ifr", -90, -70, "withdrawn", None),)),
    ("none_on_record", (("2S_lower_back_imaging", None, "prior_approval", -90, -60, "approved", None),)),
    # An entry that cannot be used: the policy does not exist.
    ("none_on_record", (("2Y_fusion", None, "prior_approval", -90, -60, "approved", None),)),
    ("none_on_record", ()),
)  # fmt: skip


def operations(spells: DataFrame, first_day: date, seed: int) -> DataFrame:
    """A row for each fusion, with the class that the register makes.

    ``spells`` as :func:`ebi_spark.synthetic.truth.spells` gives them. Columns: ``row``, ``person_number``,
    ``admission_day`` (days since 1970), ``board`` of the patient's home, ``emergency``, ``kind`` (the number of a kind of entries;
    NULL if the patient has several fusions or the board has no register) and ``true_class``. ``first_day``: the first day that the
    registers cover.

    | board | admitted on | kind         | → true_class |
    |-------|-------------|--------------|--------------|
    | QOP   | 2024-05-01  | 8 (declined) | declined     |
    | QJ2   | 2024-05-01  | 8 (declined) | not_required |
    | QHL   | 2024-05-01  | NULL         | cannot_link  |
    """
    fusions = spells.where("fusion")
    boards = small_frame(
        spells.sparkSession,
        list(zip(places().locations, places().boards, strict=True)),
        "location string, board string",
    )
    once = fusions.groupBy("person_number").agg(F.count(F.lit(1)).alias("fusions")).where("fusions = 1")
    known = fusions.join(F.broadcast(boards), "location").join(
        once.select("person_number", F.lit(True).alias("once")), "person_number", "left"
    )
    # Patients with several fusions have no entry, so that each entry belongs to one operation.
    kind = F.when(
        F.col("once") & F.col("board").isin(*BOARDS), Draws(seed, F.col("row")).below("approval", len(_KINDS))
    )
    day = to_date(F.col("admission_day"))
    with_kind = known.withColumns({"kind": kind, "emergency": ~F.col("elective")})
    of_entries = F.coalesce(
        *[F.when(F.col("kind") == number, F.lit(name)) for number, (name, _) in enumerate(_KINDS)],
        F.lit("none_on_record"),
    )
    true_class = (
        F.when(~F.col("board").isin(*BOARDS) | (day < F.lit(first_day)), F.lit("cannot_link"))
        .when(F.col("board") == NO_REGIME, F.lit("regime_unknown"))
        .when((F.col("board") == DERBY) & (F.col("emergency") | (day >= F.lit(DERBY_ENDED))), F.lit("not_required"))
        .otherwise(of_entries)
    )
    return with_kind.withColumn("true_class", true_class).select(
        "row", "person_number", "admission_day", "board", "emergency", "kind", "true_class"
    )


def entries(made: DataFrame, seed: int) -> DataFrame:
    """The rows of the register, from :func:`operations`: none, one or two for each operation. ``decided_on`` and ``valid_to`` are
    NULL where the entry has no such day.

    | row | admitted on | kind            | → approval_id | requested_on | decided_on | decision |
    |-----|-------------|-----------------|---------------|--------------|------------|----------|
    | 7   | 2022-01-08  | 3 (two entries) | A7-0          | 2021-03-14   | 2021-05-03 | declined |
    |     |             |                 | A7-1          | 2021-09-10   | 2021-10-20 | approved |
    | 8   | 2022-01-08  | 13 (no entry)   | no row        |              |            |          |
    """
    rows = [(number, part, *entry) for number, (_, listed) in enumerate(_KINDS) for part, entry in enumerate(listed)]
    kinds = small_frame(made.sparkSession, rows, _COLUMNS)

    def day(offset: str) -> Column:
        return to_date(F.col("admission_day") + F.col(offset))

    return made.join(F.broadcast(kinds), "kind").select(
        F.concat(F.lit("A"), F.col("row"), F.lit("-"), F.col("part")).alias("approval_id"),
        scattered(F.col("person_number"), seed).alias("person_id"),
        "policy_id",
        "procedure_codes",
        "route",
        day("requested").alias("requested_on"),
        day("decided").alias("decided_on"),
        "decision",
        day("ends").alias("valid_to"),
        "board",
    )


def settings(first_day: date) -> list[str]:
    """The lines of ``run.yml`` about the register."""
    lines = ["approvals:", "  covers:"]
    lines += [f"    - {{board: {board}, from: {first_day}}}" for board in BOARDS]
    lines.append("  regimes:")
    lines += [
        f"    - {{board: {board}, policies: [{_POLICY}], kind: prior_approval, exempts_emergencies: false, source: made up}}"
        for board in MADE_UP_REGIME
    ]
    return lines

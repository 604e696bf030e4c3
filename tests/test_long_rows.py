"""A row of any length costs what its length costs: no test of a policy and no cleaning goes over a text again and again."""

import random
import re

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ebi_spark.policies.code_prefilter import code_prefilter
from ebi_spark.policies.compile import compile_test, followed_by
from ebi_spark.policies.load import load_policies
from ebi_spark.policies.model import FollowedBy, HasCode
from ebi_spark.policies.patterns import one_of
from ebi_spark.policies.simplify import leaves
from ebi_spark.records import cleaning
from ebi_spark.records.cleaning import clean
from ebi_spark.small_frames import small_frame

# What lets a pattern take more or less, and so go back: *, +, ? and {n,m}. Harmless are those that give nothing back (*+ and
# ++), and the `.*?` at the start of an atomic group of a pattern that begins at the start of the text: it goes forward only.
FORWARD_ONLY = re.compile(r"\(\?>\.\*\?|[*+]\+")
GOES_BACK = re.compile(r"[*+]|\{|(?<!\()\?")


def goes_back(pattern: str) -> bool:
    rest = FORWARD_ONLY.sub("", pattern)
    anchored = "(?>" not in pattern or pattern.startswith("(?s)^(?>")
    return bool(GOES_BACK.search(rest.removeprefix("(?s)^"))) or not anchored


def test_no_pattern_of_the_policy_language_goes_back() -> None:
    assert goes_back(",U13.*,Z66") and goes_back("A{1,3}") and goes_back("(?:A?)") and goes_back("x(?>.*?,A)")
    patterns = [cleaning._UNTIDY, cleaning._A_CODE]
    lists = [["U13[2356]", "U21[1267]"], ["C[0-9][0-9]"], ["M_7", "M17[^0]"], ["A00", "B11", "C22", "D33", "D3[789]"]]
    for policy in load_policies():
        for revision in policy.revisions:
            for clause in (c for reading in revision.readings.values() for c in reading.clauses):
                lists += [list(leaf.codes) for leaf in leaves(clause.test)] if clause.test else []
    patterns += [one_of(codes) for codes in lists]
    patterns += [
        followed_by(first, then, directly) for first in lists[:4] for then in lists[:4] for directly in (True, False)
    ]
    assert [pattern for pattern in patterns if goes_back(pattern)] == []


def test_followed_by_looks_for_a_later_code(spark: SparkSession) -> None:
    draws = random.Random(26)
    codes = ("U132", "U133", "U1335", "U13", "Z665", "Z66", "O162", "ZU133", "XZ665", "|")
    rows = [
        (str(n), None if n % 40 == 0 else [draws.choice(codes) for _ in range(draws.randint(1, 6))])
        for n in range(1200)
    ]
    pairs = ((("U13[23]",), ("Z665", "O162")), (("U133",), ("U133",)), (("Z66",), ("U13", "Z665")))
    columns, wanted = [], []
    for first, then in pairs:
        for directly in (False, True):
            columns.append(compile_test(FollowedBy("any_procedure", first, then, directly), "op"))
            one, other = (re.compile("|".join(group)) for group in (first, then))
            wanted.append((one, other, directly))
    frame = small_frame(
        spark,
        [(n, None if c is None else f",{','.join(c)},") for n, c in rows],
        "record_id string, procedure_codes string",
    )
    found = {row[0]: row[1:] for row in frame.select("record_id", *columns).collect()}
    for name, listed in rows:
        for number, (one, other, directly) in enumerate(wanted):
            if listed is None:
                assert found[name][number] is None
                continue
            spans = ((here, there) for here in range(len(listed)) for there in range(here + 1, len(listed)))
            truth = any(
                one.match(listed[here]) and other.match(listed[there]) and (there == here + 1 or not directly)
                for here, there in spans
            )
            assert found[name][number] == truth, (listed, one, other, directly)
    assert any(any(row) for row in found.values())


def test_a_row_of_megabytes_is_cleaned_and_judged(spark: SparkSession) -> None:
    # As patterns that go back, these took minutes, or Java ran out of stack.
    number = 400_000
    texts = {
        "nothing follows": ("Z665" + ",U132" * number, False),
        "one follows": ("U132" + ",U142" * number + ",Z665", True),
        "commas": ("U132" + "," * number + "Z665", True),
        "marks of empty codes": ("U132" + ",-,&" * number + ",Z665", True),
        "episodes without codes": ("U132" + "||" * number + "Z665" + "||-" * number, True),
        "one code": ("Z665,U132" + "-" * number, False),
    }
    frame = small_frame(
        spark, [(name, text) for name, (text, _) in texts.items()], "record_id string, procedure_codes string"
    )
    cleaned = clean(frame, {"procedure_codes": "codes"})
    test = FollowedBy("any_procedure", ("U13[2356]",), ("Z665",))
    quick = code_prefilter(HasCode("any_procedure", "contains", ("U13[2356]",)), "op")
    assert quick is not None
    found = cleaned.select(
        "record_id", compile_test(test, "op"), quick.may_match, F.length("procedure_codes")
    ).collect()
    assert {row[0]: row[1] for row in found} == {name: follows for name, (_, follows) in texts.items()}
    assert all(row[2] for row in found)
    lengths = {row[0]: row[3] for row in found}
    assert lengths["commas"] == lengths["marks of empty codes"] == len(",U132,Z665,")
    assert lengths["episodes without codes"] == len(",U132,|,Z665,")

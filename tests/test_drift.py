"""What is reported about the columns of source files, and the scan of their bytes that makes checks of every row unnecessary."""

import gzip
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebi_spark.errors import InputError
from ebi_spark.sources import text_scan
from ebi_spark.sources.column_drift import Columns, column_warnings, merge_columns, probable_names
from ebi_spark.sources.layouts import layouts
from ebi_spark.sources.reader import Group, SourceTable

NO_ROWS: Any = None
_FOLDER = tempfile.TemporaryDirectory()


def table(*groups: Group, role: str = "apcs") -> SourceTable:
    return SourceTable("sus_plus", role, NO_ROWS, groups=list(groups))


def group(*names: str, missing: tuple[str, ...] = (), extra: tuple[str, ...] = ()) -> Group:
    return Group(tuple(f"/data/{name}" for name in names), missing, extra)


def test_a_missing_column_is_told_with_its_probable_new_name() -> None:
    lines = column_warnings(
        [table(group("a.csv", missing=("gp_practice_code", "sex"), extra=("GP_Practice_Cd", "Ward")))], {}
    )
    assert lines == [
        "sus_plus apcs: the column GP_PRACTICE_CODE is missing, and GP_Practice_Cd is not used: if they are the same, "
        "map it under `columns: {gp_practice_code: GP_Practice_Cd}`",
        "sus_plus apcs: optional columns are missing: SEX",
        "sus_plus apcs: columns that are not used: GP_PRACTICE_CD, WARD",
    ]


def test_files_that_differ_are_told_group_by_group() -> None:
    lines = column_warnings([table(group("a.csv", "b.csv"), group("c.csv", missing=("sex",)))], {})
    assert lines == ["sus_plus apcs, c.csv: optional columns are missing: SEX"]


def test_what_differs_from_the_last_ingest_is_told() -> None:
    before = {("sus_plus", "apcs"): Columns(frozenset({"admission_date"}), frozenset({"WARD", "BED"}))}
    now = table(group("a.csv", missing=("sex",), extra=("Ward", "Theatre")))
    assert column_warnings([now], before)[1:] == [
        "sus_plus apcs: new since the last ingest and not used: THEATRE",
        "sus_plus apcs: back since the last ingest: ADMISSION_DATE",
        "sus_plus apcs: gone since the last ingest: BED, SEX",
    ]
    same = table(group("a.csv", missing=("admission_date",), extra=("Ward", "Bed")))
    assert column_warnings([same], before) == ["sus_plus apcs: optional columns are missing: ADMISSION_DATE"]


def test_many_columns_are_counted() -> None:
    (line,) = column_warnings([table(group("a.csv", extra=tuple(f"X{n:03d}" for n in range(212))))], {})
    assert line.endswith("X008, X009 and 202 more (silver/ingest_audit has all)")


def test_each_new_name_is_given_once_to_the_nearest() -> None:
    layout = layouts()["apcs"]
    extra = ["ADMISSION_DT", "ADMISSION_DATES"]
    assert probable_names(layout, ["admission_date"], extra) == {"admission_date": "ADMISSION_DATES"}
    found = probable_names(layout, ["age", "age_fallback"], ["AGE_AT_START_OF_SPELL"])
    assert found == {"age": "AGE_AT_START_OF_SPELL"}
    assert probable_names(layout, ["sex"], ["WARD"]) == {}


def test_a_gap_in_numbered_columns_is_missing_by_its_own_name() -> None:
    layout = layouts()["op"]
    names = ["ATTENDKEY", "APPTDATE", "ADMINCAT", "APPTAGE", "OPERTN_4_01", "DIAG_4_01", "DIAG_4_O2", "DIAG_4_03"]
    resolved = layout.resolve(names, {}, "x")
    assert [name for name in resolved.missing if name.isupper()] == ["DIAG_4_02"]
    near = probable_names(layout, list(resolved.missing), list(resolved.extra))
    assert near == {"DIAG_4_02": "DIAG_4_O2"}
    mapped = layout.resolve(names, near, "x")
    assert mapped.runs["diagnosis"] == [(("DIAG_4_01",), ("DIAG_4_O2",), ("DIAG_4_03",))]


def test_the_columns_of_a_role_are_those_of_all_its_files() -> None:
    both = merge_columns([group("a", missing=("sex", "age"), extra=("W",)), group("b", missing=("sex",), extra=("x",))])
    assert both == Columns(frozenset({"sex"}), frozenset({"W", "X"}))


# The look over a file's bytes, in chunks so small that everything falls on a boundary somewhere

PIECES = st.sampled_from(
    [b"1,2,3\n", b"epikey", b"EPI", b"KEY", b",", b"\n", b"\r\n", b"x" * 7, "é€".encode(), b"\xe9", b"\x00",
     "\ufffd".encode(), b"\xef\xbb\xbf", b"\xef", b"\xbb", b"\xbf"]
)  # fmt: skip
MOST = 16


def needs_a_second_look(content: bytes, header: bool) -> bool:
    """The same, from the whole content at once."""
    try:
        decoded = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return True
    odd = "\x00" in decoded or "\ufffd" in decoded or "\ufeff" in decoded
    return odd or len(re.findall("epikey", decoded, re.IGNORECASE)) > header


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=12), st.booleans(), st.integers(1, 3))
def test_no_line_that_needs_a_second_look_is_passed_over(pieces: list[bytes], header: bool, blocks: int) -> None:
    content = b"".join(pieces)
    path = Path(_FOLDER.name) / "x.csv"
    path.write_bytes(content)
    patch = pytest.MonkeyPatch()
    patch.setattr(text_scan, "_LEAST_BLOCK", 1)
    patch.setattr(text_scan, "_CHUNK", blocks * MOST // 2)
    plain = text_scan.is_plain(str(path), {"EPIKEY"}, header, "utf-8", MOST, "x")
    patch.undo()
    longest = max(len(line) for line in re.split(rb"[\r\n,]", content))
    if needs_a_second_look(content, header) or longest > MOST:
        assert not plain
    elif max(len(line) for line in re.split(rb"[\r\n]", content)) < MOST // 2:
        assert plain


def test_a_packed_file_that_breaks_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"1,2,3\n" * 1000)[:-12])
    with pytest.raises(InputError, match=r"x\.csv\.gz cannot be read to its end"):
        text_scan.is_plain(str(path), {"EPIKEY"}, True, "utf-8", 1_000_000, "x")

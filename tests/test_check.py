"""What is checked before a session starts: every problem at once, and without a change on disk."""

from collections import namedtuple
from collections.abc import Callable
from datetime import date, time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from calling import call
from test_bad_input import APCS, CONFIG, DER, source

from ebi_spark.config.load import load_config
from ebi_spark.runs import checks_before_start
from ebi_spark.runs.checks_before_start import check_before_start
from jobs import check, cli, flag, ingest, publish, rate, run, validate

__all__ = ["source"]
pytestmark = pytest.mark.usefixtures("no_session")


def results(answer: dict[str, Any]) -> dict[str, str]:
    return {finding["check"]: finding["result"] for finding in answer["checks"]}


def tree(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def test_a_good_configuration_passes_and_nothing_is_written(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(source)
    answer = call(check.main, source)
    assert (answer["exit"], answer["outcome"], answer["error"]) == (0, "done", None)
    assert list(results(answer)) == [
        "configuration", "policies", "geography", "population", "docs", "report", "lake", "session", "free disk",
        "sources.admitted.apcs", "sources.admitted.apcs_der",
    ]  # fmt: skip
    assert set(results(answer).values()) == {"ok"}
    found = {finding["check"]: finding["found"] for finding in answer["checks"]}
    assert found["sources.admitted.apcs_der"] == "1 file, 3 columns are read"
    assert found["lake"].endswith("(will be created)")
    assert cli.main(["check", "--config", str(source / "run.yml")]) == 0
    assert "Checked before a run" in capsys.readouterr().out
    assert tree(source) == before


def test_the_platform_that_a_file_looks_like_is_named(source: Path) -> None:
    header, *rows = APCS.strip().splitlines()
    lines = [f"{header},Der_Postcode_LSOA_2021_Code", *(f"{row},E01000001" for row in rows)]
    (source / "apcs.csv").write_text("\n".join(lines) + "\n")
    found = {finding["check"]: finding["found"] for finding in call(check.main, source)["checks"]}
    assert found["sources.admitted.apcs"].endswith("columns are read; named as in SUS+ on UDAL")
    assert "named as" not in found["sources.admitted.apcs_der"], "every platform has these names"


def test_all_problems_are_shown_at_once(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "practices.csv").write_text("practice_code\nA1\n")
    (source / "pages").mkdir()
    (source / "pages" / "expectations-silver").mkdir()
    (source / "pages" / "expectations-silver" / "mine.txt").write_text("mine")
    (source / "apcs.csv").write_text(APCS.replace("Admission_Method", "Admissn_Method"))
    (source / "run.yml").write_text(
        CONFIG
        + "policies: [2Y_back_pain_fusoin]\nreport: der.csv\ndocs: pages\n"
        + "geography: {practices: practices.csv, mappings: [gone.csv]}\npopulation: [{path: nobody.csv}]\n"
    )
    before = tree(source)
    answer = call(check.main, source)
    assert (answer["exit"], answer["outcome"]) == (2, "refused")
    refused = {finding["check"]: finding for finding in answer["checks"] if finding["result"] == "refused"}
    words = {
        "policies": "2Y_back_pain_fusoin", "geography": "gone.csv", "population": "nobody.csv", "docs": "did not write",
        "report": "not a report", "sources.admitted.apcs": "ADMISSION_METHOD",
    }  # fmt: skip
    assert {name: word in refused[name]["found"] for name, word in words.items()} == dict.fromkeys(words, True)
    assert all(finding["remedy"] for finding in refused.values())
    assert "7 of 12 checks found a problem" in answer["error"]["message"]
    assert check.main(["--config", str(source / "run.yml")]) == 2
    assert capsys.readouterr().out.count(" refused ") == 7
    assert tree(source) == before


def test_a_bad_file_that_stops_several_checks_is_shown_once(source: Path) -> None:
    (source / "codes.csv").write_text("from_code\nX\n")
    (source / "practices.csv").write_text("practice_code,sub_icb_code\nA1,15M\n")
    (source / "run.yml").write_text(CONFIG + "geography: {practices: practices.csv, mappings: [codes.csv]}\n")
    found = results(call(check.main, source))
    assert found["geography"] == "refused"
    assert found["geography.practices"] == found["population"] == "not checked"


@pytest.mark.parametrize(
    ("job", "setting", "words"),
    [
        (run, "policies: [nope]", "nope"),
        (flag, "policies: [nope]", "nope"),
        (run, "population: [{path: der.csv}]", "der.csv"),
        (rate, "population: [{path: der.csv}]", "der.csv"),
        (run, "geography: {practices: der.csv}", "practice_code"),
        (flag, "geography: {lsoas: der.csv}", "lsoa"),
        (run, "docs: der.csv", "not a folder"),
        (validate, "docs: der.csv", "not a folder"),
        (publish, "report: der.csv", "not a report"),
        (ingest, "max_columns: 2", "more than the 2"),
    ],
)
def test_a_stage_makes_its_checks_before_a_session(job: Any, setting: str, words: str, source: Path) -> None:
    (source / "run.yml").write_text(f"{CONFIG}{setting}\n")
    answer = call(job.main, source)
    assert (answer["exit"], answer["outcome"]) == (2, "refused")
    assert words in answer["error"]["message"]
    assert not (source / "lake").exists()


def test_a_run_names_the_first_problem_and_the_number_of_others(source: Path) -> None:
    (source / "run.yml").write_text(CONFIG + "policies: [nope]\nreport: der.csv\n")
    error = call(run.main, source)["error"]
    assert error["message"].startswith("policies: there is no policy 'nope'")
    assert error["remedy"].endswith("`ebi-spark check` shows this and 1 more problem")


def test_what_needs_a_session_is_not_checked(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "delta" / "_delta_log").mkdir(parents=True)
    text = CONFIG.replace("apcs: apcs.csv", "apcs: {table: main.sus.apcs}").replace("der.csv", "['s3://b/der', delta]")
    (source / "run.yml").write_text(text)
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17")
    answer = call(check.main, source, "--lake", "main.ebi")
    assert (answer["exit"], answer["error"]) == (0, None)
    found = {f["check"]: f["found"] for f in answer["checks"] if f["result"] == "not checked"}
    assert list(found) == ["lake", "session", "sources.admitted.apcs", "sources.admitted.apcs_der"]
    assert "main.sus.apcs" in found["sources.admitted.apcs"]
    assert "s3://b/der" in found["sources.admitted.apcs_der"] and "/delta" in found["sources.admitted.apcs_der"]
    monkeypatch.delenv("DATABRICKS_RUNTIME_VERSION")
    assert results(call(check.main, source, "--lake", "main.ebi"))["lake"] == "refused"


def parquet(folder: Path, **columns: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "part.parquet")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: parquet(folder / "dx" / "extract_date=2022-06-30", **WHOLE), None),
        (lambda folder: parquet(folder / "dx", **{**WHOLE, "Spell_Primary_Diagnosis": [[1]]}), "has the type array"),
        (lambda folder: parquet(folder / "dx", **{**WHOLE, "APCS_Ident": [date(2022, 1, 1)]}), "has the type date"),
        (lambda folder: parquet(folder / "dx", **{**WHOLE, "Spell_Primary_Diagnosis": [time(1)]}), "of type TIME"),
        (lambda folder: parquet(folder / "dx", APCS_Ident=["1"]), "SPELL_DOMINANT_PROCEDURE is missing"),
    ],
)
def test_parquet_is_checked_by_its_schema(change: Callable[[Path], None], words: str | None, source: Path) -> None:
    change(source)
    (source / "run.yml").write_text(CONFIG.replace("der.csv", "dx"))
    answer = call(check.main, source)
    assert answer["exit"] == (2 if words else 0)
    if words:
        assert words in answer["error"]["message"] and "sources.admitted.apcs_der" in answer["error"]["message"]
    else:
        assert {f["check"]: f["found"] for f in answer["checks"]}["sources.admitted.apcs_der"].endswith(
            "4 columns are read"
        )


WHOLE = {name: ["1"] for name in DER.strip().split(",")}


def test_an_upsert_needs_the_date_of_the_extract(source: Path) -> None:
    (source / "run.yml").write_text(f"{CONFIG}mode: upsert\n")
    assert "does not say from which extract" in call(check.main, source)["error"]["message"]


def test_too_little_free_disk_is_a_warning(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(checks_before_start.shutil, "disk_usage", lambda _: usage(free=100))
    answer = call(check.main, source)
    assert answer["exit"] == 0 and results(answer)["free disk"] == "warning"


def test_rows_are_not_read(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise AssertionError("the rows of a file were read")

    monkeypatch.setattr("ebi_spark.sources.file_inventory.is_plain", refused)
    assert {f.result for f in check_before_start(load_config(source / "run.yml"), "run")} == {"ok"}


def test_large_populations_are_read_by_check_alone(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with nothing to do must not wait for files that it does not need."""
    with (source / "people.csv").open("w") as file:
        file.write("area_type,area_code\n" + "nobody,nowhere\n" * 2_000_000)
    with (source / "run.yml").open("a") as file:
        file.write("population: [{path: people.csv}]\n")
    config = load_config(source / "run.yml")
    found = {job: {f.check: f for f in check_before_start(config, job)}["population"] for job in ("run", "rate")}
    assert {
        (f.result, f.found == "30.0 MB of files, which are read when rates are computed") for f in found.values()
    } == {("not checked", True)}
    monkeypatch.setattr(checks_before_start, "read_population", lambda *_: {}["is read"])
    with pytest.raises(KeyError):
        check_before_start(config, "check")

"""Bad input: one clear message that names file, column or key and the remedy, exit status 2, and no table touched."""

import gzip
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from calling import call, delta_rows

from jobs import check, cli, flag, generate, ingest, replay, run

APCS = (
    "APCS_Ident,Der_Pseudo_NHS_Number,Sex,Der_Provider_Code,Der_Commissioner_Code,Administrative_Category,"
    "Der_Diagnosis_All,Der_Procedure_All,Der_Financial_Year,Age_At_Start_of_Spell_SUS,Der_Age_at_CDS_Activity_Date,"
    "Admission_Method,Admission_Date,Discharge_Date\n"
)
SPELL = '{id},9,1,RXX,15M00,01,"||M545 ,I10X","||V382",2021-22,45,,11,2021-05-01,2021-05-03\n'
DER = "APCS_Ident,Spell_Dominant_Procedure,Spell_Primary_Diagnosis\n"
CONFIG = """
lake: ./lake
sources:
  admitted: {system: sus_plus, tables: {apcs: apcs.csv, apcs_der: der.csv}}
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "apcs.csv").write_text(APCS + "".join(SPELL.format(id=n) for n in range(10)))
    (tmp_path / "der.csv").write_text(DER + "".join(f"{n},V382,M545\n" for n in range(10)))
    (tmp_path / "run.yml").write_text(CONFIG)
    return tmp_path


def refusal(answer: dict[str, Any], *words: str) -> None:
    assert (answer["exit"], answer["outcome"]) == (2, "refused"), answer
    message = f"{answer['error']['message']} {answer['error']['remedy']}"
    for word in words:
        assert word in message, message
    assert answer["error"]["remedy"]


CONFIGURATIONS = {
    "no such key": ("lakes: ./x\nsources: {a: {system: hes, tables: {op: x.csv}}}", ["line 1", "'lakes'", "'lake'"]),
    "no lake": ("sources: {a: {system: hes, tables: {op: x.csv}}}", ["'lake' is missing"]),
    "no such system": ("lake: ./x\nsources: {a: {system: sus, tables: {opa: x.csv}}}", ["'sus'", "sus_plus"]),
    "role of the other system": ("lake: ./x\nsources: {a: {system: hes, tables: {opa: x.csv}}}", ["opa", "apc, apc_diagnoses"]),
    "apcs alone": ("lake: ./x\nsources: {a: {system: sus_plus, tables: {apcs: x.csv}}}", ["apcs_der"]),
    "not YAML": ("lake: [./x\nsources: }", ["line 2"]),
    "doubled key": ("lake: ./x\nlake: ./y\nsources: {}", ["line 2", "'lake'", "twice"]),
    "a number for text": (
        "lake: ./x\ntimezone: 12\nsources: {a: {system: hes, tables: {op: x.csv}}}", ["timezone", "quotation marks"],
    ),
    "unset variable": ("lake: ${NO_SUCH_PLACE}\nsources: {a: {system: hes, tables: {op: x.csv}}}", ["NO_SUCH_PLACE"]),
    "no such rule": (
        "lake: ./x\ndisclosure: hes_2019\nsources: {a: {system: hes, tables: {op: x.csv}}}", ["hes_2019", "hes_2018"],
    ),
    "no such zone": (
        "lake: ./x\ntimezone: Europe/Leeds\nsources: {a: {system: hes, tables: {op: x.csv}}}", ["Europe/Leeds"],
    ),
    "ambiguous year": (
        'lake: ./x\nyears: "2021"\nsources: {a: {system: hes, tables: {op: x.csv}}}', ["2020-21", "2021-22"],
    ),
    "backward years": (
        "lake: ./x\nyears: 2023-24..2021-22\nsources: {a: {system: hes, tables: {op: x.csv}}}", ["backwards"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CONFIGURATIONS)
@pytest.mark.usefixtures("no_session")
def test_configurations(case: str, tmp_path: Path) -> None:
    text, words = CONFIGURATIONS[case]
    (tmp_path / "run.yml").write_text(text)
    refusal(call(run.main, tmp_path), *words)
    assert list(tmp_path.iterdir()) == [tmp_path / "run.yml"]


@pytest.mark.usefixtures("no_session")
def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    refusal(call(run.main, tmp_path), "there is no file", "run.yml")


def edit(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return apply


FILES: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "missing": (lambda folder: (folder / "apcs.csv").unlink(), ["apcs.csv", "there is no file"]),
    "empty": (edit("apcs.csv", lambda _: b""), ["apcs.csv", "empty"]),
    "wrong delimiter stated": (
        lambda folder: (folder / "run.yml").write_text(
            CONFIG.replace("apcs: apcs.csv", "apcs: {path: apcs.csv, delimiter: ';'}")
        ) and None,
        ["apcs.csv", "write `delimiter: ','`"],
    ),
    "column missing": (
        edit("apcs.csv", lambda b: b.replace(b"Admission_Method", b"Admissn_Method")),
        ["ADMISSION_METHOD", "missing", "ADMISSN_METHOD"],
    ),
    "column doubled": (
        edit("apcs.csv", lambda b: b.replace(b"Der_Provider_Code", b"sex", 1)), ["SEX", "twice"],
    ),
    "not Parquet": (
        lambda folder: (folder / "run.yml").write_text(
            CONFIG.replace("apcs: apcs.csv", "apcs: {path: apcs.csv, format: parquet}")
        ) and None,
        ["apcs.csv", "parquet"],
    ),
    "Parquet cut short": (
        lambda folder: (
            (folder / "x.parquet").write_bytes(b"PAR1 and no more"),
            (folder / "run.yml").write_text(CONFIG.replace("apcs: apcs.csv", "apcs: x.parquet")),
            None,
        )[-1],
        ["x.parquet", "parquet"],
    ),
    "NUL bytes": (edit("apcs.csv", lambda b: b"\x00" + b), ["apcs.csv", "cannot be read"]),
    "bad gzip": (
        lambda folder: (
            (folder / "x.csv.gz").write_bytes(gzip.compress(b"APCS_Ident,Sex\n")[:12]),
            (folder / "run.yml").write_text(CONFIG.replace("apcs: apcs.csv", "apcs: x.csv.gz")),
            None,
        )[-1],
        ["x.csv.gz", "cannot be read"],
    ),
    "no header row": (edit("der.csv", lambda b: b.split(b"\n", 1)[1]), ["der.csv", "headers_file"]),
    "mapped column that is not there": (
        lambda folder: (folder / "run.yml").write_text(
            CONFIG.replace("apcs: apcs.csv", "apcs: {path: apcs.csv, columns: {sex: Gender}}")
        ) and None,
        ["Gender"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("job", [ingest, run, check])
@pytest.mark.parametrize("case", FILES)
@pytest.mark.usefixtures("no_session")
def test_files(case: str, job: Any, source: Path) -> None:
    spoil, words = FILES[case]
    spoil(source)
    refusal(call(job.main, source), *words)
    assert not (source / "lake").exists()


@pytest.mark.usefixtures("one_session")
def test_a_year_outside_the_files(source: Path) -> None:
    refusal(call(ingest.main, source, "--years", "2019-20"), "2019-20", "2021-22")
    assert not any((source / "lake").rglob("_delta_log"))


@pytest.mark.usefixtures("no_session")
def test_a_lake_that_cannot_be_written(source: Path) -> None:
    (source / "file").write_text("a file where the lake should be")
    refusal(call(ingest.main, source, "--lake", str(source / "file" / "lake")), "cannot be written")


@pytest.mark.usefixtures("no_session")
def test_policies(source: Path) -> None:
    refusal(call(flag.main, source, "--policies", "2Y_back_pain_fusoin"), "2Y_back_pain_fusoin", "2Y_back_pain_fusion")
    folder = source / "policies"
    folder.mkdir()
    (source / "run.yml").write_text(CONFIG + "policy_dirs: [./policies]\n")
    text = """
id: mine
title: A test
dataset: apc
source: {publisher: us, page: none}
default_reading: as_published
revisions:
  - revision: 2020-01
    in_force: {from: 2020-01-01}
    clauses:
      - id: procedure
        scope: true
        require: {field: dominant_procedure, starts_with: [W371]}
"""
    spoiled = {
        "bare code": (text.replace("[W371]", "[02]"), ["quotation marks", "line 13"]),
        "unknown field": (text.replace("dominant_procedure", "dominant_proc"), ["dominant_proc"]),
        "field of the other dataset": (text.replace("dominant_procedure", "referral_source"), ["referral_source"]),
        "no scope": (text.replace("scope: true", "words: none"), ["scope"]),
        "id taken": (text.replace("id: mine", "id: 2Y_back_pain_fusion"), ["two files", "2Y_back_pain_fusion"]),
        "no such shared clause": (text + "      - use: global_cancr\n", ["global_cancr", "global_cancer"]),
    }
    for case, (spoilt, words) in spoiled.items():
        (folder / "mine.yml").write_text(spoilt)
        refusal(call(flag.main, source), *words), case


@pytest.mark.usefixtures("one_session")
def test_bad_rows_are_quarantined_and_too_many_stop_the_run(source: Path, empty_lake: Callable[[Path], Path]) -> None:
    empty_lake(source / "lake")
    bad = [",9,1,RXX,15M00,01,,,2021-22,45,,11,2021-05-01,2021-05-03\n", SPELL.format(id=77).replace("2021-05-03", "")]
    (source / "apcs.csv").write_text((source / "apcs.csv").read_text() + "".join(bad))
    stopped = call(run.main, source)
    assert (stopped["exit"], stopped["outcome"]) == (1, "failed")
    assert "no_key 1, undischarged 1" in stopped["error"]["message"]
    assert "published/rate" not in stopped["tables"]
    (source / "run.yml").write_text(CONFIG + "max_quarantine_share: 0.5\n")
    assert call(ingest.main, source)["exit"] == 0


@pytest.mark.usefixtures("no_session")
def test_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["publsh"]) == 2
    assert "'publish'" in capsys.readouterr().err
    (tmp_path / "there").write_text("")
    assert generate.main(["--out", str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err


@pytest.mark.usefixtures("one_session")
def test_a_year_that_shrinks_waits_for_a_persons_word(source: Path, empty_lake: Callable[[Path], Path]) -> None:
    empty_lake(source / "lake")

    def spells() -> int:
        return len(delta_rows(source / "lake/silver/apc_spell"))

    assert call(ingest.main, source)["exit"] == 0
    (source / "apcs.csv").write_text(APCS + "".join(SPELL.format(id=n) for n in range(8)))
    (source / "der.csv").write_text(DER + "".join(f"{n},V382,M545\n" for n in range(8)))
    refused = call(ingest.main, source)
    assert (refused["exit"], refused["outcome"]) == (1, "failed")
    assert "2021-22 has 8 usable rows in the source files and 10 in the lake" in refused["error"]["message"]
    assert "--accept-shrinkage" in refused["error"]["remedy"]
    assert spells() == 10
    assert call(ingest.main, source, "--accept-shrinkage")["exit"] == 0
    assert spells() == 8


@pytest.mark.usefixtures("no_session")
@pytest.mark.parametrize("arguments", [["run"], ["ingest", "--yeers", "2021-22"], ["policy", "shwo"]])
def test_a_wrong_call_gets_the_same_answer_as_any_other_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments, "--json"])
    assert ended.value.code == 2
    answer = json.loads(capsys.readouterr().out)
    assert (answer["exit"], answer["outcome"]) == (2, "refused")
    assert arguments[0] in answer["error"]["message"]
    assert "--help" in answer["error"]["remedy"]


@pytest.mark.usefixtures("no_session")
@pytest.mark.parametrize(
    ("job", "spelling", "earlier"),
    [(ingest, "accept-shrinkage", "accept"), (replay, "ignore-code-changes", "anyway")],
)
def test_an_earlier_spelling_of_an_option_still_works_and_says_so(
    job: Any, spelling: str, earlier: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[bool] = []
    monkeypatch.setattr(ingest, "run_with", lambda arguments, _: given.append(arguments.accept_shrinkage) or 0)
    monkeypatch.setattr(replay, "opened_lake", lambda *_, **__: nullcontext(SimpleNamespace(lake=None, progress=None)))
    monkeypatch.setattr(replay, "read_lake", lambda *_: None)
    monkeypatch.setattr(replay, "replay", lambda *_, ignore_code_changes, **__: given.append(ignore_code_changes) or [])
    arguments = ["--config", "run.yml"] if job is ingest else ["20240101T000000Z-000000", "--lake", "lake", "--json"]
    notes = []
    for option in ([], [f"--{spelling}"], [f"--{earlier}"]):
        assert job.main([*arguments, *option]) == 0
        notes.append(capsys.readouterr().err)
    assert given == [False, True, True]
    assert notes[:2] == ["", ""]
    assert f"--{earlier} is now --{spelling}" in notes[2]

"""Cost model and page of `benchmarks.scaling`, on measurements made up here: nothing is timed, no Spark starts."""

import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import scaling
from benchmarks.copies import rows_of, write_copies
from benchmarks.cost_model import (
    Model,
    Point,
    Prediction,
    TooFewPointsError,
    fit,
    predicted,
    quality,
    refits,
    smallest,
)
from benchmarks.scaling_page import STAGES, Assumed, write_page

KNOWN = Model(fixed=40, shared=30, row=2, shared_row=36)
ROWS, CORES = (1_000_000, 2_000_000, 4_000_000), (1, 2)


def points(model: Model, off: float = 0.0) -> list[Point]:
    """Points of a model, every second one that much above it and the others as much below."""
    found = [Point(rows, cores, model.seconds(rows, cores)) for rows in ROWS for cores in CORES]
    return [Point(p.rows, p.cores, p.seconds * (1 + off * (-1) ** place)) for place, p in enumerate(found)]


def state(model: Model = KNOWN, small: tuple[int, ...] = ()) -> dict[str, Any]:
    """Measurements as the bench keeps them: each stage takes a seventh of the job, and so do start and end."""
    measurements = [
        {
            "size": point.rows, "rows": point.rows + 7, "cores": point.cores, "repetition": 1,
            "small": point.rows in small, "seconds": point.seconds,
            "stages": dict.fromkeys(STAGES, point.seconds / 7), "processor_seconds": None,
            "peak_megabytes": 3000 + point.rows // 10_000, "load_before": 0.2, "day": "2026-11-25", "commit": "abc",
        }
        for point in points(model)
    ]  # fmt: skip
    machine = {"processor": "P", "cores": 2, "memory_gigabytes": 8, "driver_memory": "4g", "versions": {"Java": "17"}}
    return {"attendances_a_spell": 2, "part": 250_000, "seed": 1, "machine": machine, "measurements": measurements}


def tables(page: str) -> list[list[list[str]]]:
    """The cells of every table of a page, without the line below the head."""
    found: list[list[list[str]]] = []
    before = ""
    for line in page.splitlines():
        if line.startswith("|"):
            if not before.startswith("|"):
                found.append([])
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        before = line
    return [[row for place, row in enumerate(table) if place != 1] for table in found]


@pytest.mark.parametrize("known", [KNOWN, Model(0, 50, 0, 20), Model(80, 0, 9, 0)])
def test_the_fit_recovers_what_points_were_made_of(known: Model) -> None:
    found = fit(points(known))
    assert astuple(found) == pytest.approx(astuple(known), abs=1e-6)
    match = quality(found, points(known))
    assert match.worst == pytest.approx(0, abs=1e-9) and [p.cores for p, _ in match.held_out] == [1, 2]
    assert all(error == pytest.approx(0, abs=1e-9) and point.rows == ROWS[-1] for point, error in match.held_out)


def test_no_term_is_below_nothing() -> None:
    """Fewer seconds for more rows cannot be, whatever was measured."""
    odd = [Point(rows, cores, 100 - rows / 100_000) for rows in ROWS for cores in CORES]
    assert min(astuple(fit(odd))) == 0


@pytest.mark.parametrize(
    "rows, cores, counted", [(ROWS[:2], CORES, "2 and 2"), (ROWS, (2,), "3 and 1"), ((), (), "0 and 0")]
)
def test_too_few_points_are_refused(rows: tuple[int, ...], cores: tuple[int, ...], counted: str) -> None:
    few = [Point(r, c, 1.0) for r in rows for c in cores]
    with pytest.raises(TooFewPointsError, match=f"3 sizes on 2 numbers of cores; there are {counted}"):
        fit(few)


def test_exact_points_leave_no_range_but_that_of_unmeasured_cores() -> None:
    model, exact = fit(points(KNOWN)), points(KNOWN)
    match, others = quality(model, exact), refits(exact)
    at = {cores: predicted(model, match, others, 10_000_000, cores, 2, 0.5) for cores in (2, 3, 8)}
    assert at[2].low == pytest.approx(at[2].fitted) and at[2].high == pytest.approx(at[2].fitted)
    assert at[3].high == pytest.approx(KNOWN.seconds(10_000_000, 2)), "a third core takes nothing away"
    assert at[8].high == pytest.approx(KNOWN.seconds(10_000_000, 4))
    assert at[8].low == pytest.approx(KNOWN.seconds(10_000_000, 8))


def test_errors_of_the_fit_make_a_range_and_the_same_one_each_time() -> None:
    off = points(KNOWN, 0.05)
    model = fit(off)
    one, again = (predicted(model, quality(model, off), refits(off), 10_000_000, 2, 2, 0.5) for _ in range(2))
    assert one == again and one.low < one.fitted < one.high


def test_the_smallest_cluster_goes_by_the_high_end() -> None:
    known = [Prediction(16, 5, 4, 9), Prediction(2, 30, 29, 31), Prediction(64, 2, 1, 4)]
    assert smallest(known, 9) == known[0] and smallest(known, 8) == known[2] and smallest(known, 3) is None


def test_the_page_has_its_tables_and_figures(tmp_path: Path) -> None:
    written = write_page(state(), tmp_path / "s.json", Assumed(price=2.0, clusters=(2, 64)))
    page = written[0].read_text(encoding="utf-8")
    _, measured, models, national, advised = tables(page)
    assert [row[:2] for row in measured[1:]] == [[f"{rows + 7:,}", str(cores)] for rows in ROWS for cores in CORES]
    assert len({len(row) for row in measured}) == 1
    assert [row[0] for row in models[1:]] == [*STAGES, "start and end", "whole job"]
    assert models[-1][1:5] == ["40.0", "30.0", "2.0", "36.0"]
    assert [row[0] for row in national[1:]] == ["2", "64"]
    dozen = 12 * KNOWN.seconds(160_000_000, 2) / 3600
    assert national[1][2].startswith(f"{dozen:.1f} h") and national[1][4].startswith(f"{dozen * 2 * 2:,.2f} ")
    assert [row[0] for row in advised[1:]] == ["12 national years", "one national year"]
    assert (
        "2.00 for an hour of one core. This is an assumption" in page and "More than 2 cores is extrapolation" in page
    )
    assert "`python -m benchmarks.scaling`\nmakes this page" in page and "The files are made up" in page
    assert [path.name for path in written[1:]] == ["s-seconds.svg", "s-stages.svg"]
    for path in written[1:]:
        assert f"]({path.name})" in page and path.read_text(encoding="utf-8").rstrip().endswith("</svg>")


def test_a_stage_that_was_not_measured_is_named_and_has_no_figures(tmp_path: Path) -> None:
    """Measurements from before there was the stage `monitor` have no seconds of it."""
    whole = write_page(state(), tmp_path / "s.json", Assumed())[0].read_text(encoding="utf-8")
    assert "| monitor |" in whole and "is not included" not in whole
    earlier = state()
    earlier["measurements"][-1]["stages"].pop("monitor")
    page = write_page(earlier, tmp_path / "s.json", Assumed())[0].read_text(encoding="utf-8")
    assert "| monitor |" not in page and "**The stage `monitor` is not included**" in page
    assert len({len(row) for row in tables(page)[1]}) == 1


def test_a_national_year_that_was_run_goes_into_the_fit(tmp_path: Path) -> None:
    out, year = tmp_path / "s.json", tmp_path / "national.json"
    out.write_text(json.dumps(state()), encoding="utf-8")
    said = KNOWN.seconds(160_000_000, 2)
    run = {
        "rows": {"apcs": 20_000_000, "apcs_der": 20_000_000, "opa": 120_000_000}, "cores": 2, "seconds": said * 1.25,
        "processor_seconds": 2 * said, "peak_megabytes": 5432, "stages": dict.fromkeys(STAGES, said / 7), "day": "2026-11-26", "commit": "",
    }  # fmt: skip
    year.write_text(json.dumps(run), encoding="utf-8")
    assert scaling.main(["--page-only", "--out", str(out), "--national", str(year)]) == 0
    page = out.with_suffix(".md").read_text(encoding="utf-8")
    assert "20,000,000 of apcs, " in page and "5,432 MB" in page and f"{said / 60:.0f} min, -20%" in page
    assert json.loads(out.read_text(encoding="utf-8")) == state() | {"national": run}
    assert f", {2 * said:,.0f} processor seconds" in page
    without, *_ = write_page(state(), tmp_path / "without.json", Assumed())
    found, others = tables(page), tables(without.read_text(encoding="utf-8"))
    assert [len(table) for table in found] == [len(table) for table in others], "the paragraph breaks no table"
    assert found[2][0][-1] == "160,000,000 rows predicted" and found[2][-1][-1] == "-20.0%"
    points_and_year = [*points(KNOWN), Point(160_000_000, 2, said * 1.25)]
    assert found[2][-1][1:5] == [f"{term:,.1f}" for term in astuple(fit(points_and_year))] != others[2][-1][1:5]
    assert "rows of the largest measurement" not in page
    year.write_text(json.dumps(run | {"processor_seconds": None}), encoding="utf-8")
    assert scaling.main(["--page-only", "--out", str(out), "--national", str(year)]) == 0
    page = out.with_suffix(".md").read_text(encoding="utf-8")
    assert "), peak memory" in page and "processor seconds" not in page


def test_sizes_are_multiples_of_the_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        scaling.main(["--out", str(tmp_path / "s.json"), "--part", "300000", "--sizes", "4000000"])
    assert "multiples of 1,200,000" in capsys.readouterr().err


def test_copies_have_keys_and_patients_of_their_own(tmp_path: Path) -> None:
    part = tmp_path / "part"
    for name in ("practices.csv", "run.yml"):
        (part / name).parent.mkdir(exist_ok=True)
        (part / name).write_text(name)
    (part / "data" / "opa").mkdir(parents=True)
    rows = pa.table({"OPA_Ident": [1, 2, 2], "Der_Pseudo_NHS_Number": [7, 8, None], "Sex": ["1", "2", "2"]})
    pq.write_table(rows, part / "data" / "opa" / "one.parquet")
    write_copies(part, tmp_path / "made", {"opa": 3})
    found = pq.read_table(tmp_path / "made" / "data" / "opa").to_pylist()
    assert len(found) == 9 and len({row["OPA_Ident"] for row in found}) == 6
    assert len({row["Der_Pseudo_NHS_Number"] for row in found} - {None}) == 6
    assert [row["Sex"] for row in found] == ["1", "2", "2"] * 3
    assert (tmp_path / "made" / "run.yml").read_text() == "run.yml"


def test_copies_of_text_files_keep_the_episodes_of_a_spell_together(tmp_path: Path) -> None:
    part, made = tmp_path / "part", tmp_path / "made"
    (part / "data" / "apc").mkdir(parents=True)
    for name in ("run.yml", "practices.csv"):
        (part / name).write_text(name, encoding="utf-8")
    rows = [
        "EPIKEY,PROVSPNOPS,PSEUDO_HESID,SEX",
        "15000000300000000001,S1,9D,1",
        "15000000300000000002,S1,9D,2",
        ",S2,NULL,1",
    ]
    (part / "data" / "apc" / "one.csv").write_text("\n".join(rows), encoding="utf-8")
    write_copies(part, made, {"apc": 2})
    assert rows_of(made) == {"apc": 6}
    copies = [file.read_text(encoding="utf-8").splitlines() for file in sorted((made / "data" / "apc").iterdir())]
    assert copies[0] == rows
    assert copies[1] == [
        rows[0], "15000010300000000001,S1001,9D001,1", "15000010300000000002,S1001,9D001,2", ",S2001,NULL,1"
    ]  # fmt: skip


def test_a_page_drawn_again_has_the_same_bytes(tmp_path: Path) -> None:
    first, second = ([path.read_bytes() for path in write_page(state(), tmp_path / "s.json", Assumed())] for _ in "ab")
    assert first == second


def test_no_cluster_in_time_is_said(tmp_path: Path) -> None:
    page, *_ = write_page(state(), tmp_path / "s.json", Assumed(night_hours=0.001, clusters=(2,)))
    assert "| 12 national years | a night of 0.001 hours | none of these |" in page.read_text(encoding="utf-8")


def test_small_runs_are_not_fitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "s.json"
    out.write_text(json.dumps(state(small=ROWS[:1])), encoding="utf-8")
    assert scaling.main(["--page-only", "--out", str(out)]) == 3
    printed = capsys.readouterr().err
    assert (
        "there are 2 and 2" in printed and "1,000,000 rows are too few" in printed and not (tmp_path / "s.md").exists()
    )


def test_measurements_that_are_there_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = state()
    missing = kept["measurements"].pop()
    out, made = tmp_path / "s.json", []
    out.write_text(json.dumps(kept), encoding="utf-8")
    monkeypatch.setattr(scaling, "machine", lambda: kept["machine"])
    monkeypatch.setattr(scaling.os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(scaling.Bench, "source", lambda self, size: tmp_path)

    def measurement(self: scaling.Bench, source: Path, size: int, cores: int, repetition: int) -> dict[str, Any]:
        made.append((size, cores, repetition))
        return missing

    monkeypatch.setattr(scaling.Bench, "measurement", measurement)
    arguments = ["--out", str(out), "--part", "250000", "--sizes", ",".join(map(str, ROWS))]
    assert scaling.main(arguments) == 0 and made == [(ROWS[-1], 2, 1)]
    assert json.loads(out.read_text(encoding="utf-8")) == state()
    assert scaling.main(arguments) == 0 and len(made) == 1


def test_measurements_of_another_machine_are_not_added_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s.json"
    out.write_text(json.dumps(state()), encoding="utf-8")
    monkeypatch.setattr(scaling, "machine", lambda: {"processor": "other"})
    assert scaling.main(["--out", str(out), "--part", "250000", "--cores", "1"]) == 3
    assert "measured with another machine" in capsys.readouterr().err
    assert json.loads(out.read_text(encoding="utf-8")) == state()

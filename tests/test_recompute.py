"""What a run does again: log and histories in, years, policies and reasons out. No Spark."""

import copy
import json
from collections import Counter
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.source_tables import Source, TableSource
from ebi_spark.flags.policy_table import policy_rows
from ebi_spark.lake.local_tables import CommitInfo
from ebi_spark.lake.new_tables import create_table
from ebi_spark.lake.permissions import prepare_folders
from ebi_spark.lake.storage import Lake
from ebi_spark.policies.load import load_policies
from ebi_spark.runs import history, run_inputs
from ebi_spark.runs.due import History, StageRun, differences, due, due_at_all, newest_of_each_year, unchecked
from ebi_spark.runs.history import RunHistory
from ebi_spark.runs.stage_inputs import CHECKED, READS, SETTINGS, STAGES, recorded_inputs, stage_inputs
from ebi_spark.sources.file_inventory import source_bytes
from ebi_spark.sources.file_watch import watched
from ebi_spark.stages.batches import batches, in_words, seconds_left
from ebi_spark.stages.run_context import StageReport
from ebi_spark.tables.gold import BATCH, POLICY, RUN_LOG, STAGE_INPUT
from ebi_spark.tables.previous_ingest import PreviousIngest
from ebi_spark.tables.silver import REPEATED_ROW
from jobs.harness import by_name

SILVER, FLAGS = "silver/apc_spell", "gold/activity_flag"
YEARS = ["2021-22", "2022-23", "2023-24"]
USED = {"program:": "p1", "setting:basis": '"in_force"', "file:/data/practices.csv": "f1"}
POLICIES = {"A": "a1", "B": "b1"}


def write(version: int, years: list[str] | None, parts: list[str] | None = None) -> CommitInfo:
    return CommitInfo(version, "WRITE", json.dumps({"run_id": "r", "years": years, "parts": parts}))


def flagged(run_id: str = "r1", **changed: Any) -> StageRun:
    run = StageRun(run_id, "done", frozenset(YEARS), {SILVER: 4}, {FLAGS: 7}, USED, POLICIES)
    return replace(run, **changed)


def flag_due(*runs: StageRun, silver: History | None = None, flags: History | None = None, **changed: Any) -> Any:
    histories = {SILVER: silver or History(4), FLAGS: flags or History(7)}
    given: dict[str, Any] = {"reads": [SILVER], "inputs": USED, "parts": POLICIES} | changed
    return due(YEARS, runs, histories, **given)


def test_nothing_is_due_when_nothing_changed() -> None:
    assert not flag_due(flagged())


@pytest.mark.parametrize(
    ("what", "years", "parts", "reason"),
    [
        ({"runs": []}, YEARS, None, "not done yet"),
        ({"silver": History(5, [write(5, ["2022-23"])])}, ["2022-23"], None, "silver/apc_spell has changed"),
        # A commit made by another tool, or one that the log no longer has, can have changed any year.
        ({"silver": History(5, [CommitInfo(5, "UPDATE", None)])}, YEARS, None, "silver/apc_spell has changed"),
        ({"silver": History(5, [CommitInfo(5, "WRITE", '{"a": 1}')])}, YEARS, None, "silver/apc_spell has changed"),
        ({"silver": History(5, [CommitInfo(5, "WRITE", '["years"]')])}, YEARS, None, "silver/apc_spell has changed"),
        ({"silver": History(6, [write(6, [])])}, YEARS, None, "silver/apc_spell has changed"),
        ({"silver": History(2)}, YEARS, None, "silver/apc_spell has changed"),
        # A run that was killed after a commit wrote no row of the log.
        ({"flags": History(8, [write(8, ["2023-24"])])}, ["2023-24"], None, "gold/activity_flag was written by"),
        ({"flags": History(8, [write(8, ["2023-24"], ["B"])])}, ["2023-24"], ["B"], "was written by something else"),
        ({"parts": POLICIES | {"B": "b2"}}, YEARS, ["B"], "B has changed"),
        ({"parts": POLICIES | {"C": "c1"}}, YEARS, ["C"], "C is new"),
        ({"parts": {"A": "a1"}}, YEARS, None, "B is no longer configured"),
        ({"inputs": USED | {"setting:basis": '"fixed"'}}, YEARS, None, "the setting basis has changed"),
        ({"inputs": USED | {"file:/data/practices.csv": "f2"}}, YEARS, None, "the file practices.csv has changed"),
        ({"inputs": USED | {"program:": "p2"}}, YEARS, None, "the program has changed"),
        ({"runs": [flagged(outcome="broken")]}, YEARS, None, "not done yet"),
        ({"runs": [flagged(years=frozenset(YEARS[:2]))]}, YEARS[2:], None, "not done yet"),
        ({"runs": [flagged(inputs={})]}, YEARS, None, "did not record its inputs"),
    ],
)  # fmt: skip
def test_what_changed_is_due_and_no_more(what: dict[str, Any], years: list[str], parts: Any, reason: str) -> None:
    runs = what.pop("runs", [flagged()])
    found = flag_due(*runs, **what)
    assert (found.years, found.parts) == (years, parts)
    assert reason in "; ".join(found.reasons)


def test_commits_that_change_no_row_make_nothing_due() -> None:
    kept = [CommitInfo(5, "OPTIMIZE", None), CommitInfo(6, "VACUUM START", None), CommitInfo(7, "ADD COLUMNS", None)]
    assert not flag_due(flagged(), silver=History(7, kept))


def test_the_last_run_of_each_year_and_policy_counts() -> None:
    one_year = flagged("r2", years=frozenset(["2022-23"]), read={SILVER: 5}, written={FLAGS: 8})
    silver, flags = History(5, [write(5, ["2022-23"])]), History(8, [write(8, ["2022-23"])])
    assert not flag_due(one_year, flagged(), silver=silver, flags=flags)
    one_policy = flagged("r2", parts={"B": "b2"}, whole=False, written={FLAGS: 8})
    flags = History(8, [write(8, YEARS, ["B"])])
    assert not flag_due(one_policy, flagged(), flags=flags, parts={"A": "a1", "B": "b2"})
    # A policy asked for alone leaves the others' rows where they are.
    assert not flag_due(flagged(), parts={"A": "a1"}, whole=False)


def test_a_policy_that_was_removed_and_comes_back_is_due() -> None:
    """The run without it removed its rows, which an older run had written from the same definition."""
    without = flagged("r2", parts={"A": "a1"}, written={FLAGS: 8})
    flags = History(8, [CommitInfo(8, "WRITE", json.dumps({"run_id": "r2", "years": YEARS, "parts": None}))])
    found = flag_due(without, flagged(), flags=flags)
    assert (found.years, found.parts, found.reasons) == (YEARS, ["B"], [f"B is new ({', '.join(YEARS)})"])
    assert not flag_due(without, flagged(), flags=flags, parts={"A": "a1"})


def test_inputs_are_read_of_the_runs_that_count_alone() -> None:
    """The newest of each year, and those before it that it left rows of."""
    runs = [
        flagged("r6", outcome="failed"),
        flagged("r5", years=frozenset()),
        flagged("r4", years=frozenset(YEARS[:1]), whole=False),
        flagged("r3", years=frozenset(YEARS[:1])),
        flagged("r2", years=frozenset(YEARS[:1])),
        flagged("r1", years=frozenset(YEARS[:2])),
        flagged("r0", years=frozenset(YEARS[:2])),
    ]
    assert [runs[number].run_id for number in newest_of_each_year(runs)] == ["r5", "r4", "r3", "r1"]


def test_reasons_name_years_and_a_few_of_many_names() -> None:
    silver = History(6, [write(5, ["2021-22"]), write(6, ["2023-24"])])
    assert flag_due(flagged(), silver=silver).reasons == ["silver/apc_spell has changed (2021-22, 2023-24)"]
    now = {f"file:/in/{name}.csv": "2" for name in "abcdef"}
    assert differences(dict.fromkeys(now, "1"), now) == ["the files a.csv, b.csv, c.csv, d.csv and 2 more have changed"]


def test_a_release_follows_any_year() -> None:
    run = StageRun("r1", "done", frozenset(), {SILVER: 4}, {}, USED)
    same = {SILVER: History(5, [CommitInfo(5, "OPTIMIZE", None)])}
    assert due_at_all([run], same, reads=[SILVER], inputs=USED) == []
    changed = {SILVER: History(5, [write(5, ["2021-22"])])}
    assert due_at_all([run], changed, reads=[SILVER], inputs=USED) == ["silver/apc_spell has changed (2021-22)"]
    assert due_at_all([], same, reads=[SILVER], inputs=USED) == ["not done yet"]


def test_a_year_is_publishable_when_its_last_validation_let_it_pass_and_still_holds() -> None:
    def seen(outcome: str, years: list[str], version: int = 4) -> StageRun:
        return StageRun("r", outcome, frozenset(years), {SILVER: version}, {})

    histories = {SILVER: History(5, [write(5, ["2022-23"])])}
    runs = [seen("failed", ["2023-24"], 5), seen("done", YEARS)]
    assert unchecked(YEARS, runs, histories, reads=[SILVER]) == {
        "2022-23": "silver/apc_spell changed since the last validation",
        "2023-24": "failed its last validation",
    }
    assert unchecked(["2019-20"], runs, histories, reads=[SILVER]) == {"2019-20": "was not validated"}


def test_a_replaced_table_of_monitoring_is_unchecked_in_every_year() -> None:
    """It is written as a whole, so `publish` refuses each year until all have been validated again."""
    names = CHECKED["monitoring"]
    assert names and set(names) <= {*READS["validate"]} & {*READS["publish"]}
    checked = StageRun("r", "done", frozenset(YEARS), dict.fromkeys(names, 3), {})
    same = {name: History(3) for name in names}
    assert unchecked(YEARS, [checked], same, reads=names) == {}
    replaced = same | {names[0]: History(4, [write(4, None)])}
    reason = f"{names[0]} changed since the last validation"
    assert unchecked(YEARS, [checked], replaced, reads=names) == dict.fromkeys(YEARS, reason)


class _NoLake:
    def foreign_version(self, name: str) -> str | None:
        return None


def test_every_setting_says_which_stages_depend_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key of the configuration counts for every stage until it is listed; here it has to be."""
    assert {item.name for item in fields(RunConfig)} == set(SETTINGS)
    config = RunConfig(lake=LakeLocation(folder=tmp_path))
    lake: Any = _NoLake()
    inputs_by_stage = {stage: stage_inputs(stage, config, lake, "r") for stage in STAGES}
    other = replace(config, coverage="partial")
    assert {s for s in STAGES if stage_inputs(s, other, lake, "r") != inputs_by_stage[s]} == {
        "rate",
        "monitor",
        "publish",
    }
    # Files count by what is in them, not by their times.
    people = tmp_path / "people.csv"
    people.write_text("a", encoding="utf-8")
    config = replace(config, population=({"path": str(tmp_path / "*.csv"), "layout": "bands"},))
    first = stage_inputs("rate", config, lake, "r")
    people.touch()
    assert stage_inputs("rate", config, lake, "r") == first
    people.write_text("b", encoding="utf-8")
    assert differences(first, stage_inputs("rate", config, lake, "r")) == ["the file people.csv has changed"]
    monkeypatch.delitem(SETTINGS, "coverage")
    assert all("setting:coverage" in stage_inputs(stage, other, lake, "r") for stage in STAGES)


def test_files_and_policies_are_found_once_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()

    def counted(name: str) -> None:
        before = getattr(run_inputs, name)

        def call(*given: Any) -> Any:
            calls[name] += 1
            return before(*given)

        monkeypatch.setattr(run_inputs, name, call)

    counted("find_files")
    counted("load_policies")
    attendances = tmp_path / "opa.csv"
    attendances.write_text("OPA_Ident\n", encoding="utf-8")
    source = Source("outpatient", "sus_plus", {"opa": TableSource("opa", (str(tmp_path / "*.csv"),))})
    config = RunConfig(lake=LakeLocation(folder=tmp_path), sources=(source,))
    inputs = run_inputs.RunInputs(config)
    assert source_bytes(config, inputs.files) == len("OPA_Ident\n")
    lake: Any = _NoLake()
    with watched(config, {}, inputs.files):
        first, *_ = [recorded_inputs(stage, config, lake, "r", None, inputs) for stage in STAGES]
    assert calls == {"find_files": 1, "load_policies": 1}
    # What is found once is which files there are, and not their state.
    attendances.write_text("OPA_Ident\n1\n", encoding="utf-8")
    assert differences(first, recorded_inputs("ingest", config, lake, "r", None, inputs)) != []


def test_many_years_go_in_batches_of_bounded_size() -> None:
    records = {"2019-20": 3, "2020-21": 4, "2021-22": 12, "2022-23": 5, "2023-24": 5}
    assert batches(reversed(records), records, most=10) == [
        ["2019-20", "2020-21"], ["2021-22"], ["2022-23", "2023-24"],
    ]  # fmt: skip
    assert batches([], records) == []
    assert seconds_left([], 5) is None
    assert seconds_left([(10, 5), (20, 10)], 7) == 14
    assert [in_words(seconds) for seconds in (3, 61, 200, 7200)] == ["10 s", "60 s", "3 min", "2.0 h"]


def test_the_wording_of_policies_that_a_run_was_not_asked_for_does_not_count(tmp_path: Path) -> None:
    def not_started() -> Any:
        raise AssertionError("no session is needed")

    prepare_folders(tmp_path)
    location = LakeLocation(folder=tmp_path)
    lake = Lake(not_started, location, "run")
    fusion, imaging = "2Y_back_pain_fusion", "2S_lower_back_imaging"

    def unchanged(*only: str) -> bool:
        return RunHistory(lake, RunConfig(lake=location, policies=only or None), "now").policies_unchanged()

    assert not unchanged(), "there is no table yet"
    create_table(lake, POLICY)
    assert not unchanged()
    made = policy_rows(load_policies(), "earlier")
    lake.replace(POLICY, made, {}, stage="flag")
    assert unchanged() and unchanged(fusion) and unchanged(fusion, imaging)
    for change in ({"definition": "{}"}, {"publish_years": 9}, {"target": 0.5}, {"is_default_reading": None}):
        rows = [row | change if row["policy_id"] == fusion else row for row in made]
        lake.replace(POLICY, rows, {}, stage="flag")
        assert not unchanged() and not unchanged(fusion) and unchanged(imaging)
    lake.replace(POLICY, [row for row in made if row["policy_id"] != imaging], {}, stage="flag")
    assert not unchanged() and unchanged(fusion) and not unchanged(imaging)
    lake.replace(POLICY, [*made, made[0] | {"policy_id": "removed"}], {}, stage="flag")
    assert not unchanged() and unchanged(fusion)


def test_batches_of_a_stage_are_reported_as_one() -> None:
    reports = [
        StageReport("ingest", 2.0, 5, ["2021-22"], why=["a has changed"]),
        StageReport("ingest", 3.0, 6, ["2022-23"], why=["a has changed", "b has changed"]),
        StageReport("rate"),
    ]
    found = [(stage.name, stage.seconds, stage.rows, stage.years, stage.why) for stage in by_name(reports)]
    assert found == [
        ("ingest", 5.0, 11, ["2021-22", "2022-23"], ["a has changed", "b has changed"]), ("rate", 0.0, 0, None, []),
    ]  # fmt: skip
    assert (reports[0].seconds, reports[0].why) == (2.0, ["a has changed"])


AT = LakeLocation(folder=Path("/lake"))
F19, F20, F21 = ("/data/19", "/data/20", "/data/21")
FIRST, SECOND, _ = YEARS


class LoggedLake:
    """A lake of which only what runs recorded and the commits of one table are known."""

    def __init__(self, *, earlier: bool) -> None:
        self.earlier = earlier
        self.log: list[dict[str, Any]] = []
        self.batches: list[dict[str, Any]] = []
        self.inputs: list[dict[str, Any]] = []
        self.written: list[CommitInfo] = []
        self.repeated = 0  # the version of the rows of repeated keys

    def exists(self, _: Any) -> bool:
        return True

    def version(self, table: Any) -> int:
        return self.repeated if table is REPEATED_ROW else len(self.written)

    def commits(self, _: Any, after: int) -> list[CommitInfo]:
        return self.written[after:]

    def small_rows(self, table: Any, columns: Any, where: Any = None) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = {RUN_LOG: self.log, BATCH: self.batches, STAGE_INPUT: self.inputs}[table]
        meant = [row for row in rows if all(row[name] in values for name, values in (where or {}).items())]
        return [{name: copy.deepcopy(row.get(name)) for name in columns} for row in meant]

    rows_if_there = small_rows

    def commit(self, run: str, *years: str) -> None:
        metadata = json.dumps({"run_id": run, "years": list(years), "parts": None})
        self.written.append(CommitInfo(len(self.written) + 1, "WRITE", metadata))

    def ran(self, run: str, used: dict[str, str], *years: str, wrote: bool = True, **facts: Any) -> None:
        """A batch of an ingest that was completed."""
        if wrote:
            self.commit(run, *years)
        facts = {"asked": "every year", "found": YEARS} | facts
        row = {
            "run_id": run, "stage": "ingest", "started_at": len(self.log), "outcome": "done", "years": list(years),
            "versions_read": {}, "versions_written": {SILVER: len(self.written)} if wrote else {},
        }  # fmt: skip
        self.log.append(row | {"ended_at": len(self.log) + 1, "details": {}})
        if self.earlier:  # in the form of versions before gold/batch: all as text
            details = {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}
            self.log[-1]["details"] = {f"uses:{name}": value for name, value in used.items()} | details
            return
        name = f"the inputs of {run} {len(self.log)}"
        files = [
            {"file": file, "financial_year": year or None, "fingerprint": of_year.get(year)}
            for file, of_year in facts.get("verdicts", {}).items()
            for year in {"", *of_year}
        ]
        self.batches.append(
            row
            | {
                "inputs": name,
                "every_year": facts.get("asked") == "every year",
                "years_found": facts.get("found"),
                "years_unchanged": facts.get("as_they_were"),
                "files": files if "verdicts" in facts else None,
                "due_from": {file: date.fromisoformat(day) for file, day in facts.get("due_from", {}).items()},
            }
        )
        for key_, value in used.items():
            kind, _, named = key_.partition(":")
            self.inputs.append({"inputs": name, "kind": kind, "input": named, "fingerprint": value})


@pytest.fixture(params=[False, True], ids=["batches", "an earlier version's log"])
def lake(request: pytest.FixtureRequest) -> LoggedLake:
    """A lake whose runs were recorded by this version, or by one that kept all in the details of the run log."""
    return LoggedLake(earlier=request.param)


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the files are now."""
    now = {f"data:{file}": "1" for file in (F19, F20, F21)}
    monkeypatch.setattr(history, "stage_inputs", lambda *_: dict(now))
    return now


def history_of(lake: LoggedLake) -> RunHistory:
    return RunHistory(lake, RunConfig(lake=AT), "now")  # type: ignore[arg-type]


def all_read(lake: LoggedLake, sources: dict[str, str]) -> None:
    """Three years, each of a file of its own."""
    for year, file in zip(YEARS, (F19, F20, F21), strict=True):
        lake.ran("r1", sources, year, verdicts={file: {year: "a"}})


def test_years_whose_files_were_checked_are_not_due_again(lake: LoggedLake, sources: dict[str, str]) -> None:
    all_read(lake, sources)
    assert not history_of(lake).due_sources()
    sources[f"data:{F19}"] = "2"
    assert history_of(lake).due_sources().years == YEARS
    assert history_of(lake).batch_due([FIRST], [F19], {F19: {FIRST: "b"}})
    assert not history_of(lake).batch_due([SECOND], [F20], {F20: {SECOND: "a"}})
    lake.ran("r2", sources, FIRST, verdicts={F19: {FIRST: "b"}}, as_they_were=YEARS[1:])
    assert not history_of(lake).due_sources()
    # But what another tool writes to them is due.
    lake.commit("another tool", SECOND)
    assert history_of(lake).due_sources().years == [SECOND]


def test_a_year_that_lost_rows_with_their_file_is_due(lake: LoggedLake, sources: dict[str, str]) -> None:
    lake.ran("r1", sources, FIRST, SECOND, verdicts={F19: {FIRST: "a", SECOND: "a"}, F20: {SECOND: "b"}})
    sources[f"data:{F19}"] = "2"
    for _ in range(2):
        found = history_of(lake).batch_due([SECOND], [F20], {F20: {SECOND: "b"}})
        assert found.reasons == ["other files change the status of rows in 19"]
    lake.ran("r2", sources, SECOND, verdicts={F20: {SECOND: "b"}})
    assert not history_of(lake).batch_due([SECOND], [F20], {F20: {SECOND: "b"}})


def test_a_year_knows_the_files_it_was_last_written_from(lake: LoggedLake, sources: dict[str, str]) -> None:
    """A retry of some files replaces a year that one of them has left, too."""
    all_read(lake, sources)
    assert history_of(lake).files_of([FIRST, SECOND]) == {F19, F20}
    lake.ran("r2", sources, SECOND, verdicts={F19: {SECOND: "a"}, F20: {FIRST: "b"}})
    assert history_of(lake).files_of([SECOND]) == {F19}
    assert history_of(lake).files_of(["2030-31"]) == set()


def test_rows_without_a_year_are_known_from_the_last_batch_that_read_them(
    lake: LoggedLake, sources: dict[str, str]
) -> None:
    lake.ran("r1", sources, FIRST, verdicts={F19: {FIRST: "a", "": "c"}})
    assert history_of(lake).batch_due([FIRST], [F19], {F19: {FIRST: "a"}})
    lake.ran("r2", sources, FIRST, verdicts={F19: {FIRST: "a"}})
    assert not history_of(lake).batch_due([FIRST], [F19], {F19: {FIRST: "a"}})


def test_what_a_stopped_run_wrote_is_due_even_if_its_cause_is_gone(lake: LoggedLake, sources: dict[str, str]) -> None:
    all_read(lake, sources)
    # Its first batch was completed; its second committed and stopped before its row of the log.
    lake.ran("r2", sources | {f"data:{F19}": "2"}, FIRST, verdicts={F19: {FIRST: "b"}})
    lake.commit("r2", SECOND)
    found = history_of(lake).batch_due([SECOND], [F20], {F20: {SECOND: "a"}})
    assert found.reasons == [f"{SILVER} was written by something else ({SECOND})"]


def test_a_run_of_named_years_hides_no_other_year_of_a_file(lake: LoggedLake, sources: dict[str, str]) -> None:
    all_read(lake, sources)
    sources["data:/data/22"] = "1"  # of a year that was not asked for
    lake.ran("r2", sources, FIRST, wrote=False, asked="named years", as_they_were=YEARS[1:])
    assert history_of(lake).due_sources().years == ["every year"]
    lake.ran("r3", sources, wrote=False, as_they_were=YEARS)
    assert not history_of(lake).due_sources()


def test_a_file_with_rows_of_future_days_is_read_again_on_the_first_of_them(
    lake: LoggedLake, sources: dict[str, str]
) -> None:
    all_read(lake, sources)
    lake.ran("r2", sources, FIRST, verdicts={F19: {FIRST: "b"}}, due_from={F19: "2027-04-01"}, as_they_were=YEARS[1:])

    def on(year: int, month: int, day: int) -> RunHistory:
        return RunHistory(lake, RunConfig(lake=AT, day=date(year, month, day)), "now")  # type: ignore[arg-type]

    assert not on(2027, 3, 31).due_sources()
    books = on(2027, 4, 1)
    reason = "the source file 19 has rows of a day that was in the future"
    assert books.due_sources().reasons == [f"{reason} ({', '.join(YEARS)})"]
    assert books.batch_due([FIRST], [F19], {F19: {FIRST: "b"}})
    assert not books.batch_due([SECOND], [F20], {F20: {SECOND: "a"}})
    found = books.previous_ingest()
    assert found is not None and found.changed == frozenset({F19})
    # Read again on that day, it waits for the next one.
    lake.ran("r3", sources, FIRST, verdicts={F19: {FIRST: "c"}}, due_from={F19: "2027-06-01"}, as_they_were=YEARS[1:])
    assert not on(2027, 5, 31).due_sources()
    assert on(2027, 6, 2).due_sources()
    lake.ran("r4", sources, FIRST, verdicts={F19: {FIRST: "d"}}, as_they_were=YEARS[1:])
    assert not on(2030, 1, 1).due_sources()


def three_batches(lake: LoggedLake, sources: dict[str, str]) -> None:
    """Three years, each of a file of its own; a row of the second file is in quarantine under a year that no file has."""
    fingerprints = {F19: {FIRST: "a"}, F20: {SECOND: "a", "2030-31": "b", "": "c"}, F21: {YEARS[2]: "a"}}
    for year, file in zip(YEARS, (F19, F20, F21), strict=True):
        lake.ran("r1", sources, year, verdicts={file: fingerprints[file]})


def test_what_the_previous_ingest_knew(lake: LoggedLake, sources: dict[str, str]) -> None:
    assert history_of(lake).previous_ingest() is None
    three_batches(lake, sources)
    by_year = {FIRST: {F19}, SECOND: {F20}, "2030-31": {F20}, YEARS[2]: {F21}}
    read = frozenset({F19, F20, F21})
    assert history_of(lake).previous_ingest() == PreviousIngest(frozenset(), YEARS, read, by_year, {"r1": None})
    sources |= {f"data:{F19}": "2", "data:/data/22": "1"}
    found = history_of(lake).previous_ingest()
    assert found == PreviousIngest(frozenset({F19, "/data/22"}), YEARS, read, by_year, {"r1": None})
    # A later run replaces what was known of the files it read; years that it found unchanged were checked at the same time.
    lake.ran("r2", sources, FIRST, verdicts={F19: {SECOND: "a"}}, as_they_were=YEARS[1:])
    found = history_of(lake).previous_ingest()
    assert found is not None
    assert (found.changed, found.files) == (frozenset(), {SECOND: {F19, F20}, "2030-31": {F20}, YEARS[2]: {F21}})


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(lambda lake, now: now.pop(f"data:{F19}"), id="a file is gone"),
        pytest.param(lambda lake, now: now.update({"setting:bare_year": "x"}), id="a setting has changed"),
        pytest.param(lambda lake, now: now.update({"data:s3://there/22": "r3"}), id="a file that Python cannot see"),
        pytest.param(lambda lake, now: now.update({"table:a.b": "1"}), id="a table that Python cannot see"),
        pytest.param(lambda lake, now: lake.commit("another tool", SECOND), id="another tool wrote"),
        pytest.param(lambda lake, now: setattr(lake, "repeated", 1), id="an ingest stopped before its first batch"),
        pytest.param(
            lambda lake, now: lake.ran("r2", now | {f"data:{F19}": "2"}, FIRST, verdicts={F19: {FIRST: "b"}}),
            id="an ingest stopped after its first batch",
        ),
        pytest.param(
            lambda lake, now: lake.ran("r2", now, FIRST, verdicts={F19: {FIRST: "b"}}, found=[*YEARS, "2024-25"]),
            id="a year was found that no batch completed",
        ),
    ],
)
def test_without_one_known_state_all_files_are_read(lake: LoggedLake, sources: dict[str, str], what: Any) -> None:
    three_batches(lake, sources)
    assert history_of(lake).previous_ingest() is not None
    what(lake, sources)
    assert history_of(lake).previous_ingest() is None

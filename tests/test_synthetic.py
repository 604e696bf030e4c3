"""The made-up data is the same for the same seed, resembles the national counts, and agrees between both systems."""

import csv
import re
from collections import Counter
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from scipy.stats import spearmanr

from ebi_spark.approvals.coverage import register_coverage
from ebi_spark.approvals.match import MATCH_CLASSES, match_approvals
from ebi_spark.approvals.regimes import known_boards, read_regimes, stated_coverage
from ebi_spark.approvals.register import classify_entries, read_registers
from ebi_spark.config.load import load_config
from ebi_spark.config.shipped_files import resource
from ebi_spark.errors import InputError
from ebi_spark.rates.equality import read_fifths, read_people_of_fifths
from ebi_spark.small_frames import small_frame
from ebi_spark.synthetic import INFLATION_WORDS, approvals, generate, hes, people, shares, sus_plus, truth
from ebi_spark.synthetic.codes import national_counts
from ebi_spark.synthetic.lookups import Lookups, lookups
from ebi_spark.synthetic.people import intake_size
from ebi_spark.synthetic.places import places
from ebi_spark.synthetic.truth import Plan

YEARS = ["2018-19", "2019-20", "2020-21", "2021-22"]
SPELLS, ATTENDANCES, SEED = 12_000, 12_000, 20_260


@pytest.fixture(scope="session")
def sus_folder(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "sus"
    generate(
        spark, out, years=YEARS, spells=SPELLS, attendances=ATTENDANCES, seed=SEED, system="sus_plus",
        progress=lambda text: None,
    )  # fmt: skip
    return out


@pytest.fixture(scope="session")
def hes_folder(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "hes"
    generate(
        spark, out, years=YEARS, spells=SPELLS, attendances=ATTENDANCES, seed=SEED, system="hes",
        progress=lambda text: None,
    )  # fmt: skip
    return out


def read(folder: Path, role: str) -> pd.DataFrame:
    """All yearly files of a role as text, with columns in upper case and a column ``FILE_YEAR``."""
    frames = []
    for path in sorted((folder / "data" / role).glob("*.csv")):
        first = path.read_text(encoding="utf-8").split("\n", 1)[0]
        names = None
        if not re.search(r"ident|key", first, re.I):
            names = (folder / "data" / f"{role}_headers.txt").read_text(encoding="utf-8").strip().split(",")
        frame = pd.read_csv(
            path, dtype=str, keep_default_na=False, sep="|" if first.count("|") > 20 else ",", names=names
        )
        frame.columns = [name.upper() for name in frame.columns]
        frames.append(frame.assign(FILE_YEAR=path.stem[-7:]))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="session")
def apcs(sus_folder: Path) -> pd.DataFrame:
    return read(sus_folder, "apcs")


@pytest.fixture(scope="session")
def apcs_der(sus_folder: Path) -> pd.DataFrame:
    return read(sus_folder, "apcs_der")


@pytest.fixture(scope="session")
def opa(sus_folder: Path) -> pd.DataFrame:
    return read(sus_folder, "opa")


@pytest.fixture(scope="session")
def apc(hes_folder: Path) -> pd.DataFrame:
    return read(hes_folder, "apc")


@pytest.fixture(scope="session")
def op(hes_folder: Path) -> pd.DataFrame:
    return read(hes_folder, "op")


def codes_of(text: str) -> list[str]:
    """The codes in a concatenated text, four characters each."""
    if text.strip() in ("", "NULL"):
        return []
    return [code.strip().upper().replace(".", "")[:4] for code in re.split(r"\|\||,", text) if code.strip()]


STARTS = tuple(int(year[:4]) for year in YEARS)
INTAKE = intake_size(SPELLS // len(YEARS), ATTENDANCES // len(YEARS))


@pytest.fixture(scope="session")
def small(spark: SparkSession) -> Lookups:
    return lookups(spark, STARTS, SEED)


def rows_of(frame: pd.DataFrame) -> list[tuple[str, ...]]:
    """All rows as text, sorted."""
    text = frame.astype(object).where(frame.notna(), "").astype(str)
    return sorted(text.itertuples(index=False, name=None))


def in_partitions(frame: DataFrame) -> list[tuple[str, ...]]:
    """The rows of a layout's frame that go to a file."""
    kept = frame.where("file >= 0").drop("file")
    return rows_of(kept.select(*[F.col(name).cast("string") for name in kept.columns]).toArrow().to_pandas())


def test_attendances_are_the_same_in_other_partitions(spark: SparkSession, small: Lookups, opa: pd.DataFrame) -> None:
    again = in_partitions(sus_plus.opa(spark, Plan(STARTS, ATTENDANCES, INTAKE, 3), small, SEED))
    assert again == rows_of(opa.drop(columns="FILE_YEAR"))


def test_episodes_are_the_same_in_other_partitions(spark: SparkSession, small: Lookups, apc: pd.DataFrame) -> None:
    again = in_partitions(hes.apc(spark, Plan(STARTS, SPELLS, INTAKE, 3), small, SEED))
    assert again == rows_of(apc.drop(columns="FILE_YEAR"))


def test_another_seed_gives_other_rows(spark: SparkSession, small: Lookups, opa: pd.DataFrame) -> None:
    other = sus_plus.opa(spark, Plan(STARTS, 40, INTAKE, 1), small, SEED + 1)
    people = {str(row[0]) for row in other.select("Der_Pseudo_NHS_Number").collect()}
    assert len(people) > 20 and not people & set(opa.DER_PSEUDO_NHS_NUMBER)


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="not an empty folder"):
        generate(spark, tmp_path, years=["2021-22"], spells=1, attendances=1, seed=1, system="hes")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "wrong",
    [{"years": []}, {"spells": 0}, {"system": "sus"}, {"file_format": "xlsx"}],
    ids=lambda w: next(iter(w)),
)
def test_bad_arguments_are_refused_before_anything_is_written(
    spark: SparkSession, tmp_path: Path, wrong: dict[str, object]
) -> None:
    call: dict[str, object] = {
        "years": ["2021-22"],
        "spells": 1,
        "attendances": 1,
        "seed": 1,
        "system": "hes",
    }
    with pytest.raises(InputError):
        generate(spark, tmp_path / "new", **{**call, **wrong})  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_the_run_configuration_finds_every_file(sus_folder: Path, hes_folder: Path) -> None:
    for folder in (sus_folder, hes_folder):
        config = load_config(folder / "run.yml")
        assert config.years == tuple(YEARS)
        assert config.practices is not None and config.practices.is_file()
        assert config.deprivation is not None and config.deprivation_population is not None
        fifths, people = read_fifths(config.deprivation), read_people_of_fifths(config.deprivation_population)
        of_fifths = Counter(fifths.values())
        assert len(set(of_fifths.values())) == 1 and len(of_fifths) == 5
        assert (
            abs(sum(sum(of.values()) for of in people.values()) - sum(places().totals)) < 200
        )  # rounded by age and sex
        found = {
            match
            for source in config.sources
            for table in source.tables.values()
            for pattern in table.paths
            for match in Path(pattern).parent.glob(Path(pattern).name)
        }
        assert found == {path for path in (folder / "data").glob("*/*") if path.is_file()}


def test_each_year_is_one_file_with_its_own_spelling_and_delimiter(sus_folder: Path, hes_folder: Path) -> None:
    heads = {p.stem: p.read_text().split("\n")[0] for p in (sus_folder / "data" / "apcs").glob("*.csv")}
    assert sorted(heads) == [f"apcs_{year}" for year in YEARS]
    assert {name[:10] for name in heads.values()} == {"APCS_Ident", "apcs_ident", "APCS_IDENT"}
    first = {p.stem[-7:]: p.read_text().split("\n")[0] for p in (hes_folder / "data" / "op").glob("*.csv")}
    assert first["2018-19"].startswith("ATTENDKEY|") and first["2020-21"].startswith("ATTENDKEY,")
    assert not first["2019-20"].startswith("ATTENDKEY")
    headers = (hes_folder / "data" / "op_headers.txt").read_text().strip().split(",")
    assert len(headers) == len(next(csv.reader([first["2019-20"]])))


def test_keys_are_unique_but_for_the_stated_duplicates(apcs: pd.DataFrame, apc: pd.DataFrame) -> None:
    keys = apcs.APCS_IDENT[apcs.APCS_IDENT != ""]
    assert keys.nunique() == pytest.approx(SPELLS, abs=SPELLS * shares.NO_KEY * 4 + 4)
    doubled = apcs[apcs.APCS_IDENT.isin(keys[keys.duplicated()])]
    assert 0 < len(doubled) / 2 < SPELLS * (shares.DUPLICATES + shares.CONFLICTS) * 3
    identical = doubled.duplicated(keep=False)
    assert identical.any()
    lengths = {year: set(group.EPIKEY.str.len()) - {0} for year, group in apc.groupby("FILE_YEAR")}
    assert lengths == {"2018-19": {12}, "2019-20": {12}, "2020-21": {12}, "2021-22": {20}}


def test_years_are_spelt_in_three_ways_and_agree_with_the_date(apcs: pd.DataFrame, apc: pd.DataFrame) -> None:
    assert apcs.groupby("FILE_YEAR").DER_FINANCIAL_YEAR.unique().map(list).to_dict() == {
        "2018-19": ["2018-19"], "2019-20": ["2019/20"], "2020-21": ["202021"], "2021-22": ["2021-22"],
    }  # fmt: skip
    discharged = apcs[apcs.DISCHARGE_DATE != ""]
    dates = pd.to_datetime(discharged.DISCHARGE_DATE)
    start = dates.dt.year - (dates.dt.month < 4)
    assert (start.astype(str) == discharged.FILE_YEAR.str[:4]).all()
    assert (discharged.ADMISSION_DATE <= discharged.DISCHARGE_DATE).all()
    assert (discharged.FILE_YEAR.str[:4] + "-04-01" > discharged.ADMISSION_DATE).any()  # the year before
    assert set(apc.FYEAR) == {"1819", "1920", "2021", "2122"}


def near(share: float, rows: int) -> object:
    """A share of this many rows, within five standard errors."""
    return pytest.approx(share, abs=5 * (share * (1 - share) / rows) ** 0.5 + 1e-9)


def test_shares_are_as_stated(apcs: pd.DataFrame, apcs_der: pd.DataFrame, opa: pd.DataFrame) -> None:
    n = len(apcs)
    assert (apcs.AGE_AT_START_OF_SPELL_SUS == "").mean() == near(shares.FIRST_AGE_MISSING, n)
    assert (apcs.DISCHARGE_DATE == "").mean() == near(shares.UNDISCHARGED, n)
    assert apcs.ADMISSION_METHOD.isin(["82", "83", "2C"]).mean() == near(shares.BIRTH_SHARE, n)
    assert (~apcs.SEX.isin(["1", "2"])).mean() == near(shares.SEX_UNKNOWN, n)
    coded = apcs[apcs.DER_DIAGNOSIS_ALL.map(codes_of).map(len) > 0]
    assert 1 - len(coded) / n == near(shares.NO_DIAGNOSIS, n)
    assert coded.DER_DIAGNOSIS_ALL.str.contains(" ").mean() == pytest.approx(shares.STYLE_PADDED, abs=0.2)
    assert (~coded.DER_DIAGNOSIS_ALL.str.startswith("||")).mean() == near(shares.NO_LEADING_BARS, len(coded))
    assert coded.DER_DIAGNOSIS_ALL.str.contains(".", regex=False).mean() == near(shares.WITH_DOTS, len(coded))
    category = apcs.ADMINISTRATIVE_CATEGORY
    assert {"01", "02", "2", "03", "NULL"} <= set(category)
    idents = set(apcs.APCS_IDENT)
    stray = ~apcs_der.APCS_IDENT.isin(idents)
    assert 0 < stray.sum() < n * (shares.DER_STRAY + shares.NO_KEY) * 4 + 5
    assert 0 < len(idents - set(apcs_der.APCS_IDENT) - {""}) < n * shares.DER_MISSING * 3
    attended = opa[opa.ATTENDANCE_STATUS.isin(["5", "6"])]
    blank = attended.DER_DIAGNOSIS_ALL.map(codes_of).map(len) == 0
    assert blank.mean() == pytest.approx(shares.OP_DIAGNOSIS_BLANK, abs=0.03)


def test_policy_activity_exists_and_differs_between_boards(
    apcs: pd.DataFrame, apcs_der: pd.DataFrame, opa: pd.DataFrame
) -> None:
    spells = apcs.drop_duplicates("APCS_IDENT").merge(apcs_der.drop_duplicates("APCS_IDENT"), on="APCS_IDENT")
    dominant = spells.SPELL_DOMINANT_PROCEDURE.str.upper().str.replace(".", "")
    fusion = spells[dominant.isin(list(shares.FUSION_CODES))]
    assert len(fusion) / len(spells) == pytest.approx(shares.FUSION_SHARE, rel=0.35)
    back = fusion.SPELL_PRIMARY_DIAGNOSIS.str[:4].isin(["M545", "M549"])
    assert back.mean() == pytest.approx(shares.FUSION_BACK_PAIN_PRIMARY, abs=0.15)
    assert 0 < fusion.ADMISSION_METHOD.str.startswith("2").mean() < 0.2
    assert fusion.DER_DIAGNOSIS_ALL.map(lambda t: any(re.match("M4[0-3]|M872", c) for c in codes_of(t))).any()
    imaging = opa[opa.DER_PROCEDURE_ALL.map(lambda t: any(c in ("U054", "U055") for c in codes_of(t)))]
    assert 0.01 < len(imaging) / len(opa) < 0.06
    with resource("conf", "reference", "areas.csv").open(encoding="utf-8") as file:
        boards = {row["sub_icb_code"]: row["icb_code"] for row in csv.DictReader(file)}
    code = opa.DER_COMMISSIONER_CODE.map(lambda c: boards.get(c, boards.get(c[:3])))
    share = opa.index.isin(imaging.index)
    by_board = pd.Series(share).groupby(code.values).agg(["mean", "size"])
    large = by_board[by_board["size"] > 200]["mean"]
    assert large.max() > 2 * large.min()
    assert "Made-up data" in INFLATION_WORDS


@pytest.mark.parametrize(("column", "table"), [("DER_DIAGNOSIS_ALL", "icd10"), ("DER_PROCEDURE_ALL", "opcs4")])
def test_codes_are_as_frequent_as_the_national_counts(apcs: pd.DataFrame, column: str, table: str) -> None:
    seen = Counter(code for text in apcs[column] for code in codes_of(text))
    national = national_counts(table)
    assert set(seen) <= set(national) | {"R69X"}
    top = sorted(national, key=national.__getitem__, reverse=True)[:150]
    rank, _ = spearmanr([national[code] for code in top], [seen[code] for code in top])
    assert rank > 0.6
    weight = sum(national[code] for code in top) / sum(national.values())
    assert sum(seen[code] for code in top) / sum(seen.values()) == pytest.approx(weight, abs=0.08)


def test_codes_suit_the_patient(apcs: pd.DataFrame) -> None:
    men = apcs[apcs.SEX == "1"].DER_DIAGNOSIS_ALL.map(codes_of)
    known_men = sum(any(code.startswith("O") for code in codes) for codes in men)
    assert known_men <= len(men) * 0.002
    births = apcs[apcs.ADMISSION_METHOD == "82"]
    assert births.AGE_AT_START_OF_SPELL_SUS.isin(["7001", ""]).mean() > 0.99


def test_patients_have_several_records(apcs: pd.DataFrame, opa: pd.DataFrame) -> None:
    counts = apcs.drop_duplicates("APCS_IDENT").DER_PSEUDO_NHS_NUMBER.value_counts()
    assert 1.2 < counts.mean() < 4
    assert len(set(counts.index) & set(opa.DER_PSEUDO_NHS_NUMBER)) > 0.1 * len(counts)
    sexes = apcs[apcs.SEX.isin(["1", "2"])].groupby("DER_PSEUDO_NHS_NUMBER").SEX.nunique()
    assert (sexes == 1).all()


def test_episodes_of_a_spell_are_consistent(apc: pd.DataFrame) -> None:
    episodes = apc[apc.EPIKEY != ""].drop_duplicates("EPIKEY")
    spell = ["PSEUDO_HESID", "PROCODE3", "PROVSPNOPS", "ADMIDATE"]
    assert episodes.groupby("PROVSPNOPS")[spell].nunique().max().max() == 1
    several = 0
    # The file before the first year was not generated, so spells of the first year can lack an early episode.
    for _, group in episodes[YEARS[0] < episodes.FILE_YEAR].groupby("PROVSPNOPS"):
        if len(group) == 1 or set(group.FILE_YEAR) & {YEARS[0]}:
            continue
        group = group.sort_values("EPIORDER")
        orders = list(group.EPIORDER.astype(int))
        if orders != list(range(1, len(orders) + 1)):
            continue  # an episode was dropped above, for example because it has no key
        several += 1
        assert group.EPISTART.iloc[0] == group.ADMIDATE.iloc[0]
        finished = group[group.EPISTAT == "3"]
        following = list(group.EPISTART)[1 : len(finished)]
        assert list(finished.EPIEND)[: len(following)] == following
        assert (group.EPISTAT.iloc[:-1] == "3").all()
    assert several > 200
    unfinished = episodes[episodes.EPISTAT == "1"]
    assert len(unfinished) and (unfinished.EPIEND == hes.NO_DATE).all() and (unfinished.DISDATE == hes.NO_DATE).all()


def test_both_systems_describe_the_same_spells(apcs: pd.DataFrame, apcs_der: pd.DataFrame, apc: pd.DataFrame) -> None:
    sus = apcs.drop_duplicates("APCS_IDENT").merge(apcs_der.drop_duplicates("APCS_IDENT"), on="APCS_IDENT")
    episodes = apc.drop_duplicates(["SUSRECID", "EPIORDER"]).sort_values(["SUSRECID", "EPIORDER"])
    first = episodes[episodes.EPIORDER == "1"].set_index("SUSRECID")
    both = sus.join(first, on="APCS_IDENT", how="inner", rsuffix="_HES")
    assert len(both) > 0.99 * SPELLS
    for ours, theirs in (
        ("SEX", "SEX_HES"), ("ADMISSION_DATE", "ADMIDATE"), ("ADMISSION_METHOD", "ADMIMETH"),
        ("DER_PROVIDER_CODE", "PROCODE3"), ("PATIENT_CLASSIFICATION", "CLASSPAT"), ("GP_PRACTICE_CODE", "GPPRAC"),
        ("SOURCE_OF_ADMISSION", "ADMISORC"), ("HOSPITAL_SPELL_NO", "PROVSPNOPS"),
    ):  # fmt: skip
        assert (both[ours] == both[theirs]).all(), ours
    aged = both[both.AGE_AT_START_OF_SPELL_SUS != ""]
    assert (aged.AGE_AT_START_OF_SPELL_SUS == aged.STARTAGE).mean() > 0.999
    last = episodes.groupby("SUSRECID").DISDATE.last().reindex(both.APCS_IDENT)
    there = both.DISCHARGE_DATE.values != ""
    assert (last.values[there] == both.DISCHARGE_DATE.values[there]).all()
    destination = episodes.groupby("SUSRECID").DISDEST.last().reindex(both.APCS_IDENT)
    assert (destination.values[there] == both.DISCHARGE_DESTINATION.values[there]).all()
    people = both.groupby("DER_PSEUDO_NHS_NUMBER").PSEUDO_HESID.nunique()
    assert (people == 1).all()

    lists = episodes.groupby("SUSRECID").DIAG_4_CONCAT.agg(",".join).reindex(both.APCS_IDENT)
    complete = episodes.groupby("SUSRECID").EPIORDER.apply(lambda e: e.iloc[0] == "1").reindex(both.APCS_IDENT).values
    ours = both.DER_DIAGNOSIS_ALL.map(codes_of)
    theirs = lists.map(lambda text: [code for code in text.split(",") if code])
    same = [a == b for a, b, whole in zip(ours, theirs, complete, strict=True) if whole]
    assert sum(same) / len(same) > 0.995  # an early episode can be missing because of a duplicate row


def test_the_hes_proxy_for_dominance_agrees_but_for_the_stated_share(apcs_der: pd.DataFrame, apc: pd.DataFrame) -> None:
    episodes = apc.drop_duplicates(["SUSRECID", "EPIORDER"]).sort_values(["SUSRECID", "EPIORDER"])
    operated = episodes[episodes.OPERTN_4_01.str.match(r"[A-Z]\d")].groupby("SUSRECID").first()
    both = apcs_der.drop_duplicates("APCS_IDENT").set_index("APCS_IDENT").join(operated, how="inner", rsuffix="_HES")
    agree = both.SPELL_DOMINANT_PROCEDURE.str.upper().str.replace(".", "") == both.OPERTN_4_01
    assert 1 - shares.DOMINANT_OTHER * 1.3 < agree.mean() < 1
    diagnosed = both[both.DIAG_4_01.str.match(r"[A-Z]\d")]
    assert (diagnosed.SPELL_PRIMARY_DIAGNOSIS == diagnosed.DIAG_4_01).mean() > 1 - shares.PRIMARY_NOT_LISTED * 3


def test_both_systems_describe_the_same_attendances(opa: pd.DataFrame, op: pd.DataFrame) -> None:
    theirs = op.drop_duplicates("SUSRECID").set_index("SUSRECID")
    both = opa.drop_duplicates("OPA_IDENT").set_index("OPA_IDENT").join(theirs, how="inner", rsuffix="_HES")
    assert len(both) > 0.99 * ATTENDANCES
    dated = both[both.APPOINTMENT_DATE != ""]
    assert (dated.APPOINTMENT_DATE == dated.APPTDATE).all()
    assert (both[both.APPOINTMENT_DATE == ""].APPTDATE == hes.NO_DATE).all()
    assert (both.ATTENDANCE_STATUS == both.ATTENDED).all()
    done = both.OPERTN_4_CONCAT.map(lambda text: [c for c in text.split(",") if c.strip() not in ("", "-")])
    assert (both.DER_PROCEDURE_ALL.map(codes_of) == done).all()


def test_the_register_makes_the_class_that_is_known_of_each_operation(
    spark: SparkSession, small: Lookups, sus_folder: Path, apcs: pd.DataFrame
) -> None:
    """The register as it is in the file, matched under the settings of the file, against what was made up."""
    config = load_config(sus_folder / "run.yml")
    plan = Plan(STARTS, SPELLS, INTAKE, 1)
    first = date(2018, 4, 1)
    known = approvals.operations(truth.spells(plan.rows(spark), plan, small, SEED), first, SEED).withColumns(
        {"record_id": sus_plus.ident(F.col("row")).cast("string"), "source_system": F.lit("sus_plus"),
         "dataset": F.lit("apc"), "policy_id": F.lit("2Y_back_pain_fusion"), "procedure_codes": F.lit(",V382,"),
         "person_id": people.scattered(F.col("person_number"), SEED).cast("string"),
         "operation_date": truth.to_date(F.col("admission_day"))}
    )  # fmt: skip
    rows = read_registers(spark, config)
    assert rows is not None
    boards = {board: board for board in known_boards()}
    plausible = (date(1989, 4, 1), date(2100, 1, 1))
    entries = classify_entries(rows, ["2Y_back_pain_fusion", "2S_lower_back_imaging"], boards, plausible)
    covered = register_coverage([], stated_coverage(config, boards), config.linkable_share, None)
    found = match_approvals(
        known, entries.where(F.size("reasons") == 0),
        small_frame(spark, [vars(regime) for regime in read_regimes(config, boards)],
                    "board string, policy_id string, kind string, since date, until date, exempts_emergencies boolean"),
        small_frame(spark, covered, "board string, covered_from date, covered_to date, linkable boolean, person_system string"),
    ).select("record_id", "person_id", "true_class", "match_class").toPandas()  # fmt: skip
    assert found.match_class.tolist() == found.true_class.tolist()
    # So few spells have eight of the classes; the demo has all.
    assert set(found.match_class) <= set(MATCH_CLASSES) and found.match_class.nunique() >= 8 and len(found) > 100
    # The people and keys are those of the spells.
    people_of = dict(zip(apcs.APCS_IDENT, apcs.DER_PSEUDO_NHS_NUMBER, strict=True))
    assert all(
        people_of.get(key, person) == person for key, person in zip(found.record_id, found.person_id, strict=True)
    )
    assert found.record_id.isin(apcs.APCS_IDENT).mean() > 0.95

"""The configuration of a run as one frozen object: every key with its type, bounds, default and meaning."""

from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, ValidatorFunctionWrapHandler, WrapValidator
from pydantic.dataclasses import dataclass as settings_model

from ebi_spark.config.activity_dates import DateWindow, days_ahead, first_days, today
from ebi_spark.config.keys import Day, Key, NotInFile, Paths
from ebi_spark.config.lake_location import LAKE_SCHEMA, STORES, LakeLocation, lake_location
from ebi_spark.config.source_tables import REGISTERS, Source
from ebi_spark.financial_years import parse_years
from ebi_spark.quoting import refuse_unusable

AreaBasis = Literal["gp_practice", "residence", "commissioner"]
AREA_BASES: tuple[AreaBasis, ...] = get_args(AreaBasis)
# This value of --years or --policies means those of the configuration. A platform's job always gives both options.
AS_CONFIGURED = "configured"


def _as_written(value: float, check: ValidatorFunctionWrapHandler) -> float:
    """Check a number, but keep it as it is written: the run log compares it with that of earlier runs, and 1 is not
    written as 1.0."""
    check(value)
    return value


# A number of days, and a share, as the file writes them.
_Days = Annotated[int, Field(ge=0)]
_Share = Annotated[float, Field(ge=0, le=1), WrapValidator(_as_written)]
_MONTH = "[0-9]{4}-(0[1-9]|1[0-2])"
_UNIQUE = Field(json_schema_extra={"uniqueItems": True})


@dataclass(frozen=True)
class PopulationFile:
    """The keys of one item of ``population``. A :class:`RunConfig` has them as a dictionary of what is set."""

    path: Annotated[str, Key("The file.", unit="path", default="required")]
    layout: Annotated[
        Literal["bands", "gp_registered", "ons_mid_year"], Key("`bands`, `gp_registered` or `ons_mid_year`.")
    ] = "bands"
    vintage: Annotated[
        str | None,
        Key(
            "With `ons_mid_year`: the day of the estimate.",
            unit="date",
            default="from the file's name or title",
            hint='a date such as "2022-10-01"',
            written=Day,
        ),
    ] = None
    geography: Annotated[
        str | None,
        Key(
            "The version of the areas that the file has.",
            unit="version",
            default="detected from the codes",
            hint="the version of the geography that the file's areas belong to, such as icb_2024",
        ),
    ] = None


_A_DAY = 'a date such as "2003-04-01"'
_BOARD = Annotated[str, Field(pattern="^[A-Z0-9]{3}$")]


@dataclass(frozen=True)
class ApprovalRegime:
    """The keys of one item of ``approvals.regimes``. A :class:`RunConfig` has them as a dictionary of what is set."""

    board: Annotated[str, Key("The integrated care board.", unit="NHS code", default="required", written=_BOARD)]
    policies: Annotated[
        list[str], Key("The policies that the regime is for.", unit="policy ids", default="required", written=Paths)
    ]
    kind: Annotated[
        Literal["prior_approval", "ifr_only", "criteria_based", "none"],
        Key("`prior_approval`, `ifr_only`, `criteria_based` or `none`.", default="required"),
    ]
    since: Annotated[
        str | None,
        Key("The first day.", unit="date", default="not known", name="from", hint=_A_DAY, written=Day),
    ] = None
    until: Annotated[
        str | None,
        Key("The day after the last.", unit="date", default="not ended", name="to", hint=_A_DAY, written=Day),
    ] = None
    exempts_emergencies: Annotated[
        bool, Key("Whether emergency admissions need nothing. `kind: none` needs no answer.")
    ] = True
    source: Annotated[str | None, Key("Where the board says so.", default="none")] = None


@dataclass(frozen=True)
class RegisterCoverage:
    """The keys of one item of ``approvals.covers``. A :class:`RunConfig` has them as a dictionary of what is set."""

    board: Annotated[str, Key("The integrated care board.", unit="NHS code", default="required", written=_BOARD)]
    since: Annotated[
        str | None,
        Key("The first day.", unit="date", default="no start", name="from", hint=_A_DAY, written=Day),
    ] = None
    until: Annotated[
        str | None,
        Key("The last day, which is included.", unit="date", default="no end", name="to", hint=_A_DAY, written=Day),
    ] = None


@dataclass(frozen=True)
class ActivityFrom:
    """The keys of ``activity_from``. Their defaults, with reasons, are in ``conf/activity_dates.yml``."""

    hes_apc: Annotated[str, Key("HES admitted patient care.", unit="date", hint=_A_DAY, written=Day)] = ""
    hes_op: Annotated[str, Key("HES outpatients.", unit="date", hint=_A_DAY, written=Day)] = ""
    sus_plus: Annotated[str, Key("SUS+.", unit="date", hint=_A_DAY, written=Day)] = ""


@settings_model(frozen=True, config=ConfigDict(extra="forbid"))
class RunConfig:
    """A complete configuration, with absolute paths and with defaults for what is not set.

    Each key of the file is described here, once: name, type, bounds, default, meaning, and the stages that a change
    makes due. The JSON Schema and the documentation follow from it (``make docs``).
    """

    lake: Annotated[
        LakeLocation,
        Key(
            "Where the tables are: a folder, a URL in an object store (`s3a://…`), or one schema for each layer of a catalogue. "
            "[deployment.md](deployment.md#a-lake-at-a-url)",
            unit="path, URL or names",
            default="required",
            written=LAKE_SCHEMA,
            hint="a folder, a URL such as s3a://bucket/lake, or {catalog: …, schemas: {silver: …, gold: …, published: …}}",
        ),
    ]
    years: Annotated[
        tuple[str, ...] | None,
        Key(
            "The financial years that the run works on.",
            unit="financial years",
            default="every year that the sources have",
            written=str,
            hint='financial years in quotation marks, such as "2021-22" or "2018-19..2023-24"',
        ),
    ] = None
    policies: Annotated[
        tuple[str, ...] | None,
        Key("The policies to apply.", unit="policy ids", default="all", hint="a list of policy ids", written=Paths),
    ] = None
    policy_dirs: Annotated[
        tuple[Path, ...],
        Key(
            "Folders with policies of your own, besides the shipped ones.",
            unit="paths",
            default="none",
            hint="a list of folders",
        ),
    ] = ()
    basis: Annotated[
        Literal["in_force", "fixed"],
        Key(
            "Which revision of a policy applies: `in_force`, the one in force on the day of the record; `fixed`, one "
            "revision for all years.",
            stages=("flag",),
        ),
    ] = "in_force"
    fixed_revisions: Annotated[
        dict[str, str],
        Key(
            "With `basis: fixed`: the revision of each policy.",
            unit="policy id: revision",
            default="the newest of each policy",
            hint="policy id: revision",
            stages=("flag",),
        ),
    ] = field(default_factory=dict)
    sources: Annotated[
        tuple[Source, ...],
        # Not a stage's setting: sources are recorded table by table and file by file.
        Key(
            "Your deliveries. The names are yours.",
            default="required",
            hint="for each source: a name, then its system and tables",
            of=Source,
            each=".NAME",
        ),
    ] = ()
    population: Annotated[
        tuple[dict[str, str], ...],
        Key(
            "People by area, sex and age band. [geography.md](geography.md#population)",
            unit="files",
            default="the shipped population of August 2026",
            hint="a list of {path, layout} items",
            stages=("rate",),
            of=PopulationFile,
            each="[]",
        ),
    ] = ()
    geography: Annotated[
        str,
        Key(
            "The version of the areas that every year is shown on: `current`, `icb_2026`, `icb_2024` or `ccg_2021`.",
            hint="current, or a version named in conf/reference/geographies.csv, such as icb_2024",
            stages=("flag", "rate", "publish"),
            name="geography.version",
        ),
    ] = "current"
    practices: Annotated[
        Path | None,
        Key(
            "Which sub-ICB location a practice belongs to.",
            unit="CSV file",
            default="none: the practice does not decide the area",
            hint="a CSV file: practice_code, sub_icb_code, and optionally valid_from, valid_to; or ODS's epraccur.csv",
            stages=("flag",),
            name="geography.practices",
        ),
    ] = None
    lsoas: Annotated[
        Path | None,
        Key(
            "Which sub-ICB location a small area belongs to.",
            unit="CSV file",
            default="none: the home address does not decide the area",
            hint="a CSV file: lsoa, sub_icb_code, and optionally valid_from, valid_to",
            stages=("flag",),
            name="geography.lsoas",
        ),
    ] = None
    providers: Annotated[
        Path | None,
        Key(
            "The names of providers, for published tables and `explain`.",
            unit="CSV file",
            default="none: a provider is shown by its code",
            hint="a CSV file: provider_code, provider_name; or ODS's etr.csv",
            stages=("publish",),
            name="geography.providers",
        ),
    ] = None
    mappings: Annotated[
        tuple[Path, ...],
        Key(
            "What became of areas that the shipped tables do not know.",
            unit="CSV files",
            default="none",
            hint="a list of CSV files: from_code, to_code, from_date, share",
            stages=("flag", "rate"),
            name="geography.mappings",
        ),
    ] = ()
    deprivation: Annotated[
        Path | None,
        Key(
            "Which fifth of deprivation a small area belongs to: 1 is the most deprived. Rates by fifth need it.",
            unit="CSV file",
            default="none: no rates by deprivation",
            hint="a CSV file: lsoa, fifth",
            stages=("monitor",),
            name="deprivation.lookup",
        ),
    ] = None
    deprivation_population: Annotated[
        Path | None,
        Key(
            "England's people in one year by fifth of deprivation, sex and five-year age band.",
            unit="CSV file",
            default="none: the fifths have counts and no rates",
            hint="a CSV file: fifth, sex, age_from, people",
            stages=("monitor",),
            name="deprivation.population",
        ),
    ] = None
    area_order: Annotated[
        tuple[AreaBasis, ...],
        Field(min_length=1),
        _UNIQUE,
        Key(
            "What decides the area of a record, in this order.",
            hint="a list of gp_practice, residence and commissioner; the first that is known gives the area of a record",
            stages=("flag",),
        ),
    ] = AREA_BASES
    coverage: Annotated[
        Literal["national", "partial"],
        Key(
            "`national`, or `partial` for an extract of a part of England: then nothing is called England.",
            stages=("rate", "monitor", "publish"),
        ),
    ] = "national"
    data_kind: Annotated[
        Literal["real", "sample", "synthetic"],
        Key(
            "What the records are: `real`; `sample`, a part of real records, to try things; or `synthetic`, made up. The "
            "release and the report say so.",
            hint="real, sample (a part of real records) or synthetic (made up)",
            stages=("publish",),
        ),
    ] = "real"
    disclosure: Annotated[
        str,
        Key(
            "The disclosure rule: `hes_2018_protected`, `hes_2018`, `five_or_fewer` or `under_five`. "
            "[disclosure.md](disclosure.md)",
            hint="a rule named in conf/disclosure.yml",
            stages=("publish",),
        ),
    ] = "hes_2018_protected"
    mode: Annotated[
        Literal["refresh", "upsert"],
        Key(
            "`refresh` replaces whole years; `upsert` inserts or updates records by key. "
            "[incremental-runs.md](incremental-runs.md)",
            stages=("ingest",),
        ),
    ] = "refresh"
    bare_year: Annotated[
        Literal["starts", "ends"] | None,
        Key(
            "What a calendar year in a year column means: the financial year that `starts` or that `ends` in it.",
            default="such a year is unknown",
            stages=("ingest",),
        ),
    ] = None
    # The first day of each data set (as text) and how far ahead appointments are made.
    activity_from: Annotated[
        dict[str, str],
        Key(
            "The first plausible day of activity.",
            unit="dates",
            default="see below",
            hint='the first day on which a data set can have activity, such as {hes_op: "2003-04-01"}',
            stages=("ingest", "monitor"),
            of=ActivityFrom,
        ),
    ] = field(default_factory=first_days)
    appointments_ahead_days: Annotated[
        _Days,
        Key(
            "How far ahead of the run an appointment can be. A later one is treated as a wrong date.",
            unit="days",
            hint="how many days after the day of the run an appointment can be, such as 731",
            stages=("ingest",),
        ),
    ] = field(default_factory=days_ahead)
    timezone: Annotated[
        str,
        Key(
            "The time zone in which a time stamp becomes a date.",
            hint="a time zone such as Europe/London",
            stages=("ingest",),
        ),
    ] = "Europe/London"
    standard_population: Annotated[
        str,
        Key(
            "The standard for direct standardisation: `england`, `esp2013`, or a CSV file of your own (`age_from`, "
            "`people`, `sex` where they differ).",
            hint="england, a standard in conf/reference/standard_populations.csv, or a CSV file of your own",
            stages=("rate", "monitor"),
        ),
    ] = "england"
    max_vintage_days: Annotated[
        _Days,
        Field(le=36525),
        Key(
            "The most days between a population and 1 October of the year. Beyond them, `distant_vintage` applies.",
            unit="days",
            hint="the most days between a population and its period before the rate is marked",
            stages=("rate",),
        ),
    ] = 731
    distant_vintage: Annotated[
        Literal["mark", "error"],
        Key(
            "What happens beyond `max_vintage_days`: `mark` notes `distant_vintage` on the rates, `error` stops the run.",
            stages=("rate",),
        ),
    ] = "mark"
    # England grew by 16% from 2011 to 2026, and 9% more people are registered at practices than live there. A file that
    # differs by more than 25% probably has another unit.
    max_population_difference: Annotated[
        float,
        Field(ge=0),
        WrapValidator(_as_written),
        Key(
            "The largest difference between a population and the shipped one in the same areas. Beyond it, the rates are "
            "noted `unusual_population`.",
            unit="share",
            hint="a share: how much a population may differ from the shipped one before it is marked",
            stages=("rate",),
        ),
    ] = 0.25
    max_quarantine_share: Annotated[
        _Share,
        Key(
            "The largest share of a source table's rows that may be quarantined. Above it, the run ends with status 1.",
            unit="share, 0 to 1",
            hint="a share from 0 to 1: the most rows of a source table that may be quarantined",
            stages=("ingest",),
        ),
    ] = 0.05
    max_columns: Annotated[
        int,
        Field(ge=1, le=100_000),
        Key(
            "The most columns that a source file may have.",
            unit="columns",
            hint="how many columns a source file may have",
        ),
    ] = 2000
    max_field_bytes: Annotated[
        int,
        Field(ge=1, le=100_000_000),
        Key(
            "The longest value that is read. A longer one sends its row to quarantine.",
            unit="bytes",
            hint="how many bytes a field of a source file may have",
            stages=("ingest",),
        ),
    ] = 1_000_000
    max_shrink_share: Annotated[
        _Share,
        Key(
            "The largest share of its rows that a year may lose without `--accept-shrinkage`.",
            unit="share, 0 to 1",
            hint="a share from 0 to 1: how many fewer records a year may have than in the lake",
        ),
    ] = 0.1
    max_unknown_code_share: Annotated[
        _Share,
        Key(
            "The largest share of records whose provider or commissioner code does not look like a code. Above it, nothing "
            "is published.",
            unit="share, 0 to 1",
            hint="a share from 0 to 1: the most records that may have a provider or commissioner code in the wrong form",
            stages=("publish",),
        ),
    ] = 0.1
    min_national_events: Annotated[
        int,
        Field(ge=0, le=1_000_000_000),
        Key(
            "The fewest events of all areas together for which the opportunity is calculated.",
            unit="events",
            hint="the fewest events in England for which opportunity is calculated",
            stages=("rate", "publish"),
        ),
    ] = 100
    pooled_years: Annotated[
        tuple[Annotated[int, Field(ge=2, le=10)], ...],
        _UNIQUE,
        Key(
            "The lengths of pooled periods. `[]`: single years only.",
            unit="years",
            hint="a list of numbers of years from 2 to 10, such as [2, 3, 5]; [] for single years only",
            stages=("rate", "monitor"),
        ),
    ] = (2, 3, 5)
    over_dispersion: Annotated[
        bool,
        Key(
            "`true` widens the limits of funnel plots where areas differ by more than chance would explain; `false` never does.",
            hint="true to widen the limits of funnel plots if areas differ by more than chance",
            stages=("publish",),
        ),
    ] = True
    control_charts: Annotated[
        Literal["plot_the_dots", "unscreened"],
        Key(
            "`plot_the_dots` screens out large moving ranges as NHSRplotthedots does; `unscreened` uses every moving range.",
            hint="how limits and signals of monthly charts are calculated: as in NHSRplotthedots, or with every moving range",
            stages=("publish",),
        ),
    ] = "plot_the_dots"
    provisional_months: Annotated[
        int,
        Field(ge=0, le=1200),
        Key(
            "How many of the latest months are marked as provisional.",
            unit="months",
            hint="how many of the latest months are marked as provisional",
            stages=("rate", "publish"),
        ),
    ] = 2
    pandemic_months: Annotated[
        tuple[date, date],
        Key(
            "The first and the last month that are marked as pandemic.",
            unit="months",
            hint="the first and the last month marked as pandemic, such as 2020-03..2021-06",
            stages=("rate", "publish"),
            written=Annotated[str, Field(pattern=rf"^{_MONTH}\.\.{_MONTH}$")],
        ),
    ] = (date(2020, 3, 1), date(2021, 6, 1))
    approval_regimes: Annotated[
        tuple[dict[str, Any], ...],
        Key(
            "What a board asks for before a procedure, and when. It replaces the shipped regimes of the same board and policy.",
            unit="list",
            default="those in [conf/approval_regimes.yml](../conf/approval_regimes.yml)",
            hint="a list of {board, policies, kind, from, to} items",
            stages=("monitor",),
            name="approvals.regimes",
            of=ApprovalRegime,
            each="[]",
        ),
    ] = ()
    register_covers: Annotated[
        tuple[dict[str, str], ...],
        Key(
            "The boards and days that the registers cover.",
            unit="list",
            default="each board that a register names, from its first entry to its last",
            hint="a list of {board, from, to} items",
            stages=("monitor",),
            name="approvals.covers",
            of=RegisterCoverage,
            each="[]",
        ),
    ] = ()
    linkable_share: Annotated[
        _Share,
        Key(
            "The smallest share of a board's approved entries whose person must be in silver. Below it, none of its operations "
            "is linked.",
            unit="share, 0 to 1",
            hint="a share from 0 to 1: how many approved entries must have their person in silver",
            stages=("monitor",),
            name="approvals.linkable_share",
        ),
    ] = 0.5
    unused_after_days: Annotated[
        _Days,
        Field(le=36525),
        Key(
            "How long after its decision an approval without an operation is listed.",
            unit="days",
            hint="how many days an approval may wait for its operation before it is listed",
            stages=("monitor",),
            name="approvals.unused_after_days",
        ),
    ] = 365
    register_pseudonym: Annotated[
        Literal["sus_plus", "hes"] | None,
        Key(
            "Whose `person_id` the registers use. Operations of the other system are then not linked.",
            default="that of any source",
            hint="sus_plus or hes: whose person_id the registers use",
            stages=("monitor",),
            name="approvals.pseudonym",
        ),
    ] = None
    keep_releases: Annotated[
        int,
        Field(ge=1, le=1000),
        Key(
            "How many releases are kept. The current one always is.",
            unit="releases",
            hint="how many releases are kept",
        ),
    ] = 5
    report: Annotated[
        Path | None,
        Key(
            "Where the HTML report is written.",
            unit="path",
            default="`report.html` in the lake's folder; none for a lake at a URL or in a catalogue",
            hint="a path for the HTML report",
        ),
    ] = None
    docs: Annotated[
        Path | None,
        Key(
            "The folder of the validation pages: every check of each layer, how it is made and its outcome.",
            unit="path",
            default="`docs` in the lake's folder; none for a lake at a URL or in a catalogue",
            hint="a folder for the validation pages",
        ),
    ] = None
    accept_shrunken: Annotated[bool, NotInFile()] = False  # set on the command line
    # The day of the run, recorded with it. A new day only changes rows of files that have rows of future days.
    day: Annotated[date, NotInFile()] = field(default_factory=today)
    fingerprint: Annotated[str, NotInFile()] = ""

    @property
    def record_sources(self) -> tuple[Source, ...]:
        """The sources of records, which ingest reads."""
        return tuple(source for source in self.sources if source.system != REGISTERS)

    @property
    def stores(self) -> frozenset[str]:
        """The kinds of object store that the lake and the sources are in: ``s3a``, ``abfss``, ``gs``."""
        paths = [path for source in self.sources for table in source.tables.values() for path in table.paths]
        return frozenset(place.partition("://")[0] for place in (*paths, self.lake.url or "")).intersection(STORES)

    @property
    def registers(self) -> tuple[Source, ...]:
        """The sources with a board's own registers, which monitoring reads."""
        return tuple(source for source in self.sources if source.system == REGISTERS)

    def window(self, system: str, role: str) -> DateWindow:
        """The days on which the activity in a source table can have taken place."""
        name = system if system == "sus_plus" else f"{system}_{role}"
        return DateWindow(date.fromisoformat(self.activity_from[name]), self.day, self.appointments_ahead_days)

    def with_options(
        self, *, lake: str | None = None, years: str | None = None, policies: str | None = None, accept: bool = False
    ) -> "RunConfig":
        """This configuration, changed by the options of the command line. ``configured`` for years or policies changes
        nothing."""
        changed = replace(self, accept_shrunken=accept)
        if lake is not None:
            changed = replace(changed, lake=lake_location(lake, Path.cwd(), "--lake"))
        if years is not None and years != AS_CONFIGURED:
            changed = replace(changed, years=parse_years(years))
        if policies is not None and policies != AS_CONFIGURED:
            refuse_unusable("--policies", policies.replace(",", ""))
            changed = replace(changed, policies=tuple(part.strip() for part in policies.split(",") if part.strip()))
        return changed

"""One policy's part of the report: what it says, what its clauses remove, and what its readings and decisions change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ebi_spark.geography.area_lists import ENGLAND
from ebi_spark.policies.model import READINGS
from ebi_spark.rates.baselines import SPREAD, baselines, compare, nearest_period
from ebi_spark.rates.control_charts import Form
from ebi_spark.report import between_areas, monitoring, over_time, wording
from ebi_spark.report.between_areas import Comparison
from ebi_spark.report.blocks import Block, Part, by_year, slug, stack, text
from ebi_spark.report.rows import Row, clauses_of, day, is_suppressed, latest_year, listing, position, years_of
from ebi_spark.report.wording import Footnotes


@dataclass(frozen=True)
class Options:
    """How the charts of a report are made: the keys ``over_dispersion`` and ``control_charts``, the disclosure rule, and
    whether the data are an extract of a part of England."""

    over_dispersion: bool = True
    control_charts: Form = "plot_the_dots"
    rule: Mapping[str, Any] = field(default_factory=dict)
    partial: bool = False


@dataclass(frozen=True)
class Policy:
    """The published rows of one policy: ``own`` has those of each table by name."""

    number: int
    policy_id: str
    own: dict[str, list[Row]]
    options: Options
    footnotes: Footnotes

    @property
    def anchor(self) -> str:
        """The id of the policy's section, and the start of all ids in it."""
        return f"policy-{self.number}-{slug(self.policy_id)}"

    @cached_property
    def reading(self) -> str:
        """The default reading: that of the newest revision; without one, that of the effects of readings."""
        for name in ("policy", "reading_effect"):
            marked = [row for row in self.own[name] if row.get("is_default_reading")]
            if marked:
                return str(max(marked, key=_age)["reading"])
        return "as_published"

    @cached_property
    def current(self) -> Row | None:
        """The row of the newest revision in the default reading."""
        return max((row for row in self.own["policy"] if row.get("reading") == self.reading), key=_age, default=None)

    @property
    def title(self) -> str:
        """The policy's title."""
        return str((self.current or {}).get("title") or self.policy_id)

    @property
    def chart_title(self) -> str:
        """The title with the reading, for charts."""
        return f"{self.title} ({wording.in_words(self.reading)})"

    @cached_property
    def boards(self) -> list[str]:
        """The names of the boards of a local policy."""
        return [wording.board(code) for code in listing((self.current or {}).get("boards"))]

    @cached_property
    def rates(self) -> list[Row]:
        """The rates in the default reading."""
        return [row for row in self.own["rate"] if row.get("reading") == self.reading]

    def whole(self, reading: str | None = None) -> list[Row]:
        """England's rows in a reading. A local policy has no such rows: then those of the one ICB that it applies to."""
        rates = [row for row in self.own["rate"] if row.get("reading") == (reading or self.reading)]
        national = [row for row in rates if row["area_type"] == ENGLAND]
        if national:
            return national
        boards = [row for row in rates if row["area_type"] == "icb"]
        return boards if len({row["area_code"] for row in boards}) == 1 else []

    @cached_property
    def place(self) -> str:
        """Where the figures are from."""
        whole = self.whole()
        if whole and whole[0]["area_type"] != ENGLAND:
            return wording.area_name(whole[0])
        # With partial coverage the total is not England's, although its row says so.
        return "the whole extract" if self.options.partial else "England"

    @cached_property
    def newest(self) -> list[Row]:
        """The single-year rows of the last year: a row for each revision, the newest revision first."""
        return _newest_of(self.whole())

    @cached_property
    def newest_by_reading(self) -> dict[str, Row]:
        """The first of these rows in every reading that has any."""
        return {name: rows[0] for name in READINGS if (rows := _newest_of(self.whole(name)))}

    @cached_property
    def other_readings(self) -> dict[str, list[Row]]:
        """England's rows of a single year in the readings that are not the default, by the reading's name in words."""
        names = [name for name in READINGS if name != self.reading]
        found = {wording.in_words(name): [row for row in self.whole(name) if years_of(row) == 1] for name in names}
        return {name: rows for name, rows in found.items() if rows}

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """The areas of each kind, compared with England."""
        return between_areas.comparisons(
            self.rates, self.whole(), adjust=self.options.over_dispersion, rule=self.options.rule
        )

    @property
    def is_hidden(self) -> bool:
        """Whether this is a local policy all of whose figures are suppressed."""
        rates = self.own["rate"]
        return bool(self.boards) and bool(rates) and all(is_suppressed(row) for row in rates)

    @cached_property
    def reconciled(self) -> list[str]:
        """Why counts of readings, decisions and clauses differ from the count of the rates, where they do."""
        count = self.newest[0].get("activity") if len(self.newest) == 1 else None
        year = str(self.newest[0]["financial_year"]) if self.newest else ""
        flagged = {
            row["flagged"]
            for row in self.own["reading_effect"]
            if (row["reading"], str(row["financial_year"])) == (self.reading, year) and row.get("flagged") is not None
        }
        if count is None or len(flagged) != 1 or flagged == {count}:
            return []
        (all_flagged,) = flagged
        return [
            f"{self.title}: in {year}, {wording.count(all_flagged)} records are flagged at hospitals in England. Rates count "
            f"{wording.count(count)} of them, because they leave out patients who live outside England."
        ]

    def parts(self) -> tuple[Part, ...]:
        """The headings of the section with their blocks."""
        anchor, title, notes = self.anchor, self.chart_title, self.footnotes
        parts = [
            Part(
                f"{anchor}-trend",
                "Trend",
                over_time.trend(self.whole(), self.place, anchor, title, notes, self.other_readings),
            ),
            Part(
                f"{anchor}-months",
                "Month by month",
                over_time.months(self.own, self.reading, anchor, title, self.options.control_charts),
            ),
            Part(
                f"{anchor}-areas",
                "Variation between areas",
                self._areas(),
                between_areas.views(self.comparisons, anchor, title, notes),
            ),
            Part(
                f"{anchor}-spread",
                "How much areas differ",
                between_areas.spread(self.own["variation"], self.reading, notes),
            ),
            Part(f"{anchor}-attrition", "From records in scope to flagged, and near misses", self._attrition()),
            Part(f"{anchor}-readings", "What each reading changes", self._readings()),
            Part(f"{anchor}-decides", "What each coding decision changes", self._sensitivity()),
        ]
        if not self.boards:
            # A local policy has no part on monitoring, because its figures would be those of one board.
            blocks = monitoring.monitoring(self.own, self.reading, self.newest, self.options.rule)
            parts.append(Part(f"{anchor}-monitoring", "Monitoring", blocks))
        parts.append(Part(f"{anchor}-says", "What the policy says", self.clauses()))
        return tuple(parts)

    def _areas(self) -> tuple[Block, ...]:
        blocks = between_areas.windows(self.current)
        if not self.comparisons:
            blocks.append(text("No rates of several areas are published for this policy's main definition."))
        else:
            blocks.append(Block("finder", text=self.anchor))
        return tuple(blocks)

    def clauses(self) -> tuple[Block, ...]:
        """The clauses in words, and the other revisions."""
        if self.current is None or not clauses_of(self.current):
            return (text("This release does not have the policy's clauses."),)
        rows = []
        for clause in clauses_of(self.current):
            name = wording.in_words(clause.get("clause_id"))
            undecided = "–"
            if clause.get("kind") == "scope":
                name += " (decides the scope)"
            elif clause.get("kind") != "note":
                undecided = wording.MISSING.get(str(clause.get("missing")), "–")
            rows.append(
                (
                    name,
                    _or_dash(clause, "words"),
                    _test(clause),
                    undecided,
                    _coding(clause),
                    _or_dash(clause, "because"),
                )
            )
        blocks = [
            Block(
                "grid",
                text=f"The clauses of revision {self.current['revision']}, {wording.in_words(self.reading)}. A record in scope "
                "is flagged if it passes every clause.",
                head=("Clause", "The page's words", "Test", "If not recorded", "Coding", "Why it is coded this way"),
                rows=tuple(rows),
                align="lwcllw",
                fold=True,
            )
        ]
        named = {str(row["revision"]): in_force(row) for row in sorted(self.own["policy"], key=_age)}
        named.pop(str(self.current["revision"]))
        if named:
            others = tuple(f"{name}: {words}" for name, words in named.items())
            blocks.append(Block("items", text="Other revisions:", items=others))
        return tuple(blocks)

    def facts(self, reminder: str) -> tuple[tuple[str, str], ...]:
        """What the policy is, where it is from and how it is read."""
        facts = [("Policy", self.policy_id)]
        if self.boards:
            facts.append(("For", wording.listed(self.boards)))
        if self.current:
            dataset = str(self.current.get("dataset"))
            source = ", ".join(str(self.current[key]) for key in ("publisher", "source") if self.current.get(key))
            facts += [
                ("Source", source or "not given"),
                ("Data", wording.DATASETS.get(dataset, dataset)),
                ("Revision", f"{self.current['revision']}, {in_force(self.current)}"),
            ]
            if '"coding_seen": false' in str(self.current.get("definition")):
                facts.append(("Coding", "not seen for this revision, so the coding of the revision before it is used"))
        if reminder:
            facts.append(("Check the source", reminder[0].upper() + reminder[1:]))
        meaning = wording.READING_MEANINGS.get(self.reading)
        facts.append(
            ("Main definition (reading)", wording.in_words(self.reading) + (f": {meaning}" if meaning else ""))
        )
        return tuple(facts)

    def _attrition(self) -> tuple[Block, ...]:
        steps = [row for row in self.own["attrition"] if row.get("reading") == self.reading]
        if not steps:
            return (
                text(
                    "For this policy's main definition, the release shows neither how many records each clause removes nor near misses."
                ),
            )
        last, latest = latest_year(steps)
        blocks: list[Block] = []
        for period, of_revision in _by_revision(last, latest):
            blocks.append(self._steps(sorted(of_revision, key=lambda row: int(row["step"])), period))
        # Step 0 finds the records in scope. A record outside the scope cannot be a near miss.
        near = [row for row in steps if row["step"] != 0 and row.get("near_miss") is not None]
        if near:
            total = sum(row["near_miss"] for row in near if str(row["financial_year"]) == last)
            blocks.append(
                text(
                    "A near miss is a record in scope that failed exactly one clause, so it was not flagged. There were "
                    f"{wording.count(total)} in {last}."
                )
            )
        else:
            blocks.append(text("No near misses are published for this policy's main definition."))
        for name, rows, caption in (
            ("records_left", steps, "Records left after each step, by year."),
            ("near_miss", near, "Records that failed this clause and no other, by year."),
        ):
            if len({str(row["financial_year"]) for row in rows}) > 1:
                blocks.append(
                    by_year(
                        rows,
                        label=lambda row: f"{row['step']}. {wording.in_words(row['clause_id'])}",
                        order=lambda row: (int(row["step"]), str(row["clause_id"])),
                        cell=lambda row, name=name: wording.count(row.get(name)),  # type: ignore[misc]
                        caption=caption,
                        first="Clause",
                        fold=True,
                    )
                )
        return tuple(blocks)

    def _steps(self, steps: Sequence[Row], period: str) -> Block:
        """The clauses in their order, each with what it leaves, removes and drops. Bars begin with the records in scope."""
        scope = next((int(step["records_left"]) for step in steps if step["step"] == 0), int(steps[0]["records_in"]))
        caption = (
            f"What each clause removes, {period}. Dark: left. Pale: failed the clause. Hatched: dropped because the record lacks "
            "the value that the clause needs."
        )

        def cells(step: Row) -> tuple[str, ...]:
            failed, missing, left = (int(step[f"records_{name}"]) for name in ("failed", "missing", "left"))
            parts = (
                [("left", left)] if step["step"] == 0 else [("left", left), ("removed", failed), ("dropped", missing)]
            )
            near = "–" if step["step"] == 0 or step.get("near_miss") is None else wording.count(step["near_miss"])
            return (
                str(step["step"]),
                wording.in_words(step["clause_id"]) + (" (scope, from all records)" if step["step"] == 0 else ""),
                stack(parts, scope),
                *map(wording.count, (step.get("records_in"), failed, missing, left)),
                near,
            )

        return Block(
            "grid",
            text=caption,
            marks=self.footnotes.marks(self.reconciled),
            head=("Step", "Clause", "", "Records in", "Failed", "Not recorded", "Left", "Near misses"),
            rows=tuple(map(cells, steps)),
            align="rlbrrrrr",
        )

    def _readings(self) -> tuple[Block, ...]:
        effects = self.own["reading_effect"]
        blocks: list[Block] = []
        if not effects:
            blocks.append(text("No effects of the readings are published for this policy."))
        last, latest = latest_year(effects)
        for period, of_revision in _by_revision(last, latest):
            blocks.append(self._readings_compared(sorted(of_revision, key=_place_of_reading), period))
        if len({str(row["financial_year"]) for row in effects}) > 1:
            blocks.append(
                by_year(
                    effects,
                    label=lambda row: wording.in_words(row["reading"]),
                    order=_place_of_reading,
                    cell=lambda row: wording.count(row.get("flagged")),
                    caption="Records flagged under each reading, by year.",
                    first="Reading",
                    fold=True,
                )
            )
        decisions = _decisions(self.own["policy"])
        if decisions:
            blocks.append(
                Block(
                    "grid",
                    text="The decisions by which the other readings differ.",
                    head=("Reading", "Decision", "Clause", "Test", "Coding", "Why"),
                    rows=tuple(decisions),
                    align="lllclw",
                    fold=True,
                )
            )
        if not self.options.partial:
            blocks += _baseline(self.policy_id, effects) + self._baseline_spread()
        return tuple(blocks)

    def _readings_compared(self, rows: Sequence[Row], period: str) -> Block:
        most = max((row.get("flagged") or 0 for row in rows), default=0)
        return Block(
            "grid",
            text=f"The readings compared with the policy as published, {period}.",
            marks=self.footnotes.marks(self.reconciled),
            head=("Reading", "What it means", "", "Flagged", "In scope", "Added", "Removed"),
            rows=tuple(
                (
                    wording.in_words(row["reading"]) + (" (default)" if row.get("is_default_reading") else ""),
                    wording.READING_MEANINGS.get(str(row["reading"]), "–"),
                    stack([("left" if row.get("is_default_reading") else "usual", row.get("flagged") or 0)], most),
                    *(wording.count(row.get(name)) for name in ("flagged", "in_scope", "added", "removed")),
                )
                for row in rows
            ),
            align="lwbrrrr",
        )

    def _baseline_spread(self) -> tuple[Block, ...]:
        """How areas differ by the source's figures and by ours. Ours are of the shortest published period that has the source's
        year."""
        given = baselines().get(self.policy_id, {})
        areas = [
            row for row in self.own["variation"] if row.get("reading") == self.reading and row["area_type"] == "sub_icb"
        ]
        period = nearest_period(given, areas) if set(SPREAD) <= set(given) else None
        if period is None:
            return ()
        england = [row for row in self.whole() if row["period"] == period]
        rate = wording.rate_in(england[0], "standardised_rate") if england else "–"
        rows = [
            (f"Published by the source: CCGs, {given['financial_year']}", str(given["standardised_rate"]),
             *(str(given[name]) for name in SPREAD))
        ]  # fmt: skip
        rows += [
            (f"Ours: sub-ICB locations, {period}, revision {row['revision']}", rate,
             *(wording.rate(row.get(name), "–") for name in SPREAD))
            for row in areas
            if row["period"] == period
        ]  # fmt: skip
        return (
            Block(
                "grid",
                text="How areas differed, in the published figures and in ours: England's standardised rate, N-fold (P90 divided by P10) "
                "and percentiles of the areas' rates, per 100,000. The areas, the standard population and the unit (episodes, "
                "spells) differ.",
                head=("Figures", "Rate", "N-fold", "P10", "P25", "P50", "P90"),
                rows=tuple(rows),
                align="lrrrrrr",
            ),
        )

    def _sensitivity(self) -> tuple[Block, ...]:
        """A table for each revision and base reading of the latest year. The decision that changes most records is first."""
        rows = self.own["sensitivity"]
        if not rows:
            return (text("No effects of single decisions are published for this policy."),)
        last, latest = latest_year(rows)
        blocks = [
            text(
                f"What happens to the count if one coding decision at a time is changed, {last}. A decision that the reading "
                "does not make is made; a decision that it makes is undone. The effects of several decisions need not add up."
            )
        ]
        several = len({str(row["revision"]) for row in latest}) > 1
        most = max(max(row["flagged"], row["flagged_flipped"]) for row in latest)
        for revision, base in sorted(
            {(str(row["revision"]), str(row["base_reading"])) for row in latest},
            key=lambda item: (item[1] != self.reading, item[0], position(item[1], READINGS)),
        ):
            chosen = [row for row in latest if (str(row["revision"]), str(row["base_reading"])) == (revision, base)]
            # Of another reading, all decisions are in a table that is closed.
            folded = base != self.reading
            with_effect = [row for row in chosen if row["added"] or row["removed"]]
            without = sorted(
                wording.in_words(row["decision"]) for row in chosen if not (row["added"] or row["removed"])
            )
            said = f", revision {revision}" if several else ""
            start = f"From the reading “{wording.in_words(base)}”{said}, {wording.count(chosen[0]['flagged'])} records flagged"
            if not with_effect:
                blocks.append(text(f"{start}: no single decision changes that."))
                continue
            for listed in (with_effect, chosen):
                listed.sort(key=lambda row: (-(row["added"] + row["removed"]), str(row["decision"])))
            blocks.append(self._decisions(f"{start}.", chosen if folded else with_effect, most, fold=folded))
            if without and not folded:
                blocks.append(text(f"Decisions that change nothing by themselves: {', '.join(without)}."))
        return tuple(blocks)

    def _decisions(self, caption: str, rows: Sequence[Row], most: int, *, fold: bool) -> Block:
        """What each decision changes. ``most``: the count that the longest bar stands for."""
        return Block(
            "grid",
            text=caption,
            marks=self.footnotes.marks(self.reconciled),
            head=("Decision", "", "Then flagged", "Change", "Adds", "Removes", "The source's words", "Why"),
            rows=tuple(
                (
                    wording.in_words(row["decision"]),
                    stack([("left", row["flagged_flipped"])], most),
                    wording.count(row["flagged_flipped"]),
                    str(row["direction"]),
                    *(wording.count(row.get(name)) for name in ("added", "removed")),
                    _or_dash(row, "words"),
                    _or_dash(row, "because"),
                )
                for row in rows
            ),
            align="lbrlrrww",
            fold=fold,
        )


def _by_revision(year: str, rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """The rows of a year by revision, each with the year in words, and the revision where there are several."""
    revisions = sorted({str(row["revision"]) for row in rows})
    return [
        (
            year + (f", revision {revision}" if len(revisions) > 1 else ""),
            [row for row in rows if str(row["revision"]) == revision],
        )
        for revision in revisions
    ]


def _place_of_reading(row: Row) -> tuple[int, str]:
    name = str(row["reading"])
    return position(name, READINGS), name


def _newest_of(whole: Sequence[Row]) -> list[Row]:
    _, latest = latest_year(row for row in whole if years_of(row) == 1)
    return sorted(latest, key=lambda row: str(row["revision"]), reverse=True)


def _age(row: Row) -> tuple[str, str]:
    return str(row.get("in_force_from") or ""), str(row["revision"])


def in_force(policy: Row) -> str:
    """From when to when a revision is in force."""
    start, end = policy.get("in_force_from"), policy.get("in_force_to")
    words = f"in force from {day(start)}" if start else "no start date given"
    return f"{words}, until the day before {day(end)}" if end else words


def _or_dash(row: Row, name: str) -> str:
    return str(row.get(name) or "–")


def _test(clause: Row) -> str:
    return str(clause.get("test") or "cannot be coded")


def _coding(clause: Row) -> str:
    return wording.in_words(clause.get("coding") or "coded")


def _baseline(policy_id: str, effects: Sequence[Row]) -> tuple[Block, ...]:
    """Our count of each reading beside the activity that the source publishes, where the release has that year."""
    given = baselines().get(policy_id)
    if given is None:
        return ()
    counts: dict[str, int] = {}
    for row in effects:
        if row["financial_year"] == given["financial_year"] and row.get("flagged") is not None:
            counts[row["reading"]] = counts.get(row["reading"], 0) + int(row["flagged"])
    counts = {name: counts[name] for name in READINGS if name in counts}
    if not counts:
        return ()
    rate = f", {given['standardised_rate']} per 100,000" if "standardised_rate" in given else ""
    rows = [("Published by the source", f"{wording.count(given['records'])} {given['unit']}{rate}", "")]
    for found in compare(given, counts):
        ratio = "–" if found.ratio is None else f"{found.ratio:.2f}"
        nearest = " (nearest)" if found.nearest else ""
        rows.append((f"Ours, {wording.in_words(found.reading)}{nearest}", wording.count(found.records), ratio))
    return (
        Block(
            "grid",
            text=f"Published activity beside ours, England, {given['financial_year']}. Source: {given['source']}.",
            head=("Count", "Records", "Ours ÷ published"),
            rows=tuple(rows),
            align="lrr",
        ),
    )


def _decisions(policies: Sequence[Row]) -> list[tuple[str, ...]]:
    """The clauses that a decision added or changed. Each is listed once, under the first reading that has it."""
    newest: dict[str, Row] = {}
    for row in sorted(policies, key=_age):
        newest[str(row["reading"])] = row
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for name in sorted(newest, key=lambda name: (position(name, READINGS), name)):
        for clause in clauses_of(newest[name]):
            decision, clause_id = str(clause.get("decision") or ""), str(clause.get("clause_id"))
            if decision:
                words = (wording.in_words(name), wording.in_words(decision), wording.in_words(clause_id))
                found.setdefault(
                    (decision, clause_id), (*words, _test(clause), _coding(clause), _or_dash(clause, "because"))
                )
    return list(found.values())

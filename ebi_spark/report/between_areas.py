"""How a policy's figures vary between areas: a view for each kind of area, with a funnel plot and a ranked table."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ebi_spark.geography.area_lists import ENGLAND
from ebi_spark.rates.control_charts import over_dispersion as dispersion_of
from ebi_spark.release.published_limits import NOT_COMPARED, compared, limits_998_of, limits_of
from ebi_spark.report import charts, wording
from ebi_spark.report.blocks import LONG, Block, Part, by_year, chart_block, interval, slug, text
from ebi_spark.report.rows import (
    SUPPRESSED,
    Row,
    is_suppressed,
    latest_year,
    measure_of,
    position,
    years_of,
)
from ebi_spark.report.wording import Footnotes

_SIDES = {"higher": "above", "lower": "below"}
# The first of these kinds with several areas that can be compared is open, and the summary is about it. ICBs come first
# because they commission care; an extract of one ICB has only its sub-ICB locations.
AREA_ORDER = ("icb", "sub_icb", "region")
KINDS = ("region", "icb", "sub_icb", "provider")


@dataclass(frozen=True)
class Comparison:
    """The areas of one kind in one period, compared with England.

    ``earlier`` has the rows of the same areas in earlier periods. ``rule`` is the disclosure rule.
    """

    kind: str
    rows: tuple[Row, ...]
    nation: Row | None
    adjust: bool
    rule: Mapping[str, Any] = field(hash=False)
    revision: str = ""
    earlier: tuple[Row, ...] = ()

    @cached_property
    def period(self) -> str:
        """The period in words, with the revision where several are shown."""
        return wording.period(self.rows[0]) + (f" (revision {self.revision})" if self.revision else "")

    @cached_property
    def measure(self) -> str:
        """What areas are ranked by: a rate, or for providers, who have no population, the share that is flagged."""
        if all(row.get("crude_rate") is None for row in self.rows) and any(
            row.get("flagged_share") is not None for row in self.rows
        ):
            return "flagged_share"
        return measure_of(self.rows)

    @property
    def by_share(self) -> bool:
        """Whether areas are compared by the share that is flagged."""
        return self.measure == "flagged_share"

    @cached_property
    def is_indirect(self) -> bool:
        """Whether the areas' rates are indirectly standardised, and England's directly."""
        return self.measure == "standardised_rate" and any(
            str(row.get("method") or "").startswith("indirectly") for row in self.shown
        )

    @cached_property
    def shown(self) -> list[Row]:
        """The areas with a figure, the highest first."""
        return sorted(
            (row for row in self.rows if row.get(self.measure) is not None),
            key=lambda row: (-row[self.measure], wording.area_name(row), str(row["area_code"])),
        )

    def limits(self, row: Row) -> tuple[float, float] | None:
        """The 95% limits of an area's figure, where they are published."""
        if not self.by_share:
            return limits_of(row)
        low, high = row.get("share_lower"), row.get("share_upper")
        return None if low is None or high is None else (float(low), float(high))

    @property
    def is_drawn(self) -> bool:
        """Whether there is a chart. If every figure is 0 and others are suppressed, a chart would make areas look alike."""
        return any(row[self.measure] for row in self.shown)

    @cached_property
    def national(self) -> float | None:
        """England's figure."""
        value = None if self.nation is None else self.nation.get(self.measure)
        return None if value is None else float(value)

    @cached_property
    def suppressed(self) -> int:
        """How many areas have no figure because it is suppressed."""
        return sum(1 for row in self.rows if row.get(self.measure) is None and is_suppressed(row))

    @cached_property
    def phi(self) -> float | None:
        """The overdispersion; None if it cannot be known. Without the suppressed areas, which are small, it would be too large."""
        if self.suppressed or not self.national or self.by_share:
            return None
        people = [(row, charts.people_of(row, self.national)) for row in self.shown]
        pairs = [(row[self.measure] * of / 100_000, self.national * of / 100_000) for row, of in people if of]
        return dispersion_of([one for one, _ in pairs], [other for _, other in pairs])

    @cached_property
    def widened(self) -> float:
        """What the limits are widened by: the overdispersion if it is larger than chance would make it, otherwise 1.

        By chance it is the mean of as many squares of normal variables as there are areas. This mean has the standard deviation
        √(2/areas), and two of these above 1 are allowed.
        """
        return self.phi if self.adjust and self.phi and self.phi > 1 + 2 * (2 / len(self.shown)) ** 0.5 else 1.0

    @property
    def round_to(self) -> int:
        """What counts below England are rounded to."""
        return int(self.rule.get("round_to", 1))

    @cached_property
    def by_own_limits(self) -> dict[str, str]:
        """By area code, ``above`` or ``below`` for the areas whose own 99.8% limits exclude England's rate, and an empty text for
        those whose limits include it: what ``compared_with_england_998`` of ``published/rate_current`` says."""
        found: dict[str, str] = {}
        for row in self.shown if self.rule and self.measure == "standardised_rate" else ():
            words = compared(limits_998_of(row, self.rule), self.national)
            if words != NOT_COMPARED:
                found[str(row["area_code"])] = _SIDES.get(words, "")
        return found

    @cached_property
    def sides(self) -> dict[str, str]:
        """By area code, ``above`` or ``below`` for the areas that are called higher or lower.

        Their own limits exclude England's rate. Where the funnel's limits are widened, they are outside of these too. For areas
        without limits of their own, the funnel's decide.
        """
        if not self.national or self.by_share:
            return {}
        outside = charts.outlying(self.shown, self.national, self.widened, self.round_to)
        if self.widened > 1:
            return {code: side for code, side in outside.items() if self.by_own_limits.get(code, side) == side}
        return {code: side for code, side in (outside | self.by_own_limits).items() if side}

    @cached_property
    def uncertain(self) -> list[Row]:
        """The areas that a chart draws outside the 99.8% limits, but that may be inside: their figures are rounded."""
        if not self.national or self.by_share:
            return []
        drawn = charts.outlying(self.shown, self.national, self.widened)
        return [row for row in self.shown if (code := str(row["area_code"])) in drawn and code not in self.sides]

    def side(self, side: str) -> list[Row]:
        """The areas on one side of the limits, the most distant first."""
        found = [row for row in self.shown if self.sides.get(str(row["area_code"])) == side]
        return found if side == "above" else found[::-1]


def comparisons(
    rates: Sequence[Row], whole: Sequence[Row], *, adjust: bool, rule: Mapping[str, Any]
) -> list[Comparison]:
    """The newest period of each kind of area, for every length of period and revision that is published.

    ``adjust``: limits are widened where areas differ more than chance would explain. ``rule``: the disclosure rule.
    """
    found = []
    for kind in KINDS:
        of_kind = [row for row in rates if row["area_type"] == kind]
        if len({row["area_code"] for row in of_kind}) < 2:
            continue
        for length in sorted({years_of(row) for row in of_kind}):
            of_length = [row for row in of_kind if years_of(row) == length]
            last, newest = latest_year(of_length)
            revisions = sorted({str(row["revision"]) for row in newest})
            for revision in revisions:
                own = [row for row in of_length if str(row["revision"]) == revision]
                nation = next(
                    (
                        row
                        for row in whole
                        if row["area_type"] == ENGLAND
                        and years_of(row) == length
                        and (str(row["financial_year"]), str(row["revision"])) == (last, revision)
                    ),
                    None,
                )
                compared = sorted(
                    (row for row in newest if str(row["revision"]) == revision),
                    key=lambda row: (wording.area_name(row), str(row["area_code"])),
                )
                found.append(
                    Comparison(
                        kind, tuple(compared), nation, adjust, rule, revision if len(revisions) > 1 else "",
                        tuple(row for row in own if str(row["financial_year"]) != last),
                    )
                )  # fmt: skip
    return found


def main_comparison(found: Sequence[Comparison]) -> Comparison | None:
    """The comparison that the summary is about: of ICBs if they can be compared."""
    for kind in AREA_ORDER:
        own = [each for each in found if each.kind == kind and each.is_drawn]
        # The longest period has the fewest suppressed areas.
        if own:
            return own[-1]
    return None


def views(found: Sequence[Comparison], anchor: str, title: str, footnotes: Footnotes) -> tuple[Part, ...]:
    """A view of each comparison. That of the main one is open."""
    main = main_comparison(found)
    made = []
    for number, each in enumerate(found):
        key = f"{anchor}-{slug(each.kind)}-{number}"
        made.append(Part(key, _line(each), tuple(_blocks(each, key, title, footnotes)), is_open=each is main))
    return tuple(made)


def _line(each: Comparison) -> str:
    """How many areas there are, and why some have no figure."""
    figure = "share" if each.by_share else "rate"
    statuses = Counter(str(row.get("status")) for row in each.rows if row.get(each.measure) is None)
    words = f"{len(each.rows)} {wording.areas(each.kind)}, {each.period}: {len(each.shown)} {'has' if len(each.shown) == 1 else 'have'} a published {figure}"
    if each.suppressed:
        reasons = zip(
            SUPPRESSED, ("for a small number", "so that a small number elsewhere cannot be worked out"), strict=True
        )
        given = [(statuses[name], reason) for name, reason in reasons if statuses[name]]
        why = ", ".join(f"{number} {reason}" if len(given) > 1 else reason for number, reason in given)
        words += f"; {each.suppressed} {'is' if each.suppressed == 1 else 'are'} suppressed ({why})"
    for name, number in sorted(statuses.items()):
        if name not in SUPPRESSED:
            reason = "too few records" if name in ("ok", "no_population") and figure == "share" else None
            reason = reason or ("no rate given" if name == "ok" else wording.STATUSES.get(name, wording.in_words(name)))
            words += f"; {number} without a {figure} ({reason})"
    return words + "."


def _blocks(each: Comparison, key: str, title: str, footnotes: Footnotes) -> list[Block]:
    blocks = []
    kinds = _capital(wording.areas(each.kind))
    if each.shown and not each.is_drawn:
        blocks.append(text(f"All published figures of these {wording.areas(each.kind)} are 0. There is no chart."))
    elif not each.shown:
        expected = " For a rare intervention this is expected: suppressed does not mean 0." if each.suppressed else ""
        blocks.append(text(f"There is no chart.{expected}"))
    elif each.by_share:
        blocks.append(text("A provider has no population of its own, so there is no rate and no funnel plot."))
    elif not each.national:
        blocks.append(text("There is no funnel plot, because there is no national rate to draw limits around."))
    else:
        limits = "Poisson limits"
        if each.widened > 1:
            limits += f", widened for overdispersion: φ = {wording.rate(each.phi)}"
        called = " An area is called higher or lower if its own 99.8% limits exclude England's rate"
        called += " and it is outside these limits" if each.widened > 1 else ""
        called += ", for every count that its rounded count can stand for." if each.round_to > 1 else "."
        blocks += chart_block(
            charts.funnel(
                each.shown, national=each.national, key=f"{key}-funnel", title=f"{title}, {each.period}",
                phi=each.widened, sides=each.sides,
            ),
            f"{kinds} by number of people, {each.period}. Dotted: 95% limits; lines: 99.8% limits ({limits}). "
            f"{'The usual spread' if each.widened > 1 else 'Chance alone'} may explain what is between them."
            f"{called if each.by_own_limits else ''}",
            [text(_dispersion_words(each)), *_extremes(each)],
        )  # fmt: skip

    blocks.append(_ranked(each, kinds, footnotes))
    if each.earlier:
        blocks.append(_earlier(each))
    return blocks


def _extremes(each: Comparison) -> list[Block]:
    """The areas outside the limits in words, which a chart can name only in part."""
    found = []
    for side, words in (("above", "Higher than the limits"), ("below", "Lower than the limits")):
        names = [wording.area_name(row) for row in each.side(side)]
        if names:
            found.append(text(f"{words} ({len(names)}): {wording.listed(names)}."))
    if each.uncertain:
        names = [wording.area_name(row) for row in each.uncertain]
        are = "is drawn" if len(names) == 1 else "are drawn"
        found.append(
            text(
                f"{wording.listed(names)} {are} outside the 99.8% limits, but may be inside them, because published counts are rounded."
            )
        )
    found = found or [text(f"No {wording.areas(each.kind, 1)} is outside the 99.8% limits.")]
    alone = [code for code, side in each.by_own_limits.items() if side and not each.sides.get(code)]
    if alone:
        number = Counter(each.by_own_limits.values())
        found.append(
            text(
                f"By their own 99.8% limits, which allow for chance alone, more areas differ from England: {number['above']} higher and "
                f"{number['below']} lower (compared_with_england_998 in the table rate_current). The limits of the funnel plot also "
                "allow for how much areas differ in general, so they single out fewer."
            )
        )
    return found


def _ranked(each: Comparison, kinds: str, footnotes: Footnotes) -> Block:
    """Every area: the highest first, and those without a figure last."""
    others = [row for row in each.rows if row.get(each.measure) is None]
    rows = [*each.shown, *others]
    common, own = wording.shared_notes(rows, footnotes)
    by_share = each.by_share
    most = max((max(row[each.measure], (each.limits(row) or (0, 0))[1]) for row in each.shown), default=0)
    national = each.national if each.is_drawn else None
    named = (
        "flagged records as a share of those in scope"
        if by_share
        else f"{wording.MEASURES[each.measure].lower()} per 100,000"
    )
    about = f"{kinds} ranked by {named}, {each.period}"
    if any(limits_of(row) for row in each.shown) or by_share:
        about += ", with 95% limits"
    if national:
        value = f"{wording.rate(100 * national)}%" if by_share else wording.rate(national)
        about += f"; the line is England ({value})"
    if each.round_to > 1:
        about += ". Limits cover every count that a rounded one can stand for"
    if each.is_indirect:
        about += ". Areas' rates are indirectly standardised from published counts, England's directly: the two methods differ by a few percent"
    rate_columns = ("Rate", "95% limits") if not by_share else ()

    def cells(row: Row, marks: str) -> tuple[str, ...]:
        bar: str = ""
        if row.get(each.measure) is not None and each.is_drawn:
            side = each.sides.get(str(row["area_code"]), "")
            bar = interval(row[each.measure], each.limits(row), most, side, national)
        figures = () if by_share else (wording.rate_in(row, each.measure), wording.limits(row))
        return (
            wording.area_name(row) + marks, bar, *figures, wording.flagged_share(row),
            wording.count_in(row, "activity"), wording.count_in(row, "in_scope"),
            *(() if by_share else (wording.count_in(row, "population"), wording.rate_in(row, "crude_rate"))),
        )  # fmt: skip

    return Block(
        "grid",
        text=f"{about}.", marks=common,
        head=("Area", "", *rate_columns, "Share flagged (95% limits)", "Flagged", "In scope",
              *(() if by_share else ("Population", "Crude rate"))),
        rows=tuple(cells(row, marks) for row, marks in zip(rows, own, strict=True)),
        align="lb" + "r" * len(rate_columns) + "rrr" + ("" if by_share else "rr"),
        keys=tuple(wording.area_key(row) for row in rows),
        long=len(rows) > LONG,
    )  # fmt: skip


def _earlier(each: Comparison) -> Block:
    """The figure of every area in every period."""
    return by_year(
        [row | {"revision": None} for row in (*each.earlier, *each.rows)],
        label=wording.area_name,
        order=lambda row: (wording.area_name(row), str(row["area_code"])),
        cell=wording.flagged_share if each.by_share else lambda row: wording.rate_in(row, each.measure),
        column=wording.period,
        caption=f"{_capital(wording.areas(each.kind))} in every period: "
        + ("share flagged (95% limits)" if each.by_share else f"{wording.MEASURES[each.measure].lower()} per 100,000"),
        first="Area",
        fold=True,
    )


# Overdispersion above this is "far more than chance".
_FAR_MORE = 2


def _dispersion_words(each: Comparison) -> str:
    if each.phi is None:
        return (
            "Overdispersion (whether areas differ more than chance would explain) is not calculated, because some areas "
            "are suppressed."
        )
    given = f"(overdispersion {wording.rate(each.phi)}; chance alone gives about 1)"
    names = _capital(wording.areas(each.kind))
    if each.phi <= 1:
        return f"{names} differ no more than chance would explain {given}."
    more = "far more" if each.phi > _FAR_MORE else "more"
    return f"{names} differ {more} than chance would explain; recording may be one reason {given}."


def _capital(words: str) -> str:
    """The text with a capital first letter; the others keep theirs."""
    return words[:1].upper() + words[1:]


def windows(policy: Row | None) -> list[Block]:
    """In which periods the policy is published below England. ``policy``: the row of its newest revision."""
    years = int((policy or {}).get("publish_years") or 1)
    if policy is None or years == 1:
        return []
    return [
        text(
            f"Below England this policy is published for windows of {years} years that do not overlap. One window begins "
            f"with {policy['publish_first_year']}. A window is published once data for all of its years are available."
        )
    ]


def spread(variation: Sequence[Row], reading: str, footnotes: Footnotes) -> tuple[Block, ...]:
    """Percentiles, N-fold and opportunity of the newest period of each length. Earlier periods are folded."""
    rows = [row for row in variation if row.get("reading") == reading]
    if not rows:
        return (text("No variation is published for this policy's main definition."),)

    def place(row: Row) -> tuple[Any, ...]:
        kind = str(row["area_type"])
        return (
            position(kind, wording.AREA_TYPES), kind, years_of(row),
            str(row["financial_year"]), str(row["revision"]),
        )  # fmt: skip

    last_years: dict[tuple[str, int], str] = {}
    for row in rows:
        kind = (str(row["area_type"]), years_of(row))
        last_years[kind] = max(last_years.get(kind, ""), str(row["financial_year"]))
    newest = [row for row in rows if str(row["financial_year"]) == last_years[(str(row["area_type"]), years_of(row))]]
    earlier = [row for row in rows if row not in newest]
    explanation = (
        "Percentiles (P10 to P90) of the standardised rate per 100,000. Areas without activity are left out; every other "
        "area counts the same, whatever its size. N-fold is P90 divided by P10. Opportunity: how many fewer records there "
        "would be if every area were at the rate of the lowest quarter. It is not a target. Only areas with a rate above "
        "P25 add to it. A dash means that the figure would reveal a suppressed number, or that there are no areas to "
        "calculate it from."
    )
    blocks = [_variation_grid(sorted(newest, key=place), explanation, footnotes)]
    if earlier:
        blocks.append(_variation_grid(sorted(earlier, key=place), "Variation in earlier periods", footnotes, fold=True))
    return tuple(blocks)


def _variation_grid(rows: Sequence[Row], caption: str, footnotes: Footnotes, *, fold: bool = False) -> Block:
    several = len({str(row["revision"]) for row in rows}) > 1
    common, own = wording.shared_notes(rows, footnotes)
    names = ("p10", "p25", "p50", "p75", "p90", "n_fold")
    return Block(
        "grid",
        text=caption, marks=common,
        head=("Areas", "Period", "Areas in total", "With activity", "P10", "P25", "P50", "P75", "P90", "N-fold", "Opportunity"),
        rows=tuple(
            (
                wording.areas(row["area_type"]) + marks,
                wording.period(row) + (f" ({row['revision']})" if several else ""),
                wording.count_in(row, "areas"),
                wording.count_in(row, "areas_with_activity"),
                *(
                    wording.rate(row.get(name), wording.HIDDEN if is_suppressed(row) else "–")
                    for name in names
                ),
                _opportunity(row),
            )
            for row, marks in zip(rows, own, strict=True)
        ),
        align="lnrrrrrrrrr",
        fold=fold,
    )  # fmt: skip


def _opportunity(row: Row) -> str:
    if row.get("opportunity") is None:
        return wording.reason_missing(row)
    part = row.get("opportunity_share")
    return wording.count(row["opportunity"]) + (f" ({wording.share(part, 1)})" if part is not None else "")

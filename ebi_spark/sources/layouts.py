"""Layouts: the column names that each source table can have, from ``conf/layouts.yml``, and how to map a file's
columns."""

import difflib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache, cached_property

from ebi_spark.config.settings import RunConfig
from ebi_spark.config.shipped_files import shipped_document
from ebi_spark.config.source_tables import CODE_TABLES
from ebi_spark.errors import InputError, did_you_mean

# The highest number of a numbered column.
MOST_NUMBERED = 99
# How similar two names must be (0 to 1) for one to be suggested for the other.
_NEAR = 0.85
# Our columns that are dates.
DAYS = (
    "admission_date", "discharge_date", "appointment_date", "episode_start", "episode_end", "extract_date", "procedure_date",
    "requested_on", "decided_on", "valid_from", "valid_to",
)  # fmt: skip
# Our columns that are numbers.
NUMBERS = ("age", "age_fallback", "episode_order")
# What the name of a date column contains.
_DATE_WORDS = re.compile("DATE|_DT|DT_|DAY|START|END|_ON$|_FROM$|_TO$")
_DERIVED = "_DERIVED"

# The columns of a family in order. Each place has the columns that can fill it, the best first; no column if it is
# missing.
Family = tuple[tuple[str, ...], ...]


def compared_name(name: str) -> str:
    """A column name as names are compared: in upper case, without blanks or a byte order mark around it."""
    return name.strip().strip("\ufeff").upper()


@dataclass(frozen=True)
class Numbered:
    """A set of numbered columns (DIAG_4_01 … DIAG_4_20): the possible names without the number (``forms``), other names
    of the ``first`` column, and columns that have all the codes in one text (``concat``). A long table can have the codes instead:
    its name ends in ``long_table``."""

    forms: tuple[str, ...]
    first: tuple[str, ...]
    concat: tuple[str, ...]
    long_table: str

    def names(self, form: str, number: int) -> tuple[str, ...]:
        """The possible names of the column with this number, the best first."""
        return tuple(dict.fromkeys((f"{form}{number:02d}", f"{form}{number}")))

    def families(self, available: dict[str, str]) -> dict[str, Family]:
        """The families that a file has, by form, each up to its last column. ``available``: name in upper case → the file's
        column. If a file has only another name of the first column, the form is an empty text."""
        firsts = [available[name] for name in self.first if name in available]
        found: dict[str, Family] = {}
        for form in self.forms:
            places = [
                [available[name] for name in self.names(form, number) if name in available]
                for number in range(1, MOST_NUMBERED + 1)
            ]
            if any(places):
                places[0] += firsts
                last = max(at for at, names in enumerate(places) if names)
                found[form] = tuple(tuple(dict.fromkeys(names)) for names in places[: last + 1])
        return found or ({"": (tuple(firsts),)} if firsts else {})

    def all_names(self) -> set[str]:
        """Every name that a numbered column, or a column with all the codes, can have."""
        numbers = range(1, MOST_NUMBERED + 1)
        return {*(n for form in self.forms for i in numbers for n in self.names(form, i)), *self.first, *self.concat}


@dataclass(frozen=True)
class Layout:
    """The columns of one source table (``role``).

    ``key``: our name of the column that names a row. ``columns``: our name → the names that source files use, upper case,
    the best first; no name where only a configuration can map it. ``alternatives``: groups of our columns that mean the
    same. ``one_of``: groups of our columns; a file needs one column of each group. ``other_fields``: names, or patterns of
    names, of fields that are known to be something else.
    """

    role: str
    title: str
    key: str
    columns: dict[str, tuple[str, ...]]
    required: frozenset[str]
    numbered: dict[str, Numbered]
    alternatives: tuple[tuple[str, ...], ...] = ()
    one_of: tuple[tuple[str, ...], ...] = ()
    other_fields: tuple[str, ...] = ()

    def known_names(self) -> set[str]:
        """Every column name that the layout knows, upper case."""
        return {*self._field_of, *self._numbered_names()}

    def _numbered_names(self) -> set[str]:
        return {name for run in self.numbered.values() for name in run.all_names()}

    @cached_property
    def _field_of(self) -> dict[str, str]:
        return {name: ours for ours, options in self.columns.items() for name in options}

    def key_names(self, renamed: dict[str, str]) -> set[str]:
        """The names that the key column can have, upper case."""
        names = set(self.columns[self.key])
        return names | {theirs.upper() for ours, theirs in renamed.items() if ours == self.key or ours.upper() in names}

    def resolve(self, present: list[str], renamed: dict[str, str], where: str) -> "ColumnMapping":
        """Map the columns of a file to ours.

        ``present``: the file's column names, in any case. ``renamed``: the ``columns`` setting (our name, or one that
        source files use → the file's own name). Raises an :class:`InputError` that names ``where`` if a required column
        is missing, a name appears twice, or the setting names a column that does not exist.
        """
        by_upper = self._by_name(present, where)
        self._refuse_wrong_settings(renamed, by_upper, where)
        override = {ours.upper(): by_upper[theirs.upper()] for ours, theirs in renamed.items()}
        available = {**by_upper, **override}
        single: dict[str, str] = {}
        for ours, options in self.columns.items():
            # A column that the configuration maps, by our name or by one of the source's, takes precedence over one
            # found by name.
            mapped = [name for name in (ours.upper(), *options) if name in override]
            if called := next((name for name in (*mapped, *options) if name in available), None):
                single[ours] = available[called]
        families = {ours: found for ours, run in self.numbered.items() if (found := run.families(available))}
        concats = {
            ours: listed
            for ours, run in self.numbered.items()
            if (listed := [available[option] for option in run.concat if option in available])
        }
        self._refuse_missing({*single, *families, *concats}, by_upper, where)
        gaps = [
            self.numbered[ours].names(form, number)[0]
            for ours, by_form in families.items()
            for form, family in by_form.items()
            for number, place in enumerate(family, 1)
            if not place
        ]
        mapping = ColumnMapping(
            single,
            {ours: list(by_form.values()) for ours, by_form in families.items()},
            concats,
            missing=(*self._missing(single), *gaps),
            mapped=frozenset(map(self.field_named, renamed)),
        )
        used, known = mapping.used(), self.known_names()
        unused = {upper: name for upper, name in by_upper.items() if name not in used}
        notes = self._unread(single, unused) + self._beside_each_other(single)
        notes += [note for ours in self.numbered for note in _family_notes(ours, mapping.runs, concats)]
        extra = tuple(sorted(name for upper, name in unused.items() if upper not in known))
        return replace(mapping, extra=extra, notes=tuple(notes))

    def _by_name(self, present: list[str], where: str) -> dict[str, str]:
        """The columns of a file by their name in upper case. Raises an :class:`InputError` if a known name appears twice."""
        known = self.known_names()
        found: dict[str, str] = {}
        for name in present:
            upper = compared_name(name)
            if upper in found and upper in known:
                raise InputError(
                    f"{where}: the column {upper} appears twice (upper and lower case make no difference)",
                    remedy="remove or rename one of them at the source",
                )
            found.setdefault(upper, name)
        return found

    def _refuse_wrong_settings(self, renamed: dict[str, str], by_upper: Collection[str], where: str) -> None:
        """Raise an :class:`InputError` if the configuration maps a column that the layout or the file does not have."""
        known = self.known_names()
        for ours, theirs in renamed.items():
            if ours not in self.columns and ours.upper() not in known:
                raise InputError(
                    f"{where}: the configuration maps {ours}, which is not a column of the layout {self.role}",
                    remedy=f"{did_you_mean(ours, self.columns)}Use one of: {', '.join(self.columns)}",
                )
            if theirs.upper() not in by_upper:
                near = nearest(self, self.field_named(ours), [theirs.upper()], by_upper)
                raise InputError(
                    f"{where}: the configuration maps {ours} to {theirs}, but the file has no such column",
                    remedy=f"did you mean {near}?" if near else "correct `columns`",
                )

    def _refuse_missing(self, found: Collection[str], by_upper: dict[str, str], where: str) -> None:
        """Raise an :class:`InputError` if a required column is not among ours that were ``found``."""
        missing = sorted(self.required - set(found) - self._one_is_there(found))
        if not missing:
            return
        ours, known = missing[0], self.known_names()
        wanted = self.wanted(ours)
        near = nearest(self, ours, wanted, [name for name in by_upper if name not in known])
        hint = f"the most similar name in the file is {by_upper[near]}: " if near else ""
        called = wanted[0] if ours in self.columns else f"{wanted[0]} … or {self.numbered[ours].concat[0]}"
        others = ", ".join(f"{self.wanted(name)[0]} ({name})" for name in missing[1:])
        raise InputError(
            f"{where}: the column {called} is missing ({self.title}){f'. Also missing: {others}' if others else ''}",
            remedy=f"{hint}map it under `columns: {{{ours}: …}}`, or correct the delimiter or header if all are missing",
        )

    def wanted(self, ours: str) -> tuple[str, ...]:
        """The names that our column can have in a file, the best first; for numbered columns, those of the first
        one."""
        if ours in self.columns:
            return self.columns[ours]
        run = self.numbered.get(ours)
        return (*(run.names(form, 1)[0] for form in run.forms), *run.first, *run.concat) if run else (ours,)

    def field_named(self, name: str) -> str:
        """Our name of a column that the configuration names by our name or by one that source files use."""
        return name if name in self.columns else self._field_of.get(name.upper(), name)

    def _one_is_there(self, found: Collection[str]) -> set[str]:
        """The columns of those groups of ``one_of`` from which the file has a column."""
        return {ours for group in self.one_of if any(name in found for name in group) for ours in group}

    def _missing(self, single: Collection[str]) -> list[str]:
        """Our optional columns that are missing. If several columns mean the same, one of them is enough."""
        enough = {ours for group in self.alternatives if any(name in single for name in group) for ours in group}
        enough |= {ours for group in self.alternatives for ours in group[1:]}  # only the first of a group is reported
        enough |= self._one_is_there(single)
        named = {ours for ours, names in self.columns.items() if names}
        return sorted(named - set(single) - enough - {"extract_date"})

    def _unread(self, single: dict[str, str], unused: Collection[str]) -> list[str]:
        """A line for each of our columns for which a file has other columns too, and for other known columns not
        used."""
        by_field: dict[str, list[str]] = {}
        for name in sorted(unused):
            ours = self._field_of.get(name)
            if ours is not None:
                by_field.setdefault(ours, []).append(name)
        lines = [
            f"{ours} is read from {single[ours].upper()}; {', '.join(names)} can mean the same and "
            f"{'is' if len(names) == 1 else 'are'} not used: to read another column for the whole file, map it under "
            f"`columns: {{{ours}: …}}`"
            for ours, names in by_field.items()
        ]
        numbered = self._numbered_names()
        others = [name for name in sorted(unused) if name in numbered]
        return lines + (
            [f"not used: {', '.join(others)}, because `columns` maps another column in its place"] if others else []
        )

    def _beside_each_other(self, single: dict[str, str]) -> list[str]:
        lines = []
        for group in self.alternatives:
            names = list(dict.fromkeys(single[ours].upper() for ours in group if ours in single))
            if len(names) > 1:
                lines.append(
                    f"{' and '.join(names)} mean the same: silver keeps all of them, and the first that the lookup has on the "
                    "record's date gives the area"
                )
        return lines


@dataclass(frozen=True)
class ColumnMapping:
    """Which columns of a file are read as which of ours.

    ``single``: our column → the file's column. ``runs``: numbered columns, as families. ``concats``: columns that have
    all the codes in one text. ``missing``: optional columns by our name, and gaps in numbered columns by their own
    name. ``extra``: columns that are not used. ``mapped``: our columns that the configuration maps. ``notes``: a
    sentence each about columns that mean the same or that leave a gap.
    """

    single: dict[str, str]
    runs: dict[str, list[Family]]
    concats: dict[str, list[str]]
    missing: tuple[str, ...]
    extra: tuple[str, ...] = ()
    mapped: frozenset[str] = field(default_factory=frozenset)
    notes: tuple[str, ...] = ()

    def lists(self) -> list[tuple[str, str]]:
        """(our name, the file's column) of all numbered columns and columns with all the codes."""
        numbered = [(ours, families) for ours, families in self.runs.items()]
        found = [
            (ours, name) for ours, families in numbered for family in families for place in family for name in place
        ]
        return found + [(ours, name) for ours, names in self.concats.items() for name in names]

    def used(self) -> set[str]:
        """The file's columns that are read."""
        return {*self.single.values(), *(name for _, name in self.lists())}


def _family_notes(ours: str, runs: dict[str, list[Family]], concats: dict[str, list[str]]) -> list[str]:
    """What the user should know about the numbered columns of one kind, a line each."""
    families = runs.get(ours, [])
    lines = []
    for family in families:
        if not family[0]:
            at = next(number for number, place in enumerate(family) if place)
            lines.append(
                f"the first {ours} column is missing; the file begins with {family[at][0].upper()}. Its codes are read, but "
                f"whatever needs the first {ours} of a row is missing: map the column under `columns`"
            )
        for place in family:
            if len(place) > 1:
                names = " and ".join(name.upper() for name in place)
                lines.append(f"{names} mean the same: for each row, the first that has a code is read")
    # A file usually has the same codes in numbered columns and in one text, so that is not mentioned.
    for sets in ([_span(family) for family in families], [name.upper() for name in concats.get(ours, ())]):
        if len(sets) > 1:
            named = f"{', '.join(sets[:-1])} and {sets[-1]}"
            lines.append(f"{named} mean the same: for each row, the first of them that has a code is read")
    return lines


def _span(family: Family) -> str:
    first, last = (next(place[0] for place in places if place).upper() for places in (family, family[::-1]))
    return first if first == last else f"{first} … {last}"


def nearest(layout: Layout, ours: str, wanted: Iterable[str], names: Iterable[str]) -> str | None:
    """The name among ``names`` (upper case) that is most similar to a ``wanted`` name for our column; None if none is
    similar."""
    likely = [(likeness(layout, ours, name, wanted), name) for name in sorted(names)]
    best = max(likely, key=lambda item: item[0], default=(0.0, ""))
    return best[1] if best[0] >= _NEAR else None


def likeness(layout: Layout, ours: str, name: str, wanted: Iterable[str]) -> float:
    """How similar a name (upper case) is to the most similar ``wanted`` name for our column, from 0 to 1.

    It is 0 for a name that is not similar enough to be suggested, and for a column that is known to be another field.
    """
    if _is_another_field(layout, ours, name):
        return 0.0
    scores = [
        1.0 if name == f"{option}{_DERIVED}" else difflib.SequenceMatcher(None, option, name).ratio()
        for option in wanted
    ]
    best = max(scores, default=0.0)
    return best if best >= _NEAR else 0.0


def _is_another_field(layout: Layout, ours: str, name: str) -> bool:
    """Whether a column is known to be something other than ``ours``, or ``ours`` is a date and the name is not that of
    a date."""
    fields = _fields_named().get(name)
    if fields and ours not in fields:
        return True
    if ours in DAYS and not _DATE_WORDS.search(name):
        return True
    return any(fnmatchcase(name, pattern) for pattern in layout.other_fields)


@cache
def _fields_named() -> dict[str, frozenset[str]]:
    """Every column name of the source tables → our names for it."""
    found: dict[str, set[str]] = {}
    for layout in layouts().values():
        for ours, options in layout.columns.items():
            for name in options:
                found.setdefault(name, set()).add(ours)
    return {name: frozenset(fields) for name, fields in found.items()}


def layout_for(role: str, config: RunConfig) -> Layout:
    """The layout of a source table. Where a long table has the codes of HES rows, these rows need no columns of codes."""
    layout = layouts()[role]
    beside = {table for source in config.sources for table in source.tables if CODE_TABLES.get(table) == role}
    elsewhere = {ours for ours in layout.numbered if f"{role}_{layout.numbered[ours].long_table}" in beside}
    return replace(layout, required=layout.required - elsewhere) if elsewhere else layout


@cache
def layouts() -> dict[str, Layout]:
    """All layouts, by role."""
    return {
        role: Layout(
            role=role,
            title=item["title"],
            key=item["key"],
            columns={ours: tuple(names) for ours, names in item["columns"].items()},
            required=frozenset(item["required"]),
            numbered={
                ours: Numbered(
                    tuple(run["forms"]), tuple(run.get("first", ())), tuple(run["concat"]), run["long_table"]
                )
                for ours, run in item.get("numbered", {}).items()
            },
            alternatives=tuple(map(tuple, item.get("alternatives", ()))),
            one_of=tuple(map(tuple, item.get("one_of", ()))),
            other_fields=tuple(item.get("other_fields", ())),
        )
        for role, item in shipped_document("layouts", "layouts").items()
    }

"""What the columns of each source table are called, from ``conf/layouts.yml``."""

import difflib
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from ebi_spark.errors import InputError
from ebi_spark.settings import resource


@dataclass(frozen=True)
class Numbered:
    """A run of numbered columns (DIAG_4_01 … DIAG_4_20) or the concatenation that stands for them."""

    forms: tuple[str, ...]
    most: int
    concat: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """The columns of one role: our name → the names that the tables use, best first, upper case."""

    role: str
    title: str
    columns: dict[str, tuple[str, ...]]
    required: frozenset[str]
    numbered: dict[str, Numbered]

    def known_names(self) -> set[str]:
        """Every source name that means something, upper case."""
        names = {name for options in self.columns.values() for name in options}
        for run in self.numbered.values():
            names.update(f"{form}{i:02d}" for form in run.forms for i in range(1, run.most + 1))
            names.update(run.concat)
        return names

    def key_names(self, renamed: dict[str, str]) -> set[str]:
        """What the column of the key can be called, upper case."""
        names = set(self.columns["record_id"])
        return names | {
            theirs.upper() for ours, theirs in renamed.items() if ours == "record_id" or ours.upper() in names
        }

    def resolve(self, present: list[str], renamed: dict[str, str], where: str) -> "Resolved":
        """Which of the columns that a file has stand for which of ours.

        ``present`` are the file's names in any case, ``renamed`` the configuration's ``columns`` (a name of this layout
        or of the tables: the file's own name). A missing required column or a name that stands twice is an
        :class:`InputError` that names ``where``.
        """
        by_upper: dict[str, str] = {}
        for name in present:
            upper = name.strip().strip("\ufeff").upper()
            if upper in by_upper and upper in self.known_names():
                raise InputError(
                    f"{where}: the column {upper} stands twice (names differ in case only, if at all)",
                    remedy="remove or rename one of them at the source",
                )
            by_upper.setdefault(upper, name)
        for ours, theirs in renamed.items():
            if theirs.upper() not in by_upper:
                near = difflib.get_close_matches(theirs.upper(), by_upper, n=1, cutoff=0.0)
                raise InputError(
                    f"{where}: the configuration maps {ours} to {theirs}, which is no column there",
                    remedy=f"did you mean {near[0]}?" if near else "correct `columns`",
                )
            if ours not in self.columns and ours.upper() not in self.known_names():
                raise InputError(
                    f"{where}: the configuration maps {ours}, which the layout {self.role} does not know",
                    remedy=f"use one of: {', '.join(self.columns)}",
                )
        override = {ours.upper(): by_upper[theirs.upper()] for ours, theirs in renamed.items()}
        available = {**by_upper, **override}
        single: dict[str, str] = {}
        for ours, options in self.columns.items():
            if ours.upper() in override:
                single[ours] = override[ours.upper()]
            elif found_option := next((option for option in options if option in available), None):
                single[ours] = available[found_option]
        runs: dict[str, list[str]] = {}
        concats: dict[str, str] = {}
        gaps: list[str] = []
        for ours, run in self.numbered.items():
            for form in run.forms:
                names = [f"{form}{i:02d}" for i in range(1, run.most + 1)]
                found = [available[name] for name in names if name in available]
                if found:
                    runs[ours] = found
                    last = max(at for at, name in enumerate(names) if name in available)
                    gaps += [name for name in names[:last] if name not in available]
                    break
            else:
                for option in run.concat:
                    if option in available:
                        concats[ours] = available[option]
                        break
        missing = sorted(self.required - single.keys() - runs.keys() - concats.keys())
        if missing:
            ours = missing[0]
            wanted = self.columns.get(ours) or (
                f"{self.numbered[ours].forms[0]}01 … or {self.numbered[ours].concat[0]}",
            )
            near = difflib.get_close_matches(wanted[0], by_upper, n=1, cutoff=0.6)
            hint = f"the nearest name there is {by_upper[near[0]]}: " if near else ""
            raise InputError(
                f"{where}: the column {wanted[0]} is missing ({self.title})",
                remedy=f"{hint}map it under `columns: {{{ours}: …}}`, or correct the delimiter or header if all are missing",
            )
        used = {*single.values(), *concats.values(), *(name for run in runs.values() for name in run)}
        known = self.known_names()
        return Resolved(
            single,
            runs,
            concats,
            missing=(*sorted(set(self.columns) - set(single) - {"extract_date"}), *gaps),
            extra=tuple(sorted(name for upper, name in by_upper.items() if name not in used and upper not in known)),
        )


@dataclass(frozen=True)
class Resolved:
    """Our column → the file's column (or columns), with what is missing (optional columns by our name, gaps in a run of
    numbered ones by its own) and what nothing reads."""

    single: dict[str, str]
    runs: dict[str, list[str]]
    concats: dict[str, str]
    missing: tuple[str, ...]
    extra: tuple[str, ...]


@cache
def layouts() -> dict[str, Layout]:
    """All layouts by role."""
    text = resource("conf", "layouts.yml").read_text(encoding="utf-8")
    document: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return {
        role: Layout(
            role=role,
            title=item["title"],
            columns={ours: tuple(names) for ours, names in item["columns"].items()},
            required=frozenset(item["required"]),
            numbered={
                ours: Numbered(tuple(run["forms"]), run["most"], tuple(run["concat"]))
                for ours, run in item.get("numbered", {}).items()
            },
        )
        for role, item in document.items()
    }

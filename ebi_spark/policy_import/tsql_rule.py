"""Translate the SQL of a page into tests of the policy language with exactly the same meaning, NULLs included. SQL that the
policy language cannot express is refused with its line.

Only the kinds of nodes named here are accepted, because the parser ignores SQL that it does not know.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sqlglot import exp

from ebi_spark.policies.compile import LIST_FIELDS
from ebi_spark.policies.model import AgeRange, AllOf, AnyOf, HasCode, IsNull, NoneOf, Operator, Test
from ebi_spark.policies.patterns import (
    AGE_FIELDS,
    CODE_FIELDS,
    PatternError,
    canonical,
    impossible_age,
    places,
    why_not_a_code,
    written_out,
)
from ebi_spark.policies.simplify import simplified
from ebi_spark.policy_import.page import Page, SqlPart
from ebi_spark.policy_import.sql_columns import Binding, column_of
from ebi_spark.policy_import.tsql_parse import Refused, line_of, name_of, parse, printed

_NO_CHANGE = (exp.Upper, exp.Trim)
# The lowest and the highest age for which a comparison with a number is true; None: no bound.
_COMPARE: dict[type[exp.Expr], Callable[[int], tuple[int | None, int | None]]] = {
    exp.GTE: lambda n: (n, None),
    exp.GT: lambda n: (n + 1, None),
    exp.LTE: lambda n: (None, n),
    exp.LT: lambda n: (None, n - 1),
    exp.EQ: lambda n: (n, n),
}
_MIRRORED = {exp.GTE: exp.LTE, exp.GT: exp.LT, exp.LTE: exp.GTE, exp.LT: exp.GT, exp.EQ: exp.EQ, exp.NEQ: exp.NEQ}


@dataclass(frozen=True)
class Note:
    """Something about the SQL that a person should know; ``kind`` is a kind of finding or a reason for ``read as``."""

    line: int
    kind: str
    text: str


@dataclass(frozen=True)
class Condition:
    """One of the conditions that the rule joins by AND, as a test, with its place on the page."""

    test: Test
    line: int
    sql: str
    part: int
    heading: str


@dataclass
class RuleReader:
    """Reads the parts of one page; ``notes`` collects what a person should know about them."""

    page: Page
    binding: Binding
    notes: list[Note] = field(default_factory=list)

    def conditions(self, number: int, part: SqlPart) -> list[Condition]:
        """The conditions that one part joins by AND, in order. ``number`` 0 is the rule itself. :class:`Refused` names the
        line of what cannot be expressed."""
        text = re.sub(r"(?i)^(\s*(?:--[^\n]*\n\s*)*)(?:where|and)\b", lambda m: m[1] + " " * (len(m[0]) - len(m[1])),
                      part.text)  # fmt: skip
        tree, repair = parse(self.page, part, text, self._meaning)
        if repair is not None:
            self.notes.append(Note(repair.line, "repaired", repair.what))
        found = []
        for item in _anded(tree):
            if _is_one_is_one(item):
                continue
            test = simplified(self._test(item, part))
            found.append(Condition(test, part.line + line_of(item) - 1, printed(item), number, part.heading))
        if isinstance(tree, exp.Or) and re.match(r"(?i)\s*(?:--[^\n]*\n\s*)*and\b", part.text):
            raise self._refused(tree, part, "a part that continues with AND has an OR outside brackets, which would split "
                                "the whole rule", "put brackets around the conditions that the OR joins")  # fmt: skip
        if isinstance(tree, exp.Or) and number == 0:
            self._note(
                tree, part, "precedence", "OR is outside all brackets: it splits the whole rule into alternatives"
            )
        return found

    def _meaning(self, tree: exp.Expr, part: SqlPart) -> Test:
        """The meaning of a tree, to compare two trees."""
        return simplified(RuleReader(self.page, self.binding)._test(tree, part))

    # Conditions

    def _test(self, node: exp.Expr, part: SqlPart) -> Test:
        match node:
            case exp.Paren():
                return self._test(node.this, part)
            case exp.And():
                kept = [item for item in node.flatten() if not _is_one_is_one(item)]
                return AllOf(tuple(self._test(item, part) for item in kept))
            case exp.Or():
                self._precedence(node, part)
                return AnyOf(tuple(self._test(item, part) for item in node.flatten()))
            case exp.Not():
                return NoneOf((self._test(node.this, part),))
            case exp.Is():
                return self._is_null(node, part)
            case exp.Between():
                return self._between(node, part)
            case exp.Like():
                test = self._like(node, part)
                return NoneOf((test,)) if node.args.get("negate") else test
            case exp.In():
                return self._in(node, part)
            case exp.EQ() | exp.NEQ() | exp.GT() | exp.GTE() | exp.LT() | exp.LTE():
                return self._compared(node, part)
        raise self._refused(node, part, f"{name_of(node)} is not supported in a condition: {printed(node)[:60]}")

    def _precedence(self, node: exp.Or, part: SqlPart) -> None:
        # The tree keeps brackets, so an AND directly below an OR had none in the SQL.
        for item in node.flatten(unnest=False):
            if isinstance(item, exp.And):
                self._note(item, part, "precedence",
                           f"AND binds before OR, but no bracket shows it: one alternative is {printed(item)}")  # fmt: skip

    def _is_null(self, node: exp.Is, part: SqlPart) -> Test:
        if not isinstance(node.expression, exp.Null):
            raise self._refused(node, part, "IS can only be followed by NULL or NOT NULL")
        return IsNull(self._column(node.this, part).field, True)

    def _between(self, node: exp.Between, part: SqlPart) -> Test:
        column = self._column(node.this, part)
        if column.field not in AGE_FIELDS:
            raise self._refused(node, part, f"BETWEEN can be used for ages only, not for {column.field}",
                                "list the codes: in ('…', '…')")  # fmt: skip
        low, high = self._age(node.args["low"], part), self._age(node.args["high"], part)
        if low > high:
            raise self._refused(node, part, f"an impossible age: no age is between {low} and {high}",
                                "write the smaller age first")  # fmt: skip
        return AgeRange(column.field, low, high)

    def _compared(self, node: exp.Binary, part: SqlPart) -> Test:
        left, right, kind = node.left, node.right, type(node)
        if isinstance(left.unnest(), exp.Literal):
            left, right, kind = right, left, _MIRRORED[kind]
        literal = right.unnest()
        if not isinstance(literal, exp.Literal | exp.Neg):
            raise self._refused(
                node, part, f"a column is compared with something that is not a value: {printed(node)[:60]}"
            )
        column = self._column(left, part)
        if column.field in AGE_FIELDS:
            bound = self._age(literal, part)
            age = AgeRange(column.field, *_COMPARE[exp.EQ if kind is exp.NEQ else kind](bound))
            return NoneOf((age,)) if kind is exp.NEQ else age
        if kind not in (exp.EQ, exp.NEQ):
            raise self._refused(node, part, f"codes cannot be compared by size: {printed(node)[:60]}",
                                "list the codes: in ('…', '…')")  # fmt: skip
        value = str(literal.this)
        if not value.strip():
            if not column.blank_default:
                raise self._refused(node, part, "a column is compared with blank text, but blank values are read as missing",
                                    "write IS NULL or IS NOT NULL")  # fmt: skip
            return IsNull(column.field, kind is exp.EQ)
        test = self._with_blank_default(self._equal(column, [self._text(literal, part)], node, part), column)
        return NoneOf((test,)) if kind is exp.NEQ else test

    def _in(self, node: exp.In, part: SqlPart) -> Test:
        column = self._column(node.this, part)
        listed = node.args.get("expressions") or []
        if not listed or any(not isinstance(item.unnest(), exp.Literal) for item in listed):
            raise self._refused(node, part, "IN takes a list of quoted codes only", "list the codes: in ('…', '…')")
        if column.field in AGE_FIELDS:
            ages = [self._age(item, part) for item in listed]
            return AnyOf(tuple(AgeRange(column.field, age, age) for age in ages))
        values = [self._text(item.unnest(), part) for item in listed]
        return self._with_blank_default(self._equal(column, values, node, part), column)

    def _equal(self, column: "Column", values: list[str], node: exp.Expr, part: SqlPart) -> Test:
        """A test that the column, or its first characters, equals one of ``values``."""
        if column.field in LIST_FIELDS:
            raise self._refused(node, part, f"{column.name} is a list of codes, but `=` and IN would compare the whole list",
                                "write like '%…%'")  # fmt: skip
        if column.left is None:
            return self._has_code(column, "in", values, node, part)
        fitting = [v for v in values if len(v) == column.left]
        shorter = [v for v in values if len(v) < column.left]
        if longer := [v for v in values if len(v) > column.left]:
            raise self._refused(node, part, f"the first {column.left} characters can never be {longer[0]!r}",
                                f"write left(…,{len(longer[0])}), or only the first {column.left} characters of the code")  # fmt: skip
        tests: list[Test] = []
        if fitting:
            tests.append(self._has_code(column, "starts_with", fitting, node, part))
        if shorter:
            tests.append(self._has_code(column, "in", shorter, node, part))
        return tests[0] if len(tests) == 1 else AnyOf(tuple(tests))

    def _has_code(
        self, column: "Column", operator: Operator, values: list[str], node: exp.Expr, part: SqlPart
    ) -> HasCode:
        return HasCode(column.field, operator, tuple(self._code(value, column, node, part) for value in values))

    def _like(self, node: exp.Like, part: SqlPart) -> Test:
        column = self._column(node.this, part)
        literal = node.expression.unnest()
        if not isinstance(literal, exp.Literal) or not literal.is_string:
            raise self._refused(node, part, "LIKE takes a quoted pattern", "put the pattern in quotation marks")
        printed = str(literal.this).upper()
        core = printed.strip("%")
        opened, closed = printed.startswith("%"), printed.endswith("%")
        if not core:
            return IsNull(column.field, False)
        if "%" in core:
            raise self._refused(node, part, f"the pattern {printed!r} has a % between other characters",
                                "write two LIKEs joined by AND")  # fmt: skip
        pattern = self._code(core, column, node, part)
        size = len(places(pattern))
        if column.field in LIST_FIELDS:
            if not (opened and closed):
                raise self._refused(
                    node, part, f"{column.name} is a list of codes: {printed!r} would match only at the list's start or end",
                    f"write '%{core}%'",
                )  # fmt: skip
            if None in places(pattern):
                raise self._refused(node, part, f"{printed!r} may match a separator of the list of codes",
                                    "list the characters, as in [123]")  # fmt: skip
            test = HasCode(column.field, "contains", (pattern,))
        elif opened and not closed:
            raise self._refused(
                node, part, f"{printed!r} tests how the code ends", "list the whole codes: in ('…', '…')"
            )
        elif not opened and not closed:
            return self._with_blank_default(
                self._equal(column, self._expanded(pattern, node, part), node, part), column
            )
        elif column.left is None:
            test = HasCode(column.field, "contains" if opened else "starts_with", (pattern,))
        elif size > column.left:
            raise self._refused(node, part, f"the first {column.left} characters can never contain {core!r}",
                                f"write left(…,{size}), or a shorter pattern")  # fmt: skip
        elif not opened or size == column.left:
            test = HasCode(column.field, "starts_with", (pattern,))
        else:
            test = HasCode(column.field, "contains", (pattern,), column.left)
        return self._with_blank_default(test, column)

    def _with_blank_default(self, test: Test, column: "Column") -> Test:
        """``test``, but false for a missing value if the SQL says ``ISNULL(column, '')``: blank text contains no code."""
        return AllOf((IsNull(column.field, False), test)) if column.blank_default else test

    # Columns and values

    def _column(self, node: exp.Expr, part: SqlPart) -> "Column":
        left: int | None = None
        blank_default = False
        inner = node.unnest()
        while not isinstance(inner, exp.Column):
            match inner:
                case exp.Cast() | exp.Paren():
                    inner = inner.this
                case exp.Left():
                    left = _fewer(left, self._number(inner.expression, part))
                    inner = inner.this
                case exp.Substring() if str(inner.args.get("start")) == "1" and inner.args.get("length"):
                    left = _fewer(left, self._number(inner.args["length"], part))
                    inner = inner.this
                case exp.Coalesce() if len(inner.expressions) == 1:
                    other = inner.expressions[0].unnest()
                    if isinstance(other, exp.Column):
                        column = self._two_columns(inner, other, part)
                        self._refuse_as_text(column.field, left, blank_default, node, part)
                        return column
                    if not (isinstance(other, exp.Literal) and not str(other.this).strip()):
                        raise self._refused(node, part, f"ISNULL replaces a missing value with {other.sql()}",
                                            "write ISNULL(column, ''), or the condition without ISNULL")  # fmt: skip
                    blank_default = True
                    inner = inner.this
                case _ if isinstance(inner, _NO_CHANGE) and not inner.args.get("expression"):
                    inner = inner.this
                case _:
                    raise self._refused(node, part, f"{name_of(inner)} is not supported: {printed(inner)[:60]}",
                                        "write the condition on a column, left(column, n) or ISNULL(column, '')")  # fmt: skip
        field_name = column_of(inner, self.binding, lambda message, remedy: self._refused(inner, part, message, remedy))
        self._alias(inner, part)
        self._refuse_as_text(field_name, left, blank_default, node, part)
        if field_name in AGE_FIELDS:
            self._note(inner, part, "age column", f"{inner.sql()} is used without a fallback: it is read as the age of the "
                       "record, which comes from Der_Age_at_CDS_Activity_Date if that column is missing")  # fmt: skip
        return Column(inner.name, field_name, left, blank_default)

    def _refuse_as_text(
        self, field_name: str, left: int | None, blank_default: bool, node: exp.Expr, part: SqlPart
    ) -> None:
        """Refuse what treats an age or a list of codes as the text of a single code."""
        if left is not None and (field_name in LIST_FIELDS or field_name in AGE_FIELDS):
            raise self._refused(node, part, f"left() of {field_name}, which is not a single code",
                                "compare the age itself" if field_name in AGE_FIELDS else "write like '%…%'")  # fmt: skip
        if blank_default and field_name in AGE_FIELDS:
            raise self._refused(node, part, "an age cannot be blank text", "write IS NULL")

    def _two_columns(self, node: exp.Coalesce, other: exp.Column, part: SqlPart) -> "Column":
        names = [item.name.upper() for item in (node.this.unnest(), other)]
        if names not in self.binding.ages:
            known = ", ".join(" then ".join(pair) for pair in self.binding.ages)
            raise self._refused(node, part, f"ISNULL of two columns is supported only for the age ({known})",
                                "write the condition on one column")  # fmt: skip
        for item in (node.this.unnest(), other):
            self._alias(item, part)
        return Column(names[0], "age", None, False)

    def _alias(self, node: exp.Column, part: SqlPart) -> None:
        if wrong := self.binding.unbound(node.table, node.name):
            self._note(node, part, "unbound alias", wrong)

    def _code(self, value: str, column: "Column", node: exp.Expr, part: SqlPart) -> str:
        """A code or pattern in the policy language."""
        try:
            pattern = canonical(value.upper())
        except PatternError as error:
            raise self._refused(node, part, f"an invalid code {value!r}: {error}", "correct the code") from None
        if column.field in CODE_FIELDS and (why := why_not_a_code(pattern)):
            raise self._refused(node, part, f"an invalid code: {why}", "correct the code")
        return pattern

    def _expanded(self, pattern: str, node: exp.Expr, part: SqlPart) -> list[str]:
        if None in places(pattern):
            raise self._refused(node, part, f"{pattern} matches too many codes to compare each", "list the codes")
        return written_out(pattern)

    def _text(self, literal: exp.Expr, part: SqlPart) -> str:
        value = str(literal.this).strip()
        if not literal.is_string:
            self._note(literal, part, "number for text", f"{value} is compared as the text '{value}'; SQL Server would "
                       "convert the column to numbers and fail on letters")  # fmt: skip
        return value

    def _number(self, node: exp.Expr, part: SqlPart) -> int:
        if not (isinstance(node, exp.Literal) and str(node.this).isdigit() and int(node.this) > 0):
            raise self._refused(
                node, part, f"{node.sql()} is not a number of characters", "write a whole number from 1"
            )
        return int(node.this)

    def _age(self, node: exp.Expr, part: SqlPart) -> int:
        text = node.unnest().sql(dialect="tsql").strip("'")
        if not re.fullmatch(r"-?\d+", text):
            raise self._refused(node, part, f"{text} is not an age in whole years", "write a whole number")
        if impossible_age(int(text)):
            raise self._refused(node, part, f"an impossible age: {text}",
                                "give an age from 0 to 120, or a code for babies from 7000 to 7007")  # fmt: skip
        return int(text)

    def _note(self, node: exp.Expr, part: SqlPart, kind: str, text: str) -> None:
        note = Note(part.line + line_of(node) - 1, kind, text)
        if note not in self.notes:
            self.notes.append(note)

    def _refused(self, node: exp.Expr, part: SqlPart, message: str, remedy: str = "") -> "Refused":
        return Refused(
            self.page, part.line + line_of(node) - 1, message, remedy or "write the condition in another form"
        )


@dataclass(frozen=True)
class Column:
    """A column as a condition uses it."""

    name: str
    field: str
    left: int | None  # how many of its first characters; None for all
    blank_default: bool  # whether ISNULL(column, '') replaces a missing value with blank text


def _fewer(left: int | None, characters: int) -> int:
    """The smaller of two numbers of first characters. ``left``: None if there is no limit yet."""
    return characters if left is None else min(left, characters)


def _anded(tree: exp.Expr) -> Iterator[exp.Expr]:
    inner = tree.unnest()
    if isinstance(inner, exp.And):
        for item in inner.flatten():
            yield from _anded(item)
    else:
        yield inner


def _is_one_is_one(node: exp.Expr) -> bool:
    return isinstance(node, exp.EQ) and isinstance(node.left, exp.Literal) and node.left == node.right

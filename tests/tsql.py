"""The published T-SQL evaluated by DuckDB with SQL Server's semantics: the engine that Spark's flags are compared with.

It shares no code with the product. Typography is repaired as decision 6 says; ``LIKE`` becomes an anchored regular
expression that ignores case, as the collation ``Latin1_General_CI_AS`` does, and knows T-SQL's classes; NULL stays
three-valued.
"""

import re
from pathlib import Path

import sqlglot
from sqlglot import exp

FIXTURES = Path(__file__).parent / "fixtures"


def published(name: str) -> str:
    """The SQL of a page as printed."""
    return (FIXTURES / f"{name}.sql").read_text(encoding="utf-8")


def repaired(printed: str) -> str:
    """Curly quotes straight, an em dash that opens a comment as two hyphens, ``apcs.`` in a rule on ``opa.`` as that."""
    text = re.sub("[‘’]", "'", printed)
    text = re.sub(r"(?m)^[ \t]*—", "--", text)
    return re.sub(r"(?i)\bapcs\.", "opa.", text) if re.search(r"(?i)\bopa\.", text) else text


def label_of(text: str) -> str:
    """The label after THEN."""
    return re.findall(r"(?i)\bthen\s+'([^']+)'", repaired(text))[0]


def conjuncts(printed: str) -> list[exp.Expression]:
    """What the whole rule ANDs together: the parts of WHEN … THEN, then those of the exclusions, in printed order."""
    match = re.fullmatch(r"(?is)\s*when\b(.*)\bthen\s+'[^']+'(.*)", repaired(printed))
    assert match, "no WHEN … THEN '…'"
    parts: list[exp.Expression] = []
    for text in match.groups():
        tree = sqlglot.parse_one(re.sub(r"(?i)^\s*where\b", "", text), read="tsql")
        # A bare OR beside an AND would bind otherwise than the list of parts says.
        assert isinstance(tree, exp.And)
        parts += tree.flatten()
    return parts


def to_duckdb(condition: exp.Expression | str) -> str:
    """A T-SQL condition as DuckDB SQL."""
    tree = sqlglot.parse_one(condition, read="tsql") if isinstance(condition, str) else condition.copy()
    tree = tree.transform(_node)
    left_over = [node for node in tree.walk() if isinstance(node, exp.Like | exp.ILike)]
    assert not left_over, left_over
    return tree.sql(dialect="duckdb")


def _node(node: exp.Expression) -> exp.Expression:
    if isinstance(node, exp.Like):
        pattern = node.expression.unnest()
        assert isinstance(pattern, exp.Literal) and pattern.is_string, f"a pattern that is no text: {pattern}"
        assert not isinstance(node.parent, exp.Escape), "LIKE … ESCAPE is not understood"
        matches = exp.Anonymous(
            this="regexp_matches", expressions=[node.this.transform(_node), exp.Literal.string(as_regex(pattern.this))]
        )
        return exp.Paren(this=exp.Not(this=matches)) if node.args.get("negate") else matches
    if isinstance(node, exp.EQ | exp.NEQ) and any(_is_text(side) for side in (node.left, node.right)):
        # Comparison of texts ignores case and blanks at the end.
        return type(node)(this=_folded(node.left), expression=_folded(node.right))
    return node


def _is_text(side: exp.Expression) -> bool:
    return isinstance(side, exp.Literal) and side.is_string


def _folded(side: exp.Expression) -> exp.Expression:
    return exp.Upper(this=exp.Anonymous(this="rtrim", expressions=[side.copy()]))


def as_regex(pattern: str) -> str:
    """A T-SQL LIKE pattern as an anchored RE2 expression that ignores case.

    ``%`` any run, ``_`` any one character, ``[345]``, ``[0-9]``, ``[^0-9]`` classes in which nothing else is special.
    """
    made, at = [], 0
    while at < len(pattern):
        character = pattern[at]
        if character == "[":
            end = pattern.index("]", at + 1)
            inner = pattern[at + 1 : end]
            negated = inner.startswith("^")
            made.append(f"[{'^' if negated else ''}{_class(inner[negated:])}]")
            at = end
        else:
            made.append({"%": ".*", "_": "."}.get(character) or re.escape(character))
        at += 1
    return rf"(?is)\A{''.join(made)}\z"


def _class(inner: str) -> str:
    assert inner, "an empty class matches nothing in T-SQL and is surely a slip"
    return "".join(character if character == "-" and 0 < i < len(inner) - 1 else re.escape(character)
                   for i, character in enumerate(inner))  # fmt: skip

"""Random rules of the pages' grammar, set as a page would set them, imported, and run on the same rows by Spark and, as
the T-SQL that they were drawn as, by DuckDB. All rules are applied in one Spark action.

``EBI_SPARK_RULES`` and ``EBI_SPARK_RULES_SEED`` draw more, or others.
"""

import os
import random
from pathlib import Path
from typing import Any

import duckdb
from adversarial import BESIDE, CANCER, DEFORMITY, DOMINANT_HITS, HARMLESS, IMAGING_ALONE, IMAGING_SITED, SITES
from clauses import all_pass
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from tsql import to_duckdb

from ebi_spark.policy_import.import_page import import_page, write_imported
from ebi_spark.small_frames import small_frame

RULES = int(os.environ.get("EBI_SPARK_RULES", "160"))
SEED = int(os.environ.get("EBI_SPARK_RULES_SEED", "20221203"))
ROWS = 500

DIAGNOSES = [c for c in (*HARMLESS, *BESIDE, *CANCER, *DEFORMITY, "M545", "M549", "M170", "M179") if c.isalnum()]
PROCEDURES = [*DOMINANT_HITS, *IMAGING_ALONE, *IMAGING_SITED, *SITES, "V387", "V40", "W852", "XV382", "A1", "U131"]
AGE = {
    "apc": "ISNULL(apcs.Age_At_Start_of_Spell_SUS,apcs.Der_Age_at_CDS_Activity_Date)",
    "op": "ISNULL(opa.Age_at_Start_of_Episode_SUS, opa.Der_Age_at_CDS_Activity_Date)",
}
# Columns of one code or value by dataset: name on the page, values of the rows.
SINGLE: dict[str, dict[str, list[str]]] = {
    "apc": {
        "der.Spell_Dominant_Procedure": PROCEDURES,
        "der.Spell_Primary_Diagnosis": DIAGNOSES,
        "apcs.Admission_Method": ["11", "12", "21", "2A", "28", "31", "82"],
        "APCS.Patient_Classification": ["1", "2", "5"],
    },
    "op": {
        "opa.Attendance_Status": ["5", "6", "7"],
        "opa.First_Attendance": ["1", "2"],
        "opa.Treatment_Function_Code": ["110", "650", "191", "108"],
    },
}
CLINICAL = ("Procedure", "Diagnosis")


class Maker:
    """Draws rules; one instance a test."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def one(self, options: Any) -> Any:
        return self.random.choice(list(options))

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def pattern(self, code: str) -> str:
        """A code's start, perhaps with a class in its last place."""
        code = code[: self.random.choice((2, 3, 4, 4))] if len(code) > 3 else code
        if not code[:1].isalpha() or not code[1:].isdigit():
            code = self.one(("M54", "V38", "U13"))
        if self.chance(0.5):
            others = "".join(
                sorted(set(self.random.choices("0123456789", k=self.random.choice((1, 2, 4)))) | {code[-1]})
            )
            inner = self.one((others, others, "0-9", f"{min(others)}-{max(others)}"))
            code = f"{code[:-1]}[{inner}]"
        return code.lower() if self.chance(0.1) else code

    def listed(self, dataset: str) -> str:
        table = "apcs" if dataset == "apc" else "opa"
        name, pool = self.one((("Der_Diagnosis_All", DIAGNOSES), ("Der_Procedure_All", PROCEDURES)))
        column = f"{table}.{name}"
        if self.chance(0.12):
            return f"{column} IS {self.one(('', 'NOT '))}NULL"
        if self.chance(0.15):
            column = f"ISNULL({column},'')"
        return f"{column} {self.one(('', 'not '))}like '%{self.pattern(self.one(pool))}%'"

    def single(self, dataset: str) -> str:
        name = self.one(SINGLE[dataset])
        pool = SINGLE[dataset][name]
        clinical = name.endswith(CLINICAL)
        value = self.one(pool)
        kind = self.random.random()
        if kind < 0.1:
            return f"{name} IS {self.one(('', 'NOT '))}NULL"
        if clinical and kind < 0.4:
            size = self.one((3, 4))
            column = self.one((f"left({name},{size})", f"LEFT( {name} , {size})", f"substring({name},1,{size})"))
            pattern = self.pattern(value)
            if self.chance(0.5):
                fitting = [code[:size] for code in self.random.sample(pool, 6) if proper(code, size)] or ["M545"[:size]]
                return f"{column} {self.one(('', 'not '))}in ({', '.join(map(quoted, fitting))})"
            if places(pattern) > size:
                pattern = "M5" if "Diag" in name else "V3"
            return f"{column} {self.one(('', 'not '))}like '%{pattern}%'"
        if clinical and kind < 0.7:
            start = self.one(("%", ""))
            negated = f"{self.pattern(value)[:3]}[^0-4]" if len(value) > 2 and proper(value, 3) else self.pattern(value)
            pattern = self.one((self.pattern(value), self.pattern(value), negated if "[" not in negated[:3] else "M54"))
            return f"{name} {self.one(('', 'not '))}like '{start}{pattern}%'"
        values = [
            code for code in self.random.sample(pool, min(3, len(pool))) if not clinical or proper(code, len(code))
        ]
        if clinical and not values:
            values = ["M545"]
        if not clinical and kind < 0.6:
            return f"{name} {self.one(('', 'not '))}like ('{value[0]}%')"
        if kind < 0.85:
            return f"{name} {self.one(('', 'NOT '))}IN ({','.join(map(quoted, values))})"
        return f"{name}{self.one(('=', ' = ', '<>', ' <> '))}{quoted(values[0])}"

    def age(self, dataset: str) -> str:
        low = self.one((0, 18, 19, 45, 64))
        return AGE[dataset] + self.one(
            (f" between {low} and {self.one((65, 119, 120))}", f" not between {low} AND 120", f" >= {low}", f"<{low + 1}",
             f" > {low}", f" <= {low}", f" = {low}", f" <> {low}")
        )  # fmt: skip

    def atom(self, dataset: str) -> str:
        return str(self.one((self.listed, self.listed, self.single, self.single, self.age))(dataset))

    def condition(self, dataset: str, depth: int) -> str:
        """A condition; brackets are where another kind of join would take it apart, and sometimes besides."""
        if depth == 0 or self.chance(0.3):
            return self.atom(dataset)
        items = [self.condition(dataset, depth - 1) for _ in range(self.random.choice((2, 2, 3)))]
        word = self.one(("AND", "OR", "or", "and"))
        text = f" {word} ".join(items)
        return f"not ({text})" if self.chance(0.15) else f"({text})" if self.chance(0.8) else text

    def chain(self, dataset: str) -> str:
        """A chain of NOT LIKE, with its OR … IS NULL or without."""
        table = "apcs" if dataset == "apc" else "opa"
        column = f"{table}.Der_Diagnosis_All"
        text = " AND ".join(f"{column} not like '%{self.pattern(self.one(DIAGNOSES))}%'" for _ in range(3))
        return self.one((text, f"({text} OR {column} IS NULL)", f"({column} IS NULL OR {text})"))

    def rule(self, dataset: str) -> tuple[list[str], list[str]]:
        """Conditions of WHEN … THEN, then those of the exclusions below it."""
        scope = (
            f"left(der.Spell_Dominant_Procedure,4) like '%{self.one(('V38', 'V38[2-6]', 'V3', 'V40[4]'))}%'"
            if dataset == "apc" and self.chance(0.6)
            else f"{'apcs' if dataset == 'apc' else 'opa'}.Der_Procedure_All like '%{self.one(('U', 'V', 'Z6', 'U13[2356]'))}%'"
        )
        conditions = [scope]
        for _ in range(self.random.choice((1, 1, 2, 3))):
            made = self.chain(dataset) if self.chance(0.2) else self.condition(dataset, 2)
            # A rule's conditions are ANDed: an OR among them needs its brackets.
            conditions.append(f"({made})" if " or " in made.lower() and not wrapped(made) else made)
        self.random.shuffle(conditions)
        below = [self.chain(dataset)] if self.chance(0.3) else []
        return conditions, [f"({text})" if " or " in text.lower() and not wrapped(text) else text for text in below]

    def typeset(self, text: str) -> str:
        """Curly quotes, blanks round underscores, lines broken anywhere, remarks: as a page has it."""
        if self.chance(0.3):
            text = text.replace("' ", "’ ").replace("('", "(‘")
        if self.chance(0.3):
            text = text.replace("Der_", "Der _ ").replace("Spell_", "Spell_ ")
        if self.chance(0.4):
            text = text.replace(" like ", "\nlike ", 2)
        return text

    def page(self, label: str, conditions: list[str], below: list[str]) -> str:
        lines = [f"WHEN {self.typeset(conditions[0])}"]
        for text in conditions[1:]:
            lines += [self.one(("— a remark", "-- a remark"))] if self.chance(0.2) else []
            lines.append(f"AND {self.typeset(text)}")
        lines.append(f"THEN '{label}'")
        for text in below:
            lines += ["Global exclusion", "WHERE 1=1", f"AND {self.typeset(text)}"]
        return "Made up\nCoding\nSQL code\n" + "\n".join(lines) + "\n"


def quoted(code: str) -> str:
    return f"'{code}'"


def proper(code: str, size: int) -> bool:
    return len(code) >= size and code[:1].isalpha() and code[1:size].isdigit()


def places(pattern: str) -> int:
    return len(pattern.partition("[")[0]) + ("[" in pattern)


def wrapped(text: str) -> bool:
    """Whether one pair of brackets holds the whole text."""
    if not text.startswith("("):
        return False
    depth = 0
    for at, character in enumerate(text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0:
            return at == len(text) - 1
    return False


def rows_of(maker: Maker) -> list[dict[str, Any]]:
    """Records as silver has them, and the lists also as sources write them (``raw_…``)."""
    rows = []
    for number in range(ROWS):
        row: dict[str, Any] = {
            "record_id": str(number),
            "age": maker.one((None, 0, 18, 19, 45, 64, 65, 120, 121, 7001)),
        }
        for name, pool in (("diagnosis_codes", DIAGNOSES), ("procedure_codes", PROCEDURES)):
            episodes = [[maker.one(pool) for _ in range(maker.one((1, 1, 2, 4)))] for _ in range(maker.one((1, 1, 2)))]
            empty = maker.chance(0.2)
            row[name] = None if empty else ",|".join("," + ",".join(codes) for codes in episodes) + ","
            row[f"raw_{name}"] = None if empty else "||" + "||".join(",".join(codes) for codes in episodes)
        for name, pool in {k: v for columns in SINGLE.values() for k, v in columns.items()}.items():
            row[COLUMNS[name.partition(".")[2].upper()]] = None if maker.chance(0.15) else maker.one(pool)
        row["dominant_procedure_4"] = row["dominant_procedure"] and row["dominant_procedure"][:4]
        rows.append(row)
    return rows


COLUMNS = {
    "SPELL_DOMINANT_PROCEDURE": "dominant_procedure", "SPELL_PRIMARY_DIAGNOSIS": "primary_diagnosis",
    "ADMISSION_METHOD": "admission_method", "PATIENT_CLASSIFICATION": "patient_classification",
    "ATTENDANCE_STATUS": "attendance_status", "FIRST_ATTENDANCE": "first_attendance",
    "TREATMENT_FUNCTION_CODE": "treatment_function",
}  # fmt: skip


def in_duckdb(rows: list[dict[str, Any]], rules: dict[str, tuple[str, str]]) -> dict[str, set[str]]:
    """Of each rule, by its T-SQL, the records for which it is true."""
    connection = duckdb.connect()
    names = ["record_id", "age", "raw_diagnosis_codes", "raw_procedure_codes", *COLUMNS.values()]
    kinds = ", ".join(f"{name} {'INTEGER' if name == 'age' else 'VARCHAR'}" for name in names)
    connection.execute(f"CREATE TABLE rows ({kinds})")
    connection.executemany(
        f"INSERT INTO rows VALUES ({', '.join('?' for _ in names)})", [[row[name] for name in names] for row in rows]
    )
    shown = ", ".join(f"{ours} AS {theirs}" for theirs, ours in COLUMNS.items())
    # Half of the ages are only in the fallback column.
    connection.execute(
        f"CREATE TABLE apcs AS SELECT record_id, raw_diagnosis_codes AS Der_Diagnosis_All, raw_procedure_codes AS "
        f"Der_Procedure_All, CASE WHEN record_id::INTEGER % 2 = 0 THEN age END AS Age_At_Start_of_Spell_SUS, "
        f"Age_At_Start_of_Spell_SUS AS Age_at_Start_of_Episode_SUS, age AS Der_Age_at_CDS_Activity_Date, {shown} FROM rows"
    )
    tables = {"apc": "apcs JOIN apcs AS der USING (record_id)", "op": "apcs AS opa"}
    found: dict[str, set[str]] = {}
    for label, (dataset, condition) in rules.items():
        key = "apcs.record_id" if dataset == "apc" else "opa.record_id"
        hits = connection.execute(f"SELECT {key} FROM {tables[dataset]} WHERE {to_duckdb(condition)}").fetchall()
        found[label] = {hit[0] for hit in hits}
    return found


def test_imported_rules_judge_as_their_sql(spark: SparkSession, tmp_path: Path) -> None:
    maker = Maker(SEED)
    rows = rows_of(maker)
    rules: dict[str, tuple[str, str]] = {}
    columns: list[Column] = []
    for number in range(RULES):
        dataset = "apc" if number % 2 else "op"
        conditions, below = maker.rule(dataset)
        label = f"r{number}_rule"
        page = tmp_path / f"{label}.txt"
        page.write_text(maker.page(label, conditions, below), encoding="utf-8")
        imported = import_page(page)
        _, _, policy = write_imported(imported, tmp_path / "policies")
        assert policy.dataset == dataset
        rules[label] = (dataset, " AND ".join(f"({text})" for text in (*conditions, *below)))
        columns.append(all_pass(policy.revisions[0].readings["as_published"].clauses, dataset))
    expected = in_duckdb(rows, rules)
    names = ["record_id", "age", "diagnosis_codes", "procedure_codes", *COLUMNS.values(), "dominant_procedure_4"]
    schema = ", ".join(f"{name} {'int' if name == 'age' else 'string'}" for name in names)
    frame = small_frame(spark, [{name: row[name] for name in names} for row in rows], schema)
    applied = frame.select(
        "record_id", F.concat(*[F.when(c, "1").otherwise("0") for c in columns]).alias("hits")
    ).collect()
    found = {label: {row["record_id"] for row in applied if row["hits"][n] == "1"} for n, label in enumerate(rules)}
    wrong = {
        label: (rules[label][1], sorted(found[label] ^ expected[label])[:5])
        for label in rules
        if found[label] != expected[label]
    }
    assert wrong == {}
    telling = [label for label in rules if 0 < len(expected[label]) < ROWS]
    assert len(telling) > RULES / 2, len(telling)
    print(f"{len(rules)} rules, {len(telling)} true of some rows and not of others")

"""Many source rows from few: a part that is made up, and copies of it with their own keys and patients. Making up all rows of a
national year takes an hour; copying takes minutes. SUS+ or HES, Parquet or text files."""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from benchmarks.duckdb_tables import rows_in
from benchmarks.measure import measured

SPELL = "APCS_Ident"
_PERSON, _HES_PERSON = "Der_Pseudo_NHS_Number", "PSEUDO_HESID"
# The columns of each table that a copy has of its own: the key, what joins the episodes of a spell, and the person.
_OWN = {
    "apcs": (SPELL, _PERSON),
    "apcs_der": (SPELL,),
    "opa": ("OPA_Ident", _PERSON),
    "apc": ("EPIKEY", "PROVSPNOPS", "SUSRECID", _HES_PERSON),
    "op": ("ATTENDKEY", "SUSRECID", _HES_PERSON),
}
REGISTER_FILE = "data/prior_approval/prior_approval.csv"
# Larger than any made-up number.
APART = 10**13
# Of a million made-up spells 16,000 are fusions, so that little data has some; England has 5,000 in 20 million. Only the first copy
# has fusions: otherwise most of the work would be for operations that nobody does. (Copies of HES, which only an ingest reads, have
# theirs.)
FUSION = "regexp_matches(Spell_Dominant_Procedure, '^V(38[2-6]|404)')"


def made_part(
    place: Path,
    rows: int,
    year: str,
    seed: int,
    tell: Callable[[str], None],
    system: str = "sus_plus",
    file_format: str = "parquet",
) -> Path:
    """Source files of ``rows`` spells, derived rows and attendances each, made up unless they are there."""
    if not (place / "run.yml").exists():
        tell(f"making {rows:,} spells and attendances")
        arguments = ["--out", str(place), "--years", year, "--format", file_format, "--system", system]
        arguments += ["--seed", str(seed), "--json"]
        measured("jobs.generate", [*arguments, "--spells", str(rows), "--attendances", str(rows)], {})
    return place


def write_copies(part: Path, target: Path, numbers: Mapping[str, int]) -> None:
    """Write that many copies of each table of a part into ``target``, all but the first without fusions; ``run.yml`` is written
    last."""
    for table, number in numbers.items():
        files = _files(part, table)
        ending = files[0].suffix
        fusions = f"SELECT {SPELL} FROM {rows_in(part / 'data' / 'apcs_der' / f'*{ending}')} WHERE {FUSION}"
        form = "FORMAT csv, HEADER" if ending == ".csv" else "FORMAT parquet, COMPRESSION zstd"
        (target / "data" / table).mkdir(parents=True, exist_ok=True)
        with duckdb.connect(config={"threads": 2}) as connection:
            for copy, file in itertools.product(range(number), files):
                rows = rows_in(file)
                kinds = {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE FROM {rows}").fetchall()}
                own = [n for n in kinds if n.upper() in map(str.upper, _OWN[table])]
                changed = ", ".join(f"{_of_copy(name, kinds[name], copy)} AS {name}" for name in own)
                place = target / "data" / table / f"{file.stem}_{copy:03}{ending}"
                left_out = f"ANTI JOIN ({fusions}) USING ({SPELL})" if copy and SPELL in _OWN[table] else ""
                connection.execute(
                    f"COPY (SELECT * EXCLUDE (filename) REPLACE ({changed}) FROM {rows} {left_out}) TO '{place}' ({form})"
                )
    copy_others(part, target)


def _of_copy(name: str, kind: str, copy: int) -> str:
    """A key of a copy: a larger number, or a text with the copy's number. No key stays none; the first copy is unchanged."""
    if copy == 0:
        return name
    if kind != "VARCHAR":
        return f"{name} + {copy * APART}"
    larger = f"(try_cast({name} AS HUGEINT) + {copy * APART})::VARCHAR"
    return (
        f"coalesce({larger}, CASE WHEN upper(trim({name})) NOT IN ('', 'NULL') THEN {name} || '{copy:03}' END, {name})"
    )


def _files(source: Path, table: str) -> list[Path]:
    return sorted(file for file in (source / "data" / table).rglob("*") if file.suffix in (".parquet", ".csv"))


def copy_others(part: Path, target: Path) -> None:
    """Copy what is not a table of records: the configuration and the practices and, where they are there, the register of approvals
    and the fifths of deprivation."""
    for name in (REGISTER_FILE, "deprivation.csv", "deprivation_people.csv", "practices.csv", "run.yml"):
        if name in ("practices.csv", "run.yml") or (part / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((part / name).read_bytes())


def rows_of(source: Path) -> dict[str, int]:
    """Rows of each table of a source folder."""
    return {table: sum(map(_rows, files)) for table in _OWN if (files := _files(source, table))}


def _rows(file: Path) -> int:
    if file.suffix == ".parquet":
        return int(pq.read_metadata(file).num_rows)
    return int(duckdb.sql(f"SELECT count(*) FROM {rows_in(file)}").fetchall()[0][0])

"""Many source rows from few: a part that is made up, and copies of it with their own keys and patients. Making up all rows of a
national year takes an hour; copying takes minutes."""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from benchmarks.measure import measured

KEYS = {"apcs": "APCS_Ident", "apcs_der": "APCS_Ident", "opa": "OPA_Ident"}
PERSON = "Der_Pseudo_NHS_Number"
REGISTER_FILE = "data/prior_approval/prior_approval.csv"
# Larger than any made-up number.
APART = 10**13
# Of a million made-up spells 16,000 are fusions, so that little data has some; England has 5,000 in 20 million. Only the first copy
# has fusions: otherwise most of the work would be for operations that nobody does.
FUSION = "regexp_matches(Spell_Dominant_Procedure, '^V(38[2-6]|404)')"


def made_part(place: Path, rows: int, year: str, seed: int, tell: Callable[[str], None]) -> Path:
    """Source files of ``rows`` spells, derived rows and attendances each, made up unless they are there."""
    if not (place / "run.yml").exists():
        tell(f"making {rows:,} spells and attendances")
        arguments = ["--out", str(place), "--years", year, "--format", "parquet", "--seed", str(seed), "--json"]
        measured("jobs.generate", [*arguments, "--spells", str(rows), "--attendances", str(rows)], {})
    return place


def write_copies(part: Path, target: Path, numbers: Mapping[str, int]) -> None:
    """Write that many copies of each table of a part into ``target``, all but the first without fusions; ``run.yml`` is written
    last."""
    derived = part / "data" / "apcs_der" / "*.parquet"
    fusions = f"SELECT {KEYS['apcs_der']} FROM read_parquet('{derived}') WHERE {FUSION}"
    for table, number in numbers.items():
        files = sorted((part / "data" / table).glob("*.parquet"))
        (target / "data" / table).mkdir(parents=True, exist_ok=True)
        renumbered = [name for name in (KEYS[table], PERSON) if name in pq.read_schema(files[0]).names]
        with duckdb.connect(config={"threads": 2}) as connection:
            for copy, file in itertools.product(range(number), files):
                changed = ", ".join(f"{name} + {copy * APART} AS {name}" for name in renumbered)
                place = target / "data" / table / f"{file.stem}_{copy:03}.parquet"
                left_out = f"ANTI JOIN ({fusions}) USING ({KEYS[table]})" if copy and table != "opa" else ""
                connection.execute(
                    f"COPY (SELECT * REPLACE ({changed}) FROM read_parquet('{file}') {left_out}) "
                    f"TO '{place}' (FORMAT parquet, COMPRESSION zstd)"
                )
    copy_others(part, target)


def copy_others(part: Path, target: Path) -> None:
    """Copy what is not a table of records: the configuration and the practices and, where they are there, the register of approvals
    and the fifths of deprivation."""
    for name in (REGISTER_FILE, "deprivation.csv", "deprivation_people.csv", "practices.csv", "run.yml"):
        if name in ("practices.csv", "run.yml") or (part / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((part / name).read_bytes())


def rows_of(source: Path) -> dict[str, int]:
    """Rows of each table of a source folder."""
    return {
        table: sum(pq.read_metadata(file).num_rows for file in (source / "data" / table).rglob("*.parquet"))
        for table in KEYS
    }

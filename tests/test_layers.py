"""A folder of the package imports only from those above it, so that a change has one direction to look in."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "ebi_spark"
# From the top down. What several layers share comes first.
LAYERS = (
    "errors", "quoting", "financial_years", "own_files", "small_files", "spark_types", "small_frames", "threads",
    "tables", "config", "spark", "lake", "statistics", "sources", "records", "geography", "policies", "policy_import", "flags",
    "pathway", "approvals", "case_audit", "rates", "validation", "release", "report", "exports", "runs", "stages", "synthetic",
    "api",
)  # fmt: skip


def imported(path: Path) -> Iterator[str]:
    """The folders and modules of the package that a module imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "ebi_spark":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ebi_spark."):
            yield str(node.module).split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("ebi_spark."))


def test_nothing_is_imported_upwards() -> None:
    upwards = []
    for path in sorted(PACKAGE.rglob("*.py")):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        assert own in LAYERS, f"{own} has no place among the layers"
        for other in imported(path):
            if other in LAYERS and other != own and LAYERS.index(other) > LAYERS.index(own):
                upwards.append(f"{path.relative_to(PACKAGE)} imports {other}")
    assert upwards == []


def test_only_the_lake_writes_delta() -> None:
    writers = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if ".save(" in path.read_text()]
    assert sorted(writers) == [
        "lake/adopted_files.py",
        "lake/staging_area.py",
        "lake/storage.py",
    ]
    small = [
        path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if "write_deltalake" in path.read_text()
    ]
    assert small == ["lake/small_writes.py"]

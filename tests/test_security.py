"""Configuration is data: nothing that a file says is run as code, by Python or by SQL."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

from ebi_spark.config.load import load_config
from ebi_spark.errors import InputError
from ebi_spark.lake.permissions import restrict_new_files

ROOT = Path(__file__).parent.parent
MODULES = sorted([*(ROOT / "ebi_spark").rglob("*.py"), *(ROOT / "jobs").rglob("*.py")])


@pytest.mark.parametrize(
    "value",
    ["!!python/object/apply:os.system ['touch pwned']", "!!python/name:os.system", "!!python/object:os.PathLike {}"],
)
def test_yaml_makes_no_objects(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.yml"
    path.write_text(f"lake: {value}\nsources: {{}}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"run\.yml, line 1"):
        load_config(path)
    assert not (tmp_path / "pwned").exists()


def test_no_module_runs_text_as_code() -> None:
    """``eval`` and its kin, shells and unsafe loading are used nowhere; ``yaml.load`` only with a loader that is safe."""
    found = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            keywords = {item.arg: ast.unparse(item.value) for item in node.keywords}
            if name in (
                "eval",
                "exec",
                "compile",
                "__import__",
                "os.system",
                "os.popen",
                "pickle.loads",
                "pickle.load",
            ):
                found.append((path.name, name))
            unsafe = name.startswith("yaml.") and "load" in name and name != "yaml.safe_load"
            if unsafe and keywords.get("Loader") != "_PlainLoader":
                found.append((path.name, name))
            if keywords.get("shell", "False") != "False":
                found.append((path.name, "shell"))
    assert found == []


def test_sql_is_built_in_one_place_from_quoted_names() -> None:
    """SQL as text is given to Spark in few places: ``lake/``, ``spreadsheets`` and ``unity_catalog`` (names between backticks, values as literals),
    ``violations`` and ``file_counts`` (the rules of the shipped suites), ``apply_policies`` (expressions of its own), where rows are read,
    cleaned and staged, and where columns are compared with lists of codes (names and values by :mod:`ebi_spark.quoting`)."""
    places = {
        path.relative_to(ROOT).as_posix()
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith(("spark.sql", "sparkSession.sql", "F.expr", ".selectExpr", "in_steps"))
        and not _constant(node)
    }
    read_and_compared = {
        "ebi_spark/api.py",
        "ebi_spark/config/default_codes.py",
        "ebi_spark/geography/output_areas.py",
        "ebi_spark/geography/record_areas.py",
        "ebi_spark/policies/code_prefilter.py",
        "ebi_spark/policies/compile.py",
        "ebi_spark/records/checksums.py",
        "ebi_spark/records/cleaning.py",
        "ebi_spark/records/hes.py",
        "ebi_spark/records/row_status.py",
        "ebi_spark/records/staging.py",
        "ebi_spark/records/sus_plus.py",
        "ebi_spark/sources/reader.py",
    }
    assert places == read_and_compared | {
        "ebi_spark/exports/unity_catalog.py",
        "ebi_spark/flags/apply_policies.py",
        "ebi_spark/lake/catalogue.py",
        "ebi_spark/lake/earlier_releases.py",
        "ebi_spark/lake/maintenance.py",
        "ebi_spark/lake/migration.py",
        "ebi_spark/lake/new_tables.py",
        "ebi_spark/lake/staging_area.py",
        "ebi_spark/lake/storage.py",
        "ebi_spark/lake/versions.py",
        "ebi_spark/lake/writers.py",
        "ebi_spark/records/file_counts.py",
        "ebi_spark/release/spreadsheets.py",
        "ebi_spark/validation/violations.py",
    }


def _constant(node: ast.Call) -> bool:
    return all(isinstance(item, ast.Constant) for item in node.args)


def test_new_files_are_closed_to_others(tmp_path: Path) -> None:
    import os

    before = os.umask(0o022)
    try:
        restrict_new_files()
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o700


def test_locked_packages_that_were_withdrawn_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(__file__).parent.parent / ".ci" / "audit.py"
    spec = importlib.util.spec_from_file_location("audit", place)
    assert spec and spec.loader
    audit = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(audit)
    sums = {name: f"{number:064x}" for number, name in enumerate(("good", "bad", "gone", "blocked"))}
    lock = "".join(
        f'{name}==1.{n} ; python_version < "4" \\\n    --hash=sha256:{sums[name]}\n' for n, name in enumerate(sums)
    )
    packages = audit.locked(lock)
    assert [(name, version) for name, version, _ in packages] == [(name, f"1.{n}") for n, name in enumerate(sums)]
    pages = {
        "good": {"files": [{"hashes": {"sha256": sums["good"]}, "yanked": False}]},
        "bad": {"files": [{"hashes": {"sha256": sums["bad"]}, "yanked": "it loses rows"}]},
        "gone": {"files": [{"hashes": {"sha256": "f" * 64}}]},
        "blocked": {"files": [{"hashes": {"sha256": sums["blocked"]}}], "project-status": {"status": "quarantined"}},
    }
    monkeypatch.setattr(audit, "asked", lambda path: pages[path.split("/")[1]])
    wrong = [" ".join(audit.judged(package)[0]) for package in packages]
    assert [bool(text) for text in wrong] == [False, True, True, True]
    assert "it loses rows" in wrong[1]


def test_every_locked_package_has_its_hashes() -> None:
    locks = sorted((Path(__file__).parent.parent).glob("requirements*.lock"))
    assert {"requirements.lock", "requirements-build.lock"} <= {lock.name for lock in locks}
    hashed = re.compile(r"[^\n]+ \\(\n +--hash=sha256:[0-9a-f]{64}( \\)?)+\n*")
    for lock in locks:
        text = lock.read_text(encoding="utf-8")
        assert "://" not in text
        packages = [
            entry
            for entry in re.split(r"^(?=\S)", text, flags=re.MULTILINE)
            if entry.strip() and not entry.startswith("#")
        ]
        assert packages, lock
        assert [entry for entry in packages if not hashed.fullmatch(entry)] == []

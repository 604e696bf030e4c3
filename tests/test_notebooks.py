"""The notebooks run from top to bottom, on their own made-up data, and say what their data says."""

import ast
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from ebi_spark.tables.schemas import TABLES

FOLDER = Path(__file__).parents[1] / "notebooks"


def cells_of(name: str) -> list[str]:
    """The code of a notebook, which is committed without output."""
    notebook = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    return ["".join(cell["source"]) for cell in code]


def run(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the cells of a notebook in its folder, and show the last value of each, as a kernel would."""
    monkeypatch.chdir(FOLDER)
    plt.switch_backend("Agg")
    scope: dict[str, Any] = {}
    for number, cell in enumerate(cells_of(name)):
        tree = ast.parse(cell)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"{name}, cell {number}", "exec"), scope)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"{name}, cell {number}", "eval"), scope)
            if isinstance(value, pd.DataFrame):
                assert value._repr_html_()
    for figure in map(plt.figure, plt.get_fignums()):
        figure.canvas.draw()
    return scope


def test_the_tour(spark: SparkSession, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    plt.close("all")
    scope = run("tour.ipynb", monkeypatch)
    assert len(plt.get_fignums()) == 4
    plt.close("all")
    # Limits of a count of 10 where 10 are expected, of any table of Poisson limits: 4.80 to 18.39.
    low, high = scope["funnel_limits"](pd.Series([10.0]).to_numpy(), 0.95)
    assert (round(float(low[0]) * 10, 2), round(float(high[0]) * 10, 2)) == (4.80, 18.39)
    first, second = capsys.readouterr().out.strip().split("\n\n")
    assert "is flagged by the policy 2Y_back_pain_fusion" in first
    assert "deformity, because it has M419 (Scoliosis, unspecified); global_cancer, because it has C795 (" in second


def test_the_sandbox(spark: SparkSession, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    plt.close("all")
    scope = run("sandbox.ipynb", monkeypatch)
    assert len(plt.get_fignums()) == 1
    plt.close("all")
    # The same policy, written once more in pandas.
    spells = scope["made_up"]
    inside = spells[spells.dominant_procedure == "W85.2"]
    met = inside.primary_diagnosis.str.startswith("M17") & (inside.age >= 19)
    locked = inside.diagnosis_codes.str.contains(r"M23\.[24]")
    missing = inside.diagnosis_codes == ""
    infected = inside.diagnosis_codes.str.contains("M00")
    expected = {
        "as_published": met & ~locked & ~missing,
        "as_intended": met & ~locked,
        "guidance_coded": met & ~locked & ~infected,
    }
    for reading, rows in scope["flags"].items():
        assert len(rows) == len(inside)
        assert {*rows.record_id[rows.outcome == "flagged"]} == {*inside.record_id[expected[reading]]}, reading
    assert len(scope["changed"]) == int((met & missing).sum()) > 0
    printed = capsys.readouterr().out
    assert (
        "locked_knee, because any diagnosis is missing" in printed
        and "(Endoscopic irrigation of knee joint)" in printed
    )


@pytest.mark.parametrize("name", ["rate", "reading_effect", "policy"])
def test_the_made_up_release_has_columns_of_published_tables(name: str) -> None:
    rows = pd.read_csv(FOLDER / "made_up" / f"{name}.csv")
    assert {*rows.columns} <= {*TABLES[f"published/{name}"].names()} and len(rows) > 5
    assert {*rows.release_id} == {"made-up"}

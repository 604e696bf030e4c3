"""Each key of the configuration is described once; schema, documentation and stages follow from it."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from ebi_spark.config.keys import Key, NotInFile, default_of, object_schema, settings_of, stages_of
from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.load import load_config, run_schema
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.shipped_files import resource
from ebi_spark.config.source_tables import TableSource
from ebi_spark.errors import InputError
from ebi_spark.runs.stage_inputs import STAGES
from ebi_spark.synthetic.writing import write_run
from jobs import demo, run

CONFIG = RunConfig(LakeLocation(folder=Path("/lake")))


@dataclass(frozen=True)
class Inner:
    path: Annotated[str, Key("A path.")]
    kind: Annotated[Literal["a", "b"], Key("A kind.")] = "a"


@dataclass(frozen=True)
class Outer:
    name: Annotated[str, Key("A name.", hint="a name")]
    number: Annotated[int, Field(ge=1, le=9), Key("A number.", stages=("rate",))] = 3
    inside: Annotated[Path | None, Key("A file.", name="group.file")] = None
    months: Annotated[tuple[int, int], Key("Months.", written=Annotated[str, Field(pattern="^x$")])] = (1, 2)
    inner: Annotated[tuple[Inner, ...], Key("A list.", of=Inner, each="[]")] = ()
    named: Annotated[dict[str, Inner], Key("A mapping.", of=Inner, each=".NAME")] = field(default_factory=dict)
    run: Annotated[str, NotInFile()] = ""
    unknown: str = ""


def test_the_schema_of_a_class_of_settings() -> None:
    inner = {
        "required": ["path"],
        "type": "object",
        "additionalProperties": False,
        "properties": {"path": {"type": "string"}, "kind": {"enum": ["a", "b"]}},
    }
    file = {"type": "object", "additionalProperties": False, "properties": {"file": {"type": "string"}}}
    assert object_schema(Outer) == {
        "required": ["name"],
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "description": "a name"},
            "number": {"type": "integer", "minimum": 1, "maximum": 9},
            "group": file,
            "months": {"type": "string", "pattern": "^x$"},
            "inner": {"type": "array", "items": inner},
            "named": {"type": "object", "minProperties": 1, "additionalProperties": inner},
        },
    }
    # A field that says nothing counts for every stage, so it is not listed.
    assert stages_of(Outer)["number"] == ("rate",) and "unknown" not in stages_of(Outer)


def test_the_shipped_schema_is_that_of_the_settings() -> None:
    assert json.loads(resource("conf", "run.schema.json").read_text(encoding="utf-8")) == run_schema()


@pytest.mark.parametrize("setting", settings_of(RunConfig), ids=lambda setting: str(setting.name))
def test_a_key_is_documented_and_its_default_is_within_its_bounds(setting: Any) -> None:
    assert setting.key.meaning.endswith((".", ")")) and set(setting.key.stages) <= set(STAGES)
    if not setting.is_required:
        TypeAdapter(setting.annotation).validate_python(default_of(setting.field))


def test_every_key_of_a_table_has_its_default_in_words() -> None:
    assert [setting.name for setting in settings_of(TableSource) if not setting.key.default] == []


@pytest.mark.parametrize(
    "wrong",
    [{"max_columns": 0}, {"max_quarantine_share": 1.5}, {"mode": "append"}, {"years": "2021-22"}, {"no_such": 1}],
)
def test_a_wrong_value_is_refused_also_in_code(wrong: dict[str, Any]) -> None:
    with pytest.raises((ValidationError, TypeError)):
        replace(CONFIG, **wrong)


@pytest.mark.parametrize(("written", "kept"), [("0", "0"), ("1", "1"), ("0.50", "0.5")])
def test_a_share_is_recorded_as_it_was_always_recorded(written: str, kept: str, tmp_path: Path) -> None:
    """The run log compares settings as JSON: 0 that became 0.0 would make every year due."""
    path = tmp_path / "run.yml"
    path.write_text(f"lake: ./x\nsources: {{a: {{system: hes, tables: {{op: x}}}}}}\nmax_quarantine_share: {written}\n")
    assert json.dumps(load_config(path).max_quarantine_share) == kept


def test_made_up_files_say_that_they_are_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "demo" / "source" / "run.yml"
    path.parent.mkdir(parents=True)
    write_run(path, ["2021-22"], {"a": ("sus_plus", {"opa": {"path": "opa.csv"}})}, [])
    assert load_config(path).data_kind == "synthetic" and CONFIG.data_kind == "real"
    assert stages_of(RunConfig)["data_kind"] == ("publish",)
    path.write_text(path.read_text().replace("data_kind: synthetic", "data_kind: invented"))
    with pytest.raises(InputError, match="data_kind"):
        load_config(path)
    # The files of a demo of an earlier version say it from now on.
    path.write_text(path.read_text().replace("data_kind: invented\n", ""))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "main", lambda _: 7)
    assert demo.main([]) == 7 and load_config(path).data_kind == "synthetic"
    before = path.read_text()
    assert demo.main([]) == 7 and path.read_text() == before

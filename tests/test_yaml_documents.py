"""YAML that no reader should meet: refused by name, before anything is built of it."""

import os
import re
from pathlib import Path

import pytest

from ebi_spark.config.shipped_files import resource
from ebi_spark.config.yaml_documents import MOST_DEPTH, load_document
from ebi_spark.errors import InputError

# A file with … → what is said
TEXTS = {
    "aliases that explode": (
        "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)),
        "line 6: there are more than 200,000 values when aliases are expanded",
    ),
    "an alias that holds itself": ("lake: &a [*a]", "line 1: the alias 'a' contains itself"),
    "an alias of nothing": ("lake: *a", "line 1: found undefined alias"),
    "100,000 nested lists": ("lake: " + "[" * 100_000, "nested more than 50 deep"),
    "100,000 lists nested by hyphens": ("- " * 100_000, "nested more than 50 deep"),
    "mappings nested by indentation": (
        "\n".join(" " * n + "a:" for n in range(300)),
        "line 51: lists and mappings",
    ),
    "300,000 values": ("lake: [" + "1," * 300_000 + "]", "more than 200,000 values"),
    "several documents": ("---\nlake: x\n" * 10_000, "line 3: but found another document"),
    "3 MB": ("lake: " + "a" * 3_000_000, "more than 2,000,000 bytes"),
    "a number of 10,000 digits": ("lake: " + "9" * 10_000, "has a value that cannot be read (ValueError)"),
    "a number of 3,000 sixtieths": ("lake: " + "1:" * 3_000 + "1", "line 1: a number of more than 18 digits"),
    "a list for a key": ("[a]: 1", "line 1: a key is not text (list)"),
    "a number for a key": ("1: 2", "line 1: a key is not text (int)"),
    "a NUL byte": ("lake: \0x", "not YAML"),
    "a tag of Python": ("lake: !!python/object/apply:os.system [x]", "could not determine a constructor for the tag"),
    "a list in place of keys": ("[1, 2]", "has no keys"),
    "nothing in it": ("", "has no keys"),
}


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as refused:
        load_document(path, resource("conf", "run.schema.json"), what="configuration")
    assert refused.value.remedy and str(path) in refused.value.message
    return refused.value.message


@pytest.mark.parametrize("name", TEXTS)
def test_yaml_that_is_refused(name: str, tmp_path: Path) -> None:
    text, said = TEXTS[name]
    path = tmp_path / "run.yml"
    path.write_text(text, encoding="utf-8")
    assert said in refusal(path)


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yml")
    (tmp_path / "link.yml").symlink_to("/dev/zero")
    for path, said in (
        (Path("/dev/zero"), "is a device"),
        (tmp_path / "pipe.yml", "is a named pipe"),
        (tmp_path / "link.yml", "is a device"),
        (tmp_path, "cannot be read (IsADirectoryError)"),
    ):
        assert said in refusal(path)
    assert "there is no file" in refusal(tmp_path / "none.yml")


def test_what_is_within_the_limits_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.yml"
    rest = "sources: {a: {system: hes, tables: {op: x.csv}}}\n"
    path.write_text(f"lake: ./x\n{rest}policies: &a [p, q]\npolicy_dirs: *a\n")
    found = load_document(path, resource("conf", "run.schema.json"), what="configuration")
    assert found["policy_dirs"] == found["policies"] == ["p", "q"]
    # One level more than is allowed is what is refused, not what is there.
    for depth, said in ((MOST_DEPTH - 1, "lake"), (MOST_DEPTH, "nested more than")):
        path.write_text(f"lake: {'[' * depth}{']' * depth}\n{rest}")
        assert said in refusal(path)


def test_the_page_of_bad_input_lists_these() -> None:
    text = (Path(__file__).parent.parent / "docs" / "bad-input.md").read_text(encoding="utf-8")
    section = text.split("## Configurations and policies in YAML\n")[1].split("\n## ")[0]
    rows = [re.fullmatch(r"\| (.+?) \| `(.+)` \|", line) for line in section.splitlines()]
    assert {row[1]: row[2] for row in rows if row} == {name: said for name, (_, said) in TEXTS.items()}


SHIPPED = sorted(resource("conf", "layouts.yml").parent.glob("*.yml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_document_has_a_schema_beside_it(path: Path, tmp_path: Path) -> None:
    schema = path.with_name(f"{path.stem}.schema.json")
    document = load_document(path, schema, what="shipped")
    assert document
    # The schema knows all keys: another one beside them is refused.
    more = tmp_path / path.name
    more.write_text(f"{path.read_text(encoding='utf-8')}\nNO_SUCH_KEY: 1\n", encoding="utf-8")
    with pytest.raises(InputError, match="NO_SUCH_KEY"):
        load_document(more, schema, what="shipped")

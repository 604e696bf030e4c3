"""The documents agree with the product: cited decisions exist, links lead somewhere, generated pages are current, examples are right."""

import doctest
import importlib
import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from test_layers import LAYERS

from ebi_spark.config.load import load_config
from ebi_spark.policies.load import load_policies
from jobs import cli
from jobs.arguments import JobParser

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("conf/*/README.md")])
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
# Modules with examples that need no session. Those of `api.py` need one: `test_api.py` runs them.
WITH_EXAMPLES = [
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for path in sorted((ROOT / "ebi_spark").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8") and path.name != "api.py"
]
CITED = re.compile(r"[Dd]ecisions? (\d+)(?: (?:to|and) (\d+))?")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are made on code hosts."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def decisions() -> set[int]:
    text = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    return {int(number) for number in re.findall(r"^### Decision (\d+):", text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_internal_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        there = (page.parent / target).resolve() if target else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            broken.append(f"{target}#{anchor}" if anchor else target)
    assert not broken


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_in_docstrings_are_right(module: str) -> None:
    tried = doctest.testmod(importlib.import_module(module))
    assert tried.attempted and not tried.failed


def test_generated_pages_are_current() -> None:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs" / "generate.py")
    assert spec and spec.loader
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    stale = [page.name for page, text in generate.pages().items() if page.read_text(encoding="utf-8") != text]
    assert stale == [], "run `make docs`"


class Parsed(Exception):
    """Raised when the arguments of a command have been parsed, instead of the work."""


def commands() -> list[tuple[str, str]]:
    """Each command in a block of shell commands, or after a prompt, with its page."""
    found = []
    for page in PAGES:
        for language, block in re.findall(
            r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        ):
            prompt = "" if language == "sh" else r"\$ "
            typed = re.findall(rf"^{prompt}(?:[A-Z_]+=\S+ )?(?:\S*/)?ebi-spark (.+)$", block, re.MULTILINE)
            found += [(page.name, command) for command in typed]
    return found


def test_commands_on_pages_can_be_typed_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments of each are understood; the work is left out."""
    parse = JobParser.parse_args

    def parse_only(self: JobParser, *arguments: Any) -> Any:
        parse(self, *arguments)
        raise Parsed

    monkeypatch.setattr(JobParser, "parse_args", parse_only)
    tried = commands()
    assert len(tried) > 30
    for page, command in tried:
        words = shlex.split(command.partition(" > ")[0], comments=True)
        try:
            cli.main(words)
        except Parsed:
            continue
        except SystemExit as ended:
            pytest.fail(f"{page}: ebi-spark {command}: status {ended.code}")
        pytest.fail(f"{page}: ebi-spark {command}: there is no such command")


def examples(page: str, first_key: str) -> list[str]:
    """The YAML examples of a page that begin with a key."""
    blocks: list[str] = re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    return [block for block in blocks if block.startswith(f"{first_key}:")]


@pytest.mark.parametrize("page", ["README.md", "docs/configuration.md"])
def test_example_configurations_are_read(page: str, tmp_path: Path) -> None:
    (example,) = examples(page, "lake")
    path = tmp_path / "run.yml"
    path.write_text(example, encoding="utf-8")
    assert [source.name for source in load_config(path).sources] == ["admitted", "outpatient"]


def test_the_smallest_configuration_has_ten_lines() -> None:
    assert len(examples("README.md", "lake")[0].splitlines()) == 10


def test_example_policies_are_read(tmp_path: Path) -> None:
    national, local = examples("docs/policies.md", "id")
    (tmp_path / "example_knee_washout.yml").write_text(national, encoding="utf-8")
    (tmp_path / "example_board_fusion.yml").write_text(local, encoding="utf-8")
    found = {policy.id: policy for policy in load_policies([tmp_path])}
    assert found["example_knee_washout"].dataset == "apc" and found["example_board_fusion"].boards == ("QJ2",)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_the_architecture_page_has_every_folder_in_order() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    folders = [name for name in LAYERS if (ROOT / "ebi_spark" / name).is_dir()]
    assert re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE) == folders
    named = set(re.findall(r"`((?:\w+/)+\w+\.py)`", text))
    assert (
        named and [name for name in named if not any((top / name).exists() for top in (ROOT, ROOT / "ebi_spark"))] == []
    )


def test_the_architecture_page_names_every_module() -> None:
    """But those that make data up: nothing of the product uses them."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = {name.rpartition("/")[2].removesuffix(".py") for name in re.findall(r"`([\w/.]+)`", text)}
    folders = [ROOT / "ebi_spark" / name for name in LAYERS if name != "synthetic"]
    modules = {path.stem: path for folder in folders for path in folder.glob("[!_]*.py")}
    assert modules and {str(path.relative_to(ROOT)) for name, path in modules.items() if name not in named} == set()


def test_every_decision_that_is_cited_is_written_down() -> None:
    known = decisions()
    cited: dict[int, str] = {}
    for folder in ("ebi_spark", "jobs", "conf", "expectations", "tests", "docs"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".py", ".yml", ".md", ".j2"}:
                for first, last in CITED.findall(path.read_text(encoding="utf-8")):
                    for number in range(int(first), int(last or first) + 1):
                        cited[number] = str(path.relative_to(ROOT))
    assert cited, "no decision is cited anywhere"
    assert {number: where for number, where in cited.items() if number not in known} == {}


def test_decisions_are_numbered_without_gaps() -> None:
    known = decisions()
    assert known == set(range(1, len(known) + 1))

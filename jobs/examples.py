"""The examples at the end of each command's help: what to type, and what it does."""

from collections.abc import Sequence

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "check": (("ebi-spark check --config run.yml", "list all problems of a configuration, in seconds"),),
    "doctor": (
        ("ebi-spark doctor", "check this machine"),
        ("ebi-spark doctor --config run.yml", "also check the place of this configuration's lake"),
    ),
    "run": (
        ("ebi-spark run --config run.yml", "every stage, for what has changed since the last run"),
        ("ebi-spark run --config run.yml --years 2021-22..2023-24", "three years only"),
        ("ebi-spark run --config run.yml --force", "every stage again"),
    ),
    "ingest": (
        ("ebi-spark ingest --config run.yml", "read the source tables"),
        ("ebi-spark ingest --config run.yml --retry-quarantine", "read only files with quarantined rows again"),
    ),
    "flag": (("ebi-spark flag --config run.yml --policies 2Y_back_pain_fusion", "apply one policy"),),
    "rate": (("ebi-spark rate --config run.yml --years 2023-24", "one year, and the pooled periods that include it"),),
    "monitor": (("ebi-spark monitor --config run.yml", "approvals, pathways and changes, for all years"),),
    "validate": (("ebi-spark validate --config run.yml", "check silver, flags, rates and monitoring"),),
    "publish": (
        ("ebi-spark publish --config run.yml", "make a release of what was validated"),
        ("ebi-spark publish --config run.yml --release RELEASE_ID", "go back to an earlier release"),
    ),
    "generate": (
        ("ebi-spark generate --out made-up", "60,000 spells and their run.yml"),
        ("ebi-spark generate --out made-up-hes --system hes --years 2021-22", "one year in HES's layout"),
    ),
    "policy": (
        ("ebi-spark policy list", "all policies"),
        ("ebi-spark policy show 2Y_back_pain_fusion", "one policy, clause by clause"),
        ("ebi-spark policy show 2Y_back_pain_fusion --lake lake", "the same, with what each decision changes"),
        ("ebi-spark policy lint --config run.yml", "check the codes of all policies"),
        ("ebi-spark policy import page.txt --out policies", "a policy file from a published page"),
        ("ebi-spark policy diff 2Y_back_pain_fusion 2022-08 2024-09", "what a revision changed"),
    ),
    "change": (
        ("ebi-spark change --lake lake --policy 2Y_back_pain_fusion --from 2018-19 --to 2023-24", "two years, England"),
        (
            "ebi-spark change --lake lake --policy 2Y_back_pain_fusion --from 2018-19..2020-21 --to 2021-22..2023-24 --area icb:QYG",
            "two periods of three years, one ICB",
        ),
    ),
    "explain": (
        ("ebi-spark explain --lake lake --record RECORD_ID", "which policies flag a record, and why"),
        ("ebi-spark explain --lake lake --record RECORD_ID --dataset apc --policy 2Y_back_pain_fusion", "one policy"),
        ("ebi-spark explain --config run.yml --record RECORD_ID", "also with your own policies and names of providers"),
    ),
    "audit": (
        (
            "ebi-spark audit draw --lake lake --policy 2Y_back_pain_fusion --years 2023-24 --size 200 --out audit",
            "draw a sample, and write its worklists and forms",
        ),
        ("ebi-spark audit import --lake lake returned/*.csv", "check and keep filled forms"),
        ("ebi-spark audit estimate --lake lake --policy 2Y_back_pain_fusion", "estimate how often the flags are right"),
    ),
    "replay": (("ebi-spark replay RUN_ID --lake lake", "compute an old run again and compare"),),
    "status": (
        ("ebi-spark status --lake lake", "years, rows, policies, last stages, quarantine, releases"),
        ("ebi-spark status --lake main.ebi", "a lake in a catalogue"),
        ("ebi-spark status --lake s3a://bucket/lake", "a lake at a URL"),
    ),
    "export": (
        ("ebi-spark export --lake lake --out files", "the current release in every format"),
        ("ebi-spark export --lake lake --out files --format xlsx --format ods", "spreadsheets only"),
    ),
    "catalogue": (
        (
            "ebi-spark catalogue --lake main.ebi --readers analysts",
            "print the SQL, for somebody with the rights to run it",
        ),
        ("ebi-spark catalogue --lake main.ebi --apply", "run it in the platform's session"),
    ),
    "maintain": (("ebi-spark maintain --lake lake", "merge small files, remove old releases and unused files"),),
    "completion": (('eval "$(ebi-spark completion bash)"', "complete commands and options in this shell"),),
}


def examples_of(command: str) -> list[tuple[str, str]]:
    """What to type and what it does, for a command or a part of it such as ``policy lint``."""
    name, _, part = command.partition(" ")
    return [(typed, meaning) for typed, meaning in EXAMPLES.get(name, ()) if f"{name} {part}".strip() in typed]


def as_epilog(command: str) -> str | None:
    """The examples of a command for the end of its help; None if it has none."""
    return _listed(examples_of(command)) or None


def first_examples(*commands: str) -> str:
    """The first example of each command, for the list of all commands."""
    return _listed([EXAMPLES[name][0] for name in commands])


def _listed(examples: Sequence[tuple[str, str]]) -> str:
    lines = [f"  {typed}\n      {meaning}" for typed, meaning in examples]
    return "\n".join(["examples:", *lines]) if lines else ""

"""The result of checking one layer: how many checks, and which of them failed."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class FailedCheck:
    """A failed check: how many rows, groups or columns violate it (1 where it could not be evaluated)."""

    table: str
    check: str
    description: str
    violations: int


@dataclass(frozen=True)
class LayerResult:
    """The result of checking one layer.

    ``checks`` is the number of checks that were evaluated, which progress, summary and page show. A check is a statement about
    a table; it can need one expectation of Great Expectations or several. ``failed`` are critical checks;
    ``warnings`` do not make ``success`` false. ``versions`` are the Delta versions that were checked. ``docs`` is the index
    page, if pages were written.
    """

    success: bool
    checks: int
    failed: list[FailedCheck]
    versions: dict[str, int]
    docs: Path | None
    warnings: list[FailedCheck] = field(default_factory=list)

    @property
    def in_words(self) -> str:
        """For example ``101 checks passed``, or ``98 of 101 checks passed, 2 warnings, 1 failed``."""
        missed = len(self.failed) + len(self.warnings)
        passed = f"{self.checks - missed:,} of {self.checks:,}" if missed else f"{self.checks:,}"
        parts = [f"{passed} checks passed"]
        parts += (
            [f"{len(self.warnings):,} {'warning' if len(self.warnings) == 1 else 'warnings'}"] if self.warnings else []
        )
        return ", ".join([*parts, *([f"{len(self.failed):,} failed"] if self.failed else [])])

"""Finds the line of a clause or a code in a policy's file."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import yaml

from ebi_spark.config.yaml_documents import child_of


class PolicyLines:
    """Finds lines in one policy file. The file is read when the first line is looked for."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @cached_property
    def _revisions(self) -> list[yaml.Node]:
        try:
            root = yaml.compose(self.path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
        except (OSError, ValueError, yaml.YAMLError):  # a policy that was not loaded from a file
            return []
        revisions = child_of(root, "revisions")
        return revisions.value if isinstance(revisions, yaml.SequenceNode) else []

    def find(self, revision: str, clause: str, code: str) -> int | None:
        """The line (counted from 1) of a code in a clause of a revision; if the clause does not name the code, the line of the clause.
        If several revisions share a clause (by a YAML anchor), the line is where it is written out. None if the file does not
        have the clause."""
        for item in self._revisions:
            # A local revision that follows national ones becomes several revisions: 2024-03, 2024-03+2024-09.
            if _text(child_of(item, "revision")) in (revision, revision.partition("+")[0]):
                for found in _mappings(item):
                    if clause in [_text(child_of(found, key)) for key in ("id", "clause", "use")]:
                        places = [node.start_mark.line for node in _scalars(found) if node.value == code]
                        if places or child_of(found, "id") is not None:
                            return min(places, default=found.start_mark.line) + 1
        return None


def _text(node: yaml.Node | None) -> str | None:
    return node.value if isinstance(node, yaml.ScalarNode) else None


def _inside(node: yaml.Node) -> Iterator[yaml.Node]:
    """A node and everything within it, in the order of the file."""
    yield node
    children = node.value if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        children = [value for _, value in node.value]
    for child in children:
        yield from _inside(child)


def _mappings(node: yaml.Node) -> Iterator[yaml.MappingNode]:
    return (item for item in _inside(node) if isinstance(item, yaml.MappingNode))


def _scalars(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    return (item for item in _inside(node) if isinstance(item, yaml.ScalarNode))

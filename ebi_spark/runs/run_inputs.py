"""What a run finds once and then hands on: its source files and its policies."""

from collections.abc import Collection
from functools import cached_property

from ebi_spark.config.settings import RunConfig
from ebi_spark.config.source_tables import TableSource
from ebi_spark.policies.load import load_policies, refuse_unknown_policies, revision_periods
from ebi_spark.policies.model import Policy, RevisionPeriod
from ebi_spark.sources.file_inventory import find_files


class RunInputs:
    """The source files and the policies of one configuration, each found when first asked for.

    All stages of a run see the same files: one that is added meanwhile is found by the next run. The state of each file
    (size, time) is not kept here.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self._files: dict[str, list[str]] = {}

    def files(self, source: TableSource, where: str) -> list[str]:
        """As :func:`~ebi_spark.sources.file_inventory.find_files`, which is called once for each ``where``."""
        if where not in self._files:
            self._files[where] = find_files(source, where)
        return self._files[where]

    @cached_property
    def policies(self) -> list[Policy]:
        """The policies that the configuration asks for. Raises :class:`InputError` if one cannot be read."""
        return load_policies(self.config.policy_dirs, self.config.policies)

    @cached_property
    def known_policies(self) -> list[Policy]:
        """All policies, also those that the configuration does not ask for. The lake may have flags of these."""
        return self.policies if self.config.policies is None else load_policies(self.config.policy_dirs)

    @cached_property
    def periods(self) -> list[RevisionPeriod]:
        """Which revision of each policy that was asked for applies when. Raises :class:`InputError` for drafts and unknown
        revisions."""
        return self.periods_of({policy.id for policy in self.policies})

    @cached_property
    def compared_policies(self) -> list[str]:
        """The ids of the policies that were asked for, and of local policies that extend one of them: the flags of the national policy may
        be new. A draft has no flags."""
        asked = {policy.id for policy in self.policies}
        others = [policy.id for policy in self.known_policies if policy.extends in asked and not policy.to_complete]
        return sorted({*asked, *others})

    def periods_of(self, policies: Collection[str]) -> list[RevisionPeriod]:
        """Which revision of each of these policies applies when."""
        known = {policy.id for policy in self.known_policies}
        refuse_unknown_policies(self.config.fixed_revisions, known)
        return revision_periods([policy for policy in self.known_policies if policy.id in policies], self.config)

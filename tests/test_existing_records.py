"""What the lake has, compared with what a run makes: what a stopped batch wrote is not taken for unchanged. No Spark."""

from typing import Any

from ebi_spark.records.existing_records import ExistingRecords
from ebi_spark.tables.table import YEAR


def test_what_a_stopped_batch_wrote_is_written_again() -> None:
    """Run ``r`` audited its first batch (a.csv, 2020-21) and was stopped in the second (b.csv, 2021-22), after the commit of its
    records. Its audit counts none of them, so `agrees_with_audit` would refuse the year until they are written again."""

    def group(year: str, file: str, **more: Any) -> dict[str, Any]:
        return {YEAR: year, "source_system": "hes", "dataset": "op", "source_file": file, "run_id": "r", "records": 1,
                "rows": 1, "checksum_xor": 5, "checksum_sum": 5, **more}  # fmt: skip

    groups = [group("2020-21", "a.csv"), group("2021-22", "b.csv"), group("2021-22", "a.csv", run_id="earlier")]
    audited = frozenset({("r", "a.csv"), ("earlier", "a.csv"), ("earlier", "b.csv")})
    existing = ExistingRecords({"op": groups}, groups, audited)
    first = existing.files("op", ["2020-21"])
    assert first is not None and {file: found.records for file, found in first.items()} == {("hes", "a.csv"): 1}
    assert existing.files("op", ["2021-22"]) is None
    quarantined = existing.quarantined_rows(["2020-21"], ["a.csv"], ["op"])
    assert quarantined is not None and quarantined[0] == 1
    assert existing.quarantined_rows(["2021-22"], ["b.csv"], ["op"]) is None

"""The version of each stage's logic. Raise a stage's number by hand when the figures that it writes can change.

A new number makes every year of that stage, and of every later stage that reads its results, due in every lake. Do not
raise it for changes of wording, comments or layout. ``tests/test_stage_versions.py`` keeps the results of each stage that
writes tables, on a small fixed lake, for each number. It fails when they change and the number does not. Say in ``CHANGELOG.md``
which stage a version of the product makes due, and why.
"""

STAGE_VERSIONS = {"ingest": 3, "flag": 3, "rate": 2, "monitor": 2, "validate": 2, "publish": 4}

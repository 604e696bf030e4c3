"""The version of each stage's logic. Raise a stage's number by hand when the figures that it writes can change.

A change of the number makes every year of the stage due in every lake, and so do all stages that follow from it. A change
of words, comments or layout does not: leave the number as it is. ``tests/test_stage_versions.py`` keeps the results of a
small fixed lake for each number, and fails when they change and the number does not. Say in ``CHANGELOG.md`` which stage a
release of the product makes due, and why.
"""

STAGE_VERSIONS = {"ingest": 2, "flag": 2, "rate": 2, "validate": 2, "publish": 2}

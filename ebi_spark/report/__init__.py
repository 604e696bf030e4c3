"""The report: one page that opens offline, made of what is published and of nothing else."""

from ebi_spark.report.page import build_report

__all__ = ["build_report"]

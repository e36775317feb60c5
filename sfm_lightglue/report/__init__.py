"""A reconstruction as a page that opens in any browser without a network."""

from sfm_lightglue.report.sources import REPORT_NAME
from sfm_lightglue.report.write import ReportConfig, WrittenReport, write_report

__all__ = ["REPORT_NAME", "ReportConfig", "WrittenReport", "write_report"]

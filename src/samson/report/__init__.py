"""Reports: tables, plots and one HTML file, from records alone."""

from samson.report.tables import percent, points, summary_csv

__all__ = ["percent", "points", "summary_csv"]

"""Reports: tables, plots and one HTML file, from records alone."""

from samson.report.budget import budget_page
from samson.report.evaluation import evaluation_page
from samson.report.page import render
from samson.report.sensitivity import sensitivity_page
from samson.report.sharpness import correlation, render_sharpness
from samson.report.summary import BASELINE, SummaryRow, summarise
from samson.report.tables import by_method, percent, points, summary_csv

__all__ = [
    "BASELINE",
    "SummaryRow",
    "budget_page",
    "by_method",
    "correlation",
    "evaluation_page",
    "percent",
    "points",
    "render",
    "render_sharpness",
    "sensitivity_page",
    "summarise",
    "summary_csv",
]

"""Reports: tables, plots and one HTML file, from records alone."""

from samson.report._advice import advice, advice_in_short
from samson.report._budget import budget_figure, budget_page
from samson.report._evaluation import evaluation_page, half_width, level_figure, shares_at, yield_figure
from samson.report._figures import chips_figure, gain_figure, robustness_figure, training_figure
from samson.report._html import interval_text, metric_text, scale_of, value_text
from samson.report._overview import Overview, against_baseline, comparable, overview_headline, rank_figure, rank_table
from samson.report._page import headline, notes, render
from samson.report._paired import paired_figure, paired_page
from samson.report._pictures import FORMATS, picture
from samson.report._plot import Plot, figure_of
from samson.report._sensitivity import sensitivity_figure, sensitivity_page, sensitivity_table, suggestion
from samson.report._sharpness import correlation, render_sharpness, sharpness_figure
from samson.report._summary import SummaryRow, View, against_each, view, views
from samson.report._tables import (
    coverage_of,
    estimate_text,
    gain_text,
    kind_text,
    last_kind_within,
    summary_csv,
    summary_rows,
)
from samson.report._view_tables import accuracy_table, gain_table

__all__ = [
    "Plot",
    "SummaryRow",
    "View",
    "advice",
    "advice_in_short",
    "budget_figure",
    "budget_page",
    "chips_figure",
    "coverage_of",
    "evaluation_page",
    "figure_of",
    "gain_figure",
    "kind_text",
    "level_figure",
    "paired_figure",
    "paired_page",
    "picture",
    "render",
    "render_sharpness",
    "robustness_figure",
    "sensitivity_figure",
    "sensitivity_page",
    "sharpness_figure",
    "summary_csv",
    "summary_rows",
    "training_figure",
    "views",
]

"""Reports: tables, plots and one HTML file, from records alone."""

from samson.report.budget import budget_page
from samson.report.evaluation import evaluation_page, level_figure
from samson.report.figures import chips_figure, gain_figure, robustness_figure
from samson.report.page import command, gain_table, headline, render
from samson.report.sensitivity import sensitivity_figure, sensitivity_page, sensitivity_table
from samson.report.sharpness import correlation, render_sharpness, sharpness_figure
from samson.report.summary import BASELINE, SummaryRow, summarise
from samson.report.tables import by_method, last_level_within, percent, points, summary_csv
from samson.report.yields import half_width, shares_at, yield_figure

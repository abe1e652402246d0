"""Reports: tables, plots and one HTML file, from records alone."""

try:
    import plotly
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("`samson.report` needs plotly: pip install 'samson-torch[cli]'", name="plotly") from error

from samson.report._budget import budget_figure, budget_page
from samson.report._evaluation import evaluation_page, level_figure
from samson.report._figures import chips_figure, gain_figure, robustness_figure, training_figure
from samson.report._overview import against_baseline, comparable, rank_figure, rank_table, ranked, ranks
from samson.report._page import accuracy_table, gain_table, headline, render
from samson.report._paired import paired_figure, paired_page
from samson.report._pictures import FORMATS, picture
from samson.report._sensitivity import sensitivity_figure, sensitivity_page, sensitivity_table
from samson.report._sharpness import correlation, render_sharpness, sharpness_figure
from samson.report._summary import SummaryRow, View, against_each, view, views
from samson.report._tables import estimate_text, gain_text, last_kind_within, summary_csv
from samson.report._yields import half_width, shares_at, yield_figure

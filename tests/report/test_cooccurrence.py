"""What is predicted with a finding beside what comes with it, by hand."""

import numpy as np
import pandas as pd

from hilum.report.cooccurrence import co_actual, co_occurrence_figure, co_predicted

LABELS = pd.DataFrame({"Edema": [1, 1, 1, 1, 0], "Mass": [1, 0, np.nan, 0, 1], "Hernia": [0, 0, 0, 0, 0.0]})
PREDICTED = pd.DataFrame(
    {
        "Edema": [True, True, True, False, True],
        "Mass": [True, False, True, True, False],
        "Hernia": [False, False, False, False, True],
    }
)


def test_shares_are_of_the_images_with_the_rows_finding():
    shares = co_predicted(LABELS, PREDICTED)
    assert shares.loc["Edema"].tolist() == [0.75, 0.75, 0.0]  # the first is its recall
    assert shares.loc["Mass"].tolist() == [1.0, 0.5, 0.5]
    assert shares.loc["Hernia"].isna().all()
    assert co_actual(LABELS).loc["Edema"].tolist() == [1.0, 0.25, 0.0]


def test_the_figure_has_both_matrices_in_per_cent(tmp_path):
    figure = co_occurrence_figure(LABELS, PREDICTED)
    actual, predicted = figure.axes[:2]
    assert [text.get_text() for text in actual.texts] == ["100", "25", "0", "50", "100", "0", *["n/a"] * 3]
    assert [text.get_text() for text in predicted.texts] == ["75", "75", "0", "100", "50", "50", *["n/a"] * 3]
    figure.savefig(tmp_path / "co-occurrence.png")

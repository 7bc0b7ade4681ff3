"""The figures of a run are PNG files of the names that the report looks for."""

import cv2

from hilum.report.figures import write_figures
from hilum.report.page import FIGURE_TITLES


def test_every_figure_is_written_once_and_can_be_decoded(write_run, capsys):
    folder, metrics = write_run()
    written = write_figures(folder, metrics)
    assert sorted(written) == sorted(folder.figures.iterdir())
    for path in written:
        pixels = cv2.imread(str(path))
        assert pixels is not None
        assert pixels.std() > 5
    assert capsys.readouterr().out == ""


def test_the_report_has_a_title_for_each_figure(write_run):
    folder, metrics = write_run()
    assert {path.stem for path in write_figures(folder, metrics)} == set(FIGURE_TITLES)

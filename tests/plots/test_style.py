import numpy as np
import pytest
from matplotlib.colors import to_rgb

from hilum.plots.style import PALETTE, explain_empty, frame, head, panel_grid, target_colours
from hilum.targets import CHEXPERT_FINDINGS, NIH_TARGETS


def test_a_finding_has_one_colour_everywhere():
    chexpert, nih = target_colours(CHEXPERT_FINDINGS), target_colours(NIH_TARGETS)
    assert len(set(chexpert.values())) == len(set(nih.values())) == 14
    assert all(nih[target] == colour for target, colour in chexpert.items() if target in nih)
    assert target_colours(["Edema"])["Edema"] == chexpert["Edema"]


def test_colours_can_be_read_on_white():
    for colour in PALETTE:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        luminance = np.dot([0.2126, 0.7152, 0.0722], linear)
        assert 1.05 / (luminance + 0.05) >= 3, colour


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (4, 1), (5, 2), (12, 3)])
def test_panels_fill_even_rows_and_only_the_outer_ones_name_the_axes(count, rows):
    figure, panels = panel_grid([f"panel {place}" for place in range(count)], ("x", "y"))
    grid = figure.axes[0].get_gridspec()
    assert (len(panels), grid.nrows) == (count, rows)
    assert grid.ncols * (rows - 1) < count <= grid.ncols * rows
    assert sum(axes.get_ylabel() == "y" for axes in panels.values()) == rows
    assert sum(axes.get_xlabel() == "x" for axes in panels.values()) == grid.ncols


def test_a_panel_has_its_target_and_values_or_a_reason():
    figure, panels = panel_grid(["Lung_Lesion"], ("x", "y"))
    head(panels["Lung_Lesion"], "Lung_Lesion", "AUC 0.8", PALETTE[0])
    explain_empty(panels["Lung_Lesion"], "no image has a known label")
    frame(figure, "ROC curves", [])
    assert panels["Lung_Lesion"].get_title(loc="left") == "Lung Lesion"
    texts = [text.get_text() for text in panels["Lung_Lesion"].texts]
    assert texts == ["AUC 0.8", "no image has a known label"]
    assert figure.get_suptitle() == "ROC curves"

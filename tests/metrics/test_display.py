import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from hilum.errors import HilumError
from hilum.metrics import MetricDataSource, Metrics, UndefinedScoreWarning, display
from hilum.metrics.scores import combined_scores


@pytest.fixture
def notebook(monkeypatch):
    """A stand-in for a Jupyter kernel: collects what is displayed."""
    shown = []
    shell = SimpleNamespace(kernel=object())
    ipython, its_display = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: shell
    its_display.display, its_display.Image = shown.append, lambda data: data
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", its_display)
    return SimpleNamespace(shown=shown, shell=shell)


def test_terminal_gets_tables_and_is_told_how_to_get_figures(run, capsys):
    metrics = run.metrics()
    assert metrics.display_metrics() == []
    printed = capsys.readouterr().out
    assert printed.index("Training, epoch 2: all targets") < printed.index("Validation, epoch 2: each target")
    assert "Pleural Effusion" in printed
    scores = metrics.scores
    assert f"{scores['roc_auc'].iloc[-1]:.3f}" in printed
    assert display.NO_FOLDER in printed


def test_figures_are_written_where_asked(run, tmp_path, capsys):
    metrics = run.metrics()
    written = metrics.display_metrics(figures_to=tmp_path / "figures")
    assert [path.name for path in written] == ["roc-epoch-0002.png", "precision-recall-epoch-0002.png"]
    written += metrics.display_metrics(
        "VAL", epoch=1, show_precision_recall_curves=False, figures_to=str(tmp_path)
    )
    assert written[-1].name == "roc-epoch-0001-val.png"
    assert all(path.stat().st_size > 5000 for path in written)
    assert "Training, epoch 1" not in capsys.readouterr().out


def test_progression_is_written_too(run, tmp_path, capsys):
    metrics = run.metrics()
    written = metrics.display_epoch_progression(
        show_result_data_frames=True,
        show_f1_progression=False,
        include_targets="Effusion",
        figures_to=tmp_path,
    )
    assert [path.stem.removeprefix("progression-") for path in written] == [
        "combined",
        "recall",
        "precision",
        "roc-auc",
        "avg-precision",
    ]
    printed = capsys.readouterr().out
    assert "avg_precision by epoch" in printed
    assert "Edema" not in printed


def test_what_is_switched_off_is_not_shown(run, capsys):
    metrics = run.metrics()
    assert metrics.display_metrics("both", False, False, False, False) == []
    assert metrics.display_epoch_progression(False, False, False, False, False, False, False) == []
    assert capsys.readouterr().out == ""


def test_combined_scores_are_of_the_targets_that_are_shown(run, capsys):
    metrics = run.metrics()
    metrics.display_metrics("val", include_targets=["Edema", "Fracture"], combined_average_method="macro")
    names = ["Edema", "Fracture"]
    expected = combined_scores(run.actual["val"][names], metrics.val_prediction_hx[2][names], "macro")
    assert f"{expected['f1']:.3f}" in capsys.readouterr().out


def test_notebook_gets_styled_tables_and_pictures(run, notebook, capsys):
    metrics = run.metrics()
    assert metrics.display_metrics("train") == []
    *tables, roc, precision_recall = notebook.shown
    assert [table.caption for table in tables] == [
        "Training, epoch 2: all targets together (samples average)",
        "Training, epoch 2: each target",
    ]
    assert "Pleural_Effusion" in tables[1].to_html()
    assert roc.startswith(b"\x89PNG")
    assert roc != precision_recall
    assert capsys.readouterr().out == ""


def test_a_shell_in_a_terminal_is_no_notebook(run, notebook):
    del notebook.shell.kernel
    assert not display.in_notebook()


@pytest.mark.parametrize("in_kernel", [False, True])
def test_an_undefined_score_is_a_dash(run, capsys, request, in_kernel):
    shown = request.getfixturevalue("notebook").shown if in_kernel else None
    with pytest.warns(UndefinedScoreWarning):
        metrics = run.metrics(train=run.actual["train"].assign(Edema=np.nan))
    metrics.display_metrics("train", show_roc_curves=False, show_precision_recall_curves=False)
    text = shown[1].to_html() if in_kernel else capsys.readouterr().out
    assert text.count(display.UNDEFINED) == 5
    assert "nan" not in text.replace("nan_", "")


def test_sources_by_name():
    assert MetricDataSource("Both") is MetricDataSource.Both
    with pytest.raises(HilumError, match=r"metric_data_source is 'trian'\. Did you mean 'train'\?"):
        MetricDataSource("trian")


def test_mistakes_are_named(run):
    with pytest.raises(HilumError, match="No epoch of both is closed; closed are: none"):
        Metrics(run.targets, run.actual["train"], None).display_metrics()
    with pytest.raises(HilumError, match="no epoch is closed"):
        Metrics(run.targets, run.actual["train"], None).display_epoch_progression()
    metrics = run.metrics()
    with pytest.raises(HilumError, match="No epoch 9 of val is closed; closed are: 1, 2"):
        metrics.display_metrics("val", epoch=9)
    with pytest.raises(HilumError, match=r"no target 'Fractur'\. Did you mean 'Fracture'\?"):
        metrics.display_metrics(include_targets=["Fractur"])

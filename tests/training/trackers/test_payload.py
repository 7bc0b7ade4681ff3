import numpy as np
import pandas as pd

from hilum.training.trackers._payload import HEADLINE, Conclusion, epoch_scalars, flat_settings


def test_flat_settings():
    record = {
        "settings": {"seed": 3, "compile": True, "root": None, "net_kwargs": {"layers": 34}, "name": "a"}
    }
    assert flat_settings(record) == {
        "seed": 3,
        "compile": True,
        "root": "none",
        "net_kwargs": '{"layers": 34}',
        "name": "a",
    }


def test_epoch_scalars_are_the_scores_table(finished):
    _, metrics = finished
    scalars = epoch_scalars(metrics.scores, metrics.combined, 2, 1e-3)
    scores = metrics.scores.set_index(["epoch", "part", "target"])
    for part in ("train", "val"):
        for target in metrics.target_columns:
            for score in ("recall", "precision", "f1", "roc_auc", "avg_precision"):
                assert scalars[f"{score}/{part}/{target}"] == scores.at[(2, part, target), score]
        assert scalars[f"mean/{part}/roc_auc"] == scores.loc[(2, part), "roc_auc"].mean()
    combined = metrics.combined.set_index(["epoch", "part"])
    assert scalars["loss/val"] == combined.at[(2, "val"), "loss"]
    assert scalars["combined/train/hamming_loss"] == combined.at[(2, "train"), "hamming_loss"]
    assert scalars["learning_rate"] == 1e-3
    assert list(scalars)[-1] == "loss/train"
    assert HEADLINE in scalars
    assert len(scalars) == 2 * 3 * 5 + 2 * 5 + 2 * 5 + 2 + 1
    assert "learning_rate" not in epoch_scalars(metrics.scores, metrics.combined, 2, None)


def test_scores_without_a_value_are_left_out(finished):
    _, metrics = finished
    scores = metrics.scores
    scores.loc[(scores["target"] == "Mine") & (scores["part"] == "val"), "roc_auc"] = np.nan
    scalars = epoch_scalars(scores, metrics.combined, 1, None)
    assert "roc_auc/val/Mine" not in scalars
    others = scores[(scores["epoch"] == 1) & (scores["part"] == "val") & (scores["target"] != "Mine")]
    assert scalars["mean/val/roc_auc"] == others["roc_auc"].mean()
    scores["roc_auc"] = np.nan
    assert "mean/val/roc_auc" not in epoch_scalars(scores, metrics.combined, 1, None)
    assert epoch_scalars(scores, pd.DataFrame(columns=metrics.combined.columns), 9, None) == {}


def test_conclusion(copy_of_finished):
    folder, _ = copy_of_finished()
    end = Conclusion(folder)
    assert end.best_epoch == folder.best_epoch
    assert end.points["operating_point_threshold/Edema"] == 0.3
    recall = folder.record["operating_points"]["Mine"]["recall"]
    assert end.points["operating_point_recall/Mine"] == recall
    assert {path.stem for path in end.figures} >= {"roc", "precision-recall", "progression-roc-auc"}
    assert [path.name for path in end.files] == ["run.json", "report.html"]
    assert end.summary["digest"] == folder.record["digest"]
    assert end.summary["status"] == "finished"
    assert end.mistakes
    assert all(jpeg.startswith(b"\xff\xd8") for jpeg in end.mistakes.values())
    assert next(iter(end.mistakes)).startswith(("missed-1-", "false-alarm-1-"))


def test_conclusion_without_images(copy_of_finished):
    folder, _ = copy_of_finished()
    folder.update(catalog=folder.record["catalog"] | {"image_root": "/nowhere"})
    assert Conclusion(folder).mistakes == {}

"""What a run concludes from its best epoch: the operating points and the calibration, frozen."""

from typing import Any

from hilum.config import RunConfig
from hilum.metrics import Metrics
from hilum.metrics.calibration import fit_calibration
from hilum.metrics.operating_points import Policy, freeze_operating_points
from hilum.run_folder import RunFolder


def conclusions(
    folder: RunFolder, metrics: Metrics, policies: dict[str, Policy], config: RunConfig
) -> dict[str, Any]:
    """`operating_points` and `calibration` for run.json, chosen on the validation part of the best epoch.

    Args:
        folder: of the run, with its split.
        metrics: of the run.
        policies: target -> how its threshold is chosen.
        config: of the run.
    """
    epoch = folder.best_epoch
    probabilities = metrics.val_probability_hx[epoch]
    labels = metrics.actual(epoch, "val")
    patients = folder.split().set_index("ImageID")["PatientID"].loc[probabilities.index]
    points = freeze_operating_points(
        labels.to_numpy(),
        probabilities.to_numpy(),
        patients.to_numpy(),
        metrics.target_columns,
        policies,
        metrics.target_thresholds,
        seed=config.seed,
    )
    calibration = None
    if config.calibration != "none":
        fitted = fit_calibration(
            labels.to_numpy(), probabilities.to_numpy(), metrics.target_columns, config.calibration
        )
        calibration = fitted.as_record()
    return {"operating_points": points, "calibration": calibration}

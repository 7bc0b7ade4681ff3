"""The comparison of runs: what changed between them, how their scores differ, and which images flip.

The first run is the reference, A. Runs that differ only in the seed are repeats and form one side. Each other side is
compared with A, on the validation images that both have evaluated.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from pathlib import PurePosixPath
from string import ascii_uppercase
from typing import Any

import numpy as np

from hilum.errors import HilumError
from hilum.metrics.comparison import (
    COMPARED_SCORES,
    RunScores,
    ScoreDifference,
    adjusted_over_targets,
    bound_zero_difference,
    mean_over_targets,
    models_difference,
    pooled_degrees_of_freedom,
    score_runs,
    settings_difference,
)
from hilum.metrics.predictions import Predictions
from hilum.report.comparison_types import (
    FLIP_KINDS,
    PAIRS_BY_SEED,
    SAME_IMAGES,
    Claim,
    ComparedImages,
    Comparison,
    Flip,
    Flips,
    RunSummary,
    Side,
    SideComparison,
    find_changes,
    repeats_key,
)
from hilum.report.error_gallery import RunImages
from hilum.run_folder import RunFolder

MORE_POSITIVES = "recall rose by predicting more positives, not by ranking better"
FEWER_POSITIVES = "recall fell by predicting fewer positives, not by ranking worse"


def compare_runs(folders: Sequence[RunFolder], *, replicates: int = 1000, seed: int = 0) -> Comparison:
    """Compares runs with the first of them.

    Args:
        folders: two runs or more. Those that differ only in the seed form one side; if all do, each is a side.
        replicates: bootstrap samples of the patients.
        seed: of these samples.

    Raises:
        HilumError: fewer than two runs, a run without a finished epoch, no target or image in common, fewer than
            two patients, or damaged predictions.
    """
    if len(folders) < 2:
        raise HilumError(f"Name at least two runs, the reference first; there is {len(folders)}.")
    if replicates < 100:
        raise HilumError(
            f"replicates is {replicates}; an interval needs 100 or more samples of the patients."
        )
    runs = [_Run(folder) for folder in folders]
    groups, notes = _group_repeats(runs)
    sides = []
    for number, group in enumerate(groups):
        rounds, place = divmod(number, 26)  # A … Z, then A1, B1, …
        letter = f"{ascii_uppercase[place]}{rounds or ''}"
        sides.append(Side(letter, group[0].name, tuple(run.summary for run in group)))
    notes += [
        f"{run.folder.path} is {run.summary.status}, not finished: its best epoch so far is compared."
        for run in runs
        if run.summary.status != "finished"
    ]
    comparisons = tuple(
        _SidePair(sides[0], groups[0], side, group).compare(replicates, seed)
        for side, group in zip(sides[1:], groups[1:], strict=True)
    )
    return Comparison(sides[0], comparisons, replicates, seed, tuple(notes))


class _Run:
    """A run and its predictions of the validation part in its best epoch, one row per image."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.name: str = folder.record.get("name", folder.path.name)
        self.seed = int(folder.settings.get("seed", 0))
        predictions = Predictions.from_run(folder)
        first = np.unique(predictions.image_ids, return_index=True)[1]
        self.predictions = predictions.select(rows=first)
        self.ids, self.targets = self.predictions.image_ids, self.predictions.targets
        self.thresholds = dict(zip(self.targets, predictions.thresholds.tolist(), strict=True))
        points = folder.record.get("operating_points") or {}
        #: How each operating point was chosen; None if the run has only the thresholds of its settings.
        self.policies = {target: points.get(target, {}).get("policy") for target in self.targets}
        self.fingerprint: str | None = (folder.record.get("catalog") or {}).get("fingerprint")
        self.summary = RunSummary(
            self.name, str(folder.path), self.seed, folder.best_epoch, folder.record["status"]
        )

    def file_names(self, ids: np.ndarray) -> np.ndarray | None:
        """The images' file names, if the run recorded them."""
        images = RunImages(self.folder).table
        if images is None or "Image_Path" not in images or not np.isin(ids, images.index).all():
            return None
        return np.array([PurePosixPath(str(path)).name for path in images["Image_Path"].loc[ids]])

    def has_same_images(self, other: "_Run", ids: np.ndarray) -> np.ndarray:
        """Whether each ImageID is the same image in both runs, (N,) bool; always for the same data."""
        if self.fingerprint is not None and self.fingerprint == other.fingerprint:
            return np.ones(len(ids), dtype=bool)
        patients, others = (run.predictions.patients[np.searchsorted(run.ids, ids)] for run in (self, other))
        same = patients.astype(str) == others.astype(str)
        names, other_names = self.file_names(ids), other.file_names(ids)
        return same if names is None or other_names is None else same & (names == other_names)


def _group_repeats(runs: Sequence[_Run]) -> tuple[list[list[_Run]], list[str]]:
    """The runs grouped by equal settings, in the order of their first runs; and notes on the grouping."""
    by_key: dict[str, list[_Run]] = {}
    for run in runs:
        by_key.setdefault(repeats_key(run.folder), []).append(run)
    if len(by_key) == 1:
        note = "The runs differ only in the seed, so each is a side of its own."
        return [[run] for run in runs], [note] if len(runs) > 2 else []
    groups, notes = [], []
    for repeats in by_key.values():
        by_seed: dict[int, _Run] = {}
        for run in repeats:
            first = by_seed.setdefault(run.seed, run)
            if first is not run:
                notes.append(
                    f"{run.folder.path} is left out: {first.folder.path} has the same settings and the same "
                    f"seed ({run.seed}), and a repeat needs another seed."
                )
        groups.append(list(by_seed.values()))
    return groups, notes


class _SidePair:
    """Two sides brought to the same images, targets and labels.

    Attributes:
        ours, theirs: the runs of A and of B that take part; for pairs by seed, in the order of the seeds.
        patients: (N,) the patient of each compared image.
        aligned: the predictions of A's runs, then B's, all of the same images; a label is NaN if unknown, not the
            same in all runs, or not evaluated by the run.
    """

    def __init__(self, reference: Side, ours: list[_Run], other: Side, theirs: list[_Run]) -> None:
        self.reference, self.other = reference, other
        self.ours, self.theirs = ours, theirs
        self.notes: list[str] = []
        self.mismatched = 0
        self.targets, self.targets_left_out = self._common_targets()
        self.design, common = self._common_images()
        self.is_paired = self.design == PAIRS_BY_SEED
        self.runs = [*self.ours, *self.theirs]
        self.ids = np.unique(np.concatenate(common))
        patients: dict[int, Any] = {}
        for run in reversed(self.ours):
            patients |= zip(run.ids.tolist(), run.predictions.patients.tolist(), strict=True)
        self.patients = [patients[image_id] for image_id in self.ids.tolist()]
        self.aligned, self.labels_left_out = self._align(common)
        self.patient_count = self.aligned[0].patient_count
        if self.patient_count < 2:
            raise HilumError(
                f"The {len(self.ids)} images that {reference.name} and {other.name} have both evaluated are all "
                f"of patient {self.patients[0]}; a comparison needs two patients or more."
            )

    def compare(self, replicates: int, seed: int) -> SideComparison:
        """Compares the two sides, with bootstrap samples of the patients."""
        count = len(self.ours)
        matched_to = [[run % count] if self.is_paired else range(count) for run in range(len(self.runs))]
        scores = score_runs(self.aligned, matched_to, replicates=replicates, seed=seed)
        about_models = self._about_models(scores)
        about_settings = self._about_settings(scores, about_models)
        same_seed = [(mine, yours) for mine in self.ours for yours in self.theirs if mine.seed == yours.seed]
        mine, yours = same_seed[0] if same_seed else (self.ours[0], self.theirs[0])
        claim = about_settings if about_settings.available else about_models
        repeated = min(len(self.ours), len(self.theirs)) > 1
        return SideComparison(
            reference=self.reference,
            other=self.other,
            changes=find_changes(mine.folder, yours.folder, repeated=repeated),
            images=self._images(),
            targets=tuple(self.targets),
            targets_left_out=self.targets_left_out,
            operating_points=self._operating_points(),
            about_models=about_models,
            about_settings=about_settings,
            flips=self._flips(mine, yours),
            callouts=(*_shift_callouts(claim), *self._policy_callouts()),
            notes=(*self.notes, *self._quality_notes()),
        )

    def _common_targets(self) -> tuple[list[str], dict[str, str]]:
        runs = [*self.ours, *self.theirs]
        common = [target for target in self.ours[0].targets if all(target in run.targets for run in runs)]
        if not common:
            raise HilumError(
                f"{self.reference.name} and {self.other.name} have no target in common: "
                f"{', '.join(self.ours[0].targets)}; and {', '.join(self.theirs[0].targets)}. "
                "Compare runs on the same targets."
            )
        left_out = {
            target: f"{side.name} has no such target"
            for side, run in ((self.other, self.ours[0]), (self.reference, self.theirs[0]))
            for target in run.targets
            if target not in common
        }
        return common, left_out

    def _common_images(self) -> tuple[str, list[np.ndarray]]:
        """The design; and the ids compared: once for all runs, or for each pair."""
        runs, theirs = [*self.ours, *self.theirs], {run.seed: run for run in self.theirs}
        pairs = [(run, theirs[run.seed]) for run in self.ours if run.seed in theirs]
        same = all(np.array_equal(side[0].ids, run.ids) for side in (self.ours, self.theirs) for run in side)
        if not same and not pairs:
            self.notes.append(
                "The repeats have different validation images and no seed is on both sides: only the images "
                "that all of them evaluated are compared."
            )
        if same or not pairs:
            return SAME_IMAGES, [self._shared_ids(runs)]
        left_out = [run.name for run in runs if not any(run in pair for pair in pairs)]
        if left_out:
            self.notes.append(f"Left out, because their seed is only on one side: {', '.join(left_out)}.")
        self.ours, self.theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        return PAIRS_BY_SEED, [self._shared_ids(pair) for pair in pairs]

    def _shared_ids(self, runs: Sequence[_Run]) -> np.ndarray:
        """The ids of the images that all these runs evaluated, sorted."""
        names = " and ".join(run.name for run in runs)
        shared = reduce(np.intersect1d, [run.ids for run in runs])
        if not len(shared):
            raise HilumError(
                f"{names} have no validation image in common, so there is nothing to compare them on. Train the "
                "later run with the split of the earlier one: --split-file RUN/split.parquet."
            )
        same = np.all([runs[0].has_same_images(run, shared) for run in runs], axis=0)
        if not same.any():
            raise HilumError(
                f"{names} have {len(shared):,} ImageIDs in common, but they belong to other patients or files: "
                "the data sets are not the same. Compare runs on the same data."
            )
        self.mismatched += int((~same).sum())
        return shared[same]

    def _align(self, common: list[np.ndarray]) -> tuple[list[Predictions], dict[str, int]]:
        """The predictions of all runs; and how many labels are not the same in all runs, by target."""
        count = len(self.ours)
        shape = (len(self.runs), len(self.ids), len(self.targets))
        y_true = np.full(shape, np.nan, dtype=np.float32)
        y_score = np.zeros(shape, dtype=np.float32)
        for number, run in enumerate(self.runs):
            ids = common[number % count] if self.is_paired else common[0]
            rows = np.searchsorted(self.ids, ids)
            values = run.predictions.select(targets=self.targets, rows=np.searchsorted(run.ids, ids))
            y_true[number, rows], y_score[number, rows] = values.y_true, values.y_score
        conflicts = np.zeros(shape[1:], dtype=bool)
        for first in range(count) if self.is_paired else [0]:
            labels = y_true[first :: count if self.is_paired else 1]  # of the runs to compare, a view
            same = (labels == labels[0]) | (np.isnan(labels) & np.isnan(labels[0]))
            conflict = ~same.all(axis=0)
            labels[:, conflict] = np.nan
            conflicts |= conflict
        counts = dict(zip(self.targets, conflicts.sum(axis=0).tolist(), strict=True))
        # Patients as text, because numbers and text cannot be sorted together.
        patients = np.unique(np.array(self.patients, dtype=object).astype(str), return_inverse=True)[1]
        aligned = [
            Predictions(
                y_true=labels,
                y_score=probabilities,
                image_ids=self.ids,
                patients=patients,
                targets=tuple(self.targets),
                thresholds=np.array([run.thresholds[target] for target in self.targets]),
            )
            for run, labels, probabilities in zip(self.runs, y_true, y_score, strict=True)
        ]
        return aligned, {target: count for target, count in counts.items() if count}

    def _about_models(self, scores: RunScores) -> Claim:
        count = "two" if len(self.runs) == 2 else f"{len(self.ours)} + {len(self.theirs)}"
        statement = f"It holds for these {count} trained models, on patients like these."
        return Claim("models", True, None, statement, *self._differences(scores, models_difference))

    def _about_settings(self, scores: RunScores, models: Claim) -> Claim:
        if min(len(self.ours), len(self.theirs)) < 2:
            reason = "train two seeds or more on each side"
            statement = "Nothing can be concluded about the settings: another seed might reverse the result."
            return Claim("settings", False, reason, statement, {}, {})
        count = len(self.ours)
        repeats = f"{count} pairs of seeds" if self.is_paired else f"{count} + {len(self.theirs)} seeds"
        statement = f"This is about the settings, from {repeats}: other seeds and other patients."
        difference_of = partial(settings_difference, paired=self.is_paired)
        return Claim("settings", True, None, statement, *self._differences(scores, difference_of, models))

    def _differences(
        self, scores: RunScores, difference_of: Callable[..., ScoreDifference], models: Claim | None = None
    ) -> tuple[dict[str, ScoreDifference], dict[str, dict[str, ScoreDifference]]]:
        """The differences of the means over targets by score, and of each target by target and score.

        `difference_of` is `models_difference` or `settings_difference`. If `models` is given, the degrees of freedom
        of the means come from that claim about the models.
        """
        ours, theirs = range(len(self.ours)), range(len(self.ours), len(self.runs))
        means: dict[str, ScoreDifference] = {}
        targets: dict[str, dict[str, ScoreDifference]] = {target: {} for target in self.targets}
        for score in COMPARED_SCORES:
            by_target = {}
            for column, target in enumerate(self.targets):
                estimate = scores.estimate[score][:, column]
                replicates = scores.replicates[score][:, :, column]
                degrees = float(scores.patients[score][:, column].min() - 1)
                difference = difference_of(score, estimate, replicates, degrees, ours, theirs)
                y_score = [run.y_score[:, column] for run in self.aligned]
                equal = np.array_equal(y_score[: len(ours)], y_score[len(ours) :])
                by_target[target] = difference if equal else bound_zero_difference(difference)
            defined = [column for column, target in enumerate(self.targets) if by_target[target].is_defined]
            pooled = [
                models.targets[target][score] if models else difference
                for target, difference in by_target.items()
                if difference.is_defined
            ]
            degrees = pooled_degrees_of_freedom(pooled, self.patient_count)
            mean = mean_over_targets(scores, score, defined)
            means[score] = difference_of(score, *mean, degrees, ours, theirs)
            for target, difference in adjusted_over_targets(score, by_target).items():
                targets[target][score] = difference
        return means, targets

    def _images(self) -> ComparedImages:
        only_reference, only_other = (
            len(np.setdiff1d(np.concatenate([run.ids for run in side]), self.ids))
            for side in (self.ours, self.theirs)
        )
        pairs: list[dict[str, Any]] = []
        for mine, yours in zip(self.ours, self.theirs, strict=True) if self.is_paired else ():
            rows = np.isin(self.ids, np.intersect1d(mine.ids, yours.ids))
            patients = len(np.unique(self.aligned[0].patients[rows]))
            counts = {"images": int(rows.sum()), "patients": patients}
            pairs.append({"seed": mine.seed, "reference": mine.name, "other": yours.name, **counts})
        return ComparedImages(
            images=len(self.ids),
            patients=self.patient_count,
            design=self.design,
            pairs=tuple(pairs),
            only_reference=only_reference,
            only_other=only_other,
            mismatched=self.mismatched,
            labels_left_out=self.labels_left_out,
        )

    def _operating_points(self) -> dict[str, dict[str, dict[str, list[Any]]]]:
        points: dict[str, dict[str, dict[str, list[Any]]]] = {target: {} for target in self.targets}
        for target, by_side in points.items():
            for side, runs in ((self.reference, self.ours), (self.other, self.theirs)):
                policies = [run.policies[target] for run in runs]
                thresholds = [run.thresholds[target] for run in runs]
                by_side[side.letter] = {"thresholds": thresholds, "policies": policies}
        return points

    def _policy_callouts(self) -> list[str]:
        by_recall = [
            target
            for target in self.targets
            if all(str(run.policies[target]).startswith("recall>=") for run in self.runs)
        ]
        if not by_recall:
            return []
        which = "all targets" if len(by_recall) == len(self.targets) else ", ".join(by_recall)
        return [
            f"{which}: both sides chose their operating points on validation images to reach a recall; recall "
            "there follows from that choice. Gains show in precision, recall at matched precision and ROC AUC."
        ]

    def _quality_notes(self) -> list[str]:
        notes = []
        if self.mismatched:
            notes.append(
                f"{self.mismatched:,} images are left out: their ImageID belongs to another patient or file in the "
                "other run."
            )
        if self.labels_left_out:
            counts = ", ".join(f"{target} {count:,}" for target, count in self.labels_left_out.items())
            notes.append(f"Labels that differ between the runs are left out: {counts}.")
        for run in self.runs:
            if any(run.policies[target] is None for target in self.targets):
                notes.append(
                    f"{run.name} has no frozen operating points; the thresholds of its settings are used."
                )
            if (run.folder.record.get("split") or {}).get("unit") == "image":
                notes.append(
                    f"{run.name} was split by image: a patient may be in both parts, and its scores too high."
                )
        return notes

    def _flips(self, mine: _Run, yours: _Run) -> Flips:
        before, after = self.aligned[self.runs.index(mine)], self.aligned[self.runs.index(yours)]
        flipped = (before.predicted != after.predicted) & ~np.isnan(before.y_true)
        counts, images = {}, {}
        for column, target in enumerate(self.targets):
            flips = []
            for row in np.flatnonzero(flipped[:, column]).tolist():
                label = int(before.y_true[row, column])
                is_new_error = after.predicted[row, column] != label
                kind = FLIP_KINDS[(0 if is_new_error else 2) + (0 if label else 1)]
                score, other = float(before.y_score[row, column]), float(after.y_score[row, column])
                flips.append(Flip(int(self.ids[row]), self.patients[row], label, score, other, kind))
            images[target] = tuple(sorted(flips, key=lambda flip: flip.sort_key))
            counts[target] = {kind: sum(flip.kind == kind for flip in flips) for kind in FLIP_KINDS}
        return Flips(mine.name, yours.name, counts, images)


def _shift_callouts(claim: Claim) -> list[str]:
    """Where recall rose or fell without a better or worse ranking."""
    names: dict[str, list[str]] = {}
    for name, scores in ({"mean over targets": claim.mean} | claim.targets).items():
        if shift := _pure_shift(scores):
            names.setdefault(shift, []).append(name)
    return [f"{', '.join(shifted)}: {shift}." for shift, shifted in names.items()]


def _pure_shift(scores: dict[str, ScoreDifference]) -> str | None:
    recall, rate = scores["recall"], scores["predicted_positive_rate"]
    costs = [scores[name].difference for name in ("precision", "specificity")]
    ranking = (scores["roc_auc"].verdict, scores["avg_precision"].verdict)
    if recall.verdict == "better" and rate.difference > 0 and "better" not in ranking:
        return MORE_POSITIVES if any(cost < 0 for cost in costs) else None
    if recall.verdict == "worse" and rate.difference < 0 and "worse" not in ranking:
        return FEWER_POSITIVES if any(cost > 0 for cost in costs) else None
    return None

"""Runs compared: what differs between them, how their scores differ, and which images they see otherwise.

The first run is the reference, A. Runs that are equal but for the seed are repeats of each other and form one
side; each of the other sides is compared with A, on validation images that both have evaluated.
"""

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from hilum.errors import HilumError
from hilum.metrics.comparison import (
    COMPARED_SCORES,
    RunScores,
    ScoreDifference,
    adjusted_over_targets,
    mean_over_targets,
    models_difference,
    not_seen_to_differ,
    pooled_degrees_of_freedom,
    score_runs,
    settings_difference,
)
from hilum.metrics.ranking import refuse_bad_labels, refuse_bad_probabilities
from hilum.report.comparison_types import (
    FLIP_KINDS,
    PAIRS_BY_SEED,
    SAME_IMAGES,
    Claim,
    Comparison,
    Flip,
    Flips,
    ImagesCompared,
    RunSummary,
    Side,
    SideComparison,
    gravest_first,
)
from hilum.report.differences import differences, repeats_key
from hilum.run_folder import RunFolder

MORE_POSITIVES = "recall rose by predicting more positives, not by ranking better"
FEWER_POSITIVES = "recall fell by predicting fewer positives, not by ranking worse"


def compare_runs(folders: Sequence[RunFolder], *, replicates: int = 1000, seed: int = 0) -> Comparison:
    """Compares runs with the first of them.

    Args:
        folders: two runs or more. Those equal but for the seed are taken together, unless all are: then
            each is a side of its own.
        replicates: bootstrap samples of the patients.
        seed: of these samples.

    Raises:
        HilumError: fewer than two runs, a run without an ended epoch, no target or image in common, fewer
            than two patients, predictions that are damaged or not from 0 to 1.
    """
    if len(folders) < 2:
        raise HilumError(f"There is {len(folders)} run to compare; name two or more, the reference first.")
    if replicates < 100:
        raise HilumError(
            f"replicates is {replicates}; an interval needs 100 samples of the patients or more."
        )
    runs = [_Evaluated(folder) for folder in folders]
    groups, notes = _grouped(runs)
    sides = [
        Side(_letter(number), of_side[0].name, tuple(run.summary for run in of_side))
        for number, of_side in enumerate(groups)
    ]
    notes += [
        f"{run.folder.path} is {run.folder.record['status']}, not finished: its best epoch so far is compared."
        for run in runs
        if run.folder.record["status"] != "finished"
    ]
    comparisons = tuple(
        _Pairing(sides[0], groups[0], side, of_side).compared(replicates, seed)
        for side, of_side in zip(sides[1:], groups[1:], strict=True)
    )
    return Comparison(sides[0], comparisons, replicates, seed, tuple(notes))


class _Evaluated:
    """A run with the predictions of its best epoch on its validation part."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.name = folder.record.get("name", folder.path.name)
        self.seed = int(folder.settings.get("seed", 0))
        epoch = folder.best_epoch
        self.summary = RunSummary(self.name, str(folder.path), self.seed, epoch, folder.record["status"])
        predictions = folder.predictions(epoch)
        columns = [f"{kind}_{target}" for target in folder.targets for kind in ("label", "prob")]
        missing = [name for name in ("part", "ImageID", *columns) if name not in predictions]
        if missing:
            raise HilumError(
                f"{folder.path}: the predictions of epoch {epoch} have no column {', '.join(missing)}; "
                "the file is not what the run has written."
            )
        val = predictions[predictions["part"] == "val"].drop_duplicates("ImageID").set_index("ImageID")
        patients = folder.split().drop_duplicates("ImageID").set_index("ImageID")["PatientID"]
        unknown = ~val.index.isin(patients.index)
        if unknown.any():
            raise HilumError(
                f"{folder.path}: ImageID {val.index[unknown][0]} has a prediction but is not in split.parquet; "
                "the files are not of the same run."
            )
        self.patients = patients.loc[val.index]
        self.ids = val.index.to_numpy(dtype=np.int64)
        self.labels = val[[f"label_{target}" for target in folder.targets]].set_axis(folder.targets, axis=1)
        self.probabilities = val[[f"prob_{target}" for target in folder.targets]].set_axis(
            folder.targets, axis=1
        )
        for target in folder.targets:
            where = f"{folder.path}, epoch {epoch}, {target}"
            refuse_bad_labels(self.labels[target].to_numpy(), where, self.ids)
            refuse_bad_probabilities(self.probabilities[target].to_numpy(), where, self.ids)
        self.thresholds = folder.operating_thresholds()

    @property
    def data(self) -> str | None:
        """The fingerprint of its data set."""
        return (self.folder.record.get("catalog") or {}).get("fingerprint")

    def policy(self, target: str) -> str | None:
        """How the operating point was chosen; None if the run has none, but only thresholds."""
        return (self.folder.record.get("operating_points") or {}).get(target, {}).get("policy")

    def file_names(self, ids: np.ndarray) -> np.ndarray | None:
        """The images' file names, if the run has kept them."""
        if not (self.folder.path / "images.parquet").is_file():
            return None
        images = self.folder.images().drop_duplicates("ImageID").set_index("ImageID")
        if "Image_Path" not in images or not np.isin(ids, images.index).all():
            return None
        paths = images["Image_Path"].loc[ids].astype(str)
        return np.array([PurePosixPath(path).name for path in paths])


def _grouped(runs: Sequence[_Evaluated]) -> tuple[list[list[_Evaluated]], list[str]]:
    """Repeats over seeds taken together, in the order of their first runs; and what there is to say of it."""
    by_key: dict[str, list[_Evaluated]] = {}
    for run in runs:
        by_key.setdefault(repeats_key(run.folder), []).append(run)
    if len(by_key) == 1:
        note = "Nothing but the seed differs between the runs, so each is a side of its own."
        return [[run] for run in runs], [note] if len(runs) > 2 else []
    groups, notes = [], []
    for of_key in by_key.values():
        by_seed: dict[int, _Evaluated] = {}
        for run in of_key:
            first = by_seed.setdefault(run.seed, run)
            if first is not run:
                notes.append(
                    f"{run.folder.path} is left out: {first.folder.path} has the same settings and the same "
                    f"seed ({run.seed}), and a repeat needs another seed."
                )
        groups.append(list(by_seed.values()))
    return groups, notes


class _Pairing:
    """Two sides brought onto the same images, targets and labels.

    Attributes:
        ours, theirs: the runs of A and of B that take part; of pairs by seed, in the order of the seeds.
        ids: (N,) int64 the images compared.
        patients: (N,) whose they are.
        labels: (S, N, T) of A's runs, then B's; NaN where it is unknown, differs, or is not evaluated.
        probabilities: (S, N, T).
    """

    def __init__(
        self, reference: Side, ours: list[_Evaluated], other: Side, theirs: list[_Evaluated]
    ) -> None:
        self.reference, self.other = reference, other
        self.ours, self.theirs = ours, theirs
        self.notes: list[str] = []
        self.targets, self.targets_left_out = self._common_targets()
        self.other_patients = 0
        self.design, common = self._common_images()
        self.ids = np.unique(np.concatenate(common))
        known_patients = pd.concat([run.patients for run in self.ours])
        known_patients = known_patients[~known_patients.index.duplicated()]
        self.patients = known_patients.loc[self.ids].to_numpy()
        # Text and whole numbers side by side cannot be sorted, and so not be counted.
        self.patient_codes = np.unique(self.patients.astype(str), return_inverse=True)[1]
        if self.patient_codes.max() < 1:
            raise HilumError(
                f"The {len(self.ids)} images that {reference.name} and {other.name} have both evaluated are all "
                f"of patient {self.patients[0]}; a comparison needs two patients or more."
            )
        self.labels, self.probabilities, self.labels_left_out = self._aligned(common)

    @property
    def paired(self) -> bool:
        """Whether each seed has images of its own."""
        return self.design == PAIRS_BY_SEED

    def compared(self, replicates: int, seed: int) -> SideComparison:
        """The whole comparison of the two sides."""
        ours, count = list(range(len(self.ours))), len(self.ours) + len(self.theirs)
        theirs = list(range(len(self.ours), count))
        thresholds = np.array(
            [[run.thresholds[target] for target in self.targets] for run in [*self.ours, *self.theirs]]
        )
        matched_to = [[run % len(ours)] if self.paired else ours for run in range(count)]
        scores = score_runs(
            self.labels,
            self.probabilities,
            self.patient_codes,
            thresholds,
            matched_to,
            replicates=replicates,
            seed=seed,
        )
        about_models = self._about_models(scores, ours, theirs)
        about_settings = self._about_settings(scores, ours, theirs, about_models)
        mine, yours = self._closest_runs()
        claim = about_settings if about_settings.available else about_models
        return SideComparison(
            reference=self.reference,
            other=self.other,
            differences=differences(
                mine.folder, yours.folder, repeated=min(len(self.ours), len(self.theirs)) > 1
            ),
            images=self._images_compared(),
            targets=tuple(self.targets),
            targets_left_out=self.targets_left_out,
            points=self._points(),
            about_models=about_models,
            about_settings=about_settings,
            flips=self._flips(mine, yours),
            callouts=(*_callouts(claim), *self._fixed_by_policy()),
            notes=(*self.notes, *self._notes()),
        )

    def _common_targets(self) -> tuple[list[str], dict[str, str]]:
        everywhere = [set(run.folder.targets) for run in [*self.ours, *self.theirs]]
        common = [target for target in self.ours[0].folder.targets if all(target in of for of in everywhere)]
        if not common:
            raise HilumError(
                f"{self.reference.name} and {self.other.name} have no target in common: "
                f"{', '.join(self.ours[0].folder.targets)}; and {', '.join(self.theirs[0].folder.targets)}. "
                "Compare runs on the same targets."
            )
        left_out = {}
        for side, run in ((self.other, self.ours[0]), (self.reference, self.theirs[0])):
            for target in run.folder.targets:
                if target not in common:
                    left_out[target] = f"{side.name} has no such target"
        return common, left_out

    def _common_images(self) -> tuple[str, list[np.ndarray]]:
        """The design; and the ids compared: of all runs, once, or of each pair.

        Raises:
            HilumError: there are none.
        """
        if all(_have_the_same_images(side) for side in (self.ours, self.theirs)):
            return SAME_IMAGES, [self._shared_by([*self.ours, *self.theirs])]
        theirs = {run.seed: run for run in self.theirs}
        pairs = [(run, theirs[run.seed]) for run in self.ours if run.seed in theirs]
        if not pairs:
            self.notes.append(
                "The repeats have evaluated different images and no seed is on both sides: only the images "
                "that all of them evaluated are compared."
            )
            return SAME_IMAGES, [self._shared_by([*self.ours, *self.theirs])]
        left_out = [run.name for run in [*self.ours, *self.theirs] if not any(run in pair for pair in pairs)]
        if left_out:
            self.notes.append(f"Left out, as their seed is on one side alone: {', '.join(left_out)}.")
        self.ours, self.theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        return PAIRS_BY_SEED, [self._shared_by(pair) for pair in pairs]

    def _shared_by(self, runs: Sequence[_Evaluated]) -> np.ndarray:
        """The ids of the images that all these runs evaluated, rising."""
        shared = runs[0].ids
        for run in runs[1:]:
            shared = np.intersect1d(shared, run.ids)
        if not len(shared):
            raise HilumError(
                f"{' and '.join(run.name for run in runs)} have no validation image in common, so there is nothing "
                "to compare them on. Give the later run the split of the former: --split-file RUN/split.parquet."
            )
        same = np.ones(len(shared), dtype=bool)
        for run in runs[1:]:
            same &= _of_the_same_image(runs[0], run, shared)
        if not same.any():
            raise HilumError(
                f"{' and '.join(run.name for run in runs)} have {len(shared):,} ImageIDs in common, but they are "
                "of other patients or files: the data sets are not the same. Compare runs on the same data."
            )
        self.other_patients += int((~same).sum())
        return shared[same]

    def _aligned(self, common: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
        shape = (len(self.ours) + len(self.theirs), len(self.ids), len(self.targets))
        labels = np.full(shape, np.nan, dtype=np.float32)
        probabilities = np.zeros(shape, dtype=np.float32)
        for number, run in enumerate([*self.ours, *self.theirs]):
            ids = common[number % len(self.ours)] if self.paired else common[0]
            rows = np.searchsorted(self.ids, ids)
            labels[number, rows] = run.labels.loc[ids, self.targets].to_numpy()
            probabilities[number, rows] = run.probabilities.loc[ids, self.targets].to_numpy()
        teams = [list(range(shape[0]))]
        if self.paired:
            teams = [[pair, pair + len(self.ours)] for pair in range(len(self.ours))]
        differs = np.zeros(shape[1:], dtype=bool)
        for team in teams:
            of_team = labels[team]
            same = (of_team == of_team[0]) | (np.isnan(of_team) & np.isnan(of_team[0]))
            other_label = ~same.all(axis=0)
            labels[np.ix_(team, *map(np.arange, shape[1:]))] = np.where(other_label, np.nan, of_team)
            differs |= other_label
        counts = zip(self.targets, differs.sum(axis=0).tolist(), strict=True)
        return labels, probabilities, {target: count for target, count in counts if count}

    def _about_models(self, scores: RunScores, ours: list[int], theirs: list[int]) -> Claim:
        by_score, means = {}, {}
        for score in COMPARED_SCORES:
            of_targets = {
                target: self._unless_same(
                    column,
                    models_difference(
                        score, *_of_target(scores, score, column, [*ours, *theirs]), ours, theirs
                    ),
                )
                for column, target in enumerate(self.targets)
            }
            defined = [column for column, of in enumerate(of_targets.values()) if of.is_defined]
            means[score] = models_difference(
                score,
                *mean_over_targets(scores, score, defined),
                self._pooled(of_targets, defined),
                ours,
                theirs,
            )
            by_score[score] = adjusted_over_targets(score, of_targets)
        one = len(ours) == len(theirs) == 1
        statement = (
            "It speaks of these two trained models only, on other patients."
            if one
            else f"It speaks of these {len(ours)} + {len(theirs)} trained models only, on other patients."
        )
        return Claim("models", True, None, statement, means, _by_target(by_score, self.targets))

    def _unless_same(self, column: int, of: ScoreDifference) -> ScoreDifference:
        """The difference as it is for equal predictions, else without the certainty of samples that do not vary."""
        ours = self.probabilities[: len(self.ours), :, column]
        theirs = self.probabilities[len(self.ours) :, :, column]
        same = ours.shape == theirs.shape and np.array_equal(ours, theirs, equal_nan=True)
        return of if same else not_seen_to_differ(of)

    def _about_settings(self, scores: RunScores, ours: list[int], theirs: list[int], models: Claim) -> Claim:
        if min(len(ours), len(theirs)) < 2:
            reason = "train two seeds or more on each side"
            statement = "Nothing can be said about the settings: another seed might turn the result around."
            return Claim("settings", False, reason, statement, {}, {})
        by_score, means = {}, {}
        for score in COMPARED_SCORES:
            of_targets = {
                target: self._unless_same(
                    column,
                    settings_difference(
                        score,
                        *_of_target(scores, score, column, [*ours, *theirs]),
                        ours,
                        theirs,
                        paired=self.paired,
                    ),
                )
                for column, target in enumerate(self.targets)
            }
            defined = [column for column, of in enumerate(of_targets.values()) if of.is_defined]
            of_models = {target: models.targets[target][score] for target in self.targets}
            means[score] = settings_difference(
                score,
                *mean_over_targets(scores, score, defined),
                self._pooled(of_models, defined),
                ours,
                theirs,
                paired=self.paired,
            )
            by_score[score] = adjusted_over_targets(score, of_targets)
        repeats = f"{len(ours)} pairs of seeds" if self.paired else f"{len(ours)} + {len(theirs)} seeds"
        statement = f"It speaks of the settings, from {repeats}: other seeds and other patients."
        return Claim("settings", True, None, statement, means, _by_target(by_score, self.targets))

    def _pooled(self, of_targets: dict[str, ScoreDifference], defined: list[int]) -> float:
        pooled = [of_targets[self.targets[column]] for column in defined]
        return pooled_degrees_of_freedom(pooled, int(self.patient_codes.max()) + 1)

    def _closest_runs(self) -> tuple[_Evaluated, _Evaluated]:
        """A run of each side, of the same seed if there are two such."""
        theirs = {run.seed: run for run in reversed(self.theirs)}
        for run in self.ours:
            if run.seed in theirs:
                return run, theirs[run.seed]
        return self.ours[0], self.theirs[0]

    def _images_compared(self) -> ImagesCompared:
        ours, theirs = (
            np.unique(np.concatenate([run.ids for run in side])) for side in (self.ours, self.theirs)
        )
        pairs = []
        if self.paired:
            for mine, yours in zip(self.ours, self.theirs, strict=True):
                rows = np.isin(self.ids, np.intersect1d(mine.ids, yours.ids))
                pairs.append(
                    {
                        "seed": mine.seed,
                        "reference": mine.name,
                        "other": yours.name,
                        "images": int(rows.sum()),
                        "patients": len(np.unique(self.patient_codes[rows])),
                    }
                )
        return ImagesCompared(
            images=len(self.ids),
            patients=int(self.patient_codes.max()) + 1,
            design=self.design,
            pairs=tuple(pairs),
            only_reference=int((~np.isin(ours, self.ids)).sum()),
            only_other=int((~np.isin(theirs, self.ids)).sum()),
            other_patients=self.other_patients,
            labels_left_out=self.labels_left_out,
        )

    def _points(self) -> dict[str, dict[str, dict[str, list[Any]]]]:
        sides = {self.reference.letter: self.ours, self.other.letter: self.theirs}
        return {
            target: {
                letter: {
                    "thresholds": [float(run.thresholds[target]) for run in runs],
                    "policies": [run.policy(target) for run in runs],
                }
                for letter, runs in sides.items()
            }
            for target in self.targets
        }

    def _fixed_by_policy(self) -> list[str]:
        fixed = [
            target
            for target in self.targets
            if all(str(run.policy(target)).startswith("recall>=") for run in [*self.ours, *self.theirs])
        ]
        if not fixed:
            return []
        which = "all targets" if len(fixed) == len(self.targets) else ", ".join(fixed)
        return [
            f"{which}: both sides chose their operating points on validation images so as to reach a recall; recall "
            "there follows from that choice. Gains show in precision, recall at matched precision and ROC AUC."
        ]

    def _notes(self) -> list[str]:
        notes = []
        if self.other_patients:
            notes.append(
                f"{self.other_patients:,} images are left out: their ImageID is another patient's or file's in "
                "the other run."
            )
        if self.labels_left_out:
            each = ", ".join(f"{target} {count:,}" for target, count in self.labels_left_out.items())
            notes.append(f"Labels differ between the runs and are left out: {each}.")
        for run in [*self.ours, *self.theirs]:
            if any(run.policy(target) is None for target in self.targets):
                notes.append(
                    f"{run.name} has no frozen operating points; the thresholds of its settings are used."
                )
            if (run.folder.record.get("split") or {}).get("unit") == "image":
                notes.append(
                    f"{run.name} was split by image: patients may be on both sides of it, and its scores too high."
                )
        return notes

    def _flips(self, mine: _Evaluated, yours: _Evaluated) -> Flips:
        reference, other = self.ours.index(mine), len(self.ours) + self.theirs.index(yours)
        counts, images = {}, {}
        for column, target in enumerate(self.targets):
            flips = []
            labels = self.labels[reference, :, column]
            pair = self.probabilities[[reference, other], :, column]
            predicted = [
                of_run >= np.float32(run.thresholds[target])
                for of_run, run in zip(pair, (mine, yours), strict=True)
            ]
            for row in np.flatnonzero((predicted[0] != predicted[1]) & ~np.isnan(labels)):
                positive, now_wrong = labels[row] == 1, predicted[1][row] != (labels[row] == 1)
                kind = FLIP_KINDS[(0 if now_wrong else 2) + (0 if positive else 1)]
                patient = self.patients[row]
                flips.append(
                    Flip(
                        int(self.ids[row]),
                        patient.item() if isinstance(patient, np.generic) else patient,
                        int(positive),
                        float(pair[0, row]),
                        float(pair[1, row]),
                        kind,
                    )
                )
            flips.sort(key=gravest_first)
            images[target] = tuple(flips)
            counts[target] = {kind: sum(flip.kind == kind for flip in flips) for kind in FLIP_KINDS}
        return Flips(mine.name, yours.name, counts, images)


def _letter(number: int) -> str:
    """A … Z, then A1, B1, …"""
    rounds, place = divmod(number, 26)
    return chr(ord("A") + place) + (str(rounds) if rounds else "")


def _have_the_same_images(runs: Sequence[_Evaluated]) -> bool:
    first = np.sort(runs[0].ids)
    return all(np.array_equal(first, np.sort(run.ids)) for run in runs[1:])


def _of_the_same_image(run: _Evaluated, other: _Evaluated, ids: np.ndarray) -> np.ndarray:
    """Whether each ImageID is of one image in both runs, (N,) bool; of equal data all are."""
    same = np.ones(len(ids), dtype=bool)
    if run.data is not None and run.data == other.data:
        return same
    same &= (run.patients.loc[ids].astype(str) == other.patients.loc[ids].astype(str)).to_numpy()
    names, other_names = run.file_names(ids), other.file_names(ids)
    if names is not None and other_names is not None:
        same &= names == other_names
    return same


def _of_target(
    scores: RunScores, score: str, column: int, runs: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, float]:
    """The score of each run, the same over samples of the patients, and the patients' degrees of freedom."""
    return (
        scores.estimate[score][:, column],
        scores.replicates[score][:, :, column],
        float(scores.patients[score][list(runs), column].min() - 1),
    )


def _by_target(
    by_score: dict[str, dict[str, ScoreDifference]], targets: Iterable[str]
) -> dict[str, dict[str, ScoreDifference]]:
    return {target: {score: by_score[score][target] for score in by_score} for target in targets}


def _callouts(claim: Claim) -> list[str]:
    """Where recall went up or down but the ranking did not get better or worse."""
    found: dict[str, list[str]] = {}
    for name, scores in ({"mean over targets": claim.mean} | claim.targets).items():
        if words := _pure_shift(scores):
            found.setdefault(words, []).append(name)
    return [f"{', '.join(names)}: {words}." for words, names in found.items()]


def _pure_shift(scores: dict[str, ScoreDifference]) -> str | None:
    recall, rate = scores["recall"], scores["predicted_positive_rate"]
    price = (scores["precision"], scores["specificity"])
    ranking = (scores["roc_auc"].verdict, scores["avg_precision"].verdict)
    if recall.verdict == "better" and rate.difference > 0 and "better" not in ranking:
        return MORE_POSITIVES if any(score.difference < 0 for score in price) else None
    if recall.verdict == "worse" and rate.difference < 0 and "worse" not in ranking:
        return FEWER_POSITIVES if any(score.difference > 0 for score in price) else None
    return None

"""What the service answers, as OpenAPI describes it."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from hilum.inference import DEFAULT_METHOD, HEATMAP_METHODS, RESEARCH_USE
from hilum.inference.image import PreparedImage
from hilum.inference.reader import Finding, ImageResult, OcclusionCheck, StudyResult
from hilum.service.security import ServiceLimits

_FINDING = {
    "target": "Pleural_Effusion",
    "probability": 0.71,
    "threshold": 0.22,
    "threshold_measured": True,
    "suggested": True,
    "priority": 2.16,
    "recall": 0.91,
    "recall_low": 0.86,
    "recall_high": 0.95,
    "calibrated": None,
}
_FLAG = {
    "code": "unknown-view",
    "words": "The file does not say its view; the model has only seen PA and AP.",
    "refused": False,
}


class FlagAnswer(BaseModel):
    """A reason for doubt about an image."""

    code: str = Field(description="for programs")
    words: str = Field(description="for people")
    refused: bool = Field(description="whether it keeps the image from being scored")


class FindingAnswer(BaseModel):
    """What the model gives one target."""

    model_config = ConfigDict(json_schema_extra={"examples": [_FINDING]})

    target: str
    probability: float = Field(ge=0, le=1)
    threshold: float = Field(ge=0, description="of the frozen operating point")
    threshold_measured: bool = Field(
        description="whether validation had positives to measure the threshold by; else it is 0.5 or was given by hand"
    )
    suggested: bool = Field(description="whether the probability reaches the threshold")
    priority: float = Field(
        description="log odds above (or below) the threshold's; findings are ordered by it"
    )
    recall: float | None = Field(description="of the operating point, on the validation part")
    recall_low: float | None = Field(description="lower end of its 95 % interval")
    recall_high: float | None = Field(description="upper end of its 95 % interval")
    calibrated: float | None = Field(description="the probability after calibration, of a run with one")


class OcclusionAnswer(BaseModel):
    """Whether the model needs what a heatmap shows: a square around its hottest place is hidden."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"probability": 0.81, "hidden": 0.42, "lowers": True, "stronger_than": 0.97}]
        }
    )

    probability: float = Field(description="of the whole image")
    hidden: float = Field(description="with the hottest place hidden")
    lowers: bool = Field(description="whether hiding it lowers the probability")
    stronger_than: float = Field(
        ge=0, le=1, description="share of the image whose hiding lowers it less than this does"
    )


class ImageAnswer(BaseModel):
    """One image, read or refused."""

    name: str = Field(description="as it was sent")
    rows: int
    columns: int
    view: str | None = Field(description="PA, AP or lateral, where the file says so")
    refused: bool = Field(description="a flag has kept the image from being scored; there are no findings")
    flags: list[FlagAnswer]
    findings: list[FindingAnswer] = Field(description="recall first: suggested ones, then by priority")
    seconds: float = Field(description="of the model")
    pixels: str | None = Field(
        default=None, description="the decoded image, a PNG as a data URI, if asked for"
    )
    heatmaps: dict[str, str] = Field(
        default_factory=dict, description="target to a PNG as a data URI, gray levels 0 to 255 for 0 to 1"
    )
    occlusion: dict[str, OcclusionAnswer] = Field(
        default_factory=dict, description="of each heatmap: what hiding its hottest place does"
    )


class StudyAnswer(BaseModel):
    """The request's images as one study: the mean of the probabilities of those that were read."""

    images: int
    refused: int
    findings: list[FindingAnswer]


class Prediction(BaseModel):
    """The answer to /v1/predict."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "research_use": RESEARCH_USE,
                    "model": "nih-320",
                    "images": [
                        {
                            "name": "chest.png",
                            "rows": 1024,
                            "columns": 1024,
                            "view": None,
                            "refused": False,
                            "flags": [_FLAG],
                            "findings": [_FINDING],
                            "seconds": 0.03,
                            "pixels": None,
                            "heatmaps": {},
                            "occlusion": {},
                        }
                    ],
                    "study": {"images": 1, "refused": 0, "findings": [_FINDING]},
                }
            ]
        }
    )

    research_use: str
    model: str
    images: list[ImageAnswer]
    study: StudyAnswer


class Problem(BaseModel):
    """What is wrong."""

    code: str = Field(description="for programs")
    message: str = Field(description="for people")
    file: str | None = Field(description="the name of the file that is meant")


class Refusal(BaseModel):
    """The body of every answer of 400 and above."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "code": "unreadable",
                        "message": "chest.png: the image is truncated (1,204 bytes without an end mark).",
                        "file": "chest.png",
                    }
                }
            ]
        }
    )

    error: Problem


class Health(BaseModel):
    """The answer to /healthz."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: str


_REASONS = {
    400: "The body is no whole multipart form.",
    401: "The token is missing or wrong.",
    403: "Another host or another site's page.",
    404: "No such run, image or finding, or nothing to read with.",
    408: "The body did not arrive in time.",
    409: "It is there, but cannot be used: a run without a checkpoint, say.",
    413: "A file, the request or an image is too large, or there are too many files.",
    415: "The body is no form, or a file is no kind of image that is read.",
    422: "A file cannot be read as an image, or a parameter is wrong.",
    503: "Too busy, or not done in time: ask again after Retry-After seconds.",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """FastAPI's `responses` for these statuses."""
    return {status: {"model": Refusal, "description": _REASONS[status]} for status in statuses}


def finding_answer(finding: Finding) -> FindingAnswer:
    """As JSON."""
    values = {name: getattr(finding, name) for name in FindingAnswer.model_fields if name != "target"}
    return FindingAnswer(target=finding.finding, **values)


def occlusion_answer(check: OcclusionCheck) -> OcclusionAnswer:
    """As JSON."""
    return OcclusionAnswer(**{name: getattr(check, name) for name in OcclusionAnswer.model_fields})


def image_answer(
    result: ImageResult,
    image: PreparedImage,
    pixels: str | None = None,
    heatmaps: dict[str, str] | None = None,
    occlusion: dict[str, OcclusionAnswer] | None = None,
) -> ImageAnswer:
    """As JSON; the image's pixels only if they are given."""
    return ImageAnswer(
        name=image.name,
        rows=image.pixels.shape[0],
        columns=image.pixels.shape[1],
        view=image.view,
        refused=image.refused,
        flags=[FlagAnswer(code=flag.code, words=flag.message, refused=flag.refused) for flag in image.flags],
        findings=[finding_answer(finding) for finding in result.findings],
        seconds=result.seconds,
        pixels=pixels,
        heatmaps=heatmaps or {},
        occlusion=occlusion or {},
    )


def study_answer(study: StudyResult) -> StudyAnswer:
    """As JSON."""
    return StudyAnswer(
        images=study.images,
        refused=study.refused,
        findings=[finding_answer(finding) for finding in study.findings],
    )


_DIGEST = "5f0c" * 16
_TARGET = "Pleural_Effusion"

_CARD: dict[str, Any] = {
    "format": 2,
    "digest": _DIGEST,
    "epoch": 4,
    "name": "nih-320",
    "research_use": RESEARCH_USE,
    "targets": [_TARGET],
    "thresholds": {
        _TARGET: {
            "threshold": 0.22,
            "policy": "recall>=0.9",
            "recall": 0.91,
            "recall_low": 0.86,
            "recall_high": 0.95,
        }
    },
    "preprocessing": {
        "width": 320,
        "height": 320,
        "fit": "stretch",
        "interpolation": "auto",
        "bit_depth": 8,
        "channels": 1,
        "pixel_mean": 0.5,
        "pixel_sd": 0.25,
        "views": {"PA": 3100, "AP": 1900},
        "reference": None,
        "reference_lack": "the run does not say where its images are",
    },
    "calibration": None,
    "scores": [
        {
            "target": _TARGET,
            "roc_auc": 0.84,
            "roc_auc_low": 0.81,
            "roc_auc_high": 0.87,
            "recall": 0.91,
            "precision": 0.31,
            "specificity": 0.58,
        }
    ],
    "provenance": {
        "run": "nih-320",
        "started": "2026-03-02T09:00:00+00:00",
        "finished": "2026-03-02T10:10:00+00:00",
        "net_name": "resnet_grayscale",
        "net_kwargs": {},
        "epoch": 4,
        "digest": _DIGEST,
        "seed": 0,
        "data": {"name": "NIH ChestX-ray14", "fingerprint": "ab12" * 16, "images": 112120},
        "split": {"fingerprint": "cd34" * 16, "unit": "patient", "parts": {}},
        "versions": {"hilum": "0.1.0"},
        "git_commit": "9b1e" * 10,
    },
}


class CardAnswer(BaseModel):
    """What a reader of the model's findings must know of it; a bundle's has more."""

    model_config = ConfigDict(extra="allow")

    format: int | None = Field(default=None, description="of the card")
    digest: str | None = Field(default=None, description="of the run, the same for the same weights")
    epoch: int | None = Field(default=None, description="whose weights these are")
    name: str | None = None
    research_use: str | None = None
    targets: list[str]
    thresholds: dict[str, dict[str, Any]] = Field(
        description="the frozen operating points by target, with their recall's 95 % interval if it was measured"
    )
    preprocessing: dict[str, Any] = Field(
        description="size, fit, views and gray levels that the model was trained on"
    )
    calibration: Any = Field(default=None, description="of the probabilities, of a run with one")
    scores: list[dict[str, Any]] | None = Field(
        default=None, description="on the validation part: per target, with 95 % intervals (_low, _high)"
    )
    provenance: dict[str, Any] | None = Field(
        default=None, description="network, data, split, versions and commit"
    )


class LimitsAnswer(BaseModel):
    """What a request may take."""

    file_bytes: int = Field(description="of one file")
    pixels: int = Field(description="of one image")
    files: int = Field(description="in one request")
    body_bytes: int = Field(description="of one request")
    seconds: float = Field(description="for an answer")


class HeatmapsAnswer(BaseModel):
    """How heatmaps can be made."""

    methods: list[str]
    default: str


class ModelAnswer(BaseModel):
    """The answer to /v1/model."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "research_use": RESEARCH_USE,
                    "card": _CARD,
                    "limits": ServiceLimits().as_record(),
                    "heatmaps": {"methods": list(HEATMAP_METHODS), "default": DEFAULT_METHOD},
                    "runs": False,
                }
            ]
        }
    )

    research_use: str
    card: CardAnswer
    limits: LimitsAnswer
    heatmaps: HeatmapsAnswer
    runs: bool = Field(description="whether the service is for a folder of runs")


class SettingAnswer(BaseModel):
    """One setting of a run."""

    value: Any
    words: str = Field(description="the value for people")
    changed: bool = Field(description="whether it is not the default")


class RunAnswer(BaseModel):
    """One run of the table."""

    name: str = Field(description="of its folder")
    status: str = Field(description="running, finished or failed")
    started: str
    seconds: float | None = Field(description="that it took")
    epochs_done: int
    best_epoch: int | None
    scores: dict[str, float | None] = Field(description="of the best epoch: means over the targets")
    data: str | None = Field(description="the name of the data set")
    targets: list[str]
    digest: str | None
    settings: dict[str, SettingAnswer]


class RunsAnswer(BaseModel):
    """The answer to /v1/runs."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "folder": "runs",
                    "runs": [
                        {
                            "name": "baseline",
                            "status": "finished",
                            "started": "2026-03-02T09:00:00+00:00",
                            "seconds": 4200.0,
                            "epochs_done": 5,
                            "best_epoch": 4,
                            "scores": {"recall": 0.91, "roc_auc": 0.84, "precision": 0.31},
                            "data": "NIH ChestX-ray14",
                            "targets": [_TARGET],
                            "digest": _DIGEST,
                            "settings": {
                                "learning_rate": {"value": 0.001, "words": "0.001", "changed": True}
                            },
                        }
                    ],
                    "differing": ["learning_rate"],
                    "best": "baseline",
                    "problems": [],
                }
            ]
        }
    )

    folder: str
    runs: list[RunAnswer] = Field(description="the oldest first")
    differing: list[str] = Field(description="the settings that are not the same in all runs")
    best: str | None = Field(description="the run of the highest score")
    problems: list[str] = Field(description="folders that are no runs, each with the reason")


class PartAnswer(BaseModel):
    """The scores of one part over the epochs."""

    epochs: list[int]
    mean: dict[str, list[float | None]] = Field(description="by score: over the targets, one per epoch")
    targets: dict[str, dict[str, list[float | None]]] = Field(description="by target and score")


class CurvesAnswer(BaseModel):
    """The answer to /v1/runs/{name}/curves."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "baseline",
                    "best_epoch": 2,
                    "words": {"roc_auc": "ROC AUC", "loss": "Loss"},
                    "parts": {
                        "val": {
                            "epochs": [1, 2],
                            "mean": {"roc_auc": [0.79, 0.84], "loss": [0.31, 0.28]},
                            "targets": {_TARGET: {"roc_auc": [0.8, 0.85]}},
                        }
                    },
                }
            ]
        }
    )

    name: str
    best_epoch: int | None
    words: dict[str, str] = Field(description="the scores for people")
    parts: dict[str, PartAnswer] = Field(description="train and val")


class MistakeAnswer(BaseModel):
    """An image that the run is wrong about."""

    image_id: int
    target: str
    probability: float
    threshold: float
    file: str | None = Field(description="its name, without its folder")


class MistakesAnswer(BaseModel):
    """The answer to /v1/runs/{name}/mistakes."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "baseline",
                    "epoch": 4,
                    "targets": [_TARGET],
                    "count": 12,
                    "images_here": True,
                    "mistakes": [
                        {
                            "image_id": 17,
                            "target": _TARGET,
                            "probability": 0.04,
                            "threshold": 0.22,
                            "file": "00000017_000.png",
                        }
                    ],
                }
            ]
        }
    )

    name: str
    epoch: int
    targets: list[str] = Field(description="of the run")
    count: int = Field(description="of all such mistakes")
    images_here: bool = Field(description="whether the run says where its images are")
    mistakes: list[MistakeAnswer]


class ImageFindingAnswer(BaseModel):
    """What the run says of a finding of one image."""

    target: str
    label: float | None = Field(description="1, 0, or none")
    probability: float = Field(description="in the best epoch")
    threshold: float
    suggested: bool
    history: list[float | None] = Field(description="the probability in every epoch")


class RunImageAnswer(BaseModel):
    """The answer to /v1/runs/{name}/images/{image_id}."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "baseline",
                    "image_id": 17,
                    "best_epoch": 2,
                    "about": {"Age": "50", "Sex": "male", "View": "PA", "File": "00000017_000.png"},
                    "epochs": [1, 2],
                    "findings": [
                        {
                            "target": _TARGET,
                            "label": 1.0,
                            "probability": 0.71,
                            "threshold": 0.22,
                            "suggested": True,
                            "history": [0.35, 0.71],
                        }
                    ],
                }
            ]
        }
    )

    name: str
    image_id: int
    best_epoch: int
    about: dict[str, str] = Field(description="in words; what is unknown is left out")
    epochs: list[int]
    findings: list[ImageFindingAnswer]


def _side(letter: str, name: str) -> dict[str, Any]:
    run = {"name": name, "path": f"runs/{name}", "seed": 0, "best_epoch": 4, "status": "finished"}
    return {"letter": letter, "name": name, "runs": [run]}


_DIFFERENCE = {
    "reference": 0.84,
    "other": 0.86,
    "difference": 0.02,
    "low": 0.004,
    "high": 0.036,
    "standard_error": 0.008,
    "degrees_of_freedom": 310.5,
    "p_value": 0.013,
    "p_adjusted": 0.013,
    "detectable": 0.023,
    "verdict": "better",
    "reason": None,
}


class ComparisonAnswer(BaseModel):
    """The answer to /v1/comparison: `hilum.report.comparison_types.Comparison` as JSON."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "reference": _side("A", "baseline"),
                    "comparisons": [
                        {
                            "reference": _side("A", "baseline"),
                            "other": _side("B", "faster"),
                            "differences": {
                                "groups": {
                                    "settings": [
                                        {"name": "learning_rate", "reference": 0.0001, "other": 0.001}
                                    ]
                                },
                                "seeds_only": False,
                                "statement": "One thing differs: learning_rate, 0.0001 → 0.001.",
                            },
                            "images": {
                                "images": 1000,
                                "patients": 420,
                                "design": "same images",
                                "pairs": [],
                                "only_reference": 0,
                                "only_other": 0,
                                "other_patients": 0,
                                "labels_left_out": {},
                            },
                            "targets": [_TARGET],
                            "targets_left_out": {},
                            "points": {
                                _TARGET: {
                                    "A": {"thresholds": [0.22], "policies": ["recall>=0.9"]},
                                    "B": {"thresholds": [0.25], "policies": ["recall>=0.9"]},
                                }
                            },
                            "about_models": {
                                "about": "models",
                                "available": True,
                                "reason": None,
                                "statement": "It speaks of these two trained models only, on other patients.",
                                "mean": {"roc_auc": _DIFFERENCE},
                                "targets": {_TARGET: {"roc_auc": _DIFFERENCE}},
                            },
                            "about_settings": {
                                "about": "settings",
                                "available": False,
                                "reason": "train two seeds or more on each side",
                                "statement": "Nothing can be said about the settings: another seed might turn "
                                "the result around.",
                                "mean": {},
                                "targets": {},
                            },
                            "flips": {
                                "reference_run": "baseline",
                                "other_run": "faster",
                                "counts": {
                                    _TARGET: {
                                        "new_false_negative": 0,
                                        "new_false_positive": 0,
                                        "mended_false_negative": 1,
                                        "mended_false_positive": 0,
                                    }
                                },
                                "images": {
                                    _TARGET: [
                                        {
                                            "image_id": 17,
                                            "patient_id": 9,
                                            "label": 1,
                                            "reference_probability": 0.2,
                                            "other_probability": 0.4,
                                            "kind": "mended_false_negative",
                                        }
                                    ]
                                },
                            },
                            "callouts": [],
                            "notes": [],
                        }
                    ],
                    "replicates": 1000,
                    "seed": 0,
                    "notes": [],
                }
            ]
        }
    )

    reference: dict[str, Any] = Field(description="side A")
    comparisons: list[dict[str, Any]] = Field(description="each other side beside it")
    replicates: int = Field(description="samples of the patients")
    seed: int = Field(description="of these samples")
    notes: list[str]

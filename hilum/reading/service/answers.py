"""What the service answers, as OpenAPI describes it."""

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from hilum.reading.constants import RESEARCH_USE
from hilum.reading.reader import Finding, Reading, Study

if TYPE_CHECKING:
    from hilum.reading.heatmaps import OcclusionCheck

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
    return FindingAnswer(**{name: getattr(finding, name) for name in FindingAnswer.model_fields})


def occlusion_answer(check: "OcclusionCheck") -> OcclusionAnswer:
    """As JSON."""
    return OcclusionAnswer(**{name: getattr(check, name) for name in OcclusionAnswer.model_fields})


def image_answer(
    reading: Reading,
    pixels: str | None = None,
    heatmaps: dict[str, str] | None = None,
    occlusion: dict[str, OcclusionAnswer] | None = None,
) -> ImageAnswer:
    """As JSON; the film's pixels only if they are given."""
    film = reading.film
    return ImageAnswer(
        name=film.name,
        rows=film.pixels.shape[0],
        columns=film.pixels.shape[1],
        view=film.view,
        refused=any(flag.refused for flag in film.flags),
        flags=[FlagAnswer(code=flag.code, words=flag.words, refused=flag.refused) for flag in film.flags],
        findings=[finding_answer(finding) for finding in reading.findings],
        seconds=reading.seconds,
        pixels=pixels,
        heatmaps=heatmaps or {},
        occlusion=occlusion or {},
    )


def study_answer(study: Study) -> StudyAnswer:
    """As JSON."""
    return StudyAnswer(
        images=study.films,
        refused=study.refused,
        findings=[finding_answer(finding) for finding in study.findings],
    )

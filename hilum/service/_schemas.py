"""The JSON answers of the service. `examples.json` has an example of each, for OpenAPI.

A target is a label that the model was trained on; a finding is what the model gives one target in one image.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from hilum.inference.quality_checks import about
from hilum.inference.reader import ImageResult, OcclusionCheck, StudyResult

#: Of the answers. 2: names are those of the code: `finding`, `image`, `status`, `message`, `metadata`, `text`.
API_FORMAT = 2

_EXAMPLES = json.loads((Path(__file__).parent / "examples.json").read_text(encoding="utf-8"))

Series = list[float | None]


def _add_example(schema: JsonDict, answer: type) -> None:
    schema["examples"] = [_EXAMPLES[answer.__name__]]


class Answer(BaseModel):
    """An answer with an example under its name in `examples.json`."""

    model_config = ConfigDict(json_schema_extra=_add_example)


class Health(Answer):
    """The answer to /healthz."""

    status: str


@dataclass(frozen=True)
class ImageAnswer(ImageResult):
    """The result of one image."""

    pixels: str | None = field(
        default=None, metadata=about("the decoded image as PNG in a data URI, if requested")
    )
    heatmaps: dict[str, str] = field(
        default_factory=dict,
        metadata=about("by target: a PNG in a data URI, gray levels 0 to 255 for 0 to 1"),
    )
    occlusion: dict[str, OcclusionCheck] = field(
        default_factory=dict, metadata=about("by target: the occlusion check of its heatmap")
    )


class Prediction(Answer):
    """The answer to /v1/predict."""

    format: int = API_FORMAT
    research_use: str
    model: str
    images: list[ImageAnswer]
    study: StudyResult = Field(description="the images as one study")


class ModelMetadata(BaseModel):
    """What the findings of the model mean; a bundle has more."""

    model_config = ConfigDict(extra="allow")

    format: int | None = Field(default=None, description="of the metadata")
    digest: str | None = Field(default=None, description="of the run; the same for the same weights")
    epoch: int | None = Field(default=None, description="of the weights")
    name: str | None = None
    research_use: str | None = None
    targets: list[str]
    thresholds: dict[str, dict[str, Any]] = Field(
        description="by target: the frozen operating point, with its recall's 95 % interval if measured"
    )
    preprocessing: dict[str, Any] = Field(
        description="size, resize mode, views and gray levels of the training images"
    )
    calibration: Any = Field(default=None, description="of the probabilities; null for a run without it")
    scores: list[dict[str, Any]] | None = Field(
        default=None, description="on the validation part, per target, with 95 % intervals (_low, _high)"
    )
    provenance: dict[str, Any] | None = Field(
        default=None, description="network, data, split, versions and commit"
    )


class RequestLimits(BaseModel):
    """Limits of a request."""

    model_config = ConfigDict(from_attributes=True)

    file_bytes: int = Field(description="of one file")
    pixels: int = Field(description="of one image")
    files: int = Field(description="in one request")
    body_bytes: int = Field(description="of one request")
    seconds: float = Field(description="until the answer")


class HeatmapMethods(BaseModel):
    """How heatmaps can be made."""

    methods: list[str]
    default: str


class ModelAnswer(Answer):
    """The answer to /v1/model."""

    format: int
    research_use: str
    metadata: ModelMetadata
    limits: RequestLimits
    heatmaps: HeatmapMethods
    runs: bool = Field(description="whether the service is for a folder of runs")


class Setting(BaseModel):
    """One setting of a run."""

    value: Any
    text: str = Field(description="the value for people")
    changed: bool = Field(description="whether it differs from the default")


class RunOverview(BaseModel):
    """One run of the table."""

    name: str = Field(description="of its folder")
    status: str = Field(description="running, finished or failed")
    started: str
    seconds: float | None = Field(description="its duration")
    epochs_done: int
    best_epoch: int | None
    scores: dict[str, float | None] = Field(description="of the best epoch: means over the targets")
    data: str | None = Field(description="name of the data set")
    targets: list[str]
    digest: str | None
    settings: dict[str, Setting]


class RunsAnswer(Answer):
    """The answer to /v1/runs."""

    format: int = API_FORMAT
    folder: str
    runs: list[RunOverview] = Field(description="the oldest first")
    differing: list[str] = Field(description="the settings that differ between runs")
    best: str | None = Field(description="the run with the highest mean validation ROC AUC")
    problems: list[str] = Field(description="folders that are not runs, each with the reason")


class PartCurves(BaseModel):
    """The scores of one part over the epochs, one value per epoch."""

    epochs: list[int]
    mean: dict[str, Series] = Field(description="by score: the mean over the targets")
    targets: dict[str, dict[str, Series]] = Field(description="by target and score")


class CurvesAnswer(Answer):
    """The answer to /v1/runs/{name}/curves."""

    name: str
    best_epoch: int | None
    labels: dict[str, str] = Field(description="the names of the scores for people")
    parts: dict[str, PartCurves] = Field(description="train and val")


class Mistake(BaseModel):
    """A finding that the run misses or suggests falsely."""

    image_id: int
    finding: str
    probability: float
    threshold: float
    file: str | None = Field(description="its name, without its folder")


class MistakesAnswer(Answer):
    """The answer to /v1/runs/{name}/mistakes."""

    name: str
    epoch: int
    targets: list[str] = Field(description="of the run")
    count: int = Field(description="of all mistakes of this kind")
    images_available: bool = Field(description="whether the run states where its images are")
    mistakes: list[Mistake]


class RunFinding(BaseModel):
    """What the run gives one target in a validation image."""

    finding: str
    label: float | None = Field(description="1, 0, or null for unknown")
    probability: float = Field(description="in the best epoch")
    threshold: float
    suggested: bool
    history: Series = Field(description="the probability in each epoch")


class RunImageAnswer(Answer):
    """The answer to /v1/runs/{name}/images/{image_id}."""

    name: str
    image_id: int
    best_epoch: int
    about: dict[str, str] = Field(description="what is known about the image, as text")
    epochs: list[int]
    findings: list[RunFinding]


class ComparisonAnswer(Answer):
    """The answer to /v1/comparison: `hilum.report.comparison_types.Comparison` as JSON."""

    format: int = Field(description="version of this record")
    reference: dict[str, Any] = Field(description="side A")
    comparisons: list[dict[str, Any]] = Field(description="each other side compared with it")
    replicates: int = Field(description="bootstrap samples of the patients")
    seed: int = Field(description="of these samples")
    notes: list[str]

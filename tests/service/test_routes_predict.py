import base64
import json
import threading
import time

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from hilum.service._uploads import ServiceLimits
from hilum.service.app import make_app

ADDRESS = "http://127.0.0.1:8000"
EDEMA_CHECK = {"probability": 0.3, "hidden": 0.31, "lowers": False, "stronger_than": 0.2}


def upload(*paths):
    return [("files", (path.name, path.read_bytes())) for path in paths]


def decoded(uri):
    content = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


def test_files_of_several_kinds_are_one_study(client, radiographs):
    names = ("heart.png", "fluid.jpg", "deep.png", "chest.dcm")
    answer = client.post("/v1/predict", files=upload(*(radiographs[name] for name in names))).json()
    assert answer["format"] == 2
    assert "Research use only" in answer["research_use"]
    assert answer["model"] == "bright"
    assert [image["image"] for image in answer["images"]] == list(names)
    assert [(image["rows"], image["columns"]) for image in answer["images"]] == [(320, 320)] * 4
    assert answer["images"][3]["view"] == "PA"
    # The same picture at 8 and at 16 bits.
    assert answer["images"][0]["findings"] == answer["images"][2]["findings"]
    for image in answer["images"]:
        assert {finding["finding"] for finding in image["findings"]} == {
            "Cardiomegaly",
            "Pleural_Effusion",
            "Edema",
        }
        assert [finding["suggested"] for finding in image["findings"]] == sorted(
            (finding["probability"] >= 0.25 for finding in image["findings"]), reverse=True
        )
    mean = np.mean([image["findings"][0]["probability"] for image in answer["images"]])
    assert answer["study"]["images"] == 4
    assert answer["study"]["findings"][0]["probability"] == pytest.approx(mean, abs=1e-6)
    assert answer["images"][0]["pixels"] is None


def test_pixels_and_heatmaps_are_added_on_request(client, radiographs):
    address = "/v1/predict?pixels=true&heatmaps=suggested&heatmaps=Edema"
    image = client.post(address, files=upload(radiographs["deep.png"])).json()["images"][0]
    shown = decoded(image["pixels"])
    assert np.array_equal(shown, cv2.imread(str(radiographs["heart.png"]), cv2.IMREAD_GRAYSCALE))
    suggested = {finding["finding"] for finding in image["findings"] if finding["suggested"]}
    assert suggested
    assert set(image["heatmaps"]) == suggested | {"Edema"}
    assert decoded(image["heatmaps"]["Edema"]).max() == 255
    assert set(image["occlusion"]) == set(image["heatmaps"])
    assert image["occlusion"]["Edema"] == EDEMA_CHECK


def test_a_heatmap_is_a_picture_with_its_occlusion_check(client, radiographs):
    file = {"file": radiographs["heart.png"].read_bytes()}
    response = client.post("/v1/heatmap?target=Edema", files=file)
    assert response.headers["content-type"] == "image/png"
    assert json.loads(response.headers["hilum-occlusion"]) == EDEMA_CHECK
    heatmap = cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_UNCHANGED)
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    assert (row / heatmap.shape[0], column / heatmap.shape[1]) == pytest.approx((0.7, 0.6), abs=0.02)
    unknown = client.post("/v1/heatmap?target=Edeema", files=file)
    assert unknown.status_code == 404
    assert "Did you mean 'Edema'?" in unknown.json()["error"]["message"]


@pytest.mark.parametrize(
    ("content", "status", "code", "message"),
    [
        (b"", 422, "unreadable", "empty"),
        (b"PK\x03\x04 dressed as a PNG", 422, "unreadable", "neither a PNG nor a JPEG nor a DICOM"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, "unreadable", "neither"),
        (None, 422, "unreadable", "truncated"),
    ],
)
def test_a_bad_file_is_named_with_the_reason(client, make_png, content, status, code, message):
    good = ("files", ("good.png", make_png()))
    bad = make_png()[:-30] if content is None else content
    response = client.post("/v1/predict", files=[good, ("files", ("bad.png", bad))])
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["file"]) == (status, code, "bad.png")
    assert message in error["message"]
    assert "Restore it from the data set" not in error["message"]


def test_an_image_that_the_model_was_not_trained_for_is_refused_with_a_flag(client):
    flat = cv2.imencode(".png", np.full((90, 90), 128, np.uint8))[1].tobytes()
    image = client.post("/v1/predict", files={"files": ("flat.png", flat)}).json()["images"][0]
    assert image["status"] == "refused"
    assert image["findings"] == []
    refusing = [flag["message"] for flag in image["flags"] if flag["refused"]]
    assert refusing
    assert image["reason"] == " ".join(refusing)


def test_concurrent_requests_share_batches(reader, make_png):
    logits = reader._network.logits

    def slower(images):
        time.sleep(0.05)
        return logits(images)

    reader._network.logits = slower
    with TestClient(make_app(reader), base_url=ADDRESS) as client:
        threads = [
            threading.Thread(
                target=client.post, args=("/v1/predict",), kwargs={"files": {"files": ("a.png", make_png())}}
            )
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        metrics = client.get("/metrics").text
    assert sum(reader._network.batches) == 6
    assert max(reader._network.batches) > 1
    assert 'hilum_images_total{outcome="read"} 6.0' in metrics
    assert 'hilum_requests_total{endpoint="/v1/predict",status="200"} 6.0' in metrics


def test_a_full_service_says_when_to_ask_again(reader, make_png):
    release = threading.Event()
    logits = reader._network.logits
    reader._network.logits = lambda images: (release.wait(10), logits(images))[1]
    with TestClient(make_app(reader, limits=ServiceLimits(requests=1)), base_url=ADDRESS) as client:
        first = threading.Thread(
            target=client.post, args=("/v1/predict",), kwargs={"files": {"files": ("a.png", make_png())}}
        )
        first.start()
        while "hilum_requests_in_work 1.0" not in client.get("/metrics").text:
            time.sleep(0.01)
        refused = client.post("/v1/predict", files={"files": ("b.png", make_png())})
        release.set()
        first.join()
        assert client.post("/v1/predict", files={"files": ("b.png", make_png())}).status_code == 200
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["code"] == "busy"


def test_a_slow_model_is_a_503_with_a_reason(reader, make_png):
    logits = reader._network.logits
    reader._network.logits = lambda images: (time.sleep(0.4), logits(images))[1]
    with TestClient(make_app(reader, limits=ServiceLimits(seconds=0.2)), base_url=ADDRESS) as client:
        refused = client.post("/v1/predict", files={"files": ("a.png", make_png())})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "timeout")
    assert "Retry-After" in refused.headers


def test_the_model_answer_has_its_metadata(client):
    answer = client.get("/v1/model").json()
    assert answer["format"] == 2
    assert answer["metadata"]["targets"] == ["Cardiomegaly", "Pleural_Effusion", "Edema"]
    assert answer["runs"] is False
    assert client.get("/v1/model?run=first").status_code == 404

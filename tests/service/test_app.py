import base64
import json
import logging
import tempfile
import threading
import time

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from hilum.service.app import make_app
from hilum.service.security import ServiceLimits

ADDRESS = "http://127.0.0.1:8000"
EDEMA_HIDDEN = {"probability": 0.3, "hidden": 0.31, "lowers": False, "stronger_than": 0.2}
FORM = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\nx'


@pytest.fixture
def client(reader):
    with TestClient(make_app(reader), base_url=ADDRESS) as client:
        yield client


def upload(*paths):
    return [("files", (path.name, path.read_bytes())) for path in paths]


def png(rows=80, columns=80, level=140):
    noise = np.random.default_rng(0).integers(-40, 40, (rows, columns))
    return cv2.imencode(".png", (level + noise).astype(np.uint8))[1].tobytes()


def test_several_kinds_of_files_are_one_study(client, radiographs):
    names = ("heart.png", "fluid.jpg", "deep.png", "chest.dcm")
    answer = client.post("/v1/predict", files=upload(*(radiographs[name] for name in names))).json()
    assert "Research use only" in answer["research_use"]
    assert answer["model"] == "bright"
    assert [image["name"] for image in answer["images"]] == list(names)
    assert [(image["rows"], image["columns"]) for image in answer["images"]] == [(320, 320)] * 4
    assert answer["images"][3]["view"] == "PA"
    # The same picture at 8 and at 16 bits.
    assert answer["images"][0]["findings"] == answer["images"][2]["findings"]
    for image in answer["images"]:
        assert {finding["target"] for finding in image["findings"]} == {
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


def test_pixels_and_heatmaps_come_on_request(client, radiographs):
    address = "/v1/predict?pixels=true&heatmaps=suggested&heatmaps=Edema"
    image = client.post(address, files=upload(radiographs["deep.png"])).json()["images"][0]
    shown = decoded(image["pixels"])
    assert np.array_equal(shown, cv2.imread(str(radiographs["heart.png"]), cv2.IMREAD_GRAYSCALE))
    suggested = {finding["target"] for finding in image["findings"] if finding["suggested"]}
    assert suggested
    assert set(image["heatmaps"]) == suggested | {"Edema"}
    assert decoded(image["heatmaps"]["Edema"]).max() == 255
    assert set(image["occlusion"]) == set(image["heatmaps"])
    assert image["occlusion"]["Edema"] == EDEMA_HIDDEN


def decoded(uri):
    content = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


def test_heatmap_is_a_picture(client, radiographs):
    file = {"file": radiographs["heart.png"].read_bytes()}
    response = client.post("/v1/heatmap?target=Edema", files=file)
    assert response.headers["content-type"] == "image/png"
    assert json.loads(response.headers["hilum-occlusion"]) == EDEMA_HIDDEN
    heat = cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_UNCHANGED)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert (row / heat.shape[0], column / heat.shape[1]) == pytest.approx((0.7, 0.6), abs=0.02)
    refused = client.post("/v1/heatmap?target=Edeema", files=file)
    assert refused.status_code == 404
    assert "Did you mean 'Edema'?" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("content", "status", "code", "words"),
    [
        (b"", 422, "unreadable", "empty"),
        (b"PK\x03\x04 dressed as a PNG", 422, "unreadable", "neither a PNG nor a JPEG nor a DICOM"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, "unreadable", "neither"),
        (png()[:-30], 422, "unreadable", "truncated"),
    ],
)
def test_a_bad_file_is_named_with_its_reason(client, content, status, code, words):
    good = ("files", ("good.png", png()))
    response = client.post("/v1/predict", files=[good, ("files", ("bad.png", content))])
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["file"]) == (status, code, "bad.png")
    assert words in error["message"]
    assert "Restore it from the data set" not in error["message"]


def test_an_image_that_the_model_was_not_made_for_is_refused_with_a_flag(client):
    flat = cv2.imencode(".png", np.full((90, 90), 128, np.uint8))[1].tobytes()
    image = client.post("/v1/predict", files={"files": ("flat.png", flat)}).json()["images"][0]
    assert image["refused"]
    assert image["findings"] == []
    assert any(flag["refused"] for flag in image["flags"])


@pytest.fixture
def strict(reader):
    limits = ServiceLimits(file_bytes=50_000, pixels=20_000, files=2, body_bytes=90_000)
    with TestClient(make_app(reader, limits=limits), base_url=ADDRESS) as client:
        yield client


def test_limits_are_told_and_kept(strict):
    assert strict.get("/v1/model").json()["limits"]["pixels"] == 20_000
    too_many_pixels = strict.post("/v1/predict", files={"files": ("wide.png", png(100, 300))})
    assert (too_many_pixels.status_code, too_many_pixels.json()["error"]["code"]) == (413, "too-large")
    too_large = strict.post("/v1/predict", files={"files": ("long.png", b"\x89PNG" + bytes(60_000))})
    assert too_large.status_code == 413
    assert "long.png: the file is larger than 50,000 bytes" in too_large.json()["error"]["message"]
    too_many = strict.post("/v1/predict", files=[("files", (f"{n}.png", png())) for n in range(3)])
    assert (too_many.status_code, too_many.json()["error"]["code"]) == (413, "too-many")
    too_long = strict.post(
        "/v1/predict", files=[("files", ("a", bytes(49_000))), ("files", ("b", bytes(49_000)))]
    )
    assert too_long.status_code == 413
    assert "The request is larger than" in too_long.json()["error"]["message"]


def test_a_body_without_a_length_is_refused_once_it_is_too_large(strict):
    def endless():
        yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="x.png"\r\n\r\n'
        for _ in range(100):
            yield bytes(4_000)

    response = strict.post(
        "/v1/predict", content=endless(), headers={"content-type": "multipart/form-data; boundary=b"}
    )
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"x", "multipart/form-data", 400),
        (b"no boundary in here", FORM, 400),
        (b"--b--\r\n", FORM, 422),
        (
            b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
            422,
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="files"\r\n\r\nx',
            "multipart/form-data; boundary=b",
            400,
        ),
    ],
)
def test_what_is_no_form_is_refused(client, content, kind, status):
    response = client.post("/v1/predict", content=content, headers={"content-type": kind})
    assert response.status_code == status
    assert response.json()["error"]["message"]


def test_nothing_uploaded_reaches_a_file_or_a_log(client, radiographs, monkeypatch, caplog, capfd):
    def no_files(*_, **__):
        raise AssertionError("an upload was written to a temporary file")

    for name in ("SpooledTemporaryFile", "TemporaryFile", "NamedTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, no_files)
    caplog.set_level(logging.DEBUG)
    large = png(1200, 1200)  # Starlette would spool it
    assert len(large) > 2**20
    assert client.post("/v1/predict", files={"files": ("large.png", large)}).status_code == 200
    whole = radiographs["chest.dcm"].read_bytes()
    answers = [client.post("/v1/predict", files={"files": ("Secretname.dcm", whole)})]
    answers += [
        client.post("/v1/predict", files={"files": ("chest.dcm", whole[:cut])}) for cut in (300, 900, 60_000)
    ]
    assert answers[0].status_code == 200
    assert all(400 <= answer.status_code < 500 for answer in answers[1:])
    told = caplog.text + "".join(capfd.readouterr())
    for secret in ("Secretname^Anna", "MRN-77", "19500101"):
        assert secret not in told
        assert all(secret not in answer.text for answer in answers)
    assert "Secretname" not in told


def test_concurrent_requests_share_batches(reader):
    slow = reader._network.logits

    def slower(images):
        time.sleep(0.05)
        return slow(images)

    reader._network.logits = slower
    with TestClient(make_app(reader), base_url=ADDRESS) as client:
        threads = [
            threading.Thread(
                target=client.post, args=("/v1/predict",), kwargs={"files": {"files": ("a.png", png())}}
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


def test_a_full_service_says_when_to_ask_again(reader):
    held = threading.Event()
    answer = reader._network.logits
    reader._network.logits = lambda images: (held.wait(10), answer(images))[1]
    with TestClient(make_app(reader, limits=ServiceLimits(requests=1)), base_url=ADDRESS) as client:
        first = threading.Thread(
            target=client.post, args=("/v1/predict",), kwargs={"files": {"files": ("a.png", png())}}
        )
        first.start()
        while "hilum_requests_in_work 1.0" not in client.get("/metrics").text:
            time.sleep(0.01)
        refused = client.post("/v1/predict", files={"files": ("b.png", png())})
        held.set()
        first.join()
        assert client.post("/v1/predict", files={"files": ("b.png", png())}).status_code == 200
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["code"] == "busy"


def test_a_slow_model_is_a_503_with_a_reason(reader):
    answer = reader._network.logits
    reader._network.logits = lambda images: (time.sleep(0.4), answer(images))[1]
    with TestClient(make_app(reader, limits=ServiceLimits(seconds=0.2)), base_url=ADDRESS) as client:
        refused = client.post("/v1/predict", files={"files": ("a.png", png())})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "timeout")
    assert "Retry-After" in refused.headers


def test_a_failure_of_ours_tells_nothing_of_the_input(reader, caplog):
    def failing(images):
        raise RuntimeError("Secretname^Anna")

    reader._network.logits = failing
    with TestClient(make_app(reader), base_url=ADDRESS, raise_server_exceptions=False) as client:
        response = client.post("/v1/predict", files={"files": ("a.png", png())})
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal"
    assert "Secretname" not in response.text + caplog.text
    assert "RuntimeError at test_app.py" in caplog.text


def test_pages_headers_and_unknown_addresses(client):
    page = client.get("/")
    assert "Research use only" in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-store"
    assert "<script>" not in page.text
    assert "style=" not in page.text
    assert "//" not in page.text.replace("http://www.w3.org", "")
    assert client.get("/page/reading.js").headers["content-type"].startswith("text/javascript")
    for address in (
        "/page/nothing.js",
        "/page/index.html",
        "/page/..%2F..%2Freader.py",
        "/runs",
        "/v1/runs",
        "/x",
    ):
        missing = client.get(address)
        assert missing.status_code == 404
        assert missing.json()["error"]["code"] == "not-found"
    assert client.get("/v1/predict").status_code == 405


def test_openapi_has_examples_and_every_refusal(client):
    described = client.get("/openapi.json").json()
    predict = described["paths"]["/v1/predict"]["post"]
    assert "multipart/form-data" in predict["requestBody"]["content"]
    assert {"413", "415", "422", "503"} <= set(predict["responses"])
    assert described["components"]["schemas"]["Prediction"]["examples"]
    assert "Research use only" in described["info"]["summary"]
    assert "cdn" not in json.dumps(described)


def test_model_says_what_it_is(client):
    answer = client.get("/v1/model").json()
    assert answer["card"]["targets"] == ["Cardiomegaly", "Pleural_Effusion", "Edema"]
    assert client.get("/v1/model?run=first").status_code == 404
    assert client.get("/healthz").json() == {"status": "ok"}

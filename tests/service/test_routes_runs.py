import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from hilum.errors import HilumError
from hilum.run_folder import find_runs
from hilum.service import _routes_runs as routes_runs
from hilum.service._routes_runs import differing_settings
from hilum.service.app import make_app


@pytest.fixture
def client(runs_folder, new_reader):
    app = make_app(runs_folder, open_reader=lambda path: new_reader(path.name))
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        yield client


def picture(response):
    return cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_UNCHANGED)


def test_the_table_names_the_settings_that_differ(client, runs_folder):
    listed = client.get("/v1/runs").json()
    assert [run["name"] for run in listed["runs"]] == ["first", "second"]
    assert listed["differing"] == ["learning_rate"]
    assert listed["best"] == "second"
    first = listed["runs"][0]
    assert first["settings"]["learning_rate"] == {"value": 0.0001, "text": "0.0001", "changed": False}
    assert set(first["scores"]) == {"recall", "roc_auc", "precision"}
    assert "Research use only" in client.get("/runs").text
    assert differing_settings(find_runs(runs_folder)[0][:1]) == []


def test_the_model_is_that_of_the_best_run_or_of_the_named_one(client):
    assert client.get("/v1/model").json()["metadata"]["name"] == "second"
    assert client.get("/v1/model?run=first").json()["metadata"]["name"] == "first"
    missing = client.get("/v1/model?run=frist")
    assert missing.status_code == 404
    assert "Did you mean 'first'?" in missing.json()["error"]["message"]


def test_curves_are_the_scores_of_the_run(client, runs_folder):
    curves = client.get("/v1/runs/second/curves").json()
    (_, second), _ = find_runs(runs_folder)
    scores = second.scores()
    val = scores[scores["part"] == "val"]
    assert curves["parts"]["val"]["epochs"] == [1, 2]
    assert curves["parts"]["val"]["mean"]["roc_auc"] == pytest.approx(
        val.groupby("epoch")["roc_auc"].mean().tolist()
    )
    edema = val[val["target"] == "Edema"]["recall"].tolist()
    assert curves["parts"]["val"]["targets"]["Edema"]["recall"] == pytest.approx(edema)
    assert curves["parts"]["train"]["mean"]["loss"] == pytest.approx([0.7, 0.35])
    assert curves["best_epoch"] == 2


def test_mistakes_are_the_worst_false_negatives_or_false_positives(client, runs_folder):
    (first, _), _ = find_runs(runs_folder)
    predictions = first.predictions(2)
    val = predictions[predictions["part"] == "val"]
    total = 0
    for target in ("Cardiomegaly", "Pleural_Effusion", "Edema"):
        missed = client.get(f"/v1/runs/first/mistakes?target={target}").json()
        wrong = (val[f"label_{target}"] == 1) & (val[f"prob_{target}"] < 0.5)
        expected = val[wrong].sort_values(f"prob_{target}")["ImageID"].tolist()
        assert [mistake["image_id"] for mistake in missed["mistakes"]] == expected
        assert {mistake["finding"] for mistake in missed["mistakes"]} <= {target}
        total += len(expected)
    assert client.get("/v1/runs/first/mistakes").json()["count"] == total > 0
    alarms = client.get("/v1/runs/first/mistakes?kind=false-alarm").json()["mistakes"]
    assert all(mistake["probability"] >= mistake["threshold"] for mistake in alarms)
    assert client.get("/v1/runs/first/mistakes?target=Edeema").status_code == 404
    assert client.get("/v1/runs/first/mistakes?kind=other").status_code == 422


def test_an_image_has_its_history_pixels_and_heatmap(client, runs_folder):
    (first, _), _ = find_runs(runs_folder)
    image = client.get("/v1/runs/first/images/17").json()
    edema = next(finding for finding in image["findings"] if finding["finding"] == "Edema")
    expected = [
        float(table.loc[(table["part"] == "val") & (table["ImageID"] == 17), "prob_Edema"].item())
        for table in (first.predictions(1), first.predictions(2))
    ]
    assert edema["history"] == pytest.approx(expected)
    assert edema["probability"] == pytest.approx(expected[1])
    assert image["about"] == {"Age": "50", "Sex": "male", "View": "PA", "File": "17.png"}
    whole = picture(client.get("/v1/runs/first/images/17/pixels"))
    assert whole.shape == (96, 96)
    assert picture(client.get("/v1/runs/first/images/17/pixels?side=32")).shape == (32, 32)
    heat = client.get("/v1/runs/first/images/17/heatmap?target=Edema")
    assert heat.headers["content-type"] == "image/png"
    assert picture(heat).max() == 255


@pytest.mark.parametrize(
    "address",
    [
        "/v1/runs/..%2Ffirst/curves",
        "/v1/runs/%2e%2e/curves",
        "/v1/runs/nothing/curves",
        "/v1/runs/first/images/3",  # a training image
        "/v1/runs/first/images/3/pixels",
        "/v1/runs/first/images/999/pixels",
        "/v1/comparison?a=first&b=..%2Fsecond",
    ],
)
def test_only_listed_runs_and_evaluated_images_are_accepted(client, address):
    response = client.get(address)
    assert response.status_code == 404
    assert response.json()["error"]["code"] in ("no-run", "no-image", "not-found")


def test_paths_outside_the_data_set_are_refused(client, runs_folder):
    (_, second), _ = find_runs(runs_folder)
    kept = second.images()
    second.write_images(kept.assign(Image_Path="../" + kept["Image_Path"]))
    second.update(touched=True)
    try:
        response = client.get("/v1/runs/second/images/17/pixels")
        assert response.status_code == 409
    finally:
        second.write_images(kept)
        second.update(touched=False)


def test_a_missing_data_set_is_an_error_that_names_the_cause(client, runs_folder):
    (first, _), _ = find_runs(runs_folder)
    catalog = first.record["catalog"]
    first.update(catalog=catalog | {"image_root": "/nowhere"})
    try:
        response = client.get("/v1/runs/first/images/17/pixels")
        assert response.status_code == 404
        assert "not available" in response.json()["error"]["message"]
    finally:
        first.update(catalog=catalog)


def test_two_runs_are_compared(client, monkeypatch):
    monkeypatch.setattr(routes_runs, "REPLICATES", 100)
    found = client.get("/v1/comparison?a=first&b=second").json()
    side = found["comparisons"][0]
    assert side["changes"]["statement"] == "One thing differs: learning_rate, 0.0001 → 0.001."
    assert side["images"]["images"] == 12
    page = client.get("/v1/comparison.html?a=first&b=second")
    assert "learning_rate" in page.text
    assert client.get("/v1/comparison?a=first&b=first").status_code == 422


def test_runs_without_a_checkpoint_are_listed_but_cannot_read(runs_folder):
    def refuse(path):
        raise HilumError(f"{path.name}: checkpoints/best is missing.")

    with TestClient(make_app(runs_folder, open_reader=refuse), base_url="http://localhost") as client:
        none = client.get("/v1/model")
        assert (none.status_code, none.json()["error"]["code"]) == (404, "no-model")
        assert "checkpoints/best is missing" in none.json()["error"]["message"]
        assert client.get("/v1/model?run=first").status_code == 409
        assert client.get("/v1/runs").status_code == 200
        assert client.get("/v1/runs/first/images/17/heatmap?target=Edema").status_code == 409

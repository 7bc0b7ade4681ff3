"""A verification finds the same predictions, or names the first that differs."""

import shutil

import pytest

from hilum.errors import HilumError
from hilum.run_folder import RunFolder
from hilum.training.verify import verify

pytestmark = pytest.mark.filterwarnings("ignore:.*undefined there")


@pytest.fixture
def run(train) -> RunFolder:
    return train(num_epochs=2).folder


def test_a_run_is_the_same_again_and_is_left_as_it_was(run, own_catalog, make_tiny_net, files_below):
    files = {name: (run.path / name).read_bytes() for name in files_below(run.path)}
    found = verify(run.path, net=make_tiny_net(), catalog=own_catalog)
    assert found.same
    assert (found.epochs, found.digest, found.environment) == (2, run.record["digest"], ())
    assert {name: (run.path / name).read_bytes() for name in files_below(run.path)} == files


def test_the_first_epoch_and_image_that_differ_are_named(run, own_catalog, make_tiny_net):
    table = run.predictions(2)
    row = table.index[table["part"] == "val"][1]
    table.loc[row, "prob_Fracture"] += 0.25
    table.to_parquet(run.path / "predictions" / "epoch-0002.parquet", index=False)
    found = verify(run.path, net=make_tiny_net(), catalog=own_catalog)
    assert not found.same
    assert found.difference.startswith(f"epoch 2: ImageID {table.at[row, 'ImageID']} of val, prob_Fracture: ")
    assert f"1 of {len(table)} predictions differ" in found.difference
    assert verify(run.path, epochs=1, net=make_tiny_net(), catalog=own_catalog).same


def test_another_seed_or_another_net_is_noticed(run, own_catalog, make_tiny_net):
    run.update(settings=run.settings | {"learning_rate": 0.02})
    found = verify(run.path, net=make_tiny_net(), catalog=own_catalog)
    assert found.difference.startswith("epoch 1: ImageID")


def test_other_versions_are_reported(run, own_catalog, make_tiny_net):
    run.update(versions=run.record["versions"] | {"torch": "0.1"})
    (told,) = verify(run.path, epochs=1, net=make_tiny_net(), catalog=own_catalog).environment
    assert told.startswith("torch was 0.1 and is")


def test_a_run_that_cannot_be_verified_is_an_error(run, own_catalog, make_tiny_net, tmp_path):
    with pytest.raises(HilumError, match=r"--epochs 3: the run has 2 finished epochs\. Give 1 to 2"):
        verify(run.path, epochs=3, net=make_tiny_net(), catalog=own_catalog)
    with pytest.raises(HilumError, match="with a net of your own: verify it from Python"):
        verify(run.path, catalog=own_catalog)
    shutil.copytree(run.path, tmp_path / "begun")
    begun = RunFolder(tmp_path / "begun")
    begun.update(epochs_done=0)
    with pytest.raises(HilumError, match="no epoch has ended yet; there is nothing to verify"):
        verify(begun.path, net=make_tiny_net(), catalog=own_catalog)


def test_a_run_with_trackers_of_its_own_is_verified_without_them(train, own_catalog, make_tiny_net, tmp_path):
    store = f"sqlite:///{tmp_path / 'own.db'}"
    folder = train(num_epochs=1).folder
    folder.update(settings=folder.settings | {"loggers": ["mlflow"], "mlflow_uri": store})
    assert verify(folder.path, net=make_tiny_net(), catalog=own_catalog).same
    assert not (tmp_path / "own.db").exists()


def test_a_run_that_was_halved_on_its_way_says_why_it_may_differ(run, own_catalog, make_tiny_net):
    run.update(batch_pieces=2, batch_pieces_since=2)
    found = verify(run.path, net=make_tiny_net(), catalog=own_catalog)
    assert "in 2 pieces from some batch of epoch 2" in found.environment[0]


def test_changed_weights_of_the_initial_run_are_an_error(run, own_catalog, make_tiny_net):
    from hilum.training.run_writer import check_same_data

    before = run.record | {"init_from": {"run": "former", "weights": "aa"}}
    now = run.record | {"init_from": {"run": "former", "weights": "bb"}}
    with pytest.raises(
        HilumError, match="The run started from the weights of former, which have changed since"
    ):
        check_same_data(before, now)

"""The settings of a run reach its labels, images, pixels, network, loss and optimizer."""

import copy
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from hilum.data.folder_copy import build_hierarchy
from hilum.data.loaders import Loaders
from hilum.data.pack_builder import build_pack
from hilum.errors import HilumError
from hilum.models import Normalized
from hilum.sources.catalog import hierarchical_paths
from hilum.training import _setup as setup
from hilum.training.checkpoints import load_weights
from hilum.training.run import StandardTraining

TARGETS = ("Edema", "Fracture", "Mine")

# Parts of a few images may have no positive image of a target, which is not tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*undefined there")


def digest(training: StandardTraining) -> str:
    return training.folder.record["digest"]


@pytest.fixture
def loops(monkeypatch) -> list:
    """The training loops that are made."""
    made = []

    class Kept(setup.TrainingLoop):
        def __init__(self, *arguments, **keywords):
            super().__init__(*arguments, **keywords)
            made.append(self)

    monkeypatch.setattr(setup, "TrainingLoop", Kept)
    return made


def test_the_settings_of_optimizer_and_loss_reach_them(train, loops):
    train(learning_rate=0.02, l2_reg=0.25, loss_reduction="sum", use_positivity_weights=True)
    (loop,) = loops
    (group,) = loop.optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.02, 0.25)
    assert loop.criterion.reduction == "sum"
    assert loop.criterion.pos_weight.shape == (3,)


def test_the_loss_has_no_weights_unless_asked(train, loops):
    train()
    assert loops[0].criterion.pos_weight is None
    assert loops[0].criterion.reduction == "mean"


def test_frozen_epochs_teach_the_head_alone_and_leave_the_backbones_statistics(two_stages, train):
    weights = {}
    for epochs in (1, 2):
        folder = train(net=two_stages(), num_epochs=epochs, frozen_epochs=1).folder
        net = Normalized(two_stages(), 0.5, 0.2)
        load_weights(folder.path / "checkpoints" / "last", net)
        weights[epochs] = net.net.state_dict()
    before = two_stages().state_dict()
    for name, value in before.items():
        learned = name.startswith("head")
        assert torch.equal(weights[1][name], value) != learned, name
        assert not torch.equal(weights[2][name], value), name


def test_each_stage_away_from_the_head_learns_more_slowly(two_stages, train, loops):
    train(net=two_stages(), layer_decay=0.5, learning_rate=0.08)
    assert [group["lr"] for group in loops[0].optimizer.param_groups] == [0.08, 0.04]


def test_the_average_of_the_weights_is_what_is_validated_and_kept(train, loops, own_catalog):
    folder = train(num_epochs=2, ema_decay=0.6).folder
    (loop,) = loops
    assert loop.average.steps == 2 * -(-len(folder.predictions(1).query("part == 'train'")) // 8)
    net = copy.deepcopy(loop.net.module)
    load_weights(folder.path / "checkpoints" / "last", net)
    learned, kept = loop.net.module.state_dict(), net.state_dict()
    assert not torch.equal(learned["net.linear.weight"], kept["net.linear.weight"])
    validated = folder.predictions(2).query("part == 'val'").set_index("ImageID")
    loader = Loaders(own_catalog, image_width=16, image_height=16, batch_size=8, num_workers=0).get_loader(
        validated.index
    )
    with torch.no_grad():
        expected = torch.cat([net.eval()(batch["img"]) for batch in loader]).sigmoid()
    np.testing.assert_allclose(validated["prob_Edema"], expected[:, 0], atol=1e-6)


# ---- label policies and sampling --------------------------------------------------------------------


@pytest.fixture
def coded_catalog(own_catalog):
    """The catalog with every fourth label uncertain and every fifth not mentioned, unless it is positive."""
    codes = own_catalog.table[list(own_catalog.targets)].copy()
    rows = np.arange(len(codes))
    for column, target in enumerate(codes.columns):
        negative = codes[target].to_numpy() == 0
        codes.loc[negative & ((rows + column) % 4 == 0), target] = -1.0
        codes.loc[negative & ((rows + column) % 5 == 0), target] = np.nan
    return replace(own_catalog, codes=codes)


def test_each_policy_trains_otherwise_and_is_scored_against_the_same_labels(train, coded_catalog):
    digests, actual = set(), []
    for policy in (
        {},
        {"uncertain_policy": "ones"},
        {"uncertain_policy": "ignore"},
        {"blank_policy": "ignore"},
    ):
        folder = train(catalog=coded_catalog, **policy).folder
        digests.add(folder.record["digest"])
        labels = folder.predictions(1).filter(like="label_")
        actual.append(labels)
        assert folder.settings["eval_uncertain_policy"] == "zeros"
    assert len(digests) == 4
    for labels in actual[1:]:
        pd.testing.assert_frame_equal(labels, actual[0])


def test_the_evaluation_policy_changes_what_is_scored_against_and_not_what_is_learned(train, coded_catalog):
    plain = train(catalog=coded_catalog).folder.predictions(1)
    ignored = train(catalog=coded_catalog, eval_uncertain_policy="ignore").folder.predictions(1)
    both = plain.merge(ignored, on=["part", "ImageID", "draw"], suffixes=("", "_ignored"))
    codes = coded_catalog.codes.loc[both["ImageID"], "Edema"].to_numpy()
    assert (codes == -1).any()
    assert both.loc[codes == -1, "label_Edema_ignored"].isna().all()
    assert (both.loc[codes == -1, "label_Edema"] == 0).all()
    np.testing.assert_array_equal(both["prob_Edema"], both["prob_Edema_ignored"])


def test_multiclass_trains_three_outputs_and_reports_one_probability(train, coded_catalog, make_tiny_net):
    training = train(
        catalog=coded_catalog,
        net=make_tiny_net(5),
        uncertain_policy={"Edema": "multiclass"},
        use_positivity_weights=True,
    )
    predictions = training.folder.predictions(1)
    assert [name for name in predictions if name.startswith("prob_")] == [f"prob_{t}" for t in TARGETS]
    assert predictions.filter(like="prob_").to_numpy().min() > 0
    assert predictions["label_Edema"].dropna().isin([0, 1]).all()


def test_a_net_without_the_outputs_for_multiclass_is_an_error(train, coded_catalog, make_tiny_net):
    with pytest.raises(HilumError, match=r"the run needs \(8, 5\)"):
        train(catalog=coded_catalog, net=make_tiny_net(3), uncertain_policy={"Edema": "multiclass"})


def test_a_policy_for_labels_that_the_data_set_does_not_have_is_refused(train, tmp_path):
    with pytest.raises(HilumError, match=r"uncertain_policy: 'ones' .* has no effect on own"):
        train(uncertain_policy="ones")
    assert not (tmp_path / "runs").exists()


def test_weighted_sampling_keeps_the_length_of_the_epoch_and_repeats_rare_vectors(train):
    plain = train().folder.predictions(1)
    weighted = train(observation_min_count=12, sampling="weights").folder.predictions(1)
    rows = train(observation_min_count=12).folder.predictions(1)
    length = {name: (table["part"] == "train").sum() for name, table in (("plain", plain), ("w", weighted))}
    assert length["w"] == length["plain"] < (rows["part"] == "train").sum()
    assert weighted.loc[weighted["part"] == "train", "draw"].max() > 0
    assert (weighted.loc[weighted["part"] == "val", "draw"] == 0).all()


# ---- where pixels come from -------------------------------------------------------------------------


def test_a_pack_gives_the_digest_that_the_image_files_give(train, own_catalog, tmp_path):
    build_pack(own_catalog, tmp_path / "pack", width=16, height=16)
    assert digest(train(pack=str(tmp_path / "pack"))) == digest(train())


def test_a_pack_works_for_fewer_images_and_targets(train, make_tiny_net, own_catalog, tmp_path):
    build_pack(own_catalog, tmp_path / "pack", width=16, height=16)
    fewer = {"number_images": 30, "target_columns": ["Edema"]}
    packed = train(net=make_tiny_net(1), pack=str(tmp_path / "pack"), **fewer)
    assert digest(packed) == digest(train(net=make_tiny_net(1), **fewer))


def test_a_pack_of_another_size_is_refused_with_both_sizes(train, own_catalog, tmp_path):
    build_pack(own_catalog, tmp_path / "pack", width=24, height=16)
    with pytest.raises(HilumError, match="width is 24 there, but 16 here"):
        train(pack=str(tmp_path / "pack"))
    assert not (tmp_path / "runs").exists()


def test_images_that_a_pack_left_out_are_left_out_of_the_run(train, own_catalog, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(own_catalog.root, images)
    (images / "5.png").write_bytes(b"damaged")
    damaged = replace(own_catalog, root=images)
    build_pack(damaged, tmp_path / "pack", width=16, height=16, on_corrupt="skip")
    folder = train(catalog=damaged, pack=str(tmp_path / "pack")).folder
    assert len(folder.split()) == len(own_catalog) - 1
    assert 1005 not in set(folder.split()["ImageID"])


def test_a_hierarchy_gives_the_digest_that_the_image_files_give(train, own_catalog, tmp_path):
    table = own_catalog.table.copy()
    table["Hierarchical_Path"] = hierarchical_paths(table.index.to_numpy(), extensions=[".png"] * len(table))
    catalog = replace(own_catalog, table=table)
    build_hierarchy(catalog, tmp_path / "tree")
    moved = replace(catalog, root=tmp_path / "gone")
    assert digest(train(catalog=moved, hierarchy=tmp_path / "tree")) == digest(train(catalog=catalog))


@pytest.mark.parametrize("settings", [{"fit": "letterbox"}, {"fit": "crop"}, {"interpolation": "nearest"}])
def test_how_images_come_to_their_size_reaches_the_pixels(train, settings):
    plain = train(image_width=24)
    assert digest(train(image_width=24, **settings)) != digest(plain)


def test_strict_leaks_refuse_the_same_image_in_two_parts(train, own_catalog, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(own_catalog.root, images)
    catalog = replace(own_catalog, root=images)
    split = train(catalog=catalog).folder.split()
    first = {part: int(rows["ImageID"].iloc[0]) for part, rows in split.groupby("part")}
    shutil.copy(catalog.image_path(first["train"]), catalog.image_path(first["val"]))
    train(catalog=catalog)
    with pytest.raises(HilumError, match="same pixels") as refused:
        train(catalog=catalog, strict_leaks=True)
    assert str(first["train"]) in str(refused.value)
    assert str(first["val"]) in str(refused.value)

"""sweep.json: written whole, read in its older format, and refused where it is damaged or newer."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest

from hilum.errors import HilumError
from hilum.sweeps._spec import make_spec
from hilum.sweeps._state import FORMAT_VERSION, as_toml, open_state, read_state, sweep_lock
from hilum.sweeps.model_loop import ModelLoop

FORMAT_1 = Path(__file__).parents[1] / "fixtures" / "format-1" / "sweeps"


def test_settings_as_toml_are_read_back():
    settings = {
        "name": 'a "quoted" \\ path\nwith a line, ü and \x7f',
        "learning_rate": 1e-20,
        "large": 1e300,
        "number": -3,
        "yes": True,
        "names": ["a", "b"],
        "empty": [],
        "table": {"a b": {"c": [1.5, {"d": 1}]}, "none": None},
        "after": "a table",
    }
    read = tomllib.loads(as_toml(settings | {"root": None}))
    del settings["table"]["none"]
    assert read == settings
    with pytest.raises(TypeError):
        as_toml({"x": object()})


def test_a_state_is_read_as_it_was_written(tmp_path):
    state = open_state(make_spec({"base": {"num_epochs": 2}, "seeds": [0, 1], "save_path": tmp_path}))
    state.trials = {0: ["a"]}
    state.mark(state.runs[1], state="failed", exit_code=2)
    assert read_state(state.folder) == state
    assert json.loads((state.folder / "sweep.json").read_text())["format"] == FORMAT_VERSION


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "sweep.json is missing"),
        ("{", "sweep.json: the file is damaged"),
        ('{"format": 2}', "sweep.json: the file is damaged"),
        ('{"format": 99, "hilum": "9.9"}', r"written by a newer Hilum \(9.9\)"),
    ],
)
def test_a_state_that_cannot_be_read(tmp_path, text, message):
    if text is not None:
        (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(HilumError, match=message):
        read_state(tmp_path)


def test_a_new_folder_is_removed_if_nothing_was_written(tmp_path):
    with pytest.raises(ZeroDivisionError), sweep_lock(tmp_path / "new"):
        raise ZeroDivisionError
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    with pytest.raises(HilumError, match="cannot be written"), sweep_lock(tmp_path / "file" / "new"):
        pytest.fail("it was locked")


def test_a_sweep_of_format_1_continues(tmp_path, monkeypatch, loop):
    shutil.copytree(FORMAT_1, tmp_path / "sweeps")
    monkeypatch.chdir(tmp_path)
    before = read_state("sweeps/rates")
    assert [run.state for run in before.runs] == ["finished", "running"]
    assert before.runs[1].settings["aug_fraction"] == 0.0
    sweep = loop(seeds=[0])
    sweep.spec = ModelLoop.from_toml("sweeps/sweep.toml").spec
    result = sweep.run()
    assert [(run.state, run.attempts) for run in result.state.runs] == [("finished", 1), ("finished", 2)]
    assert "Sweep rates continues: 1 finished, 0 failed, 1 pending." in sweep.printed
    assert json.loads(Path("sweeps/rates/sweep.json").read_text())["format"] == FORMAT_VERSION
    assert sorted(result.table["learning_rate"]) == [0.001, 0.01]


def test_a_search_of_format_1_has_the_current_names(tmp_path):
    settings = {"aug_percent": {"from": 0, "to": 0.5}}
    search = {"trials": 2, "metric": "f1", "direction": "maximize", "sampler": "tpe", "seed": 0}
    spec = make_spec({"search": search | {"settings": settings}, "save_path": tmp_path, "threads": 1})
    open_state(spec).save()
    file = spec.folder / "sweep.json"
    record = json.loads(file.read_text()) | {"format": 1}
    record["plan"] = record.pop("spec") | {"search": search | {"settings": settings}}
    file.write_text(json.dumps(record))
    assert open_state(spec).spec == spec.as_record()
    with pytest.raises(HilumError, match=r"\[search\] metric was f1, is loss"):
        open_state(spec.model_copy(update={"search": spec.search.model_copy(update={"metric": "loss"})}))

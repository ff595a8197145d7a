"""A model file gives the predictions of its run, without the training data."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save

from data_pipelines.errors import DataError
from dynapurls_jax.serving import model_file
from dynapurls_jax.serving.live_stream import LiveStream
from dynapurls_jax.serving.model import Classes, model_of
from dynapurls_jax.serving.model_file import read_card, read_model, write_model
from dynapurls_jax.serving.model_inputs import ModelInputs
from tests.helpers.runs import changed, fitted
from tests.serving.test_live_stream import clip_requests, replies_of, requests


@pytest.fixture(scope="module")
def run(trained):
    return changed(trained[1], {"adapter.name": "static"})


def answers(model, records, **options):
    replies = replies_of(model, **options)
    found = [replies.answer(request) for request in requests(*records)]
    return [a["class"] for a in found], np.array([a["confidence"] for a in found])


@pytest.mark.parametrize("name", ["purls", "ridge"])
def test_an_exported_model_has_the_predictions_of_its_run(run, tmp_path, name):
    run = fitted(run, name) if name == "ridge" else run
    file = tmp_path / "folder" / "model.safetensors"
    write_model(model_of(run), file, "# A small model")
    model = read_model(file)
    assert read_card(file) == "# A small model"
    records = clip_requests(run, 4)
    labels, confidence = answers(model_of(run), records)
    found, of_file = answers(model, records)
    assert found == labels
    np.testing.assert_allclose(of_file, confidence, atol=1e-2)
    assert model.candidates == tuple(run.inputs.corpus.class_names[c] for c in run.protocol.unseen)
    assert model.identity == model_of(run).identity


def test_all_classes_of_the_training_can_be_candidates(run):
    model = model_of(run)
    actions = list(reversed(model.classes.names))
    assert LiveStream(ModelInputs(model), actions).names == actions
    with pytest.raises(ValueError, match=r"no class 'juggle': expected one of class "):
        model.classes.of(("juggle",))


def test_sketches_of_classes_are_saved(run, tmp_path):
    model = model_of(run)
    sketches = np.full((len(model.classes.names), 60, 16), np.nan, np.float32)
    sketches[2] = 0.5
    classes = Classes(model.classes.names, model.classes.text, sketches)
    write_model(dataclasses.replace(model, classes=classes), tmp_path / "model")
    np.testing.assert_array_equal(read_model(tmp_path / "model").classes.sketches, sketches)


def test_variables_are_restored_bit_identically(run, tmp_path):
    model = model_of(run)
    write_model(model, tmp_path / "model")
    again = read_model(tmp_path / "model")
    jax.tree.map(np.testing.assert_array_equal, again.variables, jax.device_get(model.variables))
    assert again.skeleton == model.skeleton
    assert again.config.to_dict() == model.config.to_dict()


def test_other_files_are_refused(run, tmp_path):
    file = tmp_path / "model"
    with pytest.raises(FileNotFoundError, match="no model file"):
        read_model(file)
    for content in (b"", b"rubbish" * 9, save({"text": np.zeros(3, np.float32)})):
        file.write_bytes(content)
        with pytest.raises(DataError, match="expected a model file"):
            read_model(file)
    file.write_bytes(save({}, {"dynapurls_jax": json.dumps({"format": 0})}))
    with pytest.raises(DataError, match="format 3; export it again"):
        read_model(file)
    write_model(model_of(run), file)
    about, arrays = model_file._read(file)
    del about["config"]["method"]
    file.write_bytes(model_file.packed(about, arrays))
    with pytest.raises(DataError, match="expected a model of this version"):
        read_model(file)


def test_an_interrupted_export_does_not_change_the_old_file(run, tmp_path, monkeypatch):
    file = tmp_path / "model"
    file.write_bytes(b"old")
    monkeypatch.setattr(model_file, "save", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_model(model_of(run), file)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]

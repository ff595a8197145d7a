"""Late fusion of input streams: the mean of softmax scores, of one encoder for each stream."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.preprocess import to_streams
from dynapurls_jax.reproduction import jobs, kinds
from dynapurls_jax.reproduction.jobs import Runner, changed, job_of
from dynapurls_jax.training.pretrain import encoder_task, trained_classifier
from dynapurls_jax.training.run import make_spec
from tests.helpers.trained import SPLIT, small_config, small_inputs

PSEUDO = f"pseudo-{SPLIT}-0"


def spec_of(workdir, *streams):
    """The run of a small configuration with these input streams."""
    config = changed(small_config(), {"data.streams": streams})
    return make_spec(small_inputs(config), workdir, PSEUDO, 0)


def test_softmax_scores_are_averaged(tmp_path, monkeypatch):
    """A confident stream outvotes an uncertain one, whatever the scale of its logits."""
    spec = spec_of(tmp_path, "joint", "bone")
    classes = len(spec.protocol.seen)
    labels = spec.seen_labels[spec.protocol.seen_test]
    sure = jax.nn.one_hot(labels, classes) * 3.0
    unsure = jax.nn.one_hot((labels + 1) % classes, classes) * 0.1 + 50.0
    logits = {"joint": sure, "bone": unsure}
    asked = []

    def trained(spec, task):
        (stream,) = spec.config.data.streams
        assert task.streams == (stream,)
        asked.append(stream)
        return None, stream

    monkeypatch.setattr(kinds, "trained_classifier", trained)
    monkeypatch.setattr(kinds, "class_logits", lambda task, stream, clips: logits[stream])
    assert kinds.late_fusion(spec) == {"accuracy": [1.0]}
    assert asked == ["joint", "bone"]
    logits["bone"] = jax.nn.one_hot((labels + 1) % classes, classes) * 9.0
    assert kinds.late_fusion(spec) == {"accuracy": [0.0]}


def test_a_split_without_test_clips_of_seen_classes_is_refused(tmp_path):
    spec = spec_of(tmp_path, "joint")
    protocol = replace(spec.protocol, seen_test=spec.protocol.seen_test[:0])
    for kind in kinds.ENCODER_KINDS.values():
        with pytest.raises(ValueError, match="has no test clips of seen classes"):
            kind(replace(spec, protocol=protocol))


@pytest.mark.slow
def test_jobs_equal_the_fusion_of_classifiers_that_are_applied_one_by_one(
    trained_workdir, monkeypatch
):
    monkeypatch.setattr(jobs, "read_inputs", small_inputs)
    runner = Runner(small_config(), trained_workdir)
    streams = ("joint", "bone")
    alone = {s: runner(job_of("seen", PSEUDO, 0, {"data.streams": (s,)})) for s in streams}
    scores = []
    for stream in streams:
        spec = spec_of(trained_workdir, stream)
        task = encoder_task(spec)
        stage, variables = trained_classifier(spec, task)
        clips, labels = spec.protocol.seen_test, spec.seen_labels[spec.protocol.seen_test]
        recorded = jnp.asarray(task.clips.clips[clips])
        inputs = to_streams(recorded, (stream,), task.clips.skeleton.parents)
        variables = jax.tree.map(jnp.asarray, variables)
        logits = np.asarray(jax.jit(task.classifier.apply)(variables, inputs), np.float64)
        assert alone[stream]["accuracy"] == [np.mean(logits.argmax(axis=1) == labels)]
        assert stage.results["seen_test_accuracy"] == alone[stream]["accuracy"][0]
        scores.append(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    before = set(trained_workdir.rglob("stage.json"))
    for chosen, score in ((streams, sum(scores)), (streams[1:], scores[1])):
        fused = runner(job_of("late_fusion", PSEUDO, 0, {"data.streams": chosen}))
        assert fused == {"accuracy": [np.mean(score.argmax(axis=1) == labels)]}
    assert set(trained_workdir.rglob("stage.json")) == before  # encoders are trained once

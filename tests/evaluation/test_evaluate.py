"""From a trained run to its report and page; no label leakage."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest

from data_pipelines.sketches import parse_sketch
from dynapurls_jax.evaluation.evaluate import evaluate, evaluate_run
from dynapurls_jax.evaluation.page_clips import clips_of, imagined_of
from dynapurls_jax.evaluation.report import ReportInfo
from dynapurls_jax.evaluation.run_page import write_run_page
from tests.helpers.runs import changed, fitted, score_only, with_labels
from tests.helpers.trained import SPLIT

FIGURES = ["running_accuracy", "confusion", "reliability"]
COMPARISONS = ["classes", "tsne_stages"]  # only with a test-time method


@pytest.fixture(scope="module")
def run(trained):
    """The run of the shared workdir; with this chunk, all parts of a stream share a program."""
    return changed(trained[1], {"eval.chunk": 4, "adapter.name": "static"})


@pytest.fixture(scope="module")
def adapted(run):
    """The same run with a test-time method, and its result."""
    run = changed(run, {"adapter.name": "adanpc"})
    return run, evaluate_run(run)


def viewer_of(page) -> dict:
    """The data of a page's viewer."""
    found = re.search(r'application/json">(.*?)</script>', page.read_text("utf-8"))
    return json.loads(found[1])


def check_that_labels_change_nothing(run, result):
    """Permuting the labels of unseen clips leaves every prediction bit-identical."""
    unseen = np.isin(run.inputs.corpus.labels, run.protocol.unseen)
    labels = run.inputs.corpus.labels.copy()
    labels[unseen] = np.random.default_rng(0).permutation(labels[unseen])
    assert not np.array_equal(labels, run.inputs.corpus.labels)
    other = evaluate_run(with_labels(run, labels))
    assert not np.array_equal(result.labels, other.labels)
    assert list(result.streams) == ["static", run.config.adapter.name]
    jax.tree.map(np.testing.assert_array_equal, result.streams, other.streams)


def test_permuting_unseen_labels_leaves_every_prediction_bit_identical(adapted):
    check_that_labels_change_nothing(*adapted)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["balanced", "dynapurls", "tpt_residual"])
def test_no_method_reads_labels(run, name):
    run = changed(run, {"adapter.name": name})
    check_that_labels_change_nothing(run, evaluate_run(run))


def test_a_report_of_a_trained_run(adapted, tmp_path, monkeypatch):
    run, result = adapted
    monkeypatch.setattr("dynapurls_jax.evaluation.evaluate.evaluate_run", lambda _: result)
    corpus = dataclasses.replace(run.inputs.corpus, synthetic=True)
    run = dataclasses.replace(run, inputs=dataclasses.replace(run.inputs, corpus=corpus))
    text = evaluate(iter([run]), tmp_path, "the command")
    assert "SYNTHETIC" in text
    assert "`the command`" in text
    assert "| cosine between rows, projected |" in text
    assert "| ORACLE: supervised accuracy, 1-NN |" in text
    assert f"| {SPLIT} | 2 | 8 | 1 x 2 | 50.0 |" in text
    assert (tmp_path / "running_accuracy.png").stat().st_size > 1000
    methods = json.loads((tmp_path / "report.json").read_text())["runs"][0]["methods"]
    static = np.mean(result.streams["static"].predicted == result.stream_labels("static"))
    assert methods["static"]["accuracy_of_each_order"] == [pytest.approx(static)] * 2
    assert methods["adanpc"]["accuracy_of_each_order"] == result.accuracies("adanpc")
    page = tmp_path / f"{SPLIT}-seed0.html"
    assert viewer_of(page)["compared"]
    assert "2 unseen actions, recognised from text</title>" in page.read_text("utf-8")
    assert "<dt>accuracy before and after refinement</dt>" in page.read_text("utf-8")
    assert "SYNTHETIC clips by forward kinematics" in page.read_text("utf-8")
    assert sorted(p.stem for p in (tmp_path / page.stem).iterdir()) == sorted(
        [*FIGURES, *COMPARISONS, "tsne", "attention"]
    )


def test_a_method_that_needs_labels_has_only_an_oracle_result(run):
    result = evaluate_run(changed(run, {"method.purls.query": "oracle_label"}))
    assert 0 <= result.oracle <= 1
    assert result.streams == {}
    assert result.diagnosis == {}
    assert result.inspection is None


def page_of(run, folder):
    """The page of a run."""
    result = evaluate_run(run)
    info = ReportInfo(run.config, run.inputs.corpus, "the command")
    shown = run.protocol.unseen_test[result.inspection.samples]
    clips = clips_of(run, shown, run.protocol.unseen)
    return result, write_run_page(folder, result, clips, info)


def test_a_page_of_features_without_clips(run, tmp_path):
    run = changed(run, {"eval.stream": "skewed"})
    corpus = dataclasses.replace(run.inputs.corpus, frames=np.zeros(len(run.inputs.corpus), int))
    inputs = dataclasses.replace(run.inputs, clips=None, corpus=corpus)
    result, page = page_of(dataclasses.replace(run, inputs=inputs), tmp_path)
    viewer = viewer_of(page)
    shown = run.protocol.unseen_test[result.inspection.samples]
    assert [clip["id"] for clip in viewer["clips"]] == [corpus.clip_ids[n] for n in shown]
    true = [viewer["classes"][clip["label"]] for clip in viewer["clips"]]
    assert true == [corpus.class_names[y] for y in corpus.labels[shown]]
    assert not any("data" in clip for clip in viewer["clips"])
    assert [p.stem for p in sorted((tmp_path / page.stem).iterdir())] == sorted([*FIGURES, "tsne"])


@pytest.mark.parametrize(
    ("make", "figures"),
    [(lambda run: fitted(run, "ridge"), [*FIGURES, "tsne"]), (score_only, FIGURES)],
    ids=["ridge", "score only"],
)
def test_a_page_omits_figures_that_a_method_does_not_support(run, tmp_path, make, figures):
    _, page = page_of(make(run), tmp_path)
    viewer = viewer_of(page)
    assert viewer["attended"] == []
    assert viewer["imagined"] == []
    assert all("attention" not in clip and "data" in clip for clip in viewer["clips"])
    assert sorted(p.stem for p in (tmp_path / page.stem).iterdir()) == sorted(figures)
    text = page.read_text("utf-8")
    assert "<dt>accuracy</dt>" in text  # no comparison with itself
    assert "after refinement" not in text[text.index("<header>") : text.index("<main>")]
    assert "<th>gain of refinement</th>" not in text
    assert not viewer["compared"]
    assert all(len(clip["guesses"]) == 1 for clip in viewer["clips"])


@pytest.mark.parametrize(
    ("overrides", "query", "own"),
    [
        ({}, "the mean of the seen classes' texts", False),
        ({"method.purls.partition": "static"}, "none, since the partition is static", False),
        ({"method.purls.query": "per_candidate"}, "the class that the static model", True),
    ],
)
def test_a_page_names_the_query_of_attention(run, monkeypatch, overrides, query, own):
    texts_of_all = [[[f"class {c}, {g}"] for g in range(8)] for c in range(8)]
    monkeypatch.setattr(
        "dynapurls_jax.evaluation.page_clips.class_descriptions", lambda *_: texts_of_all
    )
    run, class_ids = changed(run, overrides), run.protocol.unseen
    undescribed = clips_of(run, run.protocol.unseen_test, class_ids)
    assert undescribed.texts is None
    seconds = run.config.data.frames / np.array(undescribed.fps)
    np.testing.assert_allclose(30 * seconds, run.inputs.corpus.frames[run.protocol.unseen_test])
    inputs = dataclasses.replace(run.inputs, sketches=(None,) * 8)
    clips = clips_of(dataclasses.replace(run, inputs=inputs), run.protocol.unseen_test, class_ids)
    assert clips.query.startswith(query)
    assert clips.own_queries == own
    assert clips.texts == [[text for [text] in texts_of_all[c]] for c in class_ids]


def test_a_page_has_the_imagined_clips_of_a_method_with_sketches(run):
    class_ids = run.protocol.unseen
    sketch = parse_sketch({"right hand": "hang > (head out > head near)*2"}, "wave", "test")
    sketches = [None] * 8
    sketches[class_ids[1]] = sketch
    described = dataclasses.replace(run.inputs, sketches=tuple(sketches))
    run = dataclasses.replace(run, inputs=described)
    assert imagined_of(run, class_ids) == []
    run = dataclasses.replace(run, sketch_tokens=np.zeros((8, *run.tokens.shape[1:]), np.float32))
    without, imagined = imagined_of(run, class_ids)
    assert without is None
    assert imagined.shape == run.inputs.clips.clips.shape[1:]
    assert imagined.any()


def test_incompatible_methods_are_refused(run):
    ridge = changed(fitted(run, "ridge"), {"adapter.name": "calip"})
    with pytest.raises(ValueError, match=r"adapter calip needs .*: expected one of .*balanced"):
        evaluate_run(ridge)
    precomputed = changed(
        run, {"adapter.name": "tpt", "text.encoder": "precomputed", "text.precomputed": "f.npz"}
    )
    with pytest.raises(ValueError, match="expected text encoder clip or minilm"):
        evaluate_run(precomputed)

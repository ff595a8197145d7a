"""Refinement against Algorithm 1 in plain Python, with its options."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dynapurls_jax.adaptation.api import StreamInfo, adapter_of, run_stream
from dynapurls_jax.adaptation.dynapurls import DynaPurlsSettings, dynapurls
from dynapurls_jax.adaptation.refinement import Refinement, no_refinement, refine
from dynapurls_jax.zero_shot.base import Candidates, unit
from tests.helpers.small_model import part, small_model, small_text, small_tokens

COUNT, BATCH = 24, 24
ON = jnp.ones(4, bool)


@cache
def references(kind, score):
    """Jitted logits, and the gradient of eq. 15, of all granularities."""
    model, variables, candidates = small_model(kind, score)
    count = model.embedding.scored(candidates).classes.shape[1]

    def logits(theta, features):
        return model.score(variables, features, refine(candidates, theta, ON))

    def loss(theta, features, labels, weights, anchor_weight):
        log_p = jax.nn.log_softmax(logits(theta, features))
        moved = refine(candidates, theta, ON).classes
        cosines = jnp.sum(candidates.classes * moved, axis=-1)[:, :count]
        losses = -log_p[jnp.arange(len(labels)), labels]
        return jnp.sum(weights * losses) / weights.sum() + anchor_weight * jnp.mean(1 - cosines)

    return jax.jit(logits), jax.jit(jax.grad(loss))


class PlainAlgorithm1:
    """Algorithm 1 with lists for the memory, sample by sample."""

    def __init__(self, kind, score, settings, key):
        self.logits, self.gradient = references(kind, score)
        classes = small_model(kind, score)[2].classes
        rate = settings.learning_rate
        if settings.anneal:
            rate = optax.cosine_decay_schedule(rate, COUNT * settings.steps)
        self.optimizer, self.settings, self.key = optax.adam(rate), settings, key
        self.theta = no_refinement(classes)
        self.opt_state = self.optimizer.init(self.theta)
        self.places = [[None] * settings.capacity for _ in classes]  # (priority, sample number)
        self.updates = 0

    def offer(self, numbers, probabilities):
        """Offers a chunk to the memory."""
        s, new_of_class = self.settings, {}
        admitted = [p.max() > s.threshold for p in probabilities]
        for number, p, admit in zip(numbers, probabilities, admitted, strict=True):
            if admit:
                priority = p.max() if s.eviction == "least_confident" else number
                new_of_class.setdefault(int(p.argmax()), []).append((priority, number))
        for label, new in new_of_class.items():
            bank = self.places[label]
            everyone = [pair for pair in bank if pair] + new
            best = sorted(everyone, key=lambda pair: (-pair[0], pair[1]))[: len(bank)]
            stay = [pair for pair in new if pair in best]
            rising = sorted(range(len(bank)), key=lambda k: bank[k][0] if bank[k] else -np.inf)
            for place, pair in zip(rising, stay, strict=False):
                bank[place] = pair
        return admitted

    def batch(self, key):
        """Numbers and labels of a batch; only the random keys are those of the scan."""
        drawn = []
        for c, bank in enumerate(self.places):
            stored = [pair[1] for pair in bank if pair]
            if self.settings.per_class == 0:
                drawn += [(number, c) for number in stored]
            elif stored:
                shape = (self.settings.per_class,)
                chosen = jax.random.randint(jax.random.fold_in(key, c), shape, 0, len(stored))
                drawn += [(stored[int(k)], c) for k in chosen]
        return np.array(drawn).T

    def update(self, features, numbers, labels):
        def padded(values):  # one compiled shape for all batches
            return np.pad(values, (0, BATCH - len(values)))

        batch = jax.tree.map(lambda leaf: np.asarray(leaf)[padded(numbers)], features)
        weights = padded(np.ones(len(numbers), np.float32))
        anchor = self.settings.anchor_weight
        gradient = self.gradient(self.theta, batch, padded(labels), weights, anchor)
        updates, self.opt_state = self.optimizer.update(gradient, self.opt_state)
        self.theta = optax.apply_updates(self.theta, updates)
        self.updates += 1

    def run(self, features, chunk, update_before_predict):
        """Predictions and admissions."""
        s, predicted, admitted = self.settings, [], []
        for start in range(0, COUNT, chunk):
            now, numbers = part(features, start, start + chunk), np.arange(start, start + chunk)
            before = np.asarray(jax.nn.softmax(self.logits(self.theta, now)))
            admits = self.offer(numbers, before)
            stored = sum(pair is not None for bank in self.places for pair in bank)
            key = jax.random.fold_in(self.key, start)
            for step in range(s.steps):
                if s.capacity and stored >= s.min_samples:
                    self.update(features, *self.batch(jax.random.fold_in(key, step)))
                elif not s.capacity and any(admits):
                    self.update(features, numbers[admits], before.argmax(axis=1)[admits])
            after = self.logits(self.theta, now) if update_before_predict else before
            predicted += np.asarray(after).argmax(axis=1).tolist()
            admitted += admits
        return predicted, admitted


BASE = DynaPurlsSettings(learning_rate=0.02, capacity=4, min_samples=3, per_class=2)
VARIANTS = {
    "paper": {},
    "per candidate, weighted, chunk, update first, two steps": {
        "kind": "per_candidate",
        "score": "weighted",
        "chunk": 4,
        "update_before_predict": True,
        "steps": 2,
    },
    "no memory, chunk": {"capacity": 0, "chunk": 2},
    "least recent, all stored, anchor, constant rate": {
        "eviction": "least_recent",
        "capacity": 2,
        "per_class": 0,
        "anchor_weight": 0.7,
        "anneal": False,
        "chunk": 4,
    },
}
SLOW = {
    "per candidate": {"kind": "per_candidate"},
    "weighted": {"score": "weighted"},
    "chunk": {"chunk": 3, "min_samples": 6},
    "constant rate": {"anneal": False, "learning_rate": 0.05},
    "no memory": {"capacity": 0},
    "no memory, two steps": {"capacity": 0, "chunk": 2, "steps": 2},
    "least recent": {"eviction": "least_recent", "capacity": 2},
    "ridge": {"kind": "ridge", "learning_rate": 0.1},
    "ridge, chunk": {"kind": "ridge", "chunk": 4, "steps": 2},
}


@pytest.mark.parametrize(
    "variant",
    [
        *[pytest.param(variant, id=name) for name, variant in VARIANTS.items()],
        *[pytest.param(v, id=name, marks=pytest.mark.slow) for name, v in SLOW.items()],
    ],
)
def test_scan_equals_algorithm_1_in_plain_python(variant):
    variant = dict(variant)
    chunk, update_first = variant.pop("chunk", 1), variant.pop("update_before_predict", False)
    kind, score = variant.pop("kind", "label_free"), variant.pop("score", "global")
    model, variables, candidates = small_model(kind, score)
    features, key = model.encode(variables, small_tokens(COUNT, seed=3)), jax.random.key(5)
    static = jax.nn.softmax(model.score(variables, features, candidates))
    half = float(np.median(static.max(axis=1)))  # about half of the samples are above it
    chosen = replace(BASE, threshold=half, **variant)
    info = StreamInfo.of(features)._replace(chunks=COUNT)  # so that no rate decays to 0
    adapter = adapter_of(dynapurls(model, variables, chosen, info), update_first)
    start = adapter.init(candidates, key=key)
    state, prediction = run_stream(adapter, start, features, chunk=chunk)
    plain = PlainAlgorithm1(kind, score, chosen, key)
    predicted, admitted = plain.run(features, chunk, update_first)
    np.testing.assert_array_equal(prediction.label, predicted)
    np.testing.assert_array_equal(prediction.admitted, admitted)
    scale, bias = state.inner_state.refinement
    count = scale.shape[1]  # granularities that are not scored have no gradient
    np.testing.assert_allclose(scale, plain.theta.scale[:, :count], atol=3e-4)
    np.testing.assert_allclose(bias, plain.theta.bias[:, :count], atol=3e-4)
    np.testing.assert_array_equal(plain.theta.scale[:, count:], 1)
    np.testing.assert_array_equal(plain.theta.bias[:, count:], 0)
    assert prediction.adapted.any()  # after B_min
    assert 0 < prediction.admitted.sum() < COUNT
    assert plain.updates > 3


@cache
def streams():
    """Last states and predictions of three settings, as one program."""
    model, variables, candidates = small_model()
    features = model.encode(variables, small_tokens(COUNT))
    info = StreamInfo.of(features)

    def run(threshold, anchor_weight):
        settings = replace(BASE, threshold=threshold, anchor_weight=anchor_weight)
        adapter = adapter_of(dynapurls(model, variables, settings, info))
        return run_stream(adapter, adapter.init(candidates), features)

    return jax.vmap(run)(jnp.array([0.0, 0.0, 1.1]), jnp.array([0.0, 100.0, 0.0]))


def test_with_a_threshold_above_one_no_sample_is_admitted_and_text_is_unchanged():
    state, prediction = streams()
    assert not prediction.admitted[2].any()
    assert not prediction.adapted[2].any()
    np.testing.assert_array_equal(state.inner_state.refinement.scale[2], 1)
    np.testing.assert_array_equal(state.inner_state.refinement.bias[2], 0)


def test_a_large_anchor_weight_keeps_the_text_vectors():
    model, _, candidates = small_model()
    static = model.embedding.scored(candidates)
    refinements = streams()[0].inner_state.refinement
    moved = [
        jnp.abs(refine(static, Refinement(*pair), ON).classes - static.classes).max()
        for pair in zip(*refinements, strict=True)
    ]
    assert moved[0] > 3 * moved[1] > 0


def test_refined_vectors_have_unit_rows_and_start_as_the_static_ones():
    text = small_text(4)
    static = Candidates(text, unit(text.mean(axis=0)))
    refined = jax.jit(refine)
    start = refined(static, no_refinement(text), ON)
    np.testing.assert_allclose(start.classes, text, atol=1e-6)
    np.testing.assert_allclose(start.query, static.query, atol=1e-6)
    moved = refined(static, Refinement(1.5 * jnp.ones_like(text), jnp.full_like(text, 0.3)), ON)
    np.testing.assert_allclose(moved.classes, unit(1.5 * text + 0.3), atol=1e-6)
    for vectors in moved:
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-5)
    assert refined(Candidates(text), no_refinement(text), ON).query is None

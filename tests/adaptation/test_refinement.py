"""Refinement against Algorithm 1 in plain Python, with its options."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import entropy

from dynapurls_jax.adaptation import RefineSettings, adapter_of, dynapurls, run_stream
from dynapurls_jax.adaptation.dynapurls import Refinement, refine
from dynapurls_jax.zero_shot.nn.partition import unit
from tests.helpers.small_model import first, part, small_model, small_text, small_tokens

ON = jnp.ones(4, bool)


def measure(kind, p):
    """Confidences, by their definitions."""
    second, best = np.sort(p)[-2:]
    return {
        "max": best,
        "ratio": best * len(p),
        "margin": best - second,
        "entropy": 1 - entropy(p) / np.log(len(p)),
    }[kind]


def plain_sinkhorn(p, rounds):
    """Balanced targets with ordinary numbers."""
    for _ in range(rounds):
        p = p / (p.sum(axis=0) + 1e-6) * len(p) / p.shape[1]  # what keeps an empty class finite
        p = p / p.sum(axis=1, keepdims=True)
    return p


class PlainAlgorithm1:
    """Lists for the memory, one thing after another."""

    def __init__(self, model, variables, text, s: RefineSettings, key):
        rate = optax.cosine_decay_schedule(s.learning_rate, s.horizon) if s.horizon else None
        rate = rate or s.learning_rate
        self.optimizer = {"adam": optax.adam, "sgd": optax.sgd}[s.optimizer](rate)
        self.model, self.variables, self.text, self.s, self.key = model, variables, text, s, key
        self.theta = Refinement(jnp.ones_like(text.classes), jnp.zeros_like(text.classes))
        self.opt_state = self.optimizer.init(self.theta)
        self.slots = [[None] * s.slots for _ in text.classes]  # (priority, number of the sample)
        self.recent, self.updates = [], 0
        self.logits, self.gradient = jax.jit(self.logits), jax.jit(jax.grad(self.loss))

    def logits(self, visual, theta):
        refined = refine(self.text, theta, ON)
        return self.model.score(self.variables, visual, refined)

    def loss(self, theta, rows, targets):
        log_p = jax.nn.log_softmax(self.logits(rows, theta))
        static, refined = self.text.classes, refine(self.text, theta, ON).classes
        away = jnp.mean(1 - jnp.sum(static * refined, axis=-1)[:, : self.model.rows])
        return -jnp.mean(jnp.sum(targets * log_p, axis=1)) + self.s.pull * away

    def admits(self, value):
        if self.s.threshold_kind == "absolute":
            return value > self.s.threshold
        recent = self.recent[-self.s.window :]
        return not recent or value > np.quantile(np.float32(recent), self.s.threshold)

    def offer(self, numbers, probabilities):
        """A chunk, to the memory."""
        values = [np.float32(measure(self.s.confidence, p)) for p in probabilities]
        admitted = [self.admits(value) for value in values]
        self.recent += values
        taken = {}
        for number, p, value, admit in zip(numbers, probabilities, values, admitted, strict=True):
            if admit:
                priority = value if self.s.keep == "confident" else number
                taken.setdefault(int(p.argmax()), []).append((priority, number))
        for label, new in taken.items():
            bank = self.slots[label]
            everyone = [pair for pair in bank if pair] + new
            best = sorted(everyone, key=lambda pair: (-pair[0], pair[1]))[: len(bank)]
            stay = [pair for pair in new if pair in best]
            rising = sorted(range(len(bank)), key=lambda k: bank[k][0] if bank[k] else -np.inf)
            for slot, pair in zip(rising, stay, strict=False):
                bank[slot] = pair
        return admitted

    def batch(self, visual, key):
        """The same draws as the scan: only the source of randomness is shared with it."""
        chosen = []
        for c, bank in enumerate(self.slots):
            held = [pair[1] for pair in bank if pair]
            if self.s.per_class == 0:
                chosen += [(number, c) for number in held]
            elif held:
                own = jax.random.fold_in(key, c)
                drawn = jax.random.randint(own, (self.s.per_class,), 0, len(held))
                chosen += [(held[int(k)], c) for k in drawn]
        index = np.array([number for number, _ in chosen])
        rows = jax.tree.map(lambda leaf: np.asarray(leaf)[index], visual)
        return rows, np.array([c for _, c in chosen])

    def update(self, rows, pseudo):
        targets = np.eye(len(self.slots))[pseudo]
        if self.s.targets == "balanced":
            logits = self.logits(rows, self.theta) / self.s.target_temperature
            targets = plain_sinkhorn(np.asarray(jax.nn.softmax(logits), float), self.s.rounds)
        gradient = self.gradient(self.theta, rows, targets)
        updates, self.opt_state = self.optimizer.update(gradient, self.opt_state)
        self.theta = optax.apply_updates(self.theta, updates)
        self.updates += 1

    def run(self, visual, chunk, learn_first):
        """Predictions and who was admitted."""
        predicted, admitted = [], []
        for start in range(0, len(visual.tokens), chunk):
            now = part(visual, start, start + chunk)
            before = np.asarray(jax.nn.softmax(self.logits(now, self.theta)))
            numbers = range(start, start + len(before))
            admitted += self.offer(numbers, before)
            held = sum(pair is not None for bank in self.slots for pair in bank)
            key = jax.random.fold_in(self.key, start)
            for step in range(self.s.steps):
                if self.s.slots and held >= self.s.min_samples:
                    self.update(*self.batch(visual, jax.random.fold_in(key, step)))
                elif not self.s.slots and any(admitted[start:]):
                    kept = np.flatnonzero(admitted[start:])
                    rows = jax.tree.map(lambda leaf, kept=kept: leaf[kept], now)
                    self.update(rows, before.argmax(axis=1)[kept])
            after = self.logits(now, self.theta) if learn_first else before
            predicted += np.asarray(after).argmax(axis=1).tolist()
        return predicted, admitted


BASE = RefineSettings(learning_rate=0.02, horizon=25, slots=4, min_samples=3, per_class=2)
SGD = {"optimizer": "sgd", "learning_rate": 0.05}
VARIANTS = {
    "paper": {},
    "per_candidate": {"query": "per_candidate"},
    "weighted": {"score": "weighted"},
    "weighted per_candidate": {"query": "per_candidate", "score": "weighted"},
    "chunk": {"chunk": 3, "min_samples": 6},
    "learn first, two steps": {"chunk": 4, "learn_first": True, "steps": 2},
    "sgd, endless": {"optimizer": "sgd", "horizon": None, "learning_rate": 0.5},
    "no memory": {"slots": 0},
    "no memory, chunk, two steps": {"slots": 0, "chunk": 4, "steps": 2},
    "recent": {"keep": "recent", "slots": 2, "chunk": 3},
    "margin quantile": {"confidence": "margin", "threshold_kind": "quantile", "threshold": 0.4},
    "quantile of few": {"threshold_kind": "quantile", "threshold": 0.5, "window": 6, "chunk": 2},
    "margin": {"confidence": "margin"},
    "entropy": {"confidence": "entropy"},
    "ratio": {"confidence": "ratio"},
    # Adam would divide rounding errors by themselves where a soft target leaves no gradient.
    "balanced, all, pull": SGD | {"targets": "balanced", "per_class": 0, "pull": 0.7},
    "balanced, sharp": SGD | {"targets": "balanced", "target_temperature": 0.5, "rounds": 2},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_scan_equals_algorithm_1_in_plain_python(name):
    variant = dict(VARIANTS[name])
    chunk, learn_first = variant.pop("chunk", 1), variant.pop("learn_first", False)
    query, score = variant.pop("query", "label_free"), variant.pop("score", "global")
    model, variables, text = small_model(query, score)
    chosen = RefineSettings(**(vars(BASE) | variant))
    visual, key = model.encode(variables, small_tokens(25, seed=3)), jax.random.key(5)
    if chosen.threshold_kind == "absolute":  # so that about half pass, whatever is measured
        p = np.asarray(jax.nn.softmax(model.score(variables, visual, text)))
        bar = float(np.median([measure(chosen.confidence, row) for row in p]))
        chosen = RefineSettings(**(vars(chosen) | {"threshold": bar}))
    adapter = adapter_of(dynapurls(model, variables, first(visual), chosen), learn_first)
    state, prediction = run_stream(adapter, adapter.init(text, key=key), visual, chunk=chunk)
    plain = PlainAlgorithm1(model, variables, text, chosen, key)
    predicted, admitted = plain.run(visual, chunk, learn_first)
    np.testing.assert_array_equal(prediction.label, predicted)
    np.testing.assert_array_equal(prediction.admitted, admitted)
    rows = model.rows  # without a gradient, the rows that are not scored stay as they began
    refinement = state.own.refinement
    np.testing.assert_allclose(refinement.scale, plain.theta.scale[:, :rows], atol=5e-5)
    np.testing.assert_allclose(refinement.bias, plain.theta.bias[:, :rows], atol=5e-5)
    np.testing.assert_array_equal(plain.theta.scale[:, rows:], 1)
    np.testing.assert_array_equal(plain.theta.bias[:, rows:], 0)
    assert 0 < prediction.adapted.sum() < 25  # both before and after B_min
    assert 0 < prediction.admitted.sum() < 25  # the threshold kept something out
    assert plain.updates > 3


def test_threshold_above_one_filters_everything_and_the_text_stays():
    model, variables, text = small_model()
    visual = model.encode(variables, small_tokens(20))
    adapter = adapter_of(dynapurls(model, variables, first(visual), RefineSettings(threshold=1.1)))
    state, prediction = run_stream(adapter, adapter.init(text), visual)
    assert not prediction.admitted.any()
    assert not prediction.adapted.any()
    np.testing.assert_array_equal(state.own.refinement.scale, 1)
    np.testing.assert_array_equal(state.own.refinement.bias, 0)


def test_a_strong_pull_keeps_the_text_where_it_was():
    model, variables, text = small_model()
    visual = model.encode(variables, small_tokens(30))

    def moved(pull):
        chosen = RefineSettings(min_samples=4, pull=pull, horizon=None)
        adapter = adapter_of(dynapurls(model, variables, first(visual), chosen))
        state, _ = run_stream(adapter, adapter.init(text), visual)
        refined = refine(part_of(text, model), state.own.refinement, ON).classes
        return float(jnp.abs(refined - text.classes[:, : model.rows]).max())

    distances = [moved(pull) for pull in (0.0, 1.0, 100.0)]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 3 * distances[-1]


def part_of(text, model):
    """The text of the rows that scoring reads."""
    return text._replace(classes=text.classes[:, : model.rows], query=text.query[: model.rows])


def test_refined_text_has_unit_rows_and_starts_as_the_static_text():
    text = small_text(4)
    ones, zeros = jnp.ones_like(text.classes), jnp.zeros_like(text.classes)
    start = refine(text, Refinement(ones, zeros), ON)
    np.testing.assert_allclose(start.classes, text.classes, atol=1e-6)
    np.testing.assert_allclose(start.query, text.query, atol=1e-6)
    moved = refine(text, Refinement(1.5 * ones, zeros + 0.3), ON)
    np.testing.assert_allclose(moved.classes, unit(1.5 * text.classes + 0.3), atol=1e-6)
    for rows in itertools.chain(moved.classes, [moved.query]):
        np.testing.assert_allclose(jnp.linalg.norm(rows, axis=-1), 1, atol=1e-5)

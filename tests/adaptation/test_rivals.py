"""Test-time methods of others against plain NumPy, with lists for caches."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from dynapurls_jax.adaptation import (
    AdaNpcSettings,
    BalancedSettings,
    CalipSettings,
    TdaSettings,
    TentSettings,
    TptSettings,
    adanpc,
    adapter_of,
    calip,
    run_stream,
    tda,
)
from dynapurls_jax.config import default_config
from tests.helpers.small_model import small_model, small_tokens

COUNT = 40
every_query = pytest.mark.parametrize("query", ["label_free", "per_candidate"])
every_score = pytest.mark.parametrize("score", ["global", "weighted"])


class Plain:
    """A small model's stream as ordinary arrays.

    Attributes:
      rows: `[N, Q, R, d]`.
      text: `[C, R, d]`.
    """

    def __init__(self, query, score):
        self.model, self.variables, self.whole = small_model(query, score)
        self.visual = self.model.encode(self.variables, small_tokens(COUNT, seed=3))
        queries = self.model.queries(self.whole)[..., : self.model.rows, :]
        self.rows = np.asarray(self.model.project(self.variables, self.visual, queries), float)
        self.text = np.asarray(self.whole.classes[:, : self.model.rows], float)
        alpha = np.asarray(self.variables["params"]["alpha"], float)
        self.alpha = softmax(alpha) if score == "weighted" else np.ones(1)
        self.scale = float(self.model.scale(self.variables))
        self.classes = range(len(self.text))

    def cosine(self, a, b):
        """Of two samples or texts `[R, d]`."""
        return float(((a * b).sum(axis=-1) * self.alpha).sum())

    def asked(self, rows, label):
        """A sample's rows as one class asks for them."""
        return rows[label if len(rows) > 1 else 0]

    def static(self, rows):
        """Logits of a sample `[Q, R, d]`."""
        own = [self.cosine(self.asked(rows, c), self.text[c]) for c in self.classes]
        return self.scale * np.array(own)

    def run(self, method, learn_first=False):
        """The method's stream."""
        adapter = adapter_of(method, learn_first)
        return run_stream(adapter, adapter.init(self.whole), self.visual)


def keep_best(cache, entry, room):
    """One more entry `(how sure, ...)`; the least sure leaves."""
    cache.append(entry)
    cache.sort(key=lambda held: -held[0])  # stable: of equal ones the newest leaves
    del cache[room:]


@every_score
@every_query
@pytest.mark.parametrize("learn_first", [False, True])
def test_tda_equals_two_lists(query, score, learn_first):
    plain = Plain(query, score)
    s = TdaSettings(slots=2, negative_slots=2, doubt_from=0.15, doubt_to=0.9, possible_from=0.1)
    positive, negative = ([[] for _ in plain.classes] for _ in range(2))
    expected, doubts = [], 0

    def offer(rows):
        p = softmax(plain.static(rows))
        label, share = int(p.argmax()), entropy(p) / np.log(len(p))
        keep_best(positive[label], (1 - share, plain.asked(rows, label)), s.slots)
        if s.doubt_from < share < s.doubt_to:
            keep_best(negative[label], (1 - share, rows, p > s.possible_from), s.negative_slots)
            return 1
        return 0

    def answer(rows):
        logits = plain.static(rows)
        for c in plain.classes:
            mine = plain.asked(rows, c)
            for _, other in positive[c]:
                near = plain.cosine(mine, other)
                logits[c] += s.weight * np.exp(-s.sharpness * (1 - near))
            for _, other, possible in itertools.chain(*negative):
                near = plain.cosine(mine, plain.asked(other, c))
                weight = s.negative_weight * np.exp(-s.negative_sharpness * (1 - near))
                logits[c] -= weight * possible[c]
        return logits

    for rows in plain.rows:
        if learn_first:
            doubts += offer(rows)
        expected.append(answer(rows))
        if not learn_first:
            doubts += offer(rows)
    state, prediction = plain.run(tda(plain.model, plain.variables, s), learn_first)
    np.testing.assert_allclose(prediction.logits, expected, atol=2e-3)
    for cache, lists in zip(state.own, (positive, negative), strict=True):
        assert cache.filled.sum(axis=1).tolist() == [len(held) for held in lists]
        for c, held in enumerate(lists):
            mine = np.asarray(cache.priority[c])[np.asarray(cache.filled[c])]
            np.testing.assert_allclose(sorted(mine), sorted(e[0] for e in held), atol=1e-5)
    assert 0 < doubts < COUNT
    assert max(map(len, positive)) == s.slots  # something had to leave


@every_score
@every_query
def test_adanpc_equals_a_sorted_list_of_neighbours(query, score):
    plain = Plain(query, score)
    s = AdaNpcSettings(neighbours=5, slots=4, threshold=0.6)
    memory, expected, admitted = [[] for _ in plain.classes], [], []
    for rows in plain.rows:
        near = []
        for c in plain.classes:
            mine = plain.asked(rows, c)
            for other in [plain.text[c], *(entry[1] for entry in memory[c])]:
                near.append((plain.scale * plain.cosine(mine, other), c))
        nearest = sorted(near, reverse=True)[: s.neighbours]
        weights = softmax([one[0] for one in nearest])
        share = np.zeros(len(plain.text))
        for weight, (_, c) in zip(weights, nearest, strict=True):
            share[c] += weight
        expected.append(np.log(share + 1e-6))
        p = softmax(expected[-1])
        label = int(p.argmax())
        admitted.append(p.max() > s.threshold)
        if admitted[-1]:
            keep_best(memory[label], (p.max(), plain.asked(rows, label)), s.slots)
    state, prediction = plain.run(adanpc(plain.model, plain.variables, s))
    np.testing.assert_array_equal(prediction.admitted, admitted)
    np.testing.assert_allclose(np.exp(prediction.logits), np.exp(expected), atol=2e-3)
    assert state.own.filled.sum(axis=1).tolist() == list(map(len, memory))
    assert 0 < sum(admitted) < COUNT
    assert max(map(len, memory)) == s.slots


@every_query
def test_adanpc_begins_as_the_static_model(query):
    plain = Plain(query, "global")
    s = AdaNpcSettings(threshold=1.1)  # nothing is ever remembered
    _, prediction = plain.run(adanpc(plain.model, plain.variables, s))
    static = np.array([log_softmax(plain.static(rows)) for rows in plain.rows])
    np.testing.assert_allclose(np.exp(prediction.logits), np.exp(static), atol=1e-4)
    assert not prediction.admitted.any()


@every_score
@every_query
def test_calip_equals_its_equations(query, score):
    plain = Plain(query, score)
    s = CalipSettings(text_weight=0.8, visual_weight=0.5, sharpness=3.0)
    first, second = (plain.variables["params"]["project"][f"Dense_{i}"] for i in (0, 1))

    def norm(x):
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    # The head of a token: with the row head all granularities of a lone token are the same.
    hidden = np.maximum(np.asarray(plain.visual.tokens) @ first["kernel"] + first["bias"], 0)
    tokens = norm(np.asarray(hidden @ second["kernel"] + second["bias"], float))  # [N, S, d]
    expected = []
    for rows, lone in zip(plain.rows, tokens, strict=True):
        logits = plain.static(rows)
        seen_text = np.empty_like(plain.text)
        seen_tokens = np.empty(plain.text.shape[1:])
        for r in range(plain.text.shape[1]):
            cosines = lone @ plain.text[:, r].T * s.sharpness  # [S, C]
            seen_text[:, r] = softmax(cosines, axis=0).T @ lone
            each = softmax(cosines, axis=1) @ plain.text[:, r]
            seen_tokens[r] = each.mean(axis=0) + each.max(axis=0)
        for c in plain.classes:
            by_text = plain.cosine(plain.asked(rows, c), seen_text[c])
            by_tokens = plain.cosine(seen_tokens, plain.text[c])
            logits[c] += plain.scale * (s.text_weight * by_text + s.visual_weight * by_tokens)
        expected.append(logits)
    state, prediction = plain.run(calip(plain.model, plain.variables, s))
    np.testing.assert_allclose(prediction.logits, expected, atol=2e-3)
    assert not prediction.admitted.any()
    assert jax.tree.leaves(state.own) == []
    off = calip(plain.model, plain.variables, CalipSettings(0.0, 0.0))
    static = [plain.static(rows) for rows in plain.rows]
    np.testing.assert_allclose(plain.run(off)[1].logits, static, atol=1e-3)
    assert jnp.abs(prediction.logits - jnp.asarray(static)).max() > 0.1


def test_the_configuration_has_every_setting_with_its_default():
    config = default_config()
    for section, settings in {
        "adanpc": AdaNpcSettings,
        "balanced": BalancedSettings,
        "calip": CalipSettings,
        "tda": TdaSettings,
        "tent": TentSettings,
        "tpt": TptSettings,
    }.items():
        assert settings(**config[section]) == settings()
        assert set(config[section]) == set(vars(settings()))

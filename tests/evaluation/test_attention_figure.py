"""The picture of attention: all of its words are inside."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.evaluation import figures
from dynapurls_jax.evaluation.attention_figure import draw_attention


@pytest.mark.parametrize("name", ["draw a circle counterclockwise " * 5, "W" * 90, "MW " * 40])
def test_long_class_names_fit(name, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    attention = {part: rng.random(40) for part in ("global", "head")}
    figure = draw_attention(rng.normal(size=(9, 20, 3)), attention, KINECT_V1)
    monkeypatch.setattr(plt, "close", lambda _: None)
    figures.save(figure, f"Clip a1_s1_t1: {name}\n{name}", tmp_path / "x.png")
    monkeypatch.undo()
    figure.canvas.draw()
    texts = [figure._suptitle, *figure.axes[0].texts]
    for box in (text.get_window_extent() for text in texts):
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width
        assert 0 <= box.y0 < box.y1 <= figure.bbox.height
    plt.close(figure)

"""The page of one run: its pictures, its summary, and a viewer of every clip."""

from pathlib import Path

from dynapurls_jax.evaluation.metrics import calibration
from dynapurls_jax.evaluation.page.viewer import Clips, Page, viewer_data, write_html
from dynapurls_jax.evaluation.report import SYNTHETIC, ReportInfo, RunResult, page_name, percent
from dynapurls_jax.evaluation.run_figures import RunView, draw_all


def write_run_page(folder: Path, result: RunResult, clips: Clips, info: ReportInfo) -> Path:
    """Writes `<split>-seed<k>.html`, and its pictures into `<split>-seed<k>/`.

    Args:
      result: with its inspection.
      clips: of the inspection's samples.

    Returns:
      The page.
    """
    assert result.inspection is not None
    path = folder / page_name(result)
    pictures = path.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    view = RunView(pictures, result, result.inspection, clips, info)
    page = Page(
        title=f"{view.title}: {' and '.join(view.probabilities)}",
        warning=SYNTHETIC if info.corpus.synthetic else "",
        command=info.command,
        summary=summary_of(view),
        figures=draw_all(view),
    )
    write_html(
        path,
        page,
        viewer_data(result.class_names, view.labels, view.inspection, clips, view.compared),
    )
    return path


def summary_of(view: RunView) -> list[tuple[str, str]]:
    """What was measured, on which data, how."""
    result, info, adapter = view.result, view.info, view.info.adapter
    config = info.config
    errors = {
        name: 100 * calibration(p.max(axis=1), p.argmax(axis=1) == view.labels).error
        for name, p in view.probabilities.items()
    }
    encoder = (result.training.get("encoder") or {}).get("val_accuracy")
    orders = len(result.streams[adapter].order)
    refined = [
        (
            f"{adapter}, {orders} {config.eval.stream} orders",
            f"{percent(result.accuracies(adapter))} % (std over orders)",
        ),
        ("gain", f"{percent(result.gains(adapter))} points"),
    ]
    return [
        ("data", f"{info.corpus.name}, protocol {config.data.protocol or 'the usual one'}"),
        ("split", f"{result.split}: {result.classes} unseen classes, {len(result.labels)} clips"),
        ("clips of a stream", str(len(view.inspection.order))),
        ("training seed", str(result.seed)),
        ("method, text", f"{info.method}, {config.text.encoder}"),
        ("chance", f"{100 / result.classes:.1f} %"),
        ("static accuracy", f"{percent(result.accuracies('static'))} % (std over orders)"),
        *(refined if view.compared else []),
        (
            "calibration error (ECE)",
            f"{', '.join(f'{name} {e:.1f}' for name, e in errors.items())} points (first order)",
        ),
        (
            "seen validation accuracy of the encoder",
            "not trained here" if encoder is None else f"{100 * encoder:.1f} %",
        ),
    ]

"""Writes the model file of each trained run to its folder."""

from pathlib import Path

from data_pipelines.logs import log
from data_pipelines.protocols import base_split, pseudo_split
from dynapurls_jax.adaptation.gated import Gate
from dynapurls_jax.evaluation.evaluate_gzsl import fitted_gate
from dynapurls_jax.evaluation.trained_run import TrainedRun
from dynapurls_jax.serving.model import model_of
from dynapurls_jax.serving.model_file import RUN_MODEL, write_model
from dynapurls_jax.training.processes import is_first
from dynapurls_jax.training.run import load_pseudo_runs, load_run, trained_seeds
from dynapurls_jax.training.spec import RunSpec


def keep_model(spec: RunSpec, run: TrainedRun) -> None:
    """Writes the model file of a newly trained run.

    The model has a gate if the pseudo split is trained. After the training of a pseudo split, the
    models of the real split are written again with a gate.
    """
    if not is_first():
        return
    if run.config.fit.published_protocol:
        log.info("no model file: fit.published_protocol chose the epoch by labels of test clips")
        return
    workdir = spec.folder.parent.parent
    write_model(model_of(run, _gate(run, workdir)), spec.folder / RUN_MODEL)
    real = base_split(spec.split)
    if real and pseudo_split(real) == spec.split:
        for seed in trained_seeds(spec.inputs, workdir, real):
            log.info(f"model of {real}, seed {seed}: written again, with a gate")
            before = load_run(spec.inputs, workdir, real, seed)
            file = workdir / real / f"seed{seed}" / RUN_MODEL
            write_model(model_of(before, _gate(before, workdir)), file)


def _gate(run: TrainedRun, workdir: Path) -> Gate | None:
    """The gate of a run; None if it cannot be fitted."""
    if not trained_seeds(run.inputs, workdir, pseudo_split(run.split)):
        return None
    log.info(f"gate of {run.split}, seed {run.seed}: fitted on the trained pseudo split")
    try:
        return fitted_gate(run, load_pseudo_runs(run.inputs, workdir, run.split))
    except ValueError as error:
        log.warning(
            f"{run.split}, seed {run.seed}: model without a gate, which cannot be fitted: {error}"
        )
        return None

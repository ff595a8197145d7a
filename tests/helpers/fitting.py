"""Stage 3 of tasks without a workdir: the folds choose the number of epochs, then training."""

from dynapurls_jax.training import epochs
from dynapurls_jax.training.checkpoints import Checkpoints
from dynapurls_jax.training.folds import folds_of


def trained_together(tasks, folders):
    """Variables and results of each task, whose folds choose the number of epochs."""
    choices = [{"best_epoch": task.settings.epochs} for task in tasks]
    if len(folds_of(tasks[0]).held):
        choices = epochs.choose_epochs(group_of(tasks, [folder / "folds" for folder in folders]))
    fitted = epochs.train_methods(
        group_of(tasks, folders), [choice["best_epoch"] for choice in choices]
    )
    return [(found, choice | more) for choice, (found, more) in zip(choices, fitted, strict=True)]


def group_of(tasks, folders):
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    return epochs.Group(tasks, [Checkpoints(one / "checkpoints") for one in folders], folders)

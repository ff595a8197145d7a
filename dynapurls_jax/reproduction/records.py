"""Records of finished jobs, one JSON line for each."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from dynapurls_jax.reproduction.jobs import Job
from dynapurls_jax.reproduction.kinds import Results
from dynapurls_jax.training.metrics import json_lines

_KEYS = {"job", "results", "sources"}  # of a whole record


class Records:
    """The results of a dataset's jobs; the file remains readable if the process is killed."""

    def __init__(self, file: Path, sources_of: Callable[[Job], dict], about: dict[str, str]):
        """Opens or starts the file.

        Args:
          sources_of: everything but the code that a job's results depend on; records with other
            sources are ignored.
          about: commit and device of new records.
        """
        self.file, self._sources_of, self._about = file, sources_of, about
        whole = (record for record in json_lines(file) if record.keys() >= _KEYS)
        self._records = {_key(one["job"], one["sources"]): one for one in whole}

    def get(self, job: Job) -> dict | None:
        """The record of a job with "results", "commit" and "device"; None if it is not finished."""
        return self._records.get(_key(asdict(job), self._sources_of(job)))

    def add(self, job: Job, results: Results) -> None:
        """Appends the results of a job."""
        own, sources = asdict(job), self._sources_of(job)
        record = {"job": own, "results": results, "sources": sources} | self._about
        self._records[_key(own, sources)] = record
        self.file.parent.mkdir(parents=True, exist_ok=True)
        whole = not self.file.exists() or self.file.read_bytes()[-1:] in (b"", b"\n")
        with self.file.open("a", encoding="utf-8") as file:
            file.write(("" if whole else "\n") + json.dumps(record) + "\n")


def _key(job: dict, sources: dict) -> str:
    return json.dumps([job, sources], sort_keys=True)

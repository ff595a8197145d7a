"""Records of finished jobs, one JSON line for each."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dynapurls_jax.reproduction.jobs import Job
from dynapurls_jax.reproduction.kinds import Results
from dynapurls_jax.training.metrics import json_lines

_KEYS = {"job", "results"}  # of a whole record


class Records:
    """The results of a dataset's jobs; the file remains readable if the process is killed."""

    def __init__(self, file: Path, sources: dict[str, Any], about: dict[str, str]):
        """Opens or starts the file.

        Args:
          sources: everything but the code that results depend on; records with other sources are
            ignored.
          about: commit and device of new records.
        """
        self.file, self._sources, self._about = file, sources, about
        own = (r for r in json_lines(file) if r.get("sources") == sources and r.keys() >= _KEYS)
        self._records = {self._key(record["job"]): record for record in own}

    @staticmethod
    def _key(job: dict) -> str:
        return json.dumps(job, sort_keys=True)

    def get(self, job: Job) -> dict | None:
        """The record of a job with "results", "commit" and "device"; None if it is not finished."""
        return self._records.get(self._key(asdict(job)))

    def add(self, job: Job, results: Results) -> None:
        """Appends the results of a job."""
        record: dict[str, Any] = {"job": asdict(job), "results": results, "sources": self._sources}
        record |= self._about
        self._records[self._key(asdict(job))] = record
        self.file.parent.mkdir(parents=True, exist_ok=True)
        whole = not self.file.exists() or self.file.read_bytes()[-1:] in (b"", b"\n")
        with self.file.open("a", encoding="utf-8") as file:
            file.write(("" if whole else "\n") + json.dumps(record) + "\n")

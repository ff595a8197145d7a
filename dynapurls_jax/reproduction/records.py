"""Records of finished jobs: a JSON line for each."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dynapurls_jax.reproduction.jobs import Job, Results
from dynapurls_jax.training.metrics import json_lines


class Records:
    """The results of one dataset's jobs; a kill at any moment leaves the file readable."""

    def __init__(self, file: Path, sources: dict[str, Any], about: dict[str, str]):
        """Opens or starts the file.

        Args:
          sources: the origin of the results; records of another origin do not count.
          about: of every new record: the commit of the code, the device.
        """
        self.file, self._sources, self._about = file, sources, about
        own = (record for record in json_lines(file) if record["sources"] == sources)
        self._records = {self._key(record["job"]): record for record in own}

    @staticmethod
    def _key(job: dict) -> str:
        return json.dumps(job, sort_keys=True)

    def get(self, job: Job) -> dict | None:
        """`{"results", "commit", "device"}` of a job, or None."""
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

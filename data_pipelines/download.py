"""Download of a published file, checked by its size and its hash."""

import hashlib
import ssl
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from data_pipelines.atomic import FullDiskError, replacing
from data_pipelines.errors import DataError
from data_pipelines.logs import log
from data_pipelines.progress import progress

PATIENCE = 10.0  # seconds without an answer of the server
_BLOCK = 2**18  # bytes


def download(url: str, file: Path, size: int, sha256: str) -> None:
    """Downloads a file.

    A failed or interrupted download leaves no file.

    Args:
      file: where it goes; its folder is made if needed.
      size: its bytes; no more are read.
      sha256: its hash, which proves the file: certificates are not checked, since not every machine
        has all that an older site needs.

    Raises:
      OSError: the site does not answer within `PATIENCE` seconds.
      FullDiskError: there is no room.
      DataError: the file is another one.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    log.info(f"downloading {url}, {size / 1e6:.0f} MB")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    found, done = hashlib.sha256(), 0
    try:
        with urlopen(url, timeout=PATIENCE, context=context) as answer, replacing(file) as output:
            with progress(f"downloading {file.name}, bytes", size) as report:
                while done <= size and (block := answer.read(_BLOCK)):
                    output.write(block)
                    found.update(block)
                    done += len(block)
                    report(done)
            if found.hexdigest() != sha256:
                raise DataError(
                    f"expected the {size} bytes with sha256 {sha256}, got {done} others: another "
                    "file, or changed on its way",
                    url,
                )
    except FullDiskError:
        raise
    except (OSError, HTTPException) as error:
        raise OSError(f"{getattr(error, 'reason', error)}") from error

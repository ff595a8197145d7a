"""Converts descriptions in a spreadsheet to this project's JSON.

  python scripts/import_descriptions.py gpt3_desc.xlsx --sheet UTD-MHAD --dataset utd_mhad \\
      --out gpt3_utd_mhad.json

The sheet, or a CSV file, has a header with the columns Action Labels, Head, Hands, Torso, Legs,
Start, Middle, End and Global Desc, as the published GPT-3 descriptions have, and a row for each
class in the order of its dataset. Labels may differ from the class names; both are printed. A
spreadsheet needs pip install openpyxl. Then train with --config.text.descriptions=<out>.
"""

import json
import sys
from pathlib import Path

from data_pipelines.atomic import write_text
from data_pipelines.builders.registry import PUBLIC, public_dataset
from dynapurls_jax.commands import parser_of
from dynapurls_jax.text.spreadsheet import read_sheet


def main() -> None:
    """Reads, checks, writes."""
    parser = parser_of(__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--sheet", default="", help="not for a CSV file")
    parser.add_argument("--dataset", required=True, help=f"one of {', '.join(PUBLIC)}")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    try:
        names = public_dataset(options.dataset).CLASSES
        labels, classes = read_sheet(options.file, options.sheet, names)
        provenance = ", sheet ".join(filter(None, (options.file.name, options.sheet)))
        record = {"provenance": provenance, "classes": classes}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_text(options.out, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    except (ModuleNotFoundError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    for label, name in zip(labels, classes, strict=True):
        print(f"  {label}  ->  {name}")
    print(f"{len(classes)} classes written to {options.out}")


if __name__ == "__main__":
    main()

"""Malicious spreadsheets and files of text vectors."""

import tracemalloc
import zipfile

import numpy as np
import pytest

from data_pipelines.errors import DataError
from dynapurls_jax.text.granularities import GRANULARITIES
from dynapurls_jax.text.precomputed import load_precomputed
from dynapurls_jax.text.spreadsheet import read_sheet
from tests.helpers.attacks import Attack, claim, npy, npz, with_false_sizes, zeros_in_zip

NAMES = ("wave", "kick")


def vectors(folder, content):
    """Reads a file whose vectors are `content`."""
    return load_precomputed(npz(folder / "t.npz", names=npy(np.array(NAMES)), text=content), NAMES)


def names(folder, content):
    """Reads a file whose class names are `content`."""
    text = npy(np.ones((2, 8, 4), np.float32))
    return load_precomputed(npz(folder / "t.npz", names=content, text=text), NAMES)


@pytest.mark.parametrize("read", [vectors, names])
def test_objects_and_false_claims_in_vectors_are_refused(read, tmp_path):
    mark = tmp_path / "hacked"
    with pytest.raises(DataError, match="expected numbers or text, got object"):
        read(tmp_path, npy(np.array([Attack(mark), Attack(mark)], object)))
    assert not mark.exists()
    with pytest.raises(DataError, match="it claims to be"):
        read(tmp_path, claim((10**12,)) + bytes(1000))


def test_a_decompression_bomb_of_vectors_is_refused(tmp_path, flat):
    others = {"names.npy": npy(np.array(NAMES))}
    beginning = claim((32, 2**20), "<u1")
    file = zeros_in_zip(tmp_path / "b.npz", "text.npy", 32, beginning, others)
    with pytest.raises(DataError, match="may be a decompression bomb"):
        load_precomputed(file, NAMES)


SHEET = "xl/worksheets/sheet1.xml"


@pytest.fixture
def book(tmp_path):
    """A good spreadsheet, and a function that changes the text of one of its members."""
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed")
    made = openpyxl.Workbook()
    made.active.append(["Action Labels", *(g.capitalize() for g in GRANULARITIES[1:])])
    made.active["I1"] = "Global Desc"
    for name in ("wave", "kick"):
        made.active.append([name, *(f"{name} {g}" for g in GRANULARITIES)])
    file = tmp_path / "good.xlsx"
    made.save(file)

    def changed(member, *changes):
        path = tmp_path / "evil.xlsx"
        with zipfile.ZipFile(file) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        for old, new in changes:
            assert old in members[member]
            members[member] = members[member].replace(old, new)
        first = {member: members.pop(member)} | members
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, content in first.items():
                archive.writestr(name, content)
        return path

    return changed


def test_a_decompression_bomb_in_a_spreadsheet_is_refused(book, flat):
    assert read_sheet(book(SHEET), "Sheet", ("wave", "kick"))[0] == ["wave", "kick"]
    zeros = bytes(2**24)
    file = book(SHEET, (b"</worksheet>", b"</worksheet>" + zeros + zeros))
    del zeros
    tracemalloc.reset_peak()
    with pytest.raises(DataError, match="decompression bomb"):
        read_sheet(file, "Sheet", ("wave", "kick"))
    with pytest.raises(DataError, match=r"evil\.xlsx: not a readable spreadsheet .*CRC"):
        read_sheet(with_false_sizes(file, 1000), "Sheet", ("wave", "kick"))
    many = zeros_in_zip(file.with_name("many.xlsx"), "a", 9, b"", {"b": bytes(2**23)})
    with pytest.raises(DataError, match=r"many\.xlsx: .* decompression bomb"):
        read_sheet(many, "", ())


LARGE = (b'ref="A1:I3"', b'ref="A1:XFD1048576"')
CORNER = b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>'
NO_SIZE = (b'<dimension ref="A1:I3" />', b"")
BEYOND = b'<row r="999999999999"><c r="A999999999999"><v>1</v></c></row></sheetData>'
MERGED = b'</sheetData><mergeCells><mergeCell ref="A4:XFD1048576"/></mergeCells>'


@pytest.mark.parametrize(
    "changes",
    [
        [LARGE],
        [LARGE, (b"</sheetData>", CORNER)],
        [NO_SIZE, (b"</sheetData>", CORNER)],
        [NO_SIZE, (b"</sheetData>", BEYOND)],
        [(b"</sheetData>", MERGED)],
    ],
)
def test_distant_cells_do_not_allocate_all_cells_before_them(book, changes, flat):
    labels, _ = read_sheet(book(SHEET, *changes), "Sheet", ("wave", "kick"))
    assert labels == ["wave", "kick"]


@pytest.mark.slow
def test_entities_in_a_spreadsheet_are_refused(book):
    laughs = "".join(f'<!ENTITY x{n} "{f"&x{n - 1};" * 10}">' for n in range(1, 12))
    doctype = f'<!DOCTYPE worksheet [<!ENTITY x0 "ha">{laughs}]>'.encode()
    cell = b'<row r="4"><c r="A4"><v>&x11;</v></c></row></sheetData>'
    file = book(SHEET, (b"<worksheet", doctype + b"<worksheet"), (b"</sheetData>", cell))
    with pytest.raises(DataError, match="not a readable spreadsheet"):
        read_sheet(file, "Sheet", ("wave", "kick"))

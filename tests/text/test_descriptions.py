"""Descriptions, their lint and their spreadsheets: errors name the file, class and granularity."""

import pytest

from data_pipelines.builders.registry import PUBLIC, public_dataset
from data_pipelines.errors import DataError
from dynapurls_jax.text.descriptions import (
    check_descriptions,
    find_descriptions,
    load_descriptions,
    shipped_descriptions,
)
from dynapurls_jax.text.granularities import GRANULARITIES
from dynapurls_jax.text.lint import lint, overlaps
from dynapurls_jax.text.spreadsheet import read_sheet

NAMES = ("wave", "kick a ball")


@pytest.mark.parametrize("dataset", PUBLIC)
def test_shipped_descriptions_are_complete_and_pass_the_lint(dataset):
    descriptions = load_descriptions(shipped_descriptions(dataset))
    check_descriptions(descriptions, public_dataset(dataset).CLASSES, dataset)
    assert lint(descriptions) == []


def test_the_error_of_a_dataset_without_descriptions_lists_the_others():
    expected = r"no descriptions of 'utd_mhad2'.*expected one of .*ntu60.*nw_ucla.*pku_mmd_2"
    with pytest.raises(ValueError, match=expected):
        shipped_descriptions("utd_mhad2")


def test_a_source_is_a_file_or_a_dataset():
    assert find_descriptions("a/mine.json").name == "mine.json"
    assert find_descriptions("pku_mmd_2") == shipped_descriptions("pku_mmd")


def test_the_error_of_a_class_without_description_names_it(texts):
    with pytest.raises(DataError, match="'jump'") as error:
        check_descriptions(texts, [*NAMES, "jump"], "mine.json")
    assert "mine.json" in str(error.value)
    assert "all 3 classes, got 2" in str(error.value)


@pytest.mark.parametrize("wrong", [None, "", "  ", 3, [], ["wave", ""]])
def test_the_error_of_a_missing_or_empty_text_names_it(wrong, texts):
    texts["wave"]["legs"] = wrong
    with pytest.raises(DataError, match="class 'wave': expected a text for 'legs'"):
        check_descriptions(texts, NAMES, "mine.json")


def test_the_error_of_a_broken_file_names_file_and_line(tmp_path):
    path = tmp_path / "mine.json"
    with pytest.raises(FileNotFoundError, match=r"mine\.json"):
        load_descriptions(path)
    path.write_text('{\n"classes": {,}}')
    with pytest.raises(DataError, match=r"mine\.json, line 2: not a readable JSON file"):
        load_descriptions(path)
    path.write_text("[]")
    with pytest.raises(DataError, match='key "classes"'):
        load_descriptions(path)


def test_the_lint_names_class_and_granularity(texts):
    assert lint(texts) == []
    texts["wave"] |= {"head": "Nods.", "legs": "", "hands": "swing " * 70}
    (missing,) = lint(texts)
    assert missing.startswith("class 'wave': expected a text for 'legs'")
    texts["wave"]["legs"] = "  Kick a ball WITH the legs"
    errors = lint(texts)
    assert len(errors) == 3
    assert errors[0] == "class 'wave', head: expected 4 words or more, got 'Nods.'"
    assert errors[1].startswith("class 'wave', hands: expected at most 69 tokens, got 142")
    assert errors[2].startswith("class 'wave', legs and class 'kick a ball', legs: the same text")


def test_the_lint_names_the_class_of_a_wrong_sketch(texts):
    name = next(iter(texts))
    texts[name] = {**texts[name], "sketch": {"hips": "fly"}}
    (error,) = lint(texts)
    assert error.startswith(f"sketch of class {name!r}: hips: expected waypoints")


def test_the_overlap_of_similar_classes_is_larger():
    words = {"put on a hat": "lift the hat up", "take off a hat": "lift the hat off"}
    words |= {"jump": "both feet leave the ground"}
    texts = {name: dict.fromkeys(GRANULARITIES, text) for name, text in words.items()}
    pairs, share = overlaps(texts)
    assert pairs[0][1:] == ("put on a hat", "take off a hat")
    assert len(pairs) == 3
    assert pairs[-1][0] == 0
    assert 0 < share < 1


def test_a_published_spreadsheet_is_read(texts, tmp_path):
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed")
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Mine"
    sheet.append(["Action Labels", *(g.capitalize() for g in GRANULARITIES[1:]), "Global Desc"])
    for name in (*NAMES, "more"):
        sheet.append([name.upper(), *(texts["wave"][g] for g in GRANULARITIES[1:]), f"{name} it"])
    file = tmp_path / "mine.xlsx"
    book.save(file)
    labels, descriptions = read_sheet(file, "Mine", NAMES)
    assert labels == ["WAVE", "KICK A BALL"]
    assert descriptions["wave"] == texts["wave"] | {"global": "WAVE: wave it"}
    with pytest.raises(ValueError, match="did you mean 'Mine'"):
        read_sheet(file, "Mime", NAMES)
    with pytest.raises(DataError, match="expected 4 classes, got 3"):
        read_sheet(file, "Mine", (*NAMES, "more", "yet more"))
    sheet["C2"] = None
    sheet["B1"] = "Heads"
    book.save(file)
    with pytest.raises(DataError, match=r"mine\.xlsx, Mine: expected a column 'Head'"):
        read_sheet(file, "Mine", NAMES)
    sheet["B1"] = "Head"
    book.save(file)
    with pytest.raises(DataError, match="class 'wave': expected a text for 'hands'"):
        read_sheet(file, "Mine", NAMES)
    lines = [[cell.value or "" for cell in line] for line in sheet.iter_rows()]
    lines[1][2] = "both, at once"
    text = "\n".join(",".join(f'"{cell}"' for cell in line) for line in lines)
    file.with_suffix(".csv").write_text(text)
    found = read_sheet(file.with_suffix(".csv"), "", NAMES)[1]
    assert found["wave"] == descriptions["wave"] | {"hands": "both, at once"}
    file.write_bytes(b"junk")
    with pytest.raises(DataError, match="not a readable zip archive"):
        read_sheet(file, "Mine", NAMES)

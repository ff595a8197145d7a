"""Malicious checkpoints."""

import numpy as np
import pytest

from data_pipelines.errors import DataError
from scripts import convert_encoder
from tests.helpers.attacks import Attack, claim, npy, npz, zeros_in_zip


def test_a_published_checkpoint_with_code_is_refused(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    mark = tmp_path / "hacked"
    torch.save({"l1.gcn1.bn.weight": Attack(mark)}, tmp_path / "evil.pt")
    with pytest.raises(SystemExit, match=r"evil\.pt: .*Weights only load failed"):
        convert_encoder.main([str(tmp_path / "evil.pt"), str(tmp_path / "x.npz")])
    assert not mark.exists()
    torch.save({"weight": torch.ones(99)}, tmp_path / "torn.pt")
    content = (tmp_path / "torn.pt").read_bytes()
    for torn in (content[:-100], b"", content[: len(content) // 2]):
        (tmp_path / "torn.pt").write_bytes(torn)
        with pytest.raises(DataError, match=r"torn\.pt: not a readable checkpoint"):
            convert_encoder.load_pt(tmp_path / "torn.pt")


def test_a_converted_checkpoint_with_objects_or_false_claims_is_refused(tmp_path, flat):
    mark, file = tmp_path / "hacked", tmp_path / "c.npz"
    with pytest.raises(DataError, match="expected numbers or text, got object"):
        convert_encoder.load_variables(npz(file, a=npy(np.array([Attack(mark)], object))))
    assert not mark.exists()
    with pytest.raises(DataError, match="it claims to be"):
        convert_encoder.load_variables(npz(file, a=claim((10**12,)) + bytes(1000)))
    zeros_in_zip(file, "a.npy", 32, claim((32, 2**20), "<u1"))
    with pytest.raises(DataError, match="may be a decompression bomb"):
        convert_encoder.load_variables(file)

"""A header's claims cost nothing: what is not in the file is neither allocated nor decompressed."""

import gzip
import struct
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from agnoreg.evaluate.batch import evaluate_pairs
from agnoreg.evaluate.cli import main
from agnoreg.evaluate.evaluation import InputError, evaluate_pair
from agnoreg.evaluate.nifti import MAX_VOXELS, open_volume, read_image

#: In bytes: a few of the pieces that are read at a time, and of what Python takes for itself.
LITTLE = 8 << 20


def header(shape, between=b"\0" * 4, layout=nib.Nifti1Header):
    made = layout()
    made.set_data_dtype(np.uint8)
    made.set_data_shape(shape)
    made.set_sform(np.eye(4), 1)
    made.set_xyzt_units("mm")
    made["magic"] = b"n+1" if layout is nib.Nifti1Header else b"n+2"
    made["vox_offset"] = made.sizeof_hdr + len(between)
    return made.binaryblock + between


@pytest.fixture
def refused(tmp_path):
    """Write a file, see it refused in one line and for little memory, and return the line."""

    def refused(name, content, most=LITTLE):
        path = tmp_path / name
        path.write_bytes(content)
        tracemalloc.start()
        try:
            with pytest.raises(InputError) as caught:
                read_image(open_volume(path, "fixed image"))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < most
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
        return str(caught.value)

    return refused


@pytest.mark.parametrize("layout", [nib.Nifti1Header, nib.Nifti2Header])
def test_a_claim_beyond_the_file_s_size_is_refused_unread(refused, layout):
    message = refused("a.nii", header((1000, 1000, 1000), layout=layout) + b"\0" * 1000)
    assert "its header claims 1000000" in message
    assert "bytes, and the file has" in message


def test_a_claim_that_no_compressed_bytes_can_hold_is_refused_unread(refused):
    message = refused("a.nii.gz", gzip.compress(header((1000, 1000, 1000)) + b"\0" * 1000))
    assert "compressed bytes cannot hold as many" in message


def test_a_claim_that_compressed_bytes_could_hold_is_allocated_as_far_as_it_is_met(refused, rng):
    """Two hundred times what there is: a volume of zeros might compress as well."""
    content = header((500, 500, 400)) + rng.integers(0, 256, 500_000, dtype=np.uint8).tobytes()
    assert "it ends 99500000 bytes early" in refused("a.nii.gz", gzip.compress(content))


def test_a_stream_that_goes_on_behind_its_voxels_is_not_unpacked(refused):
    message = refused("a.nii.gz", gzip.compress(header((4, 5, 6)) + bytes(64 << 20), 1))
    assert "bytes follow the last voxel" in message


@pytest.mark.parametrize("size", [16, 2**31 - 16])
def test_an_extension_is_skipped_unread(tmp_path, size):
    extension = b"\1\0\0\0" + struct.pack("<ii", size, 6) + bytes((32 << 20) + 4)
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(header((4, 5, 6), extension) + bytes(range(120)), 1))
    tracemalloc.start()
    image = read_image(open_volume(path, "x"), scale=False)[0]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < LITTLE
    assert np.array_equal(image.ravel(order="F"), np.arange(120))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_an_image_that_nibabel_opened_costs_no_more(tmp_path, ending):
    content = header((1000, 1000, 1000)) + b"\0" * 1000
    path = tmp_path / f"a{ending}"
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    image = nib.load(path)
    tracemalloc.start()
    with pytest.raises(InputError, match="its header claims 1000000352 bytes"):
        open_volume(image, "fixed image")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < LITTLE


# --- --max-voxels -----------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "image.nii.gz"
    path.write_bytes(gzip.compress(header((4, 5, 6)) + bytes(range(120))))
    return path


def test_more_voxels_than_allowed_are_refused_by_the_header(path, tmp_path):
    assert evaluate_pair(path, path, losses=["ssd"], max_voxels=120).records[0].value == 0
    message = r"fixed image .*image\.nii\.gz has 120 voxels by its header, 4 x 5 x 6, where 119 are allowed"
    with pytest.raises(InputError, match=message):
        evaluate_pair(path, path, losses=["ssd"], max_voxels=119)
    with pytest.raises(InputError, match=message):
        evaluate_pair(nib.load(path), path, losses=["ssd"], max_voxels=119)
    large = tmp_path / "large.nii"
    large.write_bytes(header((2048, 1024, 1025)))
    with pytest.raises(InputError, match=f"2149580800 voxels by its header, .* where {MAX_VOXELS} are allowed"):
        evaluate_pair(path, large)


def test_the_components_of_a_field_are_no_voxels_of_their_own(path, tmp_path):
    field = nib.Nifti1Image(np.zeros((4, 5, 6, 3), np.float32), np.eye(4))
    nib.save(field, tmp_path / "ddf.nii.gz")
    evaluate_pair(path, path, ddf=tmp_path / "ddf.nii.gz", losses=["gradient"], max_voxels=120)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, None, "many"])
def test_the_most_voxels_are_a_number_of_1_or_more(path, wrong):
    with pytest.raises(InputError, match="must be an integer of 1 or more"):
        evaluate_pair(path, path, max_voxels=wrong)


def test_max_voxels_on_the_command_line(path, capsys):
    for arguments, code, said in (
        (["--max-voxels", "120"], 0, ""),
        (["--max-voxels", "119"], 2, "119 are allowed: see --max-voxels"),
        (["--max-voxels", "0"], 2, "--max-voxels"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["evaluate", str(path), str(path), "--loss", "ssd", *arguments])
        assert (caught.value.code or 0) == code
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == bool(code)


def test_max_voxels_of_many_pairs(path, tmp_path):
    (tmp_path / "pairs.csv").write_text(f"fixed,moved\n{path},{path}\n")
    summary = evaluate_pairs(tmp_path / "pairs.csv", tmp_path / "out.csv", losses=["ssd"], max_voxels=119, workers=1)
    assert "119 are allowed: see --max-voxels" in summary.failures["1"]

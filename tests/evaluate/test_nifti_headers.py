"""Odd NIfTI headers: the numbers that SimpleITK reads, or a refusal in one line; else a table says why."""

import gzip
import math
import os
import struct
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from agnoreg.evaluate.nifti import InputError, grid_difference, open_volume, read_image

NAN, INF = math.nan, math.inf
SHAPE = (4, 5, 6)
COUNT = np.arange(math.prod(SHAPE))
SIZES = (1.5, 2.0, 3.0)
SFORM = np.array([[1.5, 0, 0, -10], [0, 2, 0, 20], [0, 0, 3, 5], [0, 0, 0, 1]])
QFORM = {"sform_code": 0, "qform_code": 1, "qoffset_x": -10, "qoffset_y": 20, "qoffset_z": 5}


def pixdim(*sizes, qfac=1):
    return {"pixdim": [qfac, *sizes, 1, 1, 1, 1]}


def turned(b, c, d):
    return {**QFORM, "quatern_b": b, "quatern_c": c, "quatern_d": d}


def stored(code, dtype, **fields):
    return {"datatype": code, "bitpix": 8 * np.dtype(dtype).itemsize, "data": COUNT.astype(dtype), **fields}


def dim(*sizes):
    return {"dim": [*sizes, *[1] * (8 - len(sizes))]}


def content(data=None, layout=nib.Nifti1Header, order="<", between=b"\0" * 4, tail=b"", **fields):
    """Return the bytes of a file: a header of a good 4 x 5 x 6 volume with some fields changed, then the voxels."""
    header = layout(endianness=order)
    header.set_data_dtype(np.float32)
    header.set_data_shape(SHAPE)
    good = {
        **pixdim(*SIZES),
        "sform_code": 1,
        **{f"srow_{axis}": SFORM[row] for row, axis in enumerate("xyz")},
        "magic": b"n+1" if layout is nib.Nifti1Header else b"n+2",
        "vox_offset": header.sizeof_hdr + 4,
        "xyzt_units": 2,
    }
    for name, value in {**good, **fields}.items():
        header[name] = value
    voxels = COUNT.astype(f"{order}f4") if data is None else data
    return header.binaryblock + between + voxels.tobytes() + tail


def extension(size):
    return {"between": b"\1\0\0\0" + struct.pack("<ii", size, 6) + b"comment\0", "vox_offset": 368}


#: Read as SimpleITK reads it: the values, the voxel size, the origin and the direction.
SAME = {
    "as it should be": {},
    "offset of half a byte": {"vox_offset": 352.5},
    "offset that is odd": {"vox_offset": 355, "between": b"\0" * 7},
    "offset beyond an extension": {"vox_offset": 368, "between": b"\0" * 20},
    "extension": extension(16),
    "extension of no size": extension(0),
    "extension of 2 GB": extension(2**31 - 1),
    "extension of a negative size": extension(-16),
    "extension announced and absent": {"between": b"\1\0\0\0"},
    "magic ni1 in a .nii": {"magic": b"ni1"},
    "wrong size of the header": {"sizeof_hdr": 0},
    "big-endian": {"order": ">"},
    "big-endian integers": stored(4, ">i2", order=">"),
    "four axes, one of size 1": dim(4, 4, 5, 6, 1),
    "five axes, two of size 1": dim(5, 4, 5, 6, 1, 1),
    "seven axes": dim(7, 4, 5, 6, 1, 1, 1, 1),
    "a fourth axis of size 0": dim(4, 4, 5, 6, 0),
    "a fourth axis of size -1": dim(4, 4, 5, 6, -1),
    "sizes of axes that are not there": dim(3, 4, 5, 6, 7, -8, 9, 0),
    "two axes": dim(2, 12, 10),
    "two axes of three sizes": dim(2, 4, 5, 6),
    "a slice across the third axis": dim(3, 4, 30, 1),
    "a slice across the second axis": dim(3, 20, 1, 6),
    "a slice across the first axis": dim(3, 1, 20, 6),
    "uint8": stored(2, "u1"),
    "int8": stored(256, "i1"),
    "int16": stored(4, "<i2"),
    "uint16": stored(512, "<u2"),
    "int32": stored(8, "<i4"),
    "uint32": stored(768, "<u4"),
    "int64": stored(1024, "<i8"),
    "uint64": stored(1280, "<u8"),
    "float64": stored(64, "<f8"),
    "bitpix of another type": stored(4, "<i2") | {"bitpix": 24},
    "bitpix 0": {"bitpix": 0},
    "metres": {"xyzt_units": 1},
    "microns": {"xyzt_units": 3},
    "no unit": {"xyzt_units": 0},
    "an unknown unit of length": {"xyzt_units": 5},
    "mm and seconds": {"xyzt_units": 2 | 8},
    "microns and milliseconds": {"xyzt_units": 3 | 16},
    "metres and microseconds": {"xyzt_units": 1 | 24},
    "seconds alone": {"xyzt_units": 8},
    "bits beyond units": {"xyzt_units": 0xC0 | 3},
    "qform": QFORM,
    "qform in microns": QFORM | {"xyzt_units": 3},
    "qfac -1": QFORM | pixdim(*SIZES, qfac=-1),
    "qfac 0": QFORM | pixdim(*SIZES, qfac=0),
    "qfac -0.5": QFORM | pixdim(*SIZES, qfac=-0.5),
    "qfac NaN": QFORM | pixdim(*SIZES, qfac=NAN),
    "qform, pixdim 0": QFORM | pixdim(0, 2, 3),
    "a turn by a third": turned(0.5, 0.5, 0.5),
    "a half turn": turned(1, 0, 0),
    "a turn": turned(0.1, 0.2, 0.3),
    "a quaternion longer than 1 by rounding": turned(0.7072, 0.7072, 0),
    "a quaternion longer than 1": turned(0.6, 0.6, 0.6),
    "a quaternion of length 2": turned(2, 0, 0),
    "sform along other axes": {"srow_x": [0, 0, 3, -10], "srow_z": [1.5, 0, 0, 5]},
    "sform and another qform, of scanner and aligned": QFORM
    | {"sform_code": 1, "qform_code": 2, "qoffset_x": 1, "quatern_b": 0.1},
    "an sform code that is none": {"sform_code": 99},
    "scl_slope 0": {"scl_slope": 0, "scl_inter": 0},
    "scl_slope 2": {"scl_slope": 2, "scl_inter": 1},
    "scl_slope -1, of integers": stored(4, "<i2", scl_slope=-1, scl_inter=0),
    "scl_inter alone": {"scl_slope": 1, "scl_inter": 7},
    "scl_slope NaN": {"scl_slope": NAN, "scl_inter": 0},
    "scl_slope and scl_inter NaN": {"scl_slope": NAN, "scl_inter": NAN},
    "scl_slope infinite": {"scl_slope": INF, "scl_inter": 0},
    "values beyond float32": {"scl_slope": 1e38, "scl_inter": 0},
    "intent label": {"intent_code": 1002},
    "intent unknown": {"intent_code": -5},
    "fields that nothing reads": {"dim_info": 255, "slice_code": 99, "toffset": NAN, "cal_max": NAN},
    "more bytes than voxels": {"tail": b"x" * 100},
}

#: Refused: what is said.
REFUSED = {
    "vox_offset 0": ({"vox_offset": 0}, "has vox_offset 0, which lies inside its header"),
    "vox_offset 100": ({"vox_offset": 100}, "has vox_offset 100, which lies inside its header"),
    "vox_offset 348": ({"vox_offset": 348}, "has vox_offset 348, which lies inside its header"),
    "vox_offset negative": ({"vox_offset": -352}, "has vox_offset -352, which lies inside its header"),
    "vox_offset NaN": ({"vox_offset": NAN}, "has vox_offset nan, which lies inside its header"),
    "vox_offset infinite": ({"vox_offset": INF}, "has vox_offset inf, which lies inside its header"),
    "vox_offset huge": ({"vox_offset": 1e9}, "its header claims 1000000480 bytes, and the file has 832"),
    "vox_offset 16 bytes on": ({"vox_offset": 368}, "its header claims 848 bytes, and the file has 832"),
    "vox_offset 0 in the second version": (
        {"layout": nib.Nifti2Header, "vox_offset": 0},
        "has vox_offset 0, which lies inside its header",
    ),
    "magic ni1 and vox_offset 0": ({"magic": b"ni1", "vox_offset": 0}, "lies inside its header"),
    "no magic": ({"magic": b""}, "does not begin with a NIfTI header"),
    "magic of another version": ({"magic": b"n+3"}, "does not begin with a NIfTI header"),
    "dim[0] 0": (dim(0, 4, 5, 6), "is not from 1 to 7"),
    "dim[0] 8": (dim(8, 4, 5, 6), "is not from 1 to 7"),
    "dim[0] -3": (dim(-3, 4, 5, 6), "is not from 1 to 7"),
    "dim[1] negative": (dim(3, -4, 5, 6), r"no voxels: the sizes in its header are \(-4, 5, 6\)"),
    "dim[1] 0": (dim(3, 0, 5, 6), r"no voxels: the sizes in its header are \(0, 5, 6\)"),
    "dim[2] negative": (dim(3, 4, -5, 6), r"no voxels: the sizes in its header are \(4, -5, 6\)"),
    "dim[3] 0": (dim(3, 4, 5, 0), r"no voxels: the sizes in its header are \(4, 5, 0\)"),
    "dim of the largest": (dim(3, 32767, 32767, 32767), "35181150961663 voxels by its header"),
    "dim of one more plane": (dim(3, 4, 5, 7), "its header claims 912 bytes, and the file has 832"),
    "dim beyond 64 bit": (
        {"layout": nib.Nifti2Header, **dim(3, 2**62, 2**62, 6)},
        "voxels by its header",
    ),
    "two volumes": (dim(4, 4, 5, 3, 2), r"has shape \(4, 5, 3, 2\), 4-D, where a 3-D volume"),
    "vectors": (dim(5, 4, 5, 2, 1, 3) | {"intent_code": 1007}, r"5-D, where a 3-D volume"),
    "displacements": (dim(5, 4, 5, 2, 1, 3) | {"intent_code": 1006}, r"5-D, where a 3-D volume"),
    "complex64": (stored(32, "<c8"), "voxels of type complex64, where real numbers belong"),
    "complex128": (stored(1792, "<c16"), "voxels of type complex128, where real numbers belong"),
    "float128": (stored(1536, "V16"), "voxels of type 128-bit floating-point numbers"),
    "colours": ({"datatype": 128, "bitpix": 24}, "voxels of type RGB colours, where real numbers belong"),
    "colours and opacity": ({"datatype": 2304}, "voxels of type RGBA colours, where real numbers belong"),
    "bits": ({"datatype": 1, "bitpix": 1}, "voxels of type single bits"),
    "no type": ({"datatype": 0}, "voxels of the unknown type 0"),
    "an unknown type": ({"datatype": -1}, "voxels of the unknown type -1"),
    "pixdim NaN": (QFORM | pixdim(NAN, 2, 3), "affine that cannot be inverted"),
    "pixdim infinite": (QFORM | pixdim(INF, 2, 3), "affine that cannot be inverted"),
    "quaternion NaN": (turned(NAN, 0, 0), "affine that cannot be inverted"),
    "quaternion infinite": (turned(INF, 0, 0), "affine that cannot be inverted"),
    "sform 0": ({"srow_x": [0] * 4, "srow_y": [0] * 4, "srow_z": [0] * 4}, "affine that cannot be inverted"),
    "sform NaN": ({"srow_x": [NAN, 0, 0, 0]}, "affine that cannot be inverted"),
    "scl_slope NaN beside scl_inter": ({"scl_slope": NAN, "scl_inter": 3}, "what its values are is not known"),
    "scl_inter NaN": ({"scl_slope": 2, "scl_inter": NAN}, "what its values are is not known"),
    "scl_inter infinite": ({"scl_slope": 2, "scl_inter": INF}, "what its values are is not known"),
    "line ends of a text file": (
        {"layout": nib.Nifti2Header, "eol_check": [10, 26, 10, 0]},
        "its line ends were changed",
    ),
}

#: Read otherwise than SimpleITK does (None: it reads nothing): why, the values, the voxel size, the affine.
X, Y, Z = (np.eye(4)[:, [axis]] for axis in range(3))
OTHERWISE = {
    "NIfTI-2": (
        {"layout": nib.Nifti2Header},
        "This ITK reads NIfTI-1 alone; nibabel reads both.",
        COUNT,
        SIZES,
        SFORM,
    ),
    "NIfTI-2, big-endian, in microns": (
        {"layout": nib.Nifti2Header, "order": ">", "xyzt_units": 3},
        "This ITK reads NIfTI-1 alone; nibabel reads both.",
        COUNT,
        np.array(SIZES) * 1e-3,
        np.diag([1e-3, 1e-3, 1e-3, 1]) @ SFORM,
    ),
    "one axis": (
        dim(1, 120),
        "SimpleITK has no image of one axis.",
        COUNT,
        SIZES,
        SFORM,
    ),
    "NaN among the voxels": (
        {"data": np.where(COUNT == 7, NAN, COUNT).astype("<f4")},
        "ITK reads 0; here what is not a number stays so, and a warning counts it.",
        np.where(COUNT == 7, NAN, COUNT),
        SIZES,
        SFORM,
    ),
    "scl_inter beside a scl_slope of 0": (
        {"scl_slope": 0, "scl_inter": 5},
        "ITK adds 5; the format says that nothing is scaled where the slope is 0, and nibabel agrees.",
        COUNT,
        SIZES,
        SFORM,
    ),
    "a slope below any epsilon": (
        {"scl_slope": 2.0**-130, "scl_inter": 0},
        "ITK takes it for 0; it is a number.",
        COUNT * 2.0**-130,
        SIZES,
        SFORM,
    ),
    "no form": (
        {"sform_code": 0},
        "The format says nothing of the axes then. nibabel's choice is taken: the first axis to the left, the centre "
        "of the image at 0. The voxel size is the same.",
        COUNT,
        SIZES,
        [[-1.5, 0, 0, 2.25], [0, 2, 0, -4], [0, 0, 3, -7.5], [0, 0, 0, 1]],
    ),
    "sform of a template beside a qform of the scanner": (
        QFORM | {"sform_code": 4, "qform_code": 1, "qoffset_x": 1, "quatern_b": 0.1},
        "ITK prefers the scanner's, nibabel the sform, which counts here. A note says that they differ.",
        COUNT,
        SIZES,
        SFORM,
    ),
    "sform of another voxel size": (
        pixdim(1, 1, 1),
        "ITK's spacing is pixdim, which then fits no axis of the sform. A note says that they differ.",
        COUNT,
        SIZES,
        SFORM,
    ),
    "sform with shear": (
        {"srow_x": [1.5, 0.5, 0, -10]},
        "ITK's grids have right angles; the affine is as good a grid with others.",
        COUNT,
        (1.5, math.sqrt(4.25), 3),
        SFORM + 0.5 * X @ Y.T,
    ),
    "pixdim negative": (
        QFORM | pixdim(-1.5, 2, 3),
        "ITK turns the axis round; the format has its size positive, and nibabel takes it for that.",
        COUNT,
        SIZES,
        SFORM,
    ),
    "pixdim 0 beside an sform": (
        pixdim(0, 2, 3),
        "ITK takes 1 mm for the pixdim; the sform knows better.",
        COUNT,
        SIZES,
        SFORM,
    ),
}


def itk(path):
    """Return what SimpleITK reads; None where it refuses."""
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError:
        return None
    dims = image.GetDimension()
    return SimpleNamespace(
        values=SimpleITK.GetArrayFromImage(image).T,
        spacing=np.array(image.GetSpacing()),
        origin=np.array(image.GetOrigin()),
        direction=np.array(image.GetDirection()).reshape(dims, dims),
    )


def ours(path):
    volume = open_volume(path, "image")
    to_lps = np.diag([-1.0, -1, 1, 1]) @ volume.affine
    return SimpleNamespace(
        values=read_image(volume, scale=False)[0],
        spacing=np.array(volume.voxel_size),
        origin=to_lps[:3, 3],
        direction=to_lps[:3, :3] / np.array(volume.voxel_size),
        affine=volume.affine,
    )


def agree(a, b):
    """Return whether values, spacing, origin and direction are those of ITK; a plane has two of each."""
    dims = b.spacing.size
    with np.errstate(over="ignore"):
        values = b.values.astype(np.float32).reshape(a.values.shape)
    return (
        np.array_equal(a.values, values, equal_nan=True)
        and np.allclose(a.spacing[:dims], b.spacing, rtol=1e-6)
        and np.allclose(a.origin[:dims], b.origin, rtol=1e-6, atol=1e-9)
        and np.allclose(a.direction[:dims, :dims], b.direction, atol=1e-6)
    )


@pytest.mark.parametrize("name", SAME)
def test_an_odd_header_is_read_as_simpleitk_reads_it(tmp_path, name):
    path = tmp_path / "image.nii"
    path.write_bytes(content(**SAME[name]))
    expected = itk(path)
    assert agree(ours(path), expected), (ours(path), expected)
    packed = tmp_path / "packed.nii.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert agree(ours(packed), expected)


@pytest.mark.parametrize("name", REFUSED)
def test_a_header_that_cannot_be_is_refused_in_one_line(tmp_path, name):
    fields, message = REFUSED[name]
    path = tmp_path / "image.nii"
    path.write_bytes(content(**fields))
    with pytest.raises(InputError, match=rf"fixed image {path} .*{message}") as caught:
        open_volume(path, "fixed image")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", OTHERWISE)
def test_what_is_read_otherwise_than_simpleitk_reads_it(tmp_path, name):
    fields, why, values, spacing, affine = OTHERWISE[name]
    path = tmp_path / "image.nii"
    path.write_bytes(content(**fields))
    found, theirs = ours(path), itk(path)
    assert theirs is None or not agree(found, theirs), why
    assert np.array_equal(found.values.ravel(order="F"), np.asarray(values, np.float32), equal_nan=True)
    assert np.allclose(found.spacing, spacing, rtol=1e-6)
    assert np.allclose(found.affine, affine, rtol=1e-6)


@pytest.mark.parametrize(
    "fields", [{}, QFORM, turned(0.1, 0.2, 0.3), {"sform_code": 0}, {"sform_code": 0} | dim(3, 4, 30, 1)]
)
@pytest.mark.parametrize("layout", [nib.Nifti1Header, nib.Nifti2Header])
def test_the_affine_is_the_one_of_nibabel(tmp_path, fields, layout):
    path = tmp_path / "image.nii"
    path.write_bytes(content(layout=layout, **fields))
    assert np.allclose(open_volume(path, "image").affine, nib.load(path).affine, atol=1e-6)


# --- compressed streams -----------------------------------------------------------------------------------------------

GOOD = content()
PACKED = gzip.compress(GOOD)


@pytest.mark.parametrize(
    "stream",
    [
        PACKED + b"\0" * 100,
        gzip.compress(GOOD[:400]) + gzip.compress(GOOD[400:]),
        PACKED + gzip.compress(b"x" * 100),
        gzip.compress(GOOD + b"x" * 100),
    ],
    ids=["padding", "two members", "a further member", "more bytes than voxels"],
)
def test_a_stream_of_several_parts_is_read_as_simpleitk_reads_it(tmp_path, stream):
    path = tmp_path / "image.nii.gz"
    path.write_bytes(stream)
    assert agree(ours(path), itk(path))


@pytest.mark.parametrize(
    "stream",
    [
        PACKED + b"what is no gzip",
        PACKED[:-8],
        PACKED[:-1] + b"\7",
        PACKED[:-60],
        PACKED[:-8] + bytes([PACKED[-8] ^ 1]) + PACKED[-7:],
        GOOD,
        PACKED[:9],
        b"",
    ],
    ids=[
        "garbage behind",
        "no checksum",
        "a wrong length",
        "cut",
        "a wrong checksum",
        "not compressed",
        "cut",
        "empty",
    ],
)
def test_a_stream_that_is_not_whole_is_refused_in_one_line(tmp_path, stream):
    """SimpleITK reads most of them, the missing voxels as 0: what a checksum does not vouch for is no measurement."""
    path = tmp_path / "image.nii.gz"
    path.write_bytes(stream)
    with pytest.raises(InputError, match=rf"^fixed image {path} cannot be read[^\n]*$"):
        read_image(open_volume(path, "fixed image"))


@pytest.mark.parametrize("length", [0, 1, 347, 348, 351, 352, 831])
def test_a_file_that_ends_early_is_refused_in_one_line(tmp_path, length):
    path = tmp_path / "image.nii"
    path.write_bytes(GOOD[:length])
    with pytest.raises(InputError, match=rf"^fixed image {path} cannot be read[^\n]*$"):
        open_volume(path, "fixed image")


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.nii")
    with pytest.raises(InputError, match="is no regular file"):
        open_volume(tmp_path / "pipe.nii", "fixed image")


def test_the_header_of_an_image_that_nibabel_opened_is_not_taken_for_voxels(tmp_path):
    path = tmp_path / "image.nii"
    path.write_bytes(content(vox_offset=0))
    with pytest.raises(InputError, match="has vox_offset 0, which lies inside its header"):
        open_volume(nib.load(path), "fixed image")


# --- anything at all --------------------------------------------------------------------------------------------------

FIELDS = {
    layout: [(name, *layout.template_dtype.fields[name][:2]) for name in layout.template_dtype.names]
    for layout in (nib.Nifti1Header, nib.Nifti2Header)
}
ODD = st.one_of(
    st.sampled_from([b"\0" * 8, b"\xff" * 8, b"\0\0\x80\x7f" * 2, b"\0\0\xc0\x7f" * 2]), st.binary(max_size=8)
)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_whatever_stands_in_two_fields_is_read_or_refused(tmp_path_factory, data):
    """Nothing else is raised, and nothing is warned of: neither a traceback, nor an overflow."""
    layout = data.draw(st.sampled_from([nib.Nifti1Header, nib.Nifti2Header]))
    order = data.draw(st.sampled_from("<>"))
    raw = bytearray(content(layout=layout, order=order, **data.draw(st.sampled_from([{}, QFORM]))))
    for _ in range(2):
        _, dtype, offset = data.draw(st.sampled_from(FIELDS[layout]))
        at = data.draw(st.integers(0, dtype.itemsize - 1))
        odd = data.draw(ODD)[: dtype.itemsize - at]
        raw[offset + at : offset + at + len(odd)] = odd
    path = tmp_path_factory.getbasetemp() / "any.nii"
    path.write_bytes(raw)
    try:
        volume = open_volume(path, "fixed image", max_voxels=10**6)
    except InputError:
        return
    assert read_image(volume)[0].shape == volume.along(volume.shape)
    assert grid_difference(volume, volume).voxels == 0

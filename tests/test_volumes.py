"""NIfTI in and out: what is read, what is refused, and that geometry survives."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from jaxsal.errors import InputError, JaxsalError, OutputError
from jaxsal.grid import Grid
from jaxsal.inputs.images import read_image
from jaxsal.volumes import (
    read_grid,
    read_labels,
    read_mask,
    read_volume,
    write_volume,
    z_score,
)

SHAPE = (5, 6, 7)
CHANNELS = ("flair", "t1")


def _rotation() -> np.ndarray:
    """Turn by 30 degrees about x, then 20 degrees about z."""
    a, b = np.deg2rad(30), np.deg2rad(20)
    about_x = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    about_z = [[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]]
    return np.array(about_z) @ np.array(about_x)


def _affine(linear: np.ndarray) -> np.ndarray:
    return np.block([[linear, np.array([[-90.5], [126.25], [-72.125]])], [np.zeros((1, 3)), 1]])


AFFINES = {
    "identity": np.eye(4),
    "flipped": _affine(np.diag([-1.0, 1.0, 1.0])),
    "oblique": _affine(_rotation() @ np.diag([0.9, 1.1, 3.0])),
    "oblique and flipped": _affine(_rotation() @ np.diag([-0.5, 1.0, -2.0])),
    "axes permuted": _affine(np.array([[0.0, 0.0, 1.2], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])),
}
every_affine = pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES.keys())


def _values(dtype: str = "float32", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return (np.random.default_rng(0).random(shape) * 200 + 1).astype(dtype)


def _save(
    path: Path,
    data: np.ndarray,
    affine: np.ndarray | None = None,
    codes: tuple[int, int] = (2, 0),
    units: str = "mm",
    image_class: type = nib.Nifti1Image,
) -> Path:
    affine = np.eye(4) if affine is None else affine
    image = image_class(data, affine)
    image.header.set_sform(affine, codes[0])
    image.header.set_qform(affine, codes[1])
    image.header.set_xyzt_units(units, "sec")
    # With the affine as the header rounds it; otherwise nibabel would replace the codes.
    image = image_class(data, image.header.get_best_affine(), image.header)
    path.write_bytes(gzip.compress(image.to_bytes()) if path.suffix == ".gz" else image.to_bytes())
    return path


def _refused(*parts: object, kind: type[JaxsalError] = InputError) -> pytest.RaisesExc[JaxsalError]:
    """An error whose message has all the parts, in this order."""
    return pytest.raises(kind, match="(?s)" + ".*".join(re.escape(str(p)) for p in parts))


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "SCAN.NII.GZ"])
@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64", ">i2"])
def test_reads_every_kind_of_nifti(tmp_path, name, image_class, dtype):
    data = _values(dtype)
    path = _save(tmp_path / name, data, AFFINES["flipped"], image_class=image_class)
    volume = read_volume(path)
    assert volume.path == path
    assert volume.data.dtype == np.float32
    assert volume.grid.shape == SHAPE
    np.testing.assert_array_equal(volume.data, data.astype(np.float32))
    np.testing.assert_array_equal(volume.grid.affine, AFFINES["flipped"])


def test_honours_scaled_integers(tmp_path):
    image = nib.Nifti1Image(np.arange(210, dtype=np.int16).reshape(SHAPE), np.eye(4))
    content = bytearray(image.to_bytes())
    content[112:120] = struct.pack("<ff", 0.5, -3.0)  # scl_slope and scl_inter
    (tmp_path / "scaled.nii").write_bytes(content)
    expected = np.arange(210).reshape(SHAPE) * 0.5 - 3
    np.testing.assert_array_equal(read_volume(tmp_path / "scaled.nii").data, expected)


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("offset", [0, 16, 348])
@pytest.mark.parametrize(
    ("image_class", "place", "form"), [(nib.Nifti1Image, 108, "<f"), (nib.Nifti2Image, 168, "<q")]
)
def test_refuses_voxels_that_begin_inside_the_header(
    tmp_path, name, offset, image_class, place, form
):
    content = bytearray(image_class(_values(), np.eye(4)).to_bytes())
    struct.pack_into(form, content, place, offset)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    for read in (read_volume, read_grid):
        with _refused(path, "header", offset):
            read(path)


@pytest.mark.parametrize("trailing", [(1,), (1, 1)])
def test_drops_trailing_axes_of_length_one(tmp_path, trailing):
    data = _values()
    volume = read_volume(_save(tmp_path / "scan.nii", data.reshape(SHAPE + trailing)))
    np.testing.assert_array_equal(volume.data, data)
    write_volume(tmp_path / "out.nii.gz", volume.data, volume.grid)
    assert nib.load(tmp_path / "out.nii.gz").shape == SHAPE


def _damaged(folder: Path) -> dict[str, tuple[Path, str]]:
    """Files that cannot be used, with what the message must say besides their path."""
    whole = _save(folder / "whole.nii", _values()).read_bytes()
    packed = gzip.compress(whole)
    flipped = bytearray(packed)
    flipped[-6] ^= 1  # within the checksum
    second = nib.Nifti2Image(_values(), np.eye(4)).to_bytes()
    (folder / "folder.nii").mkdir()
    contents = {
        "empty.nii.gz": (b"", "is empty (0 bytes)"),
        "empty archive.nii.gz": (gzip.compress(b""), "not a NIfTI"),
        "text.nii": (b"This is not a scan.\n" * 50, "not a NIfTI"),
        "half header.nii": (whole[:200], "not a NIfTI"),
        "half header 2.nii": (second[:300], "damaged NIfTI header"),
        "half.nii": (whole[:700], "truncated: its header promises 1192 bytes, but it has 700"),
        "half.nii.gz": (packed[: len(packed) // 2], "truncated"),
        "checksum.nii.gz": (bytes(flipped), "CRC"),
        "half, packed whole.nii.gz": (gzip.compress(whole[:700]), "promises 1192 bytes"),
        "datatype.nii": (whole[:70] + b"\x63\x00" + whole[72:], "data code 99"),
        "huge.nii": (whole[:42] + b"\xff\x7f" * 3 + whole[48:], "promises 140"),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    mgh = folder / "other format.nii"
    nib.MGHImage(_values(), np.eye(4)).to_filename(folder / "scan.mgh")
    (folder / "scan.mgh").rename(mgh)
    cases = {name: (folder / name, said) for name, (_, said) in contents.items()}
    cases["missing.nii"] = folder / "missing.nii", "does not exist"
    cases["folder.nii"] = folder / "folder.nii", "is a folder"
    cases["other format.nii"] = mgh, "not a NIfTI"
    return cases


@pytest.mark.parametrize(
    "name",
    [
        *("missing.nii", "folder.nii", "empty.nii.gz", "empty archive.nii.gz", "text.nii"),
        *("half header.nii", "half header 2.nii", "half.nii", "half.nii.gz", "checksum.nii.gz"),
        *("half, packed whole.nii.gz", "datatype.nii", "huge.nii", "other format.nii"),
    ],
)
def test_refuses_files_that_are_no_whole_nifti(tmp_path, name):
    path, said = _damaged(tmp_path)[name]
    with _refused(path, said):
        read_volume(path)


@pytest.mark.parametrize(
    "name",
    [
        *("missing.nii", "folder.nii", "empty.nii.gz", "empty archive.nii.gz", "text.nii"),
        *("half header.nii", "half header 2.nii", "datatype.nii", "other format.nii"),
    ],
)
def test_a_bad_header_is_refused_without_the_voxels(tmp_path, name):
    path, said = _damaged(tmp_path)[name]
    with _refused(path, said):
        read_grid(path)


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("codes", [(2, 0), (0, 1), (0, 0)])
def test_a_header_alone_tells_the_grid(tmp_path, name, image_class, codes):
    oblique = AFFINES["oblique"]
    path = _save(tmp_path / name, _values(), oblique, codes, "micron", image_class)
    whole = read_volume(path).grid
    path.write_bytes(path.read_bytes()[:640])
    grid = read_grid(path)
    assert grid.shape == SHAPE
    np.testing.assert_array_equal(grid.affine, whole.affine)
    assert grid.spacing == whole.spacing  # in mm, so of the header's units too


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 7, 2), (5, 6, 7, 1, 3)])
def test_refuses_other_than_one_3d_volume(tmp_path, shape):
    path = _save(tmp_path / "scan.nii.gz", _values(shape=shape))
    with _refused(path, "one 3D volume", shape):
        read_volume(path)


RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


@pytest.mark.parametrize(
    ("dtype", "said"), [("complex64", "complex64"), (RGB, "RGB")], ids=["complex", "colour"]
)
def test_refuses_types_that_are_no_real_numbers(tmp_path, dtype, said):
    path = _save(tmp_path / "scan.nii", np.zeros(SHAPE, dtype))
    with _refused(path, "real numbers", said):
        read_volume(path)


@pytest.mark.parametrize(
    ("value", "said"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf"), (1e300, "inf")]
)
def test_refuses_voxels_that_are_not_finite_in_float32(tmp_path, value, said):
    data = _values("float64")
    data[1, 2, 3] = data[4, 0, 0] = value
    path = _save(tmp_path / "scan.nii", data)
    with _refused(path, "in 2 voxels, the first at", "(1, 2, 3)", f"value {said}"):
        read_volume(path)


def test_refuses_an_affine_without_inverse(tmp_path):
    content = bytearray(_save(tmp_path / "flat.nii", _values()).read_bytes())
    content[312:328] = bytes(16)  # srow_z
    (tmp_path / "flat.nii").write_bytes(content)
    with _refused(tmp_path / "flat.nii", "affine", "inverted"):
        read_volume(tmp_path / "flat.nii")


@pytest.mark.parametrize(
    ("units", "millimetres"), [("mm", 1.0), ("meter", 1e3), ("micron", 1e-3), ("unknown", 1.0)]
)
@every_affine
def test_sizes_and_places_are_in_mm(tmp_path, affine, units, millimetres):
    path = _save(
        tmp_path / "scan.nii", _values(), np.diag([1 / millimetres] * 3 + [1]) @ affine, units=units
    )
    grid = read_volume(path).grid
    spacing = nib.affines.voxel_sizes(affine)
    np.testing.assert_allclose(grid.spacing, spacing, rtol=1e-6)
    np.testing.assert_allclose(grid.voxel_volume, np.prod(spacing), rtol=1e-6)
    voxels = [[0, 0, 0], [1, 2, 3], [0.5, 4, 6]]
    expected = nib.affines.apply_affine(affine, voxels)
    np.testing.assert_allclose(grid.world(voxels), expected, atol=1e-4)
    np.testing.assert_allclose(grid.world(voxels[1]), expected[1], atol=1e-4)


@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("codes", [(2, 0), (0, 1), (4, 1), (0, 0)])
@pytest.mark.parametrize("units", ["mm", "micron", "unknown"])
@every_affine
def test_results_carry_affine_units_and_codes(tmp_path, affine, units, codes, image_class):
    source = _save(tmp_path / "scan.nii", _values(), affine, codes, units, image_class)
    volume = read_volume(source)
    write_volume(tmp_path / "result.nii.gz", volume.data, volume.grid)
    before, after = nib.load(source), nib.load(tmp_path / "result.nii.gz")
    assert type(after) is image_class
    assert (before.header["sform_code"], before.header["qform_code"]) == codes
    np.testing.assert_array_equal(after.affine, before.affine)
    np.testing.assert_array_equal(after.get_fdata(), before.get_fdata())
    assert after.header.get_xyzt_units() == (units, "sec")
    for name in ("sform_code", "qform_code"):
        assert after.header[name] == before.header[name]
    np.testing.assert_array_equal(after.header.get_qform(), before.header.get_qform())


@pytest.mark.parametrize("codes", [(2, 0), (0, 1), (4, 1), (0, 0)])
@pytest.mark.parametrize("units", ["mm", "meter"])
@every_affine
def test_a_crop_keeps_every_voxel_in_its_place(tmp_path, affine, units, codes):
    scale = {"mm": 1.0, "meter": 1e3}[units]
    placed = np.diag([1 / scale, 1 / scale, 1 / scale, 1]) @ affine
    volume = read_volume(_save(tmp_path / "scan.nii", _values(), placed, codes, units))
    grid = volume.grid.crop((1, 2, 3), (4, 3, 2))
    write_volume(tmp_path / "crop.nii.gz", volume.data[1:5, 2:5, 3:5], grid)

    crop = read_volume(tmp_path / "crop.nii.gz")
    assert crop.grid.shape == grid.shape == (4, 3, 2)
    np.testing.assert_array_equal(crop.grid.affine, grid.affine)
    assert crop.data[2, 1, 0] == volume.data[3, 3, 3]
    place = volume.grid.world([3, 3, 3])
    np.testing.assert_allclose(crop.grid.world([2, 1, 0]), place, atol=1e-4)
    if codes[1]:
        moved = crop.grid.header.get_qform() @ [2, 1, 0, 1]
        stayed = volume.grid.header.get_qform() @ [3, 3, 3, 1]
        np.testing.assert_allclose(moved, stayed, atol=1e-4)
    if any(codes):
        after, before = crop.grid.header, volume.grid.header
        assert (after["sform_code"], after["qform_code"]) == codes
        assert after.get_xyzt_units() == before.get_xyzt_units()


def test_a_crop_moves_two_different_transforms_separately(tmp_path):
    image = nib.Nifti1Image(_values(), AFFINES["flipped"])
    image.header.set_sform(AFFINES["flipped"], "mni")
    image.header.set_qform(AFFINES["oblique"], "scanner")
    (tmp_path / "scan.nii").write_bytes(image.to_bytes())
    grid = read_volume(tmp_path / "scan.nii").grid.crop((2, 3, 4), (1, 1, 1))
    for moved, affine in (
        (grid.header.get_sform(), AFFINES["flipped"]),
        (grid.header.get_qform(), AFFINES["oblique"]),
    ):
        np.testing.assert_allclose(moved[:, 3], affine @ [2, 3, 4, 1], atol=1e-4)


def test_a_broken_quaternion_beside_an_sform_is_not_passed_on(tmp_path):
    image = nib.Nifti1Image(_values(), AFFINES["oblique"])
    image.header["qform_code"], image.header["quatern_b"] = 1, 2.0
    (tmp_path / "scan.nii").write_bytes(image.to_bytes())
    grid = read_volume(tmp_path / "scan.nii").grid
    np.testing.assert_allclose(grid.affine, AFFINES["oblique"], atol=1e-5)
    assert grid.crop((1, 1, 1), (2, 2, 2)).header["qform_code"] == 0


@pytest.mark.parametrize("code", [0, 2])
def test_the_affine_of_a_grid_made_by_hand_prevails_over_its_header(tmp_path, code):
    header = nib.Nifti1Header()
    header.set_xyzt_units("mm")
    header.set_sform(AFFINES["flipped"], code)
    grid = Grid(SHAPE, AFFINES["oblique"], header)
    crop = grid.crop((1, 0, 2), (2, 3, 4))
    for name, each in (("whole", grid), ("crop", crop)):
        write_volume(tmp_path / f"{name}.nii.gz", np.zeros(each.shape, np.uint8), each)
    whole, part = (nib.load(tmp_path / f"{name}.nii.gz") for name in ("whole", "crop"))
    assert whole.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(whole.affine, AFFINES["oblique"], atol=1e-5)
    np.testing.assert_allclose(part.affine[:, 3], AFFINES["oblique"] @ [1, 0, 2, 1], atol=1e-4)


@pytest.mark.parametrize(
    ("origin", "shape"), [((-1, 0, 0), (2, 2, 2)), ((4, 0, 0), (2, 1, 1)), ((0, 0, 0), (1, 0, 1))]
)
def test_a_crop_outside_the_grid_is_refused(origin, shape):
    with pytest.raises(ValueError, match=re.escape(str(origin))):
        Grid(SHAPE, np.eye(4)).crop(origin, shape)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8", "int16"])
def test_writes_the_given_type_unscaled(tmp_path, dtype):
    data = _values(dtype)
    write_volume(tmp_path / "out.nii.gz", data, Grid(SHAPE, np.eye(4)))
    content = gzip.decompress((tmp_path / "out.nii.gz").read_bytes())
    assert struct.unpack("<ff", content[112:120]) in {(1.0, 0.0), (0.0, 0.0)}
    image = nib.load(tmp_path / "out.nii.gz")
    assert image.get_data_dtype() == np.dtype(dtype)
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), data)


def test_writes_masks_as_uint8(tmp_path):
    mask = _values() > 100
    write_volume(tmp_path / "mask.nii.gz", mask, Grid(SHAPE, np.eye(4)))
    assert nib.load(tmp_path / "mask.nii.gz").get_data_dtype() == np.uint8
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii.gz", Grid(SHAPE, np.eye(4))), mask)


def test_equal_volumes_become_equal_files(tmp_path, monkeypatch):
    grid = Grid(SHAPE, np.eye(4))
    write_volume(tmp_path / "first.nii.gz", _values(), grid)
    monkeypatch.setattr("time.time", lambda: 1e9)
    write_volume(tmp_path / "second.nii.gz", _values(), grid)
    first, second = (tmp_path / f"{name}.nii.gz" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "out.nii.gz"
    path.write_bytes(b"precious")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with _refused(path, "No space left", kind=OutputError):
        write_volume(path, _values(), Grid(SHAPE, np.eye(4)))
    assert [(p, p.read_bytes()) for p in tmp_path.iterdir()] == [(path, b"precious")]


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_writing_where_there_is_no_folder_is_refused(tmp_path, folder):
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / folder / "out.nii.gz"
    with _refused("Cannot write", path, kind=OutputError):
        write_volume(path, _values(), Grid(SHAPE, np.eye(4)))


def test_refuses_other_names_and_shapes_when_writing(tmp_path):
    with _refused(".nii.gz", tmp_path / "out.mgz"):
        write_volume(tmp_path / "out.mgz", _values(), Grid(SHAPE, np.eye(4)))
    with pytest.raises(ValueError, match=re.escape("(5, 6, 8)")):
        write_volume(tmp_path / "out.nii.gz", _values(), Grid((5, 6, 8), np.eye(4)))
    assert list(tmp_path.iterdir()) == []


def _brain() -> np.ndarray:
    data = (np.random.default_rng(1).standard_normal(SHAPE) * 300 + 900).astype(np.float32)
    data[0], data[1, 1, 1] = 0, -5
    return data


def test_z_score_equals_monai():
    transforms = pytest.importorskip("monai.transforms")
    brain = _brain()
    expected = transforms.NormalizeIntensity(nonzero=True)(brain).numpy()
    normalised = z_score(brain)
    assert normalised.dtype == np.float32
    np.testing.assert_allclose(normalised, expected, rtol=1e-5, atol=1e-6)
    assert np.all(normalised[brain == 0] == 0)


def test_z_score_of_hand_worked_values():
    volume = np.array([0.0, 1.0, 3.0, 0.0]).reshape(4, 1, 1)
    np.testing.assert_array_equal(z_score(volume).ravel(), [0, -1, 1, 0])


def test_z_score_keeps_accuracy_on_a_large_offset():
    offset = np.array([2.0**23, 2.0**23 + 2], np.float32).repeat(5000).reshape(100, 100, 1)
    np.testing.assert_array_equal(np.unique(z_score(offset)), [-1, 1])


@pytest.mark.parametrize(
    ("volume", "said"),
    [
        (np.zeros(SHAPE), "zero in all 210 voxels"),
        (np.full(SHAPE, 0.1, np.float32), "value 0.1 in all 210 voxels that are no background"),
        (np.full(SHAPE, np.nan), "in 210 voxels"),
    ],
)
def test_z_score_refuses_images_without_contrast(volume, said):
    with _refused("t1.nii", said):
        z_score(volume, "t1.nii")


def test_an_image_stacks_its_channels_in_order(tmp_path):
    flair, t1 = _brain(), np.roll(_brain(), 2, axis=1) * 3
    paths = [_save(tmp_path / "f.nii.gz", flair, AFFINES["oblique"], (0, 1))]
    paths.append(_save(tmp_path / "t.nii", t1, AFFINES["oblique"], (2, 0)))
    image, grid = read_image(paths, CHANNELS)
    assert image.shape == (*SHAPE, 2)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image[..., 0], z_score(flair))
    np.testing.assert_array_equal(image[..., 1], z_score(t1))
    assert grid.header["qform_code"] == 1


@pytest.mark.parametrize("names", [[], ["f.nii"], ["f.nii", "t.nii", "x.nii"]])
def test_refuses_the_wrong_number_of_images(names):
    with _refused("takes 2 images", "flair, t1", f"Received {len(names)}", *names):
        read_image(names, CHANNELS)


def test_refuses_images_of_different_shape(tmp_path):
    flair = _save(tmp_path / "f.nii", _brain())
    t1 = _save(tmp_path / "t.nii", _brain()[:, :-1])
    with _refused(t1, flair, "shape differs", (5, 5, 7), SHAPE, "resample"):
        read_image([flair, t1], CHANNELS)


def _shifted(by: float) -> np.ndarray:
    affine = AFFINES["flipped"].copy()
    affine[1, 3] += by
    return affine


def test_refuses_images_of_different_affine(tmp_path):
    flair = _save(tmp_path / "f.nii", _brain(), AFFINES["flipped"])
    t1 = _save(tmp_path / "t.nii", _brain(), _shifted(0.5))
    with _refused(t1, flair, "origin differs by 0.5 mm in y", "resample"):
        read_image([flair, t1], CHANNELS)


def test_refuses_an_all_zero_image_by_name(tmp_path):
    flair, t1 = _save(tmp_path / "f.nii", _brain()), _save(tmp_path / "t.nii", _brain() * 0)
    with _refused(t1, "zero in all 210 voxels"):
        read_image([flair, t1], CHANNELS)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64", "float32", "float64"])
def test_reads_label_maps_of_any_type(tmp_path, dtype):
    labels = np.zeros(SHAPE, dtype)
    labels[1, 2, 3], labels[4, 5, 6] = 7, 120
    image = nib.Nifti1Image(labels, np.eye(4), dtype=dtype)
    (tmp_path / "labels.nii").write_bytes(image.to_bytes())
    read = read_labels(tmp_path / "labels.nii", Grid(SHAPE, np.eye(4)))
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, labels)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1.5, "whole"),
        (0.998, "whole"),
        (-2.0, "non-negative"),
        (np.nan, "finite"),
        (np.inf, "finite"),
        (3e9, "at most 2147483647"),
    ],
)
def test_refuses_label_maps_with_other_than_labels(tmp_path, value, said):
    labels = np.zeros(SHAPE)
    labels[0, 0, 1], labels[2, 1, 0] = 1, value
    path = _save(tmp_path / "labels.nii", labels)
    with _refused(path, said, "in 1 voxel, the first at", "(2, 1, 0)", value):
        read_labels(path, Grid(SHAPE, np.eye(4)))


def test_a_mask_is_true_where_not_zero(tmp_path):
    data = np.zeros(SHAPE, np.float32)
    data[0, 1, 2], data[3, 3, 3], data[2, 0, 0] = 1.0001, 255, 1e-4
    mask = read_mask(_save(tmp_path / "mask.nii", data), Grid(SHAPE, np.eye(4)))
    assert mask.dtype == bool
    assert np.argwhere(mask).tolist() == [[0, 1, 2], [3, 3, 3]]


@pytest.mark.parametrize("beside", [1e-7, 5e-4, 9e-4])
def test_labels_are_the_nearest_whole_numbers(tmp_path, beside):
    labels = np.arange(np.prod(SHAPE), dtype=float).reshape(SHAPE) % 5
    for by in (beside, -beside):
        path = _save(tmp_path / "labels.nii", labels + by)
        np.testing.assert_array_equal(read_labels(path, Grid(SHAPE, np.eye(4))), labels)
        np.testing.assert_array_equal(read_mask(path, Grid(SHAPE, np.eye(4))), labels > 0)


@pytest.mark.parametrize(
    ("values", "dtype"), [((0, 1, 2, 3), "int16"), ((0, 1), "uint8"), ((0, 255), "int16")]
)
def test_labels_stored_with_a_scale_factor_are_read(tmp_path, values, dtype):
    """As a program leaves them that saves floats under the header of an integer file."""
    labels = np.resize(np.float64(values), SHAPE)
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    image = nib.Nifti1Image(labels, np.eye(4), header)
    (tmp_path / "labels.nii").write_bytes(image.to_bytes())
    assert nib.load(tmp_path / "labels.nii").dataobj.slope != 1
    grid = Grid(SHAPE, np.eye(4))
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.nii", grid), labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "labels.nii", grid), labels > 0)


@pytest.mark.parametrize(
    ("value", "said"), [(-1.0, "non-negative"), (np.nan, "finite"), (0.8, "whole")]
)
def test_refuses_masks_that_are_none(tmp_path, value, said):
    data = np.zeros(SHAPE)
    data[4, 5, 6] = value
    path = _save(tmp_path / "mask.nii", data)
    with _refused(path, said, "(4, 5, 6)", value):
        read_mask(path, Grid(SHAPE, np.eye(4)))


@pytest.mark.parametrize("read", [read_labels, read_mask])
def test_refuses_labels_on_another_grid(tmp_path, read):
    path = _save(tmp_path / "labels.nii", np.ones(SHAPE, np.uint8))
    with _refused(path, "shape differs", SHAPE, (5, 6, 8)):
        read(path, Grid((5, 6, 8), np.eye(4)))
    with _refused(path, "axes differ"):
        read(path, Grid(SHAPE, AFFINES["flipped"]))


def test_reads_real_scans(shared):
    folder = shared / "data" / "patient07"
    image, grid = read_image([folder / "FLAIR.nii.gz", folder / "T1.nii.gz"], CHANNELS)
    assert grid.spacing == (1.0, 1.0, 1.0)
    assert nib.aff2axcodes(grid.affine) == ("L", "A", "S")
    inside = image[..., 0] != 0
    assert 1e6 < inside.sum() < 2.5e6
    np.testing.assert_allclose(image[inside].mean(axis=0, dtype=np.float64), 0, atol=2e-2)
    np.testing.assert_allclose(image[inside].std(axis=0, dtype=np.float64), 1, atol=2e-2)

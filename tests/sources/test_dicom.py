"""DICOM files written here, checked against gray values computed by hand."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import decoders
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from hilum.errors import HilumError
from hilum.sources.dicom import read_dicom
from hilum.sources.images import read_gray


def dicom_of(samples, bits=12, **elements) -> FileDataset:
    """A file of these samples; `elements` are further header elements, None takes one away."""
    samples = np.asarray(samples)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    file.Rows, file.Columns = samples.shape[-2:]
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated = samples.dtype.itemsize * 8
    file.BitsStored, file.HighBit = bits, bits - 1
    file.PixelRepresentation = int(samples.dtype.kind == "i")
    file.PixelData = samples.tobytes() + bytes(samples.nbytes % 2)
    for name, value in elements.items():
        if value is None:
            delattr(file, name)
        else:
            setattr(file, name, value)
    return file


@pytest.fixture
def saved(tmp_path):
    def save(file, name="scan.dcm"):
        file.save_as(tmp_path / name)
        return tmp_path / name

    return save


def row(*samples, dtype=np.uint16):
    return np.array([samples], dtype=dtype)


def table_of(entries: list[int], first: int, bits: int) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item.LUTData = np.array(entries, "<u2").tobytes()
    return item


class TestGrayLevels:
    """Each expected value is worked out from the standard's formula, not by the code under test."""

    @pytest.mark.parametrize(
        ("samples", "bits", "expected"),
        [
            (row(0, 51, 255, dtype=np.uint8), 8, [0, 51, 255]),
            (row(0, 819, 4095), 12, [0, 51, 255]),  # 819 / 4095 = 0.2
            (row(0, 13107, 65535), 16, [0, 51, 255]),
            (row(-2048, -1229, 2047, dtype=np.int16), 12, [0, 51, 255]),
        ],
    )
    def test_without_a_window_the_full_range_of_the_stored_bits_is_shown(
        self, saved, samples, bits, expected
    ):
        assert read_gray(saved(dicom_of(samples, bits))).tolist() == [expected]

    def test_monochrome1_is_inverted(self, saved):
        path = saved(dicom_of(row(0, 819, 4095), PhotometricInterpretation="MONOCHROME1"))
        assert read_gray(path).tolist() == [[255, 204, 0]]

    def test_the_window_is_linear_between_its_ends(self, saved):
        # PS3.3 C.11.2.1.2.1: black up to c - 0.5 - (w-1)/2 = 1000, white above 2000, linear between.
        window = {"WindowCenter": 1500.5, "WindowWidth": 1001}
        path = saved(dicom_of(row(0, 1000, 1200, 1500, 2000, 4095), **window))
        assert read_gray(path).tolist() == [[0, 0, 51, 128, 255, 255]]

    def test_monochrome1_is_inverted_after_the_window(self, saved):
        window = {"WindowCenter": 1500.5, "WindowWidth": 1001}
        file = dicom_of(row(0, 1000, 1200, 2000, 4095), PhotometricInterpretation="MONOCHROME1", **window)
        # Turned before the window, the stored 0 (4095 then) and 4095 would both come out otherwise.
        assert read_gray(saved(file)).tolist() == [[255, 255, 204, 0, 0]]

    def test_the_window_applies_to_rescaled_values(self, saved):
        file = dicom_of(
            row(0, 600, 700, 1000),
            RescaleSlope=2,
            RescaleIntercept=-200,  # 600 becomes 1000, 700 becomes 1200, 1000 becomes 1800
            WindowCenter=1500.5,
            WindowWidth=1001,
        )
        assert read_gray(saved(file)).tolist() == [[0, 0, 51, 204]]

    def test_a_falling_rescale_turns_the_image(self, saved):
        file = dicom_of(row(0, 819, 4095), RescaleSlope=-1, RescaleIntercept=4095)
        assert read_gray(saved(file)).tolist() == [[255, 204, 0]]
        file.WindowCenter, file.WindowWidth = 2048, 4096
        assert read_gray(saved(file)).tolist() == [[255, 204, 0]]

    def test_the_first_of_several_windows_is_taken(self, saved):
        file = dicom_of(row(1000, 1200, 2000), WindowCenter=[1500.5, 9], WindowWidth=[1001, 9])
        assert read_gray(saved(file)).tolist() == [[0, 51, 255]]

    def test_the_other_window_functions_are_known(self, saved):
        exact = dicom_of(
            row(1000, 1250, 2000), WindowCenter=1500, WindowWidth=1000, VOILUTFunction="LINEAR_EXACT"
        )
        assert read_gray(saved(exact)).tolist() == [[0, 64, 255]]
        sigmoid = dicom_of(row(1500, 2000), WindowCenter=1500, WindowWidth=1000, VOILUTFunction="SIGMOID")
        # 1 / (1 + exp(-4 * 500 / 1000)) = 0.8808
        np.testing.assert_allclose(read_dicom(saved(sigmoid)).levels, [[0.5, 0.8808]], atol=1e-4)

    @pytest.mark.parametrize("rescale", [{}, {"RescaleSlope": 1, "RescaleIntercept": 0}])
    def test_a_voi_table_wins_over_the_window(self, saved, rescale):
        file = dicom_of(row(0, 10, 11, 12, 4095), WindowCenter=5, WindowWidth=5, **rescale)
        file.VOILUTSequence = [table_of([0, 819, 4095], first=10, bits=12)]
        assert read_gray(saved(file)).tolist() == [[0, 0, 51, 255, 255]]

    def test_a_modality_table_comes_first(self, saved):
        file = dicom_of(row(0, 1, 2))
        file.ModalityLUTSequence = [table_of([0, 819, 4095], first=0, bits=16)]
        np.testing.assert_allclose(
            read_dicom(saved(file)).levels, [[0, 819 / 65535, 4095 / 65535]], atol=1e-9
        )

    def test_a_window_asked_for_replaces_the_headers(self, saved):
        file = dicom_of(row(0, 100, 200), WindowCenter=5, WindowWidth=5, RescaleSlope=2, RescaleIntercept=0)
        path = saved(file)
        assert read_gray(path, window=(0, 1000)).tolist() == [[0, 51, 102]]
        assert read_gray(f"{path}#window=0,400").tolist() == [[0, 128, 255]]

    def test_gray_levels_are_rounded_once_from_the_full_depth(self, saved):
        image = read_dicom(saved(dicom_of(np.arange(4096, dtype=np.uint16).reshape(64, 64))))
        assert len(np.unique(image.levels)) == 4096
        assert (image.levels.min(), image.levels.max()) == (0, 1)
        assert np.abs(image.pixels - image.levels * 255).max() <= 0.5
        assert (image.pixels.dtype, image.pixels.shape) == (np.uint8, (64, 64))


class TestTheHeader:
    def test_spacing_view_and_depth_are_kept(self, saved):
        file = dicom_of(
            row(1, 2),
            PixelSpacing=["0.139", "0.2"],
            ImagerPixelSpacing=[1, 1],
            ViewPosition="PA ",
            PhotometricInterpretation="MONOCHROME1",
        )
        image = read_dicom(saved(file))
        assert image.spacing_mm == (0.139, 0.2)
        assert (image.view, image.photometric, image.bits_stored) == ("PA", "MONOCHROME1", 12)

    def test_the_detectors_spacing_is_the_fallback(self, saved):
        assert read_dicom(saved(dicom_of(row(1, 2), ImagerPixelSpacing=[0.1, 0.1]))).spacing_mm == (0.1, 0.1)

    def test_what_it_does_not_say_is_none(self, saved):
        image = read_dicom(saved(dicom_of(row(1, 2))))
        assert (image.spacing_mm, image.view) == (None, None)


def test_a_dicom_is_known_by_its_content_whatever_its_name(saved):
    path = saved(dicom_of(row(0, 819, 4095)), name="scan.png")
    assert read_gray(path).tolist() == [[0, 51, 255]]


def test_run_length_compression_is_read(saved):
    file = dicom_of(np.arange(256, dtype=np.uint16).reshape(16, 16) * 16)
    plain = read_gray(saved(file))
    file.compress(RLELossless)
    assert np.array_equal(read_gray(saved(file)), plain)


class TestRealFiles:
    """Files of many writers, which pydicom brings along."""

    FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"

    @pytest.mark.parametrize("encoding", ["RLE", "bigendian", "implicit", "jp2klossless"])
    def test_one_image_in_several_encodings_is_one_image(self, encoding):
        expected = read_dicom(self.FOLDER / "MR_small.dcm")
        found = read_dicom(self.FOLDER / f"MR_small_{encoding}.dcm")
        assert np.array_equal(found.levels, expected.levels)
        assert found.spacing_mm == expected.spacing_mm == (0.3125, 0.3125)

    @pytest.mark.filterwarnings("ignore")
    def test_each_is_read_or_refused_by_name(self):
        read, refused = 0, {}
        for path in sorted(self.FOLDER.glob("*.dcm")):
            try:
                levels = read_dicom(path).levels
            except HilumError as error:
                refused[path] = str(error)
                continue
            read += 1
            assert levels.ndim == 2, path
            assert 0 <= levels.min() <= levels.max() <= 1, path
        assert read >= 15
        assert all(
            message.startswith(f"{path}: ") and "\n" not in message for path, message in refused.items()
        )


class TestRefusals:
    def refused(self, path, message):
        with pytest.raises(HilumError, match=message) as error:
            read_gray(path)
        assert str(error.value).startswith(str(path))

    def test_several_frames(self, saved):
        file = dicom_of(np.zeros((3, 4, 4), np.uint16), NumberOfFrames=3)
        self.refused(saved(file), "has 3 frames; a radiograph has one")

    def test_no_pixels(self, saved):
        self.refused(saved(dicom_of(row(1, 2), PixelData=None)), "has no pixel data")

    def test_color(self, saved):
        file = dicom_of(np.zeros((4, 4), np.uint8), 8, PhotometricInterpretation="RGB")
        self.refused(saved(file), "is RGB; a radiograph is MONOCHROME1 or MONOCHROME2")

    def test_a_name_that_promises_a_dicom(self, tmp_path):
        (tmp_path / "scan.dcm").write_bytes(bytes(200))
        self.refused(tmp_path / "scan.dcm", "is not a DICOM file: it lacks the mark DICM")
        (tmp_path / "empty.dicom").write_bytes(b"")
        self.refused(tmp_path / "empty.dicom", "is not a DICOM file")

    @pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
    def test_a_truncated_file(self, saved, share):
        path = saved(dicom_of(np.ones((64, 64), np.uint16)))
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        self.refused(path, "damaged or truncated|cannot be decoded|no pixel data")

    def test_a_window_without_width(self, saved):
        file = dicom_of(row(1, 2), WindowCenter=5, WindowWidth=0)
        self.refused(saved(file), "specifies something that cannot be shown: .*Window Width")

    def test_a_missing_depth(self, saved):
        self.refused(saved(dicom_of(row(1, 2), BitsAllocated=None)), "cannot be decoded|cannot be shown")

    def test_a_compression_without_its_decoder(self, saved, monkeypatch):
        file = dicom_of(np.zeros((8, 8), np.uint8), 8)
        file.PixelData = encapsulate([b"anything"])
        file["PixelData"].is_undefined_length = True
        file.file_meta.TransferSyntaxUID = JPEGLSLossless
        path = saved(file)
        monkeypatch.setattr(decoders.JPEGLSLosslessDecoder, "_available", {})
        self.refused(path, r"compressed \(JPEG-LS Lossless.*no decoder .* is installed.*pip install")

    def test_damaged_compressed_pixels(self, saved):
        file = dicom_of(np.zeros((8, 8), np.uint8), 8)
        file.PixelData = encapsulate([b"\xff\xd8nonsense"])
        file["PixelData"].is_undefined_length = True
        file.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        self.refused(saved(file), "cannot be decoded|no decoder")

    def test_a_missing_file(self, tmp_path):
        self.refused(tmp_path / "none.dcm", "the image is missing")

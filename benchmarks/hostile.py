"""Hostile files sent to the running service: each gets an error with a reason, and the process keeps running.

500 files are made from a PNG, a JPEG and a DICOM of a drawn radiograph: truncated, flipped bits, wrong suffix, zip and
SVG files named .png, a header of 50,000 x 50,000, empty files, and more. The same seed makes the same files. Every
response must be a 4xx with a code and a message, or a 200 if the file is still a valid image (such as a flipped bit in
a pixel). Both are counted separately. There must be no 5xx, no missing response and no restart of the process.
"""

import io
import json
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import psutil
import pydicom
from common import make_parser
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from hilum.machine import cores

SIDE = 192


def dicom_of(pixels: np.ndarray) -> bytes:
    """A radiograph as an uncompressed DICOM of 12 bits."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    header = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    header.PatientName, header.Modality, header.ViewPosition = "Drawn^Nobody", "DX", "PA"
    header.Rows, header.Columns = pixels.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    header.PixelData = (pixels.astype(np.uint16) * 16).tobytes()
    content = io.BytesIO()
    pydicom.dcmwrite(content, header)
    return content.getvalue()


def good_files(side: int = SIDE) -> dict[str, bytes]:
    """The valid files that are mutated: one of each format, by suffix."""
    from hilum.phantom.drawing import ImagePlan, draw_image

    pixels, _ = draw_image(ImagePlan(0, 1, 1, 1, False, 60, "PA", {"Cardiomegaly": 0.6}), side)
    return {
        "png": cv2.imencode(".png", pixels)[1].tobytes(),
        "jpg": cv2.imencode(".jpg", pixels)[1].tobytes(),
        "dcm": dicom_of(pixels),
    }


def truncated(data: bytes, draw: np.random.Generator) -> bytes:
    """Only the first bytes."""
    return data[: int(draw.integers(1, len(data)))]


def flipped_bits(data: bytes, draw: np.random.Generator) -> bytes:
    """One to 64 random bits flipped."""
    changed = bytearray(data)
    for position in draw.integers(0, len(data), int(draw.integers(1, 65))):
        changed[position] ^= 1 << int(draw.integers(8))
    return bytes(changed)


def random_header_bytes(data: bytes, draw: np.random.Generator) -> bytes:
    """One to eight random bytes in the header (sizes, depths, lengths)."""
    changed = bytearray(data)
    for position in draw.integers(0, min(len(data), 600), int(draw.integers(1, 9))):
        changed[position] = int(draw.integers(256))
    return bytes(changed)


def part_removed(data: bytes, draw: np.random.Generator) -> bytes:
    """A part removed from the middle."""
    start, end = sorted(draw.integers(0, len(data), 2).tolist())
    return data[:start] + data[end:]


def part_repeated(data: bytes, draw: np.random.Generator) -> bytes:
    """A part of the file repeated."""
    start, end = sorted(draw.integers(0, len(data), 2).tolist())
    return data[:end] + data[start:]


def huge_header(data: bytes, _: np.random.Generator) -> bytes:
    """A header with a size of 50,000 x 50,000."""
    if data.startswith(b"\x89PNG"):
        head = b"IHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
        return data[:8] + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + data[33:]
    if data.startswith(b"\xff\xd8"):
        position = data.index(b"\xff\xc0")
        return data[: position + 5] + struct.pack(">HH", 50_000, 50_000) + data[position + 9 :]
    header = pydicom.dcmread(io.BytesIO(data))
    header.Rows = header.Columns = 50_000
    content = io.BytesIO()
    pydicom.dcmwrite(content, header)
    return content.getvalue()


def compression_bomb(data: bytes, _: np.random.Generator) -> bytes:
    """A small PNG with a size of 6,000 x 6,000 in its header and 64 MiB of compressed zeros."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 6_000, 6_000, 16, 6, 0, 0, 0)
    body = b"IDAT" + zlib.compress(bytes(64 * 2**20), 9)
    parts = [head, body, b"IEND"]
    return data[:8] * data.startswith(b"\x89PNG") + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts
    )


def zip_archive(_: bytes, draw: np.random.Generator) -> bytes:
    """A zip archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        # With a fixed date, so that the same seed gives the same bytes.
        archive.writestr(zipfile.ZipInfo("chest.png", (2026, 1, 1, 0, 0, 0)), draw.bytes(200))
    return content.getvalue()


def svg_image(_: bytes, __: np.random.Generator) -> bytes:
    """An SVG image with a script."""
    return b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script><image href="file:///etc/passwd"/></svg>'


def empty(_: bytes, __: np.random.Generator) -> bytes:
    """An empty file."""
    return b""


def random_bytes(_: bytes, draw: np.random.Generator) -> bytes:
    """Random bytes."""
    return draw.bytes(int(draw.integers(1, 4000)))


def signature_then_random_bytes(data: bytes, draw: np.random.Generator) -> bytes:
    """A valid signature, then random bytes."""
    kept = 132 if data[128:132] == b"DICM" else 8
    return data[:kept] + draw.bytes(int(draw.integers(1, 4000))) + data[-12:]


def wrong_suffix(data: bytes, _: np.random.Generator) -> bytes:
    """The unchanged file, which gets the wrong suffix."""
    return data


MUTATIONS: dict[Callable[[bytes, np.random.Generator], bytes], float] = {
    truncated: 0.2,
    flipped_bits: 0.22,
    random_header_bytes: 0.2,
    part_removed: 0.06,
    part_repeated: 0.06,
    signature_then_random_bytes: 0.06,
    huge_header: 0.04,
    zip_archive: 0.03,
    svg_image: 0.03,
    empty: 0.02,
    random_bytes: 0.03,
    wrong_suffix: 0.04,
    compression_bomb: 0.01,
}


def hostile_files(count: int, seed: int = 0, side: int = SIDE) -> Iterator[tuple[str, str, bytes]]:
    """(mutation, file name, content), the same for the same seed; every mutation occurs."""
    draw = np.random.default_rng(seed)
    good = good_files(side)
    weights = np.array(list(MUTATIONS.values()))
    chosen = list(MUTATIONS) + draw.choice(list(MUTATIONS), count, p=weights / weights.sum()).tolist()
    for number, mutate in enumerate(chosen[:count]):
        kind = list(good)[int(draw.integers(3))]
        suffix = kind
        if mutate is wrong_suffix or draw.random() < 0.1:
            suffix = list(good)[(list(good).index(kind) + 1) % 3]
        if mutate in (zip_archive, svg_image):
            suffix = "png"
        yield mutate.__name__, f"{number:03d}.{suffix}", mutate(good[kind], draw)


def small_run(folder: Path, images: int = 60, side: int = 64) -> Path:
    """A run of one epoch on a few phantom radiographs of `side` x `side` pixels."""
    from hilum.phantom import write_phantom
    from hilum.training.run import StandardTraining

    write_phantom(folder / "phantom", images=images, size=side, workers=1)
    training = StandardTraining(
        source="phantom",
        root=folder / "phantom",
        image_width=side,
        image_height=side,
        num_epochs=1,
        num_workers=0,
        save_path=folder / "runs",
        name="small",
        quiet=True,
        epoch_args="none",
        device="cpu",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few images lack many findings
        training.train()
    return training.folder.path


class Service:
    """`hilum serve` in a separate process.

    Args:
        run: the run folder to serve.
        log: the file for its output.
    """

    def __init__(self, run: Path, log: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.log = log
        command = [
            sys.executable,
            "-m",
            "hilum",
            "serve",
            str(run),
            "--port",
            str(self.port),
            "--device",
            "cpu",
        ]
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def __enter__(self) -> "Service":
        for _ in range(600):
            if self.process.poll() is not None:
                raise RuntimeError(self.log.read_text())
            try:
                httpx.get(f"{self.address}/healthz", timeout=5)
                return self
            except httpx.TransportError:
                time.sleep(0.2)
        raise RuntimeError("the service did not start")

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)

    @property
    def resident_bytes(self) -> int:
        """Resident memory of the process."""
        return psutil.Process(self.process.pid).memory_info().rss


def attack(address: str, count: int, seed: int) -> dict:
    """Sends the files one by one.

    Returns:
        Counts of `refused`, `read` and `failed`, by mutation and by code, and what failed.
    """
    statuses, codes, by_mutation, failed = Counter(), Counter(), {}, []
    with httpx.Client(timeout=60) as client:
        for mutation, name, content in hostile_files(count, seed):
            try:
                response = client.post(f"{address}/v1/predict", files={"files": (name, content)})
                outcome, code = _outcome(response)
            except httpx.TransportError as error:
                outcome, code = "failed", type(error).__name__
            statuses[outcome] += 1
            codes[code] += 1
            by_mutation.setdefault(mutation, Counter())[outcome] += 1
            if outcome == "failed":
                failed.append(f"{mutation} {name}: {code}")
    return {
        "refused": statuses["refused"],
        "read": statuses["read"],
        "failed": failed,
        "codes": dict(codes.most_common()),
        "by_mutation": {name: dict(counts) for name, counts in by_mutation.items()},
    }


def _outcome(response: httpx.Response) -> tuple[str, str]:
    if response.status_code == 200:
        return "read", "read"
    if 400 <= response.status_code < 500:
        error = response.json().get("error") or {}
        if error.get("code") and error.get("message"):
            return "refused", error["code"]
    return "failed", f"status {response.status_code}"


def main() -> None:
    """Trains a small run, serves it and sends it the files."""
    parser = make_parser(__doc__, quick="40 files")
    parser.add_argument("--files", type=int, default=500, help="number of files (default: 500)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, help="run to serve (default: train a small one)")
    arguments = parser.parse_args()
    count = 40 if arguments.quick else arguments.files
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run = arguments.run or small_run(folder)
        with Service(run, folder / "service.log") as service:
            found = attack(service.address, count, arguments.seed)
            alive = service.process.poll() is None
            healthy = httpx.get(f"{service.address}/healthz").status_code == 200
        log = (folder / "service.log").read_text()
    result = {
        "benchmark": "hostile",
        "files": count,
        "seed": arguments.seed,
        **found,
        "same_process": alive and healthy,
        "names_logged": sum(name in log for _, name, _ in hostile_files(count, arguments.seed)),
        "cpus": cores(),
    }
    print(
        f"{result['refused']} refused with a reason, {result['read']} still valid, {len(result['failed'])} failed"
    )
    for name, counts in result["by_mutation"].items():
        print(f"  {name:24s} {counts}")
    if arguments.json:
        print(json.dumps(result))
    sys.exit(bool(result["failed"] or not result["same_process"]))


if __name__ == "__main__":
    main()

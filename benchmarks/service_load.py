"""The service under load: 16 clients compared with one, on the same machine.

`hilum serve` serves an untrained ResNet-18 at 224 x 224 (speed does not depend on weights). First one client sends
requests, then 16 at once, each sending the same radiograph again after every answer; after a 503 it waits for the time
of Retry-After. Goals: no answers other than 200 and 503; a 99th percentile below 10 times the single client's median;
at least the single client's throughput; resident memory that grows by less than 5 % after the warm-up, the first
quarter of the time under load. The exit code is 1 if one goal is missed.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from pathlib import Path

import cv2
import httpx
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from hostile import Service

SIDE = 224

#: Of the time under load, before the memory is taken as settled.
WARM_UP = 0.25


def untrained_run(folder: Path) -> Path:
    """A run whose network has learned next to nothing: one epoch on a few drawn radiographs."""
    from hilum.phantom import write_phantom
    from hilum.training.run import StandardTraining

    write_phantom(folder / "phantom", images=40, size=SIDE, workers=1)
    training = StandardTraining(
        source="phantom",
        root=folder / "phantom",
        image_width=SIDE,
        image_height=SIDE,
        num_epochs=1,
        num_workers=0,
        net_kwargs={"layers": 18},
        save_path=folder / "runs",
        name="load",
        quiet=True,
        epoch_args="none",
        device="cpu",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few images lack many findings
        training.train()
    return training.folder.path


def radiograph(side: int = 1024) -> bytes:
    """A drawn one as PNG."""
    from hilum.phantom.drawing import ImagePlan, draw_image

    pixels, _ = draw_image(ImagePlan(0, 1, 1, 1, False, 60, "PA", {"Cardiomegaly": 0.6}), side)
    return cv2.imencode(".png", pixels)[1].tobytes()


def load(service: Service, content: bytes, clients: int, seconds: float) -> dict:
    """Sends requests from several clients for some seconds.

    Returns:
        `seconds_each` of every answer of 200, `statuses`, `errors`, `per_second`, and resident bytes once a second.
    """
    times: list[float] = []
    statuses, errors = Counter(), Counter()
    memory = []
    end = time.perf_counter() + seconds

    def ask() -> None:
        with httpx.Client(timeout=60) as client:
            while time.perf_counter() < end:
                began = time.perf_counter()
                try:
                    response = client.post(
                        f"{service.address}/v1/predict", files={"files": ("chest.png", content)}
                    )
                except httpx.TransportError as error:
                    errors[type(error).__name__] += 1
                    continue
                statuses[response.status_code] += 1
                if response.status_code == 200:
                    times.append(time.perf_counter() - began)
                elif response.status_code == 503:
                    time.sleep(float(response.headers["Retry-After"]))

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    while time.perf_counter() < end:
        memory.append(service.resident_bytes)
        time.sleep(min(1.0, max(0.05, end - time.perf_counter())))
    for thread in threads:
        thread.join()
    return {
        "seconds_each": times,
        "statuses": dict(statuses),
        "errors": dict(errors),
        "per_second": len(times) / (time.perf_counter() - began),
        "resident": memory,
    }


def main() -> None:
    """Serves, loads, and says whether it held."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--run", type=Path, help="to serve; an untrained one is made if left out")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--quick", action="store_true", help="2 seconds, alone 1")
    arguments = parser.parse_args()
    seconds = 2.0 if arguments.quick else arguments.seconds
    content = radiograph()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run = arguments.run or untrained_run(folder)
        with Service(run, folder / "service.log") as service:
            load(service, content, arguments.clients, min(10.0, seconds))  # warm-up: threads, buffers, arenas
            alone = load(service, content, 1, min(15.0, seconds / 2))
            together = load(service, content, arguments.clients, seconds)
    single = float(np.median(alone["seconds_each"]))
    p50, p99 = np.percentile(together["seconds_each"], [50, 99]).tolist()
    warm = together["resident"][int(WARM_UP * len(together["resident"])) :]
    settled, last = warm[0], max(warm[-3:])
    result = {
        "benchmark": "service_load",
        "clients": arguments.clients,
        "seconds": seconds,
        "cpus": os.cpu_count(),
        "single_median_s": single,
        "single_per_second": alone["per_second"],
        "p50_s": p50,
        "p99_s": p99,
        "p99_over_single": p99 / single,
        "per_second": together["per_second"],
        "throughput_ratio": together["per_second"] / alone["per_second"],
        "warm_up_share": WARM_UP,
        "resident_growth": last / settled - 1,
        "resident_mib": last / 2**20,
        "statuses": {str(status): number for status, number in together["statuses"].items()},
        "errors": together["errors"] | alone["errors"],
    }
    held = {
        "no error but 503": not result["errors"]
        and {*alone["statuses"], *together["statuses"]} <= {200, 503},
        "p99 below 10 x single": result["p99_over_single"] < 10,
        "throughput at least one client's": result["throughput_ratio"] >= 1,
        "memory grows by less than 5 %": result["resident_growth"] < 0.05,
    }
    print(f"one client: {1000 * single:.0f} ms, {alone['per_second']:.1f} images/s")
    print(
        f"{arguments.clients} clients: median {1000 * p50:.0f} ms, p99 {1000 * p99:.0f} ms "
        f"({result['p99_over_single']:.1f} x), {together['per_second']:.1f} images/s, {result['statuses']}"
    )
    for claim, holds in held.items():
        print(f"  {'yes' if holds else 'NO '} {claim}")
    if arguments.json:
        print(json.dumps(result | {"held": held}))
    sys.exit(0 if all(held.values()) else 1)


if __name__ == "__main__":
    main()

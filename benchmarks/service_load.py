"""The service under load: 16 clients compared with one, on the same machine.

`hilum serve` serves a ResNet-18 at 224 x 224, hardly trained (speed does not depend on weights). First one client
sends requests, then 16 clients at once. Each client sends the same radiograph again after every response; after a 503
it waits for the time in Retry-After. Goals: only responses of 200 and 503; a 99th percentile below 10 times the median
of a single client; at least the throughput of a single client; resident memory that grows by less than 5 % after the
warm-up (the first quarter of the time under load). The exit code is 1 if a goal is missed.
"""

import json
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import cv2
import httpx
import numpy as np
from common import make_parser
from hostile import Service, small_run

from hilum.machine import cores

SIDE = 224

#: Fraction of the time under load before the memory is measured.
WARM_UP = 0.25


def radiograph(side: int = 1024) -> bytes:
    """A phantom radiograph as PNG."""
    from hilum.phantom.drawing import ImagePlan, draw_image

    pixels, _ = draw_image(ImagePlan(0, 1, 1, 1, False, 60, "PA", {"Cardiomegaly": 0.6}), side)
    return cv2.imencode(".png", pixels)[1].tobytes()


def load(service: Service, content: bytes, clients: int, seconds: float) -> dict:
    """Sends requests from several clients for some seconds.

    Returns:
        `seconds_each` of every response of 200, `statuses`, `errors`, `per_second`, and `resident` bytes once a second.
    """
    times: list[float] = []
    statuses, errors = Counter(), Counter()
    memory = []
    end = time.perf_counter() + seconds

    def send_requests() -> None:
        with httpx.Client(timeout=60) as client:
            while time.perf_counter() < end:
                started = time.perf_counter()
                try:
                    response = client.post(
                        f"{service.address}/v1/predict", files={"files": ("chest.png", content)}
                    )
                except httpx.TransportError as error:
                    errors[type(error).__name__] += 1
                    continue
                statuses[response.status_code] += 1
                if response.status_code == 200:
                    times.append(time.perf_counter() - started)
                elif response.status_code == 503:
                    time.sleep(float(response.headers["Retry-After"]))

    threads = [threading.Thread(target=send_requests) for _ in range(clients)]
    started = time.perf_counter()
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
        "per_second": len(times) / (time.perf_counter() - started),
        "resident": memory,
    }


def main() -> None:
    """Measures the service under load and checks the goals."""
    parser = make_parser(__doc__, quick="2 seconds, and 1 second for a single client")
    parser.add_argument("--clients", type=int, default=16, help="clients at once (default: 16)")
    parser.add_argument("--seconds", type=float, default=60.0, help="time under load (default: 60)")
    parser.add_argument("--run", type=Path, help="run to serve (default: train a small one)")
    arguments = parser.parse_args()
    seconds = 2.0 if arguments.quick else arguments.seconds
    content = radiograph()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run = arguments.run or small_run(folder, images=40, side=SIDE)
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
        "cpus": cores(),
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
    reached = {
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
    for goal, success in reached.items():
        print(f"  {'yes' if success else 'NO '} {goal}")
    if arguments.json:
        print(json.dumps(result | {"goals_reached": reached}))
    sys.exit(0 if all(reached.values()) else 1)


if __name__ == "__main__":
    main()

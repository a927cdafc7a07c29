"""One measurement in a process of its own, for what must not be shared: memory, devices, caches.

``python -m bench.worker JSON`` prints its findings as JSON on the last line. It ends with the
process that started it, however that ends.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.case import TARGET, Job

_ROOT = Path(__file__).resolve().parents[1]
_LOOKS = 0.5  # seconds between two looks for the process that asked


def measure(
    job: Job,
    *,
    devices: int | None = None,
    memory: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The job's maps twice in a new process, of which the first call compiles.

    Args:
        job: what to compute; its noise comes from the seed, so that no memory is spent on it.
        devices: how many to use; None: `jaxsal.smoothgrad`'s default.
        memory: bytes; None: `jaxsal.smoothgrad`'s default.
        environment: variables to add.

    Returns:
        ``gradients``, ``first_seconds``, ``seconds`` of the second call, ``peak_bytes``, and
        ``peak``, the largest magnitude of each map.
    """
    asked = {"job": asdict(job), "devices": devices, "memory": memory, "parent": os.getpid()}
    request = json.dumps(asked)
    process = subprocess.run(
        [sys.executable, "-m", "bench.worker", request],
        cwd=_ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return found


def devices_here() -> tuple[str, int]:
    """Platform and number of devices, asked in a new process: a TPU belongs to one at a time."""
    asked = "import jax; print(jax.default_backend(), jax.local_device_count())"
    process = subprocess.run(
        [sys.executable, "-c", asked], stdout=subprocess.PIPE, text=True, check=True
    )
    platform, count = process.stdout.split()
    return platform, int(count)


def cache_environment(folder: Path) -> dict[str, str]:
    """Variables by which JAX keeps compiled programs in a folder."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    import jax
    import numpy as np

    import jaxsal
    from bench.case import make_field, make_model
    from bench.options import timed
    from jaxsal.current_device import current_device
    from jaxsal.scan.calibration import synthetic_scan

    job = Job.from_json(request["job"])
    model = make_model(job)
    image, labels = synthetic_scan(job.shape, len(model.channels), job.lesions, job.seed)
    field = make_field(model, job.field, job.roi)
    options: dict[str, Any] = {"target": TARGET, "samples": job.samples, "seed": job.seed}
    options["memory"] = request["memory"]
    if request["devices"] is not None:
        options["devices"] = jax.local_devices()[: request["devices"]]

    def compute() -> Any:
        return jaxsal.smoothgrad(field, jax.numpy.asarray(image), labels, **options)

    _, first = timed(compute)
    maps, seconds = timed(compute)
    statistics = current_device().memory_stats() or {}
    return {
        "gradients": int((labels > 0).sum()) * job.samples,
        "first_seconds": first,
        "seconds": seconds,
        "peak_bytes": statistics.get("peak_bytes_in_use", _peak_memory()),
        "peak": [float(np.abs(maps.crop(label).values).max()) for label in maps.labels],
    }


def _live_with(parent: int) -> None:
    """Has this process end once its parent has."""

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOKS)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _peak_memory() -> int:
    """Bytes of this process at its largest."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    _request = json.loads(sys.argv[1])
    _live_with(_request["parent"])
    print(json.dumps(_answer(_request)))

"""``jaxsal bench``: how fast a model is on a device, and what a scan will take."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from jaxsal.cli import options as shared
from jaxsal.cli.command import Command, Given, group
from jaxsal.errors import InputError, require_memory
from jaxsal.options import option
from jaxsal.settings import PredictSettings, memory_option
from jaxsal.wording import duration


@dataclass(frozen=True)
class _Measured:
    """What is measured.

    Attributes:
        shape: size of the scan in voxels, one number or one per axis.
    """

    shape: tuple[int, int, int] = option((192, 224, 192), "N")
    memory: int | None = memory_option()

    def __post_init__(self) -> None:
        require_memory(self.memory)
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise InputError(
                f"shape must be three sizes of at least 1 voxel, got {list(self.shape)}"
            )


@dataclass(frozen=True)
class _Forecast:
    """The scan to forecast.

    Attributes:
        lesions: number of lesions.
        voxels: voxels per lesion.
        samples: number of noisy images.
    """

    lesions: int = option(48, "N")
    voxels: int = option(93, "N")
    samples: int = option(50, "N")

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise InputError(f"--{name} must be a whole number of at least 1, got {value}")


def run(given: Given) -> None:
    """Runs the command."""
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.saliency.smoothgrad import smoothgrad
    from jaxsal.scan.calibration import measure_throughput
    from jaxsal.scan.prediction import make_field

    measured, forecast = given.of(_Measured), given.of(_Forecast)
    with shared.computing(given), ProgressBar() as bar:
        model = shared.load_model(given)
        field = given.get("field", "sliding")
        settings = shared.prediction_settings(Given(given, target=0), model, field)
        bar.stage("measuring")
        speed = measure_throughput(
            partial(smoothgrad, make_field(model, settings), memory=measured.memory),
            measured.shape,
            len(model.channels),
        )
    size = " × ".join(map(str, speed.shape))
    print(f"{speed.device}, {model.precision}, {field} field, {size} voxels")
    print(
        f"{speed.gradients_per_second:.3g} voxel gradients per second; the first call took "
        f"{speed.first_call:.0f} s, compilation included"
    )
    voxels = forecast.lesions * forecast.voxels
    print(
        f"forecast for a scan of {forecast.lesions} lesions × {forecast.voxels} voxels × "
        f"{forecast.samples} samples = {voxels * forecast.samples:,} gradients: "
        f"{duration(speed.forecast(voxels, forecast.samples))}"
    )


COMMAND = Command(
    "Measures single-voxel gradients per second on a synthetic scan, after compilation, and "
    "forecasts the time of signed-maximum maps for a whole scan.",
    (
        shared.MODEL,
        group(PredictSettings, only=("field", "roi")),
        group(_Measured),
        group(_Forecast, "the scan to forecast"),
        shared.COMPUTING,
    ),
    run,
)

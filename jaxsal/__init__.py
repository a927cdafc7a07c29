"""Instance-level, quantitative saliency for 3D lesion segmentation, in JAX.

The names below are loaded on first use, so that importing jaxsal costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxsal.checkpoints import load_model, save_model
    from jaxsal.cohort.run import run_cohort
    from jaxsal.compilation import keep_compiled_programs
    from jaxsal.errors import InputError, JaxsalError, OutputError
    from jaxsal.field.sliding import sliding_window
    from jaxsal.field.whole import whole_volume
    from jaxsal.inputs.images import read_image, read_scan
    from jaxsal.inputs.sources import read_cohort
    from jaxsal.model import Model
    from jaxsal.options import option
    from jaxsal.progress import Progress
    from jaxsal.quantus import quantus_explain
    from jaxsal.registry import register_method, register_network
    from jaxsal.saliency.class_activation import gradcam, gradcam_plus_plus, hirescam, layercam
    from jaxsal.saliency.gradcam.maps import HeatMaps
    from jaxsal.saliency.gradient import gradient
    from jaxsal.saliency.integrated_gradients import integrated_gradients
    from jaxsal.saliency.maps import Crop, SaliencyMaps
    from jaxsal.saliency.methods.appearance import Appearance
    from jaxsal.saliency.methods.gradcam import GradCamSettings
    from jaxsal.saliency.methods.integrated_gradients import IntegratedGradientsSettings
    from jaxsal.saliency.methods.method import Method
    from jaxsal.saliency.methods.occlusion import OcclusionSettings
    from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
    from jaxsal.saliency.occlusion import occlusion
    from jaxsal.saliency.smoothgrad import smoothgrad, smoothgrad_stream
    from jaxsal.saliency.vargrad import vargrad
    from jaxsal.settings import CohortSettings, PredictSettings, UncertaintySettings
    from jaxsal.volumes import read_labels, write_volume

__version__ = "0.1.0"

_HOMES = {
    "Appearance": "jaxsal.saliency.methods.appearance",
    "CohortSettings": "jaxsal.settings",
    "Crop": "jaxsal.saliency.maps",
    "ExplainedScan": "jaxsal.scan.explained",
    "GradCamSettings": "jaxsal.saliency.methods.gradcam",
    "HeatMaps": "jaxsal.saliency.gradcam.maps",
    "InputError": "jaxsal.errors",
    "IntegratedGradientsSettings": "jaxsal.saliency.methods.integrated_gradients",
    "JaxsalError": "jaxsal.errors",
    "Method": "jaxsal.saliency.methods.method",
    "Model": "jaxsal.model",
    "OcclusionSettings": "jaxsal.saliency.methods.occlusion",
    "OutputError": "jaxsal.errors",
    "PredictSettings": "jaxsal.settings",
    "Progress": "jaxsal.progress",
    "SaliencyMaps": "jaxsal.saliency.maps",
    "SmoothGradSettings": "jaxsal.saliency.methods.smoothgrad",
    "UncertaintySettings": "jaxsal.settings",
    "explain": "jaxsal.scan.one_call",
    "gradcam": "jaxsal.saliency.class_activation",
    "gradcam_plus_plus": "jaxsal.saliency.class_activation",
    "gradient": "jaxsal.saliency.gradient",
    "hirescam": "jaxsal.saliency.class_activation",
    "integrated_gradients": "jaxsal.saliency.integrated_gradients",
    "keep_compiled_programs": "jaxsal.compilation",
    "layercam": "jaxsal.saliency.class_activation",
    "load_model": "jaxsal.checkpoints",
    "occlusion": "jaxsal.saliency.occlusion",
    "option": "jaxsal.options",
    "quantus_explain": "jaxsal.quantus",
    "read_cohort": "jaxsal.inputs.sources",
    "read_image": "jaxsal.inputs.images",
    "read_labels": "jaxsal.volumes",
    "read_scan": "jaxsal.inputs.images",
    "register_method": "jaxsal.registry",
    "register_network": "jaxsal.registry",
    "run_cohort": "jaxsal.cohort.run",
    "save_model": "jaxsal.checkpoints",
    "sliding_window": "jaxsal.field.sliding",
    "smoothgrad": "jaxsal.saliency.smoothgrad",
    "smoothgrad_stream": "jaxsal.saliency.smoothgrad",
    "vargrad": "jaxsal.saliency.vargrad",
    "whole_volume": "jaxsal.field.whole",
    "write_volume": "jaxsal.volumes",
}

__all__ = [
    "Appearance",
    "CohortSettings",
    "Crop",
    "ExplainedScan",
    "GradCamSettings",
    "HeatMaps",
    "InputError",
    "IntegratedGradientsSettings",
    "JaxsalError",
    "Method",
    "Model",
    "OcclusionSettings",
    "OutputError",
    "PredictSettings",
    "Progress",
    "SaliencyMaps",
    "SmoothGradSettings",
    "UncertaintySettings",
    "__version__",
    "explain",
    "gradcam",
    "gradcam_plus_plus",
    "gradient",
    "hirescam",
    "integrated_gradients",
    "keep_compiled_programs",
    "layercam",
    "load_model",
    "occlusion",
    "option",
    "quantus_explain",
    "read_cohort",
    "read_image",
    "read_labels",
    "read_scan",
    "register_method",
    "register_network",
    "run_cohort",
    "save_model",
    "sliding_window",
    "smoothgrad",
    "smoothgrad_stream",
    "vargrad",
    "whole_volume",
    "write_volume",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__

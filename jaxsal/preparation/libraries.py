"""The libraries that register and correct, which are not installed with jaxsal itself."""

from __future__ import annotations

import platform
import warnings
from importlib.metadata import version
from typing import Any, NamedTuple

from jaxsal import __version__
from jaxsal.extras import import_extra

_DISTRIBUTIONS = ("itk", "itk-elastix", "SimpleITK", "nibabel", "numpy")


class Elastix(NamedTuple):
    """What registering needs of ITK: classes for float32 volumes.

    Attributes:
        method: the registration.
        parameters: its parameters.
        buffer: makes images of arrays.
    """

    method: Any
    parameters: Any
    buffer: Any


def import_elastix() -> Elastix:
    """ITK with elastix, for registration.

    Its modules are named one by one: ``itk.ElastixRegistrationMethod`` would load hundreds more,
    which takes every process many seconds.

    Raises:
        InputError: it is not installed.
    """
    names = "itkElastixRegistrationMethodPython", "elxParameterObjectPython", "itkPyBufferPython"
    method, parameters, buffer = (_import(f"itk.{name}", "itk-elastix") for name in names)
    return Elastix(
        method.itkElastixRegistrationMethodIF3IF3,
        parameters.elastixParameterObject,
        buffer.itkPyBufferIF3,
    )


def import_simpleitk() -> Any:
    """SimpleITK, for resampling and N4.

    Raises:
        InputError: it is not installed.
    """
    return _import("SimpleITK", "SimpleITK")


def versions() -> dict[str, str]:
    """Versions of what the results depend on."""
    own = {"jaxsal": __version__, "python": platform.python_version()}
    return own | {name: version(name) for name in _DISTRIBUTIONS}


def _import(module: str, distribution: str) -> Any:
    with warnings.catch_warnings():  # of how SWIG makes its types
        warnings.simplefilter("ignore", DeprecationWarning)
        return import_extra(module, "preprocess", "preparing scans", distribution)

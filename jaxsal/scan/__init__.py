"""One scan, from image files to result files: predict its lesions, explain them."""

from jaxsal.inputs.scan import Scan
from jaxsal.scan.explain import explain
from jaxsal.scan.forecast import forecast
from jaxsal.scan.predict import predict

__all__ = ["Scan", "explain", "forecast", "predict"]

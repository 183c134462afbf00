"""A calibrated run as one ONNX graph: a frame in, its belief, its scores and the filtered belief out."""

from robovae.export.errors import ExportError
from robovae.export.graph import ENGINES, Graph
from robovae.export.writing import export_run

__all__ = ["ENGINES", "ExportError", "Graph", "export_run"]

"""OpenVINO, imported once and without its converter of other frameworks' models.

The package imports that converter if it can, which takes longer than all of the rest (it brings
an HTTP client); graphs are built here, not converted.
"""

import sys

_CONVERTER = "openvino.tools.ovc"
_IS_LOADED = "openvino" in sys.modules
if not _IS_LOADED:
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # its import fails, as foreseen

try:
    from openvino import (  # type: ignore[import-untyped]
        Core,
        InferRequest,
        Model,
        Node,
        Type,
        opset13,
    )
finally:
    if not _IS_LOADED:
        del sys.modules[_CONVERTER]

__all__ = ["Core", "InferRequest", "Model", "Node", "Type", "ops"]

ops = opset13
"""Operations of OpenVINO 2023.3 and later."""

"""int8 for traced graphs: every larger product with constant weights gets its input at 256 levels between a
measured low and high. The weights lie on the int8 grid they were stored on, one scale per output channel."""

from typing import Any

import numpy as np
import openvino
from openvino import opset13 as op

from engine import machine
from engine.fast.int8_ranges import has_instructions
from engine.fast.openvino_decoder import Ranges

_LEAST_WEIGHTS = 20_000
_WIDE = ("to_latent", "to_telemetry", "condition", "modulate")
"""Modules that stay in floating point: small, and what they get wrong is in the next latent at once."""


def exact() -> dict[str, Any]:
    """Settings with which any CPU rounds as one with VNNI does. Without it OpenVINO adds up pairs of products
    in 16 bits, which overflow: there the same 256 levels are taken in floating point, which is slower."""
    return {} if has_instructions(machine.isa_flags()) else {"LP_TRANSFORMS_MODE": "NO"}


def products(graph: openvino.Model) -> dict[str, openvino.Node]:
    """Convolutions and matrix products that may run in int8, by their module's path in the model."""
    found = {}
    for node in graph.get_ordered_ops():
        if node.get_type_name() not in ("Convolution", "MatMul"):
            continue
        weight = node.input(1).get_source_output().node
        if weight.get_type_name() != "Constant" or weight.data.size < _LEAST_WEIGHTS:
            continue
        name = node.get_friendly_name().partition("/")[0].removeprefix("__module.").partition(".")[2]
        if not set(name.split(".")) & set(_WIDE):
            found[name] = node
    return found


def quantised(graph: openvino.Model, ranges: Ranges) -> openvino.Model:
    """`graph` itself, changed. Raises KeyError if `ranges` are not this graph's."""
    found = products(graph)
    if unknown := set(ranges) - set(found):
        raise KeyError(f"no product called {', '.join(sorted(unknown))}")
    for name, (low, high) in ranges.items():
        node = found[name]
        ends, weight = (np.float32(low), np.float32(high)), node.input(1).get_source_output()
        levels = op.fake_quantize(node.input(0).get_source_output(), *ends, *ends, 256)
        node.input(0).replace_source_output(levels.output(0))
        rows = node.get_type_name() == "Convolution" or node.get_attributes()["transpose_b"]
        values = weight.node.data
        others = tuple(axis for axis in range(values.ndim) if axis != (0 if rows else values.ndim - 1))
        most = np.abs(values).max(others, keepdims=True).clip(1e-8).astype(np.float32)
        kernel = op.fake_quantize(weight, -most, most, -most, most, 255)
        node.input(1).replace_source_output(kernel.output(0))
    graph.validate_nodes_and_infer_types()
    return graph


def observed(graph: openvino.Model) -> tuple[openvino.Model, tuple[str, ...]]:
    """`graph` itself, with the input of every one of `products` as a further output, and their names."""
    found = products(graph)
    graph.add_outputs([node.input(0).get_source_output() for node in found.values()])
    return graph, tuple(found)

"""Splits a network in two, so that its first part runs in f32 and the rest in bf16: nearly as fast, and nearly exact.

Takes an OpenVINO model; gives two, the second of which takes what the first gives. It decides where. The first convolutions
see the image as it is, and what they round away is the same everywhere in it, so that no later mean makes up for it: nearly
all that bf16 differs from f32 by comes from them (docs/LOG.md).
"""

from __future__ import annotations

from typing import Any

FIRST_SHARE = 0.35  # of a network's convolutions and products of matrices, in f32
HEAVY = ("Convolution", "GroupConvolution", "MatMul")


def split_model(model: Any) -> tuple[Any, Any]:
    """Cut a model of static shapes in two; gives (None, model) where there is nothing to cut.

    The model itself is changed: the second part is made of its operations.
    """
    from openvino import Model, opset13

    operations = model.get_ordered_ops()
    heavy = [i for i, operation in enumerate(operations) if operation.get_type_name() in HEAVY]
    if len(heavy) < 1 / FIRST_SHARE:
        return None, model
    last = heavy[int(FIRST_SHARE * len(heavy))]
    first = {operation.get_name() for operation in operations[: last + 1]}
    constant = _constant_names(operations)
    crossing = [
        output
        for operation in operations[: last + 1]
        if operation.get_name() not in constant
        for output in operation.outputs()
        if any(use.get_node().get_name() not in first for use in output.get_target_inputs())
    ]
    before = Model([opset13.result(output) for output in crossing], model.get_parameters(), "first")
    taken = []
    for output in crossing:
        parameter = opset13.parameter(output.get_shape(), output.get_element_type())
        for use in list(output.get_target_inputs()):
            node = use.get_node()
            if node.get_name() not in first and node.get_name() not in {r.get_name() for r in before.get_results()}:
                use.replace_source_output(parameter.output(0))
        taken.append(parameter)
    return before, Model(model.get_results(), taken, "rest")


def _constant_names(operations: Any) -> set[str]:
    """The operations that depend on no input: constants, and what is computed of them."""
    names: set[str] = set()
    for operation in operations:
        if operation.get_type_name() == "Parameter":
            continue
        if all(source.get_source_output().get_node().get_name() in names for source in operation.inputs()):
            names.add(operation.get_name())
    return names

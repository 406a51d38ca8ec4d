"""Exports models to files for deployment and compares every file with its source before keeping it.

| module | contents |
| --- | --- |
| `plan` | what the options of `zoo export` mean for a model |
| `graph` | export of a model to an ONNX graph |
| `rewrite` | half precision, image steps inside the graph, metadata |
| `readback` | check of a file's metadata against the model folder |
| `tensorrt_check`, `tensorrt_operators` | which nodes TensorRT does not support |
| `samples`, `sources`, `gate` | the comparison: frames, source and file, parity limits |
| `folder` | the model folder with the new file added |
| `command`, `verify`, `benchmark` | `zoo export`, `zoo verify`, `zoo benchmark` |
"""

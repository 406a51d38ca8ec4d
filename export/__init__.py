"""From a model folder to files that a vehicle runs, each compared with its source before it is kept.

| module | does |
| --- | --- |
| `graph` | a model as an ONNX graph |
| `rewrite` | half precision, image steps inside the graph, metadata |
| `tensorrt_check`, `tensorrt_operators` | which nodes TensorRT would not take |
| `parity` | what the source computes against what the file computes |
| `folder` | the model folder with the new file in it |
| `command`, `verify`, `benchmark` | `zoo export`, `zoo verify`, `zoo benchmark` |
"""

"""ONNX operators and data types that TensorRT supports; an operator that is not listed is unsupported.

Source: `docs/operators.md` of onnx/onnx-tensorrt for TensorRT 10.15 (Apache-2.0), rows marked `Y`. The restrictions on
attributes and inputs that the list states in prose are implemented in `tensorrt_check`.
"""

from __future__ import annotations

__all__ = ["NETWORK_ONLY", "OPERATORS", "OPSETS", "SOURCE"]

SOURCE = "onnx/onnx-tensorrt docs/operators.md, TensorRT 10.15"
OPSETS = (9, 24)
NETWORK_ONLY = "UINT8"
"""Type that is supported for network inputs and outputs only."""

_FLOAT = ("FLOAT", "FLOAT16", "BFLOAT16")
_HALF = ("FLOAT", "FLOAT16")
_INTS = ("INT32", "INT64")
_NUMBER = (*_FLOAT, *_INTS)
_ANY = (*_NUMBER, "BOOL")
_SMALL = ("FLOAT8E4M3FN", "FLOAT4E2M1", "INT4")

_BY_TYPES: dict[tuple[str, ...], str] = {
    _FLOAT: """
        Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Clip Conv ConvTranspose Cos Cosh
        CumSum Dropout Einsum Elu Erf Exp Floor Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool GroupNormalization GRU
        HardSigmoid HardSwish Hardmax ImageScaler InstanceNormalization IsInf LayerNormalization LeakyRelu Log
        LogSoftmax LRN LSTM LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization ParametricSoftplus PRelu
        QuantizeLinear RandomNormal RandomNormalLike RandomUniform RandomUniformLike Reciprocal Resize RMSNormalization
        RNN RotaryEmbedding Round ScaledTanh Scan Selu Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt Tan Tanh
        ThresholdedRelu Upsample
    """,
    _HALF: "BlackmanWindow DeformConv GridSample HammingWindow HannWindow Mish NonMaxSuppression NonZero RoiAlign",
    _NUMBER: """
        Abs Add ArgMax ArgMin DepthToSpace Div Equal Greater GreaterOrEqual IsNaN Less LessOrEqual Max Min Mod Mul Neg
        Pad Pow Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
        ReduceSumSquare Relu Scatter ScatterElements ScatterND Shrink Sign SpaceToDepth Sub Sum TopK
    """,
    _ANY: """
        Concat Expand EyeLike Flatten Gather GatherElements GatherND Identity If Loop OneHot Reshape ReverseSequence
        Shape Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze Where
    """,
    ("BOOL",): "And Not Or Xor",
    (*_ANY, NETWORK_ONLY): "Cast CastLike",
    (*_ANY, *_SMALL): "Constant ConstantOfShape",
    ("INT8", *_SMALL): "DequantizeLinear",
    (*_NUMBER, "INT8"): "Gelu",
    (*_NUMBER, "FLOAT8E4M3FN"): "Mean",
    (*_FLOAT, "INT8", "FLOAT8E4M3FN"): "Attention",
    (*_FLOAT, "INT32"): "TensorScatter",
    ("FLOAT",): "STFT",
}

OPERATORS: dict[str, tuple[str, ...]] = {name: types for types, names in _BY_TYPES.items() for name in names.split()}
"""Supported element types of each operator's data, as `onnx.TensorProto` names."""

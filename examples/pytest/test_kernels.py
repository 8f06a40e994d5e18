import kernels
import pytest


def test_quantize(assay):
    assay(kernels.quantize, "int8.quantize_per_token", dialect="ieee")


@pytest.mark.assay("int8.dequantize", dialect="ieee", options={"out_dtype": "fp32"})
def test_dequantize(assay):
    assay(kernels.dequantize)

// Everything, as one module.
#include "rows.cu"
#include "gemm.cu"
#include "attention.cu"
#include "attention_float.cu"
#include "int8.cu"

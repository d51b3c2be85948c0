// Kernels that work on rows of tokens: embedding, norms, rotations, SwiGLU,
// bias, means of sentences, and changes of number format. Sums are float32, in
// an order that depends on nothing but the row.
#include "device.h"

// Weights from a file, [rows, cols], to the precision of products, with rows of
// ld numbers, zero from cols on.
template <typename To, typename From>
__device__ void convert(To *to, const From *from, long long rows, int cols, int ld) {
    long long n = rows * ld;
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x) {
        long long r = i / ld;
        int c = (int)(i % ld);
        from_float(to[i], c < cols ? to_float(from[r * cols + c]) : 0.0f);
    }
}

// x [tokens, hidden] is rows ids of the embedding table.
template <typename From>
__device__ void embed(float *x, const From *table, const int *ids, int hidden) {
    const From *from = table + (long long)ids[blockIdx.x] * hidden;
    float *to = x + (long long)blockIdx.x * hidden;
    for (int i = threadIdx.x; i < hidden; i += blockDim.x) to[i] = to_float(from[i]);
}

// Four numbers at once.
template <typename To> __device__ __forceinline__ void store4(To *to, float a, float b, float c, float d) {
    uint2 v = {pack<To>(a, b), pack<To>(c, d)};
    *(uint2 *)to = v;
}
template <> __device__ __forceinline__ void store4(float *to, float a, float b, float c, float d) {
    float4 v = {a, b, c, d};
    *(float4 *)to = v;
}
__device__ __forceinline__ float4 load4(const float *from) { return *(const float4 *)from; }

// RMSNorm (arXiv 1910.07467) of each row of x [tokens, hidden], times weight.
template <typename To>
__device__ void rms_norm(To *out, const float *x, const float *weight, int hidden, int ld, float eps) {
    __shared__ float partial[32];
    const float *from = x + (long long)blockIdx.x * hidden;
    To *to = out + (long long)blockIdx.x * ld;
    float sum = 0;
    if (hidden % 4 == 0) {
        for (int i = threadIdx.x * 4; i < hidden; i += blockDim.x * 4) {
            float4 v = load4(from + i);
            sum += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
        }
        float scale = 1.0f / sqrtf(block_sum(sum, partial) / hidden + eps);
        for (int i = threadIdx.x * 4; i < hidden; i += blockDim.x * 4) {
            float4 v = load4(from + i), w = load4(weight + i);
            store4(to + i, v.x * scale * w.x, v.y * scale * w.y, v.z * scale * w.z, v.w * scale * w.w);
        }
        for (int i = hidden + threadIdx.x; i < ld; i += blockDim.x) from_float(to[i], 0.0f);
        return;
    }
    for (int i = threadIdx.x; i < hidden; i += blockDim.x) sum += from[i] * from[i];
    float scale = 1.0f / sqrtf(block_sum(sum, partial) / hidden + eps);
    for (int i = threadIdx.x; i < ld; i += blockDim.x) from_float(to[i], i < hidden ? from[i] * scale * weight[i] : 0.0f);
}

// Bias, norm of each head's query and key where there is one, and rotation by
// position (arXiv 2104.09864) of qkv [tokens, (heads + 2 kv) * dim], written
// with heads of wide numbers, zero from dim on. One warp takes a head at a time.
template <typename To>
__device__ void rotate(To *out, const float *qkv, const float *bias, const float *q_norm, const float *k_norm,
                       const int *positions, const float *cosines, const float *sines,
                       int heads, int kv, int dim, int wide, int ld, float eps) {
    int token = blockIdx.x, lane = threadIdx.x % 32, half = dim / 2;
    const float *cosine = cosines + (long long)positions[token] * half;
    const float *sine = sines + (long long)positions[token] * half;
    for (int h = threadIdx.x / 32; h < heads + 2 * kv; h += blockDim.x / 32) {
        const float *from = qkv + (long long)token * ld + h * dim;
        To *to = out + ((long long)token * (heads + 2 * kv) + h) * wide;
        const float *b = bias ? bias + h * dim : nullptr;
        const float *weight = h < heads ? q_norm : h < heads + kv ? k_norm : nullptr;
        float scale = 1;
        if (weight) { // the same for the whole warp
            float sum = 0;
            for (int j = lane; j < dim; j += 32) {
                float v = from[j] + (b ? b[j] : 0.0f);
                sum += v * v;
            }
            scale = 1.0f / sqrtf(warp_sum(sum) / dim + eps);
        }
        for (int j = lane; j < half; j += 32) {
            float x = from[j] + (b ? b[j] : 0.0f), y = from[j + half] + (b ? b[j + half] : 0.0f);
            if (weight) {
                x = x * scale * weight[j];
                y = y * scale * weight[j + half];
            }
            if (h < heads + kv) {
                float c = cosine[j], s = sine[j], turned = x * c - y * s;
                y = y * c + x * s;
                x = turned;
            }
            from_float(to[j], x);
            from_float(to[j + half], y);
        }
        for (int j = dim + lane; j < wide; j += 32) from_float(to[j], 0.0f);
    }
}

__device__ __forceinline__ float silu_times(float gate, float up) { return gate / (1.0f + expf(-gate)) * up; }

// SwiGLU (arXiv 2002.05202): silu(gate) * up of wide [tokens, 2 inter].
template <typename To>
__device__ void swiglu(To *out, const float *wide, const float *bias, int inter, int ld) {
    const float *gate = wide + (long long)blockIdx.x * 2 * inter, *up = gate + inter;
    To *to = out + (long long)blockIdx.x * ld;
    if (inter % 4 == 0 && !bias) {
        for (int i = (blockIdx.y * blockDim.x + threadIdx.x) * 4; i < inter; i += gridDim.y * blockDim.x * 4) {
            float4 g = load4(gate + i), u = load4(up + i);
            store4(to + i, silu_times(g.x, u.x), silu_times(g.y, u.y), silu_times(g.z, u.z), silu_times(g.w, u.w));
        }
        if (blockIdx.y == 0)
            for (int i = inter + threadIdx.x; i < ld; i += blockDim.x) from_float(to[i], 0.0f);
        return;
    }
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < ld; i += gridDim.y * blockDim.x) {
        float y = 0;
        if (i < inter) y = silu_times(gate[i] + (bias ? bias[i] : 0.0f), up[i] + (bias ? bias[inter + i] : 0.0f));
        from_float(to[i], y);
    }
}

extern "C" {

__global__ void add_bias(float *x, const float *bias, int cols) {
    float *row = x + (long long)blockIdx.x * cols;
    for (int i = threadIdx.x; i < cols; i += blockDim.x) row[i] += bias[i];
}

// Row s of out is the mean of the rows spans[2s] to spans[2s+1] of x, summed in
// float64; the end is not in it.
__global__ void mean_rows(float *out, const float *x, const int *spans, int cols) {
    int from = spans[2 * blockIdx.x], to = spans[2 * blockIdx.x + 1];
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < cols; i += gridDim.y * blockDim.x) {
        double sum = 0;
        for (int r = from; r < to; r++) sum += x[(long long)r * cols + i];
        out[(long long)blockIdx.x * cols + i] = (float)(sum / (to - from));
    }
}

#define EMBED(from) \
    __global__ void embed_##from(float *x, const from *table, const int *ids, int hidden) { embed(x, table, ids, hidden); }
EMBED(bf16)
EMBED(f16)
EMBED(float)

#define CONVERT(from, to)                                                                                     \
    __global__ void convert_##from##_##to(to *out, const from *in, long long rows, int cols, int ld) {        \
        convert(out, in, rows, cols, ld);                                                                     \
    }
CONVERT(bf16, bf16)
CONVERT(bf16, f16)
CONVERT(bf16, float)
CONVERT(f16, bf16)
CONVERT(f16, f16)
CONVERT(f16, float)
CONVERT(float, bf16)
CONVERT(float, f16)
CONVERT(float, float)

#define ROWS(to)                                                                                              \
    __global__ void rms_norm_##to(to *out, const float *x, const float *weight, int hidden, int ld, float eps) { \
        rms_norm(out, x, weight, hidden, ld, eps);                                                            \
    }                                                                                                         \
    __global__ void rotate_##to(to *out, const float *qkv, const float *bias, const float *q_norm,            \
                                const float *k_norm, const int *positions, const float *cosines,              \
                                const float *sines, int heads, int kv, int dim, int wide, int ld, float eps) { \
        rotate(out, qkv, bias, q_norm, k_norm, positions, cosines, sines, heads, kv, dim, wide, ld, eps);     \
    }                                                                                                         \
    __global__ void swiglu_##to(to *out, const float *wide, const float *bias, int inter, int ld) {           \
        swiglu(out, wide, bias, inter, ld);                                                                   \
    }
ROWS(bf16)
ROWS(f16)
ROWS(float)

} // extern "C"

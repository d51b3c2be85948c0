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

// Several is W numbers that are read or written at once; they lie at a multiple of
// their size.
template <typename T, int W> struct alignas(sizeof(T) * W) Several {
    T v[W];
    static __device__ __forceinline__ Several at(const T *p) { return *(const Several *)p; }
    __device__ __forceinline__ void to(T *p) const { *(Several *)p = *this; }
};

// RMSNorm (arXiv 1910.07467) of each row of x [tokens, hidden], times weight, by a
// warp.
template <int W, typename To>
__device__ void rms_norm(To *out, const float *x, const float *weight, int tokens, int hidden, int ld, float eps) {
    int token = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (token >= tokens) return; // all of the warp
    const float *from = x + (long long)token * hidden;
    To *to = out + (long long)token * ld;
    float sum = 0;
#pragma unroll 4
    for (int i = lane * W; i < hidden; i += 32 * W) {
        auto v = Several<float, W>::at(from + i);
        for (int e = 0; e < W; e++) sum += v.v[e] * v.v[e];
    }
    float scale = 1.0f / sqrtf(warp_sum(sum) / hidden + eps);
#pragma unroll 4
    for (int i = lane * W; i < hidden; i += 32 * W) {
        auto v = Several<float, W>::at(from + i), w = Several<float, W>::at(weight + i);
        Several<To, W> y;
        for (int e = 0; e < W; e++) from_float(y.v[e], v.v[e] * scale * w.v[e]);
        y.to(to + i);
    }
    for (int i = hidden + lane; i < ld; i += 32) from_float(to[i], 0.0f);
}

// Bias, norm of each head's query and key where there is one, and rotation by
// position (arXiv 2104.09864) of qkv [tokens, (heads + 2 kv) * dim], written
// with heads of wide numbers, zero from dim on. There are at most 1024 heads.
template <int W, typename To>
__device__ void rotate(To *out, const float *qkv, const float *bias, const float *q_norm, const float *k_norm,
                       const int *positions, const float *cosines, const float *sines,
                       int heads, int kv, int dim, int wide, int ld, float eps) {
    typedef Several<float, W> Floats;
    __shared__ float scales[1024]; // by which a norm multiplies a head
    int token = blockIdx.x, half = dim / 2, all = heads + 2 * kv;
    const float *cosine = cosines + (long long)positions[token] * half;
    const float *sine = sines + (long long)positions[token] * half;
    const float *from = qkv + (long long)token * ld;
    To *to = out + (long long)token * all * wide;
    auto biased = [&](int i) {
        Floats v = Floats::at(from + i);
        if (bias) {
            Floats w = Floats::at(bias + i);
            for (int e = 0; e < W; e++) v.v[e] += w.v[e];
        }
        return v;
    };
    auto norm = [&](int h) { return h < heads ? q_norm : h < heads + kv ? k_norm : nullptr; };
    if (q_norm || k_norm) { // a warp sums a head
        for (int h = threadIdx.x / 32; h < heads + kv; h += blockDim.x / 32) {
            float sum = 0;
            for (int j = threadIdx.x % 32 * W; j < dim; j += 32 * W) {
                Floats v = biased(h * dim + j);
                for (int e = 0; e < W; e++) sum += v.v[e] * v.v[e];
            }
            sum = warp_sum(sum);
            if (threadIdx.x % 32 == 0) scales[h] = 1.0f / sqrtf(sum / dim + eps);
        }
        __syncthreads();
    }
    for (int i = threadIdx.x; i < all * (half / W); i += blockDim.x) {
        int h = i / (half / W), j = i % (half / W) * W;
        Floats x = biased(h * dim + j), y = biased(h * dim + j + half);
        if (norm(h)) {
            Floats v = Floats::at(norm(h) + j), w = Floats::at(norm(h) + j + half);
            for (int e = 0; e < W; e++) {
                x.v[e] = x.v[e] * scales[h] * v.v[e];
                y.v[e] = y.v[e] * scales[h] * w.v[e];
            }
        }
        if (h < heads + kv) {
            Floats c = Floats::at(cosine + j), s = Floats::at(sine + j);
            for (int e = 0; e < W; e++) {
                float turned = x.v[e] * c.v[e] - y.v[e] * s.v[e];
                y.v[e] = y.v[e] * c.v[e] + x.v[e] * s.v[e];
                x.v[e] = turned;
            }
        }
        Several<To, W> low, high;
        for (int e = 0; e < W; e++) {
            from_float(low.v[e], x.v[e]);
            from_float(high.v[e], y.v[e]);
        }
        low.to(to + h * wide + j);
        high.to(to + h * wide + j + half);
    }
    for (int i = threadIdx.x; i < all * (wide - dim); i += blockDim.x)
        from_float(to[i / (wide - dim) * wide + dim + i % (wide - dim)], 0.0f);
}

__device__ __forceinline__ float silu_times(float gate, float up) { return gate / (1.0f + expf(-gate)) * up; }

// SwiGLU (arXiv 2002.05202): silu(gate) * up of wide [tokens, 2 inter].
template <int W, typename To>
__device__ void swiglu(To *out, const float *wide, const float *bias, int inter, int ld) {
    typedef Several<float, W> Floats;
    const float *gate = wide + (long long)blockIdx.x * 2 * inter, *up = gate + inter;
    To *to = out + (long long)blockIdx.x * ld;
    for (int i = (blockIdx.y * blockDim.x + threadIdx.x) * W; i < inter; i += gridDim.y * blockDim.x * W) {
        Floats g = Floats::at(gate + i), u = Floats::at(up + i);
        if (bias) {
            Floats v = Floats::at(bias + i), w = Floats::at(bias + inter + i);
            for (int e = 0; e < W; e++) g.v[e] += v.v[e], u.v[e] += w.v[e];
        }
        Several<To, W> y;
        for (int e = 0; e < W; e++) from_float(y.v[e], silu_times(g.v[e], u.v[e]));
        y.to(to + i);
    }
    if (blockIdx.y == 0)
        for (int i = inter + threadIdx.x; i < ld; i += blockDim.x) from_float(to[i], 0.0f);
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

// As many numbers at once as the rows allow.
#define ROWS(to)                                                                                              \
    __global__ void rms_norm_##to(to *out, const float *x, const float *weight, int tokens, int hidden, int ld, float eps) { \
        if (hidden % 4) rms_norm<1>(out, x, weight, tokens, hidden, ld, eps);                                 \
        else rms_norm<4>(out, x, weight, tokens, hidden, ld, eps);                                            \
    }                                                                                                         \
    __global__ void rotate_##to(to *out, const float *qkv, const float *bias, const float *q_norm,            \
                                const float *k_norm, const int *positions, const float *cosines,              \
                                const float *sines, int heads, int kv, int dim, int wide, int ld, float eps) { \
        if (dim % 8) rotate<1>(out, qkv, bias, q_norm, k_norm, positions, cosines, sines, heads, kv, dim, wide, ld, eps); \
        else rotate<4>(out, qkv, bias, q_norm, k_norm, positions, cosines, sines, heads, kv, dim, wide, ld, eps); \
    }                                                                                                         \
    __global__ void swiglu_##to(to *out, const float *wide, const float *bias, int inter, int ld) {           \
        if (inter % 4) swiglu<1>(out, wide, bias, inter, ld);                                                 \
        else swiglu<4>(out, wide, bias, inter, ld);                                                           \
    }
ROWS(bf16)
ROWS(f16)
ROWS(float)

} // extern "C"

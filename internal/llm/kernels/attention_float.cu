// Attention as in attention.cu, in float32 throughout and without tensor cores.
#include "device.h"

__device__ __forceinline__ float warp_top(float v) {
    for (int mask = 16; mask > 0; mask >>= 1) v = fmaxf(v, exchange(v, mask));
    return v;
}

// A block of 128 threads takes 64 queries of a head, each warp EACH of them at a
// time, and goes through the keys in steps of 32: a lane has one key's score with
// each query, and then, of each query's output, the numbers that are 32 apart.
template <int WIDE>
__device__ void attention_float(float *out, const float *qkv, const int *pieces, int heads, int kv, int dim, int ld, float scale) {
    const int EACH = WIDE > 128 ? 8 : 16, KEYS = 32, ROW = WIDE + 4, DEEP = WIDE / 32;
    SHARED_MEMORY(memory);
    float *queries = (float *)memory, *tile = queries + 4 * EACH * ROW, *weights = tile + KEYS * ROW; // [4 EACH][KEYS]
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int first = pieces[3 * blockIdx.x], length = pieces[3 * blockIdx.x + 1], begin = pieces[3 * blockIdx.x + 2];
    int head = blockIdx.y, group = head / (heads / kv), stride = (heads + 2 * kv) * WIDE;
    const float *sequence = qkv + (long long)first * stride;
    queries += warp * EACH * ROW;
    weights += warp * EACH * KEYS;

    auto copy = [&](float *to, int column, int from, int rows) {
        for (int i = threadIdx.x; i < rows * (WIDE / 4); i += 128) {
            int r = i / (WIDE / 4), j = i % (WIDE / 4) * 4;
            bool ok = from + r < length;
            copy16(to + r * ROW + j, sequence + (ok ? (long long)(from + r) * stride + column * WIDE + j : 0), ok);
        }
        copies_commit();
        copies_wait<0>();
    };

    for (int at = begin; at < min(begin + 64, length); at += 4 * EACH) {
        float mixed[EACH][DEEP], top[EACH], sum[EACH];
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            top[i] = -INFINITY;
            sum[i] = 0;
#pragma unroll
            for (int e = 0; e < DEEP; e++) mixed[i][e] = 0;
        }
        int mine = at + warp * EACH, end = min(at + 4 * EACH, length);
        __syncthreads();
        copy((float *)memory, head, at, 4 * EACH);
        for (int from = 0; from < end; from += KEYS) {
            __syncthreads();
            copy(tile, heads + group, from, KEYS);
            __syncthreads();
            float score[EACH];
#pragma unroll
            for (int i = 0; i < EACH; i++) score[i] = 0;
#pragma unroll 4
            for (int j = 0; j < WIDE; j += 4) {
                float4 k = *(const float4 *)(tile + lane * ROW + j);
#pragma unroll
                for (int i = 0; i < EACH; i++) {
                    float4 q = *(const float4 *)(queries + i * ROW + j);
                    score[i] += q.x * k.x;
                    score[i] += q.y * k.y;
                    score[i] += q.z * k.z;
                    score[i] += q.w * k.w;
                }
            }
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                float s = from + lane <= mine + i ? score[i] * scale : -INFINITY;
                float most = fmaxf(top[i], warp_top(s)); // key 0 is visible to all: it is finite
                float shrink = expf(top[i] - most), weight = expf(s - most);
                top[i] = most;
                sum[i] = sum[i] * shrink + warp_sum(weight);
#pragma unroll
                for (int e = 0; e < DEEP; e++) mixed[i][e] *= shrink;
                weights[i * KEYS + lane] = weight;
            }
            __syncthreads();
            copy(tile, heads + kv + group, from, KEYS);
            __syncthreads();
#pragma unroll 1
            for (int t = 0; t < KEYS; t += 4) {
                float v[4][DEEP];
#pragma unroll
                for (int u = 0; u < 4; u++)
#pragma unroll
                    for (int e = 0; e < DEEP; e++) v[u][e] = tile[(t + u) * ROW + lane + 32 * e];
#pragma unroll
                for (int i = 0; i < EACH; i++) {
                    float4 w = *(const float4 *)(weights + i * KEYS + t);
#pragma unroll
                    for (int e = 0; e < DEEP; e++) {
                        mixed[i][e] += w.x * v[0][e];
                        mixed[i][e] += w.y * v[1][e];
                        mixed[i][e] += w.z * v[2][e];
                        mixed[i][e] += w.w * v[3][e];
                    }
                }
            }
        }
#pragma unroll
        for (int i = 0; i < EACH; i++)
#pragma unroll
            for (int e = 0; e < DEEP; e++)
                if (mine + i < length && lane + 32 * e < dim)
                    out[(long long)(first + mine + i) * ld + head * dim + lane + 32 * e] = mixed[i][e] / sum[i];
    }
}

extern "C" {

#define ATTENTION_FLOAT(WIDE)                                                                                     \
    __global__ void __launch_bounds__(128) attention_float_##WIDE(                                                \
        float *out, const float *qkv, const int *pieces, int heads, int kv, int dim, int ld, float scale) {       \
        attention_float<WIDE>(out, qkv, pieces, heads, kv, dim, ld, scale);                                       \
    }
ATTENTION_FLOAT(64)
ATTENTION_FLOAT(128)
ATTENTION_FLOAT(256)

} // extern "C"

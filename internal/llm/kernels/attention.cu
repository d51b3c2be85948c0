// Causal attention of sequences that are packed one after the other, with
// grouped queries (arXiv 2305.13245): query head h reads key and value head
// h * kv / heads. Softmax is taken while keys go by (arXiv 1805.02867, as in
// 2205.14135), so nothing of the size tokens x tokens is ever made.
//
// qkv is [tokens, heads + 2 kv, WIDE]: queries, keys, values, heads of dim
// numbers and zeros up to WIDE. out is [tokens, ld], heads of dim numbers.
// pieces lists, three numbers each, the first row of a sequence, its length,
// and the first of the queries that the block takes.
#include "device.h"

// A block of 128 threads takes 64 queries of a head, each warp 16, which it keeps in
// registers, and goes through the keys in steps of 64.
template <typename T, int WIDE>
__device__ void attention(T *out, const T *qkv, const int *pieces, int heads, int kv, int dim, int ld, float scale) {
    const int QUERIES = 64, KEYS = WIDE > 128 ? 32 : 64, ROW = WIDE + 8, STAGE = 2 * KEYS * ROW;
    SHARED_MEMORY(memory);
    T *tiles = (T *)memory; // [2][keys, values][KEYS][ROW]
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int first = pieces[3 * blockIdx.x], length = pieces[3 * blockIdx.x + 1], begin = pieces[3 * blockIdx.x + 2];
    int head = blockIdx.y, group = head / (heads / kv), stride = (heads + 2 * kv) * WIDE;
    const T *sequence = qkv + (long long)first * stride;

    auto copy = [&](T *to, int column, int from, int rows) {
#pragma unroll 4
        for (int i = threadIdx.x; i < rows * (WIDE / 8); i += 128) {
            int r = i / (WIDE / 8), j = i % (WIDE / 8) * 8;
            bool ok = from + r < length;
            copy16(to + r * ROW + j, sequence + (ok ? (long long)(from + r) * stride + column * WIDE + j : 0), ok);
        }
    };

    int last = min(begin + QUERIES, length), steps = (last + KEYS - 1) / KEYS;
    auto fetch = [&](int step) {
        if (step < steps) {
            T *key = tiles + step % 2 * STAGE;
            copy(key, heads + group, step * KEYS, KEYS);
            copy(key + KEYS * ROW, heads + kv + group, step * KEYS, KEYS);
        }
        copies_commit();
    };

    float mixed[WIDE / 8][4]; // 16 queries x WIDE
    float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
    for (int j = 0; j < WIDE / 8; j++)
        for (int e = 0; e < 4; e++) mixed[j][e] = 0;

    copy(tiles + STAGE, head, begin, QUERIES); // where the second keys will lie
    copies_commit();
    fetch(0);
    copies_wait<1>();
    __syncthreads();
    unsigned query[WIDE / 16][4];
#pragma unroll
    for (int k = 0; k < WIDE / 16; k++) load_matrices(query[k], tiles + STAGE + (warp * 16 + lane % 16) * ROW + k * 16 + lane / 16 * 8);
    __syncthreads();

    scale *= 1.4426950408889634f; // 2^x is what the card computes
    for (int step = 0; step < steps; step++) {
        int from = step * KEYS;
        fetch(step + 1);
        copies_wait<1>();
        __syncthreads();
        const T *key = tiles + step % 2 * STAGE, *value = key + KEYS * ROW;

        float score[KEYS / 8][4];
        for (int j = 0; j < KEYS / 8; j++)
            for (int e = 0; e < 4; e++) score[j][e] = 0;
#pragma unroll
        for (int k = 0; k < WIDE / 16; k++)
#pragma unroll
            for (int j = 0; j < KEYS / 16; j++) {
                unsigned y[4];
                load_matrices(y, key + (j * 16 + lane / 16 * 8 + lane % 8) * ROW + k * 16 + lane / 8 % 2 * 8);
                multiply(T(), score[2 * j], query[k], y[0], y[1]);
                multiply(T(), score[2 * j + 1], query[k], y[2], y[3]);
            }
        // A lane has two queries, 8 apart; the four lanes of a quad share them.
        bool hides = from + KEYS > begin + warp * 16; // a key that a query must not see
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int at = begin + warp * 16 + lane / 4 + half * 8;
            if (hides) {
#pragma unroll
                for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                    for (int e = 0; e < 2; e++)
                        if (from + j * 8 + lane % 4 * 2 + e > at) score[j][half * 2 + e] = -INFINITY;
            }
            float most = top[half];
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                for (int e = 0; e < 2; e++) most = fmaxf(most, score[j][half * 2 + e]);
            most = fmaxf(most, exchange(most, 1));
            most = fmaxf(most, exchange(most, 2));
            float shrink = power_of_two((top[half] - most) * scale), add = 0; // key 0 is visible to all: most is finite
            float offset = most * scale;
            top[half] = most;
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float &s = score[j][half * 2 + e];
                    s = power_of_two(s * scale - offset);
                    add += s;
                }
            sum[half] = sum[half] * shrink + add;
#pragma unroll
            for (int j = 0; j < WIDE / 8; j++) {
                mixed[j][half * 2] *= shrink;
                mixed[j][half * 2 + 1] *= shrink;
            }
        }
#pragma unroll
        for (int k = 0; k < KEYS / 16; k++) {
            unsigned x[4] = {pack<T>(score[2 * k][0], score[2 * k][1]), pack<T>(score[2 * k][2], score[2 * k][3]),
                             pack<T>(score[2 * k + 1][0], score[2 * k + 1][1]), pack<T>(score[2 * k + 1][2], score[2 * k + 1][3])};
#pragma unroll
            for (int j = 0; j < WIDE / 16; j++) {
                unsigned y[4];
                load_matrices_transposed(y, value + (k * 16 + lane % 16) * ROW + j * 16 + lane / 16 * 8);
                multiply(T(), mixed[2 * j], x, y[0], y[1]);
                multiply(T(), mixed[2 * j + 1], x, y[2], y[3]);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float all = sum[half];
        all += exchange(all, 1);
        all += exchange(all, 2);
        int at = begin + warp * 16 + lane / 4 + half * 8;
        T *to = out + (long long)(first + at) * ld + head * dim;
        all = 1 / all;
#pragma unroll
        for (int j = 0; j < WIDE / 8; j++) {
            int column = j * 8 + lane % 4 * 2;
            float x = mixed[j][half * 2] * all, y = mixed[j][half * 2 + 1] * all;
            if (at < length && column + 1 < dim && dim % 2 == 0) *(unsigned *)(to + column) = pack<T>(x, y);
            else if (at < length && column < dim) {
                from_float(to[column], x);
                if (column + 1 < dim) from_float(to[column + 1], y);
            }
        }
    }
}

extern "C" {

#define ATTENTION(T, WIDE)                                                                                       \
    __global__ void __launch_bounds__(128, WIDE > 128 ? 1 : 3) attention_##T##_##WIDE(T *out, const T *qkv, const int *pieces, int heads, int kv, int dim, \
                                           int ld, float scale) {                                                \
        attention<T, WIDE>(out, qkv, pieces, heads, kv, dim, ld, scale);                                         \
    }
ATTENTION(bf16, 64)
ATTENTION(bf16, 128)
ATTENTION(bf16, 256)
ATTENTION(f16, 64)
ATTENTION(f16, 128)
ATTENTION(f16, 256)

} // extern "C"

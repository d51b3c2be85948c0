// Products on the tensor cores of compute capability 9.0 (Hopper), for which
// gemm.cu is too slow by half: A * B' with A [m, k] and B [n, k] by rows of
// 16-bit numbers, and sums in float32.
//
// A block of three warpgroups makes 128 x 256 at a time, and goes on with the next
// part of the result until there is none. One thread of the first warpgroup
// fetches slices of k into shared memory, STAGES of them ahead; the other two
// multiply, each 64 rows. Two blocks that make parts one below the other share
// what they read of B: each fetches half of it for both.
//
// B's 256 rows are two times 128, the second of them so many rows further on. That
// is 128 for a plain product; for SwiGLU the first are of the gate and the second
// of the other factor, so that a thread has both for the same column.
#include "hopper.h"

const int TALL = 128, SLICE = 64, STAGES = 4, PAIRS = 16;
const int TILE = 128 * SLICE * 2; // bytes

template <typename T, typename Finish>
__device__ void products(const Tensor *a, const Tensor *b, int m, int n, int k, int above, int step, int second, Finish finish) {
    SHARED_MEMORY(memory);
    unsigned char *tiles = memory + (1024 - shared_address(memory) % 1024) % 1024; // [STAGES][A, B, B]
    uint64_t *full = (uint64_t *)(tiles + STAGES * 3 * TILE), *empty = full + STAGES;
    int rank = (int)cluster_rank(), slices = (k + SLICE - 1) / SLICE;
    int pairs = (m + 2 * TALL - 1) / (2 * TALL), across = (n + step - 1) / step;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            barrier_init(full + s, 1);
            barrier_init(empty + s, 2 * 8); // warps that multiply, of both blocks
        }
        barriers_ready();
    }
    cluster_sync();

    // Parts that are made at the same time share rows of A and of B: PAIRS of pairs
    // of blocks are one below the other.
    auto place = [&](int part, int &row, int &column) {
        int group = part / (PAIRS * across), in_group = part % (PAIRS * across), high = min(PAIRS, pairs - group * PAIRS);
        row = ((group * PAIRS + in_group % high) * 2 + rank) * TALL;
        column = in_group / high * step;
    };
    int stage = 0, round = 0, row, column;
    auto next = [&] {
        if (++stage == STAGES) stage = 0, round ^= 1;
    };
    if (threadIdx.x < 128) {
        registers_give<40>();
        if (threadIdx.x == 0)
            for (int part = blockIdx.x / 2; part < pairs * across; part += gridDim.x / 2) {
                place(part, row, column);
                for (int slice = 0; slice < slices; slice++, next()) {
                    unsigned char *to = tiles + stage * 3 * TILE;
                    barrier_wait(empty + stage, round ^ 1);
                    barrier_expect(full + stage, 3 * TILE);
                    fetch(to, a, slice * SLICE, above + row, full + stage);
                    fetch_for_both(to + (1 + rank) * TILE, b, slice * SLICE, column + rank * second, full + stage);
                }
            }
    } else {
        registers_take<232>();
        int below = (same_in_warp(threadIdx.x / 128) - 1) * 64;
        auto release = [&](int stage) {
            if (threadIdx.x % 32 < 2) barrier_arrive(empty + stage, threadIdx.x % 32);
        };
        for (int part = blockIdx.x / 2; part < pairs * across; part += gridDim.x / 2) {
            float sum[128];
#pragma unroll
            for (int i = 0; i < 128; i++) sum[i] = 0;
            int before = 0;
            for (int slice = 0; slice < slices; slice++, next()) {
                const unsigned char *left = tiles + stage * 3 * TILE, *right = left + TILE;
                barrier_wait(full + stage, round);
                products_begin();
#pragma unroll
                for (int kk = 0; kk < SLICE / 16; kk++) multiply_tiles(T(), sum, left + below * 128 + kk * 32, right + kk * 32);
                products_commit();
                products_wait<1>(); // those of the slice before are done
                if (slice > 0) release(before);
                before = stage;
            }
            products_wait<0>();
            products_done(sum);
            release(before);
            place(part, row, column);
            finish(sum, row + below + threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4, column + threadIdx.x % 4 * 2);
        }
    }
    cluster_sync(); // the other block may still use our memory
}

// silu_of_two is x / (1 + exp(-x)) of two numbers, with one reciprocal.
__device__ __forceinline__ void silu_of_two(float x[2]) {
    const float limit = 60; // of an exponent of two: the product below is finite
    float a = 1 + power_of_two(fminf(x[0] * -1.4426950408889634f, limit)), b = 1 + power_of_two(fminf(x[1] * -1.4426950408889634f, limit));
    float both = reciprocal(a * b);
    x[0] *= both * b;
    x[1] *= both * a;
}

// turn exchanges what four lanes have: lane i's v[j] becomes lane j's v[i].
__device__ __forceinline__ void turn(unsigned v[4], int lane) {
#pragma unroll
    for (int mask = 1; mask < 4; mask *= 2)
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (!(j & mask)) {
                unsigned &low = v[j], &high = v[j | mask];
                bool upper = lane & mask;
                unsigned got = exchange(upper ? low : high, mask);
                (upper ? low : high) = got;
            }
}

// store_four writes four times eight columns of a row, of which each of four lanes
// has two in x[0] to x[3]: each lane takes eight that lie side by side, to to.
template <typename T> __device__ __forceinline__ void store_four(T *to, int lane, bool ok, const float x[][2]) {
    unsigned v[4];
#pragma unroll
    for (int j = 0; j < 4; j++) v[j] = pack<T>(x[j][0], x[j][1]);
    turn(v, lane);
    if (ok) *(uint4 *)to = {v[0], v[1], v[2], v[3]};
}

// Queries, keys and values for attention: bias, norms and rotation as in rotate
// (rows.cu) of A * B', written as out [m, heads + 2 kv, DIM].
struct Turn {
    const float *bias, *q_norm, *k_norm;
    const int *positions;
    const float *cosines, *sines;
    int heads, kv;
    float eps;
};

// turn_heads does that for one row of a thread's part of 256 columns, which whole
// heads fill. Four lanes share the row.
template <typename T, int DIM>
__device__ void turn_heads(T *to, const float sum[128], int half, int column, int position, bool ok, const Turn &t) {
    const int J = DIM / 8, HALF = DIM / 2;
    int lane = threadIdx.x % 4;
    const float *cosine = t.cosines + (long long)position * HALF + lane * 2, *sine = t.sines + (long long)position * HALF + lane * 2;
#pragma unroll
    for (int first = 0; first < 32; first += J) {
        int head = (column + first * 8) / DIM;
        if (head >= t.heads + 2 * t.kv) return; // the same for all lanes
        float x[J][2], size = 0;
#pragma unroll
        for (int j = 0; j < J; j++) {
            float2 b = {0, 0};
            if (t.bias) b = *(const float2 *)(t.bias + head * DIM + j * 8 + lane * 2);
            x[j][0] = sum[(first + j) * 4 + half * 2] + b.x;
            x[j][1] = sum[(first + j) * 4 + half * 2 + 1] + b.y;
            size += x[j][0] * x[j][0] + x[j][1] * x[j][1];
        }
        const float *weight = head < t.heads ? t.q_norm : head < t.heads + t.kv ? t.k_norm : nullptr;
        if (weight) {
            size += exchange(size, 1);
            size += exchange(size, 2);
            float scale = 1.0f / sqrtf(size / DIM + t.eps);
#pragma unroll
            for (int j = 0; j < J; j++) {
                float2 w = *(const float2 *)(weight + j * 8 + lane * 2);
                x[j][0] = x[j][0] * scale * w.x;
                x[j][1] = x[j][1] * scale * w.y;
            }
        }
        if (head < t.heads + t.kv) {
#pragma unroll
            for (int j = 0; j < J / 2; j++) {
                float2 c = *(const float2 *)(cosine + j * 8), s = *(const float2 *)(sine + j * 8);
                float turned[2] = {x[j][0] * c.x - x[j + J / 2][0] * s.x, x[j][1] * c.y - x[j + J / 2][1] * s.y};
                x[j + J / 2][0] = x[j + J / 2][0] * c.x + x[j][0] * s.x;
                x[j + J / 2][1] = x[j + J / 2][1] * c.y + x[j][1] * s.y;
                x[j][0] = turned[0];
                x[j][1] = turned[1];
            }
        }
#pragma unroll
        for (int four = 0; four < J; four += 4) store_four(to + head * DIM + (four + lane) * 8, lane, ok, x + four);
    }
}

template <typename T>
__device__ void turned_product(T *out, const Tensor *a, const Tensor *b, const Turn &t, int m, int k, int dim) {
    int all = (t.heads + 2 * t.kv) * dim;
    products<T>(a, b, m, all, k, 0, 256, 128, [&](const float sum[128], int row, int column) {
        column -= threadIdx.x % 4 * 2; // the first of the part
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int at = min(row + half * 8, m - 1);
            bool ok = row + half * 8 < m;
            T *to = out + (long long)at * all;
            if (dim == 64) turn_heads<T, 64>(to, sum, half, column, t.positions[at], ok, t);
            else if (dim == 128) turn_heads<T, 128>(to, sum, half, column, t.positions[at], ok, t);
            else turn_heads<T, 256>(to, sum, half, column, t.positions[at], ok, t);
        }
    });
}

// C = A * B' + beta * C with C [m, n] in float32; A's rows begin at above.
template <typename T>
__device__ void product(float *c, const Tensor *a, const Tensor *b, int m, int n, int k, int above, int ldc, float beta) {
    products<T>(a, b, m, n, k, above, 256, 128, [&](const float sum[128], int row, int column) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int at = row + half * 8;
            float *to = c + (long long)at * ldc;
#pragma unroll
            for (int j = 0; j < 32; j++) {
                int col = column + j * 8;
                float2 v = {sum[j * 4 + half * 2], sum[j * 4 + half * 2 + 1]};
                if (at < m && col + 1 < n && ldc % 2 == 0) {
                    if (beta != 0) {
                        float2 old = *(float2 *)(to + col);
                        v.x += beta * old.x;
                        v.y += beta * old.y;
                    }
                    *(float2 *)(to + col) = v;
                } else if (at < m) {
                    if (col < n) to[col] = beta == 0 ? v.x : v.x + beta * to[col];
                    if (col + 1 < n) to[col + 1] = beta == 0 ? v.y : v.y + beta * to[col + 1];
                }
            }
        }
    });
}

// SwiGLU (arXiv 2002.05202): out [m, ld] = silu(A * G' + bias) * (A * U' + bias),
// with G and U, inter rows each, one after the other in b; zero from inter on.
template <typename T>
__device__ void gated_product(T *out, const Tensor *a, const Tensor *b, const float *bias, int m, int inter, int k, int above, int ld) {
    products<T>(a, b, m, ld, k, above, 128, inter, [&](const float sum[128], int row, int column) {
        int lane = threadIdx.x % 4;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int at = row + half * 8;
#pragma unroll
            for (int four = 0; four < 16; four += 4) {
                float x[4][2];
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    int col = column + (four + j) * 8, i = (four + j) * 4 + half * 2;
                    float gate[2] = {sum[i], sum[i + 1]}, other[2] = {sum[i + 64], sum[i + 65]};
#pragma unroll
                    for (int e = 0; e < 2; e++)
                        if (bias && col + e < inter) gate[e] += bias[col + e], other[e] += bias[inter + col + e];
                    silu_of_two(gate);
                    x[j][0] = col < inter ? gate[0] * other[0] : 0.0f;
                    x[j][1] = col + 1 < inter ? gate[1] * other[1] : 0.0f;
                }
                int col = column - lane * 2 + (four + lane) * 8;
                store_four(out + (long long)at * ld + col, lane, at < m && col < ld, x);
            }
        }
    });
}

// Causal attention as in attention.cu, for heads of 128 numbers: a block takes 128
// queries of a head at a time, 64 by each of two warpgroups, and goes through the keys
// in steps of 128. One warpgroup makes products while the other takes powers. A thread
// of the first warpgroup fetches queries, keys and values, of tensor [tokens,
// (heads + 2 kv) * 128], as far ahead as there is room.
template <typename T>
__device__ void attention(T *out, const Tensor *qkv, const int *pieces, int count, int heads, int kv, int ld, float scale) {
    const int KEYS = 128, SLOTS = 4, WIDE = 128;
    SHARED_MEMORY(memory);
    unsigned char *query = memory + (1024 - shared_address(memory) % 1024) % 1024; // [2][128][64]
    unsigned char *slots = query + 2 * TILE;                                       // keys, values, keys, values
    uint64_t *full = (uint64_t *)(slots + SLOTS * 2 * TILE), *empty = full + SLOTS, *asked = empty + SLOTS, *answered = asked + 1;
    if (threadIdx.x == 0) {
        for (int s = 0; s < SLOTS; s++) {
            barrier_init(full + s, 1);
            barrier_init(empty + s, 8);
        }
        barrier_init(asked, 1);
        barrier_init(answered, 8);
        barriers_ready();
    }
    __syncthreads();
    int slot = 0, round = 0, turn = 0;
    auto next = [&] {
        if (++slot == SLOTS) slot = 0, round ^= 1;
    };
    if (threadIdx.x < 128) {
        registers_give<40>();
        if (threadIdx.x == 0)
            for (int item = blockIdx.x; item < count * heads; item += gridDim.x, turn ^= 1) {
                const int *piece = pieces + item / heads * 3;
                int first = piece[0], length = piece[1], begin = piece[2], head = item % heads, group = head / (heads / kv);
                auto two = [&](unsigned char *to, int column, int row, uint64_t *bar) {
                    barrier_expect(bar, 2 * TILE);
                    fetch(to, qkv, column * WIDE, row, bar);
                    fetch(to + TILE, qkv, column * WIDE + 64, row, bar);
                };
                barrier_wait(answered, turn ^ 1);
                two(query, head, first + begin, asked);
                for (int from = 0; from < min(begin + 128, length); from += KEYS)
                    for (int values = 0; values < 2; values++, next()) {
                        barrier_wait(empty + slot, round ^ 1);
                        two(slots + slot * 2 * TILE, heads + values * kv + group, first + from, full + slot);
                    }
            }
        return;
    }
    registers_take<232>();
    int warpgroup = same_in_warp(threadIdx.x / 128) - 1, lane = threadIdx.x % 32;
    auto release = [&](uint64_t *bar) {
        if (lane == 0) barrier_arrive(bar);
    };
    scale *= 1.4426950408889634f; // 2^x is what the card computes
    for (int item = blockIdx.x; item < count * heads; item += gridDim.x, turn ^= 1) {
        const int *piece = pieces + item / heads * 3;
        int first = piece[0], length = piece[1], begin = piece[2], head = item % heads, last = min(begin + 128, length);
        int top_query = begin + warpgroup * 64 + threadIdx.x / 32 % 4 * 16; // of the warp
        float mixed[64], top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
#pragma unroll
        for (int i = 0; i < 64; i++) mixed[i] = 0;
        barrier_wait(asked, turn);
        for (int from = 0; from < last; from += KEYS) {
            float score[64];
#pragma unroll
            for (int i = 0; i < 64; i++) score[i] = 0;
            const unsigned char *keys = slots + slot * 2 * TILE;
            barrier_wait(full + slot, round);
            products_begin();
#pragma unroll
            for (int k = 0; k < WIDE / 16; k++)
                multiply_tiles_128(T(), score, query + k / 4 * TILE + warpgroup * 64 * 128 + k % 4 * 32, keys + k / 4 * TILE + k % 4 * 32);
            products_commit();
            products_wait<0>();
            products_done(score);
            release(empty + slot);
            next();
            if (from + KEYS >= last) release(answered);

            // A lane has two queries, 8 apart; the four lanes of a quad share them.
            unsigned weight[8][4]; // of 16 keys each
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int at = top_query + lane / 4 + half * 8;
                if (from + KEYS > top_query) { // there are keys that a query must not see
#pragma unroll
                    for (int j = 0; j < 16; j++)
#pragma unroll
                        for (int e = 0; e < 2; e++)
                            if (from + j * 8 + lane % 4 * 2 + e > at) score[j * 4 + half * 2 + e] = -INFINITY;
                }
                float most = top[half];
#pragma unroll
                for (int j = 0; j < 16; j++) most = fmaxf(most, fmaxf(score[j * 4 + half * 2], score[j * 4 + half * 2 + 1]));
                most = fmaxf(most, exchange(most, 1));
                most = fmaxf(most, exchange(most, 2));
                float shrink = power_of_two((top[half] - most) * scale), add = 0, offset = most * scale; // key 0 is visible to all: most is finite
                top[half] = most;
#pragma unroll
                for (int j = 0; j < 16; j++) {
                    float a = power_of_two(score[j * 4 + half * 2] * scale - offset), b = power_of_two(score[j * 4 + half * 2 + 1] * scale - offset);
                    add += a + b;
                    weight[j / 2][j % 2 * 2 + half] = pack<T>(a, b);
                }
                sum[half] = sum[half] * shrink + add;
#pragma unroll
                for (int j = 0; j < 16; j++) {
                    mixed[j * 4 + half * 2] *= shrink;
                    mixed[j * 4 + half * 2 + 1] *= shrink;
                }
            }

            unsigned char *values = slots + slot * 2 * TILE;
            barrier_wait(full + slot, round);
            if (from + KEYS > length) { // what another sequence has there may be infinite, and its weight is 0
                for (int i = (length - from) * 8 + threadIdx.x - 128; i < 128 * 8; i += 256) {
                    *(uint4 *)(values + i * 16) = {0, 0, 0, 0};
                    *(uint4 *)(values + TILE + i * 16) = {0, 0, 0, 0};
                }
                products_see();
                two_warpgroups_wait();
            }
            products_begin();
#pragma unroll
            for (int k = 0; k < KEYS / 16; k++) multiply_held(T(), mixed, weight[k], values + k * 16 * 128);
            products_commit();
            products_wait<0>();
            products_done(mixed);
            release(empty + slot);
            next();
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float all = sum[half];
            all += exchange(all, 1);
            all += exchange(all, 2);
            all = 1 / all;
            int at = top_query + lane / 4 + half * 8;
            T *to = out + (long long)(first + at) * ld + head * WIDE;
#pragma unroll
            for (int four = 0; four < 16; four += 4) {
                float x[4][2];
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    x[j][0] = mixed[(four + j) * 4 + half * 2] * all;
                    x[j][1] = mixed[(four + j) * 4 + half * 2 + 1] * all;
                }
                store_four(to + (four + lane % 4) * 8, lane % 4, at < length, x);
            }
        }
    }
}

extern "C" {

#define HOPPER(T)                                                                                                      \
    __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(384, 1) product_##T(                                   \
        float *c, const Tensor *a, const Tensor *b, int m, int n, int k, int above, int ldc, float beta) {             \
        product<T>(c, a, b, m, n, k, above, ldc, beta);                                                                \
    }                                                                                                                  \
    __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(384, 1) gated_product_##T(                             \
        T *out, const Tensor *a, const Tensor *b, const float *bias, int m, int inter, int k, int above, int ld) {     \
        gated_product<T>(out, a, b, bias, m, inter, k, above, ld);                                                     \
    }                                                                                                                  \
    __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(384, 1) turned_product_##T(                            \
        T *out, const Tensor *a, const Tensor *b, const float *bias, const float *q_norm, const float *k_norm,         \
        const int *positions, const float *cosines, const float *sines, int m, int k, int heads, int kv, int dim, float eps) { \
        turned_product<T>(out, a, b, {bias, q_norm, k_norm, positions, cosines, sines, heads, kv, eps}, m, k, dim);    \
    }                                                                                                                  \
    __global__ void __launch_bounds__(384, 1) hopper_attention_##T(                                                    \
        T *out, const Tensor *qkv, const int *pieces, int count, int heads, int kv, int ld, float scale) {             \
        attention<T>(out, qkv, pieces, count, heads, kv, ld, scale);                                                   \
    }
HOPPER(bf16)
HOPPER(f16)

} // extern "C"

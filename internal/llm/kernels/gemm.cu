// C = A * B' + beta * C, with A [m, k], B [n, k] and C [m, n] by rows, and sums
// in float32. It is used where cuBLAS is not found.
#include "device.h"

// On the tensor cores: a block of 256 threads makes 128 x 256 of A * B', each of its
// 8 warps 64 x 64, from slices of k that are copied to shared memory while earlier
// ones are multiplied. Slices lie there in rows with room for 8 numbers more, so
// that the eight rows that are read together are in different banks. Blocks that
// run at the same time share rows of A and B: 16 of them are one below the other.
// k, lda and ldb must be multiples of 8. It needs 3 * 384 * (SLICE + 8) * 2 bytes
// of shared memory: 64 wants a data centre's card. store is given two sums of
// neighbouring columns at a time, also of those past n and of rows past m.
template <typename T, typename Sum, int SLICE, typename Store>
__device__ __forceinline__ void products(const T *a, const T *b, int m, int n, int k, int lda, int ldb, Store store) {
    const int TALL = 128, BROAD = 256, ROW = SLICE + 8, STAGES = 3, GROUP = 16;
    SHARED_MEMORY(memory);
    T *tiles = (T *)memory; // [STAGES][TALL + BROAD][ROW]
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int tall = warp % 2 * 64, across = warp / 2 * 64;
    int block = blockIdx.y * gridDim.x + blockIdx.x, group = block / (GROUP * gridDim.y);
    int high = min(GROUP, (int)gridDim.x - group * GROUP), in_group = block % (GROUP * gridDim.y);
    int row0 = (group * GROUP + in_group % high) * TALL, col0 = in_group / high * BROAD;
    int slices = (k + SLICE - 1) / SLICE;

    auto fetch = [&](int slice) {
        if (slice < slices) {
            T *to = tiles + (slice % STAGES) * (TALL + BROAD) * ROW;
#pragma unroll
            for (int step = 0; step < (TALL + BROAD) * (SLICE / 8) / 256; step++) {
                int i = step * 256 + threadIdx.x, r = i / (SLICE / 8), j = i % (SLICE / 8) * 8, at = slice * SLICE + j;
                bool second = r >= TALL; // the same for a step
                int row = second ? col0 + r - TALL : row0 + r;
                bool ok = at < k && row < (second ? n : m);
                const T *from = second ? b + (long long)row * ldb + at : a + (long long)row * lda + at;
                copy16(to + r * ROW + j, ok ? from : a, ok);
            }
        }
        copies_commit();
    };

    Sum sum[4][8][4]; // of 16 x 8 parts
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) sum[i][j][e] = 0;

    for (int s = 0; s < STAGES - 1; s++) fetch(s);
    for (int slice = 0; slice < slices; slice++) {
        copies_wait<STAGES - 2>();
        __syncthreads();
        fetch(slice + STAGES - 1);
        const T *left = tiles + (slice % STAGES) * (TALL + BROAD) * ROW, *right = left + TALL * ROW;
        unsigned x[2][4][4], y[2][4][4];
        auto load = [&](int step) {
            int kk = step * 16, half = step % 2;
#pragma unroll
            for (int i = 0; i < 4; i++) load_matrices(x[half][i], left + (tall + i * 16 + lane % 16) * ROW + kk + lane / 16 * 8);
#pragma unroll
            for (int j = 0; j < 4; j++) // rows 0-7 and 8-15 of B, each with k 0-7 and 8-15
                load_matrices(y[half][j], right + (across + j * 16 + lane / 16 * 8 + lane % 8) * ROW + kk + lane / 8 % 2 * 8);
        };
        load(0);
#pragma unroll
        for (int step = 0; step < SLICE / 16; step++) {
            const int half = step % 2;
            if (step + 1 < SLICE / 16) load(step + 1);
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 8; j++) multiply(T(), sum[i][j], x[half][i], y[half][j / 2][j % 2 * 2], y[half][j / 2][j % 2 * 2 + 1]);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e += 2)
                store(row0 + tall + i * 16 + lane / 4 + e / 2 * 8, col0 + across + j * 8 + lane % 4 * 2, sum[i][j][e], sum[i][j][e + 1]);
}

template <typename T, int SLICE>
__device__ void gemm(float *c, const T *a, const T *b, int m, int n, int k, int lda, int ldb, int ldc, float beta) {
    products<T, float, SLICE>(a, b, m, n, k, lda, ldb, [&](int row, int col, float left, float right) {
        float *to = c + (long long)row * ldc + col;
        if (row < m && col + 1 < n && ldc % 2 == 0) {
            float2 v = {left, right};
            if (beta != 0) {
                float2 old = *(float2 *)to;
                v.x += beta * old.x;
                v.y += beta * old.y;
            }
            *(float2 *)to = v;
        } else if (row < m) {
            if (col < n) to[0] = beta == 0 ? left : left + beta * to[0];
            if (col + 1 < n) to[1] = beta == 0 ? right : right + beta * to[1];
        }
    });
}

extern "C" {

#define GEMM(T, SLICE)                                                                                   \
    __global__ void __launch_bounds__(256, 1) gemm_##T##_##SLICE(                                         \
        float *c, const T *a, const T *b, int m, int n, int k, int lda, int ldb, int ldc, float beta) {   \
        gemm<T, SLICE>(c, a, b, m, n, k, lda, ldb, ldc, beta);                                            \
    }
GEMM(bf16, 32)
GEMM(bf16, 64)
GEMM(f16, 32)
GEMM(f16, 64)

// In float32 throughout: a block of 256 threads makes 64 x 64, a thread 4 x 4.
__global__ void gemm_float(float *c, const float *a, const float *b, int m, int n, int k, int lda, int ldb, int ldc, float beta) {
    const int TILE = 64, SLICE = 16;
    __shared__ float left[SLICE][TILE + 1], right[SLICE][TILE + 1];
    int row0 = blockIdx.x * TILE, col0 = blockIdx.y * TILE, tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    float sum[4][4] = {};
    for (int from = 0; from < k; from += SLICE) {
        for (int i = threadIdx.x; i < TILE * SLICE; i += 256) {
            int r = i / SLICE, j = i % SLICE;
            bool in = from + j < k;
            left[j][r] = in && row0 + r < m ? a[(long long)(row0 + r) * lda + from + j] : 0.0f;
            right[j][r] = in && col0 + r < n ? b[(long long)(col0 + r) * ldb + from + j] : 0.0f;
        }
        __syncthreads();
        for (int j = 0; j < SLICE; j++)
            for (int p = 0; p < 4; p++)
                for (int q = 0; q < 4; q++) sum[p][q] += left[j][ty + p * 16] * right[j][tx + q * 16];
        __syncthreads();
    }
    for (int p = 0; p < 4; p++)
        for (int q = 0; q < 4; q++) {
            int row = row0 + ty + p * 16, col = col0 + tx + q * 16;
            if (row < m && col < n) {
                float *to = c + (long long)row * ldc + col;
                *to = beta == 0 ? sum[p][q] : sum[p][q] + beta * *to;
            }
        }
}

} // extern "C"

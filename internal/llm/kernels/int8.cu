// Products in int8 as ../int8.go defines them, LLM.int8() (arXiv 2208.07339):
// weights in int8 by rows, inputs in int8 by tokens without the columns in which
// any token of the same sequence is an outlier, and those columns in float32. Sums
// of int8 are exact, and each rounding is the one that the processor makes: of the
// same inputs come the same numbers, but for the order of sums over outliers.
// owners has the sequence of each row, counted within the batch.
#include "device.h"

// block_top is the largest size among all threads' v; infinite if one is infinite
// or no number. partial has room for 32 numbers.
__device__ __forceinline__ float block_top(float v, float *partial) {
    for (int mask = 16; mask > 0; mask >>= 1) v = fmaxf(v, exchange(v, mask));
    __syncthreads();
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = v;
    __syncthreads();
    for (int w = 0; w < (int)blockDim.x / 32; w++) v = fmaxf(v, partial[w]);
    return v;
}

// numbers [ld] are x [cols] over their scale, rounded; zero in the columns that
// are apart, and from cols on. A row that is not all finite has no scale.
template <typename From>
__device__ void quantise(signed char *numbers, float *scale, const From *x, const unsigned char *apart, int cols, int ld) {
    __shared__ float partial[32];
    float top = 0;
    for (int i = threadIdx.x; i < cols; i += blockDim.x) {
        float v = to_float(x[i]);
        if (!apart || !apart[i]) top = fmaxf(top, v - v == 0 ? fabsf(v) : INFINITY);
    }
    top = block_top(top, partial);
    float step = top == INFINITY ? NAN : top / 127.0f;
    if (threadIdx.x == 0) *scale = step;
    for (int i = threadIdx.x; i < ld; i += blockDim.x) {
        float v = 0;
        if (step > 0 && i < cols && !(apart && apart[i])) v = fminf(fmaxf(to_float(x[i]) / step, -127.0f), 127.0f);
        numbers[i] = (signed char)rintf(v);
    }
}

// The product of int8 numbers, two of which count as one in k, lda and ldb.
template <int SLICE>
__device__ void gemm_int8(float *c, const pair8 *a, const pair8 *b, const float *a_scales, const float *b_scales,
                          int m, int n, int k, float beta) {
    products<pair8, int, SLICE>(a, b, m, n, k, k, k, [&](int row, int col, int left, int right) {
        if (row >= m) return;
        float scale = a_scales[row], *to = c + (long long)row * n + col;
        if (col < n) {
            float y = times(times((float)left, scale), b_scales[col]);
            to[0] = beta == 0 ? y : y + to[0];
        }
        if (col + 1 < n) {
            float y = times(times((float)right, scale), b_scales[col + 1]);
            to[1] = beta == 0 ? y : y + to[1];
        }
    });
}

extern "C" {

#define QUANTISE_WEIGHTS(From)                                                                                      \
    __global__ void quantise_weights_##From(signed char *numbers, float *scales, const From *w, int cols, int ld) { \
        long long row = blockIdx.x;                                                                                 \
        quantise(numbers + row * ld, scales + row, w + row * cols, (const unsigned char *)nullptr, cols, ld);       \
    }
QUANTISE_WEIGHTS(bf16)
QUANTISE_WEIGHTS(f16)
QUANTISE_WEIGHTS(float)

// numbers [rows, ld] of x, whose rows are ldx apart; marks are mark_outliers'.
__global__ void quantise_rows(signed char *numbers, float *scales, const float *x, const unsigned char *marks,
                              const int *owners, int cols, int ldx, int ld) {
    long long row = blockIdx.x;
    quantise(numbers + row * ld, scales + row, x + row * ldx, marks + (long long)owners[row] * cols, cols, ld);
}

// marks [sequences, cols], zeros before, says where a sequence has an outlier.
__global__ void mark_outliers(unsigned char *marks, const float *x, const int *owners, int cols, int ldx) {
    const float *from = x + (long long)blockIdx.x * ldx;
    unsigned char *to = marks + (long long)owners[blockIdx.x] * cols;
    for (int i = threadIdx.x; i < cols; i += blockDim.x)
        if (fabsf(from[i]) > 6) to[i] = 1; // whoever else writes here writes the same
}

// columns [sequences, cols] begins with those that are marked, in order, counts
// [sequences] of them.
__global__ void list_outliers(int *columns, int *counts, const unsigned char *marks, int cols) {
    __shared__ int found[256]; // by each thread among its columns
    int each = (cols + 255) / 256, first = threadIdx.x * each, end = min(first + each, cols), n = 0;
    marks += (long long)blockIdx.x * cols;
    columns += (long long)blockIdx.x * cols;
    for (int i = first; i < end; i++) n += marks[i];
    found[threadIdx.x] = n;
    __syncthreads();
    int at = 0;
    for (int t = 0; t < (int)threadIdx.x; t++) at += found[t];
    for (int i = first; i < end; i++)
        if (marks[i]) columns[at++] = i;
    if (threadIdx.x == 255) counts[blockIdx.x] = at;
}

__global__ void __launch_bounds__(256, 1) gemm_int8_32(float *c, const pair8 *a, const pair8 *b, const float *a_scales,
                                                       const float *b_scales, int m, int n, int k, float beta) {
    gemm_int8<32>(c, a, b, a_scales, b_scales, m, n, k, beta);
}
__global__ void __launch_bounds__(256, 1) gemm_int8_64(float *c, const pair8 *a, const pair8 *b, const float *a_scales,
                                                       const float *b_scales, int m, int n, int k, float beta) {
    gemm_int8<64>(c, a, b, a_scales, b_scales, m, n, k, beta);
}

// Adds to c [m, n] the product over outliers: of x, with rows of ldx, and weights,
// int8 with rows of ldw times their scales. A block of 256 threads takes 64 x 64 of
// c, a thread 4 x 4, the rows of one sequence after those of another: to the rows
// of others a sequence adds zeros.
__global__ void add_outliers(float *c, const float *x, const signed char *weights, const float *scales, const int *owners,
                             const int *columns, const int *counts, int m, int n, int cols, int ldx, int ldw) {
    const int TILE = 64, SLICE = 16;
    __shared__ float left[SLICE][TILE + 1], right[SLICE][TILE + 1];
    int row0 = blockIdx.x * TILE, col0 = blockIdx.y * TILE, tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    int rows = min(TILE, m - row0);
    float sum[4][4] = {};
    bool any = false;
    for (int first = 0, end; first < rows; first = end) {
        int owner = owners[row0 + first], count = counts[owner];
        for (end = first + 1; end < rows && owners[row0 + end] == owner;) end++;
        const int *list = columns + (long long)owner * cols;
        any = any || count > 0;
        for (int from = 0; from < count; from += SLICE) {
            for (int i = threadIdx.x; i < TILE * SLICE; i += 256) {
                int r = i / SLICE, j = i % SLICE;
                bool in = from + j < count;
                int column = in ? list[from + j] : 0;
                left[j][r] = in && first <= r && r < end ? x[(long long)(row0 + r) * ldx + column] : 0.0f;
                right[j][r] = in && col0 + r < n ? times((float)weights[(long long)(col0 + r) * ldw + column], scales[col0 + r]) : 0.0f;
            }
            __syncthreads();
            for (int j = 0; j < SLICE; j++)
                for (int p = 0; p < 4; p++)
                    for (int q = 0; q < 4; q++) sum[p][q] += left[j][ty + p * 16] * right[j][tx + q * 16];
            __syncthreads();
        }
    }
    if (!any) return;
    for (int p = 0; p < 4; p++)
        for (int q = 0; q < 4; q++) {
            int row = row0 + ty + p * 16, col = col0 + tx + q * 16;
            if (row < m && col < n) c[(long long)row * n + col] += sum[p][q];
        }
}

} // extern "C"

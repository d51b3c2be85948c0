// What the kernels use of the machine: the types of numbers, the tensor cores,
// and copies to shared memory. With CLUSTERFLOW_EMULATE the same kernels are
// plain C++ that emulate/emulate.h runs on a processor, for tests without a GPU.
#pragma once

// Two int8 numbers, which are copied and laid out as one number of 16 bits is.
struct pair8 { signed char low, high; };

#ifdef CLUSTERFLOW_EMULATE
#include "emulate/emulate.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>

typedef __nv_bfloat16 bf16;
typedef __half f16;

__device__ __forceinline__ unsigned shared_address(const void *p) {
    return (unsigned)__cvta_generic_to_shared(p);
}

// copy16 begins to copy 16 bytes to shared memory, zeros where ok is false.
__device__ __forceinline__ void copy16(void *to, const void *from, bool ok) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)), "l"(from), "r"(ok ? 16 : 0));
}
__device__ __forceinline__ void copies_commit() { asm volatile("cp.async.commit_group;\n"); }

// copies_wait waits until at most N groups of copies are under way.
template <int N> __device__ __forceinline__ void copies_wait() { asm volatile("cp.async.wait_group %0;\n" ::"n"(N)); }

// load_matrices gives the warp four 8x8 matrices of 16-bit numbers, whose rows
// are at the addresses that lanes 0-7, 8-15, 16-23 and 24-31 name.
__device__ __forceinline__ void load_matrices(unsigned r[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)));
}
__device__ __forceinline__ void load_matrices_transposed(unsigned r[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)));
}

// multiply adds the product of a 16x16 and a 16x8 matrix to c, 16x8, in the
// layouts of mma.sync.m16n8k16 (PTX ISA, "Matrix fragments").
__device__ __forceinline__ void multiply(bf16, float c[4], const unsigned a[4], unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void multiply(f16, float c[4], const unsigned a[4], unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// For int8, 16x32 and 32x8 with exact sums, as mma.sync.m16n8k32 has them: each
// register of pairs lies as one of 16-bit numbers does.
__device__ __forceinline__ void multiply(pair8, int c[4], const unsigned a[4], unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ float exchange(float v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }

// power_of_two is 2^v, right to two units in the last place of a float.
__device__ __forceinline__ float power_of_two(float v) {
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(r) : "f"(v));
    return r;
}

__device__ __forceinline__ float to_float(float v) { return v; }
__device__ __forceinline__ float to_float(bf16 v) { return __bfloat162float(v); }
__device__ __forceinline__ float to_float(f16 v) { return __half2float(v); }
__device__ __forceinline__ void from_float(float &to, float v) { to = v; }
__device__ __forceinline__ void from_float(bf16 &to, float v) { to = __float2bfloat16_rn(v); }
__device__ __forceinline__ void from_float(f16 &to, float v) { to = __float2half_rn(v); }

// times is a product that is rounded before anything is added to it.
__device__ __forceinline__ float times(float a, float b) { return __fmul_rn(a, b); }

// 16-byte values of shared memory that a launch asks for.
#define SHARED_MEMORY(name) extern __shared__ __align__(16) unsigned char name[]
#endif

// pack puts two numbers into the halves of a register.
template <typename T> __device__ __forceinline__ unsigned pack(float low, float high) {
    T v[2];
    from_float(v[0], low);
    from_float(v[1], high);
    unsigned r;
    memcpy(&r, v, 4);
    return r;
}

__device__ __forceinline__ float warp_sum(float v) {
    for (int mask = 16; mask > 0; mask >>= 1) v += exchange(v, mask);
    return v;
}

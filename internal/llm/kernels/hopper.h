// What the kernels in hopper.cu use of cards of compute capability 9.0: copies of
// tiles by the tensor memory accelerator, barriers in shared memory that count
// arrivals and bytes, blocks that work in pairs (clusters), and the tensor cores'
// asynchronous products of tiles in shared memory (PTX ISA, "wgmma",
// "mbarrier", "cp.async.bulk.tensor"). With CLUSTERFLOW_EMULATE the same runs on a
// processor (emulate/hopper.h).
#pragma once
#include "device.h"
#ifdef CLUSTERFLOW_EMULATE
#include "emulate/hopper.h"
#else
#include <stdint.h>

// Tensor is what the driver made of a matrix of 16-bit numbers: tiles of it, 128
// rows x 64 columns, can be fetched; what lies outside of it is zeros.
struct Tensor { unsigned char bytes[128]; };

__device__ __forceinline__ unsigned cluster_rank() {
    unsigned r;
    asm volatile("mov.u32 %0, %%cluster_ctarank;\n" : "=r"(r));
    return r;
}

// cluster_sync waits for all threads of both blocks.
__device__ __forceinline__ void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n" ::: "memory");
}

__device__ __forceinline__ void barrier_init(uint64_t *bar, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(shared_address(bar)), "r"(arrivals) : "memory");
}

// barriers_ready lets the other block and the copies see barriers just made.
__device__ __forceinline__ void barriers_ready() { asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory"); }

// barrier_expect arrives, and has the barrier wait for so many bytes as well.
__device__ __forceinline__ void barrier_expect(uint64_t *bar, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(shared_address(bar)), "r"(bytes) : "memory");
}

// barrier_arrive arrives at a barrier of the block with that rank. It orders no
// writes of ours for the other block: there is no need for a fence, which takes long.
__device__ __forceinline__ void barrier_arrive(uint64_t *bar, unsigned rank) {
    asm volatile("{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
                 "mbarrier.arrive.shared::cluster.b64 _, [there];\n}\n" ::"r"(shared_address(bar)),
                 "r"(rank)
                 : "memory");
}

__device__ __forceinline__ void barrier_arrive(uint64_t *bar) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(shared_address(bar)) : "memory");
}

// barrier_wait waits until the barrier has opened as often as its rounds, of
// which parity is the last bit, say.
__device__ __forceinline__ void barrier_wait(uint64_t *bar, int parity) {
    asm volatile("{\n.reg .pred open;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 open, [%0], %1;\n"
                 "@open bra done;\nbra again;\ndone:\n}\n" ::"r"(shared_address(bar)),
                 "r"(parity)
                 : "memory");
}

// fetch begins to copy a tile to shared memory, at a multiple of 1024 bytes; its
// 16-byte pieces lie there as swizzled says. fetch_for_both copies it to the same
// place of both blocks, and tells the barrier of each.
__device__ __forceinline__ void fetch(void *to, const Tensor *t, int column, int row, uint64_t *bar) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];\n" ::"r"(shared_address(to)),
                 "l"(t), "r"(shared_address(bar)), "r"(column), "r"(row)
                 : "memory");
}
__device__ __forceinline__ void fetch_for_both(void *to, const Tensor *t, int column, int row, uint64_t *bar) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;\n" ::"r"(shared_address(to)),
                 "l"(t), "r"(shared_address(bar)), "r"(column), "r"(row), "h"((unsigned short)3)
                 : "memory");
}

// registers_give and registers_take change how many registers each thread of a
// warpgroup has.
template <int N> __device__ __forceinline__ void registers_give() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(N)); }
template <int N> __device__ __forceinline__ void registers_take() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(N)); }

__device__ __forceinline__ void products_begin() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }
__device__ __forceinline__ void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory"); }
template <int N> __device__ __forceinline__ void products_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(N) : "memory"); }

// products_done keeps what uses the sums behind the wait for them.
template <int N> __device__ __forceinline__ void products_done(float (&sum)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+f"(sum[i])::"memory");
}

// two_warpgroups_wait waits for the 256 threads of the second and third warpgroup.
__device__ __forceinline__ void two_warpgroups_wait() { asm volatile("bar.sync 1, 256;\n" ::: "memory"); }

// products_see lets products read what the thread wrote to shared memory.
__device__ __forceinline__ void products_see() { asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory"); }

// tile_at describes a fetched tile: the distance of eight rows is 1024 bytes, and
// pieces of 16 bytes are swizzled over 128.
__device__ __forceinline__ uint64_t tile_at(const void *p) {
    return (uint64_t)(shared_address(p) >> 4) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

// beside_at describes two fetched tiles, one after the other, as the 16 rows of a
// factor that has its 128 columns side by side.
__device__ __forceinline__ uint64_t beside_at(const void *p) {
    return (uint64_t)(shared_address(p) >> 4) | (uint64_t)(16384 >> 4) << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

#define SUM4(i) "+f"(sum[i]), "+f"(sum[i + 1]), "+f"(sum[i + 2]), "+f"(sum[i + 3])
#define SUM16(i) SUM4(i), SUM4(i + 4), SUM4(i + 8), SUM4(i + 12)
#define SUMS SUM16(0), SUM16(16), SUM16(32), SUM16(48), SUM16(64), SUM16(80), SUM16(96), SUM16(112)
#define HALF_SUMS SUM16(0), SUM16(16), SUM16(32), SUM16(48)
#define HALF_NAMES                                                                                                   \
    "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29," \
    "%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,"   \
    "%57,%58,%59,%60,%61,%62,%63}"
#define NAMES                                                                                                        \
    "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29," \
    "%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,"   \
    "%57,%58,%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,"   \
    "%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,"  \
    "%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127}"

// multiply_tiles begins to add to sum the product of a, 64 x 16, and the transpose
// of b, 256 x 16. The warpgroup makes 64 x 256; of each 16 x 8 of a warp a lane has
// four, as in multiply.
#define MULTIPLY_TILES(T)                                                                                  \
    __device__ __forceinline__ void multiply_tiles(T, float sum[128], const void *a, const void *b) { \
        asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32." #T "." #T " " NAMES                    \
                     ", %128, %129, 1, 1, 1, 0, 0;\n"                                                   \
                     : SUMS                                                                                \
                     : "l"(tile_at(a)), "l"(tile_at(b)));                                                         \
    }
MULTIPLY_TILES(bf16)
MULTIPLY_TILES(f16)

// multiply_tiles_128 does that for 128 rows of b: 64 x 128. multiply_held takes a
// from registers, as in multiply, and b [16, 128] as beside_at has it.
#define MULTIPLY_128(T)                                                                                       \
    __device__ __forceinline__ void multiply_tiles_128(T, float sum[64], const void *a, const void *b) {      \
        asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32." #T "." #T " " HALF_NAMES                  \
                     ", %64, %65, 1, 1, 1, 0, 0;\n"                                                           \
                     : HALF_SUMS                                                                              \
                     : "l"(tile_at(a)), "l"(tile_at(b)));                                                     \
    }                                                                                                         \
    __device__ __forceinline__ void multiply_held(T, float sum[64], const unsigned a[4], const void *b) {     \
        asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32." #T "." #T " " HALF_NAMES                  \
                     ", {%64,%65,%66,%67}, %68, 1, 1, 1, 1;\n"                                                \
                     : HALF_SUMS                                                                              \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(beside_at(b)));                        \
    }
MULTIPLY_128(bf16)
MULTIPLY_128(f16)

// reciprocal is right to one unit in the last place of a float.
__device__ __forceinline__ float reciprocal(float v) {
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;\n" : "=f"(r) : "f"(v));
    return r;
}

__device__ __forceinline__ unsigned exchange(unsigned v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }

// same_in_warp is v, which the warp's threads agree on, in a way that the compiler
// sees it.
__device__ __forceinline__ int same_in_warp(int v) { return __shfl_sync(0xffffffffu, v, 0); }
#endif

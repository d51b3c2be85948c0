// A card on one processor, for tests of the kernels without a GPU: the threads
// of a block are contexts that take turns, a block at a time (or a pair of them, of
// a kernel that works in pairs), and wait for each other where the kernel says so. It is strict where a card may be lenient: 16
// bytes at a time need an address that is a multiple of 16, copies arrive only
// when they are waited for, and threads that wait at different places for ever
// end the program.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <setjmp.h>
#include <vector>
#include <ucontext.h>

#define __global__
#define __device__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define SHARED_MEMORY(name) unsigned char *name = shared_of(block_of())

struct Place { int x, y; };
static Place threadIdx, blockIdx, blockDim, gridDim;

struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
struct uint2 { unsigned x, y; };
static inline int min(int a, int b) { return a < b ? a : b; }

// bfloat16 and IEEE half precision, rounded to nearest, ties to even.
struct bf16 { uint16_t bits; };
struct f16 { uint16_t bits; };

static inline float to_float(float v) { return v; }
static inline float to_float(bf16 v) {
    uint32_t bits = (uint32_t)v.bits << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}
static inline float to_float(f16 v) {
    int exponent = v.bits >> 10 & 31, mantissa = v.bits & 1023;
    float f = exponent == 0 ? ldexpf(mantissa, -24) : exponent == 31 ? (mantissa ? NAN : INFINITY) : ldexpf(1024 + mantissa, exponent - 25);
    return v.bits >> 15 ? -f : f;
}
static inline void from_float(float &to, float v) { to = v; }
static inline void from_float(bf16 &to, float v) {
    uint32_t bits;
    memcpy(&bits, &v, 4);
    to.bits = v != v ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
static inline void from_float(f16 &to, float v) {
    uint16_t sign = std::signbit(v) ? 0x8000 : 0;
    v = fabsf(v);
    if (v != v) to.bits = 0x7fff;
    else if (v >= 65520) to.bits = sign | 0x7c00;
    else if (v < ldexpf(1, -14)) to.bits = sign | (uint16_t)nearbyintf(ldexpf(v, 24));
    else {
        int e;
        frexpf(v, &e); // v = m * 2^e with m from 1/2
        to.bits = sign | (uint16_t)(((e + 13) << 10) + (int)nearbyintf(ldexpf(v, 11 - e))); // carries as it should
    }
}

static inline float times(float a, float b) { return a * b; }

struct Copy { void *to; const void *from; bool ok; };

// Barrier is where the threads of a block or of a warp wait for each other.
struct Barrier {
    int members, waiting;
    long opened; // how often
    void open() { waiting = 0, opened++; }
};

struct Thread {
    ucontext_t context;
    std::vector<char> stack;
    jmp_buf at; // where it goes on
    bool begun, ended;
    std::vector<std::vector<Copy>> groups; // of copies; the last one is open
    std::vector<std::vector<std::function<void()>>> products; // likewise
    float value;                           // what the warp exchanges
    const char *row;
    unsigned a[4], b[2];
};

static struct {
    std::vector<Thread> threads;
    std::vector<unsigned char> shared[2]; // of each block
    std::vector<std::function<void()>> fetches; // copies of tiles that are under way
    ucontext_t scheduler;
    jmp_buf scheduling;
    int now;
    long moves; // how often a barrier opened or a thread ended
    Barrier all, blocks[2], two_warpgroups, warps[64];
    std::function<void()> kernel;
} emulated;

static inline Thread &self() { return emulated.threads[emulated.now]; }
static inline int block_of() { return emulated.now / blockDim.x; } // in its pair
static inline unsigned char *shared_of(int block) {
    unsigned char *p = emulated.shared[block].data();
    return p + (1024 - (uintptr_t)p % 1024) % 1024;
}
static inline void next() {
    if (!_setjmp(self().at)) _longjmp(emulated.scheduling, 1);
}

// wait returns when all threads of the barrier have come as far or ended.
static inline void wait(Barrier &b) {
    long mine = b.opened;
    if (++b.waiting == b.members) {
        b.open();
        emulated.moves++;
    }
    while (b.opened == mine) next();
}
static inline void leave(Barrier &b) {
    b.members--;
    if (b.members > 0 && b.waiting == b.members) b.open();
}
static inline void __syncthreads() { wait(emulated.blocks[block_of()]); }
static inline int warp_first() { return emulated.now / 32 * 32; }
static inline void warp_wait() { wait(emulated.warps[emulated.now / 32]); }

static inline void check_aligned(const void *p, const char *what) {
    if ((uintptr_t)p % 16) {
        fprintf(stderr, "%s: %p is no multiple of 16\n", what, p);
        abort();
    }
}
static inline void copy16(void *to, const void *from, bool ok) {
    check_aligned(to, "copy to shared memory");
    check_aligned(from, "copy to shared memory");
    self().groups.back().push_back({to, from, ok});
    memset(to, 0xff, 16); // until it is waited for
}
static inline void copies_commit() { self().groups.emplace_back(); }
template <int N> static inline void copies_wait() {
    auto &groups = self().groups;
    while ((int)groups.size() - 1 > N) {
        for (auto &c : groups.front()) {
            if (c.ok) memcpy(c.to, c.from, 16);
            else memset(c.to, 0, 16);
        }
        groups.erase(groups.begin());
    }
}

static inline float power_of_two(float v) { return exp2f(v); }
static inline float exchange(float v, int mask) {
    self().value = v;
    warp_wait();
    float other = emulated.threads[emulated.now ^ mask].value;
    warp_wait();
    return other;
}

static inline void load_matrices(unsigned r[4], const void *row) {
    check_aligned(row, "row of a matrix");
    self().row = (const char *)row;
    warp_wait();
    int lane = emulated.now % 32;
    for (int i = 0; i < 4; i++) memcpy(&r[i], emulated.threads[warp_first() + 8 * i + lane / 4].row + lane % 4 * 4, 4);
    warp_wait();
}
static inline void load_matrices_transposed(unsigned r[4], const void *row) {
    check_aligned(row, "row of a matrix");
    self().row = (const char *)row;
    warp_wait();
    int lane = emulated.now % 32;
    for (int i = 0; i < 4; i++)
        for (int h = 0; h < 2; h++)
            memcpy((char *)&r[i] + 2 * h, emulated.threads[warp_first() + 8 * i + lane % 4 * 2 + h].row + lane / 4 * 2, 2);
    warp_wait();
}

template <typename T> static inline float half_of(unsigned r, int which) {
    T v;
    memcpy(&v, (char *)&r + 2 * which, 2);
    return to_float(v);
}
template <typename T> static inline void multiply(T, float c[4], const unsigned a[4], unsigned b0, unsigned b1) {
    memcpy(self().a, a, 16);
    self().b[0] = b0;
    self().b[1] = b1;
    warp_wait();
    int lane = emulated.now % 32;
    const Thread *warp = &emulated.threads[warp_first()];
    for (int e = 0; e < 4; e++) {
        int row = lane / 4 + e / 2 * 8, col = lane % 4 * 2 + e % 2;
        for (int k = 0; k < 16; k++)
            c[e] += half_of<T>(warp[row % 8 * 4 + k % 8 / 2].a[row / 8 + k / 8 * 2], k % 2) * half_of<T>(warp[col * 4 + k % 8 / 2].b[k / 8], k % 2);
    }
    warp_wait();
}

static inline void multiply(pair8, int c[4], const unsigned a[4], unsigned b0, unsigned b1) {
    memcpy(self().a, a, 16);
    self().b[0] = b0;
    self().b[1] = b1;
    warp_wait();
    int lane = emulated.now % 32;
    const Thread *warp = &emulated.threads[warp_first()];
    auto byte = [](unsigned r, int which) { return (int)(signed char)(r >> 8 * which); };
    for (int e = 0; e < 4; e++) {
        int row = lane / 4 + e / 2 * 8, col = lane % 4 * 2 + e % 2;
        for (int k = 0; k < 32; k++)
            c[e] += byte(warp[row % 8 * 4 + k % 16 / 4].a[row / 8 + k / 16 * 2], k % 4) * byte(warp[col * 4 + k % 16 / 4].b[k / 16], k % 4);
    }
    warp_wait();
}

static void emulate_thread() {
    emulated.kernel();
    self().ended = true;
    leave(emulated.all);
    leave(emulated.blocks[block_of()]);
    leave(emulated.warps[emulated.now / 32]);
    emulated.moves++;
    _longjmp(emulated.scheduling, 1);
}

// emulate runs a kernel's blocks one after the other, or two by two.
static void emulate(int grid_x, int grid_y, int threads, int shared, int together, std::function<void()> kernel) {
    emulated.kernel = kernel;
    gridDim = {grid_x, grid_y};
    blockDim = {threads, 1};
    for (volatile int block = 0; block < grid_x * grid_y; block = block + together) {
        emulated.threads.resize(threads * together);
        emulated.all = {threads * together, 0, 0};
        emulated.two_warpgroups = {256, 0, 0};
        for (int b = 0; b < together; b++) {
            emulated.shared[b].assign(shared + 1024 + 16, 0xff);
            emulated.blocks[b] = {threads, 0, 0};
        }
        for (int w = 0; w < threads * together / 32; w++) emulated.warps[w] = {32, 0, 0};
        for (auto &t : emulated.threads) {
            t.stack.resize(64 << 10);
            t.begun = t.ended = false;
            t.groups.assign(1, {});
            t.products.assign(1, {});
            getcontext(&t.context);
            t.context.uc_stack.ss_sp = t.stack.data();
            t.context.uc_stack.ss_size = t.stack.size();
            t.context.uc_link = nullptr;
            makecontext(&t.context, emulate_thread, 0);
        }
        for (volatile int left = threads * together; left > 0;) {
            volatile long before = emulated.moves;
            for (volatile int i = 0; i < threads * together; i = i + 1) {
                if (emulated.threads[i].ended) continue;
                emulated.now = i;
                threadIdx = {i % threads, 0};
                blockIdx = {(block + i / threads) % grid_x, (block + i / threads) / grid_x};
                if (!_setjmp(emulated.scheduling)) {
                    if (emulated.threads[i].begun) _longjmp(emulated.threads[i].at, 1);
                    emulated.threads[i].begun = true;
                    swapcontext(&emulated.scheduler, &emulated.threads[i].context);
                }
                if (emulated.threads[i].ended) left = left - 1;
            }
            if (left == 0 || emulated.moves != before) continue;
            if (emulated.fetches.empty()) {
                fprintf(stderr, "threads of a block wait for each other for ever\n");
                abort();
            }
            auto fetch = emulated.fetches.back(); // the order of arrival is nobody's promise
            emulated.fetches.pop_back();
            fetch();
        }
        if (!emulated.fetches.empty()) {
            fprintf(stderr, "a block ended before what it fetched had come\n");
            abort();
        }
    }
}

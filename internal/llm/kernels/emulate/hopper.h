// What hopper.cu uses of the card, on one processor. Tiles arrive only when no
// thread can go on without one, and the last that was asked for comes first; where
// they will lie is no number until then. Products are made when they are waited
// for.
#pragma once

#define __cluster_dims__(...)

struct uint4 { unsigned x, y, z, w; };

struct Tensor {
    const uint16_t *data;
    uint64_t rows, cols, ld;
    unsigned char rest[96];
};

static inline unsigned shared_address(const void *p) { return (unsigned)(uintptr_t)p; }
static inline unsigned cluster_rank() { return block_of(); }
static inline void cluster_sync() { wait(emulated.all); }

// BarrierState is a barrier in shared memory: who is awaited in this round, and
// twice the bytes that are awaited plus the last bit of the round.
struct BarrierState {
    int16_t members, awaited;
    int32_t bytes;
};

static inline void barrier_settle(BarrierState *b) {
    if (b->awaited == 0 && b->bytes / 2 == 0) {
        b->bytes ^= 1;
        b->awaited = b->members;
        emulated.moves++;
    }
}
static inline void barrier_init(uint64_t *bar, int arrivals) { *(BarrierState *)bar = {(int16_t)arrivals, (int16_t)arrivals, 0}; }
static inline void barriers_ready() {}
static inline void barrier_expect(uint64_t *bar, int bytes) {
    auto *b = (BarrierState *)bar;
    b->bytes += 2 * bytes;
    b->awaited--;
    barrier_settle(b);
}
static inline void *in_block(void *p, unsigned rank) {
    return shared_of(rank) + ((unsigned char *)p - shared_of(block_of()));
}
static inline void barrier_arrive(uint64_t *bar, unsigned rank) {
    auto *b = (BarrierState *)in_block(bar, rank);
    if (--b->awaited < 0) {
        fprintf(stderr, "more threads arrive at a barrier than it awaits\n");
        abort();
    }
    barrier_settle(b);
}
static inline void barrier_arrive(uint64_t *bar) { barrier_arrive(bar, block_of()); }
static inline void barrier_wait(uint64_t *bar, int parity) {
    while ((((BarrierState *)bar)->bytes & 1) == parity) next();
}

// swizzled is where a byte of a tile lies.
static inline uintptr_t swizzled(uintptr_t p) { return p ^ (p >> 7 & 7) << 4; }

static inline void fetch_to(void *to, const Tensor *t, int column, int row, uint64_t *bar) {
    if ((uintptr_t)to % 1024) {
        fprintf(stderr, "a tile begins at %p, no multiple of 1024\n", to);
        abort();
    }
    memset(to, 0xff, 128 * 128);
    emulated.fetches.push_back([=] {
        for (int r = 0; r < 128; r++)
            for (int c = 0; c < 64; c++) {
                uint64_t i = row + r, j = column + c;
                *(uint16_t *)swizzled((uintptr_t)to + r * 128 + c * 2) = i < t->rows && j < t->cols ? t->data[i * t->ld + j] : 0;
            }
        auto *b = (BarrierState *)bar;
        b->bytes -= 2 * 128 * 128;
        barrier_settle(b);
        emulated.moves++;
    });
}
static inline void fetch(void *to, const Tensor *t, int column, int row, uint64_t *bar) { fetch_to(to, t, column, row, bar); }
static inline void fetch_for_both(void *to, const Tensor *t, int column, int row, uint64_t *bar) {
    for (int block = 0; block < 2; block++) fetch_to(in_block(to, block), t, column, row, (uint64_t *)in_block(bar, block));
}

template <int N> static inline void registers_give() {}
template <int N> static inline void registers_take() {}

static inline void products_begin() {}
static inline void products_commit() { self().products.emplace_back(); }
template <int N> static inline void products_wait() {
    auto &groups = self().products;
    while ((int)groups.size() - 1 > N) {
        for (auto &make : groups.front()) make();
        groups.erase(groups.begin());
    }
}
template <int N> static inline void products_done(float (&)[N]) {}
static inline void two_warpgroups_wait() { wait(emulated.two_warpgroups); }
static inline void products_see() {}

template <typename T> static inline float of_tile(const void *tile, int row, int k) {
    return to_float(*(const T *)swizzled((uintptr_t)tile + row * 128 + k * 2));
}
template <typename T> static inline void multiply_rows(float *sum, const void *a, const void *b, int rows) {
    self().products.back().push_back([=] {
        int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
        float left[2][16];
        for (int half = 0; half < 2; half++)
            for (int k = 0; k < 16; k++) left[half][k] = of_tile<T>(a, warp * 16 + half * 8 + lane / 4, k);
        for (int j = 0; j < rows / 8; j++)
            for (int e = 0; e < 4; e++)
                for (int k = 0; k < 16; k++) sum[j * 4 + e] += left[e / 2][k] * of_tile<T>(b, j * 8 + lane % 4 * 2 + e % 2, k);
    });
}
template <typename T> static inline void multiply_tiles(T, float *sum, const void *a, const void *b) { multiply_rows<T>(sum, a, b, 256); }
template <typename T> static inline void multiply_tiles_128(T, float *sum, const void *a, const void *b) { multiply_rows<T>(sum, a, b, 128); }

struct Held { float v[2][16]; };

template <typename T> static inline void multiply_held(T, float *sum, const unsigned a[4], const void *b) {
    memcpy(self().a, a, 16);
    warp_wait();
    int lane = emulated.now % 32;
    const Thread *warp = &emulated.threads[warp_first()];
    Held left;
    for (int half = 0; half < 2; half++)
        for (int k = 0; k < 16; k++) left.v[half][k] = half_of<T>(warp[lane / 4 * 4 + k % 8 / 2].a[half + k / 8 * 2], k % 2);
    warp_wait();
    self().products.back().push_back([=] {
        for (int j = 0; j < 16; j++)
            for (int e = 0; e < 4; e++) {
                int column = j * 8 + lane % 4 * 2 + e % 2;
                for (int k = 0; k < 16; k++)
                    sum[j * 4 + e] += left.v[e / 2][k] * of_tile<T>((const char *)b + column / 64 * 16384, k, column % 64);
            }
    });
}

static inline float reciprocal(float v) { return 1 / v; }
static inline unsigned exchange(unsigned v, int mask) {
    float f;
    memcpy(&f, &v, 4);
    f = exchange(f, mask);
    memcpy(&v, &f, 4);
    return v;
}
static inline int same_in_warp(int v) { return v; }

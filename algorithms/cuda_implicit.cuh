// What both implicit matrix products share: tiles, and the pipeline through shared memory.
//   ELEMENT  what the result is stored in
//   BFLOAT   what is multiplied: 1: __nv_bfloat16, 0: __half
//   COPIES   of each operand; 2: a number is high + low, two halves, and three products are summed
//   TILE_M, TILE_N  M and N
//   BULK     1: whole tiles are copied by the copy engine of Hopper; 0: chunks by threads
//   WGMMA    1: Hopper's warpgroups multiply; 0: warps, on any GPU since Ampere
//
// A block computes M x N results. Copies run STAGES - 2 steps ahead of products, and with
// WGMMA the products of one step are still under way while the next is waited for.
#pragma once

#include "cuda_implicit_tensor.cuh"

constexpr int THREADS = 2 * TILE_M;            // warpgroups of 64 rows each
constexpr int RESIDENT = TILE_M == 64 ? 2 : 1; // blocks of a multiprocessor
constexpr int WARPS = THREADS / 32, SPREAD = THREADS / 8;
constexpr int CHUNK = 8;                                           // operands that one copy moves: 16 bytes
constexpr int STAGE_MEMORY = (WGMMA ? 205000 : 150000) / RESIDENT; // bytes for all stages
constexpr int PROMOTED = 256;    // terms after which tensor cores, which truncate, hand their sums on
constexpr int NOWHERE = 1 << 29; // no row of any image, also when taken off twice

// How a kernel is given an operand.
#if BULK
using Matrix = TensorMap;
#else
using Matrix = const uint4 *;
#endif

// INNER: rows in shared memory hold terms of the reduction side by side; else each row holds one term.
template <int M_, int N_, bool INNER_> struct Tile {
    static constexpr int M = M_, N = N_;
    static constexpr bool INNER = INNER_;
    static constexpr int DEPTH = 64 / COPIES, BYTES = (M + N) * 128; // of a step: its terms; its memory
    static constexpr int STAGES = STAGE_MEMORY / BYTES;
    static constexpr int SUMS = M * N / THREADS;
    static constexpr int HIGH = M / 64;       // warps (of a GPU before Hopper) or warpgroups down the rows
    static constexpr int BLOCK = DEPTH * 128; // 64 rows or columns of results if not INNER
};

// ---- products --------------------------------------------------------------------------------------------

// Which copies are multiplied, the small products first.
constexpr int PRODUCTS = COPIES == 2 ? 3 : 1;
__device__ __forceinline__ int left_copy(int product) { return COPIES == 2 && product == 0; }
__device__ __forceinline__ int right_copy(int product) { return COPIES == 2 && product == 1; }

#if WGMMA
// Sums of a thread are in fours: rows row and row + 8, two columns each.
template <class T> __device__ __forceinline__ int first_row(int) { return (int)threadIdx.x / 32 * 16; }
template <class T> __device__ __forceinline__ int first_col(int four) { return four * 8; }

// Where the operands of one copy and of 16 terms begin.
template <class T> __device__ __forceinline__ unsigned terms(int copy, int k, int rows) {
    return T::INNER ? copy * 64 + k * 32 : copy * (rows / 64) * T::BLOCK + k * 2048;
}

template <class T>
__device__ __forceinline__ void add_products(float (&sum)[T::SUMS], unsigned stage, bool fresh) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    const unsigned a = stage + threadIdx.x / 128 * (T::INNER ? 64 * 128 : T::BLOCK);
    const unsigned long long left = describe(a, T::BLOCK, 1024);
    const unsigned long long right = describe(stage + T::M * 128, T::BLOCK, 1024);
    begin_wgmma();
#pragma unroll
    for (int i = 0; i < PRODUCTS; ++i)
#pragma unroll
        for (int k = 0; k < T::DEPTH / 16; ++k)
            wgmma<T::N, BFLOAT, !T::INNER>(sum, left + terms<T>(left_copy(i), k, T::M) / 16,
                                           right + terms<T>(right_copy(i), k, T::N) / 16, i || k || !fresh);
    commit_wgmma();
#endif
}
template <class T, int PENDING> __device__ __forceinline__ void finish(float (&sum)[T::SUMS]) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    wait_for_wgmma<PENDING>();
    if (PENDING == 0)
        settle(sum);
#endif
}
#else
template <class T>
constexpr int FOURS = T::N / (WARPS / T::HIGH) / 8; // along the columns of a warp, of 64 rows

template <class T> __device__ __forceinline__ int first_row(int four) {
    return (int)threadIdx.x / 32 % T::HIGH * 64 + four / FOURS<T> * 16;
}
template <class T> __device__ __forceinline__ int first_col(int four) {
    return ((int)threadIdx.x / 32 / T::HIGH * FOURS<T> + four % FOURS<T>)*8;
}

// 16 rows (or columns) of results from `first` on and 16 terms from 16 k on, as the lanes hold them: either
// 8 results and then 8 more for 8 terms, and again; or the terms first.
template <class T, bool RESULTS_FIRST>
__device__ __forceinline__ void fetch(unsigned (&to)[4], unsigned from, int first, int k, int copy, int all) {
    const int lane = threadIdx.x % 32, one = lane / 8 % 2, two = lane / 16;
    const int result = first + (RESULTS_FIRST ? one : two) * 8,
              term = 16 * k + (RESULTS_FIRST ? two : one) * 8;
    if (T::INNER) {
        const int row = result + lane % 8, chunk = copy * (T::DEPTH / 8) + term / 8;
        load_matrices<false>(to, from + row * 128 + ((chunk ^ row % 8) << 4));
    } else {
        const int row = term + lane % 8, chunk = result / 8 % 8, block = copy * (all / 64) + result / 64;
        load_matrices<true>(to, from + block * T::BLOCK + row * 128 + ((chunk ^ row % 8) << 4));
    }
}

template <class T>
__device__ __forceinline__ void add_products(float (&sum)[T::SUMS], unsigned stage, bool fresh) {
    if (fresh)
#pragma unroll
        for (int i = 0; i < T::SUMS; ++i)
            sum[i] = 0;
#pragma unroll
    for (int product = 0; product < PRODUCTS; ++product)
#pragma unroll
        for (int k = 0; k < T::DEPTH / 16; ++k) {
            unsigned a[4][4], b[4];
#pragma unroll
            for (int i = 0; i < 4; ++i)
                fetch<T, true>(a[i], stage, first_row<T>(i * FOURS<T>), k, left_copy(product), T::M);
#pragma unroll
            for (int j = 0; j < FOURS<T>; j += 2) {
                fetch<T, false>(b, stage + T::M * 128, first_col<T>(j), k, right_copy(product), T::N);
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    float *four = sum + (i * FOURS<T> + j) * 4;
                    mma<BFLOAT>(four, a[i], b[0], b[1]);
                    mma<BFLOAT>(four + 4, a[i], b[2], b[3]);
                }
            }
        }
}
template <class T, int PENDING> __device__ __forceinline__ void finish(float (&)[T::SUMS]) {}
#endif

// ---- the pipeline ----------------------------------------------------------------------------------------

// load.copy(step, slot, stage) starts the copies of a step; load.announce(step) is called, and a barrier
// passed, before that. load.wait<PENDING>(slot, round) waits for all but the last steps' copies.
template <class T, class Load>
__device__ __forceinline__ void reduce(float (&sum)[T::SUMS], Load &load, unsigned stages, int steps) {
    constexpr int AHEAD = T::STAGES - 2, LONG = PROMOTED / T::DEPTH;
    float total[T::SUMS];
#pragma unroll
    for (int i = 0; i < T::SUMS; ++i)
        total[i] = 0;
    for (int step = 0; step < AHEAD; ++step) {
        load.announce(step);
        __syncthreads();
        load.copy(step, step, stages + step * T::BYTES, step < steps);
    }
    load.announce(AHEAD);
    int now = 0, next = AHEAD, round = 0;
    bool fresh = true;
    for (int step = 0; step < steps; ++step) {
        load.template wait<AHEAD - 1>(now, round);
        __syncthreads();
        add_products<T>(sum, stages + now * T::BYTES, fresh);
        load.copy(step + AHEAD, next, stages + next * T::BYTES, step + AHEAD < steps);
        load.announce(step + AHEAD + 1);
        if (++now == T::STAGES)
            now = 0, round ^= 1;
        next = next + 1 == T::STAGES ? 0 : next + 1;
        fresh = COPIES == 2 && (step % LONG == LONG - 1 || step + 1 == steps);
        if (fresh) {
            finish<T, 0>(sum);
#pragma unroll
            for (int i = 0; i < T::SUMS; ++i)
                total[i] += sum[i];
        } else {
            finish<T, 1>(sum);
        }
    }
    finish<T, 0>(sum);
    if (COPIES == 2 || steps <= 0)
#pragma unroll
        for (int i = 0; i < T::SUMS; ++i)
            sum[i] = total[i];
    __syncthreads();
}

// What loads that copy chunk by chunk have in common.
struct Chunks {
    template <int PENDING> __device__ __forceinline__ void wait(int, int) const {
        wait_for_copies<PENDING>();
        if (WGMMA)
            show_copies();
    }
};

// What loads that copy in bulk have in common: a barrier for each stage.
struct Bulk {
    unsigned barriers;

    template <int PENDING> __device__ __forceinline__ void wait(int slot, int round) const {
        wait_for_bytes(barriers + 8 * slot, round);
    }
    __device__ __forceinline__ void announce(int) {}
};

__device__ __forceinline__ void make_barriers(unsigned barriers, int count) {
    if (threadIdx.x == 0) {
        for (int i = 0; i < count; ++i)
            init_arrivals(barriers + 8 * i);
        show_barriers();
    }
    __syncthreads();
}

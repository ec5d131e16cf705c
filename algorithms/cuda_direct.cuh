// What the kernels of direct convolution share: the shape, an axis as a kernel walks it, tiles, results.
//   ELEMENT  what tensors are stored in; sums are formed in Real
//   NHWC     1: x is NHWC, w KRSC, y NPQK; 0: x is NCHW, w KCRS, y NKPQ
#pragma once

#include "gpu.cuh"

using Scalar = ELEMENT;
using Real = Sum<Scalar>::type;

constexpr int THREADS = 256;                         // of a block, unless a tile says otherwise
constexpr int RESIDENT = sizeof(Real) == 8 ? 1 : 2;  // blocks that a multiprocessor holds
constexpr int DEPTH = 8;                             // terms of the reduction that one step of a tile adds
constexpr int NOWHERE = 1 << 29;                     // no row of any image, also when taken off twice

// One spatial axis. `coarse` is stride / gcd(stride, dilation): every coarse-th tap meets pixels of one
// phase.
struct Axis {
    int x, y, taps, pad, stride, dilation, coarse;
};

// One convolution; c and k are channels of one group. Then what a launch adds:
//   row_tiles, pixel_tiles  blocks along the rows and the columns of a matrix product
//   images, run             whose pixels of one row follow one another, `run` at a time (0: the whole row)
//   packed                  the reduction follows NHWC filters: (tap, channel)
//   wide_out                four neighbouring results may be written at once; in cells, two
//   cuts, cut               blocks that share a reduction, numbers from one part of the results to the next
//   fours                   1: four neighbouring pixels lie beside each other and meet the same taps;
//                           2: so do four neighbouring filters
//   cells                   only phase 0 of the stride has taps: its blocks write the other phases' zeros too
//   filter                  taps; term_step, row_step: in the filters, from a summed and from a computed
//   channel to
//                           the next
struct Shape {
    int n, groups, c, k, flip;
    Axis rows, cols;
    int row_tiles, pixel_tiles, images, run, packed, wide_out, filter, term_step, row_step;
    int fours, cells, cuts;
    long long cut;
};

// Neighbours of an image on their way: as words, since taking them apart would wait for them.
template <int COUNT>
struct alignas(COUNT * sizeof(Scalar)) Side {
    unsigned words[COUNT * sizeof(Scalar) / 4];
    __device__ __forceinline__ Scalar get(int i) const { return reinterpret_cast<const Scalar *>(words)[i]; }
};
template <>
struct Side<1> {
    Scalar at[1];
    __device__ __forceinline__ Scalar get(int) const { return at[0]; }
};

// ---- axes ------------------------------------------------------------------------------------------------

// Results first + i * every, i < count, read pixels i * step + start + t * dilation (if 0 <= pixel < size)
// and multiply them with the stored taps tap + t * tap_step, t < taps.
struct Walk {
    int first, every, count, step, start, dilation, taps, tap, tap_step, size;
};

__device__ __forceinline__ Walk forward(const Axis &a, int flip) {
    return {0, 1, a.y, a.stride, -a.pad, a.dilation, a.taps, flip ? a.taps - 1 : 0, flip ? -1 : 1, a.x};
}

// The gradient of the pixels of x that leave the remainder `phase` when divided by the stride: a convolution
// of stride 1 over y with the few taps that meet them, from the last to the first.
__device__ __forceinline__ Walk backward(const Axis &a, int flip, int phase) {
    int tap = 0;
    while (tap < a.coarse && (phase + a.pad - tap * a.dilation) % a.stride)
        ++tap;
    const int taps = tap < a.coarse && tap < a.taps ? (a.taps - 1 - tap) / a.coarse + 1 : 0;
    const int last = tap + (taps - 1) * a.coarse;
    Walk walk = {phase, a.stride, (a.x - phase + a.stride - 1) / a.stride, 1};
    walk.start = (phase + a.pad - last * a.dilation) / a.stride;
    walk.dilation = a.dilation * a.coarse / a.stride;
    walk.taps = taps;
    walk.tap = flip ? a.taps - 1 - last : last;
    walk.tap_step = flip ? a.coarse : -a.coarse;
    walk.size = a.y;
    return walk;
}

// Phases of an axis, and the i-th of them: those that most taps meet come first, where that is easily said.
__device__ __forceinline__ int phases(const Axis &a) { return min(a.stride, a.x); }
__device__ __forceinline__ int phase(const Axis &a, int i) {
    const bool each = a.coarse == a.stride && a.stride <= a.x;  // tap i meets a phase of its own
    return each ? ((i * a.dilation - a.pad) % a.stride + a.stride) % a.stride : i;
}

// Both axes of a block's results; for gradients of x, `block` loses the phase it stands for.
template <bool GRADIENT>
__device__ __forceinline__ void walk(const Shape &s, unsigned &block, Walk &rows, Walk &cols) {
    if (GRADIENT) {
        const int row_phases = min(s.rows.stride, s.rows.x), col_phases = min(s.cols.stride, s.cols.x);
        rows = backward(s.rows, s.flip, block % row_phases);
        block /= row_phases;
        cols = backward(s.cols, s.flip, block % col_phases);
        block /= col_phases;
    } else {
        rows = forward(s.rows, s.flip);
        cols = forward(s.cols, s.flip);
    }
}

// Elements of a tensor from an image, a pixel and a channel to the next one.
struct Steps {
    long long image;
    int pixel, channel;

    __device__ __forceinline__ Steps(int channels, int plane)
        : image((long long)channels * plane), pixel(NHWC ? channels : 1), channel(NHWC ? 1 : plane) {}
};

// ---- tiles -----------------------------------------------------------------------------------------------

// An M x N tile of a matrix product: WARPS warps of 4 x 8 lanes, ROWS x COLS results a lane.
template <int ROWS_, int COLS_, int WARP_ROWS, int WARPS_ = 8>
struct Tile {
    static constexpr int ROWS = ROWS_, COLS = COLS_, WARPS = WARPS_, SIZE = 32 * WARPS;  // SIZE threads
    static constexpr int M = ROWS * 4 * WARP_ROWS, N = COLS * 8 * (WARPS / WARP_ROWS);
    // Elements that a thread moves in a step, and that a vector load from shared memory reads.
    static constexpr int A = M * DEPTH / SIZE, B = N * DEPTH / SIZE;
    static constexpr int VA = sizeof(Real) == 8 || ROWS % 4 ? 2 : 4;
    static constexpr int VB = sizeof(Real) == 8 || COLS % 4 ? 2 : 4;

    // Blocks that a multiprocessor holds.
    static constexpr int BLOCKS = sizeof(Real) == 8                ? 1
                                  : WARPS == 8 || ROWS * COLS > 64 ? 2
                                  : ROWS * COLS > 32               ? 3
                                                                   : 4;

    static constexpr int THREE = sizeof(Real) == 8 ? 1 : 3;  // where a kernel can do with so few registers

    // Lanes lie so that among any four two read one address: a warp's vector load then takes half the time.
    static __device__ __forceinline__ int row(int i, int thread) {
        const int warp = thread / 32 % WARP_ROWS, lane = thread % 32, along = (lane & 1) | (lane >> 4) << 1;
        return warp * 4 * ROWS + (i / VA) * 4 * VA + along * VA + i % VA;
    }
    static __device__ __forceinline__ int col(int j, int thread) {
        const int warp = thread / 32 / WARP_ROWS, lane = thread % 32;
        return warp * 8 * COLS + (j / VB) * 8 * VB + (lane >> 1 & 7) * VB + j % VB;
    }
};

// Fewer warps of twice as many results a lane load less for a product; doubles have no room for it.
constexpr int TWICE = sizeof(Real) == 8 ? 1 : 2;
using Tile128x128 = Tile<8 * TWICE, 8, 4 / TWICE, 8 / TWICE>;
using Tile96x128 = Tile<6 * TWICE, 8, 4 / TWICE, 8 / TWICE>;
using Tile64x256 = Tile<8 * TWICE, 8, 2 / TWICE, 8 / TWICE>;
using Tile64x128 = Tile<8, 4 * TWICE, 2, 8 / TWICE>;
using Tile64x64 = Tile<4 * TWICE, 4, 4 / TWICE, 8 / TWICE>;
using Tile32x256 = Tile<8, 4 * TWICE, 1, 8 / TWICE>;
using Tile32x128 = Tile<4 * TWICE, 4, 2 / TWICE, 8 / TWICE>;

// Both operands of one step; 4 more than a row, so that stores down a column meet different banks.
template <class T>
struct Stage {
    alignas(16) Real a[DEPTH][T::M + 4];
    alignas(16) Real b[DEPTH][T::N + 4];
};

// What a lane multiplies for one term.
template <class T>
struct Fragment {
    Pack<Real, T::VA> left[T::ROWS / T::VA];
    Pack<Real, T::VB> right[T::COLS / T::VB];

    __device__ __forceinline__ void fetch(const Stage<T> &stage, int k, int thread) {
        const Real *a = &stage.a[k][T::row(0, thread)], *b = &stage.b[k][T::col(0, thread)];
#pragma unroll
        for (int i = 0; i < T::ROWS / T::VA; ++i)
            left[i] = load_pack<T::VA>(a + i * 4 * T::VA);
#pragma unroll
        for (int j = 0; j < T::COLS / T::VB; ++j)
            right[j] = load_pack<T::VB>(b + j * 8 * T::VB);
    }

    __device__ __forceinline__ void multiply(Real (&sum)[T::ROWS][T::COLS]) const {
#pragma unroll
        for (int i = 0; i < T::ROWS; ++i)
#pragma unroll
            for (int j = 0; j < T::COLS; ++j)
                sum[i][j] += left[i / T::VA].at[i % T::VA] * right[j / T::VB].at[j % T::VB];
    }
};

// Copy one element to shared memory, or clear it there, without waiting.
template <class E>
__device__ __forceinline__ void copy_async(E *to, const E *from, bool real) {
#ifdef __CUDA_ARCH__
    const unsigned place = __cvta_generic_to_shared(to);
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(place), "l"(from), "n"(sizeof(E)),
                 "r"(real ? unsigned(sizeof(E)) : 0u));
#else
    *to = real ? *from : E(0);
#endif
}

// The same of four neighbours.
__device__ __forceinline__ void copy_four(float *to, const float *from, bool real) {
#ifdef __CUDA_ARCH__
    const unsigned place = __cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(place), "l"(from),
                 "r"(real ? 16u : 0u));
#else
    for (int i = 0; i < 4; ++i)
        to[i] = real ? from[i] : 0;
#endif
}

// Wait for all copies of this thread.
__device__ __forceinline__ void copied() {
#ifdef __CUDA_ARCH__
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// Bring one element to shared memory: at once, or by way of `aside` where it has to be widened.
template <bool ASYNC, class To>
__device__ __forceinline__ void bring(To &to, Scalar &aside, const Scalar *from, bool real) {
    if constexpr (ASYNC)
        copy_async(&to, from, real);
    else
        aside = real ? *from : Scalar(0);
}

// Add up steps from `now` to `stop`; the first one's operands are in `stages`, those for its first term in
// `terms`. While a step is multiplied the next one is loaded, also beyond the last.
template <class T, class Loader>
__device__ __forceinline__ void add_steps(Real (&sum)[T::ROWS][T::COLS], Fragment<T> (&terms)[2],
                                          Stage<T> *stages, Loader &loader, int &now, int stop) {
    for (; now < stop; ++now) {
        const Stage<T> &stage = stages[now & 1];
        Stage<T> &next = stages[(now & 1) ^ 1];
        loader.load(next);
#pragma unroll
        for (int k = 0; k < DEPTH; ++k) {
            if (k == DEPTH - 1) {
                loader.store(next);
                __syncthreads();
            }
            terms[(k + 1) & 1].fetch(k == DEPTH - 1 ? next : stage, (k + 1) % DEPTH, threadIdx.x);
            terms[k & 1].multiply(sum);
        }
    }
}

// The same value; what follows from it is computed here, not kept in registers through the loop before.
__device__ __forceinline__ int late(int value) {
    asm volatile("" : "+r"(value));
    return value;
}

// The same value, on which all lanes agree: it then takes a register of the warp and arithmetic of its own.
__device__ __forceinline__ int uniform(int value) {
#ifdef __CUDA_ARCH__
    return __reduce_or_sync(0xffffffff, value);
#else
    return value;
#endif
}

// ---- results ---------------------------------------------------------------------------------------------

// Write results that lie side by side, `valid` of them; or add them to what is there (never in 16 bits).
template <int V, class Out>
__device__ __forceinline__ void put(Out *to, const Pack<Real, V> &results, int valid, bool wide, bool more) {
    const bool add = more && sizeof(Out) > 2;
    if (wide && V > 1) {
        if (valid <= 0)
            return;
        Pack<Out, V> stored;
        if (add)
            stored = load_pack<V>(to);
#pragma unroll
        for (int i = 0; i < V; ++i)
            stored.at[i] = narrow<Out>(add ? results.at[i] + widen(stored.at[i]) : results.at[i]);
        store_pack(to, stored);
    } else {
#pragma unroll
        for (int i = 0; i < V; ++i)
            if (i < valid)
                to[i] = narrow<Out>(add ? results.at[i] + widen(to[i]) : results.at[i]);
    }
}

// Gradients of filters, of 16-bit nhwc tensors as they are: dy times shifted x, as a stream of tiles.
//
// Reduction  64 positions in the order of dy a stage: blocks of 64 channels, of dy and of windows of x. Where rows
//            are longer than those of y, dy is zero.
//            After LONGEST stages sums are handed on to memory, since tensor cores truncate when they add.
// Mapping    A tile is M filters of a group times N columns: 64 channels of x under the taps of a window, one window
//            after the other. Items are tiles of one part of the positions; those of the same follow one another.
// Results    Sums in fp32 [part][result], or numbers as they are stored.
#include "cuda_implicit_stream.cuh"

struct Axis {
    int x, y, taps, pad, stride, dilation;
};

//   outputs, channels  of a group
//   *_tiles, tiles     along both sides of the product; of all groups
//   parts, length      of the positions; stages of each
//   positions, results in rows of cols.y; numbers of dw
struct Shape {
    int outputs, channels, row_tiles, col_tiles, tiles, parts, length, flip;
    long long positions, results;
    Axis rows, cols;
};

#if SUITED
constexpr int WINDOWS = TILE_N / 64 / TAPS, WINDOW = (64 + SPARE) * 128;
constexpr int STAGE = LEFT + WINDOWS * WINDOW, STAGES = MEMORY / STAGE, LONGEST = 256;
using Stages = Ring<STAGES, STAGE>;
static_assert(TAPS == 1 || WINDOWS == SIDES);
static_assert(STAGES * (STAGE + 16) <= MEMORY);

struct Place {
    int m0, window, group, part, steps;
    long long position;

    __device__ __forceinline__ Place(const Shape &s, unsigned item) {
        part = item / s.tiles;
        item %= s.tiles;
        m0 = item % s.row_tiles * TILE_M;
        item /= s.row_tiles;
        window = item % s.col_tiles * WINDOWS;
        group = item / s.col_tiles;
        position = (long long)part * s.length * TERMS;
        const long long left = (s.positions - position + TERMS - 1) / TERMS;
        steps = int(max(0ll, min(left, (long long)s.length)));
    }
};

// 64 channels under the first of its taps, counted along the image.
struct Window {
    int channel, row, col;

    __device__ __forceinline__ Window(const Shape &s, int index) {
        const int blocks = s.channels / 64, across = (s.cols.taps + TAPS - 1) / TAPS;
        channel = index % blocks * 64;
        index /= blocks;
        row = index / across, col = index % across * TAPS;
    }
    static __device__ __forceinline__ int count(const Shape &s) {
        return s.channels / 64 * ((s.cols.taps + TAPS - 1) / TAPS) * s.rows.taps;
    }
};

// ---- copies: by one warp ---------------------------------------------------------------------------------

// A position, counted on.
struct Position {
    int n, p, q;

    __device__ __forceinline__ Position(const Shape &s, long long position) {
        const unsigned plane = s.rows.y * s.cols.y, inside = position % plane;
        n = position / plane, p = inside / s.cols.y, q = inside % s.cols.y;
    }
    __device__ __forceinline__ void advance(const Shape &s) {
        for (q += TERMS; q >= s.cols.y; q -= s.cols.y)
            if (++p == s.rows.y)
                p = 0, ++n;
    }
};

// Each lane copies one block of every stage.
__device__ __forceinline__ void copy_tiles(Stages ring, const TensorMap &x, const TensorMap &y, const Shape &s) {
    const int lane = threadIdx.x % 32, block = lane - TILE_M / 64;
    for (unsigned item = blockIdx.x; item < s.tiles * s.parts; item += gridDim.x) {
        const Place place(s, item);
        const int count = min(Window::count(s) - place.window, WINDOWS);
        const Window window(s, place.window + max(block, 0));
        Position at(s, place.position);
        for (int step = 0; step < place.steps; ++step, ring.next(), at.advance(s)) {
            wait_until_empty(ring.emptied(), ring.phase);
            const unsigned stage = ring.stage(), full = ring.full();
            if (block < 0)
                copy_pixels(stage + lane * BLOCK, y, place.group * s.outputs + place.m0 + lane * 64, at.q, at.p, at.n,
                              0, 0, full);
            else if (block < count)
                copy_pixels(stage + LEFT + block * WINDOW, x, place.group * s.channels + window.channel,
                              at.q * s.cols.stride - s.cols.pad, at.p * s.rows.stride - s.rows.pad, at.n,
                              window.col * s.cols.dilation, window.row * s.rows.dilation, full);
            __syncwarp();
            if (lane == 0)
                fill_bytes(full, LEFT + count * WINDOW);
        }
    }
}

// ---- products --------------------------------------------------------------------------------------------

// The columns of a tap are found a pixel further on than those of the tap before.
struct Steps : OneAStage {
    int columns; // bytes from 64 columns to the next

    __device__ __forceinline__ unsigned long long left(unsigned stage) const {
        return describe(stage + upper() * BLOCK, BLOCK, 1024);
    }
    __device__ __forceinline__ unsigned long long right(unsigned stage) const {
        return describe(stage + LEFT + side() * (WINDOWS / SIDES) * WINDOW, columns, 1024);
    }
};

// ---- results ---------------------------------------------------------------------------------------------

// Where the first of 64 columns is in a filter, or -1.
__device__ __forceinline__ int locate(const Shape &s, const Place &place, int block) {
    const int index = place.window + block / TAPS;
    const Window window(s, index);
    const int tap = window.col + block % TAPS;
    if (index >= Window::count(s) || tap >= s.cols.taps)
        return -1;
    const int row = s.flip ? s.rows.taps - 1 - window.row : window.row, col = s.flip ? s.cols.taps - 1 - tap : tap;
    return (row * s.cols.taps + col) * s.channels + window.channel;
}

constexpr int BATCH = 8; // pairs that a thread waits for at once

template <class Out>
__device__ __forceinline__ void store(Out *out, const float (&sum)[SUMS], const Shape &s, const Place &place,
                                      bool more) {
    const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    const long long width = (long long)s.rows.taps * s.cols.taps * s.channels;
    const int row = place.m0 + upper() * 64 + warp * 16 + lane / 4;
    out += (place.group * s.outputs + row) * width + lane % 4 * 2;
#pragma unroll
    for (int block = 0; block < COLS / 64; ++block) {
        const int column = locate(s, place, side() * (COLS / 64) + block);
        if (column < 0)
            continue;
#pragma unroll
        for (int down = 0; down < 2; ++down) {
            if (row + down * 8 >= s.outputs)
                continue;
            Out *to = out + down * 8 * width + column;
            const float *from = sum + block * 32 + down * 2;
            Pack<Out, 2> pairs[BATCH] = {};
            if (more)
#pragma unroll
                for (int i = 0; i < BATCH; ++i)
                    pairs[i] = load_pack<2>(to + i * 8);
#pragma unroll
            for (int i = 0; i < BATCH; ++i) {
#pragma unroll
                for (int j = 0; j < 2; ++j)
                    pairs[i].at[j] = from_float<Out>(from[i * 4 + j] + (more ? to_float(pairs[i].at[j]) : 0.0f));
                store_pack(to + i * 8, pairs[i]);
            }
        }
    }
}

__device__ __forceinline__ void work(Stages ring, ELEMENT *out, float *partial, const Shape &s) {
    const Steps steps = {{}, TAPS == 1 ? WINDOW : s.cols.dilation * 128};
    for (unsigned item = blockIdx.x; item < s.tiles * s.parts; item += gridDim.x) {
        const Place place(s, item);
        for (int step = 0; step < place.steps; step += LONGEST) {
            float sum[SUMS];
            multiply_steps<true, true>(sum, ring, min(LONGEST, place.steps - step), steps);
            if (partial)
                store(partial + place.part * s.results, sum, s, place, step > 0);
            else
                store(out, sum, s, place, false);
        }
    }
}
#endif // SUITED

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    stream_tiles(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap y, ELEMENT *out, float *partial,
                 const __grid_constant__ Shape shape) {
#if SUITED
    extern __shared__ uint4 shared[];
    const unsigned stages = (shared_address(shared) + 1023) / 1024 * 1024;
    const Stages ring = {stages, stages + STAGES * STAGE};
    make_barriers(ring);
    if (threadIdx.x >= WORKERS) {
        keep_registers<40>();
        if (threadIdx.x < WORKERS + 32)
            copy_tiles(ring, x, y, shape);
    } else {
        take_registers<REGISTERS>();
        work(ring, out, partial, shape);
    }
#endif
}

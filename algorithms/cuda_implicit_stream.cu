// Forward, and gradients of x, of 16-bit nhwc tensors as they are: filters times pixels, as a stream of tiles.
//
// Reduction  64 channels of TAPS taps of a row a stage. Whole tiles are copied; where taps leave the image there are
//            zeros.
// Mapping    A tile is M outputs of a group times N pixels. Tiles of the same pixels follow one another.
// Results    become rows of 64 channels in shared memory, from where the copy engine writes them, or threads do where
//            some are dropped.
//   TURNED  1: filters are stored as [summed][tap][computed], 0: as [computed][tap][summed]
#include "cuda_implicit_stream.cuh"
#include "cuda_implicit_walk.cuh"

//   outputs, depth  of a group: channels computed; channels summed
//   *_tiles, tiles  along both sides of the product; of all groups
//   stored_cols     taps of a filter in one row
//   width           of the result, whose rows may be shorter than those that positions run along
//   groups, pixels  of channels; of the result
struct Shape {
    int outputs, depth, row_tiles, pixel_tiles, tiles, stored_cols, width, groups;
    long long pixels;
    Walk rows, cols;
};

#if SUITED
constexpr int STORED = COLS % 64 ? 32 : 64; // pixels written at once
constexpr int BUFFER = STORED * 128;        // a warpgroup has two
constexpr int BUFFERS = WORKERS / 128 * 2 * BUFFER;
constexpr int FILTERS = TAPS * LEFT, STAGE = FILTERS + (TILE_N + SPARE) * 128;
constexpr int STAGES = (MEMORY - BUFFERS) / STAGE;
using Stages = Ring<STAGES, STAGE>;
static_assert(STAGES * (STAGE + 16) + BUFFERS <= MEMORY);

struct Place {
    int m0, group;
    unsigned pixel;

    __device__ __forceinline__ Place(const Shape &s, unsigned tile) {
        m0 = tile % s.row_tiles * TILE_M;
        tile /= s.row_tiles;
        pixel = tile % s.pixel_tiles * TILE_N;
        group = tile / s.pixel_tiles;
    }
};

// ---- copies: by one warp ---------------------------------------------------------------------------------

// Where pixel `index` lies for the first tap.
struct Corner {
    int w, h, n;

    __device__ __forceinline__ Corner(const Walk &rows, const Walk &cols, unsigned index) {
        const unsigned line = index / cols.count;
        w = index % cols.count * cols.step + cols.start + lowest(cols);
        h = line % rows.count * rows.step + rows.start + lowest(rows), n = line / rows.count;
    }
};

// Of one tap. Where filters are turned, rows of 64 outputs a channel, block by block.
__device__ __forceinline__ void copy_filters(unsigned to, const TensorMap &map, const Shape &s, const Place &place,
                                             int tap, int c, unsigned barrier) {
    constexpr int COUNT = TURNED ? TILE_M / 64 : 1;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        const int x = TURNED ? tap * s.outputs + place.m0 + i * 64 : tap * s.depth + c;
        const int y = TURNED ? place.group * s.depth + c : place.group * s.outputs + place.m0;
        copy_box(to + i * BLOCK, map, x, y, barrier);
    }
}

// Taps of a row that one window serves: from `first` on, and the first position that they meet.
struct Window {
    int first, count, low;

    __device__ __forceinline__ Window(const Walk &cols, int first) : first(first), count(min(TAPS, cols.taps - first)) {
        low = first * cols.dilation + min(0, (count - 1) * cols.dilation);
    }
    __device__ __forceinline__ int shift(const Walk &cols, int tap) const {
        return (first + tap) * cols.dilation - low;
    }
};

__device__ __forceinline__ void copy_tiles(Stages ring, const TensorMap &image, const TensorMap &filter,
                                           const Shape &s) {
    const Walk &rows = s.rows, &cols = s.cols;
    for (unsigned tile = blockIdx.x; tile < s.tiles; tile += gridDim.x) {
        const Place place(s, tile);
        const Corner corner(rows, cols, place.pixel);
        for (int i = 0; i < rows.taps; ++i)
            for (int l = 0; l < cols.taps; l += TAPS) {
                const Window window(cols, l);
                const int tap = (rows.tap + i * rows.tap_step) * s.stored_cols + cols.tap + l * cols.tap_step;
                const int down = i * rows.dilation - lowest(rows), right = window.low - lowest(cols);
                for (int c = 0; c < s.depth; c += TERMS, ring.next()) {
                    wait_until_empty(ring.emptied(), ring.phase);
                    if (threadIdx.x % 32)
                        continue;
                    const unsigned stage = ring.stage(), to = stage + FILTERS, full = ring.full();
                    const int channel = place.group * s.depth + c;
                    fill_bytes(full, STAGE - (TAPS - window.count) * LEFT);
                    for (int j = 0; j < window.count; ++j)
                        copy_filters(stage + j * LEFT, filter, s, place, tap + j * cols.tap_step, c, full);
                    copy_pixels(to, image, channel, corner.w, corner.h, corner.n, right, down, full);
                }
            }
    }
}

// ---- products --------------------------------------------------------------------------------------------

// The taps of a window, of one block of channels after the other, window by window.
struct Steps {
    const Walk &cols;
    int blocks, block = 0, tap = 0;
    Window window;

    __device__ __forceinline__ explicit Steps(const Shape &s) : cols(s.cols), blocks(s.depth / TERMS), window(cols, 0) {}
    __device__ __forceinline__ unsigned long long left(unsigned stage) const {
        return describe(stage + tap * LEFT + upper() * BLOCK, BLOCK, 1024);
    }
    __device__ __forceinline__ unsigned long long right(unsigned stage) const {
        const int shift = TAPS == 1 ? 0 : window.shift(cols, tap);
        return describe(stage + FILTERS + (side() * COLS + shift) * 128, 0, 1024);
    }
    __device__ __forceinline__ bool first() const { return TAPS == 1 || tap == 0; }
    __device__ __forceinline__ bool last() const { return TAPS == 1 || tap == window.count - 1; }
    __device__ __forceinline__ void next() {
        if (TAPS == 1 || ++tap < window.count)
            return;
        tap = 0;
        if (++block < blocks)
            return;
        block = 0;
        const int first = window.first + TAPS;
        window = Window(cols, first < cols.taps ? first : 0);
    }
};

// ---- results ---------------------------------------------------------------------------------------------

// 16 filters of a warp by 16 pixels from sum[0] on, to rows of pixels.
__device__ __forceinline__ void keep_pixels(unsigned buffer, const float *sum, int pixel) {
    const int lane = threadIdx.x % 32, row = pixel + lane / 16 * 8 + lane % 8;
    const int chunk = threadIdx.x / 32 % 4 * 2 + lane / 8 % 2;
    const unsigned four[4] = {pair(sum[0], sum[1]), pair(sum[2], sum[3]), pair(sum[4], sum[5]), pair(sum[6], sum[7])};
    store_matrices(buffer + row * 128 + ((chunk ^ row % 8) << 4), four);
}

// Pixels of a buffer to where they belong: by a warpgroup, 16 bytes a thread at a time.
__device__ __forceinline__ void put_pixels(ELEMENT *out, const char *buffer, const Shape &s, int channel, int group,
                                           unsigned first) {
    const int chunk = threadIdx.x % 8;
    if (channel + chunk * 8 >= s.outputs)
        return;
#pragma unroll
    for (int i = 0; i < STORED / 16; ++i) {
        const int row = i * 16 + threadIdx.x % 128 / 8;
        const unsigned position = first + row, line = position / s.cols.count, col = position % s.cols.count;
        const long long pixel = (long long)line * s.width + col;
        if (col < s.width && pixel < s.pixels)
            *(uint4 *)(out + (pixel * s.groups + group) * s.outputs + channel + chunk * 8) =
                *(const uint4 *)(buffer + row * 128 + ((chunk ^ row % 8) << 4));
    }
}

// By a warpgroup; its two buffers take turns.
__device__ __forceinline__ void store(const float (&sum)[SUMS], const char *shared, const TensorMap &out,
                                      ELEMENT *result, const Shape &s, const Place &place) {
    const int channel = place.m0 + upper() * 64;
    const unsigned first = place.pixel + side() * COLS;
    if (channel >= s.outputs)
        return;
    shared += threadIdx.x / 128 * 2 * BUFFER;
#pragma unroll
    for (int at = 0; at < COLS; at += STORED) {
        const char *buffer = shared + at / STORED % 2 * BUFFER;
        if (TAPS == 1 && threadIdx.x % 128 == 0) {
            if (at == 0)
                wait_for_stores<0>(); // of the tile before, long ago
            else
                wait_for_stores<1>();
        }
        meet_warpgroup();
#pragma unroll
        for (int i = 0; i < STORED; i += 16)
            keep_pixels(shared_address(buffer), sum + (at + i) / 2, i);
        if (TAPS == 1)
            show_copies();
        meet_warpgroup();
        if (TAPS > 1)
            put_pixels(result, buffer, s, channel, place.group, first + at);
        else if (threadIdx.x % 128 == 0)
            store_box(out, shared_address(buffer), channel, first + at, place.group);
    }
}

__device__ __forceinline__ void work(Stages ring, const char *buffers, const TensorMap &out, ELEMENT *result,
                                     const Shape &s) {
    const int steps = s.rows.taps * s.cols.taps * (s.depth / TERMS);
    for (unsigned tile = blockIdx.x; tile < s.tiles; tile += gridDim.x) {
        float sum[SUMS];
        multiply_steps<false, TURNED>(sum, ring, steps, Steps(s));
        store(sum, buffers, out, result, s, Place(s, tile));
    }
    wait_for_stores<0>();
}
#endif // SUITED

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    stream_tiles(const __grid_constant__ TensorMap image, const __grid_constant__ TensorMap filter,
                 const __grid_constant__ TensorMap out, ELEMENT *result, const __grid_constant__ Shape shape) {
#if SUITED
    extern __shared__ uint4 shared[];
    const char *stages = (char *)shared + (1024 - shared_address(shared) % 1024) % 1024;
    const char *buffers = stages + STAGES * STAGE;
    const Stages ring = {shared_address(stages), shared_address(buffers) + BUFFERS};
    make_barriers(ring);
    if (threadIdx.x >= WORKERS) {
        keep_registers<40>();
        if (threadIdx.x < WORKERS + 32)
            copy_tiles(ring, image, filter, shape);
    } else {
        take_registers<REGISTERS>();
        work(ring, buffers, out, result, shape);
    }
#endif
}

// Powers of two for both operands of our own products, from the largest values there; cuda_winograd_scales.cuh
// has what the library's products need.
//
//   channel_keys, tile_keys   the largest values of both operands, by key
//   key_scales                the powers of two
//
// Scales   A key is what products sum over: a channel, or in backward-filter a tile. The left factors of a key (of
//          filters or of dy) are scaled to the range of fp16 and the others by the opposite, so that a key which is
//          tiny in one and huge in the other meets in the middle; the latter also by what brings the largest of
//          all keys of a step into range, and that the products undo. Zeros get the scale 0; infinities become NaN.
// Memory   A block leaves its maxima in a slot of their own: nothing has to be cleared, and no order matters.
// Macros   ELEMENT, STEP (m), TAPS (r), POINTS (the finite ones).

#include "cuda_winograd_scales.cuh"

constexpr int SIDE = 32, ROWS = 8; // of a block; SIDE keys are a step of the products
constexpr int BATCH = 8;           // loads that are under way at once
constexpr int FILTER = TAPS * TAPS;
constexpr int NOTHING = -(1 << 20), NOT_A_NUMBER = 1 << 20;
constexpr int TOP = 14; // exponent of the largest halves; fp16 ends at 16

// ---- maxima -------------------------------------------------------------------------------------------------

// `slots` of every key.
struct Maxima {
    unsigned *at;
    int slots;
};

// Of every column of a block, or of all of it: a bound on what the transform makes of such values.
template <class X> __device__ __forceinline__ void keep_maximum(unsigned bits, unsigned *to, bool by_lane) {
    __shared__ unsigned rows[ROWS][SIDE];
    constexpr float factor = bound<X>();
    rows[threadIdx.y][threadIdx.x] = by_lane ? bits : warp_maximum(bits);
    __syncthreads();
    if (threadIdx.y) return;
    for (int i = 0; i < ROWS; ++i) bits = max(bits, rows[i][threadIdx.x]);
    if (by_lane || threadIdx.x == 0) *to = __float_as_uint(factor * __uint_as_float(bits));
}

// Of what lies `step` apart, from `first` on and before `end`. Loads behind the end are of what is at `first`.
template <class Where>
__device__ __forceinline__ unsigned largest(long long first, long long end, int step, Where where) {
    unsigned bits = 0;
    for (long long at = first; at < end; at += BATCH * step) {
        float values[BATCH];
#pragma unroll
        for (int i = 0; i < BATCH; ++i) values[i] = to_float(*where(at + i * step < end ? at + i * step : first));
#pragma unroll
        for (int i = 0; i < BATCH; ++i) bits = max(bits, magnitude(values[i]));
    }
    return bits;
}

// Input channels lie along warps; of an output channel, all that a block looks at is one line.
__device__ __forceinline__ void keys_of_filters(const ELEMENT *w, const Filters &shape, const Maxima &maxima,
                                                int keys, int by_output, int block) {
    const int across = by_output ? keys : keys / SIDE, slot = block / across, column = block - slot * across;
    const int row = slot * ROWS + threadIdx.y, rows = maxima.slots * ROWS;
    const int key = by_output ? column : column * SIDE + threadIdx.x;
    unsigned bits = 0;
    if (by_output) {
        const ELEMENT *line = w + key * shape.k;
        bits = largest(row * SIDE + threadIdx.x, shape.depth * FILTER, rows * SIDE,
                       [=](long long at) { return line + at; });
    } else {
        const int group = key / shape.depth, c = key - group * shape.depth;
#pragma unroll 2
        for (int k = row; k < shape.per_group; k += rows)
#pragma unroll
            for (int i = 0; i < FILTER; ++i) {
                const long long at = tap(shape, group * shape.per_group + k, c, i / TAPS, i % TAPS);
                bits = max(bits, magnitude(to_float(w[at])));
            }
    }
    keep_maximum<Filter>(bits, maxima.at + (long long)slot * keys + key, !by_output);
}

// A channel of some images, or channels of some pixels where these are neighbours.
__device__ __forceinline__ void keys_of_channels(const ELEMENT *image, const Tiles &tiles, const Maxima &maxima,
                                                 int keys, int block) {
    const int last = tiles.channels_last, pixels = tiles.rows.size * tiles.cols.size;
    const int across = last ? keys / SIDE : keys, slot = block / across, column = block - slot * across;
    const int key = last ? column * SIDE + threadIdx.x : column;
    unsigned bits = 0;
    if (last) {
        const ELEMENT *channel = image + key;
        bits = largest(slot * ROWS + threadIdx.y, (long long)tiles.images * pixels, maxima.slots * ROWS,
                       [=](long long at) { return channel + at * tiles.w; });
    } else {
        const int from = (long long)tiles.images * slot / maxima.slots;
        const int to = (long long)tiles.images * (slot + 1) / maxima.slots;
        const int thread = threadIdx.y * SIDE + threadIdx.x, threads = SIDE * ROWS;
        const int images = threads / pixels, rest = threads - images * pixels;
        int n = from + thread / pixels, pixel = thread % pixels;
        const ELEMENT *first = image + from * tiles.n + key * tiles.c, *plane = image + key * tiles.c;
        while (n < to) {
            float values[BATCH];
#pragma unroll
            for (int i = 0; i < BATCH; ++i) {
                values[i] = to_float(n < to ? plane[n * tiles.n + pixel] : first[0]);
                n += images, pixel += rest;
                if (pixel >= pixels) pixel -= pixels, ++n;
            }
#pragma unroll
            for (int i = 0; i < BATCH; ++i) bits = max(bits, magnitude(values[i]));
        }
    }
    keep_maximum<Data>(bits, maxima.at + (long long)slot * keys + key, last);
}

// The first blocks are those of the left operand.
extern "C" __global__ void __launch_bounds__(SIDE *ROWS)
    channel_keys(const ELEMENT *w, Filters shape, Maxima left, int by_output, int left_blocks,
                 const ELEMENT *image, Tiles tiles, Maxima data, int keys) {
    admit_next();
    const int block = (int)blockIdx.x - left_blocks;
    if (block < 0)
        keys_of_filters(w, shape, left, keys, by_output, blockIdx.x);
    else
        keys_of_channels(image, tiles, data, keys, block);
}

// Tiles lie along warps where they are neighbours; else a block looks at one.
template <class X>
__device__ __forceinline__ void keys_of_tiles(const ELEMENT *image, const Tiles &tiles, const Maxima &maxima,
                                              int keys, int block) {
    const int last = tiles.channels_last, across = last ? keys : keys / SIDE, slot = block / across;
    const int column = block - slot * across, tile = last ? column : column * SIDE + threadIdx.x;
    const int row = slot * ROWS + threadIdx.y, rows = maxima.slots * ROWS;
    unsigned bits = 0;
    for (int c = last ? row * SIDE + threadIdx.x : row; c < tiles.channels; c += last ? rows * SIDE : rows)
        bits = max(bits, of_tile<X::cols>(image, tiles, c, tile));
    keep_maximum<X>(bits, maxima.at + (long long)slot * keys + tile, !last);
}

extern "C" __global__ void __launch_bounds__(SIDE *ROWS)
    tile_keys(const ELEMENT *dy, Tiles dy_tiles, Maxima left, int left_blocks, const ELEMENT *image, Tiles tiles,
              Maxima data, int keys) {
    admit_next();
    const int block = (int)blockIdx.x - left_blocks;
    if (block < 0)
        keys_of_tiles<Gradient>(dy, dy_tiles, left, keys, blockIdx.x);
    else
        keys_of_tiles<Data>(image, tiles, data, keys, block);
}

// ---- powers of two ------------------------------------------------------------------------------------------

// The largest of a column's values; a block's rows share in its slots.
__device__ __forceinline__ unsigned of_slots(const Maxima &maxima, int keys, int key) {
    __shared__ unsigned rows[ROWS][SIDE];
    unsigned bits = 0;
#pragma unroll 4
    for (int i = threadIdx.y; i < maxima.slots; i += ROWS)
        bits = max(bits, maxima.at[(long long)i * keys + key]);
    rows[threadIdx.y][threadIdx.x] = bits;
    __syncthreads();
    for (int i = 0; i < ROWS; ++i) bits = max(bits, rows[i][threadIdx.x]);
    __syncthreads();
    return bits;
}

__device__ __forceinline__ int exponent(unsigned bits) {
    const int biased = bits >> 23;
    return biased == 0 ? NOTHING : biased == 255 ? NOT_A_NUMBER : biased - 127;
}

// 2^n, or 0 if that is too small.
__device__ __forceinline__ float power_or_zero(int n) {
    return n < -126 ? 0.0f : __uint_as_float((min(n, 127) + 127) << 23);
}

// A block for the keys of a step. Left factors are scaled to 2^TOP, the others by the opposite and so that the
// largest of a step is of that size too; what it was too small by is the step's factor.
extern "C" __global__ void __launch_bounds__(SIDE *ROWS)
    key_scales(Maxima left, Maxima data, float *left_scales, float *data_scales, float *factors, int keys) {
    follow();
    const int key = blockIdx.x * SIDE + threadIdx.x;
    const int of_left = exponent(of_slots(left, keys, key)), of_data = exponent(of_slots(data, keys, key));
    if (threadIdx.y) return;
    const bool finite = of_left != NOT_A_NUMBER && of_data != NOT_A_NUMBER;
    const bool there = finite && of_left != NOTHING && of_data != NOTHING;
    const int shift = min(TOP - of_left, 126);
    int top = there ? of_data - shift : NOTHING;
    for (int lanes = 16; lanes; lanes /= 2) top = max(top, __shfl_xor_sync(~0u, top, lanes));
    const float nothing = finite ? 0.0f : __uint_as_float(0x7fffffff);
    left_scales[key] = there ? power_or_zero(shift) : nothing;
    data_scales[key] = there ? power_or_zero(TOP - top - shift) : nothing;
    if (threadIdx.x == 0) factors[blockIdx.x] = power_or_zero(top - TOP);
}

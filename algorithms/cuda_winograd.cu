// The transforms of Winograd's minimal filtering F(m x m, r x r); the products between them are made
// elsewhere.
//
//   data_tiles       V = B^T d B   of every tile of an image: a x a pixels, a = m + r - 1, m apart
//   filters          U = G w G^T   of every filter; _across: with output channels side by side
//   gradient_tiles   Z = G y G^T   of every m x m tile of dy, which are the filters of backward-filter
//   inverse_tiles    A^T M A       of the products of every tile, put in its place in the image; _staged: as lines
//   inverse_filters  A^T M A       of the products of every filter gradient
//   sum_parts        adds up partial products in a fixed order
//   *_maxima, peak, scales, balance  powers of two that bring both operands into the range of fp16
//
// Mapping  One thread transforms one tile of one channel in registers. Neighbours lie along tiles in NCHW and
//          along channels in NHWC, as do operands in memory: a warp reads and writes them in whole lines.
// Memory   An operand is [point][part][group] matrices of channels x tiles, in either order; see Operand.
// Macros   ELEMENT, STEP (m), TAPS (r), POINTS (the finite ones).

#include "cuda_winograd_scales.cuh"

template <int WIDE, class Pixels>
__device__ __forceinline__ void read(const Pixels &window, float *d) {
#pragma unroll
    for (int i = 0; i < WIDE; ++i) window.line(i, d + i * WIDE);
}

template <class X>
__device__ __forceinline__ void transform_tiles(const ELEMENT *image, const Tiles &tiles, void *out,
                                                const Operand &to, const float *scales, int by_tile) {
    const int total = to.parts * to.length, last = tiles.channels_last;
    const int wide = last ? tiles.channels : total, high = last ? total : tiles.channels;
    if (fast() >= wide) return;
    for (int other = slow(); other < high; other += slow_step()) {
        const int channel = last ? fast() : other, tile = last ? other : fast();
        float d[X::cols * X::cols];
        if (tiles.vector > 1)
            read<X::cols>(PairedWindow<X::cols>(image, tiles, channel, tile), d);
        else
            read<X::cols>(Window<X::cols>(image, tiles, channel, tile), d);
        const float scale = scales ? scales[by_tile ? tile : channel] : 1.0f;
        transform<X>(d, out, place(to, channel, tile), to, scale);
    }
}

extern "C" __global__ void __launch_bounds__(128)
data_tiles(const ELEMENT *image, Tiles tiles, void *out, Operand to, const float *scales, int by_tile) {
    transform_tiles<Data>(image, tiles, out, to, scales, by_tile);
}

// Asked for no more than four blocks, ptxas does not spill to make room for more.
extern "C" __global__ void __launch_bounds__(128, 4)
gradient_tiles(const ELEMENT *image, Tiles tiles, void *out, Operand to, const float *scales, int by_tile) {
    transform_tiles<Gradient>(image, tiles, out, to, scales, by_tile);
}

template <int VECTOR>
__device__ __forceinline__ void write_row(ELEMENT *line, const float *y, int count, long long w) {
#pragma unroll
    for (int j = 0; j + VECTOR <= STEP; j += VECTOR) {
        Pack<ELEMENT, VECTOR> pack;
#pragma unroll
        for (int v = 0; v < VECTOR; ++v) pack.at[v] = from_float<ELEMENT>(y[j + v]);
        if (j < count) store_pack(line + j * w, pack);
    }
}

extern "C" __global__ void __launch_bounds__(128)
inverse_tiles(ELEMENT *image, Tiles tiles, const float *products, Operand from, const unsigned *peak) {
    const int total = from.parts * from.length, last = tiles.channels_last, parts = tiles.cols.parts;
    const int wide = last ? tiles.channels : total, high = last ? total : tiles.channels;
    const float factor = unscale(peak);
    if (fast() >= wide) return;
    for (int other = slow(); other < high; other += slow_step()) {
        const int channel = last ? fast() : other, tile = last ? other : fast();
        const Spot spot = locate(tiles, tile);
        if (spot.image >= tiles.images) continue;
        float half_way[STEP * SIZE], y[STEP];
        gather<Inverse>(products, place(from, channel, tile), from.point, half_way);
        const int count = (tiles.cols.size - spot.col + parts - 1) / parts;
        ELEMENT *corner = image + spot.image * tiles.n + channel * tiles.c + spot.col * tiles.w;
#pragma unroll
        for (int i = 0; i < STEP; ++i) {
            const int row = spot.row + i * tiles.rows.parts;
#pragma unroll
            for (int j = 0; j < STEP; ++j) y[j] = factor * dot<Inverse>(j, half_way + i * SIZE, 1);
            if (row >= tiles.rows.size) continue;
            ELEMENT *line = corner + row * tiles.h;
            if (tiles.vector == 4) write_row<4>(line, y, count, 1);
            else if (tiles.vector == 2) write_row<2>(line, y, count, 1);
            else write_row<1>(line, y, count, parts * tiles.w);
        }
    }
}

// The same through shared memory where rows are no multiple of pairs and short: whole lines are written.
constexpr int STAGED = 128, SPACING = STEP * STEP + 1;

// value / divisor by multiplication, for small numbers
struct Divisor {
    unsigned size, inverse;

    __device__ __forceinline__ explicit Divisor(unsigned size) : size(size), inverse(~0u / size + 1) {}
    __device__ __forceinline__ unsigned operator()(unsigned value) const {
        return size == 1 ? value : __umulhi(value, inverse);
    }
};

extern "C" __global__ void __launch_bounds__(STAGED)
inverse_staged(ELEMENT *image, Tiles tiles, const float *products, Operand from, const unsigned *peak) {
    __shared__ float staged[STAGED * SPACING];
    const int first = blockIdx.x * STAGED, tile = first + threadIdx.x, cols = tiles.cols.count;
    const int total = tiles.images * tiles.rows.count * cols, end = min(first + STAGED, total);
    const int top = first / cols, lines = (end - 1) / cols - top + 1, width = tiles.cols.size;
    const Divisor by_line(STEP * width), by_row(width);
    const float factor = unscale(peak);
    for (int channel = blockIdx.y; channel < tiles.channels; channel += gridDim.y) {
        if (tile < end) {
            float half_way[STEP * SIZE];
            gather<Inverse>(products, place(from, channel, tile), from.point, half_way);
#pragma unroll
            for (int i = 0; i < STEP; ++i)
#pragma unroll
                for (int j = 0; j < STEP; ++j)
                    staged[threadIdx.x * SPACING + i * STEP + j] =
                        factor * dot<Inverse>(j, half_way + i * SIZE, 1);
        }
        __syncthreads();
        for (unsigned e = threadIdx.x; e < lines * STEP * width; e += STAGED) {
            const unsigned line = by_line(e), rest = e - line * STEP * width, i = by_row(rest);
            const unsigned col = rest - i * width, at = (top + line) * cols + col / STEP - first;
            const int n = (top + line) / tiles.rows.count;
            const int row = (top + line - n * tiles.rows.count) * STEP + i;
            if (at >= end - first || row >= tiles.rows.size) continue;
            image[n * tiles.n + channel * tiles.c + row * tiles.h + col] =
                from_float<ELEMENT>(staged[at * SPACING + i * STEP + col % STEP]);
        }
        __syncthreads();
    }
}

// ---- filters ----------------------------------------------------------------------------------------------

extern "C" __global__ void __launch_bounds__(128)
filters(const ELEMENT *w, Filters shape, void *out, Operand to, const float *scales, int by_output) {
    const int c = fast();
    if (c >= shape.depth) return;
    for (int k = slow(); k < shape.outputs; k += slow_step()) {
        float d[TAPS * TAPS];
#pragma unroll
        for (int r = 0; r < TAPS; ++r)
#pragma unroll
            for (int s = 0; s < TAPS; ++s) d[r * TAPS + s] = to_float(w[tap(shape, k, c, r, s)]);
        const float scale = scales ? scales[summed(shape, k, c, by_output)] : 1.0f;
        transform<Filter>(d, out, place(shape, to, k, c), to, scale);
    }
}

// The same where output channels are neighbours in what is written: filters of 64 of them and of 4 channels
// go through shared memory.
constexpr int ACROSS = 64, DEEP = 4, FILTER = TAPS * TAPS;

extern "C" __global__ void __launch_bounds__(ACROSS * DEEP)
filters_across(const ELEMENT *w, Filters shape, void *out, Operand to, const float *scales, int by_output) {
    __shared__ float taps[ACROSS][DEEP * FILTER + 1];  // a row more than whole turns around the banks
    const int first = blockIdx.x * ACROSS, k = first + threadIdx.x;
    for (int start = blockIdx.y * DEEP; start < shape.depth; start += gridDim.y * DEEP) {
        for (int i = threadIdx.y * ACROSS + threadIdx.x; i < ACROSS * DEEP * FILTER; i += ACROSS * DEEP) {
            const int output = i / (DEEP * FILTER), at = i % (DEEP * FILTER);
            const int channel = start + at / FILTER, r = at % FILTER / TAPS, s = at % TAPS;
            const bool there = first + output < shape.outputs && channel < shape.depth;
            taps[output][at] = there ? to_float(w[tap(shape, first + output, channel, r, s)]) : 0.0f;
        }
        __syncthreads();
        const int c = start + threadIdx.y;
        if (k < shape.outputs && c < shape.depth) {
            float d[FILTER];
#pragma unroll
            for (int i = 0; i < FILTER; ++i) d[i] = taps[threadIdx.x][threadIdx.y * FILTER + i];
            const float scale = scales ? scales[summed(shape, k, c, by_output)] : 1.0f;
            transform<Filter>(d, out, place(shape, to, k, c), to, scale);
        }
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(128)
inverse_filters(ELEMENT *w, Filters shape, const float *products, Operand from, const unsigned *peak) {
    const float factor = unscale(peak);
    const int c = fast();
    if (c >= shape.depth) return;
    for (int k = slow(); k < shape.outputs; k += slow_step()) {
        float half_way[TAPS * SIZE];
        gather<GradientInverse>(products, place(shape, from, k, c), from.point, half_way);
#pragma unroll
        for (int r = 0; r < TAPS; ++r)
#pragma unroll
            for (int s = 0; s < TAPS; ++s) {
                const float gradient = factor * dot<GradientInverse>(s, half_way + r * SIZE, 1);
                w[tap(shape, k, c, r, s)] = from_float<ELEMENT>(gradient);
            }
    }
}

// Adds the other parts to the first one, point by point.
extern "C" __global__ void __launch_bounds__(128) sum_parts(float *products, Operand of) {
    products += blockIdx.y * of.point;
    for (long long i = fast(); i < of.part; i += fast_step()) {
        float sum[8] = {};
        for (int part = 0; part < of.parts; part += 8)
#pragma unroll
            for (int j = 0; j < 8; ++j)
                if (part + j < of.parts) sum[j] += products[(part + j) * of.part + i];
        products[i] = ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
    }
}

// ---- powers of two for fp16 -------------------------------------------------------------------------------
// Bounds on every channel, or on every tile, after the transform; as bits, in an array that has been cleared.
// Where what is looked at lies along warps, these are 32 wide and agree.
extern "C" __global__ void __launch_bounds__(128)
channel_maxima(const ELEMENT *image, Tiles tiles, unsigned *maxima) {
    const int pixels = tiles.rows.size * tiles.cols.size;
    for (int channel = fast(); channel < tiles.channels; channel += fast_step()) {
        unsigned bits = 0;
        for (int i = slow(); i < pixels; i += slow_step()) bits = max(bits, of_pixel(image, tiles, channel, i));
        record<Data>(maxima, channel, bits);
    }
}

extern "C" __global__ void __launch_bounds__(128)
filter_maxima(const ELEMENT *w, Filters shape, unsigned *maxima, int by_output) {
    maxima_of_filters(w, shape, maxima, by_output, fast() / 32, fast_step() / 32);
}

// Of channels where pixels are neighbours, a block for some pixels and one slice of the images; and of filters.
extern "C" __global__ void __launch_bounds__(256)
plane_maxima(const ELEMENT *image, Tiles tiles, unsigned *maxima, const ELEMENT *w, Filters shape,
             unsigned *of_filters, int by_output) {
    __shared__ unsigned of_warps[8];
    if (blockIdx.z == 0) {
        const int block = blockIdx.y * gridDim.x + blockIdx.x;
        maxima_of_filters(w, shape, of_filters, by_output, block * 8 + threadIdx.x / 32,
                          gridDim.x * gridDim.y * 8);
        return;
    }
    const int pixels = tiles.rows.size * tiles.cols.size, slices = gridDim.z - 1;
    for (int channel = blockIdx.y; channel < tiles.channels; channel += gridDim.y) {
        unsigned bits = 0;
        for (int i = fast(); i < pixels; i += fast_step())
            bits = max(bits, of_pixel(image, tiles, channel, i, blockIdx.z - 1, slices));
        bits = warp_maximum(bits);
        if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = bits;
        __syncthreads();
        if (threadIdx.x == 0) {
            for (int i = 1; i < 8; ++i) bits = max(bits, of_warps[i]);
            record<Data>(maxima, channel, bits);
        }
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(128, 4)
data_maxima(const ELEMENT *image, Tiles tiles, unsigned *maxima) {
    tile_maxima<Data>(image, tiles, maxima);
}

extern "C" __global__ void __launch_bounds__(128, 4)
gradient_maxima(const ELEMENT *image, Tiles tiles, unsigned *maxima) {
    tile_maxima<Gradient>(image, tiles, maxima);
}

// The largest sum of exponents of both factors of a product.
extern "C" __global__ void __launch_bounds__(128)
peak(const float *left, const float *right, unsigned *peak, int count) {
    unsigned best = 0;
    for (int i = fast(); i < count; i += fast_step()) best = max(best, exponents(left[i], right[i]));
    if (best) atomicMax(peak, best);
}

// Scales of the maxima, in place.
extern "C" __global__ void __launch_bounds__(128)
scales(float *left, float *right, const unsigned *peak, int count) {
    const int total = range(*peak);
    for (int i = fast(); i < count; i += fast_step()) scale(left + i, right + i, total);
}

// That and scales of the maxima, in one block, for few keys.
extern "C" __global__ void __launch_bounds__(1024)
balance(float *left, float *right, unsigned *peak, int count) {
    __shared__ unsigned of_warps[32];
    unsigned best = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) best = max(best, exponents(left[i], right[i]));
    best = warp_maximum(best);
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = best;
    __syncthreads();
    best = warp_maximum(of_warps[threadIdx.x % 32]);
    if (threadIdx.x == 0) *peak = best;
    for (int i = threadIdx.x; i < count; i += blockDim.x) scale(left + i, right + i, range(best));
}

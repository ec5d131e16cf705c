// Before and after the products of cuda_implicit_gather.cu and cuda_implicit_filter.cu: operands in halves.
//
// An operand has channels innermost, in chunks of eight (16 bytes) that are padded with zeros, and one or two
// copies: high, and low, what high leaves of a number. Numbers in fp32 are scaled by powers of two first:
//   *_maxima, scales   a power for every key: every channel that is summed over (or image, where pixels are)
//   *_chunks           to operands; add_parts: from parts of a sum to the result
// A thread makes one chunk. Macro: ELEMENT, what tensors are stored in.
#include "cuda_implicit_chunk.cuh"

constexpr int THREADS = 256;
constexpr int TILE = 64;    // channels and pixels that a block turns around
constexpr int SLICE = 2048; // numbers of a row that a warp looks at
constexpr int LARGEST = 28; // exponent of the largest products of scaled numbers: 2^14 each, or less

// ---- scales ----------------------------------------------------------------------------------------------

// Bits of absolute values compare like them, and NaN is above all.
__device__ __forceinline__ unsigned magnitude(ELEMENT value) {
    return __float_as_uint(fabsf(to_float(value)));
}

// Rows of neighbours: row r belongs to key r / period * width + r % width. A warp looks at a slice of a row.
extern "C" __global__ void __launch_bounds__(THREADS)
    row_maxima(const ELEMENT *x, unsigned *maxima, long long rows, long long inner, long long period,
               int width) {
    const long long slices = (inner + SLICE - 1) / SLICE;
    const long long warp = (long long)blockIdx.x * (THREADS / 32) + threadIdx.x / 32, row = warp / slices;
    if (row >= rows)
        return;
    const long long first = warp % slices * SLICE, end = min(inner, first + SLICE);
    unsigned bits = 0;
#pragma unroll 8
    for (long long i = first + threadIdx.x % 32; i < end; i += 32)
        bits = max(bits, magnitude(x[row * inner + i]));
    for (int lanes = 16; lanes; lanes /= 2)
        bits = max(bits, __shfl_xor_sync(0xffffffffu, bits, lanes));
    if (threadIdx.x % 32 == 0)
        atomicMax(maxima + row / period * width + row % width, bits);
}

// Rows of `width` neighbours, `inner` of each key; after `period` rows other keys follow. A block looks at 32
// neighbours of a slice of a period.
extern "C" __global__ void __launch_bounds__(THREADS)
    column_maxima(const ELEMENT *x, unsigned *maxima, long long period, int width, int inner, int slice) {
    const int wide = (width + 31) / 32, col = blockIdx.x % wide * 32 + threadIdx.x % 32;
    const long long block = blockIdx.x / wide, slices = (period + slice - 1) / slice;
    const long long which = block / slices, first = block % slices * slice, end = min(period, first + slice);
    if (col >= width)
        return;
    x += which * period * width + col;
    unsigned bits = 0;
#pragma unroll 8
    for (long long row = first + threadIdx.x / 32; row < end; row += THREADS / 32)
        bits = max(bits, magnitude(x[row * width]));
    atomicMax(maxima + which * (width / inner) + col / inner, bits);
}

__device__ __forceinline__ int exponent_of(unsigned bits) { return (int)(bits >> 23) - 127; }

// Largest magnitudes become exponents: those of one key add up to the same for all keys, and both numbers
// end up equally large. One block.
extern "C" __global__ void __launch_bounds__(1024) scales(int *a, int *b, int *exponent, int keys) {
    __shared__ int largest, broken;
    if (threadIdx.x == 0)
        largest = -2 * MOST, broken = 0;
    __syncthreads();
    for (int key = threadIdx.x; key < keys; key += blockDim.x) {
        const unsigned left = a[key], right = b[key];
        if (max(left, right) >= 0x7f800000u)
            atomicMax(&broken, 1);
        else if (left && right)
            atomicMax(&largest, exponent_of(left) + exponent_of(right));
    }
    __syncthreads();
    const int all = min(max(LARGEST - largest, -MOST), MOST);
    for (int key = threadIdx.x; key < keys; key += blockDim.x) {
        const int left = exponent_of(a[key]), right = exponent_of(b[key]);
        const bool both = a[key] && b[key];
        const int first = both ? (all + right - left) >> 1 : LARGEST / 2 - left;
        const int second = both ? all - first : LARGEST / 2 - right;
        a[key] = min(max(first, -MOST), MOST);
        b[key] = min(max(second, -MOST), MOST);
    }
    if (threadIdx.x == 0)
        *exponent = broken ? NOT_FINITE : all;
}

// ---- operands --------------------------------------------------------------------------------------------

//   depth, chunks   channels of a group, and chunks of them
//   by_image        exponents are of images, not of channels
//   low             chunks from high to low, or 0: see put
struct Image {
    int images, groups, depth, chunks, plane, by_image;
    long long low;
};

// From channels innermost.
extern "C" __global__ void __launch_bounds__(THREADS)
    last_chunks(const ELEMENT *x, uint4 *out, const int *exponents, Image s) {
    const long long index = (long long)blockIdx.x * THREADS + threadIdx.x;
    const long long block = index / s.chunks, pixel = block / s.groups;
    if (pixel >= (long long)s.images * s.plane)
        return;
    const int c = index % s.chunks * CHUNK, channel = block % s.groups * s.depth + c, n = pixel / s.plane;
    x += pixel * s.groups * s.depth + channel;
    float values[CHUNK];
    if (s.depth % CHUNK == 0) {
        constexpr int V = 16 / sizeof(ELEMENT);
#pragma unroll
        for (int i = 0; i < CHUNK; i += V) {
            const Pack<ELEMENT, V> pack = load_pack<V>(x + i);
#pragma unroll
            for (int v = 0; v < V; ++v)
                values[i + v] = to_float(pack.at[v]);
        }
    } else {
#pragma unroll
        for (int i = 0; i < CHUNK; ++i)
            values[i] = c + i < s.depth ? to_float(x[i]) : 0.0f;
    }
    if (exponents)
#pragma unroll
        for (int i = 0; i < CHUNK; ++i)
            if (c + i < s.depth)
                values[i] = scaled(values[i], exponents[s.by_image ? n : channel + i]);
    put(out, index, s.low, values);
}

// From pixels innermost: a block turns TILE padded channels of TILE pixels around.
template <int V>
__device__ __forceinline__ void turn(const ELEMENT *x, uint4 *out, const int *exponents, const Image &s,
                                     float (&tile)[TILE][TILE + 1]) {
    const int width = (s.plane + TILE - 1) / TILE, wide = s.groups * s.chunks;
    const int high = (wide * CHUNK + TILE - 1) / TILE;
    const int block = blockIdx.x / width, first = blockIdx.x % width * TILE;
    const int top = block % high * TILE, n = block / high, pixel = threadIdx.x % (TILE / V) * V;
    const bool whole = s.depth % CHUNK == 0, inside = first + pixel < s.plane;
    x += (long long)n * s.groups * s.depth * s.plane + first + pixel;
#pragma unroll
    for (int m = 0; m < TILE * TILE / THREADS / V; ++m) {
        const int i = threadIdx.x / (TILE / V) + m * (THREADS * V / TILE), chunk = (top + i) / CHUNK;
        const int c = whole ? 0 : chunk % s.chunks * CHUNK + i % CHUNK;
        const int channel = whole ? top + i : chunk / s.chunks * s.depth + c;
        const bool there = inside && chunk < wide && c < s.depth;
        Pack<ELEMENT, V> pack;
        if (there)
            pack = load_pack<V>(x + (long long)channel * s.plane);
        const int exponent = there && exponents ? exponents[s.by_image ? n : channel] : 0;
#pragma unroll
        for (int v = 0; v < V; ++v)
            tile[i][pixel + v] = there ? scaled(to_float(pack.at[v]), exponent) : 0.0f;
    }
    __syncthreads();
#pragma unroll
    for (int i = threadIdx.x; i < TILE * TILE / CHUNK; i += THREADS) {
        const int chunk = i % (TILE / CHUNK), pixel = i / (TILE / CHUNK), at = top / CHUNK + chunk;
        if (first + pixel >= s.plane || at >= wide)
            continue;
        float values[CHUNK];
#pragma unroll
        for (int c = 0; c < CHUNK; ++c)
            values[c] = tile[chunk * CHUNK + c][pixel];
        put(out, ((long long)n * s.plane + first + pixel) * wide + at, s.low, values);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    first_chunks(const ELEMENT *x, uint4 *out, const int *exponents, Image s) {
    __shared__ float tile[TILE][TILE + 1];
    if (s.plane % 4 == 0)
        turn<4>(x, out, exponents, s, tile);
    else
        turn<1>(x, out, exponents, s, tile);
}

//   outputs, depth, chunks  of a group: filters, what they sum over, chunks of that
//   *_step                  elements of w from one to the next
//   order                   what is innermost in w, and then: 0: depth, tap; 1: tap, depth; 2: output, tap;
//                           3: tap, output
struct Filters {
    int groups, outputs, depth, chunks, taps, output_step, depth_step, tap_step, group_step, order;
    long long low;
};

extern "C" __global__ void __launch_bounds__(THREADS)
    filter_chunks(const ELEMENT *w, uint4 *out, const int *exponents, Filters s) {
    unsigned left = blockIdx.x * THREADS + threadIdx.x;
    if (left >= (unsigned)s.groups * s.outputs * s.chunks * s.taps)
        return;
    const auto next = [&](unsigned count) {
        const unsigned index = left % count;
        left /= count;
        return index;
    };
    const bool tap_first = s.order % 2, by_output = s.order / 2;
    unsigned tap = tap_first ? next(s.taps) : 0;
    const unsigned inner = next(by_output ? s.outputs : s.chunks);
    tap = tap_first ? tap : next(s.taps);
    const unsigned outer = next(by_output ? s.chunks : s.outputs), group = left;
    const unsigned output = by_output ? inner : outer, chunk = by_output ? outer : inner;
    w += (long long)group * s.group_step + output * (long long)s.output_step + tap * (long long)s.tap_step;
    float values[CHUNK];
#pragma unroll
    for (int i = 0; i < CHUNK; ++i) {
        const int d = chunk * CHUNK + i;
        const float value = d < s.depth ? to_float(w[d * (long long)s.depth_step]) : 0.0f;
        values[i] = d < s.depth && exponents ? scaled(value, exponents[group * s.depth + d]) : value;
    }
    put(out, ((group * s.outputs + output) * s.taps + tap) * (long long)s.chunks + chunk, s.low, values);
}

// ---- results ---------------------------------------------------------------------------------------------

extern "C" __global__ void __launch_bounds__(THREADS)
    add_parts(const float *partial, ELEMENT *out, const int *exponent, long long count, int parts) {
    const long long i = (long long)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    float sum = 0;
#pragma unroll 4
    for (int part = 0; part < parts; ++part)
        sum += partial[part * count + i];
    out[i] = from_float<ELEMENT>(Unscale(exponent)(sum));
}

// im2col in halves: fp32 numbers, scaled by powers of two, become two fp16 numbers each, high and low.
//
//   split_images   x with the channels of every part of a group twice: low, then high
//   split_filters  w as rows of filters, one row a term; the terms of every part twice: high, then low
//   collect        adds up the sums of parts, takes the scales back and puts y in its order
//
// A part has `each` channels; those beyond the last one of a group are zeros.
#include "cuda_implicit_scale.cuh"

constexpr int THREADS = 256;
constexpr int TILE = 32;  // terms and filters that a block turns around

struct Parts {
    int groups, depth, parts, each;  // depth: channels of a group
};

// `inner` neighbours of each channel, V of which a thread takes. Rows are images in NCHW, pixels in NHWC.
template <int V>
__device__ __forceinline__ void split(const float *x, __half *out, const int *exponents, const Parts &s,
                                      long long rows, int inner) {
    const int wide = s.groups * s.parts * s.each, span = inner / V;
    const long long index = (long long)blockIdx.x * THREADS + threadIdx.x, line = index / span;
    const long long row = line / wide;
    if (row >= rows)
        return;
    const int at = line - row * wide, part = at / s.each, c = at - part * s.each, group = part / s.parts;
    const int deep = (part - group * s.parts) * s.each + c, channel = group * s.depth + deep;
    const int i = (int)(index - line * span) * V;
    Pack<float, V> pack = {};
    if (deep < s.depth)
        pack = load_pack<V>(x + (row * s.groups * s.depth + channel) * inner + i);
    const int exponent = deep < s.depth ? exponents[channel] : 0;
    Pack<__half, V> high, low;
#pragma unroll
    for (int v = 0; v < V; ++v) {
        const float value = scaled(pack.at[v], exponent);
        high.at[v] = __float2half_rn(value);
        low.at[v] = __float2half_rn(value - __half2float(high.at[v]));
    }
    out += (row * 2 * wide + (part * 2) * s.each + c) * inner + i;
    store_pack(out, low);
    store_pack(out + (long long)s.each * inner, high);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    split_images(const float *__restrict__ x, __half *__restrict__ out, const int *__restrict__ exponents,
                 Parts parts, long long rows, int inner) {
    if (inner % 4 == 0) split<4>(x, out, exponents, parts, rows, inner);
    else split<1>(x, out, exponents, parts, rows, inner);
}

//   outputs, pitch  filters of a group, and numbers from one row of them to the next
//   last            channels are innermost in w
struct Filters {
    int taps, outputs, pitch, last;
};

extern "C" __global__ void __launch_bounds__(THREADS)
    split_filters(const float *__restrict__ w, __half *__restrict__ out, const int *__restrict__ exponents,
                  Parts s, Filters f) {
    __shared__ float tile[TILE][TILE + 1];
    __shared__ long long target[TILE];
    const int width = s.parts * s.each, terms = width * f.taps, down = blockIdx.x * TILE;
    const int across = blockIdx.y * TILE, group = blockIdx.z, x = threadIdx.x % TILE;
    const int t = down + x, c = f.last ? t % width : t / f.taps, tap = f.last ? t / width : t % f.taps;
    const bool real = t < terms && c < s.depth;
    const int from = f.last ? tap * s.depth + c : t, exponent = real ? exponents[group * s.depth + c] : 0;
    for (int y = threadIdx.x / TILE; y < TILE; y += THREADS / TILE) {
        const long long filter = across + y;
        const bool there = real && filter < f.outputs;
        const long long row = (group * (long long)f.outputs + filter) * s.depth * f.taps;
        tile[y][x] = there ? scaled(w[row + from], exponent) : 0.0f;
    }
    if (threadIdx.x < TILE) {
        const int part = c / s.each, inside = c - part * s.each;
        const int term = f.last ? tap * s.each + inside : inside * f.taps + tap;
        target[x] = ((group * s.parts + part) * 2LL * s.each * f.taps + term) * f.pitch;
    }
    __syncthreads();
    for (int y = threadIdx.x / TILE; y < TILE; y += THREADS / TILE) {
        if (down + y >= terms || across + x >= f.pitch)
            continue;
        const float value = tile[x][y];
        const __half high = __float2half_rn(value);
        __half *to = out + target[y] + across + x;
        to[0] = high;
        to[(long long)s.each * f.taps * f.pitch] = __float2half_rn(value - __half2float(high));
    }
}

// y of `outer` x `middle` rows of `inner`; what is summed has strides of its own, and V neighbours in common.
struct Order {
    long long outer, part, step_outer, step_middle;
    int middle, inner, parts;
};

template <int V>
__device__ __forceinline__ void gather(const float *sums, float *y, const int *exponent, const Order &s) {
    const int span = s.inner / V;
    const long long index = (long long)blockIdx.x * THREADS + threadIdx.x, line = index / span;
    const long long outer = line / s.middle;
    if (outer >= s.outer)
        return;
    const int middle = line - outer * s.middle, i = (int)(index - line * span) * V;
    sums += outer * s.step_outer + middle * s.step_middle + i;
    Pack<float, V> total = load_pack<V>(sums);
    for (int part = 1; part < s.parts; ++part) {
        const Pack<float, V> more = load_pack<V>(sums + part * s.part);
#pragma unroll
        for (int v = 0; v < V; ++v)
            total.at[v] += more.at[v];
    }
    const Unscale unscale(exponent);
#pragma unroll
    for (int v = 0; v < V; ++v)
        total.at[v] = unscale(total.at[v]);
    store_pack(y + line * s.inner + i, total);
}

// `sums` and `y` may be the same.
extern "C" __global__ void __launch_bounds__(THREADS)
    collect(const float *sums, float *y, const int *__restrict__ exponent, Order order) {
    if (order.inner % 4 == 0) gather<4>(sums, y, exponent, order);
    else gather<1>(sums, y, exponent, order);
}

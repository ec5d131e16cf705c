// Gradients of x with few channels: taps become channels of the product, and are added up after it.
//
// unfold_filters  w[k][c][r][s] to [copy][group][output][tap][k]: output (i * S + s) * C + c under tap t is
//                 channel c under tap (t * I + i, s); the product of these with dy is an image of I S C channels
// unfold          that image's channels, each shifted by its taps, to dx
// A thread makes one chunk, or one result. Macro: ELEMENT, what tensors are stored in.
#include "cuda_implicit_chunk.cuh"

constexpr int THREADS = 256, SIDE = 32;
constexpr int BATCH = 4; // numbers that a thread waits for at once

//   outputs, depth, chunks  of a group: channels of the product, what it sums over, chunks of that
//   channels                of x in a group
//   kept, height, width     I, taps of a filter down and across
//   taps                    that are left
//   *_step                  elements of w from one to the next; first: where tap 0, 0 lies
struct Filters {
    int groups, outputs, depth, chunks, channels, kept, height, width, taps;
    long long k_step, c_step, row_step, col_step, first, low;
};

extern "C" __global__ void __launch_bounds__(THREADS)
    unfold_filters(const ELEMENT *w, uint4 *out, const int *exponents, Filters s) {
    const unsigned index = blockIdx.x * THREADS + threadIdx.x;
    unsigned left = index;
    const auto next = [&](unsigned count) {
        const unsigned found = left % count;
        left /= count;
        return (int)found;
    };
    const int first = next(s.chunks) * CHUNK, tap = next(s.taps), output = next(s.outputs), group = left;
    if (group >= s.groups)
        return;
    const int c = output % s.channels, col = output / s.channels % s.width;
    const int row = output / s.channels / s.width + tap * s.kept;
    w += s.first + c * s.c_step + row * s.row_step + col * s.col_step;
    float values[CHUNK];
#pragma unroll
    for (int i = 0; i < CHUNK; ++i) {
        const int k = group * s.depth + first + i;
        const bool there = first + i < s.depth && row < s.height;
        const float value = there ? to_float(w[k * s.k_step]) : 0.0f;
        values[i] = there && exponents ? scaled(value, exponents[k]) : value;
    }
    put(out, index, s.low, values);
}

// Pixel x of dx is met by tap t at pixel (x + pad - t * dilation) / stride - first of the product's image if
// that is whole; every so many taps one does.
struct Axis {
    int size, count, taps, pad, stride, dilation, every, first;

    // The first such tap, and where it does.
    __device__ __forceinline__ void meet(int x, int &tap, int &at) const {
        at = x + pad, tap = 0;
        if (stride == 1) {
            at -= first;
            return;
        }
        while (tap < every && at % stride)
            ++tap, at -= dilation;
        at = at / stride - first;
        tap = tap < every ? tap : taps;
    }
    __device__ __forceinline__ int step() const { return dilation * every / stride; }
};

//   channels, groups  of dx; parts: of the product's sums, each an image [n][group][i][s][channel][row][col]
//   image, ...        elements of dx from one image, channel, row, pixel to the next
struct Unfold {
    int channels, groups, parts;
    long long results, image, channel, row, pixel;
    Axis rows, cols;
};

// A block has SIDE x SIDE pixels of a channel, a warp whole lines of these.
extern "C" __global__ void __launch_bounds__(THREADS)
    unfold(const float *partial, ELEMENT *out, const int *exponent, Unfold s) {
    const unsigned wide = (s.cols.size + SIDE - 1) / SIDE, high = (s.rows.size + SIDE - 1) / SIDE;
    const unsigned block = gridDim.x - 1 - blockIdx.x; // what was written last may still be in a cache
    const unsigned which = block / wide / high, n = which / s.channels, channel = which % s.channels;
    const int w = block % wide * SIDE + threadIdx.x % SIDE, first = block / wide % high * SIDE;
    __shared__ int first_rows[SIDE], tops[SIDE];
    if (threadIdx.x < SIDE)
        s.rows.meet(first + threadIdx.x, first_rows[threadIdx.x], tops[threadIdx.x]);
    __syncthreads();
    if (w >= s.cols.size)
        return;
    const int width = s.channels / s.groups, rows = s.rows.step(), cols = s.cols.step();
    const long long area = (long long)s.rows.count * s.cols.count, step = area * width;
    partial += area * ((long long)(n * s.groups + channel / width) * s.rows.taps * s.cols.taps * width +
                       channel % width);
    out += n * s.image + channel * s.channel + w * s.pixel;
    const Unscale unscale(exponent);
    int first_col, left;
    s.cols.meet(w, first_col, left);
    for (int row = threadIdx.x / SIDE; row < min(SIDE, s.rows.size - first); row += THREADS / SIDE) {
        float sum = 0;
        for (int part = 0; part < s.parts; ++part)
            for (int i = first_rows[row], p = tops[row]; i < s.rows.taps; i += s.rows.every, p -= rows) {
                if ((unsigned)p >= (unsigned)s.rows.count)
                    continue;
                const float *line = partial + part * s.results + i * s.cols.taps * step + p * s.cols.count;
                for (int l = first_col, q = left; l < s.cols.taps; l += BATCH * s.cols.every, q -= BATCH * cols) {
                    float values[BATCH];
#pragma unroll
                    for (int j = 0; j < BATCH; ++j) {
                        const int tap = l + j * s.cols.every, at = q - j * cols;
                        const bool there = tap < s.cols.taps && (unsigned)at < (unsigned)s.cols.count;
                        values[j] = there ? line[tap * step + at] : 0.0f;
                    }
#pragma unroll
                    for (int j = 0; j < BATCH; ++j)
                        sum += values[j];
                }
            }
        out[(first + row) * s.row] = from_float<ELEMENT>(unscale(sum));
    }
}

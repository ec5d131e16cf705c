// Operands of layers with few channels: the taps of a row become channels, so that chunks of eight are full.
//
// x[n][c][h][w] becomes [copy][n][h][q][s * C + c] for every column q of the result, and w[k][c][r][s]
// becomes [copy][k][r][s * C + c]: a convolution with R x 1 taps. A thread makes one chunk.
// Macro: ELEMENT, what tensors are stored in.
#include "cuda_implicit_chunk.cuh"

constexpr int THREADS = 256;

// Strides of the tensor; `rows` are images and their rows, or filters and theirs, `depth` of a chunk's tap
// and channel together.
//   step, dilation, pad, size   of columns of x: results, taps, before the first, pixels in a row
struct Fold {
    long long outer, row, col, channel;
    int outers, rows, cols, channels, taps, chunks, step, dilation, pad, size;
    long long low;
};

extern "C" __global__ void __launch_bounds__(THREADS)
    fold(const ELEMENT *from, uint4 *out, const int *exponents, Fold s) {
    const long long index = (long long)blockIdx.x * THREADS + threadIdx.x;
    const int chunk = index % s.chunks;
    const long long pixel = index / s.chunks, line = pixel / s.cols;
    if (line >= (long long)s.outers * s.rows)
        return;
    from += line / s.rows * s.outer + line % s.rows * s.row;
    const int first = pixel % s.cols * s.step - s.pad;
    float values[CHUNK];
#pragma unroll
    for (int i = 0; i < CHUNK; ++i) {
        const int depth = chunk * CHUNK + i, tap = depth / s.channels, c = depth % s.channels;
        const int at = first + tap * s.dilation;
        const bool there = tap < s.taps && at >= 0 && at < s.size;
        const float value = there ? to_float(from[at * s.col + c * s.channel]) : 0.0f;
        values[i] = there && exponents ? scaled(value, exponents[c]) : value;
    }
    put(out, index, s.low, values);
}

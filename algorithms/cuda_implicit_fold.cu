// Operands of layers with few channels: the taps of a row become channels, so that chunks of eight are full.
//
// x[n][c][h][w] becomes [copy][n][h][q][s * C + c] for every column q of y, and w[k][c][r][s] becomes
// [copy][k][r][s * C + c]: a convolution with R x 1 taps. A thread makes one chunk. The gradient of such filters
// is brought into the order of w when its parts are added: a thread makes one result.
// Macro: ELEMENT, what tensors are stored in.
#include "cuda_implicit_chunk.cuh"

constexpr int THREADS = 256;

// Strides of the tensor; `rows` are images and their rows, or filters and theirs, `depth` of a chunk's tap
// and channel together.
//   step, dilation, pad, size   of columns of x: results, taps, before the first, pixels in a row
//   by_image                    exponents are of images, not of channels
struct Fold {
    long long outer, row, col, channel;
    int outers, rows, cols, channels, taps, chunks, step, dilation, pad, size, by_image;
    long long low;
};

extern "C" __global__ void __launch_bounds__(THREADS)
    fold(const ELEMENT *from, uint4 *out, const int *exponents, Fold s) {
    const unsigned block = gridDim.x - 1 - blockIdx.x; // what is read first is written last: caches keep it
    const unsigned index = block * THREADS + threadIdx.x;
    const unsigned chunk = index % s.chunks, pixel = index / s.chunks, line = pixel / s.cols;
    const int outer = line / s.rows;
    if (outer >= s.outers)
        return;
    from += outer * s.outer + line % s.rows * s.row;
    int tap = chunk * CHUNK / s.channels, c = chunk * CHUNK % s.channels; // counted on: division takes time
    int at = (int)(pixel % s.cols) * s.step - s.pad + tap * s.dilation;
    float values[CHUNK];
#pragma unroll
    for (int i = 0; i < CHUNK; ++i) {
        const bool there = tap < s.taps && at >= 0 && at < s.size;
        const float value = there ? to_float(from[at * s.col + c * s.channel]) : 0.0f;
        values[i] = there && exponents ? scaled(value, exponents[s.by_image ? outer : c]) : value;
        if (++c == s.channels)
            c = 0, ++tap, at += s.dilation;
    }
    put(out, index, s.low, values);
}

// Parts [k][r][s][c]; steps of w along these axes.
extern "C" __global__ void __launch_bounds__(THREADS)
    add_folded(const float *partial, ELEMENT *out, const int *exponent, long long count, int parts,
               int channels, int width, int height, long long c_step, long long s_step, long long r_step,
               long long k_step) {
    const long long index = (long long)blockIdx.x * THREADS + threadIdx.x;
    if (index >= count)
        return;
    const long long pixel = index / channels, line = pixel / width;
    float sum = 0;
#pragma unroll 4
    for (int part = 0; part < parts; ++part)
        sum += partial[part * count + index];
    out[index % channels * c_step + pixel % width * s_step + line % height * r_step + line / height * k_step] =
        from_float<ELEMENT>(Unscale(exponent)(sum));
}

// Filters of the fused kernel: U = G w G^T in halves, as shared memory is to hold them.
//
// An image is of 64 filters and 16 channels: 8 pairs of points, each 64 rows of 128 bytes, one a filter. A row is
// 16 high halves and 16 low ones of the first point, then those of the second; its chunks of 16 bytes are
// swizzled. Channels lie where the threads of a warp that transform them want them; see cuda_winograd_fused.cu.
// A power of two brings each channel of these filters into the range of fp16; `factors` are what undo it.
// Macros: those of cuda_winograd_tiles.cuh.
#include "cuda_winograd_chain.cuh"
#include "cuda_winograd_tiles.cuh"

constexpr int PARTS = 2, ROWS = 32, DEEP = 16, THREADS = ROWS * DEEP, IMAGE = SIZE * SIZE * ROWS * DEEP * 2;
constexpr int HEADROOM = 12; // filters stay below 2.25 * 2^13

__device__ __forceinline__ void put(__half *image, int point, int row, int at, float value) {
    const __half high = __float2half_rn(value), low = __float2half_rn(value - __half2float(high));
    __half *line = image + (point / 2 * ROWS + row) * 64 + at % 8;
    const int chunk = point % 2 * 4 + at / 8;
    line[(chunk ^ row % 8) * 8] = high;
    line[((chunk + 2) ^ row % 8) * 8] = low;
}

// Grid: blocks of filters, steps of channels, parts of a block. `results` and `depth`: filters, and the channels that they sum.
extern "C" __global__ void __launch_bounds__(THREADS)
fused_filters(const float *w, Filters shape, uint4 *images, float *factors, int results, int depth,
              int backward) {
    admit_next();
    __shared__ uint4 staged[IMAGE / 8];
    __shared__ unsigned maxima[DEEP];
    const int row = backward ? threadIdx.x % ROWS : threadIdx.x / DEEP;
    const int at = backward ? threadIdx.x / ROWS : threadIdx.x % DEEP;
    const int result = (blockIdx.x * PARTS + blockIdx.z) * ROWS + row, channel = blockIdx.y * DEEP + at;
    if (threadIdx.x < DEEP) maxima[threadIdx.x] = 0;
    const auto weight = [&](int filter, int i) {
        const int k = backward ? channel : filter, c = backward ? filter : channel;
        return filter < results && channel < depth ? w[tap(shape, k, c, i / TAPS, i % TAPS)] : 0.0f;
    };
    float d[TAPS * TAPS];
    unsigned bits = 0;
#pragma unroll
    for (int i = 0; i < TAPS * TAPS; ++i) {
        d[i] = weight(result, i);
        const float other = weight(result + (blockIdx.z ? -ROWS : ROWS), i);
        bits = max(bits, max(__float_as_uint(fabsf(d[i])), __float_as_uint(fabsf(other))));
    }
    __syncthreads();
    atomicMax(maxima + at, bits);
    __syncthreads();
    const unsigned largest = maxima[at];
    const int up = HEADROOM + 127 - (int)(largest >> 23), block = blockIdx.x * gridDim.y + blockIdx.y;
    if (row == 0 && blockIdx.z == 0) factors[block * DEEP + at] = largest ? power(-up) : 0.0f;

    float half_way[SIZE * TAPS];
    columns<Filter>(d, half_way);
    const float scale = power(up);
    const int place = at % 4 * 2 + at / 4 % 2 + at / 8 * 8;
#pragma unroll
    for (int i = 0; i < SIZE; ++i)
#pragma unroll
        for (int j = 0; j < SIZE; ++j)
            put((__half *)staged, i * SIZE + j, row, place, scale * dot<Filter>(j, half_way + i * TAPS, 1));
    __syncthreads();
    for (int i = threadIdx.x; i < IMAGE / 8; i += THREADS) {
        const int pair = i / (ROWS * 8) * PARTS + blockIdx.z;
        images[(long long)block * (PARTS * IMAGE / 8) + pair * ROWS * 8 + i % (ROWS * 8)] = staged[i];
    }
}

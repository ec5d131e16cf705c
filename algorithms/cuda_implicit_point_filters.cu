// Filters of 1x1 convolutions in halves, as stages of cuda_implicit_point.cu want them.
//
// [tile of channels computed][64 channels summed]: high halves, then low ones, as rows of 128 bytes that are
// swizzled for wgmma; then a factor for each of the 64. The largest magnitude of a channel that is summed
// over becomes a power of two: filters are divided by it here, and x is multiplied by it there.
// Mapping: a block has eight channels that are summed over, and reads them twice.
#include "cuda_implicit_scale.cuh"

constexpr int THREADS = 1024, CHUNK = 8, DEPTH = 64; // a block has one chunk
constexpr int FILTERS = 8;                // exponent of the largest scaled numbers
constexpr int LEAST = 1, MOST_BITS = 253; // of the exponents of factors, as they are stored

struct Shape {
    int outputs, depth, output_step, depth_step, tile, tiles, copies;
};

__device__ __forceinline__ float number(const float *w, const Shape &s, int output, int d) {
    return d < s.depth && output < s.outputs
               ? w[output * (long long)s.output_step + d * (long long)s.depth_step]
               : 0.0f;
}

__device__ __forceinline__ unsigned magnitude(float value) { return __float_as_uint(fabsf(value)); }

// The exponents of the largest numbers of this block's channels, as they are stored. Neighbouring threads
// look at neighbours in memory.
__device__ __forceinline__ void exponents(int (&found)[CHUNK], const float *w, const Shape &s, int d) {
    const int lane = threadIdx.x % 32;
    unsigned most = 0;
    if (threadIdx.x < CHUNK)
        found[threadIdx.x] = 0;
    __syncthreads();
    if (s.depth_step == 1) {
#pragma unroll 8
        for (int i = threadIdx.x / CHUNK; i < s.outputs; i += THREADS / CHUNK)
            most = max(most, magnitude(number(w, s, i, d + lane % CHUNK)));
#pragma unroll
        for (int lanes = CHUNK; lanes < 32; lanes *= 2)
            most = max(most, __shfl_xor_sync(0xffffffffu, most, lanes));
        if (lane < CHUNK)
            atomicMax(found + lane, (int)most);
    } else {
        const int own = threadIdx.x / 32 % CHUNK;
#pragma unroll 8
        for (int i = threadIdx.x / 32 / CHUNK * 32 + lane; i < s.outputs; i += THREADS / CHUNK)
            most = max(most, magnitude(number(w, s, i, d + own)));
        most = __reduce_max_sync(0xffffffffu, most);
        if (lane == 0)
            atomicMax(found + own, (int)most);
    }
    __syncthreads();
    if (threadIdx.x < CHUNK) {
        const unsigned bits = found[threadIdx.x];
        found[threadIdx.x] = bits >= 0x7f800000u ? 127 : min(max((int)(bits >> 23), LEAST), MOST_BITS);
    }
    __syncthreads();
}

// Eight channels of a filter.
__device__ __forceinline__ void fetch(float (&values)[CHUNK], const float *w, const Shape &s, int output,
                                      int d) {
    if (s.depth_step == 1 && s.depth % 4 == 0 && output < s.outputs) {
        const float *from = w + output * (long long)s.output_step + d;
#pragma unroll
        for (int i = 0; i < CHUNK; i += 4)
            *(float4 *)(values + i) = d + i < s.depth ? *(const float4 *)(from + i) : float4{};
    } else {
#pragma unroll
        for (int i = 0; i < CHUNK; ++i)
            values[i] = number(w, s, output, d + i);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    split_filters(const float *w, char *out, const __grid_constant__ Shape s) {
    __shared__ int exponent[CHUNK];
    const int d = blockIdx.x * CHUNK, chunk = d % DEPTH / CHUNK, halves = s.tile * DEPTH * 2;
    const int bytes = halves * s.copies + DEPTH * 4, blocks = (s.depth + DEPTH - 1) / DEPTH;
    exponents(exponent, w, s, d);
#pragma unroll 2
    for (int output = threadIdx.x; output < s.tiles * s.tile; output += THREADS) {
        const int row = output % s.tile;
        char *to = out + ((long long)(output / s.tile) * blocks + d / DEPTH) * bytes;
        alignas(16) float values[CHUNK];
        alignas(16) __half high[CHUNK], low[CHUNK];
        fetch(values, w, s, output, d);
#pragma unroll
        for (int i = 0; i < CHUNK; ++i) {
            const float value = scaled(values[i], FILTERS + 127 - exponent[i]);
            high[i] = __float2half_rn(value);
            low[i] = __float2half_rn(value - __half2float(high[i]));
            if (row == 0)
                ((float *)(to + halves * s.copies))[d % DEPTH + i] = __int_as_float(exponent[i] << 23);
        }
        to += row * 128 + ((chunk ^ row % 8) << 4);
        *(uint4 *)to = *(const uint4 *)high;
        if (s.copies == 2)
            *(uint4 *)(to + halves) = *(const uint4 *)low;
    }
}

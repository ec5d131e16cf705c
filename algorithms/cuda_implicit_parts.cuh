// Parts of sums, in a fixed order: a warp has 32 results and every WARPS-th part of them.
#pragma once

#include "gpu.cuh"

constexpr int ADDERS = 256, WARPS = ADDERS / 32;

template <class Out>
__device__ __forceinline__ void add_up(const float *partial, Out *out, long long count, int parts) {
    __shared__ float sums[WARPS][32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const long long i = (long long)blockIdx.x * 32 + lane;
    float sum = 0;
    if (i < count)
#pragma unroll 8
        for (int part = warp; part < parts; part += WARPS)
            sum += partial[part * count + i];
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp || i >= count)
        return;
    for (int w = 1; w < WARPS; ++w)
        sum += sums[w][lane];
    out[i] = from_float<Out>(sum);
}

// The largest absolute value of a tensor, as its bits: those of positive numbers are in the order of the
// numbers.
#include "gpu.cuh"

extern "C" __global__ void peak(const ELEMENT *data, long long count, unsigned *result) {
    float largest = 0;
    const long long step = (long long)gridDim.x * blockDim.x;
#pragma unroll 4
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step)
        largest = fmaxf(largest, fabsf(to_float(data[i])));
    for (int lanes = 16; lanes; lanes /= 2)
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, lanes));
    if (threadIdx.x % 32 == 0)
        atomicMax(result, __float_as_uint(largest));
}

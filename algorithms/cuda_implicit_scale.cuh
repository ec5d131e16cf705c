// Powers of two that bring fp32 into the range of fp16, and back.
#pragma once

#include "gpu.cuh"

constexpr int MOST = 252;           // magnitude of any exponent: twice that of a float's
constexpr int NOT_FINITE = 1 << 20; // the exponent where an operand has infinities or NaNs

// value * 2^n
__device__ __forceinline__ float scaled(float value, int n) {
    const auto power = [](int n) { return __uint_as_float((unsigned)(n + 127) << 23); };
    return value * power(n / 2) * power(n - n / 2);
}

// A sum of products of scaled numbers as it should be; NaN where an operand was not finite.
struct Unscale {
    int exponent;

    __device__ __forceinline__ explicit Unscale(const int *scale) : exponent(scale ? *scale : 0) {}
    __device__ __forceinline__ float operator()(float sum) const {
        return exponent == NOT_FINITE ? __uint_as_float(0x7fffffff) : scaled(sum, -exponent);
    }
};

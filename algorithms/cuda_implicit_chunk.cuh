// Chunks of operands: eight 16-bit numbers, of a scaled fp32 number one or both halves.
//   ELEMENT  what tensors are stored in
#pragma once

#include "cuda_implicit_scale.cuh"

constexpr int CHUNK = 8;

template <class T> struct Stored {
    using type = T;
};
template <> struct Stored<float> {
    using type = __half;
};
using Operand = Stored<ELEMENT>::type;

// One chunk, and at a distance of `low` (if there is one) what rounding has left of it; at 4, four chunks and
// what is left of them alternate.
__device__ __forceinline__ void put(uint4 *out, long long index, long long low,
                                    const float (&values)[CHUNK]) {
    out += low == 4 ? index / 4 * 8 + index % 4 : index;
    alignas(16) Operand rounded[CHUNK], rest[CHUNK];
#pragma unroll
    for (int i = 0; i < CHUNK; ++i) {
        rounded[i] = from_float<Operand>(values[i]);
        rest[i] = from_float<Operand>(values[i] - to_float(rounded[i]));
    }
    *out = *(const uint4 *)rounded;
    if (low)
        out[low] = *(const uint4 *)rest;
}

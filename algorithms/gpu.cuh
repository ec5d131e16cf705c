// What kernels share: numbers as they are stored and as they are computed with, and vectors.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

// ---- numbers --------------------------------------------------------------------------------------------

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(double value) { return (float)value; }
__device__ __forceinline__ float to_float(__half value) { return __half2float(value); }
__device__ __forceinline__ float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }

// Round to nearest even.
template <class T> __device__ __forceinline__ T from_float(float value);
template <> __device__ __forceinline__ float from_float<float>(float value) { return value; }
template <> __device__ __forceinline__ double from_float<double>(float value) { return value; }
template <> __device__ __forceinline__ __half from_float<__half>(float value) {
    return __float2half_rn(value);
}
template <> __device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float value) {
    return __float2bfloat16_rn(value);
}

// What a stored number is computed with: double for double, float for all others.
template <class T> struct Sum {
    using type = float;
};
template <> struct Sum<double> {
    using type = double;
};

template <class T> __device__ __forceinline__ typename Sum<T>::type widen(T value) { return to_float(value); }
template <> __device__ __forceinline__ double widen<double>(double value) { return value; }

template <class T> __device__ __forceinline__ T narrow(typename Sum<T>::type value) {
    return from_float<T>(value);
}
template <> __device__ __forceinline__ double narrow<double>(double value) { return value; }

// ---- vectors --------------------------------------------------------------------------------------------

// COUNT neighbours in memory that one access moves; sizeof(Pack) must be 1, 2, 4, 8 or 16 bytes.
template <class T, int COUNT> struct alignas(COUNT * sizeof(T)) Pack {
    T at[COUNT];
};

template <int COUNT, class T> __device__ __forceinline__ Pack<T, COUNT> load_pack(const T *from) {
    return *reinterpret_cast<const Pack<T, COUNT> *>(from);
}

template <int COUNT, class T> __device__ __forceinline__ void store_pack(T *to, const Pack<T, COUNT> &pack) {
    *reinterpret_cast<Pack<T, COUNT> *>(to) = pack;
}

// A pointer to global memory that the compiler takes as it is: its parts are not summed again in inner loops.
template <class T> __device__ __forceinline__ T *opaque(T *pointer) {
#ifdef __CUDA_ARCH__
    asm volatile("" : "+l"(pointer));
    __builtin_assume(__isGlobal(pointer));
#endif
    return pointer;
}

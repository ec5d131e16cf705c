// What kernels need whose warpgroups do different work.
#pragma once

#include "cuda_implicit_tensor.cuh"

// Where all threads have to meet if there is one thread only that runs at a time.
__device__ __forceinline__ void meet() {
#ifdef __CUDA_EMULATOR__
    __syncthreads();
#endif
}

// How many registers each thread of a warpgroup has from here on.
template <int COUNT, bool MORE> __device__ __forceinline__ void keep_registers() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL) && !defined(__CUDA_EMULATOR__)
    if (MORE)
        ASM("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
    else
        ASM("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
#endif
}

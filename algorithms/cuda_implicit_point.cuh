// What products of cuda_implicit_point*.cu need of Hopper beside cuda_implicit_tensor.cuh: stages in shared
// memory that some threads fill while others empty them, and a left operand in registers.
#pragma once

#include "cuda_implicit_tensor.cuh"

// Whether this is compiled for a GPU that has these instructions.
#if defined(__CUDA_EMULATOR__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define SUITED 1
#else
#define SUITED 0
#endif

#ifdef __CUDA_EMULATOR__
// Copies happen at once. A barrier counts arrivals; who waits lets other threads run, a warp at a time.
namespace emulator {
struct Barrier {
    unsigned short arrivals, missing;
    unsigned phase;
};
inline Barrier &barrier_at(unsigned at) { return *(Barrier *)(dynamic_shared + at); }
inline void count(unsigned at) {
    Barrier &barrier = barrier_at(at);
    if (--barrier.missing == 0)
        barrier.missing = barrier.arrivals, ++barrier.phase;
}
inline void wait_for_phase(unsigned at, int phase) {
    while (!__all_sync(~0u, (barrier_at(at).phase & 1) != (unsigned)phase)) {
    }
}
} // namespace emulator

inline void init_barrier(unsigned at, unsigned arrivals) {
    emulator::barrier_at(at) = {(unsigned short)arrivals, (unsigned short)arrivals, 0};
}
inline void copy_word(unsigned to, const float *from, bool there) {
    if (there)
        memcpy(emulator::dynamic_shared + to, from, 4);
    else
        memset(emulator::dynamic_shared + to, 0, 4);
}
inline void copy_line(unsigned to, const void *from, int bytes, unsigned) {
    memcpy(emulator::dynamic_shared + to, from, bytes);
}
inline void fill_bytes(unsigned barrier, int) { emulator::count(barrier); }
inline void fill(unsigned barrier) { emulator::count(barrier); }
inline void arrive(unsigned barrier) {
    __syncwarp();
    if (threadIdx.x % 32 == 0)
        emulator::count(barrier);
}
inline void arrive_each(unsigned barrier) { emulator::count(barrier); }
inline void wait_until_full(unsigned barrier, int phase) { emulator::wait_for_phase(barrier, phase); }
inline void wait_until_empty(unsigned barrier, int phase) { emulator::wait_for_phase(barrier, phase ^ 1); }
template <int COUNT> void keep_registers() {}
template <int COUNT> void take_registers() {}

template <int N> void wgmma_rows(float *d, const unsigned (&a)[4], unsigned long long b, int add) {
    emulator::multiply<N, false>(d, emulator::rows_of<false>(a), emulator::Described(b, false), add);
}
#elif SUITED
__device__ __forceinline__ void init_barrier(unsigned barrier, unsigned arrivals) {
    ASM("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// 4 bytes from global to shared memory; zeros instead where there is nothing.
__device__ __forceinline__ void copy_word(unsigned to, const float *from, bool there) {
    ASM("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(there ? 4 : 0) : "memory");
}
// Neighbours in global memory, in bulk; a multiple of 16 bytes.
__device__ __forceinline__ void copy_line(unsigned to, const void *from, int bytes, unsigned barrier) {
    ASM("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
        "l"(from), "r"(bytes), "r"(barrier) : "memory");
}

// A stage is full once so many bytes, and the copies of all threads that fill it, have arrived. Phases are 0,
// 1, 0, 1 and so on; what has never been filled counts as emptied.
__device__ __forceinline__ void fill_bytes(unsigned barrier, int bytes) { expect_bytes(barrier, bytes); }
__device__ __forceinline__ void fill(unsigned barrier) {
    ASM("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void wait_until_full(unsigned barrier, int phase) {
    wait_for_bytes(barrier, phase);
}
__device__ __forceinline__ void wait_until_empty(unsigned barrier, int phase) {
    wait_for_bytes(barrier, phase ^ 1);
}
// Each thread for what it wrote itself.
__device__ __forceinline__ void arrive_each(unsigned barrier) {
    ASM("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// By whole warps.
__device__ __forceinline__ void arrive(unsigned barrier) {
    __syncwarp();
    if (threadIdx.x % 32 == 0)
        arrive_each(barrier);
}

// Registers of a thread from here on, fewer or more than before.
template <int COUNT> __device__ __forceinline__ void keep_registers() {
    ASM("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT> __device__ __forceinline__ void take_registers() {
    ASM("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

#define ISSUE_ROWS(N, NAMES, A0, A1, A2, A3, B, ADD, ...)                                                    \
    ASM("{\n.reg .pred add;\nsetp.ne.b32 add, " ADD ", 0;\n"                                                 \
        "wgmma.mma_async.sync.aligned.m64n" N "k16.f32.f16.f16 {" NAMES "}, {" A0 ", " A1 ", " A2 ", " A3    \
        "}, " B ", add, 1, 1, 0;\n}" : __VA_ARGS__ : "r"(a[0]),                                              \
        "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add))

// d = a b, or d += a b: 64 x N results of a warpgroup over 16 terms, whose left operand is in registers.
// Neither the results nor the operand may be touched before they were waited for.
template <int N>
__device__ __forceinline__ void wgmma_rows(float *d, const unsigned (&a)[4], unsigned long long b, int add) {
    static_assert(N == 64 || N == 128);
    if constexpr (N == 64)
        ISSUE_ROWS("64", NAMES32, "%32", "%33", "%34", "%35", "%36", "%37", AT32(0));
    else
        ISSUE_ROWS("128", NAMES64, "%64", "%65", "%66", "%67", "%68", "%69", AT64(0));
}
#endif

#if SUITED
// ---- halves ----------------------------------------------------------------------------------------------

// The left operand over 64 terms: a thread has rows row and row + 8, and terms 2 t, 2 t + 1, 2 t + 8 and
// 2 t + 9 of every 16.
struct Halves {
    unsigned high[4][4], low[4][4];
};

__device__ __forceinline__ unsigned bits_of(__half2 pair) { return *(const unsigned *)&pair; }

__device__ __forceinline__ void split(unsigned &high, unsigned &low, float first, float second) {
    const __half2 rounded = __floats2half2_rn(first, second);
    const float2 whole = __half22float2(rounded);
    high = bits_of(rounded);
    if (COPIES == 2)
        low = bits_of(__floats2half2_rn(first - whole.x, second - whole.y));
}

__device__ __forceinline__ float power(int exponent) { return __int_as_float((exponent + 127) << 23); }

// The power of two that brings numbers up to `most` to 2^14 and a bit. It is at most 2^118, so that there is
// an inverse which may be smaller yet.
__device__ __forceinline__ int exponent_for(float most) {
    return min(14 + 127 - (__float_as_int(most) >> 23), 118);
}
// The same for all four lanes of a row.
__device__ __forceinline__ int common_exponent(float most) {
    most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
    return exponent_for(fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2)));
}
__device__ __forceinline__ float largest(float most, float4 value) {
    most = fmaxf(fmaxf(most, fabsf(value.x)), fabsf(value.y));
    return fmaxf(fmaxf(most, fabsf(value.z)), fabsf(value.w));
}

// 16 terms a group; high halves of the right operand are in shared memory, then low ones. The small products
// come first. Sums may not be touched before they were waited for.
template <int GROUPS, int N>
__device__ __forceinline__ void multiply(float *sum, const Halves &left, unsigned right) {
    const unsigned long long high = describe(right, 0, 1024), low = describe(right + N * 128, 0, 1024);
    begin_wgmma();
    if (COPIES == 2) {
#pragma unroll
        for (int k = 0; k < GROUPS; ++k)
            wgmma_rows<N>(sum, left.low[k], high + k * 2, k > 0);
#pragma unroll
        for (int k = 0; k < GROUPS; ++k)
            wgmma_rows<N>(sum, left.high[k], low + k * 2, 1);
    }
#pragma unroll
    for (int k = 0; k < GROUPS; ++k)
        wgmma_rows<N>(sum, left.high[k], high + k * 2, COPIES == 2 || k > 0);
    commit_wgmma();
}
#endif

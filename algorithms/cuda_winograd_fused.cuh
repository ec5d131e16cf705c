// Instructions of the fused kernel: tensor cores that take one factor from registers, copies of single numbers
// and of whole stretches to shared memory, and barriers that several threads arrive at.
#pragma once

#include "cuda_implicit_tensor.cuh"

// The two numbers as fp16, the first one in the lower half.
__device__ __forceinline__ unsigned halves(float first, float second) {
#if defined(__CUDA_EMULATOR__) || __CUDA_ARCH__ < 800
    const __half low = __float2half_rn(first), high = __float2half_rn(second);
    return (unsigned)*(const unsigned short *)&low | (unsigned)*(const unsigned short *)&high << 16;
#else
    unsigned both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
    return both;
#endif
}

#ifdef __CUDA_EMULATOR__

inline void wgmma_rows(float (&d)[32], const unsigned (&a)[4], unsigned long long b, int add) {
    emulator::multiply<64, false>(d, emulator::rows_of<false>(a), emulator::Described(b, false), add);
}
inline void copy_number(unsigned to, const float *from, bool there) {
    const float value = there ? *from : 0;
    memcpy(emulator::dynamic_shared + to, &value, 4);
}
inline void copy_stretch(unsigned to, const void *from, int bytes, unsigned) {
    memcpy(emulator::dynamic_shared + to, from, bytes);
}
inline void arrive_when_copied(unsigned) {}
inline void arrive(unsigned) {}
inline void init_barrier(unsigned, int) {}

// Numbers as the copy engine finds them: W neighbours of each of H rows of so many planes of images.
template <int W, int H, int C, int N>
void copy_windows(unsigned to, const TensorMap &map, int x, int y, int plane, int image, unsigned) {
    const emulator::Map plain = emulator::decode(map);
    for (int n = 0; n < N; ++n)
        for (int c = 0; c < C; ++c)
            for (int i = 0; i < H; ++i)
                for (int j = 0; j < W; ++j, to += 4) {
                    const int at[] = {x + j, y + i, plane + c, image + n};
                    bool there = true;
                    unsigned long long from = plain.address + 4ll * at[0];
                    for (int d = 0; d < 4; ++d) there = there && at[d] >= 0 && at[d] < plain.sizes[d];
                    for (int d = 1; d < 4; ++d) from += at[d] * plain.strides[d - 1];
                    copy_number(to, (const float *)from, there);
                }
}

#else

// d = a b, or d += a b: 64 x 64 results of a warpgroup over 16 terms, which are neighbours in memory. The rows
// of `a` are in registers as those of mma are; neither they nor d may be touched before they were waited for.
__device__ __forceinline__ void wgmma_rows(float (&d)[32], const unsigned (&a)[4], unsigned long long b,
                                           int add) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    ASM("{\n.reg .pred add;\nsetp.ne.b32 add, %37, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" NAMES32 "}, {%32, %33, %34, %35}, %36, add, 1, 1, "
        "0;\n}" : AT32(0) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
#endif
}

#if __CUDA_ARCH__ >= 900
__device__ __forceinline__ void copy_number(unsigned to, const float *from, bool there) {
    ASM("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(there ? 4 : 0));
}
// A multiple of 16 bytes.
__device__ __forceinline__ void copy_stretch(unsigned to, const void *from, int bytes, unsigned barrier) {
    ASM("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
        "l"(from), "r"(bytes), "r"(barrier) : "memory");
}
// Numbers as the copy engine finds them: W neighbours of each of H rows of so many planes of images, which
// the map has the sizes of.
template <int W, int H, int C, int N>
__device__ __forceinline__ void copy_windows(unsigned to, const TensorMap &map, int x, int y, int plane, int image,
                                             unsigned barrier) {
    ASM("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], "
        "[%1, {%2, %3, %4, %5}], [%6];" ::"r"(to),
        "l"(&map), "r"(x), "r"(y), "r"(plane), "r"(image), "r"(barrier) : "memory");
}
// One of the arrivals that the barrier waits for, once all copies of this thread are there.
__device__ __forceinline__ void arrive_when_copied(unsigned barrier) {
    ASM("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void arrive(unsigned barrier) {
    ASM("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void init_barrier(unsigned barrier, int arrivals) {
    ASM("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
#else // compiled for the sake of other kernels
__device__ __forceinline__ void copy_number(unsigned, const float *, bool) {}
__device__ __forceinline__ void copy_stretch(unsigned, const void *, int, unsigned) {}
template <int, int, int, int>
__device__ __forceinline__ void copy_windows(unsigned, const TensorMap &, int, int, int, int, unsigned) {}
__device__ __forceinline__ void arrive_when_copied(unsigned) {}
__device__ __forceinline__ void arrive(unsigned) {}
__device__ __forceinline__ void init_barrier(unsigned, int) {}
#endif

#endif // no emulator
